//! The real binary on real clusters, driven by a model emulator.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod apps;
mod architecture;
mod catalogs;
mod chaos;
mod charm_files;
mod compare;
mod controller;
mod drain;
mod emulator_replay;
mod emulator_rules;
mod fence;
mod index;
mod lease;
mod messages;
mod postgres;
mod preflight;
mod roads;
mod runbook;
mod scenarios;
