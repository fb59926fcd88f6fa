//! Work whose instructions `scripts/check-instructions.py` counts: what polls and
//! scrapes spend their time on, without sockets, threads and the system's clock.
//! Counts repeat where times do not; how long it takes is the other benches' to say.
//!
//! `--count NAME ROUNDS` does the work of NAME, prepared once, and prints how
//! often: ROUNDS 1 and 0 differ by the work without start and preparation. Called
//! in any other way, as `cargo test` and `cargo bench` do, it does each once.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use alibaba_cloud::rpc::Answer as _;
use alibaba_cloud::signing::{Algorithm, sign};
use aliyun_acr_exporter::api::wire::{Response, TaskResultPage};
use aliyun_acr_exporter::exposition::text::{self, Writer};
use aliyun_acr_exporter::exposition::{Content, Format, Names};
use aliyun_acr_exporter::follow;
use aliyun_acr_exporter::model::{
    Assessment, Causes, Folded, ListedRun, Row, Rule, Subscription, TaskInfo, Words,
};
use aliyun_acr_exporter::poll::{
    Follow, Requests, Rows, RunList, Scheduler, Settings, Source, SourceError, Watch, Work,
};
use aliyun_acr_exporter::shard::Shard;
use aliyun_acr_exporter::source;
use aliyun_acr_exporter::store::{ArtifactSeries, Limits, Origin, Store, Target};
use exporter_web::compress::{Coding, Compressed};
use tokio_util::sync::CancellationToken;

#[path = "inputs/page.rs"]
mod page;
#[path = "inputs/request.rs"]
mod request;
#[path = "inputs/store.rs"]
mod store;

struct Workload {
    name: &'static str,
    /// Repetitions of one round: enough that what is done only once, and the
    /// random seeds of hash tables, are lost in the count.
    round: usize,
    run: fn(usize),
}

const WORKLOADS: [Workload; 9] = [
    Workload {
        name: "decode",
        round: 400,
        run: decode,
    },
    Workload {
        name: "render-text",
        round: 5,
        run: |times| render(Format::Text, times),
    },
    Workload {
        name: "render-openmetrics",
        round: 5,
        run: |times| render(Format::OpenMetrics, times),
    },
    Workload {
        name: "render-gzip",
        round: 3,
        run: render_gzip,
    },
    Workload {
        name: "scrape-kept-gzip",
        round: 50,
        run: scrape_kept_gzip,
    },
    Workload {
        name: "sign-acs3",
        round: 1_000,
        run: |times| sign_request(Algorithm::Acs3, 64, times),
    },
    Workload {
        name: "sign-hmac-sha1",
        round: 1_000,
        run: |times| sign_request(Algorithm::HmacSha1, 28, times),
    },
    Workload {
        name: "schedule-configured",
        round: 1,
        run: schedule_configured,
    },
    Workload {
        name: "schedule-followed",
        round: 1,
        run: schedule_followed,
    },
];

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program, not the library"
)]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if arguments.contains(&"--list") {
        for workload in &WORKLOADS {
            println!("{}: benchmark", workload.name);
        }
        return ExitCode::SUCCESS;
    }
    if let ["--count", name, rounds] = arguments[..] {
        let workload = WORKLOADS.iter().find(|workload| workload.name == name);
        let (Some(workload), Ok(rounds)) = (workload, rounds.parse::<usize>()) else {
            eprintln!("usage: instructions --count NAME ROUNDS; --list tells the names");
            return ExitCode::from(2);
        };
        let times = workload.round * rounds;
        (workload.run)(times);
        println!("{times}");
        return ExitCode::SUCCESS;
    }
    // A filter, if it is that, is meant for tests of every target.
    let filter = arguments.iter().find(|word| !word.starts_with('-'));
    let chosen = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    for workload in WORKLOADS.iter().filter(|workload| chosen(workload.name)) {
        (workload.run)(1);
        println!("{}: done", workload.name);
    }
    ExitCode::SUCCESS
}

/// A page of 30 rows, from its bytes to what is known of the task.
fn decode(times: usize) {
    let body = page::page(30);
    let words = Words::default();
    for _ in 0..times {
        let answered = Response::<TaskResultPage>::read(black_box(&body)).expect("a page");
        let Response(_, page) = answered.value;
        let folded = Folded::new(source::rows(&page.task_results), &words);
        let known = Assessment::new(folded, None, &words);
        assert_eq!(known.artifacts.len(), 30);
        black_box(known);
    }
}

/// 50 tasks of 90 artifacts.
const SERIES: usize = 9_950;

fn content() -> Arc<Content> {
    let snapshot = store::store(50).snapshot();
    let content = Content::new(snapshot, store::NOW_MS);
    assert_eq!(content.view().series, SERIES);
    Arc::new(content)
}

/// What is on the page, and the page.
fn render(format: Format, times: usize) {
    let snapshot = store::store(50).snapshot();
    for _ in 0..times {
        let content = Content::new(Arc::clone(&snapshot), black_box(store::NOW_MS));
        let writer = Writer::new(Arc::new(content), format, Names::Every);
        let bytes: usize = writer.map(|piece| black_box(piece).len()).sum();
        // A series is a line, with seven labels on most.
        assert!(bytes > 100 * SERIES);
    }
}

fn compressed(content: &Arc<Content>) -> Compressed {
    let mut writer = Writer::new(Arc::clone(content), Format::Text, Names::Every);
    Compressed::new(Coding::Gzip, |piece| writer.write_piece(piece))
}

/// The first scrape after a change.
fn render_gzip(times: usize) {
    let content = content();
    for _ in 0..times {
        let page = compressed(black_box(&content));
        assert!(!black_box(page).pieces().is_empty());
    }
}

/// Each scrape that follows, until something changes.
fn scrape_kept_gzip(times: usize) {
    let kept = compressed(&content());
    let own = store::own();
    for _ in 0..times {
        let tail = text::tail(Format::Text, &Names::Every, &own.gather());
        let page = (kept.pieces().to_vec(), kept.end(black_box(&tail)));
        assert!(!page.1.is_empty());
        black_box(page);
    }
}

/// `length` is that of the signature: 32 bytes in hexadecimal, 20 in base64.
fn sign_request(algorithm: Algorithm, length: usize, times: usize) {
    for _ in 0..times {
        let signed = sign(
            algorithm,
            black_box(&request::REQUEST),
            black_box(&request::KEY),
            black_box(request::NOW_MS),
            black_box(request::NONCE),
        );
        assert_eq!(signed.signature.len(), length);
        black_box(signed);
    }
}

const START_MS: i64 = 1_700_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);
const INSTANCE: &str = "cri-90fxryf9pwf0abcd";

/// Answers after a fifth of a second, as a registry that is not far away.
struct Script {
    clock: Clock,
    running: Arc<[Row]>,
    finished: Arc<[Row]>,
    rules: Vec<Rule>,
    /// Newest first.
    runs: Vec<Run>,
    /// When each is over.
    ends: HashMap<Arc<str>, i64>,
}

/// A run of a followed subscription.
struct Run {
    start_ms: i64,
    end_ms: i64,
    before: ListedRun,
    after: ListedRun,
}

impl Run {
    fn listed(&self, now_ms: i64) -> &ListedRun {
        if now_ms < self.end_ms {
            &self.before
        } else {
            &self.after
        }
    }
}

struct Shared(Arc<[Row]>);

impl Rows for Shared {
    fn iter(&self) -> impl Iterator<Item = Row<&str>> {
        self.0.iter().map(Row::borrowed)
    }
}

impl Script {
    fn new(clock: Clock) -> Self {
        let row = |tag: &str, running| Row {
            repo_namespace: "mirror".to_owned(),
            repo_name: "nginx".to_owned(),
            tag: tag.to_owned(),
            status: if running { "RUNNING" } else { "COMPLETED" }.to_owned(),
            result: if running { "" } else { "SUCCESS" }.to_owned(),
            start_ms: Some(START_MS),
            end_ms: (!running).then_some(START_MS + 9_000),
        };
        Self {
            clock,
            running: [row("1.27", false), row("1.28", true)].into(),
            finished: [row("1.27", false), row("1.28", false)].into(),
            rules: Vec::new(),
            runs: Vec::new(),
            ends: HashMap::new(),
        }
    }

    /// One rule each for so many repositories; each has run once, and the first
    /// `more` of them begin another run, one every ten minutes, for five minutes.
    fn following(mut self, repositories: usize, more: usize) -> Self {
        self.rules = (0..repositories).map(rule).collect();
        let later = (0..more).map(|number| (number, 10 * (1 + minutes(number))));
        let earlier = (0..repositories).map(|number| (number, -10 * (1 + minutes(number))));
        let mut runs: Vec<Run> = later
            .chain(earlier)
            .map(|(repository, minute)| run(repository, START_MS + 60_000 * minute))
            .collect();
        runs.sort_by_key(|run| Reverse(run.start_ms));
        let ends = runs.iter();
        let ends = ends.map(|run| (Arc::clone(&run.before.task_id), run.end_ms));
        self.ends = ends.collect();
        self.runs = runs;
        self
    }

    fn is_running(&self, target: &Target) -> bool {
        match self.ends.get(&target.task_id) {
            Some(end_ms) => self.clock.now_millis() < *end_ms,
            // Every tenth of the configured ones.
            None => target.task_id.ends_with('0'),
        }
    }
}

fn minutes(number: usize) -> i64 {
    i64::try_from(number).expect("a small number")
}

fn subscription(repository: usize) -> Subscription {
    Subscription {
        repo_namespace: "mirror".to_owned(),
        repo_name: format!("library-{repository}"),
        source_provider: "DOCKER_HUB".to_owned(),
        source_repository: format!("library/{repository}"),
    }
}

fn rule(repository: usize) -> Rule {
    Rule {
        rule_id: format!("crasr-{repository:05}"),
        subscription: subscription(repository),
        tag_regexp: ".*".to_owned(),
        created_ms: Some(START_MS - 86_400_000),
        ..Rule::default()
    }
}

fn run(repository: usize, start_ms: i64) -> Run {
    let end_ms = start_ms + 5 * 60_000;
    let Subscription {
        repo_namespace,
        repo_name,
        source_provider,
        source_repository,
    } = subscription(repository);
    let running = TaskInfo {
        repo_namespace,
        repo_name,
        source_provider,
        source_repository,
        task_type: "AUTO".to_owned(),
        status: "RUNNING".to_owned(),
        start_ms: Some(start_ms),
        ..TaskInfo::default()
    };
    let finished = TaskInfo {
        status: "COMPLETED".to_owned(),
        result: "SUCCESS".to_owned(),
        end_ms: Some(end_ms),
        ..running.clone()
    };
    let task_id: Arc<str> = format!("crast-{repository:05}-{start_ms}").into();
    let listed = |info| ListedRun {
        task_id: Arc::clone(&task_id),
        info: Arc::new(info),
    };
    Run {
        start_ms,
        end_ms,
        before: listed(running),
        after: listed(finished),
    }
}

impl Source for Script {
    type Budget = ();
    type Rows = Shared;

    fn budget(&self) {}

    fn listing_budget(&self, _: Duration) {}

    async fn rows(&self, target: &Target, (): &mut ()) -> Result<Shared, SourceError> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let rows = if self.is_running(target) {
            &self.running
        } else {
            &self.finished
        };
        Ok(Shared(Arc::clone(rows)))
    }

    async fn task(&self, target: &Target, (): &mut ()) -> Result<TaskInfo, SourceError> {
        let running = self.is_running(target);
        Ok(TaskInfo {
            status: if running { "RUNNING" } else { "COMPLETED" }.to_owned(),
            result: if running { "" } else { "SUCCESS" }.to_owned(),
            ..TaskInfo::default()
        })
    }

    async fn rules(&self, _: &str, (): &mut ()) -> Result<Vec<Rule>, SourceError> {
        Ok(self.rules.clone())
    }

    async fn runs(
        &self,
        _: &str,
        (): &mut (),
        mut go_on: impl FnMut(&[ListedRun]) -> bool + Send,
    ) -> Result<RunList, SourceError> {
        let now = self.clock.now_millis();
        let begun = self.runs.partition_point(|run| run.start_ms > now);
        let mut pages = self.runs[begun..].chunks(100).peekable();
        let mut list = RunList {
            runs: Vec::new(),
            whole: true,
            pages: 0,
        };
        while let Some(page) = pages.next() {
            let page = page.iter().map(|run| run.listed(now).clone());
            let page: Vec<ListedRun> = page.collect();
            let more = go_on(&page);
            list.runs.extend(page);
            list.pages += 1;
            if !more {
                list.whole = pages.peek().is_none();
                break;
            }
        }
        Ok(list)
    }
}

/// Lets a scheduler do `work` for so many hours of paused time; answers how many
/// polls that were.
fn schedule(
    hours: u32,
    script: impl FnOnce(Clock) -> Script,
    watches: Vec<Watch>,
    follows: Vec<Follow>,
) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let clock = Clock::of_tokio(START_MS);
        let limits = Limits {
            series: 200_000,
            artifacts_per_task: 500,
            stale_after: 5 * MINUTE,
        };
        let own = Arc::new(store::own());
        let settings = Settings {
            words: Words::default(),
            causes: Causes::default(),
            interval: MINUTE,
            finished_interval: 60 * MINUTE,
            concurrency: 8,
            instances: vec![INSTANCE.into()],
            accounts: vec!["default".to_owned()],
        };
        let (scheduler, _) = Scheduler::new(
            Arc::new(script(clock.clone())),
            Arc::new(Store::new(limits, [])),
            Arc::clone(&own),
            clock,
            settings,
            Work {
                watches,
                follows,
                ..Work::default()
            },
        );
        let stop = CancellationToken::new();
        let run = scheduler.run(Requests::default(), stop.clone());
        let end = async {
            tokio::time::sleep(hours * 60 * MINUTE).await;
            stop.cancel();
        };
        tokio::join!(run, end);
        own.instance(INSTANCE).polls.get()
    })
}

/// Three hours of 1 000 tasks that the configuration names, of which 100 still run.
fn schedule_configured(times: usize) {
    for _ in 0..times {
        let watches = (0..1_000).map(|number| Watch {
            target: Arc::new(Target {
                instance_id: INSTANCE.into(),
                task_id: format!("crast-y64sq01bgad{number:05}").into(),
                task: format!("nginx-{number}").into(),
                region: "cn-hangzhou".into(),
                artifacts: ArtifactSeries::All,
                origin: Origin::Configured,
            }),
            interval: MINUTE,
            account: 0,
            followed: None,
        });
        let polls = schedule(3, Script::new, watches.collect(), Vec::new());
        // At first and each minute, of which the first is half a one at least; or
        // at first and after 1, 3, 7, 15, 31, 63, 123 minutes, all a little sooner.
        let expected = 100 * 180 + 900 * 8..=100 * 182 + 900 * 9;
        assert!(expected.contains(&polls), "{polls} polls");
    }
}

/// Three hours of 500 subscriptions of an instance, of which one begins a run
/// every ten minutes.
fn schedule_followed(times: usize) {
    for _ in 0..times {
        let settings = follow::Settings {
            instance_id: INSTANCE.into(),
            region: "cn-hangzhou".into(),
            interval: 5 * MINUTE,
            stale_after: 5 * MINUTE,
            filter: follow::Filter::default(),
            runs: 1,
            max_age: Duration::from_secs(30 * 86_400),
            max_tasks: 1_000,
            artifacts: ArtifactSeries::Failed,
            configured: HashSet::new(),
            shard: Shard::WHOLE,
            words: Words::default(),
            causes: Causes::default(),
        };
        let follow = Follow {
            settings,
            account: 0,
        };
        let script = |clock| Script::new(clock).following(500, 17);
        let polls = schedule(3, script, Vec::new(), vec![follow]);
        // The rows of each run once it is seen; of one that still runs every minute
        // until it is over.
        let expected = 500 + 17..=500 + 17 * (1 + 5 + 1);
        assert!(expected.contains(&polls), "{polls} polls");
    }
}
