//! The worker is killed inside the copy, at every place where something of it is half done, and servers and
//! connections fail under it: the copy starts anew by itself and ends with every row once.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase};
use peers::cluster::{Cluster, Mode};
use peers::wait_for;
use peers::writers::Writers;
use rustix::process::{Pid, Signal, kill_process};
use std::sync::Arc;
use std::thread::JoinHandle;

/// A table of more than one part: its rows are TOAST for the most part.
const BIG: &str = "courier_messages";

/// Makes the copy long enough to be caught in its middle.
pub fn make_big(rig: &Rig) {
    rig.on_source(&format!(
        "ALTER TABLE public.{BIG} ALTER body SET STORAGE EXTERNAL;
         INSERT INTO public.{BIG} (id, type, status, body, subject, recipient, created_at, updated_at, template_type, nid)
         SELECT gen_random_uuid(), m.type, m.status, repeat(md5(i::text), 2600), m.subject, m.recipient, m.created_at,
                m.updated_at, m.template_type, m.nid
         FROM (SELECT * FROM public.{BIG} LIMIT 1) m, generate_series(1, 900) i"
    ))
    .unwrap();
}

/// Live writers on the source.
pub fn write(rig: &Rig) -> Writers {
    let wanted = peers::writers::Settings { connections: 4, rate: 60.0, oracle_file: rig.folder().join("oracle") };
    Writers::start(&rig.source_uri(), &wanted, "all").unwrap()
}

/// Everything that was acknowledged is on the target, once; both databases are equal; nothing but the run's own slot
/// is left. Ends with a rollback that leaves nothing.
pub fn prove(mut rig: Rig, writers: Writers) {
    let record = writers.stop().unwrap();
    assert_eq!(record.unexpected, Vec::<String>::new());
    wait_for("the target to have everything", LONG, || match record.oracle.check(&rig.target_uri()) {
        Ok(verdict) if verdict.lost == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    let verdict = record.oracle.check(&rig.target_uri()).unwrap();
    assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
    assert!(verdict.acknowledged > 50, "{verdict:?}");
    rig.assert_equal();
    rig.assert_equal_schemas();
    let slots = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!((rig.on_source(slots).unwrap(), rig.on_target(slots).unwrap()), ("1".to_owned(), "0".to_owned()));
    rig.roll_back("after the copy");
    assert_eq!((rig.on_source(slots).unwrap(), rig.on_target(slots).unwrap()), ("0".to_owned(), "0".to_owned()));
}

/// The next process that comes to this place gets the signal.
pub fn arm(rig: &Rig, place: &str, what: &str) {
    let _ = std::fs::remove_file(rig.folder().join("failpoint.reached"));
    std::fs::write(rig.folder().join("failpoint"), format!("{place} {what}")).unwrap();
}

/// Waits until a process came to the place that was armed.
pub fn reached(rig: &Rig, place: &str) {
    wait_for(&format!("the worker to come to {place}"), LONG, || {
        match rig.folder().join("failpoint.reached").exists() {
            true => Ok(()),
            false => {
                let (state, progress) = rig.now().unwrap();
                assert_eq!(state.failure, None, "on the way to {place}");
                Err(format!("{}, {progress:?}", state.phase()))
            }
        }
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", rig.worker_log()));
}

/// Waits until the worker was killed at the place that was armed.
pub fn killed(rig: &Rig, place: &str) {
    reached(rig, place);
    wait_for("the worker to be gone", LONG, || rig.worker().map_or(Ok(()), Err)).unwrap();
}

/// A stopped worker goes on.
pub fn go_on(rig: &Rig) {
    let pid = Pid::from_raw(rig.worker().unwrap()).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
}

#[test]
fn killed_inside_the_copy_it_starts_anew() {
    let rig = Rig::new(14, 16, 300).unwrap();
    make_big(&rig);
    let writers = write(&rig);
    let places = [
        "copy-truncated".to_owned(),
        "copy-slot".to_owned(),
        "record-after/noted/copy/slot".to_owned(),
        "copy-snapshot".to_owned(),
        format!("copy-frame/{BIG}/100"),
        format!("copy-part/{BIG}"),
        format!("copy-table/{BIG}"),
        "copy-index/sessions_pkey".to_owned(),
        "copy-index/courier_messages_pkey".to_owned(),
        "copy-foreign-keys".to_owned(),
        "copy-analyze/sessions".to_owned(),
        "record-before/done/copy".to_owned(),
    ];
    arm(&rig, &places[0], "kill");
    rig.want(Goal::Following).unwrap();
    for (index, place) in places.iter().enumerate() {
        killed(&rig, place);
        if let Some(next) = places.get(index + 1) {
            arm(&rig, next, "kill");
        }
        rig.hook().unwrap();
    }
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Following);
    prove(rig, writers);
}

/// Ends the sessions of ours with this purpose; there must be some.
fn end_sessions(cluster: &Cluster, purpose: &str) {
    let ended = cluster
        .psql(
            "postgres",
            &format!(
                "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
                 WHERE application_name = 'identity_migration {purpose}'"
            ),
        )
        .unwrap();
    assert_ne!(ended, "0", "no session {purpose} on the {}", cluster.major());
}

#[test]
fn servers_and_connections_that_fail_under_it_are_waited_for() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    make_big(&rig);
    let writers = write(&rig);
    let middle = format!("copy-frame/{BIG}/100");
    type Trouble = fn(&mut Rig);
    let troubles: [(&str, Trouble); 12] = [
        ("copy-slot", |rig| end_sessions(&rig.source, "slot")),
        ("copy-snapshot", |rig| end_sessions(&rig.source, "snapshot")),
        (&middle, |rig| end_sessions(&rig.source, "snapshot")),
        (&middle, |rig| end_sessions(&rig.source, "copy")),
        (&middle, |rig| end_sessions(&rig.target, "copy")),
        (&middle, |rig| rig.restart_source(Mode::Fast).unwrap()),
        (&middle, |rig| rig.restart_source(Mode::Immediate).unwrap()),
        (&middle, |rig| rig.restart_target(Mode::Fast).unwrap()),
        (&middle, |rig| rig.restart_target(Mode::Immediate).unwrap()),
        (&middle, |rig| rig.restart_target(Mode::Crash).unwrap()),
        (&middle, |rig| rig.restart_source(Mode::Crash).unwrap()),
        ("copy-index/sessions_pkey", |rig| rig.restart_source(Mode::Crash).unwrap()),
    ];
    arm(&rig, troubles[0].0, "stop");
    rig.want(Goal::Following).unwrap();
    for (index, (place, trouble)) in troubles.iter().enumerate() {
        reached(&rig, place);
        trouble(&mut rig);
        if let Some((next, _)) = troubles.get(index + 1) {
            arm(&rig, next, "stop");
        }
        go_on(&rig);
    }
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Following);
    prove(rig, writers);
}

/// Holds the target's server in the middle of every CREATE INDEX, from now on until [`let_build`].
fn hold_builds(rig: &Rig) -> JoinHandle<()> {
    rig.on_target(
        "CREATE FUNCTION public.held() RETURNS event_trigger LANGUAGE plpgsql SET lock_timeout = 0 AS
         'BEGIN PERFORM pg_advisory_xact_lock_shared(4711); END';
         CREATE EVENT TRIGGER held ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION public.held()",
    )
    .unwrap();
    hold(rig)
}

/// Holds advisory lock 4711 in the target's database until the session ends.
pub fn hold(rig: &Rig) -> JoinHandle<()> {
    let (target, database) = (Arc::clone(&rig.target), rig.target_database());
    let holder = std::thread::spawn(move || {
        // Ends with the session.
        let _ = target.psql(&database, "SELECT pg_advisory_lock(4711); SELECT pg_sleep(300)");
    });
    wait_for("the lock", LONG, || held(rig, true)).unwrap();
    holder
}

fn held(rig: &Rig, granted: bool) -> Result<(), String> {
    let seen =
        format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND granted = {granted}");
    match rig.on_target(&seen) {
        Ok(count) if count != "0" => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn let_build(rig: &Rig, holder: JoinHandle<()>) {
    rig.on_target(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND granted;
         DROP EVENT TRIGGER held; DROP FUNCTION public.held()",
    )
    .unwrap();
    holder.join().unwrap();
}

#[test]
fn cut_off_while_the_server_builds_an_index_it_starts_anew() {
    let mut rig = Rig::new(14, 16, 300).unwrap();
    let writers = write(&rig);
    let mut holder = hold_builds(&rig);
    rig.want(Goal::Following).unwrap();
    wait_for("the server to build an index", LONG, || held(&rig, false)).unwrap();
    rig.kill_worker().unwrap();
    rig.hook().unwrap();
    for mode in [Mode::Fast, Mode::Immediate, Mode::Crash] {
        wait_for("the server to build an index", LONG, || held(&rig, false)).unwrap();
        rig.restart_target(mode).unwrap();
        holder.join().unwrap();
        rig.on_target("DROP EVENT TRIGGER held; DROP FUNCTION public.held()").unwrap();
        holder = hold_builds(&rig);
    }
    wait_for("the server to build an index", LONG, || held(&rig, false)).unwrap();
    let_build(&rig, holder);
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Following);
    prove(rig, writers);
}
