//! What each path answers. Everything comes from memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hyper::body::Body as _;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HeaderValue, REFERRER_POLICY, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::body::Page;
use super::negotiate::{Media, NotAcceptable};
use super::overview::Overview;
use super::scrapes::Scrapes;
use super::{Settings, api, negotiate, status_page};
use crate::clock::Moment;
use crate::exposition::Names;
use crate::exposition::compress::Coding;
use crate::exposition::page::{self, Pages};
use crate::exposition::text::{self, Writer};
use crate::metrics::catalog::Kind;
use crate::metrics::catalog::series_at_most;
use crate::metrics::own::Scraped;
use crate::store::Snapshot;

/// Making a larger page would hold up the thread that everything else runs on.
const INLINE_SERIES_MAX: usize = 100_000;

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// Answers requests.
pub(super) struct Routes {
    settings: Settings,
    stop: CancellationToken,
    scrapes: Arc<Scrapes>,
    pub(super) pages: Pages,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Metrics,
    Status,
    Tasks,
    OpenApi,
    Config,
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
            Self::Tasks => "/api/v1/tasks",
            Self::OpenApi => "/api/v1/openapi.json",
            Self::Config => "/config",
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
        Self {
            scrapes: Scrapes::new(settings.max_requests),
            settings,
            stop,
            pages: Pages::default(),
        }
    }

    fn route(&self, path: &str) -> Route {
        if path == self.settings.telemetry_path {
            return Route::Metrics;
        }
        match path {
            "/" => Route::Status,
            "/api/v1/tasks" => Route::Tasks,
            "/api/v1/openapi.json" => Route::OpenApi,
            "/config" => Route::Config,
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
                Route::Metrics => self.metrics(request).await,
                Route::Status => self.status(request.uri().query()).await,
                Route::Tasks => self.tasks(request.uri().query()).await,
                Route::OpenApi => typed(api::OPENAPI.into(), JSON),
                Route::Config => self.config(),
                Route::Healthy => plain(StatusCode::OK, "aliyun-acr-exporter is healthy.\n"),
                Route::Ready => self.readiness(),
                Route::Reload => self.reload().await,
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

    async fn metrics<B>(&self, request: &Request<B>) -> Response<Page> {
        let (headers, query) = (request.headers(), request.uri().query());
        let coding = negotiate::coding(headers);
        let is_plain = !matches!(coding, Ok(Some(_)));
        let Some(place) = self.scrapes.enter(is_plain) else {
            let mut refusal = plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many scrapes at once: --web.max-requests is the limit.\n",
            );
            let seconds = HeaderValue::from_static("1");
            refusal.headers_mut().insert(RETRY_AFTER, seconds);
            return refusal;
        };
        let mut response = match coding {
            Ok(coding) => {
                let names = negotiate::names(query);
                // HEAD gets none of it.
                let is_shown = request.method() == Method::GET;
                let page = self.scrape(negotiate::media(headers), coding, &names, is_shown);
                page.await.unwrap_or_else(broken)
            }
            Err(NotAcceptable) => plain(
                StatusCode::NOT_ACCEPTABLE,
                "There is identity, gzip and zstd.\n",
            ),
        };
        response.body_mut().scrape = Some(place);
        let vary = HeaderValue::from_static("Accept, Accept-Encoding");
        response.headers_mut().insert(VARY, vary);
        response
    }

    /// The metrics page as the client wants it; `None` if making it has panicked.
    async fn scrape(
        &self,
        media: Media,
        coding: Option<Coding>,
        names: &Names,
        is_shown: bool,
    ) -> Option<Response<Page>> {
        let format = media.format();
        let steady_ms = self.settings.clock.steady_millis();
        let generation = self.pages.generation(&self.settings.store, steady_ms);
        let content = generation.content().await?;
        let compressed = match (coding, names) {
            (None, _) => None,
            (Some(coding), Names::Every) => Some(generation.compressed(format, coding).await?),
            (Some(coding), Names::These(_)) => {
                let content = Arc::clone(&content);
                Some(page::compress(content, format, coding, names.clone(), None).await?)
            }
        };
        if is_shown && names.contain_counts() {
            self.settings.store.announce(generation.snapshot());
        }
        let scraped = Scraped {
            tasks: content.view().tasks(),
            series: content.view().series,
            series_dropped: content.view().dropped,
            ready: self.is_ready(),
        };
        let own = self.settings.own.gather_for(scraped, |counter| {
            is_shown && names.contain(counter, Kind::Counter)
        });
        let tail = text::tail(format, names, &own);
        let mut response = Response::new(match compressed {
            Some(page) => Page::kept(page, &tail),
            None => Page::written(Writer::new(content, format, names.clone()), tail),
        });
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static(media.content_type());
        headers.insert(CONTENT_TYPE, kind);
        if let Some(coding) = coding {
            let coding = HeaderValue::from_static(coding.as_str());
            headers.insert(CONTENT_ENCODING, coding);
        }
        Some(response)
    }

    async fn status(&self, query: Option<&str>) -> Response<Page> {
        let wanted = status_page::StatusPageQuery {
            telemetry_path: self.settings.telemetry_path.clone(),
            ready: self.is_ready(),
            series_dropped: self.settings.own.series_dropped.get(),
            ..status_page::StatusPageQuery::parse(query.unwrap_or_default())
        };
        let page = self
            .view(move |snapshot, now| status_page::render(&Overview::new(snapshot, now), &wanted));
        let Some(page) = page.await else {
            return broken();
        };
        let mut response = typed(page.into(), HTML);
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_SECURITY_POLICY,
            status_page::content_security_policy(),
        );
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        response
    }

    async fn reload(&self) -> Response<Page> {
        let Some(reload) = &self.settings.reload else {
            return plain(
                StatusCode::FORBIDDEN,
                "The lifecycle API is not enabled: --web.enable-lifecycle enables it.\n",
            );
        };
        let (request, answer) = oneshot::channel();
        let told = match reload.send(request).await {
            Ok(()) => answer.await.ok(),
            Err(_) => None,
        };
        match told {
            Some(Ok(text)) => plain(StatusCode::OK, text),
            Some(Err(text)) => plain(StatusCode::INTERNAL_SERVER_ERROR, text),
            None => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "The exporter is stopping.\n",
            ),
        }
    }

    async fn tasks(&self, query: Option<&str>) -> Response<Page> {
        let wanted = match api::TasksQuery::parse(query.unwrap_or_default()) {
            Ok(wanted) => wanted,
            Err(refusal) => {
                let mut response = typed(refusal.into(), JSON);
                *response.status_mut() = StatusCode::BAD_REQUEST;
                return response;
            }
        };
        let page = self.view(move |snapshot, now| api::tasks(snapshot, now, &wanted));
        match page.await {
            Some(page) => typed(page.into(), JSON),
            None => broken(),
        }
    }

    fn config(&self) -> Response<Page> {
        let shown = Arc::clone(&self.settings.config.borrow());
        // Not a type of YAML's, so that browsers show it.
        typed(Bytes::copy_from_slice(shown.as_bytes()), PLAIN)
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
        make: impl FnOnce(&Snapshot, Moment) -> P + Send + 'static,
    ) -> Option<P> {
        let snapshot = self.settings.store.snapshot();
        let now = self.settings.clock.now();
        if series_at_most(&snapshot) <= INLINE_SERIES_MAX {
            return Some(make(&snapshot, now));
        }
        spawn_blocking(move || make(&snapshot, now))
            .await
            .inspect_err(|error| error!(%error, "making a page failed"))
            .ok()
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Page> {
    let mut response = typed(text.into(), PLAIN);
    *response.status_mut() = status;
    response
}

fn typed(body: Bytes, kind: &'static str) -> Response<Page> {
    let mut response = Response::new(Page::new(body));
    let kind = HeaderValue::from_static(kind);
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
    let length = response.body().size_hint().exact();
    if method == Method::HEAD {
        response.body_mut().clear();
    }
    let headers = response.headers_mut();
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
