//! Pages computed by hand, and arbitrary stores read back by a reader that
//! shares nothing with the writer.

mod openmetrics;
mod pieces;
mod reference;

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::Reason;
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};
use proptest::prelude::*;

use super::{Writer, tail};
use crate::exposition::{Content, Format, Names, float, push_label, push_value};
use crate::metrics::catalog::{SERIES, Value};
use crate::metrics::own::{Build, Own};
use crate::model::{
    Assessment, Cause, Folded, Row, Rule, Subscription, TaskInfo, TaskStatus, Words,
};
use crate::store::{
    ArtifactSeries, Counts, Durations, Limits, ListingEntry, Origin, PollError, RunDurations,
    RunSummary, Snapshot, Store, SubscriptionEntry, Target, TaskEntry, View,
};

const LIMITS: Limits = Limits {
    series: 200_000,
    artifacts_per_task: 500,
    stale_after: Duration::from_secs(300),
};

fn target(task_id: &str, task: &str) -> Target {
    Target {
        instance_id: "cri-a".into(),
        task_id: task_id.into(),
        task: task.into(),
        region: "cn-hangzhou".into(),
        artifacts: ArtifactSeries::All,
        origin: Origin::Configured,
    }
}

fn row(name: &str, tag: &str, result: &str, start_ms: i64, end_ms: i64) -> Row {
    Row {
        repo_namespace: "mirror".into(),
        repo_name: name.into(),
        tag: tag.into(),
        status: if end_ms > 0 { "COMPLETED" } else { "RUNNING" }.into(),
        result: result.into(),
        start_ms: Some(start_ms),
        end_ms: Some(end_ms),
    }
}

/// Polled well at 1700000100.250.
fn polled(target: Target, info: Option<TaskInfo>, rows: Vec<Row>) -> TaskEntry {
    let words = Words::default();
    let data = Assessment::new(Folded::new(rows, &words), info.as_ref(), &words);
    let mut entry = TaskEntry::new(Arc::new(target), Duration::from_secs(60));
    entry.info = info.map(Arc::new);
    entry.data = Some(data);
    entry.last_poll_ms = Some(1_700_000_100_250);
    entry.last_success_ms = Some(1_700_000_100_250);
    entry
}

fn finished_task() -> TaskEntry {
    let info = TaskInfo {
        repo_namespace: "mirror".into(),
        repo_name: "nginx".into(),
        source_provider: "DOCKER_HUB".into(),
        source_repository: "library/nginx".into(),
        task_type: "AUTO".into(),
        status: "COMPLETED".into(),
        ..TaskInfo::default()
    };
    let rows = vec![
        row(
            "nginx",
            "1.27",
            "SUCCESS",
            1_700_000_000_000,
            1_700_000_012_345,
        ),
        row(
            "nginx",
            "1.28",
            "FAILED",
            1_700_000_001_000,
            1_700_000_013_500,
        ),
        row(
            "nginx",
            "1.28",
            "SUCCESS",
            1_690_000_000_000,
            1_690_000_009_000,
        ),
    ];
    let target = Target {
        origin: Origin::Followed,
        ..target("crast-1", "nginx")
    };
    TaskEntry {
        cause: Some(Cause::Unauthorized),
        ..polled(target, Some(info), rows)
    }
}

fn write(
    format: Format,
    snapshot: Arc<Snapshot>,
    now_ms: i64,
    names: &Names,
    own: &[MetricFamily],
) -> String {
    let content = Arc::new(Content::new(snapshot, now_ms));
    let pieces = Writer::new(content, format, names.clone()).flatten();
    let page = pieces.chain(tail(format, names, own)).collect();
    String::from_utf8(page).unwrap()
}

fn write_text(snapshot: Arc<Snapshot>, now_ms: i64, own: &[MetricFamily]) -> String {
    write(Format::Text, snapshot, now_ms, &Names::Every, own)
}

fn page_at(now_ms: i64, limits: Limits, entries: Vec<TaskEntry>) -> String {
    write_text(Store::new(limits, entries).snapshot(), now_ms, &[])
}

fn page(entries: Vec<TaskEntry>) -> String {
    page_at(1_700_000_160_000, LIMITS, entries)
}

#[test]
fn a_finished_task_and_one_that_cannot_be_polled() {
    let mut unreachable = TaskEntry::new(
        Arc::new(target("crast-2", "a \"b\" \\ c\nd 🚢")),
        Duration::from_millis(1_500),
    );
    unreachable.last_poll_ms = Some(1_700_000_130_000);
    unreachable.error = Some(Arc::new(PollError {
        reason: Reason::NotFound,
        text: "not on the page".into(),
    }));

    assert_eq!(
        page(vec![unreachable, finished_task()]),
        r#"# HELP aliyun_acr_subscription_task_info Information about the task.
# TYPE aliyun_acr_subscription_task_info gauge
aliyun_acr_subscription_task_info{instance_id="cri-a",task_id="crast-1",task="nginx",acr_region="cn-hangzhou",repo_namespace="mirror",repo_name="nginx",source_provider="DOCKER_HUB",source_repository="library/nginx",task_type="AUTO",origin="followed"} 1
aliyun_acr_subscription_task_info{instance_id="cri-a",task_id="crast-2",task="a \"b\" \\ c\nd 🚢",acr_region="cn-hangzhou",repo_namespace="",repo_name="",source_provider="",source_repository="",task_type="",origin="configured"} 1
# HELP aliyun_acr_subscription_task_up Whether the last poll of the task was successful.
# TYPE aliyun_acr_subscription_task_up gauge
aliyun_acr_subscription_task_up{instance_id="cri-a",task_id="crast-1",task="nginx"} 1
aliyun_acr_subscription_task_up{instance_id="cri-a",task_id="crast-2",task="a \"b\" \\ c\nd 🚢"} 0
# HELP aliyun_acr_subscription_task_poll_error Reason why the last poll of the task failed.
# TYPE aliyun_acr_subscription_task_poll_error gauge
aliyun_acr_subscription_task_poll_error{instance_id="cri-a",task_id="crast-2",task="a \"b\" \\ c\nd 🚢",reason="not_found"} 1
# HELP aliyun_acr_subscription_task_status Whether the task has the status.
# TYPE aliyun_acr_subscription_task_status gauge
aliyun_acr_subscription_task_status{instance_id="cri-a",task_id="crast-1",task="nginx",status="empty"} 0
aliyun_acr_subscription_task_status{instance_id="cri-a",task_id="crast-1",task="nginx",status="running"} 0
aliyun_acr_subscription_task_status{instance_id="cri-a",task_id="crast-1",task="nginx",status="succeeded"} 0
aliyun_acr_subscription_task_status{instance_id="cri-a",task_id="crast-1",task="nginx",status="failed"} 1
aliyun_acr_subscription_task_status{instance_id="cri-a",task_id="crast-1",task="nginx",status="unknown"} 0
# HELP aliyun_acr_subscription_task_failure Cause of the task's failure.
# TYPE aliyun_acr_subscription_task_failure gauge
aliyun_acr_subscription_task_failure{instance_id="cri-a",task_id="crast-1",task="nginx",cause="unauthorized"} 1
# HELP aliyun_acr_subscription_task_artifacts Number of artifacts of the task by status.
# TYPE aliyun_acr_subscription_task_artifacts gauge
aliyun_acr_subscription_task_artifacts{instance_id="cri-a",task_id="crast-1",task="nginx",status="running"} 0
aliyun_acr_subscription_task_artifacts{instance_id="cri-a",task_id="crast-1",task="nginx",status="succeeded"} 1
aliyun_acr_subscription_task_artifacts{instance_id="cri-a",task_id="crast-1",task="nginx",status="failed"} 1
aliyun_acr_subscription_task_artifacts{instance_id="cri-a",task_id="crast-1",task="nginx",status="unknown"} 0
# HELP aliyun_acr_subscription_task_merged_rows Number of result rows that repeated an artifact.
# TYPE aliyun_acr_subscription_task_merged_rows gauge
aliyun_acr_subscription_task_merged_rows{instance_id="cri-a",task_id="crast-1",task="nginx"} 1
# HELP aliyun_acr_subscription_task_start_timestamp_seconds Unix timestamp of the start of the task's first artifact.
# TYPE aliyun_acr_subscription_task_start_timestamp_seconds gauge
aliyun_acr_subscription_task_start_timestamp_seconds{instance_id="cri-a",task_id="crast-1",task="nginx"} 1700000000
# HELP aliyun_acr_subscription_task_end_timestamp_seconds Unix timestamp of the end of the finished task's last artifact.
# TYPE aliyun_acr_subscription_task_end_timestamp_seconds gauge
aliyun_acr_subscription_task_end_timestamp_seconds{instance_id="cri-a",task_id="crast-1",task="nginx"} 1700000013.5
# HELP aliyun_acr_subscription_task_sync_duration_seconds Duration of the finished task from start to end.
# TYPE aliyun_acr_subscription_task_sync_duration_seconds gauge
aliyun_acr_subscription_task_sync_duration_seconds{instance_id="cri-a",task_id="crast-1",task="nginx"} 13.5
# HELP aliyun_acr_subscription_task_last_success_timestamp_seconds Unix timestamp of the end of the task's latest succeeded artifact.
# TYPE aliyun_acr_subscription_task_last_success_timestamp_seconds gauge
aliyun_acr_subscription_task_last_success_timestamp_seconds{instance_id="cri-a",task_id="crast-1",task="nginx"} 1700000012.345
# HELP aliyun_acr_subscription_task_last_poll_timestamp_seconds Unix timestamp of the last poll of the task.
# TYPE aliyun_acr_subscription_task_last_poll_timestamp_seconds gauge
aliyun_acr_subscription_task_last_poll_timestamp_seconds{instance_id="cri-a",task_id="crast-1",task="nginx"} 1700000100.25
aliyun_acr_subscription_task_last_poll_timestamp_seconds{instance_id="cri-a",task_id="crast-2",task="a \"b\" \\ c\nd 🚢"} 1700000130
# HELP aliyun_acr_subscription_task_last_successful_poll_timestamp_seconds Unix timestamp of the last successful poll of the task.
# TYPE aliyun_acr_subscription_task_last_successful_poll_timestamp_seconds gauge
aliyun_acr_subscription_task_last_successful_poll_timestamp_seconds{instance_id="cri-a",task_id="crast-1",task="nginx"} 1700000100.25
# HELP aliyun_acr_subscription_task_poll_interval_seconds Current poll interval of the task, without backoff.
# TYPE aliyun_acr_subscription_task_poll_interval_seconds gauge
aliyun_acr_subscription_task_poll_interval_seconds{instance_id="cri-a",task_id="crast-1",task="nginx"} 60
aliyun_acr_subscription_task_poll_interval_seconds{instance_id="cri-a",task_id="crast-2",task="a \"b\" \\ c\nd 🚢"} 1.5
# HELP aliyun_acr_subscription_artifact_status Current status of the artifact.
# TYPE aliyun_acr_subscription_artifact_status gauge
aliyun_acr_subscription_artifact_status{instance_id="cri-a",task_id="crast-1",task="nginx",repo_namespace="mirror",repo_name="nginx",tag="1.27",status="succeeded"} 1
aliyun_acr_subscription_artifact_status{instance_id="cri-a",task_id="crast-1",task="nginx",repo_namespace="mirror",repo_name="nginx",tag="1.28",status="failed"} 1
# HELP aliyun_acr_subscription_artifact_sync_duration_seconds Duration of the finished artifact's synchronization from start to end.
# TYPE aliyun_acr_subscription_artifact_sync_duration_seconds gauge
aliyun_acr_subscription_artifact_sync_duration_seconds{instance_id="cri-a",task_id="crast-1",task="nginx",repo_namespace="mirror",repo_name="nginx",tag="1.27"} 12.345
aliyun_acr_subscription_artifact_sync_duration_seconds{instance_id="cri-a",task_id="crast-1",task="nginx",repo_namespace="mirror",repo_name="nginx",tag="1.28"} 12.5
"#
    );
}

/// The samples of a page, each without the prefix that all of them share and
/// without the labels of the one task.
fn samples(page: &str) -> Vec<String> {
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            line.replace("aliyun_acr_subscription_", "").replace(
                r#"instance_id="cri-a",task_id="crast-1",task="nginx""#,
                "TASK",
            )
        })
        .collect()
}

#[test]
fn stale_data_leaves_the_page_and_the_poll_stays() {
    let last_fresh = 1_700_000_100_250 + 300_000;
    let fresh = page_at(last_fresh, LIMITS, vec![finished_task()]);
    assert!(fresh.contains("task_artifacts{"));

    let stale = page_at(last_fresh + 1, LIMITS, vec![finished_task()]);
    assert_eq!(
        samples(&stale),
        [
            r#"task_info{TASK,acr_region="cn-hangzhou",repo_namespace="mirror",repo_name="nginx",source_provider="DOCKER_HUB",source_repository="library/nginx",task_type="AUTO",origin="followed"} 1"#,
            "task_up{TASK} 1",
            "task_last_poll_timestamp_seconds{TASK} 1700000100.25",
            "task_last_successful_poll_timestamp_seconds{TASK} 1700000100.25",
            "task_poll_interval_seconds{TASK} 60",
        ]
    );
    assert_eq!(
        stale.matches("# TYPE").count(),
        5,
        "no header without samples"
    );
}

#[test]
fn a_task_that_was_never_polled_has_neither_up_nor_data() {
    let entry = TaskEntry::new(
        Arc::new(target("crast-1", "nginx")),
        Duration::from_secs(3600),
    );
    assert_eq!(
        samples(&page(vec![entry])),
        [
            r#"task_info{TASK,acr_region="cn-hangzhou",repo_namespace="",repo_name="",source_provider="",source_repository="",task_type="",origin="configured"} 1"#,
            "task_poll_interval_seconds{TASK} 3600",
        ]
    );
}

#[test]
fn a_running_task_has_a_start_and_no_end() {
    let rows = vec![
        row(
            "nginx",
            "1.27",
            "SUCCESS",
            1_700_000_000_000,
            1_700_000_012_345,
        ),
        row("nginx", "1.28", "", 1_700_000_001_000, 0),
    ];
    let page = page(vec![polled(target("crast-1", "nginx"), None, rows)]);
    let samples = samples(&page);
    for there in [
        r#"task_status{TASK,status="running"} 1"#,
        r#"task_artifacts{TASK,status="running"} 1"#,
        "task_start_timestamp_seconds{TASK} 1700000000",
        r#"artifact_status{TASK,repo_namespace="mirror",repo_name="nginx",tag="1.28",status="running"} 1"#,
    ] {
        assert!(samples.contains(&there.to_owned()), "{there}");
    }
    for absent in [
        "task_end_timestamp_seconds{TASK}",
        "task_sync_duration_seconds{TASK}",
        r#"artifact_sync_duration_seconds{TASK,repo_namespace="mirror",repo_name="nginx",tag="1.28"}"#,
    ] {
        assert!(!page.contains(absent), "{absent}");
    }
}

#[test]
fn a_task_without_a_success_or_a_usable_duration_has_neither() {
    let rows = vec![row(
        "nginx",
        "1",
        "FAILED",
        1_700_000_005_000,
        1_700_000_004_999,
    )];
    let page = page(vec![polled(target("crast-1", "nginx"), None, rows)]);
    let samples = samples(&page);
    assert!(!page.contains("task_last_success_timestamp_seconds"));
    assert!(samples.contains(&"task_end_timestamp_seconds{TASK} 1700000004.999".to_owned()));
    assert!(
        !page.contains("sync_duration_seconds"),
        "it would be negative"
    );
}

#[test]
fn repositories_tags_and_their_escapes_change_within_one_task() {
    let rows = vec![
        row("a", "1", "SUCCESS", 1_000, 2_000),
        row("a", "2", "SUCCESS", 1_000, 2_000),
        row("b\"", "\\n", "SUCCESS", 1_000, 2_000),
        row("c", "\n", "SUCCESS", 1_000, 2_000),
    ];
    let page = page(vec![polled(target("crast-1", "nginx"), None, rows)]);
    let artifacts: Vec<_> = samples(&page)
        .into_iter()
        .filter(|sample| sample.starts_with("artifact_sync"))
        .collect();
    assert_eq!(
        artifacts,
        [
            r#"artifact_sync_duration_seconds{TASK,repo_namespace="mirror",repo_name="a",tag="1"} 1"#,
            r#"artifact_sync_duration_seconds{TASK,repo_namespace="mirror",repo_name="a",tag="2"} 1"#,
            r#"artifact_sync_duration_seconds{TASK,repo_namespace="mirror",repo_name="b\"",tag="\\n"} 1"#,
            r#"artifact_sync_duration_seconds{TASK,repo_namespace="mirror",repo_name="c",tag="\n"} 1"#,
        ]
    );
}

fn subscription(repo_name: &str) -> Subscription {
    Subscription {
        repo_namespace: "mirror".into(),
        repo_name: repo_name.into(),
        source_provider: "DOCKER_HUB".into(),
        source_repository: "library/nginx".into(),
    }
}

fn rule(subscription: &Subscription, rule_id: &str, tag_regexp: &str) -> Rule {
    Rule {
        rule_id: rule_id.into(),
        subscription: subscription.clone(),
        tag_regexp: tag_regexp.into(),
        created_ms: None,
        ..Rule::default()
    }
}

/// A subscription that has a rule and nothing else.
fn young(repo_name: &str) -> SubscriptionEntry {
    let subscription = subscription(repo_name);
    SubscriptionEntry {
        instance_id: "cri-a".into(),
        rules: [rule(&subscription, "crasr-1", ".*")].into(),
        subscription: Arc::new(subscription),
        last_run: None,
        last_finished_run: None,
        consecutive_failed_runs: 0,
        last_success_ms: None,
        counts: Arc::default(),
        ..SubscriptionEntry::default()
    }
}

/// One with a run that fails, one that goes on, and much counted.
fn busy() -> SubscriptionEntry {
    let entry = young("nginx");
    let rules = [
        ("crasr-1", "1\\..*", 1_690_000_000_500),
        ("crasr-1", "again", 1_600_000_000_000),
        ("crasr-2", "\"2\"", 1_695_000_000_000),
    ]
    .map(|(rule_id, tag_regexp, created_ms)| Rule {
        created_ms: Some(created_ms),
        ..rule(&entry.subscription, rule_id, tag_regexp)
    });
    SubscriptionEntry {
        rules: rules.into(),
        created_ms: Some(1_600_000_000_000),
        last_run: Some(RunSummary {
            task_id: "crast-9".into(),
            info: Arc::new(TaskInfo {
                task_type: "AUTO".into(),
                source_tags: Some(311),
                selected_tags: Some(0),
                ..TaskInfo::default()
            }),
            status: TaskStatus::Running,
            start_ms: Some(1_700_000_150_125),
            duration_ms: None,
            ..RunSummary::default()
        }),
        last_finished_run: Some(RunSummary {
            task_id: "crast-8".into(),
            info: Arc::new(TaskInfo {
                task_type: "MANUAL".into(),
                source_tags: Some(99),
                ..TaskInfo::default()
            }),
            status: TaskStatus::Failed,
            cause: Some(Cause::RateLimited),
            start_ms: Some(1_700_000_000_000),
            end_ms: Some(1_700_000_083_500),
            duration_ms: Some(83_500),
            // Running, succeeded, failed, unknown.
            artifacts: Some([0, 7, 2, 1]),
        }),
        consecutive_failed_runs: 3,
        last_success_ms: Some(1_699_000_000_250),
        counts: Arc::new(Counts {
            runs: 1_234,
            failures: 56,
        }),
        announced: true,
        typical_run_interval_ms: Some(3_600_500),
        ..entry
    }
}

fn listed_at(last_success_ms: i64) -> ListingEntry {
    ListingEntry {
        instance_id: "cri-a".into(),
        interval: Duration::from_secs(300),
        last_success_ms: Some(last_success_ms),
        wall_ahead_ms: 0,
        last_try_ms: Some(last_success_ms),
        error: None,
        next_ms: None,
        tasks_dropped: 0,
        durations: Arc::new(RunDurations {
            runs: observed(&[83_500]),
            artifacts: observed(&[500, 1_000, 4_250, 59_999, 90_000_000]),
        }),
        announced: true,
    }
}

fn observed(millis: &[i64]) -> Durations {
    let mut durations = Durations::default();
    for millis in millis {
        durations.observe(*millis);
    }
    durations
}

/// A page at 1700000160 of lists that were read so long ago.
fn page_of(age_ms: i64, entries: Vec<SubscriptionEntry>) -> String {
    let store = Store::new(LIMITS, []);
    store.update_listing(listed_at(1_700_000_160_000 - age_ms));
    for entry in entries {
        store.update_subscription(entry);
    }
    write_text(store.snapshot(), 1_700_000_160_000, &[])
}

#[test]
fn two_subscriptions() {
    let labels = |repo_name: &str| {
        format!(
            r#"instance_id="cri-a",repo_namespace="mirror",repo_name="{repo_name}",source_provider="DOCKER_HUB",source_repository="library/nginx""#
        )
    };
    assert_eq!(
        page_of(0, vec![busy(), young("\\\n\"")]),
        r#"# HELP aliyun_acr_subscription_rule_info Information about a rule of the subscription.
# TYPE aliyun_acr_subscription_rule_info gauge
aliyun_acr_subscription_rule_info{YOUNG,rule_id="crasr-1",tag_regexp=".*"} 1
aliyun_acr_subscription_rule_info{BUSY,rule_id="crasr-1",tag_regexp="1\\..*"} 1
aliyun_acr_subscription_rule_info{BUSY,rule_id="crasr-2",tag_regexp="\"2\""} 1
# HELP aliyun_acr_subscription_created_timestamp_seconds Unix timestamp of the creation of the subscription.
# TYPE aliyun_acr_subscription_created_timestamp_seconds gauge
aliyun_acr_subscription_created_timestamp_seconds{BUSY} 1600000000
# HELP aliyun_acr_subscription_last_run_info Information about the subscription's newest run.
# TYPE aliyun_acr_subscription_last_run_info gauge
aliyun_acr_subscription_last_run_info{BUSY,task_id="crast-9",task_type="AUTO"} 1
# HELP aliyun_acr_subscription_last_run_status Whether the newest run has the status.
# TYPE aliyun_acr_subscription_last_run_status gauge
aliyun_acr_subscription_last_run_status{BUSY,status="empty"} 0
aliyun_acr_subscription_last_run_status{BUSY,status="running"} 1
aliyun_acr_subscription_last_run_status{BUSY,status="succeeded"} 0
aliyun_acr_subscription_last_run_status{BUSY,status="failed"} 0
aliyun_acr_subscription_last_run_status{BUSY,status="unknown"} 0
# HELP aliyun_acr_subscription_last_run_start_timestamp_seconds Unix timestamp of the start of the newest run.
# TYPE aliyun_acr_subscription_last_run_start_timestamp_seconds gauge
aliyun_acr_subscription_last_run_start_timestamp_seconds{BUSY} 1700000150.125
# HELP aliyun_acr_subscription_last_run_source_tags Number of tags of the source repository at the newest run.
# TYPE aliyun_acr_subscription_last_run_source_tags gauge
aliyun_acr_subscription_last_run_source_tags{BUSY} 311
# HELP aliyun_acr_subscription_last_run_selected_tags Number of tags that the newest run selects from the source repository.
# TYPE aliyun_acr_subscription_last_run_selected_tags gauge
aliyun_acr_subscription_last_run_selected_tags{BUSY} 0
# HELP aliyun_acr_subscription_last_finished_run_info Information about the subscription's newest finished run.
# TYPE aliyun_acr_subscription_last_finished_run_info gauge
aliyun_acr_subscription_last_finished_run_info{BUSY,task_id="crast-8",task_type="MANUAL"} 1
# HELP aliyun_acr_subscription_last_finished_run_status Whether the newest finished run has the status.
# TYPE aliyun_acr_subscription_last_finished_run_status gauge
aliyun_acr_subscription_last_finished_run_status{BUSY,status="succeeded"} 0
aliyun_acr_subscription_last_finished_run_status{BUSY,status="failed"} 1
aliyun_acr_subscription_last_finished_run_status{BUSY,status="unknown"} 0
# HELP aliyun_acr_subscription_last_finished_run_failure Cause of the newest finished run's failure.
# TYPE aliyun_acr_subscription_last_finished_run_failure gauge
aliyun_acr_subscription_last_finished_run_failure{BUSY,cause="rate_limited"} 1
# HELP aliyun_acr_subscription_last_finished_run_artifacts Number of artifacts of the newest finished run by status.
# TYPE aliyun_acr_subscription_last_finished_run_artifacts gauge
aliyun_acr_subscription_last_finished_run_artifacts{BUSY,status="running"} 0
aliyun_acr_subscription_last_finished_run_artifacts{BUSY,status="succeeded"} 7
aliyun_acr_subscription_last_finished_run_artifacts{BUSY,status="failed"} 2
aliyun_acr_subscription_last_finished_run_artifacts{BUSY,status="unknown"} 1
# HELP aliyun_acr_subscription_last_finished_run_end_timestamp_seconds Unix timestamp of the end of the newest finished run.
# TYPE aliyun_acr_subscription_last_finished_run_end_timestamp_seconds gauge
aliyun_acr_subscription_last_finished_run_end_timestamp_seconds{BUSY} 1700000083.5
# HELP aliyun_acr_subscription_last_finished_run_duration_seconds Duration of the newest finished run from start to end.
# TYPE aliyun_acr_subscription_last_finished_run_duration_seconds gauge
aliyun_acr_subscription_last_finished_run_duration_seconds{BUSY} 83.5
# HELP aliyun_acr_subscription_consecutive_failed_runs Number of failed runs since the last succeeded one.
# TYPE aliyun_acr_subscription_consecutive_failed_runs gauge
aliyun_acr_subscription_consecutive_failed_runs{YOUNG} 0
aliyun_acr_subscription_consecutive_failed_runs{BUSY} 3
# HELP aliyun_acr_subscription_last_success_timestamp_seconds Unix timestamp of the end of the latest succeeded run.
# TYPE aliyun_acr_subscription_last_success_timestamp_seconds gauge
aliyun_acr_subscription_last_success_timestamp_seconds{BUSY} 1699000000.25
# HELP aliyun_acr_subscription_typical_run_interval_seconds Median time between the starts of the subscription's recent runs.
# TYPE aliyun_acr_subscription_typical_run_interval_seconds gauge
aliyun_acr_subscription_typical_run_interval_seconds{BUSY} 3600.5
# HELP aliyun_acr_subscription_runs_total Total number of finished runs.
# TYPE aliyun_acr_subscription_runs_total counter
aliyun_acr_subscription_runs_total{YOUNG} 0
aliyun_acr_subscription_runs_total{BUSY} 1234
# HELP aliyun_acr_subscription_run_failures_total Total number of failed runs.
# TYPE aliyun_acr_subscription_run_failures_total counter
aliyun_acr_subscription_run_failures_total{YOUNG} 0
aliyun_acr_subscription_run_failures_total{BUSY} 56
# HELP aliyun_acr_subscription_run_duration_seconds Duration of finished runs from start to end.
# TYPE aliyun_acr_subscription_run_duration_seconds histogram
RUNS# HELP aliyun_acr_subscription_run_artifact_duration_seconds Duration of the artifacts of finished runs from start to end.
# TYPE aliyun_acr_subscription_run_artifact_duration_seconds histogram
ARTIFACTS"#
            .replace("YOUNG", &labels("\\\\\\n\\\""))
            .replace("BUSY", &labels("nginx"))
            .replace(
                "RUNS",
                // 83.5 s
                &histogram(
                    "run_duration_seconds",
                    [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1],
                    "83.5"
                )
            )
            .replace(
                "ARTIFACTS",
                // 0.5 s and 1 s; 4.25 s; 59.999 s; 25 hours.
                &histogram(
                    "run_artifact_duration_seconds",
                    [2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5],
                    "90065.749"
                )
            )
    );
}

/// The lines of an instance's histogram; counts up to each bound.
fn histogram(name: &str, below: [u32; 14], sum: &str) -> String {
    let name = format!("aliyun_acr_subscription_{name}");
    let labels = r#"instance_id="cri-a""#;
    let bounds = [
        "1", "5", "10", "30", "60", "120", "300", "600", "1800", "3600", "7200", "21600", "86400",
        "+Inf",
    ];
    let mut lines = String::new();
    for (bound, below) in bounds.iter().zip(below) {
        lines.push_str(&format!(
            "{name}_bucket{{{labels},le=\"{bound}\"}} {below}\n"
        ));
    }
    lines.push_str(&format!("{name}_sum{{{labels}}} {sum}\n"));
    lines.push_str(&format!("{name}_count{{{labels}}} {}\n", below[13]));
    lines
}

/// The names on a page, each once, without the prefix that all of them share.
fn families(page: &str) -> Vec<&str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("# TYPE aliyun_acr_subscription_"))
        .filter_map(|line| line.split(' ').next())
        .collect()
}

#[test]
fn lists_that_were_not_read_for_long_take_the_newest_runs_with_them() {
    let last_fresh = 3 * 300_000;
    let all = [
        "rule_info",
        "created_timestamp_seconds",
        "last_run_info",
        "last_run_status",
        "last_run_start_timestamp_seconds",
        "last_run_source_tags",
        "last_run_selected_tags",
        "last_finished_run_info",
        "last_finished_run_status",
        "last_finished_run_failure",
        "last_finished_run_artifacts",
        "last_finished_run_end_timestamp_seconds",
        "last_finished_run_duration_seconds",
        "consecutive_failed_runs",
        "last_success_timestamp_seconds",
        "typical_run_interval_seconds",
        "runs_total",
        "run_failures_total",
        "run_duration_seconds",
        "run_artifact_duration_seconds",
    ];
    assert_eq!(families(&page_of(last_fresh, vec![busy()])), all);
    assert_eq!(
        families(&page_of(last_fresh + 1, vec![busy()])),
        [
            "rule_info",
            "created_timestamp_seconds",
            "last_success_timestamp_seconds",
            "typical_run_interval_seconds",
            "runs_total",
            "run_failures_total",
            "run_duration_seconds",
            "run_artifact_duration_seconds",
        ]
    );
    // An instance whose lists were never read.
    let mut elsewhere = busy();
    elsewhere.instance_id = "cri-b".into();
    assert_eq!(families(&page_of(0, vec![elsewhere])).len(), 8);
}

#[test]
fn a_first_run_that_is_not_over_yet_is_no_finished_one() {
    let entry = SubscriptionEntry {
        last_finished_run: None,
        ..busy()
    };
    let page = page_of(0, vec![entry]);
    assert!(page.contains("_last_run_status{"));
    assert!(!page.contains("_last_finished_run_"));
}

#[test]
fn a_long_label_is_cut_and_stays_different_from_others() {
    let start = "é".repeat(506);
    let long = |end: &str| format!("{start}{}{end}", "x".repeat(300_000));
    let label = |value: &str| {
        let mut out = Vec::new();
        push_label(&mut out, "tag", value);
        String::from_utf8(out).unwrap()
    };
    // SHA-256 of the whole values, by sha256sum.
    let cut = label(&long("1"));
    assert_eq!(cut, format!("tag=\"{start}x…33cd2a3a\""));
    assert_eq!(label(&long("2")), format!("tag=\"{start}x…2ba77a21\""));
    // What has just room stays; what looks like a cut value does not.
    let full = "y".repeat(1024);
    assert_eq!(label(&full), format!("tag=\"{full}\""));
    let same = cut.strip_prefix("tag=\"").unwrap().trim_end_matches('"');
    assert_eq!(same.len(), 1024);
    assert_ne!(label(same), cut);
}

#[test]
fn limits_keep_the_failed_artifact() {
    let limits = Limits {
        artifacts_per_task: 1,
        ..LIMITS
    };
    let page = page_at(1_700_000_160_000, limits, vec![finished_task()]);
    let artifacts: Vec<_> = samples(&page)
        .into_iter()
        .filter(|sample| sample.starts_with("artifact_status"))
        .collect();
    assert_eq!(
        artifacts,
        [
            r#"artifact_status{TASK,repo_namespace="mirror",repo_name="nginx",tag="1.28",status="failed"} 1"#
        ]
    );
    assert!(
        samples(&page).contains(&"task_artifacts{TASK,status=\"succeeded\"} 1".to_owned()),
        "what the limit keeps off the page is still counted"
    );
}

#[test]
fn the_exporters_own_metrics_go_through_the_same_writer() {
    let registry = Registry::new();
    let counter = IntCounterVec::new(Opts::new("c_total", "A \\ and\na \"."), &["b", "a"]).unwrap();
    counter.with_label_values(&["x\"\\\n", "y"]).inc_by(7);
    let histogram = HistogramVec::new(
        HistogramOpts::new("h", "H.").buckets(vec![0.05, 1.0]),
        &["a"],
    )
    .unwrap();
    for seconds in [0.03125, 0.5, 0.5, 60.0] {
        histogram.with_label_values(&["z"]).observe(seconds);
    }
    let bare = IntCounter::new("bare_total", "Bare.").unwrap();
    registry.register(Box::new(counter)).unwrap();
    registry.register(Box::new(histogram)).unwrap();
    registry.register(Box::new(bare)).unwrap();

    let snapshot = Store::new(LIMITS, []).snapshot();
    assert_eq!(
        write_text(snapshot, 0, &registry.gather()),
        r#"# HELP bare_total Bare.
# TYPE bare_total counter
bare_total 0
# HELP c_total A \\ and\na ".
# TYPE c_total counter
c_total{a="y",b="x\"\\\n"} 7
# HELP h H.
# TYPE h histogram
h_bucket{a="z",le="0.05"} 1
h_bucket{a="z",le="1"} 3
h_bucket{a="z",le="+Inf"} 4
h_sum{a="z"} 61.03125
h_count{a="z"} 4
"#
    );
}

#[test]
fn numbers() {
    for (thousandths, text) in [
        (0, "0"),
        (1, "0.001"),
        (10, "0.01"),
        (100, "0.1"),
        (1_000, "1"),
        (10_000, "10"),
        (12_345, "12.345"),
        (12_500, "12.5"),
        (12_050, "12.05"),
        (1_700_000_000_001, "1700000000.001"),
        (-1, "-0.001"),
        (-12_500, "-12.5"),
        (i64::MAX, "9223372036854775.807"),
        (i64::MIN, "-9223372036854775.808"),
    ] {
        let mut out = Vec::new();
        push_value(&mut out, Value::millis(thousandths));
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
    for (number, text) in [
        (Value::whole(-3), "-3"),
        (Value::whole(i64::MAX), "9223372036854775"),
        (Value::whole(i64::MIN), "-9223372036854775"),
        (Value::total(12), "12"),
        (Value::total(u64::MAX), "9223372036854775"),
    ] {
        let mut out = Vec::new();
        push_value(&mut out, number);
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
    for (value, text) in [
        (0.0, "0"),
        (0.05, "0.05"),
        (-1.5, "-1.5"),
        (3.0, "3"),
        (-3.0, "-3"),
        (-0.0, "-0"),
        (1_125_899_906_842_623.0, "1125899906842623"),
        (1_125_899_906_842_624.0, "1125899906842624"),
        (1e21, "1000000000000000000000"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::NAN, "NaN"),
    ] {
        assert_eq!(float(value), text);
    }
}

/// Name and labels (unescaped, sorted) to the number's text.
type Read = HashMap<(String, BTreeMap<String, String>), String>;

fn read(page: &str) -> Read {
    read_as(Format::Text, page)
}

/// Reads a page. Panics at what the format forbids and at a sample that is
/// there twice.
fn read_as(format: Format, page: &str) -> Read {
    let open = format == Format::OpenMetrics;
    let page = if open {
        page.strip_suffix("# EOF\n").expect("it ends")
    } else {
        page
    };
    let mut found = HashMap::new();
    let mut family = ("", "");
    let mut families = Vec::new();
    for line in page.strip_suffix('\n').unwrap_or("").split('\n') {
        if line.is_empty() {
            assert!(page.is_empty());
        } else if let Some(comment) = line.strip_prefix("# TYPE ") {
            let (name, kind) = comment.split_once(' ').unwrap();
            assert!(!families.contains(&name), "{name} is not one block");
            families.push(name);
            family = (name, kind);
        } else if let Some(unit) = line.strip_prefix("# UNIT ") {
            let (name, unit) = unit.split_once(' ').unwrap();
            assert!(open && name == family.0 && name.ends_with(&format!("_{unit}")));
        } else if !line.starts_with("# HELP ") {
            let name_end = line.find(['{', ' ']).unwrap();
            let suffix = line[..name_end].strip_prefix(family.0).unwrap();
            match family.1 {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                "counter" if open => assert_eq!(suffix, "_total", "{line}"),
                "gauge" | "counter" => assert_eq!(suffix, "", "{line}"),
                kind => panic!("{kind}"),
            }
            let rest = &line[name_end + 1..];
            let (labels, rest) = if line[name_end..].starts_with('{') {
                read_labels(rest)
            } else {
                (BTreeMap::new(), rest)
            };
            let key = (line[..name_end].to_owned(), labels);
            assert!(
                found.insert(key, rest.to_owned()).is_none(),
                "twice: {line}"
            );
        }
    }
    found
}

fn read_labels(mut rest: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    loop {
        let (name, after) = rest.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    c => panic!("unknown escape {c}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none());
        rest = &after[end + 1..];
        if let Some(number) = rest.strip_prefix("} ") {
            return (labels, number);
        }
        rest = rest.strip_prefix(',').unwrap();
    }
}

/// `12.5` → 12500.
fn thousandths(text: &str) -> i64 {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    assert!(decimals.len() <= 3 && !decimals.ends_with('0'), "{text}");
    format!("{whole}{decimals:0<3}").parse().unwrap()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab]",
        "[a\\\\\"\n\r,={} é🚢]{0,6}",
        proptest::collection::vec(any::<char>(), 0..4).prop_map(String::from_iter),
    ]
}

fn time() -> impl Strategy<Value = Option<i64>> {
    proptest::option::of(prop_oneof![
        -5_i64..5,
        1_699_999_990_000..1_700_000_100_000_i64
    ])
}

fn any_row() -> impl Strategy<Value = Row> {
    let word = || {
        proptest::sample::select(vec!["", "RUNNING", "COMPLETED", "SUCCESS", "FAILED", "ODD"])
            .prop_map(str::to_owned)
    };
    (text(), text(), text(), word(), word(), time(), time()).prop_map(
        |(repo_namespace, repo_name, tag, status, result, start_ms, end_ms)| Row {
            repo_namespace,
            repo_name,
            tag,
            status,
            result,
            start_ms,
            end_ms,
        },
    )
}

prop_compose! {
    fn any_entry()(
        instance in text(),
        task_id in text(),
        task in text(),
        info in proptest::option::of((text(), text())),
        rows in proptest::option::of(proptest::collection::vec(any_row(), 0..12)),
        artifacts in proptest::sample::select(
            vec![ArtifactSeries::All, ArtifactSeries::Failed, ArtifactSeries::None],
        ),
        last_poll_ms in time(),
        last_success_ms in time(),
        error in proptest::option::of(Just(Reason::Timeout)),
    ) -> TaskEntry {
        let words = Words::default();
        let target = Target {
            instance_id: instance.into(),
            task_id: task_id.into(),
            task: task.into(),
            region: "".into(),
            artifacts,
            origin: Origin::Configured,
        };
        let info = info.map(|(repo_name, source_repository)| TaskInfo {
            repo_name,
            source_repository,
            ..TaskInfo::default()
        });
        let mut entry = TaskEntry::new(Arc::new(target), Duration::from_secs(60));
        entry.data = rows.map(|rows| {
            Assessment::new(Folded::new(rows, &words), info.as_ref(), &words)
        });
        entry.info = info.map(Arc::new);
        entry.last_poll_ms = last_poll_ms;
        entry.last_success_ms = last_success_ms;
        entry.error = error.map(|reason| Arc::new(PollError { reason, text: String::new() }));
        entry
    }
}

fn any_run() -> impl Strategy<Value = RunSummary> {
    let number = || proptest::option::of(prop_oneof![Just(i64::MAX), 0..100_i64]);
    (
        proptest::sample::select(TaskStatus::ALL.to_vec()),
        time(),
        number(),
        number(),
        number(),
        proptest::option::of(proptest::sample::select(Cause::ALL.to_vec())),
        any::<Option<[u32; 4]>>(),
    )
        .prop_map(
            |(status, start_ms, duration_ms, source_tags, selected_tags, cause, artifacts)| {
                RunSummary {
                    task_id: "crast-1".into(),
                    info: Arc::new(TaskInfo {
                        source_tags,
                        selected_tags,
                        ..TaskInfo::default()
                    }),
                    status,
                    cause,
                    start_ms,
                    end_ms: duration_ms,
                    duration_ms,
                    artifacts,
                }
            },
        )
}

prop_compose! {
    fn any_durations()(
        runs in proptest::collection::vec(0_i64..200_000_000, 0..20),
        artifacts in proptest::collection::vec(0_i64..200_000_000, 0..20),
    ) -> Arc<RunDurations> {
        Arc::new(RunDurations { runs: observed(&runs), artifacts: observed(&artifacts) })
    }
}

prop_compose! {
    fn any_subscription()(
        instance_id in "[ab]",
        texts in (text(), text(), text(), text()),
        rules in proptest::collection::vec((text(), text(), time()), 0..5),
        last_run in proptest::option::of(any_run()),
        last_finished_run in proptest::option::of(any_run()),
        consecutive_failed_runs in any::<u32>(),
        last_success_ms in time(),
        runs in any::<u64>(),
        failures in 0_u64..5,
        announced in any::<bool>(),
    ) -> SubscriptionEntry {
        let subscription = Subscription {
            repo_namespace: texts.0,
            repo_name: texts.1,
            source_provider: texts.2,
            source_repository: texts.3,
        };
        let counts = Counts { runs, failures };
        SubscriptionEntry {
            instance_id: instance_id.into(),
            rules: rules
                .into_iter()
                .map(|(rule_id, tag_regexp, created_ms)| Rule {
                    created_ms,
                    ..rule(&subscription, &rule_id, &tag_regexp)
                })
                .collect(),
            subscription: Arc::new(subscription),
            last_run,
            last_finished_run,
            consecutive_failed_runs,
            last_success_ms,
            counts: Arc::new(counts),
            announced,
            ..SubscriptionEntry::default()
        }
    }
}

proptest! {
    /// Whatever the lists say, no two samples share name and labels, and each
    /// status and each histogram is whole.
    #[test]
    fn pages_of_subscriptions_read_back(
        task in any_entry(),
        subscriptions in proptest::collection::vec(any_subscription(), 0..8),
        age_ms in proptest::sample::select(vec![0, 86_400_000]),
        series in proptest::sample::select(vec![0, 200_000]),
        durations in any_durations(),
    ) {
        let now_ms = 1_700_000_200_000;
        let store = Store::new(Limits { series, ..LIMITS }, [task]);
        for instance_id in ["a", "b"] {
            store.update_listing(ListingEntry {
                instance_id: instance_id.into(),
                durations: Arc::clone(&durations),
                ..listed_at(now_ms - age_ms)
            });
        }
        for subscription in subscriptions {
            store.update_subscription(subscription);
        }
        let snapshot = store.snapshot();
        let page = write_text(Arc::clone(&snapshot), now_ms, &[]);
        let view = View::new(Arc::clone(&snapshot), now_ms, SERIES);
        let samples = read(&page);

        prop_assert_eq!(samples.len(), view.series);
        for subscription in view.subscriptions() {
            let entry = subscription.entry;
            let of = &entry.subscription;
            let value = |name: &str, more: &[(&str, &str)]| {
                let labels = [
                    ("instance_id", &*entry.instance_id),
                    ("repo_namespace", &of.repo_namespace),
                    ("repo_name", &of.repo_name),
                    ("source_provider", &of.source_provider),
                    ("source_repository", &of.source_repository),
                ];
                let labels = labels
                    .iter()
                    .chain(more)
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect();
                let name = format!("aliyun_acr_subscription_{name}");
                samples.get(&(name, labels)).map(|text| thousandths(text))
            };
            let status_sum = |name: &str, statuses: &[&str]| {
                let each = statuses.iter().map(|status| value(name, &[("status", status)]));
                each.sum::<Option<i64>>()
            };
            let fresh = age_ms == 0;
            prop_assert_eq!(
                status_sum("last_run_status", &["empty", "running", "succeeded", "failed", "unknown"]),
                (fresh && entry.last_run.is_some()).then_some(1000)
            );
            prop_assert_eq!(
                status_sum("last_finished_run_status", &["succeeded", "failed", "unknown"]),
                (fresh && entry.last_finished_run.is_some()).then_some(1000)
            );
            prop_assert_eq!(
                value("last_success_timestamp_seconds", &[]),
                entry.last_success_ms
            );
            prop_assert_eq!(
                value("run_failures_total", &[]),
                // At 0 for as long as no answer has shown it.
                Some(if entry.announced { 1000 * i64::try_from(entry.counts.failures).unwrap() } else { 0 })
            );
            let artifacts = entry.last_finished_run.as_ref().and_then(|run| run.artifacts);
            prop_assert_eq!(
                status_sum("last_finished_run_artifacts", &["running", "succeeded", "failed", "unknown"]),
                artifacts.filter(|_| fresh).map(|counts| {
                    1000 * counts.into_iter().map(i64::from).sum::<i64>()
                })
            );
            for rule in entry.rules.iter() {
                let rules = samples.keys().filter(|(name, labels)| {
                    name.ends_with("_rule_info")
                        && labels["rule_id"] == rule.rule_id
                        && labels["instance_id"] == *entry.instance_id
                        && labels["repo_namespace"] == of.repo_namespace
                        && labels["repo_name"] == of.repo_name
                        && labels["source_provider"] == of.source_provider
                        && labels["source_repository"] == of.source_repository
                });
                prop_assert_eq!(rules.count(), 1);
            }
        }
        for instance_id in ["a", "b"] {
            let value = |name: &str, le: Option<&str>| {
                let labels = [("instance_id", instance_id)].into_iter();
                let labels = labels.chain(le.map(|le| ("le", le)));
                let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
                let name = format!("aliyun_acr_subscription_{name}");
                samples.get(&(name, labels.collect())).map(|text| thousandths(text))
            };
            for (name, durations) in [
                ("run_duration_seconds", &durations.runs),
                ("run_artifact_duration_seconds", &durations.artifacts),
            ] {
                let count = Some(1000 * i64::try_from(durations.count()).unwrap());
                prop_assert_eq!(value(&format!("{name}_bucket"), Some("+Inf")), count);
                prop_assert_eq!(value(&format!("{name}_count"), None), count);
                prop_assert_eq!(value(&format!("{name}_sum"), None), Some(durations.sum_ms));
            }
        }
    }

    /// Whatever the cloud and the configuration say, the page can be read
    /// back, nothing stands on it twice, and its size is what the store says.
    #[test]
    fn pages_read_back(
        entries in proptest::collection::vec(any_entry(), 0..8),
        series in proptest::sample::select(vec![0, 60, 200_000]),
        artifacts_per_task in proptest::sample::select(vec![0, 3, 500]),
    ) {
        let limits = Limits { series, artifacts_per_task, ..LIMITS };
        let snapshot = Store::new(limits, entries).snapshot();
        let page = write_text(Arc::clone(&snapshot), 1_700_000_200_000, &[]);
        let view = View::new(snapshot, 1_700_000_200_000, SERIES);
        let samples = read(&page);

        prop_assert_eq!(samples.len(), view.series);
        let value = |name: &str, task: &crate::store::TaskView<'_>, more: &[(&str, &str)]| {
            let target = &task.entry.target;
            let labels = [
                ("instance_id", &*target.instance_id),
                ("task_id", &*target.task_id),
                ("task", &*target.task),
            ];
            let labels = labels
                .iter()
                .chain(more)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            let name = format!("aliyun_acr_subscription_{name}");
            samples.get(&(name, labels)).map(|text| thousandths(text))
        };
        for task in view.tasks() {
            let polled = task.entry.last_poll_ms;
            prop_assert_eq!(
                value("task_last_poll_timestamp_seconds", &task, &[]),
                polled
            );
            prop_assert_eq!(
                value("task_up", &task, &[]),
                polled.map(|_| if task.entry.error.is_none() { 1000 } else { 0 })
            );
            prop_assert_eq!(
                value("task_start_timestamp_seconds", &task, &[]),
                task.fresh.and_then(|data| data.start_ms)
            );
            let statuses: Vec<_> = ["empty", "running", "succeeded", "failed", "unknown"]
                .iter()
                .filter_map(|status| value("task_status", &task, &[("status", status)]))
                .collect();
            prop_assert_eq!(statuses.len(), if task.fresh.is_some() { 5 } else { 0 });
            if let Some(data) = task.fresh {
                prop_assert_eq!(statuses.iter().sum::<i64>(), 1000);
                let artifacts = ["running", "succeeded", "failed", "unknown"]
                    .map(|status| value("task_artifacts", &task, &[("status", status)]).unwrap());
                prop_assert_eq!(
                    artifacts.iter().sum::<i64>(),
                    1000 * i64::try_from(data.artifacts.len()).unwrap()
                );
            }
            for artifact in task.artifacts() {
                let labels = [
                    ("repo_namespace", artifact.repo_namespace),
                    ("repo_name", artifact.repo_name),
                    ("tag", artifact.tag),
                ];
                let duration = artifact.finished.then(|| {
                    Some(artifact.end_ms? - artifact.start_ms?)
                });
                prop_assert_eq!(
                    value("artifact_sync_duration_seconds", &task, &labels),
                    duration.flatten().filter(|millis| *millis >= 0)
                );
                let status = [labels[0], labels[1], labels[2], ("status", artifact.outcome.as_str())];
                prop_assert_eq!(value("artifact_status", &task, &status), Some(1000));
            }
        }
    }
}

/// Prometheus' own reader and linter must have nothing to say. Without
/// `promtool` in PATH this says what was left out, or fails where
/// `REQUIRE_REAL_PARTS=1` asks for the real thing.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "whether real parts are required is the caller's word"
)]
fn promtool_has_nothing_to_say() {
    let own = Own::new(Build {
        version: "1.2.3",
        revision: "abc",
        rustversion: "1.90.0",
        target: "x86_64-unknown-linux-gnu",
    });
    let action = own.action("default", "ListInstance");
    action.requests.inc();
    action.duration.observe(0.125);
    action.failed(Reason::Timeout);
    own.rate_limit("default").0.set(5.0);
    own.credentials_failures("default").inc();
    own.set_clock_skew(-0.25);
    own.http_request("/metrics", 200);
    own.unrecognized_values.set(&["Status", "ODD"], 1.0);
    let mut failing = finished_task();
    failing.target = Arc::new(target("crast-2", "a \"b\" \\ c\nd 🚢"));
    failing.error = Some(Arc::new(PollError {
        reason: Reason::Timeout,
        text: String::new(),
    }));
    own.follow_up.set(&["cri-a"], 1.0);
    own.follow_last_success_timestamp_seconds
        .set(&["cri-a"], 1_700_000_160.0);
    own.instance("cri-a").failed(Reason::Timeout);
    own.state().saved(1_700_000_160.0);
    let store = Store::new(LIMITS, [finished_task(), failing]);
    store.update_listing(listed_at(1_700_000_160_000));
    store.update_subscription(busy());
    store.update_subscription(young("\\\n\""));
    let page = write_text(store.snapshot(), 1_700_000_160_000, &own.gather());

    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match spawned {
        Ok(promtool) => promtool,
        Err(error) => {
            let required = std::env::var("REQUIRE_REAL_PARTS").as_deref() == Ok("1");
            assert!(!required, "promtool is required and cannot be run: {error}");
            println!("LEFT OUT: promtool cannot be run ({error}); the page was not checked by it");
            return;
        }
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    let said = promtool.wait_with_output().unwrap();
    let text = [said.stdout, said.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&text), "");
    assert!(said.status.success());
}
