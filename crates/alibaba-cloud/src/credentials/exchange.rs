//! One request of a provider, in bounded time and of bounded size; a second
//! attempt where the first failed as what passes by itself does. Which request,
//! and what the answer means, is left to the providers.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Response, Url};
use tokio::time::{Instant, sleep, timeout};

use super::METADATA;
use crate::http;
use crate::reason::Reason;

/// Keys have some 2 KB.
const ANSWER_MAX: usize = 1 << 20;
/// Before the second attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// A response of any status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Why there is no usable response.
pub(super) enum Miss {
    /// None came.
    Silent {
        /// One fragment.
        problem: String,
        reason: Reason,
        /// Whether there was a connection, which broke.
        broke: bool,
    },
    /// One with this status.
    Status(u16),
    /// One that cannot be read.
    Unreadable(String),
}

/// A failed attempt.
pub(super) trait Failed {
    /// Whether a second attempt may succeed a moment later.
    fn passes(&self) -> bool;
    /// Why it failed.
    fn reason(&self) -> Reason;
}

impl Failed for Miss {
    fn passes(&self) -> bool {
        matches!(self, Self::Silent { broke: true, .. } | Self::Status(500..))
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Silent { reason, .. } => *reason,
            Self::Status(_) | Self::Unreadable(_) => Reason::Decode,
        }
    }
}

impl Miss {
    /// The same as long as the cause is.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Silent { reason, .. } => reason.as_str().to_owned(),
            Self::Status(status) => format!("HTTP {status}"),
            Self::Unreadable(problem) => problem.clone(),
        }
    }
}

/// An attempt within `limit`, and a second one in the same time if the first failed as what
/// passes by itself does. The flag says which.
pub(super) async fn twice<T, E: Failed, F: Future<Output = Result<T, E>>>(
    limit: Duration,
    attempt: impl Fn(Duration, bool) -> F,
) -> Result<T, E> {
    let deadline = Instant::now() + limit;
    let first = match attempt(limit, false).await {
        Err(first) if first.passes() => first,
        done => return done,
    };
    let Some(left) = deadline.checked_duration_since(Instant::now() + PAUSE) else {
        return Err(first);
    };
    sleep(PAUSE).await;
    match attempt(left, true).await {
        Err(late) if late.reason() == Reason::Timeout => Err(first),
        done => done,
    }
}

/// The body of a successful response, in up to two attempts.
pub(super) async fn fetch<F>(limit: Duration, send: impl Fn() -> F) -> Result<Vec<u8>, Miss>
where
    F: Future<Output = Result<Response, http::Error>>,
{
    twice(limit, |limit, _| {
        let sending = send();
        async move {
            let answer = exchange(limit, sending).await?;
            match answer.status {
                200..300 => Ok(answer.body),
                status => Err(Miss::Status(status)),
            }
        }
    })
    .await
}

/// The response to what `sending` sends, within `limit`, connecting included.
pub(super) async fn exchange(
    limit: Duration,
    sending: impl Future<Output = Result<Response, http::Error>>,
) -> Result<Answer, Miss> {
    let whole = async {
        let response = sending.await?;
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: http::body(response, ANSWER_MAX).await?,
        })
    };
    match timeout(limit, whole).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(match Reason::from(&error) {
            Reason::Decode => Miss::Unreadable(error.whole()),
            reason => Miss::Silent {
                problem: error.whole(),
                reason,
                broke: reason == Reason::Connect
                    && matches!(&error, http::Error::Transport(error) if !error.is_connect()),
            },
        }),
        Err(_) => Err(Miss::Silent {
            problem: format!("no answer within {limit:?}"),
            reason: Reason::Timeout,
            broke: false,
        }),
    }
}

/// A URL that keys may be asked from: https, or plain http to this machine or
/// the metadata service, which is reached on the instance's own link. `Err` is
/// what is wrong with it, without the value.
pub(super) fn usable(text: &str) -> Result<Url, &'static str> {
    let Ok(url) = Url::parse(text) else {
        return Err("is no URL of the form https://HOST/PATH");
    };
    let is_metadata = || Url::parse(METADATA).is_ok_and(|known| known.host() == url.host());
    match url.scheme() {
        "https" => Ok(url),
        "http" if http::is_loopback(&url) || is_metadata() => Ok(url),
        "http" => Err(
            "is plain http, over which anybody on the way could read the key; it should be https, or http to a loopback address or 100.100.100.200",
        ),
        _ => Err("is no URL of the form https://HOST/PATH"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_do_not_travel_in_the_clear() {
        for good in [
            "https://example.com/keys",
            "http://127.0.0.1:8080/keys?a=b",
            "http://[::1]/",
            "http://localhost:1/",
            "http://100.100.100.200/x",
        ] {
            assert!(usable(good).is_ok(), "{good}");
        }
        for bad in [
            "http://example.com/keys",
            "http://100.100.100.201/",
            "http://100.100.100.200.example.com/",
            "http://127.0.0.1@example.com/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "127.0.0.1:80",
            "",
        ] {
            assert!(usable(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = usable(&text);
        }
    }
}
