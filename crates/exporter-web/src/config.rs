//! The web configuration as plain values: what the exporters' common file says,
//! with defaults filled in. Parsing the file is left to the application.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Everything the file says. No `Debug`: nearly all of it is secret.
#[derive(Default)]
pub struct WebConfig {
    /// `tls_server_config`; plain HTTP without it.
    pub tls: Option<TlsConfig>,
    /// Headers of every response; the names in their usual spelling.
    pub headers: Vec<(&'static str, String)>,
    /// `basic_auth_users`: users and the bcrypt hashes of their passwords;
    /// nobody needs a password where it is empty.
    pub users: BTreeMap<String, SecretString>,
    /// `None` where requests are not limited.
    pub rate_limit: Option<RateLimit>,
    /// What is accepted and perhaps not meant, one line each.
    pub warnings: Vec<String>,
}

/// `tls_server_config`.
pub struct TlsConfig {
    /// The certificate chain of the server.
    pub certificate: Pem,
    /// Its private key.
    pub key: Pem,
    /// Certificate authorities of client certificates.
    pub client_ca: Option<Pem>,
    /// Whether clients have to present a certificate.
    pub client_auth: ClientAuth,
    /// A client certificate must have one of these alternative names; any
    /// certificate is authorized where it is empty.
    pub client_allowed_sans: Vec<String>,
    /// The oldest version.
    pub min_version: TlsVersion,
    /// The newest version; not older than `min_version`.
    pub max_version: TlsVersion,
    /// For TLS 1.2, in order of preference; `None` selects the defaults.
    pub cipher_suites: Option<Vec<CipherSuite>>,
    /// In order of preference; empty selects the defaults.
    pub curves: Vec<Curve>,
    /// Whether the server's order of cipher suites has precedence over the client's.
    pub prefer_server_cipher_suites: bool,
}

/// Certificates or a key in PEM.
pub struct Pem {
    /// Where the PEM text is.
    pub source: PemSource,
    /// Where the configuration names it, as errors cite it: `web.yaml:3:14: cert_file`.
    pub place: String,
}

/// Where a PEM text is.
pub enum PemSource {
    /// In the configuration itself.
    Inline(SecretString),
    /// In a file.
    File(PathBuf),
}

impl Pem {
    /// An error about the content, after its place.
    pub(crate) fn error(&self, message: &str) -> String {
        format!("{}: {message}", self.place)
    }
}

/// `client_auth_type`, by Go's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// `NoClientCert`
    None,
    /// `RequestClientCert`: requested and not verified.
    Request,
    /// `RequireAnyClientCert`: required and not verified.
    RequireAny,
    /// `VerifyClientCertIfGiven`
    VerifyIfGiven,
    /// `RequireAndVerifyClientCert`
    RequireAndVerify,
}

impl ClientAuth {
    /// Whether a client without a certificate is refused.
    pub fn requires(self) -> bool {
        matches!(self, Self::RequireAny | Self::RequireAndVerify)
    }

    /// Whether an authority must have signed the certificate.
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// A supported TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

/// The supported cipher suites of TLS 1.2; all with ECDHE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub enum CipherSuite {
    EcdsaAes128Gcm,
    EcdsaAes256Gcm,
    EcdsaChaCha20,
    RsaAes128Gcm,
    RsaAes256Gcm,
    RsaChaCha20,
}

/// The supported groups of a key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub enum Curve {
    X25519,
    P256,
    P384,
}

/// `rate_limit`, over all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Between two requests, on average; positive.
    pub interval: Duration,
    /// Requests at once; 0 refuses every request.
    pub burst: u32,
}
