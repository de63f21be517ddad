//! Checks that only a Hydra needs.

use super::Facts;
use super::contents::Counted;
use super::judgement::{Judgement, bad, good, hint};
use crate::apps::Told;

/// The source must be able to use its own keys, else there is no measure for the target.
pub(super) fn signing_keys(facts: &Facts) -> Judgement {
    let kept = &facts.source.contents.signing_keys;
    let ids = kept.ids();
    match (&facts.source.keys, &facts.source.issuer) {
        _ if !kept.name_the_issuer() => hint(
            "the source has no signing keys, so nothing can prove before the flip that the target has its system secret",
            "have it publish some (any client that reads its jwks.json does), or make sure of the secret by hand",
        ),
        (Some(Told::Failed { status, message }), _) | (_, Some(Told::Failed { status, message })) => bad(
            format!("the source answers {status} where it needs its signing keys: {message}"),
            "repair that on the source first: most likely it lost the system secret that encrypted them",
        ),
        (Some(Told::Yes(published)), _) if !published.is_superset(&ids) => bad(
            format!(
                "the source publishes {} of the {} signing keys in its database",
                published.intersection(&ids).count(),
                ids.len()
            ),
            "check that source-hydra and source-database belong together, and that its public address is its own",
        ),
        (Some(Told::Yes(_)), _) => good(format!("the source publishes all of its {} signing keys", ids.len())),
        (None, Some(Told::Yes(_))) => good(format!("the source uses its {} signing keys", ids.len())),
        (None, None) => bad(
            "the source's signing keys could not be asked for: its public address does not answer",
            "check that this unit can reach the public address of the source",
        ),
    }
}

/// Whether the target can decrypt the source's keys shows only when it has them: before the copy it is a question to
/// the operator, and the gates answer it before the flip.
pub(super) fn system_secret(facts: &Facts) -> Judgement {
    let target = &facts.look.target_application;
    let shared = !facts.source.contents.signing_keys.ids().is_disjoint(&facts.target.contents.signing_keys.ids());
    match (&facts.target.keys, &facts.target.issuer) {
        (Some(Told::Failed { status, message }), _) | (_, Some(Told::Failed { status, message })) if shared => bad(
            format!(
                "the target answers {status} where it needs the keys that came from the source ({message}): it lacks \
                 the source's system secret"
            ),
            cure(target),
        ),
        (Some(_), _) | (_, Some(_)) if shared => good("the target decrypts the keys that came from the source"),
        _ => hint(
            "the target needs every system secret of the source to decrypt keys and tokens; it cannot be seen before \
             the copy",
            cure(target),
        ),
    }
}

fn cure(target: &str) -> String {
    format!(
        "read the source's with its action get-secret-keys type=system and add each with juju run {target}/leader \
         add-secret-key type=system key=<value>; the gates prove it before the flip; do the same with type=cookie, which \
         nobody can prove from here, or users have to log in again"
    )
}

/// Clients refuse the tokens of another issuer.
pub(super) fn issuer(facts: &Facts) -> Judgement {
    match (&facts.source.issuer, &facts.target.issuer) {
        _ if !facts.source.contents.signing_keys.name_the_issuer() => hint(
            "the source has no signing keys, and asked for its issuer it would make some, so the issuers are not compared",
            "compare the public addresses of source and target by hand: the issuer is made from them",
        ),
        (Some(Told::Yes(source)), Some(Told::Yes(target))) if source != target => bad(
            format!(
                "the issuer of the source is {source}, the target's is {target}: clients refuse tokens of another issuer"
            ),
            "give the target the public address of the source before the flip; the gates compare again",
        ),
        (Some(Told::Yes(source)), Some(Told::Yes(_))) => good(format!("{source} on both sides")),
        (Some(Told::Yes(source)), _) => {
            good(format!("{source}; the target does not tell its own yet, the gates compare before the flip"))
        }
        _ => bad(
            "the source does not name its issuer",
            "check that this unit can reach the public address of the source",
        ),
    }
}

/// A client that Hydra made for a relation belongs to that Hydra's relation.
pub(super) fn oauth_relations(facts: &Facts) -> Judgement {
    match facts.source.contents.relation_clients {
        Counted::Known(0) => good("no client was made for a relation"),
        Counted::Known(count) => hint(
            format!("{count} clients were made for oauth relations of the source"),
            "leave those relations where they are: the copied clients keep working; relating an application to the new \
             Hydra instead gives it a new client id and secret, and its old tokens end",
        ),
        Counted::TooLong => hint("too many clients to look through at once", "count clients made for oauth relations"),
        Counted::NoSuchTable => good("no table of clients"),
    }
}
