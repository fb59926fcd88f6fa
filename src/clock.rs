//! Wall-clock time as a value, so that signing dates, expiry and freshness can
//! be tested at any moment. Schedules do not use it: they run on
//! `tokio::time`, which tests can pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Where the current time comes from.
#[derive(Clone, Debug, Default)]
pub struct Clock(Hand);

#[derive(Clone, Debug, Default)]
enum Hand {
    #[default]
    System,
    /// A test's.
    Fixed(Arc<AtomicI64>),
    /// Moves with tokio's time, which tests can pause.
    Tokio { then_ms: i64, then: Instant },
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Hand::System)
    }

    /// A clock that stands at `millis` (Unix time, milliseconds) until [`Clock::set`].
    pub fn fixed(millis: i64) -> Self {
        Self(Hand::Fixed(Arc::new(AtomicI64::new(millis))))
    }

    /// A clock that shows `millis` now and moves with tokio's time.
    pub fn of_tokio(millis: i64) -> Self {
        Self(Hand::Tokio {
            then_ms: millis,
            then: Instant::now(),
        })
    }

    /// Moves a fixed clock; the system's clock stays as it is.
    pub fn set(&self, millis: i64) {
        if let Hand::Fixed(hand) = &self.0 {
            hand.store(millis, Ordering::Relaxed);
        }
    }

    /// Milliseconds since the Unix epoch; negative before it.
    pub fn now_millis(&self) -> i64 {
        match &self.0 {
            Hand::System => system_millis(),
            Hand::Fixed(hand) => hand.load(Ordering::Relaxed),
            Hand::Tokio { then_ms, then } => {
                let passed = i64::try_from(then.elapsed().as_millis()).unwrap_or(i64::MAX);
                then_ms.saturating_add(passed)
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the system's clock"
)]
fn system_millis() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}
