//! An action's parameters against its schema, in the words of the validator that Juju uses.

use serde_json::{Map, Value};

/// The first thing that is wrong. `strict`: undeclared parameters are refused unless the schema allows them (4.0).
pub fn check(schema: &Value, parameters: &Map<String, Value>, strict: bool) -> Result<(), String> {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let additional = schema.get("additionalProperties").and_then(Value::as_bool).unwrap_or(!strict);
    for (name, value) in parameters {
        let Some(declared) = properties.get(name) else {
            if additional {
                continue;
            }
            let given = Value::Object(parameters.clone());
            return Err(format!(
                "validation failed: (root) : additional property {name:?} is not allowed, given {given}"
            ));
        };
        let kind = declared.get("type").and_then(Value::as_str).unwrap_or("string");
        let fits = match kind {
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            _ => true,
        };
        if !fits {
            return Err(format!("validation failed: (root).{name} : must be of type {kind}, given {value}"));
        }
        let minimum = declared.get("minimum").and_then(Value::as_i64);
        if let (Some(minimum), Some(number)) = (minimum, value.as_i64())
            && number < minimum
        {
            return Err(format!(
                "validation failed: (root).{name} : must be greater than {minimum}, given \"{number}\""
            ));
        }
    }
    Ok(())
}

/// What 4.0 makes of a parameter on its way: everything but scalars becomes Go's text for it.
pub fn flattened(value: &Value) -> Value {
    match value {
        Value::Object(_) | Value::Array(_) | Value::Null => Value::String(go_text(value)),
        scalar => scalar.clone(),
    }
}

fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}
