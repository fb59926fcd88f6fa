//! One request of a provider, in bounded time and of bounded size. Which, and
//! what the answer means, is left to the providers.

use std::future::Future;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Response, Url};
use tokio::time::timeout;

use super::METADATA;
use crate::http;
use crate::refusal::Class;

/// Keys have some 2 KB.
const ANSWER_MAX: usize = 1 << 20;

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
    pub(super) class: Class,
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
            class: Class::from(&error),
        }),
        Err(_) => Err(Trouble {
            problem: format!("no answer within {limit:?}"),
            class: Class::Timeout,
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
