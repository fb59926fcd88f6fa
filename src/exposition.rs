//! How the page of `/metrics` is written. What stands on it is the business of
//! `metrics`; which format and coding a client gets is the server's.
//!
//! Here: what a page is made of, numbers, escaping and the runs of labels,
//! which every format of Prometheus writes alike. `text` writes the page piece
//! by piece, `openmetrics` is what differs there, `compress` makes gzip and
//! zstd of it, and `page` keeps what is worth keeping.

pub mod compress;
pub mod openmetrics;
pub mod page;
pub mod text;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::metrics::catalog::{Kind, SERIES, SUBSCRIPTION_LABELS, TASK_LABELS, Value};
use crate::store::{HeldView, Snapshot, SubscriptionView, TaskView};

/// A page is written, compressed and sent in pieces of about this size.
pub const PIECE: usize = 64 * 1024;

/// A format of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0, which is 0.0.1 too as far as we use it.
    OpenMetrics,
}

/// What is watched, as it stands on a page at one moment; the exporter's own
/// metrics come behind it.
#[derive(Debug)]
pub struct Content {
    view: HeldView,
    task_runs: Box<[Box<[u8]>]>,
    subscription_runs: Box<[Box<[u8]>]>,
}

impl Content {
    /// What is on the page at `now_ms`, Unix milliseconds.
    pub fn new(snapshot: Arc<Snapshot>, now_ms: i64) -> Self {
        let view = HeldView::new(snapshot, now_ms, SERIES);
        let tasks = (0..view.tasks()).map(|place| task_run(&view.task(place)));
        let subscriptions = 0..view.subscriptions();
        let subscriptions = subscriptions.map(|place| subscription_run(&view.subscription(place)));
        Self {
            task_runs: tasks.collect(),
            subscription_runs: subscriptions.collect(),
            view,
        }
    }

    /// How much there is.
    pub fn view(&self) -> &HeldView {
        &self.view
    }
}

/// Which families are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Every one.
    Every,
    /// These alone; a counter is meant with and without its `_total`.
    These(BTreeSet<String>),
}

impl Names {
    fn contain(&self, name: &str, kind: Kind) -> bool {
        match self {
            Self::Every => true,
            Self::These(names) => {
                names.contains(name) || names.contains(openmetrics::family_name(name, kind))
            }
        }
    }
}

/// Writes thousandths as an exact decimal: `12.345`, `12.5`, `12`, `0`.
fn push_value(out: &mut Vec<u8>, value: Value) {
    let thousandths = value.thousandths();
    let mut rest = thousandths.unsigned_abs();
    // The digits of the largest u64, a point, a sign.
    let mut buffer = [0_u8; 22];
    let mut start = buffer.len();
    let mut decimals = 3;
    while decimals > 0 && rest.is_multiple_of(10) {
        rest /= 10;
        decimals -= 1;
    }
    let mut put = |byte: u8| {
        start -= 1;
        buffer[start] = byte;
    };
    if decimals > 0 {
        for _ in 0..decimals {
            put(digit(rest % 10));
            rest /= 10;
        }
        put(b'.');
    }
    loop {
        put(digit(rest % 10));
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if thousandths < 0 {
        put(b'-');
    }
    out.extend_from_slice(&buffer[start..]);
}

fn digit(value: u64) -> u8 {
    b"0123456789"[(value % 10) as usize]
}

/// A number of the exporter's own metrics.
fn float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // The shortest digits that read back as the same number; "NaN" is theirs too.
    value.to_string()
}

/// Writes `name="value"`.
fn push_label(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    push_escaped(out, value);
    out.push(b'"');
}

/// Writes a label's value with backslash, quote and line feed escaped.
fn push_escaped(out: &mut Vec<u8>, value: &str) {
    let special = |byte: u8| matches!(byte, b'\\' | b'"' | b'\n');
    // Nearly every value is free of them, and this scan is vectorised.
    if !value.bytes().fold(false, |any, byte| any | special(byte)) {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    for byte in value.bytes() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            _ => out.push(byte),
        }
    }
}

/// The run of labels that every sample of a task begins with.
fn task_run(task: &TaskView<'_>) -> Box<[u8]> {
    let target = &task.entry.target;
    run(
        TASK_LABELS,
        [&target.instance_id, &target.task_id, &target.task],
    )
}

/// The run of labels that every sample of a subscription begins with.
fn subscription_run(subscription: &SubscriptionView<'_>) -> Box<[u8]> {
    let entry = subscription.entry;
    let labels = &entry.subscription;
    run(
        SUBSCRIPTION_LABELS,
        [
            &entry.instance_id,
            &labels.repo_namespace,
            &labels.repo_name,
            &labels.source_provider,
            &labels.source_repository,
        ],
    )
}

fn run<const N: usize>(names: [&str; N], values: [&str; N]) -> Box<[u8]> {
    let mut run = Vec::new();
    for (name, value) in names.into_iter().zip(values) {
        if !run.is_empty() {
            run.push(b',');
        }
        push_label(&mut run, name, value);
    }
    run.into()
}
