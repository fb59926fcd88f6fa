//! What can go wrong with an API call, in one fragment for the log and one
//! reason for the metrics. What an answer says is read by `refusal`.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::pages::Incomplete;
use crate::credentials;
use crate::http;
use crate::reason::Reason;
use crate::refusal::{Refusal, is_replay};

/// A failed call of one operation. `Display` is one fragment without its source.
#[derive(Debug)]
pub struct Error {
    action: &'static str,
    reason: Reason,
    failure: Failure,
}

#[derive(Debug)]
pub(super) enum Failure {
    /// The cloud answered, and not with a success.
    Refused(Box<Refusal>),
    /// No answer within the timeout of one request.
    NoAnswer(Duration),
    /// The budget is used up.
    Deadline(Duration),
    /// No answer that could be read.
    Http(http::Error),
    /// A 2xx answer that is not what it should be.
    Unreadable {
        status: u16,
        problem: &'static str,
        /// What the parser says, without proofs; may be "".
        detail: String,
    },
    /// No key.
    Credentials(credentials::Error),
    /// The list cannot be had whole.
    Incomplete(Incomplete),
    /// A success that is not about what was asked for.
    NotFound(&'static str),
    /// The request cannot even be built.
    Unsendable(&'static str),
}

impl Error {
    pub(super) fn new(action: &'static str, failure: Failure) -> Self {
        let reason = match &failure {
            Failure::Refused(refusal) => refusal.reason(),
            Failure::NoAnswer(_) | Failure::Deadline(_) => Reason::Timeout,
            Failure::Http(error) => error.into(),
            Failure::Unreadable { .. } => Reason::Decode,
            Failure::Credentials(_) => Reason::Credentials,
            Failure::NotFound(_) => Reason::NotFound,
            Failure::Incomplete(_) | Failure::Unsendable(_) => Reason::Other,
        };
        Self {
            action,
            reason,
            failure,
        }
    }

    /// A successful response that is not about what `action` was called for.
    pub fn not_found(action: &'static str, problem: &'static str) -> Self {
        Self::new(action, Failure::NotFound(problem))
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The operation that failed.
    pub fn action(&self) -> &'static str {
        self.action
    }

    /// The HTTP status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        match &self.failure {
            Failure::Refused(refusal) => Some(refusal.status),
            Failure::Unreadable { status, .. }
            | Failure::Http(http::Error::TooLarge { status, .. }) => Some(*status),
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

    /// How long the cloud asks to wait before the next request.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.failure {
            Failure::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// The RAM action that the key lacks, of a forbidden call.
    pub fn ram_action(&self) -> Option<&str> {
        self.refusal(|refusal| &refusal.ram_action)
            .filter(|_| self.reason == Reason::Forbidden)
    }

    /// The resource that the action is needed on, of a forbidden call.
    pub fn resource(&self) -> Option<&str> {
        self.refusal(|refusal| &refusal.resource)
            .filter(|_| self.reason == Reason::Forbidden)
    }

    /// Whether the same call may well succeed in a moment.
    pub(super) fn is_transient(&self) -> bool {
        match self.reason {
            Reason::Throttled => true,
            Reason::Other => self.code().is_some_and(is_replay),
            reason => reason.is_transient(),
        }
    }

    /// Whether the cloud refuses the security token of the key, as it does when
    /// the key has ended: another key may be accepted.
    pub(super) fn refuses_token(&self) -> bool {
        matches!(&self.failure, Failure::Refused(refusal) if refusal.refuses_token())
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

impl From<http::Error> for Failure {
    fn from(error: http::Error) -> Self {
        Self::Http(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.action)?;
        match &self.failure {
            Failure::Refused(refusal) => {
                write!(f, "{refusal}")?;
                if let (Some(action), Some(resource)) = (self.ram_action(), self.resource()) {
                    denied(f, refusal, action, resource)?;
                }
                if let (Reason::Clock, Some(skew)) = (self.reason, refusal.skew_seconds) {
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
                    "the deadline of {deadline:?} passed before an answer came"
                )
            }
            Failure::Http(error) => write!(f, "{error}"),
            Failure::Unreadable {
                status,
                problem,
                detail,
            } => {
                write!(f, "{problem} (HTTP {status})")?;
                match detail.as_str() {
                    "" => Ok(()),
                    detail => write!(f, ": {detail}"),
                }
            }
            Failure::Credentials(_) => f.write_str("no usable credentials"),
            Failure::Incomplete(incomplete) => write!(f, "{incomplete}"),
            Failure::NotFound(why) | Failure::Unsendable(why) => f.write_str(why),
        }
    }
}

/// What would help against HTTP 403, as far as the cloud says it.
fn denied(
    f: &mut fmt::Formatter<'_>,
    refusal: &Refusal,
    action: &str,
    resource: &str,
) -> fmt::Result {
    let who = refusal.principal.as_str();
    if refusal.is_explicit() {
        write!(f, "; a policy explicitly denies {action} on {resource}")?;
        return match who {
            "" => Ok(()),
            who => write!(f, " to {who}"),
        };
    }
    f.write_str("; ")?;
    if !who.is_empty() {
        write!(f, "{who} ")?;
    }
    write!(f, "needs {action} on {resource}")?;
    if refusal.is_implicit() {
        f.write_str(", which no policy allows")?;
    }
    Ok(())
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.failure {
            Failure::Http(error) => error.source(),
            Failure::Credentials(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_one_readable_fragment() {
        let refusal = Refusal {
            status: 403,
            code: "NoPrivilege".to_owned(),
            message: "no permission".to_owned(),
            request_id: "1A2B".to_owned(),
            ram_action: "cr:GetTask".to_owned(),
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
        assert_eq!(error.ram_action(), Some("cr:Other"));

        for (kind, principal, expected) in [
            (
                "ImplicitDeny",
                "",
                "needs cr:GetTask on acs:cr:*:*:instance/cri-1, which no policy allows",
            ),
            (
                "implicitdeny",
                "SubUser 20 of account 10",
                "SubUser 20 of account 10 needs cr:GetTask on acs:cr:*:*:instance/cri-1, which no policy allows",
            ),
            (
                "",
                "SubUser 20",
                "SubUser 20 needs cr:GetTask on acs:cr:*:*:instance/cri-1",
            ),
            (
                "ExplicitDeny",
                "SubUser 20",
                "a policy explicitly denies cr:GetTask on acs:cr:*:*:instance/cri-1 to SubUser 20",
            ),
            (
                "ExplicitDeny",
                "",
                "a policy explicitly denies cr:GetTask on acs:cr:*:*:instance/cri-1",
            ),
        ] {
            let denied = Refusal {
                no_permission_type: kind.to_owned(),
                principal: principal.to_owned(),
                ..refusal.clone()
            };
            let told = Error::new("GetTask", Failure::Refused(denied.into())).to_string();
            let (_, hint) = told.split_once("; ").expect("a hint");
            assert_eq!(hint, expected);
        }

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
}
