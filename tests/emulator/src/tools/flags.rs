//! Command lines of hook tools: flags and arguments in any order.

use std::collections::BTreeMap;

use super::Call;
use crate::context::{Answer, Refusal};

/// Flags with a value, by tool; `-r` and its like are spelled out.
const VALUES: &[(&str, &[&str])] = &[
    ("relation-", &["relation", "file"]),
    ("secret-", &["label", "description", "owner", "expire", "rotate", "file", "relation", "unit", "app", "revision"]),
    ("state-", &["file"]),
    ("juju-log", &["log-level"]),
    ("network-get", &["relation"]),
    ("open", &["endpoints"]),
    ("close-port", &["endpoints"]),
];

const BOOLEANS: &[(&str, &[&str])] = &[
    ("relation-", &["app"]),
    ("secret-get", &["peek", "refresh"]),
    ("state-get", &["strict"]),
    ("status-", &["application", "include-data"]),
    ("config-get", &["all"]),
    ("juju-log", &["debug"]),
    ("juju-reboot", &["now"]),
    ("network-get", &["bind-address", "ingress-address", "egress-subnets", "primary-address"]),
    ("opened-ports", &["endpoints"]),
];

const SHORT: &[(&str, &str)] = &[("r", "relation"), ("l", "log-level"), ("a", "all"), ("o", "output")];

pub(crate) struct Flags {
    values: BTreeMap<String, String>,
    pub arguments: Vec<String>,
}

impl Flags {
    pub fn parse(call: &Call<'_>) -> Answer<Self> {
        let knows = |table: &[(&str, &[&str])], name: &str| {
            table.iter().any(|(tool, names)| call.tool.starts_with(tool) && names.contains(&name))
        };
        let mut flags = Flags { values: BTreeMap::new(), arguments: Vec::new() };
        let mut rest = call.arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                flags.arguments.extend(rest.by_ref().cloned());
                break;
            }
            if argument == "-" || !argument.starts_with('-') {
                flags.arguments.push(argument.clone());
                continue;
            }
            let (name, value) = match argument.trim_start_matches('-').split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.trim_start_matches('-'), None),
            };
            let long = SHORT.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long);
            let boolean = knows(BOOLEANS, long);
            let takes_value = !boolean && (knows(VALUES, long) || ["format", "output"].contains(&long));
            if !boolean && !takes_value {
                return Err(Refusal::usage(format!("option provided but not defined: {argument}")));
            }
            let value = match value {
                Some(value) => value,
                None if boolean => "true".into(),
                None => rest
                    .next()
                    .cloned()
                    .ok_or_else(|| Refusal::usage(format!("option needs an argument: {argument}")))?,
            };
            flags.values.insert(long.to_owned(), value);
        }
        Ok(flags)
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    /// `--format`, or the tool's default.
    pub fn format(&self, tool: &str) -> Answer<&str> {
        let yaml_only = ["secret-get", "secret-info-get", "goal-state"].contains(&tool);
        let format = self.value("format").unwrap_or(if yaml_only { "yaml" } else { "smart" });
        match format {
            "json" | "yaml" => Ok(format),
            "smart" if !yaml_only => Ok(format),
            other => Err(Refusal::usage(format!(
                "invalid value \"{other}\" for option --format: unknown format \"{other}\""
            ))),
        }
    }

    /// The argument at a place.
    pub fn argument(&self, place: usize) -> Option<&str> {
        self.arguments.get(place).map(String::as_str)
    }

    /// `key=value` arguments on top of `--file`; both sides are trimmed, a key
    /// given twice is refused.
    pub fn pairs(&self, call: &Call<'_>, from: usize) -> Answer<BTreeMap<String, String>> {
        let mut pairs = match self.value("file") {
            None => BTreeMap::new(),
            Some(path) => {
                let text = match path {
                    "-" => call.stdin.unwrap_or_default().to_owned(),
                    path => {
                        std::fs::read_to_string(path).map_err(|error| Refusal::failed(format!("{path}: {error}")))?
                    }
                };
                crate::agent::socket::parse_pairs_file(&text).map_err(Refusal::failed)?
            }
        };
        let mut given = BTreeMap::new();
        for argument in self.arguments.iter().skip(from) {
            let (key, value) = argument
                .split_once('=')
                .ok_or_else(|| Refusal::usage(format!("expected \"key=value\", got \"{argument}\"")))?;
            if given.insert(key.trim().to_owned(), value.trim().to_owned()).is_some() {
                return Err(Refusal::usage(format!("key \"{}\" specified more than once", key.trim())));
            }
        }
        pairs.extend(given);
        Ok(pairs)
    }
}
