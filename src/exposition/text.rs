//! The text format 0.0.4, which every scraper reads.
//!
//! Each family is one block: `# HELP`, `# TYPE`, its samples grouped by task.
//! A family without samples leaves no header.

use prometheus::proto::{Metric as OwnMetric, MetricFamily, MetricType};

use super::{float, push_escaped, push_label, push_value, task_run};
use crate::metrics::catalog::{ARTIFACT_LABELS, CATALOG, Emit, Metric, Samples, Value};
use crate::model::Artifact;
use crate::store::{TaskView, View};

/// The `Content-Type` of [`render`]'s page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bytes of a series, rather too many: memory that is not written costs
/// nothing, but a large buffer that grows is copied onto fresh pages, which
/// takes three times as long as writing the page.
const SERIES_BYTES: usize = 256;

/// The whole page: what is watched, then the exporter's `own` metrics.
pub fn render(view: &View<'_>, own: &[MetricFamily]) -> Vec<u8> {
    let mut out = Vec::with_capacity(view.series * SERIES_BYTES + 16 * 1024);
    let runs: Vec<Vec<u8>> = view.tasks.iter().map(task_run).collect();
    for metric in CATALOG {
        family(&mut out, metric.name, metric.help, "gauge", |out| {
            for (task, run) in view.tasks.iter().zip(&runs) {
                match metric.samples {
                    Samples::Task(samples) => samples(task, &mut |labels, value| {
                        out.extend_from_slice(metric.name.as_bytes());
                        out.push(b'{');
                        out.extend_from_slice(run);
                        end_sample(out, metric, labels, value);
                    }),
                    Samples::Artifact(samples) => artifacts(out, metric, samples, task, run),
                }
            }
        });
    }
    for own_family in own {
        let (kind, write): (_, fn(&mut Vec<u8>, &str, &OwnMetric)) =
            match own_family.get_field_type() {
                MetricType::COUNTER => ("counter", |out, name, metric| {
                    own_sample(out, name, metric, None, metric.get_counter().get_value());
                }),
                MetricType::GAUGE => ("gauge", |out, name, metric| {
                    own_sample(out, name, metric, None, metric.get_gauge().get_value());
                }),
                MetricType::HISTOGRAM => ("histogram", histogram),
                // The exporter makes none of these.
                MetricType::SUMMARY | MetricType::UNTYPED => continue,
            };
        let name = own_family.name();
        family(&mut out, name, own_family.help(), kind, |out| {
            for metric in own_family.get_metric() {
                write(out, name, metric);
            }
        });
    }
    out
}

/// Writes the header and what `samples` writes, or nothing if that is nothing.
fn family(
    out: &mut Vec<u8>,
    name: &str,
    help: &str,
    kind: &str,
    samples: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(b"# HELP ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    push_help(out, help);
    out.extend_from_slice(b"\n# TYPE ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    out.extend_from_slice(kind.as_bytes());
    out.push(b'\n');
    let header_end = out.len();
    samples(out);
    if out.len() == header_end {
        out.truncate(start);
    }
}

/// Unlike in a label's value, quotes stay as they are.
fn push_help(out: &mut Vec<u8>, help: &str) {
    for byte in help.bytes() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            _ => out.push(byte),
        }
    }
}

fn artifacts(
    out: &mut Vec<u8>,
    metric: &Metric,
    samples: fn(&Artifact<'_>, &mut Emit<'_>),
    task: &TaskView<'_>,
    run: &[u8],
) {
    // Everything before the tag's value; the same for a whole repository.
    let mut prefix = Vec::new();
    let mut repository = None;
    for artifact in task.artifacts() {
        let this = (artifact.repo_namespace, artifact.repo_name);
        if repository != Some(this) {
            repository = Some(this);
            prefix.clear();
            prefix.extend_from_slice(metric.name.as_bytes());
            prefix.push(b'{');
            prefix.extend_from_slice(run);
            prefix.push(b',');
            push_label(&mut prefix, ARTIFACT_LABELS[0], this.0);
            prefix.push(b',');
            push_label(&mut prefix, ARTIFACT_LABELS[1], this.1);
            prefix.push(b',');
            prefix.extend_from_slice(ARTIFACT_LABELS[2].as_bytes());
            prefix.extend_from_slice(b"=\"");
        }
        samples(&artifact, &mut |labels, value| {
            out.extend_from_slice(&prefix);
            push_escaped(out, artifact.tag);
            out.push(b'"');
            end_sample(out, metric, labels, value);
        });
    }
}

/// The labels behind those of the identity, and the number.
fn end_sample(out: &mut Vec<u8>, metric: &Metric, labels: &[&str], value: Value) {
    debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
    for (name, label) in metric.labels.iter().zip(labels) {
        out.push(b',');
        push_label(out, name, label);
    }
    out.extend_from_slice(b"} ");
    push_value(out, value);
    out.push(b'\n');
}

/// `more` is a label behind those of the metric.
fn own_sample(
    out: &mut Vec<u8>,
    name: &str,
    metric: &OwnMetric,
    more: Option<(&str, &str)>,
    value: f64,
) {
    out.extend_from_slice(name.as_bytes());
    let labels = metric
        .get_label()
        .iter()
        .map(|pair| (pair.name(), pair.value()))
        .chain(more);
    let mut separator = b'{';
    for (label, text) in labels {
        out.push(separator);
        push_label(out, label, text);
        separator = b',';
    }
    if separator == b',' {
        out.push(b'}');
    }
    out.push(b' ');
    out.extend_from_slice(float(value).as_bytes());
    out.push(b'\n');
}

fn histogram(out: &mut Vec<u8>, name: &str, metric: &OwnMetric) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "the format's numbers are 64-bit floats; exact up to 2^53"
    )]
    let number = |count: u64| count as f64;
    let histogram = metric.get_histogram();
    let count = number(histogram.get_sample_count());
    let buckets = histogram
        .get_bucket()
        .iter()
        .map(|bucket| (bucket.upper_bound(), number(bucket.cumulative_count())))
        .chain([(f64::INFINITY, count)]);
    let bucket_name = format!("{name}_bucket");
    for (bound, below) in buckets {
        let bound = float(bound);
        own_sample(out, &bucket_name, metric, Some(("le", &bound)), below);
    }
    let sum = histogram.get_sample_sum();
    own_sample(out, &format!("{name}_sum"), metric, None, sum);
    own_sample(out, &format!("{name}_count"), metric, None, count);
}

#[cfg(test)]
mod tests;
