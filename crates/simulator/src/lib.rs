#![doc = include_str!("../README.md")]

pub mod demo;
pub mod faults;
pub mod world;

mod connections;
mod control;
mod gateway;
mod issuing;
mod log;
mod metadata;
mod operations;
mod run;
mod sts;
mod tls;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, DATE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use alibaba_cloud::clock::Clock;
pub use connections::{Connection, Connections};
use faults::{Fault, FaultRule, Faults};
use gateway::{Call, Nonces, Product, Refusal};
use issuing::Issuer;
pub use issuing::{Issued, Issuing, Metadata};
use log::Log;
pub use log::{Requests, Seen};
pub use tls::{Tls, TlsError};
pub use world::World;

/// A request's body is small: inputs travel in the query.
const BODY_LIMIT: usize = 1024 * 1024;

/// How long a handshake of TLS may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long [`Running::stop`] waits for a client that does not read its answer.
const STOP_LIMIT: Duration = Duration::from_secs(5);

type Body = BoxBody<Bytes, io::Error>;

/// An access key that the simulated cloud accepts.
#[derive(Clone)]
pub struct AccessKey {
    /// The access key id.
    pub id: String,
    /// The access key secret.
    pub secret: String,
    /// The security token that must come along, for temporary credentials.
    pub token: Option<String>,
}

impl AccessKey {
    /// A key without a token.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: secret.into(),
            token: None,
        }
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a simulated cloud starts with.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// Where to listen; a loopback address, port 0 picks a free one.
    pub listen: SocketAddr,
    /// TLS; plain HTTP without.
    pub tls: Option<Tls>,
    /// The keys it accepts.
    pub keys: Vec<AccessKey>,
    /// The cloud's clock.
    pub clock: Clock,
    /// How far a request's date may be off.
    pub date_window: Duration,
    /// How long it waits before each answer.
    pub latency: Duration,
    /// How it hands out temporary credentials.
    pub issuing: Issuing,
    /// What it contains.
    pub world: World,
}

impl Default for SimulatorConfig {
    /// An empty world on a free port, [`demo::KEY_ID`] and the system's clock.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            keys: vec![AccessKey::new(demo::KEY_ID, demo::KEY_SECRET)],
            clock: Clock::system(),
            date_window: Duration::from_secs(15 * 60),
            latency: Duration::ZERO,
            issuing: Issuing::default(),
            world: World::new(),
        }
    }
}

/// Why a simulated cloud did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its keys are public and its control path is open.
    #[error("the simulated cloud listens on loopback addresses only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No thread or no event loop could be had.
    #[error("cannot start the simulated cloud's thread")]
    Thread(#[source] io::Error),
}

/// The simulated cloud, to be started.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Starts a simulated cloud on a thread of its own, so that neither a test
    /// that blocks nor a paused tokio clock stops it.
    ///
    /// # Errors
    ///
    /// Fails where the address is not a loopback one or cannot be had.
    pub fn start(config: SimulatorConfig) -> Result<Running, Error> {
        let address = config.listen;
        if !address.ip().is_loopback() {
            return Err(Error::NotLoopback(address));
        }
        let listening = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (addr, listener) = listening.map_err(|source| Error::Listen { address, source })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let shared = Arc::new(Shared::new(config));
        let thread = thread::Builder::new()
            .name("simulator".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    runtime.block_on(shared.serve(listener));
                    runtime.shutdown_background();
                }
            })
            .map_err(Error::Thread)?;
        Ok(Running {
            addr,
            shared,
            thread: Some(thread),
        })
    }
}

/// A simulated cloud that serves until it is stopped or dropped.
pub struct Running {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL, without a slash at the end: an `endpoint` of the configuration.
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.addr)
    }

    /// Changes the world between two requests.
    pub fn update<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut lock(&self.shared.world))
    }

    /// Its credentials URI.
    pub fn credentials_uri(&self) -> String {
        format!("{}{}", self.url(), metadata::URI_PATH)
    }

    /// Changes how it hands out temporary credentials.
    pub fn update_issuing<T>(&self, change: impl FnOnce(&mut Issuing) -> T) -> T {
        change(&mut lock(&self.shared.issuer).settings)
    }

    /// Hands out temporary credentials to the caller, under the action `Test`.
    pub fn issue(&self, lifetime: Duration) -> Issued {
        let now = self.shared.clock.now_millis();
        lock(&self.shared.issuer)
            .issue("Test", lifetime, now)
            .clone()
    }

    /// The temporary credentials handed out, oldest first; 10 000 at most.
    pub fn issued(&self) -> Vec<Issued> {
        lock(&self.shared.issuer).issued()
    }

    /// Ends temporary credentials before their time: they are refused as
    /// expired. False where none have this access key id.
    pub fn revoke(&self, key_id: &str) -> bool {
        lock(&self.shared.issuer).revoke(key_id)
    }

    /// Ends all temporary credentials handed out so far.
    pub fn revoke_all(&self) {
        lock(&self.shared.issuer).revoke_all();
    }

    /// Adds a fault; the first that matches a request counts.
    pub fn add_fault(&self, fault: FaultRule) {
        lock(&self.shared.faults).add(fault);
    }

    /// Ends all faults. What hangs already, hangs on.
    pub fn clear_faults(&self) {
        lock(&self.shared.faults).clear();
    }

    /// What was asked so far.
    pub fn requests(&self) -> Requests {
        self.shared.log.read()
    }

    /// What connections there were.
    pub fn connections(&self) -> Connections {
        self.shared.log.connections()
    }

    /// Takes no more requests on the open connections: each is closed after the
    /// response that is due. Requests in flight are answered.
    pub fn retire_connections(&self) {
        self.shared.retire();
    }

    /// Forgets what was asked so far, the counts of requests and connections included.
    pub fn clear_requests(&self) {
        self.shared.log.clear();
    }

    /// Takes no more connections, finishes the requests in flight (those that
    /// hang are dropped) and waits for the end.
    pub fn stop(mut self) {
        self.shared.stopping.cancel();
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.aborting.cancel();
        self.join();
    }
}

struct Shared {
    keys: Vec<AccessKey>,
    clock: Clock,
    date_window: Duration,
    latency: Duration,
    tls: Option<Tls>,
    issuer: Mutex<Issuer>,
    world: Mutex<World>,
    faults: Mutex<Faults>,
    nonces: Mutex<Nonces>,
    log: Log,
    stopping: CancellationToken,
    /// Ends the connections that there are.
    retiring: Mutex<CancellationToken>,
    aborting: CancellationToken,
}

/// A connection, counted as open until this is dropped.
struct Open {
    shared: Arc<Shared>,
    number: u64,
}

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            number: shared.log.connection(shared.tls.is_some()),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.log.closed(self.number);
    }
}

/// Closes the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("connection dropped on purpose")]
struct Dropped;

impl Shared {
    fn new(config: SimulatorConfig) -> Self {
        let stopping = CancellationToken::new();
        Self {
            keys: config.keys,
            clock: config.clock,
            date_window: config.date_window,
            latency: config.latency,
            tls: config.tls,
            issuer: Mutex::new(Issuer::new(config.issuing)),
            world: Mutex::new(config.world),
            faults: Mutex::default(),
            nonces: Mutex::default(),
            log: Log::default(),
            retiring: Mutex::new(stopping.child_token()),
            stopping,
            aborting: CancellationToken::new(),
        }
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let aborting = self.aborting.clone();
        aborting
            .run_until_cancelled_owned(async move {
                // Only a runtime without its I/O driver refuses.
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                    return;
                };
                let connections = TaskTracker::new();
                while let Some(accepted) =
                    self.stopping.run_until_cancelled(listener.accept()).await
                {
                    match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(Arc::clone(&self).connection(stream));
                        }
                        // Out of file handles, say: the listener itself is fine.
                        Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                }
                drop(listener);
                connections.close();
                let _ = tokio::time::timeout(STOP_LIMIT, connections.wait()).await;
            })
            .await;
    }

    fn retire(&self) {
        let next = self.stopping.child_token();
        std::mem::replace(&mut *lock(&self.retiring), next).cancel();
    }

    async fn connection(self: Arc<Self>, stream: tokio::net::TcpStream) {
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
        let retired = lock(&self.retiring).clone();
        let open = Open::new(&self);
        let Some(tls) = &self.tls else {
            return self.http1(&open, stream, &retired).await;
        };
        let handshake = TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream);
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, handshake);
        let Some(Ok(Ok(stream))) = retired.run_until_cancelled(handshake).await else {
            return;
        };
        self.http1(&open, stream, &retired).await;
    }

    async fn http1(
        self: &Arc<Self>,
        open: &Open,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        retired: &CancellationToken,
    ) {
        let service = service_fn(|request| Arc::clone(self).answer(open.number, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Whether a connection is kept is the client's choice.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // How a connection ends is the client's business, or a fault's.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = retired.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    async fn answer(
        self: Arc<Self>,
        connection: u64,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Dropped> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await;
        let body = body.map_err(|_| Dropped)?.to_bytes();
        if let Some(path) = head.uri.path().strip_prefix("/_sim/") {
            return Ok(control::answer(&self, path, &head.method, &body));
        }
        let call = Call::read(connection, &head, body);
        let fault = match faults::from_header(&head.headers) {
            Some(own) => own.map(Some),
            None => Ok(lock(&self.faults).matching(&call)),
        };
        // In one step, so that whoever sees the request sees its fault.
        let known = fault.as_ref().ok().and_then(Option::as_ref);
        let entry = self.log.begin(&call, known, self.clock.now_millis());
        let fault = match fault {
            Ok(fault) => fault,
            Err(refusal) => return Ok(self.respond(&call, &entry, 0, Err(refusal))),
        };
        let slow = match fault {
            Some(Fault::Slow { ms }) => Duration::from_millis(ms),
            _ => Duration::ZERO,
        };
        let delay = self.latency + slow;
        if !delay.is_zero() {
            // A stop does not wait for it.
            let sleep = tokio::time::sleep(delay);
            let _ = self.stopping.run_until_cancelled(sleep).await;
        }
        let skew = match fault {
            Some(Fault::ClockSkew { seconds }) => seconds.saturating_mul(1000),
            _ => 0,
        };
        match fault {
            Some(Fault::Hang) => {
                self.stopping.cancelled().await;
                Err(Dropped)
            }
            Some(Fault::Drop) => Err(Dropped),
            None | Some(Fault::Slow { .. } | Fault::ClockSkew { .. }) => {
                Ok(self.regular(&call, &entry, skew))
            }
            Some(Fault::Error {
                status,
                code,
                message,
            }) => {
                let refusal = Refusal::new(status, code, message);
                Ok(self.respond(&call, &entry, 0, Err(refusal)))
            }
            Some(Fault::Denied {
                code,
                auth_action,
                principal_type,
                no_permission_type,
            }) => {
                let detail = serde_json::json!({
                    "AuthAction": auth_action.unwrap_or_else(|| ram_action(&call)),
                    "AuthPrincipalType": principal_type,
                    "AuthPrincipalDisplayName": "simulated-role:simulated-session",
                    "AuthPrincipalOwnerId": "1234567890123456",
                    "NoPermissionType": no_permission_type,
                    "PolicyType": "AccountLevelIdentityBasedPolicy",
                    "EncodedDiagnosticMessage": "QVFJQklBQUFBT1Bkd0tZMlFMT3ZnTUVj",
                });
                let message =
                    "You are not authorized to do this action. You should be authorized by RAM.";
                let refusal = Refusal::denied(code, message, detail);
                Ok(self.respond(&call, &entry, 0, Err(refusal)))
            }
            Some(Fault::HalfBody) => {
                let whole = self.regular(&call, &entry, 0);
                Ok(faults::halve(whole).await)
            }
            Some(fault) => {
                let mut response = fault.response(&entry.request_id());
                self.stamp(&mut response, &entry, 0);
                Ok(response)
            }
        }
    }

    /// What a call gets when nothing goes wrong on purpose.
    fn regular(&self, call: &Call, entry: &log::Entry<'_>, skew: i64) -> Response<Body> {
        let Some(action) = metadata::action(call.path()) else {
            return self.respond(call, entry, skew, self.outcome(call, skew));
        };
        let now = self.clock.now_millis().saturating_add(skew);
        let mut response = metadata::answer(call, action, &mut lock(&self.issuer), now);
        self.stamp(&mut response, entry, skew);
        response
    }

    /// Verifies a call and, where it is in order, carries it out.
    fn outcome(&self, call: &Call, skew: i64) -> Result<serde_json::Value, Refusal> {
        let now = self.clock.now_millis().saturating_add(skew);
        let product = if sts::is_unsigned(call) {
            gateway::verify_unsigned(call, now, self.date_window)?
        } else {
            let secret = |key_id: &str, token: Option<&str>| {
                let own = self.keys.iter().find(|key| key.id == key_id);
                match own {
                    Some(key) => gateway::secret_of(key, token),
                    None => lock(&self.issuer).secret(key_id, token, now),
                }
            };
            gateway::verify(call, secret, now, self.date_window, &self.nonces)?
        };
        match product {
            Product::Registry => operations::carry_out(call, &lock(&self.world), now),
            Product::Sts => sts::carry_out(call, &mut lock(&self.issuer), now),
        }
    }

    fn respond(
        &self,
        call: &Call,
        entry: &log::Entry<'_>,
        skew: i64,
        outcome: Result<serde_json::Value, Refusal>,
    ) -> Response<Body> {
        let mut response = match outcome {
            Ok(mut answer) => {
                answer["RequestId"] = entry.request_id().into();
                entry.code(answer["Code"].as_str());
                call.format(StatusCode::OK, "Response", &answer)
            }
            Err(refusal) => {
                entry.code(Some(&refusal.code));
                let error = refusal.body(&entry.request_id(), call.host());
                call.format(refusal.status(), "Error", &error)
            }
        };
        self.stamp(&mut response, entry, skew);
        response
    }

    fn stamp(&self, response: &mut Response<Body>, entry: &log::Entry<'_>, skew: i64) {
        let now = self.clock.now_millis().saturating_add(skew);
        let since_epoch = Duration::from_millis(u64::try_from(now).unwrap_or(0));
        let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + since_epoch);
        let headers = response.headers_mut();
        if let Ok(date) = HeaderValue::try_from(date) {
            headers.insert(DATE, date);
        }
        if let Ok(id) = HeaderValue::try_from(entry.request_id()) {
            headers.insert("x-acs-request-id", id);
        }
        entry.status(response.status().as_u16());
    }
}

/// The action that access control asks for.
fn ram_action(call: &Call) -> String {
    let action = call.action().unwrap_or_default();
    let product = if sts::known(action).is_some() {
        "sts"
    } else {
        "cr"
    };
    format!("{product}:{action}")
}

fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into())
        .map_err(|never: Infallible| match never {})
        .boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A poisoned lock means that a test's own closure panicked; the data stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
