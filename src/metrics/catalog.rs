//! Every metric of what is watched, one row a metric: its name, type, help, unit
//! and labels, and the function that gives its samples of one task, artifact or
//! subscription.
//!
//! Adding a metric is one row of [`CATALOG`] and one line of `docs/metrics.md`.
//! How a sample is written is the exposition's; which data is fresh and which
//! artifacts are shown was decided by the store.

use crate::model::{Artifact, Outcome, Summary, TaskStatus};
use crate::store::{
    Durations, RunDurations, RunFacts, RunSummary, Series, Snapshot, SubscriptionView, TaskView,
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
    /// The base unit, which then ends the name; "" without one.
    pub unit: &'static str,
    /// Labels behind those that identify the task, the artifact or the subscription.
    pub labels: &'static [&'static str],
    /// What dashboards may rely on.
    pub stability: Stability,
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

/// What dashboards may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// Name, labels and meaning stay within a major version.
    Stable,
    /// May change in a minor version, with a line in the change log.
    Experimental,
}

impl Stability {
    /// The word of the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Experimental => "experimental",
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

const SECONDS: &str = "seconds";

const fn task(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&TaskView<'_>, &mut Emit<'_>),
) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        help,
        unit,
        labels,
        stability: Stability::Stable,
        samples: Samples::Task(samples),
    }
}

const fn artifact(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Artifact<'_>, &mut Emit<'_>),
) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        help,
        unit,
        labels,
        stability: Stability::Stable,
        samples: Samples::Artifact(samples),
    }
}

const fn subscription(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&SubscriptionView<'_>, &mut Emit<'_>),
) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        help,
        unit,
        labels,
        stability: Stability::Stable,
        samples: Samples::Subscription(samples),
    }
}

const fn subscription_counter(
    name: &'static str,
    help: &'static str,
    samples: fn(&SubscriptionView<'_>, &mut Emit<'_>),
) -> Metric {
    Metric {
        kind: Kind::Counter,
        ..subscription(name, "", &[], help, samples)
    }
}

const fn durations(
    name: &'static str,
    help: &'static str,
    durations: fn(&RunDurations) -> &Durations,
) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        help,
        unit: SECONDS,
        labels: &[],
        stability: Stability::Stable,
        samples: Samples::Durations(durations),
    }
}

/// Every metric of what is watched, in the order of the page.
pub const CATALOG: &[Metric] = &[
    task(
        "aliyun_acr_subscription_task_info",
        "",
        &[
            "acr_region",
            "repo_namespace",
            "repo_name",
            "source_provider",
            "source_repository",
            "task_type",
            "origin",
        ],
        "Information about the task.",
        |task, emit| {
            let target = &task.entry.target;
            let (region, origin) = (&target.region, target.origin.as_str());
            match task.entry.info.as_deref() {
                Some(info) => emit(
                    &[
                        region,
                        &info.repo_namespace,
                        &info.repo_name,
                        &info.source_provider,
                        &info.source_repository,
                        &info.task_type,
                        origin,
                    ],
                    Value::ONE,
                ),
                None => emit(&[region, "", "", "", "", "", origin], Value::ONE),
            }
        },
    ),
    task(
        "aliyun_acr_subscription_task_up",
        "",
        &[],
        "Whether the last poll of the task was successful.",
        |task, emit| {
            if let Some(up) = task.facts.up {
                emit(&[], Value::flag(up));
            }
        },
    ),
    task(
        "aliyun_acr_subscription_task_poll_error",
        "",
        &["reason"],
        "Reason why the last poll of the task failed.",
        |task, emit| {
            let failed = task.facts.up == Some(false);
            if let Some(error) = failed.then_some(()).and(task.entry.error.as_ref()) {
                emit(&[error.reason.as_str()], Value::ONE);
            }
        },
    ),
    task(
        "aliyun_acr_subscription_task_status",
        "",
        &["status"],
        "Whether the task has the status.",
        |task, emit| {
            if let Some(data) = task.facts.data {
                one_hot(&TaskStatus::ALL, data.status, emit);
            }
        },
    ),
    task(
        "aliyun_acr_subscription_task_failure",
        "",
        &["cause"],
        "Cause of the task's failure.",
        |task, emit| {
            if let Some(cause) = task.facts.cause {
                emit(&[cause.as_str()], Value::ONE);
            }
        },
    ),
    task(
        "aliyun_acr_subscription_task_artifacts",
        "",
        &["status"],
        "Number of artifacts of the task by status.",
        |task, emit| {
            if let Some(data) = task.facts.data {
                artifacts(|outcome| data.count(outcome), emit);
            }
        },
    ),
    task(
        "aliyun_acr_subscription_task_merged_rows",
        "",
        &[],
        "Number of result rows that repeated an artifact.",
        |task, emit| {
            if let Some(data) = task.facts.data {
                emit(&[], Value::count(data.merged_rows));
            }
        },
    ),
    task(
        "aliyun_acr_subscription_task_start_timestamp_seconds",
        SECONDS,
        &[],
        "Unix timestamp of the start of the task's first artifact.",
        |task, emit| seconds(task, |data| data.start_ms, emit),
    ),
    task(
        "aliyun_acr_subscription_task_end_timestamp_seconds",
        SECONDS,
        &[],
        "Unix timestamp of the end of the finished task's last artifact.",
        |task, emit| seconds(task, |data| data.end_ms, emit),
    ),
    task(
        "aliyun_acr_subscription_task_sync_duration_seconds",
        SECONDS,
        &[],
        "Duration of the finished task from start to end.",
        |task, emit| seconds(task, |data| data.duration_ms, emit),
    ),
    task(
        "aliyun_acr_subscription_task_last_success_timestamp_seconds",
        SECONDS,
        &[],
        "Unix timestamp of the end of the task's latest succeeded artifact.",
        |task, emit| seconds(task, |data| data.last_success_ms, emit),
    ),
    task(
        "aliyun_acr_subscription_task_last_poll_timestamp_seconds",
        SECONDS,
        &[],
        "Unix timestamp of the last poll of the task.",
        |task, emit| millis(task.facts.last_poll_ms, emit),
    ),
    task(
        "aliyun_acr_subscription_task_last_successful_poll_timestamp_seconds",
        SECONDS,
        &[],
        "Unix timestamp of the last successful poll of the task.",
        |task, emit| millis(task.facts.last_success_ms, emit),
    ),
    task(
        "aliyun_acr_subscription_task_poll_interval_seconds",
        SECONDS,
        &[],
        "Current poll interval of the task, without backoff.",
        |task, emit| emit(&[], Value::millis(task.facts.interval_ms)),
    ),
    artifact(
        "aliyun_acr_subscription_artifact_status",
        "",
        &["status"],
        "Current status of the artifact.",
        |artifact, emit| emit(&[artifact.outcome.as_str()], Value::ONE),
    ),
    artifact(
        "aliyun_acr_subscription_artifact_sync_duration_seconds",
        SECONDS,
        &[],
        "Duration of the finished artifact's synchronization from start to end.",
        |artifact, emit| millis(artifact.duration_ms(), emit),
    ),
    subscription(
        "aliyun_acr_subscription_rule_info",
        "",
        &["rule_id", "tag_regexp"],
        "Information about a rule of the subscription.",
        |subscription, emit| {
            for rule in subscription.entry.distinct_rules() {
                emit(&[&rule.rule_id, &rule.tag_regexp], Value::ONE);
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_created_timestamp_seconds",
        SECONDS,
        &[],
        "Unix timestamp of the creation of the subscription.",
        |subscription, emit| millis(subscription.facts.created_ms, emit),
    ),
    subscription(
        "aliyun_acr_subscription_last_run_info",
        "",
        RUN_LABELS,
        "Information about the subscription's newest run.",
        |subscription, emit| run_info(subscription, subscription.entry.last_run.as_ref(), emit),
    ),
    subscription(
        "aliyun_acr_subscription_last_run_status",
        "",
        &["status"],
        "Whether the newest run has the status.",
        |subscription, emit| {
            if let Some(run) = subscription.facts.last_run {
                one_hot(&TaskStatus::ALL, run.status, emit);
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_run_start_timestamp_seconds",
        SECONDS,
        &[],
        "Unix timestamp of the start of the newest run.",
        |subscription, emit| last_run(subscription, |run| run.start_ms.map(Value::millis), emit),
    ),
    subscription(
        "aliyun_acr_subscription_last_run_source_tags",
        "",
        &[],
        "Number of tags of the source repository at the newest run.",
        |subscription, emit| last_run(subscription, |run| run.source_tags.map(Value::whole), emit),
    ),
    subscription(
        "aliyun_acr_subscription_last_run_selected_tags",
        "",
        &[],
        "Number of tags that the newest run selects from the source repository.",
        |subscription, emit| {
            last_run(
                subscription,
                |run| run.selected_tags.map(Value::whole),
                emit,
            );
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_finished_run_info",
        "",
        RUN_LABELS,
        "Information about the subscription's newest finished run.",
        |subscription, emit| {
            run_info(
                subscription,
                subscription.entry.last_finished_run.as_ref(),
                emit,
            );
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_finished_run_status",
        "",
        &["status"],
        "Whether the newest finished run has the status.",
        |subscription, emit| {
            let Some(run) = subscription.facts.last_finished_run else {
                return;
            };
            // No finished run is empty or running; one must be 1 all the same.
            let found = match run.status {
                status @ (TaskStatus::Succeeded | TaskStatus::Failed) => status,
                TaskStatus::Empty | TaskStatus::Running | TaskStatus::Unknown => {
                    TaskStatus::Unknown
                }
            };
            one_hot(&FINISHED_STATUSES, found, emit);
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_finished_run_failure",
        "",
        &["cause"],
        "Cause of the newest finished run's failure.",
        |subscription, emit| {
            let run = subscription.facts.last_finished_run;
            if let Some(cause) = run.and_then(|run| run.cause) {
                emit(&[cause.as_str()], Value::ONE);
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_finished_run_artifacts",
        "",
        &["status"],
        "Number of artifacts of the newest finished run by status.",
        |subscription, emit| {
            let run = subscription.facts.last_finished_run;
            if let Some(counts) = run.and_then(|run| run.artifacts) {
                artifacts(|outcome| counts[outcome as usize], emit);
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_finished_run_end_timestamp_seconds",
        SECONDS,
        &[],
        "Unix timestamp of the end of the newest finished run.",
        |subscription, emit| {
            let run = subscription.facts.last_finished_run;
            millis(run.and_then(|run| run.end_ms), emit);
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_finished_run_duration_seconds",
        SECONDS,
        &[],
        "Duration of the newest finished run from start to end.",
        |subscription, emit| {
            let run = subscription.facts.last_finished_run;
            millis(run.and_then(|run| run.duration_ms), emit);
        },
    ),
    subscription(
        "aliyun_acr_subscription_consecutive_failed_runs",
        "",
        &[],
        "Number of failed runs since the last succeeded one.",
        |subscription, emit| {
            if let Some(runs) = subscription.facts.consecutive_failed_runs {
                emit(&[], Value::count(runs));
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_success_timestamp_seconds",
        SECONDS,
        &[],
        "Unix timestamp of the end of the latest succeeded run.",
        |subscription, emit| millis(subscription.facts.last_success_ms, emit),
    ),
    subscription(
        "aliyun_acr_subscription_typical_run_interval_seconds",
        SECONDS,
        &[],
        "Median time between the starts of the subscription's recent runs.",
        |subscription, emit| millis(subscription.facts.typical_run_interval_ms, emit),
    ),
    subscription_counter(
        "aliyun_acr_subscription_runs_total",
        "Total number of finished runs.",
        |subscription, emit| emit(&[], Value::total(subscription.facts.runs)),
    ),
    subscription_counter(
        "aliyun_acr_subscription_run_failures_total",
        "Total number of failed runs.",
        |subscription, emit| emit(&[], Value::total(subscription.facts.failures)),
    ),
    durations(
        "aliyun_acr_subscription_run_duration_seconds",
        "Duration of finished runs from start to end.",
        |durations| &durations.runs,
    ),
    durations(
        "aliyun_acr_subscription_run_artifact_duration_seconds",
        "Duration of the artifacts of finished runs from start to end.",
        |durations| &durations.artifacts,
    ),
];

/// Labels that lead from a subscription to one of its runs.
const RUN_LABELS: &[&str] = &["task_id", "task_type"];

/// What a finished run may be, in the order of the page.
const FINISHED_STATUSES: [TaskStatus; 3] = [
    TaskStatus::Succeeded,
    TaskStatus::Failed,
    TaskStatus::Unknown,
];

/// 1 for the status that is found, 0 for each other.
fn one_hot(statuses: &[TaskStatus], found: TaskStatus, emit: &mut Emit<'_>) {
    for status in statuses {
        emit(&[status.as_str()], Value::flag(*status == found));
    }
}

/// One number for each outcome.
fn artifacts(count: impl Fn(Outcome) -> u32, emit: &mut Emit<'_>) {
    for outcome in Outcome::ALL {
        emit(&[outcome.as_str()], Value::count(count(outcome)));
    }
}

/// Something of the newest run, where it is known.
fn last_run(
    subscription: &SubscriptionView<'_>,
    value: impl Fn(&RunFacts) -> Option<Value>,
    emit: &mut Emit<'_>,
) {
    if let Some(value) = subscription.facts.last_run.as_ref().and_then(value) {
        emit(&[], value);
    }
}

/// Which run it is, where the lists are fresh.
fn run_info(subscription: &SubscriptionView<'_>, run: Option<&RunSummary>, emit: &mut Emit<'_>) {
    if let Some(run) = run.filter(|_| subscription.fresh) {
        emit(&[&run.task_id, &run.info.task_type], Value::ONE);
    }
}

/// A time or a duration, where there is one.
fn millis(millis: Option<i64>, emit: &mut Emit<'_>) {
    if let Some(millis) = millis {
        emit(&[], Value::millis(millis));
    }
}

/// A time of fresh data, where it is known.
fn seconds(task: &TaskView<'_>, time: impl Fn(&Summary) -> Option<i64>, emit: &mut Emit<'_>) {
    millis(task.facts.data.as_ref().and_then(time), emit);
}

/// Counts the series of a page, for [`crate::store::Snapshot::view`].
pub const SERIES: Series = Series {
    task: task_series,
    subscription: subscription_series,
    listing: HISTOGRAM_SERIES * histograms(),
};

fn task_series(task: &TaskView<'_>) -> usize {
    let mut series = 0;
    for metric in CATALOG {
        if let Samples::Task(samples) = metric.samples {
            samples(task, &mut |_, _| series += 1);
        }
    }
    series
}

fn subscription_series(subscription: &SubscriptionView<'_>) -> usize {
    let mut series = 0;
    for metric in CATALOG {
        if let Samples::Subscription(samples) = metric.samples {
            samples(subscription, &mut |_, _| series += 1);
        }
    }
    series
}

/// Histograms of a followed instance.
const fn histograms() -> usize {
    let (mut found, mut index) = (0, 0);
    while index < CATALOG.len() {
        if matches!(CATALOG[index].samples, Samples::Durations(_)) {
            found += 1;
        }
        index += 1;
    }
    found
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
