//! status, show-unit and debug-log.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Call, yaml};

impl Call<'_> {
    pub(super) fn status(&mut self) -> Result<i32> {
        let text = match self.arguments.value("format") {
            Some("json") => format!("{}\n", self.model.status_json()),
            Some("yaml") => match self.model.status_json() {
                Value::Object(map) => yaml::print(&map),
                other => format!("{other}\n"),
            },
            _ => self.model.status_table(),
        };
        self.out(&text)?;
        Ok(0)
    }

    /// Databags as the unit's agent sees them; secrets' contents never.
    pub(super) fn show_unit(&mut self) -> Result<i32> {
        let unit = self.argument(0, "unit")?;
        let shown = json!({ &unit: self.model.unit_json(&unit)? });
        match (self.arguments.value("format"), shown) {
            (Some("json"), shown) => self.out(&format!("{shown}\n"))?,
            (_, Value::Object(map)) => self.out(&yaml::print(&map))?,
            _ => unreachable!("made as a map"),
        }
        Ok(0)
    }

    /// The last lines, then what comes, until the reader goes away;
    /// `--no-tail` stops at the end of what is there.
    pub(super) fn debug_log(&mut self) -> Result<i32> {
        let unit = self.arguments.value("include").map(|unit| unit.trim_start_matches("unit-").replace('-', "/"));
        let wanted = |line: &String| match &unit {
            Some(unit) => line.starts_with(&format!("unit-{}:", unit.replace('/', "-"))),
            None => true,
        };
        let all = self.model.log_since(0);
        let lines: usize = self.arguments.number("lines")?.unwrap_or(10);
        let chosen: Vec<&String> = all.iter().filter(|line| wanted(line)).collect();
        let skip = if self.arguments.is_set("replay") { 0 } else { chosen.len().saturating_sub(lines) };
        for line in chosen.into_iter().skip(skip) {
            self.printer.out(line)?;
        }
        let mut place = all.len();
        while !self.arguments.is_set("no-tail") {
            let new = self.model.log_since(place);
            place += new.len();
            for line in new.iter().filter(|line| wanted(line)) {
                self.printer.out(line)?;
            }
            self.model.wait_change(Duration::from_millis(500));
            // Nothing printed: does anybody still listen?
            self.printer.out("")?;
        }
        Ok(0)
    }
}
