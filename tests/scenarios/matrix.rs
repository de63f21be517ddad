//! Every action in every phase, by two tables that can be read: an action that fits is run twice, and the second
//! time changes nothing in either database and in no databag; one that does not fit is refused with the command to
//! run instead, and changes nothing either.
//!
//! `done` and `waiting` are the answers of a worker that lives. `asked` means that the run would move on: there the
//! worker is held still meanwhile, and the request is in the journal once. `>action` is a refusal that names that
//! action.

use super::closing::Played;
use super::hold;
use super::rig::{self, End};
use super::story::{expect, run};
use emulator::ActionResult;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const UNIT: &str = "coordinator/0";

/// `migrated`: following (or drained, in the documented order) with the new schema and every gate passed.
///
/// `rehearsal`: migrating, but not for good.
const MIGRATE_FIRST: [&str; 3] = [
    "
                idle        prepared    copying     rolling-back  following       migrating       migrated
preflight       done        done        done        done          done            done            done
replicate       asked       asked       asked       >rollback     done            >run-migration  done
verify          >replicate  >replicate  >replicate  >rollback     done            >run-migration  done
drain           >replicate  >replicate  >replicate  >rollback     >run-migration  >run-migration  asked
refresh         done        asked       >replicate  >rollback     done            >run-migration  done
run-migration   >replicate  >replicate  >replicate  >rollback     asked           waiting         done
flip-traffic    >replicate  >replicate  >replicate  >rollback     >run-migration  >run-migration  >drain
cut-over        >replicate  >replicate  >replicate  >rollback     >run-migration  >run-migration  asked
migrate         asked       asked       asked       >rollback     asked           waiting         asked
rehearse        asked       asked       asked       >rollback     asked           >run-migration  >cut-over
rollback        done        asked       asked       asked         asked           asked           asked
finalize        >preflight  >replicate  >replicate  >rollback     >run-migration  >run-migration  >cut-over
upgrade-in-place >replicate >replicate  >replicate  >rollback     >run-migration  >run-migration  >cut-over
show            done        done        done        done          done            done            done
",
    "
                fenced      drained        opened         flipped     finalized  reversing
preflight       done        done           done           done        >show      done
replicate       >drain      >flip-traffic  >flip-traffic  >finalize   >show      >rollback
verify          >drain      >flip-traffic  >flip-traffic  >finalize   >show      >rollback
drain           asked       done           >flip-traffic  >finalize   >show      >rollback
refresh         >drain      done           >flip-traffic  >finalize   >show      >rollback
run-migration   >drain      done           >flip-traffic  >finalize   >show      >rollback
flip-traffic    >drain      asked          asked          done        >show      >rollback
cut-over        asked       asked          asked          done        >show      >rollback
migrate         asked       asked          asked          done        >show      >rollback
rehearse        >drain      >flip-traffic  >flip-traffic  >finalize   >show      >rollback
rollback        asked       asked          asked          asked       >show      asked
finalize        >drain      >flip-traffic  >flip-traffic  asked       done       >rollback
upgrade-in-place >drain     >flip-traffic  >flip-traffic  >finalize   >show      >rollback
show            done        done           done           done        done       done
",
    "
                rehearsal
preflight       done
replicate       asked
verify          >rehearse
drain           >rehearse
refresh         >rehearse
run-migration   >rehearse
flip-traffic    >rehearse
cut-over        >rehearse
migrate         >rehearse
rehearse        waiting
rollback        asked
finalize        >rehearse
upgrade-in-place >rehearse
show            done
",
];

const DOCUMENTED: [&str; 2] = [
    "
                idle        prepared    copying     rolling-back  following   fenced
preflight       done        done        done        done          done        done
replicate       asked       asked       asked       >rollback     done        >drain
verify          >replicate  >replicate  >replicate  >rollback     done        >drain
drain           >replicate  >replicate  >replicate  >rollback     asked       asked
refresh         done        asked       >replicate  >rollback     done        >drain
run-migration   >replicate  >replicate  >replicate  >rollback     >drain      >drain
flip-traffic    >replicate  >replicate  >replicate  >rollback     >drain      >drain
cut-over        >replicate  >replicate  >replicate  >rollback     asked       asked
migrate         asked       asked       asked       >rollback     asked       asked
rehearse        asked       asked       asked       >rollback     asked       >drain
rollback        done        asked       asked       asked         asked       asked
finalize        >preflight  >replicate  >replicate  >rollback     >cut-over   >drain
upgrade-in-place >replicate >replicate  >replicate  >rollback     >cut-over   >drain
show            done        done        done        done          done        done
",
    "
                drained         migrating       migrated       opened         flipped     finalized  reversing
preflight       done            done            done           done           done        >show      done
replicate       >run-migration  >run-migration  >flip-traffic  >flip-traffic  >finalize   >show      >rollback
verify          >run-migration  >run-migration  >flip-traffic  >flip-traffic  >finalize   >show      >rollback
drain           done            >run-migration  done           >flip-traffic  >finalize   >show      >rollback
refresh         done            >run-migration  done           >flip-traffic  >finalize   >show      >rollback
run-migration   asked           waiting         done           >flip-traffic  >finalize   >show      >rollback
flip-traffic    asked           waiting         asked          asked          done        >show      >rollback
cut-over        asked           waiting         asked          asked          done        >show      >rollback
migrate         asked           waiting         asked          asked          done        >show      >rollback
rehearse        >run-migration  >run-migration  >flip-traffic  >flip-traffic  >finalize   >show      >rollback
rollback        asked           asked           asked          asked          asked       >show      asked
finalize        >run-migration  >run-migration  >flip-traffic  >flip-traffic  asked       done       >rollback
upgrade-in-place >run-migration >run-migration  >flip-traffic  >flip-traffic  >finalize   >show      >rollback
show            done            done            done           done           done        done       done
",
];

/// What each action answers in each column.
type Table = BTreeMap<String, BTreeMap<String, &'static str>>;

/// Reads a table and insists that nothing is missing: every action of actions.yaml in every phase there is.
fn read(parts: &'static [&'static str]) -> Table {
    let mut table = Table::new();
    for part in parts {
        let mut lines = part.trim_matches('\n').lines();
        let columns: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        for line in lines {
            let mut cells = line.split_whitespace();
            let action = cells.next().unwrap();
            for (column, cell) in columns.iter().zip(cells.by_ref()) {
                let known = table.entry((*column).to_owned()).or_default().insert(action.to_owned(), cell);
                assert_eq!(known, None, "{action} in {column} is there twice");
            }
            assert_eq!(cells.next(), None, "{line}");
        }
    }
    let yaml = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/actions.yaml")).unwrap();
    let mut actions: BTreeMap<String, serde_yaml::Value> = serde_yaml::from_str(&yaml).unwrap();
    // These move no phase; their own scenarios play them.
    for aside in ["back-up", "adopt"] {
        actions.remove(aside);
    }
    for (column, answers) in &table {
        let (there, wanted): (BTreeSet<_>, BTreeSet<_>) = (answers.keys().collect(), actions.keys().collect());
        assert_eq!(there, wanted, "{column}");
    }
    let is_phase = |column: &&str| !["migrated", "rehearsal"].contains(column);
    let columns: BTreeSet<&str> = table.keys().map(String::as_str).filter(is_phase).collect();
    assert_eq!(columns, coordinator::migration::Phase::ALL.iter().map(|phase| phase.name()).collect());
    table
}

/// One run of a table.
struct Board {
    stage: Played,
    table: Table,
    /// The phase behind the column `migrated`.
    migrated: &'static str,
}

impl Board {
    /// Goes through one column. `held`: the worker stands still already. `road` is the action that leads on; it is
    /// asked for last of all, and the worker is left standing still when anything was asked for.
    fn column(&self, column: &str, held: bool, road: &str) {
        let began = Instant::now();
        let answers = &self.table[column];
        let of =
            |wanted: &'static str| answers.iter().filter(move |(_, answer)| **answer == wanted).map(|(name, _)| name);
        eprintln!("-- {column}");
        let before = rig::picture(&self.stage);
        for (action, answer) in answers.iter().filter(|(_, answer)| answer.starts_with('>')) {
            self.keep_fresh();
            let result = rig::refused(&self.stage.model, action, &[], &answer[1..]);
            self.stands_in(column, &result);
        }
        rig::assert_same(&format!("what does not fit in {column}"), &before, &rig::picture(&self.stage));
        let before = rig::without_journal(&before);
        for time in ["once", "twice"] {
            for action in of("done") {
                self.keep_fresh();
                self.stands_in(column, &expect(&self.stage.model, action, &[], "done"));
            }
            let what = format!("what is done already in {column}, {time},");
            rig::assert_same(&what, &before, &rig::databases(&self.stage));
        }
        for action in of("waiting") {
            self.ask(action);
            let once = rig::journal(&self.stage);
            self.keep_fresh();
            self.stands_in(column, &expect(&self.stage.model, action, &[], "waiting"));
            assert_eq!(once, rig::journal(&self.stage), "{action} in {column}, twice, is in the journal twice");
        }
        let mut asked: Vec<&String> = of("asked").filter(|action| *action != road).collect();
        asked.extend(of("asked").filter(|action| *action == road));
        if !asked.is_empty() && !held {
            hold::freeze(&self.stage, UNIT);
        }
        for action in &asked {
            self.ask(action);
            let once = rig::journal(&self.stage);
            self.ask(action);
            assert_eq!(once, rig::journal(&self.stage), "{action} in {column}, twice, is in the journal twice");
        }
        if let Some(action) = asked.last().filter(|action| **action != "finalize") {
            self.watch(column, action);
        }
        rig::assert_same(&format!("what was asked for, or waits, in {column}"), &before, &rig::databases(&self.stage));
        eprintln!("-- {column}: {:.1} s", began.elapsed().as_secs_f32());
    }

    /// Asks while the worker stands still. Nobody waits for the action's own wait: it ends as it begins to watch.
    fn ask(&self, action: &str) {
        self.keep_fresh();
        hold::killed(&self.stage, UNIT, "action-watch", action, &[]);
    }

    /// Asks and watches while the worker stands still: the answer comes when the wait is over, and not later.
    fn watch(&self, column: &str, action: &str) {
        self.keep_fresh();
        let began = Instant::now();
        let result = run(&self.stage.model, action, &[("wait", "1")]);
        assert!(["running", "waiting"].contains(&result.result("outcome").as_str()), "{action}: {result:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "{action} in {column}: {:?}", began.elapsed());
        self.stands_in(column, &result);
    }

    fn stands_in(&self, column: &str, result: &ActionResult) {
        let phase = match column {
            "migrated" => self.migrated,
            "rehearsal" => "migrating",
            phase => phase,
        };
        assert_eq!(result.result("phase"), phase, "{result:?}");
    }

    /// A worker that is held is not to be taken for a frozen one.
    fn keep_fresh(&self) {
        hold::age(&self.stage, UNIT, Duration::ZERO);
    }

    /// Lets the worker go on to a place where it stands still again.
    fn on_to(&self, place: &str) {
        hold::arm(&self.stage, UNIT, place, "stop");
        hold::thaw(&self.stage, UNIT);
        hold::held(&self.stage, UNIT);
    }

    /// Lets the worker go on to where this action says that it is done.
    fn on_until(&self, action: &str, outcome: &str) {
        hold::thaw(&self.stage, UNIT);
        let wait: &[(&str, &str)] = if action == "finalize" { &[] } else { &[("wait", "120")] };
        expect(&self.stage.model, action, wait, outcome);
    }

    /// From nothing begun to following, with a rollback out of the copy.
    fn to_following(&self) {
        // Every unit's update-status comes between the actions; here it would only take time.
        self.stage.model.set_update_status_interval(Duration::from_secs(60));
        rig::refresh(&self.stage);
        self.column("idle", false, "replicate");
        self.on_to("record-after/done/prepare");
        self.column("prepared", true, "replicate");
        self.on_to("record-before/done/copy");
        self.column("copying", true, "rollback");
        self.on_to("record-after/rollback-started");
        self.column("rolling-back", true, "rollback");
        self.on_until("rollback", "done");
        rig::follow(&self.stage);
        expect(&self.stage.model, "refresh", &[], "done");
    }

    /// Has the schema migrated; the target's own charm starts its server in its next update-status.
    fn migrate_on(&self) {
        self.stage.model.set_update_status_interval(Duration::from_secs(2));
        rig::migrate_on(&self.stage);
        self.stage.model.set_update_status_interval(Duration::from_secs(60));
    }

    /// From everything ready to the end.
    fn hand_over(&self) {
        self.on_to("record-after/done/hand-over");
        self.column("opened", true, "flip-traffic");
        self.on_until("flip-traffic", "done");
        rig::consumer_uses(&self.stage, &self.stage.kratos_new);
        let model = &self.stage.model;
        // The comparison runs beside the hand-over.
        let compared = |model: &emulator::Model| run(model, "show", &[]).result("rows-different") == "0";
        model.wait_until("the comparison", rig::SOON, compared).unwrap();
        self.column("flipped", false, "finalize");
        self.on_until("finalize", "done");
        self.column("finalized", false, "");
        rig::consumer_uses(&self.stage, &self.stage.kratos_new);
        rig::close(&self.stage, End::Target);
    }
}

#[test]
fn every_action_in_every_phase_of_migrate_first() {
    let board = Board { table: read(&MIGRATE_FIRST), stage: rig::stage("matrix", 1), migrated: "following" };
    board.to_following();
    board.column("following", false, "run-migration");
    board.on_until("run-migration", "waiting");
    board.column("migrating", false, "rollback");
    // What was asked for last is what counts.
    let instead = run(&board.stage.model, "run-migration", &[("wait", "1")]);
    assert_eq!(instead.result("phase"), "migrating", "{instead:?}");
    board.on_until("run-migration", "waiting");
    board.migrate_on();
    board.column("migrated", false, "drain");
    board.on_to("record-after/done/fence");
    board.column("fenced", true, "drain");
    board.on_until("drain", "done");
    board.column("drained", false, "flip-traffic");
    board.hand_over();
}

#[test]
#[ignore = "slow: make test-all"]
fn every_action_in_a_rehearsal() {
    let board = Board { table: read(&MIGRATE_FIRST), stage: rig::stage("matrix-rehearsal", 1), migrated: "following" };
    rig::refresh(&board.stage);
    rig::follow(&board.stage);
    expect(&board.stage.model, "rehearse", &[("wait", "60")], "waiting");
    board.column("rehearsal", false, "rollback");
    board.on_until("rollback", "done");
    rig::close(&board.stage, End::Source);
}

#[test]
#[ignore = "slow: make test-all"]
fn every_action_on_the_road_back() {
    let board = Board { table: read(&MIGRATE_FIRST), stage: rig::stage("matrix-back", 1), migrated: "following" };
    rig::refresh(&board.stage);
    rig::follow(&board.stage);
    rig::migrate(&board.stage);
    expect(&board.stage.model, "cut-over", &[], "done");
    rig::consumer_uses(&board.stage, &board.stage.kratos_new);
    hold::freeze(&board.stage, UNIT);
    board.ask("rollback");
    board.on_to("record-after/started/reverse-fence");
    board.column("reversing", true, "rollback");
    board.on_until("rollback", "done");
    rig::consumer_uses(&board.stage, &board.stage.kratos);
    rig::close(&board.stage, End::Source);
}

#[test]
#[ignore = "slow: make test-all"]
fn every_action_in_every_phase_of_the_documented_order() {
    let board = Board { table: read(&DOCUMENTED), stage: rig::stage("matrix-documented", 1), migrated: "drained" };
    board.stage.model.config("coordinator", &[("order", "documented"), ("outage-limit", "3600")]).unwrap();
    board.to_following();
    board.column("following", false, "drain");
    board.on_to("record-after/done/fence");
    board.column("fenced", true, "drain");
    board.on_until("drain", "done");
    board.column("drained", false, "run-migration");
    board.on_until("run-migration", "waiting");
    board.column("migrating", false, "rollback");
    let instead = run(&board.stage.model, "run-migration", &[("wait", "1")]);
    assert_eq!(instead.result("phase"), "migrating", "{instead:?}");
    board.on_until("run-migration", "waiting");
    board.migrate_on();
    board.column("migrated", false, "flip-traffic");
    board.hand_over();
}
