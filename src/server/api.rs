//! `/api/v1/tasks`: what the status page shows of tasks, as JSON, page by page.
//! `openapi.json` describes it together with every other path.

use alibaba_cloud::clock::Moment;
use jiff::Timestamp;
use serde::Serialize;

use super::overview::{Filter, Item, Wanted as State, position, tasks_after};
use super::query;
use crate::model::{Assessment, Outcome, TaskInfo};
use crate::store::{PollError, Snapshot, SubscriptionView, TaskEntry};

/// The description of every path, `OpenAPI` 3.1.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// What a query asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    limit: usize,
    /// The [`position`] of the last task of the page before.
    after: Vec<u8>,
    filter: Filter,
}

/// A parameter that cannot be used.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    parameter: String,
    /// What would be right.
    message: String,
}

impl Refusal {
    pub(super) fn to_json(&self) -> Vec<u8> {
        json(&serde_json::json!({ "error": self }))
    }
}

impl Wanted {
    pub(super) fn by(query: &str) -> Result<Self, Refusal> {
        let mut parameters = [
            ("limit", None),
            ("cursor", None),
            ("q", None),
            ("state", None),
        ];
        for (name, value) in query::pairs(query) {
            let known = parameters.iter_mut().find(|(known, _)| *known == name);
            match known {
                None => {
                    let message = "unknown; this path takes limit, cursor, q and state".to_owned();
                    let parameter = name.chars().take(64).collect();
                    return Err(Refusal { parameter, message });
                }
                Some((name, Some(_))) => return Err(refusal(name, "given twice")),
                Some((_, slot)) => *slot = Some(value),
            }
        }
        let [(_, limit), (_, cursor), (_, text), (_, state)] = parameters;
        let limit = match limit {
            None => LIMIT,
            Some(limit) => whole(&limit)
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or_else(|| refusal("limit", "must be a whole number from 1 to 1000"))?,
        };
        let after = match cursor {
            None => Vec::new(),
            Some(cursor) => from_hex(&cursor)
                .ok_or_else(|| refusal("cursor", "must be the next_cursor of an earlier answer"))?,
        };
        let text = text.unwrap_or_default();
        if text.chars().count() > Filter::TEXT_MAX {
            return Err(refusal("q", "must be at most 200 characters long"));
        }
        let state = match state {
            None => State::All,
            Some(state) => State::parse(&state).ok_or_else(|| {
                let keys: Vec<_> = State::keys().collect();
                refusal("state", format!("must be one of {}", keys.join(", ")))
            })?,
        };
        Ok(Self {
            limit,
            after,
            filter: Filter::new(&text, state),
        })
    }
}

fn refusal(parameter: &str, message: impl Into<String>) -> Refusal {
    Refusal {
        parameter: parameter.to_owned(),
        message: message.into(),
    }
}

fn whole(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// Every text of this shape is a position, whether or not a task was ever there.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// One page of tasks.
pub(super) fn tasks(snapshot: &Snapshot, now: Moment, wanted: &Wanted) -> Vec<u8> {
    let mut items = tasks_after(snapshot, now.steady_ms, &wanted.after)
        .filter(|item| wanted.filter.takes(item))
        .filter_map(|item| Some((item.task?, item)));
    let shown: Vec<_> = items.by_ref().take(wanted.limit).collect();
    let last = shown.last().map(|(task, _)| position(task));
    json(&Page {
        time: time(now.wall_ms),
        tasks: shown
            .iter()
            .map(|(task, item)| Row::new(task, item, now.steady_ms))
            .collect(),
        next_cursor: last
            .filter(|_| items.next().is_some())
            .map(|at| to_hex(&at)),
    })
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("texts and numbers");
    text.push(b'\n');
    text
}

#[derive(Serialize)]
struct Page<'a> {
    time: Option<String>,
    tasks: Vec<Row<'a>>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct Row<'a> {
    instance_id: &'a str,
    task_id: &'a str,
    task: &'a str,
    region: &'a str,
    state: &'static str,
    status: Option<&'static str>,
    fresh: bool,
    finished: Option<bool>,
    artifacts: Option<Artifacts>,
    start_time: Option<String>,
    end_time: Option<String>,
    duration_seconds: Option<f64>,
    last_success_time: Option<String>,
    source: Option<Labels<'a>>,
    message: Option<&'a str>,
    error: Option<&'a PollError>,
    last_poll_time: Option<String>,
    last_successful_poll_time: Option<String>,
    data_age_seconds: Option<f64>,
    next_poll_time: Option<String>,
    poll_interval_seconds: f64,
    subscription: Option<Subscription>,
}

#[derive(Serialize)]
struct Artifacts {
    total: usize,
    succeeded: u32,
    failed: u32,
    running: u32,
    unknown: u32,
}

/// From where to where.
#[derive(Serialize)]
struct Labels<'a> {
    repo_namespace: &'a str,
    repo_name: &'a str,
    source_provider: &'a str,
    source_repository: &'a str,
    task_type: &'a str,
}

#[derive(Serialize)]
struct Subscription {
    fresh: bool,
    last_run_status: Option<&'static str>,
    last_finished_run_status: Option<&'static str>,
    consecutive_failed_runs: u32,
    last_success_time: Option<String>,
    recent_durations_seconds: Vec<f64>,
}

impl<'a> Row<'a> {
    fn new(entry: &'a TaskEntry, item: &Item<'a>, steady_ms: i64) -> Self {
        let target = &entry.target;
        let data = entry.data.as_ref();
        let info = entry.info.as_deref();
        let age = entry.data_age_ms(steady_ms);
        Self {
            instance_id: &target.instance_id,
            task_id: &target.task_id,
            task: &target.task,
            region: &target.region,
            state: item.state.key(),
            status: data.map(|data| data.status.as_str()),
            fresh: item.fresh.is_some(),
            finished: data.map(|data| data.finished),
            artifacts: data.map(artifacts),
            start_time: data.and_then(|data| time(data.start_ms?)),
            end_time: data.and_then(|data| time(data.end_ms?)),
            duration_seconds: data.and_then(Assessment::duration_ms).map(seconds),
            last_success_time: data.and_then(|data| time(data.last_success_ms?)),
            source: info.map(labels),
            message: info
                .map(|info| info.message.trim())
                .filter(|message| !message.is_empty()),
            error: entry.error.as_deref(),
            last_poll_time: entry.last_poll_ms.and_then(time),
            last_successful_poll_time: entry.last_success_ms.and_then(time),
            data_age_seconds: age.map(|age| seconds(age.max(0))),
            next_poll_time: entry.next_poll_ms.and_then(time),
            poll_interval_seconds: entry.interval.as_secs_f64(),
            subscription: item.subscription.map(|view| subscription(&view)),
        }
    }
}

fn artifacts(data: &Assessment) -> Artifacts {
    Artifacts {
        total: data.artifacts.len(),
        succeeded: data.count(Outcome::Succeeded),
        failed: data.count(Outcome::Failed),
        running: data.count(Outcome::Running),
        unknown: data.count(Outcome::Unknown),
    }
}

fn labels(info: &TaskInfo) -> Labels<'_> {
    Labels {
        repo_namespace: &info.repo_namespace,
        repo_name: &info.repo_name,
        source_provider: &info.source_provider,
        source_repository: &info.source_repository,
        task_type: &info.task_type,
    }
}

fn subscription(view: &SubscriptionView<'_>) -> Subscription {
    let entry = view.entry;
    Subscription {
        fresh: view.fresh,
        last_run_status: entry.last_run.as_ref().map(|run| run.status.as_str()),
        last_finished_run_status: entry
            .last_finished_run
            .as_ref()
            .map(|run| run.status.as_str()),
        consecutive_failed_runs: entry.consecutive_failed_runs,
        last_success_time: entry.last_success_ms.and_then(time),
        recent_durations_seconds: entry.recent_durations_ms().map(seconds).collect(),
    }
}

/// RFC 3339 in UTC; `None` beyond the year 9999.
fn time(millis: i64) -> Option<String> {
    let time = Timestamp::from_millisecond(millis).ok()?;
    Some(time.to_string())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of a time that anybody waits for are below 2^53"
)]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests;
