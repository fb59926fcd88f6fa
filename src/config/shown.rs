//! The configuration as `/config` shows it: every default filled in, secrets
//! masked. It is a configuration itself: read again, it means the same, but for
//! the secrets.
//!
//! What was left out or resolved when it was read stays so: entries under
//! `credentials:` that no instance leads to are not shown, a region's endpoint
//! stands where the region's id stood.

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::ser::{Serialize, Serializer};

use super::values::in_words;
use super::{
    Addresses, Artifacts, CausePatterns, Config, Credentials, CredentialsSource, Endpoint, Follow,
    Instance, Pattern, RoleSession, Search, Secret, Signature,
};

/// As Prometheus writes it.
const MASK: &str = "<secret>";

impl Config {
    /// YAML to show to people.
    ///
    /// # Panics
    ///
    /// Never: nothing in it is beyond YAML.
    pub fn shown(&self) -> String {
        serde_saphyr::to_string(&self.tree()).expect("texts, numbers, lists and mappings")
    }

    fn tree(&self) -> Node {
        let Self {
            poll,
            api,
            credentials,
            instances,
            artifacts: series,
            status,
            causes,
            limits,
            state_path,
        } = self;
        let signature = match api.signature {
            Signature::Acs3HmacSha256 => "acs3-hmac-sha256",
            Signature::HmacSha1 => "hmac-sha1",
        };
        let words = |words: &[String]| Node::List(words.iter().map(Node::text).collect());
        mapping([
            (
                "poll",
                mapping([
                    ("interval", duration(poll.interval)),
                    ("finished_interval", duration(poll.finished_interval)),
                    ("deadline", duration(poll.deadline)),
                    ("timeout", duration(poll.timeout)),
                    ("concurrency", Node::count(poll.concurrency)),
                    ("stale_after", duration(poll.stale_after)),
                ]),
            ),
            (
                "api",
                mapping([
                    ("signature", Node::text(signature)),
                    (
                        "network",
                        Node::text(if api.vpc { "vpc" } else { "public" }),
                    ),
                    ("requests_per_second", Node::Float(api.requests_per_second)),
                    ("burst", Node::Integer(api.burst.into())),
                    ("retries", Node::Integer(api.retries.into())),
                    ("page_size", Node::Integer(api.page_size.into())),
                    ("max_pages", Node::Integer(api.max_pages.into())),
                ]),
            ),
            (
                "credentials",
                Node::Mapping(
                    credentials
                        .iter()
                        .map(|one| (one.name.clone(), entry(one, credentials)))
                        .collect(),
                ),
            ),
            (
                "instances",
                Node::List(
                    instances
                        .iter()
                        .map(|one| instance(one, credentials))
                        .collect(),
                ),
            ),
            ("artifacts", artifacts(*series)),
            (
                "status",
                mapping([
                    ("running", words(&status.running)),
                    ("finished", words(&status.finished)),
                    ("succeeded", words(&status.succeeded)),
                    ("failed", words(&status.failed)),
                ]),
            ),
            ("causes", cause_patterns(causes)),
            (
                "limits",
                mapping([
                    ("series", Node::count(limits.series)),
                    ("artifacts_per_task", Node::count(limits.artifacts_per_task)),
                ]),
            ),
            (
                "state",
                mapping([("path", optional(state_path.as_deref(), path))]),
            ),
        ])
    }
}

fn instance(instance: &Instance, credentials: &[Credentials]) -> Node {
    let tasks = instance.tasks.iter().map(|task| {
        mapping([
            ("id", Node::text(&task.id)),
            ("name", Node::text(&task.name)),
            ("interval", duration(task.interval)),
        ])
    });
    let region = Some(instance.region.as_str()).filter(|region| !region.is_empty());
    mapping([
        ("id", Node::text(&instance.id)),
        ("region", optional(region, Node::text)),
        (
            "credentials",
            Node::text(&credentials[instance.credentials].name),
        ),
        ("endpoint", Node::text(instance.endpoint.url())),
        ("tasks", Node::List(tasks.collect())),
        ("follow", optional(instance.follow.as_ref(), follow)),
    ])
}

fn follow(follow: &Follow) -> Node {
    let patterns = |patterns: &[Pattern]| {
        let one = |pattern: &Pattern| {
            mapping([
                (
                    "repo_namespace",
                    expression(pattern.repo_namespace.as_str()),
                ),
                ("repo_name", expression(pattern.repo_name.as_str())),
            ])
        };
        Node::List(patterns.iter().map(one).collect())
    };
    mapping([
        ("interval", duration(follow.interval)),
        ("include", patterns(&follow.include)),
        ("exclude", patterns(&follow.exclude)),
        ("runs", Node::count(follow.runs)),
        ("max_age", duration(follow.max_age)),
        ("max_tasks", Node::count(follow.max_tasks)),
        ("artifacts", artifacts(follow.artifacts)),
    ])
}

/// Without the anchors that reading has put around it.
fn expression(anchored: &str) -> Node {
    let written = anchored
        .strip_prefix("(?s)^(?:")
        .and_then(|rest| rest.strip_suffix(")$"));
    Node::text(written.unwrap_or(anchored))
}

fn entry(entry: &Credentials, all: &[Credentials]) -> Node {
    let mut keys = Keys(Vec::new());
    match &entry.source {
        CredentialsSource::Default { addresses } => {
            keys.add("type", Node::text("default"));
            keys.sts(addresses);
            keys.metadata(addresses);
        }
        CredentialsSource::AccessKey {
            access_key_id,
            access_key_secret,
            security_token,
        } => {
            keys.add("type", Node::text("access_key"));
            keys.secret("access_key_id", Some(access_key_id));
            keys.secret("access_key_secret", Some(access_key_secret));
            keys.secret("security_token", security_token.as_ref());
        }
        CredentialsSource::Environment => keys.add("type", Node::text("environment")),
        CredentialsSource::Profile {
            name,
            file,
            addresses,
        } => {
            keys.add("type", Node::text("profile"));
            keys.add("profile", optional(name.as_ref(), Node::text));
            keys.add("file", optional(file.as_deref(), path));
            keys.sts(addresses);
            keys.metadata(addresses);
        }
        CredentialsSource::CredentialsFile {
            section,
            file,
            addresses,
        } => {
            keys.add("type", Node::text("credentials_file"));
            keys.add("profile", Node::text(section));
            keys.add("file", optional(file.as_deref(), path));
            keys.sts(addresses);
            keys.metadata(addresses);
        }
        CredentialsSource::Oidc {
            role_arn,
            oidc_provider_arn,
            oidc_token_file,
            session,
            addresses,
        } => {
            keys.add("type", Node::text("oidc"));
            keys.add("role_arn", Node::text(role_arn));
            keys.add("oidc_provider_arn", Node::text(oidc_provider_arn));
            keys.add("oidc_token_file", path(oidc_token_file));
            keys.session(session);
            keys.sts(addresses);
        }
        CredentialsSource::EcsRamRole {
            role_name,
            disable_imdsv1,
            addresses,
        } => {
            keys.add("type", Node::text("ecs_ram_role"));
            keys.add("role_name", optional(role_name.as_ref(), Node::text));
            keys.add("disable_imdsv1", Node::Flag(*disable_imdsv1));
            keys.metadata(addresses);
        }
        CredentialsSource::Uri { uri } => {
            keys.add("type", Node::text("uri"));
            keys.add("uri", Node::text(masked(uri)));
        }
        CredentialsSource::AssumeRole {
            role_arn,
            source,
            external_id,
            session,
            addresses,
        } => {
            keys.add("type", Node::text("assume_role"));
            keys.add("role_arn", Node::text(role_arn));
            keys.add("source", Node::text(&all[*source].name));
            keys.session(session);
            keys.secret("external_id", external_id.as_ref());
            keys.sts(addresses);
        }
    }
    keys.add(
        "quota_group",
        optional(entry.quota_group.as_ref(), Node::text),
    );
    Node::Mapping(keys.0)
}

/// The keys of one entry under `credentials:`.
struct Keys(Vec<(String, Node)>);

impl Keys {
    fn add(&mut self, key: &str, value: Node) {
        self.0.push((key.to_owned(), value));
    }

    fn secret(&mut self, key: &str, secret: Option<&Secret>) {
        match secret {
            None => self.add(key, Node::Null),
            Some(Secret::Inline(_)) => self.add(key, Node::text(MASK)),
            Some(Secret::File(file)) => self.add(&format!("{key}_file"), path(file)),
        }
    }

    fn session(&mut self, session: &RoleSession) {
        self.add("role_session_name", Node::text(&session.name));
        self.add("duration", duration(session.duration));
        self.add("policy", optional(session.policy.as_ref(), Node::text));
    }

    fn sts(&mut self, addresses: &Addresses) {
        let url = addresses.sts.as_ref().map(Endpoint::url);
        self.add("sts_endpoint", optional(url, Node::text));
    }

    fn metadata(&mut self, addresses: &Addresses) {
        self.add("metadata_endpoint", Node::text(addresses.metadata.url()));
    }
}

/// A URI of which user, path and query may be secrets, each: scheme and host.
fn masked(uri: &SecretString) -> String {
    let uri = uri.expose_secret();
    let (scheme, rest) = uri.split_once("://").unwrap_or(("https", uri));
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((_, host)) => (format!("{MASK}@"), host),
        None => (String::new(), authority),
    };
    let tail = if tail.len() > 1 {
        format!("/{MASK}")
    } else {
        String::new()
    };
    format!("{scheme}://{user}{host}{tail}")
}

fn cause_patterns(causes: &CausePatterns) -> Node {
    let texts = |patterns: &[Search]| {
        let texts = patterns.iter().map(|it| Node::text(it.0.as_str()));
        Node::List(texts.collect())
    };
    mapping([
        ("rate_limited", texts(&causes.rate_limited)),
        ("quota", texts(&causes.quota)),
        ("unauthorized", texts(&causes.unauthorized)),
        ("not_found", texts(&causes.not_found)),
        ("network", texts(&causes.network)),
        ("other", texts(&causes.other)),
    ])
}

fn duration(duration: Duration) -> Node {
    Node::text(in_words(duration))
}

fn path(path: &Path) -> Node {
    Node::text(path.to_string_lossy())
}

fn artifacts(artifacts: Artifacts) -> Node {
    Node::text(match artifacts {
        Artifacts::All => "all",
        Artifacts::Failed => "failed",
        Artifacts::None => "none",
    })
}

fn optional<T>(value: Option<T>, shown: impl FnOnce(T) -> Node) -> Node {
    value.map_or(Node::Null, shown)
}

fn mapping<const N: usize>(entries: [(&str, Node); N]) -> Node {
    Node::Mapping(
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

/// A node of the document; mappings keep their order.
enum Node {
    Null,
    Flag(bool),
    Integer(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<(String, Node)>),
}

impl Node {
    fn text(text: impl AsRef<str>) -> Self {
        Self::Text(text.as_ref().to_owned())
    }

    fn count(count: usize) -> Self {
        Self::Integer(count as u64)
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Integer(number) => serializer.serialize_u64(*number),
            Self::Float(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Mapping(entries) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, parse};

    const EXAMPLE: &str = include_str!("../../config.example.yaml");

    /// What `Debug` tells of it is all there is, but for the secrets.
    fn assert_means_the_same(config: &Config, name: &str) {
        let shown = config.shown();
        // A URI may not hold the mask's brackets.
        let readable = shown.replace(MASK, "masked");
        let again =
            parse(&readable, "config.yaml").unwrap_or_else(|e| panic!("{name}: {e}\n{shown}"));
        assert_eq!(format!("{again:#?}"), format!("{config:#?}"), "{name}");
        assert_eq!(again.shown().replace(MASK, "masked"), readable, "{name}");
    }

    #[test]
    fn what_is_shown_means_the_same() {
        assert_means_the_same(&parse(EXAMPLE, "config.yaml").unwrap(), "the example");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/config/good");
        let mut files = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let file = file.unwrap().path();
            assert_means_the_same(&load(&file).unwrap(), &file.display().to_string());
            files += 1;
        }
        assert!(files >= 5, "only {files} files");
        // Texts that YAML would take for something else.
        let odd = r#"{"instances": [{"id": "cri-a", "region": "cn-hangzhou", "tasks": [
            {"id": "crast-1", "name": "on"}, {"id": "crast-2", "name": "1e3"},
            {"id": "crast-3", "name": "a: b # c"}, {"id": "crast-4", "name": "\"'\n\t\\ "},
            {"id": "crast-5", "name": "- x"}, {"id": "crast-6", "name": "!tag *a &b %c @d `e"},
            {"id": "crast-7", "name": "null"}, {"id": "crast-8", "name": "{a}"},
            {"id": "crast-9", "name": "<<"}, {"id": "crast-10", "name": "\u00a0\u2028x\u0085"},
            {"id": "crast-11", "name": "0x10"}, {"id": "crast-12", "name": "12:30:45"}
        ]}]}"#;
        assert_means_the_same(&parse(odd, "config.yaml").unwrap(), "odd names");
    }

    #[test]
    fn every_default_is_filled_in() {
        let minimal = "instances: [{id: cri-a, region: cn-hangzhou, tasks: [crast-1], follow: {}}]";
        assert_eq!(
            parse(minimal, "config.yaml").unwrap().shown(),
            "poll:
  interval: 1m
  finished_interval: 1h
  deadline: 2m
  timeout: 10s
  concurrency: 8
  stale_after: 5m
api:
  signature: acs3-hmac-sha256
  network: public
  requests_per_second: 5.0
  burst: 5
  retries: 3
  page_size: 100
  max_pages: 100
credentials:
  default:
    type: default
    sts_endpoint: null
    metadata_endpoint: http://100.100.100.200
    quota_group: null
instances:
- id: cri-a
  region: cn-hangzhou
  credentials: default
  endpoint: https://cr.cn-hangzhou.aliyuncs.com
  tasks:
  - id: crast-1
    name: crast-1
    interval: 1m
  follow:
    interval: 5m
    include: []
    exclude: []
    runs: 1
    max_age: 30d
    max_tasks: 1000
    artifacts: failed
artifacts: all
status:
  running: []
  finished: []
  succeeded: []
  failed: []
causes:
  rate_limited: []
  quota: []
  unauthorized: []
  not_found: []
  network: []
  other: []
limits:
  series: 200000
  artifacts_per_task: 500
state:
  path: null
"
        );
    }

    #[test]
    fn no_secret_is_shown() {
        let text = r#"
credentials:
  keys: { type: access_key, access_key_id: hidden-id, access_key_secret: hidden-secret, security_token: hidden-token }
  files: { type: access_key, access_key_id_file: a/id, access_key_secret_file: /b/secret }
  role: { type: assume_role, role_arn: "acs:ram::1:role/a", source: keys, external_id: hidden-external-id }
  sidecar: { type: uri, uri: "http://hidden-user:hidden-password@localhost:8080/hidden-path?token=hidden-query" }
  bare: { type: uri, uri: "https://keys.example.com/" }
instances:
- { id: cri-1, region: cn-hangzhou, credentials: files, tasks: [crast-1] }
- { id: cri-2, region: cn-hangzhou, credentials: role, tasks: [crast-1] }
- { id: cri-3, region: cn-hangzhou, credentials: sidecar, tasks: [crast-1] }
- { id: cri-4, region: cn-hangzhou, credentials: bare, tasks: [crast-1] }
"#;
        let shown = parse(text, "config.yaml").unwrap().shown();
        assert!(!shown.contains("hidden"), "{shown}");
        for line in [
            "    access_key_id: <secret>",
            "    access_key_secret: <secret>",
            "    security_token: <secret>",
            "    external_id: <secret>",
            "    uri: http://<secret>@localhost:8080/<secret>",
            "    uri: https://keys.example.com",
            "    access_key_id_file: a/id",
            "    access_key_secret_file: /b/secret",
        ] {
            assert!(shown.lines().any(|this| this == line), "{line}\n{shown}");
        }
    }
}
