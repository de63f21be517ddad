//! What the controller's API shows of a model.

use std::collections::BTreeMap;
use std::time::SystemTime;

use controller_peer::Charm;
use controller_peer::model::{self as api, Release, Remote, Resource};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::charm::Role;
use crate::native::Published;
use crate::world::{Application, End, Life, Model, Relation, Running, Status, Task, Unit, World};

/// The resource that holds a workload's image.
pub const IMAGE: &str = "oci-image";

/// The release of Ubuntu that every charm here is built for.
const BASE: &str = "22.04";

/// A model in its world.
pub struct View<'a> {
    pub world: &'a World,
    pub name: &'a str,
    pub state: &'a Model,
}

fn time(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn status(status: &Status) -> api::Status {
    api::Status { status: status.status.clone(), info: status.message.clone(), since: time(status.since) }
}

fn url(application: &Application) -> String {
    let (name, revision) = (&application.charm.name, application.charm_revision);
    match application.local {
        true => format!("local:{name}-{revision}"),
        false => of_charmhub(application, revision),
    }
}

fn of_charmhub(application: &Application, revision: u64) -> String {
    format!("ch:amd64/{}-{revision}", application.charm.name)
}

/// The charm's origin, complete as a finished download has it.
fn origin(view: &View<'_>, name: &str, application: &Application) -> Value {
    let charm = application.charm.told.at(&url(application));
    let base = json!({"name": "ubuntu", "channel": format!("{BASE}/stable")});
    let mut origin =
        json!({"type": "charm", "revision": application.charm_revision, "architecture": "amd64", "base": base});
    if application.local {
        origin["source"] = json!("local");
        origin["id"] = json!("");
        return origin;
    }
    origin["source"] = json!("charm-hub");
    origin["id"] = json!(charm.id());
    origin["hash"] = json!(charm.hash());
    origin["instance-key"] = json!(format!("key-of-{}-{name}", view.state.uuid));
    if let Some((track, risk)) = application.channel.split_once('/') {
        origin["track"] = json!(track);
        origin["risk"] = json!(risk);
    }
    origin
}

fn image(revision: u64) -> Resource {
    Resource {
        name: IMAGE.to_owned(),
        kind: IMAGE.to_owned(),
        path: String::new(),
        origin: "store".to_owned(),
        revision: i64::try_from(revision).unwrap_or(i64::MAX),
        ..Resource::default()
    }
}

/// What the application has in place of the store's image, if anything.
fn resource(application: &Application, number: u64) -> Resource {
    match application.uploaded_image.as_str() {
        "" => image(number),
        content => {
            let (origin, content) = ("upload".to_owned(), content.to_owned());
            Resource { origin, content, revision: 0, ..image(number) }
        }
    }
}

fn unit(view: &View<'_>, application: &Application, unit: &Unit) -> api::Unit {
    let started = |id: u64| view.state.tasks.get(&id).and_then(|task| task.started);
    let told =
        |word: &str, info: &str, since| api::Status { status: word.into(), info: info.into(), since: time(since) };
    let agent = match (&unit.running, &unit.failed) {
        (Some(Running { name, task: Some(id), .. }), _) => {
            told("executing", &format!("running action {name}"), started(*id).unwrap_or(unit.agent.since))
        }
        (Some(_), None) if unit.agent.status == "executing" => status(&unit.agent),
        (Some(Running { name, .. }), _) => told("executing", &format!("running {name}"), unit.agent.since),
        // A failed hook is told by the workload.
        (None, Some(_)) => told("idle", "", unit.agent.since),
        (None, None) => status(&unit.agent),
    };
    let workload = match unit.failed {
        Some(_) => told("error", &unit.agent.message, unit.agent.since),
        None => status(&unit.workload),
    };
    api::Unit { agent, workload, workload_version: application.workload_version.clone() }
}

pub fn applications(view: &View<'_>) -> BTreeMap<String, api::Application> {
    let one = |(name, application): (&String, &Application)| {
        let units = application.units.iter().filter(|(_, unit)| unit.life != Life::Dead);
        let shown = api::Application {
            charm_url: url(application),
            origin: origin(view, name, application),
            channel: application.channel.clone(),
            options: application.config.clone(),
            units: units.map(|(number, found)| (*number, unit(view, application, found))).collect(),
            leader: application.leader,
            status: status(&application.status.clone().unwrap_or_else(|| application.derived_status())),
            life: if application.dying { "dying" } else { "alive" }.to_owned(),
            resources: application.image.map(|number| resource(application, number)).into_iter().collect(),
        };
        (name.clone(), shown)
    };
    view.state.applications.iter().map(one).collect()
}

/// The offers that were consumed; one whose application is gone is terminated.
pub fn remotes(view: &View<'_>) -> BTreeMap<String, Remote> {
    let one = |(name, address): (&String, &String)| {
        let offer = view.world.offers.get(address)?;
        let application = view.world.model(&offer.model).and_then(|model| model.applications.get(&offer.application));
        let declared = application.map(|found| found.charm.told.at(&url(found)).endpoints()).unwrap_or_default();
        let is_offered =
            |declared: &Value| offer.endpoints.iter().any(|endpoint| declared["name"] == endpoint.as_str());
        let shown = Remote {
            offer_url: address.clone(),
            endpoints: declared.into_iter().filter(is_offered).collect(),
            status: match application {
                Some(found) => status(&found.status.clone().unwrap_or_else(|| found.derived_status())),
                None => api::Status::now("terminated", "offer has been removed"),
            },
        };
        Some((name.clone(), shown))
    };
    view.state.consumed.iter().filter_map(one).collect()
}

pub fn relations(view: &View<'_>) -> Vec<api::Relation> {
    let here = |end: &&End| end.model == view.name;
    let one = |relation: &Relation| {
        let own = relation.ends.iter().find(here)?;
        let shown = |end: &End| api::End {
            application: if here(&end) { &end.application } else { &end.seen_as }.clone(),
            endpoint: end.endpoint.clone(),
            role: match end.declared.role {
                Role::Requires => "requirer",
                Role::Provides => "provider",
                Role::Peer => "peer",
            }
            .to_owned(),
        };
        let entered = |end: &End| end.units.values().any(|unit| unit.in_scope);
        let joined = relation.ends.iter().all(entered) || relation.dying;
        Some(api::Relation {
            id: i64::try_from(own.id).unwrap_or(i64::MAX),
            interface: own.declared.interface.clone(),
            ends: relation.ends.iter().map(shown).collect(),
            status: api::Status {
                status: if joined { "joined" } else { "joining" }.to_owned(),
                info: String::new(),
                since: time(relation.since),
            },
            dying: relation.dying,
        })
    };
    view.world.relations.values().filter_map(one).collect()
}

pub fn tasks(view: &View<'_>) -> Vec<api::Task> {
    let one = |(id, task): (&u64, &Task)| api::Task {
        id: *id,
        operation: task.operation,
        application: task.application.clone(),
        unit: task.unit,
        action: task.action.clone(),
        parameters: task.parameters.clone(),
        status: task.status.clone(),
        message: task.message.clone(),
        log: task.log.iter().map(|(at, line)| (time(*at), line.clone())).collect(),
        output: task.results.clone(),
        enqueued: time(task.enqueued),
        started: task.started.map(time),
        completed: task.completed.map(time),
    };
    view.state.tasks.iter().map(one).collect()
}

/// The charms that applications have.
pub fn charms(view: &View<'_>) -> Vec<Charm> {
    view.state.applications.values().map(|application| application.charm.told.at(&url(application))).collect()
}

/// What Charmhub has of the charms in the model.
pub fn releases(view: &View<'_>) -> Vec<Release> {
    let mut releases: BTreeMap<String, Release> = BTreeMap::new();
    for application in view.state.applications.values() {
        for published in &application.published {
            let url = of_charmhub(application, published.revision);
            let newest = Published::newest(&application.published, Some(&published.channel), None);
            let is_newest = newest.is_some_and(|newest| newest == published);
            releases.entry(url.clone()).or_insert_with(|| Release {
                channels: is_newest.then(|| published.channel.clone()).into_iter().collect(),
                charm: application.charm.told.at(&url),
                bases: vec![BASE.to_owned()],
                resources: vec![image(published.image)],
            });
        }
    }
    releases.into_values().collect()
}
