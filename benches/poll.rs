//! One poll from the first request to what the store takes: client, decoding
//! and assessment, against the simulated cloud over loopback. A page's time
//! holds the simulated cloud's too, which answers on a thread of its own;
//! `whole-process.sh` tells the two apart.

use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use alibaba_cloud::credentials::static_key::{Setting, StaticKey};
use alibaba_cloud::http::Http;
use alibaba_cloud::rpc::Throttle;
use alibaba_cloud::signing::Algorithm;
use aliyun_acr_exporter::api::{Account, Client, Options, Shared};
use aliyun_acr_exporter::model::{Assessment, Folded, Words};
use aliyun_acr_exporter::poll::{Rows, Source as _};
use aliyun_acr_exporter::source::{CloudSource, Place};
use aliyun_acr_exporter::store::{ArtifactSeries, Origin, Target};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use simulator::world::load_task_id;
use simulator::{Running, Simulator, SimulatorConfig, World, demo};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Polled at once, each over a connection of its own.
const TASKS: usize = 16;
const ROWS: usize = 90;
const START_MS: i64 = 1_700_000_000_000;

fn source(cloud: &Running, page_size: u32) -> CloudSource {
    let account = Account {
        name: "default".to_owned(),
        provider: Arc::new(StaticKey::new(
            Setting::Inline(demo::KEY_ID.into()),
            Setting::Inline(demo::KEY_SECRET.into()),
            None,
        )),
        // Never in the way.
        throttle: Arc::new(Throttle::new(1e9, u32::MAX)),
        observer: Arc::new(()),
    };
    let shared = Shared {
        http: Http::new("test").expect("an HTTP client"),
        in_flight: Arc::new(Semaphore::new(TASKS)),
        clock: Clock::system(),
    };
    let options = Options {
        algorithm: Algorithm::Acs3,
        timeout: Duration::from_secs(10),
        retries: 0,
        backoff: Duration::ZERO,
        page_size,
        max_pages: 10,
    };
    let place = Place {
        client: Arc::new(Client::new(account, shared, options)),
        endpoint: cloud.url(),
        region: String::new(),
    };
    CloudSource::new(
        [(World::LOAD_INSTANCE.into(), place)],
        Duration::from_secs(120),
        Duration::from_secs(10),
    )
}

fn target(number: usize) -> Target {
    let id: Arc<str> = load_task_id(number).into();
    Target {
        instance_id: World::LOAD_INSTANCE.into(),
        task_id: Arc::clone(&id),
        task: id,
        region: "cn-hangzhou".into(),
        artifacts: ArtifactSeries::All,
        origin: Origin::Configured,
    }
}

async fn poll(source: &CloudSource, target: &Target, words: &Words) -> Assessment {
    let mut budget = source.budget();
    let rows = source.rows(target, &mut budget).await.expect("rows");
    assert_eq!(rows.len(), ROWS);
    Assessment::new(Folded::new(Rows::iter(&rows), words), None, words)
}

async fn poll_all(source: &Arc<CloudSource>, targets: &[Arc<Target>], words: &Arc<Words>) {
    let mut polls = JoinSet::new();
    for target in targets {
        let (source, target, words) = (Arc::clone(source), Arc::clone(target), Arc::clone(words));
        polls.spawn(async move { poll(&source, &target, &words).await });
    }
    polls.join_all().await;
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

fn pages(criterion: &mut Criterion) {
    let cloud = Simulator::start(SimulatorConfig {
        world: World::load(TASKS, ROWS, START_MS),
        ..SimulatorConfig::default()
    })
    .expect("a simulated cloud");
    let runtime = runtime();
    let words = Arc::new(Words::default());
    let targets: Vec<_> = (0..TASKS).map(|number| Arc::new(target(number))).collect();

    let mut group = criterion.benchmark_group("poll");
    group.sample_size(30);
    for page_size in [30, 100] {
        let source = Arc::new(source(&cloud, page_size));
        let pages = ROWS.div_ceil(page_size as usize);
        group.throughput(Throughput::Elements(pages as u64));
        group.bench_function(format!("one task, {page_size} rows a page"), |bencher| {
            bencher.iter(|| runtime.block_on(poll(&source, &targets[0], &words)));
        });
        group.throughput(Throughput::Elements((TASKS * pages) as u64));
        group.bench_function(
            format!("{TASKS} tasks, {page_size} rows a page"),
            |bencher| {
                bencher.iter(|| runtime.block_on(poll_all(&source, &targets, &words)));
            },
        );
    }
    group.finish();
}

criterion_group!(benches, pages);
criterion_main!(benches);
