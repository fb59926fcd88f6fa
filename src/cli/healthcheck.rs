//! `healthcheck`: asks a running daemon whether it is healthy, as an image's
//! HEALTHCHECK does. It speaks plain HTTP to this machine and needs no client
//! library for one line of an answer.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::{Error, Flags};

const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn run(flags: &Flags) -> Result<(), Error> {
    let address = &flags.listen_addresses()?[0];
    let address = target(address)?;
    match status(address) {
        Ok(200) => Ok(()),
        Ok(status) => Err(Error::Failed(format!(
            "unhealthy: http://{address}/-/healthy answered {status}"
        ))),
        Err(error) => Err(Error::Failed(format!(
            "unhealthy: http://{address}/-/healthy: {error}"
        ))),
    }
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

fn status(address: SocketAddr) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET /-/healthy HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    std::str::from_utf8(&head)
        .ok()
        .and_then(|head| head.strip_prefix("HTTP/1.1 ")?.parse().ok())
        .ok_or_else(|| std::io::Error::other("the answer is not HTTP"))
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
