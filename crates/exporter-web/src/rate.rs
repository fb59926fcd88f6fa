//! The web configuration's rate limit: one bucket for all requests.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::RateLimit;

/// A bucket of tokens; full at the start.
pub(crate) struct Limiter {
    limit: RateLimit,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    /// In units of the interval.
    tokens: f64,
    at: Instant,
}

impl Limiter {
    pub(crate) fn new(limit: RateLimit) -> Self {
        let bucket = Bucket {
            tokens: f64::from(limit.burst.get()),
            at: Instant::now(),
        };
        Self {
            limit,
            bucket: Mutex::new(bucket),
        }
    }

    pub(crate) fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Takes a token, or tells after how long there may be one.
    pub(crate) fn take(&self) -> Result<(), Duration> {
        let (interval, burst) = (self.limit.interval.0, self.limit.burst.get());
        // No change is ever left half done.
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = now.duration_since(bucket.at).div_duration_f64(interval);
        bucket.tokens = (bucket.tokens + since).min(f64::from(burst));
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(interval.mul_f64(1.0 - bucket.tokens));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use settings::Count;

    use super::*;
    use crate::config::GoDuration;

    fn limiter(interval_ms: u64, burst: u32) -> Limiter {
        Limiter::new(RateLimit {
            interval: GoDuration(Duration::from_millis(interval_ms)),
            burst: Count::of(burst),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_one_an_interval() {
        let limiter = limiter(1000, 2);
        limiter.take().unwrap();
        limiter.take().unwrap();
        assert_eq!(limiter.take(), Err(Duration::from_secs(1)));
        advance(Duration::from_millis(750)).await;
        assert_eq!(limiter.take(), Err(Duration::from_millis(250)));
        advance(Duration::from_millis(250)).await;
        limiter.take().unwrap();
        limiter.take().unwrap_err();
        // Not more than the burst is saved up.
        advance(Duration::from_secs(3600)).await;
        limiter.take().unwrap();
        limiter.take().unwrap();
        limiter.take().unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_burst_there_is_never_a_request() {
        let limiter = limiter(1000, 0);
        advance(Duration::from_secs(3600)).await;
        limiter.take().unwrap_err();
    }
}
