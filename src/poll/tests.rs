//! The scheduler in paused time against a scripted source: no socket, no
//! real clock, whole hours in milliseconds.

use std::sync::Mutex;

use super::*;
use crate::metrics::own::Build;
use crate::model::{Cause, Causes, ListedRun, Row, Rule, TaskInfo, TaskStatus, Words};
use crate::store::{ArtifactSeries, Limits, Origin, TaskEntry};
use crate::telemetry::capture::Log;
use alibaba_cloud::Reason;

mod jumps;

const BUILD: Build = Build {
    version: "0",
    revision: "0",
    rustversion: "0",
    target: "0",
};

const START_MS: i64 = 1_000_000;
const INTERVAL: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Rows,
    Task,
}

type Script =
    Box<dyn Fn(Call, &str, Duration) -> (Duration, Result<Vec<Row>, SourceError>) + Send + Sync>;

/// Answers by a script that sees the call, the task and the time since the start.
struct Scripted {
    start: Instant,
    script: Script,
    task: Mutex<Result<TaskInfo, SourceError>>,
    calls: Mutex<Vec<(Duration, Call, String)>>,
}

impl Scripted {
    fn note(&self, call: Call, target: &Target) -> Duration {
        let now = self.start.elapsed();
        let entry = (now, call, target.task_id.to_string());
        self.calls.lock().unwrap().push(entry);
        now
    }

    fn times(&self, call: Call, task: &str) -> Vec<f64> {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .filter(|(_, of, id)| *of == call && id == task)
            .map(|(at, ..)| at.as_secs_f64())
            .collect()
    }
}

impl Source for Scripted {
    type Budget = ();
    type Rows = Vec<Row>;

    fn budget(&self) {}

    fn listing_budget(&self, _: Duration) {}

    async fn rows(&self, target: &Target, (): &mut ()) -> Result<Vec<Row>, SourceError> {
        let now = self.note(Call::Rows, target);
        let (takes, answer) = (self.script)(Call::Rows, &target.task_id, now);
        tokio::time::sleep(takes).await;
        answer
    }

    async fn task(&self, target: &Target, (): &mut ()) -> Result<TaskInfo, SourceError> {
        self.note(Call::Task, target);
        self.task.lock().unwrap().clone()
    }

    async fn rules(&self, _: &str, (): &mut ()) -> Result<Vec<Rule>, SourceError> {
        Ok(Vec::new())
    }

    async fn runs(
        &self,
        _: &str,
        (): &mut (),
        _: impl FnMut(&[ListedRun]) -> bool + Send,
    ) -> Result<RunList, SourceError> {
        Ok(RunList {
            runs: Vec::new(),
            whole: true,
            pages: 1,
        })
    }
}

struct Bench {
    source: Arc<Scripted>,
    store: Arc<Store>,
    own: Arc<Own>,
    clock: Clock,
    tried: channel::Receiver<bool>,
    stop: CancellationToken,
    run: tokio::task::JoinHandle<()>,
}

/// Tasks given as (id, account), each polled every 60 s, at most two polls an account.
fn bench(
    tasks: &[(&str, usize)],
    script: impl Fn(Call, &str, Duration) -> (Duration, Result<Vec<Row>, SourceError>)
    + Send
    + Sync
    + 'static,
) -> Bench {
    let watches = tasks
        .iter()
        .map(|(id, account)| Watch {
            target: Arc::new(Target {
                instance_id: "cri-a".into(),
                task_id: (*id).into(),
                task: (*id).into(),
                region: "".into(),
                artifacts: ArtifactSeries::All,
                origin: Origin::Configured,
            }),
            interval: INTERVAL,
            account: *account,
            followed: None,
        })
        .collect();
    let work = Work {
        watches,
        ..Work::default()
    };
    bench_of(work, script)
}

/// The same for any work.
fn bench_of(
    work: Work,
    script: impl Fn(Call, &str, Duration) -> (Duration, Result<Vec<Row>, SourceError>)
    + Send
    + Sync
    + 'static,
) -> Bench {
    let source = Arc::new(Scripted {
        start: Instant::now(),
        script: Box::new(script),
        task: Mutex::new(Ok(TaskInfo::default())),
        calls: Mutex::default(),
    });
    let limits = Limits {
        series: 1_000,
        artifacts_per_task: 100,
        stale_after: Duration::from_secs(300),
    };
    let store = Arc::new(Store::new(limits, []));
    let own = Arc::new(Own::new(BUILD));
    let clock = Clock::of_tokio(START_MS);
    let settings = Settings {
        words: Words::default(),
        causes: Causes::default(),
        interval: INTERVAL,
        finished_interval: Duration::from_secs(3_600),
        concurrency: 2,
        instances: vec!["cri-a".into()],
        accounts: vec!["one".to_owned(), "two".to_owned()],
    };
    let (scheduler, tried) = Scheduler::new(
        Arc::clone(&source),
        Arc::clone(&store),
        Arc::clone(&own),
        clock.clone(),
        settings,
        work,
    );
    let asked = Requests::default();
    let stop = CancellationToken::new();
    Bench {
        run: tokio::spawn(scheduler.run(asked, stop.clone())),
        source,
        store,
        own,
        clock,
        tried,
        stop,
    }
}

impl Bench {
    fn entry(&self, task: &str) -> TaskEntry {
        let snapshot = self.store.snapshot();
        let mut entries = snapshot.entries().iter();
        let entry = entries.find(|entry| &*entry.target.task_id == task);
        entry.unwrap().clone()
    }

    /// A sample of the exporter's own metrics: the family's only one, or that of `label`.
    fn sample(&self, family: &str, label: Option<&str>) -> f64 {
        let families = self.own.gather();
        let family = families.iter().find(|one| one.name() == family).unwrap();
        let metric = family.get_metric().iter().find(|metric| {
            label.is_none_or(|value| metric.get_label().iter().any(|pair| pair.value() == value))
        });
        let metric = metric.unwrap();
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }
}

fn row(status: &str, result: &str) -> Row {
    Row {
        tag: "1".into(),
        status: status.into(),
        result: result.into(),
        start_ms: Some(1_000),
        end_ms: (status == "COMPLETED").then_some(2_000),
        ..Row::default()
    }
}

fn running() -> (Duration, Result<Vec<Row>, SourceError>) {
    (Duration::from_millis(100), Ok(vec![row("RUNNING", "")]))
}

fn finished(result: &str) -> (Duration, Result<Vec<Row>, SourceError>) {
    (
        Duration::from_millis(100),
        Ok(vec![row("COMPLETED", result)]),
    )
}

fn fails(reason: Reason) -> (Duration, Result<Vec<Row>, SourceError>) {
    let error = SourceError {
        reason,
        text: format!("it is {reason}"),
    };
    (Duration::from_millis(100), Err(error))
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn gaps(times: &[f64]) -> Vec<f64> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_running_task_is_polled_at_its_interval() {
    let bench = bench(&[("crast-1", 0)], |_, _, _| running());
    pass(3_600).await;
    let times = bench.source.times(Call::Rows, "crast-1");
    let gaps = gaps(&times);
    assert!((29.9..=60.2).contains(&gaps[0]), "{}", gaps[0]);
    // One beat is 60 s after the other; timers tick in milliseconds.
    assert!(
        gaps[1..].iter().all(|gap| (gap - 60.0).abs() < 0.01),
        "{gaps:?}"
    );
    assert!((60..=61).contains(&times.len()), "{}", times.len());
    assert_eq!(bench.entry("crast-1").interval, Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_finished_task_is_polled_ever_more_rarely_until_it_changes() {
    let flip = Duration::from_secs(20_000);
    let bench = bench(&[("crast-1", 0)], move |_, _, now| {
        finished(if now < flip { "FAILED" } else { "SUCCESS" })
    });
    pass(19_000).await;
    let times = bench.source.times(Call::Rows, "crast-1");
    // Shortened by up to a tenth, and the first by up to a half.
    let expected = [
        60.0, 120.0, 240.0, 480.0, 960.0, 1_920.0, 3_600.0, 3_600.0, 3_600.0,
    ];
    let seen = gaps(&times);
    for (index, (gap, full)) in seen.iter().zip(expected).enumerate() {
        let shortest = if index == 0 { 0.5 } else { 0.9 };
        assert!(
            (full * shortest..=full + 0.2).contains(gap),
            "gap {index} is {gap}, not {full}"
        );
    }
    assert!((8..=10).contains(&seen.len()), "{seen:?}");
    let before = bench.entry("crast-1");
    assert_eq!(before.interval, Duration::from_secs(3_600));
    assert_eq!(before.data.as_ref().unwrap().status, TaskStatus::Failed);

    // The flip is noticed within the longest interval and brings the short one back.
    pass(1_000 + 3_600).await;
    let after = bench.entry("crast-1");
    assert_eq!(after.data.as_ref().unwrap().status, TaskStatus::Succeeded);
    assert!(after.interval < Duration::from_secs(3_600));
}

#[tokio::test(start_paused = true)]
async fn the_task_itself_is_asked_at_first_sight_and_when_the_last_row_finishes() {
    let bench = bench(&[("crast-1", 0)], |_, _, now| {
        if now < Duration::from_secs(200) {
            running()
        } else {
            finished("FAILED")
        }
    });
    pass(190).await;
    assert_eq!(bench.source.times(Call::Task, "crast-1").len(), 1);
    *bench.source.task.lock().unwrap() = Ok(TaskInfo {
        result: "FAILED".into(),
        message: "pull rate limit".into(),
        ..TaskInfo::default()
    });
    pass(3_600).await;
    assert_eq!(bench.source.times(Call::Task, "crast-1").len(), 2);
    let entry = bench.entry("crast-1");
    assert_eq!(entry.info.as_ref().unwrap().message, "pull rate limit");
}

#[tokio::test(start_paused = true)]
async fn the_task_itself_is_asked_while_its_vote_differs() {
    let bench = bench(&[("crast-1", 0)], |_, _, _| finished("SUCCESS"));
    *bench.source.task.lock().unwrap() = Ok(TaskInfo {
        status: "RUNNING".into(),
        ..TaskInfo::default()
    });
    pass(600).await;
    let polls = bench.source.times(Call::Rows, "crast-1").len();
    assert!(polls >= 10, "still running, so polled at its interval");
    assert_eq!(bench.source.times(Call::Task, "crast-1").len(), polls);
    let status = || bench.entry("crast-1").data.as_ref().unwrap().status;
    assert_eq!(status(), TaskStatus::Running);

    *bench.source.task.lock().unwrap() = Ok(TaskInfo::default());
    pass(60).await;
    assert_eq!(status(), TaskStatus::Succeeded);
    let asked = bench.source.times(Call::Task, "crast-1").len();
    pass(3_600).await;
    assert_eq!(bench.source.times(Call::Task, "crast-1").len(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_task_without_rows_that_the_api_does_not_know_is_not_found() {
    let rows_at = Duration::from_secs(4_000);
    let bench = bench(&[("crast-1", 0)], move |_, _, now| {
        if now < rows_at {
            (Duration::from_millis(100), Ok(Vec::new()))
        } else {
            running()
        }
    });
    *bench.source.task.lock().unwrap() = Err(SourceError {
        reason: Reason::NotFound,
        text: "the API knows no task with this id".into(),
    });
    pass(3_900).await;
    let entry = bench.entry("crast-1");
    assert_eq!(entry.up(), Some(false));
    let error = entry.error.as_ref().expect("the id is gone");
    assert_eq!(error.reason, Reason::NotFound);
    assert_eq!(error.text, "the API knows no task with this id");
    assert_eq!(entry.data, None);
    // It stays gone between two questions for the task itself, which become rare:
    // after 30, 60, 120, … s, each at the next poll.
    let polls = bench.source.times(Call::Rows, "crast-1").len();
    assert!((64..=67).contains(&polls), "{polls}");
    let asked = bench.source.times(Call::Task, "crast-1").len();
    assert!((7..=9).contains(&asked), "{asked}");
    let label = Some("not_found");
    let failures = bench.sample("aliyun_acr_exporter_poll_failures_total", label);
    assert!((failures - f64::from(u32::try_from(polls).unwrap())).abs() < 0.5);

    pass(220).await;
    let entry = bench.entry("crast-1");
    assert_eq!(entry.up(), Some(true), "its rows prove that it is there");
    assert_eq!(entry.data.as_ref().unwrap().status, TaskStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn an_outage_makes_no_other_failure_of_an_id_that_is_gone() {
    let outage = Duration::from_secs(2_000)..Duration::from_secs(2_100);
    let during = outage.clone();
    let bench = bench(&[("crast-1", 0)], move |_, _, now| {
        if during.contains(&now) {
            fails(Reason::Connect)
        } else {
            (Duration::from_millis(100), Ok(Vec::new()))
        }
    });
    let task = |reason| {
        Err(SourceError {
            reason,
            text: format!("it is {reason:?}"),
        })
    };
    *bench.source.task.lock().unwrap() = task(Reason::NotFound);
    let reason = || bench.entry("crast-1").error.as_ref().map(|it| it.reason);
    pass(1_990).await;
    assert_eq!(reason(), Some(Reason::NotFound));
    // The next questions for the task itself time out, as its rows do before.
    *bench.source.task.lock().unwrap() = task(Reason::Timeout);
    pass(60).await;
    assert_eq!(reason(), Some(Reason::Connect));
    // The last backoff ends within an interval.
    pass(110).await;
    for _ in 0..120 {
        pass(60).await;
        let entry = bench.entry("crast-1");
        assert_eq!(
            entry.error.as_ref().map(|it| it.reason),
            Some(Reason::NotFound)
        );
        assert_eq!(entry.data, None);
    }
    let asked = bench.source.times(Call::Task, "crast-1");
    assert!(
        asked.iter().any(|at| *at > outage.end.as_secs_f64()),
        "{asked:?}"
    );

    // It is there after all.
    *bench.source.task.lock().unwrap() = Ok(TaskInfo::default());
    pass(3_700).await;
    assert_eq!(reason(), None);
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_has_the_cause_that_its_message_names() {
    let bench = bench(&[("crast-1", 0)], |_, _, _| finished("FAILED"));
    *bench.source.task.lock().unwrap() = Ok(TaskInfo {
        result: "FAILED".into(),
        message: "manifest unknown".into(),
        ..TaskInfo::default()
    });
    pass(10).await;
    assert_eq!(bench.entry("crast-1").cause, Some(Cause::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_did_not_fail_has_no_cause() {
    let bench = bench(&[("crast-1", 0)], |_, _, _| finished("SUCCESS"));
    *bench.source.task.lock().unwrap() = Ok(TaskInfo {
        result: "SUCCESS".into(),
        message: "manifest unknown".into(),
        ..TaskInfo::default()
    });
    pass(10).await;
    assert_eq!(bench.entry("crast-1").cause, None);
}

#[tokio::test(start_paused = true)]
async fn a_denied_task_operation_leaves_the_rows_alone() {
    let bench = bench(&[("crast-1", 0)], |_, _, _| finished("SUCCESS"));
    *bench.source.task.lock().unwrap() = Err(SourceError {
        reason: Reason::Forbidden,
        text: "no".into(),
    });
    pass(70).await;
    let entry = bench.entry("crast-1");
    assert_eq!(entry.up(), Some(true));
    assert_eq!(entry.data.as_ref().unwrap().status, TaskStatus::Succeeded);
    assert_eq!(entry.info, None);
    assert_eq!(entry.task_error, Some(Reason::Forbidden));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_becomes_denied_loses_its_vote_and_keeps_its_labels() {
    let bench = bench(&[("crast-1", 0)], |_, _, _| finished("SUCCESS"));
    *bench.source.task.lock().unwrap() = Ok(TaskInfo {
        result: "FAILED".into(),
        source_provider: "QUAY".into(),
        ..TaskInfo::default()
    });
    pass(10).await;
    let status = || bench.entry("crast-1").data.as_ref().unwrap().status;
    assert_eq!(status(), TaskStatus::Failed);
    *bench.source.task.lock().unwrap() = Err(SourceError {
        reason: Reason::Forbidden,
        text: "no".into(),
    });
    pass(60).await;
    assert_eq!(status(), TaskStatus::Succeeded);
    let entry = bench.entry("crast-1");
    assert_eq!(entry.info.as_ref().unwrap().source_provider, "QUAY");
}

#[tokio::test(start_paused = true)]
async fn one_failing_task_leaves_the_others_untouched_and_keeps_its_old_data() {
    let bench = bench(&[("crast-1", 0), ("crast-2", 0)], |_, task, now| {
        if task == "crast-1" && now > Duration::from_secs(30) {
            fails(Reason::Forbidden)
        } else {
            running()
        }
    });
    pass(121).await;
    let broken = bench.entry("crast-1");
    assert_eq!(broken.up(), Some(false));
    let error = broken.error.as_ref().unwrap();
    assert_eq!(
        (error.reason, error.text.as_str()),
        (Reason::Forbidden, "it is forbidden")
    );
    assert_eq!(broken.last_success_ms, Some(START_MS + 100));
    assert!(broken.last_poll_ms > Some(START_MS + 61_000));
    assert_eq!(broken.data.as_ref().unwrap().status, TaskStatus::Running);
    let fine = bench.entry("crast-2");
    assert_eq!(fine.up(), Some(true));
    assert!(fine.last_success_ms > Some(START_MS + 61_000));
    let failures = bench.sample("aliyun_acr_exporter_poll_failures_total", Some("forbidden"));
    assert!((2.0..=3.0).contains(&failures), "{failures}");
}

#[tokio::test(start_paused = true)]
async fn passing_failures_are_retried_sooner_with_growing_gaps_others_at_the_interval() {
    let bench = bench(&[("crast-1", 0), ("crast-2", 1)], |_, task, _| {
        fails(if task == "crast-1" {
            Reason::Server
        } else {
            Reason::Forbidden
        })
    });
    pass(3_600).await;
    let passing = gaps(&bench.source.times(Call::Rows, "crast-1"));
    assert!(passing[0] <= 5.2, "{passing:?}");
    assert!(
        passing.iter().all(|gap| (1.0..=60.2).contains(gap)),
        "{passing:?}"
    );
    let lasting = gaps(&bench.source.times(Call::Rows, "crast-2"));
    assert!(
        lasting[1..].iter().all(|gap| (gap - 60.0).abs() < 0.2),
        "{lasting:?}"
    );
    assert_eq!(bench.entry("crast-1").interval, Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_outlasts_its_interval_is_never_doubled_and_the_rest_is_counted() {
    let bench = bench(&[("crast-1", 0)], |_, _, _| {
        (Duration::from_secs(150), Ok(vec![row("RUNNING", "")]))
    });
    pass(1_000).await;
    let times = bench.source.times(Call::Rows, "crast-1");
    // Each takes 150 s of a 60 s beat: two beats are skipped, the third begins.
    let gaps = gaps(&times);
    assert!(
        gaps[1..].iter().all(|gap| (gap - 180.0).abs() < 0.01),
        "{gaps:?}"
    );
    let skipped = bench.sample("aliyun_acr_exporter_polls_skipped_total", None);
    let finished = bench.sample("aliyun_acr_exporter_polls_total", None);
    assert!(
        (skipped - 2.0 * (finished - 1.0)).abs() < f64::EPSILON,
        "{skipped} {finished}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_slow_account_holds_up_nobody_but_itself_and_its_lag_is_told() {
    let tasks = [
        ("crast-1", 0),
        ("crast-2", 0),
        ("crast-3", 0),
        ("crast-4", 1),
    ];
    let bench = bench(&tasks, |_, task, _| {
        if task == "crast-4" {
            running()
        } else {
            (Duration::from_secs(10_000), Ok(Vec::new()))
        }
    });
    pass(600).await;
    assert!(bench.source.times(Call::Rows, "crast-4").len() >= 10);
    // Two polls of the slow account are under way, the third waits since the start.
    assert_eq!(bench.source.times(Call::Rows, "crast-3").len(), 0);
    let lag = bench.sample("aliyun_acr_exporter_poll_lag_seconds", None);
    assert!((lag - 600.0).abs() < 0.1, "{lag}");
    assert!(!*bench.tried.borrow());
}

#[tokio::test(start_paused = true)]
async fn running_tasks_go_before_finished_ones() {
    // Two polls hang for over an hour; by then both tasks above them are due.
    let tasks = [
        ("crast-done", 0),
        ("crast-run", 0),
        ("crast-x", 0),
        ("crast-y", 0),
    ];
    let bench = bench(&tasks, |_, task, now| match task {
        "crast-done" => finished("SUCCESS"),
        "crast-run" => running(),
        _ if now > Duration::from_secs(20) => {
            (Duration::from_secs(4_000), Ok(vec![row("RUNNING", "")]))
        }
        _ => running(),
    });
    pass(4_200).await;
    let after = |task| {
        let times = bench.source.times(Call::Rows, task);
        times.into_iter().find(|time| *time > 1_000.0).unwrap()
    };
    assert!(after("crast-run") < after("crast-done"));
}

#[tokio::test(start_paused = true)]
async fn ready_once_every_task_was_tried_even_in_vain() {
    let mut bench = bench(&[("crast-1", 0), ("crast-2", 0)], |_, task, _| {
        if task == "crast-1" {
            fails(Reason::Auth)
        } else {
            running()
        }
    });
    assert!(!*bench.tried.borrow());
    bench.tried.wait_for(|tried| *tried).await.unwrap();
    assert_eq!(bench.entry("crast-1").up(), Some(false));
    assert_eq!(bench.entry("crast-2").up(), Some(true));
}

#[tokio::test(start_paused = true)]
async fn nothing_to_poll_is_ready_at_once() {
    let bench = bench(&[], |_, _, _| running());
    assert!(*bench.tried.borrow());
}

#[tokio::test(start_paused = true)]
async fn stop_ends_the_scheduler_at_once() {
    let bench = bench(&[("crast-1", 0)], |_, _, _| {
        (Duration::from_secs(1_000), Ok(Vec::new()))
    });
    pass(1).await;
    bench.stop.cancel();
    let before = Instant::now();
    bench.run.await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn odd_words_are_shown_once_each() {
    let bench = bench(&[("crast-1", 0)], |_, _, _| {
        (
            Duration::ZERO,
            Ok(vec![row("STALLED", ""), row("COMPLETED", "PARTIAL")]),
        )
    });
    pass(300).await;
    let value = |word| bench.sample("aliyun_acr_exporter_unrecognized_values", Some(word));
    assert!((value("STALLED") - 1.0).abs() < f64::EPSILON);
    assert!((value("PARTIAL") - 1.0).abs() < f64::EPSILON);
}

#[tokio::test(start_paused = true)]
async fn a_denied_account_is_one_line_and_one_more_when_it_clears() {
    let (log, _capture) = Log::capture();
    let ids: Vec<String> = (0..60).map(|n| format!("crast-{n}")).collect();
    let tasks: Vec<(&str, usize)> = ids.iter().map(|id| (&**id, 0)).collect();
    let bench = bench(&tasks, |_, _, now| {
        if now < Duration::from_secs(1_200) {
            fails(Reason::Forbidden)
        } else {
            finished("SUCCESS")
        }
    });
    *bench.source.task.lock().unwrap() = Err(SourceError {
        reason: Reason::Forbidden,
        text: "denied".into(),
    });
    pass(1_199).await;
    let failures = bench.sample("aliyun_acr_exporter_poll_failures_total", Some("forbidden"));
    assert!(failures >= 600.0, "{failures}");
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("ERROR") && lines[0].contains("credentials=one"));

    pass(600).await;
    // The rows may be read now, the tasks themselves still not.
    let lines = log.lines();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert_eq!(log.count("failed to read task details"), 1);
    assert_eq!(log.count("errors of polls cleared"), 1);

    *bench.source.task.lock().unwrap() = Ok(TaskInfo::default());
    pass(2 * 3_600).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert_eq!(log.count("errors of task details cleared"), 1);
}

#[tokio::test(start_paused = true)]
async fn odd_words_leave_with_the_data_that_holds_them() {
    let (log, _capture) = Log::capture();
    let bench = bench(&[("crast-1", 0), ("crast-2", 0)], |_, task, now| {
        let minute = now.as_secs() / 60;
        match task {
            "crast-1" if minute < 10 => (Duration::ZERO, Ok(vec![row("STALLED", "")])),
            // Fails until its data is stale, 5 minutes later.
            "crast-2" if minute < 20 => (Duration::ZERO, Ok(vec![row("ODD", "")])),
            "crast-2" if minute < 40 => fails(Reason::Server),
            _ => running(),
        }
    });
    *bench.source.task.lock().unwrap() = Ok(TaskInfo {
        status: "STRANGE".into(),
        ..TaskInfo::default()
    });
    let words = || {
        let families = bench.own.gather();
        let name = "aliyun_acr_exporter_unrecognized_values";
        let family = families.iter().find(|one| one.name() == name);
        let value = |metric: &prometheus::proto::Metric| metric.get_label()[1].value().to_owned();
        let metrics = family.map_or(&[][..], |family| family.get_metric());
        metrics.iter().map(value).collect::<Vec<_>>()
    };
    pass(9 * 60).await;
    // What the task itself says is asked for once and holds on.
    assert_eq!(words(), ["ODD", "STALLED", "STRANGE"]);
    pass(3 * 60).await;
    assert_eq!(words(), ["ODD", "STRANGE"]);
    pass(11 * 60).await;
    // Its polls fail for four minutes: the data is fresh still.
    bench.clock.set(1_299_000);
    pass(60).await;
    assert_eq!(words(), ["ODD", "STRANGE"]);
    bench.clock.set(1_301_000);
    pass(3 * 60).await;
    assert_eq!(words(), ["STRANGE"]);
    assert_eq!(log.count("unrecognized status value"), 3);
}
