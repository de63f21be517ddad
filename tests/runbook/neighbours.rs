//! A source cluster that others use too: another Kratos, with live writers, replication and a role of its own. Nothing of
//! theirs is touched by a whole migration there, back, there again and finalized, and nobody of theirs waits for us; where
//! they keep us waiting, that is said by name.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase, Settings};
use peers::cluster::{Cluster, connect};
use peers::kratos::Release;
use peers::writers::Writers;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const NEIGHBOUR: &str = "neighbour";

/// How often it is looked whether one of ours is in the neighbour's way.
const LOOK: Duration = Duration::from_millis(25);

/// What else the neighbour has.
const BELONGINGS: &str = "
CREATE ROLE reporter LOGIN REPLICATION PASSWORD 'reporter';
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reporter;
ALTER ROLE reporter IN DATABASE neighbour SET work_mem = '8MB';
ALTER DATABASE neighbour SET statement_timeout = '30s';
CREATE PUBLICATION reports FOR TABLE identities, sessions;
SELECT pg_create_logical_replication_slot('reports', 'pgoutput');
SELECT pg_replication_origin_create('reports_of_elsewhere');
CREATE SCHEMA reports;
CREATE TABLE reports.seen (id uuid PRIMARY KEY, at timestamptz DEFAULT now());
CREATE FUNCTION reports.note() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO reports.seen VALUES (NEW.id) ON CONFLICT DO NOTHING; RETURN NEW; END';
CREATE TRIGGER note AFTER INSERT ON public.sessions FOR EACH ROW EXECUTE FUNCTION reports.note();
ALTER TABLE reports.seen REPLICA IDENTITY FULL;";

/// Everything that a database's own catalogs say of it, but rows and their statistics.
const CATALOGS: &str = "
SELECT format('relation %s %s %s %s %s %s', c.oid::regclass, relkind, relreplident, relowner::regrole, relacl, reloptions)
FROM pg_class c WHERE relnamespace::regnamespace::text !~ '^pg_|^information_schema$'
UNION ALL SELECT format('column %s.%s %s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attnum)
FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE attnum > 0 AND relkind = 'r' AND relnamespace::regnamespace::text !~ '^pg_|^information_schema$'
UNION ALL SELECT format('constraint %s %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated)
FROM pg_constraint WHERE conrelid >= 16384
UNION ALL SELECT format('index %s %s %s', pg_get_indexdef(indexrelid), indisvalid, indisreplident) FROM pg_index WHERE indexrelid >= 16384
UNION ALL SELECT format('trigger %s %s', pg_get_triggerdef(oid), tgenabled) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT format('function %s %s', oid::regprocedure, md5(prosrc)) FROM pg_proc WHERE oid >= 16384
UNION ALL SELECT format('event trigger %s %s', evtname, evtenabled) FROM pg_event_trigger
UNION ALL SELECT format('publication %s %s', pubname, (SELECT string_agg(prrelid::regclass::text, ',' ORDER BY prrelid)
  FROM pg_publication_rel r WHERE r.prpubid = p.oid)) FROM pg_publication p
UNION ALL SELECT format('schema %s %s %s', nspname, nspowner::regrole, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_t'
UNION ALL SELECT format('extension %s %s', extname, extversion) FROM pg_extension
ORDER BY 1";

/// What all databases of a cluster share, ours and the moved database left out.
const SHARED: &str = "
SELECT format('database %s %s %s %s %s', datname, datdba::regrole, datacl, datconnlimit, datallowconn) FROM pg_database
WHERE datname !~ '^iam_'
UNION ALL SELECT format('role %s', to_jsonb(r) - 'rolpassword') FROM pg_roles r
UNION ALL SELECT format('member %s of %s', member::regrole, roleid::regrole) FROM pg_auth_members
UNION ALL SELECT format('setting %s %s %s', setdatabase, setrole, setconfig) FROM pg_db_role_setting
UNION ALL SELECT format('slot %s %s %s', slot_name, plugin, database) FROM pg_replication_slots WHERE slot_name !~ '^identity_migration'
UNION ALL SELECT format('origin %s', roname) FROM pg_replication_origin WHERE roname = 'reports_of_elsewhere'
UNION ALL SELECT format('configured %s %s', name, setting) FROM pg_file_settings WHERE applied
ORDER BY 1";

/// Sessions of ours in the neighbour's database, and those of the neighbour's that wait for a session of ours.
const IN_THE_WAY: &str = "
SELECT format('%s is connected to the neighbour: %s', application_name, query) FROM pg_stat_activity
WHERE datname = 'neighbour' AND application_name LIKE 'identity\\_migration%'
UNION ALL
SELECT format('%s of the neighbour waits for %s: %s', a.pid, ours.application_name, ours.query)
FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS b (pid)
JOIN pg_stat_activity ours ON ours.pid = b.pid
WHERE a.datname = 'neighbour' AND a.wait_event_type = 'Lock' AND ours.application_name LIKE 'identity\\_migration%'";

fn neighbour_on(source: &Cluster) {
    source.create_database(NEIGHBOUR).unwrap();
    Release::find("1.0.0").unwrap().migrate(&source.uri(NEIGHBOUR)).unwrap();
    peers::seed::rows(source, NEIGHBOUR, 200).unwrap();
    source.psql(NEIGHBOUR, BELONGINGS).unwrap();
}

fn picture(source: &Cluster) -> Vec<String> {
    let lines = |database, sql| source.psql(database, sql).unwrap();
    [lines(NEIGHBOUR, CATALOGS), lines("postgres", SHARED)].concat().lines().map(str::to_owned).collect()
}

fn assert_untouched(source: &Cluster, before: &[String], when: &str) {
    let now = picture(source);
    let gone: Vec<&String> = before.iter().filter(|line| !now.contains(line)).collect();
    let new: Vec<&String> = now.iter().filter(|line| !before.contains(line)).collect();
    assert!(gone.is_empty() && new.is_empty(), "{when}: gone {gone:#?}, new {new:#?}");
}

/// Looks all the time whether one of ours is in the neighbour's way.
struct Watch {
    over: Arc<AtomicBool>,
    seen: Arc<Mutex<(u64, Vec<String>)>>,
    thread: JoinHandle<()>,
}

impl Watch {
    fn begin(source: &Cluster) -> Self {
        let (over, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new((0, Vec::new()))));
        let (uri, ends, notes) = (source.uri("postgres"), Arc::clone(&over), Arc::clone(&seen));
        let looking = async move {
            let client = connect(&uri).await.unwrap();
            while !ends.load(Ordering::Relaxed) {
                let found = client.query(IN_THE_WAY, &[]).await.unwrap();
                note(&notes, found.iter().map(|row| row.get(0)));
                tokio::time::sleep(LOOK).await;
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { over, seen, thread: std::thread::spawn(move || runtime.block_on(looking)) }
    }

    /// How often it looked, and what it saw.
    fn end(self) -> (u64, Vec<String>) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn note(seen: &Mutex<(u64, Vec<String>)>, found: impl Iterator<Item = String>) {
    let mut seen = seen.lock().unwrap();
    seen.0 += 1;
    seen.1.extend(found);
}

fn flip(rig: &mut Rig) {
    rig.reach(Goal::Following);
    rig.migrate_schema(&Settings::default());
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
}

#[test]
fn never_notice_and_are_named_where_they_keep_us_waiting() {
    let cluster = |major| Cluster::start(major).map(Arc::new).unwrap();
    let source = cluster(14);
    neighbour_on(&source);
    let mut rig = Rig::between(Arc::clone(&source), cluster(16), 300).unwrap();
    let before = picture(&source);
    assert!(before.len() > 300, "{} lines", before.len());
    kept_waiting(&mut rig, &source);
    assert_untouched(&source, &before, "after waiting for the neighbour");

    let wanted = peers::writers::Settings { connections: 4, rate: 80.0, oracle_file: rig.folder().join("neighbours") };
    let writers = Writers::start(&source.uri(NEIGHBOUR), &wanted, "beside a migration").unwrap();
    let watch = Watch::begin(&source);
    flip(&mut rig);
    assert_untouched(&source, &before, "after the flip");
    assert_eq!(rig.reach(Goal::RolledBack).phase(), Phase::Idle);
    assert_untouched(&source, &before, "after the way back");
    rig.stop_target().unwrap();
    flip(&mut rig);
    rig.finalize();
    let (looks, in_the_way) = watch.end();
    let record = writers.stop().unwrap();

    assert_untouched(&source, &before, "at the end");
    assert_eq!(in_the_way, Vec::<String>::new());
    assert_eq!(record.unexpected, Vec::<String>::new());
    // Clients of the neighbour's are in each other's way now and then.
    let among_themselves = |said: &&String| said.starts_with("40001") || said.starts_with("40P01");
    let by_others: Vec<&String> = record.refusals.keys().filter(|said| !among_themselves(said)).collect();
    assert!(by_others.is_empty(), "writes of the neighbour's were refused: {by_others:?}");
    let verdict = record.oracle.check(&source.uri(NEIGHBOUR)).unwrap();
    assert_eq!((verdict.lost, verdict.duplicated), (0, 0), "{verdict:?}");
    let written: u64 = record.phases.iter().map(|phase| phase.acknowledged).sum();
    let pause = record.phases.iter().map(|phase| phase.longest_pause_ms).max().unwrap_or_default();
    assert!(written > 100 && looks > 100, "{written} writes, {looks} looks");
    eprintln!("the neighbour wrote {written} times, at the longest {pause} ms apart; {looks} looks");
}

/// A slot waits for transactions of the whole cluster: what the neighbour prepared is found before anything begins, what
/// it merely has open is waited for and named, and both go on as they were.
fn kept_waiting(rig: &mut Rig, source: &Cluster) {
    source
        .psql(
            NEIGHBOUR,
            "BEGIN; UPDATE identities SET updated_at = updated_at; PREPARE TRANSACTION 'the neighbour''s own'",
        )
        .unwrap();
    rig.want(Goal::Following).unwrap();
    let said = rig.refused();
    assert!(said.contains("prepared transaction 'the neighbour's own' in database neighbour"), "{said}");
    assert!(said.contains(r#"\connect "neighbour" and ROLLBACK PREPARED 'the neighbour''s own'; or COMMIT"#), "{said}");
    source.psql(NEIGHBOUR, "COMMIT PREPARED 'the neighbour''s own'").unwrap();

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let uri = source.uri(NEIGHBOUR);
    let client = runtime.block_on(connect(&uri)).unwrap();
    let begin = "BEGIN; UPDATE reports.seen SET at = at; SELECT pg_current_xact_id()";
    runtime.block_on(client.batch_execute(begin)).unwrap();
    rig.want(Goal::Following).unwrap();
    rig.until("the neighbour's transaction to be named", LONG, |_, progress| {
        progress.text.contains("in database neighbour") && progress.text.contains("holds a transaction open")
    })
    .unwrap();
    runtime.block_on(client.batch_execute("COMMIT")).unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Following);
    rig.roll_back("the neighbour kept us waiting");
}
