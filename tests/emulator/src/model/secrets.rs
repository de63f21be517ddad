//! User secrets; and what can happen to a charm's secrets without its code.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::Model;
use crate::session::{check_content, secret_id};
use crate::world::{Grant, Owner, Secret, World, random_secret_id};

impl Model {
    /// Adds a user secret and returns its URI, `secret:<id>`.
    pub fn add_secret(&self, name: &str, content: &[(&str, &str)]) -> Result<String> {
        let content = owned(content);
        check_content(&content)?;
        let id = random_secret_id();
        let secret = Secret {
            model: self.name.clone(),
            owner: Owner::Model,
            label: name.to_owned(),
            description: String::new(),
            revisions: [(1, content)].into(),
            grants: Vec::new(),
            consumers: BTreeMap::new(),
        };
        self.shared.lock().secrets.insert(id.clone(), secret);
        self.shared.ring();
        Ok(format!("secret:{id}"))
    }

    /// New content; units that read the secret get secret-changed.
    pub fn update_secret(&self, secret: &str, content: &[(&str, &str)]) -> Result<()> {
        let content = owned(content);
        check_content(&content)?;
        let mut world = self.shared.lock();
        let id = world.user_secret(&self.name, secret)?;
        world.update_secret(&id, content);
        drop(world);
        self.shared.ring();
        Ok(())
    }

    /// Lets an application read; no hook tells it.
    pub fn grant_secret(&self, secret: &str, application: &str) -> Result<()> {
        let mut world = self.shared.lock();
        let id = world.user_secret(&self.name, secret)?;
        let known = world.model(&self.name).is_some_and(|model| model.applications.contains_key(application));
        known.then_some(()).with_context(|| format!("application {application:?} not found"))?;
        let grant = Grant { model: self.name.clone(), subject: application.to_owned(), relation: None };
        if let Some(secret) = world.secrets.get_mut(&id)
            && !secret.grants.contains(&grant)
        {
            secret.grants.push(grant);
        }
        Ok(())
    }

    /// Id, name, owner and revision of every secret of the model.
    pub(crate) fn secret_rows(&self) -> Vec<Vec<String>> {
        let world = self.shared.lock();
        let own = world.secrets.iter().filter(|(_, secret)| secret.model == self.name);
        own.map(|(id, secret)| {
            let owner = match &secret.owner {
                Owner::Model => "<model>",
                Owner::Application(name) | Owner::Unit(name) => name,
            };
            vec![id.clone(), secret.label.clone(), owner.to_owned(), secret.latest().to_string()]
        })
        .collect()
    }

    pub fn revoke_secret(&self, secret: &str, application: &str) -> Result<()> {
        let mut world = self.shared.lock();
        let id = world.user_secret(&self.name, secret)?;
        if let Some(secret) = world.secrets.get_mut(&id) {
            secret.grants.retain(|grant| grant.subject != application);
        }
        Ok(())
    }
}

/// Whether a grant lets this application, or a unit of it, read.
fn is_for(grant: &Grant, reader: &str) -> bool {
    grant.subject.split('/').next() == Some(reader)
}

/// Takes the grants of an application's charm from one reader.
fn take_grants(world: &mut World, model: &str, owner: &str, reader: &str) -> Vec<(String, Grant)> {
    let mut taken = Vec::new();
    for (id, secret) in world.secrets.iter_mut().filter(|(_, secret)| secret.is_of(model, owner)) {
        let (gone, kept) = std::mem::take(&mut secret.grants).into_iter().partition(|grant| is_for(grant, reader));
        secret.grants = kept;
        let gone: Vec<Grant> = gone;
        taken.extend(gone.into_iter().map(|grant| (id.clone(), grant)));
    }
    taken
}

impl Model {
    /// Keeps what an application's charm grants from another application: grants that stand are revoked, and later
    /// ones do not arrive. No hook tells it.
    pub fn withhold_grants(&self, owner: &str, reader: &str) -> Result<()> {
        let mut world = self.shared.lock();
        let taken = take_grants(&mut world, &self.name, owner, reader);
        let application = world.models.get_mut(&self.name).and_then(|model| model.applications.get_mut(owner));
        let application = application.with_context(|| format!("application {owner:?} not found"))?;
        application.withheld.entry(reader.to_owned()).or_default().extend(taken);
        Ok(())
    }

    /// Revokes what an application's charm granted to another application; later grants arrive. No hook tells it.
    pub fn revoke_grants(&self, owner: &str, reader: &str) {
        take_grants(&mut self.shared.lock(), &self.name, owner, reader);
    }

    /// Lets the grants arrive that were kept back. No hook tells this either.
    pub fn release_grants(&self, owner: &str, reader: &str) -> Result<()> {
        let mut world = self.shared.lock();
        let application = world.models.get_mut(&self.name).and_then(|model| model.applications.get_mut(owner));
        let application = application.with_context(|| format!("application {owner:?} not found"))?;
        let held = application.withheld.remove(reader);
        for (id, grant) in held.with_context(|| format!("nothing of {owner} is withheld from {reader}"))? {
            // Its owner may have removed the secret meanwhile.
            if let Some(secret) = world.secrets.get_mut(&id) {
                secret.grants.push(grant);
            }
        }
        Ok(())
    }

    /// A new revision of a charm's secret, in which these values differ: what its owner's `secret-set` does.
    pub fn rotate_charm_secret(&self, uri: &str, changes: &[(&str, &str)]) -> Result<()> {
        let mut world = self.shared.lock();
        let id = secret_id(uri);
        let secret = world.secrets.get(&id).filter(|secret| !matches!(secret.owner, Owner::Model));
        let secret = secret.with_context(|| format!("no charm owns a secret {uri}"))?;
        let mut content = secret.revisions.get(&secret.latest()).cloned().unwrap_or_default();
        content.extend(owned(changes));
        check_content(&content)?;
        world.update_secret(&id, content);
        drop(world);
        self.shared.ring();
        Ok(())
    }
}

impl World {
    /// A user secret by name or URI.
    fn user_secret(&self, model: &str, secret: &str) -> Result<String> {
        let id = secret_id(secret);
        let found = self.secrets.iter().find(|(known, entry)| {
            entry.model == model && matches!(entry.owner, Owner::Model) && (**known == id || entry.label == secret)
        });
        Ok(found.with_context(|| format!("secret {secret:?} not found"))?.0.clone())
    }
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
