//! The daemon is killed at every moment of its life, over and over, while runs
//! go on finishing at the cloud: no counter falls behind what any scrape has
//! shown, and in the end everything is counted exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use alibaba_cloud::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use simulator::world::{RowSpec, RuleSpec, Source, TaskSpec};
use simulator::{Running, Simulator, SimulatorConfig, World, demo};

use crate::harness::{Daemon, address_in, binary, eventually, samples, unchunked};

const KILLS: usize = 200;

const REPOSITORIES: [&str; 2] = ["nginx", "redis"];

/// What a page says of each counter of a subscription and each histogram of its instance.
type Counters = BTreeMap<String, f64>;

/// When a daemon is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// While it starts, or just after.
    Start,
    /// Around the listing of the task list.
    Listing,
    /// Around a poll of a run.
    Polling,
    /// While the state is being written.
    Saving,
    /// Just after a scrape has shown a new count.
    Shown,
    /// Whatever it does.
    Any,
}

const MOMENTS: [Moment; 6] = [
    Moment::Start,
    Moment::Listing,
    Moment::Polling,
    Moment::Saving,
    Moment::Shown,
    Moment::Any,
];

fn source(repository: &str) -> Source {
    Source::new(
        "DOCKER_HUB",
        &format!("library/{repository}"),
        &format!("mirror/{repository}"),
    )
}

fn sample(name: &str, repository: &str) -> String {
    format!(
        "aliyun_acr_subscription_{name}{{instance_id=\"cri-a\",repo_namespace=\"mirror\",repo_name=\"{repository}\",source_provider=\"DOCKER_HUB\",source_repository=\"library/{repository}\"}}"
    )
}

fn is_counter(sample: &str) -> bool {
    const COUNTERS: [&str; 4] = [
        "runs_total{",
        "run_failures_total{",
        "run_duration_seconds_",
        "run_artifact_duration_seconds_",
    ];
    let name = sample.strip_prefix("aliyun_acr_subscription_");
    name.is_some_and(|name| COUNTERS.iter().any(|counter| name.starts_with(counter)))
}

fn counters(page: BTreeMap<String, String>) -> Counters {
    let counters = page.into_iter().filter(|(name, _)| is_counter(name));
    counters
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect()
}

/// The cloud, where runs finish until this value is dropped, and what has to be
/// counted of them: more than that is never shown, and in the end it is shown.
struct Churn {
    cloud: Arc<Running>,
    truth: Arc<Mutex<Counters>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Churn {
    fn start(cloud: Arc<Running>) -> Self {
        let truth = Arc::new(Mutex::new(Counters::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (cloud, truth, stop) = (Arc::clone(&cloud), Arc::clone(&truth), Arc::clone(&stop));
            move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    finish_a_run(&cloud, &truth, number);
                    thread::park_timeout(Duration::from_millis(fastrand::u64(10..60)));
                }
            }
        });
        Self {
            cloud,
            truth,
            stop,
            thread: Some(thread),
        }
    }

    fn truth(&self) -> Counters {
        self.truth.lock().unwrap().clone()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One more run; one in three is seen running before.
fn finish_a_run(cloud: &Running, truth: &Mutex<Counters>, number: usize) {
    let repository = REPOSITORIES[number % REPOSITORIES.len()];
    let id = format!("crast-{number}");
    let put = |task: TaskSpec| {
        let task = task.source(&source(repository));
        cloud.update(|world| world.put_task("cri-a", task));
    };
    let start = Clock::system().now_millis() - 5_000;
    if fastrand::u8(..3) == 0 {
        put(TaskSpec::running(&id, start).row(RowSpec::running("mirror", repository, "0", start)));
        thread::park_timeout(Duration::from_millis(fastrand::u64(..60)));
    }
    let fails = fastrand::u8(..3) == 0;
    let seconds: Vec<u32> = (0..fastrand::usize(1..4))
        .map(|_| fastrand::u32(1..5))
        .collect();
    let mut rows = Vec::new();
    for (tag, seconds) in seconds.iter().enumerate() {
        let make = if fails && tag == 0 {
            RowSpec::failed
        } else {
            RowSpec::succeeded
        };
        let end = start + i64::from(*seconds) * 1_000;
        rows.push(make("mirror", repository, &tag.to_string(), start, end));
    }
    {
        let mut truth = truth.lock().unwrap();
        let mut add = |sample: String, value: u32| {
            *truth.entry(sample).or_default() += f64::from(value);
        };
        add(sample("runs_total", repository), 1);
        add(sample("run_failures_total", repository), u32::from(fails));
        let of_instance =
            |name: &str| format!("aliyun_acr_subscription_{name}{{instance_id=\"cri-a\"}}");
        add(of_instance("run_duration_seconds_count"), 1);
        add(of_instance("run_duration_seconds_sum"), 5);
        for seconds in seconds {
            add(of_instance("run_artifact_duration_seconds_count"), 1);
            add(of_instance("run_artifact_duration_seconds_sum"), seconds);
        }
    }
    let task = if fails {
        TaskSpec::failed(&id, start, start + 5_000, "pull rate limit")
    } else {
        TaskSpec::succeeded(&id, start, start + 5_000)
    };
    put(task.rows(rows));
}

fn cloud() -> Arc<Running> {
    let mut world = World::new().instance("cri-a", "cn-hangzhou");
    for repository in REPOSITORIES {
        let rule = RuleSpec::new(&format!("crasr-{repository}"), &source(repository), 0);
        world = world.rule(rule);
    }
    let config = SimulatorConfig {
        world,
        ..SimulatorConfig::default()
    };
    Arc::new(Simulator::start(config).unwrap())
}

fn config(cloud: &Running, state: &Path) -> String {
    format!(
        "poll: {{ interval: 1s }}
api: {{ requests_per_second: 1000, burst: 1000 }}
state: {{ path: {} }}
credentials:
  test:
    type: access_key
    access_key_id: {}
    access_key_secret: {}
instances:
  - id: cri-a
    region: cn-hangzhou
    credentials: test
    endpoint: {}
    follow: {{ interval: 1s }}
",
        state.display(),
        demo::KEY_ID,
        demo::KEY_SECRET,
        cloud.url()
    )
}

/// Files beside the state that a save has not finished.
fn unfinished(folder: &Path) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().contains(".tmp-"))
        .collect()
}

/// A page; none where the daemon died before it was whole, as a scraper takes it.
fn scrape(address: SocketAddr) -> Option<Counters> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, page) = answer.split_once("\r\n\r\n")?;
    let head = head.to_lowercase();
    let whole = match head.split_once("content-length: ") {
        Some((_, length)) => {
            let length: usize = length.lines().next()?.parse().unwrap();
            page.len() == length
        }
        None => page.ends_with("\r\n0\r\n\r\n"),
    };
    whole.then(|| counters(samples(&unchunked(&head, page))))
}

/// How a life went.
#[derive(Default)]
struct Told {
    lives: usize,
    /// Killed before they listened.
    unborn: usize,
    /// Killed half-way through a save.
    unfinished: usize,
    /// That showed new counts.
    fruitful: usize,
    scrapes: usize,
}

struct Lives {
    churn: Churn,
    folder: PathBuf,
    config: String,
    /// The most that any scrape has shown.
    shown: Counters,
    told: Told,
}

impl Lives {
    fn spawn(&self) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, &self.config).unwrap();
        let mut command = binary(&["--web.listen-address=127.0.0.1:0"]);
        command.arg("--config.file").arg(&file);
        Daemon::spawn(command, folder)
    }

    /// One life, and its end at that moment.
    fn live_until(&mut self, moment: Moment) {
        self.churn.cloud.clear_requests();
        let left = unfinished(&self.folder);
        let mut daemon = self.spawn();
        let news = AtomicBool::new(false);
        let (cloud, folder) = (&self.churn.cloud, self.folder.as_path());
        let (shown, told) = (&mut self.shown, &mut self.told);
        let truth = &self.churn.truth;
        thread::scope(|scope| {
            let killer = scope.spawn(|| {
                await_moment(moment, cloud, &news, || {
                    unfinished(folder).difference(&left).next().is_some()
                });
                let pid = Pid::from_raw(daemon.pid().cast_signed()).unwrap();
                kill_process(pid, Signal::KILL).unwrap();
            });
            while !killer.is_finished() {
                let log = daemon.log();
                let line = log.lines().find(|line| line.contains("listening"));
                if let Some(line) = line
                    && let Some(page) = scrape(address_in(line))
                {
                    told.scrapes += 1;
                    if take(shown, &page, &truth.lock().unwrap()) {
                        news.store(true, Ordering::Relaxed);
                    }
                }
                thread::park_timeout(Duration::from_millis(2));
            }
        });
        assert_eq!(daemon.ended().signal(), Some(9), "{moment:?}");
        let log = daemon.log();
        let listened = log.contains("listening");
        assert!(!listened || log.contains("state read"), "{log}");
        assert!(!log.contains("level=error"), "{log}");
        let half = unfinished(folder).difference(&left).next().is_some();
        told.lives += 1;
        told.unborn += usize::from(!listened);
        told.unfinished += usize::from(half);
        told.fruitful += usize::from(news.into_inner());
    }
}

/// A page shows no less than any before it, and no more than there is to
/// count; answers whether it shows something new.
fn take(shown: &mut Counters, page: &Counters, truth: &Counters) -> bool {
    for (name, before) in &*shown {
        let now = page.get(name);
        assert!(now >= Some(before), "{name}: {now:?} after {before}");
    }
    for (name, most) in truth {
        let now = page.get(name);
        assert!(now <= Some(most), "{name}: {now:?} of {most}");
    }
    let news = page != shown;
    shown.clone_from(page);
    news
}

fn await_moment(moment: Moment, cloud: &Running, news: &AtomicBool, saves: impl Fn() -> bool) {
    let seen = |action| {
        eventually(action, || {
            (cloud.requests().count(action) > 0).then_some(())
        });
    };
    let random = match moment {
        Moment::Start => 30_000,
        Moment::Listing => {
            seen("ListArtifactSubscriptionRule");
            10_000
        }
        Moment::Polling => {
            seen("GetArtifactSubscriptionTaskResult");
            10_000
        }
        Moment::Saving => {
            let begun = Instant::now();
            // A save is short.
            while !saves() {
                assert!(begun.elapsed() < Duration::from_secs(60), "no save");
                thread::park_timeout(Duration::from_micros(50));
            }
            1_000
        }
        Moment::Shown => {
            eventually("a new count is shown", || {
                news.load(Ordering::Relaxed).then_some(())
            });
            1_000
        }
        Moment::Any => 1_000_000,
    };
    // The random moment.
    thread::sleep(Duration::from_micros(fastrand::u64(..random)));
}

#[test]
fn however_often_it_is_killed_no_counter_falls_and_nothing_is_counted_twice() {
    let cloud = cloud();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let config = config(&cloud, &state);
    // What it finds at first is history; that it was there has to be saved.
    let mut first = Daemon::serve(&config);
    first.until(&sample("runs_total", REPOSITORIES[0]), "0");
    first.signal("TERM");
    assert!(first.ended().success());

    let mut lives = Lives {
        churn: Churn::start(cloud),
        folder: folder.path().to_owned(),
        config,
        shown: Counters::new(),
        told: Told::default(),
    };
    for round in 0..KILLS {
        lives.live_until(MOMENTS[round % MOMENTS.len()]);
    }
    lives.churn.end();

    let truth = lives.churn.truth();
    let of_truth = |page: BTreeMap<String, String>| {
        let mut page = counters(page);
        page.retain(|name, _| truth.contains_key(name));
        page
    };
    let mut last = Daemon::serve(&lives.config);
    eventually("everything is counted", || {
        let page = counters(last.page());
        take(&mut lives.shown, &page, &truth);
        truth
            .iter()
            .all(|(name, value)| page.get(name) == Some(value))
            .then_some(())
    });
    // Two more listings change nothing.
    let listed = || {
        let page = last.page();
        page["aliyun_acr_exporter_follow_last_success_timestamp_seconds{instance_id=\"cri-a\"}"]
            .clone()
    };
    for _ in 0..2 {
        let before = listed();
        eventually("another listing", || (listed() != before).then_some(()));
    }
    assert_eq!(of_truth(last.page()), truth);
    last.signal("TERM");
    assert!(last.ended().success());
    let again = Daemon::serve(&lives.config);
    assert_eq!(of_truth(again.page()), truth);
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["state", "state.lock"]);
    let Told {
        lives,
        unborn,
        unfinished,
        fruitful,
        scrapes,
    } = lives.told;
    let runs: f64 = REPOSITORIES
        .iter()
        .map(|repository| truth[&sample("runs_total", repository)])
        .sum();
    println!(
        "{lives} kills, {unborn} before it listened, {unfinished} in the middle of a save; \
         {fruitful} lives showed new counts in {scrapes} scrapes; {runs} runs"
    );
}
