//! Real Patroni clusters on loopback ports, set up as Charmed PostgreSQL does: replicas, failover, switchover, and one
//! address that follows the primary.
//!
//! The store is raft, inside the Patroni processes, as in the charm. Dropping a cluster ends its processes and removes
//! its folders; what a killed test left behind is swept by the next start.

mod address;
mod api;
mod config;
mod member;
mod processes;

use crate::cluster::{Cluster, PASSWORD, SUPERUSER};
use crate::folder::Folder;
use crate::places::{peers_root, postgresql_program};
use crate::ports::Port;
use crate::psql;
use crate::wait::wait_for;
use address::Address;
use anyhow::Context;
use api::View;
use member::{Member, Process, Program};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::time::Duration;

const LAUNCHER: &str = include_str!("launch.py");

/// A whole cluster has to come up on a small, busy machine.
const START_LIMIT: Duration = Duration::from_secs(180);
/// The lock runs out after 8 s; then a replica is promoted. The rest is for a busy machine.
const FAILOVER_LIMIT: Duration = Duration::from_secs(60);

/// Whether commits wait for replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// They do not: a failover may lose the last ones.
    Off,
    /// They wait for all replicas that are there.
    On,
    /// They wait for ever when no replica is there; the default of newer charms.
    Strict,
}

/// What cluster to start.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// PostgreSQL's major version, 14 to 17.
    pub major: u32,
    /// Patroni's major version: 3 is what the charms ship, 4 the newest.
    pub patroni: u32,
    /// 2 or 3. Two get a voter without a database beside them.
    pub members: usize,
    pub synchronous: Synchronous,
}

impl Options {
    /// Two members under the charms' Patroni, synchronous.
    pub fn new(major: u32) -> Self {
        Self { major, patroni: 3, members: 2, synchronous: Synchronous::On }
    }
}

/// A running cluster.
pub struct PatroniCluster {
    // In the order in which they are dropped.
    address: Address,
    members: Vec<Member>,
    voter: Option<(Process, Port)>,
    folder: Folder,
    options: Options,
}

impl PatroniCluster {
    /// Starts all members and waits until every replica streams from the primary.
    pub fn start(options: Options) -> anyhow::Result<Self> {
        anyhow::ensure!((2..=3).contains(&options.members), "a cluster has 2 or 3 members");
        let folder = Folder::create()?;
        let launcher = folder.path().join("launch.py");
        fs::write(&launcher, LAUNCHER)?;
        let bin = postgresql_program(options.major, "postgres")?.with_file_name("");
        let modules = peers_root().join(format!("patroni/{}", options.patroni));
        anyhow::ensure!(modules.is_dir(), "cannot find {}; run tests/peers/setup", modules.display());
        let program = Program { what: "patroni", launcher, modules, libraries: bin.join("../lib") };

        let mut reserved = Vec::new();
        for _ in 0..options.members {
            reserved.push([Port::reserve()?, Port::reserve()?, Port::reserve()?]);
        }
        let voter = if options.members == 2 { Some(Port::reserve()?) } else { None };
        let voters: Vec<u16> = reserved.iter().map(|ports| &ports[2]).chain(&voter).map(Port::number).collect();
        let voter = match voter {
            Some(port) => Some((start_voter(folder.path(), &program, &port, &voters)?, port)),
            None => None,
        };
        let mut members = Vec::new();
        for (nth, reserved) in reserved.into_iter().enumerate() {
            let [postgres, api, raft] = [0, 1, 2].map(|nth: usize| reserved[nth].number());
            let (name, ports) = (format!("member-{nth}"), config::Ports { postgres, api, raft });
            let place = folder.path().join(&name);
            let configuration = config::member(&options, &name, &place, ports, &voters, &bin);
            let process = Process::create(place, program.clone(), &configuration)?;
            process.start()?;
            members.push(Member::new(name, process, ports, reserved));
        }
        let address = Address::start(members.iter().map(|member| (member.api().clone(), member.port())).collect())?;
        let cluster = Self { address, members, voter, folder, options };
        cluster.wait_healthy_within(START_LIMIT)?;
        Ok(cluster)
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The address that follows the primary, as everybody sees it who does not know what is behind.
    pub fn as_cluster(&self) -> anyhow::Result<Cluster> {
        Cluster::elsewhere(self.options.major, self.primary_port())
    }

    /// The port of the address that follows the primary. Open connections are cut when it moves, and while there is no
    /// primary it takes none.
    pub fn primary_port(&self) -> u16 {
        self.address.port()
    }

    /// A connection URI for the superuser at the address that follows the primary.
    pub fn primary_uri(&self, database: &str) -> String {
        uri(self.primary_port(), database)
    }

    /// A connection URI for the superuser at one member.
    pub fn member_uri(&self, member: usize, database: &str) -> String {
        uri(self.members[member].port(), database)
    }

    /// How many members there are; they are counted from 0.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Name and password of the superuser.
    pub fn superuser(&self) -> (&'static str, &'static str) {
        (SUPERUSER, PASSWORD)
    }

    /// Runs SQL at the address that follows the primary; see [`crate::cluster::Cluster::psql`].
    pub fn psql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        self.psql_at(self.primary_port(), database, sql)
    }

    /// Runs SQL at one member.
    pub fn psql_on(&self, member: usize, database: &str, sql: &str) -> anyhow::Result<String> {
        self.psql_at(self.members[member].port(), database, sql)
    }

    /// Creates a database owned by the superuser.
    pub fn create_database(&self, name: &str) -> anyhow::Result<()> {
        self.psql("postgres", &format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))).map(drop)
    }

    /// The primary's timeline.
    pub fn timeline(&self) -> anyhow::Result<u32> {
        let file = self.psql("postgres", "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")?;
        let timeline = file.get(..8).with_context(|| format!("{file} is no name of a WAL file"))?;
        Ok(u32::from_str_radix(timeline, 16)?)
    }

    /// What all members share and no other cluster has.
    pub fn system_identifier(&self) -> anyhow::Result<String> {
        self.psql("postgres", "SELECT system_identifier FROM pg_control_system()")
    }

    /// Lets Patroni hand over to a replica, in order; returns the new primary once the address leads to it.
    pub fn switchover(&self) -> anyhow::Result<usize> {
        let old = self.wait_for_primary()?;
        let leader = &self.members[old];
        self.explain(wait_for("a switchover", FAILOVER_LIMIT, || {
            let view = leader.api().view().map_err(|error| format!("{error:#}"))?;
            // Patroni may have done it and not said so.
            if view.leader().is_some_and(|new| new.name != leader.name()) {
                return Ok(());
            }
            let wanted = if self.options.synchronous == Synchronous::Off { "replica" } else { "sync_standby" };
            let candidate = view.members.iter().find(|member| member.role == wanted && member.state == "streaming");
            let candidate = candidate.ok_or_else(|| view.to_string())?;
            leader.api().switchover(leader.name(), &candidate.name).map_err(|error| format!("{error:#}; {view}"))
        }))?;
        self.explain(wait_for("another primary", FAILOVER_LIMIT, || match self.primary() {
            Some(new) if new != old => Ok(()),
            other => Err(format!("{other:?}")),
        }))?;
        self.wait_for_primary()
    }

    /// Kills everything of the primary with SIGKILL, as when its machine is lost; returns which member that was. The
    /// others notice when its lock runs out.
    pub fn kill_primary(&self) -> anyhow::Result<usize> {
        let primary = self.wait_for_primary()?;
        self.members[primary].kill()?;
        Ok(primary)
    }

    /// Ends the primary's PostgreSQL at once (SIGQUIT); Patroni notices and starts it again, or another takes over.
    pub fn crash_primary_postgres(&self) -> anyhow::Result<usize> {
        let primary = self.wait_for_primary()?;
        self.members[primary].crash_postgres()?;
        Ok(primary)
    }

    /// Stops what sends WAL from the primary to its replicas, until the primary is killed: what is committed meanwhile
    /// is lost in the failover. Synchronous commits wait.
    pub fn hold_replicas(&self) -> anyhow::Result<()> {
        let senders = "SELECT active_pid FROM pg_replication_slots WHERE slot_type = 'physical' AND active";
        for pid in self.psql("postgres", senders)?.lines() {
            let pid = Pid::from_raw(pid.parse()?).context("a sender has no process id")?;
            kill_process(pid, Signal::STOP).context("cannot stop a sender")?;
        }
        Ok(())
    }

    /// Starts a member that was killed; one that runs is stopped in order before.
    pub fn restart_member(&self, member: usize) -> anyhow::Result<()> {
        let member = &self.members[member];
        self.explain(member.stop())?;
        member.process().start()
    }

    /// Stops a member in order, which makes a replica the primary if it was that; [`Self::restart_member`] starts it.
    pub fn stop_member(&self, member: usize) -> anyhow::Result<()> {
        self.explain(self.members[member].stop())
    }

    /// The member that holds the lock as the primary, if one says so.
    pub fn primary(&self) -> Option<usize> {
        self.members.iter().position(|member| member.api().is_primary().is_ok_and(|is| is))
    }

    /// Waits until there is a primary that takes writes and the address leads to it.
    pub fn wait_for_primary(&self) -> anyhow::Result<usize> {
        self.explain(wait_for("a primary", FAILOVER_LIMIT, || self.see_primary()))
    }

    /// Waits until every member runs, one is the primary, all others stream from it on its timeline, and, where they
    /// are to be, are its synchronous standbys.
    pub fn wait_healthy(&self) -> anyhow::Result<()> {
        self.wait_healthy_within(FAILOVER_LIMIT * 2)
    }

    fn wait_healthy_within(&self, limit: Duration) -> anyhow::Result<()> {
        let healthy = wait_for("a healthy cluster", limit, || {
            for process in self.members.iter().map(Member::process).chain(self.voter.iter().map(|voter| &voter.0)) {
                if let Some(how) = process.ended() {
                    return Ok(Err(anyhow::anyhow!("Patroni {how}")));
                }
            }
            let primary = self.see_primary()?;
            let view = self.members[primary].api().view().map_err(|error| format!("{error:#}"))?;
            if self.is_healthy(&view) { Ok(Ok(())) } else { Err(view.to_string()) }
        });
        self.explain(healthy.and_then(|healthy| healthy))
    }

    /// The primary, when it takes writes and the address leads to it; else what there is.
    fn see_primary(&self) -> Result<usize, String> {
        let primary = self.primary().ok_or("no member says that it is the primary")?;
        let seen = self
            .psql("postgres", "SELECT pg_is_in_recovery(), current_setting('port')")
            .map_err(|error| format!("{error:#}"))?;
        let wanted = format!("f|{}", self.members[primary].port());
        if seen == wanted { Ok(primary) } else { Err(format!("the address leads to {seen}, not {wanted}")) }
    }

    fn is_healthy(&self, view: &View) -> bool {
        let Some(leader) = view.leader() else { return false };
        let wanted = if self.options.synchronous == Synchronous::Off { "replica" } else { "sync_standby" };
        let followers = view.members.iter().filter(|member| {
            member.role == wanted && member.state == "streaming" && member.timeline == leader.timeline
        });
        leader.state == "running" && leader.timeline.is_some() && followers.count() == self.members.len() - 1
    }

    /// The last lines of a member's log, Patroni's and PostgreSQL's.
    pub fn log_tail(&self, member: usize, lines: usize) -> String {
        self.members[member].process().log_tail(lines)
    }

    /// The whole log of a member, Patroni's and PostgreSQL's.
    pub fn log(&self, member: usize) -> String {
        self.members[member].process().log()
    }

    /// The folder that everything of this cluster lives in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn psql_at(&self, port: u16, database: &str, sql: &str) -> anyhow::Result<String> {
        let server = psql::Server { major: self.options.major, host: "127.0.0.1", port };
        psql::run(&server, SUPERUSER, PASSWORD, database, sql)
    }

    /// Adds to an error what Patroni thinks and the ends of all logs.
    fn explain<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        result.with_context(|| {
            let mut text = String::from("Patroni's cluster is in trouble");
            for member in &self.members {
                let view = member.api().view().map_or_else(|error| format!("{error:#}"), |view| view.to_string());
                let (name, tail) = (member.name(), member.process().log_tail(20));
                text.push_str(&format!("\n{name} sees: {view}; its log ends:\n{tail}"));
            }
            if let Some((voter, _)) = &self.voter {
                text.push_str(&format!("\nthe voter's log ends:\n{}", voter.log_tail(5)));
            }
            text
        })
    }
}

fn start_voter(folder: &Path, program: &Program, port: &Port, voters: &[u16]) -> anyhow::Result<Process> {
    let place = folder.join("voter");
    let configuration = config::voter(&place, port.number(), voters);
    let voter = Process::create(place, Program { what: "voter", ..program.clone() }, &configuration)?;
    voter.start()?;
    Ok(voter)
}

fn uri(port: u16, database: &str) -> String {
    format!("postgres://{SUPERUSER}:{PASSWORD}@127.0.0.1:{port}/{database}")
}
