//! Another configuration without a restart, and what the service manager is told
//! of it.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

use simulator::demo;
use simulator::world::TaskSpec;

use crate::harness::{Daemon, PATIENCE, binary, eventually, request, sum};
use crate::values::{cloud, config};

fn up(id: &str) -> String {
    format!(
        "aliyun_acr_subscription_task_up{{instance_id=\"cri-a\",task_id=\"{id}\",task=\"{id}\"}}"
    )
}

const SUCCESSFUL: &str = "aliyun_acr_exporter_config_last_reload_successful";
const SUCCESS_AT: &str = "aliyun_acr_exporter_config_last_reload_success_timestamp_seconds";
const HASH: &str = "aliyun_acr_exporter_config_hash";

#[test]
fn a_hang_up_puts_the_new_file_into_force() {
    let cloud = cloud([TaskSpec::new("crast-1"), TaskSpec::new("crast-2")]);
    let mut daemon = Daemon::serve(&config(&cloud, "[crast-1]", ""));
    let before = daemon.until(&up("crast-1"), "1");
    assert_eq!(before[SUCCESSFUL], "1");
    assert!(!before.contains_key(&up("crast-2")));

    daemon.rewrite(&config(&cloud, "[crast-2]", ""));
    daemon.signal("HUP");
    let after = daemon.until(&up("crast-2"), "1");
    assert!(!after.contains_key(&up("crast-1")));
    assert_eq!(after[SUCCESSFUL], "1");
    assert_ne!(after[HASH], before[HASH]);
    let number = |text: &str| text.parse::<f64>().unwrap();
    assert!(number(&after[SUCCESS_AT]) > number(&before[SUCCESS_AT]));
    assert!(number(&after[HASH]) < 281_474_976_710_656.0, "48 bits");
    daemon.logged("the configuration was reloaded");

    // What is broken changes nothing, and is told with its place.
    daemon.rewrite("poll: { interval: 5 }\n");
    daemon.signal("HUP");
    let line = daemon.logged("config.yaml:1:19: poll.interval");
    assert!(line.contains("cannot be reloaded"), "{line}");
    let page = daemon.until(SUCCESSFUL, "0");
    assert_eq!(page[&up("crast-2")], "1");
    for kept in [HASH, SUCCESS_AT] {
        assert_eq!(page[kept], after[kept]);
    }
    assert_eq!(daemon.get("/-/ready").status, 200);
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(0));
}

#[test]
fn a_reload_can_be_asked_for_over_http() {
    let cloud = cloud([TaskSpec::new("crast-1"), TaskSpec::new("crast-2")]);
    let text = |tasks: &str, key: &str| config(&cloud, tasks, "").replace(demo::KEY_SECRET, key);
    let daemon = Daemon::serve_with(
        &text("[crast-1]", "wrong-secret"),
        &["--web.enable-lifecycle"],
        &[],
    );
    daemon.until(&up("crast-1"), "0");
    let reload = |method| request(daemon.address, method, "/-/reload");
    assert_eq!(reload("GET").status, 405);

    daemon.rewrite(&text("[crast-1, crast-1]", "unseen-secret").replace("region:", "regoin:"));
    let answer = reload("POST");
    assert_eq!(answer.status, 500);
    assert!(
        answer.body.contains("config.yaml:9:5: instances[0].regoin"),
        "{}",
        answer.body
    );
    daemon.rewrite(&text("[crast-1, crast-1, '']", "unseen-secret"));
    let answer = reload("POST");
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.body.matches("config.yaml:").count(),
        2,
        "{}",
        answer.body
    );
    daemon.until(SUCCESSFUL, "0");

    // The right key: what failed with the wrong one is tried at once.
    daemon.rewrite(&text("[crast-1, crast-2]", demo::KEY_SECRET));
    let answer = reload("PUT");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "The configuration was reloaded.\n")
    );
    for task in ["crast-1", "crast-2"] {
        daemon.until(&up(task), "1");
    }
    daemon.rewrite(&text(
        "[crast-1]\nstate: { path: there.state }",
        demo::KEY_SECRET,
    ));
    let answer = reload("POST");
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .body
            .ends_with("state.path takes effect at the next start\n")
    );
    let log = daemon.log();
    assert!(!log.contains("wrong-secret") && !log.contains("unseen-secret"));
}

/// The next message of the daemon to its service manager.
fn told(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4_096];
    let length = manager.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    is_told(&manager, path.to_str().unwrap());
}

#[test]
fn a_service_manager_without_a_path_is_told_too() {
    let name = format!("aliyun-acr-exporter-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    is_told(&manager, &format!("@{name}"));
}

fn is_told(manager: &UnixDatagram, name: &str) {
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let cloud = cloud([TaskSpec::new("crast-1")]);
    let mut daemon = Daemon::serve_with(
        &config(&cloud, "[crast-1]", ""),
        &[],
        &[("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "300000")],
    );
    assert_eq!(told(manager), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(told(manager), "WATCHDOG=1\n");
    }
    daemon.signal("HUP");
    let after = || {
        eventually("news", || {
            Some(told(manager)).filter(|it| it != "WATCHDOG=1\n")
        })
    };
    let reloading = after();
    let clock = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap();
    assert!(clock.trim_end().parse::<u64>().unwrap() > 0);
    assert_eq!(after(), "READY=1\n");
    daemon.signal("TERM");
    assert_eq!(after(), "STOPPING=1\n");
    assert_eq!(daemon.ended().code(), Some(0));
}

#[test]
fn a_socket_of_the_service_manager_is_taken() {
    let cloud = cloud([TaskSpec::new("crast-1")]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config(&cloud, "[crast-1]", "")).unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // systemd hands sockets over from descriptor 3 on, to this process alone.
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]);
    command.arg(binary(&[]).get_program());
    command
        .arg("--config.file")
        .arg(&file)
        .arg("--web.listen-address=127.0.0.1:1");
    command
        .env_clear()
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(socket)));
    let daemon = Daemon::start(command, folder);
    assert_eq!(daemon.address, address);
    daemon.until(&up("crast-1"), "1");
}

#[test]
fn the_demo_has_nothing_to_reload() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary(&["demo", "--web.listen-address=127.0.0.1:0"]);
    command.current_dir(folder.path());
    let mut daemon = Daemon::start(command, folder);
    daemon.signal("HUP");
    let line = daemon.logged("cannot be reloaded");
    assert!(line.contains("not read from a file"), "{line}");
}

#[test]
fn a_reload_keeps_what_was_counted_and_calls_nothing_again() {
    let tasks = (1..=20).map(|n| TaskSpec::new(&format!("crast-{n}")));
    let cloud = cloud(tasks);
    let ids: Vec<String> = (1..=20).map(|n| format!("crast-{n}")).collect();
    let text = config(
        &cloud,
        &format!("[{}]", ids.join(", ")),
        "poll: { interval: 1h }",
    );
    let mut daemon = Daemon::serve(&text);
    daemon.ready();
    let polls = daemon.polls();
    for round in 1..=10 {
        daemon.rewrite(&format!("{text}# {round}\n"));
        daemon.signal("HUP");
        eventually("the reload is done", || {
            (daemon
                .log()
                .matches("the configuration was reloaded")
                .count()
                == round)
                .then_some(())
        });
    }
    let page = daemon.page();
    assert_eq!(sum(&page, "aliyun_acr_exporter_polls_total{"), polls);
    assert_eq!(page["aliyun_acr_exporter_tasks"], "20");
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(0));
}
