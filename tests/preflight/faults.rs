//! One fault at a time on a pair that is fine: planted, found, cured as the cure says, fine again.

use super::rig::Expected;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Source,
    Target,
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Where it is planted.
    pub on: On,
    /// How.
    pub plant: &'static str,
    /// What preflight says.
    pub expected: Expected,
    /// The beginning of the statement that the cure names; it is run as the cure has it, to its end.
    pub told: &'static str,
    /// Where it is run.
    pub told_on: On,
    /// The statements that take the rest away, or all of it where the cure is no statement.
    pub mend: &'static str,
}

impl Fault {
    const fn told(mut self, statement: &'static str) -> Self {
        self.told = statement;
        self
    }

    const fn told_on(mut self, on: On) -> Self {
        self.told_on = on;
        self
    }

    const fn mend(mut self, statements: &'static str) -> Self {
        self.mend = statements;
        self
    }
}

const fn on(on: On, plant: &'static str, expected: Expected) -> Fault {
    Fault { on, plant, expected, told: "", told_on: on, mend: "" }
}

const fn source(plant: &'static str, expected: Expected) -> Fault {
    on(On::Source, plant, expected)
}

const fn target(plant: &'static str, expected: Expected) -> Fault {
    on(On::Target, plant, expected)
}

const fn fails(check: &'static str, found: &'static str, cure: &'static str) -> Expected {
    Expected::fails(check, found, cure)
}

const fn warns(check: &'static str, found: &'static str, cure: &'static str) -> Expected {
    Expected::warns(check, found, cure)
}

/// Settings of servers, databases and roles.
const SETTINGS: &[Fault] = &[
    target(
        "ALTER DATABASE \"iam_kratos-new\" SET default_transaction_read_only = on",
        fails("read-only", "on for every role on the target", "request_default_transaction_read_only"),
    )
    .told("SET default_transaction_read_only = off; ALTER DATABASE \"iam_kratos-new\" RESET default_transaction_read_only"),
    source(
        "ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()",
        fails("read-only", "on for the whole server on the source", "apply worker"),
    )
    .told("SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()"),
    source(
        "CREATE ROLE \"odd name\"; ALTER ROLE \"odd name\" SET session_replication_role = replica",
        fails("replication-role", "replica for role odd name on the source", "fence"),
    )
    .told("ALTER ROLE \"odd name\" RESET session_replication_role")
    .mend("DROP ROLE \"odd name\""),
    source(
        "ALTER SYSTEM SET dynamic_library_path = '/nowhere'; SELECT pg_reload_conf()",
        fails("output-plugin", "pgoutput", "dynamic_library_path"),
    )
    .told("ALTER SYSTEM RESET dynamic_library_path; SELECT pg_reload_conf()"),
    source(
        "ALTER SYSTEM SET dynamic_library_path = '/nowhere'; SELECT pg_reload_conf()",
        warns("source-reaches-target", "could not access file", "no way back"),
    )
    .mend("ALTER SYSTEM RESET dynamic_library_path; SELECT pg_reload_conf()"),
    target(
        "ALTER SYSTEM SET wal_keep_size = '20GB'; SELECT pg_reload_conf()",
        warns("disk", "bytes) on the target", "df on the unit"),
    )
    .told("ALTER SYSTEM RESET wal_keep_size; SELECT pg_reload_conf()"),
    source(
        "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'; SELECT pg_reload_conf()",
        fails("slot-wal-limit", "max_slot_wal_keep_size is 1 MiB on the source", "loses its slot"),
    )
    .told("ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf()"),
    target(
        "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'; SELECT pg_reload_conf()",
        warns("way-back", "max_slot_wal_keep_size is 1 MiB on the target", "until finalize"),
    )
    .told("ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf()"),
    target(
        "ALTER SYSTEM SET max_connections = 201; SELECT pg_reload_conf()",
        warns("pending-restart", "max_connections wait for a restart on the target", "restart that server"),
    )
    .mend("ALTER SYSTEM RESET max_connections; SELECT pg_reload_conf()"),
    source(
        "ALTER SYSTEM SET wal_sender_timeout = '2s'; SELECT pg_reload_conf()",
        warns("replication-timeouts", "wal_sender_timeout is 2000 ms on the source", "decode"),
    )
    .told("ALTER SYSTEM RESET wal_sender_timeout; SELECT pg_reload_conf()"),
    target(
        "ALTER ROLE operator IN DATABASE \"iam_kratos-new\" SET statement_timeout = '30s'",
        warns("timeouts", "statement_timeout is 30s for role operator on the target", "schema migration"),
    )
    .told("ALTER ROLE operator IN DATABASE \"iam_kratos-new\" RESET statement_timeout"),
    target(
        "ALTER SYSTEM SET synchronous_standby_names = 'elsewhere'; SELECT pg_reload_conf()",
        warns("standbys", "is 'elsewhere', so commits wait for 1 standbys and 0 stream (none is there)", "every commit waits"),
    )
    .told("ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()"),
    target(
        "ALTER DATABASE \"iam_kratos-new\" SET search_path = elsewhere, \"$user\"",
        fails("search-path", "schema_migration is in schema public on the target", "its own anew"),
    )
    .told("ALTER DATABASE \"iam_kratos-new\" RESET search_path"),
    target(
        "CREATE SCHEMA shadow; CREATE TABLE shadow.identities (id uuid PRIMARY KEY);
         ALTER DATABASE \"iam_kratos-new\" SET search_path = shadow, public",
        fails("search-path", "where shadow.identities hides public.identities on the target", "its own anew"),
    )
    .told("ALTER DATABASE \"iam_kratos-new\" RESET search_path")
    .mend("DROP SCHEMA shadow CASCADE"),
    target(
        "CREATE SCHEMA operator; CREATE TABLE operator.sessions (id uuid PRIMARY KEY)",
        fails("search-path", "for the whole server, where operator.sessions hides public.sessions", "its own anew"),
    )
    .told("ALTER DATABASE \"iam_kratos-new\" SET search_path = \"public\"")
    .mend("ALTER DATABASE \"iam_kratos-new\" RESET search_path; DROP SCHEMA operator CASCADE"),
    // This collation has no version of its own, so the cure's ALTER COLLATION cannot be tried here.
    source(
        "CREATE COLLATION folded (provider = libc, locale = 'C.UTF-8');
         CREATE TABLE words (word text COLLATE folded PRIMARY KEY); SET allow_system_table_mods = on;
         UPDATE pg_collation SET collversion = '0.1' WHERE collname = 'folded'",
        warns(
            "collation-versions",
            "collation public.folded changed since its indexes were built on the source",
            "REINDEX DATABASE CONCURRENTLY \"iam_kratos\"; ALTER COLLATION public.folded REFRESH VERSION",
        ),
    )
    .mend("DROP TABLE words; DROP COLLATION folded"),
    source("CREATE EXTENSION pg_trgm", fails("extensions", "pg_trgm missing on the target", "plugin-pg-trgm-enable=true"))
        .told("CREATE EXTENSION \"pg_trgm\"")
        .told_on(On::Target)
        .mend("DROP EXTENSION pg_trgm"),
    target(
        PLAIN,
        warns("extensions", "role plain may not create btree_gin (Kratos 1.1.0 creates it)", "plugin-btree-gin-enable=true"),
    )
    .mend(NOT_PLAIN),
];

/// The application's tables belong to a role without rights of its own.
const PLAIN: &str = "CREATE ROLE plain; DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT oid FROM pg_class WHERE relkind = 'r'
    AND relnamespace = 'public'::regnamespace LOOP EXECUTE format('ALTER TABLE %s OWNER TO plain', t); END LOOP; END $$";
const NOT_PLAIN: &str = "REASSIGN OWNED BY plain TO operator; DROP OWNED BY plain; DROP ROLE plain";

/// Others, and what earlier runs left.
const BESIDE: &[Fault] = &[
    source(
        "SELECT pg_create_logical_replication_slot('identity_migration_0badcafe', 'pgoutput')",
        fails(
            "leftovers",
            "replication slot identity_migration_0badcafe of run 0badcafe on the source",
            "from both sides, or run on the source: SELECT",
        ),
    )
    .told("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'identity_migration_0badcafe'"),
    source(
        "CREATE PUBLICATION identity_migration_0badcafe",
        fails("leftovers", "publication identity_migration_0badcafe of run 0badcafe", "run rollback or finalize on that one"),
    )
    .told("DROP PUBLICATION IF EXISTS identity_migration_0badcafe"),
    target(
        "CREATE SUBSCRIPTION identity_migration_0badcafe CONNECTION 'dbname=x' PUBLICATION x WITH (connect = false)",
        fails("leftovers", "subscription identity_migration_0badcafe of run 0badcafe", "gone for good"),
    )
    .told(
        "ALTER SUBSCRIPTION identity_migration_0badcafe DISABLE; \
         ALTER SUBSCRIPTION identity_migration_0badcafe SET (slot_name = NONE); DROP SUBSCRIPTION identity_migration_0badcafe",
    ),
    target(
        "CREATE SCHEMA identity_migration",
        fails("leftovers", "schema identity_migration on the target", "run rollback or finalize on that one"),
    )
    .told("DROP SCHEMA IF EXISTS identity_migration CASCADE"),
    source(
        "SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')",
        warns("foreign-slots", "logical slot forgotten without a reader holds", "fills the disk"),
    )
    .told("SELECT pg_drop_replication_slot('forgotten')"),
    source(
        "\\connect postgres\nSELECT pg_create_logical_replication_slot('identity_migration_feedf00d', 'pgoutput')",
        warns(
            "foreign-slots",
            "logical slot identity_migration_feedf00d of database postgres without a reader holds",
            "gone for good",
        ),
    )
    .told("SELECT pg_drop_replication_slot('identity_migration_feedf00d')"),
    target(
        "SELECT pg_create_physical_replication_slot('gone_member', true)",
        warns("foreign-slots", "physical slot gone_member without a reader holds", "fills the disk"),
    )
    .told("SELECT pg_drop_replication_slot('gone_member')"),
    source(
        "CREATE PUBLICATION \"Reports\" FOR ALL TABLES",
        warns("foreign-publications", "publication Reports on the source", "subscribers"),
    )
    .told("DROP PUBLICATION \"Reports\""),
    target(
        "CREATE SUBSCRIPTION other CONNECTION 'dbname=x' PUBLICATION x WITH (connect = false, slot_name = NONE)",
        fails("foreign-subscriptions", "subscription other (disabled) on the target", "fence"),
    )
    .told("DROP SUBSCRIPTION \"other\""),
    source(
        "CREATE SUBSCRIPTION inward CONNECTION 'dbname=x' PUBLICATION x WITH (connect = false, slot_name = NONE)",
        fails("foreign-subscriptions", "subscription inward (disabled) on the source", "fence"),
    )
    .told("DROP SUBSCRIPTION \"inward\""),
    source(
        "BEGIN; SELECT 1 FROM pg_current_xact_id(); PREPARE TRANSACTION 'it''s stuck'",
        fails("prepared-transactions", "'it's stuck'", "COMMIT PREPARED"),
    )
    .told("ROLLBACK PREPARED 'it''s stuck'"),
    source(
        "\\connect postgres\nBEGIN; SELECT 1 FROM pg_current_xact_id(); PREPARE TRANSACTION 'beside'",
        fails(
            "prepared-transactions",
            "'beside' in database postgres",
            "\\connect \"postgres\" and ROLLBACK PREPARED 'beside'; or COMMIT",
        ),
    )
    .mend("\\connect postgres\nROLLBACK PREPARED 'beside'"),
    target(
        "\\connect postgres\nBEGIN; SELECT 1 FROM pg_current_xact_id(); PREPARE TRANSACTION 'beside'",
        warns("prepared-transactions", "'beside' in database postgres", "the slot of the way back would wait"),
    )
    .mend("\\connect postgres\nROLLBACK PREPARED 'beside'"),
    source(
        "CREATE TABLE ancient (id int PRIMARY KEY); SET allow_system_table_mods = on;
         UPDATE pg_class SET relfrozenxid = ((pg_current_xact_id()::text::int8 + 4294967296 - 190000000) % 4294967296)::text::xid
         WHERE oid = 'ancient'::regclass",
        warns("wraparound", "public.ancient is 1900000", "before the fence"),
    )
    .told("VACUUM (FREEZE) public.ancient")
    .mend("DROP TABLE ancient"),
];

/// Tables and what hangs on them.
const TABLES: &[Fault] = &[
    source("CREATE UNLOGGED TABLE scratch (id uuid PRIMARY KEY)", fails("tables", "public.scratch is unlogged", "Kratos's own"))
        .told("ALTER TABLE \"public\".\"scratch\" SET LOGGED")
        .mend("DROP TABLE scratch"),
    source("CREATE TABLE parted (id int) PARTITION BY RANGE (id)", fails("tables", "public.parted is partitioned", "saving"))
        .told("DROP TABLE \"public\".\"parted\""),
    source(
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER away FOREIGN DATA WRAPPER far; CREATE FOREIGN TABLE afar (id int) SERVER away",
        fails("tables", "public.afar is a foreign table", "saving"),
    )
    .told("DROP FOREIGN TABLE \"public\".\"afar\"")
    .mend("DROP FOREIGN DATA WRAPPER far CASCADE"),
    source(
        "CREATE MATERIALIZED VIEW \"a \"\"view\"\"\" AS SELECT id FROM identities",
        fails("tables", "public.a \"view\" is a materialized view", "saving"),
    )
    .told("DROP MATERIALIZED VIEW \"public\".\"a \"\"view\"\"\""),
    source(
        "ALTER TABLE sessions DROP CONSTRAINT sessions_pkey CASCADE",
        fails("replica-identity", "public.sessions has no primary key", "ADD PRIMARY KEY"),
    )
    .mend(
        "ALTER TABLE sessions ADD CONSTRAINT sessions_pkey PRIMARY KEY (id);
         ALTER TABLE session_devices ADD CONSTRAINT session_metadata_sessions_id_fk FOREIGN KEY (session_id)
         REFERENCES sessions (id) ON DELETE CASCADE",
    ),
    source(
        "ALTER TABLE sessions REPLICA IDENTITY NOTHING",
        fails("replica-identity", "public.sessions has REPLICA IDENTITY NOTHING", "primary key"),
    )
    .told("ALTER TABLE \"public\".\"sessions\" REPLICA IDENTITY DEFAULT"),
    source(
        "ALTER TABLE courier_message_dispatches REPLICA IDENTITY FULL",
        fails("replica-identity", "courier_message_dispatches is FULL and its column error cannot be compared", ""),
    )
    .told("ALTER TABLE public.courier_message_dispatches REPLICA IDENTITY DEFAULT"),
    source(
        "CREATE TABLE late (id int PRIMARY KEY DEFERRABLE)",
        fails("replica-identity", "public.late's key public.late_pkey is deferrable", "USING INDEX"),
    )
    .mend("DROP TABLE late"),
    source(
        "CREATE TABLE child () INHERITS (networks)",
        fails("table-oddities", "public.child inherits from public.networks on the source", "copied twice"),
    )
    .told("ALTER TABLE public.child NO INHERIT public.networks")
    .mend("DROP TABLE child"),
    target(
        "ALTER TABLE identities ENABLE ROW LEVEL SECURITY",
        fails("table-oddities", "public.identities has row-level security on the target", "hidden"),
    )
    .told("ALTER TABLE public.identities DISABLE ROW LEVEL SECURITY"),
    source(
        "CREATE RULE keep AS ON DELETE TO identities DO INSTEAD NOTHING",
        fails("table-oddities", "public.identities has rule keep", "rewritten"),
    )
    .told("DROP RULE keep ON public.identities"),
    source(
        "CREATE TABLE doubled (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, n int GENERATED ALWAYS AS IDENTITY)",
        warns("computed-columns", "public.doubled.twice is generated; public.doubled.n is an identity column", "sequences"),
    )
    .mend("DROP TABLE doubled"),
    source(
        "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TABLE moods (id int PRIMARY KEY, mood mood)",
        fails("column-types", "public.moods (mood public.mood (good, bad))", "the same on both sides"),
    )
    .mend("DROP TABLE moods; DROP TYPE mood"),
    source("CREATE TABLE prices (id int PRIMARY KEY, price money)", warns("column-types", "public.prices.price (money)", "money"))
        .mend("DROP TABLE prices"),
    source("SELECT lo_create(4711)", fails("large-objects", "1 large objects", "not replicated"))
        .told("SELECT lo_unlink(oid) FROM pg_largeobject_metadata"),
    source(
        "CREATE INDEX half_built ON sessions (aal); SET allow_system_table_mods = on;
         UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'half_built'::regclass",
        warns("invalid-indexes", "index public.half_built is invalid on the source", "CONCURRENTLY"),
    )
    .told("REINDEX INDEX CONCURRENTLY public.half_built")
    .mend("DROP INDEX half_built"),
    target(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER \"Touch\" BEFORE UPDATE ON identities FOR EACH ROW EXECUTE FUNCTION touch();
         ALTER TABLE identities ENABLE ALWAYS TRIGGER \"Touch\"",
        fails("target-triggers", "Touch of public.identities", "application only"),
    )
    .told("ALTER TABLE public.identities ENABLE TRIGGER \"Touch\"")
    .mend("DROP FUNCTION touch CASCADE"),
    source(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER touch BEFORE UPDATE ON identities FOR EACH ROW EXECUTE FUNCTION touch();
         ALTER TABLE identities ENABLE REPLICA TRIGGER touch",
        warns("source-triggers", "touch of public.identities", "way back"),
    )
    .told("ALTER TABLE public.identities ENABLE TRIGGER touch")
    .mend("DROP FUNCTION touch CASCADE"),
    target(
        "CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
         CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION watch()",
        warns("event-triggers", "event trigger watch on the target", "schema migration"),
    )
    .told("ALTER EVENT TRIGGER \"watch\" DISABLE")
    .mend("DROP EVENT TRIGGER watch; DROP FUNCTION watch"),
];

/// How like the two schemas are.
const SCHEMAS: &[Fault] = &[
    target(
        "CREATE ROLE stranger; GRANT ALL ON SCHEMA public TO stranger; ALTER TABLE sessions OWNER TO stranger",
        fails("ownership", "public.sessions belongs to stranger on the target", "as operator"),
    )
    .told("ALTER TABLE \"public\".\"sessions\" OWNER TO \"operator\"")
    .mend("REVOKE ALL ON SCHEMA public FROM stranger; DROP ROLE stranger"),
    target(
        "CREATE ROLE stranger; GRANT ALL ON SCHEMA public TO stranger; CREATE SEQUENCE stray; ALTER SEQUENCE stray OWNER TO stranger",
        fails("ownership", "sequence public.stray belongs to stranger on the target", "as operator"),
    )
    .told("ALTER SEQUENCE public.stray OWNER TO \"operator\"")
    .mend("DROP SEQUENCE stray; REVOKE ALL ON SCHEMA public FROM stranger; DROP ROLE stranger"),
    target(PLAIN, fails("ownership", "role plain may not create anything in schema public", "as plain"))
        .told("GRANT CREATE ON SCHEMA \"public\" TO \"plain\"")
        .mend(NOT_PLAIN),
    target(
        "CREATE ROLE \"charmed_iam_kratos-new_owner\"",
        fails("ownership", "public.identities belongs to operator", "OWNER TO \"charmed_iam_kratos-new_owner\""),
    )
    .mend("DROP ROLE \"charmed_iam_kratos-new_owner\""),
    target(
        "ALTER TABLE identities ADD COLUMN extra integer",
        fails("schema-equality", "column extra of table public.identities exists only on the target", "kratos-new"),
    )
    .mend("ALTER TABLE identities DROP COLUMN extra"),
    target(
        "ALTER TABLE identities ALTER COLUMN state TYPE text",
        fails("schema-equality", "type of column state of table public.identities", "kratos-new"),
    )
    .mend("ALTER TABLE identities ALTER COLUMN state TYPE varchar(255)"),
    target(
        "ALTER TABLE identities ADD CONSTRAINT long CHECK (length(schema_id) > 3)",
        fails("constraints", "only on the target: public.identities: CHECK", "DROP CONSTRAINT"),
    )
    .mend("ALTER TABLE identities DROP CONSTRAINT long"),
    source(
        "CREATE UNIQUE INDEX once ON session_devices (session_id, id)",
        warns(
            "constraints",
            "only on the source: public.session_devices: unique index USING btree (session_id, id)",
            "not carried over",
        ),
    )
    .mend("DROP INDEX once"),
    source(
        "CREATE VIEW people AS SELECT id FROM identities",
        warns("other-objects", "view public.people", "before the flip"),
    )
    .mend("DROP VIEW people"),
    target(
        "DELETE FROM schema_migration WHERE version = (SELECT max(version) FROM schema_migration)",
        fails("schema-migrations", "1 migrations only on the source", "fresh database"),
    )
    .mend("INSERT INTO schema_migration (version) VALUES ('LAST')"),
    source(
        "INSERT INTO schema_migration (version) VALUES ('20990101000000000000')",
        fails("source-release", "1 migrations of no known release", "newer revision"),
    )
    .mend("DELETE FROM schema_migration WHERE version LIKE '2099%'"),
    source(
        "SET allow_system_table_mods = on; UPDATE pg_class SET reltuples = 50000000 WHERE relname = 'sessions'",
        warns("migration-time", "s should be granted", "timeout="),
    )
    .mend("ANALYZE sessions"),
];

/// Rows.
const ROWS: &[Fault] = &[
    target(
        "INSERT INTO selfservice_errors (id, errors, seen_at, was_seen, created_at, updated_at)
         VALUES (gen_random_uuid(), '{}', now(), false, now(), now())",
        fails("target-empty", "public.selfservice_errors", "fresh one"),
    )
    .told("TRUNCATE \"public\".\"selfservice_errors\" CASCADE"),
    source(
        "INSERT INTO networks VALUES ('00000000-0000-0000-0000-00000000000a', now(), now())",
        fails("networks", "2 networks rows on the source", "hides the others"),
    )
    .told("DELETE FROM networks WHERE id = '00000000-0000-0000-0000-00000000000a'"),
    source(
        "UPDATE identities SET nid = NULL WHERE id = (SELECT min(id::text)::uuid FROM identities)",
        warns("hidden-rows", "1 identities have no nid", "stay hidden"),
    )
    .told("UPDATE identities SET nid = (SELECT id FROM networks ORDER BY created_at LIMIT 1) WHERE nid IS NULL"),
    source(
        "ALTER TABLE identities DISABLE TRIGGER ALL;
         UPDATE identities SET nid = gen_random_uuid() WHERE id = (SELECT min(id::text)::uuid FROM identities)",
        warns("hidden-rows", "1 identities have no nid, or another network's: no server shows them", "stay hidden"),
    )
    .mend("UPDATE identities SET nid = (SELECT id FROM networks); ALTER TABLE identities ENABLE TRIGGER ALL"),
    target(
        "UPDATE identity_credential_types SET name = 'else' WHERE name = 'totp'",
        warns("credential-types", "totp is only on the source", "login method"),
    )
    .mend("UPDATE identity_credential_types SET name = 'totp' WHERE name = 'else'"),
    source(
        "UPDATE courier_messages SET status = 1 WHERE id = (SELECT min(id::text)::uuid FROM courier_messages)",
        warns("courier-queue", "1 messages are queued on the source", "before the flip"),
    )
    .told("UPDATE courier_messages SET status = 4 WHERE status IN (1, 3)"),
    source(
        "UPDATE identities SET schema_id = 'gone' WHERE id = (SELECT min(id::text)::uuid FROM identities)",
        fails("identity-schemas", "gone (1 identities)", "identity_schemas"),
    )
    .mend("UPDATE identities SET schema_id = 'default' WHERE schema_id = 'gone'"),
    source(
        "ALTER TABLE session_devices DISABLE TRIGGER ALL;
         UPDATE session_devices SET nid = gen_random_uuid() WHERE id = (SELECT min(id::text)::uuid FROM session_devices)",
        warns("orphans", "1 session_devices without a session", "back-fill"),
    )
    .told("DELETE FROM \"public\".\"session_devices\"")
    .mend("UPDATE session_devices SET nid = (SELECT id FROM networks); ALTER TABLE session_devices ENABLE TRIGGER ALL"),
];

/// Every fault of this kind.
pub fn all() -> impl Iterator<Item = &'static Fault> {
    [SETTINGS, BESIDE, TABLES, SCHEMAS, ROWS].into_iter().flatten()
}
