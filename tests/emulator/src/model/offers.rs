//! Cross-model relations: offers and their consumers.

use anyhow::{Context as _, Result, bail};

use super::Model;
use crate::world::{End, Offer, Relation};

impl Model {
    /// Offers endpoints of an application; the address is what other models
    /// consume.
    pub fn offer(&self, application: &str, endpoints: &[&str], name: Option<&str>) -> Result<String> {
        let mut world = self.shared.lock();
        let known = world.model(&self.name).and_then(|model| model.applications.get(application));
        let known = known.with_context(|| format!("application {application:?} not found"))?;
        for endpoint in endpoints {
            if !known.charm.endpoints.contains_key(*endpoint) {
                bail!("application {application:?} has no endpoint {endpoint:?}");
            }
        }
        let address = format!("admin/{}.{}", self.name, name.unwrap_or(application));
        let offer = Offer {
            model: self.name.clone(),
            application: application.to_owned(),
            endpoints: endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect(),
        };
        world.offers.insert(address.clone(), offer);
        Ok(address)
    }

    /// Makes an offer of another model relatable here under a name.
    pub fn consume(&self, address: &str, name: Option<&str>) -> Result<String> {
        let mut world = self.shared.lock();
        let full = if address.contains('/') { address.to_owned() } else { format!("admin/{address}") };
        if !world.offers.contains_key(&full) {
            bail!("application offer {full:?} not found");
        }
        let default = full.rsplit('.').next().unwrap_or(&full).to_owned();
        let name = name.map_or(default, str::to_owned);
        let model = world.models.get_mut(&self.name).context("the model is gone")?;
        // Asked for once more it is there.
        let other = model.consumed.get(&name).is_some_and(|known| *known != full);
        if model.applications.contains_key(&name) || other {
            bail!("cannot consume {full:?}: {name:?} already exists");
        }
        model.consumed.insert(name.clone(), full);
        Ok(name)
    }

    /// What was consumed under this name is not relatable here any more. Its relations have to be
    /// gone before; Juju would take them along.
    pub fn remove_saas(&self, name: &str) -> Result<()> {
        let mut world = self.shared.lock();
        let own = |end: &End| end.model == self.name;
        let other = |end: &End| !own(end) && end.seen_as == name;
        let uses = |relation: &Relation| relation.ends.iter().any(own) && relation.ends.iter().any(other);
        if world.relations.values().any(uses) {
            bail!("cannot remove SaaS {name:?}: it is related");
        }
        let model = world.models.get_mut(&self.name).context("the model is gone")?;
        model.consumed.remove(name).map(drop).with_context(|| format!("SaaS application {name:?} not found"))
    }
}
