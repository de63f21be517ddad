//! What the model shows where the controller may be asked: whether we may change it, and whether the target application
//! is configured and related as the source is.

use super::judgement::{Judgement, good, hint};
use super::{Facts, Look};
use crate::controller::{
    ApplicationConfig, ApplicationResources, Block, Change, Error, FullStatus, Session, Timing, blocking,
};
use crate::steps::Credentials;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An action that only looks does not hang on a controller that does not answer.
pub(super) const TIMING: Timing = Timing {
    stagger: Duration::from_millis(50),
    connect: Duration::from_secs(4),
    call: Duration::from_secs(10),
    ping_every: Duration::from_secs(60),
    ping_answer: Duration::from_secs(30),
};

/// Endpoints that are meant to differ: databases of their own, what we broker, what is moved with the traffic.
const OWN: [&str; 6] =
    ["pg-database", "kratos-info", "hydra-endpoint-info", "public-route", "public-ingress", "admin-ingress"];

/// What users notice at once when the target lacks it, by a part of the endpoint's name, most important first; anything
/// else comes after.
const MATTERS: [&str; 7] = ["external-idp", "ui-endpoint", "smtp", "hook", "cert", "oauth", "route"];

/// What the model shows.
#[derive(Clone, Debug)]
pub enum Model {
    /// No credentials were given.
    NotAsked,
    /// It could not be looked at: why.
    Unseen(String),
    /// As it is.
    Seen(Box<Seen>),
}

/// The part of a model that the checks judge.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who we are there.
    pub user: String,
    /// The controller's release.
    pub juju: String,
    /// Everything.
    pub status: FullStatus,
    /// What administrators switched off.
    pub blocks: Vec<Block>,
    /// Source and target, where both are in this model.
    pub pair: Option<(Configured, Configured)>,
}

/// An application as it is configured.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Its name.
    pub name: String,
    /// Charm and options.
    pub application: ApplicationConfig,
    /// Its resources.
    pub resources: ApplicationResources,
}

/// Looks at the model, if we may.
pub(super) async fn look(look: &Look) -> Model {
    let login = match &look.controller {
        Credentials::NotGiven => return Model::NotAsked,
        Credentials::Unusable(why) => return Model::Unseen(why.clone()),
        Credentials::Given(login) => login,
    };
    let seen = async {
        let session = login.open(TIMING).await?;
        let seen = see(&session, look, &login.username).await?;
        session.close().await;
        Ok::<Seen, Error>(seen)
    };
    match seen.await {
        Ok(seen) => Model::Seen(Box::new(seen)),
        Err(error) => Model::Unseen(error.to_string()),
    }
}

async fn see(session: &Session, look: &Look, user: &str) -> Result<Seen, Error> {
    let (source, target) = (&look.ends.source_identity, &look.ends.target_identity);
    let pair = match source.here && target.here && source.name != target.name {
        true => Some((configured(session, &source.name).await?, configured(session, &target.name).await?)),
        false => None,
    };
    Ok(Seen {
        user: user.to_owned(),
        juju: session.login().server_version.clone(),
        status: session.full_status().await?,
        blocks: session.blocks().await?,
        pair,
    })
}

async fn configured(session: &Session, name: &str) -> Result<Configured, Error> {
    Ok(Configured {
        name: name.to_owned(),
        application: session.application(name).await?,
        resources: session.resources(name).await?,
    })
}

/// Whether refresh and `run-migration` are made by us.
pub(super) fn controller(facts: &Facts) -> Judgement {
    let by_hand = "or refresh the target application and run its run-migration by hand when the action says so";
    match &facts.model {
        Model::NotAsked => good("no controller-credentials: refresh and run-migration are typed by a person"),
        Model::Unseen(why) => hint(why, format!("mend that, {by_hand}")),
        Model::Seen(seen) => match blocking(&seen.blocks, Change::Alter) {
            Some(block) => hint(
                format!("juju disable-command stops every change of the model (\"{}\")", block.message),
                format!("juju enable-command when it may be changed, {by_hand}"),
            ),
            None if !facts.look.ends.target_identity.here => hint(
                "the target application is in another model, which is not changed from here",
                "refresh it and run its run-migration by hand when the action says so",
            ),
            None => good(format!("user {} may change the model, Juju {}", seen.user, seen.juju)),
        },
    }
}

/// Whether the target application is set up as the source is.
pub(super) fn configuration(facts: &Facts) -> Judgement {
    let Model::Seen(seen) = &facts.model else {
        return good("options and relations of both applications are only compared with controller-credentials");
    };
    let Some((source, target)) = &seen.pair else {
        return good("options and relations were not compared: not both applications are in this model");
    };
    let mut differences = relations(&seen.status, source, target);
    differences.extend(options(source, target));
    differences.extend(resources(source, target));
    if differences.is_empty() {
        return good(format!("{} has the options and relations of {}", target.name, source.name));
    }
    hint(
        differences.join("; "),
        format!(
            "give {0} what {1} has (juju config {0}, juju integrate {0}), unless the difference is meant",
            target.name, source.name
        ),
    )
}

/// What is at the other end of each endpoint, but for those that are meant to differ.
fn related<'a>(status: &'a FullStatus, name: &str) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for relation in &status.relations {
        let [one, other] = relation.endpoints.as_slice() else { continue };
        for (own, remote) in [(one, other), (other, one)] {
            if own.application == name && !OWN.contains(&own.name.as_str()) {
                found.entry(&own.name).or_default().insert(&remote.application);
            }
        }
    }
    found
}

/// Relations that only the source has, those first without which users notice something.
fn relations(status: &FullStatus, source: &Configured, target: &Configured) -> Vec<String> {
    let (ours, theirs) = (related(status, &source.name), related(status, &target.name));
    let place = |endpoint: &str| MATTERS.iter().position(|part| endpoint.contains(part)).unwrap_or(MATTERS.len());
    let mut lacking: Vec<(&str, String)> = Vec::new();
    for (endpoint, others) in ours {
        let there = theirs.get(endpoint).cloned().unwrap_or_default();
        // Another application of the same kind may stand there for the target.
        if there.len() < others.len() {
            let missing: Vec<&str> = others.difference(&there).copied().collect();
            lacking.push((endpoint, missing.join(", ")));
        }
    }
    lacking.sort_by_key(|(endpoint, _)| (place(endpoint), *endpoint));
    let told = |(endpoint, others): (&str, String)| format!("{} lacks {endpoint} ({others})", target.name);
    lacking.into_iter().map(told).collect()
}

/// Options with other values. Their names only: a value may be secret.
fn options(source: &Configured, target: &Configured) -> Option<String> {
    let theirs = &target.application.config;
    let differs = |name: &&String| match (source.application.config.get(*name), theirs.get(*name)) {
        (Some(ours), Some(theirs)) => ours.value != theirs.value,
        _ => false,
    };
    let names: Vec<&str> = source.application.config.keys().filter(differs).map(String::as_str).collect();
    (!names.is_empty()).then(|| format!("{} has other values of {}", target.name, names.join(", ")))
}

/// Images of the operator's own.
fn resources(source: &Configured, target: &Configured) -> Option<String> {
    let own = |of: &Configured| -> BTreeSet<String> {
        let uploads = of.resources.resources.iter().filter(|resource| resource.origin == "upload");
        uploads.map(|resource| resource.name.clone()).collect()
    };
    let (ours, theirs) = (own(source), own(target));
    let names: Vec<&str> = ours.symmetric_difference(&theirs).map(String::as_str).collect();
    (!names.is_empty())
        .then(|| format!("only one of {} and {} has an own {}", source.name, target.name, names.join(", ")))
}
