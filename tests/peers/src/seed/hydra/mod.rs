//! Data at volume in the real schema of Hydra 2.3.0, and of releases before and after it.
//!
//! Rows are made by SQL from their number alone (but for the network, which every database of Hydra's has of its own),
//! and their tokens work on a server with the usual system secret; a few logins are made through the APIs, as users and
//! applications make them. Every column is named: the SQL also fits later releases.

use crate::cluster::Cluster;
use crate::hydra::{Browser, Client, Kind, OAuth2Client, Opaque, SYSTEM_SECRET, Tokens};
use anyhow::Context;
use std::fmt::Write as _;

/// The secret of every client made by SQL, and the hash that Hydra made of it.
pub const CLIENT_SECRET: &str = "volume-client-secret-2b7f";
const CLIENT_SECRET_HASH: &str =
    "$pbkdf2-sha256$i=25000,l=32$aHlkcmEtc2VlZC1zYWx0LQ$jEt9FPuyDRK8+s6ZSSuq9fCwOdyMkwSPHu5hWCQ6LGg";

const ROWS: &str = include_str!("rows.sql");

/// Columns of 2.3.0 that earlier releases, or Canonical's own 2.3.0, do not have. They are there while rows are made.
const LATER: [&str; 10] = [
    "hydra_client.skip_logout_consent boolean",
    "hydra_oauth2_access.expires_at timestamp",
    "hydra_oauth2_code.expires_at timestamp",
    "hydra_oauth2_logout_request.expires_at timestamp",
    "hydra_oauth2_logout_request.requested_at timestamp",
    "hydra_oauth2_oidc.expires_at timestamp",
    "hydra_oauth2_pkce.expires_at timestamp",
    "hydra_oauth2_refresh.expires_at timestamp",
    "hydra_oauth2_refresh.first_used_at timestamp",
    "hydra_oauth2_refresh.access_token_signature varchar(255)",
];

/// One client for so many users.
const USERS_PER_CLIENT: u32 = 20;
const FEWEST_CLIENTS: u32 = 10;

/// Fills the database of a fresh Hydra 2.3.0 with the logins of `subjects` users at some clients: a login session, a
/// consent and, for most, working access and refresh tokens each, with codes and leftovers of many kinds.
pub fn rows(cluster: &Cluster, database: &str, subjects: u32) -> anyhow::Result<()> {
    let clients = clients(subjects);
    let mut sql = String::from("CREATE TEMPORARY TABLE tokens (n int, access text, refresh text, code text);\n");
    sql.push_str("COPY tokens FROM STDIN;\n");
    for number in 1..=subjects {
        let [access, refresh, code] = tokens(number)?.map(|token| token.row_key());
        writeln!(sql, "{number}\t{access}\t{refresh}\t{code}")?;
    }
    sql.push_str("\\.\nCREATE TEMPORARY TABLE machine_tokens (n int, access text);\nCOPY machine_tokens FROM STDIN;\n");
    for number in 1..=clients {
        writeln!(sql, "{number}\t{}", machine(number)?.row_key())?;
    }
    sql.push_str("\\.\n");
    let rows = ROWS.replace(":subjects", &subjects.to_string()).replace(":clients", &clients.to_string());
    sql.push_str(&rows.replace(":client_secret_hash", CLIENT_SECRET_HASH));
    let lacking = lacking(cluster, database)?;
    let alter = |action: fn(&(&str, &str, &str)) -> String| lacking.iter().map(action).collect::<String>();
    let add = alter(|(table, column, kind)| format!("ALTER TABLE {table} ADD COLUMN {column} {kind};\n"));
    let take_away = alter(|(table, column, _)| format!("ALTER TABLE {table} DROP COLUMN {column};\n"));
    cluster.psql(database, &format!("{add}{sql}{take_away}"))?;
    cluster.psql(database, "VACUUM ANALYZE").map(drop)
}

/// Those of [`LATER`] that this database lacks: table, column and type.
fn lacking(cluster: &Cluster, database: &str) -> anyhow::Result<Vec<(&'static str, &'static str, &'static str)>> {
    let known = "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'";
    let known = cluster.psql(database, known)?;
    let known: Vec<&str> = known.lines().collect();
    let parts = LATER.iter().map(|later| {
        let (name, kind) = later.split_once(' ').context("a column has no type")?;
        let (table, column) = name.split_once('.').context("a column has no table")?;
        Ok((known.contains(&name), (table, column, kind)))
    });
    let parts = parts.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(parts.into_iter().filter(|(has, _)| !has).map(|(_, column)| column).collect())
}

/// How many clients [`rows`] makes for so many users.
pub fn clients(subjects: u32) -> u32 {
    (subjects / USERS_PER_CLIENT).max(FEWEST_CLIENTS)
}

/// The client made by SQL with this number, from 1. Those of every ninth number keep no secret.
pub fn client(cluster: &Cluster, database: &str, number: u32) -> anyhow::Result<OAuth2Client> {
    Ok(OAuth2Client {
        id: cluster.psql(database, &format!("SELECT md5('client ' || {number})::uuid"))?,
        secret: CLIENT_SECRET.to_owned(),
        redirect_uri: format!("https://application-{number}.example/callback"),
    })
}

/// The number of the client at which this user of so many logged in.
pub fn client_of(number: u32, subjects: u32) -> u32 {
    (number - 1) % clients(subjects) + 1
}

/// The user with this number, from 1: the identity that the seed of Kratos makes under it.
pub fn subject(cluster: &Cluster, database: &str, number: u32) -> anyhow::Result<String> {
    cluster.psql(database, &format!("SELECT md5('identity ' || {number})::uuid"))
}

/// Whether that user's login ended with tokens: some refuse, some leave early.
pub fn has_tokens(number: u32) -> bool {
    !number.is_multiple_of(5)
}

/// The access token that the client has of that user.
pub fn access_token(number: u32) -> anyhow::Result<String> {
    let [access, _, _] = tokens(number)?;
    Ok(access.text())
}

/// And the refresh token.
pub fn refresh_token(number: u32) -> anyhow::Result<String> {
    let [_, refresh, _] = tokens(number)?;
    Ok(refresh.text())
}

/// The access token that the client with this number has for itself.
pub fn machine_token(number: u32) -> anyhow::Result<String> {
    Ok(machine(number)?.text())
}

fn tokens(number: u32) -> anyhow::Result<[Opaque; 3]> {
    let named = |kind, what: &str| Opaque::named(kind, SYSTEM_SECRET, &format!("{what} {number}"));
    Ok([named(Kind::Access, "access token")?, named(Kind::Refresh, "refresh token")?, named(Kind::Code, "code")?])
}

fn machine(number: u32) -> anyhow::Result<Opaque> {
    Opaque::named(Kind::Access, SYSTEM_SECRET, &format!("machine token {number}"))
}

/// A login made through the APIs: an application, a user of it, and what they were given.
#[derive(Debug, Clone)]
pub struct Grant {
    pub application: OAuth2Client,
    pub subject: String,
    /// With the cookie by which Hydra remembers the user.
    pub browser: Browser,
    pub tokens: Tokens,
    /// What the application has for itself.
    pub machine_token: String,
}

/// Makes logins through the APIs of a running server, each at an application of its own, and an issuer whose key stands
/// encrypted among the server's.
pub fn grants(client: &Client, count: u32) -> anyhow::Result<Vec<Grant>> {
    grants_named(client, "user", count)
}

/// As [`grants`], with users whose names begin otherwise.
pub fn grants_named(client: &Client, name: &str, count: u32) -> anyhow::Result<Vec<Grant>> {
    client.trust_issuer(&format!("https://{name}.example"))?;
    (1..=count)
        .map(|number| {
            let subject = format!("{name}-{number}");
            let application = client.create_client(&format!("Application of {subject}"))?;
            let machine_token = client.client_credentials(&application, "read")?.access_token;
            let mut browser = Browser::new();
            let tokens = browser.log_in(client, &application, &subject);
            let tokens = tokens.with_context(|| format!("cannot log in as {subject}"))?;
            Ok(Grant { application, subject, browser, tokens, machine_token })
        })
        .collect()
}

/// Proves on a server, without a write, that these logins are there: clients readable, tokens good, consents listed.
pub fn check_grants(client: &Client, grants: &[Grant]) -> anyhow::Result<()> {
    for Grant { application, subject, tokens, machine_token, .. } in grants {
        let found = client.client(&application.id).with_context(|| format!("the application of {subject}"))?;
        anyhow::ensure!(found["client_id"] == application.id.as_str(), "the application of {subject} is {found}");
        for (token, of) in [(&tokens.access_token, subject), (machine_token, &application.id)] {
            let known = client.introspect(token)?;
            anyhow::ensure!(known["active"] == true, "an access token of {subject} is not good: {known}");
            anyhow::ensure!(known["sub"] == of.as_str(), "an access token of {subject} is somebody else's: {known}");
        }
        let refresh_token = tokens.refresh_token.as_ref().with_context(|| format!("{subject} has no refresh token"))?;
        anyhow::ensure!(client.is_active(refresh_token)?, "the refresh token of {subject} is not good");
        let consents = client.consents(subject)?;
        anyhow::ensure!(!consents.is_empty(), "what {subject} allowed is forgotten");
    }
    Ok(())
}

/// Uses on a server what these logins gave: the user is still remembered, and refresh tokens and secrets still work.
/// The tokens are other ones afterwards.
pub fn renew_grants(client: &Client, grants: &mut [Grant]) -> anyhow::Result<()> {
    for Grant { application, subject, browser, tokens, machine_token } in grants {
        let refresh_token = tokens.refresh_token.as_ref().with_context(|| format!("{subject} has no refresh token"))?;
        *tokens = client.refresh(application, refresh_token).with_context(|| format!("tokens of {subject}"))?;
        let again = browser.authorize(client, application, subject).with_context(|| format!("a login of {subject}"))?;
        anyhow::ensure!(again.login_remembered, "the login of {subject} is forgotten");
        anyhow::ensure!(again.consent_remembered, "what {subject} allowed is forgotten");
        client.exchange(application, &again)?;
        *machine_token = client.client_credentials(application, "read")?.access_token;
    }
    Ok(())
}
