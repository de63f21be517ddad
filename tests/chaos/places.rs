//! The places of `src/failpoint.rs` at which rounds let something go wrong, by leg and in the order in which they are
//! met.

use super::plan::Leg;

/// Where the worker comes by.
pub fn of_worker(leg: Leg, native: bool) -> &'static [&'static str] {
    match leg {
        Leg::Follow if native => &[
            "record-before/run-started",
            "record-after/started/preflight",
            "record-after/started/prepare",
            "record-after/started/copy",
            "copy-truncated",
            "copy-slot",
            "copy-native-enabled",
            "record-before/done/copy",
            "record-after/started/follow",
            "record-before/done/follow",
        ],
        Leg::Follow => &[
            "record-before/run-started",
            "record-after/started/preflight",
            "record-after/started/prepare",
            "record-before/done/prepare",
            "record-after/started/copy",
            "record-before/noted/copy/definitions",
            "copy-truncated",
            "copy-slot",
            "record-after/noted/copy/slot",
            "copy-snapshot",
            "copy-part/identities",
            "copy-table/chaos_keyless",
            "copy-index/sessions_pkey",
            "copy-foreign-keys",
            "record-before/done/copy",
            "record-after/started/follow",
            "record-before/done/follow",
        ],
        Leg::Migrate => &[
            "record-after/started/pause",
            "record-before/done/pause",
            "record-after/started/migrate",
            "record-before/noted/migrate/opened-at",
            "record-after/noted/migrate/opened-at",
            "record-before/done/migrate",
            "record-after/started/catch-up",
            "record-before/done/catch-up",
            "record-after/started/gates",
            "record-before/done/gates",
        ],
        Leg::Drain => &[
            "record-after/started/way-back",
            "record-before/done/way-back",
            "record-after/started/fence",
            "record-after/noted/fence/generation",
            "fence-table/identities",
            "fence-table/chaos_keyless",
            "record-before/done/fence",
            "record-after/started/drain",
            "record-before/done/drain",
            "record-after/started/snapshot",
            "record-before/done/snapshot",
        ],
        Leg::Flip => &[
            "record-after/started/hand-over",
            "record-after/noted/hand-over/closing-source",
            "fence-commit",
            "record-before/noted/hand-over/source-closed",
            "record-after/noted/hand-over/source-closed",
            "record-after/noted/hand-over/opening-target",
            "record-before/done/hand-over",
            "record-after/started/flip",
            "record-before/done/flip",
            "record-after/started/follow-back",
            "record-before/done/follow-back",
        ],
        Leg::Undo => &[
            "record-after/rollback-started",
            "record-after/undo-started/fence",
            "record-after/undo-started/way-back",
            "record-after/undo-started/migrate",
            "record-before/undone/migrate",
            "record-after/undo-started/follow",
            "record-after/undo-started/copy",
            "record-before/undone/copy",
            "record-after/undo-started/prepare",
            "record-before/undone/prepare",
        ],
        Leg::Return => &[
            "record-after/started/reverse-fence",
            "record-after/noted/reverse-fence/generation",
            "record-before/done/reverse-fence",
            "record-after/started/reverse-drain",
            "record-before/done/reverse-drain",
            "record-after/started/reverse-verify",
            "record-after/started/reverse-hand-over",
            "record-after/noted/reverse-hand-over/closing-target",
            "fence-commit",
            "record-after/noted/reverse-hand-over/opening-source",
            "record-before/done/reverse-hand-over",
            "record-after/started/reverse-flip",
            "record-after/rollback-started",
            "record-after/undo-started/migrate",
            "record-after/undo-started/copy",
            "record-after/undo-started/prepare",
        ],
        Leg::Finalize => &["record-after/started/finalize", "record-before/done/finalize", "record-before/run-ended"],
    }
}

/// Where the leg's action comes by.
pub fn of_action(leg: Leg) -> &'static [&'static str] {
    match leg {
        Leg::Follow => &["hook-begin", "record-before/requested/replicate", "record-after/requested/replicate"],
        Leg::Migrate => {
            &["hook-begin", "record-before/requested/run-migration", "record-after/requested/run-migration"]
        }
        Leg::Drain => &["hook-begin", "record-before/requested/drain", "record-after/requested/drain"],
        // Whichever of the two is run.
        Leg::Flip => &["hook-begin", "action-watch", "record-before/brokered", "record-after/brokered"],
        Leg::Undo => &["hook-begin", "record-before/requested/rollback", "record-after/requested/rollback"],
        Leg::Return => &[
            "hook-begin",
            "record-before/requested/rollback",
            "record-after/requested/rollback",
            "record-before/brokered",
            "record-after/brokered",
        ],
        Leg::Finalize => &["hook-begin", "record-before/requested/finalize", "record-after/requested/finalize"],
    }
}

/// Where every hook comes by.
pub fn of_hooks() -> &'static [&'static str] {
    &["hook-begin", "hook-status"]
}
