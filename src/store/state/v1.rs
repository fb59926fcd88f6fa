//! The format of version 1, which the release before wrote, and what it becomes.
//! What it did not know stays unknown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::Reason;
use serde::Deserialize;

use crate::model::{self, Assessment, Subscription, TaskInfo, TaskStatus};
use crate::store::{
    ArtifactSeries, Counts, Durations, Origin, PollError, RecentRun, RunDurations, Target,
    TaskEntry,
};

use super::{GoneRun, SavedInstance, SavedRule, SavedRun, SavedSubscription, SavedTask};

#[derive(Deserialize)]
pub(super) struct State {
    tasks: Vec<Task>,
    instances: Vec<FollowedInstance>,
}

#[derive(Deserialize)]
struct Task {
    entry: Entry,
    asked_finished: bool,
}

#[derive(Deserialize)]
struct Entry {
    target: OldTarget,
    info: Option<Arc<TaskInfo>>,
    data: Option<Assessment>,
    error: Option<Arc<PollError>>,
    task_error: Option<Reason>,
    last_poll_ms: Option<i64>,
    last_success_ms: Option<i64>,
    interval: Duration,
    next_poll_ms: Option<i64>,
}

#[derive(Deserialize)]
struct OldTarget {
    instance_id: Arc<str>,
    task_id: Arc<str>,
    task: Arc<str>,
    region: Arc<str>,
    artifacts: ArtifactSeries,
}

#[derive(Deserialize)]
struct FollowedInstance {
    instance_id: Arc<str>,
    last_success_ms: Option<i64>,
    last_whole_ms: Option<i64>,
    newest_first: Option<bool>,
    runs: Vec<Run>,
    gone: Vec<OldGoneRun>,
    subscriptions: Vec<Followed>,
}

#[derive(Deserialize)]
struct Run {
    task_id: Arc<str>,
    info: Arc<TaskInfo>,
    first_seen_ms: i64,
    seen_ms: i64,
    counted: bool,
    rows: Option<RowsVerdict>,
}

#[derive(Deserialize)]
struct RowsVerdict {
    status: TaskStatus,
    finished: bool,
    start_ms: Option<i64>,
    end_ms: Option<i64>,
}

#[derive(Deserialize)]
struct OldGoneRun {
    task_id: Arc<str>,
    seen_ms: i64,
    counted: bool,
}

#[derive(Deserialize)]
struct Followed {
    subscription: Arc<Subscription>,
    rules: Vec<OldRule>,
    seen_ms: i64,
    counts: OldCounts,
    last_success_ms: Option<i64>,
    forgotten_failures: u32,
    recent: Vec<(Arc<str>, i64)>,
}

#[derive(Deserialize)]
struct OldRule {
    rule_id: String,
    subscription: Subscription,
    tag_regexp: String,
    created_ms: Option<i64>,
}

#[derive(Deserialize)]
struct OldCounts {
    runs: u64,
    failures: u64,
    artifacts: Durations,
}

impl From<State> for super::State {
    fn from(old: State) -> Self {
        Self {
            tasks: old.tasks.into_iter().map(task).collect(),
            instances: old.instances.into_iter().map(instance).collect(),
        }
    }
}

fn task(old: Task) -> SavedTask {
    let Entry {
        target,
        info,
        data,
        error,
        task_error,
        last_poll_ms,
        last_success_ms,
        interval,
        next_poll_ms,
    } = old.entry;
    let target = Target {
        instance_id: target.instance_id,
        task_id: target.task_id,
        task: target.task,
        region: target.region,
        // The configuration and the lists say so again before it is shown.
        origin: Origin::Configured,
        artifacts: target.artifacts,
    };
    SavedTask {
        entry: TaskEntry {
            info,
            data,
            error,
            task_error,
            last_poll_ms,
            last_success_ms,
            next_poll_ms,
            ..TaskEntry::new(Arc::new(target), interval)
        },
        asked_finished: old.asked_finished,
    }
}

fn instance(old: FollowedInstance) -> SavedInstance {
    let mut durations = RunDurations::default();
    for followed in &old.subscriptions {
        durations.artifacts.add(&followed.counts.artifacts);
    }
    let rules = old.subscriptions.iter().flat_map(|followed| {
        followed.rules.iter().map(|rule| SavedRule {
            rule_id: rule.rule_id.clone(),
            subscription: Arc::clone(&followed.subscription),
            edited_ms: None,
            seen_ms: followed.seen_ms,
        })
    });
    let rules = rules.filter(|rule| !rule.rule_id.is_empty()).collect();
    let runs: BTreeMap<Arc<str>, SavedRun> = old
        .runs
        .into_iter()
        .map(|old| (Arc::clone(&old.task_id), run(old)))
        .collect();
    let subscriptions = old.subscriptions.into_iter();
    SavedInstance {
        instance_id: old.instance_id,
        last_success_ms: old.last_success_ms,
        last_whole_ms: old.last_whole_ms,
        newest_first: old.newest_first,
        rules,
        durations: Arc::new(durations),
        announced: true,
        subscriptions: subscriptions.map(|old| followed(old, &runs)).collect(),
        runs: runs.into_values().collect(),
        gone: old.gone.into_iter().map(gone).collect(),
    }
}

fn gone(old: OldGoneRun) -> GoneRun {
    GoneRun {
        task_id: old.task_id,
        seen_ms: old.seen_ms,
        counted: old.counted,
        failed: false,
    }
}

fn run(old: Run) -> SavedRun {
    SavedRun {
        task_id: old.task_id,
        info: old.info,
        first_seen_ms: old.first_seen_ms,
        seen_ms: old.seen_ms,
        counted: old.counted,
        rows: old.rows.map(|rows| super::RowsVerdict {
            status: rows.status,
            finished: rows.finished,
            start_ms: rows.start_ms,
            end_ms: rows.end_ms,
            artifacts: None,
        }),
    }
}

fn followed(old: Followed, runs: &BTreeMap<Arc<str>, SavedRun>) -> SavedSubscription {
    // Runs that the list holds are taken from there; of the others only the
    // duration was kept, and how they ended is not known.
    let left = old.recent.into_iter().rev();
    let left = left.filter(|(task_id, _)| !runs.contains_key(task_id));
    let recent = left.map(|(task_id, duration_ms)| RecentRun {
        task_id,
        status: TaskStatus::Unknown,
        start_ms: None,
        duration_ms: Some(duration_ms),
    });
    let rules = old.rules.into_iter().map(|rule| model::Rule {
        rule_id: rule.rule_id,
        subscription: rule.subscription,
        tag_regexp: rule.tag_regexp,
        created_ms: rule.created_ms,
        modified_ms: None,
    });
    SavedSubscription {
        subscription: old.subscription,
        rules: rules.collect(),
        seen_ms: old.seen_ms,
        counts: Arc::new(Counts {
            runs: old.counts.runs,
            failures: old.counts.failures,
        }),
        announced: true,
        last_success_ms: old.last_success_ms,
        forgotten_success_ms: old.last_success_ms,
        forgotten_failures: old.forgotten_failures,
        forgotten_run: None,
        recent: recent.collect(),
    }
}
