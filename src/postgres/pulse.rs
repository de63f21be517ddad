//! Is a server still there? A session whose network swallows everything waits for its answer for ever: the driver
//! knows no limit for a statement, an index may rightly take hours, and the kernel's keepalives see only as far as the
//! next machine that answers for the server (a load balancer, a proxy). So beside every session that lives longer a
//! connection is tried now and then.

use super::server::Server;
use super::tls;
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, LazyLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How often a server that answers is asked.
const EVERY: Duration = Duration::from_secs(5);

/// How long it may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);

/// How soon one that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// So often in a row it may stay silent. With the above a dead connection is known after at most 20 seconds.
const SILENT: u32 = 3;

type Last = Arc<Mutex<Option<(Instant, bool)>>>;

/// What each server answered last: sessions to one server share its answers.
static LAST: LazyLock<std::sync::Mutex<HashMap<(String, u16), Last>>> = LazyLock::new(Default::default);

/// Returns when the server took no connection a few times in a row.
pub(super) async fn stopped(server: &Server, database: &str) {
    let mut silent = 0;
    while silent < SILENT {
        let pause = if silent == 0 { EVERY } else { AGAIN };
        tokio::time::sleep(pause).await;
        silent = if beats(server, database, pause).await { 0 } else { silent + 1 };
    }
}

/// Whether the server answers; an answer that another session got just now is taken.
async fn beats(server: &Server, database: &str, fresh: Duration) -> bool {
    let place = (server.host.clone(), server.port);
    let last = Arc::clone(LAST.lock().unwrap_or_else(PoisonError::into_inner).entry(place).or_default());
    let mut last = last.lock().await;
    if let Some((at, answered)) = *last
        && at.elapsed() < fresh
    {
        return answered;
    }
    let answered = tokio::time::timeout(ANSWERS_WITHIN, answers(server, database)).await.unwrap_or(false);
    *last = Some((Instant::now(), answered));
    answered
}

/// A refusal (the role is gone, there are too many connections, the certificate is another) is an answer too.
async fn answers(server: &Server, database: &str) -> bool {
    let Ok(connector) = tls::connector(server) else { return true };
    match server.config(database, "pulse").connect(connector).await {
        Ok((client, connection)) => {
            // The client's end lets the connection say good-bye.
            drop(client);
            connection.await.is_ok()
        }
        Err(error) => {
            let refused_by_tls = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
            error.as_db_error().is_some()
                || refused_by_tls.is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData)
        }
    }
}
