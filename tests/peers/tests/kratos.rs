//! Real Kratos on real data: the seed is what the server would have written, and the upgrade keeps it usable.

use peers::cluster::Cluster;
use peers::kratos::Release;
use peers::seed;

#[test]
fn seeded_and_real_people_survive_the_upgrade_of_a_database() {
    let (old, new) = (Release::find("1.0.0").unwrap(), Release::find("1.3.1").unwrap());
    let cluster = Cluster::start(14).unwrap();
    cluster.create_database("kratos").unwrap();
    let dsn = cluster.uri("kratos");
    old.migrate(&dsn).unwrap();
    seed::rows(&cluster, "kratos", 400).unwrap();
    assert_eq!(cluster.psql("kratos", "SELECT count(*) FROM identities").unwrap(), "400");

    let server = old.serve(&dsn).unwrap();
    assert_eq!(server.client().version().unwrap(), "v1.0.0");
    let people = seed::people(&server.client(), 3).unwrap();
    assert_eq!(cluster.psql("kratos", "SELECT count(*) FROM networks").unwrap(), "1");
    let volume = server.client().login(&seed::email(7), seed::SHARED_PASSWORD).unwrap();
    assert_eq!(volume.identity_id, seed::identity_id(&cluster, "kratos", 7).unwrap());
    let ports = server.ports().clone();
    server.stop().unwrap();

    new.migrate(&dsn).unwrap();
    let server = new.start(&dsn, &ports).unwrap();
    server.wait_ready().unwrap();
    assert_eq!(server.client().version().unwrap(), "v1.3.1");
    seed::check_people(&server.client(), &people).unwrap();
    for number in [1, 5, 7, 400] {
        let token = seed::session_token(&cluster, "kratos", number).unwrap();
        let session = server.client().whoami(&token).unwrap();
        assert_eq!(session["identity"]["traits"]["email"], seed::email(number));
    }
    server.client().login(&seed::email(399), seed::SHARED_PASSWORD).unwrap();
    assert!(server.client().login(&seed::email(399), "wrong").is_err());
}

#[test]
fn a_server_that_ends_at_once_says_why() {
    let error = Release::find("1.0.0").unwrap().serve("nonsense://nowhere").unwrap_err();
    assert!(format!("{error:#}").contains("unknown driver"), "{error:#}");
}
