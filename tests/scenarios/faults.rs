//! A connection that drops, hangs, is refused, is slow, or loses the reply after the server acted, in every step and on
//! either side: the coordinator, and what it tells one cluster of the other, reaches the clusters through proxies. The
//! status names the side while it lasts, what was asked for goes on when it is over, no acknowledged write is lost, both
//! sides are never open at once, and the source opens by itself when nobody reaches it any more.

use super::closing::{self, Played};
use super::hold::{self, arm};
use super::never_both::NeverBoth;
use super::rig::{self, End, SOON};
use super::story::{self, expect};
use emulator::ActionResult;
use emulator::stage::{Proxied, Stage};
use peers::writers::{Place, Settings, Writers};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const UNIT: &str = "coordinator/0";

/// What every message about a server that does not answer says.
const CURE: &str = "see that this PostgreSQL runs and can be reached";

/// By then the status tells of a server that does not answer, however busy the machine is.
const TOLD_WITHIN: Duration = Duration::from_secs(120);

/// How often an operator runs an action again.
const PATIENCE: usize = 25;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

use Side::{Source, Target};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Open connections end.
    Cut,
    /// No connection is accepted, until the status told it.
    Refuse,
    /// Nothing arrives any more, until the status told it.
    Hang,
    /// The server acts and its replies are lost, one after the other.
    LoseReplies,
    /// Everything takes a while.
    Slow,
}

use Fault::{Cut, Hang, LoseReplies, Refuse, Slow};

/// Replies that pass before each one that is lost: at the beginning of a connection, within it, and later.
const LOST: &[u64] = &[0, 3, 5, 9];

/// An action and the places at which the worker meets a fault while it is worked on.
type Leg = (&'static str, &'static [&'static str]);

const FOLLOW: Leg = (
    "replicate",
    &[
        "record-after/started/preflight",
        "record-after/started/prepare",
        "record-after/started/copy",
        "copy-snapshot",
        "copy-part/identities",
        // Of the same table: another's may come before that part.
        "copy-index/identities_pkey",
        "copy-foreign-keys",
        "record-after/started/follow",
    ],
);

const MIGRATE: Leg = (
    "run-migration",
    &[
        "record-after/started/pause",
        "record-after/started/migrate",
        "record-after/started/catch-up",
        "record-after/started/gates",
    ],
);

const DRAIN: Leg = (
    "drain",
    &[
        "record-after/started/way-back",
        "record-after/started/fence",
        "fence-table/identities",
        "record-after/started/drain",
        "record-after/started/snapshot",
    ],
);

const FLIP: Leg = (
    "flip-traffic",
    &[
        "record-after/started/hand-over",
        "record-after/noted/hand-over/closing-source",
        "fence-commit",
        "record-after/noted/hand-over/source-closed",
        "record-after/noted/hand-over/opening-target",
        "record-after/started/flip",
        "record-after/started/follow-back",
    ],
);

const FINALIZE: Leg = ("finalize", &["record-after/started/finalize"]);

const UNDO: Leg = (
    "rollback",
    &[
        "record-after/rollback-started",
        "record-after/undo-started/fence",
        "record-after/undo-started/way-back",
        "record-after/undo-started/follow",
        "record-after/undo-started/copy",
        "record-after/undo-started/prepare",
    ],
);

const RETURN: Leg = (
    "rollback",
    &[
        "record-after/started/reverse-fence",
        "record-after/started/reverse-drain",
        "record-after/started/reverse-verify",
        "record-after/started/reverse-hand-over",
        "record-after/started/reverse-flip",
    ],
);

fn plain(leg: Leg) -> Leg {
    (leg.0, &[])
}

/// The stage with its writers and with whoever watches that never both sides are open.
struct Road {
    stage: Played,
    writers: Option<Writers>,
    oracle: std::path::PathBuf,
    /// Which fault comes at which place, by turns.
    faults: Vec<(Side, Fault)>,
    met: usize,
    /// Faults that were felt: told by the status, replies lost, connections cut.
    felt: BTreeMap<String, usize>,
}

impl Road {
    fn new(name: &str, faults: &[(Side, Fault)]) -> Self {
        let stage = Played::new(Stage::proxied(rig::options(name)).unwrap());
        rig::deploy(&stage, 1);
        let oracle = std::env::temp_dir().join(format!("oracle-{name}-{}", std::process::id()));
        let settings = Settings { rate: 20.0, connections: 3, ..Settings::new(&oracle) };
        rig::refresh(&stage);
        let writers = Writers::start(&stage.source_uri(), &settings, "all").unwrap();
        Self { stage, writers: Some(writers), oracle, faults: faults.to_vec(), met: 0, felt: BTreeMap::new() }
    }

    fn writers(&self) -> &Writers {
        self.writers.as_ref().unwrap()
    }

    fn proxied(&self, side: Side) -> &Proxied {
        let proxies = self.stage.proxies.as_ref().unwrap();
        match side {
            Source => &proxies.source,
            Target => &proxies.target,
        }
    }

    /// Runs the action until it is done, as an operator would; at each place the worker meets the next fault.
    fn go(&mut self, (action, places): Leg) -> ActionResult {
        let model = self.stage.model.clone();
        let mut ahead = places.iter();
        let mut armed = ahead.next();
        if let Some(place) = armed {
            arm(&self.stage, UNIT, place, "stop");
        }
        let mut parameters = if action == "finalize" { vec![("keep-source-fenced", "false")] } else { vec![] };
        for _ in 0..PATIENCE {
            let task = model.enqueue("coordinator/leader", action, &parameters).unwrap();
            let ended = loop {
                let waited = model.wait_until("the action or the place", TOLD_WITHIN, |model| {
                    model.task(task).is_none_or(|task| task.ended()) || hold::is_reached(&self.stage, UNIT)
                });
                waited.unwrap_or_else(|error| panic!("{action}, before {armed:?}: {error:#}\n{}", self.worker_log()));
                match armed.filter(|_| hold::is_reached(&self.stage, UNIT)) {
                    Some(place) => {
                        hold::held(&self.stage, UNIT);
                        armed = ahead.next();
                        self.meet(place, armed.copied());
                    }
                    None => break model.wait_task(task, SOON).unwrap(),
                }
            };
            self.is_clear(action, &ended);
            let (outcome, next) = (ended.result("outcome"), ended.result("next"));
            if outcome == "done" {
                assert_eq!(armed, None, "{action} never came by");
                return ended;
            }
            if next.contains("run-migration timeout=") {
                let place = &self.stage.target_place;
                let ran = place.model.run(&format!("{}/leader", place.kratos), "run-migration", &[("timeout", "120")]);
                assert_eq!(ran.unwrap().status, "completed");
            }
            if next.contains("accept-unverified") && !parameters.iter().any(|(name, _)| *name == "accept-unverified") {
                parameters.push(("accept-unverified", "true"));
            }
        }
        panic!("{action} does not end; {armed:?}\n{}", self.worker_log());
    }

    /// Every answer that is not the end is one sentence with a cure, or a line of progress.
    fn is_clear(&self, action: &str, ended: &ActionResult) {
        let (outcome, message) = (ended.result("outcome"), ended.result("message"));
        eprintln!("   {action}: {outcome} — {message}");
        assert!(["done", "waiting", "running", "failed"].contains(&outcome.as_str()), "{action}: {ended:?}");
        if outcome == "failed" || message.starts_with("cannot ") {
            assert!(message.starts_with("cannot ") && message.contains(": ") && message.contains("; "), "{ended:?}");
        }
        if message.contains(CURE) {
            assert!(message.contains("(the source)") || message.contains("(the target)"), "{ended:?}");
        }
    }

    /// The worker stands still at a place. It goes on with a fault; one that lasts, lasts until it was told or until it
    /// turned out that the step did not need that side.
    fn meet(&mut self, place: &str, next: Option<&str>) {
        let (side, fault) = self.faults[self.met % self.faults.len()];
        self.met += 1;
        let Proxied { proxy, replies } = self.proxied(side);
        if let Some(next) = next {
            arm(&self.stage, UNIT, next, "stop");
        }
        let mut felt = usize::from(fault == Slow);
        let met = match fault {
            Cut => {
                felt = proxy.cut();
                self.go_on();
                format!(", {felt} connections")
            }
            LoseReplies => {
                let lost = replies.lost();
                felt = lost;
                replies.lose_in_turn(LOST);
                self.go_on();
                format!(", {lost} were lost before")
            }
            Slow => {
                proxy.slow_down(Duration::from_millis(10));
                self.go_on();
                String::new()
            }
            Refuse | Hang => {
                let began = Instant::now();
                if fault == Hang {
                    proxy.fall_silent()
                } else {
                    proxy.refuse()
                }
                self.go_on();
                let told = self.is_told(side, next);
                felt = usize::from(told);
                proxy.pass();
                match told {
                    true => format!(", told after {:.1} s", began.elapsed().as_secs_f64()),
                    false => ", and the step did not need it".to_owned(),
                }
            }
        };
        eprintln!("{place} × {side:?} × {fault:?}{met}");
        *self.felt.entry(format!("{side:?} {fault:?}")).or_default() += felt;
    }

    /// Every fault of this road really bit somewhere.
    fn was_felt(&mut self) {
        for (side, fault) in self.faults.clone() {
            let late = if fault == LoseReplies { self.proxied(side).replies.lost() } else { 0 };
            let felt = self.felt.get(&format!("{side:?} {fault:?}")).copied().unwrap_or(0) + late;
            assert!(felt > 0, "{side:?} × {fault:?} was never felt: {:?}", self.felt);
        }
    }

    fn go_on(&self) {
        hold::thaw(&self.stage, UNIT);
    }

    /// Waits until the status tells that this side cannot be reached; false when the worker comes by the next place
    /// before, or has nothing left to do.
    fn is_told(&self, side: Side, next: Option<&str>) -> bool {
        let model = &self.stage.model;
        let (side, address) = match side {
            Source => ("(the source)", self.proxied(Source).endpoint()),
            Target => ("(the target)", self.proxied(Target).endpoint()),
        };
        let mut told = false;
        let waited = model.wait_until("the fault to be told", TOLD_WITHIN, |model| {
            let (_, message) = model.status(UNIT).unwrap_or_default();
            told = message.contains(&format!("{address} {side}")) && message.contains(CURE);
            told || (next.is_some() && hold::is_reached(&self.stage, UNIT))
        });
        waited.unwrap_or_else(|error| panic!("{error:#}\n{}", self.worker_log()));
        if told {
            let (word, message) = model.status(UNIT).unwrap();
            eprintln!("   {word}: {message}");
        }
        told
    }

    fn worker_log(&self) -> String {
        let folder = self.stage.model.charm_folder(UNIT).unwrap();
        let log = std::fs::read_to_string(folder.join("worker.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// No fault any more.
    fn mend(&self) {
        for side in [Source, Target] {
            let Proxied { proxy, replies } = self.proxied(side);
            proxy.pass();
            replies.lose_none();
        }
    }

    /// Writers go on at this side, and are heard there.
    fn move_to(&self, side: Side) {
        let uri = if side == Source { self.stage.source_uri() } else { self.stage.target_uri() };
        self.writers().move_to(&uri);
        self.writes();
    }

    /// Waits until writers are heard.
    fn writes(&self) {
        let before = self.writers().acknowledged();
        let heard = |_: &emulator::Model| self.writers().acknowledged() > before + 10;
        self.stage.model.wait_until("writes", SOON, heard).unwrap();
    }

    /// Stops the writers; every write that was acknowledged is on this side, once.
    fn nothing_is_lost(&mut self, side: Side) {
        self.was_felt();
        self.mend();
        let record = self.writers.take().unwrap().stop().unwrap();
        assert_eq!(record.unexpected, Vec::<String>::new());
        let uri = if side == Source { self.stage.source_uri() } else { self.stage.target_uri() };
        let verdict = record.oracle.check(&uri).unwrap();
        assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
        assert!(verdict.acknowledged > 30, "{verdict:?}");
        std::fs::remove_file(&self.oracle).unwrap();
    }
}

/// There with faults, and to the end.
fn there(name: &str, faults: &[(Side, Fault)]) {
    let mut road = Road::new(name, faults);
    road.go(FOLLOW);
    road.go(MIGRATE);
    let never = NeverBoth::watch(&road.stage);
    road.go(DRAIN);
    road.go(FLIP);
    road.move_to(Target);
    never.end();
    rig::consumer_uses(&road.stage, &road.stage.kratos_new);
    road.nothing_is_lost(Target);
    // What finalize ends is the way back: whatever comes after stays on the target alone.
    closing::same_rows(&road.stage);
    road.go(FINALIZE);
    rig::close(&road.stage, End::Both);
}

/// Back with faults: before the flip and after it.
fn back(name: &str, faults: &[(Side, Fault)]) {
    let mut road = Road::new(name, faults);
    for leg in [FOLLOW, MIGRATE, DRAIN] {
        road.go(plain(leg));
    }
    road.go(UNDO);
    road.mend();
    road.writes();
    assert_eq!(expect(&road.stage.model, "show", &[], "done").result("phase"), "idle");
    road.stage.kratos_new.kill_servers();
    road.go(plain(FOLLOW));
    road.go(plain(MIGRATE));
    let never = NeverBoth::watch(&road.stage);
    road.go(plain(DRAIN));
    road.go(plain(FLIP));
    // The target of a migration that was taken back is nobody's any more.
    road.writers().move_among(&[Place { uri: road.stage.target_uri(), only_while_fenced: true }]);
    road.writes();
    road.go(RETURN);
    never.end();
    road.move_to(Source);
    rig::consumer_uses(&road.stage, &road.stage.kratos);
    road.nothing_is_lost(Source);
    rig::close(&road.stage, End::Source);
}

#[test]
fn replies_lost_and_connections_cut_on_both_sides_on_the_way_there() {
    there(
        "faults-there",
        &[(Source, LoseReplies), (Target, LoseReplies), (Source, Cut), (Target, LoseReplies), (Target, Cut)],
    );
}

macro_rules! slow {
    ($($name:ident: $road:ident, $side:ident, $fault:ident;)*) => {$(
        #[test]
        #[ignore = "slow: make test-all"]
        fn $name() {
            $road(concat!("faults-", stringify!($name)), &[($side, $fault)]);
        }
    )*};
}

slow! {
    there_source_cut: there, Source, Cut;
    there_source_refuses: there, Source, Refuse;
    there_source_hangs: there, Source, Hang;
    there_source_loses_replies: there, Source, LoseReplies;
    there_source_is_slow: there, Source, Slow;
    there_target_cut: there, Target, Cut;
    there_target_refuses: there, Target, Refuse;
    there_target_hangs: there, Target, Hang;
    there_target_loses_replies: there, Target, LoseReplies;
    there_target_is_slow: there, Target, Slow;
    back_source_cut: back, Source, Cut;
    back_source_refuses: back, Source, Refuse;
    back_source_hangs: back, Source, Hang;
    back_source_loses_replies: back, Source, LoseReplies;
    back_source_is_slow: back, Source, Slow;
    back_target_cut: back, Target, Cut;
    back_target_refuses: back, Target, Refuse;
    back_target_hangs: back, Target, Hang;
    back_target_loses_replies: back, Target, LoseReplies;
    back_target_is_slow: back, Target, Slow;
}

/// Every look that only looks says which side does not answer, in bounded time.
#[test]
#[ignore = "slow: make test-all"]
fn looking_at_a_side_that_hangs_ends_with_its_name() {
    let road = Road::new("faults-looks", &[]);
    let model = &road.stage.model;
    let mut told = BTreeSet::new();
    for side in [Source, Target] {
        road.proxied(side).proxy.fall_silent();
        for action in ["preflight", "verify", "show"] {
            let began = Instant::now();
            let ended = story::run(model, action, &[]);
            let took = began.elapsed();
            assert!(took < SOON, "{action} took {took:?}: {ended:?}");
            if ended.message.contains(&road.proxied(side).endpoint()) {
                told.insert(format!("{side:?} {action}"));
            }
        }
        road.proxied(side).proxy.pass();
        expect(model, "preflight", &[], "done");
    }
    assert!(told.contains("Source preflight") && told.contains("Target preflight"), "{told:?}");
    road.writes();
    drop(road.writers);
    rig::close(&road.stage, End::Source);
}

/// With nobody there who could reach it, the source opens when its lease is over: in the drain, and even between the
/// update that closes it for good and its commit. What was asked for is asked for again, and ends well.
fn source_opens_by_itself(name: &str, place: &str) {
    let mut road = Road::new(name, &[]);
    road.go(plain(FOLLOW));
    road.go(plain(MIGRATE));
    let never = NeverBoth::watch(&road.stage);
    let model = road.stage.model.clone();
    arm(&road.stage, UNIT, place, "stop");
    let task = model.enqueue("coordinator/leader", "cut-over", &[("outage-limit", "30")]).unwrap();
    hold::held(&road.stage, UNIT);
    assert!(!rig::writable(&road.stage.source, &road.stage.source_place.database()));
    let began = Instant::now();
    road.proxied(Source).proxy.fall_silent();
    road.go_on();
    road.writes();
    let closed = began.elapsed();
    eprintln!("{place}: writers were heard again {:.1} s after the last word", closed.as_secs_f64());
    // The lease of 30 s began before that word; the rest is this machine's.
    assert!(closed < Duration::from_secs(45), "{closed:?}");
    road.proxied(Source).proxy.pass();
    let ended = model.wait_task(task, TOLD_WITHIN).unwrap();
    road.is_clear("cut-over", &ended);
    for _ in 0..PATIENCE {
        let ended = story::run(&model, "cut-over", &[]);
        road.is_clear("cut-over", &ended);
        if ended.result("outcome") == "done" {
            break;
        }
    }
    road.move_to(Target);
    never.end();
    road.nothing_is_lost(Target);
    rig::close(&road.stage, End::Target);
}

#[test]
#[ignore = "slow: make test-all"]
fn the_source_opens_by_itself_when_its_commit_never_comes() {
    source_opens_by_itself("faults-lease-commit", "fence-commit");
}

#[test]
#[ignore = "slow: make test-all"]
fn the_source_opens_by_itself_when_the_drain_hangs() {
    source_opens_by_itself("faults-lease-drain", "record-after/started/drain");
}

#[test]
#[ignore = "slow: make test-all"]
fn the_source_opens_by_itself_when_the_fence_hangs() {
    source_opens_by_itself("faults-lease-fence", "record-before/done/fence");
}
