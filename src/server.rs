//! The HTTP server: accepting, answering and a graceful end. What a path
//! answers is `routes`', the page for people `status_page`'s, the same as JSON
//! `api`'s, and which connection may stay `connections`'. Who gets an answer at
//! all is `gate`'s, by the web configuration that `web` keeps in force.
//!
//! It reads the store and never waits for the cloud or for a poll.

mod api;
mod auth;
mod body;
mod connections;
mod gate;
mod negotiate;
mod overview;
mod query;
mod rate;
mod routes;
mod scrapes;
mod status_page;
mod stream;
mod tls;
mod web;

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::join_all;
use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::metrics::own::Own;
use crate::store::Store;
use body::Page;
use connections::{BodyGuard, Connection, Connections, Limits};
use gate::{Gate, Peer};
use routes::Routes;
use stream::MonitoredStream;
pub use web::WebSource;

const LIMITS: Limits = Limits {
    // As many as Prometheus takes.
    connections: 512,
    // A connection that is scraped once a minute is kept.
    idle: Duration::from_secs(75),
    head: Duration::from_secs(10),
    stall: Duration::from_secs(30),
    response: Duration::from_secs(120),
};

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

/// Answers on every listener until `stop`, and on while a request is in flight,
/// for no longer than [`Settings::drain`]: a stopping server says that it is not
/// ready. Without a listener it returns at once.
pub async fn serve(listeners: Vec<TcpListener>, settings: Settings, stop: CancellationToken) {
    let limits = Limits {
        connections: most_connections(),
        ..LIMITS
    };
    serve_within(limits, listeners, settings, stop).await;
}

/// As many as [`LIMITS`] says, but no more than half of the descriptors that the
/// process may have: whoever only connects must not keep it from polling, nor
/// others from being answered.
fn most_connections() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = descriptors.and_then(|most| usize::try_from(most / 2).ok());
    half.map_or(LIMITS.connections, |half| half.clamp(1, LIMITS.connections))
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
    let web = Arc::clone(&settings.web);
    let routes = Routes::new(settings, stop.clone());
    let acceptor = Acceptor {
        gate: Arc::new(Gate::new(routes, web)),
        connections: Connections::new(limits),
        tasks: TaskTracker::new(),
        stop,
        abort,
    };
    let accepting = join_all(listeners.into_iter().map(|one| acceptor.accept(one)));
    tokio::select! {
        _ = accepting => {}
        () = acceptor.drained(drain) => {}
        _ = acceptor.gate.routes().pages.forget_unused() => {}
    }
    acceptor.abort.cancel();
    acceptor.tasks.close();
    acceptor.tasks.wait().await;
}

struct Acceptor {
    gate: Arc<Gate>,
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
                    let task = ConnectionTask {
                        connection: self.connections.enter().await,
                        gate: Arc::clone(&self.gate),
                        stop: self.stop.clone(),
                        abort: self.abort.clone(),
                    };
                    self.tasks.spawn(task.run(stream));
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
        if timeout(drain, self.connections.drained()).await.is_err() {
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

/// Serves one connection.
struct ConnectionTask {
    connection: Arc<Connection>,
    gate: Arc<Gate>,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl ConnectionTask {
    async fn run(self, stream: TcpStream) {
        // A response is written at once, nothing is won by waiting for more.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "cannot set TCP_NODELAY");
        }
        let stream = MonitoredStream::new(stream, Arc::clone(&self.connection));
        tokio::select! {
            // First what has come, so that no request is missed that has.
            biased;
            () = self.abort.cancelled() => {}
            () = self.serve(stream) => {}
            () = self.connection.overdue(&self.stop) => {}
        }
    }

    /// Speaks TLS where the web configuration says so.
    async fn serve(&self, stream: MonitoredStream) {
        let web = self.gate.web().refreshed().await;
        let Some(tls) = &web.tls else {
            return self.serve_http(stream, Peer::default()).await;
        };
        // The handshake has as long as a request head, from the start on.
        self.connection.received();
        match TlsAcceptor::from(tls.config()).accept(stream).await {
            Ok(stream) => {
                self.connection.tls_accepted();
                let peer = Peer::new(stream.get_ref().1.peer_certificates());
                self.serve_http(stream, peer).await;
            }
            Err(error) => debug!(%error, "a TLS handshake failed"),
        }
    }

    async fn serve_http(&self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer) {
        let service = service_fn(|request| self.respond(&peer, request));
        let serving = http1::Builder::new()
            // `connections` has finer limits.
            .header_read_timeout(None)
            .max_buf_size(BUFFER_MAX)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = serving.await {
            debug!(%error, "a connection ended early");
        }
    }

    async fn respond<B>(
        &self,
        peer: &Peer,
        request: Request<B>,
    ) -> Result<Response<GuardedBody>, Infallible> {
        self.connection.request();
        let response = self.gate.answer(&request, peer).await;
        if let Some(scrape) = &response.body().scrape {
            scrape.read_by(&self.connection);
        }
        let guard = self.connection.respond();
        Ok(response.map(|page| GuardedBody {
            page,
            _guard: guard,
        }))
    }
}

/// A response body that reports when hyper has all of it.
struct GuardedBody {
    page: Page,
    _guard: BodyGuard,
}

impl Body for GuardedBody {
    type Data = <Page as Body>::Data;
    type Error = <Page as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.page).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.page.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.page.size_hint()
    }
}

#[cfg(test)]
mod tests;
