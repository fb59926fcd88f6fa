//! `HMAC-SHA1` with `SignatureVersion` 1.0 ("V2 for RPC"): the signature over
//! method and parameters that travels in the query. The vendor discourages it
//! for new code, and proxies that drop unknown headers still need it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::{
    Key, Request, Signed, canonical_query, content_type, pairs, percent_encode, query, timestamp,
};

/// What is signed: the method, the path `/` and the canonical query, which are
/// the parameters of query and form together, without `Signature`.
pub fn string_to_sign(method: &str, canonical_query: &str) -> String {
    format!("{method}&%2F&{}", percent_encode(canonical_query))
}

/// The key of the HMAC: the secret with an ampersand behind it.
pub fn hmac_key(secret: &str) -> String {
    format!("{secret}&")
}

/// The base64 HMAC-SHA1 of `string_to_sign`.
#[expect(clippy::missing_panics_doc, reason = "it takes a key of any length")]
pub fn signature(secret: &str, string_to_sign: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(hmac_key(secret).as_bytes()).expect("any length");
    mac.update(string_to_sign.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The canonical query with its signature behind it, as it goes on the wire.
pub fn signed_query(canonical_query: &str, signature: &str) -> String {
    format!("{canonical_query}&Signature={}", percent_encode(signature))
}

pub(super) fn sign(request: &Request<'_>, key: &Key<'_>, now_millis: i64, nonce: &str) -> Signed {
    let timestamp = timestamp(now_millis);
    let params: Vec<_> = [
        ("AccessKeyId", key.id),
        ("Action", request.action),
        // Without it the answer is XML.
        ("Format", "JSON"),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureNonce", nonce),
        ("SignatureVersion", "1.0"),
        ("Timestamp", &timestamp),
        ("Version", request.version),
    ]
    .into_iter()
    .chain(key.token.map(|token| ("SecurityToken", token)))
    .chain(pairs(request.params))
    .collect();

    let in_query = canonical_query(params.iter().copied());
    let signature = if request.form.is_empty() {
        signature(key.secret, &string_to_sign(request.method, &in_query))
    } else {
        let all = canonical_query(params.into_iter().chain(pairs(request.form)));
        signature(key.secret, &string_to_sign(request.method, &all))
    };
    Signed {
        query: signed_query(&in_query, &signature),
        headers: content_type(request).into_iter().collect(),
        body: query(pairs(request.form)),
        signature,
    }
}
