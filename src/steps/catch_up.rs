//! After the schema change: fills for what the new schema demands and late rows lack, then the
//! subscription goes on.

use super::apply;
use super::context::{Answer, Context, Outcome};
use super::follow::caught_up;
use super::prepare::forward;
use crate::apps::{Pair, fills, pair};
use crate::migration::{Failure, Step};
use crate::postgres::Error;

/// Installs the pair's fills, enables the subscription, waits until it is nearly caught up.
///
/// # Errors
/// The servers'; a pair of releases that did not earn this order.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    let (from, to) = releases(context);
    install_fills(context, &from, &to).await?;
    let target = context.world.target("catch-up").await?;
    let name = forward(context)?;
    apply::enable_once(context, &target, &name, Step::CatchUp).await?;
    caught_up(context, &target, &name).await
}

/// Installs what late rows of the old release need in the new schema.
///
/// # Errors
/// The server's; a pair of releases that did not earn this order.
pub async fn install_fills(context: &Context<'_>, from: &str, to: &str) -> Result<(), Failure> {
    if from == to {
        return Ok(());
    }
    let pair = earned_pair(context, from, to)?;
    let target = context.world.target("catch-up").await?;
    for statement in fills::install(pair.fills, "public") {
        target
            .batch_execute(&statement)
            .await
            .map_err(Error::doing(format!("install a fill on {}", target.address)))?;
    }
    Ok(())
}

/// Every filled value is what its rule says: also where its parent was written anew and the row was not.
///
/// # Errors
/// The server's; rows whose value is another.
pub async fn refuse_unfilled(context: &Context<'_>, pair: &Pair) -> Result<(), Failure> {
    let target = context.world.target("catch-up").await?;
    for fill in pair.fills {
        let asked = target.query_one(&fill.violations_sql("public"), &[]).await;
        let count: i64 = asked.map_err(Error::doing(format!("check what fills table {}", fill.table)))?.get(0);
        if count > 0 {
            return Err(Failure::operator(
                "repair the target",
                format!("{count} rows of table {} do not have the right {}", fill.table, fill.column),
                format!("run {}, then start again", context.command("rollback")),
            ));
        }
    }
    Ok(())
}

/// The pair that the migration turned out to be.
fn earned_pair(context: &Context<'_>, from: &str, to: &str) -> Result<&'static Pair, Failure> {
    match pair(context.app(), from, to) {
        Some(pair) if pair.earned => Ok(pair),
        _ => Err(Failure::operator(
            "go on in the migrate-first order",
            format!("the target's schema is release {to}, and {from} to {to} has not been proven for this order"),
            format!(
                "run {}, set `juju config {} order=documented`, then start again",
                context.command("rollback"),
                context.applications.coordinator
            ),
        )),
    }
}

/// The releases before and after the schema migration, as `migrate` found them.
pub fn releases(context: &Context<'_>) -> (String, String) {
    let field = |name: &str| {
        context
            .state
            .active()
            .and_then(|run| run.output(Step::Migrate, name))
            .and_then(|value| value.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    (field("from"), field("to"))
}

/// Removes the fills; `follow` drops the subscription.
///
/// # Errors
/// The server's.
pub async fn undo(context: &mut Context<'_>) -> Answer {
    remove_fills(context).await?;
    Ok(Outcome::Done(serde_json::Value::Null))
}

/// Removes the fills of this run's pair, if it had any.
///
/// # Errors
/// The server's.
pub async fn remove_fills(context: &Context<'_>) -> Result<(), Failure> {
    let (from, to) = releases(context);
    if let Some(pair) = pair(context.app(), &from, &to) {
        let target = context.world.target("undo").await?;
        for statement in fills::remove(pair.fills, "public") {
            target
                .batch_execute(&statement)
                .await
                .map_err(Error::doing(format!("remove a fill from {}", target.address)))?;
        }
    }
    Ok(())
}
