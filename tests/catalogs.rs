//! Kratos' schema as recorded from databases that each release's own `migrate sql` created:
//! builds it where no Kratos is needed.

use serde_json::Value;

/// SQL that makes an empty database what release `version` makes of it.
pub fn kratos_schema(version: &str) -> String {
    let text = match version {
        "1.0.0" => include_str!("data/ory-catalogs/kratos-v1.0.0.json"),
        "1.3.1" => include_str!("data/ory-catalogs/kratos-v1.3.1.json"),
        "25.4.0" => include_str!("data/ory-catalogs/kratos-v25.4.0.json"),
        "26.2.0" => include_str!("data/ory-catalogs/kratos-v26.2.0.json"),
        other => panic!("no catalog of Kratos {other}"),
    };
    let catalog: Value = serde_json::from_str(text).unwrap();
    let (mut tables, mut keys, mut foreign_keys) = (String::new(), String::new(), String::new());
    for extension in list(&catalog["extensions"]) {
        tables += &format!("CREATE EXTENSION IF NOT EXISTS {};\n", extension.as_str().unwrap());
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

fn column(facts: &Value) -> String {
    let mut text = format!("{} {}", facts["name"].as_str().unwrap(), facts["type"].as_str().unwrap());
    if let Some(default) = facts["default"].as_str() {
        text += &format!(" DEFAULT {default}");
    }
    if facts["not_null"] == true {
        text += " NOT NULL";
    }
    text
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
