//! Why Juju started this process, read once from the environment.

use std::collections::HashMap;
use std::path::PathBuf;

/// The hook name under which the worker calls the charm through `juju-exec`.
pub const WAKE_HOOK: &str = "identity_migration_wake";

/// Who and where we are, and what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// This unit, as `coordinator/0`.
    pub unit: String,
    /// Its application.
    pub application: String,
    /// The model's name; it may differ between models of one controller only by owner.
    pub model_name: String,
    /// The model's UUID.
    pub model_uuid: String,
    /// `host:port` of the controller's API servers.
    pub api_addresses: Vec<String>,
    /// Where the charm is unpacked.
    pub charm_dir: PathBuf,
    /// The agent's version.
    pub juju_version: String,
    /// What happened.
    pub event: Event,
}

/// What happened. Everything but actions, stop and remove leads to the same reconciliation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The unit is new.
    Install,
    /// The unit's agent (re)started.
    Start,
    /// A setting or a network address changed; often fired twice.
    ConfigChanged,
    /// The charm was refreshed, or a pod was replaced.
    UpgradeCharm,
    /// We became the leader.
    LeaderElected,
    /// Time has passed.
    UpdateStatus,
    /// The unit is going: the last chance to stop what we started.
    Stop,
    /// The unit is gone after this.
    Remove,
    /// Something about a relation.
    Relation(RelationEvent),
    /// Something about a secret.
    Secret(SecretEvent),
    /// The operator runs an action.
    Action {
        /// Its name.
        name: String,
        /// The task's number.
        task: String,
    },
    /// Our own worker calls.
    Wake,
    /// A hook without most tools and variables: nothing may be done in it.
    Restricted(String),
    /// A hook we do not know: reconcile like any other.
    Unknown(String),
}

/// A relation hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationEvent {
    /// Our endpoint.
    pub endpoint: String,
    /// What happened to the relation.
    pub kind: RelationKind,
    /// `<endpoint>:<number>`.
    pub id: String,
    /// The application at the other end; sometimes unknown when the relation breaks.
    pub remote_app: Option<String>,
    /// The unit at the other end, if it is about one.
    pub remote_unit: Option<String>,
    /// The unit that leaves; ours when we are the ones to go.
    pub departing: Option<String>,
}

/// What happened to a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// It exists.
    Created,
    /// A unit came.
    Joined,
    /// Data changed.
    Changed,
    /// A unit left.
    Departed,
    /// It is gone; its id may still be listed.
    Broken,
}

/// A secret hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretEvent {
    /// `changed`, `rotate`, `remove` or `expired`.
    pub kind: String,
    /// The secret's URI, in one of its forms.
    pub id: String,
}

/// Why the environment makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot tell what to do: the environment variable {variable} {found}; \
     dispatch is started by the Juju unit agent"
)]
pub struct EnvironmentError {
    variable: &'static str,
    found: String,
}

const RELATION_KINDS: [(&str, RelationKind); 5] = [
    ("-relation-created", RelationKind::Created),
    ("-relation-joined", RelationKind::Joined),
    ("-relation-changed", RelationKind::Changed),
    ("-relation-departed", RelationKind::Departed),
    ("-relation-broken", RelationKind::Broken),
];

impl Context {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// [`EnvironmentError`] when a variable that every hook and action has is missing.
    pub fn from_environment(environment: &HashMap<String, String>) -> Result<Self, EnvironmentError> {
        let optional = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let required = |name: &'static str| {
            optional(name).ok_or(EnvironmentError { variable: name, found: "is not set".to_owned() })
        };
        let unit = required("JUJU_UNIT_NAME")?;
        let Some((application, _)) = unit.split_once('/') else {
            return Err(EnvironmentError { variable: "JUJU_UNIT_NAME", found: format!("is {unit:?}, no unit's name") });
        };
        let path = required("JUJU_DISPATCH_PATH")?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("hooks", &path));
        let event = if folder.ends_with("actions") {
            Event::Action { name: name.to_owned(), task: optional("JUJU_ACTION_UUID").unwrap_or_default() }
        } else {
            hook(name, &optional)
        };
        Ok(Self {
            application: application.to_owned(),
            model_name: optional("JUJU_MODEL_NAME").unwrap_or_default(),
            // Restricted hooks have few variables, and nothing is done in them.
            model_uuid: optional("JUJU_MODEL_UUID").unwrap_or_default(),
            api_addresses: optional("JUJU_API_ADDRESSES")
                .map(|text| text.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
            charm_dir: optional("JUJU_CHARM_DIR")
                .or_else(|| optional("CHARM_DIR"))
                .map(PathBuf::from)
                .unwrap_or_default(),
            juju_version: optional("JUJU_VERSION").unwrap_or_default(),
            unit,
            event,
        })
    }

    /// The relation that is breaking in this very hook, if any: it counts as gone,
    /// though Juju 4.0 still lists it.
    pub fn breaking(&self) -> Option<&str> {
        match &self.event {
            Event::Relation(event) if event.kind == RelationKind::Broken => Some(&event.id),
            _ => None,
        }
    }
}

fn hook(name: &str, optional: &dyn Fn(&str) -> Option<String>) -> Event {
    match name {
        "install" => Event::Install,
        "start" => Event::Start,
        "config-changed" => Event::ConfigChanged,
        "upgrade-charm" => Event::UpgradeCharm,
        "leader-elected" => Event::LeaderElected,
        "update-status" => Event::UpdateStatus,
        "stop" => Event::Stop,
        "remove" => Event::Remove,
        "collect-metrics" | "meter-status-changed" => Event::Restricted(name.to_owned()),
        WAKE_HOOK => Event::Wake,
        _ => relation_hook(name, optional)
            .or_else(|| secret_hook(name, optional))
            .unwrap_or(Event::Unknown(name.to_owned())),
    }
}

/// Endpoint names may contain hyphens, so the endpoint comes from its own variable.
fn relation_hook(name: &str, optional: &dyn Fn(&str) -> Option<String>) -> Option<Event> {
    let endpoint = optional("JUJU_RELATION")?;
    let suffix = name.strip_prefix(&endpoint)?;
    let (_, kind) = RELATION_KINDS.into_iter().find(|(text, _)| *text == suffix)?;
    Some(Event::Relation(RelationEvent {
        endpoint,
        kind,
        id: optional("JUJU_RELATION_ID")?,
        remote_app: optional("JUJU_REMOTE_APP"),
        remote_unit: optional("JUJU_REMOTE_UNIT"),
        departing: optional("JUJU_DEPARTING_UNIT"),
    }))
}

fn secret_hook(name: &str, optional: &dyn Fn(&str) -> Option<String>) -> Option<Event> {
    let kind = name.strip_prefix("secret-")?;
    Some(Event::Secret(SecretEvent { kind: kind.to_owned(), id: optional("JUJU_SECRET_ID")? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every recorded event of a Juju 4.0.14 agent had, and then `extra`.
    fn decoded(extra: &[(&str, &str)]) -> Context {
        let always = [
            ("CHARM_DIR", "/var/lib/juju/agents/unit-coordinator-0/charm"),
            ("JUJU_CHARM_DIR", "/var/lib/juju/agents/unit-coordinator-0/charm"),
            ("JUJU_CONTEXT_ID", "coordinator/0-install-c44bfa86576c025e0e9fffdd89a60d8f"),
            ("JUJU_UNIT_NAME", "coordinator/0"),
            ("JUJU_MODEL_UUID", "5a67be19-43c6-411a-83c9-14666fd59ef5"),
            ("JUJU_MODEL_NAME", "apps"),
            ("JUJU_PRINCIPAL_UNIT", ""),
            ("JUJU_VERSION", "4.0.14.1"),
        ];
        let environment =
            always.iter().chain(extra).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Context::from_environment(&environment).unwrap()
    }

    #[test]
    fn plain_hooks() {
        let cases = [
            ("install", Event::Install),
            ("start", Event::Start),
            ("config-changed", Event::ConfigChanged),
            ("upgrade-charm", Event::UpgradeCharm),
            ("leader-elected", Event::LeaderElected),
            ("update-status", Event::UpdateStatus),
            ("stop", Event::Stop),
            ("remove", Event::Remove),
            ("collect-metrics", Event::Restricted("collect-metrics".to_owned())),
            ("identity_migration_wake", Event::Wake),
            ("from-the-future", Event::Unknown("from-the-future".to_owned())),
        ];
        for (name, event) in cases {
            let path = format!("hooks/{name}");
            let context = decoded(&[("JUJU_DISPATCH_PATH", &path), ("JUJU_HOOK_NAME", name)]);
            assert_eq!(context.event, event);
            assert_eq!((context.unit.as_str(), context.application.as_str()), ("coordinator/0", "coordinator"));
            assert_eq!(context.model_name, "apps");
            assert_eq!(context.breaking(), None);
        }
    }

    #[test]
    fn a_departing_unit() {
        let context = decoded(&[
            ("JUJU_DISPATCH_PATH", "hooks/migration-peers-relation-departed"),
            ("JUJU_RELATION", "migration-peers"),
            ("JUJU_RELATION_ID", "migration-peers:1"),
            ("JUJU_REMOTE_UNIT", "coordinator/1"),
            ("JUJU_REMOTE_APP", "coordinator"),
            ("JUJU_DEPARTING_UNIT", "coordinator/0"),
        ]);
        let Event::Relation(event) = &context.event else { panic!("{:?}", context.event) };
        assert_eq!((event.endpoint.as_str(), event.kind), ("migration-peers", RelationKind::Departed));
        assert_eq!(event.departing.as_deref(), Some("coordinator/0"));
        assert_eq!(event.remote_unit.as_deref(), Some("coordinator/1"));
        assert_eq!(context.breaking(), None);
    }

    #[test]
    fn a_breaking_relation_whose_remote_application_is_unknown() {
        let context = decoded(&[
            ("JUJU_DISPATCH_PATH", "hooks/source-database-relation-broken"),
            ("JUJU_RELATION", "source-database"),
            ("JUJU_RELATION_ID", "source-database:2"),
            ("JUJU_REMOTE_UNIT", ""),
            ("JUJU_REMOTE_APP", ""),
        ]);
        assert_eq!(context.breaking(), Some("source-database:2"));
        let Event::Relation(event) = &context.event else { panic!("{:?}", context.event) };
        assert_eq!((&event.remote_app, &event.remote_unit), (&None, &None));
    }

    #[test]
    fn secrets_and_actions() {
        let context = decoded(&[
            ("JUJU_DISPATCH_PATH", "hooks/secret-changed"),
            ("JUJU_SECRET_ID", "secret:u7e2tbhvodb25l9iqt1g"),
            ("JUJU_SECRET_LABEL", ""),
        ]);
        let id = "secret:u7e2tbhvodb25l9iqt1g".to_owned();
        assert_eq!(context.event, Event::Secret(SecretEvent { kind: "changed".to_owned(), id }));
        let context = decoded(&[
            ("JUJU_DISPATCH_PATH", "actions/run-migration"),
            ("JUJU_HOOK_NAME", ""),
            ("JUJU_ACTION_NAME", "run-migration"),
            ("JUJU_ACTION_UUID", "15"),
            ("JUJU_ACTION_TAG", "action-15"),
        ]);
        assert_eq!(context.event, Event::Action { name: "run-migration".to_owned(), task: "15".to_owned() });
    }

    #[test]
    fn outside_juju_it_says_so() {
        let error = Context::from_environment(&HashMap::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot tell what to do: the environment variable JUJU_UNIT_NAME is not set; \
             dispatch is started by the Juju unit agent"
        );
    }
}
