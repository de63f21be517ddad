//! The people of one identity schema, read in batches: all of them where they are few, else a sample from everywhere.

use crate::apps::identity_schema::annotations::CREDENTIALS;
use crate::apps::identity_schema::{Kind, Purpose, Use, comparable};
use crate::postgres::names::{TableName, literal};
use crate::postgres::{Error, Session};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

/// Up to so many people of a schema, all are looked at.
const ALL: i64 = 10_000;
/// A sample is taken in so many places, evenly over the ids, which are random.
const SLICES: u128 = 20;
/// And so many people in each.
const SLICE: usize = 250;
/// People in one answer; with [`LARGEST`] it bounds the memory.
const BATCH: usize = 250;
/// Counting takes at most such a part of the time.
const COUNTING: u32 = 4;
/// Bytes of traits that are still looked at.
const LARGEST: usize = 64 << 10;

/// What addresses are reached by, in all releases: an index over values begins with it.
const VIAS: &str = "'email', 'sms', 'phone'";

/// Where the app's tables are.
#[derive(Clone, Debug)]
pub struct Place {
    /// Their schema in the database.
    pub schema: String,
    /// The table of networks.
    pub networks: &'static str,
}

/// How many people were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// So many.
    pub count: u64,
    /// Those were all.
    pub all: bool,
}

impl std::fmt::Display for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { count, all: true } => write!(f, "all {count} identities"),
            Self { count: 0, .. } => f.write_str("no identity could be looked at in time"),
            Self { count, .. } => write!(f, "a sample of {count} identities"),
        }
    }
}

/// One identity.
pub struct Person {
    /// Its id.
    pub id: String,
    /// Its traits; `None` when they are too large, or cannot be read here.
    pub traits: Option<Json>,
    /// What the database keeps for it.
    pub kept: BTreeSet<Use>,
}

/// What is still to be read: ids after the first, up to the second and so many of them at most.
pub struct Batches {
    slices: Vec<(String, String, usize)>,
    read: Read,
}

impl Batches {
    /// How many were read, once nothing is left.
    pub fn read(&self) -> Read {
        self.read
    }

    /// So many more were looked at.
    pub fn looked_at(&mut self, people: usize) {
        self.read.count += people as u64;
    }

    /// The time ended first.
    pub fn cut(&mut self) {
        self.slices.clear();
        self.read.all = false;
    }
}

/// The people of one schema.
pub struct Rows<'a> {
    session: &'a Session,
    place: &'a Place,
    schema: &'a str,
    until: Instant,
}

impl<'a> Rows<'a> {
    /// Read on this session until that moment.
    pub fn new(session: &'a Session, place: &'a Place, schema: &'a str, until: Instant) -> Self {
        Self { session, place, schema, until }
    }

    /// Where to begin.
    ///
    /// # Errors
    /// The server's.
    pub async fn batches(&self) -> Result<Batches, Error> {
        let sql = format!("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) people", self.people(), ALL + 1);
        // Without an index counting may take all the time there is; then a sample has to do.
        let counted = Instant::now() + self.until.saturating_duration_since(Instant::now()) / COUNTING;
        let few = match self.asked_until(counted, &sql, &[&self.schema]).await? {
            Some(rows) => rows.first().is_some_and(|row| row.get::<_, i64>(0) <= ALL),
            None => false,
        };
        let at = |slice: u128| format!("{:032x}", slice * (u128::MAX / SLICES));
        let slices = match few {
            true => vec![(at(0), format!("{:032x}", u128::MAX), usize::MAX)],
            // From the last to the first: they are taken from the end.
            false => (0..SLICES).rev().map(|slice| (at(slice), at(slice + 1), SLICE)).collect(),
        };
        Ok(Batches { slices, read: Read { count: 0, all: few } })
    }

    /// The next ones; `None` at the end, also of the time. They count once [`Batches::looked_at`] is told.
    ///
    /// # Errors
    /// The server's.
    pub async fn next(&self, batches: &mut Batches) -> Result<Option<Vec<Person>>, Error> {
        while let Some((after, to, wanted)) = batches.slices.pop() {
            let limit = wanted.min(BATCH);
            let Some(mut people) = self.read(&after, &to, limit).await? else {
                batches.cut();
                return Ok(None);
            };
            let last = people.last().map(|person| person.id.clone());
            if let Some(last) = last.filter(|_| people.len() == limit && wanted > limit) {
                let rest = if wanted == usize::MAX { wanted } else { wanted - limit };
                batches.slices.push((last, to, rest));
            }
            if people.is_empty() {
                continue;
            }
            if !self.keep(&mut people).await? {
                batches.cut();
                return Ok(None);
            }
            return Ok(Some(people));
        }
        Ok(None)
    }

    /// Ids and traits.
    async fn read(&self, after: &str, to: &str, limit: usize) -> Result<Option<Vec<Person>>, Error> {
        let sql = format!(
            "SELECT i.id::text, CASE WHEN octet_length(i.traits::text) <= {LARGEST} THEN i.traits::text END FROM {}
             AND i.id > $2::text::uuid AND i.id <= $3::text::uuid ORDER BY i.id LIMIT {limit}",
            self.people()
        );
        let Some(rows) = self.asked(&sql, &[&self.schema, &after, &to]).await? else { return Ok(None) };
        let person = |row: &Row| {
            let traits: Option<&str> = row.get(1);
            let traits = traits.and_then(|traits| serde_json::from_str(traits).ok());
            Person { id: row.get(0), traits, kept: BTreeSet::new() }
        };
        Ok(Some(rows.iter().map(person).collect()))
    }

    /// Adds what is kept for them; false when the time is over.
    async fn keep(&self, people: &mut [Person]) -> Result<bool, Error> {
        let ids: Vec<&str> = people.iter().map(|person| person.id.as_str()).collect();
        let mut kept: BTreeMap<String, BTreeSet<Use>> = BTreeMap::new();
        for (purpose, sql) in self.uses("= ANY($1::text[]::uuid[])", |_| "true".to_owned()) {
            let Some(rows) = self.asked(&sql, &[&ids]).await? else { return Ok(false) };
            for (id, found) in rows.iter().map(|row| found(&purpose, row)) {
                kept.entry(id).or_default().insert(found);
            }
        }
        for person in people {
            person.kept = kept.remove(&person.id).unwrap_or_default();
        }
        Ok(true)
    }

    /// Until when people are looked at.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Who has one of these; `None` when the time is over.
    ///
    /// # Errors
    /// The server's.
    pub async fn held(&self, wanted: &BTreeSet<&Use>) -> Result<Option<Vec<(String, Use)>>, Error> {
        let mut held = Vec::new();
        if wanted.is_empty() {
            return Ok(Some(held));
        }
        for (purpose, sql) in self.uses("IS NOT NULL", |value| format!("{value} = ANY($1::text[])")) {
            let values: Vec<&str> =
                wanted.iter().filter(|(kind, _)| kind.purpose == purpose).map(|(_, value)| value.as_str()).collect();
            if values.is_empty() {
                continue;
            }
            let Some(rows) = self.asked(&sql, &[&values]).await? else { return Ok(None) };
            held.extend(rows.iter().map(|row| found(&purpose, row)));
        }
        Ok(Some(held))
    }

    /// Queries for (identity, kind, value) of each purpose, of identities and of values that are like this.
    fn uses(&self, identities: &str, like: impl Fn(&str) -> String) -> [(Purpose, String); 3] {
        let network = self.network();
        let credentials = CREDENTIALS.map(literal).join(", ");
        let identifiers = format!(
            "SELECT c.identity_id::text, t.name::text, n.identifier::text FROM {} c
             JOIN {} t ON t.id = c.identity_credential_type_id AND t.name IN ({credentials})
             JOIN {} n ON n.identity_credential_id = c.id AND n.nid = c.nid AND n.identity_credential_type_id = t.id
             WHERE c.nid = {network} AND c.identity_id {identities} AND {}",
            self.table("identity_credentials"),
            self.table("identity_credential_types"),
            self.table("identity_credential_identifiers"),
            like("n.identifier"),
        );
        let addresses = |table: &str| {
            let (table, values) = (self.table(table), like("a.value"));
            format!(
                "SELECT a.identity_id::text, a.via::text, a.value::text FROM {table} a
                 WHERE a.nid = {network} AND a.identity_id {identities} AND {values} AND a.via IN ({VIAS})"
            )
        };
        [
            (Purpose::Identifier, identifiers),
            (Purpose::Recovery, addresses("identity_recovery_addresses")),
            (Purpose::Verification, addresses("identity_verifiable_addresses")),
        ]
    }

    /// `identities` of the schema that the server shows, up to the end of a `WHERE`.
    fn people(&self) -> String {
        format!("{} i WHERE i.nid = {} AND i.schema_id::text = $1", self.table("identities"), self.network())
    }

    /// The network that a server serves: its oldest.
    fn network(&self) -> String {
        format!("(SELECT id FROM {} ORDER BY created_at LIMIT 1)", self.table(self.place.networks))
    }

    fn table(&self, name: &str) -> String {
        TableName::new(&self.place.schema, name).sql()
    }

    /// Asks with the time that is left; `None` when it is over.
    async fn asked(&self, sql: &str, given: &[&(dyn ToSql + Sync)]) -> Result<Option<Vec<Row>>, Error> {
        self.asked_until(self.until, sql, given).await
    }

    /// The same with less time.
    async fn asked_until(
        &self,
        until: Instant,
        sql: &str,
        given: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Vec<Row>>, Error> {
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        if left == 0 {
            return Ok(None);
        }
        let doing = || Error::doing(format!("look at identities on {}", self.session.address));
        self.session.batch_execute(&format!("SET statement_timeout = {left}")).await.map_err(doing())?;
        match self.session.query(sql, given).await {
            Ok(rows) => Ok(Some(rows)),
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => Ok(None),
            Err(error) => Err(doing()(error)),
        }
    }
}

fn found(purpose: &Purpose, row: &Row) -> (String, Use) {
    (row.get(0), (Kind::new(purpose.clone(), row.get(1)), comparable(row.get(2))))
}
