//! The newest knowledge of every task, and the immutable snapshot that scrapes
//! read. Freshness and the limits of the page are decided here; what a series
//! is called and looks like is the catalogue's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::model::{Artifact, Artifacts, Assessment, Outcome, TaskInfo};

/// A task to watch, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactSeries {
    /// Every artifact.
    All,
    /// Failed ones.
    Failed,
    /// None.
    None,
}

/// A poll that gave no usable rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollError {
    /// The label `reason`.
    pub reason: &'static str,
    /// The whole chain of causes on one line, with the cloud's request id.
    pub text: String,
}

/// All that is known of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskEntry {
    /// Which task.
    pub target: Arc<Target>,
    /// What the cloud says of the task itself; `None` until it told.
    pub info: Option<Arc<TaskInfo>>,
    /// What the last successful poll told.
    pub data: Option<Arc<Assessment>>,
    /// Why the last finished poll failed; `None` where it did not.
    pub error: Option<Arc<PollError>>,
    /// Why the task itself could not be read, where the newest try failed: a reason.
    pub task_error: Option<&'static str>,
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
        let limit = stale_after.max(self.interval.saturating_mul(3));
        let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        Some(self.last_success_ms?.saturating_add(limit))
    }
}

/// What bounds the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Series in all; series of tasks are never dropped.
    pub series: usize,
    /// Artifacts of one task.
    pub artifacts_per_task: usize,
    /// The floor under the age at which data is stale.
    pub stale_after: Duration,
}

/// Holds one entry a task; polls write it, scrapes read its snapshots.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: Vec<Arc<TaskEntry>>,
    index: HashMap<(Arc<str>, Arc<str>), usize>,
    newest: Option<Arc<Snapshot>>,
}

impl Store {
    /// A store of these tasks; those that share instance and id are one.
    pub fn new(limits: Limits, entries: impl IntoIterator<Item = TaskEntry>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().map(Arc::new).collect();
        entries.sort_by_key(key);
        entries.dedup_by(|a, b| key(a) == key(b));
        let index = entries
            .iter()
            .enumerate()
            .map(|(position, entry)| (key(entry), position))
            .collect();
        Self {
            limits,
            inner: Mutex::new(Inner {
                entries,
                index,
                newest: None,
            }),
        }
    }

    /// Replaces what is known of a task; one that is not watched is left out.
    pub fn update(&self, entry: TaskEntry) {
        let entry = Arc::new(entry);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(position) = inner.index.get(&key(&entry)).copied() else {
            return;
        };
        inner.entries[position] = entry;
        inner.newest = None;
    }

    /// Everything known now; the same snapshot until something changes.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newest) = &inner.newest {
            return Arc::clone(newest);
        }
        let snapshot = Arc::new(Snapshot {
            limits: self.limits,
            entries: inner.entries.clone().into(),
        });
        inner.newest = Some(Arc::clone(&snapshot));
        snapshot
    }
}

fn key(entry: &Arc<TaskEntry>) -> (Arc<str>, Arc<str>) {
    (
        Arc::clone(&entry.target.instance_id),
        Arc::clone(&entry.target.task_id),
    )
}

/// Every task at one moment, ordered by instance and id.
#[derive(Debug)]
pub struct Snapshot {
    limits: Limits,
    entries: Box<[Arc<TaskEntry>]>,
}

impl Snapshot {
    /// The tasks, fresh or not.
    pub fn entries(&self) -> &[Arc<TaskEntry>] {
        &self.entries
    }

    /// What the page shows at `now_ms`: fresh data, within the limits.
    /// `task_series` tells how many series one task has beside its artifacts'.
    pub fn view(&self, now_ms: i64, task_series: impl Fn(&TaskView<'_>) -> usize) -> View<'_> {
        let mut tasks: Vec<TaskView<'_>> = self
            .entries
            .iter()
            .map(|entry| TaskView {
                entry,
                fresh: entry
                    .fresh_until_ms(self.limits.stale_after)
                    .is_some_and(|until| now_ms <= until)
                    .then_some(entry.data.as_deref())
                    .flatten(),
                shown: Shown::Every,
            })
            .collect();
        let fixed: usize = tasks.iter().map(task_series).sum();
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
        }
    }
}

/// What one page shows.
#[derive(Debug)]
pub struct View<'a> {
    /// The moment that freshness was judged at, Unix milliseconds.
    pub now_ms: i64,
    /// Every task, ordered by instance and id.
    pub tasks: Vec<TaskView<'a>>,
    /// Series on the page.
    pub series: usize,
    /// Series that the limits keep off it.
    pub dropped: usize,
}

/// What one page shows of one task.
#[derive(Debug)]
pub struct TaskView<'a> {
    /// The task.
    pub entry: &'a TaskEntry,
    /// Its data, where it is fresh.
    pub fresh: Option<&'a Assessment>,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Every,
    /// Indices of artifacts, ascending.
    These(Vec<u32>),
}

impl<'a> TaskView<'a> {
    /// The artifacts that have series on this page, in order.
    pub fn artifacts(&self) -> impl Iterator<Item = Artifact<'a>> + '_ {
        let artifacts = self.fresh.map(|data| &data.artifacts);
        let (every, these) = match &self.shown {
            Shown::Every => (artifacts.map_or(0, Artifacts::len), &[][..]),
            Shown::These(indices) => (0, indices.as_slice()),
        };
        (0..every)
            .chain(these.iter().map(|index| *index as usize))
            .filter_map(move |index| Some(artifacts?.get(index)))
    }

    fn indices(&self) -> Vec<u32> {
        match &self.shown {
            Shown::Every => {
                let count = self.fresh.map_or(0, |data| data.artifacts.len());
                (0..u32::try_from(count).unwrap_or(u32::MAX)).collect()
            }
            Shown::These(indices) => indices.clone(),
        }
    }

    fn artifact_series(&self) -> usize {
        self.artifacts().map(|artifact| series_of(&artifact)).sum()
    }

    /// Applies the task's own choice and `most`; answers the series dropped by `most`.
    fn choose(&mut self, most: usize) -> usize {
        let Some(data) = self.fresh else { return 0 };
        let artifacts = &data.artifacts;
        match self.entry.target.artifacts {
            ArtifactSeries::All => {}
            ArtifactSeries::None => self.shown = Shown::These(Vec::new()),
            ArtifactSeries::Failed => {
                let mut failed = self.indices();
                failed.retain(|index| artifacts.get(*index as usize).outcome == Outcome::Failed);
                self.shown = Shown::These(failed);
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
        self.shown = Shown::These(indices);
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
        task.shown = Shown::These(indices);
    }
    kept
}

#[cfg(test)]
mod tests;
