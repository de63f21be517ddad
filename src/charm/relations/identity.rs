//! `kratos_info` and `hydra_endpoints`: where an identity app is. Required from both sides, and provided to consumers,
//! so that a flip is a databag write (the broker). Plain strings in the provider's application databag.

use super::{Access, End, Reader, Side, Waiting, unless_gone};
use crate::apps::{APPS, App};
use crate::juju::{HookToolError, RelationWrite};
use std::collections::BTreeMap;

/// An identity application that publishes where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it is.
    pub app: &'static App,
    /// The relation, `<endpoint>:<number>`.
    pub relation_id: String,
    /// The application, as this model calls it.
    pub application: String,
    /// True when it lives in another model: then its own name there is not known.
    pub other_model: bool,
    /// The model we are in ourselves.
    our_model: String,
    /// What we are called there.
    coordinator: String,
    /// Everything it published, unknown keys included.
    pub published: BTreeMap<String, String>,
}

/// What an identity app and its database are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The application in its own model.
    pub application: String,
    /// Its model.
    pub model: String,
    /// Its database.
    pub database: String,
}

/// A name that can only come from the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot tell the name of the {side} application: {application} lives in another model; \
     set the option {side}-application to its name there: juju config {coordinator} {side}-application=<name>",
    side = .side.name()
)]
pub struct Unnamed {
    side: Side,
    application: String,
    coordinator: String,
}

impl Unnamed {
    /// The command that names it.
    pub fn command(&self) -> String {
        let Self { side, coordinator, .. } = self;
        format!("juju config {coordinator} {0}-application=<name of the {0} application>", side.name())
    }
}

impl Identity {
    /// URL of the admin API; empty if it was not published.
    pub fn admin_endpoint(&self) -> &str {
        self.value("admin_endpoint")
    }

    /// URL of the public API; empty if it was not published.
    pub fn public_endpoint(&self) -> &str {
        self.value("public_endpoint")
    }

    /// Application and model as its own Kubernetes service tells them: without an internal route an identity app
    /// publishes `http://<application>.<model>.svc.cluster.local:<admin port>`.
    fn service(&self) -> Option<(&str, &str)> {
        let host = self.admin_endpoint().strip_prefix("http://")?;
        let (host, port) = host.split_once(':')?;
        let (application, model) = host.strip_suffix(".svc.cluster.local")?.split_once('.')?;
        (!application.is_empty() && port == self.app.admin_port.to_string()).then_some((application, model))
    }

    /// Its own model's name; empty where nothing tells it.
    fn model(&self) -> &str {
        let told = self.app.model_key.map(|key| self.value(key)).unwrap_or_default();
        match self.service() {
            Some((_, model)) if told.is_empty() && self.other_model => model,
            _ => told,
        }
    }

    /// Its name in its own model, as its service tells it.
    fn service_name(&self) -> Option<&str> {
        self.service().filter(|(_, model)| *model == self.model()).map(|(application, _)| application)
    }

    fn value(&self, key: &str) -> &str {
        self.published.get(key).map(String::as_str).unwrap_or_default()
    }

    /// The application's own name, model and database. Kratos and Hydra ask for the database
    /// `<their model>_<their application>`. Names from config win.
    ///
    /// # Errors
    /// [`Unnamed`] for an application in another model that config does not name.
    pub fn names(&self, side: Side, application: Option<&str>, database: Option<&str>) -> Result<Names, Unnamed> {
        let namespace = self.model();
        let own = if self.other_model { self.service_name() } else { Some(self.application.as_str()) };
        let Some(application) = application.or(own) else {
            let (application, coordinator) = (self.application.clone(), self.coordinator.clone());
            return Err(Unnamed { side, application, coordinator });
        };
        let model = if namespace.is_empty() { self.our_model.as_str() } else { namespace };
        Ok(Names {
            application: application.to_owned(),
            model: model.to_owned(),
            database: database.map_or_else(|| format!("{model}_{application}"), str::to_owned),
        })
    }
}

/// Somebody who takes the identity app's address from us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// The relation, `<endpoint>:<number>`.
    pub relation_id: String,
    /// What we told it so far.
    pub told: BTreeMap<String, String>,
}

/// Reads one side's relation.
pub(super) fn read(
    reader: &Reader<'_>,
    app: Option<&'static App>,
    end: Option<End>,
) -> Result<Access<Identity>, HookToolError> {
    let (Some(app), Some(End { relation_id, application, bag })) = (app, end) else { return Ok(Access::NoRelation) };
    // Written together, in one go; nothing at all while the application has no public URL.
    if ["admin_endpoint", "public_endpoint"].iter().any(|key| bag.get(*key).is_none_or(String::is_empty)) {
        return Ok(Access::Waiting(Waiting {
            found: format!("{application} does not publish its endpoints"),
            cure: format!("give {application} a public URL: relate its public-route to an ingress"),
            commands: match (is_anonymous(&application), reader.other_model(&relation_id)) {
                (true, _) => Vec::new(),
                (false, Some(model)) => {
                    vec![format!("juju integrate -m {model} <{application} there>:public-route <ingress there>")]
                }
                (false, None) => vec![format!("juju integrate {application}:public-route <ingress of {application}>")],
            },
            application: Some(application),
            relation_id,
            person: true,
        }));
    }
    let other_model = is_anonymous(&application) || reader.other_model(&relation_id).is_some();
    Ok(Access::Ready(Identity {
        app,
        relation_id,
        application,
        other_model,
        our_model: reader.context.model_name.clone(),
        coordinator: reader.context.application.clone(),
        published: bag,
    }))
}

/// On the offering side of a cross-model relation Juju makes up a name, `remote-<hex>`.
pub(in crate::charm) fn is_anonymous(application: &str) -> bool {
    application
        .strip_prefix("remote-")
        .is_some_and(|rest| rest.len() >= 16 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Who asks us, and what they were told. Only the leader can know, and only it may tell.
/// Consumers of another app than the one that moves are nobody's here.
pub(super) fn consumers(reader: &Reader<'_>, app: Option<&'static App>) -> Result<Vec<Consumer>, HookToolError> {
    if !reader.leader {
        return Ok(Vec::new());
    }
    let mut consumers = Vec::new();
    for asked in APPS.iter().filter(|asked| app.is_none_or(|app| app == **asked)) {
        for relation_id in reader.ids(asked.consumers_endpoint)? {
            if let Some(told) = unless_gone(reader.tools.application_bag(&relation_id, &reader.context.application))? {
                consumers.push(Consumer { relation_id, told });
            }
        }
    }
    Ok(consumers)
}

/// What must be written so that every consumer sees exactly what one side published:
/// changed keys set, vanished keys deleted, and nothing for who has it already.
pub fn broker_writes(consumers: &[Consumer], published: &BTreeMap<String, String>) -> Vec<RelationWrite> {
    consumers
        .iter()
        .filter_map(|consumer| {
            let changed = published.iter().filter(|(key, value)| consumer.told.get(*key) != Some(*value));
            let gone = consumer.told.keys().filter(|key| !published.contains_key(*key));
            let mut values: BTreeMap<String, String> =
                changed.map(|(key, value)| (key.clone(), value.clone())).collect();
            values.extend(gone.map(|key| (key.clone(), String::new())));
            let relation_id = consumer.relation_id.clone();
            (!values.is_empty()).then_some(RelationWrite { relation_id, values })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apps::KRATOS;

    fn bag(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn info(application: &str, other_model: bool, published: &[(&str, &str)]) -> Identity {
        Identity {
            app: &KRATOS,
            relation_id: "source-kratos:3".to_owned(),
            application: application.to_owned(),
            other_model,
            our_model: "ours".to_owned(),
            coordinator: "coordinator".to_owned(),
            published: bag(published),
        }
    }

    #[test]
    fn names_come_from_the_relation_or_from_config() {
        let here = info("kratos", false, &[("configmaps_namespace", "iam")]);
        let names = here.names(Side::Source, None, None).unwrap();
        assert_eq!((names.application.as_str(), names.database.as_str()), ("kratos", "iam_kratos"));
        let names = here.names(Side::Source, Some("kratos-blue"), Some("db")).unwrap();
        assert_eq!((names.application.as_str(), names.database.as_str()), ("kratos-blue", "db"));
        assert_eq!(info("kratos", false, &[]).names(Side::Source, None, None).unwrap().database, "ours_kratos");

        let away = info("remote-0123456789abcdef", true, &[("configmaps_namespace", "iam")]);
        assert_eq!(away.names(Side::Target, Some("kratos"), None).unwrap().database, "iam_kratos");
        assert_eq!(
            away.names(Side::Target, None, None).unwrap_err().to_string(),
            "cannot tell the name of the target application: remote-0123456789abcdef lives in another model; \
             set the option target-application to its name there: juju config coordinator target-application=<name>"
        );
    }

    #[test]
    fn the_address_of_a_service_tells_the_name() {
        let name = |address: &str| {
            let published = [("configmaps_namespace", "iam"), ("admin_endpoint", address)];
            let away = info("remote-0123456789abcdef", true, &published);
            away.names(Side::Source, None, None).ok().map(|names| names.application)
        };
        assert_eq!(name("http://kratos-a.iam.svc.cluster.local:4434").as_deref(), Some("kratos-a"));
        for address in [
            "http://kratos.other.svc.cluster.local:4434",
            "http://traefik.iam.svc.cluster.local:80/iam-kratos",
            "http://10.1.2.3:4434",
        ] {
            assert_eq!(name(address), None);
        }
    }

    #[test]
    fn made_up_names_are_recognised() {
        assert!(is_anonymous("remote-7d1cc7fda3a84a2d8f1a2a3c4d5e6f70"));
        assert!(!is_anonymous("remote-kratos"));
        assert!(!is_anonymous("kratos"));
    }

    #[test]
    fn consumers_get_what_changed_and_lose_what_vanished() {
        let consumer = |number: u8, told: &[(&str, &str)]| Consumer {
            relation_id: format!("kratos-info:{number}"),
            told: bag(told),
        };
        let published = bag(&[("admin_endpoint", "http://new:4434"), ("unknown", "x")]);
        let consumers = [
            consumer(1, &[]),
            consumer(2, &[("admin_endpoint", "http://old:4434"), ("unknown", "x"), ("feature_flags", "totp")]),
            consumer(3, &[("admin_endpoint", "http://new:4434"), ("unknown", "x")]),
        ];
        let writes = broker_writes(&consumers, &published);
        assert_eq!(writes.len(), 2);
        assert_eq!((writes[0].relation_id.as_str(), &writes[0].values), ("kratos-info:1", &published));
        assert_eq!(writes[1].values, bag(&[("admin_endpoint", "http://new:4434"), ("feature_flags", "")]));
    }
}
