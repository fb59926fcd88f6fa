//! What clients and credentials report while they work, for the metrics of the program that uses them.

use std::time::Duration;

use tokio::time::Instant;

use crate::reason::Reason;

/// Receives what happens for one account. A method that is not implemented does nothing, and `()`
/// implements none.
pub trait Observer: Send + Sync {
    /// Requests of `action` may follow: counters can be created at zero.
    fn expect_action(&self, _action: &'static str) {}

    /// A request is being sent. [`Observer::request_ended`] follows in every case.
    fn request_started(&self, _action: &'static str, _is_retry: bool) {}

    /// A request ended, this long after it was started.
    fn request_ended(&self, _action: &'static str, _elapsed: Duration, _outcome: Outcome) {}

    /// The rate limit now allows this many requests per second.
    fn rate_limit_changed(&self, _requests_per_second: f64) {}

    /// A request waited this long for the rate limit.
    fn rate_limit_waited(&self, _waited: Duration) {}

    /// The local clock is this many milliseconds ahead of the `Date` of the latest response.
    fn clock_skew(&self, _millis: i64) {}

    /// Credentials could not be refreshed.
    fn credentials_failed(&self) {}

    /// The current credentials of `provider` expire at `at_ms` (Unix time, milliseconds); `None`
    /// once the provider's credentials are no longer used or do not expire.
    fn credentials_expire(&self, _provider: &'static str, _at_ms: Option<i64>) {}
}

impl Observer for () {}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a usable response.
    Succeeded,
    /// Without one.
    Failed(Reason),
    /// The caller stopped waiting for it.
    Canceled,
}

/// A request in flight, reported as canceled if it is dropped before its end.
pub(crate) struct InFlight<'a> {
    observer: &'a dyn Observer,
    action: &'static str,
    started: Instant,
    outcome: Outcome,
}

impl<'a> InFlight<'a> {
    pub(crate) fn start(observer: &'a dyn Observer, action: &'static str, is_retry: bool) -> Self {
        observer.request_started(action, is_retry);
        Self {
            observer,
            action,
            started: Instant::now(),
            outcome: Outcome::Canceled,
        }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn end(mut self, failed: Option<Reason>) {
        self.outcome = failed.map_or(Outcome::Succeeded, Outcome::Failed);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        self.observer
            .request_ended(self.action, elapsed, self.outcome);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Observer;

    /// Remembers what credentials report.
    #[derive(Default)]
    pub(crate) struct Recorder {
        failures: AtomicU64,
        expirations: Mutex<BTreeMap<&'static str, i64>>,
    }

    impl Recorder {
        pub(crate) fn failures(&self) -> u64 {
            self.failures.load(Ordering::Relaxed)
        }

        /// By provider.
        pub(crate) fn expirations(&self) -> Vec<(&'static str, i64)> {
            let expirations = self.expirations.lock().expect("not poisoned");
            expirations
                .iter()
                .map(|(provider, at_ms)| (*provider, *at_ms))
                .collect()
        }
    }

    impl Observer for Recorder {
        fn credentials_failed(&self) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }

        fn credentials_expire(&self, provider: &'static str, at_ms: Option<i64>) {
            let mut expirations = self.expirations.lock().expect("not poisoned");
            match at_ms {
                Some(at_ms) => expirations.insert(provider, at_ms),
                None => expirations.remove(provider),
            };
        }
    }
}
