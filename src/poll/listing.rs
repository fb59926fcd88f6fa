//! One followed instance: the questions of one listing, and what their answers
//! change. What to make of the lists is `follow`'s.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::Reason;
use alibaba_cloud::clock::Moment;
use tokio::time::Instant;

use crate::follow::{Follower, Listed, Plan, RunList, Settings};
use crate::metrics::own::Own;
use crate::model::{Rule, Subscription, TaskInfo, unrecognized};
use crate::store::state::SavedInstance;
use crate::store::{ListingEntry, PollError, SubscriptionEntry, TaskEntry, fresh_for};

use super::schedule::{self, Beat};
use super::turn::Turn;
use super::words::Word;
use super::{Source, SourceError};

/// What the scheduler keeps of a followed instance between two listings.
pub(super) struct Listing {
    follower: Follower,
    pub(super) turn: Turn,
    entry: ListingEntry,
    /// Of runs that have words that no status mapping covers.
    words: HashMap<Arc<str>, Vec<Word>>,
    /// When the list of runs was last read, on the steady clock.
    runs_read_ms: Option<i64>,
}

/// One listing that is about to begin.
pub(super) struct Question {
    instance_id: Arc<str>,
    interval: Duration,
    plan: Plan,
}

/// What one listing has brought.
pub(super) struct Read {
    rules: Result<Vec<Rule>, SourceError>,
    runs: Result<RunList, SourceError>,
}

impl Question {
    pub(super) async fn ask<S: Source>(mut self, source: &S) -> Read {
        let mut budget = source.listing_budget(self.interval);
        let rules = source.rules(&self.instance_id, &mut budget).await;
        let runs = match &rules {
            // What keeps one list away keeps the other, too, save for a permission.
            Err(error) if error.reason.is_account_wide() && error.reason != Reason::Forbidden => {
                Err(error.clone())
            }
            _ => {
                let go_on = |page: &[_]| self.plan.go_on(page);
                source.runs(&self.instance_id, &mut budget, go_on).await
            }
        };
        Read { rules, runs }
    }
}

impl Read {
    /// Pages of the list of tasks.
    pub(super) fn pages(&self) -> u32 {
        self.runs.as_ref().map_or(0, |list| list.pages)
    }

    /// Why it is not complete.
    pub(super) fn error(&self) -> Option<&SourceError> {
        self.rules.as_ref().err().or(self.runs.as_ref().err())
    }
}

impl Listing {
    pub(super) fn new(settings: Settings, account: usize, now: Instant) -> Self {
        Self {
            entry: ListingEntry {
                instance_id: Arc::clone(&settings.instance_id),
                interval: settings.interval,
                ..ListingEntry::default()
            },
            turn: Turn::new(&settings.instance_id, "", account, now),
            words: HashMap::new(),
            runs_read_ms: None,
            follower: Follower::new(settings),
        }
    }

    /// Takes back what is known from before a restart.
    pub(super) fn restore(&mut self, saved: SavedInstance, moment: Moment, now: Instant) -> Listed {
        self.entry.announced = saved.announced;
        if let Some(last) = saved.last_success_ms {
            let last_success = moment.recall(last);
            self.entry.set_last_success(last_success);
            self.runs_read_ms = Some(last_success.steady_ms);
            let age = u64::try_from(moment.wall_ms.saturating_sub(last)).unwrap_or(u64::MAX);
            let age = Duration::from_millis(age);
            self.turn.due = now + self.entry.interval.saturating_sub(age);
            self.turn.bunched = false;
        }
        let listed = self.follower.restore(saved, moment);
        for (id, info) in &*self.follower.known() {
            self.note_words_of(id, info);
        }
        self.entry.tasks_dropped = listed.dropped;
        self.entry.durations = Arc::clone(self.follower.durations());
        listed
    }

    /// The same instance, followed in another way from now on. Its lists are
    /// read at once; how they could be read stays known until then.
    pub(super) fn replaced(
        &self,
        settings: Settings,
        account: usize,
        moment: Moment,
        now: Instant,
    ) -> (Self, Listed) {
        let mut new = Self::new(settings, account, now);
        let listed = new.restore(self.save(), moment, now);
        let interval = new.entry.interval;
        new.entry = ListingEntry {
            interval,
            tasks_dropped: listed.dropped,
            durations: Arc::clone(&new.entry.durations),
            ..self.entry.clone()
        };
        new.set_due(now, moment.wall_ms, now);
        (new, listed)
    }

    pub(super) fn settings(&self) -> &Settings {
        self.follower.settings()
    }

    /// Moves its due time after a jump of the clocks; `true` where that has made it due.
    pub(super) fn jump(&mut self, uncounted: Duration, moment: Moment, now: Instant) -> bool {
        let jumped = self.turn.after_jump(uncounted, now);
        jumped.is_some_and(|(due, is_due)| {
            self.set_due(due, moment.wall_ms, now);
            is_due
        })
    }

    pub(super) fn set_due(&mut self, due: Instant, now_ms: i64, now: Instant) {
        self.entry.next_ms = Some(self.turn.set_due(due, now_ms, now));
    }

    pub(super) fn save(&self) -> SavedInstance {
        SavedInstance {
            last_success_ms: self.entry.last_success_ms,
            announced: self.entry.announced,
            ..self.follower.save()
        }
    }

    pub(super) fn question(&self, steady_ms: i64) -> Question {
        Question {
            instance_id: Arc::clone(&self.entry.instance_id),
            interval: self.entry.interval,
            plan: self.follower.plan(steady_ms),
        }
    }

    pub(super) fn instance_id(&self) -> &Arc<str> {
        &self.entry.instance_id
    }

    pub(super) fn interval(&self) -> Duration {
        self.entry.interval
    }

    pub(super) fn entry(&self) -> &ListingEntry {
        &self.entry
    }

    pub(super) fn is_untried(&self) -> bool {
        self.entry.last_try_ms.is_none() && self.entry.last_success_ms.is_none()
    }

    /// As [`Follower::counters_were_shown`].
    pub(super) fn counters_were_shown(&mut self, subscription: &Subscription) {
        self.follower.counters_were_shown(subscription);
    }

    /// Takes in the words of the runs that were read; answers whether they could be.
    pub(super) fn note_words(&mut self, read: &Read, steady_ms: i64) -> bool {
        let Ok(list) = &read.runs else {
            return false;
        };
        self.runs_read_ms = Some(steady_ms);
        if list.whole {
            self.words.clear();
        }
        for run in &list.runs {
            self.note_words_of(&run.task_id, &run.info);
        }
        true
    }

    /// Whether the list of runs was read lately enough for its words to count.
    pub(super) fn has_fresh_words(&self, steady_ms: i64) -> bool {
        let limit = fresh_for(self.settings().stale_after, self.entry.interval);
        let read = self.runs_read_ms;
        read.is_some_and(|read| steady_ms <= read.saturating_add(limit))
    }

    fn note_words_of(&mut self, id: &Arc<str>, info: &TaskInfo) {
        let words = unrecognized([], Some(info), &self.follower.settings().words);
        let words: Vec<Word> = words
            .map(|(field, word)| (field, word.to_owned()))
            .collect();
        if words.is_empty() {
            self.words.remove(id);
        } else {
            self.words.insert(Arc::clone(id), words);
        }
    }

    /// Words of its runs that no status mapping covers.
    pub(super) fn unrecognized(&self) -> HashSet<Word> {
        self.words.values().flatten().cloned().collect()
    }

    /// Takes in what a listing has brought, at its end.
    pub(super) fn apply(&mut self, read: Read, moment: Moment, now: Instant) -> Listed {
        let error = read.error().cloned();
        self.entry.last_try_ms = Some(moment.wall_ms);
        let mut beat = if self.turn.bunched {
            Beat::First(self.entry.interval)
        } else {
            Beat::Steady(self.entry.interval)
        };
        match &error {
            None => {
                self.turn.failures = 0;
                self.entry.set_last_success(moment);
            }
            Some(error) => {
                self.turn.failures = self.turn.failures.saturating_add(1);
                if error.reason.is_transient() {
                    let random = fastrand::f64();
                    let delay = schedule::backoff(self.turn.failures, self.entry.interval, random);
                    beat = Beat::Retry(delay);
                }
            }
        }
        self.entry.error = error.map(|error| {
            Arc::new(PollError {
                reason: error.reason,
                text: error.text,
            })
        });
        self.turn.bunched &= matches!(beat, Beat::Retry(_));
        let due = schedule::next_due(beat, self.turn.due, now, self.turn.spread).0;
        self.set_due(due, moment.wall_ms, now);
        let listed = self
            .follower
            .listed(read.rules.ok(), read.runs.ok(), moment);
        self.entry.tasks_dropped = listed.dropped;
        self.entry.durations = Arc::clone(self.follower.durations());
        listed
    }

    /// Shows how its lists can be read, or what is known of that from before a
    /// restart.
    #[expect(clippy::cast_precision_loss, reason = "all of them fit into 52 bits")]
    pub(super) fn show(&self, own: &Own) {
        let (id, error) = (&*self.entry.instance_id, &self.entry.error);
        if self.entry.last_try_ms.is_some() {
            own.follow_up
                .set(&[id], if error.is_none() { 1.0 } else { 0.0 });
        }
        if let Some(at) = self.entry.last_success_ms {
            own.follow_last_success_timestamp_seconds
                .set(&[id], at as f64 / 1000.0);
        }
        own.follow_error.remove(&[id]);
        if let Some(error) = error {
            own.follow_error.set(&[id, error.reason.as_str()], 1.0);
        }
        own.follow_subscriptions
            .set(&[id], self.follower.subscriptions() as f64);
        own.follow_tasks_dropped
            .set(&[id], self.entry.tasks_dropped as f64);
    }

    /// Takes in what a poll of one of its runs has brought; answers what is new of
    /// its subscription, and whether the run is to be polled on.
    pub(super) fn polled(
        &mut self,
        task: &TaskEntry,
        steady_ms: i64,
    ) -> (Option<SubscriptionEntry>, bool) {
        let id = &task.target.task_id;
        let polled = match (&task.error, &task.data) {
            (Some(error), _) => self.follower.poll_failed(id, error.reason, steady_ms),
            (None, Some(data)) => self.follower.polled(id, task.info.as_ref(), data),
            (None, None) => (None, true),
        };
        self.entry.durations = Arc::clone(self.follower.durations());
        polled
    }
}
