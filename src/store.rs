//! The newest knowledge of every task, and the immutable snapshot that scrapes
//! read. Freshness and the limits of the page are decided here; what a series
//! is called and looks like is the catalogue's.

mod facts;
mod held;
pub mod state;
mod subscription;

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub use self::facts::{RunFacts, SubscriptionFacts, TaskFacts};
pub use self::held::HeldView;
pub use self::subscription::{Counts, Durations, ListingEntry, RunSummary, SubscriptionEntry};
use crate::model::{Artifact, Artifacts, Assessment, Outcome, Subscription, TaskInfo};
use crate::reason::Reason;

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
    /// Which of its artifacts get series.
    pub artifacts: ArtifactSeries,
}

/// Which artifacts of a task get series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArtifactSeries {
    /// Every artifact.
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
    pub data: Option<Arc<Assessment>>,
    /// Why the last finished poll failed; `None` where it did not.
    pub error: Option<Arc<PollError>>,
    /// Why the task itself could not be read, where the newest try failed.
    pub task_error: Option<Reason>,
    /// End of the last finished poll, Unix milliseconds.
    pub last_poll_ms: Option<i64>,
    /// End of the last successful poll, Unix milliseconds.
    pub last_success_ms: Option<i64>,
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
            task_error: None,
            last_poll_ms: None,
            last_success_ms: None,
            interval,
            next_poll_ms: None,
        }
    }

    /// Whether the last finished poll gave usable rows; `None` before the first.
    pub fn up(&self) -> Option<bool> {
        self.last_poll_ms.map(|_| self.error.is_none())
    }

    /// The last moment at which its data is fresh.
    fn fresh_until_ms(&self, stale_after: Duration) -> Option<i64> {
        let limit = fresh_for(stale_after, self.interval);
        Some(self.last_success_ms?.saturating_add(limit))
    }
}

/// How long data is fresh, milliseconds.
fn fresh_for(stale_after: Duration, interval: Duration) -> i64 {
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
    counted: Notify,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    tasks: BTreeMap<TaskKey, Arc<TaskEntry>>,
    subscriptions: BTreeMap<SubscriptionKey, Followed>,
    listings: BTreeMap<Arc<str>, Arc<ListingEntry>>,
    newest: Option<Arc<Snapshot>>,
}

/// Instance and task id.
type TaskKey = (Arc<str>, Arc<str>);
type SubscriptionKey = (Arc<str>, Arc<Subscription>);

/// A subscription, and which of its counts the page shows.
#[derive(Clone, Debug)]
struct Followed {
    entry: Arc<SubscriptionEntry>,
    shown: Arc<Counts>,
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
            inner.tasks.entry(key(&entry)).or_insert(Arc::new(entry));
        }
        Self {
            counts_wait: false,
            counted: Notify::new(),
            inner: Mutex::new(inner),
        }
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
            inner.tasks.insert(key(&entry), Arc::new(entry));
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
        let entry = Arc::new(entry);
        let waits = self.change(|inner| {
            let known = inner.subscriptions.get(&key).map(|known| &known.shown);
            let shown = match known {
                Some(shown) if self.counts_wait => Arc::clone(shown),
                _ => Arc::clone(&entry.counts),
            };
            let waits = !Arc::ptr_eq(&shown, &entry.counts);
            inner.subscriptions.insert(key, Followed { entry, shown });
            waits
        });
        if waits {
            self.counted.notify_one();
        }
    }

    /// Forgets a subscription.
    pub fn remove_subscription(&self, instance_id: &Arc<str>, subscription: &Arc<Subscription>) {
        let key = (Arc::clone(instance_id), Arc::clone(subscription));
        self.change(|inner| {
            inner.subscriptions.remove(&key);
        });
    }

    /// How the lists of an instance can be read.
    pub fn update_listing(&self, entry: ListingEntry) {
        self.change(|inner| {
            let id = Arc::clone(&entry.instance_id);
            inner.listings.insert(id, Arc::new(entry));
        });
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

    /// Whether the data of a task is fresh at `now_ms`.
    pub fn is_fresh(&self, entry: &TaskEntry, now_ms: i64) -> bool {
        let until = entry.fresh_until_ms(self.lock().limits.stale_after);
        until.is_some_and(|until| now_ms <= until)
    }

    /// Whether what the lists of an instance say is fresh at `now_ms`.
    pub fn is_listing_fresh(&self, entry: &ListingEntry, now_ms: i64) -> bool {
        let until = entry.fresh_until_ms(self.lock().limits.stale_after);
        until.is_some_and(|until| now_ms <= until)
    }

    /// Ends when something was counted that the page does not show yet.
    pub async fn counted(&self) {
        self.counted.notified().await;
    }

    /// Shows what a saved state has counted.
    pub fn publish<'a>(
        &self,
        counts: impl IntoIterator<Item = (&'a Arc<str>, &'a Arc<Subscription>, &'a Arc<Counts>)>,
    ) {
        let mut inner = self.lock();
        for (instance_id, subscription, counts) in counts {
            let key = (Arc::clone(instance_id), Arc::clone(subscription));
            let Some(followed) = inner.subscriptions.get_mut(&key) else {
                continue;
            };
            // Most saves bring nothing to show: the page stays what it is.
            if !Arc::ptr_eq(&followed.shown, counts) {
                followed.shown = Arc::clone(counts);
                inner.newest = None;
            }
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

/// Everything at one moment; tasks are ordered by instance and id,
/// subscriptions by instance and labels.
#[derive(Debug)]
pub struct Snapshot {
    limits: Limits,
    entries: Box<[Arc<TaskEntry>]>,
    subscriptions: Box<[Followed]>,
    listings: BTreeMap<Arc<str>, Arc<ListingEntry>>,
}

impl Snapshot {
    /// The tasks, fresh or not.
    pub fn entries(&self) -> &[Arc<TaskEntry>] {
        &self.entries
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// The followed instances, ordered by id.
    pub fn listings(&self) -> impl Iterator<Item = &ListingEntry> {
        self.listings.values().map(Arc::as_ref)
    }

    /// The moments, `now_ms` among them, between which no data turns stale: the
    /// same [`Snapshot::view`], whenever it is looked at.
    pub fn same_view_around(&self, now_ms: i64) -> RangeInclusive<i64> {
        let stale_after = self.limits.stale_after;
        let of_tasks = self.entries.iter().filter(|entry| entry.data.is_some());
        let of_tasks = of_tasks.filter_map(|entry| entry.fresh_until_ms(stale_after));
        let of_listings = self.listings.values();
        let of_listings = of_listings.filter_map(|entry| entry.fresh_until_ms(stale_after));
        let (mut from, mut until) = (i64::MIN, i64::MAX);
        for last_fresh in of_tasks.chain(of_listings) {
            if last_fresh < now_ms {
                from = from.max(last_fresh + 1);
            } else {
                until = until.min(last_fresh);
            }
        }
        from..=until
    }

    /// The data of one of its tasks, where it is fresh at `now_ms`.
    pub fn fresh<'a>(&self, entry: &'a TaskEntry, now_ms: i64) -> Option<&'a Assessment> {
        let until = entry.fresh_until_ms(self.limits.stale_after)?;
        entry.data.as_deref().filter(|_| now_ms <= until)
    }

    /// The followed subscriptions, ordered by instance and labels.
    pub fn subscription_views(&self, now_ms: i64) -> Vec<SubscriptionView<'_>> {
        let fresh = |instance_id| {
            let listing = self.listings.get(instance_id)?;
            Some(now_ms <= listing.fresh_until_ms(self.limits.stale_after)?)
        };
        let followed = self.subscriptions.iter();
        followed
            .map(|Followed { entry, shown }| {
                let fresh = fresh(&entry.instance_id).unwrap_or(false);
                SubscriptionView {
                    entry,
                    fresh,
                    counts: shown,
                    facts: SubscriptionFacts::new(entry, fresh, shown),
                }
            })
            .collect()
    }

    /// What the page shows at `now_ms`: fresh data, within the limits.
    pub fn view(&self, now_ms: i64, series: Series) -> View<'_> {
        let subscriptions = self.subscription_views(now_ms);
        let mut tasks: Vec<TaskView<'_>> = self
            .entries
            .iter()
            .map(|entry| {
                let fresh = self.fresh(entry, now_ms);
                TaskView {
                    entry,
                    fresh,
                    facts: TaskFacts::new(entry, fresh.map(Assessment::summary)),
                    shown: Shown::Every,
                }
            })
            .collect();
        let fixed = tasks.iter().map(series.task).sum::<usize>()
            + subscriptions.iter().map(series.subscription).sum::<usize>();
        let mut dropped = 0;
        for task in &mut tasks {
            dropped += task.choose(self.limits.artifacts_per_task);
        }
        let room = self.limits.series.saturating_sub(fixed);
        let mut artifacts: usize = tasks.iter().map(TaskView::artifact_series).sum();
        if artifacts > room {
            let kept = keep_most_urgent(&mut tasks, room);
            dropped += artifacts - kept;
            artifacts = kept;
        }
        View {
            now_ms,
            series: fixed + artifacts,
            dropped,
            tasks,
            subscriptions,
            listings: self.listings().collect(),
        }
    }
}

/// How many series a page has of one thing; the catalogue knows.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// Of a task, beside its artifacts'.
    pub task: fn(&TaskView<'_>) -> usize,
    /// Of a subscription.
    pub subscription: fn(&SubscriptionView<'_>) -> usize,
}

/// What one page shows.
#[derive(Debug)]
pub struct View<'a> {
    /// The moment that freshness was judged at, Unix milliseconds.
    pub now_ms: i64,
    /// Every task, ordered by instance and id.
    pub tasks: Vec<TaskView<'a>>,
    /// Every followed subscription, ordered by instance and labels.
    pub subscriptions: Vec<SubscriptionView<'a>>,
    /// Every followed instance, ordered by id.
    pub listings: Vec<&'a ListingEntry>,
    /// Series on the page.
    pub series: usize,
    /// Series that the limits keep off it.
    pub dropped: usize,
}

/// What one page shows of one subscription.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionView<'a> {
    /// The subscription.
    pub entry: &'a SubscriptionEntry,
    /// Whether its newest runs are known well enough to be shown.
    pub fresh: bool,
    /// What was counted.
    pub counts: &'a Counts,
    /// What its numbers are.
    pub facts: SubscriptionFacts,
}

/// What one page shows of one task.
#[derive(Debug)]
pub struct TaskView<'a> {
    /// The task.
    pub entry: &'a TaskEntry,
    /// Its data, where it is fresh.
    pub fresh: Option<&'a Assessment>,
    /// What its numbers are.
    pub facts: TaskFacts,
    shown: Shown,
}

#[derive(Clone, Debug)]
enum Shown {
    Every,
    /// Indices of artifacts, ascending.
    These(Arc<[u32]>),
}

impl<'a> TaskView<'a> {
    /// The artifacts that have series on this page, in order.
    pub fn artifacts(&self) -> impl Iterator<Item = Artifact<'a>> + '_ {
        self.artifacts_from(0)
    }

    /// The same without the first `done`.
    pub fn artifacts_from(&self, done: usize) -> impl Iterator<Item = Artifact<'a>> + '_ {
        let artifacts = self.fresh.map(|data| &data.artifacts);
        let (every, these) = match &self.shown {
            Shown::Every => (artifacts.map_or(0, Artifacts::len), &[][..]),
            Shown::These(indices) => (0, indices.get(done..).unwrap_or_default()),
        };
        (done..every)
            .chain(these.iter().map(|index| *index as usize))
            .filter_map(move |index| Some(artifacts?.get(index)))
    }

    fn indices(&self) -> Vec<u32> {
        match &self.shown {
            Shown::Every => {
                let count = self.fresh.map_or(0, |data| data.artifacts.len());
                (0..u32::try_from(count).unwrap_or(u32::MAX)).collect()
            }
            Shown::These(indices) => indices.to_vec(),
        }
    }

    fn artifact_series(&self) -> usize {
        match (&self.shown, self.fresh) {
            // Of every task at every change, so without a look at each artifact.
            (Shown::Every, Some(data)) => data.artifacts.len() + data.artifacts.durations(),
            _ => self.artifacts().map(|artifact| series_of(&artifact)).sum(),
        }
    }

    /// Applies the task's own choice and `most`; answers the series dropped by `most`.
    fn choose(&mut self, most: usize) -> usize {
        let Some(data) = self.fresh else { return 0 };
        let artifacts = &data.artifacts;
        match self.entry.target.artifacts {
            ArtifactSeries::All => {}
            ArtifactSeries::None => self.shown = Shown::These([].into()),
            ArtifactSeries::Failed => {
                let mut failed = self.indices();
                failed.retain(|index| artifacts.get(*index as usize).outcome == Outcome::Failed);
                self.shown = Shown::These(failed.into());
            }
        }
        let count = match &self.shown {
            Shown::Every => artifacts.len(),
            Shown::These(indices) => indices.len(),
        };
        if count <= most {
            return 0;
        }
        let mut indices = self.indices();
        let before = self.artifact_series();
        indices.sort_by_key(|index| artifacts.get(*index as usize).keep_order());
        indices.truncate(most);
        indices.sort_unstable();
        self.shown = Shown::These(indices.into());
        before - self.artifact_series()
    }
}

/// The status, and the duration where there is one.
fn series_of(artifact: &Artifact<'_>) -> usize {
    1 + usize::from(artifact.duration_ms().is_some())
}

/// Cuts the artifacts of all tasks down to `room` series; answers how many are left.
fn keep_most_urgent(tasks: &mut [TaskView<'_>], room: usize) -> usize {
    let mut candidates = Vec::new();
    for (position, task) in tasks.iter().enumerate() {
        for index in task.indices() {
            if let Some(data) = task.fresh {
                let artifact = data.artifacts.get(index as usize);
                candidates.push((artifact.keep_order(), position, index, series_of(&artifact)));
            }
        }
    }
    candidates.sort_unstable();
    let mut kept = 0;
    let mut indices = vec![Vec::new(); tasks.len()];
    for (_, position, index, series) in candidates {
        if kept + series > room {
            break;
        }
        kept += series;
        indices[position].push(index);
    }
    for (task, mut indices) in tasks.iter_mut().zip(indices) {
        indices.sort_unstable();
        task.shown = Shown::These(indices.into());
    }
    kept
}

#[cfg(test)]
mod tests;
