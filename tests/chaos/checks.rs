//! What must be true after a round, whatever happened in it. Nothing here asks the charm, and nothing shares code with
//! its own verification.

use super::ground::{Ground, SOON, Side};
use crate::scenarios::rig;
use anyhow::{Result, ensure};
use peers::writers::{KEYLESS, Record, both_open};
use serde::{Deserialize, Serialize};

/// What was found; all zero and empty is good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    pub acknowledged: u64,
    /// Tries that were refused: on the side that was closed, or on a server that was down.
    pub refused: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub different: u64,
    pub both_open: u64,
    pub left_behind: u64,
    /// Everything found, in words.
    pub words: Vec<String>,
}

impl Findings {
    /// True when nothing speaks against the round.
    pub fn good(&self) -> bool {
        self.words.is_empty()
    }

    /// The oracle's verdict on the side that writes now, and the proof that the sides took turns.
    pub fn writes(&mut self, ground: &Ground, record: &Record, on: Side, turns: &[Side]) -> Result<()> {
        let uris = [ground.stage.source_uri(), ground.stage.target_uri()];
        let verdict = record.oracle.check(&uris[on as usize])?;
        ensure!(verdict.acknowledged > 10, "only {} writes were acknowledged", verdict.acknowledged);
        self.acknowledged += verdict.acknowledged;
        self.refused += record.phases.iter().map(|phase| phase.refused).sum::<u64>();
        self.lost += verdict.lost;
        self.duplicated += verdict.duplicated;
        self.words.extend(verdict.examples);
        self.words.extend(record.unexpected.iter().cloned());
        let accepted = record.oracle.accepted(&[&uris[0], &uris[1]])?;
        let turns: Vec<usize> = turns.iter().map(|side| *side as usize).collect();
        let open = both_open(&accepted, &turns);
        self.both_open += open.len() as u64;
        self.words.extend(open.into_iter().take(10));
        Ok(())
    }

    /// Both sides have the same rows; changes may still be on their way. Writers must stand still.
    pub fn same_rows(&mut self, ground: &Ground) {
        let same = peers::wait_for("both sides to have the same rows", SOON, || match difference(ground) {
            Ok((0, _)) => Ok(()),
            Ok((_, found)) => Err(found),
            Err(error) => Err(format!("{error:#}")),
        });
        if let Err(error) = same {
            self.different += difference(ground).map_or(1, |(count, _)| count.max(1));
            self.words.push(format!("{error:#}"));
        }
    }

    /// Which sides take writes, and what is left of us.
    pub fn nothing_left(&mut self, ground: &Ground, target_takes_writes: bool) -> Result<()> {
        if !rig::writable(&ground.stage.source, &ground.database(Side::Source)) {
            self.words.push("the source takes no writes".to_owned());
        }
        if target_takes_writes && !rig::writable(&ground.stage.target, &ground.database(Side::Target)) {
            self.words.push("the target takes no writes".to_owned());
        }
        for side in [Side::Source, Side::Target] {
            let left = peers::left_behind(ground.cluster(side), &[&ground.stage.own_database()])?;
            self.left_behind += left.len() as u64;
            self.words.extend(left.into_iter().map(|what| format!("left on the {side:?}: {what}")));
        }
        Ok(())
    }

    /// After a rollback the target is empty, but for what its own migrations put there.
    pub fn target_is_empty(&mut self, ground: &Ground) -> Result<()> {
        let tables =
            "SELECT c.relname FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
                      AND c.relname NOT IN ('schema_migration', 'identity_credential_types', 'networks') ORDER BY 1";
        let tables = ground.ask(Side::Target, tables)?;
        let counts: Vec<String> =
            tables.lines().map(|table| format!("SELECT '{table}', count(*) FROM public.{table}")).collect();
        let full = format!("SELECT * FROM ({}) t WHERE count > 0", counts.join(" UNION ALL "));
        for rows in ground.ask(Side::Target, &full)?.lines().filter(|line| !line.is_empty()) {
            self.different += 1;
            self.words.push(format!("still on the target: {rows}"));
        }
        Ok(())
    }

    /// When the writers' rows are taken away, the source is as it was before the first round.
    pub fn source_as_before(&mut self, ground: &Ground) -> Result<()> {
        let now = ground.look()?;
        for line in now.lines().filter(|line| !ground.picture.lines().any(|other| other == *line)) {
            self.different += 1;
            self.words.push(format!("the source is not as before: {line}"));
        }
        Ok(())
    }
}

/// How many rows differ, and how. A table without a key is compared as what it is: a bag of rows.
fn difference(ground: &Ground) -> Result<(u64, String)> {
    let mut options = peers::compare::Options::kratos();
    let keyless = KEYLESS.trim_start_matches("public.");
    options.ignored.push(keyless.to_owned());
    let compared = peers::compare::databases(&ground.stage.source_uri(), &ground.stage.target_uri(), &options)?;
    let mut found = compared.report();
    let mut count = compared.different();
    if compared.rows() == 0 {
        count += 1;
        found.push_str("\nnothing was compared");
    }
    let bag = format!(
        "SELECT row, count(*) FROM (SELECT t::text AS row FROM {KEYLESS} t) r GROUP BY 1 ORDER BY row COLLATE \"C\""
    );
    let (source, target) = (ground.ask(Side::Source, &bag)?, ground.ask(Side::Target, &bag)?);
    if source != target {
        count += 1;
        found.push_str(&format!("\n{keyless}: {} kinds of rows, {}", source.lines().count(), target.lines().count()));
    }
    Ok((count, found))
}
