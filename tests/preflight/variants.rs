//! The good pair seen otherwise: with other relations, options and servers.

use super::rig::Expected;
use coordinator::apps::hydra::{KEY_SETS, SigningKeys};
use coordinator::apps::identity_schema::{Kind, Purpose};
use coordinator::apps::{Cookie, HYDRA, Health, Recognised, Told};
use coordinator::migration::OrderChoice;
use coordinator::postgres::Password;
use coordinator::postgres::survey::Standby;
use coordinator::steps::identity_documents::{Change, Effect, Read, Tally};
use coordinator::steps::preflight::contents::{Counted, Orphans};
use coordinator::steps::preflight::documents::Looked;
use coordinator::steps::preflight::model::{Configured, Model, Seen};
use coordinator::steps::preflight::{Facts, Look, Side};
use serde_json::json;
use std::collections::BTreeSet;

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
    (
        other_application,
        Expected::warns("source-identity", "does not know one of the identities of its own", "belong together"),
    ),
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
    (
        unseen_model,
        Expected::warns("controller", "user name or password are wrong", "or refresh the target application"),
    ),
    (frozen_model, Expected::warns("controller", "(\"freeze until Monday\")", "juju enable-command")),
    (
        frozen_model,
        Expected::warns(
            "configuration",
            "kratos-new lacks smtp (mail); kratos-new lacks logging (loki); kratos-new has other values of dev; only one of \
             kratos and kratos-new has an own oci-image",
            "juju config kratos-new, juju integrate kratos-new",
        ),
    ),
    (
        unadopted,
        Expected::warns(
            "consumers",
            "a flip would not reach login-ui:kratos-info: related to kratos itself",
            "juju remove-relation login-ui:kratos-info kratos:kratos-info and then juju integrate login-ui:kratos-info \
             coordinator:kratos-info",
        ),
    ),
    (
        at_one_ingress,
        Expected::warns(
            "routes",
            "kratos and kratos-new both have public-route with traefik:traefik-route",
            "juju remove-relation kratos-new:public-route traefik:traefik-route",
        ),
    ),
    (clock, Expected::warns("clocks", "the servers' clocks are 60 s apart", "time synchronisation")),
    (copy, Expected::warns("two-databases", "one was made from a physical copy of the other", "deployed fresh")),
    (ancient, Expected::fails("target-application", "runs 0.13.0, a release that is not known", "refresh coordinator")),
    (
        from_the_future,
        Expected::warns("target-application", "runs 99.1.0, a release that is not known", "have outage-limit cover"),
    ),
    (from_the_future, Expected::passes("order", "documented, the schema migration inside the outage")),
    (
        from_the_future_in_a_hurry,
        Expected::fails("order", "1.0.0 → 99.1.0 is not declared for migrate-first", "order=auto"),
    ),
    (from_the_future, Expected::passes("outage-limit", "the documented order may take")),
    (
        one_of_two_standbys,
        Expected::warns(
            "standbys",
            "wait for 2 standbys and 1 stream (a is streaming, sync, b is catchup, potential)",
            "juju config <source PostgreSQL> synchronous_node_count=1",
        ),
    ),
    (
        under_patroni,
        Expected::fails(
            "wal-level",
            "wal_level is replica",
            "run patronictl edit-config blue --force --pg wal_level=logical && patronictl restart blue --force (on a unit of blue)",
        ),
    ),
    (
        under_patroni,
        Expected::fails("connections", "of 200 connections free", "run juju config blue experimental_max_connections="),
    ),
    (
        old_target,
        Expected::warns(
            "way-back",
            "PostgreSQL 14 cannot leave out the columns that Kratos 1.1.0 adds",
            "migrate accept-no-way-back=true",
        ),
    ),
    (
        impatient_target,
        Expected::warns(
            "way-back",
            "idle_replication_slot_timeout is 60 on the target",
            "SET idle_replication_slot_timeout = 0",
        ),
    ),
    (
        no_btree_gin,
        Expected::fails(
            "extensions",
            "btree_gin (Kratos 1.1.0 creates it) is not installable on the target",
            "plugin-btree-gin-enable=true; or take",
        ),
    ),
    (small_limit, Expected::warns("slot-wal-limit", "max_slot_wal_keep_size is 1 MiB", "= -1")),
    (
        other_documents,
        Expected::warns(
            "identity-schemas",
            "different documents for the identity schemas default",
            "juju config kratos-new",
        ),
    ),
    (very_many, Expected::warns("identity-schemas", "could not be compared", "the gates compare")),
    (mute_target, Expected::passes("identity-schemas", "could not be compared yet")),
    (
        lost_logins,
        Expected::fails(
            "identity-documents",
            "v0 (another document, all 7 identities): 1 lose what they log in by (password)",
            "juju config kratos-new identity_schemas=... with the source's documents; bring the changed one in later",
        ),
    ),
    (
        refers_outside,
        Expected::warns(
            "identity-documents",
            "it refers to https://schemas.ory.sh/x, which was not looked at",
            "reachable",
        ),
    ),
    (
        too_late,
        Expected::warns(
            "identity-documents",
            "v0 (another document, no identity could be looked at in time): whom it affects is not known",
            "run preflight again",
        ),
    ),
    (
        unknown_before,
        Expected::warns(
            "identity-documents",
            "v0 (the source did not show its document, all 7 identities)",
            "juju config",
        ),
    ),
    (unlooked, Expected::warns("identity-documents", "the people were not looked at: gone", "run preflight again")),
    (
        other_cookies,
        Expected::warns(
            "behaviour",
            "cookies of the source have Path=/, the target's have Domain=b.example",
            "juju config",
        ),
    ),
    (
        providers_elsewhere,
        Expected::warns("behaviour", "different public addresses, and 3 logins go through providers", "juju config"),
    ),
    (
        offers_less,
        Expected::warns(
            "behaviour",
            "grant_types_supported of the target lacks refresh_token",
            "give kratos-new the source",
        ),
    ),
    (alone, Expected::warns("source-sessions", "nobody but us is connected", "this very primary")),
    (
        unswitched,
        Expected::warns(
            "ownership",
            "does not turn role relation_id_7 into operator",
            "GRANT \"charmed_iam_kratos-new_admin\" TO \"relation_id_7\"",
        ),
    ),
    (
        orphans_before,
        Expected::fails("orphans", "3 session_devices without", "run on the source: DELETE FROM d; or set"),
    ),
    (orphans_after, Expected::passes("orphans", "attached already")),
    (
        lost_secret,
        Expected::warns(
            "signing-keys",
            "the source answers 500 where it needs its signing keys: cipher",
            "repair that on the source",
        ),
    ),
    (
        another_secret,
        Expected::warns("system-secret", "it lacks the source's system secret", "add-secret-key type=system"),
    ),
    (
        before_the_copy,
        Expected::warns("system-secret", "it cannot be seen before the copy", "get-secret-keys type=system"),
    ),
    (shared_secret, Expected::passes("system-secret", "decrypts the keys that came from the source")),
    (shared_secret, Expected::passes("signing-keys", "publishes all of its 1 signing keys")),
    (no_keys, Expected::warns("signing-keys", "the source has no signing keys", "make sure of the secret by hand")),
    (no_keys, Expected::warns("issuer", "the source has no signing keys", "compare the public addresses")),
    (
        other_issuer,
        Expected::warns(
            "issuer",
            "the issuer of the source is https://old.example, the target's is https://new.example",
            "the public address of the source",
        ),
    ),
    (
        made_for_relations,
        Expected::warns("oauth-relations", "3 clients were made for oauth relations", "leave those relations"),
    ),
    (large, Expected::warns("disk", "the source database has 2048 MiB", "df on the unit")),
];

fn one_of_two_standbys(facts: &mut Facts) {
    let server = &mut facts.source.survey.server;
    server.settings.insert("synchronous_standby_names".to_owned(), "FIRST 2 (a,b)".to_owned());
    server.setting_origins.insert("synchronous_standby_names".to_owned(), "/data/postgresql.conf".to_owned());
    let standby = |name: &str, state: &str, sync_state: &str| Standby {
        name: name.to_owned(),
        state: state.to_owned(),
        sync_state: sync_state.to_owned(),
    };
    server.standbys = vec![standby("a", "streaming", "sync"), standby("b", "catchup", "potential")];
}

fn under_patroni(facts: &mut Facts) {
    facts.look.ends.source_database.name = "blue".to_owned();
    let server = &mut facts.source.survey.server;
    server.connections = 195;
    for (name, value) in [("wal_level", "replica"), ("cluster_name", "blue"), ("max_connections", "200")] {
        server.settings.insert(name.to_owned(), value.to_owned());
        server.setting_origins.insert(name.to_owned(), "command line".to_owned());
    }
}

fn old_target(facts: &mut Facts) {
    facts.target.survey.identity.version_num = 140_020;
}

fn unseen_model(facts: &mut Facts) {
    facts.model = Model::Unseen("cannot log in to the Juju controller: user name or password are wrong".to_owned());
}

/// A model in which every change is switched off, and a target that lacks what the source has.
fn frozen_model(facts: &mut Facts) {
    let end = |application: &str, name: &str| json!({"application": application, "name": name});
    let relations = [("loki", "logging"), ("mail", "smtp"), ("pg", "pg-database")]
        .map(|(other, endpoint)| json!({"endpoints": [end("kratos", endpoint), end(other, "provider")]}));
    let configured = |name: &str, dev: bool, origin: &str| Configured {
        name: name.to_owned(),
        application: serde_json::from_value(json!({"config": {"dev": {"value": dev}}})).unwrap(),
        resources: serde_json::from_value(json!({"resources": [{"name": "oci-image", "origin": origin}]})).unwrap(),
    };
    facts.model = Model::Seen(Box::new(Seen {
        user: "migrator".to_owned(),
        juju: "4.0.14".to_owned(),
        status: serde_json::from_value(json!({"relations": relations})).unwrap(),
        blocks: serde_json::from_value(json!([{"type": "BlockChange", "message": "freeze until Monday"}])).unwrap(),
        pair: Some((configured("kratos", true, "upload"), configured("kratos-new", false, "store"))),
    }));
}

/// A consumer that takes the source's address from itself.
fn unadopted(facts: &mut Facts) {
    frozen_model(facts);
    let end = |application: &str| json!({"application": application, "name": "kratos-info"});
    let Model::Seen(seen) = &mut facts.model else { return };
    seen.status = serde_json::from_value(json!({
        "applications": {"login-ui": {}},
        "relations": [{"id": 7, "endpoints": [end("kratos"), end("login-ui")]}],
    }))
    .unwrap();
    let end = &mut facts.look.ends.source_identity;
    (end.name, end.here) = ("kratos".to_owned(), true);
}

fn at_one_ingress(facts: &mut Facts) {
    unadopted(facts);
    let end = |application: &str, name: &str| json!({"application": application, "name": name});
    let at = |name| json!({"id": 8, "endpoints": [end("traefik", "traefik-route"), end(name, "public-route")]});
    let Model::Seen(seen) = &mut facts.model else { return };
    seen.status = serde_json::from_value(json!({"relations": [at("kratos"), at("kratos-new")]})).unwrap();
    let end = &mut facts.look.ends.target_identity;
    (end.name, end.here) = ("kratos-new".to_owned(), true);
}

fn impatient_target(facts: &mut Facts) {
    facts.target.survey.server.settings.insert("idle_replication_slot_timeout".to_owned(), "60".to_owned());
}

fn no_btree_gin(facts: &mut Facts) {
    facts.target.survey.server.available_extensions.remove("btree_gin");
}

fn small_limit(facts: &mut Facts) {
    let server = &mut facts.source.survey.server;
    (server.slot_wal_limit_bytes, server.wal_bytes_per_second) = (1 << 20, 0.0);
}

fn other_documents(facts: &mut Facts) {
    facts.target.schemas = Some([("default".to_owned(), json!({"title": "another"}))].into());
}

fn very_many(facts: &mut Facts) {
    facts.source.contents.schema_ids = Counted::TooLong;
}

fn mute_target(facts: &mut Facts) {
    facts.target.schemas = None;
}

fn lost_logins(facts: &mut Facts) {
    let lost = [(Kind::new(Purpose::Identifier, "password"), Tally { count: 1, ids: vec!["an id".to_owned()] })];
    let read = Read { count: 7, all: true };
    let effect =
        Effect { schema: "v0".to_owned(), change: Change::Changed, read, lost: lost.into(), ..Effect::default() };
    facts.documents = Looked::Effects(vec![effect]);
}

fn too_late(facts: &mut Facts) {
    let unread = Effect { schema: "v0".to_owned(), change: Change::Changed, ..Effect::default() };
    let same = Effect { schema: "v1".to_owned(), ..Effect::default() };
    facts.documents = Looked::Effects(vec![unread, same]);
}

fn unknown_before(facts: &mut Facts) {
    lost_logins(facts);
    if let Looked::Effects(found) = &mut facts.documents {
        found.iter_mut().for_each(|effect| effect.change = Change::Unknown);
    }
}

fn refers_outside(facts: &mut Facts) {
    let outside = ["https://schemas.ory.sh/x".to_owned()].into();
    facts.documents = Looked::Effects(vec![Effect { outside, ..Effect::default() }]);
}

fn unlooked(facts: &mut Facts) {
    facts.documents = Looked::Failed("gone".to_owned());
}

fn cookie(name: &str, attribute: &str) -> Option<Cookie> {
    Some(Cookie { name: name.to_owned(), attributes: vec![attribute.to_owned()] })
}

fn other_cookies(facts: &mut Facts) {
    (facts.source.cookie, facts.target.cookie) = (cookie("a", "Path=/"), cookie("a", "Domain=b.example"));
}

fn providers_elsewhere(facts: &mut Facts) {
    (facts.source.cookie, facts.target.cookie) = (cookie("a", "Path=/"), cookie("b", "Path=/"));
    facts.source.contents.sign_in = Counted::Known([("oidc".to_owned(), 3), ("oidc github".to_owned(), 3)].into());
}

fn offers_less(facts: &mut Facts) {
    hydra(facts, served(), served());
    facts.source.discovery = Some(json!({"grant_types_supported": ["authorization_code", "refresh_token"]}));
    facts.target.discovery = Some(json!({"grant_types_supported": ["authorization_code"]}));
}

fn alone(facts: &mut Facts) {
    facts.source.survey.server.connected_roles.clear();
}

fn unswitched(facts: &mut Facts) {
    let server = &mut facts.target.survey.server;
    server.charmed_owner = Some("operator".to_owned());
    server.connected_roles.insert("relation_id_7".to_owned());
}

fn release(side: &mut Side, name: &str) {
    side.health = Some(Health::Ready { version: name.to_owned() });
    side.schema = Recognised::Release(name.to_owned());
}

fn orphans_before(facts: &mut Facts) {
    release(&mut facts.source, "25.4.0");
    facts.target.health = Some(Health::Ready { version: "26.2.0".to_owned() });
    let what = "session_devices without a session of the same network".to_owned();
    facts.source.contents.orphans =
        Counted::Known(vec![Orphans { what, count: 3, delete: "DELETE FROM d".to_owned() }]);
}

fn orphans_after(facts: &mut Facts) {
    orphans_before(facts);
    release(&mut facts.source, "26.2.0");
}

fn large(facts: &mut Facts) {
    facts.source.survey.server.database_bytes = 2 << 30;
}

fn clock(facts: &mut Facts) {
    facts.source.survey.server.clock = facts.target.survey.server.clock + 60.0;
}

fn copy(facts: &mut Facts) {
    facts.target.survey.identity.system_identifier = facts.source.survey.identity.system_identifier.clone();
}

fn ancient(facts: &mut Facts) {
    facts.target.health = Some(Health::Ready { version: "0.13.0".to_owned() });
}

fn from_the_future(facts: &mut Facts) {
    facts.target.health = Some(Health::Ready { version: "99.1.0".to_owned() });
}

fn from_the_future_in_a_hurry(facts: &mut Facts) {
    from_the_future(facts);
    facts.look.settings.order = OrderChoice::MigrateFirst;
}

type Published = Told<BTreeSet<String>>;

/// One key that is in both sets.
fn keys(id: &str) -> SigningKeys {
    let mut keys = SigningKeys::default();
    KEY_SETS.iter().for_each(|set| keys.insert(set, id.to_owned()));
    keys
}

/// The same facts as if they were a Hydra's: one signing key, which came to the target.
fn hydra(facts: &mut Facts, source: Published, target: Published) {
    facts.look.app = &HYDRA;
    for (side, published) in [(&mut facts.source, source), (&mut facts.target, target)] {
        side.contents.signing_keys = keys("one");
        side.contents.relation_clients = Counted::Known(0);
        side.keys = Some(published);
    }
}

fn served() -> Published {
    Told::Yes(["one".to_owned()].into())
}

fn undecrypted() -> Published {
    Told::Failed { status: 500, message: "cipher: message authentication failed".to_owned() }
}

fn lost_secret(facts: &mut Facts) {
    hydra(facts, undecrypted(), undecrypted());
}

fn another_secret(facts: &mut Facts) {
    hydra(facts, served(), undecrypted());
}

fn before_the_copy(facts: &mut Facts) {
    hydra(facts, served(), served());
    facts.target.contents.signing_keys = keys("its own");
}

fn shared_secret(facts: &mut Facts) {
    hydra(facts, served(), served());
}

fn no_keys(facts: &mut Facts) {
    hydra(facts, served(), served());
    facts.source.contents.signing_keys = SigningKeys::default();
}

fn other_issuer(facts: &mut Facts) {
    hydra(facts, served(), served());
    facts.source.issuer = Some(Told::Yes("https://old.example".to_owned()));
    facts.target.issuer = Some(Told::Yes("https://new.example".to_owned()));
}

fn made_for_relations(facts: &mut Facts) {
    hydra(facts, served(), served());
    facts.source.contents.relation_clients = Counted::Known(3);
}
