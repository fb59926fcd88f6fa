//! Every path over real sockets, and how the server ends. The client is a few
//! lines over a TCP stream, so that nothing about HTTP is shared with hyper.

mod scrapes;
mod web;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use exporter_web::Handler as _;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::metrics::own::Build;
use crate::model::{Assessment, Folded, Row, Words};
use crate::store::{self, ArtifactSeries, Origin, Target, TaskEntry};
use crate::telemetry::capture::Log;

const NOW_MS: i64 = 1_700_000_000_000;

/// Far beyond what anything here needs; a test that gets there hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Of a request head.
const HEAD_MAX: usize = 64 * 1024;

/// As small as the kernel allows, so that a long answer cannot hide in it.
const SOCKET_BUFFER: u32 = 4 * 1024;

pub(super) fn entry(id: &str, artifacts: u32) -> TaskEntry {
    let target = Target {
        instance_id: "cri-a".into(),
        task_id: id.into(),
        task: "<nginx>".into(),
        region: "cn-hangzhou".into(),
        artifacts: ArtifactSeries::All,
        origin: Origin::Configured,
    };
    let rows = (0..artifacts).map(|tag| Row {
        repo_namespace: "mirror".into(),
        repo_name: "nginx".into(),
        tag: tag.to_string(),
        status: "COMPLETED".into(),
        result: "SUCCESS".into(),
        start_ms: Some(NOW_MS - 2_000),
        end_ms: Some(NOW_MS - 1_000),
    });
    let words = Words::default();
    let mut entry = TaskEntry::new(Arc::new(target), Duration::from_secs(60));
    let folded = Folded::new(rows, &words);
    entry.data = Some(Assessment::new(folded, None, &words));
    entry.last_poll_ms = Some(NOW_MS);
    entry.last_success_ms = Some(NOW_MS);
    entry
}

pub(super) struct Running {
    pub(super) address: SocketAddr,
    settings: Settings,
    pub(super) stop: CancellationToken,
    pub(super) serving: JoinHandle<()>,
}

pub(super) fn start(entries: Vec<TaskEntry>, change: impl FnOnce(&mut Settings)) -> Running {
    start_within(Limits::default(), entries, change)
}

pub(super) fn start_within(
    limits: Limits,
    entries: Vec<TaskEntry>,
    change: impl FnOnce(&mut Settings),
) -> Running {
    let store = store::Limits {
        series: 200_000,
        artifacts_per_task: 60_000,
        stale_after: Duration::from_secs(300),
    };
    let own = Own::new(Build {
        version: "1.2.3",
        revision: "abc",
        rustversion: "1.90.0",
        target: "x86_64-unknown-linux-gnu",
    });
    let mut settings = Settings {
        store: Arc::new(Store::new(store, entries)),
        own: Arc::new(own),
        clock: Clock::fixed(NOW_MS),
        ready: Arc::new(AtomicBool::new(true)),
        telemetry_path: "/metrics".into(),
        config: watch::channel("poll: {}\n".into()).1,
        web: Arc::default(),
        max_requests: 40,
        // A server that waits for it does not end in time.
        reload: None,
        drain: 10 * PATIENCE,
    };
    change(&mut settings);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(SOCKET_BUFFER).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(64).unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = serve_within(limits, vec![listener], settings.clone(), stop.clone());
    let serving = tokio::spawn(serving);
    Running {
        address,
        settings,
        stop,
        serving,
    }
}

impl Running {
    async fn connect(&self) -> Connection {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(SOCKET_BUFFER).unwrap();
        Connection(BufReader::new(socket.connect(self.address).await.unwrap()))
    }

    /// One request on a connection of its own.
    async fn ask(&self, method: &str, target: &str) -> Answer {
        self.ask_with(method, target, "").await
    }

    async fn ask_with(&self, method: &str, target: &str, lines: &str) -> Answer {
        let mut connection = self.connect().await;
        connection.send_with(method, target, lines).await;
        connection.answer(method).await
    }

    pub(super) async fn stopped(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.serving).await.unwrap().unwrap();
    }
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn send(&mut self, method: &str, target: &str) {
        self.send_with(method, target, "").await;
    }

    /// With more lines in the head.
    async fn send_with(&mut self, method: &str, target: &str, lines: &str) {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: exporter\r\n{lines}\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
    }

    /// A part of a head and nothing more.
    async fn send_half(&mut self) {
        self.0.write_all(b"GET /met").await.unwrap();
    }

    async fn head(&mut self) -> Answer {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let status = lines[0].strip_prefix("HTTP/1.1 ").unwrap();
        Answer {
            status: status[..3].parse().unwrap(),
            headers: lines[1..]
                .iter()
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: String::new(),
            bytes: Vec::new(),
        }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.0.read_line(&mut line)).await;
        read.unwrap().unwrap();
        let whole = line.strip_suffix("\r\n");
        whole
            .unwrap_or_else(|| panic!("the connection ended in the line {line:?}"))
            .to_owned()
    }

    async fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let read = timeout(PATIENCE, self.0.read_exact(&mut bytes)).await;
        read.unwrap().unwrap();
        bytes
    }

    async fn body(&mut self, answer: &mut Answer) {
        if let Some(length) = answer.find("content-length") {
            answer.bytes = self.bytes(length.parse().unwrap()).await;
        } else {
            assert_eq!(answer.header("transfer-encoding"), "chunked");
            loop {
                let length = usize::from_str_radix(&self.line().await, 16).unwrap();
                answer.bytes.extend(self.bytes(length).await);
                assert_eq!(self.line().await, "");
                if length == 0 {
                    break;
                }
            }
        }
        let plain = match answer.find("content-encoding") {
            None => answer.bytes.clone(),
            Some("gzip") => {
                let mut plain = Vec::new();
                let mut reader = flate2::bufread::GzDecoder::new(&*answer.bytes);
                std::io::Read::read_to_end(&mut reader, &mut plain).unwrap();
                assert!(reader.into_inner().is_empty(), "one member");
                plain
            }
            Some("zstd") => zstd::decode_all(&*answer.bytes).unwrap(),
            Some(other) => panic!("{other}"),
        };
        answer.body = String::from_utf8(plain).unwrap();
    }

    async fn answer(&mut self, method: &str) -> Answer {
        let mut answer = self.head().await;
        if method != "HEAD" {
            self.body(&mut answer).await;
        }
        answer
    }

    /// Whether the server has closed it and sent nothing more.
    async fn is_over(&mut self) -> bool {
        let mut byte = [0];
        timeout(PATIENCE, self.0.read(&mut byte))
            .await
            .unwrap()
            .unwrap()
            == 0
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    /// Without its coding.
    body: String,
    /// As it came.
    bytes: Vec<u8>,
}

impl Answer {
    fn find(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(this, _)| this == name);
        let found = all.next().map(|(_, value)| value.as_str());
        assert!(all.next().is_none(), "{name} is there twice");
        found
    }

    fn header(&self, name: &str) -> &str {
        self.find(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

#[tokio::test]
async fn the_metrics_page() {
    let server = start(vec![entry("crast-1", 1)], |_| {});
    let answer = server.ask("GET", "/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    for line in [
        r#"aliyun_acr_subscription_task_status{instance_id="cri-a",task_id="crast-1",task="<nginx>",status="succeeded"} 1"#,
        r#"aliyun_acr_subscription_artifact_sync_duration_seconds{instance_id="cri-a",task_id="crast-1",task="<nginx>",repo_namespace="mirror",repo_name="nginx",tag="0"} 1"#,
        // 19 of the task, 2 of its artifact.
        "aliyun_acr_exporter_series 21",
        "aliyun_acr_exporter_series_dropped 0",
        "aliyun_acr_exporter_tasks 1",
        "aliyun_acr_exporter_ready 1",
    ] {
        assert!(
            answer.body.lines().any(|this| this == line),
            "{line}\n{}",
            answer.body
        );
    }
    let watched = answer
        .body
        .lines()
        .filter(|line| line.starts_with("aliyun_acr_subscription_"));
    assert_eq!(watched.count(), 21, "{}", answer.body);

    server.settings.clock.set(NOW_MS + 300_001);
    server.settings.ready.store(false, Ordering::Relaxed);
    let later = server.ask("GET", "/metrics?whatever=1").await;
    assert!(
        !later.body.contains("task_status"),
        "the data is stale by now"
    );
    assert!(later.body.contains("\naliyun_acr_exporter_ready 0\n"));
    server.stopped().await;
}

#[tokio::test]
async fn pages_judge_freshness_by_the_steady_clock() {
    let server = start(vec![entry("crast-1", 1)], |settings| {
        settings.clock = Clock::of_tokio(NOW_MS);
    });
    let shown = async || {
        let page = server.ask("GET", "/metrics").await.body;
        let api = server.ask("GET", "/api/v1/tasks").await.body;
        let people = server.ask("GET", "/").await.body;
        [
            page.contains("task_status"),
            api.contains("\"fresh\":true"),
            !people.contains("Stale:"),
        ]
    };
    server.settings.clock.step_wall(86_400_000);
    assert_eq!(shown().await, [true; 3]);
    server.settings.clock.step_wall(-2 * 86_400_000);
    assert_eq!(shown().await, [true; 3]);
    server.settings.clock.suspend(Duration::from_secs(301));
    assert_eq!(shown().await, [false; 3]);
    server.stopped().await;
}

#[tokio::test]
async fn every_path_and_method() {
    let server = start(vec![entry("crast-1", 1)], |_| {});
    let reload = "The lifecycle API is not enabled: --web.enable-lifecycle enables it.\n";
    let healthy = "aliyun-acr-exporter is healthy.\n";
    let ready = "aliyun-acr-exporter is ready.\n";
    for (method, target, status, allow, body) in [
        ("GET", "/-/healthy", 200, None, Some(healthy)),
        ("GET", "/healthz", 200, None, Some(healthy)),
        ("GET", "/-/ready", 200, None, Some(ready)),
        ("GET", "/readyz", 200, None, Some(ready)),
        ("POST", "/-/reload", 403, None, Some(reload)),
        ("PUT", "/-/reload", 403, None, Some(reload)),
        ("GET", "/-/reload", 405, Some("POST, PUT"), None),
        ("DELETE", "/-/reload", 405, Some("POST, PUT"), None),
        ("POST", "/metrics", 405, Some("GET, HEAD"), None),
        ("OPTIONS", "/metrics", 405, Some("GET, HEAD"), None),
        ("PUT", "/", 405, Some("GET, HEAD"), None),
        ("POST", "/healthz", 405, Some("GET, HEAD"), None),
        ("POST", "/-/ready", 405, Some("GET, HEAD"), None),
        ("GET", "/", 200, None, None),
        ("GET", "/?page=7", 200, None, None),
        ("GET", "/api/v1/tasks", 200, None, None),
        ("GET", "/api/v1/tasks?limit=x", 400, None, None),
        ("POST", "/api/v1/tasks", 405, Some("GET, HEAD"), None),
        ("GET", "/api/v1/openapi.json", 200, None, None),
        ("GET", "/config", 200, None, Some("poll: {}\n")),
        ("PUT", "/config", 405, Some("GET, HEAD"), None),
        ("GET", "/api/v1/", 404, None, None),
        ("GET", "/api/v1/tasks/", 404, None, None),
        ("GET", "/nothing", 404, None, None),
        ("POST", "/nothing", 404, None, None),
        ("GET", "/metrics/", 404, None, None),
        ("GET", "/METRICS", 404, None, None),
        ("GET", "/-/healthy/../../etc/passwd", 404, None, None),
    ] {
        let answer = server.ask(method, target).await;
        assert_eq!(answer.status, status, "{method} {target}");
        assert_eq!(answer.find("allow"), allow, "{method} {target}");
        assert_eq!(answer.header("cache-control"), "no-store");
        if let Some(body) = body {
            assert_eq!(answer.body, body, "{method} {target}");
            assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        }
    }

    // HEAD shows nothing, and a page of other families neither.
    server.ask("HEAD", "/metrics").await;
    let others = "/metrics?name[]=aliyun_acr_exporter_tasks";
    assert_eq!(server.ask("GET", others).await.status, 200);
    let counted = async || {
        let page = server.ask("GET", "/metrics").await.body;
        let lines = page.lines();
        let lines =
            lines.filter_map(|line| line.strip_prefix("aliyun_acr_exporter_http_requests_total"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    // The first page that has them shows 0, the next what was counted.
    let first = counted().await;
    assert_eq!(first.len(), 17);
    assert!(first.iter().all(|line| line.ends_with("} 0")), "{first:?}");
    let counted = counted().await;
    assert_eq!(
        counted,
        [
            r#"{code="200",path="/"} 2"#,
            r#"{code="200",path="/-/healthy"} 2"#,
            r#"{code="200",path="/-/ready"} 2"#,
            r#"{code="200",path="/api/v1/openapi.json"} 1"#,
            r#"{code="200",path="/api/v1/tasks"} 1"#,
            r#"{code="200",path="/config"} 1"#,
            r#"{code="200",path="/metrics"} 3"#,
            r#"{code="400",path="/api/v1/tasks"} 1"#,
            r#"{code="403",path="/-/reload"} 2"#,
            r#"{code="404",path="other"} 7"#,
            r#"{code="405",path="/"} 1"#,
            r#"{code="405",path="/-/healthy"} 1"#,
            r#"{code="405",path="/-/ready"} 1"#,
            r#"{code="405",path="/-/reload"} 2"#,
            r#"{code="405",path="/api/v1/tasks"} 1"#,
            r#"{code="405",path="/config"} 1"#,
            r#"{code="405",path="/metrics"} 2"#,
        ]
    );
    server.stopped().await;
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let server = start(vec![entry("crast-1", 1)], |_| {});
    let mut connection = server.connect().await;
    for target in [
        "/",
        "/api/v1/tasks",
        "/api/v1/tasks?a",
        "/config",
        "/healthz",
        "/readyz",
        "/nothing",
    ] {
        connection.send("GET", target).await;
        let get = connection.answer("GET").await;
        // A body after HEAD would be taken for the head of the next answer.
        connection.send("HEAD", target).await;
        let head = connection.answer("HEAD").await;
        assert_eq!(head.status, get.status, "{target}");
        let without_date = |answer: Answer| {
            let mut headers = answer.headers;
            headers.retain(|(name, _)| name != "date");
            headers
        };
        assert_eq!(without_date(head), without_date(get), "{target}");
    }
    connection.send("HEAD", "/metrics").await;
    let head = connection.answer("HEAD").await;
    assert_eq!(head.status, 200);
    assert!(head.header("content-length").parse::<usize>().unwrap() > 1_000);
    connection.send("GET", "/healthz").await;
    assert_eq!(connection.answer("GET").await.status, 200);
    server.stopped().await;
}

#[tokio::test]
async fn readiness_follows_the_flag() {
    let server = start(Vec::new(), |settings| {
        settings.ready.store(false, Ordering::Relaxed);
    });
    let before = server.ask("GET", "/-/ready").await;
    assert_eq!(before.status, 503);
    assert_eq!(
        before.body,
        "aliyun-acr-exporter is not ready: not every task was tried yet.\n"
    );
    assert_eq!(server.ask("GET", "/healthz").await.status, 200);
    server.settings.ready.store(true, Ordering::Relaxed);
    assert_eq!(server.ask("GET", "/readyz").await.status, 200);
    server.stopped().await;
}

#[tokio::test]
async fn a_stopping_server_is_not_ready() {
    let server = start(Vec::new(), |_| {});
    let routes = Routes::new(server.settings.clone(), server.stop.clone());
    let request = hyper::Request::get("/readyz").body(()).unwrap();
    let (request, ()) = request.into_parts();
    assert_eq!(routes.handle(&request).await.status(), 200);
    server.stopped().await;
    assert_eq!(routes.handle(&request).await.status(), 503);
}

#[tokio::test]
async fn the_status_page_is_locked_down_and_escaped() {
    let server = start(vec![entry("crast-1", 1)], |_| {});
    let answer = server.ask("GET", "/").await;
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("x-frame-options"), "DENY");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    let policy = answer.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    for directive in [
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(directive), "{policy}");
    }
    assert!(!policy.contains("unsafe"));
    // What the hash does not allow is not there.
    assert_eq!(answer.body.matches("<style>").count(), 1);
    assert!(!answer.body.contains("style=") && !answer.body.contains("<script"));
    assert!(answer.body.contains("&#60;nginx&#62;") && !answer.body.contains("<nginx>"));
    server.stopped().await;
}

#[tokio::test]
async fn the_api_answers_in_json_and_the_configuration_in_text() {
    let (shown, config) = watch::channel(Arc::from("a: <b>\n"));
    let server = start(vec![entry("crast-1", 1), entry("crast-2", 0)], |settings| {
        settings.config = config;
    });
    let page = server.ask("GET", "/api/v1/tasks?limit=1").await;
    assert_eq!(page.header("content-type"), "application/json");
    let page: serde_json::Value = serde_json::from_str(&page.body).unwrap();
    assert_eq!(page["tasks"][0]["task_id"], "crast-1");
    assert_eq!(page["tasks"][0]["task"], "<nginx>");
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = format!("/api/v1/tasks?limit=1&cursor={cursor}");
    let next = server.ask("GET", &next).await.body;
    let next: serde_json::Value = serde_json::from_str(&next).unwrap();
    assert_eq!(next["tasks"][0]["task_id"], "crast-2");
    assert!(next["next_cursor"].is_null());

    let refusal = server.ask("GET", "/api/v1/tasks?limit=0").await;
    assert_eq!(refusal.header("content-type"), "application/json");
    let refusal: serde_json::Value = serde_json::from_str(&refusal.body).unwrap();
    assert_eq!(refusal["error"]["parameter"], "limit");

    let document = server.ask("GET", "/api/v1/openapi.json").await;
    assert_eq!(document.header("content-type"), "application/json");
    assert_eq!(document.body, include_str!("openapi.json"));

    let config = server.ask("GET", "/config").await;
    assert_eq!(config.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(config.body, "a: <b>\n");
    shown.send(Arc::from("a: c\n")).unwrap();
    assert_eq!(server.ask("GET", "/config").await.body, "a: c\n");
    server.stopped().await;
}

#[tokio::test]
async fn another_telemetry_path_counts_as_metrics() {
    let server = start(Vec::new(), |settings| {
        settings.telemetry_path = "/a/b".into();
    });
    assert_eq!(server.ask("GET", "/metrics").await.status, 404);
    assert_eq!(server.ask("GET", "/a/b").await.status, 200);
    let page = server.ask("GET", "/a/b").await.body;
    assert!(page.contains(r#"http_requests_total{code="200",path="/metrics"} 1"#));
    assert!(server.ask("GET", "/").await.body.contains("href=\"./a/b\""));
    server.stopped().await;
}

#[tokio::test]
async fn scrapes_beyond_the_limit_are_refused_and_health_is_not() {
    // Some 2 MB, far more than the sockets and the server's buffer hold.
    let server = start(vec![entry("crast-1", 5_000)], |settings| {
        settings.max_requests = 1;
    });
    let mut first = server.connect().await;
    first.send("GET", "/metrics").await;
    let mut answer = first.head().await;

    let refused = server.ask("GET", "/metrics").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), "1");
    for path in ["/-/healthy", "/-/ready", "/"] {
        assert_eq!(server.ask("GET", path).await.status, 200, "{path}");
    }

    first.body(&mut answer).await;
    assert!(answer.body.len() > 1_000_000 && answer.body.ends_with('\n'));
    first.send("GET", "/metrics").await;
    assert_eq!(
        first.answer("GET").await.status,
        200,
        "its own place is free again"
    );
    drop(first);
    server.stopped().await;
}

#[tokio::test]
async fn no_limit_of_scrapes() {
    let server = start(Vec::new(), |settings| settings.max_requests = 0);
    assert_eq!(server.ask("GET", "/metrics").await.status, 200);
    server.stopped().await;
}

#[tokio::test]
async fn the_end_waits_for_what_is_in_flight_and_nothing_else() {
    let server = start(vec![entry("crast-1", 5_000)], |_| {});
    let mut silent = server.connect().await;
    let mut half = server.connect().await;
    half.send_half().await;
    let mut busy = server.connect().await;
    busy.send("GET", "/metrics").await;
    let mut answer = busy.head().await;
    // The last one: what it gets an answer from has the others.
    let mut idle = server.connect().await;
    idle.send("GET", "/healthz").await;
    assert_eq!(idle.answer("GET").await.find("connection"), None);

    server.stop.cancel();
    assert!(silent.is_over().await);
    assert!(half.is_over().await);
    assert!(idle.is_over().await);

    let late_silent = server.connect().await;
    let mut late_half = server.connect().await;
    late_half.send_half().await;
    for (path, status) in [("/-/ready", 503), ("/-/healthy", 200), ("/-/ready", 503)] {
        let mut late = server.connect().await;
        late.send("GET", path).await;
        let answer = late.answer("GET").await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("connection"), "close");
        assert!(late.is_over().await);
    }
    // One that comes late may take its time, as long as there is some.
    let rest = b"al HTTP/1.1\r\nHost: exporter\r\n\r\n";
    late_half.0.write_all(rest).await.unwrap();
    assert_eq!(late_half.answer("GET").await.status, 404);
    let mut late_half = server.connect().await;
    late_half.send_half().await;
    assert_eq!(server.ask("GET", "/-/ready").await.status, 503);
    assert!(!server.serving.is_finished());

    busy.body(&mut answer).await;
    assert!(answer.body.contains("\naliyun_acr_exporter_series "));
    assert!(busy.is_over().await);
    let address = server.address;
    server.stopped().await;
    assert!(TcpStream::connect(address).await.is_err());
    drop((late_silent, late_half));
}

#[tokio::test]
async fn half_a_request_does_not_hold_up_the_end() {
    let server = start(Vec::new(), |_| {});
    let mut half = server.connect().await;
    half.send_half().await;
    assert_eq!(server.ask("GET", "/healthz").await.status, 200);
    server.stopped().await;
    assert!(half.is_over().await);
}

#[tokio::test]
async fn half_a_request_is_given_up_and_a_kept_connection_is_not() {
    let limits = Limits {
        head: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = start_within(limits, Vec::new(), |_| {});
    let mut silent = server.connect().await;
    let mut kept = server.connect().await;
    kept.send("GET", "/healthz").await;
    kept.answer("GET").await;
    let mut half = server.connect().await;
    half.send_half().await;
    assert!(half.is_over().await);
    // Both have rested for longer than that.
    for connection in [&mut silent, &mut kept] {
        connection.send("GET", "/healthz").await;
        assert_eq!(connection.answer("GET").await.status, 200);
    }
    server.stopped().await;
}

#[tokio::test]
async fn a_crowd_makes_room() {
    let (log, _capture) = Log::capture();
    let limits = Limits {
        connections: 8,
        ..Limits::default()
    };
    let server = start_within(limits, vec![entry("crast-1", 5_000)], |_| {});
    let mut busy = server.connect().await;
    busy.send("GET", "/metrics").await;
    let mut answer = busy.head().await;
    let mut kept = server.connect().await;
    kept.send("GET", "/healthz").await;
    kept.answer("GET").await;

    let mut crowd = Vec::new();
    for _ in 0..40 {
        let mut half = server.connect().await;
        half.send_half().await;
        crowd.push(half);
    }
    assert_eq!(server.ask("GET", "/-/healthy").await.status, 200);
    assert!(kept.is_over().await);
    assert!(crowd[0].is_over().await);
    busy.body(&mut answer).await;
    assert_eq!(log.count("connection limit reached"), 1);
    server.stopped().await;
}

#[tokio::test]
async fn no_answer_is_cut_off_to_make_room() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let server = start_within(limits, vec![entry("crast-1", 5_000)], |_| {});
    let mut busy = server.connect().await;
    busy.send("GET", "/metrics").await;
    let mut answer = busy.head().await;
    let mut next = server.connect().await;
    next.send("GET", "/healthz").await;
    busy.body(&mut answer).await;
    assert!(busy.is_over().await, "it rests, so its place is taken");
    assert_eq!(next.answer("GET").await.status, 200);
    server.stopped().await;
}

#[tokio::test]
async fn requests_sent_together_are_answered_in_turn() {
    let server = start(vec![entry("crast-1", 5_000)], |_| {});
    let mut connection = server.connect().await;
    let one = "GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n";
    connection
        .0
        .write_all(one.repeat(3).as_bytes())
        .await
        .unwrap();
    for _ in 0..3 {
        let answer = connection.answer("GET").await;
        assert_eq!(answer.status, 200);
    }
    assert!(!server.serving.is_finished());
    server.stopped().await;
    assert!(connection.is_over().await);
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let server = start(vec![entry("crast-1", 5_000)], |settings| {
        settings.drain = Duration::ZERO;
    });
    let mut busy = server.connect().await;
    busy.send("GET", "/metrics").await;
    let answer = busy.head().await;
    server.stopped().await;

    assert_eq!(answer.header("transfer-encoding"), "chunked");
    let mut rest = Vec::new();
    // The end of the stream or a reset: either way the answer is cut off.
    let _ = timeout(PATIENCE, busy.0.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(!rest.ends_with(b"\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn a_large_page_is_made_elsewhere_and_is_whole() {
    let server = start(vec![entry("crast-1", 50_000)], |_| {});
    let page = server.ask("GET", "/metrics").await.body;
    let artifacts = page
        .lines()
        .filter(|line| line.starts_with("aliyun_acr_subscription_artifact_"));
    assert_eq!(artifacts.count(), 100_000);
    server.stopped().await;
}

#[tokio::test]
async fn a_request_with_a_body_is_answered() {
    let server = start(Vec::new(), |_| {});
    let mut connection = server.connect().await;
    let request = "GET /healthz HTTP/1.1\r\nHost: exporter\r\nContent-Length: 1000000\r\n\r\n";
    connection.0.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(connection.answer("GET").await.status, 200);
    server.stopped().await;
}

/// Nobody reads it, however long it is and whatever path it is for.
#[tokio::test]
async fn the_body_of_a_request_ends_the_connection() {
    let server = start(Vec::new(), |_| {});
    for (target, status) in [("/-/reload", 403), ("/metrics", 405), ("/nothing", 404)] {
        for length in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
            let mut connection = server.connect().await;
            let length = format!("{length}\r\n");
            connection.send_with("POST", target, &length).await;
            assert_eq!(connection.answer("POST").await.status, status, "{target}");
            let chunk = format!("ffff\r\n{}\r\n", "a".repeat(0xffff));
            let mut sent = 0;
            let sending = async {
                while connection.0.write_all(chunk.as_bytes()).await.is_ok() {
                    sent += chunk.len();
                }
            };
            timeout(PATIENCE, sending).await.unwrap();
            // What the two sockets hold.
            assert!(sent < 20_000_000, "{target}: {sent}");
        }
    }
    server.stopped().await;
}

/// It takes something all the time, and never enough.
#[tokio::test]
async fn a_client_that_reads_for_too_long_is_cut_off() {
    let limits = Limits {
        response: Duration::from_millis(500),
        ..Limits::default()
    };
    let server = start_within(limits, vec![entry("crast-1", 5_000)], |_| {});
    let mut slow = server.connect().await;
    let began = tokio::time::Instant::now();
    slow.send("GET", "/metrics").await;
    let mut piece = [0; 100];
    let mut read = 0;
    // A piece each 5 ms makes 100 s for the whole page.
    let reading = async {
        loop {
            match slow.0.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(some) => read += some,
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reading).await.unwrap();
    assert!(began.elapsed() >= limits.response);
    assert!(read < 1_000_000, "{read}");
    assert_eq!(server.ask("GET", "/metrics").await.status, 200);
    server.stopped().await;
}

/// One of HTTP/1.0 knows the end of a page by the end of the connection.
#[tokio::test]
async fn a_page_that_is_cut_off_does_not_look_whole() {
    let server = start(vec![entry("crast-1", 5_000)], |settings| {
        settings.drain = Duration::ZERO;
    });
    let mut old = server.connect().await;
    let request = b"GET /metrics HTTP/1.0\r\n\r\n";
    old.0.write_all(request).await.unwrap();
    assert_eq!(old.line().await, "HTTP/1.0 200 OK");
    server.stopped().await;
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, old.0.read_to_end(&mut rest)).await;
    assert_eq!(
        read.unwrap().unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn nonsense_is_refused() {
    let server = start(Vec::new(), |_| {});
    let mut connection = server.connect().await;
    connection
        .0
        .write_all(b"\x16\x03\x01\x02\x00\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(connection.head().await.status, 400);
    let mut connection = server.connect().await;
    // All that the server takes and not a byte more: what it leaves unread
    // would reset the connection and take the answer with it.
    let start = "GET /healthz HTTP/1.1\r\nHost: exporter\r\nX: ";
    let request = start.to_owned() + &"a".repeat(HEAD_MAX - start.len());
    connection.0.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(connection.head().await.status, 431);
    assert_eq!(server.ask("GET", "/healthz").await.status, 200);
    server.stopped().await;
}

#[tokio::test]
async fn several_listeners() {
    let one = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [one.local_addr().unwrap(), other.local_addr().unwrap()];
    let template = start(Vec::new(), |_| {});
    let stop = CancellationToken::new();
    let serving = serve(vec![one, other], template.settings.clone(), stop.clone());
    let serving = tokio::spawn(serving);
    for address in addresses {
        let mut connection = Connection(BufReader::new(TcpStream::connect(address).await.unwrap()));
        connection.send("GET", "/healthz").await;
        assert_eq!(connection.answer("GET").await.status, 200);
    }
    stop.cancel();
    timeout(PATIENCE, serving).await.unwrap().unwrap();
    template.stopped().await;
}

#[test]
fn the_telemetry_path_cannot_hide_another() {
    for path in [
        "/",
        "/-/",
        "/-/healthy",
        "/-/ready",
        "/-/reload",
        "/-/later",
        "/api/v1/tasks",
        "/api/later",
        "/config",
        "/healthz",
        "/readyz",
    ] {
        assert!(is_reserved(path), "{path}");
    }
    for path in ["/metrics", "/-", "/apis", "/config/metrics", "/a/-/metrics"] {
        assert!(!is_reserved(path), "{path}");
    }
}
