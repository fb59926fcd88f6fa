//! A profile of the vendor's command line tool, in `~/.aliyun/config.json`.
//! Read again whenever a key is needed, since `aliyun configure` may have
//! changed it. Profiles that need a browser (`CloudSSO`, `OAuth`) are refused.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};

use super::assume_role::AssumeRole;
use super::ecs_ram_role::EcsRamRole;
use super::files::{self, KeyFiles, unreadable};
use super::oidc::Oidc;
use super::static_key::{Setting, StaticKey};
use super::sts::Role;
use super::{Context, Credentials, Error, ProvideCredentials, external};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::FilePath;

use super::values::{Endpoint, MetadataEndpoint, Name, Region};

/// `type: profile`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "ProfileSettings", deny_unknown_fields)]
pub struct Settings {
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

const PROVIDER: &str = "profile";
const FILE: &str = ".aliyun/config.json";

type Fields = Map<String, Value>;

/// The provider.
pub struct Profile {
    context: Context,
    file: Option<PathBuf>,
    name: Option<String>,
    key_files: KeyFiles,
}

impl Profile {
    /// The profile `name` of `file`; without a name the file's current one,
    /// without a file the one below [`Context::home`].
    pub fn new(context: &Context, file: Option<PathBuf>, name: Option<String>) -> Self {
        Self {
            context: context.clone(),
            file,
            name,
            key_files: KeyFiles::default(),
        }
    }

    async fn read(&self) -> Result<Credentials, Error> {
        let file = match (&self.file, &self.context.home) {
            (Some(file), _) => file.clone(),
            (None, Some(home)) => home.join(FILE),
            (None, None) => {
                return Err(Error::not_configured(
                    PROVIDER,
                    format!("HOME is not set, so ~/{FILE} is not known"),
                ));
            }
        };
        let shown = file.display();
        if self.file.is_none()
            && let Some(error) = files::absence(&file).await
        {
            return Err(Error::not_configured(PROVIDER, unreadable(&file, &error)));
        }
        let text = match self.key_files.read(&file).await {
            Ok(text) => text,
            Err(error) if self.file.is_none() && error.kind() == ErrorKind::NotFound => {
                return Err(Error::not_configured(PROVIDER, unreadable(&file, &error)));
            }
            Err(error) => return Err(broken(unreadable(&file, &error))),
        };
        let config = serde_json::from_str(text.expose_secret()).map_err(|error| {
            // The parser's own text may quote.
            broken(format!(
                "{shown} is not JSON (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        let Value::Object(config) = config else {
            return Err(broken(format!("{shown} is no JSON object")));
        };
        let current = match &self.name {
            Some(_) => None,
            None => text_of(&config, "current")
                .map_err(|problem| broken(format!("{shown}: {problem}")))?,
        };
        let Some(name) = self.name.as_deref().or(current) else {
            return Err(self.empty(format!("{shown} has no current profile, and none is named")));
        };
        if !matches!(
            config.get("profiles"),
            None | Some(Value::Null | Value::Array(_))
        ) {
            return Err(broken(format!("{shown}: profiles is no list")));
        }
        let Some(profile) = find(&config, name) else {
            let missing = format!("{shown} has no profile \"{name}\"");
            return Err(if self.name.is_some() {
                // In a chain, the file behind this one may have it.
                Error::not_configured(PROVIDER, missing)
            } else {
                broken(missing)
            });
        };
        let told = |problem: &str| format!("\"{name}\" of {shown}: {problem}");
        if is_blank(profile).map_err(|problem| broken(told(&problem)))? {
            return Err(self.empty(told("holds nothing yet")));
        }
        let source = self.source(&config, name, &mut Vec::new());
        let source = source.map_err(|problem| broken(told(&problem)))?;
        // One that is not configured is broken here: the profile asks for it.
        let provided = source.provide().await;
        Ok(Credentials {
            provider: PROVIDER,
            ..provided.map_err(|error| error.within(PROVIDER, told))?
        })
    }

    /// A file that is named is meant; the one of the home folder may be unused.
    fn empty(&self, why: String) -> Error {
        match &self.file {
            Some(_) => broken(why),
            None => Error::not_configured(PROVIDER, why),
        }
    }

    /// Where the key of the profile `name` comes from; `seen` are the profiles
    /// on the way to it.
    fn source(
        &self,
        config: &Fields,
        name: &str,
        seen: &mut Vec<String>,
    ) -> Result<Arc<dyn ProvideCredentials>, String> {
        let is_circle = seen.iter().any(|known| known == name);
        seen.push(name.to_owned());
        if is_circle {
            return Err(format!(
                "source_profile goes in a circle: {}",
                seen.join(" → ")
            ));
        }
        let profile = find(config, name).ok_or(format!("there is no profile \"{name}\""))?;
        let need = |key: &str| needed(profile, key).map(str::to_owned);
        let assume = |base| {
            let role = role(profile)?;
            Ok::<_, String>(Arc::new(AssumeRole::new(
                &self.sts_context(profile)?,
                role,
                base,
            )))
        };
        Ok(match text_of(profile, "mode")?.unwrap_or("AK") {
            "AK" => Arc::new(key(profile, false)?),
            "StsToken" => Arc::new(key(profile, true)?),
            "RamRoleArn" => assume(Arc::new(key(profile, false)?))?,
            "ChainableRamRoleArn" => {
                assume(self.source(config, &need("source_profile")?, seen)?)?
            }
            "EcsRamRole" => Arc::new(EcsRamRole::new(
                &self.context,
                text_of(profile, "ram_role_name")?.map(str::to_owned),
                false,
            )),
            "OIDC" => Arc::new(Oidc::new(
                &self.sts_context(profile)?,
                role(profile)?,
                need("oidc_provider_arn")?,
                need("oidc_token_file")?,
            )),
            "External" => Arc::new(Printed(need("process_command")?)),
            mode @ ("CloudSSO" | "OAuth") => {
                return Err(format!(
                    "mode {mode} needs a person at a browser and is not supported; a RAM role or an access key for this exporter is"
                ));
            }
            _ => {
                return Err(
                    "mode should be AK, StsToken, RamRoleArn, ChainableRamRoleArn, EcsRamRole, OIDC or External"
                        .to_owned(),
                );
            }
        })
    }

    /// With the profile's own STS, where it names one.
    fn sts_context(&self, profile: &Fields) -> Result<Context, String> {
        let mut context = self.context.clone();
        if let Some(region) = text_of(profile, "sts_region")? {
            context.addresses.sts_region = Some(region.to_owned());
        }
        match profile.get("enable_vpc") {
            None | Some(Value::Null) => {}
            Some(Value::Bool(vpc)) => context.addresses.vpc = *vpc,
            Some(Value::String(text)) if text.trim().is_empty() => {}
            Some(vpc) => {
                let vpc = vpc.as_str().and_then(|text| text.trim().parse().ok());
                let vpc = vpc.ok_or("enable_vpc is neither true nor false")?;
                context.addresses.vpc = vpc;
            }
        }
        Ok(context)
    }
}

impl ProvideCredentials for Profile {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(self.read())
    }
}

/// The key that a command prints.
struct Printed(String);

impl ProvideCredentials for Printed {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(async {
            let printed = external::run(PROVIDER, &self.0, external::TIMEOUT).await;
            printed.map_err(broken)
        })
    }
}

fn key(profile: &Fields, temporary: bool) -> Result<StaticKey, String> {
    let inline = |key: &str| needed(profile, key).map(|value| Setting::Inline(value.into()));
    let token = temporary.then(|| inline("sts_token")).transpose()?;
    Ok(StaticKey::new(
        inline("access_key_id")?,
        inline("access_key_secret")?,
        token,
    ))
}

/// The official clients do not agree on the key of the session's name.
fn role(profile: &Fields) -> Result<Role, String> {
    let value = |key: &str| text_of(profile, key).map(|value| value.map(str::to_owned));
    let seconds = match profile.get("expired_seconds") {
        None | Some(Value::Null) => Some(0),
        Some(Value::String(text)) if text.trim().is_empty() => Some(0),
        // Types wander with whoever writes the file.
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(seconds) => seconds.as_u64(),
    };
    let seconds = seconds.ok_or("expired_seconds is no whole number of seconds")?;
    Ok(Role {
        arn: needed(profile, "ram_role_arn")?.to_owned(),
        session_name: value("ram_session_name")?.or(value("role_session_name")?),
        // 0 is what the tool writes when nobody was asked.
        duration: (seconds > 0).then(|| Duration::from_secs(seconds)),
        external_id: value("external_id")?.map(|id| Setting::Inline(id.into())),
        policy: value("policy")?,
    })
}

fn find<'a>(config: &'a Fields, name: &str) -> Option<&'a Fields> {
    let profiles = config.get("profiles")?.as_array()?.iter();
    profiles
        .filter_map(Value::as_object)
        .find(|profile| text_of(profile, "name") == Ok(Some(name)))
}

/// The tool writes such a profile before anybody has configured it.
fn is_blank(profile: &Fields) -> Result<bool, String> {
    let is_key = matches!(text_of(profile, "mode")?, None | Some("AK"));
    let id = text_of(profile, "access_key_id")?;
    let secret = text_of(profile, "access_key_secret")?;
    Ok(is_key && id.is_none() && secret.is_none())
}

fn needed<'a>(fields: &'a Fields, key: &str) -> Result<&'a str, String> {
    text_of(fields, key)?.ok_or_else(|| format!("{key} is missing"))
}

/// A text that is there and not empty, which is how the tool writes "not set".
/// What is there and no text is a mistake, and is not shown.
fn text_of<'a>(fields: &'a Fields, key: &str) -> Result<Option<&'a str>, String> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some(_) => Err(format!("{key} is no text; it should stand in quotes")),
    }
}

fn broken(problem: String) -> Error {
    Error::broken(PROVIDER, problem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

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

    #[test]
    fn what_the_tool_writes_for_nothing_is_nothing() {
        let profile = |value: Value| value.as_object().expect("an object").clone();
        let blank =
            json!({"name": "default", "mode": "", "access_key_id": "", "expired_seconds": 0});
        let is_blank = |value| is_blank(&profile(value));
        assert_eq!(is_blank(blank), Ok(true));
        assert_eq!(is_blank(json!({"mode": "EcsRamRole"})), Ok(false));
        let half = json!({"mode": "AK", "access_key_id": "i"});
        assert_eq!(is_blank(half), Ok(false));
        let minimal = role(&profile(
            json!({"ram_role_arn": "r", "expired_seconds": 0, "policy": ""}),
        ));
        let minimal = minimal.expect("a role");
        assert!(minimal.duration.is_none() && minimal.policy.is_none());
    }

    proptest! {
        #[test]
        fn no_value_panics(values in prop::array::uniform6(value())) {
            let [name, mode, arn, seconds, profiles, key] = values;
            let profile = json!({
                "name": name, "mode": mode, "ram_role_arn": arn, "expired_seconds": seconds,
                "access_key_id": key, "profiles": profiles,
            });
            let profile = profile.as_object().expect("an object");
            let _ = (role(profile).is_ok(), is_blank(profile).is_ok(), super::key(profile, true).is_ok());
            let _ = find(profile, "x");
        }
    }
}
