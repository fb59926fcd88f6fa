//! Request signing for the cloud's RPC style, in both schemes that its gateways
//! accept. Pure: time and nonce are arguments, nothing is read or sent, and every
//! stage is its own function, so that a wrong signature can be traced to the
//! stage that broke. Which scheme to use, where the keys come from and how a
//! signed request travels is left to the callers.

pub mod acs3;
pub mod hmac_sha1;

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The content type of a request that carries a form.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// How a request is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `ACS3-HMAC-SHA256`, signature in the headers: what the official SDKs send today.
    Acs3,
    /// `HMAC-SHA1`, `SignatureVersion` 1.0, signature in the query.
    HmacSha1,
}

/// An access key, borrowed for the time of one signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// The access key id.
    pub id: &'a str,
    /// The access key secret.
    pub secret: &'a str,
    /// The security token of temporary credentials.
    pub token: Option<&'a str>,
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A parameter before encoding: name and value.
pub type Param<'a> = (&'a str, Cow<'a, str>);

/// One call of an operation, before it is signed. The path is always `/`.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// What the `Host` header will say: with the port where it is not the scheme's own.
    pub host: &'a str,
    /// The operation, such as `ListInstance`.
    pub action: &'a str,
    /// The version of the product's API, such as `2018-12-01`.
    pub version: &'a str,
    /// The inputs that travel in the query.
    pub params: &'a [Param<'a>],
    /// The inputs that travel in a form; empty where there is no body.
    pub form: &'a [Param<'a>],
}

impl fmt::Debug for Request<'_> {
    /// Without the inputs: a form may carry an OIDC token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("host", &self.host)
            .field("action", &self.action)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A request as it goes on the wire.
pub struct Signed {
    /// The query, encoded, without the question mark. May hold the security
    /// token, so it belongs in no log.
    pub query: String,
    /// Headers to add, lower-case. `host` is not among them: the HTTP client
    /// sends it, and it must equal [`Request::host`].
    pub headers: Vec<(&'static str, String)>,
    /// The encoded form; empty where there is none.
    pub body: String,
    /// The signature by itself, before any encoding; empty where there is none.
    pub signature: String,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").finish_non_exhaustive()
    }
}

/// Signs `request` with `key` as of `now_millis` (Unix time, milliseconds).
///
/// `nonce` must never have been used with this key; a retry is a new request
/// and needs a new signature.
pub fn sign(
    algorithm: Algorithm,
    request: &Request<'_>,
    key: &Key<'_>,
    now_millis: i64,
    nonce: &str,
) -> Signed {
    match algorithm {
        Algorithm::Acs3 => acs3::sign(request, key, now_millis, nonce),
        Algorithm::HmacSha1 => hmac_sha1::sign(request, key, now_millis, nonce),
    }
}

/// Prepares a request that needs no signature, as `AssumeRoleWithOIDC`, whose
/// token is its proof.
pub fn unsigned(request: &Request<'_>, now_millis: i64) -> Signed {
    let timestamp = timestamp(now_millis);
    let common = [
        ("Action", request.action),
        ("Format", "JSON"),
        ("Timestamp", &timestamp),
        ("Version", request.version),
    ];
    Signed {
        query: canonical_query(common.into_iter().chain(pairs(request.params))),
        headers: content_type(request).into_iter().collect(),
        body: query(pairs(request.form)),
        signature: String::new(),
    }
}

/// Something to sign with that was never used before: 32 random hexadecimal
/// digits. The one thing in this room that is not pure.
pub fn nonce() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    format!("{:032x}", u128::from_ne_bytes(bytes))
}

/// Percent-encodes the UTF-8 bytes of `value`, keeping `A-Z a-z 0-9 - _ . ~`.
pub fn percent_encode(value: &str) -> PercentEncode<'_> {
    utf8_percent_encode(value, RESERVED)
}

/// Encodes parameters in the order given, as a query or a form; an empty value
/// is `key=`.
pub fn query<'a>(params: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = String::new();
    for (name, value) in params {
        if !query.is_empty() {
            query.push('&');
        }
        query.extend(percent_encode(name));
        query.push('=');
        query.extend(percent_encode(value));
    }
    query
}

/// Encodes parameters sorted by their raw names, as both schemes sign them.
pub fn canonical_query<'a>(params: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut sorted: Vec<_> = params.into_iter().collect();
    sorted.sort_unstable();
    query(sorted)
}

/// Formats `millis` (Unix time, milliseconds) as `YYYY-MM-DDThh:mm:ssZ`, cutting
/// off the part of a second; a time outside of the calendar's years −9999 to 9999
/// becomes the nearest that is inside.
pub fn timestamp(millis: i64) -> String {
    let second = millis.div_euclid(1000);
    let nearest = if second < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    let time = Timestamp::from_second(second).unwrap_or(nearest);
    format!("{time:.0}")
}

fn pairs<'a>(params: &'a [Param<'a>]) -> impl Iterator<Item = (&'a str, &'a str)> {
    params.iter().map(|(name, value)| (*name, value.as_ref()))
}

fn content_type(request: &Request<'_>) -> Option<(&'static str, String)> {
    (!request.form.is_empty()).then(|| ("content-type", FORM.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: Key<'static> = Key {
        id: "exampleAccessKeyId",
        secret: "EXAMPLE-secret",
        token: Some("EXAMPLE-token"),
    };

    const TOKEN_KEY: Key<'static> = Key {
        id: "exampleAccessKeyId",
        secret: "secret",
        token: Some("to+ken/="),
    };

    #[test]
    fn the_timestamp_has_whole_seconds_and_utc() {
        // `date -u -d @1767323045 +%FT%TZ`
        assert_eq!(timestamp(1_767_323_045_999), "2026-01-02T03:04:05Z");
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59Z");
        assert_eq!(timestamp(i64::MAX), "9999-12-30T22:00:00Z");
    }

    #[test]
    fn reserved_characters_are_encoded_in_upper_case() {
        assert_eq!(
            percent_encode("a b*c+d/e~f-g_h.i:ü").to_string(),
            "a%20b%2Ac%2Bd%2Fe~f-g_h.i%3A%C3%BC"
        );
    }

    #[test]
    fn an_empty_value_keeps_its_equals_sign() {
        assert_eq!(canonical_query([("b", ""), ("a", "1")]), "a=1&b=");
    }

    #[test]
    fn parameters_are_sorted_by_their_raw_names() {
        // Encoded, "%C3%A9" would stand before "a".
        assert_eq!(
            canonical_query([("é", "1"), ("a", "2"), ("Z", "3")]),
            "Z=3&a=2&%C3%A9=1"
        );
    }

    #[test]
    fn an_unsigned_form_stays_out_of_the_query() {
        let request = Request {
            method: "POST",
            host: "sts.aliyuncs.com",
            action: "AssumeRoleWithOIDC",
            version: "2015-04-01",
            params: &[],
            form: &[("OIDCToken", "a.b/c".into()), ("RoleArn", "acs:x".into())],
        };
        let plain = unsigned(&request, 1_767_323_045_000);
        assert_eq!(
            plain.query,
            "Action=AssumeRoleWithOIDC&Format=JSON&Timestamp=2026-01-02T03%3A04%3A05Z&Version=2015-04-01"
        );
        assert_eq!(plain.body, "OIDCToken=a.b%2Fc&RoleArn=acs%3Ax");
        assert_eq!(plain.headers, [("content-type", FORM.to_owned())]);
        assert!(!format!("{request:?}{plain:?}").contains("a.b"));
    }

    // The two values below come from the schemes' descriptions written down in
    // Python's hmac, hashlib and urllib; the vectors have neither case.

    #[test]
    fn hmac_sha1_signs_the_form_with_the_query_and_the_token() {
        let request = Request {
            method: "POST",
            host: "sts.aliyuncs.com",
            action: "AssumeRole",
            version: "2015-04-01",
            params: &[],
            form: &[
                ("RoleArn", "acs:ram::1:role/r".into()),
                ("RoleSessionName", "s".into()),
            ],
        };
        let signed = sign(
            Algorithm::HmacSha1,
            &request,
            &TOKEN_KEY,
            1_767_323_045_000,
            "n-1",
        );
        assert_eq!(
            signed.query,
            "AccessKeyId=exampleAccessKeyId&Action=AssumeRole&Format=JSON&SecurityToken=to%2Bken%2F%3D&SignatureMethod=HMAC-SHA1&SignatureNonce=n-1&SignatureVersion=1.0&Timestamp=2026-01-02T03%3A04%3A05Z&Version=2015-04-01&Signature=VUcNtSaJPzOI%2FTSoEqFOwCaqfQs%3D"
        );
        assert_eq!(
            signed.body,
            "RoleArn=acs%3Aram%3A%3A1%3Arole%2Fr&RoleSessionName=s"
        );
        assert_eq!(signed.headers, [("content-type", FORM.to_owned())]);
    }

    #[test]
    fn acs3_signs_the_token() {
        let request = Request {
            method: "GET",
            host: "cr.cn-hangzhou.aliyuncs.com",
            action: "ListInstance",
            version: "2018-12-01",
            params: &[("PageNo", "1".into())],
            form: &[],
        };
        let signed = sign(
            Algorithm::Acs3,
            &request,
            &TOKEN_KEY,
            1_767_323_045_000,
            "n-1",
        );
        assert_eq!(signed.query, "PageNo=1");
        let authorization = (
            "authorization",
            "ACS3-HMAC-SHA256 Credential=exampleAccessKeyId,SignedHeaders=host;x-acs-accesskey-id;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-security-token;x-acs-signature-nonce;x-acs-version,Signature=a5eca8d965ed0c837acafa27dafc8c3fcbf07dd5c74fe44481ceaaeddecfb317".to_owned(),
        );
        assert_eq!(signed.headers.last(), Some(&authorization));
    }

    #[test]
    fn debug_shows_neither_secret_nor_token() {
        let request = Request {
            method: "GET",
            host: "cr.cn-hangzhou.aliyuncs.com",
            action: "ListInstance",
            version: "2018-12-01",
            params: &[],
            form: &[],
        };
        for algorithm in [Algorithm::Acs3, Algorithm::HmacSha1] {
            let signed = sign(algorithm, &request, &KEY, 0, "nonce");
            let shown = format!("{KEY:?} {request:?} {signed:?}");
            assert!(shown.contains("exampleAccessKeyId"), "{shown}");
            assert!(!shown.contains("EXAMPLE-"), "{shown}");
        }
    }

    #[test]
    fn a_nonce_is_never_the_same() {
        let nonces: std::collections::HashSet<_> = (0..1000).map(|_| nonce()).collect();
        assert_eq!(nonces.len(), 1000);
        assert!(nonces.iter().all(|nonce| nonce.len() == 32));
    }

    proptest! {
        #[test]
        fn encoding_is_reversible_and_unreserved(value in any::<String>()) {
            let encoded = percent_encode(&value).to_string();
            prop_assert!(
                encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b))
            );
            let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8();
            prop_assert_eq!(decoded.as_deref(), Ok(value.as_str()));
            prop_assert_eq!(percent_encode(&decoded.expect("decoded above")).to_string(), encoded);
        }
    }
}
