//! `back-up`: a backup through the PostgreSQL charm. The charm makes it by itself; the action asks for it, and watches.
//! Killed, it is run again and goes on watching.

use super::Journal;
use super::actions::lacks;
use super::desk::{Desk, Reply};
use super::parameters::Parameters;
use crate::migration::{Goal, Record, Request, Side, State, plan};
use crate::steps::back_up::by_hand;
use crate::steps::local_charm;
use crate::steps::through_controller::{BackUp, BackUpKind, Credentials, Ended, Through, Work, attempt, back_up_name};
use crate::steps::{Context, Live, ProgressSink};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Asks for the backup unless one is under way, and watches it.
///
/// # Errors
/// A hook tool's.
pub async fn back_up(desk: &Desk<'_>, parameters: &Parameters, journal: &mut Journal) -> anyhow::Result<Reply> {
    let side = if parameters.text("side") == "target" { Side::Target } else { Side::Source };
    let kind = match parameters.text("type") {
        "differential" => BackUpKind::Differential,
        "incremental" => BackUpKind::Incremental,
        _ => BackUpKind::Full,
    };
    if parameters.flag("taken") {
        return Ok(taken(desk, side, journal).await);
    }
    let world = match &desk.gathered.world {
        Ok(world) => world,
        Err(lacking) => return Ok(lacks(desk, "back-up", lacking)),
    };
    let (progress, mut live) = (ProgressSink::default(), Live::default());
    let controller: Credentials = desk.gathered.controller.clone().into();
    let mut context = Context {
        world,
        applications: &desk.gathered.applications,
        controller: &controller,
        charm_file: local_charm::file(&desk.context.charm_dir),
        store: &journal.store,
        state: &mut journal.state,
        request: Request::plain("back-up", Goal::Following),
        epoch: 0,
        progress: &progress,
        live: &mut live,
    };
    let began = Instant::now();
    let before = BackUp::known(context.state, side).filter(|known| !known.is_under_way());
    let mut shown = String::new();
    loop {
        let known = BackUp::known(context.state, side);
        let begin = known.as_ref().map(|known| known.begun) == before.as_ref().map(|known| known.begun);
        let through = attempt(&mut context, Work::BackUp { side, kind, begin }).await;
        let text = match through {
            Err(failure) => return Ok(Reply::failed(failure.sentence, desk.command(&again(side, kind)))),
            Ok(Through::Done) if !begin => break,
            Ok(Through::Done) => String::new(),
            Ok(Through::AtWork(text)) => text,
            Ok(Through::Guided) => return Ok(typed(&context, side, "no controller-credentials")),
            Ok(Through::Cannot(why)) => return Ok(typed(&context, side, &why)),
            Ok(Through::Person(reason, next)) => return Ok(waiting(reason, next)),
        };
        if began.elapsed().as_secs() >= parameters.number("wait") {
            let next = desk.command(&again(side, kind));
            return Ok(Reply { outcome: "running", message: text, next, more: BTreeMap::new() });
        }
        if text != shown {
            desk.tools.log_progress(&text)?;
            shown = text;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(ended(desk, side, kind, context.state))
}

fn again(side: Side, kind: BackUpKind) -> String {
    let kind = if kind == BackUpKind::Full { String::new() } else { format!(" type={}", kind.name()) };
    format!("back-up side={}{kind}", side.name())
}

fn typed(context: &Context<'_>, side: Side, why: &str) -> Reply {
    waiting(format!("a backup of the {} is made by a person: {why}", side.name()), by_hand(context, side))
}

fn waiting(message: String, next: String) -> Reply {
    Reply { outcome: "waiting", message, next, more: BTreeMap::new() }
}

fn ended(desk: &Desk<'_>, side: Side, kind: BackUpKind, state: &State) -> Reply {
    let known = BackUp::known(state, side).unwrap_or_default();
    let Ended { failure, backup } = known.ended.unwrap_or_default();
    if let Some(why) = failure {
        let sentence = format!("cannot back up the {}: {why}; mend that and run it again", side.name());
        return Reply::failed(sentence, desk.command(&again(side, kind)));
    }
    let backup = backup.unwrap_or_default();
    Reply {
        outcome: "done",
        message: format!("{} made a {} backup of the {}, {backup}", known.unit, known.kind.name(), side.name()),
        next: desk.next(plan::usual_next(state)),
        more: BTreeMap::from([("backup".to_owned(), backup)]),
    }
}

/// A person's word that there is one, whatever is known of another: that may hang on a unit that is gone.
async fn taken(desk: &Desk<'_>, side: Side, journal: &mut Journal) -> Reply {
    let told = BackUp { request: journal.state.request_seq, ended: Some(Ended::default()), ..BackUp::default() };
    let record = Record::Errand { name: back_up_name(side).to_owned(), value: json!(told) };
    match journal.append(desk.gathered, &record).await {
        Err(sentence) => Reply::failed(sentence, desk.command(&format!("back-up side={} taken=true", side.name()))),
        Ok(()) => Reply {
            outcome: "done",
            message: format!("a backup of the {} was made by other means, as you say", side.name()),
            next: desk.next(plan::usual_next(&journal.state)),
            more: BTreeMap::new(),
        },
    }
}
