//! What the quick start shows: two instances, five rules that run by
//! themselves, and tasks under fixed ids, one for each thing worth seeing. Ids,
//! keys and names are here so that the demo's configuration can name them.

use serde_json::Value;

use super::run::Plan;
use super::world::{Begin, RowSpec, RuleSpec, Schedule, Source, TaskSpec, World};

/// The access key id that [`super::SimulatorConfig::default`] accepts.
pub const KEY_ID: &str = "simulated-key-id";
/// Its secret, which is none.
pub const KEY_SECRET: &str = "simulated-key-secret";

/// The OIDC token that [`super::Issuing::default`] accepts.
pub const OIDC_TOKEN: &str = "simulated-oidc-token";
/// The RAM role of the simulated machine.
pub const ROLE_NAME: &str = "simulated-role";

/// The instances: id and region.
pub const INSTANCES: [(&str, &str); 2] = [
    ("cri-demohangzhou0001", "cn-hangzhou"),
    ("cri-demosingapore001", "ap-southeast-1"),
];

/// The tasks of the first instance: id and a name for the `task` label.
pub const TASKS: [(&str, &str); 9] = [
    (SUCCEEDED, "nginx"),
    (FAILED, "redis"),
    (RUNNING, "ubuntu"),
    (MANY, "etcd"),
    (EMPTY, "unused"),
    (ODD_WORD, "odd-word"),
    (CONTRADICTORY, "contradictory"),
    (BACKWARDS, "backwards"),
    (REPEATED, "repeated"),
];

/// Eight tags, all synchronised.
const SUCCEEDED: &str = "crast-demosucceeded01";
/// Docker Hub refused the last three of six tags.
const FAILED: &str = "crast-demofailed00001";
/// Ten tags, always one of them under way.
const RUNNING: &str = "crast-demorunning0001";
/// More rows than a page holds.
const MANY: &str = "crast-demomanyrows001";
/// No row at all, and no verdict.
const EMPTY: &str = "crast-demoempty000001";
/// A row with a `Result` that no list names.
const ODD_WORD: &str = "crast-demooddword0001";
/// `TaskStatus` RUNNING with `TaskResult` SUCCESS, as in the vendor's sample.
const CONTRADICTORY: &str = "crast-democontradict1";
/// A row that ended before it began, as in the vendor's sample.
const BACKWARDS: &str = "crast-demobackwards01";
/// The same artifact twice: failed, then synchronised.
const REPEATED: &str = "crast-demorepeated001";

const PULL_LIMIT: &str = "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit";
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// How long the running task takes until it begins anew.
const RUNNING_PERIOD: i64 = 30 * MINUTE;

pub(super) fn world(now: i64) -> World {
    let hub = |repository: &str| {
        let destination = format!("mirror/{repository}");
        Source::new("DOCKER_HUB", &format!("library/{repository}"), &destination)
    };
    let plan = |source: Source, tags, tag_millis| Plan {
        source,
        tag_prefix: "1.",
        tags,
        tag_millis,
        refused_from: None,
        message: "",
    };
    let [(first, first_region), (second, second_region)] = INSTANCES;
    let mut world = World::new().instance(first, first_region);
    world = world
        .rule(rule(now, "crasr-demonginx00001", &hub("nginx"), 10, 0))
        .rule(rule(now, "crasr-demoredis00001", &hub("redis"), 15, 3))
        .rule(busy_rule(now, &hub("alpine")))
        .single(
            SUCCEEDED,
            Begin::At(now - 2 * HOUR),
            plan(hub("nginx"), 8, 40_000),
        )
        .single(
            FAILED,
            Begin::At(now - HOUR),
            Plan {
                refused_from: Some(3),
                message: PULL_LIMIT,
                ..plan(hub("redis"), 6, 25_000)
            },
        )
        .single(
            RUNNING,
            Begin::Every(RUNNING_PERIOD),
            // No tag takes less than half of the mean: it begins anew first.
            plan(hub("ubuntu"), 10, 6 * MINUTE),
        )
        .single(
            MANY,
            Begin::At(now - 3 * HOUR),
            plan(
                Source::new("QUAY", "coreos/etcd", "mirror/etcd"),
                240,
                15_000,
            ),
        );
    for task in odd_tasks(now, &hub("busybox")) {
        world = world.task(task);
    }
    let gcr = Source::new("GCR", "distroless/static", "mirror/static");
    let quay = Source::new("QUAY", "prometheus/prometheus", "mirror/prometheus");
    world
        .instance(second, second_region)
        .rule(rule(now, "crasr-demostatic0001", &gcr, 20, 0))
        .rule(rule(now, "crasr-demoprometheus", &quay, 30, 5))
}

/// A rule that has been running for a day.
fn rule(now: i64, id: &str, source: &Source, minutes: i64, fails_every: u32) -> RuleSpec {
    let first = now - 24 * HOUR;
    RuleSpec::new(id, source, first).schedule(Schedule {
        first,
        every: minutes * MINUTE,
        kept: 50,
        tags: 5,
        tag_millis: 45_000,
        fails_every,
        message: PULL_LIMIT,
    })
}

/// A rule that has something new each half minute, for those who look on.
fn busy_rule(now: i64, source: &Source) -> RuleSpec {
    let first = now - HOUR;
    RuleSpec::new("crasr-demoalpine0001", source, first).schedule(Schedule {
        first,
        every: MINUTE / 2,
        kept: 50,
        tags: 2,
        tag_millis: 2_000,
        fails_every: 0,
        message: "",
    })
}

fn odd_tasks(now: i64, source: &Source) -> [TaskSpec; 5] {
    let (start, end) = (now - 4 * HOUR, now - 4 * HOUR + MINUTE);
    let task = |id: &str| TaskSpec::succeeded(id, start, end).source(source);
    let row = |tag: &str| RowSpec::succeeded("mirror", "busybox", tag, start, end);
    [
        task(EMPTY).set("TaskResult", Value::Null),
        task(ODD_WORD)
            .set("TaskResult", Value::Null)
            .row(row("1.36"))
            .row(row("1.37").set("Result", "SKIPPED_BY_POLICY")),
        task(CONTRADICTORY)
            .set("TaskStatus", "RUNNING")
            .row(row("1.36")),
        task(BACKWARDS)
            .row(row("1.36"))
            .row(RowSpec::succeeded("mirror", "busybox", "1.37", end, start)),
        task(REPEATED)
            .row(RowSpec::failed(
                "mirror",
                "busybox",
                "1.36",
                start,
                start + 5_000,
            ))
            .row(RowSpec::succeeded(
                "mirror",
                "busybox",
                "1.36",
                start + 10_000,
                end,
            )),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// 2026-01-02T03:04:05Z
    const NOW: i64 = 1_767_323_045_000;

    #[test]
    fn every_named_task_is_there_and_as_described() {
        let world = world(NOW);
        let instance = world.get(INSTANCES[0].0).expect("the first instance");
        let find = |id: &str| instance.find_task(id, NOW).expect(id);
        for (id, name) in TASKS {
            assert_eq!(find(id).fields(NOW)["TaskId"], id, "{name}");
            assert_eq!(find(id).fields(NOW)["InstanceId"], INSTANCES[0].0);
        }
        assert_eq!(find(SUCCEEDED).fields(NOW)["TaskResult"], "SUCCESS");
        assert_eq!(find(FAILED).fields(NOW)["TaskResult"], "FAILED");
        assert_eq!(find(FAILED).fields(NOW)["Message"], PULL_LIMIT);
        assert_eq!(find(MANY).row_count(), 240);
        assert_eq!(find(MANY).fields(NOW)["TaskStatus"], "COMPLETED");
        assert_eq!(find(EMPTY).row_count(), 0);
    }

    #[test]
    fn something_is_always_running_and_moves() {
        let world = world(NOW);
        let instance = world.get(INSTANCES[0].0).expect("the first instance");
        let mut synced = HashSet::new();
        for minute in 0..24 * 60 {
            let now = NOW + minute * MINUTE;
            let task = instance.find_task(RUNNING, now).expect("running");
            let fields = task.fields(now);
            assert_eq!(fields["TaskStatus"], "RUNNING", "minute {minute}");
            let rows = (0..task.row_count()).map(|at| task.row(at, now));
            let running = rows.filter(|row| row["Status"] == "RUNNING").count();
            assert_eq!(running, 1, "minute {minute}");
            synced.insert(fields["TagSubscriptionCount"].as_u64());
        }
        assert!(synced.len() > 3, "{synced:?}");
    }

    #[test]
    fn task_ids_are_unique_and_rules_fail_now_and_then() {
        let world = world(NOW);
        let mut ids = HashSet::new();
        let mut results = HashSet::new();
        for instance in world.instances() {
            for task in instance.tasks(NOW) {
                let fields = task.fields(NOW);
                let id = fields["TaskId"].as_str().expect("an id").to_owned();
                assert!(ids.insert(id.clone()), "{id} twice");
                results.insert(fields.get("TaskResult").cloned());
            }
        }
        // Five rules, of whose runs 50 are kept, or all 49, and nine tasks.
        assert_eq!(ids.len(), 4 * 50 + 49 + 9);
        assert!(results.contains(&Some("FAILED".into())));
        assert!(results.contains(&Some("SUCCESS".into())));
    }
}
