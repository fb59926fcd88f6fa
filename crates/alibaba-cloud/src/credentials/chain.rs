//! Providers asked one after the other: the next only where one is not
//! configured. A broken one ends the chain, other than in the official clients,
//! so that a broken role does not silently become somebody else's key. As in
//! those, the first that gives a key is the only one asked from then on: a
//! metadata service that is away for a moment is no reason to become another.

use std::path::PathBuf;
use std::sync::OnceLock;

use futures_util::future::BoxFuture;

use super::ecs_ram_role::EcsRamRole;
use super::environment::Environment;
use super::oidc::Oidc;
use super::sts::Role;
use super::uri::Uri;
use super::vendor_file::VendorFile;
use super::{Context, Credentials, Error, ProvideCredentials, Unavailable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Endpoint, MetadataEndpoint, Region};

/// `type: default`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "ChainSettings", deny_unknown_fields)]
pub struct Settings {
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

const PROVIDER: &str = "default";

/// The provider.
pub struct Chain {
    providers: Vec<Box<dyn ProvideCredentials>>,
    /// The one that gave a key first.
    chosen: OnceLock<usize>,
}

impl Chain {
    /// Asks `providers` in their order.
    pub fn new(providers: Vec<Box<dyn ProvideCredentials>>) -> Self {
        Self {
            providers,
            chosen: OnceLock::new(),
        }
    }

    /// The official order; `lookup` is the environment, read now but for the
    /// key itself. What `context` says of addresses goes before it.
    pub fn official(
        context: &Context,
        lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let value = |name: &str| {
            let value = lookup(name)?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let is_on = |name| value(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let path = |name| value(name).map(PathBuf::from);

        let mut context = context.clone();
        context.home = path("HOME");
        let addresses = &mut context.addresses;
        addresses.sts_region = addresses
            .sts_region
            .take()
            .or_else(|| value("ALIBABA_CLOUD_STS_REGION"));
        addresses.vpc |= is_on("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED");

        let name = value("ALIBABA_CLOUD_PROFILE");
        let profile: Box<dyn ProvideCredentials> = if is_on("ALIBABA_CLOUD_CLI_PROFILE_DISABLED") {
            off("profile", "ALIBABA_CLOUD_CLI_PROFILE_DISABLED is true")
        } else {
            let file = path("ALIBABA_CLOUD_CONFIG_FILE");
            Box::new(VendorFile::profile(&context, file, name.clone()))
        };
        let file = path("ALIBABA_CLOUD_CREDENTIALS_FILE");
        let credentials_file = Box::new(VendorFile::section(&context, file, name));
        let ecs: Box<dyn ProvideCredentials> = if is_on("ALIBABA_CLOUD_ECS_METADATA_DISABLED") {
            off(
                "ecs_ram_role",
                "ALIBABA_CLOUD_ECS_METADATA_DISABLED is true",
            )
        } else {
            let role = value("ALIBABA_CLOUD_ECS_METADATA");
            let imdsv1_disabled = is_on("ALIBABA_CLOUD_IMDSV1_DISABLED");
            Box::new(EcsRamRole::new(&context, role, imdsv1_disabled))
        };
        let uri: Box<dyn ProvideCredentials> = match value("ALIBABA_CLOUD_CREDENTIALS_URI") {
            Some(uri) => Box::new(Uri::new(&context, uri)),
            None => off("uri", "ALIBABA_CLOUD_CREDENTIALS_URI is not set"),
        };
        let oidc = oidc(&context, value);
        Self::new(vec![
            Box::new(Environment::new(lookup)),
            oidc,
            profile,
            credentials_file,
            ecs,
            uri,
        ])
    }
}

/// All three are needed: a role's ARN alone may be meant for something else.
fn oidc(context: &Context, value: impl Fn(&str) -> Option<String>) -> Box<dyn ProvideCredentials> {
    const NAMES: [&str; 3] = [
        "ALIBABA_CLOUD_ROLE_ARN",
        "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
        "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
    ];
    let [Some(arn), Some(provider_arn), Some(token_file)] = NAMES.map(&value) else {
        let missing = NAMES.into_iter().filter(|name| value(name).is_none());
        let missing: Vec<_> = missing.collect();
        return off("oidc", &format!("not set: {}", missing.join(", ")));
    };
    let role = Role {
        arn,
        session_name: value("ALIBABA_CLOUD_ROLE_SESSION_NAME"),
        ..Role::default()
    };
    Box::new(Oidc::new(context, role, provider_arn, token_file))
}

fn off(provider: &'static str, why: &str) -> Box<dyn ProvideCredentials> {
    Box::new(Unavailable(Error::not_configured(provider, why)))
}

impl ProvideCredentials for Chain {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(async {
            if let Some(chosen) = self.chosen.get() {
                let provided = self.providers[*chosen].provide().await;
                return provided.map_err(lost);
            }
            let mut tried = Vec::new();
            for (index, provider) in self.providers.iter().enumerate() {
                match provider.provide().await {
                    Ok(credentials) => {
                        self.chosen.get_or_init(|| index);
                        return Ok(credentials);
                    }
                    Err(skipped @ Error::NotConfigured { .. }) => tried.push(skipped.to_string()),
                    Err(broken) if tried.is_empty() => return Err(broken),
                    Err(broken) => return Err(told(&broken, &tried)),
                }
            }
            Err(Error::not_configured(
                PROVIDER,
                format!("no provider has a key ({})", tried.join("; ")),
            ))
        })
    }
}

fn told(broken: &Error, tried: &[String]) -> Error {
    let tried = tried.join("; ");
    broken.within(PROVIDER, |text| {
        format!("{text} (tried before it: {tried})")
    })
}

/// The provider that was chosen is not configured any more.
fn lost(error: Error) -> Error {
    match error {
        Error::NotConfigured { .. } => error.within(PROVIDER, |text| {
            format!("{text} (it gave the key until now, so no other is asked)")
        }),
        Error::Broken { .. } => error,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Scripted(Result<Credentials, Error>);

    impl ProvideCredentials for Scripted {
        fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
            Box::pin(std::future::ready(self.0.clone()))
        }
    }

    fn skipped(provider: &'static str) -> Box<dyn ProvideCredentials> {
        Box::new(Scripted(Err(Error::not_configured(
            provider,
            "X is not set",
        ))))
    }

    fn broken(provider: &'static str) -> Box<dyn ProvideCredentials> {
        Box::new(Scripted(Err(Error::broken(provider, "X is a directory"))))
    }

    fn good(provider: &'static str) -> Box<dyn ProvideCredentials> {
        Box::new(Scripted(Ok(good_key(provider))))
    }

    fn good_key(provider: &'static str) -> Credentials {
        Credentials {
            access_key_id: "id".to_owned(),
            access_key_secret: "secret".into(),
            security_token: None,
            expires_at_ms: None,
            provider,
        }
    }

    async fn ask(providers: Vec<Box<dyn ProvideCredentials>>) -> Result<&'static str, String> {
        match Chain::new(providers).provide().await {
            Ok(credentials) => Ok(credentials.provider),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn the_first_configured_provider_answers() {
        assert_eq!(
            ask(vec![skipped("a"), good("b"), broken("c")]).await,
            Ok("b")
        );
    }

    #[tokio::test]
    async fn a_broken_provider_ends_the_chain_and_names_those_before_it() {
        assert_eq!(
            ask(vec![skipped("a"), broken("b"), good("c")]).await,
            Err(
                "default: b: X is a directory (tried before it: a: not configured: X is not set)"
                    .to_owned()
            )
        );
        assert_eq!(
            ask(vec![broken("b"), good("c")]).await,
            Err("b: X is a directory".to_owned())
        );
    }

    #[tokio::test]
    async fn a_chain_without_a_key_names_every_provider() {
        assert_eq!(
            ask(vec![skipped("a"), skipped("b")]).await,
            Err("default: not configured: no provider has a key (a: not configured: X is not set; b: not configured: X is not set)".to_owned())
        );
    }

    /// A provider whose answers come one after the other.
    struct Turns(Mutex<Vec<Result<Credentials, Error>>>);

    impl ProvideCredentials for Turns {
        fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
            let turn = self.0.lock().expect("not poisoned").remove(0);
            Box::pin(std::future::ready(turn))
        }
    }

    #[tokio::test]
    async fn the_first_that_gave_a_key_is_the_only_one_asked_from_then_on() {
        let key = |provider| Ok(good_key(provider));
        let missing = || Err(Error::not_configured("a", "X is not set"));
        let chain = Chain::new(vec![
            Box::new(Turns(Mutex::new(vec![missing(), missing()]))),
            Box::new(Turns(Mutex::new(vec![
                missing(),
                key("b"),
                Err(Error::not_configured("b", "it is away")),
                key("b"),
            ]))),
            Box::new(Turns(Mutex::new(vec![missing()]))),
        ]);
        let told = chain.provide().await.expect_err("nobody has a key");
        assert!(matches!(told, Error::NotConfigured { .. }));
        assert_eq!(chain.provide().await.expect("a key").provider, "b");
        assert_eq!(
            chain.provide().await.expect_err("away").to_string(),
            "default: b: not configured: it is away (it gave the key until now, so no other is asked)"
        );
        assert_eq!(chain.provide().await.expect("a key").provider, "b");
    }
}
