//! Checks of the two databases as a whole.

use super::Facts;
use super::judgement::{Judgement, bad, good, hint};
use super::sides::{both, each, faults, judged};
use super::typed::Typed;
use crate::postgres::names::ident;
use crate::postgres::survey::Survey;

/// The longest database name that Charmed PostgreSQL 16 takes.
const NAME_LIMIT: usize = 49;

pub(super) fn encoding(facts: &Facts) -> Judgement {
    let [source, target] = both(facts).map(|(_, s)| s.server.encoding.clone());
    let name = ident(&facts.target.survey.database);
    if source != target {
        bad(
            format!("{source} on the source, {target} on the target"),
            format!(
                "make the target's database anew in the source's encoding, before its application makes its schema: \
                 DROP DATABASE {name}; CREATE DATABASE {name} ENCODING '{source}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
            ),
        )
    } else if source == "UTF8" {
        good("UTF8 on both sides")
    } else {
        hint(
            format!("{source} on both sides"),
            "know that names outside this encoding cannot be stored; a database in UTF8 needs a dump and restore instead",
        )
    }
}

pub(super) fn locale(facts: &Facts) -> Judgement {
    let locale = |s: &Survey| {
        let provider = match s.server.provider.as_str() {
            "i" => "ICU",
            "b" => "built in",
            _ => "libc",
        };
        let own = s.server.provider_locale.as_ref().map(|own| format!(" {own}")).unwrap_or_default();
        format!("{}/{} ({provider}{own})", s.server.collate, s.server.ctype)
    };
    let [source, target] = both(facts).map(|(_, s)| locale(s));
    if source == target {
        good(format!("{source} on both sides"))
    } else {
        bad(
            format!("{source} on the source, {target} on the target"),
            "know that text sorts otherwise on the target; indexes are built anew there, so no row is lost",
        )
    }
}

pub(super) fn extensions(facts: &Facts) -> Judgement {
    let (source, target) = (&facts.source.survey.server, &facts.target.survey.server);
    // What a charm loads into every database is its own business on each side.
    let charm = |name: &str| {
        matches!(name, "plpgsql" | "pgaudit" | "login_hook" | "set_user" | "pg_stat_statements" | "timescaledb")
    };
    let missing: Vec<&String> =
        source.extensions.keys().filter(|name| !charm(name) && !target.extensions.contains_key(*name)).collect();
    if missing.is_empty() {
        if let Some(coming) = coming_extensions(facts) {
            return coming;
        }
        let names: Vec<String> = source
            .extensions
            .iter()
            .filter(|(name, _)| !charm(name))
            .map(|(name, version)| match target.extensions.get(name) {
                Some(theirs) if theirs != version => format!("{name} {version} → {theirs}"),
                _ => format!("{name} {version}"),
            })
            .collect();
        return good(if names.is_empty() {
            "none needed".to_owned()
        } else {
            format!("{} on both sides", names.join(", "))
        });
    }
    let list = missing.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let (unavailable, options): (Vec<&String>, Vec<&String>) =
        missing.iter().partition(|name| !target.available_extensions.contains(**name));
    if !unavailable.is_empty() {
        return bad(
            format!("{list} missing on the target, and not installable there"),
            "take a PostgreSQL that ships them",
        );
    }
    let create: Vec<String> = options.iter().map(|name| format!("CREATE EXTENSION {}", ident(name))).collect();
    let options: Vec<String> = options.iter().map(|name| plugin(name, facts.target.survey.identity.major())).collect();
    let [_, at] = each(facts);
    let charm = format!("juju config {} {}", at.addressed(), options.join(" "));
    bad(
        format!("{list} missing on the target"),
        format!("{charm}; without the PostgreSQL charm run on the target: {}", create.join("; ")),
    )
    .typed([Typed::At("target", charm)])
}

/// What the coming schema migration creates, and could not.
fn coming_extensions(facts: &Facts) -> Option<Judgement> {
    let (app, server) = (facts.look.app, &facts.target.survey.server);
    let passed = app.extensions.iter().filter(|(release, _)| facts.may_pass(release));
    let wanted: Vec<(&str, &str)> = passed
        .flat_map(|(release, names)| names.iter().map(|name| (*release, *name)))
        .filter(|(_, name)| !server.extensions.contains_key(*name))
        .collect();
    let which = |wanted: &[(&str, &str)]| {
        let parts: Vec<String> =
            wanted.iter().map(|(release, name)| format!("{name} ({} {release} creates it)", app.title)).collect();
        parts.join(", ")
    };
    let options: Vec<String> =
        wanted.iter().map(|(_, name)| plugin(name, facts.target.survey.identity.major())).collect();
    let [_, at] = each(facts);
    let charm = format!("juju config {} {}", at.addressed(), options.join(" "));
    let absent: Vec<(&str, &str)> =
        wanted.iter().copied().filter(|(_, name)| !server.available_extensions.contains(*name)).collect();
    if !absent.is_empty() {
        return Some(bad(
            format!("{} is not installable on the target: the schema migration would fail there", which(&absent)),
            format!("{charm}; or take a PostgreSQL that ships them"),
        ));
    }
    // The application works as whoever owns its tables.
    let owners = server.owners.iter().filter(|owner| !owner.superuser);
    let powerless =
        |name: &str| owners.clone().find(|owner| !owner.may_create || server.untrusted_extensions.contains(name));
    let refused: Vec<(&str, &str)> = wanted.iter().copied().filter(|(_, name)| powerless(name).is_some()).collect();
    let owner = refused.first().and_then(|(_, name)| powerless(name))?;
    let create: Vec<String> = refused.iter().map(|(_, name)| format!("CREATE EXTENSION {}", ident(name))).collect();
    Some(
        hint(
            format!("role {} may not create {} on the target", owner.name, which(&refused)),
            format!("{charm}; without the PostgreSQL charm run on the target: {}", create.join("; ")),
        )
        .typed([Typed::At("target", charm)]),
    )
}

/// The PostgreSQL charm's option for an extension.
fn plugin(name: &str, major: u32) -> String {
    let option = format!("plugin_{}_enable", name.replace('-', "_"));
    format!("{}=true", if major >= 16 { option.replace('_', "-") } else { option })
}

pub(super) fn names(facts: &Facts) -> Judgement {
    let long = faults(facts, |s| {
        let (name, length) = (&s.database, s.database.len());
        if s.identity.major() < 16 || length <= NAME_LIMIT {
            return Vec::new();
        }
        vec![(format!("{name} has {length} bytes, Charmed PostgreSQL 16 takes {NAME_LIMIT}"), String::new())]
    });
    let names = both(facts).map(|(_, s)| format!("{} ({} bytes)", s.database, s.database.len()));
    judged(
        &long,
        names.join(" → "),
        "deploy that application under a shorter name or in a model with one: the charm refuses to relate it a second time",
    )
}

pub(super) fn collation_versions(facts: &Facts) -> Judgement {
    let stale = faults(facts, |s| {
        let rebuild = format!("REINDEX DATABASE CONCURRENTLY {}", ident(&s.database));
        let one = |(what, refresh): &(String, String)| {
            (format!("the library behind {what} changed since its indexes were built"), format!("{rebuild}; {refresh}"))
        };
        s.stale_collations.iter().map(one).collect()
    });
    judged(
        &stale,
        "every collation has the version its indexes were built with",
        "an index that sorts otherwise than its library hides rows, and lets duplicates in",
    )
}
