//! Decoding one page of artifacts, envelope and rows, as the client does it.

use std::hint::black_box;

use aliyun_acr_exporter::api::wire::{TaskResultPage, answer};
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
                let (envelope, page) = answer::<TaskResultPage>(body).expect("a page");
                assert!(envelope.is_success());
                page
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
