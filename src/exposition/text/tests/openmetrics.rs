//! What differs in OpenMetrics, by hand, and that nothing else does.

use std::collections::BTreeSet;

use super::*;

fn these(names: &[&str]) -> Names {
    Names::These(names.iter().map(|name| (*name).to_owned()).collect())
}

fn store_of(entries: Vec<SubscriptionEntry>) -> Arc<Snapshot> {
    let store = Store::new(LIMITS, [finished_task()]);
    store.update_listing(listed_at(1_700_000_160_000));
    for entry in entries {
        store.update_subscription(entry);
    }
    store.snapshot()
}

#[test]
fn a_gauge_with_a_unit_an_info_a_counter_and_a_histogram() {
    let labels = r#"instance_id="cri-a",repo_namespace="mirror",repo_name="nginx",source_provider="DOCKER_HUB",source_repository="library/nginx""#;
    let names = these(&[
        "aliyun_acr_subscription_task_end_timestamp_seconds",
        "aliyun_acr_subscription_task_info",
        "aliyun_acr_subscription_runs_total",
        "aliyun_acr_subscription_run_artifact_duration_seconds",
    ]);
    let snapshot = store_of(vec![busy()]);
    let page = write(
        Format::OpenMetrics,
        snapshot,
        1_700_000_160_000,
        &names,
        &[],
    );
    assert_eq!(
        page,
        r#"# HELP aliyun_acr_subscription_task_info Information about the task.
# TYPE aliyun_acr_subscription_task_info gauge
aliyun_acr_subscription_task_info{instance_id="cri-a",task_id="crast-1",task="nginx",acr_region="cn-hangzhou",repo_namespace="mirror",repo_name="nginx",source_provider="DOCKER_HUB",source_repository="library/nginx",task_type="AUTO",origin="followed"} 1
# HELP aliyun_acr_subscription_task_end_timestamp_seconds Unix timestamp of the end of the finished task's last artifact.
# TYPE aliyun_acr_subscription_task_end_timestamp_seconds gauge
# UNIT aliyun_acr_subscription_task_end_timestamp_seconds seconds
aliyun_acr_subscription_task_end_timestamp_seconds{instance_id="cri-a",task_id="crast-1",task="nginx"} 1700000013.5
# HELP aliyun_acr_subscription_runs Total number of finished runs.
# TYPE aliyun_acr_subscription_runs counter
aliyun_acr_subscription_runs_total{LABELS} 1234
# HELP aliyun_acr_subscription_run_artifact_duration_seconds Duration of the artifacts of finished runs from start to end.
# TYPE aliyun_acr_subscription_run_artifact_duration_seconds histogram
# UNIT aliyun_acr_subscription_run_artifact_duration_seconds seconds
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="1.0"} 2
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="5.0"} 3
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="10.0"} 3
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="30.0"} 3
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="60.0"} 4
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="120.0"} 4
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="300.0"} 4
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="600.0"} 4
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="1800.0"} 4
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="3600.0"} 4
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="7200.0"} 4
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="21600.0"} 4
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="86400.0"} 4
aliyun_acr_subscription_run_artifact_duration_seconds_bucket{instance_id="cri-a",le="+Inf"} 5
aliyun_acr_subscription_run_artifact_duration_seconds_sum{instance_id="cri-a"} 90065.749
aliyun_acr_subscription_run_artifact_duration_seconds_count{instance_id="cri-a"} 5
# EOF
"#
        .replace("LABELS", labels)
    );
}

#[test]
fn the_exporters_own_metrics() {
    let registry = Registry::new();
    let counter = IntCounterVec::new(Opts::new("c_seconds_total", "A \\ and\na \"."), &["a"]);
    let counter = counter.unwrap();
    counter.with_label_values(&["x\"\\\n"]).inc_by(7);
    let buckets = HistogramOpts::new("h_bytes", "H.").buckets(vec![0.05, 1.0]);
    let histogram = HistogramVec::new(buckets, &["a"]).unwrap();
    histogram.with_label_values(&["z"]).observe(0.5);
    registry.register(Box::new(counter)).unwrap();
    registry.register(Box::new(histogram)).unwrap();

    let page = tail(Format::OpenMetrics, &Names::Every, &registry.gather());
    assert_eq!(
        String::from_utf8(page).unwrap(),
        r#"# HELP c_seconds A \\ and\na \".
# TYPE c_seconds counter
# UNIT c_seconds seconds
c_seconds_total{a="x\"\\\n"} 7
# HELP h_bytes H.
# TYPE h_bytes histogram
# UNIT h_bytes bytes
h_bytes_bucket{a="z",le="0.05"} 0
h_bytes_bucket{a="z",le="1.0"} 1
h_bytes_bucket{a="z",le="+Inf"} 1
h_bytes_sum{a="z"} 0.5
h_bytes_count{a="z"} 1
# EOF
"#
    );
}

/// The families of a page by their `# TYPE` lines.
fn types(page: &str) -> BTreeSet<&str> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|rest| rest.split(' ').next()).collect()
}

#[test]
fn families_are_kept_by_their_exact_names() {
    let own = Own::new(Build::CURRENT);
    own.instance("cri-a");
    let own = own.gather();
    let snapshot = store_of(vec![busy()]);
    let kept = |format, names: &[&str]| {
        let now_ms = 1_700_000_160_000;
        let page = write(format, Arc::clone(&snapshot), now_ms, &these(names), &own);
        let types = types(&page).into_iter().map(str::to_owned);
        types.collect::<Vec<_>>()
    };
    let runs = "aliyun_acr_subscription_runs";
    let runs_total = "aliyun_acr_subscription_runs_total";
    for names in [vec![runs], vec![runs_total], vec![runs, runs_total]] {
        assert_eq!(kept(Format::Text, &names), [runs_total]);
        assert_eq!(kept(Format::OpenMetrics, &names), [runs]);
    }
    let polls_total = "aliyun_acr_exporter_polls_total";
    let info = "aliyun_acr_subscription_task_info";
    assert_eq!(
        kept(
            Format::Text,
            &["aliyun_acr_exporter_polls", info, "nothing"]
        ),
        [polls_total, info]
    );
    for unknown in [
        "",
        "aliyun_acr_subscription_",
        "ALIYUN_ACR_SUBSCRIPTION_TASK_INFO",
        "aliyun_acr_subscription_task_info_total",
        "aliyun_acr_subscription_runs_total_total",
        "aliyun_acr_subscription_run_artifact_duration_seconds_bucket",
        "aliyun_acr_subscription_task_inf",
    ] {
        for (format, empty) in [(Format::Text, ""), (Format::OpenMetrics, "# EOF\n")] {
            let names = these(&[unknown]);
            let page = write(format, Arc::clone(&snapshot), 0, &names, &own);
            assert_eq!(page, empty, "{unknown}");
        }
    }
}

proptest! {
    /// Whatever is known, both formats carry the same samples.
    #[test]
    fn both_formats_say_the_same(
        tasks in proptest::collection::vec(any_entry(), 0..5),
        subscriptions in proptest::collection::vec(any_subscription(), 0..5),
    ) {
        let now_ms = 1_700_000_200_000;
        let store = Store::new(LIMITS, tasks);
        for instance_id in ["a", "b"] {
            let instance_id = instance_id.into();
            store.update_listing(ListingEntry { instance_id, ..listed_at(now_ms) });
        }
        for subscription in subscriptions {
            store.update_subscription(subscription);
        }
        let own = Own::new(Build::CURRENT);
        own.action("default", "ListInstance").duration.observe(0.125);
        let own = own.gather();
        let read = |format| {
            let page = write(format, store.snapshot(), now_ms, &Names::Every, &own);
            read_as(format, &page)
        };
        let text = read(Format::Text);
        let mut open = HashMap::new();
        for ((name, mut labels), value) in read(Format::OpenMetrics) {
            if let Some(le) = labels.get_mut("le") {
                prop_assert!(le.contains('.') || le == "+Inf", "{}", le);
                *le = le.trim_end_matches(".0").to_owned();
            }
            open.insert((name, labels), value);
        }
        prop_assert_eq!(text, open);
    }
}
