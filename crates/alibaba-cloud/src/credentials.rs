//! Where access keys come from: [`Credentials`] and the trait that provides
//! them, one provider a file. A provider tells "nothing here" from "here, but
//! unusable", because a [`chain`] may go on after the first alone; when keys
//! are asked for anew is decided by [`cached`]. What is done with a key is left
//! to `signing` and `api`.

mod answer;
pub mod assume_role;
pub mod cached;
pub mod chain;
pub mod ecs_ram_role;
pub mod entry;
pub mod environment;
mod exchange;
mod external;
mod files;
pub mod oidc;
pub mod static_key;
pub mod sts;
pub mod uri;
pub mod values;
pub mod vendor_file;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};

pub use files::check as check_file;

use crate::clock::Clock;
use crate::http::Http;
use crate::observer::Observer;
use crate::signing::Key;

/// Where the metadata service of an ECS instance answers.
pub const METADATA: &str = "http://100.100.100.200";

/// What the providers of one entry of the configuration use together.
#[derive(Clone)]
pub struct Context {
    /// Names the account in the log.
    pub name: String,
    /// Connections.
    pub http: Http,
    /// Counts requests and failures.
    pub observer: Arc<dyn Observer>,
    /// Dates signatures and tells when a key ends.
    pub clock: Clock,
    /// Whom to ask.
    pub addresses: Addresses,
    /// The directory under which the vendor's files are looked for, where none
    /// is named: `HOME`.
    pub home: Option<PathBuf>,
    /// The session name of roles that set none, as the audit log shows it.
    pub session_name: String,
}

/// Where STS and the metadata service answer. Plain http is refused but to this
/// machine and to the metadata service's own address.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Scheme and authority of STS, which then decides whatever the region.
    pub sts: Option<String>,
    /// The region whose STS is asked; the central one without it.
    pub sts_region: Option<String>,
    /// Whether the endpoint within the VPC is asked.
    pub vpc: bool,
    /// Scheme and authority of the metadata service.
    pub metadata: String,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            sts: None,
            sts_region: None,
            vpc: false,
            metadata: METADATA.to_owned(),
        }
    }
}

impl Context {
    /// The same, with STS asked in `region` or at `endpoint`.
    #[must_use]
    pub fn at(&self, region: &Option<values::Region>, endpoint: &Option<values::Endpoint>) -> Self {
        let mut context = self.clone();
        context.addresses.sts = endpoint.as_ref().map(values::Endpoint::url);
        context.addresses.sts_region = region.as_deref().map(str::to_owned);
        context
    }

    /// The same, with another metadata service.
    #[must_use]
    pub fn with_metadata(&self, endpoint: &values::MetadataEndpoint) -> Self {
        let mut context = self.clone();
        context.addresses.metadata = endpoint.0.url();
        context
    }
}

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

impl Credentials {
    /// What may be shown of the id: its last four characters, and those only
    /// of a long one.
    pub fn shown_id(&self) -> String {
        let hidden = self.access_key_id.chars().count().max(8) - 4;
        let tail = self.access_key_id.chars().skip(hidden);
        "…".chars().chain(tail).collect()
    }

    /// To sign with.
    pub(crate) fn key(&self) -> Key<'_> {
        Key {
            id: &self.access_key_id,
            secret: self.access_key_secret.expose_secret(),
            token: self
                .security_token
                .as_ref()
                .map(ExposeSecret::expose_secret),
        }
    }

    /// Whether both are one key, whatever provider they came from.
    fn is_same_key(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("provider", &self.provider)
            .field("access_key_id", &format_args!("{}", self.shown_id()))
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
        /// The same without what changes from one attempt to the next, such as
        /// a message of the cloud: what tells one trouble from another.
        kind: String,
    },
}

impl Error {
    fn not_configured(provider: &'static str, missing: impl Into<String>) -> Self {
        Self::NotConfigured {
            provider,
            missing: missing.into(),
        }
    }

    fn broken(provider: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::Broken {
            provider,
            kind: problem.clone(),
            problem,
        }
    }

    /// A broken one, known again by `kind` however its text changes.
    fn broken_as(provider: &'static str, problem: String, kind: String) -> Self {
        Self::Broken {
            provider,
            problem,
            kind,
        }
    }

    /// This trouble as one of `outer`, which needs this provider and is broken
    /// without it; `told` puts the text into a sentence.
    fn within(&self, outer: &'static str, told: impl Fn(&str) -> String) -> Self {
        let named = |provider: &str, text: &str| {
            if provider == outer {
                told(text)
            } else {
                told(&format!("{provider}: {text}"))
            }
        };
        match self {
            Self::NotConfigured { provider, missing } => Self::broken(
                outer,
                named(provider, &format!("not configured: {missing}")),
            ),
            Self::Broken {
                provider,
                problem,
                kind,
            } => Self::broken_as(outer, named(provider, problem), named(provider, kind)),
        }
    }

    /// What tells this trouble from another one, however often it is had.
    fn kind(&self) -> String {
        match self {
            Self::NotConfigured { .. } => self.to_string(),
            Self::Broken { provider, kind, .. } => format!("{provider}: {kind}"),
        }
    }
}

/// A source of keys, asked before every request.
pub trait ProvideCredentials: Send + Sync {
    /// A key that is valid now.
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>>;

    /// The cloud refused `refused`, which should have been valid: `true` where
    /// there is another key now. Without it a provider has only what it gives.
    fn renew<'a>(&'a self, _refused: &'a Credentials) -> BoxFuture<'a, bool> {
        Box::pin(std::future::ready(false))
    }

    /// Whether asking costs no more than reading memory and small files, so
    /// that a key which does not expire can be read again at every use.
    fn is_local(&self) -> bool {
        false
    }
}

/// A provider that has no key, known from the start, so that a chain can name it.
struct Unavailable(Error);

impl ProvideCredentials for Unavailable {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(std::future::ready(Err(self.0.clone())))
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
    fn a_trouble_of_another_provider_keeps_text_and_kind_and_names_nobody_twice() {
        let broken =
            |provider| Error::broken_as(provider, "no, says 7".to_owned(), "no, says".to_owned());
        for (inner, text, kind) in [
            (
                broken("oidc"),
                "a: (oidc: no, says 7)",
                "a: (oidc: no, says)",
            ),
            (broken("a"), "a: (no, says 7)", "a: (no, says)"),
            (
                Error::not_configured("oidc", "no file"),
                "a: (oidc: not configured: no file)",
                "a: (oidc: not configured: no file)",
            ),
        ] {
            let outer = inner.within("a", |text| format!("({text})"));
            assert!(matches!(outer, Error::Broken { .. }));
            assert_eq!(
                (outer.to_string(), outer.kind()),
                (text.into(), kind.into())
            );
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
}
