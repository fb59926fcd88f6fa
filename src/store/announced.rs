//! Counters and histograms that are on `/metrics` at 0 before they move: what
//! appears with its first count is invisible to `increase()`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What nobody scrapes for so long moves all the same, milliseconds.
const GRACE: i64 = 2 * 60_000;

/// A count, and what `/metrics` shows of it: 0 until an answer has shown that,
/// and where there is a state file nothing that is not saved, since a counter
/// must not fall whenever the process is killed.
#[derive(Clone, Debug)]
pub(super) struct Announced<T> {
    counted: Arc<T>,
    /// What is shown until it was announced.
    first: Arc<T>,
    first_seen_ms: i64,
    /// Shared with the snapshots, which `/metrics` is written from.
    shown_once: Arc<AtomicBool>,
    /// Where there is a state file, what was saved once it was announced.
    saved: Option<Arc<T>>,
}

impl<T: Default> Announced<T> {
    /// A count that `/metrics` has not shown yet.
    pub(super) fn new(counted: Arc<T>, first_seen_ms: i64, waits_for_save: bool) -> Self {
        let first = Arc::<T>::default();
        Self {
            counted,
            first_seen_ms,
            shown_once: Arc::default(),
            saved: waits_for_save.then(|| Arc::clone(&first)),
            first,
        }
    }

    /// A count that `/metrics` has shown before.
    pub(super) fn before(counted: Arc<T>, waits_for_save: bool) -> Self {
        Self {
            first: Arc::clone(&counted),
            first_seen_ms: i64::MIN,
            shown_once: Arc::new(true.into()),
            saved: waits_for_save.then(|| Arc::clone(&counted)),
            counted,
        }
    }

    /// The same with what is counted now.
    pub(super) fn counted(self, counted: Arc<T>) -> Self {
        Self { counted, ..self }
    }

    /// What `/metrics` shows at `now_ms`.
    pub(super) fn shown(&self, now_ms: i64) -> &Arc<T> {
        match &self.saved {
            Some(saved) => saved,
            None if self.is_announced(now_ms) => &self.counted,
            None => &self.first,
        }
    }

    /// The last moment at which it is held back by time alone.
    pub(super) fn held_until_ms(&self) -> Option<i64> {
        let held = self.saved.is_none() && !self.shown_once.load(Ordering::Relaxed);
        held.then(|| self.first_seen_ms.saturating_add(GRACE - 1))
    }

    /// Whether a save would let more of it show.
    pub(super) fn waits(&self) -> bool {
        let saved = self.saved.as_ref();
        saved.is_some_and(|saved| !Arc::ptr_eq(saved, &self.counted))
    }

    /// Notes that an answer shows it; whether it is the first one.
    pub(super) fn announce(&self) -> bool {
        !self.shown_once.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_announced(&self, now_ms: i64) -> bool {
        let waited = now_ms.saturating_sub(self.first_seen_ms) >= GRACE;
        self.shown_once.load(Ordering::Relaxed) || waited
    }

    /// Notes what was saved, and whether it was announced by then; `true` where
    /// that changes what is shown.
    pub(super) fn saved(&mut self, counted: &Arc<T>, announced: bool) -> bool {
        match &mut self.saved {
            Some(saved) if announced && !Arc::ptr_eq(saved, counted) => {
                *saved = Arc::clone(counted);
                true
            }
            _ => false,
        }
    }
}
