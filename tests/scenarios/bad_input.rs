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

/// Where and how it is planted; what is found; the statement that the cure names; what takes the rest away.
type Bad = (On, &'static str, &'static str, &'static str, &'static str);

const BAD: &[Bad] = &[
    (
        On::Target,
        "INSERT INTO selfservice_errors (id, errors, seen_at, was_seen, created_at, updated_at)
         VALUES (gen_random_uuid(), '{}', now(), false, now(), now())",
        "public.selfservice_errors",
        "TRUNCATE \"public\".\"selfservice_errors\" CASCADE",
        "",
    ),
    (
        On::Source,
        "ALTER TABLE sessions REPLICA IDENTITY NOTHING",
        "public.sessions has REPLICA IDENTITY NOTHING on the source",
        "ALTER TABLE \"public\".\"sessions\" REPLICA IDENTITY DEFAULT",
        "",
    ),
    (
        On::Source,
        "BEGIN; SELECT 1 FROM pg_current_xact_id(); PREPARE TRANSACTION 'stuck'",
        "prepared transaction 'stuck'",
        "ROLLBACK PREPARED 'stuck'",
        "",
    ),
    (
        On::Source,
        "CREATE ROLE loader; ALTER ROLE loader SET session_replication_role = replica",
        "session_replication_role is replica for role loader on the source",
        "ALTER ROLE loader RESET session_replication_role",
        "DROP ROLE loader",
    ),
    (
        On::Target,
        "CREATE SUBSCRIPTION other CONNECTION 'dbname=x' PUBLICATION x WITH (connect = false, slot_name = NONE)",
        "subscription other (disabled) on the target",
        "DROP SUBSCRIPTION \"other\"",
        "",
    ),
    (
        On::Source,
        "CREATE TABLE \"we'ird \"\"table\"\"\" (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "public.we'ird \"table\" is partitioned",
        "DROP TABLE \"public\".\"we'ird \"\"table\"\"\"",
        "",
    ),
];

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
    for (on, plant, found, cure, mend) in BAD {
        sql(&stage, *on, plant);
        let before = rig::databases(&stage);
        says(&run(model, "preflight", &[]), found, cure);
        says(&run(model, "replicate", &[("wait", "120")]), found, cure);
        rig::assert_same("a refused replicate", &before, &rig::databases(&stage));
        for cluster in [&stage.source, &stage.target] {
            assert_eq!(peers::left_behind(cluster, &[&stage.own_database()]).unwrap(), Vec::<String>::new());
        }
        sql(&stage, *on, cure);
        sql(&stage, *on, mend);
    }
    expect(model, "preflight", &[], "done");
    rig::follow(&stage);
    expect(model, "rollback", &[], "done");
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
