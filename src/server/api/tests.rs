//! What the JSON says, held to the shapes of `openapi.json`.

use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::Reason;
use serde_json::{Value, json};

use super::*;
use crate::model::{Folded, Row, Rule, TaskStatus, Words};
use crate::store::{
    ArtifactSeries, Limits, ListingEntry, Origin, RecentRun, RunSummary, Store, SubscriptionEntry,
    Target,
};

/// 2023-11-14 22:13:20 UTC.
const NOW_MS: i64 = 1_700_000_000_000;

fn entry(instance_id: &str, task_id: &str) -> TaskEntry {
    let target = Target {
        instance_id: instance_id.into(),
        task_id: task_id.into(),
        task: format!("name of {task_id}").as_str().into(),
        region: "cn-hangzhou".into(),
        artifacts: ArtifactSeries::All,
        origin: Origin::Configured,
    };
    TaskEntry::new(Arc::new(target), Duration::from_secs(90))
}

fn store(entries: impl IntoIterator<Item = TaskEntry>) -> Store {
    let limits = Limits {
        series: 200_000,
        artifacts_per_task: 500,
        stale_after: Duration::from_secs(300),
    };
    Store::new(limits, entries)
}

fn ask(store: &Store, query: &str) -> Value {
    let wanted = TasksQuery::parse(query).expect(query);
    let answer = tasks(&store.snapshot(), NOW_MS.into(), &wanted);
    let answer = serde_json::from_slice(&answer).expect("JSON");
    shape::check("TaskPage", &answer);
    answer
}

fn ids(answer: &Value) -> Vec<String> {
    let tasks = answer["tasks"].as_array().expect("a list");
    let id = |task: &Value| format!("{}/{}", task["instance_id"], task["task_id"]);
    tasks.iter().map(|task| id(task).replace('"', "")).collect()
}

fn refused(query: &str) -> (String, String) {
    let refusal = TasksQuery::parse(query).expect_err(query);
    let answer: Value = serde_json::from_slice(&refusal).expect("JSON");
    shape::check("Refusal", &answer);
    let text = |key| answer["error"][key].as_str().expect(key).to_owned();
    (text("parameter"), text("message"))
}

/// A run of a followed subscription that ended an hour ago, one of its two
/// artifacts failed.
fn failed_run() -> (TaskEntry, SubscriptionEntry) {
    let info = TaskInfo {
        repo_namespace: "mirror".into(),
        repo_name: "nginx".into(),
        source_provider: "DOCKER_HUB".into(),
        source_repository: "library/nginx".into(),
        task_type: "AUTO".into(),
        result: "FAILED".into(),
        message: " manifest unknown\n".into(),
        ..TaskInfo::default()
    };
    let row = |tag: &str, result: &str, millis| Row::<String> {
        repo_namespace: "mirror".into(),
        repo_name: "nginx".into(),
        tag: tag.into(),
        status: "COMPLETED".into(),
        result: result.into(),
        start_ms: Some(NOW_MS - 3_600_000),
        end_ms: Some(NOW_MS - 3_600_000 + millis),
    };
    let words = Words::default();
    let rows = vec![row("1", "SUCCESS", 1_500), row("2", "FAILED", 83_500)];
    let subscription = info.subscription();
    let mut task = entry("cri-a", "crast-1");
    let folded = Folded::new(rows, &words);
    task.data = Some(Assessment::new(folded, Some(&info), &words));
    task.info = Some(Arc::new(info));
    task.last_poll_ms = Some(NOW_MS - 5_000);
    task.last_success_ms = Some(NOW_MS - 30_250);
    task.next_poll_ms = Some(NOW_MS + 12_000);
    task.error = Some(Arc::new(PollError {
        reason: Reason::Timeout,
        text: "too late \"<\u{1}>\" (request id 4F2A)".into(),
    }));
    let run = RunSummary {
        task_id: "crast-1".into(),
        status: TaskStatus::Failed,
        start_ms: Some(NOW_MS - 3_600_000),
        duration_ms: Some(83_500),
        ..RunSummary::default()
    };
    let rule = Rule {
        rule_id: "crasr-1".into(),
        subscription: subscription.clone(),
        tag_regexp: ".*".into(),
        created_ms: None,
        ..Rule::default()
    };
    let followed = SubscriptionEntry {
        instance_id: "cri-a".into(),
        subscription: Arc::new(subscription),
        rules: [rule].into(),
        last_run: Some(run.clone()),
        last_finished_run: Some(run),
        consecutive_failed_runs: 2,
        last_success_ms: Some(NOW_MS - 86_400_000),
        counts: Arc::default(),
        recent_runs: recent(&[60_000, 83_500]),
        ..SubscriptionEntry::default()
    };
    (task, followed)
}

#[test]
fn the_age_of_data_does_not_follow_the_wall_clock() {
    let (mut task, _) = failed_run();
    task.set_last_success(NOW_MS.into());
    let store = store([task]);
    let wanted = TasksQuery::parse("").expect("a query");
    let now = Moment {
        wall_ms: NOW_MS - 86_400_000,
        steady_ms: NOW_MS + 20_500,
    };
    let answer = tasks(&store.snapshot(), now, &wanted);
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!(answer["time"], "2023-11-13T22:13:20Z");
    let task = &answer["tasks"][0];
    assert_eq!(task["last_successful_poll_time"], "2023-11-14T22:13:20Z");
    assert_eq!(task["data_age_seconds"], 20.5);
    assert_eq!(task["fresh"], true);
}

#[test]
fn a_task_is_told_whole() {
    let (task, followed) = failed_run();
    let store = store([task, entry("cri-b", "crast-1")]);
    store.update_subscription(followed);
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
    assert_eq!(
        ask(&store, ""),
        json!({
            "time": "2023-11-14T22:13:20Z",
            "tasks": [
                {
                    "instance_id": "cri-a",
                    "task_id": "crast-1",
                    "task": "name of crast-1",
                    "region": "cn-hangzhou",
                    "state": "failing",
                    "status": "failed",
                    "fresh": true,
                    "finished": true,
                    "artifacts": {
                        "total": 2, "succeeded": 1, "failed": 1, "running": 0, "unknown": 0,
                    },
                    "start_time": "2023-11-14T21:13:20Z",
                    "end_time": "2023-11-14T21:14:43.5Z",
                    "duration_seconds": 83.5,
                    "last_success_time": "2023-11-14T21:13:21.5Z",
                    "source": {
                        "repo_namespace": "mirror",
                        "repo_name": "nginx",
                        "source_provider": "DOCKER_HUB",
                        "source_repository": "library/nginx",
                        "task_type": "AUTO",
                    },
                    "message": "manifest unknown",
                    "error": {
                        "reason": "timeout",
                        "text": "too late \"<\u{1}>\" (request id 4F2A)",
                    },
                    "last_poll_time": "2023-11-14T22:13:15Z",
                    "last_successful_poll_time": "2023-11-14T22:12:49.75Z",
                    "data_age_seconds": 30.25,
                    "next_poll_time": "2023-11-14T22:13:32Z",
                    "poll_interval_seconds": 90.0,
                    "subscription": {
                        "fresh": true,
                        "last_run_status": "failed",
                        "last_finished_run_status": "failed",
                        "consecutive_failed_runs": 2,
                        "last_success_time": "2023-11-13T22:13:20Z",
                        "recent_durations_seconds": [60.0, 83.5],
                    },
                },
                {
                    "instance_id": "cri-b",
                    "task_id": "crast-1",
                    "task": "name of crast-1",
                    "region": "cn-hangzhou",
                    "state": "not_polled",
                    "status": null,
                    "fresh": false,
                    "finished": null,
                    "artifacts": null,
                    "start_time": null,
                    "end_time": null,
                    "duration_seconds": null,
                    "last_success_time": null,
                    "source": null,
                    "message": null,
                    "error": null,
                    "last_poll_time": null,
                    "last_successful_poll_time": null,
                    "data_age_seconds": null,
                    "next_poll_time": null,
                    "poll_interval_seconds": 90.0,
                    "subscription": null,
                },
            ],
            "next_cursor": null,
        })
    );
    assert_eq!(ids(&ask(&store, "state=failing")), ["cri-a/crast-1"]);
    assert_eq!(
        ids(&ask(&store, "state=attention&q=4f2A")),
        ["cri-a/crast-1"]
    );
    assert_eq!(ids(&ask(&store, "q=CRI-B")), ["cri-b/crast-1"]);
    assert_eq!(ids(&ask(&store, "q=nowhere")), Vec::<String>::new());
}

#[test]
fn pages_hold_together_while_tasks_come_and_go() {
    let store = store((1..=5).map(|n| entry("cri-a", &format!("crast-{n}"))));
    store.update(entry("cri-", "crast-9"));
    let first = ask(&store, "limit=2");
    assert_eq!(ids(&first), ["cri-/crast-9", "cri-a/crast-1"]);
    let cursor = first["next_cursor"].as_str().expect("there is more");
    // "cri-a", NUL, "crast-1".
    assert_eq!(cursor, "6372692d610063726173742d31");

    // The one that it names goes, one comes before it and one behind it.
    store.remove(&"cri-a".into(), &"crast-1".into());
    store.update(entry("cri-a", "crast-0"));
    store.update(entry("cri-a", "crast-10"));
    let second = ask(&store, &format!("limit=2&cursor={cursor}"));
    assert_eq!(ids(&second), ["cri-a/crast-10", "cri-a/crast-2"]);
    let cursor = second["next_cursor"].as_str().expect("there is more");
    let third = ask(&store, &format!("limit=3&cursor={cursor}"));
    assert_eq!(
        ids(&third),
        ["cri-a/crast-3", "cri-a/crast-4", "cri-a/crast-5"]
    );
    assert_eq!(third["next_cursor"], Value::Null);

    // With a filter, too; and nothing is behind the end.
    let found = ask(&store, "q=crast-1&limit=1");
    assert_eq!(ids(&found), ["cri-a/crast-10"]);
    assert_eq!(found["next_cursor"], Value::Null);
    assert_eq!(ids(&ask(&store, "cursor=ff")), Vec::<String>::new());
    assert_eq!(ids(&ask(&store, "cursor=")).len(), 7);
}

#[test]
fn what_cannot_be_used_is_refused_and_named() {
    let limit = "must be a whole number from 1 to 1000";
    let cursor = "must be the next_cursor of an earlier answer";
    let state = "must be one of attention, failing, failed, poll_failing, stale, running, \
                 unknown, not_polled, empty, succeeded";
    let unknown = "unknown; this path takes limit, cursor, q and state";
    let long = format!("q={}", "x".repeat(201));
    for (query, parameter, message) in [
        ("limit=0", "limit", limit),
        ("limit=1001", "limit", limit),
        ("limit=", "limit", limit),
        ("limit=%2B5", "limit", limit),
        ("limit=5+", "limit", limit),
        ("limit=1.0", "limit", limit),
        ("limit=18446744073709551617", "limit", limit),
        ("cursor=0", "cursor", cursor),
        ("cursor=0g", "cursor", cursor),
        ("cursor=AA", "cursor", cursor),
        ("cursor=%C3%A4", "cursor", cursor),
        ("state=", "state", state),
        ("state=Failed", "state", state),
        ("q=a&limit=5&q=a", "q", "given twice"),
        (&long, "q", "must be at most 200 characters long"),
        ("stat=failed", "stat", unknown),
        ("=", "", unknown),
    ] {
        let expected = (parameter.to_owned(), message.to_owned());
        assert_eq!(refused(query), expected, "{query}");
    }
    assert_eq!(refused(&format!("{}=1", "x".repeat(99))).0.len(), 64);
    for query in [
        "limit=1",
        "limit=1000",
        "q=",
        &long[..202],
        "&",
        "state=attention",
    ] {
        assert!(TasksQuery::parse(query).is_ok(), "{query}");
    }
}

#[test]
fn the_description_knows_every_state() {
    let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
    let states: Vec<_> = StateFilter::narrow()
        .map(|states| states.look().key)
        .collect();
    let parameters = &document["paths"]["/api/v1/tasks"]["get"]["parameters"];
    assert_eq!(parameters[3]["name"], "state");
    assert_eq!(parameters[3]["schema"]["enum"], json!(states));
    let task = &document["components"]["schemas"]["Task"]["properties"];
    assert_eq!(task["state"]["enum"], json!(states[1..]));
}

/// JSON Schema as far as `openapi.json` uses it; what it does not know it
/// refuses, so that nothing goes unchecked.
mod shape {
    use serde_json::Value;

    /// Panics unless `value` has the named shape.
    pub(super) fn check(name: &str, value: &Value) {
        let document: Value = serde_json::from_str(super::OPENAPI).expect("JSON");
        let schemas = &document["components"]["schemas"];
        fits(schemas, &schemas[name], value).unwrap_or_else(|why| panic!("{name}{why}"));
    }

    fn fits(all: &Value, schema: &Value, value: &Value) -> Result<(), String> {
        for (keyword, told) in schema.as_object().ok_or("no schema")? {
            let good = match keyword.as_str() {
                "description" => true,
                "$ref" => {
                    let name = told.as_str().and_then(|path| path.rsplit('/').next());
                    fits(all, &all[name.ok_or("no name")?], value)?;
                    true
                }
                "anyOf" => {
                    let all_of = told.as_array().ok_or("no list")?;
                    all_of.iter().any(|one| fits(all, one, value).is_ok())
                }
                "type" => {
                    let is = |kind: &Value| match kind.as_str() {
                        Some("object") => value.is_object(),
                        Some("array") => value.is_array(),
                        Some("string") => value.is_string(),
                        Some("boolean") => value.is_boolean(),
                        Some("integer") => value.is_u64() || value.is_i64(),
                        Some("number") => value.is_number(),
                        Some("null") => value.is_null(),
                        _ => false,
                    };
                    told.as_array()
                        .map_or_else(|| is(told), |kinds| kinds.iter().any(is))
                }
                "enum" => told.as_array().is_some_and(|values| values.contains(value)),
                "format" => match (told.as_str(), value.as_str()) {
                    (Some("date-time"), Some(text)) => text.parse::<jiff::Timestamp>().is_ok(),
                    (Some("date-time"), None) => true,
                    _ => false,
                },
                "pattern" => value.as_str().is_none_or(|text| {
                    let pattern = told.as_str().and_then(|it| regex::Regex::new(it).ok());
                    pattern.is_some_and(|pattern| pattern.is_match(text))
                }),
                "minimum" => value.as_f64() >= told.as_f64() || value.is_null(),
                "maxItems" => value.as_array().map(|all| all.len() as u64) <= told.as_u64(),
                "properties" => {
                    // Clients must bear a field that is not described; we may not have one.
                    for (key, value) in value.as_object().into_iter().flatten() {
                        let schema = told.get(key).ok_or(format!(".{key} is not described"))?;
                        fits(all, schema, value).map_err(|why| format!(".{key}{why}"))?;
                    }
                    true
                }
                "required" => {
                    let keys = told.as_array().ok_or("no list")?;
                    keys.iter()
                        .all(|key| value.get(key.as_str().unwrap_or("")).is_some())
                }
                "items" => {
                    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                        fits(all, told, value).map_err(|why| format!("[{index}]{why}"))?;
                    }
                    true
                }
                _ => false,
            };
            if !good {
                return Err(format!(": {keyword} {told} is not fulfilled by {value}"));
            }
        }
        Ok(())
    }
}

/// Runs that took so long, milliseconds, the oldest first.
fn recent(durations_ms: &[i64]) -> Arc<[RecentRun]> {
    let newest_first = durations_ms.iter().rev();
    let runs = newest_first.map(|millis| RecentRun {
        duration_ms: Some(*millis),
        ..RecentRun::default()
    });
    runs.collect()
}
