//! The proof that two databases never took writes at the same time, from what clients saw and the servers' own order
//! of commits.
//!
//! Each accepted write has three times: when its commit was sent and when it was answered, by the clients' one clock,
//! and when the server committed it, by the servers' clock (both run on one machine). Sorted by the last, the writes
//! must fall into as many stretches as there were turns, each on one side; and whatever a client knew for certain must
//! agree: no write of an earlier stretch was sent after one of a later stretch had been answered.

use std::time::Instant;

/// One accepted write.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Which database took it.
    pub side: usize,
    /// When its commit was sent.
    pub sent: Instant,
    /// When it was answered.
    pub answered: Instant,
    /// The server's time of the commit, in microseconds.
    pub committed: Option<i64>,
    /// For people.
    pub what: String,
}

/// What speaks against the sides having taken turns in this order; empty when it is proved. A turn may be without a
/// write.
pub fn both_open(accepted: &[Accepted], turns: &[usize]) -> Vec<String> {
    let mut found: Vec<String> = accepted
        .iter()
        .filter(|write| write.committed.is_none())
        .map(|write| format!("{}: its server does not know when it was committed", write.what))
        .collect();
    let mut sorted: Vec<&Accepted> = accepted.iter().filter(|write| write.committed.is_some()).collect();
    sorted.sort_by_key(|write| write.committed);
    let mut turn = 0;
    // The turn that each write belongs to; one that belongs to none is a finding.
    let mut placed: Vec<(usize, &Accepted)> = Vec::new();
    for write in sorted {
        match (turn..turns.len()).find(|at| turns[*at] == write.side) {
            Some(at) => {
                turn = at;
                placed.push((at, write));
            }
            None => found.push(format!("side {} took {} when it was over there", write.side, write.what)),
        }
    }
    for later in 1..turns.len() {
        let first = placed.iter().filter(|(turn, _)| *turn >= later).min_by_key(|(_, write)| write.answered);
        let last = placed.iter().filter(|(turn, _)| *turn < later).max_by_key(|(_, write)| write.sent);
        if let (Some((_, first)), Some((_, last))) = (first, last)
            && first.answered < last.sent
        {
            found.push(format!(
                "side {} answered {} {:?} before side {} was asked for {}",
                first.side,
                first.what,
                last.sent - first.answered,
                last.side,
                last.what
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Writes by side and commit time; each was sent a moment before and answered a moment after.
    fn writes(commits: &[(usize, u64)]) -> Vec<Accepted> {
        let origin = Instant::now();
        let write = |&(side, at): &(usize, u64)| Accepted {
            side,
            sent: origin + Duration::from_millis(at),
            answered: origin + Duration::from_millis(at + 2),
            committed: Some(i64::try_from(at * 1000 + 1000).unwrap()),
            what: format!("{side}@{at}"),
        };
        commits.iter().map(write).collect()
    }

    #[test]
    fn turns_in_order_are_proved() {
        let there_and_back = writes(&[(0, 0), (0, 5), (1, 10), (1, 20), (0, 30)]);
        assert_eq!(both_open(&there_and_back, &[0, 1, 0]), Vec::<String>::new());
        assert_eq!(both_open(&there_and_back[..2], &[0, 1, 0]), Vec::<String>::new());
        assert_eq!(both_open(&writes(&[(1, 3)]), &[0, 1]), Vec::<String>::new());
        assert_eq!(both_open(&[], &[0]), Vec::<String>::new());
    }

    #[test]
    fn a_write_on_the_other_side_is_found() {
        assert_eq!(both_open(&writes(&[(0, 0), (1, 10), (0, 20)]), &[0, 1]).len(), 1);
        assert_eq!(both_open(&writes(&[(0, 0), (1, 10), (0, 20), (1, 30)]), &[0, 1, 0]).len(), 1);
        assert_eq!(both_open(&writes(&[(0, 0), (1, 10)]), &[0]).len(), 1);
    }

    #[test]
    fn clients_that_contradict_the_servers_clocks_are_found() {
        let mut writes = writes(&[(0, 0), (1, 10)]);
        writes[0].sent += Duration::from_millis(50);
        writes[0].answered += Duration::from_millis(50);
        assert_eq!(both_open(&writes, &[0, 1]).len(), 1);
        writes[1].committed = None;
        assert_eq!(both_open(&writes, &[0, 1]).len(), 1);
    }
}
