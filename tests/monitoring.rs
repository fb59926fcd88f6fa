//! Holds together what is shipped for monitoring: rules, their tests, runbooks,
//! the Alertmanager configuration, dashboards and the documented metrics. What
//! the rules compute is promtool's to test.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, where a panic is the right end"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

const RUNBOOKS: &str = "docs/runbooks";
/// Where the shipped rules say that the runbooks are.
const BASE: &str = "https://runbooks.example.com/aliyun-acr-exporter";

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap()
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&path).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let files: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|is| is == ending))
        .collect();
    assert!(!files.is_empty(), "{folder} has no .{ending}");
    files
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key}: {value}"))
}

fn rules() -> Vec<Value> {
    let rules = yaml("deploy/prometheus/rules.yaml");
    let groups = list(&rules, "groups");
    groups
        .flat_map(|group| list(group, "rules"))
        .cloned()
        .collect()
}

fn named(kind: &str) -> BTreeSet<String> {
    let rules = rules();
    let names = rules.iter().filter_map(|rule| rule[kind].as_str());
    names.map(str::to_owned).collect()
}

fn alerts() -> Vec<Value> {
    let mut rules = rules();
    rules.retain(|rule| rule["alert"].is_string());
    assert!(!rules.is_empty());
    rules
}

#[test]
fn every_alert_says_what_it_must_and_points_to_its_runbook() {
    for alert in alerts() {
        let name = text(&alert, "alert");
        let severity = text(&alert["labels"], "severity");
        let known = ["critical", "warning", "info", "none"];
        assert!(known.contains(&severity), "{name}: {severity}");
        let annotations = &alert["annotations"];
        assert!(!text(annotations, "summary").is_empty(), "{name}");
        let description = text(annotations, "description");
        let values = description.contains("$labels") || description.contains("$value");
        // Without a single exporter there is nothing to name.
        assert!(values || name == "AliyunAcrExporterAbsent", "{name}");
        assert_eq!(
            text(annotations, "runbook_url"),
            format!("{BASE}/{name}.md")
        );
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let mut expected = BTreeSet::new();
    for alert in alerts() {
        let name = text(&alert, "alert");
        let severity = text(&alert["labels"], "severity");
        let book = read(format!("{RUNBOOKS}/{name}.md"));
        assert!(
            book.starts_with(&format!("# {name}\n\nSeverity: {severity}\n")),
            "{name}"
        );
        let headings: Vec<_> = book
            .lines()
            .filter(|line| line.starts_with("## "))
            .collect();
        assert_eq!(
            headings,
            ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"],
            "{name}"
        );
        expected.insert(name.to_owned());
    }
    let books = files(RUNBOOKS, "md");
    let books = books.iter().map(|book| book.file_stem().unwrap());
    let books: BTreeSet<_> = books
        .map(|book| book.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(books, expected);
}

#[test]
fn runbooks_link_to_what_there_is() {
    let link = Regex::new(r"\]\(([^)]+)\)").unwrap();
    for book in files(RUNBOOKS, "md") {
        for found in link.captures_iter(&read(&book)) {
            let target = book.with_file_name(&found[1]);
            assert!(target.exists(), "{}: {}", book.display(), &found[1]);
        }
    }
}

/// The documented metrics with the series of their histograms.
fn documented() -> BTreeSet<String> {
    let document = read("docs/metrics.md");
    let row = Regex::new(r"(?m)^\| `([a-z0-9_]+)` \| (gauge|counter|histogram) \|").unwrap();
    let mut names = BTreeSet::new();
    for found in row.captures_iter(&document) {
        let name = &found[1];
        if &found[2] == "histogram" {
            let series = ["bucket", "sum", "count"];
            names.extend(series.map(|end| format!("{name}_{end}")));
        } else {
            names.insert(name.to_owned());
        }
    }
    assert!(names.contains("aliyun_acr_subscription_task_status"));
    names
}

#[test]
fn every_metric_that_is_used_exists() {
    let documented = documented();
    let recorded = named("record");
    let name = Regex::new(r"[a-z_:][a-z0-9_:]*").unwrap();
    let mut places = vec![
        PathBuf::from("deploy/prometheus/rules.yaml"),
        PathBuf::from("deploy/prometheus/rules_test.yaml"),
        PathBuf::from("deploy/prometheus/rules_long_test.yaml"),
    ];
    places.extend(files("grafana/dashboards", "json"));
    places.extend(files(RUNBOOKS, "md"));
    for place in places {
        let mut used = 0;
        for found in name.find_iter(&read(&place)) {
            let found = found.as_str().trim_end_matches(':');
            let recording = found.contains(":aliyun_acr_");
            if recording {
                assert!(recorded.contains(found), "{}: {found}", place.display());
            } else if found.starts_with("aliyun_acr_") || found.starts_with("process_") {
                assert!(documented.contains(found), "{}: {found}", place.display());
            }
            used += usize::from(recording || found.starts_with("aliyun_acr_"));
        }
        let runbook = place.extension().is_some_and(|is| is == "md");
        assert!(used > 0 || runbook, "{}", place.display());
    }
}

/// The rule tests of each alert, in their order: what is expected at each time.
fn tested() -> BTreeMap<String, Vec<Vec<Value>>> {
    let mut tested: BTreeMap<String, Vec<Vec<Value>>> = BTreeMap::new();
    for file in ["rules_test.yaml", "rules_long_test.yaml"] {
        let file = yaml(&format!("deploy/prometheus/{file}"));
        for test in list(&file, "tests") {
            let mut of_this: BTreeMap<String, Vec<Value>> = BTreeMap::new();
            for expected in list(test, "alert_rule_test") {
                let times = of_this
                    .entry(text(expected, "alertname").to_owned())
                    .or_default();
                times.push(expected["exp_alerts"].clone());
            }
            for (alert, times) in of_this {
                tested.entry(alert).or_default().push(times);
            }
        }
    }
    tested
}

#[test]
fn every_alert_is_tested_not_to_fire_to_fire_and_to_resolve() {
    let tested = tested();
    for name in named("alert") {
        let whole = tested.get(&name).into_iter().flatten().any(|times| {
            let fires: Vec<_> = times
                .iter()
                .map(|alerts| !alerts.as_array().unwrap().is_empty())
                .collect();
            let first = fires.iter().position(|fires| *fires);
            let last = fires.iter().rposition(|fires| *fires);
            first.is_some_and(|first| first > 0) && last.is_some_and(|last| last + 1 < fires.len())
        });
        assert!(whole, "{name}");
    }
    for name in tested.keys() {
        assert!(
            named("alert").contains(name),
            "{name} is tested and is none"
        );
    }
}

/// The labels that the tests have seen on each alert.
fn labels_of_alerts() -> BTreeMap<String, BTreeSet<String>> {
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (alert, tests) in tested() {
        let labels = labels.entry(alert).or_default();
        for alert in tests
            .iter()
            .flatten()
            .flat_map(|alerts| alerts.as_array().unwrap())
        {
            labels.extend(alert["exp_labels"].as_object().unwrap().keys().cloned());
        }
    }
    labels
}

/// The alerts that a rule of inhibition speaks of.
fn alerts_meant(rule: &Value, matchers: &str) -> Vec<String> {
    let matcher = Regex::new(r#"^alertname=~?"([A-Za-z|]+)"$"#).unwrap();
    let mut meant = Vec::new();
    for text in list(rule, matchers).map(|one| one.as_str().unwrap()) {
        if let Some(found) = matcher.captures(text) {
            meant.extend(found[1].split('|').map(str::to_owned));
        }
    }
    assert!(!meant.is_empty(), "{rule}");
    meant
}

/// The labels that a rule of inhibition matches besides the name of the alert.
fn labels_matched(rule: &Value, matchers: &str) -> Vec<String> {
    let label = Regex::new(r#"^([a-z_]+)(?:=|!=|=~|!~)""#).unwrap();
    list(rule, matchers)
        .map(|matcher| label.captures(matcher.as_str().unwrap()).unwrap()[1].to_owned())
        .filter(|label| label != "alertname")
        .collect()
}

#[test]
fn inhibitions_name_alerts_that_exist_by_labels_that_both_have() {
    let labels = labels_of_alerts();
    let config = yaml("deploy/prometheus/alertmanager.yaml");
    let mut inhibitions = 0;
    for rule in list(&config, "inhibit_rules") {
        let sources = alerts_meant(rule, "source_matchers");
        let targets = alerts_meant(rule, "target_matchers");
        for alert in sources.iter().chain(&targets) {
            let has = labels.get(alert).unwrap_or_else(|| panic!("no {alert}"));
            for label in list(rule, "equal").map(|label| label.as_str().unwrap()) {
                assert!(has.contains(label), "{alert} has no {label}");
            }
        }
        for (alerts, matchers) in [(&sources, "source_matchers"), (&targets, "target_matchers")] {
            for label in labels_matched(rule, matchers) {
                // The user chooses the name of a task: it says nothing about its origin.
                assert_ne!(label, "task", "{rule}");
                for alert in alerts {
                    assert!(labels[alert].contains(&label), "{alert} has no {label}");
                }
            }
        }
        assert!(
            sources.iter().all(|source| !targets.contains(source)),
            "{rule}"
        );
        inhibitions += 1;
    }
    assert!(inhibitions > 0);
}
