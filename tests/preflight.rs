//! Preflight on real clusters with real Kratos 1.0.0 on both sides: a good pair, then one fault at a time.

use crate::catalogs::kratos_schema;
use coordinator::apps::{self, KRATOS};
use coordinator::migration::{OrderChoice, Settings};
use coordinator::postgres::{Password, Server};
use coordinator::steps::preflight::{Finding, Look, Verdict, failed, preflight, report};
use peers::cluster::{Cluster, PASSWORD};
use peers::kratos::{Kratos, Release};
use peers::seed;
use std::time::{Duration, Instant};

fn server(cluster: &Cluster) -> Server {
    let (user, password) = cluster.superuser();
    Server {
        host: cluster.host().to_owned(),
        port: cluster.port(),
        user: user.to_owned(),
        password: Password::new(password),
        tls: false,
        ca: None,
    }
}

fn address(kratos: &Kratos) -> apps::Server {
    apps::Server { admin_endpoint: kratos.ports().admin_url(), public_endpoint: kratos.ports().public_url() }
}

fn look(source: &Cluster, target: &Cluster) -> Look {
    Look {
        app: &KRATOS,
        source: server(source),
        source_database: "iam_kratos".to_owned(),
        target: server(target),
        target_database: "iam_kratos-new".to_owned(),
        source_app: None,
        target_app: None,
        settings: Settings::default(),
        run: None,
        coordinator: "coordinator".to_owned(),
        target_application: "kratos-new".to_owned(),
    }
}

fn run(look: &Look) -> Vec<Finding> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(preflight(look.clone()))
}

fn finding<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings.iter().find(|f| f.check == check).unwrap_or_else(|| panic!("no {check} in\n{}", report(findings)))
}

/// Checks that this very check objects, and says so in these words.
fn objects(findings: &[Finding], check: &str, verdict: Verdict, found: &str, cure: &str) {
    let seen = finding(findings, check);
    assert_eq!(seen.verdict, verdict, "{check}:\n{}", report(findings));
    assert!(seen.found.contains(found) && seen.cure.contains(cure), "{check}: {seen:?}");
}

fn names(findings: &[Finding], verdict: Verdict) -> Vec<&str> {
    findings.iter().filter(|f| f.verdict == verdict).map(|f| f.check.as_str()).collect()
}

#[derive(Clone, Copy)]
enum On {
    Source,
    Target,
}

/// One fault: where, how it is made, how it is taken back, and what preflight says.
type Fault = (On, &'static str, &'static str, &'static str, Verdict, &'static str, &'static str);

const FAULTS: &[Fault] = &[
    (On::Source, "ALTER TABLE sessions DROP CONSTRAINT sessions_pkey CASCADE",
     "ALTER TABLE sessions ADD CONSTRAINT sessions_pkey PRIMARY KEY (id);
      ALTER TABLE session_devices ADD CONSTRAINT session_metadata_sessions_id_fk FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE",
     "replica-identity", Verdict::Fail, "public.sessions has no primary key", "REPLICA IDENTITY USING INDEX"),
    (On::Source, "ALTER TABLE sessions REPLICA IDENTITY NOTHING", "ALTER TABLE sessions REPLICA IDENTITY DEFAULT",
     "replica-identity", Verdict::Fail, "public.sessions has REPLICA IDENTITY NOTHING", "primary key"),
    (On::Source, "ALTER TABLE courier_message_dispatches REPLICA IDENTITY FULL", "ALTER TABLE courier_message_dispatches REPLICA IDENTITY DEFAULT",
     "replica-identity", Verdict::Fail, "courier_message_dispatches is FULL and its column error cannot be compared", "USING INDEX"),
    (On::Target, "ALTER TABLE identities ADD COLUMN extra integer", "ALTER TABLE identities DROP COLUMN extra",
     "schema-equality", Verdict::Fail, "column extra of table public.identities exists only on the target", "kratos-new"),
    (On::Target, "ALTER TABLE identities ALTER COLUMN state TYPE text", "ALTER TABLE identities ALTER COLUMN state TYPE varchar(255)",
     "schema-equality", Verdict::Fail, "type of column state of table public.identities", "kratos-new"),
    (On::Target, "DELETE FROM schema_migration WHERE version = (SELECT max(version) FROM schema_migration)",
     "INSERT INTO schema_migration (version) VALUES ('LAST')",
     "schema-migrations", Verdict::Fail, "1 migrations only on the source", "fresh database"),
    (On::Source, "INSERT INTO schema_migration (version) VALUES ('20990101000000000000')", "DELETE FROM schema_migration WHERE version LIKE '2099%'",
     "source-release", Verdict::Fail, "1 migrations of no known release", "newer revision"),
    (On::Target, "INSERT INTO selfservice_errors (id, errors, seen_at, was_seen, created_at, updated_at) VALUES (gen_random_uuid(), '{}', now(), false, now(), now())",
     "TRUNCATE selfservice_errors",
     "target-empty", Verdict::Fail, "public.selfservice_errors", "fresh one"),
    (On::Source, "INSERT INTO networks VALUES ('00000000-0000-0000-0000-00000000000a', now(), now())", "DELETE FROM networks WHERE id = '00000000-0000-0000-0000-00000000000a'",
     "networks", Verdict::Fail, "2 networks rows on the source", "delete the other"),
    (On::Source, "SELECT lo_create(4711)", "SELECT lo_unlink(4711)",
     "large-objects", Verdict::Fail, "1 large objects", "lo_unlink"),
    (On::Source, "CREATE UNLOGGED TABLE scratch (id uuid PRIMARY KEY)", "DROP TABLE scratch",
     "tables", Verdict::Fail, "public.scratch is unlogged", "SET LOGGED"),
    (On::Source, "CREATE TABLE parted (id int) PARTITION BY RANGE (id)", "DROP TABLE parted",
     "tables", Verdict::Fail, "public.parted is partitioned", "drop"),
    (On::Source, "CREATE TABLE child () INHERITS (networks)", "DROP TABLE child",
     "table-oddities", Verdict::Fail, "public.child inherits from public.networks on the source", "NO INHERIT"),
    (On::Target, "ALTER TABLE identities ENABLE ROW LEVEL SECURITY", "ALTER TABLE identities DISABLE ROW LEVEL SECURITY",
     "table-oddities", Verdict::Fail, "public.identities has row-level security on the target", "DISABLE ROW LEVEL SECURITY"),
    (On::Source, "CREATE RULE keep AS ON DELETE TO identities DO INSTEAD NOTHING", "DROP RULE keep ON identities",
     "table-oddities", Verdict::Fail, "public.identities has rule keep", "DROP RULE"),
    (On::Target, "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE TRIGGER touch BEFORE UPDATE ON identities FOR EACH ROW EXECUTE FUNCTION touch();
      ALTER TABLE identities ENABLE ALWAYS TRIGGER touch", "DROP FUNCTION touch CASCADE",
     "target-triggers", Verdict::Fail, "touch on public.identities", "ENABLE TRIGGER"),
    (On::Source, "CREATE EXTENSION pg_trgm", "DROP EXTENSION pg_trgm",
     "extensions", Verdict::Fail, "pg_trgm missing on the target", "plugin_pg_trgm_enable=true"),
    (On::Source, "SELECT pg_create_logical_replication_slot('identity_migration_0badcafe', 'pgoutput')", "SELECT pg_drop_replication_slot('identity_migration_0badcafe')",
     "leftovers", Verdict::Fail, "replication slot identity_migration_0badcafe on the source", "run rollback or finalize on that one"),
    (On::Source, "SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')", "SELECT pg_drop_replication_slot('forgotten')",
     "slots-in-trouble", Verdict::Warn, "forgotten (reserved)", "drop those"),
    (On::Source, "CREATE PUBLICATION reports FOR ALL TABLES", "DROP PUBLICATION reports",
     "foreign-publications", Verdict::Warn, "publications reports on the source", "subscribers"),
    (On::Target, "CREATE SUBSCRIPTION other CONNECTION 'dbname=x' PUBLICATION x WITH (connect = false, slot_name = NONE)", "DROP SUBSCRIPTION other",
     "foreign-subscriptions", Verdict::Fail, "subscriptions other on the target", "DROP SUBSCRIPTION"),
    (On::Source, "BEGIN; SELECT 1 FROM pg_current_xact_id(); PREPARE TRANSACTION 'stuck'", "ROLLBACK PREPARED 'stuck'",
     "prepared-transactions", Verdict::Fail, "'stuck'", "ROLLBACK PREPARED"),
    (On::Target, "CREATE ROLE stranger; GRANT ALL ON SCHEMA public TO stranger; ALTER TABLE sessions OWNER TO stranger",
     "ALTER TABLE sessions OWNER TO operator; REVOKE ALL ON SCHEMA public FROM stranger; DROP ROLE stranger",
     "ownership", Verdict::Fail, "operator, stranger", "REASSIGN OWNED BY"),
    (On::Source, "UPDATE identities SET schema_id = 'gone' WHERE id = (SELECT min(id::text)::uuid FROM identities)", "UPDATE identities SET schema_id = 'default' WHERE schema_id = 'gone'",
     "identity-schemas", Verdict::Fail, "gone (1 identities)", "identity_schemas"),
    (On::Source, "ALTER TABLE session_devices DISABLE TRIGGER ALL; UPDATE session_devices SET nid = gen_random_uuid() WHERE id = (SELECT min(id::text)::uuid FROM session_devices)",
     "UPDATE session_devices SET nid = (SELECT id FROM networks); ALTER TABLE session_devices ENABLE TRIGGER ALL",
     "orphans", Verdict::Warn, "1 session_devices without a session", "back-fill"),
];

#[test]
fn a_good_pair_passes_and_every_fault_is_named_with_its_cure() {
    let source = Cluster::builder(14).setting("max_prepared_transactions", "5").start().unwrap();
    let target = Cluster::start(16).unwrap();
    source.create_database("iam_kratos").unwrap();
    target.create_database("iam_kratos-new").unwrap();
    let release = Release::find("1.0.0").unwrap();
    release.migrate(&source.uri("iam_kratos")).unwrap();
    release.migrate(&target.uri("iam_kratos-new")).unwrap();
    seed::rows(&source, "iam_kratos", 200).unwrap();
    let blue = release.serve(&source.uri("iam_kratos")).unwrap();
    let green = release.serve(&target.uri("iam_kratos-new")).unwrap();
    let mut look = look(&source, &target);
    (look.source_app, look.target_app) = (Some(address(&blue)), Some(address(&green)));

    let begun = Instant::now();
    let findings = run(&look);
    let took = begun.elapsed();
    let text = report(&findings);
    println!("{text}");
    assert_eq!(failed(&findings), 0, "{text}");
    assert!(took < Duration::from_secs(3), "preflight took {took:?}");
    assert!(finding(&findings, "order").found.starts_with("migrate-first"), "{text}");
    assert!(
        findings.iter().all(|f| !f.found.is_empty() && (f.verdict == Verdict::Pass) == f.cure.is_empty()),
        "{text}"
    );
    let usual = names(&findings, Verdict::Warn).join(" ");

    let side = |on: On| match on {
        On::Source => (&source, "iam_kratos"),
        On::Target => (&target, "iam_kratos-new"),
    };
    let last = "SELECT max(version) FROM schema_migration";
    let last = source.psql("iam_kratos", last).unwrap();
    for (on, fault, mend, check, verdict, found, cure) in FAULTS {
        let (cluster, database) = side(*on);
        cluster.psql(database, fault).unwrap_or_else(|error| panic!("{check}: {error:#}"));
        let findings = run(&look);
        objects(&findings, check, *verdict, found, cure);
        cluster.psql(database, &mend.replace("LAST", &last)).unwrap_or_else(|error| panic!("{check}: {error:#}"));
    }
    let findings = run(&look);
    assert_eq!((failed(&findings), names(&findings, Verdict::Warn).join(" ")), (0, usual), "{}", report(&findings));

    // An open transaction is reported once it is old; what is asked stays bounded and leaves nothing.
    for cluster in [&source, &target] {
        let left = "SELECT (SELECT count(*) FROM pg_subscription) + (SELECT count(*) FROM pg_replication_origin)
                         + (SELECT count(*) FROM pg_replication_slots)";
        assert_eq!(cluster.psql("postgres", left).unwrap(), "0");
        let log = std::fs::read_to_string(cluster.log_path()).unwrap();
        let told: Vec<&str> = log.lines().filter(|line| line.contains(PASSWORD)).collect();
        assert!(told.is_empty(), "the password is in the server's log: {told:?}");
    }

    // The same pair seen with other settings and servers.
    let with = |change: &dyn Fn(&mut Look)| {
        let mut other = look.clone();
        change(&mut other);
        run(&other)
    };
    let findings = with(&|l| l.settings.order = OrderChoice::Documented);
    assert!(finding(&findings, "order").found.starts_with("documented"), "{}", report(&findings));
    let findings = with(&|l| (l.target, l.target_database) = (l.source.clone(), l.source_database.clone()));
    objects(&findings, "two-databases", Verdict::Fail, "both sides are", "target-database-name");
    let findings = with(&|l| {
        std::mem::swap(&mut l.source, &mut l.target);
        std::mem::swap(&mut l.source_database, &mut l.target_database);
    });
    objects(&findings, "versions", Verdict::Fail, "PostgreSQL 16 → 14: the target is older", "newer release");
    let findings = with(&|l| l.source_database = "nowhere".to_owned());
    objects(&findings, "source-database", Verdict::Fail, "\"nowhere\" does not exist", "source-database-name");
    let findings = with(&|l| l.source.password = Password::new("wrong"));
    objects(&findings, "source-database", Verdict::Fail, "password authentication failed", "relation source-database");
    let findings = with(&|l| l.source_database = "postgres".to_owned());
    objects(&findings, "source-release", Verdict::Fail, "no table schema_migration", "source-database-name");

    // A role that is no superuser; the walsender is refused to it as well.
    source.psql("iam_kratos", "CREATE ROLE weak LOGIN PASSWORD 'weak'; GRANT pg_read_all_data TO weak").unwrap();
    let findings = with(&|l| (l.source.user, l.source.password) = ("weak".to_owned(), Password::new("weak")));
    objects(
        &findings,
        "rights",
        Verdict::Fail,
        "role weak is no superuser on the source",
        "ALTER ROLE \"weak\" SUPERUSER",
    );
    objects(&findings, "target-reaches-source", Verdict::Fail, "cannot reach", "pg_hba.conf");
    source.psql("iam_kratos", "DROP OWNED BY weak; DROP ROLE weak").unwrap();

    // The servers: one stops, then the other.
    green.stop().unwrap();
    let findings = run(&look);
    assert_eq!(failed(&findings), 0, "{}", report(&findings));
    assert!(finding(&findings, "target-application").found.starts_with("down"), "{}", report(&findings));

    // Asked in the middle of a run, it takes the run's own traces for what they are.
    let slot = "identity_migration_0badcafe";
    source.psql("iam_kratos", &format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).unwrap();
    target.psql("iam_kratos-new", "CREATE SCHEMA identity_migration").unwrap();
    let error = "INSERT INTO selfservice_errors (id, errors, seen_at, was_seen, created_at, updated_at)
                 VALUES (gen_random_uuid(), '{}', now(), false, now(), now())";
    target.psql("iam_kratos-new", error).unwrap();
    Release::find("1.3.1").unwrap().migrate(&target.uri("iam_kratos-new")).unwrap();
    let findings = with(&|l| l.run = Some("0badcafe".to_owned()));
    let refused: Vec<&str> = names(&findings, Verdict::Fail);
    assert_eq!(refused, Vec::<&str>::new(), "{}", report(&findings));
    let findings = run(&look);
    for check in ["leftovers", "target-empty", "schema-migrations", "schema-equality"] {
        assert_eq!(finding(&findings, check).verdict, Verdict::Fail, "{}", report(&findings));
    }
    blue.stop().unwrap();
    objects(&run(&look), "source-application", Verdict::Fail, "the source application is down", "repair it");
}

#[test]
fn a_source_without_logical_decoding_or_room_is_refused() {
    let source = Cluster::builder(14)
        .setting("wal_level", "replica")
        .setting("max_replication_slots", "1")
        .setting("max_wal_senders", "1")
        .setting("max_slot_wal_keep_size", "64MB")
        .start()
        .unwrap();
    let target = Cluster::builder(16).setting("max_logical_replication_workers", "1").start().unwrap();
    source
        .psql("postgres", "CREATE DATABASE iam_kratos ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        .unwrap();
    target.create_database("iam_kratos-new").unwrap();
    source.psql("iam_kratos", &kratos_schema("1.0.0")).unwrap();
    target.psql("iam_kratos-new", &kratos_schema("1.3.1")).unwrap();
    let findings = run(&look(&source, &target));
    for (check, found, cure) in [
        ("wal-level", "wal_level is replica on the source", "ALTER SYSTEM SET wal_level"),
        ("source-slots", "1 replication slots", "max_replication_slots"),
        ("target-workers", "1 logical replication workers", "max_logical_replication_workers"),
        ("encoding", "LATIN1 on the source, UTF8 on the target", "ENCODING 'LATIN1'"),
        ("schema-migrations", "20 only on the target", "leave run-migration to the runbook"),
        ("schema-equality", "column available_aal of table public.identities exists only on the target", "kratos-new"),
        ("networks", "no networks row", "start once"),
        ("source-application", "no address", "source-kratos"),
    ] {
        objects(&findings, check, Verdict::Fail, found, cure);
    }
}

#[test]
fn the_documented_order_asks_for_a_long_enough_lease() {
    let (source, target) = (Cluster::start(15).unwrap(), Cluster::start(17).unwrap());
    source.create_database("iam_kratos").unwrap();
    target.create_database("iam_kratos-new").unwrap();
    source.psql("iam_kratos", &kratos_schema("25.4.0")).unwrap();
    target.psql("iam_kratos-new", &kratos_schema("25.4.0")).unwrap();
    let mut look = look(&source, &target);
    look.settings.outage_limit = 300;
    let findings = run(&look);
    assert!(finding(&findings, "order").found.starts_with("documented"), "{}", report(&findings));
    objects(&findings, "outage-limit", Verdict::Fail, "the lease is 300 s", "outage-limit=720");
    look.settings.order = OrderChoice::MigrateFirst;
    objects(&run(&look), "order", Verdict::Fail, "order=migrate-first is impossible", "order=auto");
}
