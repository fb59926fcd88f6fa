//! Reads keys out of what STS, the metadata service and a credentials URI
//! answer. A text that says what is wrong never quotes the answer: it may hold
//! a key.

use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
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

/// A time such as `2026-01-02T03:04:05Z` as Unix time in milliseconds. Not by
/// way of a `Timestamp`, which ends before `9999-12-31T23:59:59Z`, as those say
/// whose keys do not really end.
pub(super) fn millis(text: &str) -> Option<i64> {
    const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let pieces = Pieces::parse(text).ok()?;
    let ahead = i64::from(pieces.to_numeric_offset()?.seconds());
    let local = DateTime::from_parts(pieces.date(), pieces.time()?).duration_since(EPOCH);
    i64::try_from(local.as_millis())
        .ok()?
        .checked_sub(ahead * 1000)
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

    /// Expected: `date -u -d TEXT +%s`.
    #[test]
    fn the_end_may_be_as_far_off_as_four_digits_reach() {
        for (text, seconds) in [
            ("9999-12-31T23:59:59Z", 253_402_300_799),
            ("9999-12-31T23:59:59+00:00", 253_402_300_799),
            ("9999-12-31T23:59:59-12:00", 253_402_343_999),
            ("9999-12-30T22:00:01Z", 253_402_207_201),
            ("2100-02-28T12:00:00+08:00", 4_107_470_400),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
        ] {
            assert_eq!(millis(text), Some(seconds * 1000), "{text}");
        }
        assert_eq!(millis("2026-01-02T03:04:05.678Z"), Some(1_767_323_045_678));
        for text in [
            "2026-01-02T03:04:05",
            "2026-01-02",
            "2026-01-02Z",
            "2026-02-30T00:00:00Z",
            "1767323045",
            "",
        ] {
            assert_eq!(millis(text), None, "{text}");
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
