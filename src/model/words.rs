//! What the cloud's words mean: an open set, mapped by a table that the user extends.

use std::collections::HashMap;

use super::{Outcome, Row, TaskInfo};

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
    pub(super) fn verdict(self) -> Option<Outcome> {
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

    pub(super) fn verdict(&self, word: &str) -> Option<Outcome> {
        self.meaning(word)?.verdict()
    }

    pub(super) fn is_running(&self, word: &str) -> bool {
        self.meaning(word) == Some(Meaning::Running)
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
