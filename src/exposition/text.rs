//! Writes the page, a piece at a time: the text format 0.0.4, which every
//! scraper reads, or OpenMetrics.
//!
//! Each family is one block: `# HELP`, `# TYPE`, its samples grouped by task or
//! subscription. A family without samples leaves no header.

use std::sync::Arc;

use prometheus::proto::{Metric as OwnMetric, MetricFamily, MetricType};

use super::{
    Content, Format, Names, PIECE, float, openmetrics, push_escaped, push_float, push_label,
    push_label_value, push_value,
};
use crate::metrics::catalog::{ARTIFACT_LABELS, CATALOG, Emit, Kind, Metric, Samples, Value};
use crate::model::Artifact;
use crate::store::Durations;

/// Beyond a [`PIECE`], for the samples of the row that fills it: memory that is
/// not written costs nothing, a buffer that grows is copied.
const LAST_ROW: usize = 8 * 1024;

/// Writes what is watched, piece by piece, each as it is asked for.
#[derive(Debug)]
pub struct Writer {
    content: Arc<Content>,
    format: Format,
    names: Names,
    /// The place in the catalogue.
    metric: usize,
    /// The place among the tasks or subscriptions.
    row: usize,
    /// Artifacts of the task that are written.
    artifact: usize,
    /// Whether an earlier piece has the family's header.
    begun: bool,
}

impl Writer {
    /// Begins a page.
    pub fn new(content: Arc<Content>, format: Format, names: Names) -> Self {
        Self {
            content,
            format,
            names,
            metric: 0,
            row: 0,
            artifact: 0,
            begun: false,
        }
    }

    /// Whether everything is written.
    pub fn is_done(&self) -> bool {
        self.metric == CATALOG.len()
    }

    /// Writes the next piece to `out`, which is empty and stays so at the end.
    /// A piece is whole lines, has two thirds of a [`PIECE`] at least and may be
    /// larger than it by a row. Within that it ends where it would end on another
    /// page too: what has not changed is the same piece again.
    pub fn write_piece(&mut self, out: &mut Vec<u8>) {
        self.write_until(PIECE, out);
    }

    fn write_until(&mut self, full: usize, out: &mut Vec<u8>) {
        while let Some(metric) = CATALOG.get(self.metric) {
            if self.names.contain(metric.name, metric.kind) && !self.family(metric, full, out) {
                self.begun = true;
                return;
            }
            self.metric += 1;
            self.row = 0;
            self.begun = false;
            if out.len() >= enough(full) {
                return;
            }
        }
    }

    /// Writes the family to its end, unless the piece is full before.
    fn family(&mut self, metric: &Metric, full: usize, out: &mut Vec<u8>) -> bool {
        let content = Arc::clone(&self.content);
        let start = out.len();
        if !self.begun {
            push_header(out, self.format, metric.name, metric.help, metric.kind);
        }
        let header_end = out.len();
        // A header alone may have to go again.
        let is_full = |out: &Vec<u8>, full: usize| {
            out.len() >= full && (start == header_end || out.len() > header_end)
        };
        let runs = match metric.samples {
            Samples::Task(_) | Samples::Artifact(_) => &content.task_runs,
            Samples::Subscription(_) => &content.subscription_runs,
            Samples::Durations(_) => &content.instance_runs,
        };
        // Artifacts make rows so long that each may end a piece.
        let is_long = matches!(metric.samples, Samples::Artifact(_));
        let rows = runs.rows.len();
        while self.row < rows {
            match metric.samples {
                Samples::Task(samples) => {
                    let run = runs.get(self.row);
                    samples(&content.view.task(self.row), &mut |labels, value| {
                        sample(out, metric, run, labels, value);
                    });
                }
                Samples::Artifact(samples) => {
                    if !self.artifacts(metric, samples, &content, out, |out| is_full(out, full)) {
                        return false;
                    }
                }
                Samples::Subscription(samples) => {
                    let run = runs.get(self.row);
                    let subscription = content.view.subscription(self.row);
                    samples(&subscription, &mut |labels, value| {
                        sample(out, metric, run, labels, value);
                    });
                }
                Samples::Durations(durations) => {
                    let run = runs.get(self.row);
                    let durations = durations(&content.view.durations()[self.row].1);
                    write_durations(out, self.format, metric.name, run, durations);
                }
            }
            let may_end = is_long || runs.breaks(self.row);
            let full = if may_end { enough(full) } else { full };
            self.row += 1;
            if is_full(out, full) {
                return false;
            }
        }
        if out.len() == header_end {
            out.truncate(start);
        }
        true
    }

    /// Writes the artifacts of a task, unless the piece is full before.
    fn artifacts(
        &mut self,
        metric: &Metric,
        samples: fn(&Artifact<'_>, &mut Emit<'_>),
        content: &Content,
        out: &mut Vec<u8>,
        is_full: impl Fn(&Vec<u8>) -> bool,
    ) -> bool {
        // Everything before the tag's value; the same for a whole repository.
        let mut prefix = Vec::new();
        let mut repository = None;
        let task = content.view.task(self.row);
        for artifact in task.artifacts_from(self.artifact) {
            let this = (artifact.repo_namespace, artifact.repo_name);
            if repository != Some(this) {
                repository = Some(this);
                prefix.clear();
                prefix.extend_from_slice(metric.name.as_bytes());
                prefix.push(b'{');
                prefix.extend_from_slice(content.task_runs.get(self.row));
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
                push_label_value(out, artifact.tag);
                out.push(b'"');
                end_sample(out, metric, labels, value);
            });
            self.artifact += 1;
            if is_full(out) {
                return false;
            }
        }
        self.artifact = 0;
        true
    }
}

/// How much a piece has at least.
fn enough(full: usize) -> usize {
    full - full / 3
}

impl Iterator for Writer {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut piece = Vec::with_capacity(PIECE + LAST_ROW);
        self.write_piece(&mut piece);
        (!piece.is_empty()).then_some(piece)
    }
}

/// The end of the page, behind what is watched: the exporter's own metrics.
pub fn tail(format: Format, names: &Names, own: &[MetricFamily]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PIECE);
    for family in own {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => Kind::Counter,
            MetricType::GAUGE => Kind::Gauge,
            MetricType::HISTOGRAM => Kind::Histogram,
            // The exporter makes none of these.
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        };
        let name = family.name();
        if !names.contain(name, kind) || family.get_metric().is_empty() {
            continue;
        }
        push_header(&mut out, format, name, family.help(), kind);
        for metric in family.get_metric() {
            match kind {
                Kind::Counter => {
                    let value = metric.get_counter().get_value();
                    own_sample(&mut out, name, metric, None, value);
                }
                Kind::Gauge => {
                    let value = metric.get_gauge().get_value();
                    own_sample(&mut out, name, metric, None, value);
                }
                Kind::Histogram => own_histogram(&mut out, format, name, metric),
            }
        }
    }
    if format == Format::OpenMetrics {
        out.extend_from_slice(openmetrics::END);
    }
    out
}

fn push_header(out: &mut Vec<u8>, format: Format, name: &str, help: &str, kind: Kind) {
    let family = openmetrics::family_name(name, kind);
    let unit = openmetrics::unit_of(family);
    let name = match format {
        Format::Text => name,
        Format::OpenMetrics => family,
    };
    let mut line = |word: &str, push: &mut dyn FnMut(&mut Vec<u8>)| {
        out.extend_from_slice(b"# ");
        out.extend_from_slice(word.as_bytes());
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        out.push(b' ');
        push(out);
        out.push(b'\n');
    };
    line("HELP", &mut |out| push_help(out, format, help));
    line("TYPE", &mut |out| {
        out.extend_from_slice(kind.as_str().as_bytes());
    });
    if format == Format::OpenMetrics && !unit.is_empty() {
        line("UNIT", &mut |out| out.extend_from_slice(unit.as_bytes()));
    }
}

fn push_help(out: &mut Vec<u8>, format: Format, help: &str) {
    if format == Format::OpenMetrics {
        return push_escaped(out, help);
    }
    // Unlike in a label's value, quotes stay as they are.
    for byte in help.bytes() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            _ => out.push(byte),
        }
    }
}

fn le(format: Format, bound: f64) -> String {
    match format {
        Format::Text => float(bound),
        Format::OpenMetrics => openmetrics::bound(bound),
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
fn write_durations(
    out: &mut Vec<u8>,
    format: Format,
    name: &str,
    run: &[u8],
    durations: &Durations,
) {
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
    let bounds = Durations::BOUNDS.iter().map(|bound| f64::from(*bound));
    let mut below: u64 = 0;
    for (bound, count) in bounds.chain([f64::INFINITY]).zip(durations.buckets) {
        below = below.saturating_add(count);
        series("_bucket", Some(&le(format, bound)), Value::total(below));
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
    push_float(out, value);
    out.push(b'\n');
}

fn own_histogram(out: &mut Vec<u8>, format: Format, name: &str, metric: &OwnMetric) {
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
        let bound = le(format, bound);
        own_sample(out, &bucket_name, metric, Some(("le", &bound)), below);
    }
    let sum = histogram.get_sample_sum();
    own_sample(out, &format!("{name}_sum"), metric, None, sum);
    own_sample(out, &format!("{name}_count"), metric, None, count);
}

#[cfg(test)]
mod tests;
