//! What the story came to, and that it is as it must be.

use anyhow::{Result, ensure};
use emulator::ActionResult;
use serde_json::{Map, Value, json};

use super::{Demo, ENOUGH_WRITES, heading};

impl Demo {
    /// Prints the summary and keeps it; answers for how many milliseconds nobody could write.
    pub fn summary(
        &self,
        flipped: &ActionResult,
        verified: &ActionResult,
        record: &peers::writers::Record,
        compared: &peers::compare::Comparison,
    ) -> Result<i64> {
        let oracle = record.oracle.check(&self.stage.target_uri())?;
        let left = self.left_behind()?;
        let number = |result: &ActionResult, key: &str| result.result(key).parse::<i64>().unwrap_or(-1);
        let mut summary = Map::new();
        let mut put = |key: &str, value: Value| summary.insert(key.to_owned(), value);
        put("order", json!(if self.documented { "documented" } else { "migrate-first" }));
        put("kratos-source", json!("1.0.0"));
        put("kratos-target", json!(self.stage.kratos_new.client().version()?));
        put("postgresql-source", json!(self.stage.source.psql("postgres", "SHOW server_version")?));
        put("postgresql-target", json!(self.stage.target.psql("postgres", "SHOW server_version")?));
        put("bytes-copied", json!(number(flipped, "bytes-copied")));
        put("rows-copied", json!(number(flipped, "rows-copied")));
        put("drain-ms", json!(number(flipped, "drain-ms")));
        put("outage-ms", json!(number(flipped, "outage-ms")));
        put("rows-verified", json!(number(verified, "rows-verified")));
        put("rows-different", json!(number(verified, "rows-different")));
        put("rows-compared-apart", json!(compared.rows()));
        put("rows-different-apart", json!(compared.different()));
        put("writes-acknowledged", json!(oracle.acknowledged));
        put("writes-lost", json!(oracle.lost));
        put("writes-duplicated", json!(oracle.duplicated));
        put("writes-unknown-settled", json!(record.unknown_settled));
        put("left-behind", json!(left.len()));
        put("seconds", json!(self.began.elapsed().as_secs()));
        let phases: Vec<Value> = record
            .phases
            .iter()
            .map(|phase| {
                json!({"phase": phase.name, "seconds": phase.seconds, "acknowledged": phase.acknowledged,
                       "per-second": phase.rate(), "refused": phase.refused,
                       "longest-pause-ms": phase.longest_pause_ms})
            })
            .collect();
        put("writers", json!(phases));
        let summary = Value::Object(summary);
        heading("Summary");
        println!("{}", serde_json::to_string_pretty(&summary)?);
        std::fs::write(self.folder.join("summary.json"), serde_json::to_string_pretty(&summary)?)?;
        ensure!(compared.different() == 0, "the databases differ:\n{}", compared.report());
        ensure!(oracle.lost == 0 && oracle.duplicated == 0, "writes were lost or doubled: {:?}", oracle.examples);
        ensure!(left.is_empty(), "left behind: {left:?}");
        ensure!(number(verified, "rows-different") == 0, "the coordinator found differences");
        ensure!(number(verified, "rows-verified") > 0, "nothing was verified");
        ensure!(oracle.acknowledged >= ENOUGH_WRITES, "only {} writes", oracle.acknowledged);
        ensure!(number(flipped, "outage-ms") > 0, "no outage was measured");
        ensure!(record.unexpected.is_empty(), "writers saw errors that no client should: {:?}", record.unexpected);
        println!("\nNothing lost, nothing doubled, nothing different, nothing left behind.");
        Ok(number(flipped, "outage-ms"))
    }

    /// Everything of ours on either cluster. The journal is the coordinator's own database and goes with it.
    fn left_behind(&self) -> Result<Vec<String>> {
        let own = ["iam_coordinator"];
        let mut left = peers::left_behind(&self.stage.source, &own)?;
        left.extend(peers::left_behind(&self.stage.target, &own)?);
        Ok(left)
    }
}
