//! A Kratos whose schema was migrated starts its server at its next hook, which may be minutes away. An option that is
//! touched brings one; once the server is up, the option gets its old value back.

use super::super::context::{Answer, Context};
use super::{Conductor, Stop, Through, Work, attempt, noted};
use crate::controller::settled::{Settled, resting};
use crate::controller::{ConfigOption, ModelLogin, Time};
use crate::migration::{Failure, Step};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The option that is touched: how much the server logs.
const OPTION: &str = "log_level";

/// The values that it is touched with: another one than it has.
const TOUCHES: [&str; 2] = ["info", "warning"];

/// The note of the touch, written before it is sent.
const WOKEN: &str = "controller-woken";

/// The note of the old value's return, written before it is sent.
const RESTORED: &str = "controller-restored";

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Woken {
    application: String,
    before: String,
    touch: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Restored {
    /// The controller's clock.
    at: Time,
}

/// Touches the option, once.
pub(super) async fn wake(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
) -> Result<Through, Stop> {
    let name = context.applications.target.name.clone();
    let now = value(conductor, login, &name).await?;
    if let Some(woken) = noted::<Woken>(context, Step::Gates, WOKEN) {
        if noted::<Restored>(context, Step::Gates, RESTORED).is_none() && now.as_deref() == Some(woken.before.as_str())
        {
            set(conductor, login, &woken.application, &woken.touch).await?;
        }
        return Ok(Through::AtWork(format!("{name} was given a hook, in which it starts its server")));
    }
    // Where there is no such option, the next hook comes by itself.
    let Some(before) = now else { return Ok(Through::Guided) };
    let status = conductor.status(login).await?;
    match resting(&status, &name, &["active", "waiting", "blocked", "unknown"]) {
        Settled::Yes => {}
        // What it does now may be the hook that is wanted.
        Settled::NotYet(why) | Settled::Stuck(why) => {
            return Ok(Through::AtWork(format!("before its server starts: {why}")));
        }
    }
    let touch = TOUCHES.into_iter().find(|touch| *touch != before).unwrap_or(TOUCHES[0]).to_owned();
    let woken = Woken { application: name.clone(), before, touch };
    context.note(Step::Gates, RESTORED, Value::Null).await?;
    context.note(Step::Gates, WOKEN, json!(woken)).await?;
    set(conductor, login, &name, &woken.touch).await?;
    Ok(Through::AtWork(format!("{name} is given a hook, in which it starts its server")))
}

/// Has the option's old value back before users come. `None` when that is so, or nothing was touched.
///
/// # Errors
/// The journal's.
pub async fn restore(context: &mut Context<'_>) -> Result<Option<Answer>, Failure> {
    let Some(woken) = noted::<Woken>(context, Step::Gates, WOKEN) else { return Ok(None) };
    let through = attempt(context, Work::Restore).await?;
    match through.answer(context) {
        Ok(answer) => Ok(Some(answer)),
        Err(None) => Ok(None),
        // The server is up: what is left is no reason to keep users waiting.
        Err(Some(why)) => {
            let Woken { application, before, .. } = woken;
            log::warn!(
                "{OPTION} of {application} was not set back to {before}: {why}; run juju config {application} {OPTION}={before}"
            );
            context.note(Step::Gates, WOKEN, Value::Null).await?;
            Ok(None)
        }
    }
}

/// Sets the old value again, and waits for the hooks that this brings.
pub(super) async fn restored(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
) -> Result<Through, Stop> {
    let Some(woken) = noted::<Woken>(context, Step::Gates, WOKEN) else { return Ok(Through::Done) };
    let name = &woken.application;
    let Some(sent) = noted::<Restored>(context, Step::Gates, RESTORED) else {
        let at = conductor.status_now(login).await?.controller_timestamp;
        context.note(Step::Gates, RESTORED, json!(Restored { at })).await?;
        set(conductor, login, name, &woken.before).await?;
        return Ok(Through::AtWork(format!("{name} gets its {OPTION} back")));
    };
    if value(conductor, login, name).await?.as_deref() == Some(woken.touch.as_str()) {
        set(conductor, login, name, &woken.before).await?;
        return Ok(Through::AtWork(format!("{name} gets its {OPTION} back")));
    }
    let status = conductor.status(login).await?;
    let units = status.applications.get(name).into_iter().flat_map(|application| application.units.values());
    if units.into_iter().any(|unit| unit.agent_status.since <= sent.at) {
        return Ok(Through::AtWork(format!("{name} gets its {OPTION} back: its hook has not come yet")));
    }
    match resting(&status, name, &["active"]) {
        Settled::Yes => {
            context.note(Step::Gates, WOKEN, Value::Null).await?;
            Ok(Through::Done)
        }
        Settled::NotYet(why) | Settled::Stuck(why) => {
            Ok(Through::AtWork(format!("{name} gets its {OPTION} back: {why}")))
        }
    }
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
