//! Checks of how like the two schemas are.

use super::Facts;
use super::judgement::{Judgement, bad, good, hint};
use super::sides::{Fault, Remedy, judged, listed, statements};
use crate::postgres::inspect::{Table, schema_differences};
use crate::postgres::names::ident;
use crate::postgres::survey::Survey;
use std::collections::BTreeMap;

pub(super) fn ownership(facts: &Facts) -> Judgement {
    let survey = &facts.target.survey;
    if survey.tables.is_empty() {
        return bad(
            format!("{} has no table", survey.place()),
            "relate the target application to its database and let it start once: it makes its own schema",
        );
    }
    let mut owned: BTreeMap<&str, usize> = BTreeMap::new();
    for table in &survey.tables {
        *owned.entry(&table.owner).or_default() += 1;
    }
    // In Charmed PostgreSQL 16 the application works as this role, and is no superuser then.
    let most = owned.iter().max_by_key(|(_, count)| **count).map(|(owner, _)| (*owner).to_owned());
    let Some(owner) = survey.server.charmed_owner.clone().or(most) else { return good("no table") };
    let fault = |found: String, sql: String| Fault { side: "target", found, remedy: Remedy::Sql(sql) };
    let mut strays: Vec<Fault> = survey
        .tables
        .iter()
        .filter(|table| table.owner != owner)
        .map(|table| {
            fault(
                format!("{} belongs to {}", table.name, table.owner),
                format!("ALTER TABLE {} OWNER TO {}", table.name.sql(), ident(&owner)),
            )
        })
        .collect();
    strays.extend(survey.server.sequences.iter().filter(|sequence| sequence.owner != owner).map(|sequence| {
        fault(
            format!("sequence {} belongs to {}", sequence.name, sequence.owner),
            format!("ALTER SEQUENCE {} OWNER TO {}", sequence.name, ident(&owner)),
        )
    }));
    let facts_of_owner = survey.server.owners.iter().filter(|role| role.name == owner);
    strays.extend(facts_of_owner.flat_map(|role| &role.shut_out).map(|schema| {
        fault(
            format!("role {owner} may not create anything in schema {schema}"),
            format!("GRANT CREATE ON SCHEMA {} TO {}", ident(schema), ident(&owner)),
        )
    }));
    if strays.is_empty()
        && let Some(unswitched) = unswitched(survey, &owner)
    {
        return unswitched;
    }
    judged(
        &strays,
        format!("all {} tables of the target belong to {owner}", survey.tables.len()),
        &format!("the application's schema migration works as {owner} and may change its own tables only"),
    )
}

/// Sessions of the application that Charmed PostgreSQL 16's login hook does not turn into the owner of its tables.
fn unswitched(survey: &Survey, owner: &str) -> Option<Judgement> {
    survey.server.charmed_owner.as_ref()?;
    let ours = &survey.server.session_user;
    let roles = survey.server.connected_roles.iter().filter(|role| role.starts_with("relation") && *role != ours);
    let left: Vec<Fault> = roles
        .filter(|role| !survey.server.charmed_admins.contains(*role))
        .map(|role| Fault {
            side: "target",
            found: format!("role {role}"),
            remedy: Remedy::Sql(format!(
                "GRANT {} TO {}",
                ident(&format!("charmed_{}_admin", survey.database)),
                ident(role)
            )),
        })
        .collect();
    let found: Vec<String> = left.iter().map(|fault| fault.found.clone()).collect();
    (!left.is_empty()).then(|| {
        hint(
            format!("the login hook of the target does not turn {} into {owner}", listed(&found)),
            format!("{}; else what it makes belongs to itself, and to operator later", statements(&left)),
        )
    })
}

/// What a run in its later steps has changed on purpose.
fn migrated(facts: &Facts) -> bool {
    facts.look.run.is_some() && facts.source.schema != facts.target.schema
}

pub(super) fn equality(facts: &Facts) -> Judgement {
    let app = facts.look.app;
    // Traces of older migrators stay behind on the source only, and nothing of them is copied.
    let compared = |tables: &[Table]| -> Vec<Table> {
        tables.iter().filter(|table| !app.migration_relics.contains(&table.name.name.as_str())).cloned().collect()
    };
    let (source, target) = (compared(&facts.source.survey.tables), compared(&facts.target.survey.tables));
    if migrated(facts) {
        return good("the target's schema is migrated already, in the run that is under way");
    }
    let differences = schema_differences(&source, &target);
    if differences.is_empty() {
        let columns: usize = source.iter().map(|table| table.columns.len()).sum();
        good(format!("{} tables and {columns} columns are the same on both sides", source.len()))
    } else {
        bad(
            listed(&differences),
            format!(
                "bring the target application to the source's revision on a fresh database, let it make its schema, then refresh it \
                 (juju remove-relation and integrate {} with its database)",
                facts.look.target_application
            ),
        )
    }
}

pub(super) fn constraints(facts: &Facts) -> Judgement {
    let [source, target] = [&facts.source, &facts.target].map(|side| &side.survey.server.constraints);
    // While a copy runs, its indexes are down; after a migration they are others.
    if facts.look.run.is_some() {
        return good(format!("{} on the source; those of the target are the run's business", source.len()));
    }
    if facts.source.schema != facts.target.schema {
        return good("compared once both sides have the same schema migrations");
    }
    let only = |these: &std::collections::BTreeSet<String>, those: &std::collections::BTreeSet<String>| {
        these.difference(those).cloned().collect::<Vec<_>>()
    };
    let (missing, more) = (only(source, target), only(target, source));
    if !more.is_empty() {
        bad(
            format!("only on the target: {}", listed(&more)),
            "drop these there (ALTER TABLE … DROP CONSTRAINT, DROP INDEX): rows of the source may break them",
        )
    } else if !missing.is_empty() {
        hint(
            format!("only on the source: {}", listed(&missing)),
            "make these on the target too, unless they are nobody's: they are not carried over",
        )
    } else {
        good(format!("the same {} on both sides", source.len()))
    }
}

pub(super) fn objects(facts: &Facts) -> Judgement {
    let [source, target] = [&facts.source, &facts.target].map(|side| &side.survey.server.objects);
    let missing: Vec<String> = source.difference(target).cloned().collect();
    if missing.is_empty() {
        good(format!("{} on the source, all on the target too", source.len()))
    } else {
        bad(
            format!("only on the source: {}", listed(&missing)),
            "make on the target what is still needed, before the flip: only tables and their rows are carried over",
        )
    }
}
