//! Followed instances in paused time against a scripted registry: whole days in
//! seconds, every call counted.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::follow;
use crate::metrics::own::Build;
use crate::model::{Causes, ListedRun, Row, Rule, TaskInfo, TaskStatus, Words};
use crate::shard::Shard;
use crate::store::{ArtifactSeries, Limits, Origin, TaskEntry};
use alibaba_cloud::Reason;

const BUILD: Build = Build {
    version: "0",
    revision: "0",
    rustversion: "0",
    target: "0",
};
const START_MS: i64 = 1_700_000_000_000;
const PAGE: usize = 100;
const DAY: u64 = 86_400;

/// One run: its repository, when it began, when it is over, and whether well.
#[derive(Clone)]
struct Run {
    id: Arc<str>,
    start_ms: i64,
    end_ms: i64,
    /// Until then it is told to have failed.
    fails_until_ms: i64,
    running: Arc<TaskInfo>,
    failed: Arc<TaskInfo>,
    succeeded: Arc<TaskInfo>,
}

impl Run {
    fn info(&self, now_ms: i64) -> &Arc<TaskInfo> {
        match (now_ms >= self.end_ms, now_ms >= self.fails_until_ms) {
            (false, _) => &self.running,
            (true, false) => &self.failed,
            (true, true) => &self.succeeded,
        }
    }
}

#[derive(Default)]
struct Calls {
    rows: HashMap<String, Vec<i64>>,
    task: u64,
    rule_pages: u64,
    run_pages: u64,
}

/// A registry whose list is newest first.
struct Registry {
    clock: Clock,
    /// Newest first.
    runs: Vec<Run>,
    places: HashMap<Arc<str>, usize>,
    rules: Vec<Rule>,
    denied: Mutex<Option<Reason>>,
    calls: Mutex<Calls>,
}

impl Registry {
    fn refused(&self) -> Result<(), SourceError> {
        match *self.denied.lock().unwrap() {
            None => Ok(()),
            Some(reason) => Err(SourceError {
                reason,
                text: reason.to_string(),
            }),
        }
    }

    fn info(&self, target: &Target, now_ms: i64) -> &TaskInfo {
        self.runs[self.places[&target.task_id]].info(now_ms)
    }
}

impl Source for Registry {
    type Budget = ();
    type Rows = Vec<Row>;

    fn budget(&self) {}

    fn listing_budget(&self, _: Duration) {}

    async fn rows(&self, target: &Target, (): &mut ()) -> Result<Vec<Row>, SourceError> {
        let now = self.clock.now_millis();
        {
            let mut calls = self.calls.lock().unwrap();
            calls
                .rows
                .entry(target.task_id.to_string())
                .or_default()
                .push(now);
        }
        // A fifth of a second: the rate limit is five requests a second.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let info = self.info(target, now);
        Ok(vec![Row {
            tag: "1".to_owned(),
            status: info.status.clone(),
            result: info.result.clone(),
            start_ms: info.start_ms,
            end_ms: info.end_ms,
            ..Row::default()
        }])
    }

    async fn task(&self, target: &Target, (): &mut ()) -> Result<TaskInfo, SourceError> {
        self.calls.lock().unwrap().task += 1;
        Ok(self.info(target, self.clock.now_millis()).clone())
    }

    async fn rules(&self, _: &str, (): &mut ()) -> Result<Vec<Rule>, SourceError> {
        self.refused()?;
        self.calls.lock().unwrap().rule_pages += self.rules.len().div_ceil(PAGE).max(1) as u64;
        Ok(self.rules.clone())
    }

    async fn runs(
        &self,
        _: &str,
        (): &mut (),
        mut go_on: impl FnMut(&[ListedRun]) -> bool + Send,
    ) -> Result<RunList, SourceError> {
        self.refused()?;
        let now = self.clock.now_millis();
        let first = self.runs.partition_point(|run| run.start_ms > now);
        let mut pages = self.runs[first..].chunks(PAGE).peekable();
        let mut list = RunList {
            runs: Vec::new(),
            whole: true,
            pages: 0,
        };
        while let Some(page) = pages.next() {
            let page = page.iter().map(|run| ListedRun {
                task_id: Arc::clone(&run.id),
                info: Arc::clone(run.info(now)),
            });
            let from = list.runs.len();
            list.pages += 1;
            list.runs.extend(page);
            if !go_on(&list.runs[from..]) && pages.peek().is_some() {
                list.whole = false;
                break;
            }
        }
        self.calls.lock().unwrap().run_pages += u64::from(list.pages);
        Ok(list)
    }
}

struct Bench {
    registry: Arc<Registry>,
    store: Arc<Store>,
    own: Arc<Own>,
    clock: Clock,
    states: mpsc::Sender<StateRequest>,
    stop: CancellationToken,
    run: tokio::task::JoinHandle<()>,
}

fn follow_settings() -> follow::Settings {
    follow::Settings {
        instance_id: "cri-a".into(),
        region: "cn-hangzhou".into(),
        interval: Duration::from_secs(300),
        stale_after: Duration::from_secs(300),
        filter: follow::Filter::default(),
        runs: 1,
        max_age: Duration::from_secs(30 * DAY),
        max_tasks: 20_000,
        artifacts: ArtifactSeries::Failed,
        configured: HashSet::new(),
        shard: Shard::WHOLE,
        words: Words::default(),
        causes: Causes::default(),
    }
}

fn bench(registry: Registry, watches: Vec<Watch>, state: State) -> Bench {
    let clock = registry.clock.clone();
    let registry = Arc::new(registry);
    let limits = Limits {
        series: 1_000_000,
        artifacts_per_task: 100,
        stale_after: Duration::from_secs(300),
    };
    let store = Arc::new(Store::new(limits, []));
    let own = Arc::new(Own::new(BUILD));
    let settings = Settings {
        words: Words::default(),
        causes: Causes::default(),
        interval: Duration::from_secs(60),
        finished_interval: Duration::from_secs(3_600),
        concurrency: 8,
        instances: vec!["cri-a".into()],
        accounts: vec!["one".to_owned()],
    };
    let work = Work {
        watches,
        follows: vec![Follow {
            settings: follow_settings(),
            account: 0,
        }],
        state,
    };
    let (scheduler, _) = Scheduler::new(
        Arc::clone(&registry),
        Arc::clone(&store),
        Arc::clone(&own),
        clock.clone(),
        settings,
        work,
    );
    let (states, requests) = mpsc::channel(1);
    let asked = Requests {
        states: requests,
        ..Requests::default()
    };
    let stop = CancellationToken::new();
    Bench {
        run: tokio::spawn(scheduler.run(asked, stop.clone())),
        registry,
        store,
        own,
        clock,
        states,
        stop,
    }
}

fn registry(mut runs: Vec<Run>) -> Registry {
    runs.sort_by_key(|run| Reverse(run.start_ms));
    let mut rules: BTreeMap<&str, Rule> = BTreeMap::new();
    for run in &runs {
        let repository = &*run.running.repo_name;
        rules.entry(repository).or_insert_with(|| Rule {
            rule_id: format!("crasr-{repository}"),
            subscription: run.running.subscription(),
            tag_regexp: ".*".to_owned(),
            created_ms: Some(START_MS),
            ..Rule::default()
        });
    }
    let places = runs.iter().zip(0..);
    Registry {
        clock: Clock::of_tokio(START_MS),
        rules: rules.into_values().collect(),
        places: places.map(|(run, at)| (Arc::clone(&run.id), at)).collect(),
        runs,
        denied: Mutex::default(),
        calls: Mutex::default(),
    }
}

/// A run of `repository` from `start` to `end`, seconds since the beginning.
fn run(repository: &str, number: u32, start: i64, end: i64) -> Run {
    let (start_ms, end_ms) = (START_MS + start * 1_000, START_MS + end * 1_000);
    let info = |status: &str, result: &str, end_ms| TaskInfo {
        repo_namespace: "mirror".to_owned(),
        repo_name: repository.to_owned(),
        status: status.to_owned(),
        result: result.to_owned(),
        start_ms: Some(start_ms),
        end_ms,
        ..TaskInfo::default()
    };
    Run {
        id: format!("crast-{repository}-{number}").into(),
        start_ms,
        end_ms,
        fails_until_ms: 0,
        running: Arc::new(info("RUNNING", "", None)),
        failed: Arc::new(info("COMPLETED", "FAILED", Some(end_ms))),
        succeeded: Arc::new(info("COMPLETED", "SUCCESS", Some(end_ms))),
    }
}

impl Bench {
    fn entry(&self, task: &str) -> Option<TaskEntry> {
        let snapshot = self.store.snapshot();
        let found = snapshot
            .entries()
            .iter()
            .find(|entry| &*entry.target.task_id == task);
        found.cloned()
    }

    fn status(&self, task: &str) -> Option<TaskStatus> {
        self.entry(task)?.data.as_ref().map(|data| data.status)
    }

    /// Seconds until `reached`, in steps of one.
    async fn until(&self, most: u64, reached: impl Fn(&Self) -> bool) -> u64 {
        for second in 0..=most {
            if reached(self) {
                return second;
            }
            pass(1).await;
        }
        panic!("not within {most} s");
    }

    async fn state(&self) -> State {
        let (request, answer) = oneshot::channel();
        self.states.send(request).await.unwrap();
        answer.await.unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        drop(self.states);
        self.run.await.unwrap();
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_day_costs_what_can_change_and_little_more() {
    const FINISHED: u32 = 10_000;
    const RUNNING: u32 = 50;
    let finished = (0..FINISHED).map(|n| {
        let start = -7_200 - i64::from(n);
        run(&format!("done{n}"), 1, start, start + 60)
    });
    let running = (0..RUNNING).map(|n| run(&format!("busy{n}"), 1, -600 - i64::from(n), 1 << 40));
    let bench = bench(
        registry(finished.chain(running).collect()),
        Vec::new(),
        State::default(),
    );
    pass(DAY).await;
    {
        let calls = bench.registry.calls.lock().unwrap();
        let rows = |prefix: &str| -> u64 {
            let of = calls.rows.iter().filter(|(id, _)| id.starts_with(prefix));
            of.map(|(_, calls)| calls.len() as u64).sum()
        };
        // The list answers for the tasks themselves.
        assert_eq!(calls.task, 0);
        // 1 440 minutes a day, and the first beats come early.
        let polls_due = u64::from(RUNNING) * 1_440;
        let busy = rows("crast-busy");
        assert!(
            (polls_due..polls_due * 102 / 100).contains(&busy),
            "{busy} of {polls_due}"
        );
        // At first sight, and once a day, a little early.
        let checks_due = u64::from(FINISHED) * 2;
        let done = rows("crast-done");
        assert!(
            done > checks_due * 3 / 4 && done <= checks_due,
            "{done} of {checks_due}"
        );
        // 288 listings: 101 pages of rules, and of runs either all 101 pages or
        // two: one that holds what runs, one without news.
        let pages_due = 288 * 101 + 144 * 101 + 144 * 2;
        let listed = calls.rule_pages + calls.run_pages;
        assert!(listed * 100 <= pages_due * 115, "{listed} of {pages_due}");
        // All together; each task is one page.
        let (all, due) = (listed + busy + done, pages_due + polls_due + checks_due);
        assert!(all * 100 <= due * 115, "{all} of {due}");
    }
    // Nothing has become stale.
    let snapshot = bench.store.snapshot();
    let now = bench.clock.now_millis();
    let oldest = snapshot
        .entries()
        .iter()
        .map(|entry| now - entry.last_success_ms.unwrap());
    assert!(oldest.max().unwrap() <= 900_000);
    assert_eq!(snapshot.entries().len(), (FINISHED + RUNNING) as usize);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_is_seen_within_one_listing_and_its_end_within_one_poll() {
    let bench = bench(
        registry(vec![
            run("nginx", 1, -600, -500),
            run("nginx", 2, 1_000, 2_003),
        ]),
        Vec::new(),
        State::default(),
    );
    pass(1_000).await;
    assert_eq!(bench.status("crast-nginx-1"), Some(TaskStatus::Succeeded));
    bench
        .until(301, |bench| {
            bench.status("crast-nginx-2") == Some(TaskStatus::Running)
        })
        .await;
    // The older run is no more in view.
    assert_eq!(bench.entry("crast-nginx-1"), None);
    pass((START_MS + 2_003_000 - bench.clock.now_millis()).unsigned_abs() / 1_000).await;
    bench
        .until(62, |bench| {
            bench.status("crast-nginx-2") == Some(TaskStatus::Succeeded)
        })
        .await;
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_finished_run_that_flips_is_noticed_within_the_finished_interval() {
    let mut flips = run("nginx", 1, -600, -500);
    flips.fails_until_ms = START_MS + 40_000_000;
    let mut all: Vec<Run> = (0..250)
        .map(|n| run(&format!("r{n}"), 1, -500 + n, -200 + n))
        .collect();
    // Behind two whole pages of newer ones.
    all.push(flips);
    let bench = bench(registry(all), Vec::new(), State::default());
    pass(39_999).await;
    assert_eq!(bench.status("crast-nginx-1"), Some(TaskStatus::Failed));
    bench
        .until(3_600, |bench| {
            bench.status("crast-nginx-1") == Some(TaskStatus::Succeeded)
        })
        .await;
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_both_configured_and_followed_is_polled_once() {
    let watch = Watch {
        target: Arc::new(Target {
            instance_id: "cri-a".into(),
            task_id: "crast-nginx-1".into(),
            task: "by-name".into(),
            region: "cn-hangzhou".into(),
            artifacts: ArtifactSeries::All,
            origin: Origin::Configured,
        }),
        interval: Duration::from_secs(60),
        account: 0,
        followed: None,
    };
    let bench = bench(
        registry(vec![run("nginx", 1, -60, 1 << 40)]),
        vec![watch],
        State::default(),
    );
    pass(3_600).await;
    let snapshot = bench.store.snapshot();
    assert_eq!(snapshot.entries().len(), 1);
    assert_eq!(&*snapshot.entries()[0].target.task, "by-name");
    let polls = bench.registry.calls.lock().unwrap().rows["crast-nginx-1"].len();
    assert!((60..=62).contains(&polls), "{polls}");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn lists_that_are_denied_do_not_look_like_silence() {
    let bench = bench(
        registry(vec![run("nginx", 1, -600, -500)]),
        Vec::new(),
        State::default(),
    );
    let up = |bench: &Bench| {
        let families = bench.own.gather();
        let family = families
            .iter()
            .find(|one| one.name() == "aliyun_acr_exporter_follow_up");
        family.map(|family| family.get_metric()[0].get_gauge().get_value())
    };
    let reasons = |bench: &Bench| {
        let families = bench.own.gather();
        let mut families = families.iter();
        let family = families.find(|one| one.name() == "aliyun_acr_exporter_follow_error");
        let samples = family.map_or(&[][..], |family| family.get_metric());
        let reason = |sample: &prometheus::proto::Metric| sample.get_label()[1].value().to_owned();
        samples.iter().map(reason).collect::<Vec<_>>()
    };
    pass(10).await;
    assert_eq!(up(&bench), Some(1.0));
    assert!(reasons(&bench).is_empty());
    *bench.registry.denied.lock().unwrap() = Some(Reason::Forbidden);
    pass(600).await;
    assert_eq!(up(&bench), Some(0.0));
    assert_eq!(reasons(&bench), ["forbidden"]);
    let snapshot = bench.store.snapshot();
    let listing = snapshot.listings().next().unwrap();
    assert_eq!(listing.error.as_ref().unwrap().reason, Reason::Forbidden);
    // The run stays where it was.
    assert_eq!(bench.status("crast-nginx-1"), Some(TaskStatus::Succeeded));
    *bench.registry.denied.lock().unwrap() = None;
    bench.until(301, |bench| up(bench) == Some(1.0)).await;
    assert!(reasons(&bench).is_empty());
    bench.end().await;
}

#[tokio::test(start_paused = true)]
#[expect(clippy::cast_precision_loss, reason = "milliseconds fit into 52 bits")]
async fn after_a_restart_everything_is_there_and_nobody_calls_in_a_burst() {
    let runs: Vec<Run> = (0..500)
        .map(|n| run(&format!("r{n}"), 1, -900 + n, -300 + n))
        .collect();
    let before = bench(registry(runs.clone()), Vec::new(), State::default());
    pass(1_000).await;
    let state = before.state().await;
    let clock = before.clock.clone();
    before.end().await;
    pass(7).await;
    let again = Registry {
        clock,
        ..registry(runs)
    };
    let after = bench(again, Vec::new(), state);
    let snapshot = after.store.snapshot();
    assert_eq!(snapshot.entries().len(), 500);
    assert!(snapshot.entries().iter().all(|entry| entry.data.is_some()));
    let families = after.own.gather();
    let name = "aliyun_acr_exporter_follow_last_success_timestamp_seconds";
    let read = families.iter().find(|one| one.name() == name).unwrap();
    let read = read.get_metric()[0].get_gauge().get_value();
    let ages = after.clock.now_millis() as f64 / 1_000.0 - read;
    assert!((7.0..=307.0).contains(&ages), "{ages}");
    pass(600).await;
    assert_eq!(after.registry.calls.lock().unwrap().rows.len(), 0);
    assert!(after.registry.calls.lock().unwrap().run_pages > 0);
    after.end().await;
}

impl Bench {
    /// Runs with fresh data, and whether their subscriptions are fresh.
    fn fresh(&self) -> (usize, bool) {
        let snapshot = self.store.snapshot();
        let now = self.clock.steady_millis();
        let entries = snapshot.entries().iter();
        let runs = entries.filter(|entry| snapshot.fresh(entry, now).is_some());
        let views = snapshot.subscription_views(now);
        (runs.count(), views.iter().all(|view| view.fresh))
    }

    /// Pages of rules, pages of runs, polls of runs.
    fn counted(&self) -> [u64; 3] {
        let calls = self.registry.calls.lock().unwrap();
        let rows = calls.rows.values().map(|calls| calls.len() as u64).sum();
        [calls.rule_pages, calls.run_pages, rows]
    }
}

/// Runs on three pages that began days ago, so that a wall clock that is set back
/// by a day does not hide them, and one that still runs.
fn three_pages() -> Registry {
    let done = |n: i64| run(&format!("r{n}"), 1, -500_000 + n, -400_000 + n);
    let busy = run("busy", 1, -300_000, 1 << 40);
    registry((0..250).map(done).chain([busy]).collect())
}

fn since(now: [u64; 3], before: [u64; 3]) -> [u64; 3] {
    [0, 1, 2].map(|index| now[index] - before[index])
}

#[tokio::test(start_paused = true)]
async fn after_a_suspend_one_listing_confirms_every_run_within_seconds() {
    let bench = bench(three_pages(), Vec::new(), State::default());
    pass(3_000).await;
    assert_eq!(bench.fresh(), (251, true));
    bench.clock.suspend(Duration::from_secs(4 * 3_600));
    assert_eq!(bench.fresh(), (0, false));
    let before = bench.counted();
    pass(11).await;
    assert_eq!(bench.fresh(), (251, true));
    // One listing of 251 rules and as many runs; the run that still runs is polled once.
    assert_eq!(since(bench.counted(), before), [3, 3, 1]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspend_is_noticed_however_often_the_scheduler_is_asked() {
    let bench = bench(three_pages(), Vec::new(), State::default());
    pass(3_000).await;
    bench.clock.suspend(Duration::from_secs(4 * 3_600));
    for _ in 0..11 {
        pass(1).await;
        bench.state().await;
    }
    assert_eq!(bench.fresh(), (251, true));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_corrected_wall_clock_brings_one_listing_and_drops_nothing() {
    let bench = bench(three_pages(), Vec::new(), State::default());
    pass(3_000).await;
    bench.clock.step_wall(4 * 3_600_000);
    let before = bench.counted();
    for _ in 0..11 {
        assert_eq!(bench.fresh(), (251, true));
        pass(1).await;
    }
    let [rules, _, rows] = since(bench.counted(), before);
    assert_eq!((rules, rows), (3, 1));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn with_the_wall_clock_set_back_runs_deep_in_the_list_stay_fresh() {
    let bench = bench(three_pages(), Vec::new(), State::default());
    pass(3_000).await;
    bench.clock.step_wall(-86_400_000);
    for _ in 0..180 {
        pass(60).await;
        assert_eq!(bench.fresh(), (251, true));
    }
    // 36 listings: the first page holds a run that still runs, so the second is read
    // too, and every second listing reads on to the oldest run.
    let before = bench.counted();
    pass(10_800).await;
    let [rules, runs, _] = since(bench.counted(), before);
    assert_eq!(rules, 36 * 3);
    assert_eq!(runs, 18 * 2 + 18 * 3);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn lists_that_a_state_file_has_from_the_future_are_read_at_once() {
    let before = bench(three_pages(), Vec::new(), State::default());
    pass(3_000).await;
    let state = before.state().await;
    before.end().await;
    // The wall clock was set back by a day while nothing ran, and the cloud is away.
    let again = Registry {
        clock: Clock::of_tokio(START_MS - 86_400_000),
        denied: Mutex::new(Some(Reason::Connect)),
        ..three_pages()
    };
    let after = bench(again, Vec::new(), state);
    assert_eq!(after.fresh(), (251, true));
    pass(899).await;
    assert!(after.fresh().1);
    pass(2).await;
    assert!(!after.fresh().1);
    *after.registry.denied.lock().unwrap() = None;
    // No backoff is longer than the interval.
    pass(301).await;
    assert_eq!(after.fresh(), (251, true));
    after.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_never_listed_has_no_time_and_no_subscriptions() {
    let denied = Registry {
        denied: Mutex::new(Some(Reason::Forbidden)),
        ..registry(vec![
            run("nginx", 1, -600, -500),
            run("redis", 1, -600, -500),
        ])
    };
    let bench = bench(denied, Vec::new(), State::default());
    let shown = |name: &str| {
        let families = bench.own.gather();
        let name = format!("aliyun_acr_exporter_follow_{name}");
        let family = families.iter().find(|family| family.name() == name)?;
        Some(family.get_metric()[0].get_gauge().get_value())
    };
    pass(10).await;
    assert_eq!(shown("up"), Some(0.0));
    assert_eq!(shown("last_success_timestamp_seconds"), None);
    assert_eq!(shown("subscriptions"), Some(0.0));
    *bench.registry.denied.lock().unwrap() = None;
    bench.until(301, |_| shown("up") == Some(1.0)).await;
    assert!(shown("last_success_timestamp_seconds").is_some());
    assert_eq!(shown("subscriptions"), Some(2.0));
    bench.end().await;
}
