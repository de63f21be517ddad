//! How we come into the model to change it: the operator's secret, and what the unit knows of its controller.

use super::config::Config;
use super::event::Context;
use super::gather::Lacking;
use crate::controller::{ModelLogin, Password};
use crate::juju::{HookToolError, HookTools, Kind};
use crate::steps::Credentials;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What the operator lets us do to the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Controller {
    /// No credentials were given: steps are guided.
    NotGiven,
    /// Some were given and cannot be used.
    Unusable(Lacking),
    /// With these.
    Given(ModelLogin),
}

impl From<Controller> for Credentials {
    fn from(controller: Controller) -> Self {
        match controller {
            Controller::NotGiven => Credentials::NotGiven,
            Controller::Unusable(lacking) => Credentials::Unusable(lacking.sentence),
            Controller::Given(login) => Credentials::Given(login),
        }
    }
}

/// What a unit agent keeps for itself. Not a public API of Juju's: the option `controller-ca` stands beside it.
#[derive(Deserialize)]
struct AgentFile {
    #[serde(default)]
    cacert: String,
}

impl Controller {
    /// Reads the option, its secret and the unit's surroundings.
    ///
    /// # Errors
    /// When a hook tool fails in a way that says nothing about the model.
    pub fn read(tools: &HookTools, context: &Context, config: &Config) -> Result<Self, HookToolError> {
        let Some(uri) = &config.controller_credentials else { return Ok(Self::NotGiven) };
        let content = match tools.secret(uri) {
            Ok(content) => content,
            Err(error) if error.kind == Kind::NotGranted => return Ok(Self::Unusable(not_granted(context, uri))),
            Err(error) if error.kind == Kind::NotFound => return Ok(Self::Unusable(not_there(context))),
            Err(error) if error.kind == Kind::Outside => return Err(error),
            // Whatever else is wrong with it is no reason to fail a hook: the steps are guided meanwhile.
            Err(error) => {
                let sentence =
                    format!("cannot use the option controller-credentials: {error}; it is read again at every hook");
                return Ok(Self::Unusable(Lacking::passing(sentence)));
            }
        };
        Ok(match login(context, config, uri, &content) {
            Ok(login) => Self::Given(login),
            Err(lacking) => Self::Unusable(lacking),
        })
    }

    /// What is in the way of using the credentials.
    pub fn lacking(&self) -> Option<Lacking> {
        match self {
            Self::Unusable(lacking) => Some(lacking.clone()),
            Self::NotGiven | Self::Given(_) => None,
        }
    }
}

/// A secret's id, as Juju's commands take it, of `secret:<id>` or `secret://<model>/<id>`.
fn id(uri: &str) -> &str {
    uri.rsplit(['/', ':']).next().unwrap_or(uri)
}

/// Granting brings no hook (juju/juju#20143): the next one, at the latest update-status, looks again.
fn not_granted(context: &Context, uri: &str) -> Lacking {
    let command = format!("juju grant-secret {} {}", id(uri), context.application);
    let sentence = format!(
        "cannot use the option controller-credentials: its secret is not granted to {}; run {command}",
        context.application
    );
    Lacking { commands: vec![command], ..Lacking::person(sentence) }
}

fn not_there(context: &Context) -> Lacking {
    let reset = format!("juju config {} --reset controller-credentials", context.application);
    let sentence = format!(
        "cannot use the option controller-credentials: there is no such secret (any more); set it to one that juju \
         add-secret made, or run {reset}"
    );
    Lacking { commands: vec![reset], ..Lacking::person(sentence) }
}

fn login(
    context: &Context,
    config: &Config,
    uri: &str,
    content: &BTreeMap<String, String>,
) -> Result<ModelLogin, Lacking> {
    let filled = |key: &str| {
        // What was put in from a file ends with the line's end, which is no part of it.
        let value = content.get(key).map(|value| value.trim_end_matches(['\r', '\n']).to_owned());
        value.filter(|value| !value.is_empty()).ok_or_else(|| {
            let command = format!("juju update-secret {} username=<user> password#file=<file>", id(uri));
            let sentence =
                format!("cannot use the option controller-credentials: its secret has no {key}; run {command}");
            Lacking { commands: vec![command], ..Lacking::person(sentence) }
        })
    };
    let (username, password) = (filled("username")?, filled("password")?);
    if context.api_addresses.is_empty() {
        let sentence = "cannot use the option controller-credentials: JUJU_API_ADDRESSES names no controller; see the \
                        unit's agent";
        return Err(Lacking::person(sentence));
    }
    let Some(ca) = config.controller_ca.clone().or_else(|| agents_ca(&context.charm_dir)) else {
        let command = format!("juju config {} controller-ca=@<file>", context.application);
        let sentence = format!(
            "cannot use the option controller-credentials: the unit does not know its controller's CA certificate; take it \
             from juju show-controller and run {command}"
        );
        return Err(Lacking { commands: vec![command], ..Lacking::person(sentence) });
    };
    let mut addresses = context.api_addresses.clone();
    addresses.sort_unstable();
    Ok(ModelLogin {
        addresses,
        ca,
        model_uuid: context.model_uuid.clone(),
        username,
        password: Password::new(password),
    })
}

/// The CA certificate in the unit agent's own file, which lies beside the charm; on Kubernetes also in the template that
/// it was made from (juju's agent/format-2.0.go).
fn agents_ca(charm_dir: &Path) -> Option<String> {
    let agent = charm_dir.parent()?;
    let template = agent.parent().and_then(Path::parent).map(|root| root.join("template-agent.conf"));
    [Some(agent.join("agent.conf")), template].into_iter().flatten().find_map(|path| {
        let file: AgentFile = serde_yaml::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
        Some(file.cacert).filter(|ca| !ca.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_secrets() {
        assert_eq!(id("secret:uagn5dkhgfa1e176suo0"), "uagn5dkhgfa1e176suo0");
        assert_eq!(id("secret://5a67be19/uagn5dkhgfa1e176suo0"), "uagn5dkhgfa1e176suo0");
    }

    #[test]
    fn the_agents_file_or_its_template() {
        let root = std::env::temp_dir().join(format!("agents-ca-{}", std::process::id()));
        let agent = root.join("agents/unit-coordinator-0");
        let charm = agent.join("charm");
        std::fs::create_dir_all(&charm).unwrap();
        assert_eq!(agents_ca(&charm), None);
        std::fs::write(root.join("template-agent.conf"), "# format 2.0\ncacert: |\n  TEMPLATE\n").unwrap();
        assert_eq!(agents_ca(&charm).as_deref(), Some("TEMPLATE\n"));
        std::fs::write(agent.join("agent.conf"), "# format 2.0\ntag: unit-coordinator-0\ncacert: |\n  OWN\n").unwrap();
        assert_eq!(agents_ca(&charm).as_deref(), Some("OWN\n"));
        std::fs::remove_dir_all(root).unwrap();
    }
}
