//! The whole runbook on real clusters: the worker, the journal and a person who runs the application's own
//! migration, without Juju. What the emulator adds is tested elsewhere.

mod altered;
mod by_hand;
mod copy_kills;
mod differential;
mod fence_by_hand;
mod half_closed;
mod happy;
mod kills;
mod lease;
mod look;
mod native;
mod planted;
mod restarts;
mod rig;
mod rollback;
mod stall;
mod stopped;
mod way_back;
