//! What the target's server must prove before users come: it is ready, it is the new release, it serves the source's
//! network, and what only its kind has to prove: [`kratos`], [`hydra`].

mod hydra;
mod kratos;

use super::context::{Answer, Context, Outcome, wait};
use super::through_controller::{self, Work};
use super::{migrate, observe};
use crate::apps::{Health, Kind, Readable};
use crate::migration::{Failure, Order, Step};
use crate::postgres::names::TableName;
use crate::postgres::{Error, Session};
use serde_json::json;
use std::time::Duration;
use tokio_postgres::Row;

/// What the gates let pass and a person should know: a list in the step's output.
pub const WARNINGS: &str = "warnings";

/// How long the rows that the gates need may be looked for: users wait.
const LOOKS: Duration = Duration::from_secs(5);

/// Asks the target's server until it passes.
///
/// # Errors
/// A server that cannot serve what was copied.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    let name = context.applications.target.name.clone();
    let (_, to) = super::catch_up::releases(context);
    let version = match observe::target_health(context).await {
        Health::Ready { version } => version,
        Health::NotReady { pending } => {
            let cut_off = migrate::perhaps_cut_off(context, &to);
            return wait(format!("the target's server is not ready yet: {pending}{cut_off}"), "");
        }
        Health::Down(_) => return starts_later(context, &to).await,
    };
    let migrated = context.app().serves(&version, &to) || version == to;
    if !migrated {
        return wait(
            format!("the target's server is release {version}, its schema is release {to}"),
            format!("juju run {}{name}/leader run-migration", context.applications.target.model_flag()),
        );
    }
    // Where users wait, a touched option waits for the end of the run.
    let outage = context.run()?.order == Order::Documented && !context.run()?.rehearsing;
    if !outage && let Some(answer) = through_controller::restore(context).await? {
        return answer;
    }
    let mut warnings = Vec::new();
    if let Some(answer) = prove(context, &mut warnings).await? {
        return answer;
    }
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    Ok(Outcome::Done(json!({"version": version, "after": Step::Migrate.name(), WARNINGS: warnings})))
}

/// What the server did not prove of what it keeps, if anything; what a person should know goes to `warnings`.
///
/// # Errors
/// The servers'.
pub(super) async fn prove(context: &Context<'_>, warnings: &mut Vec<String>) -> Result<Option<Answer>, Failure> {
    let Some(shown) = shown(context)? else { return Ok(None) };
    match context.app().kind {
        Kind::Kratos => kratos::refused(context, &shown, warnings).await,
        Kind::Hydra => hydra::refused(context, &shown, warnings).await,
    }
}

/// When a server that is down comes up: by a hook that we bring about, by itself, or by what a person relates.
async fn starts_later(context: &mut Context<'_>, to: &str) -> Answer {
    let woken = match context.app().kind {
        Kind::Kratos => through_controller::attempt(context, Work::Wake).await?.answer(context),
        Kind::Hydra => Err(None),
    };
    let refused = match woken {
        Ok(answer) => return answer,
        Err(why) => why.map(|why| format!("; {why}")).unwrap_or_default(),
    };
    let target = &context.applications.target;
    let name = &target.name;
    let cut_off = migrate::perhaps_cut_off(context, to);
    match context.app().kind {
        Kind::Kratos => wait(
            format!(
                "the target application {name} starts its server at its next hook (update-status at the latest){refused}{cut_off}"
            ),
            "",
        ),
        Kind::Hydra => wait(
            format!(
                "the target application {name} is down: it starts at its next hook once it has a public-route and a login \
                 UI (ui-endpoint-info); its status tells which it lacks{cut_off}"
            ),
            format!("juju status {}{name}", target.model_flag()),
        ),
    }
}

/// One row of what the app keeps must be readable through the target: proves the network id.
async fn unreadable(context: &Context<'_>, id: &str) -> Result<(), Unreadable> {
    let one = context.app().keeps.one;
    match observe::server(context.app(), &context.applications.target).readable(id).await {
        Ok(Readable::Yes) => Ok(()),
        // It reads the network when it starts; one that started over an empty database made its own.
        Ok(Readable::Missing) => Err(Unreadable::Answer(wait(
            format!(
                "the target's server does not know {one} {id}, which is in its database: it serves another network; \
                 restart it"
            ),
            observe::restart_command(context),
        ))),
        Ok(Readable::Failed { status, message }) => Err(Unreadable::Failed { status, message }),
        Err(error) => Err(Unreadable::Answer(Err(Failure::retry("pass the gates", error)))),
    }
}

/// Why a row was not read.
enum Unreadable {
    /// For the operator as it is.
    Answer(Answer),
    /// The server failed.
    Failed {
        /// HTTP status.
        status: u16,
        /// Its own words.
        message: String,
    },
}

/// The rows that the server shows, as SQL after `SELECT`: those of other networks are hidden, on the source too.
/// `None` where there is no such table.
fn shown(context: &Context<'_>) -> Result<Option<String>, Failure> {
    let (tables, app) = (observe::replicated_tables(context)?, context.app());
    Ok(tables.iter().find(|table| table.name == app.keeps.table).map(|table| {
        format!(
            "FROM {} WHERE nid = (SELECT id FROM {} ORDER BY created_at LIMIT 1)",
            table.sql(),
            TableName::new(&table.schema, app.networks_table).sql()
        )
    }))
}

/// Asks for a short time only.
async fn ask(session: &Session, sql: &str) -> Result<Vec<Row>, Error> {
    let doing = format!("look at what the app keeps on {}", session.address);
    let limit = format!("SET statement_timeout = {}", LOOKS.as_millis());
    session.batch_execute(&limit).await.map_err(Error::doing(doing.as_str()))?;
    session.query(sql, &[]).await.map_err(Error::doing(doing))
}
