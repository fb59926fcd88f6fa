//! Faults on request, so that tests and people can see what a client makes of
//! a cloud that is slow, busy, broken or gone. A fault comes with one request
//! (header `x-sim-fault`) or is laid down beforehand for the requests that a
//! [`FaultRule`] matches.

use std::io;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::gateway::{self, Call, Refusal};
use super::{Body, metadata, text};

/// What goes wrong. In JSON `{"kind": "slow", "ms": 500}`; every field but the
/// kind has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "snake_case",
    deny_unknown_fields
)]
pub enum Fault {
    /// The gateway's error.
    Error {
        /// The HTTP status.
        #[serde(default = "internal_error")]
        status: u16,
        /// The error's `Code`.
        #[serde(default = "service_unavailable")]
        code: String,
        /// The error's `Message`.
        #[serde(default)]
        message: String,
    },
    /// HTTP 403 of the access control, with `AccessDeniedDetail`. Without that:
    /// [`Fault::Error`].
    Denied {
        /// The error's `Code`.
        #[serde(default = "no_permission")]
        code: String,
        /// `AuthAction`, the RAM action that is missing; the operation's own
        /// where it is not said.
        #[serde(default)]
        auth_action: Option<String>,
        /// `AuthPrincipalType`: `SubUser`, `AssumedRoleUser`, `Federated`.
        #[serde(default = "assumed_role_user")]
        principal_type: String,
        /// `NoPermissionType`: `ImplicitDeny` or `ExplicitDeny`.
        #[serde(default = "implicit_deny")]
        no_permission_type: String,
    },
    /// HTTP 200 with `IsSuccess` false, which the official SDK takes for a success.
    Refused {
        /// The answer's `Code`.
        #[serde(default = "not_supported")]
        code: String,
    },
    /// A success about no task and without rows, which an unknown id may be
    /// answered with in place of an error.
    Gone,
    /// Flow control.
    Throttle {
        /// The HTTP status, usually 400.
        #[serde(default = "bad_request")]
        status: u16,
        /// The error's `Code`.
        #[serde(default = "throttling")]
        code: String,
        /// `x-acs-retry-after`, milliseconds.
        #[serde(default)]
        retry_after_ms: Option<u64>,
        /// `TimeLeft` of `x-ratelimit-user-api`, milliseconds.
        #[serde(default)]
        time_left_ms: Option<u64>,
        /// The standard `Retry-After`, seconds.
        #[serde(default)]
        retry_after_s: Option<u64>,
    },
    /// Never answers.
    Hang,
    /// Answers as usual, but late.
    Slow {
        /// The delay, milliseconds.
        #[serde(default = "second")]
        ms: u64,
    },
    /// Closes the connection without an answer.
    Drop,
    /// Breaks off in the middle of the body.
    HalfBody,
    /// The page of a load balancer.
    HtmlPage {
        /// The HTTP status.
        #[serde(default = "bad_gateway")]
        status: u16,
    },
    /// The gateway's error in XML.
    XmlError {
        /// The HTTP status.
        #[serde(default = "internal_error")]
        status: u16,
        /// The error's `Code`.
        #[serde(default = "service_unavailable")]
        code: String,
    },
    /// An answer without an end in sight.
    Oversized {
        /// Its length, rounded up to whole pieces of 64 KiB.
        #[serde(default = "plenty")]
        bytes: u64,
    },
    /// HTTP 200 with nothing in it.
    EmptyBody,
    /// HTTP 200 with something that is not JSON.
    Garbage,
    /// The cloud's clock is wrong, for the `Date` header and for the check of
    /// the request's date alike.
    ClockSkew {
        /// How far it is ahead, seconds.
        #[serde(default = "hour")]
        seconds: i64,
    },
}

fn bad_request() -> u16 {
    400
}
fn internal_error() -> u16 {
    500
}
fn bad_gateway() -> u16 {
    502
}
fn second() -> u64 {
    1000
}
fn hour() -> i64 {
    3600
}
fn plenty() -> u64 {
    64 * 1024 * 1024
}
fn service_unavailable() -> String {
    "ServiceUnavailable".to_owned()
}
fn not_supported() -> String {
    "INSTANCE_STATUS_NOT_SUPPORT".to_owned()
}
fn no_permission() -> String {
    "NoPermission".to_owned()
}
fn assumed_role_user() -> String {
    "AssumedRoleUser".to_owned()
}
fn implicit_deny() -> String {
    "ImplicitDeny".to_owned()
}
fn throttling() -> String {
    "Throttling.User".to_owned()
}

impl Fault {
    /// The answer of a fault that does without the operation's.
    pub(super) fn response(self, request_id: &str) -> Response<Body> {
        const JSON: &str = "application/json;charset=utf-8";
        match self {
            Self::Refused { code } => {
                let body = json!({"RequestId": request_id, "Code": code, "IsSuccess": false});
                text(StatusCode::OK, JSON, body.to_string())
            }
            Self::Throttle {
                status,
                code,
                retry_after_ms,
                time_left_ms,
                retry_after_s,
            } => {
                let refusal =
                    Refusal::new(status, code, "Request was denied due to user flow control.");
                let body = refusal.body(request_id, "").to_string();
                let mut response = text(refusal.status(), JSON, body);
                let rate = time_left_ms
                    .map(|left| format!("Limit:1,Remain:0,TimeLeft:{left},Reset:1767323045000"));
                let hints = [
                    ("x-acs-retry-after", retry_after_ms.map(|ms| ms.to_string())),
                    ("retry-after", retry_after_s.map(|s| s.to_string())),
                    ("x-ratelimit-user-api", rate),
                ];
                for (name, value) in hints {
                    let value = value.and_then(|value| HeaderValue::try_from(value).ok());
                    if let Some(value) = value {
                        response.headers_mut().insert(name, value);
                    }
                }
                response
            }
            Self::Gone => {
                let body = json!({
                    "RequestId": request_id, "Code": "success", "IsSuccess": true,
                    "TotalCount": 0, "TaskResults": [],
                });
                text(StatusCode::OK, JSON, body.to_string())
            }
            Self::HtmlPage { status } => text(
                as_status(status),
                "text/html",
                "<html>\r\n<head><title>Bad Gateway</title></head>\r\n<body>\r\n\
                 <center><h1>Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n",
            ),
            Self::XmlError { status, code } => {
                let refusal = Refusal::new(status, code, "The request has failed.");
                let body = gateway::xml("Error", &refusal.body(request_id, ""));
                text(refusal.status(), "text/xml;charset=utf-8", body)
            }
            Self::Oversized { bytes } => {
                let piece = Bytes::from(vec![b' '; 64 * 1024]);
                let pieces = bytes.div_ceil(piece.len() as u64);
                let frames = (0..pieces).map(move |_| Ok(Frame::data(piece.clone())));
                streamed(stream::iter(frames))
            }
            Self::Garbage => text(StatusCode::OK, JSON, r#"{"TaskResults": [{"Tag": tr"#),
            // The others are the server's own doing.
            _ => text(StatusCode::OK, JSON, ""),
        }
    }
}

fn as_status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn streamed(
    frames: impl Stream<Item = io::Result<Frame<Bytes>>> + Send + Sync + 'static,
) -> Response<Body> {
    Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

/// Announces the whole body and sends one half of it.
pub(super) async fn halve(whole: Response<Body>) -> Response<Body> {
    let (head, body) = whole.into_parts();
    // Made by `text`, whose body cannot fail.
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let body = body.unwrap_or_default();
    let half = Ok(Frame::data(body.slice(..body.len() / 2)));
    let broken = async {
        // The server sends what it has when it finds nothing more at once; an
        // error straight away would throw the half away too.
        tokio::task::yield_now().await;
        Err(io::Error::other("broken off on purpose"))
    };
    let frames = stream::iter([half]).chain(stream::once(broken));
    let mut response = streamed(frames);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    let length = HeaderValue::from(body.len());
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// A fault for the requests that match. What is not said matches everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Only this operation, by the name in the log of requests; `Metadata`
    /// stands for all of the metadata service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Only requests with this `InstanceId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Only requests with this `TaskId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Only requests for this page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_no: Option<u32>,
    /// So many requests, then no more; without it until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// What goes wrong.
    pub fault: Fault,
}

impl FaultRule {
    /// A fault for every request until it is cleared.
    pub fn new(fault: Fault) -> Self {
        Self {
            action: None,
            instance_id: None,
            task_id: None,
            page_no: None,
            count: None,
            fault,
        }
    }

    /// Limits the fault to one operation.
    #[must_use]
    pub fn action(mut self, action: &str) -> Self {
        self.action = Some(action.to_owned());
        self
    }

    /// Limits the fault to one instance.
    #[must_use]
    pub fn instance(mut self, id: &str) -> Self {
        self.instance_id = Some(id.to_owned());
        self
    }

    /// Limits the fault to one task.
    #[must_use]
    pub fn task(mut self, id: &str) -> Self {
        self.task_id = Some(id.to_owned());
        self
    }

    /// Limits the fault to one page of a list.
    #[must_use]
    pub fn page(mut self, page: u32) -> Self {
        self.page_no = Some(page);
        self
    }

    /// Limits the fault to so many requests.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    fn matches(&self, call: &Call) -> bool {
        let same = |wanted: &Option<String>, got: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == got)
        };
        let page = call.input("PageNo").map_or(Ok(1), str::parse);
        let is_action = same(&self.action, call.action())
            || self
                .action
                .as_deref()
                .is_some_and(|wanted| metadata::is_meant(wanted, call.action()));
        self.count != Some(0)
            && is_action
            && same(&self.instance_id, call.input("InstanceId"))
            && same(&self.task_id, call.input("TaskId"))
            && self.page_no.is_none_or(|wanted| Ok(wanted) == page)
    }
}

/// The faults laid down.
#[derive(Default)]
pub(super) struct Faults(Vec<FaultRule>);

impl Faults {
    pub(super) fn add(&mut self, rule: FaultRule) {
        self.0.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn rules(&self) -> &[FaultRule] {
        &self.0
    }

    /// The fault of the first rule that matches, which is used up by one.
    pub(super) fn matching(&mut self, call: &Call) -> Option<Fault> {
        let at = self.0.iter().position(|rule| rule.matches(call))?;
        let rule = &mut self.0[at];
        let fault = rule.fault.clone();
        if let Some(count) = &mut rule.count {
            *count -= 1;
            if *count == 0 {
                self.0.remove(at);
            }
        }
        Some(fault)
    }
}

/// The fault that a request brings itself: its kind, or the whole in JSON.
pub(super) fn from_header(headers: &HeaderMap) -> Option<Result<Fault, Refusal>> {
    let value = headers.get("x-sim-fault")?.to_str().unwrap_or_default();
    let fault = if value.starts_with('{') {
        serde_json::from_str(value)
    } else {
        serde_json::from_value(json!({ "kind": value }))
    };
    Some(fault.map_err(|error| Refusal::new(400, "InvalidFault", error.to_string())))
}
