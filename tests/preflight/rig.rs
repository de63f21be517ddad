//! What every preflight test needs.

use coordinator::apps::{self, KRATOS};
use coordinator::migration::Settings;
use coordinator::postgres::{Password, Server};
use coordinator::steps::preflight::{Finding, Look, Verdict, preflight, report};
use peers::cluster::Cluster;
use peers::kratos::Kratos;
use peers::wait_for;
use std::time::Duration;

/// How long a reloaded setting may take to reach new sessions.
const SOON: Duration = Duration::from_secs(60);

pub fn server(cluster: &Cluster) -> Server {
    let (user, password) = cluster.superuser();
    Server {
        host: cluster.host().to_owned(),
        port: cluster.port(),
        user: user.to_owned(),
        password: Password::new(password),
        tls: false,
        ca: None,
    }
}

pub fn address(kratos: &Kratos) -> apps::Server {
    apps::Server {
        app: &KRATOS,
        admin_endpoint: kratos.ports().admin_url(),
        public_endpoint: kratos.ports().public_url(),
    }
}

pub fn look(source: &Cluster, target: &Cluster) -> Look {
    Look {
        app: &KRATOS,
        source: server(source),
        source_database: "iam_kratos".to_owned(),
        target: server(target),
        target_database: "iam_kratos-new".to_owned(),
        source_app: None,
        target_app: None,
        // Nobody listens there.
        source_patroni: 1,
        target_patroni: 1,
        settings: Settings::default(),
        rehearsed: None,
        keep_release: false,
        run: None,
        coordinator: "coordinator".to_owned(),
        target_application: "kratos-new".to_owned(),
        ends: Default::default(),
        controller: Default::default(),
    }
}

pub fn run(look: &Look) -> Vec<Finding> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(preflight(look.clone()))
}

pub fn finding<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings.iter().find(|f| f.check == check).unwrap_or_else(|| panic!("no {check} in\n{}", report(findings)))
}

pub fn names(findings: &[Finding], verdict: Verdict) -> Vec<&str> {
    findings.iter().filter(|f| f.verdict == verdict).map(|f| f.check.as_str()).collect()
}

/// What a check is to say.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub check: &'static str,
    pub verdict: Verdict,
    pub found: &'static str,
    pub cure: &'static str,
}

impl Expected {
    /// Nothing may begin.
    pub const fn fails(check: &'static str, found: &'static str, cure: &'static str) -> Self {
        Self { check, verdict: Verdict::Fail, found, cure }
    }

    /// A person should know.
    pub const fn warns(check: &'static str, found: &'static str, cure: &'static str) -> Self {
        Self { check, verdict: Verdict::Warn, found, cure }
    }

    /// As it should be; the words are of what was found.
    pub const fn passes(check: &'static str, found: &'static str) -> Self {
        Self { check, verdict: Verdict::Pass, found, cure: "" }
    }

    pub fn is_met(&self, findings: &[Finding]) -> bool {
        let seen = finding(findings, self.check);
        seen.verdict == self.verdict && seen.found.contains(self.found) && seen.cure.contains(self.cure)
    }

    /// Checks that this very check says so, in these words.
    pub fn insist(&self, findings: &[Finding]) {
        assert!(self.is_met(findings), "{self:?}\n{:?}\n{}", finding(findings, self.check), report(findings));
    }
}

/// Looks until what was found is as it should be: a reload or a statistic takes a moment.
pub fn until(look: &Look, what: &str, met: impl Fn(&[Finding]) -> bool) -> Vec<Finding> {
    wait_for(what, SOON, || {
        let findings = run(look);
        if met(&findings) { Ok(findings) } else { Err(report(&findings)) }
    })
    .unwrap()
}
