//! The good pair seen otherwise: with other relations, options and servers.

use super::rig::Expected;
use coordinator::apps::Health;
use coordinator::migration::OrderChoice;
use coordinator::postgres::Password;
use coordinator::steps::preflight::{Facts, Look};

/// What the operator did, and what preflight says.
pub type Variant = (fn(&mut Look), Expected);

/// Roles and a database that some variants use, on the source.
pub const ROLES: &str = "CREATE ROLE weak LOGIN PASSWORD 'weak'; CREATE ROLE idle NOLOGIN PASSWORD 'weak';
    CREATE DATABASE closed; REVOKE CONNECT ON DATABASE closed FROM PUBLIC;
    CREATE DATABASE shut; ALTER DATABASE shut ALLOW_CONNECTIONS false";

pub const VARIANTS: &[Variant] = &[
    (same_database, Expected::fails("two-databases", "both sides are database iam_kratos on", "target-database-name")),
    (
        one_cluster,
        Expected::warns("two-databases", "databases iam_kratos and postgres are in one cluster", "new cluster"),
    ),
    (
        swapped,
        Expected::fails(
            "direction",
            "0 identities on the source, 200 on the target: source and target seem",
            "integrate",
        ),
    ),
    (swapped, Expected::fails("versions", "PostgreSQL 16 → 14: the target is older", "newer release")),
    (unknown_database, Expected::fails("source-database", "\"nowhere\" does not exist", "source-database-name")),
    (wrong_password, Expected::fails("source-database", "password authentication failed", "relation source-database")),
    (nobody_there, Expected::fails("target-database", "Connection refused", "runs at")),
    (no_login, Expected::fails("source-database", "not permitted to log in", "ALTER ROLE \"idle\" LOGIN")),
    (
        closed,
        Expected::fails("source-database", "permission denied", "GRANT CONNECT ON DATABASE \"closed\" TO \"weak\""),
    ),
    (
        shut,
        Expected::fails("source-database", "not currently accepting", "ALTER DATABASE \"shut\" ALLOW_CONNECTIONS true"),
    ),
    (
        weak,
        Expected::fails("rights", "role weak is no superuser (without REPLICATION", "ALTER ROLE \"weak\" SUPERUSER"),
    ),
    (other_database, Expected::fails("source-release", "no table schema_migration", "source-database-name")),
    (other_application, Expected::warns("source-identity", "does not know an identity of its own", "belong together")),
    (nobody_serves, Expected::fails("source-application", "no address", "source-kratos")),
    (no_such_order, Expected::fails("outage-limit", "the lease is 30 s", "outage-limit=720")),
];

fn same_database(look: &mut Look) {
    (look.target, look.target_database) = (look.source.clone(), look.source_database.clone());
}

fn one_cluster(look: &mut Look) {
    (look.target, look.target_database) = (look.source.clone(), "postgres".to_owned());
}

fn swapped(look: &mut Look) {
    std::mem::swap(&mut look.source, &mut look.target);
    std::mem::swap(&mut look.source_database, &mut look.target_database);
    std::mem::swap(&mut look.source_app, &mut look.target_app);
}

fn unknown_database(look: &mut Look) {
    look.source_database = "nowhere".to_owned();
}

fn wrong_password(look: &mut Look) {
    look.source.password = Password::new("wrong");
}

fn nobody_there(look: &mut Look) {
    // Port 1 belongs to nobody on a test machine.
    look.target.port = 1;
}

fn as_role(look: &mut Look, role: &str) {
    (look.source.user, look.source.password) = (role.to_owned(), Password::new("weak"));
}

fn no_login(look: &mut Look) {
    as_role(look, "idle");
}

fn weak(look: &mut Look) {
    as_role(look, "weak");
}

fn closed(look: &mut Look) {
    as_role(look, "weak");
    look.source_database = "closed".to_owned();
}

fn shut(look: &mut Look) {
    look.source_database = "shut".to_owned();
}

fn other_database(look: &mut Look) {
    look.source_database = "postgres".to_owned();
}

fn other_application(look: &mut Look) {
    look.source_app = look.target_app.clone();
}

fn nobody_serves(look: &mut Look) {
    look.source_app = None;
}

fn no_such_order(look: &mut Look) {
    look.settings.order = OrderChoice::Documented;
    look.settings.outage_limit = 30;
    look.target_app = None;
}

/// What no test can bring about on one machine: the facts as they would be, judged as ever.
pub type Imagined = (fn(&mut Facts), Expected);

pub const IMAGINED: &[Imagined] = &[
    (clock, Expected::warns("clocks", "the servers' clocks are 60 s apart", "time synchronisation")),
    (copy, Expected::warns("two-databases", "one was made from a physical copy of the other", "deployed fresh")),
    (ancient, Expected::fails("target-application", "runs 0.13.0, a release that is not known", "refresh coordinator")),
];

fn clock(facts: &mut Facts) {
    facts.source.survey.server.clock = facts.target.survey.server.clock + 60.0;
}

fn copy(facts: &mut Facts) {
    facts.target.survey.identity.system_identifier = facts.source.survey.identity.system_identifier.clone();
}

fn ancient(facts: &mut Facts) {
    facts.target.health = Some(Health::Ready { version: "0.13.0".to_owned() });
}
