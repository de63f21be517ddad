//! After `finalize`: the exact commands that take the source away, and later the coordinator itself. They are
//! meant to be typed one by one, in this order.

use super::event::Context;
use super::gather::Gathered;
use super::relations::Access;
use super::relations::identity::is_anonymous;
use crate::juju::HookTools;
use crate::migration::Side;

/// What is still to be typed by a person who wants to get rid of the source: empty once nothing of it is related.
/// Each line is a command.
pub fn source(context: &Context, gathered: &Gathered) -> Vec<String> {
    let relations = &gathered.relations;
    let identity = end(&relations.source_identity, |info| (&info.relation_id, &info.application));
    let database = end(&relations.source_database, |database| (&database.relation_id, &database.application));
    let mut commands: Vec<String> = [&identity, &database]
        .into_iter()
        .flatten()
        .map(|(relation_id, application)| removal(context, relation_id, application))
        .collect();
    let source = &gathered.applications.source;
    if identity.is_some() && !source.name.is_empty() {
        commands.push(format!("juju remove-application {}{}", source.model_flag(), source.name));
    }
    commands
}

/// How to do without the coordinator. A consumer takes only one relation of the kind, so ours has to go before
/// the other comes; it keeps the address it has for that moment. A consumer in another model is moved there, by its
/// own operator: until then nothing is named that would take the coordinator away from it.
pub fn coordinator(tools: &HookTools, context: &Context, gathered: &Gathered) -> Vec<String> {
    let mut commands = Vec::new();
    let mut elsewhere = false;
    if let Some((_, called)) = end(&gathered.relations.target_identity, |info| (&info.relation_id, &info.application)) {
        let (endpoint, target) = (gathered.applications.app.consumers_endpoint, &gathered.applications.target);
        // A name that Juju made up cannot be related to.
        let introduced = is_anonymous(&called).then(|| target.introduced(endpoint, Side::Target)).flatten();
        let (mut before, target) = introduced.map_or((Vec::new(), called), |(lines, alias)| (lines.into(), alias));
        for consumer in &gathered.relations.consumers {
            // A relation that goes away meanwhile needs no command.
            let Ok(Some(name)) = tools.remote_application(&consumer.relation_id) else { continue };
            if is_anonymous(&name) {
                elsewhere = true;
                continue;
            }
            commands.append(&mut before);
            commands.push(removal(context, &consumer.relation_id, &name));
            commands.push(format!("juju integrate {target}:{endpoint} {name}"));
        }
    }
    if !elsewhere {
        commands.push(format!("juju remove-application {}", context.application));
    }
    commands
}

/// The command that ends a relation. A name that Juju made up cannot be used there, the relation's number can.
fn removal(context: &Context, relation_id: &str, application: &str) -> String {
    let (endpoint, number) = relation_id.split_once(':').unwrap_or((relation_id, ""));
    if is_anonymous(application) {
        return format!("juju remove-relation {number}");
    }
    format!("juju remove-relation {}:{endpoint} {application}", context.application)
}

/// A relation and the application at its other end, ready or not.
fn end<T>(access: &Access<T>, of: impl Fn(&T) -> (&String, &String)) -> Option<(String, String)> {
    match access {
        Access::NoRelation => None,
        Access::Waiting(waiting) => Some((waiting.relation_id.clone(), waiting.application.clone()?)),
        Access::Ready(value) => {
            let (relation_id, application) = of(value);
            Some((relation_id.clone(), application.clone()))
        }
    }
}
