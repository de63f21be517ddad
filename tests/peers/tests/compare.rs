//! The independent comparison finds what is planted, and the search for leftovers finds every kind of object.

use peers::cluster::Cluster;
use peers::compare::{Options, databases};
use peers::kratos::Release;
use peers::{left_behind, seed};

#[test]
fn equal_rows_in_another_release_are_equal_and_every_planted_difference_is_found() {
    let (source, target) = (Cluster::start(14).unwrap(), Cluster::start(16).unwrap());
    for cluster in [&source, &target] {
        cluster.create_database("kratos").unwrap();
        Release::find("1.0.0").unwrap().migrate(&cluster.uri("kratos")).unwrap();
        seed::rows(cluster, "kratos", 3000).unwrap();
    }
    // The release step adds columns, tables and a credential type; none of it is a difference.
    Release::find("1.3.1").unwrap().migrate(&target.uri("kratos")).unwrap();
    let compare = || databases(&source.uri("kratos"), &target.uri("kratos"), &Options::kratos()).unwrap();
    let equal = compare();
    assert_eq!(equal.different(), 0, "{}", equal.report());
    // Seven tables with a row for each identity; flows, messages and errors; five credential types, one network.
    assert_eq!(equal.rows(), 7 * 3000 + 750 + 150 + 600 + 30 + 5 + 1);

    target.psql("kratos", "UPDATE identities SET traits = jsonb_set(traits, '{name}', '\"planted\"') WHERE id = (SELECT max(id::text) FROM identities)::uuid").unwrap();
    target
        .psql("kratos", "DELETE FROM session_devices WHERE id = (SELECT min(id::text) FROM session_devices)::uuid")
        .unwrap();
    target.psql("kratos", "INSERT INTO networks SELECT gen_random_uuid(), now(), now()").unwrap();
    target.psql("kratos", "UPDATE courier_messages SET template_data = NULL WHERE id = (SELECT min(id::text) FROM courier_messages)::uuid").unwrap();
    let planted = compare();
    assert_eq!(planted.different(), 4, "{}", planted.report());
    let table = |name: &str| planted.tables.iter().find(|table| table.name == name).unwrap();
    assert_eq!(table("public.identities").changed, 1);
    assert_eq!(table("public.session_devices").missing, 1);
    assert_eq!(table("public.networks").extra, 1);
    assert_eq!(table("public.courier_messages").changed, 1);
}

#[test]
fn every_kind_of_leftover_is_found() {
    let cluster = Cluster::start(16).unwrap();
    cluster.create_database("kratos").unwrap();
    assert_eq!(left_behind(&cluster, &[]).unwrap(), Vec::<String>::new());
    cluster
        .psql(
            "kratos",
            "CREATE TABLE kept (id int PRIMARY KEY);
             CREATE SCHEMA identity_migration;
             CREATE FUNCTION identity_migration.fence() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER identity_migration_fence BEFORE INSERT ON kept EXECUTE FUNCTION identity_migration.fence();
             CREATE FUNCTION identity_migration_birth() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
             CREATE EVENT TRIGGER identity_migration_birth ON ddl_command_end EXECUTE FUNCTION identity_migration_birth();
             CREATE PUBLICATION identity_migration_1 FOR TABLE kept;
             CREATE SUBSCRIPTION identity_migration_2 CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, slot_name = 'other');
             CREATE ROLE identity_migration_role;
             SELECT pg_create_logical_replication_slot('identity_migration_3', 'pgoutput');
             SELECT pg_replication_origin_create('identity_migration_4')",
        )
        .unwrap();
    let found = left_behind(&cluster, &[]).unwrap();
    let kinds = [
        "replication slot",
        "subscription",
        "role",
        "replication origin",
        "publication",
        "schema",
        "trigger",
        "event trigger",
        "function",
    ];
    for kind in kinds {
        assert!(found.iter().any(|line| line.starts_with(kind)), "{kind}: {found:?}");
    }
    assert!(left_behind(&cluster, &["kratos"]).unwrap().iter().all(|line| !line.starts_with("schema")));
}
