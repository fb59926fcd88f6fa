//! Every provider of credentials over real sockets, in real time: against the
//! simulated cloud, which checks signatures and tokens, and against servers that
//! do what no cloud should.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use alibaba_cloud::Reason;
use alibaba_cloud::clock::Clock;
use alibaba_cloud::credentials::assume_role::AssumeRole;
use alibaba_cloud::credentials::cached::Cached;
use alibaba_cloud::credentials::chain::Chain;
use alibaba_cloud::credentials::ecs_ram_role::EcsRamRole;
use alibaba_cloud::credentials::oidc::Oidc;
use alibaba_cloud::credentials::static_key::{Setting, StaticKey};
use alibaba_cloud::credentials::sts::Role;
use alibaba_cloud::credentials::uri::Uri;
use alibaba_cloud::credentials::vendor_file::VendorFile;
use alibaba_cloud::credentials::{
    Addresses, Context, Credentials, Error, METADATA, ProvideCredentials,
};
use alibaba_cloud::http::Http;
use alibaba_cloud::rpc::Throttle;
use alibaba_cloud::signing::Algorithm;
use aliyun_acr_exporter::api::{Account, Budget, Client, Instance, Options, Shared};
use aliyun_acr_exporter::metrics::account;
use aliyun_acr_exporter::metrics::own::{Build, Own};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use simulator::faults::{Fault, FaultRule};
use simulator::{Issued, Issuing, Metadata, Running, Simulator, SimulatorConfig, World, demo};
use tempfile::TempDir;
use tokio::sync::Semaphore;

const ROLE: &str = "acs:ram::123456789012:role/reader";
const OIDC_PROVIDER: &str = "acs:ram::123456789012:oidc-provider/ack-rrsa-c1";

/// A simulated cloud, a home folder, and what providers use together.
struct Setup {
    cloud: Running,
    home: TempDir,
    own: Arc<Own>,
    context: Context,
}

impl Setup {
    fn new() -> Self {
        Self::with(Issuing::default())
    }

    fn with(issuing: Issuing) -> Self {
        let cloud = Simulator::start(SimulatorConfig {
            issuing,
            world: World::demo(Clock::system().now_millis()),
            ..SimulatorConfig::default()
        })
        .expect("a simulated cloud");
        let home = tempfile::tempdir().expect("a folder");
        let own = Arc::new(Own::new(Build::CURRENT));
        let context = Context {
            observer: account::observer(&own, "prod"),
            ..context(&cloud.url(), home.path())
        };
        Self {
            cloud,
            home,
            own,
            context,
        }
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        path
    }

    fn fault(&self, action: &str, fault: Fault) {
        self.cloud.add_fault(FaultRule::new(fault).action(action));
    }

    /// The last credentials that were handed out.
    fn issued(&self) -> Issued {
        self.cloud.issued().pop().expect("some were handed out")
    }

    fn metric(&self, series: &str) -> Option<f64> {
        let page = prometheus::TextEncoder::new()
            .encode_to_string(&self.own.gather())
            .expect("valid metrics");
        let (_, value) = page
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .find(|(name, _)| name.strip_prefix("aliyun_acr_exporter_") == Some(series))?;
        Some(value.parse().expect("a number"))
    }
}

fn context(url: &str, home: &Path) -> Context {
    Context {
        name: "prod".to_owned(),
        http: Http::new("test").expect("TLS"),
        observer: Arc::new(()),
        clock: Clock::system(),
        addresses: Addresses {
            sts: Some(url.to_owned()),
            metadata: url.to_owned(),
            ..Addresses::default()
        },
        home: Some(home.to_owned()),
        session_name: "aliyun-acr-exporter".to_owned(),
    }
}

fn key(id: &str, secret: &str) -> Arc<StaticKey> {
    Arc::new(StaticKey::new(
        Setting::Inline(id.into()),
        Setting::Inline(secret.into()),
        None,
    ))
}

/// The one that the simulated cloud knows from the start.
fn known_key() -> Arc<StaticKey> {
    key(demo::KEY_ID, demo::KEY_SECRET)
}

fn role() -> Role {
    Role {
        arn: ROLE.to_owned(),
        ..Role::default()
    }
}

async fn broken(provider: &dyn ProvideCredentials) -> String {
    match provider.provide().await {
        Err(error @ Error::Broken { .. }) => error.to_string(),
        other => panic!("not broken: {other:?}"),
    }
}

async fn absent(provider: &dyn ProvideCredentials) -> String {
    match provider.provide().await {
        Err(error @ Error::NotConfigured { .. }) => error.to_string(),
        other => panic!("configured: {other:?}"),
    }
}

async fn good(provider: &dyn ProvideCredentials) -> Credentials {
    provider.provide().await.expect("a key")
}

/// Whether `given` is exactly what was handed out.
#[track_caller]
fn assert_is(given: &Credentials, issued: &Issued, provider: &str) {
    assert_eq!(given.access_key_id, issued.key.id);
    assert_eq!(given.access_key_secret.expose_secret(), issued.key.secret);
    let token = given
        .security_token
        .as_ref()
        .map(ExposeSecret::expose_secret);
    assert_eq!(token, issued.key.token.as_deref());
    assert_eq!(given.expires_at_ms, Some(issued.expires));
    assert_eq!(given.provider, provider);
}

/// A server that keeps what it was sent, and gives one answer to everything.
struct Raw {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Raw {
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let ends = Arc::new(AtomicBool::new(false));
        let (seen, over) = (Arc::clone(&requests), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let mut bytes = Vec::new();
                let mut byte = [0];
                let is_whole = |bytes: &[u8]| {
                    let text = String::from_utf8_lossy(bytes);
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        return false;
                    };
                    let length = head.lines().find_map(|line| {
                        line.to_ascii_lowercase()
                            .strip_prefix("content-length: ")
                            .map(|length| length.parse().expect("a length"))
                    });
                    body.len() >= length.unwrap_or(0)
                };
                while !is_whole(&bytes) && stream.read_exact(&mut byte).is_ok() {
                    bytes.push(byte[0]);
                }
                let request = String::from_utf8(bytes).expect("text");
                let body = answer(&request);
                seen.lock().expect("not poisoned").push(request);
                let (status, body) = match body.split_once('|') {
                    Some((status, body)) => (status.to_owned(), body.to_owned()),
                    None => ("200 OK".to_owned(), body),
                };
                let length = body.len();
                // The client may be gone, which is its business.
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                );
            }
        });
        Self {
            address,
            requests,
            ends,
            thread: Some(thread),
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // Wakes it; a panic of the thread was told already.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// An address where nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[tokio::test]
async fn a_role_is_assumed_with_all_that_was_asked_for() {
    let setup = Setup::new();
    let policy = r#"{"Version": "1", "Statement": [{"Effect": "Allow", "Action": ["cr:Get*"], "Resource": "*"}]}"#;
    let full = Role {
        session_name: Some("me@host".to_owned()),
        duration: Some(Duration::from_secs(1800)),
        external_id: Some(Setting::File(setup.write("external-id", "ext-1\n"))),
        policy: Some(policy.to_owned()),
        ..role()
    };
    let requests = "api_requests_total{action=\"AssumeRole\",credentials=\"prod\"}";
    let provider = AssumeRole::new(&setup.context, full, known_key());
    assert_eq!(setup.metric(requests), Some(0.0));
    let given = good(&provider).await;
    let issued = setup.issued();
    assert_is(&given, &issued, "assume_role");
    assert_eq!(issued.signed_by.as_deref(), Some(demo::KEY_ID));
    for (name, value) in [
        ("RoleArn", ROLE),
        ("RoleSessionName", "me@host"),
        ("DurationSeconds", "1800"),
        ("ExternalId", "ext-1"),
        ("Policy", policy),
    ] {
        assert_eq!(issued.inputs[name], value);
    }
    assert_eq!(setup.metric(requests), Some(1.0));

    // The role's key is a source like any other.
    let plain = AssumeRole::new(&setup.context, role(), Arc::new(provider));
    let given = good(&plain).await;
    let issued = setup.cloud.issued();
    assert_is(&given, &issued[2], "assume_role");
    assert_eq!(issued[2].signed_by.as_ref(), Some(&issued[1].key.id));
    assert_eq!(issued[2].inputs["RoleSessionName"], "aliyun-acr-exporter");
    assert_eq!(issued[2].inputs["DurationSeconds"], "3600");
    assert!(!issued[2].inputs.contains_key("Policy"));
}

#[tokio::test]
async fn why_a_role_cannot_be_assumed_is_told_and_counted() {
    let setup = Setup::with(Issuing {
        external_ids: [(ROLE.to_owned(), "right".to_owned())].into(),
        ..Issuing::default()
    });
    let assume = |role, key| AssumeRole::new(&setup.context, role, key);
    let told = broken(&assume(role(), known_key())).await;
    assert_eq!(
        told,
        format!(
            "assume_role: AssumeRole: NoPermission: \"You are not authorized to do this action. You should be authorized by RAM.\" (HTTP 403); needs sts:AssumeRole on {ROLE}, whose trust policy must name the caller"
        )
    );
    let errors = |reason| {
        setup.metric(&format!("api_request_errors_total{{action=\"AssumeRole\",credentials=\"prod\",reason=\"{reason}\"}}"))
    };
    assert_eq!(errors("forbidden"), Some(1.0));

    let told = broken(&assume(role(), key(demo::KEY_ID, "wrong-secret"))).await;
    assert!(
        told.starts_with("assume_role: AssumeRole: SignatureDoesNotMatch"),
        "{told}"
    );
    assert!(
        !told.contains("wrong-secret") && !told.contains("RoleArn"),
        "{told}"
    );
    assert_eq!(errors("auth"), Some(1.0));

    // Nothing is sent without a source's key or for a role that cannot be.
    let nothing = Arc::new(Uri::new(&setup.context, "http://example.com"));
    let told = broken(&AssumeRole::new(&setup.context, role(), nothing)).await;
    assert!(
        told.starts_with("assume_role: its source has no key: uri: "),
        "{told}"
    );
    let short = Role {
        duration: Some(Duration::from_secs(1)),
        ..role()
    };
    assert!(
        broken(&assume(short, known_key()))
            .await
            .contains("900 s is the least")
    );
    assert_eq!(setup.cloud.requests().total, 2);

    // What passes by itself is tried twice.
    for (fault, reason, times, text) in [
        (
            Fault::HtmlPage { status: 200 },
            "decode",
            1.0,
            "the answer is no JSON object",
        ),
        (Fault::HtmlPage { status: 502 }, "server", 2.0, "HTTP 502"),
        (
            Fault::Drop,
            "connect",
            2.0,
            "the connection broke before an answer came",
        ),
        (
            Fault::Throttle {
                status: 400,
                code: "Throttling.User".to_owned(),
                retry_after_ms: None,
                time_left_ms: None,
                retry_after_s: None,
            },
            "throttled",
            1.0,
            "Throttling.User",
        ),
    ] {
        setup.cloud.clear_faults();
        setup.fault("AssumeRole", fault);
        let told = broken(&assume(role(), known_key())).await;
        assert!(told.contains(text), "{told}");
        assert_eq!(errors(reason), Some(times), "{reason}");
    }
    let mut away = setup.context.clone();
    away.addresses.sts = Some(nowhere());
    let told = broken(&AssumeRole::new(&away, role(), known_key())).await;
    assert!(told.contains("no connection"), "{told}");
    assert_eq!(errors("connect"), Some(3.0));
}

const UNAVAILABLE: &str = "503 Service Unavailable|{\"Code\":\"ServiceUnavailable\"}";

/// What STS answers, with a key of a hundred years.
fn of_sts() -> String {
    json!({"Credentials": {
        "AccessKeyId": "STS.x", "AccessKeySecret": "s", "SecurityToken": "t",
        "Expiration": "2100-01-01T00:00:00Z",
    }})
    .to_string()
}

/// The value of an input in the URL of a request.
fn input(request: &str, name: &str) -> String {
    let (_, query) = request.split_once('?').expect("a query");
    let query = query.split(' ').next().expect("a query");
    let found = query
        .split('&')
        .find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    found.expect(name).to_owned()
}

#[tokio::test]
async fn sts_is_asked_once_more_with_a_new_request_where_it_is_at_fault() {
    let answers = Mutex::new(vec![UNAVAILABLE.to_owned(), of_sts()]);
    let raw = Raw::start(move |_| answers.lock().expect("not poisoned").remove(0));
    let home = tempfile::tempdir().expect("a folder");
    let setup = Setup::new();
    let observed = Context {
        observer: Arc::clone(&setup.context.observer),
        ..context(&raw.url(), home.path())
    };
    let provider = AssumeRole::new(&observed, role(), known_key());
    assert_eq!(good(&provider).await.access_key_id, "STS.x");
    let requests = raw.requests();
    assert_eq!(requests.len(), 2);
    assert_ne!(
        input(&requests[0], "SignatureNonce"),
        input(&requests[1], "SignatureNonce")
    );
    let metric = |name: &str, more: &str| {
        let labels = format!("{{action=\"AssumeRole\",credentials=\"prod\"{more}}}");
        setup.metric(&format!("api_{name}_total{labels}"))
    };
    assert_eq!(metric("requests", ""), Some(2.0));
    assert_eq!(metric("retries", ""), Some(1.0));
    let server = ",reason=\"server\"";
    assert_eq!(metric("request_errors", server), Some(1.0));

    // Not more than once, and not for what would not pass.
    for (answer, times) in [
        (UNAVAILABLE, 2),
        ("503 Service Unavailable|{\"Code\":\"Throttling.User\"}", 1),
        ("403 Forbidden|{\"Code\":\"NoPermission\"}", 1),
    ] {
        let raw = Raw::start(move |_| answer.to_owned());
        let context = context(&raw.url(), home.path());
        broken(&AssumeRole::new(&context, role(), known_key())).await;
        assert_eq!(raw.requests().len(), times, "{answer}");
    }
}

#[tokio::test]
async fn metadata_service_and_uri_are_asked_once_more_where_they_are_at_fault() {
    for fault in [Fault::HtmlPage { status: 502 }, Fault::Drop] {
        let setup = Setup::new();
        for action in ["MetadataToken", "MetadataRole", "MetadataCredentials"] {
            let once = FaultRule::new(fault.clone()).action(action).times(1);
            setup.cloud.add_fault(once);
        }
        // Without a token it would be asked in vain.
        setup
            .cloud
            .update_issuing(|issuing| issuing.metadata = Metadata::TokenRequired);
        good(&EcsRamRole::new(&setup.context, None, false)).await;
        let asked = setup.cloud.requests();
        for action in ["MetadataToken", "MetadataRole", "MetadataCredentials"] {
            assert_eq!(asked.count(action), 2, "{action}");
        }
        let once = FaultRule::new(fault).action("CredentialsUri").times(1);
        setup.cloud.add_fault(once);
        good(&Uri::new(&setup.context, setup.cloud.credentials_uri())).await;
    }
}

#[tokio::test]
async fn requests_to_sts_count_as_in_flight() {
    let own = Arc::new(Own::new(Build::CURRENT));
    let (seen, gauge) = (Arc::<Mutex<Vec<i64>>>::default(), Arc::clone(&own));
    let log = Arc::clone(&seen);
    let raw = Raw::start(move |_| {
        log.lock()
            .expect("not poisoned")
            .push(gauge.api_in_flight.get());
        of_sts()
    });
    let context = Context {
        observer: account::observer(&own, "prod"),
        ..context(&raw.url(), Path::new("/"))
    };
    good(&AssumeRole::new(&context, role(), known_key())).await;
    assert_eq!(*seen.lock().expect("not poisoned"), [1]);
    assert_eq!(own.api_in_flight.get(), 0);
}

#[tokio::test]
async fn a_refusal_of_sts_whose_text_changes_is_logged_once_per_change() {
    let count = Mutex::new(0);
    let raw = Raw::start(move |_| {
        let mut count = count.lock().expect("not poisoned");
        *count += 1;
        let code = if *count < 4 {
            "NoPermission"
        } else {
            "NoPrivilege"
        };
        let status = if *count < 5 {
            "403 Forbidden"
        } else {
            "400 Bad Request"
        };
        format!(
            r#"{status}|{{"Code":"{code}","Message":"not at 12:00:0{count}","RequestId":"R-{count}"}}"#
        )
    });
    let context = context(&raw.url(), Path::new("/"));
    let assume = Arc::new(AssumeRole::new(&context, role(), known_key()));
    // As a profile, a section or a chain hand it on.
    let next = AssumeRole::new(&context, role(), assume);
    let cached = Cached::new(&context, Arc::new(Chain::new(vec![Box::new(next)])));
    let (log, guard) = captured();
    for times in 1..=6 {
        assert!(cached.provide().await.is_err());
        assert_eq!(raw.requests().len(), times);
        ten_seconds_pass().await;
    }
    drop(guard);
    let log = text_of(&log);
    let told = log.lines().filter(|line| line.contains("cannot be had"));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 3, "{log}");
    for (line, part) in told.iter().zip(["00:01", "00:04", "00:05"]) {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test]
async fn a_source_s_key_that_has_ended_is_renewed() {
    let setup = Setup::new();
    let uri = Arc::new(Uri::new(&setup.context, setup.cloud.credentials_uri()));
    let source = Arc::new(Cached::new(&setup.context, uri));
    let provider = AssumeRole::new(&setup.context, role(), source);
    good(&provider).await;
    setup.cloud.revoke_all();
    // Another key is not asked for within ten seconds.
    assert!(broken(&provider).await.contains("InvalidSecurityToken"));
    ten_seconds_pass().await;
    good(&provider).await;
    let from_uri: Vec<_> = setup.cloud.issued();
    let from_uri: Vec<_> = from_uri
        .iter()
        .filter(|issued| issued.action == "CredentialsUri")
        .collect();
    assert_eq!(from_uri.len(), 2);
    assert_eq!(setup.issued().signed_by.as_ref(), Some(&from_uri[1].key.id));
}

/// By tokio's clock, though not by the world's.
async fn ten_seconds_pass() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_oidc_token_is_read_at_each_use_and_travels_in_the_body() {
    let setup = Setup::new();
    let file = setup.write("token", &format!(" {}\n", demo::OIDC_TOKEN));
    let named = Role {
        session_name: Some("pod-1".to_owned()),
        external_id: Some(Setting::Inline("plays-no-part".into())),
        ..role()
    };
    let provider = Oidc::new(&setup.context, named.clone(), OIDC_PROVIDER, &file);
    let given = good(&provider).await;
    let issued = setup.issued();
    assert_is(&given, &issued, "oidc");
    assert_eq!(issued.signed_by, None);
    assert_eq!(issued.inputs["OIDCProviderArn"], OIDC_PROVIDER);
    assert_eq!(issued.inputs["RoleSessionName"], "pod-1");
    assert!(!issued.inputs.contains_key("ExternalId"));
    let requests = "api_requests_total{action=\"AssumeRoleWithOIDC\",credentials=\"prod\"}";
    assert_eq!(setup.metric(requests), Some(1.0));

    let another = "another-token-of-the-kubelet";
    setup
        .cloud
        .update_issuing(|issuing| issuing.oidc_tokens = vec![another.to_owned()]);
    let told = broken(&provider).await;
    assert!(
        told.contains("AuthenticationFail.OIDCToken.Invalid"),
        "{told}"
    );
    setup.write("token", another);
    good(&provider).await;

    setup.write("token", "\n");
    let shown = file.display();
    assert_eq!(
        broken(&provider).await,
        format!("oidc: the token file {shown} is empty")
    );
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(
        broken(&provider).await,
        format!("oidc: the token file {shown} does not exist")
    );

    // What is on the wire, and an answer that gives the token back.
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJleHBvcnRlciJ9.c2lnbmF0dXJl";
    let raw = Raw::start(move |_| {
        format!(
            r#"400 Bad Request|{{"Code":"InvalidParameter.OIDCToken","Message":"{token} is wrong","RequestId":"R"}}"#
        )
    });
    setup.write("token", token);
    let mut context = setup.context.clone();
    context.addresses.sts = Some(raw.url());
    let told = broken(&Oidc::new(&context, named, OIDC_PROVIDER, &file)).await;
    assert_eq!(
        told,
        "oidc: AssumeRoleWithOIDC: InvalidParameter.OIDCToken: \"… is wrong\" (HTTP 400)"
    );
    let request = raw.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").expect("a body");
    assert!(
        head.starts_with("POST /?Action=AssumeRoleWithOIDC&Format=JSON&Timestamp="),
        "{head}"
    );
    assert!(
        !head.contains("eyJ") && !head.contains("Signature"),
        "{head}"
    );
    assert!(body.contains(&format!("OIDCToken={token}")), "{body}");
    assert!(
        body.contains("OIDCProviderArn=acs%3Aram%3A%3A123456789012%3Aoidc-provider%2Fack-rrsa-c1")
    );
}

/// Whether a key comes, without a role's name and with; 403 is "broken".
#[tokio::test]
async fn the_metadata_service_is_asked_in_every_dialect() {
    for (dialect, imdsv1_disabled, expected) in [
        (
            Metadata::TokenOptional,
            false,
            Ok(["MetadataToken", "MetadataRole", "MetadataCredentials"].as_slice()),
        ),
        (
            Metadata::TokenOptional,
            true,
            Ok(&["MetadataToken", "MetadataRole", "MetadataCredentials"]),
        ),
        (
            Metadata::TokenRequired,
            false,
            Ok(&["MetadataToken", "MetadataRole", "MetadataCredentials"]),
        ),
        (
            Metadata::WithoutTokens,
            false,
            Ok(&["MetadataToken", "MetadataRole", "MetadataCredentials"]),
        ),
        (
            Metadata::WithoutTokens,
            true,
            Err("gives no token (HTTP 405)"),
        ),
    ] {
        let setup = Setup::with(Issuing {
            metadata: dialect,
            ..Issuing::default()
        });
        let found = EcsRamRole::new(&setup.context, None, imdsv1_disabled);
        let named = Some(demo::ROLE_NAME.to_owned());
        let named = EcsRamRole::new(&setup.context, named, imdsv1_disabled);
        match expected {
            Ok(actions) => {
                assert_is(&good(&found).await, &setup.issued(), "ecs_ram_role");
                let asked = setup.cloud.requests().requests;
                let asked: Vec<_> = asked
                    .iter()
                    .filter_map(|seen| seen.action.as_deref())
                    .collect();
                assert_eq!(asked, actions, "{dialect:?}");
                assert_is(&good(&named).await, &setup.issued(), "ecs_ram_role");
                assert_eq!(setup.cloud.requests().count("MetadataRole"), 1);
            }
            Err(problem) => {
                assert!(broken(&found).await.contains(problem), "{dialect:?}");
                assert!(broken(&named).await.contains(problem), "{dialect:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_refused_token_of_the_metadata_service_is_left_out_unless_it_must_not_be() {
    let keys = json!({
        "Code": "Success", "AccessKeyId": "STS.x", "AccessKeySecret": "s",
        "SecurityToken": "t", "Expiration": "2100-01-01T00:00:00Z",
    });
    let raw = Raw::start(move |request| {
        if request.starts_with("PUT ") {
            "a-token".to_owned()
        } else if request.contains("x-aliyun-ecs-metadata-token: a-token") {
            "403 Forbidden|no".to_owned()
        } else if request.starts_with("GET /latest/meta-data/ram/security-credentials/ ") {
            "a-role\n".to_owned()
        } else {
            keys.to_string()
        }
    });
    let context = context(&raw.url(), Path::new("/"));
    assert_eq!(
        good(&EcsRamRole::new(&context, None, false))
            .await
            .access_key_id,
        "STS.x"
    );
    let ways: Vec<_> = raw
        .requests()
        .iter()
        .map(|request| request.split(" HTTP").next().expect("a line").to_owned())
        .collect();
    let roles = "GET /latest/meta-data/ram/security-credentials/";
    let role = format!("{roles}a-role");
    assert_eq!(ways, ["PUT /latest/api/token", roles, roles, &role, &role]);
    assert!(raw.requests()[0].contains("x-aliyun-ecs-metadata-token-ttl-seconds: 21600"));
    let told = broken(&EcsRamRole::new(&context, None, true)).await;
    assert!(told.contains("names no role (HTTP 403)"), "{told}");
    assert!(told.ends_with("it does not take the token that it gave a moment ago: see that no proxy or firewall before it takes away the header x-aliyun-ecs-metadata-token"), "{told}");
}

#[tokio::test]
async fn what_to_do_is_told_where_the_metadata_service_insists_on_a_token() {
    let setup = Setup::with(Issuing {
        metadata: Metadata::TokenRequired,
        ..Issuing::default()
    });
    let at = setup.cloud.url();
    setup.fault("MetadataToken", Fault::HtmlPage { status: 403 });
    let wants = "it seems to insist on a token (HttpTokens: required), which PUT /latest/api/token did not give (HTTP 403): let that request through to it, which a container's network or a firewall may keep back, or set HttpTokens of the instance to optional";
    for (role, what) in [
        (None, "names no role"),
        (Some(demo::ROLE_NAME), "gives no key of the role"),
    ] {
        let role = role.map(str::to_owned);
        assert_eq!(
            broken(&EcsRamRole::new(&setup.context, role.clone(), false)).await,
            format!("ecs_ram_role: the metadata service at {at} {what} (HTTP 403); {wants}")
        );
        assert_eq!(
            broken(&EcsRamRole::new(&setup.context, role, true)).await,
            format!(
                "ecs_ram_role: the metadata service at {at} gives no token (HTTP 403); nothing is asked without one, as disable_imdsv1 or ALIBABA_CLOUD_IMDSV1_DISABLED says: let PUT /latest/api/token through to it, or turn that off"
            )
        );
    }
}

#[tokio::test]
async fn a_metadata_service_that_is_not_there_is_not_configured() {
    let setup = Setup::new();
    let any = || EcsRamRole::new(&setup.context, None, false);
    let named = |name: &str| EcsRamRole::new(&setup.context, Some(name.to_owned()), false);
    setup
        .cloud
        .update_issuing(|issuing| issuing.role_name = None);
    assert!(absent(&any()).await.contains("knows no role (HTTP 404)"));
    let of_reader = broken(&named("reader")).await;
    assert!(
        of_reader.contains("does not know the role (HTTP 404)"),
        "{of_reader}"
    );
    setup
        .cloud
        .update_issuing(|issuing| issuing.metadata = Metadata::Off);
    assert!(absent(&any()).await.contains("knows no role (HTTP 404)"));
    assert_eq!(broken(&named("reader")).await, of_reader);
    assert!(
        absent(&EcsRamRole::new(&setup.context, None, true))
            .await
            .contains("gives no token (HTTP 404)")
    );

    // Slow: each request is given up after a second.
    setup.fault("Metadata", Fault::Hang);
    let started = Instant::now();
    let (any_role, reader) = (any(), named("reader"));
    let both = tokio::join!(any_role.provide(), reader.provide());
    for provided in [both.0, both.1] {
        let error = provided.expect_err("no key");
        assert!(matches!(error, Error::NotConfigured { .. }), "{error}");
        assert!(error.to_string().contains("no answer within 1s"), "{error}");
    }
    let took = started.elapsed();
    assert!((2.0..10.0).contains(&took.as_secs_f64()), "{took:?}");

    let away = context(&nowhere(), setup.home.path());
    assert!(
        absent(&EcsRamRole::new(&away, None, false))
            .await
            .contains("no connection")
    );
}

#[tokio::test]
async fn a_metadata_service_that_answers_nonsense_is_broken() {
    let setup = Setup::new();
    let html = || Fault::HtmlPage { status: 200 };
    for (action, fault, expected) in [
        (
            "Metadata",
            html(),
            "names no role: the answer is no role's name",
        ),
        (
            "Metadata",
            Fault::HtmlPage { status: 500 },
            "names no role (HTTP 500)",
        ),
        (
            "MetadataRole",
            html(),
            "names no role: the answer is no role's name",
        ),
        // It has answered before, so a role may well be there.
        (
            "MetadataRole",
            Fault::Hang,
            "names no role: no answer within 1s",
        ),
        (
            "MetadataCredentials",
            html(),
            "gives no key of the role: the answer is no JSON object",
        ),
        (
            "MetadataCredentials",
            Fault::Drop,
            "gives no key of the role: the connection broke",
        ),
    ] {
        setup.cloud.clear_faults();
        setup.fault(action, fault);
        let told = broken(&EcsRamRole::new(&setup.context, None, false)).await;
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("<html"), "{told}");
    }
    setup.cloud.clear_faults();
    setup.fault("MetadataToken", html());
    good(&EcsRamRole::new(&setup.context, None, false)).await;
    let told = broken(&EcsRamRole::new(&setup.context, None, true)).await;
    assert!(
        told.contains("gives no token: the answer is no token"),
        "{told}"
    );
    for name in ["a/b", "..", ""] {
        let told = broken(&EcsRamRole::new(
            &setup.context,
            Some(name.to_owned()),
            false,
        ))
        .await;
        assert!(told.contains("the role name should have"), "{told}");
    }
}

#[tokio::test]
async fn a_credentials_uri_gives_a_key_or_is_broken() {
    let setup = Setup::new();
    let uri = setup.cloud.credentials_uri();
    assert_is(
        &good(&Uri::new(&setup.context, uri.as_str())).await,
        &setup.issued(),
        "uri",
    );
    let raw = Raw::start(|_| {
        r#"{"AccessKeyId":"STS.x","AccessKeySecret":"s","SecurityToken":"t","Expiration":"9999-12-31T23:59:59Z"}"#.to_owned()
    });
    let given = good(&Uri::new(&setup.context, raw.url())).await;
    // `date -u -d 9999-12-31T23:59:59Z +%s`
    assert_eq!(given.expires_at_ms, Some(253_402_300_799_000));
    setup.cloud.update_issuing(|issuing| issuing.uri = false);
    let with_secret = format!("{uri}?hush=hush");
    let told = broken(&Uri::new(&setup.context, with_secret)).await;
    let host = setup.cloud.addr();
    assert_eq!(told, format!("uri: {host}: answers with HTTP 404"));
    let told = broken(&Uri::new(&setup.context, format!("{}/hush", nowhere()))).await;
    assert!(
        told.contains("no connection") && !told.contains("hush"),
        "{told}"
    );
    for uri in ["http://example.com/hush", "hush", "file:///hush"] {
        let told = broken(&Uri::new(&setup.context, uri)).await;
        assert!(told.starts_with("uri: the credentials URI is "), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
}

fn profiles(current: &str, profiles: &Value) -> String {
    json!({"current": current, "profiles": profiles}).to_string()
}

#[tokio::test]
async fn a_profile_of_every_mode_gives_its_key() {
    let setup = Setup::new();
    let token_file = setup.write("token", demo::OIDC_TOKEN);
    let (id, secret) = (demo::KEY_ID, demo::KEY_SECRET);
    let printed = json!({"mode": "AK", "access_key_id": id, "access_key_secret": secret});
    let all = json!([
        {"name": "ak", "mode": "AK", "access_key_id": id, "access_key_secret": secret, "sts_token": ""},
        {"name": "sts", "mode": "StsToken", "access_key_id": "i", "access_key_secret": "s", "sts_token": "t"},
        {"name": "role", "mode": "RamRoleArn", "access_key_id": id, "access_key_secret": secret,
         "ram_role_arn": ROLE, "ram_session_name": "cli", "expired_seconds": 900, "external_id": "ext-1"},
        {"name": "ecs", "mode": "EcsRamRole", "ram_role_name": demo::ROLE_NAME},
        {"name": "oidc", "mode": "OIDC", "ram_role_arn": ROLE, "oidc_provider_arn": OIDC_PROVIDER,
         "oidc_token_file": token_file, "role_session_name": "oidc-cli", "expired_seconds": 0},
        {"name": "chain", "mode": "ChainableRamRoleArn", "source_profile": "role", "ram_role_arn": ROLE, "expired_seconds": "1200"},
        {"name": "command", "mode": "External", "process_command": format!("echo '{printed}'")},
        {"name": "command-role", "mode": "ChainableRamRoleArn", "source_profile": "command", "ram_role_arn": ROLE},
    ]);
    let file = setup.write(".aliyun/config.json", &profiles("ak", &all));
    let named = |name: &str| VendorFile::profile(&setup.context, None, Some(name.to_owned()));
    for provider in [
        VendorFile::profile(&setup.context, None, None),
        VendorFile::profile(&setup.context, Some(file), None),
        named("command"),
    ] {
        let given = good(&provider).await;
        assert_eq!(
            (given.access_key_id.as_str(), given.provider),
            (id, "profile")
        );
        assert_eq!(given.access_key_secret.expose_secret(), secret);
        assert!(given.security_token.is_none() && given.expires_at_ms.is_none());
    }
    let given = good(&named("sts")).await;
    assert_eq!(given.security_token.expect("a token").expose_secret(), "t");
    for (name, action, inputs) in [
        (
            "role",
            "AssumeRole",
            &[
                ("RoleSessionName", "cli"),
                ("DurationSeconds", "900"),
                ("ExternalId", "ext-1"),
            ][..],
        ),
        (
            "ecs",
            "MetadataCredentials",
            &[("RoleName", demo::ROLE_NAME)],
        ),
        (
            "oidc",
            "AssumeRoleWithOIDC",
            &[("RoleSessionName", "oidc-cli"), ("DurationSeconds", "3600")],
        ),
        ("chain", "AssumeRole", &[("DurationSeconds", "1200")]),
        ("command-role", "AssumeRole", &[("RoleArn", ROLE)]),
    ] {
        let given = good(&named(name)).await;
        let issued = setup.issued();
        assert_is(&given, &issued, "profile");
        assert_eq!(issued.action, action, "{name}");
        for (input, value) in inputs {
            assert_eq!(issued.inputs[input], *value, "{name}");
        }
    }
}

#[tokio::test]
async fn a_profile_that_cannot_be_used_says_why() {
    let setup = Setup::new();
    let all = json!([
        {"name": "blank", "mode": "", "access_key_id": ""},
        {"name": "half", "mode": "AK", "access_key_id": "hush"},
        {"name": "tokenless", "mode": "StsToken", "access_key_id": "i", "access_key_secret": "hush"},
        {"name": "a", "mode": "ChainableRamRoleArn", "source_profile": "b", "ram_role_arn": ROLE},
        {"name": "b", "mode": "ChainableRamRoleArn", "source_profile": "a", "ram_role_arn": ROLE},
        {"name": "lost", "mode": "ChainableRamRoleArn", "source_profile": "nobody", "ram_role_arn": ROLE},
        {"name": "roleless", "mode": "RamRoleArn", "access_key_id": "i", "access_key_secret": "hush"},
        {"name": "sso", "mode": "CloudSSO", "access_token": "hush"},
        {"name": "oauth", "mode": "OAuth"},
        {"name": "new", "mode": "hush"},
        {"name": "long", "mode": "RamRoleArn", "access_key_id": "i", "access_key_secret": "s",
         "ram_role_arn": ROLE, "expired_seconds": "hush"},
        {"name": "command", "mode": "External", "process_command": "false hush"},
        {"name": "ecs", "mode": "EcsRamRole"},
    ]);
    let file = setup.write(".aliyun/config.json", &profiles("gone", &all));
    setup
        .cloud
        .update_issuing(|issuing| issuing.metadata = Metadata::Off);
    let named = |name: &str| VendorFile::profile(&setup.context, None, Some(name.to_owned()));
    for (name, expected) in [
        ("half", "access_key_secret is missing"),
        ("tokenless", "sts_token is missing"),
        ("a", "circular source: a -> b -> a"),
        ("lost", "there is no profile \"nobody\""),
        ("roleless", "ram_role_arn is missing"),
        ("sso", "mode CloudSSO is not supported"),
        ("oauth", "mode OAuth is not supported"),
        ("new", "mode must be one of AK, StsToken"),
        ("long", "expired_seconds must be a whole number of seconds"),
        ("command", "process_command ended with exit status: 1"),
        // The profile asks for it, so it is no longer "not configured".
        ("ecs", "knows no role (HTTP 404)"),
    ] {
        let told = broken(&named(name)).await;
        let shown = file.display();
        assert!(
            told.starts_with(&format!("profile: \"{name}\" of {shown}: ")),
            "{told}"
        );
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("hush"), "{told}");
        assert_eq!(told.matches("profile: ").count(), 1, "{told}");
    }
    assert!(absent(&named("blank")).await.contains("holds nothing yet"));
    assert!(
        absent(&named("nobody"))
            .await
            .contains("has no profile \"nobody\"")
    );
    let current = VendorFile::profile(&setup.context, None, None);
    assert!(broken(&current).await.contains("has no profile \"gone\""));
    setup.write(".aliyun/config.json", "{}");
    assert!(absent(&current).await.contains("has no current profile"));
    setup.write(".aliyun/config.json", "{\n \"hush\" hush}");
    let told = broken(&current).await;
    assert!(told.ends_with(": not JSON (line 2, column 9)"), "{told}");
    setup.write(".aliyun/config.json", "[]");
    assert!(broken(&current).await.contains("not a JSON object"));
    std::fs::remove_file(&file).expect("removed");
    assert!(absent(&current).await.contains("does not exist"));
    assert!(
        broken(&VendorFile::profile(&setup.context, Some(file), None))
            .await
            .contains("does not exist")
    );
    let homeless = Context {
        home: None,
        ..setup.context.clone()
    };
    assert!(
        absent(&VendorFile::profile(&homeless, None, None))
            .await
            .contains("HOME is not set")
    );
}

/// What is there is meant, however it is written, and must not count as absent.
#[tokio::test]
async fn a_profile_with_a_value_of_the_wrong_type_is_broken_and_the_key_is_named() {
    let setup = Setup::new();
    let all = json!([
        {"name": "id", "access_key_id": 50_417, "access_key_secret": "hush"},
        {"name": "both", "mode": "AK", "access_key_id": 50_417, "access_key_secret": 50_417},
        {"name": "list", "mode": "StsToken", "access_key_id": "i", "access_key_secret": "s", "sts_token": ["hush"]},
        {"name": "mode", "mode": 50_417},
        {"name": "role-name", "mode": "EcsRamRole", "ram_role_name": true},
        {"name": "minus", "mode": "RamRoleArn", "access_key_id": "i", "access_key_secret": "s",
         "ram_role_arn": ROLE, "expired_seconds": -900},
        {"name": "vpc", "mode": "RamRoleArn", "access_key_id": "i", "access_key_secret": "s",
         "ram_role_arn": ROLE, "enable_vpc": "hush"},
    ]);
    setup.write(".aliyun/config.json", &profiles("x", &all));
    for (name, expected) in [
        ("minus", "expired_seconds must be a whole number of seconds"),
        ("id", "access_key_id must be a string"),
        ("both", "access_key_id must be a string"),
        ("list", "sts_token must be a string"),
        ("mode", "mode must be a string"),
        ("role-name", "ram_role_name must be a string"),
        ("vpc", "enable_vpc must be true or false"),
    ] {
        let profile = VendorFile::profile(&setup.context, None, Some(name.to_owned()));
        let told = broken(&profile).await;
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("hush") && !told.contains("50417"), "{told}");
    }
    let current = VendorFile::profile(&setup.context, None, None);
    for (text, expected) in [
        (r#"{"current": 50417}"#, "current must be a string"),
        (
            r#"{"current": "x", "profiles": {"hush": 1}}"#,
            "profiles must be a list",
        ),
    ] {
        setup.write(".aliyun/config.json", text);
        let told = broken(&current).await;
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("hush") && !told.contains("50417"), "{told}");
    }
}

#[tokio::test]
async fn a_section_of_every_type_gives_its_key() {
    let setup = Setup::new();
    let token_file = setup.write("token", demo::OIDC_TOKEN);
    let (id, secret) = (demo::KEY_ID, demo::KEY_SECRET);
    let text = format!(
        "# a comment\n; another\n[default]\nTYPE = access_key # and one more\naccess_key_id: {id}\naccess_key_secret={secret}\n\n\
         [sts]\ntype = sts\naccess_key_id = i\naccess_key_secret = s\nsecurity_token = t\n\
         [role]\ntype = ram_role_arn\naccess_key_id = {id}\naccess_key_secret = {secret}\nrole_arn = {ROLE}\nrole_session_name = ini\n\
         [oidc]\ntype = oidc_role_arn\nrole_arn = {ROLE}\noidc_provider_arn = {OIDC_PROVIDER}\noidc_token_file_path = {}\n\
         [ecs]\ntype = ecs_ram_role\n",
        token_file.display()
    );
    let file = setup.write(".alibabacloud/credentials.ini", &text);
    let section = |name: &str| VendorFile::section(&setup.context, None, Some(name.to_owned()));
    for provider in [
        VendorFile::section(&setup.context, None, None),
        VendorFile::section(&setup.context, Some(file), None),
    ] {
        let given = good(&provider).await;
        assert_eq!(
            (given.access_key_id.as_str(), given.provider),
            (id, "credentials_file")
        );
        assert_eq!(given.access_key_secret.expose_secret(), secret);
        assert!(given.security_token.is_none());
    }
    let given = good(&section("sts")).await;
    assert_eq!(given.security_token.expect("a token").expose_secret(), "t");
    for (name, action) in [
        ("role", "AssumeRole"),
        ("oidc", "AssumeRoleWithOIDC"),
        ("ecs", "MetadataCredentials"),
    ] {
        let given = good(&section(name)).await;
        assert_is(&given, &setup.issued(), "credentials_file");
        assert_eq!(setup.issued().action, action);
    }
    assert!(
        broken(&section("nobody"))
            .await
            .contains("has no section [nobody]")
    );

    // The other of the two names goes first, where it has the section.
    setup.write(
        ".alibabacloud/credentials",
        "[sts]\ntype = access_key\naccess_key_id = other\naccess_key_secret = s\n",
    );
    assert_eq!(good(&section("sts")).await.access_key_id, "other");
    assert_eq!(good(&section("default")).await.access_key_id, id);
}

#[tokio::test]
async fn a_credentials_file_that_cannot_be_used_says_why() {
    let setup = Setup::new();
    let provider = VendorFile::section(&setup.context, None, None);
    assert!(
        absent(&provider)
            .await
            .contains("credentials.ini does not exist")
    );
    for (text, expected) in [
        ("[default]\naccess_key_id = hush\n", "type is missing"),
        (
            "[default]\ntype = access_key\naccess_key_id = hush\n",
            "access_key_secret is missing",
        ),
        (
            "[default]\ntype = rsa_key_pair\nprivate_key_file = hush\n",
            "type rsa_key_pair is not supported",
        ),
        (
            "[default]\ntype = hush\n",
            "type must be one of access_key, sts",
        ),
        ("[default]\nhush\n", "line 2 should be KEY = VALUE"),
        ("hush = 1\n", "line 1 is before any [SECTION]"),
        ("[default\n", "line 1 should be [SECTION]"),
        (
            "[default]\n[default]\n",
            "line 2 begins a section for the second time",
        ),
        (
            "[default]\na = hush\nA = hush\n",
            "line 3 sets a key for the second time",
        ),
    ] {
        setup.write(".alibabacloud/credentials", text);
        let told = broken(&provider).await;
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
    let gone = setup.home.path().join("gone");
    assert!(
        broken(&VendorFile::section(&setup.context, Some(gone), None))
            .await
            .contains("does not exist")
    );
}

/// The official chain in an environment of these variables, `HOME` aside.
fn official(setup: &Setup, variables: &[(&str, &str)]) -> Chain {
    let home = setup.home.path().to_str().expect("UTF-8").to_owned();
    let mut known: Vec<(String, String)> = vec![("HOME".to_owned(), home)];
    for (name, value) in variables {
        known.push((format!("ALIBABA_CLOUD_{name}"), (*value).to_owned()));
    }
    Chain::official(&setup.context, move |name| {
        let found = known.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    })
}

#[tokio::test]
async fn the_official_order_is_kept() {
    let setup = Setup::new();
    let token_file = setup.write("token", demo::OIDC_TOKEN);
    let uri = setup.cloud.credentials_uri();
    let mut variables = vec![
        ("ACCESS_KEY_ID", "env-id"),
        ("ACCESS_KEY_SECRET", "env-secret"),
        ("ROLE_ARN", ROLE),
        ("OIDC_PROVIDER_ARN", OIDC_PROVIDER),
        ("OIDC_TOKEN_FILE", token_file.to_str().expect("UTF-8")),
        ("ROLE_SESSION_NAME", "from-the-environment"),
        ("CREDENTIALS_URI", &uri),
    ];
    let ak =
        json!([{"name": "x", "mode": "AK", "access_key_id": "cli-id", "access_key_secret": "s"}]);
    let config = setup.write(".aliyun/config.json", &profiles("x", &ak));
    let ini = setup.write(
        ".alibabacloud/credentials.ini",
        "[default]\ntype = access_key\naccess_key_id = ini-id\naccess_key_secret = s\n",
    );
    let chosen =
        async |variables: &[(&str, &str)]| good(&official(&setup, variables)).await.provider;
    assert_eq!(chosen(&variables).await, "environment");
    variables.retain(|(name, _)| !name.starts_with("ACCESS_KEY"));
    assert_eq!(chosen(&variables).await, "oidc");
    assert_eq!(
        setup.issued().inputs["RoleSessionName"],
        "from-the-environment"
    );
    // All three are needed.
    variables.retain(|(name, _)| *name != "OIDC_PROVIDER_ARN");
    assert_eq!(chosen(&variables).await, "profile");
    let off = [&variables[..], &[("CLI_PROFILE_DISABLED", "true")]].concat();
    assert_eq!(chosen(&off).await, "credentials_file");
    std::fs::remove_file(&config).expect("removed");
    assert_eq!(chosen(&variables).await, "credentials_file");
    std::fs::remove_file(&ini).expect("removed");
    assert_eq!(chosen(&variables).await, "ecs_ram_role");
    let off = [&variables[..], &[("ECS_METADATA_DISABLED", "TRUE")]].concat();
    assert_eq!(chosen(&off).await, "uri");
    setup
        .cloud
        .update_issuing(|issuing| issuing.metadata = Metadata::Off);
    assert_eq!(chosen(&variables).await, "uri");
    variables.retain(|(name, _)| *name != "CREDENTIALS_URI");
    let told = absent(&official(&setup, &variables)).await;
    for provider in [
        "environment",
        "oidc",
        "profile",
        "credentials_file",
        "ecs_ram_role",
        "uri",
    ] {
        assert!(
            told.contains(&format!("{provider}: not configured: ")),
            "{told}"
        );
    }
}

/// What is named there and is not there must not become the machine's role, or
/// whatever else comes next.
#[tokio::test]
async fn what_the_environment_names_stops_the_official_chain_where_it_is_not() {
    let setup = Setup::new();
    let uri = setup.cloud.credentials_uri();
    let named = async |name: &'static str, value: &str| {
        let variables = [(name, value), ("CREDENTIALS_URI", &*uri)];
        official(&setup, &variables).provide().await
    };
    let refused = async |name, value| match named(name, value).await {
        Err(error @ Error::Broken { .. }) => error.to_string(),
        other => panic!("not broken: {other:?}"),
    };
    let told = refused("PROFILE", "prod").await;
    for part in [
        "default: credentials_file: section [prod] is nowhere: ",
        "credentials does not exist, ",
        "; profile: not configured: ",
        "config.json does not exist",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let others = json!([
        {"name": "x", "mode": "AK", "access_key_id": "cli-id", "access_key_secret": "s"},
        {"name": "blank", "mode": ""},
        {"name": "wrong", "mode": "AK", "access_key_id": 5},
    ]);
    setup.write(".aliyun/config.json", &profiles("x", &others));
    setup.write(
        ".alibabacloud/credentials",
        "[default]\ntype = access_key\naccess_key_id = ini-id\naccess_key_secret = s\n",
    );
    let told = refused("PROFILE", "prod").await;
    for part in ["has no profile \"prod\"", "has no section [prod]"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let told = refused("PROFILE", "blank").await;
    assert!(told.contains("\"blank\" of "), "{told}");
    let told = refused("PROFILE", "wrong").await;
    assert!(told.contains("access_key_id must be a string"), "{told}");

    let empty = setup.write("empty", "{}");
    let told = refused("CONFIG_FILE", empty.to_str().expect("UTF-8")).await;
    assert!(told.contains("has no current profile"), "{told}");
    let other = setup.write("other", "[prod]\n");
    std::fs::remove_file(setup.home.path().join(".aliyun/config.json")).expect("removed");
    let told = refused("CREDENTIALS_FILE", other.to_str().expect("UTF-8")).await;
    assert!(told.contains("has no section [default]"), "{told}");
    setup.write(".aliyun/config.json", &profiles("x", &others));

    // The section of that name is what was named, too.
    setup.write(
        ".alibabacloud/credentials",
        "[prod]\ntype = access_key\naccess_key_id = ini-id\naccess_key_secret = s\n",
    );
    let given = named("PROFILE", "prod").await.expect("a key");
    assert_eq!(given.access_key_id, "ini-id");

    for file in [".aliyun/config.json", ".alibabacloud/credentials"] {
        std::fs::remove_file(setup.home.path().join(file)).expect("removed");
    }
    let told = refused("ECS_METADATA", "prod").await;
    assert!(
        told.starts_with("default: ecs_ram_role: the metadata service"),
        "{told}"
    );
    assert!(told.contains("does not know the role (HTTP 404)"), "{told}");
    assert_eq!(setup.cloud.requests().count("CredentialsUri"), 0);
    // One that is not there at all is left out, as for a machine that is none of ECS.
    setup.fault("Metadata", Fault::Hang);
    let given = named("ECS_METADATA", "prod").await.expect("a key");
    assert_eq!(given.provider, "uri");
}

#[tokio::test]
async fn the_environment_names_other_places() {
    let setup = Setup::new();
    let ak =
        json!([{"name": "x", "mode": "AK", "access_key_id": "cli-id", "access_key_secret": "s"}]);
    let config = setup.write("other.json", &profiles("", &ak));
    let config = config.to_str().expect("UTF-8");
    let given = good(&official(
        &setup,
        &[("CONFIG_FILE", config), ("PROFILE", "x")],
    ))
    .await;
    assert_eq!(given.access_key_id, "cli-id");
    let ini = setup.write(
        "other.ini",
        "[x]\ntype = access_key\naccess_key_id = ini-id\naccess_key_secret = s\n",
    );
    let ini = ini.to_str().expect("UTF-8");
    let given = good(&official(
        &setup,
        &[("CREDENTIALS_FILE", ini), ("PROFILE", "x")],
    ))
    .await;
    assert_eq!(given.access_key_id, "ini-id");
    // A file that is named is asked for.
    let gone = setup.home.path().join("gone");
    let gone = gone.to_str().expect("UTF-8");
    assert!(
        broken(&official(&setup, &[("CONFIG_FILE", gone)]))
            .await
            .contains("does not exist")
    );
    assert!(
        broken(&official(&setup, &[("CREDENTIALS_FILE", gone)]))
            .await
            .contains("does not exist")
    );
    good(&official(&setup, &[("ECS_METADATA", demo::ROLE_NAME)])).await;
    assert_eq!(setup.cloud.requests().count("MetadataRole"), 0);
    setup
        .cloud
        .update_issuing(|issuing| issuing.metadata = Metadata::WithoutTokens);
    let told = broken(&official(&setup, &[("IMDSV1_DISABLED", "true")])).await;
    assert!(told.contains("gives no token"), "{told}");
}

#[tokio::test]
async fn a_broken_provider_stops_the_official_chain() {
    let setup = Setup::new();
    let uri = setup.cloud.credentials_uri();
    setup.write(".aliyun/config.json", "{");
    let told = broken(&official(&setup, &[("CREDENTIALS_URI", &uri)])).await;
    assert!(told.starts_with("default: profile: "), "{told}");
    assert!(told.contains(": not JSON (line 1"), "{told}");
    assert!(
        told.contains("(tried before it: environment: not configured: "),
        "{told}"
    );
    assert!(
        told.contains("; oidc: not configured: not set: ALIBABA_CLOUD_ROLE_ARN, "),
        "{told}"
    );
    assert_eq!(setup.cloud.requests().total, 0);
    let told = broken(&official(&setup, &[("ACCESS_KEY_ID", "half")])).await;
    assert!(
        told.contains("ALIBABA_CLOUD_ACCESS_KEY_SECRET is not set"),
        "{told}"
    );
}

#[tokio::test]
async fn the_region_s_sts_is_asked_through_the_proxy_and_nothing_else_is() {
    let proxy = Raw::start(|_| "502 Bad Gateway|no".to_owned());
    let mut child =
        tokio::process::Command::new(std::env::current_exe().expect("this test's binary"));
    child
        .args(["--exact", "proxied_child", "--ignored", "--nocapture"])
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env("HTTP_PROXY", proxy.url())
        .env("HTTPS_PROXY", proxy.url())
        .env("ALL_PROXY", proxy.url())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = child.output().await.expect("a child");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let asked: Vec<_> = proxy
        .requests()
        .iter()
        .map(|request| request.lines().next().expect("a line").to_owned())
        .collect();
    assert_eq!(
        asked,
        [
            "CONNECT sts.cn-beijing.aliyuncs.com:443 HTTP/1.1",
            "CONNECT sts-vpc.cn-beijing.aliyuncs.com:443 HTTP/1.1",
            "CONNECT sts.aliyuncs.com:443 HTTP/1.1",
        ]
    );
}

/// The part of the test above that runs with a proxy in its environment.
#[tokio::test]
#[ignore = "run by the_region_s_sts_is_asked_through_the_proxy_and_nothing_else_is"]
async fn proxied_child() {
    let setup = Setup::new();
    let mut context = setup.context.clone();
    context.addresses.sts = None;
    let token_file = setup.write("token", demo::OIDC_TOKEN);
    let token_file = token_file.to_str().expect("UTF-8");
    let outward = Setup { context, ..setup };
    let variables = [
        ("ROLE_ARN", ROLE),
        ("OIDC_PROVIDER_ARN", OIDC_PROVIDER),
        ("OIDC_TOKEN_FILE", token_file),
        ("STS_REGION", "cn-beijing"),
    ];
    broken(&official(&outward, &variables)).await;
    let vpc = [&variables[..], &[("VPC_ENDPOINT_ENABLED", "true")]].concat();
    broken(&official(&outward, &vpc)).await;
    broken(&AssumeRole::new(&outward.context, role(), known_key())).await;
    good(&Uri::new(&outward.context, outward.cloud.credentials_uri())).await;
    good(&EcsRamRole::new(&outward.context, None, false)).await;
    // The real address: whether there is an answer is this machine's affair.
    let mut real = outward.context.clone();
    real.addresses.metadata = METADATA.to_owned();
    let role = EcsRamRole::new(&real, None, false);
    let uri = Uri::new(&real, format!("{METADATA}/x"));
    for provider in [&role as &dyn ProvideCredentials, &uri] {
        let _ = tokio::time::timeout(Duration::from_secs(1), provider.provide()).await;
    }
}

/// A client of the API whose key comes from `provider`.
fn client(setup: &Setup, provider: Arc<dyn ProvideCredentials>, algorithm: Algorithm) -> Client {
    Client::new(
        Account {
            name: "prod".to_owned(),
            provider,
            throttle: Arc::new(Throttle::new(10_000.0, 1000)),
            observer: Arc::clone(&setup.context.observer),
        },
        Shared {
            http: setup.context.http.clone(),
            in_flight: Arc::new(Semaphore::new(8)),
            clock: setup.context.clock.clone(),
        },
        Options {
            algorithm,
            timeout: Duration::from_secs(30),
            retries: 0,
            backoff: Duration::from_millis(1),
            page_size: 100,
            max_pages: 5,
        },
    )
}

#[tokio::test]
async fn a_key_that_the_cloud_says_has_ended_is_renewed_once_and_the_request_sent_again() {
    const ACTION: &str = "GetArtifactSubscriptionTaskResult";
    let (instance, _) = demo::INSTANCES[0];
    let (task, _) = demo::TASKS[0];
    for algorithm in [Algorithm::Acs3, Algorithm::HmacSha1] {
        let setup = Setup::new();
        let assume = AssumeRole::new(&setup.context, role(), known_key());
        let provider = Arc::new(Cached::new(&setup.context, Arc::new(assume)));
        let client = client(&setup, provider, algorithm);
        let ask = async || {
            let mut budget = Budget::new(Duration::from_secs(60));
            let place = Instance {
                id: instance,
                region: "",
                endpoint: &setup.cloud.url(),
            };
            client.task_results(place, task, &mut budget).await
        };
        ask().await.expect("rows");
        setup.cloud.revoke_all();
        ten_seconds_pass().await;
        ask().await.expect("rows with the next key");
        let requests = setup.cloud.requests();
        assert_eq!(
            (requests.count(ACTION), requests.count("AssumeRole")),
            (3, 2)
        );
        let series = format!("{{action=\"{ACTION}\",credentials=\"prod\"}}");
        assert_eq!(
            setup.metric(&format!("api_retries_total{series}")),
            Some(1.0)
        );
        let expiration = setup.metric("credentials_expiration_timestamp_seconds{credentials=\"prod\",provider=\"assume_role\"}");
        #[expect(clippy::cast_precision_loss, reason = "milliseconds fit into 52 bits")]
        let expected = setup.issued().expires as f64 / 1000.0;
        assert_eq!(expiration, Some(expected));

        // A second key is not had so soon, and the refusal is told.
        setup.cloud.revoke_all();
        let error = ask().await.expect_err("refused");
        assert_eq!(error.reason(), Reason::Auth);
        let requests = setup.cloud.requests();
        assert_eq!(
            (requests.count(ACTION), requests.count("AssumeRole")),
            (4, 2)
        );
    }
}

struct Capture(Arc<Mutex<Vec<u8>>>);

impl io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("not poisoned")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All that this program itself logs on this thread.
fn captured() -> (Arc<Mutex<Vec<u8>>>, tracing::subscriber::DefaultGuard) {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt as _;

    let log = Arc::<Mutex<Vec<u8>>>::default();
    let lines = Arc::clone(&log);
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || Capture(Arc::clone(&lines)));
    let ours = Targets::new().with_target("alibaba_cloud", tracing::Level::TRACE);
    let subscriber = tracing_subscriber::registry().with(ours).with(layer);
    (log, tracing::subscriber::set_default(subscriber))
}

fn text_of(log: &Mutex<Vec<u8>>) -> String {
    String::from_utf8(log.lock().expect("not poisoned").clone()).expect("text")
}

#[tokio::test]
#[cfg(unix)]
async fn key_files_that_others_can_read_are_told_of_once() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    let setup = Setup::new();
    let secret = setup.write("secret", "s");
    let ak = json!([{"name": "x", "mode": "AK", "access_key_id": "i", "access_key_secret": "s"}]);
    let config = setup.write(".aliyun/config.json", &profiles("x", &ak));
    let ini = setup.write(
        ".alibabacloud/credentials",
        "[default]\ntype = sts\naccess_key_id = i\naccess_key_secret = s\nsecurity_token = t\n",
    );
    let files = [&secret, &config, &ini];
    let ask = async || {
        let key = StaticKey::new(
            Setting::Inline("i".into()),
            Setting::File(secret.clone()),
            None,
        );
        let profile = VendorFile::profile(&setup.context, None, None);
        let credentials_file = VendorFile::section(&setup.context, None, None);
        for _ in 0..3 {
            good(&key).await;
            good(&profile).await;
            good(&credentials_file).await;
        }
    };
    for (mode, times) in [(0o600, 0), (0o640, 1), (0o604, 1)] {
        for file in files {
            std::fs::set_permissions(file, Permissions::from_mode(mode)).expect("set");
        }
        let (log, guard) = captured();
        ask().await;
        drop(guard);
        let log = text_of(&log);
        for file in files {
            let told = log
                .lines()
                .filter(|line| line.contains(file.to_str().expect("UTF-8")));
            assert_eq!(told.count(), times, "{log}");
        }
        assert_eq!(
            log.matches(&format!("mode={mode:04o}")).count(),
            3 * times,
            "{log}"
        );
    }
}

#[tokio::test]
async fn no_secret_gets_into_log_error_or_debug() {
    let setup = Setup::with(Issuing {
        external_ids: [(ROLE.to_owned(), "right".to_owned())].into(),
        ..Issuing::default()
    });
    let (log, guard) = captured();
    let mut told = String::new();
    let token_file = setup.write("token", demo::OIDC_TOKEN);
    let external = |id: &str| Role {
        external_id: Some(Setting::Inline(id.into())),
        ..role()
    };
    let context = &setup.context;
    let providers: Vec<Arc<dyn ProvideCredentials>> = vec![
        Arc::new(AssumeRole::new(context, external("right"), known_key())),
        Arc::new(AssumeRole::new(context, external("wrong"), known_key())),
        Arc::new(AssumeRole::new(
            context,
            role(),
            key(demo::KEY_ID, "wrong-secret"),
        )),
        Arc::new(AssumeRole::new(
            context,
            external("right"),
            Arc::new(Uri::new(context, setup.cloud.credentials_uri())),
        )),
        Arc::new(Oidc::new(context, role(), OIDC_PROVIDER, &token_file)),
        Arc::new(Oidc::new(context, role(), "wrong", &token_file)),
        Arc::new(EcsRamRole::new(context, None, false)),
        Arc::new(Uri::new(context, setup.cloud.credentials_uri())),
    ];
    for provider in providers {
        let provided = Cached::new(context, provider).provide().await;
        write!(told, "{provided:?} ").expect("written");
        if let Err(error) = provided {
            write!(told, "{error} ").expect("written");
        }
    }
    drop(guard);
    let log = text_of(&log);
    assert!(
        log.contains("credentials are in use") && log.contains("STS request"),
        "{log}"
    );
    told.push_str(&log);
    let issued = setup.cloud.issued();
    assert_eq!(issued.len(), 6);
    let mut secrets = vec![
        demo::KEY_SECRET.to_owned(),
        "wrong-secret".to_owned(),
        demo::OIDC_TOKEN.to_owned(),
    ];
    for issued in issued {
        secrets.extend([
            issued.key.id,
            issued.key.secret,
            issued.key.token.expect("a token"),
        ]);
    }
    for secret in secrets {
        assert!(!told.contains(&secret), "{secret} in {told}");
    }
}
