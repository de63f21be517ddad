//! Action parameters of every bad kind: refused by Juju where `actions.yaml` can tell it, and by the charm itself
//! where Juju does not check, in one sentence that names the parameter, its value and what is accepted.

use super::rig;
use super::story::charm;
use coordinator::charm::parameters::{ACTIONS, Form, Parameter};
use emulator::{ActionResult, Charm, Controller, Model, Options};
use serde_json::{Map, Value, json};

/// A coordinator without any relation: parameters come before everything else.
fn alone(name: &str, unchecked: bool) -> (Controller, Model) {
    let folder = charm(name);
    if unchecked {
        let actions: Vec<String> =
            ACTIONS.iter().map(|(name, _)| format!("{name}: {{additionalProperties: true}}\n")).collect();
        std::fs::write(folder.join("actions.yaml"), actions.concat()).unwrap();
    }
    let controller = Controller::start(Options::default()).unwrap();
    let model = controller.add_model("iam").unwrap();
    model.deploy(Charm::Folder(folder), "coordinator").unwrap();
    rig::status_says(&model, "coordinator/0", "nothing is related to source-database");
    (controller, model)
}

fn run(model: &Model, action: &str, parameters: &Map<String, Value>) -> ActionResult {
    let task = model.enqueue_typed("coordinator/leader", action, parameters.clone()).unwrap();
    model.wait_task(task, rig::SOON).unwrap()
}

/// Values that a parameter does not take.
fn bad_values(form: Form) -> Vec<Value> {
    match form {
        Form::Number { least, most, zero, .. } => {
            let mut bad =
                vec![json!(-1), json!(most + 1), json!(least as f64 + 0.5), json!(1e30), json!("5"), json!(true)];
            if least > 0 && zero.is_none() {
                bad.push(json!(0));
            }
            if least > 1 {
                bad.push(json!(least - 1));
            }
            bad
        }
        Form::Choice { .. } => vec![json!("sideways"), json!("TWIN"), json!(""), json!(1), json!(["twin"])],
        Form::Flag { .. } => vec![json!("yes"), json!(1)],
        Form::Image => vec![json!(""), json!("a b"), json!("-x"), json!("a;b"), json!("a\nb"), json!("é"), json!(7)],
        Form::Channel => {
            ["", "/", "0.4/", "0.4/fast", "a/b/stable", "0.4/stable reboot", "--force"].map(Value::from).to_vec()
        }
    }
}

#[test]
fn what_juju_lets_through_the_charm_refuses() {
    let (_controller, model) = alone("parameters", true);
    let mut tried = 0;
    for (action, parameters) in ACTIONS {
        let mut cases = vec![("speed", json!(5))];
        for Parameter { name, form } in parameters {
            cases.extend(bad_values(*form).into_iter().map(|value| (*name, value)));
        }
        // The same parameter of two actions is one entry of the table: once is enough, but for the release to go to.
        cases.retain(|(name, _)| *name != "wait" || action == "replicate");
        cases.retain(|(name, _)| action != "cut-over" || *name == "speed");
        for (name, value) in cases {
            let result = run(&model, action, &Map::from_iter([(name.to_owned(), value.clone())]));
            let told = (result.result("outcome"), result.status.clone(), result.result("next"));
            assert_eq!(
                told,
                ("refused".to_owned(), "failed".to_owned(), String::new()),
                "{action} {name}={value}: {result:?}"
            );
            let message = &result.message;
            let (found, cure) = message.split_once("; ").unwrap_or_else(|| panic!("{message}"));
            assert!(found.starts_with(&format!("cannot {action}: ")) && found.contains(name), "{message}");
            assert!(name == "speed" || found.ends_with(&format!("is {value}")), "{message}");
            assert!(cure.starts_with(if name == "speed" { "it takes " } else { "give " }), "{message}");
            tried += 1;
        }
    }
    assert!(tried > 60, "only {tried} values were tried");
    // A whole number as a float is a whole number, and an unusual channel is a channel.
    for (action, name, value) in [
        ("drain", "outage-limit", json!(60.0)),
        ("refresh", "channel", json!("edge/fix-1")),
        ("refresh", "revision", json!(7)),
    ] {
        let result = run(&model, action, &Map::from_iter([(name.to_owned(), value)]));
        assert!(result.message.contains("nothing is related to"), "{action} {name}: {result:?}");
    }
    rig::no_hook_failed(&model);
}

#[test]
fn what_actions_yaml_can_tell_juju_refuses_itself() {
    let (_controller, model) = alone("checked-parameters", false);
    for (action, name, value) in [
        ("drain", "speed", json!(5)),
        ("drain", "wait", json!(-1)),
        ("drain", "wait", json!(86_401)),
        ("drain", "outage-limit", json!(30.5)),
        ("drain", "verification", json!("none")),
        ("refresh", "revision", json!(2_147_483_648_u64)),
        ("refresh", "channel", json!(4)),
        ("migrate", "until", json!("finalized")),
        ("migrate", "revision", json!(-3)),
        ("finalize", "keep-source-fenced", json!("yes")),
        ("show", "format", json!("yaml")),
    ] {
        let result = run(&model, action, &Map::from_iter([(name.to_owned(), value)]));
        assert_eq!(result.status, "error", "{action} {name}: {result:?}");
        assert!(result.message.contains("validation failed") && result.message.contains(name), "{result:?}");
    }
    // A gap in a range only the charm knows.
    let result = run(&model, "drain", &Map::from_iter([("outage-limit".to_owned(), json!(5))]));
    assert_eq!(result.result("outcome"), "refused", "{result:?}");
    assert!(result.message.contains("outage-limit is 5; give a whole number from 30 to 86400"), "{result:?}");
}
