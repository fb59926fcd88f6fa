//! TLS as the web configuration says, on ring: the server's certificate, and
//! what is asked of a client's.
//!
//! A client's certificate is never required in the handshake, where nothing but
//! the possession of its key is proved: whether it is good enough is judged for
//! each request, so that the paths of health stay open, and by what is in force
//! then.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, InconsistentKeys, RootCertStore,
    ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use secrecy::{ExposeSecret as _, SecretSlice};
use settings::Secret;
use webpki::RawPublicKeyEntity;
use x509_parser::prelude::{ASN1Time, FromDer as _, GeneralName, X509Certificate};

use crate::config::{ClientAuth, Pem, TlsConfig, TlsVersion};

/// TLS in force.
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    client_auth: ClientAuth,
    /// Where certificates are verified; nobody is trusted where it is `None`.
    authorities: Option<Authorities>,
    allowed_sans: Vec<String>,
}

/// Who may have signed a client's certificate.
struct Authorities {
    verifier: Arc<dyn ClientCertVerifier>,
    /// A client's own certificate may be among them.
    certificates: Vec<CertificateDer<'static>>,
}

/// Why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no certificate.
    Missing,
    /// It is not signed by whom it should, or not valid now.
    Untrusted,
    /// It names nobody who is let in.
    NotAllowed,
}

impl Tls {
    /// For new connections.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    pub(crate) fn requires_certificate(&self) -> bool {
        self.client_auth.requires()
    }

    /// Judges the chain that a client has shown, its own certificate first.
    pub(crate) fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<(), Refusal> {
        let Some((own, others)) = chain.split_first() else {
            return if self.client_auth.requires() {
                Err(Refusal::Missing)
            } else {
                Ok(())
            };
        };
        if !self.client_auth.verifies() {
            return Ok(());
        }
        let now = UnixTime::now();
        let trusted = self.authorities.as_ref().is_some_and(|authorities| {
            authorities
                .verifier
                .verify_client_cert(own, others, now)
                .is_ok()
                || (authorities.certificates.contains(own) && may_stand_alone(own, now))
        });
        if !trusted {
            return Err(Refusal::Untrusted);
        }
        if self.allowed_sans.is_empty() || names(own, |name| self.is_allowed(name)) {
            Ok(())
        } else {
            Err(Refusal::NotAllowed)
        }
    }

    fn is_allowed(&self, name: &str) -> bool {
        self.allowed_sans.iter().any(|allowed| allowed == name)
    }
}

/// Whether a certificate that is trusted itself is a client's, and valid now.
fn may_stand_alone(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let Ok(now) = i64::try_from(now.as_secs()).map(ASN1Time::from_timestamp) else {
        return false;
    };
    let usage = match certificate.extended_key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.value.client_auth || usage.value.any,
        Err(_) => false,
    };
    usage && now.is_ok_and(|now| certificate.validity().is_valid_at(now))
}

/// Whether one of the certificate's alternative names is one that `wanted` wants.
fn names(certificate: &CertificateDer<'_>, wanted: impl Fn(&str) -> bool) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return false;
    };
    names.value.general_names.iter().any(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            wanted(name)
        }
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.is_ok_and(|address| wanted(&address.to_canonical().to_string()))
        }
        _ => false,
    })
}

/// Makes TLS of what the web configuration says and of the content of what it
/// names: certificate, key, the authorities of clients.
pub(crate) fn build(
    web: &TlsConfig,
    contents: &[io::Result<SecretSlice<u8>>],
) -> Result<Tls, Vec<String>> {
    let mut contents = contents.iter();
    let mut errors = Vec::new();
    let mut read = |material| {
        let content = contents.next()?.as_ref();
        note(
            &mut errors,
            content.map_err(|error| unreadable(material, error)),
        )
    };
    let certificate = read(&web.certificate);
    let key = read(&web.key);
    let client_ca = web
        .client_ca
        .as_ref()
        .map(|material| (material, read(material)));

    let provider = Arc::new(provider(web));
    let chain =
        certificate.and_then(|content| note(&mut errors, certificates(&web.certificate, content)));
    let key = key.and_then(|content| note(&mut errors, private_key(&web.key, content)));
    let certified = key.and_then(|key| note(&mut errors, certify(web, chain, key, &provider)));
    let authorities = match client_ca {
        Some((material, content)) => content.and_then(|content| {
            let trusted = certificates(material, content)
                .and_then(|certificates| trust(material, certificates, &provider));
            note(&mut errors, trusted)
        }),
        None if web.client_auth.verifies() => public_authorities(&provider),
        None => None,
    };
    let Some(Some(certified)) = certified.filter(|_| errors.is_empty()) else {
        return Err(errors);
    };

    let asking = Asking {
        hints: authorities
            .as_ref()
            .map(|authorities| authorities.verifier.root_hint_subjects().to_vec())
            .unwrap_or_default(),
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(web))
        .map_err(|error| vec![web.certificate.error(&error.to_string())])?;
    let builder = if web.client_auth == ClientAuth::None {
        builder.with_no_client_auth()
    } else {
        builder.with_client_cert_verifier(Arc::new(asking))
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.ignore_client_order = web.prefer_server_cipher_suites;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls {
        config: Arc::new(config),
        client_auth: web.client_auth,
        authorities,
        allowed_sans: web
            .client_allowed_sans
            .iter()
            .map(|san| san.0.clone())
            .collect(),
    })
}

/// Collects an error.
fn note<T>(errors: &mut Vec<String>, result: Result<T, String>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

fn unreadable(material: &Pem, error: &io::Error) -> String {
    match &material.source {
        Secret::File(path) => material.error(&format!("cannot read {}: {error}", path.display())),
        Secret::Inline(_) => material.error(&format!("cannot be read: {error}")),
    }
}

fn provider(web: &TlsConfig) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if let Some(suites) = web.suites() {
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some());
        provider.cipher_suites.extend(suites);
    }
    let curves = web.curves();
    if !curves.is_empty() {
        provider.kx_groups = curves;
    }
    provider
}

fn versions(web: &TlsConfig) -> Vec<&'static SupportedProtocolVersion> {
    let known = [
        (TlsVersion::Tls13, &rustls::version::TLS13),
        (TlsVersion::Tls12, &rustls::version::TLS12),
    ];
    let allowed = web.min_version..=web.max_version;
    let allowed = known
        .into_iter()
        .filter(|(version, _)| allowed.contains(version));
    allowed.map(|(_, version)| version).collect()
}

/// All certificates of a PEM.
fn certificates(
    material: &Pem,
    content: &SecretSlice<u8>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let sections = CertificateDer::pem_slice_iter(content.expose_secret());
    let certificates: Result<Vec<_>, pem::Error> = sections.collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(material.error("holds no certificate; PEM with BEGIN CERTIFICATE is wanted"))
        }
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(material.error("is no valid PEM; look at its first and last lines")),
    }
}

fn private_key(
    material: &Pem,
    content: &SecretSlice<u8>,
) -> Result<PrivateKeyDer<'static>, String> {
    let content = content.expose_secret();
    PrivateKeyDer::from_pem_slice(content).map_err(|error| {
        let encrypted = b"ENCRYPTED";
        let is_encrypted = content
            .windows(encrypted.len())
            .any(|window| window == encrypted);
        material.error(match error {
            _ if is_encrypted => "is protected by a passphrase; store it without one",
            pem::Error::NoItemsFound => {
                "holds no private key; PEM with BEGIN PRIVATE KEY is wanted"
            }
            _ => "is no valid PEM; look at its first and last lines",
        })
    })
}

/// The key with its chain, which may be a mistake itself.
fn certify(
    web: &TlsConfig,
    chain: Option<Vec<CertificateDer<'static>>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<Option<CertifiedKey>, String> {
    let key = provider.key_provider.load_private_key(key).map_err(|_| {
        web.key.error(
            "is no key that can be used; RSA of 2048 bits or more, ECDSA on P-256 or P-384 and \
             Ed25519 can",
        )
    })?;
    let Some(chain) = chain else {
        return Ok(None);
    };
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            Ok(Some(certified))
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(web
            .key
            .error("is not the key of the certificate; its first certificate is the server's")),
        Err(_) => Err(web
            .certificate
            .error("is no valid certificate of X.509 version 3")),
    }
}

fn trust(
    material: &Pem,
    certificates: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Authorities, String> {
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|_| material.error("holds what is no valid certificate of X.509 version 3"))?;
    }
    authorities(roots, certificates, provider)
        .ok_or_else(|| material.error("holds no certificate of an authority"))
}

/// Those of the system: what Go takes where none is named.
fn public_authorities(provider: &Arc<CryptoProvider>) -> Option<Authorities> {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    });
    authorities(roots.clone(), Vec::new(), provider)
}

fn authorities(
    roots: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Option<Authorities> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    Some(Authorities {
        verifier: verifier.build().ok()?,
        certificates,
    })
}

/// The public key of a certificate, whatever else it holds: one of version 1, or
/// with a critical extension that nobody knows, is refused later and with words.
fn key<'a>(own: &'a CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'a>, CertificateError> {
    X509Certificate::from_der(own)
        .map(|(_, certificate)| certificate.tbs_certificate.subject_pki.raw.into())
        .map_err(|_| CertificateError::BadEncoding)
}

/// Asks for a certificate and takes any; see the module.
#[derive(Debug)]
struct Asking {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        key(own)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = self.algorithms.mapping.iter();
        let algorithms = algorithms.filter(|(scheme, _)| *scheme == signature.scheme);
        let mut algorithms = algorithms.flat_map(|(_, algorithms)| *algorithms);
        let key = key(own)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        algorithms
            .any(|algorithm| {
                let signature = signature.signature();
                key.verify_signature(*algorithm, message, signature).is_ok()
            })
            .then(HandshakeSignatureValid::assertion)
            .ok_or_else(|| CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature_with_raw_key(message, &key(own)?, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
