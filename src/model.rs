//! What is known of tasks and artifacts, in this product's own words, and the
//! rules that turn the cloud's open vocabulary into five closed states.
//!
//! Pure: no clock, no I/O. Times are Unix milliseconds, as the cloud sends
//! them; a time of zero or less means "not known" and is `None` here.

mod artifacts;
mod cause;
mod folded;
pub mod settings;
mod words;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::artifacts::{Artifact, Artifacts};
pub use self::cause::{Cause, Causes};
pub use self::folded::{Assessment, Folded};
pub use self::words::{Meaning, Words, unrecognized};

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

/// At most `bytes` of `text`, cut between characters.
pub fn truncated(text: &str, bytes: usize) -> &str {
    let end = bytes.min(text.len());
    let end = (0..=end).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests;
