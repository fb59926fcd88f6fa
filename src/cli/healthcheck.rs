//! `healthcheck`: asks a running daemon whether it is healthy, as an image's
//! HEALTHCHECK does. It speaks to this machine and needs no client library for
//! one line of an answer.
//!
//! With `--web.config.file` it asks over TLS first and by plain HTTP where that
//! is not spoken: what the file says now need not be in force. Nothing secret is
//! sent and the path is open, so it does not matter whose certificate it is.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::{Error, Flags};

const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn run(flags: &Flags) -> Result<(), Error> {
    let address = &flags.listen_addresses()?[0];
    let address = target(address)?;
    let mut ways: Vec<(&str, Way)> = vec![("http", plain)];
    if flags.web_config_file.is_some() {
        ways.insert(0, ("https", over_tls));
    }
    let mut failures = Vec::new();
    for (scheme, way) in ways {
        match way(address) {
            Ok(200) => return Ok(()),
            Ok(status) => {
                return Err(Error::Failed(format!(
                    "unhealthy: {scheme}://{address}/-/healthy answered {status}"
                )));
            }
            Err(error) => failures.push(format!(
                "unhealthy: {scheme}://{address}/-/healthy: {error}"
            )),
        }
    }
    Err(Error::Failed(failures.join("\n")))
}

/// Asks, and answers the status.
type Way = fn(SocketAddr) -> io::Result<u16>;

/// Where a daemon with this listen address is reached from its own machine.
fn target(listen: &str) -> Result<SocketAddr, Error> {
    let full = if listen.starts_with(':') {
        format!("127.0.0.1{listen}")
    } else {
        listen.to_owned()
    };
    let mut address = full
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| Error::Failed(format!("there is no host of the name in {listen:?}")))?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

fn plain(address: SocketAddr) -> io::Result<u16> {
    status(connect(address)?, address)
}

fn over_tls(address: SocketAddr) -> io::Result<u16> {
    let provider = Arc::new(ring::default_provider());
    let anyone = Anyone(provider.signature_verification_algorithms);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anyone))
        .with_no_client_auth();
    let name = ServerName::from(address.ip());
    let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    status(StreamOwned::new(session, connect(address)?), address)
}

fn status(mut stream: impl Read + Write, address: SocketAddr) -> io::Result<u16> {
    write!(
        stream,
        "GET /-/healthy HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    std::str::from_utf8(&head)
        .ok()
        .and_then(|head| head.strip_prefix("HTTP/1.1 ")?.parse().ok())
        .ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

/// Takes everybody for the daemon; see the module.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_listens_everywhere_is_asked_on_loopback() {
        let target = |listen| target(listen).unwrap().to_string();
        assert_eq!(target(":10980"), "127.0.0.1:10980");
        assert_eq!(target("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(target("[::]:1"), "[::1]:1");
        assert_eq!(target("127.0.0.2:1"), "127.0.0.2:1");
    }
}
