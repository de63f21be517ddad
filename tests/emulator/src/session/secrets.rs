//! Secrets as a unit reads and writes them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::context::{Answer, NewSecret, Refusal, SecretChange};
use crate::event::Event;
use crate::session::Session;
use crate::world::{Consumer, Owner, Secret, UnitKey, World, random_secret_id};

/// What secret-add and secret-set take.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContentChange {
    pub by_unit: bool,
    pub label: Option<String>,
    pub description: Option<String>,
    pub content: BTreeMap<String, String>,
}

/// The 20 characters of an id in any of the forms of a secret URI.
pub(crate) fn secret_id(uri: &str) -> String {
    let rest = uri.strip_prefix("secret:").unwrap_or(uri);
    rest.rsplit('/').next().unwrap_or(rest).to_owned()
}

impl World {
    /// Owned by this unit or its application.
    pub(crate) fn owns(&self, key: &UnitKey, secret: &Secret) -> bool {
        secret.model == key.model
            && match &secret.owner {
                Owner::Model => false,
                Owner::Application(name) => *name == key.application,
                Owner::Unit(name) => *name == key.unit_name(),
            }
    }

    fn may_read(&self, key: &UnitKey, secret: &Secret) -> bool {
        self.owns(key, secret)
            || secret.grants.iter().any(|grant| {
                grant.model == key.model && (grant.subject == key.application || grant.subject == key.unit_name())
            })
    }

    /// Tells the owner's units that nobody reads a revision any more.
    fn announce_obsolete(&mut self, id: &str, revision: u64) {
        let Some(secret) = self.secrets.get(id) else { return };
        if revision == secret.latest() || secret.consumers.values().any(|consumer| consumer.revision == revision) {
            return;
        }
        let event = Event::SecretRemove { id: id.to_owned(), label: secret.label.clone(), revision };
        let (model, owner) = (secret.model.clone(), secret.owner.clone());
        let Some(model) = self.models.get_mut(&model) else { return };
        let unit = match owner {
            Owner::Model => None,
            Owner::Application(name) => model.applications.get_mut(&name).and_then(|application| {
                let leader = application.leader?;
                application.units.get_mut(&leader)
            }),
            Owner::Unit(name) => name.rsplit_once('/').and_then(|(application, number)| {
                model.applications.get_mut(application)?.units.get_mut(&number.parse().ok()?)
            }),
        };
        if let Some(unit) = unit
            && !unit.secret_events.contains(&event)
        {
            unit.secret_events.push_back(event);
        }
    }
}

impl Session<'_> {
    fn pending_add(&self, id: &str) -> Option<&NewSecret> {
        self.context.secret_changes.iter().find_map(|change| match change {
            SecretChange::Add(new) if new.id == id => Some(new),
            _ => None,
        })
    }

    /// This run's own new content of a secret.
    fn pending_content(&self, id: &str) -> Option<BTreeMap<String, String>> {
        self.context.secret_changes.iter().rev().find_map(|change| match change {
            SecretChange::Add(new) if new.id == id => Some(new.content.clone()),
            SecretChange::Set { id: of, content, .. } if of == id && !content.is_empty() => Some(content.clone()),
            _ => None,
        })
    }

    fn by_label(&self, label: &str) -> Option<String> {
        let pending = self.context.secret_changes.iter().find_map(|change| match change {
            SecretChange::Add(new) if new.label == label => Some(new.id.clone()),
            _ => None,
        });
        let consumer = (self.context.key.model.clone(), self.context.key.unit_name());
        pending.or_else(|| {
            let known = self.world.secrets.iter().find(|(_, secret)| {
                (self.world.owns(&self.context.key, secret) && secret.label == label)
                    || secret.consumers.get(&consumer).is_some_and(|consumer| consumer.label == label)
            });
            known.map(|(id, _)| id.clone())
        })
    }

    /// Reserves a secret and returns its URI.
    pub fn secret_add(&mut self, change: ContentChange) -> Answer<String> {
        check_content(&change.content)?;
        if !change.by_unit && !self.is_leader() {
            return Err(Refusal::failed("this unit is not the leader"));
        }
        let label = change.label.unwrap_or_default();
        let clash = self.context.secret_changes.iter().any(
            |other| matches!(other, SecretChange::Add(new) if new.label == label && new.by_unit == change.by_unit),
        );
        if !label.is_empty() && clash {
            return Err(Refusal::failed(format!("secret with label \"{label}\" already exists")));
        }
        let id = random_secret_id();
        let uuid = self.world.model(&self.context.key.model).map(|model| model.uuid.clone()).unwrap_or_default();
        self.context.secret_changes.push(SecretChange::Add(NewSecret {
            id: id.clone(),
            by_unit: change.by_unit,
            label,
            description: change.description.unwrap_or_default(),
            content: change.content,
        }));
        Ok(format!("secret://{uuid}/{id}"))
    }

    /// New content or labels; a foreign secret is refused at the end only.
    pub fn secret_set(&mut self, uri: &str, change: ContentChange) -> Answer<()> {
        if !change.content.is_empty() {
            check_content(&change.content)?;
        }
        self.context.secret_changes.push(SecretChange::Set {
            id: secret_id(uri),
            label: change.label.filter(|label| !label.is_empty()),
            description: change.description,
            content: change.content,
        });
        Ok(())
    }

    /// Reads content; the first reading pins the revision, `refresh` moves the
    /// pin at once.
    pub fn secret_get(
        &mut self,
        uri: Option<&str>,
        label: Option<&str>,
        peek: bool,
        refresh: bool,
    ) -> Answer<BTreeMap<String, String>> {
        let missing = || Refusal::failed("getting latest secret revision: secret not found");
        let id = match (uri, label) {
            (Some(uri), _) => secret_id(uri),
            (None, Some(label)) => {
                self.by_label(label).ok_or_else(|| Refusal::failed(format!("consumer label \"{label}\" not found")))?
            }
            (None, None) => return Err(Refusal::usage("require either a secret URI or label")),
        };
        if let Some(content) = self.pending_content(&id) {
            return Ok(content);
        }
        let key = self.context.key.clone();
        let secret = self.world.secrets.get(&id).ok_or_else(missing)?;
        if !self.world.may_read(&key, secret) {
            let text = match secret.model == key.model {
                // Across models the owner's controller does not even tell that there is such a secret.
                false => format!("secret \"{id}\" not found"),
                true if self.world.options.version.starts_with("3.") => "permission denied".to_owned(),
                true => format!("\"{}\" is not allowed to read this secret", key.unit_name()),
            };
            return Err(Refusal::failed(text));
        }
        let latest = secret.latest();
        let who = (key.model.clone(), key.unit_name());
        let secret = self.world.secrets.get_mut(&id).ok_or_else(missing)?;
        let consumer = secret.consumers.entry(who).or_insert(Consumer { revision: latest, label: String::new() });
        if let (Some(label), Some(_)) = (label, uri) {
            consumer.label = label.to_owned();
        }
        let before = consumer.revision;
        if refresh {
            consumer.revision = latest;
        }
        let wanted = if peek { latest } else { consumer.revision };
        let content = secret.revisions.get(&wanted).cloned().ok_or_else(missing)?;
        if refresh && before != latest {
            self.world.announce_obsolete(&id, before);
        }
        Ok(content)
    }

    /// Metadata of an owned secret.
    pub fn secret_info(&self, uri: Option<&str>, label: Option<&str>) -> Answer<Value> {
        let id = match (uri, label) {
            (Some(uri), _) => secret_id(uri),
            (None, Some(label)) => self
                .by_label(label)
                .ok_or_else(|| Refusal::failed(format!("secret with label \"{label}\" not found")))?,
            (None, None) => return Err(Refusal::usage("require either a secret URI or label")),
        };
        let missing = || Refusal::failed(format!("secret \"{id}\" not found"));
        if let Some(new) = self.pending_add(&id) {
            let owner = if new.by_unit { "unit" } else { "application" };
            return Ok(json!({ &id: { "revision": 1, "label": new.label, "owner": owner, "rotation": "never" } }));
        }
        let secret = self.world.secrets.get(&id).ok_or_else(missing)?;
        if !self.world.owns(&self.context.key, secret) {
            return Err(missing());
        }
        let owner = if matches!(secret.owner, Owner::Unit(_)) { "unit" } else { "application" };
        let mut info = Map::new();
        info.insert("revision".into(), json!(secret.latest()));
        info.insert("label".into(), json!(secret.label));
        info.insert("owner".into(), json!(owner));
        if !secret.description.is_empty() {
            info.insert("description".into(), json!(secret.description));
        }
        info.insert("rotation".into(), json!("never"));
        let access: Vec<Value> = secret
            .grants
            .iter()
            .map(|grant| json!({ "target": grant.subject, "scope": grant.relation, "role": "view" }))
            .collect();
        if !access.is_empty() {
            info.insert("access".into(), Value::Array(access));
        }
        Ok(json!({ id: info }))
    }

    /// Ids of owned secrets, this run's own excluded as in the recordings.
    pub fn secret_ids(&self) -> Vec<String> {
        let key = &self.context.key;
        let owned = self.world.secrets.iter().filter(|(_, secret)| self.world.owns(key, secret));
        owned.map(|(id, _)| id.clone()).collect()
    }

    fn check_own(&self, id: &str) -> Answer<()> {
        let own = self.pending_add(id).is_some()
            || self.world.secrets.get(id).is_some_and(|secret| self.world.owns(&self.context.key, secret));
        if own { Ok(()) } else { Err(Refusal::failed(format!("secret \"{id}\" not found"))) }
    }

    pub fn secret_grant(&mut self, uri: &str, relation: u64, unit: Option<String>) -> Answer<()> {
        let id = secret_id(uri);
        self.check_own(&id)?;
        self.context.secret_changes.push(SecretChange::Grant { id, relation, unit });
        Ok(())
    }

    pub fn secret_revoke(&mut self, uri: &str, subject: String) -> Answer<()> {
        let id = secret_id(uri);
        self.check_own(&id)?;
        self.context.secret_changes.push(SecretChange::Revoke { id, subject });
        Ok(())
    }

    pub fn secret_remove(&mut self, uri: &str, revision: Option<u64>) -> Answer<()> {
        let id = secret_id(uri);
        self.check_own(&id)?;
        self.context.secret_changes.push(SecretChange::Remove { id, revision });
        Ok(())
    }
}

/// Keys: at least three of lower-case letters, digits and single hyphens.
pub(crate) fn check_content(content: &BTreeMap<String, String>) -> Answer<()> {
    if content.is_empty() {
        return Err(Refusal::usage("missing secret value or filename"));
    }
    for key in content.keys() {
        let letters = key.chars().filter(|c| *c != '-').count();
        let valid = key.starts_with(|c: char| c.is_ascii_lowercase())
            && letters >= 3
            && !key.ends_with('-')
            && !key.contains("--")
            && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !valid {
            return Err(Refusal::usage(format!("key \"{key}\" not valid")));
        }
    }
    Ok(())
}
