//! Stops the worker at an exact place, from outside: a trigger on the journal's table makes the insert of one chosen
//! record wait. Killed there, the worker did what came before the record and never recorded it.

use super::rig::{LONG, Rig};
use anyhow::Result;
use coordinator::postgres::names::JOURNAL_SCHEMA;
use peers::wait_for;
use serde_json::Value;

/// An advisory lock that only a stalled insert holds.
const SIGN: i64 = 770_077;

impl Rig {
    /// From now on the record that contains `pattern` is not written.
    pub fn stall_at(&self, pattern: &Value) -> Result<()> {
        self.on_journal(&format!(
            "CREATE TABLE IF NOT EXISTS public.stall (pattern jsonb);
             CREATE OR REPLACE FUNCTION public.stall() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               WHILE EXISTS (SELECT FROM public.stall s WHERE NEW.record @> s.pattern) LOOP
                 PERFORM pg_advisory_xact_lock({SIGN});
                 PERFORM pg_sleep(0.02);
               END LOOP;
               RETURN NEW;
             END $$;
             CREATE OR REPLACE TRIGGER stall BEFORE INSERT ON {JOURNAL_SCHEMA}.entry
               FOR EACH ROW EXECUTE FUNCTION public.stall();
             INSERT INTO public.stall VALUES ('{pattern}')"
        ))
        .map(drop)
    }

    /// Waits until the worker stands at that record.
    pub fn stalled(&self, pattern: &Value) -> Result<()> {
        let seen = format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {SIGN} AND granted");
        wait_for(&format!("the record {pattern}"), LONG, || match self.on_journal(&seen) {
            Ok(count) if count == "0" => match self.now() {
                Ok((state, progress)) => {
                    self.broker(&state).map_err(|error| format!("{error:#}"))?;
                    Err(format!("phase {}, {progress:?}", state.phase()))
                }
                Err(error) => Err(format!("{error:#}")),
            },
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error:#}")),
        })
        .map_err(|error| error.context(self.worker_log()))
    }

    /// Lets it go on.
    pub fn release(&self) -> Result<()> {
        self.on_journal("DELETE FROM public.stall").map(drop)
    }

    /// Waits until the worker stands at that record, and kills it there.
    pub fn kill_at(&self, pattern: &Value) -> Result<()> {
        self.stalled(pattern)?;
        self.kill_worker()?;
        // The server notices a dead client only when it next writes to it.
        self.on_journal(&format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND objid = {SIGN}"
        ))?;
        self.release()
    }
}
