//! The rate limit of one account: a token bucket that slows down when the cloud
//! throttles and recovers slowly. On tokio's time, so that tests can pause it;
//! whether an answer means throttling is left to `error`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::observer::Observer;

/// How far throttling can slow an account down: to this part of its rate.
const FLOOR: f64 = 1.0 / 64.0;
/// What a slowed account gets back, as a part of its rate, each [`RECOVERY`].
const STEP: f64 = 1.0 / 10.0;
/// Between two steps up, and after the last step down.
const RECOVERY: Duration = Duration::from_secs(10);
/// tokio's timer knows nothing shorter; a wait of less would not pass at all in
/// paused time.
const TICK: Duration = Duration::from_millis(1);
/// Seconds after which a waiter looks again, whatever the rate: a day.
const LONGEST: f64 = 86_400.0;

/// One account's token bucket, shared by everything that calls for it.
pub struct Throttle {
    /// Taken in order of arrival and held by the one whose turn is next.
    turn: tokio::sync::Mutex<()>,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    configured: f64,
    rate: f64,
    burst: f64,
    tokens: f64,
    /// Up to when tokens were paid in; in the future while paused.
    filled: Instant,
    /// When the rate last changed.
    changed: Option<Instant>,
    /// By the names of their accounts.
    observers: HashMap<String, Arc<dyn Observer>>,
}

/// A request's turn: nobody else of the account has one until this is dropped.
pub(crate) struct Turn<'a> {
    throttle: &'a Throttle,
    waited: Duration,
    _held: tokio::sync::MutexGuard<'a, ()>,
}

impl Turn<'_> {
    /// How long it took to come.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// Takes the token, for a request that is sent now; `false` where it is gone,
    /// because the cloud has throttled the account meanwhile.
    #[must_use]
    pub(crate) fn take(self) -> bool {
        self.throttle.bucket().take(Instant::now())
    }
}

impl Throttle {
    /// A full bucket: `rate` (positive) requests a second, `burst` (at least 1)
    /// at once.
    pub fn new(rate: f64, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            turn: tokio::sync::Mutex::default(),
            bucket: Mutex::new(Bucket {
                configured: rate,
                rate,
                burst,
                tokens: burst,
                filled: Instant::now(),
                changed: None,
                observers: HashMap::new(),
            }),
        }
    }

    /// Reports the rate to `observer`, now and whenever it changes, in place of the previous
    /// observer of `name`.
    pub fn observe(&self, name: &str, observer: Arc<dyn Observer>) {
        let mut bucket = self.bucket();
        observer.rate_limit_changed(bucket.rate);
        bucket.observers.insert(name.to_owned(), observer);
    }

    /// Goes by another configuration from now on. What was learned of the cloud
    /// stays: an account that is slowed down is so by the same part of its rate,
    /// and a bucket is not filled by it.
    pub fn configure(&self, rate: f64, burst: u32) {
        let burst = f64::from(burst.max(1));
        let mut bucket = self.bucket();
        let now = Instant::now();
        bucket.fill(now);
        bucket.burst = burst;
        bucket.tokens = bucket.tokens.min(burst);
        let slowed = bucket.rate / bucket.configured;
        bucket.configured = rate;
        bucket.rate = rate * slowed;
        bucket.show();
    }

    /// Waits for one request's turn, in order of arrival, and for a token to be
    /// there. It is taken by [`Turn::take`], when nothing else keeps the request
    /// from being sent: tokens that were taken long ago would be requests that
    /// come all at once.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        let arrived = Instant::now();
        let held = self.turn.lock().await;
        loop {
            let now = Instant::now();
            let Some(ready) = self.bucket().missing(now) else {
                return Turn {
                    throttle: self,
                    waited: now - arrived,
                    _held: held,
                };
            };
            sleep_until(ready.max(now + TICK)).await;
        }
    }

    /// The cloud throttled a request sent at `sent`: halves the rate, once for
    /// all requests that were on their way then, empties the bucket, and lets
    /// nothing through for `pause`. The new rate, where it has changed.
    pub fn throttled(&self, sent: Instant, pause: Duration) -> Option<f64> {
        let mut bucket = self.bucket();
        let now = Instant::now();
        bucket.fill(now);
        bucket.tokens = 0.0;
        bucket.filled = bucket.filled.max(now + pause);
        if bucket.changed.is_some_and(|changed| sent < changed) {
            return None;
        }
        let slower = (bucket.rate / 2.0).max(bucket.configured * FLOOR);
        bucket.change(slower, now);
        Some(slower)
    }

    /// The cloud answered a request without throttling it.
    pub(crate) fn passed(&self) {
        let mut bucket = self.bucket();
        let now = Instant::now();
        if bucket.rate < bucket.configured
            && bucket
                .changed
                .is_none_or(|changed| now.saturating_duration_since(changed) >= RECOVERY)
        {
            let faster = (bucket.rate + bucket.configured * STEP).min(bucket.configured);
            bucket.change(faster, now);
        }
    }

    /// Requests a second in force.
    pub fn rate(&self) -> f64 {
        self.bucket().rate
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + since.as_secs_f64() * self.rate).min(self.burst);
        self.filled = self.filled.max(now);
    }

    /// When there should be a token; `None` where there is one.
    fn missing(&mut self, now: Instant) -> Option<Instant> {
        self.fill(now);
        if self.tokens >= 1.0 {
            return None;
        }
        let missing = Duration::from_secs_f64(((1.0 - self.tokens) / self.rate).min(LONGEST));
        Some(self.filled + missing)
    }

    fn take(&mut self, now: Instant) -> bool {
        let there = self.missing(now).is_none();
        if there {
            self.tokens -= 1.0;
        }
        there
    }

    fn change(&mut self, rate: f64, now: Instant) {
        // What was earned until now was earned at the old rate.
        self.fill(now);
        self.rate = rate;
        self.changed = Some(now);
        self.show();
    }

    fn show(&self) {
        for observer in self.observers.values() {
            observer.rate_limit_changed(self.rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::{advance, timeout};

    use super::*;

    /// The rate that was last reported.
    #[derive(Default)]
    struct Reported(Mutex<f64>);

    impl Reported {
        fn get(&self) -> f64 {
            *self.0.lock().expect("not poisoned")
        }
    }

    impl Observer for Reported {
        fn rate_limit_changed(&self, requests_per_second: f64) {
            *self.0.lock().expect("not poisoned") = requests_per_second;
        }
    }

    /// Waits for a token, takes it, and tells how long that took.
    async fn acquire(throttle: &Throttle) -> Duration {
        let turn = throttle.turn().await;
        let waited = turn.waited();
        assert!(turn.take());
        waited
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let throttle = Throttle::new(5.0, 3);
        let start = Instant::now();
        let mut passed = Vec::new();
        for _ in 0..6 {
            acquire(&throttle).await;
            passed.push(start.elapsed());
        }
        // A token each 200 ms, the timer may be one millisecond late.
        assert_eq!(passed[..3], [ms(0); 3]);
        for (index, expected) in [(3, ms(200)), (4, ms(400)), (5, ms(600))] {
            assert!(
                (expected..=expected + ms(3)).contains(&passed[index]),
                "{passed:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_fills_no_bucket() {
        let throttle = Throttle::new(5.0, 3);
        for _ in 0..3 {
            acquire(&throttle).await;
        }
        throttle.configure(10.0, 8);
        // A token each 100 ms from now on.
        let waited = acquire(&throttle).await;
        assert!((ms(100)..=ms(103)).contains(&waited), "{waited:?}");
        advance(Duration::from_secs(60)).await;
        throttle.configure(1.0, 2);
        assert_eq!(acquire(&throttle).await, ms(0));
        assert_eq!(acquire(&throttle).await, ms(0));
        let waited = acquire(&throttle).await;
        assert!((ms(1_000)..=ms(1_003)).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_bucket_keeps_no_more_than_the_burst() {
        let throttle = Throttle::new(5.0, 2);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(acquire(&throttle).await, ms(0));
        assert_eq!(acquire(&throttle).await, ms(0));
        assert!(acquire(&throttle).await >= ms(200));
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_in_order_of_arrival() {
        let throttle = Arc::new(Throttle::new(10.0, 1));
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiters = tokio::task::JoinSet::new();
        for index in 0..20 {
            let (throttle, order) = (Arc::clone(&throttle), Arc::clone(&order));
            waiters.spawn(async move {
                acquire(&throttle).await;
                order.lock().expect("not poisoned").push(index);
            });
            // Lets the task reach the queue before the next one does.
            tokio::task::yield_now().await;
        }
        waiters.join_all().await;
        assert_eq!(
            *order.lock().expect("not poisoned"),
            (0..20).collect::<Vec<_>>()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_takes_no_token() {
        let throttle = Throttle::new(1.0, 1);
        let start = Instant::now();
        acquire(&throttle).await;
        for _ in 0..9 {
            assert!(timeout(ms(100), acquire(&throttle)).await.is_err());
        }
        acquire(&throttle).await;
        let elapsed = start.elapsed();
        assert!((ms(1000)..ms(1010)).contains(&elapsed), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_to_send_takes_its_token_then_and_keeps_the_others_waiting() {
        let throttle = Throttle::new(5.0, 2);
        let turn = throttle.turn().await;
        assert!(timeout(ms(1_000), throttle.turn()).await.is_err());
        assert!(turn.take());
        assert_eq!(acquire(&throttle).await, ms(0));
        assert!((ms(200)..=ms(203)).contains(&acquire(&throttle).await));
        // Given back unused, it costs nothing.
        drop(throttle.turn().await);
        assert_eq!(throttle.turn().await.waited(), ms(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_gone_once_the_cloud_has_throttled() {
        let throttle = Throttle::new(5.0, 2);
        let turn = throttle.turn().await;
        throttle.throttled(Instant::now(), Duration::ZERO);
        assert!(!turn.take());
        // At half the rate.
        assert!((ms(400)..=ms(403)).contains(&acquire(&throttle).await));
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_the_rate_once_for_what_was_on_its_way() {
        let throttle = Throttle::new(8.0, 8);
        let sent = Instant::now();
        advance(ms(50)).await;
        for _ in 0..8 {
            throttle.throttled(sent, Duration::ZERO);
        }
        assert!((throttle.rate() - 4.0).abs() < 1e-9);
        // The burst is gone: the next one waits for a token at the new rate.
        assert!((ms(250)..ms(254)).contains(&acquire(&throttle).await));
        throttle.throttled(Instant::now(), Duration::ZERO);
        assert!((throttle.rate() - 2.0).abs() < 1e-9);
        for _ in 0..20 {
            advance(ms(1)).await;
            throttle.throttled(Instant::now(), Duration::ZERO);
        }
        // 8/64, and no less.
        assert!((throttle.rate() - 0.125).abs() < 1e-9);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_recovers_by_a_tenth_each_ten_seconds_of_success() {
        let throttle = Throttle::new(10.0, 1);
        let reported = Arc::new(Reported::default());
        throttle.observe("one", Arc::clone(&reported) as _);
        assert!((reported.get() - 10.0).abs() < 1e-9);
        throttle.throttled(Instant::now(), Duration::ZERO);
        assert!((reported.get() - 5.0).abs() < 1e-9);
        for (seconds, expected) in [(9, 5.0), (1, 6.0), (5, 6.0), (5, 7.0)] {
            advance(Duration::from_secs(seconds)).await;
            throttle.passed();
            throttle.passed();
            assert!(
                (reported.get() - expected).abs() < 1e-9,
                "{}",
                reported.get()
            );
        }
        for _ in 0..10 {
            advance(Duration::from_secs(10)).await;
            throttle.passed();
        }
        assert!((reported.get() - 10.0).abs() < 1e-9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_pauses_everyone_even_who_already_waits() {
        let throttle = Arc::new(Throttle::new(1.0, 1));
        acquire(&throttle).await;
        let start = Instant::now();
        let waiter = tokio::spawn({
            let throttle = Arc::clone(&throttle);
            async move {
                acquire(&throttle).await;
                Instant::now()
            }
        });
        advance(ms(500)).await;
        throttle.throttled(start, ms(10_000));
        // Nothing until 10.5 s, then a token at half the rate.
        let passed = waiter.await.expect("no panic") - start;
        assert!((ms(12_500)..ms(12_505)).contains(&passed), "{passed:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_window_holds_more_than_burst_and_rate_allow(
            rate in 0.5..50.0f64,
            burst in 1u32..10,
            gaps in prop::collection::vec((0u64..400, 0u8..8), 1..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime");
            let passed = runtime.block_on(async {
                let throttle = Throttle::new(rate, burst);
                let start = Instant::now();
                let mut passed = Vec::new();
                for (gap, event) in gaps {
                    advance(ms(gap)).await;
                    acquire(&throttle).await;
                    passed.push(start.elapsed().as_secs_f64());
                    match event {
                        0 => drop(throttle.throttled(Instant::now(), ms(gap))),
                        1 => {
                            // Another waiter that perhaps gives up half-way.
                            if timeout(ms(gap), acquire(&throttle)).await.is_ok() {
                                passed.push(start.elapsed().as_secs_f64());
                            }
                        }
                        _ => throttle.passed(),
                    }
                }
                passed
            });
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let count = f64::from(u32::try_from(last - first + 1).expect("few"));
                    prop_assert!(count <= f64::from(burst) + rate * (to - from) + 1e-6);
                }
            }
        }
    }
}
