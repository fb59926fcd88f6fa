//! The API client against a real server on a loopback socket, in real time: a
//! scripted one, that can also do what no well-behaved server does.

use std::error::Error as _;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alibaba_cloud::Reason;
use alibaba_cloud::clock::Clock;
use alibaba_cloud::credentials::cached::Cached;
use alibaba_cloud::credentials::environment::Environment;
use alibaba_cloud::credentials::static_key::{Setting, StaticKey};
use alibaba_cloud::credentials::{Addresses, Context, ProvideCredentials};
use alibaba_cloud::http::Http;
use alibaba_cloud::rpc::Throttle;
use alibaba_cloud::signing::{Algorithm, acs3, hmac_sha1};
use aliyun_acr_exporter::api::wire::TaskResults;
use aliyun_acr_exporter::api::{
    Account, Budget, Client, Error, Instance, Options, Shared, USER_AGENT,
};
use aliyun_acr_exporter::metrics::account;
use aliyun_acr_exporter::metrics::own::{Build, Own};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

const RESULTS: &str = "GetArtifactSubscriptionTaskResult";
const TASK: &str = "GetArtifactSubscriptionTask";
/// More than any test needs; a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(30);

/// What the server does with one request.
enum Reply {
    /// Sends bytes as they are, and keeps the connection.
    Bytes(Vec<u8>),
    /// Sends bytes, which are not all it promised, and closes.
    BytesAndClose(Vec<u8>),
    /// Says nothing until the client goes.
    Hang,
    /// Closes without a word.
    Close,
}

fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let (length, headers) = (body.len(), headers.concat());
    Reply::Bytes(
        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
            .into_bytes(),
    )
}

fn ok(body: &Value) -> Reply {
    reply(200, &[], &body.to_string())
}

fn rows(range: std::ops::Range<u32>, size: u32, total: u32) -> Reply {
    let rows: Vec<_> = range.map(|n| json!({"Tag": format!("v{n}")})).collect();
    ok(&json!({
        "RequestId": "R", "Code": "success", "IsSuccess": true,
        "PageSize": size, "TotalCount": total, "TaskResults": rows,
    }))
}

fn at(endpoint: &str) -> Instance<'_> {
    Instance {
        id: "cri-1",
        region: "cn-hangzhou",
        endpoint,
    }
}

fn error_body(code: &str, message: &str) -> String {
    json!({"RequestId": "1A2B", "Code": code, "Message": message}).to_string()
}

/// A server that asks `script` for a reply to each request, and ends when dropped.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

impl Server {
    async fn start(script: impl FnMut(usize, &str) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let connections = Arc::new(AtomicUsize::new(0));
        let script = Arc::new(Mutex::new(script));
        let mut accepting = JoinSet::new();
        let (seen, count) = (Arc::clone(&heads), Arc::clone(&connections));
        accepting.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                count.fetch_add(1, Ordering::Relaxed);
                open.spawn(converse(stream, Arc::clone(&seen), Arc::clone(&script)));
            }
        });
        Self {
            address,
            heads,
            connections,
            _accepting: accepting,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("not poisoned").clone()
    }

    /// The value of one input of each request.
    fn inputs(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}=");
        let of_one = |head: &String| {
            let target = head.split(' ').nth(1).unwrap_or_default();
            let (_, query) = target.split_once('?').unwrap_or_default();
            let mut pairs = query.split('&');
            pairs.find_map(|pair| pair.strip_prefix(&prefix).map(str::to_owned))
        };
        self.heads().iter().filter_map(of_one).collect()
    }
}

async fn converse(
    mut stream: TcpStream,
    heads: Arc<Mutex<Vec<String>>>,
    script: Arc<Mutex<impl FnMut(usize, &str) -> Reply>>,
) {
    while let Some(head) = read_head(&mut stream).await {
        let reply = {
            let mut heads = heads.lock().expect("not poisoned");
            heads.push(head.clone());
            (script.lock().expect("not poisoned"))(heads.len(), &head)
        };
        // The client may be gone already; that is its business.
        match reply {
            Reply::Bytes(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::BytesAndClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Hang => {
                let _ = stream.read(&mut [0; 1]).await;
                return;
            }
            Reply::Close => return,
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("an ASCII head"))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// A client and what it shares.
struct Setup {
    own: Arc<Own>,
    clock: Clock,
    in_flight: Arc<Semaphore>,
    throttle: Arc<Throttle>,
    provider: Arc<dyn ProvideCredentials>,
    options: Options,
}

impl Setup {
    fn new() -> Self {
        let inline = |text: &str| Setting::Inline(text.into());
        Self {
            own: Arc::new(Own::new(Build {
                version: "0",
                revision: "0",
                rustversion: "0",
                target: "0",
            })),
            clock: Clock::system(),
            in_flight: Arc::new(Semaphore::new(8)),
            throttle: Arc::new(Throttle::new(10_000.0, 1000)),
            provider: Arc::new(StaticKey::new(
                inline("key-id"),
                inline("hush-secret"),
                Some(inline("hush-token")),
            )),
            options: Options {
                algorithm: Algorithm::Acs3,
                timeout: LONG,
                retries: 2,
                backoff: Duration::from_millis(1),
                page_size: 100,
                max_pages: 5,
            },
        }
    }

    fn client(&self) -> Client {
        self.client_over(Http::new(USER_AGENT).expect("TLS"))
    }

    fn client_over(&self, http: Http) -> Client {
        Client::new(
            Account {
                name: "prod".to_owned(),
                provider: Arc::clone(&self.provider),
                throttle: Arc::clone(&self.throttle),
                observer: account::observer(&self.own, "prod"),
            },
            Shared {
                http,
                in_flight: Arc::clone(&self.in_flight),
                clock: self.clock.clone(),
            },
            self.options,
        )
    }

    async fn ask(&self, endpoint: &str) -> Result<TaskResults, Error> {
        let mut budget = Budget::new(LONG);
        self.client()
            .task_results(at(endpoint), "crast-1", &mut budget)
            .await
    }

    async fn fail(&self, endpoint: &str) -> Error {
        self.ask(endpoint).await.expect_err("a failure")
    }

    /// The sum of the samples of a metric of ours whose labels hold all of `labels`.
    fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = prometheus::TextEncoder::new()
            .encode_to_string(&self.own.gather())
            .expect("valid metrics");
        let name = format!("aliyun_acr_exporter_{name}");
        let mut found = page
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(series, _)| {
                series.split('{').next() == Some(&name)
                    && labels.iter().all(|label| series.contains(label))
            })
            .map(|(_, value)| value.parse::<f64>().expect("a number"))
            .peekable();
        assert!(found.peek().is_some(), "no {name} {labels:?} in\n{page}");
        found.sum()
    }

    fn requests(&self) -> f64 {
        self.metric("api_requests_total", &[])
    }

    fn errors(&self, reason: Reason) -> f64 {
        self.metric(
            "api_request_errors_total",
            &[&format!("reason=\"{reason}\"")],
        )
    }

    /// What was counted, without the zeros.
    fn counted(&self) -> (f64, f64, Vec<(Reason, f64)>) {
        let errors = Reason::API
            .into_iter()
            .map(|reason| (reason, self.errors(reason)))
            .filter(|(_, count)| *count > 0.0)
            .collect();
        (
            self.requests(),
            self.metric("api_retries_total", &[]),
            errors,
        )
    }
}

fn tags(rows: &TaskResults) -> Vec<&str> {
    rows.iter().map(|row| row.tag).collect()
}

fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("v{n}")).collect()
}

/// The error and everything below it, on one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[tokio::test]
async fn rows_are_read_and_the_request_is_what_was_signed() {
    let server = Server::start(|_, _| rows(0..2, 100, 2)).await;
    let setup = Setup::new();
    let rows = setup.ask(&server.url()).await.expect("rows");
    assert_eq!(tags(&rows), ["v0", "v1"]);

    let heads = server.heads();
    let head = &heads[0];
    assert!(
        head.starts_with(
            "GET /?InstanceId=cri-1&PageNo=1&PageSize=100&TaskId=crast-1 HTTP/1.1\r\n"
        ),
        "{head}"
    );
    assert_eq!(header(head, "host"), Some(&*server.address.to_string()));
    assert_eq!(header(head, "accept"), Some("application/json"));
    assert_eq!(
        header(head, "user-agent"),
        Some(concat!("aliyun-acr-exporter/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(header(head, "x-acs-action"), Some(RESULTS));
    assert_eq!(header(head, "x-acs-version"), Some("2018-12-01"));

    // What a server would compute from what it received.
    let authorization = header(head, "authorization").expect("signed");
    let (_, fields) = authorization.split_once(' ').expect("a scheme");
    let field = |name: &str| {
        let mut fields = fields.split(',').filter_map(|field| field.split_once('='));
        fields.find(|(key, _)| *key == name).expect("a field").1
    };
    let names: Vec<_> = field("SignedHeaders").split(';').collect();
    assert!(names.contains(&"host"), "{names:?}");
    let received: Vec<_> = names
        .iter()
        .map(|name| (*name, header(head, name).expect("a signed header is sent")))
        .collect();
    let canonical = acs3::canonical_request(
        "GET",
        "InstanceId=cri-1&PageNo=1&PageSize=100&TaskId=crast-1",
        &acs3::canonical_headers(&received),
        &acs3::signed_headers(&received),
        &acs3::content_sha256(b""),
    );
    assert_eq!(
        field("Signature"),
        acs3::signature("hush-secret", &acs3::string_to_sign(&canonical))
    );

    assert_eq!(setup.counted(), (1.0, 0.0, vec![]));
    let action = format!("action=\"{RESULTS}\"");
    let labels = ["credentials=\"prod\"", action.as_str()];
    assert!((setup.metric("api_request_duration_seconds_count", &labels) - 1.0).abs() < 1e-9);
    assert_eq!(setup.own.api_in_flight.get(), 0);
}

#[tokio::test]
async fn the_query_of_hmac_sha1_arrives_as_it_was_signed() {
    let server = Server::start(|_, _| rows(0..0, 100, 0)).await;
    let mut setup = Setup::new();
    setup.options.algorithm = Algorithm::HmacSha1;
    setup.ask(&server.url()).await.expect("rows");
    let heads = server.heads();
    let target = heads[0].split(' ').nth(1).expect("a target");
    let (canonical, signature) = target
        .strip_prefix("/?")
        .and_then(|query| query.split_once("&Signature="))
        .expect("a signed query");
    let signed = hmac_sha1::signature("hush-secret", &hmac_sha1::string_to_sign("GET", canonical));
    assert_eq!(
        hmac_sha1::signed_query(canonical, &signed),
        format!("{canonical}&Signature={signature}")
    );
    for input in ["Format=JSON", "SecurityToken=hush-token", "TaskId=crast-1"] {
        assert!(
            canonical.split('&').any(|pair| pair == input),
            "{canonical}"
        );
    }
}

#[tokio::test]
async fn a_task_keeps_its_own_message() {
    let server = Server::start(|_, _| {
        ok(&json!({
            "RequestId": "R", "Code": "success", "IsSuccess": true, "TaskId": "crast-1",
            "TaskStatus": "COMPLETED", "TaskResult": "FAILED", "Message": "pull failed",
        }))
    })
    .await;
    let setup = Setup::new();
    let mut budget = Budget::new(LONG);
    let task = setup
        .client()
        .task(at(&server.url()), "crast-1", &mut budget)
        .await
        .expect("a task");
    assert_eq!(
        (task.task_result.as_str(), task.message.as_str()),
        ("FAILED", "pull failed")
    );
    assert_eq!(header(&server.heads()[0], "x-acs-action"), Some(TASK));
}

#[tokio::test]
async fn a_success_about_no_task_or_another_one_is_not_found() {
    for answer in [
        json!({"Code": "success", "IsSuccess": true}),
        json!({"Code": "success", "IsSuccess": true, "TaskId": ""}),
        json!({"Code": "success", "IsSuccess": true, "TaskId": null}),
        json!({"Code": "success", "IsSuccess": true, "TaskId": "crast-2", "TaskStatus": "RUNNING"}),
    ] {
        let body = answer.clone();
        let server = Server::start(move |_, _| ok(&body)).await;
        let setup = Setup::new();
        let mut budget = Budget::new(LONG);
        let task = setup
            .client()
            .task(at(&server.url()), "crast-1", &mut budget)
            .await;
        let error = task.expect_err("no task");
        assert_eq!(error.reason(), Reason::NotFound, "{answer}");
        assert_eq!(
            error.to_string(),
            "GetArtifactSubscriptionTask: the API knows no task with this id"
        );
        assert_eq!(server.heads().len(), 1, "not a failure that passes");
    }
}

#[tokio::test]
async fn an_answer_without_rows_is_a_success() {
    let server = Server::start(|_, _| ok(&json!({"Code": "Success"}))).await;
    let rows = Setup::new().ask(&server.url()).await.expect("no rows");
    assert!(rows.is_empty());
}

/// Answers everything with `status`, `headers` and `body`; the reason must be
/// `expected`, `attempts` times, and the text must hold `text`.
async fn refused(
    (status, headers, body): (u16, &'static [(&'static str, &'static str)], String),
    expected: Reason,
    attempts: u32,
    text: &str,
) -> Error {
    let server = Server::start(move |_, _| reply(status, headers, &body)).await;
    let setup = Setup::new();
    let error = setup.fail(&server.url()).await;
    let told = chain(&error);
    assert_eq!(error.reason(), expected, "{told}");
    assert!(told.contains(text), "{told}");
    let attempts = f64::from(attempts);
    assert_eq!(
        setup.counted(),
        (attempts, attempts - 1.0, vec![(expected, attempts)]),
        "{told}"
    );
    error
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn every_refusal_has_its_reason_and_only_what_may_pass_is_tried_again() {
    let api = error_body;
    let not_success = json!({"RequestId": "R", "Code": "INSTANCE_NOT_EXIST", "IsSuccess": false});
    let denied = json!({
        "requestId": "1A2B", "code": "NoPrivilege", "message": "no",
        "accessDeniedDetail": {"AuthAction": "cr:Something"},
    });
    let xml = "<?xml version=\"1.0\"?><Error><RequestId>X1</RequestId><Code>Throttling.User</Code><Message>slow</Message></Error>";
    let html = "<html><body><h1>502 Bad Gateway</h1></body></html>";
    for (answer, reason, attempts, text) in [
        (
            (400, &[][..], api("Throttling.User", "slow down")),
            Reason::Throttled,
            3,
            "GetArtifactSubscriptionTaskResult: Throttling.User: \"slow down\" (HTTP 400, request id 1A2B)",
        ),
        (
            (503, &[], api("X", "QPS Limit Exceeded")),
            Reason::Throttled,
            3,
            "HTTP 503",
        ),
        ((429, &[], String::new()), Reason::Throttled, 3, "HTTP 429"),
        (
            (400, &[], xml.to_owned()),
            Reason::Throttled,
            3,
            "slow\" (HTTP 400, request id X1)",
        ),
        (
            (404, &[], api("InvalidAccessKeyId.NotFound", "")),
            Reason::Auth,
            1,
            "InvalidAccessKeyId.NotFound",
        ),
        (
            (
                400,
                &[],
                api(
                    "SignatureDoesNotMatch",
                    "server string to sign is:GET&hush-token",
                ),
            ),
            Reason::Auth,
            1,
            "SignatureDoesNotMatch: \"server string to sign…\"",
        ),
        (
            (403, &[], denied.to_string()),
            Reason::Forbidden,
            1,
            "needs cr:Something on acs:cr:cn-hangzhou:*:instance/cri-1",
        ),
        (
            (403, &[], String::new()),
            Reason::Forbidden,
            1,
            "HTTP 403; needs cr:GetArtifactSubscriptionTaskResult on",
        ),
        (
            (200, &[], not_success.to_string()),
            Reason::NotFound,
            1,
            "INSTANCE_NOT_EXIST (HTTP 200, request id R)",
        ),
        (
            (404, &[("x-acs-request-id", "H1")], String::new()),
            Reason::NotFound,
            1,
            "HTTP 404 (request id H1)",
        ),
        (
            (400, &[], api("MissingTaskId", "")),
            Reason::BadRequest,
            1,
            "MissingTaskId",
        ),
        (
            (500, &[], api("InternalError", "")),
            Reason::Server,
            3,
            "InternalError",
        ),
        (
            (502, &[("content-type", "text/html")], html.to_owned()),
            Reason::Server,
            3,
            "HTTP 502",
        ),
        (
            (
                200,
                &[],
                json!({"Code": "Strange", "IsSuccess": false}).to_string(),
            ),
            Reason::Other,
            1,
            "Strange",
        ),
        (
            (400, &[], api("SignatureNonceUsed", "")),
            Reason::Other,
            3,
            "SignatureNonceUsed",
        ),
        (
            (200, &[], html.to_owned()),
            Reason::Decode,
            1,
            "the answer is no JSON object (HTTP 200): expected value",
        ),
        (
            (200, &[], "[]".to_owned()),
            Reason::Decode,
            1,
            "no JSON object",
        ),
        ((204, &[], String::new()), Reason::Decode, 1, "HTTP 204"),
        (
            (
                200,
                &[],
                json!({"Code": "success", "TaskResults": "the hush-secret"}).to_string(),
            ),
            Reason::Decode,
            1,
            "the answer has another shape than documented (HTTP 200): invalid type: string \"the …\"",
        ),
        (
            (
                200,
                &[],
                json!({"IsSuccess": true, "TaskResults": []}).to_string(),
            ),
            Reason::Decode,
            1,
            "the answer is JSON and not the API's: it has no Code (HTTP 200)",
        ),
        (
            (200, &[], json!({"IsSuccess": true, "Code": ""}).to_string()),
            Reason::Decode,
            1,
            "it has no Code",
        ),
        (
            (
                200,
                &[],
                json!({"code": "success", "IsSuccess": true}).to_string(),
            ),
            Reason::Decode,
            1,
            "it has no Code",
        ),
        (
            (
                200,
                &[],
                json!({"RequestId": "R", "IsSuccess": false}).to_string(),
            ),
            Reason::Other,
            1,
            "HTTP 200 (request id R)",
        ),
        (
            (
                403,
                &[],
                api(
                    "InvalidSecurityToken.Expired",
                    "Specified SecurityToken is expired.",
                ),
            ),
            Reason::Auth,
            1,
            "\"Specified SecurityToken is expired.\"",
        ),
        (
            (
                400,
                &[],
                api("InvalidParameter", "no hush-secret, nor id hush%2Dtoken"),
            ),
            Reason::BadRequest,
            1,
            "\"no …, nor id …\"",
        ),
    ] {
        refused(answer, reason, attempts, text).await;
    }
}

#[tokio::test]
async fn a_wrong_clock_is_told_and_shown() {
    // 1994-11-06T08:49:37Z, twenty minutes before our clock.
    let date = &[("date", "Sun, 06 Nov 1994 08:49:37 GMT")];
    let body = error_body("InvalidTimeStamp.Expired", "too old");
    let server = Server::start(move |_, _| reply(400, date, &body)).await;
    let mut setup = Setup::new();
    setup.clock = Clock::fixed(784_111_777_000 + 1_200_500);
    let error = setup.fail(&server.url()).await;
    assert_eq!(error.reason(), Reason::Clock);
    assert!(
        error
            .to_string()
            .ends_with("; our clock is 1200 s ahead of the cloud's"),
        "{error}"
    );
    assert!((setup.metric("clock_skew_seconds", &[]) - 1200.5).abs() < 1e-9);
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn a_transient_failure_is_retried_with_a_new_signature() {
    let server = Server::start(|n, _| match n {
        1 => reply(502, &[], ""),
        2 => reply(400, &[], &error_body("SignatureNonceUsed", "")),
        _ => rows(0..1, 100, 1),
    })
    .await;
    let setup = Setup::new();
    assert_eq!(tags(&setup.ask(&server.url()).await.expect("rows")), ["v0"]);
    assert_eq!(
        setup.counted(),
        (3.0, 2.0, vec![(Reason::Server, 1.0), (Reason::Other, 1.0)])
    );
    let heads = server.heads();
    let nonces: std::collections::HashSet<_> = heads
        .iter()
        .map(|head| header(head, "x-acs-signature-nonce").expect("a nonce"))
        .collect();
    assert_eq!(nonces.len(), 3);
}

#[tokio::test]
async fn connections_are_kept() {
    let server = Server::start(|_, _| rows(0..1, 100, 1)).await;
    let client = Setup::new().client();
    for _ in 0..3 {
        let mut budget = Budget::new(LONG);
        client
            .task_results(at(&server.url()), "crast-1", &mut budget)
            .await
            .expect("rows");
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_hung_server_is_a_timeout() {
    let server = Server::start(|_, _| Reply::Hang).await;
    let mut setup = Setup::new();
    setup.options.timeout = Duration::from_millis(50);
    let error = setup.fail(&server.url()).await;
    assert_eq!(
        error.to_string(),
        format!("{RESULTS}: no answer within 50ms")
    );
    assert_eq!(setup.counted(), (3.0, 2.0, vec![(Reason::Timeout, 3.0)]));
    assert_eq!(setup.own.api_in_flight.get(), 0);
    assert_eq!(setup.in_flight.available_permits(), 8);
}

#[tokio::test]
async fn an_answer_that_stalls_is_a_timeout() {
    let server = Server::start(|n, _| match n {
        1 => Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"Code\":".to_vec()),
        _ => rows(0..1, 100, 1),
    })
    .await;
    let mut setup = Setup::new();
    setup.options.timeout = Duration::from_millis(300);
    assert_eq!(setup.ask(&server.url()).await.expect("rows").len(), 1);
    assert_eq!(setup.counted(), (2.0, 1.0, vec![(Reason::Timeout, 1.0)]));
}

#[tokio::test]
async fn broken_connections_are_retried() {
    let server = Server::start(|n, _| match n {
        1 => Reply::Close,
        2 => Reply::BytesAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec()),
        _ => rows(0..1, 100, 1),
    })
    .await;
    let setup = Setup::new();
    assert_eq!(setup.ask(&server.url()).await.expect("rows").len(), 1);
    assert_eq!(setup.counted(), (3.0, 2.0, vec![(Reason::Connect, 2.0)]));
}

#[tokio::test]
async fn no_connection_no_name_and_no_tls_are_connect() {
    let refusing = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let closed = refusing.local_addr().expect("an address");
    drop(refusing);
    let plain = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let no_tls = plain.local_addr().expect("an address");
    let mut greeting = JoinSet::new();
    greeting.spawn(async move {
        loop {
            let (mut stream, _) = plain.accept().await.expect("a connection");
            let _ = stream.write_all(b"220 no TLS here\r\n").await;
        }
    });
    // A label of more than 63 characters is in no DNS: nobody is asked.
    let nowhere = format!("http://{}.invalid", "x".repeat(64));
    for endpoint in [
        format!("http://{closed}"),
        format!("https://{no_tls}"),
        nowhere,
    ] {
        let mut setup = Setup::new();
        setup.options.algorithm = Algorithm::HmacSha1;
        let error = setup.fail(&endpoint).await;
        let told = chain(&error);
        assert_eq!(error.reason(), Reason::Connect, "{told}");
        assert_eq!(
            setup.counted(),
            (3.0, 2.0, vec![(Reason::Connect, 3.0)]),
            "{told}"
        );
        assert!(
            told.starts_with(&format!("{RESULTS}: no connection: ")),
            "{told}"
        );
        let debug = format!("{error:?}");
        for secret in ["hush", "Signature=", "AccessKeyId"] {
            assert!(
                !told.contains(secret) && !debug.contains(secret),
                "{told} {debug}"
            );
        }
    }
}

/// A TLS server for one connection, that tells the protocol agreed on and
/// answers one request. A thread, because it is rustls without an async layer.
fn serve_tls(
    issuer: &CertifiedIssuer<'_, KeyPair>,
) -> (
    SocketAddr,
    std::thread::JoinHandle<io::Result<Option<Vec<u8>>>>,
) {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
        .and_then(|params| params.signed_by(&key, issuer))
        .expect("a certificate");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("a key that fits");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(LONG))?;
        let session = ServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(session, stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let Reply::Bytes(answer) = rows(0..1, 100, 1) else {
            unreachable!("rows are bytes")
        };
        tls.write_all(&answer)?;
        tls.flush()?;
        Ok(tls.conn.alpn_protocol().map(<[u8]>::to_vec))
    });
    (address, thread)
}

fn certificate_authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

#[tokio::test]
async fn tls_is_spoken_with_whom_the_roots_trust_and_nobody_else() {
    let issuer = certificate_authority();
    let (address, thread) = serve_tls(&issuer);
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).expect("a root");
    let setup = Setup::new();
    let client = setup.client_over(Http::with_roots("test", roots).expect("TLS"));
    let endpoint = format!("https://{address}");
    let mut budget = Budget::new(LONG);
    let rows = client
        .task_results(at(&endpoint), "crast-1", &mut budget)
        .await
        .expect("rows");
    assert_eq!(tags(&rows), ["v0"]);
    let protocol = thread.join().expect("no panic").expect("a conversation");
    assert_eq!(protocol.as_deref(), Some(&b"http/1.1"[..]));

    let (address, thread) = serve_tls(&issuer);
    let mut setup = Setup::new();
    setup.options.retries = 0;
    let error = setup.fail(&format!("https://{address}")).await;
    let told = chain(&error);
    assert_eq!(error.reason(), Reason::Connect, "{told}");
    assert!(
        told.contains("invalid peer certificate: UnknownIssuer"),
        "{told}"
    );
    assert!(thread.join().expect("no panic").is_err());
}

#[tokio::test]
async fn an_oversized_answer_is_refused_as_soon_as_it_is_known() {
    let stated = Server::start(|_, _| {
        Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 33554433\r\n\r\n".to_vec())
    })
    .await;
    let streamed = Server::start(|_, _| {
        let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..33 {
            bytes.extend_from_slice(b"100000\r\n");
            bytes.resize(bytes.len() + (1 << 20), b' ');
            bytes.extend_from_slice(b"\r\n");
        }
        Reply::Bytes(bytes)
    })
    .await;
    for server in [stated, streamed] {
        let setup = Setup::new();
        let error = setup.fail(&server.url()).await;
        assert_eq!(error.reason(), Reason::Decode);
        assert!(
            error.to_string().contains("more than 32 MiB (HTTP 200)"),
            "{error}"
        );
        assert_eq!(setup.counted(), (1.0, 0.0, vec![(Reason::Decode, 1.0)]));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(|_, _| rows(0..1, 100, 1)).await;
    let location: &'static str = elsewhere.url().leak();
    let server = Server::start(move |_, _| reply(302, &[("location", location)], "")).await;
    let setup = Setup::new();
    let error = setup.fail(&server.url()).await;
    assert_eq!((error.reason(), error.status()), (Reason::Other, Some(302)));
    assert_eq!(elsewhere.heads().len(), 0);
    assert_eq!(setup.counted(), (1.0, 0.0, vec![(Reason::Other, 1.0)]));
}

#[tokio::test]
async fn pages_are_put_together() {
    let server = Server::start(|n, _| match n {
        1 => rows(0..100, 100, 250),
        2 => rows(100..200, 100, 250),
        _ => rows(200..250, 100, 250),
    })
    .await;
    let setup = Setup::new();
    let rows = setup.ask(&server.url()).await.expect("rows");
    assert_eq!(tags(&rows), numbered(0..250));
    assert_eq!(server.inputs("PageNo"), ["1", "2", "3"]);
    assert_eq!(server.inputs("PageSize"), ["100"; 3]);
}

#[tokio::test]
async fn the_size_of_the_page_that_the_cloud_states_counts() {
    let server = Server::start(|n, _| match n {
        1 => rows(0..30, 30, 45),
        _ => rows(30..45, 30, 45),
    })
    .await;
    let rows = Setup::new().ask(&server.url()).await.expect("rows");
    assert_eq!(tags(&rows), numbered(0..45));
    assert_eq!(server.inputs("PageNo"), ["1", "2"]);
}

#[tokio::test]
async fn a_list_that_moves_is_read_anew() {
    let server = Server::start(|n, _| match n {
        1 => rows(0..100, 100, 150),
        2 => rows(99..150, 100, 151),
        3 => rows(0..100, 100, 151),
        _ => rows(100..151, 100, 151),
    })
    .await;
    let rows = Setup::new().ask(&server.url()).await.expect("rows");
    assert_eq!(tags(&rows), numbered(0..151));
    assert_eq!(server.inputs("PageNo"), ["1", "2", "1", "2"]);
}

#[tokio::test]
async fn a_list_too_long_is_no_partial_list() {
    let server = Server::start(|_, _| rows(0..100, 100, 100_000)).await;
    let setup = Setup::new();
    let error = setup.fail(&server.url()).await;
    assert_eq!(error.reason(), Reason::Other);
    assert!(error.to_string().contains("more than 5 pages"), "{error}");
    assert_eq!(server.heads().len(), 5);
}

#[tokio::test]
async fn a_failed_page_fails_the_list() {
    let server = Server::start(|n, _| match n {
        1 => rows(0..100, 100, 150),
        _ => reply(403, &[], ""),
    })
    .await;
    assert_eq!(
        Setup::new().fail(&server.url()).await.reason(),
        Reason::Forbidden
    );
}

#[tokio::test]
async fn the_deadline_cuts_a_request_short() {
    let server = Server::start(|_, _| Reply::Hang).await;
    let setup = Setup::new();
    let client = setup.client();
    let mut budget = Budget::new(Duration::from_millis(80));
    let error = client
        .task_results(at(&server.url()), "crast-1", &mut budget)
        .await
        .expect_err("a deadline");
    assert_eq!(
        error.to_string(),
        format!("{RESULTS}: the deadline of 80ms passed before an answer came")
    );
    assert_eq!(error.reason(), Reason::Timeout);
    assert_eq!(setup.counted(), (1.0, 0.0, vec![(Reason::Timeout, 1.0)]));
}

#[tokio::test]
async fn a_deadline_that_passed_sends_nothing() {
    let server = Server::start(|_, _| rows(0..0, 100, 0)).await;
    let setup = Setup::new();
    let mut budget = Budget::new(Duration::ZERO);
    let error = setup
        .client()
        .task(at(&server.url()), "crast-1", &mut budget)
        .await
        .expect_err("a deadline");
    assert_eq!(error.reason(), Reason::Timeout);
    assert_eq!(setup.counted(), (0.0, 0.0, vec![]));
}

#[tokio::test]
async fn a_pause_that_outlasts_the_deadline_is_not_waited_for() {
    // A server error says when to come back: long after the deadline.
    let server = Server::start(|_, _| reply(503, &[("retry-after", "20")], "")).await;
    let setup = Setup::new();
    let started = Instant::now();
    let mut budget = Budget::new(Duration::from_secs(10));
    let error = setup
        .client()
        .task(at(&server.url()), "crast-1", &mut budget)
        .await
        .expect_err("a failure");
    assert_eq!(error.reason(), Reason::Server);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(setup.counted(), (1.0, 0.0, vec![(Reason::Server, 1.0)]));
}

#[tokio::test]
async fn waiting_for_the_rate_limit_does_not_use_up_the_deadline() {
    let server = Server::start(|_, _| rows(0..1, 1, 5)).await;
    let mut setup = Setup::new();
    setup.options.page_size = 1;
    // One request each 150 ms: four waits are longer than the deadline.
    setup.throttle = Arc::new(Throttle::new(1.0 / 0.15, 1));
    let client = setup.client();
    let started = Instant::now();
    let mut budget = Budget::new(Duration::from_millis(400));
    let rows = client
        .task_results(at(&server.url()), "crast-1", &mut budget)
        .await
        .expect("rows");
    assert_eq!(rows.len(), 5);
    assert!(started.elapsed() >= Duration::from_millis(590));
    let waited = setup.metric("api_rate_limit_wait_seconds_total", &["\"prod\""]);
    assert!((0.5..5.0).contains(&waited), "{waited}");
}

#[tokio::test]
async fn throttling_slows_the_account_down_and_heeds_the_hint() {
    let server = Server::start(|n, _| match n {
        1 => reply(
            400,
            &[("x-acs-retry-after", "400")],
            &error_body("Throttling.Api", ""),
        ),
        _ => rows(0..1, 100, 1),
    })
    .await;
    let mut setup = Setup::new();
    setup.throttle = Arc::new(Throttle::new(1000.0, 10));
    let client = setup.client();
    assert!((setup.metric("api_rate_limit", &["\"prod\""]) - 1000.0).abs() < 1e-9);
    let started = Instant::now();
    let mut budget = Budget::new(Duration::from_secs(60));
    client
        .task_results(at(&server.url()), "crast-1", &mut budget)
        .await
        .expect("rows");
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert!((setup.metric("api_rate_limit", &["\"prod\""]) - 500.0).abs() < 1e-9);
    assert_eq!(setup.counted(), (2.0, 1.0, vec![(Reason::Throttled, 1.0)]));
}

#[tokio::test]
async fn a_hint_beyond_the_deadline_is_a_throttled_poll_rather_than_a_silent_one() {
    let server = Server::start(|_, _| {
        reply(
            400,
            &[("x-acs-retry-after", "50000")],
            &error_body("Throttling.Api", ""),
        )
    })
    .await;
    let setup = Setup::new();
    let mut budget = Budget::new(Duration::from_secs(20));
    let error = setup
        .client()
        .task_results(at(&server.url()), "crast-1", &mut budget)
        .await
        .expect_err("throttled");
    assert_eq!(error.reason(), Reason::Throttled);
    assert_eq!(setup.counted(), (1.0, 0.0, vec![(Reason::Throttled, 1.0)]));
}

#[tokio::test]
async fn without_a_key_nothing_is_sent() {
    let server = Server::start(|_, _| rows(0..0, 100, 0)).await;
    let mut setup = Setup::new();
    let context = Context {
        name: "prod".to_owned(),
        http: Http::new(USER_AGENT).expect("TLS"),
        observer: account::observer(&setup.own, "prod"),
        clock: setup.clock.clone(),
        addresses: Addresses::default(),
        home: None,
        session_name: "test".to_owned(),
    };
    let nothing = Arc::new(Environment::new(|_: &str| None));
    setup.provider = Arc::new(Cached::new(&context, nothing));
    let error = setup.fail(&server.url()).await;
    assert_eq!(error.reason(), Reason::Credentials);
    assert_eq!(
        chain(&error),
        format!(
            "{RESULTS}: no usable credentials: environment: not configured: ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET are not set"
        )
    );
    assert_eq!(setup.counted(), (0.0, 0.0, vec![]));
    let failures = setup.metric("credentials_refresh_failures_total", &["\"prod\""]);
    assert!((failures - 1.0).abs() < 1e-9);
    assert_eq!(server.heads().len(), 0);
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_told() {
    for endpoint in ["cr.cn-hangzhou.aliyuncs.com", "ftp://example.com", ""] {
        let error = Setup::new().fail(endpoint).await;
        assert_eq!(error.reason(), Reason::Other);
        assert!(
            error.to_string().contains("the endpoint is no URL"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn no_more_requests_are_in_flight_than_allowed() {
    let mut setup = Setup::new();
    setup.in_flight = Arc::new(Semaphore::new(2));
    let most = Arc::new(Mutex::new(0));
    let (own, seen) = (Arc::clone(&setup.own), Arc::clone(&most));
    let server = Server::start(move |_, _| {
        let mut most = seen.lock().expect("not poisoned");
        *most = own.api_in_flight.get().max(*most);
        rows(0..0, 100, 0)
    })
    .await;
    let client = Arc::new(setup.client());
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (client, url) = (Arc::clone(&client), server.url());
        calls.spawn(async move {
            let mut budget = Budget::new(LONG);
            client
                .task_results(at(&url), "crast-1", &mut budget)
                .await
                .map(drop)
        });
    }
    for outcome in calls.join_all().await {
        outcome.expect("rows");
    }
    assert_eq!(*most.lock().expect("not poisoned"), 2);
    assert_eq!(setup.own.api_in_flight.get(), 0);
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_nothing_behind() {
    let arrived = Arc::new(Notify::new());
    let notify = Arc::clone(&arrived);
    let server = Server::start(move |_, _| {
        notify.notify_one();
        Reply::Hang
    })
    .await;
    let (setup, url) = (Setup::new(), server.url());
    {
        let call = pin!(setup.ask(&url));
        tokio::select! {
            outcome = call => panic!("answered: {outcome:?}"),
            () = arrived.notified() => assert_eq!(setup.own.api_in_flight.get(), 1),
        }
    }
    assert_eq!(setup.own.api_in_flight.get(), 0);
    assert_eq!(setup.in_flight.available_permits(), 8);
}

/// The part of the next test that runs with a proxy in its environment.
#[tokio::test]
#[ignore = "run by proxies_are_used_and_told_but_never_for_this_machine"]
async fn proxied_child() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let server = Server::start(|_, _| rows(0..1, 100, 1)).await;
    let setup = Setup::new();
    setup
        .ask(&server.url())
        .await
        .expect("rows from this machine");
    for _ in 0..2 {
        let rows = setup
            .client()
            .task_results(
                at("http://cr.example.com"),
                "crast-1",
                &mut Budget::new(LONG),
            )
            .await;
        assert_eq!(tags(&rows.expect("rows from the proxy")), ["v7"]);
    }
}

#[tokio::test]
async fn proxies_are_used_and_told_but_never_for_this_machine() {
    let proxy = Server::start(|_, _| rows(7..8, 100, 1)).await;
    let url = format!("http://user:hush@{}", proxy.address);
    let mut child =
        tokio::process::Command::new(std::env::current_exe().expect("this test's binary"));
    child
        .args(["--exact", "proxied_child", "--ignored", "--nocapture"])
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env("HTTP_PROXY", &url)
        .env("HTTPS_PROXY", &url)
        .env("ALL_PROXY", &url)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = child.output().await.expect("a child");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let heads = proxy.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    for head in &heads {
        assert!(
            head.starts_with("GET http://cr.example.com/?InstanceId=cri-1&"),
            "{head}"
        );
        // base64 of "user:hush".
        assert_eq!(
            header(head, "proxy-authorization"),
            Some("Basic dXNlcjpodXNo")
        );
    }
    assert!(told.contains("requests go through a proxy"), "{told}");
    assert!(told.contains("cr.example.com"), "{told}");
    assert!(!told.contains("hush"), "{told}");
}
