//! Bad input, through the real dispatch: `preflight` names it with its cure, `replicate` refuses in the same words
//! and touches nothing, and when the cure was done, as told, it simply goes on.

use super::rig::{self, End};
use super::story::{expect, run};
use emulator::ActionResult;
use emulator::stage::Stage;

#[derive(Clone, Copy)]
enum On {
    Source,
    Target,
}

/// What takes away what was planted.
#[derive(Clone, Copy)]
enum Cure {
    /// The statement that is named; another one takes away what it leaves.
    Typed(&'static str, &'static str),
    /// Words that are said; the statement is what a person does then.
    Said(&'static str, &'static str),
}

use Cure::{Said, Typed};

/// Where and how it is planted, what is found, and what takes it away.
type Bad = (On, &'static str, &'static str, Cure);

const BAD: &[Bad] = &[
    (
        On::Target,
        "INSERT INTO selfservice_errors (id, errors, seen_at, was_seen, created_at, updated_at)
         VALUES (gen_random_uuid(), '{}', now(), false, now(), now())",
        "public.selfservice_errors",
        Typed("TRUNCATE \"public\".\"selfservice_errors\" CASCADE", ""),
    ),
    (
        On::Source,
        "ALTER TABLE sessions REPLICA IDENTITY NOTHING",
        "public.sessions has REPLICA IDENTITY NOTHING on the source",
        Typed("ALTER TABLE \"public\".\"sessions\" REPLICA IDENTITY DEFAULT", ""),
    ),
    (
        On::Source,
        "BEGIN; SELECT 1 FROM pg_current_xact_id(); PREPARE TRANSACTION 'stuck'",
        "prepared transaction 'stuck'",
        Typed("ROLLBACK PREPARED 'stuck'", ""),
    ),
    (
        On::Source,
        "CREATE ROLE loader; ALTER ROLE loader SET session_replication_role = replica",
        "session_replication_role is replica for role loader on the source",
        Typed("ALTER ROLE loader RESET session_replication_role", "DROP ROLE loader"),
    ),
    (
        On::Target,
        "CREATE SUBSCRIPTION other CONNECTION 'dbname=x' PUBLICATION x WITH (connect = false, slot_name = NONE)",
        "subscription other (disabled) on the target",
        Typed("DROP SUBSCRIPTION \"other\"", ""),
    ),
    (
        On::Source,
        "CREATE TABLE \"we'ird \"\"table\"\"\" (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "public.we'ird \"table\" is partitioned",
        Typed("DROP TABLE \"public\".\"we'ird \"\"table\"\"\"", ""),
    ),
    (
        On::Target,
        "ALTER TABLE identities ADD COLUMN extra text",
        "column extra of table public.identities exists only on the target",
        Said("kratos-new", "ALTER TABLE identities DROP COLUMN extra"),
    ),
    (
        On::Source,
        "CREATE UNLOGGED TABLE scratch (id uuid PRIMARY KEY)",
        "public.scratch is unlogged",
        Typed("ALTER TABLE \"public\".\"scratch\" SET LOGGED", "DROP TABLE scratch"),
    ),
    (
        On::Source,
        "SELECT lo_create(4711)",
        "1 large objects",
        Typed("SELECT lo_unlink(oid) FROM pg_largeobject_metadata", ""),
    ),
    (
        On::Source,
        "CREATE RULE keep AS ON DELETE TO identities DO INSTEAD NOTHING",
        "public.identities has rule keep",
        Typed("DROP RULE keep ON public.identities", ""),
    ),
    (
        On::Source,
        "ALTER TABLE sessions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "public.sessions has row-level security on the source",
        Typed(
            "ALTER TABLE public.sessions DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE sessions NO FORCE ROW LEVEL SECURITY",
        ),
    ),
    (
        On::Target,
        "ALTER TABLE identities ENABLE ROW LEVEL SECURITY",
        "public.identities has row-level security on the target",
        Typed("ALTER TABLE public.identities DISABLE ROW LEVEL SECURITY", ""),
    ),
    (
        On::Target,
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER \"Touch\" BEFORE UPDATE ON identities FOR EACH ROW EXECUTE FUNCTION touch();
         ALTER TABLE identities ENABLE ALWAYS TRIGGER \"Touch\"",
        "Touch of public.identities",
        Typed("ALTER TABLE public.identities ENABLE TRIGGER \"Touch\"", "DROP FUNCTION touch CASCADE"),
    ),
    (
        On::Source,
        "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TABLE moods (id int PRIMARY KEY, mood mood)",
        "public.moods (mood public.mood (good, bad))",
        Said("the same on both sides", "DROP TABLE moods; DROP TYPE mood"),
    ),
];

/// What names the cure.
const PREFLIGHT: &str = "juju run coordinator/leader preflight";

fn sql(stage: &Stage, on: On, sql: &str) {
    match on {
        On::Source => stage.source.psql("iam_kratos", sql),
        On::Target => stage.target.psql("iam_kratos-new", sql),
    }
    .unwrap();
}

/// Insists on a refusal with this sentence and this cure.
fn says(result: &ActionResult, found: &str, cure: &str) {
    assert_eq!((result.result("outcome").as_str(), result.status.as_str()), ("failed", "failed"), "{result:?}");
    assert!(result.message.starts_with("cannot "), "{result:?}");
    assert!(result.message.contains(found) && result.message.contains(cure), "{found:?}, {cure:?}: {}", result.message);
}

#[test]
fn what_is_wrong_is_named_before_anything_is_touched() {
    let stage = rig::stage("bad-input", 1);
    let model = &stage.model;
    for (on, plant, found, cure) in BAD {
        let (Typed(words, mend) | Said(words, mend)) = cure;
        sql(&stage, *on, plant);
        let before = rig::databases(&stage);
        says(&run(model, "preflight", &[]), found, words);
        says(&run(model, "replicate", &[("wait", "120")]), found, words);
        rig::assert_same("a refused replicate", &before, &rig::databases(&stage));
        for cluster in [&stage.source, &stage.target] {
            assert_eq!(peers::left_behind(cluster, &[&stage.own_database()]).unwrap(), Vec::<String>::new());
        }
        if matches!(cure, Typed(..)) {
            sql(&stage, *on, words);
        }
        sql(&stage, *on, mend);
    }
    expect(model, "preflight", &[], "done");
    rig::follow(&stage);
    expect(model, "rollback", &[], "done");
    rig::close(&stage, End::Source);
}

/// What the source's server and our role there must be able to do.
#[test]
fn rights_and_wal_that_the_source_lacks() {
    let stage = rig::stage("lacks", 1);
    let model = &stage.model;
    let ours = "SELECT usename FROM pg_user WHERE usename ~ '^relation' ORDER BY usesysid DESC LIMIT 1";
    let role = stage.source.psql("postgres", ours).unwrap();
    stage.source.psql("postgres", &format!("ALTER ROLE {role} NOSUPERUSER")).unwrap();
    let cures = [
        ("permission denied", format!("GRANT CONNECT ON DATABASE \"iam_kratos\" TO \"{role}\"")),
        ("is no superuser (without REPLICATION", format!("ALTER ROLE \"{role}\" SUPERUSER")),
    ];
    for (found, cure) in cures {
        let told = run(model, "replicate", &[("wait", "60")]);
        assert_eq!((told.status.as_str(), told.result("next").as_str()), ("failed", PREFLIGHT), "{told:?}");
        says(&run(model, "preflight", &[]), found, &cure);
        stage.source.psql("postgres", &cure).unwrap();
    }
    expect(model, "preflight", &[], "done");
    let set_level = |level: &str| {
        stage.source.psql("postgres", &format!("ALTER SYSTEM SET wal_level = '{level}'")).unwrap();
        stage.source.restart(peers::cluster::Mode::Fast).unwrap();
        peers::wait_for("Kratos to be ready again", rig::SOON, || stage.kratos.client().ready()).unwrap();
    };
    set_level("replica");
    for action in ["preflight", "replicate"] {
        says(&run(model, action, &[]), "wal_level is replica on the source", "ALTER SYSTEM SET wal_level = 'logical'");
    }
    set_level("logical");
    expect(model, "preflight", &[], "done");
    rig::follow(&stage);
    expect(model, "rollback", &[], "done");
    // A neighbour's own hook may have met its server in the restart.
    rig::close_but_one_hook(&stage, End::Source);
}

#[test]
fn the_target_is_older() {
    let stage = rig::stage_between("older", 16, 14);
    rig::deploy(&stage, 1);
    for action in ["preflight", "replicate"] {
        says(&run(&stage.model, action, &[]), "PostgreSQL 16 → 14: the target is older", "a newer release");
    }
    rig::close(&stage, End::Source);
}

/// One database that goes by two addresses is one database.
#[test]
fn the_source_database_is_its_own_target() {
    let stage = rig::empty_stage("itself");
    let model = &stage.model;
    let elsewhere = peers::proxy::Proxy::start(stage.source.host(), stage.source.port(), &Default::default()).unwrap();
    let again = emulator::neighbours::CharmedPostgresql::new(std::sync::Arc::clone(&stage.source))
        .seen_at("coordinator", &format!("127.0.0.1:{}", elsewhere.port()));
    model.deploy(emulator::Charm::Native(Box::new(again)), "postgresql-again").unwrap();
    model.deploy(emulator::Charm::Folder(super::story::charm("itself")), "coordinator").unwrap();
    for (endpoint, other) in [
        ("source-database", "postgresql-k8s:database"),
        ("target-database", "postgresql-again:database"),
        ("source-kratos", "kratos:kratos-info"),
        ("target-kratos", "kratos-new:kratos-info"),
    ] {
        model.integrate(&format!("coordinator:{endpoint}"), other).unwrap();
        // Two servers of one cluster make the coordinator's database, one after the other.
        model.wait_idle(rig::SOON).unwrap();
    }
    model.config("coordinator", &[("target-database-name", "iam_kratos")]).unwrap();
    rig::status_says(model, "coordinator/0", "ready");
    let before = stage.source.psql("iam_kratos", "SELECT md5(string_agg(i::text, ',' ORDER BY id)) FROM identities i");
    for action in ["preflight", "replicate"] {
        says(&run(model, action, &[]), "both sides are database iam_kratos", "set target-database-name");
    }
    let after = stage.source.psql("iam_kratos", "SELECT md5(string_agg(i::text, ',' ORDER BY id)) FROM identities i");
    assert_eq!(before.unwrap(), after.unwrap());
    model.remove_relation("coordinator:target-database", "postgresql-again:database").unwrap();
    model.reset_config("coordinator", &["target-database-name"]).unwrap();
    model.wait_idle(rig::SOON).unwrap();
    model.integrate("coordinator:target-database", "postgresql-new:database").unwrap();
    rig::status_says(model, "coordinator/0", "ready");
    expect(model, "preflight", &[], "done");
    rig::close(&stage, End::Source);
}

#[test]
fn swapped_sides_are_told_from_where_the_people_are() {
    let stage = rig::stage_between("swapped", 15, 15);
    let model = &stage.model;
    model.deploy(emulator::Charm::Folder(super::story::charm("swapped")), "coordinator").unwrap();
    let relate = |pairs: &[(&str, &str)]| {
        for (endpoint, other) in pairs {
            model.integrate(&format!("coordinator:{endpoint}"), other).unwrap();
        }
    };
    let applications = [("source-kratos", "kratos-new:kratos-info"), ("target-kratos", "kratos:kratos-info")];
    let databases = [("source-database", "postgresql-new:database"), ("target-database", "postgresql-k8s:database")];
    relate(&applications);
    relate(&databases);
    rig::status_says(model, "coordinator/0", "ready");
    let before = [("iam_kratos", &stage.source), ("iam_kratos-new", &stage.target)].map(|(name, cluster)| {
        let people = "SELECT count(*), md5(string_agg(i::text, ',' ORDER BY id)) FROM identities i";
        (name, cluster, people, cluster.psql(name, people).unwrap())
    });
    for action in ["preflight", "replicate"] {
        says(
            &run(model, action, &[("wait", "120")][usize::from(action == "preflight")..]),
            "seem to be swapped",
            "integrate",
        );
    }
    for (name, cluster, people, rows) in before {
        assert_eq!(cluster.psql(name, people).unwrap(), rows, "{name}");
    }
    rig::close(&stage, End::Source);
}
