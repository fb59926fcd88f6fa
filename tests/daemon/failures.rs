//! What goes wrong in the cloud stays where it went wrong, is told with its
//! reason, and never ends the daemon.

use simulator::demo;
use simulator::faults::{Fault, FaultRule};
use simulator::world::{RowSpec, TaskSpec};

use crate::harness::{Daemon, eventually};
use crate::values::{cloud, config};

/// 2026-01-02T03:04:05Z
const S: i64 = 1_767_323_045_000;

fn task(id: &str) -> TaskSpec {
    TaskSpec::succeeded(id, S, S + 1).row(RowSpec::running("mirror", "nginx", "1", S))
}

fn of(name: &str, task: &str, more: &str) -> String {
    format!(
        "aliyun_acr_subscription_task_{name}{{instance_id=\"cri-a\",task_id=\"{task}\",task=\"{task}\"{more}}}"
    )
}

fn error(status: u16, code: &str) -> Fault {
    Fault::Error {
        status,
        code: code.to_owned(),
        message: "as asked".to_owned(),
    }
}

const TASK: &str = "GetArtifactSubscriptionTask";

const FAST: &str = "poll: { interval: 1s, timeout: 1s, stale_after: 4s }
api: { requests_per_second: 200, burst: 200, retries: 1 }";

#[test]
fn one_failing_task_leaves_every_other_alone_and_its_old_data_until_it_is_stale() {
    let ids = [
        "crast-fine",
        "crast-denied",
        "crast-broken",
        "crast-gone",
        "crast-slow",
    ];
    let cloud = cloud(ids.map(task));
    let daemon = Daemon::serve(&config(&cloud, &format!("[{}]", ids.join(", ")), FAST));
    daemon.ready();
    let running = |id| of("status", id, ",status=\"running\"");
    let page = daemon.page();
    for id in ids {
        assert_eq!(page[&running(id)], "1");
        assert_eq!(page[&of("up", id, "")], "1");
    }

    cloud.add_fault(FaultRule::new(error(403, "NoPrivilege")).task("crast-denied"));
    cloud.add_fault(FaultRule::new(error(500, "SystemError")).task("crast-broken"));
    cloud.add_fault(FaultRule::new(Fault::Hang).task("crast-slow"));
    cloud.update(|world| world.remove_task("cri-a", "crast-gone"));
    let reasons = [
        ("crast-denied", "forbidden"),
        ("crast-broken", "server"),
        ("crast-gone", "not_found"),
        ("crast-slow", "timeout"),
    ];
    for (id, reason) in reasons {
        let told = of("poll_error", id, &format!(",reason=\"{reason}\""));
        let page = daemon.until(&told, "1");
        assert_eq!(page[&of("up", id, "")], "0");
        let counted = format!(
            "aliyun_acr_exporter_poll_failures_total{{instance_id=\"cri-a\",reason=\"{reason}\"}}"
        );
        assert_ne!(page[&counted], "0");
        assert_eq!(page[&of("up", "crast-fine", "")], "1");
        assert_eq!(page[&running("crast-fine")], "1");
    }
    // Old data is there while it is fresh, then it goes; what tells its age stays.
    for (id, _) in reasons {
        eventually("stale data goes", || {
            let page = daemon.page();
            (!page.contains_key(&running(id))).then_some(())
        });
        let page = daemon.page();
        for name in [
            "artifacts",
            "start_timestamp_seconds",
            "last_success_timestamp_seconds",
        ] {
            assert!(!page.contains_key(&of(name, id, "")), "{name}");
        }
        for name in ["up", "last_poll_timestamp_seconds", "poll_interval_seconds"] {
            assert!(page.contains_key(&of(name, id, "")), "{name}");
        }
        assert_ne!(
            page[&of("last_successful_poll_timestamp_seconds", id, "")],
            "0"
        );
    }
    let page = daemon.page();
    assert_eq!(page[&running("crast-fine")], "1");

    cloud.clear_faults();
    let page = daemon.until(&running("crast-denied"), "1");
    assert_eq!(page[&of("up", "crast-denied", "")], "1");
    assert!(
        !page
            .keys()
            .any(|name| { name.contains("poll_error") && name.contains("crast-denied") })
    );
}

#[test]
fn a_wrong_key_is_told_once_counted_and_survived_until_it_is_mended() {
    let ids: Vec<String> = (0..20).map(|n| format!("crast-{n}")).collect();
    let cloud = cloud(ids.iter().map(|id| task(id)));
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "wrong-secret-value\n").unwrap();
    let text = config(&cloud, &format!("[{}]", ids.join(", ")), FAST).replace(
        &format!("access_key_secret: {}", demo::KEY_SECRET),
        &format!("access_key_secret_file: {}", secret.display()),
    );
    let mut daemon = Daemon::serve_with(&text, &["--log.level=trace"], &[]);
    daemon.ready();
    let told = of("poll_error", "crast-0", ",reason=\"auth\"");
    daemon.until(&told, "1");
    eventually("every task was refused twice", || {
        let failed = &daemon.page()["aliyun_acr_exporter_poll_failures_total{instance_id=\"cri-a\",reason=\"auth\"}"];
        (failed.parse::<u32>().unwrap() >= 40).then_some(())
    });
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("level=error"));
    assert_eq!(lines.count(), 1, "{log}");
    daemon.logged("SignatureDoesNotMatch");
    let page = daemon.page();
    let counted = "aliyun_acr_exporter_api_request_errors_total{action=\"GetArtifactSubscriptionTaskResult\",credentials=\"test\",reason=\"auth\"}";
    assert_ne!(page[counted], "0");

    std::fs::write(&secret, demo::KEY_SECRET).unwrap();
    daemon.until(&of("up", "crast-19", ""), "1");
    daemon.logged("errors cleared");

    // A file that is gone is a failure of the credentials, not of the cloud, and
    // none of the polls while the last key is good.
    std::fs::remove_file(&secret).unwrap();
    let told = daemon.logged("the key cannot be read");
    assert!(told.contains("secret does not exist"), "{told}");
    let page = daemon.page();
    let failures = "aliyun_acr_exporter_credentials_refresh_failures_total{credentials=\"test\"}";
    assert_ne!(page[failures], "0");
    assert_eq!(page[&of("up", "crast-0", "")], "1");

    let page = format!("{}{}", daemon.get("/metrics").body, daemon.get("/").body);
    for text in [daemon.log(), page] {
        assert!(!text.contains("wrong-secret-value"));
        assert!(!text.contains(demo::KEY_SECRET));
        assert!(!text.contains("Signature="));
    }
}

#[test]
fn a_cloud_that_is_not_there_at_the_start_is_waited_for() {
    // A port that was free a moment ago and refuses connections.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let text = format!(
        "{FAST}
credentials: {{ test: {{ type: access_key, access_key_id: {}, access_key_secret: {} }} }}
instances:
- {{ id: cri-a, region: cn-hangzhou, credentials: test, endpoint: \"http://{address}\", tasks: [crast-1] }}
",
        demo::KEY_ID,
        demo::KEY_SECRET
    );
    let daemon = Daemon::serve(&text);
    daemon.ready();
    let page = daemon.until(&of("poll_error", "crast-1", ",reason=\"connect\""), "1");
    assert_eq!(page[&of("up", "crast-1", "")], "0");
    let never = of("last_successful_poll_timestamp_seconds", "crast-1", "");
    assert!(!page.contains_key(&never));
    assert!(!page.contains_key("aliyun_acr_exporter_clock_skew_seconds"));

    let _cloud = simulator::Simulator::start(simulator::SimulatorConfig {
        listen: address,
        world: simulator::World::new()
            .instance("cri-a", "cn-hangzhou")
            .task(task("crast-1")),
        ..Default::default()
    })
    .unwrap();
    let page = daemon.until(&of("up", "crast-1", ""), "1");
    assert!(page.contains_key("aliyun_acr_exporter_clock_skew_seconds"));
}

#[test]
fn the_cloud_throttles_and_is_asked_again() {
    let cloud = cloud([task("crast-1")]);
    let throttle = Fault::Throttle {
        status: 400,
        code: "Throttling.User".to_owned(),
        retry_after_ms: Some(20),
        time_left_ms: None,
        retry_after_s: None,
    };
    cloud.add_fault(FaultRule::new(throttle).times(1));
    let daemon = Daemon::serve(&config(&cloud, "[crast-1]", FAST));
    daemon.ready();
    let page = daemon.page();
    assert_eq!(page[&of("up", "crast-1", "")], "1");
    let labels = "{action=\"GetArtifactSubscriptionTaskResult\",credentials=\"test\"}";
    assert_ne!(
        page[&format!("aliyun_acr_exporter_api_retries_total{labels}")],
        "0"
    );
    let throttled = "aliyun_acr_exporter_api_request_errors_total{action=\"GetArtifactSubscriptionTaskResult\",credentials=\"test\",reason=\"throttled\"}";
    assert_eq!(page[throttled], "1");
    let rate: f64 = page["aliyun_acr_exporter_api_rate_limit{credentials=\"test\"}"]
        .parse()
        .unwrap();
    assert!(rate < 200.0, "{rate}");
}

#[test]
fn a_trouble_that_some_tasks_have_is_told_once_and_its_end_too() {
    let ids = ["crast-fine", "crast-1", "crast-2"];
    let cloud = cloud(ids.map(task));
    cloud.add_fault(FaultRule::new(Fault::Drop).task("crast-1"));
    cloud.add_fault(FaultRule::new(Fault::Drop).task("crast-2"));
    let mut daemon = Daemon::serve(&config(&cloud, &format!("[{}]", ids.join(", ")), FAST));
    eventually("many polls failed and many did not", || {
        let page = daemon.page();
        let number = |name: &str| page[name].parse::<u32>().unwrap();
        let failed = number(
            "aliyun_acr_exporter_poll_failures_total{instance_id=\"cri-a\",reason=\"connect\"}",
        );
        let all = number("aliyun_acr_exporter_polls_total{instance_id=\"cri-a\"}");
        (failed >= 6 && all >= failed + 4).then_some(())
    });
    let spoken = |text: &str, log: &str| log.lines().filter(|line| line.contains(text)).count();
    let log = daemon.log();
    assert_eq!(spoken("reason=connect", &log), 1, "{log}");
    assert_eq!(spoken("level=error", &log), 1, "{log}");
    cloud.clear_faults();
    daemon.logged("errors cleared");
    daemon.signal("TERM");
    daemon.ended();
    assert_eq!(
        spoken("reason=connect", &daemon.log()),
        2,
        "{}",
        daemon.log()
    );
}

#[test]
fn rows_do_not_wait_for_a_task_operation_that_hangs() {
    let cloud = cloud([task("crast-1")]);
    cloud.add_fault(FaultRule::new(Fault::Hang).action("GetArtifactSubscriptionTask"));
    let more = "poll: { timeout: 1s, interval: 1s, finished_interval: 1h }
api: { requests_per_second: 200, burst: 200, retries: 5 }";
    let daemon = Daemon::serve(&config(&cloud, "[crast-1]", more));
    daemon.ready();
    let page = daemon.page();
    assert_eq!(page[&of("up", "crast-1", "")], "1");
    // One timeout and no retry: what the task says is worth no more.
    assert_eq!(cloud.requests().count("GetArtifactSubscriptionTask"), 1);
}

#[test]
fn a_clock_that_is_off_is_named_and_measured() {
    let cloud = cloud([task("crast-1")]);
    cloud.add_fault(FaultRule::new(Fault::ClockSkew { seconds: 3_600 }));
    let daemon = Daemon::serve(&config(&cloud, "[crast-1]", FAST));
    let page = daemon.until(&of("poll_error", "crast-1", ",reason=\"clock\""), "1");
    // The cloud is an hour ahead, so we are behind; its Date has whole seconds.
    let skew: f64 = page["aliyun_acr_exporter_clock_skew_seconds"]
        .parse()
        .unwrap();
    assert!((-3_660.0..=-3_540.0).contains(&skew), "{skew}");
}

#[test]
fn a_task_operation_that_is_denied_costs_labels_and_nothing_else() {
    let cloud = cloud([task("crast-1")]);
    let denied = FaultRule::new(error(403, "NoPrivilege")).action("GetArtifactSubscriptionTask");
    cloud.add_fault(denied);
    let mut daemon = Daemon::serve(&config(&cloud, "[crast-1]", FAST));
    daemon.ready();
    let page = daemon.page();
    assert_eq!(page[&of("up", "crast-1", "")], "1");
    let info = of(
        "info",
        "crast-1",
        ",acr_region=\"cn-hangzhou\",repo_namespace=\"\",repo_name=\"\",source_provider=\"\",source_repository=\"\",task_type=\"\",origin=\"configured\"",
    );
    assert_eq!(page[&info], "1");
    let counted = "aliyun_acr_exporter_api_request_errors_total{action=\"GetArtifactSubscriptionTask\",credentials=\"test\",reason=\"forbidden\"}";
    assert_ne!(page[counted], "0");
    daemon.logged("cr:GetArtifactSubscriptionTask");
}

#[test]
fn a_scrape_never_calls_the_cloud() {
    let cloud = cloud([task("crast-1")]);
    let daemon = Daemon::serve(&config(&cloud, "[crast-1]", "poll: { interval: 1h }"));
    daemon.ready();
    let before = cloud.requests().total;
    for _ in 0..50 {
        assert_eq!(daemon.get("/metrics").status, 200);
        assert_eq!(daemon.get("/").status, 200);
    }
    assert_eq!(cloud.requests().total, before);
}

#[test]
fn query_tells_what_the_cloud_refuses() {
    let cloud = cloud([task("crast-1")]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("config.yaml"),
        config(&cloud, "[crast-1]", ""),
    )
    .unwrap();
    let query = |arguments: &[&str]| {
        let mut command = crate::harness::binary(&["query"]);
        command.args(arguments).current_dir(folder.path());
        crate::harness::run(&mut command)
    };
    let table = query(&["cri-a", "crast-1"]);
    assert_eq!(table.code, 0);
    // Which provider answered, and at most the end of its key's id.
    let signer = "credentials test from access_key (…y-id)";
    assert_eq!(table.err, format!("asked with {signer}\n"));
    let expected = "\
NAMESPACE  REPOSITORY  TAG  STATUS   RESULT  OUTCOME  START                 END  SECONDS
mirror     nginx       1    RUNNING          running  2026-01-02T03:04:05Z
";
    assert!(table.out.ends_with(expected), "{}", table.out);

    let json = query(&["cri-a", "crast-1", "--output=json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["status"], "running");
    assert_eq!(json["rows"][0]["tag"], "1");
    assert_eq!(json["task"]["result"], "SUCCESS");
    let yaml = query(&["cri-a", "crast-1", "--output=yaml"]);
    assert!(yaml.out.contains("task_id: crast-1\n"), "{}", yaml.out);

    let unknown = query(&["cri-a", "crast-2"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (1, ""));
    assert!(unknown.err.contains("request id"), "{}", unknown.err);
    let elsewhere = query(&["cri-b", "crast-1"]);
    assert_eq!(elsewhere.code, 2, "{}", elsewhere.err);

    cloud.add_fault(FaultRule::new(error(403, "NoPrivilege")));
    let denied = query(&["cri-a", "crast-1"]);
    assert_eq!(denied.code, 1);
    for part in [
        "NoPrivilege",
        "as asked",
        "request id",
        "needs cr:GetArtifactSubscriptionTaskResult on acs:cr:cn-hangzhou:*:instance/cri-a",
        signer,
    ] {
        assert!(denied.err.contains(part), "{part}: {}", denied.err);
    }
    cloud.clear_faults();

    cloud.add_fault(FaultRule::new(error(403, "NoPrivilege")).action(TASK));
    let without_task = query(&["cri-a", "crast-1", "--output=json"]);
    assert_eq!(without_task.code, 0);
    let json: serde_json::Value = serde_json::from_str(&without_task.out).unwrap();
    assert!(json["task"].is_null() && json["rows"][0].is_object());
    let warning = "warning: cri-a: GetArtifactSubscriptionTask: NoPrivilege";
    assert!(without_task.err.contains(warning), "{}", without_task.err);
}

#[test]
fn check_config_asks_for_rows_and_for_the_task() {
    let cloud = cloud([task("crast-1")]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config(&cloud, "[crast-1]", "api: { retries: 0 }")).unwrap();
    let online = || {
        cloud.clear_requests();
        let mut command = crate::harness::binary(&["check-config", "--online"]);
        crate::harness::run(command.current_dir(folder.path()))
    };
    let signer = "credentials test from access_key (…y-id)";
    let answers = format!("\nOnline:\n  cri-a: answers; {signer}\n");

    let both = online();
    assert_eq!((both.code, both.err.as_str()), (0, ""));
    assert!(both.out.ends_with(&answers), "{}", both.out);
    assert_eq!(cloud.requests().total, 2);
    assert_eq!(cloud.requests().count(TASK), 1);

    // Only the rows are needed; what is lost without the other is told.
    let denied = |no_permission_type: &str| Fault::Denied {
        code: "NoPermission".to_owned(),
        auth_action: None,
        principal_type: "SubUser".to_owned(),
        no_permission_type: no_permission_type.to_owned(),
    };
    cloud.add_fault(FaultRule::new(denied("ImplicitDeny")).action(TASK));
    let warned = online();
    assert_eq!(warned.code, 0, "{}", warned.err);
    assert!(warned.out.ends_with(&answers), "{}", warned.out);
    for part in [
        "warning: cri-a: GetArtifactSubscriptionTask: NoPermission",
        "needs cr:GetArtifactSubscriptionTask on acs:cr:cn-hangzhou:*:instance/cri-a, which no policy allows",
        "SubUser ",
        " of account 1234567890123456 ",
        "labels of the source",
    ] {
        assert!(warned.err.contains(part), "{part}: {}", warned.err);
    }
    assert_eq!(warned.err.lines().count(), 1, "{}", warned.err);
    cloud.clear_faults();

    cloud.add_fault(FaultRule::new(error(500, "SystemError")).action(TASK));
    assert_eq!(online().code, 1);
    cloud.clear_faults();

    cloud.add_fault(FaultRule::new(denied("ExplicitDeny")));
    let refused = online();
    assert_eq!(refused.code, 1);
    // Whoever grants the one should know of the other.
    assert_eq!(cloud.requests().total, 2);
    for part in [
        "cri-a: GetArtifactSubscriptionTaskResult: NoPermission",
        "cri-a: GetArtifactSubscriptionTask: NoPermission",
        "a policy explicitly denies cr:GetArtifactSubscriptionTaskResult on acs:cr:cn-hangzhou:*:instance/cri-a to SubUser ",
        signer,
    ] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    assert!(!refused.err.contains("needs"), "{}", refused.err);
    assert_eq!(refused.err.lines().count(), 2, "{}", refused.err);
}

#[test]
fn query_works_without_a_configuration_file() {
    let cloud = cloud([task("crast-1")]);
    let folder = tempfile::tempdir().unwrap();
    let mut command = crate::harness::binary(&["query", "cri-a", "crast-1", "--endpoint"]);
    command.arg(cloud.url()).current_dir(folder.path());
    command.env("ALIBABA_CLOUD_ACCESS_KEY_ID", demo::KEY_ID);
    let half = crate::harness::run(&mut command);
    assert_eq!(half.code, 1);
    assert!(
        half.err.contains("ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
        "{}",
        half.err
    );
    command.env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", demo::KEY_SECRET);
    let said = crate::harness::run(&mut command);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.contains("task crast-1 of cri-a: running"),
        "{}",
        said.out
    );
}
