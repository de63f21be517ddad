//! The loaders: each takes parts from one queue and pipes them from the source to the target.

use super::hold::{SnapshotHolder, import_failed};
use super::plan::CopyPart;
use super::progress::{CopyProgress, add, amount};
use crate::failpoint;
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::names::{PREFIX, TableName, literal};
use crate::postgres::server::Server;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

/// The server sends one small message a row; this many bytes go on at once.
const FRAME: usize = 128 << 10;

/// Text COPY depends on these; they are the same on both ends.
const FORMATS: &str =
    "SET datestyle = ISO; SET intervalstyle = postgres; SET extra_float_digits = 3; SET timezone = UTC";

/// Parts still to copy, and how many of each table are unfinished.
struct Queue {
    parts: VecDeque<CopyPart>,
    unfinished: BTreeMap<TableName, usize>,
}

struct Shared {
    queue: Mutex<Queue>,
    progress: Arc<CopyProgress>,
    table_done: UnboundedSender<TableName>,
}

/// Copies the parts with `jobs` loaders, all in the holder's snapshot, and sends every finished table's
/// name to `table_done`. Returns when everything is on the target's disk. The first failure stops all.
///
/// # Errors
/// [`Error::Server`], naming the part, when either side fails; the target then holds whole parts or nothing
/// of each, and must be emptied before the copy is begun again.
pub async fn copy_parts(
    source: (&Server, &str),
    target: (&Server, &str),
    holder: &SnapshotHolder,
    parts: Vec<CopyPart>,
    jobs: usize,
    progress: Arc<CopyProgress>,
    table_done: UnboundedSender<TableName>,
) -> Result<()> {
    let mut unfinished: BTreeMap<TableName, usize> = BTreeMap::new();
    for part in &parts {
        *unfinished.entry(part.table.clone()).or_default() += 1;
    }
    add(&progress.parts_total, amount(parts.len()));
    add(&progress.tables_total, amount(unfinished.len()));
    add(&progress.planned_bytes_total, parts.iter().map(|part| part.bytes).sum());
    let jobs = jobs.clamp(1, parts.len().max(1));
    let queue = Mutex::new(Queue { parts: parts.into(), unfinished });
    let shared = Arc::new(Shared { queue, progress, table_done });

    let mut loaders = JoinSet::new();
    for _ in 0..jobs {
        let loader = Loader::open(source, target, &holder.snapshot).await?;
        loaders.spawn(loader.run(Arc::clone(&shared)));
    }
    // Leaving early drops the set, which ends the other loaders and with them their COPY.
    while let Some(ended) = loaders.join_next().await {
        ended.unwrap_or_else(|panic| {
            Err(Error::found("copy the tables", format!("a loader ended by itself ({panic})"), "run replicate again"))
        })?;
    }
    holder.still_holds().await?;
    flush(target.0, target.1).await
}

/// Commits once synchronously, after a record in the WAL: that puts everything before it, which the
/// loaders committed asynchronously, on the disk (and on the synchronous standby).
pub(in crate::postgres) async fn flush(target: &Server, database: &str) -> Result<()> {
    let session = target.connect(database, "flush").await?;
    let sql = format!(
        "SET LOCAL synchronous_commit = on; SELECT pg_logical_emit_message(true, {}, 'loaded')",
        literal(PREFIX)
    );
    session.batch_execute(&sql).await.map_err(Error::doing(format!("flush the loaded rows on {}", target.address())))
}

pub(in crate::postgres) struct Loader {
    source: Session,
    pub(in crate::postgres) target: Session,
}

impl Loader {
    /// The source's session sees the snapshot; the target's passes the fence, as the apply worker does: only triggers
    /// that fire on a replica fire.
    pub(in crate::postgres) async fn open(
        source: (&Server, &str),
        target: (&Server, &str),
        snapshot: &str,
    ) -> Result<Self> {
        let doing = format!("open a loader from {} to {}", source.0.address(), target.0.address());
        let source = source.0.connect(source.1, "copy").await?;
        let begin = format!(
            "{FORMATS}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            literal(snapshot)
        );
        source.batch_execute(&begin).await.map_err(|error| import_failed(error, doing.clone()))?;
        let target = target.0.connect(target.1, "copy").await?;
        let settings = format!("{FORMATS}; SET session_replication_role = replica; SET synchronous_commit = off");
        target.batch_execute(&settings).await.map_err(Error::doing(&doing))?;
        Ok(Self { source, target })
    }

    async fn run(self, shared: Arc<Shared>) -> Result<()> {
        while let Some(part) = shared.next() {
            let rows = self.copy(&part, &shared.progress).await?;
            failpoint::reach_for(failpoint::COPY_PART, &part.table.name);
            shared.finished(&part, rows);
        }
        Ok(())
    }

    /// Pipes one part; its rows on the target are one transaction, or belong to the one that is open. Answers the
    /// number of rows.
    pub(in crate::postgres) async fn copy(&self, part: &CopyPart, progress: &CopyProgress) -> Result<u64> {
        let reading = || Error::doing(format!("read {part} from {}", self.source.address));
        let writing = || Error::doing(format!("write {part} to {}", self.target.address));
        let mut rows = pin!(self.source.copy_out(&part.copy_out()).await.map_err(reading())?);
        let mut sink = pin!(self.target.copy_in::<_, Bytes>(&part.copy_in()).await.map_err(writing())?);
        let mut frame = BytesMut::with_capacity(2 * FRAME);
        let mut frames = 0_u64;
        while let Some(row) = rows.next().await {
            frame.extend_from_slice(&row.map_err(reading())?);
            if frame.len() >= FRAME {
                add(&progress.bytes, amount(frame.len()));
                sink.send(frame.split().freeze()).await.map_err(writing())?;
                frames += 1;
                failpoint::reach_for(failpoint::COPY_FRAME, &format!("{}/{frames}", part.table.name));
                frame.reserve(2 * FRAME);
            }
        }
        add(&progress.bytes, amount(frame.len()));
        sink.send(frame.freeze()).await.map_err(writing())?;
        sink.finish().await.map_err(writing())
    }
}

impl Shared {
    fn next(&self) -> Option<CopyPart> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).parts.pop_front()
    }

    fn finished(&self, part: &CopyPart, rows: u64) {
        add(&self.progress.rows, rows);
        add(&self.progress.parts_done, 1);
        add(&self.progress.planned_bytes_done, part.bytes);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = queue.unfinished.get_mut(&part.table) {
            *left -= 1;
            if *left == 0 {
                add(&self.progress.tables_done, 1);
                failpoint::reach_for(failpoint::COPY_TABLE, &part.table.name);
                // Nobody listens when the indexes are not built beside the copy.
                let _ = self.table_done.send(part.table.clone());
            }
        }
    }
}
