//! The entries under `credentials:`: a line for each source of keys.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeSeed, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use settings::{FilePath, Secret, with_common};

use super::assume_role::{self, AssumeRole};
use super::chain::{self, Chain};
use super::ecs_ram_role::{self, EcsRamRole};
use super::environment::{self, Environment};
use super::oidc::{self, Oidc};
use super::static_key::{self, StaticKey};
use super::sts::Role;
use super::uri::{self, Uri};
use super::values::Name;
use super::vendor_file::{ProfileSettings, SectionSettings, VendorFile};
use super::{Context, ProvideCredentials};

/// One entry under `credentials:`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Where the keys come from.
    #[serde(flatten)]
    pub source: Source,
    /// Entries of one account share one rate limit.
    pub quota_group: Option<Name>,
}

/// Declares the sources of keys: the word of `type`, and its settings.
macro_rules! sources {
    ($($(#[doc = $doc:literal])+ $variant:ident($settings:ty) = $name:literal,)*) => {
        /// What `type` and the keys beside it say.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "type")]
        pub enum Source {
            $( $(#[doc = $doc])+ #[serde(rename = $name)] $variant($settings), )*
        }

        /// The words of `type`, and what each means.
        const SOURCES: &[(&str, &str)] = &[$( ($name, concat!($($doc),+)), )*];

        impl<'de> DeserializeSeed<'de> for Kind {
            type Value = Source;

            fn deserialize<D: Deserializer<'de>>(self, keys: D) -> Result<Source, D::Error> {
                match self.0.as_str() {
                    $( $name => <$settings>::deserialize(keys).map(Source::$variant), )*
                    other => Err(D::Error::custom(format!("{other} is no source of keys"))),
                }
            }
        }

        fn schemas(generator: &mut SchemaGenerator) -> Vec<(Cow<'static, str>, Schema)> {
            vec![$( (<$settings>::schema_name(), <$settings>::json_schema(generator)), )*]
        }
    };
}

sources! {
    /// The official chain of providers.
    Default(chain::Settings) = "default",
    /// A key in this file, or in files beside it.
    AccessKey(static_key::Settings) = "access_key",
    /// Environment variables.
    Environment(environment::Settings) = "environment",
    /// A profile of the vendor's command line tool.
    Profile(ProfileSettings) = "profile",
    /// A section of the ini file that the vendor's SDKs share.
    CredentialsFile(SectionSettings) = "credentials_file",
    /// A role assumed with an OIDC token: RRSA in ACK.
    Oidc(oidc::Settings) = "oidc",
    /// The RAM role of the ECS instance, from its metadata service.
    EcsRamRole(ecs_ram_role::Settings) = "ecs_ram_role",
    /// A server that answers with keys.
    Uri(uri::Settings) = "uri",
    /// A role assumed with the keys of another entry.
    AssumeRole(assume_role::Settings) = "assume_role",
}

impl Source {
    /// What asks this source for keys; `other` finds the provider of another entry.
    pub fn provider(
        &self,
        context: &Context,
        other: impl FnOnce(&str) -> Arc<dyn ProvideCredentials>,
    ) -> Arc<dyn ProvideCredentials> {
        match self {
            Self::Default(settings) => {
                let context = context.at(&settings.sts_region, &settings.sts_endpoint);
                let context = context.with_metadata(&settings.metadata_endpoint);
                Arc::new(Chain::official(&context, environment::process))
            }
            Self::AccessKey(settings) => {
                let key = StaticKey::new(
                    (&settings.access_key_id).into(),
                    (&settings.access_key_secret).into(),
                    settings.security_token.as_ref().map(Into::into),
                );
                Arc::new(key.counted(context))
            }
            Self::Environment(_) => Arc::new(Environment::of_process()),
            Self::Profile(settings) => {
                let context = context.at(&settings.sts_region, &settings.sts_endpoint);
                let context = context.with_metadata(&settings.metadata_endpoint);
                let (file, name) = (path(settings.file.as_ref()), settings.profile.clone());
                Arc::new(VendorFile::profile(&context, file, name.map(Into::into)))
            }
            Self::CredentialsFile(settings) => {
                let context = context.at(&settings.sts_region, &settings.sts_endpoint);
                let context = context.with_metadata(&settings.metadata_endpoint);
                let section = settings.profile.as_deref().unwrap_or("default");
                let (file, section) = (path(settings.file.as_ref()), Some(section.to_owned()));
                Arc::new(VendorFile::section(&context, file, section))
            }
            Self::Oidc(settings) => {
                let role = Role {
                    arn: settings.role_arn.to_string(),
                    session_name: Some(settings.role_session_name.to_string()),
                    duration: Some(*settings.duration),
                    external_id: None,
                    policy: settings.policy.clone().map(Into::into),
                };
                let context = context.at(&settings.sts_region, &settings.sts_endpoint);
                let (provider, token) = (&*settings.oidc_provider_arn, &settings.oidc_token_file.0);
                Arc::new(Oidc::new(&context, role, provider, token))
            }
            Self::EcsRamRole(settings) => {
                let context = context.with_metadata(&settings.metadata_endpoint);
                let name = settings.role_name.clone().map(Into::into);
                Arc::new(EcsRamRole::new(&context, name, settings.disable_imdsv1))
            }
            Self::Uri(settings) => Arc::new(Uri::new(context, settings.uri.0.clone())),
            Self::AssumeRole(settings) => {
                let role = Role {
                    arn: settings.role_arn.to_string(),
                    session_name: Some(settings.role_session_name.to_string()),
                    duration: Some(*settings.duration),
                    external_id: settings.external_id.as_ref().map(Into::into),
                    policy: settings.policy.clone().map(Into::into),
                };
                let context = context.at(&settings.sts_region, &settings.sts_endpoint);
                Arc::new(AssumeRole::new(&context, role, other(&settings.source)))
            }
        }
    }

    /// The files that are named, each with its key.
    pub fn files<'a>(&'a self) -> Vec<(&'static str, &'a Path)> {
        let secrets = |secrets: &[(&'static str, Option<&'a Secret>)]| {
            let files = secrets
                .iter()
                .filter_map(|(key, secret)| Some((*key, (*secret)?.file()?)));
            files.collect()
        };
        match self {
            Self::AccessKey(settings) => secrets(&[
                ("access_key_id_file", Some(&settings.access_key_id)),
                ("access_key_secret_file", Some(&settings.access_key_secret)),
                ("security_token_file", settings.security_token.as_ref()),
            ]),
            Self::Oidc(settings) => vec![("oidc_token_file", &*settings.oidc_token_file)],
            Self::Profile(ProfileSettings {
                file: Some(file), ..
            })
            | Self::CredentialsFile(SectionSettings {
                file: Some(file), ..
            }) => vec![("file", &**file)],
            Self::AssumeRole(settings) => {
                secrets(&[("external_id_file", settings.external_id.as_ref())])
            }
            _ => Vec::new(),
        }
    }
}

fn path(file: Option<&FilePath>) -> Option<PathBuf> {
    file.map(|file| file.0.clone())
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            source: Source::Default(chain::Settings::default()),
            quota_group: None,
        }
    }
}

/// The word of `type`; one of [`SOURCES`].
#[derive(Clone)]
struct Kind(String);

settings::text_value!(Kind, "a text", { "type": "string" });

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let names: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
        if names.contains(&word) {
            Ok(Self(word.to_owned()))
        } else {
            Err(settings::one_of(word, &names))
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What every entry has, whatever its type.
#[derive(Deserialize)]
#[serde(rename = "Entry")]
struct Common {
    #[serde(rename = "type")]
    kind: Kind,
    quota_group: Option<Name>,
}

const EXPECTED: &str = "a mapping under a name of its own, such as prod: {type: environment}";

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kind = |common: &Common| common.kind.clone();
        let (Common { quota_group, .. }, source) = with_common(deserializer, EXPECTED, kind)?;
        Ok(Self {
            source,
            quota_group,
        })
    }
}

impl JsonSchema for Entry {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Entry".into()
    }

    /// The keys of `type` beside those of the source that it names.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let group = generator.subschema_for::<Option<Name>>();
        let mut variants = Vec::new();
        for ((word, doc), (name, mut schema)) in SOURCES.iter().zip(schemas(generator)) {
            let keys = schema.ensure_object();
            keys.insert("title".to_owned(), json!(name));
            keys.insert("description".to_owned(), json!(doc.trim()));
            let mut all = serde_json::Map::new();
            let kind = json!({ "const": word, "description": "Where the keys come from." });
            all.insert("type".to_owned(), kind);
            if let Some(Value::Object(mut properties)) = keys.remove("properties") {
                all.append(&mut properties);
            }
            let mut group = json!(group);
            group["description"] = "Entries of one account share one rate limit: give them the \
                same name here. Left out, the name of the entry."
                .into();
            group["default"] = Value::Null;
            all.insert("quota_group".to_owned(), group);
            keys.insert("properties".to_owned(), Value::Object(all));
            let mut required = vec![json!("type")];
            if let Some(Value::Array(mut keys)) = keys.remove("required") {
                required.append(&mut keys);
            }
            keys.insert("required".to_owned(), Value::Array(required));
            variants.push(json!({ "$ref": format!("#/$defs/{name}") }));
            generator
                .definitions_mut()
                .insert(name.into_owned(), schema.into());
        }
        let words: Vec<&str> = SOURCES.iter().map(|(word, _)| *word).collect();
        json_schema!({
            "type": "object",
            "required": ["type"],
            "properties": { "type": { "enum": words } },
            "oneOf": variants,
        })
    }
}
