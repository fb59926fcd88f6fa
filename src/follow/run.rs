//! One run of the list: what is known of it, and what follows from that.

use std::sync::Arc;

use crate::model::{TaskInfo, TaskStatus, Words};
use crate::store::state::{RowsVerdict, SavedRun};
use alibaba_cloud::clock::Moment;

/// A run of the list.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// What the list said last.
    pub(super) listed: Arc<TaskInfo>,
    /// What is known now: the list, or a later answer about the task itself.
    pub(super) info: Arc<TaskInfo>,
    pub(super) first_seen_ms: i64,
    pub(super) seen: Moment,
    /// The listing that it was last seen in, by number.
    pub(super) seen_in: u64,
    /// Whether its subscription has a rule.
    pub(super) followed: bool,
    /// Whether it gets task series, if it is this shard's.
    pub(super) in_view: bool,
    /// Counted already, or too old to be.
    pub(super) counted: bool,
    /// What its rows say, once they were read.
    pub(super) rows: Option<RowsVerdict>,
    /// Since when they cannot be read, by the steady clock.
    pub(super) failing_since_ms: Option<i64>,
}

impl Run {
    pub(super) fn new(info: Arc<TaskInfo>, now: Moment, listing: u64, counted: bool) -> Self {
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
    pub(super) fn status(&self, words: &Words) -> TaskStatus {
        match &self.rows {
            Some(rows) => rows.status,
            None => self.info.status(words),
        }
    }

    /// When it ended well. Before a new run counts its rows are read, which may say
    /// otherwise than the list.
    pub(super) fn success_ms(&self, words: &Words) -> Option<i64> {
        if self.rows.is_none() && !self.counted {
            return None;
        }
        let succeeded = self.finished(words) && self.status(words) == TaskStatus::Succeeded;
        let end_ms = self.end_ms(words).or(self.start_ms());
        end_ms.filter(|_| succeeded)
    }

    pub(super) fn save(&self, id: &Arc<str>) -> SavedRun {
        SavedRun {
            task_id: Arc::clone(id),
            info: Arc::clone(&self.listed),
            first_seen_ms: self.first_seen_ms,
            seen_ms: self.seen.wall_ms,
            counted: self.counted,
            rows: self.rows.clone(),
        }
    }

    pub(super) fn finished(&self, words: &Words) -> bool {
        match &self.rows {
            Some(rows) => rows.finished,
            None => self.info.status(words).is_over(),
        }
    }

    pub(super) fn start_ms(&self) -> Option<i64> {
        let rows = self.rows.as_ref().and_then(|rows| rows.start_ms);
        known(self.info.start_ms).or(rows)
    }

    pub(super) fn end_ms(&self, words: &Words) -> Option<i64> {
        let rows = self.rows.as_ref().and_then(|rows| rows.end_ms);
        let end = known(self.info.end_ms).or(rows);
        end.filter(|_| self.finished(words))
    }

    /// End − start of a finished run by its own times, else by its rows'.
    pub(super) fn duration_ms(&self, words: &Words) -> Option<i64> {
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
    pub(super) fn recency(&self, words: &Words) -> i64 {
        let waits = || (!self.finished(words)).then_some(self.first_seen_ms);
        self.start_ms()
            .or_else(waits)
            .or_else(|| known(self.info.end_ms))
            .unwrap_or(0)
    }
}

pub(super) fn known(millis: Option<i64>) -> Option<i64> {
    millis.filter(|millis| *millis > 0)
}

fn difference(start_ms: Option<i64>, end_ms: Option<i64>) -> Option<i64> {
    let duration = end_ms?.checked_sub(start_ms?)?;
    (duration >= 0).then_some(duration)
}

pub(super) fn restored_run(saved: SavedRun, now: Moment) -> (Arc<str>, Run) {
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
