//! The upgrade of the one application there is, on the database that it has: its source is its target too. Nothing of
//! ours is made in that database, and the only thing remembered is the release that it came from.

use super::back_up::NEW_ENOUGH;
use super::begin;
use super::context::{Answer, Context, Outcome, wait};
use super::gates::{self, WARNINGS};
use super::through_controller::{self, BackUp, Ended, Shown, Through, Work};
use super::{migrate, observe, preflight, refresh};
use crate::apps::{self, Health, Kind, Recognised};
use crate::migration::plan::WISH;
use crate::migration::{Failure, IN_PLACE, Side, State, Step};
use crate::postgres::leftovers::{self, LeftoverKind};
use crate::postgres::{Session, fence};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A figure of the gates' output: milliseconds from the last look at a server that served to the first at the new one.
pub const OUTAGE: &str = "outage-ms";

/// The field of the first step's output with the release before.
const FROM: &str = "from";

/// The field of the outputs with the release after.
const TO: &str = "to";

/// The field of the refresh's output, and the note of the gates: when the old server was last seen, the new one first.
const SERVED_AT: &str = "served-at";

/// A server that restarts is down for a moment; one that was refreshed stays so until its schema is migrated.
const STAYS_DOWN: Duration = Duration::from_secs(3);

/// Between two looks at a server that users wait for.
const LOOKS_AGAIN: Duration = Duration::from_millis(250);

/// The checks of `preflight` that are about one side. The rest is about copying, or compares two.
const CHECKS: [&str; 9] = [
    "source-release",
    "source-application",
    "source-sessions",
    "source-identity",
    "networks",
    "orphans",
    "identity-schemas",
    "identity-documents",
    "signing-keys",
];

/// Does one step.
///
/// # Errors
/// The step's failure, with what it asks for.
pub async fn perform(step: Step, context: &mut Context<'_>) -> Answer {
    match step {
        Step::Preflight => check(context).await,
        Step::Refresh => refresh(context).await,
        Step::Migrate => migrate(context).await,
        Step::Gates => pass_gates(context).await,
        other => Err(Failure::operator(
            "upgrade in place",
            format!("the journal asks for the step {}, which is none of it", other.name()),
            "report this as a defect, with the output of show",
        )),
    }
}

/// Why there is no backup to come back to, if so, as the beginning of a sentence.
pub fn no_backup(state: &State, now: i64) -> Option<String> {
    let found = match BackUp::known(state, Side::Source) {
        None => "no backup of its database was made by back-up".to_owned(),
        Some(BackUp { ended: None, .. }) => "the backup of its database is still being made".to_owned(),
        Some(BackUp { ended: Some(Ended { failure: Some(why), .. }), .. }) => {
            format!("the last backup of its database failed ({why})")
        }
        Some(BackUp { begun, .. }) if now - begun <= NEW_ENOUGH => return None,
        Some(BackUp { begun, .. }) => {
            format!("the last backup of its database is {} hours old", (now - begun) / 3_600_000)
        }
    };
    Some(format!("cannot {IN_PLACE}: {found}"))
}

/// What `preflight` can tell of one side, and that nobody else is at work there.
async fn check(context: &mut Context<'_>) -> Answer {
    context.progress.say("checking the application and its database");
    let settings = context.settings().clone();
    let look = begin::look(context.world, context.applications, &settings, None);
    let findings = match preflight::gather(look).await {
        Ok(facts) => {
            let mut findings = preflight::checks::judge(&facts);
            findings.retain(|finding| CHECKS.contains(&finding.check.as_str()));
            findings
        }
        // It could not be looked at.
        Err(findings) => findings,
    };
    let (checks, warned) = (findings.len(), preflight::warned(&findings));
    begin::judged(context, &findings)?;
    let session = context.world.source("begin").await?;
    let Recognised::Release(from) = observe::recognise(context.app(), &session).await? else {
        return Ok(Outcome::Again(LOOKS_AGAIN));
    };
    if let Some(traces) = traces(&session).await? {
        return Err(Failure::operator(
            "upgrade in place",
            traces,
            "end that migration with its coordinator's finalize or rollback first",
        ));
    }
    if apps::earned_from(context.app(), &from).is_empty() {
        return Err(Failure::operator(
            "upgrade in place",
            format!("no release is known here to which {} {from} was ever proven to migrate", context.app().title),
            format!("take a newer revision of {}", context.applications.coordinator),
        ));
    }
    Ok(Outcome::Done(json!({FROM: from, "checks": checks, "checks-warned": warned})))
}

/// What another migration left, or still holds, in this database.
async fn traces(session: &Session) -> Result<Option<String>, Failure> {
    let owner = fence::owning_run(session).await?;
    let mut left = leftovers::list(session).await?;
    // These may belong to another database of the cluster.
    left.retain(|thing| !matches!(thing.kind, LeftoverKind::Origin | LeftoverKind::Setting));
    let what = owner.map(|run| format!("run {run}")).or_else(|| left.first().map(ToString::to_string));
    Ok(what
        .map(|what| format!("database {} holds traces of a migration to another cluster ({what})", session.database)))
}

/// The release before, once it was seen whole.
fn from(context: &Context<'_>) -> Result<Option<String>, Failure> {
    Ok(context.run()?.output(Step::Preflight, FROM).and_then(Value::as_str).map(str::to_owned))
}

fn known_from(context: &Context<'_>) -> Result<String, Failure> {
    from(context)?.ok_or_else(|| Failure::operator("go on", "the journal does not tell the release before", "run show"))
}

/// Observes whether the refresh was made; until then has the controller make it, or says how.
async fn refresh(context: &mut Context<'_>) -> Answer {
    let from = known_from(context)?;
    let (shown, evidence) = evidence(context, &from).await?;
    let through = through_controller::attempt(context, Work::Refresh { shown }).await?;
    let done = through == Through::Done;
    let refused = match through.answer(context) {
        Ok(answer) => return answer,
        Err(why) => why.map(|why| format!("; {why}")).unwrap_or_default(),
    };
    let unproven = shown == Shown::Perhaps && !refused.is_empty() && through_controller::is_asked(context);
    if let Some(evidence) = evidence.filter(|_| !unproven) {
        let down = context.live.down_since.is_some_and(|since| since.elapsed() >= STAYS_DOWN);
        if shown == Shown::Perhaps && !done && !down {
            context.progress.say("the server is down; looking whether it comes back by itself");
            return Ok(Outcome::Again(LOOKS_AGAIN));
        }
        let request = &context.request;
        return Ok(Outcome::Done(json!({
            "evidence": evidence,
            SERVED_AT: context.live.served_at,
            WISH: request.wish(),
        })));
    }
    let name = &context.applications.target.name;
    wait(format!("{name} still runs {from}; its refresh begins the outage{refused}"), refresh::command(context))
}

/// What shows from outside that the application was refreshed.
async fn evidence(context: &mut Context<'_>, from: &str) -> Result<(Shown, Option<String>), Failure> {
    let schema = observe::recognise(context.app(), &context.world.target("refresh").await?).await?;
    let health = observe::target_health(context).await;
    let down = matches!(health, Health::Down(_));
    context.live.down_since = down.then(|| context.live.down_since.unwrap_or_else(Instant::now));
    Ok(match (&schema, &health) {
        (Recognised::Release(release), Health::Ready { version })
            if release == from && context.app().serves(version, from) =>
        {
            context.live.served_at = Some(migrate::now_ms());
            (Shown::No, None)
        }
        (Recognised::Release(release), Health::Down(_)) if release == from => {
            (Shown::Perhaps, Some("the server is down and its schema is unchanged".to_owned()))
        }
        (Recognised::Release(release), health) if release == from => {
            (Shown::Yes, Some(format!("the server is {health}")))
        }
        (schema, _) => (Shown::Yes, Some(format!("the database has {schema}"))),
    })
}

/// Has the application migrate its schema; its end is read from the database, never from the action's success.
async fn migrate(context: &mut Context<'_>) -> Answer {
    let from = known_from(context)?;
    let looked = migrate::now_ms();
    if let Some(to) = migrate::ended(context, &from).await? {
        let seconds = begun_at(context)?.map(|begun| (looked - begun).max(0) as f64 / 1000.0);
        let task = through_controller::task(context);
        return Ok(Outcome::Done(json!({FROM: from, TO: to, "seconds": seconds, "task": task})));
    }
    let target = context.world.target("migrate").await?;
    let runs = migrate::is_running(context, &target).await?;
    let begins = observe::recognise(context.app(), &target).await? == Recognised::Release(from.clone());
    if !runs && begins {
        context.live.unmigrated_at = Some(looked);
    } else if context.run()?.note(Step::Migrate, migrate::BEGUN).is_none() {
        context.note(Step::Migrate, migrate::BEGUN, json!(looked)).await?;
    }
    let name = context.applications.target.name.clone();
    // A server that only restarted was taken for a refreshed one.
    if let Health::Ready { version } = observe::target_health(context).await
        && begins
        && context.app().serves(&version, &from)
    {
        return match through_controller::attempt(context, Work::Refresh { shown: Shown::No }).await?.answer(context) {
            Ok(answer) => answer,
            Err(_) => {
                wait(format!("{name} serves {version} again, so it was not refreshed"), refresh::command(context))
            }
        };
    }
    let timeout = migrate::timeout(context, &from).await?;
    let command = migrate::command(context, timeout);
    let through = through_controller::attempt(context, Work::Migrate { timeout }).await?;
    let refused = match through.answer(context) {
        Ok(answer) => return answer,
        Err(why) => why.map(|why| format!("; {why}")).unwrap_or_default(),
    };
    if runs {
        context.progress.say(format!("the schema migration of {name} is running"));
        return Ok(Outcome::Again(LOOKS_AGAIN));
    }
    wait(format!("{name} has to migrate its schema, and users have no service meanwhile{refused}"), command)
}

fn begun_at(context: &Context<'_>) -> Result<Option<i64>, Failure> {
    let noted = context.run()?.note(Step::Migrate, migrate::BEGUN).and_then(Value::as_i64);
    Ok(noted.or(context.live.unmigrated_at))
}

/// Asks the new server until it proves that it serves what is in its database.
async fn pass_gates(context: &mut Context<'_>) -> Answer {
    let (from, name) = (known_from(context)?, context.applications.target.name.clone());
    // One that was cut off at a release on its way, and run again, went on since.
    let to = match observe::recognise(context.app(), &context.world.target("gates").await?).await? {
        Recognised::Release(now) => now,
        _ => context.run()?.output(Step::Migrate, TO).and_then(Value::as_str).unwrap_or_default().to_owned(),
    };
    let version = match observe::target_health(context).await {
        Health::Ready { version } => version,
        Health::NotReady { pending } => {
            let cut_off = migrate::perhaps_cut_off(context, &to);
            return wait(format!("the server of {name} is not ready yet: {pending}{cut_off}"), "");
        }
        Health::Down(_) => return starts_later(context, &to).await,
    };
    if !context.app().serves(&version, &to) && version != to {
        return wait(
            format!("the server of {name} is release {version}, its schema is release {to}"),
            migrate::command(context, migrate::timeout(context, &from).await?),
        );
    }
    if context.run()?.note(Step::Gates, SERVED_AT).is_none() {
        context.note(Step::Gates, SERVED_AT, json!(migrate::now_ms())).await?;
    }
    if let Some(answer) = through_controller::restore(context).await? {
        return answer;
    }
    if context.run()?.note(Step::Gates, "tables").is_none() {
        let session = context.world.target("gates").await?;
        let tables = observe::application_tables(context.app(), &session).await?;
        let names: Vec<_> = tables.into_iter().map(|table| table.name).collect();
        context.note(Step::Gates, "tables", json!(names)).await?;
    }
    let mut warnings = Vec::new();
    if let Some(answer) = gates::prove(context, &mut warnings).await? {
        return answer;
    }
    if !apps::pair(context.app(), &from, &to).is_some_and(|pair| pair.earned) {
        warnings.push(format!("nobody has proven yet that {} {from} migrates to {to}", context.app().title));
    }
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let before = context.run()?.output(Step::Refresh, SERVED_AT).and_then(Value::as_i64);
    let again = context.run()?.note(Step::Gates, SERVED_AT).and_then(Value::as_i64);
    let outage = before.zip(again).map(|(before, again)| (again - before).max(0));
    Ok(Outcome::Done(json!({FROM: from, TO: to, "version": version, OUTAGE: outage, WARNINGS: warnings})))
}

/// When a server that is down comes up: by a hook that we bring about, by itself, or by what a person relates.
async fn starts_later(context: &mut Context<'_>, to: &str) -> Answer {
    let kind = context.app().kind;
    if kind == Kind::Kratos
        && let Ok(answer) = through_controller::attempt(context, Work::Wake).await?.answer(context)
    {
        return answer;
    }
    let target = &context.applications.target;
    let (name, flag) = (&target.name, target.model_flag());
    let cut_off = migrate::perhaps_cut_off(context, to);
    match kind {
        Kind::Kratos => {
            wait(format!("{name} starts its server at its next hook (update-status at the latest){cut_off}"), "")
        }
        Kind::Hydra => wait(
            format!("{name} is down, and starts at its next hook; its status tells what it lacks{cut_off}"),
            format!("juju status {flag}{name}"),
        ),
    }
}

/// Whether nothing is left to be taken back: the schema is the one before, and so is the server.
///
/// # Errors
/// The servers'; a schema that nothing leads back from.
pub async fn back(context: &mut Context<'_>) -> Answer {
    // Nothing is touched before everything was checked.
    let Some(from) = from(context)? else { return Ok(Outcome::Done(Value::Null)) };
    let session = context.world.target("roll back").await?;
    let found = observe::recognise(context.app(), &session).await?;
    let name = context.applications.target.name.clone();
    if found != Recognised::Release(from.clone()) {
        let go_on = context.command("upgrade-in-place accept-outage=true");
        return Err(Failure::operator(
            "roll back",
            format!("the schema of {name} was {from} and has become {found}, and no charm leads a schema back"),
            format!(
                "run {go_on} to go on to its end, or restore the backup with the PostgreSQL charm's restore and run {} after \
                 that",
                command_back(context)
            ),
        )
        .cured_by("upgrade-in-place accept-outage=true"));
    }
    if migrate::is_running(context, &session).await? {
        let reason = format!(
            "somebody is connected to the database of {name} while its server is down, maybe its schema migration, under \
             which nothing is taken back; if it is none, run {}",
            command_back(context)
        );
        return wait(reason, "");
    }
    let serves = match observe::target_health(context).await {
        Health::Ready { version } => context.app().serves(&version, &from),
        Health::NotReady { .. } | Health::Down(_) => false,
    };
    // One that was asked for and does not show yet would begin after the end of the run.
    let may_come = through_controller::is_asked(context) && !context.run()?.is_done(Step::Refresh);
    let returned = match may_come {
        true => through_controller::attempt(context, Work::Return).await?,
        false => Through::Done,
    };
    if serves && matches!(returned, Through::Done | Through::Guided) {
        return Ok(Outcome::Done(Value::Null));
    }
    wait(
        format!("the schema of {name} is untouched, so its refresh back to the revision before ends the outage"),
        command_back(context),
    )
}

/// The exact command that brings the revision before back, as far as it is known here.
fn command_back(context: &Context<'_>) -> String {
    let target = &context.applications.target;
    let before = through_controller::charm_before(context).unwrap_or_default();
    let back = match before.rsplit_once('-') {
        Some(_) if before.starts_with("local:") => {
            "--path=<charm file before> --resource oci-image=<image before>".to_owned()
        }
        Some(_) if through_controller::is_asked_local(context) || context.request.local.is_some() => {
            format!("--switch ch:{} --channel <channel before>", context.app().name)
        }
        Some((_, revision)) => format!("--revision {revision}"),
        None => "--revision <revision before>".to_owned(),
    };
    format!("juju refresh {}{} {back}", target.model_flag(), target.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::{Entry, Record};
    use through_controller::back_up_name;

    fn state(value: Value) -> State {
        let record = Record::Errand { name: back_up_name(Side::Source).to_owned(), value };
        State::replay(&[Entry { seq: 1, at: 1_000, record }]).unwrap()
    }

    #[test]
    fn only_a_backup_of_today_that_ended_well_is_one() {
        let hour = 3_600_000;
        let of = |ended: Option<Ended>| state(json!(BackUp { ended, ..BackUp::default() }));
        let good = of(Some(Ended::default()));
        assert_eq!(no_backup(&good, 1_000 + 24 * hour), None);
        let failed = Ended { failure: Some("no room".to_owned()), backup: None };
        for (state, now, said) in [
            (State::default(), 0, "no backup"),
            (good, 1_001 + 24 * hour, "is 24 hours old"),
            (of(None), 2_000, "is still being made"),
            (of(Some(failed)), 2_000, "failed (no room)"),
            // Nothing that we wrote.
            (state(json!({"ended": {}})), 2_000, "no backup"),
        ] {
            let found = no_backup(&state, now).unwrap();
            assert!(found.starts_with("cannot upgrade-in-place: ") && found.contains(said), "{found}");
        }
    }
}
