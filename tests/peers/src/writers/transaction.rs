//! One transaction of a writer: what a login writes, over four tables.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// The names that tell a writer's rows from all others.
pub const FLOW_URL: &str = "https://writers.example/";

/// What one transaction wrote; its sequence number makes every key in it unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub connection: usize,
    /// Counts a connection's transactions from 1.
    pub sequence: u64,
    pub identity: String,
    pub session: String,
    pub flow: String,
}

/// The table without a key, in which nothing refuses a row that comes twice.
pub const KEYLESS: &str = "public.chaos_keyless";

/// Makes that table; as the application's own user, on both sides.
pub const KEYLESS_TABLE: &str = "
CREATE TABLE public.chaos_keyless (run bigint NOT NULL, connection int NOT NULL, sequence bigint NOT NULL, note text);
ALTER TABLE public.chaos_keyless REPLICA IDENTITY FULL";

/// Who writes.
#[derive(Debug)]
pub struct Client {
    pub run: u32,
    pub connection: usize,
    /// The network that its rows belong to.
    pub nid: String,
    pub keyless: bool,
}

/// A key made of the run, what it is for, the connection and its transaction: never the same twice.
fn key(run: u32, kind: u16, connection: usize, sequence: u64) -> String {
    format!("{run:08x}-{kind:04x}-4000-8{connection:03x}-{sequence:012x}")
}

pub fn session_key(run: u32, connection: usize, sequence: u64) -> String {
    key(run, 1, connection, sequence)
}

pub fn flow_key(run: u32, connection: usize, sequence: u64) -> String {
    key(run, 2, connection, sequence)
}

fn device_key(run: u32, connection: usize, sequence: u64) -> String {
    key(run, 3, connection, sequence)
}

/// Isolation levels by connection: mostly the two that applications use.
pub fn isolation(connection: usize) -> &'static str {
    match connection % 8 {
        1 | 3 | 6 => "REPEATABLE READ",
        5 => "SERIALIZABLE",
        _ => "READ COMMITTED",
    }
}

/// How a transaction that was not acknowledged ended.
#[derive(Debug)]
pub enum Failure {
    /// It did not happen; an honest client tries again.
    Refused(String),
    /// The connection broke at the commit: it may have happened.
    Unknown(String),
    /// This very transaction is there already.
    Applied,
    /// Something no client should see.
    Unexpected(String),
}

/// A transaction that is ready to commit.
#[derive(Debug)]
pub struct Open {
    /// Its number on the server.
    pub xid: String,
}

impl Client {
    /// Runs the transaction up to its commit: a session and its device are inserted, the identity's count goes up by
    /// one, the connection's previous flow is deleted and a new one inserted, its previous session becomes inactive.
    /// `pause` is how long the client thinks in the middle, holding its locks.
    pub async fn prepare(
        &self,
        client: &tokio_postgres::Client,
        written: &Written,
        only_while_fenced: bool,
        pause: std::time::Duration,
    ) -> Result<Open, Failure> {
        let begin = format!("BEGIN ISOLATION LEVEL {}", isolation(self.connection));
        client.batch_execute(&begin).await.map_err(|error| before_commit(&error))?;
        if only_while_fenced && !is_fenced(client).await.map_err(|error| before_commit(&error))? {
            return Err(Failure::Refused("no fence stands there".to_owned()));
        }
        self.statements(client, written, pause).await.map_err(|error| before_commit(&error))
    }

    async fn statements(
        &self,
        client: &tokio_postgres::Client,
        written: &Written,
        pause: std::time::Duration,
    ) -> Result<Open, Error> {
        let Self { run, connection, nid, keyless } = self;
        let Written { connection: _, sequence, identity, session, flow } = written;
        let row = client
            .query_one(
                "INSERT INTO public.sessions (id, issued_at, expires_at, authenticated_at, identity_id, created_at, \
                 updated_at, token, active, nid, logout_token, aal, authentication_methods) \
                 VALUES ($1::text::uuid, now(), now() + interval '1 day', now(), $2::text::uuid, now(), now(), \
                 'ory_st_' || replace($1::text, '-', ''), true, $3::text::uuid, 'ory_lo_' || replace($1::text, '-', ''), \
                 'aal1', '[{\"method\": \"password\", \"aal\": \"aal1\"}]') RETURNING pg_current_xact_id()::text",
                &[session, identity, &nid],
            )
            .await?;
        let open = Open { xid: row.get(0) };
        client
            .execute(
                "INSERT INTO public.session_devices (id, ip_address, user_agent, location, nid, session_id, created_at, \
                 updated_at) VALUES ($1::text::uuid, '192.0.2.1', $2, '', $3::text::uuid, $4::text::uuid, now(), now())",
                &[&device_key(*run, *connection, *sequence), &mark(*run), &nid, session],
            )
            .await?;
        client
            .execute(
                "UPDATE public.identities SET updated_at = now(), metadata_admin = jsonb_set( \
                 coalesce(metadata_admin, '{}'), ARRAY[$2::text], \
                 to_jsonb(coalesce((metadata_admin ->> $2::text)::int, 0) + 1)) WHERE id = $1::text::uuid",
                &[identity, &mark(*run)],
            )
            .await?;
        tokio::time::sleep(pause).await;
        client
            .execute(
                "DELETE FROM public.selfservice_login_flows WHERE id = $1::text::uuid",
                &[&flow_key(*run, *connection, sequence - 1)],
            )
            .await?;
        client
            .execute(
                "INSERT INTO public.selfservice_login_flows (id, request_url, issued_at, expires_at, active_method, \
                 csrf_token, created_at, updated_at, forced, type, ui, nid, requested_aal, internal_context) \
                 VALUES ($1::text::uuid, $2, now(), now() + interval '1 hour', 'password', '', now(), now(), false, 'api', \
                 jsonb_build_object('nodes', repeat('x', 900)), $3::text::uuid, 'aal1', '{}')",
                &[flow, &format!("{FLOW_URL}{}", mark(*run)), &nid],
            )
            .await?;
        client
            .execute(
                "UPDATE public.sessions SET active = false, updated_at = now() WHERE id = $1::text::uuid",
                &[&session_key(*run, *connection, sequence - 1)],
            )
            .await?;
        if *keyless {
            let text = format!(
                "INSERT INTO {KEYLESS} (run, connection, sequence, note) VALUES ({run}, {connection}, {sequence}, '{flow}')"
            );
            client.batch_execute(&text).await?;
        }
        Ok(open)
    }
}

/// Commits what was prepared.
pub async fn commit(client: &tokio_postgres::Client) -> Result<(), Failure> {
    client.batch_execute("COMMIT").await.map_err(|error| at_commit(&error))
}

/// Whether a fence of the coordinator's stands on the first table that a transaction writes; it cannot go from there
/// before the transaction ends.
async fn is_fenced(client: &tokio_postgres::Client) -> Result<bool, Error> {
    client.batch_execute("LOCK TABLE public.sessions IN ROW EXCLUSIVE MODE NOWAIT").await?;
    let look = "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'public.sessions'::regclass \
                AND tgname LIKE 'identity\\_migration%')";
    Ok(client.query_one(look, &[]).await?.get(0))
}

/// How a transaction whose commit was never answered ended: true when it is there. `None` while it still runs.
pub async fn settled(client: &tokio_postgres::Client, written: &Written, xid: &str) -> Result<Option<bool>, Error> {
    // After a failover the number may mean another transaction, or one to come: the row decides.
    let running = client.query_opt("SELECT 1 FROM pg_stat_activity WHERE backend_xid::text = $1", &[&xid]).await?;
    if running.is_some() {
        return Ok(None);
    }
    let there =
        client.query_opt("SELECT 1 FROM public.sessions WHERE id = $1::text::uuid", &[&written.session]).await?;
    Ok(Some(there.is_some()))
}

/// The word that this run's rows carry.
pub fn mark(run: u32) -> String {
    format!("writers-{run:08x}")
}

/// Before COMMIT was sent nothing can have happened, whatever went wrong.
fn before_commit(error: &Error) -> Failure {
    let text = describe(error);
    match error.code() {
        // The session's key is this transaction's own: only an earlier try of the same one can have written it.
        Some(code) if *code == SqlState::UNIQUE_VIOLATION => Failure::Applied,
        Some(code) if is_refusal(code) => Failure::Refused(text),
        Some(_) => Failure::Unexpected(text),
        None => Failure::Refused(text),
    }
}

fn at_commit(error: &Error) -> Failure {
    let text = describe(error);
    match error.code() {
        Some(code) if *code == SqlState::ADMIN_SHUTDOWN || *code == SqlState::CRASH_SHUTDOWN => Failure::Unknown(text),
        Some(code) if is_refusal(code) => Failure::Refused(text),
        Some(_) => Failure::Unexpected(text),
        None => Failure::Unknown(text),
    }
}

/// The refusals that a client of a database under migration must live with.
fn is_refusal(code: &SqlState) -> bool {
    [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
    ]
    .contains(code)
}

pub fn describe(error: &Error) -> String {
    match error.as_db_error() {
        Some(found) => format!("{}: {}", found.code().code(), found.message()),
        None => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            format!("{error}{}", cause.unwrap_or_default())
        }
    }
}
