//! The vendor's own Python SDK against the simulated cloud: if both agree, the
//! simulator is not just our idea of the API. `scripts/test.sh` installs it.

#[path = "python_sdk/python.rs"]
mod python;

use std::process::{Command, Output};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use simulator::world::{RowSpec, Source, TaskSpec};
use simulator::{AccessKey, Simulator, SimulatorConfig, Tls, World};

const INSTANCE: &str = "cri-90fxryf9pwf0abcd";
const TASK: &str = "crast-y64sq01bgad0abcd";
/// 2026-01-02T03:04:05Z
const START: i64 = 1_767_323_045_000;
/// Three pages of 30.
const ROWS: i64 = 65;

fn task() -> TaskSpec {
    let source = Source::new("DOCKER_HUB", "library/nginx", "mirror/nginx");
    TaskSpec::failed(
        TASK,
        START,
        START + 90_000,
        "toomanyrequests: no more today",
    )
    .source(&source)
    .rows((0..ROWS).map(|at| {
        let (tag, start) = (format!("v1.{at}"), START + at * 1000);
        if at % 7 == 6 {
            RowSpec::failed("mirror", "nginx", &tag, start, start + 500)
        } else {
            RowSpec::succeeded("mirror", "nginx", &tag, start, start + 900)
        }
    }))
}

/// The rows as the SDK must give them back.
fn expected_rows() -> Vec<Value> {
    let row = |at: i64| {
        let (result, took) = if at % 7 == 6 {
            ("FAILED", 500)
        } else {
            ("SUCCESS", 900)
        };
        json!({
            "InstanceId": INSTANCE, "TaskId": TASK,
            "NamespaceName": "mirror", "RepoName": "nginx", "Tag": format!("v1.{at}"),
            "Status": "COMPLETED", "Result": result,
            "StartTime": START + at * 1000, "EndTime": START + at * 1000 + took,
        })
    };
    (0..ROWS).map(row).collect()
}

/// TLS, and the authority that has signed its certificate.
fn tls() -> (Tls, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Of the same name, OpenSSL would take the server's for signed by itself.
    let name = "the authority of this test";
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
        .and_then(|params| params.signed_by(&key, &authority))
        .expect("a certificate");
    let tls = Tls::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes());
    (tls.expect("TLS"), authority.pem())
}

#[test]
fn the_official_sdk_and_the_simulator_agree() {
    let Some(python) = python::with("alibabacloud_cr20181201.client") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("ca.pem");
    for token in [None, Some("to+ken/=")] {
        // Once over plain HTTP, once over TLS.
        let (tls, pem) = token.map(|_| tls()).unzip();
        std::fs::write(&authority, pem.unwrap_or_default()).expect("a file");
        let is_encrypted = tls.is_some();
        let key = AccessKey {
            token: token.map(str::to_owned),
            ..AccessKey::new("exampleAccessKeyId", "EXAMPLEexampleEXAMPLEexample12")
        };
        let running = Simulator::start(SimulatorConfig {
            keys: vec![key],
            tls,
            world: World::new()
                .instance(INSTANCE, "cn-hangzhou")
                .set("InstanceName", "名 a*b+c")
                .task(task()),
            ..SimulatorConfig::default()
        })
        .expect("the simulator starts");

        let mut command = Command::new(&python);
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/python_sdk/check.py"
            ))
            .args(["--endpoint", &running.addr().to_string()])
            .args(["--key-id", "exampleAccessKeyId"])
            .args(["--key-secret", "EXAMPLEexampleEXAMPLEexample12"])
            .args(["--instance", INSTANCE, "--task", TASK])
            .args(token.map_or(vec![], |token| vec!["--token", token]))
            .args(is_encrypted.then_some("--ca"))
            .args(is_encrypted.then_some(&authority))
            .env("NO_PROXY", "*")
            .env("no_proxy", "*");
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().expect("Python runs");
        let stderr = String::from_utf8_lossy(&stderr);
        let requests = running.requests().requests;
        assert!(status.success(), "{stderr}\n{requests:#?}");
        let seen: Value = serde_json::from_slice(&stdout).expect("JSON");

        let connections = running.connections().connections;
        assert!(connections.iter().all(|one| one.tls == is_encrypted));

        for signature in ["acs3-hmac-sha256", "hmac-sha1"] {
            let seen = &seen[signature];
            assert_eq!(seen["rows"], json!(expected_rows()), "{signature}");
            assert_eq!(seen["task"]["Message"], "toomanyrequests: no more today");
            assert_eq!(seen["task"]["StartTime"], START, "{signature}");
            assert_eq!(seen["instances"][0]["InstanceId"], INSTANCE, "{signature}");
            let refused = json!({"code": "SignatureDoesNotMatch", "status": 400});
            assert_eq!(seen["wrong_secret"], refused, "{signature}");

            let of_it = || requests.iter().filter(|r| r.algorithm == Some(signature));
            // One task, one list of instances, one refusal, three pages.
            assert_eq!(of_it().count(), 6, "{requests:#?}");
            let posts = of_it().filter(|r| r.method == "POST").count();
            assert_eq!(posts, 1, "{requests:#?}");
        }
    }
}
