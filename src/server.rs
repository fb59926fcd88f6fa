//! The HTTP server: accepting, answering and a graceful end. What a path
//! answers is `routes`', the page for people `status_page`'s, and which
//! connection may stay `connections`'.
//!
//! It reads the store and never waits for the cloud or for a poll.

mod body;
mod connections;
mod negotiate;
mod routes;
mod status_page;
mod watched;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::join_all;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::metrics::own::Own;
use crate::store::Store;
use connections::{Connection, Connections, Limits};
use routes::Routes;
use watched::Watched;

const LIMITS: Limits = Limits {
    // As many as Prometheus takes.
    connections: 512,
    // A connection that is scraped once a minute is kept.
    idle: Duration::from_secs(75),
    head: Duration::from_secs(10),
};

/// A client that takes nothing of its answer for so long is gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Of a request's head, and of an answer waiting to be written.
const BUFFER_MAX: usize = 64 * 1024;

/// After an error that concerns every connection, such as no free descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    /// Metrics pages in the making at once, 0 for no limit; more are refused.
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

/// Answers on every listener until `stop`, and on while a request is in flight,
/// for no longer than [`Settings::drain`]: a stopping server says that it is not
/// ready. Without a listener it returns at once.
pub async fn serve(listeners: Vec<TcpListener>, settings: Settings, stop: CancellationToken) {
    serve_within(LIMITS, listeners, settings, stop).await;
}

async fn serve_within(
    limits: Limits,
    listeners: Vec<TcpListener>,
    settings: Settings,
    stop: CancellationToken,
) {
    let drain = settings.drain;
    let abort = CancellationToken::new();
    // Whoever drops this future drops its connections too.
    let _abort_at_end = abort.clone().drop_guard();
    let acceptor = Acceptor {
        routes: Arc::new(Routes::new(settings, stop.clone())),
        connections: Connections::new(limits),
        tasks: TaskTracker::new(),
        stop,
        abort,
    };
    let accepting = join_all(listeners.into_iter().map(|one| acceptor.accept(one)));
    tokio::select! {
        _ = accepting => {}
        () = acceptor.drained(drain) => {}
        _ = acceptor.routes.pages.forget_unused() => {}
    }
    acceptor.abort.cancel();
    acceptor.tasks.close();
    acceptor.tasks.wait().await;
}

struct Acceptor {
    routes: Arc<Routes>,
    connections: Arc<Connections>,
    tasks: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl Acceptor {
    async fn accept(&self, listener: TcpListener) -> Infallible {
        let mut failing = false;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    failing = false;
                    self.tasks.spawn(hold(
                        stream,
                        self.connections.enter().await,
                        Arc::clone(&self.routes),
                        self.stop.clone(),
                        self.abort.clone(),
                    ));
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    if !failing {
                        warn!(%error, "cannot accept connections, trying again");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Returns after the stop, once nothing is in flight or `drain` has passed.
    async fn drained(&self, drain: Duration) {
        self.stop.cancelled().await;
        if timeout(drain, self.connections.quiet()).await.is_err() {
            warn!(
                requests = self.connections.in_flight(),
                "dropping requests that are still in flight"
            );
        }
    }
}

/// The client was gone before it was accepted.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Answers on one connection until its end.
async fn hold(
    stream: TcpStream,
    connection: Arc<Connection>,
    routes: Arc<Routes>,
    stop: CancellationToken,
    abort: CancellationToken,
) {
    // An answer is written at once, nothing is won by waiting for more.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(|request| {
        let answering = connection.request();
        let routes = &routes;
        async move {
            let mut response = routes.answer(&request).await;
            response.body_mut().answering = Some(answering);
            Ok::<_, Infallible>(response)
        }
    });
    let stream = Watched::new(stream, Arc::clone(&connection), STALL_TIMEOUT);
    let serving = http1::Builder::new()
        // `connections` has finer ones.
        .header_read_timeout(None)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // First what has come, so that no request is missed that has.
        biased;
        () = abort.cancelled() => {}
        ended = serving => if let Err(error) = ended {
            debug!(%error, "a connection ended early");
        },
        () = connection.overdue(&stop) => {}
    }
}

#[cfg(test)]
mod tests;
