//! Where access keys come from: [`Credentials`] and the trait that provides
//! them, one provider a file. A provider tells "nothing here" from "here, but
//! unusable", because a [`chain`] may go on after the first alone. What is done
//! with a key is left to `signing` and `api`.

pub mod chain;
pub mod environment;
pub mod static_key;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use prometheus::IntCounter;
use secrecy::SecretString;

/// A key as one provider gave it.
#[derive(Clone)]
pub struct Credentials {
    /// The access key id.
    pub access_key_id: String,
    /// The access key secret.
    pub access_key_secret: SecretString,
    /// The security token of a temporary key.
    pub security_token: Option<SecretString>,
    /// When the key ends (Unix time, milliseconds); `None` for one that does not.
    pub expires_at_ms: Option<i64>,
    /// The provider's name, as in `credentials.NAME.type`.
    pub provider: &'static str,
}

impl fmt::Debug for Credentials {
    /// Of the id the last four characters, and those only of a long one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = self.access_key_id.chars().count().max(8) - 4;
        let tail: String = self.access_key_id.chars().skip(hidden).collect();
        f.debug_struct("Credentials")
            .field("provider", &self.provider)
            .field("access_key_id", &format_args!("…{tail}"))
            .field("temporary", &self.security_token.is_some())
            .field("expires_at_ms", &self.expires_at_ms)
            .finish_non_exhaustive()
    }
}

/// Why there is no key. The texts name the provider, what is missing or wrong
/// and what would be right, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing points to this provider; a chain asks the next one.
    #[error("{provider}: not configured: {missing}")]
    NotConfigured {
        /// The provider's name.
        provider: &'static str,
        /// What it would have needed.
        missing: String,
    },
    /// The provider is configured and gave no usable key; a chain ends here, so
    /// that a broken role does not become somebody else's key.
    #[error("{provider}: {problem}")]
    Broken {
        /// The provider's name.
        provider: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
}

/// A source of keys, asked before every request.
pub trait ProvideCredentials: Send + Sync {
    /// A key that is valid now.
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>>;
}

/// Counts the failures of another provider.
pub struct Counted {
    inner: Arc<dyn ProvideCredentials>,
    failures: IntCounter,
}

impl Counted {
    /// Wraps `inner`; `failures` is [`crate::metrics::own::Own::credentials_failures`].
    pub fn new(inner: Arc<dyn ProvideCredentials>, failures: IntCounter) -> Self {
        Self { inner, failures }
    }
}

impl ProvideCredentials for Counted {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(async {
            let provided = self.inner.provide().await;
            if provided.is_err() {
                self.failures.inc();
            }
            provided
        })
    }
}

/// Cuts off surrounding white space and refuses what no key can hold, before it
/// turns into a header that cannot be sent. `Err` is what is wrong with it.
fn clean(value: &str) -> Result<&str, &'static str> {
    let value = value.trim();
    if value.is_empty() {
        Err("is empty")
    } else if value.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(value)
    } else {
        Err(
            "holds white space or characters outside of ASCII within the value; it should hold the value alone, on one line",
        )
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::static_key::{Setting, StaticKey};
    use super::*;

    fn credentials(id: &str) -> Credentials {
        Credentials {
            access_key_id: id.to_owned(),
            access_key_secret: "EXAMPLE-secret".into(),
            security_token: Some("EXAMPLE-token".into()),
            expires_at_ms: None,
            provider: "access_key",
        }
    }

    #[test]
    fn debug_shows_the_end_of_a_long_id_and_no_secret() {
        let shown = format!("{:?}", credentials("LTAIexample1234"));
        assert!(shown.contains("…1234"), "{shown}");
        assert!(!shown.contains("example1"), "{shown}");
        assert!(!shown.contains("EXAMPLE"), "{shown}");
        let short = format!("{:?}", credentials("abcd"));
        assert!(!short.contains("abcd"), "{short}");
        assert!(format!("{:?}", credentials("abcdef")).contains("…ef"));
    }

    #[tokio::test]
    async fn failures_alone_are_counted() {
        let failures = IntCounter::new("failures", "failures").expect("a valid name");
        let key = |id: &str| {
            Arc::new(StaticKey::new(
                Setting::Inline(id.into()),
                Setting::Inline("s".into()),
                None,
            ))
        };
        let good = Counted::new(key("id"), failures.clone());
        let provided = good.provide().await.expect("an inline key");
        assert_eq!(provided.access_key_secret.expose_secret(), "s");
        assert_eq!(failures.get(), 0);
        let bad = Counted::new(key(""), failures.clone());
        assert!(bad.provide().await.is_err());
        assert_eq!(failures.get(), 1);
    }
}
