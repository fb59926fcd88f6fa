//! Freshness and limits, worked out by hand.

use alibaba_cloud::clock::Clock;

use super::*;
use crate::model::{Folded, Row, Words};

const TEN: Series = Series {
    task: |_| 10,
    subscription: |_| 0,
    listing: || 0,
};
const NO_OTHERS: Series = Series {
    task: |_| 0,
    subscription: |_| 0,
    listing: || 0,
};

fn target(task_id: &str, artifacts: ArtifactSeries) -> Arc<Target> {
    Arc::new(Target {
        instance_id: "cri-a".into(),
        task_id: task_id.into(),
        task: task_id.into(),
        region: "cn-hangzhou".into(),
        artifacts,
        origin: Origin::Configured,
    })
}

/// One row a word: its tag is the word's position, its start 1 000 × (position + 1) ms.
fn data(results: &[&str]) -> Assessment {
    let rows = results.iter().zip(1_i64..).map(|(result, position)| Row {
        tag: format!("{}", position - 1),
        result: (*result).to_owned(),
        start_ms: Some(1_000 * position),
        end_ms: (!result.is_empty()).then_some(1_000 * position + 500),
        status: if result.is_empty() { "PENDING" } else { "" }.to_owned(),
        ..Row::default()
    });
    let words = Words::default();
    Assessment::new(Folded::new(rows, &words), None, &words)
}

fn entry(task_id: &str, artifacts: ArtifactSeries, results: &[&str]) -> TaskEntry {
    TaskEntry {
        data: Some(data(results)),
        last_poll_ms: Some(1_000_000),
        last_success_ms: Some(1_000_000),
        ..TaskEntry::new(target(task_id, artifacts), Duration::from_secs(60))
    }
}

fn store(series: usize, artifacts_per_task: usize, entries: Vec<TaskEntry>) -> Store {
    let limits = Limits {
        series,
        artifacts_per_task,
        stale_after: Duration::from_secs(300),
    };
    Store::new(limits, entries)
}

fn view(snapshot: &Arc<Snapshot>, steady_ms: i64, series: Series) -> View {
    View::new(Arc::clone(snapshot), steady_ms, series)
}

fn shown(view: &View) -> Vec<Vec<String>> {
    let tags = |task: TaskView<'_>| task.artifacts().map(|a| a.tag.to_owned()).collect();
    view.tasks().map(tags).collect()
}

#[test]
fn data_is_fresh_for_the_floor_or_three_intervals_whichever_is_longer() {
    for (interval, limit_ms) in [
        (60, 300_000),
        (100, 300_000),
        (101, 303_000),
        (3_600, 10_800_000),
    ] {
        let mut entry = entry("crast-1", ArtifactSeries::All, &["SUCCESS"]);
        entry.interval = Duration::from_secs(interval);
        let snapshot = store(100, 100, vec![entry]).snapshot();
        let fresh = |now| view(&snapshot, now, NO_OTHERS).task(0).fresh.is_some();
        assert!(fresh(1_000_000 + limit_ms), "{interval}");
        assert!(!fresh(1_000_001 + limit_ms), "{interval}");
    }
}

#[test]
fn age_is_counted_on_the_steady_clock() {
    // The wall clock was 50 s behind when it was polled.
    let moment = Moment {
        wall_ms: 1_000_000,
        steady_ms: 1_050_000,
    };
    let mut entry = entry("crast-1", ArtifactSeries::All, &["SUCCESS"]);
    entry.set_last_success(moment);
    assert_eq!(entry.last_success_ms, Some(1_000_000));
    assert_eq!(entry.data_age_ms(1_060_000), Some(10_000));
    let store = store(100, 100, vec![entry]);
    let mut listing = listing(100, None);
    listing.set_last_success(moment);
    assert_eq!(listing.last_success_ms, Some(1_000_000));
    assert_eq!(listing.data_age_ms(1_060_000), Some(10_000));
    listing.announced = true;
    store.update_listing(listing);
    store.update_subscription(SubscriptionEntry {
        announced: true,
        ..subscription("nginx")
    });
    let snapshot = store.snapshot();
    for (steady_ms, fresh) in [(1_350_000, true), (1_350_001, false)] {
        let view = view(&snapshot, steady_ms, NO_OTHERS);
        assert_eq!(view.task(0).fresh.is_some(), fresh, "{steady_ms}");
        assert_eq!(view.subscription(0).fresh, fresh, "{steady_ms}");
    }
    let same = snapshot.same_view_around(1_100_000);
    assert_eq!(same, i64::MIN..=1_350_000);
}

#[test]
fn a_failed_poll_keeps_the_data_until_it_is_stale() {
    let mut entry = entry("crast-1", ArtifactSeries::All, &["SUCCESS"]);
    entry.last_poll_ms = Some(1_200_000);
    entry.error = Some(Arc::new(PollError {
        reason: Reason::Server,
        text: String::new(),
    }));
    assert_eq!(entry.up(), Some(false));
    let snapshot = store(100, 100, vec![entry]).snapshot();
    assert!(
        view(&snapshot, 1_300_000, NO_OTHERS)
            .task(0)
            .fresh
            .is_some()
    );
    assert!(
        view(&snapshot, 1_300_001, NO_OTHERS)
            .task(0)
            .fresh
            .is_none()
    );
}

#[test]
fn a_task_that_was_never_polled_is_neither_up_nor_down() {
    let entry = TaskEntry::new(
        target("crast-1", ArtifactSeries::All),
        Duration::from_secs(60),
    );
    assert_eq!(entry.up(), None);
    let snapshot = store(100, 100, vec![entry]).snapshot();
    assert!(view(&snapshot, 0, NO_OTHERS).task(0).fresh.is_none());
}

#[test]
fn a_task_shows_the_artifacts_it_was_configured_to() {
    let results = &["SUCCESS", "FAILED", "", "ODD"];
    let view_of = |choice| {
        let snapshot = store(100, 100, vec![entry("crast-1", choice, results)]).snapshot();
        let view = view(&snapshot, 1_000_000, TEN);
        (shown(&view).remove(0), view.series, view.dropped)
    };
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    // Three have a duration: 4 + 3 series.
    assert_eq!(
        view_of(ArtifactSeries::All),
        (tags(&["0", "1", "2", "3"]), 17, 0)
    );
    assert_eq!(view_of(ArtifactSeries::Failed), (tags(&["1"]), 12, 0));
    assert_eq!(view_of(ArtifactSeries::None), (tags(&[]), 10, 0));
}

#[test]
fn one_task_keeps_its_most_urgent_artifacts() {
    let results = &["SUCCESS", "FAILED", "", "ODD", "SUCCESS", "FAILED"];
    let keep = |most| {
        let entries = vec![entry("crast-1", ArtifactSeries::All, results)];
        let snapshot = store(100, most, entries).snapshot();
        let view = view(&snapshot, 1_000_000, TEN);
        (shown(&view).remove(0).concat(), view.series, view.dropped)
    };
    // Failed 1 and 5, running 2, unknown 3, then the newest succeeded 4.
    assert_eq!(keep(6), ("012345".to_owned(), 10 + 11, 0));
    assert_eq!(keep(5), ("12345".to_owned(), 10 + 9, 2));
    assert_eq!(keep(3), ("125".to_owned(), 10 + 5, 6));
    assert_eq!(keep(1), ("5".to_owned(), 10 + 2, 9));
}

#[test]
fn the_page_keeps_the_most_urgent_artifacts_of_all_tasks_and_every_task() {
    let entries = vec![
        entry(
            "crast-1",
            ArtifactSeries::All,
            &["SUCCESS", "SUCCESS", "FAILED"],
        ),
        entry("crast-2", ArtifactSeries::All, &["", "FAILED", "SUCCESS"]),
    ];
    let keep = |series| {
        let snapshot = store(series, 100, entries.clone()).snapshot();
        let view = view(&snapshot, 1_000_000, TEN);
        let tags: Vec<String> = shown(&view).iter().map(|tags| tags.concat()).collect();
        (tags.join("|"), view.series, view.dropped)
    };
    // 20 series of tasks; artifacts: five with two series, the running one with one.
    assert_eq!(keep(31), ("012|012".to_owned(), 31, 0));
    // The oldest success goes first.
    assert_eq!(keep(30), ("12|012".to_owned(), 29, 2));
    assert_eq!(keep(25), ("2|01".to_owned(), 25, 6));
    assert_eq!(keep(24), ("2|1".to_owned(), 24, 7));
    assert_eq!(keep(0), ("|".to_owned(), 20, 11));
}

#[test]
fn tasks_stand_in_order_and_only_once() {
    let entries = ["crast-2", "crast-1", "crast-2"].map(|id| entry(id, ArtifactSeries::All, &[]));
    let snapshot = store(100, 100, entries.to_vec()).snapshot();
    let ids: Vec<_> = snapshot
        .entries()
        .iter()
        .map(|entry| &*entry.target.task_id)
        .collect();
    assert_eq!(ids, ["crast-1", "crast-2"]);
}

#[test]
fn an_update_makes_a_new_snapshot_and_leaves_the_old_one_alone() {
    let store = store(100, 100, vec![entry("crast-1", ArtifactSeries::All, &[])]);
    let before = store.snapshot();
    assert!(Arc::ptr_eq(&before, &store.snapshot()));
    store.update(entry("crast-1", ArtifactSeries::All, &["FAILED"]));
    store.update(entry("crast-2", ArtifactSeries::All, &["FAILED"]));
    store.remove(&"cri-a".into(), &"crast-2".into());
    let after = store.snapshot();
    let artifacts = |snapshot: &Snapshot| {
        let data = snapshot.entries()[0].data.as_ref().expect("has data");
        data.artifacts.len()
    };
    assert_eq!((artifacts(&before), artifacts(&after)), (0, 1));
    assert_eq!(after.entries().len(), 1);
}

fn subscription(repo_name: &str) -> SubscriptionEntry {
    let subscription = Subscription {
        repo_namespace: "mirror".into(),
        repo_name: repo_name.into(),
        source_provider: "DOCKER_HUB".into(),
        source_repository: "library/nginx".into(),
    };
    SubscriptionEntry {
        instance_id: "cri-a".into(),
        subscription: Arc::new(subscription),
        rules: [].into(),
        last_run: None,
        last_finished_run: None,
        consecutive_failed_runs: 0,
        last_success_ms: None,
        counts: Arc::default(),
        ..SubscriptionEntry::default()
    }
}

/// A state file that has counted what the subscription has.
fn saved(entry: &SubscriptionEntry, announced: bool) -> State {
    let subscription = state::SavedSubscription {
        subscription: Arc::clone(&entry.subscription),
        rules: [].into(),
        seen_ms: 0,
        counts: Arc::clone(&entry.counts),
        announced,
        last_success_ms: None,
        forgotten_success_ms: None,
        forgotten_failures: 0,
        forgotten_run: None,
        recent: [].into(),
    };
    let instance = state::SavedInstance {
        instance_id: Arc::clone(&entry.instance_id),
        subscriptions: vec![subscription],
        ..state::SavedInstance::default()
    };
    State {
        instances: vec![instance],
        ..State::default()
    }
}

fn listing(interval_s: u64, last_success_ms: Option<i64>) -> ListingEntry {
    ListingEntry {
        instance_id: "cri-a".into(),
        interval: Duration::from_secs(interval_s),
        last_success_ms,
        wall_ahead_ms: 0,
        last_try_ms: last_success_ms,
        error: None,
        next_ms: None,
        tasks_dropped: 0,
        ..ListingEntry::default()
    }
}

#[test]
fn subscriptions_are_fresh_as_long_as_the_lists_of_their_instance() {
    let store = store(100, 100, Vec::new());
    store.update_subscription(subscription("nginx"));
    let fresh = |now| {
        view(&store.snapshot(), now, NO_OTHERS)
            .subscription(0)
            .fresh
    };
    assert!(!fresh(0), "never listed");
    store.update_listing(listing(300, None));
    assert!(!fresh(0), "never listed well");
    for (interval_s, limit_ms) in [(60, 300_000), (300, 900_000)] {
        store.update_listing(listing(interval_s, Some(1_000_000)));
        assert!(fresh(1_000_000 + limit_ms), "{interval_s}");
        assert!(!fresh(1_000_001 + limit_ms), "{interval_s}");
    }
}

#[test]
fn series_of_subscriptions_are_counted_and_never_dropped() {
    const SEVEN: Series = Series {
        task: |_| 10,
        subscription: |_| 7,
        listing: || 0,
    };
    let keep = |series| {
        let store = store(
            series,
            100,
            vec![entry(
                "crast-1",
                ArtifactSeries::All,
                &["SUCCESS", "FAILED"],
            )],
        );
        store.update_subscription(subscription("a"));
        store.update_subscription(subscription("b"));
        store.update_subscription(subscription("b"));
        let snapshot = store.snapshot();
        let view = view(&snapshot, 1_000_000, SEVEN);
        assert_eq!(view.subscriptions().len(), 2);
        (shown(&view).concat().concat(), view.series, view.dropped)
    };
    // 10 of the task and 14 of subscriptions, then 2 of each artifact.
    assert_eq!(keep(28), ("01".to_owned(), 28, 0));
    assert_eq!(keep(27), ("1".to_owned(), 26, 2));
    assert_eq!(keep(0), (String::new(), 24, 4));
}

#[test]
fn only_counts_that_are_new_make_another_snapshot() {
    let store = store(100, 100, Vec::new()).holding_counts_back();
    let before = SubscriptionEntry {
        announced: true,
        ..subscription("a")
    };
    store.update_subscription(before.clone());
    let publish = |entry: &SubscriptionEntry| {
        store.publish(&saved(entry, true));
    };
    let snapshot = store.snapshot();
    publish(&before);
    assert!(Arc::ptr_eq(&snapshot, &store.snapshot()));
    let counted = SubscriptionEntry {
        counts: Arc::new(Counts {
            runs: 1,
            ..Counts::default()
        }),
        ..before
    };
    store.update_subscription(counted.clone());
    let shows = || store.snapshot().subscriptions[0].counts.shown(0).runs;
    assert_eq!(shows(), 0);
    publish(&counted);
    assert_eq!(shows(), 1);
}

#[test]
fn a_view_stays_the_same_until_the_next_data_turns_stale_and_since_the_last_did() {
    let polled = |task_id: &str, last_success_ms: i64| TaskEntry {
        last_success_ms: Some(last_success_ms),
        ..entry(task_id, ArtifactSeries::All, &["SUCCESS"])
    };
    // Without data there is nothing to turn stale.
    let mut unread = polled("crast-0", 900_000);
    unread.data = None;
    let entries = vec![
        unread,
        polled("crast-1", 1_000_000),
        polled("crast-2", 1_100_000),
    ];
    let store = store(100, 100, entries);
    // 3 × 300 s: longer than the floor of 300 s.
    store.update_listing(ListingEntry {
        announced: true,
        ..listing(300, Some(600_000))
    });
    let snapshot = store.snapshot();
    for (now, same) in [
        (0, i64::MIN..=1_300_000),
        (1_300_000, i64::MIN..=1_300_000),
        (1_300_001, 1_300_001..=1_400_000),
        (1_400_001, 1_400_001..=1_500_000),
        (1_500_001, 1_500_001..=i64::MAX),
        (i64::MAX, 1_500_001..=i64::MAX),
    ] {
        assert_eq!(snapshot.same_view_around(now), same, "{now}");
    }

    let nothing = super::Store::new(snapshot.limits, []).snapshot();
    assert_eq!(nothing.same_view_around(0), i64::MIN..=i64::MAX);
    let mut for_ever = polled("crast-1", 1_000_000);
    for_ever.interval = Duration::MAX;
    let snapshot = super::Store::new(snapshot.limits, [for_ever]).snapshot();
    assert_eq!(snapshot.same_view_around(0), i64::MIN..=i64::MAX);
}

#[test]
fn a_view_stays_what_it_is_while_the_store_changes() {
    let entries = vec![
        entry("crast-1", ArtifactSeries::All, &["SUCCESS", "FAILED", ""]),
        entry("crast-2", ArtifactSeries::Failed, &["SUCCESS", "FAILED"]),
        TaskEntry {
            last_success_ms: Some(0),
            ..entry("crast-3", ArtifactSeries::All, &["SUCCESS"])
        },
    ];
    let store = store(100, 2, entries);
    store.update_subscription(subscription("nginx"));
    store.update_listing(listing(300, Some(1_000_000)));
    let held = View::new(store.snapshot(), 1_000_000, TEN);
    store.update(entry("crast-1", ArtifactSeries::None, &[]));
    store.remove(&"cri-a".into(), &"crast-3".into());

    let tags = |done| {
        held.tasks()
            .map(|task| {
                let tags = task.artifacts_from(done).map(|it| it.tag.to_owned());
                (task.fresh.is_some(), tags.collect::<String>())
            })
            .collect::<Vec<_>>()
    };
    let of = |fresh, tags: &str| (fresh, tags.to_owned());
    assert_eq!(tags(0), [of(true, "12"), of(true, "1"), of(false, "")]);
    assert_eq!(tags(1), [of(true, "2"), of(true, ""), of(false, "")]);
    assert_eq!(tags(9), [of(true, ""), of(true, ""), of(false, "")]);
    // 30 of the tasks; 2 of a failed artifact, 1 of a running one; the
    // succeeded one of the first task is over its limit of 2.
    assert_eq!((held.series, held.dropped), (35, 2));
    assert_eq!(held.subscriptions().len(), 1);
    assert!(held.subscription(0).fresh);
    assert_eq!(held.subscription(0).entry, &subscription("nginx"));
}

/// What `/metrics` shows of the only subscription: runs and observations.
fn shown_counts(store: &Store, now_ms: i64) -> (u64, u64) {
    let snapshot = store.snapshot();
    let view = view(&snapshot, now_ms, NO_OTHERS);
    (
        view.subscription(0).counts.runs,
        view.durations()[0].1.runs.count(),
    )
}

/// A subscription and its instance with so many runs.
fn counted(runs: u64) -> (SubscriptionEntry, ListingEntry) {
    let mut durations = RunDurations::default();
    (0..runs).for_each(|_| durations.runs.observe(1_000));
    let entry = SubscriptionEntry {
        counts: Arc::new(Counts {
            runs,
            ..Counts::default()
        }),
        ..subscription("nginx")
    };
    let listing = ListingEntry {
        durations: Arc::new(durations),
        ..listing(300, Some(1_000_000))
    };
    (entry, listing)
}

/// A store whose clock shows 1 000 s.
fn new_at_1000_s() -> Store {
    store(100, 100, Vec::new()).timed_by(Clock::fixed(1_000_000))
}

fn update(store: &Store, (entry, listing): (SubscriptionEntry, ListingEntry)) {
    store.update_listing(listing);
    store.update_subscription(entry);
}

#[test]
fn a_new_count_is_at_0_for_one_answer_before_it_shows() {
    let store = new_at_1000_s();
    // The first listing brings the rule and its first finished run together.
    update(&store, counted(1));
    let first = store.snapshot();
    assert_eq!(shown_counts(&store, 1_010_000), (0, 0));
    store.announce(&first);
    assert_eq!(shown_counts(&store, 1_010_000), (1, 1));
    // A count that was announced shows at once.
    update(&store, counted(3));
    assert_eq!(shown_counts(&store, 1_010_000), (3, 3));
}

#[test]
fn a_count_that_nobody_scrapes_shows_after_two_minutes() {
    let store = new_at_1000_s();
    update(&store, counted(1));
    assert_eq!(shown_counts(&store, 1_119_999), (0, 0));
    assert_eq!(shown_counts(&store, 1_120_000), (1, 1));
    let same = store.snapshot().same_view_around(1_119_999);
    assert_eq!(same, i64::MIN..=1_119_999);
    let same = store.snapshot().same_view_around(1_120_000);
    assert_eq!(*same.start(), 1_120_000);
}

#[test]
fn with_a_state_file_a_count_shows_once_it_was_saved_as_announced() {
    let store = new_at_1000_s().holding_counts_back();
    update(&store, counted(1));
    let (entry, _) = counted(1);
    store.publish(&saved(&entry, false));
    assert_eq!(shown_counts(&store, 1_010_000).0, 0);

    store.announce(&store.snapshot());
    assert_eq!(shown_counts(&store, 1_010_000).0, 0, "not saved yet");
    let mut state = saved(&entry, false);
    store.mark_announced(&mut state, 1_010_000);
    let instance = &state.instances[0];
    assert!(instance.announced && instance.subscriptions[0].announced);
    store.publish(&state);
    assert_eq!(shown_counts(&store, 1_010_000).0, 1);
}

#[test]
fn a_state_that_nobody_scraped_for_two_minutes_is_saved_as_announced() {
    let store = new_at_1000_s().holding_counts_back();
    update(&store, counted(1));
    let (entry, _) = counted(1);
    for (now_ms, announced) in [(1_119_999, false), (1_120_000, true)] {
        let mut state = saved(&entry, false);
        store.mark_announced(&mut state, now_ms);
        assert_eq!(state.instances[0].announced, announced, "{now_ms}");
    }
}

#[test]
fn a_count_from_before_a_restart_shows_at_once() {
    for store in [new_at_1000_s(), new_at_1000_s().holding_counts_back()] {
        let (entry, listing) = counted(7);
        let entry = SubscriptionEntry {
            announced: true,
            ..entry
        };
        let listing = ListingEntry {
            announced: true,
            ..listing
        };
        update(&store, (entry, listing));
        assert_eq!(shown_counts(&store, 1_000_000), (7, 7));
    }
}
