//! One request of a provider, in bounded time and of bounded size; a second
//! attempt where the first failed as what passes by itself does. Which request,
//! and what the answer means, is left to the providers.

use std::future::Future;
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

/// What came.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why nothing usable came.
pub(super) struct Trouble {
    /// One fragment.
    pub(super) problem: String,
    pub(super) reason: Reason,
    /// Whether there was a connection, which broke.
    pub(super) broke: bool,
}

/// Whether a second attempt may well succeed a moment later.
pub(super) fn is_passing(answered: &Result<Answer, Trouble>) -> bool {
    match answered {
        Ok(answer) => answer.status >= 500,
        Err(trouble) => trouble.broke,
    }
}

/// Waits a moment, and tells how long a second attempt may take; `None` where
/// too little is left until `deadline`.
pub(super) async fn second(deadline: Instant) -> Option<Duration> {
    let left = deadline.checked_duration_since(Instant::now() + PAUSE)?;
    sleep(PAUSE).await;
    Some(left)
}

/// As [`exchange`], with a second attempt within the same `limit`.
pub(super) async fn persistent<F>(limit: Duration, send: impl Fn() -> F) -> Result<Answer, Trouble>
where
    F: Future<Output = Result<Response, http::Error>>,
{
    let deadline = Instant::now() + limit;
    let first = exchange(limit, send()).await;
    if !is_passing(&first) {
        return first;
    }
    let Some(left) = second(deadline).await else {
        return first;
    };
    match exchange(left, send()).await {
        Err(late) if late.reason == Reason::Timeout => first,
        again => again,
    }
}

/// The answer to what `sending` sends, within `limit`, connecting included.
pub(super) async fn exchange(
    limit: Duration,
    sending: impl Future<Output = Result<Response, http::Error>>,
) -> Result<Answer, Trouble> {
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
        Ok(Err(error)) => Err(Trouble {
            problem: http::Error::whole(&error),
            reason: Reason::from(&error),
            broke: matches!(&error, http::Error::Transport(error) if !error.is_connect())
                && Reason::from(&error) == Reason::Connect,
        }),
        Err(_) => Err(Trouble {
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
