//! What the status page and `/api/v1/tasks` share: every task in one of nine
//! states, with the subscription that it is a run of, and the filters over them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::iter;

use alibaba_cloud::clock::Moment;
use regex::{Regex, RegexBuilder};

use crate::model::{Assessment, Subscription, TaskStatus};
use crate::store::{ListingEntry, RunSummary, Snapshot, SubscriptionView, TaskEntry};

/// The state of a task or subscription, the most urgent first.
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

/// How a state or a filter is shown.
#[derive(Clone, Copy)]
pub(super) struct Look {
    /// Its name in queries and in JSON.
    pub(super) key: &'static str,
    pub(super) word: &'static str,
    pub(super) icon: &'static str,
    /// A class of the style sheet.
    pub(super) tone: &'static str,
}

impl Look {
    fn new(key: &'static str, word: &'static str, icon: &'static str, tone: &'static str) -> Self {
        Self {
            key,
            word,
            icon,
            tone,
        }
    }
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

    pub(super) fn look(self) -> Look {
        match self {
            Self::Failing => Look::new("failing", "failing", "✕", "bad"),
            Self::Failed => Look::new("failed", "failed", "✕", "bad"),
            Self::PollFailing => Look::new("poll_failing", "poll failing", "!", "warn"),
            Self::Stale => Look::new("stale", "stale", "⌛", "warn"),
            Self::Running => Look::new("running", "running", "▸", "busy"),
            Self::Unknown => Look::new("unknown", "unknown", "?", "odd"),
            Self::NotPolled => Look::new("not_polled", "not polled yet", "…", "calm"),
            Self::Empty => Look::new("empty", "empty", "–", "calm"),
            Self::Succeeded => Look::new("succeeded", "succeeded", "✓", "good"),
        }
    }

    /// Whether somebody may have to act.
    pub(super) fn needs_attention(self) -> bool {
        use State::{Failed, Failing, PollFailing, Stale, Unknown};
        matches!(self, Failing | Failed | PollFailing | Stale | Unknown)
    }

    fn of_status(status: TaskStatus) -> Self {
        match status {
            TaskStatus::Failed => Self::Failed,
            TaskStatus::Running => Self::Running,
            TaskStatus::Unknown => Self::Unknown,
            TaskStatus::Empty => Self::Empty,
            TaskStatus::Succeeded => Self::Succeeded,
        }
    }
}

fn is_failing(view: &SubscriptionView<'_>) -> bool {
    let last = view.last_finished_run();
    last.is_some_and(|run| run.status == TaskStatus::Failed)
}

/// A task, or a subscription without a watched run.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) state: State,
    pub(super) task: Option<&'a TaskEntry>,
    /// The task's data, if it is fresh.
    pub(super) fresh: Option<&'a Assessment>,
    /// What the task is a run of, or what this item is.
    pub(super) subscription: Option<SubscriptionView<'a>>,
}

impl<'a> Item<'a> {
    fn of_task(
        task: &'a TaskEntry,
        fresh: Option<&'a Assessment>,
        subscription: Option<SubscriptionView<'a>>,
    ) -> Self {
        let mut item = Self {
            state: State::NotPolled,
            task: Some(task),
            fresh,
            subscription,
        };
        let status = fresh.map(|data| data.status);
        // A poll may see the end of a run before the next listing does.
        let has_succeeded =
            fresh.is_some_and(|data| data.finished && data.status == TaskStatus::Succeeded);
        let fails = item.is_newest_run() && subscription.is_some_and(|view| is_failing(&view));
        item.state = match status {
            _ if fails && !has_succeeded => State::Failing,
            Some(TaskStatus::Failed) => State::Failed,
            _ if task.up() == Some(false) => State::PollFailing,
            Some(status) => State::of_status(status),
            None if task.data.is_some() => State::Stale,
            None => State::NotPolled,
        };
        item
    }

    fn of_subscription(view: SubscriptionView<'a>) -> Self {
        let status = view.entry.last_run.as_ref().map(|run| run.status);
        let state = match status {
            _ if !view.fresh => State::Stale,
            _ if is_failing(&view) => State::Failing,
            Some(status) => State::of_status(status),
            None => State::Empty,
        };
        Self {
            state,
            task: None,
            fresh: None,
            subscription: Some(view),
        }
    }

    pub(super) fn last_run(&self) -> Option<&'a RunSummary> {
        self.subscription?.entry.last_run.as_ref()
    }

    /// Whether the task is the newest run of its subscription, and represents it.
    fn is_newest_run(&self) -> bool {
        let task_id = self.task.map(|task| &task.target.task_id);
        task_id.is_some() && task_id == self.last_run().map(|run| &run.task_id)
    }

    /// Instance and task id; the id is "" for a subscription.
    pub(super) fn key(&self) -> (&'a str, &'a str) {
        match (self.task, &self.subscription) {
            (Some(task), _) => (&task.target.instance_id, &task.target.task_id),
            (None, Some(view)) => (&view.entry.instance_id, ""),
            (None, None) => ("", ""),
        }
    }

    /// What is copied from where; unknown until the API has returned the task.
    pub(super) fn labels(&self) -> Option<Cow<'a, Subscription>> {
        let labels = match self.task {
            Some(task) => Cow::Owned(task.info.as_ref()?.subscription()),
            None => Cow::Borrowed(&*self.subscription?.entry.subscription),
        };
        Some(labels)
    }

    /// The text that the API returned with the task.
    pub(super) fn message(&self) -> &'a str {
        let info = self.task.and_then(|task| task.info.as_deref());
        info.map_or("", |info| info.message.trim())
    }

    /// Whether name, id, instance, repositories or errors match.
    fn mentions(&self, text: &Regex) -> bool {
        let (instance_id, task_id) = self.key();
        let mut texts = [instance_id, task_id, self.message()]
            .map(Cow::from)
            .to_vec();
        if let Some(task) = self.task {
            texts.push((&*task.target.task).into());
        }
        if let Some(error) = self.task.and_then(|task| task.error.as_ref()) {
            texts.extend([error.reason.as_str().into(), error.text.as_str().into()]);
        }
        if let Some(it) = self.labels() {
            texts.push(format!("{}/{}", it.repo_namespace, it.repo_name).into());
            texts.push(format!("{} {}", it.source_provider, it.source_repository).into());
        }
        texts.iter().any(|part| text.is_match(part))
    }
}

/// Everything at one moment.
pub(super) struct Overview<'a> {
    pub(super) now: Moment,
    /// The most urgent first, then by instance and id.
    pub(super) items: Vec<Item<'a>>,
    /// The followed instances, ordered by id.
    pub(super) listings: Vec<&'a ListingEntry>,
}

impl<'a> Overview<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, now: Moment) -> Self {
        let mut items: Vec<_> = tasks_after(snapshot, now.steady_ms, &[]).collect();
        let newest_runs = items.iter().filter(|item| item.is_newest_run());
        let newest_runs: HashSet<_> = newest_runs.map(Item::key).collect();
        let is_watched = |view: &SubscriptionView<'_>| {
            let entry = view.entry;
            let last_run = entry.last_run.as_ref();
            last_run.is_some_and(|run| newest_runs.contains(&(&*entry.instance_id, &*run.task_id)))
        };
        let mut others = snapshot.subscription_views(now.steady_ms);
        others.retain(|view| !is_watched(view));
        items.extend(others.into_iter().map(Item::of_subscription));
        items.sort_by_key(|item| (item.state, item.key()));
        Self {
            now,
            items,
            listings: snapshot.listings().collect(),
        }
    }

    pub(super) fn count(&self, states: StateFilter) -> usize {
        let states = self.items.iter().filter(|item| states.matches(item.state));
        states.count()
    }
}

/// The tasks behind `after`, ordered by instance and id. `after` is a
/// [`position`]; its task may be gone.
pub(super) fn tasks_after<'a>(
    snapshot: &'a Snapshot,
    steady_ms: i64,
    after: &[u8],
) -> impl Iterator<Item = Item<'a>> {
    let entries = snapshot.entries();
    let first = entries.partition_point(|entry| position(entry).as_slice() <= after);
    let views = snapshot.subscription_views(steady_ms).into_iter();
    let subscriptions: HashMap<_, _> = views
        .map(|view| ((&*view.entry.instance_id, &*view.entry.subscription), view))
        .collect();
    entries[first..].iter().map(move |task| {
        let info = task.info.as_ref().filter(|_| !subscriptions.is_empty());
        let view = info.and_then(|info| {
            subscriptions
                .get(&(&*task.target.instance_id, &info.subscription()))
                .copied()
        });
        Item::of_task(task, snapshot.fresh(task, steady_ms), view)
    })
}

/// Orders tasks by instance and id: ids have no NUL.
pub(super) fn position(entry: &TaskEntry) -> Vec<u8> {
    let target = &entry.target;
    format!("{}\0{}", target.instance_id, target.task_id).into_bytes()
}

/// Which items are listed.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    text: Option<Regex>,
    pub(super) states: StateFilter,
}

/// Which states are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum StateFilter {
    #[default]
    All,
    /// Those that need attention.
    Attention,
    One(State),
}

impl StateFilter {
    /// All that [`StateFilter::parse`] accepts.
    pub(super) fn narrow() -> impl Iterator<Item = Self> {
        iter::once(Self::Attention).chain(State::ALL.map(Self::One))
    }

    pub(super) fn parse(key: &str) -> Option<Self> {
        Self::narrow().find(|filter| filter.look().key == key)
    }

    pub(super) fn look(self) -> Look {
        match self {
            Self::All => Look::new("", "all", "", "calm"),
            Self::Attention => Look::new("attention", "need attention", "", "calm"),
            Self::One(state) => state.look(),
        }
    }

    fn matches(self, state: State) -> bool {
        match self {
            Self::All => true,
            Self::Attention => state.needs_attention(),
            Self::One(wanted) => state == wanted,
        }
    }
}

impl Filter {
    /// Maximum number of characters of the text.
    pub(super) const TEXT_MAX: usize = 200;

    /// Matches items with `text` anywhere in them, ignoring case.
    pub(super) fn new(text: &str, states: StateFilter) -> Self {
        let literal = |text| {
            RegexBuilder::new(&regex::escape(text))
                .case_insensitive(true)
                .build()
                .expect("a short literal")
        };
        Self {
            text: Some(text.trim())
                .filter(|text| !text.is_empty())
                .map(literal),
            states,
        }
    }

    pub(super) fn is_everything(&self) -> bool {
        self.text.is_none() && self.states == StateFilter::All
    }

    pub(super) fn matches(&self, item: &Item<'_>) -> bool {
        let has_text = |text| item.mentions(text);
        self.states.matches(item.state) && self.text.as_ref().is_none_or(has_text)
    }
}
