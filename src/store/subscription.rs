//! What is known of subscriptions: their rules, their newest runs, and what was
//! counted. How it comes together is `follow`'s business.

use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::clock::Moment;
use serde::{Deserialize, Serialize};

use crate::model::{Cause, Outcome, Rule, Subscription, TaskInfo, TaskStatus};

use super::PollError;

/// All that is known of one subscription of one instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriptionEntry {
    /// `cri-…`
    pub instance_id: Arc<str>,
    /// Which one.
    pub subscription: Arc<Subscription>,
    /// Its rules, one at least, ordered by id.
    pub rules: Arc<[Rule]>,
    /// Since when it exists, Unix milliseconds: when its oldest rule was created
    /// or edited into it.
    pub created_ms: Option<i64>,
    /// The newest run.
    pub last_run: Option<RunSummary>,
    /// The newest finished run; a new one that merely starts changes nothing.
    pub last_finished_run: Option<RunSummary>,
    /// Failed runs since the last succeeded one.
    pub consecutive_failed_runs: u32,
    /// When the newest success ended, of all runs ever seen; Unix milliseconds.
    pub last_success_ms: Option<i64>,
    /// Median time between the starts of its recent runs.
    pub typical_run_interval_ms: Option<i64>,
    /// The last 20 runs, the newest first.
    pub recent_runs: Arc<[RecentRun]>,
    /// What was counted so far; `/metrics` may lag behind, see [`super::Store`].
    pub counts: Arc<Counts>,
    /// Whether its counters were on `/metrics` before this process or this rule.
    pub announced: bool,
}

impl SubscriptionEntry {
    /// Its rules, each id once: the first of those that share it.
    pub fn distinct_rules(&self) -> impl Iterator<Item = &Rule> {
        let mut rules: Vec<&Rule> = self.rules.iter().collect();
        rules.sort_by(|a, b| a.rule_id.cmp(&b.rule_id));
        rules.dedup_by(|later, kept| later.rule_id == kept.rule_id);
        rules.into_iter()
    }

    /// Durations of its recent runs, milliseconds, the oldest first.
    pub fn recent_durations_ms(&self) -> impl Iterator<Item = i64> {
        let runs = self.recent_runs.iter().rev();
        runs.filter_map(|run| run.duration_ms)
    }
}

/// One run, as far as its subscription's series need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// `crast-…`
    pub task_id: Arc<str>,
    /// What the API says of the task.
    pub info: Arc<TaskInfo>,
    /// The status derived from rows and task.
    pub status: TaskStatus,
    /// Why it failed, of a failed run.
    pub cause: Option<Cause>,
    /// When it started, Unix milliseconds.
    pub start_ms: Option<i64>,
    /// When it ended, Unix milliseconds; finished runs alone.
    pub end_ms: Option<i64>,
    /// End − start of a finished run; never negative.
    pub duration_ms: Option<i64>,
    /// Its artifacts in the order of [`Outcome::ALL`], where its rows were read.
    pub artifacts: Option<[u32; Outcome::ALL.len()]>,
}

/// One of the last runs of a subscription; kept when the list no longer holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentRun {
    /// `crast-…`
    pub task_id: Arc<str>,
    /// The status derived from rows and task.
    pub status: TaskStatus,
    /// When it started, Unix milliseconds.
    pub start_ms: Option<i64>,
    /// End − start of a finished run; never negative.
    pub duration_ms: Option<i64>,
}

/// Counts of one subscription: runs that finished, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Finished runs.
    pub runs: u64,
    /// Failed ones among them.
    pub failures: u64,
}

/// Durations of the counted runs of one instance. They belong to the instance:
/// a subscription that leaves takes no observation along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDurations {
    /// Of runs.
    pub runs: Durations,
    /// Of their artifacts.
    pub artifacts: Durations,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    /// How many fall under each bound of [`Durations::BOUNDS`] and above the
    /// one before; the last counts those above all bounds.
    pub buckets: [u64; Durations::BOUNDS.len() + 1],
    /// All of them together, milliseconds.
    pub sum_ms: i64,
}

impl Durations {
    /// Upper bounds, seconds, inclusive.
    pub const BOUNDS: [u32; 13] = [
        1, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 86_400,
    ];

    /// Counts one duration.
    pub fn observe(&mut self, millis: i64) {
        let bucket = Self::BOUNDS.partition_point(|bound| i64::from(*bound) * 1_000 < millis);
        self.buckets[bucket] += 1;
        self.sum_ms = self.sum_ms.saturating_add(millis);
    }

    /// Counts everything that `other` has counted.
    pub fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket = bucket.saturating_add(more);
        }
        self.sum_ms = self.sum_ms.saturating_add(other.sum_ms);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// How the lists of one followed instance can be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListingEntry {
    /// `cri-…`
    pub instance_id: Arc<str>,
    /// The time between two listings.
    pub interval: Duration,
    /// When both lists were last read, Unix milliseconds.
    pub last_success_ms: Option<i64>,
    /// How far the wall clock was ahead of the steady one then.
    pub wall_ahead_ms: i64,
    /// When it was last tried, Unix milliseconds.
    pub last_try_ms: Option<i64>,
    /// Why the last try failed; `None` where it did not.
    pub error: Option<Arc<PollError>>,
    /// When the next one is due, Unix milliseconds; for people.
    pub next_ms: Option<i64>,
    /// Runs that `max_tasks` keeps off the page.
    pub tasks_dropped: usize,
    /// Durations of its counted runs.
    pub durations: Arc<RunDurations>,
    /// Whether its histograms were on `/metrics` before this process.
    pub announced: bool,
}

impl ListingEntry {
    /// Both lists were read at `moment`.
    pub fn set_last_success(&mut self, moment: Moment) {
        self.last_success_ms = Some(moment.wall_ms);
        self.wall_ahead_ms = moment.wall_ahead_ms();
    }

    /// How old what the lists say is at `steady_ms`, milliseconds.
    pub fn data_age_ms(&self, steady_ms: i64) -> Option<i64> {
        let then = super::steady(self.last_success_ms?, self.wall_ahead_ms);
        Some(steady_ms.saturating_sub(then))
    }

    /// The last moment at which what the lists say is fresh, by the steady clock.
    pub(super) fn fresh_until_ms(&self, stale_after: Duration) -> Option<i64> {
        let then = super::steady(self.last_success_ms?, self.wall_ahead_ms);
        Some(then.saturating_add(super::fresh_for(stale_after, self.interval)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_share_an_id_are_one() {
        let entry = |rules: &[(&str, &str)]| SubscriptionEntry {
            rules: rules
                .iter()
                .map(|(rule_id, tag_regexp)| Rule {
                    rule_id: (*rule_id).to_owned(),
                    tag_regexp: (*tag_regexp).to_owned(),
                    ..Rule::default()
                })
                .collect(),
            ..SubscriptionEntry::default()
        };
        let several = entry(&[("b", "1"), ("a", "2"), ("b", "3"), ("c", "2")]);
        let distinct: Vec<_> = several
            .distinct_rules()
            .map(|rule| (&*rule.rule_id, &*rule.tag_regexp))
            .collect();
        assert_eq!(distinct, [("a", "2"), ("b", "1"), ("c", "2")]);
    }

    #[test]
    fn a_duration_falls_under_the_first_bound_that_is_not_below_it() {
        let mut durations = Durations::default();
        for millis in [0, 1_000, 1_001, 5_000, 86_400_000, 86_400_001] {
            durations.observe(millis);
        }
        let mut expected = [0; 14];
        (expected[0], expected[1], expected[12], expected[13]) = (2, 2, 1, 1);
        assert_eq!(durations.buckets, expected);
        assert_eq!(durations.count(), 6);
        assert_eq!(durations.sum_ms, 172_807_002);
    }
}
