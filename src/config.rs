//! The configuration: what a [`Config`] holds is valid by its type, so that no
//! other room checks anything again.
//!
//! `yaml` reads the text as a tree, `file` is the mirror of the keys, `values`
//! parses single values, `validate` turns the mirror into a [`Config`] and
//! collects every [`Mistake`]; `shown` is the way back, for people. `web` is the
//! other file, about TLS and passwords.
//! Credentials are described here and resolved elsewhere.

mod file;
mod mistake;
mod shown;
mod validate;
mod values;
pub mod web;
mod yaml;

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use secrecy::{ExposeSecret as _, SecretString};

pub use mistake::Mistake;
use mistake::Place;
pub(crate) use values::in_words;

/// The JSON Schema of the file, for editors. It knows the keys and the values one
/// by one; what only [`parse`] can see stands in `tests/config_schema.rs`.
pub const SCHEMA: &str = include_str!("config/schema.json");

/// Larger files are no configuration; a hundred thousand tasks take a tenth.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Everything the file says, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How often and how patiently tasks are polled.
    pub poll: Poll,
    /// How the cloud is spoken to.
    pub api: Api,
    /// The entries that instances use, in the order of the file, each preceded
    /// by those its keys come from ([`CredentialsSource::AssumeRole`]), which
    /// need not be any instance's own.
    pub credentials: Vec<Credentials>,
    /// The registry instances and their tasks, in the order of the file.
    pub instances: Vec<Instance>,
    /// Which artifacts of configured tasks get series.
    pub artifacts: Artifacts,
    /// Words added to the built-in ones.
    pub status: StatusWords,
    /// Patterns of the user that name the cause of a failure.
    pub causes: CausePatterns,
    /// What bounds the page.
    pub limits: Limits,
    /// `state.path`: where what is known survives a restart.
    pub state_path: Option<PathBuf>,
}

/// `poll:`
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    /// Between two polls of a task that is empty or runs.
    pub interval: Duration,
    /// The longest time between two polls of a finished task; at least `interval`,
    /// though a task's own interval may be longer.
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
    /// `api.network` is `vpc`: endpoints that are not written are those within VPCs.
    pub vpc: bool,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The entry's name, which is also the label `credentials` of metrics.
    pub name: String,
    /// Where the keys come from.
    pub source: CredentialsSource,
    /// Entries with one group share one rate limit; without it the name stands alone.
    pub quota_group: Option<String>,
}

/// `credentials.NAME.type`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialsSource {
    /// The official chain of providers.
    Default {
        /// For the links of the chain that ask.
        addresses: Addresses,
    },
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
    /// A profile of the vendor's command line tool.
    Profile {
        /// The profile; `None` is the one that the file calls `current`.
        name: Option<String>,
        /// The tool's file; `None` is `~/.aliyun/config.json`.
        file: Option<PathBuf>,
        /// For the modes that ask.
        addresses: Addresses,
    },
    /// A section of the ini file that the vendor's SDKs share.
    CredentialsFile {
        /// The section's name.
        section: String,
        /// The file; `None` is the SDKs' own place for it.
        file: Option<PathBuf>,
        /// For the types of sections that ask.
        addresses: Addresses,
    },
    /// A role assumed with a token of an `OpenID` Connect provider (RRSA in ACK).
    Oidc {
        /// `acs:ram::ACCOUNT:role/NAME`
        role_arn: String,
        /// `acs:ram::ACCOUNT:oidc-provider/NAME`
        oidc_provider_arn: String,
        /// Holds the token; it is replaced every now and then.
        oidc_token_file: PathBuf,
        /// How the session and its keys are asked for.
        session: RoleSession,
        /// Of which STS alone is asked.
        addresses: Addresses,
    },
    /// The role of the ECS instance, from its metadata service.
    EcsRamRole {
        /// `None` asks the service for the name.
        role_name: Option<String>,
        /// Whether a service that hands out no token is left alone.
        disable_imdsv1: bool,
        /// Of which the metadata service alone is asked.
        addresses: Addresses,
    },
    /// A server that answers with keys.
    Uri {
        /// https, or http to a loopback address. May hold a password or a token.
        uri: Hidden,
    },
    /// A role assumed with the keys of another entry.
    AssumeRole {
        /// `acs:ram::ACCOUNT:role/NAME`
        role_arn: String,
        /// Index into [`Config::credentials`]; always less than this entry's own,
        /// so that entries can be set up in their order.
        source: usize,
        /// What the role's owner demands of a third party.
        external_id: Option<Secret>,
        /// How the session and its keys are asked for.
        session: RoleSession,
        /// Of which STS alone is asked.
        addresses: Addresses,
    },
}

impl CredentialsSource {
    /// The files that the entry names, each with its key.
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        fn file<'a>(key: &'static str, secret: &'a Secret) -> Option<(&'static str, &'a Path)> {
            match secret {
                Secret::File(path) => Some((key, path)),
                Secret::Inline(_) => None,
            }
        }
        match self {
            Self::AccessKey {
                access_key_id,
                access_key_secret,
                security_token,
            } => [
                file("access_key_id_file", access_key_id),
                file("access_key_secret_file", access_key_secret),
                security_token
                    .as_ref()
                    .and_then(|token| file("security_token_file", token)),
            ]
            .into_iter()
            .flatten()
            .collect(),
            Self::Oidc {
                oidc_token_file, ..
            } => vec![("oidc_token_file", oidc_token_file)],
            Self::Profile {
                file: Some(path), ..
            }
            | Self::CredentialsFile {
                file: Some(path), ..
            } => vec![("file", path)],
            Self::AssumeRole {
                external_id: Some(external_id),
                ..
            } => file("external_id_file", external_id).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

/// What a role is assumed with, however that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSession {
    /// 2 to 64 of `A-Za-z0-9.@_-`; stands in the cloud's audit log.
    pub name: String,
    /// How long the keys are to live; 15 minutes to 12 hours, whole seconds.
    pub duration: Duration,
    /// A RAM policy as JSON that narrows the role's permissions.
    pub policy: Option<String>,
}

/// Where an entry asks for keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// What `sts_endpoint`, or else `sts_region` within `api.network`, says.
    /// `None`: neither is written, which is the central endpoint unless what
    /// the keys come from (a profile, the environment) names a region.
    pub sts: Option<Endpoint>,
    /// Whether `api.network` is `vpc`: where such a region is to be asked.
    pub vpc: bool,
    /// The metadata service.
    pub metadata: Endpoint,
}

/// A text that is never shown. It can be compared, to see what a new
/// configuration changes.
#[derive(Clone, Debug)]
pub struct Hidden(SecretString);

impl From<SecretString> for Hidden {
    fn from(text: SecretString) -> Self {
        Self(text)
    }
}

impl From<Hidden> for SecretString {
    fn from(hidden: Hidden) -> Self {
        hidden.0
    }
}

impl std::ops::Deref for Hidden {
    type Target = SecretString;

    fn deref(&self) -> &SecretString {
        &self.0
    }
}

impl PartialEq for Hidden {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Hidden {}

/// A secret's place: `KEY` or `KEY_file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// Written in the configuration itself.
    Inline(Hidden),
    /// In a file of its own, read when needed, surrounding white space cut off.
    File(PathBuf),
}

/// One entry under `instances:`.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// How others are found; `None` where they are not.
    pub follow: Option<Follow>,
}

/// `instances[].follow:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follow {
    /// Between two listings.
    pub interval: Duration,
    /// Repositories to follow: those that one of these matches; all of them
    /// where there is none.
    pub include: Vec<Pattern>,
    /// Repositories that are left out all the same.
    pub exclude: Vec<Pattern>,
    /// Newest runs of a subscription that get task series; at least 1.
    pub runs: usize,
    /// Older runs get none.
    pub max_age: Duration,
    /// Runs of the instance that get task series; the newest do.
    pub max_tasks: usize,
    /// Which of their artifacts get series.
    pub artifacts: Artifacts,
}

/// One of `follow.include:` and `follow.exclude:`; a key that is not written
/// matches everything.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// Of the namespace that is synchronised into; anchored at both ends.
    pub repo_namespace: Regex,
    /// Of the repository that is synchronised into; likewise.
    pub repo_name: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.repo_namespace.as_str() == other.repo_namespace.as_str()
            && self.repo_name.as_str() == other.repo_name.as_str()
    }
}

impl Eq for Pattern {}

/// Scheme and authority of a server; plain http only to a loopback address and,
/// for the metadata service, to its own.
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

/// A regular expression that is searched without regard to case.
#[derive(Clone, Debug)]
pub struct Search(pub Regex);

impl PartialEq for Search {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Search {}

/// `causes:`, searched in the message of a failed task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CausePatterns {
    /// The source limits the rate of pulls.
    pub rate_limited: Vec<Search>,
    /// A quota or the storage is used up.
    pub quota: Vec<Search>,
    /// The source denies access.
    pub unauthorized: Vec<Search>,
    /// The source has no such repository or tag.
    pub not_found: Vec<Search>,
    /// The source cannot be reached.
    pub network: Vec<Search>,
    /// Everything else.
    pub other: Vec<Search>,
}

/// `limits:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Series of the `aliyun_acr_subscription_` part of the page.
    pub series: usize,
    /// Artifacts of one task.
    pub artifacts_per_task: usize,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file was read and holds these mistakes, in its order; one a line.
    #[error("{}", lines(.0))]
    Mistakes(Vec<Mistake>),
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Reads and judges the file at `path`.
///
/// # Errors
///
/// As [`read`] and [`judge`].
pub fn load(path: &Path) -> Result<Config, Error> {
    judge(&read(path)?, path)
}

/// Reads the file at `path`, no more of it than a configuration can have.
///
/// # Errors
///
/// [`Error::Io`]
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

/// Judges what was read of the file at `path`.
///
/// # Errors
///
/// As [`parse`], and where it is too large or no text.
pub fn judge(bytes: &[u8], path: &Path) -> Result<Config, Error> {
    let text = text(bytes, path)?;
    parse_in(text, &path.display().to_string(), path)
}

/// What was read of the file at `path` as text.
fn text<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a str, Error> {
    let file_name = path.display().to_string();
    if bytes.len() as u64 > MAX_BYTES {
        let start = Place {
            line: 1,
            column: 1,
            path: String::new(),
        };
        let message = format!("larger than {} MiB", MAX_BYTES / 1024 / 1024);
        return Err(mistakes(vec![Mistake::new(&start, message)], &file_name));
    }
    std::str::from_utf8(bytes)
        .map_err(|error| mistakes(vec![not_utf8(bytes, error.valid_up_to())], &file_name))
}

/// Judges `text`, which came from the file `file_name`; relative paths in it
/// are relative to that file's folder.
///
/// # Errors
///
/// [`Error::Mistakes`]: the first mistake of syntax or shape alone, or else
/// every other one.
pub fn parse(text: &str, file_name: &str) -> Result<Config, Error> {
    parse_in(text, file_name, Path::new(file_name))
}

fn parse_in(text: &str, file_name: &str, path: &Path) -> Result<Config, Error> {
    file::parse(text)
        .map_err(|mistake| vec![mistake])
        .and_then(|file| validate::validate(file, path))
        .map_err(|found| mistakes(found, file_name))
}

fn mistakes(mut mistakes: Vec<Mistake>, file_name: &str) -> Error {
    for mistake in &mut mistakes {
        file_name.clone_into(&mut mistake.file);
    }
    Error::Mistakes(mistakes)
}

fn not_utf8(bytes: &[u8], good: usize) -> Mistake {
    let good = String::from_utf8_lossy(&bytes[..good]);
    let line = good.matches('\n').count() as u64 + 1;
    let column = good.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
    let message = if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        "this is UTF-16; save the file as UTF-8"
    } else {
        "a byte that is not UTF-8; save the file as UTF-8"
    };
    Mistake::new(
        &Place {
            line,
            column,
            path: String::new(),
        },
        message,
    )
}

impl Endpoint {
    /// `https://host` or `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }

    /// The host alone, an IPv6 address in its brackets.
    pub fn host(&self) -> &str {
        let end = self.authority.rfind(']').map_or(0, |bracket| bracket + 1);
        let port = self.authority[end..].find(':');
        &self.authority[..port.map_or(self.authority.len(), |colon| end + colon)]
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
