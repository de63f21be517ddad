//! Tables: a document, traits, what comes of them. What Kratos itself makes of the same is compared with real servers in
//! `tests/preflight/documents.rs`.

use super::formats::is_email;
use super::{Document, Kind, Purpose, Unjudged};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

fn document(traits: Json) -> Json {
    json!({
        "$id": "https://identity.example/person.schema.json",
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"short": {"type": "string", "maxLength": 3}},
        "type": "object",
        "properties": {"traits": traits},
    })
}

fn read(traits: Json) -> Document {
    Document::read(&document(traits)).unwrap()
}

/// `purpose by value`, in order.
fn uses(document: &Document, traits: Json) -> Vec<String> {
    let judged = document.judge(traits);
    judged.uses.iter().map(|(kind, value)| format!("{:?} {} {value}", kind.purpose, kind.by)).collect()
}

fn email(annotation: Json) -> Json {
    json!({"type": "string", "format": "email", "ory.sh/kratos": annotation})
}

#[test]
fn what_a_document_takes_from_traits() {
    let login = json!({"credentials": {"password": {"identifier": true}, "webauthn": {"identifier": false}}});
    let full = json!({
        "credentials": {"password": {"identifier": true}, "code": {"identifier": true, "via": "email"},
                        "totp": {"account_name": true}},
        "verification": {"via": "email"},
        "recovery": {"via": "email"},
    });
    let table: Vec<(Json, Json, &[&str])> = vec![
        (
            json!({"properties": {"email": email(login.clone())}}),
            json!({"email": "A@b.example"}),
            &["Identifier password a@b.example"],
        ),
        (
            json!({"properties": {"email": email(full)}}),
            json!({"email": " A@b.example"}),
            &[
                "Identifier code a@b.example",
                "Identifier password a@b.example",
                "Recovery email a@b.example",
                "Verification email a@b.example",
            ],
        ),
        // Nothing there, nothing taken; what is no text is not taken either.
        (json!({"properties": {"email": email(login.clone())}}), json!({}), &[]),
        (json!({"properties": {"number": {"ory.sh/kratos": login.clone()}}}), json!({"number": 7}), &[]),
        // Every element, and every branch that is met.
        (
            json!({"properties": {"emails": {"items": email(login.clone())}}}),
            json!({"emails": ["a@b.example", "c@d.example", "a@b.example"]}),
            &["Identifier password a@b.example", "Identifier password c@d.example"],
        ),
        (
            json!({"allOf": [{"properties": {"name": {"ory.sh/kratos": login.clone()}}}]}),
            json!({"name": "Zoë"}),
            &["Identifier password zoë"],
        ),
        (
            json!({"properties": {"name": {"anyOf": [{"minLength": 50}, {"ory.sh/kratos": login.clone()}]}}}),
            json!({"name": "Ann"}),
            &["Identifier password ann"],
        ),
        (
            json!({"properties": {"name": {"$ref": "#/properties/traits/definitions/n"}}, "definitions": {"n": {"ory.sh/kratos": login}}}),
            json!({"name": "Ann"}),
            &["Identifier password ann"],
        ),
    ];
    for (traits, given, wanted) in table {
        assert_eq!(uses(&read(traits.clone()), given), wanted, "{traits}");
    }
}

#[test]
fn where_a_document_refuses_traits() {
    let table = [
        (json!({"required": ["email", "name"]}), json!({"email": "a@b.example"}), "/properties/traits/required"),
        (json!({"additionalProperties": false}), json!({"x": 1}), "/properties/traits/additionalProperties"),
        (json!({"properties": {"a": {"type": "integer"}}}), json!({"a": "x"}), "/properties/traits/properties/a/type"),
        (
            json!({"properties": {"a/b": {"minLength": 2}}}),
            json!({"a/b": "x"}),
            "/properties/traits/properties/a~1b/minLength",
        ),
        (
            json!({"properties": {"a": {"format": "date"}}}),
            json!({"a": "2026-02-30"}),
            "/properties/traits/properties/a/format",
        ),
        (
            json!({"properties": {"a": {"pattern": "^[a-z]+$"}}}),
            json!({"a": "A"}),
            "/properties/traits/properties/a/pattern",
        ),
        (
            json!({"properties": {"a": {"$ref": "#/definitions/short"}}}),
            json!({"a": "long"}),
            "/definitions/short/maxLength",
        ),
        // An address to recover by has to be one, whether the document says so or not.
        (
            json!({"properties": {"a": {"ory.sh/kratos": {"recovery": {"via": "email"}}}}}),
            json!({"a": "nobody"}),
            "/properties/traits/properties/a/ory.sh~1kratos",
        ),
    ];
    for (traits, given, wanted) in table {
        let judged = read(traits.clone()).judge(given);
        assert_eq!(judged.refused, BTreeSet::from([wanted.to_owned()]), "{traits}");
        assert!(judged.uses.is_empty(), "{traits}");
    }
    // What this draft does not know, and formats that Kratos does not, are no reason.
    for traits in [json!({"unevaluatedProperties": false}), json!({"properties": {"a": {"format": "idn-email"}}})] {
        assert_eq!(read(traits.clone()).judge(json!({"a": "b"})).refused, BTreeSet::new(), "{traits}");
    }
}

#[test]
fn nothing_is_carried_from_one_identity_to_the_next() {
    let document = read(json!({"properties": {"email": email(json!({"recovery": {"via": "email"}}))}}));
    assert_eq!(uses(&document, json!({"email": "a@b.example"})).len(), 1);
    assert_eq!(uses(&document, json!({})).len(), 0);
    assert_eq!(document.judge(json!({"email": "nobody"})).refused.len(), 2);
    assert!(document.judge(json!({"email": "c@d.example"})).refused.is_empty());
}

#[test]
fn what_is_named_at_all_is_known_without_traits() {
    let annotation = json!({"credentials": {"webauthn": {"identifier": true}}, "verification": {"via": "sms"}});
    let document = read(json!({"properties": {"phone": {"format": "tel", "ory.sh/kratos": annotation}}}));
    let wanted = [Kind::new(Purpose::Identifier, "webauthn"), Kind::new(Purpose::Verification, "sms")];
    assert_eq!(document.names(), &BTreeSet::from(wanted));
}

#[test]
fn what_lies_outside_is_named_and_not_fetched() {
    let traits = json!({
        "properties": {"a": {"$ref": "https://schemas.ory.sh/presets/kratos/identity.email.schema.json#/x"},
                       "b": {"$ref": "https://identity.example/person.schema.json#/definitions/short"},
                       "c": {"$ref": "person.schema.json#/definitions/short"}},
        "required": ["b"],
    });
    let document = read(traits);
    let outside = "https://schemas.ory.sh".to_owned();
    assert_eq!(document.outside(), &BTreeSet::from([outside]));
    // The rest is judged.
    assert!(document.judge(json!({"a": {"anything": []}, "b": "abc"})).refused.is_empty());
    assert_eq!(
        document.judge(json!({"b": "long", "c": "long"})).refused,
        BTreeSet::from(["/definitions/short/maxLength".to_owned()])
    );
}

#[test]
fn a_document_that_is_none_is_said_by_its_place() {
    let error = |traits| match Document::read(&document(traits)).err() {
        Some(Unjudged::At(place)) => place,
        other => panic!("{other:?}"),
    };
    assert_eq!(error(json!({"type": "thing"})), "/properties/traits/type");
    // Go has no look-around, so Kratos does not load this.
    assert!(error(json!({"properties": {"a": {"pattern": "(?=x)"}}})).ends_with("a/pattern"));
}

/// Each definition refers twice to the next.
fn doubling(definitions: u32, prefix: &str) -> Json {
    let mut document = document(json!({"$ref": "#/definitions/d0"}));
    for n in 0..definitions {
        let next = json!({"$ref": format!("{prefix}#/definitions/d{}", n + 1)});
        document["definitions"][format!("d{n}")] = json!({"allOf": [next, next]});
    }
    document["definitions"][format!("d{definitions}")] = json!({"type": "object"});
    document
}

#[test]
fn a_document_that_could_take_for_ever_is_not_judged() {
    let refused = |document: &Json| Document::read(document).err();
    for prefix in ["", "person.schema.json", "https://identity.example/person.schema.json"] {
        assert_eq!(refused(&doubling(40, prefix)), Some(Unjudged::TooEntangled), "{prefix}");
        assert_eq!(refused(&doubling(8, prefix)), None, "{prefix}");
    }
    // The same, spelt otherwise.
    let spelt = doubling(40, "").to_string().replace("#/definitions/d", "#/%64efinitions/%64");
    assert_eq!(refused(&serde_json::from_str(&spelt).unwrap()), Some(Unjudged::TooEntangled));
    let chain = |of: u32| {
        let mut document = document(json!({"$ref": "#/definitions/d0"}));
        for n in 0..of {
            document["definitions"][format!("d{n}")] =
                json!({"allOf": [{"$ref": format!("#/definitions/d{}", n + 1)}]});
        }
        document["definitions"][format!("d{of}")] = json!({});
        document
    };
    assert_eq!(refused(&chain(3000)), Some(Unjudged::TooEntangled));
    assert_eq!(refused(&chain(100)), None);
    let large = document(json!({"description": "x".repeat(256 << 10)}));
    assert_eq!(refused(&large), Some(Unjudged::TooLarge));
    // What comes round once per level of the traits is judged.
    let tree =
        json!({"properties": {"children": {"items": {"$ref": "#/properties/traits"}}, "n": {"type": "integer"}}});
    let judged = read(tree).judge(json!({"children": [{"n": 1}, {"children": [{"n": "x"}]}]}));
    assert_eq!(judged.refused, BTreeSet::from(["/properties/traits/properties/n/type".to_owned()]));
}

#[test]
fn of_an_address_outside_only_scheme_and_host_are_said() {
    let long = format!("https://{}.example/x", "a".repeat(200));
    for (to, said) in [
        ("https://schemas.ory.sh/presets/x.json?token=secret#/y", "https://schemas.ory.sh"),
        ("HTTPS://someone:secret@schemas.example:8443/x", "https://schemas.example"),
        ("https://someone:secret/word@schemas.example/x", "https:"),
        ("https://someone/secret@schemas.example/x", "https:"),
        ("http:secret", "http:"),
        ("base64://c2VjcmV0", "base64:"),
        ("data:application/json,secret", "data:"),
        ("file:///secret/person.json", "file:"),
        ("secret/other.json", "a relative address"),
        ("//someone:secret@schemas.example/x", "a relative address"),
        (long.as_str(), &long[..80]),
    ] {
        let document = read(json!({"properties": {"a": {"$ref": to}}}));
        assert_eq!(document.outside(), &BTreeSet::from([said.to_owned()]), "{to}");
    }
}

#[test]
fn addresses_as_kratos_takes_them() {
    let long = format!("{}@b.example", "a".repeat(65));
    for (text, taken) in [
        ("a@b.example", true),
        ("A.b+c@b.example", true),
        ("ü@b.example", true),
        ("\"a b\"@b.example", true),
        ("a@localhost", true),
        ("a@b.example.", true),
        ("", false),
        ("a", false),
        ("@b.example", false),
        ("a..b@b.example", false),
        (".a@b.example", false),
        ("a b@b.example", false),
        ("a@b_c.example", false),
        ("a@-b.example", false),
        ("a@b..example", false),
        ("a@b.example ", false),
        ("a@bücher.example", false),
        (long.as_str(), false),
    ] {
        assert_eq!(is_email(text), taken, "{text:?}");
    }
}
