//! The client's connections against the simulated cloud, in real time: how many
//! it opens, that it keeps them, and what it makes of one that falls silent or
//! is closed by the server.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
use rustls::RootCertStore;
use simulator::faults::{Fault, FaultRule};
use simulator::world::load_task_id;
use simulator::{Running, Simulator, SimulatorConfig, Tls, World, demo};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

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

    fn tls(&self) -> Tls {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
            .and_then(|params| params.signed_by(&key, &self.0))
            .expect("a certificate");
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

#[tokio::test]
async fn connections_are_kept() {
    let authority = Authority::new();
    for (name, tls, most) in [
        ("plain", None, IN_FLIGHT),
        // While the handshakes last, a request may be done over another one's
        // connection, and the next begins a handshake too.
        ("TLS", Some(authority.tls()), 2 * IN_FLIGHT),
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

/// Enough for a handshake on a busy machine.
const SHORT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_request_that_times_out_closes_its_connection() {
    let authority = Authority::new();
    let cloud = cloud(Some(authority.tls()), Duration::ZERO);
    let pipe = Pipe::to(cloud.addr()).await;
    let endpoint = format!("https://{}", pipe.address);
    let poller = Arc::new(Poller::with(authority.trusting(), endpoint, |options| {
        options.timeout = SHORT;
    }));
    cloud.add_fault(FaultRule::new(Fault::Hang));
    let polls = tokio::spawn({
        let poller = Arc::clone(&poller);
        async move { poller.poll_all(IN_FLIGHT).await }
    });
    arrived(&cloud, IN_FLIGHT as u64).await;
    pipe.fall_silent();
    for outcome in polls.await.expect("no panic") {
        let error = outcome.expect_err("a failure");
        assert_eq!(error.reason(), Reason::Timeout, "{}", chain(&error));
    }

    // Not one of the requests that follow meets a silent connection.
    cloud.clear_faults();
    cloud.clear_requests();
    poller.poll_all_well(IN_FLIGHT).await;
    let accepted = cloud.connections().accepted;
    assert!((1..=2 * IN_FLIGHT as u64).contains(&accepted), "{accepted}");
}

#[tokio::test]
async fn an_idle_connection_that_fell_silent_costs_one_attempt() {
    let authority = Authority::new();
    let cloud = cloud(Some(authority.tls()), Duration::ZERO);
    let pipe = Pipe::to(cloud.addr()).await;
    let endpoint = format!("https://{}", pipe.address);
    let poller = Arc::new(Poller::with(authority.trusting(), endpoint, |options| {
        options.timeout = SHORT;
        options.retries = 1;
    }));
    poller.poll_all_well(1).await;
    assert_eq!(cloud.connections().accepted, 1);
    pipe.fall_silent();
    poller.poll_all_well(IN_FLIGHT).await;
    // One of them met it.
    let errors = poller.counted("api_request_errors_total");
    assert!((errors - 1.0).abs() < 1e-9, "{errors}");
}

#[tokio::test]
async fn a_server_that_closes_its_connections_loses_no_request() {
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
    assert!(connections.used > 0, "{connections:?}");
    assert_eq!(connections.open, connections.connections.len());
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
    // Each of the four closes the connection that it was on, and no other.
    let closed = async {
        loop {
            let connections = cloud.connections();
            let open = u64::try_from(connections.open).expect("few");
            if connections.accepted - open == 4 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, closed)
        .await
        .expect("four closed connections");
}
