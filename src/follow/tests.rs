//! A follower by hand: lists go in, what is wanted and counted comes out.

use super::settings::Pattern;
use proptest::prelude::*;

use super::*;
use crate::model::{Assessment, Folded, ListedRun, Row, TaskStatus};
use alibaba_cloud::Reason;

const MINUTE: i64 = 60_000;
const T0: i64 = 1_700_000_000_000;

fn settings() -> Settings {
    Settings {
        instance_id: "cri-a".into(),
        region: "cn-hangzhou".into(),
        interval: Duration::from_secs(300),
        stale_after: Duration::from_secs(300),
        filter: Filter::default(),
        runs: 1,
        max_age: Duration::from_secs(30 * 86_400),
        max_tasks: 1_000,
        artifacts: ArtifactSeries::Failed,
        configured: HashSet::new(),
        shard: Shard::WHOLE,
        words: Words::default(),
        causes: Causes::default(),
    }
}

fn info(repository: &str, status: &str, result: &str, start_ms: i64) -> TaskInfo {
    TaskInfo {
        repo_namespace: "mirror".to_owned(),
        repo_name: repository.to_owned(),
        source_provider: "QUAY".to_owned(),
        source_repository: format!("up/{repository}"),
        status: status.to_owned(),
        result: result.to_owned(),
        start_ms: Some(start_ms),
        end_ms: (status == "COMPLETED").then_some(start_ms + MINUTE),
        ..TaskInfo::default()
    }
}

fn rule(repository: &str) -> Rule {
    Rule {
        rule_id: format!("crasr-{repository}"),
        subscription: info(repository, "", "", 0).subscription(),
        tag_regexp: ".*".to_owned(),
        created_ms: Some(T0),
        ..Rule::default()
    }
}

fn run(id: &str, repository: &str, status: &str, result: &str, start_ms: i64) -> ListedRun {
    ListedRun {
        task_id: id.into(),
        info: Arc::new(info(repository, status, result, start_ms)),
    }
}

fn done(id: &str, repository: &str, start_ms: i64) -> ListedRun {
    run(id, repository, "COMPLETED", "SUCCESS", start_ms)
}

fn failed(id: &str, repository: &str, start_ms: i64) -> ListedRun {
    run(id, repository, "COMPLETED", "FAILED", start_ms)
}

#[expect(clippy::unnecessary_wraps, reason = "as a listing is taken in")]
fn whole(runs: Vec<ListedRun>) -> Option<RunList> {
    Some(RunList {
        runs,
        whole: true,
        pages: 1,
    })
}

fn ids(listed: &Listed, shown: bool) -> Vec<&str> {
    let wanted = listed.wanted.iter().flatten();
    let wanted = wanted.filter(|one| one.shown == shown);
    let mut ids: Vec<&str> = wanted.map(|one| &*one.target.task_id).collect();
    ids.sort_unstable();
    ids
}

/// Each row's result, its start and its duration in seconds.
fn rows(rows: &[(&str, i64, i64)], info: &TaskInfo) -> Assessment {
    let rows = rows
        .iter()
        .zip(0..)
        .map(|((result, start_ms, secs), tag)| Row {
            tag: format!("v{tag}"),
            status: if result.is_empty() {
                "RUNNING"
            } else {
                "COMPLETED"
            }
            .to_owned(),
            result: (*result).to_owned(),
            start_ms: Some(*start_ms),
            end_ms: (!result.is_empty()).then_some(start_ms + secs * 1_000),
            ..Row::default()
        });
    let words = Words::default();
    Assessment::new(Folded::new(rows, &words), Some(info), &words)
}

#[test]
fn the_newest_runs_of_each_subscription_are_wanted_whatever_the_order_of_the_list() {
    let mut follower = Follower::new(Settings {
        runs: 2,
        ..settings()
    });
    let listed = follower.listed(
        Some(vec![rule("nginx"), rule("redis")]),
        whole(vec![
            done("n1", "nginx", T0),
            done("r1", "redis", T0 + 5 * MINUTE),
            done("n3", "nginx", T0 + 20 * MINUTE),
            done("n2", "nginx", T0 + 10 * MINUTE),
            done("x1", "no-rule", T0),
        ]),
        T0 + 30 * MINUTE,
    );
    assert_eq!(ids(&listed, true), ["n2", "n3", "r1"]);
    // What was there before is history.
    assert_eq!(ids(&listed, false), [""; 0]);
    assert_eq!(
        &*listed.wanted.as_ref().unwrap()[0].target.task,
        "mirror/nginx"
    );
    assert_eq!(listed.order_learned, Some(false));
    let nginx = &listed.subscriptions[0];
    assert_eq!(&*nginx.last_run.as_ref().unwrap().task_id, "n3");
    assert_eq!(nginx.last_success_ms, Some(T0 + 21 * MINUTE));
    assert_eq!(*nginx.counts, crate::store::Counts::default());
    assert_eq!(nginx.recent_durations_ms().collect::<Vec<_>>(), [MINUTE; 3]);
}

#[test]
fn age_number_and_filter_bound_what_is_wanted_but_no_subscription() {
    let pattern = |namespace: &str, name: &str| Pattern {
        repo_namespace: Some(namespace.parse().unwrap()),
        repo_name: Some(name.parse().unwrap()),
    };
    let mut follower = Follower::new(Settings {
        max_age: Duration::from_secs(3_600),
        max_tasks: 1,
        filter: Filter {
            include: vec![pattern("mir.*", ".*")],
            exclude: vec![pattern(".*", "redis")],
        },
        ..settings()
    });
    let listed = follower.listed(
        Some(vec![
            rule("nginx"),
            rule("redis"),
            rule("etcd"),
            rule("old"),
        ]),
        whole(vec![
            done("n", "nginx", T0 - 10 * MINUTE),
            done("e", "etcd", T0 - 20 * MINUTE),
            done("r", "redis", T0 - 5 * MINUTE),
            done("o", "old", T0 - 61 * MINUTE),
        ]),
        T0,
    );
    assert_eq!(ids(&listed, true), ["n"]);
    assert_eq!(listed.dropped, 1);
    let names = listed.subscriptions.iter();
    let names: Vec<&str> = names
        .map(|one| one.subscription.repo_name.as_str())
        .collect();
    assert_eq!(names, ["etcd", "nginx", "old"]);
}

#[test]
fn a_run_counts_once_when_it_is_over_and_not_where_it_was_there_at_first() {
    let mut follower = Follower::new(settings());
    let rules = || Some(vec![rule("nginx")]);
    let first = done("n1", "nginx", T0);
    follower.listed(rules(), whole(vec![first.clone()]), T0 + 2 * MINUTE);
    let (entry, _) = follower.polled("n1", None, &rows(&[("FAILED", T0, 3)], &first.info));
    assert_eq!(entry.unwrap().counts.runs, 0);

    let starts = T0 + 5 * MINUTE;
    let running = run("n2", "nginx", "RUNNING", "", starts);
    let list = whole(vec![running.clone(), first.clone()]);
    let listed = follower.listed(rules(), list, T0 + 6 * MINUTE);
    assert_eq!(ids(&listed, true), ["n2"]);
    let (entry, _) = follower.polled("n2", None, &rows(&[("", starts, 0)], &running.info));
    let entry = entry.unwrap();
    assert_eq!(entry.last_run.unwrap().status, TaskStatus::Running);
    assert_eq!(entry.counts.runs, 0);

    let over = failed("n2", "nginx", starts);
    let data = rows(&[("SUCCESS", starts, 4), ("FAILED", starts, 7)], &over.info);
    for _ in 0..2 {
        let (entry, _) = follower.polled("n2", Some(&over.info), &data);
        let entry = entry.unwrap();
        assert_eq!((entry.counts.runs, entry.counts.failures), (1, 1));
        let durations = follower.durations();
        assert_eq!(durations.artifacts.count(), 2);
        assert_eq!(durations.artifacts.sum_ms, 11_000);
        assert_eq!(durations.runs.count(), 1);
        assert_eq!(durations.runs.sum_ms, MINUTE);
        // The first run's rows say that it failed, too.
        assert_eq!(entry.consecutive_failed_runs, 2);
    }

    // A later flip changes the gauges, not what was counted.
    let flipped = done("n2", "nginx", starts);
    let list = whole(vec![flipped.clone(), first]);
    let listed = follower.listed(rules(), list, T0 + 11 * MINUTE);
    assert!(listed.changed.contains("n2"));
    let entry = &listed.subscriptions[0];
    assert_eq!(entry.consecutive_failed_runs, 0);
    assert_eq!((entry.counts.runs, entry.counts.failures), (1, 1));
}

#[test]
fn a_run_that_is_over_before_it_was_seen_is_read_to_be_counted() {
    let mut follower = Follower::new(settings());
    let rules = || Some(vec![rule("nginx")]);
    follower.listed(rules(), whole(vec![]), T0);
    let newest = run("n2", "nginx", "RUNNING", "", T0 + 3 * MINUTE);
    let missed = failed("n1", "nginx", T0 + MINUTE);
    let list = vec![newest, missed.clone()];
    let listed = follower.listed(rules(), whole(list.clone()), T0 + 5 * MINUTE);
    assert_eq!(ids(&listed, true), ["n2"]);
    assert_eq!(ids(&listed, false), ["n1"]);
    let (entry, on) = follower.polled("n1", None, &rows(&[("FAILED", T0, 3)], &missed.info));
    assert_eq!(entry.unwrap().counts.failures, 1);
    assert!(!on);
    let listed = follower.listed(rules(), whole(list), T0 + 10 * MINUTE);
    assert_eq!(ids(&listed, false), [""; 0]);
}

#[test]
fn a_failure_counts_though_its_rows_are_denied() {
    let mut follower = Follower::new(settings());
    let rules = || Some(vec![rule("nginx")]);
    follower.listed(rules(), whole(vec![]), T0);
    let list = whole(vec![failed("n1", "nginx", T0 + MINUTE)]);
    follower.listed(rules(), list, T0 + 5 * MINUTE);
    assert_eq!(
        follower.poll_failed("n1", Reason::Timeout, T0),
        (None, true)
    );
    let (entry, _) = follower.poll_failed("n1", Reason::Forbidden, T0);
    let counts = &entry.unwrap().counts;
    assert_eq!((counts.runs, counts.failures), (1, 1));
    assert_eq!(follower.durations().artifacts.count(), 0);
}

#[test]
fn a_failure_counts_though_its_rows_cannot_be_read_for_an_hour() {
    let mut follower = Follower::new(settings());
    let rules = || Some(vec![rule("nginx")]);
    follower.listed(rules(), whole(vec![]), T0);
    let list = whole(vec![failed("n1", "nginx", T0 + MINUTE)]);
    follower.listed(rules(), list, T0 + 5 * MINUTE);
    let mut failures = |minute| {
        let (entry, on) = follower.poll_failed("n1", Reason::Server, T0 + minute * MINUTE);
        assert!(on, "it may work again");
        entry.map(|entry| entry.counts.failures)
    };
    assert_eq!(failures(6), None);
    assert_eq!(failures(65), None);
    assert_eq!(failures(66), Some(1));
    assert_eq!(failures(67), Some(1));
}

#[test]
fn a_run_that_leaves_before_its_rows_were_read_is_counted_too() {
    let mut follower = Follower::new(settings());
    let rules = || Some(vec![rule("nginx")]);
    follower.listed(rules(), whole(vec![]), T0);
    let list = || whole(vec![failed("n1", "nginx", T0 + MINUTE)]);
    follower.listed(rules(), list(), T0 + 5 * MINUTE);
    follower.poll_failed("n1", Reason::Server, T0 + 6 * MINUTE);
    let listed = follower.listed(rules(), whole(vec![]), T0 + 10 * MINUTE);
    assert_eq!(listed.subscriptions[0].counts.failures, 1);
    // Back again, it was counted.
    follower.listed(rules(), list(), T0 + 15 * MINUTE);
    let n1 = failed("n1", "nginx", T0 + MINUTE);
    let (entry, _) = follower.polled("n1", None, &rows(&[("FAILED", T0, 3)], &n1.info));
    assert_eq!(entry.unwrap().counts.failures, 1);
}

#[test]
fn a_run_with_a_result_counts_though_its_status_says_that_it_runs() {
    let mut follower = Follower::new(Settings {
        max_tasks: 0,
        ..settings()
    });
    let rules = || Some(vec![rule("nginx")]);
    follower.listed(rules(), whole(vec![]), T0);
    // As in the vendor's own sample.
    let odd = |id, result, minute| run(id, "nginx", "RUNNING", result, T0 + minute * MINUTE);
    let list = vec![
        odd("n3", "SUCCESS", 3),
        odd("n2", "FAILED", 2),
        odd("n1", "", 1),
    ];
    let listed = follower.listed(rules(), whole(list), T0 + 5 * MINUTE);
    assert_eq!(ids(&listed, false), ["n2", "n3"]);
    let failed = odd("n2", "FAILED", 2).info;
    follower.polled("n2", None, &rows(&[("FAILED", T0, 3)], &failed));
    let succeeded = odd("n3", "SUCCESS", 3).info;
    let (entry, on) = follower.polled("n3", None, &rows(&[("SUCCESS", T0, 3)], &succeeded));
    let entry = entry.unwrap();
    assert!(!on);
    assert_eq!((entry.counts.runs, entry.counts.failures), (2, 1));
    assert_eq!(entry.last_run.unwrap().status, TaskStatus::Succeeded);
}

#[test]
fn a_list_that_shrinks_and_recovers_counts_nothing_again() {
    let mut follower = Follower::new(settings());
    let rules = || Some(vec![rule("nginx")]);
    let list = || whole(vec![done("n1", "nginx", T0)]);
    follower.listed(rules(), list(), T0);
    let listed = follower.listed(rules(), whole(vec![]), T0 + 5 * MINUTE);
    assert_eq!(ids(&listed, true), [""; 0]);
    // What was known of the subscription stays.
    assert_eq!(listed.subscriptions[0].last_success_ms, Some(T0 + MINUTE));
    let listed = follower.listed(rules(), list(), T0 + 10 * MINUTE);
    assert_eq!(ids(&listed, true), ["n1"]);
    let n1 = done("n1", "nginx", T0);
    let (entry, _) = follower.polled("n1", None, &rows(&[("SUCCESS", T0, 3)], &n1.info));
    assert_eq!(entry.unwrap().counts.runs, 0);
}

#[test]
fn a_rule_that_vanished_takes_its_runs_along() {
    let mut follower = Follower::new(settings());
    let list = || whole(vec![done("n1", "nginx", T0)]);
    follower.listed(Some(vec![rule("nginx")]), list(), T0);
    let listed = follower.listed(Some(vec![]), list(), T0 + 5 * MINUTE);
    assert_eq!(listed.removed.len(), 1);
    assert_eq!(listed.wanted, Some(Vec::new()));
    assert!(listed.subscriptions.is_empty());
    // A list that cannot be read takes nothing away.
    let listed = follower.listed(Some(vec![rule("nginx")]), None, T0 + 10 * MINUTE);
    assert_eq!(ids(&listed, true), ["n1"]);
    let listed = follower.listed(None, None, T0 + 15 * MINUTE);
    assert_eq!(listed.wanted, None);
}

#[test]
fn a_list_that_is_newest_first_is_left_at_the_first_page_without_news() {
    let mut follower = Follower::new(settings());
    let old = |n: i64| done(&format!("n{n}"), "nginx", T0 - n * MINUTE);
    let all: Vec<ListedRun> = (1..=3).map(old).collect();
    assert!(follower.plan(T0).whole());
    let listed = follower.listed(Some(vec![rule("nginx")]), whole(all.clone()), T0);
    assert_eq!(listed.order_learned, Some(true));

    let soon = T0 + 5 * MINUTE;
    let mut plan = follower.plan(soon);
    assert!(!plan.whole());
    assert!(!plan.go_on(&all[..1]));
    assert!(follower.plan(soon).go_on(&[done("n0", "nginx", T0)]));
    let running = run("n1", "nginx", "RUNNING", "", T0 - MINUTE);
    assert!(follower.plan(soon).go_on(&[running]));
    assert!(
        follower
            .plan(soon)
            .go_on(&[failed("n1", "nginx", T0 - MINUTE)])
    );
    // The newest run is on this page; it must be seen before it is stale.
    assert!(follower.plan(T0 + 10 * MINUTE).go_on(&all[1..]));
    assert!(!follower.plan(T0 + 10 * MINUTE).go_on(&all[..1]));
    // Every six hours it is read whole.
    assert!(!follower.plan(T0 + 359 * MINUTE).whole());
    assert!(follower.plan(T0 + 360 * MINUTE).whole());

    // One page in another order is enough.
    let page = RunList {
        runs: vec![old(3), old(1)],
        whole: false,
        pages: 1,
    };
    let listed = follower.listed(None, Some(page), soon);
    assert_eq!(listed.order_learned, Some(false));
    assert!(follower.plan(soon).whole());
}

#[test]
fn the_shards_together_want_what_one_daemon_wants() {
    let names: Vec<String> = (0..40).map(|n| format!("repo{n}")).collect();
    let listed = |shard| {
        let mut follower = Follower::new(Settings {
            shard,
            max_tasks: 30,
            ..settings()
        });
        let rules = names.iter().map(|name| rule(name)).collect();
        let runs = names.iter().zip(0..);
        let runs = runs.map(|(name, n)| done(name, name, T0 - n * MINUTE));
        follower.listed(Some(rules), whole(runs.collect()), T0)
    };
    let one = listed(Shard::WHOLE);
    let mut tasks = Vec::new();
    let mut subscriptions = Vec::new();
    for index in 0..3 {
        let part = listed(Shard::new(index, 3).unwrap());
        assert_eq!(part.dropped, 10);
        tasks.extend(ids(&part, true).into_iter().map(str::to_owned));
        subscriptions.extend(part.subscriptions);
    }
    tasks.sort_unstable();
    assert_eq!(tasks, ids(&one, true));
    subscriptions.sort_by(|a, b| a.subscription.cmp(&b.subscription));
    assert_eq!(subscriptions, one.subscriptions);
}

#[test]
fn what_was_saved_comes_back() {
    let mut follower = Follower::new(settings());
    let rules = || Some(vec![rule("nginx")]);
    follower.listed(rules(), whole(vec![]), T0);
    let over = failed("n1", "nginx", T0 + MINUTE);
    let before = follower.listed(rules(), whole(vec![over.clone()]), T0 + 5 * MINUTE);
    let data = rows(&[("FAILED", T0 + MINUTE, 3)], &over.info);
    let (entry, _) = follower.polled("n1", None, &data);

    let mut again = Follower::new(settings());
    let restored = again.restore(follower.save(), T0 + 6 * MINUTE);
    assert_eq!(restored.wanted, before.wanted);
    assert_eq!(restored.subscriptions, [entry.unwrap()]);
    let (entry, _) = again.polled("n1", None, &data);
    assert_eq!(entry.unwrap().counts.runs, 1);
    let seen = again.listed(rules(), whole(vec![over]), T0 + 10 * MINUTE);
    assert!(seen.unchanged.contains(&"n1".into()));
}

#[test]
fn a_run_whose_rows_are_not_there_yet_is_wanted_again() {
    let mut follower = Follower::new(settings());
    let old = done("n0", "nginx", T0 - MINUTE);
    follower.listed(Some(vec![rule("nginx")]), whole(vec![old.clone()]), T0);
    let silent = || run("n1", "nginx", "", "", T0);
    let list = || whole(vec![silent(), old.clone()]);
    let listed = follower.listed(None, list(), T0 + 5 * MINUTE);
    assert_eq!(ids(&listed, true), ["n1"]);
    let (_, on) = follower.polled("n1", None, &rows(&[], &silent().info));
    assert!(!on);
    let listed = follower.listed(None, list(), T0 + 10 * MINUTE);
    assert_eq!(ids(&listed, true), ["n1"]);
    // The same answer again.
    follower.polled("n1", None, &rows(&[], &silent().info));
    let listed = follower.listed(None, list(), T0 + 15 * MINUTE);
    assert_eq!(ids(&listed, true), ["n1"]);
}

/// The only rule, which synchronizes `repository` and was modified at `modified_ms`.
fn edited(repository: &str, modified_ms: i64) -> Rule {
    Rule {
        rule_id: "crasr-1".to_owned(),
        created_ms: Some(T0 - 30 * 1_440 * MINUTE),
        modified_ms: Some(modified_ms),
        ..rule(repository)
    }
}

fn created(listed: &Listed) -> Vec<(&str, Option<i64>)> {
    let entries = listed.subscriptions.iter();
    entries
        .map(|entry| (&*entry.subscription.repo_name, entry.created_ms))
        .collect()
}

#[test]
fn a_subscription_that_a_rule_was_edited_into_is_as_old_as_the_edit() {
    let month_ago = T0 - 30 * 1_440 * MINUTE;
    let mut follower = Follower::new(settings());
    let listed = follower.listed(Some(vec![edited("nginx", month_ago)]), whole(vec![]), T0);
    assert_eq!(created(&listed), [("nginx", Some(month_ago))]);

    // Edited between two listings; where the API says when, that counts.
    let at = T0 + 3 * MINUTE;
    let rules = || Some(vec![edited("httpd", at)]);
    let listed = follower.listed(rules(), None, T0 + 5 * MINUTE);
    assert_eq!(created(&listed), [("httpd", Some(at))]);
    assert_eq!(listed.removed.len(), 1);

    // A restart does not forget it; a changed pattern is no new subscription.
    let mut again = Follower::new(settings());
    let restored = again.restore(follower.save(), T0 + 60 * MINUTE);
    assert_eq!(created(&restored), [("httpd", Some(at))]);
    let pattern = Rule {
        tag_regexp: "v.*".to_owned(),
        ..edited("httpd", T0 + 62 * MINUTE)
    };
    let listed = again.listed(Some(vec![pattern]), None, T0 + 65 * MINUTE);
    assert_eq!(created(&listed), [("httpd", Some(at))]);

    // Edited while the exporter was down, and ModifiedTime says nothing usable:
    // the edit is as old as its first sight.
    let mut again = Follower::new(settings());
    again.restore(follower.save(), T0 + 120 * MINUTE);
    let rules = Some(vec![edited("nginx", month_ago)]);
    let listed = again.listed(rules, None, T0 + 125 * MINUTE);
    assert_eq!(created(&listed), [("nginx", Some(T0 + 125 * MINUTE))]);
}

#[test]
fn an_edit_of_a_rule_that_was_filtered_out_is_one_and_two_rules_of_one_id_are_none() {
    let pattern = |namespace: &str, name: &str| Pattern {
        repo_namespace: Some(namespace.parse().unwrap()),
        repo_name: Some(name.parse().unwrap()),
    };
    let mut follower = Follower::new(Settings {
        filter: Filter {
            include: Vec::new(),
            exclude: vec![pattern(".*", "redis")],
        },
        ..settings()
    });
    let now = |minute| T0 + minute * MINUTE;
    follower.listed(Some(vec![edited("redis", 0)]), None, now(0));
    let listed = follower.listed(Some(vec![edited("nginx", 0)]), None, now(5));
    assert_eq!(created(&listed), [("nginx", Some(now(5)))]);

    let mut follower = Follower::new(settings());
    let both = |first: &str, second: &str| Some(vec![edited(first, 0), edited(second, 0)]);
    let month_ago = Some(T0 - 30 * 1_440 * MINUTE);
    for minute in [0, 5, 10] {
        let (first, second) = if minute == 5 {
            ("redis", "nginx")
        } else {
            ("nginx", "redis")
        };
        let listed = follower.listed(both(first, second), None, now(minute));
        let created = created(&listed);
        assert!(
            created.iter().all(|(_, at)| *at == month_ago),
            "{minute}: {created:?}"
        );
    }
}

#[test]
fn the_oldest_rule_counts_for_the_age_of_a_subscription() {
    let rule = |id: &str, created_ms| Rule {
        rule_id: id.to_owned(),
        created_ms,
        ..rule("nginx")
    };
    let mut follower = Follower::new(settings());
    let rules = vec![
        rule("a", None),
        rule("b", Some(0)),
        rule("c", Some(3_000)),
        rule("d", Some(2_000)),
    ];
    let listed = follower.listed(Some(rules), None, T0);
    assert_eq!(created(&listed), [("nginx", Some(2_000))]);
    let listed = follower.listed(Some(vec![rule("b", Some(0))]), None, T0);
    assert_eq!(created(&listed), [("nginx", None)]);
}

#[test]
fn the_last_finished_run_says_why_it_failed_and_what_it_achieved() {
    let mut follower = Follower::new(settings());
    let rules = || Some(vec![rule("nginx")]);
    follower.listed(rules(), whole(vec![]), T0);
    let mut over = info("nginx", "COMPLETED", "FAILED", T0 + MINUTE);
    over.message = "toomanyrequests: You have reached your pull rate limit.".to_owned();
    over.task_type = "AUTO".to_owned();
    let over = ListedRun {
        task_id: "n1".into(),
        info: Arc::new(over),
    };
    let newer = run("n2", "nginx", "RUNNING", "", T0 + 4 * MINUTE);
    let list = whole(vec![newer, over.clone()]);
    let listed = follower.listed(rules(), list, T0 + 5 * MINUTE);
    let entry = &listed.subscriptions[0];
    assert_eq!(&*entry.last_run.as_ref().unwrap().task_id, "n2");
    let finished = entry.last_finished_run.as_ref().unwrap();
    assert_eq!(&*finished.task_id, "n1");
    assert_eq!(finished.info.task_type, "AUTO");
    assert_eq!(finished.cause, Some(crate::model::Cause::RateLimited));
    assert_eq!(finished.end_ms, Some(T0 + 2 * MINUTE));
    assert_eq!(finished.artifacts, None, "its rows were not read");

    let results = [("FAILED", T0 + MINUTE, 3), ("SUCCESS", T0 + MINUTE, 4)];
    let (entry, _) = follower.polled("n1", None, &rows(&results, &over.info));
    let finished = entry.unwrap().last_finished_run.unwrap();
    // Running, succeeded, failed, unknown.
    assert_eq!(finished.artifacts, Some([0, 1, 1, 0]));
}

#[test]
fn the_recent_runs_outlive_the_list_and_give_the_typical_interval() {
    let mut follower = Follower::new(settings());
    let rules = || Some(vec![rule("nginx")]);
    let of = |minute: i64| done(&format!("n{minute}"), "nginx", T0 + minute * MINUTE);
    let typical = |listed: &Listed| listed.subscriptions[0].typical_run_interval_ms;
    let listed = follower.listed(rules(), whole(vec![of(10), of(0)]), T0 + 11 * MINUTE);
    assert_eq!(typical(&listed), None, "two runs are no cadence");
    // 10 and 30 minutes between them.
    let list = whole(vec![of(40), of(10), of(0)]);
    let listed = follower.listed(rules(), list, T0 + 41 * MINUTE);
    assert_eq!(typical(&listed), Some(20 * MINUTE));
    // 10, 30 and 35.
    let list = whole(vec![of(75), of(40), of(10), of(0)]);
    let listed = follower.listed(rules(), list, T0 + 76 * MINUTE);
    assert_eq!(typical(&listed), Some(30 * MINUTE));

    // The list forgets all but the newest; so does a restart.
    let listed = follower.listed(rules(), whole(vec![of(75)]), T0 + 400 * MINUTE);
    assert_eq!(typical(&listed), Some(30 * MINUTE));
    let mut again = Follower::new(settings());
    let restored = again.restore(follower.save(), T0 + 401 * MINUTE);
    assert_eq!(typical(&restored), Some(30 * MINUTE));
    let ids = restored.subscriptions[0].recent_runs.iter();
    let ids: Vec<&str> = ids.map(|run| &*run.task_id).collect();
    assert_eq!(ids, ["n75", "n40", "n10", "n0"]);

    // 20 are kept.
    let many = (0..30).rev().map(|run| of(500 + run)).collect();
    let listed = follower.listed(rules(), whole(many), T0 + 600 * MINUTE);
    assert_eq!(listed.subscriptions[0].recent_runs.len(), 20);
    assert_eq!(typical(&listed), Some(MINUTE));
}

#[test]
fn a_run_whose_rows_failed_is_no_success_whatever_the_list_says() {
    let mut follower = Follower::new(settings());
    let rules = || Some(vec![rule("nginx")]);
    follower.listed(rules(), whole(vec![]), T0);
    let over = done("n1", "nginx", T0 + MINUTE);
    let list = || whole(vec![over.clone()]);
    let listed = follower.listed(rules(), list(), T0 + 5 * MINUTE);
    assert_eq!(
        listed.subscriptions[0].last_success_ms, None,
        "not read yet"
    );
    let results = [("SUCCESS", T0 + MINUTE, 3), ("FAILED", T0 + MINUTE, 4)];
    let (entry, _) = follower.polled("n1", None, &rows(&results, &over.info));
    let entry = entry.unwrap();
    assert_eq!(entry.last_success_ms, None);
    assert_eq!(entry.consecutive_failed_runs, 1);
    let mut again = Follower::new(settings());
    let restored = again.restore(follower.save(), T0 + 6 * MINUTE);
    assert_eq!(restored.subscriptions[0].last_success_ms, None);
    // Where its rows are denied the list has the word.
    let mut follower = Follower::new(settings());
    follower.listed(rules(), whole(vec![]), T0);
    follower.listed(rules(), list(), T0 + 5 * MINUTE);
    let (entry, _) = follower.poll_failed("n1", Reason::Forbidden, T0);
    assert_eq!(entry.unwrap().last_success_ms, Some(T0 + 2 * MINUTE));
}

#[test]
fn failures_that_leave_the_list_and_come_back_count_once() {
    let mut follower = Follower::new(settings());
    let rules = || Some(vec![rule("nginx")]);
    let of = |minute: i64| failed(&format!("n{minute}"), "nginx", T0 + minute * MINUTE);
    let all = || whole(vec![of(3), of(2), of(1)]);
    let mut now = T0 + 5 * MINUTE;
    let mut failures = |list| {
        now += 5 * MINUTE;
        let listed = follower.listed(rules(), list, now);
        let entry = listed.subscriptions.first();
        entry.map(|entry| entry.consecutive_failed_runs)
    };
    assert_eq!(failures(all()), Some(3));
    for _ in 0..3 {
        assert_eq!(failures(whole(vec![of(3), of(2)])), Some(3));
        assert_eq!(failures(all()), Some(3));
        assert_eq!(failures(whole(vec![])), Some(3));
        assert_eq!(failures(all()), Some(3));
    }
}

#[test]
fn the_newest_finished_run_outlives_the_list() {
    let mut follower = Follower::new(settings());
    let rules = || Some(vec![rule("nginx")]);
    let over = failed("n1", "nginx", T0 + MINUTE);
    follower.listed(rules(), whole(vec![over]), T0 + 5 * MINUTE);
    let running = run("n2", "nginx", "RUNNING", "", T0 + 6 * MINUTE);
    let ids = |listed: &Listed| {
        let entry = &listed.subscriptions[0];
        let id = |run: &Option<crate::store::RunSummary>| run.as_ref().unwrap().task_id.to_string();
        (id(&entry.last_run), id(&entry.last_finished_run))
    };
    let two = ("n2".to_owned(), "n1".to_owned());
    let listed = follower.listed(rules(), whole(vec![running]), T0 + 10 * MINUTE);
    assert_eq!(ids(&listed), two);
    let mut again = Follower::new(settings());
    let restored = again.restore(follower.save(), T0 + 11 * MINUTE);
    assert_eq!(ids(&restored), two);
    // With an empty list the newest run is the newest that is known to have finished.
    let listed = again.listed(rules(), whole(vec![]), T0 + 15 * MINUTE);
    assert_eq!(ids(&listed), ("n1".to_owned(), "n1".to_owned()));
}

/// What the cloud holds of a run in a random history.
#[derive(Clone, Copy, Debug)]
struct Fate {
    repository: usize,
    start: i64,
    status: usize,
    there: bool,
}

#[derive(Clone, Debug)]
enum Event {
    Run(usize, Fate),
    Rule(usize, bool),
    Polled(usize, usize),
    Failed(usize, bool),
    Listed {
        whole: bool,
        rules: bool,
        minutes: i64,
    },
}

const REPOSITORIES: [&str; 3] = ["nginx", "redis", "etcd"];
const RUNS: usize = 8;
const STATES: [(&str, &str); 5] = [
    ("RUNNING", ""),
    ("COMPLETED", "SUCCESS"),
    ("COMPLETED", "FAILED"),
    ("", ""),
    ("COMPLETED", "ODD"),
];

fn event() -> impl Strategy<Value = Event> {
    let fate = (
        0..REPOSITORIES.len(),
        -90..90i64,
        0..STATES.len(),
        any::<bool>(),
    )
        .prop_map(|(repository, start, status, there)| Fate {
            repository,
            start,
            status,
            there,
        });
    let listed = (any::<bool>(), any::<bool>(), 0..20i64);
    let listed = listed.prop_map(|(whole, rules, minutes)| Event::Listed {
        whole,
        rules,
        minutes,
    });
    prop_oneof![
        3 => (0..RUNS, fate).prop_map(|(run, fate)| Event::Run(run, fate)),
        1 => (0..REPOSITORIES.len(), any::<bool>()).prop_map(|(one, on)| Event::Rule(one, on)),
        2 => (0..RUNS, 0..4usize).prop_map(|(run, rows)| Event::Polled(run, rows)),
        1 => (0..RUNS, any::<bool>()).prop_map(|(run, gone)| Event::Failed(run, gone)),
        3 => listed,
    ]
}

proptest! {
    /// What is told as news adds up to what one is told who asks for all of it.
    #[test]
    fn only_what_has_changed_is_told_and_that_is_enough(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let settings = Settings {
            runs: 2,
            max_age: Duration::from_secs(3_600),
            max_tasks: 4,
            ..settings()
        };
        let mut follower = Follower::new(settings.clone());
        let mut fates: [Option<Fate>; RUNS] = [None; RUNS];
        let mut ruled = [true; REPOSITORIES.len()];
        let mut now = T0;
        // As the poller keeps them.
        let mut wanted = Vec::new();
        let mut entries: BTreeMap<Arc<Subscription>, SubscriptionEntry> = BTreeMap::new();
        for event in events {
            match event {
                Event::Run(run, fate) => fates[run] = Some(fate),
                Event::Rule(one, on) => ruled[one] = on,
                Event::Polled(run, number) => {
                    let id = format!("crast-{run}");
                    let Some(known) = follower.runs.get(&*id) else { continue };
                    let results = [("SUCCESS", T0, 3), ("FAILED", T0 + MINUTE, 4), ("", T0, 0)];
                    let data = rows(&results[..number], &known.info);
                    let (entry, _) = follower.polled(&id, None, &data);
                    entries.extend(entry.map(|entry| (Arc::clone(&entry.subscription), entry)));
                }
                Event::Failed(run, gone) => {
                    let reason = if gone { Reason::NotFound } else { Reason::Timeout };
                    let (entry, _) = follower.poll_failed(&format!("crast-{run}"), reason, now);
                    entries.extend(entry.map(|entry| (Arc::clone(&entry.subscription), entry)));
                }
                Event::Listed { whole, rules, minutes } => {
                    now += minutes * MINUTE;
                    let there = fates.iter().enumerate();
                    let there = there.filter_map(|(run, fate)| Some((run, fate.filter(|f| f.there)?)));
                    let mut runs: Vec<ListedRun> = there
                        .map(|(number, fate)| {
                            let (status, result) = STATES[fate.status];
                            let repository = REPOSITORIES[fate.repository];
                            let start = T0 + fate.start * MINUTE;
                            run(&format!("crast-{number}"), repository, status, result, start)
                        })
                        .collect();
                    if !whole {
                        runs.truncate(3);
                    }
                    let list = RunList { runs, whole, pages: 1 };
                    let names = REPOSITORIES.iter().zip(ruled).filter(|(_, ruled)| *ruled);
                    let rules = rules.then(|| names.map(|(name, _)| rule(name)).collect());
                    let listed = follower.listed(rules, Some(list), now);
                    for key in &listed.removed {
                        entries.remove(key);
                    }
                    let news = listed.subscriptions.into_iter();
                    entries.extend(news.map(|entry| (Arc::clone(&entry.subscription), entry)));
                    wanted = listed.wanted.unwrap_or(wanted);

                    let mut asked = Follower::new(settings.clone());
                    let all = asked.restore(follower.save(), now);
                    prop_assert_eq!(&wanted, &all.wanted.unwrap());
                    prop_assert_eq!(listed.dropped, all.dropped);
                    let entries: Vec<_> = entries.values().cloned().collect();
                    prop_assert_eq!(entries, all.subscriptions);
                }
            }
        }
    }
}
