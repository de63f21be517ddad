//! An identity schema that the target's server does not have, or has otherwise, keeps the gates shut.

use super::rig::{LONG, Rig};
use super::servers::Program;
use coordinator::migration::{Goal, Phase, Step};
use peers::kratos::{Release, Settings, identity_schema};
use peers::seed::{check_people, people};
use serde_json::json;

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

/// Of the 100 people that were made by SQL, 15 have no name, and 29 share one of two; nobody else's name is another's.
/// The two that were made through the API have none at all.
#[test]
fn a_document_that_takes_logins_away_is_found_before_the_flip_and_cured_by_the_old_one() {
    let mut rig = Rig::new(14, 16, 100).unwrap();
    let known = people(&rig.source_client(), 2).unwrap();
    let mut changed = identity_schema();
    changed["properties"]["traits"]["properties"] = json!({
        "email": {"type": "string", "format": "email", "ory.sh/kratos": {"verification": {"via": "email"}}},
        "name": {"type": "string", "minLength": 1, "ory.sh/kratos": {"credentials": {"password": {"identifier": true}}}},
    });
    let told = Settings { identity_schema: Some(changed), ..Settings::default() };
    rig.new = Program::Kratos(Release::find("1.3.1").unwrap(), told);
    rig.reach(Goal::Following);
    rig.want(Goal::Migrated).unwrap();
    rig.asked();
    rig.run_migration().unwrap();
    let said = rig.refused();
    for words in [
        "default (another document, all 102 identities)",
        "58 lose what they log in by (password) when they are saved next",
        "60 lose their recovery address by email",
        "15 cannot be saved any more, refused by /properties/traits/properties/name/minLength of the document (15)",
        "27 cannot be saved, because somebody else has what they would get",
        "juju config kratos-new identity_schemas=",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains('@') && !said.contains("Person"), "{said}");
    rig.write_source().unwrap();

    rig.new = Program::kratos("1.3.1").unwrap();
    rig.stop_target().unwrap();
    rig.start_target().unwrap();
    let state = rig.reach(Goal::Migrated);
    assert_eq!(state.active().unwrap().output(Step::Gates, "warnings").unwrap(), &json!([]));
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    check_people(&rig.target_client(), &known).unwrap();
    rig.finalize();
}
