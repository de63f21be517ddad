//! The charm's own files, by the rules that Juju 3.6 and 4.0 apply when they read a charm,
//! and the names that operators rely on.

use coordinator::charm::config::Config;
use coordinator::charm::local_charm::TARGET_CHARM;
use coordinator::charm::parameters::{ACTIONS, Form, Parameter};
use serde_yaml::{Mapping, Value};

const METADATA: &str = include_str!("../metadata.yaml");
const ACTIONS_FILE: &str = include_str!("../actions.yaml");
const CONFIG: &str = include_str!("../config.yaml");
const CHARMCRAFT: &str = include_str!("../charmcraft.yaml");
const LICENSE: &str = include_str!("../LICENSE");

fn map(text: &str) -> Mapping {
    serde_yaml::from_str(text).unwrap()
}

fn sub<'a>(map: &'a Mapping, key: &str) -> &'a Mapping {
    map.get(key).and_then(Value::as_mapping).unwrap_or_else(|| panic!("{key} is no map"))
}

fn text<'a>(map: &'a Mapping, key: &str) -> &'a str {
    let text = map.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("{key} is no text"));
    assert!(!text.trim().is_empty(), "{key} is empty");
    text
}

fn entries(map: &Mapping) -> impl Iterator<Item = (&str, &Mapping)> {
    map.iter().map(|(name, value)| {
        let name = name.as_str().expect("names are texts");
        (name, value.as_mapping().unwrap_or_else(|| panic!("{name} is no map")))
    })
}

/// Lower-case words joined by single hyphens: what every kind of name here allows.
fn is_name(name: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.split('-').all(word) && name.starts_with(|c: char| c.is_ascii_lowercase())
}

fn is_of_juju(name: &str) -> bool {
    name == "juju" || name.starts_with("juju-")
}

#[test]
fn metadata_is_what_juju_takes() {
    let metadata = map(METADATA);
    assert!(is_name(text(&metadata, "name")));
    text(&metadata, "summary");
    text(&metadata, "description");
    for forbidden in ["containers", "series", "deployment", "min-juju-version", "storage", "subordinate"] {
        assert!(!metadata.contains_key(forbidden), "{forbidden} has no place in this charm");
    }
    assert_eq!(metadata["assumes"], serde_yaml::from_str::<Value>("[juju >= 3.6]").unwrap());
    let mut seen = Vec::new();
    for role in ["requires", "provides", "peers"] {
        for (endpoint, relation) in entries(sub(&metadata, role)) {
            assert!(is_name(endpoint) && !is_of_juju(endpoint), "{endpoint}");
            assert!(!seen.contains(&endpoint.to_owned()), "{endpoint} is there twice");
            seen.push(endpoint.to_owned());
            assert!(!is_of_juju(text(relation, "interface")), "{endpoint}");
            for (key, value) in relation {
                match key.as_str().unwrap() {
                    "interface" | "description" => assert!(value.is_string(), "{endpoint}"),
                    "limit" => assert_eq!(value.as_u64(), Some(1), "{endpoint}"),
                    "optional" => assert!(value.is_bool(), "{endpoint}"),
                    other => panic!("{endpoint} has an unknown key {other}"),
                }
            }
        }
    }
}

#[test]
fn the_targets_charm_is_given_as_a_file() {
    let metadata = map(METADATA);
    let resources = sub(&metadata, "resources");
    assert_eq!(resources.keys().collect::<Vec<_>>(), [TARGET_CHARM]);
    let file = sub(resources, TARGET_CHARM);
    assert_eq!((text(file, "type"), text(file, "filename")), ("file", "target.charm"));
    text(file, "description");
}

#[test]
fn endpoints_are_the_promised_ones() {
    let metadata = map(METADATA);
    let promised = [
        ("requires", "source-database", "postgresql_client", true),
        ("requires", "target-database", "postgresql_client", true),
        ("requires", "source-kratos", "kratos_info", true),
        ("requires", "target-kratos", "kratos_info", true),
        ("requires", "source-hydra", "hydra_endpoints", true),
        ("requires", "target-hydra", "hydra_endpoints", true),
        ("provides", "kratos-info", "kratos_info", false),
        ("provides", "hydra-endpoint-info", "hydra_endpoints", false),
    ];
    for (role, endpoint, interface, limited) in promised {
        let relation = sub(sub(&metadata, role), endpoint);
        assert_eq!(text(relation, "interface"), interface, "{endpoint}");
        assert_eq!(relation.contains_key("limit"), limited, "{endpoint}");
    }
    assert_eq!(sub(&metadata, "requires").len(), 6);
    assert_eq!(sub(&metadata, "provides").len(), 2);
    assert_eq!(sub(&metadata, "peers").keys().collect::<Vec<_>>(), ["migration-peers"]);
}

#[test]
fn actions_are_what_juju_takes() {
    for (name, action) in entries(&map(ACTIONS_FILE)) {
        assert!(is_name(name) && !is_of_juju(name), "{name}");
        text(action, "description");
        // Juju 3.6 takes unknown parameters unless this is said, 4.0 does not.
        assert_eq!(action["additionalProperties"], Value::Bool(false), "{name}");
        for key in action.keys() {
            let known = ["description", "params", "additionalProperties"];
            assert!(known.contains(&key.as_str().unwrap()), "{name} has a key {key:?}");
        }
        let Some(params) = action.get("params") else { continue };
        for (param, schema) in entries(params.as_mapping().unwrap()) {
            assert!(is_name(param), "{name} {param}");
            text(schema, "description");
            parameter(&format!("{name} {param}"), schema);
        }
    }
}

/// A scalar with bounds or choices that its own default keeps. Juju checks before it fills in
/// defaults, so nothing may be required and have a default: here nothing is required.
fn parameter(place: &str, schema: &Mapping) {
    let kind = text(schema, "type");
    for (key, value) in schema {
        match (key.as_str().unwrap(), kind) {
            ("type" | "description", _) => {}
            ("minimum" | "maximum", "integer") => assert!(value.is_i64(), "{place}"),
            ("enum", "string") => assert!(value.as_sequence().unwrap().iter().all(Value::is_string), "{place}"),
            ("pattern", "string") => assert!(value.is_string(), "{place}"),
            ("default", "integer") => {
                let bound = |key| schema.get(key).and_then(Value::as_i64).expect("a default has bounds");
                assert!((bound("minimum")..=bound("maximum")).contains(&value.as_i64().unwrap()), "{place}");
            }
            ("default", "boolean") => assert!(value.is_bool(), "{place}"),
            ("default", "string") => {
                assert!(schema["enum"].as_sequence().unwrap().contains(value), "{place}");
            }
            (other, _) => panic!("{place} has a key {other} that {kind} does not have"),
        }
    }
}

#[test]
fn actions_are_the_promised_ones() {
    const NO_WAY_BACK: (&str, &str) = ("accept-no-way-back", "false");
    const KEEP_RELEASE: (&str, &str) = ("keep-release", "false");
    const LOCAL: (&str, &str) = ("local", "false");
    const IMAGE: (&str, &str) = ("image", "");
    const ABANDON: (&str, &str) = ("abandon-queued-messages", "false");
    let promised: [(&str, &[(&str, &str)]); 16] = [
        ("preflight", &[("strategy", "blue-green")]),
        ("replicate", &[("wait", "0"), ("engine", "auto"), ("jobs", "0")]),
        ("verify", &[("wait", "600")]),
        ("drain", &[("wait", "600"), ("outage-limit", "0"), ("verification", ""), NO_WAY_BACK]),
        ("refresh", &[("channel", ""), ("revision", ""), LOCAL, IMAGE, KEEP_RELEASE, ("wait", "1800")]),
        ("run-migration", &[("timeout", "0"), ("wait", "0")]),
        ("flip-traffic", &[("wait", "300"), NO_WAY_BACK, ABANDON]),
        ("cut-over", &[("wait", "900"), ("outage-limit", "0"), ("verification", ""), NO_WAY_BACK, ABANDON]),
        (
            "migrate",
            &[
                ("channel", ""),
                ("revision", ""),
                LOCAL,
                IMAGE,
                KEEP_RELEASE,
                ("until", "flipped"),
                ("wait", "0"),
                NO_WAY_BACK,
                ABANDON,
            ],
        ),
        ("rehearse", &[("channel", ""), ("revision", ""), LOCAL, IMAGE, ("again", "false"), ("wait", "0")]),
        ("rollback", &[("wait", "600")]),
        ("finalize", &[("keep-source-fenced", "true"), ("accept-unverified", "false")]),
        ("adopt", &[("undo", "false")]),
        (
            "upgrade-in-place",
            &[
                ("channel", ""),
                ("revision", ""),
                LOCAL,
                IMAGE,
                ("timeout", "0"),
                ("accept-outage", "false"),
                ("accept-no-backup", "false"),
                ("wait", "0"),
            ],
        ),
        ("back-up", &[("side", "source"), ("type", "full"), ("taken", "false"), ("wait", "600")]),
        ("show", &[("format", "text")]),
    ];
    let actions = map(ACTIONS_FILE);
    assert_eq!(actions.len(), promised.len());
    for (name, parameters) in promised {
        let declared = sub(sub(&actions, name), "params");
        assert_eq!(declared.len(), parameters.len(), "{name}");
        for (parameter, default) in parameters {
            let found = sub(declared, parameter).get("default").cloned().unwrap_or_default();
            let found = if found.is_null() { String::new() } else { serde_yaml::to_string(&found).unwrap() };
            assert_eq!(found.trim().trim_matches('\''), *default, "{name} {parameter}");
        }
    }
    // What Juju is told to check is what the code checks itself.
    for (name, parameters) in ACTIONS {
        let declared = sub(sub(&actions, name), "params");
        assert_eq!(declared.len(), parameters.len(), "{name}");
        for Parameter { name: parameter, form } in parameters {
            let schema = sub(declared, parameter);
            let value = |key: &str| schema.get(key).map(|value| serde_json::to_value(value).unwrap());
            let place = format!("{name} {parameter}");
            assert_eq!(value("default"), form.default(), "{place}");
            match form {
                Form::Number { least, most, zero, .. } => {
                    let least = if zero.is_some() { 0 } else { *least };
                    assert_eq!(
                        (value("minimum"), value("maximum")),
                        (Some(least.into()), Some((*most).into())),
                        "{place}"
                    );
                    assert_eq!(value("type"), Some("integer".into()), "{place}");
                }
                Form::Choice { words, .. } => {
                    assert_eq!(value("enum"), Some(serde_json::json!(words)), "{place}");
                    assert_eq!(value("type"), Some("string".into()), "{place}");
                }
                Form::Flag { .. } => assert_eq!(value("type"), Some("boolean".into()), "{place}"),
                Form::Channel | Form::Image => {
                    assert_eq!(value("type"), Some("string".into()), "{place}");
                    assert!(value("pattern").is_some(), "{place}");
                }
            }
        }
    }
    let choices = |action: &str, parameter: &str| -> Vec<String> {
        serde_yaml::from_value(sub(sub(sub(&actions, action), "params"), parameter)["enum"].clone()).unwrap()
    };
    assert_eq!(choices("drain", "verification"), ["twin", "strict", "counts"]);
    assert_eq!(choices("cut-over", "verification"), ["twin", "strict", "counts"]);
    assert_eq!(choices("migrate", "until"), ["following", "migrated", "drained", "flipped"]);
    assert_eq!(choices("show", "format"), ["text", "json"]);
}

#[test]
fn options_are_what_juju_takes_and_what_the_code_reads() {
    let promised = [
        "source-application",
        "target-application",
        "source-database-name",
        "target-database-name",
        "controller-credentials",
        "controller-ca",
        "outage-limit",
        "max-lag-bytes",
        "max-kept-wal-bytes",
        "order",
        "copy-jobs",
        "lock-timeout-ms",
        "verification",
        "backup-gates",
        "move-routes",
        "log-level",
    ];
    let config = map(CONFIG);
    let options = sub(&config, "options");
    assert_eq!(options.keys().map(|key| key.as_str().unwrap()).collect::<Vec<_>>(), promised);
    let mut defaults = serde_json::Map::new();
    for (name, option) in entries(options) {
        text(option, "description");
        let default = option.get("default").cloned().unwrap_or_default();
        match text(option, "type") {
            "string" => assert!(default.is_string() || default.is_null(), "{name}"),
            "secret" => assert!(default.is_null(), "{name}"),
            "int" => assert!(default.is_i64(), "{name}"),
            "boolean" => assert!(default.is_bool(), "{name}"),
            other => panic!("{name} has the type {other}"),
        }
        defaults.insert(name.to_owned(), serde_json::to_value(default).unwrap());
    }
    // The defaults written in the file are the ones that the code has for itself.
    assert_eq!(Config::from_options(&defaults), Config::from_options(&serde_json::Map::new()));
    // An option that the code does not read would be taken with any value.
    for name in promised {
        let bad = serde_json::Map::from_iter([(name.to_owned(), serde_json::json!([]))]);
        assert_eq!(Config::from_options(&bad).bad.iter().map(|bad| bad.option).collect::<Vec<_>>(), [name]);
    }
}

#[test]
fn charmcraft_packs_dispatch_alone_for_both_bases() {
    let charmcraft = map(CHARMCRAFT);
    assert_eq!(text(&charmcraft, "type"), "charm");
    let platforms: Vec<&str> = sub(&charmcraft, "platforms").keys().map(|key| key.as_str().unwrap()).collect();
    assert_eq!(platforms, ["ubuntu@22.04:amd64", "ubuntu@24.04:amd64"]);
    let parts = sub(&charmcraft, "parts");
    assert_eq!(parts.len(), 1);
    let (_, part) = entries(parts).next().unwrap();
    assert_eq!(part["prime"], serde_yaml::from_str::<Value>("[dispatch]").unwrap());
}

#[test]
fn the_licence_is_apache_2() {
    assert!(LICENSE.contains("Apache License") && LICENSE.contains("Version 2.0, January 2004"));
    assert!(LICENSE.contains("END OF TERMS AND CONDITIONS"));
}
