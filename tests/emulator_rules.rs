//! The emulator's own rules, with small charms: what counts when a process
//! ends badly, what is refused, commands in a unit's context, two models, and
//! the operator's command line against what a real one printed.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use emulator::cli::{Printer, execute};
use emulator::{Charm, CharmFiles, Controller, Event, Model, NativeCharm, Options, Signal, UnitContext};
use serde_json::{Map, Value};

const DEADLINE: Duration = Duration::from_secs(30);

const METADATA: &str = "
name: little
summary: a charm for tests
description: a charm for tests
requires: {database: {interface: sql, limit: 1}}
peers: {little-peers: {interface: little}}
resources: {blob: {type: file, filename: blob.bin, description: a file}}
";

const ACTIONS: &str = "
work:
  description: works
  params: {end: {type: string, default: ok}, wait: {type: integer, minimum: 0}}
  additionalProperties: false
";

const CONFIG: &str = "options: {mode: {type: string, default: good}}";

/// A charm in shell: its `dispatch` is the given text.
fn shell_charm(folder: &Path, dispatch: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("metadata.yaml"), METADATA)?;
    std::fs::write(folder.join("actions.yaml"), ACTIONS)?;
    std::fs::write(folder.join("config.yaml"), CONFIG)?;
    std::fs::write(folder.join("dispatch"), format!("#!/bin/bash\n{dispatch}\n"))?;
    std::fs::set_permissions(folder.join("dispatch"), std::fs::Permissions::from_mode(0o755))?;
    Ok(folder.to_owned())
}

struct World {
    controller: Controller,
    model: Model,
    folder: PathBuf,
}

impl World {
    fn new(name: &str, dispatch: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("rules-{}-{name}", std::process::id()));
        let retry = Duration::from_millis(50);
        let controller = Controller::start(Options { retry_first: retry, retry_cap: retry, ..Options::default() })?;
        let model = controller.add_model("apps")?;
        model.deploy(Charm::Folder(shell_charm(&folder.join("charm"), dispatch)?), "little")?;
        Ok(World { controller, model, folder })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.folder);
    }
}

/// A provider that writes its databag with a secret when somebody comes.
struct Provider;

impl NativeCharm for Provider {
    fn files(&self) -> Result<CharmFiles> {
        CharmFiles::parse(
            "{name: provider, summary: s, description: d, provides: {db: {interface: sql}, other: {interface: http}}}",
            "",
            "",
        )
    }

    fn handle(&mut self, event: &Event, context: &mut UnitContext) -> Result<()> {
        if let Event::RelationCreated(relation) = event {
            let uri = context.secret_add("login", &[("password", "hidden")])?;
            context.secret_grant(&uri, &relation.id)?;
            context.set_application_databag(
                &relation.id,
                &[("secret-user", &uri), ("for", &relation.remote_application)],
            )?;
        }
        context.status_set("active", "")
    }

    fn action(&mut self, _: &str, _: &Map<String, Value>, _: &mut UnitContext) -> Result<()> {
        anyhow::bail!("no actions")
    }

    fn refresh(&mut self, _: Option<&str>, _: Option<u64>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_is_attached_comes_with_a_hook_and_lies_where_resource_get_says() -> Result<()> {
    let world = World::new(
        "resource",
        r#"if [ "$JUJU_DISPATCH_PATH" = hooks/upgrade-charm ]; then state-set upgraded=yes; fi"#,
    )?;
    let model = &world.model;
    model.wait_idle(DEADLINE)?;
    let get = |name: &str| model.execute("little/0", &format!("resource-get {name}"), None);
    let missing = get("blob")?;
    ensure!(missing.code == 1 && missing.stdout.is_empty(), "{missing:?}");
    ensure!(missing.stderr.starts_with("ERROR could not download resource: "), "{missing:?}");
    for content in ["first", "second"] {
        let file = world.folder.join("given.bin");
        std::fs::write(&file, content)?;
        let typed = format!("attach-resource little blob={}", file.display());
        let words: Vec<String> = typed.split(' ').map(str::to_owned).collect();
        let (mut current, mut printed) = ("apps".to_owned(), Printed::default());
        let code = execute(&world.controller, &mut current, &words, &world.folder, &mut printed);
        ensure!(code == 0, "{}", printed.0);
        model.wait_idle(DEADLINE)?;
        let path = get("blob")?.stdout;
        ensure!(path.ends_with("/resources/blob/blob.bin"), "{path:?}");
        ensure!(std::fs::read_to_string(&path)? == content, "{path} is not {content}");
    }
    ensure!(model.execute("little/0", "state-get upgraded", None)?.stdout == "yes\n", "no hook came");
    let unknown = model.attach_resource("little", "other", Vec::new()).unwrap_err();
    ensure!(unknown.to_string().contains("charm resource \"other\" not found"), "{unknown:#}");
    Ok(())
}

#[test]
fn writes_count_only_when_the_hook_ends_well() -> Result<()> {
    let world = World::new(
        "failure",
        r#"peers=$(relation-ids little-peers)
        if [ "$(config-get mode)" = bad ] && [[ "$JUJU_DISPATCH_PATH" == hooks/* ]]; then
            relation-set -r "$peers" lost=1; state-set lost=1; status-set blocked trouble; exit 1
        fi
        [ -n "$JUJU_ACTION_NAME" ] && { state-set action=ran; action-set result=done; exit 0; }
        [ "$JUJU_DISPATCH_PATH" = hooks/start ] && { relation-set -r "$peers" kept=1; state-set kept=1; }
        status-set active; exit 0"#,
    )?;
    let model = &world.model;
    model.wait_idle(DEADLINE)?;
    ensure!(model.databag("little-peers", "little/0")[0]["kept"] == "1");
    model.config("little", &[("mode", "bad")])?;
    model.wait_until("the hook fails", DEADLINE, |model| {
        model.status("little/0").is_ok_and(|status| status.0 == "error")
    })?;
    let task = model.run("little/0", "work", &[])?;
    ensure!(task.status == "completed" && task.result("result") == "done", "actions run in error: {task:?}");
    let state = model.state("little/0")?;
    ensure!(state.contains_key("action") && !state.contains_key("lost"), "{state:?}");
    ensure!(!model.databag("little-peers", "little/0")[0].contains_key("lost"));
    model.config("little", &[("mode", "good")])?;
    model.wait_until("the retry succeeds", DEADLINE, |model| {
        model.status("little/0").is_ok_and(|status| status.0 == "active")
    })
}

#[test]
fn a_killed_hook_runs_again_and_a_cancelled_action_does_not() -> Result<()> {
    let world = World::new(
        "kill",
        r#"if [ "$JUJU_DISPATCH_PATH" = hooks/start ] && [ ! -e started ]; then touch started; exec sleep 600; fi
        if [ -n "$JUJU_ACTION_NAME" ]; then state-set lost=1; echo working; exec sleep 600; fi
        exit 0"#,
    )?;
    let model = &world.model;
    let started = model.clone();
    model.wait_until("start hangs", DEADLINE, |_| {
        started.charm_folder("little/0").is_ok_and(|folder| folder.join("started").exists())
    })?;
    ensure!(model.kill_running("little/0", Signal::KILL)?);
    model.wait_idle(DEADLINE)?;
    let starts = model.hooks("little/0")?.iter().filter(|hook| *hook == "start").count();
    ensure!(starts == 2 && model.status("little/0")?.0 != "error", "start ran {starts} times");
    let id = model.enqueue("little/0", "work", &[])?;
    model.wait_until("the action works", DEADLINE, |model| model.unit_log("little/0").contains("working"))?;
    model.cancel_task(id)?;
    let task = model.wait_task(id, DEADLINE)?;
    ensure!((task.status.as_str(), task.message.as_str()) == ("aborted", "terminated"), "{task:?}");
    ensure!(model.state("little/0")?.is_empty());
    Ok(())
}

#[test]
fn commands_wait_for_their_turn_and_always_count() -> Result<()> {
    let world = World::new(
        "exec",
        r#"if [ -n "$JUJU_ACTION_NAME" ]; then juju-exec -u little/0 true 2>&1; exit 0; fi
        if [ "$JUJU_DISPATCH_PATH" = hooks/start ]; then
            env -u JUJU_CONTEXT_ID setsid juju-exec -u little/0 'JUJU_DISPATCH_PATH=hooks/wake-up ./dispatch' >/dev/null 2>&1 </dev/null &
        fi
        [ "$JUJU_DISPATCH_PATH" = hooks/wake-up ] && { state-set woken="${JUJU_HOOK_NAME:-empty}"; exit 3; }
        exit 0"#,
    )?;
    let model = &world.model;
    model.wait_until("the detached process wakes the charm", DEADLINE, |model| {
        model.state("little/0").is_ok_and(|state| state.get("woken").is_some_and(|value| value == "empty"))
    })?;
    let result = model.execute("little/0", "state-set by=command; echo said; exit 4", None)?;
    ensure!((result.code, result.stdout.as_str()) == (4, "said\n"), "{result:?}");
    ensure!(model.state("little/0")?["by"] == "command");
    let task = model.run("little/0", "work", &[])?;
    ensure!(task.result("stdout").contains("juju-exec cannot be called from within a hook"), "{task:?}");
    Ok(())
}

#[test]
fn impossible_worlds_are_refused() -> Result<()> {
    let world = World::new("refusals", "exit 0")?;
    let model = &world.model;
    model.deploy(Charm::Native(Box::new(Provider)), "first")?;
    model.deploy(Charm::Native(Box::new(Provider)), "second")?;
    let refusal = |result: Result<u64>| result.map_or_else(|error| format!("{error:#}"), |_| String::new());
    ensure!(refusal(model.integrate("little", "nobody")).contains("not found"));
    ensure!(refusal(model.integrate("little:database", "first:other")).contains("no relations found"));
    ensure!(refusal(model.integrate("first:db", "second:db")).contains("no relations found"));
    model.integrate("little", "first")?;
    ensure!(refusal(model.integrate("little", "first")).contains("already exists"));
    ensure!(refusal(model.integrate("little", "second")).contains("maximum relation limit of 1"));
    ensure!(model.config("little", &[("speed", "1")]).is_err());
    ensure!(model.enqueue("little/0", "dance", &[]).is_err());
    model.wait_idle(DEADLINE)?;
    let refused = model.execute("little/0", "relation-set -r 99 a=b", None)?;
    ensure!(refused.code == 2 && refused.stderr.contains("relation not found"), "{refused:?}");
    Ok(())
}

#[test]
fn two_models_share_a_relation_through_an_offer() -> Result<()> {
    let world = World::new(
        "models",
        r#"[ "$JUJU_DISPATCH_PATH" = hooks/database-relation-changed ] || exit 0
        uri=$(relation-get --app -r "$JUJU_RELATION_ID" secret-user "$JUJU_REMOTE_APP")
        [ -n "$uri" ] && state-set password="$(secret-get --format=json "$uri" password)" app="$JUJU_REMOTE_APP" \
            model="$(relation-model-get --format=json)"
        exit 0"#,
    )?;
    let other = world.controller.add_model("databases")?;
    other.deploy(Charm::Native(Box::new(Provider)), "provider")?;
    let address = other.offer("provider", &["db"], None)?;
    let name = world.model.consume(&address, Some("far"))?;
    world.model.integrate("little:database", &name)?;
    world.model.wait_until("the secret is read across models", DEADLINE, |model| {
        model.state("little/0").is_ok_and(|state| state.contains_key("password"))
    })?;
    let state = world.model.state("little/0")?;
    ensure!(state["password"] == "\"hidden\"" && state["app"] == "far", "{state:?}");
    ensure!(state["model"].contains(&other.uuid()), "{state:?}");
    let seen = &other.databag("db", "provider")[0]["for"];
    ensure!(seen.starts_with("remote-") && seen.len() == "remote-".len() + 32, "{seen}");
    Ok(())
}

#[test]
fn a_secret_that_is_not_granted_is_refused_in_each_release_s_words() -> Result<()> {
    let dispatch = r#"[[ "$JUJU_DISPATCH_PATH" == hooks/database-relation-changed || "$JUJU_DISPATCH_PATH" == hooks/update-status ]] || exit 0
        id=$(relation-ids database); uri=$(relation-get --app -r "$id" secret-user "$(relation-list -r "$id" --app)")
        [ -n "$uri" ] && state-set said="$(secret-get --format=json "$uri" password 2>&1)" id="${uri##*/}"
        exit 0"#;
    for (version, elsewhere, words) in [
        ("4.0.14.1", false, "ERROR \"little/0\" is not allowed to read this secret"),
        ("3.6.11", false, "ERROR permission denied"),
        ("4.0.14.1", true, "ERROR secret \"<id>\" not found"),
    ] {
        let folder = std::env::temp_dir().join(format!("rules-{}-secret-{version}-{elsewhere}", std::process::id()));
        let controller = Controller::start(Options { version: version.into(), ..Options::default() })?;
        let model = controller.add_model("apps")?;
        model.deploy(Charm::Folder(shell_charm(&folder.join("charm"), dispatch)?), "little")?;
        let home = if elsewhere { controller.add_model("databases")? } else { model.clone() };
        home.deploy(Charm::Native(Box::new(Provider)), "provider")?;
        home.withhold_grants("provider", "little")?;
        if elsewhere {
            model.consume(&home.offer("provider", &["db"], None)?, None)?;
        }
        model.integrate("little:database", "provider:db")?;
        let said = |model: &Model| model.state("little/0").ok().and_then(|state| state.get("said").cloned());
        let refused = |model: &Model| {
            said(model).is_some_and(|said| said == words.replace("<id>", &model.state("little/0").unwrap()["id"]))
        };
        model.wait_until(words, DEADLINE, refused)?;
        model.wait_idle(DEADLINE)?;
        home.release_grants("provider", "little")?;
        model.wait_idle(DEADLINE)?;
        ensure!(refused(&model), "granting fires no hook: {:?}", said(&model));
        model.update_status("little/0")?;
        model.wait_until("the content", DEADLINE, |model| said(model).as_deref() == Some("\"hidden\""))?;
        let _best_effort = std::fs::remove_dir_all(folder);
    }
    Ok(())
}

#[derive(Default)]
struct Printed(String);

impl Printer for Printed {
    fn out(&mut self, text: &str) -> Result<()> {
        self.0.push_str(text);
        Ok(())
    }

    fn err(&mut self, text: &str) -> Result<()> {
        self.out(text)
    }
}

/// The numbers of tasks and operations and the times of day differ.
fn without_numbers(text: &str) -> String {
    let mut tidy = String::new();
    for line in text.lines() {
        let log = line.get(2..3) == Some(":") && line.get(5..6) == Some(":");
        let line = if log { &line[8..] } else { line };
        let result = line.starts_with("bytes-copied") || (line.starts_with("  ") && !line.starts_with("  - task"));
        let kept = line.chars().filter(|character| result || !character.is_ascii_digit());
        tidy.extend(kept);
        tidy.push('\n');
    }
    tidy
}

#[test]
fn the_command_line_prints_what_a_real_one_printed() -> Result<()> {
    let world = World::new(
        "cli",
        r#"[ -n "$JUJU_ACTION_NAME" ] || exit 0
        action-log -- "-half way"; action-log "progress 50%"
        action-set outcome=done bytes-copied=12 $'report=line one\nline two' a.b=1 a.c=2
        echo to stdout; echo to stderr >&2
        [ "$(action-get end)" = ok ] || action-fail "cannot drain: nothing is being replicated; run replicate first"
        [ "$(action-get end)" = exit3 ] && exit 3
        exit 0"#,
    )?;
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/juju-4.0.14/cli-actions.json"))?;
    let recorded: BTreeMap<String, String> = serde_json::from_str(&text)?;
    world.model.wait_idle(DEADLINE)?;
    let mut model = "apps".to_owned();
    let mut juju = |words: &str| {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let mut printed = Printed::default();
        let code = execute(&world.controller, &mut model, &words, &world.folder, &mut printed);
        let printed = printed.0.replace("little", "coordinator").replace("\"work\"", "\"probe\"");
        (code, without_numbers(&printed))
    };
    for (words, name, code) in [
        ("run little/leader work end=fail", "act7.txt", 0),
        ("run little/0 work wait=-1", "act5.txt", 0),
        ("run little/0 work bogus=1", "act6.txt", 0),
    ] {
        let expected = (code, without_numbers(&recorded[name]));
        let got = juju(words);
        ensure!(got == expected, "{words}: recorded\n{}\nemulator ({})\n{}", expected.1, got.0, got.1);
    }
    let (code, printed) = juju("run little/0 work end=exit3 --format json");
    let expected = without_numbers(&recorded["act3.err"]);
    let (progress, failure) = expected.split_once("ERROR").unwrap_or_default();
    ensure!(code == 1 && printed.starts_with(progress) && printed.ends_with(failure), "{printed}");
    ensure!(juju("run little/0 dance").0 == 1 && juju("nonsense").0 == 1 && juju("status").0 == 0);
    Ok(())
}
