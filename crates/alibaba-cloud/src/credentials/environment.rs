//! `ALIBABA_CLOUD_ACCESS_KEY_ID` and its siblings, the first link of the
//! official chain. The environment is a function, so that tests need not change
//! the process.

use futures_util::future::BoxFuture;

use super::{Credentials, Error, ProvideCredentials, clean};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `type: environment`, which has no keys of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "EnvironmentSettings", deny_unknown_fields)]
pub struct Settings {}

const PROVIDER: &str = "environment";
const ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

/// Looks up a variable; `None` where it is not set.
pub type Lookup = fn(&str) -> Option<String>;

/// The provider.
#[derive(Clone, Debug)]
pub struct Environment<L = Lookup>(L);

impl Environment {
    /// Reads the environment of this process.
    pub fn of_process() -> Self {
        Self(process)
    }
}

impl<L: Fn(&str) -> Option<String> + Send + Sync> Environment<L> {
    /// Reads variables through `lookup`.
    pub fn new(lookup: L) -> Self {
        Self(lookup)
    }

    /// A variable that is set to nothing counts as not set: that is how an
    /// optional value comes out of a deployment's template.
    fn value(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    fn read(&self) -> Result<Credentials, Error> {
        let missing = |name: &str| broken(format!("{name} is not set and is needed beside {ID}"));
        let Some(id) = self.value(ID) else {
            return Err(match self.value(SECRET) {
                Some(_) => broken(format!("{SECRET} is set and {ID} is not")),
                None => Error::not_configured(PROVIDER, format!("{ID} and {SECRET} are not set")),
            });
        };
        let secret = self.value(SECRET).ok_or_else(|| missing(SECRET))?;
        let token = self.value(TOKEN);
        Ok(Credentials {
            access_key_id: usable(ID, &id)?.to_owned(),
            access_key_secret: usable(SECRET, &secret)?.into(),
            security_token: match &token {
                Some(token) => Some(usable(TOKEN, token)?.into()),
                None => None,
            },
            expires_at_ms: None,
            provider: PROVIDER,
        })
    }
}

impl<L: Fn(&str) -> Option<String> + Send + Sync> ProvideCredentials for Environment<L> {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(async { self.read() })
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// The environment of this process; what is not Unicode is refused later, as
/// any value that cannot be a key.
#[expect(
    clippy::disallowed_methods,
    reason = "this provider is where the environment is read"
)]
pub fn process(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn usable<'a>(name: &str, value: &'a str) -> Result<&'a str, Error> {
    clean(value).map_err(|wrong| broken(format!("{name} {wrong}")))
}

fn broken(problem: String) -> Error {
    Error::broken(PROVIDER, problem)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Credentials, Error> {
        Environment::new(|name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
        .read()
    }

    fn refused(variables: &[(&str, &str)]) -> String {
        read(variables).expect_err("no usable key").to_string()
    }

    #[test]
    fn a_key_with_and_without_token() {
        let plain = read(&[(ID, "id "), (SECRET, "secret"), (TOKEN, "")]).expect("a key");
        assert_eq!(plain.access_key_id, "id");
        assert_eq!(plain.access_key_secret.expose_secret(), "secret");
        assert!(plain.security_token.is_none());
        let with = read(&[(ID, "id"), (SECRET, "secret"), (TOKEN, "token")]).expect("a key");
        assert_eq!(
            with.security_token.expect("a token").expose_secret(),
            "token"
        );
    }

    #[test]
    fn nothing_set_is_not_configured() {
        for variables in [&[][..], &[(ID, ""), (SECRET, " ")]] {
            assert!(matches!(
                read(variables),
                Err(Error::NotConfigured {
                    provider: "environment",
                    ..
                })
            ));
        }
    }

    #[test]
    fn half_a_key_is_broken_and_names_the_other_half() {
        assert_eq!(
            refused(&[(ID, "id")]),
            "environment: ALIBABA_CLOUD_ACCESS_KEY_SECRET is not set and is needed beside ALIBABA_CLOUD_ACCESS_KEY_ID"
        );
        assert_eq!(
            refused(&[(SECRET, "hush")]),
            "environment: ALIBABA_CLOUD_ACCESS_KEY_SECRET is set and ALIBABA_CLOUD_ACCESS_KEY_ID is not"
        );
        let told = refused(&[(ID, "id"), (SECRET, "hush hush")]);
        assert!(
            told.starts_with("environment: ALIBABA_CLOUD_ACCESS_KEY_SECRET holds"),
            "{told}"
        );
        assert!(!told.contains("hush"), "{told}");
    }

    #[tokio::test]
    async fn the_process_has_an_environment() {
        assert!(process("PATH").is_some());
        assert_eq!(process("ALIBABA_CLOUD_NO_SUCH_VARIABLE"), None);
        // Whatever is set here, asking must neither panic nor hang.
        let _ = Environment::of_process().provide().await;
    }
}
