//! What is foretold of a changed identity schema is what a real Kratos then does to the same people.

use super::rig::server;
use coordinator::apps::identity_schema::{Kind, Purpose};
use coordinator::steps::identity_documents::{Effect, Place, effects};
use peers::cluster::Cluster;
use peers::kratos::{Release, Settings, identity_schema};
use peers::seed;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const PEOPLE: u32 = 42;

/// What there is to log in and to recover by, and to be verified: identity, purpose, value.
const USES: &str = "SELECT c.identity_id || ' ' || t.name || ' ' || n.identifier FROM identity_credential_identifiers n
    JOIN identity_credentials c ON c.id = n.identity_credential_id
    JOIN identity_credential_types t ON t.id = c.identity_credential_type_id
    UNION ALL SELECT identity_id || ' recovery ' || value FROM identity_recovery_addresses
    UNION ALL SELECT identity_id || ' verification ' || value FROM identity_verifiable_addresses";

/// Documents by what they change.
fn documents() -> Vec<(&'static str, Json)> {
    let with = |email: Json, name: Json, required: Json| {
        let mut document = identity_schema();
        let traits = &mut document["properties"]["traits"];
        traits["required"] = required;
        traits["properties"] = json!({"email": {"type": "string", "format": "email"}, "name": {"type": "string"}});
        traits["properties"]["email"]["ory.sh/kratos"] = email;
        for (key, value) in name.as_object().unwrap() {
            traits["properties"]["name"][key] = value.clone();
        }
        document
    };
    let login = json!({"password": {"identifier": true}});
    let all = json!({"credentials": login, "verification": {"via": "email"}, "recovery": {"via": "email"}});
    let by_name = json!({"minLength": 1, "ory.sh/kratos": {"credentials": login}});
    vec![
        ("no address is kept", with(json!({"credentials": login}), json!({}), json!(["email"]))),
        ("nothing identifies", with(json!({"verification": {"via": "email"}}), json!({}), json!([]))),
        ("the name identifies", with(json!({"recovery": {"via": "email"}}), by_name, json!(["email"]))),
        ("a pattern, and more is asked for", with(all, json!({"pattern": "^Person "}), json!(["email", "name"]))),
    ]
}

/// Foretold: who cannot be saved, and who loses what.
fn foretold(effect: &Effect) -> (u64, BTreeMap<String, u64>) {
    let name = |kind: &Kind| match kind.purpose {
        Purpose::Identifier => kind.by.clone(),
        Purpose::Recovery => "recovery".to_owned(),
        Purpose::Verification => "verification".to_owned(),
    };
    let lost = effect.lost.iter().map(|(kind, tally)| (name(kind), tally.count)).collect();
    (effect.unfit.count + effect.taken.count, lost)
}

/// What a server of the release does when it saves everybody as they are.
fn done(cluster: &Cluster, database: &str, release: &Release, document: &Json) -> (u64, BTreeMap<String, u64>) {
    let uses = || -> BTreeSet<String> { cluster.psql(database, USES).unwrap().lines().map(str::to_owned).collect() };
    let before = uses();
    let told = Settings { identity_schema: Some(document.clone()), ..Settings::default() };
    let server = release.serve_with(&cluster.uri(database), &told).unwrap();
    let ids = cluster.psql(database, "SELECT id FROM identities ORDER BY id").unwrap();
    let refused = ids.lines().filter(|id| server.client().save(id).unwrap() != 200).count();
    let mut lost: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let after = uses();
    for gone in before.difference(&after) {
        let mut words = gone.split(' ').map(str::to_owned);
        let (id, what) = (words.next().unwrap(), words.next().unwrap());
        lost.entry(what).or_default().insert(id);
    }
    (refused as u64, lost.into_iter().map(|(what, ids)| (what, ids.len() as u64)).collect())
}

#[test]
fn what_is_foretold_is_what_kratos_does() {
    let cluster = Cluster::start(16).unwrap();
    let release = Release::find("1.3.1").unwrap();
    cluster.create_database("people").unwrap();
    release.migrate(&cluster.uri("people")).unwrap();
    seed::rows(&cluster, "people", PEOPLE).unwrap();
    // Fits neither the old documents nor the new ones.
    cluster
        .psql("people", "UPDATE identities SET traits = '{\"email\": 7}' WHERE id = md5('identity 5')::uuid")
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let used: BTreeSet<String> = ["default".to_owned()].into();
    let old: BTreeMap<String, Json> = [("default".to_owned(), identity_schema())].into();
    let place = Place { schema: "public".to_owned(), networks: "networks" };
    let effect_of = |document: &Json, limit: Duration| -> Effect {
        let new = [("default".to_owned(), document.clone())].into();
        let looked = async {
            let session = server(&cluster).connect("people", "test").await.unwrap();
            effects(&session, &place, &used, Some(&old), &new, Instant::now() + limit).await.unwrap().remove(0)
        };
        runtime.block_on(looked)
    };
    for (n, (what, document)) in documents().into_iter().enumerate() {
        let effect = effect_of(&document, Duration::from_secs(60));
        println!("{what}: {}", effect.describe());
        let told = effect.describe();
        assert!(!told.contains('@') && !told.contains("Person"), "{told}");
        assert_eq!((effect.read.count, effect.read.all), (u64::from(PEOPLE), true), "{what}");
        assert_eq!(effect.unfit_before, 1, "{what}");
        let copy = format!("saved_{n}");
        cluster.psql("postgres", &format!("CREATE DATABASE {copy} TEMPLATE people")).unwrap();
        let (refused, lost) = foretold(&effect);
        // One cannot be saved with any document.
        assert_eq!((refused + 1, lost), done(&cluster, &copy, &release, &document), "{what}");
    }
    let unchanged = effect_of(&identity_schema(), Duration::from_secs(60));
    assert_eq!((unchanged.unfit_before, unchanged.is_worth_knowing()), (1, false), "{unchanged:?}");
    // Without time nothing is claimed.
    let (_, document) = documents().remove(0);
    let late = effect_of(&document, Duration::ZERO);
    assert_eq!((late.read.count, late.read.all), (0, false));
    assert!(late.is_worth_knowing() && !late.describe().contains("nobody"), "{}", late.describe());
    assert!(late.describe().contains("no identity could be looked at in time"), "{}", late.describe());
}

/// Reading anybody of schema `a` takes a minute, as where nothing helps to find them.
const SLOW: &str = "CREATE SCHEMA slow;
    CREATE FUNCTION slow.nap(schema text) RETURNS bool LANGUAGE plpgsql COST 1000000 AS
        'BEGIN IF schema = ''a'' THEN PERFORM pg_sleep(60); END IF; RETURN true; END';
    CREATE VIEW slow.identities AS SELECT * FROM public.identities WHERE slow.nap(schema_id::text);
    CREATE VIEW slow.networks AS SELECT * FROM public.networks;
    CREATE VIEW slow.identity_credentials AS SELECT * FROM public.identity_credentials;
    CREATE VIEW slow.identity_credential_types AS SELECT * FROM public.identity_credential_types;
    CREATE VIEW slow.identity_credential_identifiers AS SELECT * FROM public.identity_credential_identifiers;
    CREATE VIEW slow.identity_recovery_addresses AS SELECT * FROM public.identity_recovery_addresses;
    CREATE VIEW slow.identity_verifiable_addresses AS SELECT * FROM public.identity_verifiable_addresses";

#[test]
fn a_slow_schema_leaves_time_for_the_next_and_is_no_pass() {
    let cluster = Cluster::start(16).unwrap();
    cluster.create_database("people").unwrap();
    Release::find("1.3.1").unwrap().migrate(&cluster.uri("people")).unwrap();
    seed::rows(&cluster, "people", PEOPLE).unwrap();
    let halves = "UPDATE identities SET schema_id = CASE WHEN id::text < '8' THEN 'a' ELSE 'b' END";
    cluster.psql("people", halves).unwrap();
    cluster.psql("people", SLOW).unwrap();
    let mut changed = identity_schema();
    changed["title"] = json!("another");
    let of = |document: Json| BTreeMap::from(["a", "b"].map(|schema| (schema.to_owned(), document.clone())));
    let (old, new) = (of(identity_schema()), of(changed));
    let found = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let session = server(&cluster).connect("people", "test").await.unwrap();
        let place = Place { schema: "slow".to_owned(), networks: "networks" };
        let used = new.keys().cloned().collect();
        let until = Instant::now() + Duration::from_secs(8);
        effects(&session, &place, &used, Some(&old), &new, until).await.unwrap()
    });
    let [slow, next] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((slow.read.count, slow.read.all, slow.is_worth_knowing()), (0, false, true), "{}", slow.describe());
    assert!(next.read.count > 0 && next.read.all && !next.is_worth_knowing(), "{}", next.describe());
}

/// A schema with more people than are looked at one by one: a sample from everywhere, and soon.
#[test]
fn of_many_people_a_sample_is_taken() {
    let cluster = Cluster::start(16).unwrap();
    cluster.create_database("people").unwrap();
    Release::find("1.0.0").unwrap().migrate(&cluster.uri("people")).unwrap();
    seed::rows(&cluster, "people", 12_000).unwrap();
    let mut changed = identity_schema();
    changed["properties"]["traits"]["properties"]["name"]["minLength"] = json!(1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let began = Instant::now();
    let effect = runtime.block_on(async {
        let session = server(&cluster).connect("people", "test").await.unwrap();
        let place = Place { schema: "public".to_owned(), networks: "networks" };
        let (old, new) = ([("default".to_owned(), identity_schema())].into(), [("default".to_owned(), changed)].into());
        let used = ["default".to_owned()].into();
        let until = Instant::now() + Duration::from_secs(60);
        effects(&session, &place, &used, Some(&old), &new, until).await.unwrap().remove(0)
    });
    println!("{} in {} ms", effect.describe(), began.elapsed().as_millis());
    assert_eq!((effect.read.count, effect.read.all), (5_000, false));
    // Every seventh has no name.
    assert!((600..830).contains(&effect.unfit.count), "{}", effect.unfit.count);
    assert!(effect.describe().contains("a sample of 5000 identities"), "{}", effect.describe());
}
