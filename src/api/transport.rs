//! HTTP as this client wants it: TLS on ring with the system's roots, a proxy
//! from the environment but never for this machine itself, no redirects, an
//! answer of bounded size. Which request to send, and what an answer means, is
//! left to the parent.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, Url};
use rustls::{ClientConfig, RootCertStore};

use super::error::Failure;

const USER_AGENT: &str = concat!("aliyun-acr-exporter/", env!("CARGO_PKG_VERSION"));
/// A page of 100 rows has some 30 KB.
const ANSWER_MAX: usize = 32 << 20;
/// No hint of the cloud makes us wait longer.
const HINT_MAX: Duration = Duration::from_secs(60);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// The connections of the process, cheap to clone.
#[derive(Clone)]
pub struct Http {
    outward: Client,
    loopback: Client,
    proxies: Arc<Proxies>,
}

struct Proxies {
    matcher: Matcher,
    told: Mutex<HashSet<String>>,
}

impl Http {
    /// Trusts the system's certificates, or Mozilla's where the system has
    /// none; reads files. `Err` where TLS cannot be set up.
    pub fn new() -> reqwest::Result<Self> {
        Self::with_roots(system_roots())
    }

    /// Trusts `roots` alone.
    pub fn with_roots(roots: RootCertStore) -> reqwest::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            outward: builder(tls.clone()).build()?,
            loopback: builder(tls).no_proxy().build()?,
            proxies: Arc::new(Proxies {
                matcher: Matcher::from_env(),
                told: Mutex::default(),
            }),
        })
    }

    /// Sends a GET; the answer's body is still on its way.
    pub(super) async fn get(
        &self,
        url: Url,
        headers: Vec<(&'static str, String)>,
    ) -> Result<Response, Failure> {
        let mut request = if is_loopback(&url) {
            self.loopback.get(url)
        } else {
            self.proxies.tell(&url);
            self.outward.get(url)
        };
        for (name, value) in headers {
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| Failure::Unsendable("a header would hold what no header can"))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        request.send().await.map_err(transport)
    }
}

/// HTTP/1.1 alone: a request that times out takes its connection with it. Under
/// HTTP/2 all requests would share one, dead or not.
fn builder(tls: ClientConfig) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .tcp_keepalive(TCP_KEEPALIVE)
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::warn!(
            errors = found.errors.len(),
            "the system has no certificate authorities, those of Mozilla are trusted instead"
        );
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

impl Proxies {
    /// Logs, once for each host, that its requests go through a proxy.
    fn tell(&self, url: &Url) {
        let host = authority(url).unwrap_or_default();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains(&host) {
            return;
        }
        let proxy = url
            .as_str()
            .parse()
            .ok()
            .and_then(|uri| self.matcher.intercept(&uri));
        if let Some(proxy) = proxy {
            // Its URI comes without user and password.
            tracing::info!(host, proxy = %proxy.uri(), "requests go through a proxy");
        }
        told.insert(host);
    }
}

/// The `Host` header that goes with `url`: the port only where it is not the
/// scheme's own. `None` where it is no HTTP URL.
pub(super) fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    matches!(url.scheme(), "http" | "https").then(|| match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost"
        || host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Reads the body, up to [`ANSWER_MAX`] bytes.
pub(super) async fn body(mut response: Response) -> Result<Vec<u8>, Failure> {
    let status = response.status().as_u16();
    let too_large = || Failure::Unreadable {
        status,
        problem: "the answer has more than 32 MiB",
        source: None,
    };
    if response
        .content_length()
        .is_some_and(|stated| stated > ANSWER_MAX as u64)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The URL goes: with HMAC-SHA1 it holds key id, token and signature.
fn transport(error: reqwest::Error) -> Failure {
    Failure::Transport(error.without_url())
}

/// Milliseconds that our clock is ahead of the answer's `Date`.
pub(super) fn skew_millis(headers: &HeaderMap, now_millis: i64) -> Option<i64> {
    Some(now_millis - date_millis(text(headers, DATE.as_str())?)?)
}

fn date_millis(text: &str) -> Option<i64> {
    let date = httpdate::parse_http_date(text).ok()?;
    let since = date.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// How long the cloud asks us to wait, a minute at most: its own headers in
/// milliseconds first, then the standard one in seconds or as a date.
pub(super) fn hint(headers: &HeaderMap, now_millis: i64) -> Option<Duration> {
    let millis = |text: &str| text.trim().parse().ok().map(Duration::from_millis);
    let own = text(headers, "x-acs-retry-after").and_then(millis);
    let limits = ["x-ratelimit-user-api", "x-ratelimit-user"]
        .into_iter()
        .filter_map(|name| text(headers, name))
        .filter_map(|limit| millis(limit_field(limit, "TimeLeft")?))
        .max();
    let standard = || {
        let text = text(headers, RETRY_AFTER.as_str())?.trim();
        text.parse().ok().map(Duration::from_secs).or_else(|| {
            let millis = u64::try_from(date_millis(text)? - now_millis).ok()?;
            Some(Duration::from_millis(millis))
        })
    };
    own.or(limits)
        .or_else(standard)
        .map(|hint| hint.min(HINT_MAX))
}

/// A field of `Limit:1,Remain:0,TimeLeft:2000,Reset:…`.
fn limit_field<'a>(limit: &'a str, name: &str) -> Option<&'a str> {
    limit.split(',').find_map(|field| {
        let (key, value) = field.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then_some(value)
    })
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    name.parse().expect("a name"),
                    value.parse().expect("a value"),
                )
            })
            .collect()
    }

    // 1994-11-06T08:49:37Z, the date of RFC 9110, section 5.6.7.
    const DATE_MS: i64 = 784_111_777_000;

    #[test]
    fn the_cloud_s_hints_are_understood() {
        for (lines, expected) in [
            (&[][..], None),
            (&[("x-acs-retry-after", "1500")], Some(1500)),
            (&[("retry-after", "2")], Some(2000)),
            (
                &[("retry-after", "Sun, 06 Nov 1994 08:49:42 GMT")],
                Some(5000),
            ),
            // Already over.
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:12 GMT")], None),
            (&[("retry-after", "soon")], None),
            (
                &[(
                    "x-ratelimit-user-api",
                    "Limit:1,Remain:0,TimeLeft:2000,Reset:1732434000",
                )],
                Some(2000),
            ),
            (
                &[
                    ("x-ratelimit-user-api", "Limit:1,Remain:0,TimeLeft:200"),
                    ("x-ratelimit-user", "Limit: 9, Remain: 0, timeleft: 900"),
                    ("retry-after", "7"),
                ],
                Some(900),
            ),
            (
                &[("x-acs-retry-after", "100"), ("retry-after", "7")],
                Some(100),
            ),
            (
                &[("x-acs-retry-after", "-1"), ("retry-after", "7")],
                Some(7000),
            ),
            (&[("x-ratelimit-user", "Limit,Remain:0")], None),
            (&[("x-acs-retry-after", "86400000")], Some(60_000)),
            (&[("retry-after", "18446744073709551615")], Some(60_000)),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(hint(&headers(lines), DATE_MS), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_date_tells_the_skew() {
        let dated = headers(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        assert_eq!(skew_millis(&dated, DATE_MS + 1500), Some(1500));
        assert_eq!(skew_millis(&dated, DATE_MS - 60_000), Some(-60_000));
        assert_eq!(skew_millis(&headers(&[("date", "today")]), 0), None);
        assert_eq!(skew_millis(&headers(&[]), 0), None);
    }

    #[test]
    fn the_signed_host_is_the_host_header() {
        for (endpoint, expected) in [
            (
                "https://cr.cn-hangzhou.aliyuncs.com",
                Some("cr.cn-hangzhou.aliyuncs.com"),
            ),
            ("https://CR.example.com:443", Some("cr.example.com")),
            ("http://127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("http://[::1]:8080", Some("[::1]:8080")),
            ("ftp://example.com", None),
        ] {
            let url = Url::parse(endpoint).expect("a URL");
            assert_eq!(authority(&url).as_deref(), expected, "{endpoint}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for (url, expected) in [
            ("http://127.0.0.1:80/", true),
            ("http://127.9.9.9/", true),
            ("http://[::1]:8080/", true),
            ("http://LOCALHOST/", true),
            ("https://cr.cn-hangzhou.aliyuncs.com/", false),
            ("http://localhost.example.com/", false),
            ("http://100.100.100.200/", false),
        ] {
            let parsed = Url::parse(url).expect("a URL");
            assert_eq!(is_loopback(&parsed), expected, "{url}");
        }
    }
}
