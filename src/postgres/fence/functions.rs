//! The objects of the fence inside an identity database, all in one schema.

use super::{NEWER_WORKER, transact};
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::names::literal;

/// Roles of the PostgreSQL charm itself, whose DDL passes a closed fence.
pub const SPARED_ROLES: [&str; 5] = ["operator", "backup", "replication", "monitoring", "rewind"];

/// Event trigger that refuses DDL on a closed source.
pub(super) const DDL_TRIGGER: &str = "identity_migration_refuse_ddl";
/// Event trigger that fences new tables on the target.
pub(super) const BIRTH_TRIGGER: &str = "identity_migration_fence_new_tables";

/// What every function says about itself: the owner's rights whoever calls, and no name that a caller can bend.
pub(super) const DEFINER: &str = "LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp";

/// Creates (or brings up to date) the schema, its tables and functions. Safe to run at any time, also while closed.
///
/// # Errors
/// [`Error::Server`] when the server refuses.
pub async fn install(session: &Session) -> Result<()> {
    let doing = format!("install the fence in database {} on {}", session.database, session.address);
    let statements = format!("{TURNS};\n{TABLES};\n{};\n{}", admits(), refuse_writes());
    transact(session, &doing, &format!("{statements};\n{};\n{RIGHTS}", hold_epoch())).await
}

/// True when [`install`] was done here.
///
/// # Errors
/// [`Error::Server`] when the server cannot be asked.
pub async fn installed(session: &Session) -> Result<bool> {
    session
        .query_one("SELECT to_regclass('identity_migration.fence') IS NOT NULL", &[])
        .await
        .map(|row| row.get(0))
        .map_err(Error::doing(format!("look for the fence in database {} on {}", session.database, session.address)))
}

/// True when every table of [`install`] is here.
///
/// # Errors
/// [`Error::Server`] when the server cannot be asked.
pub async fn whole(session: &Session) -> Result<bool> {
    session
        .query_one(
            "SELECT bool_and(to_regclass('identity_migration.' || t) IS NOT NULL)
             FROM unnest(ARRAY['fence', 'owner', 'marker']) t",
            &[],
        )
        .await
        .map(|row| row.get(0))
        .map_err(Error::doing(format!("look for the fence in database {} on {}", session.database, session.address)))
}

/// Two coordinators may come at the same moment: one waits. The lock is this database's ("fence" in ASCII).
const TURNS: &str = "SELECT pg_advisory_xact_lock(439788397413)";

/// `owner` has one row: the run that the fence belongs to, and the epoch of the worker whose writes count. `number`
/// orders the generations.
const TABLES: &str = "
CREATE SCHEMA IF NOT EXISTS identity_migration;
CREATE TABLE IF NOT EXISTS identity_migration.owner (
    single boolean PRIMARY KEY DEFAULT true CHECK (single), epoch bigint NOT NULL);
ALTER TABLE identity_migration.owner ADD COLUMN IF NOT EXISTS run text;
INSERT INTO identity_migration.owner (epoch) VALUES (0) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS identity_migration.fence (
    generation text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('leased', 'expired', 'permanent', 'closed', 'open')),
    until timestamptz,
    epoch bigint NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    CHECK ((until IS NULL) = (state IN ('closed', 'open'))));
CREATE TABLE IF NOT EXISTS identity_migration.marker (
    token text PRIMARY KEY, written timestamptz NOT NULL DEFAULT clock_timestamp())";

/// The functions may be run by anybody whose statement fires them, the schema may be used by nobody.
const RIGHTS: &str = "
REVOKE ALL ON SCHEMA identity_migration FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA identity_migration FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA identity_migration TO PUBLIC";

/// Decides for one generation. The first late writer and the coordinator compete for the row.
/// Both clocks are asked: a transaction that began before the deadline stays refused after it.
fn admits() -> String {
    format!(
        "CREATE OR REPLACE FUNCTION identity_migration.admits(wanted text) RETURNS boolean {DEFINER} AS $body$
DECLARE
    s text;
    u timestamptz;
BEGIN
    SELECT f.state, f.until INTO s, u FROM identity_migration.fence f WHERE f.generation = wanted;
    IF s = 'leased' AND pg_catalog.transaction_timestamp() > u AND pg_catalog.clock_timestamp() > u THEN
        UPDATE identity_migration.fence f SET state = 'expired' WHERE f.generation = wanted AND f.state = 'leased';
        IF FOUND THEN
            RETURN true;
        END IF;
        SELECT f.state INTO s FROM identity_migration.fence f WHERE f.generation = wanted;
    END IF;
    RETURN COALESCE(s IN ('expired', 'open'), false);
END
$body$"
    )
}

/// The trigger function; its argument is the generation.
fn refuse_writes() -> String {
    format!(
        "CREATE OR REPLACE FUNCTION identity_migration.refuse_writes() RETURNS trigger {DEFINER} AS $body$
BEGIN
    IF identity_migration.admits(TG_ARGV[0]) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'cannot execute % on %.%: writes are closed while the database moves to another server',
        TG_OP, pg_catalog.quote_ident(TG_TABLE_SCHEMA), pg_catalog.quote_ident(TG_TABLE_NAME)
        USING ERRCODE = '25006';
END
$body$"
    )
}

/// Every transaction of ours that changes the fence holds the owner row, so that a worker whose epoch
/// was overtaken fails, and the overtaking waits for what is in flight.
fn hold_epoch() -> String {
    format!(
        "CREATE OR REPLACE FUNCTION identity_migration.hold_epoch(mine bigint) RETURNS void {DEFINER} AS $body$
BEGIN
    PERFORM 1 FROM identity_migration.owner o WHERE o.epoch = mine FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'epoch % is not the owner''s', mine USING ERRCODE = '{NEWER_WORKER}';
    END IF;
END
$body$"
    )
}

/// The source's event trigger function; it knows sessions of ours by the setting that `Server::connect` makes.
/// The generation is part of the body, not looked up: catalogs are read with a
/// current snapshot, so a transaction with an old one meets the new generation, finds no row for it, and is refused.
pub(super) fn refuse_ddl(generation: &str) -> String {
    let spared = SPARED_ROLES.map(literal).join(", ");
    format!(
        "CREATE OR REPLACE FUNCTION identity_migration.refuse_ddl() RETURNS event_trigger {DEFINER} AS $body$
BEGIN
    IF COALESCE(pg_catalog.current_setting('identity_migration.run', true), '') <> ''
        OR session_user::text IN ({spared})
        OR identity_migration.admits({generation}) THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'cannot execute %: changes are closed while the database moves to another server', tg_tag
        USING ERRCODE = '25006';
END
$body$",
        generation = literal(generation)
    )
}

/// The target's event trigger function: a new table gets its trigger in the transaction that creates it.
pub(super) fn fence_new_tables(generation: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION identity_migration.fence_new_tables() RETURNS event_trigger {DEFINER} AS $body$
DECLARE
    born pg_catalog.regclass;
BEGIN
    FOR born IN
        SELECT c.oid FROM pg_catalog.pg_event_trigger_ddl_commands() d
            JOIN pg_catalog.pg_class c ON c.oid = d.objid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND NOT d.in_extension
            AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.relname <> 'schema_migration'
            AND n.nspname NOT IN ('identity_migration', 'identity_migration_journal')
        GROUP BY c.oid
    LOOP
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER identity_migration_fence '
            'BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s '
            'FOR EACH STATEMENT EXECUTE FUNCTION identity_migration.refuse_writes(%L)', born, {generation});
    END LOOP;
END
$body$",
        generation = literal(generation)
    )
}
