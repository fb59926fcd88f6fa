//! The configuration: composes the settings that the rooms declare, and checks
//! what only all of them together show.
//!
//! A key is declared once, in the settings struct of the room that uses it.
//! Reading, validation, `/config`, the schema and the documentation's tables
//! follow from there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io::{self, Read as _};
use std::ops::Deref;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use settings::{
    Period, Place, Reader, did_you_mean, not_quoted, quoted, seconds, short_or_long, text_value,
};

use crate::api;
use crate::follow;
use crate::model::settings::{CausePatterns, StatusWords};
use crate::poll;
use crate::regions;
use crate::store::ArtifactSeries;
use crate::store::settings::{SeriesLimits, StateSettings};
use alibaba_cloud::credentials::entry::{Entry, Source};
use alibaba_cloud::credentials::values::{Endpoint, Region};
use alibaba_cloud::regions::NoEndpoint;

pub use settings::Mistake;

/// The JSON Schema of the file, for editors; a test holds it to the types.
pub const SCHEMA: &str = include_str!("config/schema.json");

/// Larger files are no configuration; a hundred thousand tasks take a tenth.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The entry that instances use unless they name another; the official chain
/// unless the file defines it.
const DEFAULT_CREDENTIALS: &str = "default";

/// A longer circle is shown with its first entries alone.
const MAX_SHOWN: usize = 8;

/// The file `config.yaml`. Only `instances` is required.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Configuration of aliyun-acr-exporter", extend("required" = ["instances"]))]
pub struct Config {
    /// How often and how patiently tasks are polled.
    #[serde(default)]
    pub poll: poll::settings::Settings,
    /// How the cloud is asked.
    #[serde(default)]
    pub api: api::settings::Settings,
    /// Named accounts. The entry `default` exists without being written: the official chain.
    #[serde(default)]
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9_.-]{1,64}$"}))]
    pub credentials: BTreeMap<String, Entry>,
    /// The registry instances, and their tasks.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub instances: Vec<Instance>,
    /// Which artifacts of configured tasks get series of their own.
    #[serde(default)]
    pub artifacts: ArtifactSeries,
    /// Words of the cloud, added to the built-in ones; case does not matter.
    #[serde(default)]
    pub status: StatusWords,
    /// Regular expressions on the message of a failed task, tried before the built-in ones.
    #[serde(default)]
    pub causes: CausePatterns,
    /// What bounds the metrics of what is watched.
    #[serde(default)]
    pub limits: SeriesLimits,
    /// What survives a restart.
    #[serde(default)]
    pub state: StateSettings,
}

/// One registry instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// The id of the instance; each instance is listed once.
    pub id: InstanceId,
    /// The region of the instance; required unless `endpoint` is given.
    #[serde(default)]
    pub region: Option<Region>,
    /// The entry under `credentials` whose keys are used.
    #[serde(default = "default_credentials")]
    pub credentials: String,
    /// The server of the API; replaces the one of `region` and `api.network`. Plain http only to
    /// a loopback address. With it, the region may be one that this version does not know.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// The tasks to watch, each an id or a mapping; required unless `follow` is given.
    #[serde(default, deserialize_with = "tasks")]
    #[schemars(with = "Vec<TaskForm>")]
    pub tasks: Vec<Task>,
    /// Finds the tasks instead of naming them; `{}` takes the defaults. Left out, none are found.
    #[serde(default)]
    pub follow: Option<follow::settings::Settings>,
}

fn default_credentials() -> String {
    DEFAULT_CREDENTIALS.to_owned()
}

/// One configured task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The id of the task; each task is listed once in its instance.
    pub id: TaskId,
    /// The label `task`, which several tasks may share; left out, the id.
    #[serde(default)]
    pub name: Option<TaskName>,
    /// The interval of this task; left out, `poll.interval`.
    #[serde(default)]
    pub interval: Option<TaskInterval>,
}

/// The interval of one task.
pub type TaskInterval = Period<{ seconds(60) }, { seconds(1) }>;

/// One of `tasks:`; the short form has an id alone.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the schema of what is read")]
enum TaskForm {
    Short(TaskId),
    Long(Task),
}

/// Reads [`TaskForm`]s.
fn tasks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Task>, D::Error> {
    struct Form(Task);
    impl<'de> Deserialize<'de> for Form {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let short = |id: &str| {
                let id = id.parse()?;
                Ok(Task {
                    id,
                    name: None,
                    interval: None,
                })
            };
            let expected = "the id of a task or a mapping with id, name and interval";
            short_or_long(deserializer, short, expected).map(Self)
        }
    }
    let forms = Vec::<Form>::deserialize(deserializer)?;
    Ok(forms.into_iter().map(|Form(task)| task).collect())
}

/// Declares texts that differ in which are usable.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $check:expr, $schema:tt;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name(String);

        text_value!($name, "a text", $schema);

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let check: fn(&str) -> Result<(), String> = $check;
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }
    )* };
}

texts! {
    /// `cri-…`
    InstanceId: |text| id(text, "cri-"), {
        "type": "string", "pattern": "^cri-[A-Za-z0-9_-]{1,124}$", "examples": ["cri-90fxryf9pwf0abcd"],
    };
    /// `crast-…`
    TaskId: |text| id(text, "crast-"), {
        "type": "string", "pattern": "^crast-[A-Za-z0-9_-]{1,122}$", "examples": ["crast-y64sq01bgad0abcd", "crast-wkpfwqozjiq0abcd"],
    };
    /// A name that a person gave to a task.
    TaskName: |text| {
        if text.trim().is_empty() || text.chars().count() > 256 {
            return Err("must be a name of 1 to 256 characters; leave it out to use the id".to_owned());
        }
        Ok(())
    }, { "type": "string", "pattern": "\\S", "maxLength": 256 };
}

/// Refuses what cannot be an id that starts with `prefix`.
fn id(text: &str, prefix: &str) -> Result<(), String> {
    let body = text.strip_prefix(prefix).unwrap_or_default();
    let is_id = !body.is_empty()
        && text.len() <= 128
        && body
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_id {
        return Ok(());
    }
    // A secret in its place does not start so.
    let not = if text.starts_with("cr") {
        not_quoted(text)
    } else {
        String::new()
    };
    Err(format!(
        "must be an id: {prefix}, then letters, digits, - and _, at most 128 characters in all{not}"
    ))
}

impl Instance {
    /// The region, "" where only an endpoint is known.
    pub fn region(&self) -> &str {
        self.region.as_deref().unwrap_or_default()
    }

    /// Where the API of this instance answers, as `https://HOST`.
    pub fn url(&self) -> String {
        self.endpoint
            .as_ref()
            .map(Endpoint::url)
            .unwrap_or_default()
    }
}

impl Task {
    /// The label `task`.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    /// The interval of this task, or that of all.
    pub fn interval(&self, poll: &poll::settings::Settings) -> Duration {
        self.interval.as_deref().copied().unwrap_or(*poll.interval)
    }
}

impl Config {
    /// The configuration as `/config` shows it: every default filled in, secrets masked.
    /// It is a configuration itself: read again, it means the same, but for the secrets.
    pub fn shown(&self) -> String {
        settings::show(self)
    }

    /// The names of the entries under `credentials` that instances lead to, each
    /// behind the one that its keys come from.
    pub fn used_credentials(&self) -> Vec<&str> {
        let mut used = Vec::new();
        for instance in &self.instances {
            let mut chain = Vec::new();
            let mut next = Some(instance.credentials.as_str());
            while let Some(name) = next.filter(|name| !used.contains(name)) {
                chain.push(name);
                next = self
                    .credentials
                    .get(name)
                    .and_then(|entry| match &entry.source {
                        Source::AssumeRole(role) => Some(role.source.as_str()),
                        _ => None,
                    });
            }
            used.extend(chain.into_iter().rev());
        }
        used
    }

    /// Checks values against one another, and fills in what follows from others.
    fn check(&mut self, at: &Place<'_>, path: &Path) {
        self.poll.check(&at.get("poll"));
        StatusWords::check(&at.get("status"));
        self.check_state(&at.get("state").get("path"), path);
        let is_vpc = self.api.network.is_vpc();
        let names = check_credentials(&at.get("credentials"), is_vpc);
        check_instances(&at.get("instances"), &names, is_vpc);
        self.credentials.entry(default_credentials()).or_default();
        for instance in &mut self.instances {
            if let (None, Some(region)) = (&instance.endpoint, &instance.region) {
                let host = regions::service_host(region, is_vpc);
                instance.endpoint = host.ok().map(Endpoint::https);
            }
            for task in &mut instance.tasks {
                let id = || TaskName(task.id.to_string());
                task.name.get_or_insert_with(id);
                let interval = TaskInterval::of(*self.poll.interval);
                task.interval.get_or_insert(interval);
            }
        }
    }

    fn check_state(&mut self, at: &Place<'_>, path: &Path) {
        let named = |path: &Path| -> PathBuf {
            let parts = path.components();
            parts.filter(|part| *part != Component::CurDir).collect()
        };
        if let Some(state) = &self.state.path
            && named(state) == named(path)
        {
            at.refuse("is this file itself, which the state would replace; name another one");
        }
    }
}

/// Checks the entries under `credentials:`; returns the names that others may use.
fn check_credentials<'a>(at: &Place<'a>, is_vpc: bool) -> Vec<&'a str> {
    let entries = at.entries();
    let mut names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
    if !names.contains(&DEFAULT_CREDENTIALS) {
        names.push(DEFAULT_CREDENTIALS);
    }
    let sources: HashMap<&str, &str> = entries
        .iter()
        .filter(|(_, entry)| entry.get("type").text() == Some("assume_role"))
        .filter_map(|(name, entry)| Some((*name, entry.get("source").text()?)))
        .collect();
    let mut seen = HashSet::new();
    for (name, entry) in &entries {
        let is_name = (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if !is_name {
            entry.refuse("a name consists of letters, digits, _, . and -, at most 64 of them");
        }
        check_addresses(entry, is_vpc);
        if let Some(source) = sources.get(name) {
            check_reference(&entry.get("source"), source, &names);
            check_circle(&entry.get("source"), name, &sources, &mut seen);
        }
    }
    names
}

/// Whether STS and where it answers are known.
fn check_addresses(entry: &Place<'_>, is_vpc: bool) {
    let (region, endpoint) = (entry.get("sts_region"), entry.get("sts_endpoint"));
    let asks_sts = matches!(entry.get("type").text(), Some("oidc" | "assume_role"));
    match (region.text(), endpoint.is_written()) {
        (Some(_), true) => {
            endpoint.refuse("sts_region is written as well; remove one of the two");
        }
        (Some(_), _) if !region.is_sound() => {}
        (Some(id), _) => match alibaba_cloud::regions::sts_host(Some(id), is_vpc) {
            Ok(_) => {}
            Err(NoEndpoint::UnknownRegion) => region.refuse(unknown_region(id, "sts_endpoint")),
            Err(NoEndpoint::NotInVpc) => region.refuse(
                "STS has no endpoint within VPCs in this region; use another region, set sts_endpoint, or api.network to public",
            ),
            Err(NoEndpoint::NotInRegion) => region.refuse(
                "STS has no known endpoint in this region; use another region, or set sts_endpoint",
            ),
        },
        (None, false) if is_vpc && asks_sts && !region.is_written() => region.refuse(
            "is missing; within VPCs STS has no central endpoint: write a region, or sts_endpoint",
        ),
        _ => {}
    }
}

/// `key` is how to use a region that the table does not have.
fn unknown_region(region: &str, key: &str) -> String {
    let meant = did_you_mean(region, alibaba_cloud::regions::ids());
    let word = quoted(region);
    format!("unknown region{word}{meant}; set {key} for a region that this version does not know")
}

fn check_reference(at: &Place<'_>, name: &str, names: &[&str]) {
    if !names.contains(&name) {
        let meant = did_you_mean(name, names.iter().copied());
        // What is pasted as a name may be a secret.
        let shown = names.iter().filter(|name| !quoted(name).is_empty());
        let shown: Vec<&str> = shown.copied().collect();
        let names = shown.join(", ");
        at.refuse(format!(
            "no entry of this name under credentials{meant}; defined are {names}"
        ));
    }
}

/// Refuses an entry that leads back to itself; each circle once.
fn check_circle<'a>(
    at: &Place<'a>,
    first: &'a str,
    sources: &HashMap<&'a str, &'a str>,
    seen: &mut HashSet<&'a str>,
) {
    let mut way = Vec::new();
    let mut next = first;
    while let Some(source) = sources.get(next) {
        if *source == first {
            if seen.contains(first) {
                return;
            }
            seen.extend(way.iter().copied());
            seen.insert(first);
            return at.refuse(circle(first, &way));
        }
        if way.contains(source) {
            // A circle that this entry only leads to.
            return;
        }
        way.push(source);
        next = source;
    }
}

/// What is said about entries that use one another's keys.
fn circle(first: &str, others: &[&str]) -> String {
    if others.is_empty() {
        return "is this entry itself; name another one, whose keys assume the role".to_owned();
    }
    let more = if others.len() > MAX_SHOWN {
        ", …"
    } else {
        ""
    };
    let way = others[..others.len().min(MAX_SHOWN)].join(", ");
    format!("leads back to {first} by way of {way}{more}; one of them must have keys of its own")
}

fn check_instances(at: &Place<'_>, names: &[&str], is_vpc: bool) {
    if at.is_sound() && !at.is_filled() {
        at.refuse("must list at least one instance, such as {id: cri-…, region: cn-hangzhou, tasks: [crast-…]}");
    }
    let mut instances = HashMap::new();
    for instance in at.items() {
        check_once(&instance.get("id"), "instance", &mut instances);
        check_endpoint(&instance, is_vpc);
        let credentials = instance.get("credentials");
        if let Some(name) = credentials.text() {
            check_reference(&credentials, name, names);
        }
        let (list, follow) = (instance.get("tasks"), instance.get("follow"));
        if instance.is_mapping() && !list.is_filled() && list.is_sound() && !follow.is_written() {
            list.refuse(
                "must name at least one task, such as [crast-…]; or find them all with follow: {}",
            );
        }
        let mut tasks = HashMap::new();
        for task in list.items() {
            let id = task.get("id");
            check_once(
                if task.text().is_some() { &task } else { &id },
                "task",
                &mut tasks,
            );
        }
        follow::settings::Settings::check(&follow);
    }
}

/// Refuses an id that stands elsewhere already.
fn check_once<'a>(id: &Place<'a>, what: &str, lines: &mut HashMap<&'a str, u64>) {
    if let Some(text) = id.text()
        && id.is_sound()
        && let Some(first) = lines.insert(text, id.line())
    {
        id.refuse(format!(
            "duplicate {what}; the first one is at line {first}"
        ));
    }
}

fn check_endpoint(instance: &Place<'_>, is_vpc: bool) {
    let region = instance.get("region");
    if instance.get("endpoint").is_written() || !region.is_sound() {
        return;
    }
    match region
        .text()
        .map(|id| (id, regions::service_host(id, is_vpc)))
    {
        Some((id, Err(NoEndpoint::UnknownRegion))) => {
            region.refuse(unknown_region(id, "endpoint"));
        }
        Some((_, Err(NoEndpoint::NotInVpc | NoEndpoint::NotInRegion))) => region.refuse(
            "this region has no endpoint within VPCs; set endpoint, or api.network to public",
        ),
        None if instance.is_mapping() => {
            region.refuse("is missing; write the region of the instance, such as cn-hangzhou");
        }
        Some((_, Ok(_))) | None => {}
    }
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
    /// The file was read and has these mistakes, in its order; one a line.
    #[error("{}", lines(.0))]
    Mistakes(Vec<Mistake>),
}

fn lines(mistakes: &[Mistake]) -> String {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    lines.join("\n")
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
/// [`Error::Mistakes`]: one of YAML's syntax, or that it is too large or no text,
/// alone; or else every other one.
pub fn judge(bytes: &[u8], path: &Path) -> Result<Config, Error> {
    let file_name = path.display().to_string();
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::Mistakes(vec![Mistake {
            file: file_name,
            line: 1,
            column: 1,
            path: String::new(),
            message: format!("larger than {} MiB", MAX_BYTES / 1024 / 1024),
        }]));
    }
    let reader = Reader {
        file_name: &file_name,
        folder: path.parent().unwrap_or(Path::new("")),
        schema: SCHEMA,
    };
    let (mut config, document) = reader
        .read_bytes::<Config>(bytes)
        .map_err(Error::Mistakes)?;
    if let Some(config) = &mut config {
        config.check(&document.root(), path);
    }
    document.finish(config).map_err(Error::Mistakes)
}

/// Judges `text`, which came from the file `file_name`; relative paths in it
/// are relative to that file's folder.
///
/// # Errors
///
/// As [`judge`].
pub fn parse(text: &str, file_name: &str) -> Result<Config, Error> {
    judge(text.as_bytes(), Path::new(file_name))
}
