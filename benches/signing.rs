//! What one signature costs: a request with the inputs of one page of rows.

use std::hint::black_box;

use aliyun_acr_exporter::signing::{Algorithm, Key, Request, sign};
use criterion::{Criterion, criterion_group, criterion_main};

fn signing(c: &mut Criterion) {
    let request = Request {
        method: "GET",
        host: "cr.cn-hangzhou.aliyuncs.com",
        action: "GetArtifactSubscriptionTaskResult",
        version: "2018-12-01",
        params: &[
            ("InstanceId", "cri-90fxryf9pwf0abcd".into()),
            ("TaskId", "crast-y64sq01bgad0abcd".into()),
            ("PageNo", "1".into()),
            ("PageSize", "100".into()),
        ],
        form: &[],
    };
    let key = Key {
        id: "exampleAccessKeyId",
        secret: "EXAMPLEexampleEXAMPLEexample12",
        token: None,
    };
    let mut group = c.benchmark_group("signing");
    for (name, algorithm) in [
        ("acs3", Algorithm::Acs3),
        ("hmac_sha1", Algorithm::HmacSha1),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                sign(
                    algorithm,
                    black_box(&request),
                    &key,
                    black_box(1_767_323_045_000),
                    black_box("3156853299f313e23d1673dc12e1703d"),
                )
            });
        });
    }
    group.finish();
}

criterion_group!(benches, signing);
criterion_main!(benches);
