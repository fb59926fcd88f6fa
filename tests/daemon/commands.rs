//! Commands that end: their output, messages and exit codes.

use crate::harness::{Daemon, binary, run};

const CONFIG: &str = "\
api: { requests_per_second: 2 }
instances:
  - id: cri-90fxryf9pwf0abcd
    region: cn-hangzhou
    tasks:
      - crast-y64sq01bgad0abcd
      - { id: crast-wkpfwqozjiq0abcd, name: nginx, interval: 30s }
";

fn with_config(text: &str, arguments: &[&str]) -> crate::harness::Said {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), text).unwrap();
    run(binary(arguments).current_dir(folder.path()))
}

#[test]
fn every_mistake_is_told_at_once_and_ends_with_2() {
    let text = CONFIG
        .replace("cn-hangzhou", "cn-hangzou")
        .replace("30s", "30");
    for command in ["check-config", "serve"] {
        let said = with_config(&text, &[command]);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{command}");
        let lines: Vec<_> = said.err.lines().collect();
        assert_eq!(lines.len(), 2, "{}", said.err);
        assert!(lines[0].starts_with("config.yaml:4:13: instances[0].region: unknown region"));
        assert!(lines[1].starts_with("config.yaml:7:62: instances[0].tasks[1].interval: "));
    }
}

#[test]
fn a_missing_configuration_is_named() {
    let said = run(&mut binary(&["--config.file=/nowhere/config.yaml"]));
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        "cannot read /nowhere/config.yaml: No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_default_configuration_that_is_missing_comes_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let said = run(binary(&[]).current_dir(folder.path()));
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        "cannot read config.yaml: No such file or directory (os error 2); --config.file names another one, and `demo` needs none\n"
    );
}

#[test]
fn query_speaks_of_what_was_typed() {
    let folder = tempfile::tempdir().unwrap();
    let said =
        run(binary(&["query", "abc", "crast-1", "--region=cn-hangzou"]).current_dir(folder.path()));
    assert_eq!(said.code, 2);
    let lines: Vec<_> = said.err.lines().collect();
    assert!(lines[0].starts_with("INSTANCE_ID: "), "{}", said.err);
    assert!(
        lines[1].starts_with("--region: unknown region \"cn-hangzou\" (did you mean cn-hangzhou?)")
    );
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [
        &["--no.such.flag"][..],
        &["no-such-command"],
        &["--log.level=loud"],
        &["--web.telemetry-path=metrics", "demo"],
        &["--web.telemetry-path=/-/healthy", "demo"],
        &["--web.telemetry-path=/", "demo"],
        &["--web.listen-address=10980", "demo"],
        &["--web.listen-address=127.0.0.1:99999", "demo"],
        &["--web.listen-address=:", "demo"],
        &["--web.listen-address=[::1", "demo"],
        &["--web.config.file=/nowhere/web.yaml", "demo"],
        &["--shard.total=2"],
        &["--shard.index=2", "--shard.total=2"],
        &["check-config", "--shard.index=one", "--shard.total=2"],
        &["query", "cri-a"],
        &["simulate", "--listen=0.0.0.0:0"],
    ] {
        let said = run(&mut binary(arguments));
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{arguments:?}");
        assert!(!said.err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_listen_address_that_is_none_is_wrong_usage() {
    let listen = |address: &str, command: &str| {
        let flag = format!("--web.listen-address={address}");
        with_config(CONFIG, &[command, &flag])
    };
    for address in [
        "[::1",
        "http://x:1",
        "x",
        ":99999",
        "::1:80",
        "[::1]",
        "[::g]:80",
        "256.0.0.1:80",
        "127.1:80",
        "a..b:80",
        "a b:80",
        "x:+1",
        "x:-1",
        "127.0.0.1:",
    ] {
        for command in ["serve", "healthcheck"] {
            let said = listen(address, command);
            assert_eq!((said.code, said.out.as_str()), (2, ""), "{address}");
            let expected = format!(
                "--web.listen-address {address:?} is no address; write :PORT, HOST:PORT or [IPV6]:PORT"
            );
            assert!(said.err.starts_with(&expected), "{}", said.err);
            assert_eq!(said.err.lines().count(), 1, "{}", said.err);
        }
    }
    // Of the right form, and nobody's.
    let said = listen("no-such-host.invalid:80", "serve");
    assert_eq!(said.code, 1, "{}", said.err);
    let expected = "cannot listen on no-such-host.invalid:80: ";
    assert!(said.err.contains(expected), "{}", said.err);
}

#[test]
fn flags_come_from_the_environment_too_and_win_over_it() {
    let from = |arguments: &[&str]| {
        run(binary(arguments).env("ALIYUN_ACR_EXPORTER_CONFIG_FILE", "/from/environment"))
    };
    assert!(from(&[]).err.contains("/from/environment"));
    assert!(
        from(&["--config.file=/from/flag"])
            .err
            .contains("/from/flag")
    );
    let said = run(binary(&["--config.file=/x"]).env("ALIYUN_ACR_EXPORTER_LOG_LEVEL", ""));
    assert!(said.err.contains("cannot read /x"), "{}", said.err);
    // Kubernetes injects this one for a Service of that name.
    let said =
        run(binary(&["--config.file=/x"]).env("ALIYUN_ACR_EXPORTER_PORT", "tcp://10.0.0.1:10980"));
    assert!(said.err.contains("cannot read /x"), "{}", said.err);
}

#[test]
fn version_completions_and_manual_go_to_standard_output() {
    let version = run(&mut binary(&["--version"]));
    assert_eq!(version.code, 0);
    let expected = format!(
        "aliyun-acr-exporter {} (revision ",
        env!("CARGO_PKG_VERSION")
    );
    assert!(version.out.starts_with(&expected), "{}", version.out);
    let completions = run(&mut binary(&["completions", "bash"]));
    assert!(completions.out.contains("check-config"));
    let manual = run(&mut binary(&["man"]));
    assert!(manual.out.contains(".TH"), "{}", manual.out);
    assert_eq!((completions.code, manual.code), (0, 0));
    let schema = run(&mut binary(&["schema"]));
    let schema: serde_json::Value = serde_json::from_str(&schema.out).unwrap();
    assert!(schema["properties"]["instances"].is_object());
}

#[test]
fn an_address_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let flag = format!("--web.listen-address={address}");
    let said = with_config(CONFIG, &[&flag]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains(&format!(
            "cannot listen on {address}: Address already in use"
        )),
        "{}",
        said.err
    );
}

#[test]
fn healthcheck_asks_a_running_daemon() {
    let daemon = Daemon::serve(&CONFIG.replace(
        "cn-hangzhou",
        "cn-hangzhou\n    endpoint: http://127.0.0.1:1",
    ));
    let flag = format!("--web.listen-address={}", daemon.address);
    let said = run(&mut binary(&["healthcheck", &flag]));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    drop(daemon);
    let said = run(&mut binary(&["healthcheck", &flag]));
    assert_eq!(said.code, 1);
    assert!(said.err.starts_with("unhealthy: "), "{}", said.err);
}
