//! What is known of tasks and artifacts, in this product's own words, and the
//! rules that turn the cloud's open vocabulary into five closed states.
//!
//! Pure: no clock, no I/O. Times are Unix milliseconds, as the cloud sends
//! them; a time of zero or less means "not known" and is `None` here.

mod cause;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::cause::{Cause, Causes};

/// How one artifact (one tag, one task) stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Outcome {
    /// Still being synchronised, or waiting for it.
    Running,
    /// Synchronised.
    Succeeded,
    /// Not synchronised, and not going to be.
    Failed,
    /// The cloud used a word that is in no list, or none.
    Unknown,
}

impl Outcome {
    /// Every outcome, in the order of the page.
    pub const ALL: [Self; 4] = [Self::Running, Self::Succeeded, Self::Failed, Self::Unknown];

    /// The value of the label `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Which of two reports of one artifact with equal start counts, and which
    /// artifact keeps its series where not all can: the worse (lower) first.
    fn severity(self) -> u8 {
        match self {
            Self::Failed => 0,
            Self::Unknown => 1,
            Self::Running => 2,
            Self::Succeeded => 3,
        }
    }
}

/// How a task stands as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TaskStatus {
    /// No artifact and no verdict.
    #[default]
    Empty,
    /// Something still runs.
    Running,
    /// Everything succeeded.
    Succeeded,
    /// Nothing runs, something failed.
    Failed,
    /// Nothing runs or failed, something cannot be understood.
    Unknown,
}

impl TaskStatus {
    /// Every status, in the order of the page.
    pub const ALL: [Self; 5] = [
        Self::Empty,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Unknown,
    ];

    /// Whether it tells how something ended.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Empty | Self::Running)
    }

    /// The value of the label `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// What a word of the cloud says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Still at work.
    Running,
    /// Over, without a verdict.
    Finished,
    /// Over, and well.
    Succeeded,
    /// Over, and not well.
    Failed,
}

impl Meaning {
    fn verdict(self) -> Option<Outcome> {
        match self {
            Self::Succeeded => Some(Outcome::Succeeded),
            Self::Failed => Some(Outcome::Failed),
            Self::Running | Self::Finished => None,
        }
    }
}

const BUILT_IN: [(Meaning, &[&str]); 4] = [
    (
        Meaning::Running,
        &[
            "PENDING",
            "WAITING",
            "QUEUED",
            "RUNNING",
            "SYNCING",
            "SYNCHRONIZING",
            "BUILDING",
            "PROCESSING",
            "IN_PROGRESS",
            "CANCELING",
            "CANCELLING",
            "SCANNING",
            "RETRYING",
        ],
    ),
    (
        Meaning::Finished,
        &["COMPLETED", "COMPLETE", "FINISHED", "DONE"],
    ),
    (Meaning::Succeeded, &["SUCCESS", "SUCCEEDED"]),
    (
        Meaning::Failed,
        &[
            "FAIL",
            "FAILED",
            "FAILURE",
            "ERROR",
            "TIMEOUT",
            "CANCELED",
            "CANCELLED",
            "DENIED",
        ],
    ),
];

/// The table from the cloud's words to meanings; case does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(HashMap<String, Meaning>);

impl Default for Words {
    fn default() -> Self {
        Self::with([])
    }
}

impl Words {
    /// The built-in table with `extra` words, which win over built-in ones.
    pub fn with(extra: impl IntoIterator<Item = (Meaning, String)>) -> Self {
        let built_in = BUILT_IN
            .iter()
            .flat_map(|(meaning, words)| words.iter().map(|word| (*meaning, (*word).to_owned())));
        Self(
            built_in
                .chain(extra)
                .map(|(meaning, word)| (word.to_ascii_uppercase(), meaning))
                .collect(),
        )
    }

    /// What `word` says; `None` for an empty word and for one in no list.
    pub fn meaning(&self, word: &str) -> Option<Meaning> {
        if let Some(meaning) = self.0.get(word) {
            return Some(*meaning);
        }
        self.0.get(&word.trim().to_ascii_uppercase()).copied()
    }

    /// Whether `word` is a word and in no list.
    pub fn is_unrecognized(&self, word: &str) -> bool {
        !word.trim().is_empty() && self.meaning(word).is_none()
    }

    fn verdict(&self, word: &str) -> Option<Outcome> {
        self.meaning(word)?.verdict()
    }

    fn is_running(&self, word: &str) -> bool {
        self.meaning(word) == Some(Meaning::Running)
    }
}

/// One row of a task's result, as the cloud tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row<S = String> {
    /// The namespace that is synchronised into.
    pub repo_namespace: S,
    /// The repository that is synchronised into.
    pub repo_name: S,
    /// The tag.
    pub tag: S,
    /// The cloud's word for how far it is, "" without one.
    pub status: S,
    /// The cloud's word for how it went, "" without one.
    pub result: S,
    /// When the synchronisation of this artifact began.
    pub start_ms: Option<i64>,
    /// When it ended.
    pub end_ms: Option<i64>,
}

impl<S: AsRef<str>> Row<S> {
    /// The same with borrowed texts.
    pub fn borrowed(&self) -> Row<&str> {
        Row {
            repo_namespace: self.repo_namespace.as_ref(),
            repo_name: self.repo_name.as_ref(),
            tag: self.tag.as_ref(),
            status: self.status.as_ref(),
            result: self.result.as_ref(),
            start_ms: self.start_ms,
            end_ms: self.end_ms,
        }
    }
}

/// A task as the cloud tells it, its rows apart; unknown texts are "".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// The namespace that is synchronised into.
    pub repo_namespace: String,
    /// The repository that is synchronised into.
    pub repo_name: String,
    /// `DOCKER_HUB`, `GCR`, `QUAY`, …
    pub source_provider: String,
    /// Namespace and name of the source, joined by a slash.
    pub source_repository: String,
    /// `AUTO`, …
    pub task_type: String,
    /// The cloud's word for how far it is.
    pub status: String,
    /// The cloud's word for how it went.
    pub result: String,
    /// The only place where the API gives a failure's reason; "" where it gives none.
    pub message: String,
    /// How many tags the source has.
    pub source_tags: Option<i64>,
    /// How many of them the subscription selects.
    pub selected_tags: Option<i64>,
    /// When the task began.
    pub start_ms: Option<i64>,
    /// When it ended.
    pub end_ms: Option<i64>,
}

/// One run of a subscription, as the list of tasks tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRun {
    /// `crast-…`
    pub task_id: Arc<str>,
    /// What a task of its own would tell too.
    pub info: Arc<TaskInfo>,
}

/// What is synchronised from where into where. Rules and runs know nothing
/// else of one another, and several rules may share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subscription {
    /// The namespace that is synchronised into.
    pub repo_namespace: String,
    /// The repository that is synchronised into.
    pub repo_name: String,
    /// `DOCKER_HUB`, `GCR`, `QUAY`, …
    pub source_provider: String,
    /// Namespace and name of the source, joined by a slash.
    pub source_repository: String,
}

/// A standing subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// `crasr-…`
    pub rule_id: String,
    /// What it is about.
    pub subscription: Subscription,
    /// Which tags it takes.
    pub tag_regexp: String,
    /// When it was created.
    pub created_ms: Option<i64>,
    /// When it was last modified; rules are edited in place.
    pub modified_ms: Option<i64>,
}

impl TaskInfo {
    /// Which subscription it is a run of.
    pub fn subscription(&self) -> Subscription {
        Subscription {
            repo_namespace: self.repo_namespace.clone(),
            repo_name: self.repo_name.clone(),
            source_provider: self.source_provider.clone(),
            source_repository: self.source_repository.clone(),
        }
    }

    /// Whether it is a run of `subscription`.
    pub fn is_run_of(&self, subscription: &Subscription) -> bool {
        self.repo_namespace == subscription.repo_namespace
            && self.repo_name == subscription.repo_name
            && self.source_provider == subscription.source_provider
            && self.source_repository == subscription.source_repository
    }

    /// The task's own say beside its rows: a failed artifact may have no row.
    fn vote(&self, words: &Words) -> Option<Outcome> {
        let verdict = words.verdict(&self.result);
        match verdict.or_else(|| words.verdict(&self.status)) {
            Some(Outcome::Failed) => Some(Outcome::Failed),
            _ if verdict.is_none() && words.is_running(&self.status) => Some(Outcome::Running),
            _ => None,
        }
    }

    /// Whether it may be over: it is by its status, or there is a result already,
    /// which the cloud gives beside RUNNING too.
    pub fn may_be_over(&self, words: &Words) -> bool {
        !words.is_running(&self.status) || words.verdict(&self.result).is_some()
    }

    /// How a task stands of which nothing but this is known.
    pub fn status(&self, words: &Words) -> TaskStatus {
        if words.is_running(&self.status) {
            return TaskStatus::Running;
        }
        let verdict = words
            .verdict(&self.result)
            .or_else(|| words.verdict(&self.status));
        match verdict {
            Some(Outcome::Failed) => TaskStatus::Failed,
            Some(_) => TaskStatus::Succeeded,
            None if [&self.result, &self.status]
                .into_iter()
                .any(|word| words.is_unrecognized(word)) =>
            {
                TaskStatus::Unknown
            }
            None => TaskStatus::Empty,
        }
    }
}

/// The artifacts of one task after folding, ordered by namespace, repository
/// and tag. Columns over one string pool: a task may have thousands of tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Artifacts {
    text: Box<str>,
    repositories: Box<[Repository]>,
    rows: Box<[Packed]>,
}

/// [`Artifacts`] as they are read from a file: their offsets may be wrong.
#[derive(Deserialize)]
struct Unchecked {
    text: Box<str>,
    repositories: Box<[Repository]>,
    rows: Box<[Packed]>,
}

impl TryFrom<Unchecked> for Artifacts {
    type Error = &'static str;

    fn try_from(unchecked: Unchecked) -> Result<Self, Self::Error> {
        let Unchecked {
            text,
            repositories,
            rows,
        } = unchecked;
        let inside = |start: u32, end: u32| text.get(start as usize..end as usize).is_some();
        let sound = repositories.iter().all(|repository| {
            inside(repository.start, repository.name) && inside(repository.name, repository.end)
        }) && rows.iter().all(|row| {
            inside(row.tag, row.tag_end) && (row.repository as usize) < repositories.len()
        });
        if !sound {
            return Err("an artifact points outside its texts");
        }
        Ok(Self {
            text,
            repositories,
            rows,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Repository {
    start: u32,
    name: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Packed {
    start_ms: i64,
    end_ms: i64,
    tag: u32,
    tag_end: u32,
    repository: u32,
    outcome: Outcome,
    finished: bool,
}

impl Packed {
    fn duration_ms(&self) -> Option<i64> {
        duration(self.finished, known(self.start_ms), known(self.end_ms))
    }
}

/// One artifact, borrowed from [`Artifacts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Artifact<'a> {
    /// The namespace that is synchronised into.
    pub repo_namespace: &'a str,
    /// The repository that is synchronised into.
    pub repo_name: &'a str,
    /// The tag.
    pub tag: &'a str,
    /// How it stands.
    pub outcome: Outcome,
    /// Whether it will not change by itself any more.
    pub finished: bool,
    /// When its synchronisation began.
    pub start_ms: Option<i64>,
    /// When it ended.
    pub end_ms: Option<i64>,
}

impl Artifact<'_> {
    /// End − start of a finished artifact; never negative.
    pub fn duration_ms(&self) -> Option<i64> {
        duration(self.finished, self.start_ms, self.end_ms)
    }

    /// The order in which artifacts keep their series where not all can:
    /// failed, running, unknown, succeeded; in each the newest first.
    pub fn keep_order(&self) -> (u8, std::cmp::Reverse<i64>) {
        let class = match self.outcome {
            Outcome::Failed => 0,
            Outcome::Running => 1,
            Outcome::Unknown => 2,
            Outcome::Succeeded => 3,
        };
        (class, std::cmp::Reverse(self.start_ms.unwrap_or(0)))
    }
}

impl Artifacts {
    fn pack<S: AsRef<str>>(rows: &[Judged<S>]) -> Self {
        let tags = rows.iter().map(|judged| judged.row.tag.as_ref().len());
        let mut text = String::with_capacity(tags.sum());
        let mut repositories: Vec<Repository> = Vec::new();
        let mut packed = Vec::with_capacity(rows.len());
        let mut current: Option<(&str, &str)> = None;
        for judged in rows {
            let row = judged.row.borrowed();
            let key = (row.repo_namespace, row.repo_name);
            if current != Some(key) {
                let start = offset(text.len());
                text.push_str(key.0);
                let name = offset(text.len());
                text.push_str(key.1);
                repositories.push(Repository {
                    start,
                    name,
                    end: offset(text.len()),
                });
                current = Some(key);
            }
            let tag = offset(text.len());
            text.push_str(row.tag);
            packed.push(Packed {
                start_ms: row.start_ms.unwrap_or(0),
                end_ms: row.end_ms.unwrap_or(0),
                tag,
                tag_end: offset(text.len()),
                repository: offset(repositories.len() - 1),
                outcome: judged.outcome,
                finished: judged.finished,
            });
        }
        Self {
            text: text.into(),
            repositories: repositories.into(),
            rows: packed.into(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many have a duration.
    pub fn durations(&self) -> usize {
        let rows = self.rows.iter();
        rows.filter(|row| row.duration_ms().is_some()).count()
    }

    /// The artifact at `index`; panics beyond [`Artifacts::len`].
    pub fn get(&self, index: usize) -> Artifact<'_> {
        let row = &self.rows[index];
        let repository = &self.repositories[row.repository as usize];
        Artifact {
            repo_namespace: self.slice(repository.start, repository.name),
            repo_name: self.slice(repository.name, repository.end),
            tag: self.slice(row.tag, row.tag_end),
            outcome: row.outcome,
            finished: row.finished,
            start_ms: known(row.start_ms),
            end_ms: known(row.end_ms),
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Artifact<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }

    fn slice(&self, start: u32, end: u32) -> &str {
        &self.text[start as usize..end as usize]
    }
}

fn offset(value: usize) -> u32 {
    u32::try_from(value).expect("an answer's size is capped far below 4 GiB")
}

/// At most `bytes` of `text`, cut between characters.
pub fn truncated(text: &str, bytes: usize) -> &str {
    let end = bytes.min(text.len());
    let end = (0..=end).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

fn known(millis: i64) -> Option<i64> {
    (millis > 0).then_some(millis)
}

fn duration(finished: bool, start_ms: Option<i64>, end_ms: Option<i64>) -> Option<i64> {
    let duration = end_ms?.checked_sub(start_ms?)?;
    (finished && duration >= 0).then_some(duration)
}

struct Judged<S> {
    row: Row<S>,
    outcome: Outcome,
    finished: bool,
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
    artifacts: Artifacts,
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

/// The words of an answer that are in no list, each with the field of the
/// cloud's API that held it; a word of neighbouring rows may come once.
pub fn unrecognized<'a>(
    rows: impl IntoIterator<Item = Row<&'a str>>,
    info: Option<&'a TaskInfo>,
    words: &'a Words,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let mut before = ("", "");
    let of_rows = rows.into_iter().filter_map(move |row| {
        let these = (row.status, row.result);
        let is_new = these != before;
        before = these;
        is_new.then_some([("Status", row.status), ("Result", row.result)])
    });
    let of_task = info.map(|info| {
        [
            ("TaskStatus", info.status.as_str()),
            ("TaskResult", info.result.as_str()),
        ]
    });
    of_rows
        .chain(of_task)
        .flatten()
        .filter(|(_, word)| words.is_unrecognized(word))
}

#[cfg(test)]
mod tests;
