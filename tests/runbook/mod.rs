//! The whole runbook on real clusters: the worker, the journal and a person who runs the application's own
//! migration, without Juju. What the emulator adds is tested elsewhere.

mod altered;
mod by_hand;
mod by_hand_elsewhere;
mod copy_kills;
mod differential;
mod failover;
mod fence_by_hand;
mod half_closed;
mod happy;
mod harness;
mod hydra;
mod lease;
mod left_alone;
mod look;
mod mend;
mod messages;
mod native;
mod neighbours;
mod ory_matrix;
mod planted;
mod refreshed;
mod repair;
mod restarts;
mod rig;
mod rollback;
mod room;
mod same_release;
mod schemas;
mod servers;
mod stall;
mod stopped;
mod unknown;
mod walk;
mod way_back;
