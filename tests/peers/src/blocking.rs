//! Asynchronous work for callers that may or may not be in a runtime of their own.

use std::future::Future;

/// Runs a future to its end on a thread and a runtime of its own.
pub fn blocking<T: Send>(future: impl Future<Output = anyhow::Result<T>> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let work = scope.spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future));
        work.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
    })
}
