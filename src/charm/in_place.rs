//! `upgrade-in-place`: only one side is related, so the journal is on its cluster, and its application is both the one
//! that is left and the one that is gone to. Which of the two kinds of migration this coordinator is about is told by the
//! journal on the source's cluster; the leader's memory only spares to look there.

use super::desk::{Desk, Reply};
use super::event::Context;
use super::gather::{Gathered, JournalPlace, Lacking};
use super::parameters::Parameters;
use super::relations::{Access, Side};
use crate::migration::{Goal, IN_PLACE, Request, State, Step, plan};
use crate::steps::{Applications, Store, World, in_place};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a look at the source's cluster may take: hooks come while it is down, too.
const PEEK: Duration = Duration::from_secs(3);

/// Why the action must not be tried at all: there is a target, or nobody said that users may have an outage.
pub fn unfit(name: &str, parameters: &Parameters, desk: &Desk<'_>, state: Option<&State>) -> Option<Reply> {
    if name != IN_PLACE {
        return None;
    }
    if has_target(desk.gathered) && desk.gathered.one_sided.is_none() {
        return Some(has_other_side(desk, state));
    }
    if parameters.flag("accept-outage") {
        return None;
    }
    let sentence = format!(
        "cannot {name}: from the refresh to the end of the schema migration users have no service, for a time that nobody \
         knows before, and once it has begun nothing leads back but a restored backup; run it with accept-outage=true"
    );
    Some(Reply::refused(sentence, desk.command(&parameters.with(name, "accept-outage=true"))))
}

/// A coordinator that has a target migrates to that.
fn has_other_side(desk: &Desk<'_>, state: Option<&State>) -> Reply {
    let sentence = format!(
        "cannot {IN_PLACE}: a target is related, so this coordinator migrates to that; deploy another coordinator with \
         source-database and source-{} only for an upgrade in place",
        desk.gathered.applications.app.name
    );
    Reply::refused(sentence, desk.command(state.map_or("preflight", plan::usual_next)))
}

/// What looks at two sides, or leads back, where there is only one.
pub fn aside(name: &str, desk: &Desk<'_>, state: &State) -> Option<Reply> {
    match (name, state.active(), state.run.as_ref().and_then(|run| run.upgraded())) {
        ("preflight" | "verify", Some(run), _) if run.is_in_place() => {
            let next = plan::usual_next(state);
            let sentence =
                format!("cannot {name}: an upgrade in place is under way, which checks by itself; run {next}");
            Some(Reply::refused(sentence, desk.command(next)))
        }
        ("rollback", None, Some((from, to))) if desk.gathered.one_sided.is_some() => {
            let application = &desk.gathered.applications.source;
            let sentence = format!(
                "cannot {name}: the application was upgraded in place from {from} to {to}, and no charm leads a schema back; \
                 restore the backup with the PostgreSQL charm's restore, then run juju refresh {}{} --revision <revision before>",
                application.model_flag(),
                application.name
            );
            Some(Reply::refused(sentence, desk.command("show")))
        }
        _ => None,
    }
}

/// Whether something of a second side is related: then this coordinator migrates to it.
fn has_target(gathered: &Gathered) -> bool {
    let relations = &gathered.relations;
    !matches!(relations.target_database, Access::NoRelation) || !matches!(relations.target_identity, Access::NoRelation)
}

/// Takes the source's cluster as the journal's place where this coordinator is about an upgrade in place.
pub async fn choose(context: &Context, gathered: &mut Gathered) {
    let Some(place) = place(gathered) else { return };
    let (related, remembered) = (has_target(gathered), gathered.memory.in_place);
    let chosen = match (related, remembered) {
        (false, true) => true,
        (false, false) if gathered.begins_in_place => true,
        (true, false) => false,
        // One that is under way goes on, whatever was related meanwhile; where nobody can look, nothing else begins.
        (true, true) => is_under_way(&place).await.unwrap_or(true),
        // An action that was killed remembers nothing.
        (false, false) => is_under_way(&place).await.unwrap_or(false),
    };
    if chosen {
        gathered.be_in_place(context, place);
    }
}

fn place(gathered: &Gathered) -> Option<JournalPlace> {
    let source = gathered.relations.source_database.ready()?;
    Some(JournalPlace {
        server: source.server.clone(),
        database: source.database.clone(),
        application: source.application.clone(),
        side: Side::Source.name(),
    })
}

/// Whether the journal there, if any, knows of an upgrade that is not over; `None` when nobody answers. Makes nothing.
async fn is_under_way(place: &JournalPlace) -> Option<bool> {
    let look = async {
        if !Store::exists(&place.server, &place.database).await? {
            return Ok(false);
        }
        let state = Store::open(&place.server, &place.database, "charm").await?.load().await?;
        let asked = state.request.as_ref().is_some_and(|request| request.goal == Goal::UpgradedInPlace);
        Ok::<bool, crate::postgres::Error>(asked || state.active().is_some_and(|run| run.is_in_place()))
    };
    tokio::time::timeout(PEEK, look).await.ok()?.ok()
}

/// The world with one side.
pub fn world(place: &JournalPlace, applications: &Applications, database: String) -> World {
    World {
        app: applications.app,
        source: place.server.clone(),
        target: place.server.clone(),
        source_database: database.clone(),
        target_database: database,
        journal_database: place.database.clone(),
    }
}

/// What stands against an upgrade in place here and now, before it is written down.
pub fn refused(desk: &Desk<'_>, request: &Request, parameters: &Parameters, state: &State, now: i64) -> Option<Reply> {
    if request.goal != Goal::UpgradedInPlace {
        return None;
    }
    let gathered = desk.gathered;
    if let Some(lacking) = gathered.one_side(desk.context) {
        return Some(lacks(desk, request, &lacking));
    }
    if let Some(done) = done_already(desk, request, state) {
        return Some(done);
    }
    let begun = state.active().is_some_and(|run| run.is_done(Step::Preflight));
    let sentence = in_place::no_backup(state, now).filter(|_| !request.accept_no_backup && !begun)?;
    let accept = parameters.with(IN_PLACE, "accept-no-backup=true");
    let back_up = desk.command("back-up side=source");
    let sentence = format!("{sentence}; run {back_up}, then this action again, or go on without one with {accept}");
    Some(Reply::refused(sentence, back_up))
}

fn lacks(desk: &Desk<'_>, request: &Request, lacking: &Lacking) -> Reply {
    let again = || desk.command(&request.again(IN_PLACE));
    let next = if lacking.person { lacking.commands.join("\n") } else { again() };
    Reply::refused(lacking.sentence.clone(), next)
}

/// Asked for once more with what it was asked with: it is done, and users are not troubled again.
fn done_already(desk: &Desk<'_>, request: &Request, state: &State) -> Option<Reply> {
    let run = state.run.as_ref().filter(|_| state.request.is_none())?;
    let (from, to) = run.upgraded()?;
    run.output(Step::Refresh, plan::WISH).filter(|wish| **wish == request.wish())?;
    let message = format!(
        "the application was upgraded in place from {from} to {to} already; another channel or revision upgrades it further"
    );
    let outage = run.output(Step::Gates, in_place::OUTAGE).and_then(Value::as_u64);
    let more: BTreeMap<_, _> =
        outage.map(|outage| (in_place::OUTAGE.to_owned(), outage.to_string())).into_iter().collect();
    Some(Reply { outcome: "done", message, next: desk.command("show"), more })
}

/// What an upgrade in place lacks while it is what this coordinator is about; `None` where it is not about one.
pub fn lacking(context: &Context, gathered: &Gathered, state: Option<&State>) -> Option<Option<Lacking>> {
    let about = gathered.one_sided.is_some() && state.is_none_or(State::is_in_place);
    let option = || gathered.config.bad.first().map(|bad| Lacking::option(context, bad));
    about.then(|| option().or_else(|| gathered.one_side(context)))
}
