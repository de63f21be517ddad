//! A backup through the PostgreSQL charm: `create-backup` on the unit that may make one, asked for once and followed to
//! its end, then looked for in `list-backups`: only what is listed as finished counts.

use super::super::context::Context;
use super::action::{left_by, number, said};
use super::{Conductor, FINE, Stop, Through};
use crate::controller::settled::{Settled, resting};
use crate::controller::{Code, FullStatus, Reaction, Scalar, Task, TaskStatus, Time};
use crate::controller::{ModelLogin, Session};
use crate::migration::{Failure, Side, State};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

const CREATE: &str = "create-backup";
const LIST: &str = "list-backups";

/// The charm names a backup by its server's clock, which may be this many seconds behind the controller's.
const CLOCKS_DIFFER: i64 = 300;

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackUpKind {
    /// Everything.
    #[default]
    Full,
    /// What changed since the last full one.
    Differential,
    /// What changed since the last one of any kind.
    Incremental,
}

impl BackUpKind {
    /// As `create-backup` takes it.
    pub fn name(self) -> &'static str {
        match self {
            BackUpKind::Full => "full",
            BackUpKind::Differential => "differential",
            BackUpKind::Incremental => "incremental",
        }
    }
}

/// A backup, as the journal keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackUp {
    /// The unit that makes it; empty where a person did.
    pub unit: String,
    /// What it holds.
    pub kind: BackUpKind,
    /// Position of the newest request when it was asked for.
    pub request: i64,
    /// When it was asked for, on the controller's clock.
    pub asked: Time,
    /// The same on the journal's clock, in milliseconds since 1970.
    pub begun: i64,
    /// The task that makes it, `action-<number>`.
    pub task: Option<String>,
    /// When it was looked for in the list, on the controller's clock.
    pub listed: Option<Time>,
    /// The task that lists it.
    pub list: Option<String>,
    /// How it ended.
    pub ended: Option<Ended>,
}

/// How a backup ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Why there is none.
    pub failure: Option<String>,
    /// Its id; `None` where a person says that there is one.
    pub backup: Option<String>,
}

impl BackUp {
    /// The journal's newest backup of one side.
    pub fn known(state: &State, side: Side) -> Option<Self> {
        let errand = state.errands.get(name(side))?;
        let known: Self = serde_json::from_value(errand.value.clone()).ok()?;
        // Asked for just now; and a person's word counts from when it was given.
        Some(if known.begun == 0 { Self { begun: errand.at, ..known } } else { known })
    }

    /// True once it ended well.
    pub fn stands(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| ended.failure.is_none())
    }

    /// What is known of it, in a few words.
    pub fn describe(&self) -> String {
        let kind = self.kind.name();
        match &self.ended {
            None => format!("{} makes a {kind} one", self.unit),
            Some(Ended { failure: Some(why), .. }) => why.clone(),
            Some(Ended { backup: Some(id), .. }) => format!("{id}, {kind}, made by {}", self.unit),
            Some(_) => "made by other means, as the operator says".to_owned(),
        }
    }

    /// True while it is asked for and not over.
    pub fn is_under_way(&self) -> bool {
        self.ended.is_none()
    }
}

/// What the journal calls the backup of one side.
pub fn name(side: Side) -> &'static str {
    match side {
        Side::Source => "back-up/source",
        Side::Target => "back-up/target",
    }
}

/// Follows the backup that is under way; with `begin`, asks for one where none is.
pub(super) async fn back_up(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    (side, kind, begin): (Side, BackUpKind, bool),
) -> Result<Through, Stop> {
    // The action and the worker may both look.
    if !context.store.try_turn().await.map_err(Failure::from)? {
        return Ok(Through::AtWork("somebody else looks after the backup just now".to_owned()));
    }
    let answer = go_on(context, conductor, login, (side, kind, begin)).await;
    context.store.end_turn().await.map_err(Failure::from)?;
    answer
}

async fn go_on(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    (side, kind, begin): (Side, BackUpKind, bool),
) -> Result<Through, Stop> {
    context.store.refresh(context.state).await.map_err(Failure::from)?;
    match BackUp::known(context.state, side).filter(BackUp::is_under_way) {
        Some(known) if known.task.is_some() => follow(context, conductor, login, side, known).await,
        Some(known) => {
            let application = context.postgresql(side).to_owned();
            match left_by(conductor.session(login).await?, &application, CREATE, known.asked).await? {
                Some((task, unit)) => {
                    let found = BackUp { unit, task: Some(task), ..known };
                    keep(context, side, &found).await?;
                    Ok(at_work(&found))
                }
                None => send(context, conductor, login, side, known).await,
            }
        }
        None if begin => ask(context, conductor, login, side, kind).await,
        None => Ok(Through::Done),
    }
}

async fn keep(context: &mut Context<'_>, side: Side, back_up: &BackUp) -> Result<i64, Failure> {
    context.errand(name(side), json!(back_up)).await
}

async fn ask(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    side: Side,
    kind: BackUpKind,
) -> Result<Through, Stop> {
    let status = conductor.status_now(login).await?;
    let application = context.postgresql(side).to_owned();
    match resting(&status, &application, &FINE) {
        Settled::Yes => {}
        Settled::NotYet(why) => return Ok(Through::AtWork(format!("before {CREATE}: {why}"))),
        Settled::Stuck(why) => return Ok(conductor.cannot(why)),
    }
    let unit = match unit(&status, &application) {
        Ok(unit) => unit,
        Err(why) => return Ok(conductor.cannot(why)),
    };
    let (request, asked) = (context.state.request_seq, status.controller_timestamp);
    let mut wanted = BackUp { unit, kind, request, asked, ..BackUp::default() };
    wanted.begun = keep(context, side, &wanted).await?;
    send(context, conductor, login, side, wanted).await
}

async fn send(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    side: Side,
    wanted: BackUp,
) -> Result<Through, Stop> {
    let parameters = BTreeMap::from([("type".to_owned(), Scalar::Text(wanted.kind.name().to_owned()))]);
    let enqueued = match conductor.session(login).await?.enqueue(&wanted.unit, CREATE, &parameters).await {
        Ok(enqueued) => enqueued,
        Err(error) if error.reaction() == Reaction::Stop => {
            return end(context, side, wanted, Ended { failure: Some(error.to_string()), backup: None }).await;
        }
        Err(error) => return Err(error.into()),
    };
    let sent = BackUp { task: Some(enqueued.task), ..wanted };
    keep(context, side, &sent).await?;
    Ok(at_work(&sent))
}

fn at_work(back_up: &BackUp) -> Through {
    let task = back_up.task.as_deref().map(number).unwrap_or_default();
    Through::AtWork(format!("{CREATE} of {} was asked for (task {task})", back_up.unit))
}

async fn follow(
    context: &mut Context<'_>,
    conductor: &mut Conductor,
    login: &ModelLogin,
    side: Side,
    known: BackUp,
) -> Result<Through, Stop> {
    let tag = known.task.clone().unwrap_or_default();
    let (unit, shown) = (&known.unit, number(&tag));
    // It is listed only once it has ended well.
    if known.listed.is_none() {
        let task = match conductor.session(login).await?.task(&tag).await {
            Ok(task) => task,
            // The controller forgets old tasks.
            Err(error) if error.code() == Some(Code::NotFound) => {
                return end(context, side, known, Ended { failure: Some(error.to_string()), backup: None }).await;
            }
            Err(error) => return Err(error.into()),
        };
        if !task.status.is_final() {
            let last = task.log.last().map(|line| format!(": {}", line.message)).unwrap_or_default();
            let does = if task.status == TaskStatus::Pending { "waits for its turn on" } else { "runs on" };
            return Ok(Through::AtWork(format!("{CREATE} {does} {unit} (task {shown}){last}")));
        }
        if !task.succeeded() {
            let failure = format!("{CREATE} of {unit} failed (task {shown}): {}", said(&task));
            return end(context, side, known, Ended { failure: Some(failure), backup: None }).await;
        }
    }
    let Some(list) = list(context, conductor.session(login).await?, side, &known).await? else {
        return Ok(Through::AtWork(format!("{CREATE} of {unit} has ended (task {shown}); looking for it in {LIST}")));
    };
    let table = list.result("backups").unwrap_or_default();
    let mut finished = listed(&table).into_iter().filter(|listed| listed.is_finished_backup());
    let since = |id: &str| id.parse().map(|at| Time(Some(at))).ok().and_then(|at| at.seconds_since(known.asked));
    let newest = finished.rfind(|listed| since(&listed.id).is_some_and(|seconds| seconds >= -CLOCKS_DIFFER));
    let ended = match newest {
        Some(found) => Ended { failure: None, backup: Some(found.id) },
        None => {
            let says = if list.succeeded() { "shows no finished one since".to_owned() } else { said(&list) };
            let failure = format!("{CREATE} of {unit} ended well (task {shown}), and {LIST} does not show it: {says}");
            Ended { failure: Some(failure), backup: None }
        }
    };
    end(context, side, known, ended).await
}

async fn end(context: &mut Context<'_>, side: Side, known: BackUp, ended: Ended) -> Result<Through, Stop> {
    keep(context, side, &BackUp { ended: Some(ended), ..known }).await?;
    Ok(Through::Done)
}

/// The list, once its task has ended. It changes nothing, but asking for it is a change of the model like any other.
async fn list(context: &mut Context<'_>, session: &Session, side: Side, known: &BackUp) -> Result<Option<Task>, Stop> {
    let Some(list) = &known.list else {
        let at = session.full_status().await?.controller_timestamp;
        let asked = BackUp { listed: Some(known.listed.unwrap_or(at)), ..known.clone() };
        let left = match known.listed {
            Some(since) => left_by(session, context.postgresql(side), LIST, since).await?,
            None => {
                keep(context, side, &asked).await?;
                None
            }
        };
        let task = match left {
            Some((task, _)) => task,
            None => session.enqueue(&known.unit, LIST, &BTreeMap::new()).await?.task,
        };
        keep(context, side, &BackUp { list: Some(task), ..asked }).await?;
        return Ok(None);
    };
    match session.task(list).await {
        Ok(task) => Ok(Some(task).filter(|task| task.status.is_final())),
        // The controller forgets old tasks: it is listed once more.
        Err(error) if error.code() == Some(Code::NotFound) => {
            let at = session.full_status().await?.controller_timestamp;
            keep(context, side, &BackUp { list: None, listed: Some(at), ..known.clone() }).await?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The unit that may make a backup: one that is not the primary where the charm demands that (16 always, 14 with TLS),
/// else the primary. A single unit makes it itself. (canonical/postgresql-k8s-operator:src/backups.py@main,@16/edge)
fn unit(status: &FullStatus, application: &str) -> Result<String, String> {
    let found = status.applications.get(application).ok_or_else(|| format!("{application} is not in this model"))?;
    let mut units = found.units.iter().filter(|(_, unit)| unit.workload_status.status == "active");
    if found.units.len() == 1 {
        return units
            .next()
            .map(|(name, _)| name.clone())
            .ok_or_else(|| format!("the unit of {application} is not active"));
    }
    let major = found.workload_version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    let has_tls = status.relations.iter().flat_map(|relation| &relation.endpoints).any(|end| {
        end.application == application && ["certificates", "client-certificates"].contains(&end.name.as_str())
    });
    let replica = has_tls || major.is_none_or(|major| major >= 16);
    let is_primary = |info: &str| info.starts_with("Primary");
    units.find(|(_, unit)| is_primary(&unit.workload_status.info) != replica).map(|(name, _)| name.clone()).ok_or_else(
        || {
            let wanted = if replica { "a unit that is not the primary" } else { "the primary" };
            format!("{application} shows no active unit that may make a backup, {wanted}")
        },
    )
}

/// A line of `list-backups`.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    id: String,
    action: String,
    status: String,
}

impl Listed {
    /// The list has restores and failures too.
    fn is_finished_backup(&self) -> bool {
        !self.action.contains("restore") && self.status == "finished"
    }
}

/// Reads the table of `list-backups` by its header: older charms have fewer columns.
fn listed(table: &str) -> Vec<Listed> {
    let cells = |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().to_owned()).collect() };
    let mut lines = table.lines().skip_while(|line| !line.trim_start().starts_with("backup-id"));
    let header = cells(lines.next().unwrap_or_default());
    let column = |name: &str| header.iter().position(|cell| cell.starts_with(name));
    let (Some(id), Some(action), Some(status)) = (
        column("backup-id"),
        column("action").or_else(|| column("backup-type")),
        column("status").or_else(|| column("backup-status")),
    ) else {
        return Vec::new();
    };
    let rows = lines.map(cells).filter(|row| row.len() == header.len());
    rows.map(|row| Listed { id: row[id].clone(), action: row[action].clone(), status: row[status].clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{ApplicationStatus, RelationEndpointStatus, RelationStatus, UnitStatus};

    #[test]
    fn the_table_is_read_by_its_header() {
        let table = "Storage bucket name: bucket\nBackups base path: /place/backup/\n\n\
            backup-id            | action       | status   | LSN start/stop          | backup-path\n\
            -----------------------------------------------------------------------------------\n\
            2026-11-01T10:00:00Z | full backup  | finished | 0/8000028 / 0/8011558   | /a\n\
            2026-11-01T11:00:00Z | restore      | finished | None                    | None\n\
            2026-11-01T12:00:00Z | full backup  | failed: no space | None            | /b\n";
        let found = listed(table);
        assert_eq!(found.len(), 3, "{found:?}");
        let finished: Vec<&str> = found.iter().filter(|l| l.is_finished_backup()).map(|l| l.id.as_str()).collect();
        assert_eq!(finished, ["2026-11-01T10:00:00Z"]);
        assert_eq!(listed("No backups found"), []);
    }

    fn cluster(version: &str, units: &[(&str, &str)], tls: bool) -> FullStatus {
        let unit = |info: &str| {
            let mut unit = UnitStatus::default();
            unit.workload_status.status = "active".into();
            unit.workload_status.info = info.into();
            unit
        };
        let units = units.iter().map(|(name, info)| ((*name).to_owned(), unit(info))).collect();
        let application = ApplicationStatus { workload_version: version.into(), units, ..Default::default() };
        let end = |application: &str, name: &str| RelationEndpointStatus {
            application: application.into(),
            name: name.into(),
            ..Default::default()
        };
        let endpoints = vec![end("db", "certificates"), end("ca", "certificates")];
        FullStatus {
            applications: BTreeMap::from([("db".to_owned(), application)]),
            relations: tls.then(|| RelationStatus { endpoints, ..Default::default() }).into_iter().collect(),
            ..Default::default()
        }
    }

    #[test]
    fn the_unit_that_the_charm_lets_make_a_backup() {
        let three = [("db/0", ""), ("db/1", "Primary"), ("db/2", "")];
        for (version, units, tls, makes) in [
            ("14.12", &three[..], false, Ok("db/1")),
            ("14.12", &three[..], true, Ok("db/0")),
            ("16.9", &three[..], false, Ok("db/0")),
            ("16.9", &three[1..2], false, Ok("db/1")),
            ("16.9", &[("db/0", "Primary"), ("db/1", "Primary (degraded)")][..], false, Err(())),
        ] {
            let found = unit(&cluster(version, units, tls), "db");
            assert_eq!(found.as_deref().map_err(|_| ()), makes, "{version} {tls}: {found:?}");
        }
    }
}
