//! One watched task: the questions of one poll, and what their answers change.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Assessment, Folded, TaskInfo, Words, unrecognized};
use crate::store::{PollError, Target, TaskEntry};

use super::schedule::{self, Beat};
use super::{Settings, Source, SourceError, Watch};

/// What the scheduler keeps of a task between two polls.
pub(super) struct Watched {
    watch: Watch,
    entry: TaskEntry,
    due: Instant,
    spread: f64,
    failures: u32,
    /// The task itself was asked for after its last row had finished.
    asked_finished: bool,
    /// Times in a row that the task itself could not be read.
    task_failures: u32,
    /// Until then it is not asked for again.
    ask_task_after: Instant,
}

/// One poll that is about to begin.
pub(super) struct Question {
    target: Arc<Target>,
    info: Option<Arc<TaskInfo>>,
    asked_finished: bool,
    may_ask_task: bool,
}

/// What one poll has brought.
pub(super) struct Polled {
    pub(super) outcome: Result<Answer, SourceError>,
    /// Words in no list, each with the field that held it.
    pub(super) unrecognized: Vec<(&'static str, String)>,
}

pub(super) struct Answer {
    pub(super) assessment: Assessment,
    pub(super) info: Option<Arc<TaskInfo>>,
    pub(super) asked_finished: bool,
    /// Whether the task itself was asked for, and could be read.
    pub(super) task: Option<Result<(), SourceError>>,
}

impl Question {
    pub(super) async fn ask<S: Source>(self, source: &S, words: &Words) -> Polled {
        let mut budget = source.budget();
        let rows = match source.rows(&self.target, &mut budget).await {
            Ok(rows) => rows,
            Err(error) => {
                return Polled {
                    outcome: Err(error),
                    unrecognized: Vec::new(),
                };
            }
        };
        let mut odd: Vec<_> = unrecognized(&rows, None, words).map(owned).collect();
        odd.sort_unstable();
        odd.dedup();
        let folded = Folded::new(rows, words);
        let mut info = self.info;
        let mut asked_finished = self.asked_finished && folded.all_finished();
        let mut task = None;
        if self.may_ask_task && folded.wants_task(info.as_deref(), self.asked_finished, words) {
            match source.task(&self.target, &mut budget).await {
                Ok(told) => {
                    odd.extend(unrecognized(&[], Some(&told), words).map(owned));
                    asked_finished = folded.all_finished();
                    task = Some(Ok(()));
                    // The same again keeps its place in memory.
                    if info.as_deref() != Some(&told) {
                        info = Some(Arc::new(told));
                    }
                }
                Err(error) => {
                    if error.reason == "forbidden" {
                        info = info.map(|info| Arc::new(without_vote(&info)));
                    }
                    task = Some(Err(error));
                }
            }
        }
        Polled {
            outcome: Ok(Answer {
                assessment: Assessment::new(folded, info.as_deref(), words),
                info,
                asked_finished,
                task,
            }),
            unrecognized: odd,
        }
    }
}

fn owned((field, word): (&'static str, &str)) -> (&'static str, String) {
    (field, word.to_owned())
}

/// Who may not be asked any more has no say either; what it is stays known.
fn without_vote(info: &TaskInfo) -> TaskInfo {
    TaskInfo {
        status: String::new(),
        result: String::new(),
        ..info.clone()
    }
}

impl Watched {
    pub(super) fn new(watch: Watch, now: Instant) -> Self {
        Self {
            entry: TaskEntry::new(Arc::clone(&watch.target), watch.interval),
            due: now,
            spread: schedule::spread(&watch.target.instance_id, &watch.target.task_id),
            failures: 0,
            asked_finished: false,
            task_failures: 0,
            ask_task_after: now,
            watch,
        }
    }

    pub(super) fn question(&self) -> Question {
        Question {
            target: Arc::clone(&self.watch.target),
            info: self.entry.info.clone(),
            asked_finished: self.asked_finished,
            may_ask_task: Instant::now() >= self.ask_task_after,
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.watch.target
    }

    pub(super) fn account(&self) -> usize {
        self.watch.account
    }

    pub(super) fn entry(&self) -> &TaskEntry {
        &self.entry
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn is_untried(&self) -> bool {
        self.entry.last_poll_ms.is_none()
    }

    /// Whether it is finished, so that others may go first.
    pub(super) fn rests(&self) -> bool {
        self.entry.data.as_ref().is_some_and(|data| data.finished)
    }

    /// Takes in what a poll has brought, at its end; answers the polls skipped meanwhile.
    pub(super) fn apply(
        &mut self,
        polled: Polled,
        settings: &Settings,
        now_ms: i64,
        now: Instant,
    ) -> u64 {
        let first = self.is_untried();
        let before = self.entry.interval;
        self.entry.last_poll_ms = Some(now_ms);
        let retry = match polled.outcome {
            Ok(answer) => {
                self.take(answer, settings, now_ms, now);
                None
            }
            Err(error) => self.fail(error),
        };
        let interval = self.entry.interval;
        let beat = match retry {
            Some(delay) => Beat::Retry(delay),
            None if first => Beat::First(interval),
            None if self.rests() && interval == before => Beat::Resting(interval),
            None if self.rests() => Beat::Growing(interval),
            None => Beat::Steady(interval),
        };
        let (due, skipped) = schedule::next_due(beat, self.due, now, self.spread);
        self.due = due;
        let wait = i64::try_from((due - now).as_millis()).unwrap_or(i64::MAX);
        self.entry.next_poll_ms = Some(now_ms.saturating_add(wait));
        skipped
    }

    fn take(&mut self, answer: Answer, settings: &Settings, now_ms: i64, now: Instant) {
        match &answer.task {
            Some(Err(_)) => {
                let longest = settings.finished_interval.max(self.watch.interval);
                let pause = schedule::task_pause(self.task_failures, self.watch.interval, longest);
                self.task_failures = self.task_failures.saturating_add(1);
                self.ask_task_after = now + pause;
            }
            Some(Ok(())) => self.task_failures = 0,
            None => {}
        }
        let entry = &mut self.entry;
        let changed =
            entry.data.as_deref() != Some(&answer.assessment) || entry.info != answer.info;
        entry.interval = schedule::interval_in_force(
            self.watch.interval,
            settings.finished_interval,
            entry.interval,
            answer.assessment.finished,
            changed,
        );
        if entry.data.as_deref() != Some(&answer.assessment) {
            entry.data = Some(Arc::new(answer.assessment));
        }
        if let Some(asked) = answer.task {
            entry.task_error = asked.err().map(|error| error.reason);
        }
        entry.info = answer.info;
        entry.error = None;
        entry.last_success_ms = Some(now_ms);
        self.asked_finished = answer.asked_finished;
        self.failures = 0;
    }

    /// Answers the delay of the next try, where the failure may pass by itself.
    fn fail(&mut self, error: SourceError) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let passing = matches!(error.reason, "timeout" | "connect" | "server");
        self.entry.error = Some(Arc::new(PollError {
            reason: error.reason,
            text: error.text,
        }));
        passing.then(|| schedule::backoff(self.failures, self.entry.interval, fastrand::f64()))
    }
}
