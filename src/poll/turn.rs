//! When a task or a list is asked next, and how far that has come.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::schedule;

/// What the scheduler keeps of whatever it asks at intervals.
pub(super) struct Turn {
    pub(super) instance_id: Arc<str>,
    /// As in [`Watch::account`](super::Watch::account).
    pub(super) account: usize,
    pub(super) due: Instant,
    pub(super) phase: Phase,
    pub(super) spread: f64,
    /// It was made due together with others; the next beat pulls them apart.
    pub(super) bunched: bool,
    /// In a row.
    pub(super) failures: u32,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for its due time.
    Waiting,
    /// Due, and waiting for others of its account.
    Ready,
    /// Being asked.
    Active,
    /// Being asked, though the answer is not wanted any more.
    Leaving,
}

impl Turn {
    pub(super) fn new(instance_id: &Arc<str>, task_id: &str, account: usize, now: Instant) -> Self {
        Self {
            instance_id: Arc::clone(instance_id),
            account,
            due: now,
            phase: Phase::Waiting,
            spread: schedule::spread(instance_id, task_id),
            bunched: true,
            failures: 0,
        }
    }

    /// Sets the due time; answers it in Unix milliseconds, where it is `now_ms` now.
    pub(super) fn set_due(&mut self, due: Instant, now_ms: i64, now: Instant) -> i64 {
        self.due = due;
        let wait = due.saturating_duration_since(now).as_millis();
        now_ms.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX))
    }

    /// The due time after a jump of the clocks, and whether that has made it due.
    /// What is due or being asked already has no due time to move.
    pub(super) fn after_jump(
        &mut self,
        uncounted: Duration,
        now: Instant,
    ) -> Option<(Instant, bool)> {
        if self.phase != Phase::Waiting {
            return None;
        }
        let (due, is_due) = schedule::after_jump(self.due, now, uncounted, self.spread);
        self.bunched |= is_due;
        Some((due, is_due))
    }
}
