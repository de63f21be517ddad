//! A pair that is fine, with real Kratos 1.0.0 on both sides, and everything that can be wrong with it.

use super::faults::{self, Fault, On};
use super::rig::{Expected, address, finding, look, names, run, until};
use super::variants::{IMAGINED, ROLES, VARIANTS};
use coordinator::apps::Kind;
use coordinator::migration::OrderChoice;
use coordinator::steps::preflight::{End, Facts, Finding, Look, Verdict, checks, failed, gather, report};
use peers::cluster::{Cluster, PASSWORD};
use peers::kratos::{Kratos, Release};
use peers::seed;
use peers::wait_for;
use std::time::{Duration, Instant};

const SOURCE: &str = "iam_kratos";
const TARGET: &str = "iam_kratos-new";

/// What a session of somebody else does on the source, what is said of it, and the beginning of the statement that
/// the cure names; without one, the session ends by itself.
pub type Held = (&'static str, Expected, &'static str);

pub const HELD: &[Held] = &[
    (
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
        Expected::warns("transactions", "idle in transaction for", "wait for it"),
        "SELECT pg_terminate_backend(",
    ),
    (
        "SET application_name = 'pgBackRest [backup]'",
        Expected::warns("backups", "pgBackRest [backup] (pid", "competes"),
        "",
    ),
];

/// The same, which keeps everybody from a table: nothing else of that side can be told then.
const LOCKED: Held = (
    "SET application_name = 'a vacuum'; BEGIN; ALTER TABLE sessions ADD COLUMN later int",
    Expected::fails("source-database", "table public.sessions is locked on the source by pid", "wait for its end"),
    "SELECT pg_terminate_backend(",
);

/// What older revisions of the PostgreSQL charm put into every database.
const OLD_CHARM: &str = "CREATE FUNCTION update_pg_hba() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER update_pg_hba_on_create_schema ON ddl_command_end WHEN TAG IN ('CREATE SCHEMA') EXECUTE FUNCTION update_pg_hba();
    CREATE EVENT TRIGGER update_pg_hba_on_drop_schema ON ddl_command_end WHEN TAG IN ('DROP SCHEMA') EXECUTE FUNCTION update_pg_hba();
    CREATE FUNCTION set_up_predefined_catalog_roles() RETURNS void LANGUAGE sql AS ''";

struct Pair {
    source: Cluster,
    target: Cluster,
    blue: Kratos,
    green: Kratos,
    look: Look,
}

impl Pair {
    fn new() -> Self {
        let (source, target) = (Cluster::start(14).unwrap(), Cluster::start(16).unwrap());
        source.create_database(SOURCE).unwrap();
        target.create_database(TARGET).unwrap();
        source.psql(SOURCE, OLD_CHARM).unwrap();
        let release = Release::find("1.0.0").unwrap();
        release.migrate(&source.uri(SOURCE)).unwrap();
        release.migrate(&target.uri(TARGET)).unwrap();
        seed::rows(&source, SOURCE, 200).unwrap();
        let blue = release.serve(&source.uri(SOURCE)).unwrap();
        let green = release.serve(&target.uri(TARGET)).unwrap();
        let mut look = look(&source, &target);
        (look.source_app, look.target_app) = (Some(address(&blue)), Some(address(&green)));
        Self { source, target, blue, green, look }
    }

    fn sql(&self, on: On, sql: &str) -> String {
        let (cluster, database) = match on {
            On::Source => (&self.source, SOURCE),
            On::Target => (&self.target, TARGET),
        };
        cluster.psql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error:#}"))
    }
}

/// The statement that begins so in the cure, up to its end there.
fn statement(finding: &Finding, begins: &str) -> String {
    let at = finding.cure.find(begins).unwrap_or_else(|| panic!("the cure does not say {begins:?}: {finding:?}"));
    let rest = &finding.cure[at..];
    let end = rest[begins.len()..].find(';').map_or(rest.len(), |end| begins.len() + end);
    rest[..end].to_owned()
}

fn passes(check: &str) -> impl Fn(&[Finding]) -> bool {
    move |findings| finding(findings, check).verdict == Verdict::Pass
}

/// Plants one fault, insists that it is found, does what the cure says, and insists that it is gone.
fn one(pair: &Pair, fault: &Fault, last: &str) {
    let Fault { on, plant, expected, told, told_on, mend } = fault;
    pair.sql(*on, plant);
    let findings = until(&pair.look, &format!("{expected:?}"), |findings| expected.is_met(findings));
    if !told.is_empty() {
        pair.sql(*told_on, &statement(finding(&findings, expected.check), told));
        until(&pair.look, &format!("{} to pass after its cure", expected.check), passes(expected.check));
    }
    pair.sql(*on, &mend.replace("LAST", last));
    if told.is_empty() {
        until(&pair.look, &format!("{} to pass again", expected.check), passes(expected.check));
    }
}

/// A session of somebody else; ends with the value.
struct Session {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Session {
    fn open(cluster: &Cluster, database: &str, sql: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(cluster.connect(database)).unwrap();
        runtime.block_on(client.batch_execute(sql)).unwrap();
        Self { runtime, client }
    }

    fn end(self) {
        drop(self.client);
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

fn checks_of_kratos() -> usize {
    checks::CHECKS.iter().filter(|check| check.only.is_none_or(|kind| kind == Kind::Kratos)).count()
}

#[test]
fn every_fault_is_named_and_its_cure_cures_it() {
    let pair = Pair::new();
    let [transaction, backup] = HELD else { panic!("two sessions") };
    // It is reported once it is old. It has no id of its own, which making a slot would wait for, and is in another
    // database, where building an index concurrently does not wait for it.
    let begun = Session::open(&pair.source, "postgres", transaction.0);

    // The machine may have other things to do: one quick answer proves that no slow one is asked for.
    let findings = wait_for("an answer within 3 s", Duration::from_secs(25), || {
        let started = Instant::now();
        let findings = run(&pair.look);
        let took = started.elapsed();
        println!("{}\nin {} ms", report(&findings), took.as_millis());
        if took < Duration::from_secs(3) { Ok(findings) } else { Err(format!("{took:?}")) }
    })
    .unwrap();
    let text = report(&findings);
    assert_eq!(names(&findings, Verdict::Pass).len(), checks_of_kratos(), "{text}");
    assert!(findings.iter().all(|finding| !finding.found.is_empty() && finding.cure.is_empty()), "{text}");
    assert!(finding(&findings, "order").found.starts_with("migrate-first"), "{text}");
    let weighed = "default (the same document, all 200 identities): nobody is affected";
    assert_eq!(finding(&findings, "identity-documents").found, weighed, "{text}");
    let behaviour = &finding(&findings, "behaviour").found;
    assert!(behaviour.contains("the same cookie attributes") && behaviour.contains("password 200"), "{text}");

    let last = pair.sql(On::Source, "SELECT max(version) FROM schema_migration");
    for fault in faults::all() {
        one(&pair, fault, &last);
    }
    let session = Session::open(&pair.source, SOURCE, LOCKED.0);
    let started = Instant::now();
    let findings = until(&pair.look, "a locked table", |findings| LOCKED.1.is_met(findings));
    println!("a locked table is told in {} ms", started.elapsed().as_millis());
    let told = finding(&findings, "source-database");
    assert!(told.found.contains("(operator, application a vacuum, its statement began 20"), "{told:?}");
    pair.sql(On::Source, &statement(told, LOCKED.2));
    session.end();
    let findings = until(&pair.look, "an old transaction", |findings| transaction.1.is_met(findings));
    pair.sql(On::Source, &statement(finding(&findings, "transactions"), transaction.2));
    until(&pair.look, "no old transaction", passes("transactions"));
    begun.end();
    let session = Session::open(&pair.source, SOURCE, backup.0);
    until(&pair.look, "a backup", |findings| backup.1.is_met(findings));
    session.end();
    let findings = until(&pair.look, "no backup", passes("backups"));
    assert_eq!(names(&findings, Verdict::Pass).len(), checks_of_kratos(), "{}", report(&findings));

    // What was asked stays bounded, leaves nothing, and no password came into a log.
    for cluster in [&pair.source, &pair.target] {
        let left = "SELECT (SELECT count(*) FROM pg_subscription) + (SELECT count(*) FROM pg_replication_origin)
                         + (SELECT count(*) FROM pg_replication_slots)";
        assert_eq!(cluster.psql("postgres", left).unwrap(), "0");
        let log = std::fs::read_to_string(cluster.log_path()).unwrap();
        let told: Vec<&str> = log.lines().filter(|line| line.contains(PASSWORD)).collect();
        assert!(told.is_empty(), "the password is in the server's log: {told:?}");
    }
}

#[test]
fn the_same_pair_with_other_relations_options_and_servers() {
    let Pair { source, target, blue, green, look } = Pair::new();
    source.psql("postgres", ROLES).unwrap();
    for (change, expected) in VARIANTS {
        let mut other = look.clone();
        change(&mut other);
        expected.insist(&run(&other));
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let facts = runtime.block_on(gather(look.clone())).unwrap();
    for (change, expected) in IMAGINED {
        let mut other = facts.clone();
        change(&mut other);
        expected.insist(&checks::judge(&other));
    }
    // What is typed depends on where the server runs.
    let mut typed = facts.clone();
    typed.look.ends.target_database = End { name: "green".to_owned(), here: true, elsewhere: None };
    typed.source.survey.server.database_bytes = 2 << 30;
    let folder = target.data_path().display().to_string();
    let command = format!("juju ssh --container postgresql green/leader df -h {folder} {folder}/pg_wal");
    assert_eq!(finding(&checks::judge(&typed), "disk").commands, [command]);
    let snap = "/var/snap/charmed-postgresql/common/var/lib/postgresql";
    typed.target.survey.server.settings.insert("data_directory".to_owned(), snap.to_owned());
    let command = format!("juju ssh green/leader df -h {snap} {snap}/pg_wal");
    assert_eq!(finding(&checks::judge(&typed), "disk").commands, [command]);
    // What another model offers is configured there, under the name that it has there.
    typed.source.survey.server.extensions.insert("pg_trgm".to_owned(), "1.6".to_owned());
    let lacks = |typed: &Facts| finding(&checks::judge(typed), "extensions").clone();
    let command = "juju config green plugin-pg-trgm-enable=true".to_owned();
    assert_eq!(lacks(&typed).commands, [command]);
    let uuid = "5a67be19-43c6-411a-83c9-14666fd59ef5";
    typed.look.ends.target_database = End { name: "green".to_owned(), here: false, elsewhere: Some(uuid.to_owned()) };
    let there = lacks(&typed);
    let command = format!("juju config -m {uuid} <target PostgreSQL> plugin-pg-trgm-enable=true");
    assert!(there.cure.starts_with(&command) && there.commands.is_empty(), "{there:?}");
    let with = |change: &dyn Fn(&mut Look)| {
        let mut other = look.clone();
        change(&mut other);
        run(&other)
    };
    let findings = with(&|l| l.settings.order = OrderChoice::Documented);
    assert!(finding(&findings, "order").found.starts_with("documented"), "{}", report(&findings));

    // The target's server stops: quiet, as it should be.
    green.stop().unwrap();
    let findings = run(&look);
    assert_eq!(failed(&findings), 0, "{}", report(&findings));
    assert!(finding(&findings, "target-application").found.starts_with("down"), "{}", report(&findings));

    // Asked in the middle of a run, it takes the run's own traces for what they are; asked outside, it does not.
    let slot = "identity_migration_0badcafe";
    source.psql(SOURCE, &format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).unwrap();
    target.psql(TARGET, "CREATE SCHEMA identity_migration").unwrap();
    let error = "INSERT INTO selfservice_errors (id, errors, seen_at, was_seen, created_at, updated_at)
                 VALUES (gen_random_uuid(), '{}', now(), false, now(), now())";
    target.psql(TARGET, error).unwrap();
    Release::find("1.3.1").unwrap().migrate(&target.uri(TARGET)).unwrap();
    let findings = with(&|l| l.run = Some("0badcafe".to_owned()));
    assert_eq!(names(&findings, Verdict::Fail), Vec::<&str>::new(), "{}", report(&findings));
    let findings = run(&look);
    for check in ["leftovers", "target-empty", "schema-migrations", "schema-equality"] {
        assert_eq!(finding(&findings, check).verdict, Verdict::Fail, "{}", report(&findings));
    }
    blue.stop().unwrap();
    Expected::fails("source-application", "the source application is down", "repair it").insist(&run(&look));
}
