//! Indexes, constraints and statistics after the load: a queue that starts while tables still load.

use super::progress::{CopyProgress, add, amount};
use crate::failpoint;
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::names::TableName;
use crate::postgres::schema::{Definition, DefinitionKind, create, declare};
use crate::postgres::server::Server;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

/// One unit of work on one table. `Ord` is the order of taking: the greatest first.
#[derive(Clone, Debug)]
enum Work {
    /// Statistics, when all indexes of the table stand.
    Analyze(TableName),
    /// One index.
    Index(Definition),
    /// The table's constraints, one after the other: adopting an index into a constraint needs the table
    /// alone, so nothing else is built on it meanwhile. Apply may start when these stand.
    Constraints(TableName, Vec<Definition>),
}

impl Work {
    fn table(&self) -> &TableName {
        match self {
            Self::Analyze(table) | Self::Constraints(table, _) => table,
            Self::Index(definition) => &definition.table,
        }
    }

    /// Constraints before indexes before statistics; the biggest first.
    fn rank(&self) -> (u8, u64) {
        match self {
            Self::Analyze(_) => (0, 0),
            Self::Index(definition) => (1, definition.bytes),
            Self::Constraints(_, definitions) => (2, definitions.iter().map(|definition| definition.bytes).sum()),
        }
    }
}

/// Builds the definitions on the target with `jobs` sessions: those of a table as soon as its name comes
/// through `finished`, foreign keys when all tables have come, and statistics for every table that came.
/// Definitions that stand already are left alone, so the build may be run again.
///
/// # Errors
/// [`Error::Server`], naming the definition, when rows break it or the server fails;
/// [`Error::Found`] when `finished` closes before every table with a definition has come.
pub async fn build_definitions(
    target: &Server,
    database: &str,
    definitions: Vec<Definition>,
    finished: UnboundedReceiver<TableName>,
    jobs: usize,
    progress: Arc<CopyProgress>,
) -> Result<()> {
    add(&progress.definitions_total, amount(definitions.len()));
    let (foreign_keys, others): (Vec<_>, Vec<_>) =
        definitions.into_iter().partition(|definition| definition.kind == DefinitionKind::ForeignKey);
    let mut sessions = Vec::new();
    for _ in 0..jobs.max(1) {
        sessions.push(open(target, database, jobs).await?);
    }
    let mut build =
        Build { idle: sessions, ready: Vec::new(), running: JoinSet::new(), tables: BTreeMap::new(), progress };
    for definition in others {
        build.tables.entry(definition.table.clone()).or_default().waiting.push(definition);
    }
    build.run(finished).await?;
    build.foreign_keys(foreign_keys).await
}

/// A session with memory for sorting: as much as the server gives its cache, shared by the jobs, between
/// its own setting and 1 GB.
async fn open(target: &Server, database: &str, jobs: usize) -> Result<Session> {
    let session = target.connect(database, "index").await?;
    let jobs = i64::try_from(jobs.max(1)).unwrap_or(i64::MAX);
    session
        .execute(
            "SELECT set_config('maintenance_work_mem', greatest(m.setting::int8, least(1048576,
                        b.setting::int8 * current_setting('block_size')::int8 / 1024 / $1))::text || 'kB', false)
             FROM pg_settings m, pg_settings b WHERE m.name = 'maintenance_work_mem' AND b.name = 'shared_buffers'",
            &[&jobs],
        )
        .await
        .map_err(Error::doing(format!("set the memory for indexes on {}", target.address())))?;
    Ok(session)
}

#[derive(Default)]
struct TableState {
    /// Definitions whose work is not queued yet.
    waiting: Vec<Definition>,
    /// Units queued or running.
    open: usize,
    loaded: bool,
}

struct Build {
    idle: Vec<Session>,
    ready: Vec<Work>,
    running: JoinSet<(Session, Work, Result<()>)>,
    tables: BTreeMap<TableName, TableState>,
    progress: Arc<CopyProgress>,
}

impl Build {
    async fn run(&mut self, mut finished: UnboundedReceiver<TableName>) -> Result<()> {
        let mut more = true;
        loop {
            self.start();
            if !more && self.running.is_empty() {
                return Ok(());
            }
            tokio::select! {
                table = finished.recv(), if more => match table {
                    Some(table) => self.loaded(table),
                    None => {
                        more = false;
                        self.all_loaded()?;
                    }
                },
                Some(ended) = self.running.join_next() => self.done(ended)?,
            }
        }
    }

    /// Puts idle sessions to the work of the highest rank.
    fn start(&mut self) {
        self.ready.sort_by_key(|work| Reverse(work.rank()));
        while !self.ready.is_empty()
            && let Some(session) = self.idle.pop()
        {
            let work = self.ready.remove(0);
            self.running.spawn(async move {
                let result = perform(&session, &work).await;
                (session, work, result)
            });
        }
    }

    fn loaded(&mut self, table: TableName) {
        self.tables.entry(table.clone()).or_default().loaded = true;
        self.queue_next(&table);
    }

    fn all_loaded(&self) -> Result<()> {
        match self.tables.iter().find(|(_, state)| !state.loaded) {
            None => Ok(()),
            Some((table, _)) => Err(Error::found(
                format!("build the indexes of table {table}"),
                "the copy ended before the table was loaded",
                "run replicate again",
            )),
        }
    }

    /// Queues what may be done next on a table: its constraints, then its indexes, then statistics.
    fn queue_next(&mut self, table: &TableName) {
        let Some(state) = self.tables.get_mut(table) else { return };
        let waiting = std::mem::take(&mut state.waiting);
        let (indexes, constraints): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|definition| definition.kind == DefinitionKind::Index);
        let units = if !constraints.is_empty() {
            state.waiting = indexes;
            vec![Work::Constraints(table.clone(), constraints)]
        } else if !indexes.is_empty() {
            indexes.into_iter().map(Work::Index).collect()
        } else {
            vec![Work::Analyze(table.clone())]
        };
        state.open = units.len();
        self.ready.extend(units);
    }

    fn done(&mut self, ended: std::result::Result<(Session, Work, Result<()>), tokio::task::JoinError>) -> Result<()> {
        let (session, work, result) = ended.map_err(|panic| {
            Error::found("build the indexes", format!("a job ended by itself ({panic})"), "run replicate again")
        })?;
        result?;
        self.idle.push(session);
        let count = match &work {
            Work::Analyze(_) => return Ok(()),
            Work::Index(_) => 1,
            Work::Constraints(_, definitions) => definitions.len(),
        };
        add(&self.progress.definitions_done, amount(count));
        let table = work.table().clone();
        if let Some(state) = self.tables.get_mut(&table) {
            state.open -= 1;
            if state.open == 0 {
                self.queue_next(&table);
            }
        }
        Ok(())
    }

    /// Declares all foreign keys one by one (each needs two tables for a moment), then checks them in parallel,
    /// those of one table one after the other.
    async fn foreign_keys(mut self, foreign_keys: Vec<Definition>) -> Result<()> {
        failpoint::reach(failpoint::COPY_FOREIGN_KEYS);
        let mut by_table: BTreeMap<TableName, Vec<Definition>> = BTreeMap::new();
        for definition in foreign_keys {
            if let Some(session) = self.idle.first() {
                declare(session, &definition).await?;
            }
            by_table.entry(definition.table.clone()).or_default().push(definition);
        }
        self.ready = by_table.into_iter().map(|(table, keys)| Work::Constraints(table, keys)).collect();
        loop {
            self.start();
            let Some(ended) = self.running.join_next().await else { return Ok(()) };
            let (session, work, result) = ended.map_err(|panic| {
                Error::found(
                    "check the foreign keys",
                    format!("a job ended by itself ({panic})"),
                    "run replicate again",
                )
            })?;
            result?;
            if let Work::Constraints(_, keys) = work {
                add(&self.progress.definitions_done, amount(keys.len()));
            }
            self.idle.push(session);
        }
    }
}

async fn perform(session: &Session, work: &Work) -> Result<()> {
    match work {
        Work::Analyze(table) => {
            failpoint::reach_for(failpoint::COPY_ANALYZE, &table.name);
            session
                .batch_execute(&format!("ANALYZE {}", table.sql()))
                .await
                .map_err(Error::doing(format!("gather statistics of table {table} on {}", session.address)))
        }
        Work::Index(definition) => {
            failpoint::reach_for(failpoint::COPY_INDEX, &definition.name);
            create(session, definition).await
        }
        Work::Constraints(_, definitions) => {
            for definition in definitions {
                failpoint::reach_for(failpoint::COPY_INDEX, &definition.name);
                create(session, definition).await?;
            }
            Ok(())
        }
    }
}
