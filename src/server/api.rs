//! `/api/v1/tasks`: the tasks of the status page as JSON, page by page.
//! `openapi.json` describes it together with every other path.

use alibaba_cloud::clock::{Moment, rfc3339 as time, seconds};
use serde::Serialize;
use serde_json::{Value, json};

use super::overview::{Filter, Item, StateFilter, position, tasks_after};
use crate::model::{Assessment, Outcome, TaskInfo};
use crate::store::{PollError, Snapshot, SubscriptionView, TaskEntry};

/// The description of every path, `OpenAPI` 3.1.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// The parameters of a request.
#[derive(Debug)]
pub(super) struct TasksQuery {
    limit: usize,
    /// The [`position`] of the last task of the previous page.
    after: Vec<u8>,
    filter: Filter,
}

impl TasksQuery {
    /// If a parameter is invalid, the error is the body of the response.
    pub(super) fn parse(query: &str) -> Result<Self, Vec<u8>> {
        let (mut limit, mut after) = (LIMIT, Vec::new());
        let (mut text, mut states) = (String::new(), StateFilter::All);
        let mut seen = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let error = |message: &str| {
                let parameter: String = name.chars().take(64).collect();
                line(&json!({ "error": { "parameter": parameter, "message": message } }))
            };
            if seen.contains(&name) {
                return Err(error("given twice"));
            }
            match &*name {
                "limit" => {
                    limit = parse_limit(&value)
                        .ok_or_else(|| error("must be a whole number from 1 to 1000"))?;
                }
                "cursor" => {
                    after = from_hex(&value)
                        .ok_or_else(|| error("must be the next_cursor of an earlier answer"))?;
                }
                "q" if value.chars().count() > Filter::TEXT_MAX => {
                    return Err(error("must be at most 200 characters long"));
                }
                "q" => text = value.into_owned(),
                "state" => {
                    let keys = StateFilter::narrow().map(|states| states.look().key);
                    let keys: Vec<_> = keys.collect();
                    states = StateFilter::parse(&value)
                        .ok_or_else(|| error(&format!("must be one of {}", keys.join(", "))))?;
                }
                _ => return Err(error("unknown; this path takes limit, cursor, q and state")),
            }
            seen.push(name);
        }
        Ok(Self {
            limit,
            after,
            filter: Filter::new(&text, states),
        })
    }
}

fn parse_limit(text: &str) -> Option<usize> {
    let limit = text.parse().ok()?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    (is_plain && (1..=LIMIT_MAX).contains(&limit)).then_some(limit)
}

/// Every even number of lower-case digits is a position; its task may not exist.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if !text.bytes().all(is_digit) || text.len() % 2 == 1 {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    let bytes = pairs.map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok());
    bytes.collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// One page of tasks.
pub(super) fn tasks(snapshot: &Snapshot, now: Moment, query: &TasksQuery) -> Vec<u8> {
    let mut items = tasks_after(snapshot, now.steady_ms, &query.after)
        .filter(|item| query.filter.matches(item))
        .filter_map(|item| Some((item.task?, item)));
    let page: Vec<_> = items.by_ref().take(query.limit).collect();
    let last = page.last().filter(|_| items.next().is_some());
    let rows = page.iter();
    line(&Page {
        time: time(now.wall_ms),
        tasks: rows
            .map(|(task, item)| row(task, item, now.steady_ms))
            .collect(),
        next_cursor: last.map(|(task, _)| to_hex(&position(task))),
    })
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("keys are strings");
    line.push(b'\n');
    line
}

#[derive(Serialize)]
struct Page<'a> {
    time: Option<String>,
    tasks: Vec<Row<'a>>,
    next_cursor: Option<String>,
}

// A type, since a tree of values of a thousand rows takes five times as long.
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
    artifacts: Option<Value>,
    start_time: Option<String>,
    end_time: Option<String>,
    duration_seconds: Option<f64>,
    last_success_time: Option<String>,
    source: Option<Value>,
    message: Option<&'a str>,
    error: Option<&'a PollError>,
    last_poll_time: Option<String>,
    last_successful_poll_time: Option<String>,
    data_age_seconds: Option<f64>,
    next_poll_time: Option<String>,
    poll_interval_seconds: f64,
    subscription: Option<Value>,
}

fn row<'a>(task: &'a TaskEntry, item: &Item<'a>, steady_ms: i64) -> Row<'a> {
    let target = &task.target;
    let data = task.data.as_ref();
    let message = Some(item.message()).filter(|message| !message.is_empty());
    let age_ms = task.data_age_ms(steady_ms);
    Row {
        instance_id: &target.instance_id,
        task_id: &target.task_id,
        task: &target.task,
        region: &target.region,
        state: item.state.look().key,
        status: data.map(|data| data.status.as_str()),
        fresh: item.fresh.is_some(),
        finished: data.map(|data| data.finished),
        artifacts: data.map(artifacts),
        start_time: data.and_then(|data| time(data.start_ms?)),
        end_time: data.and_then(|data| time(data.end_ms?)),
        duration_seconds: data.and_then(Assessment::duration_ms).map(seconds),
        last_success_time: data.and_then(|data| time(data.last_success_ms?)),
        source: task.info.as_deref().map(source),
        message,
        error: task.error.as_deref(),
        last_poll_time: task.last_poll_ms.and_then(time),
        last_successful_poll_time: task.last_success_ms.and_then(time),
        data_age_seconds: age_ms.map(|age_ms| seconds(age_ms.max(0))),
        next_poll_time: task.next_poll_ms.and_then(time),
        poll_interval_seconds: task.interval.as_secs_f64(),
        subscription: item.subscription.map(|view| subscription(&view)),
    }
}

fn artifacts(data: &Assessment) -> Value {
    json!({
        "total": data.artifacts.len(),
        "succeeded": data.count(Outcome::Succeeded),
        "failed": data.count(Outcome::Failed),
        "running": data.count(Outcome::Running),
        "unknown": data.count(Outcome::Unknown),
    })
}

fn source(info: &TaskInfo) -> Value {
    json!({
        "repo_namespace": info.repo_namespace,
        "repo_name": info.repo_name,
        "source_provider": info.source_provider,
        "source_repository": info.source_repository,
        "task_type": info.task_type,
    })
}

fn subscription(view: &SubscriptionView<'_>) -> Value {
    let entry = view.entry;
    let (last, finished) = (entry.last_run.as_ref(), entry.last_finished_run.as_ref());
    let durations = entry.recent_durations_ms().map(seconds);
    json!({
        "fresh": view.fresh,
        "last_run_status": last.map(|run| run.status.as_str()),
        "last_finished_run_status": finished.map(|run| run.status.as_str()),
        "consecutive_failed_runs": entry.consecutive_failed_runs,
        "last_success_time": entry.last_success_ms.and_then(time),
        "recent_durations_seconds": durations.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
