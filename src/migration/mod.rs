//! The heart: phases, the journal, the runbooks and the plan. No I/O and no clock;
//! everything here is a pure function of values, tested without a process or a socket.

pub mod errand;
mod failure;
pub mod goal;
pub mod journal;
pub mod phase;
pub mod plan;
pub mod progress;
pub mod rehearsal;
pub mod replay;
pub mod runbook;
pub mod settings;
pub mod step_state;
pub mod traffic;

pub use errand::Errand;
pub use failure::{Class, Failure};
pub use goal::Goal;
pub use journal::{Entry, IN_PLACE, LocalCharm, Record, Request, Side};
pub use phase::Phase;
pub use plan::Next;
pub use progress::{Progress, Waiting};
pub use rehearsal::Rehearsed;
pub use replay::{DIFFERED, Run, State};
pub use runbook::{Order, Step};
pub use settings::{BackupGates, Engine, OrderChoice, Settings, Verification};
pub use step_state::{Kind, Status};
pub use traffic::Traffic;
