//! Every metric of what is watched, one row a metric: its name, type, help, unit
//! and labels, and the function that gives its samples of one task, artifact or
//! subscription.
//!
//! Adding a metric is one row of [`CATALOG`] and one line of `docs/metrics.md`.
//! How a sample is written is the exposition's; which data is fresh and which
//! artifacts are shown was decided by the store.

use crate::model::{Artifact, Outcome, Summary, TaskStatus};
use crate::store::{Durations, Series, Snapshot, SubscriptionView, TaskView};

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
    /// Of a subscription, as a histogram.
    Durations(for<'a> fn(&SubscriptionView<'a>) -> &'a Durations),
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
        ],
        "1, with what the cloud says of the task; what is not known is empty.",
        |task, emit| {
            let region = &task.entry.target.region;
            match task.entry.info.as_deref() {
                Some(info) => emit(
                    &[
                        region,
                        &info.repo_namespace,
                        &info.repo_name,
                        &info.source_provider,
                        &info.source_repository,
                        &info.task_type,
                    ],
                    Value::ONE,
                ),
                None => emit(&[region, "", "", "", "", ""], Value::ONE),
            }
        },
    ),
    task(
        "aliyun_acr_subscription_task_up",
        "",
        &[],
        "1 if the last finished poll gave usable rows, else 0; absent before the first.",
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
        "1 while the last finished poll has failed, with the reason.",
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
        "1 for the status that the task has, 0 for the others.",
        |task, emit| {
            if let Some(data) = task.facts.data {
                for status in TaskStatus::ALL {
                    emit(&[status.as_str()], Value::flag(status == data.status));
                }
            }
        },
    ),
    task(
        "aliyun_acr_subscription_task_artifacts",
        "",
        &[],
        "Artifacts of the task.",
        |task, emit| {
            if let Some(data) = task.facts.data {
                let all = Outcome::ALL.into_iter().map(|outcome| data.count(outcome));
                emit(&[], Value::count(all.sum()));
            }
        },
    ),
    task(
        "aliyun_acr_subscription_task_artifacts_succeeded",
        "",
        &[],
        "Artifacts of the task that were synchronised.",
        |task, emit| artifacts(task, Outcome::Succeeded, emit),
    ),
    task(
        "aliyun_acr_subscription_task_artifacts_failed",
        "",
        &[],
        "Artifacts of the task whose synchronisation failed.",
        |task, emit| artifacts(task, Outcome::Failed, emit),
    ),
    task(
        "aliyun_acr_subscription_task_artifacts_running",
        "",
        &[],
        "Artifacts of the task that are being synchronised or wait for it.",
        |task, emit| artifacts(task, Outcome::Running, emit),
    ),
    task(
        "aliyun_acr_subscription_task_artifacts_unknown",
        "",
        &[],
        "Artifacts of the task whose state the exporter cannot tell.",
        |task, emit| artifacts(task, Outcome::Unknown, emit),
    ),
    task(
        "aliyun_acr_subscription_task_rows_folded",
        "",
        &[],
        "Rows of the cloud's answer that repeated an artifact.",
        |task, emit| {
            if let Some(data) = task.facts.data {
                emit(&[], Value::count(data.rows_folded));
            }
        },
    ),
    task(
        "aliyun_acr_subscription_task_start_timestamp_seconds",
        SECONDS,
        &[],
        "Unix time at which the task's first artifact began.",
        |task, emit| seconds(task, |data| data.start_ms, emit),
    ),
    task(
        "aliyun_acr_subscription_task_end_timestamp_seconds",
        SECONDS,
        &[],
        "Unix time at which the finished task's last artifact ended.",
        |task, emit| seconds(task, |data| data.end_ms, emit),
    ),
    task(
        "aliyun_acr_subscription_task_sync_duration_seconds",
        SECONDS,
        &[],
        "Time from start to end of the finished task.",
        |task, emit| seconds(task, |data| data.duration_ms, emit),
    ),
    task(
        "aliyun_acr_subscription_task_last_success_timestamp_seconds",
        SECONDS,
        &[],
        "Unix time at which the newest succeeded artifact ended, 0 without one.",
        |task, emit| seconds(task, |data| data.last_success_ms.or(Some(0)), emit),
    ),
    task(
        "aliyun_acr_subscription_task_last_poll_timestamp_seconds",
        SECONDS,
        &[],
        "Unix time of the last finished poll, 0 before the first.",
        |task, emit| emit(&[], Value::millis(task.facts.last_poll_ms.unwrap_or(0))),
    ),
    task(
        "aliyun_acr_subscription_task_last_successful_poll_timestamp_seconds",
        SECONDS,
        &[],
        "Unix time of the last poll that gave usable rows, 0 before the first.",
        |task, emit| emit(&[], Value::millis(task.facts.last_success_ms.unwrap_or(0))),
    ),
    task(
        "aliyun_acr_subscription_task_poll_interval_seconds",
        SECONDS,
        &[],
        "Time between two polls of the task that is in force now, without backoff.",
        |task, emit| emit(&[], Value::millis(task.facts.interval_ms)),
    ),
    artifact(
        "aliyun_acr_subscription_artifact_status",
        "",
        &["status"],
        "1, with the status that the artifact has.",
        |artifact, emit| emit(&[artifact.outcome.as_str()], Value::ONE),
    ),
    artifact(
        "aliyun_acr_subscription_artifact_sync_duration_seconds",
        SECONDS,
        &[],
        "Time from start to end of the finished artifact.",
        |artifact, emit| {
            if let Some(millis) = artifact.duration_ms() {
                emit(&[], Value::millis(millis));
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_rule_info",
        "",
        &["rule_id", "tag_regexp"],
        "1 for each rule of the subscription.",
        |subscription, emit| {
            for rule in subscription.entry.distinct_rules() {
                emit(&[&rule.rule_id, &rule.tag_regexp], Value::ONE);
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_rule_created_timestamp_seconds",
        SECONDS,
        &[],
        "Unix time at which the subscription's oldest rule was made.",
        |subscription, emit| {
            if let Some(millis) = subscription.facts.created_ms {
                emit(&[], Value::millis(millis));
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_run_status",
        "",
        &["status"],
        "1 for the status that the newest run has, 0 for the others.",
        |subscription, emit| {
            if let Some(run) = subscription.facts.last_run {
                for status in TaskStatus::ALL {
                    emit(&[status.as_str()], Value::flag(status == run.status));
                }
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_run_start_timestamp_seconds",
        SECONDS,
        &[],
        "Unix time at which the newest run began.",
        |subscription, emit| {
            if let Some(millis) = subscription.facts.last_run.and_then(|run| run.start_ms) {
                emit(&[], Value::millis(millis));
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_finished_run_status",
        "",
        &["status"],
        "1 for the status that the newest finished run has, 0 for the others.",
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
            for status in FINISHED_STATUSES {
                emit(&[status.as_str()], Value::flag(status == found));
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_run_duration_seconds",
        SECONDS,
        &[],
        "Time from start to end of the newest finished run.",
        |subscription, emit| {
            if let Some(millis) = subscription
                .facts
                .last_finished_run
                .and_then(|run| run.duration_ms)
            {
                emit(&[], Value::millis(millis));
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_consecutive_failed_runs",
        "",
        &[],
        "Failed runs since the last succeeded one.",
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
        "Unix time at which the newest success of all runs ever seen ended, 0 without one.",
        |subscription, emit| {
            let millis = subscription.facts.last_success_ms.unwrap_or(0);
            emit(&[], Value::millis(millis));
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_run_tags",
        "",
        &[],
        "Tags that the newest run is about.",
        |subscription, emit| {
            if let Some(tags) = subscription.facts.last_run.and_then(|run| run.tags_total) {
                emit(&[], Value::whole(tags));
            }
        },
    ),
    subscription(
        "aliyun_acr_subscription_last_run_tags_synced",
        "",
        &[],
        "Tags of the newest run that are synchronised.",
        |subscription, emit| {
            if let Some(tags) = subscription.facts.last_run.and_then(|run| run.tags_synced) {
                emit(&[], Value::whole(tags));
            }
        },
    ),
    subscription_counter(
        "aliyun_acr_subscription_runs_total",
        "Runs that have finished, failed ones included.",
        |subscription, emit| emit(&[], Value::total(subscription.facts.runs)),
    ),
    subscription_counter(
        "aliyun_acr_subscription_run_failures_total",
        "Runs that have finished and failed.",
        |subscription, emit| emit(&[], Value::total(subscription.facts.failures)),
    ),
    Metric {
        name: "aliyun_acr_subscription_run_artifact_duration_seconds",
        kind: Kind::Histogram,
        help: "Time from start to end of the artifacts of runs that have finished.",
        unit: SECONDS,
        labels: &[],
        stability: Stability::Stable,
        samples: Samples::Durations(|subscription| &subscription.counts.artifacts),
    },
];

/// What a finished run may be, in the order of the page.
const FINISHED_STATUSES: [TaskStatus; 3] = [
    TaskStatus::Succeeded,
    TaskStatus::Failed,
    TaskStatus::Unknown,
];

fn artifacts(task: &TaskView<'_>, outcome: Outcome, emit: &mut Emit<'_>) {
    if let Some(data) = task.facts.data {
        emit(&[], Value::count(data.count(outcome)));
    }
}

/// A time of fresh data, where it is known.
fn seconds(task: &TaskView<'_>, millis: impl Fn(&Summary) -> Option<i64>, emit: &mut Emit<'_>) {
    if let Some(millis) = task.facts.data.as_ref().and_then(millis) {
        emit(&[], Value::millis(millis));
    }
}

/// Counts the series of a page, for [`crate::store::Snapshot::view`].
pub const SERIES: Series = Series {
    task: task_series,
    subscription: subscription_series,
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
        match metric.samples {
            Samples::Subscription(samples) => samples(subscription, &mut |_, _| series += 1),
            Samples::Durations(_) => series += HISTOGRAM_SERIES,
            Samples::Task(_) | Samples::Artifact(_) => {}
        }
    }
    series
}

/// An upper bound of the series of a page, cheap to have.
pub fn series_at_most(snapshot: &Snapshot) -> usize {
    let most_of_a_task = CATALOG.len() + 4;
    // A row or so each, but for two statuses and a histogram; rules come on top.
    let most_of_a_subscription = CATALOG.len() + 32;
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
