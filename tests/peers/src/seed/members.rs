//! People with everything that a login may be made of, made as users and operators make it through the APIs, and with
//! what they were in the middle of: a recovery, a verification, a login by a code that was sent.
//!
//! A WebAuthn key is made by a browser that holds one, and no API takes it from anybody else: it is a row as Kratos
//! writes it, and a server is asked for it afterwards.

use super::Person;
use crate::cluster::Cluster;
use crate::encode::base64;
use crate::kratos::{Client, Methods, Pending};
use crate::totp;
use anyhow::Context;
use serde_json::json;

/// The provider at which members have a login too.
const PROVIDER: &str = "elsewhere";

/// Somebody with every login method that a release has.
#[derive(Debug, Clone)]
pub struct Member {
    pub person: Person,
    /// Who they are at the other provider.
    subject: String,
    /// The secret of their one-time passwords.
    totp: String,
    /// Codes that still replace a second factor, once each.
    lookup: Vec<String>,
    /// Whether they have a WebAuthn key.
    has_key: bool,
    /// What they were in the middle of; taken by being ended.
    pending: Option<UnderWay>,
}

#[derive(Debug, Clone)]
struct UnderWay {
    recovery: Pending,
    verification: Pending,
    login: Option<Pending>,
    /// How many messages to them waited then; some releases greet people with one too.
    queued: usize,
}

/// Makes members through the API of a running server that offers these methods, and their WebAuthn keys in its database,
/// when that is given: its schema must be older than 26.2's, where such a row needs more.
pub fn members_named(
    client: &Client,
    keys: Option<(&Cluster, &str)>,
    methods: Methods,
    name: &str,
    count: u32,
) -> anyhow::Result<Vec<Member>> {
    (1..=count)
        .map(|number| {
            let name = format!("{name}-{number}");
            let made = member(client, methods, &name).and_then(|mut member| {
                if let Some((cluster, database)) = keys {
                    web_authn(cluster, database, &member)?;
                    member.has_key = true;
                }
                Ok(member)
            });
            made.with_context(|| format!("cannot make the member {name}"))
        })
        .collect()
}

fn member(client: &Client, methods: Methods, name: &str) -> anyhow::Result<Member> {
    let email = format!("{name}@members.example");
    let (password, subject) = (format!("a password of the member {name}"), format!("subject of {name}"));
    let id = client.import_identity(&email, &password, PROVIDER, &subject)?;
    let session_token = client.login(&email, &password)?.session_token;
    let totp = client.set_up_totp(&session_token, totp::now).context("one-time passwords")?;
    let lookup = client.set_up_lookup_secrets(&session_token).context("lookup secrets")?;
    let login = match methods {
        Methods::Codes => Some(client.begin_code_login(&email).context("a login by code")?),
        _ => None,
    };
    let verification = client.begin_verification(&email).context("a verification")?;
    let recovery = client.begin_recovery(&id).context("a recovery")?;
    let queued = client.queued_messages(&email)?.len();
    let pending = UnderWay { recovery, verification, login, queued };
    let person = Person { id, email, password, session_token };
    Ok(Member { person, subject, totp, lookup, has_key: false, pending: Some(pending) })
}

/// The row of a key.
fn web_authn(cluster: &Cluster, database: &str, member: &Member) -> anyhow::Result<()> {
    let Person { id, email, .. } = &member.person;
    let [key, handle, public] =
        ["key", "handle", "public half"].map(|part| base64(format!("{part} of {id}").as_bytes()));
    let config = json!({
        "credentials": [{
            "id": key, "public_key": public, "attestation_type": "none", "display_name": "A key",
            "added_at": "2026-01-01T00:00:00Z", "is_passwordless": false,
            "authenticator": {"aaguid": "AAAAAAAAAAAAAAAAAAAAAA==", "sign_count": 1, "clone_warning": false},
        }],
        "user_handle": handle,
    });
    let sql = format!(
        "WITH key AS (
           INSERT INTO public.identity_credentials
             (id, config, identity_credential_type_id, identity_id, created_at, updated_at, nid, version)
           SELECT gen_random_uuid(), '{config}', t.id, i.id, i.created_at, i.created_at, i.nid, 1
           FROM public.identities i, public.identity_credential_types t WHERE i.id = '{id}' AND t.name = 'webauthn'
           RETURNING id, identity_credential_type_id, created_at, nid)
         INSERT INTO public.identity_credential_identifiers
           (id, identifier, identity_credential_id, identity_credential_type_id, created_at, updated_at, nid)
         SELECT gen_random_uuid(), '{email}', id, identity_credential_type_id, created_at, created_at, nid FROM key"
    );
    cluster.psql(database, &sql).map(drop)
}

/// What was proved of members, for a report.
pub const PROVED: [&str; 6] = [
    "password login",
    "session of before",
    "one-time password",
    "lookup secret, once",
    "login at another provider",
    "WebAuthn key",
];

/// Proves on a server that members log in with everything they have. Each time a lookup secret of theirs is used up.
pub fn check_members(client: &Client, members: &mut [Member]) -> anyhow::Result<()> {
    for member in members {
        let email = member.person.email.clone();
        check(client, member).with_context(|| format!("the member {email}"))?;
    }
    Ok(())
}

fn check(client: &Client, member: &mut Member) -> anyhow::Result<()> {
    super::check_people(client, std::slice::from_ref(&member.person))?;
    let Person { id, email, password, .. } = &member.person;
    let by_password = || Ok::<_, anyhow::Error>(client.login(email, password)?.session_token);
    let level = client.whoami(&by_password()?)?["authenticator_assurance_level"].clone();
    anyhow::ensure!(level == "aal1", "a password alone gives {level}");
    let one_time = json!({"method": "totp", "totp_code": totp::now(&member.totp)?});
    client.second_factor(&by_password()?, &one_time).context("a one-time password")?;
    let secret = member.lookup.pop().context("every lookup secret is used up")?;
    let lookup = json!({"method": "lookup_secret", "lookup_secret": secret});
    client.second_factor(&by_password()?, &lookup).context("a lookup secret")?;
    let again = client.second_factor(&by_password()?, &lookup);
    anyhow::ensure!(again.is_err(), "a lookup secret can be used twice");

    let identity = client.identity_with_providers(id)?;
    let has = |kind: &str, identifier: &str| {
        let known = identity["credentials"][kind]["identifiers"].as_array();
        known.is_some_and(|known| known.iter().any(|known| known == identifier))
    };
    let provided = format!("{PROVIDER}:{}", member.subject);
    anyhow::ensure!(has("oidc", &provided), "the login at another provider is gone: {}", identity["credentials"]);
    anyhow::ensure!(!member.has_key || has("webauthn", email), "the WebAuthn key is gone: {}", identity["credentials"]);
    Ok(())
}

/// Proves that what was begun elsewhere waits here as it was: its messages were not sent, and nobody sends them again.
pub fn check_queued(client: &Client, members: &[Member]) -> anyhow::Result<()> {
    for Member { person, pending, .. } in members {
        let Some(UnderWay { queued: before, .. }) = pending else { continue };
        let queued = client.queued_messages(&person.email)?.len();
        anyhow::ensure!(*before > 0 && queued == *before, "{queued} messages to {} wait, not {before}", person.email);
    }
    Ok(())
}

/// What was proved of what was under way, for a report.
pub const ENDED: [&str; 3] = ["recovery in flight", "verification in flight", "login code in flight"];

/// Ends on a server what members had begun on another: codes that were sent there are taken here, once.
pub fn end_pending(client: &Client, members: &mut [Member]) -> anyhow::Result<()> {
    for member in members {
        let Some(UnderWay { recovery, verification, login, .. }) = member.pending.take() else { continue };
        let Person { id, email, .. } = &member.person;
        if let Some(login) = &login {
            let opened = client.end_code_login(email, login).with_context(|| format!("a login of {email} by code"))?;
            anyhow::ensure!(&opened.identity_id == id, "a login of {email} by code opened somebody else's session");
        }
        client.end_verification(&verification).with_context(|| format!("a verification of {email}"))?;
        client.end_recovery(&recovery).with_context(|| format!("a recovery of {email}"))?;
        anyhow::ensure!(client.end_recovery(&recovery).is_err(), "a recovery code of {email} can be used twice");
        check_verified(client, std::slice::from_ref(member))?;
    }
    Ok(())
}

/// Proves that the addresses of these members are verified.
pub fn check_verified(client: &Client, members: &[Member]) -> anyhow::Result<()> {
    for Member { person, .. } in members {
        let identity = client.identity(&person.id)?;
        let verified = &identity["verifiable_addresses"][0]["verified"];
        anyhow::ensure!(verified == true, "the address of {} is not verified", person.email);
    }
    Ok(())
}
