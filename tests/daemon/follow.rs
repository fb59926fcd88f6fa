//! A followed instance from outside: exact values of a subscription, shards, and
//! a state that is one process's alone. Kills are `kills`'s.

use std::path::PathBuf;
use std::sync::LazyLock;

use alibaba_cloud::clock::Clock;
use simulator::world::{RowSpec, RuleSpec, Source, TaskSpec};
use simulator::{Running, Simulator, SimulatorConfig, World, demo};

use crate::harness::{Daemon, eventually, real_part, real_part_of_prometheus3, run};
use crate::prometheus::Prometheus;

/// When the first run began: three hours ago, a whole second.
static S: LazyLock<i64> = LazyLock::new(|| (Clock::system().now_millis() / 1_000 - 10_800) * 1_000);

const SUBSCRIPTION: &str = "instance_id=\"cri-a\",repo_namespace=\"mirror\",repo_name=\"nginx\",source_provider=\"DOCKER_HUB\",source_repository=\"library/nginx\"";

const INSTANCE: &str = "instance_id=\"cri-a\"";

fn source() -> Source {
    Source::new("DOCKER_HUB", "library/nginx", "mirror/nginx")
}

/// A run that began `seconds` after the first one and failed at one of two tags.
fn failed(id: &str, seconds: i64) -> TaskSpec {
    let start = *S + seconds * 1_000;
    TaskSpec::failed(id, start, start + 8_000, "pull rate limit")
        .source(&source())
        .set("TagTotalCount", 2)
        .set("TagSubscriptionCount", 1)
        .rows([
            RowSpec::succeeded("mirror", "nginx", "1", start, start + 1_000),
            RowSpec::failed("mirror", "nginx", "2", start, start + 8_000),
        ])
}

fn cloud() -> Running {
    let world = World::new()
        .instance("cri-a", "cn-hangzhou")
        .rule(RuleSpec::new("crasr-1", &source(), *S - 1_000))
        .task(
            TaskSpec::succeeded("crast-0", *S, *S + 60_500)
                .source(&source())
                .rows([RowSpec::succeeded("mirror", "nginx", "0", *S, *S + 60_500)]),
        );
    Simulator::start(SimulatorConfig {
        world,
        ..SimulatorConfig::default()
    })
    .unwrap()
}

fn config(cloud: &Running, state: &str) -> String {
    format!(
        "poll: {{ interval: 1s }}
api: {{ requests_per_second: 1000, burst: 100 }}
state: {{ path: {state} }}
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
        demo::KEY_ID,
        demo::KEY_SECRET,
        cloud.url()
    )
}

fn sample(name: &str) -> String {
    format!("aliyun_acr_subscription_{name}{{{SUBSCRIPTION}}}")
}

#[test]
fn a_subscription_is_shown_with_exact_values() {
    let cloud = cloud();
    let daemon = Daemon::serve(&config(&cloud, "null"));
    daemon.ready();
    daemon.until(&sample("runs_total"), "0");
    cloud.update(|world| world.put_task("cri-a", failed("crast-1", 100)));
    let page = daemon.until(&sample("runs_total"), "1");
    let mut told = String::new();
    for (name, value) in &page {
        if name.contains(SUBSCRIPTION) || name.contains("subscription_run_") {
            let short = name.replace(SUBSCRIPTION, "*").replace(INSTANCE, "+");
            let short = short.replace("aliyun_acr_subscription_", "");
            told.push_str(&format!("{short} {value}\n"));
        }
    }
    assert_eq!(
        told,
        r#"consecutive_failed_runs{*} 1
created_timestamp_seconds{*} CREATED
last_finished_run_artifacts{*,status="failed"} 1
last_finished_run_artifacts{*,status="running"} 0
last_finished_run_artifacts{*,status="succeeded"} 1
last_finished_run_artifacts{*,status="unknown"} 0
last_finished_run_duration_seconds{*} 8
last_finished_run_end_timestamp_seconds{*} END
last_finished_run_failure{*,cause="rate_limited"} 1
last_finished_run_info{*,task_id="crast-1",task_type="AUTO"} 1
last_finished_run_status{*,status="failed"} 1
last_finished_run_status{*,status="succeeded"} 0
last_finished_run_status{*,status="unknown"} 0
last_run_info{*,task_id="crast-1",task_type="AUTO"} 1
last_run_selected_tags{*} 1
last_run_source_tags{*} 2
last_run_start_timestamp_seconds{*} START
last_run_status{*,status="empty"} 0
last_run_status{*,status="failed"} 1
last_run_status{*,status="running"} 0
last_run_status{*,status="succeeded"} 0
last_run_status{*,status="unknown"} 0
last_success_timestamp_seconds{*} SUCCESS.5
rule_info{*,rule_id="crasr-1",tag_regexp=".*"} 1
run_artifact_duration_seconds_bucket{+,le="+Inf"} 2
run_artifact_duration_seconds_bucket{+,le="1"} 1
run_artifact_duration_seconds_bucket{+,le="10"} 2
run_artifact_duration_seconds_bucket{+,le="120"} 2
run_artifact_duration_seconds_bucket{+,le="1800"} 2
run_artifact_duration_seconds_bucket{+,le="21600"} 2
run_artifact_duration_seconds_bucket{+,le="30"} 2
run_artifact_duration_seconds_bucket{+,le="300"} 2
run_artifact_duration_seconds_bucket{+,le="3600"} 2
run_artifact_duration_seconds_bucket{+,le="5"} 1
run_artifact_duration_seconds_bucket{+,le="60"} 2
run_artifact_duration_seconds_bucket{+,le="600"} 2
run_artifact_duration_seconds_bucket{+,le="7200"} 2
run_artifact_duration_seconds_bucket{+,le="86400"} 2
run_artifact_duration_seconds_count{+} 2
run_artifact_duration_seconds_sum{+} 9
run_duration_seconds_bucket{+,le="+Inf"} 1
run_duration_seconds_bucket{+,le="1"} 0
run_duration_seconds_bucket{+,le="10"} 1
run_duration_seconds_bucket{+,le="120"} 1
run_duration_seconds_bucket{+,le="1800"} 1
run_duration_seconds_bucket{+,le="21600"} 1
run_duration_seconds_bucket{+,le="30"} 1
run_duration_seconds_bucket{+,le="300"} 1
run_duration_seconds_bucket{+,le="3600"} 1
run_duration_seconds_bucket{+,le="5"} 0
run_duration_seconds_bucket{+,le="60"} 1
run_duration_seconds_bucket{+,le="600"} 1
run_duration_seconds_bucket{+,le="7200"} 1
run_duration_seconds_bucket{+,le="86400"} 1
run_duration_seconds_count{+} 1
run_duration_seconds_sum{+} 8
run_failures_total{*} 1
runs_total{*} 1
"#
        .replace("START", &(*S / 1_000 + 100).to_string())
        .replace("END", &(*S / 1_000 + 108).to_string())
        .replace("SUCCESS", &(*S / 1_000 + 60).to_string())
        .replace("CREATED", &(*S / 1_000 - 1).to_string())
    );
    // The newest run alone has task series, under the repository's name.
    let up = "aliyun_acr_subscription_task_up{instance_id=\"cri-a\",task_id=\"crast-1\",task=\"mirror/nginx\"}";
    assert_eq!(page.get(up).map(String::as_str), Some("1"));
    let tasks = page.keys().filter(|name| name.contains("task_up{"));
    assert_eq!(tasks.count(), 1);
    assert_eq!(
        page["aliyun_acr_exporter_follow_up{instance_id=\"cri-a\"}"],
        "1"
    );

    cloud.update(|world| world.remove_rule("cri-a", "crasr-1"));
    let gone = || daemon.page().keys().all(|name| !name.contains("crast-"));
    eventually("the subscription leaves the page", || gone().then_some(()));
    assert!(
        daemon
            .page()
            .keys()
            .all(|name| !name.contains(SUBSCRIPTION))
    );
}

/// A rule and its first failed run come in one listing, while Prometheus scrapes:
/// the failure must be an increase, not a series that begins at 1.
fn the_first_failed_run_is_an_increase(program: Option<PathBuf>, state: Option<&str>) {
    let Some(program) = program else {
        return;
    };
    let cloud = Simulator::start(SimulatorConfig {
        world: World::new().instance("cri-a", "cn-hangzhou"),
        ..SimulatorConfig::default()
    })
    .unwrap();
    let daemon = Daemon::serve(&config(&cloud, state.unwrap_or("null")));
    daemon.ready();
    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::scraping_by(&program, folder.path(), daemon.address, "");
    eventually("Prometheus has the followed instance", || {
        let up = prometheus.query("aliyun_acr_exporter_follow_up");
        (up == ["1"]).then_some(())
    });
    cloud.update(|world| {
        world.put_rule("cri-a", RuleSpec::new("crasr-1", &source(), *S - 1_000));
        world.put_task("cri-a", failed("crast-1", 100));
    });
    for (metric, value) in [
        ("run_failures_total", "1"),
        ("runs_total", "1"),
        ("run_duration_seconds_sum", "8"),
        ("run_artifact_duration_seconds_count", "2"),
    ] {
        // The first sample is 0, and the difference to the last one the whole count.
        let series = format!("aliyun_acr_subscription_{metric}");
        eventually(&format!("{metric} rises from 0"), || {
            let first = prometheus.query(&format!("min_over_time({series}[1m])"));
            let last = prometheus.query(&series);
            let increase = prometheus.query(&format!("increase({series}[1m]) > 0"));
            (first == ["0"] && last == [value] && increase.len() == 1).then_some(())
        });
    }
}

#[test]
fn the_first_failed_run_is_an_increase_in_prometheus() {
    the_first_failed_run_is_an_increase(real_part("prometheus"), None);
}

#[test]
fn the_first_failed_run_is_an_increase_in_prometheus3_with_a_state_file() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let prometheus = real_part_of_prometheus3("prometheus");
    the_first_failed_run_is_an_increase(prometheus, state.to_str());
}

/// What stands on a page of what is watched, without the times of the daemon's own polls.
fn watched(daemon: &Daemon) -> Vec<(String, String)> {
    let page = daemon.page().into_iter();
    page.filter(|(name, _)| name.starts_with("aliyun_acr_subscription_"))
        .filter(|(name, _)| !name.contains("_poll_timestamp_seconds"))
        .collect()
}

#[test]
fn the_pages_of_all_shards_are_the_whole_page() {
    let mut world = World::new().instance("cri-a", "cn-hangzhou");
    for number in 0..12_i64 {
        let (from, to) = (format!("library/r{number}"), format!("mirror/r{number}"));
        let source = Source::new("DOCKER_HUB", &from, &to);
        let start = *S + number * 1_000;
        let row = RowSpec::failed("mirror", &format!("r{number}"), "1", start, start + 500);
        let task = TaskSpec::failed(&format!("crast-{number}"), start, start + 500, "no");
        world = world
            .rule(RuleSpec::new(&format!("crasr-{number}"), &source, *S))
            .task(task.source(&source).rows([row]));
    }
    let cloud = Simulator::start(SimulatorConfig {
        world,
        ..SimulatorConfig::default()
    })
    .unwrap();
    // One run is named as well: its series are whosever the task is.
    let config = config(&cloud, "null")
        .replace("interval: 1s, ", "")
        .replace("    follow:", "    tasks: [crast-3]\n    follow:");
    let whole = Daemon::serve(&config);
    whole.ready();
    let expected = watched(&whole);
    let tasks = expected
        .iter()
        .filter(|(name, _)| name.contains("task_up{"));
    assert_eq!(tasks.count(), 12);

    let is_histogram = |(name, _): &(String, String)| name.contains("_duration_seconds_");
    // All runs were there before the first listing: nothing is counted.
    let (expected_histograms, expected): (Vec<_>, Vec<_>) =
        expected.into_iter().partition(is_histogram);
    assert!(expected_histograms.iter().all(|(_, value)| value == "0"));
    assert_eq!(expected_histograms.len(), 2 * 16);

    let mut union = Vec::new();
    let mut parts = 0;
    for index in 0..3 {
        let flag = format!("--shard.index={index}");
        let shard = Daemon::serve_with(&config, &[&flag, "--shard.total=3"], &[]);
        shard.ready();
        // Each has the histograms of the instance, of its own runs.
        let (histograms, part): (Vec<_>, Vec<_>) =
            watched(&shard).into_iter().partition(is_histogram);
        assert_eq!(histograms, expected_histograms);
        parts += usize::from(!part.is_empty());
        union.extend(part);
    }
    union.sort();
    assert_eq!(parts, 3);
    assert_eq!(union, expected);
}

#[test]
fn a_state_is_one_daemons_alone_and_a_broken_one_is_set_aside() {
    let cloud = cloud();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::write(&state, "no state").unwrap();
    let text = config(&cloud, state.to_str().unwrap());
    let mut daemon = Daemon::serve(&text);
    daemon.logged("cannot be used and was moved aside");
    daemon.until(&sample("runs_total"), "0");
    let aside = std::fs::read_dir(folder.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("state.unreadable-")
    });
    assert_eq!(aside.count(), 1);

    let second = folder.path().join("config.yaml");
    std::fs::write(&second, &text).unwrap();
    let mut command = crate::harness::binary(&["--web.listen-address=127.0.0.1:0"]);
    let said = run(command.arg("--config.file").arg(&second));
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("state"), "{}", said.err);
}
