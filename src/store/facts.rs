//! What most series are made of, copied together. A page is written family by
//! family, each over all tasks: entries lie all over the memory, and to look
//! each of them up once a family costs more than to write its line.

use crate::model::{Cause, Outcome, Summary, TaskStatus};

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
    /// Why it failed, where the data is fresh and says so.
    pub cause: Option<Cause>,
}

impl TaskFacts {
    pub(super) fn new(entry: &TaskEntry, data: Option<Summary>) -> Self {
        Self {
            up: entry.up(),
            last_poll_ms: entry.last_poll_ms,
            last_success_ms: entry.last_success_ms,
            interval_ms: i64::try_from(entry.interval.as_millis()).unwrap_or(i64::MAX),
            cause: entry.cause.filter(|_| data.is_some()),
            data,
        }
    }
}

/// What the numbers of a subscription's series are.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionFacts {
    /// Since when it exists, Unix milliseconds.
    pub created_ms: Option<i64>,
    /// The newest run, where it is known well enough.
    pub last_run: Option<RunFacts>,
    /// The newest finished run, likewise.
    pub last_finished_run: Option<FinishedRunFacts>,
    /// Failed runs since the last succeeded one, likewise.
    pub consecutive_failed_runs: Option<u32>,
    /// When the newest success ended, Unix milliseconds.
    pub last_success_ms: Option<i64>,
    /// Median time between the starts of its recent runs.
    pub typical_run_interval_ms: Option<i64>,
    /// Finished runs.
    pub runs: u64,
    /// Failed ones among them.
    pub failures: u64,
}

impl SubscriptionFacts {
    pub(super) fn new(entry: &SubscriptionEntry, fresh: bool, counts: &Counts) -> Self {
        let last_run = entry.last_run.as_ref().filter(|_| fresh);
        let last_finished_run = entry.last_finished_run.as_ref().filter(|_| fresh);
        Self {
            created_ms: entry.created_ms,
            last_run: last_run.map(RunFacts::new),
            last_finished_run: last_finished_run.map(FinishedRunFacts::new),
            consecutive_failed_runs: fresh.then_some(entry.consecutive_failed_runs),
            last_success_ms: entry.last_success_ms,
            typical_run_interval_ms: entry.typical_run_interval_ms,
            runs: counts.runs,
            failures: counts.failures,
        }
    }
}

/// What the numbers of the newest run are.
#[derive(Clone, Copy, Debug)]
pub struct RunFacts {
    /// The status derived from rows and task.
    pub status: TaskStatus,
    /// When it started, Unix milliseconds.
    pub start_ms: Option<i64>,
    /// Tags of the source.
    pub source_tags: Option<i64>,
    /// Tags that the subscription selects.
    pub selected_tags: Option<i64>,
}

impl RunFacts {
    fn new(run: &RunSummary) -> Self {
        Self {
            status: run.status,
            start_ms: run.start_ms,
            source_tags: run.info.source_tags,
            selected_tags: run.info.selected_tags,
        }
    }
}

/// What the numbers of the newest finished run are.
#[derive(Clone, Copy, Debug)]
pub struct FinishedRunFacts {
    /// The status derived from rows and task.
    pub status: TaskStatus,
    /// Why it failed, of a failed run.
    pub cause: Option<Cause>,
    /// When it ended, Unix milliseconds.
    pub end_ms: Option<i64>,
    /// End − start.
    pub duration_ms: Option<i64>,
    /// Its artifacts in the order of [`Outcome::ALL`], where its rows were read.
    pub artifacts: Option<[u32; Outcome::ALL.len()]>,
}

impl FinishedRunFacts {
    fn new(run: &RunSummary) -> Self {
        Self {
            status: run.status,
            cause: run.cause,
            end_ms: run.end_ms,
            duration_ms: run.duration_ms,
            artifacts: run.artifacts,
        }
    }
}
