//! `ACS3-HMAC-SHA256`: the signature over method, query, headers and body that
//! travels in the `Authorization` header. The query holds the inputs alone.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{Key, Request, Signed, canonical_query, content_type, pairs, query, timestamp};

/// The name of the scheme, in the string to sign and in `Authorization`.
pub const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// The hex SHA-256 of no body.
const NOTHING_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The hex SHA-256 of a body, also where it is empty.
pub fn content_sha256(body: &[u8]) -> String {
    if body.is_empty() {
        return NOTHING_SHA256.to_owned();
    }
    hex(&Sha256::digest(body))
}

/// `name:value` lines, sorted by name; names in lower case, values trimmed.
pub fn canonical_headers(headers: &[(&str, &str)]) -> String {
    lines(&sorted(headers))
}

/// The names of the signed headers, lower-case, sorted, joined by `;`.
pub fn signed_headers(headers: &[(&str, &str)]) -> String {
    names(&sorted(headers))
}

type Sorted<'a> = [(Cow<'a, str>, &'a str)];

fn lines(headers: &Sorted<'_>) -> String {
    let length = headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 2);
    let mut lines = String::with_capacity(length.sum());
    for (name, value) in headers {
        lines.push_str(name);
        lines.push(':');
        lines.push_str(value.trim());
        lines.push('\n');
    }
    lines
}

fn names(headers: &Sorted<'_>) -> String {
    let length = headers.iter().map(|(name, _)| name.len() + 1);
    let mut names = String::with_capacity(length.sum());
    for (name, _) in headers {
        if !names.is_empty() {
            names.push(';');
        }
        names.push_str(name);
    }
    names
}

/// Joins the parts of a request to what is hashed. `canonical_headers` ends in a
/// newline, so an empty line follows it.
pub fn canonical_request(
    method: &str,
    canonical_query: &str,
    canonical_headers: &str,
    signed_headers: &str,
    content_sha256: &str,
) -> String {
    [
        method,
        "\n/\n",
        canonical_query,
        "\n",
        canonical_headers,
        "\n",
        signed_headers,
        "\n",
        content_sha256,
    ]
    .concat()
}

/// What is signed: the name of the scheme and the hash of the canonical request.
pub fn string_to_sign(canonical_request: &str) -> String {
    let hash = hex(&Sha256::digest(canonical_request));
    [ALGORITHM, "\n", &hash].concat()
}

/// The hex HMAC-SHA256 of `string_to_sign`.
#[expect(clippy::missing_panics_doc, reason = "it takes a key of any length")]
pub fn signature(secret: &str, string_to_sign: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(string_to_sign.as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// The value of the `Authorization` header.
pub fn authorization(key_id: &str, signed_headers: &str, signature: &str) -> String {
    [
        ALGORITHM,
        " Credential=",
        key_id,
        ",SignedHeaders=",
        signed_headers,
        ",Signature=",
        signature,
    ]
    .concat()
}

/// Signs `host`, every `x-acs-` header, and `content-type` where there is a
/// body. `accept` and `user-agent` stay out: proxies rewrite them.
pub(super) fn sign(request: &Request<'_>, key: &Key<'_>, now_millis: i64, nonce: &str) -> Signed {
    let body = query(pairs(request.form));
    let content_sha256 = content_sha256(body.as_bytes());
    let mut headers = vec![
        ("x-acs-action", request.action.to_owned()),
        ("x-acs-version", request.version.to_owned()),
        ("x-acs-date", timestamp(now_millis)),
        ("x-acs-signature-nonce", nonce.to_owned()),
        ("x-acs-content-sha256", content_sha256.clone()),
    ];
    if let Some(token) = key.token {
        headers.push(("x-acs-accesskey-id", key.id.to_owned()));
        headers.push(("x-acs-security-token", token.to_owned()));
    }
    headers.extend(content_type(request));

    let query = canonical_query(pairs(request.params));
    let mut signing: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    signing.push(("host", request.host));
    let signing = sorted(&signing);
    let names = names(&signing);
    let lines = lines(&signing);
    let canonical = canonical_request(request.method, &query, &lines, &names, &content_sha256);
    let signature = signature(key.secret, &string_to_sign(&canonical));
    headers.push(("authorization", authorization(key.id, &names, &signature)));
    Signed {
        query,
        headers,
        body,
        signature,
    }
}

fn sorted<'a>(headers: &[(&'a str, &'a str)]) -> Vec<(Cow<'a, str>, &'a str)> {
    let mut sorted: Vec<_> = headers
        .iter()
        .map(|&(name, value)| {
            let lower = if name.bytes().any(|b| b.is_ascii_uppercase()) {
                Cow::Owned(name.to_ascii_lowercase())
            } else {
                Cow::Borrowed(name)
            };
            (lower, value)
        })
        .collect();
    sorted.sort_unstable();
    sorted
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        hex.push(digit(byte >> 4));
        hex.push(digit(byte & 0xf));
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_are_folded_and_values_trimmed() {
        let headers = [("X-Acs-B", " 2 "), ("host", "h"), ("x-acs-a", "1")];
        assert_eq!(
            canonical_headers(&headers),
            "host:h\nx-acs-a:1\nx-acs-b:2\n"
        );
        assert_eq!(signed_headers(&headers), "host;x-acs-a;x-acs-b");
    }

    #[test]
    fn the_hash_of_nothing_is_the_known_one() {
        assert_eq!(
            content_sha256(b""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
