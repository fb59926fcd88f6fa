//! One subscription as it is followed: its rules and runs, and what was counted
//! of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Run;
use crate::model::{Rule, Subscription, TaskStatus, Words};
use crate::store::state::SavedSubscription;
use crate::store::{Counts, RunSummary, SubscriptionEntry};

/// Durations kept for people.
const RECENT: usize = 20;

#[derive(Clone, Debug)]
pub(super) struct Followed {
    /// Whether this shard watches it.
    ours: bool,
    /// None of them while it is merely remembered.
    pub(super) rules: Arc<[Rule]>,
    /// When it last had a rule, Unix milliseconds.
    pub(super) seen_ms: i64,
    /// Newest first.
    pub(super) runs: Vec<Arc<str>>,
    counts: Arc<Counts>,
    last_success_ms: Option<i64>,
    /// Failures that the list does not hold any more, since the last success.
    forgotten_failures: u32,
    /// The last finished runs, the oldest first.
    recent: VecDeque<(Arc<str>, i64)>,
}

impl Followed {
    pub(super) fn new(ours: bool) -> Self {
        Self {
            ours,
            rules: Arc::from([]),
            seen_ms: 0,
            runs: Vec::new(),
            counts: Arc::default(),
            last_success_ms: None,
            forgotten_failures: 0,
            recent: VecDeque::new(),
        }
    }

    /// Whether it has a rule.
    pub(super) fn is_live(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Whether it is this shard's to watch and show.
    pub(super) fn is_ours(&self) -> bool {
        self.ours && self.is_live()
    }

    pub(super) fn own(&mut self, ours: bool) {
        self.ours = ours;
    }

    /// Counts a finished run; once a run is the caller's care.
    pub(super) fn count(
        &mut self,
        status: TaskStatus,
        durations_ms: impl IntoIterator<Item = i64>,
    ) {
        let counts = Arc::make_mut(&mut self.counts);
        counts.runs += 1;
        counts.failures += u64::from(status == TaskStatus::Failed);
        for millis in durations_ms {
            counts.artifacts.observe(millis);
        }
    }

    /// Notes successes and durations of the runs that are known now.
    pub(super) fn take_stock(&mut self, runs: &HashMap<Arc<str>, Run>, words: &Words) {
        for id in self.runs.iter().rev() {
            let Some(run) = runs.get(id).filter(|run| run.finished(words)) else {
                continue;
            };
            if run.status(words) == TaskStatus::Succeeded {
                let end = run.end_ms(words).or(run.start_ms());
                if end > self.last_success_ms {
                    self.last_success_ms = end;
                    self.forgotten_failures = 0;
                }
            }
            if let Some(duration) = run.duration_ms(words) {
                match self.recent.iter_mut().find(|(known, _)| known == id) {
                    Some((_, known)) => *known = duration,
                    None => self.recent.push_back((Arc::clone(id), duration)),
                }
            }
        }
        let surplus = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..surplus);
    }

    /// A run has left the list.
    pub(super) fn forget(&mut self, run: &Run, words: &Words) {
        let failed = run.finished(words) && run.status(words) == TaskStatus::Failed;
        if failed && run.start_ms() > self.last_success_ms {
            self.forgotten_failures += 1;
        }
    }

    fn consecutive_failures(&self, runs: &HashMap<Arc<str>, Run>, words: &Words) -> u32 {
        let newest_first = self.runs.iter().filter_map(|id| runs.get(id));
        let mut failures = 0;
        for run in newest_first.filter(|run| run.finished(words)) {
            match run.status(words) {
                TaskStatus::Succeeded => return failures,
                TaskStatus::Failed => failures += 1,
                _ => {}
            }
        }
        failures + self.forgotten_failures
    }

    pub(super) fn entry(
        &self,
        instance_id: &Arc<str>,
        key: &Arc<Subscription>,
        runs: &HashMap<Arc<str>, Run>,
        words: &Words,
    ) -> SubscriptionEntry {
        let summary = |id: &Arc<str>, run: &Run| RunSummary {
            task_id: Arc::clone(id),
            status: run.status(words),
            start_ms: run.start_ms(),
            duration_ms: run.duration_ms(words),
            tags_total: run.info.tags_total,
            tags_synced: run.info.tags_synced,
        };
        let known = || self.runs.iter().filter_map(|id| Some((id, runs.get(id)?)));
        let finished = known().find(|(_, run)| run.finished(words));
        SubscriptionEntry {
            instance_id: Arc::clone(instance_id),
            subscription: Arc::clone(key),
            rules: Arc::clone(&self.rules),
            last_run: known().next().map(|(id, run)| summary(id, run)),
            last_finished_run: finished.map(|(id, run)| summary(id, run)),
            consecutive_failed_runs: self.consecutive_failures(runs, words),
            last_success_ms: self.last_success_ms,
            counts: Arc::clone(&self.counts),
            recent_durations_ms: self.recent.iter().map(|(_, millis)| *millis).collect(),
        }
    }

    pub(super) fn save(&self, key: &Arc<Subscription>) -> SavedSubscription {
        SavedSubscription {
            subscription: Arc::clone(key),
            rules: Arc::clone(&self.rules),
            seen_ms: self.seen_ms,
            counts: Arc::clone(&self.counts),
            last_success_ms: self.last_success_ms,
            forgotten_failures: self.forgotten_failures,
            recent: self.recent.iter().cloned().collect(),
        }
    }

    /// Whose it is is still to be told.
    pub(super) fn restore(saved: SavedSubscription) -> (Arc<Subscription>, Self) {
        let followed = Self {
            ours: false,
            rules: saved.rules,
            seen_ms: saved.seen_ms,
            runs: Vec::new(),
            counts: saved.counts,
            last_success_ms: saved.last_success_ms,
            forgotten_failures: saved.forgotten_failures,
            recent: saved.recent.into(),
        };
        (saved.subscription, followed)
    }
}
