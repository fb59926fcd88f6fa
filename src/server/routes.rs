//! What each path answers. Everything comes from memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use alibaba_cloud::clock::Moment;
use bytes::Bytes;
use exporter_web::Handler;
use exporter_web::compress::Coding;
use exporter_web::negotiate::{self, Media, NotAcceptable};
use hyper::body::Body as _;
use hyper::header::{
    ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
    REFERRER_POLICY, VARY, X_FRAME_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::body::Page;
use super::overview::Overview;
use super::{Settings, api, status_page};
use crate::exposition::page::{self, Pages};
use crate::exposition::text::{self, Writer};
use crate::exposition::{Format, Names};
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

    async fn metrics(&self, request: &Parts) -> Response<Page> {
        let headers = &request.headers;
        let mut response = match negotiate::coding(headers) {
            Ok(coding) => {
                let names = names(request.uri.query());
                // HEAD gets none of it.
                let is_shown = request.method == Method::GET;
                let page = self.scrape(negotiate::media(headers), coding, &names, is_shown);
                page.await.unwrap_or_else(broken)
            }
            Err(NotAcceptable) => plain(
                StatusCode::NOT_ACCEPTABLE,
                "There is identity, gzip and zstd.\n",
            ),
        };
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
        let format = match media {
            Media::Text => Format::Text,
            Media::OpenMetrics | Media::OpenMetrics001 => Format::OpenMetrics,
        };
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
            tasks: content.view().tasks().len(),
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

impl Handler for Routes {
    type Body = Page;

    async fn handle(&self, request: &Parts) -> Response<Page> {
        let route = self.route(request.uri.path());
        let query = request.uri.query();
        let mut response = if route.allows(&request.method) {
            match route {
                Route::Metrics => self.metrics(request).await,
                Route::Status => self.status(query).await,
                Route::Tasks => self.tasks(query).await,
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
        finish(&mut response, &request.method);
        response
    }

    fn is_open(&self, path: &str) -> bool {
        matches!(self.route(path), Route::Healthy | Route::Ready)
    }

    fn is_scrape(&self, request: &Parts) -> bool {
        let route = self.route(request.uri.path());
        route == Route::Metrics && route.allows(&request.method)
    }

    fn observe(&self, request: &Parts, status: StatusCode) {
        let label = self.route(request.uri.path()).label();
        self.settings.own.http_request(label, status.as_u16());
    }
}

/// The families that `name[]=` asks for, every one without it.
fn names(query: Option<&str>) -> Names {
    let wanted: BTreeSet<_> = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .filter(|(key, _)| key == "name[]")
        .map(|(_, name)| name.into_owned())
        .collect();
    if wanted.is_empty() {
        Names::Every
    } else {
        Names::These(wanted)
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

/// States the length of the body, of which HEAD gets nothing else.
fn finish(response: &mut Response<Page>, method: &Method) {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    if method == Method::HEAD {
        response.body_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_asked_for_by_name() {
        let these =
            |names: &[&str]| Names::These(names.iter().map(|name| (*name).to_owned()).collect());
        for (query, expected) in [
            ("", Names::Every),
            ("a=b&name=c", Names::Every),
            ("name[]=a", these(&["a"])),
            ("name[]=a&x=y&name[]=b&name[]=a", these(&["a", "b"])),
            ("name%5B%5D=a&%6eame%5b]=b", these(&["a", "b"])),
            ("name[]=a%5Fb%2Bc+d", these(&["a_b+c d"])),
            ("name[]=a=b", these(&["a=b"])),
            ("name[]=", these(&[""])),
            ("name[]", these(&[""])),
            ("name[]=%FF%zz%", these(&["\u{fffd}%zz%"])),
            ("NAME[]=a&name[0]=b", Names::Every),
            ("&&name[]=a&", these(&["a"])),
        ] {
            assert_eq!(names(Some(query)), expected, "{query}");
        }
        assert_eq!(names(None), Names::Every);
        let many: Vec<_> = (0..5_000).map(|name| format!("name[]=n{name}")).collect();
        let Names::These(many) = names(Some(&many.join("&"))) else {
            panic!("names were given");
        };
        assert_eq!(many.len(), 5_000);
    }
}
