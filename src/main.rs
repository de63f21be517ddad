//! Chooses a face: what Juju starts (a hook or an action), or the detached worker.

use coordinator::{charm, worker};
use std::process::ExitCode;

fn main() -> ExitCode {
    let as_worker = std::env::args().nth(1).is_some_and(|argument| argument == worker::control::WORKER_ARGUMENT);
    let result = if as_worker { worker::main() } else { charm::main() };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // An action shows this to the operator; a hook's goes to the unit's log.
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
