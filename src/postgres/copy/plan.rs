//! Which parts of which tables are copied, in which form, in which order.

use crate::postgres::error::{Error, Result};
use crate::postgres::inspect::{Column, Table};
use crate::postgres::names::{TableName, ident};
use serde::{Deserialize, Serialize};

/// Heap and TOAST bytes that one part should hold.
const PART_BYTES: u64 = 64 << 20;

/// The wire form of COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyFormat {
    /// Binary: faster, for types that mean the same on both servers.
    Binary,
    /// Text, for the rest.
    Text,
}

/// A page range of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPart {
    /// The table.
    pub table: TableName,
    /// Columns to copy; generated ones are left to the target.
    pub columns: Vec<String>,
    /// Wire form.
    pub format: CopyFormat,
    /// First page; `None` means from the beginning.
    pub from_page: Option<u64>,
    /// First page that is not in it; `None` means to the end, whatever the end is in the snapshot.
    pub to_page: Option<u64>,
    /// A condition that the source's rows must meet beside that, as SQL.
    pub condition: Option<String>,
    /// Planned bytes of heap and TOAST.
    pub bytes: u64,
}

impl std::fmt::Display for CopyPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "table {}", self.table)?;
        match (self.from_page, self.to_page) {
            (None, None) => Ok(()),
            (from, Some(to)) => write!(f, " (pages {} to {to})", from.unwrap_or(0)),
            (Some(from), None) => write!(f, " (pages from {from})"),
        }
    }
}

impl CopyPart {
    /// The COPY statement for the source.
    pub(super) fn copy_out(&self) -> String {
        let from = self.from_page.map(|page| format!("ctid >= '({page},0)'::tid"));
        let to = self.to_page.map(|page| format!("ctid < '({page},0)'::tid"));
        let range: Vec<String> = from.into_iter().chain(to).chain(self.condition.clone()).collect();
        let filter = if range.is_empty() { String::new() } else { format!(" WHERE {}", range.join(" AND ")) };
        format!("COPY (SELECT {} FROM ONLY {}{filter}) TO STDOUT{}", self.list(), self.table.sql(), self.options())
    }

    /// The COPY statement for the target.
    pub(super) fn copy_in(&self) -> String {
        format!("COPY {} ({}) FROM STDIN{}", self.table.sql(), self.list(), self.options())
    }

    fn list(&self) -> String {
        self.columns.iter().map(|name| ident(name)).collect::<Vec<_>>().join(", ")
    }

    fn options(&self) -> &'static str {
        match self.format {
            CopyFormat::Binary => " (FORMAT binary)",
            CopyFormat::Text => "",
        }
    }
}

/// Plans the copy of every table in `source`, biggest parts first. Tables are split by page ranges:
/// that works whatever the key is (random ones too), and since 14 the server reads only the pages asked for.
/// Give it only tables that are [`Table::is_replicable`].
///
/// # Errors
/// [`Error::Found`] when the target has no such table or column to take the rows.
pub fn plan_copy(source: &[Table], target: &[Table], jobs: usize) -> Result<Vec<CopyPart>> {
    let mut parts = Vec::new();
    for table in source {
        let twin = target
            .iter()
            .find(|candidate| candidate.name == table.name)
            .ok_or_else(|| unfit(table, "the target has no such table".to_owned()))?;
        let columns = copied_columns(table, twin)?;
        let portable = columns
            .iter()
            .all(|(ours, theirs)| ours.portable_binary && theirs.portable_binary && ours.type_name == theirs.type_name);
        let format = if portable { CopyFormat::Binary } else { CopyFormat::Text };
        let names: Vec<String> = columns.iter().map(|(ours, _)| ours.name.clone()).collect();
        parts.extend(split(table, jobs).into_iter().map(|(from_page, to_page, bytes)| CopyPart {
            table: table.name.clone(),
            columns: names.clone(),
            format,
            from_page,
            to_page,
            condition: None,
            bytes,
        }));
    }
    parts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.table.cmp(&b.table)).then(a.from_page.cmp(&b.from_page)));
    Ok(parts)
}

fn copied_columns<'table>(
    source: &'table Table,
    target: &'table Table,
) -> Result<Vec<(&'table Column, &'table Column)>> {
    let mut columns = Vec::new();
    for ours in &source.columns {
        match target.columns.iter().find(|theirs| theirs.name == ours.name) {
            Some(theirs) if theirs.generated => {}
            Some(theirs) => columns.push((ours, theirs)),
            None => return Err(unfit(source, format!("the target's table has no column {}", ours.name))),
        }
    }
    if columns.is_empty() {
        return Err(unfit(source, "it has no column to copy".to_owned()));
    }
    Ok(columns)
}

fn unfit(table: &Table, found: String) -> Error {
    Error::found(
        format!("plan the copy of table {}", table.name),
        found,
        "bring both sides to the same release of the application",
    )
}

/// Page ranges with their planned bytes. The last one is open at its end: pages may have been added
/// between the reading of the size and the snapshot.
fn split(table: &Table, jobs: usize) -> Vec<(Option<u64>, Option<u64>, u64)> {
    let cap = u64::try_from(jobs.max(1).saturating_mul(4)).unwrap_or(u64::MAX);
    let count = table.total_bytes.div_ceil(PART_BYTES).min(table.heap_pages).min(cap).max(1);
    let bound = |part: u64| table.heap_pages * part / count;
    (0..count)
        .map(|part| {
            let from = (part > 0).then(|| bound(part));
            let to = (part + 1 < count).then(|| bound(part + 1));
            (from, to, table.total_bytes / count)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::inspect::{Persistence, ReplicaIdentity, ReplicaIdentitySetting, TableKind};

    fn column(name: &str, type_name: &str, portable_binary: bool) -> Column {
        Column {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            not_null: false,
            default: None,
            generated: false,
            identity: false,
            collation: None,
            portable_binary,
        }
    }

    fn table(name: &str, heap_pages: u64, total_bytes: u64) -> Table {
        Table {
            name: TableName::new("public", name),
            kind: TableKind::Ordinary,
            persistence: Persistence::Permanent,
            columns: vec![column("id", "uuid", true)],
            primary_key: vec!["id".to_owned()],
            replica_identity: ReplicaIdentity { setting: ReplicaIdentitySetting::Default, usable: true },
            heap_pages,
            total_bytes,
            estimated_rows: None,
            owner: "owner".to_owned(),
        }
    }

    #[test]
    fn parts_cover_every_page_once_and_the_ends_are_open() {
        for (pages, bytes, jobs, expected) in [
            (0, 0, 2, 1),
            (10, 80 << 10, 2, 1),
            (3, 10 << 30, 2, 3),
            (1 << 20, 8 << 30, 2, 8),
            (40_000, 320 << 20, 8, 5),
        ] {
            let big = table("big", pages, bytes);
            let parts = plan_copy(std::slice::from_ref(&big), std::slice::from_ref(&big), jobs).unwrap();
            assert_eq!(parts.len(), expected);
            let mut next = None;
            let mut ordered = parts.clone();
            ordered.sort_by_key(|part| part.from_page);
            for part in &ordered {
                assert_eq!(part.from_page, next, "no gap and no overlap");
                next = part.to_page;
            }
            assert_eq!(ordered.last().unwrap().to_page, None);
        }
    }

    #[test]
    fn the_biggest_part_goes_first() {
        let tables = [table("small", 1, 8192), table("large", 8000, 60 << 20), table("middle", 100, 800 << 10)];
        let order: Vec<_> = plan_copy(&tables, &tables, 2).unwrap().into_iter().map(|part| part.table.name).collect();
        assert_eq!(order, ["large", "middle", "small"]);
    }

    #[test]
    fn differing_types_go_as_text_and_generated_columns_not_at_all() {
        let mut source = table("t", 1, 8192);
        source.columns.push(column("twice", "integer", true));
        let mut target = source.clone();
        assert_eq!(plan_copy(&[source.clone()], &[target.clone()], 1).unwrap()[0].format, CopyFormat::Binary);
        target.columns[1].generated = true;
        assert_eq!(plan_copy(&[source.clone()], &[target.clone()], 1).unwrap()[0].columns, ["id"]);
        target.columns[0].type_name = "text".to_owned();
        assert_eq!(plan_copy(&[source.clone()], &[target.clone()], 1).unwrap()[0].format, CopyFormat::Text);
        target.columns.remove(1);
        let error = plan_copy(&[source], &[target], 1).unwrap_err().to_string();
        assert!(error.contains("public.t") && error.contains("no column twice"), "{error}");
    }
}
