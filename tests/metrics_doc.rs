//! Holds `docs/metrics.md` and the code together, both ways: every metric has
//! a row with its type, labels, unit and stability, and every row a metric.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::Reason;
use aliyun_acr_exporter::exposition::text::{self, Writer};
use aliyun_acr_exporter::exposition::{Content, Format, Names};
use aliyun_acr_exporter::metrics::catalog::{
    ARTIFACT_LABELS, CATALOG, INSTANCE_LABELS, Kind, SUBSCRIPTION_LABELS, Samples, TASK_LABELS,
};
use aliyun_acr_exporter::metrics::own::{Build, OWN, Own};
use aliyun_acr_exporter::model::{
    Assessment, Cause, Folded, Row, Rule, Subscription, TaskInfo, TaskStatus, Words,
};
use aliyun_acr_exporter::store::{
    ArtifactSeries, Limits, ListingEntry, Origin, PollError, RunSummary, Store, SubscriptionEntry,
    Target, TaskEntry,
};
use prometheus::proto::MetricType;

/// Type, labels, unit, stability.
type Facts = (String, Vec<String>, String, String);

fn documented() -> BTreeMap<String, Facts> {
    let document = include_str!("../docs/metrics.md");
    let mut rows = BTreeMap::new();
    let mut columns: Vec<&str> = Vec::new();
    for line in document.lines() {
        if line.starts_with("|--") {
            continue;
        }
        let Some(inner) = line.strip_prefix("| ").and_then(|l| l.strip_suffix(" |")) else {
            columns.clear();
            continue;
        };
        let cells: Vec<&str> = inner.split(" | ").collect();
        if columns.is_empty() {
            columns = cells;
        } else if columns[0] == "name" {
            assert_eq!(cells.len(), columns.len(), "{line}");
            let cell = |name| {
                let column = columns.iter().position(|column| *column == name);
                cells[column.expect("every table of metrics has the column")]
            };
            let labels = match cell("labels") {
                "none" => Vec::new(),
                labels => labels.split(' ').map(unquoted).collect(),
            };
            let facts = (
                cell("type").to_owned(),
                labels,
                cell("unit").to_owned(),
                cell("stability").to_owned(),
            );
            let name = unquoted(cell("name"));
            assert!(rows.insert(name, facts).is_none(), "twice: {line}");
        }
    }
    rows
}

fn unquoted(cell: &str) -> String {
    let inner = cell.strip_prefix('`').and_then(|c| c.strip_suffix('`'));
    inner
        .unwrap_or_else(|| panic!("no backticks: {cell}"))
        .to_owned()
}

/// The unit as the name ends in it, which is where Prometheus wants it.
fn unit_of(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    ["seconds", "bytes"]
        .into_iter()
        .find(|unit| name.ends_with(&format!("_{unit}")))
        .unwrap_or("–")
}

fn in_the_code() -> BTreeMap<String, Facts> {
    let owned = |labels: &[&str]| labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
    let catalog = CATALOG.iter().map(|metric| {
        let mut labels = match metric.samples {
            Samples::Task(_) => owned(&TASK_LABELS),
            Samples::Artifact(_) => owned(&[TASK_LABELS, ARTIFACT_LABELS].concat()),
            Samples::Subscription(_) => owned(&SUBSCRIPTION_LABELS),
            Samples::Durations(_) => owned(&INSTANCE_LABELS),
        };
        labels.extend(owned(metric.labels));
        // The name tells a counter, and only one shape of samples is a histogram.
        let counter = metric.kind == Kind::Counter;
        assert_eq!(counter, metric.name.ends_with("_total"), "{}", metric.name);
        let histogram = metric.kind == Kind::Histogram;
        let durations = matches!(metric.samples, Samples::Durations(_));
        assert_eq!(histogram, durations, "{}", metric.name);
        let kind = metric.kind.as_str().to_owned();
        let unit = unit_of(metric.name).to_owned();
        (metric.name, (kind, labels, unit, "stable".to_owned()))
    });
    let own = OWN.iter().map(|metric| {
        let facts = (
            metric.kind.as_str().to_owned(),
            owned(metric.labels),
            unit_of(metric.name).to_owned(),
            "stable".to_owned(),
        );
        (metric.name, facts)
    });
    let described: Vec<_> = catalog.chain(own).collect();
    let count = described.len();
    let map: BTreeMap<_, _> = described
        .into_iter()
        .map(|(name, facts)| (name.to_owned(), facts))
        .collect();
    assert_eq!(map.len(), count, "a name is there twice");
    map
}

fn process() -> BTreeMap<String, Facts> {
    let build = Build {
        version: "",
        revision: "",
        rustversion: "",
        target: "",
    };
    Own::new(build)
        .gather()
        .iter()
        .filter(|family| family.name().starts_with("process_"))
        .map(|family| {
            let kind = match family.get_field_type() {
                MetricType::COUNTER => "counter",
                MetricType::GAUGE => "gauge",
                other => panic!("{other:?}"),
            };
            let name = family.name().to_owned();
            let unit = unit_of(&name).to_owned();
            (
                name,
                (kind.to_owned(), Vec::new(), unit, "stable".to_owned()),
            )
        })
        .collect()
}

#[test]
fn the_document_and_the_code_describe_the_same_metrics() {
    let documented = documented();
    let mut code = in_the_code();
    if cfg!(target_os = "linux") {
        let process = process();
        assert!(!process.is_empty());
        code.extend(process);
    } else {
        code.extend(
            documented
                .iter()
                .filter(|(name, _)| name.starts_with("process_"))
                .map(|(name, facts)| (name.clone(), facts.clone())),
        );
    }
    for (name, facts) in &code {
        assert_eq!(documented.get(name), Some(facts), "{name}");
    }
    for name in documented.keys() {
        assert!(
            code.contains_key(name),
            "{name} is documented and not there"
        );
    }
}

const NOW_MS: i64 = 1_700_000_000_000;

/// A page with a sample of every metric of what is watched, and with the
/// exporter's `own`.
fn page(format: Format, own: &Own) -> String {
    let words = Words::default();
    let target = Target {
        instance_id: "cri-a".into(),
        task_id: "crast-1".into(),
        task: "t".into(),
        region: "cn-hangzhou".into(),
        artifacts: ArtifactSeries::All,
        origin: Origin::Configured,
    };
    let row = Row::<String> {
        tag: "1".into(),
        result: "SUCCESS".into(),
        start_ms: Some(NOW_MS - 2_000),
        end_ms: Some(NOW_MS - 1_000),
        ..Row::default()
    };
    let error = Arc::new(PollError {
        reason: Reason::Timeout,
        text: String::new(),
    });
    let mut task = TaskEntry::new(Arc::new(target), Duration::from_secs(60));
    task.data = Some(Assessment::new(
        Folded::new(vec![row], &words),
        None,
        &words,
    ));
    task.last_success_ms = Some(NOW_MS);
    task.last_poll_ms = Some(NOW_MS);
    task.error = Some(error);
    task.cause = Some(Cause::Other);

    let subscription = Subscription {
        repo_namespace: "mirror".into(),
        repo_name: "nginx".into(),
        source_provider: "DOCKER_HUB".into(),
        source_repository: "library/nginx".into(),
    };
    let rule = Rule {
        rule_id: "crasr-1".into(),
        subscription: subscription.clone(),
        tag_regexp: ".*".into(),
        created_ms: Some(NOW_MS),
        ..Rule::default()
    };
    let run = RunSummary {
        task_id: "crast-1".into(),
        info: Arc::new(TaskInfo {
            source_tags: Some(1),
            selected_tags: Some(1),
            ..TaskInfo::default()
        }),
        status: TaskStatus::Failed,
        cause: Some(Cause::Other),
        artifacts: Some([0, 0, 1, 0]),
        start_ms: Some(NOW_MS - 2_000),
        end_ms: Some(NOW_MS - 1_000),
        duration_ms: Some(1_000),
    };
    let limits = Limits {
        series: 1_000,
        artifacts_per_task: 10,
        stale_after: Duration::from_secs(300),
    };
    let store = Store::new(limits, [task]);
    store.update_listing(ListingEntry {
        instance_id: "cri-a".into(),
        interval: Duration::from_secs(300),
        last_success_ms: Some(NOW_MS),
        wall_ahead_ms: 0,
        last_try_ms: Some(NOW_MS),
        error: None,
        next_ms: None,
        tasks_dropped: 0,
        ..ListingEntry::default()
    });
    store.update_subscription(SubscriptionEntry {
        instance_id: "cri-a".into(),
        subscription: Arc::new(subscription),
        rules: [rule].into(),
        last_run: Some(run.clone()),
        last_finished_run: Some(run),
        consecutive_failed_runs: 0,
        created_ms: Some(NOW_MS),
        last_success_ms: Some(NOW_MS),
        typical_run_interval_ms: Some(1_000),
        counts: Arc::default(),
        ..SubscriptionEntry::default()
    });
    let content = Arc::new(Content::new(store.snapshot(), NOW_MS));
    let pieces = Writer::new(content, format, Names::Every).flatten();
    let end = text::tail(format, &Names::Every, &own.gather());
    String::from_utf8(pieces.chain(end).collect()).expect("the page is UTF-8")
}

/// What a scraper sees of it is what the document says of it.
#[test]
fn the_page_is_what_the_document_describes() {
    let documented = documented();
    let page = page(Format::Text, &Own::new(Build::CURRENT));
    let (page, _) = page
        .split_once("# HELP aliyun_acr_exporter_")
        .expect("the own metrics come behind");
    let mut families = BTreeSet::new();
    let mut family = ("", "");
    for line in page.lines() {
        if let Some(header) = line.strip_prefix("# TYPE ") {
            family = header.split_once(' ').expect("a name and a type");
            let (kind, ..) = &documented[family.0];
            assert_eq!(kind, family.1, "{line}");
            families.insert(family.0);
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_once('{').expect("it has labels");
            // No value on this page holds any of these characters.
            let (labels, _) = rest.split_once('}').expect("the labels end");
            let mut labels: Vec<_> = labels
                .split(',')
                .map(|label| label.split_once('=').expect("a name and a value").0)
                .collect();
            if name.ends_with("_bucket") {
                assert_eq!(labels.pop(), Some("le"), "{line}");
            }
            assert_eq!(labels, documented[family.0].1, "{line}");
        }
    }
    let watched: BTreeSet<&str> = documented
        .keys()
        .map(String::as_str)
        .filter(|name| name.starts_with("aliyun_acr_subscription_"))
        .collect();
    assert_eq!(families, watched);
}

/// The units that OpenMetrics tells are those that the document tells.
#[test]
fn the_units_of_the_page_are_what_the_document_says() {
    let own = Own::new(Build::CURRENT);
    own.action("default", "ListInstance").requests.inc();
    own.state().saved(1.0);
    own.instance("cri-a");
    own.follow_last_success_timestamp_seconds
        .set(&["cri-a"], 1.0);
    let page = page(Format::OpenMetrics, &own);
    let documented = documented();
    let mut units = BTreeMap::new();
    let mut families = BTreeSet::new();
    for line in page.lines() {
        if let Some(unit) = line.strip_prefix("# UNIT ") {
            let (name, unit) = unit.split_once(' ').expect("a name and a unit");
            units.insert(name, unit);
        } else if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').expect("a name and a type");
            families.insert((name, kind));
        }
    }
    assert!(families.len() > 40, "{families:?}");
    for (family, kind) in families {
        let name = match kind {
            "counter" => format!("{family}_total"),
            _ => family.to_owned(),
        };
        let (_, _, unit, _) = &documented[&name];
        let told = units.get(family).copied().unwrap_or("–");
        assert_eq!(told, unit, "{name}");
    }
}

/// The words of the table are those that the program knows.
#[test]
fn the_documented_words_are_the_programs() {
    use aliyun_acr_exporter::model::{Meaning, Words};
    let words = Words::default();
    let mut seen = 0;
    for line in include_str!("../docs/metrics.md").lines() {
        for (name, meaning) in [
            ("running", Meaning::Running),
            ("finished", Meaning::Finished),
            ("succeeded", Meaning::Succeeded),
            ("failed", Meaning::Failed),
        ] {
            let Some(row) = line.strip_prefix(&format!("| {name} | ")) else {
                continue;
            };
            for word in row.trim_end_matches(" |").split(' ') {
                assert_eq!(words.meaning(word), Some(meaning), "{word}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 27);
}
