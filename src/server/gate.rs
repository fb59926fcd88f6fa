//! Who gets an answer: within the rate limit, with a good enough client
//! certificate, with the right password, in this order. The paths of health are
//! open to everybody, since what asks there has neither.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use rustls::pki_types::CertificateDer;

use super::auth::{Auth, Login};
use super::body::Page;
use super::routes::Routes;
use super::tls::Refusal;
use super::web::{Web, WebSource};

/// Stands before the routes.
pub(super) struct Gate {
    routes: Routes,
    web: Arc<WebSource>,
    auth: Arc<Auth>,
}

/// Who is at the other end of a connection.
#[derive(Default)]
pub(super) struct Peer {
    /// Shown, with the key to the first one, and not yet judged.
    certificates: Vec<CertificateDer<'static>>,
    /// By what they were judged last.
    judged: Mutex<Option<Judged>>,
}

/// A judgement, and by what.
type Judged = (Arc<Web>, Result<(), Refusal>);

impl Peer {
    pub(super) fn new(certificates: Option<&[CertificateDer<'_>]>) -> Self {
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

impl Gate {
    pub(super) fn new(routes: Routes, web: Arc<WebSource>) -> Self {
        Self {
            routes,
            web,
            auth: Auth::new(),
        }
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    pub(super) fn web(&self) -> &Arc<WebSource> {
        &self.web
    }

    /// The answer of the route, or why there is none.
    pub(super) async fn answer<B>(&self, request: &Request<B>, peer: &Peer) -> Response<Page> {
        let is_open = self.routes.is_open(request.uri().path());
        let web = if is_open {
            self.web.current()
        } else {
            // A client may keep its connection for ever.
            self.web.refreshed().await
        };
        let mut response = match self.refusal(&web, request, peer, is_open).await {
            Some(refusal) => refusal,
            None => self.routes.answer(request).await,
        };
        for (name, value) in &web.headers {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }

    async fn refusal<B>(
        &self,
        web: &Arc<Web>,
        request: &Request<B>,
        peer: &Peer,
        is_open: bool,
    ) -> Option<Response<Page>> {
        if is_open {
            return None;
        }
        let refuse = |status, text| Some(self.routes.refuse(request, status, text));
        if let Some(limiter) = &web.limiter
            && let Err(wait) = limiter.take()
        {
            let mut refusal = self.routes.refuse(
                request,
                StatusCode::TOO_MANY_REQUESTS,
                "Too many requests: rate_limit in the web configuration is the limit.\n",
            );
            retry_after(&mut refusal, wait);
            return Some(refusal);
        }
        match peer.judge(web) {
            Ok(()) => {}
            Err(Refusal::Missing) => {
                return refuse(
                    StatusCode::FORBIDDEN,
                    "A client certificate is needed, and none was shown.\n",
                );
            }
            Err(Refusal::Untrusted) => {
                return refuse(
                    StatusCode::FORBIDDEN,
                    "The client certificate is not valid, or nobody trusted has signed it.\n",
                );
            }
            Err(Refusal::NotAllowed) => {
                return refuse(
                    StatusCode::FORBIDDEN,
                    "The client certificate names nobody who is let in.\n",
                );
            }
        }
        if web.users.is_empty() {
            return None;
        }
        let sent = request.headers().get(AUTHORIZATION);
        match self.auth.check(&web.users, sent).await {
            Login::Right => None,
            Login::Wrong => {
                let mut refusal = self.routes.refuse(
                    request,
                    StatusCode::UNAUTHORIZED,
                    "User and password are needed.\n",
                );
                let basic = HeaderValue::from_static("Basic");
                refusal.headers_mut().insert(WWW_AUTHENTICATE, basic);
                Some(refusal)
            }
            Login::Busy => {
                let mut refusal = self.routes.refuse(
                    request,
                    StatusCode::SERVICE_UNAVAILABLE,
                    "Too many passwords are being checked.\n",
                );
                retry_after(&mut refusal, Duration::from_secs(1));
                Some(refusal)
            }
        }
    }
}

/// In whole seconds, at least one.
fn retry_after(refusal: &mut Response<Page>, wait: Duration) {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    refusal
        .headers_mut()
        .insert(RETRY_AFTER, seconds.max(1).into());
}
