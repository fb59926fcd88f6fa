//! Lines of the log, counted.

use std::sync::Arc;

use super::*;
use crate::model::{Assessment, Folded, Row, TaskInfo, Words};
use crate::store::{ArtifactSeries, Origin, PollError};
use crate::telemetry::capture::Log;

fn task(id: &str, error: Option<Reason>) -> TaskEntry {
    let target = Target {
        instance_id: "cri-a".into(),
        task_id: id.into(),
        task: id.into(),
        region: "".into(),
        origin: Origin::Configured,
        artifacts: ArtifactSeries::All,
    };
    let mut entry = TaskEntry::new(Arc::new(target), Duration::from_secs(60));
    entry.error = error.map(|reason| {
        let text = String::new();
        Arc::new(PollError { reason, text })
    });
    entry
}

fn list(error: Option<Reason>) -> ListingEntry {
    ListingEntry {
        instance_id: "cri-a".into(),
        interval: Duration::from_secs(300),
        error: task("", error).error,
        ..ListingEntry::default()
    }
}

fn error(reason: Reason) -> SourceError {
    let text = "why".to_owned();
    SourceError { reason, text }
}

fn failed(reason: Reason) -> Polled {
    Polled {
        outcome: Err(error(reason)),
        task: None,
        gone: None,
        unrecognized: Vec::new(),
    }
}

fn succeeded(details: Result<(), Reason>) -> Polled {
    let words = Words::default();
    let folded = Folded::new(Vec::<Row>::new(), &words);
    Polled {
        outcome: Ok(Answer {
            assessment: Assessment::new(folded, None::<&TaskInfo>, &words),
            info: None,
            asked_finished: false,
        }),
        task: Some(details.map_err(error)),
        gone: None,
        unrecognized: Vec::new(),
    }
}

fn notices() -> Notices {
    Notices::new(vec!["one".to_owned(), "two".to_owned()])
}

const FIRST: Item = Item::Task(0);
const SECOND: Item = Item::Task(1);
const LIST: Item = Item::List(0);
const FORBIDDEN: Option<Reason> = Some(Reason::Forbidden);

#[test]
fn a_denied_listing_and_denied_polls_do_not_hide_each_other() {
    let (log, _capture) = Log::capture();
    let mut notices = notices();
    let denied = error(Reason::Forbidden);
    notices.polled(0, FIRST, &task("1", None), &failed(Reason::Forbidden));
    notices.listing(0, LIST, &list(None), Some(&denied));
    notices.listing(0, Item::List(1), &list(None), Some(&denied));
    assert_eq!(log.lines().len(), 2);
    assert_eq!(log.count("failed to poll task"), 1);
    assert_eq!(log.count("failed to list subscriptions"), 1);

    notices.polled(0, FIRST, &task("1", FORBIDDEN), &succeeded(Ok(())));
    notices.listing(0, LIST, &list(FORBIDDEN), None);
    assert_eq!(log.lines().len(), 3);
    assert_eq!(log.count("errors of polls cleared"), 1);
    notices.listing(0, Item::List(1), &list(FORBIDDEN), None);
    assert_eq!(log.lines().len(), 4);
    assert_eq!(log.count("errors of listings cleared"), 1);
}

#[test]
fn what_has_no_network_fails_together() {
    let (log, _capture) = Log::capture();
    let mut notices = notices();
    notices.listing(0, LIST, &list(None), Some(&error(Reason::Connect)));
    notices.polled(0, FIRST, &task("1", None), &failed(Reason::Connect));
    // Another account has a line of its own.
    notices.polled(1, SECOND, &task("2", None), &failed(Reason::Connect));
    assert_eq!(log.lines().len(), 2);
    assert_eq!(log.count("credentials=two"), 1);
    let connect = Some(Reason::Connect);
    notices.listing(0, LIST, &list(connect), None);
    assert_eq!(log.lines().len(), 2);
    notices.polled(0, FIRST, &task("1", connect), &succeeded(Ok(())));
    assert_eq!(log.lines().len(), 3);
    assert_eq!(log.count("errors cleared"), 1);
}

#[test]
fn denied_details_are_one_line_and_polls_succeed_all_the_same() {
    let (log, _capture) = Log::capture();
    let mut notices = notices();
    let denied = succeeded(Err(Reason::Forbidden));
    let mut known = [task("1", None), task("2", None)];
    for (place, entry) in known.iter_mut().enumerate() {
        notices.polled(0, Item::Task(place), entry, &denied);
        entry.task_error = FORBIDDEN;
        notices.polled(0, Item::Task(place), entry, &denied);
    }
    assert_eq!(log.lines().len(), 1);
    assert_eq!(log.count("failed to read task details"), 1);
    for (place, entry) in known.iter().enumerate() {
        notices.polled(0, Item::Task(place), entry, &succeeded(Ok(())));
    }
    assert_eq!(log.lines().len(), 2);
    assert_eq!(log.count("errors of task details cleared"), 1);
}

#[test]
fn what_a_task_has_alone_is_a_line_each_and_not_again() {
    let (log, _capture) = Log::capture();
    let mut notices = notices();
    for item in [FIRST, SECOND] {
        notices.polled(0, item, &task("1", None), &failed(Reason::NotFound));
        let known = task("1", Some(Reason::NotFound));
        notices.polled(0, item, &known, &failed(Reason::NotFound));
    }
    assert_eq!(log.lines().len(), 2);
    let known = task("1", Some(Reason::NotFound));
    notices.polled(0, FIRST, &known, &succeeded(Ok(())));
    assert_eq!(log.lines().len(), 3);
    assert_eq!(log.count("poll succeeded again"), 1);
}

/// A restart takes the errors back from the state file.
#[test]
fn after_a_restart_a_shared_failure_is_logged_again_and_clears_once() {
    let (log, _capture) = Log::capture();
    let mut notices = notices();
    notices.polled(0, FIRST, &task("1", FORBIDDEN), &succeeded(Ok(())));
    assert_eq!(log.lines().len(), 0);
    let known = task("2", FORBIDDEN);
    notices.polled(0, SECOND, &known, &failed(Reason::Forbidden));
    notices.polled(0, SECOND, &known, &failed(Reason::Forbidden));
    assert_eq!(log.lines().len(), 1);
    notices.polled(0, SECOND, &known, &succeeded(Ok(())));
    assert_eq!(log.lines().len(), 2);
}

#[test]
fn what_leaves_or_moves_fails_there_no_longer() {
    let (log, _capture) = Log::capture();
    let mut notices = notices();
    notices.polled(0, FIRST, &task("1", None), &failed(Reason::Auth));
    notices.polled(0, SECOND, &task("2", None), &failed(Reason::Auth));
    notices.moved((0, SECOND), (1, SECOND));
    assert_eq!(log.lines().len(), 1);
    notices.left(0, FIRST);
    assert_eq!(log.count("errors cleared"), 1);
    // It brought its failure along.
    notices.polled(1, FIRST, &task("1", None), &failed(Reason::Auth));
    assert_eq!(log.lines().len(), 2);
    notices.left(1, FIRST);
    assert_eq!(log.lines().len(), 2);
    notices.left(1, SECOND);
    assert_eq!(log.lines().len(), 3);
    assert_eq!(log.count("credentials=two"), 1);
}
