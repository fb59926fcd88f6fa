//! The HTTP server: connections, their limits and a graceful end. What a path
//! answers is `routes`', the page for people `status_page`'s.
//!
//! It reads the store and never waits for the cloud or for a poll.

mod routes;
mod stall;
mod status_page;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::join_all;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::metrics::own::Own;
use crate::store::Store;
use routes::Routes;
use stall::Stall;

/// Connections at once; more wait in the kernel's queue. As many as Prometheus takes.
const CONNECTIONS_MAX: usize = 512;

/// From the end of one request to the end of the next one's head: long enough
/// that a connection scraped once a minute is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

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
    /// Where the metrics are; none of [`reserved_paths`].
    pub telemetry_path: String,
    /// Metrics pages in the making at once, 0 for no limit; more are refused.
    pub max_requests: usize,
    /// How long requests in flight may take after the stop.
    pub drain: Duration,
}

/// Paths that the telemetry path must not be.
pub fn reserved_paths() -> &'static [&'static str] {
    &[
        "/",
        "/-/healthy",
        "/-/ready",
        "/-/reload",
        "/api/v1/tasks",
        "/config",
        "/healthz",
        "/readyz",
    ]
}

/// Answers on every listener until `stop`, then finishes what is in flight,
/// for no longer than [`Settings::drain`].
pub async fn serve(listeners: Vec<TcpListener>, settings: Settings, stop: CancellationToken) {
    let drain = settings.drain;
    let abort = CancellationToken::new();
    // Whoever drops this future drops its connections too.
    let _abort_at_end = abort.clone().drop_guard();
    let acceptor = Acceptor {
        routes: Arc::new(Routes::new(settings, stop.clone())),
        room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        connections: TaskTracker::new(),
        stop,
        abort,
    };
    join_all(listeners.into_iter().map(|one| acceptor.accept(one))).await;

    acceptor.connections.close();
    if timeout(drain, acceptor.connections.wait()).await.is_err() {
        let left = acceptor.connections.len();
        warn!(
            connections = left,
            "dropping connections that are still busy"
        );
    }
}

struct Acceptor {
    routes: Arc<Routes>,
    room: Arc<Semaphore>,
    connections: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl Acceptor {
    async fn accept(&self, listener: TcpListener) {
        let next = async || {
            let room = Arc::clone(&self.room).acquire_owned().await;
            let room = room.expect("the semaphore is never closed");
            (listener.accept().await, room)
        };
        let mut failing = false;
        loop {
            let Some((accepted, room)) = self.stop.run_until_cancelled(next()).await else {
                return;
            };
            match accepted {
                Ok((stream, _)) => {
                    failing = false;
                    self.connections.spawn(connection(
                        stream,
                        room,
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
                    self.stop.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
                }
            }
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

async fn connection(
    stream: TcpStream,
    _room: OwnedSemaphorePermit,
    routes: Arc<Routes>,
    stop: CancellationToken,
    abort: CancellationToken,
) {
    // An answer is written at once, nothing is won by waiting for more.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |request| {
        let routes = Arc::clone(&routes);
        async move { Ok::<_, Infallible>(routes.answer(&request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(TokioIo::new(Stall::new(stream, STALL_TIMEOUT)), service);
    let mut serving = pin!(serving);
    let ended = async {
        if let Some(ended) = stop.run_until_cancelled(serving.as_mut()).await {
            return ended;
        }
        serving.as_mut().graceful_shutdown();
        serving.await
    };
    if let Some(Err(error)) = abort.run_until_cancelled(ended).await {
        debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests;
