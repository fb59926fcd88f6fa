//! When a task is polled next. Pure: time comes in as an argument.

use std::time::Duration;

use alibaba_cloud::clock::Moment;
use tokio::time::Instant;

use crate::shard::stable_hash;

/// The window of the first retry after a failure that may pass by itself.
const BACKOFF: Duration = Duration::from_secs(5);
/// A retry follows no sooner, unless the interval itself is shorter.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// A clock that is off by less between two looks has not jumped: NTP steps that far.
const JUMP_MIN_MS: u64 = 3_000;
/// What a jump has made due is spread over so long.
const AFTER_JUMP: Duration = Duration::from_secs(5);

/// The interval in force after a successful poll: `base` while the task can
/// change by itself and after each change, then twice as long each time, up
/// to `longest`.
pub fn interval_in_force(
    base: Duration,
    longest: Duration,
    previous: Duration,
    finished: bool,
    changed: bool,
) -> Duration {
    if !finished || changed {
        return base;
    }
    previous.saturating_mul(2).min(longest.max(base)).max(base)
}

/// A number in 0..1 that is always the same for one task, so that tasks
/// spread over their interval and keep their place in it across restarts.
pub fn spread(instance_id: &str, task_id: &str) -> f64 {
    let hash = stable_hash(&[instance_id, task_id]);
    f64::from(u32::try_from(hash >> 32).unwrap_or(u32::MAX)) / (f64::from(u32::MAX) + 1.0)
}

/// The due time after a poll that was due at `due` and has ended at `now`,
/// and how many polls were skipped because they would have begun before that.
///
/// Tasks at their base interval keep to a fixed beat, whatever a poll takes;
/// the first beat comes early by up to a half, which pulls apart what the
/// start has bunched. Longer intervals count from the poll's end; those that
/// have just grown are shortened by up to a tenth for the same reason.
pub fn next_due(beat: Beat, due: Instant, now: Instant, spread: f64) -> (Instant, u64) {
    match beat {
        Beat::First(interval) => (now + interval.mul_f64(0.5 + spread / 2.0), 0),
        Beat::Steady(interval) => {
            let mut next = due + interval;
            let mut skipped = 0;
            if next <= now {
                let late = (now - next).as_nanos() / interval.as_nanos().max(1);
                skipped = u64::try_from(late).unwrap_or(u64::MAX).saturating_add(1);
                let whole = u32::try_from(skipped).unwrap_or(u32::MAX);
                next += interval.saturating_mul(whole);
            }
            (next, skipped)
        }
        Beat::Growing(interval) => (now + interval.mul_f64(1.0 - spread / 10.0), 0),
        Beat::Resting(interval) => (now + interval, 0),
        Beat::Retry(delay) => (now + delay, 0),
    }
}

/// How long the task itself is left alone after it could not be read, having
/// failed `failures` times before: half an interval, so that the next poll asks
/// again, then ever longer. Its rows are polled all the same.
pub fn task_pause(failures: u32, interval: Duration, longest: Duration) -> Duration {
    pause(failures.saturating_add(1), interval / 2, longest)
}

/// How long a run that is followed is left alone after it could not be read
/// `failures` (1, 2, …) times in a row, for a reason that does not pass by
/// itself: ever longer, since there may be thousands of them.
pub fn pause(failures: u32, interval: Duration, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    interval
        .saturating_mul(1 << doublings)
        .min(longest.max(interval))
}

/// Which rule gives the next due time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// After the very first poll.
    First(Duration),
    /// At the base interval.
    Steady(Duration),
    /// A finished task whose interval has just changed.
    Growing(Duration),
    /// A finished task at its longest interval.
    Resting(Duration),
    /// After a failure that may pass by itself.
    Retry(Duration),
}

/// The delay before the next try after `failures` (1, 2, …) in a row: full
/// jitter (`random` in 0..1) over a window that doubles, never longer than the
/// interval in force.
pub fn backoff(failures: u32, interval: Duration, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let window = BACKOFF.saturating_mul(1 << doublings).min(interval);
    window.mul_f64(random).max(BACKOFF_MIN.min(interval))
}

/// Compares the clocks with tokio's time, which stands still while the machine is
/// suspended or paused and does not follow the wall clock.
#[derive(Debug)]
pub struct Jumps {
    now: Instant,
    moment: Moment,
}

/// How far the clocks have moved beyond tokio's time between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Milliseconds, negative if the wall clock was set back.
    pub wall_ms: i64,
    /// Milliseconds.
    pub steady_ms: i64,
}

impl Jump {
    /// The time that has passed without tokio's clock counting it. A paused virtual
    /// machine learns it from the wall clock alone, once that is corrected.
    pub fn uncounted(self) -> Duration {
        let millis = self.wall_ms.max(self.steady_ms);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

impl Jumps {
    /// Begins to compare.
    pub fn new(now: Instant, moment: Moment) -> Self {
        Self { now, moment }
    }

    /// What has jumped since the last look.
    pub fn look(&mut self, now: Instant, moment: Moment) -> Option<Jump> {
        let before = std::mem::replace(self, Self { now, moment });
        let counted = now.saturating_duration_since(before.now).as_millis();
        let counted = i64::try_from(counted).unwrap_or(i64::MAX);
        let beyond = |now_ms: i64, before_ms: i64| {
            let passed = now_ms.saturating_sub(before_ms);
            passed.saturating_sub(counted)
        };
        let jump = Jump {
            wall_ms: beyond(moment.wall_ms, before.moment.wall_ms),
            steady_ms: beyond(moment.steady_ms, before.moment.steady_ms),
        };
        let off = jump
            .wall_ms
            .unsigned_abs()
            .max(jump.steady_ms.unsigned_abs());
        (off >= JUMP_MIN_MS).then_some(jump)
    }
}

/// The due time after `uncounted` time has passed, and whether that has made the
/// poll due, so that it follows within seconds.
pub fn after_jump(due: Instant, now: Instant, uncounted: Duration, spread: f64) -> (Instant, bool) {
    let wait = due.saturating_duration_since(now);
    match wait.checked_sub(uncounted) {
        // It was due already.
        _ if wait.is_zero() => (due, false),
        Some(left) if !left.is_zero() => (now + left, false),
        _ => (now + AFTER_JUMP.mul_f64(spread).min(wait), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_finished_task_is_polled_after_the_interval_then_ever_more_rarely() {
        let next = |previous, changed| {
            interval_in_force(secs(60), secs(3600), secs(previous), true, changed).as_secs()
        };
        assert_eq!(next(60, true), 60);
        assert_eq!(next(60, false), 120);
        assert_eq!(next(120, false), 240);
        assert_eq!(next(1920, false), 3600);
        assert_eq!(next(3600, false), 3600);
        assert_eq!(next(3600, true), 60);
    }

    #[test]
    fn a_task_that_can_change_keeps_its_interval() {
        let interval = interval_in_force(secs(60), secs(3600), secs(960), false, false);
        assert_eq!(interval, secs(60));
    }

    #[test]
    fn an_interval_above_the_longest_stays_as_it_is() {
        let interval = interval_in_force(secs(7200), secs(3600), secs(7200), true, false);
        assert_eq!(interval, secs(7200));
    }

    #[test]
    fn the_spread_is_stable_and_covers_the_range() {
        let spreads: Vec<f64> = (0..1000)
            .map(|n| spread("cri-a", &format!("crast-{n}")))
            .collect();
        assert!(spreads.iter().all(|spread| (0.0..1.0).contains(spread)));
        for tenth in 0..10 {
            let low = f64::from(tenth) / 10.0;
            let inside = spreads
                .iter()
                .filter(|spread| (low..low + 0.1).contains(*spread))
                .count();
            assert!((50..=150).contains(&inside), "{inside} of 1000 in {low}");
        }
        let again = spread("cri-a", "crast-7");
        assert!((again - spreads[7]).abs() < f64::EPSILON);
        // Where the id ends matters.
        assert!((spread("a", "bc") - spread("ab", "c")).abs() > f64::EPSILON);
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_is_kept_whatever_a_poll_takes() {
        let start = Instant::now();
        let after = |due, now| {
            let (next, skipped) = next_due(
                Beat::Steady(secs(60)),
                start + secs(due),
                start + secs(now),
                0.9,
            );
            ((next - start).as_secs(), skipped)
        };
        assert_eq!(after(0, 3), (60, 0));
        assert_eq!(after(60, 119), (120, 0));
        assert_eq!(after(60, 120), (180, 1));
        assert_eq!(after(60, 200), (240, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_beat_comes_early_and_growing_rests_are_shortened() {
        let now = Instant::now();
        let millis = |beat, spread| (next_due(beat, now, now, spread).0 - now).as_millis();
        assert_eq!(millis(Beat::First(secs(60)), 0.0), 30_000);
        assert_eq!(millis(Beat::First(secs(60)), 0.5), 45_000);
        assert_eq!(millis(Beat::Growing(secs(3600)), 0.0), 3_600_000);
        assert_eq!(millis(Beat::Growing(secs(3600)), 0.5), 3_420_000);
        assert_eq!(millis(Beat::Resting(secs(3600)), 0.5), 3_600_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_jump_is_what_a_clock_moves_beyond_tokios_time() {
        let start = Instant::now();
        let moment = |wall_ms, steady_ms| Moment { wall_ms, steady_ms };
        let mut jumps = Jumps::new(start, moment(0, 0));
        let mut look =
            |now, wall_ms, steady_ms| jumps.look(start + secs(now), moment(wall_ms, steady_ms));
        assert_eq!(look(5, 5_000, 5_000), None);
        assert_eq!(look(10, 12_999, 10_000), None);
        assert_eq!(look(15, 15_000, 15_000), None);
        // A suspend of 100 s.
        let jump = look(20, 120_000, 120_000).unwrap();
        assert_eq!((jump.wall_ms, jump.steady_ms), (100_000, 100_000));
        assert_eq!(jump.uncounted(), secs(100));
        assert_eq!(look(20, 120_000, 120_000), None);
        // The wall clock is corrected, or set back.
        assert_eq!(look(20, 123_000, 120_000).unwrap().uncounted(), secs(3));
        assert_eq!(look(20, 20_000, 120_000).unwrap().uncounted(), secs(0));
        assert_eq!(look(20, 20_000, 120_000), None);
        // Both at once.
        let jump = look(20, i64::MIN, 220_000).unwrap();
        assert_eq!(jump.uncounted(), secs(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_jump_makes_due_what_would_have_been_and_moves_the_rest() {
        let now = Instant::now() + secs(1_000);
        let after = |due: Instant, uncounted, spread| {
            let (due, is_due) = after_jump(due, now, secs(uncounted), spread);
            let wait = due.saturating_duration_since(now).as_millis();
            (wait, is_due)
        };
        assert_eq!(after(now + secs(60), 100, 0.5), (2_500, true));
        assert_eq!(after(now + secs(60), 60, 0.0), (0, true));
        assert_eq!(after(now + secs(60), 59, 0.5), (1_000, false));
        assert_eq!(after(now + secs(60), 0, 0.5), (60_000, false));
        // Never later than it was.
        assert_eq!(after(now + secs(1), 100, 0.5), (1_000, true));
        assert_eq!(after(now, 100, 0.5), (0, false));
        let past = now - secs(10);
        assert_eq!(after_jump(past, now, secs(100), 0.5), (past, false));
    }

    #[test]
    fn a_task_that_cannot_be_read_is_asked_for_ever_more_rarely() {
        let pause = |failures| task_pause(failures, secs(60), secs(3_600)).as_secs();
        assert_eq!(
            [0, 1, 2, 3, 7, 40].map(pause),
            [30, 60, 120, 240, 3_600, 3_600]
        );
    }

    #[test]
    fn backoff_doubles_its_window_and_stays_below_the_interval() {
        let window = |failures| backoff(failures, secs(60), 1.0).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 40].map(window), [5, 10, 20, 40, 60, 60]);
        assert_eq!(backoff(3, secs(60), 0.5), secs(10));
        assert_eq!(backoff(3, secs(60), 0.0), secs(1));
        assert_eq!(backoff(9, Duration::from_millis(300), 0.0).as_millis(), 300);
    }
}
