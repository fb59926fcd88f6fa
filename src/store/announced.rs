//! Counters and histograms that are on `/metrics` at 0 before they move: what
//! appears with its first count is invisible to `increase()`. The exporter's own
//! counters do the same in `metrics::own`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is not scraped for so long moves all the same, milliseconds.
const GRACE: i64 = 2 * 60_000;

/// A count, and what `/metrics` shows of it: 0 until an answer has shown that,
/// and where there is a state file nothing that is not saved, since a counter
/// must not fall whenever the process is killed.
#[derive(Clone, Debug)]
pub(super) struct Announced<T> {
    counted: Arc<T>,
    /// What is shown while `counted` is not: at first 0, then what was saved.
    held: Arc<T>,
    waits_for_save: bool,
    /// Since when it is there, on the steady clock.
    since_ms: i64,
    /// Shared with the snapshots, which `/metrics` is written from.
    shown_once: Arc<AtomicBool>,
}

impl<T: Default> Announced<T> {
    /// A count that `/metrics` has not shown yet.
    pub(super) fn new(counted: Arc<T>, since_ms: i64, waits_for_save: bool) -> Self {
        Self {
            counted,
            held: Arc::default(),
            waits_for_save,
            since_ms,
            shown_once: Arc::default(),
        }
    }

    /// A count that `/metrics` has shown before.
    pub(super) fn shown_before(counted: Arc<T>, waits_for_save: bool) -> Self {
        Self {
            held: Arc::clone(&counted),
            counted,
            waits_for_save,
            since_ms: i64::MIN,
            shown_once: Arc::new(true.into()),
        }
    }

    /// The same with what is counted now.
    pub(super) fn with_counted(self, counted: Arc<T>) -> Self {
        Self { counted, ..self }
    }

    /// What `/metrics` shows at `steady_ms`.
    pub(super) fn shown(&self, steady_ms: i64) -> &Arc<T> {
        if !self.waits_for_save && self.is_announced(steady_ms) {
            &self.counted
        } else {
            &self.held
        }
    }

    /// The last moment at which it is held back by time alone.
    pub(super) fn held_until_ms(&self) -> Option<i64> {
        let is_held = !self.waits_for_save && !self.shown_once.load(Ordering::Relaxed);
        is_held.then(|| self.since_ms.saturating_add(GRACE - 1))
    }

    /// Whether a save would let more of it show.
    pub(super) fn waits(&self) -> bool {
        let is_shown = self.shown_once.load(Ordering::Relaxed);
        self.waits_for_save && is_shown && !Arc::ptr_eq(&self.held, &self.counted)
    }

    /// Notes that an answer shows it; whether it is the first one.
    pub(super) fn announce(&self) -> bool {
        !self.shown_once.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_announced(&self, steady_ms: i64) -> bool {
        let waited = steady_ms.saturating_sub(self.since_ms) >= GRACE;
        self.shown_once.load(Ordering::Relaxed) || waited
    }

    /// Notes what was saved, and whether it was announced by then; `true` where
    /// that changes what is shown.
    pub(super) fn note_saved(&mut self, counted: &Arc<T>, announced: bool) -> bool {
        let shows = self.waits_for_save && announced && !Arc::ptr_eq(&self.held, counted);
        if shows {
            self.held = Arc::clone(counted);
        }
        shows
    }
}
