//! Data at volume in the real schema of Kratos 1.0.0.
//!
//! Rows are made by SQL from their number alone, so that the same size gives the same rows every time; a few people
//! are made through the admin API, with real passwords and real sessions. Every column is named: the SQL also fits
//! later releases, whose new columns may be left out. Hydra's data is in [`hydra`], people with
//! every login method and with codes under way in [`members`].

pub mod hydra;
pub mod members;

use crate::cluster::Cluster;
use crate::kratos::Client;
use anyhow::Context;

/// The password of every identity made by SQL, and the bcrypt hash (cost 4) that Kratos made of it.
pub const SHARED_PASSWORD: &str = "correct horse 12";

/// What is in the database besides the identities, by SQL, for each `{identities}`. In two lots that do not wait for
/// each other, for two cores.
const NETWORK: &str = include_str!("network.sql");
const PEOPLE: &str = include_str!("people.sql");
const TRAFFIC: &str = include_str!("traffic.sql");
const RARE: &str = include_str!("rare.sql");

/// Fills the database of a fresh Kratos 1.0.0 with `identities` identities, each with a password, an identifier, a
/// verifiable and a recovery address and a session with a device, and with flows, courier messages and errors.
pub fn rows(cluster: &Cluster, database: &str, identities: u32) -> anyhow::Result<()> {
    let fill = |sql: &str| cluster.psql(database, &sql.replace(":identities", &identities.to_string()));
    fill(NETWORK)?;
    std::thread::scope(|scope| {
        let people = scope.spawn(|| fill(PEOPLE));
        let traffic = fill(TRAFFIC);
        people.join().map_err(|_| anyhow::anyhow!("the thread that made people panicked"))??;
        traffic
    })?;
    cluster.psql(database, "VACUUM ANALYZE").map(drop)
}

/// Adds a few of the rows that are seldom there, to a database of any release that [`rows`] filled: other ones for each
/// number of a lot.
pub fn rare(cluster: &Cluster, database: &str, lot: u32) -> anyhow::Result<()> {
    cluster.psql(database, &RARE.replace(":lot", &lot.to_string())).map(drop)
}

/// The email address of the identity made by SQL with this number, from 1.
pub fn email(number: u32) -> String {
    format!("person-{number}@volume.example")
}

/// The id of that identity.
pub fn identity_id(cluster: &Cluster, database: &str, number: u32) -> anyhow::Result<String> {
    cluster.psql(database, &format!("SELECT md5('identity ' || {number})::uuid"))
}

/// The session token of that identity.
pub fn session_token(cluster: &Cluster, database: &str, number: u32) -> anyhow::Result<String> {
    cluster.psql(database, &format!("SELECT 'ory_st_' || md5('session token ' || {number})"))
}

/// Somebody made through the admin API.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: String,
    pub email: String,
    pub password: String,
    /// The token of a session that was opened with the password.
    pub session_token: String,
}

/// Makes people through the API of a running server.
pub fn people(client: &Client, count: u32) -> anyhow::Result<Vec<Person>> {
    people_named(client, "person", count)
}

/// As [`people`], with names that begin otherwise.
pub fn people_named(client: &Client, name: &str, count: u32) -> anyhow::Result<Vec<Person>> {
    (1..=count)
        .map(|number| {
            let email = format!("{name}-{number}@api.example");
            let password = format!("a password of person {number}");
            let id = client.create_identity(&email, &password)?;
            let login = client.login(&email, &password).with_context(|| format!("cannot log in as {email}"))?;
            anyhow::ensure!(login.identity_id == id, "a login as {email} opened a session of {}", login.identity_id);
            Ok(Person { id, email, password, session_token: login.session_token })
        })
        .collect()
}

/// Proves on a server that these people are there: readable, old sessions valid, passwords right.
pub fn check_people(client: &Client, people: &[Person]) -> anyhow::Result<()> {
    for person in people {
        let email = &person.email;
        let identity = client.identity(&person.id).with_context(|| format!("cannot read {email}"))?;
        anyhow::ensure!(identity["traits"]["email"] == email.as_str(), "{email} has other traits: {identity}");
        let session = client.whoami(&person.session_token).with_context(|| format!("the old session of {email}"))?;
        anyhow::ensure!(session["identity"]["id"] == person.id.as_str(), "the session of {email} is somebody else's");
        let login = client.login(email, &person.password).with_context(|| format!("a new login of {email}"))?;
        anyhow::ensure!(login.identity_id == person.id, "a login as {email} opened a session of somebody else");
    }
    Ok(())
}
