//! Decoding one page of artifacts, envelope and rows, as the client does it.

use std::hint::black_box;

use aliyun_acr_exporter::api::wire::{TaskResultPage, answer};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A page as the cloud sends it: compact, fields in the documented order.
fn page(rows: u32) -> Vec<u8> {
    let rows: Vec<_> = (0..rows)
        .map(|n| {
            format!(
                r#"{{"Status":"COMPLETED","RepoName":"nginx","EndTime":1640164439{n:03},"InstanceId":"cri-90fxryf9pwf0abcd","Tag":"1.27.{n}-alpine","Result":"SUCCESS","StartTime":1640164430{n:03},"TaskId":"crast-y64sq01bgad0abcd","NamespaceName":"mirror"}}"#
            )
        })
        .collect();
    format!(
        r#"{{"PageNo":1,"RequestId":"30D2EC43-5E7D-4C0C-9FA5-D8E2D8D1F0B4","PageSize":100,"TotalCount":{},"Code":"success","IsSuccess":true,"TaskResults":[{}]}}"#,
        rows.len(),
        rows.join(",")
    )
    .into_bytes()
}

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
