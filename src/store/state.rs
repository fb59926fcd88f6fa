//! What survives a restart, as plain data: [`State`]. The poller makes it and
//! takes it back. [`encode`] and [`decode`] turn it into bytes and back, and
//! [`StateFile`] keeps those; when it is saved is decided by `app`.
//!
//! The bytes are `acrstate`, the format version (u32), the length of the payload
//! (u64; both little endian), the payload (postcard) and the SHA-256 of all
//! before it. Only the payload may differ between versions. A change of any type
//! below is a new `VERSION`, and the one before has to stay readable: an
//! upgrade must not set counters back.

mod file;
mod v1;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{Outcome, Rule, Subscription, TaskInfo, TaskStatus};

pub use self::file::{Error, Found, StateFile};
use super::{Counts, RecentRun, RunDurations, TaskEntry};

const MAGIC: [u8; 8] = *b"acrstate";
const VERSION: u32 = 2;
const HEADER: usize = MAGIC.len() + 4 + 8;

/// SHA-256.
pub type Checksum = [u8; 32];

/// Everything known and counted at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Tasks that are polled, whether they are shown or not.
    pub tasks: Vec<SavedTask>,
    /// Followed instances.
    pub instances: Vec<SavedInstance>,
}

/// One polled task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedTask {
    /// What is known of it.
    pub entry: TaskEntry,
    /// The task itself was asked for after its last row had finished.
    pub asked_finished: bool,
}

/// One followed instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedInstance {
    /// `cri-…`
    pub instance_id: Arc<str>,
    /// When both lists were last read, Unix milliseconds.
    pub last_success_ms: Option<i64>,
    /// When the task list was last read to its end; `None` until it was once,
    /// and everything in it is then taken for old.
    pub last_whole_ms: Option<i64>,
    /// Whether the task list is known to be newest first.
    pub newest_first: Option<bool>,
    /// Every run that the list holds.
    pub runs: Vec<SavedRun>,
    /// Runs that the list held once, so that they are not counted again.
    pub gone: Vec<GoneRun>,
    /// Subscriptions that have, or had, a rule.
    pub subscriptions: Vec<SavedSubscription>,
    /// Every rule of the instance, so that an edit is seen as one.
    pub rules: Vec<SavedRule>,
    /// Durations of its counted runs.
    pub durations: Arc<RunDurations>,
    /// Whether its histograms were on `/metrics`.
    pub announced: bool,
}

/// What one rule synchronized when it was last listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRule {
    /// `crasr-…`
    pub rule_id: String,
    /// From where to where.
    pub subscription: Arc<Subscription>,
    /// When it was edited into this subscription, Unix milliseconds.
    pub edited_ms: Option<i64>,
    /// When it was last in the list, Unix milliseconds.
    pub seen_ms: i64,
}

/// One run of the task list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedRun {
    /// `crast-…`
    pub task_id: Arc<str>,
    /// What the list tells.
    pub info: Arc<TaskInfo>,
    /// When it was first in the list, Unix milliseconds.
    pub first_seen_ms: i64,
    /// When it was last in the list, Unix milliseconds.
    pub seen_ms: i64,
    /// It is counted already, or too old to be.
    pub counted: bool,
    /// What its rows say, where they were read.
    pub rows: Option<RowsVerdict>,
}

/// What the rows of a run say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsVerdict {
    /// How the run stands.
    pub status: TaskStatus,
    /// Whether it will not change by itself any more.
    pub finished: bool,
    /// Earliest start of its artifacts, Unix milliseconds.
    pub start_ms: Option<i64>,
    /// Latest end, Unix milliseconds.
    pub end_ms: Option<i64>,
    /// Artifacts in the order of [`Outcome::ALL`].
    pub artifacts: Option<[u32; Outcome::ALL.len()]>,
}

/// A run that the list does not hold any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneRun {
    /// `crast-…`
    pub task_id: Arc<str>,
    /// When it was last in the list, Unix milliseconds.
    pub seen_ms: i64,
    /// It was counted, or too old to be.
    pub counted: bool,
    /// It is one of its subscription's forgotten failures.
    pub failed: bool,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedSubscription {
    /// Which one.
    pub subscription: Arc<Subscription>,
    /// Its rules; none while it has none.
    pub rules: Arc<[Rule]>,
    /// When it last had a rule, Unix milliseconds.
    pub seen_ms: i64,
    /// What was counted.
    pub counts: Arc<Counts>,
    /// Whether its counters were on `/metrics`.
    pub announced: bool,
    /// When the newest success ended, Unix milliseconds.
    pub last_success_ms: Option<i64>,
    /// The same of runs that the list no longer holds.
    pub forgotten_success_ms: Option<i64>,
    /// Failed runs that the list no longer holds, since the last success.
    pub forgotten_failures: u32,
    /// The newest finished run that the list no longer holds.
    pub forgotten_run: Option<SavedRun>,
    /// Its last 20 runs, the newest first.
    pub recent: Arc<[RecentRun]>,
}

/// Bytes that hold no state.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// They begin with something else.
    #[error("it is not a state file")]
    Foreign,
    /// They were cut, or something follows.
    #[error("it is {found} bytes long in place of {expected}")]
    Length {
        /// What the header tells.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// They were damaged.
    #[error("its checksum does not fit its content")]
    Checksum,
    /// They are sound, and of another version of this program.
    #[error("its format has version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// The checksum fits, the content does not: no version of this program wrote it.
    #[error("its content does not fit its format")]
    Payload(#[source] postcard::Error),
}

/// A state as bytes; equal states give equal bytes.
pub fn encode(state: &State) -> Vec<u8> {
    let payload = postcard::to_allocvec(state).expect("plain data in memory can be written");
    let mut bytes = Vec::with_capacity(HEADER + payload.len() + size_of::<Checksum>());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(payload);
    let checksum = Sha256::digest(&bytes);
    bytes.extend(checksum);
    bytes
}

/// What tells one answer of [`encode`] from another.
pub fn checksum(bytes: &[u8]) -> Checksum {
    bytes.last_chunk().copied().unwrap_or_default()
}

/// The state that [`encode`] made these bytes of.
pub fn decode(bytes: &[u8]) -> Result<State, Unreadable> {
    let version = check_header(bytes, bytes.len() as u64)?;
    let (content, checksum) = bytes.split_at(bytes.len() - size_of::<Checksum>());
    // Before the version: a flipped bit is not another version.
    if Sha256::digest(content)[..] != *checksum {
        return Err(Unreadable::Checksum);
    }
    let payload = &content[HEADER..];
    match version {
        VERSION => whole(payload),
        1 => whole::<v1::State>(payload).map(State::from),
        other => Err(Unreadable::Version(other)),
    }
}

fn whole<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Unreadable> {
    let (value, rest) = postcard::take_from_bytes(payload).map_err(Unreadable::Payload)?;
    if !rest.is_empty() {
        return Err(Unreadable::Payload(postcard::Error::SerdeDeCustom));
    }
    Ok(value)
}

/// The version of a file of `length` bytes that begins with `start`; told
/// before the rest is read, so that nothing large is read that is no state.
fn check_header(start: &[u8], length: u64) -> Result<u32, Unreadable> {
    let rest = start.strip_prefix(&MAGIC).ok_or(Unreadable::Foreign)?;
    let around = (HEADER + size_of::<Checksum>()) as u64;
    let wrong = |expected| Unreadable::Length {
        expected,
        found: length,
    };
    let (version, rest) = rest.split_first_chunk().ok_or(wrong(around))?;
    let (payload, _) = rest.split_first_chunk().ok_or(wrong(around))?;
    let expected = u64::from_le_bytes(*payload).saturating_add(around);
    if length != expected {
        return Err(wrong(expected));
    }
    Ok(u32::from_le_bytes(*version))
}

#[cfg(test)]
mod tests;
