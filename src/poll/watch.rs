//! One watched task: the questions of one poll, and what their answers change.

use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::Reason;
use alibaba_cloud::clock::Moment;
use tokio::time::Instant;

use crate::model::{Assessment, Causes, Folded, TaskInfo, TaskStatus, Words, unrecognized};
use crate::store::state::SavedTask;
use crate::store::{PollError, Target, TaskEntry};

use super::schedule::{self, Beat};
use super::turn::{Phase, Turn};
use super::{Rows as _, Settings, Source, SourceError, Watch};

/// A finished run that is followed is read again so often, its list entry
/// unchanged.
const DAY: Duration = Duration::from_secs(86_400);

/// What the scheduler keeps of a task between two polls.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each with a reason of its own"
)]
pub(super) struct Watched {
    watch: Watch,
    pub(super) turn: Turn,
    entry: TaskEntry,
    /// Who found it in a list: the position of the followed instance.
    pub(super) follower: Option<usize>,
    /// Whether it has series.
    pub(super) shown: bool,
    /// A list has told of it since its last poll began.
    listed: bool,
    /// By the list it is over.
    over: bool,
    /// A list told something new while a poll was under way.
    again: bool,
    /// The task itself was asked for after its last row had finished.
    asked_finished: bool,
    /// Why the API does not know the task, until it does.
    gone: Option<SourceError>,
    /// Times in a row that the task itself could not be read.
    task_failures: u32,
    /// Until then it is not asked for again.
    ask_task_after: Instant,
}

/// What a new configuration means to a task that stays.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Anew {
    /// It is asked in another way: with other keys, at another address.
    pub(super) way: bool,
    /// The answers are understood in another way.
    pub(super) words: bool,
}

/// One poll that is about to begin.
pub(super) struct Question {
    target: Arc<Target>,
    info: Option<Arc<TaskInfo>>,
    asked_finished: bool,
    may_ask_task: bool,
    /// Why the API did not know the task so far.
    gone: Option<SourceError>,
    listed: bool,
}

/// What one poll has brought.
pub(super) struct Polled {
    pub(super) outcome: Result<Answer, SourceError>,
    /// Whether the task itself was asked for, and could be read.
    pub(super) task: Option<Result<(), SourceError>>,
    /// Why the API does not know the task.
    pub(super) gone: Option<SourceError>,
    /// Status words that no mapping covers, each with the field that held it.
    pub(super) unrecognized: Vec<(&'static str, String)>,
}

pub(super) struct Answer {
    pub(super) assessment: Assessment,
    pub(super) info: Option<Arc<TaskInfo>>,
    pub(super) asked_finished: bool,
}

impl Question {
    pub(super) async fn ask<S: Source>(self, source: &S, words: &Words) -> Polled {
        let mut budget = source.budget();
        let rows = match source.rows(&self.target, &mut budget).await {
            Ok(rows) => rows,
            Err(error) => {
                return Polled {
                    outcome: Err(error),
                    task: None,
                    gone: self.gone,
                    unrecognized: Vec::new(),
                };
            }
        };
        let mut odd: Vec<_> = unrecognized(rows.iter(), None, words).map(owned).collect();
        let folded = Folded::new(rows.iter(), words);
        let served_by_list = self.served_by_list(&folded, words);
        let mut info = self.info;
        let mut asked_finished = self.asked_finished && folded.all_finished();
        let mut task = None;
        // An unknown id has no rows either, but their answer is a success.
        let mut gone = self.gone.filter(|_| folded.is_empty() && !served_by_list);
        if served_by_list {
            asked_finished = folded.all_finished();
        } else if self.may_ask_task
            && folded.wants_task(info.as_deref(), self.asked_finished, words)
        {
            match source.task(&self.target, &mut budget).await {
                Ok(told) => {
                    gone = None;
                    asked_finished = folded.all_finished();
                    task = Some(Ok(()));
                    // The same again keeps its place in memory.
                    if info.as_deref() != Some(&told) {
                        info = Some(Arc::new(told));
                    }
                }
                Err(error) => {
                    if error.reason == Reason::Forbidden {
                        info = info.map(|info| Arc::new(without_vote(&info)));
                    }
                    match error.reason {
                        Reason::NotFound if folded.is_empty() => gone = Some(error.clone()),
                        Reason::Forbidden => gone = None,
                        _ => {}
                    }
                    task = Some(Err(error));
                }
            }
        }
        odd.extend(unrecognized([], info.as_deref(), words).map(owned));
        let outcome = match &gone {
            Some(error) => Err(error.clone()),
            None => Ok(Answer {
                assessment: Assessment::new(folded, info.as_deref(), words),
                info,
                asked_finished,
            }),
        };
        Polled {
            outcome,
            task,
            gone,
            unrecognized: odd,
        }
    }

    /// Whether the list tells all that the task itself would: unless the rows
    /// have ended and the list, which is a little older, does not say so yet.
    fn served_by_list(&self, folded: &Folded, words: &Words) -> bool {
        let info = self.info.as_ref().filter(|_| self.listed);
        info.is_some_and(|info| !folded.all_finished() || info.status(words).is_over())
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
            turn: Turn::new(
                &watch.target.instance_id,
                &watch.target.task_id,
                watch.account,
                now,
            ),
            follower: None,
            shown: true,
            listed: false,
            over: false,
            again: false,
            asked_finished: false,
            gone: None,
            task_failures: 0,
            ask_task_after: now,
            watch,
        }
    }

    /// Takes back what is known from before a restart; what is overdue since
    /// then is spread over an interval.
    pub(super) fn restore(&mut self, saved: &SavedTask, moment: Moment, now: Instant) {
        let target = Arc::clone(&self.watch.target);
        let longest = saved.entry.interval.max(self.watch.interval);
        self.entry = TaskEntry {
            target,
            ..TaskEntry::clone(&saved.entry)
        };
        self.asked_finished = saved.asked_finished;
        let error = self.entry.error.as_ref();
        let unknown = error.filter(|error| error.reason == Reason::NotFound);
        let unknown = unknown.filter(|_| self.entry.task_error == Some(Reason::NotFound));
        self.gone = unknown.map(|error| SourceError {
            reason: error.reason,
            text: error.text.clone(),
        });
        self.turn.bunched = self.is_untried();
        if let Some(last_ms) = self.entry.last_success_ms {
            self.entry.set_last_success(moment.recall(last_ms));
        }
        let Some(next_ms) = self.entry.next_poll_ms else {
            return;
        };
        // The wall clock may have been set back since then.
        let polled_ms = self.entry.last_poll_ms.unwrap_or(next_ms);
        let wait = next_ms.saturating_sub(moment.wall_ms.max(polled_ms));
        let wait = u64::try_from(wait).unwrap_or(0);
        let wait = match Duration::from_millis(wait).min(DAY.max(longest)) {
            Duration::ZERO => longest.mul_f64(self.turn.spread),
            wait => wait,
        };
        self.set_due(now + wait, moment.wall_ms, now);
    }

    /// Is wanted again, should it have been about to leave.
    pub(super) fn stay(&mut self) {
        if self.turn.phase == Phase::Leaving {
            self.turn.phase = Phase::Active;
        }
    }

    /// The same task, shown in another way; whether that is another one.
    pub(super) fn rename(&mut self, target: &Arc<Target>) -> bool {
        let new = *self.watch.target != **target;
        if new {
            self.watch.target = Arc::clone(target);
            self.entry.target = Arc::clone(target);
        }
        new
    }

    /// Goes by what a new configuration says. What is known of it stays; so does
    /// its due time, unless it is later now than the configuration allows.
    pub(super) fn adopt(
        &mut self,
        watch: Watch,
        settings: &Settings,
        anew: Anew,
        now_ms: i64,
        now: Instant,
    ) {
        self.rename(&watch.target);
        let same_beat =
            self.watch.interval == watch.interval && self.watch.followed == watch.followed;
        self.watch = watch;
        let base = self.watch.interval;
        let finished = self.entry.data.as_ref().is_some_and(|data| data.finished);
        self.entry.interval = match self.watch.followed {
            Some(interval) if finished => interval,
            None if same_beat && !anew.words => {
                let longest = settings.finished_interval.max(base);
                self.entry.interval.clamp(base, longest)
            }
            _ => base,
        };
        if anew.words {
            self.asked_finished = false;
            self.again |= self.turn.phase == Phase::Active;
        }
        if anew.way {
            self.task_failures = 0;
            self.ask_task_after = now;
        }
        if self.turn.phase != Phase::Waiting || self.is_untried() {
            return;
        }
        if anew.way && self.entry.error.is_some() {
            self.turn.failures = 0;
            self.set_due(now, now_ms, now);
            return;
        }
        let rests = !self.is_configured() && self.rests() && !anew.words;
        let longest = if rests { DAY } else { self.entry.interval };
        if self.turn.due > now + longest {
            self.set_due(
                now + longest.mul_f64(0.5 + self.turn.spread / 2.0),
                now_ms,
                now,
            );
        }
    }

    pub(super) fn save(&self) -> SavedTask {
        SavedTask {
            entry: self.entry.clone(),
            asked_finished: self.asked_finished,
        }
    }

    /// Whether the configuration names it.
    pub(super) fn is_configured(&self) -> bool {
        self.watch.followed.is_none()
    }

    /// Takes in what a list tells: something `new`, or the same again. `true`
    /// where it is to be polled at once.
    pub(super) fn listed(
        &mut self,
        info: &Arc<TaskInfo>,
        new: bool,
        words: &Words,
        moment: Moment,
    ) -> bool {
        self.listed = true;
        self.over = info.status(words).is_over();
        let finished = self.entry.data.as_ref().is_some_and(|data| data.finished);
        if self.is_untried() {
            self.entry.info = Some(Arc::clone(info));
            if let (Some(interval), true) = (self.watch.followed, self.over) {
                self.entry.interval = interval;
            }
            return false;
        }
        if new {
            self.entry.info = Some(Arc::clone(info));
            self.again = self.turn.phase == Phase::Active;
            return (self.over || finished) && self.turn.phase == Phase::Waiting;
        }
        self.listed_again(moment);
        false
    }

    /// Takes in that a list shows it as it was: as good as a poll of a finished
    /// run that was found there.
    pub(super) fn listed_again(&mut self, moment: Moment) {
        self.listed = true;
        let finished = self.entry.data.as_ref().is_some_and(|data| data.finished);
        let polled = finished && !self.is_untried() && self.entry.error.is_none();
        if polled && !self.is_configured() {
            self.entry.last_poll_ms = Some(moment.wall_ms);
            self.entry.set_last_success(moment);
        }
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
        self.entry.next_poll_ms = Some(self.turn.set_due(due, now_ms, now));
    }

    pub(super) fn question(&mut self) -> Question {
        self.again = false;
        Question {
            gone: self.gone.clone(),
            target: Arc::clone(&self.watch.target),
            info: self.entry.info.clone(),
            asked_finished: self.asked_finished,
            may_ask_task: Instant::now() >= self.ask_task_after,
            listed: std::mem::take(&mut self.listed),
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.watch.target
    }

    pub(super) fn entry(&self) -> &TaskEntry {
        &self.entry
    }

    /// Finds the cause of its failure; to be called where its data, its message or
    /// `causes` have changed.
    pub(super) fn find_cause(&mut self, causes: &Causes) {
        let data = self.entry.data.as_ref();
        let failed = data.is_some_and(|data| data.status == TaskStatus::Failed);
        let message = self.entry.info.as_ref().map_or("", |info| &info.message);
        self.entry.cause = failed.then(|| causes.of(message));
    }

    pub(super) fn is_untried(&self) -> bool {
        self.entry.last_poll_ms.is_none()
    }

    /// Whether it is finished, so that others may go first.
    pub(super) fn rests(&self) -> bool {
        let data = self.entry.data.as_ref();
        data.map_or(self.over, |data| data.finished)
    }

    /// Takes in what a poll has brought, at its end; answers the polls skipped meanwhile.
    pub(super) fn apply(
        &mut self,
        polled: Polled,
        settings: &Settings,
        moment: Moment,
        now: Instant,
    ) -> u64 {
        let before = self.entry.interval;
        self.entry.last_poll_ms = Some(moment.wall_ms);
        let asked = matches!(polled.task, Some(Ok(())));
        self.take_task(polled.task, settings, now);
        self.gone = polled.gone;
        let retry = match polled.outcome {
            Ok(answer) => {
                self.take(answer, asked, settings, moment);
                None
            }
            Err(error) => self.fail(error),
        };
        let interval = self.entry.interval;
        let bunched = retry.is_none() && std::mem::take(&mut self.turn.bunched);
        let beat = match retry {
            Some(delay) => Beat::Retry(delay),
            None if !self.is_configured() && self.entry.error.is_some() => Beat::Resting(
                schedule::pause(self.turn.failures, interval, settings.finished_interval),
            ),
            None if !self.is_configured() && self.rests() => Beat::Growing(DAY),
            None if bunched => Beat::First(interval),
            None if self.rests() && interval == before => Beat::Resting(interval),
            None if self.rests() => Beat::Growing(interval),
            None => Beat::Steady(interval),
        };
        let (mut due, skipped) = schedule::next_due(beat, self.turn.due, now, self.turn.spread);
        if self.again {
            due = now;
        }
        self.set_due(due, moment.wall_ms, now);
        skipped
    }

    /// Takes in whether the task itself could be read.
    fn take_task(
        &mut self,
        task: Option<Result<(), SourceError>>,
        settings: &Settings,
        now: Instant,
    ) {
        match &task {
            Some(Err(_)) => {
                let longest = settings.finished_interval.max(self.watch.interval);
                let pause = schedule::task_pause(self.task_failures, self.watch.interval, longest);
                self.task_failures = self.task_failures.saturating_add(1);
                self.ask_task_after = now + pause;
            }
            Some(Ok(())) => self.task_failures = 0,
            None => {}
        }
        if let Some(task) = task {
            self.entry.task_error = task.err().map(|error| error.reason);
        }
    }

    fn take(&mut self, answer: Answer, asked: bool, settings: &Settings, moment: Moment) {
        let entry = &mut self.entry;
        let changed = entry.data.as_ref() != Some(&answer.assessment) || entry.info != answer.info;
        entry.interval = match self.watch.followed {
            Some(interval) if answer.assessment.finished => interval,
            Some(_) => self.watch.interval,
            None => schedule::interval_in_force(
                self.watch.interval,
                settings.finished_interval,
                entry.interval,
                answer.assessment.finished,
                changed,
            ),
        };
        if changed {
            entry.data = Some(answer.assessment);
        }
        // A list may have told something newer meanwhile.
        if !self.again || asked {
            entry.info = answer.info;
        }
        entry.error = None;
        entry.set_last_success(moment);
        self.asked_finished = answer.asked_finished;
        self.turn.failures = 0;
    }

    /// Answers the delay of the next try, where the failure may pass by itself.
    fn fail(&mut self, error: SourceError) -> Option<Duration> {
        self.turn.failures = self.turn.failures.saturating_add(1);
        let passing = error.reason.is_transient();
        self.entry.error = Some(Arc::new(PollError {
            reason: error.reason,
            text: error.text,
        }));
        passing.then(|| schedule::backoff(self.turn.failures, self.entry.interval, fastrand::f64()))
    }
}
