//! What every scenario needs: a stage with the coordinator on it, and a picture of everything that must not change.
//! The check that closes each of them is in `closing`.

pub use super::closing::{End, close, close_but_one_hook, no_hook_failed};

use super::closing::Played;
use super::story::charm;
use emulator::stage::{Models, Stage, StageOptions};
use emulator::{ActionResult, Model};
use peers::cluster::Cluster;
use std::time::Duration;

/// How long anything that goes on by itself may take here.
pub const SOON: Duration = Duration::from_secs(60);

/// A stage on 14 and 16 with 300 identities; the coordinator is not there yet.
pub fn empty_stage(name: &str) -> Played {
    stage_between(name, 14, 16)
}

/// The same between other versions.
pub fn stage_between(name: &str, from: u32, to: u32) -> Played {
    stage_across(name, Models::ONE, from, to)
}

/// The same with its applications in several models.
pub fn stage_across(name: &str, models: Models, from: u32, to: u32) -> Played {
    Played::new(Stage::across(models, StageOptions { from, to, ..options(name) }).unwrap())
}

/// What a scenario's stage is by itself.
pub fn options(name: &str) -> StageOptions {
    StageOptions {
        from: 14,
        to: 16,
        identities: 300,
        charm: charm(name),
        update_status_interval: Duration::from_secs(2),
        encoding: None,
        juju: None,
    }
}

/// A stage with the coordinator deployed and ready.
pub fn stage(name: &str, units: u32) -> Played {
    let stage = empty_stage(name);
    deploy(&stage, units);
    stage
}

pub fn deploy(stage: &Stage, units: u32) {
    stage.deploy_coordinator(units).unwrap_or_else(|error| panic!("{error:#}\n{}", stage.model.log_tail(60)));
}

/// An action that must be refused with a sentence and with this command to run instead.
pub fn refused(model: &Model, action: &str, parameters: &[(&str, &str)], instead: &str) -> ActionResult {
    let result = super::story::run(model, action, parameters);
    assert_eq!(result.result("outcome"), "refused", "{action}: {result:?}");
    assert_eq!(result.status, "failed", "{action}: {result:?}");
    assert_eq!(result.message, result.result("message"), "{action}");
    assert!(result.message.starts_with("cannot ") && result.message.contains("; "), "{action}: {}", result.message);
    let instead = match instead {
        whole if whole.is_empty() || whole.starts_with("juju ") => whole.to_owned(),
        action => format!("juju run coordinator/leader {action}"),
    };
    assert_eq!(result.result("next"), instead, "{action}: {}", result.message);
    result
}

/// Has the target refreshed.
pub fn refresh(stage: &Stage) {
    super::story::expect(&stage.model, "refresh", &[("channel", "0.4/stable")], "waiting");
    stage.target_place.model.refresh(stage.target_place.kratos, None, Some("0.4/stable"), None).unwrap();
    super::story::expect(&stage.model, "refresh", &[], "done");
}

/// Has the target follow.
pub fn follow(stage: &Stage) {
    super::story::expect(&stage.model, "replicate", &[("wait", "120")], "done");
}

/// Has the target's schema migrated by the operator, and watched by us.
pub fn migrate(stage: &Stage) {
    super::story::expect(&stage.model, "run-migration", &[], "waiting");
    migrate_on(stage);
}

/// Waits until the consumer has this Kratos' address.
pub fn consumer_uses(stage: &Stage, kratos: &emulator::neighbours::KratosView) {
    let url = kratos.ports().admin_url();
    stage
        .model
        .wait_until("the consumer's address", SOON, |_| {
            stage.consumer.current().is_some_and(|seen| seen.admin_endpoint == url)
        })
        .unwrap();
}

/// Waits for a status that contains this text; returns status word and message.
pub fn status_says(model: &Model, unit: &str, text: &str) -> (String, String) {
    let mut last = Default::default();
    let waited = model.wait_until(&format!("{unit} says {text:?}"), SOON, |model| {
        last = model.status(unit).unwrap_or_default();
        last.1.contains(text)
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\nlast: {last:?}"));
    eprintln!("{unit}: {} — {}", last.0, last.1);
    last
}

/// Everything in one database that a repeated or refused action must leave alone: rows, tables, triggers,
/// functions, publications, subscriptions and slots.
const PICTURE: &str = "
SELECT 'rows', n.nspname || '.' || c.relname,
       query_to_xml(format('SELECT count(*), md5(string_agg(md5(t::text), '''' ORDER BY md5(t::text))) AS sum FROM %I.%I t',
                           n.nspname, c.relname), true, true, '')::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_|^information_schema$' AND c.relpersistence = 'p'
  AND n.nspname || '.' || c.relname <> 'identity_migration.marker'
UNION ALL
SELECT 'sequence', schemaname || '.' || sequencename, last_value::text FROM pg_sequences
UNION ALL
SELECT 'index', indexrelid::regclass::text, indisvalid::text FROM pg_index WHERE indexrelid >= 16384
UNION ALL
SELECT 'trigger', tgrelid::regclass || ' ' || tgname, tgenabled::text || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT 'event trigger', evtname::text, evtenabled::text FROM pg_event_trigger
UNION ALL
SELECT 'constraint', conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid >= 16384
UNION ALL
SELECT 'function', oid::regprocedure::text, md5(prosrc) FROM pg_proc WHERE oid >= 16384
UNION ALL
SELECT 'publication', pubname::text, (SELECT string_agg(prrelid::regclass::text, ',' ORDER BY 1) FROM pg_publication_rel r WHERE prpubid = p.oid) FROM pg_publication p
UNION ALL
SELECT 'subscription', subname::text, subenabled::text FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT 'slot', slot_name::text, coalesce(database, '') FROM pg_replication_slots WHERE NOT temporary
ORDER BY 1, 2, 3";

/// A picture of both identity databases, of the journal's length and of what consumers were told.
pub fn picture(stage: &Stage) -> String {
    [
        stage.source.psql(&stage.source_place.database(), PICTURE).unwrap(),
        stage.target.psql(&stage.target_place.database(), PICTURE).unwrap(),
        format!("journal {:?}", journal(stage)),
        format!("told {:?}", stage.model.databag("kratos-info", "coordinator")),
    ]
    .join("\n--\n")
}

/// The journal's length.
pub fn journal(stage: &Stage) -> String {
    stage
        .target
        .psql(&stage.own_database(), "SELECT count(*) FROM identity_migration_journal.entry")
        .unwrap_or_default()
}

/// The same without the journal, for actions that may note that they were asked.
pub fn databases(stage: &Stage) -> String {
    without_journal(&picture(stage))
}

pub fn without_journal(picture: &str) -> String {
    picture.lines().filter(|line| !line.starts_with("journal ")).collect::<Vec<_>>().join("\n")
}

/// Shows which lines differ instead of two long texts.
pub fn assert_same(what: &str, before: &str, after: &str) {
    let gone: Vec<&str> = before.lines().filter(|line| !after.lines().any(|other| other == *line)).collect();
    let new: Vec<&str> = after.lines().filter(|line| !before.lines().any(|other| other == *line)).collect();
    assert!(gone.is_empty() && new.is_empty(), "{what} changed something:\ngone: {gone:#?}\nnew: {new:#?}");
}

/// Whether an application may write: a statement is refused by the fence even when it touches no row.
pub fn writable(cluster: &Cluster, database: &str) -> bool {
    match cluster.psql(database, "UPDATE public.identities SET nid = nid WHERE false") {
        Ok(_) => true,
        Err(error) if format!("{error:#}").contains("to another server") => false,
        Err(error) => panic!("{error:#}"),
    }
}

/// The rest of [`migrate`], when `run-migration` waits already.
pub fn migrate_on(stage: &Stage) {
    let place = &stage.target_place;
    place.model.run(&format!("{}/leader", place.kratos), "run-migration", &[("timeout", "120")]).unwrap();
    super::story::expect(&stage.model, "run-migration", &[], "done");
}
