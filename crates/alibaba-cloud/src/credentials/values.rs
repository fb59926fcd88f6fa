//! Values of the settings of credentials: how each is written, and which are usable.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::str::FromStr;

use secrecy::{ExposeSecret as _, SecretString};
use settings::{Hidden, MASK, not_quoted, text_value};

/// The metadata service of an ECS instance, which speaks plain http.
pub const METADATA: &str = "100.100.100.200";

/// Scheme and authority of a server; plain http only to a loopback address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host, and the port where it is not the scheme's own: the Host header.
    pub authority: String,
}

text_value!(Endpoint, "a text", {
    "type": "string", "x-type": "endpoint", "examples": ["https://HOST"],
    "pattern": "^([Hh][Tt][Tt][Pp][Ss]?://)?[^/?#@\\s]+/?$",
});

impl Endpoint {
    /// `host` by https.
    pub fn https(host: String) -> Self {
        Self {
            tls: true,
            authority: host,
        }
    }

    /// `https://host` or `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        self.to_string()
    }

    /// The host alone, an IPv6 address in its brackets.
    pub fn host(&self) -> &str {
        split_port(&self.authority).map_or(&self.authority, |(host, _)| host)
    }

    /// Reads `host[:port]`, with a slash at the end where somebody wrote one.
    fn of(tls: bool, authority: &str) -> Result<Self, String> {
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains('@') {
            return Err("must not contain a user or a password; start with the host".to_owned());
        }
        if authority.contains(['/', '?', '#']) {
            return Err(
                "must not contain a path or a query; end with the host or its port".to_owned(),
            );
        }
        let (host, port) = split_port(authority)
            .filter(|(host, _)| is_host(host))
            .ok_or("not an endpoint; write https://HOST or https://HOST:PORT")?;
        let host = host.to_ascii_lowercase();
        let own_port = if tls { 443 } else { 80 };
        let authority = match port {
            Some(port) if port != own_port => format!("{host}:{port}"),
            _ => host,
        };
        Ok(Self { tls, authority })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.authority)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    /// Reads `https://host[:port]`, `http://loopback[:port]` or a bare `host[:port]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (tls, authority) = if text.contains("://") {
            scheme(text)
                .ok_or("must start with https://, or with http:// for a loopback address")?
        } else {
            (true, text)
        };
        let endpoint = Self::of(tls, authority)?;
        if !tls && !is_loopback(endpoint.host()) {
            return Err("plain http is allowed for loopback addresses only; write https://".into());
        }
        Ok(endpoint)
    }
}

/// As [`Endpoint`], with plain http to the metadata service as well, and never
/// without a scheme, since https would be a wrong guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataEndpoint(pub Endpoint);

text_value!(MetadataEndpoint, "a text", {
    "type": "string", "x-type": "endpoint", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\\s]+/?$",
});

impl Default for MetadataEndpoint {
    fn default() -> Self {
        Self(Endpoint {
            tls: false,
            authority: METADATA.to_owned(),
        })
    }
}

impl fmt::Display for MetadataEndpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for MetadataEndpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tls, authority) = scheme(text).ok_or_else(schemes_of_keys)?;
        let endpoint = Endpoint::of(tls, authority)?;
        keys_may_come_from(&endpoint)?;
        Ok(Self(endpoint))
    }
}

/// The URI of a server that gives keys: https, or http to a loopback address or
/// the metadata service. User, path and query may be secrets, and are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUri(pub Hidden);

text_value!(KeyUri, "a text", {
    "type": "string", "x-type": "URI", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://",
    "examples": ["https://HOST/PATH"],
});

impl FromStr for KeyUri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tls, rest) = scheme(text).ok_or_else(schemes_of_keys)?;
        let of_uris =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte);
        if !rest.bytes().all(of_uris) {
            return Err(
                "contains a character that a URI must not, such as a space or #; write it as %XX"
                    .to_owned(),
            );
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let server = Endpoint::of(tls, host)
            .map_err(|_| "not a URI; write https://HOST/PATH or https://HOST:PORT/PATH")?;
        keys_may_come_from(&server)?;
        Ok(Self(SecretString::from(text).into()))
    }
}

impl fmt::Display for KeyUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.0.expose_secret();
        let (scheme, rest) = uri.split_once("://").unwrap_or(("https", uri));
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        write!(formatter, "{scheme}://")?;
        match authority.rsplit_once('@') {
            Some((_, host)) => write!(formatter, "{MASK}@{host}")?,
            None => formatter.write_str(authority)?,
        }
        if tail.len() > 1 {
            write!(formatter, "/{MASK}")?;
        }
        Ok(())
    }
}

fn schemes_of_keys() -> String {
    format!("must start with https://, or with http:// for a loopback address or {METADATA}")
}

/// The metadata service is reached on the instance's own link.
fn keys_may_come_from(server: &Endpoint) -> Result<(), String> {
    if server.tls || is_loopback(server.host()) || server.host() == METADATA {
        Ok(())
    } else {
        Err(format!(
            "plain http is allowed for loopback addresses and {METADATA} only; write https://"
        ))
    }
}

/// Whether TLS is asked for, and what follows `https://` or `http://`.
fn scheme(text: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = scheme.eq_ignore_ascii_case("https");
    (tls || scheme.eq_ignore_ascii_case("http")).then_some((tls, rest))
}

/// Splits `host:port` and `[::1]:port`.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority[host_end..].find(':') else {
        return Some((authority, None));
    };
    let (host, port) = authority.split_at(host_end + colon);
    let port = &port[1..];
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| *port > 0 && digits)?;
    Some((host, Some(port)))
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits makes it an IPv4 address, or a mistyped one.
    let is_numeric = host
        .rsplit('.')
        .next()
        .is_some_and(|label| label.parse::<u64>().is_ok());
    host.len() <= 253
        && host.split('.').all(is_label)
        && (!is_numeric || host.parse::<std::net::Ipv4Addr>().is_ok())
}

/// Whether `host` is this machine: `localhost`, 127.0.0.0/8 or `::1`.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Declares texts that differ in which are usable.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $check:expr, $schema:tt;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        text_value!($name, "a text", $schema);

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let check: fn(&str) -> Result<(), String> = $check;
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
    )* };
}

texts! {
    /// `acs:ram::ACCOUNT:role/NAME`
    RoleArn: |text| arn(text, "role"), {
        "type": "string", "pattern": "^acs:ram::[!-9;-~]+:role/[!-~]+$",
        "examples": ["acs:ram::1234567890123456:role/acr-reader"],
    };

    /// `acs:ram::ACCOUNT:oidc-provider/NAME`
    ProviderArn: |text| arn(text, "oidc-provider"), {
        "type": "string", "pattern": "^acs:ram::[!-9;-~]+:oidc-provider/[!-~]+$",
        "examples": ["acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0123"],
    };

    /// The name of a session of a role, which the audit log shows.
    SessionName: |text| {
        let is_name = (2..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".@_-".contains(&byte));
        is_name.then_some(()).ok_or_else(|| "must be 2 to 64 letters, digits, ., @, _ and -".to_owned())
    }, { "type": "string", "pattern": "^[A-Za-z0-9.@_-]{2,64}$" };

    /// The name of a role, which becomes a part of a path.
    RoleName: |text| {
        let is_name = (1..=64).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        is_name.then_some(()).ok_or_else(|| {
            "not a role name; it starts with a letter or digit, then come letters, digits, ., _ \
             and -, at most 64 characters in all; do not write the ARN here".to_owned()
        })
    }, { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" };

    /// A RAM policy in JSON.
    Policy: |text| {
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
            .map(|_| ())
            .map_err(|_| r#"must be a RAM policy in JSON, such as {"Version": "1", "Statement": […]}"#.to_owned())
    }, { "type": "string", "x-type": "JSON as a text", "pattern": "^\\s*\\{" };

    /// A name that a person gave.
    Name: |text| {
        let is_name = !text.is_empty() && text.trim() == text;
        is_name.then_some(()).ok_or_else(|| "must be a name without surrounding white space".to_owned())
    }, { "type": "string", "pattern": "^\\S([\\s\\S]*\\S)?$" };

    /// The id of a region.
    Region: |text| {
        let is_region = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        is_region.then_some(()).ok_or_else(|| {
            format!("must be the id of a region, such as cn-hangzhou: lower-case letters, digits and dashes{}", not_quoted(text))
        })
    }, { "type": "string", "x-type": "region", "pattern": "^[a-z0-9-]{1,64}$", "examples": ["cn-hangzhou"] };
}

impl Default for SessionName {
    fn default() -> Self {
        Self("aliyun-acr-exporter".to_owned())
    }
}

/// Refuses what cannot be `acs:ram::ACCOUNT:KIND/NAME`; what account and name may
/// be is the cloud's business.
fn arn(text: &str, kind: &str) -> Result<(), String> {
    let parts = text
        .strip_prefix("acs:ram::")
        .and_then(|rest| rest.split_once(':'))
        .and_then(|(account, rest)| Some((account, rest.strip_prefix(kind)?.strip_prefix('/')?)));
    let is_arn = parts.is_some_and(|(account, name)| !account.is_empty() && !name.is_empty())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_arn
        .then_some(())
        .ok_or_else(|| format!("not an ARN of the form acs:ram::ACCOUNT:{kind}/NAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_scheme_and_a_host_and_nothing_else() {
        let good = [
            ("cr.example.com", "https://cr.example.com"),
            ("cr.example.com:8443", "https://cr.example.com:8443"),
            ("https://cr.example.com:443", "https://cr.example.com"),
            ("HTTPS://CR.example.com/", "https://cr.example.com"),
            ("https://10.0.0.1:8443", "https://10.0.0.1:8443"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
            ("[::1]", "https://[::1]"),
            ("localhost:18080", "https://localhost:18080"),
            ("http://localhost:18080", "http://localhost:18080"),
            ("http://127.8.9.1:80", "http://127.8.9.1"),
            ("http://[::1]:18080", "http://[::1]:18080"),
        ];
        for (text, url) in good {
            assert_eq!(
                text.parse::<Endpoint>().map(|endpoint| endpoint.url()),
                Ok(url.to_owned()),
                "{text}"
            );
        }
        let bad = [
            "",
            "https://",
            "http://",
            "://",
            ":8443",
            "https://:8443",
            "cr.example.com:",
            "cr.example.com:0",
            "cr.example.com:65536",
            "cr.example.com:+80",
            "cr.example.com:80:80",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]:x",
            "[localhost]",
            "cr..example.com",
            ".com",
            "-cr.example.com",
            "cr example.com",
            "cr.example.com ",
            "例え.jp",
            "10.0.0",
            "256.0.0.1",
            "https://user@cr.example.com",
            "https://user:pass@localhost",
            "cr.example.com/api",
            "cr.example.com?a=b",
            "cr.example.com#a",
            "ftp://localhost",
            "unix:///run/socket",
            "http://cr.example.com",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://[::ffff:10.0.0.1]",
            "https://cr\\example.com",
        ];
        for text in bad {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_metadata_service_is_asked_in_plain_http() {
        let good = [
            ("http://100.100.100.200", "http://100.100.100.200"),
            ("HTTP://100.100.100.200:80/", "http://100.100.100.200"),
            ("http://100.100.100.200:8080", "http://100.100.100.200:8080"),
            ("http://localhost:18082", "http://localhost:18082"),
            ("http://[::1]:18082", "http://[::1]:18082"),
            (
                "https://metadata.example.com",
                "https://metadata.example.com",
            ),
        ];
        for (text, url) in good {
            assert_eq!(
                text.parse::<MetadataEndpoint>()
                    .map(|endpoint| endpoint.0.url()),
                Ok(url.to_owned()),
                "{text}"
            );
        }
        let bad = [
            "",
            "100.100.100.200",
            "localhost",
            "http://100.100.100.201",
            "http://100.100.100.200.example.com",
            "http://100.100.100.200@example.com",
            "http://metadata.example.com",
            "http://169.254.169.254",
            "http://localhost/latest",
            "ftp://100.100.100.200",
        ];
        for text in bad {
            assert!(text.parse::<MetadataEndpoint>().is_err(), "{text:?}");
        }
        assert!(
            "http://100.100.100.200".parse::<Endpoint>().is_err(),
            "there alone, nowhere else"
        );
    }

    /// Above all: what looks like a loopback address and is none.
    #[test]
    fn keys_are_asked_for_over_tls_or_at_a_loopback_address() {
        let good = [
            "https://keys.example.com",
            "https://keys.example.com:8443/prod?token=a%20b&c=/?@:",
            "https://user:pass@keys.example.com/",
            "https://u@ser:pass@keys.example.com",
            "HTTP://LocalHost:8080/keys",
            "http://127.0.0.1?keys",
            "http://user:pass@[::1]:8080/keys",
            "http://100.100.100.200/",
            "http://100.100.100.200/latest/meta-data/ram/security-credentials/reader",
        ];
        for text in good {
            assert!(text.parse::<KeyUri>().is_ok(), "{text}");
        }
        let bad = [
            "",
            "localhost/keys",
            "ftp://localhost/keys",
            "http://",
            "http:///keys",
            "http://:8080/keys",
            "http://localhost:0/keys",
            "http://localhost:x/keys",
            "http://keys.example.com",
            "http://localhost@keys.example.com/",
            "http://localhost:80@keys.example.com/",
            "http://localhost.example.com/",
            "http://127.0.0.1.example.com/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://127.1/",
            "http://100.100.100.201/",
            "http://100.100.100.200.example.com/",
            "http://100.100.100.200@keys.example.com/",
            "http://localhost\\@keys.example.com/",
            "http://keys.example.com/?@localhost",
            "http://keys.example.com/@localhost",
            "http://keys.example.com#@localhost",
            "http://localhost/#fragment",
            "http://localhost/a b",
            "http://localhost/\n",
            "http://localhost/é",
            "http://loc%61lhost/",
        ];
        for text in bad {
            assert!(text.parse::<KeyUri>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_of_the_cloud_are_judged_loosely() {
        let arns = [
            ("acs:ram::1234567890123456:role/reader", true),
            ("acs:ram::alias.onaliyun.com:role/path/reader", true),
            ("acs:ram:::role/reader", false),
            ("acs:ram::123:role/", false),
            ("acs:ram::123:role", false),
            ("acs:ram::123:roles/reader", false),
            ("acs:ram::123:x:role/reader", false),
            ("acs:ram::123:role/a b", false),
            ("acs:ram::123:role/é", false),
            ("acs:ram::123:oidc-provider/ack", false),
            ("arn:aws:iam::123:role/reader", false),
            ("", false),
        ];
        for (text, good) in arns {
            assert_eq!(text.parse::<RoleArn>().is_ok(), good, "{text}");
        }
        assert!(
            "acs:ram::123:oidc-provider/ack"
                .parse::<ProviderArn>()
                .is_ok()
        );

        let long = "a".repeat(65);
        let sessions = [("ab", true), ("a.b@c_d-9", true), (&long[..64], true)];
        let no_sessions = [("", false), ("a", false), ("a b", false), ("a/b", false)];
        for (text, good) in sessions.into_iter().chain(no_sessions) {
            assert_eq!(text.parse::<SessionName>().is_ok(), good, "{text}");
        }
        assert!(long.parse::<SessionName>().is_err());

        let names = [("a", true), ("A-b.c_9", true), (&long[..64], true)];
        let no_names = [("", false), (".", false), ("..", false), ("a/b", false)];
        for (text, good) in names.into_iter().chain(no_names) {
            assert_eq!(text.parse::<RoleName>().is_ok(), good, "{text}");
        }
        assert!(long.parse::<RoleName>().is_err());
    }
}
