//! The poller: asks a [`Source`] about each task when it is due and puts what
//! it learns into the store. One queue, no timer a task; one poll of a task at
//! a time; a slow account holds up nobody but itself.
//!
//! When a task is due is `schedule`'s arithmetic, what one poll asks and makes
//! of the answers is `watch`'s, what is worth a line in the log is `notice`'s.
//! Rate limits, retries and the wire are the source's.

mod account;
mod instances;
mod listing;
mod lists;
mod notice;
mod reload;
pub mod schedule;
pub mod settings;
mod source;
mod turn;
mod watch;
mod words;
mod work;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use slab::Slab;
use tokio::sync::watch as channel;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use crate::follow::RunList;
use crate::metrics::own::Own;
use crate::store::state::{SavedInstance, SavedTask, State};
use crate::store::{Store, Target};

use self::account::Account;
use self::instances::Instances;
use self::listing::{Listing, Read};
use self::notice::Notices;
pub use self::reload::Change;
use self::schedule::Jumps;
pub use self::source::{Rows, Source, SourceError};
use self::turn::{Phase, Turn};
use self::watch::{Polled, Watched};
use self::words::{UnrecognizedWords, Word};
pub use self::work::{AliveRequest, Follow, Requests, Settings, StateRequest, Watch, Work};

/// However little there is to do, the clocks are looked at so often: a suspend is
/// noticed no later than that after the resume.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Polls every task and reads every list when it is due, until it is stopped.
pub struct Scheduler<S> {
    source: Arc<S>,
    store: Arc<Store>,
    own: Arc<Own>,
    clock: Clock,
    settings: Arc<Settings>,
    /// A task keeps its place as long as it is watched.
    tasks: Slab<Watched>,
    places: HashMap<TaskKey, usize>,
    /// Likewise.
    lists: Slab<Listing>,
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

/// What the scheduler wakes up for.
enum Event<S> {
    Done(Result<Done, JoinError>),
    State(StateRequest),
    Alive(AliveRequest),
    Change(Change<S>),
    Time,
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
            tasks: Slab::new(),
            places: HashMap::new(),
            lists: Slab::new(),
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
            let key = key(&saved.entry.target);
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
            self.collect_due();
            self.begin(&mut polls);
            let clock_check = Instant::now() + CLOCK_CHECK_INTERVAL;
            let due = self.waiting.peek().map(|Reverse((due, _))| *due);
            let next = due.into_iter().chain(self.unrecognized.next_look());
            let next = next.min().map_or(clock_check, |next| clock_check.min(next));
            let event = tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = polls.join_next() => Event::Done(done),
                Some(request) = states.recv() => Event::State(request),
                Some(request) = alive.recv() => Event::Alive(request),
                Some(change) = changes.recv() => Event::Change(change),
                () = tokio::time::sleep_until(next) => Event::Time,
            };
            // Before whatever sets due times, which count from now.
            self.notice_jump();
            match event {
                Event::Done(Ok(Done::Task(place, polled))) => self.finish_poll(place, polled),
                Event::Done(Ok(Done::List(place, read))) => self.finish_listing(place, read),
                Event::Done(Err(error)) if error.is_panic() => {
                    std::panic::resume_unwind(error.into_panic())
                }
                Event::Done(Err(_)) | Event::Time => {}
                // Who has gone away meanwhile needs no answer.
                Event::State(request) => drop(request.send(self.state())),
                Event::Alive(request) => drop(request.send(())),
                Event::Change(change) => self.change(change),
            }
        }
        drop(polls);
        while let Some(request) = states.recv().await {
            let _ = request.send(self.state());
        }
    }

    fn state(&self) -> State {
        State {
            tasks: self.tasks.iter().map(|(_, task)| task.save()).collect(),
            instances: self.listings().map(Listing::save).collect(),
        }
    }

    /// The turn of a task or a list, while it is there.
    fn turn(&mut self, item: Item) -> Option<&mut Turn> {
        match item {
            Item::List(place) => self.lists.get_mut(place).map(|list| &mut list.turn),
            Item::Task(place) => self.tasks.get_mut(place).map(|watched| &mut watched.turn),
        }
    }

    /// Moves the due times where the machine was suspended or a clock has jumped.
    fn notice_jump(&mut self) {
        let (now, moment) = (Instant::now(), self.clock.now());
        let Some(jump) = self.jumps.look(now, moment) else {
            return;
        };
        let uncounted = jump.uncounted();
        let mut overdue = 0;
        let mut waiting = Vec::new();
        for (place, list) in &mut self.lists {
            overdue += usize::from(list.jump(uncounted, moment, now));
            waiting.push((Item::List(place), &list.turn));
            if list.turn.phase != Phase::Leaving {
                self.store.update_listing(list.entry().clone());
            }
        }
        for (place, watched) in &mut self.tasks {
            overdue += usize::from(watched.jump(uncounted, moment, now));
            waiting.push((Item::Task(place), &watched.turn));
            if watched.shown && watched.turn.phase != Phase::Leaving {
                self.store.update(watched.entry().clone());
            }
        }
        // Built again: entries that were moved would pile up at each jump.
        waiting.retain(|(_, turn)| turn.phase == Phase::Waiting);
        let waiting = waiting.into_iter();
        self.waiting = waiting
            .map(|(item, turn)| Reverse((turn.due, item)))
            .collect();
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
            let turn = self.turn(item);
            let waits = |turn: &&mut Turn| turn.phase == Phase::Waiting && turn.due == due;
            // Else it has moved or left.
            let Some(turn) = turn.filter(waits) else {
                continue;
            };
            turn.phase = Phase::Ready;
            let (account, instance_id) = (turn.account, Arc::clone(&turn.instance_id));
            let account = &mut self.accounts[account];
            let ready = match item {
                Item::List(_) => &mut account.lists,
                Item::Task(place) if self.tasks[place].rests() => &mut account.ready_finished,
                Item::Task(_) => &mut account.ready_active,
            };
            ready.insert((due, item));
            self.instances.due(&instance_id, (due, item));
        }
    }

    fn begin(&mut self, polls: &mut JoinSet<Done>) {
        for account in &mut self.accounts {
            while let Some(item) = account.begin(self.settings.concurrency) {
                let source = Arc::clone(&self.source);
                let settings = Arc::clone(&self.settings);
                match item {
                    Item::List(place) => {
                        let Some(list) = self.lists.get_mut(place) else {
                            continue;
                        };
                        list.turn.phase = Phase::Active;
                        let question = list.question(self.clock.steady_millis());
                        polls.spawn(async move { Done::List(place, question.ask(&*source).await) });
                    }
                    Item::Task(place) => {
                        let Some(watched) = self.tasks.get_mut(place) else {
                            continue;
                        };
                        watched.turn.phase = Phase::Active;
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
                let list = self.lists.get(place);
                list.is_some_and(|list| list.has_fresh_words(steady_ms))
            }
            Item::Task(place) => {
                let watched = self.tasks.get(place);
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
                    if let Some(list) = self.lists.get(place) {
                        notice::unrecognized_in_list(list.instance_id(), field, &word);
                    }
                }
                Item::Task(place) => {
                    if let Some(watched) = self.tasks.get(place) {
                        notice::unrecognized(watched.target(), field, &word);
                    }
                }
            }
        }
    }

    fn finish_poll(&mut self, place: usize, mut polled: Polled) {
        let Some(watched) = self.tasks.get_mut(place) else {
            return;
        };
        let item = Item::Task(place);
        let Turn { account, due, .. } = watched.turn;
        let instance_id = Arc::clone(&watched.turn.instance_id);
        self.accounts[account].poll_ended();
        self.instances.done(&instance_id, (due, item));
        let failed = polled.outcome.as_ref().err().map(|error| error.reason);
        self.instances.polled(&instance_id, failed);
        if watched.turn.phase == Phase::Leaving {
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
        watched.turn.phase = Phase::Waiting;
        self.waiting.push(Reverse((watched.turn.due, item)));
        if watched.shown {
            self.store.update(watched.entry().clone());
        }
        let mut idle = false;
        if let Some(list) = watched.follower {
            let entry = watched.entry();
            let (mut subscription, mut on) = (None, false);
            if let Some(list) = self.lists.get_mut(list) {
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

    fn listings(&self) -> impl Iterator<Item = &Listing> {
        let lists = self.lists.iter().map(|(_, list)| list);
        lists.filter(|list| list.turn.phase != Phase::Leaving)
    }

    fn watch(&mut self, mut watched: Watched) {
        watched.find_cause(&self.settings.causes);
        let place = self.tasks.vacant_key();
        self.wait(Item::Task(place), watched.turn.due, watched.is_untried());
        if watched.shown {
            self.store.update(watched.entry().clone());
        }
        self.places.insert(key(watched.target()), place);
        self.tasks.insert(watched);
    }

    /// Something new waits for its due time.
    fn wait(&mut self, item: Item, due: Instant, is_untried: bool) {
        self.waiting.push(Reverse((due, item)));
        if is_untried && !*self.tried_once.borrow() {
            self.untried.insert(item);
        }
    }

    /// The places of the tasks that `are` so.
    fn tasks_that(&self, are: impl Fn(&Watched) -> bool) -> Vec<usize> {
        let tasks = self.tasks.iter().filter(|(_, watched)| are(watched));
        tasks.map(|(place, _)| place).collect()
    }

    /// Nobody wants to know of the task any more.
    fn unwatch(&mut self, place: usize) {
        let Some(watched) = self.tasks.get_mut(place) else {
            return;
        };
        let target = watched.target();
        self.store.remove(&target.instance_id, &target.task_id);
        let item = Item::Task(place);
        self.unrecognized.release(item);
        match watched.turn.phase {
            Phase::Active | Phase::Leaving => {
                watched.turn.phase = Phase::Leaving;
                return;
            }
            Phase::Ready => {
                let ready = (watched.turn.due, item);
                self.accounts[watched.turn.account].remove_ready(&ready);
                self.instances.done(&watched.turn.instance_id, ready);
            }
            Phase::Waiting => {}
        }
        self.leave(place);
    }

    fn leave(&mut self, place: usize) {
        if let Some(watched) = self.tasks.try_remove(place) {
            self.notices.left(watched.turn.account, Item::Task(place));
            self.places.remove(&key(watched.target()));
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
