//! What stands on a page: finished tasks and the exporter's own metrics.

use std::sync::Arc;
use std::time::Duration;

use aliyun_acr_exporter::metrics::own::{Build, Own};
use aliyun_acr_exporter::model::{Assessment, Folded, Row, Words};
use aliyun_acr_exporter::store::{ArtifactSeries, Limits, Origin, Store, Target, TaskEntry};

const ARTIFACTS: i64 = 90;
pub(crate) const NOW_MS: i64 = 1_700_000_100_000;

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
        origin: Origin::Configured,
    };
    let mut entry = TaskEntry::new(Arc::new(target), Duration::from_secs(60));
    entry.data = Some(Assessment::new(Folded::new(rows, words), None, words));
    entry.last_poll_ms = Some(NOW_MS);
    entry.last_success_ms = Some(NOW_MS);
    entry
}

/// Tasks of 90 artifacts: 20 series each, and 2 for each artifact.
pub(crate) fn store(tasks: usize) -> Store {
    let limits = Limits {
        series: 200_000,
        artifacts_per_task: 500,
        stale_after: Duration::from_secs(300),
    };
    let words = Words::default();
    Store::new(limits, (0..tasks).map(|task| entry(task, &words)))
}

/// Of three credentials; the same whatever was built when.
pub(crate) fn own() -> Own {
    let own = Own::new(Build {
        version: "0.1.0",
        revision: "0123456789abcdef0123456789abcdef01234567",
        rustversion: "1.90.0",
        target: "x86_64-unknown-linux-gnu",
    });
    for credentials in ["one", "two", "three"] {
        own.action(credentials, "GetArtifactSubscriptionTaskResult");
    }
    own
}
