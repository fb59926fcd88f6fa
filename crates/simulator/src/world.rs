//! What a simulated cloud contains: instances, their rules, the runs of the
//! rules, and tasks of their own. Runs are computed from the present, generated
//! tasks from their number; only what a test lays down exactly is stored.

use serde_json::{Map, Value, json};

use super::run::{Plan, Run, mix};

/// The fields of an object as they go on the wire.
pub type Fields = Map<String, Value>;

/// Where artifacts come from and go to: the only thing that task and rule share.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// `SourceProvider`, such as `DOCKER_HUB`.
    pub provider: String,
    /// `SourceNamespaceName`.
    pub source_namespace: String,
    /// `SourceRepoName`.
    pub source_repository: String,
    /// `NamespaceName` in the instance.
    pub namespace: String,
    /// `RepoName` in the instance.
    pub repository: String,
}

impl Source {
    /// From `provider`'s `source` to `destination`, both `namespace/repository`.
    pub fn new(provider: &str, source: &str, destination: &str) -> Self {
        let split = |path: &str| {
            let (namespace, repository) = path.split_once('/').unwrap_or(("library", path));
            (namespace.to_owned(), repository.to_owned())
        };
        let (source_namespace, source_repository) = split(source);
        let (namespace, repository) = split(destination);
        Self {
            provider: provider.to_owned(),
            source_namespace,
            source_repository,
            namespace,
            repository,
        }
    }

    pub(super) fn fields(&self) -> Fields {
        fields(json!({
            "SourceProvider": self.provider,
            "SourceNamespaceName": self.source_namespace,
            "SourceRepoName": self.source_repository,
            "NamespaceName": self.namespace,
            "RepoName": self.repository,
        }))
    }
}

/// One row of a task. Every field can be set to anything.
#[derive(Clone, Debug)]
pub struct RowSpec(Fields);

impl RowSpec {
    /// A row that says nothing but what it is about.
    pub fn new(namespace: &str, repository: &str, tag: &str) -> Self {
        Self(fields(json!({
            "NamespaceName": namespace,
            "RepoName": repository,
            "Tag": tag,
        })))
    }

    /// A finished row with `Result` SUCCESS; times in Unix milliseconds.
    pub fn succeeded(namespace: &str, repository: &str, tag: &str, start: i64, end: i64) -> Self {
        Self::finished(namespace, repository, tag, start, end).set("Result", "SUCCESS")
    }

    /// A finished row with `Result` FAILED; times in Unix milliseconds.
    pub fn failed(namespace: &str, repository: &str, tag: &str, start: i64, end: i64) -> Self {
        Self::finished(namespace, repository, tag, start, end).set("Result", "FAILED")
    }

    /// A row that began at `start`, Unix milliseconds, and has no end.
    pub fn running(namespace: &str, repository: &str, tag: &str, start: i64) -> Self {
        Self::new(namespace, repository, tag)
            .set("Status", "RUNNING")
            .set("StartTime", start)
    }

    fn finished(namespace: &str, repository: &str, tag: &str, start: i64, end: i64) -> Self {
        Self::new(namespace, repository, tag)
            .set("Status", "COMPLETED")
            .set("StartTime", start)
            .set("EndTime", end)
    }

    /// Sets a field of the wire to any JSON value.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    /// Takes a field away.
    #[must_use]
    pub fn without(mut self, field: &str) -> Self {
        self.0.remove(field);
        self
    }
}

/// A task with exactly the rows given. Every field can be set to anything;
/// `StartTime` and `EndTime` that are numbers become strings in lists.
#[derive(Clone, Debug)]
pub struct TaskSpec {
    id: String,
    fields: Fields,
    rows: Vec<RowSpec>,
}

impl TaskSpec {
    /// A task without status, result and rows.
    pub fn new(id: &str) -> Self {
        let fields = fields(json!({
            "TaskId": id,
            "TaskType": "AUTO",
            "ArtifactType": "IMAGE",
            "SourceRepoType": "PUBLIC",
        }));
        Self {
            id: id.to_owned(),
            fields,
            rows: Vec::new(),
        }
    }

    /// A finished task, `TaskResult` SUCCESS; times in Unix milliseconds.
    pub fn succeeded(id: &str, start: i64, end: i64) -> Self {
        Self::finished(id, start, end).set("TaskResult", "SUCCESS")
    }

    /// A finished task, `TaskResult` FAILED; times in Unix milliseconds.
    pub fn failed(id: &str, start: i64, end: i64, message: &str) -> Self {
        Self::finished(id, start, end)
            .set("TaskResult", "FAILED")
            .set("Message", message)
    }

    /// A task that began at `start`, Unix milliseconds, and has no end.
    pub fn running(id: &str, start: i64) -> Self {
        Self::new(id)
            .set("TaskStatus", "RUNNING")
            .set("StartTime", start)
    }

    fn finished(id: &str, start: i64, end: i64) -> Self {
        Self::new(id)
            .set("TaskStatus", "COMPLETED")
            .set("StartTime", start)
            .set("EndTime", end)
    }

    /// Sets the five fields that say whose run it is.
    #[must_use]
    pub fn source(mut self, source: &Source) -> Self {
        self.fields.extend(source.fields());
        self
    }

    /// Sets a field of the wire to any JSON value.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    /// Takes a field away.
    #[must_use]
    pub fn without(mut self, field: &str) -> Self {
        self.fields.remove(field);
        self
    }

    /// Adds a row.
    #[must_use]
    pub fn row(mut self, row: RowSpec) -> Self {
        self.rows.push(row);
        self
    }

    /// Adds rows.
    #[must_use]
    pub fn rows(mut self, rows: impl IntoIterator<Item = RowSpec>) -> Self {
        self.rows.extend(rows);
        self
    }

    fn start(&self) -> i64 {
        self.fields
            .get("StartTime")
            .and_then(|time| time.as_i64().or_else(|| time.as_str()?.parse().ok()))
            .unwrap_or(0)
    }
}

/// When and how a rule runs by itself.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The first run, Unix milliseconds.
    pub first: i64,
    /// From run to run, milliseconds.
    pub every: i64,
    /// So many of the newest runs are remembered.
    pub kept: usize,
    /// Tags of a run.
    pub tags: usize,
    /// The mean time that a tag takes, milliseconds.
    pub tag_millis: i64,
    /// The source refuses the last tags of each so-manieth run; 0: never.
    pub fails_every: u32,
    /// What a failed task says.
    pub message: &'static str,
}

/// A standing subscription. Every field can be set to anything.
#[derive(Clone, Debug)]
pub struct RuleSpec {
    id: String,
    source: Source,
    fields: Fields,
    schedule: Option<Schedule>,
}

impl RuleSpec {
    /// A rule that never runs by itself, created at `created`, Unix milliseconds.
    pub fn new(id: &str, source: &Source, created: i64) -> Self {
        let mut all = fields(json!({
            "RuleId": id,
            "SourceDomain": "",
            "TagRegexp": ".*",
            "TagCount": 5,
            "Override": true,
            "Accelerate": false,
            "Platform": ["linux/amd64"],
            "CreateTime": created,
            "ModifiedTime": created,
        }));
        all.extend(source.fields());
        Self {
            id: id.to_owned(),
            source: source.clone(),
            fields: all,
            schedule: None,
        }
    }

    /// Lets it run by itself.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// Sets a field of the wire to any JSON value.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }
}

/// A rule that runs by itself, with the two plans of its runs.
#[derive(Clone, Debug)]
struct Scheduled {
    schedule: Schedule,
    seed: u64,
    good: Plan,
    bad: Plan,
}

#[derive(Clone, Debug)]
struct Rule {
    id: String,
    fields: Fields,
    scheduled: Option<Scheduled>,
}

impl Rule {
    fn new(mut spec: RuleSpec, instance_id: &str) -> Self {
        spec.fields
            .entry("InstanceId")
            .or_insert_with(|| json!(instance_id));
        let source = spec.source;
        let seed = spec.id.bytes().fold(0, |seed, b| mix(seed, u64::from(b)));
        let scheduled = spec.schedule.map(|schedule| {
            let good = Plan {
                source,
                tag_prefix: "v1.",
                tags: schedule.tags,
                tag_millis: schedule.tag_millis,
                refused_from: None,
                message: schedule.message,
            };
            let bad = Plan {
                refused_from: Some(schedule.tags / 2),
                ..good.clone()
            };
            Scheduled {
                schedule,
                seed,
                good,
                bad,
            }
        });
        Self {
            id: spec.id,
            fields: spec.fields,
            scheduled,
        }
    }
}

impl Scheduled {
    /// The runs that are remembered at `now`, newest first.
    fn runs<'a>(&'a self, instance_id: &'a str, now: i64) -> impl Iterator<Item = Run<'a>> {
        let Schedule {
            first,
            every,
            kept,
            fails_every,
            ..
        } = self.schedule;
        let every = every.max(1);
        let begun = if now < first {
            0
        } else {
            (now - first) / every + 1
        };
        (0..begun).rev().take(kept).map(move |number| {
            let nth = number.unsigned_abs();
            let fails = fails_every > 0 && (nth + 1).is_multiple_of(u64::from(fails_every));
            let seed = mix(self.seed, nth);
            Run {
                id: task_id(seed),
                instance_id,
                plan: if fails { &self.bad } else { &self.good },
                start: first + number * every,
                seed,
                // The source publishes a version every third run or so.
                first_tag: nth / 3,
            }
        })
    }
}

/// In the shape of the cloud's own: `crast-` and 15 of `0-9a-z`.
fn task_id(seed: u64) -> String {
    let digits = (0..15).map(|at| {
        let digit = u32::try_from(mix(seed, at) % 36).unwrap_or(0);
        char::from_digit(digit, 36).unwrap_or('0')
    });
    "crast-".chars().chain(digits).collect()
}

/// When a task of its own that goes like a run began.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    /// Once, Unix milliseconds.
    At(i64),
    /// Again and again, each time after so many milliseconds. A real task runs
    /// once; a demo that is left open shall still show something that runs.
    Every(i64),
}

#[derive(Clone, Debug)]
struct Single {
    id: String,
    begin: Begin,
    plan: Plan,
}

impl Single {
    fn run<'a>(&'a self, instance_id: &'a str, now: i64) -> Run<'a> {
        let (start, nth) = match self.begin {
            Begin::At(start) => (start, 0),
            Begin::Every(period) => {
                let nth = now.div_euclid(period);
                (nth * period, nth.unsigned_abs())
            }
        };
        Run {
            id: self.id.clone(),
            instance_id,
            plan: &self.plan,
            start,
            seed: mix(0, nth),
            first_tag: 0,
        }
    }
}

/// Tasks that exist by their number alone.
#[derive(Clone, Debug)]
pub(super) struct Load {
    tasks: usize,
    rows: usize,
    start: i64,
}

/// One registry instance.
#[derive(Clone, Debug)]
pub struct Instance {
    id: String,
    fields: Fields,
    rules: Vec<Rule>,
    exact: Vec<TaskSpec>,
    single: Vec<Single>,
    load: Option<Load>,
}

impl Instance {
    fn new(id: &str, region: &str) -> Self {
        let fields = fields(json!({
            "InstanceId": id,
            "InstanceName": id.trim_start_matches("cri-"),
            "InstanceSpecification": "Enterprise_Advanced",
            "InstanceStatus": "RUNNING",
            "RegionId": region,
            "ResourceGroupId": "rg-acfmsimulated00",
            "CreateTime": 1_767_323_045_000_i64,
            "ModifiedTime": 1_767_323_045_000_i64,
        }));
        Self {
            id: id.to_owned(),
            fields,
            rules: Vec::new(),
            exact: Vec::new(),
            single: Vec::new(),
            load: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(super) fn rule_count(&self) -> usize {
        self.rules.len() + self.load.as_ref().map_or(0, |load| load.tasks)
    }

    pub(super) fn rule_at(&self, at: usize) -> Fields {
        if let Some(rule) = self.rules.get(at) {
            return rule.fields.clone();
        }
        let number = at - self.rules.len();
        let start = self.load.as_ref().map_or(0, |load| load.start);
        let spec = RuleSpec::new(&format!("crasr-{number:015}"), &load_source(number), start);
        Rule::new(spec, &self.id).fields
    }

    /// All tasks that exist at `now`, newest first.
    pub(super) fn tasks(&self, now: i64) -> Vec<Task<'_>> {
        let exact = self.exact.iter().map(|task| Task::Exact(task, &self.id));
        let single = self.single.iter().map(|s| Task::Run(s.run(&self.id, now)));
        let runs = self.scheduled_runs(now).map(Task::Run);
        let load = self
            .load
            .iter()
            .flat_map(|load| (0..load.tasks).map(|number| Task::Load(load, number, &self.id)));
        let mut all: Vec<_> = exact.chain(single).chain(runs).chain(load).collect();
        all.sort_by_key(|task| std::cmp::Reverse(task.start()));
        all
    }

    pub(super) fn find_task(&self, id: &str, now: i64) -> Option<Task<'_>> {
        if let Some(task) = self.exact.iter().find(|task| task.id == id) {
            return Some(Task::Exact(task, &self.id));
        }
        if let Some(single) = self.single.iter().find(|single| single.id == id) {
            return Some(Task::Run(single.run(&self.id, now)));
        }
        if let Some(load) = &self.load
            && let Some(number) = id.strip_prefix("crast-").and_then(|n| n.parse().ok())
            && number < load.tasks
            && load_task_id(number) == id
        {
            return Some(Task::Load(load, number, &self.id));
        }
        self.scheduled_runs(now)
            .find(|run| run.id == id)
            .map(Task::Run)
    }

    fn scheduled_runs(&self, now: i64) -> impl Iterator<Item = Run<'_>> {
        self.rules
            .iter()
            .filter_map(|rule| rule.scheduled.as_ref())
            .flat_map(move |scheduled| scheduled.runs(&self.id, now))
    }
}

/// A task, wherever it comes from.
pub(super) enum Task<'a> {
    Exact(&'a TaskSpec, &'a str),
    Run(Run<'a>),
    Load(&'a Load, usize, &'a str),
}

impl Task<'_> {
    fn start(&self) -> i64 {
        match self {
            Self::Exact(task, _) => task.start(),
            Self::Run(run) => run.start,
            Self::Load(load, ..) => load.start,
        }
    }

    pub(super) fn fields(&self, now: i64) -> Fields {
        match self {
            Self::Exact(task, instance_id) => {
                let mut fields = task.fields.clone();
                fields
                    .entry("InstanceId")
                    .or_insert_with(|| json!(instance_id));
                fields
            }
            Self::Run(run) => run.fields(now),
            Self::Load(load, number, instance_id) => {
                let end = load.start + load_end(load.rows);
                let task = TaskSpec::succeeded(&load_task_id(*number), load.start, end)
                    .source(&load_source(*number))
                    .set("InstanceId", *instance_id)
                    .set("TagTotalCount", load.rows)
                    .set("TagSubscriptionCount", load.rows);
                task.fields
            }
        }
    }

    pub(super) fn row_count(&self) -> usize {
        match self {
            Self::Exact(task, _) => task.rows.len(),
            Self::Run(run) => run.plan.tags,
            Self::Load(load, ..) => load.rows,
        }
    }

    pub(super) fn row(&self, at: usize, now: i64) -> Fields {
        match self {
            Self::Exact(task, instance_id) => {
                let mut row = task.rows[at].0.clone();
                row.entry("InstanceId")
                    .or_insert_with(|| json!(instance_id));
                row.entry("TaskId").or_insert_with(|| json!(task.id));
                row
            }
            Self::Run(run) => run.row(at, now),
            Self::Load(load, number, instance_id) => {
                let source = load_source(*number);
                let start = load.start + load_end(at);
                let end = load.start + load_end(at + 1);
                let tag = format!("v1.{at}");
                RowSpec::succeeded(&source.namespace, &source.repository, &tag, start, end)
                    .set("InstanceId", *instance_id)
                    .set("TaskId", load_task_id(*number))
                    .0
            }
        }
    }
}

/// When the first `rows` rows of a generated task are done: the last took 5 s,
/// the one before 4 s …, after its start.
fn load_end(rows: usize) -> i64 {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    (rows / 5) * 15_000 + (1..=rows % 5).sum::<i64>() * 1000
}

/// The id of a task of [`World::load`], from 0.
pub fn load_task_id(number: usize) -> String {
    format!("crast-{number:015}")
}

fn load_source(number: usize) -> Source {
    let repository = format!("load/repository-{number}");
    Source::new("DOCKER_HUB", &repository, &repository)
}

/// What a simulated cloud contains.
#[derive(Clone, Debug, Default)]
pub struct World {
    instances: Vec<Instance>,
}

impl World {
    /// The instance of [`World::load`].
    pub const LOAD_INSTANCE: &str = "cri-load000000000000";

    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// One instance with `tasks` finished tasks of `rows` rows each, all begun
    /// at `start` (Unix milliseconds), each of a subscription of its own. Nothing
    /// of it is stored.
    pub fn load(tasks: usize, rows: usize, start: i64) -> Self {
        let mut world = Self::new().instance(Self::LOAD_INSTANCE, "cn-hangzhou");
        world.last().load = Some(Load { tasks, rows, start });
        world
    }

    /// What `demo` shows; see [`super::demo`].
    pub fn demo(now: i64) -> Self {
        super::demo::world(now)
    }

    /// Adds an instance; [`World::rule`] and [`World::task`] add to the last one.
    #[must_use]
    pub fn instance(mut self, id: &str, region: &str) -> Self {
        self.instances.push(Instance::new(id, region));
        self
    }

    /// Adds a rule to the last instance.
    ///
    /// # Panics
    ///
    /// Panics where there is no instance yet.
    #[must_use]
    pub fn rule(mut self, rule: RuleSpec) -> Self {
        put_rule(self.last(), rule);
        self
    }

    /// Adds a task to the last instance.
    ///
    /// # Panics
    ///
    /// Panics where there is no instance yet.
    #[must_use]
    pub fn task(mut self, task: TaskSpec) -> Self {
        put_task(self.last(), task);
        self
    }

    /// Sets a field of the last instance to any JSON value.
    ///
    /// # Panics
    ///
    /// Panics where there is no instance yet.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.last().fields.insert(field.to_owned(), value.into());
        self
    }

    /// Adds a rule to an instance, or replaces the one of its id.
    ///
    /// # Panics
    ///
    /// Panics where there is no such instance.
    pub fn put_rule(&mut self, instance_id: &str, rule: RuleSpec) {
        put_rule(self.must(instance_id), rule);
    }

    /// Adds a task to an instance, or replaces the one of its id.
    ///
    /// # Panics
    ///
    /// Panics where there is no such instance.
    pub fn put_task(&mut self, instance_id: &str, task: TaskSpec) {
        put_task(self.must(instance_id), task);
    }

    /// Takes a rule away, its runs included; tells whether it was there.
    pub fn remove_rule(&mut self, instance_id: &str, rule_id: &str) -> bool {
        self.get_mut(instance_id).is_some_and(|instance| {
            let before = instance.rules.len();
            instance.rules.retain(|rule| rule.id != rule_id);
            instance.rules.len() < before
        })
    }

    /// Takes an exact task away; tells whether it was there.
    pub fn remove_task(&mut self, instance_id: &str, task_id: &str) -> bool {
        self.get_mut(instance_id).is_some_and(|instance| {
            let before = instance.exact.len();
            instance.exact.retain(|task| task.id != task_id);
            instance.exact.len() < before
        })
    }

    /// Takes an instance away; tells whether it was there.
    pub fn remove_instance(&mut self, instance_id: &str) -> bool {
        let before = self.instances.len();
        self.instances.retain(|instance| instance.id != instance_id);
        self.instances.len() < before
    }

    /// The instances, in the order they were added.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    pub(super) fn get(&self, id: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }

    pub(super) fn single(mut self, id: &str, begin: Begin, plan: Plan) -> Self {
        let id = id.to_owned();
        self.last().single.push(Single { id, begin, plan });
        self
    }

    fn get_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.id == id)
    }

    fn must(&mut self, id: &str) -> &mut Instance {
        self.get_mut(id).expect("an instance of this id")
    }

    fn last(&mut self) -> &mut Instance {
        self.instances.last_mut().expect("an instance comes first")
    }
}

fn put_rule(instance: &mut Instance, spec: RuleSpec) {
    let rule = Rule::new(spec, &instance.id);
    match instance.rules.iter_mut().find(|old| old.id == rule.id) {
        Some(old) => *old = rule,
        None => instance.rules.push(rule),
    }
}

fn put_task(instance: &mut Instance, task: TaskSpec) {
    match instance.exact.iter_mut().find(|old| old.id == task.id) {
        Some(old) => *old = task,
        None => instance.exact.push(task),
    }
}

fn fields(object: Value) -> Fields {
    match object {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn ruled() -> World {
        let schedule = Schedule {
            first: 0,
            every: 10 * MINUTE,
            kept: 3,
            tags: 4,
            tag_millis: MINUTE,
            fails_every: 2,
            message: "toomanyrequests",
        };
        let source = Source::new("QUAY", "org/app", "mirror/app");
        World::new()
            .instance("cri-a", "cn-hangzhou")
            .rule(RuleSpec::new("crasr-a", &source, 0).schedule(schedule))
    }

    fn starts(world: &World, now: i64) -> Vec<i64> {
        world.instances[0]
            .tasks(now)
            .iter()
            .map(Task::start)
            .collect()
    }

    #[test]
    fn a_rule_runs_when_it_is_due_and_old_runs_are_forgotten() {
        let world = ruled();
        assert!(starts(&world, -1).is_empty());
        assert_eq!(starts(&world, 0), [0]);
        assert_eq!(starts(&world, 10 * MINUTE - 1), [0]);
        assert_eq!(starts(&world, 10 * MINUTE), [10 * MINUTE, 0]);
        assert_eq!(
            starts(&world, 45 * MINUTE),
            [40 * MINUTE, 30 * MINUTE, 20 * MINUTE]
        );
    }

    #[test]
    fn a_run_goes_tag_by_tag_and_then_stands_still() {
        let world = ruled();
        let instance = &world.instances[0];
        let begun = instance.tasks(0);
        let id = begun[0].fields(0)["TaskId"]
            .as_str()
            .expect("an id")
            .to_owned();
        assert_eq!(begun[0].fields(0)["TaskStatus"], "RUNNING");
        assert_eq!(begun[0].fields(0)["TagSubscriptionCount"], 0);
        let status =
            |at, now| instance.find_task(&id, now).expect("kept").row(at, now)["Status"].clone();
        assert_eq!(status(0, 0), "RUNNING");
        assert_eq!(status(1, 0), "PENDING");

        // Four tags of at most 90 s.
        let done = instance.find_task(&id, 6 * MINUTE).expect("kept");
        let fields = done.fields(6 * MINUTE);
        assert_eq!(fields["TaskStatus"], "COMPLETED");
        assert_eq!(fields["TaskResult"], "SUCCESS");
        assert_eq!(fields["TagSubscriptionCount"], 4);
        let end = fields["EndTime"].as_i64().expect("an end");
        assert!((2 * MINUTE..=6 * MINUTE).contains(&end), "{end}");
        assert_eq!(done.row(3, 6 * MINUTE)["EndTime"], end);
        assert_eq!(
            done.row(1, 6 * MINUTE)["StartTime"],
            done.row(0, 6 * MINUTE)["EndTime"]
        );
        assert_eq!(done.fields(6 * MINUTE), done.fields(25 * MINUTE));
        assert!(instance.find_task(&id, 30 * MINUTE).is_none(), "forgotten");
    }

    #[test]
    fn every_second_run_is_refused_half_way() {
        let world = ruled();
        let now = 19 * MINUTE;
        let tasks = world.instances[0].tasks(now);
        let fields = tasks[0].fields(now);
        assert_eq!(fields["TaskResult"], "FAILED");
        assert_eq!(fields["Message"], "toomanyrequests");
        assert_eq!(fields["TagSubscriptionCount"], 2);
        let results: Vec<_> = (0..4)
            .map(|at| tasks[0].row(at, now)["Result"].clone())
            .collect();
        assert_eq!(results, ["SUCCESS", "SUCCESS", "FAILED", "FAILED"]);
        assert_eq!(tasks[1].fields(now)["TaskResult"], "SUCCESS");
    }

    #[test]
    fn an_unfinished_end_is_absent_null_zero_and_empty_in_turn() {
        let world = ruled();
        let tasks = world.instances[0].tasks(0);
        let ends: Vec<_> = (0..4)
            .map(|at| tasks[0].row(at, 0).get("EndTime").cloned())
            .collect();
        assert_eq!(
            ends,
            [None, Some(Value::Null), Some(json!(0)), Some(json!(""))]
        );
    }

    #[test]
    fn generated_tasks_exist_by_their_number() {
        let world = World::load(3, 7, 1000);
        let instance = &world.instances[0];
        let task = instance
            .find_task("crast-000000000000002", 0)
            .expect("the last");
        assert_eq!(task.row_count(), 7);
        assert_eq!(task.row(0, 0)["StartTime"], 1000);
        assert_eq!(task.row(0, 0)["EndTime"], 2000);
        // 1 + 2 + 3 + 4 + 5 + 1 + 2 s
        assert_eq!(task.row(6, 0)["EndTime"], 19_000);
        assert_eq!(task.fields(0)["EndTime"], 19_000);
        for wrong in ["crast-000000000000003", "crast-2", "crast-x"] {
            assert!(instance.find_task(wrong, 0).is_none(), "{wrong}");
        }
        assert_eq!(instance.tasks(0).len(), 3);
        assert_eq!(instance.rule_at(2)["RepoName"], "repository-2");
    }

    #[test]
    fn a_put_replaces_what_has_the_same_id() {
        let mut world = ruled().task(TaskSpec::running("crast-a", 5));
        world.put_task("cri-a", TaskSpec::succeeded("crast-a", 5, 6));
        let task = world.instances[0].find_task("crast-a", 7).expect("put");
        assert_eq!(task.fields(7)["TaskResult"], "SUCCESS");
        assert!(world.remove_task("cri-a", "crast-a"));
        assert!(!world.remove_task("cri-a", "crast-a"));
        assert!(world.remove_rule("cri-a", "crasr-a"));
        assert!(starts(&world, 0).is_empty());
    }
}
