//! What the rows of a task and the task itself say together.

use std::cmp::Ordering;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::artifacts::{Artifacts, duration, known, offset};
use super::{Meaning, Outcome, Row, TaskInfo, TaskStatus, Words};

pub(super) struct Judged<S> {
    pub(super) row: Row<S>,
    pub(super) outcome: Outcome,
    pub(super) finished: bool,
}

/// Judges one row after the other, whose words are mostly the same.
struct Judge<'a> {
    words: &'a Words,
    status: (String, Option<Meaning>),
    result: (String, Option<Meaning>),
}

impl<'a> Judge<'a> {
    fn new(words: &'a Words) -> Self {
        let nothing = || (String::new(), words.meaning(""));
        Self {
            words,
            status: nothing(),
            result: nothing(),
        }
    }

    fn judge<S: AsRef<str>>(&mut self, mut row: Row<S>) -> Judged<S> {
        row.start_ms = row.start_ms.and_then(known);
        row.end_ms = row.end_ms.and_then(known);
        let newest = |(word, meaning): &mut (String, Option<Meaning>), now: &str| {
            if word != now {
                now.clone_into(word);
                *meaning = self.words.meaning(now);
            }
            *meaning
        };
        let status = newest(&mut self.status, row.status.as_ref());
        let result = newest(&mut self.result, row.result.as_ref());
        let outcome = if status == Some(Meaning::Running) {
            Outcome::Running
        } else {
            let is_silent = row.result.as_ref().trim().is_empty();
            let deciding = if is_silent { status } else { result };
            deciding
                .and_then(Meaning::verdict)
                .unwrap_or(Outcome::Unknown)
        };
        let finished = match outcome {
            Outcome::Running => false,
            Outcome::Succeeded | Outcome::Failed => true,
            // "Over" without a verdict that we know.
            Outcome::Unknown => {
                row.end_ms.is_some() || [status, result].contains(&Some(Meaning::Finished))
            }
        };
        Judged {
            row,
            outcome,
            finished,
        }
    }
}

/// The rows of one task, each judged, repeated ones folded into one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    pub(super) artifacts: Artifacts,
    counts: [u32; 4],
    repeated: u32,
    finished: bool,
}

impl Folded {
    /// Judges `rows` and folds those that share namespace, repository and tag:
    /// the newest start counts, at equal start the worse outcome.
    pub fn new<S: AsRef<str>>(rows: impl IntoIterator<Item = Row<S>>, words: &Words) -> Self {
        let mut judge = Judge::new(words);
        let rows = rows.into_iter().map(|row| judge.judge(row));
        let mut judged: Vec<Judged<S>> = rows.collect();
        let total = judged.len();
        judged.sort_by(|a, b| {
            identity(&a.row)
                .cmp(&identity(&b.row))
                .then(preferred(a, b))
        });
        judged.dedup_by(|later, kept| identity(&later.row) == identity(&kept.row));

        let mut counts = [0; 4];
        for one in &judged {
            counts[one.outcome as usize] += 1;
        }
        Self {
            counts,
            repeated: offset(total - judged.len()),
            finished: judged.iter().all(|one| one.finished),
            artifacts: Artifacts::pack(&judged),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.artifacts.is_empty()
    }

    fn status(&self) -> Option<TaskStatus> {
        self.status_with(None)
    }

    /// The worst of the rows and of one `vote` more; `None` without rows.
    fn status_with(&self, vote: Option<Outcome>) -> Option<TaskStatus> {
        let has = |outcome: Outcome| self.count(outcome) > 0 || vote == Some(outcome);
        if self.artifacts.is_empty() {
            None
        } else if has(Outcome::Running) {
            Some(TaskStatus::Running)
        } else if has(Outcome::Failed) {
            Some(TaskStatus::Failed)
        } else if has(Outcome::Unknown) {
            Some(TaskStatus::Unknown)
        } else {
            Some(TaskStatus::Succeeded)
        }
    }

    fn count(&self, outcome: Outcome) -> u32 {
        self.counts[outcome as usize]
    }

    /// Whether there are rows and none of them will change by itself.
    pub fn all_finished(&self) -> bool {
        self.finished && !self.artifacts.is_empty()
    }

    /// Whether the task itself should be asked for now: at first sight, while
    /// it has no rows, when its last row has finished (`asked_finished` tells
    /// that this was done), and as long as its vote differs from the rows.
    pub fn wants_task(&self, info: Option<&TaskInfo>, asked_finished: bool, words: &Words) -> bool {
        let Some(info) = info else { return true };
        let Some(status) = self.status() else {
            return true;
        };
        let differs = match info.vote(words) {
            Some(Outcome::Running) => status != TaskStatus::Running,
            Some(_) => status != TaskStatus::Failed,
            None => false,
        };
        differs || (self.finished && !asked_finished)
    }
}

fn identity<S: AsRef<str>>(row: &Row<S>) -> (&str, &str, &str) {
    let Row {
        repo_namespace,
        repo_name,
        tag,
        ..
    } = row.borrowed();
    (repo_namespace, repo_name, tag)
}

/// Orders reports of one artifact so that the one that counts comes first,
/// whatever order the cloud sent them in.
fn preferred<S>(a: &Judged<S>, b: &Judged<S>) -> Ordering {
    b.row
        .start_ms
        .cmp(&a.row.start_ms)
        .then(a.outcome.severity().cmp(&b.outcome.severity()))
        .then(b.row.end_ms.cmp(&a.row.end_ms))
}

/// All that one successful poll of one task has told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assessment {
    /// How the task stands.
    pub status: TaskStatus,
    /// Whether it will not change by itself any more.
    pub finished: bool,
    /// Its artifacts after folding.
    pub artifacts: Arc<Artifacts>,
    /// Rows that repeated an artifact.
    pub merged_rows: u32,
    /// Earliest start of its artifacts, else the task's own.
    pub start_ms: Option<i64>,
    /// Latest end of its artifacts, else (without any) the task's own; finished tasks alone.
    pub end_ms: Option<i64>,
    /// Latest end of a succeeded artifact.
    pub last_success_ms: Option<i64>,
    counts: [u32; 4],
}

impl Assessment {
    /// Puts rows and task together.
    pub fn new(folded: Folded, info: Option<&TaskInfo>, words: &Words) -> Self {
        let vote = info.and_then(|info| info.vote(words));
        let status = folded
            .status_with(vote)
            .unwrap_or_else(|| info.map_or(TaskStatus::Empty, |info| info.status(words)));
        let finished = folded.finished && status.is_over() && vote != Some(Outcome::Running);
        let artifacts = folded.artifacts;
        let latest_end = |only: Option<Outcome>| {
            artifacts
                .iter()
                .filter(|artifact| only.is_none_or(|outcome| artifact.outcome == outcome))
                .filter_map(|artifact| artifact.end_ms)
                .max()
        };
        let own = |time: fn(&TaskInfo) -> Option<i64>| info.and_then(time).and_then(known);
        let end_ms = if artifacts.is_empty() {
            own(|info| info.end_ms)
        } else {
            latest_end(None)
        };
        Self {
            status,
            finished,
            merged_rows: folded.repeated,
            start_ms: artifacts
                .iter()
                .filter_map(|artifact| artifact.start_ms)
                .min()
                .or_else(|| own(|info| info.start_ms)),
            end_ms: end_ms.filter(|_| finished),
            last_success_ms: latest_end(Some(Outcome::Succeeded)),
            counts: folded.counts,
            artifacts: Arc::new(artifacts),
        }
    }

    /// Artifacts of one outcome.
    pub fn count(&self, outcome: Outcome) -> u32 {
        self.counts[outcome as usize]
    }

    /// Artifacts by outcome, in the order of [`Outcome::ALL`].
    pub fn counts(&self) -> [u32; 4] {
        self.counts
    }

    /// End − start of a finished task; never negative.
    pub fn duration_ms(&self) -> Option<i64> {
        duration(self.finished, self.start_ms, self.end_ms)
    }
}
