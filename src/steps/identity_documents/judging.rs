//! Documents and people are judged on a thread of its own: a document may take very long for one person, and neither a
//! hook nor the worker's other tasks wait for that.

use super::rows::Person;
use crate::apps::identity_schema::{Document, Judged, Use};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// Documents and traits may be nested deeply.
const STACK: usize = 16 << 20;

/// The documents of one identity schema.
pub struct Documents {
    /// The source's, where it is another one that can be judged.
    pub old: Option<Document>,
    /// The target's.
    pub new: Document,
}

/// What both documents make of one identity.
pub struct Verdict {
    /// Its id.
    pub id: String,
    /// What the database keeps for it.
    pub kept: BTreeSet<Use>,
    /// What the source's document makes of it.
    pub old: Option<Judged>,
    /// What the target's does.
    pub new: Judged,
}

/// What became of a batch.
#[derive(Default)]
pub struct Verdicts {
    /// Who was judged.
    pub judged: Vec<Verdict>,
    /// How many have traits that could not be read.
    pub unread: u64,
}

/// Judges a batch; `None` when that was not done in time.
pub async fn judge(documents: &Arc<Documents>, people: Vec<Person>, until: Instant) -> Option<Verdicts> {
    let documents = Arc::clone(documents);
    in_time(until, move || batch(&documents, people, until)).await.flatten()
}

fn batch(documents: &Documents, people: Vec<Person>, until: Instant) -> Option<Verdicts> {
    let mut verdicts = Verdicts::default();
    for Person { id, traits, kept } in people {
        if Instant::now() >= until {
            return None;
        }
        let Some(traits) = traits else {
            verdicts.unread += 1;
            continue;
        };
        let old = documents.old.as_ref().map(|old| old.judge(traits.clone()));
        verdicts.judged.push(Verdict { id, kept, old, new: documents.new.judge(traits) });
    }
    Some(verdicts)
}

/// Works until then; `None` when it was not done. A thread and no task of the runtime, which would wait for it at its end:
/// it is left behind, and stops at the next person or with the process.
pub async fn in_time<T: Send + 'static>(until: Instant, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    let work = move || drop(done.send(work()));
    if let Err(error) = std::thread::Builder::new().name("judge".to_owned()).stack_size(STACK).spawn(work) {
        log::warn!("no thread to judge identity schemas on: {error}");
        return None;
    }
    tokio::time::timeout_at(until.into(), result).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn person(id: &str) -> Person {
        Person { id: id.to_owned(), traits: Some(json!({})), kept: BTreeSet::new() }
    }

    /// As in a hook: a runtime of one thread, which also has to end.
    #[test]
    fn what_spins_is_left_behind() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let began = Instant::now();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let until = began + Duration::from_millis(100);
        let never = runtime.block_on(in_time(until, move || stopped.recv().is_ok()));
        drop(runtime);
        assert_eq!(never, None);
        assert!(began.elapsed() < Duration::from_secs(30));
        drop(stop);
    }

    #[test]
    fn a_batch_ends_with_the_time() {
        let new = || Document::read(&json!({"properties": {"traits": {"type": "object"}}})).unwrap();
        let documents = Documents { old: None, new: new() };
        let unread = Person { traits: None, ..person("2") };
        let soon = Instant::now() + Duration::from_secs(600);
        let verdicts = batch(&documents, vec![person("1"), unread], soon).unwrap();
        assert_eq!((verdicts.judged.len(), verdicts.unread), (1, 1));
        assert!(batch(&documents, vec![person("1")], Instant::now()).is_none());
    }
}
