//! The summary of every pair, and its table in `docs/ory-matrix.md`.

use super::line::{Line, Outcome, folder};
use coordinator::apps::{App, claimed};
use std::path::PathBuf;

/// What stands around the table in the document.
const BEGIN: &str = "<!-- results: WRITE_DOCS=1 make ory-matrix -->\n";
const END: &str = "<!-- end of results -->\n";

fn document() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/ory-matrix.md")
}

/// Writes the summary, and the document's table when `WRITE_DOCS` is set; answers the lines, in the order of the table
/// of pairs.
pub fn write() -> anyhow::Result<Vec<Line>> {
    let lines = claimed().iter().map(Line::kept).collect::<anyhow::Result<Vec<_>>>()?;
    std::fs::create_dir_all(folder())?;
    std::fs::write(folder().join("summary.json"), serde_json::to_vec_pretty(&lines)?)?;
    if std::env::var_os("WRITE_DOCS").is_some() {
        let text = std::fs::read_to_string(document())?;
        std::fs::write(document(), filled(&text, &rendered(&lines))?)?;
    }
    Ok(lines)
}

/// The document with another table in it.
fn filled(document: &str, table: &str) -> anyhow::Result<String> {
    let cut =
        |mark: &str| document.split_once(mark).ok_or_else(|| anyhow::anyhow!("docs/ory-matrix.md has no line {mark}"));
    let ((before, _), (_, after)) = (cut(BEGIN)?, cut(END)?);
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// A row for each pair.
fn rendered(lines: &[Line]) -> String {
    let mut table = "| From | To | Result | Outage, documented | Outage, migrate-first | Back, documented | Back, \
                     migrate-first | Rows compared | Played in |\n|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for line in lines {
        let title = App::named(&line.app).map_or(line.app.as_str(), |app| app.title);
        let of = |order: &str, figure: fn(&super::Played) -> u64| {
            line.orders.get(order).map_or_else(String::new, |played| format!("{} ms", figure(played)))
        };
        let result = match line.outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Failed => "**failed**".to_owned(),
            Outcome::NotRun if line.missing.is_empty() => "not run".to_owned(),
            Outcome::NotRun => format!("not run, for want of {}", line.missing.join(" and ")),
        };
        let outages = [
            of("documented", |played| played.outage_ms),
            of("migrate-first", |played| played.outage_ms),
            of("documented", |played| played.back_outage_ms),
            of("migrate-first", |played| played.back_outage_ms),
        ];
        let (rows, seconds) = match line.outcome {
            Outcome::NotRun => (String::new(), String::new()),
            _ => (line.rows_compared.to_string(), format!("{} s", line.seconds)),
        };
        table.push_str(&format!(
            "| {title} {} | {} | {result} | {} | {rows} | {seconds} |\n",
            line.from,
            line.to,
            outages.join(" | ")
        ));
    }
    table
}

#[test]
fn the_document_has_a_row_for_every_pair_and_no_other() {
    let text = std::fs::read_to_string(document()).unwrap();
    // Filled anew it would keep its form: the marks are there.
    let unplayed: Vec<Line> = claimed().iter().map(Line::of).collect();
    let again = filled(&text, &rendered(&unplayed)).unwrap();
    let begins = |text: &str| -> Vec<String> {
        let (_, rest) = text.split_once(BEGIN).unwrap();
        let (table, _) = rest.split_once(END).unwrap();
        table.lines().map(|row| row.split('|').take(3).collect::<Vec<_>>().join("|")).collect()
    };
    assert_eq!(begins(&text), begins(&again), "WRITE_DOCS=1 make ory-matrix writes the table anew");
    assert!(!text.contains("**failed**"), "a pair that fails is mended or taken out of the table of pairs");
}
