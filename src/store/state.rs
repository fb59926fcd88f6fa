//! What survives a restart, as plain data: [`State`]. The poller makes it and
//! takes it back; how it becomes a file is below.

use std::sync::Arc;

use crate::model::{Rule, Subscription, TaskInfo, TaskStatus};

use super::{Counts, TaskEntry};

/// Everything known and counted at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Tasks that are polled, whether they are shown or not.
    pub tasks: Vec<SavedTask>,
    /// Followed instances.
    pub instances: Vec<SavedInstance>,
}

/// One polled task.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedTask {
    /// What is known of it.
    pub entry: Arc<TaskEntry>,
    /// The task itself was asked for after its last row had finished.
    pub asked_finished: bool,
}

/// One followed instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedInstance {
    /// `cri-…`
    pub instance_id: Arc<str>,
    /// When both lists were last read, Unix milliseconds.
    pub last_success_ms: Option<i64>,
    /// When the task list was last read to its end; `None` until it was once,
    /// and everything in it is then taken for old.
    pub last_whole_ms: Option<i64>,
    /// Whether the task list is known to be newest first.
    pub newest_first: Option<bool>,
    /// Every run that the list holds.
    pub runs: Vec<SavedRun>,
    /// Runs that the list held once, so that they are not counted again.
    pub gone: Vec<GoneRun>,
    /// Subscriptions that have, or had, a rule.
    pub subscriptions: Vec<SavedSubscription>,
}

/// One run of the task list.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedRun {
    /// `crast-…`
    pub task_id: Arc<str>,
    /// What the list tells.
    pub info: Arc<TaskInfo>,
    /// When it was first in the list, Unix milliseconds.
    pub first_seen_ms: i64,
    /// When it was last in the list, Unix milliseconds.
    pub seen_ms: i64,
    /// It is counted already, or too old to be.
    pub counted: bool,
    /// What its rows say, where they were read.
    pub rows: Option<RowsVerdict>,
}

/// What the rows of a run say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsVerdict {
    /// How the run stands.
    pub status: TaskStatus,
    /// Whether it will not change by itself any more.
    pub finished: bool,
    /// Earliest start of its artifacts, Unix milliseconds.
    pub start_ms: Option<i64>,
    /// Latest end, Unix milliseconds.
    pub end_ms: Option<i64>,
}

/// A run that the list does not hold any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneRun {
    /// `crast-…`
    pub task_id: Arc<str>,
    /// When it was last in the list, Unix milliseconds.
    pub seen_ms: i64,
    /// It was counted, or too old to be.
    pub counted: bool,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedSubscription {
    /// Which one.
    pub subscription: Arc<Subscription>,
    /// Its rules; none while it has none.
    pub rules: Arc<[Rule]>,
    /// When it last had a rule, Unix milliseconds.
    pub seen_ms: i64,
    /// What was counted.
    pub counts: Arc<Counts>,
    /// When the newest success ended, Unix milliseconds.
    pub last_success_ms: Option<i64>,
    /// Failed runs that the list does not hold any more, since the last success.
    pub forgotten_failures: u32,
    /// The last 20 finished runs, the oldest first: id and milliseconds.
    pub recent: Vec<(Arc<str>, i64)>,
}
