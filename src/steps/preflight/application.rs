//! Checks of the two applications: releases, servers, identity schemas, order.

use super::Facts;
use super::contents::Counted;
use super::judgement::{Judgement, bad, good, hint};
use super::sides::listed;
use super::typed::Typed;
use crate::apps::releases::precedes;
use crate::apps::{Health, Readable, Recognised};
use crate::migration::Order;

/// Seconds that the documented order grants a person and the server's start, inside the outage.
const DOCUMENTED_MARGIN: u64 = 600;
/// What the application's own action grants when it is not told otherwise, in seconds.
const ACTION_DEFAULT: u64 = 120;

pub(super) fn source_release(facts: &Facts) -> Judgement {
    let (app, side) = (facts.look.app, &facts.source);
    let place = side.survey.place();
    let table = app.migration_table;
    match side.contents.app_schemas.as_slice() {
        [] => {
            return bad(
                format!("{place} has no table {table}"),
                "check option source-database-name and the relation source-database",
            );
        }
        [_] => {}
        several => {
            return bad(
                format!("{place} has {table} in the schemas {}", several.join(", ")),
                "drop the schemas that the application does not use",
            );
        }
    }
    match &side.schema {
        Recognised::Release(name) => {
            good(format!("{} {name} ({} migrations)", app.title, side.contents.migrations.len()))
        }
        Recognised::Empty | Recognised::Between { .. } => bad(
            format!("{place} has {}", side.schema),
            "run the source application's run-migration until it succeeds, then preflight again",
        ),
        Recognised::Unknown { foreign } => bad(
            format!("{place} has {}", side.schema),
            match foreign {
                0 => format!("refresh the source application to {} {} or newer first", app.title, oldest(facts)),
                _ => format!("take a newer revision of {}, which knows this release", facts.look.coordinator),
            },
        ),
    }
}

fn oldest(facts: &Facts) -> String {
    facts.look.app.releases().first().map(|release| release.name.clone()).unwrap_or_default()
}

pub(super) fn same_migrations(facts: &Facts) -> Judgement {
    let (source, target) = (&facts.source.contents.migrations, &facts.target.contents.migrations);
    let title = facts.look.app.title;
    if source == target {
        return good(format!("the same {} schema migrations on both sides", source.len()));
    }
    let (behind, ahead) = (source.difference(target).count(), target.difference(source).count());
    let found = format!(
        "the target has {}, the source {} ({behind} migrations only on the source, {ahead} only on the target)",
        facts.target.schema, facts.source.schema
    );
    let fresh =
        format!("the source's release on a fresh database (juju integrate {} with it)", facts.look.target_application);
    match &facts.target.schema {
        Recognised::Release(name) if behind == 0 && facts.look.run.is_some() => {
            good(format!("the target was migrated to {title} {name} in the run that is under way"))
        }
        Recognised::Empty => {
            bad(found, format!("let the target application start once with {fresh}: it makes its schema by itself"))
        }
        _ if behind > 0 => bad(found, format!("bring the target to {fresh}; refresh it after that")),
        _ => bad(
            found,
            format!(
                "the target was migrated too early: begin with {fresh}, then refresh, and leave run-migration to the runbook"
            ),
        ),
    }
}

pub(super) fn source_serves(facts: &Facts) -> Judgement {
    let (app, side) = (facts.look.app, &facts.source);
    let running = match &side.health {
        None => {
            return bad(
                "its relation gives no address",
                format!(
                    "integrate source-{} with the source application's {}, and give it a public route",
                    app.name, app.consumers_endpoint
                ),
            );
        }
        Some(Health::Ready { version }) => version,
        Some(health) => {
            return bad(
                format!("the source application is {health}"),
                "repair it before a migration: what it serves is the measure afterwards",
            );
        }
    };
    match (&side.schema, app.release_of(running)) {
        // An older server on a newer schema is "ready" too, so both are compared.
        (Recognised::Release(name), Some(_)) if !app.serves(running, name) => bad(
            format!("the source application is ready at {running}, its database has the schema of {name}"),
            format!("check that source-{} and source-database belong to the same application", app.name),
        ),
        (_, None) => bad(
            format!("the source application is ready at {running}, a release that is not known here"),
            format!("refresh {} to a revision that knows it", facts.look.coordinator),
        ),
        _ => good(format!("ready, {} {running}", app.title)),
    }
}

pub(super) fn source_identity(facts: &Facts) -> Judgement {
    let kept = &facts.look.app.keeps;
    match (&facts.source.readable, &facts.source.contents.some_kept) {
        (Some(Readable::Yes), _) => good(format!("one of the {} was read", kept.many)),
        (Some(Readable::Missing), _) => bad(
            format!("the source application does not know one of the {} of its own database", kept.many),
            format!(
                "check that source-{} and source-database belong together, and restart the application if its database \
                 was restored",
                facts.look.app.name
            ),
        ),
        (Some(Readable::Failed { status, message }), _) => bad(
            format!("reading one of the {} failed with {status}: {message}", kept.many),
            "repair that on the source first",
        ),
        (None, None) => good(format!("{} is empty", kept.table)),
        (None, Some(_)) => bad("the source application did not answer", "see source-application"),
    }
}

pub(super) fn target_serves(facts: &Facts) -> Judgement {
    let (app, side, from) = (facts.look.app, &facts.target, facts.source.release());
    match &side.health {
        None => good("its relation gives no address yet (it has no public route)"),
        Some(health @ (Health::Down(_) | Health::NotReady { .. })) => {
            good(format!("{health}: quiet, as it should be before the copy"))
        }
        Some(Health::Ready { version }) => match (app.release_of(version), from) {
            (None, _) if precedes(version, &oldest(facts)) => bad(
                format!("the target application runs {version}, a release that is not known here"),
                format!("refresh {} to a revision that knows it", facts.look.coordinator),
            ),
            (None, Some(from)) if precedes(version, from) => bad(
                format!("the target application runs {version}, which is older than the source's {from}"),
                format!("juju refresh {} to a newer revision", facts.look.target_application),
            )
            .typed([Typed::Command(format!("juju refresh {}", facts.look.target_application))]),
            // What no test took there goes the way that undoes itself: nothing is migrated before writes are stopped.
            (None, _) => hint(
                format!(
                    "the target application runs {version}, a release that is not known here: nobody tried the way there or \
                     back, and a run takes the documented order, its schema migration inside the outage"
                ),
                format!(
                    "refresh {} to a revision that knows it; or go on, have outage-limit cover the migration, and try the \
                     target before finalize",
                    facts.look.coordinator
                ),
            ),
            (Some(to), Some(from)) if older(facts, &to.name, from) => bad(
                format!("the target application runs {version}, the source {from}"),
                format!("juju refresh {} to a newer revision", facts.look.target_application),
            )
            .typed([Typed::Command(format!("juju refresh {}", facts.look.target_application))]),
            _ => good(format!("ready, {} {version}", app.title)),
        },
    }
}

pub(super) fn source_sessions(facts: &Facts) -> Judgement {
    let (side, roles) = (&facts.source, &facts.source.survey.server.connected_roles);
    if side.running().is_none() {
        return good("the source application does not serve, so nobody has to be connected");
    }
    if roles.is_empty() {
        return bad(
            format!("the source application serves, and nobody but us is connected to {}", side.survey.place()),
            format!(
                "check that source-{} and source-database belong to the same application, and that it writes to this very \
                 primary: a fence here would not stop it elsewhere",
                facts.look.app.name
            ),
        );
    }
    good(format!("connected to the source database: {}", listed(&roles.iter().cloned().collect::<Vec<_>>())))
}

/// Whether release `a` comes before release `b`.
fn older(facts: &Facts, a: &str, b: &str) -> bool {
    let releases = facts.look.app.releases();
    let place = |name: &str| releases.iter().position(|release| release.is(name));
    matches!((place(a), place(b)), (Some(a), Some(b)) if a < b)
}

pub(super) fn identity_schemas(facts: &Facts) -> Judgement {
    let used = match &facts.source.contents.schema_ids {
        Counted::Known(used) => used,
        Counted::TooLong => {
            return hint(
                "the identity schemas could not be compared: there are too many identities to look through at once",
                format!(
                    "give {} the source's identity_schemas and default_identity_schema_id; the gates compare before the flip",
                    facts.look.target_application
                ),
            );
        }
        Counted::NoSuchTable => return good("no identities table"),
    };
    let total: i64 = used.values().sum();
    let Some(configured) = &facts.target.schemas else {
        return good(format!(
            "{total} identities of the schemas {}; they could not be compared yet, because the target does not serve: the gates \
             do before the flip",
            listed(&used.keys().cloned().collect::<Vec<_>>())
        ));
    };
    let missing: Vec<String> = used
        .iter()
        .filter(|(id, _)| !configured.contains_key(*id))
        .map(|(id, count)| format!("{id} ({count} identities)"))
        .collect();
    if missing.is_empty() {
        let documents = facts.source.schemas.as_ref();
        let other: Vec<String> = used
            .keys()
            .filter(|id| {
                documents.and_then(|known| known.get(*id)).is_some_and(|ours| configured.get(*id) != Some(ours))
            })
            .cloned()
            .collect();
        if !other.is_empty() {
            let target = &facts.look.target_application;
            return hint(
                format!("source and target serve different documents for the identity schemas {}", listed(&other)),
                format!(
                    "juju config {target} identity_schemas=... with the source's documents, unless the change is meant: people whose \
                     traits do not fit cannot save their settings"
                ),
            );
        }
        good(format!("{total} identities of {} schemas, all configured on the target", used.len()))
    } else {
        bad(
            format!("not configured on the target: {}", missing.join(", ")),
            format!(
                "give {} the source's identity_schemas and default_identity_schema_id: every read of such an identity fails",
                facts.look.target_application
            ),
        )
    }
}

pub(super) fn order(facts: &Facts) -> Judgement {
    match facts.order() {
        Ok(chosen) => good(match chosen.order {
            Order::MigrateFirst => format!("migrate-first, outside the outage ({})", chosen.reason),
            Order::InPlace => format!("in place ({})", chosen.reason),
            Order::Documented => format!("documented, the schema migration inside the outage ({})", chosen.reason),
        }),
        Err(reason) => bad(
            format!("order=migrate-first is impossible: {reason}"),
            format!("juju config {} order=auto", facts.look.coordinator),
        )
        .typed([Typed::Command(format!("juju config {} order=auto", facts.look.coordinator))]),
    }
}

pub(super) fn migration_time(facts: &Facts) -> Judgement {
    let seconds = facts.migration_seconds();
    let rows = facts.source.survey.all_estimated_rows();
    let why = match facts.measured_seconds() {
        Some(measured) => format!("{measured:.1} s in the rehearsal"),
        None => format!("about {rows} rows"),
    };
    if seconds <= ACTION_DEFAULT {
        good(format!("{seconds} s are ample for {why}"))
    } else {
        bad(
            format!("{why}: {seconds} s should be granted, the application's own action grants {ACTION_DEFAULT}"),
            format!("run it through {} (which passes this on), or with timeout={seconds}", facts.look.coordinator),
        )
    }
}

pub(super) fn outage_limit(facts: &Facts) -> Judgement {
    let limit = facts.look.settings.outage_limit;
    let documented = facts.order().is_ok_and(|chosen| chosen.order == Order::Documented);
    let wanted = facts.migration_seconds() + DOCUMENTED_MARGIN;
    if !documented || facts.look.keep_release {
        good(format!("the lease is {limit} s; no schema migration falls into it"))
    } else if !is_upgrade(facts) {
        good(format!(
            "the lease is {limit} s; what the documented order takes of it is known once the target has its new revision"
        ))
    } else if limit >= wanted {
        good(format!("the lease is {limit} s, the documented order may take {wanted}"))
    } else {
        bad(
            format!("the lease is {limit} s, the documented order may take {wanted} s (migration, start, a person)"),
            format!("juju config {} outage-limit={wanted}", facts.look.coordinator),
        )
        .typed([Typed::Command(format!("juju config {} outage-limit={wanted}", facts.look.coordinator))])
    }
}

/// Whether a schema migration lies ahead: not when the target already serves the source's schema.
fn is_upgrade(facts: &Facts) -> bool {
    let (source, target) = (&facts.source, &facts.target);
    let kept = |to| source.release().is_some_and(|from| facts.look.app.serves(to, from));
    !(source.schema == target.schema && target.running().is_some_and(kept))
}
