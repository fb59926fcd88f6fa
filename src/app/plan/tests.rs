//! The arithmetic by hand, and against the scheduler in paused time: what the plan
//! says is what it does.

#![expect(
    clippy::float_cmp,
    reason = "whole numbers and halves, which are exact"
)]

use std::sync::{Arc, Mutex};

use alibaba_cloud::clock::Clock;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::app::{follows, settings, store, watches};
use crate::config;
use crate::metrics::own::{Build, Own};
use crate::model::{ListedRun, Row, Rule, TaskInfo};
use crate::poll::{Requests, RunList, Scheduler, Source, SourceError, Work};
use crate::store::Target;
use crate::store::state::State;

fn config(extra: &str) -> Config {
    let text = format!(
        "{extra}\ninstances:\n- {{ id: cri-a, region: cn-hangzhou, tasks: [crast-1, {{ id: crast-2, name: nginx, interval: 30s }}] }}\n"
    );
    config::parse(&text, "test.yaml").unwrap()
}

fn followed(extra: &str, follow: &str) -> Config {
    let text = format!(
        "{extra}\ninstances:\n- {{ id: cri-a, region: cn-hangzhou, follow: {{ {follow} }} }}\n"
    );
    config::parse(&text, "test.yaml").unwrap()
}

fn whole(config: &Config) -> Plan<'_> {
    Plan::new(config, Shard::WHOLE)
}

fn shards(total: u32) -> impl Iterator<Item = Shard> {
    (0..total).filter_map(move |index| Shard::new(index, total))
}

#[test]
fn calls_follow_the_intervals() {
    let config = config("");
    let plan = whole(&config);
    // Finished: 24 an hourly re-check each; empty: 2 × 1440 and 2 × 2880.
    let expected = Calls {
        start: 4.0,
        steady: BTreeMap::from([(Lever::FinishedInterval, 48.0)]),
        worst: BTreeMap::from([(Lever::Interval, 2_880.0), (Lever::OwnInterval, 5_760.0)]),
    };
    assert_eq!(plan.accounts.len(), 1);
    assert_eq!(plan.accounts[0].calls, expected);
    assert_eq!(plan.instances[0].calls, expected);
    assert_eq!(plan.warnings(), Vec::<String>::new());
}

#[test]
fn an_interval_longer_than_the_rests_counts_in_either_state() {
    let text = "poll: { interval: 2h, finished_interval: 2h }
instances: [{ id: cri-a, region: cn-hangzhou, tasks: [crast-1, { id: crast-2, interval: 4h }] }]";
    let config = config::parse(text, "test.yaml").unwrap();
    let calls = &whole(&config).accounts[0].calls;
    let expected = BTreeMap::from([(Lever::Interval, 12.0), (Lever::OwnInterval, 6.0)]);
    assert_eq!(calls.steady, expected);
}

#[test]
fn what_is_followed_is_counted_as_much_as_there_may_be() {
    let config = followed("", "");
    let plan = whole(&config);
    // 1 000 subscriptions on 10 pages of rules, their 1 000 runs on 10 pages, of
    // which 9 at every second of 288 listings; at worst 100 pages of either list.
    let expected = Calls {
        start: 1_020.0,
        steady: BTreeMap::from([
            (Lever::Listings, 288.0 * 15.5),
            (Lever::FinishedRuns, 1_000.0),
        ]),
        worst: BTreeMap::from([(Lever::Listings, 57_600.0), (Lever::Runs, 2_880_000.0)]),
    };
    assert_eq!(plan.accounts[0].calls, expected);

    let config = followed("api: { max_pages: 4 }", "runs: 10, max_tasks: 1001");
    let calls = &whole(&config).accounts[0].calls;
    // 101 subscriptions on 2 pages; more than 4 pages would not be read.
    assert_eq!(calls.start, 2.0 + 4.0 + 1_001.0);

    let config = followed("", "max_tasks: 0");
    assert_eq!(whole(&config).accounts[0].calls.steady(), 576.0);
}

#[test]
fn lists_are_read_on_before_what_is_known_is_stale() {
    for (stale_after, interval, expected) in [
        ("5m", "5m", 2.0),
        // Fresh for 5 intervals: 4 later it would be stale before the 5th has ended.
        ("5m", "1m", 4.0),
        // Every six hours whatever is stale.
        ("30d", "1h", 6.0),
        ("5m", "12h", 1.0),
    ] {
        let config = followed(
            &format!("poll: {{ stale_after: {stale_after} }}"),
            &format!("interval: {interval}"),
        );
        let follow = config.instances[0].follow.as_ref().unwrap();
        assert_eq!(listings_until_read_on(&config, follow), expected);
    }
}

#[test]
fn shards_divide_tasks_and_runs_and_each_pays_for_the_lists() {
    let tasks: Vec<String> = (0..30).map(|n| format!("crast-{n}")).collect();
    let text = format!(
        "instances: [{{ id: cri-a, region: cn-hangzhou, tasks: [{}], follow: {{ max_tasks: 90 }} }}]",
        tasks.join(", ")
    );
    let config = config::parse(&text, "test.yaml").unwrap();
    let mut tasks = 0;
    let mut worst = 0.0;
    for shard in shards(3) {
        let plan = Plan::new(&config, shard);
        let account = &plan.accounts[0];
        tasks += account.tasks;
        assert!((1..30).contains(&account.tasks), "{}", account.tasks);
        let polled = u32::try_from(account.tasks).unwrap();
        assert_eq!(
            account.calls.start,
            2.0 * f64::from(polled) + 1.0 + 1.0 + 30.0
        );
        assert_eq!(account.calls.steady[&Lever::Listings], 576.0);
        assert_eq!(account.calls.steady[&Lever::FinishedRuns], 30.0);
        assert_eq!(account.calls.worst[&Lever::Listings], 57_600.0);
        worst += account.calls.worst();
        // 30 tasks and 90 runs, 2 × 1 440 each, and three times both lists.
        assert_eq!(account.worst_of_all, 518_400.0);

        let text = plan.to_string();
        let head = format!("shard {} of 3", shard.index());
        assert!(text.starts_with(&head), "{text}");
        let others = format!("tasks of other shards, not polled here: {}", 30 - polled);
        assert!(text.contains(&others), "{text}");
        assert_eq!(
            text.matches("  task crast-").count(),
            account.tasks,
            "{text}"
        );
        // 518 400 of 432 000.
        let all = "all 3 shards together, each listing for itself: at worst 518400 a day, 120.0 % of the account's 5 requests a second";
        assert!(text.contains(all), "{text}");
        assert!(text.contains("at most 1.667 requests a second"), "{text}");
        assert!(text.contains("at most about 30 runs"), "{text}");
    }
    assert_eq!(tasks, 30);
    assert_eq!(worst, 518_400.0);
}

#[test]
fn a_crowded_rate_limit_is_warned_about() {
    // 8 640 calls a day are one each 10 s: 0.1 a second; 80 % of 0.12 is less.
    let crowded = config("api: { requests_per_second: 0.12 }");
    assert_eq!(
        whole(&crowded).warnings(),
        [
            "credentials default: 8640 calls a day at worst, with every task empty or running, are 83 % of the rate limit of 0.12 requests a second; the limit holds, so polls come late then and data may turn stale; to prevent it raise poll.interval or raise the tasks' own interval, or raise api.requests_per_second if the account's quota allows"
        ]
    );
    let roomy = config("api: { requests_per_second: 0.13 }");
    assert_eq!(whole(&roomy).warnings(), Vec::<String>::new());
}

#[test]
fn a_warning_names_what_would_help() {
    let advice = |config: &Config| {
        let warnings = whole(config).warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let (_, advice) = warnings[0].split_once("to prevent it ").unwrap();
        advice.split_once(", or raise api").unwrap().0.to_owned()
    };
    // Lists are a fiftieth of what the runs cost.
    assert_eq!(
        advice(&followed("", "")),
        "raise poll.interval or lower follow.max_tasks"
    );
    // One page of each list, each second.
    assert_eq!(
        advice(&followed(
            "api: { requests_per_second: 2 }",
            "interval: 1s, max_tasks: 1"
        )),
        "raise follow.interval"
    );
    // 96 calls a day once all is finished, of 86.
    assert_eq!(
        advice(&config(
            "poll: { finished_interval: 30m }\napi: { requests_per_second: 0.001 }"
        )),
        "raise poll.finished_interval"
    );
    // 1 000 runs a day, and 18 of the lists.
    assert_eq!(
        advice(&followed(
            "api: { requests_per_second: 0.01 }",
            "interval: 1d"
        )),
        "lower follow.max_tasks"
    );
}

#[test]
fn a_shard_is_held_to_its_part_of_the_rate() {
    let config = followed("", "max_tasks: 140");
    // 140 × 2 880 and 57 600 are 461 000 of 432 000; of each of two shards
    // 70 × 2 880 and 57 600, 259 200 of 216 000.
    for shard in shards(2) {
        let warnings = Plan::new(&config, shard).warnings();
        let part = "259200 calls a day at worst, with every task and run empty or running, are 120 % of this shard's part of the rate limit, 2.5 requests a second;";
        assert!(warnings[0].contains(part), "{warnings:?}");
    }
}

#[test]
fn the_policy_names_the_instances_and_nothing_more() {
    let config = config("");
    let policy: serde_json::Value = serde_json::from_str(&whole(&config).ram_policy()).unwrap();
    let statement = &policy["Statement"][0];
    assert_eq!(
        statement["Resource"],
        serde_json::json!(["acs:cr:cn-hangzhou:*:instance/cri-a"])
    );
    assert_eq!(statement["Action"], serde_json::json!(ACTIONS));
}

#[test]
fn rates_are_rounded() {
    let rates = [5.0, 0.12, 5.0 / 3.0, 0.001 / 3.0].map(|rate| short(rate).to_string());
    assert_eq!(rates, ["5", "0.12", "1.667", "0.000333"]);
}

const START_MS: i64 = 1_700_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Tasks {
    Finished,
    Empty,
}

/// A registry whose list is newest first, and whose tasks are all in one state.
struct Cloud {
    runs: i64,
    page: usize,
    state: Tasks,
    calls: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// Rows and the task itself of tasks that the configuration names.
    named: u32,
    /// The same of runs.
    runs: u32,
    pages: u32,
}

impl Cloud {
    fn info(&self, number: i64) -> TaskInfo {
        let start = START_MS - 3_600_000 - number * 1_000;
        let finished = self.state == Tasks::Finished;
        TaskInfo {
            repo_namespace: "mirror".to_owned(),
            repo_name: format!("r{number}"),
            status: if finished { "COMPLETED" } else { "RUNNING" }.to_owned(),
            result: if finished { "SUCCESS" } else { "" }.to_owned(),
            start_ms: Some(start),
            end_ms: finished.then_some(start + 60_000),
            ..TaskInfo::default()
        }
    }

    fn count(&self, target: &Target) {
        let mut calls = self.calls.lock().unwrap();
        if target.task_id.starts_with("crast-named") {
            calls.named += 1;
        } else {
            calls.runs += 1;
        }
    }

    fn count_pages(&self, rows: usize) {
        let pages = u32::try_from(rows.div_ceil(self.page)).unwrap();
        self.calls.lock().unwrap().pages += pages;
    }
}

impl Source for Cloud {
    type Budget = ();
    type Rows = Vec<Row>;

    fn budget(&self) {}

    fn listing_budget(&self, _: Duration) {}

    async fn rows(&self, target: &Target, (): &mut ()) -> Result<Vec<Row>, SourceError> {
        self.count(target);
        let info = self.info(0);
        let row = Row {
            tag: "1".to_owned(),
            status: info.status,
            result: info.result,
            start_ms: info.start_ms,
            end_ms: info.end_ms,
            ..Row::default()
        };
        let rows = (self.state == Tasks::Finished).then_some(row);
        Ok(rows.into_iter().collect())
    }

    async fn task(&self, target: &Target, (): &mut ()) -> Result<TaskInfo, SourceError> {
        self.count(target);
        let number = target.task_id.rsplit('-').next().unwrap().parse();
        Ok(self.info(number.unwrap()))
    }

    async fn rules(&self, _: &str, (): &mut ()) -> Result<Vec<Rule>, SourceError> {
        let rules: Vec<Rule> = (0..self.runs)
            .map(|number| Rule {
                rule_id: format!("crasr-{number}"),
                subscription: self.info(number).subscription(),
                tag_regexp: ".*".to_owned(),
                created_ms: Some(START_MS),
                ..Rule::default()
            })
            .collect();
        self.count_pages(rules.len());
        Ok(rules)
    }

    async fn runs(
        &self,
        _: &str,
        (): &mut (),
        mut go_on: impl FnMut(&[ListedRun]) -> bool + Send,
    ) -> Result<RunList, SourceError> {
        let all: Vec<ListedRun> = (0..self.runs)
            .map(|number| ListedRun {
                task_id: format!("crast-{number}").into(),
                info: Arc::new(self.info(number)),
            })
            .collect();
        let mut read = 0;
        for page in all.chunks(self.page) {
            read += page.len();
            if !go_on(page) {
                break;
            }
        }
        self.count_pages(read);
        Ok(RunList {
            pages: u32::try_from(read.div_ceil(self.page)).unwrap(),
            whole: read == all.len(),
            runs: all[..read].to_vec(),
        })
    }
}

/// What a day costs, the first one, which holds the start, left out.
async fn a_day(config: &Config, runs: i64, state: Tasks) -> Counted {
    let cloud = Arc::new(Cloud {
        runs,
        page: config.api.page_size.size(),
        state,
        calls: Mutex::default(),
    });
    let work = Work {
        watches: watches(config, Shard::WHOLE),
        follows: follows(config, Shard::WHOLE),
        state: State::default(),
    };
    let (scheduler, _) = Scheduler::new(
        Arc::clone(&cloud),
        Arc::new(store(config, false, Clock::of_tokio(START_MS))),
        Arc::new(Own::new(Build::CURRENT)),
        Clock::of_tokio(START_MS),
        settings(config),
        work,
    );
    let requests = Requests::default();
    let stop = CancellationToken::new();
    let run = tokio::spawn(scheduler.run(requests, stop.clone()));
    tokio::time::sleep(DAY).await;
    *cloud.calls.lock().unwrap() = Counted::default();
    tokio::time::sleep(DAY).await;
    let counted = std::mem::take(&mut *cloud.calls.lock().unwrap());
    stop.cancel();
    run.await.unwrap();
    counted
}

fn many(tasks: u32, page: u32, most: u32, runs: i64) -> Config {
    let tasks: Vec<String> = (0..tasks).map(|n| format!("crast-named-{n}")).collect();
    let text = format!(
        "api: {{ page_size: {page}, max_pages: {most} }}
instances: [{{ id: cri-a, region: cn-hangzhou, tasks: [{}], follow: {{ max_tasks: {runs} }} }}]",
        tasks.join(", ")
    );
    config::parse(&text, "test.yaml").unwrap()
}

/// Within 15 %, each part by itself.
fn assert_as_planned(counted: &Counted, planned: [f64; 3]) {
    let counted = [counted.named, counted.runs, counted.pages].map(f64::from);
    for (counted, planned) in counted.into_iter().zip(planned) {
        let ratio = counted / planned;
        assert!(
            (0.85..=1.15).contains(&ratio),
            "{counted} of {planned} planned"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_steady_day_costs_what_the_plan_says() {
    let config = many(40, 10, 100, 200);
    let counted = a_day(&config, 200, Tasks::Finished).await;
    let plan = whole(&config);
    let steady = &plan.accounts[0].calls.steady;
    let planned = [
        Lever::FinishedInterval,
        Lever::FinishedRuns,
        Lever::Listings,
    ];
    assert_as_planned(&counted, planned.map(|lever| steady[&lever]));
}

#[tokio::test(start_paused = true)]
async fn the_worst_day_costs_what_the_plan_says_and_no_more() {
    // Lists of just as many pages as there may be.
    let config = many(4, 1, 8, 8);
    let counted = a_day(&config, 8, Tasks::Empty).await;
    let plan = whole(&config);
    let worst = &plan.accounts[0].calls.worst;
    let planned = [Lever::Interval, Lever::Runs, Lever::Listings].map(|lever| worst[&lever]);
    assert_as_planned(&counted, planned);
    // 2 × 1 440 of 12, and 288 listings of 16 pages.
    assert!(counted.named + counted.runs + counted.pages <= 39_168);
}
