//! The way back: what the target publishes, the slot that keeps it from the moment the target opens, and the
//! subscription on the source that takes it. Never together with the forward direction: 14 and 15 cannot tell
//! where a change came from, and it would go round for ever.

use super::context::{Answer, Context, Outcome};
use super::judge::{Revival, STANDS_STILL};
use super::mend;
use super::observe::{self, human_bytes};
use super::prepare::forward;
use crate::apps::Completion;
use crate::migration::{Failure, Goal, Record, Run, Side, Step};
use crate::postgres::fence::FenceState;
use crate::postgres::names::{PREFIX, RunId, TableName};
use crate::postgres::publication::PublishedTable;
use crate::postgres::reverse::{self, Reversal};
use crate::postgres::slot::SlotState;
use crate::postgres::subscription::{SubscriptionSpec, SubscriptionState};
use crate::postgres::{Error, Password, Server, Session, fence, inspect, publication, reach, slot, subscription};
use serde_json::{Value, json};
use std::time::Duration;

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
    note_lost(context, Value::Null).await?;
    publish(context, &target).await?;
    Ok(Outcome::Done(json!({
        "open": true,
        "tables": found.published.len(),
        "lifted-on-the-source": found.relaxations.iter().map(|r| r.what.clone()).collect::<Vec<_>>(),
        "dropped-on-the-source": found.uniques.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })))
}

/// Has the target publish what flows back.
///
/// # Errors
/// The server's.
pub(super) async fn publish(context: &Context<'_>, target: &Session) -> Result<(), Failure> {
    let marker = PublishedTable::whole(TableName::new(PREFIX, "marker"));
    let published: Vec<PublishedTable> = noted(context)?.published.into_iter().chain([marker]).collect();
    Ok(publication::create(target, &reverse_name(context)?, &published).await?)
}

/// Has the source let pass what flows back.
///
/// # Errors
/// The server's, the journal's.
pub(super) async fn relax(context: &mut Context<'_>, source: &Session) -> Result<Reversal, Failure> {
    context.note(Step::WayBack, RELAXED, json!(true)).await?;
    let reversal = noted(context)?;
    reverse::relax(source, &reversal).await?;
    Ok(reversal)
}

/// Why the way back is lost; null when it is not any more.
///
/// # Errors
/// The journal's.
pub(super) async fn note_lost(context: &mut Context<'_>, reason: Value) -> Result<(), Failure> {
    context.note(Step::WayBack, LOST, reason).await
}

/// Tries, before anybody is kept waiting, what the hand-over will do: a slot on the target, a connection from the source.
async fn unfit_servers(context: &Context<'_>, target: &Session) -> Result<Vec<String>, Failure> {
    let world = context.world;
    let name = reverse_name(context)?;
    let conninfo = conninfo(&world.target, &world.target_database);
    // A slot that stands is proof enough.
    let slot = match slot::observe(target, &name).await? {
        Some(_) => Ok(()),
        None => slot::try_create(target, &name, SLOT_WITHIN).await,
    };
    let reached = reach::reach(&world.source, &world.source_database, &conninfo, "the target").await;
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
pub fn conninfo(target: &Server, database: &str) -> Password {
    target.conninfo(database, &format!("{PREFIX} way back"))
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
    subscription::create(&world.source, &world.source_database, &subscription_spec(context, &name)).await?;
    Ok(Some(name))
}

/// The source's subscription.
pub(super) fn subscription_spec(context: &Context<'_>, name: &str) -> SubscriptionSpec {
    let world = context.world;
    SubscriptionSpec {
        name: name.to_owned(),
        slot: name.to_owned(),
        publication: name.to_owned(),
        conninfo: conninfo(&world.target, &world.target_database),
        only_local_changes: true,
    }
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
/// worker there begins. A way back that was lost is made anew where that is asked for.
///
/// # Errors
/// The servers'.
pub async fn follow(context: &mut Context<'_>) -> Answer {
    let mends = context.request.goal == Goal::Following && context.run()?.may_mend();
    if mends {
        mend::once(context).await?;
    } else {
        context.live.mended = None;
    }
    if let Err(reason) = context.run()?.way_back()
        && !mends
    {
        log::warn!("there is no way back: {reason}");
        // Other databases there go on, and their WAL would be kept for nobody. Where it cannot be done, finalize does it.
        if let Err(error) = forget_forward(context).await {
            log::warn!("the source still keeps WAL for this migration: {}", error.sentence);
        }
        return Ok(Outcome::Done(Value::Null));
    }
    context.progress.say("letting new writes flow back to the source");
    let source = context.world.source("way back").await?;
    let target = context.world.target("way back").await?;
    forget_forward(context).await?;
    if !mends {
        relax(context, &source).await?;
    }
    let name = reverse_name(context)?;
    let seen = slot::observe(&target, &name).await?.filter(|slot| slot.wal_status.as_deref() != Some("lost"));
    let Some(seen) = seen else {
        let reason = format!("replication slot {name} is gone on {}", target.address);
        note_lost(context, json!(reason)).await?;
        return match mends {
            true => mend::give_up(context, &source, &target, reason).await,
            false => Ok(Outcome::Done(Value::Null)),
        };
    };
    subscription::enable(&source, &name).await?;
    let applies = subscription::state(&source, &name).await?.is_some_and(|state| state.worker_pid.is_some());
    let lag = seen.lag_bytes.and_then(|lag| u64::try_from(lag).ok());
    context.progress.update(|p| p.lag_bytes = lag);
    match lag {
        Some(lag) if applies && lag <= context.settings().max_lag_bytes => {
            if mends {
                note_lost(context, Value::Null).await?;
                context.live.mended = None;
            }
            Ok(Outcome::Done(json!({"lag-bytes": lag})))
        }
        _ if context.live.mended.as_mut().is_some_and(|mended| mended.stands_still(seen.confirmed_flush_lsn)) => {
            let reason = format!(
                "nothing flows back since {} s; the log of the server at {} says why",
                STANDS_STILL.as_secs(),
                source.address
            );
            mend::give_up(context, &source, &target, reason).await
        }
        Some(lag) if applies => {
            context.progress.say(format!("the source is {} behind the target", human_bytes(lag)));
            Ok(Outcome::Again(Duration::from_millis(200)))
        }
        _ => Ok(Outcome::Again(Duration::from_millis(50))),
    }
}

/// The forward direction goes for good.
async fn forget_forward(context: &Context<'_>) -> Result<(), Failure> {
    super::follow::drop_subscription(context).await?;
    Ok(slot::drop_slot(&context.world.source("way back").await?, &forward(context)?, ENDS).await?)
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
        Some(_) => {
            let reversal = noted(context)?;
            complete(context, &source, &reversal).await?;
            Ok(reverse::restore(&source, &reversal).await?)
        }
        None => Ok(Vec::new()),
    }
}

/// Gives rows that came back what the source's release needs in them, where its own rule had to be lifted for them. Not
/// before nothing flows back any more. Rows that cannot be completed keep that rule from standing again, which is told.
///
/// # Errors
/// The server's.
async fn complete(context: &Context<'_>, source: &Session, reversal: &Reversal) -> Result<(), Failure> {
    let completions = context.app().completions;
    if completions.is_empty() {
        return Ok(());
    }
    for table in inspect::tables(source).await? {
        let has = |name: &str| table.columns.iter().any(|column| column.name == name);
        let of =
            |known: &&Completion| known.table == table.name.name && reversal.lifts_not_null(&table.name, known.lacking);
        for sql in completions.iter().filter(of).filter_map(|known| known.sql(&table.name, has)) {
            let sql = format!("BEGIN; SET LOCAL session_replication_role = replica; {sql}; COMMIT");
            let Err(error) = source.batch_execute(&sql).await else { continue };
            source.batch_execute("ROLLBACK").await.map_err(Error::doing("go on after an error"))?;
            let error = Error::doing(format!("complete rows of table {} on {}", table.name, source.address))(error);
            match error.sqlstate().is_some_and(|state| state.code().starts_with("23")) {
                true => log::warn!("{error}"),
                false => return Err(error.into()),
            }
        }
    }
    Ok(())
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

/// True while there is a way back to watch.
pub fn stands(run: &Run) -> bool {
    run.way_back().is_ok() && run.is_done(Step::FollowBack)
}

/// Enables the way back's subscription where a passing error disabled it, a lost connection among them; answers what was
/// judged.
///
/// # Errors
/// The server's.
pub async fn revive(
    context: &mut Context<'_>,
    source: &Session,
    name: &str,
    state: &SubscriptionState,
) -> Result<Revival, Failure> {
    let judged = context.live.way_back.look(!state.enabled, state.apply_errors.clone(), state.worker_pid.is_some());
    if judged == Revival::Enable {
        subscription::enable(source, name).await?;
    }
    Ok(judged)
}

/// What is said of a subscription that nothing of ours enables again.
pub fn disabled(source: &Session, name: &str) -> String {
    format!(
        "subscription {name} is disabled on {}, by hand or after an error that the log there tells; run \
         ALTER SUBSCRIPTION {name} ENABLE there, in database {}",
        source.address, source.database
    )
}

/// The target's slot and the source's subscription, where both are there and what flowed back cannot be missing; else
/// why the way back is lost.
async fn whole(
    run: &Run,
    name: &str,
    source: &Session,
    target: &Session,
) -> Result<Result<(SlotState, SubscriptionState), String>, Failure> {
    if let Some(found) = observe::another_cluster(run, Side::Target, target).await? {
        return Ok(Err(found));
    }
    let Some(seen) = slot::observe(target, name).await? else {
        return Ok(Err(format!("replication slot {name} is gone on {}", target.address)));
    };
    if seen.wal_status.as_deref() == Some("lost") {
        return Ok(Err(format!("replication slot {name} lost the WAL it needs on {}", target.address)));
    }
    // What was applied and confirmed before its failover may be missing there.
    if let Some(found) = observe::another_cluster(run, Side::Source, source).await? {
        return Ok(Err(found));
    }
    Ok(match subscription::state(source, name).await? {
        Some(state) => Ok((seen, state)),
        None => Err(format!("subscription {name} is gone on {}", source.address)),
    })
}

/// True when no drain can end on the road back, whatever is waited for.
///
/// # Errors
/// The servers'.
pub async fn is_lost(context: &Context<'_>, source: &Session, target: &Session) -> Result<bool, Failure> {
    Ok(whole(context.run()?, &reverse_name(context)?, source, target).await?.is_err())
}

/// On the road back, before the source has everything: nobody is kept waiting for a drain that cannot end. A way back that
/// is lost is noted, and writes go on on the target. Answers why.
///
/// # Errors
/// The servers'.
pub async fn give_up_if_lost(
    context: &mut Context<'_>,
    source: &Session,
    target: &Session,
) -> Result<Option<String>, Failure> {
    let name = reverse_name(context)?;
    let Err(reason) = whole(context.run()?, &name, source, target).await? else { return Ok(None) };
    note_lost(context, json!(reason)).await?;
    let Some(generation) = super::reverse::generation(context) else { return Ok(Some(reason)) };
    if fence::state(target, &generation).await?.is_some_and(|row| row.state == FenceState::Leased) {
        let lock_timeout = Duration::from_millis(context.settings().lock_timeout_ms);
        fence::lift(target, &generation, context.epoch, lock_timeout).await?;
    }
    Ok(Some(reason))
}

/// After the opening: is the way back still whole? Answers a record that says why not.
///
/// # Errors
/// The servers'.
pub async fn watch(
    context: &mut Context<'_>,
    run: &Run,
    source: &Session,
    target: &Session,
) -> Result<Option<Record>, Failure> {
    let lost =
        |reason: String| Ok(Some(Record::Noted { step: Step::WayBack, name: LOST.to_owned(), value: json!(reason) }));
    let name = reverse_name(context)?;
    let (seen, state) = match whole(run, &name, source, target).await? {
        Ok(whole) => whole,
        Err(reason) => return lost(reason),
    };
    if let Some(found) = super::room::give_up_if_full(context, target, Some(source), &name, &seen).await? {
        return lost(found);
    }
    context.progress.update(|p| p.lag_bytes = seen.lag_bytes.and_then(|lag| u64::try_from(lag).ok()));
    let stopped = match revive(context, source, &name, &state).await? {
        Revival::Wait | Revival::Enable => return Ok(None),
        Revival::Leave => (!state.enabled).then(|| disabled(source, &name)),
    };
    let known = run.note(Step::WayBack, STOPPED).and_then(Value::as_str);
    Ok((known != stopped.as_deref()).then(|| Record::Noted {
        step: Step::WayBack,
        name: STOPPED.to_owned(),
        value: json!(stopped),
    }))
}
