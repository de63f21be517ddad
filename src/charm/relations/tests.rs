use super::*;
use crate::apps::{HYDRA, KRATOS};
use crate::juju::Scripts;
use std::collections::HashMap;

/// What a real unit agent (Juju 4.0.14) answered to the same calls, as small scripts.
const ANSWERS: &str = r#"
case "$0 $*" in
  *relation-ids*source-database*) echo '["source-database:2"]';;
  *relation-ids*target-database*) echo "$TARGET";;
  *relation-ids*source-kratos*) echo '["source-kratos:3"]';;
  *relation-ids*target-kratos*) echo '["target-kratos:4"]';;
  *relation-ids*hydra*) echo '[]';;
  *relation-ids*kratos-info*) echo '["kratos-info:5","kratos-info:9"]';;
  *relation-list*database:2*) echo '"pg"';;
  *relation-list*database:*) echo '"pg-new"';;
  *relation-list*kratos:3*) echo '"kratos"';;
  *relation-list*kratos:4*) echo '"kratos-new"';;
  *relation-model-get*) echo '{"uuid":"5a67be19-43c6-411a-83c9-14666fd59ef5"}';;
  *relation-get*database:2*pg*) echo '{"database":"apps_coordinator","endpoints":"10.0.0.1:5432","secret-user":"secret://5a67be19/uagn5dkhgfa1e176suo0","secret-tls":"secret:tls","version":"14.23"}';;
  *relation-get*database:6*pg-new*) echo '{}';;
  *relation-get*database:6*coordinator*) echo '{}';;
  *relation-get*database:7*pg-new*) echo 'ERROR permission denied' >&2; exit 1;;
  *relation-get*kratos:3*) echo '{"admin_endpoint":"http://kratos:4434","public_endpoint":"http://kratos:4433","configmaps_namespace":"apps","later":"1"}';;
  *relation-get*kratos:4*) echo '{}';;
  *relation-get*info:5*) echo '{"admin_endpoint":"http://kratos:4434"}';;
  *relation-get*info:9*) echo 'ERROR relation not found' >&2; exit 1;;
  *secret-get*uagn*)
    [ "$CODE" = 0 ] || echo 'ERROR "coordinator/0" is not allowed to read this secret' >&2
    echo "$SECRET"; exit "$CODE";;
  *secret-get*tls*) echo '{"tls":"True","tls-ca":"-----BEGIN CERTIFICATE-----"}';;
  *) echo "unexpected: $0 $*" >&2; exit 7;;
esac"#;

const GRANTED: &str = r#"SECRET='{"username":"relation-2","password":"hunter2"}'; CODE=0"#;
const REFUSED: &str = "SECRET=; CODE=1";

fn world(secret: &str, target: &str) -> Scripts {
    let body = format!("TARGET='{target}'; {secret}; {ANSWERS}");
    ["relation-ids", "relation-list", "relation-model-get", "relation-get", "secret-get"]
        .into_iter()
        .fold(Scripts::new(), |scripts, tool| scripts.tool(tool, &body))
}

fn context(extra: &[(&str, &str)]) -> Context {
    let always = [
        ("JUJU_UNIT_NAME", "coordinator/0"),
        ("JUJU_MODEL_NAME", "apps"),
        ("JUJU_MODEL_UUID", "5a67be19-43c6-411a-83c9-14666fd59ef5"),
        ("JUJU_DISPATCH_PATH", "hooks/update-status"),
    ];
    let environment: HashMap<String, String> =
        always.iter().chain(extra).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Context::from_environment(&environment).unwrap()
}

#[test]
fn a_leader_reads_everything_and_asks_where_nobody_has() {
    let scripts = world(GRANTED, r#"["target-database:6"]"#);
    let facts = RelationsFacts::gather(&scripts.tools(), &context(&[]), true).unwrap();
    let source = facts.database(Side::Source).ready().unwrap();
    assert_eq!((source.server.host.as_str(), source.server.port), ("10.0.0.1", 5432));
    assert_eq!((source.server.user.as_str(), source.server.password.reveal()), ("relation-2", "hunter2"));
    assert_eq!((source.database.as_str(), source.version.as_str()), ("apps_coordinator", "14.23"));
    assert!(source.server.tls && source.server.ca.is_some());
    assert!(!format!("{facts:?}").contains("hunter2"), "a password shows in debug output");

    assert!(matches!(facts.database(Side::Target), Access::Waiting(waiting) if !waiting.person));
    assert_eq!(facts.requests.len(), 1);
    let request = &facts.requests[0];
    assert_eq!(request.relation_id, "target-database:6");
    assert_eq!(request.values["database"], "apps_coordinator");
    assert_eq!(request.values["extra-user-roles"], "SUPERUSER");
    assert!(serde_json::from_str::<Vec<String>>(&request.values["requested-secrets"]).is_ok());

    let kratos = facts.identity(Side::Source).ready().unwrap();
    assert_eq!(kratos.names(Side::Source, None, None).unwrap().database, "apps_kratos");
    assert_eq!(kratos.published["later"], "1");
    let Access::Waiting(waiting) = facts.identity(Side::Target) else { panic!("{:?}", facts.target_identity) };
    assert!(waiting.person && waiting.cure.contains("public URL"));
    assert_eq!(facts.consumers.len(), 1, "the consumer that went away is left out");
    assert_eq!(facts.mistake, None);
}

#[test]
fn a_follower_reads_no_bag_of_its_own_and_asks_for_nothing() {
    let scripts = world(GRANTED, r#"["target-database:6"]"#);
    let facts = RelationsFacts::gather(&scripts.tools(), &context(&[]), false).unwrap();
    assert!(facts.requests.is_empty() && facts.consumers.is_empty());
    assert!(!scripts.calls("relation-get").contains(&"coordinator".to_owned()));
}

#[test]
fn a_secret_that_is_not_granted_is_waited_for() {
    let scripts = world(REFUSED, "[]");
    let facts = RelationsFacts::gather(&scripts.tools(), &context(&[]), true).unwrap();
    let Access::Waiting(waiting) = facts.database(Side::Source) else { panic!("{:?}", facts.source_database) };
    assert!(waiting.found.contains("not granted"), "{}", waiting.found);
    assert_eq!(facts.target_database, Access::NoRelation);
}

#[test]
fn a_relation_that_breaks_or_went_away_is_absent() {
    let scripts = world(GRANTED, r#"["target-database:7"]"#);
    let breaking = [
        ("JUJU_DISPATCH_PATH", "hooks/source-database-relation-broken"),
        ("JUJU_RELATION", "source-database"),
        ("JUJU_RELATION_ID", "source-database:2"),
    ];
    let facts = RelationsFacts::gather(&scripts.tools(), &context(&breaking), true).unwrap();
    assert_eq!(facts.source_database, Access::NoRelation);
    assert_eq!(facts.target_database, Access::NoRelation);
    assert!(facts.requests.is_empty());
}

#[test]
fn one_application_on_both_sides_is_a_mistake() {
    let end = |id: &str| End { relation_id: id.to_owned(), application: "kratos".to_owned(), bag: BTreeMap::new() };
    let both = || [Some(end("source-kratos:1")), Some(end("target-kratos:2"))];
    let mistake = one_application(&[(&KRATOS, both())]).unwrap();
    assert!(mistake.to_string().contains("source-kratos and target-kratos both lead to kratos"));
    let hydra = [None, Some(end("target-hydra:3"))];
    let mistake = two_apps(&[(&KRATOS, both()), (&HYDRA, hydra)]).unwrap();
    assert!(mistake.to_string().contains("source-kratos and target-hydra are both related"));
    let none = Access::NoRelation;
    assert!(one_cluster(Some(&end("a:1")), Some(&end("b:2")), &none, &none).is_some());
}

#[test]
fn writes_to_a_relation_that_went_away_are_no_failure() {
    let scripts = Scripts::new().tool("relation-set", "echo 'ERROR permission denied' >&2; exit 1");
    let write = RelationWrite { relation_id: "kratos-info:9".to_owned(), values: BTreeMap::new() };
    write_all(&scripts.tools(), &[write]).unwrap();
    let scripts = Scripts::new().tool("relation-set", "echo 'ERROR cannot write relation settings' >&2; exit 1");
    let write = RelationWrite { relation_id: "kratos-info:9".to_owned(), values: BTreeMap::new() };
    assert_eq!(write_all(&scripts.tools(), &[write]).unwrap_err().kind, Kind::NotLeader);
}
