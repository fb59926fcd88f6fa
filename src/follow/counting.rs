//! What polls of runs change, and what is counted: each finished run once.

use std::sync::Arc;

use super::{Follower, ROWS_PATIENCE};
use crate::model::{Assessment, Subscription, TaskInfo, TaskStatus};
use crate::store::state::RowsVerdict;
use crate::store::{RunDurations, SubscriptionEntry};
use alibaba_cloud::Reason;

impl Follower {
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
}
