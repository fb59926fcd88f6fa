//! The way to the cloud over TLS: the authorities of the system, connections
//! kept from round to round, and `simulate` as a server.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use simulator::world::load_task_id;
use simulator::{Running, Simulator, SimulatorConfig, Tls, World, demo};
use tempfile::TempDir;

use crate::credentials::ROLE;
use crate::harness::{Daemon, Said, binary, eventually, run};

const TASKS: usize = 40;

/// `ca.pem`, and `leaf.pem` with `leaf.key`, which it has signed.
fn certificates() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()])
        .and_then(|params| params.signed_by(&key, &authority))
        .unwrap();
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("leaf.pem", leaf.pem()),
        ("leaf.key", key.serialize_pem()),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn cloud(folder: &Path) -> Running {
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let tls = Tls::from_pem(&read("leaf.pem"), &read("leaf.key")).unwrap();
    Simulator::start(SimulatorConfig {
        tls: Some(tls),
        world: World::load(TASKS, 30, 1_767_323_045_000),
        ..SimulatorConfig::default()
    })
    .unwrap()
}

/// Every task is polled each second, with the key of a role.
fn config(endpoint: &str) -> String {
    let tasks: Vec<_> = (0..TASKS).map(load_task_id).collect();
    json!({
        "poll": {"interval": "1s", "finished_interval": "1s"},
        "api": {"requests_per_second": 1000, "burst": 1000},
        "credentials": {
            "key": {
                "type": "access_key",
                "access_key_id": demo::KEY_ID,
                "access_key_secret": demo::KEY_SECRET,
            },
            "test": {
                "type": "assume_role", "role_arn": ROLE, "source": "key", "sts_endpoint": endpoint,
            },
        },
        "instances": [{
            "id": World::LOAD_INSTANCE, "region": "cn-hangzhou", "endpoint": endpoint,
            "credentials": "test", "tasks": tasks,
        }],
    })
    .to_string()
}

#[test]
fn rounds_go_over_the_connections_that_there_are() {
    let folder = certificates();
    let ca = folder.path().join("ca.pem");
    let trusted = [("SSL_CERT_FILE", ca.to_str().unwrap())];
    let cloud = cloud(folder.path());
    let daemon = Daemon::serve_with(&config(&cloud.url()), &[], &trusted);
    daemon.ready();
    let total = TASKS as u64;
    eventually("a whole round", || {
        (cloud.requests().total > total).then_some(())
    });
    let first = cloud.connections();
    assert!(first.accepted <= 32, "{first:?}");

    cloud.clear_requests();
    eventually("two more", || {
        (cloud.requests().total > 2 * total).then_some(())
    });
    assert_eq!(cloud.connections().accepted, 0);
}

/// `simulate`, until the test ends.
struct Simulated(Child);

impl Drop for Simulated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `simulate` in `folder` and answers its endpoint.
fn simulate(folder: &Path, arguments: &[&str]) -> (Simulated, String) {
    let mut child = binary(&["simulate", "--listen=127.0.0.1:0", "--tasks=1"])
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let simulated = Simulated(child);
    let line = stdout.lines().next().unwrap().unwrap();
    let endpoint = line.strip_prefix("endpoint:").unwrap().trim().to_owned();
    (simulated, endpoint)
}

fn query(endpoint: &str, change: impl FnOnce(&mut Command) -> &mut Command) -> Said {
    let task = load_task_id(0);
    let mut command = binary(&["query", World::LOAD_INSTANCE, &task]);
    command
        .args(["--region=cn-hangzhou", "--endpoint", endpoint])
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", demo::KEY_ID)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", demo::KEY_SECRET);
    run(change(&mut command))
}

#[test]
fn simulate_speaks_tls_with_the_certificate_it_is_given() {
    let folder = certificates();
    let ca = folder.path().join("ca.pem");
    let arguments = ["--tls-cert=leaf.pem", "--tls-key=leaf.key"];
    let (_simulated, endpoint) = simulate(folder.path(), &arguments);
    assert!(endpoint.starts_with("https://127.0.0.1:"), "{endpoint}");
    let said = query(&endpoint, |command| command.env("SSL_CERT_FILE", &ca));
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.contains("\n30 rows: 30 succeeded,"),
        "{}",
        said.out
    );

    let stranger = query(&endpoint, |command| command);
    assert_eq!(stranger.code, 1);
    let unknown = "invalid peer certificate: UnknownIssuer";
    assert!(stranger.err.contains(unknown), "{}", stranger.err);
}

#[test]
fn a_certificate_that_simulate_cannot_use_is_wrong_usage() {
    let folder = certificates();
    for (arguments, told) in [
        (
            &["--tls-cert=leaf.pem", "--tls-key=none.key"][..],
            "cannot read none.key: No such file or directory (os error 2)\n",
        ),
        (
            &["--tls-cert=leaf.pem", "--tls-key=ca.pem"],
            "ca.pem: the key is no PEM with BEGIN PRIVATE KEY: no items found\n",
        ),
        (
            &["--tls-cert=leaf.key", "--tls-key=leaf.key"],
            "leaf.key: the certificate is no PEM with BEGIN CERTIFICATE: no items found\n",
        ),
        (
            &["--tls-cert=ca.pem", "--tls-key=leaf.key"],
            "ca.pem: certificate and key cannot be used: keys may not be consistent: KeyMismatch\n",
        ),
    ] {
        let mut command = binary(&["simulate", "--listen=127.0.0.1:0"]);
        let said = run(command.args(arguments).current_dir(folder.path()));
        assert_eq!((said.code, said.err.as_str()), (2, told), "{arguments:?}");
    }
    for argument in ["--tls-cert=leaf.pem", "--tls-key=leaf.key"] {
        let mut command = binary(&["simulate", "--listen=127.0.0.1:0"]);
        let said = run(command.arg(argument).current_dir(folder.path()));
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{argument}");
    }
}
