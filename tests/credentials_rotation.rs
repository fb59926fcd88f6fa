//! Keys that live a minute, under load: the next one is in use before the last
//! one ends, and no request notices. The minute is the simulated cloud's, whose
//! clock the client shares and which moves with the work that gets done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use alibaba_cloud::credentials::assume_role::AssumeRole;
use alibaba_cloud::credentials::cached::Cached;
use alibaba_cloud::credentials::ecs_ram_role::EcsRamRole;
use alibaba_cloud::credentials::static_key::{Setting, StaticKey};
use alibaba_cloud::credentials::sts::Role;
use alibaba_cloud::credentials::{Addresses, Context, ProvideCredentials};
use alibaba_cloud::http::Http;
use alibaba_cloud::rpc::Throttle;
use alibaba_cloud::signing::Algorithm;
use aliyun_acr_exporter::api::{Account, Budget, Client, Instance, Options, Shared};
use aliyun_acr_exporter::metrics::account;
use aliyun_acr_exporter::metrics::own::{Build, Own};
use futures_util::StreamExt as _;
use futures_util::stream;
use simulator::world::{RowSpec, TaskSpec};
use simulator::{Issuing, Running, Simulator, SimulatorConfig, World, demo};
use tokio::sync::Semaphore;

/// 2026-01-02T03:04:05Z
const START: i64 = 1_767_323_045_000;
const LIFETIME: Duration = Duration::from_secs(60);
const REQUESTS: u64 = 10_000;
/// The clock moves by this each so many answers: 250 seconds in all.
const STEP: Duration = Duration::from_millis(100);
const ANSWERS_A_STEP: u64 = 4;
const ACTION: &str = "GetArtifactSubscriptionTaskResult";

struct Setup {
    cloud: Running,
    clock: Clock,
    own: Arc<Own>,
    context: Context,
    turn: tokio::sync::Mutex<()>,
}

impl Setup {
    fn new() -> Self {
        let clock = Clock::fixed(START);
        let task =
            TaskSpec::running("crast-1", START).row(RowSpec::running("mirror", "x", "1", START));
        let cloud = Simulator::start(SimulatorConfig {
            clock: clock.clone(),
            issuing: Issuing {
                lifetime: Some(LIFETIME),
                ..Issuing::default()
            },
            // Without it this one thread would never have two of them.
            latency: Duration::from_millis(1),
            world: World::new().instance("cri-a", "cn-hangzhou").task(task),
            ..SimulatorConfig::default()
        })
        .expect("a simulated cloud");
        let own = Arc::new(Own::new(Build::CURRENT));
        let context = Context {
            name: "test".to_owned(),
            http: Http::new("test").expect("TLS"),
            observer: account::observer(&own, "test"),
            clock: clock.clone(),
            addresses: Addresses {
                sts: Some(cloud.url()),
                metadata: cloud.url(),
                ..Addresses::default()
            },
            home: None,
            session_name: "test".to_owned(),
        };
        Self {
            cloud,
            clock,
            own,
            context,
            turn: tokio::sync::Mutex::default(),
        }
    }

    fn client(&self, provider: Arc<dyn ProvideCredentials>) -> Client {
        let provider = Arc::new(Cached::new(&self.context, provider));
        Client::new(
            Account {
                name: "test".to_owned(),
                provider,
                throttle: Arc::new(Throttle::new(1e6, 1_000_000)),
                observer: Arc::clone(&self.context.observer),
            },
            Shared {
                http: self.context.http.clone(),
                in_flight: Arc::new(Semaphore::new(64)),
                clock: self.clock.clone(),
            },
            Options {
                algorithm: Algorithm::Acs3,
                // In the client's own time, which moves with the clock.
                timeout: Duration::from_secs(3600),
                retries: 0,
                backoff: Duration::from_millis(1),
                page_size: 100,
                max_pages: 1,
            },
        )
    }

    /// Moves the clock and, so that pauses pass too, tokio's.
    async fn time_passes(&self) {
        // Advancing lets others run, and time can be stopped only once.
        let _turn = self.turn.lock().await;
        self.clock.set(self.clock.now_millis() + 100);
        tokio::time::pause();
        tokio::time::advance(STEP).await;
        tokio::time::resume();
    }

    /// Sends all requests, so many at once.
    async fn load(&self, client: &Client, at_once: usize) {
        let answers = AtomicU64::new(0);
        stream::iter(0..REQUESTS)
            .map(async |_| {
                let mut budget = Budget::new(Duration::from_secs(3600));
                let place = Instance {
                    id: "cri-a",
                    region: "cn-hangzhou",
                    endpoint: &self.cloud.url(),
                };
                let rows = client.task_results(place, "crast-1", &mut budget).await;
                assert_eq!(rows.expect("not refused").len(), 1);
                let answers = answers.fetch_add(1, Ordering::Relaxed) + 1;
                if answers.is_multiple_of(ANSWERS_A_STEP) {
                    self.time_passes().await;
                }
            })
            .buffer_unordered(at_once)
            .collect::<Vec<()>>()
            .await;
    }

    /// That no request was refused, none was sent twice, and few were for keys.
    fn judge(&self, action: &str, at_once: usize) {
        let asked = self.cloud.requests();
        assert_eq!(asked.count(ACTION), REQUESTS);
        // The log keeps fewer than all; what was refused would have failed the
        // client too, which makes no second attempt.
        for one in &asked.requests {
            assert_eq!(one.status, Some(200), "{one:?}");
        }
        assert!(asked.max_in_flight > at_once / 2, "{}", asked.max_in_flight);
        let issued = self.cloud.issued();
        assert_eq!(asked.count(action), issued.len() as u64);
        // Asked for at two thirds of a life of 60 s: the first and six more in
        // 250 s, one less where an answer came late.
        assert!((6..=7).contains(&issued.len()), "{}", issued.len());
        for pair in issued.windows(2) {
            let begins = pair[1].expires - 60_000;
            assert!(begins < pair[0].expires, "a gap between two keys");
            assert!(begins - (pair[0].expires - 60_000) >= 40_000, "too soon");
        }
        let used: std::collections::HashSet<_> = asked
            .requests
            .iter()
            .filter(|one| one.action.as_deref() == Some(ACTION))
            .filter_map(|one| one.key_id.clone())
            .collect();
        assert!(used.len() >= 6, "{} keys were used", used.len());
        let page = prometheus::TextEncoder::new()
            .encode_to_string(&self.own.gather())
            .expect("valid metrics");
        let failures = "credentials_refresh_failures_total{credentials=\"test\"} 0";
        assert!(page.contains(failures), "{page}");
    }
}

#[tokio::test]
async fn ten_thousand_requests_while_an_assumed_role_s_key_changes() {
    let setup = Setup::new();
    let base = StaticKey::new(
        Setting::Inline(demo::KEY_ID.into()),
        Setting::Inline(demo::KEY_SECRET.into()),
        None,
    );
    let role = Role {
        arn: "acs:ram::123456789012:role/reader".to_owned(),
        ..Role::default()
    };
    let provider = AssumeRole::new(&setup.context, role, Arc::new(base));
    setup.load(&setup.client(Arc::new(provider)), 64).await;
    setup.judge("AssumeRole", 64);
}

#[tokio::test]
async fn ten_thousand_requests_while_the_machine_s_key_changes() {
    let setup = Setup::new();
    let provider = EcsRamRole::new(&setup.context, None, false);
    // Each of its three questions has to be answered within a second, in which
    // 40 answers fit here.
    setup.load(&setup.client(Arc::new(provider)), 16).await;
    setup.judge("MetadataCredentials", 16);
    let asked = setup.cloud.requests();
    let issued = setup.cloud.issued().len() as u64;
    assert_eq!(asked.count("MetadataToken"), issued);
    assert_eq!(asked.count("MetadataRole"), issued);
}
