//! The SQL of one table's comparison, made from the types that its expressions have on both ends.

use super::{Depth, Side, TableComparison, TableVerdict};
use crate::postgres::connect::Session;
use crate::postgres::error::{Error, Result};
use crate::postgres::names::ident;
use tokio_postgres::types::Type;

/// A table with its expressions for both sides.
#[derive(Clone)]
pub(super) struct Described {
    pub(super) comparison: TableComparison,
    source: Expressions,
    target: Expressions,
    /// Buckets for the row-by-row comparison, a power of two: some dozens of rows in each.
    pub(super) buckets: i32,
}

/// SQL expressions over one side's table.
#[derive(Clone)]
struct Expressions {
    from: String,
    record: String,
    text: String,
    key: String,
    /// Predicate that finds an array of keys: what stands before and behind the array.
    by_key: (String, String),
    /// True when the predicate finds rows through the key's index.
    indexed: bool,
}

/// Types whose record hash depends on nothing but the value: no collation, no oid of this cluster.
const DIRECT: [Type; 16] = [
    Type::BOOL,
    Type::INT2,
    Type::INT4,
    Type::INT8,
    Type::FLOAT4,
    Type::FLOAT8,
    Type::NUMERIC,
    Type::UUID,
    Type::TIMESTAMP,
    Type::TIMESTAMPTZ,
    Type::DATE,
    Type::TIME,
    Type::BYTEA,
    Type::JSONB,
    Type::INTERVAL,
    Type::INET,
];

impl Described {
    pub(super) fn verdict(&self, source_rows: u64, target_rows: u64) -> TableVerdict {
        TableVerdict {
            table: self.comparison.table.clone(),
            source_rows,
            target_rows,
            changed: 0,
            missing: 0,
            extra: 0,
            extra_is_different: !self.comparison.target_may_have_more,
            unsettled: 0,
            sample_keys: Vec::new(),
        }
    }

    fn side(&self, side: Side) -> &Expressions {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// Number of rows and sum of hashes.
    pub(super) fn sum(&self, side: Side, depth: Depth, condition: &str) -> String {
        let (from, hash) = (&self.side(side).from, self.hash(side, depth));
        format!("SELECT count(*), coalesce(sum(({hash})::numeric), 0)::text FROM {from} {condition}")
    }

    /// The hash of one row.
    fn hash(&self, side: Side, depth: Depth) -> String {
        let Expressions { record, text, .. } = self.side(side);
        match depth {
            Depth::Rows => format!("hash_record_extended({record}, 0)"),
            Depth::Text => text_hash(text),
            Depth::Counts => "0".to_owned(),
        }
    }

    /// Bucket, number of rows, sum of hashes.
    pub(super) fn by_bucket(&self, side: Side, depth: Depth) -> String {
        let (from, bucket, hash) = (&self.side(side).from, self.bucket(side), self.hash(side, depth));
        format!("SELECT {bucket}, count(*), sum(({hash})::numeric)::text FROM {from} GROUP BY 1")
    }

    /// Key, hash and version of the rows in the buckets `$1`, in the order of the key's bytes.
    pub(super) fn rows_of_buckets(&self, side: Side) -> String {
        let Expressions { from, text, key, .. } = self.side(side);
        let bucket = self.bucket(side);
        format!(
            "SELECT ({key})::text COLLATE \"C\", md5({text}), xmin::text FROM {from} \
             WHERE {bucket} = ANY ($1::int[]) ORDER BY 1, 2"
        )
    }

    /// The same for the rows with the keys `$1`.
    pub(super) fn rows_of_keys(&self, side: Side) -> String {
        let Expressions { from, text, key, .. } = self.side(side);
        let by_key = self.by_key(side, "$1");
        format!("SELECT ({key})::text COLLATE \"C\", md5({text}), xmin::text FROM {from} WHERE {by_key} ORDER BY 1, 2")
    }

    /// Removes rows of the target: those with the keys `$1`, or all.
    pub(super) fn delete(&self, all: bool) -> String {
        let from = &self.target.from;
        if all {
            format!("DELETE FROM {from}")
        } else {
            format!("DELETE FROM {from} WHERE {}", self.by_key(Side::Target, "$1"))
        }
    }

    /// The predicate that finds the keys in an array, which is SQL of type `text[]` (a parameter or a literal).
    pub(super) fn by_key(&self, side: Side, array: &str) -> String {
        let (before, behind) = &self.side(side).by_key;
        format!("{before}{array}{behind}")
    }

    /// True when keys are found through an index on both sides, and not by reading the table.
    pub(super) fn is_indexed(&self) -> bool {
        self.source.indexed && self.target.indexed
    }

    fn bucket(&self, side: Side) -> String {
        let key = &self.side(side).key;
        format!("(('x' || left(md5({key}), 8))::bit(32)::int & {})", self.buckets - 1)
    }
}

fn text_hash(text: &str) -> String {
    format!("('x' || left(md5({text}), 16))::bit(64)::bigint")
}

/// Builds the expressions. Where the types of the two ends differ, or hash by something that is local to a cluster
/// (enums by oid, collations by the library's version), the text form is hashed instead.
pub(super) async fn describe(source: &Session, target: &Session, comparison: TableComparison) -> Result<Described> {
    let of_source: Vec<String> = comparison.columns.iter().map(|c| c.source_sql.clone()).collect();
    let of_target: Vec<String> = comparison.columns.iter().map(|c| c.target_sql.clone()).collect();
    let ((source_types, source_kind, rows), (target_types, target_kind, _)) =
        tokio::try_join!(types(source, &comparison, &of_source), types(target, &comparison, &of_target))?;
    let direct: Vec<bool> = source_types.iter().zip(&target_types).map(|(a, b)| a == b && DIRECT.contains(a)).collect();
    let buckets = (rows / 64).clamp(1024, 65_536).unsigned_abs().next_power_of_two();
    Ok(Described {
        source: expressions(&comparison, &of_source, &direct, &source_types, &source_kind),
        target: expressions(&comparison, &of_target, &direct, &target_types, &target_kind),
        buckets: i32::try_from(buckets).unwrap_or(65_536),
        comparison,
    })
}

/// The expressions' types, the table's kind and its estimated number of rows.
async fn types(session: &Session, comparison: &TableComparison, sql: &[String]) -> Result<(Vec<Type>, String, i64)> {
    let table = comparison.table.sql();
    let doing = format!("compare table {} on {}", comparison.table, session.address);
    let statement = session
        .prepare(&format!("SELECT {} FROM {table}", sql.join(", ")))
        .await
        .map_err(Error::doing(doing.as_str()))?;
    let row = session
        .query_one(
            "SELECT relkind::text, greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = to_regclass($1)",
            &[&table],
        )
        .await
        .map_err(Error::doing(doing))?;
    Ok((statement.columns().iter().map(|c| c.type_().clone()).collect(), row.get(0), row.get(1)))
}

fn expressions(
    comparison: &TableComparison,
    sql: &[String],
    direct: &[bool],
    types: &[Type],
    kind: &str,
) -> Expressions {
    let record: Vec<String> = sql
        .iter()
        .zip(direct)
        .map(|(e, direct)| if *direct { format!("({e})") } else { format!("(({e})::text COLLATE \"C\")") })
        .collect();
    let text: Vec<String> = sql.iter().map(|e| format!("({e})::text")).collect();
    let text = format!("ROW({})::text", text.join(", "));
    let position = |name: &String| comparison.columns.iter().position(|c| c.name == *name);
    let key_sql = |name: &String| position(name).map_or_else(|| ident(name), |at| sql[at].clone());
    let any = |key: &str, array_type: &str| (format!("{key} = ANY (("), format!(")::{array_type}[])"));
    let (key, by_key, indexed) = match comparison.key.as_slice() {
        [] => (format!("md5({text})"), any(&format!("md5({text})"), "text"), false),
        [one] => {
            let key = key_sql(one);
            // A plain column of a well-known type is found through its index.
            let known = |of: &Type| DIRECT.contains(of) || [Type::TEXT, Type::VARCHAR].contains(of);
            let plain = position(one).filter(|at| sql[*at] == ident(one) && known(&types[*at]));
            let by_key = match plain {
                Some(at) => (format!("{key} = ANY ((("), format!(")::text[])::{}[])", types[at].name())),
                None => any(&format!("({key})::text"), "text"),
            };
            (format!("({key})::text"), by_key, plain.is_some())
        }
        several => {
            let list: Vec<String> = several.iter().map(|name| format!("({})::text", key_sql(name))).collect();
            let key = format!("ROW({})::text", list.join(", "));
            (key.clone(), any(&key, "text"), false)
        }
    };
    // Children of an inherited table are tables of their own; a partitioned table has its rows only in its leaves.
    let only = if kind == "p" { "" } else { "ONLY " };
    Expressions {
        from: format!("{only}{}", comparison.table.sql()),
        record: format!("ROW({})", record.join(", ")),
        text,
        key,
        by_key,
        indexed,
    }
}

/// How rows are hashed: by record only where both servers compute the same.
pub(super) async fn depth(source: &Session, target: &Session, wanted: Depth) -> Result<Depth> {
    match wanted {
        Depth::Rows if !calibrated(source, target).await? => Ok(Depth::Text),
        depth => Ok(depth),
    }
}

/// True when both servers compute the same record hash of a constant row that has every direct type in it. Nothing
/// promises that between releases, though 14 to 17 agree.
async fn calibrated(source: &Session, target: &Session) -> Result<bool> {
    const PROBE: &str = "SELECT hash_record_extended(ROW(
        true, 7::int2, 7::int4, 7::int8, 1.5::float4, 1.5::float8, 123.4500::numeric,
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '2024-02-29 12:00:00.123456'::timestamp,
        '2024-02-29 12:00:00.123456Z'::timestamptz, '2024-02-29'::date, '12:00:00.5'::time, '\\xdeadbeef'::bytea,
        '{\"a\": [1, 2.50, null, \"x\"]}'::jsonb, '1 day 2 hours'::interval, '10.1.2.3/8'::inet,
        'Grüße'::text COLLATE \"C\", NULL::text COLLATE \"C\"), 0)";
    let ask = async |session: &Session| {
        let row = session.query_one(PROBE, &[]).await;
        row.map(|row| row.get::<_, i64>(0))
            .map_err(Error::doing(format!("calibrate the comparison on {}", session.address)))
    };
    let (here, there) = tokio::try_join!(ask(source), ask(target))?;
    Ok(here == there)
}
