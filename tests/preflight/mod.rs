//! Preflight on real clusters: a good pair, then one fault at a time; a pair without room; the completeness of both.

mod documents;
mod faults;
mod good;
mod names;
mod patroni;
mod poor;
mod rig;
mod variants;

use coordinator::steps::preflight::checks::CHECKS;
use std::collections::BTreeSet;

#[test]
fn every_check_is_made_to_object_by_a_row() {
    let mut rows: Vec<rig::Expected> = faults::all().map(|fault| fault.expected).collect();
    rows.extend(variants::VARIANTS.iter().map(|(_, expected)| *expected));
    rows.extend(variants::IMAGINED.iter().map(|(_, expected)| *expected));
    rows.extend(good::HELD.iter().map(|(_, expected, _)| *expected));
    rows.extend(patroni::SAID.iter().map(|(.., expected)| *expected));
    rows.extend([poor::POOR, poor::STANDBY, poor::ENCRYPTED, poor::ORDER].into_iter().flatten());
    let made: BTreeSet<&str> = rows.iter().map(|row| row.check).collect();
    let never: Vec<&str> = CHECKS.iter().map(|check| check.name).filter(|name| !made.contains(name)).collect();
    assert!(never.is_empty(), "no row makes these object: {never:?}");
}
