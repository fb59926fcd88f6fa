//! TLS of the simulated cloud, with a certificate that the caller brings; no
//! client certificates.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How a simulated cloud speaks TLS.
#[derive(Clone)]
pub struct Tls {
    pub(super) config: Arc<ServerConfig>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// What should hold certificates does not.
    #[error("the certificate is no PEM with BEGIN CERTIFICATE")]
    Certificate(#[source] pem::Error),
    /// What should hold a key does not.
    #[error("the key is no PEM with BEGIN PRIVATE KEY")]
    Key(#[source] pem::Error),
    /// The two do not go together, or are of a kind that cannot be used.
    #[error("certificate and key cannot be used")]
    Unusable(#[source] rustls::Error),
}

impl Tls {
    /// With a chain of certificates in PEM, the server's own first, and its key
    /// without a passphrase.
    ///
    /// # Errors
    ///
    /// Fails where the two are not what they should be or do not go together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(TlsError::Certificate)?;
        if chain.is_empty() {
            return Err(TlsError::Certificate(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(TlsError::Unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("alpn", &self.config.alpn_protocols)
            .finish_non_exhaustive()
    }
}
