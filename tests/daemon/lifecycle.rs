//! Start, readiness, signals, the end, and the demo.

use crate::harness::{Daemon, address_in, binary, eventually, request};
use crate::values::{cloud, config};

use simulator::faults::{Fault, FaultRule};
use simulator::world::TaskSpec;

#[test]
fn ready_means_that_every_task_was_tried() {
    let cloud = cloud([TaskSpec::new("crast-1"), TaskSpec::new("crast-2")]);
    cloud.add_fault(FaultRule::new(Fault::Hang).task("crast-2"));
    let daemon = Daemon::serve(&config(
        &cloud,
        "[crast-1, crast-2]",
        "poll: { timeout: 1s, interval: 1h }\napi: { retries: 0 }",
    ));
    let answer = daemon.get("/-/ready");
    assert_eq!(answer.status, 503);
    let up = |task: &str| {
        format!(
            "aliyun_acr_subscription_task_up{{instance_id=\"cri-a\",task_id=\"{task}\",task=\"{task}\"}}"
        )
    };
    let page = daemon.until(&up("crast-1"), "1");
    assert!(
        !page.contains_key(&up("crast-2")),
        "no up before the first poll has finished"
    );
    assert_eq!(page["aliyun_acr_exporter_ready"], "0");
    assert_eq!(daemon.get("/-/healthy").status, 200);
    daemon.ready();
    let page = daemon.page();
    assert_eq!(page[&up("crast-2")], "0");
    assert_eq!(page["aliyun_acr_exporter_ready"], "1");
    assert_eq!(page["aliyun_acr_exporter_tasks"], "2");
}

#[test]
fn signals_end_the_daemon_with_0() {
    for signal in ["TERM", "INT"] {
        let cloud = cloud([TaskSpec::new("crast-1")]);
        let mut daemon = Daemon::serve(&config(&cloud, "[crast-1]", ""));
        daemon.signal(signal);
        assert_eq!(daemon.ended().code(), Some(0), "{signal}");
        assert!(daemon.log().lines().last().unwrap().contains("msg=stopped"));
    }
}

#[test]
fn the_server_says_no_where_it_should() {
    let cloud = cloud([TaskSpec::new("crast-1")]);
    let daemon = Daemon::serve_with(
        &config(&cloud, "[crast-1]", ""),
        &["--web.telemetry-path=/my/metrics"],
        &[],
    );
    for (method, path, status) in [
        ("GET", "/my/metrics", 200),
        ("HEAD", "/my/metrics", 200),
        ("GET", "/", 200),
        ("GET", "/-/healthy", 200),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 404),
        ("GET", "/nothing", 404),
        ("POST", "/my/metrics", 405),
        ("DELETE", "/", 405),
        ("GET", "/-/reload", 405),
        ("POST", "/-/reload", 403),
        ("PUT", "/-/reload", 403),
    ] {
        let answer = request(daemon.address, method, path);
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let answer = daemon.get("/my/metrics");
    let head = answer.head.to_lowercase();
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
}

#[test]
fn several_addresses_and_json_logs() {
    let cloud = cloud([TaskSpec::new("crast-1")]);
    let mut daemon = Daemon::serve_with(
        &config(&cloud, "[crast-1]", ""),
        &[
            "--web.listen-address=127.0.0.1:0",
            "--web.listen-address=[::1]:0",
        ],
        &[("ALIYUN_ACR_EXPORTER_LOG_FORMAT", "logfmt")],
    );
    let other = daemon.logged("[::1]:");
    let address = address_in(&other);
    assert_eq!(request(address, "GET", "/-/healthy").status, 200);

    let arguments = ["--log.format=json"];
    let mut daemon = Daemon::serve_with(&config(&cloud, "[crast-1]", ""), &arguments, &[]);
    daemon.ready();
    daemon.signal("TERM");
    daemon.ended();
    let log = daemon.log();
    assert!(log.lines().count() >= 4, "{log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["time"].is_string() && line["level"].is_string() && line["msg"].is_string());
    }
}

#[test]
fn the_demo_shows_every_state() {
    let mut command = binary(&["demo", "--web.listen-address=127.0.0.1:0"]);
    let folder = tempfile::tempdir().unwrap();
    command.current_dir(folder.path());
    let daemon = Daemon::start(command, folder);
    daemon.ready();
    let page = daemon.page();
    for status in ["empty", "running", "succeeded", "failed", "unknown"] {
        let shown = page.iter().any(|(name, value)| {
            name.starts_with("aliyun_acr_subscription_task_status{")
                && name.ends_with(&format!("status=\"{status}\"}}"))
                && value == "1"
        });
        assert!(shown, "{status}");
    }
    eventually("the status page names the failure", || {
        daemon
            .get("/")
            .body
            .contains("toomanyrequests")
            .then_some(())
    });
}
