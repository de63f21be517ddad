//! The journal's tables, in the coordinator's own database on the target cluster.
//!
//! Juju flushes state and databags only when a hook succeeds, so it cannot record an intent before
//! its effect; a table can.

use super::world::Applications;
use crate::failpoint;
use crate::migration::{Entry, Progress, Record, State};
use crate::postgres::{Error, Result, Server, Session, names::JOURNAL_SCHEMA};
use serde_json::Value;

/// The journal's format. A newer one is refused, not guessed.
const FORMAT: i32 = 1;

/// The advisory lock of the one worker that acts: "identity" in ASCII.
const WORKER_LOCK: i64 = 0x6964_656e_7469_7479;

/// Appends take turns: a position that is seen must never be followed by a lower one that commits late.
const APPEND_LOCK: i64 = WORKER_LOCK + 1;

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
        let label = record.label();
        failpoint::reach_for(failpoint::RECORD_BEFORE, &label);
        let row = self
            .session
            .query_one(
                &format!(
                    "WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock({APPEND_LOCK}))
                     INSERT INTO {JOURNAL_SCHEMA}.entry (record) SELECT $1 FROM turn
                     RETURNING seq, (extract(epoch FROM at) * 1000)::bigint"
                ),
                &[&json],
            )
            .await
            .map_err(Error::doing(&doing))?;
        failpoint::reach_for(failpoint::RECORD_AFTER, &label);
        Ok(Entry { seq: row.get(0), at: row.get(1), record: record.clone() })
    }

    /// Brings `state` up to the journal's end.
    ///
    /// # Errors
    /// The server's, or a finding when a record does not fit.
    pub async fn refresh(&self, state: &mut State) -> Result<()> {
        let doing = self.at("read the journal");
        let rows = self
            .session
            .query(
                &format!(
                    "SELECT seq, (extract(epoch FROM at) * 1000)::bigint, record
                     FROM {JOURNAL_SCHEMA}.entry WHERE seq > $1 ORDER BY seq"
                ),
                &[&state.seq],
            )
            .await
            .map_err(Error::doing(&doing))?;
        let cure =
            "undo the change made there by hand, or drop the coordinator's database and roll back with `rollback`";
        for row in rows {
            let json: Value = row.get(2);
            let record: Record = serde_json::from_value(json).map_err(|e| {
                Error::found("read the journal", format!("record {} is not ours ({e})", row.get::<_, i64>(0)), cure)
            })?;
            state
                .apply(&Entry { seq: row.get(0), at: row.get(1), record })
                .map_err(|illegal| Error::found("read the journal", illegal.to_string(), cure))?;
        }
        Ok(())
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

    /// What the relations told last.
    ///
    /// # Errors
    /// The server's.
    pub async fn applications(&self) -> Result<Applications> {
        Ok(self.single("applications").await?.and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default())
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
