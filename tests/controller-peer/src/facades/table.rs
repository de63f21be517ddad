//! Which facades are offered, in which versions: those that the peer speaks, as both releases list them.

use crate::controller::{Access, Generation};

type Offer = (&'static str, &'static [u64]);

const THREE_MODEL: [Offer; 7] = [
    ("Action", &[7]),
    ("Application", &[15, 16, 17, 18, 19, 20, 21, 22]),
    ("Block", &[2]),
    ("Charms", &[5, 6, 7]),
    ("Client", &[6, 7, 8]),
    ("Pinger", &[1]),
    ("Resources", &[3]),
];
const FOUR_MODEL: [Offer; 7] = [
    ("Action", &[7]),
    ("Application", &[19, 20, 21, 22]),
    ("Block", &[2]),
    ("Charms", &[7]),
    ("Client", &[8]),
    ("Pinger", &[1]),
    ("Resources", &[3]),
];
const THREE_CONTROLLER: [Offer; 2] = [("ModelManager", &[9, 10]), ("Pinger", &[1])];
const FOUR_CONTROLLER: [Offer; 2] = [("ModelManager", &[10, 11]), ("Pinger", &[1])];

/// What a login lists.
pub fn of(generation: Generation, model: bool) -> &'static [Offer] {
    match (generation, model) {
        (Generation::Three, true) => &THREE_MODEL,
        (Generation::Four, true) => &FOUR_MODEL,
        (Generation::Three, false) => &THREE_CONTROLLER,
        (Generation::Four, false) => &FOUR_CONTROLLER,
    }
}

/// The requests that the peer does, and the access that each needs.
pub fn needs(generation: Generation, call: &str) -> Option<Access> {
    let three = generation == Generation::Three;
    Some(match call {
        "Pinger.Ping" | "Resources.ListResources" | "Resources.AddPendingResources" | "ModelManager.ListModels" => {
            Access::None
        }
        "Application.UnitsInfo" | "Application.ApplicationsInfo" | "Application.Leader" if three => Access::None,
        "Application.GetCharmURLOrigin" if three => Access::Write,
        "Client.FullStatus"
        | "Charms.ResolveCharms"
        | "Charms.CharmInfo"
        | "Charms.List"
        | "Charms.ListCharmResources"
        | "Application.Get"
        | "Application.GetCharmURLOrigin"
        | "Application.UnitsInfo"
        | "Application.ApplicationsInfo"
        | "Application.Leader"
        | "Action.Actions"
        | "Action.Operations"
        | "Action.ListOperations"
        | "Block.List" => Access::Read,
        "Charms.AddCharm"
        | "Application.SetCharm"
        | "Application.SetConfigs"
        | "Application.AddRelation"
        | "Application.DestroyRelation"
        | "Action.EnqueueOperation"
        | "Action.Cancel"
        | "Action.ApplicationsCharmsActions" => Access::Write,
        _ => return None,
    })
}
