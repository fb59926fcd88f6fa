//! Why an API call or a poll failed: one closed set from the API client to the
//! log, the state file and the label `reason`. Pure.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a call or a poll failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Too many requests.
    Throttled,
    /// The access key or the signature is not accepted.
    Auth,
    /// The credentials are accepted and lack the permission.
    Forbidden,
    /// The local clock and the API's are too far apart.
    Clock,
    /// There is no such instance, task, …
    NotFound,
    /// The API does not understand the request.
    BadRequest,
    /// No response in time, to one request or within the deadline of a poll.
    Timeout,
    /// No connection, or one that broke; DNS and TLS included.
    Connect,
    /// The API failed.
    Server,
    /// The response cannot be parsed, or is too large.
    Decode,
    /// Everything else.
    Other,
    /// There were no credentials to sign with: a poll fails, no request is sent.
    Credentials,
}

impl Reason {
    /// Every reason that a poll can fail for.
    pub const ALL: [Self; 12] = [
        Self::Throttled,
        Self::Auth,
        Self::Forbidden,
        Self::Clock,
        Self::NotFound,
        Self::BadRequest,
        Self::Timeout,
        Self::Connect,
        Self::Server,
        Self::Decode,
        Self::Other,
        Self::Credentials,
    ];

    /// Every reason that an API request can fail for: all but
    /// [`Reason::Credentials`], without which no request is sent.
    pub const API: [Self; 11] = *Self::ALL.first_chunk().expect("fewer than all");

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
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

    /// Whether the next attempt may succeed without a change on either side.
    /// Throttling is not among them: the rate limit paces the next attempt.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Timeout | Self::Connect | Self::Server)
    }

    /// Whether the same question will fail in the same way until somebody
    /// changes permissions, configuration or what was asked for.
    pub fn is_permanent(self) -> bool {
        matches!(self, Self::Forbidden | Self::NotFound | Self::BadRequest)
    }

    /// Whether everything of one account tends to fail for it at once.
    pub fn is_account_wide(self) -> bool {
        match self {
            Self::Auth
            | Self::Forbidden
            | Self::Clock
            | Self::Connect
            | Self::Throttled
            | Self::Timeout
            | Self::Server
            | Self::Credentials => true,
            Self::NotFound | Self::BadRequest | Self::Decode | Self::Other => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// A reason of another version becomes [`Reason::Other`].
impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
        Ok(known.unwrap_or(Self::Other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_hold_every_reason_once() {
        let words: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(
            words,
            [
                "throttled",
                "auth",
                "forbidden",
                "clock",
                "not_found",
                "bad_request",
                "timeout",
                "connect",
                "server",
                "decode",
                "other",
                "credentials",
            ]
        );
        assert_eq!(Reason::API[..], Reason::ALL[..11]);
        // `ALL` is in declaration order and complete: `own` indexes by it.
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{reason}");
        }
    }

    #[test]
    fn a_reason_is_its_word_where_it_is_written_down() {
        for reason in Reason::ALL {
            let json = serde_json::to_string(&reason).expect("a string");
            assert_eq!(json, format!("\"{reason}\""));
            let read: Reason = serde_json::from_str(&json).expect("a reason");
            assert_eq!(read, reason);
        }
        let unknown: Reason = serde_json::from_str("\"invented\"").expect("a reason");
        assert_eq!(unknown, Reason::Other);
    }
}
