//! The secrets of the Hydra charm: what its server encrypts and signs with, kept in Juju. Values are only ever added, and
//! the newest comes first: it is the one that new data is written with, while the older ones still read the old data.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use rand::Rng;

use crate::native::UnitContext;

/// One of the two secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    System,
    Cookie,
}

impl Kind {
    pub const BOTH: [Kind; 2] = [Kind::System, Kind::Cookie];

    /// As the actions name it; also what the names of its fields begin with.
    pub fn name(self) -> &'static str {
        match self {
            Kind::System => "system",
            Kind::Cookie => "cookie",
        }
    }

    pub fn named(name: &str) -> Option<Kind> {
        Kind::BOTH.into_iter().find(|kind| kind.name() == name)
    }

    fn label(self) -> &'static str {
        match self {
            Kind::System => "systemsecret",
            Kind::Cookie => "cookiesecret",
        }
    }

    /// The option that names a user secret with the values of another deployment.
    fn initial(self) -> &'static str {
        match self {
            Kind::System => "initial_system_secret_id",
            Kind::Cookie => "initial_cookie_secret_id",
        }
    }
}

/// The values, newest first; none before the leader has made some.
pub fn values(kind: Kind, context: &UnitContext) -> Result<Vec<String>> {
    Ok(content(kind, context)?.into_values().rev().collect())
}

/// Makes the secrets that are not there yet, once: random ones, or those that the operator gave for the first start;
/// leader only.
pub fn ensure(context: &UnitContext) -> Result<()> {
    for kind in Kind::BOTH {
        if context.secret_find(kind.label())?.is_some() {
            continue;
        }
        for value in initial(kind, context)?.unwrap_or_else(|| vec![random()]) {
            add(kind, &value, context)?;
        }
    }
    Ok(())
}

/// Adds a value, which becomes the newest; leader only.
pub fn add(kind: Kind, value: &str, context: &UnitContext) -> Result<()> {
    let mut content = content(kind, context)?;
    let second = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    content.insert(format!("{}-{second}-{:03}", kind.name(), content.len()), value.to_owned());
    let content: Vec<(&str, &str)> = content.iter().map(|(field, value)| (field.as_str(), value.as_str())).collect();
    match context.secret_find(kind.label())? {
        Some(secret) => context.secret_set(&secret, &content),
        None => context.secret_add(kind.label(), &content).map(drop),
    }
}

fn content(kind: Kind, context: &UnitContext) -> Result<BTreeMap<String, String>> {
    match context.secret_find(kind.label())? {
        Some(secret) => context.secret_get(&secret),
        None => Ok(BTreeMap::new()),
    }
}

/// The operator's values, last field first, as the charm takes them: the first field ends as the newest. A secret that
/// is not granted fails the hook.
fn initial(kind: Kind, context: &UnitContext) -> Result<Option<Vec<String>>> {
    let configuration = context.config()?;
    let Some(secret) = configuration.get(kind.initial()).and_then(|value| value.as_str()) else { return Ok(None) };
    if secret.is_empty() {
        return Ok(None);
    }
    let content = context.secret_get(secret).with_context(|| format!("the secret of {}", kind.initial()))?;
    anyhow::ensure!(content.values().all(|value| value.len() >= 16), "key must be >16 chars");
    Ok(Some(content.into_values().rev().collect()))
}

/// 32 hexadecimal digits.
fn random() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}
