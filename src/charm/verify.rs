//! `verify`: the comparison while the target follows.

use super::actions::lacks;
use super::desk::{Desk, Reply};
use crate::migration::{Failure, State, plan};
use crate::steps::context::{BY_ITSELF, TRYING_AGAIN};
use crate::steps::verify;
use std::collections::BTreeMap;
use std::time::Duration;

/// `verify`: compares while the target follows. Only reads, so it runs here and not in the worker.
pub async fn compare(desk: &Desk<'_>, state: &State, wait: Duration) -> Reply {
    let run = match plan::admit_verify(state) {
        Ok(run) => run,
        Err(refusal) => return Reply::refused(refusal.sentence, desk.command(&refusal.instead)),
    };
    let world = match &desk.gathered.world {
        Ok(world) => world,
        Err(lacking) => return lacks(desk, "verify", lacking),
    };
    let compared = tokio::time::timeout(wait.max(Duration::from_secs(1)), verify::online(world, run)).await;
    match compared {
        Err(_) => Reply::failed(
            format!("cannot verify: the comparison needs more than {} s; give it a longer wait", wait.as_secs()),
            desk.command(&format!("verify wait={}", wait.as_secs() * 4)),
        ),
        Ok(Err(Failure { sentence, .. })) => {
            // Only the worker tries again.
            let asked = [BY_ITSELF, TRYING_AGAIN].iter().fold(sentence, |said, promise| said.replace(promise, ""));
            Reply::failed(world.with_side(&asked), desk.command("verify"))
        }
        Ok(Ok(verdict)) => {
            let more = BTreeMap::from([
                ("rows-verified".to_owned(), verdict.rows_verified.to_string()),
                ("rows-different".to_owned(), verdict.rows_different.to_string()),
            ]);
            if verdict.rows_different > 0 {
                let sentence =
                    format!("cannot trust the copy: {}; run {}", verify::describe(&verdict), desk.command("rollback"));
                return Reply { more, ..Reply::failed(sentence, desk.command("rollback")) };
            }
            Reply {
                outcome: "done",
                message: format!("{} rows compared while following, none differs", verdict.rows_verified),
                next: desk.command(plan::usual_next(state)),
                more,
            }
        }
    }
}
