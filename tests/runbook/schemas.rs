//! An identity schema that the target's server does not have keeps the gates shut.

use super::rig::{LONG, Rig};
use coordinator::migration::{Goal, Phase};

#[test]
fn a_schema_in_use_that_the_target_does_not_serve_is_named() {
    let mut rig = Rig::new(14, 16, 100).unwrap();
    rig.reach(Goal::Following);
    // Preflight asked before there was one.
    rig.on_source(
        "UPDATE public.identities SET schema_id = 'gone' WHERE id = (SELECT min(id::text)::uuid FROM public.identities)",
    )
    .unwrap();
    rig.want(Goal::Migrated).unwrap();
    rig.asked();
    rig.run_migration().unwrap();
    let said = rig.refused();
    assert!(said.contains("does not serve the identity schemas gone, which identities of the source use"), "{said}");
    assert!(said.contains("juju config kratos-new identity_schemas="), "{said}");
    assert!(!said.contains('@'), "{said}");
    let state = rig.until("an end", LONG, |state, _| state.request.is_none()).unwrap();
    assert_eq!(state.phase(), Phase::Migrating);
    rig.roll_back("a schema is not served");
}
