//! One subscription as it is followed: its rules and runs, and what was counted
//! of them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use alibaba_cloud::clock::Moment;

use super::run::{Run, restored_run};
use crate::model::{Causes, Rule, Subscription, TaskStatus, Words};
use crate::store::state::SavedSubscription;
use crate::store::{Counts, RecentRun, RunSummary, SubscriptionEntry};

/// Runs that are kept when the list no longer holds them.
const RECENT: usize = 20;
/// Fewer runs say nothing about a cadence.
const CADENCE_RUNS: usize = 3;

#[derive(Clone, Debug)]
pub(super) struct Followed {
    /// Whether this shard watches it.
    ours: bool,
    /// None of them while it is merely remembered.
    pub(super) rules: Arc<[Rule]>,
    /// When its oldest rule was created or edited into it.
    pub(super) created_ms: Option<i64>,
    /// Whether its counters were on `/metrics` before.
    pub(super) announced: bool,
    /// When it last had a rule, Unix milliseconds.
    pub(super) seen_ms: i64,
    /// Newest first.
    pub(super) runs: Vec<Arc<str>>,
    counts: Arc<Counts>,
    /// When the newest success ended.
    last_success_ms: Option<i64>,
    /// The same of runs that the list no longer holds.
    forgotten_success_ms: Option<i64>,
    /// Failures that the list no longer holds, since the last success.
    forgotten_failures: u32,
    /// The newest finished run that the list no longer holds.
    forgotten_run: Option<(Arc<str>, Run)>,
    /// The newest first.
    recent: Arc<[RecentRun]>,
}

impl Followed {
    pub(super) fn new(ours: bool) -> Self {
        Self {
            ours,
            rules: Arc::from([]),
            created_ms: None,
            announced: false,
            seen_ms: 0,
            runs: Vec::new(),
            counts: Arc::default(),
            last_success_ms: None,
            forgotten_success_ms: None,
            forgotten_failures: 0,
            forgotten_run: None,
            recent: Arc::from([]),
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

    /// Counts a finished run; the caller makes sure that it is counted once.
    pub(super) fn count(&mut self, status: TaskStatus) {
        let counts = Arc::make_mut(&mut self.counts);
        counts.runs += 1;
        counts.failures += u64::from(status == TaskStatus::Failed);
    }

    /// Takes in all runs that are known now: the newest of them become its recent
    /// runs, behind which those stay that the list no longer holds.
    pub(super) fn take_stock(
        &mut self,
        key: &Subscription,
        runs: &HashMap<Arc<str>, Run>,
        words: &Words,
    ) {
        self.find_last_success(runs, words);
        let listed = self.runs.iter().take(RECENT);
        let mut recent: Vec<RecentRun> = listed
            .filter_map(|id| Some(recent_run(id, runs.get(id)?, words)))
            .collect();
        let is_listed = |known: &&RecentRun| {
            let run = runs.get(&known.task_id);
            run.is_some_and(|run| run.info.is_run_of(key))
        };
        let left = self.recent.iter().filter(|known| !is_listed(known));
        recent.extend(left.cloned());
        // A run without a start has not started yet, or is known by its end alone.
        let age = |run: &RecentRun| match run.start_ms {
            Some(start_ms) => start_ms,
            None if run.status.is_over() => 0,
            None => i64::MAX,
        };
        recent.sort_by_key(|run| Reverse(age(run)));
        recent.truncate(RECENT);
        self.keep_recent(recent);
    }

    /// Takes in what a poll of one of its runs has brought.
    pub(super) fn note(&mut self, id: &Arc<str>, runs: &HashMap<Arc<str>, Run>, words: &Words) {
        self.find_last_success(runs, words);
        let Some(run) = runs.get(id) else {
            return;
        };
        let mut recent = self.recent.to_vec();
        if let Some(known) = recent.iter_mut().find(|known| known.task_id == *id) {
            *known = recent_run(id, run, words);
        }
        self.keep_recent(recent);
    }

    fn keep_recent(&mut self, recent: Vec<RecentRun>) {
        if *self.recent != *recent {
            self.recent = recent.into();
        }
    }

    /// What is known of a run changes, so that a success may turn out to be none.
    fn find_last_success(&mut self, runs: &HashMap<Arc<str>, Run>, words: &Words) {
        let listed = self.runs.iter().filter_map(|id| runs.get(id));
        let listed = listed.filter_map(|run| run.success_ms(words)).max();
        let last = listed.max(self.forgotten_success_ms);
        if last > self.last_success_ms {
            self.forgotten_failures = 0;
        }
        self.last_success_ms = last;
    }

    /// A run has left the list; whether it is a failure since the last success.
    pub(super) fn forget(&mut self, id: &Arc<str>, run: &Run, words: &Words) -> bool {
        self.forgotten_success_ms = self.forgotten_success_ms.max(run.success_ms(words));
        if !run.finished(words) {
            return false;
        }
        let kept = self.forgotten_run.as_ref();
        if kept.is_none_or(|(_, kept)| kept.recency(words) <= run.recency(words)) {
            self.forgotten_run = Some((Arc::clone(id), run.clone()));
        }
        let failed = run.status(words) == TaskStatus::Failed;
        let failed = failed && run.start_ms() > self.last_success_ms;
        self.forgotten_failures += u32::from(failed);
        failed
    }

    /// A run is back in the list which left it as a failure since the last success.
    pub(super) fn remember_failure(&mut self, run: &Run) {
        if run.start_ms() > self.last_success_ms {
            self.forgotten_failures = self.forgotten_failures.saturating_sub(1);
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
        causes: &Causes,
    ) -> SubscriptionEntry {
        let summary = |id: &Arc<str>, run: &Run| {
            let status = run.status(words);
            RunSummary {
                task_id: Arc::clone(id),
                info: Arc::clone(&run.info),
                status,
                cause: (status == TaskStatus::Failed).then(|| causes.of(&run.info.message)),
                start_ms: run.start_ms(),
                end_ms: run.end_ms(words),
                duration_ms: run.duration_ms(words),
                artifacts: run.rows.as_ref().and_then(|rows| rows.artifacts),
            }
        };
        let known = || self.runs.iter().filter_map(|id| Some((id, runs.get(id)?)));
        // The list may have forgotten a run that is newer than what it holds.
        let forgotten = self.forgotten_run.as_ref();
        let newest = |listed: Option<(&Arc<str>, &Run)>| {
            let recency = listed.map(|(_, run)| run.recency(words));
            let forgotten = forgotten.filter(|(_, run)| Some(run.recency(words)) > recency);
            let run = forgotten.map(|(id, run)| (id, run)).or(listed);
            run.map(|(id, run)| summary(id, run))
        };
        let finished = known().find(|(_, run)| run.finished(words));
        SubscriptionEntry {
            instance_id: Arc::clone(instance_id),
            subscription: Arc::clone(key),
            rules: Arc::clone(&self.rules),
            created_ms: self.created_ms,
            last_run: newest(known().next()),
            last_finished_run: newest(finished),
            consecutive_failed_runs: self.consecutive_failures(runs, words),
            last_success_ms: self.last_success_ms,
            typical_run_interval_ms: typical_interval(&self.recent),
            recent_runs: Arc::clone(&self.recent),
            counts: Arc::clone(&self.counts),
            announced: self.announced,
        }
    }

    pub(super) fn save(&self, key: &Arc<Subscription>) -> SavedSubscription {
        SavedSubscription {
            subscription: Arc::clone(key),
            rules: Arc::clone(&self.rules),
            seen_ms: self.seen_ms,
            counts: Arc::clone(&self.counts),
            announced: self.announced,
            forgotten_success_ms: self.forgotten_success_ms,
            forgotten_failures: self.forgotten_failures,
            forgotten_run: self.forgotten_run.as_ref().map(|(id, run)| run.save(id)),
            last_success_ms: self.last_success_ms,
            recent: Arc::clone(&self.recent),
        }
    }

    /// Which shard's it is and since when it exists is not known yet.
    pub(super) fn restore(saved: SavedSubscription, now: Moment) -> (Arc<Subscription>, Self) {
        let forgotten_run = saved.forgotten_run.map(|run| restored_run(run, now));
        let followed = Self {
            rules: saved.rules,
            announced: saved.announced,
            seen_ms: saved.seen_ms,
            counts: saved.counts,
            last_success_ms: saved.last_success_ms,
            forgotten_success_ms: saved.forgotten_success_ms,
            forgotten_run,
            forgotten_failures: saved.forgotten_failures,
            recent: saved.recent,
            ..Self::new(false)
        };
        (saved.subscription, followed)
    }
}

fn recent_run(id: &Arc<str>, run: &Run, words: &Words) -> RecentRun {
    RecentRun {
        task_id: Arc::clone(id),
        status: run.status(words),
        start_ms: run.start_ms(),
        duration_ms: run.duration_ms(words),
    }
}

/// The median time between the starts of `runs`, the newest first.
fn typical_interval(runs: &[RecentRun]) -> Option<i64> {
    let starts: Vec<i64> = runs.iter().filter_map(|run| run.start_ms).collect();
    if starts.len() < CADENCE_RUNS {
        return None;
    }
    let pairs = starts.windows(2);
    let mut between: Vec<i64> = pairs.map(|pair| pair[0].saturating_sub(pair[1])).collect();
    between.sort_unstable();
    let middle = between.len() / 2;
    Some(if between.len() % 2 == 1 {
        between[middle]
    } else {
        i64::midpoint(between[middle - 1], between[middle])
    })
}
