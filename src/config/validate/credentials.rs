//! The entries under `credentials:`: which keys each type takes, what they may
//! hold, and that no two entries wait for one another's keys.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::{Check, DEFAULT_CREDENTIALS, one_of};
use crate::config::file::{self, Accounts, Mapping as _, Placed};
use crate::config::mistake::Place;
use crate::config::values;
use crate::config::{Addresses, Credentials, CredentialsSource, RoleSession, Secret};

/// What `type:` may be, and the keys that stand beside it.
const TYPES: [(&str, &[&str]); 9] = [
    (
        "default",
        &["sts_region", "sts_endpoint", "metadata_endpoint"],
    ),
    (
        "access_key",
        &[
            "access_key_id",
            "access_key_id_file",
            "access_key_secret",
            "access_key_secret_file",
            "security_token",
            "security_token_file",
        ],
    ),
    ("environment", &[]),
    (
        "profile",
        &[
            "profile",
            "file",
            "sts_region",
            "sts_endpoint",
            "metadata_endpoint",
        ],
    ),
    (
        "credentials_file",
        &[
            "profile",
            "file",
            "sts_region",
            "sts_endpoint",
            "metadata_endpoint",
        ],
    ),
    (
        "oidc",
        &[
            "role_arn",
            "oidc_provider_arn",
            "oidc_token_file",
            "role_session_name",
            "duration",
            "policy",
            "sts_region",
            "sts_endpoint",
        ],
    ),
    (
        "ecs_ram_role",
        &["role_name", "disable_imdsv1", "metadata_endpoint"],
    ),
    ("uri", &["uri"]),
    (
        "assume_role",
        &[
            "role_arn",
            "source",
            "role_session_name",
            "duration",
            "policy",
            "external_id",
            "external_id_file",
            "sts_region",
            "sts_endpoint",
        ],
    ),
];

/// The section of an ini file where none is named.
const DEFAULT_SECTION: &str = "default";
const ROLE_SESSION_NAME: &str = "aliyun-acr-exporter";
const ROLE_DURATION: Duration = Duration::from_secs(3600);
const MIN_ROLE_DURATION: Duration = Duration::from_secs(900);
const MAX_ROLE_DURATION: Duration = Duration::from_secs(12 * 3600);
/// A longer circle is told with the first of its entries alone.
const MAX_TOLD: usize = 8;

/// A name under `credentials:`, known even if what stands there is a mistake.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) credentials: Option<Credentials>,
    source: Option<Source>,
}

/// The entry whose keys another one uses, and where it says so.
struct Source {
    index: usize,
    at: Place,
}

impl Entry {
    /// Index of the entry whose keys this one uses.
    pub(super) fn source(&self) -> Option<usize> {
        self.source.as_ref().map(|source| source.index)
    }
}

impl Check<'_> {
    /// All entries, the built-in one last where it is needed.
    pub(super) fn credentials(
        &mut self,
        accounts: Option<Placed<Accounts>>,
        vpc: bool,
    ) -> Vec<Entry> {
        let accounts = accounts.map_or(Vec::new(), |accounts| accounts.value.0);
        let mut names: Vec<String> = accounts
            .iter()
            .map(|(name, _)| name.value.clone())
            .collect();
        let has_default = names.iter().any(|name| name == DEFAULT_CREDENTIALS);
        if !has_default {
            names.push(DEFAULT_CREDENTIALS.to_owned());
        }
        let mut entries = Vec::with_capacity(names.len());
        for (name, entry) in accounts {
            let is_name = (1..=64).contains(&name.value.len())
                && name
                    .value
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
            if !is_name {
                self.refuse(
                    &name.at,
                    "a name has letters, digits, _, . and - alone, at most 64 of them",
                );
            }
            entries.push(self.entry(name.value, entry, &names, vpc));
        }
        if !has_default {
            let name = DEFAULT_CREDENTIALS.to_owned();
            let source = CredentialsSource::Default {
                addresses: unwritten(vpc),
            };
            let credentials = Some(Credentials {
                name: name.clone(),
                source,
                quota_group: None,
            });
            entries.push(Entry {
                name,
                credentials,
                source: None,
            });
        }
        self.circles(&entries);
        entries
    }

    fn entry(
        &mut self,
        name: String,
        entry: Placed<file::Credentials>,
        names: &[String],
        vpc: bool,
    ) -> Entry {
        let Placed {
            value: mut entry,
            at,
        } = entry;
        let quota_group = self.name(entry.quota_group.take());
        let mut source = None;
        let found = self
            .known_type(&mut entry, &at)
            .and_then(|kind| match kind {
                "default" => Some(CredentialsSource::Default {
                    addresses: self.addresses(entry, vpc)?,
                }),
                "access_key" => self.access_key(entry, &at),
                "environment" => Some(CredentialsSource::Environment),
                "profile" => self.profile(entry, vpc),
                "credentials_file" => self.credentials_file(entry, vpc),
                "oidc" => self.oidc(entry, &at, vpc),
                "ecs_ram_role" => self.ecs_ram_role(entry, vpc),
                "uri" => self.uri(entry, &at),
                _ => {
                    source = self.source(&entry, &at, names);
                    let source = source.as_ref().map(|source| source.index);
                    self.assume_role(entry, &at, source, vpc)
                }
            });
        let credentials = found.map(|source| Credentials {
            name: name.clone(),
            source,
            quota_group,
        });
        Entry {
            name,
            credentials,
            source,
        }
    }

    /// The type, after refusing the keys of others.
    fn known_type(&mut self, entry: &mut file::Credentials, at: &Place) -> Option<&'static str> {
        let types = TYPES.map(|(name, _)| name);
        let Some(Placed { value, at }) = entry.kind.take() else {
            let message = format!("is missing; use one of {}", types.join(", "));
            self.refuse(&at.missing("type"), message);
            return None;
        };
        let Some((kind, allowed)) = TYPES.iter().find(|(name, _)| *name == value) else {
            self.refuse(&at, one_of(&value, &types));
            return None;
        };
        for (key, at) in entry.written() {
            if !allowed.contains(&key) {
                let takes = match allowed {
                    [] => "no key but quota_group".to_owned(),
                    _ => allowed.join(", "),
                };
                self.refuse(
                    at,
                    format!("does not belong to type {kind}, which takes {takes}"),
                );
            }
        }
        Some(kind)
    }

    fn access_key(&mut self, entry: file::Credentials, at: &Place) -> Option<CredentialsSource> {
        let id = self.secret(
            "access_key_id",
            entry.access_key_id,
            entry.access_key_id_file,
        );
        let secret = self.secret(
            "access_key_secret",
            entry.access_key_secret,
            entry.access_key_secret_file,
        );
        let token = self.secret(
            "security_token",
            entry.security_token,
            entry.security_token_file,
        );
        for (key, found) in [("access_key_id", &id), ("access_key_secret", &secret)] {
            if let Found::Nothing = found {
                self.refuse(
                    &at.missing(key),
                    format!("is missing; write {key} or {key}_file"),
                );
            }
        }
        Some(CredentialsSource::AccessKey {
            access_key_id: id.usable()?,
            access_key_secret: secret.usable()?,
            security_token: token.usable(),
        })
    }

    fn profile(&mut self, mut entry: file::Credentials, vpc: bool) -> Option<CredentialsSource> {
        Some(CredentialsSource::Profile {
            name: self.name(entry.profile.take()),
            file: self.path(entry.file.take()),
            addresses: self.addresses(entry, vpc)?,
        })
    }

    fn credentials_file(
        &mut self,
        mut entry: file::Credentials,
        vpc: bool,
    ) -> Option<CredentialsSource> {
        let section = self.name(entry.profile.take());
        Some(CredentialsSource::CredentialsFile {
            section: section.unwrap_or_else(|| DEFAULT_SECTION.to_owned()),
            file: self.path(entry.file.take()),
            addresses: self.addresses(entry, vpc)?,
        })
    }

    fn oidc(
        &mut self,
        mut entry: file::Credentials,
        at: &Place,
        vpc: bool,
    ) -> Option<CredentialsSource> {
        let role_arn = self.arn("role_arn", "role", entry.role_arn.take(), at);
        let provider = entry.oidc_provider_arn.take();
        let provider = self.arn("oidc_provider_arn", "oidc-provider", provider, at);
        let token = entry.oidc_token_file.take();
        if token.is_none() {
            self.refuse(
                &at.missing("oidc_token_file"),
                "is missing; write the path of the file that holds the token",
            );
        }
        let token = self.path(token);
        let session = self.role_session(&mut entry);
        let addresses = self.sts(entry, at, vpc);
        Some(CredentialsSource::Oidc {
            role_arn: role_arn?,
            oidc_provider_arn: provider?,
            oidc_token_file: token?,
            session,
            addresses: addresses?,
        })
    }

    fn ecs_ram_role(
        &mut self,
        mut entry: file::Credentials,
        vpc: bool,
    ) -> Option<CredentialsSource> {
        let role_name = entry.role_name.take();
        Some(CredentialsSource::EcsRamRole {
            role_name: self.text(role_name, values::role_name),
            disable_imdsv1: entry.disable_imdsv1.take().is_some_and(|it| it.value),
            addresses: self.addresses(entry, vpc)?,
        })
    }

    fn uri(&mut self, entry: file::Credentials, at: &Place) -> Option<CredentialsSource> {
        let Some(Placed { value, at }) = entry.uri else {
            self.refuse(
                &at.missing("uri"),
                "is missing; write the URI that answers with keys",
            );
            return None;
        };
        self.noted(&at, values::credentials_uri(value.expose_secret()))?;
        Some(CredentialsSource::Uri { uri: value.into() })
    }

    fn source(
        &mut self,
        entry: &file::Credentials,
        at: &Place,
        names: &[String],
    ) -> Option<Source> {
        let Some(name) = &entry.source else {
            self.refuse(
                &at.missing("source"),
                "is missing; name the entry whose keys assume the role, such as default",
            );
            return None;
        };
        let index = self.reference(name, names)?;
        let at = name.at.clone();
        Some(Source { index, at })
    }

    fn assume_role(
        &mut self,
        mut entry: file::Credentials,
        at: &Place,
        source: Option<usize>,
        vpc: bool,
    ) -> Option<CredentialsSource> {
        let role_arn = self.arn("role_arn", "role", entry.role_arn.take(), at);
        let external_id = self.secret(
            "external_id",
            entry.external_id.take(),
            entry.external_id_file.take(),
        );
        let session = self.role_session(&mut entry);
        let addresses = self.sts(entry, at, vpc);
        Some(CredentialsSource::AssumeRole {
            role_arn: role_arn?,
            source: source?,
            external_id: external_id.usable(),
            session,
            addresses: addresses?,
        })
    }

    fn role_session(&mut self, entry: &mut file::Credentials) -> RoleSession {
        let name = entry.role_session_name.take();
        let name = self.text(name, values::role_session_name);
        let duration = entry.duration.take().and_then(|Placed { value, at }| {
            let duration = values::duration(&value.0, MIN_ROLE_DURATION, MAX_ROLE_DURATION);
            self.noted(&at, duration)
        });
        let policy = entry.policy.take().and_then(|Placed { value, at }| {
            self.noted(&at, values::policy(&value.0))?;
            Some(value.0)
        });
        RoleSession {
            name: name.unwrap_or_else(|| ROLE_SESSION_NAME.to_owned()),
            duration: duration.unwrap_or(ROLE_DURATION),
            policy,
        }
    }

    /// The addresses of a type that asks STS each time, and so needs to know where.
    fn sts(&mut self, entry: file::Credentials, at: &Place, vpc: bool) -> Option<Addresses> {
        if vpc && entry.sts_region.is_none() && entry.sts_endpoint.is_none() {
            self.refuse(
                &at.missing("sts_region"),
                "is missing; within VPCs STS has no central endpoint: write a region, or sts_endpoint",
            );
        }
        self.addresses(entry, vpc)
    }

    fn addresses(&mut self, entry: file::Credentials, vpc: bool) -> Option<Addresses> {
        let sts = match (entry.sts_endpoint, entry.sts_region) {
            (None, None) => Some(None),
            (Some(Placed { value, at }), None) => {
                self.noted(&at, values::endpoint(&value)).map(Some)
            }
            (None, Some(Placed { value, at })) => {
                self.noted(&at, values::sts_endpoint(&value, vpc)).map(Some)
            }
            (Some(Placed { at, .. }), Some(_)) => {
                self.refuse(&at, "stands beside sts_region; only one of them can count");
                None
            }
        };
        let metadata = match entry.metadata_endpoint {
            Some(Placed { value, at }) => self.noted(&at, values::metadata_endpoint(&value)),
            None => Some(values::default_metadata_endpoint()),
        };
        Some(Addresses {
            sts: sts?,
            vpc,
            metadata: metadata?,
        })
    }

    fn arn(
        &mut self,
        key: &str,
        kind: &str,
        arn: Option<Placed<String>>,
        at: &Place,
    ) -> Option<String> {
        let Some(Placed { value, at }) = arn else {
            self.refuse(
                &at.missing(key),
                format!("is missing; write an ARN of the form acs:ram::ACCOUNT:{kind}/NAME"),
            );
            return None;
        };
        self.noted(&at, values::arn(&value, kind))?;
        Some(value)
    }

    /// The text where there is one that passes.
    fn text(
        &mut self,
        text: Option<Placed<String>>,
        judge: impl FnOnce(&str) -> Result<(), String>,
    ) -> Option<String> {
        let Placed { value, at } = text?;
        self.noted(&at, judge(&value))?;
        Some(value)
    }

    fn name(&mut self, name: Option<Placed<String>>) -> Option<String> {
        self.text(name, values::name)
    }

    fn path(&mut self, path: Option<Placed<String>>) -> Option<PathBuf> {
        let path = self.text(path, values::path)?;
        Some(self.folder.join(path))
    }

    /// `KEY` or `KEY_file`, not both.
    fn secret(
        &mut self,
        key: &str,
        inline: Option<Placed<SecretString>>,
        path: Option<Placed<String>>,
    ) -> Found {
        match (inline, path) {
            (None, None) => Found::Nothing,
            (Some(_), Some(path)) => {
                self.refuse(
                    &path.at,
                    format!("stands beside {key}; only one of them can count"),
                );
                Found::Mistake
            }
            (Some(Placed { value, at }), None) => {
                let text = value.expose_secret().trim();
                if text.is_empty() {
                    self.refuse(&at, format!("is empty; write the value, or use {key}_file"));
                    Found::Mistake
                } else if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                    self.refuse(&at, "must not hold white space or control characters");
                    Found::Mistake
                } else {
                    Found::Secret(Secret::Inline(SecretString::from(text).into()))
                }
            }
            (None, path) => match self.path(path) {
                Some(path) => Found::Secret(Secret::File(path)),
                None => Found::Mistake,
            },
        }
    }

    /// Refuses entries that lead back to themselves, each circle once, where its
    /// first entry in the file names its source.
    fn circles(&mut self, entries: &[Entry]) {
        let mut seen_from = vec![None; entries.len()];
        for start in 0..entries.len() {
            let mut next = Some(start);
            while let Some(index) = next.filter(|index| seen_from[*index].is_none()) {
                seen_from[index] = Some(start);
                next = entries[index].source();
            }
            // Where this walk met itself, not where it met an older one.
            let Some(met) = next.filter(|index| seen_from[*index] == Some(start)) else {
                continue;
            };
            let around = |from: usize| {
                let rest =
                    std::iter::successors(entries[from].source(), |index| entries[*index].source());
                std::iter::once(from).chain(rest.take_while(move |index| *index != from))
            };
            let first = around(met).min().unwrap_or(met);
            let names: Vec<&str> = around(first)
                .map(|index| entries[index].name.as_str())
                .collect();
            if let Some(Source { at, .. }) = &entries[first].source {
                self.refuse(at, circle(&names));
            }
        }
    }
}

/// What is said about entries that use one another's keys.
fn circle(names: &[&str]) -> String {
    let [first, others @ ..] = names else {
        return String::new();
    };
    if others.is_empty() {
        return "is this entry itself; name another one, whose keys assume the role".to_owned();
    }
    let more = if others.len() > MAX_TOLD { ", …" } else { "" };
    let way = others[..others.len().min(MAX_TOLD)].join(", ");
    format!("leads back to {first} by way of {way}{more}; one of them must have keys of its own")
}

/// What an entry says that says nothing about addresses.
fn unwritten(vpc: bool) -> Addresses {
    Addresses {
        sts: None,
        vpc,
        metadata: values::default_metadata_endpoint(),
    }
}

/// What stands at `KEY` or `KEY_file`.
enum Found {
    Nothing,
    Mistake,
    Secret(Secret),
}

impl Found {
    fn usable(self) -> Option<Secret> {
        match self {
            Found::Secret(secret) => Some(secret),
            Found::Nothing | Found::Mistake => None,
        }
    }
}
