//! What each path answers. Everything comes from memory, made ready before
//! the first byte is sent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    HeaderValue, REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{Settings, status_page};
use crate::exposition::text;
use crate::metrics::catalog::{CATALOG, SERIES};
use crate::store::Snapshot;

/// Making a larger page would hold up the thread that everything else runs on.
const INLINE_SERIES_MAX: usize = 100_000;

/// An answer is handed over in pieces of this size, so that it is in flight
/// until the client has taken nearly all of it.
const PIECE: usize = 64 * 1024;

const PLAIN: &str = "text/plain; charset=utf-8";

/// Answers requests.
pub(super) struct Routes {
    settings: Settings,
    stop: CancellationToken,
    scrapes: Arc<Semaphore>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Metrics,
    Status,
    Healthy,
    Ready,
    Reload,
    Unknown,
}

impl Route {
    /// The label `path` of `http_requests_total`, a closed set.
    fn label(self) -> &'static str {
        match self {
            Self::Metrics => "/metrics",
            Self::Status => "/",
            Self::Healthy => "/-/healthy",
            Self::Ready => "/-/ready",
            Self::Reload => "/-/reload",
            Self::Unknown => "other",
        }
    }

    fn allows(self, method: &Method) -> bool {
        match self {
            Self::Reload => [Method::POST, Method::PUT].contains(method),
            // Whatever the method, the path is not there.
            Self::Unknown => true,
            _ => [Method::GET, Method::HEAD].contains(method),
        }
    }

    fn allowed(self) -> &'static str {
        match self {
            Self::Reload => "POST, PUT",
            _ => "GET, HEAD",
        }
    }
}

impl Routes {
    pub(super) fn new(settings: Settings, stop: CancellationToken) -> Self {
        let scrapes = match settings.max_requests {
            0 => Semaphore::MAX_PERMITS,
            limit => limit.min(Semaphore::MAX_PERMITS),
        };
        Self {
            settings,
            stop,
            scrapes: Arc::new(Semaphore::new(scrapes)),
        }
    }

    fn route(&self, path: &str) -> Route {
        if path == self.settings.telemetry_path {
            return Route::Metrics;
        }
        match path {
            "/" => Route::Status,
            "/-/healthy" | "/healthz" => Route::Healthy,
            "/-/ready" | "/readyz" => Route::Ready,
            "/-/reload" => Route::Reload,
            _ => Route::Unknown,
        }
    }

    /// Whether everybody may have an answer from `path`.
    pub(super) fn is_open(&self, path: &str) -> bool {
        matches!(self.route(path), Route::Healthy | Route::Ready)
    }

    /// Answers one request; its body is not read.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<Page> {
        let route = self.route(request.uri().path());
        let response = if route.allows(request.method()) {
            match route {
                Route::Metrics => self.metrics().await,
                Route::Status => self.status(request.uri().query()).await,
                Route::Healthy => plain(StatusCode::OK, "aliyun-acr-exporter is healthy.\n"),
                Route::Ready => self.readiness(),
                Route::Reload => plain(
                    StatusCode::FORBIDDEN,
                    "The lifecycle API is not enabled: --web.enable-lifecycle enables it.\n",
                ),
                Route::Unknown => plain(StatusCode::NOT_FOUND, "There is nothing here.\n"),
            }
        } else {
            let mut refusal = plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "This path does not know this method.\n",
            );
            let allowed = HeaderValue::from_static(route.allowed());
            refusal.headers_mut().insert(ALLOW, allowed);
            refusal
        };
        self.finished(response, request.method(), route)
    }

    /// An answer in place of the one that the path would give.
    pub(super) fn refuse<B>(
        &self,
        request: &Request<B>,
        status: StatusCode,
        text: &'static str,
    ) -> Response<Page> {
        let route = self.route(request.uri().path());
        self.finished(plain(status, text), request.method(), route)
    }

    fn finished(
        &self,
        mut response: Response<Page>,
        method: &Method,
        route: Route,
    ) -> Response<Page> {
        finish(&mut response, method);
        if self.stop.is_cancelled() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        self.settings
            .own
            .http_request(route.label(), response.status().as_u16());
        response
    }

    async fn metrics(&self) -> Response<Page> {
        let Ok(permit) = Arc::clone(&self.scrapes).try_acquire_owned() else {
            let mut refusal = plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many scrapes at once: --web.max-requests is the limit.\n",
            );
            let seconds = HeaderValue::from_static("1");
            refusal.headers_mut().insert(RETRY_AFTER, seconds);
            return refusal;
        };
        let own = Arc::clone(&self.settings.own);
        let ready = self.is_ready();
        let page = self.view(move |snapshot, now_ms| {
            let view = snapshot.view(now_ms, SERIES);
            own.tasks.set(gauge(view.tasks.len()));
            own.series.set(gauge(view.series));
            own.series_dropped.set(gauge(view.dropped));
            own.ready.set(i64::from(ready));
            text::render(&view, &own.gather())
        });
        match page.await {
            Some(page) => {
                let mut response = Response::new(Page::new(page.into()));
                response.body_mut().permit = Some(permit);
                let kind = HeaderValue::from_static(text::CONTENT_TYPE);
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            None => broken(),
        }
    }

    async fn status(&self, query: Option<&str>) -> Response<Page> {
        let wanted = status_page::Wanted {
            page: query.map_or(1, status_page::page_of),
            telemetry_path: self.settings.telemetry_path.clone(),
            ready: self.is_ready(),
        };
        let page = self.view(move |snapshot, now_ms| {
            status_page::render(&snapshot.view(now_ms, SERIES), &wanted)
        });
        let Some(page) = page.await else {
            return broken();
        };
        let mut response = Response::new(Page::new(page.into()));
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        );
        headers.insert(
            CONTENT_SECURITY_POLICY,
            status_page::content_security_policy(),
        );
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        response
    }

    fn readiness(&self) -> Response<Page> {
        if self.is_ready() {
            return plain(StatusCode::OK, "aliyun-acr-exporter is ready.\n");
        }
        let why = if self.stop.is_cancelled() {
            "aliyun-acr-exporter is not ready: it is stopping.\n"
        } else {
            "aliyun-acr-exporter is not ready: not every task was tried yet.\n"
        };
        plain(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    fn is_ready(&self) -> bool {
        self.settings.ready.load(Ordering::Relaxed) && !self.stop.is_cancelled()
    }

    /// Makes a page of what is known now; `None` if that has panicked.
    async fn view<P: Send + 'static>(
        &self,
        make: impl FnOnce(&Snapshot, i64) -> P + Send + 'static,
    ) -> Option<P> {
        let snapshot = self.settings.store.snapshot();
        let now_ms = self.settings.clock.now_millis();
        if series_at_most(&snapshot) <= INLINE_SERIES_MAX {
            return Some(make(&snapshot, now_ms));
        }
        spawn_blocking(move || make(&snapshot, now_ms))
            .await
            .inspect_err(|error| error!(%error, "making a page failed"))
            .ok()
    }
}

/// An upper bound that is cheap to have.
fn series_at_most(snapshot: &Snapshot) -> usize {
    let most_of_a_task = CATALOG.len() + 4;
    // A row or so each, but for two statuses and a histogram; rules come on top.
    let most_of_a_subscription = CATALOG.len() + 32;
    let of_subscriptions = most_of_a_subscription * snapshot.subscriptions();
    let of_tasks: usize = snapshot
        .entries()
        .iter()
        .map(|entry| {
            let artifacts = entry.data.as_ref().map_or(0, |data| data.artifacts.len());
            most_of_a_task + 2 * artifacts
        })
        .sum();
    of_tasks + of_subscriptions
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Page> {
    let mut response = Response::new(Page::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(PLAIN);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn broken() -> Response<Page> {
    plain(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The page could not be made; the log tells why.\n",
    )
}

/// What every answer has, and what HEAD has not.
fn finish(response: &mut Response<Page>, method: &Method) {
    let length = response.body().rest.len();
    if method == Method::HEAD {
        response.body_mut().rest = Bytes::new();
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// The body of an answer, in memory.
pub(super) struct Page {
    rest: Bytes,
    /// Held while a metrics page is in flight.
    permit: Option<OwnedSemaphorePermit>,
}

impl Page {
    fn new(rest: Bytes) -> Self {
        Self { rest, permit: None }
    }
}

impl Body for Page {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
