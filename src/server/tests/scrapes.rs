//! The metrics page in each format and coding, in parts, and while others
//! change it or read it slowly.

use std::collections::BTreeSet;

use tokio::time::{advance, pause, resume};

use super::*;

const OPENMETRICS: &str = "Accept: application/openmetrics-text\r\n";

/// The part of a page that stays as it is between two scrapes: not the requests
/// that they count, nor what the process does meanwhile.
fn lasting(page: &str) -> Vec<&str> {
    let moves = |line: &&str| {
        ["aliyun_acr_exporter_http_requests_total{", "process_"]
            .iter()
            .any(|moving| line.starts_with(moving))
    };
    page.lines().filter(|line| !moves(line)).collect()
}

#[tokio::test]
async fn each_format_in_each_coding_is_the_same_page() {
    // One that fits into a piece, and one that does not.
    for artifacts in [1, 5_000] {
        let server = start(vec![entry("crast-1", artifacts)], |_| {});
        for (accept, kind) in [
            ("", "text/plain; version=0.0.4; charset=utf-8"),
            (
                "Accept: */*\r\n",
                "text/plain; version=0.0.4; charset=utf-8",
            ),
            (
                OPENMETRICS,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            ),
            (
                "Accept: application/openmetrics-text;version=0.0.1\r\n",
                "application/openmetrics-text; version=0.0.1; charset=utf-8",
            ),
        ] {
            let plain = server.ask_with("GET", "/metrics", accept).await;
            assert_eq!(plain.header("content-type"), kind);
            assert_eq!(plain.header("vary"), "Accept, Accept-Encoding");
            assert_eq!(plain.find("content-encoding"), None);
            assert_eq!(plain.body.ends_with("\n# EOF\n"), kind.contains("open"));
            // Kept from the second on.
            for coding in ["gzip", "zstd", "gzip", "zstd"] {
                let lines = format!("{accept}Accept-Encoding: {coding}\r\n");
                let coded = server.ask_with("GET", "/metrics", &lines).await;
                assert_eq!(coded.status, 200);
                assert_eq!(coded.header("content-type"), kind);
                assert_eq!(coded.header("content-encoding"), coding);
                assert_eq!(coded.header("vary"), "Accept, Accept-Encoding");
                assert!(coded.bytes.len() < plain.bytes.len() / 3);
                assert_eq!(lasting(&coded.body), lasting(&plain.body));
            }
        }
        server.stopped().await;
    }
}

#[tokio::test]
async fn what_moves_is_of_this_very_scrape() {
    let server = start(vec![entry("crast-1", 1)], |_| {});
    let gzip = "Accept-Encoding: gzip\r\n";
    for scrapes in 0..3 {
        let page = server.ask_with("GET", "/metrics", gzip).await.body;
        let requests = format!("http_requests_total{{code=\"200\",path=\"/metrics\"}} {scrapes}\n");
        assert!(page.contains(&requests), "{page}");
    }
    server.settings.store.update(entry("crast-2", 2));
    server.settings.ready.store(false, Ordering::Relaxed);
    let page = server.ask_with("GET", "/metrics", gzip).await.body;
    for line in [
        "aliyun_acr_exporter_tasks 2",
        // 20 of each task, 2 of each artifact.
        "aliyun_acr_exporter_series 44",
        "aliyun_acr_exporter_ready 0",
    ] {
        assert!(page.lines().any(|this| this == line), "{line}\n{page}");
    }
    // Nothing has changed but the time.
    server.settings.clock.set(NOW_MS + 300_001);
    let page = server.ask_with("GET", "/metrics", gzip).await.body;
    assert!(!page.contains("task_status"), "{page}");
    assert!(page.contains("\naliyun_acr_exporter_series 10\n"), "{page}");
    server.stopped().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_there_is_gets_406() {
    let server = start(vec![entry("crast-1", 1)], |_| {});
    let none = "Accept-Encoding: identity;q=0, *;q=0\r\n";
    let refused = server.ask_with("GET", "/metrics", none).await;
    assert_eq!(refused.status, 406);
    assert_eq!(refused.header("vary"), "Accept, Accept-Encoding");
    let coded = "Accept-Encoding: identity;q=0\r\n";
    let coded = server.ask_with("GET", "/metrics", coded).await;
    assert_eq!(coded.header("content-encoding"), "gzip");
    // A format that there is not is no reason to show nothing.
    let other = server
        .ask_with("GET", "/metrics", "Accept: image/png\r\n")
        .await;
    assert_eq!(other.status, 200);
    assert!(
        other
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    server.stopped().await;
}

#[tokio::test]
async fn families_by_name() {
    let server = start(vec![entry("crast-1", 5_000)], |settings| {
        settings.own.instance("cri-a");
    });
    let ask = async |query: &str, lines: &str| {
        let answer = server
            .ask_with("GET", &format!("/metrics?{query}"), lines)
            .await;
        assert_eq!(answer.status, 200);
        answer.body
    };
    let info = r#"# HELP aliyun_acr_subscription_task_up Whether the last poll of the task was successful.
# TYPE aliyun_acr_subscription_task_up gauge
aliyun_acr_subscription_task_up{instance_id="cri-a",task_id="crast-1",task="<nginx>"} 1
"#;
    let tasks = "# HELP aliyun_acr_exporter_tasks Tasks that are polled, configured and followed.
# TYPE aliyun_acr_exporter_tasks gauge
aliyun_acr_exporter_tasks 1
";
    let both = format!("{info}{tasks}");
    let query = "name%5B%5D=aliyun_acr_exporter_tasks&name[]=aliyun_acr_subscription_task%5Fup";
    assert_eq!(ask(query, "").await, both);
    assert_eq!(ask(query, OPENMETRICS).await, format!("{both}# EOF\n"));
    for coding in ["gzip", "zstd"] {
        let coding = format!("Accept-Encoding: {coding}\r\n");
        assert_eq!(ask(query, &coding).await, both);
        assert_eq!(ask("name[]=nothing", &coding).await, "");
        let open = coding + OPENMETRICS;
        assert_eq!(ask("name[]=nothing", &open).await, "# EOF\n");
    }
    assert_eq!(ask("name[]=nothing", "").await, "");
    assert_eq!(ask("name[]=nothing", OPENMETRICS).await, "# EOF\n");

    let polls =
        "# HELP aliyun_acr_exporter_polls Total number of finished polls of tasks of the instance.
# TYPE aliyun_acr_exporter_polls counter
aliyun_acr_exporter_polls_total{instance_id=\"cri-a\"} 0
# EOF
";
    for name in [
        "aliyun_acr_exporter_polls",
        "aliyun_acr_exporter_polls_total",
    ] {
        assert_eq!(ask(&format!("name[]={name}"), OPENMETRICS).await, polls);
    }
    // Larger than a piece, and not the whole.
    let statuses = ask("name[]=aliyun_acr_subscription_artifact_status", "").await;
    assert_eq!(statuses.lines().count(), 2 + 5_000);
    // As many names as a head can hold.
    let many = "name[]=aliyun_acr_exporter_tasks&".repeat(1_500);
    assert_eq!(ask(&many, "").await, tasks);
    server.stopped().await;
}

#[tokio::test]
async fn head_of_each_coding() {
    let server = start(vec![entry("crast-1", 5_000)], |_| {});
    let mut connection = server.connect().await;
    for (lines, known) in [("", false), ("Accept-Encoding: gzip\r\n", true)] {
        connection.send_with("HEAD", "/metrics", lines).await;
        let head = connection.answer("HEAD").await;
        assert_eq!(head.status, 200);
        assert!(head.header("content-type").starts_with("text/plain"));
        assert_eq!(head.find("content-encoding").is_some(), known);
        let length = head.find("content-length").map(|it| it.parse().unwrap());
        assert_eq!(length.is_some_and(|length: usize| length > 1_000), known);
        assert_eq!(length.is_some(), known);
        // A body would be taken for the head of this answer.
        connection.send("GET", "/healthz").await;
        assert_eq!(connection.answer("GET").await.status, 200);
    }
    server.stopped().await;
}

/// HTTP/1.0 knows no chunks: the end of the connection is that of the page.
#[tokio::test]
async fn a_client_of_http_1_0_gets_the_whole_page() {
    let server = start(vec![entry("crast-1", 5_000)], |_| {});
    let mut connection = server.connect().await;
    let request = b"GET /metrics HTTP/1.0\r\n\r\n";
    connection.0.write_all(request).await.unwrap();
    let mut answer = String::new();
    let read = timeout(PATIENCE, connection.0.read_to_string(&mut answer));
    read.await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.0 200 ") && !head.contains("chunked"),
        "{head}"
    );
    let artifacts = body
        .matches("\naliyun_acr_subscription_artifact_status{")
        .count();
    assert_eq!(artifacts, 5_000);
    assert!(body.contains("\naliyun_acr_exporter_tasks 1\n"));
    server.stopped().await;
}

/// A page is of one moment, however long it is read and whatever happens
/// meanwhile; and neither polls nor other scrapes wait for it.
#[tokio::test]
async fn a_slow_client_holds_nobody_up_and_reads_one_page() {
    let server = start(vec![entry("crast-1", 5_000), entry("crast-2", 1)], |_| {});
    let mut slow = Vec::new();
    for lines in ["", OPENMETRICS, "Accept-Encoding: gzip\r\n"] {
        let mut connection = server.connect().await;
        connection.send_with("GET", "/metrics", lines).await;
        let answer = connection.head().await;
        slow.push((connection, answer));
    }
    let store = &server.settings.store;
    for poll in 1..=50 {
        store.update(entry("crast-1", poll));
        store.remove(&"cri-a".into(), &"crast-2".into());
        for lines in ["", OPENMETRICS, "Accept-Encoding: gzip\r\n"] {
            let page = server.ask_with("GET", "/metrics", lines).await.body;
            let series = format!("\naliyun_acr_exporter_series {}\n", 19 + 2 * poll);
            assert!(page.contains(&series), "{page}");
        }
    }
    for (mut connection, mut answer) in slow {
        connection.body(&mut answer).await;
        let page = answer.body;
        let tasks: BTreeSet<_> = page
            .lines()
            .filter(|line| line.starts_with("aliyun_acr_subscription_"))
            .filter_map(|line| line.split("task_id=\"").nth(1)?.split('"').next())
            .collect();
        assert_eq!(tasks, BTreeSet::from(["crast-1", "crast-2"]));
        let artifacts = page
            .matches("\naliyun_acr_subscription_artifact_status{")
            .count();
        assert_eq!(artifacts, 5_001);
        assert!(page.contains("\naliyun_acr_exporter_series 10040\n"));
    }
    server.stopped().await;
}

/// Once a change, many at once, all whole.
#[tokio::test]
async fn many_scrapes_at_once() {
    let server = start(vec![entry("crast-1", 6_000)], |settings| {
        settings.max_requests = 0;
    });
    let mut connections = Vec::new();
    for scrape in 0..24 {
        let mut connection = server.connect().await;
        let coding = ["gzip", "zstd"][scrape % 2];
        let accept = ["", OPENMETRICS][scrape / 2 % 2];
        let lines = format!("{accept}Accept-Encoding: {coding}\r\n");
        connection.send_with("GET", "/metrics", &lines).await;
        connections.push(connection);
    }
    for mut connection in connections {
        let page = connection.answer("GET").await.body;
        let artifacts = page
            .matches("\naliyun_acr_subscription_artifact_status{")
            .count();
        assert_eq!(artifacts, 6_000);
    }
    server.stopped().await;
}

/// Lets time pass while nothing waits for a socket.
async fn pass(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn a_page_that_nobody_reads_makes_room_for_one_that_somebody_may_read() {
    let server = start(vec![entry("crast-1", 5_000)], |settings| {
        settings.max_requests = 1;
    });
    let mut slow = server.connect().await;
    slow.send("GET", "/metrics").await;
    slow.head().await;
    assert_eq!(server.ask("GET", "/metrics").await.status, 503);
    pass(Duration::from_millis(1_500)).await;
    assert_eq!(server.ask("GET", "/metrics").await.status, 503);

    // Far more than the sockets and the server's buffer hold.
    slow.bytes(1_000_000).await;
    pass(Duration::from_millis(1_500)).await;
    assert_eq!(server.ask("GET", "/metrics").await.status, 503);

    pass(Duration::from_secs(1)).await;
    assert_eq!(server.ask("GET", "/metrics").await.status, 200);
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, slow.0.read_to_end(&mut rest)).await;
    assert_eq!(
        read.unwrap().unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    server.stopped().await;
}

#[tokio::test]
async fn a_crowd_of_slow_readers_does_not_keep_out_who_compresses() {
    let server = start(vec![entry("crast-1", 5_000)], |_| {});
    let mut crowd = Vec::new();
    for place in 0..60 {
        let mut slow = server.connect().await;
        slow.send("GET", "/metrics").await;
        let status = slow.head().await.status;
        // One in ten of 40 places is kept.
        assert_eq!(status, if place < 36 { 200 } else { 503 }, "{place}");
        crowd.push(slow);
    }
    for coding in ["gzip", "zstd"] {
        let lines = format!("Accept-Encoding: {coding}\r\n");
        let answer = server.ask_with("GET", "/metrics", &lines).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("\naliyun_acr_exporter_series 10019\n"));
    }
    drop(crowd);
    server.stopped().await;
}

#[tokio::test]
async fn what_nobody_asks_for_is_dropped() {
    let server = start(vec![entry("crast-1", 1)], |_| {});
    let gzip = "Accept-Encoding: gzip\r\n";
    server.ask_with("GET", "/metrics", gzip).await;
    let store = &server.settings.store;
    let shown = Arc::downgrade(&store.snapshot());
    store.remove(&"cri-a".into(), &"crast-1".into());
    assert!(shown.strong_count() > 0, "the page has it");

    // From here on nothing waits for a socket.
    pause();
    for (seconds, is_there) in [(290, true), (10, false)] {
        advance(Duration::from_secs(seconds)).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(shown.strong_count() > 0, is_there);
    }
    resume();
    server.stopped().await;
}
