//! Holds `docs/metrics.md` and the code together, both ways: every metric has
//! a row with its type, labels, unit and stability, and every row a metric.

use std::collections::BTreeMap;

use aliyun_acr_exporter::metrics::catalog::{ARTIFACT_LABELS, CATALOG, Samples, TASK_LABELS};
use aliyun_acr_exporter::metrics::own::{Build, OWN, Own};
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
        let mut labels = owned(&TASK_LABELS);
        if matches!(metric.samples, Samples::Artifact(_)) {
            labels.extend(owned(&ARTIFACT_LABELS));
        }
        labels.extend(owned(metric.labels));
        let unit = if metric.unit.is_empty() {
            "–"
        } else {
            metric.unit
        };
        assert_eq!(unit, unit_of(metric.name), "{}", metric.name);
        let stability = metric.stability.as_str().to_owned();
        (
            metric.name,
            ("gauge".to_owned(), labels, unit.to_owned(), stability),
        )
    });
    let own = OWN.iter().map(|metric| {
        let facts = (
            metric.kind.to_owned(),
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
    assert_eq!(seen, 22);
}
