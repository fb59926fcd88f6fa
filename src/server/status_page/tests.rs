//! What stands on the page, and that nothing of the cloud can break out of it.

use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::Reason;

use super::*;
use crate::model::{self, Folded, Rule, Subscription, TaskInfo, Words};
use crate::store::{
    ArtifactSeries, Limits, Origin, RecentRun, RunSummary, Store, SubscriptionEntry, Target,
    TaskEntry,
};

/// 2023-11-14 22:13:20 UTC.
const NOW_MS: i64 = 1_700_000_000_000;

fn entry(id: &str, name: &str) -> TaskEntry {
    let target = Target {
        instance_id: "cri-a".into(),
        task_id: id.into(),
        task: name.into(),
        region: "cn-hangzhou".into(),
        artifacts: ArtifactSeries::All,
        origin: Origin::Configured,
    };
    let mut entry = TaskEntry::new(Arc::new(target), Duration::from_secs(60));
    entry.next_poll_ms = Some(NOW_MS + 12_000);
    entry
}

/// Polled 30 s ago with these artifacts, each begun an hour ago and, unless it
/// runs, over after 83.5 s.
fn polled(mut entry: TaskEntry, info: TaskInfo, results: &[&str]) -> TaskEntry {
    let rows = results.iter().enumerate().map(|(tag, result)| model::Row {
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
    let folded = Folded::new(rows, &words);
    entry.data = Some(Assessment::new(folded, Some(&info), &words));
    entry.info = Some(Arc::new(info));
    entry.last_poll_ms = Some(NOW_MS - 30_000);
    entry.last_success_ms = entry.last_poll_ms;
    entry
}

fn failing(mut entry: TaskEntry, text: &str) -> TaskEntry {
    entry.last_poll_ms = Some(NOW_MS - 5_000);
    entry.error = Some(Arc::new(PollError {
        reason: Reason::Timeout,
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

fn html(entries: Vec<TaskEntry>, query: &str) -> String {
    html_with(entries, [], [], query)
}

fn html_with(
    entries: Vec<TaskEntry>,
    subscriptions: impl IntoIterator<Item = SubscriptionEntry>,
    listings: impl IntoIterator<Item = ListingEntry>,
    query: &str,
) -> String {
    html_at(NOW_MS.into(), entries, subscriptions, listings, query)
}

fn html_at(
    now: Moment,
    entries: Vec<TaskEntry>,
    subscriptions: impl IntoIterator<Item = SubscriptionEntry>,
    listings: impl IntoIterator<Item = ListingEntry>,
    query: &str,
) -> String {
    let limits = Limits {
        series: 200_000,
        artifacts_per_task: 500,
        stale_after: Duration::from_secs(300),
    };
    let wanted = StatusPageQuery {
        telemetry_path: "/metrics".into(),
        ready: true,
        ..StatusPageQuery::parse(query)
    };
    let store = Store::new(limits, entries);
    for subscription in subscriptions {
        store.update_subscription(subscription);
    }
    for listing in listings {
        store.update_listing(listing);
    }
    let snapshot = store.snapshot();
    render(&Overview::new(&snapshot, now), &wanted)
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
    let text = text.replace("&nbsp;", " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_worst_comes_first_and_the_verdict_before_it() {
    let page = html(one_of_each(), "");
    assert_eq!(
        words(&page),
        "1 task failed, 1 poll failing, 1 stale, 1 unknown \
         The rest: 1 running, 1 not polled yet, 1 empty, 1 task succeeded. \
         As of 2023-11-14 22:13:20 UTC. \
         Name, id, repository or error Filter all 8 need attention 4 ✕ failed 1 \
         ! poll failing 1 ⌛ stale 1 ▸ running 1 ? unknown 1 … not polled yet 1 – empty 1 \
         ✓ succeeded 1 \
         State Task Artifacts Started Took Data from Next poll \
         ✕ failed bad cri-a / crast-8 mirror/nginx from DOCKER_HUB library/nginx \
         2 failed, 1 ok 1 h 0 min ago 1 min 23 s 30 s ago in 12 s \
         The cloud says: manifest unknown \
         ! poll failing deaf cri-a / crast-7 mirror/nginx from DOCKER_HUB library/nginx \
         1 ok 1 h 0 min ago 1 min 23 s 30 s ago in 12 s \
         The last poll failed (timeout, 5 s ago ): connect: timed out (request id 4F2A) \
         ⌛ stale old cri-a / crast-6 mirror/nginx from DOCKER_HUB library/nginx \
         1 ok 1 h 0 min ago 1 min 23 s 1 d 0 h ago now \
         Stale: what is shown here is old and no longer on the metrics page. \
         ▸ running busy cri-a / crast-5 mirror/nginx from DOCKER_HUB library/nginx \
         1 running, 1 ok 1 h 0 min ago 1 h 0 min so far 30 s ago in 12 s \
         ? unknown odd cri-a / crast-4 mirror/nginx from DOCKER_HUB library/nginx \
         none – – 30 s ago in 12 s \
         … not polled yet new cri-a / crast-3 – – – never in 12 s \
         – empty none cri-a / crast-2 mirror/nginx from DOCKER_HUB library/nginx \
         none – – 30 s ago in 12 s \
         ✓ succeeded good cri-a / crast-1 mirror/nginx from DOCKER_HUB library/nginx \
         2 ok 1 h 0 min ago 1 min 23 s 30 s ago in 12 s"
    );
    assert!(page.contains("<h1 class=\"bad\">"));
    assert!(page.contains(
        "<time title=\"2023-11-14 21:13:20 UTC\" datetime=\"2023-11-14T21:13:20Z\">\
         1 h 0 min ago</time>"
    ));
}

#[test]
fn a_good_day_and_an_empty_one() {
    let good = (1..=3).map(|n| polled(entry(&n.to_string(), "t"), info(), &["SUCCESS"]));
    let page = html(good.collect(), "");
    assert!(page.contains("<h1 class=\"good\">3\u{a0}tasks succeeded</h1>"));
    assert!(!page.contains("The rest"));
    assert!(
        !page.contains("manifest unknown"),
        "a message is news only with a failure"
    );

    let odd = TaskInfo {
        status: "ODD".into(),
        ..info()
    };
    let odd = polled(entry("crast-1", "odd"), odd, &[]);
    let busy = polled(entry("crast-2", "busy"), info(), &["RUNNING"]);
    let page = html(vec![odd, busy], "");
    assert!(
        page.contains("<h1 class=\"odd\">1\u{a0}unknown</h1>\n<p>The rest: 1\u{a0}running.</p>")
    );

    let page = html(Vec::new(), "");
    assert!(page.contains("<h1 class=\"calm\">No task is configured</h1>"));
    assert!(!page.contains("<table>"));
}

/// Read an hour ago.
fn listing(instance_id: &str) -> ListingEntry {
    ListingEntry {
        instance_id: instance_id.into(),
        interval: Duration::from_secs(300),
        last_success_ms: Some(NOW_MS - 3_600_000),
        wall_ahead_ms: 0,
        last_try_ms: Some(NOW_MS - 3_600_000),
        error: None,
        next_ms: None,
        tasks_dropped: 0,
        ..ListingEntry::default()
    }
}

fn unreadable(instance_id: &str, text: &str) -> ListingEntry {
    let error = PollError {
        reason: Reason::Forbidden,
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

    let page = html_with(good(), [], [listing("cri-a")], "");
    assert!(page.contains("<h1 class=\"good\">1\u{a0}task succeeded</h1>"));
    assert!(!page.contains("cannot be read") && !page.contains("max_tasks"));

    let never = ListingEntry {
        last_success_ms: None,
        ..unreadable("cri-b", "denied <b>")
    };
    let listings = [unreadable("cri-a", "denied (request id 4F2A)"), never];
    let page = html_with(good(), [], listings.clone(), "");
    assert!(page.contains("<h1 class=\"warn\">2\u{a0}listings failing</h1>"));
    let text = words(&page);
    assert!(
        text.starts_with(
            "2 listings failing The rest: 1 task succeeded. \
             The lists of cri-a cannot be read (forbidden, last read 1 h 0 min ago ): \
             denied (request id 4F2A) \
             The lists of cri-b cannot be read (forbidden, never read yet): denied &#60;b&#62; \
             As of"
        ),
        "{text}"
    );

    let page = html_with(bad(), [], listings, "");
    assert!(page.contains("<h1 class=\"bad\">1\u{a0}task failed, 2\u{a0}listings failing</h1>"));
    let page = html_with(Vec::new(), [], [unreadable("cri-a", "denied")], "");
    assert!(page.contains("<h1 class=\"warn\">1\u{a0}listing failing</h1>"));
    let page = html_with(Vec::new(), [], [listing("cri-a")], "");
    assert!(page.contains("<h1 class=\"calm\">No task is known</h1>"));
}

#[test]
fn runs_that_were_left_out_are_told() {
    let dropping = |runs| ListingEntry {
        tasks_dropped: runs,
        ..listing("cri-a")
    };
    let text = |runs| words(&html_with(Vec::new(), [], [dropping(runs)], ""));
    assert!(text(1).starts_with("No task is known cri-a: 1 run left out by max_tasks. As of"));
    assert!(text(12).starts_with("No task is known cri-a: 12 runs left out by max_tasks. As of"));
}

#[test]
fn several_pages() {
    let many: Vec<_> = (0..201)
        .map(|n| entry(&format!("crast-{n:03}"), "t"))
        .collect();
    let first = html(many.clone(), "");
    assert!(first.contains("Tasks 1–100 of 201"));
    assert!(first.contains("crast-099") && !first.contains("crast-100"));
    assert!(first.contains("href=\"?page=2\"") && !first.contains("rel=\"prev\""));

    let second = html(many.clone(), "page=2");
    assert!(second.contains("crast-100") && second.contains("crast-199"));
    assert!(!second.contains("crast-099") && !second.contains("crast-200"));
    assert!(second.contains("rel=\"prev\" href=\"?\"") && second.contains("href=\"?page=3\""));

    for beyond in ["page=3", "page=4", "page=18446744073709551615"] {
        let last = html(many.clone(), beyond);
        assert!(last.contains("Tasks 201–201 of 201"));
        assert!(!last.contains("rel=\"next\""));
    }
    for odd in [
        "page=0",
        "page=-1",
        "page=x",
        "page=99999999999999999999999",
        "page",
        "%",
    ] {
        assert!(
            html(many.clone(), odd).contains("Tasks 1–100 of 201"),
            "{odd}"
        );
    }
    assert!(!html(vec![entry("crast-1", "t")], "").contains("?page="));

    // The filter goes with the reader.
    let filtered = html(many, "state=not_polled&q=crast+%3C&page=2");
    assert!(filtered.contains("No tasks of 201 match. <a href=\"?\">Show all</a>"));
    let many = (0..201).map(|n| entry(&format!("crast-{n:03}"), "a&b"));
    let filtered = html(many.collect(), "state=not_polled&q=A%26b&page=2");
    assert!(filtered.contains("Tasks 101–200 of 201"));
    for link in [
        "rel=\"prev\" href=\"?q=A%26b&#38;state=not_polled\"",
        "rel=\"next\" href=\"?q=A%26b&#38;state=not_polled&#38;page=3\"",
        "href=\"?q=A%26b\">all",
    ] {
        assert!(filtered.contains(link), "{link}");
    }
}

#[test]
fn ten_thousand_tasks_are_a_hundred_pages_each_as_small_as_one() {
    let many: Vec<_> = (0..10_000)
        .map(|n| {
            polled(
                entry(&format!("crast-{n:05}"), "mirror/nginx"),
                info(),
                &["SUCCESS"],
            )
        })
        .collect();
    let few = html(many[..100].to_vec(), "");
    let last = html(many, "page=100");
    assert!(last.contains("Tasks 9901–10000 of 10000"));
    assert_eq!(listed(&last).len(), 100);
    assert!(
        last.len() < few.len() + 1_000 && last.len() < 200_000,
        "{}",
        last.len()
    );
}

/// The names of the tasks that a query lists, in order.
fn listed(page: &str) -> Vec<&str> {
    let names = page.split("<span class=\"name\">").skip(1);
    names.map(|rest| rest.split('<').next().unwrap()).collect()
}

#[test]
fn filters() {
    for (query, names) in [
        ("state=failed", &["bad"][..]),
        ("state=poll_failing", &["deaf"]),
        ("state=stale", &["old"]),
        ("state=running", &["busy"]),
        ("state=unknown", &["odd"]),
        ("state=not_polled", &["new"]),
        ("state=empty", &["none"]),
        ("state=succeeded", &["good"]),
        ("state=failing", &[]),
        ("state=attention", &["bad", "deaf", "old", "odd"]),
        // The name, case ignored; id; instance with a name; error; message of the
        // cloud; repositories.
        ("q=GOOD", &["good"]),
        ("q=CRAST-5", &["busy"]),
        ("q=Timeout", &["deaf"]),
        ("q=4f2a", &["deaf"]),
        ("q=manifest&state=failed", &["bad"]),
        ("q=zz", &[]),
        ("q=a.t", &[]),
        ("q=++good+", &["good"]),
        ("q=good&state=failed", &[]),
    ] {
        assert_eq!(listed(&html(one_of_each(), query)), names, "{query}");
    }
    let everything = listed(&html(one_of_each(), "")).len();
    assert_eq!(everything, 8);
    for query in [
        "q=",
        "q=+",
        "state=",
        "state=nonsense",
        "a=b",
        "&&==",
        "q=cri-a",
    ] {
        assert_eq!(listed(&html(one_of_each(), query)).len(), 8, "{query}");
    }
    for query in ["q=mirror/NGINX", "q=docker_hub+library/"] {
        // All but the one that was never polled.
        assert_eq!(listed(&html(one_of_each(), query)).len(), 7, "{query}");
    }
    let accent = vec![polled(entry("crast-1", "Übung"), info(), &[])];
    assert_eq!(listed(&html(accent, "q=%C3%BCBUNG")), ["Übung"]);
}

#[test]
fn the_verdict_speaks_of_all_tasks_and_the_list_of_some() {
    let page = html(one_of_each(), "state=succeeded");
    let text = words(&page);
    assert!(
        text.starts_with("1 task failed, 1 poll failing, 1 stale, 1 unknown The rest:"),
        "{text}"
    );
    assert!(
        text.contains(" ✓ succeeded 1 1 task of 8 matches. Show all State Task"),
        "{text}"
    );
    assert!(page.contains("<a class=\"good\" href=\"?state=succeeded\" aria-current=\"true\">"));
    assert_eq!(page.matches("aria-current=\"true\"").count(), 1);
    assert!(page.contains("<input name=\"state\" type=\"hidden\" value=\"succeeded\">"));

    let none = html(one_of_each(), "state=failing&q=%22%3E%3Cb%3E");
    assert!(none.contains("No tasks of 8 match.") && !none.contains("<table>"));
    assert!(none.contains("value=\"&#34;&#62;&#60;b&#62;\""));
    assert!(
        none.contains("aria-current=\"true\"><span aria-hidden=\"true\">✕</span> failing <b>0</b>")
    );
}

fn run(id: &str, status: TaskStatus) -> RunSummary {
    RunSummary {
        task_id: id.into(),
        status,
        start_ms: Some(NOW_MS - 3_600_000),
        duration_ms: (status != TaskStatus::Running).then_some(83_500),
        ..RunSummary::default()
    }
}

/// What [`info`] tells a run of, made ten days ago; its newest run has failed.
fn subscription(newest: RunSummary) -> SubscriptionEntry {
    let subscription = info().subscription();
    let rule = Rule {
        rule_id: "crasr-1".into(),
        subscription: subscription.clone(),
        tag_regexp: ".*".into(),
        created_ms: Some(NOW_MS - 864_000_000),
        ..Rule::default()
    };
    SubscriptionEntry {
        created_ms: rule.created_ms,
        instance_id: "cri-a".into(),
        subscription: Arc::new(subscription),
        rules: [rule].into(),
        last_run: Some(newest),
        last_finished_run: Some(run("crast-1", TaskStatus::Failed)),
        consecutive_failed_runs: 3,
        last_success_ms: Some(NOW_MS - 172_800_000),
        counts: Arc::default(),
        ..SubscriptionEntry::default()
    }
}

fn read_now() -> ListingEntry {
    ListingEntry {
        last_success_ms: Some(NOW_MS - 60_000),
        next_ms: Some(NOW_MS + 240_000),
        ..listing("cri-a")
    }
}

#[test]
fn a_failing_subscription_comes_first_whatever_runs_now() {
    let failed = polled(entry("crast-1", "mirror/nginx"), info(), &["FAILED"]);
    let other = polled(entry("crast-0", "other"), TaskInfo::default(), &["FAILED"]);
    let page = html_with(
        vec![other.clone(), failed.clone()],
        [subscription(run("crast-1", TaskStatus::Failed))],
        [read_now()],
        "",
    );
    assert_eq!(listed(&page), ["mirror/nginx", "other"]);
    let text = words(&page);
    assert!(
        text.starts_with("1 subscription failing, 1 task failed As of"),
        "{text}"
    );
    assert!(
        text.contains(
            "✕ failing mirror/nginx cri-a / crast-1 from DOCKER_HUB library/nginx \
             1 failed 1 h 0 min ago 1 min 23 s 30 s ago in 12 s \
             The last 3 runs failed: last success 2 d 0 h ago . The cloud says: manifest unknown"
        ),
        "{text}"
    );

    // A run that merely starts resolves nothing.
    let newest = polled(entry("crast-2", "mirror/nginx"), info(), &["RUNNING"]);
    let page = html_with(
        vec![failed.clone(), newest],
        [SubscriptionEntry {
            consecutive_failed_runs: 1,
            last_success_ms: None,
            ..subscription(run("crast-2", TaskStatus::Running))
        }],
        [read_now()],
        "",
    );
    let text = words(&page);
    assert!(
        text.starts_with("1 subscription failing, 1 task failed As of"),
        "{text}"
    );
    assert!(
        text.contains(
            "The last run failed: no success is known, subscribed 10 d 0 h ago ; \
             a new run is under way."
        ),
        "{text}"
    );

    // A poll knows sooner than the next listing that all is well again.
    let well = polled(entry("crast-2", "mirror/nginx"), info(), &["SUCCESS"]);
    let again = subscription(run("crast-2", TaskStatus::Running));
    let page = html_with(vec![well], [again], [read_now()], "");
    assert!(page.contains("<h1 class=\"good\">1\u{a0}task succeeded</h1>"));
    assert!(words(&page).contains("subscription: last success 2 d 0 h ago"));

    // A run before the last good one is still a failed task, and not more.
    let newer = RunSummary {
        start_ms: Some(NOW_MS - 60_000),
        ..run("crast-2", TaskStatus::Succeeded)
    };
    let well = SubscriptionEntry {
        last_finished_run: Some(newer.clone()),
        ..subscription(newer)
    };
    let page = html_with(vec![failed], [well], [read_now()], "");
    let text = words(&page);
    assert!(
        text.starts_with("1 task failed The rest: 1 task succeeded."),
        "{text}"
    );
    assert!(
        text.contains("Since then a newer run of this subscription succeeded."),
        "{text}"
    );
}

#[test]
fn a_subscription_without_a_watched_run_has_a_row_of_its_own() {
    let failing = subscription(run("crast-1", TaskStatus::Failed));
    let page = html_with(Vec::new(), [failing.clone()], [read_now()], "");
    let text = words(&page);
    assert!(text.starts_with("1 subscription failing As of"), "{text}");
    assert!(
        text.contains(
            "✕ failing mirror/nginx cri-a / crast-1 from DOCKER_HUB library/nginx \
             – 1 h 0 min ago 1 min 23 s 1 min 0 s ago in 4 min 0 s The last 3 runs failed:"
        ),
        "{text}"
    );
    // Of an instance whose lists were not read for long nothing is known.
    let page = html_with(Vec::new(), [failing], [listing("cri-a")], "");
    assert!(page.contains("<h1 class=\"warn\">1\u{a0}stale</h1>"));
    let unused = SubscriptionEntry {
        last_run: None,
        last_finished_run: None,
        last_success_ms: None,
        ..subscription(run("crast-1", TaskStatus::Failed))
    };
    let text = words(&html_with(
        Vec::new(),
        [unused],
        [read_now()],
        "q=LIBRARY/nginx",
    ));
    assert!(
        text.contains("– empty mirror/nginx cri-a / no run yet"),
        "{text}"
    );
}

#[test]
fn ages_of_data_do_not_follow_the_wall_clock() {
    let page = |steady_ms| {
        let now = Moment {
            wall_ms: NOW_MS - 86_400_000,
            steady_ms,
        };
        let task = polled(entry("crast-9", "t"), info(), &["SUCCESS"]);
        let followed = subscription(run("crast-1", TaskStatus::Failed));
        let listing = ListingEntry {
            error: unreadable("cri-a", "denied").error,
            ..read_now()
        };
        words(&html_at(now, vec![task], [followed], [listing], ""))
    };
    let text = page(NOW_MS);
    assert!(
        text.starts_with("1 subscription failing, 1 listing failing"),
        "{text}"
    );
    assert!(
        text.contains("(forbidden, last read 1 min 0 s ago )"),
        "{text}"
    );
    assert!(text.contains("As of 2023-11-13 22:13:20 UTC."), "{text}");
    // Of the subscription and of the task.
    assert!(text.contains(" 1 min 0 s ago in 1 d 0 h"), "{text}");
    assert!(text.contains(" 30 s ago in 1 d 0 h"), "{text}");
    let text = page(NOW_MS + 3_600_000);
    assert!(text.starts_with("2 stale, 1 listing failing"), "{text}");
    assert!(text.contains(" 1 h 0 min ago in 1 d 0 h"), "{text}");
}

#[test]
fn a_run_is_compared_with_the_last_ones() {
    let with = |durations: &[i64], results: &[&str]| {
        let status = if results == ["RUNNING"] {
            TaskStatus::Running
        } else {
            TaskStatus::Failed
        };
        let followed = SubscriptionEntry {
            last_finished_run: Some(run(
                if status == TaskStatus::Running {
                    "crast-0"
                } else {
                    "crast-1"
                },
                TaskStatus::Failed,
            )),
            recent_runs: recent(durations),
            ..subscription(run("crast-1", status))
        };
        let task = polled(entry("crast-1", "t"), info(), results);
        html_with(vec![task], [followed], [read_now()], "")
    };
    // The highest is 14 high: 10 s of 140 s are 1, 71 s are 7.1.
    let page = with(&[10_000, 140_000, 71_000, 83_500], &["FAILED"]);
    assert!(
        page.contains(
            "1 min 23 s <span class=\"usual\">\
             <svg role=\"img\" width=\"11\" height=\"14\" viewBox=\"0 0 11 14\">\
             <title>The last 4 runs took 10 s to 2 min 20 s; the bar at the end is this run.</title>\
             <path d=\"M0 14v-1h2v1zM3 14v-14h2v14zM6 14v-7h2v7z\"/>\
             <path class=\"this\" d=\"M9 14v-8h2v8z\"/></svg> median 1 min 17 s</span>"
        ),
        "{page}"
    );
    // One that runs is not among them yet: an hour so far beside nothing.
    let page = with(&[0, 1], &["RUNNING"]);
    assert!(
        page.contains(
            "1 h 0 min so far <span class=\"usual\">\
             <svg role=\"img\" width=\"8\" height=\"14\" viewBox=\"0 0 8 14\">\
             <title>The last 2 runs took 0 s to 0 s; the bar at the end is this run.</title>\
             <path d=\"M0 14v-1h2v1zM3 14v-1h2v1z\"/>\
             <path class=\"this\" d=\"M6 14v-14h2v14z\"/></svg> median 0 s</span>"
        ),
        "{page}"
    );
    assert!(
        !with(&[10_000], &["FAILED"]).contains("<svg"),
        "nothing to compare with"
    );
    let odd = with(&[30_000, 10_000, 20_000], &["FAILED"]);
    assert!(odd.contains("median 20 s</span>"));
}

#[test]
fn nothing_of_the_cloud_breaks_out() {
    let hostile = "</td><script>alert('1')</script><img src=x onerror=\"a&b\">";
    let harmless = "&#60;/td&#62;&#60;script&#62;alert(&#39;1&#39;)&#60;/script&#62;&#60;img src=x \
                    onerror=&#34;a&#38;b&#34;&#62;";
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
    let followed = SubscriptionEntry {
        instance_id: hostile.into(),
        subscription: Arc::new(Subscription {
            repo_namespace: hostile.into(),
            repo_name: "b".into(),
            source_provider: hostile.into(),
            source_repository: hostile.into(),
        }),
        last_run: Some(run(hostile, TaskStatus::Running)),
        ..subscription(run("crast-1", TaskStatus::Failed))
    };
    let page = html_with(vec![task], [followed], [listing], "");
    assert!(!page.contains("<script") && !page.contains("<img"));
    // Name, instance, id, four of the repository, message, error; the listing's
    // instance twice and its error; of the subscription that is another's name,
    // instance, run and source.
    assert_eq!(page.matches(harmless).count(), 17);
}

#[test]
fn nothing_turns_the_text_around() {
    let hostile = "a\u{202e}b\u{0}c\u{9b}d\ne<";
    let shown = "a\u{fffd}b\u{fffd}c\u{fffd}d\ne&#60;";
    let mut escaped = String::new();
    PlainText.write_escaped_str(&mut escaped, hostile).unwrap();
    assert_eq!(escaped, shown);
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
    assert_eq!(timestamp(0).to_string(), "1970-01-01T00:00:00Z");
    assert_eq!(timestamp(-1).to_string(), "1969-12-31T23:59:59Z");
    assert_eq!(timestamp(i64::MAX), Timestamp::MAX);
    assert!(Ago::new(i64::MAX, i64::MIN).to_string().starts_with("in "));
    assert!(Ago::new(i64::MIN, i64::MAX).to_string().ends_with(" ago"));
    assert_eq!(Ago::new(5, 900).to_string(), "now");
}

#[test]
fn links_are_relative() {
    let page = html(one_of_each(), "");
    for link in page.split("href=\"").skip(1) {
        assert!(
            link.starts_with("./") || link.starts_with('?'),
            "{link:.20}"
        );
    }
    for link in ["./metrics", "./config", "./api/v1/tasks"] {
        assert!(page.contains(&format!("href=\"{link}\"")), "{link}");
    }
}

/// Runs that took so long, milliseconds, the oldest first.
fn recent(durations_ms: &[i64]) -> Arc<[RecentRun]> {
    let newest_first = durations_ms.iter().rev();
    let runs = newest_first.map(|millis| RecentRun {
        duration_ms: Some(*millis),
        ..RecentRun::default()
    });
    runs.collect()
}
