//! Real Hydra on real data: the seed is what the server would have written, a copy serves with the same keys, and a
//! wrong system secret shows where it must be looked for.

use peers::cluster::Cluster;
use peers::hydra::{Client, Release, SYSTEM_SECRET, Settings};
use peers::places::{postgresql_program, run};
use peers::seed::hydra as seed;
use std::process::Command;

const DATABASE: &str = "hydra";

/// A cluster with a database that Hydra 2.3.0 migrated.
fn migrated(major: u32) -> (Cluster, Release) {
    let release = Release::find("2.3.0").unwrap();
    let cluster = Cluster::start(major).unwrap();
    cluster.create_database(DATABASE).unwrap();
    release.migrate(&cluster.uri(DATABASE)).unwrap();
    (cluster, release)
}

/// The copy of a database on another cluster, as an operator makes it by hand.
fn copied_to(source: &Cluster, major: u32) -> Cluster {
    let target = Cluster::start(major).unwrap();
    target.create_database(DATABASE).unwrap();
    let mut dump = Command::new(postgresql_program(major, "pg_dump").unwrap());
    target.psql(DATABASE, &run(dump.arg(source.uri(DATABASE))).unwrap()).unwrap();
    target
}

#[test]
fn seeded_and_real_logins_work_on_14_and_16() {
    for major in [14, 16] {
        let (cluster, release) = migrated(major);
        seed::rows(&cluster, DATABASE, 400).unwrap();
        let counted = |table: &str| cluster.psql(DATABASE, &format!("SELECT count(*) FROM {table}")).unwrap();
        assert_eq!([counted("hydra_client"), counted("hydra_oauth2_refresh")], ["20", "427"]);

        let server = release.serve(&cluster.uri(DATABASE)).unwrap();
        let client = server.client();
        assert_eq!(client.version().unwrap(), "v2.3.0");
        assert_eq!(client.discovery().unwrap()["issuer"], Settings::default().issuer);
        // One for ID tokens and one for access tokens, though none of those is signed here.
        assert_eq!(counted("hydra_jwk"), "1", "the discovery document needs one");
        assert_eq!(client.key_ids().unwrap().len(), 2);
        assert_eq!(counted("hydra_jwk"), "2", "being asked for keys is what makes them");
        assert_eq!(counted("networks"), "1");

        let mut grants = seed::grants(&client, 2).unwrap();
        seed::check_grants(&client, &grants).unwrap();
        let used = grants[0].tokens.clone();
        seed::renew_grants(&client, &mut grants).unwrap();
        seed::check_grants(&client, &grants).unwrap();
        assert!(!client.is_active(&used.access_token).unwrap(), "a refresh uses up the access token too");
        assert_eq!(client.user(&grants[0].tokens.access_token).unwrap()["sub"], grants[0].subject);
        seeded_logins_work(&cluster, &client);

        // What is taken back is gone at once.
        client.revoke(&grants[0].application, &grants[0].machine_token).unwrap();
        assert!(!client.is_active(&grants[0].machine_token).unwrap());
        client.revoke_consents(&grants[1].subject).unwrap();
        assert!(client.consents(&grants[1].subject).unwrap().is_empty());
        assert!(!client.is_active(&grants[1].tokens.access_token).unwrap());
        client.delete_client(&grants[1].application.id).unwrap();
        assert!(client.client(&grants[1].application.id).is_err());

        // Used twice, a refresh token ends the whole login.
        let refused = client.refresh(&grants[0].application, used.refresh_token.as_ref().unwrap()).unwrap_err();
        assert!(format!("{refused:#}").contains("already used"), "{refused:#}");
        assert!(!client.is_active(&grants[0].tokens.access_token).unwrap());

        let (ports, keys) = (server.ports().clone(), client.key_ids().unwrap());
        server.stop().unwrap();
        let server = release.start(&cluster.uri(DATABASE), &ports).unwrap();
        server.wait_ready().unwrap();
        assert_eq!(client.key_ids().unwrap(), keys);
    }
}

fn seeded_logins_work(cluster: &Cluster, client: &Client) {
    for number in [1, 7, 12, 399] {
        assert!(seed::has_tokens(number));
        let subject = seed::subject(cluster, DATABASE, number).unwrap();
        let known = client.introspect(&seed::access_token(number).unwrap()).unwrap();
        assert_eq!((&known["active"], &known["sub"]), (&true.into(), &subject.as_str().into()), "{known}");
        let consents = client.consents(&subject).unwrap();
        assert_eq!(consents.len(), 1, "{consents:?}");

        let nth = seed::client_of(number, 400);
        let application = seed::client(cluster, DATABASE, nth).unwrap();
        assert_eq!(consents[0]["consent_request"]["client"]["client_id"], application.id);
        let tokens = client.refresh(&application, &seed::refresh_token(number).unwrap()).unwrap();
        assert!(client.is_active(&tokens.access_token).unwrap());
        assert!(!client.is_active(&seed::access_token(number).unwrap()).unwrap());
        assert!(client.is_active(&seed::machine_token(nth).unwrap()).unwrap());
        client.client_credentials(&application, "read").unwrap();
    }
    let refused = seed::subject(cluster, DATABASE, 15).unwrap();
    assert!(client.consents(&refused).unwrap().is_empty());
    assert!(!client.is_active(&seed::access_token(15).unwrap()).unwrap());
}

#[test]
fn a_copy_with_the_same_secrets_serves_with_the_same_keys() {
    let (source, release) = migrated(14);
    seed::rows(&source, DATABASE, 100).unwrap();
    let old = release.serve(&source.uri(DATABASE)).unwrap();
    let mut grants = seed::grants(&old.client(), 2).unwrap();
    let keys = old.client().key_ids().unwrap();

    let target = copied_to(&source, 16);
    // One more secret before the shared one: it is for what is written from now on.
    let settings = Settings::with_system_secrets(&["a-secret-of-the-target-alone", SYSTEM_SECRET]);
    let new = release.serve_with(&target.uri(DATABASE), &settings).unwrap();
    assert_eq!(new.client().key_ids().unwrap(), keys);
    assert_eq!(new.client().discovery().unwrap()["issuer"], old.client().discovery().unwrap()["issuer"]);
    for client in [old.client(), new.client()] {
        seed::check_grants(&client, &grants).unwrap();
        assert!(client.is_active(&seed::access_token(99).unwrap()).unwrap());
    }

    seed::renew_grants(&new.client(), &mut grants).unwrap();
    seed::check_grants(&new.client(), &grants).unwrap();
    assert!(!old.client().is_active(&grants[0].tokens.access_token).unwrap(), "the source does not know new tokens");
    assert_eq!(new.client().key_ids().unwrap(), keys, "nobody made a key of its own");
}

#[test]
fn signed_access_tokens_need_their_key_too() {
    let (source, release) = migrated(16);
    let settings = Settings { jwt_access_tokens: true, ..Settings::default() };
    let old = release.serve_with(&source.uri(DATABASE), &settings).unwrap();
    let grants = seed::grants(&old.client(), 1).unwrap();
    assert_eq!(grants[0].machine_token.split('.').count(), 3, "{}", grants[0].machine_token);
    let keys = old.client().key_ids().unwrap();
    assert_eq!(keys.len(), 2);

    let target = copied_to(&source, 16);
    let new = release.serve_with(&target.uri(DATABASE), &settings).unwrap();
    assert_eq!(new.client().key_ids().unwrap(), keys);
    seed::check_grants(&new.client(), &grants).unwrap();
}

#[test]
fn with_a_wrong_system_secret_the_server_is_ready_and_nothing_else_is_right() {
    let (cluster, release) = migrated(16);
    seed::rows(&cluster, DATABASE, 100).unwrap();
    let server = release.serve(&cluster.uri(DATABASE)).unwrap();
    let grants = seed::grants(&server.client(), 1).unwrap();
    let keys = server.client().key_ids().unwrap();
    server.stop().unwrap();
    let rows = "SELECT count(*), md5(string_agg(kid || keydata, ' ' ORDER BY kid)) FROM hydra_jwk";
    let stored = cluster.psql(DATABASE, rows).unwrap();

    let wrong = Settings::with_system_secrets(&["a-system-secret-of-somebody-else"]);
    let server = release.serve_with(&cluster.uri(DATABASE), &wrong).unwrap();
    let client = server.client();
    client.ready().unwrap();
    for unsigned in [client.keys(), client.discovery()] {
        let error = format!("{:#}", unsigned.unwrap_err());
        assert!(error.contains("answered 500"), "{error}");
    }
    for token in [&grants[0].tokens.access_token, &grants[0].machine_token, &seed::access_token(1).unwrap()] {
        assert!(!client.is_active(token).unwrap());
    }
    // Clients are there, and may even be given tokens, which only this secret knows.
    client.client(&grants[0].application.id).unwrap();
    let stray = client.client_credentials(&grants[0].application, "read").unwrap();
    assert!(client.is_active(&stray.access_token).unwrap());
    let refresh_token = grants[0].tokens.refresh_token.as_ref().unwrap();
    client.refresh(&grants[0].application, refresh_token).unwrap_err();
    assert_eq!(cluster.psql(DATABASE, rows).unwrap(), stored, "no key was made beside those that cannot be read");
    server.stop().unwrap();

    // The right secret heals everything, in whatever place it stands.
    let both = Settings::with_system_secrets(&["a-system-secret-of-somebody-else", SYSTEM_SECRET]);
    let server = release.serve_with(&cluster.uri(DATABASE), &both).unwrap();
    assert_eq!(server.client().key_ids().unwrap(), keys);
    seed::check_grants(&server.client(), &grants).unwrap();
    assert!(server.client().is_active(&stray.access_token).unwrap());
}

#[test]
fn a_server_that_ends_at_once_says_why() {
    let release = Release::find("2.3.0").unwrap();
    let error = release.serve("nonsense://nowhere").unwrap_err();
    assert!(format!("{error:#}").contains("unknown driver"), "{error:#}");

    let cluster = Cluster::start(16).unwrap();
    cluster.create_database(DATABASE).unwrap();
    let error = release.serve(&cluster.uri(DATABASE)).unwrap_err();
    assert!(format!("{error:#}").contains("locate the table"), "{error:#}");
}
