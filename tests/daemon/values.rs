//! Exact values: given these rows, every series of the page, worked out by hand.

use std::collections::BTreeMap;

use serde_json::Value;
use simulator::world::{RowSpec, Source, TaskSpec};
use simulator::{Running, Simulator, SimulatorConfig, World, demo};

use crate::harness::Daemon;

/// 2026-01-02T03:04:05Z
const S: i64 = 1_767_323_045_000;

pub(crate) fn cloud(tasks: impl IntoIterator<Item = TaskSpec>) -> Running {
    let mut world = World::new().instance("cri-a", "cn-hangzhou");
    for task in tasks {
        world = world.task(task);
    }
    Simulator::start(SimulatorConfig {
        world,
        ..SimulatorConfig::default()
    })
    .unwrap()
}

/// A configuration for the tasks of `cri-a`, with more keys on top.
pub(crate) fn config(cloud: &Running, tasks: &str, more: &str) -> String {
    format!(
        "{more}
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
    tasks: {tasks}
",
        demo::KEY_ID,
        demo::KEY_SECRET,
        cloud.url()
    )
}

fn source() -> Source {
    Source::new("DOCKER_HUB", "library/nginx", "mirror/nginx")
}

/// The samples of one task, without what depends on the time of day.
fn of_task(page: &BTreeMap<String, String>, id: &str) -> String {
    let mark = format!("instance_id=\"cri-a\",task_id=\"{id}\",task=\"{id}\"");
    let mut text = String::new();
    for (name, value) in page {
        if name.contains(&mark) && !name.contains("_poll_timestamp_seconds") {
            let short = name
                .replace(&mark, "*")
                .replace("aliyun_acr_subscription_", "");
            text.push_str(&format!("{short} {value}\n"));
        }
    }
    text
}

#[test]
fn a_finished_task_with_everything_odd_in_it() {
    let row = |tag| RowSpec::new("mirror", "nginx", tag);
    let rows = [
        RowSpec::succeeded("mirror", "nginx", "1.27", S, S + 60_500),
        // The same artifact, an earlier try: folded away.
        RowSpec::failed("mirror", "nginx", "1.27", S - 5_000, S - 1_000),
        RowSpec::failed("mirror", "nginx", "1.26", S + 1_000, S + 3_250),
        // Ended before it began.
        RowSpec::succeeded("mirror", "nginx", "1.25", S + 10_000, S + 9_000),
        row("odd")
            .set("Status", "COMPLETED")
            .set("Result", "PARTIAL")
            .set("StartTime", S + 2_000)
            .set("EndTime", S + 2_001),
        // Times as texts, labels that need quoting.
        RowSpec::new("a\"b", "c\\d", "e\nf🚢")
            .set("Status", "completed")
            .set("Result", "Success")
            .set("StartTime", S.to_string())
            .set("EndTime", (S + 1_000).to_string()),
    ];
    let task = TaskSpec::failed("crast-1", S, S + 1, "pull rate limit")
        .source(&source())
        .set("TaskType", "AUTO")
        .rows(rows);
    let cloud = cloud([task]);
    let mut daemon = Daemon::serve(&config(&cloud, "[crast-1]", ""));
    daemon.ready();
    assert_eq!(
        of_task(&daemon.page(), "crast-1"),
        r#"artifact_status{*,repo_namespace="a\"b",repo_name="c\\d",tag="e\nf🚢",status="succeeded"} 1
artifact_status{*,repo_namespace="mirror",repo_name="nginx",tag="1.25",status="succeeded"} 1
artifact_status{*,repo_namespace="mirror",repo_name="nginx",tag="1.26",status="failed"} 1
artifact_status{*,repo_namespace="mirror",repo_name="nginx",tag="1.27",status="succeeded"} 1
artifact_status{*,repo_namespace="mirror",repo_name="nginx",tag="odd",status="unknown"} 1
artifact_sync_duration_seconds{*,repo_namespace="a\"b",repo_name="c\\d",tag="e\nf🚢"} 1
artifact_sync_duration_seconds{*,repo_namespace="mirror",repo_name="nginx",tag="1.26"} 2.25
artifact_sync_duration_seconds{*,repo_namespace="mirror",repo_name="nginx",tag="1.27"} 60.5
artifact_sync_duration_seconds{*,repo_namespace="mirror",repo_name="nginx",tag="odd"} 0.001
task_artifacts{*,status="failed"} 1
task_artifacts{*,status="running"} 0
task_artifacts{*,status="succeeded"} 3
task_artifacts{*,status="unknown"} 1
task_end_timestamp_seconds{*} 1767323105.5
task_failure{*,cause="rate_limited"} 1
task_info{*,acr_region="cn-hangzhou",repo_namespace="mirror",repo_name="nginx",source_provider="DOCKER_HUB",source_repository="library/nginx",task_type="AUTO",origin="configured"} 1
task_last_success_timestamp_seconds{*} 1767323105.5
task_merged_rows{*} 1
task_poll_interval_seconds{*} 60
task_start_timestamp_seconds{*} 1767323045
task_status{*,status="empty"} 0
task_status{*,status="failed"} 1
task_status{*,status="running"} 0
task_status{*,status="succeeded"} 0
task_status{*,status="unknown"} 0
task_sync_duration_seconds{*} 60.5
task_up{*} 1
"#
    );
    let page = daemon.page();
    let odd = r#"aliyun_acr_exporter_unrecognized_values{field="Result",value="PARTIAL"}"#;
    assert_eq!(page[odd], "1");
    // 27 above and two poll times.
    assert_eq!(page["aliyun_acr_exporter_series"], "29");
    daemon.logged("cloud_message=\"pull rate limit\"");
    daemon.logged("value=PARTIAL");
}

#[test]
fn a_running_task_has_no_end_and_a_task_without_rows_speaks_for_itself() {
    let running = TaskSpec::running("crast-run", S).source(&source()).rows([
        RowSpec::succeeded("mirror", "nginx", "1", S, S + 1_500),
        RowSpec::running("mirror", "nginx", "2", S + 2_000).set("EndTime", ""),
        RowSpec::running("mirror", "nginx", "3", 0)
            .set("Status", "PENDING")
            .set("EndTime", Value::Null)
            .without("StartTime"),
    ]);
    let failed = TaskSpec::failed("crast-failed", S, S + 500, "no such tag");
    let empty = TaskSpec::new("crast-empty").set("TaskStatus", "COMPLETED");
    let cloud = cloud([running, failed, empty]);
    let tasks = "[crast-run, crast-failed, crast-empty]";
    let daemon = Daemon::serve(&config(&cloud, tasks, ""));
    daemon.ready();
    let page = daemon.page();
    let short = |id: &str| {
        let all = of_task(&page, id);
        let kept = all.split_inclusive('\n').filter(|line| {
            !line.ends_with(" 0\n") && !line.starts_with("task_info") && !line.contains("interval")
        });
        kept.collect::<String>()
    };
    assert_eq!(
        short("crast-run"),
        r#"artifact_status{*,repo_namespace="mirror",repo_name="nginx",tag="1",status="succeeded"} 1
artifact_status{*,repo_namespace="mirror",repo_name="nginx",tag="2",status="running"} 1
artifact_status{*,repo_namespace="mirror",repo_name="nginx",tag="3",status="running"} 1
artifact_sync_duration_seconds{*,repo_namespace="mirror",repo_name="nginx",tag="1"} 1.5
task_artifacts{*,status="running"} 2
task_artifacts{*,status="succeeded"} 1
task_last_success_timestamp_seconds{*} 1767323046.5
task_start_timestamp_seconds{*} 1767323045
task_status{*,status="running"} 1
task_up{*} 1
"#
    );
    assert_eq!(
        short("crast-failed"),
        r#"task_end_timestamp_seconds{*} 1767323045.5
task_failure{*,cause="not_found"} 1
task_start_timestamp_seconds{*} 1767323045
task_status{*,status="failed"} 1
task_sync_duration_seconds{*} 0.5
task_up{*} 1
"#
    );
    assert_eq!(
        short("crast-empty"),
        r#"task_status{*,status="empty"} 1
task_up{*} 1
"#
    );
}

#[test]
fn a_task_of_many_pages_is_whole_in_both_schemes() {
    for signature in ["acs3-hmac-sha256", "hmac-sha1"] {
        // Row i begins 10 × i ms after the start and takes 1000 + i ms.
        let rows = (0..250).map(|i| {
            let start = S + 10 * i;
            RowSpec::succeeded(
                "mirror",
                "nginx",
                &format!("t{i}"),
                start,
                start + 1_000 + i,
            )
        });
        let task = TaskSpec::succeeded("crast-1", S, S + 9_999)
            .source(&source())
            .rows(rows);
        let cloud = cloud([task]);
        let more = format!(
            "api: {{ signature: {signature}, page_size: 25, requests_per_second: 100, burst: 100 }}"
        );
        let daemon = Daemon::serve(&config(&cloud, "[crast-1]", &more));
        daemon.ready();
        let page = daemon.page();
        let artifact = |i: usize| {
            format!(
                "aliyun_acr_subscription_artifact_sync_duration_seconds{{instance_id=\"cri-a\",task_id=\"crast-1\",task=\"crast-1\",repo_namespace=\"mirror\",repo_name=\"nginx\",tag=\"t{i}\"}}"
            )
        };
        for (i, seconds) in [
            (0, "1"),
            (7, "1.007"),
            (99, "1.099"),
            (100, "1.1"),
            (249, "1.249"),
        ] {
            assert_eq!(page[&artifact(i)], seconds);
        }
        let task = |name: &str| {
            let labels = r#"{instance_id="cri-a",task_id="crast-1",task="crast-1"}"#;
            page[&format!("aliyun_acr_subscription_task_{name}{labels}")].as_str()
        };
        let succeeded = r#"aliyun_acr_subscription_task_artifacts{instance_id="cri-a",task_id="crast-1",task="crast-1",status="succeeded"}"#;
        assert_eq!(page[succeeded], "250");
        assert_eq!(task("merged_rows"), "0");
        // The last one: 2490 ms after the start, for 1249 ms.
        assert_eq!(task("sync_duration_seconds"), "3.739");
        assert_eq!(task("end_timestamp_seconds"), "1767323048.739");
        let requests = cloud.requests();
        assert_eq!(requests.count("GetArtifactSubscriptionTaskResult"), 10);
        assert_eq!(requests.count("GetArtifactSubscriptionTask"), 1);
        // Connections are kept; now and then one more is opened before the last is free again.
        assert!(requests.connections <= 5, "{}", requests.connections);
        assert!(
            requests
                .requests
                .iter()
                .all(|one| one.algorithm == Some(signature))
        );
    }
}

#[test]
fn only_the_artifacts_that_were_asked_for_get_series() {
    let task = |id| {
        TaskSpec::failed(id, S, S + 1, "").rows([
            RowSpec::succeeded("mirror", "nginx", "old", S, S + 1),
            RowSpec::succeeded("mirror", "nginx", "new", S + 1, S + 2),
            RowSpec::failed("mirror", "nginx", "bad", S, S + 1),
        ])
    };
    let cloud = cloud([task("crast-1")]);
    let tags = |more: &str| {
        let daemon = Daemon::serve(&config(&cloud, "[crast-1]", more));
        daemon.ready();
        let page = daemon.page();
        let shown: Vec<String> = page
            .keys()
            .filter_map(|name| {
                let labels = name.strip_prefix("aliyun_acr_subscription_artifact_status{")?;
                let tag = labels.split("tag=\"").nth(1)?;
                Some(tag.split('"').next()?.to_owned())
            })
            .collect();
        let dropped = page["aliyun_acr_exporter_series_dropped"].clone();
        (shown.join(" "), dropped)
    };
    let shown = |tags: &str, dropped: &str| (tags.to_owned(), dropped.to_owned());
    assert_eq!(tags(""), shown("bad new old", "0"));
    assert_eq!(tags("artifacts: failed"), shown("bad", "0"));
    assert_eq!(tags("artifacts: none"), shown("", "0"));
    assert_eq!(
        tags("limits: { artifacts_per_task: 2 }"),
        shown("bad new", "2")
    );
    // 20 series of the task, and room for one artifact's two.
    assert_eq!(tags("limits: { series: 23 }"), shown("bad", "4"));
    assert_eq!(tags("limits: { series: 1 }"), shown("", "6"));
}

#[test]
fn words_of_the_user_count() {
    let task = TaskSpec::new("crast-1").row(
        RowSpec::new("mirror", "nginx", "1")
            .set("Status", "Parked")
            .set("StartTime", S),
    );
    let cloud = cloud([task]);
    let more = "status: { running: [parked] }";
    let daemon = Daemon::serve(&config(&cloud, "[{ id: crast-1, name: my name }]", more));
    daemon.ready();
    let page = daemon.page();
    let status = r#"aliyun_acr_subscription_task_status{instance_id="cri-a",task_id="crast-1",task="my name",status="running"}"#;
    assert_eq!(page[status], "1");
    assert!(!page.keys().any(|name| name.contains("unrecognized_values")));
}
