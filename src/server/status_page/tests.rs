//! What stands on the page, and that nothing of the cloud can break out of it.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::metrics::catalog::SERIES;
use crate::model::{Folded, Row, TaskInfo, Words};
use crate::store::{ArtifactSeries, Limits, PollError, Store, Target};

/// 2023-11-14 22:13:20 UTC.
const NOW_MS: i64 = 1_700_000_000_000;

fn entry(id: &str, name: &str) -> TaskEntry {
    let target = Target {
        instance_id: "cri-a".into(),
        task_id: id.into(),
        task: name.into(),
        region: "cn-hangzhou".into(),
        artifacts: ArtifactSeries::All,
    };
    let mut entry = TaskEntry::new(Arc::new(target), Duration::from_secs(60));
    entry.next_poll_ms = Some(NOW_MS + 12_000);
    entry
}

/// Polled 30 s ago with these artifacts, each begun an hour ago and, unless it
/// runs, over after 83.5 s.
fn polled(mut entry: TaskEntry, info: TaskInfo, results: &[&str]) -> TaskEntry {
    let rows = results.iter().enumerate().map(|(tag, result)| Row {
        repo_namespace: "mirror".into(),
        repo_name: "nginx".into(),
        tag: tag.to_string(),
        status: if *result == "RUNNING" {
            "RUNNING"
        } else {
            "COMPLETED"
        }
        .into(),
        result: (*result).into(),
        start_ms: Some(NOW_MS - 3_600_000),
        end_ms: (*result != "RUNNING").then_some(NOW_MS - 3_516_500),
    });
    let words = Words::default();
    let folded = Folded::new(rows.collect(), &words);
    entry.data = Some(Arc::new(Assessment::new(folded, Some(&info), &words)));
    entry.info = Some(Arc::new(info));
    entry.last_poll_ms = Some(NOW_MS - 30_000);
    entry.last_success_ms = entry.last_poll_ms;
    entry
}

fn failing(mut entry: TaskEntry, text: &str) -> TaskEntry {
    entry.last_poll_ms = Some(NOW_MS - 5_000);
    entry.error = Some(Arc::new(PollError {
        reason: "timeout",
        text: text.into(),
    }));
    entry
}

fn stale(mut entry: TaskEntry) -> TaskEntry {
    entry.last_poll_ms = Some(NOW_MS - 86_400_000);
    entry.last_success_ms = entry.last_poll_ms;
    entry.next_poll_ms = Some(NOW_MS - 1);
    entry
}

fn html(entries: Vec<TaskEntry>, page: usize) -> String {
    html_with(entries, [], page)
}

fn html_with(
    entries: Vec<TaskEntry>,
    listings: impl IntoIterator<Item = ListingEntry>,
    page: usize,
) -> String {
    let limits = Limits {
        series: 200_000,
        artifacts_per_task: 500,
        stale_after: Duration::from_secs(300),
    };
    let wanted = Wanted {
        page,
        telemetry_path: "/metrics".into(),
        ready: true,
    };
    let store = Store::new(limits, entries);
    for listing in listings {
        store.update_listing(listing);
    }
    let snapshot = store.snapshot();
    render(&snapshot.view(NOW_MS, SERIES), &wanted)
}

fn info() -> TaskInfo {
    TaskInfo {
        repo_namespace: "mirror".into(),
        repo_name: "nginx".into(),
        source_provider: "DOCKER_HUB".into(),
        source_repository: "library/nginx".into(),
        message: "manifest unknown".into(),
        ..TaskInfo::default()
    }
}

/// One task of each state, in the order of their ids.
fn one_of_each() -> Vec<TaskEntry> {
    let odd = TaskInfo {
        status: "ODD".into(),
        ..info()
    };
    vec![
        polled(entry("crast-1", "good"), info(), &["SUCCESS", "SUCCESS"]),
        polled(entry("crast-2", "none"), info(), &[]),
        entry("crast-3", "new"),
        polled(entry("crast-4", "odd"), odd, &[]),
        polled(entry("crast-5", "busy"), info(), &["RUNNING", "SUCCESS"]),
        stale(polled(entry("crast-6", "old"), info(), &["SUCCESS"])),
        failing(
            polled(entry("crast-7", "deaf"), info(), &["SUCCESS"]),
            "connect: timed out (request id 4F2A)",
        ),
        polled(
            entry("crast-8", "bad"),
            info(),
            &["SUCCESS", "FAILED", "FAILED"],
        ),
    ]
}

/// The rendered text of what lies between tags, in order.
fn words(html: &str) -> String {
    let body = html.split_once("<main>").expect("there is a main part").1;
    let mut text = String::new();
    for piece in body.split('<') {
        let (_, after) = piece.split_once('>').unwrap_or(("", piece));
        text.push_str(after);
        text.push(' ');
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_worst_comes_first_and_the_verdict_before_it() {
    let page = html(one_of_each(), 1);
    assert_eq!(
        words(&page),
        "1 task failed, 1 poll failing, 1 stale, 1 unknown \
         The rest: 1 running, 1 not polled yet, 1 empty, 1 task succeeded. \
         As of 2023-11-14 22:13:20 UTC. \
         State Task Artifacts Started Took Data from Next poll \
         ✕ failed bad cri-a / crast-8 mirror/nginx from DOCKER_HUB library/nginx \
         2 failed , 1 ok 1 h 0 min ago 1 min 23 s 30 s ago in 12 s \
         The cloud says: manifest unknown \
         ! poll failing deaf cri-a / crast-7 mirror/nginx from DOCKER_HUB library/nginx \
         1 ok 1 h 0 min ago 1 min 23 s 30 s ago in 12 s \
         The last poll failed (timeout, 5 s ago ): connect: timed out (request id 4F2A) \
         ⌛ stale old cri-a / crast-6 mirror/nginx from DOCKER_HUB library/nginx \
         1 ok 1 h 0 min ago 1 min 23 s 1 d 0 h ago now \
         Stale: what is shown here is old and no longer on the metrics page. \
         ▸ running busy cri-a / crast-5 mirror/nginx from DOCKER_HUB library/nginx \
         1 running , 1 ok 1 h 0 min ago 1 h 0 min so far 30 s ago in 12 s \
         ? unknown odd cri-a / crast-4 mirror/nginx from DOCKER_HUB library/nginx \
         none – – 30 s ago in 12 s \
         … not polled yet new cri-a / crast-3 – – – never in 12 s \
         – empty none cri-a / crast-2 mirror/nginx from DOCKER_HUB library/nginx \
         none – – 30 s ago in 12 s \
         ✓ succeeded good cri-a / crast-1 mirror/nginx from DOCKER_HUB library/nginx \
         2 ok 1 h 0 min ago 1 min 23 s 30 s ago in 12 s"
    );
    assert!(page.contains("<h1 class=\"bad\">"));
    assert!(page.contains("<time title=\"2023-11-14 21:13:20 UTC\">1 h 0 min ago</time>"));
}

#[test]
fn a_good_day_and_an_empty_one() {
    let good = (1..=3).map(|n| polled(entry(&n.to_string(), "t"), info(), &["SUCCESS"]));
    let page = html(good.collect(), 1);
    assert!(page.contains("<h1 class=\"good\">3\u{a0}tasks succeeded</h1>"));
    assert!(!page.contains("The rest"));
    assert!(
        !page.contains("manifest unknown"),
        "a message is news only with a failure"
    );

    let page = html(Vec::new(), 1);
    assert!(page.contains("<h1 class=\"calm\">No task is configured</h1>"));
    assert!(!page.contains("<table>"));
}

/// Read an hour ago.
fn listing(instance_id: &str) -> ListingEntry {
    ListingEntry {
        instance_id: instance_id.into(),
        interval: Duration::from_secs(300),
        last_success_ms: Some(NOW_MS - 3_600_000),
        last_try_ms: Some(NOW_MS - 3_600_000),
        error: None,
        next_ms: None,
        tasks_dropped: 0,
    }
}

fn unreadable(instance_id: &str, text: &str) -> ListingEntry {
    let error = PollError {
        reason: "forbidden",
        text: text.into(),
    };
    ListingEntry {
        last_try_ms: Some(NOW_MS - 5_000),
        error: Some(Arc::new(error)),
        ..listing(instance_id)
    }
}

#[test]
fn a_list_that_cannot_be_read_is_part_of_the_verdict() {
    let good = || vec![polled(entry("crast-1", "t"), info(), &["SUCCESS"])];
    let bad = || vec![polled(entry("crast-1", "t"), info(), &["FAILED"])];

    let page = html_with(good(), [listing("cri-a")], 1);
    assert!(page.contains("<h1 class=\"good\">1\u{a0}task succeeded</h1>"));
    assert!(!page.contains("cannot be read") && !page.contains("max_tasks"));

    let never = ListingEntry {
        last_success_ms: None,
        ..unreadable("cri-b", "denied <b>")
    };
    let listings = [unreadable("cri-a", "denied (request id 4F2A)"), never];
    let page = html_with(good(), listings.clone(), 1);
    assert!(page.contains("<h1 class=\"warn\">2\u{a0}listings failing</h1>"));
    let text = words(&page);
    assert!(
        text.starts_with(
            "2 listings failing The rest: 1 task succeeded. \
             The lists of cri-a cannot be read (forbidden, last read 1 h 0 min ago ): \
             denied (request id 4F2A) \
             The lists of cri-b cannot be read (forbidden, never read yet): denied &lt;b&gt; \
             As of"
        ),
        "{text}"
    );

    let page = html_with(bad(), listings, 1);
    assert!(page.contains("<h1 class=\"bad\">1\u{a0}task failed, 2\u{a0}listings failing</h1>"));
    let page = html_with(Vec::new(), [unreadable("cri-a", "denied")], 1);
    assert!(page.contains("<h1 class=\"warn\">1\u{a0}listing failing</h1>"));
    let page = html_with(Vec::new(), [listing("cri-a")], 1);
    assert!(page.contains("<h1 class=\"calm\">No task is known</h1>"));
}

#[test]
fn runs_that_were_left_out_are_told() {
    let dropping = |runs| ListingEntry {
        tasks_dropped: runs,
        ..listing("cri-a")
    };
    let text = |runs| words(&html_with(Vec::new(), [dropping(runs)], 1));
    assert!(text(1).starts_with("No task is known cri-a: 1 run left out by max_tasks. As of"));
    assert!(text(12).starts_with("No task is known cri-a: 12 runs left out by max_tasks. As of"));
}

#[test]
fn several_pages() {
    let many: Vec<_> = (0..401)
        .map(|n| entry(&format!("crast-{n:03}"), "t"))
        .collect();
    let first = html(many.clone(), 1);
    assert!(first.contains("Tasks 1–200 of 401"));
    assert!(first.contains("crast-199") && !first.contains("crast-200"));
    assert!(first.contains("href=\"?page=2\"") && !first.contains("rel=\"prev\""));

    let second = html(many.clone(), 2);
    assert!(second.contains("crast-200") && second.contains("crast-399"));
    assert!(!second.contains("crast-199") && !second.contains("crast-400"));
    assert!(second.contains("href=\"?page=1\"") && second.contains("href=\"?page=3\""));

    for beyond in [3, 4, usize::MAX] {
        let last = html(many.clone(), beyond);
        assert!(last.contains("Tasks 401–401 of 401"));
        assert!(!last.contains("rel=\"next\""));
    }
    assert!(html(many, 0).contains("Tasks 1–200 of 401"));
    assert!(!html(vec![entry("crast-1", "t")], 1).contains("?page="));
}

#[test]
fn queries() {
    for (query, page) in [
        ("page=2", 2),
        ("a=b&page=3", 3),
        ("page=", 1),
        ("page=-1", 1),
        ("page=99999999999999999999999", 1),
        ("xpage=4", 1),
        ("", 1),
    ] {
        assert_eq!(page_of(query), page, "{query}");
    }
}

#[test]
fn nothing_of_the_cloud_breaks_out() {
    let hostile = "</td><script>alert('1')</script><img src=x onerror=\"a&b\">";
    let harmless = "&lt;/td&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&lt;img src=x \
                    onerror=&quot;a&amp;b&quot;&gt;";
    let info = TaskInfo {
        repo_namespace: hostile.into(),
        repo_name: hostile.into(),
        source_provider: hostile.into(),
        source_repository: hostile.into(),
        task_type: hostile.into(),
        status: hostile.into(),
        result: "FAILED".into(),
        message: hostile.into(),
        ..TaskInfo::default()
    };
    let mut task = failing(polled(entry(hostile, hostile), info, &["FAILED"]), hostile);
    let mut target = (*task.target).clone();
    target.instance_id = hostile.into();
    task.target = Arc::new(target);
    let listing = ListingEntry {
        tasks_dropped: 1,
        ..unreadable(hostile, hostile)
    };
    let page = html_with(vec![task], [listing], 1);
    assert!(!page.contains("<script") && !page.contains("<img"));
    // Name, instance, id, four of the repository, message, error; the listing's
    // instance twice and its error.
    assert_eq!(page.matches(harmless).count(), 12);
}

#[test]
fn lengths_of_time() {
    for (millis, text) in [
        (0, "0 s"),
        (5_099, "5 s"),
        (999, "0.9 s"),
        (9_999, "9.9 s"),
        (10_000, "10 s"),
        (59_999, "59 s"),
        (60_000, "1 min 0 s"),
        (3_599_000, "59 min 59 s"),
        (3_600_000, "1 h 0 min"),
        (86_399_000, "23 h 59 min"),
        (90_000_000, "1 d 1 h"),
    ] {
        assert_eq!(Span(millis).to_string(), text);
    }
}

#[test]
fn moments() {
    assert_eq!(Moment(0).to_string(), "1970-01-01 00:00:00 UTC");
    assert_eq!(Moment(-1).to_string(), "1969-12-31 23:59:59 UTC");
    assert_eq!(Moment(i64::MAX).to_string(), "a time out of range");
    assert!(Ago(i64::MAX, i64::MIN).to_string().contains(">in "));
    assert!(Ago(i64::MIN, i64::MAX).to_string().contains(" ago<"));
    assert!(Ago(5, 900).to_string().ends_with(">now</time>"));
}

#[test]
fn links_are_relative() {
    let page = html(one_of_each(), 1);
    for link in page.split("href=\"").skip(1) {
        assert!(
            link.starts_with("./") || link.starts_with('?'),
            "{link:.20}"
        );
    }
    assert!(page.contains("href=\"./metrics\""));
}
