//! A real Prometheus scrapes the demo, in OpenMetrics and gzip: the values
//! arrive, the shipped rules work on them, and every query of the dashboards
//! answers.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{
    Daemon, binary, eventually, project, real_part, real_part_of_prometheus3, request, run, say,
};

pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn scraping(program: &Path, folder: &Path, target: SocketAddr) -> Self {
        Self::scraping_by(program, folder, target, "")
    }

    /// The same with more keys for the job, each in a line of two blanks.
    pub(crate) fn scraping_by(
        program: &Path,
        folder: &Path,
        target: SocketAddr,
        job: &str,
    ) -> Self {
        let rules = project().join("deploy/prometheus/rules.yaml");
        Self::start(program, folder, target, &rules, None, job)
    }

    /// Scrapes and evaluates each second.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        target: SocketAddr,
        rules: &Path,
        alertmanager: Option<SocketAddr>,
        job: &str,
    ) -> Self {
        let alertmanagers: Vec<String> = alertmanager.iter().map(ToString::to_string).collect();
        let config = folder.join("prometheus.yaml");
        std::fs::write(
            &config,
            format!(
                "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: [\"{}\"]
alerting: {{ alertmanagers: [ {{ static_configs: [ {{ targets: {alertmanagers:?} }} ] }} ] }}
scrape_configs:
- job_name: aliyun-acr-exporter
  static_configs: [{{ targets: [\"{target}\"] }}]
{job}",
                rules.display()
            ),
        )
        .unwrap();
        let address = free_address();
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let prometheus = Self { child, address };
        eventually("Prometheus listens", || {
            std::net::TcpStream::connect(address).ok().map(drop)
        });
        prometheus
    }

    pub(crate) fn api(&self, path: &str) -> Value {
        json_api(self.address, path)
    }

    /// The values of an instant query, in the order that Prometheus gives.
    pub(crate) fn query(&self, query: &str) -> Vec<String> {
        let encoded = alibaba_cloud::signing::percent_encode(query);
        let answer = self.api(&format!("/api/v1/query?query={encoded}"));
        let Some(result) = answer["data"]["result"].as_array() else {
            return Vec::new();
        };
        let value = |sample: &Value| sample["value"][1].as_str().unwrap().to_owned();
        result.iter().map(value).collect()
    }
}

/// An address for a program that cannot pick a port by itself.
pub(crate) fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap()
}

/// What an HTTP API of Prometheus or Alertmanager answers; null while it has nothing to say.
pub(crate) fn json_api(address: SocketAddr, path: &str) -> Value {
    let answer = request(address, "GET", path);
    serde_json::from_str(&answer.body).unwrap_or_default()
}

fn demo() -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary(&["demo", "--web.listen-address=127.0.0.1:0"]);
    command.current_dir(folder.path());
    let daemon = Daemon::start(command, folder);
    daemon.ready();
    daemon
}

#[test]
fn promtool_has_nothing_to_say_about_the_page() {
    let Some(promtool) = real_part("promtool") else {
        return;
    };
    let daemon = demo();
    let page = daemon.get("/metrics").body;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.txt");
    std::fs::write(&file, page).unwrap();
    let mut check = Command::new(promtool);
    check
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(&file).unwrap());
    let said = run(&mut check);
    assert_eq!(
        (said.code, said.out.as_str(), said.err.as_str()),
        (0, "", "")
    );
}

/// Prometheus knows units from OpenMetrics alone, and asks for it by itself; it
/// reads there what a client of text reads.
fn scraped_in_openmetrics(prometheus: &Prometheus, daemon: &Daemon) {
    let metadata = prometheus.api("/api/v1/targets/metadata?limit=1000");
    let metadata = metadata["data"].as_array().unwrap();
    for (family, kind, unit) in [
        (
            "aliyun_acr_subscription_task_poll_interval_seconds",
            "gauge",
            "seconds",
        ),
        (
            "aliyun_acr_exporter_api_rate_limit_wait_seconds",
            "counter",
            "seconds",
        ),
        ("aliyun_acr_exporter_polls", "counter", ""),
    ] {
        let mut known = metadata.iter().filter(|known| known["metric"] == family);
        let known = known.next().unwrap_or_else(|| panic!("no {family}"));
        assert_eq!(
            (&known["type"], &known["unit"]),
            (&kind.into(), &unit.into())
        );
    }

    let name = "aliyun_acr_subscription_artifact_sync_duration_seconds";
    let labels = [
        "instance_id",
        "task_id",
        "task",
        "repo_namespace",
        "repo_name",
        "tag",
    ];
    eventually("both read the same durations", || {
        let answer = prometheus.api(&format!("/api/v1/query?query={name}"));
        let scraped = answer["data"]["result"].as_array()?.iter().map(|sample| {
            let label = |label: &&str| format!("{label}={}", sample["metric"][*label]);
            let labels: Vec<_> = labels.iter().map(label).collect();
            let value = sample["value"][1].as_str().unwrap().to_owned();
            (format!("{name}{{{}}}", labels.join(",")), value)
        });
        let scraped: BTreeMap<_, _> = scraped.collect();
        let mut page = daemon.page();
        page.retain(|sample, _| sample.starts_with(name));
        (page.len() > 240 && scraped == page).then_some(())
    });
}

fn the_shipped_rules_work(prometheus: &Prometheus) {
    eventually("the shipped rules fire for the failed task alone", || {
        let firing = prometheus
            .query("count(ALERTS{alertname=\"AliyunAcrTaskFailed\",alertstate=\"firing\"})");
        let redis =
            prometheus.query("count(ALERTS{alertname=\"AliyunAcrTaskFailed\",task=\"redis\"})");
        (firing == ["1"] && redis == ["1"]).then_some(())
    });
    let rules = prometheus.api("/api/v1/rules");
    for group in rules["data"]["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            // One that looks at days is not evaluated each second.
            assert_ne!(rule["health"], "err", "{rule}");
        }
    }
}

#[test]
fn prometheus_scrapes_the_demo() {
    scrapes_the_demo(real_part("prometheus"));
}

#[test]
fn prometheus3_scrapes_the_demo() {
    scrapes_the_demo(real_part_of_prometheus3("prometheus"));
}

fn scrapes_the_demo(program: Option<PathBuf>) {
    let Some(program) = program else {
        return;
    };
    let daemon = demo();
    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::scraping(&program, folder.path(), daemon.address);
    eventually("the target was scraped", || {
        let targets = prometheus.api("/api/v1/targets");
        let health = targets["data"]["activeTargets"][0]["health"]
            .as_str()?
            .to_owned();
        (health != "unknown").then_some(())
    });
    // A sample may be stored a moment after its target is known to be well.
    let one = |query: &str| {
        eventually(query, || {
            let values = prometheus.query(query);
            (!values.is_empty()).then_some(values)
        })
    };
    assert_eq!(one("up"), ["1"]);
    // What the simulated cloud was given: 10 s to 60 s after its start for the
    // repeated artifact, a minute for the contradictory one, and so on.
    for (query, value) in [
        (
            "aliyun_acr_subscription_task_status{task=\"redis\",status=\"failed\"}",
            "1",
        ),
        (
            "aliyun_acr_subscription_task_status{task=\"nginx\",status=\"succeeded\"}",
            "1",
        ),
        (
            "aliyun_acr_subscription_task_status{task=\"ubuntu\",status=\"running\"}",
            "1",
        ),
        (
            "aliyun_acr_subscription_task_status{task=\"unused\",status=\"empty\"}",
            "1",
        ),
        (
            "aliyun_acr_subscription_task_status{task=\"odd-word\",status=\"unknown\"}",
            "1",
        ),
        (
            "aliyun_acr_subscription_task_artifacts{task=\"redis\",status=\"failed\"}",
            "3",
        ),
        (
            "aliyun_acr_subscription_task_artifacts{task=\"redis\",status=\"succeeded\"}",
            "3",
        ),
        (
            "sum(aliyun_acr_subscription_task_artifacts{task=\"etcd\"})",
            "240",
        ),
        (
            "aliyun_acr_subscription_task_sync_duration_seconds{task=\"contradictory\"}",
            "60",
        ),
        (
            "aliyun_acr_subscription_artifact_sync_duration_seconds{task=\"repeated\"}",
            "50",
        ),
        (
            "aliyun_acr_subscription_artifact_sync_duration_seconds{task=\"backwards\"}",
            "60",
        ),
        (
            "count(aliyun_acr_subscription_artifact_status{task=\"etcd\"})",
            "240",
        ),
    ] {
        assert_eq!(one(query), [value], "{query}");
    }

    scraped_in_openmetrics(&prometheus, &daemon);
    the_shipped_rules_work(&prometheus);

    let Some(python) = real_part("python3") else {
        return;
    };
    let dashboards = std::fs::read_dir(project().join("grafana/dashboards")).unwrap();
    let dashboards: Vec<_> = dashboards.map(|entry| entry.unwrap().path()).collect();
    // Rates need a few scrapes, and what is counted of runs needs one that began after the
    // first listing.
    eventually("every query of the dashboards answers", || {
        let mut check = Command::new(&python);
        check
            .arg(project().join("scripts/dashboard-queries.py"))
            .arg(format!("http://{}", prometheus.address))
            .args(&dashboards);
        let said = run(&mut check);
        if said.code != 0 {
            say(&format!("{}{}", said.out, said.err));
        }
        (said.code == 0).then_some(())
    });
}
