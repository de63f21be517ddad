//! Options and arguments of a juju command, in any order.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Options with a value; every other one is a switch.
const VALUES: &[&str] = &[
    "model",
    "format",
    "channel",
    "revision",
    "path",
    "num-units",
    "config",
    "wait",
    "reset",
    "unit",
    "limit",
    "include",
    "lines",
    "base",
    "constraints",
    "to",
    "params",
    "name",
    "actions",
    "apps",
    "units",
    "status",
    "application",
    "container",
    "output",
    "switch",
    "level",
    "file",
];

const SHORT: &[(&str, &str)] =
    &[("m", "model"), ("n", "num-units"), ("u", "unit"), ("o", "output"), ("i", "include"), ("c", "controller")];

const SWITCHES: &[&str] = &[
    "background",
    "trust",
    "force",
    "no-prompt",
    "destroy-storage",
    "no-retry",
    "all",
    "replay",
    "no-tail",
    "tail",
    "relations",
    "storage",
    "string-args",
    "utc",
    "color",
    "no-color",
    "force-units",
    "force-base",
    "no-wait",
    "integrations",
    "ms",
    "date",
];

pub(super) struct Arguments {
    options: BTreeMap<String, Vec<String>>,
    words: Vec<String>,
}

impl Arguments {
    pub fn parse(command: &str, words: &[String]) -> Result<Self> {
        let mut arguments = Arguments { options: BTreeMap::new(), words: Vec::new() };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                arguments.words.extend(rest.by_ref().cloned());
                break;
            }
            if !word.starts_with('-') || word == "-" {
                arguments.words.push(word.clone());
                continue;
            }
            let bare = word.trim_start_matches('-');
            let (name, value) = match bare.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (bare, None),
            };
            let long = match (command, name) {
                ("debug-log", "n") => "lines",
                _ => SHORT.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long),
            };
            let value = match value {
                Some(value) => value,
                None if VALUES.contains(&long) => {
                    rest.next().cloned().with_context(|| format!("option needs an argument: {word}"))?
                }
                None if SWITCHES.contains(&long) => "true".into(),
                None => bail!("option provided but not defined: {word}"),
            };
            arguments.options.entry(long.to_owned()).or_default().push(value);
        }
        Ok(arguments)
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.get(name).and_then(|values| values.last()).map(String::as_str)
    }

    pub fn values(&self, name: &str) -> Vec<&str> {
        self.options.get(name).into_iter().flatten().map(String::as_str).collect()
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    pub fn words(&self) -> &[String] {
        &self.words
    }

    pub fn positional(&self, place: usize, what: &str) -> Result<String> {
        self.words.get(place).cloned().with_context(|| format!("no {what} specified"))
    }

    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let parse =
            |value: &str| value.parse().map_err(|_| anyhow::anyhow!("invalid value {value:?} for option --{name}"));
        self.value(name).map(parse).transpose()
    }

    pub fn duration(&self, name: &str) -> Result<Option<Duration>> {
        self.value(name).map(duration).transpose()
    }

    /// `key=value` words from a place on.
    pub fn pairs(&self, from: usize) -> Result<Vec<(String, String)>> {
        let split = |word: &String| {
            let (key, value) = word.split_once('=').with_context(|| format!("expected \"key=value\", got {word:?}"))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        self.words.iter().skip(from).map(split).collect()
    }
}

/// `90s`, `5m`, `1h`, or plain seconds.
pub(super) fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let number: f64 = number.parse().with_context(|| format!("invalid duration {text:?}"))?;
    let seconds = match unit {
        "" | "s" => number,
        "ms" => number / 1000.0,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => bail!("invalid duration {text:?}"),
    };
    Duration::try_from_secs_f64(seconds).with_context(|| format!("invalid duration {text:?}"))
}

/// Borrowed pairs, as the model's functions take them.
pub(super) fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
