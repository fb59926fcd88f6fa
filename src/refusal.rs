//! What the cloud says when it refuses: read from any shape of answer
//! ([`Refusal::read`]), and put into one of a closed set of reasons by one table
//! ([`classify`]). All of its services, STS included, refuse in the same way;
//! what follows from a refusal is left to whoever asked.

use std::fmt;

use serde_json::{Map, Value};

use crate::http;

/// Characters of a code or message of the cloud that are kept.
const MESSAGE_MAX: usize = 256;

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Too many requests.
    Throttled,
    /// The key or its signature is not accepted.
    Auth,
    /// The key is accepted and may not do this.
    Forbidden,
    /// The cloud's clock and ours are too far apart.
    Clock,
    /// There is no such instance, task, …
    NotFound,
    /// The cloud does not understand the request.
    BadRequest,
    /// No answer in time, of one request or within the poll's deadline.
    Timeout,
    /// No connection, or one that broke; DNS and TLS included.
    Connect,
    /// The cloud is at fault.
    Server,
    /// The answer cannot be read, or is too large to be.
    Decode,
    /// Everything else.
    Other,
    /// There was no key to sign with.
    Credentials,
}

impl Class {
    /// The label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Auth => "auth",
            Self::Forbidden => "forbidden",
            Self::Clock => "clock",
            Self::NotFound => "not_found",
            Self::BadRequest => "bad_request",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Server => "server",
            Self::Decode => "decode",
            Self::Other => "other",
            Self::Credentials => "credentials",
        }
    }
}

impl From<&http::Error> for Class {
    fn from(error: &http::Error) -> Self {
        match error {
            http::Error::Transport(error) if error.is_timeout() => Self::Timeout,
            http::Error::Transport(error) if error.is_builder() => Self::Other,
            http::Error::Transport(_) => Self::Connect,
            http::Error::TooLarge { .. } => Self::Decode,
            http::Error::Header => Self::Other,
        }
    }
}

/// An answer that is not a success, as far as it can be understood. `Display`
/// is one fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// `Code`, "" where there is none; bounded, as all texts here.
    pub code: String,
    /// `Message`
    pub message: String,
    /// `RequestId`
    pub request_id: String,
    /// `AccessDeniedDetail.AuthAction`.
    pub ram_action: String,
    /// What the key would need for this action.
    pub resource: String,
    /// Seconds that our clock is ahead of the answer's `Date`.
    pub skew_seconds: Option<i64>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.as_str(), self.message.as_str()) {
            ("", "") => write!(f, "HTTP {}", self.status)?,
            ("", message) => write!(f, "\"{message}\" (HTTP {}", self.status)?,
            (code, "") => write!(f, "{code} (HTTP {}", self.status)?,
            (code, message) => write!(f, "{code}: \"{message}\" (HTTP {}", self.status)?,
        }
        let bare = self.code.is_empty() && self.message.is_empty();
        if !self.request_id.is_empty() {
            let open = if bare { " (" } else { ", " };
            write!(f, "{open}request id {})", self.request_id)
        } else if bare {
            Ok(())
        } else {
            f.write_str(")")
        }
    }
}

impl Refusal {
    /// Why, in one of the classes that can be told apart.
    pub fn class(&self) -> Class {
        classify(self.status, &self.code, &self.message)
    }

    /// Whether it is the security token that is refused, as it is once the key
    /// has ended.
    pub fn refuses_token(&self) -> bool {
        self.code
            .get(..20)
            .is_some_and(|start| start.eq_ignore_ascii_case("InvalidSecurityToken"))
    }

    /// Reads what can be read: JSON in any case of its keys, XML, or nothing.
    pub fn read(status: u16, body: &[u8]) -> Self {
        let mut refusal = Self {
            status,
            ..Self::default()
        };
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if let Ok(Value::Object(fields)) = serde_json::from_str(text) {
            refusal.code = code(&text_of(&fields, "code"));
            refusal.message = field(&fields, "message");
            refusal.request_id = field(&fields, "requestid");
            if let Some(Value::Object(detail)) = get(&fields, "accessdenieddetail") {
                refusal.ram_action = field(detail, "authaction");
            }
        } else if text.starts_with('<') {
            refusal.code = code(&element(text, "Code"));
            refusal.message = bounded(&element(text, "Message"));
            refusal.request_id = bounded(&element(text, "RequestId"));
            refusal.ram_action = bounded(&element(text, "AuthAction"));
        }
        refusal
    }
}

fn get<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn field(fields: &Map<String, Value>, name: &str) -> String {
    bounded(&text_of(fields, name))
}

fn text_of(fields: &Map<String, Value>, name: &str) -> String {
    match get(fields, name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// The text of an XML element without children, with the five entities undone.
fn element(xml: &str, name: &str) -> String {
    xml.split_once(&format!("<{name}>"))
        .and_then(|(_, rest)| rest.split_once('<'))
        .map_or("", |(text, _)| text)
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// Cuts what came from outside to a length and to one line. The gateway answers
/// a wrong signature with what it signed, key id and security token included:
/// that part goes.
pub fn bounded(text: &str) -> String {
    const TELLTALES: [&str; 4] = [
        "string to sign",
        "stringtosign",
        "canonical",
        "securitytoken",
    ];
    let lower = text.to_ascii_lowercase();
    let end = TELLTALES
        .iter()
        .filter_map(|telltale| lower.find(telltale))
        .min();
    let mut kept = cut(&text[..end.unwrap_or(text.len())]);
    if end.is_some() && !kept.ends_with('…') {
        kept.push('…');
    }
    kept
}

/// A code is one word, which may well be `InvalidSecurityToken.Expired`.
fn code(text: &str) -> String {
    cut(text.split_whitespace().next().unwrap_or_default())
}

/// Cuts to a length and to one line.
fn cut(text: &str) -> String {
    let mut kept: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MESSAGE_MAX)
        .collect();
    kept.truncate(kept.trim_end().len());
    if text.chars().nth(MESSAGE_MAX).is_some() {
        kept.push('…');
    }
    kept
}

/// Whether `code` says that a nonce was used before.
pub fn is_replay(code: &str) -> bool {
    code.eq_ignore_ascii_case("SignatureNonceUsed")
}

/// The class of an answer that is not a success. A known code decides whatever
/// the status: the cloud throttles with 400, and fails with 200.
pub fn classify(status: u16, code: &str, message: &str) -> Class {
    let code = code.trim().to_ascii_lowercase();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| code.starts_with(prefix));
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| code.ends_with(suffix));

    if code.contains("throttling")
        || message.to_ascii_lowercase().contains("qps limit exceeded")
        || status == 429
    {
        Class::Throttled
    } else if starts(&[
        "invalidaccesskey",
        "invalidsecuritytoken",
        "signaturedoesnotmatch",
        "incompletesignature",
        "authenticationfail",
    ]) {
        Class::Auth
    } else if starts(&["noprivilege", "nopermission", "forbidden", "user_not_exist"]) {
        Class::Forbidden
    } else if starts(&["invalidtimestamp", "illegaltimestamp"]) {
        Class::Clock
    } else if is_replay(&code) {
        Class::Other
    } else if starts(&[
        "serviceunavailable",
        "internalerror",
        "unknownerror",
        "systemerror",
    ]) {
        Class::Server
    } else if starts(&[
        "invalidaction",
        "invalidapi",
        "invalidproduct",
        "invalidversion",
    ]) {
        Class::BadRequest
    } else if code == "instance_status_not_support"
        || ends(&["_not_exist", "notexist", "notfound", "_not_found"])
    {
        Class::NotFound
    } else {
        let malformed = starts(&["missing", "invalid"]);
        match status {
            500.. => Class::Server,
            401 => Class::Auth,
            403 => Class::Forbidden,
            400 => Class::BadRequest,
            404 if !malformed => Class::NotFound,
            408 => Class::Timeout,
            200..=299 | 402..=499 if malformed => Class::BadRequest,
            _ => Class::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_and_statuses_have_a_class() {
        use Class::{
            Auth, BadRequest, Clock, Forbidden, NotFound, Other, Server, Throttled, Timeout,
        };
        for (status, code, message, expected) in [
            (400, "Throttling", "", Throttled),
            (400, "Throttling.User", "", Throttled),
            (503, "Throttling.Api", "", Throttled),
            (429, "Rejected.Throttling", "", Throttled),
            (200, "THROTTLING", "", Throttled),
            (400, "SomeCode", "QPS Limit Exceeded", Throttled),
            (429, "", "", Throttled),
            (404, "InvalidAccessKeyId.NotFound", "", Auth),
            (400, "InvalidAccessKeyId.Inactive", "", Auth),
            (400, "SignatureDoesNotMatch", "", Auth),
            (400, "IncompleteSignature", "", Auth),
            (403, "InvalidSecurityToken.Expired", "", Auth),
            (400, "InvalidSecurityToken.Malformed", "", Auth),
            (400, "AuthenticationFail.OIDCToken.Expired", "", Auth),
            (401, "", "", Auth),
            (401, "Whatever", "", Auth),
            (403, "NoPrivilege", "no permission", Forbidden),
            (403, "NoPermission", "", Forbidden),
            (403, "Forbidden.RAM", "", Forbidden),
            (400, "Forbidden.RAM", "", Forbidden),
            (403, "USER_NOT_EXIST", "", Forbidden),
            (200, "USER_NOT_EXIST", "", Forbidden),
            (403, "", "", Forbidden),
            (403, "Whatever", "", Forbidden),
            (400, "InvalidTimeStamp.Expired", "", Clock),
            (400, "InvalidTimeStamp.Format", "", Clock),
            (400, "IllegalTimestamp", "", Clock),
            (400, "SignatureNonceUsed", "", Other),
            (200, "INSTANCE_NOT_EXIST", "", NotFound),
            (404, "INSTANCE_NOT_EXIST", "", NotFound),
            (404, "REPO_NOT_EXIST", "", NotFound),
            (404, "NAMESPACE_NOT_EXIST", "", NotFound),
            (200, "INSTANCE_STATUS_NOT_SUPPORT", "", NotFound),
            (200, "SUBSCRIPTION_TASK_NOT_EXIST", "", NotFound),
            (400, "TaskNotExist", "", NotFound),
            (400, "InvalidTaskId.NotFound", "", NotFound),
            (404, "", "", NotFound),
            (404, "InvalidAction.NotFound", "", BadRequest),
            (400, "MissingInstanceId", "", BadRequest),
            (400, "InvalidParameter", "", BadRequest),
            (409, "InvalidStatus", "", BadRequest),
            (200, "InvalidParameter", "", BadRequest),
            (400, "Whatever", "", BadRequest),
            (400, "", "", BadRequest),
            (503, "ServiceUnavailable", "", Server),
            (500, "InternalError", "", Server),
            (500, "UnknownError", "", Server),
            (500, "SystemError", "", Server),
            (200, "SystemError", "", Server),
            (500, "InvalidParameter", "", Server),
            (502, "", "", Server),
            (504, "Whatever", "", Server),
            (408, "", "", Timeout),
            (302, "", "", Other),
            (409, "Whatever", "", Other),
            (200, "Whatever", "", Other),
            (200, "success", "", Other),
        ] {
            assert_eq!(classify(status, code, message), expected, "{status} {code}");
        }
    }

    #[test]
    fn an_answer_is_read_in_every_shape() {
        let known = Refusal {
            status: 403,
            code: "NoPrivilege".to_owned(),
            message: "no \"permission\" & more".to_owned(),
            request_id: "1A2B".to_owned(),
            ram_action: "cr:GetX".to_owned(),
            ..Refusal::default()
        };
        for body in [
            r#"{"RequestId":"1A2B","HostId":"h","Code":"NoPrivilege","Message":"no \"permission\" & more","AccessDeniedDetail":{"AuthAction":"cr:GetX"}}"#,
            r#" {"requestId":"1A2B","code":"NoPrivilege","message":"no \"permission\" & more","accessDeniedDetail":{"authAction":"cr:GetX"}}"#,
            "\u{feff}<?xml version='1.0'?><Error><RequestId>1A2B</RequestId><Code>NoPrivilege</Code><Message>no &quot;permission&quot; &amp; more</Message><AccessDeniedDetail><AuthAction>cr:GetX</AuthAction></AccessDeniedDetail></Error>",
        ] {
            assert_eq!(Refusal::read(403, body.as_bytes()), known, "{body}");
        }
        for body in [
            &b""[..],
            b"<html><body>Bad Gateway</body></html>",
            b"[1,2]",
            b"{\"Code\":",
            b"\xff\xfe",
            br#"{"Code":null,"Message":{"a":1}}"#,
        ] {
            let unknown = Refusal {
                status: 502,
                ..Refusal::default()
            };
            assert_eq!(Refusal::read(502, body), unknown);
        }
        assert_eq!(Refusal::read(400, br#"{"Code":400}"#).code, "400");
    }

    #[test]
    fn a_code_is_kept_whole_and_is_one_word() {
        for body in [
            r#"{"Code":"InvalidSecurityToken.Expired","Message":"Specified SecurityToken is expired."}"#,
            "<Error><Code>InvalidSecurityToken.Expired</Code></Error>",
        ] {
            let refusal = Refusal::read(400, body.as_bytes());
            assert_eq!(refusal.code, "InvalidSecurityToken.Expired");
            assert_eq!(refusal.class(), Class::Auth);
            assert!(refusal.refuses_token());
        }
        let odd = Refusal::read(400, br#"{"Code":"NoPermission, the SecurityToken hush"}"#);
        assert_eq!(odd.code, "NoPermission,");
        assert!(!odd.refuses_token());
    }

    #[test]
    fn a_message_is_bounded_and_keeps_what_was_signed_to_itself() {
        assert_eq!(bounded("a\r\nb\tc\u{7f} "), "a  b c");
        assert_eq!(bounded(&"ä".repeat(300)), format!("{}…", "ä".repeat(256)));
        assert_eq!(bounded(&"ä".repeat(256)), "ä".repeat(256));
        assert_eq!(
            bounded(
                "Specified signature is not matched. server String To Sign is:GET&%2F&AccessKeyId%3Dx%26SecurityToken%3Dhush"
            ),
            "Specified signature is not matched. server…"
        );
        assert_eq!(bounded("the SecurityToken hush is bad"), "the…");
    }

    proptest! {
        #[test]
        fn no_answer_panics(status in any::<u16>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Refusal::read(status, &body).to_string();
        }

        #[test]
        fn no_text_panics_or_breaks_the_line(text in any::<String>(), xml in "(<[A-Za-z/]{0,9}>?|[a-z&;<]){0,20}") {
            let kept = bounded(&text);
            prop_assert!(kept.chars().count() <= MESSAGE_MAX + 1);
            prop_assert!(!kept.contains(char::is_control));
            let _ = Refusal::read(500, xml.as_bytes());
        }
    }
}
