//! The target application gets its new revision. Guided: the operator types the command; its end is
//! seen from outside, because a refreshed application stops its server and waits for `run-migration`.

use super::context::{Answer, Context, Outcome, wait};
use super::observe;
use crate::apps::{Health, Recognised};
use serde_json::json;

/// Observes whether the refresh was made; until then says how.
///
/// # Errors
/// The database's.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    let source = observe::recognise(&context.world.source("refresh").await?).await?;
    let target = observe::recognise(&context.world.target("refresh").await?).await?;
    let release = |recognised: &Recognised| match recognised {
        Recognised::Release(name) => Some(name.clone()),
        _ => None,
    };
    if release(&source) != release(&target) {
        return Ok(Outcome::Done(json!({"evidence": format!("the target's database has {target}")})));
    }
    let health = observe::target_health(context).await;
    let evidence = match (&health, &source) {
        (Health::Ready { version }, Recognised::Release(name)) if release_is(version, name) => None,
        (Health::Ready { version }, _) => Some(format!("the target's server runs {version}")),
        (Health::NotReady { pending }, _) => Some(format!("the target's server waits: {pending}")),
        (Health::Down(_), _) => Some("the target's server is down and its schema is unchanged".to_owned()),
    };
    if let Some(evidence) = evidence {
        return Ok(Outcome::Done(json!({"evidence": evidence})));
    }
    wait(
        format!("the target application {} still runs the source's release", context.applications.target.name),
        command(context),
    )
}

fn release_is(version: &str, name: &str) -> bool {
    crate::apps::KRATOS.release_of(version).is_some_and(|release| release.is(name))
}

/// The exact command that refreshes the target application.
pub fn command(context: &Context<'_>) -> String {
    let target = &context.applications.target;
    let mut command = format!("juju refresh {}{}", target.model_flag(), target.name);
    if !context.request.channel.is_empty() {
        command.push_str(&format!(" --channel {}", context.request.channel));
    }
    if context.request.revision > 0 {
        command.push_str(&format!(" --revision {}", context.request.revision));
    }
    command
}
