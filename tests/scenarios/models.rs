//! Source, coordinator and target in models of their own, joined by offers: the coordinator says which name it lacks,
//! and every command that it prints leads to the right model.

use super::hold;
use super::rig::{self, End};
use super::story::expect;
use controller_peer::Fault;
use controller_peer::model::Model as _;
use emulator::cli::{Printer, execute};
use emulator::neighbours::Consumer;
use emulator::stage::{Models, Stage};
use emulator::{ActionResult, Api, Charm};

#[derive(Default)]
struct Printed(String);

impl Printer for Printed {
    fn out(&mut self, text: &str) -> anyhow::Result<()> {
        self.0.push_str(text);
        Ok(())
    }

    fn err(&mut self, text: &str) -> anyhow::Result<()> {
        self.out(text)
    }
}

/// Types a command as it was printed, with the coordinator's model as the current one.
pub fn type_in(stage: &Stage, command: &str) {
    let words: Vec<String> = command.split(' ').skip(1).map(str::to_owned).collect();
    let mut current = stage.model.name().to_owned();
    let mut printed = Printed::default();
    let code = execute(&stage.controller, &mut current, &words, &std::env::temp_dir(), &mut printed);
    assert_eq!(code, 0, "{command}\n{}", printed.0);
}

/// An action waits for the operator: its `next` begins like this, and is typed as it stands.
fn obey(stage: &Stage, asked: &ActionResult, begins: &str) {
    assert!(asked.result("next").starts_with(begins), "{asked:?}");
    type_in(stage, &asked.result("next"));
}

/// The story to its end; `flag` is what commands about the target must carry, `retired` what retires the source.
fn play(stage: &Stage, flag: &str, retired: &[&str]) {
    let model = &stage.model;
    let target = stage.target_place.kratos;
    rig::status_says(model, "coordinator/0", "ready");
    rig::consumer_uses(stage, &stage.kratos);
    let people = peers::seed::people(&stage.kratos.client(), 2).unwrap();
    expect(model, "preflight", &[], "done");
    let asked = expect(model, "refresh", &[("channel", "0.4/stable")], "waiting");
    obey(stage, &asked, &format!("juju refresh {flag}{target} --channel 0.4/stable"));
    expect(model, "refresh", &[], "done");
    rig::follow(stage);
    let asked = expect(model, "run-migration", &[], "waiting");
    obey(stage, &asked, &format!("juju run {flag}{target}/leader run-migration timeout="));
    expect(model, "run-migration", &[], "done");
    expect(model, "drain", &[], "done");
    expect(model, "flip-traffic", &[], "done");
    rig::consumer_uses(stage, &stage.kratos_new);
    peers::seed::check_people(&stage.kratos_new.client(), &people).unwrap();
    rig::close(stage, End::Target);
    let finalized = expect(model, "finalize", &[("keep-source-fenced", "false")], "done");
    rig::close(stage, End::Both);
    let next = finalized.result("next");
    let lines: Vec<&str> = next.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.len(), retired.len(), "{lines:?}");
    for (line, begins) in lines.iter().zip(retired) {
        assert!(line.starts_with(begins), "{lines:?}");
        type_in(stage, line);
        model.wait_idle(rig::SOON).unwrap();
    }
    stage.models().iter().for_each(rig::no_hook_failed);
    rig::consumer_uses(stage, &stage.kratos_new);
}

#[test]
fn a_consumer_here_of_a_source_elsewhere_is_adopted_by_the_name_that_it_has_here_and_goes_back() {
    let models = Models { source: "iam", coordinator: "moving", target: "moving", kratos_offers: true };
    let stage = rig::stage_across("apart-adopt", models, 14, 16);
    stage.place_coordinator(1).unwrap();
    let model = &stage.model;
    model.config("coordinator", &[("source-application", "kratos")]).unwrap();
    let (portal, itself) = ("portal:kratos-info", "kratos-source:kratos-info");
    let consumer = Consumer::new();
    let seen = consumer.view();
    model.deploy(Charm::Native(Box::new(consumer)), "portal").unwrap();
    model.integrate(portal, itself).unwrap();
    model.wait_idle(rig::SOON).unwrap();
    // Its PostgreSQL is in another model, too, where it has a name that is not known here.
    let there = format!("juju run -m {} <PostgreSQL>/<unit", stage.source_place.model.uuid());
    let typed = expect(model, "back-up", &[], "waiting");
    assert!(typed.result("next").starts_with(&there), "{typed:?}");
    let api = stage.give_credentials().unwrap();
    let typed = expect(model, "back-up", &[], "waiting");
    assert!(typed.result("message").contains("postgresql-k8s-source is in another model"), "{typed:?}");
    assert!(typed.result("next").starts_with(&there), "{typed:?}");
    let report = expect(model, "preflight", &[], "done").result("report");
    let typed = "juju remove-relation portal:kratos-info kratos-source:kratos-info";
    assert!(report.contains(typed), "{report}");
    let ours = "coordinator:kratos-info";
    let uses = stage.kratos.ports().admin_url();
    let told = |_: &emulator::Model| seen.current().is_some_and(|found| found.admin_endpoint == uses);
    let is_told = || model.wait_until("the consumer to be told", rig::SOON, told).unwrap();
    super::adopt::done(model, &[], "portal:kratos-info take their address from here now");
    assert_eq!(related_to(&api, portal), [ours]);
    is_told();
    // The way back crosses the models; each request's answer is lost once, and a worker is killed in its middle.
    for call in ["Application.DestroyRelation", "Application.AddRelation", "Client.FullStatus"] {
        api.plan_fault(call, Fault::CutAfter);
    }
    hold::arm(&stage, "coordinator/0", "record-after/errand/adoption", "kill");
    model.enqueue("coordinator/leader", "adopt", &[("undo", "true")]).unwrap();
    hold::reached(&stage, "coordinator/0");
    model.update_status("coordinator/0").unwrap();
    super::adopt::done(model, &[("undo", "true")], "");
    assert_eq!(related_to(&api, portal), [itself]);
    assert_eq!(api.times_done("Application.AddRelation"), 2, "{:?}", api.changes());
    is_told();
    let there = &stage.source_place.model;
    let hooks = there.hooks("kratos/0").unwrap();
    assert!(hooks.iter().any(|hook| hook == "kratos-info-relation-broken"), "{hooks:?}");
    rig::close(&stage, End::Source);
}

/// What is at the other ends of an endpoint, as the controller shows it.
pub fn related_to(api: &Api, end: &str) -> Vec<String> {
    let relations = api.model().relations().into_iter().map(|relation| relation.ends);
    let named = relations.map(|ends| ends.into_iter().map(|end| format!("{}:{}", end.application, end.endpoint)));
    let named = named.map(Iterator::collect::<Vec<String>>).filter(|ends| ends.iter().any(|one| one == end));
    named.flatten().filter(|one| one != end).collect()
}

#[test]
fn everybody_in_a_model_of_their_own_with_names_that_juju_made_up() {
    let models = Models { source: "iam", coordinator: "moving", target: "iam-new", kratos_offers: false };
    let stage = rig::stage_across("apart", models, 14, 16);
    stage.place_coordinator(1).unwrap();
    let model = &stage.model;
    for side in ["source", "target"] {
        let option = format!("{side}-application");
        let (word, message) = rig::status_says(model, "coordinator/0", &format!("set the option {option}"));
        assert_eq!(word, "blocked");
        assert!(message.starts_with(&format!("cannot tell the name of the {side} application: remote-")), "{message}");
        assert!(message.contains(&format!("juju config coordinator {option}=")), "{message}");
        model.config("coordinator", &[(&option, "kratos")]).unwrap();
    }
    play(
        &stage,
        "-m iam-new ",
        &[
            "juju remove-relation ",
            "juju remove-relation coordinator:source-database postgresql-k8s-source",
            "juju remove-application -m iam kratos",
        ],
    );
}

#[test]
#[ignore = "slow: make test-all"]
fn the_source_elsewhere_under_names_that_were_chosen_for_its_offers() {
    let models = Models { source: "iam", coordinator: "iam-new", target: "iam-new", kratos_offers: true };
    let stage = rig::stage_across("elsewhere", models, 14, 16);
    let (model, home) = (&stage.model, &stage.source_place.model);
    // A secret of another model that is not granted looks as if there were none.
    home.withhold_grants("postgresql-k8s", "coordinator").unwrap();
    stage.place_coordinator(1).unwrap();
    let (word, _) = rig::status_says(model, "coordinator/0", "the secret of postgresql-k8s-source is not granted");
    assert_eq!(word, "waiting");
    home.release_grants("postgresql-k8s", "coordinator").unwrap();
    let (_, message) = rig::status_says(model, "coordinator/0", "set the option source-application");
    assert!(message.starts_with("cannot tell the name of the source application: kratos-source"), "{message}");
    // The database's name alone does not tell what to retire in the end.
    model.config("coordinator", &[("source-database-name", "iam_kratos")]).unwrap();
    model.wait_idle(rig::SOON).unwrap();
    rig::status_says(model, "coordinator/0", "set the option source-application");
    model.config("coordinator", &[("source-application", "kratos")]).unwrap();
    play(
        &stage,
        "",
        &[
            "juju remove-relation coordinator:source-kratos kratos-source",
            "juju remove-relation coordinator:source-database postgresql-k8s-source",
            "juju remove-application -m iam kratos",
        ],
    );
}
