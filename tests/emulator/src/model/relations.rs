//! Integrating and separating applications.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use super::Model;
use crate::charm::{CharmFiles, Endpoint, Role};
use crate::world::{End, Offer, Relation, World};

/// One side of a relation to be.
#[derive(Clone)]
struct Side {
    model: String,
    application: String,
    endpoint: String,
    declared: Endpoint,
    /// The local name, for an application consumed from another model.
    alias: Option<String>,
}

impl Model {
    /// Integrates two applications (`application` or `application:endpoint`)
    /// and returns the relation's number in this model.
    pub fn integrate(&self, first: &str, second: &str) -> Result<u64> {
        let mut world = self.shared.lock();
        let firsts = world.sides(&self.name, first)?;
        let seconds = world.sides(&self.name, second)?;
        let mut pairs = Vec::new();
        for left in &firsts {
            for right in &seconds {
                let roles = (left.declared.role, right.declared.role);
                let fits = matches!(roles, (Role::Requires, Role::Provides) | (Role::Provides, Role::Requires));
                if fits && left.declared.interface == right.declared.interface {
                    pairs.push((left.clone(), right.clone()));
                }
            }
        }
        let (left, right) = match pairs.len() {
            0 => bail!("no relations found: {first} and {second} share no interface from a requirer to a provider"),
            1 => pairs.remove(0),
            _ => {
                let found: Vec<String> = pairs
                    .iter()
                    .map(|(left, right)| {
                        format!("\"{}:{} {}:{}\"", left.application, left.endpoint, right.application, right.endpoint)
                    })
                    .collect();
                bail!("ambiguous relation: \"{first} {second}\" could refer to {}", found.join("; "));
            }
        };
        let number = world.relate(&self.name, left, right)?;
        drop(world);
        self.shared.ring();
        Ok(number)
    }

    /// Removes the relation between two applications.
    pub fn remove_relation(&self, first: &str, second: &str) -> Result<()> {
        let mut world = self.shared.lock();
        let id = {
            let firsts = world.sides(&self.name, first)?;
            let seconds = world.sides(&self.name, second)?;
            let is = |end: &End, sides: &[Side]| {
                sides.iter().any(|side| {
                    side.model == end.model && side.application == end.application && side.endpoint == end.endpoint
                })
            };
            let found = world.relations.iter().find(|(_, relation)| {
                !relation.dying
                    && relation.ends.len() == 2
                    && ((is(&relation.ends[0], &firsts) && is(&relation.ends[1], &seconds))
                        || (is(&relation.ends[1], &firsts) && is(&relation.ends[0], &seconds)))
            });
            *found.with_context(|| format!("relation between {first} and {second} not found"))?.0
        };
        world.end_relation(id);
        drop(world);
        self.shared.ring();
        Ok(())
    }

    /// Removes the relation of this number in this model.
    pub fn remove_relation_number(&self, number: u64) -> Result<()> {
        let mut world = self.shared.lock();
        let is = |relation: &Relation| {
            relation.ends.len() == 2 && relation.ends.iter().any(|end| end.model == self.name && end.id == number)
        };
        let found = world.relations.iter().find(|(_, relation)| is(relation)).map(|(id, _)| *id);
        world.end_relation(found.with_context(|| format!("relation {number} not found"))?);
        drop(world);
        self.shared.ring();
        Ok(())
    }
}

impl World {
    fn end_relation(&mut self, id: u64) {
        if let Some(relation) = self.relations.get_mut(&id) {
            relation.dying = true;
        }
        self.collect_relation(id);
    }

    /// Every endpoint that a name can mean.
    fn sides(&self, model: &str, name: &str) -> Result<Vec<Side>> {
        let (application, endpoint) = match name.split_once(':') {
            Some((application, endpoint)) => (application, Some(endpoint)),
            None => (name, None),
        };
        let state = self.model(model).context("the model is gone")?;
        let (owner, real, alias, offered) = match state.consumed.get(application) {
            Some(address) => {
                let offer: &Offer = self.offers.get(address).with_context(|| format!("offer {address:?} not found"))?;
                (&offer.model, &offer.application, Some(application.to_owned()), Some(&offer.endpoints))
            }
            None => (&model.to_owned(), &application.to_owned(), None, None),
        };
        let known = self
            .model(owner)
            .and_then(|state| state.applications.get(real))
            .with_context(|| format!("application {application:?} not found"))?;
        let sides: Vec<Side> = known
            .charm
            .endpoints
            .iter()
            .filter(|(name, declared)| {
                declared.role != Role::Peer
                    && endpoint.is_none_or(|wanted| wanted == **name)
                    && offered.is_none_or(|offered| offered.contains(name))
            })
            .map(|(name, declared)| Side {
                model: owner.clone(),
                application: real.clone(),
                endpoint: name.clone(),
                declared: declared.clone(),
                alias: alias.clone(),
            })
            .collect();
        if let (true, Some(endpoint)) = (sides.is_empty(), endpoint) {
            bail!("application {application:?} has no {endpoint:?} relation");
        }
        Ok(sides)
    }

    fn relate(&mut self, model: &str, left: Side, right: Side) -> Result<u64> {
        let same = |end: &End, side: &Side| {
            end.model == side.model && end.application == side.application && end.endpoint == side.endpoint
        };
        let exists = self.relations.values().any(|relation| {
            relation.ends.len() == 2
                && [(0, 1), (1, 0)]
                    .iter()
                    .any(|(one, other)| same(&relation.ends[*one], &left) && same(&relation.ends[*other], &right))
        });
        if exists {
            bail!(
                "cannot add relation \"{}:{} {}:{}\": relation already exists",
                left.application,
                left.endpoint,
                right.application,
                right.endpoint
            );
        }
        for side in [&left, &right] {
            self.check_limit(side)?;
        }
        let number = self.take_relation_number(model);
        let offering_end = [&left, &right].iter().position(|side| side.alias.is_some());
        let sides = [left, right];
        let mut ends = Vec::new();
        for (place, side) in sides.iter().enumerate() {
            let seen_as = match (offering_end, &side.alias) {
                (Some(_), Some(alias)) => alias.clone(),
                // The offering side sees a synthetic name.
                (Some(offering), None) if offering != place => format!("remote-{}", crate::world::random_hex(32)),
                _ => side.application.clone(),
            };
            let id = if side.model == model { number } else { self.take_relation_number(&side.model) };
            ends.push(End {
                model: side.model.clone(),
                application: side.application.clone(),
                endpoint: side.endpoint.clone(),
                declared: side.declared.clone(),
                id,
                seen_as,
                application_bag: Default::default(),
                units: BTreeMap::new(),
            });
        }
        self.insert_relation(Relation { ends, since: SystemTime::now(), dying: false, offering_end });
        Ok(number)
    }

    fn check_limit(&self, side: &Side) -> Result<()> {
        let count = self.count_relations(&side.model, &side.application, &side.endpoint);
        if let Some(limit) = side.declared.limit.filter(|limit| count + 1 > *limit) {
            bail!(
                "cannot add relation: establishing a new relation for {}:{} would exceed its maximum relation limit of {limit}",
                side.application,
                side.endpoint
            );
        }
        Ok(())
    }

    fn count_relations(&self, model: &str, application: &str, endpoint: &str) -> u64 {
        let ends = self.relations.values().flat_map(|relation| &relation.ends);
        ends.filter(|end| end.model == model && end.application == application && end.endpoint == endpoint).count()
            as u64
    }

    /// A refresh must not bring limits that are exceeded already, nor drop
    /// an endpoint in use.
    pub(crate) fn check_limits(&self, model: &str, application: &str, files: &CharmFiles) -> Result<()> {
        for end in self.relations.values().flat_map(|relation| &relation.ends) {
            if end.model != model || end.application != application {
                continue;
            }
            let Some(declared) = files.endpoints.get(&end.endpoint) else {
                bail!("would break relation \"{application}:{}\"", end.endpoint);
            };
            let count = self.count_relations(model, application, &end.endpoint);
            if let Some(limit) = declared.limit.filter(|limit| count > *limit) {
                bail!(
                    "new charm version imposes a maximum relation limit of {limit} for {application}:{}",
                    end.endpoint
                );
            }
        }
        Ok(())
    }

    pub(crate) fn take_relation_number(&mut self, model: &str) -> u64 {
        self.models.get_mut(model).map_or(0, |model| {
            model.next_relation += 1;
            model.next_relation - 1
        })
    }

    pub(crate) fn insert_relation(&mut self, relation: Relation) {
        self.relations.insert(self.next_relation_key, relation);
        self.next_relation_key += 1;
    }
}
