//! The poller: asks a [`Source`] about each task when it is due and puts what
//! it learns into the store. One queue, no timer a task; one poll of a task at
//! a time; a slow account holds up nobody but itself.
//!
//! When a task is due is `schedule`'s arithmetic, what one poll asks and makes
//! of the answers is `watch`'s, what is worth a line in the log is `notice`'s.
//! Rate limits, retries and the wire are the source's.

mod instances;
mod listing;
mod notice;
mod reload;
pub mod schedule;
mod watch;
mod words;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
pub use crate::follow::RunList;
use crate::follow::{self, Listed, Wanted};
use crate::metrics::own::Own;
use crate::model::{Causes, ListedRun, Row, Rule, TaskInfo, Words};
use crate::reason::Reason;
use crate::store::state::{SavedInstance, SavedTask, State};
use crate::store::{Store, Target};

use self::instances::Instances;
use self::listing::{Listing, Read};
use self::notice::Notices;
pub use self::reload::Change;
use self::schedule::Jumps;
use self::watch::{Phase, Polled, Watched};
use self::words::{UnrecognizedWords, Word};

/// However little there is to do, the clocks are looked at so often: a suspend is
/// noticed no later than that after the resume.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The rows of a task, however a source holds them.
pub trait Rows: Send {
    /// Each, with its texts where they are.
    fn iter(&self) -> impl Iterator<Item = Row<&str>>;
}

impl Rows for Vec<Row> {
    fn iter(&self) -> impl Iterator<Item = Row<&str>> {
        self.as_slice().iter().map(Row::borrowed)
    }
}

/// Where answers come from: the cloud, or a test's script.
pub trait Source: Send + Sync + 'static {
    /// What bounds one poll; made when the poll begins.
    type Budget: Send;

    /// The rows of a task.
    type Rows: Rows;

    /// Begins a poll of a task.
    fn budget(&self) -> Self::Budget;

    /// Begins a listing, of which there is one each `interval`.
    fn listing_budget(&self, interval: Duration) -> Self::Budget;

    /// All rows of a task.
    fn rows(
        &self,
        target: &Target,
        budget: &mut Self::Budget,
    ) -> impl Future<Output = Result<Self::Rows, SourceError>> + Send;

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

/// A question without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SourceError {
    /// Why.
    pub reason: Reason,
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
    /// The time between two listings, of a run that was found in a list and is
    /// not named by the configuration.
    pub followed: Option<Duration>,
}

/// An instance whose lists tell what to watch.
#[derive(Clone, Debug)]
pub struct Follow {
    /// What is followed of it.
    pub settings: follow::Settings,
    /// As in [`Watch`].
    pub account: usize,
}

/// What there is to do: all of it is due at once, unless the state from before
/// a restart knows better.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Tasks that the configuration names.
    pub watches: Vec<Watch>,
    /// Instances of which it does not.
    pub follows: Vec<Follow>,
    /// What is known of them.
    pub state: State,
}

/// What holds for all tasks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cloud's words.
    pub words: Words,
    /// The causes of failures.
    pub causes: Causes,
    /// The interval of a followed run while it can change by itself.
    pub interval: Duration,
    /// The longest interval of a finished task.
    pub finished_interval: Duration,
    /// Polls under way for one account.
    pub concurrency: usize,
    /// Every configured instance, whether this shard has tasks of it or not.
    pub instances: Vec<Arc<str>>,
    /// Names of the accounts, for the log, by their number.
    pub accounts: Vec<String>,
}

/// Somebody who wants to know everything that is known and counted.
pub type StateRequest = oneshot::Sender<State>;

/// Somebody who wants to know whether the scheduler still goes round.
pub type AliveRequest = oneshot::Sender<()>;

/// What a running scheduler is asked. Each may be closed.
pub struct Requests<S> {
    /// Answered after the stop too.
    pub states: mpsc::Receiver<StateRequest>,
    /// A new configuration.
    pub changes: mpsc::Receiver<Change<S>>,
    /// Answered between two rounds.
    pub alive: mpsc::Receiver<AliveRequest>,
}

impl<S> Default for Requests<S> {
    /// Nobody asks.
    fn default() -> Self {
        Self {
            states: mpsc::channel(1).1,
            changes: mpsc::channel(1).1,
            alive: mpsc::channel(1).1,
        }
    }
}

/// Polls every task and reads every list when it is due, until it is stopped.
pub struct Scheduler<S> {
    source: Arc<S>,
    store: Arc<Store>,
    own: Arc<Own>,
    clock: Clock,
    settings: Arc<Settings>,
    /// A task keeps its place as long as it is watched.
    tasks: Vec<Option<Watched>>,
    free: Vec<usize>,
    places: HashMap<TaskKey, usize>,
    /// Likewise.
    lists: Vec<Option<Listing>>,
    free_lists: Vec<usize>,
    /// Some have moved or left since; what is due is told by the task itself.
    waiting: BinaryHeap<Reverse<(Instant, Item)>>,
    accounts: Vec<Account>,
    instances: Instances,
    notices: Notices,
    jumps: Jumps,
    unrecognized: UnrecognizedWords,
    untried: HashSet<Item>,
    tried_once: channel::Sender<bool>,
}

/// Instance and task id.
type TaskKey = (Arc<str>, Arc<str>);

/// What can be due: a list, or a task at its place. Lists go first, since they
/// tell of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Item {
    List(usize),
    Task(usize),
}

/// What has ended.
enum Done {
    List(usize, Read),
    Task(usize, Polled),
}

#[derive(Default)]
struct Account {
    /// Due lists. They do not count as polls under way: a long one would keep
    /// every task waiting, and each of its requests waits for its turn anyway.
    lists: BTreeSet<(Instant, Item)>,
    /// Due tasks that can change, the most overdue first.
    lively: BTreeSet<(Instant, Item)>,
    /// Due tasks that are finished; these wait for the others.
    resting: BTreeSet<(Instant, Item)>,
    /// Polls under way: they may be waiting for the rate limit still.
    active: BTreeSet<(Instant, Item)>,
    /// Lists being read.
    reading: BTreeSet<(Instant, Item)>,
}

impl Account {
    fn pop(&mut self, concurrency: usize) -> Option<(Instant, Item)> {
        if let Some(list) = self.lists.pop_first() {
            self.reading.insert(list);
            return Some(list);
        }
        if self.active.len() >= concurrency {
            return None;
        }
        let task = self.lively.pop_first();
        let task = task.or_else(|| self.resting.pop_first())?;
        self.active.insert(task);
        Some(task)
    }

    fn remove_ready(&mut self, task: &(Instant, Item)) {
        if !self.lively.remove(task) {
            self.resting.remove(task);
        }
    }

    fn queues(&mut self) -> [&mut BTreeSet<(Instant, Item)>; 5] {
        [
            &mut self.lists,
            &mut self.lively,
            &mut self.resting,
            &mut self.active,
            &mut self.reading,
        ]
    }
}

impl<S: Source> Scheduler<S> {
    /// A scheduler of `work`, and a flag that turns true when everything was
    /// tried once.
    pub fn new(
        source: Arc<S>,
        store: Arc<Store>,
        own: Arc<Own>,
        clock: Clock,
        settings: Settings,
        work: Work,
    ) -> (Self, channel::Receiver<bool>) {
        let (tried_once, receiver) = channel::channel(false);
        let accounts = settings.accounts.iter().map(|_| Account::default());
        let mut scheduler = Self {
            accounts: accounts.collect(),
            instances: Instances::default(),
            notices: Notices::new(settings.accounts.clone()),
            unrecognized: UnrecognizedWords::new(Instant::now()),
            tasks: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            lists: Vec::new(),
            free_lists: Vec::new(),
            waiting: BinaryHeap::new(),
            untried: HashSet::new(),
            jumps: Jumps::new(Instant::now(), clock.now()),
            settings: Arc::new(settings),
            source,
            store,
            own,
            clock,
            tried_once,
        };
        scheduler
            .instances
            .configure(&scheduler.own, &scheduler.settings.instances);
        scheduler.start(work);
        (scheduler, receiver)
    }

    fn start(&mut self, work: Work) {
        let Work {
            watches,
            follows,
            state,
        } = work;
        let (now, moment) = (Instant::now(), self.clock.now());
        let saved = state.tasks.into_iter().map(|saved| {
            let target = &saved.entry.target;
            let key = (Arc::clone(&target.instance_id), Arc::clone(&target.task_id));
            (key, saved)
        });
        let mut tasks: HashMap<TaskKey, SavedTask> = saved.collect();
        let mut instances: HashMap<Arc<str>, SavedInstance> = state
            .instances
            .into_iter()
            .map(|saved| (Arc::clone(&saved.instance_id), saved))
            .collect();
        for watch in watches {
            let key = key(&watch.target);
            let mut watched = Watched::new(watch, now);
            if let Some(saved) = tasks.remove(&key) {
                watched.restore(&saved, moment, now);
            }
            self.watch(watched);
        }
        for Follow { settings, account } in follows {
            let saved = instances.remove(&settings.instance_id);
            let mut list = Listing::new(settings, account, now);
            let restored = saved.map(|saved| list.restore(saved, moment, now));
            let place = self.list(list);
            if let Some(listed) = restored {
                self.take_listed(place, listed, &mut tasks);
            }
        }
        self.note_tried();
    }

    /// Polls until `stop`; polls under way are then given up. Whoever asks by
    /// `requests` what is known and counted is told, after the stop too.
    pub async fn run(mut self, requests: Requests<S>, stop: CancellationToken) {
        let Requests {
            mut states,
            mut changes,
            mut alive,
        } = requests;
        let mut polls = JoinSet::new();
        loop {
            self.notice_jump();
            self.collect_due();
            self.begin(&mut polls);
            let look = Instant::now() + LOOK_EVERY;
            let due = self.waiting.peek().map(|Reverse((due, _))| *due);
            let next = due.into_iter().chain(self.unrecognized.next_look());
            let next = next.min().map_or(look, |next| look.min(next));
            tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = polls.join_next() => {
                    self.notice_jump();
                    match done {
                        Ok(Done::Task(place, polled)) => self.finish_poll(place, polled),
                        Ok(Done::List(place, read)) => self.finish_listing(place, read),
                        Err(error) if error.is_panic() => {
                            std::panic::resume_unwind(error.into_panic())
                        }
                        Err(_) => {}
                    }
                }
                // Who has gone away meanwhile needs no answer.
                Some(request) = states.recv() => {
                    let _ = request.send(self.state());
                }
                Some(request) = alive.recv() => {
                    let _ = request.send(());
                }
                Some(change) = changes.recv() => {
                    self.notice_jump();
                    self.change(change);
                }
                () = tokio::time::sleep_until(next) => {}
            }
        }
        drop(polls);
        while let Some(request) = states.recv().await {
            let _ = request.send(self.state());
        }
    }

    fn state(&self) -> State {
        State {
            tasks: self.tasks.iter().flatten().map(Watched::save).collect(),
            instances: self.listings().map(Listing::save).collect(),
        }
    }

    /// Moves the due times where the machine was suspended or a clock has jumped; goes
    /// before whatever sets new ones, which count from now.
    fn notice_jump(&mut self) {
        let (now, moment) = (Instant::now(), self.clock.now());
        let Some(jump) = self.jumps.look(now, moment) else {
            return;
        };
        let uncounted = jump.uncounted();
        let mut overdue = 0;
        // Built again: entries that were moved would pile up at each jump.
        self.waiting.clear();
        for (list, place) in self.lists.iter_mut().zip(0..) {
            let Some(list) = list.as_mut() else { continue };
            overdue += usize::from(list.jump(uncounted, moment, now));
            if list.phase == Phase::Waiting {
                self.waiting.push(Reverse((list.due(), Item::List(place))));
            }
            if list.phase != Phase::Leaving {
                self.store.update_listing(list.entry().clone());
            }
        }
        for (watched, place) in self.tasks.iter_mut().zip(0..) {
            let Some(watched) = watched.as_mut() else {
                continue;
            };
            overdue += usize::from(watched.jump(uncounted, moment, now));
            if watched.phase == Phase::Waiting {
                self.waiting
                    .push(Reverse((watched.due(), Item::Task(place))));
            }
            if watched.shown && watched.phase != Phase::Leaving {
                self.store.update(watched.entry().clone());
            }
        }
        tracing::info!(
            wall_clock_ms = jump.wall_ms,
            suspended_ms = jump.steady_ms,
            overdue,
            "clock jump detected, polling what became overdue"
        );
    }

    fn collect_due(&mut self) {
        let now = Instant::now();
        self.forget_stale_words(now);
        while let Some(Reverse((due, item))) = self.waiting.peek().copied()
            && due <= now
        {
            self.waiting.pop();
            match item {
                Item::List(place) => {
                    let list = self.lists[place].as_mut();
                    let waits =
                        |list: &&mut Listing| list.phase == Phase::Waiting && list.due() == due;
                    if let Some(list) = list.filter(waits) {
                        list.phase = Phase::Ready;
                        self.accounts[list.account()].lists.insert((due, item));
                        self.instances.due(list.instance_id(), (due, item));
                    }
                }
                Item::Task(place) => {
                    let watched = self.tasks[place].as_mut();
                    let waits = |watched: &&mut Watched| {
                        watched.phase == Phase::Waiting && watched.due() == due
                    };
                    // Else it has moved or left.
                    if let Some(watched) = watched.filter(waits) {
                        watched.phase = Phase::Ready;
                        let account = &mut self.accounts[watched.account()];
                        let ready = if watched.rests() {
                            &mut account.resting
                        } else {
                            &mut account.lively
                        };
                        ready.insert((due, item));
                        let instance_id = &watched.target().instance_id;
                        self.instances.due(instance_id, (due, item));
                    }
                }
            }
        }
    }

    fn begin(&mut self, polls: &mut JoinSet<Done>) {
        for account in &mut self.accounts {
            while let Some((_, item)) = account.pop(self.settings.concurrency) {
                let source = Arc::clone(&self.source);
                let settings = Arc::clone(&self.settings);
                match item {
                    Item::List(place) => {
                        let Some(list) = &mut self.lists[place] else {
                            continue;
                        };
                        list.phase = Phase::Active;
                        let question = list.question(self.clock.steady_millis());
                        polls.spawn(async move { Done::List(place, question.ask(&*source).await) });
                    }
                    Item::Task(place) => {
                        let Some(watched) = &mut self.tasks[place] else {
                            continue;
                        };
                        watched.phase = Phase::Active;
                        let question = watched.question();
                        polls.spawn(async move {
                            Done::Task(place, question.ask(&*source, &settings.words).await)
                        });
                    }
                }
            }
        }
    }

    /// Words that only stale data holds leave the page.
    fn forget_stale_words(&mut self, now: Instant) {
        if self.unrecognized.next_look().is_none_or(|look| look > now) {
            return;
        }
        let steady_ms = self.clock.steady_millis();
        self.unrecognized.look(now, |item| match item {
            Item::List(place) => {
                let list = self.lists[place].as_ref();
                list.is_some_and(|list| list.has_fresh_words(steady_ms))
            }
            Item::Task(place) => {
                let watched = self.tasks[place].as_ref();
                watched.is_some_and(|it| self.store.is_fresh(it.entry(), steady_ms))
            }
        });
        self.show_words();
    }

    fn hold_words(&mut self, item: Item, words: impl IntoIterator<Item = Word>) {
        self.unrecognized.hold(item, words);
        self.show_words();
    }

    fn show_words(&mut self) {
        for (item, (field, word)) in self.unrecognized.show(&self.own) {
            match item {
                Item::List(place) => {
                    if let Some(list) = &self.lists[place] {
                        notice::unrecognized_in_list(list.instance_id(), field, &word);
                    }
                }
                Item::Task(place) => {
                    if let Some(watched) = &self.tasks[place] {
                        notice::unrecognized(watched.target(), field, &word);
                    }
                }
            }
        }
    }

    fn finish_poll(&mut self, place: usize, mut polled: Polled) {
        let Some(watched) = &mut self.tasks[place] else {
            return;
        };
        let account = watched.account();
        let item = Item::Task(place);
        self.accounts[account].active.remove(&(watched.due(), item));
        let instance_id = Arc::clone(&watched.target().instance_id);
        self.instances.done(&instance_id, (watched.due(), item));
        let failed = polled.outcome.as_ref().err().map(|error| error.reason);
        self.instances.polled(&instance_id, failed);
        if watched.phase == Phase::Leaving {
            self.leave(place);
            return;
        }
        self.notices.polled(account, item, watched.entry(), &polled);
        let (now, moment) = (Instant::now(), self.clock.now());
        let words = std::mem::take(&mut polled.unrecognized);
        let words = polled.outcome.is_ok().then_some(words);
        let skipped = watched.apply(polled, &self.settings, moment, now);
        self.instances.skipped(&instance_id, skipped);
        watched.find_cause(&self.settings.causes);
        watched.phase = Phase::Waiting;
        self.waiting.push(Reverse((watched.due(), item)));
        if watched.shown {
            self.store.update(watched.entry().clone());
        }
        let mut idle = false;
        if let Some(list) = watched.follower {
            let entry = watched.entry();
            let (mut subscription, mut on) = (None, false);
            if let Some(list) = &mut self.lists[list] {
                let durations = Arc::clone(&list.entry().durations);
                (subscription, on) = list.polled(entry, moment.steady_ms);
                if !Arc::ptr_eq(&durations, &list.entry().durations) {
                    self.store.update_listing(list.entry().clone());
                }
            }
            idle = !on && !watched.shown && !watched.is_configured();
            if let Some(subscription) = subscription {
                self.store.update_subscription(subscription);
            }
        }
        if idle {
            self.unwatch(place);
        } else if let Some(words) = words {
            self.hold_words(item, words);
        }
        self.tried(item);
    }

    fn finish_listing(&mut self, place: usize, read: Read) {
        let (now, moment) = (Instant::now(), self.clock.now());
        let Some(list) = &mut self.lists[place] else {
            return;
        };
        let item = Item::List(place);
        self.accounts[list.account()]
            .reading
            .remove(&(list.due(), item));
        self.instances.done(list.instance_id(), (list.due(), item));
        if list.phase == Phase::Leaving {
            self.lists[place] = None;
            self.free_lists.push(place);
            return;
        }
        self.notices
            .listing(list.account(), item, list.entry(), read.error());
        let words = list.note_words(&read, moment.steady_ms);
        let words = words.then(|| list.unrecognized());
        let pages = read.pages();
        let before = list.entry().tasks_dropped;
        let listed = list.apply(read, moment, now);
        let instance_id = list.instance_id();
        notice::tasks_dropped(instance_id, before, listed.dropped);
        if let Some(newest_first) = listed.order_learned {
            notice::list_order(instance_id, newest_first, pages, list.interval());
        }
        list.phase = Phase::Waiting;
        self.waiting.push(Reverse((list.due(), item)));
        list.show(&self.own);
        self.store.update_listing(list.entry().clone());
        self.take_listed(place, listed, &mut HashMap::new());
        if let Some(words) = words {
            self.hold_words(item, words);
        }
        self.tried(item);
    }

    /// Puts into effect what a list has changed; `saved` is known from before a restart.
    fn take_listed(
        &mut self,
        list: usize,
        listed: Listed,
        saved: &mut HashMap<TaskKey, SavedTask>,
    ) {
        let Some(listing) = &mut self.lists[list] else {
            return;
        };
        for subscription in &listed.removed {
            let instance_id = listing.instance_id();
            if self.store.remove_subscription(instance_id, subscription) {
                listing.counters_were_shown(subscription);
            }
        }
        for subscription in listed.subscriptions {
            self.store.update_subscription(subscription);
        }
        let Some(all) = listed.wanted else {
            for id in listed.unchanged {
                self.seen_again(list, id);
            }
            return;
        };
        let wanted: HashSet<&Arc<str>> = all.iter().map(|one| &one.target.task_id).collect();
        for place in 0..self.tasks.len() {
            let followed = self.tasks[place].as_mut().filter(|watched| {
                watched.follower == Some(list) && !wanted.contains(&watched.target().task_id)
            });
            if let Some(watched) = followed {
                watched.follower = None;
                if !watched.is_configured() {
                    self.unwatch(place);
                }
            }
        }
        let unchanged: HashSet<Arc<str>> = listed.unchanged.into_iter().collect();
        for wanted in all {
            let new = listed.changed.contains(&wanted.target.task_id);
            let same = unchanged.contains(&wanted.target.task_id);
            self.follow(
                list,
                wanted,
                new.then_some(true).or(same.then_some(false)),
                saved,
            );
        }
    }

    /// A list shows a run as it was; perhaps one that is watched.
    fn seen_again(&mut self, list: usize, task_id: Arc<str>) {
        let Some(listing) = &self.lists[list] else {
            return;
        };
        let moment = self.clock.now();
        let key = (Arc::clone(listing.instance_id()), task_id);
        let Some(place) = self.places.get(&key) else {
            return;
        };
        let watched = self.tasks[*place].as_mut();
        if let Some(watched) = watched.filter(|watched| watched.follower == Some(list)) {
            watched.listed_again(moment);
            if watched.shown {
                self.store.update(watched.entry().clone());
            }
        }
    }

    /// Watches a run that a list holds. `news`: whether the list says something new
    /// of it, or the same; nothing where this part of the list was not read.
    fn follow(
        &mut self,
        list: usize,
        wanted: Wanted,
        news: Option<bool>,
        saved: &mut HashMap<TaskKey, SavedTask>,
    ) {
        let Some(listing) = &self.lists[list] else {
            return;
        };
        let (now, moment) = (Instant::now(), self.clock.now());
        let words = &self.settings.words;
        let key = key(&wanted.target);
        let known = self.places.get(&key).copied();
        let known = known.and_then(|place| Some((place, self.tasks[place].as_mut()?)));
        let Some((place, watched)) = known else {
            let watch = Watch {
                target: wanted.target,
                interval: self.settings.interval,
                account: listing.account(),
                followed: Some(listing.interval()),
            };
            let mut watched = Watched::new(watch, now);
            if let Some(saved) = saved.remove(&key) {
                watched.restore(&saved, moment, now);
            }
            if news.is_some() || watched.is_untried() {
                watched.listed(&wanted.info, news != Some(false), words, moment);
            }
            watched.follower = Some(list);
            watched.shown = wanted.shown;
            self.watch(watched);
            return;
        };
        watched.follower = Some(list);
        watched.stay();
        let renamed = !watched.is_configured() && watched.rename(&wanted.target);
        let at_once = news.is_some_and(|new| watched.listed(&wanted.info, new, words, moment));
        if news == Some(true) {
            watched.find_cause(&self.settings.causes);
        }
        if at_once {
            watched.set_due(now, moment.wall_ms, now);
            self.waiting.push(Reverse((now, Item::Task(place))));
        }
        let shown = wanted.shown || watched.is_configured();
        if shown && (news.is_some() || renamed || !watched.shown) {
            self.store.update(watched.entry().clone());
        } else if watched.shown && !shown {
            self.store.remove(&key.0, &key.1);
        }
        watched.shown = shown;
    }

    /// A list to be read from now on.
    fn list(&mut self, list: Listing) -> usize {
        let place = self.free_lists.pop().unwrap_or_else(|| {
            self.lists.push(None);
            self.lists.len() - 1
        });
        let item = Item::List(place);
        self.waiting.push(Reverse((list.due(), item)));
        if list.is_untried() && !*self.tried_once.borrow() {
            self.untried.insert(item);
        }
        self.store.update_listing(list.entry().clone());
        // There from now on.
        list.show(&self.own);
        let words = list.unrecognized();
        self.lists[place] = Some(list);
        self.hold_words(item, words);
        place
    }

    fn listings(&self) -> impl Iterator<Item = &Listing> {
        let lists = self.lists.iter().flatten();
        lists.filter(|list| list.phase != Phase::Leaving)
    }

    fn watch(&mut self, mut watched: Watched) {
        watched.find_cause(&self.settings.causes);
        let place = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        let item = Item::Task(place);
        self.waiting.push(Reverse((watched.due(), item)));
        if watched.is_untried() && !*self.tried_once.borrow() {
            self.untried.insert(item);
        }
        if watched.shown {
            self.store.update(watched.entry().clone());
        }
        self.places.insert(key(watched.target()), place);
        self.tasks[place] = Some(watched);
    }

    /// Nobody wants to know of the task any more.
    fn unwatch(&mut self, place: usize) {
        let Some(watched) = &mut self.tasks[place] else {
            return;
        };
        let target = watched.target();
        self.store.remove(&target.instance_id, &target.task_id);
        let item = Item::Task(place);
        self.unrecognized.release(item);
        match watched.phase {
            Phase::Active | Phase::Leaving => {
                watched.phase = Phase::Leaving;
                return;
            }
            Phase::Ready => {
                let ready = (watched.due(), item);
                self.accounts[watched.account()].remove_ready(&ready);
                let instance_id = &watched.target().instance_id;
                self.instances.done(instance_id, ready);
            }
            Phase::Waiting => {}
        }
        self.leave(place);
    }

    fn leave(&mut self, place: usize) {
        if let Some(watched) = self.tasks[place].take() {
            self.notices.left(watched.account(), Item::Task(place));
            self.places.remove(&key(watched.target()));
            self.free.push(place);
        }
        self.show_words();
        self.tried(Item::Task(place));
    }

    fn tried(&mut self, item: Item) {
        if self.untried.remove(&item) {
            self.note_tried();
        }
    }

    fn note_tried(&self) {
        if self.untried.is_empty() {
            self.tried_once.send_replace(true);
        }
    }
}

fn key(target: &Target) -> TaskKey {
    (Arc::clone(&target.instance_id), Arc::clone(&target.task_id))
}

#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod tests;
