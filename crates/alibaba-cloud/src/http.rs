//! HTTP/1.1 as this program sends it: TLS on ring with the system's roots, a
//! proxy from the environment but never for this machine itself, no redirects,
//! an answer of bounded size. Which request to send, and what an answer means,
//! is left to `api` and `credentials`.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{DATE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, Url};
use rustls::{ClientConfig, RootCertStore};

/// Who is asked directly is near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// A connection that nobody uses is closed.
const IDLE: Duration = Duration::from_secs(90);

/// Bytes set aside for a body before they have come.
const RESERVED_MAX: usize = 64 * 1024;

/// A header to send, and its value.
pub(crate) type Header = (&'static str, String);

/// The connections of the process, cheap to clone.
#[derive(Clone)]
pub struct Http {
    outward: Client,
    direct: Client,
    proxies: Arc<Proxies>,
}

struct Proxies {
    matcher: Matcher,
    told: Mutex<HashSet<String>>,
}

/// The way that a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Through the proxy that the environment names, except to this machine.
    Outward,
    /// Never through a proxy.
    Direct,
}

/// Why there is no answer that can be used. `Display` is one fragment without
/// its source and without the URL, which may hold a signature.
#[derive(Debug)]
pub enum Error {
    /// No connection, one that broke, or one on which nothing came.
    Transport(reqwest::Error),
    /// The answer is larger than allowed.
    TooLarge {
        /// Its HTTP status.
        status: u16,
        /// Bytes allowed.
        max: usize,
    },
    /// A header would hold what no header can.
    Header,
    /// TLS cannot be set up.
    Setup(reqwest::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transport(error) if error.is_connect() => "no connection",
            Self::Transport(error) if error.is_timeout() => "no answer in time",
            Self::Transport(error) if error.is_builder() => "the request cannot be built",
            Self::Transport(error) if error.is_body() || error.is_decode() => {
                "the connection broke within the answer"
            }
            Self::Transport(_) => "the connection broke before an answer came",
            Self::TooLarge { status, max } => {
                return write!(
                    f,
                    "the answer has more than {} MiB (HTTP {status})",
                    max >> 20
                );
            }
            Self::Header => "a header would hold what no header can",
            Self::Setup(_) => "TLS cannot be set up",
        })
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            // The layers below it say what happened; its own text repeats ours.
            Self::Transport(error) => error.source().or(Some(error)),
            Self::Setup(error) => Some(error),
            _ => None,
        }
    }
}

impl Error {
    /// The text with those of its sources, for a message that has no place for sources.
    pub fn whole(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

/// The URL goes: with HMAC-SHA1 it holds key id, token and signature.
impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error.without_url())
    }
}

impl Http {
    /// Trusts the system's certificates, or Mozilla's where the system has
    /// none; reads files.
    pub fn new(user_agent: &str) -> Result<Self, Error> {
        Self::with_roots(user_agent, system_roots())
    }

    /// Trusts `roots` alone.
    pub fn with_roots(user_agent: &str, roots: RootCertStore) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            outward: builder(user_agent, tls.clone())
                .build()
                .map_err(Error::Setup)?,
            direct: builder(user_agent, tls)
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
                .build()
                .map_err(Error::Setup)?,
            proxies: Arc::new(Proxies {
                matcher: Matcher::from_env(),
                told: Mutex::default(),
            }),
        })
    }

    /// Sends a request, with a length of 0 if `body` is empty; the response's body is still on its
    /// way.
    pub(crate) async fn send(
        &self,
        route: Route,
        method: Method,
        url: Url,
        headers: Vec<Header>,
        body: Option<String>,
    ) -> Result<Response, Error> {
        let mut request = self.request(route, method, url);
        for (name, value) in headers {
            let mut value = HeaderValue::try_from(value).map_err(|_| Error::Header)?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        Ok(request.send().await?)
    }

    fn request(&self, route: Route, method: Method, url: Url) -> RequestBuilder {
        if route == Route::Direct || is_loopback(&url) {
            self.direct.request(method, url)
        } else {
            self.proxies.tell(&url);
            self.outward.request(method, url)
        }
    }
}

/// A request that times out closes its connection, so that the next attempt has
/// another one. Nothing is sent twice here: the layers above sign each attempt.
fn builder(user_agent: &str, tls: ClientConfig) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(user_agent)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .tcp_keepalive(TCP_KEEPALIVE)
        .pool_idle_timeout(IDLE)
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
pub(crate) fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    matches!(url.scheme(), "http" | "https").then(|| match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

/// Whether the host of `url` is this machine, by address or as `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost"
        || host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Reads the body, up to `max` bytes.
pub(crate) async fn body(mut response: Response, max: usize) -> Result<Vec<u8>, Error> {
    let status = response.status().as_u16();
    let too_large = || Error::TooLarge { status, max };
    let stated = response.content_length().unwrap_or(0);
    if stated > max as u64 {
        return Err(too_large());
    }
    // No more than is stated, and no more at once than an honest page has: memory
    // is for what comes, not for what was promised.
    let mut body = Vec::with_capacity(usize::try_from(stated).unwrap_or(0).min(RESERVED_MAX));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Milliseconds that our clock is ahead of the answer's `Date`.
pub(crate) fn skew_millis(headers: &HeaderMap, now_millis: i64) -> Option<i64> {
    Some(now_millis - date_millis(text(headers, DATE.as_str())?)?)
}

/// A date of HTTP as Unix time in milliseconds.
pub(crate) fn date_millis(text: &str) -> Option<i64> {
    let date = httpdate::parse_http_date(text).ok()?;
    let since = date.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// A header's value, where it is there and ASCII.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // 1994-11-06T08:49:37Z, the date of RFC 9110, section 5.6.7.
    const DATE_MS: i64 = 784_111_777_000;

    #[test]
    fn the_date_tells_the_skew() {
        let dated = |date: &str| HeaderMap::from_iter([(DATE, date.parse().expect("a value"))]);
        let known = dated("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(skew_millis(&known, DATE_MS + 1500), Some(1500));
        assert_eq!(skew_millis(&known, DATE_MS - 60_000), Some(-60_000));
        assert_eq!(skew_millis(&dated("today"), 0), None);
        assert_eq!(skew_millis(&HeaderMap::new(), 0), None);
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
