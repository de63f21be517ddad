//! The stage that many rounds share: two clusters that keep the times of commits, a keyless table on both, proxies, the
//! coordinator with two units, and what the source was like before the first round.

use crate::scenarios::story;
use anyhow::{Context as _, Result, ensure};
use emulator::Model;
use emulator::stage::{Proxied, Stage, StageOptions};
use peers::cluster::{Cluster, Mode};
use peers::patroni::{Options, PatroniCluster};
use peers::writers::{KEYLESS, KEYLESS_TABLE, Place};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long anything that goes on by itself may take.
pub const SOON: Duration = Duration::from_secs(60);

/// Between two update-status hooks of a unit: each costs a small machine a good part of a second.
const TICK: Duration = Duration::from_secs(5);

/// The versions that stages are built between, by turns.
const VERSIONS: [(u32, u32); 4] = [(14, 16), (15, 17), (16, 16), (14, 15)];

/// Both databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Target,
}

/// A stage between rounds.
pub struct Ground {
    pub stage: Stage,
    /// The side that has a standby, if one has.
    pub patroni: Option<(Side, PatroniCluster)>,
    /// Source and target.
    pub versions: (u32, u32),
    /// The source's rows before the first round, but for what writers change.
    pub picture: String,
    /// The order that is configured.
    order: Mutex<&'static str>,
}

impl Ground {
    /// Builds the stage of this number, up to a target that was refreshed; with standbys on one side, by turns, if it is
    /// to fail over.
    pub fn build(number: usize, fails_over: bool) -> Result<Self> {
        let (from, to) = VERSIONS[number % VERSIONS.len()];
        let patroni = match (fails_over, number % 2) {
            (false, _) => None,
            (true, 0) => Some((Side::Source, PatroniCluster::start(Options::new(from))?)),
            (true, _) => Some((Side::Target, PatroniCluster::start(Options::new(to))?)),
        };
        let cluster = |of: Side, major: u32| match &patroni {
            Some((side, cluster)) if *side == of => cluster.as_cluster(),
            _ => Cluster::start(major),
        };
        let clusters = [Arc::new(cluster(Side::Source, from)?), Arc::new(cluster(Side::Target, to)?)];
        let options = StageOptions {
            from,
            to,
            identities: 300,
            charm: story::charm(&format!("chaos-{number}")),
            update_status_interval: TICK,
            encoding: None,
            juju: None,
        };
        let stage = Stage::proxied_between(clusters, options)?;
        let sides = [
            (Side::Source, &stage.source, &stage.kratos, stage.source_place.database()),
            (Side::Target, &stage.target, &stage.kratos_new, stage.target_place.database()),
        ];
        for (side, cluster, kratos, database) in sides {
            // As the application's own user, as a table of its own would be.
            let dsn = kratos.dsn().context("Kratos does not run")?;
            let (user, password) = credentials(&dsn).context("the connection string has no credentials")?;
            cluster.psql_as(user, password, &database, KEYLESS_TABLE)?;
            if patroni.as_ref().is_none_or(|(with, _)| *with != side) {
                cluster.psql("postgres", "ALTER SYSTEM SET track_commit_timestamp = on")?;
                cluster.restart(Mode::Fast)?;
            }
        }
        stage.deploy_coordinator(2)?;
        let mut ground =
            Self { stage, patroni, versions: (from, to), picture: String::new(), order: Mutex::new("auto") };
        ground.refresh()?;
        ground.picture = ground.look()?;
        Ok(ground)
    }

    fn refresh(&self) -> Result<()> {
        let model = &self.stage.model;
        model.run("coordinator/leader", "refresh", &[("channel", "0.4/stable")])?;
        self.stage.target_place.model.refresh(self.stage.target_place.kratos, None, Some("0.4/stable"), None)?;
        let done = model.run("coordinator/leader", "refresh", &[])?;
        ensure!(done.result("outcome") == "done", "refresh: {done:?}");
        // Every round begins a run of its own, in its order.
        let undone = model.run("coordinator/leader", "rollback", &[("wait", "60")])?;
        ensure!(undone.result("outcome") == "done", "rollback: {undone:?}");
        Ok(())
    }

    /// Configures the order of a round.
    pub fn order(&self, order: &'static str) -> Result<()> {
        let mut now = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != order {
            self.model().config("coordinator", &[("order", order)])?;
            *now = order;
        }
        Ok(())
    }

    pub fn model(&self) -> &Model {
        &self.stage.model
    }

    pub fn cluster(&self, side: Side) -> &Cluster {
        match side {
            Side::Source => &self.stage.source,
            Side::Target => &self.stage.target,
        }
    }

    pub fn database(&self, side: Side) -> String {
        match side {
            Side::Source => self.stage.source_place.database(),
            Side::Target => self.stage.target_place.database(),
        }
    }

    /// A query in one side's identity database.
    pub fn ask(&self, side: Side, sql: &str) -> Result<String> {
        self.cluster(side).psql(&self.database(side), sql)
    }

    /// A query in the journal's database.
    pub fn journal(&self, sql: &str) -> Result<String> {
        self.stage.target.psql(&self.stage.own_database(), sql)
    }

    /// What stands before a side.
    pub fn proxied(&self, side: Side) -> Result<&Proxied> {
        let proxies = self.stage.proxies.as_ref().context("a stage without proxies")?;
        Ok(match side {
            Side::Source => &proxies.source,
            Side::Target => &proxies.target,
        })
    }

    /// The source as clients know it.
    pub fn source_place(&self) -> Place {
        Place::at(&self.stage.source_uri())
    }

    /// The target as clients know it while a migration closes or opens it: before and after, it is nobody's.
    pub fn target_place(&self) -> Place {
        Place { uri: self.stage.target_uri(), only_while_fenced: true }
    }

    /// The unit that leads, and the other one.
    pub fn units(&self) -> Result<(String, String)> {
        let leader = self.model().leader("coordinator").context("nobody leads")?;
        let other = self.model().units("coordinator").into_iter().find(|unit| *unit != leader);
        Ok((leader, other.context("there is no other unit")?))
    }

    /// A digest of every table of the source but for what writers change and leave.
    pub fn look(&self) -> Result<String> {
        const LOOK: &str = "
            SELECT c.relname, query_to_xml(format(
                'SELECT count(*), md5(string_agg((to_jsonb(t) - ''updated_at'' - ''metadata_admin'')::text, '''' ORDER BY
                 (to_jsonb(t) - ''updated_at'' - ''metadata_admin'')::text)) AS sum FROM %s t', c.oid::regclass), true, true, '')
            FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
              AND c.relname <> 'identity_credential_types' ORDER BY 1";
        self.ask(Side::Source, LOOK)
    }

    /// Takes the rows of writers away, so that every round begins with as many.
    pub fn clean(&self) -> Result<()> {
        let clean = format!(
            "DELETE FROM public.session_devices WHERE user_agent LIKE 'writers-%';
             DELETE FROM public.sessions WHERE token LIKE 'ory\\_st\\_%' AND substr(id::text, 9, 6) = '-0001-';
             DELETE FROM public.selfservice_login_flows WHERE request_url LIKE 'https://writers.example/%';
             UPDATE public.identities SET metadata_admin = NULL WHERE metadata_admin IS NOT NULL;
             TRUNCATE {KEYLESS}; VACUUM public.sessions, public.session_devices, public.identities"
        );
        self.ask(Side::Source, &clean).map(drop)
    }
}

/// User and password of a connection string.
fn credentials(dsn: &str) -> Option<(&str, &str)> {
    dsn.split_once("://")?.1.split_once('@')?.0.split_once(':')
}
