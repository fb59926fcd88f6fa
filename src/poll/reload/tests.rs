//! New configurations in paused time, against a scripted cloud.

use std::sync::Mutex;
use std::time::Duration;

use alibaba_cloud::Reason;
use alibaba_cloud::clock::Clock;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::{Requests, RunList, SourceError, StateRequest, Work};
use super::*;
use crate::follow;
use crate::follow::settings::Pattern;
use crate::metrics::own::{Build, Own};
use crate::model::{
    Cause, Causes, ListedRun, Meaning, Row, Rule, Subscription, TaskInfo, TaskStatus, Words,
};
use crate::shard::Shard;
use crate::store::{ArtifactSeries, Limits, Origin, Store, Target, TaskEntry};

const START_MS: i64 = 1_700_000_000_000;
const FAR: Duration = Duration::from_secs(1_000_000);

/// One configuration's way to the cloud; all of them note their calls together.
struct Cloud {
    name: &'static str,
    start: Instant,
    calls: Arc<Mutex<Vec<(u64, String)>>>,
    refused: Mutex<Option<Reason>>,
    /// How long an answer takes.
    takes: Mutex<Duration>,
    row: Mutex<Row>,
    repositories: Vec<&'static str>,
}

impl Cloud {
    async fn answer(&self, what: &str) -> Result<(), SourceError> {
        let seconds = self.start.elapsed().as_secs();
        let call = format!("{} {what}", self.name);
        self.calls.lock().unwrap().push((seconds, call));
        let takes = *self.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        match *self.refused.lock().unwrap() {
            None => Ok(()),
            Some(reason) => Err(SourceError {
                reason,
                text: reason.to_string(),
            }),
        }
    }
}

impl Source for Cloud {
    type Budget = ();
    type Rows = Vec<Row>;

    fn budget(&self) {}

    fn listing_budget(&self, _: Duration) {}

    async fn rows(&self, target: &Target, (): &mut ()) -> Result<Vec<Row>, SourceError> {
        self.answer(&target.task_id).await?;
        Ok(vec![self.row.lock().unwrap().clone()])
    }

    async fn task(&self, _: &Target, (): &mut ()) -> Result<TaskInfo, SourceError> {
        Ok(TaskInfo {
            message: "as planned".to_owned(),
            ..TaskInfo::default()
        })
    }

    async fn rules(&self, _: &str, (): &mut ()) -> Result<Vec<Rule>, SourceError> {
        self.answer("rules").await?;
        let rule = |name: &&str| Rule {
            rule_id: format!("crasr-{name}"),
            subscription: subscription(name),
            tag_regexp: String::new(),
            created_ms: None,
            ..Rule::default()
        };
        Ok(self.repositories.iter().map(rule).collect())
    }

    async fn runs(
        &self,
        _: &str,
        (): &mut (),
        _: impl FnMut(&[ListedRun]) -> bool + Send,
    ) -> Result<RunList, SourceError> {
        self.answer("runs").await?;
        let run = |name: &&str| ListedRun {
            task_id: format!("run-{name}").into(),
            info: Arc::new(TaskInfo {
                repo_namespace: "mirror".to_owned(),
                repo_name: (*name).to_owned(),
                status: "COMPLETED".to_owned(),
                result: "SUCCESS".to_owned(),
                start_ms: Some(START_MS - 2_000),
                end_ms: Some(START_MS - 1_000),
                ..TaskInfo::default()
            }),
        };
        Ok(RunList {
            runs: self.repositories.iter().map(run).collect(),
            whole: true,
            pages: 1,
        })
    }
}

fn subscription(name: &str) -> Subscription {
    Subscription {
        repo_namespace: "mirror".to_owned(),
        repo_name: name.to_owned(),
        source_provider: String::new(),
        source_repository: String::new(),
    }
}

fn done() -> Row {
    Row {
        tag: "1".to_owned(),
        status: "COMPLETED".to_owned(),
        result: "SUCCESS".to_owned(),
        start_ms: Some(1_000),
        end_ms: Some(2_000),
        ..Row::default()
    }
}

fn running() -> Row {
    Row {
        status: "RUNNING".to_owned(),
        result: String::new(),
        end_ms: None,
        ..done()
    }
}

struct Bench {
    start: Instant,
    calls: Arc<Mutex<Vec<(u64, String)>>>,
    store: Arc<Store>,
    own: Arc<Own>,
    changes: mpsc::Sender<Change<Cloud>>,
    states: mpsc::Sender<StateRequest>,
    stop: CancellationToken,
    run: JoinHandle<()>,
}

/// What a test's configuration says.
#[derive(Clone)]
struct Said {
    watches: Vec<Watch>,
    follows: Vec<Follow>,
    accounts: Vec<&'static str>,
    instances: Vec<&'static str>,
    words: Words,
    causes: Causes,
    asked_anew: Vec<&'static str>,
}

fn watch(id: &str, name: &str, seconds: u64) -> Watch {
    Watch {
        target: Arc::new(Target {
            instance_id: "cri-a".into(),
            task_id: id.into(),
            task: name.into(),
            region: "".into(),
            artifacts: ArtifactSeries::All,
            origin: Origin::Configured,
        }),
        interval: Duration::from_secs(seconds),
        account: 0,
        followed: None,
    }
}

fn follow(configured: &[&str]) -> Follow {
    Follow {
        settings: follow::Settings {
            instance_id: "cri-a".into(),
            region: "".into(),
            interval: Duration::from_secs(300),
            stale_after: Duration::from_secs(300),
            filter: follow::Filter::default(),
            runs: 1,
            max_age: FAR,
            max_tasks: 100,
            artifacts: ArtifactSeries::All,
            configured: configured.iter().map(|id| (*id).into()).collect(),
            shard: Shard::WHOLE,
            words: Words::default(),
            causes: Causes::default(),
        },
        account: 0,
    }
}

fn said(watches: Vec<Watch>) -> Said {
    Said {
        watches,
        follows: Vec::new(),
        accounts: vec!["one"],
        instances: vec!["cri-a"],
        words: Words::default(),
        causes: Causes::default(),
        asked_anew: Vec::new(),
    }
}

impl Said {
    fn settings(&self) -> Settings {
        Settings {
            words: self.words.clone(),
            causes: self.causes.clone(),
            interval: Duration::from_secs(60),
            finished_interval: Duration::from_secs(3_600),
            concurrency: 2,
            instances: self.instances.iter().map(|&id| id.into()).collect(),
            accounts: self.accounts.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

fn cloud(name: &'static str, start: Instant, calls: &Arc<Mutex<Vec<(u64, String)>>>) -> Cloud {
    Cloud {
        name,
        start,
        calls: Arc::clone(calls),
        refused: Mutex::default(),
        takes: Mutex::new(Duration::from_millis(100)),
        row: Mutex::new(done()),
        repositories: vec!["nginx", "redis"],
    }
}

impl Bench {
    fn new(said: &Said, prepare: impl FnOnce(&mut Cloud)) -> Self {
        let start = Instant::now();
        let calls = Arc::default();
        let mut source = cloud("old", start, &calls);
        prepare(&mut source);
        let limits = Limits {
            series: 1_000,
            artifacts_per_task: 100,
            stale_after: Duration::from_secs(300),
        };
        let store = Arc::new(Store::new(limits, []));
        let own = Arc::new(Own::new(Build::CURRENT));
        let (scheduler, _) = Scheduler::new(
            Arc::new(source),
            Arc::clone(&store),
            Arc::clone(&own),
            Clock::of_tokio(START_MS),
            said.settings(),
            Work {
                watches: said.watches.clone(),
                follows: said.follows.clone(),
                ..Work::default()
            },
        );
        let (changes, asked) = mpsc::channel(1);
        let (states, state_requests) = mpsc::channel(1);
        let requests = Requests {
            changes: asked,
            states: state_requests,
            ..Requests::default()
        };
        let stop = CancellationToken::new();
        Self {
            run: tokio::spawn(scheduler.run(requests, stop.clone())),
            start,
            calls,
            store,
            own,
            changes,
            states,
            stop,
        }
    }

    async fn change(&self, said: &Said, prepare: impl FnOnce(&mut Cloud)) {
        let mut source = cloud("new", self.start, &self.calls);
        prepare(&mut source);
        let (done, in_force) = oneshot::channel();
        let change = Change {
            source: Arc::new(source),
            settings: said.settings(),
            watches: said.watches.clone(),
            follows: said.follows.clone(),
            asked_anew: said.asked_anew.iter().map(|&id| id.into()).collect(),
            done,
        };
        assert!(self.changes.send(change).await.is_ok());
        in_force.await.unwrap();
    }

    /// Calls since the last look, with their second.
    fn calls(&self) -> Vec<(u64, String)> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn called(&self) -> Vec<String> {
        let mut calls: Vec<String> = self.calls().into_iter().map(|(_, call)| call).collect();
        calls.sort_unstable();
        calls
    }

    fn entry(&self, id: &str) -> Option<TaskEntry> {
        let snapshot = self.store.snapshot();
        let mut entries = snapshot.entries().iter();
        entries.find(|entry| &*entry.target.task_id == id).cloned()
    }

    fn status(&self, id: &str) -> TaskStatus {
        self.entry(id).unwrap().data.as_ref().unwrap().status
    }

    fn family(&self, name: &str) -> usize {
        let families = self.own.gather();
        let found = families.iter().find(|family| family.name() == name);
        found.map_or(0, |family| family.get_metric().len())
    }

    async fn end(self) {
        self.stop.cancel();
        drop(self.states);
        self.run.await.unwrap();
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_again_changes_nothing() {
    let said = Said {
        follows: vec![follow(&["crast-1", "crast-2"])],
        ..said(vec![
            watch("crast-1", "one", 60),
            watch("crast-2", "two", 30),
        ])
    };
    let mut logs = Vec::new();
    for reloads in [false, true] {
        let bench = Bench::new(&said, |cloud| cloud.name = "");
        for _ in 0..20 {
            pass(97).await;
            if reloads {
                bench.change(&said, |cloud| cloud.name = "").await;
            }
        }
        logs.push(bench.calls());
        bench.end().await;
    }
    assert!(logs[0].len() > 20, "{:?}", logs[0]);
    assert_eq!(logs[0], logs[1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_new_is_due_at_once_and_what_is_gone_leaves() {
    let bench = Bench::new(
        &said(vec![
            watch("crast-1", "one", 60),
            watch("crast-2", "two", 60),
        ]),
        |_| {},
    );
    pass(10).await;
    assert_eq!(bench.called(), ["old crast-1", "old crast-2"]);
    let before = bench.entry("crast-2").unwrap();
    bench
        .change(
            &said(vec![
                watch("crast-2", "renamed", 60),
                watch("crast-3", "three", 60),
            ]),
            |_| {},
        )
        .await;
    assert_eq!(bench.entry("crast-1"), None);
    let renamed = bench.entry("crast-2").unwrap();
    assert_eq!(&*renamed.target.task, "renamed");
    assert_eq!(renamed.data, before.data);
    assert_eq!(renamed.next_poll_ms, before.next_poll_ms);
    pass(1).await;
    assert_eq!(bench.called(), ["new crast-3"]);
    pass(600).await;
    assert!(!bench.called().contains(&"new crast-1".to_owned()));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_poll_under_way_counts_where_its_task_stays() {
    let slow = |cloud: &mut Cloud| cloud.takes = Mutex::new(Duration::from_secs(5));
    let both = said(vec![
        watch("crast-1", "one", 60),
        watch("crast-2", "two", 60),
    ]);
    let bench = Bench::new(&both, slow);
    pass(1).await;
    bench
        .change(&said(vec![watch("crast-1", "one", 60)]), |_| {})
        .await;
    pass(10).await;
    assert_eq!(bench.called(), ["old crast-1", "old crast-2"]);
    assert_eq!(bench.status("crast-1"), TaskStatus::Succeeded);
    assert_eq!(bench.entry("crast-2"), None);
    // Gone and back while its poll is under way: there is no second one.
    let bench = Bench::new(&both, slow);
    pass(1).await;
    bench
        .change(&said(vec![watch("crast-1", "one", 60)]), |_| {})
        .await;
    bench.change(&both, |_| {}).await;
    pass(10).await;
    assert_eq!(bench.called(), ["old crast-1", "old crast-2"]);
    assert_eq!(bench.status("crast-2"), TaskStatus::Succeeded);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn another_interval_holds_from_now_on() {
    let running = |cloud: &mut Cloud| cloud.row = Mutex::new(running());
    let bench = Bench::new(&said(vec![watch("crast-1", "one", 3_600)]), running);
    pass(10).await;
    bench.calls();
    bench
        .change(&said(vec![watch("crast-1", "one", 60)]), running)
        .await;
    pass(600).await;
    let polls = bench.calls().len();
    assert!((9..=11).contains(&polls), "{polls} in 10 minutes");
    let entry = bench.entry("crast-1").unwrap();
    assert_eq!(entry.interval, Duration::from_secs(60));
    bench
        .change(&said(vec![watch("crast-1", "one", 600)]), running)
        .await;
    pass(6_000).await;
    let polls = bench.calls().len();
    assert!((10..=11).contains(&polls), "{polls} in 100 minutes");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_tried_at_once_with_other_keys() {
    let mut said = said(vec![watch("crast-1", "one", 3_600)]);
    said.follows = vec![follow(&["crast-1"])];
    let bench = Bench::new(&said, |cloud| {
        cloud.refused = Mutex::new(Some(Reason::Auth));
    });
    pass(10).await;
    assert!(bench.entry("crast-1").unwrap().error.is_some());
    bench.calls();
    bench
        .change(&said, |cloud| {
            cloud.refused = Mutex::new(Some(Reason::Auth));
        })
        .await;
    pass(10).await;
    assert_eq!(
        bench.called(),
        [""; 0],
        "nothing says that it would work now"
    );
    said.asked_anew = vec!["cri-a"];
    bench.change(&said, |_| {}).await;
    pass(1).await;
    assert_eq!(
        bench.called(),
        [
            "new crast-1",
            "new rules",
            "new run-nginx",
            "new run-redis",
            "new runs"
        ]
    );
    assert_eq!(bench.entry("crast-1").unwrap().error, None);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn other_words_are_read_into_the_answers_within_an_interval() {
    let odd = |cloud: &mut Cloud| {
        cloud.row = Mutex::new(Row {
            result: "BRILLIANT".to_owned(),
            ..done()
        });
    };
    let mut said = said(vec![watch("crast-1", "one", 60)]);
    let bench = Bench::new(&said, odd);
    // Finished in an odd way: polled once an hour by now.
    pass(40_000).await;
    assert_eq!(bench.status("crast-1"), TaskStatus::Unknown);
    said.words = Words::with([(Meaning::Succeeded, "BRILLIANT".to_owned())]);
    bench.change(&said, odd).await;
    pass(61).await;
    assert_eq!(bench.status("crast-1"), TaskStatus::Succeeded);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn other_causes_count_at_once_and_without_a_poll() {
    let failed = |cloud: &mut Cloud| {
        cloud.row = Mutex::new(Row {
            result: "FAILED".to_owned(),
            ..done()
        });
    };
    let mut said = said(vec![watch("crast-1", "one", 60)]);
    let bench = Bench::new(&said, failed);
    pass(40_000).await;
    let cause = || bench.entry("crast-1").unwrap().cause;
    assert_eq!(cause(), Some(Cause::Other));
    let pattern = regex::Regex::new("planned$").unwrap();
    said.causes = Causes::with([(Cause::Quota, pattern)]);
    bench.calls();
    bench.change(&said, failed).await;
    assert_eq!(cause(), Some(Cause::Quota));
    assert_eq!(bench.calls(), []);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn accounts_may_come_go_and_change_their_order() {
    let tasks = |account| {
        let watches = (1..=6).map(|n| Watch {
            account,
            ..watch(&format!("crast-{n}"), "x", 60)
        });
        watches.collect::<Vec<_>>()
    };
    let slow = |cloud: &mut Cloud| cloud.takes = Mutex::new(Duration::from_secs(5));
    let bench = Bench::new(&said(tasks(0)), slow);
    pass(1).await;
    // Two are under way, four wait for them.
    assert_eq!(bench.called().len(), 2);
    let mut changed = said(tasks(1));
    changed.accounts = vec!["three", "two"];
    bench.change(&changed, slow).await;
    pass(1).await;
    assert_eq!(bench.called().len(), 0, "the new account has two under way");
    pass(20).await;
    assert_eq!(bench.called().len(), 4);
    for n in 1..=6 {
        assert_eq!(bench.status(&format!("crast-{n}")), TaskStatus::Succeeded);
    }
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn another_filter_keeps_what_was_counted() {
    let mut all = said(Vec::new());
    all.follows = vec![follow(&[])];
    let bench = Bench::new(&all, |_| {});
    pass(10).await;
    assert_eq!(bench.store.snapshot().subscriptions(), 2);
    bench.calls();
    let mut some = all.clone();
    some.follows[0].settings.filter.include = vec![Pattern {
        repo_namespace: Some("mirror".parse().unwrap()),
        repo_name: Some("nginx".parse().unwrap()),
    }];
    bench.change(&some, |_| {}).await;
    assert_eq!(bench.store.snapshot().subscriptions(), 1);
    assert!(bench.entry("run-nginx").is_some());
    assert_eq!(bench.entry("run-redis"), None);
    pass(1).await;
    assert_eq!(
        bench.called(),
        ["new rules", "new runs"],
        "read at once, known runs not"
    );
    bench.change(&all, |_| {}).await;
    pass(1).await;
    assert_eq!(bench.store.snapshot().subscriptions(), 2);
    let (request, answer) = oneshot::channel();
    bench.states.send(request).await.unwrap();
    let state = answer.await.unwrap();
    assert!(
        state.instances[0].runs.iter().all(|run| run.counted),
        "history stays history"
    );
    assert_eq!(bench.family("aliyun_acr_exporter_follow_up"), 1);

    bench.change(&said(Vec::new()), |_| {}).await;
    assert_eq!(bench.store.snapshot().subscriptions(), 0);
    assert_eq!(bench.store.snapshot().listings().count(), 0);
    assert_eq!(bench.entry("run-nginx"), None);
    assert_eq!(bench.family("aliyun_acr_exporter_follow_up"), 0);
    bench.calls();
    pass(10_000).await;
    assert_eq!(bench.called(), [""; 0]);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_being_read_for_the_old_configuration_says_nothing() {
    let slow = |cloud: &mut Cloud| cloud.takes = Mutex::new(Duration::from_secs(5));
    let mut said = said(Vec::new());
    said.follows = vec![follow(&[])];
    let bench = Bench::new(&said, slow);
    pass(7).await;
    bench.change(&self::said(Vec::new()), |_| {}).await;
    pass(10).await;
    assert_eq!(bench.store.snapshot().subscriptions(), 0);
    assert_eq!(bench.store.snapshot().listings().count(), 0);
    bench.change(&said, |_| {}).await;
    pass(1).await;
    assert_eq!(bench.store.snapshot().subscriptions(), 2);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_followed_run_may_be_named_and_a_named_one_followed() {
    let mut followed = said(Vec::new());
    followed.follows = vec![follow(&[])];
    let bench = Bench::new(&followed, |_| {});
    pass(10).await;
    let known = bench.entry("run-nginx").unwrap();
    assert_eq!(&*known.target.task, "mirror/nginx");
    let mut named = said(vec![watch("run-nginx", "mine", 60)]);
    named.follows = vec![follow(&["run-nginx"])];
    bench.change(&named, |_| {}).await;
    let now = bench.entry("run-nginx").unwrap();
    assert_eq!(&*now.target.task, "mine");
    assert_eq!(now.data, known.data);
    assert_eq!(now.interval, Duration::from_secs(60));
    bench.change(&followed, |_| {}).await;
    let now = bench.entry("run-nginx").unwrap();
    assert_eq!(&*now.target.task, "mirror/nginx");
    assert_eq!(now.data, known.data);
    assert_eq!(now.interval, Duration::from_secs(300));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_has_its_metrics_for_as_long_as_it_is_configured() {
    let said = said(vec![watch("crast-1", "nginx", 60)]);
    let bench = Bench::new(&said, |_| {});
    let polls = "aliyun_acr_exporter_polls_total";
    let failures = "aliyun_acr_exporter_poll_failures_total";
    pass(10).await;
    assert_eq!((bench.family(polls), bench.family(failures)), (1, 12));
    let both = Said {
        instances: vec!["cri-a", "cri-b"],
        ..said.clone()
    };
    bench.change(&both, |_| {}).await;
    assert_eq!((bench.family(polls), bench.family(failures)), (2, 24));
    let neither = Said {
        instances: Vec::new(),
        watches: Vec::new(),
        ..said
    };
    bench.change(&neither, |_| {}).await;
    for family in [polls, failures, "aliyun_acr_exporter_poll_lag_seconds"] {
        assert_eq!(bench.family(family), 0, "{family}");
    }
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_word_that_a_reload_maps_leaves_at_once() {
    let said = said(vec![watch("crast-1", "nginx", 60)]);
    let odd = Row {
        status: "STALLED".into(),
        result: "PARTIAL".into(),
        ..done()
    };
    let bench = Bench::new(&said, |cloud| cloud.row = Mutex::new(odd.clone()));
    let words = "aliyun_acr_exporter_unrecognized_values";
    pass(10).await;
    assert_eq!(bench.family(words), 2);
    let mapped = Said {
        words: Words::with([(Meaning::Failed, "partial".to_owned())]),
        ..said
    };
    bench
        .change(&mapped, |cloud| cloud.row = Mutex::new(odd.clone()))
        .await;
    assert_eq!(bench.family(words), 1);
    pass(3_600).await;
    assert_eq!(bench.family(words), 1);
    bench.end().await;
}
