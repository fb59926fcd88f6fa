//! Accepting connections, serving HTTP/1.1 on each, and a graceful stop.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CACHE_CONTROL, CONNECTION, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::connections::{BodyGuard, Connection, Connections, Limits};
use crate::gate::{Gate, Peer};
use crate::scrapes::Scrape;
use crate::source::WebSource;
use crate::stream::MonitoredStream;

/// Of a request head, and of a response waiting to be written.
const BUFFER_MAX: usize = 64 * 1024;

/// After an error that concerns every connection, such as no free descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What an exporter serves.
pub trait Handler: Send + Sync + 'static {
    /// The body of a response. A refusal is made of a short text.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>>
        + From<&'static str>
        + Unpin
        + Send
        + 'static;

    /// Responds to a request that the web configuration admits. Its body is not
    /// read.
    fn handle(&self, request: &Parts) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Whether `path` needs neither a client certificate nor a password and is
    /// exempt from the rate limit, as health checks are.
    fn is_open(&self, path: &str) -> bool;

    /// Whether a request counts against [`Server::max_requests`].
    fn is_scrape(&self, request: &Parts) -> bool;

    /// Called with each response, refusals included, before it is sent.
    fn observe(&self, request: &Parts, status: StatusCode) {
        let _ = (request, status);
    }
}

/// A server to be started.
pub struct Server {
    /// TLS, client certificates, passwords, headers and the rate limit.
    pub web: Arc<WebSource>,
    /// Limits of connections.
    pub limits: Limits,
    /// Scrapes in flight; further ones are refused. 0 is no limit.
    pub max_requests: usize,
    /// How long requests in flight may take after the stop.
    pub drain: Duration,
}

impl Server {
    /// Serves on every listener until `stop`, and on while a request is in
    /// flight, for at most [`drain`](Self::drain). Without a listener it returns
    /// at once.
    pub async fn serve<H: Handler>(
        self,
        listeners: Vec<TcpListener>,
        handler: Arc<H>,
        stop: CancellationToken,
    ) {
        let abort = CancellationToken::new();
        // Whoever drops this future drops its connections too.
        let _abort_at_end = abort.clone().drop_guard();
        let acceptor = Acceptor {
            gate: Arc::new(Gate::new(handler, self.web, self.max_requests)),
            connections: Connections::new(self.limits.within_descriptors()),
            tasks: TaskTracker::new(),
            stop,
            abort,
        };
        let accepting = join_all(listeners.into_iter().map(|one| acceptor.accept(one)));
        tokio::select! {
            _ = accepting => {}
            () = acceptor.drained(self.drain) => {}
        }
        acceptor.abort.cancel();
        acceptor.tasks.close();
        acceptor.tasks.wait().await;
    }
}

struct Acceptor<H> {
    gate: Arc<Gate<H>>,
    connections: Arc<Connections>,
    tasks: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl<H: Handler> Acceptor<H> {
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
struct ConnectionTask<H> {
    connection: Arc<Connection>,
    gate: Arc<Gate<H>>,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl<H: Handler> ConnectionTask<H> {
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

    async fn respond(
        &self,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> Result<Response<GuardedBody<H::Body>>, Infallible> {
        self.connection.request();
        let (request, _unread) = request.into_parts();
        let (mut response, scrape) = self.gate.respond(&request, peer).await;
        let headers = response.headers_mut();
        let no_store = HeaderValue::from_static("no-store");
        headers.entry(CACHE_CONTROL).or_insert(no_store);
        let nosniff = HeaderValue::from_static("nosniff");
        headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(nosniff);
        if self.stop.is_cancelled() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(scrape) = &scrape {
            scrape.read_by(&self.connection);
        }
        let guard = self.connection.respond();
        Ok(response.map(|body| GuardedBody {
            body,
            scrape,
            _guard: guard,
        }))
    }
}

/// A response body that reports its progress, and when hyper has all of it.
struct GuardedBody<B> {
    body: B,
    scrape: Option<Scrape>,
    _guard: BodyGuard,
}

impl<B: Body + Unpin> Body for GuardedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Some(scrape) = &self.scrape {
            scrape.proceeds();
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
