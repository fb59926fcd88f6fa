//! What taking in a list costs: all runs belong to one repository, which is the
//! worst case for whatever looks for a run among the others.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::clock::Moment;
use aliyun_acr_exporter::follow::{Filter, Follower, RunList, Settings};
use aliyun_acr_exporter::model::{Causes, ListedRun, Rule, TaskInfo, Words};
use aliyun_acr_exporter::shard::Shard;
use aliyun_acr_exporter::store::ArtifactSeries;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const NOW_MS: i64 = 1_700_000_000_000;

fn settings() -> Settings {
    Settings {
        instance_id: "cri-a".into(),
        region: "cn-hangzhou".into(),
        interval: Duration::from_secs(300),
        stale_after: Duration::from_secs(300),
        filter: Filter::default(),
        runs: 1,
        max_age: Duration::from_secs(30 * 86_400),
        max_tasks: 1_000,
        artifacts: ArtifactSeries::Failed,
        configured: [].into(),
        shard: Shard::WHOLE,
        words: Words::default(),
        causes: Causes::default(),
    }
}

/// A run a minute, the newest first.
fn list(runs: i64) -> (Rule, RunList) {
    let info = |run: i64| TaskInfo {
        repo_namespace: "mirror".to_owned(),
        repo_name: "nginx".to_owned(),
        source_provider: "DOCKER_HUB".to_owned(),
        source_repository: "library/nginx".to_owned(),
        status: "COMPLETED".to_owned(),
        result: "SUCCESS".to_owned(),
        start_ms: Some(NOW_MS - (run + 2) * 60_000),
        end_ms: Some(NOW_MS - (run + 1) * 60_000),
        ..TaskInfo::default()
    };
    let rule = Rule {
        rule_id: "crasr-1".to_owned(),
        subscription: info(0).subscription(),
        tag_regexp: ".*".to_owned(),
        ..Rule::default()
    };
    let runs = (0..runs).map(|run| ListedRun {
        task_id: format!("crast-{run}").into(),
        info: Arc::new(info(run)),
    });
    let list = RunList {
        runs: runs.collect(),
        whole: true,
        pages: 1,
    };
    (rule, list)
}

fn benchmark(criterion: &mut Criterion) {
    let now = Moment {
        wall_ms: NOW_MS,
        steady_ms: NOW_MS,
    };
    let mut group = criterion.benchmark_group("first listing, one repository");
    group.sample_size(10);
    for runs in [5_000_i64, 10_000, 20_000, 40_000] {
        group.throughput(Throughput::Elements(runs.unsigned_abs()));
        let (rule, list) = list(runs);
        group.bench_function(BenchmarkId::from_parameter(runs), |bencher| {
            bencher.iter_batched(
                || (Follower::new(settings()), vec![rule.clone()], list.clone()),
                |(mut follower, rules, list)| {
                    black_box(follower.listed(Some(rules), Some(list), now));
                    follower
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
