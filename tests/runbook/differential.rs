//! The same data and the same writes, taken through both orders, end in equal databases.

use super::rig::Rig;
use coordinator::migration::{Goal, OrderChoice, Phase, Settings};

/// Inserts, updates and deletes over several tables, the same on every copy of the same source.
fn write(rig: &Rig, round: u32) {
    rig.on_source(&format!(
        "UPDATE public.identities SET metadata_admin = '{{\"round\": {round}}}', updated_at = '2026-01-01'
         WHERE id IN (SELECT id FROM public.identities ORDER BY md5(id::text || {round}) LIMIT 40);
         INSERT INTO public.sessions (id, issued_at, expires_at, authenticated_at, identity_id, created_at, updated_at, nid,
           authentication_methods, token, logout_token)
         SELECT md5(id::text || {round})::uuid, issued_at, expires_at, authenticated_at, identity_id, created_at, updated_at, nid,
           authentication_methods, md5(token || {round}), md5(logout_token || {round}) FROM public.sessions ORDER BY md5(id::text || {round}) LIMIT 30;
         DELETE FROM public.selfservice_login_flows
         WHERE id IN (SELECT id FROM public.selfservice_login_flows ORDER BY md5(id::text || {round}) LIMIT 10)"
    ))
    .unwrap();
}

#[test]
fn both_orders_end_in_equal_databases() {
    let mut one = Rig::new(14, 16, 300).unwrap();
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
    let count =
        "SELECT count(*) FROM public.sessions WHERE id IN (SELECT md5(s.id::text || 2)::uuid FROM public.sessions s)";
    assert_ne!(one.on_target(count).unwrap(), "0");
    for rig in [&one, &other] {
        assert_eq!(rig.reach(Goal::Finalized).phase(), Phase::Finalized);
    }
}
