//! The newest knowledge of every task, and the immutable snapshot that scrapes
//! read. Freshness and the limits of the page are decided here; what a series
//! is called and looks like is the catalogue's.

mod announced;
pub mod settings;
pub mod state;
mod subscription;
mod view;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alibaba_cloud::Reason;
use alibaba_cloud::clock::{Clock, Moment};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use self::announced::Announced;
use self::state::State;
pub use self::subscription::{
    Counts, Durations, ListingEntry, RecentRun, RunDurations, RunSummary, SubscriptionEntry,
};
pub use self::view::{Series, Snapshot, SubscriptionView, TaskView, View};
use crate::model::{Assessment, Cause, Subscription, TaskInfo};

/// A task to watch, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `cri-…`
    pub instance_id: Arc<str>,
    /// `crast-…`; with the instance it identifies the task.
    pub task_id: Arc<str>,
    /// The `task` label.
    pub task: Arc<str>,
    /// The region of the instance, "" if only an endpoint is known.
    pub region: Arc<str>,
    /// How it came to be watched.
    pub origin: Origin,
    /// Which of its artifacts get series.
    pub artifacts: ArtifactSeries,
}

/// How a task came to be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The configuration names it, whether a list has it too or not.
    Configured,
    /// It was found in the list of a followed instance.
    Followed,
}

impl Origin {
    /// The value of the label `origin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Followed => "followed",
        }
    }
}

/// Which artifacts of a task get series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactSeries {
    /// Every artifact.
    #[default]
    All,
    /// Failed ones.
    Failed,
    /// None.
    None,
}

/// A poll that gave no usable rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollError {
    /// The label `reason`.
    pub reason: Reason,
    /// The whole chain of causes on one line, with the cloud's request id.
    pub text: String,
}

/// All that is known of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEntry {
    /// Which task.
    pub target: Arc<Target>,
    /// What the cloud says of the task itself; `None` until it told.
    pub info: Option<Arc<TaskInfo>>,
    /// What the last successful poll told.
    pub data: Option<Assessment>,
    /// Why the last finished poll failed; `None` where it did not.
    pub error: Option<Arc<PollError>>,
    /// Why the task failed, while its status is failed.
    #[serde(skip)]
    pub cause: Option<Cause>,
    /// Why the task itself could not be read, where the newest try failed.
    pub task_error: Option<Reason>,
    /// End of the last finished poll, Unix milliseconds.
    pub last_poll_ms: Option<i64>,
    /// End of the last successful poll, Unix milliseconds.
    pub last_success_ms: Option<i64>,
    /// How far the wall clock was ahead of the steady one then.
    #[serde(skip)]
    pub wall_ahead_ms: i64,
    /// The interval in force, without backoff.
    pub interval: Duration,
    /// When the next poll is due, Unix milliseconds; for people.
    pub next_poll_ms: Option<i64>,
}

impl TaskEntry {
    /// A task of which nothing is known yet.
    pub fn new(target: Arc<Target>, interval: Duration) -> Self {
        Self {
            target,
            info: None,
            data: None,
            error: None,
            cause: None,
            task_error: None,
            last_poll_ms: None,
            last_success_ms: None,
            wall_ahead_ms: 0,
            interval,
            next_poll_ms: None,
        }
    }

    /// Whether the last finished poll gave usable rows; `None` before the first.
    pub fn up(&self) -> Option<bool> {
        self.last_poll_ms.map(|_| self.error.is_none())
    }

    /// A poll succeeded at `moment`.
    pub fn set_last_success(&mut self, moment: Moment) {
        self.last_success_ms = Some(moment.wall_ms);
        self.wall_ahead_ms = moment.wall_ahead_ms();
    }

    /// How old its data is at `steady_ms`, milliseconds.
    pub fn data_age_ms(&self, steady_ms: i64) -> Option<i64> {
        let then = steady(self.last_success_ms?, self.wall_ahead_ms);
        Some(steady_ms.saturating_sub(then))
    }

    /// The last moment at which its data is fresh, by the steady clock.
    fn fresh_until_ms(&self, stale_after: Duration) -> Option<i64> {
        let then = steady(self.last_success_ms?, self.wall_ahead_ms);
        Some(then.saturating_add(fresh_for(stale_after, self.interval)))
    }
}

/// The time on the steady clock at which the wall clock, that far ahead, showed
/// `wall_ms`.
fn steady(wall_ms: i64, wall_ahead_ms: i64) -> i64 {
    wall_ms.saturating_sub(wall_ahead_ms)
}

/// How long data is fresh, milliseconds.
pub(crate) fn fresh_for(stale_after: Duration, interval: Duration) -> i64 {
    let limit = stale_after.max(interval.saturating_mul(3));
    i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)
}

/// What bounds the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Series in all; series of tasks and subscriptions are never dropped.
    pub series: usize,
    /// Artifacts of one task.
    pub artifacts_per_task: usize,
    /// The floor under the age at which data is stale.
    pub stale_after: Duration,
}

/// Holds one entry a task, a subscription and a followed instance; polls write
/// it, scrapes read its snapshots.
#[derive(Debug)]
pub struct Store {
    /// Whether what was counted waits for [`Store::publish`] before the page shows it.
    counts_wait: bool,
    clock: Clock,
    counted: Notify,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    tasks: BTreeMap<TaskKey, TaskEntry>,
    subscriptions: BTreeMap<SubscriptionKey, Followed>,
    listings: BTreeMap<Arc<str>, Listed>,
    newest: Option<Arc<Snapshot>>,
}

/// Instance and task id.
type TaskKey = (Arc<str>, Arc<str>);
type SubscriptionKey = (Arc<str>, Arc<Subscription>);

/// A subscription, and which of its counts `/metrics` shows.
#[derive(Clone, Debug)]
struct Followed {
    entry: SubscriptionEntry,
    counts: Announced<Counts>,
}

/// A followed instance, and which of its observations `/metrics` shows.
#[derive(Clone, Debug)]
struct Listed {
    entry: ListingEntry,
    durations: Announced<RunDurations>,
}

impl Store {
    /// A store of these tasks; those that share instance and id are one.
    pub fn new(limits: Limits, entries: impl IntoIterator<Item = TaskEntry>) -> Self {
        let mut inner = Inner {
            limits,
            tasks: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            listings: BTreeMap::new(),
            newest: None,
        };
        for entry in entries {
            inner.tasks.entry(key(&entry)).or_insert(entry);
        }
        Self {
            counts_wait: false,
            clock: Clock::system(),
            counted: Notify::new(),
            inner: Mutex::new(inner),
        }
    }

    /// The clock that says how long a new count is held back.
    #[must_use]
    pub fn timed_by(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// From now on the page shows what was counted no sooner than
    /// [`Store::publish`] is told that it is safe.
    #[must_use]
    pub fn holding_counts_back(mut self) -> Self {
        self.counts_wait = true;
        self
    }

    /// What is known of a task.
    pub fn update(&self, entry: TaskEntry) {
        self.change(|inner| {
            inner.tasks.insert(key(&entry), entry);
        });
    }

    /// Forgets a task.
    pub fn remove(&self, instance_id: &Arc<str>, task_id: &Arc<str>) {
        let key = (Arc::clone(instance_id), Arc::clone(task_id));
        self.change(|inner| {
            inner.tasks.remove(&key);
        });
    }

    /// What is known of a subscription. A new one is shown with what it has
    /// counted before, which is nothing or was read from the state file.
    pub fn update_subscription(&self, entry: SubscriptionEntry) {
        let key = (
            Arc::clone(&entry.instance_id),
            Arc::clone(&entry.subscription),
        );
        let waits = self.change(|inner| {
            let known = inner.subscriptions.remove(&key).map(|known| known.counts);
            let counts = self.announced(known, &entry.counts, entry.announced);
            let waits = counts.waits();
            inner.subscriptions.insert(key, Followed { entry, counts });
            waits
        });
        if waits {
            self.counted.notify_one();
        }
    }

    /// What is `known` of a count with what is counted now; or a new one, which
    /// `/metrics` has `shown` before or has not.
    fn announced<T: Default>(
        &self,
        known: Option<Announced<T>>,
        counted: &Arc<T>,
        shown: bool,
    ) -> Announced<T> {
        let counted = Arc::clone(counted);
        match known {
            Some(known) => known.with_counted(counted),
            None if shown => Announced::shown_before(counted, self.counts_wait),
            None => Announced::new(counted, self.clock.steady_millis(), self.counts_wait),
        }
    }

    /// Forgets a subscription; whether `/metrics` has shown its counters.
    pub fn remove_subscription(
        &self,
        instance_id: &Arc<str>,
        subscription: &Arc<Subscription>,
    ) -> bool {
        let key = (Arc::clone(instance_id), Arc::clone(subscription));
        let steady_ms = self.clock.steady_millis();
        let removed = self.change(|inner| inner.subscriptions.remove(&key));
        removed.is_some_and(|it| it.counts.is_announced(steady_ms))
    }

    /// How the lists of an instance can be read.
    pub fn update_listing(&self, entry: ListingEntry) {
        let waits = self.change(|inner| {
            let known = inner.listings.remove(&entry.instance_id);
            let known = known.map(|known| known.durations);
            let durations = self.announced(known, &entry.durations, entry.announced);
            let waits = durations.waits();
            let id = Arc::clone(&entry.instance_id);
            inner.listings.insert(id, Listed { entry, durations });
            waits
        });
        if waits {
            self.counted.notify_one();
        }
    }

    /// Forgets an instance that is not followed any more, and its subscriptions.
    pub fn remove_listing(&self, instance_id: &str) {
        self.change(|inner| {
            inner.listings.remove(instance_id);
            inner
                .subscriptions
                .retain(|(id, _), _| **id != *instance_id);
        });
    }

    /// Forgets the subscriptions of an instance but these.
    pub fn keep_subscriptions(&self, instance_id: &str, these: &HashSet<Arc<Subscription>>) {
        self.change(|inner| {
            inner
                .subscriptions
                .retain(|(id, key), _| **id != *instance_id || these.contains(key));
        });
    }

    /// Bounds the page otherwise from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.change(|inner| inner.limits = limits);
    }

    /// Whether the data of a task is fresh at `steady_ms`.
    pub fn is_fresh(&self, entry: &TaskEntry, steady_ms: i64) -> bool {
        let until = entry.fresh_until_ms(self.lock().limits.stale_after);
        until.is_some_and(|until| steady_ms <= until)
    }

    /// Ends when something was counted that the page does not show yet.
    pub async fn counted(&self) {
        self.counted.notified().await;
    }

    /// Notes that an answer of `/metrics` shows the counters and histograms of
    /// `snapshot`: what starts at 0 may move from now on.
    pub fn announce(&self, snapshot: &Snapshot) {
        if snapshot.announced.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut new = false;
        for followed in &snapshot.subscriptions {
            new |= followed.counts.announce();
        }
        for listed in snapshot.listings.values() {
            new |= listed.durations.announce();
        }
        if !new {
            return;
        }
        // What is new is shown by another snapshot, at once or after a save.
        self.lock().newest = None;
        if self.counts_wait {
            self.counted.notify_one();
        }
    }

    /// Notes in a state that is about to be saved what was on `/metrics`.
    pub fn mark_announced(&self, state: &mut State, steady_ms: i64) {
        let inner = self.lock();
        for instance in &mut state.instances {
            let listed = inner.listings.get(&instance.instance_id);
            instance.announced |= listed.is_some_and(|it| it.durations.is_announced(steady_ms));
            for saved in &mut instance.subscriptions {
                let key = (
                    Arc::clone(&instance.instance_id),
                    Arc::clone(&saved.subscription),
                );
                let followed = inner.subscriptions.get(&key);
                saved.announced |= followed.is_some_and(|it| it.counts.is_announced(steady_ms));
            }
        }
    }

    /// Shows what a saved state has counted.
    pub fn publish(&self, state: &State) {
        let mut inner = self.lock();
        let Inner {
            subscriptions,
            listings,
            newest,
            ..
        } = &mut *inner;
        let mut changed = false;
        for instance in &state.instances {
            if let Some(listed) = listings.get_mut(&instance.instance_id) {
                changed |= listed
                    .durations
                    .note_saved(&instance.durations, instance.announced);
            }
            for saved in &instance.subscriptions {
                let key = (
                    Arc::clone(&instance.instance_id),
                    Arc::clone(&saved.subscription),
                );
                if let Some(followed) = subscriptions.get_mut(&key) {
                    changed |= followed.counts.note_saved(&saved.counts, saved.announced);
                }
            }
        }
        // Most saves bring nothing to show: the snapshot stays the same.
        if changed {
            *newest = None;
        }
    }

    /// Everything known now; the same snapshot until something changes.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let mut inner = self.lock();
        if let Some(newest) = &inner.newest {
            return Arc::clone(newest);
        }
        let snapshot = Arc::new(Snapshot {
            limits: inner.limits,
            entries: inner.tasks.values().cloned().collect(),
            subscriptions: inner.subscriptions.values().cloned().collect(),
            listings: inner.listings.clone(),
            announced: AtomicBool::new(false),
        });
        inner.newest = Some(Arc::clone(&snapshot));
        snapshot
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        inner.newest = None;
        change(&mut inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(entry: &TaskEntry) -> TaskKey {
    (
        Arc::clone(&entry.target.instance_id),
        Arc::clone(&entry.target.task_id),
    )
}

#[cfg(test)]
mod tests;
