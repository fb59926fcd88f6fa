//! What the cloud says when it refuses: read from any shape of answer
//! ([`Refusal::read`]), without what the request proved itself with
//! ([`Proofs`]), and put into one of a closed set of reasons by one table
//! ([`classify`]). All of its services, STS included, refuse in the same way;
//! what follows from a refusal is left to whoever asked.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use crate::http;
use crate::reason::Reason;

/// Characters of a code or message of the cloud that are kept.
const MESSAGE_MAX: usize = 256;
/// So many characters of a secret tell something; fewer may stand anywhere.
const TELLING: usize = 8;
/// So many are no accident, whatever follows.
const SURE: usize = 16;

impl From<&http::Error> for Reason {
    fn from(error: &http::Error) -> Self {
        match error {
            http::Error::Transport(error) if error.is_timeout() => Self::Timeout,
            http::Error::Transport(error) if error.is_builder() => Self::Other,
            http::Error::Transport(_) => Self::Connect,
            http::Error::TooLarge { .. } => Self::Decode,
            http::Error::Header | http::Error::Setup(_) => Self::Other,
        }
    }
}

/// An answer that is not a success, as far as it can be understood. `Display`
/// is one fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// `Code`, "" where there is none; bounded, as all texts here.
    pub(crate) code: String,
    /// `Message`
    pub(crate) message: String,
    /// `RequestId`
    pub(crate) request_id: String,
    /// `AccessDeniedDetail.AuthAction`.
    pub(crate) ram_action: String,
    /// `AccessDeniedDetail.NoPermissionType`, `ImplicitDeny` or `ExplicitDeny`.
    pub(crate) no_permission_type: String,
    /// Who was denied: `AuthPrincipalType`, `…DisplayName` and `…OwnerId` of
    /// `AccessDeniedDetail`, as far as they are there.
    pub(crate) principal: String,
    /// What the action is needed on; who asked knows it.
    pub(crate) resource: String,
    /// Seconds that our clock is ahead of the answer's `Date`.
    pub(crate) skew_seconds: Option<i64>,
    /// How long the cloud asks to wait.
    pub(crate) retry_after: Option<Duration>,
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
    /// Why, in one of the reasons that can be told apart.
    pub(crate) fn reason(&self) -> Reason {
        classify(self.status, &self.code, &self.message)
    }

    /// Whether it is the security token that is refused, as it is once the key
    /// has ended.
    pub(crate) fn refuses_token(&self) -> bool {
        self.code
            .get(..20)
            .is_some_and(|start| start.eq_ignore_ascii_case("InvalidSecurityToken"))
    }

    /// Whether the cloud says that no policy allows it.
    pub(crate) fn is_implicit(&self) -> bool {
        self.no_permission_type.eq_ignore_ascii_case("ImplicitDeny")
    }

    /// Whether the cloud says that a policy denies it.
    pub(crate) fn is_explicit(&self) -> bool {
        self.no_permission_type.eq_ignore_ascii_case("ExplicitDeny")
    }

    /// Reads what can be read: JSON in any case of its keys, XML, or nothing;
    /// of `proofs` nothing, in whatever text it stands.
    pub(crate) fn read(status: u16, body: &[u8], proofs: &Proofs) -> Self {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if let Ok(Value::Object(fields)) = serde_json::from_str(text) {
            let nothing = Map::new();
            let detail = match get(&fields, "AccessDeniedDetail") {
                Some(Value::Object(detail)) => detail,
                _ => &nothing,
            };
            Self::of(
                status,
                |name| text_of(&fields, name),
                |name| text_of(detail, name),
                proofs,
            )
        } else if text.starts_with('<') {
            let element = |name: &str| element(text, name);
            Self::of(status, element, element, proofs)
        } else {
            Self {
                status,
                ..Self::default()
            }
        }
    }

    fn of(
        status: u16,
        field: impl Fn(&str) -> String,
        detail: impl Fn(&str) -> String,
        proofs: &Proofs,
    ) -> Self {
        let detail = |name| proofs.shown(&detail(name));
        // A code is one word.
        let code = field("Code");
        let code = code.split_whitespace().next().unwrap_or_default();
        Self {
            status,
            code: proofs.shown(code),
            message: proofs.shown(&field("Message")),
            request_id: proofs.shown(&field("RequestId")),
            ram_action: detail("AuthAction"),
            no_permission_type: detail("NoPermissionType"),
            principal: principal(
                &detail("AuthPrincipalType"),
                &detail("AuthPrincipalDisplayName"),
                &detail("AuthPrincipalOwnerId"),
            ),
            ..Self::default()
        }
    }
}

fn principal(kind: &str, name: &str, owner: &str) -> String {
    let owner = match owner {
        "" => String::new(),
        owner => format!("of account {owner}"),
    };
    let parts = [kind, name, &owner].into_iter();
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

fn get<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
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

/// Cuts what came from outside to a length and to one line.
pub(crate) fn bounded(text: &str) -> String {
    Proofs::default().shown(text)
}

/// What a request proves itself with, and what no text of an answer may show:
/// the gateway answers a wrong signature with what it signed, key id and
/// security token included.
#[derive(Default)]
pub(crate) struct Proofs(Vec<SecretString>);

impl Proofs {
    /// `values` before any encoding; of a JWT its three parts as well. What is
    /// shorter than eight characters is no secret and may stand anywhere.
    pub(crate) fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let whole_and_parts = values
            .into_iter()
            .flat_map(|value| std::iter::once(value).chain(value.split('.').skip(1)));
        let long = whole_and_parts.filter(|value| value.chars().count() >= TELLING);
        Self(long.map(SecretString::from).collect())
    }

    /// `text` as it may be shown: with `…` for each proof and each that was cut
    /// short, however it is written; without what the server would have signed,
    /// which is another text each time; cut to a length and to one line.
    pub(crate) fn shown(&self, text: &str) -> String {
        let mut kept = String::new();
        let mut rest = text;
        let lower = text.to_ascii_lowercase();
        let said = SIGNED.iter().filter_map(|words| {
            let at = lower.find(words)?;
            Some(at + words.len())
        });
        let end = said.min().unwrap_or(text.len());
        for _ in 0..MESSAGE_MAX {
            let Some(c) = rest.chars().next() else {
                break;
            };
            if text.len() - rest.len() >= end {
                break;
            }
            let hidden = self.0.iter().filter_map(|proof| {
                let proof = proof.expose_secret();
                let (count, length) = common(proof, rest);
                let after = rest[length..].chars().next();
                let is_cut = count >= TELLING && after.is_none_or(|after| "….*\"'".contains(after));
                (is_cut || count >= SURE || count == proof.chars().count()).then_some(length)
            });
            if let Some(length) = hidden.max() {
                kept.push('…');
                rest = &rest[length..];
            } else {
                kept.push(if c.is_control() { ' ' } else { c });
                rest = &rest[c.len_utf8()..];
            }
        }
        kept.truncate(kept.trim_end().len());
        if !rest.is_empty() && !kept.ends_with('…') {
            kept.push('…');
        }
        kept
    }
}

/// What a text on a wrong signature says before the string to sign.
const SIGNED: [&str; 5] = [
    "string to sign",
    "stringtosign",
    "canonical request",
    "canonicalrequest",
    "canonicalized",
];

/// How many characters of `secret` `text` begins with, and in how many bytes.
fn common(secret: &str, text: &str) -> (usize, usize) {
    let mut count = 0;
    // A text can be read in several ways: `%25` is one character, or three.
    let mut ends = BTreeSet::from([0]);
    for c in secret.chars() {
        let next: BTreeSet<usize> = ends
            .iter()
            .flat_map(|end| written(c, &text[*end..]).into_iter().map(move |n| end + n))
            .collect();
        if next.is_empty() {
            break;
        }
        ends = next;
        count += 1;
    }
    (count, ends.last().copied().unwrap_or_default())
}

/// The bytes in which `text` begins with `c`: as it is, in either case, or
/// escaped for a URL, for JSON or for HTML, perhaps more than once, as the
/// string to sign is.
fn written(c: char, text: &str) -> Vec<usize> {
    let length = |rest: &str| text.len() - rest.len();
    let is = |number: &str, radix| u32::from_str_radix(number, radix) == Ok(c.into());
    let is_hex = |rest: &str, digits: usize| rest.get(..digits).is_some_and(|n| is(n, 16));
    let mut found = Vec::new();
    let plain = text.trim_start_matches('\\');
    for rest in [text, plain] {
        if let Some(first) = rest.chars().next()
            && first.eq_ignore_ascii_case(&c)
        {
            found.push(length(rest) + first.len_utf8());
        }
    }
    if let Some(rest) = plain.strip_prefix('u')
        && plain.len() < text.len()
        && is_hex(rest, 4)
    {
        found.push(length(rest) + 4);
    }
    let mut level = text.strip_prefix('%');
    while let Some(rest) = level {
        if is_hex(rest, 2) {
            found.push(length(rest) + 2);
        }
        level = rest.strip_prefix("25");
    }
    let mut level = text.strip_prefix('&');
    while let Some(rest) = level {
        if let Some((name, _)) = rest.split_once(';') {
            let is_named = match name.strip_prefix('#') {
                Some(number) => match number.strip_prefix(['x', 'X']) {
                    Some(number) => is(number, 16),
                    None => is(number, 10),
                },
                None => ENTITIES.contains(&(name, c)),
            };
            if is_named {
                found.push(length(rest) + name.len() + 1);
            }
        }
        level = rest.strip_prefix("amp;");
    }
    found
}

const ENTITIES: [(&str, char); 5] = [
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("amp", '&'),
];

/// Whether `code` says that a nonce was used before.
pub(crate) fn is_replay(code: &str) -> bool {
    code.eq_ignore_ascii_case("SignatureNonceUsed")
}

/// The reason of an answer that is not a success. A known code decides whatever
/// the status: the cloud throttles with 400, and fails with 200.
pub(crate) fn classify(status: u16, code: &str, message: &str) -> Reason {
    let code = code.trim().to_ascii_lowercase();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| code.starts_with(prefix));
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| code.ends_with(suffix));

    if code.contains("throttling")
        || message.to_ascii_lowercase().contains("qps limit exceeded")
        || status == 429
    {
        Reason::Throttled
    } else if starts(&[
        "invalidaccesskey",
        "invalidsecuritytoken",
        "signaturedoesnotmatch",
        "incompletesignature",
        "authenticationfail",
    ]) {
        Reason::Auth
    } else if starts(&["noprivilege", "nopermission", "forbidden", "user_not_exist"]) {
        Reason::Forbidden
    } else if starts(&["invalidtimestamp", "illegaltimestamp"]) {
        Reason::Clock
    } else if is_replay(&code) {
        Reason::Other
    } else if starts(&[
        "serviceunavailable",
        "internalerror",
        "unknownerror",
        "systemerror",
    ]) {
        Reason::Server
    } else if starts(&[
        "invalidaction",
        "invalidapi",
        "invalidproduct",
        "invalidversion",
    ]) {
        Reason::BadRequest
    } else if code == "instance_status_not_support"
        || ends(&["_not_exist", "notexist", "notfound", "_not_found"])
    {
        Reason::NotFound
    } else {
        let malformed = starts(&["missing", "invalid"]);
        match status {
            500.. => Reason::Server,
            401 => Reason::Auth,
            403 => Reason::Forbidden,
            400 => Reason::BadRequest,
            404 if !malformed => Reason::NotFound,
            408 => Reason::Timeout,
            200..=299 | 402..=499 if malformed => Reason::BadRequest,
            _ => Reason::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_and_statuses_have_a_reason() {
        use Reason::{
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
            assert_eq!(
                Refusal::read(403, body.as_bytes(), &Proofs::default()),
                known,
                "{body}"
            );
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
            assert_eq!(Refusal::read(502, body, &Proofs::default()), unknown);
        }
        assert_eq!(
            Refusal::read(400, br#"{"Code":400}"#, &Proofs::default()).code,
            "400"
        );
    }

    #[test]
    fn a_denial_says_who_and_how() {
        for body in [
            r#"{"Code":"NoPermission","AccessDeniedDetail":{"AuthAction":"cr:GetX","AuthPrincipalType":"AssumedRoleUser","AuthPrincipalDisplayName":"reader:me","AuthPrincipalOwnerId":1234,"NoPermissionType":"ExplicitDeny","PolicyType":"ResourceGroupLevelIdentityBasedPolicy"}}"#,
            "<Error><Code>NoPermission</Code><AccessDeniedDetail><AuthAction>cr:GetX</AuthAction><AuthPrincipalType>AssumedRoleUser</AuthPrincipalType><AuthPrincipalDisplayName>reader:me</AuthPrincipalDisplayName><AuthPrincipalOwnerId>1234</AuthPrincipalOwnerId><NoPermissionType>ExplicitDeny</NoPermissionType></AccessDeniedDetail></Error>",
        ] {
            let refusal = Refusal::read(403, body.as_bytes(), &Proofs::default());
            assert_eq!(refusal.ram_action, "cr:GetX");
            assert_eq!(
                refusal.principal,
                "AssumedRoleUser reader:me of account 1234"
            );
            assert!(refusal.is_explicit());
        }
        assert_eq!(principal("", "", ""), "");
        assert_eq!(principal("SubUser", "", ""), "SubUser");
        assert_eq!(principal("", "", "1"), "of account 1");
    }

    #[test]
    fn a_code_is_kept_whole_and_is_one_word() {
        let read = |body: &str| Refusal::read(400, body.as_bytes(), &Proofs::default());
        for body in [
            r#"{"Code":"InvalidSecurityToken.Expired","Message":"Specified SecurityToken is expired."}"#,
            "<Error><Code>InvalidSecurityToken.Expired</Code><Message>Specified SecurityToken is expired.</Message></Error>",
        ] {
            let refusal = read(body);
            assert_eq!(refusal.code, "InvalidSecurityToken.Expired");
            assert_eq!(refusal.message, "Specified SecurityToken is expired.");
            assert_eq!(refusal.reason(), Reason::Auth);
            assert!(refusal.refuses_token());
        }
        let odd = read(r#"{"Code":"NoPermission, the SecurityToken hush"}"#);
        assert_eq!(odd.code, "NoPermission,");
        assert!(!odd.refuses_token());
    }

    #[test]
    fn a_text_is_bounded_and_one_line() {
        assert_eq!(bounded("a\r\nb\tc\u{7f} "), "a  b c");
        assert_eq!(bounded(&"ä".repeat(300)), format!("{}…", "ä".repeat(256)));
        assert_eq!(bounded(&"ä".repeat(256)), "ä".repeat(256));
    }

    const TOKEN: &str = "EXAMPLE/token+=&\"%~9";

    fn proofs() -> Proofs {
        Proofs::new(["STS.EXAMPLEid1234", "ghostly-secret", TOKEN, "a.b.c", ""])
    }

    #[test]
    fn a_proof_is_hidden_however_it_is_written() {
        for echoed in [
            TOKEN,
            "example/TOKEN+=&\"%~9",
            // Python's urllib.parse.quote(…, safe="~"), once and twice.
            "EXAMPLE%2Ftoken%2B%3D%26%22%25~9",
            "EXAMPLE%252Ftoken%252B%253D%2526%2522%2525~9",
            "EXAMPLE%2ftoken%2b%3d%26%22%25%7e9",
            "EXAMPLE%25252Ftoken%25252B%25253D%252526%252522%252525~9",
            // In JSON within the text.
            r#"EXAMPLE\/token+=&\"%~9"#,
            r#"EXAMPLE\\\/token\u002b\u003d\u0026\\\"\u0025~9"#,
            // Python's html.escape(…, quote=True), and what templates write.
            "EXAMPLE/token+=&amp;&quot;%~9",
            "EXAMPLE&#x2F;token&#43;&#61;&amp;&#34;%~9",
            "EXAMPLE&amp;#x2F;token&amp;#43;=&amp;&amp;quot;%~9",
            "STS.EXAMPLEid1234",
            "EXAMPLEid1234",
            "ghostly-secret",
        ] {
            let text = format!("it is {echoed} x");
            assert_eq!(proofs().shown(&text), "it is … x", "{echoed}");
            let text = format!("it is {echoed}");
            assert_eq!(proofs().shown(&text), "it is …", "{echoed}");
        }
        for cut in ["EXAMPLE/to", "EXAMPLE%252Ftok", "ghostly-"] {
            for after in ["", "…", "...", "****", "\"}"] {
                let shown = proofs().shown(&format!("it is {cut}{after}"));
                assert_eq!(
                    shown.trim_end_matches(after),
                    "it is …".trim_end_matches(after)
                );
            }
        }
        let long = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ";
        assert_eq!(
            Proofs::new([long]).shown(&format!("{}9!", &long[..16])),
            "…9!"
        );
        let harmless = "a.b.c, the ghostly-sister of STS and EXAMPLE are & % \\ shown &amp; kept";
        assert_eq!(proofs().shown(harmless), harmless);
        let signature = "5%2Bx/9==";
        let plain = Proofs::new(["5%2Bx/9=="]);
        assert_eq!(plain.shown(&format!("<{signature}>")), "<…>");
        assert_eq!(plain.shown("<5%252Bx%2F9%3D%3D>"), "<…>");
    }

    #[test]
    fn nothing_of_a_proof_is_left_at_the_cut() {
        for before in 230..=256 {
            let text = format!("{}{TOKEN} and more", "-".repeat(before));
            let shown = proofs().shown(&text);
            assert!(!shown.contains("EX"), "{shown}");
            assert!(shown.ends_with('…') || shown.contains("… and"), "{shown}");
        }
    }

    #[test]
    fn no_field_shows_a_proof() {
        let echo = format!("it is {TOKEN}");
        let word = format!("Is{TOKEN}");
        let body = serde_json::json!({
            "Code": word, "Message": echo, "RequestId": echo,
            "AccessDeniedDetail": {
                "AuthAction": echo, "NoPermissionType": echo, "AuthPrincipalType": echo,
                "AuthPrincipalDisplayName": "STS.EXAMPLEid1234", "AuthPrincipalOwnerId": echo,
            },
        });
        let json = body.to_string();
        let xml = format!(
            "<Error><Code>{word}</Code><Message>{echo}</Message><RequestId>{echo}</RequestId><AuthAction>{echo}</AuthAction></Error>"
        );
        for body in [json.clone(), json.replace('/', "\\/"), xml] {
            let refusal = Refusal::read(403, body.as_bytes(), &proofs());
            assert_eq!((&*refusal.code, &*refusal.message), ("Is…", "it is …"));
            let told = format!("{refusal:?}");
            assert!(
                !told.contains("EXAMPLE") && !told.contains("token"),
                "{told}"
            );
        }
    }

    #[test]
    fn what_the_server_signed_is_left_out() {
        for (text, expected) in [
            (
                "Specified signature is not matched with our calculation. server string to sign is:GET&%2F&SignatureNonce%3D1",
                "Specified signature is not matched with our calculation. server string to sign…",
            ),
            ("server StringToSign", "server StringToSign"),
            ("CanonicalRequest:'GET", "CanonicalRequest…"),
            ("the canonical name is kept", "the canonical name is kept"),
        ] {
            assert_eq!(proofs().shown(text), expected);
        }
        // Said in other words, secrets go all the same.
        let text = "we signed GET&%2F&AccessKeyId%3DEXAMPLEid1234%26SecurityToken%3DEXAMPLE%252Ftoken%252B%253D%2526%2522%2525~9%26Version%3D2018-12-01";
        assert_eq!(
            proofs().shown(text),
            "we signed GET&%2F&AccessKeyId%3D…%26SecurityToken%3D…%26Version%3D2018-12-01"
        );
    }

    proptest! {
        #[test]
        fn no_answer_panics(status in any::<u16>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Refusal::read(status, &body, &proofs()).to_string();
        }

        #[test]
        fn no_text_panics_or_breaks_the_line(text in any::<String>(), xml in "(<[A-Za-z/]{0,9}>?|[a-z&;<]){0,20}") {
            let kept = bounded(&text);
            prop_assert!(kept.chars().count() <= MESSAGE_MAX + 1);
            prop_assert!(!kept.contains(char::is_control));
            let _ = Refusal::read(500, xml.as_bytes(), &Proofs::default());
        }

        #[test]
        fn any_value_is_hidden_in_any_mix_of_writings(
            value in "[!-~]{8,40}",
            choices in prop::collection::vec(0..6, 40),
        ) {
            let mut text = String::new();
            for (c, choice) in value.chars().zip(choices) {
                let code = u32::from(c);
                text.push_str(&match choice {
                    0 => c.to_string(),
                    1 => format!("%{code:02X}"),
                    2 => format!("%25{code:02x}"),
                    3 => format!("\\u{code:04x}"),
                    4 => format!("&#{code};"),
                    _ => format!("&#x{code:X};"),
                });
            }
            let shown = Proofs::new([value.as_str()]).shown(&text);
            prop_assert!(shown.starts_with('…'), "{} in {}", value, text);
        }

        #[test]
        fn odd_escapes_do_not_panic(text in r"[%&\\#xu;25amp/ä]{0,60}") {
            let _ = Proofs::new(["%%%%&&&&", "aaaaaaaa", "\\\\\\\\\\\\\\\\", "ääääääää"]).shown(&text);
        }
    }
}
