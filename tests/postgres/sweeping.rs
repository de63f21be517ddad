//! One query finds everything of ours, one call removes it.

use super::server;
use coordinator::postgres::leftovers::{list, sweep};
use peers::cluster::Cluster;

#[tokio::test]
async fn everything_of_ours_is_found_and_removed_and_nothing_else() {
    for major in [14, 16] {
        let cluster = Cluster::start(major).unwrap();
        cluster.create_database("other").unwrap();
        cluster
            .psql(
                "postgres",
                r#"CREATE TABLE "Th'eirs" (id int PRIMARY KEY, n int);
                CREATE SCHEMA identity_migration CREATE TABLE fence (n int);
                CREATE SCHEMA identity_migration_journal;
                CREATE FUNCTION identity_migration.fence() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
                CREATE TRIGGER identity_migration_fence BEFORE INSERT ON "Th'eirs" EXECUTE FUNCTION identity_migration.fence();
                CREATE TRIGGER identity_migration_two BEFORE UPDATE ON "Th'eirs" EXECUTE FUNCTION identity_migration.fence();
                CREATE FUNCTION identity_migration_loose(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
                CREATE FUNCTION identity_migration.ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
                CREATE EVENT TRIGGER identity_migration_ddl ON ddl_command_start EXECUTE FUNCTION identity_migration.ddl();
                CREATE UNIQUE INDEX identity_migration_old_key ON "Th'eirs" (n);
                CREATE TABLE identity_migration_kept (n int);
                CREATE PUBLICATION identity_migration_ab FOR TABLE "Th'eirs";
                CREATE PUBLICATION theirs FOR TABLE "Th'eirs";
                CREATE SUBSCRIPTION identity_migration_ab CONNECTION 'host=nowhere.invalid' PUBLICATION x
                    WITH (connect = false, slot_name = 'gone');
                SELECT pg_create_logical_replication_slot('identity_migration_ab', 'pgoutput');
                SELECT pg_create_logical_replication_slot('theirs', 'pgoutput');
                SELECT pg_replication_origin_create('identity_migration_origin');
                CREATE ROLE "some one";
                ALTER ROLE "some one" IN DATABASE postgres SET identity_migration.pass = 'on';
                ALTER DATABASE postgres SET identity_migration.pass = 'on';
                ALTER DATABASE postgres SET work_mem = '5MB';"#,
            )
            .unwrap();
        cluster
            .psql("other", "SELECT pg_create_logical_replication_slot('identity_migration_other', 'pgoutput')")
            .unwrap();
        let session = server(&cluster).connect("postgres", "test").await.unwrap();
        let found = list(&session).await.unwrap();
        let names: Vec<String> = found.iter().map(ToString::to_string).collect();
        let expected = [
            "subscription identity_migration_ab",
            "publication identity_migration_ab",
            "replication slot identity_migration_ab",
            "replication origin identity_migration_origin",
            "event trigger identity_migration_ddl",
            "trigger identity_migration_fence of table public.\"Th'eirs\"",
            "trigger identity_migration_two of table public.\"Th'eirs\"",
            "function public.identity_migration_loose(integer)",
            "index public.identity_migration_old_key",
            "table public.identity_migration_kept",
            "schema identity_migration",
            "setting identity_migration.pass for every role",
            "setting identity_migration.pass for role some one",
        ];
        assert_eq!(names, expected);

        // A caller may keep some.
        let (kept, rest): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|one| one.name == "public.identity_migration_kept");
        sweep(&session, &rest).await.unwrap();
        assert_eq!(list(&session).await.unwrap(), kept);
        sweep(&session, &rest).await.unwrap();
        sweep(&session, &kept).await.unwrap();
        assert_eq!(list(&session).await.unwrap(), []);
        let others = cluster
            .psql(
                "postgres",
                "SELECT count(*) FROM pg_replication_slots; SELECT count(*) FROM pg_publication;
                 SELECT count(*) FROM pg_namespace WHERE nspname = 'identity_migration_journal'; SHOW work_mem",
            )
            .unwrap();
        assert_eq!(others, "2\n1\n1\n5MB");
    }
}
