//! From the cloud to a person: a sync fails in the simulated cloud and a
//! webhook hears of it through a real Prometheus with the shipped rules and a
//! real Alertmanager with the shipped configuration. Once with those of the
//! system, once with Prometheus 3.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use alibaba_cloud::clock::Clock;
use regex::{Captures, Regex};
use serde_json::Value;
use simulator::faults::{Fault, FaultRule};
use simulator::world::{RowSpec, RuleSpec, Source, TaskSpec};
use simulator::{Running, Simulator, SimulatorConfig, World, demo};

use crate::harness::{Daemon, eventually, project, real_part, real_part_of_prometheus3, say};
use crate::prometheus::{Prometheus, free_address, json_api};

/// What the shipped files wait for passes a hundred times as fast, so that all
/// of it keeps its order.
const HASTE: u64 = 100;

/// The shipped rules with `for`, the group's interval and the ages of data a
/// hundredth as long. Ranges stay: they look back over what there is.
fn hasty_rules(folder: &Path) -> PathBuf {
    let shipped = project().join("deploy/prometheus/rules.yaml");
    let shipped = std::fs::read_to_string(shipped).unwrap();
    let waits = Regex::new(r"(?m)^( +(?:for|interval): )(\d+)m$").unwrap();
    let hasty = waits.replace_all(&shipped, |wait: &Captures<'_>| {
        let minutes: u64 = wait[2].parse().unwrap();
        format!("{}{}ms", &wait[1], minutes * 60_000 / HASTE)
    });
    let hasty = changed(&hasty, ", 900)\n", ", 9)\n");
    let hasty = changed(&hasty, " < 300\n", " < 3\n");
    assert!(hasty.contains("for: 6000ms"), "{hasty}");
    let file = folder.join("rules.yaml");
    std::fs::write(&file, hasty).unwrap();
    file
}

fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the shipped file");
    text.replace(from, to)
}

struct Alertmanager {
    child: Child,
    address: SocketAddr,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Alertmanager {
    /// The shipped configuration, but for where it notifies and how long it gathers.
    fn notifying(program: &Path, folder: &Path, webhook: SocketAddr) -> Self {
        let shipped = project().join("deploy/prometheus/alertmanager.yaml");
        let mut config = std::fs::read_to_string(shipped).unwrap();
        for (from, to) in [
            ("pager.example.com", format!("{webhook}/pager")),
            ("team.example.com", format!("{webhook}/team")),
            ("group_wait: 30s", "group_wait: 1s".to_owned()),
            ("group_interval: 5m", "group_interval: 1s".to_owned()),
        ] {
            config = changed(&config, from, &to);
        }
        let file = folder.join("alertmanager.yaml");
        std::fs::write(&file, config).unwrap();
        let address = free_address();
        let child = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", folder.join("am").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let alertmanager = Self { child, address };
        eventually("Alertmanager listens", || TcpStream::connect(address).ok());
        alertmanager
    }

    /// The names of the alerts that are suppressed because another is firing.
    fn inhibited(&self) -> BTreeSet<String> {
        let alerts = json_api(self.address, "/api/v2/alerts");
        let alerts = alerts.as_array().cloned().unwrap_or_default();
        let inhibited = alerts.iter().filter(|alert| {
            let by = alert["status"]["inhibitedBy"].as_array();
            by.is_some_and(|by| !by.is_empty())
        });
        inhibited
            .map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// One alert of a notification.
#[derive(Clone, Debug)]
struct Heard {
    receiver: String,
    status: String,
    labels: BTreeMap<String, String>,
    runbook: String,
    at: Instant,
}

impl Heard {
    fn name(&self) -> &str {
        &self.labels["alertname"]
    }
}

/// Hears what Alertmanager tells, on a thread that ends with it.
struct Webhook {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Webhook {
    fn listening() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&heard);
        let thread = std::thread::spawn(move || {
            // A request without a body is the one that ends it.
            while let Some(notification) = hear(&listener) {
                sink.lock().unwrap().extend(notification);
            }
        });
        Self {
            address,
            heard,
            thread: Some(thread),
        }
    }

    fn all(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits for the first notification of this alert in this state.
    fn hears(&self, alert: &str, status: &str) -> Heard {
        eventually(&format!("{alert} {status}"), || {
            let all = self.all();
            let one = |heard: &&Heard| heard.name() == alert && heard.status == status;
            all.iter().find(one).cloned()
        })
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if std::thread::panicking() {
            say(&format!("notifications:\n{:#?}", self.all()));
        }
    }
}

/// Takes one notification; `None` for a connection that says nothing.
fn hear(listener: &TcpListener) -> Option<Vec<Heard>> {
    let (stream, _) = listener.accept().unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    let at = Instant::now();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.get_mut().write_all(answer).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let receiver = path.split('/').nth(1).unwrap();
    let alert = |alert: &Value| Heard {
        receiver: receiver.to_owned(),
        status: alert["status"].as_str().unwrap().to_owned(),
        labels: serde_json::from_value(alert["labels"].clone()).unwrap(),
        runbook: alert["annotations"]["runbook_url"]
            .as_str()
            .unwrap()
            .to_owned(),
        at,
    };
    Some(
        body["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .map(alert)
            .collect(),
    )
}

/// When the first run began: an hour ago, a whole second.
fn start() -> i64 {
    (Clock::system().now_millis() / 1_000 - 3_600) * 1_000
}

fn source() -> Source {
    Source::new("DOCKER_HUB", "library/nginx", "mirror/nginx")
}

fn succeeded(id: &str, start: i64) -> TaskSpec {
    let row = RowSpec::succeeded("mirror", "nginx", id, start, start + 1_000);
    let task = TaskSpec::succeeded(id, start, start + 1_000);
    task.source(&source()).row(row)
}

fn failed(id: &str, start: i64) -> TaskSpec {
    let row = RowSpec::failed("mirror", "nginx", id, start, start + 1_000);
    let task = TaskSpec::failed(id, start, start + 1_000, "pull rate limit");
    task.source(&source()).row(row)
}

/// Everything that stands between the cloud and a person.
struct Chain {
    cloud: Running,
    daemon: Daemon,
    prometheus: Prometheus,
    alertmanager: Alertmanager,
    webhook: Webhook,
    /// When the run that is there from the beginning began.
    start: i64,
    _folder: tempfile::TempDir,
}

impl Chain {
    /// A followed subscription and a configured task, which has the name that its followed runs
    /// have. Both are fine.
    fn begin(prometheus: &Path, alertmanager: &Path) -> Self {
        let start = start();
        let world = World::new()
            .instance("cri-a", "cn-hangzhou")
            .rule(RuleSpec::new("crasr-1", &source(), start - 1_000))
            .task(succeeded("crast-0", start))
            .task(succeeded("crast-named", start - 2_000));
        let cloud = Simulator::start(SimulatorConfig {
            world,
            ..SimulatorConfig::default()
        })
        .unwrap();
        let daemon = Daemon::serve(&format!(
            "poll: {{ interval: 1s, finished_interval: 1s }}
api: {{ requests_per_second: 1000, burst: 100, retries: 0 }}
credentials:
  test: {{ type: access_key, access_key_id: {}, access_key_secret: {} }}
instances:
  - id: cri-a
    region: cn-hangzhou
    credentials: test
    endpoint: {}
    tasks: [{{ id: crast-named, name: mirror/nginx }}]
    follow: {{ interval: 1s }}
",
            demo::KEY_ID,
            demo::KEY_SECRET,
            cloud.url()
        ));
        daemon.ready();
        let folder = tempfile::tempdir().unwrap();
        let webhook = Webhook::listening();
        let alertmanager = Alertmanager::notifying(alertmanager, folder.path(), webhook.address);
        let rules = hasty_rules(folder.path());
        let prometheus = Prometheus::start(
            prometheus,
            folder.path(),
            daemon.address,
            &rules,
            Some(alertmanager.address),
            "",
        );
        let whole = Self {
            cloud,
            daemon,
            prometheus,
            alertmanager,
            webhook,
            start,
            _folder: folder,
        };
        whole.prometheus_tells(
            "subscription:aliyun_acr_subscription_last_finished_run_failed:held",
            "0",
        );
        whole.prometheus_tells(
            "task:aliyun_acr_subscription_task_status:held{status=\"succeeded\"}",
            "1",
        );
        whole
    }

    fn put(&self, task: TaskSpec) {
        self.cloud.update(|world| world.put_task("cri-a", task));
    }

    fn prometheus_tells(&self, query: &str, value: &str) {
        eventually(query, || {
            (self.prometheus.query(query) == [value]).then_some(())
        });
    }

    /// What was notified as firing so far: receiver and alert.
    fn notified(&self) -> BTreeSet<(String, String)> {
        let all = self.webhook.all().into_iter();
        all.filter(|heard| heard.status == "firing")
            .map(|heard| (heard.receiver.clone(), heard.name().to_owned()))
            .collect()
    }
}

fn owned<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let pairs = pairs.into_iter();
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn of_the_subscription(alert: &str, severity: &str) -> BTreeMap<String, String> {
    owned([
        ("alertname", alert),
        ("severity", severity),
        ("instance_id", "cri-a"),
        ("repo_namespace", "mirror"),
        ("repo_name", "nginx"),
        ("source_provider", "DOCKER_HUB"),
        ("source_repository", "library/nginx"),
    ])
}

const SUBSCRIPTION_FAILED: &str =
    "aliyun_acr_subscription_last_finished_run_status{status=\"failed\"}";

fn a_failed_sync_is_told_and_a_later_success_ends_it(which: &str, parts: Option<[PathBuf; 2]>) {
    let Some([prometheus, alertmanager]) = parts else {
        return;
    };
    let chain = Chain::begin(&prometheus, &alertmanager);
    let run = |number: i64| (format!("crast-{number}"), chain.start + number * 1_000);

    // One run fails. Each part hears of it after the one before.
    let (id, at) = run(1);
    chain.put(failed(&id, at));
    let in_the_cloud = Instant::now();
    let mark = "last_finished_run_status{";
    eventually("the page shows it", || {
        let page = chain.daemon.page();
        let mut samples = page.iter();
        samples
            .any(|(name, value)| {
                name.contains(mark) && name.contains("status=\"failed\"") && value == "1"
            })
            .then_some(())
    });
    let on_the_page = in_the_cloud.elapsed();
    chain.prometheus_tells(SUBSCRIPTION_FAILED, "1");
    let scraped = in_the_cloud.elapsed();
    let firing = "count(ALERTS{alertname=\"AliyunAcrSubscriptionFailed\",alertstate=\"firing\"})";
    chain.prometheus_tells(firing, "1");
    let evaluated = in_the_cloud.elapsed();
    let heard = chain.webhook.hears("AliyunAcrSubscriptionFailed", "firing");
    let told = heard.at.duration_since(in_the_cloud);
    say(&format!(
        "{which}: from failure to notification {told:.1?} = poll {on_the_page:.1?} \
         + scrape {:.1?} + rule {:.1?} + group_wait {:.1?}",
        scraped.saturating_sub(on_the_page),
        evaluated.saturating_sub(scraped),
        told.saturating_sub(evaluated),
    ));
    assert_eq!(heard.receiver, "team");
    assert_eq!(
        heard.labels,
        of_the_subscription("AliyunAcrSubscriptionFailed", "warning")
    );
    assert!(
        heard.runbook.ends_with("/AliyunAcrSubscriptionFailed.md"),
        "{}",
        heard.runbook
    );

    // The next one fails, too: that pages.
    let (id, at) = run(2);
    chain.put(failed(&id, at));
    let heard = chain
        .webhook
        .hears("AliyunAcrSubscriptionFailingAgain", "firing");
    assert_eq!(heard.receiver, "pager");
    assert_eq!(
        heard.labels,
        of_the_subscription("AliyunAcrSubscriptionFailingAgain", "critical")
    );

    // A configured task has an alert of its own.
    chain.put(failed("crast-named", chain.start - 2_000));
    let heard = chain.webhook.hears("AliyunAcrTaskFailed", "firing");
    assert_eq!(heard.receiver, "pager");
    assert_eq!(
        heard.labels,
        owned([
            ("alertname", "AliyunAcrTaskFailed"),
            ("severity", "critical"),
            ("instance_id", "cri-a"),
            ("task_id", "crast-named"),
            ("task", "mirror/nginx"),
        ])
    );

    let (id, at) = run(3);
    chain.put(succeeded(&id, at));
    chain.put(succeeded("crast-named", chain.start - 2_000));
    chain
        .webhook
        .hears("AliyunAcrSubscriptionFailingAgain", "resolved");
    chain.webhook.hears("AliyunAcrTaskFailed", "resolved");
    chain.prometheus_tells("count(ALERTS) or vector(0)", "0");
    eventually("every rule was evaluated and is well", || {
        let rules = chain.prometheus.api("/api/v1/rules");
        let groups = rules["data"]["groups"].as_array()?.iter();
        let mut rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        rules.all(|rule| rule["health"] == "ok").then_some(())
    });
    runbooks_ask_what_prometheus_understands(&chain.prometheus);
    let expected = [
        ("team", "AliyunAcrSubscriptionFailed"),
        ("pager", "AliyunAcrSubscriptionFailingAgain"),
        ("pager", "AliyunAcrTaskFailed"),
    ];
    let expected = expected.map(|(receiver, alert)| (receiver.to_owned(), alert.to_owned()));
    assert_eq!(chain.notified(), BTreeSet::from(expected));
}

/// Every query of the runbooks, which hold one a line.
fn runbooks_ask_what_prometheus_understands(prometheus: &Prometheus) {
    let mut asked = 0;
    for book in std::fs::read_dir(project().join("docs/runbooks")).unwrap() {
        let book = book.unwrap().path();
        let text = std::fs::read_to_string(&book).unwrap();
        let blocks = text.split("```promql\n").skip(1);
        for query in blocks.flat_map(|block| block.split("```").next().unwrap().lines()) {
            let encoded = alibaba_cloud::signing::percent_encode(query);
            let answer = prometheus.api(&format!("/api/v1/query?query={encoded}"));
            assert_eq!(answer["status"], "success", "{}: {query}", book.display());
            asked += 1;
        }
    }
    assert!(asked > 50, "{asked}");
}

fn one_alert_tells_the_cause(parts: Option<[PathBuf; 2]>, fault: Fault, cause: (&str, &str)) {
    let Some([prometheus, alertmanager]) = parts else {
        return;
    };
    let chain = Chain::begin(&prometheus, &alertmanager);
    chain.cloud.add_fault(FaultRule::new(fault));
    chain.webhook.hears(cause.1, "firing");
    let follows = ["AliyunAcrDataStale", "AliyunAcrListingFailed"];
    eventually("what follows from it is inhibited", || {
        let inhibited = chain.alertmanager.inhibited();
        let all = follows.iter().all(|alert| inhibited.contains(*alert));
        all.then_some(())
    });
    let cause = (cause.0.to_owned(), cause.1.to_owned());
    assert_eq!(chain.notified(), BTreeSet::from([cause]));
}

fn of_the_system() -> Option<[PathBuf; 2]> {
    Some([
        real_part("prometheus")?,
        real_part("prometheus-alertmanager")?,
    ])
}

fn of_prometheus3() -> Option<[PathBuf; 2]> {
    Some([
        real_part_of_prometheus3("prometheus")?,
        real_part_of_prometheus3("prometheus-alertmanager")?,
    ])
}

fn throttled() -> Fault {
    Fault::Throttle {
        status: 400,
        code: "Throttling.User".to_owned(),
        retry_after_ms: None,
        time_left_ms: None,
        retry_after_s: None,
    }
}

#[test]
fn a_failed_sync_reaches_a_webhook() {
    a_failed_sync_is_told_and_a_later_success_ends_it("the system's Prometheus", of_the_system());
}

#[test]
fn a_failed_sync_reaches_a_webhook_with_prometheus3() {
    a_failed_sync_is_told_and_a_later_success_ends_it("Prometheus 3", of_prometheus3());
}

#[test]
fn a_throttled_api_is_one_alert() {
    one_alert_tells_the_cause(of_the_system(), throttled(), ("team", "AliyunAcrThrottled"));
}

#[test]
fn a_throttled_api_is_one_alert_with_prometheus3() {
    one_alert_tells_the_cause(
        of_prometheus3(),
        throttled(),
        ("team", "AliyunAcrThrottled"),
    );
}

#[test]
fn an_api_that_cannot_be_reached_is_one_alert() {
    let cause = ("pager", "AliyunAcrApiUnreachable");
    one_alert_tells_the_cause(of_the_system(), Fault::Drop, cause);
}
