//! What the tests look at: pictures of the databases, what is left behind, whether a side takes writes.

use super::rig::{LONG, Rig};
use anyhow::Result;
use coordinator::migration::journal::Request;
use coordinator::migration::{Goal, Phase, Settings, State, Step};

/// Columns, indexes and constraints of the application's tables.
const SCHEMA: &str = "
SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) || ' ' || convalidated
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
ORDER BY 1";

/// Triggers, functions, publications, subscriptions, slots, sequences, and a digest of every table's rows.
const PICTURE: &str = "
SELECT 'trigger ' || tgrelid::regclass || ' ' || tgname || ' ' || encode(tgargs, 'escape') FROM pg_trigger
WHERE NOT tgisinternal
UNION ALL SELECT 'event trigger ' || evtname || evtenabled::text FROM pg_event_trigger
UNION ALL SELECT 'function ' || oid::regprocedure || ' ' || md5(prosrc) FROM pg_proc
WHERE pronamespace::regnamespace::text IN ('public', 'identity_migration')
UNION ALL SELECT 'publication ' || pubname || ' ' || (SELECT count(*) FROM pg_publication_tables t WHERE t.pubname = p.pubname)
FROM pg_publication p
UNION ALL SELECT 'subscription ' || subname || subenabled::text || coalesce(subslotname, '') FROM pg_subscription
UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots
UNION ALL SELECT 'sequence ' || sequencename || ' ' || coalesce(last_value::text, '') FROM pg_sequences
UNION ALL SELECT 'rows ' || table_schema || '.' || table_name || ' ' || md5(query_to_xml(
  format('SELECT * FROM %I.%I t ORDER BY t::text', table_schema, table_name), false, false, '')::text)
FROM information_schema.tables WHERE table_schema IN ('public', 'identity_migration') AND table_type = 'BASE TABLE'
ORDER BY 1";

impl Rig {
    /// Everything in both databases, ours included.
    pub fn picture(&self) -> String {
        let sides = [self.on_source(SCHEMA), self.on_source(PICTURE), self.on_target(SCHEMA), self.on_target(PICTURE)];
        sides.map(Result::unwrap).join("\n--\n")
    }

    /// Whether the target's schema is the source's.
    pub fn assert_equal_schemas(&self) {
        let (source, target) = (self.on_source(SCHEMA).unwrap(), self.on_target(SCHEMA).unwrap());
        let (source, target): (Vec<&str>, Vec<&str>) = (source.lines().collect(), target.lines().collect());
        let only = |some: &[&str], others: &[&str]| -> Vec<String> {
            some.iter().filter(|line| !others.contains(*line)).map(|line| (*line).to_owned()).collect()
        };
        assert_eq!((only(&source, &target), only(&target, &source)), (vec![], vec![]), "only source, only target");
    }

    /// Both databases are equal, says a comparison that shares no code with the charm.
    pub fn assert_equal(&self) {
        self.is_equal().unwrap();
    }

    /// As [`Rig::assert_equal`], for what comes to be so.
    pub fn is_equal(&self) -> Result<(), String> {
        let options = peers::compare::Options::kratos();
        let compared = peers::compare::databases(&self.source_uri(), &self.target_uri(), &options);
        let compared = compared.map_err(|error| format!("{error:#}"))?;
        match (compared.rows(), compared.different()) {
            (1001.., 0) => Ok(()),
            (rows, _) => Err(format!("{rows} rows compared\n{}", compared.report())),
        }
    }

    /// A write that changes nothing but proves that writes pass, or why they do not.
    pub fn write_source(&self) -> Result<()> {
        let table = self.world().app.keeps.table;
        let one = format!("SELECT ctid FROM public.{table} ORDER BY id::text LIMIT 1");
        self.on_source(&format!("UPDATE public.{table} SET updated_at = updated_at WHERE ctid = ({one})")).map(drop)
    }

    /// As [`Rig::write_source`], on the target.
    pub fn write_target(&self) -> Result<()> {
        self.on_target(&format!("DELETE FROM public.{} WHERE false", self.world().app.keeps.table)).map(drop)
    }

    /// Both sides are open for the application's own migration, and once all is undone; never else.
    pub fn never_both(&self, place: &str) {
        let phase = self.now().unwrap().0.phase();
        let one_at_most =
            [Phase::Following, Phase::Fenced, Phase::Drained, Phase::Opened, Phase::Flipped, Phase::Reversing];
        if one_at_most.contains(&phase) {
            let open = (self.write_source().is_ok(), self.write_target().is_ok());
            assert_ne!(open, (true, true), "{place}, {phase}: both sides are open");
        }
    }

    /// Ends the migration; nothing is left. What was compared may have been cut off: judge the rows before.
    pub fn finalize(&self) {
        let plain = Request::plain("finalize", Goal::Finalized);
        self.ask(Request { keep_source_fenced: false, accept_unverified: true, ..plain }).unwrap();
        assert_eq!(self.settled(LONG).unwrap().phase(), Phase::Finalized);
        assert_eq!(self.left_behind().unwrap(), Vec::<String>::new());
    }

    /// How often the worker's watch has looked at the slot so far, as the source's log tells.
    pub fn looks(&self) -> usize {
        let log = std::fs::read(self.source.log_path()).unwrap();
        String::from_utf8_lossy(&log).matches("pg_stat_replication_slots d USING").count()
    }

    /// Asks, waits, and answers the state.
    pub fn reach(&self, goal: Goal) -> State {
        self.want(goal).unwrap();
        self.settled(LONG).unwrap()
    }

    /// Asks with other settings, waits, and answers the state.
    pub fn reach_with(&self, goal: Goal, settings: &Settings) -> State {
        self.want_with(goal, settings.clone()).unwrap();
        self.settled(LONG).unwrap()
    }

    /// Waits until the worker asks for a person, and says what it printed.
    pub fn asked(&self) -> String {
        self.until("a person to be asked", LONG, |_, progress| {
            progress.waiting.as_ref().is_some_and(|waiting| !waiting.next.is_empty())
        })
        .unwrap();
        self.now().unwrap().1.waiting.map(|waiting| waiting.next).unwrap_or_default()
    }

    /// The target's schema migration by a person, up to the gates.
    pub fn migrate_schema(&mut self, settings: &Settings) -> State {
        self.want_with(Goal::Migrated, settings.clone()).unwrap();
        let next = self.asked();
        let expected = format!("juju run {}-new/leader run-migration", self.world().app.name);
        assert!(next.starts_with(&expected), "{next}");
        self.run_migration().unwrap();
        self.settled(LONG).unwrap()
    }

    /// Waits for the comparison and holds it to zero differences over many rows.
    pub fn verified(&self) -> State {
        let state = self
            .until("the comparison", LONG, |state, _| state.active().is_some_and(|run| run.is_done(Step::Verify)))
            .unwrap();
        let run = state.active().unwrap();
        assert_eq!(run.output(Step::Verify, "complete").unwrap(), true, "{run:?}");
        assert_eq!(run.output(Step::Verify, "rows-different").unwrap(), 0, "{run:?}");
        assert!(run.output(Step::Verify, "rows-verified").unwrap().as_u64().unwrap() > 1000);
        state
    }

    /// The request's failure, in words.
    pub fn refused(&self) -> String {
        let state = self.until("a refusal", LONG, |state, _| state.request.is_none()).unwrap();
        state.failure.map(|failure| failure.sentence).unwrap_or_default()
    }

    /// Rolls back and looks at everything that must be as before.
    pub fn roll_back(&mut self, at: &str) {
        self.want(Goal::RolledBack).unwrap();
        let state = self.settled(LONG).unwrap();
        assert_eq!(state.phase(), Phase::Idle, "{at}");
        assert_eq!(self.left_behind().unwrap(), Vec::<String>::new(), "{at}");
        self.write_source().unwrap();
        self.assert_equal_schemas();
        self.stop_target().unwrap();
    }

    /// No password anywhere that people look at.
    pub fn assert_no_secret(&self) {
        let secret = self.source.superuser().1;
        let file = |path: &std::path::Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let places = [
            ("worker.json", file(&self.folder().join("worker.json"))),
            ("worker.log", self.worker_log()),
            (
                "the journal",
                self.on_journal(&format!(
                    "SELECT record::text FROM {schema}.entry UNION ALL SELECT value::text FROM {schema}.singleton",
                    schema = coordinator::postgres::names::JOURNAL_SCHEMA
                ))
                .unwrap(),
            ),
            ("the source's log", file(&self.source.log_path())),
            ("the target's log", file(&self.target.log_path())),
        ];
        for (place, text) in places {
            assert!(text.len() > 50, "{place} is empty");
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "a password is in {place}");
        }
    }
}
