//! `healthcheck`: asks a running daemon whether it is healthy, as an image's
//! HEALTHCHECK does.
//!
//! It tries both HTTP and HTTPS, since the web configuration may have changed
//! after the daemon loaded it. Nothing secret is sent and the path is open, so
//! any certificate is accepted.

use std::error::Error as _;
use std::io;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use reqwest::redirect::Policy;
use rustls::crypto::ring;

use super::{Error, Flags, block_on};
use crate::telemetry;

const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn run(flags: &Flags) -> Result<(), Error> {
    let address = target(&flags.listen_addresses()?[0])?;
    let mut schemes = ["http", "https"];
    if flags.web_config_file.is_some() {
        schemes.reverse();
    }
    block_on(check(address, schemes))?
}

async fn check(address: SocketAddr, schemes: [&str; 2]) -> Result<(), Error> {
    // Fails only if there is one already.
    let _ = ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .redirect(Policy::none())
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| Error::failed(&error))?;
    let mut failures = Vec::new();
    for scheme in schemes {
        let url = format!("{scheme}://{address}/-/healthy");
        match client
            .get(&url)
            .send()
            .await
            .map(|response| response.status().as_u16())
        {
            Ok(200) => return Ok(()),
            Ok(status) => {
                failures = vec![format!("unhealthy: {url} answered {status}")];
                break;
            }
            Err(error) => {
                let is_last = error.is_timeout() || is_refused(&error);
                let error = telemetry::chain(&error.without_url());
                failures.push(format!("unhealthy: {url}: {error}"));
                if is_last {
                    break;
                }
            }
        }
    }
    Err(Error::Failed(failures.join("\n")))
}

/// Whether nobody listens, so that the other scheme would fail too.
fn is_refused(error: &reqwest::Error) -> bool {
    let mut sources = iter::successors(error.source(), |&error| error.source());
    sources.any(|error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    })
}

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
