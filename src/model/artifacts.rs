//! The artifacts of one task: columns over one string pool.

use serde::{Deserialize, Serialize};

use super::Outcome;
use super::folded::Judged;

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
    pub(super) fn pack<S: AsRef<str>>(rows: &[Judged<S>]) -> Self {
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

pub(super) fn offset(value: usize) -> u32 {
    u32::try_from(value).expect("an answer's size is capped far below 4 GiB")
}

pub(super) fn known(millis: i64) -> Option<i64> {
    (millis > 0).then_some(millis)
}

pub(super) fn duration(finished: bool, start_ms: Option<i64>, end_ms: Option<i64>) -> Option<i64> {
    let duration = end_ms?.checked_sub(start_ms?)?;
    (finished && duration >= 0).then_some(duration)
}
