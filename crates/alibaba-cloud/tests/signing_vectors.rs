//! Signing, stage by stage, against vectors from outside of this code: two that
//! the vendor published, and what its official SDKs sign.

use std::borrow::Cow;

use alibaba_cloud::signing::{self, Algorithm, Key, Request, acs3, canonical_query, hmac_sha1};
use serde_json::{Map, Value};

const VECTORS: &str = include_str!("../testdata/signing-vectors.json");

struct Vector<'a>(&'a Map<String, Value>);

impl<'a> Vector<'a> {
    fn text(&self, field: &str) -> &'a str {
        self.0[field].as_str().expect("a string")
    }

    fn pairs(&self, field: &str) -> Vec<(&'a str, &'a str)> {
        let map = self.0[field].as_object().expect("an object");
        map.iter()
            .map(|(name, value)| (name.as_str(), value.as_str().expect("a string")))
            .collect()
    }

    #[track_caller]
    fn stage(&self, stage: &str, got: &str) {
        assert_eq!(got, self.text(stage), "{}: {stage}", self.text("name"));
    }

    /// The order of a query on the wire is free, so the parts are compared.
    #[track_caller]
    fn wire(&self, got: &str) {
        let parts = |query: &str| {
            let mut parts: Vec<_> = query.split('&').map(str::to_owned).collect();
            parts.sort();
            parts
        };
        assert_eq!(
            parts(got),
            parts(self.text("wire_query_rfc3986")),
            "{}: wire_query_rfc3986",
            self.text("name")
        );
    }
}

fn vectors(scheme: &str, check: impl Fn(&Vector<'_>)) -> usize {
    let all: Value = serde_json::from_str(VECTORS).expect("valid JSON");
    let vectors = all[scheme].as_array().expect("an array");
    for vector in vectors {
        check(&Vector(vector.as_object().expect("an object")));
    }
    vectors.len()
}

/// Milliseconds of `YYYY-MM-DDThh:mm:ssZ`.
fn millis(timestamp: &str) -> i64 {
    let time: jiff::Timestamp = timestamp.parse().expect("a timestamp");
    time.as_millisecond()
}

fn take<'a>(pairs: &mut Vec<(&'a str, &'a str)>, name: &str) -> Option<&'a str> {
    let at = pairs.iter().position(|(n, _)| *n == name)?;
    Some(pairs.remove(at).1)
}

fn params<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<signing::Param<'a>> {
    pairs.iter().map(|&(n, v)| (n, Cow::Borrowed(v))).collect()
}

#[test]
fn hmac_sha1_agrees_at_every_stage() {
    let seen = vectors("hmac_sha1", |vector| {
        let query = vector.pairs("query_params");
        let form = vector.pairs("form_params");
        let secret = vector.text("access_key_secret");
        vector.stage("hmac_key", &hmac_sha1::hmac_key(secret));
        let canonical = canonical_query(query.iter().chain(&form).copied());
        vector.stage("canonicalized_query_string", &canonical);
        let to_sign = hmac_sha1::string_to_sign(vector.text("method"), &canonical);
        vector.stage("string_to_sign", &to_sign);
        let signature = hmac_sha1::signature(secret, &to_sign);
        vector.stage("signature", &signature);
        let in_query = canonical_query(query.iter().copied());
        vector.wire(&hmac_sha1::signed_query(&in_query, &signature));

        let mut inputs = query;
        let mut common = |name: &str| take(&mut inputs, name);
        for (name, value) in [
            ("Format", "JSON"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureVersion", "1.0"),
        ] {
            assert_eq!(common(name), Some(value), "{}", vector.text("name"));
        }
        let (id, token) = (common("AccessKeyId"), common("SecurityToken"));
        let (action, version) = (common("Action"), common("Version"));
        let (now, nonce) = (common("Timestamp"), common("SignatureNonce"));
        let signed = signing::sign(
            Algorithm::HmacSha1,
            &Request {
                method: vector.text("method"),
                host: "not signed",
                action: action.expect("Action"),
                version: version.expect("Version"),
                params: &params(&inputs),
                form: &params(&form),
            },
            &Key {
                id: id.expect("AccessKeyId"),
                secret,
                token,
            },
            millis(now.expect("Timestamp")),
            nonce.expect("SignatureNonce"),
        );
        vector.wire(&signed.query);
    });
    assert_eq!(seen, 6);
}

#[test]
fn acs3_agrees_at_every_stage() {
    let seen = vectors("acs3", |vector| {
        let headers = vector.pairs("headers_signed");
        let query = vector.pairs("query_params");
        let body = vector.text("body");
        let key_id = vector.text("access_key_id");
        let secret = vector.text("access_key_secret");

        let hash = acs3::content_sha256(body.as_bytes());
        vector.stage("hashed_request_payload", &hash);
        let canonical = canonical_query(query.iter().copied());
        vector.stage("canonical_query_string", &canonical);
        let canonical_headers = acs3::canonical_headers(&headers);
        vector.stage("canonical_headers", &canonical_headers);
        let names = acs3::signed_headers(&headers);
        vector.stage("signed_headers", &names);
        let request = acs3::canonical_request(
            vector.text("method"),
            &canonical,
            &canonical_headers,
            &names,
            &hash,
        );
        vector.stage("canonical_request", &request);
        vector.stage(
            "hashed_canonical_request",
            &acs3::content_sha256(request.as_bytes()),
        );
        let to_sign = acs3::string_to_sign(&request);
        vector.stage("string_to_sign", &to_sign);
        let signature = acs3::signature(secret, &to_sign);
        vector.stage("signature", &signature);
        vector.stage(
            "authorization",
            &acs3::authorization(key_id, &names, &signature),
        );
        vector.wire(&canonical);
    });
    assert_eq!(seen, 7);
}

/// The whole of [`signing::sign`] gives the vectors' `Authorization` wherever a
/// vector signs the headers that we sign.
#[test]
fn acs3_requests_carry_the_vectors_authorization() {
    let whole = std::cell::Cell::new(0);
    let seen = vectors("acs3", |vector| {
        let mut headers = vector.pairs("headers_signed");
        if take(&mut headers, "accept").is_some() {
            return; // the SDK's own set of headers, compared stage by stage above
        }
        let mut header = |name: &str| take(&mut headers, name);
        let (host, nonce) = (header("host"), header("x-acs-signature-nonce"));
        let (action, version) = (header("x-acs-action"), header("x-acs-version"));
        let (now, token) = (header("x-acs-date"), header("x-acs-security-token"));
        let hash = header("x-acs-content-sha256");
        assert_eq!(token.is_some(), header("x-acs-accesskey-id").is_some());
        let is_form = header("content-type").inspect(|t| assert_eq!(*t, signing::FORM));
        assert_eq!(headers, [], "{}", vector.text("name"));

        let decoded: Vec<(String, String)> = vector
            .text("body")
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| {
                let value = percent_encoding::percent_decode_str(value);
                (name.to_owned(), value.decode_utf8_lossy().into_owned())
            })
            .collect();
        let form: Vec<_> = decoded.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(is_form.is_some(), !form.is_empty());

        let signed = signing::sign(
            Algorithm::Acs3,
            &Request {
                method: vector.text("method"),
                host: host.expect("host"),
                action: action.expect("x-acs-action"),
                version: version.expect("x-acs-version"),
                params: &params(&vector.pairs("query_params")),
                form: &params(&form),
            },
            &Key {
                id: vector.text("access_key_id"),
                secret: vector.text("access_key_secret"),
                token,
            },
            millis(now.expect("x-acs-date")),
            nonce.expect("x-acs-signature-nonce"),
        );
        vector.stage("body", &signed.body);
        vector.wire(&signed.query);
        let value = |wanted: &str| {
            let found = signed.headers.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("x-acs-content-sha256"), hash);
        assert_eq!(value("x-acs-security-token"), token);
        vector.stage("authorization", value("authorization").expect("signed"));
        whole.set(whole.get() + 1);
    });
    assert_eq!((seen, whole.get()), (7, 6));
}
