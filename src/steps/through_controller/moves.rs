//! Relations that are moved: one end leaves a partner for another. Each is removed and made, one after the other, by what
//! the model shows: waited for until truly gone and truly there; where the new one is refused, the old one is made again.

use super::super::context::Context;
use super::{Conductor, FINE, Stop, Through};
use crate::controller::settled::{Settled, related, relation_between, relation_gone, resting};
use crate::controller::{Change, FullStatus, ModelLogin, Reaction, blocking};
use serde::{Deserialize, Serialize};

/// One end that gets another partner; each is `<application>:<endpoint>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Move {
    /// The end that stays itself.
    pub end: String,
    /// Its partner now; empty where it has none.
    pub from: String,
    /// Its partner then; empty where it shall have none.
    pub to: String,
    /// The number of the relation whose removal was asked for, or is about to be.
    removing: Option<i64>,
    /// The new one was asked for, or is about to be.
    making: bool,
    /// On a way back, the number of the relation whose removal was asked for on the way there: it may still be going.
    going: Option<i64>,
    /// Why the new one was refused: the old one is made again.
    refused: Option<String>,
    /// Nothing is left to do.
    pub done: bool,
}

impl Move {
    pub fn new(end: impl Into<String>, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { end: end.into(), from: from.into(), to: to.into(), ..Self::default() }
    }

    /// Whether the model was, or may have been, changed for it.
    pub fn is_begun(&self) -> bool {
        self.removing.is_some() || self.making || self.done
    }

    /// The partner that is missing while its end has neither.
    pub fn lacks(&self) -> Option<&str> {
        let to = if self.refused.is_some() { &self.from } else { &self.to };
        (self.is_begun() && !self.done && !to.is_empty()).then_some(to)
    }

    /// The application of the end that stays itself.
    pub fn application(&self) -> &str {
        self.end.split(':').next().unwrap_or_default()
    }

    /// Whether the model shows what it leads to.
    pub fn stands(&self, status: &FullStatus) -> bool {
        let there = |other: &str| relation_between(status, &self.end, other).is_some();
        !there(&self.from) && (self.to.is_empty() || there(&self.to))
    }

    /// The way back.
    pub fn reversed(&self) -> Self {
        Self { going: self.removing, ..Self::new(&self.end, &self.to, &self.from) }
    }

    /// The same to be typed.
    pub fn commands(&self) -> Vec<String> {
        if let (Some(_), Some(lacks)) = (&self.refused, self.lacks()) {
            return vec![format!("juju integrate {} {lacks}", self.end)];
        }
        let remove = (!self.from.is_empty()).then(|| format!("juju remove-relation {} {}", self.end, self.from));
        let make = (!self.to.is_empty()).then(|| format!("juju integrate {} {}", self.end, self.to));
        remove.into_iter().chain(make).collect()
    }
}

/// What gives one end another partner, to be typed; each is `<application>:<endpoint>`. It has none in between.
pub fn move_commands(end: &str, from: &str, to: &str) -> Vec<String> {
    Move::new(end, from, to).commands()
}

/// What became of a move.
pub(super) enum Stepped {
    /// It changed: nothing is sent before that is journalled.
    Noted,
    /// It is at work: what is waited for.
    AtWork(String),
    /// Somebody has to look at the model first: at what, and the command that shows it.
    Person(String, String),
    /// The new relation was refused and the old one is there again: why.
    TakenBack(String),
}

/// What would stop moves half way is found before the first relation goes.
pub(super) async fn hindrance(
    context: &Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    status: &FullStatus,
    moves: &[Move],
) -> Result<Option<Through>, Stop> {
    if moves.is_empty() {
        return Ok(None);
    }
    let blocks = conductor.session(login).await?.blocks().await?;
    for change in [Change::Alter, Change::Remove] {
        if let Some(block) = blocking(&blocks, change) {
            let why = format!("juju disable-command stops changes of the model (\"{}\")", block.message);
            return Ok(Some(conductor.cannot(why)));
        }
    }
    for one in moves {
        for end in [&one.end, &one.from, &one.to] {
            let application = end.split(':').next().unwrap_or_default();
            // Who has no partner yet, or shall have none.
            if application.is_empty() {
                continue;
            }
            if let Some(why) = absent(status, application) {
                return Ok(Some(conductor.cannot(why)));
            }
            // We ourselves are at work while our own action runs; the units of another model are not seen.
            if application == context.applications.coordinator || !status.applications.contains_key(application) {
                continue;
            }
            match resting(status, application, &FINE) {
                Settled::Yes => {}
                Settled::NotYet(why) => {
                    return Ok(Some(Through::AtWork(format!("before relations are moved: {why}"))));
                }
                Settled::Stuck(why) => return Ok(Some(conductor.cannot(why))),
            }
        }
    }
    Ok(None)
}

/// Why nobody can be related to an application, where it is gone from this model or from the one that offers it.
pub(super) fn absent(status: &FullStatus, application: &str) -> Option<String> {
    if status.applications.contains_key(application) {
        return None;
    }
    let Some(remote) = status.remote_applications.get(application) else {
        return Some(format!("{application} is not in this model"));
    };
    let is_there = ["", "alive"].contains(&remote.life.as_str()) && remote.status.status != "terminated";
    (!is_there).then(|| {
        let url = &remote.offer_url;
        format!(
            "the offer {url}, which {application} is here, is gone; have it offered again, then juju remove-saas \
             {application} and juju consume {url} {application}"
        )
    })
}

/// The next thing about one move, by what the model shows.
pub(super) async fn step(
    conductor: &mut Conductor,
    login: &ModelLogin,
    status: &FullStatus,
    one: &mut Move,
) -> Result<Stepped, Stop> {
    if let Some(why) = one.refused.clone() {
        // A person has mended what was in the way, and made it.
        if relation_between(status, &one.end, &one.to).is_some() {
            one.refused = None;
            return Ok(Stepped::Noted);
        }
        return take_back(conductor, login, status, one, why).await;
    }
    let going = one.going.filter(|going| status.relations.iter().any(|found| found.id == *going));
    if let Some(relation) = relation_between(status, &one.end, &one.from).map(|found| found.id).or(going) {
        return remove(conductor, login, status, one, relation).await;
    }
    if one.to.is_empty() {
        one.done = true;
        return Ok(Stepped::Noted);
    }
    let Move { end, from, to, .. } = &*one;
    if relation_between(status, end, to).is_some() {
        return Ok(match related(status, end, to) {
            Settled::Yes => {
                log::info!("{end} is related to {to}");
                one.done = true;
                Stepped::Noted
            }
            Settled::NotYet(why) => Stepped::AtWork(format!("{end} is moved to {to}: {why}")),
            Settled::Stuck(why) => Stepped::Person(why, "juju status --relations".to_owned()),
        });
    }
    if !one.making {
        one.making = true;
        return Ok(Stepped::Noted);
    }
    match conductor.session(login).await?.add_relation(end, to).await {
        Ok(_) => Ok(Stepped::AtWork(format!("{end} is moved to {to}"))),
        Err(error) if error.reaction() == Reaction::Stop => {
            log::warn!("{end} goes back to {}: {error}", if from.is_empty() { "nobody" } else { from });
            one.refused = Some(error.to_string());
            Ok(Stepped::Noted)
        }
        Err(error) => Err(error.into()),
    }
}

async fn remove(
    conductor: &mut Conductor,
    login: &ModelLogin,
    status: &FullStatus,
    one: &mut Move,
    relation: i64,
) -> Result<Stepped, Stop> {
    if one.removing != Some(relation) {
        one.removing = Some(relation);
        return Ok(Stepped::Noted);
    }
    if let Settled::Stuck(why) = relation_gone(status, relation) {
        return Ok(Stepped::Person(why, "juju status --relations".to_owned()));
    }
    // Asking once more for what goes already is a success.
    if !conductor.has_removed(relation) {
        conductor.session(login).await?.destroy_relation_by_id(relation).await?;
        conductor.removed(relation);
    }
    Ok(Stepped::AtWork(format!("the relation of {} with {} goes", one.end, one.from)))
}

/// The old relation once more.
async fn take_back(
    conductor: &mut Conductor,
    login: &ModelLogin,
    status: &FullStatus,
    one: &Move,
    why: String,
) -> Result<Stepped, Stop> {
    let Move { end, from, .. } = one;
    if from.is_empty() {
        return Ok(Stepped::TakenBack(why));
    }
    if relation_between(status, end, from).is_none() {
        conductor.session(login).await?.add_relation(end, from).await?;
        return Ok(Stepped::AtWork(format!("{end} goes back to {from}: {why}")));
    }
    Ok(match related(status, end, from) {
        Settled::NotYet(still) => Stepped::AtWork(format!("{end} goes back to {from}: {still}")),
        Settled::Yes | Settled::Stuck(_) => Stepped::TakenBack(format!("{why}, so {end} is related to {from} again")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{ApplicationStatus, RemoteApplicationStatus};

    #[test]
    fn commands_name_only_what_there_is() {
        let whole = Move::new("kratos-new:public-route", "traefik-new:traefik-route", "traefik:traefik-route");
        let remove = "juju remove-relation kratos-new:public-route traefik-new:traefik-route";
        let make = "juju integrate kratos-new:public-route traefik:traefik-route";
        assert_eq!(whole.commands(), [remove, make]);
        assert_eq!(Move { from: String::new(), ..whole.clone() }.commands(), [make]);
        assert_eq!(Move { to: String::new(), ..whole.clone() }.commands(), [remove]);
        assert_eq!(whole.reversed().reversed(), whole);
    }

    #[test]
    fn an_end_lacks_a_partner_only_once_the_old_one_goes() {
        let mut one = Move::new("login-ui:kratos-info", "kratos:kratos-info", "coordinator:kratos-info");
        assert_eq!(one.lacks(), None);
        one.removing = Some(7);
        assert_eq!(one.lacks(), Some("coordinator:kratos-info"));
        one.refused = Some("no".to_owned());
        assert_eq!(one.lacks(), Some("kratos:kratos-info"));
        one.done = true;
        assert_eq!(one.lacks(), None);
    }

    #[test]
    fn what_is_gone_from_its_model_is_told_before_anything_goes() {
        let remote = |status: &str| {
            let mut remote = RemoteApplicationStatus {
                offer_url: "admin/iam.kratos".into(),
                life: "alive".into(),
                ..Default::default()
            };
            remote.status.status = status.into();
            remote
        };
        let remotes = [("there", remote("active")), ("gone", remote("terminated"))];
        let status = FullStatus {
            applications: [("here".to_owned(), ApplicationStatus::default())].into(),
            remote_applications: remotes.map(|(name, remote)| (name.to_owned(), remote)).into(),
            ..Default::default()
        };
        assert_eq!((absent(&status, "here"), absent(&status, "there")), (None, None));
        assert_eq!(absent(&status, "nowhere").unwrap(), "nowhere is not in this model");
        assert!(absent(&status, "gone").unwrap().ends_with("juju consume admin/iam.kratos gone"));
        assert_eq!(status.remote_applications["there"].model(), "iam");
    }
}
