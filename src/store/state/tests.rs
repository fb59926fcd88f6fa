//! Bytes: what was written comes back, and nothing else does.

use std::time::Duration;

use alibaba_cloud::Reason;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::model::{Assessment, Folded, Row, Words};
use crate::store::{ArtifactSeries, Durations, Origin, PollError, Target};

fn text() -> impl Strategy<Value = String> {
    "[a-zé/:.-]{0,6}"
}

fn id() -> impl Strategy<Value = Arc<str>> {
    "cr[a-z]{2,3}-[a-z0-9]{1,4}".prop_map(Arc::from)
}

fn time() -> impl Strategy<Value = Option<i64>> {
    option::of(prop_oneof![
        1..=4_000_000_000_000_i64,
        Just(i64::MAX),
        Just(i64::MIN)
    ])
}

fn status() -> impl Strategy<Value = TaskStatus> {
    proptest::sample::select(&TaskStatus::ALL[..])
}

prop_compose! {
    fn subscription()(repo_namespace in text(), repo_name in text(), source_provider in text(), source_repository in text()) -> Subscription {
        Subscription { repo_namespace, repo_name, source_provider, source_repository }
    }
}

prop_compose! {
    fn info()(about in subscription(), words in [text(), text(), text(), text()], tags in [option::of(any::<i64>()), option::of(any::<i64>())], times in [time(), time()]) -> TaskInfo {
        let [task_type, status, result, message] = words;
        TaskInfo {
            repo_namespace: about.repo_namespace,
            repo_name: about.repo_name,
            source_provider: about.source_provider,
            source_repository: about.source_repository,
            task_type,
            status,
            result,
            message,
            source_tags: tags[0],
            selected_tags: tags[1],
            start_ms: times[0],
            end_ms: times[1],
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["", "RUNNING", "SUCCESS", "FAILED", "ODD"])
        .prop_map(str::to_owned)
}

prop_compose! {
    fn row()(place in [text(), text(), text()], words in [word(), word()], times in [time(), time()]) -> Row {
        let ([repo_namespace, repo_name, tag], [status, result]) = (place, words);
        Row { repo_namespace, repo_name, tag, status, result, start_ms: times[0], end_ms: times[1] }
    }
}

prop_compose! {
    fn target()(instance_id in id(), task_id in id(), task in text(), region in text(), artifacts in 0..3_usize) -> Target {
        let artifacts = [ArtifactSeries::All, ArtifactSeries::Failed, ArtifactSeries::None][artifacts];
        Target { instance_id, task_id, task: task.into(), region: region.into(), artifacts, origin: Origin::Configured }
    }
}

fn reasons() -> impl Strategy<Value = Reason> {
    proptest::sample::select(Reason::ALL.to_vec())
}

prop_compose! {
    fn task()(
        target in target(),
        info in option::of(info()),
        rows in option::of(vec(row(), 0..6)),
        error in option::of((reasons(), text())),
        task_error in option::of(reasons()),
        times in [time(), time(), time()],
        interval in any::<Duration>(),
        asked_finished in any::<bool>(),
    ) -> SavedTask {
        let words = Words::default();
        let entry = TaskEntry {
            target: Arc::new(target),
            data: rows.map(|rows| {
                Assessment::new(Folded::new(rows, &words), info.as_ref(), &words)
            }),
            info: info.map(Arc::new),
            error: error.map(|(reason, text)| Arc::new(PollError { reason, text })),
            cause: None,
            task_error,
            last_poll_ms: times[0],
            last_success_ms: times[1],
            wall_ahead_ms: 0,
            interval,
            next_poll_ms: times[2],
        };
        SavedTask { entry, asked_finished }
    }
}

prop_compose! {
    fn run()(
        task_id in id(),
        info in info(),
        seen in [any::<i64>(), any::<i64>()],
        counted in any::<bool>(),
        rows in option::of((status(), any::<bool>(), time(), time(), any::<Option<[u32; 4]>>())),
    ) -> SavedRun {
        SavedRun {
            task_id,
            info: Arc::new(info),
            first_seen_ms: seen[0],
            seen_ms: seen[1],
            counted,
            rows: rows.map(|(status, finished, start_ms, end_ms, artifacts)| RowsVerdict {
                status,
                finished,
                start_ms,
                end_ms,
                artifacts,
            }),
        }
    }
}

prop_compose! {
    fn saved_subscription()(
        about in subscription(),
        rules in vec((text(), text(), time()), 0..3),
        seen_ms in any::<i64>(),
        counts in any::<(u64, u64)>(),
        announced in any::<bool>(),
        last_success_ms in time(),
        forgotten_success_ms in time(),
        forgotten_failures in any::<u32>(),
        forgotten_run in option::of(run()),
        recent in vec((id(), status(), time(), time()), 0..20),
    ) -> SavedSubscription {
        let (runs, failures) = counts;
        let recent = recent.into_iter().map(|(task_id, status, start_ms, duration_ms)| RecentRun {
            task_id,
            status,
            start_ms,
            duration_ms,
        });
        SavedSubscription {
            rules: rules
                .into_iter()
                .map(|(rule_id, tag_regexp, created_ms)| Rule {
                    rule_id,
                    subscription: about.clone(),
                    tag_regexp,
                    created_ms,
                    ..Rule::default()
                })
                .collect(),
            subscription: Arc::new(about),
            seen_ms,
            counts: Arc::new(Counts { runs, failures }),
            announced,
            last_success_ms,
            forgotten_success_ms,
            forgotten_failures,
            forgotten_run,
            recent: recent.collect(),
        }
    }
}

prop_compose! {
    fn instance()(
        instance_id in id(),
        last_success_ms in time(),
        last_whole_ms in time(),
        newest_first in any::<Option<bool>>(),
        runs in vec(run(), 0..4),
        gone in vec((id(), any::<i64>(), any::<bool>(), any::<bool>()), 0..4),
        subscriptions in vec(saved_subscription(), 0..3),
        rules in vec((text(), subscription(), time(), any::<i64>()), 0..3),
        durations in any::<[([u64; 14], i64); 2]>(),
        announced in any::<bool>(),
    ) -> SavedInstance {
        let rules = rules.into_iter().map(|(rule_id, subscription, edited_ms, seen_ms)| SavedRule {
            rule_id,
            subscription: Arc::new(subscription),
            edited_ms,
            seen_ms,
        });
        let [runs_of, artifacts_of] = durations.map(|(buckets, sum_ms)| Durations { buckets, sum_ms });
        let gone = gone.into_iter().map(|(task_id, seen_ms, counted, failed)| GoneRun { task_id, seen_ms, counted, failed });
        SavedInstance {
            instance_id,
            last_success_ms,
            last_whole_ms,
            newest_first,
            runs,
            gone: gone.collect(),
            subscriptions,
            rules: rules.collect(),
            durations: Arc::new(RunDurations { runs: runs_of, artifacts: artifacts_of }),
            announced,
        }
    }
}

prop_compose! {
    fn states()(tasks in vec(task(), 0..4), instances in vec(instance(), 0..3)) -> State {
        State { tasks, instances }
    }
}

/// Bytes with this payload and a checksum that fits.
fn sealed(version: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"acrstate".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(payload);
    let checksum = Sha256::digest(&bytes);
    bytes.extend(checksum);
    bytes
}

proptest! {
    #[test]
    fn what_was_written_comes_back(state in states()) {
        let bytes = encode(&state);
        prop_assert_eq!(decode(&bytes).unwrap(), state);
    }

    #[test]
    fn every_flipped_byte_is_noticed(state in states(), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut bytes = encode(&state);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn random_bytes_are_no_state(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }

    /// Panics and allocations are what this looks for; an answer may come.
    #[test]
    fn a_payload_of_random_bytes_does_no_harm(payload in vec(any::<u8>(), 0..200)) {
        let _ = decode(&sealed(VERSION, &payload));
    }

    /// A damaged payload that decodes all the same can be used.
    #[test]
    fn a_damaged_payload_with_a_right_checksum_does_no_harm(state in states(), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut payload = postcard::to_allocvec(&state).unwrap();
        let at = at.index(payload.len());
        payload[at] ^= flip;
        if let Ok(state) = decode(&sealed(VERSION, &payload)) {
            for data in state.tasks.iter().filter_map(|task| task.entry.data.as_ref()) {
                prop_assert_eq!(data.artifacts.iter().count(), data.artifacts.len());
            }
        }
    }
}

/// One of everything, with values that are easy to recognise.
fn sample() -> State {
    let subscription = Subscription {
        repo_namespace: "mirror".into(),
        repo_name: "nginx".into(),
        source_provider: "DOCKER_HUB".into(),
        source_repository: "library/nginx".into(),
    };
    let info = Arc::new(TaskInfo {
        repo_namespace: "mirror".into(),
        repo_name: "nginx".into(),
        source_provider: "DOCKER_HUB".into(),
        source_repository: "library/nginx".into(),
        task_type: "AUTO".into(),
        status: "COMPLETED".into(),
        result: "FAILED".into(),
        message: "manifest unknown".into(),
        source_tags: Some(2),
        selected_tags: Some(1),
        start_ms: Some(1_700_000_000_000),
        end_ms: Some(1_700_000_060_000),
    });
    let row = |tag: &str, result: &str| Row::<String> {
        repo_namespace: "mirror".into(),
        repo_name: "nginx".into(),
        tag: tag.into(),
        status: "COMPLETED".into(),
        result: result.into(),
        start_ms: Some(1_700_000_000_000),
        end_ms: Some(1_700_000_030_000),
    };
    let words = Words::default();
    let folded = Folded::new(vec![row("1.27", "SUCCESS"), row("1.28", "FAILED")], &words);
    let entry = TaskEntry {
        target: Arc::new(Target {
            instance_id: "cri-a".into(),
            task_id: "crast-1".into(),
            task: "nginx".into(),
            region: "cn-hangzhou".into(),
            artifacts: ArtifactSeries::Failed,
            origin: Origin::Configured,
        }),
        data: Some(Assessment::new(folded, Some(&info), &words)),
        info: Some(Arc::clone(&info)),
        error: Some(Arc::new(PollError {
            reason: Reason::Throttled,
            text: "too many requests".into(),
        })),
        cause: None,
        task_error: Some(Reason::Forbidden),
        last_poll_ms: Some(1_700_000_120_000),
        last_success_ms: Some(1_700_000_090_000),
        wall_ahead_ms: 0,
        interval: Duration::from_secs(60),
        next_poll_ms: Some(1_700_000_180_000),
    };
    State {
        tasks: vec![SavedTask {
            entry,
            asked_finished: true,
        }],
        instances: vec![sample_instance(subscription, info)],
    }
}

fn sample_instance(subscription: Subscription, info: Arc<TaskInfo>) -> SavedInstance {
    let mut artifacts = Durations::default();
    artifacts.observe(30_000);
    let mut runs = Durations::default();
    runs.observe(60_000);
    let subscription = Arc::new(subscription);
    SavedInstance {
        instance_id: "cri-a".into(),
        last_success_ms: Some(1_700_000_100_000),
        last_whole_ms: Some(1_700_000_000_000),
        newest_first: Some(true),
        runs: vec![SavedRun {
            task_id: "crast-1".into(),
            info,
            first_seen_ms: 1_700_000_010_000,
            seen_ms: 1_700_000_100_000,
            counted: true,
            rows: Some(RowsVerdict {
                status: TaskStatus::Failed,
                finished: true,
                start_ms: Some(1_700_000_000_000),
                end_ms: Some(1_700_000_030_000),
                artifacts: Some([0, 1, 1, 0]),
            }),
        }],
        gone: vec![GoneRun {
            task_id: "crast-0".into(),
            seen_ms: 1_690_000_000_000,
            counted: true,
            failed: true,
        }],
        subscriptions: vec![SavedSubscription {
            rules: [Rule {
                rule_id: "crasr-1".into(),
                subscription: (*subscription).clone(),
                tag_regexp: "^1\\..*".into(),
                created_ms: Some(1_600_000_000_000),
                modified_ms: Some(1_650_000_000_000),
            }]
            .into(),
            subscription: Arc::clone(&subscription),
            seen_ms: 1_700_000_100_000,
            counts: Arc::new(Counts {
                runs: 12,
                failures: 3,
            }),
            announced: true,
            last_success_ms: Some(1_699_000_000_000),
            forgotten_success_ms: Some(1_698_000_000_000),
            forgotten_failures: 2,
            forgotten_run: None,
            recent: [
                recent(
                    "crast-1",
                    TaskStatus::Failed,
                    Some(1_700_000_000_000),
                    60_000,
                ),
                recent("crast-0", TaskStatus::Unknown, None, 45_000),
            ]
            .into(),
        }],
        rules: vec![SavedRule {
            rule_id: "crasr-1".into(),
            subscription,
            edited_ms: Some(1_695_000_000_000),
            seen_ms: 1_700_000_100_000,
        }],
        durations: Arc::new(RunDurations { runs, artifacts }),
        announced: true,
    }
}

#[test]
fn every_cut_and_every_flipped_byte_is_told() {
    let bytes = encode(&sample());
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length}");
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x40;
        let error = decode(&bytes).unwrap_err();
        // magic, version, length, the rest
        let right = match at {
            0..8 => matches!(error, Unreadable::Foreign),
            12..20 => matches!(error, Unreadable::Length { .. }),
            _ => matches!(error, Unreadable::Checksum),
        };
        assert!(right, "{at}: {error}");
    }
    let longer = [&bytes[..], b"\0"].concat();
    assert!(matches!(decode(&longer), Err(Unreadable::Length { .. })));
}

#[test]
fn another_version_is_called_so() {
    let error = decode(&sealed(VERSION + 1, b"whatever comes")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "its format has version 3, this program reads version 2"
    );
}

#[test]
fn a_payload_with_a_tail_is_no_state() {
    let mut payload = postcard::to_allocvec(&sample()).unwrap();
    payload.push(0);
    let error = decode(&sealed(VERSION, &payload)).unwrap_err();
    assert!(matches!(error, Unreadable::Payload(_)), "{error}");
}

/// A file that claims a length is not believed before it is read.
#[test]
fn a_claimed_length_allocates_nothing() {
    let mut bytes = sealed(VERSION, &[]);
    bytes[12..20].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(decode(&bytes), Err(Unreadable::Length { .. })));
    // Two to the power of 63 tasks.
    let many = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert!(decode(&sealed(VERSION, &many)).is_err());
}

fn recent(task_id: &str, status: TaskStatus, start_ms: Option<i64>, millis: i64) -> RecentRun {
    RecentRun {
        task_id: task_id.into(),
        status,
        start_ms,
        duration_ms: Some(millis),
    }
}

/// The file was written by version 2 of the format. Where this fails, the
/// format has changed: it needs a new version, and a way to read this one.
#[test]
fn the_format_does_not_change_by_accident() {
    let kept = include_bytes!("../../../tests/testdata/state/version-2.state");
    assert_eq!(decode(kept).unwrap(), sample());
    assert!(encode(&sample()) == kept);
}

/// What the release before wrote is read; what it did not know is not there.
#[test]
fn version_1_is_read() {
    let mut expected = sample();
    let instance = &mut expected.instances[0];
    let mut artifacts = Durations::default();
    artifacts.observe(30_000);
    instance.durations = Arc::new(RunDurations {
        runs: Durations::default(),
        artifacts,
    });
    instance.runs[0].rows.as_mut().unwrap().artifacts = None;
    instance.rules[0].edited_ms = None;
    instance.gone[0].failed = false;
    let subscription = &mut instance.subscriptions[0];
    // The list has crast-1; of the other only the duration was known.
    subscription.recent = [recent("crast-0", TaskStatus::Unknown, None, 45_000)].into();
    subscription.forgotten_success_ms = subscription.last_success_ms;
    let rule = Rule {
        modified_ms: None,
        ..subscription.rules[0].clone()
    };
    subscription.rules = [rule].into();
    let kept = include_bytes!("../../../tests/testdata/state/version-1.state");
    assert_eq!(decode(kept).unwrap(), expected);
}

#[test]
fn every_reason_survives_as_itself_and_others_become_other() {
    let saved_with = |reason| {
        let mut state = sample();
        let entry = TaskEntry {
            task_error: Some(reason),
            ..state.tasks[0].entry.clone()
        };
        state.tasks[0].entry = entry;
        encode(&state)
    };
    for reason in Reason::ALL {
        let state = decode(&saved_with(reason)).unwrap();
        assert_eq!(state.tasks[0].entry.task_error, Some(reason));
    }
    // A later version may know another word of the same length.
    let mut bytes = saved_with(Reason::BadRequest);
    let known = b"bad_request";
    let mut places = bytes.windows(known.len());
    let at = places.position(|place| place == known).unwrap();
    bytes[at] = b'm';
    let content = bytes.len() - size_of::<Checksum>();
    let checksum = Sha256::digest(&bytes[..content]);
    bytes[content..].copy_from_slice(&checksum);
    let state = decode(&bytes).unwrap();
    assert_eq!(state.tasks[0].entry.task_error, Some(Reason::Other));
}
