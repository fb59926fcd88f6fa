//! The mirror of the web configuration: every key and the shape of each value.

use secrecy::SecretString;

use crate::config::Mistake;
use crate::config::file::{
    Amount, Mapping, Number, Placed, Shape, entries, key, mappings, mismatch, optional, pairs,
};
use crate::config::mistake::Place;
use crate::config::yaml::{self, Kind, Node};

/// Reads `text` as the mirror.
pub(super) fn parse(text: &str) -> Result<File, Mistake> {
    let root = yaml::parse(text)?;
    let at = Place {
        line: root.line,
        column: root.column,
        path: String::new(),
    };
    match root.kind {
        Kind::Null => Ok(File::default()),
        _ => File::read(&root, &at),
    }
}

mappings! {
    /// The whole file.
    File {
        tls_server_config: Tls,
        http_server_config: Http,
        basic_auth_users: Users,
        rate_limit: RateLimit,
    }

    /// `tls_server_config:`
    Tls {
        cert: SecretString,
        cert_file: String,
        key: SecretString,
        key_file: String,
        client_ca: SecretString,
        client_ca_file: String,
        client_auth_type: String,
        client_allowed_sans: Vec<Placed<String>>,
        min_version: String,
        max_version: String,
        cipher_suites: Vec<Placed<String>>,
        curve_preferences: Vec<Placed<String>>,
        prefer_server_cipher_suites: bool,
    }

    /// `http_server_config:`
    Http {
        // Accepted without effect: the server speaks HTTP/1.1 alone.
        http2: bool,
        headers: Headers,
    }

    /// `rate_limit:`
    RateLimit {
        interval: Amount,
        burst: Number,
    }
}

/// `basic_auth_users:`, whose keys are the users' names.
pub(super) struct Users(pub(super) Vec<(Placed<String>, Placed<SecretString>)>);

/// `headers:`; which of them may be set is judged later.
pub(super) struct Headers(pub(super) Vec<(Placed<String>, Placed<String>)>);

impl Shape for Users {
    fn read(node: &Node, at: &Place) -> Result<Self, Mistake> {
        named(node, at, SecretString::read).map(Self)
    }
}

impl Shape for Headers {
    fn read(node: &Node, at: &Place) -> Result<Self, Mistake> {
        // `X-XSS-Protection: 1` is usual.
        let value = |node: &Node, at: &Place| match &node.kind {
            Kind::Integer(value) => Ok(value.to_string()),
            Kind::Null => Ok(String::new()),
            _ => String::read(node, at),
        };
        named(node, at, value).map(Self)
    }
}

/// A mapping whose keys are not ours.
#[expect(clippy::type_complexity, reason = "as it stands in the file")]
fn named<T>(
    node: &Node,
    at: &Place,
    read: impl Fn(&Node, &Place) -> Result<T, Mistake>,
) -> Result<Vec<(Placed<String>, Placed<T>)>, Mistake> {
    if !matches!(node.kind, Kind::Mapping(_)) {
        return Err(mismatch(at, "a mapping", &node.kind));
    }
    let mut named = Vec::new();
    for (name, node, name_at, at) in pairs(node, at)? {
        let name = Placed {
            value: name.to_owned(),
            at: name_at,
        };
        let value = read(node, &at)?;
        named.push((name, Placed { value, at }));
    }
    Ok(named)
}
