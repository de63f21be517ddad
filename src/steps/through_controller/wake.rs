//! Some hook of a Kratos application is wanted: one whose schema was migrated starts its server at its next hook, which
//! may be minutes away, and one that runs as before a rehearsal's end has to restart it. An option that is touched brings
//! both about; once the server has passed, the option gets its old value back.

use super::super::context::{Answer, Context, Outcome};
use super::{Conductor, FINE, Stop, Through, Work, attempt, noted};
use crate::controller::settled::{Settled, resting};
use crate::controller::{ConfigOption, FullStatus, ModelLogin, Time};
use crate::migration::{Failure, Step};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The option that is touched: how much the server logs.
const OPTION: &str = "log_level";

/// The values that it is touched with: another one than it has. Both are taken by every revision of the charm (older ones
/// say `warn`, newer ones `warning`).
const TOUCHES: [&str; 2] = ["info", "error"];

/// The note of the touch, written before it is sent.
const WOKEN: &str = "controller-woken";

/// The note of the old value's return, written before it is sent.
const RESTORED: &str = "controller-restored";

/// A hook that has not come by then does not come for this.
const COMES_WITHIN: i64 = 300;

/// What a touch is to bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wanted {
    /// The server comes up.
    Start,
    /// The server that is up begins anew.
    Restart,
    /// Nothing any more: only the old value is still to be set.
    Nothing,
}

impl Wanted {
    fn told(self) -> &'static str {
        match self {
            Wanted::Start => "in which it starts its server",
            Wanted::Restart => "in which it restarts its server",
            Wanted::Nothing => "which it no longer needs",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Woken {
    application: String,
    /// The operator's value.
    before: String,
    /// The value before this very touch.
    from: String,
    touch: String,
    wanted: Wanted,
    /// The controller's clock.
    at: Time,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Restored {
    /// The controller's clock.
    at: Time,
}

/// Touches the option, once for each end.
pub(super) async fn wake(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    wanted: Wanted,
) -> Result<Through, Stop> {
    let name = context.applications.target.name.clone();
    // Where there is no such option, the next hook comes by itself.
    let Some(now) = value(conductor, login, &name).await? else { return Ok(Through::Guided) };
    let restored: Option<Restored> = noted(context, Step::Gates, RESTORED);
    let woken = noted::<Woken>(context, Step::Gates, WOKEN).filter(|woken| woken.application == name);
    let status = conductor.status(login).await?;
    if let Some(woken) = woken.as_ref().filter(|woken| woken.wanted == wanted) {
        if restored.is_none() && now == woken.from {
            set(conductor, login, &name, &woken.touch).await?;
        }
        let waited = status.controller_timestamp.seconds_since(woken.at);
        return Ok(match waited {
            Some(seconds) if seconds > COMES_WITHIN => {
                conductor.cannot(format!("{name} was given a hook {seconds} s ago, {}, and it has not", wanted.told()))
            }
            _ => Through::AtWork(format!("{name} was given a hook, {}", wanted.told())),
        });
    }
    match resting(&status, &name, &FINE) {
        Settled::Yes => {}
        // What it does now may be the hook that is wanted.
        Settled::NotYet(why) | Settled::Stuck(why) => {
            return Ok(Through::AtWork(format!("before {name} is given a hook, {}: {why}", wanted.told())));
        }
    }
    let touch = TOUCHES.into_iter().find(|touch| *touch != now).unwrap_or(TOUCHES[0]).to_owned();
    let before = woken.map_or_else(|| now.clone(), |woken| woken.before);
    let at = status.controller_timestamp;
    let woken = Woken { application: name.clone(), before, from: now, touch, wanted, at };
    context.note(Step::Gates, RESTORED, Value::Null).await?;
    context.note(Step::Gates, WOKEN, json!(woken)).await?;
    set(conductor, login, &name, &woken.touch).await?;
    Ok(Through::AtWork(format!("{name} is given a hook, {}", wanted.told())))
}

/// What was brought about before a new migration is brought about again after it; the operator's value stays known.
///
/// # Errors
/// The journal's.
pub(super) async fn spend(context: &mut Context<'_>) -> Result<(), Failure> {
    match noted::<Woken>(context, Step::Gates, WOKEN) {
        Some(woken) if woken.wanted != Wanted::Nothing => {
            context.note(Step::Gates, WOKEN, json!(Woken { wanted: Wanted::Nothing, ..woken })).await
        }
        _ => Ok(()),
    }
}

/// Has the option's old value back before users come. `None` when that is so, or nothing was touched.
///
/// # Errors
/// The journal's.
pub async fn restore(context: &mut Context<'_>) -> Result<Option<Answer>, Failure> {
    let Some(woken) = noted::<Woken>(context, Step::Gates, WOKEN) else { return Ok(None) };
    let why = match attempt(context, Work::Restore).await? {
        // The server may have begun anew meanwhile: it is asked once more.
        Through::Done => return Ok(Some(Ok(Outcome::Again(Duration::ZERO)))),
        Through::Guided => "the credentials were taken away".to_owned(),
        through => match through.answer(context) {
            Ok(answer) => return Ok(Some(answer)),
            Err(why) => why.unwrap_or_default(),
        },
    };
    // The server is up, or nobody needs it: what is left is no reason to stand still.
    let Woken { application, before, .. } = woken;
    log::warn!("{OPTION} of {application} was not set back: {why}; run juju config {application} {OPTION}={before}");
    context.note(Step::Gates, WOKEN, Value::Null).await?;
    Ok(None)
}

/// Sets the old value again, and waits for the hooks that this brings.
pub(super) async fn restored(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
) -> Result<Through, Stop> {
    let Some(woken) = noted::<Woken>(context, Step::Gates, WOKEN) else { return Ok(Through::Done) };
    let name = &woken.application;
    let now = value(conductor, login, name).await?;
    let Some(sent) = noted::<Restored>(context, Step::Gates, RESTORED) else {
        if now.as_deref() == Some(woken.before.as_str()) {
            context.note(Step::Gates, WOKEN, Value::Null).await?;
            return Ok(Through::Done);
        }
        let status = conductor.status_now(login).await?;
        let at = status.controller_timestamp;
        // Set back before it was seen, the touch would bring no hook to a unit that still waits for one.
        if at.seconds_since(woken.at).is_none_or(|seconds| seconds <= COMES_WITHIN) && !moved(&status, name, woken.at) {
            return Ok(Through::AtWork(format!("{name} was given a hook that has not come to every unit yet")));
        }
        context.note(Step::Gates, RESTORED, json!(Restored { at })).await?;
        set(conductor, login, name, &woken.before).await?;
        return Ok(Through::AtWork(format!("{name} gets its {OPTION} back")));
    };
    if now.as_deref() == Some(woken.touch.as_str()) {
        set(conductor, login, name, &woken.before).await?;
        return Ok(Through::AtWork(format!("{name} gets its {OPTION} back")));
    }
    let status = conductor.status(login).await?;
    let late = status.controller_timestamp.seconds_since(sent.at).is_some_and(|seconds| seconds > COMES_WITHIN);
    if !late && !moved(&status, name, sent.at) {
        return Ok(Through::AtWork(format!("{name} gets its {OPTION} back: its hook has not come yet")));
    }
    match resting(&status, name, &FINE) {
        Settled::NotYet(why) | Settled::Stuck(why) if !late => {
            Ok(Through::AtWork(format!("{name} gets its {OPTION} back: {why}")))
        }
        _ => {
            context.note(Step::Gates, WOKEN, Value::Null).await?;
            Ok(Through::Done)
        }
    }
}

/// Every unit's agent has done something since.
fn moved(status: &FullStatus, application: &str, since: Time) -> bool {
    let found = status.applications.get(application).into_iter();
    found.flat_map(|application| application.units.values()).all(|unit| unit.agent_status.since > since)
}

/// The option's value; `None` where the application has no such option.
async fn value(conductor: &mut Conductor, login: &ModelLogin, application: &str) -> Result<Option<String>, Stop> {
    let options = conductor.session(login).await?.application(application).await?.config;
    Ok(options.get(OPTION).map(|ConfigOption { value, .. }| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }))
}

async fn set(conductor: &mut Conductor, login: &ModelLogin, application: &str, value: &str) -> Result<(), Stop> {
    let options = BTreeMap::from([(OPTION.to_owned(), value.to_owned())]);
    conductor.session(login).await?.set_config(application, &options).await?;
    Ok(())
}
