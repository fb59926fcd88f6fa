//! Which runs of an instance are worth watching, what they say of their
//! subscription, and what is counted. Pure: lists, answers and the time come in
//! as arguments; when to ask, and asking, is `poll`'s business.
//!
//! A task carries no rule's id: rules and runs are joined on what they
//! synchronise from where into where, a [`Subscription`]. One of an instance is a
//! [`subscription::Followed`]; `listing` decides how far a list is read.

mod listing;
mod subscription;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use self::listing::{Order, seen_order};
pub use self::listing::{Plan, RunList};
use self::subscription::Followed;
use crate::model::{Assessment, ListedRun, Rule, Subscription, TaskInfo, TaskStatus, Words};
use crate::shard::Shard;
use crate::store::state::{GoneRun, RowsVerdict, SavedInstance, SavedRun};
use crate::store::{ArtifactSeries, SubscriptionEntry, Target};

/// The list is read to its end at least so often.
const WHOLE_EVERY: Duration = Duration::from_secs(6 * 3_600);
/// How long a run that left the list, or a subscription without a rule, is
/// remembered, so that nothing is counted twice should it come back.
const REMEMBER: Duration = Duration::from_secs(30 * 86_400);
/// No more runs than these are remembered.
const REMEMBER_MOST: usize = 100_000;

/// What one instance's `follow:` says, and what bounds it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// Which repositories are followed: those that an `include` matches, all where
/// there is none, but none that an `exclude` matches. Each is a pair of
/// patterns, of the namespace and of the repository that is synchronised into.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Anchored.
    pub include: Vec<(Regex, Regex)>,
    /// Anchored.
    pub exclude: Vec<(Regex, Regex)>,
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        fn same(ours: &[(Regex, Regex)], theirs: &[(Regex, Regex)]) -> bool {
            let texts = |(namespace, name): &(Regex, Regex)| {
                (namespace.as_str().to_owned(), name.as_str().to_owned())
            };
            ours.iter().map(texts).eq(theirs.iter().map(texts))
        }
        same(&self.include, &other.include) && same(&self.exclude, &other.exclude)
    }
}

impl Eq for Filter {}

impl Filter {
    fn passes(&self, subscription: &Subscription) -> bool {
        let Subscription {
            repo_namespace,
            repo_name,
            ..
        } = subscription;
        let matches = |(namespace, name): &(Regex, Regex)| {
            namespace.is_match(repo_namespace) && name.is_match(repo_name)
        };
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
    gone: HashMap<Arc<str>, Gone>,
    order: Order,
    last_whole_ms: Option<i64>,
}

/// A run of the list.
#[derive(Clone, Debug)]
struct Run {
    /// What the list said last.
    listed: Arc<TaskInfo>,
    /// What is known now: the list, or a later answer about the task itself.
    info: Arc<TaskInfo>,
    first_seen_ms: i64,
    seen_ms: i64,
    /// Counted already, or too old to be.
    counted: bool,
    /// What its rows say, once they were read.
    rows: Option<RowsVerdict>,
}

/// A run that the list does not hold any more.
#[derive(Clone, Copy, Debug)]
struct Gone {
    seen_ms: i64,
    counted: bool,
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
    /// All that is to be polled from now on.
    pub wanted: Vec<Wanted>,
    /// Known runs that the list shows as they were.
    pub unchanged: HashSet<Arc<str>>,
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
    fn new(info: Arc<TaskInfo>, now_ms: i64, counted: bool) -> Self {
        Self {
            listed: Arc::clone(&info),
            info,
            first_seen_ms: now_ms,
            seen_ms: now_ms,
            counted,
            rows: None,
        }
    }

    /// Its rows, where they were read, know better than the list.
    fn status(&self, words: &Words) -> TaskStatus {
        match &self.rows {
            Some(rows) => rows.status,
            None => self.info.status(words),
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
            gone: HashMap::new(),
            order: Order::Unknown,
            last_whole_ms: None,
        }
    }

    /// What it follows.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How the next listing reads the task list.
    pub fn plan(&self, now_ms: i64) -> Plan {
        let age = self.last_whole_ms.map(|then| now_ms.saturating_sub(then));
        let recent = age.is_some_and(|age| (0..millis(WHOLE_EVERY)).contains(&age));
        let whole = !recent || self.order != Order::NewestFirst;
        let words = &self.settings.words;
        // A run that is not seen now must be fresh until the next listing has ended.
        let interval = millis(self.settings.interval);
        let fresh_for = millis(self.settings.stale_after).max(interval.saturating_mul(3));
        let oldest = now_ms
            .saturating_add(interval.saturating_mul(3) / 2)
            .saturating_sub(fresh_for);
        let in_view: HashSet<Arc<str>> = self.choose(now_ms).0.into_iter().collect();
        let waits = |id: &Arc<str>, run: &Run| {
            // A run in view that is not over is polled by itself.
            let seen_by_list_alone = run.finished(words) == in_view.contains(id);
            seen_by_list_alone && run.seen_ms < oldest
        };
        let overdue = if whole {
            HashSet::new()
        } else {
            let ours = self.subscriptions.values().filter(|one| one.is_live());
            ours.flat_map(|one| &one.runs)
                .filter(|id| self.runs.get(*id).is_some_and(|run| waits(id, run)))
                .cloned()
                .collect()
        };
        let known = self.runs.iter();
        Plan::new(
            whole,
            known
                .map(|(id, run)| (Arc::clone(id), Arc::clone(&run.listed)))
                .collect(),
            overdue,
            words.clone(),
        )
    }

    /// Takes in what a listing has brought; `None` for a list that could not
    /// be read.
    pub fn listed(
        &mut self,
        rules: Option<Vec<Rule>>,
        list: Option<RunList>,
        now_ms: i64,
    ) -> Listed {
        let mut listed = Listed::default();
        if let Some(rules) = rules {
            listed.removed = self.take_rules(rules, now_ms);
        }
        if let Some(list) = list {
            self.take_runs(list, now_ms, &mut listed);
        }
        self.group();
        let (in_view, dropped) = self.choose(now_ms);
        listed.dropped = dropped;
        listed.wanted = self.wanted(&in_view);
        let live = self.subscriptions.iter().filter(|(_, one)| one.is_ours());
        let keys: Vec<Arc<Subscription>> = live.map(|(key, _)| Arc::clone(key)).collect();
        listed.subscriptions = keys.iter().filter_map(|key| self.entry(key)).collect();
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
        if let Some(info) = info {
            run.info = Arc::clone(info);
        }
        run.rows = Some(RowsVerdict {
            status: data.status,
            finished: data.finished,
            start_ms: data.start_ms,
            end_ms: data.end_ms,
        });
        let key = run.info.subscription();
        let durations = data.artifacts.iter().filter_map(|one| one.duration_ms());
        let counts = !run.counted && data.finished;
        run.counted |= counts;
        let on = !run.counted && data.status != TaskStatus::Empty;
        if counts && let Some(followed) = self.subscriptions.get_mut(&key) {
            followed.count(data.status, durations);
        }
        (self.entry(&key), on)
    }

    /// Takes in that a run could not be polled. One that is over by the list, and
    /// whose rows the cloud will not give, is counted without them: a failure
    /// must not be missed because its details are denied.
    pub fn poll_failed(
        &mut self,
        task_id: &str,
        reason: &'static str,
    ) -> (Option<SubscriptionEntry>, bool) {
        let words = &self.settings.words;
        let Some(run) = self.runs.get_mut(task_id) else {
            return (None, false);
        };
        let key = run.info.subscription();
        let for_good = matches!(reason, "forbidden" | "not_found" | "bad_request");
        if for_good {
            // What the rows said once is no answer to what the list says now.
            run.rows = None;
        }
        let status = run.info.status(words);
        if for_good && !run.counted && status.is_over() {
            run.counted = true;
            if let Some(followed) = self.subscriptions.get_mut(&key) {
                followed.count(status, []);
            }
        } else if !for_good {
            return (None, true);
        }
        let on = !self.runs.get(task_id).is_some_and(|run| run.counted);
        (self.entry(&key), on)
    }

    /// Rules that pass the filter; answers the subscriptions that have none any more.
    fn take_rules(&mut self, rules: Vec<Rule>, now_ms: i64) -> Vec<Arc<Subscription>> {
        let mut by_subscription: BTreeMap<Subscription, BTreeMap<String, Rule>> = BTreeMap::new();
        for rule in rules {
            if self.settings.filter.passes(&rule.subscription) {
                by_subscription
                    .entry(rule.subscription.clone())
                    .or_default()
                    .insert(rule.rule_id.clone(), rule);
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
            followed.rules = Arc::from([]);
        }
        for (key, rules) in by_subscription {
            if !self.subscriptions.contains_key(&key) {
                let followed = Followed::new(owns(&self.settings, &key));
                self.subscriptions.insert(Arc::new(key.clone()), followed);
            }
            let Some(followed) = self.subscriptions.get_mut(&key) else {
                continue;
            };
            followed.seen_ms = now_ms;
            if !followed.rules.iter().eq(rules.values()) {
                followed.rules = rules.into_values().collect();
            }
        }
        let remembered = now_ms.saturating_sub(millis(REMEMBER));
        self.subscriptions
            .retain(|_, followed| followed.is_live() || followed.seen_ms >= remembered);
        removed
    }

    fn take_runs(&mut self, list: RunList, now_ms: i64, listed: &mut Listed) {
        let order = seen_order(&list.runs, self.order, list.whole);
        if order != self.order && order != Order::Unknown {
            listed.order_learned = Some(order == Order::NewestFirst);
        }
        self.order = order;
        // What is there already when the list is first read whole is history.
        let history = self.last_whole_ms.is_none();
        if history && !list.whole {
            return;
        }
        let mut seen = HashSet::with_capacity(list.runs.len());
        for ListedRun { task_id, info } in list.runs {
            // A list that moves may show a run twice.
            if task_id.is_empty() || !seen.insert(Arc::clone(&task_id)) {
                continue;
            }
            if let Some(run) = self.runs.get_mut(&task_id) {
                run.seen_ms = now_ms;
                if run.listed == info {
                    listed.unchanged.insert(task_id);
                } else {
                    // The list is newer than the rows, unless it says nothing.
                    if info.status(&self.settings.words) != TaskStatus::Empty {
                        run.rows = None;
                    }
                    run.listed = Arc::clone(&info);
                    run.info = info;
                    listed.changed.insert(task_id);
                }
                continue;
            }
            let gone = self.gone.remove(&task_id);
            let counted = gone.map_or(history, |gone| gone.counted);
            self.runs.insert(task_id, Run::new(info, now_ms, counted));
        }
        if list.whole {
            self.last_whole_ms = Some(now_ms);
            self.forget(&seen, now_ms);
        }
    }

    /// Forgets runs that a whole list, which has `seen` these, does not hold any more.
    fn forget(&mut self, seen: &HashSet<Arc<str>>, now_ms: i64) {
        let words = &self.settings.words;
        let left: Vec<Arc<str>> = self
            .runs
            .keys()
            .filter(|id| !seen.contains(*id))
            .cloned()
            .collect();
        for id in left {
            let Some(run) = self.runs.remove(&id) else {
                continue;
            };
            if let Some(followed) = self.subscriptions.get_mut(&run.info.subscription()) {
                followed.forget(&run, words);
            }
            let gone = Gone {
                seen_ms: run.seen_ms,
                counted: run.counted,
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

    /// Gives each subscription its runs, newest first.
    fn group(&mut self) {
        let words = &self.settings.words;
        let mut by_subscription: HashMap<Subscription, Vec<(i64, Arc<str>)>> = HashMap::new();
        for (id, run) in &self.runs {
            let run = (run.recency(words), Arc::clone(id), run.info.subscription());
            let (recency, id, key) = run;
            by_subscription.entry(key).or_default().push((recency, id));
        }
        for (key, followed) in &mut self.subscriptions {
            let mut runs = by_subscription.remove(&**key).unwrap_or_default();
            runs.sort_unstable_by(|a, b| b.cmp(a));
            followed.runs = runs.into_iter().map(|(_, id)| id).collect();
            followed.take_stock(&self.runs, words);
        }
    }

    /// The runs that get task series, of all shards, newest first, and how many
    /// more `max_tasks` leaves out.
    fn choose(&self, now_ms: i64) -> (Vec<Arc<str>>, usize) {
        let Settings {
            runs: most,
            max_age,
            max_tasks,
            words,
            ..
        } = &self.settings;
        let oldest = now_ms.saturating_sub(millis(*max_age));
        let mut chosen: Vec<(i64, &Arc<str>)> = Vec::new();
        for followed in self.subscriptions.values().filter(|one| one.is_live()) {
            let newest = followed.runs.iter().take(*most);
            let aged = newest.filter_map(|id| Some((self.runs.get(id)?.recency(words), id)));
            // Of unknown age is not old.
            chosen.extend(aged.filter(|(recency, _)| *recency >= oldest || *recency == 0));
        }
        chosen.sort_unstable_by(|a, b| b.cmp(a));
        let dropped = chosen.len().saturating_sub(*max_tasks);
        chosen.truncate(*max_tasks);
        let ids = chosen.into_iter().map(|(_, id)| Arc::clone(id));
        (ids.collect(), dropped)
    }

    /// What this shard polls: its part of `in_view`, and runs that are over and
    /// not counted yet.
    fn wanted(&self, in_view: &[Arc<str>]) -> Vec<Wanted> {
        let words = &self.settings.words;
        let in_view: HashSet<&Arc<str>> = in_view.iter().collect();
        let mut wanted = Vec::new();
        for (key, followed) in self.subscriptions.iter().filter(|(_, one)| one.is_ours()) {
            let task: Arc<str> = format!("{}/{}", key.repo_namespace, key.repo_name).into();
            for id in &followed.runs {
                let Some(run) = self.runs.get(id) else {
                    continue;
                };
                let chosen = in_view.contains(id);
                let uncounted = !run.counted && run.info.status(words) != TaskStatus::Running;
                if chosen || uncounted {
                    let settings = &self.settings;
                    wanted.push(Wanted {
                        target: Arc::new(Target {
                            instance_id: Arc::clone(&settings.instance_id),
                            task_id: Arc::clone(id),
                            task: Arc::clone(&task),
                            region: Arc::clone(&settings.region),
                            artifacts: settings.artifacts,
                        }),
                        shown: chosen && !settings.configured.contains(id),
                        info: Arc::clone(&run.info),
                    });
                }
            }
        }
        wanted
    }

    /// What is known of a subscription that is ours and has a rule.
    fn entry(&mut self, key: &Subscription) -> Option<SubscriptionEntry> {
        let words = &self.settings.words;
        let followed = self.subscriptions.get_mut(key)?;
        if !followed.is_ours() {
            return None;
        }
        followed.take_stock(&self.runs, words);
        let (key, followed) = self.subscriptions.get_key_value(key)?;
        Some(followed.entry(&self.settings.instance_id, key, &self.runs, words))
    }

    /// All of it, for the state file.
    pub fn save(&self) -> SavedInstance {
        SavedInstance {
            instance_id: Arc::clone(&self.settings.instance_id),
            last_success_ms: None,
            last_whole_ms: self.last_whole_ms,
            newest_first: self.order.newest_first(),
            runs: self
                .runs
                .iter()
                .map(|(id, run)| SavedRun {
                    task_id: Arc::clone(id),
                    info: Arc::clone(&run.listed),
                    first_seen_ms: run.first_seen_ms,
                    seen_ms: run.seen_ms,
                    counted: run.counted,
                    rows: run.rows.clone(),
                })
                .collect(),
            gone: self
                .gone
                .iter()
                .map(|(id, gone)| GoneRun {
                    task_id: Arc::clone(id),
                    seen_ms: gone.seen_ms,
                    counted: gone.counted,
                })
                .collect(),
            subscriptions: self
                .subscriptions
                .iter()
                .map(|(key, followed)| followed.save(key))
                .collect(),
        }
    }

    /// Takes back what [`Follower::save`] gave; answers what is to be polled and
    /// shown of it now. What the configuration does not follow any more stays
    /// remembered, but unseen.
    pub fn restore(&mut self, saved: SavedInstance, now_ms: i64) -> Listed {
        self.last_whole_ms = saved.last_whole_ms;
        self.order = Order::from_newest_first(saved.newest_first);
        self.runs = saved.runs.into_iter().map(restored_run).collect();
        let gone = saved.gone.into_iter().map(|run| {
            let gone = Gone {
                seen_ms: run.seen_ms,
                counted: run.counted,
            };
            (run.task_id, gone)
        });
        self.gone = gone.collect();
        let mut rules = Vec::new();
        for saved in saved.subscriptions {
            rules.extend(saved.rules.iter().cloned());
            let (key, followed) = Followed::restore(saved);
            self.subscriptions.insert(key, followed);
        }
        for (key, followed) in &mut self.subscriptions {
            followed.own(owns(&self.settings, key));
        }
        self.listed(Some(rules), None, now_ms)
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

fn restored_run(saved: SavedRun) -> (Arc<str>, Run) {
    let run = Run {
        listed: Arc::clone(&saved.info),
        info: saved.info,
        first_seen_ms: saved.first_seen_ms,
        seen_ms: saved.seen_ms,
        counted: saved.counted,
        rows: saved.rows,
    };
    (saved.task_id, run)
}

#[cfg(test)]
mod tests;
