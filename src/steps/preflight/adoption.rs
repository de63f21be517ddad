//! Who is who, as the model shows it: which applications a new coordinator has to be integrated with, and whose consumers
//! would not be reached by a flip.

use super::judgement::{Judgement, good, hint};
use super::model::{Model, TIMING};
use super::{Facts, typed::Typed};
use crate::apps::{App, HYDRA, KRATOS};
use crate::controller::settled::partners;
use crate::controller::{ApplicationStatus, Error, FullStatus};
use crate::steps::Credentials;
use crate::steps::through_controller::{consumers_elsewhere, consumers_of, move_commands};

/// Where Kratos and Hydra ask for their database.
const DATABASE: &str = "pg-database";

/// Whether a flip reaches every consumer.
pub(super) fn consumers(facts: &Facts) -> Judgement {
    let Model::Seen(seen) = &facts.model else {
        return good("who takes the source's address from itself is only seen with controller-credentials");
    };
    let (source, ours) = (&facts.look.ends.source_identity, &facts.look.coordinator);
    if source.name.is_empty() {
        return good("who takes the source's address from itself was not looked for: it has no name in this model");
    }
    let endpoint = facts.look.app.consumers_endpoint;
    let provider = format!("{}:{endpoint}", source.name);
    let found = consumers_of(&seen.status, &provider, ours);
    let elsewhere = consumers_elsewhere(&seen.status, &provider);
    if found.is_empty() && elsewhere == 0 {
        let unseen = match source.elsewhere {
            Some(_) => "; who does in its own model is not seen from here",
            None => "",
        };
        return good(format!("nobody in this model takes the address of {} from itself{unseen}", source.name));
    }
    let own = format!("{ours}:{endpoint}");
    let commands: Vec<String> = found.iter().flat_map(|consumer| move_commands(consumer, &provider, &own)).collect();
    let (mut whom, mut cures) = (Vec::new(), Vec::new());
    if !found.is_empty() {
        whom.push(found.join(", "));
        cures.push(format!("run juju run {ours}/leader adopt, or {}", commands.join(" and then ")));
    }
    if elsewhere > 0 {
        let model = &seen.status.model.name;
        whom.push(format!("{elsewhere} from other models"));
        cures.push(format!(
            "move those of other models there: here juju offer {ours}:{endpoint}, and in their model juju consume \
             {model}.{ours}, juju remove-relation <consumer>:{endpoint} <{} there> and then juju integrate \
             <consumer>:{endpoint} {ours}",
            source.name
        ));
    }
    hint(
        format!("a flip would not reach {}: related to {} itself", whom.join(" and "), source.name),
        format!("{}; each is without the address while its hooks run", cures.join("; ")),
    )
    .typed(commands.into_iter().map(Typed::Command))
}

/// The commands that integrate a coordinator with what it lacks, and move the consumers; none where the model leaves a
/// choice, or may not be looked at.
pub async fn propose(controller: &Credentials, coordinator: &str) -> Vec<String> {
    let Credentials::Given(login) = controller else { return Vec::new() };
    let looked = async {
        let session = login.open(TIMING).await?;
        let status = session.full_status().await?;
        session.close().await;
        Ok::<FullStatus, Error>(status)
    };
    match looked.await {
        Ok(status) => proposed(&status, coordinator),
        Err(error) => {
            log::warn!("{error}");
            Vec::new()
        }
    }
}

fn proposed(status: &FullStatus, coordinator: &str) -> Vec<String> {
    // Two of a kind, of which one has the consumers.
    let pairs: Vec<(&App, String, String)> =
        [&KRATOS, &HYDRA].into_iter().filter_map(|app| pair(status, app, coordinator)).collect();
    let [(app, source, target)] = pairs.as_slice() else { return Vec::new() };
    let endpoint = app.consumers_endpoint;
    let mut commands = Vec::new();
    for (side, application) in [("source", source), ("target", target)] {
        let mut lacks = |ours: String, theirs: String| {
            let ours = format!("{coordinator}:{ours}");
            if partners(status, &ours).is_empty() {
                commands.push(format!("juju integrate {ours} {theirs}"));
            }
        };
        if let [database] = partners(status, &format!("{application}:{DATABASE}")).as_slice() {
            lacks(format!("{side}-database"), database.clone());
        }
        lacks(format!("{side}-{}", app.name), format!("{application}:{endpoint}"));
    }
    let provider = format!("{source}:{endpoint}");
    let own = format!("{coordinator}:{endpoint}");
    for consumer in consumers_of(status, &provider, coordinator) {
        commands.extend(move_commands(&consumer, &provider, &own));
    }
    commands
}

/// Source and target, where exactly one of two has consumers.
fn pair<'a>(status: &FullStatus, app: &'a App, coordinator: &str) -> Option<(&'a App, String, String)> {
    let is_one = |found: &ApplicationStatus| charm(&found.charm) == app.name;
    let named: Vec<&String> =
        status.applications.iter().filter(|(_, found)| is_one(found)).map(|(name, _)| name).collect();
    let [one, other] = named.as_slice() else { return None };
    let has = |name: &str| !consumers_of(status, &format!("{name}:{}", app.consumers_endpoint), coordinator).is_empty();
    match (has(one), has(other)) {
        (true, false) => Some((app, (*one).clone(), (*other).clone())),
        (false, true) => Some((app, (*other).clone(), (*one).clone())),
        _ => None,
    }
}

/// A charm's name, of `ch:amd64/kratos-512`.
fn charm(url: &str) -> &str {
    let last = url.rsplit(['/', ':']).next().unwrap_or(url);
    last.rsplit_once('-').map_or(last, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{RelationEndpointStatus, RelationStatus};

    fn model(charms: &[(&str, &str)], relations: &[(&str, &str)]) -> FullStatus {
        let end = |text: &str| {
            let (application, name) = text.split_once(':').unwrap();
            RelationEndpointStatus { application: application.into(), name: name.into(), ..Default::default() }
        };
        let applications = charms.iter().map(|(name, charm)| {
            ((*name).to_owned(), ApplicationStatus { charm: (*charm).to_owned(), ..Default::default() })
        });
        let relations = relations.iter().enumerate().map(|(id, (one, other))| RelationStatus {
            id: id as i64,
            endpoints: vec![end(one), end(other)],
            ..Default::default()
        });
        FullStatus { applications: applications.collect(), relations: relations.collect(), ..Default::default() }
    }

    const CHARMS: [(&str, &str); 5] = [
        ("green", "ch:amd64/kratos-383"),
        ("kratos", "ch:amd64/kratos-383"),
        ("login-ui", "ch:amd64/identity-platform-login-ui-operator-146"),
        ("db", "ch:amd64/postgresql-k8s-281"),
        ("coordinator", "local:identity-migration-coordinator-0"),
    ];

    #[test]
    fn the_one_with_consumers_is_the_source() {
        let mut relations = vec![
            ("kratos:pg-database", "db:database"),
            ("green:pg-database", "db-new:database"),
            ("kratos:kratos-info", "login-ui:kratos-info"),
        ];
        let lines = proposed(&model(&CHARMS, &relations), "coordinator");
        let integrates = [
            "juju integrate coordinator:source-database db:database",
            "juju integrate coordinator:source-kratos kratos:kratos-info",
            "juju integrate coordinator:target-database db-new:database",
            "juju integrate coordinator:target-kratos green:kratos-info",
            "juju remove-relation login-ui:kratos-info kratos:kratos-info",
            "juju integrate login-ui:kratos-info coordinator:kratos-info",
        ];
        assert_eq!(lines, integrates);
        // What is there already is not proposed again.
        relations.push(("coordinator:source-database", "db:database"));
        assert_eq!(proposed(&model(&CHARMS, &relations), "coordinator"), integrates[1..]);
    }

    #[test]
    fn where_there_is_a_choice_nothing_is_proposed() {
        let both = [("kratos:kratos-info", "login-ui:kratos-info"), ("green:kratos-info", "login-ui:kratos-info")];
        assert_eq!(proposed(&model(&CHARMS, &both), "coordinator"), Vec::<String>::new());
        assert_eq!(proposed(&model(&CHARMS, &[]), "coordinator"), Vec::<String>::new());
        assert_eq!(proposed(&model(&CHARMS[1..], &both[..1]), "coordinator"), Vec::<String>::new());
    }
}
