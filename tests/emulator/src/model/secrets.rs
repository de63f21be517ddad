//! User secrets.

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
