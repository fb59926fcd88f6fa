//! Every metric of what is watched, one row a metric: its help, its name, its
//! labels, and the function that gives its samples of one task, artifact or
//! subscription.
//!
//! Adding a metric is one row of [`CATALOG`], one line of `docs/metrics.md`, and a
//! field of what the row reads where its number is not known yet.
//! How a sample is written is the exposition's; which data is fresh and which
//! artifacts are shown was decided by the store.

use crate::model::{Artifact, Assessment, Outcome, TaskInfo, TaskStatus};
use crate::store::{
    Durations, RunDurations, RunSummary, Series, Snapshot, SubscriptionView, TaskView,
};

/// The labels that every sample of a task carries, in the order of the page.
pub const TASK_LABELS: [&str; 3] = ["instance_id", "task_id", "task"];

/// The labels that every sample of an artifact carries behind [`TASK_LABELS`].
pub const ARTIFACT_LABELS: [&str; 3] = ["repo_namespace", "repo_name", "tag"];

/// The labels that every sample of a subscription carries, in the order of the page.
pub const SUBSCRIPTION_LABELS: [&str; 5] = [
    "instance_id",
    "repo_namespace",
    "repo_name",
    "source_provider",
    "source_repository",
];

/// The labels that every sample of a followed instance carries.
pub const INSTANCE_LABELS: [&str; 1] = ["instance_id"];

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Full name, with `_total` where it is a counter.
    pub name: &'static str,
    /// How its numbers are to be read.
    pub kind: Kind,
    /// The `# HELP` text.
    pub help: &'static str,
    /// Labels behind those that identify the task, the artifact or the subscription.
    pub labels: &'static [&'static str],
    /// Where its samples come from.
    pub samples: Samples,
}

/// How the numbers of a metric are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A state: may rise and fall.
    Gauge,
    /// Rises, or begins again at 0.
    Counter,
    /// Observations counted by size.
    Histogram,
}

impl Kind {
    /// The word of the exposition formats and of the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// Gives the samples of one metric.
#[derive(Clone, Copy, Debug)]
pub enum Samples {
    /// Of a task.
    Task(fn(&TaskView<'_>, &mut Emit<'_>)),
    /// Of an artifact that has series on the page.
    Artifact(fn(&Artifact<'_>, &mut Emit<'_>)),
    /// Of a subscription.
    Subscription(fn(&SubscriptionView<'_>, &mut Emit<'_>)),
    /// Of a followed instance, as a histogram.
    Durations(fn(&RunDurations) -> &Durations),
}

/// Takes one sample: the values of [`Metric::labels`], in their order, and the number.
pub type Emit<'a> = dyn FnMut(&[&str], Value) + 'a;

/// A sample's number, in thousandths: what the cloud tells is whole numbers
/// and milliseconds, so that no floating point is needed to write it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(i64);

impl Value {
    const ZERO: Self = Self(0);
    const ONE: Self = Self::count(1);

    const fn count(count: u32) -> Self {
        Self(count as i64 * 1000)
    }

    /// A whole number; one beyond ±9.2 × 10¹⁵ is shown as that.
    pub fn whole(number: i64) -> Self {
        Self(number.clamp(i64::MIN / 1000, i64::MAX / 1000) * 1000)
    }

    /// A count that only grows; bounded like [`Value::whole`].
    pub fn total(number: u64) -> Self {
        Self::whole(i64::try_from(number).unwrap_or(i64::MAX))
    }

    const fn flag(set: bool) -> Self {
        if set { Self::ONE } else { Self::ZERO }
    }

    /// Milliseconds, shown as seconds.
    pub const fn millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The number times 1000.
    pub const fn thousandths(self) -> i64 {
        self.0
    }
}

/// Makes [`CATALOG`] of rows `/// HELP` `name: Source [labels] = samples;`. The name
/// follows the prefix, and tells a counter by its `_total`.
macro_rules! catalog {
    ($($(#[doc = $help:literal])+ $name:ident: $source:ident [$($label:literal),*] = $samples:expr;)+) => {
        /// Every metric of what is watched, in the order of the page.
        pub const CATALOG: &[Metric] = &[$(Metric {
            name: concat!("aliyun_acr_subscription_", stringify!($name)),
            kind: kind(stringify!($name), &Samples::$source($samples)),
            help: concat!($($help),+).trim_ascii(),
            labels: &[$($label),*],
            samples: Samples::$source($samples),
        }),+];
    };
}

const fn kind(name: &str, samples: &Samples) -> Kind {
    match (samples, name.as_bytes()) {
        (Samples::Durations(_), _) => Kind::Histogram,
        (_, [.., b'_', b't', b'o', b't', b'a', b'l']) => Kind::Counter,
        _ => Kind::Gauge,
    }
}

catalog! {
    /// Information about the task.
    task_info: Task [
        "acr_region", "repo_namespace", "repo_name", "source_provider", "source_repository",
        "task_type", "origin"
    ] = task_info;
    /// Whether the last poll of the task was successful.
    task_up: Task [] = |task, emit| one(task.entry.up().map(Value::flag), emit);
    /// Reason why the last poll of the task failed.
    task_poll_error: Task ["reason"] = |task, emit| {
        if let (Some(false), Some(error)) = (task.entry.up(), &task.entry.error) {
            emit(&[error.reason.as_str()], Value::ONE);
        }
    };
    /// Whether the task has the status.
    task_status: Task ["status"] = |task, emit| {
        if let Some(data) = task.fresh {
            one_hot(&TaskStatus::ALL, data.status, emit);
        }
    };
    /// Cause of the task's failure.
    task_failure: Task ["cause"] = |task, emit| {
        if let (Some(_), Some(cause)) = (task.fresh, task.entry.cause) {
            emit(&[cause.as_str()], Value::ONE);
        }
    };
    /// Number of artifacts of the task by status.
    task_artifacts: Task ["status"] = |task, emit| {
        artifacts(task.fresh.map(Assessment::counts), emit);
    };
    /// Number of result rows that repeated an artifact.
    task_merged_rows: Task [] = |task, emit| {
        one(task.fresh.map(|data| Value::count(data.merged_rows)), emit);
    };
    /// Unix timestamp of the start of the task's first artifact.
    task_start_timestamp_seconds: Task [] = |task, emit| {
        millis(task.fresh.and_then(|data| data.start_ms), emit);
    };
    /// Unix timestamp of the end of the finished task's last artifact.
    task_end_timestamp_seconds: Task [] = |task, emit| {
        millis(task.fresh.and_then(|data| data.end_ms), emit);
    };
    /// Duration of the finished task from start to end.
    task_sync_duration_seconds: Task [] = |task, emit| {
        millis(task.fresh.and_then(Assessment::duration_ms), emit);
    };
    /// Unix timestamp of the end of the task's latest succeeded artifact.
    task_last_success_timestamp_seconds: Task [] = |task, emit| {
        millis(task.fresh.and_then(|data| data.last_success_ms), emit);
    };
    /// Unix timestamp of the last poll of the task.
    task_last_poll_timestamp_seconds: Task [] = |task, emit| {
        millis(task.entry.last_poll_ms, emit);
    };
    /// Unix timestamp of the last successful poll of the task.
    task_last_successful_poll_timestamp_seconds: Task [] = |task, emit| {
        millis(task.entry.last_success_ms, emit);
    };
    /// Current poll interval of the task, without backoff.
    task_poll_interval_seconds: Task [] = |task, emit| {
        let interval = i64::try_from(task.entry.interval.as_millis());
        millis(Some(interval.unwrap_or(i64::MAX)), emit);
    };
    /// Current status of the artifact.
    artifact_status: Artifact ["status"] = |artifact, emit| {
        emit(&[artifact.outcome.as_str()], Value::ONE);
    };
    /// Duration of the finished artifact's synchronization from start to end.
    artifact_sync_duration_seconds: Artifact [] = |artifact, emit| {
        millis(artifact.duration_ms(), emit);
    };
    /// Information about a rule of the subscription.
    rule_info: Subscription ["rule_id", "tag_regexp"] = |subscription, emit| {
        for rule in subscription.entry.distinct_rules() {
            emit(&[&rule.rule_id, &rule.tag_regexp], Value::ONE);
        }
    };
    /// Unix timestamp of the creation of the subscription.
    created_timestamp_seconds: Subscription [] = |subscription, emit| {
        millis(subscription.entry.created_ms, emit);
    };
    /// Information about the subscription's newest run.
    last_run_info: Subscription ["task_id", "task_type"] = |subscription, emit| {
        run_info(subscription.last_run(), emit);
    };
    /// Whether the newest run has the status.
    last_run_status: Subscription ["status"] = |subscription, emit| {
        if let Some(run) = subscription.last_run() {
            one_hot(&TaskStatus::ALL, run.status, emit);
        }
    };
    /// Unix timestamp of the start of the newest run.
    last_run_start_timestamp_seconds: Subscription [] = |subscription, emit| {
        millis(subscription.last_run().and_then(|run| run.start_ms), emit);
    };
    /// Number of tags of the source repository at the newest run.
    last_run_source_tags: Subscription [] = |subscription, emit| {
        let tags = subscription.last_run().and_then(|run| run.info.source_tags);
        one(tags.map(Value::whole), emit);
    };
    /// Number of tags that the newest run selects from the source repository.
    last_run_selected_tags: Subscription [] = |subscription, emit| {
        let tags = subscription.last_run().and_then(|run| run.info.selected_tags);
        one(tags.map(Value::whole), emit);
    };
    /// Information about the subscription's newest finished run.
    last_finished_run_info: Subscription ["task_id", "task_type"] = |subscription, emit| {
        run_info(subscription.last_finished_run(), emit);
    };
    /// Whether the newest finished run has the status.
    last_finished_run_status: Subscription ["status"] = |subscription, emit| {
        if let Some(run) = subscription.last_finished_run() {
            // No finished run is empty or running; one must be 1 all the same.
            let known = FINISHED_STATUSES.contains(&run.status).then_some(run.status);
            one_hot(&FINISHED_STATUSES, known.unwrap_or(TaskStatus::Unknown), emit);
        }
    };
    /// Cause of the newest finished run's failure.
    last_finished_run_failure: Subscription ["cause"] = |subscription, emit| {
        if let Some(cause) = subscription.last_finished_run().and_then(|run| run.cause) {
            emit(&[cause.as_str()], Value::ONE);
        }
    };
    /// Number of artifacts of the newest finished run by status.
    last_finished_run_artifacts: Subscription ["status"] = |subscription, emit| {
        let run = subscription.last_finished_run();
        artifacts(run.and_then(|run| run.artifacts), emit);
    };
    /// Unix timestamp of the end of the newest finished run.
    last_finished_run_end_timestamp_seconds: Subscription [] = |subscription, emit| {
        millis(subscription.last_finished_run().and_then(|run| run.end_ms), emit);
    };
    /// Duration of the newest finished run from start to end.
    last_finished_run_duration_seconds: Subscription [] = |subscription, emit| {
        millis(subscription.last_finished_run().and_then(|run| run.duration_ms), emit);
    };
    /// Number of failed runs since the last succeeded one.
    consecutive_failed_runs: Subscription [] = |subscription, emit| {
        let runs = Value::count(subscription.entry.consecutive_failed_runs);
        one(subscription.fresh.then_some(runs), emit);
    };
    /// Unix timestamp of the end of the latest succeeded run.
    last_success_timestamp_seconds: Subscription [] = |subscription, emit| {
        millis(subscription.entry.last_success_ms, emit);
    };
    /// Median time between the starts of the subscription's recent runs.
    typical_run_interval_seconds: Subscription [] = |subscription, emit| {
        millis(subscription.entry.typical_run_interval_ms, emit);
    };
    /// Total number of finished runs.
    runs_total: Subscription [] = |subscription, emit| {
        emit(&[], Value::total(subscription.counts.runs));
    };
    /// Total number of failed runs.
    run_failures_total: Subscription [] = |subscription, emit| {
        emit(&[], Value::total(subscription.counts.failures));
    };
    /// Duration of finished runs from start to end.
    run_duration_seconds: Durations [] = |durations| &durations.runs;
    /// Duration of the artifacts of finished runs from start to end.
    run_artifact_duration_seconds: Durations [] = |durations| &durations.artifacts;
}

/// What a finished run may be, in the order of the page.
const FINISHED_STATUSES: [TaskStatus; 3] = [
    TaskStatus::Succeeded,
    TaskStatus::Failed,
    TaskStatus::Unknown,
];

fn task_info(task: &TaskView<'_>, emit: &mut Emit<'_>) {
    let target = &task.entry.target;
    let info = task.entry.info.as_deref();
    let text = |text: fn(&TaskInfo) -> &str| info.map_or("", text);
    let values = [
        &*target.region,
        text(|info| &info.repo_namespace),
        text(|info| &info.repo_name),
        text(|info| &info.source_provider),
        text(|info| &info.source_repository),
        text(|info| &info.task_type),
        target.origin.as_str(),
    ];
    emit(&values, Value::ONE);
}

/// 1 for the status that is found, 0 for each other.
fn one_hot(statuses: &[TaskStatus], found: TaskStatus, emit: &mut Emit<'_>) {
    for status in statuses {
        emit(&[status.as_str()], Value::flag(*status == found));
    }
}

/// One number for each outcome, where they are known.
fn artifacts(counts: Option<[u32; Outcome::ALL.len()]>, emit: &mut Emit<'_>) {
    for (outcome, count) in Outcome::ALL.iter().zip(counts.iter().flatten()) {
        emit(&[outcome.as_str()], Value::count(*count));
    }
}

/// Which run it is.
fn run_info(run: Option<&RunSummary>, emit: &mut Emit<'_>) {
    if let Some(run) = run {
        emit(&[&run.task_id, &run.info.task_type], Value::ONE);
    }
}

/// A time or a duration, where there is one.
fn millis(millis: Option<i64>, emit: &mut Emit<'_>) {
    one(millis.map(Value::millis), emit);
}

/// A number, where there is one.
fn one(value: Option<Value>, emit: &mut Emit<'_>) {
    if let Some(value) = value {
        emit(&[], value);
    }
}

/// Counts the series of a page, for [`crate::store::View`].
pub const SERIES: Series = Series {
    task: |task| {
        count(|samples, emit| {
            if let Samples::Task(samples) = samples {
                samples(task, emit);
            }
        })
    },
    subscription: |subscription| {
        count(|samples, emit| {
            if let Samples::Subscription(samples) = samples {
                samples(subscription, emit);
            }
        })
    },
    listing: || {
        let histograms = CATALOG.iter().filter(|it| it.kind == Kind::Histogram);
        HISTOGRAM_SERIES * histograms.count()
    },
};

fn count(samples: impl Fn(Samples, &mut Emit<'_>)) -> usize {
    let mut series = 0;
    for metric in CATALOG {
        samples(metric.samples, &mut |_, _| series += 1);
    }
    series
}

/// An upper bound of the series of a page, cheap to have.
pub fn series_at_most(snapshot: &Snapshot) -> usize {
    // A row or so each, but for statuses and artifacts; rules come on top.
    let most_of_a_task = CATALOG.len() + 8;
    let most_of_a_subscription = CATALOG.len() + 16;
    let of_subscriptions = most_of_a_subscription * snapshot.subscriptions();
    let of_tasks: usize = snapshot
        .entries()
        .iter()
        .map(|entry| {
            let artifacts = entry.data.as_ref().map_or(0, |data| data.artifacts.len());
            most_of_a_task + 2 * artifacts
        })
        .sum();
    of_tasks + of_subscriptions
}

/// The bounds, +Inf, sum and count.
const HISTOGRAM_SERIES: usize = Durations::BOUNDS.len() + 3;
