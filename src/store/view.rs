//! The immutable snapshot that scrapes read, and what one page shows of it: fresh
//! data, within the limits. A page is written family by family, each over all
//! tasks, so what its samples are made of lies one behind the other: entries all
//! over the memory would cost more to look up, once a family, than their lines to
//! write.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{
    ArtifactSeries, Counts, Followed, Limits, Listed, ListingEntry, RunDurations, RunSummary,
    SubscriptionEntry, TaskEntry,
};
use crate::model::{Artifact, Artifacts, Assessment, Outcome};

/// Everything at one moment; tasks are ordered by instance and id,
/// subscriptions by instance and labels.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) limits: Limits,
    pub(super) entries: Box<[TaskEntry]>,
    pub(super) subscriptions: Box<[Followed]>,
    pub(super) listings: BTreeMap<Arc<str>, Listed>,
    /// Whether an answer of `/metrics` was made from it.
    pub(super) announced: AtomicBool,
}

impl Snapshot {
    /// The tasks, fresh or not.
    pub fn entries(&self) -> &[TaskEntry] {
        &self.entries
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// The followed instances, ordered by id.
    pub fn listings(&self) -> impl Iterator<Item = &ListingEntry> {
        self.listings.values().map(|listed| &listed.entry)
    }

    /// The moments, `steady_ms` among them, between which no data turns stale and no
    /// count begins to show: the same [`View`] at each of them.
    pub fn same_view_around(&self, steady_ms: i64) -> RangeInclusive<i64> {
        let stale_after = self.limits.stale_after;
        let of_tasks = self.entries.iter().filter(|entry| entry.data.is_some());
        let of_tasks = of_tasks.filter_map(|entry| entry.fresh_until_ms(stale_after));
        let of_listings = self.listings();
        let of_listings = of_listings.filter_map(|entry| entry.fresh_until_ms(stale_after));
        let of_subscriptions = self.subscriptions.iter();
        let of_counts = of_subscriptions.filter_map(|it| it.counts.held_until_ms());
        let of_durations = self.listings.values();
        let of_durations = of_durations.filter_map(|it| it.durations.held_until_ms());
        let held = of_counts.chain(of_durations);
        let (mut from, mut until) = (i64::MIN, i64::MAX);
        for last_fresh in of_tasks.chain(of_listings).chain(held) {
            if last_fresh < steady_ms {
                from = from.max(last_fresh + 1);
            } else {
                until = until.min(last_fresh);
            }
        }
        from..=until
    }

    /// The data of one of its tasks, where it is fresh at `steady_ms`.
    pub fn fresh<'a>(&self, entry: &'a TaskEntry, steady_ms: i64) -> Option<&'a Assessment> {
        let until = entry.fresh_until_ms(self.limits.stale_after)?;
        entry.data.as_ref().filter(|_| steady_ms <= until)
    }

    /// The followed subscriptions, ordered by instance and labels.
    pub fn subscription_views(&self, steady_ms: i64) -> Vec<SubscriptionView<'_>> {
        let fresh = |instance_id| {
            let listing = &self.listings.get(instance_id)?.entry;
            Some(steady_ms <= listing.fresh_until_ms(self.limits.stale_after)?)
        };
        let followed = self.subscriptions.iter();
        followed
            .map(|Followed { entry, counts }| SubscriptionView {
                entry,
                fresh: fresh(&entry.instance_id).unwrap_or(false),
                counts: *counts.shown(steady_ms).as_ref(),
            })
            .collect()
    }
}

/// How many series a page has of one thing; the catalogue knows.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// Of a task, beside its artifacts'.
    pub task: fn(&TaskView<'_>) -> usize,
    /// Of a subscription.
    pub subscription: fn(&SubscriptionView<'_>) -> usize,
    /// Of a followed instance.
    pub listing: fn() -> usize,
}

/// What one page shows. It holds its snapshot: a page is sent while the store
/// changes, and stays the page that it was.
#[derive(Debug)]
pub struct View {
    snapshot: Arc<Snapshot>,
    tasks: Box<[Choice]>,
    /// Whether each subscription is fresh, and its counts.
    subscriptions: Box<[(bool, Counts)]>,
    durations: Box<[(Arc<str>, Arc<RunDurations>)]>,
    /// Series on the page.
    pub series: usize,
    /// Series that the limits keep off it.
    pub dropped: usize,
}

/// What a page shows of a task.
#[derive(Debug)]
struct Choice {
    fresh: bool,
    shown: Shown,
}

#[derive(Clone, Debug)]
enum Shown {
    Every,
    /// Indices of artifacts, ascending.
    These(Box<[u32]>),
}

impl View {
    /// What the page shows at `steady_ms`.
    pub fn new(snapshot: Arc<Snapshot>, steady_ms: i64, series: Series) -> Self {
        let limits = snapshot.limits;
        let subscriptions = snapshot.subscription_views(steady_ms);
        let mut fixed: usize = subscriptions.iter().map(series.subscription).sum();
        fixed += snapshot.listings.len() * (series.listing)();
        let subscriptions = subscriptions.iter().map(|it| (it.fresh, it.counts));
        let subscriptions = subscriptions.collect();
        let (mut artifacts, mut dropped) = (0, 0);
        let tasks = snapshot.entries.iter().map(|entry| {
            let fresh = snapshot.fresh(entry, steady_ms);
            let every = TaskView {
                entry,
                fresh,
                shown: &Shown::Every,
            };
            fixed += (series.task)(&every);
            let (shown, kept, left_out) = every.choose(limits.artifacts_per_task);
            artifacts += kept;
            dropped += left_out;
            Choice {
                fresh: fresh.is_some(),
                shown,
            }
        });
        let tasks = tasks.collect();
        let durations = snapshot.listings.iter().map(|(id, listed)| {
            let durations = Arc::clone(listed.durations.shown(steady_ms));
            (Arc::clone(id), durations)
        });
        let mut view = Self {
            tasks,
            subscriptions,
            durations: durations.collect(),
            series: fixed + artifacts,
            dropped,
            snapshot,
        };
        let room = limits.series.saturating_sub(fixed);
        if artifacts > room {
            let kept = view.keep_most_urgent(room);
            view.dropped += artifacts - kept;
            view.series = fixed + kept;
        }
        view
    }

    /// Every task, ordered by instance and id.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = TaskView<'_>> {
        (0..self.tasks.len()).map(|place| self.task(place))
    }

    /// A task, by its place in the order of the page.
    pub fn task(&self, place: usize) -> TaskView<'_> {
        let entry = &self.snapshot.entries[place];
        let Choice { fresh, shown } = &self.tasks[place];
        TaskView {
            entry,
            fresh: entry.data.as_ref().filter(|_| *fresh),
            shown,
        }
    }

    /// Every followed subscription, ordered by instance and labels.
    pub fn subscriptions(&self) -> impl ExactSizeIterator<Item = SubscriptionView<'_>> {
        (0..self.subscriptions.len()).map(|place| self.subscription(place))
    }

    /// A subscription, by its place in the order of the page.
    pub fn subscription(&self, place: usize) -> SubscriptionView<'_> {
        let (fresh, counts) = self.subscriptions[place];
        SubscriptionView {
            entry: &self.snapshot.subscriptions[place].entry,
            fresh,
            counts,
        }
    }

    /// The followed instances with the durations of their counted runs, ordered by id.
    pub fn durations(&self) -> &[(Arc<str>, Arc<RunDurations>)] {
        &self.durations
    }

    /// Cuts the artifacts of all tasks down to `room` series; answers how many are left.
    fn keep_most_urgent(&mut self, room: usize) -> usize {
        let mut candidates = Vec::new();
        for (place, task) in self.tasks().enumerate() {
            for index in task.indices() {
                if let Some(data) = task.fresh {
                    let artifact = data.artifacts.get(index as usize);
                    candidates.push((artifact.keep_order(), place, index, series_of(&artifact)));
                }
            }
        }
        candidates.sort_unstable();
        let mut kept = 0;
        let mut indices = vec![Vec::new(); self.tasks.len()];
        for (_, place, index, series) in candidates {
            if kept + series > room {
                break;
            }
            kept += series;
            indices[place].push(index);
        }
        for (task, mut indices) in self.tasks.iter_mut().zip(indices) {
            indices.sort_unstable();
            task.shown = Shown::These(indices.into());
        }
        kept
    }
}

/// What one page shows of one subscription.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionView<'a> {
    /// The subscription.
    pub entry: &'a SubscriptionEntry,
    /// Whether its newest runs are known well enough to be shown.
    pub fresh: bool,
    /// What it has counted, as far as it is shown.
    pub counts: Counts,
}

impl<'a> SubscriptionView<'a> {
    /// The newest run, where it is known well enough.
    pub fn last_run(&self) -> Option<&'a RunSummary> {
        self.entry.last_run.as_ref().filter(|_| self.fresh)
    }

    /// The newest finished run, likewise.
    pub fn last_finished_run(&self) -> Option<&'a RunSummary> {
        self.entry.last_finished_run.as_ref().filter(|_| self.fresh)
    }
}

/// What one page shows of one task.
#[derive(Clone, Copy, Debug)]
pub struct TaskView<'a> {
    /// The task.
    pub entry: &'a TaskEntry,
    /// Its data, where it is fresh.
    pub fresh: Option<&'a Assessment>,
    shown: &'a Shown,
}

impl<'a> TaskView<'a> {
    /// The artifacts that have series on this page, in order.
    pub fn artifacts(&self) -> impl Iterator<Item = Artifact<'a>> + use<'a> {
        self.artifacts_from(0)
    }

    /// The same without the first `done`.
    pub fn artifacts_from(&self, done: usize) -> impl Iterator<Item = Artifact<'a>> + use<'a> {
        let artifacts = self.fresh.map(|data| &*data.artifacts);
        let (every, these) = match self.shown {
            Shown::Every => (artifacts.map_or(0, Artifacts::len), &[][..]),
            Shown::These(indices) => (0, indices.get(done..).unwrap_or_default()),
        };
        (done..every)
            .chain(these.iter().map(|index| *index as usize))
            .filter_map(move |index| Some(artifacts?.get(index)))
    }

    fn indices(&self) -> Vec<u32> {
        match self.shown {
            Shown::Every => {
                let count = self.fresh.map_or(0, |data| data.artifacts.len());
                (0..u32::try_from(count).unwrap_or(u32::MAX)).collect()
            }
            Shown::These(indices) => indices.to_vec(),
        }
    }

    /// The task's own choice of its artifacts, `most` at most; the series of those,
    /// and the series of what `most` leaves out.
    fn choose(&self, most: usize) -> (Shown, usize, usize) {
        let Some(Assessment { artifacts, .. }) = self.fresh else {
            return (Shown::Every, 0, 0);
        };
        let choice = self.entry.target.artifacts;
        if choice == ArtifactSeries::All && artifacts.len() <= most {
            // Of every task at every change, so without a look at each artifact.
            return (Shown::Every, artifacts.len() + artifacts.durations(), 0);
        }
        let series = |indices: &[u32]| -> usize {
            let artifacts = indices.iter().map(|index| artifacts.get(*index as usize));
            artifacts.map(|artifact| series_of(&artifact)).sum()
        };
        let mut indices = self.indices();
        indices.retain(|index| match choice {
            ArtifactSeries::All => true,
            ArtifactSeries::Failed => artifacts.get(*index as usize).outcome == Outcome::Failed,
            ArtifactSeries::None => false,
        });
        let before = series(&indices);
        if indices.len() > most {
            indices.sort_by_key(|index| artifacts.get(*index as usize).keep_order());
            indices.truncate(most);
            indices.sort_unstable();
        }
        let kept = series(&indices);
        (Shown::These(indices.into()), kept, before - kept)
    }
}

/// The status, and the duration where there is one.
fn series_of(artifact: &Artifact<'_>) -> usize {
    1 + usize::from(artifact.duration_ms().is_some())
}
