//! Leadership, failed hooks, and the end of units and applications.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::Model;
use crate::agent::{self, deploy};
use crate::world::{Life, Status, Unit, UnitKey, World};

impl Model {
    /// Takes a unit away: departed and broken, stop, remove.
    pub fn remove_unit(&self, unit: &str) -> Result<()> {
        let key = self.key(unit)?;
        let mut world = self.shared.lock();
        world.kill_unit(&key);
        drop(world);
        self.shared.ring();
        Ok(())
    }

    /// Takes an application away, with its relations and units.
    pub fn remove_application(&self, application: &str) -> Result<()> {
        let mut world = self.shared.lock();
        let known = world
            .models
            .get_mut(&self.name)
            .and_then(|model| model.applications.get_mut(application))
            .with_context(|| format!("application {application:?} not found"))?;
        known.dying = true;
        let numbers: Vec<u32> = known.units.keys().copied().collect();
        let relations: Vec<u64> = world
            .relations
            .iter_mut()
            .filter(|(_, relation)| !relation.is_peer())
            .filter(|(_, relation)| {
                relation.ends.iter().any(|end| end.model == self.name && end.application == application)
            })
            .map(|(id, relation)| {
                relation.dying = true;
                *id
            })
            .collect();
        for number in &numbers {
            world.kill_unit(&UnitKey {
                model: self.name.clone(),
                application: application.to_owned(),
                number: *number,
            });
        }
        for id in relations {
            world.collect_relation(id);
        }
        if numbers.is_empty() {
            world.remove_application(&self.name, application);
        }
        drop(world);
        self.shared.ring();
        Ok(())
    }

    /// Moves leadership at once.
    pub fn set_leader(&self, unit: &str) -> Result<()> {
        let key = self.key(unit)?;
        let mut world = self.shared.lock();
        let application = world.application_mut(&key).context("the application is gone")?;
        if let Some(old) = application.leader.filter(|old| *old != key.number)
            && let Some(old) = application.units.get_mut(&old)
        {
            old.leader_elected = false;
        }
        application.leader = Some(key.number);
        drop(world);
        self.shared.ring();
        Ok(())
    }

    /// The unit's agent shows as lost until it begins something again; a gate keeps it from that.
    pub fn lose_agent(&self, unit: &str) -> Result<()> {
        let key = self.key(unit)?;
        let mut world = self.shared.lock();
        let found = world.unit_mut(&key).with_context(|| format!("unit {unit:?} not found"))?;
        found.agent = Status::new("lost", "agent is not communicating with the server");
        drop(world);
        self.shared.ring();
        Ok(())
    }

    /// Ends a unit's wait after a failed hook: runs it again now, or skips it.
    pub fn resolved(&self, unit: &str, retry: bool) -> Result<()> {
        let key = self.key(unit)?;
        let mut world = self.shared.lock();
        let failed = world.unit_mut(&key).and_then(|unit| unit.failed.as_mut());
        let failed = failed.with_context(|| format!("unit \"{unit}\" is not in an error state"))?;
        let event = failed.event.clone();
        failed.retry_at = Instant::now();
        if !retry {
            agent::run::succeed_hook(&mut world, &key, &event);
        }
        drop(world);
        self.shared.ring();
        Ok(())
    }
}

impl World {
    fn kill_unit(&mut self, key: &UnitKey) {
        let Some(unit) = self.unit_mut(key) else { return };
        let untouched = !unit.installed && unit.running.is_none() && unit.failed.is_none();
        unit.life = if untouched { Life::Dead } else { Life::Dying };
        let alive = |(number, unit): (&u32, &Unit)| (unit.life == Life::Alive).then_some(*number);
        if let Some(application) = self.application_mut(key)
            && application.leader == Some(key.number)
            && let Some(next) = application.units.iter().find_map(alive)
        {
            application.leader = Some(next);
        }
        if untouched {
            deploy::bury(self, key);
        }
    }

    pub(crate) fn remove_application(&mut self, model: &str, application: &str) {
        if let Some(model) = self.models.get_mut(model) {
            model.applications.remove(application);
        }
        self.relations.retain(|_, relation| {
            !(relation.is_peer() && relation.ends[0].model == model && relation.ends[0].application == application)
        });
    }
}
