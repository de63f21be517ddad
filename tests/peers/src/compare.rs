//! A comparison of two databases, row by row, that shares no code with the charm.
//!
//! Both sides send, in the order of their keys, a digest of every row over the columns that both know, and the two
//! streams are merged. The writers must have stopped, and so must replication.

use crate::blocking::blocking;
use crate::cluster::connect;
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use tokio_postgres::Client;

/// How many rows a cursor brings at a time.
const BATCH: usize = 20_000;

/// What to leave out, and where the sides may differ.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Tables that are not compared, such as `schema_migration`.
    pub ignored: Vec<String>,
    /// Tables where the target may hold rows that the source has not, such as `identity_credential_types`.
    pub target_may_hold_more: Vec<String>,
}

impl Options {
    /// What is right for a Kratos whose target may be of a later release.
    pub fn kratos() -> Self {
        Self {
            ignored: vec!["schema_migration".to_owned()],
            target_may_hold_more: vec!["identity_credential_types".to_owned()],
        }
    }
}

/// The result for one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// Rows of the source, each of which was looked for on the target.
    pub rows: u64,
    pub changed: u64,
    pub missing: u64,
    /// Rows that only the target has, unless it may.
    pub extra: u64,
    /// Keys of the first few differences, with the way they differ.
    pub examples: Vec<String>,
}

/// The result for two databases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    pub tables: Vec<Table>,
    /// Tables and other things that keep the sides from being compared; each counts as a difference.
    pub obstacles: Vec<String>,
}

impl Comparison {
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// All differences; 0 means equal.
    pub fn different(&self) -> u64 {
        let rows: u64 = self.tables.iter().map(|table| table.changed + table.missing + table.extra).sum();
        rows + self.obstacles.len() as u64
    }

    /// The differences in words, a line each.
    pub fn report(&self) -> String {
        let mut lines = self.obstacles.clone();
        for table in self.tables.iter().filter(|table| table.changed + table.missing + table.extra > 0) {
            let Table { name, rows, changed, missing, extra, examples } = table;
            lines.push(format!(
                "{name}: {rows} rows, {changed} changed, {missing} missing, {extra} extra: {examples:?}"
            ));
        }
        lines.join("\n")
    }
}

/// Compares every table of all schemas but the systems' and the charm's own.
pub fn databases(source: &str, target: &str, options: &Options) -> anyhow::Result<Comparison> {
    databases_while(source, target, options, || ())
}

/// The same; `begun` is called once both sides are seen through a snapshot, so that later writes do not matter.
pub fn databases_while(
    source: &str,
    target: &str,
    options: &Options,
    begun: impl FnOnce() + Send,
) -> anyhow::Result<Comparison> {
    blocking(async {
        let (source, target) = (open(source).await?, open(target).await?);
        // The first query takes the snapshot.
        let (tables, on_target) = (shapes(&source).await?, shapes(&target).await?);
        begun();
        let mut comparison = Comparison::default();
        for name in on_target.keys().filter(|name| !tables.contains_key(*name) && !is_ignored(name, options)) {
            // A later release may bring tables; rows in them came from nowhere.
            let rows: i64 = target.query_one(&format!("SELECT count(*) FROM {name}"), &[]).await?.get(0);
            if rows > 0 {
                comparison.obstacles.push(format!("{name} is not on the source and holds {rows} rows on the target"));
            }
        }
        for (name, shape) in tables.iter().filter(|(name, _)| !is_ignored(name, options)) {
            match on_target.get(name) {
                None => comparison.obstacles.push(format!("{name} is not on the target")),
                Some(_) if shape.key.is_empty() => comparison.obstacles.push(format!("{name} has no primary key")),
                Some(other) => {
                    let more = is_named(name, &options.target_may_hold_more);
                    comparison.tables.push(table(name, &digest(name, shape, other), more, &source, &target).await?);
                }
            }
        }
        Ok(comparison)
    })
}

/// The columns of a table, and those of its primary key.
#[derive(Debug, Default)]
struct Shape {
    columns: Vec<String>,
    key: Vec<String>,
}

/// One snapshot for everything, and one way to write values on both versions.
async fn open(uri: &str) -> anyhow::Result<Client> {
    let client = connect(uri).await?;
    client
        .batch_execute(
            "SET search_path = pg_catalog; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; \
             SET intervalstyle = 'iso_8601'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET jit = off; \
             SET work_mem = '64MB'; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        )
        .await?;
    Ok(client)
}

async fn shapes(client: &Client) -> anyhow::Result<BTreeMap<String, Shape>> {
    let rows = client
        .query(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.quote_ident(a.attname), \
                    coalesce(a.attnum = ANY (i.indkey), false) \
             FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary \
             WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information_schema$|identity_migration)' \
             ORDER BY 1, a.attnum",
            &[],
        )
        .await?;
    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    for row in rows {
        let shape = shapes.entry(row.get(0)).or_default();
        let column: String = row.get(1);
        if row.get(2) {
            shape.key.push(column.clone());
        }
        shape.columns.push(column);
    }
    Ok(shapes)
}

/// `public.identities` goes by its bare name in the options.
fn is_named(table: &str, names: &[String]) -> bool {
    names.iter().any(|name| table.strip_prefix("public.").unwrap_or(table) == name)
}

fn is_ignored(table: &str, options: &Options) -> bool {
    is_named(table, &options.ignored)
}

/// The query for keys and digests over the shared columns; a value's length keeps neighbours apart, and NULL differs
/// from everything.
fn digest(name: &str, shape: &Shape, other: &Shape) -> String {
    let key: Vec<String> = shape.key.iter().map(|column| format!("{column}::text")).collect();
    let values: Vec<String> = shape
        .columns
        .iter()
        .filter(|column| other.columns.contains(column))
        .map(|column| format!("coalesce(length({column}::text) || ':' || {column}::text, 'null')"))
        .collect();
    format!(
        "SELECT concat_ws(' ', {}) COLLATE \"C\" AS key, md5({}) FROM {name} ORDER BY key",
        key.join(", "),
        values.join(" || ',' || ")
    )
}

async fn table(name: &str, digest: &str, more: bool, source: &Client, target: &Client) -> anyhow::Result<Table> {
    let mut found = Table { name: name.to_owned(), rows: 0, changed: 0, missing: 0, extra: 0, examples: Vec::new() };
    let (mut left, mut right) = (Rows::open(source, digest).await?, Rows::open(target, digest).await?);
    loop {
        tokio::try_join!(left.fill(), right.fill())?;
        let order = match (left.first(), right.first()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.0.cmp(&other.0),
        };
        let mut example = |what: &str, row: Option<(String, String)>| {
            if let Some((key, _)) = row
                && found.examples.len() < 5
            {
                found.examples.push(format!("{what} {key}"));
            }
        };
        match order {
            Ordering::Less => {
                found.rows += 1;
                found.missing += 1;
                example("missing", left.next());
            }
            Ordering::Greater => {
                let row = right.next();
                if !more {
                    found.extra += 1;
                    example("extra", row);
                }
            }
            Ordering::Equal => {
                found.rows += 1;
                let (one, other) = (left.next(), right.next());
                if one != other {
                    found.changed += 1;
                    example("changed", one);
                }
            }
        }
    }
    left.close().await?;
    right.close().await?;
    Ok(found)
}

/// A cursor's rows.
struct Rows<'a> {
    client: &'a Client,
    waiting: VecDeque<(String, String)>,
    ended: bool,
}

impl<'a> Rows<'a> {
    async fn open(client: &'a Client, query: &str) -> anyhow::Result<Self> {
        client.batch_execute(&format!("DECLARE digests NO SCROLL CURSOR FOR {query}")).await?;
        Ok(Self { client, waiting: VecDeque::new(), ended: false })
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        if self.waiting.is_empty() && !self.ended {
            let rows = self.client.query(&format!("FETCH {BATCH} FROM digests"), &[]).await?;
            self.ended = rows.len() < BATCH;
            self.waiting.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
        }
        Ok(())
    }

    fn first(&self) -> Option<&(String, String)> {
        self.waiting.front()
    }

    fn next(&mut self) -> Option<(String, String)> {
        self.waiting.pop_front()
    }

    async fn close(self) -> anyhow::Result<()> {
        Ok(self.client.batch_execute("CLOSE digests").await?)
    }
}
