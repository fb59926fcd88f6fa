//! What is known of subscriptions: their rules, their newest runs, and what was
//! counted. How it comes together is `follow`'s business.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::model::{Rule, Subscription, TaskStatus};

use super::PollError;

/// All that is known of one subscription of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionEntry {
    /// `cri-…`
    pub instance_id: Arc<str>,
    /// Which one.
    pub subscription: Arc<Subscription>,
    /// Its rules, one at least, ordered by id.
    pub rules: Arc<[Rule]>,
    /// The newest run.
    pub last_run: Option<RunSummary>,
    /// The newest finished run; a new one that merely starts changes nothing.
    pub last_finished_run: Option<RunSummary>,
    /// Failed runs since the last succeeded one.
    pub consecutive_failed_runs: u32,
    /// When the newest success ended, of all runs ever seen; Unix milliseconds.
    pub last_success_ms: Option<i64>,
    /// What was counted so far. The page may lag behind: [`super::Store::publish`].
    pub counts: Arc<Counts>,
    /// How long the last 20 finished runs took, milliseconds, the oldest first.
    pub recent_durations_ms: Arc<[i64]>,
}

impl SubscriptionEntry {
    /// Its rules, each id once: the first of those that share it.
    pub fn distinct_rules(&self) -> impl Iterator<Item = &Rule> {
        let mut rules: Vec<&Rule> = self.rules.iter().collect();
        rules.sort_by(|a, b| a.rule_id.cmp(&b.rule_id));
        rules.dedup_by(|later, kept| later.rule_id == kept.rule_id);
        rules.into_iter()
    }

    /// When its oldest rule was made, Unix milliseconds.
    pub fn created_ms(&self) -> Option<i64> {
        let times = self.rules.iter().filter_map(|rule| rule.created_ms);
        times.filter(|millis| *millis > 0).min()
    }
}

/// One run, as far as its subscription's series need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSummary {
    /// `crast-…`
    pub task_id: Arc<str>,
    /// How it stands.
    pub status: TaskStatus,
    /// When it began, Unix milliseconds.
    pub start_ms: Option<i64>,
    /// End − start of a finished run; never negative.
    pub duration_ms: Option<i64>,
    /// How many tags it is about.
    pub tags_total: Option<i64>,
    /// How many of them are synchronised.
    pub tags_synced: Option<i64>,
}

/// What was counted of one subscription: runs that finished, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Finished runs.
    pub runs: u64,
    /// Failed ones among them.
    pub failures: u64,
    /// How long their artifacts took.
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

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// How the lists of one followed instance can be read.
#[derive(Clone, Debug, PartialEq)]
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
    fn rules_that_share_an_id_are_one_and_the_oldest_counts_for_the_age() {
        let subscription = Subscription {
            repo_namespace: String::new(),
            repo_name: String::new(),
            source_provider: String::new(),
            source_repository: String::new(),
        };
        let entry = |rules: &[(&str, &str, Option<i64>)]| SubscriptionEntry {
            instance_id: "cri-a".into(),
            rules: rules
                .iter()
                .map(|(rule_id, tag_regexp, created_ms)| Rule {
                    rule_id: (*rule_id).to_owned(),
                    subscription: subscription.clone(),
                    tag_regexp: (*tag_regexp).to_owned(),
                    created_ms: *created_ms,
                })
                .collect(),
            subscription: Arc::new(subscription.clone()),
            last_run: None,
            last_finished_run: None,
            consecutive_failed_runs: 0,
            last_success_ms: None,
            counts: Arc::default(),
            recent_durations_ms: [].into(),
        };
        let several = entry(&[
            ("b", "1", Some(3_000)),
            ("a", "2", None),
            ("b", "3", Some(0)),
            ("c", "2", Some(2_000)),
        ]);
        let distinct: Vec<_> = several
            .distinct_rules()
            .map(|rule| (&*rule.rule_id, &*rule.tag_regexp))
            .collect();
        assert_eq!(distinct, [("a", "2"), ("b", "1"), ("c", "2")]);
        assert_eq!(several.created_ms(), Some(2_000));
        assert_eq!(entry(&[("a", "1", Some(0))]).created_ms(), None);
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
