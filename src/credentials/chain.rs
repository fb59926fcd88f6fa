//! Providers asked one after the other: the next only where one is not
//! configured. A broken one ends the chain, other than in the official clients,
//! so that a broken role does not silently become somebody else's key.

use futures_util::future::BoxFuture;

use super::environment::Environment;
use super::{Credentials, Error, ProvideCredentials};

const PROVIDER: &str = "default";

/// The provider.
pub struct Chain(Vec<Box<dyn ProvideCredentials>>);

impl Chain {
    /// Asks `providers` in their order.
    pub fn new(providers: Vec<Box<dyn ProvideCredentials>>) -> Self {
        Self(providers)
    }

    /// The official order, as far as it is supported; `lookup` is the environment.
    pub fn official(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::new(vec![Box::new(Environment::new(lookup))])
    }
}

impl ProvideCredentials for Chain {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(async {
            let mut tried = Vec::new();
            for provider in &self.0 {
                match provider.provide().await {
                    Err(skipped @ Error::NotConfigured { .. }) => tried.push(skipped.to_string()),
                    Err(broken) if !tried.is_empty() => return Err(told(&broken, &tried)),
                    ended => return ended,
                }
            }
            Err(Error::NotConfigured {
                provider: PROVIDER,
                missing: format!("no provider has a key ({})", tried.join("; ")),
            })
        })
    }
}

fn told(broken: &Error, tried: &[String]) -> Error {
    Error::Broken {
        provider: PROVIDER,
        problem: format!("{broken} (tried before it: {})", tried.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scripted(Result<Credentials, Error>);

    impl ProvideCredentials for Scripted {
        fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
            Box::pin(std::future::ready(self.0.clone()))
        }
    }

    fn skipped(provider: &'static str) -> Box<dyn ProvideCredentials> {
        Box::new(Scripted(Err(Error::NotConfigured {
            provider,
            missing: "X is not set".to_owned(),
        })))
    }

    fn broken(provider: &'static str) -> Box<dyn ProvideCredentials> {
        Box::new(Scripted(Err(Error::Broken {
            provider,
            problem: "X is a directory".to_owned(),
        })))
    }

    fn good(provider: &'static str) -> Box<dyn ProvideCredentials> {
        Box::new(Scripted(Ok(Credentials {
            access_key_id: "id".to_owned(),
            access_key_secret: "secret".into(),
            security_token: None,
            expires_at_ms: None,
            provider,
        })))
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

    #[tokio::test]
    async fn the_official_chain_reads_the_environment() {
        let chain = Chain::official(|name| {
            name.starts_with("ALIBABA_CLOUD_ACCESS_KEY_")
                .then(|| "value".to_owned())
        });
        let provided = chain.provide().await.expect("a key");
        assert_eq!(provided.provider, "environment");
    }
}
