//! What people and scripts are shown of the snapshot: every task in one of nine
//! states, together with the subscription whose run it is, and which of them a
//! filter leaves. How that looks is `status_page`'s and `api`'s.

use alibaba_cloud::clock::Moment;
use regex::{Regex, RegexBuilder};

use crate::model::{Assessment, Subscription, TaskStatus};
use crate::store::{ListingEntry, Snapshot, SubscriptionView, TaskEntry};

/// How something stands, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// A subscription whose last finished run failed, whatever runs now.
    Failing,
    Failed,
    PollFailing,
    Stale,
    Running,
    Unknown,
    NotPolled,
    Empty,
    Succeeded,
}

impl State {
    pub(super) const ALL: [Self; 9] = [
        Self::Failing,
        Self::Failed,
        Self::PollFailing,
        Self::Stale,
        Self::Running,
        Self::Unknown,
        Self::NotPolled,
        Self::Empty,
        Self::Succeeded,
    ];

    fn of_task(fresh: Option<&Assessment>, entry: &TaskEntry) -> Self {
        match fresh.map(|data| data.status) {
            Some(TaskStatus::Failed) => Self::Failed,
            _ if entry.up() == Some(false) => Self::PollFailing,
            Some(TaskStatus::Running) => Self::Running,
            Some(TaskStatus::Unknown) => Self::Unknown,
            Some(TaskStatus::Empty) => Self::Empty,
            Some(TaskStatus::Succeeded) => Self::Succeeded,
            None if entry.data.is_some() => Self::Stale,
            None => Self::NotPolled,
        }
    }

    /// Of a subscription of which no run is watched.
    fn of_subscription(view: &SubscriptionView<'_>) -> Self {
        if !view.fresh {
            return Self::Stale;
        }
        match view.entry.last_run.as_ref().map(|run| run.status) {
            _ if is_failing(view) => Self::Failing,
            Some(TaskStatus::Failed) => Self::Failed,
            Some(TaskStatus::Running) => Self::Running,
            Some(TaskStatus::Unknown) => Self::Unknown,
            Some(TaskStatus::Succeeded) => Self::Succeeded,
            Some(TaskStatus::Empty) | None => Self::Empty,
        }
    }

    /// As it stands in queries and in JSON.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Failed => "failed",
            Self::PollFailing => "poll_failing",
            Self::Stale => "stale",
            Self::Running => "running",
            Self::Unknown => "unknown",
            Self::NotPolled => "not_polled",
            Self::Empty => "empty",
            Self::Succeeded => "succeeded",
        }
    }

    /// Whether somebody may have to do something.
    pub(super) fn is_wrong(self) -> bool {
        matches!(
            self,
            Self::Failing | Self::Failed | Self::PollFailing | Self::Stale | Self::Unknown
        )
    }
}

fn is_failing(view: &SubscriptionView<'_>) -> bool {
    let last = view.last_finished_run();
    last.is_some_and(|run| run.status == TaskStatus::Failed)
}

/// A task, or a subscription of which no run is watched.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) state: State,
    pub(super) task: Option<&'a TaskEntry>,
    /// The task's data, where it is fresh.
    pub(super) fresh: Option<&'a Assessment>,
    /// What the task is a run of, or else what this item is.
    pub(super) subscription: Option<SubscriptionView<'a>>,
}

impl<'a> Item<'a> {
    fn of_task(
        snapshot: &Snapshot,
        task: &'a TaskEntry,
        subscription: Option<SubscriptionView<'a>>,
        steady_ms: i64,
    ) -> Self {
        let fresh = snapshot.fresh(task, steady_ms);
        // A poll may know of the end before the next listing does.
        let is_over_and_well =
            fresh.is_some_and(|data| data.finished && data.status == TaskStatus::Succeeded);
        let fails = subscription.filter(|it| is_newest(task, it) && is_failing(it));
        let state = match fails {
            Some(_) if !is_over_and_well => State::Failing,
            _ => State::of_task(fresh, task),
        };
        Self {
            state,
            task: Some(task),
            fresh,
            subscription,
        }
    }

    /// Instance, and task or "".
    fn key(&self) -> (&'a str, &'a str) {
        let task = self.task.map(|task| &task.target);
        match (task, &self.subscription) {
            (Some(target), _) => (&target.instance_id, &target.task_id),
            (None, Some(view)) => (&view.entry.instance_id, ""),
            (None, None) => ("", ""),
        }
    }
}

/// Whether the task is the subscription's newest run, and so stands for it.
fn is_newest(task: &TaskEntry, view: &SubscriptionView<'_>) -> bool {
    let newest = view.entry.last_run.as_ref();
    newest.is_some_and(|run| run.task_id == task.target.task_id)
}

/// Everything at one moment.
pub(super) struct Overview<'a> {
    pub(super) now: Moment,
    /// The most urgent first, those of one state by instance and id.
    pub(super) items: Vec<Item<'a>>,
    /// The followed instances, ordered by id.
    pub(super) listings: Vec<&'a ListingEntry>,
}

impl<'a> Overview<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, now: Moment) -> Self {
        let subscriptions = Subscriptions(snapshot.subscription_views(now.steady_ms));
        let mut stood_for = vec![false; subscriptions.0.len()];
        let mut items = Vec::with_capacity(snapshot.entries().len());
        for task in snapshot.entries() {
            let index = subscriptions.index_of(task);
            let subscription = index.map(|index| subscriptions.0[index]);
            if let (Some(index), Some(view)) = (index, &subscription) {
                stood_for[index] |= is_newest(task, view);
            }
            let item = Item::of_task(snapshot, task, subscription, now.steady_ms);
            items.push(item);
        }
        let others = subscriptions.0.iter().zip(stood_for);
        items.extend(
            others
                .filter(|(_, stood_for)| !stood_for)
                .map(|(view, _)| Item {
                    state: State::of_subscription(view),
                    task: None,
                    fresh: None,
                    subscription: Some(*view),
                }),
        );
        items.sort_by_key(|item| (item.state, item.key()));
        Self {
            now,
            items,
            listings: snapshot.listings().collect(),
        }
    }

    pub(super) fn count(&self, state: State) -> usize {
        self.items.iter().filter(|item| item.state == state).count()
    }
}

/// The tasks behind `after`, ordered by instance and id. `after` is a
/// [`position`], perhaps of a task that is gone.
pub(super) fn tasks_after<'a>(
    snapshot: &'a Snapshot,
    steady_ms: i64,
    after: &[u8],
) -> impl Iterator<Item = Item<'a>> {
    let entries = snapshot.entries();
    let first = entries.partition_point(|entry| position(entry).as_slice() <= after);
    let subscriptions = Subscriptions(snapshot.subscription_views(steady_ms));
    entries[first..].iter().map(move |task| {
        let subscription = subscriptions
            .index_of(task)
            .map(|index| subscriptions.0[index]);
        Item::of_task(snapshot, task, subscription, steady_ms)
    })
}

/// Orders tasks by instance and id: ids have no NUL.
pub(super) fn position(entry: &TaskEntry) -> Vec<u8> {
    let target = &entry.target;
    [
        target.instance_id.as_bytes(),
        &[0],
        target.task_id.as_bytes(),
    ]
    .concat()
}

/// Ordered by instance and labels.
struct Subscriptions<'a>(Vec<SubscriptionView<'a>>);

impl Subscriptions<'_> {
    /// The one that the task is a run of.
    fn index_of(&self, task: &TaskEntry) -> Option<usize> {
        let info = task.info.as_deref().filter(|_| !self.0.is_empty())?;
        let wanted = (
            &*task.target.instance_id,
            [
                info.repo_namespace.as_str(),
                &info.repo_name,
                &info.source_provider,
                &info.source_repository,
            ],
        );
        let key = |view: &SubscriptionView<'_>| {
            let Subscription {
                repo_namespace,
                repo_name,
                source_provider,
                source_repository,
            } = &*view.entry.subscription;
            let labels = [
                repo_namespace.as_str(),
                repo_name,
                source_provider,
                source_repository,
            ];
            (&*view.entry.instance_id, labels).cmp(&wanted)
        };
        self.0.binary_search_by(key).ok()
    }
}

/// Which items are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    text: Option<Regex>,
    pub(super) state: Wanted,
}

/// Which states are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wanted {
    #[default]
    All,
    /// Those in which somebody may have to do something.
    Attention,
    One(State),
}

impl Wanted {
    /// Every word that [`Wanted::parse`] knows.
    pub(super) fn keys() -> impl Iterator<Item = &'static str> {
        std::iter::once(Self::ATTENTION).chain(State::ALL.into_iter().map(State::key))
    }

    const ATTENTION: &'static str = "attention";

    pub(super) fn parse(key: &str) -> Option<Self> {
        if key == Self::ATTENTION {
            return Some(Self::Attention);
        }
        let state = State::ALL.into_iter().find(|state| state.key() == key)?;
        Some(Self::One(state))
    }

    /// As [`Wanted::parse`] reads it, "" for all.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Attention => Self::ATTENTION,
            Self::One(state) => state.key(),
        }
    }

    pub(super) fn takes(self, state: State) -> bool {
        match self {
            Self::All => true,
            Self::Attention => state.is_wrong(),
            Self::One(wanted) => state == wanted,
        }
    }
}

impl Filter {
    /// Characters of a text that is searched for.
    pub(super) const TEXT_MAX: usize = 200;

    /// `text` wherever it stands, case ignored; its first characters where it is
    /// longer than [`Filter::TEXT_MAX`].
    pub(super) fn new(text: &str, state: Wanted) -> Self {
        let text: String = text.trim().chars().take(Self::TEXT_MAX).collect();
        let literal = || {
            RegexBuilder::new(&regex::escape(&text))
                .case_insensitive(true)
                .build()
                .expect("a short literal")
        };
        Self {
            text: (!text.is_empty()).then(literal),
            state,
        }
    }

    pub(super) fn is_everything(&self) -> bool {
        self.text.is_none() && self.state == Wanted::All
    }

    pub(super) fn takes(&self, item: &Item<'_>) -> bool {
        self.state.takes(item.state) && self.text.as_ref().is_none_or(|text| mentions(item, text))
    }
}

/// Whether name, id, instance, repositories or errors contain the text.
fn mentions(item: &Item<'_>, text: &Regex) -> bool {
    let in_repositories = |namespace: &str, name: &str, provider: &str, source: &str| {
        text.is_match(&format!("{namespace}/{name}"))
            || text.is_match(&format!("{provider} {source}"))
    };
    let in_task = item.task.is_some_and(|task| {
        let target = &task.target;
        [&target.task, &target.task_id, &target.instance_id]
            .into_iter()
            .any(|part| text.is_match(part))
            || task.error.as_ref().is_some_and(|error| {
                text.is_match(error.reason.as_str()) || text.is_match(&error.text)
            })
            || task.info.as_ref().is_some_and(|info| {
                text.is_match(&info.message)
                    || in_repositories(
                        &info.repo_namespace,
                        &info.repo_name,
                        &info.source_provider,
                        &info.source_repository,
                    )
            })
    });
    in_task
        || item.subscription.is_some_and(|view| {
            let labels = &view.entry.subscription;
            text.is_match(&view.entry.instance_id)
                || in_repositories(
                    &labels.repo_namespace,
                    &labels.repo_name,
                    &labels.source_provider,
                    &labels.source_repository,
                )
        })
}
