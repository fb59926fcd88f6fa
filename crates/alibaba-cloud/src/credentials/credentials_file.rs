//! A section of the file that the vendor's SDKs share:
//! `~/.alibabacloud/credentials`, or `credentials.ini` as one of them calls it.
//! Read again whenever a key is needed.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use secrecy::ExposeSecret as _;

use super::assume_role::AssumeRole;
use super::ecs_ram_role::EcsRamRole;
use super::files::{self, KeyFiles, unreadable};
use super::oidc::Oidc;
use super::static_key::{Setting, StaticKey};
use super::sts::Role;
use super::{Context, Credentials, Error, ProvideCredentials};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::FilePath;

use super::values::{Endpoint, MetadataEndpoint, Name, Region};

/// `type: credentials_file`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "CredentialsFileSettings", deny_unknown_fields)]
pub struct Settings {
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

const PROVIDER: &str = "credentials_file";
const FILES: [&str; 2] = [".alibabacloud/credentials", ".alibabacloud/credentials.ini"];
const SECTION: &str = "default";

/// The keys of one section, in lower case, with their values.
type Section = HashMap<String, String>;

/// The provider.
pub struct CredentialsFile {
    context: Context,
    file: Option<PathBuf>,
    section: Option<String>,
    key_files: KeyFiles,
}

impl CredentialsFile {
    /// The section `section` of `file`; without a section `default`, without a
    /// file the first of the two below [`Context::home`] that has it. A section or
    /// file that is named and is nowhere makes this provider a broken one.
    pub fn new(context: &Context, file: Option<PathBuf>, section: Option<String>) -> Self {
        Self {
            context: context.clone(),
            file,
            section,
            key_files: KeyFiles::default(),
        }
    }

    async fn read(&self) -> Result<Credentials, Error> {
        let (file, section) = self.find().await?;
        let told = |problem: &str| {
            let (section, file) = (self.section(), file.display());
            format!("section [{section}] of {file}: {problem}")
        };
        let source = self.source(&section);
        let source = source.map_err(|problem| broken(told(&problem)))?;
        // One that is not configured is broken here: the section asks for it.
        let provided = source.provide().await;
        Ok(Credentials {
            provider: PROVIDER,
            ..provided.map_err(|error| error.within(PROVIDER, told))?
        })
    }

    fn section(&self) -> &str {
        self.section.as_deref().unwrap_or(SECTION)
    }

    /// The file with the section, and the section.
    async fn find(&self) -> Result<(PathBuf, Section), Error> {
        let candidates: Vec<PathBuf> = match (&self.file, &self.context.home) {
            (Some(file), _) => vec![file.clone()],
            (None, Some(home)) => FILES.iter().map(|file| home.join(file)).collect(),
            (None, None) => {
                return Err(
                    self.absent(&format!("HOME is not set, so ~/{} is not known", FILES[0]))
                );
            }
        };
        let mut missing = Vec::new();
        for file in candidates {
            match self.section_of(&file).await? {
                Ok(section) => return Ok((file, section)),
                Err(why) => missing.push(why),
            }
        }
        Err(self.absent(&missing.join(", ")))
    }

    /// Whoever names a section or a file means it, and nobody else.
    fn absent(&self, why: &str) -> Error {
        match (&self.section, &self.file) {
            (Some(named), _) => broken(format!("section [{named}] is nowhere: {why}")),
            (None, Some(_)) => broken(why.to_owned()),
            (None, None) => Error::not_configured(PROVIDER, why),
        }
    }

    /// The section, or why there is none; `Err` where the file is broken.
    async fn section_of(&self, file: &Path) -> Result<Result<Section, String>, Error> {
        if self.file.is_none()
            && let Some(error) = files::absence(file).await
        {
            return Ok(Err(unreadable(file, &error)));
        }
        let text = match self.key_files.read(file).await {
            Ok(text) => text,
            Err(error) if self.file.is_none() && error.kind() == ErrorKind::NotFound => {
                return Ok(Err(unreadable(file, &error)));
            }
            Err(error) => return Err(broken(unreadable(file, &error))),
        };
        let sections = parse(text.expose_secret())
            .map_err(|problem| broken(format!("{}: {problem}", file.display())))?;
        let mut sections = sections.into_iter();
        Ok(sections
            .find(|(name, _)| name == self.section())
            .map(|(_, section)| section)
            .ok_or_else(|| format!("{} has no section [{}]", file.display(), self.section())))
    }

    fn source(&self, section: &Section) -> Result<Arc<dyn ProvideCredentials>, String> {
        let value = |key: &str| section.get(key).filter(|value| !value.is_empty()).cloned();
        let need = |key: &str| value(key).ok_or(format!("{key} is missing"));
        let inline = |key: &str| need(key).map(|value| Setting::Inline(value.into()));
        let key = |token| {
            Ok::<_, String>(Arc::new(StaticKey::new(
                inline("access_key_id")?,
                inline("access_key_secret")?,
                token,
            )))
        };
        let role = || {
            Ok::<_, String>(Role {
                arn: need("role_arn")?,
                session_name: value("role_session_name"),
                policy: value("policy"),
                ..Role::default()
            })
        };
        Ok(match need("type")?.as_str() {
            "access_key" => key(None)?,
            "sts" => key(Some(inline("security_token")?))?,
            "ram_role_arn" => Arc::new(AssumeRole::new(&self.context, role()?, key(None)?)),
            "oidc_role_arn" => Arc::new(Oidc::new(
                &self.context,
                role()?,
                need("oidc_provider_arn")?,
                need("oidc_token_file_path")?,
            )),
            "ecs_ram_role" => Arc::new(EcsRamRole::new(&self.context, value("role_name"), false)),
            "rsa_key_pair" => {
                return Err(
                    "type rsa_key_pair is not supported; a RAM role or an access key for this exporter is"
                        .to_owned(),
                );
            }
            _ => {
                return Err(
                    "type should be access_key, sts, ram_role_arn, oidc_role_arn or ecs_ram_role"
                        .to_owned(),
                );
            }
        })
    }
}

impl ProvideCredentials for CredentialsFile {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(self.read())
    }
}

/// The sections of an ini file, as the official clients read it: `KEY = VALUE`
/// or `KEY: VALUE`, keys in any case, comments behind `#` anywhere and `;` at the
/// start of a line. `Err` tells the line and not what is in it.
fn parse(text: &str) -> Result<Vec<(String, Section)>, String> {
    let mut sections: Vec<(String, Section)> = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = index + 1;
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').map(str::trim).unwrap_or_default();
            if name.is_empty() {
                return Err(format!("line {number} should be [SECTION]"));
            }
            if sections.iter().any(|(known, _)| known == name) {
                return Err(format!(
                    "line {number} begins a section for the second time"
                ));
            }
            sections.push((name.to_owned(), Section::new()));
            continue;
        }
        let Some((key, value)) = line.split_once(['=', ':']) else {
            return Err(format!("line {number} should be KEY = VALUE"));
        };
        let Some((_, section)) = sections.last_mut() else {
            return Err(format!("line {number} stands before any [SECTION]"));
        };
        let key = key.trim().to_ascii_lowercase();
        if section.insert(key, value.trim().to_owned()).is_some() {
            return Err(format!("line {number} gives a key for the second time"));
        }
    }
    Ok(sections)
}

fn broken(problem: String) -> Error {
    Error::broken(PROVIDER, problem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_in_any_case_and_comments_go() {
        let parsed = parse(
            "\u{feff}; first\n[a]\n Role_ARN = acs:ram::1:role/r # which\nempty =\n\n[ b ]\nk:v=w\n",
        );
        let section = |pairs: &[(&str, &str)]| {
            let owned = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            owned.collect::<Section>()
        };
        let expected = vec![
            (
                "a".to_owned(),
                section(&[("role_arn", "acs:ram::1:role/r"), ("empty", "")]),
            ),
            ("b".to_owned(), section(&[("k", "v=w")])),
        ];
        assert_eq!(parsed, Ok(expected));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), lines in "(\\[?[a-z =:#;]{0,6}\\]?\n){0,8}") {
            let _ = parse(&text);
            let _ = parse(&lines);
        }
    }
}
