//! Every row is compared, in snapshots that both sides took while nobody could write.

use super::context::{Answer, Context, Outcome};
use super::observe;
use super::world::World;
use crate::apps::{App, pair};
use crate::migration::{DIFFERED, Failure, Phase, Run, Step, Verification};
use crate::postgres::compare::{self, CompareProgress, ComparedColumn, Depth, Online, Rule, TableComparison, Verdict};
use crate::postgres::inspect::{self, Column, Table};
use crate::postgres::names::{TableName, ident};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Parallel comparisons: each is one query per side.
pub(super) const JOBS: usize = 2;

/// How long the target may take to pass a moment of the source, while users write.
const CATCHES_UP: Duration = Duration::from_secs(60);

/// How often rows that keep changing are looked at again.
const ROUNDS: u32 = 5;

/// Takes the twin snapshots and begins to compare them beside everything else.
///
/// # Errors
/// The servers'.
pub async fn snapshot(context: &mut Context<'_>) -> Answer {
    if let Some(task) = context.live.comparison.take() {
        task.abort();
    }
    let world = context.world;
    let replicated = observe::replicated_tables(context)?;
    let tables = inspect::tables(&world.source("verify").await?).await?;
    let comparisons = table_comparisons(world.app, &tables, &replicated);
    let twins =
        compare::open_twins(&world.source, &world.source_database, &world.target, &world.target_database).await?;
    let progress = Arc::new(compare::CompareProgress::default());
    context.live.compare_progress = Arc::clone(&progress);
    let depth = match context.settings().verification {
        Verification::Counts => Depth::Counts,
        Verification::Twin | Verification::Strict => Depth::Rows,
    };
    let rules = rules(context);
    context.live.comparison = Some(tokio::spawn(async move {
        let mut verdict = compare::compare(&twins, comparisons, depth, JOBS, progress).await?;
        match depth {
            Depth::Rows => twins.judge(&rules, &mut verdict).await?,
            _ => twins.close().await?,
        }
        Ok(verdict)
    }));
    Ok(Outcome::Done(json!({"taken-at": super::migrate::now_ms()})))
}

/// What late rows were filled with on the target: nothing of the source's can be compared with it. Where the schema is
/// migrated after this, there is none.
fn rules(context: &Context<'_>) -> Vec<Rule> {
    let (from, to) = super::catch_up::releases(context);
    let fills = pair(context.app(), &from, &to).map(|pair| pair.fills).unwrap_or_default();
    let rule = |fill: &crate::apps::Fill| Rule {
        table: TableName::new("public", fill.table),
        column: fill.column.to_owned(),
        violations: fill.violations_sql("public"),
    };
    fills.iter().map(rule).collect()
}

/// What is compared: the source's columns of every replicated table; tables that the target's own
/// migrations add rows to may hold more there.
pub(super) fn table_comparisons(app: &App, tables: &[Table], replicated: &[TableName]) -> Vec<TableComparison> {
    tables
        .iter()
        .filter(|table| replicated.contains(&table.name))
        .map(|table| TableComparison {
            table: table.name.clone(),
            key: table.primary_key.clone(),
            columns: table.columns.iter().map(compared).collect(),
            target_may_have_more: app.is_seeded_table(&table.name.name),
            bytes: table.total_bytes,
        })
        .collect()
}

/// What both schemas know of every replicated table.
pub(super) fn shared_comparisons(
    app: &App,
    source: &[Table],
    target: &[Table],
    replicated: &[TableName],
) -> Vec<TableComparison> {
    let mut comparisons = table_comparisons(app, source, replicated);
    for comparison in &mut comparisons {
        let other = target.iter().find(|table| table.name == comparison.table);
        comparison.columns.retain(|ours| other.is_some_and(|table| table.columns.iter().any(|c| c.name == ours.name)));
    }
    comparisons
}

fn compared(column: &Column) -> ComparedColumn {
    let sql = ident(&column.name);
    ComparedColumn { name: column.name.clone(), source_sql: sql.clone(), target_sql: sql }
}

/// Waits for the comparison and judges it.
///
/// # Errors
/// Rows that differ, while there still is a way back.
pub async fn perform(context: &mut Context<'_>) -> Answer {
    let after_open = matches!(context.run()?.phase, Phase::Opened | Phase::Flipped);
    let Some(task) = context.live.comparison.as_ref() else {
        // The snapshots died with an earlier worker. Before the open, the watch takes new ones.
        return if after_open {
            Ok(Outcome::Done(json!({"complete": false, "rows-verified": 0, "rows-different": 0})))
        } else {
            Ok(Outcome::Again(Duration::from_millis(100)))
        };
    };
    if !task.is_finished() {
        let rows = context.live.compare_progress.rows.load(Ordering::Relaxed);
        context.progress.say(format!("comparing, {rows} rows so far"));
        return Ok(Outcome::Again(Duration::from_millis(100)));
    }
    let Some(task) = context.live.comparison.take() else { return Ok(Outcome::Again(Duration::ZERO)) };
    let verdict = match task.await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) if after_open => {
            log::warn!("{error}");
            return Ok(Outcome::Done(json!({"complete": false, "rows-verified": 0, "rows-different": 0})));
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(error) => return Err(Failure::retry("compare both sides", error)),
    };
    let differs = verdict.rows_different > 0 && !after_open;
    if differs != context.run()?.must_compare() {
        context.note(Step::Verify, DIFFERED, json!(differs)).await?;
    }
    if differs {
        let cure = format!(
            "run {}, or mend these rows on the target and run {}, which compares again",
            context.command("rollback"),
            context.command("drain")
        );
        return Err(Failure::operator("go on", describe(&verdict), cure));
    }
    Ok(Outcome::Done(json!({
        "complete": true,
        "rows-verified": verdict.rows_verified,
        "rows-different": verdict.rows_different,
        "found": (verdict.rows_different > 0).then(|| describe(&verdict)),
    })))
}

/// What differs, by table, with a few keys.
pub fn describe(verdict: &Verdict) -> String {
    let tables: Vec<String> = verdict
        .tables
        .iter()
        .filter(|t| t.different() > 0)
        .map(|t| {
            format!(
                "{}: {} changed, {} missing, {} extra on the target (keys {})",
                t.table,
                t.changed,
                t.missing,
                t.extra,
                t.sample_keys.join(", ")
            )
        })
        .collect();
    format!("{} rows differ between source and target: {}", verdict.rows_different, tables.join("; "))
}

/// Ends the comparison, and with it the snapshots.
///
/// # Errors
/// None.
pub async fn undo(context: &mut Context<'_>) -> Answer {
    if let Some(task) = context.live.comparison.take() {
        task.abort();
    }
    Ok(Outcome::Done(serde_json::Value::Null))
}

/// Compares while the target follows: a row counts as different only when it stays so after the
/// target applied what the source had.
///
/// # Errors
/// The servers'.
pub async fn online(world: &World, run: &Run) -> Result<Verdict, Failure> {
    let replicated: Vec<TableName> = run
        .note(Step::Prepare, "tables")
        .and_then(|value| serde_json::from_value(value.clone()).ok())
        .unwrap_or_default();
    let tables = inspect::tables(&world.source("verify").await?).await?;
    let online = Online {
        source: &world.source,
        source_db: &world.source_database,
        target: &world.target,
        target_db: &world.target_database,
        catch_up_limit: CATCHES_UP,
        rounds: ROUNDS,
    };
    let comparisons = table_comparisons(world.app, &tables, &replicated);
    Ok(compare::compare_online(&online, comparisons, &CompareProgress::default()).await?)
}
