//! What must be in the database: every acknowledged transaction, once.

use super::transaction::{FLOW_URL, Written, mark};
use crate::blocking::blocking;
use crate::cluster::connect;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Every acknowledged transaction of a run, in memory and, as it is acknowledged, in a file.
#[derive(Debug)]
pub struct Oracle {
    run: u32,
    acknowledged: Vec<Written>,
    path: PathBuf,
    file: File,
}

/// What the database has of what was acknowledged.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub acknowledged: u64,
    /// Acknowledged, but not there, or there only in part.
    pub lost: u64,
    /// There more often than acknowledged, or undone.
    pub duplicated: u64,
    /// The first few findings, for people.
    pub examples: Vec<String>,
}

impl Verdict {
    fn lost(&mut self, count: u64, what: impl FnOnce() -> String) {
        self.lost += count;
        self.example(count, what);
    }

    fn duplicated(&mut self, count: u64, what: impl FnOnce() -> String) {
        self.duplicated += count;
        self.example(count, what);
    }

    fn example(&mut self, count: u64, what: impl FnOnce() -> String) {
        if count > 0 && self.examples.len() < 20 {
            self.examples.push(what());
        }
    }
}

impl Oracle {
    pub(super) fn new(run: u32, path: &Path) -> anyhow::Result<Self> {
        Ok(Self { run, acknowledged: Vec::new(), path: path.to_owned(), file: File::create(path)? })
    }

    /// Remembers a transaction whose commit was acknowledged.
    pub(super) fn acknowledge(&mut self, written: &Written) -> anyhow::Result<()> {
        let Written { connection, sequence, identity, session, flow } = written;
        writeln!(self.file, "{connection} {sequence} {identity} {session} {flow}")?;
        self.acknowledged.push(written.clone());
        Ok(())
    }

    /// How many transactions were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// The file with a line for each: connection, sequence, identity, session, flow.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks for all of it in a database. The writers must have stopped.
    pub fn check(&self, uri: &str) -> anyhow::Result<Verdict> {
        blocking(async {
            let found = Found::read(&connect(uri).await?, self.run).await?;
            Ok(self.compare(&found))
        })
    }

    fn compare(&self, found: &Found) -> Verdict {
        let mut verdict = Verdict { acknowledged: self.acknowledged(), ..Verdict::default() };
        let mut last: HashMap<usize, &Written> = HashMap::new();
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for written in &self.acknowledged {
            *counts.entry(&written.identity).or_default() += 1;
            let newest = last.entry(written.connection).or_insert(written);
            if newest.sequence < written.sequence {
                *newest = written;
            }
        }
        let mut missing: HashMap<&str, i64> = HashMap::new();
        for written in &self.acknowledged {
            let newest = last[&written.connection].sequence == written.sequence;
            let (session, flow) = (&written.session, &written.flow);
            if found.sessions.get(session) != Some(&newest) || !found.devices.contains(session) {
                *missing.entry(&written.identity).or_default() += 1;
                let seen = found.sessions.get(session);
                verdict.lost(1, || format!("session {session}: active {seen:?}, should be {newest}; or no device"));
            }
            match (newest, found.flows.contains(flow)) {
                (true, false) => verdict.lost(1, || format!("flow {flow} is missing")),
                (false, true) => verdict.duplicated(1, || format!("flow {flow} was deleted and is there")),
                _ => {}
            }
        }
        for (identity, expected) in &counts {
            let seen = found.counts.get(*identity).copied().unwrap_or(0);
            // A lost transaction whose session is missing too is counted once.
            let lost = (expected - seen - missing.get(identity).copied().unwrap_or(0)).max(0);
            verdict.lost(lost.unsigned_abs(), || format!("identity {identity} counts {seen} of {expected} writes"));
            let twice = (seen - expected).max(0);
            verdict.duplicated(twice.unsigned_abs(), || format!("identity {identity} counts {seen} of {expected}"));
        }
        let known: HashSet<&str> = self.acknowledged.iter().map(|written| written.session.as_str()).collect();
        for session in found.sessions.keys().filter(|session| !known.contains(session.as_str())) {
            verdict.duplicated(1, || format!("session {session} was never acknowledged"));
        }
        for identity in found.counts.keys().filter(|identity| !counts.contains_key(identity.as_str())) {
            verdict.duplicated(1, || format!("identity {identity} was never written"));
        }
        verdict
    }
}

/// This run's rows.
struct Found {
    /// Whether each session is active.
    sessions: HashMap<String, bool>,
    /// Sessions with a device.
    devices: HashSet<String>,
    flows: HashSet<String>,
    /// The count that each identity carries.
    counts: HashMap<String, i64>,
}

impl Found {
    async fn read(client: &tokio_postgres::Client, run: u32) -> anyhow::Result<Self> {
        let prefix = format!("{run:08x}-0001-%");
        let sessions =
            client.query("SELECT id::text, active FROM public.sessions WHERE id::text LIKE $1", &[&prefix]).await?;
        let devices = client
            .query("SELECT session_id::text FROM public.session_devices WHERE user_agent = $1", &[&mark(run)])
            .await?;
        let url = format!("{FLOW_URL}{}", mark(run));
        let flows =
            client.query("SELECT id::text FROM public.selfservice_login_flows WHERE request_url = $1", &[&url]).await?;
        let counts = client
            .query(
                "SELECT id::text, (metadata_admin ->> $1::text)::bigint FROM public.identities WHERE metadata_admin ? $1",
                &[&mark(run)],
            )
            .await?;
        Ok(Self {
            sessions: sessions.iter().map(|row| (row.get(0), row.get(1))).collect(),
            devices: devices.iter().map(|row| row.get(0)).collect(),
            flows: flows.iter().map(|row| row.get(0)).collect(),
            counts: counts.iter().map(|row| (row.get(0), row.get(1))).collect(),
        })
    }
}
