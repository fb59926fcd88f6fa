//! Credentials that a file of the vendor's tools declares: a profile of the command line tool, in
//! `~/.aliyun/config.json`, or a section of the file that the SDKs share,
//! `~/.alibabacloud/credentials` or `credentials.ini`. Read whenever credentials are needed, since
//! the tools change them.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use settings::FilePath;

use super::assume_role::AssumeRole;
use super::ecs_ram_role::EcsRamRole;
use super::external::Command;
use super::files::{KeyFiles, unreadable};
use super::oidc::Oidc;
use super::static_key::{Setting, StaticKey};
use super::sts::Role;
use super::values::{Endpoint, MetadataEndpoint, Name, Region};
use super::{Context, Credentials, Error, ProvideCredentials};

/// `type: profile`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileSettings {
    /// The name of the profile; left out, the one that the file calls `current`.
    #[serde(default)]
    pub profile: Option<Name>,
    /// The file of the tool; left out, `~/.aliyun/config.json`.
    #[serde(default)]
    pub file: Option<FilePath>,
    /// The region whose STS is asked; left out, what the profile says, else the central STS.
    #[serde(default)]
    pub sts_region: Option<Region>,
    /// The server of STS; replaces `sts_region`. Plain http only to a loopback address.
    #[serde(default)]
    pub sts_endpoint: Option<Endpoint>,
    /// The metadata service of ECS instances.
    #[serde(default)]
    pub metadata_endpoint: MetadataEndpoint,
}

/// `type: credentials_file`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "CredentialsFileSettings", deny_unknown_fields)]
pub struct SectionSettings {
    /// The section; left out, `default`.
    #[serde(default)]
    pub profile: Option<Name>,
    /// The file; left out, `~/.alibabacloud/credentials` or `~/.alibabacloud/credentials.ini`.
    #[serde(default)]
    pub file: Option<FilePath>,
    /// The region whose STS is asked; left out, the central STS.
    #[serde(default)]
    pub sts_region: Option<Region>,
    /// The server of STS; replaces `sts_region`. Plain http only to a loopback address.
    #[serde(default)]
    pub sts_endpoint: Option<Endpoint>,
    /// The metadata service of ECS instances.
    #[serde(default)]
    pub metadata_endpoint: MetadataEndpoint,
}

/// The fields of a profile or section.
type Fields = Map<String, Value>;
/// Profiles or sections, by name.
type Entries = Vec<(String, Fields)>;
type Source = Arc<dyn ProvideCredentials>;
/// The entries of a file, and the name of the one to use if none is named.
type Parsed = Result<(Entries, Option<String>), String>;

/// One of the two files.
struct Format {
    provider: &'static str,
    /// Below the home directory.
    files: &'static [&'static str],
    parse: fn(&str) -> Parsed,
    /// How an entry is called in messages, and what goes before it where the provider is not named.
    label: fn(&str) -> String,
    noun: &'static str,
    /// The key of the kind.
    kind: &'static str,
    kinds: &'static [(&'static str, Kind)],
    /// How it spells what the other one spells differently.
    token: &'static str,
    role_arn: &'static str,
    role_name: &'static str,
    oidc_token_file: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    AccessKey,
    TemporaryKey,
    /// Assumed with an access key of the same entry.
    Role,
    /// Assumed with the credentials of another entry.
    ChainedRole,
    Oidc,
    EcsRamRole,
    External,
    Unsupported,
}

static PROFILE: Format = Format {
    provider: "profile",
    files: &[".aliyun/config.json"],
    parse: parse_profiles,
    label: |name| format!("\"{name}\""),
    noun: "profile ",
    kind: "mode",
    kinds: &[
        ("AK", Kind::AccessKey),
        ("StsToken", Kind::TemporaryKey),
        ("RamRoleArn", Kind::Role),
        ("ChainableRamRoleArn", Kind::ChainedRole),
        ("EcsRamRole", Kind::EcsRamRole),
        ("OIDC", Kind::Oidc),
        ("External", Kind::External),
        // Both need a person at a browser.
        ("CloudSSO", Kind::Unsupported),
        ("OAuth", Kind::Unsupported),
    ],
    token: "sts_token",
    role_arn: "ram_role_arn",
    role_name: "ram_role_name",
    oidc_token_file: "oidc_token_file",
};

static SECTION: Format = Format {
    provider: "credentials_file",
    files: &[".alibabacloud/credentials", ".alibabacloud/credentials.ini"],
    parse: parse_sections,
    label: |name| format!("section [{name}]"),
    noun: "",
    kind: "type",
    kinds: &[
        ("access_key", Kind::AccessKey),
        ("sts", Kind::TemporaryKey),
        ("ram_role_arn", Kind::Role),
        ("oidc_role_arn", Kind::Oidc),
        ("ecs_ram_role", Kind::EcsRamRole),
        ("rsa_key_pair", Kind::Unsupported),
    ],
    token: "security_token",
    role_arn: "role_arn",
    role_name: "role_name",
    oidc_token_file: "oidc_token_file_path",
};

/// The provider.
pub struct VendorFile {
    format: &'static Format,
    context: Context,
    file: Option<PathBuf>,
    name: Option<String>,
    key_files: KeyFiles,
}

impl VendorFile {
    /// The profile `name` of `file`; without a name the file's current one, without a file the
    /// one below [`Context::home`].
    pub fn profile(context: &Context, file: Option<PathBuf>, name: Option<String>) -> Self {
        Self {
            format: &PROFILE,
            context: context.clone(),
            file,
            name,
            key_files: KeyFiles::default(),
        }
    }

    /// The section `name` of `file`; without a name `default`, without a file the first of the
    /// two below [`Context::home`] that has it. A section or file that is named and is nowhere
    /// makes this provider a broken one.
    pub fn section(context: &Context, file: Option<PathBuf>, name: Option<String>) -> Self {
        Self {
            format: &SECTION,
            ..Self::profile(context, file, name)
        }
    }

    async fn read(&self) -> Result<Credentials, Error> {
        let (file, entries, name) = self.find().await?;
        let told = |problem: &str| {
            let label = (self.format.label)(&name);
            format!("{label} of {}: {problem}", file.display())
        };
        let source = self.source(&entries, &name, &mut Vec::new());
        let Some(source) = source.map_err(|problem| self.broken(told(&problem)))? else {
            return Err(self.unused(told("holds nothing yet")));
        };
        // One that is not configured is broken here: the entry asks for it.
        let provided = source.provide().await;
        Ok(Credentials {
            provider: self.format.provider,
            ..provided.map_err(|error| error.within(self.format.provider, told))?
        })
    }

    /// The first file with the entry, what it declares, and the entry's name.
    async fn find(&self) -> Result<(PathBuf, Entries, String), Error> {
        let paths = self.format.files;
        let files: Vec<PathBuf> = match (&self.file, &self.context.home) {
            (Some(file), _) => vec![file.clone()],
            (None, Some(home)) => paths.iter().map(|path| home.join(path)).collect(),
            (None, None) => {
                let why = format!("HOME is not set, so ~/{} is not known", paths[0]);
                return Err(self.absent(&why, false));
            }
        };
        let mut missing = Vec::new();
        let mut is_dangling = false;
        for file in files {
            let shown = file.display();
            let text = match self.key_files.find(&file, self.file.is_some()).await {
                Ok(Ok(text)) => text,
                Ok(Err(absent)) => {
                    missing.push(unreadable(&file, &absent));
                    continue;
                }
                Err(error) => return Err(self.broken(unreadable(&file, &error))),
            };
            let parsed = (self.format.parse)(text.expose_secret());
            let (entries, current) =
                parsed.map_err(|problem| self.broken(format!("{shown}: {problem}")))?;
            let Some(name) = self.name.clone().or(current) else {
                let why = format!("{shown} has no current profile, and none is named");
                return Err(self.unused(why));
            };
            if find(&entries, &name).is_some() {
                return Ok((file, entries, name));
            }
            missing.push(format!(
                "{shown} has no {}{}",
                self.format.noun,
                (self.format.label)(&name)
            ));
            is_dangling = self.name.is_none();
        }
        Err(self.absent(&missing.join(", "), is_dangling))
    }

    /// A profile that is named may be a section of that name, which a chain tries next; a current
    /// profile that is missing is a mistake. A section or its file that is named is meant.
    fn absent(&self, why: &str, is_dangling: bool) -> Error {
        match &self.name {
            _ if self.format.kind == PROFILE.kind && is_dangling => self.broken(why.to_owned()),
            _ if self.format.kind == PROFILE.kind => {
                Error::not_configured(self.format.provider, why)
            }
            Some(name) => self.broken(format!("{} is nowhere: {why}", (self.format.label)(name))),
            None => self.unused(why.to_owned()),
        }
    }

    /// A file that is named is meant; the one of the home directory may be unused.
    fn unused(&self, why: String) -> Error {
        match &self.file {
            Some(_) => self.broken(why),
            None => Error::not_configured(self.format.provider, why),
        }
    }

    /// Where the credentials of the entry `name` come from, `None` if it holds nothing; `seen`
    /// are the entries on the way to it.
    fn source(
        &self,
        entries: &Entries,
        name: &str,
        seen: &mut Vec<String>,
    ) -> Result<Option<Source>, String> {
        let is_circle = seen.iter().any(|known| known == name);
        seen.push(name.to_owned());
        if is_circle {
            return Err(format!("circular source: {}", seen.join(" -> ")));
        }
        let fields = find(entries, name).ok_or(format!("there is no profile \"{name}\""))?;
        let need = |key: &str| needed(fields, key).map(str::to_owned);
        let key = |token| key(fields, token).map(Arc::new);
        let source: Source = match self.kind(fields)? {
            Kind::AccessKey if self.format.kind == PROFILE.kind && is_blank(fields)? => {
                return Ok(None);
            }
            Kind::AccessKey => key(None)?,
            Kind::TemporaryKey => key(Some(self.format.token))?,
            Kind::Role => self.assume(fields, key(None)?)?,
            Kind::ChainedRole => {
                let base = need("source_profile")?;
                let base = self.source(entries, &base, seen)?;
                self.assume(fields, base.ok_or("access_key_id is missing")?)?
            }
            Kind::Oidc => Arc::new(Oidc::new(
                &self.sts_context(fields)?,
                self.role(fields)?,
                need("oidc_provider_arn")?,
                need(self.format.oidc_token_file)?,
            )),
            Kind::EcsRamRole => {
                let role_name = text_of(fields, self.format.role_name)?.map(str::to_owned);
                Arc::new(EcsRamRole::new(&self.context, role_name, false))
            }
            Kind::External => Arc::new(Command(need("process_command")?)),
            Kind::Unsupported => {
                let (kind, word) = (self.format.kind, needed(fields, self.format.kind)?);
                let instead = "use a RAM role or an access key";
                return Err(format!("{kind} {word} is not supported; {instead}"));
            }
        };
        Ok(Some(source))
    }

    fn kind(&self, fields: &Fields) -> Result<Kind, String> {
        let Format { kind, kinds, .. } = self.format;
        let word = match text_of(fields, kind)? {
            None if *kind == PROFILE.kind => "AK",
            None => return Err(format!("{kind} is missing")),
            Some(word) => word,
        };
        let found = kinds.iter().find(|(known, _)| *known == word);
        found.map(|(_, kind)| *kind).ok_or_else(|| {
            let words = kinds
                .iter()
                .filter(|(_, kind)| !matches!(kind, Kind::Unsupported));
            let words: Vec<_> = words.map(|(word, _)| *word).collect();
            format!("{kind} must be one of {}", words.join(", "))
        })
    }

    fn assume(&self, fields: &Fields, base: Source) -> Result<Source, String> {
        let role = self.role(fields)?;
        Ok(Arc::new(AssumeRole::new(
            &self.sts_context(fields)?,
            role,
            base,
        )))
    }

    fn role(&self, fields: &Fields) -> Result<Role, String> {
        let text = |key| text_of(fields, key).map(|value| value.map(str::to_owned));
        // 0 is what the tool writes if it did not ask.
        let seconds = parsed::<u64>(fields, "expired_seconds", "a whole number of seconds")?;
        Ok(Role {
            arn: needed(fields, self.format.role_arn)?.to_owned(),
            // The official clients do not agree.
            session_name: text("ram_session_name")?.or(text("role_session_name")?),
            duration: seconds
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            external_id: text("external_id")?.map(|id| Setting::Inline(id.into())),
            policy: text("policy")?,
        })
    }

    /// With the entry's own STS, if it names one.
    fn sts_context(&self, fields: &Fields) -> Result<Context, String> {
        let mut context = self.context.clone();
        if let Some(region) = text_of(fields, "sts_region")? {
            context.addresses.sts_region = Some(region.to_owned());
        }
        if let Some(vpc) = parsed(fields, "enable_vpc", "true or false")? {
            context.addresses.vpc = vpc;
        }
        Ok(context)
    }

    fn broken(&self, problem: String) -> Error {
        Error::broken(self.format.provider, problem)
    }
}

impl ProvideCredentials for VendorFile {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(self.read())
    }
}

fn find<'a>(entries: &'a Entries, name: &str) -> Option<&'a Fields> {
    let found = entries.iter().find(|(known, _)| known == name);
    found.map(|(_, fields)| fields)
}

fn key(fields: &Fields, token: Option<&str>) -> Result<StaticKey, String> {
    let inline = |key| needed(fields, key).map(|value| Setting::Inline(value.into()));
    let token = token.map(inline).transpose()?;
    Ok(StaticKey::new(
        inline("access_key_id")?,
        inline("access_key_secret")?,
        token,
    ))
}

/// The tool writes such a profile before anybody has configured it.
fn is_blank(fields: &Fields) -> Result<bool, String> {
    let id = text_of(fields, "access_key_id")?;
    Ok(id.is_none() && text_of(fields, "access_key_secret")?.is_none())
}

fn needed<'a>(fields: &'a Fields, key: &str) -> Result<&'a str, String> {
    text_of(fields, key)?.ok_or_else(|| format!("{key} is missing"))
}

/// A string that is not empty, which is how the tool writes "not set". Anything else is a mistake,
/// and is not quoted.
fn text_of<'a>(fields: &'a Fields, key: &str) -> Result<Option<&'a str>, String> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some(_) => Err(format!("{key} must be a string")),
    }
}

/// A number or a boolean, which some tools write as a string.
fn parsed<T: FromStr>(fields: &Fields, key: &str, wanted: &str) -> Result<Option<T>, String> {
    let text = match fields.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(value) => value.to_string(),
    };
    let wrong = |_| format!("{key} must be {wanted}");
    text.parse().map(Some).map_err(wrong)
}

/// The profiles of the command line tool's file.
fn parse_profiles(text: &str) -> Parsed {
    let config = serde_json::from_str(text).map_err(|error| {
        // The parser's own text may quote.
        let (line, column) = (error.line(), error.column());
        format!("not JSON (line {line}, column {column})")
    })?;
    let Value::Object(mut config) = config else {
        return Err("not a JSON object".to_owned());
    };
    let current = text_of(&config, "current")?.map(str::to_owned);
    let profiles = match config.remove("profiles").unwrap_or_default() {
        Value::Null => Vec::new(),
        Value::Array(profiles) => profiles,
        _ => return Err("profiles must be a list".to_owned()),
    };
    let named = profiles.into_iter().filter_map(|profile| match profile {
        Value::Object(fields) => Some((text_of(&fields, "name").ok()??.to_owned(), fields)),
        _ => None,
    });
    Ok((named.collect(), current))
}

/// The sections of an ini file, as the official clients read it: `KEY = VALUE`
/// or `KEY: VALUE`, keys in any case, comments behind `#` anywhere and `;` at the
/// start of a line. `Err` names the line and does not quote it.
fn parse_sections(text: &str) -> Parsed {
    let mut entries = Entries::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let wrong = |problem: &str| Err(format!("line {} {problem}", index + 1));
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').map(str::trim).unwrap_or_default();
            if name.is_empty() {
                return wrong("should be [SECTION]");
            }
            if find(&entries, name).is_some() {
                return wrong("begins a section for the second time");
            }
            entries.push((name.to_owned(), Fields::new()));
            continue;
        }
        let Some((key, value)) = line.split_once(['=', ':']) else {
            return wrong("should be KEY = VALUE");
        };
        let Some((_, section)) = entries.last_mut() else {
            return wrong("is before any [SECTION]");
        };
        let key = key.trim().to_ascii_lowercase();
        if section.insert(key, value.trim().into()).is_some() {
            return wrong("sets a key for the second time");
        }
    }
    Ok((entries, Some("default".to_owned())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::clock::Clock;
    use crate::credentials::Addresses;
    use crate::http::Http;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,4}".prop_map(Value::from),
            Just(json!([{"name": "x"}])),
            Just(json!({"name": "x"})),
        ]
    }

    fn profile() -> VendorFile {
        let context = Context {
            name: "test".to_owned(),
            http: Http::with_roots("test", rustls::RootCertStore::empty()).expect("TLS"),
            observer: Arc::new(()),
            clock: Clock::fixed(0),
            addresses: Addresses::default(),
            home: None,
            session_name: "test".to_owned(),
        };
        VendorFile::profile(&context, None, None)
    }

    #[test]
    fn what_the_tool_writes_for_nothing_is_nothing() {
        let source = |fields: Value| {
            let fields = fields.as_object().expect("an object").clone();
            let source = profile().source(&vec![("x".to_owned(), fields)], "x", &mut Vec::new());
            source.map(|source| source.is_some())
        };
        let blank =
            json!({"name": "default", "mode": "", "access_key_id": "", "expired_seconds": 0});
        assert_eq!(source(blank), Ok(false));
        assert_eq!(source(json!({"mode": "EcsRamRole"})), Ok(true));
        let half = json!({"mode": "AK", "access_key_id": "i"});
        assert_eq!(source(half), Err("access_key_secret is missing".to_owned()));
        let minimal = json!({"ram_role_arn": "r", "expired_seconds": 0, "policy": ""});
        let minimal = profile().role(minimal.as_object().expect("an object"));
        let minimal = minimal.expect("a role");
        assert!(minimal.duration.is_none() && minimal.policy.is_none());
    }

    #[test]
    fn keys_are_in_any_case_and_comments_go() {
        let parsed = parse_sections(
            "\u{feff}; first\n[a]\n Role_ARN = acs:ram::1:role/r # which\nempty =\n\n[ b ]\nk:v=w\n",
        );
        let fields = |fields: Value| fields.as_object().expect("an object").clone();
        let expected = vec![
            (
                "a".to_owned(),
                fields(json!({"role_arn": "acs:ram::1:role/r", "empty": ""})),
            ),
            ("b".to_owned(), fields(json!({"k": "v=w"}))),
        ];
        assert_eq!(parsed, Ok((expected, Some("default".to_owned()))));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), lines in "(\\[?[a-z =:#;]{0,6}\\]?\n){0,8}") {
            let _ = parse_sections(&text);
            let _ = parse_sections(&lines);
            let _ = parse_profiles(&text);
        }

        #[test]
        fn no_value_panics(values in prop::array::uniform6(value())) {
            let [name, mode, arn, seconds, profiles, key] = values;
            let file = json!({"current": name, "profiles": [{
                "name": name, "mode": mode, "ram_role_arn": arn, "expired_seconds": seconds,
                "access_key_id": key, "access_key_secret": "s", "enable_vpc": profiles,
                "source_profile": name,
            }], "more": profiles});
            if let Ok((entries, Some(current))) = parse_profiles(&file.to_string()) {
                let _ = profile().source(&entries, &current, &mut Vec::new()).is_ok();
            }
            let _ = parse_profiles(&json!({"profiles": profiles}).to_string());
        }
    }
}
