//! The HTTP server. `routes` responds to each path, `status_page` is the page for
//! people, `api` the same as JSON; TLS, passwords and limits are `exporter_web`'s.
//!
//! It reads the store and never waits for the cloud or for a poll.

mod api;
mod body;
mod overview;
mod routes;
mod status_page;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use exporter_web::{Limits, Server, WebSource};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::own::Own;
use crate::store::Store;
use routes::Routes;

/// What the server shows and how.
#[derive(Clone)]
pub struct Settings {
    /// The tasks.
    pub store: Arc<Store>,
    /// The exporter's own metrics.
    pub own: Arc<Own>,
    /// Judges freshness.
    pub clock: Clock,
    /// Whether every task was tried once.
    pub ready: Arc<AtomicBool>,
    /// Where the metrics are; not [reserved](is_reserved).
    pub telemetry_path: String,
    /// The configuration in force as [`/config`](crate::config::Config::shown) shows it.
    pub config: watch::Receiver<Arc<str>>,
    /// TLS and who may ask.
    pub web: Arc<WebSource>,
    /// Metrics pages on their way at once, 0 for no limit; more are refused.
    pub max_requests: usize,
    /// Whom to ask for a reload; `None` where nobody may.
    pub reload: Option<mpsc::Sender<ReloadRequest>>,
    /// How long requests in flight may take after the stop.
    pub drain: Duration,
}

/// Somebody who wants the configuration to be reloaded, and to know what came of
/// it, in words for people.
pub type ReloadRequest = oneshot::Sender<Result<String, String>>;

/// Whether a path belongs to the server, now or some day, so that the telemetry
/// path must not be it.
pub fn is_reserved(path: &str) -> bool {
    ["/", "/config", "/healthz", "/readyz"].contains(&path)
        || ["/-/", "/api/"].iter().any(|room| path.starts_with(room))
}

/// Serves on every listener until `stop`, and on while a request is in flight,
/// for no longer than [`Settings::drain`]: a stopping server says that it is not
/// ready. Without a listener it returns at once.
pub async fn serve(listeners: Vec<TcpListener>, settings: Settings, stop: CancellationToken) {
    serve_within(Limits::default(), listeners, settings, stop).await;
}

async fn serve_within(
    limits: Limits,
    listeners: Vec<TcpListener>,
    settings: Settings,
    stop: CancellationToken,
) {
    let server = Server {
        web: Arc::clone(&settings.web),
        limits,
        max_requests: settings.max_requests,
        drain: settings.drain,
    };
    let routes = Arc::new(Routes::new(settings, stop.clone()));
    tokio::select! {
        () = server.serve(listeners, Arc::clone(&routes), stop) => {}
        _ = routes.pages.forget_unused() => {}
    }
}

#[cfg(test)]
mod tests;
