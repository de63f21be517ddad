//! What happens to a unit: the hooks of Juju, decoded once for native charms
//! and rendered as environment variables for charm processes.

/// A relation hook's subject, in the names that the unit itself sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationEvent {
    /// Our endpoint.
    pub endpoint: String,
    /// `<endpoint>:<number>`, as `relation-ids` prints it.
    pub id: String,
    pub remote_application: String,
    /// None in created, broken, and when the application's databag changed.
    pub remote_unit: Option<String>,
    /// Set in departed only.
    pub departing_unit: Option<String>,
}

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Install,
    LeaderElected,
    ConfigChanged,
    Start,
    UpgradeCharm,
    UpdateStatus,
    Stop,
    Remove,
    RelationCreated(RelationEvent),
    RelationJoined(RelationEvent),
    RelationChanged(RelationEvent),
    RelationDeparted(RelationEvent),
    RelationBroken(RelationEvent),
    /// A secret this unit has read has a new revision.
    SecretChanged {
        id: String,
        label: String,
    },
    /// Nobody reads this revision of our secret any more.
    SecretRemove {
        id: String,
        label: String,
        revision: u64,
    },
}

impl Event {
    /// The relation a relation hook is about.
    pub fn relation(&self) -> Option<&RelationEvent> {
        match self {
            Event::RelationCreated(relation)
            | Event::RelationJoined(relation)
            | Event::RelationChanged(relation)
            | Event::RelationDeparted(relation)
            | Event::RelationBroken(relation) => Some(relation),
            _ => None,
        }
    }

    /// The hook's name, as in `JUJU_HOOK_NAME`.
    pub fn name(&self) -> String {
        let relation = |relation: &RelationEvent, kind| format!("{}-relation-{kind}", relation.endpoint);
        match self {
            Event::Install => "install".into(),
            Event::LeaderElected => "leader-elected".into(),
            Event::ConfigChanged => "config-changed".into(),
            Event::Start => "start".into(),
            Event::UpgradeCharm => "upgrade-charm".into(),
            Event::UpdateStatus => "update-status".into(),
            Event::Stop => "stop".into(),
            Event::Remove => "remove".into(),
            Event::RelationCreated(of) => relation(of, "created"),
            Event::RelationJoined(of) => relation(of, "joined"),
            Event::RelationChanged(of) => relation(of, "changed"),
            Event::RelationDeparted(of) => relation(of, "departed"),
            Event::RelationBroken(of) => relation(of, "broken"),
            Event::SecretChanged { .. } => "secret-changed".into(),
            Event::SecretRemove { .. } => "secret-remove".into(),
        }
    }

    /// The variables this hook adds to the environment that every hook has.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        if let Some(relation) = self.relation() {
            variables.push(("JUJU_RELATION", relation.endpoint.clone()));
            variables.push(("JUJU_RELATION_ID", relation.id.clone()));
            variables.push(("JUJU_REMOTE_APP", relation.remote_application.clone()));
            variables.push(("JUJU_REMOTE_UNIT", relation.remote_unit.clone().unwrap_or_default()));
            if let Some(departing) = &relation.departing_unit {
                variables.push(("JUJU_DEPARTING_UNIT", departing.clone()));
            }
        }
        match self {
            Event::SecretChanged { id, label } => {
                variables.push(("JUJU_SECRET_ID", format!("secret:{id}")));
                variables.push(("JUJU_SECRET_LABEL", label.clone()));
            }
            Event::SecretRemove { id, label, revision } => {
                variables.push(("JUJU_SECRET_ID", format!("secret:{id}")));
                variables.push(("JUJU_SECRET_LABEL", label.clone()));
                variables.push(("JUJU_SECRET_REVISION", revision.to_string()));
            }
            _ => {}
        }
        variables
    }
}
