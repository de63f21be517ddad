//! The emulator against a real Juju 4.0.14: a charm repeats the calls of a
//! recorded scenario, and every event's environment and every answer of a
//! hook tool is compared with the recording.

mod compare;
mod scenario;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use compare::{Names, Recording, compare};
use scenario::{DEADLINE, Replay};

#[test]
fn answers_as_recorded() -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/juju-4.0.14");
    let recording: Recording = serde_json::from_str(&std::fs::read_to_string(source.join("hooks.json"))?)?;
    let folder = std::env::temp_dir().join(format!("replay-{}", std::process::id()));
    let mut replay = Replay::start(&recording, &source, &folder)?;
    let ours = replay.model.agents_folder().display().to_string();
    let uuid = replay.model.uuid();
    replay.play()?;

    let known: BTreeMap<String, String> =
        serde_json::from_str(&std::fs::read_to_string(replay.output.join("secrets.json"))?)?;
    let mut names: Vec<(String, String)> = known.into_iter().map(|(recorded, ours)| (ours, recorded)).collect();
    names.push((ours, "/var/lib/juju".into()));
    names.push((uuid, recording.environment["pg/0"]["JUJU_MODEL_UUID"].clone()));
    let differences = compare(&recording, &replay.output, &Names(names))?;
    check_actions(&replay, &source)?;
    std::fs::remove_dir_all(folder)?;
    ensure!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
    Ok(())
}
/// Results, statuses and messages of the actions, as `juju run` told them.
fn check_actions(replay: &Replay, source: &Path) -> Result<()> {
    let recorded: BTreeMap<String, String> =
        serde_json::from_str(&std::fs::read_to_string(source.join("cli-actions.json"))?)?;
    for (place, name) in [(0, "act1.json"), (1, "act2.json"), (2, "act3.json"), (3, "act4.json"), (7, "act8.json")] {
        let recorded: Value = serde_json::from_str(&recorded[name])?;
        let recorded = &recorded["coordinator/0"];
        let task = replay.model.wait_task(replay.tasks[place], DEADLINE)?;
        let mut results = Value::Object(task.results.clone());
        if name == "act4.json" {
            // The recording program lost its buffered output when it was
            // killed; ours does not buffer.
            results.as_object_mut().context("results")?.remove("stdout");
        }
        ensure!(recorded["results"] == results, "{name}: recorded {}, emulator {results}", recorded["results"]);
        ensure!(recorded["status"] == json!(task.status), "{name}: {}", task.status);
        ensure!(recorded["id"] == json!(task.id.to_string()), "{name}: {}", task.id);
        let message = recorded["message"].as_str().unwrap_or_default();
        ensure!(message == task.message, "{name}: recorded {message:?}, emulator {:?}", task.message);
    }
    for (place, name) in [(4, "act5.txt"), (5, "act6.txt")] {
        let task = replay.model.wait_task(replay.tasks[place], DEADLINE)?;
        ensure!(recorded[name].contains(&task.message), "{name}: {}", task.message);
        ensure!(task.status == "error", "{name}: {}", task.status);
    }
    Ok(())
}
