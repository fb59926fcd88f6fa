//! The client's connections against the simulated cloud, in real time: how many
//! it opens under HTTP/1.1 and HTTP/2, that it keeps them, and what it makes of
//! one that falls silent, is taken leave of, or takes few requests at once.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alibaba_cloud::Reason;
use alibaba_cloud::clock::Clock;
use alibaba_cloud::credentials::static_key::{Setting, StaticKey};
use alibaba_cloud::http::Http;
use alibaba_cloud::rpc::Throttle;
use alibaba_cloud::signing::Algorithm;
use aliyun_acr_exporter::api::{Account, Budget, Client, Error, Instance, Options, Shared};
use aliyun_acr_exporter::metrics::account;
use aliyun_acr_exporter::metrics::own::{Build, Own};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{RootCertStore, ServerConfig};
use simulator::faults::{Fault, FaultRule};
use simulator::world::load_task_id;
use simulator::{Connections, Running, Simulator, SimulatorConfig, Tls, World, demo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// More than any test needs; a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(60);
const TASKS: usize = 100;
/// Rows of a task, and of a page: ten pages a task.
const ROWS: usize = 20;
const PAGE: u32 = 2;
/// Requests at once, as the daemon allows.
const IN_FLIGHT: usize = 16;

/// Who signs the certificates of a test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    fn certificate(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
            .and_then(|params| params.signed_by(&key, &self.0))
            .expect("a certificate");
        (certificate, key)
    }

    fn tls(&self) -> Tls {
        let (certificate, key) = self.certificate();
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        Tls::from_pem(certificate.as_bytes(), key.as_bytes()).expect("TLS")
    }

    fn trusting(&self) -> Http {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        Http::with_roots("test", roots).expect("TLS")
    }
}

fn cloud(tls: Option<Tls>, latency: Duration) -> Running {
    Simulator::start(SimulatorConfig {
        tls,
        latency,
        world: World::load(TASKS, ROWS, 1_767_323_045_000),
        ..SimulatorConfig::default()
    })
    .expect("the simulator starts")
}

/// A client of one endpoint.
struct Poller {
    client: Arc<Client>,
    own: Arc<Own>,
    endpoint: String,
}

impl Poller {
    /// Without attempts after the first, so that nothing is hidden.
    fn new(http: Http, endpoint: String) -> Self {
        Self::with(http, endpoint, |_| ())
    }

    fn with(http: Http, endpoint: String, change: impl FnOnce(&mut Options)) -> Self {
        let own = Arc::new(Own::new(Build::CURRENT));
        let mut options = Options {
            algorithm: Algorithm::Acs3,
            timeout: LONG,
            retries: 0,
            backoff: Duration::from_millis(1),
            page_size: PAGE,
            max_pages: 10,
        };
        change(&mut options);
        let account = Account {
            name: "default".to_owned(),
            provider: Arc::new(StaticKey::new(
                Setting::Inline(demo::KEY_ID.into()),
                Setting::Inline(demo::KEY_SECRET.into()),
                None,
            )),
            throttle: Arc::new(Throttle::new(1e9, u32::MAX)),
            observer: account::observer(&own, "default"),
        };
        let shared = Shared {
            http,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            clock: Clock::system(),
        };
        Self {
            client: Arc::new(Client::new(account, shared, options)),
            own,
            endpoint,
        }
    }

    /// Reads one task, over all pages.
    async fn poll(&self, number: usize) -> Result<usize, Error> {
        let instance = Instance {
            id: World::LOAD_INSTANCE,
            region: "cn-hangzhou",
            endpoint: &self.endpoint,
        };
        let mut budget = Budget::new(LONG);
        let id = load_task_id(number);
        let rows = self.client.task_results(instance, &id, &mut budget).await?;
        Ok(rows.len())
    }

    /// Reads so many tasks at once and answers what came of each.
    async fn poll_all(self: &Arc<Self>, tasks: usize) -> Vec<Result<usize, Error>> {
        let mut polls = JoinSet::new();
        for number in 0..tasks {
            let own = Arc::clone(self);
            polls.spawn(async move { own.poll(number).await });
        }
        polls.join_all().await
    }

    async fn poll_all_well(self: &Arc<Self>, tasks: usize) {
        for outcome in self.poll_all(tasks).await {
            assert_eq!(outcome.expect("rows"), ROWS);
        }
    }

    /// A counter of the exporter's own, over all its labels.
    fn counted(&self, name: &str) -> f64 {
        let name = format!("aliyun_acr_exporter_{name}");
        let families = self.own.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.expect("the family").get_metric();
        metrics
            .iter()
            .map(|one| one.get_counter().get_value())
            .sum()
    }
}

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

/// The versions of HTTP that were spoken.
fn spoken(connections: &Connections) -> Vec<&'static str> {
    let mut versions: Vec<_> = connections
        .connections
        .iter()
        .filter_map(|connection| connection.http)
        .collect();
    versions.dedup();
    versions
}

#[tokio::test]
async fn connections_are_kept_and_one_of_http2_is_enough() {
    let authority = Authority::new();
    for (name, tls, version, most) in [
        ("plain", None, "HTTP/1.1", IN_FLIGHT),
        (
            "TLS, HTTP/1.1",
            Some(authority.tls().http1_only()),
            "HTTP/1.1",
            // While the handshakes last, a request may be done over another one's
            // connection, and the next begins a handshake too.
            2 * IN_FLIGHT,
        ),
        ("HTTP/2", Some(authority.tls()), "HTTP/2.0", 1),
    ] {
        // Or no two requests would be in flight together.
        let cloud = cloud(tls, Duration::from_millis(25));
        let poller = Arc::new(Poller::new(authority.trusting(), cloud.url()));
        poller.poll_all_well(TASKS).await;

        let requests = cloud.requests();
        assert_eq!(
            (requests.total, requests.max_in_flight),
            (1000, IN_FLIGHT),
            "{name}"
        );
        let first = cloud.connections();
        assert_eq!(spoken(&first), [version], "{name}");
        let carried: u64 = first.connections.iter().map(|one| one.requests).sum();
        assert_eq!(carried, 1000, "{name}");
        assert!(
            usize::try_from(first.accepted).expect("few") <= most,
            "{name}: {first:?}"
        );
        assert_eq!(first.open, first.connections.len(), "{name}: {first:?}");

        // The next round goes over the same.
        cloud.clear_requests();
        poller.poll_all_well(TASKS).await;
        let second = cloud.connections();
        assert_eq!(second.accepted, 0, "{name}: {second:?}");
        assert_eq!(cloud.requests().total, 1000, "{name}");
    }
}

/// Carries bytes between its clients and `target` until it is told to fall
/// silent: then what is open stays open, and nothing goes through. Connections
/// that come later are carried.
struct Pipe {
    address: SocketAddr,
    silent: watch::Sender<u64>,
    _carrying: JoinSet<()>,
}

impl Pipe {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let silent = watch::Sender::new(0);
        let told = silent.clone();
        let mut carrying = JoinSet::new();
        carrying.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.expect("a connection");
                let mut silent = told.subscribe();
                open.spawn(async move {
                    let mut far = TcpStream::connect(target).await.expect("a connection");
                    tokio::select! {
                        biased;
                        _ = silent.changed() => std::future::pending().await,
                        _ = copy_bidirectional(&mut near, &mut far) => (),
                    }
                });
            }
        });
        Self {
            address,
            silent,
            _carrying: carrying,
        }
    }

    fn fall_silent(&self) {
        self.silent.send_modify(|times| *times += 1);
    }
}

/// Returns once as many requests are in flight.
async fn arrived(cloud: &Running, requests: u64) {
    let carried = || {
        let connections = cloud.connections().connections;
        connections.iter().map(|one| one.requests).sum::<u64>()
    };
    while carried() < requests {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_given_up_with_all_that_is_on_it() {
    let authority = Authority::new();
    let cloud = cloud(Some(authority.tls()), Duration::ZERO);
    let pipe = Pipe::to(cloud.addr()).await;
    let poller = Arc::new(Poller::new(
        authority.trusting(),
        format!("https://{}", pipe.address),
    ));
    poller.poll_all_well(IN_FLIGHT).await;
    cloud.clear_requests();

    // In the middle of requests.
    cloud.add_fault(FaultRule::new(Fault::Hang));
    let polls = tokio::spawn({
        let poller = Arc::clone(&poller);
        async move { poller.poll_all(IN_FLIGHT).await }
    });
    arrived(&cloud, IN_FLIGHT as u64).await;
    pipe.fall_silent();
    let silent = Instant::now();
    for outcome in polls.await.expect("no panic") {
        let error = outcome.expect_err("a failure");
        assert_eq!(error.reason(), Reason::Timeout, "{}", chain(&error));
        assert!(
            chain(&error).ends_with("keep-alive timed out: operation timed out"),
            "{}",
            chain(&error)
        );
    }
    let took = silent.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(cloud.connections().accepted, 0);

    cloud.clear_faults();
    poller.poll_all_well(IN_FLIGHT).await;
    assert_eq!(cloud.connections().accepted, 1);
}

#[tokio::test]
async fn a_connection_that_fell_silent_while_it_rested_costs_one_attempt() {
    let authority = Authority::new();
    let cloud = cloud(Some(authority.tls()), Duration::ZERO);
    let pipe = Pipe::to(cloud.addr()).await;
    let poller = Arc::new(Poller::with(
        authority.trusting(),
        format!("https://{}", pipe.address),
        |options| {
            options.timeout = Duration::from_secs(10);
            options.retries = 1;
        },
    ));
    poller.poll_all_well(1).await;
    pipe.fall_silent();
    cloud.clear_requests();
    poller.poll_all_well(IN_FLIGHT).await;
    assert_eq!(cloud.connections().accepted, 1);
    // Each of them met it, and none twice.
    let errors = poller.counted("api_request_errors_total");
    assert!((errors - 16.0).abs() < 1e-9, "{errors}");
}

#[tokio::test]
async fn a_server_that_takes_leave_loses_no_request() {
    let authority = Authority::new();
    let cloud = cloud(Some(authority.tls()), Duration::from_millis(50));
    let poller = Arc::new(Poller::with(authority.trusting(), cloud.url(), |options| {
        options.retries = 2;
    }));
    // While requests are in flight, and more come all the time.
    let polls = tokio::spawn({
        let poller = Arc::clone(&poller);
        async move { poller.poll_all(TASKS).await }
    });
    for requests in [100, 400, 700] {
        arrived(&cloud, requests).await;
        cloud.retire_connections();
    }
    for outcome in polls.await.expect("no panic") {
        assert_eq!(outcome.expect("rows"), ROWS);
    }
    // While it rests.
    cloud.retire_connections();
    while cloud.connections().open > 0 {
        tokio::task::yield_now().await;
    }
    cloud.clear_requests();
    poller.poll_all_well(TASKS).await;
    let connections = cloud.connections();
    assert_eq!(connections.used, 1, "{connections:?}");
    assert_eq!(spoken(&connections), ["HTTP/2.0"]);
}

#[tokio::test]
async fn a_server_that_takes_few_requests_at_once_gets_few() {
    let authority = Authority::new();
    let tls = authority.tls().max_streams(3);
    let cloud = cloud(Some(tls), Duration::from_millis(10));
    let poller = Arc::new(Poller::new(authority.trusting(), cloud.url()));
    poller.poll_all_well(TASKS / 4).await;
    let requests = cloud.requests();
    assert_eq!((requests.total, requests.max_in_flight), (250, 3));
    assert_eq!(cloud.connections().accepted, 1);
}

#[tokio::test]
async fn an_answer_without_end_or_beginning_ends_and_the_others_go_on() {
    let authority = Authority::new();
    let cloud = cloud(Some(authority.tls()), Duration::ZERO);
    let poller = Arc::new(Poller::with(authority.trusting(), cloud.url(), |options| {
        options.timeout = Duration::from_secs(5);
    }));
    poller.poll_all_well(1).await;
    let oversized = Fault::Oversized { bytes: 1 << 30 };
    cloud.add_fault(FaultRule::new(oversized).task(&load_task_id(0)));
    cloud.add_fault(FaultRule::new(Fault::Hang).task(&load_task_id(1)));
    cloud.add_fault(FaultRule::new(Fault::Drop).task(&load_task_id(2)));
    cloud.add_fault(FaultRule::new(Fault::HalfBody).task(&load_task_id(3)));
    let mut outcomes: Vec<(usize, Result<usize, Error>)> = Vec::new();
    let mut polls = JoinSet::new();
    for number in 0..TASKS {
        let poller = Arc::clone(&poller);
        polls.spawn(async move { (number, poller.poll(number).await) });
    }
    outcomes.extend(polls.join_all().await);
    outcomes.sort_by_key(|(number, _)| *number);
    for (number, outcome) in outcomes {
        let expected = match number {
            0 => Some((Reason::Decode, "the answer has more than 32 MiB (HTTP 200)")),
            1 => Some((Reason::Timeout, "no answer within 5s")),
            2 => Some((
                Reason::Connect,
                "the connection broke before an answer came",
            )),
            3 => Some((Reason::Connect, "the connection broke within the answer")),
            _ => None,
        };
        match (outcome, expected) {
            (Ok(rows), None) => assert_eq!(rows, ROWS),
            (Err(error), Some((class, text))) => {
                assert_eq!(error.reason(), class, "{}", chain(&error));
                assert!(chain(&error).contains(text), "{}", chain(&error));
            }
            (outcome, _) => panic!("task {number}: {outcome:?}"),
        }
    }
    let connections = cloud.connections();
    assert_eq!((connections.accepted, connections.open), (1, 1));
}

/// What a server of HTTP/2 does with a request, in frames.
#[derive(Clone, Copy)]
enum Reply {
    /// Answers an empty list.
    Rows,
    /// `RST_STREAM` with this code.
    Reset(u32),
    /// GOAWAY with this code: no request was processed, and none will be.
    Leave(u32),
}

const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
const NO_ERROR: u32 = 0;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A server of HTTP/2 that does with its n-th request what the script says, over
/// all connections. RFC 9113 as far as that needs it.
async fn scripted(
    authority: &Authority,
    script: &'static [Reply],
) -> (SocketAddr, Arc<AtomicUsize>, JoinSet<()>) {
    let (certificate, key) = authority.certificate();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("a key that fits");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let asked = Arc::new(AtomicUsize::new(0));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut open = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            counter.fetch_add(1, Ordering::Relaxed);
            let (acceptor, asked) = (acceptor.clone(), Arc::clone(&asked));
            open.spawn(async move {
                let stream = acceptor.accept(stream).await.expect("a handshake");
                // How it ends is the client's business.
                let _ = converse(stream, script, &asked).await;
            });
        }
    });
    (address, connections, serving)
}

async fn converse(
    mut stream: tokio_rustls::server::TlsStream<TcpStream>,
    script: &[Reply],
    asked: &AtomicUsize,
) -> std::io::Result<()> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("64 bits")];
        stream.read_exact(&mut payload).await?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let answer = match (head[3], head[4] & 1) {
            (SETTINGS, 0) => frame(SETTINGS, 1, 0, &[]),
            (HEADERS, _) => match script[asked.fetch_add(1, Ordering::Relaxed)] {
                Reply::Rows => {
                    let body = br#"{"RequestId":"R","Code":"success","IsSuccess":true,"PageSize":2,"TotalCount":0,"TaskResults":[]}"#;
                    // `:status: 200` of HPACK's static table.
                    let mut answer = frame(HEADERS, 4, id, &[0x88]);
                    answer.extend(frame(DATA, 1, id, body));
                    answer
                }
                Reply::Reset(code) => frame(RST_STREAM, 0, id, &code.to_be_bytes()),
                Reply::Leave(code) => {
                    let mut payload = 0_u32.to_be_bytes().to_vec();
                    payload.extend(code.to_be_bytes());
                    frame(GOAWAY, 0, 0, &payload)
                }
            },
            _ => continue,
        };
        stream.write_all(&answer).await?;
    }
}

#[tokio::test]
async fn a_request_that_was_refused_is_sent_again_as_a_new_attempt() {
    use Reply::{Leave, Reset, Rows};
    let authority = Authority::new();
    for (script, connections) in [
        (&[Reset(REFUSED_STREAM), Rows][..], 1),
        (&[Reset(ENHANCE_YOUR_CALM), Rows], 1),
        (&[Leave(NO_ERROR), Rows], 2),
        (&[Leave(ENHANCE_YOUR_CALM), Rows], 2),
    ] {
        let (address, accepted, _serving) = scripted(&authority, script).await;
        let endpoint = format!("https://{address}");
        let poller = Poller::with(authority.trusting(), endpoint, |options| {
            options.retries = 1;
        });
        assert_eq!(poller.poll(0).await.expect("no rows"), 0);
        assert_eq!(accepted.load(Ordering::Relaxed), connections);
        // Counted as all attempts are, and so signed anew.
        for (counter, expected) in [
            ("api_requests_total", 2.0),
            ("api_retries_total", 1.0),
            ("api_request_errors_total", 1.0),
        ] {
            let counted = poller.counted(counter);
            assert!((counted - expected).abs() < 1e-9, "{counter} {counted}");
        }
    }
}
