//! Whom users reach through the source's ingress after a flip.

use super::judgement::{Judgement, good, hint};
use super::model::Model;
use super::typed::Typed;
use super::{Facts, typed::End};
use crate::controller::settled::partners;
use crate::steps::through_controller::exchange_commands;

/// Whether a flip takes those along who come through an ingress.
pub(super) fn routes(facts: &Facts) -> Judgement {
    let (app, ends) = (facts.look.app, &facts.look.ends);
    let moves = facts.look.settings.move_routes;
    let unseen = |why: &str| match moves {
        true => hint(
            format!("move-routes is set, but {why}"),
            format!("give controller-credentials, or move {} by hand after the flip", app.route_endpoints[0]),
        ),
        false => good(format!("who has a place at the source's ingress was not looked for: {why}")),
    };
    let Model::Seen(seen) = &facts.model else {
        return unseen("relations are only seen with controller-credentials");
    };
    let (End { name: source, here: true, .. }, End { name: target, here: true, .. }) =
        (&ends.source_identity, &ends.target_identity)
    else {
        return unseen("not both applications are in this model");
    };
    let places = |name: &str, endpoint: &str| partners(&seen.status, &format!("{name}:{endpoint}"));
    for endpoint in app.route_endpoints {
        let (ours, theirs) = (places(source, endpoint), places(target, endpoint));
        if let Some(shared) = ours.iter().find(|place| theirs.contains(place)) {
            let remove = format!("juju remove-relation {target}:{endpoint} {shared}");
            return hint(
                format!("{source} and {target} both have {endpoint} with {shared}: their rules are the same, and which of them serves users is left to chance"),
                format!("{remove}, and relate {target}:{endpoint} to an ingress of its own until the flip"),
            )
            .typed([Typed::Command(remove)]);
        }
    }
    let commands = exchange_commands(&seen.status, app, source, target);
    match (commands.as_slice(), moves) {
        ([], _) => good(format!("{source} has no place at an ingress that a flip would have to move")),
        (_, true) => good(format!("a flip gives {target} the place of {source} at its ingress")),
        (commands, false) => hint(
            format!("a flip leaves {source} at its ingress: users who come through it stay there"),
            format!(
                "juju config {} move-routes=true, or after the flip {}, or lead the ingress' host name to that of {target}",
                facts.look.coordinator,
                commands.join(" and then ")
            ),
        ),
    }
}
