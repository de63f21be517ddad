//! What Patroni says of itself over its REST API: which slots it keeps, and how its members are. Reading needs no login.

use super::server::Server;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The port that Charmed PostgreSQL gives the API.
pub const PORT: u16 = 8008;

/// How long one of the two answers may take.
const ANSWER: Duration = Duration::from_secs(1);

/// One cluster, as its Patroni has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patroni {
    /// Slots that it makes and keeps on every member.
    pub slots: BTreeSet<String>,
    /// Which unknown slots it leaves alone; it drops all others.
    pub ignored: Vec<Ignored>,
    /// The cluster follows another one.
    pub standby_cluster: bool,
    /// Its members.
    pub members: Vec<Member>,
}

/// A rule of `ignore_slots`: a slot that has all that is named here is left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// The slot's name.
    pub name: Option<String>,
    /// `logical` or `physical`.
    pub slot_type: Option<String>,
    /// The plugin that decodes.
    pub plugin: Option<String>,
    /// The database that is decoded.
    pub database: Option<String>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// `leader`, `sync_standby`, `replica` …
    pub role: String,
    /// `running`, `streaming`, `start failed` …
    pub state: String,
    /// Settings of its server wait for a restart.
    pub pending_restart: bool,
}

impl Patroni {
    /// Whether a slot for a subscription of ours to this database outlives a restart of the server: `name` where it is
    /// known already.
    pub fn leaves_alone(&self, name: Option<&str>, database: &str) -> bool {
        let fits = |rule: &Option<String>, value: &str| rule.as_ref().is_none_or(|rule| rule == value);
        let ignored = self.ignored.iter().any(|rule| {
            fits(&rule.slot_type, "logical")
                && fits(&rule.plugin, "pgoutput")
                && fits(&rule.database, database)
                && rule.name.as_ref().is_none_or(|rule| Some(rule.as_str()) == name)
        });
        ignored || self.keeps(name)
    }

    /// Whether the slot of this name goes along to the next primary too.
    pub fn keeps(&self, name: Option<&str>) -> bool {
        name.is_some_and(|name| self.slots.contains(name))
    }
}

impl Member {
    /// Its server runs as it should.
    pub fn runs(&self) -> bool {
        matches!(self.state.as_str(), "running" | "streaming" | "in archive recovery")
    }
}

/// Asks the Patroni beside this server, in the clear and encrypted at once, because the relation does not tell which
/// of them it speaks; `None` when nobody answers, or somebody else.
pub async fn look(server: &Server, port: u16) -> Option<Patroni> {
    let host = if server.host.contains(':') { format!("[{}]", server.host) } else { server.host.clone() };
    let ask = |scheme: &str| {
        let base = format!("{scheme}://{host}:{port}");
        tokio::task::spawn_blocking(move || ask(&base))
    };
    let (plain, encrypted) = tokio::join!(ask("http"), ask("https"));
    plain.ok().flatten().or(encrypted.ok().flatten())
}

fn ask(base: &str) -> Option<Patroni> {
    let config = get(&format!("{base}/config"))?;
    let cluster = get(&format!("{base}/cluster"))?;
    Some(read(&config, &cluster))
}

/// The two answers together.
fn read(config: &Json, cluster: &Json) -> Patroni {
    let word = |value: &Json| value.as_str().map(str::to_owned);
    let rule = |rule: &Json| Ignored {
        name: word(&rule["name"]),
        slot_type: word(&rule["type"]),
        plugin: word(&rule["plugin"]),
        database: word(&rule["database"]),
    };
    let member = |member: &Json| Member {
        name: word(&member["name"]).unwrap_or_default(),
        role: word(&member["role"]).unwrap_or_default(),
        state: word(&member["state"]).unwrap_or_default(),
        pending_restart: member["pending_restart"].as_bool().unwrap_or(false),
    };
    let list = |value: &Json| value.as_array().cloned().unwrap_or_default();
    Patroni {
        slots: config["slots"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect(),
        ignored: list(&config["ignore_slots"]).iter().map(rule).collect(),
        standby_cluster: config["standby_cluster"].is_object(),
        members: list(&cluster["members"]).iter().map(member).collect(),
    }
}

fn get(url: &str) -> Option<Json> {
    let mut response = agent().get(url).call().ok()?;
    let text = response.body_mut().with_config().limit(1 << 20).read_to_string().ok()?;
    serde_json::from_str(&text).ok().filter(Json::is_object)
}

/// Nothing secret is sent and nothing is believed that could do harm, so the cluster's own authority, which no relation
/// tells, is not asked for.
fn agent() -> &'static ureq::Agent {
    static AGENT: OnceLock<ureq::Agent> = OnceLock::new();
    AGENT.get_or_init(|| {
        let tls = ureq::tls::TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .disable_verification(true)
            .build();
        ureq::Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .max_idle_connections(0)
            .timeout_global(Some(ANSWER))
            .build()
            .new_agent()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_leaves_a_slot_alone_when_all_that_it_names_fits() {
        let with = |rule: Json| read(&json!({"ignore_slots": [rule]}), &json!({}));
        let database = "iam_kratos";
        assert!(with(json!({"type": "logical", "plugin": "pgoutput"})).leaves_alone(None, database));
        assert!(with(json!({"database": "iam_kratos"})).leaves_alone(None, database));
        assert!(!with(json!({"database": "other"})).leaves_alone(None, database));
        assert!(!with(json!({"type": "physical"})).leaves_alone(None, database));
        assert!(!with(json!({"name": "mine"})).leaves_alone(None, database));
        assert!(with(json!({"name": "mine"})).leaves_alone(Some("mine"), database));
        let kept = read(&json!({"slots": {"mine": {"type": "logical"}}, "ignore_slots": null}), &json!({}));
        assert!(kept.leaves_alone(Some("mine"), database) && kept.keeps(Some("mine")) && !kept.keeps(None));
    }
}
