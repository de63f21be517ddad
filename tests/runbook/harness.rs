//! Every step done twice, undone twice and done again, and the road back after the flip, with replies lost all the way:
//! one harness that knows nothing of the step. A reply is lost in each attempt, each time a later one, so every statement's end is met once: the server
//! acted and the coordinator never heard of it.

use super::rig::{LONG, Rig};
use coordinator::migration::journal::Request;
use coordinator::migration::runbook::{REHEARSAL, REVERSAL, runbook};
use coordinator::migration::{Class, Goal, Next, OrderChoice, Progress, Record, Settings, State, Status, Step, plan};
use coordinator::steps::{self, Answer, Applications, Context, Live, Outcome, ProgressSink, Store, World};
use peers::proxy::{Proxy, Replies};
use peers::wait_for;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a step may leave in one database: every object's name, and the application's rows. A paused subscription and
/// carried sequences go with other steps' undo.
const OBJECTS: &str = "
SELECT 'trigger ' || tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc p WHERE oid >= 16384
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
UNION ALL SELECT 'relation ' || oid::regclass FROM pg_class WHERE oid >= 16384 AND relkind <> 't'
  AND relnamespace::regnamespace::text !~ '^pg_'
UNION ALL SELECT 'column ' || attrelid::regclass || '.' || attname || ' ' || format_type(atttypid, atttypmod)
FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE c.relnamespace = 'public'::regnamespace AND attnum > 0
  AND NOT attisdropped
UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || convalidated FROM pg_constraint
WHERE conrelid >= 16384
UNION ALL SELECT 'publication ' || pubname FROM pg_publication
UNION ALL SELECT 'subscription ' || subname FROM pg_subscription
UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE NOT temporary
UNION ALL SELECT 'rows ' || table_name || ' ' || md5(query_to_xml(
  format('SELECT * FROM public.%I t ORDER BY t::text', table_name), false, false, '')::text)
FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
ORDER BY 1";

/// No reply so late is ever sent.
const ENOUGH: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Do,
    /// Done once more, because the first time was not recorded.
    DoAgain,
    Undo,
    UndoAgain,
}

/// The worker's place, taken by the test: both servers are behind proxies, the journal is not.
struct Bench {
    rig: Rig,
    world: World,
    applications: Applications,
    store: Store,
    replies: Arc<Replies>,
    _proxies: [Proxy; 2],
    runtime: tokio::runtime::Runtime,
    state: State,
    live: Live,
    sink: ProgressSink,
    request: Request,
    epoch: i64,
    migrated: bool,
    /// How much farther than the last one the next lost reply is, in hundredths.
    stride: u64,
    /// Where the next lost reply is; a step that must be done once more goes on from there.
    reached: BTreeMap<(Step, Way), u64>,
    cannot_be_done_again: Vec<Step>,
    lost: u64,
}

impl Bench {
    fn new(settings: Settings, stride: u64) -> Self {
        let rig = Rig::new(14, 16, 150).unwrap();
        let replies = Arc::new(Replies::default());
        let mut world = rig.world().clone();
        let proxy = |server: &mut coordinator::postgres::Server| {
            let proxy = Proxy::start(&server.host, server.port, &replies).unwrap();
            "127.0.0.1".clone_into(&mut server.host);
            server.port = proxy.port();
            proxy
        };
        let proxies = [proxy(&mut world.source), proxy(&mut world.target)];
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (store, applications) = runtime.block_on(async {
            let store = Store::open(&rig.world().target, &rig.world().journal_database, "test").await.unwrap();
            let applications = store.applications().await.unwrap().unwrap();
            (store, applications)
        });
        // Nothing may be left in the end, and the harness judges the rows by itself.
        let plain = Request::plain("test", Goal::Finalized);
        let request = Request { settings, keep_source_fenced: false, accept_unverified: true, ..plain };
        Self {
            rig,
            world,
            applications,
            store,
            replies,
            _proxies: proxies,
            runtime,
            state: State::default(),
            live: Live::default(),
            sink: ProgressSink::default(),
            epoch: 1,
            request,
            migrated: false,
            stride,
            reached: BTreeMap::new(),
            cannot_be_done_again: Vec::new(),
            lost: 0,
        }
    }

    /// Asks, as an action does.
    fn ask(&mut self, goal: Goal) {
        self.request.goal = goal;
        let request = self.request.clone();
        self.record(Record::Requested(request));
    }

    fn record(&mut self, record: Record) {
        let written = async {
            self.store.append(&record).await.unwrap();
            self.store.refresh(&mut self.state).await.unwrap();
        };
        self.runtime.block_on(written);
    }

    fn with_context<T>(
        &mut self,
        make: impl for<'c, 'd> FnOnce(&'c mut Context<'d>) -> std::pin::Pin<Box<dyn Future<Output = T> + Send + 'c>>,
    ) -> T {
        let mut context = Context {
            controller: &Default::default(),
            charm_file: Default::default(),
            world: &self.world,
            applications: &self.applications,
            store: &self.store,
            state: &mut self.state,
            request: self.request.clone(),
            epoch: self.epoch,
            progress: &self.sink,
            live: &mut self.live,
        };
        self.runtime.block_on(make(&mut context))
    }

    fn attempt(&mut self, step: Step, way: Way) -> Answer {
        self.with_context(|context| match way {
            Way::Do | Way::DoAgain => Box::pin(steps::perform(step, context)),
            Way::Undo | Way::UndoAgain => Box::pin(steps::undo(step, context)),
        })
    }

    /// Attempts until the end is observed; a reply is lost in every attempt, each time a later one. Answers nothing when
    /// the watch found that an earlier step is true no more.
    fn finish(&mut self, step: Step, way: Way) -> Option<serde_json::Value> {
        let what = format!("the end of {way:?} {}", step.name());
        let replies = Arc::clone(&self.replies);
        let mut lose_after = self.reached.get(&(step, way)).copied().unwrap_or(0);
        self.replies.lose_after(lose_after);
        let mut end = |bench: &mut Self| -> Result<Option<serde_json::Value>, String> {
            let answer = bench.attempt(step, way);
            if replies.lose_none() {
                bench.lost += 1;
                lose_after += 1 + lose_after * bench.stride / 100;
                bench.reached.insert((step, way), lose_after);
            }
            let seen = match answer {
                Ok(Outcome::Done(output)) => return Ok(Some(output)),
                Ok(Outcome::Again(_)) => format!("not yet: {:?}", bench.sink.read()),
                Ok(Outcome::Wait(waiting)) => {
                    bench.person(&waiting.next);
                    waiting.reason
                }
                Err(failure) => {
                    // Before anything is touched the operator is told at once.
                    assert!(
                        failure.class == Class::Retry || step == Step::Preflight,
                        "{what}, reply {lose_after} lost: {failure}"
                    );
                    failure.sentence
                }
            };
            bench.hook();
            if matches!(way, Way::Do | Way::DoAgain) && bench.finds_something_lost() {
                return Ok(None);
            }
            bench.replies.lose_after(lose_after);
            Err(seen)
        };
        let output = wait_for(&what, LONG * 3, || end(self)).unwrap();
        self.replies.lose_none();
        if output.is_some() {
            self.reached.insert((step, way), ENOUGH);
        }
        output
    }

    /// What the worker looks at between two attempts.
    fn finds_something_lost(&mut self) -> bool {
        let found = self.with_context(|context| Box::pin(steps::watch(context))).unwrap();
        let lost = matches!(found, Some(Record::Lost { .. } | Record::Lifted { .. }));
        if let Some(record) = found {
            eprintln!("{}", steps::explain(&record));
            self.record(record);
        }
        lost
    }

    /// The operator does what was printed.
    fn person(&mut self, next: &str) {
        if next.contains("run-migration") && !self.migrated {
            self.rig.run_migration().unwrap();
            self.migrated = true;
        }
    }

    /// What a hook does: the consumers are told.
    fn hook(&mut self) {
        self.rig.broker(&self.state).unwrap();
        self.runtime.block_on(self.store.refresh(&mut self.state)).unwrap();
    }

    /// The worker died and another one took over.
    fn forget(&mut self) {
        self.live = Live::default();
        self.sink.update(|progress| *progress = Progress::default());
        self.epoch += 1;
        let (world, state, epoch) = (&self.world, &self.state, self.epoch);
        wait_for("the take-over", LONG, || self.runtime.block_on(steps::take_over(world, state, epoch))).unwrap();
    }

    fn objects(&self) -> Vec<String> {
        let (source, target) = (self.rig.on_source(OBJECTS).unwrap(), self.rig.on_target(OBJECTS).unwrap());
        let named = |side: &str, text: String| text.lines().map(|line| format!("{side}: {line}")).collect::<Vec<_>>();
        [named("source", source), named("target", target)].concat()
    }

    fn assert_objects(&self, what: &str, before: &[String]) {
        let now = self.objects();
        let missing: Vec<_> = before.iter().filter(|line| !now.contains(line)).collect();
        let new: Vec<_> = now.iter().filter(|line| !before.contains(line)).collect();
        assert!(missing.is_empty() && new.is_empty(), "{what}: missing {missing:#?}, new {new:#?}");
    }

    /// Does what the plan says, as far as before this step, or until what was asked for is reached.
    fn go(&mut self, before: Option<Step>) {
        loop {
            match plan::next(&self.state) {
                Next::Do(step) if Some(step) == before => return,
                Next::Begin => {
                    let started = self.with_context(|context| Box::pin(steps::begin(context))).unwrap();
                    self.record(started);
                }
                Next::Do(step) => self.does(step),
                Next::Rehearse => self.record(Record::RehearsalStarted),
                Next::RollBack => self.record(Record::RollbackStarted),
                Next::Undo(step) => self.undoes(step),
                Next::End => self.record(Record::RunEnded),
                Next::Reached => {
                    return self.record(Record::Settled { request: self.state.request_seq, failure: None });
                }
                next @ (Next::TooLate | Next::NoRehearsal | Next::Rest | Next::Sweep | Next::Adopt) => {
                    panic!("{next:?}")
                }
            }
        }
    }

    /// Does a step, does it again as if the first time had not been recorded, and records it.
    fn does(&mut self, step: Step) {
        let before = self.lost;
        if self.state.active().is_some_and(|run| run.status(step) != Status::Doing) {
            self.record(Record::Started { step });
        }
        let Some(first) = self.finish(step, Way::Do) else { return };
        // The comparison lives in the worker that took the snapshots.
        if self.live.comparison.is_none() {
            self.forget();
        }
        let again =
            if self.cannot_be_done_again.contains(&step) { Some(first) } else { self.finish(step, Way::DoAgain) };
        match again {
            Some(output) => self.record(Record::Done { step, output }),
            // It leads back to an earlier step by design; once more would lead back again.
            None => self.cannot_be_done_again.push(step),
        }
        if step == Step::Reset {
            self.rig.stop_target().unwrap();
            self.migrated = false;
        }
        eprintln!("{}: {} replies lost", step.name(), self.lost - before);
    }

    /// Undoes a step, and again as if that had not been recorded.
    fn undoes(&mut self, step: Step) {
        let before = self.lost;
        self.record(Record::UndoStarted { step });
        self.finish(step, Way::Undo);
        self.forget();
        self.finish(step, Way::UndoAgain);
        self.record(Record::Undone { step });
        if step == Step::Migrate {
            // The operator leads the application's server back to where it was.
            self.rig.stop_target().unwrap();
            self.migrated = false;
        }
        eprintln!("{} undone: {} replies lost", step.name(), self.lost - before);
    }
}

/// Forward to the last step that can be undone and all the way back; forward beyond the flip and back by the other
/// road; and forward to the end.
fn there_and_back_and_there(settings: Settings, stride: u64) {
    let mut bench = Bench::new(settings, stride);
    let before = bench.objects();
    bench.ask(Goal::Flipped);
    bench.go(Some(Step::HandOver));
    bench.ask(Goal::RolledBack);
    bench.go(None);
    bench.assert_objects("everything done and undone", &before);
    bench.ask(Goal::Flipped);
    bench.go(None);
    bench.ask(Goal::RolledBack);
    bench.go(None);
    bench.assert_objects("there and back after the flip", &before);
    for goal in [Goal::Flipped, Goal::Finalized] {
        bench.ask(goal);
        bench.go(None);
    }
    assert_eq!(bench.rig.left_behind().unwrap(), Vec::<String>::new());
    assert!(bench.lost > 100, "only {} replies were lost", bench.lost);
    let begun = |step: &Step| bench.reached.contains_key(&(*step, Way::Do));
    let book = runbook(bench.state.run.as_ref().unwrap().order, false);
    let left_out: Vec<_> = book.iter().chain(REVERSAL).filter(|step| !begun(step)).collect();
    assert!(left_out.is_empty(), "{left_out:?}");
    bench.rig.assert_equal();
}

/// A rehearsal, and back.
fn rehearsed(settings: Settings) {
    let mut bench = Bench::new(settings, 0);
    let before = bench.objects();
    bench.ask(Goal::Following);
    bench.go(None);
    let following = bench.objects();
    bench.ask(Goal::Rehearsed);
    bench.go(None);
    // But for the rows, which users may change at any time, and the messages between, all is as before.
    bench.assert_objects("a rehearsal", &following);
    bench.ask(Goal::RolledBack);
    bench.go(None);
    bench.assert_objects("a rehearsal undone", &before);
    let begun = |step: &Step| bench.reached.contains_key(&(*step, Way::Do));
    let left_out: Vec<_> = REHEARSAL.iter().filter(|step| !begun(step)).collect();
    assert!(left_out.iter().all(|step| **step == Step::Refresh), "{left_out:?}");
    assert!(bench.lost > 100, "only {} replies were lost", bench.lost);
}

#[test]
#[ignore = "slow: make test-all"]
fn a_rehearsal_with_every_reply_lost() {
    rehearsed(Settings::default());
}

#[test]
#[ignore = "slow: make test-all"]
fn a_rehearsal_in_the_documented_order_with_every_reply_lost() {
    rehearsed(Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() });
}

#[test]
fn migrate_first() {
    there_and_back_and_there(Settings::default(), 100);
}

#[test]
#[ignore = "slow: make test-all"]
fn migrate_first_with_every_reply_lost() {
    there_and_back_and_there(Settings::default(), 0);
}

#[test]
#[ignore = "slow: make test-all"]
fn the_documented_order() {
    there_and_back_and_there(
        Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() },
        100,
    );
}

#[test]
#[ignore = "slow: make test-all"]
fn the_documented_order_with_every_reply_lost() {
    there_and_back_and_there(Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() }, 0);
}
