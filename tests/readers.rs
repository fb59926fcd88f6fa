//! The page as others read it: the strict parsers of Prometheus' Python client,
//! and every program here that knows gzip or zstd. `scripts/test.sh` installs
//! them.

#[path = "python_sdk/python.rs"]
mod python;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use aliyun_acr_exporter::metrics::own::{Build, Own, Scraped};
use aliyun_acr_exporter::model::{
    Assessment, Cause, Folded, Row, Rule, Subscription, TaskInfo, TaskStatus, Words,
};
use aliyun_acr_exporter::server::{Settings, serve};
use aliyun_acr_exporter::store::{
    ArtifactSeries, Counts, Durations, Limits, ListingEntry, Origin, RunDurations, RunSummary,
    Store, SubscriptionEntry, Target, TaskEntry,
};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const NOW_MS: i64 = 1_700_000_000_000;

/// Characters that each format escapes in its own way.
const ODD: &str = "a \"b\" \\ c\nd 🚢";

fn task(task_id: &str, artifacts: u32) -> TaskEntry {
    let target = Target {
        instance_id: "cri-a".into(),
        task_id: task_id.into(),
        task: ODD.into(),
        region: "cn-hangzhou".into(),
        artifacts: ArtifactSeries::All,
        origin: Origin::Configured,
    };
    let rows = (0..artifacts).map(|tag| Row {
        repo_namespace: "mirror".into(),
        repo_name: ODD.into(),
        tag: tag.to_string(),
        status: "COMPLETED".into(),
        result: if tag % 7 == 0 { "FAILED" } else { "SUCCESS" }.into(),
        start_ms: Some(NOW_MS - 20_000),
        end_ms: Some(NOW_MS - 10_000 + i64::from(tag)),
    });
    let words = Words::default();
    let folded = Folded::new(rows, &words);
    TaskEntry {
        data: Some(Assessment::new(folded, None, &words)),
        last_poll_ms: Some(NOW_MS),
        last_success_ms: Some(NOW_MS),
        ..TaskEntry::new(Arc::new(target), Duration::from_secs(60))
    }
}

/// Every kind of metric, in several pieces.
fn store() -> Store {
    let limits = Limits {
        series: 200_000,
        artifacts_per_task: 500,
        stale_after: Duration::from_secs(300),
    };
    let store = Store::new(limits, [task("crast-1", 400), task("crast-2", 3)]);
    let subscription = Subscription {
        repo_namespace: "mirror".into(),
        repo_name: ODD.into(),
        source_provider: "DOCKER_HUB".into(),
        source_repository: "library/nginx".into(),
    };
    let run = RunSummary {
        task_id: "crast-1".into(),
        info: Arc::new(TaskInfo {
            task_type: "AUTO".into(),
            source_tags: Some(400),
            selected_tags: Some(342),
            ..TaskInfo::default()
        }),
        status: TaskStatus::Failed,
        cause: Some(Cause::Network),
        artifacts: Some([0, 1, 1, 0]),
        start_ms: Some(NOW_MS - 20_000),
        end_ms: Some(NOW_MS - 9_601),
        duration_ms: Some(10_399),
    };
    let mut artifacts = Durations::default();
    for millis in [500, 4_250, 59_999, 90_000_000] {
        artifacts.observe(millis);
    }
    store.update_listing(ListingEntry {
        instance_id: "cri-a".into(),
        interval: Duration::from_secs(300),
        last_success_ms: Some(NOW_MS),
        wall_ahead_ms: 0,
        last_try_ms: Some(NOW_MS),
        error: None,
        next_ms: None,
        tasks_dropped: 0,
        durations: Arc::new(RunDurations {
            runs: Durations::default(),
            artifacts,
        }),
        announced: true,
    });
    store.update_subscription(SubscriptionEntry {
        instance_id: "cri-a".into(),
        rules: [Rule {
            rule_id: "crasr-1".into(),
            subscription: subscription.clone(),
            tag_regexp: ".*".into(),
            created_ms: Some(NOW_MS),
            ..Rule::default()
        }]
        .into(),
        subscription: Arc::new(subscription),
        last_run: Some(run.clone()),
        last_finished_run: Some(run),
        consecutive_failed_runs: 1,
        last_success_ms: None,
        counts: Arc::new(Counts {
            runs: 12,
            failures: 3,
        }),
        announced: true,
        created_ms: Some(NOW_MS),
        ..SubscriptionEntry::default()
    });
    store
}

/// A server that ends with the test.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        let own = Own::new(Build::CURRENT);
        let action = own.action(ODD, "ListInstance");
        action.requests.inc();
        action.duration.observe(0.125);
        own.rate_limit("default").1.inc_by(0.5);
        own.follow_up.set(&["cri-a"], 1.0);
        own.follow_last_success_timestamp_seconds
            .set(&["cri-a"], 1_700_000_000.25);
        own.set_clock_skew(-0.25);
        own.unrecognized_values.set(&["Status", ODD], 1.0);
        own.instance("cri-a").polls.inc();
        own.state().saved(1_700_000_000.5);
        // The first page shows 0 where something is counted already.
        let nothing = Scraped {
            tasks: 0,
            series: 0,
            series_dropped: 0,
            ready: true,
        };
        own.gather_for(nothing, |_| true);
        let settings = Settings {
            store: Arc::new(store()),
            own: Arc::new(own),
            clock: Clock::fixed(NOW_MS),
            ready: Arc::new(AtomicBool::new(true)),
            telemetry_path: "/metrics".into(),
            max_requests: 40,
            config: tokio::sync::watch::channel(Arc::from("")).1,
            web: Arc::default(),
            reload: None,
            drain: Duration::ZERO,
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("it is a socket");
        let address = listener.local_addr().expect("it is bound");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                serve(vec![listener], settings, stopped).await;
            });
        });
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }

    /// The page as it comes, which HTTP/1.0 sends without chunks.
    fn page(&self, headers: &[&str]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        let lines = [headers, &[""]].concat().join("\r\n");
        write!(stream, "GET /metrics HTTP/1.0\r\n{lines}\r\n").expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        let head_end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        answer.split_off(head_end.expect("the head ends") + 4)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

/// What the program makes of `input`; it must not complain.
fn run(program: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let output = std::thread::scope(|scope| {
        // It may write before it has read everything.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("it ends")
    });
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}: {complaint}",
        program.display()
    );
    assert_eq!(complaint, "", "{}", program.display());
    output.stdout
}

#[expect(clippy::disallowed_methods, reason = "tests look for programs in PATH")]
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).map(|folder| folder.join(name));
    files.find(|file| file.exists())
}

/// `None`, said plainly, where it may be left out.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment"
)]
fn real_part(name: &str) -> Option<PathBuf> {
    let found = installed(name);
    if found.is_none() {
        let required = std::env::var("REQUIRE_REAL_PARTS").as_deref() == Ok("1");
        assert!(!required, "{name} is not installed");
        say(&format!(
            "left out: {name} is not installed (scripts/test.sh installs it)"
        ));
    }
    found
}

/// Past the capture of the test runner, so that it is seen though the test passes.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The page without the lines that every scrape changes.
fn lasting(page: &[u8]) -> Vec<String> {
    let page = String::from_utf8(page.to_vec()).expect("the page is UTF-8");
    let moving = ["aliyun_acr_exporter_http_requests_total{", "process_"];
    let lasts = |line: &&str| !moving.iter().any(|moving| line.starts_with(moving));
    page.lines().filter(lasts).map(str::to_owned).collect()
}

const OPENMETRICS: &str = "Accept: application/openmetrics-text;version=1.0.0";

#[test]
fn the_strict_parsers_read_the_same_samples_in_both_formats() {
    let Some(python) = python::with("prometheus_client.openmetrics.parser") else {
        return;
    };
    let server = Server::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/parse.py");
    let parse = |arguments: &[&str], headers: &[&str]| {
        let arguments = [&[script], arguments].concat();
        let read = run(&python, &arguments, &server.page(headers));
        let samples: Vec<Value> = serde_json::from_slice(&read).expect("JSON");
        let lasts = |sample: &Value| {
            let name = sample[0].as_str().expect("a name");
            !name.starts_with("process_") && name != "aliyun_acr_exporter_http_requests_total"
        };
        samples.into_iter().filter(lasts).collect::<Vec<_>>()
    };
    let text = parse(&["text"], &[]);
    let open = parse(&["openmetrics"], &[OPENMETRICS]);
    let gzip = "Accept-Encoding: gzip";
    assert_eq!(parse(&["text", "gzip"], &[gzip]), text);
    assert_eq!(parse(&["openmetrics", "gzip"], &[gzip, OPENMETRICS]), open);

    // Two tasks of 19 series, two for each artifact; 14 families of a subscription
    // whose statuses make 25 series, and two histograms of its instance.
    let watched = |samples: &[Value]| {
        let names = samples.iter().filter_map(|sample| sample[0].as_str());
        let watched = names.filter(|name| name.starts_with("aliyun_acr_subscription_"));
        watched.count()
    };
    assert_eq!(watched(&text), 2 * 19 + 2 * 403 + 25 + 2 * 16);
    let without_unit = |samples: &[Value]| -> Vec<Value> {
        let facts = |sample: &Value| sample.as_array().expect("a list")[..4].to_vec();
        samples.iter().map(|sample| facts(sample).into()).collect()
    };
    assert_eq!(without_unit(&text), without_unit(&open));

    let unit = |name: &str| {
        let mut samples = open.iter().filter(|sample| sample[0] == name);
        samples.next().map(|sample| sample[4].clone())
    };
    for (name, expected) in [
        (
            "aliyun_acr_subscription_task_end_timestamp_seconds",
            "seconds",
        ),
        ("aliyun_acr_subscription_runs_total", ""),
        (
            "aliyun_acr_subscription_run_artifact_duration_seconds_bucket",
            "seconds",
        ),
        (
            "aliyun_acr_exporter_api_rate_limit_wait_seconds_total",
            "seconds",
        ),
    ] {
        assert_eq!(unit(name), Some(expected.into()), "{name}");
    }
}

#[test]
fn every_program_reads_the_whole_page() {
    let server = Server::start();
    let plain = lasting(&server.page(&[]));
    assert!(plain.len() > 900);
    let gzip = server.page(&["Accept-Encoding: gzip"]);
    let zstd = server.page(&["Accept-Encoding: zstd"]);

    if let Some(program) = real_part("gzip") {
        run(&program, &["-t"], &gzip);
        assert_eq!(lasting(&run(&program, &["-dc"], &gzip)), plain);
    }
    if let Some(program) = real_part("zstd") {
        run(&program, &["-q", "-t"], &zstd);
        assert_eq!(lasting(&run(&program, &["-q", "-dc"], &zstd)), plain);
    }
    if let Some(program) = real_part("python3") {
        let script = "import sys, zlib; member = zlib.decompressobj(wbits=31); \
            sys.stdout.buffer.write(member.decompress(sys.stdin.buffer.read())); \
            assert member.eof and not member.unused_data";
        assert_eq!(lasting(&run(&program, &["-c", script], &gzip)), plain);
    }
    if let Some(program) = real_part("curl") {
        let url = format!("http://{}/metrics", server.address);
        let curl = |more: &[&str]| {
            let arguments = ["--silent", "--show-error", "--noproxy", "*", &url];
            lasting(&run(&program, &[&arguments, more].concat(), &[]))
        };
        assert_eq!(curl(&[]), plain);
        assert_eq!(curl(&["--compressed"]), plain);
        let features = run(&program, &["--version"], &[]);
        if String::from_utf8_lossy(&features).contains("zstd") {
            let only = ["--compressed", "--header", "Accept-Encoding: zstd"];
            assert_eq!(curl(&only), plain);
        }
    }
    // Nice to have, and nothing that the project needs otherwise.
    match installed("node") {
        Some(program) => {
            let script =
                "process.stdout.write(require('zlib').gunzipSync(require('fs').readFileSync(0)))";
            assert_eq!(lasting(&run(&program, &["-e", script], &gzip)), plain);
        }
        None => say("left out: node is not installed"),
    }
}
