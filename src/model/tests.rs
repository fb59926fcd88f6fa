//! The rules of the model, each value worked out by hand.

use super::*;

fn words() -> Words {
    Words::default()
}

fn row(tag: &str, status: &str, result: &str, start: i64, end: i64) -> Row {
    Row {
        repo_namespace: "mirror".into(),
        repo_name: "nginx".into(),
        tag: tag.into(),
        status: status.into(),
        result: result.into(),
        start_ms: Some(start),
        end_ms: Some(end),
    }
}

fn info(status: &str, result: &str) -> TaskInfo {
    TaskInfo {
        status: status.into(),
        result: result.into(),
        start_ms: Some(500),
        end_ms: Some(900),
        ..TaskInfo::default()
    }
}

fn assess(rows: Vec<Row>, info: Option<&TaskInfo>) -> Assessment {
    Assessment::new(Folded::new(rows, &words()), info, &words())
}

#[test]
fn a_row_becomes_an_outcome() {
    use Outcome::{Failed, Running, Succeeded, Unknown};
    // Status, Result, EndTime → outcome, finished.
    let table = [
        ("COMPLETED", "SUCCESS", 9, Succeeded, true),
        ("COMPLETED", "FAILED", 9, Failed, true),
        ("completed", "Success", 0, Succeeded, true),
        ("RUNNING", "SUCCESS", 9, Running, false),
        ("in_progress", "FAILED", 0, Running, false),
        ("", "SUCCEEDED", 0, Succeeded, true),
        ("SUCCESS", "", 0, Succeeded, true),
        ("CANCELED", "", 0, Failed, true),
        ("CANCELLED", " ", 0, Failed, true),
        ("COMPLETED", "", 0, Unknown, true),
        ("DONE", "PARTIAL", 0, Unknown, true),
        ("SUCCESS", "PARTIAL", 0, Unknown, false),
        ("SUCCESS", "PARTIAL", 7, Unknown, true),
        ("", "FINISHED", 0, Unknown, true),
        ("", "RUNNING", 0, Unknown, false),
        ("ODD", "", 0, Unknown, false),
        ("ODD", "", 5, Unknown, true),
        ("ODD", "TIMEOUT", 0, Failed, true),
        ("", "", 0, Unknown, false),
        ("", "", -1, Unknown, false),
    ];
    for (status, result, end, outcome, finished) in table {
        let folded = Folded::new(vec![row("1", status, result, 1, end)], &words());
        let artifact = folded.artifacts.get(0);
        assert_eq!(
            (artifact.outcome, artifact.finished),
            (outcome, finished),
            "{status:?} {result:?} {end}"
        );
    }
}

#[test]
fn every_built_in_word_is_known_in_any_case() {
    for (meaning, list) in [
        (
            Meaning::Running,
            "PENDING WAITING QUEUED RUNNING SYNCING SYNCHRONIZING BUILDING PROCESSING IN_PROGRESS",
        ),
        (Meaning::Finished, "COMPLETED COMPLETE FINISHED DONE"),
        (Meaning::Succeeded, "SUCCESS SUCCEEDED"),
        (
            Meaning::Failed,
            "FAIL FAILED FAILURE ERROR TIMEOUT CANCELED CANCELLED",
        ),
    ] {
        for word in list.split(' ') {
            assert_eq!(words().meaning(word), Some(meaning), "{word}");
            assert_eq!(words().meaning(&word.to_lowercase()), Some(meaning));
        }
    }
    assert_eq!(words().meaning(""), None);
    assert!(!words().is_unrecognized(" "));
    assert!(words().is_unrecognized("PARTIAL"));
}

#[test]
fn words_of_the_user_win_over_built_in_ones() {
    let words = Words::with([
        (Meaning::Failed, "partial".to_owned()),
        (Meaning::Running, "TIMEOUT".to_owned()),
    ]);
    assert_eq!(words.meaning("Partial"), Some(Meaning::Failed));
    assert_eq!(words.meaning("timeout"), Some(Meaning::Running));
}

#[test]
fn of_repeated_rows_the_newest_start_counts_then_the_worse_outcome() {
    let table = [
        // The newest start wins, though it is the better outcome.
        (
            [("FAILED", 10, 11), ("SUCCESS", 20, 22)],
            Outcome::Succeeded,
            20,
        ),
        (
            [("SUCCESS", 10, 11), ("FAILED", 20, 22)],
            Outcome::Failed,
            20,
        ),
        // At equal start the worse one: failed, unknown, running, succeeded.
        (
            [("SUCCESS", 10, 11), ("FAILED", 10, 12)],
            Outcome::Failed,
            10,
        ),
        (
            [("SUCCESS", 10, 11), ("PENDING", 10, 0)],
            Outcome::Running,
            10,
        ),
        ([("ODD", 10, 11), ("PENDING", 10, 0)], Outcome::Unknown, 10),
        ([("ODD", 10, 11), ("FAILED", 10, 12)], Outcome::Failed, 10),
        // An unknown start is the oldest of all.
        (
            [("FAILED", 0, 30), ("SUCCESS", 10, 11)],
            Outcome::Succeeded,
            10,
        ),
    ];
    for (pair, outcome, start) in table {
        for order in [[0, 1], [1, 0]] {
            let rows = order.map(|i: usize| row("1", pair[i].0, "", pair[i].1, pair[i].2));
            let data = assess(rows.to_vec(), None);
            assert_eq!(data.artifacts.len(), 1);
            assert_eq!(data.merged_rows, 1);
            assert_eq!(data.artifacts.get(0).outcome, outcome, "{pair:?}");
            assert_eq!(data.artifacts.get(0).start_ms, Some(start));
        }
    }
}

#[test]
fn rows_of_other_repositories_and_tags_are_not_folded() {
    let mut other = row("1", "FAILED", "", 1, 2);
    other.repo_name = "ngin".into();
    let mut shifted = other.clone();
    shifted.repo_namespace = "mirrorn".into();
    shifted.repo_name = "gin".into();
    let rows = vec![
        row("1", "SUCCESS", "", 1, 2),
        other,
        row("2", "PENDING", "", 1, 0),
        shifted,
    ];
    let data = assess(rows, None);
    assert_eq!(data.merged_rows, 0);
    let all: Vec<_> = data
        .artifacts
        .iter()
        .map(|a| (a.repo_namespace, a.repo_name, a.tag, a.outcome))
        .collect();
    assert_eq!(
        all,
        [
            ("mirror", "ngin", "1", Outcome::Failed),
            ("mirror", "nginx", "1", Outcome::Succeeded),
            ("mirror", "nginx", "2", Outcome::Running),
            ("mirrorn", "gin", "1", Outcome::Failed),
        ]
    );
    let counts = Outcome::ALL.map(|outcome| data.count(outcome));
    assert_eq!(counts, [1, 1, 2, 0]);
}

#[test]
fn a_task_with_rows_is_as_bad_as_its_worst_and_its_own_vote_is_one_more() {
    use TaskStatus::{Failed, Running, Succeeded, Unknown};
    let ok = || row("ok", "COMPLETED", "SUCCESS", 1, 2);
    let bad = || row("bad", "COMPLETED", "FAILED", 1, 2);
    let odd = || row("odd", "COMPLETED", "PARTIAL", 1, 2);
    let run = || row("run", "RUNNING", "", 1, 0);
    let silent = || None;
    let says = |status, result| Some(info(status, result));
    let table = [
        (vec![ok()], silent(), Succeeded, true),
        (vec![ok(), odd()], silent(), Unknown, true),
        (vec![ok(), odd(), bad()], silent(), Failed, true),
        (vec![ok(), odd(), bad(), run()], silent(), Running, false),
        // The task's verdict: TaskResult before TaskStatus.
        (vec![ok()], says("COMPLETED", "FAILED"), Failed, true),
        (vec![ok()], says("FAILED", ""), Failed, true),
        (vec![ok()], says("FAILED", "PARTIAL"), Failed, true),
        (vec![ok()], says("FAILED", "SUCCESS"), Succeeded, true),
        (vec![ok()], says("RUNNING", "FAILED"), Failed, true),
        (vec![ok()], says("RUNNING", ""), Running, false),
        (vec![ok()], says("RUNNING", "DONE"), Running, false),
        // The vendor's own sample contradicts itself: a verdict, so no vote.
        (vec![ok()], says("RUNNING", "SUCCESS"), Succeeded, true),
        (vec![bad()], says("COMPLETED", "SUCCESS"), Failed, true),
        (vec![ok()], says("PARTIAL", "ODD"), Succeeded, true),
        (vec![run()], says("COMPLETED", "FAILED"), Running, false),
    ];
    for (rows, info, status, finished) in table {
        let data = assess(rows, info.as_ref());
        assert_eq!((data.status, data.finished), (status, finished), "{info:?}");
    }
}

#[test]
fn a_task_without_rows_is_what_it_says_itself() {
    use TaskStatus::{Empty, Failed, Running, Succeeded, Unknown};
    let table = [
        ("", "", Empty, false),
        ("COMPLETED", "", Empty, false),
        ("DONE", "FINISHED", Empty, false),
        ("RUNNING", "", Running, false),
        ("RUNNING", "FAILED", Running, false),
        ("COMPLETED", "SUCCESS", Succeeded, true),
        ("COMPLETED", "FAILED", Failed, true),
        ("FAILED", "", Failed, true),
        ("SUCCESS", "PARTIAL", Succeeded, true),
        ("PARTIAL", "", Unknown, true),
        ("COMPLETED", "PARTIAL", Unknown, true),
    ];
    for (status, result, expected, finished) in table {
        let data = assess(Vec::new(), Some(&info(status, result)));
        assert_eq!(
            (data.status, data.finished),
            (expected, finished),
            "{status} {result}"
        );
    }
    let data = assess(Vec::new(), None);
    assert_eq!((data.status, data.finished), (Empty, false));
    assert_eq!(data.start_ms, None);
}

#[test]
fn times_of_a_task_come_from_its_artifacts() {
    let rows = vec![
        row("1", "COMPLETED", "SUCCESS", 2_000, 9_500),
        row("2", "COMPLETED", "FAILED", 1_000, 12_345),
        row("3", "COMPLETED", "SUCCESS", 0, 0),
    ];
    let data = assess(rows, Some(&info("COMPLETED", "FAILED")));
    assert_eq!(data.start_ms, Some(1_000));
    assert_eq!(data.end_ms, Some(12_345));
    assert_eq!(data.duration_ms(), Some(11_345));
    assert_eq!(data.last_success_ms, Some(9_500));
}

#[test]
fn a_running_task_has_no_end() {
    let rows = vec![
        row("1", "COMPLETED", "SUCCESS", 1_000, 9_500),
        row("2", "PENDING", "", 0, 0),
    ];
    let data = assess(rows, None);
    assert_eq!(data.start_ms, Some(1_000));
    assert_eq!((data.end_ms, data.duration_ms()), (None, None));
    assert_eq!(data.last_success_ms, Some(9_500));
}

#[test]
fn a_task_without_rows_has_its_own_times() {
    let data = assess(Vec::new(), Some(&info("COMPLETED", "FAILED")));
    assert_eq!((data.start_ms, data.end_ms), (Some(500), Some(900)));
    assert_eq!(data.duration_ms(), Some(400));
    let data = assess(Vec::new(), Some(&info("RUNNING", "")));
    assert_eq!((data.start_ms, data.end_ms), (Some(500), None));
}

#[test]
fn a_task_whose_rows_have_no_start_takes_its_own() {
    let rows = vec![row("1", "COMPLETED", "SUCCESS", 0, 800)];
    let data = assess(rows, Some(&info("COMPLETED", "SUCCESS")));
    assert_eq!((data.start_ms, data.end_ms), (Some(500), Some(800)));
}

#[test]
fn a_negative_duration_is_left_out() {
    let data = assess(vec![row("1", "COMPLETED", "SUCCESS", 900, 800)], None);
    assert_eq!(data.artifacts.get(0).duration_ms(), None);
    assert_eq!((data.start_ms, data.end_ms), (Some(900), Some(800)));
    assert_eq!(data.duration_ms(), None);
}

#[test]
fn a_duration_of_zero_and_extreme_times_are_exact() {
    let data = assess(vec![row("1", "", "SUCCESS", 700, 700)], None);
    assert_eq!(data.duration_ms(), Some(0));
    let data = assess(vec![row("1", "", "SUCCESS", 1, i64::MAX)], None);
    assert_eq!(data.duration_ms(), Some(i64::MAX - 1));
    let data = assess(vec![row("1", "", "SUCCESS", i64::MIN, i64::MAX)], None);
    assert_eq!(data.duration_ms(), None);
}

#[test]
fn the_task_itself_is_asked_for_only_when_it_can_tell_more() {
    let folded = |rows| Folded::new(rows, &words());
    let ok = || row("1", "COMPLETED", "SUCCESS", 1, 2);
    let bad = || row("1", "COMPLETED", "FAILED", 1, 2);
    let run = || row("1", "RUNNING", "", 1, 0);
    let quiet = info("COMPLETED", "SUCCESS");
    let failed = info("COMPLETED", "FAILED");
    let running = info("RUNNING", "");
    // rows, what is known, asked since the last row finished → ask
    let table = [
        (vec![ok()], None, false, true),
        (vec![ok()], None, true, true),
        (vec![], Some(&quiet), false, true),
        (vec![], Some(&quiet), true, true),
        (vec![run()], Some(&quiet), false, false),
        (vec![run()], Some(&running), false, false),
        (vec![run()], Some(&failed), false, true),
        (vec![ok()], Some(&quiet), false, true),
        (vec![ok()], Some(&quiet), true, false),
        (vec![ok()], Some(&running), true, true),
        (vec![ok()], Some(&failed), true, true),
        (vec![bad()], Some(&failed), true, false),
        (vec![bad()], Some(&running), true, true),
    ];
    for (index, (rows, known, asked, expected)) in table.into_iter().enumerate() {
        let wants = folded(rows).wants_task(known, asked, &words());
        assert_eq!(wants, expected, "case {index}");
    }
}

#[test]
fn unrecognized_words_are_named_with_their_field() {
    let rows = [row("1", "ODD", "PARTIAL", 1, 2), row("2", "DONE", "", 1, 2)];
    let info = info("STALLED", "SUCCESS");
    let words = words();
    let found: Vec<_> = unrecognized(rows.iter().map(Row::borrowed), Some(&info), &words).collect();
    assert_eq!(
        found,
        [
            ("Status", "ODD"),
            ("Result", "PARTIAL"),
            ("TaskStatus", "STALLED")
        ]
    );
}

#[test]
fn more_urgent_artifacts_keep_their_series() {
    let rows = vec![
        row("a-ok-old", "SUCCESS", "", 10, 11),
        row("b-ok-new", "SUCCESS", "", 20, 21),
        row("c-odd", "ODD", "", 5, 6),
        row("d-bad-old", "FAILED", "", 1, 2),
        row("e-bad-new", "FAILED", "", 3, 4),
        row("f-run", "PENDING", "", 0, 0),
    ];
    let data = assess(rows, None);
    let mut all: Vec<_> = data.artifacts.iter().collect();
    all.sort_by_key(Artifact::keep_order);
    let tags: Vec<_> = all.iter().map(|artifact| artifact.tag).collect();
    assert_eq!(
        tags,
        [
            "e-bad-new",
            "d-bad-old",
            "f-run",
            "c-odd",
            "b-ok-new",
            "a-ok-old"
        ]
    );
}
