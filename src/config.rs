//! The configuration: what a [`Config`] holds is valid by its type, so that no
//! other room checks anything again.
//!
//! `file` mirrors the YAML and reads it, `values` parses single values,
//! `validate` turns the mirror into a [`Config`] and collects every mistake.
//! Credentials are described here and resolved elsewhere.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Everything the file says, with defaults filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// How often and how patiently tasks are polled.
    pub poll: Poll,
    /// How the cloud is spoken to.
    pub api: Api,
    /// The accounts that instances use, in the order of the file.
    pub credentials: Vec<Credentials>,
    /// The registry instances and their tasks, in the order of the file.
    pub instances: Vec<Instance>,
    /// Which artifacts of configured tasks get series.
    pub artifacts: Artifacts,
    /// Words added to the built-in ones.
    pub status: StatusWords,
    /// What bounds the page.
    pub limits: Limits,
}

/// `poll:`
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    /// Between two polls of a task that is empty or runs.
    pub interval: Duration,
    /// The longest time between two polls of a finished task; at least `interval`.
    pub finished_interval: Duration,
    /// One poll of one task, waiting for the rate limit not counted.
    pub deadline: Duration,
    /// One API request, connecting included.
    pub timeout: Duration,
    /// API requests in flight, all accounts together; at least 1.
    pub concurrency: usize,
    /// Data older than the larger of this and three intervals in force is stale.
    pub stale_after: Duration,
}

/// `api:`
#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    /// How requests are signed.
    pub signature: Signature,
    /// Requests a second and account; positive.
    pub requests_per_second: f64,
    /// Requests that may follow one another at once; at least 1.
    pub burst: u32,
    /// Attempts after the first.
    pub retries: u32,
    /// Rows asked for in one page; 1 to 100.
    pub page_size: u32,
    /// Pages of one task; a longer answer is a failed poll.
    pub max_pages: u32,
}

/// `api.signature`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// ACS3-HMAC-SHA256, in headers.
    Acs3HmacSha256,
    /// HMAC-SHA1 ("V2 for RPC"), in the query.
    HmacSha1,
}

/// One entry under `credentials:`.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The entry's name, which is also the label `credentials` of metrics.
    pub name: String,
    /// Where the keys come from.
    pub source: CredentialsSource,
    /// Entries with one group share one rate limit; without it the name stands alone.
    pub quota_group: Option<String>,
}

/// `credentials.NAME.type`
#[derive(Clone, Debug)]
pub enum CredentialsSource {
    /// The official chain of providers.
    Default,
    /// A key written in the file or read from another.
    AccessKey {
        /// The id.
        access_key_id: Secret,
        /// The secret.
        access_key_secret: Secret,
        /// The token of a temporary key.
        security_token: Option<Secret>,
    },
    /// `ALIBABA_CLOUD_ACCESS_KEY_ID` and its siblings.
    Environment,
}

/// A secret's place: `KEY` or `KEY_file`.
#[derive(Clone, Debug)]
pub enum Secret {
    /// Written in the configuration itself.
    Inline(SecretString),
    /// In a file of its own, read when needed, surrounding white space cut off.
    File(PathBuf),
}

/// One entry under `instances:`.
#[derive(Clone, Debug)]
pub struct Instance {
    /// `cri-…`
    pub id: String,
    /// The region's id, "" where only an endpoint is given.
    pub region: String,
    /// Index into [`Config::credentials`].
    pub credentials: usize,
    /// Where the API of this instance answers.
    pub endpoint: Endpoint,
    /// The tasks named one by one.
    pub tasks: Vec<Task>,
}

/// Scheme and authority of an API; plain http only to a loopback address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host, and the port where it is not the scheme's own: the Host header.
    pub authority: String,
}

/// One configured task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// `crast-…`
    pub id: String,
    /// The `task` label.
    pub name: String,
    /// The task's own interval, else `poll.interval`.
    pub interval: Duration,
}

/// `artifacts:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Artifacts {
    /// Every artifact.
    All,
    /// Failed artifacts alone.
    Failed,
    /// None.
    None,
}

/// `status:`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusWords {
    /// More words for "still runs".
    pub running: Vec<String>,
    /// More words for "is over", without a verdict.
    pub finished: Vec<String>,
    /// More words for success.
    pub succeeded: Vec<String>,
    /// More words for failure.
    pub failed: Vec<String>,
}

/// `limits:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Series of the `aliyun_acr_subscription_` part of the page.
    pub series: usize,
    /// Artifacts of one task.
    pub artifacts_per_task: usize,
}

impl Endpoint {
    /// `https://host` or `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }
}

/// Whether `host` is this machine: `localhost`, 127.0.0.0/8 or `::1`.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
