//! Which runs of an instance are worth watching, what they say of their
//! subscription, and what is counted. Pure: lists, answers and the time come in
//! as arguments; when to ask, and asking, is `poll`'s business.
//!
//! A task carries no rule's id: rules and runs are joined on what they
//! synchronise from where into where, a [`Subscription`]. One of an instance is a
//! [`subscription::Followed`]; `listing` decides how far a list is read.

mod listing;
pub mod settings;
mod subscription;

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::Reason;
use alibaba_cloud::clock::Moment;

use self::listing::{Order, seen_order};
pub use self::listing::{Plan, RunList};
use self::settings::Pattern;
use self::subscription::Followed;
use crate::model::{
    Assessment, Causes, ListedRun, Rule, Subscription, TaskInfo, TaskStatus, Words,
};
use crate::shard::Shard;
use crate::store::state::{GoneRun, RowsVerdict, SavedInstance, SavedRule, SavedRun};
use crate::store::{ArtifactSeries, Origin, RunDurations, SubscriptionEntry, Target};

/// The list is read to its end at least so often.
const WHOLE_EVERY: Duration = Duration::from_secs(6 * 3_600);
/// How long a run that left the list, or a subscription without a rule, is
/// remembered, so that nothing is counted twice should it come back.
/// By the wall clock, which is what the state file has.
const REMEMBER: Duration = Duration::from_secs(30 * 86_400);
/// How long the rows of a run that is over may fail to be read, milliseconds,
/// until it is counted without them.
const ROWS_PATIENCE: i64 = 3_600_000;
/// No more runs than these are remembered.
const REMEMBER_MOST: usize = 100_000;

/// What one instance's `follow:` says, and what bounds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `cri-…`
    pub instance_id: Arc<str>,
    /// The region of the instance, "" if only an endpoint is known.
    pub region: Arc<str>,
    /// Between two listings.
    pub interval: Duration,
    /// The age at which data is stale, where three intervals are less.
    pub stale_after: Duration,
    /// Which repositories.
    pub filter: Filter,
    /// Newest runs of a subscription that get task series.
    pub runs: usize,
    /// Older runs get none.
    pub max_age: Duration,
    /// Runs of the instance that get task series.
    pub max_tasks: usize,
    /// Which of their artifacts get series.
    pub artifacts: ArtifactSeries,
    /// Tasks that the configuration names: their series are not ours to show.
    pub configured: HashSet<Arc<str>>,
    /// Which subscriptions are ours.
    pub shard: Shard,
    /// The cloud's words.
    pub words: Words,
    /// The causes of failures.
    pub causes: Causes,
}

/// Which repositories are followed: those that an `include` matches, all where
/// there is none, but none that an `exclude` matches. Each is a pair of
/// patterns, of the namespace and of the repository that is synchronised into.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Repositories to follow.
    pub include: Vec<Pattern>,
    /// Repositories that are left out all the same.
    pub exclude: Vec<Pattern>,
}

impl Filter {
    fn passes(&self, subscription: &Subscription) -> bool {
        let Subscription {
            repo_namespace,
            repo_name,
            ..
        } = subscription;
        let matches = |pattern: &Pattern| pattern.matches(repo_namespace, repo_name);
        (self.include.is_empty() || self.include.iter().any(matches))
            && !self.exclude.iter().any(matches)
    }
}

/// One instance's subscriptions and runs.
#[derive(Debug)]
pub struct Follower {
    settings: Settings,
    subscriptions: BTreeMap<Arc<Subscription>, Followed>,
    runs: HashMap<Arc<str>, Run>,
    /// What the list said last of each run, for the plan of the next listing.
    known: Arc<HashMap<Arc<str>, Arc<TaskInfo>>>,
    gone: HashMap<Arc<str>, Gone>,
    /// What each rule synchronizes, followed or not: rules are edited in place.
    rule_history: HashMap<String, RuleHistory>,
    durations: Arc<RunDurations>,
    order: Order,
    /// When the list was last read to its end.
    last_whole: Option<Moment>,
    /// Listings that were taken in.
    listings: u64,
    /// The rules as they were listed last; `None` for one that is not followed.
    rules: Vec<Option<Place>>,
    touched: Touched,
    /// Until then, Unix milliseconds, time alone takes no run out of view.
    view_holds_ms: i64,
    /// Runs that `max_tasks` leaves out of view.
    dropped: usize,
}

/// What a rule was when it was last listed.
#[derive(Clone, Debug)]
struct RuleHistory {
    subscription: Arc<Subscription>,
    /// When it was edited into this subscription; `None` where it was always so.
    edited_ms: Option<i64>,
    seen_ms: i64,
}

/// The rules of a subscription, and which of them.
type Place = (Arc<[Rule]>, usize);

/// Subscriptions of which something has changed since the last listing. There
/// may be thousands, of which most stand still: only these are looked at.
#[derive(Debug, Default)]
struct Touched {
    all: bool,
    /// With runs that may be new to it.
    some: HashMap<Subscription, Vec<Arc<str>>>,
}

impl Touched {
    fn any(&self) -> bool {
        self.all || !self.some.is_empty()
    }

    fn subscription(&mut self, key: Subscription) {
        self.some.entry(key).or_default();
    }

    fn run(&mut self, id: &Arc<str>, info: &TaskInfo) {
        let runs = self.some.entry(info.subscription()).or_default();
        runs.push(Arc::clone(id));
    }
}

/// A run of the list.
#[derive(Clone, Debug)]
struct Run {
    /// What the list said last.
    listed: Arc<TaskInfo>,
    /// What is known now: the list, or a later answer about the task itself.
    info: Arc<TaskInfo>,
    first_seen_ms: i64,
    seen: Moment,
    /// The listing that it was last seen in, by number.
    seen_in: u64,
    /// Whether its subscription has a rule.
    followed: bool,
    /// Whether it gets task series, if it is this shard's.
    in_view: bool,
    /// Counted already, or too old to be.
    counted: bool,
    /// What its rows say, once they were read.
    rows: Option<RowsVerdict>,
    /// Since when they cannot be read, by the steady clock.
    failing_since_ms: Option<i64>,
}

/// A run that the list does not hold any more.
#[derive(Clone, Copy, Debug)]
struct Gone {
    seen_ms: i64,
    counted: bool,
    /// It is one of its subscription's forgotten failures.
    failed: bool,
}

/// A run to poll.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Which.
    pub target: Arc<Target>,
    /// Whether it has series; else its rows are read to be counted.
    pub shown: bool,
    /// What the list tells of it.
    pub info: Arc<TaskInfo>,
}

/// What a listing has changed.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// All that is to be polled from now on; `None` where that is what it was.
    pub wanted: Option<Vec<Wanted>>,
    /// Known runs that the list shows as they were.
    pub unchanged: Vec<Arc<str>>,
    /// Known runs of which the list tells something else now.
    pub changed: HashSet<Arc<str>>,
    /// What is new of the subscriptions.
    pub subscriptions: Vec<SubscriptionEntry>,
    /// Subscriptions whose last rule is gone.
    pub removed: Vec<Arc<Subscription>>,
    /// Runs that `max_tasks` leaves out.
    pub dropped: usize,
    /// Set where it has just turned out whether the list is newest first.
    pub order_learned: Option<bool>,
}

impl Run {
    fn new(info: Arc<TaskInfo>, now: Moment, listing: u64, counted: bool) -> Self {
        Self {
            listed: Arc::clone(&info),
            info,
            first_seen_ms: now.wall_ms,
            seen: now,
            seen_in: listing,
            followed: false,
            in_view: false,
            counted,
            rows: None,
            failing_since_ms: None,
        }
    }

    /// Its rows, where they were read, know better than the list.
    fn status(&self, words: &Words) -> TaskStatus {
        match &self.rows {
            Some(rows) => rows.status,
            None => self.info.status(words),
        }
    }

    /// When it ended well. Before a new run counts its rows are read, which may say
    /// otherwise than the list.
    fn success_ms(&self, words: &Words) -> Option<i64> {
        if self.rows.is_none() && !self.counted {
            return None;
        }
        let succeeded = self.finished(words) && self.status(words) == TaskStatus::Succeeded;
        let end_ms = self.end_ms(words).or(self.start_ms());
        end_ms.filter(|_| succeeded)
    }

    fn save(&self, id: &Arc<str>) -> SavedRun {
        SavedRun {
            task_id: Arc::clone(id),
            info: Arc::clone(&self.listed),
            first_seen_ms: self.first_seen_ms,
            seen_ms: self.seen.wall_ms,
            counted: self.counted,
            rows: self.rows.clone(),
        }
    }

    fn finished(&self, words: &Words) -> bool {
        match &self.rows {
            Some(rows) => rows.finished,
            None => self.info.status(words).is_over(),
        }
    }

    fn start_ms(&self) -> Option<i64> {
        let rows = self.rows.as_ref().and_then(|rows| rows.start_ms);
        known(self.info.start_ms).or(rows)
    }

    fn end_ms(&self, words: &Words) -> Option<i64> {
        let rows = self.rows.as_ref().and_then(|rows| rows.end_ms);
        let end = known(self.info.end_ms).or(rows);
        end.filter(|_| self.finished(words))
    }

    /// End − start of a finished run by its own times, else by its rows'.
    fn duration_ms(&self, words: &Words) -> Option<i64> {
        if !self.finished(words) {
            return None;
        }
        let own = difference(known(self.info.start_ms), known(self.info.end_ms));
        own.or_else(|| {
            let rows = self.rows.as_ref()?;
            difference(rows.start_ms, rows.end_ms)
        })
    }

    /// By what the runs of a subscription are ordered, Unix milliseconds. One
    /// that waits has no start yet; one that is over without ever having had
    /// a start is not news.
    fn recency(&self, words: &Words) -> i64 {
        let waits = || (!self.finished(words)).then_some(self.first_seen_ms);
        self.start_ms()
            .or_else(waits)
            .or_else(|| known(self.info.end_ms))
            .unwrap_or(0)
    }
}

fn known(millis: Option<i64>) -> Option<i64> {
    millis.filter(|millis| *millis > 0)
}

fn difference(start_ms: Option<i64>, end_ms: Option<i64>) -> Option<i64> {
    let duration = end_ms?.checked_sub(start_ms?)?;
    (duration >= 0).then_some(duration)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Follower {
    /// A follower that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            subscriptions: BTreeMap::new(),
            runs: HashMap::new(),
            known: Arc::default(),
            gone: HashMap::new(),
            rule_history: HashMap::new(),
            durations: Arc::default(),
            order: Order::Unknown,
            last_whole: None,
            listings: 0,
            rules: Vec::new(),
            touched: Touched::default(),
            view_holds_ms: i64::MIN,
            dropped: 0,
        }
    }

    /// What it follows.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the list said last of each run.
    pub fn known(&self) -> Arc<HashMap<Arc<str>, Arc<TaskInfo>>> {
        Arc::clone(&self.known)
    }

    /// How many subscriptions this shard watches.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
            .values()
            .filter(|one| one.is_ours())
            .count()
    }

    /// How the next listing, which begins at `steady_ms`, reads the task list.
    pub fn plan(&self, steady_ms: i64) -> Plan {
        let last_whole = self.last_whole.map(|then| then.steady_ms);
        let age = last_whole.map(|then| steady_ms.saturating_sub(then));
        let recent = age.is_some_and(|age| (0..millis(WHOLE_EVERY)).contains(&age));
        let whole = !recent || self.order != Order::NewestFirst;
        let words = &self.settings.words;
        // A run that is not seen now must be fresh until the next listing has ended.
        let interval = millis(self.settings.interval);
        let fresh_for = millis(self.settings.stale_after).max(interval.saturating_mul(3));
        let oldest = steady_ms
            .saturating_add(interval.saturating_mul(3) / 2)
            .saturating_sub(fresh_for);
        let waits = |run: &Run| {
            // A run in view that is not over is polled by itself.
            let seen_by_list_alone = run.finished(words) == run.in_view;
            run.followed && run.seen.steady_ms < oldest && seen_by_list_alone
        };
        let overdue = if whole {
            HashSet::new()
        } else {
            let waiting = self.runs.iter().filter(|(_, run)| waits(run));
            waiting.map(|(id, _)| Arc::clone(id)).collect()
        };
        Plan::new(whole, Arc::clone(&self.known), overdue, words.clone())
    }

    /// Takes in what a listing has brought; `None` for a list that could not
    /// be read.
    pub fn listed(
        &mut self,
        rules: Option<Vec<Rule>>,
        list: Option<RunList>,
        now: impl Into<Moment>,
    ) -> Listed {
        let now = now.into();
        if let Some(rules) = &rules {
            self.note_edits(rules, now.wall_ms);
        }
        self.take_lists(rules, list, now)
    }

    fn take_lists(
        &mut self,
        rules: Option<Vec<Rule>>,
        list: Option<RunList>,
        now: Moment,
    ) -> Listed {
        let mut listed = Listed::default();
        if let Some(rules) = rules {
            listed.removed = self.take_rules(&rules, now.wall_ms);
        }
        if let Some(list) = list {
            self.take_runs(list, now, &mut listed);
        }
        let changed = self.touched.any();
        let touched = self.group();
        if changed || now.wall_ms > self.view_holds_ms {
            self.choose(now.wall_ms);
            listed.wanted = Some(self.wanted());
        }
        listed.dropped = self.dropped;
        let entries = touched.iter().filter_map(|key| self.entry(key));
        listed.subscriptions = entries.collect();
        listed
    }

    /// Takes in what a poll of a run has brought; answers what is new of its
    /// subscription, and whether the run is to be polled on.
    pub fn polled(
        &mut self,
        task_id: &str,
        info: Option<&Arc<TaskInfo>>,
        data: &Assessment,
    ) -> (Option<SubscriptionEntry>, bool) {
        let Some(run) = self.runs.get_mut(task_id) else {
            return (None, false);
        };
        let rows_before = run.rows.replace(RowsVerdict {
            status: data.status,
            finished: data.finished,
            start_ms: data.start_ms,
            end_ms: data.end_ms,
            artifacts: Some(data.counts()),
        });
        run.failing_since_ms = None;
        let info_before = Arc::clone(&run.info);
        if let Some(info) = info {
            run.info = Arc::clone(info);
        }
        let key = run.info.subscription();
        let counts = !run.counted && data.finished;
        run.counted |= counts;
        let on = !run.counted && data.status != TaskStatus::Empty;
        // Not polled on, but not counted either: the next listing wants it again.
        let again = !on && !run.counted;
        let same = run.rows == rows_before && run.info == info_before;
        if counts {
            let durations = data.artifacts.iter().filter_map(|one| one.duration_ms());
            self.count(task_id, durations);
        }
        if counts || again || !same {
            self.touch(task_id, &info_before);
        }
        self.note(task_id);
        (self.entry(&key), on)
    }

    /// Counts a finished run of a followed subscription.
    fn count(&mut self, task_id: &str, artifact_durations_ms: impl Iterator<Item = i64>) {
        let words = &self.settings.words;
        let Some(run) = self.runs.get(task_id) else {
            return;
        };
        if let Some(followed) = self.subscriptions.get_mut(&run.info.subscription()) {
            followed.count(run.status(words));
            let durations = Arc::make_mut(&mut self.durations);
            if let Some(millis) = run.duration_ms(words) {
                durations.runs.observe(millis);
            }
            artifact_durations_ms.for_each(|millis| durations.artifacts.observe(millis));
        }
    }

    /// Shows what is new of a run in what is known of its subscription.
    fn note(&mut self, task_id: &str) {
        if let Some((id, run)) = self.runs.get_key_value(task_id)
            && let Some(followed) = self.subscriptions.get_mut(&run.info.subscription())
        {
            followed.note(id, &self.runs, &self.settings.words);
        }
    }

    /// Notes that `/metrics` has shown the counters of a subscription that was
    /// removed: should it come back, they go on from where they were.
    pub fn counters_were_shown(&mut self, subscription: &Subscription) {
        if let Some(followed) = self.subscriptions.get_mut(subscription) {
            followed.announced = true;
        }
    }

    /// Durations of the runs that were counted.
    pub fn durations(&self) -> &Arc<RunDurations> {
        &self.durations
    }

    /// Something of a run has changed, which was `before` so far.
    fn touch(&mut self, task_id: &str, before: &TaskInfo) {
        self.touched.subscription(before.subscription());
        if let Some((id, run)) = self.runs.get_key_value(task_id) {
            self.touched.run(id, &run.info);
        }
    }

    /// Takes in that a run could not be polled. One that is over by the list is
    /// counted without its rows where the cloud will not give them, or has not for
    /// an hour: a failure must not be missed because its details are.
    pub fn poll_failed(
        &mut self,
        task_id: &str,
        reason: Reason,
        steady_ms: i64,
    ) -> (Option<SubscriptionEntry>, bool) {
        let Some(run) = self.runs.get_mut(task_id) else {
            return (None, false);
        };
        let info = Arc::clone(&run.info);
        let for_good = reason.is_permanent();
        if for_good {
            // What the rows said once is no answer to what the list says now.
            run.rows = None;
        }
        let since = *run.failing_since_ms.get_or_insert(steady_ms);
        let given_up = for_good || steady_ms.saturating_sub(since) >= ROWS_PATIENCE;
        if !given_up {
            return (None, true);
        }
        let status = info.status(&self.settings.words);
        let counts = !run.counted && status.is_over();
        run.counted |= counts;
        // What passes by itself is tried again.
        let on = !run.counted || !for_good;
        if counts {
            self.count(task_id, std::iter::empty());
        }
        self.touch(task_id, &info);
        self.note(task_id);
        (self.entry(&info.subscription()), on)
    }

    /// Notes which rules were edited to synchronize something else: the
    /// subscription that they make now is as old as the edit.
    fn note_edits(&mut self, rules: &[Rule], now_ms: i64) {
        let listed = OnceCell::new();
        for rule in rules.iter().filter(|rule| !rule.rule_id.is_empty()) {
            let Some(history) = self.rule_history.get_mut(&rule.rule_id) else {
                let history = RuleHistory {
                    subscription: Arc::new(rule.subscription.clone()),
                    edited_ms: None,
                    seen_ms: now_ms,
                };
                self.rule_history.insert(rule.rule_id.clone(), history);
                continue;
            };
            if *history.subscription != rule.subscription {
                let listed = listed.get_or_init(|| {
                    let rules = rules.iter();
                    let keys = rules.map(|rule| (&*rule.rule_id, &rule.subscription));
                    keys.collect::<HashSet<_>>()
                });
                // Two rules that share an id are no edit.
                if listed.contains(&(&*rule.rule_id, &*history.subscription)) {
                    continue;
                }
                let modified = known(rule.modified_ms);
                let modified = modified.filter(|at| (history.seen_ms..=now_ms).contains(at));
                history.edited_ms = Some(modified.unwrap_or(now_ms));
                history.subscription = Arc::new(rule.subscription.clone());
            }
            history.seen_ms = now_ms;
        }
        let remembered = now_ms.saturating_sub(millis(REMEMBER));
        self.rule_history
            .retain(|_, history| history.seen_ms >= remembered);
    }

    /// Rules that pass the filter; answers the subscriptions that have none any more.
    fn take_rules(&mut self, rules: &[Rule], now_ms: i64) -> Vec<Arc<Subscription>> {
        if self.lists_the_same(rules) {
            let live = self.subscriptions.values_mut();
            live.filter(|followed| followed.is_live())
                .for_each(|followed| followed.seen_ms = now_ms);
            return Vec::new();
        }
        let mut by_subscription: BTreeMap<&Subscription, BTreeMap<&str, &Rule>> = BTreeMap::new();
        for rule in rules {
            if self.settings.filter.passes(&rule.subscription) {
                let of_subscription = by_subscription.entry(&rule.subscription).or_default();
                of_subscription.insert(&rule.rule_id, rule);
            }
        }
        let mut removed = Vec::new();
        for (key, followed) in &mut self.subscriptions {
            if by_subscription.contains_key(&**key) {
                continue;
            }
            if followed.is_ours() {
                removed.push(Arc::clone(key));
            }
            if followed.is_live() {
                followed.rules = Arc::from([]);
                self.touched.subscription(Subscription::clone(key));
            }
        }
        for (key, rules) in by_subscription {
            if !self.subscriptions.contains_key(key) {
                let followed = Followed::new(owns(&self.settings, key));
                self.subscriptions.insert(Arc::new(key.clone()), followed);
                // Which of the runs are its own is not known yet.
                self.touched.all = true;
            }
            let Some(followed) = self.subscriptions.get_mut(key) else {
                continue;
            };
            followed.seen_ms = now_ms;
            let since = |rule: &&Rule| {
                let history = self.rule_history.get(&rule.rule_id);
                let edited = history.filter(|history| *history.subscription == rule.subscription);
                let edited = edited.and_then(|history| history.edited_ms);
                edited.or_else(|| known(rule.created_ms))
            };
            followed.created_ms = rules.values().filter_map(since).min();
            if !followed.rules.iter().eq(rules.values().copied()) {
                followed.rules = rules.into_values().cloned().collect();
                self.touched.subscription(key.clone());
            }
        }
        let remembered = now_ms.saturating_sub(millis(REMEMBER));
        self.subscriptions
            .retain(|_, followed| followed.is_live() || followed.seen_ms >= remembered);
        let places = rules.iter().map(|rule| {
            let followed = self.subscriptions.get(&rule.subscription)?;
            let place = followed.rules.iter().position(|one| one == rule)?;
            Some((Arc::clone(&followed.rules), place))
        });
        self.rules = places.collect();
        removed
    }

    /// Whether `rules` are those of the last listing, in the same order.
    fn lists_the_same(&self, rules: &[Rule]) -> bool {
        let same = |rule: &Rule, before: &Option<Place>| match before {
            Some((of_subscription, place)) => of_subscription[*place] == *rule,
            None => !self.settings.filter.passes(&rule.subscription),
        };
        let mut pairs = rules.iter().zip(&self.rules);
        rules.len() == self.rules.len() && pairs.all(|(rule, before)| same(rule, before))
    }

    fn take_runs(&mut self, list: RunList, now: Moment, listed: &mut Listed) {
        let order = seen_order(&list.runs, self.order, list.whole);
        if order != self.order && order != Order::Unknown {
            listed.order_learned = Some(order == Order::NewestFirst);
        }
        self.order = order;
        // What is there already when the list is first read whole is history.
        let history = self.last_whole.is_none();
        if history && !list.whole {
            return;
        }
        self.listings += 1;
        for ListedRun { task_id, info } in list.runs {
            if task_id.is_empty() {
                continue;
            }
            if let Some(run) = self.runs.get_mut(&task_id) {
                // A list that moves may show a run twice.
                if run.seen_in == self.listings {
                    continue;
                }
                run.seen_in = self.listings;
                run.seen = now;
                if run.listed == info {
                    listed.unchanged.push(task_id);
                    continue;
                }
                // The list is newer than the rows, unless it says nothing.
                if info.status(&self.settings.words) != TaskStatus::Empty {
                    run.rows = None;
                }
                self.touched.subscription(run.info.subscription());
                run.listed = Arc::clone(&info);
                run.info = Arc::clone(&info);
                listed.changed.insert(Arc::clone(&task_id));
            } else {
                let gone = self.gone.remove(&task_id);
                let counted = gone.map_or(history, |gone| gone.counted);
                let run = Run::new(Arc::clone(&info), now, self.listings, counted);
                if gone.is_some_and(|gone| gone.failed)
                    && let Some(followed) = self.subscriptions.get_mut(&info.subscription())
                {
                    followed.remember_failure(&run);
                }
                self.runs.insert(Arc::clone(&task_id), run);
            }
            self.touched.run(&task_id, &info);
            Arc::make_mut(&mut self.known).insert(task_id, info);
        }
        if list.whole {
            self.last_whole = Some(now);
            self.forget(now.wall_ms);
        }
    }

    /// Forgets runs that the whole list just read does not hold any more.
    fn forget(&mut self, now_ms: i64) {
        let words = &self.settings.words;
        let listings = self.listings;
        let left = self.runs.extract_if(|_, run| run.seen_in != listings);
        for (id, mut run) in left {
            let key = run.info.subscription();
            let mut failed = false;
            if let Some(followed) = self.subscriptions.get_mut(&key) {
                failed = followed.forget(&id, &run, words);
                // Nobody can read its rows any more.
                let status = run.info.status(words);
                if !run.counted && status.is_over() && followed.is_ours() {
                    run.counted = true;
                    followed.count(status);
                    if let Some(millis) = run.duration_ms(words) {
                        Arc::make_mut(&mut self.durations).runs.observe(millis);
                    }
                }
            }
            self.touched.subscription(key);
            Arc::make_mut(&mut self.known).remove(&id);
            let gone = Gone {
                seen_ms: run.seen.wall_ms,
                counted: run.counted,
                failed,
            };
            self.gone.insert(id, gone);
        }
        let remembered = now_ms.saturating_sub(millis(REMEMBER));
        self.gone.retain(|_, gone| gone.seen_ms >= remembered);
        if self.gone.len() > REMEMBER_MOST {
            let mut times: Vec<i64> = self.gone.values().map(|gone| gone.seen_ms).collect();
            times.sort_unstable_by_key(|seen_ms| Reverse(*seen_ms));
            let oldest = times[REMEMBER_MOST];
            self.gone.retain(|_, gone| gone.seen_ms > oldest);
        }
    }

    /// Gives each subscription that was touched its runs, newest first; answers
    /// which these are.
    fn group(&mut self) -> Vec<Arc<Subscription>> {
        let words = &self.settings.words;
        let Touched { all, mut some } = std::mem::take(&mut self.touched);
        if all {
            some.clear();
            for (id, run) in &self.runs {
                let runs = some.entry(run.info.subscription()).or_default();
                runs.push(Arc::clone(id));
            }
            for key in self.subscriptions.keys() {
                some.entry(Subscription::clone(key)).or_default();
            }
        }
        let mut touched = Vec::new();
        for (key, new) in some {
            let Some(followed) = self.subscriptions.get_mut(&key) else {
                continue;
            };
            let old = if all {
                Vec::new()
            } else {
                std::mem::take(&mut followed.runs)
            };
            let is_its_own = |run: &&Run| run.info.is_run_of(&key);
            let ids = old.into_iter().chain(new);
            let mut runs: Vec<(i64, Arc<str>)> = ids
                .filter_map(|id| {
                    let run = self.runs.get(&id).filter(is_its_own)?;
                    Some((run.recency(words), id))
                })
                .collect();
            runs.sort_unstable_by(|a, b| b.cmp(a));
            runs.dedup();
            followed.runs = runs.into_iter().map(|(_, id)| id).collect();
            followed.take_stock(&key, &self.runs, words);
            if let Some((key, _)) = self.subscriptions.get_key_value(&key) {
                touched.push(Arc::clone(key));
            }
        }
        touched.sort_unstable();
        touched
    }

    /// Chooses the runs that get task series, of all shards.
    fn choose(&mut self, now_ms: i64) {
        let Settings {
            runs: most,
            max_age,
            max_tasks,
            words,
            ..
        } = &self.settings;
        for run in self.runs.values_mut() {
            (run.followed, run.in_view) = (false, false);
        }
        let oldest = now_ms.saturating_sub(millis(*max_age));
        let mut chosen: Vec<(i64, &Arc<str>)> = Vec::new();
        for followed in self.subscriptions.values().filter(|one| one.is_live()) {
            for (place, id) in followed.runs.iter().enumerate() {
                let Some(run) = self.runs.get_mut(id) else {
                    continue;
                };
                run.followed = true;
                let recency = run.recency(words);
                // Of unknown age is not old.
                if place < *most && (recency >= oldest || recency == 0) {
                    chosen.push((recency, id));
                }
            }
        }
        let ages = chosen.iter().map(|(recency, _)| *recency);
        let first = ages.filter(|recency| *recency != 0).min();
        self.view_holds_ms = first.map_or(i64::MAX, |first| first.saturating_add(millis(*max_age)));
        self.dropped = chosen.len().saturating_sub(*max_tasks);
        if self.dropped > 0 {
            chosen.sort_unstable_by(|a, b| b.cmp(a));
            chosen.truncate(*max_tasks);
        }
        for (_, id) in chosen {
            if let Some(run) = self.runs.get_mut(id) {
                run.in_view = true;
            }
        }
    }

    /// What this shard polls: its part of the runs in view, and runs that are
    /// over and not counted yet.
    fn wanted(&self) -> Vec<Wanted> {
        let words = &self.settings.words;
        let mut wanted = Vec::new();
        for (key, followed) in self.subscriptions.iter().filter(|(_, one)| one.is_ours()) {
            let task: Arc<str> = format!("{}/{}", key.repo_namespace, key.repo_name).into();
            for id in &followed.runs {
                let Some(run) = self.runs.get(id) else {
                    continue;
                };
                let uncounted = !run.counted && run.info.may_be_over(words);
                if run.in_view || uncounted {
                    let settings = &self.settings;
                    wanted.push(Wanted {
                        target: Arc::new(Target {
                            instance_id: Arc::clone(&settings.instance_id),
                            task_id: Arc::clone(id),
                            task: Arc::clone(&task),
                            region: Arc::clone(&settings.region),
                            origin: Origin::Followed,
                            artifacts: settings.artifacts,
                        }),
                        shown: run.in_view && !settings.configured.contains(id),
                        info: Arc::clone(&run.info),
                    });
                }
            }
        }
        wanted
    }

    /// What is known of a subscription that is ours and has a rule.
    fn entry(&self, key: &Subscription) -> Option<SubscriptionEntry> {
        let Settings {
            instance_id,
            words,
            causes,
            ..
        } = &self.settings;
        let (key, followed) = self.subscriptions.get_key_value(key)?;
        followed
            .is_ours()
            .then(|| followed.entry(instance_id, key, &self.runs, words, causes))
    }

    /// All of it, for the state file.
    pub fn save(&self) -> SavedInstance {
        SavedInstance {
            instance_id: Arc::clone(&self.settings.instance_id),
            last_success_ms: None,
            last_whole_ms: self.last_whole.map(|then| then.wall_ms),
            newest_first: self.order.newest_first(),
            durations: Arc::clone(&self.durations),
            rules: self
                .rule_history
                .iter()
                .map(|(rule_id, history)| SavedRule {
                    rule_id: rule_id.clone(),
                    subscription: Arc::clone(&history.subscription),
                    edited_ms: history.edited_ms,
                    seen_ms: history.seen_ms,
                })
                .collect(),
            runs: self.runs.iter().map(|(id, run)| run.save(id)).collect(),
            gone: self
                .gone
                .iter()
                .map(|(id, gone)| GoneRun {
                    task_id: Arc::clone(id),
                    seen_ms: gone.seen_ms,
                    counted: gone.counted,
                    failed: gone.failed,
                })
                .collect(),
            subscriptions: self
                .subscriptions
                .iter()
                .map(|(key, followed)| followed.save(key))
                .collect(),
            ..SavedInstance::default()
        }
    }

    /// Takes back what [`Follower::save`] gave; answers what is to be polled and
    /// shown of it now. What the configuration does not follow any more stays
    /// remembered, but unseen.
    pub fn restore(&mut self, saved: SavedInstance, now: impl Into<Moment>) -> Listed {
        let now = now.into();
        self.last_whole = saved.last_whole_ms.map(|then| now.recall(then));
        self.durations = saved.durations;
        let history = saved.rules.into_iter().map(|rule| {
            let history = RuleHistory {
                subscription: rule.subscription,
                edited_ms: rule.edited_ms,
                seen_ms: rule.seen_ms,
            };
            (rule.rule_id, history)
        });
        self.rule_history = history.collect();
        self.order = Order::from_newest_first(saved.newest_first);
        let runs = saved.runs.into_iter();
        self.runs = runs.map(|run| restored_run(run, now)).collect();
        let known = self.runs.iter();
        let known = known.map(|(id, run)| (Arc::clone(id), Arc::clone(&run.listed)));
        self.known = Arc::new(known.collect());
        self.touched.all = true;
        let gone = saved.gone.into_iter().map(|run| {
            let gone = Gone {
                seen_ms: run.seen_ms,
                counted: run.counted,
                failed: run.failed,
            };
            (run.task_id, gone)
        });
        self.gone = gone.collect();
        let mut rules = Vec::new();
        for saved in saved.subscriptions {
            rules.extend(saved.rules.iter().cloned());
            let (key, followed) = Followed::restore(saved, now);
            self.subscriptions.insert(key, followed);
        }
        for (key, followed) in &mut self.subscriptions {
            followed.own(owns(&self.settings, key));
        }
        self.take_lists(Some(rules), None, now)
    }
}

/// Whether the subscription is this shard's.
fn owns(settings: &Settings, key: &Subscription) -> bool {
    settings.shard.owns(&[
        &settings.instance_id,
        &key.repo_namespace,
        &key.repo_name,
        &key.source_provider,
        &key.source_repository,
    ])
}

fn restored_run(saved: SavedRun, now: Moment) -> (Arc<str>, Run) {
    let run = Run {
        listed: Arc::clone(&saved.info),
        info: saved.info,
        first_seen_ms: saved.first_seen_ms,
        seen: now.recall(saved.seen_ms),
        seen_in: 0,
        followed: false,
        in_view: false,
        counted: saved.counted,
        rows: saved.rows,
        failing_since_ms: None,
    };
    (saved.task_id, run)
}

#[cfg(test)]
mod tests;
