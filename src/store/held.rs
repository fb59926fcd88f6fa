//! What a page shows, together with the snapshot that it is taken from: a page
//! is sent while the store goes on, and stays the page that it was.

use std::sync::Arc;

use crate::model::Assessment;

use super::{
    ListingView, RunDurations, Series, Shown, Snapshot, SubscriptionFacts, SubscriptionView,
    TaskFacts, TaskView,
};

/// A [`View`](super::View) that holds its snapshot.
#[derive(Debug)]
pub struct HeldView {
    snapshot: Arc<Snapshot>,
    tasks: Box<[Chosen]>,
    subscriptions: Box<[Known]>,
    listings: Box<[Instance]>,
    /// Series on the page.
    pub series: usize,
    /// Series that the limits keep off it.
    pub dropped: usize,
}

#[derive(Debug)]
struct Chosen {
    fresh: Option<Arc<Assessment>>,
    facts: TaskFacts,
    shown: Shown,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    fresh: bool,
    facts: SubscriptionFacts,
}

#[derive(Debug)]
struct Instance {
    id: Arc<str>,
    durations: Arc<RunDurations>,
}

impl HeldView {
    /// What the page shows at `steady_ms`.
    pub fn new(snapshot: Arc<Snapshot>, steady_ms: i64, series: Series) -> Self {
        let view = snapshot.view(steady_ms, series);
        let (series, dropped) = (view.series, view.dropped);
        let subscriptions = view.subscriptions.iter().map(|it| Known {
            fresh: it.fresh,
            facts: it.facts,
        });
        let subscriptions = subscriptions.collect();
        let listings = view.listings.iter();
        let listings = listings.map(|ListingView { entry, durations }| Instance {
            id: Arc::clone(&entry.instance_id),
            durations: Arc::clone(durations),
        });
        let listings = listings.collect();
        let tasks = view.tasks.into_iter().map(|task| Chosen {
            fresh: task.fresh.and_then(|_| task.entry.data.clone()),
            facts: task.facts,
            shown: task.shown,
        });
        Self {
            tasks: tasks.collect(),
            subscriptions,
            listings,
            series,
            dropped,
            snapshot,
        }
    }

    /// How many tasks there are.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// A task, by its place in the order of the page.
    pub fn task(&self, place: usize) -> TaskView<'_> {
        let entry = &self.snapshot.entries[place];
        let chosen = &self.tasks[place];
        TaskView {
            entry,
            fresh: chosen.fresh.as_deref(),
            facts: chosen.facts,
            shown: chosen.shown.clone(),
        }
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// A subscription, by its place in the order of the page.
    pub fn subscription(&self, place: usize) -> SubscriptionView<'_> {
        let followed = &self.snapshot.subscriptions[place];
        let Known { fresh, facts } = self.subscriptions[place];
        SubscriptionView {
            entry: &followed.entry,
            fresh,
            facts,
        }
    }

    /// The followed instances with the durations of their counted runs, in the
    /// order of the page.
    pub fn listings(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &RunDurations)> {
        let listings = self.listings.iter();
        listings.map(|instance| (&instance.id, &*instance.durations))
    }

    /// The durations of one of them, by its place.
    pub fn durations(&self, place: usize) -> &RunDurations {
        &self.listings[place].durations
    }
}
