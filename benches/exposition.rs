//! How long a page takes: 500 tasks of 90 artifacts, some 100 000 series. What
//! is `kept` is made once a change of the store; each scrape adds its end.

use std::hint::black_box;
use std::sync::Arc;

use aliyun_acr_exporter::exposition::text::{self, Writer};
use aliyun_acr_exporter::exposition::{Content, Format, Names};
use aliyun_acr_exporter::metrics::catalog::SERIES;
use aliyun_acr_exporter::store::View;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exporter_web::compress::{Coding, Compressed};

#[path = "inputs/store.rs"]
mod input;

use input::{NOW_MS, own, store};

const TASKS: usize = 500;

#[expect(
    clippy::print_stdout,
    reason = "how large a page is, beside how long it takes"
)]
fn page(criterion: &mut Criterion) {
    let store = store(TASKS);
    let snapshot = store.snapshot();
    let view = |at| View::new(Arc::clone(&snapshot), at, SERIES);
    let series = view(NOW_MS).series as u64;

    let mut group = criterion.benchmark_group("exposition");
    group.throughput(Throughput::Elements(series));
    group.bench_function("view", |bencher| {
        bencher.iter(|| view(black_box(NOW_MS)).series);
    });
    group.sample_size(30);
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
        let own = own();
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
