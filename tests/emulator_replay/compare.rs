//! The comparison, with everything that may differ in one place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

/// What may differ from the recording, applied to both sides.
///
/// | In | Why | How it is compared |
/// |---|---|---|
/// | folders | the emulator does not own /var/lib/juju | its own prefix is replaced by the recorded one |
/// | JUJU_MODEL_UUID, secret ids | random | replaced by the recorded ones |
/// | JUJU_CONTEXT_ID | its end is random | compared without the last 32 digits |
/// | JUJU_API_ADDRESSES | the emulator's are its own | only that it is there |
/// | unit-get, network-get, ingress-address, egress-subnets | the emulator lives on loopback | key names and types only |
/// | `since` of goal-state | the clock | only that it is there |
fn normalise(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match key.as_str() {
                    "since" | "ingress-address" | "egress-subnets" if value.is_string() => {
                        *value = json!("(normalised)");
                    }
                    _ => normalise(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(normalise),
        _ => {}
    }
}

/// Answers that are known to differ: event number, tool, why.
const KNOWN: &[(usize, &str, &str)] = &[
    (20, "goal-state", "the next relation was being added: the real controller showed it before the agents did"),
    (21, "goal-state", "as event 20"),
    (68, "goal-state", "a real controller removes an empty relation seconds later; the emulator at once"),
];

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recording {
    pub environment: BTreeMap<String, BTreeMap<String, String>>,
    answers: Vec<Answer>,
    pub events: Vec<RecordedEvent>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "kebab-case")]
pub struct RecordedEvent {
    pub unit: String,
    pub event: String,
    cwd: String,
    argv: Vec<String>,
    stdin: String,
    own_group: bool,
    pub environment: BTreeMap<String, String>,
    calls: Vec<usize>,
}

#[derive(Deserialize, Clone)]
pub struct Answer {
    argv: Vec<String>,
    code: i32,
    stdout: String,
    stderr: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PlayedEvent {
    cwd: String,
    argv: Vec<String>,
    stdin: String,
    own_group: bool,
    environment: BTreeMap<String, String>,
    calls: Vec<Answer>,
}
/// Puts the recorded names in place of ours.
pub struct Names(pub Vec<(String, String)>);

impl Names {
    fn recorded(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (ours, recorded)| text.replace(ours, recorded))
    }
}

fn compare_environment(
    number: usize,
    recorded: &BTreeMap<String, String>,
    played: &PlayedEvent,
    names: &Names,
    into: &mut Vec<String>,
) {
    let keys: BTreeSet<&String> = recorded.keys().chain(played.environment.keys()).collect();
    for key in keys {
        let tidy = |value: Option<&String>| match (key.as_str(), value) {
            ("JUJU_API_ADDRESSES", Some(_)) => Some("(normalised)".to_owned()),
            ("JUJU_CONTEXT_ID", Some(value)) => value.rsplit_once('-').map(|(start, _)| start.to_owned()),
            (_, value) => value.map(|value| names.recorded(value)),
        };
        let (was, is) = (tidy(recorded.get(key)), tidy(played.environment.get(key)));
        if was != is {
            into.push(format!("event {number}: {key}: recorded {was:?}, emulator {is:?}"));
        }
    }
}

/// JSON values where both are JSON, text otherwise.
fn same_stdout(tool: &str, recorded: &str, played: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    match (parse(recorded), parse(played)) {
        (Some(mut recorded), Some(mut played)) => {
            normalise(&mut recorded);
            normalise(&mut played);
            if tool == "network-get" {
                let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
                return keys(&recorded) == keys(&played);
            }
            recorded == played
        }
        _ if tool == "unit-get" => recorded.is_empty() == played.is_empty(),
        _ => recorded == played,
    }
}
/// Every difference that is not explained.
pub fn compare(recording: &Recording, output: &Path, names: &Names) -> Result<Vec<String>> {
    let mut played: BTreeMap<String, Vec<PlayedEvent>> = BTreeMap::new();
    for unit in recording.environment.keys() {
        let text = std::fs::read_to_string(output.join(format!("{}.jsonl", unit.replace('/', "-"))))?;
        let events: Result<Vec<PlayedEvent>, _> = text.lines().map(serde_json::from_str).collect();
        let mut events = events?;
        events.reverse();
        played.insert(unit.clone(), events);
    }
    let mut differences = Vec::new();
    let mut calls = 0;
    let mut unused: BTreeSet<(usize, &str)> = KNOWN.iter().map(|(event, tool, _)| (*event, *tool)).collect();
    for (number, event) in recording.events.iter().enumerate() {
        let was_played = played.get_mut(&event.unit).and_then(Vec::pop).context("an event was not played")?;
        let mut environment = recording.environment[&event.unit].clone();
        environment.extend(event.environment.clone());
        compare_environment(number, &environment, &was_played, names, &mut differences);
        let process = (event.cwd.clone(), event.argv.clone(), event.stdin.clone(), event.own_group);
        let argv: Vec<String> = was_played.argv.iter().map(|word| names.recorded(word)).collect();
        let ours = (names.recorded(&was_played.cwd), argv, was_played.stdin, was_played.own_group);
        if process != ours {
            differences.push(format!("event {number}: recorded {process:?}, emulator {ours:?}"));
        }
        for (place, got) in event.calls.iter().zip(&was_played.calls) {
            calls += 1;
            let recorded = &recording.answers[*place];
            let tool = recorded.argv[0].as_str();
            let same = recorded.code == got.code
                && recorded.stderr == names.recorded(&got.stderr)
                && same_stdout(tool, &recorded.stdout, &names.recorded(&got.stdout));
            if !same && !unused.remove(&(number, tool)) {
                differences.push(format!(
                    "event {number} {} {}: {}\n  recorded {} {:?} {:?}\n  emulator {} {:?} {:?}",
                    event.unit,
                    event.event,
                    recorded.argv.join(" "),
                    recorded.code,
                    recorded.stdout,
                    recorded.stderr,
                    got.code,
                    names.recorded(&got.stdout),
                    names.recorded(&got.stderr)
                ));
            }
        }
    }
    differences.extend(unused.iter().map(|(event, tool)| format!("event {event}: {tool} no longer differs")));
    println!("{} events, {calls} calls compared", recording.events.len());
    Ok(differences)
}
