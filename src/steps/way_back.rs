//! The way back: what the target publishes, the slot that keeps it from the moment the target opens, and the
//! subscription on the source that takes it. Never together with the forward direction: 14 and 15 cannot tell
//! where a change came from, and it would go round for ever.

use super::context::{Answer, Context, Outcome};
use super::observe::{self, human_bytes};
use super::prepare::forward;
use super::world::World;
use crate::migration::{Failure, Record, Run, Step};
use crate::postgres::names::{PREFIX, RunId, TableName};
use crate::postgres::publication::PublishedTable;
use crate::postgres::reverse::{self, Reversal};
use crate::postgres::subscription::SubscriptionSpec;
use crate::postgres::{Password, Session, inspect, publication, reach, slot, subscription};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long the slot may wait for transactions on the target. Nobody can write there, so only others hold it up.
const SLOT_WITHIN: Duration = Duration::from_secs(10);

/// How long a worker or walsender of ours may take to end.
pub(super) const ENDS: Duration = Duration::from_secs(30);

/// Note of what was compared: a [`Reversal`].
const REVERSAL: &str = "reversal";

/// Note that the source's rules are about to be lifted.
const RELAXED: &str = "relaxed";

/// Note of why the way back is lost; null while it is not.
const LOST: &str = "lost";

/// Note of why nothing flows back at present; null while it does.
pub const STOPPED: &str = "stopped";

/// A subscription that an error disabled is enabled again this often; a lost connection is such an error too.
const REVIVALS: u32 = 3;

/// After this long in good health the revivals are counted anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// What is remembered of the way back's subscription. Errors are counted by the server (15 and later); disabling by
/// hand is none.
#[derive(Default)]
pub struct Revivals {
    errors: Option<i64>,
    times: u32,
    last: Option<Instant>,
    seen_resting: bool,
}

enum Revival {
    Leave,
    Wait,
    Enable,
}

impl Revivals {
    fn look(&mut self, rests: bool, errors: Option<i64>, works: bool) -> Revival {
        if !rests {
            self.seen_resting = false;
            if self.last.is_none_or(|last| last.elapsed() > HEALTHY) {
                self.times = 0;
                self.errors = errors;
            }
            return Revival::Leave;
        }
        // The worker counts its error as it ends, which is after it disabled the subscription.
        if works || !std::mem::replace(&mut self.seen_resting, true) {
            return Revival::Wait;
        }
        let grew = errors.unwrap_or(0) > self.errors.unwrap_or(0);
        if !grew || self.times >= REVIVALS {
            return Revival::Leave;
        }
        self.seen_resting = false;
        self.errors = errors;
        self.times += 1;
        self.last = Some(Instant::now());
        Revival::Enable
    }
}

/// Compares both catalogs, and publishes on the target what the source can take.
///
/// # Errors
/// A schema from which nothing can flow back, unless that was accepted; the servers'.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    context.progress.say("preparing the way back");
    let source = context.world.source("way back").await?;
    let target = context.world.target("way back").await?;
    let tables = observe::replicated_tables(context)?;
    let mut found = reverse::compare(&source, &target, &tables).await?;
    found.obstacles.extend(unfit_servers(context, &target).await?);
    if let Some(first) = found.obstacles.first() {
        if !context.request.accept_no_way_back {
            return Err(Failure::operator(
                "prepare the way back",
                format!(
                    "after the flip, what users write could not be brought back to the source ({} reasons, first: {first})",
                    found.obstacles.len()
                ),
                "run the action again with accept-no-way-back=true to migrate without a way back after the flip, or rollback",
            ));
        }
        let reason = format!("it was given up before the start, because {first}");
        return Ok(Outcome::Done(json!({"open": false, "closed-because": reason})));
    }
    context.note(Step::WayBack, REVERSAL, json!(found)).await?;
    context.note(Step::WayBack, LOST, Value::Null).await?;
    let marker = PublishedTable::whole(TableName::new(PREFIX, "marker"));
    let published: Vec<PublishedTable> = found.published.iter().cloned().chain([marker]).collect();
    publication::create(&target, &reverse_name(context)?, &published).await?;
    Ok(Outcome::Done(json!({
        "open": true,
        "tables": found.published.len(),
        "lifted-on-the-source": found.relaxations.iter().map(|r| r.what.clone()).collect::<Vec<_>>(),
        "dropped-on-the-source": found.uniques.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })))
}

/// Tries, before anybody is kept waiting, what the hand-over will do: a slot on the target, a connection from the source.
async fn unfit_servers(context: &Context<'_>, target: &Session) -> Result<Vec<String>, Failure> {
    let world = context.world;
    let name = reverse_name(context)?;
    // A slot that stands is proof enough.
    let slot = match slot::observe(target, &name).await? {
        Some(_) => Ok(()),
        None => slot::try_create(target, &name, SLOT_WITHIN).await,
    };
    let reached = reach::reach(&world.source, &world.source_database, &conninfo(world), "the target").await;
    let mut obstacles = Vec::new();
    for attempt in [slot, reached] {
        match attempt {
            Err(error) if error.sqlstate().is_some() => obstacles.push(error.to_string()),
            other => other?,
        }
    }
    Ok(obstacles)
}

/// How the source reaches the target.
fn conninfo(world: &World) -> Password {
    world.target.conninfo(&world.target_database, &format!("{PREFIX} way back"))
}

/// The name of publication, slot and subscription of the way back.
///
/// # Errors
/// A defect: no run, or a run id that is none.
pub fn reverse_name(context: &Context<'_>) -> Result<String, Failure> {
    let id = &context.run()?.id;
    RunId::parse(id)
        .map(|run| run.reverse())
        .ok_or_else(|| Failure::operator("name the way back", format!("run id {id} is none of ours"), "run rollback"))
}

/// Before the target opens, while the forward direction rests: the slot that will keep everything written from then
/// on, and the subscription on the source, disabled. Answers the slot's name; `None` without a way back.
///
/// # Errors
/// The servers'.
pub async fn connect(context: &Context<'_>, source: &Session, target: &Session) -> Result<Option<String>, Failure> {
    if context.run()?.way_back().is_err() {
        return Ok(None);
    }
    let name = reverse_name(context)?;
    // A slot of an earlier attempt may have seen the forward direction at work since, and would echo it.
    disconnect(context, source, target).await?;
    slot::create(target, &name, SLOT_WITHIN).await?;
    let world = context.world;
    let spec = SubscriptionSpec {
        name: name.clone(),
        slot: name.clone(),
        publication: name.clone(),
        conninfo: conninfo(world),
        only_local_changes: true,
    };
    subscription::create(&world.source, &world.source_database, &spec).await?;
    Ok(Some(name))
}

/// Drops subscription and slot of the way back, if there are any. Only while the target is closed, or to give it up.
///
/// # Errors
/// The servers'.
pub async fn disconnect(context: &Context<'_>, source: &Session, target: &Session) -> Result<(), Failure> {
    let name = reverse_name(context)?;
    subscription::drop_subscription(source, &name, ENDS).await?;
    slot::drop_slot(target, &name, ENDS).await?;
    Ok(())
}

/// After the target opened: the forward direction goes for good, the source lets pass what it must, and the apply
/// worker there begins.
///
/// # Errors
/// The servers'.
pub async fn follow(context: &mut Context<'_>) -> Answer {
    if let Err(reason) = context.run()?.way_back() {
        log::warn!("there is no way back: {reason}");
        return Ok(Outcome::Done(Value::Null));
    }
    context.progress.say("letting new writes flow back to the source");
    let source = context.world.source("way back").await?;
    let target = context.world.target("way back").await?;
    super::follow::drop_subscription(context).await?;
    slot::drop_slot(&source, &forward(context)?, ENDS).await?;
    context.note(Step::WayBack, RELAXED, json!(true)).await?;
    reverse::relax(&source, &noted(context)?).await?;
    let name = reverse_name(context)?;
    subscription::enable(&source, &name).await?;
    let applies = subscription::state(&source, &name).await?.is_some_and(|state| state.worker_pid.is_some());
    let lag =
        slot::observe(&target, &name).await?.and_then(|slot| slot.lag_bytes).and_then(|lag| u64::try_from(lag).ok());
    context.progress.update(|p| p.lag_bytes = lag);
    match lag {
        Some(lag) if applies && lag <= context.settings().max_lag_bytes => Ok(Outcome::Done(json!({"lag-bytes": lag}))),
        Some(lag) if applies => {
            context.progress.say(format!("the source is {} behind the target", human_bytes(lag)));
            Ok(Outcome::Again(Duration::from_millis(200)))
        }
        Some(_) => Ok(Outcome::Again(Duration::from_millis(50))),
        None => {
            let reason = format!("replication slot {name} is gone on {}", target.address);
            context.note(Step::WayBack, LOST, json!(reason)).await?;
            Ok(Outcome::Done(Value::Null))
        }
    }
}

fn noted(context: &Context<'_>) -> Result<Reversal, Failure> {
    let noted = context.run()?.note(Step::WayBack, REVERSAL);
    Ok(noted.and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default())
}

/// Removes everything of the way back on both sides and puts the source's rules back. Answers those that rows which
/// came back keep from standing again.
///
/// # Errors
/// The servers'.
pub async fn remove(context: &Context<'_>) -> Result<Vec<String>, Failure> {
    let source = context.world.source("way back").await?;
    let target = context.world.target("way back").await?;
    disconnect(context, &source, &target).await?;
    publication::drop_publication(&target, &reverse_name(context)?).await?;
    match context.run()?.note(Step::WayBack, RELAXED) {
        Some(_) => Ok(reverse::restore(&source, &noted(context)?).await?),
        None => Ok(Vec::new()),
    }
}

/// [`remove`], as the undo of the step.
///
/// # Errors
/// The servers'.
pub async fn undo(context: &mut Context<'_>) -> Answer {
    for broken in remove(context).await? {
        log::warn!("rows that came back from the target keep a rule of the source from standing again: {broken}");
    }
    Ok(Outcome::Done(Value::Null))
}

/// After the opening: is the way back still whole? Answers a record that says why not.
///
/// # Errors
/// The servers'.
pub async fn watch(context: &mut Context<'_>, run: &Run) -> Result<Option<Record>, Failure> {
    if run.way_back().is_err() || !run.is_done(Step::FollowBack) {
        return Ok(None);
    }
    let lost =
        |reason: String| Ok(Some(Record::Noted { step: Step::WayBack, name: LOST.to_owned(), value: json!(reason) }));
    let name = reverse_name(context)?;
    let target = context.world.target("watch").await?;
    let begun = run.note(Step::Prepare, "identity").and_then(|identity| identity.get("target")).cloned();
    let now = observe::identity_value(&inspect::cluster_identity(&target).await?);
    if begun.as_ref() != Some(&now) {
        return lost(format!("the target at {} is another cluster or timeline than before the flip", target.address));
    }
    let Some(seen) = slot::observe(&target, &name).await? else {
        return lost(format!("replication slot {name} is gone on {}", target.address));
    };
    if seen.wal_status.as_deref() == Some("lost") {
        return lost(format!("replication slot {name} lost the WAL it needs on {}", target.address));
    }
    let source = context.world.source("watch").await?;
    let Some(state) = subscription::state(&source, &name).await? else {
        return lost(format!("subscription {name} is gone on {}", source.address));
    };
    context.progress.update(|p| p.lag_bytes = seen.lag_bytes.and_then(|lag| u64::try_from(lag).ok()));
    let stopped = match context.live.way_back.look(!state.enabled, state.apply_errors, state.worker_pid.is_some()) {
        Revival::Wait => return Ok(None),
        Revival::Enable => {
            subscription::enable(&source, &name).await?;
            return Ok(None);
        }
        Revival::Leave => (!state.enabled).then(|| {
            format!(
                "subscription {name} is disabled on {}, by hand or after an error that the log there tells",
                source.address
            )
        }),
    };
    let known = run.note(Step::WayBack, STOPPED).and_then(Value::as_str);
    Ok((known != stopped.as_deref()).then(|| Record::Noted {
        step: Step::WayBack,
        name: STOPPED.to_owned(),
        value: json!(stopped),
    }))
}
