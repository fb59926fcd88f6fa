//! `limits:` and `state:`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::{Count, FilePath};

/// What bounds the metrics of what is watched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SeriesLimits {
    /// Series of what is watched. Beyond it artifacts are dropped: failed, running, unknown and
    /// newest ones are kept first; series of tasks and subscriptions are never dropped.
    pub series: Count<200_000, 1, 10_000_000>,
    /// Artifacts of one task that get series.
    pub artifacts_per_task: Count<500, 1, 10_000_000>,
}

/// What survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StateSettings {
    /// The file that keeps what was known and counted; left out, nothing survives a restart.
    pub path: Option<FilePath>,
}
