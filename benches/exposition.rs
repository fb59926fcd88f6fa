//! How long a page takes: 500 tasks of 90 artifacts, some 100 000 series. What
//! is `kept` is made once a change of the store; each scrape adds its end.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aliyun_acr_exporter::exposition::compress::{Coding, Compressed};
use aliyun_acr_exporter::exposition::text::{self, Writer};
use aliyun_acr_exporter::exposition::{Content, Format, Names};
use aliyun_acr_exporter::metrics::catalog::SERIES;
use aliyun_acr_exporter::metrics::own::{Build, Own};
use aliyun_acr_exporter::model::{Assessment, Folded, Row, Words};
use aliyun_acr_exporter::store::{ArtifactSeries, Limits, Store, Target, TaskEntry};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const TASKS: usize = 500;
const ARTIFACTS: i64 = 90;
const NOW_MS: i64 = 1_700_000_100_000;

fn entry(task: usize, words: &Words) -> TaskEntry {
    let rows: Vec<Row> = (0..ARTIFACTS)
        .map(|artifact| Row {
            repo_namespace: "mirror".into(),
            repo_name: format!("library-nginx-{task}"),
            tag: format!("1.{artifact}.3-alpine"),
            status: "COMPLETED".into(),
            result: "SUCCESS".into(),
            start_ms: Some(1_700_000_000_000 + artifact),
            end_ms: Some(1_700_000_012_345 + 7 * artifact),
        })
        .collect();
    let target = Target {
        instance_id: "cri-90fxryf9pwf0abcd".into(),
        task_id: format!("crast-y64sq01bgad{task:05}").into(),
        task: format!("nginx-{task}").into(),
        region: "cn-hangzhou".into(),
        artifacts: ArtifactSeries::All,
    };
    let mut entry = TaskEntry::new(Arc::new(target), Duration::from_secs(60));
    entry.data = Some(Arc::new(Assessment::new(
        Folded::new(rows, words),
        None,
        words,
    )));
    entry.last_poll_ms = Some(NOW_MS);
    entry.last_success_ms = Some(NOW_MS);
    entry
}

#[expect(
    clippy::print_stdout,
    reason = "how large a page is, beside how long it takes"
)]
fn page(criterion: &mut Criterion) {
    let limits = Limits {
        series: 200_000,
        artifacts_per_task: 500,
        stale_after: Duration::from_secs(300),
    };
    let words = Words::default();
    let store = Store::new(limits, (0..TASKS).map(|task| entry(task, &words)));
    let snapshot = store.snapshot();
    let view = snapshot.view(NOW_MS, SERIES);

    let mut group = criterion.benchmark_group("exposition");
    group.throughput(Throughput::Elements(view.series as u64));
    group.bench_function("view", |bencher| {
        bencher.iter(|| snapshot.view(black_box(NOW_MS), SERIES).series);
    });
    group.sample_size(30);
    let series = view.series as u64;
    let now = || Arc::new(Content::new(Arc::clone(&snapshot), NOW_MS));
    group.bench_function("content", |bencher| bencher.iter(now));
    let content = now();
    let writer = |format| Writer::new(Arc::clone(&content), format, Names::Every);
    for (name, format) in [("text", Format::Text), ("openmetrics", Format::OpenMetrics)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| writer(format).map(|piece| piece.len()).sum::<usize>());
        });
    }
    for coding in [Coding::Gzip, Coding::Zstd] {
        let make = || {
            let mut writer = writer(Format::Text);
            Compressed::new(coding, |piece| writer.write_piece(piece))
        };
        group.bench_function(format!("{}/made", coding.as_str()), |bencher| {
            bencher.iter(make);
        });
        let own = Own::new(Build::CURRENT);
        for credentials in ["one", "two", "three"] {
            own.action(credentials, "GetArtifactSubscriptionTaskResult");
        }
        let kept = make();
        let bytes: usize = kept.pieces().iter().map(Bytes::len).sum();
        println!("{}: {bytes} bytes of {series} series", coding.as_str());
        // What a scrape of an unchanged page costs beside sending it.
        group.bench_function(format!("{}/kept", coding.as_str()), |bencher| {
            bencher.iter(|| {
                let tail = text::tail(Format::Text, &Names::Every, &own.gather());
                let pieces = kept.pieces().to_vec();
                (pieces, kept.end(&tail))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, page);
criterion_main!(benches);
