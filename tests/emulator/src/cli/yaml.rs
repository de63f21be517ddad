//! YAML as Go prints it, as far as action results need it.

use serde_json::{Map, Value};

/// A map as block YAML, keys in order.
pub(super) fn print(map: &Map<String, Value>) -> String {
    let mut text = String::new();
    print_map(map, 0, &mut text);
    text
}

fn print_map(map: &Map<String, Value>, depth: usize, into: &mut String) {
    let indent = "  ".repeat(depth);
    for (key, value) in map {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                into.push_str(&format!("{indent}{key}:\n"));
                print_map(inner, depth + 1, into);
            }
            Value::Array(list) if !list.is_empty() => {
                into.push_str(&format!("{indent}{key}:\n"));
                for item in list {
                    into.push_str(&format!("{indent}- {}\n", scalar(item, depth)));
                }
            }
            other => into.push_str(&format!("{indent}{key}: {}\n", scalar(other, depth))),
        }
    }
}

fn scalar(value: &Value, depth: usize) -> String {
    let Value::String(text) = value else { return value.to_string() };
    if text.contains('\n') {
        let chomp = if text.ends_with('\n') { "|" } else { "|-" };
        let indent = "  ".repeat(depth + 1);
        let lines: Vec<String> = text
            .trim_end_matches('\n')
            .lines()
            .map(|line| if line.is_empty() { String::new() } else { format!("{indent}{line}") })
            .collect();
        return format!("{chomp}\n{}", lines.join("\n"));
    }
    let plain = serde_yaml::from_str::<serde_yaml::Value>(text).is_ok_and(|read| read.as_str() == Some(text));
    if plain { text.clone() } else { Value::String(text.clone()).to_string() }
}
