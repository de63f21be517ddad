//! The end of a run that ended well: all of its writes, or none.

use crate::context::SecretChange;
use crate::event::Event;
use crate::session::Session;
use crate::world::{Grant, Owner, Secret};

impl Session<'_> {
    /// Applies the run's writes in one go; the error is the controller's
    /// reason, and then nothing was written.
    pub fn commit(&mut self) -> Result<(), String> {
        self.check_leadership()?;
        self.check_secrets()?;
        let changes = std::mem::take(&mut self.context.secret_changes);
        for change in changes {
            self.apply_secret(change);
        }
        self.apply_relations();
        let state = self.state();
        let ports = self.ports();
        let key = self.context.key.clone();
        if let Some(unit) = self.world.unit_mut(&key) {
            unit.state = state;
            unit.ports = ports.into_iter().collect();
        }
        Ok(())
    }

    /// Application data is written under the leadership lease.
    fn check_leadership(&self) -> Result<(), String> {
        let writes_application = self.context.relation_writes.keys().any(|(_, of_application)| *of_application)
            || self.context.secret_changes.iter().any(|change| match change {
                SecretChange::Add(new) => !new.by_unit,
                SecretChange::Set { id, .. }
                | SecretChange::Grant { id, .. }
                | SecretChange::Revoke { id, .. }
                | SecretChange::Remove { id, .. } => {
                    self.world.secrets.get(id).is_some_and(|secret| matches!(secret.owner, Owner::Application(_)))
                }
            });
        if writes_application && !self.world.is_leader(&self.context.key) {
            return Err("checking leadership continuity: lease not held".into());
        }
        Ok(())
    }

    fn check_secrets(&self) -> Result<(), String> {
        let unit = self.context.key.unit_name();
        for change in &self.context.secret_changes {
            match change {
                SecretChange::Add(new) if !new.label.is_empty() => {
                    let clash = self.world.secrets.values().any(|secret| {
                        self.world.owns(&self.context.key, secret)
                            && secret.label == new.label
                            && matches!(secret.owner, Owner::Unit(_)) == new.by_unit
                    });
                    if clash {
                        return Err(format!("secret with label \"{}\" already exists", new.label));
                    }
                }
                SecretChange::Set { id, .. } => {
                    // A secret that is gone is skipped silently by 4.0.
                    let foreign =
                        self.world.secrets.get(id).is_some_and(|secret| !self.world.owns(&self.context.key, secret));
                    if foreign {
                        return Err(format!("\"{unit}\" is not allowed to manage this secret"));
                    }
                }
                SecretChange::Grant { relation, .. } => self.check_grant(*relation)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// A grant needs a living relation, and from another model the offering
    /// side.
    fn check_grant(&self, key: u64) -> Result<(), String> {
        let relation = self.world.relations.get(&key).filter(|relation| !relation.dying);
        let Some(relation) = relation else {
            return Err("granting secret access: relation not found or not alive".into());
        };
        let own = self.world.unit(&self.context.key).and_then(|unit| unit.relations.get(&key)).map(|local| local.end);
        if relation.offering_end.is_some() && relation.offering_end != own {
            return Err("sharing consumer secrets across a cross model relation not supported".into());
        }
        Ok(())
    }

    fn apply_secret(&mut self, change: SecretChange) {
        let key = self.context.key.clone();
        match change {
            SecretChange::Add(new) => {
                let owner =
                    if new.by_unit { Owner::Unit(key.unit_name()) } else { Owner::Application(key.application) };
                let secret = Secret {
                    model: key.model,
                    owner,
                    label: new.label,
                    description: new.description,
                    revisions: [(1, new.content)].into(),
                    grants: Vec::new(),
                    consumers: Default::default(),
                };
                self.world.secrets.insert(new.id, secret);
            }
            SecretChange::Set { id, label, description, content } => {
                if let Some(secret) = self.world.secrets.get_mut(&id) {
                    if let Some(label) = label {
                        secret.label = label;
                    }
                    if let Some(description) = description {
                        secret.description = description;
                    }
                }
                self.world.update_secret(&id, content);
            }
            SecretChange::Grant { id, relation, unit } => {
                let Some((model, application)) = self.world.relations.get(&relation).and_then(|found| {
                    let own = self.world.unit(&key)?.relations.get(&relation)?.end;
                    let remote = &found.ends[found.remote_end(own)];
                    Some((remote.model.clone(), remote.application.clone()))
                }) else {
                    return;
                };
                let subject = match unit.as_deref().and_then(|unit| unit.rsplit_once('/')) {
                    Some((_, number)) => format!("{application}/{number}"),
                    None => application,
                };
                let reader = subject.split('/').next().unwrap_or_default().to_owned();
                let grant = Grant { model, subject, relation: Some(relation) };
                if let Some(held) = self.world.application_mut(&key).and_then(|owner| owner.withheld.get_mut(&reader)) {
                    held.push((id, grant));
                    return;
                }
                if let Some(secret) = self.world.secrets.get_mut(&id)
                    && !secret.grants.contains(&grant)
                {
                    secret.grants.push(grant);
                }
            }
            SecretChange::Revoke { id, subject } => {
                if let Some(secret) = self.world.secrets.get_mut(&id) {
                    secret.grants.retain(|grant| grant.subject != subject);
                }
            }
            SecretChange::Remove { id, revision: None } => {
                self.world.secrets.remove(&id);
            }
            SecretChange::Remove { id, revision: Some(revision) } => {
                if let Some(secret) = self.world.secrets.get_mut(&id) {
                    secret.revisions.remove(&revision);
                }
            }
        }
    }

    fn apply_relations(&mut self) {
        let key = self.context.key.clone();
        for ((relation, of_application), changes) in std::mem::take(&mut self.context.relation_writes) {
            let Some(end) = self.world.unit(&key).and_then(|unit| unit.relations.get(&relation)).map(|local| local.end)
            else {
                continue;
            };
            let Some(relation) = self.world.relations.get_mut(&relation) else { continue };
            let end = &mut relation.ends[end];
            if of_application {
                end.application_bag.merge(&changes);
            } else if let Some(unit) = end.units.get_mut(&key.number) {
                unit.bag.merge(&changes);
            }
        }
    }
}

impl crate::world::World {
    /// Adds a revision if the content differs, and tells the units that have
    /// read the secret.
    pub(crate) fn update_secret(&mut self, id: &str, content: std::collections::BTreeMap<String, String>) {
        let Some(secret) = self.secrets.get_mut(id) else { return };
        let latest = secret.latest();
        if content.is_empty() || secret.revisions.get(&latest) == Some(&content) {
            return;
        }
        secret.revisions.insert(latest + 1, content);
        let consumers = secret.consumers.clone();
        for ((model, unit), consumer) in consumers {
            let event = Event::SecretChanged { id: id.to_owned(), label: consumer.label };
            let found = unit.rsplit_once('/').and_then(|(application, number)| {
                let model = self.models.get_mut(&model)?;
                model.applications.get_mut(application)?.units.get_mut(&number.parse().ok()?)
            });
            if let Some(unit) = found
                && !unit.secret_events.contains(&event)
            {
                unit.secret_events.push_back(event);
            }
        }
    }
}
