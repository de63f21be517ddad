//! How every scenario ends: data equal by an independent comparison, the right side open, nothing left behind, no
//! password in anything that was written. A stage that was not closed fails its test when it is dropped.

use super::rig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use controller_peer::User;
use emulator::Model;
use emulator::stage::{Stage, USER};
use peers::cluster::Cluster;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A stage that insists on being closed after the last action that did something.
pub struct Played(Stage);

/// What is kept of each stage, by the port of its source.
struct Kept {
    /// The identities that it began with.
    people: String,
    /// How many actions had done something when it was closed last.
    closed: Option<usize>,
}

static KEPT: Mutex<BTreeMap<u16, Kept>> = Mutex::new(BTreeMap::new());

fn kept() -> MutexGuard<'static, BTreeMap<u16, Kept>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Played {
    pub fn new(stage: Stage) -> Self {
        let kept_of = Kept { people: people(&stage), closed: None };
        kept().insert(stage.source.port(), kept_of);
        Self(stage)
    }
}

impl Deref for Played {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.0
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        let closed = kept().remove(&self.0.source.port()).and_then(|kept| kept.closed);
        if std::thread::panicking() {
            return;
        }
        let acted = acted(&self.0.model);
        let message = format!("not closed at its end: {acted} actions did something, closed after {closed:?} of them");
        assert!(closed.is_some_and(|closed| acted <= closed), "{message}");
    }
}

/// How many actions may have changed something: those that only look, and refusals, do not count, and of several
/// `finalize` only one does anything.
fn acted(model: &Model) -> usize {
    let looks = ["show", "preflight", "verify"];
    let acted = |task: &&emulator::TaskView| {
        let refused = task.results.get("outcome").is_some_and(|outcome| outcome == "refused");
        task.unit.starts_with("coordinator/") && !looks.contains(&task.action.as_str()) && !refused
    };
    let tasks = model.tasks();
    let (finalize, others): (Vec<_>, Vec<_>) = tasks.iter().filter(acted).partition(|task| task.action == "finalize");
    others.len() + usize::from(!finalize.is_empty())
}

fn people(stage: &Stage) -> String {
    let all = "SELECT id FROM public.identities ORDER BY id";
    stage.source.psql(&stage.source_place.database(), all).unwrap()
}

/// Where a scenario ends.
#[derive(Clone, Copy)]
pub enum End {
    /// Only the source takes writes and nothing of ours is left.
    Source,
    /// Only the target takes writes.
    Target,
    /// The target takes writes, and the source does again by the operator's wish; nothing of ours is left.
    Both,
}

/// Closes a scenario: no hook ever failed, no password was seen anywhere, the right side takes writes, both have the
/// same rows, nothing is left behind.
pub fn close(stage: &Stage, end: End) {
    stage.models().iter().for_each(no_hook_failed);
    close_but_one_hook(stage, end);
}

/// The same after a hook was killed on purpose.
pub fn close_but_one_hook(stage: &Stage, end: End) {
    let source = rig::writable(&stage.source, &stage.source_place.database());
    let target = rig::writable(&stage.target, &stage.target_place.database());
    match end {
        // After a rollback the target is nobody's: open or not says nothing.
        End::Source => assert!(source),
        End::Target => assert_eq!((source, target), (false, true)),
        End::Both => assert_eq!((source, target), (true, true)),
    }
    if matches!(end, End::Source | End::Both) {
        for cluster in [&stage.source, &stage.target] {
            assert_eq!(peers::left_behind(cluster, &[&stage.own_database()]).unwrap(), Vec::<String>::new());
        }
    }
    match end {
        End::Source => nobody_is_missing(stage),
        End::Target | End::Both => same_rows(stage),
    }
    no_password_seen(stage);
    let acted = acted(&stage.model);
    kept().get_mut(&stage.source.port()).expect("a stage of the rig").closed = Some(acted);
}

/// Everybody whom the source began with is still there.
fn nobody_is_missing(stage: &Stage) {
    let before = kept()[&stage.source.port()].people.clone();
    let now = people(stage);
    let now: std::collections::BTreeSet<&str> = now.lines().collect();
    let missing: Vec<&str> = before.lines().filter(|id| !now.contains(id)).collect();
    assert!(missing.is_empty(), "not on the source any more: {missing:?}");
}

/// Both sides have the same rows, by a comparison that shares no code with the charm; changes may be on their way
/// back to the source.
pub fn same_rows(stage: &Stage) {
    let compare = || {
        let options = peers::compare::Options::kratos();
        let compared = peers::compare::databases(&stage.source_uri(), &stage.target_uri(), &options);
        let compared = compared.map_err(|error| format!("{error:#}"))?;
        match (compared.rows(), compared.different()) {
            (1.., 0) => Ok(()),
            _ => Err(format!("{} rows\n{}", compared.rows(), compared.report())),
        }
    };
    peers::wait_for("both sides to have the same rows", rig::SOON, compare).unwrap();
}

pub fn no_hook_failed(model: &Model) {
    let log = model.log_tail(usize::MAX);
    let failed: Vec<&str> = log.lines().filter(|line| line.contains("hook \"") && line.contains("failed")).collect();
    assert!(failed.is_empty(), "{}\n{failed:#?}", model.log_tail(80));
}

/// Looks for the passwords of all relation users, and for the Juju user's, wherever the charm writes.
pub fn no_password_seen(stage: &Stage) {
    let postgresql = [&stage.source_place, &stage.target_place].map(|place| (&place.model, place.postgresql));
    let dsns = [stage.kratos.dsn(), stage.kratos_new.dsn()];
    let clusters = [&*stage.source, &*stage.target];
    no_password_in(&stage.models(), clusters, postgresql, dsns);
    let user = stage.controller.api().and_then(|api| api.user(USER));
    if let Some(User { password, .. }) = user {
        // As it is, and as uploads carry it.
        let carried = STANDARD.encode(format!("user-{USER}:{password}"));
        let seen = written(&stage.models(), clusters);
        let is_seen = [password, carried].iter().any(|secret| seen.contains(secret));
        assert!(!is_seen, "the Juju user's password was written somewhere");
    }
}

/// The same of any models, the first of which is the coordinator's: of what stands in these clusters, source and
/// target, of whom these PostgreSQL applications gave credentials to, and of the identity applications' own.
pub fn no_password_in(
    models: &[Model],
    clusters: [&Cluster; 2],
    postgresql: [(&Model, &str); 2],
    dsns: [Option<String>; 2],
) {
    let seen = written(models, clusters);
    for password in passwords(&models[0], postgresql, dsns) {
        assert!(password.len() >= 8 && !seen.contains(&password), "a password was written somewhere");
    }
}

/// Everything that the charm and these clusters have written, and what its processes were started with.
fn written(models: &[Model], clusters: [&Cluster; 2]) -> String {
    let model = &models[0];
    let mut seen: String = models.iter().map(|model| model.captured_output()).collect();
    for unit in model.units("coordinator") {
        let folder = model.charm_folder(&unit).unwrap();
        for name in ["worker.log", "worker.log.1", "worker.json"] {
            seen.push_str(&std::fs::read_to_string(folder.join(name)).unwrap_or_default());
        }
        for pid in model.charm_processes(&unit).unwrap() {
            for name in ["cmdline", "environ"] {
                let bytes = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                seen.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    }
    for table in ["entry", "singleton"] {
        let sql = format!("SELECT t::text FROM identity_migration_journal.{table} t");
        let journal = format!("{}_coordinator", model.name());
        seen.push_str(&clusters[1].psql(&journal, &sql).unwrap_or_default());
    }
    for cluster in clusters {
        seen.push_str(&std::fs::read_to_string(cluster.log_path()).unwrap());
    }
    seen
}

fn passwords(model: &Model, postgresql: [(&Model, &str); 2], dsns: [Option<String>; 2]) -> Vec<String> {
    let mut found: Vec<String> = dsns
        .into_iter()
        .flatten()
        .filter_map(|dsn| Some(dsn.split_once("://")?.1.split_once('@')?.0.split_once(':')?.1.to_owned()))
        .collect();
    let mut ours = 0;
    for (of, application) in postgresql {
        for bag in of.databag("database", application) {
            let Some(uri) = bag.get("secret-user") else { continue };
            // An identity application's own secrets are not ours to read: then the answer is empty.
            let answer = model.execute("coordinator/leader", &format!("secret-get {uri} password"), None).unwrap();
            let password = answer.stdout.trim().to_owned();
            if answer.code == 0 && !password.is_empty() {
                found.push(password);
                ours += 1;
            }
        }
    }
    assert!(ours >= 2, "only {ours} of the coordinator's own passwords could be read");
    found
}
