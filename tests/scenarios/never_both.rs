//! Whether both sides ever take writes at once.

use emulator::stage::Stage;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Looks all the time, from when the target's own schema migration is over, whether both sides take writes at once.
pub struct NeverBoth {
    ends: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<anyhow::Result<u32>>,
}

impl NeverBoth {
    pub fn watch(stage: &Stage) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (inside, source, target) = (Arc::clone(&ends), stage.source_uri(), stage.target_uri());
        let watching = async move {
            let source = peers::cluster::connect(&source).await?;
            let target = peers::cluster::connect(&target).await?;
            let mut looks = 0;
            while !inside.load(Ordering::Relaxed) {
                // Open before and after the other one was: then both were open at that moment.
                let both = takes(&source).await? && takes(&target).await? && takes(&source).await?;
                // A target that a rollback left is nobody's; this goes first of all that closed it.
                let left = "SELECT NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = $1)";
                if both && !target.query_one(left, &[&"identity_migration_fence_new_tables"]).await?.get::<_, bool>(0) {
                    anyhow::bail!(
                        "both sides take writes: the source's fence is {}, the target's {}",
                        fence(&source).await?,
                        fence(&target).await?
                    );
                }
                looks += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(looks)
        };
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(watching)
        });
        Self { ends, thread }
    }

    pub fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        let looks = self.thread.join().unwrap().unwrap();
        eprintln!("both sides were never open in {looks} looks");
        assert!(looks > 0);
    }
}

/// The generations, their states, and the triggers on one table.
async fn fence(client: &tokio_postgres::Client) -> anyhow::Result<String> {
    let look = "SELECT clock_timestamp()::text, (SELECT string_agg(f::text, ' ' ORDER BY number) FROM identity_migration.fence f),
                (SELECT string_agg(pg_get_triggerdef(oid), '; ') FROM pg_trigger
                 WHERE tgrelid = 'public.identities'::regclass AND NOT tgisinternal)";
    let row = client.query_one(look, &[]).await?;
    let text = |column| row.get::<_, Option<String>>(column).unwrap_or_default();
    Ok(format!("{} {} {}", text(0), text(1), text(2)))
}

/// Whether a writer would be heard; a statement is refused by the fence even when it touches no row.
async fn takes(client: &tokio_postgres::Client) -> anyhow::Result<bool> {
    match client.batch_execute("UPDATE public.identities SET nid = nid WHERE false").await {
        Ok(()) => Ok(true),
        Err(error) if error.as_db_error().is_some_and(|db| db.message().contains("to another server")) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
