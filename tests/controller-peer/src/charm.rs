//! A charm as a controller knows it, read from the charm's own files.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use std::io::{Cursor, Read as _, Write as _};

/// A charm, with what it brings when it is refreshed to.
#[derive(Clone, Debug)]
pub struct Charm {
    /// `local:probe-2` or `ch:amd64/kratos-567`.
    pub url: String,
    /// Its metadata, in the shape of `CharmInfo`.
    pub meta: Value,
    /// Its options, in the shape of `CharmInfo`.
    pub options: Map<String, Value>,
    /// Its actions: `{"description", "params"}` by name, `params` a JSON schema.
    pub actions: Map<String, Value>,
    /// The workload version that its units set once they run it.
    pub workload_version: String,
}

impl Charm {
    /// Reads `metadata.yaml`, `config.yaml` and `actions.yaml`, the latter two perhaps empty.
    pub fn read(url: &str, metadata: &str, config: &str, actions: &str) -> Result<Self> {
        let metadata = yaml(metadata).context("metadata.yaml")?;
        let options = yaml(config).context("config.yaml")?.remove("options").unwrap_or_default();
        let options = options.as_object().cloned().unwrap_or_default();
        let actions = yaml(actions).context("actions.yaml")?.into_iter().map(|(name, declared)| {
            let action = action(&name, declared);
            (name, action)
        });
        let actions = actions.collect();
        Ok(Self { url: url.to_owned(), meta: meta(&metadata), options, actions, workload_version: String::new() })
    }

    /// Reads a packed charm.
    pub fn unpack(url: &str, packed: &[u8]) -> Result<Self> {
        let mut archive = zip::ZipArchive::new(Cursor::new(packed))?;
        let mut text = |name: &str| -> Result<String> {
            let mut text = String::new();
            if let Ok(mut found) = archive.by_name(name) {
                found.read_to_string(&mut text)?;
            }
            Ok(text)
        };
        let metadata = text("metadata.yaml")?;
        anyhow::ensure!(!metadata.is_empty(), "archive file \"metadata.yaml\" not found");
        Self::read(url, &metadata, &text("config.yaml")?, &text("actions.yaml")?)
    }

    /// Packs a charm's files.
    pub fn pack(files: &[(&str, &str)]) -> Result<Vec<u8>> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in files {
            writer.start_file(*name, zip::write::SimpleFileOptions::default())?;
            writer.write_all(text.as_bytes())?;
        }
        Ok(writer.finish()?.into_inner())
    }

    /// The same, with the workload version that it sets.
    #[must_use]
    pub fn showing(mut self, workload_version: &str) -> Self {
        workload_version.clone_into(&mut self.workload_version);
        self
    }

    /// The number at the URL's end.
    pub fn revision(&self) -> i64 {
        self.url.rsplit_once('-').and_then(|(_, revision)| revision.parse().ok()).unwrap_or_default()
    }

    /// Charmhub's id of the charm.
    pub fn id(&self) -> String {
        format!("id-of-{}", self.name())
    }

    /// Charmhub's hash of this revision.
    pub fn hash(&self) -> String {
        format!("hash-of-{}", self.url)
    }

    /// The same charm as another revision.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// The charm's name.
    pub fn name(&self) -> &str {
        self.meta["name"].as_str().unwrap_or_default()
    }

    /// Every endpoint, in the shape of `AddRelation`'s reply.
    pub fn endpoints(&self) -> Vec<Value> {
        let roles = ["provides", "requires", "peers"].iter();
        let maps = roles.filter_map(|role| self.meta.get(role).and_then(Value::as_object));
        maps.flat_map(|endpoints| endpoints.values().cloned()).collect()
    }
}

fn yaml(text: &str) -> Result<Map<String, Value>> {
    let read: Option<Map<String, Value>> = serde_yaml::from_str(text)?;
    Ok(read.unwrap_or_default())
}

fn meta(metadata: &Map<String, Value>) -> Value {
    let text = |key: &str| metadata.get(key).cloned().unwrap_or_else(|| json!(""));
    let mut made = json!({
        "name": text("name"),
        "summary": text("summary"),
        "description": text("description"),
        "subordinate": false,
        "min-juju-version": "0.0.0",
    });
    for (section, role) in [("provides", "provider"), ("requires", "requirer"), ("peers", "peer")] {
        let declared = metadata.get(section).and_then(Value::as_object).cloned().unwrap_or_default();
        let endpoints = declared.iter().map(|(name, relation)| (name.clone(), endpoint(name, role, relation)));
        let mut endpoints: Map<String, Value> = endpoints.collect();
        if section == "provides" {
            let implicit = json!({"interface": "juju-info"});
            endpoints.insert("juju-info".to_owned(), endpoint("juju-info", "provider", &implicit));
        }
        if !endpoints.is_empty() {
            made[section] = Value::Object(endpoints);
        }
    }
    let resources = metadata.get("resources").and_then(Value::as_object).cloned().unwrap_or_default();
    if !resources.is_empty() {
        let one = |(name, declared): (&String, &Value)| {
            let text = |key: &str| declared.get(key).cloned().unwrap_or_else(|| json!(""));
            let (kind, path, about) = (text("type"), text("filename"), text("description"));
            (name.clone(), json!({"name": name, "type": kind, "path": path, "description": about}))
        };
        made["resources"] = Value::Object(resources.iter().map(one).collect());
    }
    if let Some(storage) = metadata.get("storage") {
        made["storage"] = storage.clone();
    }
    made
}

fn endpoint(name: &str, role: &str, declared: &Value) -> Value {
    json!({
        "name": name,
        "role": role,
        "interface": declared["interface"],
        "optional": declared.get("optional").and_then(Value::as_bool).unwrap_or(false),
        "limit": declared.get("limit").and_then(Value::as_u64).unwrap_or(0),
        "scope": "global",
    })
}

fn action(name: &str, declared: Value) -> Value {
    let about = declared.get("description").cloned().unwrap_or_else(|| json!(""));
    let mut params = json!({
        "description": about,
        "title": name,
        "type": "object",
        "properties": declared.get("params").cloned().unwrap_or_else(|| json!({})),
    });
    if let Some(additional) = declared.get("additionalProperties") {
        params["additionalProperties"] = additional.clone();
    }
    json!({"description": about, "params": params})
}
