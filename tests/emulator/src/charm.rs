//! A charm's files: metadata.yaml, actions.yaml and config.yaml, read by
//! Juju's rules as far as a model needs them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What a charm declares.
#[derive(Debug, Clone)]
pub struct CharmFiles {
    pub name: String,
    pub endpoints: BTreeMap<String, Endpoint>,
    pub actions: BTreeMap<String, ActionSpecification>,
    pub options: BTreeMap<String, ConfigOption>,
    /// The same as the controller's API tells it, of no revision yet.
    pub(crate) told: controller_peer::Charm,
}

/// Which side of a relation an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Requires,
    Provides,
    Peer,
}

/// An endpoint of metadata.yaml.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub role: Role,
    pub interface: String,
    /// How many relations it takes; None for any number.
    pub limit: Option<u64>,
}

/// An action of actions.yaml: a JSON Schema (draft 4) of its parameters.
#[derive(Debug, Clone)]
pub struct ActionSpecification {
    pub description: String,
    pub parameters: BTreeMap<String, Value>,
    pub required: Vec<String>,
    /// None leaves it to the Juju version: refused by 4.0, allowed by 3.6.
    pub additional_properties: Option<bool>,
}

/// An option of config.yaml.
#[derive(Debug, Clone, Deserialize)]
pub struct ConfigOption {
    #[serde(rename = "type", default = "string_type")]
    pub kind: String,
    #[serde(default)]
    pub default: Value,
    #[serde(default)]
    pub description: String,
}

fn string_type() -> String {
    "string".into()
}

impl CharmFiles {
    /// Reads the files of a charm folder; actions.yaml and config.yaml may be
    /// absent.
    pub fn read(folder: &Path) -> Result<Self> {
        let text = |name: &str| std::fs::read_to_string(folder.join(name));
        let metadata =
            text("metadata.yaml").with_context(|| format!("cannot read metadata.yaml of {}", folder.display()))?;
        Self::parse(&metadata, &text("actions.yaml").unwrap_or_default(), &text("config.yaml").unwrap_or_default())
            .with_context(|| format!("cannot accept the charm in {}", folder.display()))
    }

    /// The file name of a resource that is a file.
    pub fn file_of(&self, resource: &str) -> Option<String> {
        let declared = self.told.meta["resources"].get(resource)?;
        (declared["type"] == "file").then(|| declared["path"].as_str().unwrap_or_default().to_owned())
    }

    /// Parses the three files' texts; the last two may be empty.
    pub fn parse(metadata: &str, actions: &str, config: &str) -> Result<Self> {
        let told = controller_peer::Charm::read("", metadata, config, actions)?;
        let metadata: Map<String, Value> = serde_yaml::from_str(metadata).context("metadata.yaml")?;
        let string = |key: &str| {
            metadata
                .get(key)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .with_context(|| format!("metadata.yaml: no {key}"))
        };
        let name = string("name")?;
        string("summary")?;
        string("description")?;
        let mut endpoints = BTreeMap::new();
        for (section, role) in [("requires", Role::Requires), ("provides", Role::Provides), ("peers", Role::Peer)] {
            for (endpoint, declared) in metadata.get(section).and_then(Value::as_object).into_iter().flatten() {
                let declared = parse_endpoint(endpoint, declared, role)?;
                if endpoints.insert(endpoint.clone(), declared).is_some() {
                    bail!("metadata.yaml: the endpoint {endpoint} is declared twice");
                }
            }
        }
        Ok(CharmFiles { name, endpoints, actions: parse_actions(actions)?, options: parse_options(config)?, told })
    }
}

fn parse_endpoint(name: &str, declared: &Value, role: Role) -> Result<Endpoint> {
    if name == "juju" || name.starts_with("juju-") {
        bail!("metadata.yaml: the endpoint name {name} is reserved");
    }
    let interface = match declared {
        Value::String(interface) => interface.clone(),
        other => other
            .get("interface")
            .and_then(Value::as_str)
            .with_context(|| format!("metadata.yaml: the endpoint {name} has no interface"))?
            .to_owned(),
    };
    Ok(Endpoint { role, interface, limit: declared.get("limit").and_then(Value::as_u64) })
}

fn parse_actions(text: &str) -> Result<BTreeMap<String, ActionSpecification>> {
    let declared: BTreeMap<String, Option<Map<String, Value>>> = parse_or_empty(text).context("actions.yaml")?;
    let mut actions = BTreeMap::new();
    for (name, declared) in declared {
        if !valid_key(&name) || name == "juju" || name.starts_with("juju-") {
            bail!("actions.yaml: {name} is no valid action name");
        }
        let declared = declared.unwrap_or_default();
        let strings = |key: &str| -> Vec<String> {
            let list = declared.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let parameters = declared.get("params").and_then(Value::as_object).cloned().unwrap_or_default();
        actions.insert(
            name,
            ActionSpecification {
                description: declared.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
                parameters: parameters.into_iter().collect(),
                required: strings("required"),
                additional_properties: declared.get("additionalProperties").and_then(Value::as_bool),
            },
        );
    }
    Ok(actions)
}

fn parse_options(text: &str) -> Result<BTreeMap<String, ConfigOption>> {
    #[derive(Deserialize, Default)]
    struct File {
        #[serde(default)]
        options: BTreeMap<String, ConfigOption>,
    }
    let file: File = parse_or_empty(text).context("config.yaml")?;
    for (name, option) in &file.options {
        if !["string", "int", "float", "boolean", "secret"].contains(&option.kind.as_str()) {
            bail!("config.yaml: the option {name} has the unknown type {}", option.kind);
        }
        if !option.default.is_null() {
            option.check(name, &option.default)?;
        }
    }
    Ok(file.options)
}

fn parse_or_empty<T: serde::de::DeserializeOwned + Default>(text: &str) -> Result<T> {
    if text.trim().is_empty() { Ok(T::default()) } else { Ok(serde_yaml::from_str(text)?) }
}

impl ConfigOption {
    /// The value that a user's text stands for.
    pub fn parse(&self, name: &str, text: &str) -> Result<Value> {
        let value = match self.kind.as_str() {
            "string" | "secret" => Value::String(text.to_owned()),
            _ => serde_yaml::from_str(text).unwrap_or(Value::Null),
        };
        self.check(name, &value)?;
        Ok(value)
    }

    fn check(&self, name: &str, value: &Value) -> Result<()> {
        let fits = match self.kind.as_str() {
            "string" => value.is_string(),
            "secret" => value.as_str().is_some_and(|uri| uri.is_empty() || uri.starts_with("secret:")),
            "int" => value.is_i64() || value.is_u64(),
            "float" => value.is_number(),
            _ => value.is_boolean(),
        };
        if !fits {
            bail!("option {name:?} expected {}, got {value}", self.kind);
        }
        Ok(())
    }
}

/// Lower-case letters and digits with hyphens inside: names of actions, parts
/// of action result keys.
pub(crate) fn valid_key(key: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    key.starts_with(inner) && key.ends_with(inner) && key.chars().all(|c| inner(c) || c == '-')
}

impl ActionSpecification {
    /// Validates parameters, then fills in the defaults, in this order as Juju
    /// does (a required parameter's default does not help). The error is the
    /// text after `validation failed: `.
    pub fn validate(&self, given: &Map<String, Value>, allow_others: bool) -> Result<Map<String, Value>, String> {
        for name in &self.required {
            if !given.contains_key(name) {
                return Err(format!(
                    "(root) : {name:?} property is missing and required, given {}",
                    Value::Object(given.clone())
                ));
            }
        }
        for (name, value) in given {
            let Some(schema) = self.parameters.get(name) else {
                if self.additional_properties.unwrap_or(allow_others) {
                    continue;
                }
                return Err(format!(
                    "(root) : additional property {name:?} is not allowed, given {}",
                    Value::Object(given.clone())
                ));
            };
            check_parameter(schema, value)
                .map_err(|rule| format!("(root).{name} : {rule}, given {}", quoted(value)))?;
        }
        let mut filled = given.clone();
        for (name, schema) in &self.parameters {
            if let (None, Some(default)) = (filled.get(name), schema.get("default")) {
                filled.insert(name.clone(), default.clone());
            }
        }
        Ok(filled)
    }
}

/// Juju's schema library quotes numbers in its messages.
fn quoted(value: &Value) -> String {
    if value.is_number() { format!("\"{value}\"") } else { value.to_string() }
}

fn check_parameter(schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(kind) = schema.get("type").and_then(Value::as_str) {
        let fits = match kind {
            "string" => value.is_string(),
            "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "object" => value.is_object(),
            "array" => value.is_array(),
            _ => true,
        };
        if !fits {
            return Err(format!("must be of type {kind}"));
        }
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array)
        && !values.contains(value)
    {
        let values: Vec<String> = values.iter().map(Value::to_string).collect();
        return Err(format!("must match one of the enum values [{}]", values.join(",")));
    }
    let number = value.as_f64();
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    if let (Some(number), Some(minimum)) = (number, bound("minimum"))
        && number < minimum
    {
        // The library says "greater than" for an inclusive minimum too.
        return Err(format!("must be greater than {minimum}"));
    }
    if let (Some(number), Some(maximum)) = (number, bound("maximum"))
        && number > maximum
    {
        return Err(format!("must be lower than {maximum}"));
    }
    Ok(())
}
