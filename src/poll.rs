//! The poller: asks a [`Source`] about each task when it is due and puts what
//! it learns into the store. One queue, no timer a task; one poll of a task at
//! a time; a slow account holds up nobody but itself.
//!
//! When a task is due is `schedule`'s arithmetic, what one poll asks and makes
//! of the answers is `watch`'s, what is worth a line in the log is `notice`'s.
//! Rate limits, retries and the wire are the source's.

mod notice;
pub mod schedule;
mod watch;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::own::Own;
use crate::model::{ListedRun, Row, Rule, TaskInfo, Words};
use crate::store::{Store, Target};

use self::notice::Notices;
use self::watch::{Polled, Watched};

/// Where answers come from: the cloud, or a test's script.
pub trait Source: Send + Sync + 'static {
    /// What bounds one poll; made when the poll begins.
    type Budget: Send;

    /// Begins a poll of a task.
    fn budget(&self) -> Self::Budget;

    /// Begins a listing, of which there is one each `interval`.
    fn listing_budget(&self, interval: Duration) -> Self::Budget;

    /// All rows of a task.
    fn rows(
        &self,
        target: &Target,
        budget: &mut Self::Budget,
    ) -> impl Future<Output = Result<Vec<Row>, SourceError>> + Send;

    /// The task itself.
    fn task(
        &self,
        target: &Target,
        budget: &mut Self::Budget,
    ) -> impl Future<Output = Result<TaskInfo, SourceError>> + Send;

    /// All rules of an instance.
    fn rules(
        &self,
        instance_id: &str,
        budget: &mut Self::Budget,
    ) -> impl Future<Output = Result<Vec<Rule>, SourceError>> + Send;

    /// The task list of an instance, page by page in the cloud's order, until
    /// its end or until `go_on`, which sees each page once it came, has seen
    /// enough. A list that moves while it is read may show pages again.
    fn runs(
        &self,
        instance_id: &str,
        budget: &mut Self::Budget,
        go_on: impl FnMut(&[ListedRun]) -> bool + Send,
    ) -> impl Future<Output = Result<RunList, SourceError>> + Send;
}

/// The runs of an instance, as far as they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunList {
    /// In the cloud's order.
    pub runs: Vec<ListedRun>,
    /// Whether these are all of them.
    pub whole: bool,
    /// Pages that it took, each a request at least.
    pub pages: u32,
}

/// A question without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SourceError {
    /// The label `reason`.
    pub reason: &'static str,
    /// The whole chain of causes, on one line.
    pub text: String,
}

/// A task to watch, and how.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Which task.
    pub target: Arc<Target>,
    /// The interval while it can change by itself.
    pub interval: Duration,
    /// Tasks with one number share keys and rate limit.
    pub account: usize,
}

/// What holds for all tasks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cloud's words.
    pub words: Words,
    /// The longest interval of a finished task.
    pub finished_interval: Duration,
    /// Polls under way for one account.
    pub concurrency: usize,
    /// Names of the accounts, for the log, by their number.
    pub accounts: Vec<String>,
}

/// Polls every task when it is due, until it is stopped.
pub struct Scheduler<S> {
    source: Arc<S>,
    store: Arc<Store>,
    own: Arc<Own>,
    clock: Clock,
    settings: Arc<Settings>,
    watched: Vec<Watched>,
    waiting: BinaryHeap<Reverse<(Instant, usize)>>,
    accounts: Vec<Account>,
    notices: Notices,
    untried: usize,
    tried_once: channel::Sender<bool>,
}

#[derive(Default)]
struct Account {
    /// Due tasks that can change, the most overdue first.
    lively: BTreeSet<(Instant, usize)>,
    /// Due tasks that are finished; these wait for the others.
    resting: BTreeSet<(Instant, usize)>,
    /// Polls under way: they may be waiting for the rate limit still.
    active: BTreeSet<(Instant, usize)>,
}

impl Account {
    fn pop(&mut self) -> Option<(Instant, usize)> {
        self.lively.pop_first().or_else(|| self.resting.pop_first())
    }

    fn most_overdue(&self) -> Option<Instant> {
        let firsts = [&self.lively, &self.resting, &self.active].map(BTreeSet::first);
        firsts.into_iter().flatten().map(|(due, _)| *due).min()
    }
}

impl<S: Source> Scheduler<S> {
    /// A scheduler of `watches`, all due at once, and a flag that turns true
    /// when each of them was tried.
    pub fn new(
        source: Arc<S>,
        store: Arc<Store>,
        own: Arc<Own>,
        clock: Clock,
        settings: Settings,
        watches: Vec<Watch>,
    ) -> (Self, channel::Receiver<bool>) {
        let (tried_once, receiver) = channel::channel(watches.is_empty());
        let now = Instant::now();
        let accounts = settings.accounts.iter().map(|_| Account::default());
        let scheduler = Self {
            accounts: accounts.collect(),
            notices: Notices::new(settings.accounts.clone()),
            waiting: (0..watches.len())
                .map(|index| Reverse((now, index)))
                .collect(),
            untried: watches.len(),
            watched: watches
                .into_iter()
                .map(|watch| Watched::new(watch, now))
                .collect(),
            settings: Arc::new(settings),
            source,
            store,
            own,
            clock,
            tried_once,
        };
        (scheduler, receiver)
    }

    /// Polls until `stop`; polls under way are then given up.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut polls = JoinSet::new();
        loop {
            self.collect_due();
            self.begin(&mut polls);
            let next = self.waiting.peek().map(|Reverse((due, _))| *due);
            tokio::select! {
                () = stop.cancelled() => return,
                Some(polled) = polls.join_next() => match polled {
                    Ok((index, polled)) => self.finish(index, polled),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                },
                () = sleep_until(next) => {}
            }
        }
    }

    fn collect_due(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((due, index))) = self.waiting.peek().copied()
            && due <= now
        {
            self.waiting.pop();
            let watched = &self.watched[index];
            let account = &mut self.accounts[watched.account()];
            let ready = if watched.rests() {
                &mut account.resting
            } else {
                &mut account.lively
            };
            ready.insert((due, index));
        }
    }

    fn begin(&mut self, polls: &mut JoinSet<(usize, Polled)>) {
        for account in &mut self.accounts {
            while account.active.len() < self.settings.concurrency
                && let Some((due, index)) = account.pop()
            {
                account.active.insert((due, index));
                let poll = self.watched[index].question();
                let source = Arc::clone(&self.source);
                let settings = Arc::clone(&self.settings);
                polls.spawn(async move { (index, poll.ask(&*source, &settings.words).await) });
            }
        }
        let most_overdue = self.accounts.iter().filter_map(Account::most_overdue).min();
        self.own.set_most_overdue(most_overdue);
    }

    fn finish(&mut self, index: usize, polled: Polled) {
        let watched = &mut self.watched[index];
        let account = watched.account();
        self.accounts[account]
            .active
            .remove(&(watched.due(), index));
        self.own.polls.inc();
        if let Err(error) = &polled.outcome {
            self.own.poll_failed(error.reason);
        }
        for (field, word) in &polled.unrecognized {
            if self.own.unrecognized(field, word) {
                notice::unrecognized(watched.target(), field, word);
            }
        }
        let first = watched.is_untried();
        self.notices.polled(account, watched.entry(), &polled);
        let skipped = watched.apply(
            polled,
            &self.settings,
            self.clock.now_millis(),
            Instant::now(),
        );
        self.own.polls_skipped.inc_by(skipped);
        self.store.update(watched.entry().clone());
        self.waiting.push(Reverse((watched.due(), index)));
        if first {
            self.untried -= 1;
            if self.untried == 0 {
                self.tried_once.send_replace(true);
            }
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
