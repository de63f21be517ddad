//! Ory's own keyword: what a trait is used for. It is met while traits are judged, in whatever branch of the document it
//! stands, as in Kratos.

use super::{Kind, Purpose, Use, comparable, formats, lock};
use jsonschema::{Keyword, ValidationError, ValidationOptions};
use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// The keyword.
pub const KEYWORD: &str = "ory.sh/kratos";

/// Credentials whose identifiers come from traits.
pub const CREDENTIALS: [&str; 3] = ["password", "webauthn", "code"];

/// Makes a validator that keeps what it finds in `found`, and what the document names at all in `names`.
pub(super) fn kept_in<'i>(
    options: ValidationOptions<'i>,
    found: &Arc<Mutex<BTreeSet<Use>>>,
    names: &Arc<Mutex<BTreeSet<Kind>>>,
) -> ValidationOptions<'i> {
    let (found, names) = (Arc::clone(found), Arc::clone(names));
    options.with_keyword(KEYWORD, move |beside: &Map<String, Json>, annotation: &Json, _| {
        let annotated = Annotated::read(beside, annotation);
        lock(&names).extend(annotated.kinds.iter().cloned());
        Ok(Box::new(Noted { annotated, found: Arc::clone(&found) }))
    })
}

/// What one place of the document says about its value.
struct Annotated {
    kinds: Vec<Kind>,
    /// The value has to be an e-mail address, whatever else the document says.
    must_be_email: bool,
}

impl Annotated {
    fn read(beside: &Map<String, Json>, annotation: &Json) -> Self {
        let mut kinds = Vec::new();
        for credential in CREDENTIALS {
            if annotation["credentials"][credential]["identifier"] == Json::Bool(true) {
                kinds.push(Kind::new(Purpose::Identifier, credential));
            }
        }
        let via = |what: &str| annotation[what]["via"].as_str().filter(|via| !via.is_empty());
        let (recovery, verification) = (via("recovery"), via("verification"));
        kinds.extend(recovery.map(|via| Kind::new(Purpose::Recovery, via)));
        kinds.extend(verification.map(|via| Kind::new(Purpose::Verification, via)));
        let without_format = beside.get("format").is_none_or(|format| format == "");
        let must_be_email = recovery == Some("email") || (verification == Some("email") && without_format);
        Self { kinds, must_be_email }
    }
}

/// Keeps every value that it is shown.
struct Noted {
    annotated: Annotated,
    found: Arc<Mutex<BTreeSet<Use>>>,
}

impl Noted {
    fn takes(&self, value: &Json) -> bool {
        let Some(text) = value.as_str() else { return !self.annotated.must_be_email };
        if self.annotated.must_be_email && !formats::is_email(text) {
            return false;
        }
        let uses = self.annotated.kinds.iter().map(|kind| (kind.clone(), comparable(text)));
        lock(&self.found).extend(uses);
        true
    }
}

impl<'i> Keyword<'i> for Noted {
    fn validate(&self, value: &'i Json) -> Result<(), ValidationError<'i>> {
        if self.takes(value) { Ok(()) } else { Err(ValidationError::custom("not an e-mail address")) }
    }

    fn is_valid(&self, value: &'i Json) -> bool {
        self.takes(value)
    }
}
