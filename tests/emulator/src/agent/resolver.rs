//! What a unit does next: Juju's order of relation-created, leadership,
//! secrets, actions, juju-exec and the other hooks.

use std::time::{Duration, Instant};

use crate::event::{Event, RelationEvent};
use crate::world::{Life, LocalRelation, Operation, Relation, Status, Unit, UnitBag, UnitKey, World};

/// Shows the agent relations made since it last looked, and enters their
/// scope: from now on the other side can see this unit.
pub(crate) fn synchronise_relations(world: &mut World, key: &UnitKey) {
    let Some(unit) = world.unit(key) else { return };
    // Not while a hook is queued: an agent that has start to run does not look.
    if !unit.installed || unit.failed.is_some() || unit.pending.is_some() || unit.life != Life::Alive {
        return;
    }
    // A relation that ended before the charm heard of it leaves no trace.
    let unheard: Vec<u64> = unit
        .relations
        .iter()
        .filter(|(id, local)| !local.created && world.relations.get(id).is_none_or(|relation| relation.dying))
        .map(|(id, _)| *id)
        .collect();
    for id in unheard {
        super::run::leave(world, key, id);
    }
    let mut entered = Vec::new();
    for (id, relation) in &mut world.relations {
        let end = relation.ends.iter().position(|end| end.model == key.model && end.application == key.application);
        let Some(end) = end.filter(|_| !relation.dying) else { continue };
        if relation.ends[end].units.contains_key(&key.number) {
            continue;
        }
        let mut bag = UnitBag { bag: Default::default(), in_scope: true };
        // The address of our hosts: loopback, as everything runs on one.
        bag.bag.merge(&[("ingress-address", "127.0.0.1"), ("egress-subnets", "127.0.0.1/32")].map(own).into());
        relation.ends[end].units.insert(key.number, bag);
        entered.push((*id, end));
    }
    if let Some(unit) = world.unit_mut(key) {
        for (id, end) in entered {
            unit.relations.insert(id, LocalRelation { end, ..Default::default() });
        }
    }
}

fn own((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// What may come next, the default first; several only where a real Juju's
/// order is arbitrary.
pub(crate) fn candidates(world: &World, key: &UnitKey) -> Vec<Operation> {
    let Some(unit) = world.unit(key) else { return Vec::new() };
    let hook = |event: Event| vec![Operation::Hook(event)];
    if let Some(pending) = unit.pending.as_ref().filter(|_| !unit.installed) {
        return hook(pending.clone());
    }
    if !unit.installed && unit.failed.is_none() {
        return hook(Event::Install);
    }
    if unit.failed.is_none() && unit.pending.is_none() && unit.life == Life::Alive {
        let created = created_candidates(world, unit);
        if !created.is_empty() {
            return created;
        }
        if world.is_leader(key) && !unit.leader_elected {
            return hook(Event::LeaderElected);
        }
    }
    if unit.failed.is_none()
        && let Some(event) = unit.secret_events.front()
    {
        return hook(event.clone());
    }
    if let Some(model) = world.model(&key.model) {
        let mine = |task: &crate::world::Task| task.application == key.application && task.unit == key.number;
        let pending = model.tasks.iter().find(|(_, task)| task.status == "pending" && mine(task));
        // Also in error, but not while other code is about to come.
        let upgrading = unit.failed.is_none() && (unit.upgrade_pending || unit.pending == Some(Event::UpgradeCharm));
        if let (Some((id, _)), true) = (pending, unit.installed && !upgrading) {
            return vec![Operation::Action(*id)];
        }
    }
    if let Some(request) = unit.execute.front() {
        return vec![Operation::Execute(request.id)];
    }
    if let Some(failed) = &unit.failed {
        let due = failed.retry_at <= Instant::now();
        return if due { hook(failed.event.clone()) } else { Vec::new() };
    }
    if let Some(pending) = &unit.pending {
        return hook(pending.clone());
    }
    if unit.life == Life::Dying { dying_candidates(world, key, unit) } else { idle_candidates(world, key, unit) }
}

fn idle_candidates(world: &World, key: &UnitKey, unit: &Unit) -> Vec<Operation> {
    if unit.upgrade_pending {
        return vec![Operation::Hook(Event::UpgradeCharm)];
    }
    let mut candidates = Vec::new();
    if unit.config_changed > 0 {
        candidates.push(Operation::Hook(Event::ConfigChanged));
    }
    if !unit.started {
        return candidates;
    }
    for (relation, local) in known_relations(world, unit) {
        candidates.extend(
            relation_candidates(relation, local, key.number, world.is_leader(key)).into_iter().map(Operation::Hook),
        );
    }
    if candidates.is_empty() && unit.next_update_status <= Instant::now() {
        candidates.push(Operation::Hook(Event::UpdateStatus));
    }
    candidates
}

/// Relations whose end has come for this unit, then stop and remove.
fn dying_candidates(world: &World, key: &UnitKey, unit: &Unit) -> Vec<Operation> {
    let own = key.unit_name();
    for (relation, local) in known_relations(world, unit) {
        if let Some((number, _)) = local.members.first_key_value() {
            let mut event = relation_event(relation, local, Some(*number));
            event.departing_unit = Some(own);
            return vec![Operation::Hook(Event::RelationDeparted(event))];
        }
        if !relation.is_peer() {
            return vec![Operation::Hook(Event::RelationBroken(relation_event(relation, local, None)))];
        }
    }
    vec![Operation::Hook(if unit.stopped { Event::Remove } else { Event::Stop })]
}

/// Non-peer relations first, as Juju takes them.
fn known_relations<'a>(world: &'a World, unit: &'a Unit) -> Vec<(&'a Relation, &'a LocalRelation)> {
    let mut known: Vec<_> = unit
        .relations
        .iter()
        .filter_map(|(id, local)| world.relations.get(id).map(|relation| (relation, local)))
        .collect();
    known.sort_by_key(|(relation, _)| relation.is_peer());
    known
}

fn created_candidates(world: &World, unit: &Unit) -> Vec<Operation> {
    let uncreated =
        known_relations(world, unit).into_iter().filter(|(relation, local)| !local.created && !relation.dying);
    let uncreated: Vec<_> = uncreated.collect();
    let peers_only = uncreated.iter().all(|(relation, _)| relation.is_peer());
    uncreated
        .into_iter()
        .filter(|(relation, _)| peers_only || !relation.is_peer())
        .map(|(relation, local)| Operation::Hook(Event::RelationCreated(relation_event(relation, local, None))))
        .collect()
}

/// The next hooks of one relation. Between the application's data and a
/// unit's joining the order is arbitrary; the data comes first by default.
fn relation_candidates(relation: &Relation, local: &LocalRelation, own_number: u32, leader: bool) -> Vec<Event> {
    let event = |unit: Option<u32>| relation_event(relation, local, unit);
    if relation.dying {
        return match local.members.first_key_value() {
            Some((number, _)) => vec![Event::RelationDeparted(departing(event(Some(*number))))],
            None => vec![Event::RelationBroken(event(None))],
        };
    }
    if let Some(number) = local.owed_changed {
        return vec![Event::RelationChanged(event(Some(number)))];
    }
    let remote = &relation.ends[relation.remote_end(local.end)];
    let mut events = Vec::new();
    // What a leader writes for its application reaches the other units of a peer relation, not itself: the leader of
    // the real Kratos charm starts its server only at its next hook.
    let own_writing = relation.is_peer() && leader;
    if remote.application_bag.version > local.application_version && !own_writing {
        events.push(Event::RelationChanged(event(None)));
    }
    for number in local.members.keys() {
        if !remote.units.get(number).is_some_and(|unit| unit.in_scope) {
            events.push(Event::RelationDeparted(departing(event(Some(*number)))));
        }
    }
    for (number, unit) in remote.units.iter().filter(|(_, unit)| unit.in_scope) {
        match local.members.get(number) {
            // In a peer relation, our own unit is no remote unit.
            None if !(relation.is_peer() && *number == own_number) => {
                events.push(Event::RelationJoined(event(Some(*number))))
            }
            Some(seen) if unit.bag.version > *seen => events.push(Event::RelationChanged(event(Some(*number)))),
            _ => {}
        }
    }
    events
}

fn departing(mut event: RelationEvent) -> RelationEvent {
    event.departing_unit = event.remote_unit.clone();
    event
}

fn relation_event(relation: &Relation, local: &LocalRelation, unit: Option<u32>) -> RelationEvent {
    let own = &relation.ends[local.end];
    let remote = &relation.ends[relation.remote_end(local.end)];
    RelationEvent {
        endpoint: own.endpoint.clone(),
        id: format!("{}:{}", own.endpoint, own.id),
        remote_application: remote.seen_as.clone(),
        remote_unit: unit.map(|number| format!("{}/{number}", remote.seen_as)),
        departing_unit: None,
    }
}

/// Marks an operation as begun: its cause is used up.
pub(crate) fn take(world: &mut World, key: &UnitKey, operation: &Operation) {
    let Operation::Hook(event) = operation else { return };
    let retried = world.unit(key).is_some_and(|unit| {
        unit.pending.as_ref() == Some(event) || unit.failed.as_ref().is_some_and(|failed| failed.event == *event)
    });
    if let Some(unit) = world.unit_mut(key) {
        unit.pending = None;
        unit.events.push(event.name());
        match event {
            Event::Install => unit.workload = Status::new("maintenance", "installing charm software"),
            Event::Stop => unit.workload = Status::new("maintenance", "stopping charm software"),
            Event::Remove => unit.workload = Status::new("maintenance", "cleaning up prior to charm deletion"),
            Event::LeaderElected => unit.leader_elected = true,
            Event::UpgradeCharm => unit.upgrade_pending = false,
            Event::ConfigChanged => {
                unit.config_changed = unit.config_changed.saturating_sub(1);
                unit.config_repeats = unit.config_changed > 0;
            }
            Event::SecretChanged { .. } | Event::SecretRemove { .. } => {
                unit.secret_events.retain(|other| other != event)
            }
            _ => {}
        }
    }
    if !retried && event.relation().is_some() {
        take_relation(world, key, event);
    }
}

/// Moves what the agent has shown of a relation past this event.
fn take_relation(world: &mut World, key: &UnitKey, event: &Event) {
    let Some((id, number)) = locate(world, key, event) else { return };
    let Some(relation) = world.relations.get(&id).cloned() else { return };
    let Some(local) = world.unit_mut(key).and_then(|unit| unit.relations.get_mut(&id)) else { return };
    let remote = &relation.ends[relation.remote_end(local.end)];
    match (event, number) {
        (Event::RelationCreated(_), _) => local.created = true,
        (Event::RelationJoined(_), Some(number)) => {
            local.members.insert(number, 0);
            local.owed_changed = Some(number);
        }
        (Event::RelationChanged(_), Some(number)) => {
            local.owed_changed = None;
            let version = remote.units.get(&number).map_or(0, |unit| unit.bag.version);
            local.members.insert(number, version);
        }
        (Event::RelationChanged(_), None) => local.application_version = remote.application_bag.version,
        (Event::RelationDeparted(_), Some(number)) => {
            local.members.remove(&number);
            if local.owed_changed == Some(number) {
                local.owed_changed = None;
            }
        }
        _ => {}
    }
}

/// The relation's key and the remote unit's number.
pub(crate) fn locate(world: &World, key: &UnitKey, event: &Event) -> Option<(u64, Option<u32>)> {
    let event = event.relation()?;
    let number: u64 = event.id.rsplit(':').next()?.parse().ok()?;
    let id = world.unit(key)?.relations.iter().find_map(|(id, local)| {
        let end = &world.relations.get(id)?.ends[local.end];
        (end.id == number && end.endpoint == event.endpoint).then_some(*id)
    })?;
    let unit = event.remote_unit.as_ref().and_then(|unit| unit.rsplit('/').next()?.parse().ok());
    Some((id, unit))
}

/// When the unit must look again though nothing changes.
pub(crate) fn next_timer(world: &World, key: &UnitKey) -> Instant {
    let far = Instant::now() + Duration::from_secs(60);
    world.unit(key).map_or(far, |unit| match &unit.failed {
        Some(failed) => failed.retry_at,
        None => unit.next_update_status,
    })
}
