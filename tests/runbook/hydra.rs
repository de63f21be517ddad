//! Hydra takes the same road as Kratos: its gates, its secrets, and what its users hold afterwards.

use super::rig::{LONG, Rig};
use super::servers::Program;
use coordinator::migration::journal::Request;
use coordinator::migration::{Goal, Phase, Step};
use peers::cluster::Cluster;
use peers::hydra::{Release, SYSTEM_SECRET, Settings};
use peers::seed::hydra::{check_grants, grants_named, renew_grants};
use std::sync::Arc;

/// Source and target of the release that can be built here, with the target's server up, told `settings`.
fn rig(from: u32, to: u32, settings: Settings) -> Rig {
    let cluster = |major| Cluster::builder(major).setting("log_statement", "all").start().map(Arc::new).unwrap();
    let release = Release::find("2.3.0").unwrap();
    let new = Program::Hydra(release, settings);
    let mut rig = Rig::of((Program::hydra("2.3.0").unwrap(), new), cluster(from), cluster(to), 300).unwrap();
    rig.start_target().unwrap();
    rig
}

/// Up to a target that follows.
fn follow(rig: &Rig) {
    rig.ask(Request { keep_release: true, with_refresh: true, ..Request::plain("refresh", Goal::Refreshed) }).unwrap();
    rig.settled(LONG).unwrap();
    assert_eq!(rig.reach(Goal::Following).phase(), Phase::Following);
}

/// The server knows the network that it had when it started: it is restarted when that is asked for.
fn restart(rig: &mut Rig) {
    rig.want(Goal::Migrated).unwrap();
    assert_eq!(rig.asked(), "juju ssh --container hydra hydra-new/0 /charm/bin/pebble restart hydra");
    rig.stop_target().unwrap();
    rig.start_target().unwrap();
}

#[test]
fn there_and_back_with_everything_that_users_hold() {
    let mut rig = rig(14, 16, Settings::default());
    let [source, target] = rig.hydra_clients();
    let mut early = grants_named(&source, "early", 2).unwrap();
    // Asked for them, it makes those that are missing, which it cannot once it is closed.
    let keys = source.key_ids().unwrap();
    follow(&rig);
    let mut late = grants_named(&source, "late", 2).unwrap();
    renew_grants(&source, &mut early).unwrap();
    restart(&mut rig);
    rig.settled(LONG).unwrap();
    assert_eq!(rig.reach(Goal::Drained).phase(), Phase::Drained);
    // Reading goes on in the outage; a token is not given out by either side.
    check_grants(&source, &late).unwrap();
    source.client_credentials(&late[0].application, "read").unwrap_err();
    target.client_credentials(&late[0].application, "read").unwrap_err();
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
    rig.assert_equal();
    source.client_credentials(&late[0].application, "read").unwrap_err();
    assert_eq!(target.key_ids().unwrap(), keys);
    for grants in [&mut early, &mut late] {
        check_grants(&target, grants).unwrap();
        renew_grants(&target, grants).unwrap();
    }
    let mut new = grants_named(&target, "new", 2).unwrap();
    target.delete_client(&late[1].application.id).unwrap();
    late.truncate(1);

    rig.want(Goal::RolledBack).unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Idle);
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());
    for grants in [&mut early, &mut late, &mut new] {
        check_grants(&source, grants).unwrap();
        renew_grants(&source, grants).unwrap();
    }
    rig.assert_no_secret();
}

#[test]
fn another_system_secret_is_found_before_anything_stops_and_cured_by_the_sources() {
    let mut rig = rig(16, 16, Settings::with_system_secrets(&["a-secret-of-the-target-alone"]));
    let [source, target] = rig.hydra_clients();
    let mut grants = grants_named(&source, "user", 2).unwrap();
    follow(&rig);
    restart(&mut rig);
    let refused = rig.refused();
    assert!(
        refused.contains("answers 500 where it needs its signing keys") && refused.contains("add-secret-key"),
        "{refused}"
    );
    rig.write_source().unwrap();

    // Its own secret may stay: the source's has to be known too.
    let both = Settings::with_system_secrets(&["a-secret-of-the-target-alone", SYSTEM_SECRET]);
    rig.new = Program::Hydra(Release::find("2.3.0").unwrap(), both);
    rig.stop_target().unwrap();
    rig.start_target().unwrap();
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
    check_grants(&target, &grants).unwrap();
    renew_grants(&target, &mut grants).unwrap();
    rig.finalize();
}

#[test]
fn another_issuer_is_found_before_anything_stops() {
    let other = Settings { issuer: "https://elsewhere.example".to_owned(), ..Settings::default() };
    let mut rig = rig(15, 15, other);
    let [source, _] = rig.hydra_clients();
    grants_named(&source, "user", 1).unwrap();
    follow(&rig);
    restart(&mut rig);
    let refused = rig.refused();
    assert!(refused.contains("https://login.example") && refused.contains("https://elsewhere.example"), "{refused}");
    rig.write_source().unwrap();
    rig.want(Goal::RolledBack).unwrap();
    assert_eq!(rig.settled(LONG).unwrap().phase(), Phase::Idle);
    assert_eq!(rig.left_behind().unwrap(), Vec::<String>::new());

    // Down, as without a public-route, it does not show whether it was refreshed; and nothing claims that it was.
    rig.stop_target().unwrap();
    rig.ask(Request { with_refresh: true, ..Request::plain("refresh", Goal::Refreshed) }).unwrap();
    let state = rig.settled(LONG).unwrap();
    assert_eq!(state.active().unwrap().output(Step::Refresh, "unseen"), Some(&true.into()));
    rig.want(Goal::RolledBack).unwrap();
    rig.settled(LONG).unwrap();
}

/// A Hydra that nobody has used makes its keys when it is asked for them, or for its issuer: looking would write.
#[test]
fn a_hydra_without_keys_is_not_made_to_make_some() {
    let mut rig = rig(14, 16, Settings::default());
    follow(&rig);
    restart(&mut rig);
    let state = rig.settled(LONG).unwrap();
    let warnings = state.active().unwrap().output(Step::Gates, "warnings").unwrap().to_string();
    assert!(warnings.contains("nothing proves that the target has its system secret"), "{warnings}");
    for keys in [rig.on_source("SELECT count(*) FROM hydra_jwk"), rig.on_target("SELECT count(*) FROM hydra_jwk")] {
        assert_eq!(keys.unwrap(), "0");
    }
    assert_eq!(rig.reach(Goal::Flipped).phase(), Phase::Flipped);
    rig.verified();
    let [_, target] = rig.hydra_clients();
    assert!(!target.key_ids().unwrap().is_empty());
}
