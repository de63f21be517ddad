//! The journal's tables, in the coordinator's own database on the target cluster.
//!
//! Juju flushes state and databags only when a hook succeeds, so it cannot record an intent before
//! its effect; a table can.

use super::world::Applications;
use crate::failpoint;
use crate::migration::{Entry, Progress, Record, State, Traffic};
use crate::postgres::names::{JOURNAL_SCHEMA, literal};
use crate::postgres::{Error, Result, Server, Session};
use serde_json::Value;
use tokio_postgres::Row;

/// The journal's format. A newer one is refused, not guessed.
const FORMAT: i32 = 1;

/// The advisory lock of the one worker that acts: "identity" in ASCII.
const WORKER_LOCK: i64 = 0x6964_656e_7469_7479;

/// The singleton that counts the records: none may be missing.
const LENGTH: &str = "length";

/// The singleton that names the run begun last, in case its records are lost.
const RUN: &str = "run";

/// Appends take turns: a position that is seen must never be followed by a lower one that commits late.
const APPEND_LOCK: i64 = WORKER_LOCK + 1;

/// Of the action and the worker one at a time looks after a backup.
const BACK_UP_LOCK: i64 = WORKER_LOCK + 2;

/// What was read of the journal in one look.
#[derive(Default)]
struct News {
    /// Position, time and content.
    records: Vec<(i64, i64, Value)>,
    /// How many records there are.
    count: i64,
    /// The position of the last one.
    last: i64,
    /// How many were written; a journal of an older charm does not tell.
    length: Option<i64>,
}

impl News {
    fn is_damaged(&self) -> bool {
        self.length.is_some_and(|length| length != self.count)
    }
}

/// Takes a record in; one that does not fit, or is not ours, is damage.
fn take_in(state: &mut State, (seq, at, json): (i64, i64, Value)) {
    match serde_json::from_value(json) {
        Ok(record) => {
            if let Err(illegal) = state.apply(&Entry { seq, at, record }) {
                state.damage(&illegal.to_string());
            }
        }
        Err(error) => {
            state.damage(&format!("record {seq} is not ours ({error})"));
            state.seq = seq;
        }
    }
}

/// An open journal.
pub struct Store {
    session: Session,
}

impl Store {
    /// Opens the journal and makes its tables where they are missing.
    ///
    /// # Errors
    /// The server's, or a finding when the journal was written by a newer charm.
    pub async fn open(server: &Server, database: &str, purpose: &str) -> Result<Self> {
        let session = server.connect(database, purpose).await?;
        let store = Self { session };
        store.install().await?;
        Ok(store)
    }

    /// Whether there is a journal in this database; makes none.
    ///
    /// # Errors
    /// The server's.
    pub async fn exists(server: &Server, database: &str) -> Result<bool> {
        let session = server.connect(database, "charm").await?;
        let doing = format!("look for a journal on {}", session.address);
        let there = format!("SELECT to_regclass('{JOURNAL_SCHEMA}.format') IS NOT NULL");
        Ok(session.query_one(&there, &[]).await.map_err(Error::doing(doing))?.get(0))
    }

    /// What is being done, and where.
    fn at(&self, doing: &str) -> String {
        format!("{doing} on {}", self.session.address)
    }

    async fn install(&self) -> Result<()> {
        let doing = self.at("open the journal");
        let schema = JOURNAL_SCHEMA;
        // A failover must not lose what was recorded before an effect.
        self.session.batch_execute("SET synchronous_commit = on").await.map_err(Error::doing(&doing))?;
        let exists: bool = self
            .session
            .query_one(&format!("SELECT to_regclass('{schema}.format') IS NOT NULL"), &[])
            .await
            .map_err(Error::doing(&doing))?
            .get(0);
        if !exists {
            // Two hooks of two units may come here together: the advisory lock makes one wait.
            self.session
                .batch_execute(&format!(
                    "BEGIN; SELECT pg_advisory_xact_lock({lock});
                     CREATE SCHEMA IF NOT EXISTS {schema};
                     CREATE TABLE IF NOT EXISTS {schema}.entry (
                       seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                       at timestamptz NOT NULL DEFAULT clock_timestamp(),
                       record jsonb NOT NULL);
                     CREATE TABLE IF NOT EXISTS {schema}.singleton (name text PRIMARY KEY, value jsonb NOT NULL);
                     INSERT INTO {schema}.singleton SELECT '{LENGTH}', to_jsonb(count(*)) FROM {schema}.entry
                       ON CONFLICT DO NOTHING;
                     CREATE TABLE IF NOT EXISTS {schema}.format AS SELECT {FORMAT} AS version;
                     COMMIT",
                    lock = APPEND_LOCK,
                ))
                .await
                .map_err(Error::doing(&doing))?;
        }
        let version: i32 = self
            .session
            .query_one(&format!("SELECT version FROM {schema}.format"), &[])
            .await
            .map_err(Error::doing(&doing))?
            .get(0);
        if version > FORMAT {
            return Err(Error::found(
                "open the journal",
                format!("database {} holds format {version}, this charm knows up to {FORMAT}", self.session.database),
                "refresh the coordinator to the revision that wrote it",
            ));
        }
        Ok(())
    }

    /// Appends one record; it is durable when this returns.
    ///
    /// # Errors
    /// The server's.
    pub async fn append(&self, record: &Record) -> Result<Entry> {
        let doing = self.at("write the journal");
        let json = serde_json::to_value(record).map_err(|e| {
            Error::found(
                "write the journal",
                format!("the record does not become JSON ({e})"),
                "report this as a defect",
            )
        })?;
        if let Record::RunStarted { run, .. } = record {
            self.adopt(run).await?;
        }
        let label = record.label();
        failpoint::reach_for(failpoint::RECORD_BEFORE, &label);
        let row = match record {
            Record::Void { .. } => self.append_void(&json).await?,
            _ => self
                .session
                .query_one(
                    &format!(
                        "WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock({APPEND_LOCK})),
                         new AS (INSERT INTO {JOURNAL_SCHEMA}.entry (record) SELECT $1 FROM turn RETURNING seq, at),
                         counted AS (
                           INSERT INTO {JOURNAL_SCHEMA}.singleton (name, value)
                           SELECT '{LENGTH}', to_jsonb((SELECT count(*) FROM {JOURNAL_SCHEMA}.entry) + 1) FROM new
                           ON CONFLICT (name) DO UPDATE SET value = to_jsonb((singleton.value)::bigint + 1))
                         SELECT seq, (extract(epoch FROM at) * 1000)::bigint FROM new"
                    ),
                    &[&json],
                )
                .await
                .map_err(Error::doing(&doing))?,
        };
        failpoint::reach_for(failpoint::RECORD_AFTER, &label);
        Ok(Entry { seq: row.get(0), at: row.get(1), record: record.clone() })
    }

    /// Gives up what stands before: from here on the records are counted anew.
    async fn append_void(&self, json: &Value) -> Result<Row> {
        let doing = self.at("write the journal");
        let statements = format!(
            "BEGIN; SELECT pg_advisory_xact_lock({APPEND_LOCK});
             INSERT INTO {JOURNAL_SCHEMA}.entry (record) VALUES ({});
             INSERT INTO {JOURNAL_SCHEMA}.singleton SELECT '{LENGTH}', to_jsonb(count(*)) FROM {JOURNAL_SCHEMA}.entry
               ON CONFLICT (name) DO UPDATE SET value = excluded.value;
             DELETE FROM {JOURNAL_SCHEMA}.singleton WHERE name = '{RUN}';
             COMMIT",
            literal(&json.to_string())
        );
        if let Err(error) = self.session.batch_execute(&statements).await {
            // The first error tells more than this one.
            let _ = self.session.batch_execute("ROLLBACK").await;
            return Err(Error::doing(doing)(error));
        }
        let last = format!(
            "SELECT seq, (extract(epoch FROM at) * 1000)::bigint FROM {JOURNAL_SCHEMA}.entry ORDER BY seq DESC LIMIT 1"
        );
        self.session.query_one(&last, &[]).await.map_err(Error::doing(doing))
    }

    /// Brings `state` up to the journal's end. Where records are missing or do not fit, the state says so.
    ///
    /// # Errors
    /// The server's.
    pub async fn refresh(&self, state: &mut State) -> Result<()> {
        let mut news = self.news(state.seq).await?;
        // A journal that was emptied, or dropped and made anew under us, may count its positions from the beginning again.
        if news.last < state.seq || (news.is_damaged() && state.damaged.is_none()) {
            *state = State::default();
            news = self.news(0).await?;
        }
        let is_void = |(_, _, record): &(i64, i64, Value)| record["kind"] == "void";
        let from = news.records.iter().rposition(is_void).unwrap_or(0);
        let mut records = news.records.split_off(from).into_iter().peekable();
        // What was given up is no damage any more.
        if let Some(void) = records.next_if(is_void) {
            take_in(state, void);
        }
        if let Some(length) = news.length.filter(|_| news.is_damaged()) {
            let name = &self.session.database;
            state.damage(&format!("database {name} holds {} of {length} records (deleted by hand?)", news.count));
        }
        records.for_each(|record| take_in(state, record));
        Ok(())
    }

    /// What was written behind a position, and whether everything written is there: in one look.
    async fn news(&self, after: i64) -> Result<News> {
        let sql = format!(
            "SELECT e.seq, (extract(epoch FROM e.at) * 1000)::bigint, e.record, t.count, t.last,
                    (SELECT (value)::bigint FROM {JOURNAL_SCHEMA}.singleton WHERE name = '{LENGTH}')
             FROM (SELECT count(*) AS count, coalesce(max(seq), 0) AS last FROM {JOURNAL_SCHEMA}.entry) t
             LEFT JOIN {JOURNAL_SCHEMA}.entry e ON e.seq > $1 ORDER BY e.seq"
        );
        let rows = self.session.query(&sql, &[&after]).await.map_err(Error::doing(self.at("read the journal")))?;
        let mut news = News::default();
        for row in rows {
            (news.count, news.last, news.length) = (row.get(3), row.get(4), row.get(5));
            if let Some(seq) = row.get(0) {
                news.records.push((seq, row.get(1), row.get(2)));
            }
        }
        Ok(news)
    }

    /// Keeps the name of the run that is begun, or whose remains are going to be removed.
    ///
    /// # Errors
    /// The server's.
    pub async fn adopt(&self, run: &str) -> Result<()> {
        self.write_single(RUN, &Value::from(run)).await
    }

    /// The run that was begun or adopted last.
    ///
    /// # Errors
    /// The server's.
    pub async fn adopted(&self) -> Result<Option<String>> {
        Ok(self.single(RUN).await?.and_then(|value| value.as_str().map(str::to_owned)))
    }

    /// The whole journal, replayed.
    ///
    /// # Errors
    /// As [`Store::refresh`].
    pub async fn load(&self) -> Result<State> {
        let mut state = State::default();
        self.refresh(&mut state).await?;
        Ok(state)
    }

    /// Tries to become the one worker that acts, for as long as this session lives.
    ///
    /// # Errors
    /// The server's.
    pub async fn try_lock(&self) -> Result<bool> {
        let row = self
            .session
            .query_one("SELECT pg_try_advisory_lock($1)", &[&WORKER_LOCK])
            .await
            .map_err(Error::doing(self.at("become the worker")))?;
        Ok(row.get(0))
    }

    /// Tries to become the one that looks after a backup, until [`Store::end_turn`] or the session's end.
    ///
    /// # Errors
    /// The server's.
    pub async fn try_turn(&self) -> Result<bool> {
        let asked = self.session.query_one("SELECT pg_try_advisory_lock($1)", &[&BACK_UP_LOCK]).await;
        Ok(asked.map_err(Error::doing(self.at("look after the backup")))?.get(0))
    }

    /// Lets another one look after a backup.
    ///
    /// # Errors
    /// The server's.
    pub async fn end_turn(&self) -> Result<()> {
        let ended = self.session.execute("SELECT pg_advisory_unlock($1)", &[&BACK_UP_LOCK]).await;
        ended.map(drop).map_err(Error::doing(self.at("look after the backup")))
    }

    /// The next epoch: each worker that takes over writes to fence rows under a higher one.
    ///
    /// # Errors
    /// The server's.
    pub async fn next_epoch(&self, at_least: i64) -> Result<i64> {
        let row = self
            .session
            .query_one(
                &format!(
                    "INSERT INTO {JOURNAL_SCHEMA}.singleton (name, value) VALUES ('epoch', to_jsonb($1::bigint))
                     ON CONFLICT (name) DO UPDATE
                       SET value = to_jsonb(greatest((singleton.value)::bigint + 1, $1))
                     RETURNING value::bigint"
                ),
                &[&at_least],
            )
            .await
            .map_err(Error::doing(self.at("take over as the worker")))?;
        Ok(row.get(0))
    }

    /// Overwrites what the worker is doing right now.
    ///
    /// # Errors
    /// The server's.
    pub async fn write_progress(&self, progress: &Progress) -> Result<()> {
        self.write_single("progress", &serde_json::to_value(progress).unwrap_or_default()).await
    }

    /// What the worker was doing when it wrote last.
    ///
    /// # Errors
    /// The server's.
    pub async fn progress(&self) -> Result<Progress> {
        Ok(self.single("progress").await?.and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default())
    }

    /// Keeps what the relations tell of the applications; writes only a change.
    ///
    /// # Errors
    /// The server's.
    pub async fn keep_applications(&self, applications: &Applications) -> Result<()> {
        let value = serde_json::to_value(applications).unwrap_or_default();
        if self.single("applications").await?.as_ref() == Some(&value) {
            return Ok(());
        }
        self.write_single("applications", &value).await
    }

    /// What the relations told last; `None` when nobody knows.
    ///
    /// # Errors
    /// The server's.
    pub async fn applications(&self) -> Result<Option<Applications>> {
        Ok(self.single("applications").await?.and_then(|value| serde_json::from_value(value).ok()))
    }

    /// Keeps what was seen of the source's writes.
    ///
    /// # Errors
    /// The server's.
    pub async fn keep_traffic(&self, traffic: &Traffic) -> Result<()> {
        self.write_single("traffic", &serde_json::to_value(traffic).unwrap_or_default()).await
    }

    /// What was seen of the source's writes.
    ///
    /// # Errors
    /// The server's.
    pub async fn traffic(&self) -> Result<Traffic> {
        Ok(self.single("traffic").await?.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default())
    }

    async fn single(&self, name: &str) -> Result<Option<Value>> {
        let row = self
            .session
            .query_opt(&format!("SELECT value FROM {JOURNAL_SCHEMA}.singleton WHERE name = $1"), &[&name])
            .await
            .map_err(Error::doing(self.at("read the journal")))?;
        Ok(row.map(|r| r.get(0)))
    }

    async fn write_single(&self, name: &str, value: &Value) -> Result<()> {
        self.session
            .execute(
                &format!(
                    "INSERT INTO {JOURNAL_SCHEMA}.singleton (name, value) VALUES ($1, $2)
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value"
                ),
                &[&name, value],
            )
            .await
            .map_err(Error::doing(self.at("write the journal")))?;
        Ok(())
    }
}
