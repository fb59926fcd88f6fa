//! How the body of a successful response is decoded, which differs between products.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// What the response of an operation is decoded to.
pub trait Answer: Sized {
    /// Decodes the body of a response with a 2xx status.
    fn read(body: &[u8]) -> Result<Answered<Self>, NotAnswered>;
}

/// A decoded response.
#[derive(Clone, Debug)]
pub struct Answered<T> {
    /// What it is about.
    pub value: T,
    /// The cloud's id of the request, "" if there is none.
    pub request_id: String,
}

/// Why a response with a 2xx status is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAnswered {
    /// Its body says that the call failed, in the fields `Code` and `Message`.
    Refused,
    /// It cannot be decoded.
    Unreadable {
        /// What is wrong.
        problem: &'static str,
        /// The parser's own words, or "". What the request was signed with is redacted in them.
        detail: String,
    },
}

/// A response of the products whose status alone says whether a call succeeded, which are most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> Answer for Json<T> {
    fn read(body: &[u8]) -> Result<Answered<Self>, NotAnswered> {
        let unreadable = |problem, error: serde_json::Error| NotAnswered::Unreadable {
            problem,
            detail: error.to_string(),
        };
        let body: Value = serde_json::from_slice(body)
            .map_err(|error| unreadable("the response is not JSON", error))?;
        let request_id = body["RequestId"].as_str().unwrap_or_default().to_owned();
        let value = serde_json::from_value(body)
            .map_err(|error| unreadable("the response has an unexpected shape", error))?;
        Ok(Answered {
            value: Self(value),
            request_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    struct Regions {
        total_count: u32,
    }

    #[test]
    fn a_json_response_is_read_with_its_request_id() {
        let read = |body: &str| Json::<Regions>::read(body.as_bytes());
        let answered = read(r#"{"RequestId":"1A2B","TotalCount":3}"#).expect("a response");
        assert_eq!(answered.value, Json(Regions { total_count: 3 }));
        assert_eq!(answered.request_id, "1A2B");
        for (body, expected) in [
            ("<html>", "the response is not JSON"),
            ("{}", "the response has an unexpected shape"),
        ] {
            let Err(NotAnswered::Unreadable { problem, .. }) = read(body) else {
                panic!("{body} was read");
            };
            assert_eq!(problem, expected);
        }
    }
}
