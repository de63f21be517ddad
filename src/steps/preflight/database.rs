//! Checks of the two databases as a whole.

use super::Facts;
use super::judgement::{Judgement, bad, good, hint};
use super::sides::{both, faults, judged};
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
    let options: Vec<String> =
        options.iter().map(|name| format!("plugin_{}_enable=true", name.replace('-', "_"))).collect();
    bad(
        format!("{list} missing on the target"),
        format!(
            "juju config <target PostgreSQL> {} (with hyphens on 16); without the charm run on the target: {}",
            options.join(" "),
            create.join("; ")
        ),
    )
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
        let rebuild = format!("REINDEX DATABASE {}", ident(&s.database));
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
