//! What can go wrong with an API call, and how an answer that is not a success
//! is understood: [`classify`] is the one table from the cloud's codes to the
//! closed set of reasons, [`Refusal::read`] survives any shape of answer.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::pages::Incomplete;
use crate::credentials;

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

/// A failed call of one operation. `Display` is one fragment without its source.
#[derive(Debug)]
pub struct Error {
    action: &'static str,
    class: Class,
    failure: Failure,
}

#[derive(Debug)]
pub(super) enum Failure {
    /// The cloud answered, and not with a success.
    Refused(Box<Refusal>),
    /// No answer within the timeout of one request.
    NoAnswer(Duration),
    /// The poll's deadline passed.
    Deadline(Duration),
    /// reqwest gave up.
    Transport(reqwest::Error),
    /// A 2xx answer that is not what it should be.
    Unreadable {
        status: u16,
        problem: &'static str,
        source: Option<serde_json::Error>,
    },
    /// No key.
    Credentials(credentials::Error),
    /// The list cannot be had whole.
    Incomplete(Incomplete),
    /// The request cannot even be built.
    Unsendable(&'static str),
}

/// An answer that is not a success, as far as it can be understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) request_id: String,
    /// `AccessDeniedDetail.AuthAction`.
    pub(super) ram_action: String,
    /// What the key would need for this action.
    pub(super) resource: String,
    /// Seconds that our clock is ahead of the answer's `Date`.
    pub(super) skew_seconds: Option<i64>,
}

impl Error {
    pub(super) fn new(action: &'static str, failure: Failure) -> Self {
        let class = match &failure {
            Failure::Refused(refusal) => classify(refusal.status, &refusal.code, &refusal.message),
            Failure::NoAnswer(_) | Failure::Deadline(_) => Class::Timeout,
            Failure::Transport(error) if error.is_timeout() => Class::Timeout,
            Failure::Transport(error) if error.is_builder() => Class::Other,
            Failure::Transport(_) => Class::Connect,
            Failure::Unreadable { .. } => Class::Decode,
            Failure::Credentials(_) => Class::Credentials,
            Failure::Incomplete(_) | Failure::Unsendable(_) => Class::Other,
        };
        Self {
            action,
            class,
            failure,
        }
    }

    /// Why, in one of the classes that can be told apart.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The label `reason` of metrics.
    pub fn reason(&self) -> &'static str {
        self.class.as_str()
    }

    /// The operation that failed.
    pub fn action(&self) -> &'static str {
        self.action
    }

    /// The HTTP status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        match &self.failure {
            Failure::Refused(refusal) => Some(refusal.status),
            Failure::Unreadable { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The cloud's code, where it gave one.
    pub fn code(&self) -> Option<&str> {
        self.refusal(|refusal| &refusal.code)
    }

    /// The cloud's message, bounded and free of control characters.
    pub fn message(&self) -> Option<&str> {
        self.refusal(|refusal| &refusal.message)
    }

    /// The cloud's id of the request.
    pub fn request_id(&self) -> Option<&str> {
        self.refusal(|refusal| &refusal.request_id)
    }

    /// The RAM action that the key lacks, of a forbidden call.
    pub fn ram_action(&self) -> Option<String> {
        (self.class == Class::Forbidden).then(|| {
            self.refusal(|refusal| &refusal.ram_action)
                .map_or_else(|| format!("cr:{}", self.action), str::to_owned)
        })
    }

    /// The resource that the action is needed on, of a forbidden call.
    pub fn resource(&self) -> Option<&str> {
        self.refusal(|refusal| &refusal.resource)
            .filter(|_| self.class == Class::Forbidden)
    }

    /// Whether the same call may well succeed in a moment.
    pub(super) fn is_transient(&self) -> bool {
        match self.class {
            Class::Throttled | Class::Server | Class::Connect | Class::Timeout => true,
            Class::Other => self.code().is_some_and(is_replay),
            _ => false,
        }
    }

    fn refusal(&self, field: impl Fn(&Refusal) -> &String) -> Option<&str> {
        match &self.failure {
            Failure::Refused(refusal) => {
                Some(field(refusal).as_str()).filter(|text| !text.is_empty())
            }
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.action)?;
        match &self.failure {
            Failure::Refused(refusal) => {
                write!(f, "{refusal}")?;
                if let (Some(action), Some(resource)) = (self.ram_action(), self.resource()) {
                    write!(f, "; needs {action} on {resource}")?;
                }
                if let (Class::Clock, Some(skew)) = (self.class, refusal.skew_seconds) {
                    let side = if skew < 0 { "behind" } else { "ahead of" };
                    write!(
                        f,
                        "; our clock is {} s {side} the cloud's",
                        skew.unsigned_abs()
                    )?;
                }
                Ok(())
            }
            Failure::NoAnswer(timeout) => write!(f, "no answer within {timeout:?}"),
            Failure::Deadline(deadline) => {
                write!(
                    f,
                    "the poll's deadline of {deadline:?} passed before an answer came"
                )
            }
            Failure::Transport(error) if error.is_connect() => f.write_str("no connection"),
            Failure::Transport(error) if error.is_timeout() => f.write_str("no answer in time"),
            Failure::Transport(error) if error.is_builder() => {
                f.write_str("the request cannot be built")
            }
            Failure::Transport(error) if error.is_body() || error.is_decode() => {
                f.write_str("the connection broke within the answer")
            }
            Failure::Transport(_) => f.write_str("the connection broke before an answer came"),
            Failure::Unreadable {
                status, problem, ..
            } => write!(f, "{problem} (HTTP {status})"),
            Failure::Credentials(_) => f.write_str("no usable credentials"),
            Failure::Incomplete(incomplete) => write!(f, "{incomplete}"),
            Failure::Unsendable(why) => f.write_str(why),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.failure {
            // The layers below it say what happened; its own text repeats ours.
            Failure::Transport(error) => error.source().or(Some(error)),
            Failure::Unreadable { source, .. } => source.as_ref().map(|error| error as _),
            Failure::Credentials(error) => Some(error),
            _ => None,
        }
    }
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
    /// Reads what can be read: JSON in any case of its keys, XML, or nothing.
    pub(super) fn read(status: u16, body: &[u8]) -> Self {
        let mut refusal = Self {
            status,
            ..Self::default()
        };
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if let Ok(Value::Object(fields)) = serde_json::from_str(text) {
            refusal.code = field(&fields, "code");
            refusal.message = field(&fields, "message");
            refusal.request_id = field(&fields, "requestid");
            if let Some(Value::Object(detail)) = get(&fields, "accessdenieddetail") {
                refusal.ram_action = field(detail, "authaction");
            }
        } else if text.starts_with('<') {
            refusal.code = element(text, "Code");
            refusal.message = element(text, "Message");
            refusal.request_id = element(text, "RequestId");
            refusal.ram_action = element(text, "AuthAction");
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
    match get(fields, name) {
        Some(Value::String(text)) => bounded(text),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// The text of an XML element without children, with the five entities undone.
fn element(xml: &str, name: &str) -> String {
    let found = xml
        .split_once(&format!("<{name}>"))
        .and_then(|(_, rest)| rest.split_once('<'))
        .map_or("", |(text, _)| text);
    let text = found
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&");
    bounded(&text)
}

/// Cuts what came from outside to a length and to one line. The gateway answers
/// a wrong signature with what it signed, key id and security token included:
/// that part goes.
pub(super) fn bounded(text: &str) -> String {
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
    let mut kept: String = text[..end.unwrap_or(text.len())]
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MESSAGE_MAX)
        .collect();
    kept.truncate(kept.trim_end().len());
    if end.is_some() || text.chars().nth(MESSAGE_MAX).is_some() {
        kept.push('…');
    }
    kept
}

fn is_replay(code: &str) -> bool {
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
    fn the_text_is_one_readable_fragment() {
        let refusal = Refusal {
            status: 403,
            code: "NoPrivilege".to_owned(),
            message: "no permission".to_owned(),
            request_id: "1A2B".to_owned(),
            resource: "acs:cr:*:*:instance/cri-1".to_owned(),
            ..Refusal::default()
        };
        let error = Error::new("GetTask", Failure::Refused(refusal.clone().into()));
        assert_eq!(
            error.to_string(),
            "GetTask: NoPrivilege: \"no permission\" (HTTP 403, request id 1A2B); needs cr:GetTask on acs:cr:*:*:instance/cri-1"
        );
        let denied = Refusal {
            ram_action: "cr:Other".to_owned(),
            ..refusal.clone()
        };
        let error = Error::new("GetTask", Failure::Refused(denied.into()));
        assert_eq!(error.ram_action().as_deref(), Some("cr:Other"));

        for (ahead, expected) in [(1200, "1200 s ahead of"), (-960, "960 s behind")] {
            let expired = Refusal {
                status: 400,
                code: "InvalidTimeStamp.Expired".to_owned(),
                skew_seconds: Some(ahead),
                ..refusal.clone()
            };
            let error = Error::new("GetTask", Failure::Refused(expired.into()));
            assert_eq!(
                error.to_string(),
                format!(
                    "GetTask: InvalidTimeStamp.Expired: \"no permission\" (HTTP 400, request id 1A2B); our clock is {expected} the cloud's"
                )
            );
            assert_eq!(error.ram_action(), None);
        }

        for (code, message, request_id, expected) in [
            ("", "", "", "GetTask: HTTP 502"),
            ("", "", "R", "GetTask: HTTP 502 (request id R)"),
            ("C", "", "", "GetTask: C (HTTP 502)"),
            ("", "m", "R", "GetTask: \"m\" (HTTP 502, request id R)"),
        ] {
            let refusal = Refusal {
                status: 502,
                code: code.to_owned(),
                message: message.to_owned(),
                request_id: request_id.to_owned(),
                ..Refusal::default()
            };
            let error = Error::new("GetTask", Failure::Refused(refusal.into()));
            assert_eq!(error.to_string(), expected);
        }
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

    #[test]
    fn what_may_pass_by_itself_is_tried_again() {
        let refused = |status, code: &str| {
            Error::new(
                "GetTask",
                Failure::Refused(Box::new(Refusal {
                    status,
                    code: code.to_owned(),
                    ..Refusal::default()
                })),
            )
            .is_transient()
        };
        assert!(refused(400, "Throttling.User"));
        assert!(refused(502, ""));
        assert!(refused(400, "SignatureNonceUsed"));
        assert!(!refused(409, "Whatever"));
        assert!(!refused(302, ""));
        for code in [
            "SignatureDoesNotMatch",
            "NoPrivilege",
            "InvalidTimeStamp.Expired",
            "REPO_NOT_EXIST",
            "MissingX",
        ] {
            assert!(!refused(400, code), "{code}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(status in any::<u16>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
            let refusal = Refusal::read(status, &body);
            let _ = Error::new("GetTask", Failure::Refused(refusal.into())).to_string();
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
