//! What most series are made of, copied together. A page is written family by
//! family, each over all tasks: entries lie all over the memory, and to look
//! each of them up once a family costs more than to write its line.

use crate::model::Summary;
use crate::model::TaskStatus;

use super::{Counts, RunSummary, SubscriptionEntry, TaskEntry};

/// What the numbers of a task's series are.
#[derive(Clone, Copy, Debug)]
pub struct TaskFacts {
    /// Whether the last finished poll gave usable rows; `None` before the first.
    pub up: Option<bool>,
    /// End of the last finished poll, Unix milliseconds.
    pub last_poll_ms: Option<i64>,
    /// End of the last successful poll, Unix milliseconds.
    pub last_success_ms: Option<i64>,
    /// The interval in force, milliseconds.
    pub interval_ms: i64,
    /// Its data, where it is fresh.
    pub data: Option<Summary>,
}

impl TaskFacts {
    pub(super) fn new(entry: &TaskEntry, data: Option<Summary>) -> Self {
        Self {
            up: entry.up(),
            last_poll_ms: entry.last_poll_ms,
            last_success_ms: entry.last_success_ms,
            interval_ms: i64::try_from(entry.interval.as_millis()).unwrap_or(i64::MAX),
            data,
        }
    }
}

/// What the numbers of a subscription's series are.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionFacts {
    /// When its oldest rule was made, Unix milliseconds.
    pub created_ms: Option<i64>,
    /// The newest run, where it is known well enough.
    pub last_run: Option<RunFacts>,
    /// The newest finished run, likewise.
    pub last_finished_run: Option<RunFacts>,
    /// Failed runs since the last succeeded one, likewise.
    pub consecutive_failed_runs: Option<u32>,
    /// When the newest success ended, Unix milliseconds.
    pub last_success_ms: Option<i64>,
    /// Finished runs.
    pub runs: u64,
    /// Failed ones among them.
    pub failures: u64,
}

impl SubscriptionFacts {
    pub(super) fn new(entry: &SubscriptionEntry, fresh: bool, counts: &Counts) -> Self {
        let known = |run: &Option<RunSummary>| run.as_ref().filter(|_| fresh).map(RunFacts::new);
        Self {
            created_ms: entry.created_ms(),
            last_run: known(&entry.last_run),
            last_finished_run: known(&entry.last_finished_run),
            consecutive_failed_runs: fresh.then_some(entry.consecutive_failed_runs),
            last_success_ms: entry.last_success_ms,
            runs: counts.runs,
            failures: counts.failures,
        }
    }
}

/// What the numbers of a run are.
#[derive(Clone, Copy, Debug)]
pub struct RunFacts {
    /// How it stands.
    pub status: TaskStatus,
    /// When it began, Unix milliseconds.
    pub start_ms: Option<i64>,
    /// End − start of a finished run.
    pub duration_ms: Option<i64>,
    /// How many tags it is about.
    pub tags_total: Option<i64>,
    /// How many of them are synchronised.
    pub tags_synced: Option<i64>,
}

impl RunFacts {
    fn new(run: &RunSummary) -> Self {
        Self {
            status: run.status,
            start_ms: run.start_ms,
            duration_ms: run.duration_ms,
            tags_total: run.tags_total,
            tags_synced: run.tags_synced,
        }
    }
}
