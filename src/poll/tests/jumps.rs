//! Suspends, paused machines and steps of the wall clock.

use super::*;
use crate::model::{Assessment, Folded};

const HOUR: u64 = 3_600;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;
/// The scheduler looks every 5 s and spreads over 5 s; two polls at a time take
/// 0.1 s each.
const SOON: u64 = 11;

/// Ten tasks that are finished, each polled once an hour by now: fresh for three.
const RESTING: [(&str, usize); 10] = [
    ("crast-0", 0),
    ("crast-1", 0),
    ("crast-2", 0),
    ("crast-3", 0),
    ("crast-4", 0),
    ("crast-5", 0),
    ("crast-6", 0),
    ("crast-7", 0),
    ("crast-8", 0),
    ("crast-9", 0),
];
/// One that runs: polled once a minute, fresh for five.
const RUNNING: (&str, usize) = ("crast-run", 1);

fn all() -> Vec<(&'static str, usize)> {
    RESTING.into_iter().chain([RUNNING]).collect()
}

fn well(task: &str) -> (Duration, Result<Vec<Row>, SourceError>) {
    if task == RUNNING.0 {
        running()
    } else {
        finished("SUCCESS")
    }
}

impl Bench {
    fn is_fresh(&self, task: &str) -> bool {
        let snapshot = self.store.snapshot();
        let now = self.clock.steady_millis();
        snapshot.fresh(&self.entry(task), now).is_some()
    }

    fn fresh(&self) -> usize {
        let snapshot = self.store.snapshot();
        let ids = snapshot.entries().iter().map(|it| &*it.target.task_id);
        ids.filter(|id| self.is_fresh(id)).count()
    }

    /// Polls since `from`, one list for each resting task.
    fn polls_since(&self, from: Instant) -> Vec<Vec<f64>> {
        let from = (from - self.source.start).as_secs_f64();
        let times = |(id, _): &(&str, usize)| {
            let times = self.source.times(Call::Rows, id).into_iter();
            times.filter(|at| *at >= from).collect()
        };
        RESTING.iter().map(times).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_suspend_stale_data_is_dropped_and_polled_within_seconds() {
    let bench = bench(&all(), |_, task, _| well(task));
    pass(10 * HOUR).await;
    assert_eq!(bench.fresh(), 11);

    bench.clock.suspend(Duration::from_secs(4 * HOUR));
    assert_eq!(bench.fresh(), 0, "all data is older than 3 h");
    let resume = Instant::now();
    pass(SOON).await;
    assert_eq!(bench.fresh(), 11);
    let polls = bench.polls_since(resume);
    assert!(polls.iter().all(|times| times.len() == 1), "{polls:?}");
    let running = bench.source.times(Call::Rows, RUNNING.0);
    let resumed = (resume - bench.source.start).as_secs_f64();
    assert_eq!(running.iter().filter(|at| **at >= resumed).count(), 1);
    let last = bench.entry("crast-0").last_success_ms.unwrap();
    let now = bench.clock.now_millis();
    assert!((now - 11_000..=now).contains(&last), "{last} at {now}");
    // Not all at the same time.
    let firsts: Vec<f64> = polls.iter().map(|times| times[0]).collect();
    let spread = |times: &[f64]| {
        let last = times.iter().copied().fold(f64::MIN, f64::max);
        last - times.iter().copied().fold(f64::MAX, f64::min)
    };
    assert!((2.0..=5.2).contains(&spread(&firsts)), "{firsts:?}");

    // The next polls are pulled apart: half an hour to an hour later.
    pass(HOUR).await;
    let polls = bench.polls_since(resume);
    assert!(polls.iter().all(|times| times.len() == 2), "{polls:?}");
    let seconds: Vec<f64> = polls.iter().map(|times| times[1]).collect();
    assert!(spread(&seconds) > 900.0, "{seconds:?}");
    assert_eq!(bench.fresh(), 11);
}

#[tokio::test(start_paused = true)]
async fn after_a_short_suspend_each_poll_comes_when_it_was_due_by_the_clock() {
    let bench = bench(&RESTING, |_, task, _| well(task));
    pass(10 * HOUR).await;
    let mut due: Vec<(i64, usize)> = RESTING
        .iter()
        .map(|(id, _)| bench.entry(id).next_poll_ms.unwrap())
        .zip(0..)
        .collect();
    due.sort_unstable();
    // From the middle of the widest gap near the middle, so that nothing is due
    // within the seconds in which the suspend is noticed.
    let cut = (3..=7)
        .max_by_key(|cut| due[*cut].0 - due[cut - 1].0)
        .unwrap();
    let (before_ms, after_ms) = (due[cut - 1].0, due[cut].0);
    assert!(after_ms - before_ms > 60_000, "{due:?}");
    let now_ms = bench.clock.now_millis();
    let gap = (before_ms - now_ms).unsigned_abs() + 1_000;
    bench.clock.suspend(Duration::from_millis(gap));
    assert_eq!(bench.fresh(), 10, "no data is older than 2 h");
    let (resume, resumed_ms) = (Instant::now(), bench.clock.now_millis());
    pass(SOON).await;
    let polls = bench.polls_since(resume);
    for (index, (due_ms, task)) in due.iter().enumerate() {
        assert_eq!(polls[*task].len(), usize::from(index < cut), "{task}");
        if index >= cut {
            let next_ms = bench.entry(RESTING[*task].0).next_poll_ms.unwrap();
            assert!((next_ms - due_ms).abs() <= 2, "{next_ms}, {due_ms}");
        }
    }
    pass(HOUR).await;
    let polls = bench.polls_since(resume);
    for (due_ms, task) in &due[cut..] {
        #[expect(clippy::cast_precision_loss, reason = "an hour in milliseconds")]
        let wait = (due_ms - resumed_ms) as f64 / 1_000.0;
        let waited = polls[*task][0] - (resume - bench.source.start).as_secs_f64();
        assert!((waited - wait).abs() < 0.2, "{waited}, {wait}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_ends_after_the_resume_is_not_repeated() {
    let bench = bench(&[RUNNING], |_, _, _| {
        (Duration::from_secs(2), Ok(vec![row("RUNNING", "")]))
    });
    pass(1).await;
    bench.clock.suspend(Duration::from_secs(4 * HOUR));
    pass(SOON).await;
    assert_eq!(bench.source.times(Call::Rows, RUNNING.0).len(), 1);
    assert!(bench.is_fresh(RUNNING.0));
}

#[tokio::test(start_paused = true)]
async fn a_paused_machine_drops_nothing_and_polls_what_is_due_once_its_clock_is_corrected() {
    let bench = bench(&all(), |_, task, _| well(task));
    pass(10 * HOUR).await;
    bench.clock.step_wall(4 * HOUR_MS);
    assert_eq!(bench.fresh(), 11);
    let correction = Instant::now();
    for _ in 0..SOON {
        pass(1).await;
        assert_eq!(bench.fresh(), 11);
    }
    let polls = bench.polls_since(correction);
    assert!(polls.iter().all(|times| times.len() == 1), "{polls:?}");
    let now = bench.clock.now();
    assert_eq!(now.wall_ahead_ms(), 4 * HOUR_MS);
    for (id, _) in all() {
        let entry = bench.entry(id);
        let last = entry.last_success_ms.unwrap();
        assert!((now.wall_ms - 11_000..=now.wall_ms).contains(&last), "{id}");
        let next = entry.next_poll_ms.unwrap();
        let latest = now.wall_ms + HOUR_MS;
        assert!((now.wall_ms..=latest).contains(&next), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_wall_clock_set_back_data_ages_as_before() {
    let outage = Duration::from_secs(10 * HOUR);
    let bench = bench(&all(), move |_, task, now| {
        if now < outage {
            well(task)
        } else {
            fails(Reason::Forbidden)
        }
    });
    pass(10 * HOUR).await;
    let last_success = |id| bench.entry(id).last_success_ms.unwrap();
    let before = all().into_iter().map(|(id, _)| last_success(id));
    let before: Vec<i64> = before.collect();
    bench.clock.step_wall(-DAY_MS);
    for ((id, _), last_ms) in all().into_iter().zip(&before) {
        let limit_ms = if id == RUNNING.0 {
            300_000
        } else {
            3 * HOUR_MS
        };
        let snapshot = bench.store.snapshot();
        let fresh = |at| snapshot.fresh(&bench.entry(id), at).is_some();
        assert!(fresh(last_ms + limit_ms), "{id}");
        assert!(!fresh(last_ms + limit_ms + 1), "{id}");
    }
    // That is what the clock comes to.
    pass(295).await;
    assert_eq!((bench.is_fresh(RUNNING.0), bench.fresh()), (false, 10));
    pass(3 * HOUR).await;
    assert_eq!(bench.fresh(), 0);
    // Timestamps stay what the wall clock showed.
    let after = all().into_iter().map(|(id, _)| last_success(id));
    assert_eq!(after.collect::<Vec<_>>(), before);
}

#[tokio::test(start_paused = true)]
async fn steps_back_and_small_steps_change_no_poll() {
    // What is polled when, with a step every ten minutes.
    async fn polls(steps_ms: &[i64]) -> Vec<(Duration, Call, String)> {
        let bench = bench(&all(), |_, task, _| well(task));
        for step_ms in steps_ms.iter().cycle().take(24) {
            pass(600).await;
            bench.clock.step_wall(*step_ms);
        }
        bench.stop.cancel();
        bench.run.await.unwrap();
        let calls = bench.source.calls.lock().unwrap();
        calls.clone()
    }
    let undisturbed = polls(&[0]).await;
    assert!(undisturbed.len() > 240, "{}", undisturbed.len());
    assert_eq!(polls(&[2_000, -2_000]).await, undisturbed);
    assert_eq!(polls(&[2_000]).await, undisturbed);
    assert_eq!(polls(&[-DAY_MS]).await, undisturbed);
}

#[tokio::test(start_paused = true)]
async fn the_next_poll_is_shown_by_the_clock_as_it_was_set() {
    let bench = bench(&RESTING, |_, task, _| well(task));
    pass(10 * HOUR).await;
    let due = RESTING.map(|(id, _)| bench.entry(id).next_poll_ms.unwrap());
    bench.clock.step_wall(-DAY_MS);
    pass(6).await;
    for ((id, _), due_ms) in RESTING.iter().zip(due) {
        let next_ms = bench.entry(id).next_poll_ms.unwrap();
        let expected_ms = due_ms - DAY_MS;
        // Or it was due within the 6 s.
        let polled = expected_ms < bench.clock.now_millis();
        assert!(polled || (next_ms - expected_ms).abs() <= 2, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_network_after_the_resume_the_ordinary_backoff_follows() {
    let (down, up) = (10 * HOUR, 10 * HOUR + 40);
    let bench = bench(&RESTING, move |_, task, now| {
        if (down..up).contains(&now.as_secs()) {
            fails(Reason::Connect)
        } else {
            well(task)
        }
    });
    pass(down).await;
    bench.clock.suspend(Duration::from_secs(4 * HOUR));
    let resume = Instant::now();
    pass(39).await;
    assert_eq!(bench.fresh(), 0);
    for times in bench.polls_since(resume) {
        // 1 to 5 s, then at most 10, 20, 40 s.
        let waits = gaps(&times);
        let most = [5.2, 10.2, 20.2, 40.2];
        assert!(waits.iter().zip(most).all(|(wait, most)| *wait <= most));
        assert!(waits.iter().all(|wait| *wait >= 1.0), "{waits:?}");
        assert!(!waits.is_empty());
    }
    // The windows double: 160 s is more than the longest that can have begun.
    pass(160).await;
    assert_eq!(bench.fresh(), 10);
    // Pulled apart by the first poll that succeeds.
    let recovered = Instant::now();
    pass(HOUR).await;
    let polls = bench.polls_since(recovered);
    assert!(polls.iter().all(|times| !times.is_empty()), "{polls:?}");
    let early =
        |times: &&Vec<f64>| times[0] < polls[0][0] - 300.0 || times[0] > polls[0][0] + 300.0;
    assert!(polls.iter().filter(early).count() >= 3, "{polls:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_state_file_has_from_the_future_is_fresh_for_its_limit_only() {
    let target = Arc::new(Target {
        instance_id: "cri-a".into(),
        task_id: "crast-1".into(),
        task: "crast-1".into(),
        region: "".into(),
        artifacts: ArtifactSeries::All,
        origin: Origin::Configured,
    });
    let words = Words::default();
    let folded = Folded::new([row("COMPLETED", "SUCCESS")], &words);
    // The clock was set back by a day while the process was down.
    let last_ms = START_MS + DAY_MS;
    let entry = TaskEntry {
        data: Some(Assessment::new(folded, None, &words)),
        last_poll_ms: Some(last_ms),
        last_success_ms: Some(last_ms),
        next_poll_ms: Some(last_ms + HOUR_MS),
        interval: Duration::from_secs(HOUR),
        ..TaskEntry::new(Arc::clone(&target), INTERVAL)
    };
    let work = Work {
        watches: vec![Watch {
            target,
            interval: INTERVAL,
            account: 0,
            followed: None,
        }],
        state: State {
            tasks: vec![SavedTask {
                entry,
                asked_finished: true,
            }],
            ..State::default()
        },
        ..Work::default()
    };
    let bench = bench_of(work, |_, _, _| fails(Reason::Forbidden));
    let snapshot = bench.store.snapshot();
    let fresh = |at_ms| snapshot.fresh(&bench.entry("crast-1"), at_ms).is_some();
    assert!(fresh(START_MS + 3 * HOUR_MS));
    assert!(!fresh(START_MS + 3 * HOUR_MS + 1));
    // Polled after an hour, as it was planned after the last poll.
    pass(HOUR + 1).await;
    let times = bench.source.times(Call::Rows, "crast-1");
    assert_eq!(times.len(), 1, "{times:?}");
    assert!((times[0] - 3_600.0).abs() < 0.1, "{times:?}");
    assert_eq!(bench.entry("crast-1").last_success_ms, Some(last_ms));
}
