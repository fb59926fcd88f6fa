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
mod frames;
mod gate;
mod negotiate;
mod overview;
mod rate;
mod routes;
mod scrapes;
mod status_page;
mod tls;
mod watched;
mod web;

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::join_all;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::CONNECTION;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::metrics::own::Own;
use crate::store::Store;
use body::Page;
use connections::{Answering, Connection, Connections, Limits};
use frames::Frames;
use gate::{Gate, Peer};
use routes::Routes;
use watched::Watched;
pub use web::WebSource;

const LIMITS: Limits = Limits {
    // As many as Prometheus takes.
    connections: 512,
    // A connection that is scraped once a minute is kept.
    idle: Duration::from_secs(75),
    head: Duration::from_secs(10),
    stall: Duration::from_secs(30),
    answer: Duration::from_secs(120),
};

/// Requests at once on a connection that speaks HTTP/2.
const STREAMS_MAX: u32 = 32;

/// A client that speaks HTTP/2 is asked after so long whether it is there, and
/// has as long again to say so.
const PING: Duration = Duration::from_secs(20);

/// How long a client that speaks HTTP/2 and waits for nothing has to agree that
/// the connection ends.
const LEAVE: Duration = Duration::from_secs(1);

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
        limits,
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
    limits: Limits,
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
                    let line = Line {
                        connection: self.connections.enter().await,
                        gate: Arc::clone(&self.gate),
                        stall: self.limits.stall,
                        tasks: self.tasks.clone(),
                        stop: self.stop.clone(),
                        abort: self.abort.clone(),
                    };
                    self.tasks.spawn(line.hold(stream));
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

/// What a connection's requests are answered with.
struct Line {
    connection: Arc<Connection>,
    gate: Arc<Gate>,
    stall: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl Line {
    /// Answers on one connection until its end.
    async fn hold(self, stream: TcpStream) {
        // An answer is written at once, nothing is won by waiting for more.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "cannot set TCP_NODELAY");
        }
        let stream = Watched::new(stream, Arc::clone(&self.connection), self.stall);
        let greeted = tokio::select! {
            biased;
            () = self.abort.cancelled() => None,
            greeted = self.greet(stream) => greeted,
            () = self.connection.overdue(&self.stop) => None,
        };
        match greeted {
            None => {}
            Some(Greeted::Plain(stream)) => self.http1(stream, Peer::default()).await,
            Some(Greeted::Tls(stream)) => {
                let (_, session) = stream.get_ref();
                let peer = Peer::new(session.peer_certificates());
                if session.alpn_protocol() == Some(tls::HTTP2) {
                    self.http2(*stream, peer).await;
                } else {
                    self.http1(stream, peer).await;
                }
            }
        }
    }

    /// Speaks TLS where the web configuration says so.
    async fn greet<S>(&self, stream: S) -> Option<Greeted<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let web = self.gate.web().refreshed().await;
        let Some(tls) = &web.tls else {
            return Some(Greeted::Plain(stream));
        };
        // Whoever says nothing is not waited for as if it were idle.
        self.connection.received();
        let acceptor = TlsAcceptor::from(tls.config(self.stop.is_cancelled()));
        match acceptor.accept(stream).await {
            Ok(stream) => {
                self.connection.greeted();
                Some(Greeted::Tls(Box::new(stream)))
            }
            Err(error) => {
                debug!(%error, "a TLS handshake failed");
                None
            }
        }
    }

    async fn http1(&self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer) {
        let service = service_fn(|request| answer(&self.connection, &self.gate, &peer, request));
        let serving = http1::Builder::new()
            // `connections` has finer ones.
            .header_read_timeout(None)
            .max_buf_size(BUFFER_MAX)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            // First what has come, so that no request is missed that has.
            biased;
            () = self.abort.cancelled() => {}
            ended = serving => if let Err(error) = ended {
                debug!(%error, "a connection ended early");
            },
            () = self.connection.overdue(&self.stop) => {}
        }
    }

    async fn http2(&self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer) {
        self.connection.speaks_http2();
        let leaving = self.connection.will_leave();
        let peer = Arc::new(peer);
        let service = service_fn(|request| {
            let connection = Arc::clone(&self.connection);
            let (gate, peer) = (Arc::clone(&self.gate), Arc::clone(&peer));
            async move { answer(&connection, &gate, &peer, request).await }
        });
        let streams = Streams {
            tasks: self.tasks.clone(),
            abort: self.abort.clone(),
        };
        let stream = Frames::new(stream, Arc::clone(&self.connection));
        let serving = http2::Builder::new(streams)
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(BUFFER_MAX).unwrap_or(u32::MAX))
            .max_send_buf_size(BUFFER_MAX)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .serve_connection(TokioIo::new(stream), service);
        let mut serving = pin!(serving);
        let mut ended = tokio::select! {
            biased;
            () = self.abort.cancelled() => return,
            ended = serving.as_mut() => Some(ended),
            // Told below that it ends, unless it takes nothing or has to go now.
            () = self.connection.overdue(&self.stop) => {
                if !self.connection.is_resting() {
                    return;
                }
                None
            }
            () = self.stop.cancelled() => None,
        };
        if ended.is_none() {
            serving.as_mut().graceful_shutdown();
            let resting = async {
                self.connection.finished().await;
                sleep(LEAVE).await;
            };
            ended = tokio::select! {
                biased;
                () = self.abort.cancelled() => None,
                ended = serving.as_mut() => Some(ended),
                () = resting => None,
            };
        }
        drop(leaving);
        if let Some(Err(error)) = ended {
            debug!(%error, "a connection ended early");
        }
    }
}

/// A connection on which a request may come.
enum Greeted<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

/// Answers one request.
async fn answer<B>(
    connection: &Arc<Connection>,
    gate: &Gate,
    peer: &Peer,
    request: Request<B>,
) -> Result<Response<Answer>, Infallible> {
    let answering = connection.request();
    let mut response = gate.answer(&request, peer).await;
    if request.version() == Version::HTTP_2 {
        response.headers_mut().remove(CONNECTION);
    }
    if let Some(scrape) = &response.body().scrape {
        scrape.read_by(connection);
    }
    Ok(response.map(|page| Answer { page, answering }))
}

/// The body of an answer, which is in flight until hyper has taken all of it.
struct Answer {
    page: Page,
    answering: Answering,
}

impl Body for Answer {
    type Data = <Page as Body>::Data;
    type Error = <Page as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.answering.proceeds();
        Pin::new(&mut self.page).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.page.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.page.size_hint()
    }
}

/// Runs the requests of a connection that speaks HTTP/2, no longer than the server.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    abort: CancellationToken,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let abort = self.abort.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = abort.cancelled() => {}
                () = stream => {}
            }
        });
    }
}

#[cfg(test)]
mod tests;
