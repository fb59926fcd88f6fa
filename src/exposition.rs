//! How the page of `/metrics` is written. What stands on it is the business of
//! `metrics`; which format and coding a client gets is the server's.
//!
//! Here: what a page is made of, numbers, escaping and the runs of labels,
//! which every format of Prometheus writes alike. `text` writes the page piece
//! by piece, `openmetrics` is what differs there, and `page` keeps what is worth
//! keeping, in gzip and zstd too.

pub mod openmetrics;
pub mod page;
pub mod text;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;

use exporter_web::compress::PIECE;
use memchr::memchr3;
use sha2::{Digest as _, Sha256};

use crate::metrics::catalog::{
    CATALOG, INSTANCE_LABELS, Kind, SERIES, SUBSCRIPTION_LABELS, TASK_LABELS, Value,
};
use crate::model::truncated;
use crate::store::{Snapshot, View};

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
    view: View,
    task_runs: Runs,
    subscription_runs: Runs,
    instance_runs: Runs,
}

/// Runs of labels, one behind the other: they are read in this order, once a family.
#[derive(Debug, Default)]
struct Runs {
    bytes: Vec<u8>,
    rows: Vec<RowEnd>,
}

#[derive(Clone, Copy, Debug)]
struct RowEnd {
    run_end: usize,
    /// Whether a piece may end here; so it is on every page that has the row.
    breaks: bool,
}

/// Bytes of a label's value; Prometheus can refuse a scrape with longer ones.
const LABEL_MAX: usize = 1024;
const ELLIPSIS: char = '…';
const HASH_DIGITS: usize = 8;

/// One row of so many may end a piece.
const BREAKS: u32 = 8;

impl Runs {
    fn push<const N: usize>(&mut self, names: [&str; N], values: [&str; N]) {
        let start = self.bytes.len();
        for (place, (name, value)) in names.into_iter().zip(values).enumerate() {
            if place > 0 {
                self.bytes.push(b',');
            }
            push_label(&mut self.bytes, name, value);
        }
        self.rows.push(RowEnd {
            run_end: self.bytes.len(),
            breaks: crc32fast::hash(&self.bytes[start..]).is_multiple_of(BREAKS),
        });
    }

    /// The run of labels that every sample of this row begins with.
    fn get(&self, row: usize) -> &[u8] {
        let before = row.checked_sub(1).map(|before| self.rows[before].run_end);
        &self.bytes[before.unwrap_or(0)..self.rows[row].run_end]
    }

    /// Whether a piece may end behind this row.
    fn breaks(&self, row: usize) -> bool {
        self.rows[row].breaks
    }
}

impl Content {
    /// What is on the page at `steady_ms`, by the steady clock.
    pub fn new(snapshot: Arc<Snapshot>, steady_ms: i64) -> Self {
        let view = View::new(snapshot, steady_ms, SERIES);
        let (mut task_runs, mut subscription_runs) = (Runs::default(), Runs::default());
        for task in view.tasks() {
            let target = &task.entry.target;
            let values = [&*target.instance_id, &target.task_id, &target.task];
            task_runs.push(TASK_LABELS, values);
        }
        for subscription in view.subscriptions() {
            let entry = subscription.entry;
            let labels = &entry.subscription;
            let values = [
                &*entry.instance_id,
                &labels.repo_namespace,
                &labels.repo_name,
                &labels.source_provider,
                &labels.source_repository,
            ];
            subscription_runs.push(SUBSCRIPTION_LABELS, values);
        }
        let mut instance_runs = Runs::default();
        for (instance_id, _) in view.durations() {
            instance_runs.push(INSTANCE_LABELS, [&**instance_id]);
        }
        Self {
            view,
            task_runs,
            subscription_runs,
            instance_runs,
        }
    }

    /// How much there is.
    pub fn view(&self) -> &View {
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
    /// Whether counters or histograms of what is watched are among them.
    pub fn contain_counts(&self) -> bool {
        let mut counts = CATALOG.iter().filter(|it| it.kind != Kind::Gauge);
        counts.any(|it| self.contain(it.name, it.kind))
    }

    /// Whether the family of this name is one of them.
    pub fn contain(&self, name: &str, kind: Kind) -> bool {
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

/// A number of the exporter's own metrics, with the shortest digits that read back
/// as the same number.
fn push_float(out: &mut Vec<u8>, value: f64) {
    if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
        return;
    }
    #[expect(clippy::cast_possible_truncation, reason = "compared with what it was")]
    let whole = value as i64;
    #[expect(clippy::cast_precision_loss, reason = "compared with what it was")]
    let is_whole = (whole as f64).to_bits() == value.to_bits();
    if is_whole && whole.unsigned_abs() < 1 << 50 {
        // Counters, nearly all of them.
        push_value(out, Value::whole(whole));
    } else {
        // "NaN" is theirs too.
        write!(out, "{value}").expect("writers into memory do not fail");
    }
}

fn float(value: f64) -> String {
    let mut out = Vec::new();
    push_float(&mut out, value);
    String::from_utf8(out).expect("numbers are ASCII")
}

/// Writes `name="value"`.
fn push_label(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    push_label_value(out, value);
    out.push(b'"');
}

/// Writes a label's value, bounded, with backslash, quote and line feed escaped.
fn push_label_value(out: &mut Vec<u8>, value: &str) {
    if value.len() > LABEL_MAX || is_bounded(value) {
        push_escaped(out, &bounded(value));
    } else {
        push_escaped(out, value);
    }
}

/// The start of a long label value, an ellipsis and the start of its hash: two
/// values that differ stay different.
fn bounded(value: &str) -> String {
    let hash = Sha256::digest(value);
    let hash = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    let start = truncated(value, LABEL_MAX - ELLIPSIS.len_utf8() - HASH_DIGITS);
    format!("{start}{ELLIPSIS}{hash:08x}")
}

/// Whether a value looks like one that was bounded, so that it could be taken
/// for another one's.
fn is_bounded(value: &str) -> bool {
    // A character has four bytes at most.
    if value.len() <= LABEL_MAX - 4 {
        return false;
    }
    let hash = value.rsplit_once(ELLIPSIS).map_or("", |(_, hash)| hash);
    hash.len() == HASH_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Writes text with backslash, quote and line feed escaped.
fn push_escaped(out: &mut Vec<u8>, value: &str) {
    // Nearly every value is free of them.
    if memchr3(b'\\', b'"', b'\n', value.as_bytes()).is_none() {
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
