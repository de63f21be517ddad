//! The apps' schemas as recorded from databases that each release's own `migrate sql` created:
//! builds them where no server of the app is needed.

use coordinator::apps::{App, KRATOS};
use serde_json::Value;

/// What was recorded: app, release, catalog.
const RECORDED: [(&str, &str, &str); 9] = [
    ("kratos", "1.0.0", include_str!("data/ory-catalogs/kratos-v1.0.0.json")),
    ("kratos", "1.1.0", include_str!("data/ory-catalogs/kratos-v1.1.0.json")),
    ("kratos", "1.3.1", include_str!("data/ory-catalogs/kratos-v1.3.1.json")),
    ("kratos", "25.4.0", include_str!("data/ory-catalogs/kratos-v25.4.0.json")),
    ("kratos", "26.2.0", include_str!("data/ory-catalogs/kratos-v26.2.0.json")),
    ("hydra", "2.2.0", include_str!("data/ory-catalogs/hydra-v2.2.0.json")),
    ("hydra", "2.3.0", include_str!("data/ory-catalogs/hydra-v2.3.0.json")),
    ("hydra", "25.4.0", include_str!("data/ory-catalogs/hydra-v25.4.0.json")),
    ("hydra", "26.2.0", include_str!("data/ory-catalogs/hydra-v26.2.0.json")),
];

fn recorded(app: &str, version: &str) -> Option<&'static str> {
    RECORDED.iter().find(|known| (known.0, known.1) == (app, version)).map(|known| known.2)
}

/// Whether this release's catalog was recorded.
pub fn is_recorded(app: &str, version: &str) -> bool {
    recorded(app, version).is_some()
}

/// SQL that makes an empty database what release `version` of Kratos makes of it.
pub fn kratos_schema(version: &str) -> String {
    schema(&KRATOS, version)
}

/// SQL that makes an empty database what release `version` of `app` makes of it.
pub fn schema(app: &App, version: &str) -> String {
    let text = recorded(app.name, version).unwrap_or_else(|| panic!("no catalog of {} {version}", app.title));
    let catalog: Value = serde_json::from_str(text).unwrap();
    let (mut tables, mut keys, mut foreign_keys) = (String::new(), String::new(), String::new());
    for extension in list(&catalog["extensions"]).filter(|extension| is_needed(extension, &catalog)) {
        tables += &format!("CREATE EXTENSION IF NOT EXISTS \"{}\";\n", extension.as_str().unwrap());
    }
    for sequence in list(&catalog["sequences"]) {
        let [name, kind] = ["name", "type"].map(|key| sequence[key].as_str().unwrap());
        let [start, step] = ["start", "increment"].map(|key| sequence[key].as_i64().unwrap());
        tables += &format!("CREATE SEQUENCE public.{name} AS {kind} START {start} INCREMENT {step};\n");
    }
    for (table, facts) in catalog["tables"].as_object().unwrap() {
        let columns: Vec<String> = list(&facts["columns"]).map(column).collect();
        tables += &format!("CREATE TABLE public.{table} ({});\n", columns.join(", "));
        for constraint in list(&facts["constraints"]) {
            let statement = format!(
                "ALTER TABLE public.{table} ADD CONSTRAINT {} {};\n",
                constraint["name"].as_str().unwrap(),
                constraint["definition"].as_str().unwrap()
            );
            if constraint["type"] == "f" { foreign_keys += &statement } else { keys += &statement }
        }
        let constraint = |index: &Value| list(&facts["constraints"]).any(|c| c["name"] == index["name"]);
        for index in list(&facts["indexes"]).filter(|index| !constraint(index)) {
            keys += &format!("{};\n", index["definition"].as_str().unwrap());
        }
    }
    let mut rows = String::new();
    for version in list(&catalog["migrations"]) {
        rows += &format!("INSERT INTO public.schema_migration (version) VALUES ('{}');\n", version.as_str().unwrap());
    }
    for row in list(&catalog["seed_rows"]["identity_credential_types"]) {
        let (id, name) = (row["id"].as_str().unwrap(), row["name"].as_str().unwrap());
        rows += &format!("INSERT INTO public.identity_credential_types (id, name) VALUES ('{id}', '{name}');\n");
    }
    format!("{tables}{keys}{foreign_keys}{rows}")
}

/// A migration of Hydra's creates uuid-ossp and keeps nothing that uses it; it is not installed everywhere.
fn is_needed(extension: &Value, catalog: &Value) -> bool {
    let columns = catalog["tables"].as_object().unwrap().values().flat_map(|facts| list(&facts["columns"]));
    let defaults: Vec<&str> = columns.filter_map(|facts| facts["default"].as_str()).collect();
    extension != "uuid-ossp" || defaults.iter().any(|default| default.contains("uuid_"))
}

fn column(facts: &Value) -> String {
    let mut text = format!("{} {}", facts["name"].as_str().unwrap(), facts["type"].as_str().unwrap());
    if let Some(default) = facts["default"].as_str() {
        text += &format!(" DEFAULT {default}");
    }
    if let Some(expression) = facts["generated"].as_str() {
        text += &format!(" GENERATED ALWAYS AS ({expression}) STORED");
    }
    if facts["not_null"] == true {
        text += " NOT NULL";
    }
    text
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
