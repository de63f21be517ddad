//! The same data and the same writes, taken through both orders, end in equal databases. A pair of releases that passes
//! may stand as earned in `src/apps/pairs.rs`.

use super::rig::Rig;
use super::servers::Program;
use coordinator::apps::Kind;
use coordinator::migration::{Goal, OrderChoice, Phase, Settings};
use peers::cluster::Cluster;
use std::sync::Arc;

/// Inserts, updates and deletes over several tables, the same on every copy of the same source.
fn write(rig: &Rig, round: u32) {
    let sql = match rig.world().app.kind {
        Kind::Kratos => kratos_writes(round),
        Kind::Hydra => hydra_writes(rig, round),
    };
    rig.on_source(&sql).unwrap();
    if rig.world().app.kind == Kind::Kratos {
        peers::seed::rare(&rig.source, &rig.source_database(), round).unwrap();
    }
}

fn kratos_writes(round: u32) -> String {
    format!(
        "UPDATE public.identities SET metadata_admin = '{{\"round\": {round}}}', updated_at = '2026-01-01'
         WHERE id IN (SELECT id FROM public.identities ORDER BY md5(id::text || {round}) LIMIT 40);
         INSERT INTO public.sessions (id, issued_at, expires_at, authenticated_at, identity_id, created_at, updated_at, nid,
           authentication_methods, token, logout_token)
         SELECT md5(id::text || {round})::uuid, issued_at, expires_at, authenticated_at, identity_id, created_at, updated_at, nid,
           authentication_methods, md5(token || {round}), md5(logout_token || {round}) FROM public.sessions ORDER BY md5(id::text || {round}) LIMIT 30;
         INSERT INTO public.session_devices (id, ip_address, user_agent, location, nid, session_id, created_at, updated_at)
         SELECT md5('device' || id || {round})::uuid, '192.0.2.1', 'late {round}', '', nid, id, created_at, updated_at
         FROM public.sessions ORDER BY md5(id::text || {round}) LIMIT 20;
         UPDATE public.session_devices SET location = 'elsewhere', updated_at = '2026-01-01'
         WHERE id IN (SELECT id FROM public.session_devices ORDER BY md5(id::text || {round}) LIMIT 10);
         INSERT INTO public.identity_credentials (id, config, identity_credential_type_id, identity_id, created_at, updated_at, nid)
         SELECT md5('lookup' || id || {round})::uuid, '{{}}', (SELECT t.id FROM public.identity_credential_types t WHERE t.name = 'lookup_secret'),
           id, '2026-01-01', '2026-01-01', nid FROM public.identities ORDER BY md5(id::text || {round}) LIMIT 20;
         INSERT INTO public.identity_credential_identifiers (id, identifier, identity_credential_id, created_at, updated_at, nid, identity_credential_type_id)
         SELECT md5('identifier' || id)::uuid, id::text, id, created_at, updated_at, nid, identity_credential_type_id
         FROM public.identity_credentials WHERE config = '{{}}' ON CONFLICT DO NOTHING;
         UPDATE public.identity_credential_identifiers SET updated_at = '2026-01-02'
         WHERE id IN (SELECT id FROM public.identity_credential_identifiers ORDER BY md5(id::text || {round}) LIMIT 20);
         DELETE FROM public.selfservice_login_flows
         WHERE id IN (SELECT f.id FROM public.selfservice_login_flows f
                      ORDER BY md5(f.id::text || {round}) LIMIT 10)"
    )
}

/// Rows like those that are there, under other keys; some that change, and some that go.
fn hydra_writes(rig: &Rig, round: u32) -> String {
    let copy = |table: &str, keys: &[&str], order: &str| {
        let keys: Vec<String> = keys.iter().map(|key| format!("'{key}', md5(r.{key} || ' {round}')")).collect();
        let stored = format!(
            "SELECT string_agg(attname, ', ') FROM pg_attribute
             WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
        );
        let columns = rig.on_source(&stored).unwrap();
        format!(
            "INSERT INTO public.{table} ({columns}) SELECT {columns} FROM (
             SELECT (jsonb_populate_record(r, jsonb_build_object({}))).* FROM public.{table} AS r
             WHERE r.ctid = ANY (ARRAY (SELECT ctid FROM public.{table} ORDER BY md5({order}::text || {round}) LIMIT 20))) AS c;\n",
            keys.join(", ")
        )
    };
    let mut sql = [
        copy("hydra_client", &["id"], "id"),
        copy(
            "hydra_oauth2_flow",
            &["login_challenge", "login_verifier", "consent_challenge_id", "consent_verifier"],
            "login_challenge",
        ),
        copy("hydra_oauth2_access", &["signature"], "signature"),
        copy("hydra_oauth2_refresh", &["signature"], "signature"),
        copy("hydra_oauth2_code", &["signature"], "signature"),
        copy("hydra_oauth2_logout_request", &["challenge", "verifier"], "challenge"),
    ]
    .concat();
    sql.push_str(&format!(
        "UPDATE public.hydra_client SET client_name = 'renamed {round}', updated_at = '2026-01-01'
         WHERE id IN (SELECT id FROM public.hydra_client ORDER BY md5(id || {round}) LIMIT 10);
         UPDATE public.hydra_oauth2_refresh SET active = false
         WHERE signature IN (SELECT signature FROM public.hydra_oauth2_refresh ORDER BY md5(signature || {round}) LIMIT 10);
         DELETE FROM public.hydra_oauth2_access
         WHERE signature IN (SELECT signature FROM public.hydra_oauth2_access ORDER BY md5(signature || {round}) LIMIT 10)"
    ));
    sql
}

/// Takes a source from 14 to 16 from one release to the other in both orders, and compares what that makes; answers how
/// many rows.
pub fn both_orders(pair: (Program, Program)) -> u64 {
    let cluster = |major| Cluster::builder(major).start().map(Arc::new).unwrap();
    let mut one = Rig::of(pair, cluster(14), cluster(16), 300).unwrap();
    let mut other = one.twin("_twin").unwrap();
    let settings = Settings::default();
    one.reach_with(Goal::Following, &settings);
    write(&one, 1);
    one.migrate_schema(&settings);
    write(&one, 2);
    assert_eq!(one.reach_with(Goal::Flipped, &settings).phase(), Phase::Flipped);
    one.verified();

    let settings = Settings { order: OrderChoice::Documented, outage_limit: 3600, ..Settings::default() };
    other.reach_with(Goal::Following, &settings);
    write(&other, 1);
    write(&other, 2);
    other.reach_with(Goal::Drained, &settings);
    other.migrate_schema(&settings);
    assert_eq!(other.reach_with(Goal::Flipped, &settings).phase(), Phase::Flipped);
    other.verified();

    // The table of migrations has no key to compare by.
    let options = peers::compare::Options { ignored: vec!["schema_migration".to_owned()], ..Default::default() };
    let compared = peers::compare::databases(&one.target_uri(), &other.target_uri(), &options).unwrap();
    assert_eq!(compared.different(), 0, "{}", compared.report());
    assert!(compared.rows() > 1000, "{} rows compared", compared.rows());
    for rig in [&one, &other] {
        assert_eq!(rig.reach(Goal::Finalized).phase(), Phase::Finalized);
    }
    compared.rows()
}

#[test]
fn both_orders_end_in_equal_databases() {
    both_orders((Program::kratos("1.0.0").unwrap(), Program::kratos("1.3.1").unwrap()));
}
