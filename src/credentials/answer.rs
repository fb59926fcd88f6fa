//! Reads keys out of what STS, the metadata service and a credentials URI
//! answer. A text that says what is wrong never quotes the answer: it may hold
//! a key.

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::{Credentials, clean};
use crate::refusal::bounded;

/// The answer of the metadata service or a credentials URI.
pub(super) fn of_metadata(provider: &'static str, body: &[u8]) -> Result<Credentials, String> {
    let fields = object(body)?;
    match fields.get("Code").and_then(Value::as_str) {
        Some(code) if !code.eq_ignore_ascii_case("success") => Err(format!(
            "the answer's Code is \"{}\" and not Success",
            bounded(code)
        )),
        _ => temporary(provider, &fields),
    }
}

/// The answer of STS.
pub(super) fn of_sts(provider: &'static str, body: &[u8]) -> Result<Credentials, String> {
    match object(body)?.get("Credentials") {
        Some(Value::Object(fields)) => temporary(provider, fields),
        _ => Err("the answer has no Credentials".to_owned()),
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err("the answer is no JSON object".to_owned()),
    }
}

fn temporary(provider: &'static str, fields: &Map<String, Value>) -> Result<Credentials, String> {
    let value = |name: &str| match fields.get(name).and_then(Value::as_str) {
        Some(value) => clean(value).map_err(|wrong| format!("{name} of the answer {wrong}")),
        None => Err(format!("the answer has no {name}")),
    };
    Ok(Credentials {
        access_key_id: value("AccessKeyId")?.to_owned(),
        access_key_secret: value("AccessKeySecret")?.into(),
        security_token: Some(SecretString::from(value("SecurityToken")?)),
        expires_at_ms: Some(
            millis(value("Expiration")?)
                .ok_or("Expiration of the answer is no time of the form 2026-01-02T03:04:05Z")?,
        ),
        provider,
    })
}

/// A time such as `2026-01-02T03:04:05Z` as Unix time in milliseconds.
pub(super) fn millis(text: &str) -> Option<i64> {
    Some(text.parse::<Timestamp>().ok()?.as_millisecond())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;

    fn full() -> Value {
        json!({
            "AccessKeyId": "STS.example", "AccessKeySecret": "EXAMPLE-secret",
            "SecurityToken": "EXAMPLE-token", "Expiration": "2026-01-02T03:04:05Z",
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut fields = full();
        fields[name] = value;
        fields
    }

    #[test]
    fn a_key_and_its_end() {
        let metadata = of_metadata("uri", with("Code", "Success".into()).to_string().as_bytes());
        let sts = of_sts("uri", json!({"Credentials": full()}).to_string().as_bytes());
        let bare = of_metadata("uri", full().to_string().as_bytes());
        for key in [metadata, sts, bare] {
            let key = key.expect("a key");
            assert_eq!(key.access_key_id, "STS.example");
            assert_eq!(key.access_key_secret.expose_secret(), "EXAMPLE-secret");
            let token = key.security_token.expect("a token");
            assert_eq!(token.expose_secret(), "EXAMPLE-token");
            // `date -u -d 2026-01-02T03:04:05Z +%s`
            assert_eq!(key.expires_at_ms, Some(1_767_323_045_000));
            assert_eq!(key.provider, "uri");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_a_value() {
        for (answer, expected) in [
            (json!([1]), "no JSON object"),
            (
                with("Code", "EntityNotExist".into()),
                "\"EntityNotExist\" and not Success",
            ),
            (with("AccessKeyId", Value::Null), "has no AccessKeyId"),
            (with("AccessKeySecret", 7.into()), "has no AccessKeySecret"),
            (
                with("SecurityToken", " ".into()),
                "SecurityToken of the answer is empty",
            ),
            (
                with("AccessKeySecret", "EXAMPLE a".into()),
                "AccessKeySecret of the answer holds",
            ),
            (
                with("Expiration", "EXAMPLE".into()),
                "Expiration of the answer is no time",
            ),
        ] {
            let told = of_metadata("uri", answer.to_string().as_bytes()).expect_err("no key");
            assert!(told.contains(expected), "{told}");
            assert!(!told.contains("EXAMPLE"), "{told}");
        }
        let told = of_sts("uri", br#"{"RequestId":"1"}"#).expect_err("no key");
        assert_eq!(told, "the answer has no Credentials");
        let told = of_metadata("uri", b"<html>").expect_err("no key");
        assert_eq!(told, "the answer is no JSON object");
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in any::<Vec<u8>>(), end in any::<String>()) {
            let _ = of_metadata("uri", &body);
            let _ = of_sts("uri", &body);
            let _ = of_metadata("uri", with("Expiration", end.into()).to_string().as_bytes());
        }
    }
}
