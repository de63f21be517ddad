//! The target application's `run-migration`, asked for once and followed to its end.

use super::super::context::Context;
use super::{Conductor, FINE, Stop, Through, noted};
use crate::controller::settled::{Settled, resting};
use crate::controller::{ModelLogin, OperationFilter, Scalar, Session, Task, TaskStatus, Time};
use crate::migration::{Failure, IN_PLACE, Step};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const ACTION: &str = "run-migration";

/// The note of what was asked for, written before it is sent.
const ASKED: &str = "controller-run-migration";

/// The note of the task that came of it.
const TASK: &str = "controller-task";

/// The schema shows what a task that ended well has done within this many looks.
const SHOWS_WITHIN: u32 = 30;

/// How many operations a lost answer is looked for among.
const OPERATIONS: u32 = 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Asked {
    /// The request that wanted it.
    request: i64,
    /// The controller's clock.
    at: Time,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Noted {
    /// `action-<number>`.
    task: String,
    unit: String,
}

impl Noted {
    /// What `juju show-task` takes.
    fn number(&self) -> &str {
        number(&self.task)
    }

    fn show(&self) -> String {
        format!("juju show-task {}", self.number())
    }
}

/// The command that shows the task of the application's migration, if we had it run.
pub fn task(context: &Context<'_>) -> Option<String> {
    noted::<Noted>(context, Step::Migrate, TASK).map(|task| task.show())
}

/// A task's number, of `action-<number>`.
pub(super) fn number(task: &str) -> &str {
    task.strip_prefix("action-").unwrap_or(task)
}

/// A migration that begins anew is asked for anew, whatever came of the one before.
///
/// # Errors
/// The journal's.
pub async fn forget(context: &mut Context<'_>) -> Result<(), Failure> {
    context.live.looks_after_task = 0;
    super::wake::spend(context).await?;
    for name in [ASKED, TASK] {
        if noted::<Value>(context, Step::Migrate, name).is_some() {
            context.note(Step::Migrate, name, Value::Null).await?;
        }
    }
    Ok(())
}

/// Asks for the action, or looks how far it is.
pub(super) async fn run_migration(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    timeout: u64,
) -> Result<Through, Stop> {
    let asked: Option<Asked> = noted(context, Step::Migrate, ASKED);
    let task: Option<Noted> = noted(context, Step::Migrate, TASK);
    match (asked, task) {
        (Some(asked), Some(task)) => follow(context, conductor, login, &asked, &task, timeout).await,
        (Some(asked), None) => find(context, conductor, login, &asked, timeout).await,
        (None, _) => begin(context, conductor, login, timeout).await,
    }
}

/// The action waits its turn behind whatever its unit does: it is asked for when the unit rests.
async fn begin(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    timeout: u64,
) -> Result<Through, Stop> {
    let name = context.applications.target.name.clone();
    let status = conductor.status(login).await?;
    match resting(&status, &name, &FINE) {
        Settled::Yes => {}
        Settled::NotYet(why) => return Ok(Through::AtWork(format!("before {ACTION}: {why}"))),
        Settled::Stuck(why) => return Ok(conductor.cannot(why)),
    }
    if conductor.session(login).await?.leader(&name).await?.is_none() {
        return Ok(Through::AtWork(format!("before {ACTION}: {name} has no leader")));
    }
    let asked = Asked { request: context.state.request_seq, at: status.controller_timestamp };
    context.note(Step::Migrate, TASK, Value::Null).await?;
    context.note(Step::Migrate, ASKED, json!(asked)).await?;
    send(context, conductor, login, timeout).await
}

async fn send(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    timeout: u64,
) -> Result<Through, Stop> {
    let leader = format!("{}/leader", context.applications.target.name);
    let parameters =
        BTreeMap::from([("timeout".to_owned(), Scalar::Number(i64::try_from(timeout).unwrap_or(i64::MAX)))]);
    let enqueued = conductor.session(login).await?.enqueue(&leader, ACTION, &parameters).await?;
    let task = Noted { task: enqueued.task, unit: enqueued.unit };
    keep(context, &task).await?;
    let Noted { unit, .. } = &task;
    Ok(Through::AtWork(format!("{ACTION} of {unit} was asked for (task {}; {})", task.number(), task.show())))
}

async fn keep(context: &mut Context<'_>, task: &Noted) -> Result<(), Failure> {
    log::info!("{ACTION} of {} is task {}", task.unit, task.number());
    context.note(Step::Migrate, TASK, json!(task)).await
}

/// Whether an answer that did not come left a task.
async fn find(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    asked: &Asked,
    timeout: u64,
) -> Result<Through, Stop> {
    let name = context.applications.target.name.clone();
    match left_by(conductor.session(login).await?, &name, ACTION, asked.at).await? {
        Some((task, unit)) => {
            let task = Noted { task, unit };
            keep(context, &task).await?;
            let Noted { unit, .. } = &task;
            Ok(Through::AtWork(format!("{ACTION} of {unit} is under way (task {}; {})", task.number(), task.show())))
        }
        None => send(context, conductor, login, timeout).await,
    }
}

/// The newest task of an action that was asked for since, and its unit.
pub(super) async fn left_by(
    session: &Session,
    application: &str,
    action: &str,
    since: Time,
) -> Result<Option<(String, String)>, crate::controller::Error> {
    let filter = OperationFilter {
        applications: vec![application.to_owned()],
        actions: vec![action.to_owned()],
        limit: OPERATIONS,
        ..OperationFilter::default()
    };
    let operations = session.list_operations(&filter).await?;
    let since = operations.into_iter().filter(|operation| operation.enqueued >= since);
    // On 3.6 a request that was refused leaves an operation without a task.
    let left = since.filter_map(|operation| {
        let task = operation.tasks.into_iter().next()?;
        Some((operation.enqueued, (task.tag, task.unit)))
    });
    Ok(left.max_by_key(|(enqueued, _)| *enqueued).map(|(_, task)| task))
}

/// How far the task is. That the schema was migrated is never believed of it: the database shows that.
async fn follow(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    asked: &Asked,
    noted: &Noted,
    timeout: u64,
) -> Result<Through, Stop> {
    let task = conductor.session(login).await?.task(&noted.task).await?;
    let (unit, number) = (&noted.unit, noted.number());
    if !task.status.is_final() {
        return pending(conductor, login, noted, &task).await;
    }
    if task.succeeded() {
        context.live.looks_after_task += 1;
        if context.live.looks_after_task <= SHOWS_WITHIN {
            return Ok(Through::AtWork(format!("{ACTION} of {unit} has ended (task {number}); looking at the schema")));
        }
    }
    context.live.looks_after_task = 0;
    // Asked for again since: it is tried once more.
    if asked.request < context.state.request_seq {
        return begin(context, conductor, login, timeout).await;
    }
    // Only a leader can run it, and the unit is chosen when it is asked for, not when it begins.
    let application = context.applications.target.name.clone();
    if !task.succeeded()
        && conductor.session(login).await?.leader(&application).await?.is_some_and(|leader| leader != *unit)
    {
        log::warn!("{ACTION} of {unit} failed (task {number}), and another unit leads by now: {}", said(&task));
        return begin(context, conductor, login, timeout).await;
    }
    let found = match task.succeeded() {
        true => format!("{ACTION} of {unit} ended well (task {number}), and the schema is as it was before"),
        false => format!("{ACTION} of {unit} failed (task {number}): {}", said(&task)),
    };
    let (what, action) = match context.world.is_in_place() {
        true => ("migrate the schema", IN_PLACE),
        false => ("migrate the target's schema", "run-migration"),
    };
    let again = context.command(&context.request.again(action));
    let cure = format!("see {} and the unit's log, then run {again}", noted.show());
    Err(Failure::operator(what, found, cure).into())
}

async fn pending(conductor: &mut Conductor, login: &ModelLogin, noted: &Noted, task: &Task) -> Result<Through, Stop> {
    let (unit, number) = (&noted.unit, noted.number());
    if task.status == TaskStatus::Pending {
        let status = conductor.status(login).await?;
        let application = unit.split('/').next().unwrap_or_default();
        let found = status.applications.get(application).and_then(|application| application.units.get(unit));
        let agent = found.map_or("gone", |unit| unit.agent_status.status.as_str());
        return Ok(match agent {
            "lost" | "gone" | "failed" => Through::Person(
                format!("{ACTION} waits for the agent of {unit}, which is {agent} (task {number})"),
                format!("juju status {application}"),
            ),
            _ => Through::AtWork(format!("{ACTION} waits for its turn on {unit} (task {number}; {})", noted.show())),
        });
    }
    let last = task.log.last().map(|line| format!(": {}", line.message)).unwrap_or_default();
    Ok(Through::AtWork(format!("{ACTION} runs on {unit} (task {number}; {}){last}", noted.show())))
}

/// Why a task ended badly, in its own words.
pub(super) fn said(task: &Task) -> String {
    match (task.message.trim(), task.log.last()) {
        ("", Some(line)) => line.message.clone(),
        ("", None) => "it does not say why".to_owned(),
        // It becomes a part of our own sentence.
        (message, _) => message.trim_end_matches('.').to_owned(),
    }
}
