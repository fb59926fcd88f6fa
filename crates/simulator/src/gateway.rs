//! What stands before the operations: reading a call from what arrived,
//! deriving its signature again, and the shape of a refusal. The order of the
//! checks and the messages follow the vendor's gateway as far as it is public.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Mutex;
use std::time::Duration;

use alibaba_cloud::signing::{Algorithm, acs3, canonical_query, hmac_sha1};
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode, Version};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{AccessKey, Body, lock, metadata, text};

/// What a call is for, told by its version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Product {
    Registry,
    Sts,
}

impl Product {
    fn of(version: &str) -> Result<Self, Refusal> {
        match version {
            "2018-12-01" => Ok(Self::Registry),
            "2015-04-01" => Ok(Self::Sts),
            _ => Err(Refusal::new(
                400,
                "InvalidVersion",
                "Specified parameter Version is not valid.",
            )),
        }
    }
}

/// What is needed of a date: `YYYY-MM-DDThh:mm:ssZ`.
const DATE_FORM: &str = "%Y-%m-%dT%H:%M:%SZ";

/// So many nonces are remembered at most; a load test sends thousands a second.
const NONCES: usize = 200_000;

/// Why a call was not carried out: becomes the gateway's error.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    status: u16,
    pub(super) code: String,
    message: String,
    /// `AccessDeniedDetail`.
    detail: Option<Box<Value>>,
}

impl Refusal {
    pub(super) fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            detail: None,
        }
    }

    pub(super) fn denied(
        code: impl Into<String>,
        message: impl Into<String>,
        detail: Value,
    ) -> Self {
        Self {
            detail: Some(Box::new(detail)),
            ..Self::new(403, code, message)
        }
    }

    pub(super) fn no_such_action() -> Self {
        let message = "Specified api is not found, please check your url and method.";
        Self::new(404, "InvalidAction.NotFound", message)
    }

    fn missing(name: &str) -> Self {
        let message = format!(
            "The input parameter \"{name}\" that is mandatory for processing this request is not supplied."
        );
        Self::new(400, "MissingParameter", message)
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(super) fn body(&self, request_id: &str, host: &str) -> Value {
        let mut body = json!({
            "RequestId": request_id,
            "HostId": host,
            "Code": self.code,
            "Message": self.message,
            "Recommend": format!(
                "https://api.alibabacloud.com/troubleshoot?q={}&product=cr&requestId={request_id}",
                self.code
            ),
        });
        if let Some(detail) = &self.detail {
            body["AccessDeniedDetail"] = *detail.clone();
        }
        body
    }
}

/// A request for an operation, as it arrived.
pub(super) struct Call {
    connection: u64,
    version: Version,
    method: String,
    path: String,
    query: Vec<(String, String)>,
    form: Vec<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    pub(super) fn read(connection: u64, head: &Parts, body: Bytes) -> Self {
        let is_form = header(&head.headers, "content-type")
            .is_some_and(|kind| kind.starts_with(alibaba_cloud::signing::FORM));
        let form = if is_form {
            decode(&String::from_utf8_lossy(&body))
        } else {
            Vec::new()
        };
        Self {
            connection,
            version: head.version,
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: decode(head.uri.query().unwrap_or_default()),
            form,
            headers: head.headers.clone(),
            body,
        }
    }

    pub(super) fn connection(&self) -> u64 {
        self.connection
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub(super) fn host(&self) -> &str {
        header(&self.headers, HOST.as_str()).unwrap_or_default()
    }

    fn query(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    pub(super) fn is_in_query(&self, name: &str) -> bool {
        self.query(name).is_some()
    }

    /// An input of the operation; an empty one counts as absent.
    pub(super) fn input(&self, name: &str) -> Option<&str> {
        let input = self.query(name).or_else(|| find(&self.form, name));
        input.filter(|value| !value.is_empty())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.input(name).ok_or_else(|| Refusal::missing(name))
    }

    /// The official client sends the headers of the newer scheme along with the
    /// older signature, so only `Authorization` tells.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        if self.headers.contains_key(AUTHORIZATION) {
            Some(Algorithm::Acs3)
        } else {
            self.query("Signature").map(|_| Algorithm::HmacSha1)
        }
    }

    /// The operation, or what a path without operations is called.
    pub(super) fn action(&self) -> Option<&str> {
        if let Some(action) = metadata::action(&self.path) {
            return Some(action);
        }
        match self.algorithm() {
            Some(Algorithm::Acs3) => header(&self.headers, "x-acs-action"),
            Some(Algorithm::HmacSha1) => self.query("Action"),
            None => self
                .query("Action")
                .or_else(|| header(&self.headers, "x-acs-action")),
        }
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        match self.algorithm()? {
            Algorithm::Acs3 => Authorization::read(&self.headers).map(|a| a.key_id),
            Algorithm::HmacSha1 => self.query("AccessKeyId"),
        }
    }

    /// Without `Format=JSON` the older scheme answers XML, signed or not.
    fn wants_xml(&self) -> bool {
        self.algorithm() != Some(Algorithm::Acs3)
            && self.is_in_query("Action")
            && !self
                .query("Format")
                .is_some_and(|format| format.eq_ignore_ascii_case("JSON"))
    }

    pub(super) fn format(&self, status: StatusCode, root: &str, body: &Value) -> Response<Body> {
        if self.wants_xml() {
            text(status, "text/xml;charset=utf-8", xml(root, body))
        } else {
            text(status, "application/json;charset=utf-8", body.to_string())
        }
    }
}

/// The nonces of the last while, as hashes.
#[derive(Default)]
pub(super) struct Nonces {
    seen: HashSet<u64>,
    order: VecDeque<(i64, u64)>,
}

impl Nonces {
    /// Whether this is the first use within twice the date window, after which
    /// the date refuses a replay anyway.
    fn first_use(&mut self, key_id: &str, nonce: &str, now: i64, window: i64) -> bool {
        while let Some(&(used, hash)) = self.order.front()
            && (self.order.len() > NONCES || now.saturating_sub(used) > window.saturating_mul(2))
        {
            self.seen.remove(&hash);
            self.order.pop_front();
        }
        let mut hasher = DefaultHasher::new();
        (key_id, nonce).hash(&mut hasher);
        let hash = hasher.finish();
        let first = self.seen.insert(hash);
        if first {
            self.order.push_back((now, hash));
        }
        first
    }
}

/// What either scheme says about a call, without the name of the scheme.
struct Claim<'a> {
    key_id: &'a str,
    token: Option<&'a str>,
    date: &'a str,
    nonce: &'a str,
    version: &'a str,
    signature: &'a str,
    string_to_sign: String,
}

/// Refuses a call whose signature, date, key or nonce is not in order.
/// `secret` finds the secret of a key by its id and the token that came along.
pub(super) fn verify(
    call: &Call,
    secret: impl FnOnce(&str, Option<&str>) -> Result<String, Refusal>,
    now: i64,
    date_window: Duration,
    nonces: &Mutex<Nonces>,
) -> Result<Product, Refusal> {
    check_target(call)?;
    let (algorithm, claim) = match call.algorithm() {
        Some(Algorithm::Acs3) => (Algorithm::Acs3, claim_acs3(call)?),
        Some(Algorithm::HmacSha1) => (Algorithm::HmacSha1, claim_hmac_sha1(call)?),
        None => return Err(Refusal::missing("Signature")),
    };
    let product = Product::of(claim.version)?;
    check_date(claim.date, now, date_window)?;
    let secret = secret(claim.key_id, claim.token)?;
    let expected = match algorithm {
        Algorithm::Acs3 => acs3::signature(&secret, &claim.string_to_sign),
        Algorithm::HmacSha1 => hmac_sha1::signature(&secret, &claim.string_to_sign),
    };
    if expected != claim.signature {
        // The original tells its string to sign too.
        let message = format!(
            "Specified signature is not matched with our calculation. server string to sign is:{}",
            claim.string_to_sign
        );
        return Err(Refusal::new(400, "SignatureDoesNotMatch", message));
    }
    let window = i64::try_from(date_window.as_millis()).unwrap_or(i64::MAX);
    if !lock(nonces).first_use(claim.key_id, claim.nonce, now, window) {
        return Err(Refusal::new(
            400,
            "SignatureNonceUsed",
            "Specified signature nonce was used already.",
        ));
    }
    Ok(product)
}

/// Refuses an unsigned call whose version or date is not in order.
pub(super) fn verify_unsigned(
    call: &Call,
    now: i64,
    date_window: Duration,
) -> Result<Product, Refusal> {
    check_target(call)?;
    let common = |name: &str, header: &str| {
        let value = call.query(name).or_else(|| call.header(header));
        value.ok_or_else(|| Refusal::missing(name))
    };
    let product = Product::of(common("Version", "x-acs-version")?)?;
    check_date(common("Timestamp", "x-acs-date")?, now, date_window)?;
    Ok(product)
}

/// The secret of `key`, if `token` is the one it needs.
pub(super) fn secret_of(key: &AccessKey, token: Option<&str>) -> Result<String, Refusal> {
    if token == key.token.as_deref() {
        return Ok(key.secret.clone());
    }
    let code = match token {
        Some(_) => "InvalidSecurityToken.MismatchWithAccessKey",
        None => "MissingSecurityToken",
    };
    let message = "Specified SecurityToken mismatches with the AccessKey.";
    Err(Refusal::new(400, code, message))
}

fn check_target(call: &Call) -> Result<(), Refusal> {
    if call.path != "/" {
        return Err(Refusal::no_such_action());
    }
    if !matches!(call.method(), "GET" | "POST") {
        return Err(Refusal::new(
            400,
            "UnsupportedHTTPMethod",
            "This http method is not supported.",
        ));
    }
    Ok(())
}

fn check_date(date: &str, now: i64, window: Duration) -> Result<(), Refusal> {
    let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    if now.abs_diff(read_date(date)?) > window.unsigned_abs() {
        return Err(Refusal::new(
            400,
            "InvalidTimeStamp.Expired",
            "Specified time stamp or date value is expired.",
        ));
    }
    Ok(())
}

fn claim_acs3(call: &Call) -> Result<Claim<'_>, Refusal> {
    let incomplete = |message: String| Refusal::new(400, "IncompleteSignature", message);
    let authorization = Authorization::read(&call.headers)
        .ok_or_else(|| incomplete("The Authorization header cannot be read.".to_owned()))?;
    let present = |name: &str| header(&call.headers, name).ok_or_else(|| Refusal::missing(name));
    let claim = (
        present("x-acs-date")?,
        present("x-acs-signature-nonce")?,
        present("x-acs-version")?,
        present("x-acs-content-sha256")?,
    );
    present("x-acs-action")?;

    let signed: Vec<&str> = authorization.signed_headers.split(';').collect();
    let must_be_signed = call
        .headers
        .keys()
        .map(hyper::header::HeaderName::as_str)
        .filter(|name| {
            *name == "host"
                || name.starts_with("x-acs-")
                || (*name == "content-type" && !call.body.is_empty())
        });
    for name in must_be_signed {
        if !signed.contains(&name) {
            return Err(incomplete(format!("The header {name} is not signed.")));
        }
    }
    let mut headers = Vec::with_capacity(signed.len());
    for name in signed {
        headers.push((name, present(name)?));
    }
    let (date, nonce, version, content_sha256) = claim;
    if content_sha256 != acs3::content_sha256(&call.body) {
        return Err(Refusal::new(
            400,
            "SignatureDoesNotMatch",
            "The header x-acs-content-sha256 does not match the body.",
        ));
    }
    let canonical = acs3::canonical_request(
        &call.method,
        &canonical_query(pairs(&call.query)),
        &acs3::canonical_headers(&headers),
        authorization.signed_headers,
        content_sha256,
    );
    Ok(Claim {
        key_id: authorization.key_id,
        token: header(&call.headers, "x-acs-security-token"),
        date,
        nonce,
        version,
        signature: authorization.signature,
        string_to_sign: acs3::string_to_sign(&canonical),
    })
}

fn claim_hmac_sha1(call: &Call) -> Result<Claim<'_>, Refusal> {
    let common = |name: &str| {
        let value = call.query(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| Refusal::missing(name))
    };
    common("Action")?;
    for (name, only) in [
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
    ] {
        if common(name)? != only {
            let message = format!("Specified parameter {name} is not valid.");
            return Err(Refusal::new(400, "InvalidParameter", message));
        }
    }
    let signed = pairs(&call.query)
        .chain(pairs(&call.form))
        .filter(|(name, _)| *name != "Signature");
    Ok(Claim {
        key_id: common("AccessKeyId")?,
        token: call.query("SecurityToken"),
        date: common("Timestamp")?,
        nonce: common("SignatureNonce")?,
        version: common("Version")?,
        signature: common("Signature")?,
        string_to_sign: hmac_sha1::string_to_sign(&call.method, &canonical_query(signed)),
    })
}

struct Authorization<'a> {
    key_id: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn read(headers: &'a HeaderMap) -> Option<Self> {
        let value = header(headers, AUTHORIZATION.as_str())?;
        let rest = value.strip_prefix(acs3::ALGORITHM)?;
        let part = |name: &str| {
            rest.split(',')
                .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self {
            key_id: part("Credential")?,
            signed_headers: part("SignedHeaders")?,
            signature: part("Signature")?,
        })
    }
}

/// Milliseconds of a date in the one form that is accepted.
fn read_date(date: &str) -> Result<i64, Refusal> {
    let parsed = jiff::civil::DateTime::strptime(DATE_FORM, date)
        .and_then(|time| jiff::tz::Offset::UTC.to_timestamp(time));
    let time = parsed.map_err(|_| {
        Refusal::new(
            400,
            "InvalidTimeStamp.Format",
            "Specified time stamp or date value is not well formatted.",
        )
    })?;
    Ok(time.as_millisecond())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = pairs.iter().find(|(n, _)| n == name);
    found.map(|(_, value)| value.as_str())
}

fn pairs(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    pairs.iter().map(|(name, value)| (&**name, &**value))
}

/// Reads a query or a form as servers do: a `+` is a space, which is why a
/// client that does not encode one as `%20` finds its signature refused.
fn decode(encoded: &str) -> Vec<(String, String)> {
    let plain = |part: &str| {
        let spaced = if part.contains('+') {
            Cow::Owned(part.replace('+', " "))
        } else {
            Cow::Borrowed(part)
        };
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    encoded
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (plain(name), plain(value))
        })
        .collect()
}

/// Renders an answer as the gateway does without `Format=JSON`.
pub(super) fn xml(root: &str, body: &Value) -> String {
    let mut out = String::from("<?xml version='1.0' encoding='UTF-8'?>");
    element(&mut out, root, body);
    out
}

fn element(out: &mut String, name: &str, value: &Value) {
    if let Value::Array(items) = value {
        for item in items {
            element(out, name, item);
        }
        return;
    }
    out.push('<');
    out.push_str(name);
    out.push('>');
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                element(out, name, value);
            }
        }
        Value::String(text) => {
            let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
            out.push_str(&escaped);
        }
        Value::Null => {}
        scalar => out.push_str(&scalar.to_string()),
    }
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_once_and_forgotten_when_the_date_would_refuse_it() {
        let mut nonces = Nonces::default();
        assert!(nonces.first_use("key", "a", 0, 10));
        assert!(!nonces.first_use("key", "a", 20, 10));
        assert!(nonces.first_use("other", "a", 20, 10));
        assert!(nonces.first_use("key", "a", 21, 10));
        assert_eq!(nonces.order.len(), nonces.seen.len());
    }

    #[test]
    fn a_plus_is_a_space_and_an_empty_value_stays() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            decode("a=1+2&b=%2B&c=&d"),
            [
                pair("a", "1 2"),
                pair("b", "+"),
                pair("c", ""),
                pair("d", "")
            ]
        );
    }

    #[test]
    fn only_one_form_of_a_date_is_read() {
        assert_eq!(read_date("2026-01-02T03:04:05Z"), Ok(1_767_323_045_000));
        for wrong in ["2026-01-02 03:04:05", "2026-01-02T03:04:05+00:00", ""] {
            let refusal = read_date(wrong).expect_err(wrong);
            assert_eq!(refusal.code, "InvalidTimeStamp.Format", "{wrong}");
        }
    }

    #[test]
    fn xml_repeats_the_name_of_a_list() {
        let answer = json!({"Rows": [{"Tag": "a&b"}, {"Tag": null}], "TotalCount": 2});
        assert_eq!(
            xml("Response", &answer),
            "<?xml version='1.0' encoding='UTF-8'?><Response><Rows><Tag>a&amp;b</Tag></Rows>\
             <Rows><Tag></Tag></Rows><TotalCount>2</TotalCount></Response>"
        );
    }
}
