//! An identity schema as Kratos uses it: which traits it takes, and what it makes of them. Asks nobody and tells no
//! trait: what it answers of a document are places in the document.
//!
//! Kratos judges traits when an identity is saved, never when it is read. It then takes the identifiers and addresses
//! anew from what the document says under [`annotations::KEYWORD`]. Seen live with 1.3.1 and 26.2.0.

pub mod annotations;
mod bounds;
mod formats;
mod references;

pub use bounds::Unjudged;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a value of the traits is used for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// To log in by.
    Identifier,
    /// To recover an account by.
    Recovery,
    /// To be verified.
    Verification,
}

/// A purpose, and its kind: of an identifier the credential's (`password`, `webauthn`, `code`), of an address what it is
/// reached by (`email`, `sms`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// What for.
    pub purpose: Purpose,
    /// By what.
    pub by: String,
}

impl Kind {
    /// A kind.
    pub fn new(purpose: Purpose, by: &str) -> Self {
        Self { purpose, by: by.to_owned() }
    }
}

/// A value and what it is used for, as the database keeps it. Never for a log or a report.
pub type Use = (Kind, String);

/// How a value is compared: Kratos keeps what it derives without outer spaces and in lower case, or did so once.
pub fn comparable(value: &str) -> String {
    value.trim().to_lowercase()
}

/// What became of an identity's traits under a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Where the document refuses them: JSON pointers into the document, each to a keyword. Empty when it takes them.
    pub refused: BTreeSet<String>,
    /// What it takes from them.
    pub uses: BTreeSet<Use>,
}

/// An identity schema, ready to judge traits.
pub struct Document {
    validator: Validator,
    found: Arc<Mutex<BTreeSet<Use>>>,
    names: BTreeSet<Kind>,
    outside: BTreeSet<String>,
}

impl Document {
    /// Reads a document as draft 7 with formats, as Kratos does, unless it names an older draft. What it refers to
    /// outside itself is left out, and counts as taking everything: nothing is fetched.
    ///
    /// # Errors
    /// Why the document is not one that can be judged: also one that is so large, or refers to itself so often, that it
    /// could take for ever.
    pub fn read(document: &Json) -> Result<Self, Unjudged> {
        bounds::size(document)?;
        let (inside, outside) = references::without_outside(document);
        bounds::references(&inside)?;
        let found = Arc::new(Mutex::new(BTreeSet::new()));
        let names = Arc::new(Mutex::new(BTreeSet::new()));
        let options = jsonschema::options()
            .with_draft(draft(&inside))
            .offline()
            // As Go's: no look-around, and never slow.
            .with_pattern_options(PatternOptions::regex());
        let options = formats::as_kratos(options);
        let options = annotations::kept_in(options, &found, &names);
        // Of a pattern that is none, only the place in the schema is known.
        let validator = options.build(&inside).map_err(|error| match error.instance_path().as_str() {
            "" => Unjudged::At(pointer(error.schema_path().as_str())),
            place => Unjudged::At(place.to_owned()),
        })?;
        let names = std::mem::take(&mut *lock(&names));
        Ok(Self { validator, found, names, outside })
    }

    /// What it takes from these traits, and where it refuses them.
    pub fn judge(&self, traits: Json) -> Judged {
        lock(&self.found).clear();
        let instance = Json::Object(Map::from_iter([("traits".to_owned(), traits)]));
        let errors = self.validator.iter_errors(&instance);
        let refused = errors.map(|error| pointer(error.schema_path().as_str())).collect();
        Judged { refused, uses: std::mem::take(&mut *lock(&self.found)) }
    }

    /// What it makes of some trait or other.
    pub fn names(&self) -> &BTreeSet<Kind> {
        &self.names
    }

    /// What it refers to outside itself.
    pub fn outside(&self) -> &BTreeSet<String> {
        &self.outside
    }
}

/// Kratos takes draft 7 for whatever names no older one.
fn draft(document: &Json) -> Draft {
    let named = document["$schema"].as_str().unwrap_or_default();
    match named.contains("draft-04") {
        true => Draft::Draft4,
        false if named.contains("draft-06") => Draft::Draft6,
        false => Draft::Draft7,
    }
}

/// The whole document is `/`.
fn pointer(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

/// A poisoned lock only means that a task panicked between two insertions.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
