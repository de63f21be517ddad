//! A charm that repeats a recorded charm's hook tool calls, event by event,
//! and writes down what it got.
//!
//! Its folder holds `replay.json`, which names the recording and the folder
//! to write into. Secret ids differ from the recorded ones: a file there maps
//! them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Settings {
    recording: PathBuf,
    output: PathBuf,
}

#[derive(Deserialize)]
struct Recording {
    answers: Vec<Answer>,
    events: Vec<RecordedEvent>,
}

#[derive(Deserialize)]
struct RecordedEvent {
    unit: String,
    calls: Vec<usize>,
}

#[derive(Serialize, Deserialize, Clone)]
struct Answer {
    argv: Vec<String>,
    #[serde(default)]
    stdin: Option<String>,
    code: i32,
    stdout: String,
    stderr: String,
}

fn main() -> Result<()> {
    let settings: Settings = serde_json::from_str(&fs::read_to_string("replay.json").context("no replay.json")?)?;
    let recording: Recording = serde_json::from_str(&fs::read_to_string(&settings.recording)?)?;
    let unit = std::env::var("JUJU_UNIT_NAME")?;
    let played_file = settings.output.join(format!("{}.jsonl", unit.replace('/', "-")));
    let turn = fs::read_to_string(&played_file).unwrap_or_default().lines().count();
    let event = recording.events.iter().filter(|event| event.unit == unit).nth(turn).context("nothing recorded")?;

    let mut played = Vec::new();
    let mut end = "ok".to_owned();
    for call in &event.calls {
        let recorded = &recording.answers[*call];
        let got = play(recorded, &settings.output)?;
        if recorded.argv[0] == "secret-add" && recorded.code == 0 {
            learn(&settings.output, recorded.stdout.trim(), got.stdout.trim())?;
        }
        if recorded.argv[0] == "action-get" && recorded.argv.len() == 2 && got.code == 0 {
            let parameters: Value = serde_json::from_str(&got.stdout)?;
            end = parameters.get("end").and_then(Value::as_str).unwrap_or("ok").to_owned();
        }
        if recorded.argv[0] == "action-log" && recorded.argv.len() == 2 {
            println!("to stdout");
            eprintln!("to stderr");
        }
        played.push(got);
    }
    let line = json!({
        "environment": std::env::vars().collect::<BTreeMap<_, _>>(),
        "argv": std::env::args().collect::<Vec<_>>(),
        "cwd": std::env::current_dir()?,
        "stdin": fs::read_link("/proc/self/fd/0")?,
        "own-group": rustix::process::getpgrp() == rustix::process::getpid(),
        "calls": played,
    });
    let mut file = fs::File::options().create(true).append(true).open(played_file)?;
    writeln!(file, "{line}")?;
    finish(&end, &settings.output)
}

/// Ends as the recorded charm ended.
fn finish(end: &str, output: &Path) -> Result<()> {
    if std::env::var("JUJU_ACTION_NAME").is_ok_and(|name| name == "long") {
        while !output.join("long-may-end").exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    if end == "exit3" {
        Command::new("action-fail").arg("this text is lost").status()?;
        std::process::exit(3);
    }
    if end == "kill" {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    }
    Ok(())
}

fn play(recorded: &Answer, output: &Path) -> Result<Answer> {
    let known = known_secrets(output);
    let words: Vec<String> = recorded
        .argv
        .iter()
        .map(|word| {
            let word = word.replace("/tmp/pw", &output.join("password").display().to_string());
            known.iter().fold(word, |word, (recorded, ours)| word.replace(recorded, ours))
        })
        .collect();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if recorded.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().with_context(|| format!("cannot start {}", words[0]))?;
    if let (Some(text), Some(mut pipe)) = (&recorded.stdin, child.stdin.take()) {
        pipe.write_all(text.as_bytes())?;
    }
    let ended = child.wait_with_output()?;
    Ok(Answer {
        argv: recorded.argv.clone(),
        stdin: None,
        code: ended.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
    })
}

/// Recorded secret ids and ours.
fn known_secrets(output: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(output.join("secrets.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn learn(output: &Path, recorded: &str, ours: &str) -> Result<()> {
    let id = |uri: &str| uri.rsplit(['/', ':']).next().unwrap_or_default().to_owned();
    let mut known = known_secrets(output);
    known.insert(id(recorded), id(ours));
    fs::write(output.join("secrets.json"), serde_json::to_string(&known)?)?;
    Ok(())
}
