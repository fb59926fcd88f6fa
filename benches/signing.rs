//! What one signature costs: a request with the inputs of one page of rows.

use std::hint::black_box;

use alibaba_cloud::signing::{Algorithm, sign};
use criterion::{Criterion, criterion_group, criterion_main};

#[path = "inputs/request.rs"]
mod input;

use input::{KEY, NONCE, NOW_MS, REQUEST};

fn signing(c: &mut Criterion) {
    let mut group = c.benchmark_group("signing");
    for (name, algorithm) in [
        ("acs3", Algorithm::Acs3),
        ("hmac_sha1", Algorithm::HmacSha1),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                sign(
                    algorithm,
                    black_box(&REQUEST),
                    &KEY,
                    black_box(NOW_MS),
                    black_box(NONCE),
                )
            });
        });
    }
    group.finish();
}

criterion_group!(benches, signing);
criterion_main!(benches);
