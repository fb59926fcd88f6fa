//! What is due of one account, and what is under way for it.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::Item;
use super::turn::{Phase, Turn};

/// When it is due, and what.
pub(super) type Due = (Instant, Item);

#[derive(Default)]
pub(super) struct Account {
    /// Due lists. Reading them does not count as a poll under way: a long one would
    /// keep every task waiting, and each of its requests waits for its turn anyway.
    pub(super) lists: BTreeSet<Due>,
    /// Due tasks that can change, the most overdue first.
    pub(super) ready_active: BTreeSet<Due>,
    /// Due tasks that are finished; these wait for the others.
    pub(super) ready_finished: BTreeSet<Due>,
    /// Polls under way: they may be waiting for the rate limit still.
    polls: usize,
}

impl Account {
    /// What is to begin now, if anything is.
    pub(super) fn begin(&mut self, concurrency: usize) -> Option<Item> {
        if let Some((_, list)) = self.lists.pop_first() {
            return Some(list);
        }
        if self.polls >= concurrency {
            return None;
        }
        let task = self.ready_active.pop_first();
        let (_, task) = task.or_else(|| self.ready_finished.pop_first())?;
        self.polls += 1;
        Some(task)
    }

    /// A poll has ended.
    pub(super) fn poll_ended(&mut self) {
        self.polls = self.polls.saturating_sub(1);
    }

    /// Removes what is due and has not begun; whether it was there.
    pub(super) fn remove_ready(&mut self, due: &Due) -> bool {
        self.ready().into_iter().any(|queue| queue.remove(due))
    }

    fn ready(&mut self) -> [&mut BTreeSet<Due>; 3] {
        [
            &mut self.lists,
            &mut self.ready_active,
            &mut self.ready_finished,
        ]
    }
}

/// Gives what is due or under way for one account to another.
pub(super) fn hand_over(accounts: &mut [Account], to: usize, item: Item, turn: &mut Turn) {
    let from = std::mem::replace(&mut turn.account, to);
    let Ok([from, to]) = accounts.get_disjoint_mut([from, to]) else {
        return;
    };
    let due = (turn.due, item);
    match (turn.phase, item) {
        (Phase::Ready, _) => {
            for (from, to) in from.ready().into_iter().zip(to.ready()) {
                if from.remove(&due) {
                    to.insert(due);
                }
            }
        }
        (Phase::Active | Phase::Leaving, Item::Task(_)) => {
            from.poll_ended();
            to.polls += 1;
        }
        (Phase::Active | Phase::Leaving, Item::List(_)) | (Phase::Waiting, _) => {}
    }
}
