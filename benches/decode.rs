//! Decoding one page of artifacts, envelope and rows, as the client does it.

use std::hint::black_box;

use alibaba_cloud::rpc::Answer as _;
use aliyun_acr_exporter::api::wire::{Response, TaskResultPage};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[path = "inputs/page.rs"]
mod input;

use input::page;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for rows in [30, 100] {
        let body = page(rows);
        group.throughput(Throughput::Elements(rows.into()));
        group.bench_function(format!("{rows} rows"), |bencher| {
            bencher.iter(|| {
                let body = black_box(&body);
                Response::<TaskResultPage>::read(body).expect("a page")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
