//! What both servers show of their configuration, compared; and what nobody can see from outside, for the operator.

use super::Facts;
use super::contents::Counted;
use super::judgement::{Judgement, good, hint};
use crate::apps::Kind;
use serde_json::Value as Json;

/// What a Kratos shows to nobody who does not write.
const KRATOS_UNSEEN: &str = "cookie and cipher secrets, login methods and providers offered (only a flow shows them, and a flow \
                             is a row), the WebAuthn relying party and origins, the default identity schema, the \
                             password hasher, session lifespans, webhooks and the courier";
/// What a Hydra shows to nobody.
const HYDRA_UNSEEN: &str = "the cookie secret, the salt of pairwise subjects, lifespans of tokens, the form of access tokens \
                            (opaque or JWT), the addresses of login, consent and logout, token hooks";

/// Compares what can be compared, and names the rest.
pub(super) fn behaviour(facts: &Facts) -> Judgement {
    let (unseen, (same, differences)) = match facts.look.app.kind {
        Kind::Kratos => (format!("{KRATOS_UNSEEN}{}", in_use(facts)), cookies(facts)),
        Kind::Hydra => (HYDRA_UNSEEN.to_owned(), discoveries(facts)),
    };
    let by_hand = format!("compare by hand, it cannot be seen from outside: {unseen}");
    if differences.is_empty() {
        return good(format!("{same}; {by_hand}"));
    }
    hint(
        format!("{}; {by_hand}", differences.join("; ")),
        format!(
            "give {} the source's configuration (juju config), unless the difference is meant",
            facts.look.target_application
        ),
    )
}

/// What is compared of two Kratos: their public address and their cookies.
fn cookies(facts: &Facts) -> (String, Vec<String>) {
    let (Some(source), Some(target)) = (&facts.source.cookie, &facts.target.cookie) else {
        return ("cookies were not compared, because not both servers show theirs yet".to_owned(), Vec::new());
    };
    let mut differences = Vec::new();
    if source.attributes != target.attributes {
        let (ours, theirs) = (source.attributes.join(", "), target.attributes.join(", "));
        differences.push(format!("cookies of the source have {ours}, the target's have {theirs}"));
    }
    let same_address = source.name == target.name;
    if let (false, providers @ 1..) = (same_address, with_providers(facts)) {
        differences.push(format!(
            "source and target think that they have different public addresses, and {providers} logins go through \
             providers, which send people back to the address that they know"
        ));
    }
    let address = if same_address { "the same public address" } else { "public addresses of their own" };
    (format!("{address}, the same cookie attributes"), differences)
}

/// How many credentials are a provider's.
fn with_providers(facts: &Facts) -> i64 {
    match &facts.source.contents.sign_in {
        Counted::Known(sign_in) => sign_in.get("oidc").copied().unwrap_or_default(),
        _ => 0,
    }
}

/// What people of the source log in with, so that the operator knows what matters.
fn in_use(facts: &Facts) -> String {
    match &facts.source.contents.sign_in {
        Counted::Known(sign_in) if !sign_in.is_empty() => {
            let each: Vec<String> = sign_in.iter().map(|(with, count)| format!("{with} {count}")).collect();
            format!(" (in use on the source: {})", each.join(", "))
        }
        _ => String::new(),
    }
}

/// What is compared of two Hydras: what they say that they can do.
fn discoveries(facts: &Facts) -> (String, Vec<String>) {
    match (&facts.source.discovery, &facts.target.discovery) {
        (Some(source), Some(target)) => {
            ("the target offers what the source offers".to_owned(), lacking(source, target))
        }
        _ => ("what both offer was not compared, because not both tell yet".to_owned(), Vec::new()),
    }
}

/// What a discovery document of the source has and the target's lacks. Addresses are compared without the issuer, which
/// is compared elsewhere.
fn lacking(source: &Json, target: &Json) -> Vec<String> {
    let issuer = |document: &Json| document["issuer"].as_str().unwrap_or_default().trim_end_matches('/').to_owned();
    let (ours, theirs) = (issuer(source), issuer(target));
    let plain = |value: &Json, issuer: &str| match value.as_str() {
        Some(text) if !issuer.is_empty() => text.strip_prefix(issuer).unwrap_or(text).to_owned(),
        Some(text) => text.to_owned(),
        None => value.to_string(),
    };
    let mut found = Vec::new();
    for (key, value) in source.as_object().into_iter().flatten().filter(|(key, _)| *key != "issuer") {
        let there = &target[key.as_str()];
        match value.as_array() {
            Some(values) => {
                let theirs = there.as_array().map(Vec::as_slice).unwrap_or_default();
                let gone: Vec<String> =
                    values.iter().filter(|value| !theirs.contains(value)).map(|value| plain(value, "")).collect();
                if !gone.is_empty() {
                    found.push(format!("{key} of the target lacks {}", gone.join(", ")));
                }
            }
            // What is not told is not offered.
            None if *value == Json::Bool(false) || value.is_null() => {}
            None if plain(value, &ours) == plain(there, &theirs) => {}
            None => found.push(format!("{key} is {value} on the source and {there} on the target")),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_target_offers_besides_is_no_difference() {
        let source = json!({
            "issuer": "https://a.example/", "token_endpoint": "https://a.example/oauth2/token",
            "grant_types_supported": ["authorization_code", "refresh_token"], "request_parameter_supported": true,
            "backchannel_logout_supported": false,
        });
        let more = json!({
            "issuer": "https://b.example", "token_endpoint": "https://b.example/oauth2/token", "new": 1,
            "grant_types_supported": ["refresh_token", "authorization_code", "device_code"],
            "request_parameter_supported": true,
        });
        assert_eq!(lacking(&source, &more), Vec::<String>::new());
        let less = json!({
            "issuer": "https://b.example", "token_endpoint": "https://b.example/token",
            "grant_types_supported": ["refresh_token"],
        });
        assert_eq!(
            lacking(&source, &less),
            [
                "grant_types_supported of the target lacks authorization_code",
                "request_parameter_supported is true on the source and null on the target",
                "token_endpoint is \"https://a.example/oauth2/token\" on the source and \"https://b.example/token\" on the target",
            ]
        );
    }
}
