//! Checks of the two databases as a whole, and of what else runs beside a migration.

use super::Facts;
use super::checks::{Judgement, bad, good};
use super::cluster::{both, megabytes, on_sides};
use super::schema::listed;
use crate::postgres::survey::Survey;

/// The longest database name that Charmed PostgreSQL 16 takes.
const NAME_LIMIT: usize = 49;
/// From here on the copy's need for disk is worth a look.
const LARGE_DATABASE: i64 = 10 << 30;

pub(super) fn encoding(facts: &Facts) -> Judgement {
    let [source, target] = both(facts).map(|(_, s)| s.server.encoding.clone());
    if source == target {
        good(format!("{source} on both sides"))
    } else {
        bad(
            format!("{source} on the source, {target} on the target"),
            format!("create the target database with ENCODING '{source}'"),
        )
    }
}

pub(super) fn locale(facts: &Facts) -> Judgement {
    let locale = |s: &Survey| format!("{}/{} (provider {})", s.server.collate, s.server.ctype, s.server.provider);
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
        let names: Vec<&str> = source.extensions.keys().map(String::as_str).filter(|name| !charm(name)).collect();
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
    let options: Vec<String> =
        options.iter().map(|name| format!("plugin_{}_enable=true", name.replace('-', "_"))).collect();
    bad(
        format!("{list} missing on the target"),
        format!(
            "juju config <target PostgreSQL> {} (with hyphens on 16); without the charm CREATE EXTENSION",
            options.join(" ")
        ),
    )
}

pub(super) fn target_name(facts: &Facts) -> Judgement {
    let survey = &facts.target.survey;
    let (name, length) = (&survey.database, survey.database.len());
    if survey.identity.major() < 16 || length <= NAME_LIMIT {
        good(format!("{name}, {length} bytes"))
    } else {
        bad(
            format!("{name} has {length} bytes, Charmed PostgreSQL 16 takes {NAME_LIMIT}"),
            "deploy the target application under a shorter name or in a model with a shorter one",
        )
    }
}

pub(super) fn disk(facts: &Facts) -> Judgement {
    let bytes = facts.source.survey.server.database_bytes;
    let found = format!("the source database has {}", megabytes(bytes));
    if bytes < LARGE_DATABASE {
        good(found)
    } else {
        bad(
            format!("{found}; free disk cannot be seen from SQL"),
            format!(
                "make sure that the target has {} free, and the source room for the WAL of the copy's duration",
                megabytes(bytes / 2 * 3)
            ),
        )
    }
}

pub(super) fn transactions(facts: &Facts) -> Judgement {
    let long = on_sides(facts, |s| {
        let open: Vec<String> = s
            .server
            .transactions
            .iter()
            .filter(|t| t.pid != 0)
            .map(|t| format!("{} for {} s by {}, pid {}", t.state, t.seconds, t.who, t.pid))
            .collect();
        (!open.is_empty()).then(|| open.join(", "))
    });
    if long.is_empty() {
        good("no transaction is older than 30 s")
    } else {
        bad(long, "end it (SELECT pg_terminate_backend(<pid>)): making a slot and closing a table wait for it")
    }
}

pub(super) fn prepared(facts: &Facts) -> Judgement {
    let left = on_sides(facts, |s| {
        let names: Vec<String> = s
            .server
            .transactions
            .iter()
            .filter(|t| t.pid == 0)
            .map(|t| format!("'{}' for {} s", t.who, t.seconds))
            .collect();
        (!names.is_empty()).then(|| format!("prepared transactions {}", names.join(", ")))
    });
    if left.is_empty() {
        good("none")
    } else {
        bad(left, "COMMIT PREPARED or ROLLBACK PREPARED each in its database: the slot and the fence wait for them")
    }
}

pub(super) fn wraparound(facts: &Facts) -> Judgement {
    let running =
        on_sides(facts, |s| (!s.server.wraparound_vacuums.is_empty()).then(|| s.server.wraparound_vacuums.join(", ")));
    if running.is_empty() {
        good("none runs")
    } else {
        bad(running, "let it end before the fence: it does not give way to a lock")
    }
}

pub(super) fn leftovers(facts: &Facts) -> Judgement {
    if let Some(run) = &facts.look.run {
        return good(format!("run {run} is under way; its objects are in use"));
    }
    let left = on_sides(facts, |s| (!s.leftovers.is_empty()).then(|| listed(&s.leftovers)));
    if left.is_empty() {
        good("nothing of an earlier run")
    } else {
        bad(
            left,
            "another coordinator moves these databases or did so before: run rollback or finalize on that one, which removes \
             them; only if it is gone for good drop them by hand",
        )
    }
}

pub(super) fn foreign_subscriptions(facts: &Facts) -> Judgement {
    let ours = crate::postgres::names::PREFIX;
    let others = on_sides(facts, |s| {
        let names: Vec<&str> =
            s.server.subscriptions.iter().map(|sub| sub.name.as_str()).filter(|name| !name.starts_with(ours)).collect();
        (!names.is_empty()).then(|| format!("subscriptions {}", names.join(", ")))
    });
    if others.is_empty() {
        good("none but ours")
    } else {
        bad(others, "drop them (DROP SUBSCRIPTION …): a fence does not stop what they apply")
    }
}

pub(super) fn foreign_publications(facts: &Facts) -> Judgement {
    let ours = crate::postgres::names::PREFIX;
    let others = on_sides(facts, |s| {
        let names: Vec<&String> = s.server.publications.iter().filter(|name| !name.starts_with(ours)).collect();
        (!names.is_empty())
            .then(|| format!("publications {}", names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ")))
    });
    if others.is_empty() {
        good("none but ours")
    } else {
        bad(others, "move their subscribers to the target after the flip: they are not carried over")
    }
}
