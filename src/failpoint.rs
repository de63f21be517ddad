//! Named places at every dangerous edge, where a test may end or stop the process. Only debug builds look;
//! in the packed charm [`reach`] is empty.
//!
//! A test writes the name of one place and what shall happen there into the file `failpoint` of the charm
//! directory (the working directory of hooks and worker). A name that ends with `*` stands for every place that begins
//! like it, but for those that are listed behind. The first process that comes by takes the file away, leaves the
//! place's name in `failpoint.reached`, and does as it was told.

macro_rules! failpoints {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Failpoint = Failpoint($text);)*

        /// Every failpoint.
        pub const ALL: &[Failpoint] = &[$($name),*];
    };
}

/// One place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failpoint(&'static str);

impl Failpoint {
    /// The name, as tests write it.
    pub fn name(self) -> &'static str {
        self.0
    }
}

failpoints! {
    /// Before a record is written into the journal; which one is its label.
    RECORD_BEFORE = "record-before";
    /// After a record was written, before anything follows from it.
    RECORD_AFTER = "record-after";
    /// The target is empty, the slot is not made.
    COPY_TRUNCATED = "copy-truncated";
    /// The slot stands (with the native engine the subscription too), and the journal does not know it.
    COPY_SLOT = "copy-slot";
    /// The native engine's subscription works.
    COPY_NATIVE_ENABLED = "copy-native-enabled";
    /// The snapshot is held; no row has gone yet.
    COPY_SNAPSHOT = "copy-snapshot";
    /// A frame of a table's rows was sent; which one is the table's name and the frame's number in its part.
    COPY_FRAME = "copy-frame";
    /// A part of a table is whole; which one is the table's name.
    COPY_PART = "copy-part";
    /// A table is whole; which one is its name.
    COPY_TABLE = "copy-table";
    /// An index or constraint is about to be built; which one is its name.
    COPY_INDEX = "copy-index";
    /// A foreign key is about to be declared or checked.
    COPY_FOREIGN_KEYS = "copy-foreign-keys";
    /// A repair knows what differs; nothing is written yet.
    REPAIR_FOUND = "repair-found";
    /// What differs in a table is deleted, in a transaction that is still open; which one is the table's name.
    REPAIR_DELETED = "repair-deleted";
    /// What differs in a table is written anew and proven, in a transaction that is still open; which one is the
    /// table's name.
    REPAIR_PROVEN = "repair-proven";
    /// A table is repaired; which one is its name.
    REPAIR_TABLE = "repair-table";
    /// The new slot of a way back that is mended stands.
    MEND_SLOT = "mend-slot";
    /// Its subscription stands too, and the journal does not know it.
    MEND_SUBSCRIPTION = "mend-subscription";
    /// The target is closed again after its own migration, and messages that wait are still held.
    MESSAGES_HELD = "messages-held";
    /// A table is about to get its fence; which one is the table's name. Its generation's row stands already.
    FENCE_TABLE = "fence-table";
    /// The fence's row is locked by the update that closes a side for good, which is not committed.
    FENCE_COMMIT = "fence-commit";
    /// Statistics are about to be gathered; which one is the table's name, or none for all.
    COPY_ANALYZE = "copy-analyze";
    /// A hook or action begins; nothing was asked of Juju yet.
    HOOK_BEGIN = "hook-begin";
    /// A hook has a worker running and sets its status next, the last thing it does.
    HOOK_STATUS = "hook-status";
    /// An action's request stands in the journal; it begins to watch.
    ACTION_WATCH = "action-watch";
    /// A worker was started and told what it needs.
    WORKER_STARTED = "worker-started";
}

/// Does what a test asked for at this place, if one did.
#[inline]
pub fn reach(point: Failpoint) {
    reach_for(point, "");
}

/// As [`reach`], at one of several like places: a test names it `<failpoint>/<which>`.
#[inline]
pub fn reach_for(point: Failpoint, which: &str) {
    #[cfg(debug_assertions)]
    armed::reach(point, which);
    #[cfg(not(debug_assertions))]
    let _unused = (point, which);
}

#[cfg(debug_assertions)]
mod armed {
    use super::Failpoint;
    use rustix::process::{Signal, getpid, kill_process};

    const FILE: &str = "failpoint";
    const TAKEN: &str = "failpoint.taken";
    const REACHED: &str = "failpoint.reached";

    pub fn reach(Failpoint(name): Failpoint, which: &str) {
        let Ok(text) = std::fs::read_to_string(FILE) else { return };
        let mut words = text.split_whitespace();
        let (Some(wanted), Some(what)) = (words.next(), words.next()) else { return };
        let here = if which.is_empty() { name.to_owned() } else { format!("{name}/{which}") };
        let meant = match wanted.strip_suffix('*') {
            Some(begins) => here.starts_with(begins) && words.all(|listed| listed != here),
            None => wanted == here,
        };
        if !meant || std::fs::rename(FILE, TAKEN).is_err() {
            return;
        }
        // Nobody may read half of the name. What cannot be left is missed by the test, and it says so.
        let _left = std::fs::write(TAKEN, here).and_then(|()| std::fs::rename(TAKEN, REACHED));
        let signal = match what {
            "kill" => Signal::KILL,
            "stop" => Signal::STOP,
            _ => return,
        };
        // A signal to ourselves always arrives.
        let _sent = kill_process(getpid(), signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (index, point) in ALL.iter().enumerate() {
            assert!(ALL[index + 1..].iter().all(|other| other != point), "{}", point.name());
        }
    }
}
