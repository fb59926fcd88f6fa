//! Time as a value, so that signing dates, expiry and freshness can be tested at
//! any moment. There are two clocks: the wall clock, which people and other
//! machines share and which may jump, and a steady one for ages. Schedules use
//! neither: they run on `tokio::time`, which tests can pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Unix time by the wall clock, milliseconds; negative before the epoch. For
    /// timestamps that are shown, saved or compared with the cloud's.
    pub wall_ms: i64,
    /// The same when the process started; from there it advances with real time,
    /// suspended time included, whatever happens to the wall clock. For ages.
    pub steady_ms: i64,
}

impl Moment {
    /// How far the wall clock is ahead of the steady one, milliseconds.
    pub fn wall_ahead_ms(self) -> i64 {
        self.wall_ms.saturating_sub(self.steady_ms)
    }

    /// The moment at which another process read `wall_ms` from the wall clock. If
    /// that is in the future, the clock was set back since then, and it counts as
    /// now.
    #[must_use]
    pub fn recall(self, wall_ms: i64) -> Self {
        let age = self.wall_ms.saturating_sub(wall_ms).max(0);
        Self {
            wall_ms,
            steady_ms: self.steady_ms.saturating_sub(age),
        }
    }
}

/// Milliseconds as seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "times and durations are below 2^53 milliseconds"
)]
pub fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// Unix milliseconds in RFC 3339, UTC; `None` beyond the year 9999.
pub fn rfc3339(unix_ms: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(unix_ms).ok()?;
    Some(time.to_string())
}

/// Both clocks at the same time, for tests in which they agree.
impl From<i64> for Moment {
    fn from(millis: i64) -> Self {
        Self {
            wall_ms: millis,
            steady_ms: millis,
        }
    }
}

/// Where the current time comes from.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System {
        /// The wall clock minus [`uptime`] when the process started.
        booted_ms: i64,
    },
    /// A test's, which stands still.
    Fixed(Arc<AtomicI64>),
    /// A test's, which moves with tokio's time.
    Tokio {
        start_ms: i64,
        start: Instant,
        ahead: Arc<Ahead>,
    },
}

/// How far the clocks of a test are ahead of tokio's time, milliseconds.
#[derive(Debug, Default)]
struct Ahead {
    wall: AtomicI64,
    steady: AtomicI64,
}

impl Clock {
    /// The system's clocks; the steady one starts at the wall clock's time now.
    pub fn system() -> Self {
        Self(Source::System {
            booted_ms: system_millis().saturating_sub(millis(uptime())),
        })
    }

    /// Both clocks show `millis` (Unix time, milliseconds) until [`Clock::set`].
    pub fn fixed(millis: i64) -> Self {
        Self(Source::Fixed(Arc::new(AtomicI64::new(millis))))
    }

    /// Both clocks show `millis` now and advance with tokio's time.
    pub fn of_tokio(millis: i64) -> Self {
        Self(Source::Tokio {
            start_ms: millis,
            start: Instant::now(),
            ahead: Arc::default(),
        })
    }

    /// Sets both clocks of [`Clock::fixed`]; others ignore it.
    pub fn set(&self, millis: i64) {
        if let Source::Fixed(both) = &self.0 {
            both.store(millis, Ordering::Relaxed);
        }
    }

    /// Steps the wall clock of [`Clock::of_tokio`], back if negative; others
    /// ignore it.
    pub fn step_wall(&self, millis: i64) {
        if let Source::Tokio { ahead, .. } = &self.0 {
            ahead.wall.fetch_add(millis, Ordering::Relaxed);
        }
    }

    /// Advances both clocks of [`Clock::of_tokio`] and not tokio's time, as a
    /// suspended machine does; others ignore it.
    pub fn suspend(&self, time: Duration) {
        if let Source::Tokio { ahead, .. } = &self.0 {
            ahead.wall.fetch_add(millis(time), Ordering::Relaxed);
            ahead.steady.fetch_add(millis(time), Ordering::Relaxed);
        }
    }

    /// Both clocks.
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::System { booted_ms } => Moment {
                wall_ms: system_millis(),
                steady_ms: booted_ms.saturating_add(millis(uptime())),
            },
            Source::Fixed(both) => {
                let millis = both.load(Ordering::Relaxed);
                Moment {
                    wall_ms: millis,
                    steady_ms: millis,
                }
            }
            Source::Tokio {
                start_ms,
                start,
                ahead,
            } => {
                let passed = start_ms.saturating_add(millis(start.elapsed()));
                let read = |ahead: &AtomicI64| passed.saturating_add(ahead.load(Ordering::Relaxed));
                Moment {
                    wall_ms: read(&ahead.wall),
                    steady_ms: read(&ahead.steady),
                }
            }
        }
    }

    /// The wall clock: milliseconds since the Unix epoch, negative before it.
    pub fn now_millis(&self) -> i64 {
        self.now().wall_ms
    }

    /// The steady clock, see [`Moment::steady_ms`].
    pub fn steady_millis(&self) -> i64 {
        self.now().steady_ms
    }
}

/// `duration` in whole milliseconds.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the system's clock"
)]
fn system_millis() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

/// Time since the machine booted, suspended time included.
#[cfg(target_os = "linux")]
fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.try_into().unwrap_or_default()
}

/// Time since the first call; whether suspended time counts depends on the system.
#[cfg(not(target_os = "linux"))]
fn uptime() -> Duration {
    static FIRST: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    FIRST.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clocks_agree_at_the_start() {
        let clock = Clock::system();
        let apart = clock.now().wall_ahead_ms();
        assert!(apart.abs() < 1_000, "{apart}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_steady_clock_is_the_boot_time_of_the_kernel() {
        let read = || std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds = |text: &str| -> f64 { text.split(' ').next().unwrap().parse().unwrap() };
        let before = seconds(&read());
        let here = uptime().as_secs_f64();
        let after = seconds(&read());
        // The kernel shows hundredths.
        assert!((before - 0.01..=after + 0.01).contains(&here), "{here}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspend_moves_both_clocks_and_a_step_the_wall_clock_alone() {
        let clock = Clock::of_tokio(1_000_000);
        tokio::time::advance(Duration::from_secs(1)).await;
        clock.suspend(Duration::from_secs(10));
        clock.step_wall(-100_000);
        let now = clock.now();
        assert_eq!((now.wall_ms, now.steady_ms), (911_000, 1_011_000));
        assert_eq!(now.wall_ahead_ms(), -100_000);
    }

    #[test]
    fn what_another_process_read_has_the_age_that_the_wall_clock_gives_it() {
        let now = Moment {
            wall_ms: 50_000,
            steady_ms: 40_000,
        };
        assert_eq!(now.recall(47_000).steady_ms, 37_000);
        assert_eq!(now.recall(50_000).steady_ms, 40_000);
        assert_eq!(now.recall(90_000).steady_ms, 40_000);
        assert_eq!(now.recall(90_000).wall_ms, 90_000);
    }
}
