//! What must be in the database: every acknowledged transaction, once.

use super::sides::Accepted;
use super::transaction::{FLOW_URL, KEYLESS, Written, mark};
use crate::blocking::blocking;
use crate::cluster::connect;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// A transaction whose commit was answered, or found to have happened.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    written: Written,
    /// The database that took it.
    pub place: Arc<str>,
    /// Its number there.
    xid: String,
    /// When its commit was sent, and when it was known.
    sent: Instant,
    known: Instant,
}

impl Acknowledged {
    /// Known now.
    pub(super) fn new(written: &Written, place: &str, xid: &str, sent: Instant) -> Self {
        Self { written: written.clone(), place: place.into(), xid: xid.to_owned(), sent, known: Instant::now() }
    }
}

/// Every acknowledged transaction of a run, in memory and, as it is acknowledged, in a file.
#[derive(Debug)]
pub struct Oracle {
    run: u32,
    /// Whether each transaction left a row in the keyless table.
    keyless: bool,
    acknowledged: Vec<Acknowledged>,
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
    pub(super) fn new(run: u32, keyless: bool, path: &Path) -> anyhow::Result<Self> {
        Ok(Self { run, keyless, acknowledged: Vec::new(), path: path.to_owned(), file: File::create(path)? })
    }

    /// Remembers a transaction whose commit was acknowledged.
    pub(super) fn acknowledge(&mut self, acknowledged: Acknowledged) -> anyhow::Result<()> {
        let Written { connection, sequence, identity, session, flow } = &acknowledged.written;
        writeln!(self.file, "{connection} {sequence} {identity} {session} {flow}")?;
        self.acknowledged.push(acknowledged);
        Ok(())
    }

    /// What this run's rows are known by.
    pub fn run(&self) -> u32 {
        self.run
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
            let found = Found::read(&connect(uri).await?, self.run, self.keyless).await?;
            Ok(self.compare(&found))
        })
    }

    /// Every accepted write with its times, for [`super::both_open`]: the sides are numbered as `uris`, whose servers
    /// must keep the times of commits (`track_commit_timestamp`).
    pub fn accepted(&self, uris: &[&str]) -> anyhow::Result<Vec<Accepted>> {
        blocking(async {
            let mut accepted = Vec::new();
            for (side, uri) in uris.iter().enumerate() {
                let here: Vec<&Acknowledged> = self.acknowledged.iter().filter(|a| *a.place == **uri).collect();
                let numbers: Vec<&str> = here.iter().map(|acknowledged| acknowledged.xid.as_str()).collect();
                let times = "SELECT n, (extract(epoch FROM pg_xact_commit_timestamp(n::xid)) * 1000000)::bigint \
                             FROM unnest($1::text[]) n";
                let times = connect(uri).await?.query(times, &[&numbers]).await?;
                let times: HashMap<&str, Option<i64>> = times.iter().map(|row| (row.get(0), row.get(1))).collect();
                accepted.extend(here.iter().map(|a| Accepted {
                    side,
                    sent: a.sent,
                    answered: a.known,
                    committed: times.get(a.xid.as_str()).copied().flatten(),
                    what: format!("write {} of writer {}", a.written.sequence, a.written.connection),
                }));
            }
            anyhow::ensure!(accepted.len() == self.acknowledged.len(), "a write was accepted at an unknown place");
            Ok(accepted)
        })
    }

    fn compare(&self, found: &Found) -> Verdict {
        let mut verdict = Verdict { acknowledged: self.acknowledged(), ..Verdict::default() };
        let mut last: HashMap<usize, &Written> = HashMap::new();
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for Acknowledged { written, .. } in &self.acknowledged {
            *counts.entry(&written.identity).or_default() += 1;
            let newest = last.entry(written.connection).or_insert(written);
            if newest.sequence < written.sequence {
                *newest = written;
            }
        }
        let mut missing: HashMap<&str, i64> = HashMap::new();
        for Acknowledged { written, .. } in &self.acknowledged {
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
        let known: HashSet<&str> = self.acknowledged.iter().map(|a| a.written.session.as_str()).collect();
        for session in found.sessions.keys().filter(|session| !known.contains(session.as_str())) {
            verdict.duplicated(1, || format!("session {session} was never acknowledged"));
        }
        for identity in found.counts.keys().filter(|identity| !counts.contains_key(identity.as_str())) {
            verdict.duplicated(1, || format!("identity {identity} was never written"));
        }
        self.compare_keyless(found, &mut verdict);
        verdict
    }

    /// Nothing refuses a row of the keyless table that comes twice: here it is counted.
    fn compare_keyless(&self, found: &Found, verdict: &mut Verdict) {
        if !self.keyless {
            return;
        }
        let key = |a: &Acknowledged| (a.written.connection as i64, a.written.sequence as i64);
        let expected: HashSet<(i64, i64)> = self.acknowledged.iter().map(key).collect();
        for (connection, sequence) in expected.iter().filter(|key| !found.keyless.contains_key(key)) {
            verdict.lost(1, || format!("keyless row {sequence} of writer {connection} is missing"));
        }
        for (key @ (connection, sequence), count) in &found.keyless {
            let wanted = i64::from(expected.contains(key));
            let twice = (count - wanted).unsigned_abs();
            verdict
                .duplicated(twice, || format!("keyless row {sequence} of writer {connection} is there {count} times"));
        }
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
    /// How often each row of the keyless table is there, by connection and sequence.
    keyless: HashMap<(i64, i64), i64>,
}

impl Found {
    async fn read(client: &tokio_postgres::Client, run: u32, keyless: bool) -> anyhow::Result<Self> {
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
        let keyless = match keyless {
            true => {
                let count = format!(
                    "SELECT connection::bigint, sequence, count(*) FROM {KEYLESS} WHERE run = $1 GROUP BY 1, 2"
                );
                client.query(&count, &[&i64::from(run)]).await?
            }
            false => Vec::new(),
        };
        Ok(Self {
            keyless: keyless.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect(),
            sessions: sessions.iter().map(|row| (row.get(0), row.get(1))).collect(),
            devices: devices.iter().map(|row| row.get(0)).collect(),
            flows: flows.iter().map(|row| row.get(0)).collect(),
            counts: counts.iter().map(|row| (row.get(0), row.get(1))).collect(),
        })
    }
}
