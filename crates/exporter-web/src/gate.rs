//! Who gets an answer: within the rate limit, with a good enough client
//! certificate, with the right password, in this order, and a scrape within the
//! limit of scrapes. The paths of health are open to everybody, since what asks
//! there has neither.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use rustls::pki_types::CertificateDer;

use crate::auth::{Auth, Login};
use crate::negotiate;
use crate::scrapes::{Scrape, Scrapes};
use crate::server::Handler;
use crate::source::{Web, WebSource};
use crate::tls::Refusal;

/// Decides which requests reach the handler.
pub(crate) struct Gate<H> {
    handler: Arc<H>,
    web: Arc<WebSource>,
    auth: Arc<Auth>,
    scrapes: Arc<Scrapes>,
}

/// Who is at the other end of a connection.
#[derive(Default)]
pub(crate) struct Peer {
    /// Shown, with the key to the first one, and not yet judged.
    certificates: Vec<CertificateDer<'static>>,
    /// By what they were judged last.
    judged: Mutex<Option<Judged>>,
}

/// A judgement, and by what.
type Judged = (Arc<Web>, Result<(), Refusal>);

impl Peer {
    pub(crate) fn new(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let certificates = certificates.unwrap_or_default();
        Self {
            certificates: certificates
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
            judged: Mutex::default(),
        }
    }

    fn judge(&self, web: &Arc<Web>) -> Result<(), Refusal> {
        let Some(tls) = &web.tls else {
            return Ok(());
        };
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        match &*judged {
            Some((by, judgement)) if Arc::ptr_eq(by, web) => *judgement,
            _ => {
                let judgement = tls.judge(&self.certificates);
                *judged = Some((Arc::clone(web), judgement));
                judgement
            }
        }
    }
}

/// A response, and the place of a scrape that is held until it is sent.
type Admitted<B> = (Response<B>, Option<Scrape>);

impl<H: Handler> Gate<H> {
    pub(crate) fn new(handler: Arc<H>, web: Arc<WebSource>, max_requests: usize) -> Self {
        Self {
            handler,
            web,
            auth: Auth::new(),
            scrapes: Scrapes::new(max_requests),
        }
    }

    pub(crate) fn web(&self) -> &Arc<WebSource> {
        &self.web
    }

    /// The handler's response, or a refusal.
    pub(crate) async fn respond(&self, request: &Parts, peer: &Peer) -> Admitted<H::Body> {
        let is_open = self.handler.is_open(request.uri.path());
        let web = if is_open {
            self.web.current()
        } else {
            // A client may keep its connection for ever.
            self.web.refreshed().await
        };
        let refused = if is_open {
            Ok(())
        } else {
            self.check(&web, request, peer).await
        };
        let (mut response, scrape) = match refused {
            Ok(()) => self.handle(request).await,
            Err(refusal) => (refusal, None),
        };
        for (name, value) in &web.headers {
            response.headers_mut().insert(name, value.clone());
        }
        self.handler.observe(request, response.status());
        (response, scrape)
    }

    async fn handle(&self, request: &Parts) -> Admitted<H::Body> {
        if !self.handler.is_scrape(request) {
            return (self.handler.handle(request).await, None);
        }
        let is_plain = !matches!(negotiate::coding(&request.headers), Ok(Some(_)));
        let Some(scrape) = self.scrapes.enter(is_plain) else {
            let text = "Too many scrapes at once: --web.max-requests is the limit.\n";
            let second = Duration::from_secs(1);
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return (retry_after(refusal(status, text), second), None);
        };
        (self.handler.handle(request).await, Some(scrape))
    }

    /// `Err` with the refusal where a request is not admitted.
    async fn check(
        &self,
        web: &Arc<Web>,
        request: &Parts,
        peer: &Peer,
    ) -> Result<(), Response<H::Body>> {
        if let Some(limiter) = &web.limiter
            && let Err(wait) = limiter.take()
        {
            let text = "Too many requests: rate_limit in the web configuration is the limit.\n";
            return Err(retry_after(
                refusal(StatusCode::TOO_MANY_REQUESTS, text),
                wait,
            ));
        }
        peer.judge(web).map_err(|reason| {
            let text = match reason {
                Refusal::Missing => "A client certificate is needed, and none was shown.\n",
                Refusal::Untrusted => {
                    "The client certificate is not valid, or nobody trusted has signed it.\n"
                }
                Refusal::NotAllowed => "The client certificate names nobody who is let in.\n",
            };
            refusal(StatusCode::FORBIDDEN, text)
        })?;
        if web.users.is_empty() {
            return Ok(());
        }
        let sent = request.headers.get(AUTHORIZATION);
        match self.auth.check(&web.users, sent).await {
            Login::Right => Ok(()),
            Login::Wrong => {
                let text = "User and password are needed.\n";
                let mut refusal = refusal(StatusCode::UNAUTHORIZED, text);
                let basic = HeaderValue::from_static("Basic");
                refusal.headers_mut().insert(WWW_AUTHENTICATE, basic);
                Err(refusal)
            }
            Login::Busy => {
                let text = "Too many passwords are being checked.\n";
                let refusal = refusal(StatusCode::SERVICE_UNAVAILABLE, text);
                Err(retry_after(refusal, Duration::from_secs(1)))
            }
        }
    }
}

fn refusal<B: From<&'static str>>(status: StatusCode, text: &'static str) -> Response<B> {
    let mut response = Response::new(B::from(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// Adds the header, in whole seconds, at least one.
fn retry_after<B>(mut refusal: Response<B>, wait: Duration) -> Response<B> {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let headers = refusal.headers_mut();
    headers.insert(RETRY_AFTER, seconds.max(1).into());
    refusal
}
