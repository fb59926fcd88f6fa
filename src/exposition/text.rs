//! The text format 0.0.4, which every scraper reads.
//!
//! Each family is one block: `# HELP`, `# TYPE`, its samples grouped by task or
//! subscription. A family without samples leaves no header.

use prometheus::proto::{Metric as OwnMetric, MetricFamily, MetricType};

use super::{float, push_escaped, push_label, push_value, subscription_run, task_run};
use crate::metrics::catalog::{ARTIFACT_LABELS, CATALOG, Emit, Metric, Samples, Value};
use crate::model::Artifact;
use crate::store::{Durations, TaskView, View};

/// The `Content-Type` of [`render`]'s page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bytes of a series, rather too many: memory that is not written costs
/// nothing, but a large buffer that grows is copied onto fresh pages, which
/// takes three times as long as writing the page.
const SERIES_BYTES: usize = 256;

/// The whole page: what is watched, then the exporter's `own` metrics.
pub fn render(view: &View<'_>, own: &[MetricFamily]) -> Vec<u8> {
    let mut out = Vec::with_capacity(view.series * SERIES_BYTES + 16 * 1024);
    let tasks: Vec<_> = view.tasks.iter().map(|it| (it, task_run(it))).collect();
    let subscriptions: Vec<_> = view
        .subscriptions
        .iter()
        .map(|it| (it, subscription_run(it)))
        .collect();
    for metric in CATALOG {
        let kind = metric.kind.as_str();
        family(
            &mut out,
            metric.name,
            metric.help,
            kind,
            |out| match metric.samples {
                Samples::Task(samples) => {
                    for (task, run) in &tasks {
                        samples(task, &mut |labels, value| {
                            sample(out, metric, run, labels, value);
                        });
                    }
                }
                Samples::Artifact(samples) => {
                    for (task, run) in &tasks {
                        artifacts(out, metric, samples, task, run);
                    }
                }
                Samples::Subscription(samples) => {
                    for (subscription, run) in &subscriptions {
                        samples(subscription, &mut |labels, value| {
                            sample(out, metric, run, labels, value);
                        });
                    }
                }
                Samples::Durations(durations) => {
                    for (subscription, run) in &subscriptions {
                        write_durations(out, metric.name, run, durations(subscription));
                    }
                }
            },
        );
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

/// A sample of something whose identity is the labels of `run`.
fn sample(out: &mut Vec<u8>, metric: &Metric, run: &[u8], labels: &[&str], value: Value) {
    out.extend_from_slice(metric.name.as_bytes());
    out.push(b'{');
    out.extend_from_slice(run);
    end_sample(out, metric, labels, value);
}

/// A histogram in whole numbers: a bucket counts everything up to its bound.
fn write_durations(out: &mut Vec<u8>, name: &str, run: &[u8], durations: &Durations) {
    let mut series = |suffix: &str, bound: Option<&str>, value: Value| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        out.push(b'{');
        out.extend_from_slice(run);
        if let Some(bound) = bound {
            out.push(b',');
            push_label(out, "le", bound);
        }
        out.extend_from_slice(b"} ");
        push_value(out, value);
        out.push(b'\n');
    };
    let bounds = Durations::BOUNDS.iter().map(u32::to_string);
    let mut below: u64 = 0;
    for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(durations.buckets) {
        below = below.saturating_add(count);
        series("_bucket", Some(&bound), Value::total(below));
    }
    series("_sum", None, Value::millis(durations.sum_ms));
    series("_count", None, Value::total(below));
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
