//! What a document does to the people of one identity schema, counted, and how that is said.

use super::rows::Read;
use crate::apps::identity_schema::{Judged, Kind, Purpose, Unjudged, Use};
use std::collections::{BTreeMap, BTreeSet};

/// How many ids of identities are named.
const NAMED: usize = 3;
/// How many places of a document are named.
const PLACES: usize = 4;

/// Whether source and target have the same document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change {
    /// The same.
    #[default]
    None,
    /// Another, and the source's was judged too.
    Changed,
    /// Another, but the source's cannot be judged.
    Unjudged,
    /// The source's is not known.
    Unknown,
}

/// A number of identities, and the ids of a few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// At most three of them.
    pub ids: Vec<String>,
}

impl Tally {
    fn add(&mut self, id: &str) {
        self.count += 1;
        if self.ids.len() < NAMED {
            self.ids.push(id.to_owned());
        }
    }

    /// `, such as …`, where it adds something.
    fn such_as(&self) -> String {
        if self.ids.is_empty() { String::new() } else { format!(" (such as {})", self.ids.join(", ")) }
    }
}

/// What the target's document does to the people of one schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The schema's id.
    pub schema: String,
    /// Whether it is another document than the source's.
    pub change: Change,
    /// Who was looked at.
    pub read: Read,
    /// Identities whose traits are too large, or no JSON that can be read here: not judged.
    pub unread: u64,
    /// Why the document is none that can be judged.
    pub unjudged: Option<Unjudged>,
    /// What the document refers to outside itself: not judged.
    pub outside: BTreeSet<String>,
    /// What the source's document names, and the target's does not.
    pub unnamed: BTreeSet<Kind>,
    /// Who fits the source's document and not the target's.
    pub unfit: Tally,
    /// Where it refuses them.
    pub refused: BTreeMap<String, u64>,
    /// How many fit neither.
    pub unfit_before: u64,
    /// Who loses what at the next save.
    pub lost: BTreeMap<Kind, Tally>,
    /// Who would get what somebody else has: saving fails.
    pub taken: Tally,
}

impl Effect {
    /// Counts one identity: what is kept for it, and what both documents make of its traits.
    pub(super) fn add(&mut self, id: &str, kept: &BTreeSet<Use>, old: Option<&Judged>, new: &Judged) {
        if !new.refused.is_empty() {
            let before = old.is_some_and(|old| !old.refused.is_empty()) || self.change == Change::None;
            if before {
                self.unfit_before += 1;
                return;
            }
            self.unfit.add(id);
            for place in &new.refused {
                *self.refused.entry(place.clone()).or_default() += 1;
            }
            return;
        }
        if self.change == Change::None {
            return;
        }
        let anyway = old.map(|old| losses(kept, old)).unwrap_or_default();
        let lost: BTreeSet<Kind> =
            losses(kept, new).into_iter().filter(|lost| !anyway.contains(lost)).map(|(kind, _)| kind).collect();
        for kind in lost {
            self.lost.entry(kind).or_default().add(id);
        }
    }

    /// Counts an identity that would get what somebody else has: it cannot be saved, so it loses nothing.
    pub(super) fn add_taken(&mut self, id: &str) {
        self.taken.add(id);
    }

    /// Logins would fail that do not fail already: only known where the source's own document was judged too.
    pub fn breaks_logins(&self) -> bool {
        self.change == Change::Changed && self.lost.keys().any(|kind| kind.purpose == Purpose::Identifier)
    }

    /// A person should know.
    pub fn is_worth_knowing(&self) -> bool {
        !self.lost.is_empty()
            || self.unfit.count > 0
            || self.taken.count > 0
            || !self.unnamed.is_empty()
            || !self.outside.is_empty()
            || self.unjudged.is_some()
            || self.is_unknown()
    }

    /// The document is another one, and what it does to anybody is not known: nobody could be judged.
    pub fn is_unknown(&self) -> bool {
        self.change != Change::None && self.unjudged.is_none() && self.nobody_was_judged()
    }

    fn nobody_was_judged(&self) -> bool {
        self.read.count <= self.unread && (self.read.count > 0 || !self.read.all)
    }

    /// All of it in one clause. No traits.
    pub fn describe(&self) -> String {
        let schema = &self.schema;
        if let Some(why) = &self.unjudged {
            return format!("{schema}: the target's document cannot be judged, {why}");
        }
        let mut said = Vec::new();
        for (kind, tally) in &self.lost {
            let what = word(kind);
            said.push(format!("{} lose {what} when they are saved next{}", tally.count, tally.such_as()));
        }
        if self.unfit.count > 0 {
            let (unfit, such_as) = (self.unfit.count, self.unfit.such_as());
            said.push(format!("{unfit} cannot be saved any more, refused by {}{such_as}", self.places()));
        }
        if self.taken.count > 0 {
            let such_as = self.taken.such_as();
            said.push(format!(
                "{} cannot be saved, because somebody else has what they would get{such_as}",
                self.taken.count
            ));
        }
        for kind in &self.unnamed {
            said.push(format!("no trait is {}", of_a_trait(kind)));
        }
        if !self.outside.is_empty() {
            let more = self.outside.len().saturating_sub(PLACES);
            let mut outside: Vec<String> = self.outside.iter().take(PLACES).cloned().collect();
            outside.extend((more > 0).then(|| format!("{more} more places")));
            said.push(format!("it refers to {}, which was not looked at", outside.join(", ")));
        }
        if self.unfit_before > 0 {
            said.push(format!("{} fit it on neither side", self.unfit_before));
        }
        if self.unread > 0 {
            said.push(format!("{} could not be read", self.unread));
        }
        if self.is_unknown() {
            said.push("whom it affects is not known".to_owned());
        }
        if said.is_empty() {
            let nobody = if self.nobody_was_judged() { "nothing changes" } else { "nobody is affected" };
            said.push(nobody.to_owned());
        }
        if self.is_worth_knowing() && !self.is_unknown() && matches!(self.change, Change::Unjudged | Change::Unknown) {
            said.push("what of this changes for them is not known".to_owned());
        }
        let document = match self.change {
            Change::None => "the same document",
            Change::Changed => "another document",
            Change::Unjudged => "another document, the source's cannot be judged",
            Change::Unknown => "the source did not show its document",
        };
        format!("{schema} ({document}, {}): {}", self.read, said.join("; "))
    }

    /// The places that refuse most.
    fn places(&self) -> String {
        let mut places: Vec<(&String, &u64)> = self.refused.iter().collect();
        places.sort_by_key(|(place, count)| (std::cmp::Reverse(**count), (*place).clone()));
        let more = places.len().saturating_sub(PLACES);
        let mut named: Vec<String> =
            places.iter().take(PLACES).map(|(place, count)| format!("{place} of the document ({count})")).collect();
        if more > 0 {
            named.push(format!("{more} more places"));
        }
        named.join(", ")
    }
}

/// What Kratos takes away when it saves an identity. Nothing when it refuses the traits. Identifiers of a credential
/// stay when the document names none for it; addresses are all taken anew. Seen live with 1.3.1 and 26.2.0.
fn losses(kept: &BTreeSet<Use>, judged: &Judged) -> BTreeSet<Use> {
    if !judged.refused.is_empty() {
        return BTreeSet::new();
    }
    let replaced = |kind: &Kind| kind.purpose != Purpose::Identifier || judged.uses.iter().any(|(new, _)| new == kind);
    kept.iter().filter(|kept| replaced(&kept.0) && !judged.uses.contains(*kept)).cloned().collect()
}

fn word(kind: &Kind) -> String {
    let by = &kind.by;
    match kind.purpose {
        Purpose::Identifier => format!("what they log in by ({by})"),
        Purpose::Recovery => format!("their recovery address by {by}"),
        Purpose::Verification => format!("their verifiable address by {by}"),
    }
}

fn of_a_trait(kind: &Kind) -> String {
    let by = &kind.by;
    match kind.purpose {
        Purpose::Identifier => format!("an identifier ({by}) any more, so nobody new can log in by one"),
        Purpose::Recovery => format!("a recovery address by {by} any more"),
        Purpose::Verification => format!("a verifiable address by {by} any more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(of: &[(Purpose, &str, &str)]) -> BTreeSet<Use> {
        of.iter().map(|(purpose, by, value)| (Kind::new(purpose.clone(), by), (*value).to_owned())).collect()
    }

    fn takes(of: &[(Purpose, &str, &str)]) -> Judged {
        Judged { uses: uses(of), ..Judged::default() }
    }

    fn refuses() -> Judged {
        Judged { refused: BTreeSet::from(["/properties/traits/required".to_owned()]), ..Judged::default() }
    }

    use Purpose::{Identifier, Recovery, Verification};

    const MAIL: &[(Purpose, &str, &str)] =
        &[(Identifier, "password", "a@b"), (Recovery, "email", "a@b"), (Verification, "email", "a@b")];

    /// Kept, the old document's judgement, the new one's, and what is lost by the change.
    #[test]
    fn what_is_lost_by_a_change() {
        let no_identifier: &[_] = &[(Recovery, "email", "a@b"), (Verification, "email", "a@b")];
        let by_name: &[_] =
            &[(Identifier, "password", "ann"), (Recovery, "email", "a@b"), (Verification, "email", "a@b")];
        let table = [
            ("the same", Some(takes(MAIL)), takes(MAIL), ""),
            ("no identifier named: what is there stays", Some(takes(MAIL)), takes(no_identifier), ""),
            ("another identifier", Some(takes(MAIL)), takes(by_name), "password"),
            ("the old one takes the same", Some(takes(MAIL)), takes(by_name), "password"),
            ("no address any more", Some(takes(MAIL)), takes(&MAIL[..1]), "email email"),
            ("lost under the old one anyway", Some(takes(by_name)), takes(by_name), ""),
            ("the old one saved nothing", Some(refuses()), takes(by_name), "password"),
            ("the new one saves nothing", Some(takes(MAIL)), refuses(), ""),
        ];
        for (what, old, new, wanted) in table {
            let mut effect = Effect { change: Change::Changed, ..Effect::default() };
            effect.add("1", &uses(MAIL), old.as_ref(), &new);
            let lost: Vec<&str> = effect.lost.keys().map(|kind| kind.by.as_str()).collect();
            assert_eq!(lost.join(" "), wanted, "{what}");
            assert_eq!(effect.unfit.count, u64::from(!new.refused.is_empty()), "{what}");
            assert_eq!(effect.breaks_logins(), wanted == "password", "{what}");
        }
    }

    /// Logins that are lost under the target's document are lost by the change only where the source's was judged too.
    #[test]
    fn without_the_old_document_nothing_is_refused() {
        let by_name = takes(&[(Identifier, "password", "ann")]);
        let table = [
            (Change::Changed, Some(takes(MAIL)), (true, true), ""),
            (Change::Unjudged, None, (false, true), "v0 (another document, the source's cannot be judged, "),
            (Change::Unknown, None, (false, true), "v0 (the source did not show its document, "),
            (Change::None, None, (false, false), ""),
        ];
        for (change, old, wanted, words) in table {
            let read = Read { count: 1, all: true };
            let mut effect = Effect { schema: "v0".to_owned(), change, read, ..Effect::default() };
            effect.add("1", &uses(MAIL), old.as_ref(), &by_name);
            assert_eq!((effect.breaks_logins(), effect.is_worth_knowing()), wanted, "{change:?}");
            let said = effect.describe();
            assert!(said.starts_with(words), "{said}");
            assert_eq!(said.ends_with("what of this changes for them is not known"), !words.is_empty(), "{said}");
        }
    }

    /// Change, how many were looked at, whether those were all, how many could not be read; whether a person should know.
    #[test]
    fn nobody_looked_at_is_not_nobody_affected() {
        for (change, count, all, unread, wanted) in [
            (Change::Changed, 0, false, 0, true),
            (Change::Unjudged, 0, false, 0, true),
            (Change::Unknown, 0, false, 0, true),
            (Change::Changed, 3, true, 3, true),
            (Change::None, 0, false, 0, false),
            (Change::Changed, 0, true, 0, false),
            (Change::Changed, 3, true, 2, false),
            (Change::Changed, 3, false, 0, false),
        ] {
            let read = Read { count, all };
            let effect = Effect { change, read, unread, ..Effect::default() };
            let case = format!("{change:?} {read} {unread}: {}", effect.describe());
            assert_eq!((effect.is_worth_knowing(), effect.is_unknown()), (wanted, wanted), "{case}");
            assert!(!wanted || !effect.describe().contains("nobody is affected"), "{case}");
        }
        let unjudged = Some(Unjudged::TooEntangled);
        let effect = Effect { change: Change::Changed, unjudged, ..Effect::default() };
        assert!(effect.is_worth_knowing() && !effect.is_unknown() && !effect.breaks_logins());
        assert!(effect.describe().contains("cannot be judged, because its references"), "{}", effect.describe());
    }

    #[test]
    fn what_does_not_come_from_a_change_is_no_reason() {
        let mut same = Effect { change: Change::None, ..Effect::default() };
        same.add("1", &uses(MAIL), None, &refuses());
        same.add("2", &uses(MAIL), None, &takes(&[]));
        assert_eq!((same.unfit_before, same.is_worth_knowing()), (1, false));
        let read = Read { count: 2, all: true };
        let mut changed = Effect { change: Change::Changed, read, ..Effect::default() };
        changed.add("1", &uses(MAIL), Some(&refuses()), &refuses());
        assert_eq!((changed.unfit_before, changed.is_worth_knowing()), (1, false));
        changed.add("2", &uses(MAIL), Some(&takes(MAIL)), &refuses());
        assert!(changed.is_worth_knowing() && !changed.breaks_logins());
    }

    #[test]
    fn numbers_places_and_ids_are_said_and_no_trait() {
        let mut effect = Effect { schema: "v0".to_owned(), change: Change::Changed, ..Effect::default() };
        effect.read = Read { count: 5000, all: false };
        for id in ["1", "2", "3", "4"] {
            effect.add(id, &uses(MAIL), Some(&takes(MAIL)), &takes(&[(Identifier, "password", "secret name")]));
        }
        effect.add("5", &uses(MAIL), Some(&takes(MAIL)), &refuses());
        let said = effect.describe();
        let wanted = "v0 (another document, a sample of 5000 identities): 4 lose what they log in by (password) when they \
                      are saved next (such as 1, 2, 3); 4 lose their recovery address by email when they are saved next \
                      (such as 1, 2, 3); 4 lose their verifiable address by email when they are saved next (such as 1, 2, \
                      3); 1 cannot be saved any more, refused by /properties/traits/required of the document (1) (such as 5)";
        assert_eq!(said, wanted);
    }
}
