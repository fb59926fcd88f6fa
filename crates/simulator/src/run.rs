//! How one run of a subscription goes: tags one after another, each taking its
//! time, some refused by the source. A pure function of the run's start and the
//! present, so that a world moves without anything that moves it.

use serde_json::{Map, Value, json};

use super::world::Source;

/// What a run does, whenever it starts.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) source: Source,
    /// What its tags are called: `prefix` and a number.
    pub(super) tag_prefix: &'static str,
    pub(super) tags: usize,
    /// The mean time that a tag takes, milliseconds.
    pub(super) tag_millis: i64,
    /// From this tag on the source refuses; none: it never does.
    pub(super) refused_from: Option<usize>,
    /// What the task says about it.
    pub(super) message: &'static str,
}

/// One run, or a task of its own that goes like one.
#[derive(Clone, Debug)]
pub(super) struct Run<'a> {
    pub(super) id: String,
    pub(super) instance_id: &'a str,
    pub(super) plan: &'a Plan,
    /// Unix milliseconds.
    pub(super) start: i64,
    /// Decides how long each tag takes.
    pub(super) seed: u64,
    /// The number in the first tag's name.
    pub(super) first_tag: u64,
}

/// A tag that is refused is refused soon.
const REFUSAL_MILLIS: i64 = 1_200;

impl Run<'_> {
    /// Between half and one and a half of the mean.
    fn tag_duration(&self, at: usize) -> i64 {
        if self.refused(at) {
            return REFUSAL_MILLIS;
        }
        let mean = self.plan.tag_millis;
        let spread = mix(self.seed, at as u64) % mean.unsigned_abs().max(1);
        mean / 2 + i64::try_from(spread).unwrap_or(0)
    }

    fn refused(&self, at: usize) -> bool {
        self.plan.refused_from.is_some_and(|from| at >= from)
    }

    fn tag_start(&self, at: usize) -> i64 {
        self.start + (0..at).map(|before| self.tag_duration(before)).sum::<i64>()
    }

    pub(super) fn end(&self) -> i64 {
        self.tag_start(self.plan.tags)
    }

    pub(super) fn fields(&self, now: i64) -> Map<String, Value> {
        let synced = (0..self.plan.tags)
            .filter(|at| !self.refused(*at) && self.tag_start(at + 1) <= now)
            .count();
        let mut fields = self.plan.source.fields();
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        set("InstanceId", json!(self.instance_id));
        set("TaskId", json!(self.id));
        set("TaskType", json!("AUTO"));
        set("ArtifactType", json!("IMAGE"));
        set("SourceRepoType", json!("PUBLIC"));
        set("StartTime", json!(self.start));
        set("TagTotalCount", json!(self.plan.tags));
        set("TagSubscriptionCount", json!(synced));
        if now < self.end() {
            set("TaskStatus", json!("RUNNING"));
        } else {
            set("TaskStatus", json!("COMPLETED"));
            set("EndTime", json!(self.end()));
            if self.plan.refused_from.is_some() {
                set("TaskResult", json!("FAILED"));
                set("Message", json!(self.plan.message));
            } else {
                set("TaskResult", json!("SUCCESS"));
            }
        }
        fields
    }

    pub(super) fn row(&self, at: usize, now: i64) -> Map<String, Value> {
        let Source {
            namespace,
            repository,
            ..
        } = &self.plan.source;
        let tag = self.first_tag + at as u64;
        let mut row = Map::new();
        let mut set = |name: &str, value: Value| row.insert(name.to_owned(), value);
        set("InstanceId", json!(self.instance_id));
        set("TaskId", json!(self.id));
        set("NamespaceName", json!(namespace));
        set("RepoName", json!(repository));
        set("Tag", json!(format!("{}{tag}", self.plan.tag_prefix)));
        let start = self.tag_start(at);
        let end = start + self.tag_duration(at);
        if now < start {
            set("Status", json!("PENDING"));
        } else {
            set("StartTime", json!(start));
            set(
                "Status",
                json!(if now < end { "RUNNING" } else { "COMPLETED" }),
            );
        }
        if now >= end {
            set("EndTime", json!(end));
            let refused = self.refused(at);
            set("Result", json!(if refused { "FAILED" } else { "SUCCESS" }));
        } else {
            // How the original says "not yet" is unknown: each way in turn.
            let not_yet = [None, Some(Value::Null), Some(json!(0)), Some(json!(""))];
            if let Some(value) = not_yet.into_iter().nth(at % 4).flatten() {
                set("EndTime", value);
            }
        }
        row
    }
}

/// Mixes two numbers to one that looks like chance and is always the same:
/// `SplitMix64`.
pub(super) fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
