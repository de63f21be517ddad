//! Relations as a unit sees them.

use std::collections::BTreeMap;

use crate::context::{Answer, Refusal};
use crate::session::Session;
use crate::world::{LocalRelation, Relation};

/// Whose databag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bag {
    Application(String),
    Unit(String),
}

impl Session<'_> {
    /// A relation by its number in this model, if the agent knows it.
    pub fn find_relation(&self, number: u64) -> Option<u64> {
        let unit = self.world.unit(&self.context.key)?;
        unit.relations.iter().find_map(|(key, local)| {
            let relation = self.world.relations.get(key)?;
            (relation.ends[local.end].id == number).then_some(*key)
        })
    }

    /// Reads `7` or `anything:7`; only the number counts.
    pub fn parse_relation(&self, text: &str) -> Answer<u64> {
        let invalid = |why| Refusal::usage(format!("invalid value \"{text}\" for option -r: {why}"));
        let number: u64 =
            text.rsplit(':').next().unwrap_or_default().parse().map_err(|_| invalid("invalid relation id"))?;
        self.find_relation(number).ok_or_else(|| invalid("relation not found"))
    }

    fn local(&self, key: u64) -> Answer<(&Relation, &LocalRelation)> {
        let relation = self.world.relations.get(&key);
        let local = self.world.unit(&self.context.key).and_then(|unit| unit.relations.get(&key));
        relation.zip(local).ok_or_else(|| Refusal::failed("relation not found"))
    }

    /// `<endpoint>:<number>` of every known relation of an endpoint.
    pub fn relation_ids(&self, endpoint: &str) -> Vec<String> {
        let Some(unit) = self.world.unit(&self.context.key) else { return Vec::new() };
        let ends =
            unit.relations.iter().filter_map(|(key, local)| Some(&self.world.relations.get(key)?.ends[local.end]));
        ends.filter(|end| end.endpoint == endpoint).map(|end| format!("{}:{}", end.endpoint, end.id)).collect()
    }

    /// The remote units that have joined.
    pub fn relation_units(&self, key: u64) -> Answer<Vec<String>> {
        let (_, local) = self.local(key)?;
        let application = self.remote_application(key)?;
        Ok(local.members.keys().map(|number| format!("{application}/{number}")).collect())
    }

    pub fn remote_application(&self, key: u64) -> Answer<String> {
        let (relation, local) = self.local(key)?;
        Ok(relation.ends[relation.remote_end(local.end)].seen_as.clone())
    }

    /// UUID of the model at the other end.
    pub fn remote_model(&self, key: u64) -> Answer<String> {
        let (relation, local) = self.local(key)?;
        let model = &relation.ends[relation.remote_end(local.end)].model;
        Ok(self.world.model(model).map(|model| model.uuid.clone()).unwrap_or_default())
    }

    /// A databag; remote ones as they were when this run first looked.
    pub fn relation_get(&mut self, key: u64, whose: &Bag) -> Answer<BTreeMap<String, String>> {
        let (relation, local) = self.local(key)?;
        let (own_end, remote_end) = (local.end, relation.remote_end(local.end));
        let own_application = self.context.key.application.clone();
        let own_unit = self.context.key.unit_name();
        let remote_name = relation.ends[remote_end].seen_as.clone();
        match whose {
            Bag::Application(name) if *name == own_application => Ok(self.own_bag(key, own_end, true)),
            Bag::Application(name) if *name == remote_name => self.remote_bag(key, remote_end, None),
            Bag::Application(_) => Err(Refusal::failed("permission denied")),
            Bag::Unit(name) if *name == own_unit => Ok(self.own_bag(key, own_end, false)),
            Bag::Unit(name) => {
                let absent = || Refusal::failed("relation unit not found");
                let (application, number) = name.rsplit_once('/').ok_or_else(absent)?;
                let number = number.parse().map_err(|_| absent())?;
                let end = match application {
                    application if application == remote_name => remote_end,
                    application if application == own_application => own_end,
                    _ => return Err(absent()),
                };
                self.remote_bag(key, end, Some(number))
            }
        }
    }

    fn own_bag(&self, key: u64, end: usize, of_application: bool) -> BTreeMap<String, String> {
        let end = &self.world.relations[&key].ends[end];
        let mut bag = if of_application {
            end.application_bag.clone()
        } else {
            end.units.get(&self.context.key.number).map(|unit| unit.bag.clone()).unwrap_or_default()
        };
        if let Some(writes) = self.context.relation_writes.get(&(key, of_application)) {
            bag.merge(writes);
        }
        bag.data
    }

    fn remote_bag(&mut self, key: u64, end: usize, unit: Option<u32>) -> Answer<BTreeMap<String, String>> {
        if let Some(seen) = self.context.remote_bags.get(&(key, unit)) {
            return Ok(seen.clone());
        }
        let end = &self.world.relations[&key].ends[end];
        let bag = match unit {
            None => &end.application_bag.data,
            Some(number) => &end.units.get(&number).ok_or_else(|| Refusal::failed("relation unit not found"))?.bag.data,
        };
        self.context.remote_bags.insert((key, unit), bag.clone());
        Ok(bag.clone())
    }

    /// Notes changes of our own databags; they count when the run ends well.
    pub fn relation_set(&mut self, key: u64, of_application: bool, changes: BTreeMap<String, String>) -> Answer<()> {
        self.local(key)?;
        if of_application && !self.is_leader() {
            return Err(Refusal::failed("cannot write relation settings"));
        }
        self.context.relation_writes.entry((key, of_application)).or_default().extend(changes);
        Ok(())
    }
}
