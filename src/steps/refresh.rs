//! The target application gets its new revision. Guided: the operator types the command; its end is
//! seen from outside, because a refreshed application stops its server and waits for `run-migration`.

use super::context::{Answer, Context, Outcome, wait};
use super::observe;
use super::through_controller::{self, Shown, Work};
use crate::apps::revisions::{Fit, unfit};
use crate::apps::{App, Health, Kind, Recognised};
use crate::migration::{Failure, Request};
use serde_json::{Value, json};

/// In the step's output: nothing tells whether the refresh was made. A Hydra is down until it has a public route and a
/// login UI, whatever its revision; that its schema migration does something tells later.
pub const UNSEEN: &str = "unseen";

/// Observes whether the refresh was made; until then has the controller make it, or says how.
///
/// # Errors
/// The database's; a refresh that cannot be made.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    if kept_release(context).is_some() {
        let release = keepable(context).await?.map_err(|found| unlike(context, found))?;
        return Ok(Outcome::Done(json!({"evidence": format!("the target keeps the source's release, {release}")})));
    }
    let (shown, evidence) = evidence(context).await?;
    let through = through_controller::attempt(context, Work::Refresh { shown }).await?;
    let refused = match through.answer(context) {
        Ok(answer) => return answer,
        Err(why) => why.map(|why| format!("; {why}")).unwrap_or_default(),
    };
    let unproven = shown == Shown::Perhaps && !refused.is_empty() && through_controller::is_asked(context);
    if let Some(output) = evidence.filter(|_| !unproven) {
        return Ok(Outcome::Done(output));
    }
    wait(
        format!(
            "the target application {} still runs the source's release{refused}; to move the database only, run rollback, \
             then refresh keep-release=true",
            context.applications.target.name
        ),
        command(context),
    )
}

/// What shows from outside that the target application was refreshed, as the step's output.
async fn evidence(context: &Context<'_>) -> Result<(Shown, Option<Value>), Failure> {
    let source = observe::recognise(context.app(), &context.world.source("refresh").await?).await?;
    let target = observe::recognise(context.app(), &context.world.target("refresh").await?).await?;
    let release = |recognised: &Recognised| match recognised {
        Recognised::Release(name) => Some(name.clone()),
        _ => None,
    };
    if release(&source) != release(&target) {
        return Ok((Shown::Yes, Some(json!({"evidence": format!("the target's database has {target}")}))));
    }
    let health = observe::target_health(context).await;
    let evidence = match (&health, &source) {
        (Health::Ready { version }, Recognised::Release(name)) if context.app().serves(version, name) => None,
        (Health::Ready { version }, _) => Some(format!("the target's server runs {version}")),
        (Health::NotReady { pending }, _) => Some(format!("the target's server waits: {pending}")),
        (Health::Down(_), _) => Some("the target's server is down and its schema is unchanged".to_owned()),
    };
    let shown = match (&evidence, &health) {
        (None, _) => Shown::No,
        (Some(_), Health::Down(_)) => Shown::Perhaps,
        (Some(_), _) => Shown::Yes,
    };
    let output = evidence.map(|evidence| {
        let mut output = json!({"evidence": evidence});
        if matches!((context.app().kind, &health), (Kind::Hydra, Health::Down(_))) {
            output[UNSEEN] = json!(true);
        }
        output
    });
    Ok((shown, output))
}

/// The release that the target can keep: it must run the source's, with its schema. Else what was found.
///
/// # Errors
/// The servers'.
pub async fn keepable(context: &Context<'_>) -> Result<Result<String, String>, Failure> {
    let name = &context.applications.target.name;
    let source = observe::recognise(context.app(), &context.world.source("refresh").await?).await?;
    let target = observe::recognise(context.app(), &context.world.target("refresh").await?).await?;
    let found = match (&source, observe::target_health(context).await) {
        _ if source != target => format!("the source's database has {source}, the target's has {target}"),
        (Recognised::Release(release), Health::Ready { version }) => {
            if context.app().serves(&version, release) {
                return Ok(Ok(release.clone()));
            }
            format!("the target application {name} runs {version}, the source's database has the schema of {release}")
        }
        (Recognised::Release(_), health) => format!("the target application {name} is {health}"),
        (source, _) => format!("the source's database has {source}"),
    };
    Ok(Err(found))
}

/// A target that cannot keep the source's release.
pub fn unlike(context: &Context<'_>, found: String) -> Failure {
    let cure = format!(
        "have {} serve the source's release, then run the action again; when it was refreshed meanwhile run {} first",
        context.applications.target.name,
        context.command("rollback")
    );
    Failure::operator("keep the source's release", found, cure)
}

/// The release that the target keeps, when only the database moves.
pub fn kept_release(context: &Context<'_>) -> Option<String> {
    context.state.active()?.keeps.clone()
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
    if let Some(local) = &context.request.local {
        command.push_str(&format!(" --path=<charm file> --resource oci-image={}", local.image));
    }
    command
}

/// A request for a charm that is known not to run its `run-migration` on an application that was refreshed: what to say,
/// and the channel to ask for instead. Where the release stays, nothing is migrated.
pub fn cannot_migrate(app: &App, request: &Request) -> Option<(String, &'static str)> {
    if request.keep_release {
        return None;
    }
    let (found, Fit { channel, from }) = unfit(app, &request.channel, request.revision)?;
    let sentence = format!(
        "cannot {}: the {} charm of {found} runs its run-migration only while its service runs, and after a refresh that \
         needs one it does not; take channel={channel}, or a revision of charm {from} or later",
        request.action, app.title
    );
    Some((sentence, channel))
}
