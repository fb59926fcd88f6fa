//! Which runs of an instance are worth watching, what they say of their
//! subscription, and what is counted. Pure: lists, answers and the time come in
//! as arguments; when to ask, and asking, is `poll`'s business.
//!
//! A task carries no rule's id: rules and runs are joined on what they
//! synchronise from where into where, a [`Subscription`]. One of an instance is a
//! [`subscription::Followed`]; `listing` decides how far a list is read.

mod counting;
mod filter;
mod listing;
mod rules;
mod run;
mod runs;
mod saved;
pub mod settings;
mod subscription;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::clock::Moment;

pub use self::filter::Filter;
use self::listing::Order;
pub use self::listing::{Plan, RunList};
use self::rules::Place;
use self::run::Run;
use self::subscription::Followed;
use crate::model::{Causes, Rule, Subscription, TaskInfo, Words};
use crate::shard::Shard;
use crate::store::state::{GoneRun, SavedRule};
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

/// One instance's subscriptions and runs.
#[derive(Debug)]
pub struct Follower {
    settings: Settings,
    subscriptions: BTreeMap<Arc<Subscription>, Followed>,
    runs: HashMap<Arc<str>, Run>,
    /// What the list said last of each run, for the plan of the next listing.
    known: Arc<HashMap<Arc<str>, Arc<TaskInfo>>>,
    gone: HashMap<Arc<str>, GoneRun>,
    /// What each rule synchronizes, followed or not: rules are edited in place.
    rule_history: HashMap<String, SavedRule>,
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

#[cfg(test)]
mod tests;
