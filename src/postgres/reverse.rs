//! The way back: what a target with a newer schema can send to the source, and what the source must let pass.
//!
//! Found by comparing the two catalogs, so that it holds for releases that nobody has tried. A column that only the
//! target knows stays behind (column lists, from 15 on); a rule that only the source knows would stop the apply worker,
//! so it is lifted there while changes flow back, and put back afterwards.

use super::checks::{self, Checks};
use super::connect::Session;
use super::error::{Error, Result};
use super::inspect::{self, Column, ReplicaIdentitySetting, Table};
use super::locks;
use super::names::{TableName, ident};
use super::publication::PublishedTable;
use super::schema::split;
use super::schema::{self, Definition, DefinitionKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long one lock on the source may be waited for, all in all.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// What flows back, and what it asks of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reversal {
    /// What the target publishes.
    pub published: Vec<PublishedTable>,
    /// What the source must let pass meanwhile.
    pub relaxations: Vec<Relaxation>,
    /// Unique constraints and indexes that only the source has; they are dropped meanwhile.
    pub uniques: Vec<Definition>,
    /// Why changes cannot flow back, one reason a line; empty when they can.
    pub obstacles: Vec<String>,
}

impl Reversal {
    /// Whether a column of the source had to take NULL.
    pub fn lifts_not_null(&self, table: &TableName, column: &str) -> bool {
        self.relaxations.iter().any(|lifted| lifted.what == not_null(table, column))
    }
}

fn not_null(table: &TableName, column: &str) -> String {
    format!("NOT NULL of column {column} of table {table}")
}

/// A rule of the source that rows of the target need not obey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relaxation {
    /// In words.
    pub what: String,
    /// The statement that lifts it; may be run again.
    pub relax: String,
    /// The statements that put it back; may be run again.
    pub restore: String,
}

/// Compares the catalogs of both sides for the tables that are replicated.
///
/// # Errors
/// [`Error::Server`] when a catalog cannot be read.
pub async fn compare(source: &Session, target: &Session, replicated: &[TableName]) -> Result<Reversal> {
    let old = Side::read(source, replicated).await?;
    let new = Side::read(target, replicated).await?;
    let lists = inspect::cluster_identity(target).await?.major() >= 15;
    Ok(judge(replicated, &old, &new, lists))
}

/// Lifts what rows of the target may break on the source. May be run again.
///
/// # Errors
/// [`Error::Server`] when the source refuses.
pub async fn relax(source: &Session, reversal: &Reversal) -> Result<()> {
    for relaxation in &reversal.relaxations {
        let doing = format!("lift {} on {}", relaxation.what, source.address);
        locks::run(source, &relaxation.relax, &doing, LOCK_LIMIT).await?;
    }
    schema::drop_definitions(source, &reversal.uniques).await
}

/// Puts back what [`relax`] lifted. Rows that came back and break a rule keep it from standing again: then it is
/// told, and everything else is put back.
///
/// # Errors
/// [`Error::Server`] for any other refusal.
pub async fn restore(source: &Session, reversal: &Reversal) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    let mut judge = |what: String, done: Result<()>| match done {
        Err(error) if error.sqlstate().is_some_and(|state| state.code().starts_with("23")) => {
            broken.push(format!("{what}: {error}"));
            Ok(())
        }
        done => done,
    };
    for relaxation in &reversal.relaxations {
        let doing = format!("put {} back on {}", relaxation.what, source.address);
        judge(relaxation.what.clone(), locks::run(source, &relaxation.restore, &doing, LOCK_LIMIT).await)?;
    }
    for definition in schema::missing(source, &reversal.uniques).await? {
        judge(definition.to_string(), schema::create(source, &definition).await)?;
    }
    Ok(broken)
}

/// Brings to the source the rows of `table` that only the target has and that rows which came back refer to: the
/// target's own migration put them there before anything flowed back. The apply worker checks no foreign key, so
/// without them the source would hold rows that no later copy could take. Answers how many.
///
/// # Errors
/// [`Error::Server`] when a server refuses.
pub async fn carry_referenced(source: &Session, target: &Session, table: &TableName) -> Result<u64> {
    let doing = format!("bring rows of table {table} back to {}", source.address);
    let all = format!("SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]')::text FROM {} t", table.sql());
    let rows: String = target.query_one(&all, &[]).await.map_err(Error::doing(&doing))?.get(0);
    let references = source.query(REFERENCES, &[&table.sql()]).await.map_err(Error::doing(&doing))?;
    // Our own fence lets this session pass as it lets the apply worker.
    source.batch_execute("SET session_replication_role = replica").await.map_err(Error::doing(&doing))?;
    let mut carried = 0;
    for reference in references {
        let insert = format!(
            "INSERT INTO {table} SELECT r.* FROM jsonb_populate_recordset(NULL::{table}, $1::text::jsonb) r
             WHERE EXISTS (SELECT FROM {} c WHERE {}) ON CONFLICT DO NOTHING",
            reference.get::<_, &str>(0),
            reference.get::<_, &str>(1),
            table = table.sql()
        );
        carried += source.execute(&insert, &[&rows]).await.map_err(Error::doing(&doing))?;
    }
    source.batch_execute("RESET session_replication_role").await.map_err(Error::doing(doing))?;
    Ok(carried)
}

/// Who refers to a table: the referring table (`c`), and how its rows find theirs (`r`).
const REFERENCES: &str = "
    SELECT f.conrelid::regclass::text,
           string_agg(format('c.%I = r.%I', here.attname, there.attname), ' AND ')
    FROM pg_constraint f CROSS JOIN LATERAL unnest(f.conkey, f.confkey) k(here, there)
    JOIN pg_attribute here ON here.attrelid = f.conrelid AND here.attnum = k.here
    JOIN pg_attribute there ON there.attrelid = f.confrelid AND there.attnum = k.there
    WHERE f.contype = 'f' AND f.confrelid = to_regclass($1) GROUP BY f.oid, f.conrelid";

/// One side's catalog, as far as it matters here.
#[derive(Debug, Default)]
struct Side {
    tables: BTreeMap<TableName, Table>,
    /// The columns that a row is identified by; absent where there are none.
    keys: BTreeMap<TableName, BTreeSet<String>>,
    checks: Checks,
    uniques: Vec<Unique>,
}

/// A unique index, or the constraint it backs.
#[derive(Debug)]
struct Unique {
    definition: Definition,
    /// What it demands, whatever it is called.
    demand: String,
    /// A foreign key leans on it, or rows are found by it.
    needed: bool,
}

impl Side {
    async fn read(session: &Session, replicated: &[TableName]) -> Result<Self> {
        let doing = format!("compare the rules of database {} on {}", session.database, session.address);
        let (schemas, names) = split(replicated);
        let mut side = Self::default();
        for table in inspect::tables(session).await?.into_iter().filter(|table| replicated.contains(&table.name)) {
            side.tables.insert(table.name.clone(), table);
        }
        let name = |row: &tokio_postgres::Row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        for row in session.query(KEYS, &[&schemas, &names]).await.map_err(Error::doing(&doing))? {
            side.keys.insert(name(&row), row.get::<_, Vec<String>>(2).into_iter().collect());
        }
        side.checks = checks::read(session, replicated).await?;
        let mut demands: BTreeMap<(TableName, String), (String, bool)> = BTreeMap::new();
        for row in session.query(UNIQUES, &[&schemas, &names]).await.map_err(Error::doing(&doing))? {
            demands.insert((name(&row), row.get(2)), (row.get(3), row.get(4)));
        }
        for definition in schema::definitions(session, replicated).await? {
            if definition.kind != DefinitionKind::ForeignKey
                && let Some((demand, needed)) = demands.remove(&(definition.table.clone(), definition.name.clone()))
            {
                let needed = needed || definition.on_key;
                side.uniques.push(Unique { definition, demand, needed });
            }
        }
        Ok(side)
    }

    fn demands(&self, table: &TableName, demand: &str) -> bool {
        self.uniques.iter().any(|unique| unique.definition.table == *table && unique.demand == demand)
    }
}

/// The columns of the replica identity; those of the whole row for FULL. `$1`, `$2`: the tables.
const KEYS: &str = "
    SELECT n.nspname::text, t.relname::text, array_agg(DISTINCT a.attname::text)
    FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
    JOIN unnest($1::text[], $2::text[]) wanted(schema, name) ON wanted.schema = n.nspname AND wanted.name = t.relname
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_index i ON i.indrelid = t.oid AND i.indisvalid
        AND CASE t.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
    WHERE t.relreplident = 'f' OR (t.relreplident <> 'n' AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
    GROUP BY 1, 2";

/// Unique indexes: name, what they demand (the definition behind `USING`), whether a foreign key leans on them.
const UNIQUES: &str = "
    SELECT n.nspname::text, t.relname::text, i.relname::text,
           regexp_replace(pg_get_indexdef(i.oid), '^.*? USING ', ''),
           EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = i.oid)
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    JOIN unnest($1::text[], $2::text[]) wanted(schema, name) ON wanted.schema = n.nspname AND wanted.name = t.relname
    WHERE x.indisunique";

/// Decides for every table.
fn judge(replicated: &[TableName], old: &Side, new: &Side, lists: bool) -> Reversal {
    let mut reversal = Reversal::default();
    for name in replicated {
        match (old.tables.get(name), new.tables.get(name)) {
            (Some(source), Some(target)) => {
                let found = TableReversal { source, target, old, new, lists }.judge();
                reversal.published.push(found.published);
                reversal.relaxations.extend(found.relaxations);
                reversal.obstacles.extend(found.obstacles);
            }
            (Some(_), None) => reversal.obstacles.push(format!("table {name} is gone from the target")),
            (None, _) => reversal.obstacles.push(format!("table {name} is gone from the source")),
        }
    }
    for unique in &old.uniques {
        let Definition { table, .. } = &unique.definition;
        if new.tables.contains_key(table) && !new.demands(table, &unique.demand) {
            if unique.needed {
                reversal.obstacles.push(format!("the target does not keep the {}", unique.definition));
            } else {
                reversal.uniques.push(unique.definition.clone());
            }
        }
    }
    reversal
}

/// One table on both sides.
struct TableReversal<'a> {
    source: &'a Table,
    target: &'a Table,
    old: &'a Side,
    new: &'a Side,
    /// The target can publish a list of columns.
    lists: bool,
}

/// What one table needs.
struct Found {
    published: PublishedTable,
    relaxations: Vec<Relaxation>,
    obstacles: Vec<String>,
}

impl TableReversal<'_> {
    fn judge(&self) -> Found {
        let name = &self.source.name;
        let mut obstacles = self.key_obstacles();
        let mut relaxations = Vec::new();
        for column in self.source.columns.iter().filter(|column| !column.generated) {
            match self.target.columns.iter().find(|other| other.name == column.name) {
                Some(other) if !fits(&other.type_name, &column.type_name) => obstacles.push(format!(
                    "column {} of table {name} is {} on the target and {} on the source",
                    column.name, other.type_name, column.type_name
                )),
                Some(other) if column.not_null && !other.not_null => relaxations.push(self.nullable(column)),
                None if column.not_null && column.default.is_none() && !column.identity => {
                    relaxations.push(self.nullable(column));
                }
                _ => {}
            }
        }
        relaxations.extend(self.checks());
        let published = self.published(&mut obstacles);
        Found { published, relaxations, obstacles }
    }

    /// The apply worker on the source finds rows by the source's key, which the target must send along.
    fn key_obstacles(&self) -> Vec<String> {
        let name = &self.source.name;
        let sent = self.new.keys.get(name);
        let none = BTreeSet::new();
        let needed: BTreeSet<String> = match self.source.replica_identity.setting {
            ReplicaIdentitySetting::Index => self.old.keys.get(name).unwrap_or(&none).clone(),
            _ => self.source.primary_key.iter().cloned().collect(),
        };
        match sent {
            None => vec![format!("table {name} has no replica identity on the target")],
            Some(sent) => needed
                .difference(sent)
                .map(|column| format!("the target does not identify rows of table {name} by its column {column}"))
                .collect(),
        }
    }

    fn nullable(&self, column: &Column) -> Relaxation {
        let (table, sql) = (self.source.name.sql(), ident(&column.name));
        Relaxation {
            what: not_null(&self.source.name, &column.name),
            relax: format!("ALTER TABLE {table} ALTER COLUMN {sql} DROP NOT NULL"),
            restore: format!("ALTER TABLE {table} ALTER COLUMN {sql} SET NOT NULL"),
        }
    }

    /// CHECK constraints that the target does not have in the same words.
    fn checks(&self) -> Vec<Relaxation> {
        let name = &self.source.name;
        let kept: BTreeSet<&String> = self.new.checks.get(name).iter().flat_map(|checks| checks.values()).collect();
        let lifted = self.old.checks.get(name).into_iter().flatten().filter(|(_, demand)| !kept.contains(demand));
        lifted
            .map(|(check, demand)| Relaxation {
                what: format!("constraint {check} of table {name}"),
                relax: checks::drop_sql(name, check),
                restore: checks::create_sql(name, check, demand),
            })
            .collect()
    }

    /// The whole table where the source knows every column, else the columns that both know.
    fn published(&self, obstacles: &mut Vec<String>) -> PublishedTable {
        let name = &self.source.name;
        let known = |column: &Column| self.source.columns.iter().any(|c| c.name == column.name && !c.generated);
        let sent: Vec<&Column> = self.target.columns.iter().filter(|column| !column.generated).collect();
        let Some(unknown) = sent.iter().find(|column| !known(column)) else {
            return PublishedTable::whole(name.clone());
        };
        if !self.lists {
            obstacles.push(format!(
                "the target's PostgreSQL 14 cannot leave out column {} of table {name}, which the source does not know",
                unknown.name
            ));
        }
        if self.target.replica_identity.setting == ReplicaIdentitySetting::Full {
            obstacles.push(format!(
                "table {name} is identified by its whole row, so column {} cannot be left out",
                unknown.name
            ));
        }
        let keys = self.new.keys.get(name).into_iter().flatten();
        for key in keys.filter(|key| !self.source.columns.iter().any(|column| column.name == **key)) {
            obstacles
                .push(format!("the source does not know column {key}, by which the target identifies rows of {name}"));
        }
        let columns = sent.into_iter().filter(|column| known(column)).map(|column| column.name.clone()).collect();
        PublishedTable { name: name.clone(), columns: Some(columns) }
    }
}

/// True when every value of type `from` is one of type `to`, as `format_type` prints them.
fn fits(from: &str, to: &str) -> bool {
    const INTEGERS: [&str; 3] = ["smallint", "integer", "bigint"];
    let integer = |name: &str| INTEGERS.iter().position(|known| *known == name);
    if let (Some(from), Some(to)) = (integer(from), integer(to)) {
        return from <= to;
    }
    match (characters(from), characters(to)) {
        (Some(_), Some(None)) => true,
        (Some(Some(from)), Some(Some(to))) => from <= to,
        (Some(None), Some(Some(_))) => false,
        _ => from == to,
    }
}

/// The longest value of a character type, `None` within for no limit; `None` for every other type.
fn characters(name: &str) -> Option<Option<u32>> {
    if matches!(name, "text" | "character varying") {
        return Some(None);
    }
    let rest = name.strip_prefix("character varying(").or_else(|| name.strip_prefix("character("))?;
    rest.strip_suffix(')')?.parse().ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_type_fits_where_every_value_does() {
        for (from, to, expected) in [
            ("uuid", "uuid", true),
            ("uuid", "text", false),
            ("character varying(16)", "character(16)", true),
            ("character varying(255)", "character varying(64)", false),
            ("character varying(64)", "text", true),
            ("text", "character varying(64)", false),
            ("integer", "bigint", true),
            ("bigint", "integer", false),
            ("timestamp without time zone", "timestamp with time zone", false),
        ] {
            assert_eq!(fits(from, to), expected, "{from} into {to}");
        }
    }
}
