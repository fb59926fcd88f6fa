//! What a page shows, together with the snapshot that it is taken from: a page
//! is sent while the store goes on, and stays the page that it was.

use std::sync::Arc;

use super::{Series, Shown, Snapshot, SubscriptionView, TaskView};

/// A [`View`](super::View) that holds its snapshot.
#[derive(Debug)]
pub struct HeldView {
    snapshot: Arc<Snapshot>,
    tasks: Box<[Chosen]>,
    /// Whether each is fresh.
    subscriptions: Box<[bool]>,
    /// Series on the page.
    pub series: usize,
    /// Series that the limits keep off it.
    pub dropped: usize,
}

#[derive(Debug)]
struct Chosen {
    fresh: bool,
    shown: Shown,
}

impl HeldView {
    /// What the page shows at `now_ms`.
    pub fn new(snapshot: Arc<Snapshot>, now_ms: i64, series: Series) -> Self {
        let view = snapshot.view(now_ms, series);
        let (series, dropped) = (view.series, view.dropped);
        let subscriptions = view.subscriptions.iter().map(|it| it.fresh).collect();
        let tasks = view.tasks.into_iter().map(|task| Chosen {
            fresh: task.fresh.is_some(),
            shown: task.shown,
        });
        Self {
            tasks: tasks.collect(),
            subscriptions,
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
        let Chosen { fresh, shown } = &self.tasks[place];
        TaskView {
            entry,
            fresh: entry.data.as_deref().filter(|_| *fresh),
            shown: shown.clone(),
        }
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    /// A subscription, by its place in the order of the page.
    pub fn subscription(&self, place: usize) -> SubscriptionView<'_> {
        let followed = &self.snapshot.subscriptions[place];
        SubscriptionView {
            entry: &followed.entry,
            fresh: self.subscriptions[place],
            counts: &followed.shown,
        }
    }
}
