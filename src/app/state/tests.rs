//! When the saver writes, in paused time, with a disk and a poller that follow
//! a script; at the end once for real.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::metrics::own::{Build, Own};
use crate::model::{Rule, Subscription};
use crate::store::state::{SavedInstance, SavedSubscription, decode};
use crate::store::{Counts, Limits, Series, SubscriptionEntry, View};

const SECOND: Duration = Duration::from_secs(1);

/// What the disk does with a write.
#[derive(Clone, Copy, PartialEq)]
enum Disk {
    Works,
    Refuses,
    Hangs,
}

/// A saver at work, one subscription that counts, and every write so far.
struct Run {
    store: Arc<Store>,
    begin: Instant,
    runs: Arc<Mutex<u64>>,
    disk: Arc<Mutex<Disk>>,
    answers: Arc<Notify>,
    /// When, how many runs the state had counted, how many the page showed then.
    writes: Arc<Mutex<Vec<(Duration, u64, u64)>>>,
    overlapped: Arc<AtomicBool>,
    own: Own,
    metrics: StateMetrics,
    stop: CancellationToken,
    saver: JoinHandle<()>,
}

fn subscription() -> Arc<Subscription> {
    Arc::new(Subscription {
        repo_namespace: "mirror".into(),
        repo_name: "nginx".into(),
        source_provider: "DOCKER_HUB".into(),
        source_repository: "library/nginx".into(),
    })
}

fn counted(runs: u64) -> Arc<Counts> {
    Arc::new(Counts {
        runs,
        ..Counts::default()
    })
}

fn entry(runs: u64) -> SubscriptionEntry {
    let rule = Rule {
        rule_id: "crasr-1".into(),
        subscription: (*subscription()).clone(),
        tag_regexp: ".*".into(),
        created_ms: None,
        ..Rule::default()
    };
    SubscriptionEntry {
        instance_id: "cri-a".into(),
        subscription: subscription(),
        rules: [rule].into(),
        last_run: None,
        last_finished_run: None,
        consecutive_failed_runs: 0,
        last_success_ms: None,
        counts: counted(runs),
        announced: true,
        ..SubscriptionEntry::default()
    }
}

fn state(runs: u64) -> State {
    let saved = SavedSubscription {
        subscription: subscription(),
        rules: [].into(),
        seen_ms: 0,
        counts: counted(runs),
        announced: true,
        last_success_ms: None,
        forgotten_success_ms: None,
        forgotten_failures: 0,
        forgotten_run: None,
        recent: [].into(),
    };
    let instance = SavedInstance {
        instance_id: "cri-a".into(),
        subscriptions: vec![saved],
        ..SavedInstance::default()
    };
    State {
        instances: vec![instance],
        ..State::default()
    }
}

fn shown(store: &Store) -> u64 {
    let none = Series {
        task: |_| 0,
        subscription: |_| 0,
        listing: || 0,
    };
    View::new(store.snapshot(), 0, none)
        .subscription(0)
        .counts
        .runs
}

impl Run {
    /// What the page tells of the last save.
    fn saved_at(&self) -> Option<f64> {
        let families = self.own.gather();
        let name = "aliyun_acr_exporter_state_last_save_timestamp_seconds";
        let family = families.iter().find(|family| family.name() == name)?;
        Some(family.get_metric().first()?.get_gauge().get_value())
    }

    fn start() -> Self {
        let limits = Limits {
            series: 100,
            artifacts_per_task: 100,
            stale_after: SECOND,
        };
        let store = Arc::new(Store::new(limits, []).holding_counts_back());
        store.update_subscription(entry(0));
        let runs = Arc::new(Mutex::new(0));
        let disk = Arc::new(Mutex::new(Disk::Works));
        let answers = Arc::new(Notify::new());
        let writes = Arc::new(Mutex::new(Vec::new()));
        let overlapped = Arc::new(AtomicBool::new(false));
        let begin = Instant::now();

        let (requests, mut poller) = mpsc::channel::<Request>(1);
        let now = Arc::clone(&runs);
        tokio::spawn(async move {
            while let Some(request) = poller.recv().await {
                let runs = *now.lock().unwrap();
                // The saver gives a question up when it is stopped.
                let _ = request.send(state(runs));
            }
        });

        let own = Own::new(Build::CURRENT);
        let metrics = own.state();
        let write = {
            let (store, disk, answers) = (store.clone(), disk.clone(), answers.clone());
            let (writes, overlapped) = (writes.clone(), overlapped.clone());
            let busy = Arc::new(AtomicBool::new(false));
            move |bytes: Vec<u8>| {
                if busy.swap(true, Ordering::Relaxed) {
                    overlapped.store(true, Ordering::Relaxed);
                }
                let runs = decode(&bytes).unwrap().instances[0].subscriptions[0]
                    .counts
                    .runs;
                let write = (begin.elapsed(), runs, shown(&store));
                writes.lock().unwrap().push(write);
                let does = *disk.lock().unwrap();
                let (answers, busy) = (answers.clone(), busy.clone());
                async move {
                    if does == Disk::Hangs {
                        answers.notified().await;
                    }
                    busy.store(false, Ordering::Relaxed);
                    match does {
                        Disk::Refuses => Err(state::Error::LeftAlone("/state".into())),
                        Disk::Works | Disk::Hangs => Ok(()),
                    }
                }
            }
        };
        let saver = Saver {
            path: "/state".into(),
            write,
            store: store.clone(),
            requests,
            clock: Clock::fixed(1_700_000_000_500),
            metrics: metrics.clone(),
            under_way: None,
            written: None,
            told: None,
        };
        let stop = CancellationToken::new();
        Self {
            saver: tokio::spawn(saver.run(stop.clone())),
            store,
            begin,
            runs,
            disk,
            answers,
            writes,
            overlapped,
            own,
            metrics,
            stop,
        }
    }

    fn count(&self, runs: u64) {
        *self.runs.lock().unwrap() = runs;
        self.store.update_subscription(entry(runs));
    }

    fn disk(&self, does: Disk) {
        *self.disk.lock().unwrap() = does;
    }

    /// Lets everything happen until then; to the millisecond, since what is
    /// due at the very moment may come after.
    async fn until(&self, after: Duration) {
        tokio::time::sleep_until(self.begin + after + Duration::from_millis(1)).await;
    }

    fn writes(&self) -> Vec<(Duration, u64, u64)> {
        self.writes.lock().unwrap().clone()
    }

    async fn stop(self) -> (Duration, Vec<(Duration, u64, u64)>) {
        let asked = Instant::now();
        self.stop.cancel();
        self.saver.await.unwrap();
        let writes = self.writes.lock().unwrap().clone();
        (asked.elapsed(), writes)
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_is_saved_at_once_and_shown_after_that() {
    let run = Run::start();
    run.until(3 * SECOND).await;
    run.count(1);
    assert_eq!(shown(&run.store), 0);
    run.until(4 * SECOND).await;
    assert_eq!(shown(&run.store), 1);
    let [(at, 1, 0)] = run.writes()[..] else {
        panic!("{:?}", run.writes());
    };
    assert!((3 * SECOND..4 * SECOND).contains(&at), "{at:?}");
    assert_eq!(run.saved_at(), Some(1_700_000_000.5));
    assert_eq!(run.metrics.failures.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_two_saves_start_within_a_second() {
    let run = Run::start();
    // Every 50 ms for 5 s, as when many runs end together.
    for runs in 1..=100 {
        run.count(runs);
        tokio::time::sleep(SECOND / 20).await;
    }
    run.until(10 * SECOND).await;
    assert_eq!(shown(&run.store), 100);
    let writes = run.writes();
    assert!(writes.windows(2).all(|two| two[0].0 + SECOND <= two[1].0));
    // At 0, 1, 2, 3 and 4 s, and one for the rest.
    assert_eq!(writes.len(), 6, "{writes:?}");
}

#[tokio::test(start_paused = true)]
async fn everything_else_is_saved_every_15_s_where_it_changed() {
    let run = Run::start();
    run.until(14 * SECOND).await;
    assert_eq!(run.writes(), []);
    run.until(15 * SECOND).await;
    assert_eq!(run.writes().len(), 1);
    // Unchanged.
    run.until(60 * SECOND).await;
    assert_eq!(run.writes().len(), 1);
    // Changed without a count that waits.
    *run.runs.lock().unwrap() = 7;
    run.until(74 * SECOND).await;
    assert_eq!(run.writes().len(), 1);
    run.until(75 * SECOND).await;
    assert_eq!(run.writes()[1].1, 7);
}

#[tokio::test(start_paused = true)]
async fn the_end_saves_even_what_did_not_change() {
    let run = Run::start();
    run.until(15 * SECOND).await;
    let (took, writes) = run.stop().await;
    assert_eq!(writes.len(), 2);
    assert!(took < SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn counting_goes_on_while_the_disk_refuses() {
    let run = Run::start();
    run.disk(Disk::Refuses);
    run.count(1);
    run.until(2 * SECOND).await;
    run.count(2);
    run.until(4 * SECOND).await;
    assert_eq!(shown(&run.store), 2);
    assert_eq!(run.metrics.failures.get(), 2);
    assert_eq!(run.saved_at(), None);
    // Nothing new, and still it is tried again.
    run.disk(Disk::Works);
    run.until(18 * SECOND).await;
    assert_eq!(run.writes().len(), 3);
    assert_eq!(run.metrics.failures.get(), 2);
    assert!(run.saved_at().is_some());
}

#[tokio::test(start_paused = true)]
async fn counting_goes_on_while_the_disk_hangs_and_nothing_overtakes() {
    let run = Run::start();
    run.disk(Disk::Hangs);
    run.count(1);
    run.until(9 * SECOND).await;
    assert_eq!(shown(&run.store), 0);
    run.until(10 * SECOND).await;
    assert_eq!((shown(&run.store), run.metrics.failures.get()), (1, 1));
    run.count(2);
    run.until(21 * SECOND).await;
    assert_eq!((shown(&run.store), run.metrics.failures.get()), (2, 2));
    assert_eq!(run.writes().len(), 1);

    run.disk(Disk::Works);
    run.answers.notify_one();
    run.count(3);
    run.until(22 * SECOND).await;
    assert_eq!((shown(&run.store), run.metrics.failures.get()), (3, 2));
    assert_eq!(run.writes().last().unwrap().1, 3);
    assert!(!run.overlapped.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_does_not_hold_up_the_end() {
    let run = Run::start();
    run.disk(Disk::Hangs);
    run.count(1);
    run.until(SECOND).await;
    let failures = run.metrics.failures.clone();
    let (took, _) = run.stop().await;
    assert!((8 * SECOND..9 * SECOND).contains(&took), "{took:?}");
    assert_eq!(failures.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_under_way_is_not_overtaken_by_the_last_one() {
    let run = Run::start();
    run.disk(Disk::Hangs);
    run.count(1);
    run.until(SECOND).await;
    run.disk(Disk::Works);
    *run.runs.lock().unwrap() = 2;
    run.answers.notify_one();
    let overlapped = run.overlapped.clone();
    let (_, writes) = run.stop().await;
    assert_eq!(writes.last().unwrap().1, 2);
    assert!(!overlapped.load(Ordering::Relaxed));
}

/// The whole of it, with a real file and in real time.
#[tokio::test]
async fn what_was_kept_is_there_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let clock = Clock::fixed(1_700_000_000_000);
    let (file, before) = open(&path, &clock).unwrap();
    assert_eq!(before, State::default());
    assert!(matches!(
        open(&path, &clock),
        Err(state::Error::InUse { .. })
    ));

    let (requests, mut poller) = mpsc::channel::<Request>(1);
    let answers = tokio::spawn(async move {
        while let Some(request) = poller.recv().await {
            request.send(state(5)).unwrap();
        }
    });
    let own = Arc::new(Own::new(Build::CURRENT));
    let limits = Limits {
        series: 100,
        artifacts_per_task: 100,
        stale_after: SECOND,
    };
    let store = Arc::new(Store::new(limits, []).holding_counts_back());
    store.update_subscription(entry(4));
    let stop = CancellationToken::new();
    // Asked to end from the start: the last save is all there is.
    stop.cancel();
    keep(
        Some(file),
        store.clone(),
        requests,
        clock.clone(),
        own,
        stop,
    )
    .await;
    // The saver is gone, and so the poller knows that nobody will ask any more.
    answers.await.unwrap();
    assert_eq!(shown(&store), 5);

    let (_file, after) = open(&path, &clock).unwrap();
    assert_eq!(after, state(5));
}

#[test]
fn a_damaged_file_is_an_empty_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    std::fs::write(&path, "nonsense").unwrap();
    let (_file, state) = open(&path, &Clock::fixed(1_700_000_000_000)).unwrap();
    assert_eq!(state, State::default());
    let aside = folder.path().join("state.unreadable-1700000000");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "nonsense");
}
