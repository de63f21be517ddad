//! Walsender connections: a logical slot whose snapshot is exported for the copy.
//!
//! The driver knows no replication mode, but all that a walsender needs is one more parameter in the
//! startup packet (PostgreSQL documentation, "Streaming Replication Protocol": `replication=database`
//! gives a walsender for logical replication). [`StartupStream`] puts it there.

use super::connect::{CONNECT_TIMEOUT, READY_TIMEOUT, Session, keep};
use super::error::{Error, NO_ANSWER, Result};
use super::names::{ident, literal};
use super::server::Server;
use super::startup_stream::{ReplicationTls, StartupStream};
use super::{slot, tls};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A new logical slot and the snapshot that matches it exactly: the snapshot holds every commit below
/// the consistent point and none from there on; the slot hands out the rest.
///
/// The snapshot can be imported for as long as this value lives; the slot stays when it is dropped.
pub struct SlotSnapshot {
    /// The slot's name.
    pub slot: String,
    /// Where the slot's changes begin.
    pub consistent_point: PgLsn,
    /// The exported snapshot's name, for `SET TRANSACTION SNAPSHOT`.
    pub snapshot: String,
    _connection: Walsender,
}

impl std::fmt::Debug for SlotSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "slot {} at {} with snapshot {}", self.slot, self.consistent_point, self.snapshot)
    }
}

/// Creates a logical slot (plugin `pgoutput`) and exports its snapshot.
///
/// PostgreSQL waits here for every transaction that was running with an id when it began, prepared ones
/// included; so there is a `deadline`, and the error names the transaction that was waited for.
/// After an error no slot of this name made here is left.
///
/// # Errors
/// [`Error::Timeout`] when the deadline passed, with the blocker as the last state seen;
/// [`Error::Server`] when the server refuses, for instance because the slot exists.
pub async fn create_slot_with_snapshot(
    server: &Server,
    database: &str,
    slot: &str,
    deadline: Duration,
) -> Result<SlotSnapshot> {
    let doing = format!("create replication slot {slot} in database {database} on {}", server.address());
    let watcher = server.connect(database, "slot watcher").await?;
    let walsender = Walsender::connect(server, database, &doing).await?;
    let pid = walsender.pid(&doing).await?;
    // The old form is understood by every release from 14 on, and its key words must be upper case.
    let command = format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput EXPORT_SNAPSHOT", ident(slot));
    let started = Instant::now();
    match tokio::time::timeout(deadline, walsender.row(&command, &doing)).await {
        Ok(Ok(row)) => {
            let consistent_point = field(&row, "consistent_point", &doing)?
                .parse()
                .map_err(|_| Error::found(&doing, "a consistent point that is no WAL position", UNEXPECTED))?;
            let snapshot = field(&row, "snapshot_name", &doing)?.to_owned();
            Ok(SlotSnapshot { slot: slot.to_owned(), consistent_point, snapshot, _connection: walsender })
        }
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let last_seen = slot::blocker(&watcher, pid).await?;
            end_walsender(&watcher, pid, slot).await?;
            Err(Error::Timeout { doing, limit: started.elapsed(), last_seen })
        }
    }
}

const UNEXPECTED: &str = "check that the address leads to a PostgreSQL server and not to a pooler";

fn field<'row>(row: &'row SimpleQueryRow, name: &str, doing: &str) -> Result<&'row str> {
    row.try_get(name)
        .map_err(Error::doing(doing))?
        .ok_or_else(|| Error::found(doing, format!("an answer without {name}"), UNEXPECTED))
}

/// Says what the walsender that makes this slot waits for.
///
/// # Errors
/// [`Error::Server`] when the server cannot be asked.
pub async fn slot_blocker(source: &Session, name: &str) -> Result<String> {
    match slot::observe(source, name).await?.and_then(|state| state.active_pid) {
        Some(pid) => slot::blocker(source, pid).await,
        None => Ok("the slot was not begun".to_owned()),
    }
}

/// What the walsender that makes this slot waits for, as long as it does.
///
/// # Errors
/// [`Error::Server`] when the server cannot be asked.
pub async fn slot_waits_for(source: &Session, name: &str) -> Result<Option<String>> {
    match slot::observe(source, name).await?.and_then(|state| state.active_pid) {
        Some(pid) => slot::waits_for(source, pid).await,
        None => Ok(None),
    }
}

/// Ends a walsender that still makes its slot, and proves that the slot went with it.
async fn end_walsender(watcher: &Session, pid: i32, name: &str) -> Result<()> {
    let doing = format!("end the walsender {pid} on {}", watcher.address);
    watcher.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.map_err(Error::doing(doing))?;
    slot::drop_slot(watcher, name, Duration::from_secs(10)).await
}

/// One open walsender connection. It speaks the simple query protocol only.
struct Walsender {
    client: Client,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Walsender {
    fn drop(&mut self) {
        // Closes the socket at once: the server then forgets the exported snapshot.
        self.task.abort();
    }
}

impl Walsender {
    async fn connect(server: &Server, database: &str, doing: &str) -> Result<Self> {
        let unreachable = |error: std::io::Error| Error::passing(doing, format!("no connection ({error})"));
        let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((server.host.as_str(), server.port)))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let mut connector = tls::connector(server)?;
        let tls = tokio_postgres::tls::MakeTlsConnect::<StartupStream<TcpStream>>::make_tls_connect(
            &mut connector as &mut MakeRustlsConnect,
            &server.host,
        )
        .map_err(|impossible| match impossible {})?;
        let config = server.config(database, "slot");
        let connected = config.connect_raw(StartupStream::new(tcp), ReplicationTls(tls));
        let (client, connection) = match tokio::time::timeout(READY_TIMEOUT, connected).await {
            Ok(connected) => connected.map_err(Error::doing(doing))?,
            Err(_) => {
                let (doing, last_seen) = (doing.to_owned(), NO_ANSWER.to_owned());
                return Err(Error::Timeout { doing, limit: READY_TIMEOUT, last_seen });
            }
        };
        let task = tokio::spawn(keep(server.clone(), database.to_owned(), connection));
        Ok(Self { client, task })
    }

    /// The process on the server. From here on the server looks every second whether we are still there:
    /// else a walsender that waits for a transaction would outlive a killed coordinator and leave its slot.
    /// (The look-out is started by the first SQL statement after the setting, and goes on in commands.)
    async fn pid(&self, doing: &str) -> Result<i32> {
        let watch = "SET client_connection_check_interval = '1s'";
        self.client.simple_query(watch).await.map_err(Error::doing(doing))?;
        let row = self.row("SELECT pg_catalog.pg_backend_pid()", doing).await?;
        let pid = field(&row, "pg_backend_pid", doing)?;
        pid.parse().map_err(|_| Error::found(doing, format!("{} as a process id", literal(pid)), UNEXPECTED))
    }

    async fn row(&self, command: &str, doing: &str) -> Result<SimpleQueryRow> {
        let messages = self.client.simple_query(command).await.map_err(Error::doing(doing))?;
        messages
            .into_iter()
            .find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .ok_or_else(|| Error::found(doing, "an answer without a row", UNEXPECTED))
    }
}
