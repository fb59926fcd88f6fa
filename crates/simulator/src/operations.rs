//! The six operations, from a verified call and the world to the answer, with
//! the envelopes, the paging and the differences between operations that the
//! original has. The envelope's `RequestId` is left to the server.

use serde_json::{Map, Value, json};

use super::gateway::{Call, Refusal};
use super::world::{Instance, World};

/// The page size where none is asked for.
const DEFAULT_PAGE_SIZE: usize = 30;
/// A larger page is cut to this without an error.
const MAX_PAGE_SIZE: usize = 100;

const OPERATIONS: [(&str, Operation); 6] = [
    ("GetArtifactSubscriptionRule", get_rule),
    ("GetArtifactSubscriptionTask", get_task),
    ("GetArtifactSubscriptionTaskResult", get_task_result),
    ("ListArtifactSubscriptionRule", list_rules),
    ("ListArtifactSubscriptionTask", list_tasks),
    ("ListInstance", list_instances),
];

type Operation = fn(&Call, &World, i64) -> Result<Value, Refusal>;

/// The name of an operation that exists.
pub(super) fn known(action: &str) -> Option<&'static str> {
    find(action).map(|(name, _)| name)
}

fn find(action: &str) -> Option<(&'static str, Operation)> {
    OPERATIONS.into_iter().find(|(name, _)| *name == action)
}

pub(super) fn carry_out(call: &Call, world: &World, now: i64) -> Result<Value, Refusal> {
    let action = call.action().unwrap_or_default();
    let Some((_, operation)) = find(action) else {
        return Err(Refusal::no_such_action());
    };
    operation(call, world, now)
}

fn get_task_result(call: &Call, world: &World, now: i64) -> Result<Value, Refusal> {
    let (id, task_id) = (call.required("InstanceId")?, call.required("TaskId")?);
    let page = Page::read(call)?;
    let Some(instance) = world.get(id) else {
        return Ok(no_instance());
    };
    let task = instance
        .find_task(task_id, now)
        .ok_or_else(|| not_found("TASK_NOT_EXIST"))?;
    let total = task.row_count();
    let rows = page.range(total).map(|at| Value::Object(task.row(at, now)));
    Ok(page.answer("TaskResults", rows.collect(), total))
}

fn get_task(call: &Call, world: &World, now: i64) -> Result<Value, Refusal> {
    let (id, task_id) = (call.required("InstanceId")?, call.required("TaskId")?);
    let Some(instance) = world.get(id) else {
        return Ok(no_instance());
    };
    let task = instance
        .find_task(task_id, now)
        .ok_or_else(|| not_found("TASK_NOT_EXIST"))?;
    Ok(flat(task.fields(now)))
}

fn list_tasks(call: &Call, world: &World, now: i64) -> Result<Value, Refusal> {
    let id = call.required("InstanceId")?;
    let page = Page::read(call)?;
    let Some(instance) = world.get(id) else {
        return Ok(no_instance());
    };
    let tasks = instance.tasks(now);
    let shown = tasks[page.range(tasks.len())].iter().map(|task| {
        let mut fields = task.fields(now);
        times_as_strings(&mut fields, ["StartTime", "EndTime"]);
        Value::Object(fields)
    });
    Ok(page.answer("Tasks", shown.collect(), tasks.len()))
}

fn list_rules(call: &Call, world: &World, _now: i64) -> Result<Value, Refusal> {
    let id = call.required("InstanceId")?;
    let page = Page::read(call)?;
    let Some(instance) = world.get(id) else {
        return Ok(no_instance());
    };
    let total = instance.rule_count();
    let rules = page
        .range(total)
        .map(|at| Value::Object(instance.rule_at(at)));
    Ok(page.answer("Rules", rules.collect(), total))
}

fn get_rule(call: &Call, world: &World, _now: i64) -> Result<Value, Refusal> {
    let (id, rule_id) = (call.required("InstanceId")?, call.required("RuleId")?);
    let Some(instance) = world.get(id) else {
        return Ok(no_instance());
    };
    let rule = (0..instance.rule_count())
        .map(|at| instance.rule_at(at))
        .find(|rule| rule["RuleId"] == rule_id);
    rule.map(flat).ok_or_else(|| not_found("RULE_NOT_EXIST"))
}

fn list_instances(call: &Call, world: &World, _now: i64) -> Result<Value, Refusal> {
    let page = Page::read(call)?;
    let wanted = |instance: &&Instance| {
        ["InstanceStatus", "InstanceName"].into_iter().all(|name| {
            call.input(name)
                .is_none_or(|wanted| instance.fields()[name] == wanted)
        })
    };
    let all: Vec<&Instance> = world.instances().iter().filter(wanted).collect();
    let shown = all[page.range(all.len())].iter().map(|instance| {
        let mut fields = instance.fields().clone();
        times_as_strings(&mut fields, ["CreateTime", "ModifiedTime"]);
        Value::Object(fields)
    });
    Ok(page.answer("Instances", shown.collect(), all.len()))
}

struct Page {
    number: usize,
    size: usize,
}

impl Page {
    fn read(call: &Call) -> Result<Self, Refusal> {
        let positive = |name: &str, default: usize| match call.input(name) {
            None => Ok(default),
            Some(text) => text.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
                let message = format!("The specified parameter {name} is not valid.");
                Refusal::new(400, format!("Invalid{name}"), message)
            }),
        };
        Ok(Self {
            number: positive("PageNo", 1)?,
            size: positive("PageSize", DEFAULT_PAGE_SIZE)?.min(MAX_PAGE_SIZE),
        })
    }

    fn range(&self, total: usize) -> std::ops::Range<usize> {
        let start = (self.number - 1).saturating_mul(self.size).min(total);
        start..(start + self.size).min(total)
    }

    fn answer(&self, name: &str, items: Vec<Value>, total: usize) -> Value {
        let mut answer = json!({
            "Code": "success",
            "IsSuccess": true,
            "PageNo": self.number,
            "PageSize": self.size,
            "TotalCount": total,
        });
        answer[name] = Value::Array(items);
        answer
    }
}

/// One thing, its fields beside the envelope's.
fn flat(mut fields: Map<String, Value>) -> Value {
    fields.insert("Code".to_owned(), json!("success"));
    fields.insert("IsSuccess".to_owned(), json!(true));
    Value::Object(fields)
}

/// The original answers this with HTTP 200.
fn no_instance() -> Value {
    json!({"Code": "INSTANCE_NOT_EXIST", "IsSuccess": false})
}

fn not_found(code: &str) -> Refusal {
    Refusal::new(404, code, "The specified resource does not exist.")
}

/// Lists tell some times as strings that the single answer tells as integers;
/// whatever else a test put there stays.
fn times_as_strings(fields: &mut Map<String, Value>, names: [&str; 2]) {
    for name in names {
        if let Some(time) = fields.get_mut(name)
            && time.is_number()
        {
            *time = Value::String(time.to_string());
        }
    }
}
