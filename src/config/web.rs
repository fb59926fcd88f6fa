//! The web configuration: the file that all exporters share, about TLS, client
//! certificates, passwords, headers and a rate limit. `file` is the mirror of its
//! keys, `validate` judges them.
//!
//! What stands in the files that it names is left to `server`, which reads them
//! again and again.

mod file;
mod validate;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;

use super::mistake::Place;
pub use super::{Error, Mistake, Secret};

/// Everything the file says, with defaults filled in. No `Debug`: nearly all of
/// it is secret.
pub struct Web {
    /// Without it plain http is spoken.
    pub tls: Option<Tls>,
    /// Headers for every answer; the names in their usual spelling.
    pub headers: Vec<(&'static str, String)>,
    /// Users and the bcrypt hashes of their passwords; without one nobody needs
    /// a password.
    pub users: BTreeMap<String, SecretString>,
    /// `None` where requests are not limited.
    pub rate_limit: Option<RateLimit>,
    /// What is accepted and perhaps not meant.
    pub warnings: Vec<Mistake>,
}

/// `tls_server_config:`
pub struct Tls {
    /// The server's chain.
    pub certificate: Material,
    /// Its key.
    pub key: Material,
    /// The authorities of client certificates.
    pub client_ca: Option<Material>,
    /// Whether clients have to show a certificate.
    pub client_auth: ClientAuth,
    /// Of which names one must stand in a client's certificate; empty: any will do.
    pub client_allowed_sans: Vec<String>,
    /// The oldest version.
    pub min_version: Version,
    /// The newest version; no older than `min_version`.
    pub max_version: Version,
    /// For TLS 1.2, in order of preference; `None` takes the defaults.
    pub cipher_suites: Option<Vec<CipherSuite>>,
    /// In order of preference; empty takes the defaults.
    pub curves: Vec<Curve>,
    /// Whether the order of the cipher suites is the server's and not the client's.
    pub prefer_server_cipher_suites: bool,
}

/// PEM, written in the file or in one of its own.
pub struct Material {
    /// Where it stands.
    pub source: Secret,
    file: String,
    at: Place,
}

impl Material {
    /// Something wrong with the content.
    pub fn mistake(&self, message: impl Into<String>) -> Mistake {
        let mut mistake = Mistake::new(&self.at, message);
        self.file.clone_into(&mut mistake.file);
        mistake
    }
}

/// `client_auth_type`, by Go's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// `NoClientCert`
    None,
    /// `RequestClientCert`: asked for and not looked at.
    Request,
    /// `RequireAnyClientCert`: must be there, whoever signed it.
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

/// A version of TLS that can be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

/// Those for TLS 1.2 that can be used; all with ECDHE.
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

/// Groups of a key exchange that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub enum Curve {
    X25519,
    P256,
    P384,
}

/// `rate_limit:`, of all requests together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// From one request to the next, in the long run; positive.
    pub interval: Duration,
    /// How many may follow one another at once; with 0 there is never a request.
    pub burst: u32,
}

/// Reads and judges the file at `path`.
///
/// # Errors
///
/// [`Error::Io`] where it cannot be read, else as [`parse`].
pub fn load(path: &Path) -> Result<Web, Error> {
    parse(&read(path)?, &path.display().to_string())
}

/// The text of the file at `path`.
///
/// # Errors
///
/// [`Error::Io`] where it cannot be read, [`Error::Mistakes`] where it is no text.
pub fn read(path: &Path) -> Result<String, Error> {
    let bytes = super::read(path)?;
    super::text(&bytes, path).map(str::to_owned)
}

/// Judges `text`, which came from the file `file_name`; relative paths in it
/// are relative to that file's folder.
///
/// # Errors
///
/// [`Error::Mistakes`]: the first mistake of syntax or shape alone, or else
/// every other one.
pub fn parse(text: &str, file_name: &str) -> Result<Web, Error> {
    let folder = Path::new(file_name).parent().unwrap_or(Path::new(""));
    file::parse(text)
        .map_err(|mistake| vec![mistake])
        .and_then(|file| validate::validate(file, file_name, folder))
        .map_err(|found| super::mistakes(found, file_name))
}
