//! What each connection is doing. One [`State`] per connection decides how long
//! it may go on, whether it may be closed to make room for another, and whether
//! a graceful stop waits for it. The socket, the handler and the response body
//! report events; nothing else keeps track.
//!
//! hyper has a single timeout for the idle time and the request head together,
//! and none for a client that does not read its response.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// From the end of a response, or the start, to the first byte of a request.
    pub idle: Duration,
    /// From the first byte of a request, or of the TLS handshake, to the end of
    /// its head.
    pub head: Duration,
    /// Without a byte of the response written.
    pub stall: Duration,
    /// From the start of a response until all of it is written.
    pub response: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // As many as Prometheus takes.
            connections: 512,
            // A connection that is scraped once a minute is kept.
            idle: Duration::from_secs(75),
            head: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            response: Duration::from_secs(120),
        }
    }
}

impl Limits {
    /// With no more connections than half of the descriptors that the process may
    /// have: connections alone must not keep it from its work, nor others from
    /// being served.
    pub(crate) fn within_descriptors(self) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current;
        let half = descriptors.and_then(|most| usize::try_from(most / 2).ok());
        let most = half.unwrap_or(usize::MAX).max(1);
        Self {
            connections: self.connections.min(most),
            ..self
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waiting for the first byte of a request.
    Idle { since: Instant },
    /// Receiving a TLS handshake or a request head.
    Reading { since: Instant },
    /// The handler has a request and has not responded yet.
    Handling,
    /// The response is being written.
    Writing {
        since: Instant,
        /// When bytes were last written.
        progress: Instant,
        /// hyper has all of the body; it may still have to be written.
        is_body_done: bool,
    },
    /// About to be closed, perhaps before its response was written.
    Closing { was_in_flight: bool },
}

impl State {
    fn idle() -> Self {
        let since = Instant::now();
        Self::Idle { since }
    }

    /// Since when there is no complete request; `None` while there is one.
    fn waiting_since(self) -> Option<Instant> {
        match self {
            Self::Idle { since } | Self::Reading { since } => Some(since),
            _ => None,
        }
    }

    /// Whether a response is due or not entirely written.
    fn is_in_flight(self) -> bool {
        match self {
            Self::Idle { .. } | Self::Reading { .. } => false,
            Self::Handling | Self::Writing { .. } => true,
            Self::Closing { was_in_flight } => was_in_flight,
        }
    }

    /// When the connection has to be closed; the handler may take any time.
    fn deadline(self, limits: &Limits) -> Option<Instant> {
        match self {
            Self::Idle { since } => Some(since + limits.idle),
            Self::Reading { since } => Some(since + limits.head),
            Self::Handling => None,
            Self::Writing {
                since, progress, ..
            } => Some((since + limits.response).min(progress + limits.stall)),
            Self::Closing { .. } => Some(Instant::now()),
        }
    }
}

/// All connections of a server.
pub(crate) struct Connections {
    limits: Limits,
    table: Mutex<Table>,
    in_flight: watch::Sender<usize>,
}

#[derive(Default)]
struct Table {
    states: HashMap<u64, watch::Sender<State>>,
    next_id: u64,
    /// The limit was reached, and at least half of it has been used since.
    is_crowded: bool,
}

impl Connections {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            table: Mutex::default(),
            in_flight: watch::Sender::new(0),
        })
    }

    /// Adds a connection. At the limit, closes the one that has been without a
    /// complete request for the longest time, or waits for one.
    pub(crate) async fn enter(self: &Arc<Self>) -> Arc<Connection> {
        let mut in_flight = self.in_flight.subscribe();
        loop {
            if let Some(connection) = self.try_enter() {
                return connection;
            }
            // `self` holds the sender.
            let _ = in_flight.changed().await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let mut table = self.table();
        let connections = table.states.len();
        if connections >= self.limits.connections {
            if !table.is_crowded {
                warn!(
                    connections,
                    "connection limit reached, closing idle connections"
                );
            }
            table.is_crowded = true;
            table.evict()?;
        } else if connections <= self.limits.connections / 2 {
            table.is_crowded = false;
        }
        let id = table.next_id;
        table.next_id += 1;
        let state = watch::Sender::new(State::idle());
        table.states.insert(id, state.clone());
        Some(Arc::new(Connection {
            id,
            state,
            all: Arc::clone(self),
        }))
    }

    /// Number of requests whose response is not entirely written.
    pub(crate) fn in_flight(&self) -> usize {
        *self.in_flight.borrow()
    }

    /// Waits until no request is in flight.
    pub(crate) async fn drained(&self) {
        // `self` holds the sender.
        let _ = self.in_flight.subscribe().wait_for(|&n| n == 0).await;
    }

    fn count(&self, change: isize) {
        if change != 0 {
            let add = |n: &mut usize| *n = n.saturating_add_signed(change);
            self.in_flight.send_modify(add);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No change is ever left half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Closes the connection that has been waiting longest; `None` if there is none.
    fn evict(&mut self) -> Option<()> {
        let waiting = self.states.iter();
        let waiting =
            waiting.filter_map(|(&id, state)| Some((state.borrow().waiting_since()?, id)));
        let (_, id) = waiting.min()?;
        let is_evicted = self.states[&id].send_if_modified(|state| {
            let is_waiting = state.waiting_since().is_some();
            if is_waiting {
                let was_in_flight = false;
                *state = State::Closing { was_in_flight };
            }
            is_waiting
        });
        is_evicted.then(|| self.states.remove(&id)).map(drop)
    }
}

/// One connection, counted until this is dropped.
pub(crate) struct Connection {
    id: u64,
    state: watch::Sender<State>,
    all: Arc<Connections>,
}

impl Connection {
    /// Bytes of a TLS handshake or a request head have come.
    pub(crate) fn received(&self) {
        self.transition(|state| match state {
            State::Idle { .. } => {
                let since = Instant::now();
                Some(State::Reading { since })
            }
            _ => None,
        });
    }

    /// The TLS handshake is complete.
    pub(crate) fn tls_accepted(&self) {
        self.transition(|state| match state {
            State::Reading { .. } => Some(State::idle()),
            _ => None,
        });
    }

    /// A request head is complete. hyper may begin with the next request before
    /// it has flushed the response to the one before.
    pub(crate) fn request(&self) {
        self.transition(|state| match state {
            State::Closing { .. } => None,
            _ => Some(State::Handling),
        });
    }

    /// The handler has responded; hyper has all of the body when the returned
    /// guard is dropped.
    pub(crate) fn respond(self: &Arc<Self>) -> BodyGuard {
        self.transition(|state| match state {
            State::Handling => {
                let since = Instant::now();
                Some(State::Writing {
                    since,
                    progress: since,
                    is_body_done: false,
                })
            }
            _ => None,
        });
        BodyGuard(Arc::clone(self))
    }

    /// Bytes were written.
    pub(crate) fn wrote(&self) {
        self.state.send_if_modified(|state| {
            if let State::Writing { progress, .. } = state {
                *progress = Instant::now();
            }
            // `overdue` looks again at its deadline.
            false
        });
    }

    /// hyper has nothing left to write.
    pub(crate) fn flushed(&self) {
        self.transition(|state| match state {
            State::Writing {
                is_body_done: true, ..
            } => Some(State::idle()),
            _ => None,
        });
    }

    /// Closes the connection although its response is not entirely written.
    pub(crate) fn abort(&self) {
        let was_in_flight = true;
        self.transition(|state| {
            let closing = State::Closing { was_in_flight };
            state.is_in_flight().then_some(closing)
        });
    }

    /// Whether a response is due or not entirely written.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.state.borrow().is_in_flight()
    }

    #[cfg(test)]
    pub(crate) fn is_closing(&self) -> bool {
        matches!(*self.state.borrow(), State::Closing { .. })
    }

    /// Waits until the connection has to be closed: it was too slow, was evicted
    /// or aborted, or the server stops and no request is in flight. A connection
    /// accepted after the stop may send one request.
    pub(crate) async fn overdue(&self, stop: &CancellationToken) {
        let was_accepted_late = stop.is_cancelled();
        let mut states = self.state.subscribe();
        loop {
            let state = *states.borrow_and_update();
            let is_stopping = stop.is_cancelled() && !was_accepted_late;
            if is_stopping && state.waiting_since().is_some() {
                return;
            }
            let deadline = state.deadline(&self.all.limits);
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return;
            }
            let expired = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                _ = states.changed() => {}
                () = expired => {}
                () = stop.cancelled(), if !is_stopping && !was_accepted_late => {}
            }
        }
    }

    /// Moves on to the state that `next` returns, if any.
    fn transition(&self, next: impl FnOnce(State) -> Option<State>) {
        let mut change = 0;
        self.state.send_if_modified(|state| {
            let Some(next) = next(*state) else {
                return false;
            };
            change = isize::from(next.is_in_flight()) - isize::from(state.is_in_flight());
            *state = next;
            true
        });
        self.all.count(change);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.table().states.remove(&self.id);
        self.all.count(-isize::from(self.is_in_flight()));
    }
}

/// Held by a response body; dropped once hyper has all of it.
pub(crate) struct BodyGuard(Arc<Connection>);

impl Drop for BodyGuard {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|state| {
            if let State::Writing { is_body_done, .. } = state {
                *is_body_done = true;
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::FutureExt as _;
    use tokio::time::{advance, timeout};
    use tracing::subscriber::DefaultGuard;

    use super::*;

    /// What this thread logs, from `info` on.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        /// Captures until the guard is dropped.
        fn capture() -> (Self, DefaultGuard) {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .finish();
            (log, tracing::subscriber::set_default(subscriber))
        }

        /// Lines that contain `text`.
        fn count(&self, text: &str) -> usize {
            let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            log.lines().filter(|line| line.contains(text)).count()
        }
    }

    async fn connected() -> Arc<Connection> {
        Connections::new(Limits::default()).enter().await
    }

    /// Seconds until the connection is overdue, from now.
    async fn overdue_after(connection: &Connection) -> u64 {
        let now = Instant::now();
        connection.overdue(&CancellationToken::new()).await;
        now.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_10_s_from_its_first_byte() {
        let connection = connected().await;
        advance(Duration::from_secs(70)).await;
        connection.received();
        advance(Duration::from_secs(6)).await;
        connection.received();
        assert_eq!(overdue_after(&connection).await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_be_idle_for_75_s_before_and_between_requests() {
        let connection = connected().await;
        assert_eq!(overdue_after(&connection).await, 75);

        let connection = connected().await;
        connection.received();
        connection.tls_accepted();
        assert_eq!(overdue_after(&connection).await, 75);

        let connection = connected().await;
        connection.received();
        connection.request();
        let day = Duration::from_secs(86_400);
        let never = CancellationToken::new();
        timeout(day, connection.overdue(&never)).await.unwrap_err();
        drop(connection.respond());
        connection.flushed();
        assert_eq!(overdue_after(&connection).await, 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_has_2_minutes_until_its_last_byte() {
        for is_body_done in [false, true] {
            let connection = connected().await;
            connection.received();
            connection.request();
            // The handler may take any time.
            advance(Duration::from_secs(1_000)).await;
            let mut guard = Some(connection.respond());
            for _ in 0..4 {
                advance(Duration::from_secs(25)).await;
                connection.wrote();
                connection.flushed();
            }
            if is_body_done {
                guard = None;
            }
            assert_eq!(overdue_after(&connection).await, 20);
            drop(guard);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_may_stall_for_30_s() {
        let connection = connected().await;
        connection.request();
        let _guard = connection.respond();
        advance(Duration::from_secs(20)).await;
        connection.wrote();
        let began = Instant::now();
        let overdue = overdue_after(&connection);
        let writing = async {
            advance(Duration::from_secs(20)).await;
            connection.wrote();
        };
        // The write in between moves the deadline, though it wakes nobody.
        tokio::join!(overdue, writing);
        assert_eq!(began.elapsed(), Duration::from_secs(50));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_in_flight_is_aborted() {
        let connection = connected().await;
        connection.abort();
        assert_eq!(overdue_after(&connection).await, 75);
        connection.request();
        connection.abort();
        assert_eq!(overdue_after(&connection).await, 0);
        assert!(connection.is_in_flight());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_closes_what_waits_and_nothing_in_flight() {
        let stop = CancellationToken::new();
        let (idle, reading) = (connected().await, connected().await);
        let busy = connected().await;
        reading.received();
        busy.request();
        let mut closed = [&idle, &reading, &busy].map(|one| Box::pin(one.overdue(&stop)));
        for one in &mut closed {
            assert_eq!(one.now_or_never(), None);
        }
        stop.cancel();
        let [idle, reading, of_busy] = &mut closed;
        idle.await;
        reading.await;
        assert_eq!(of_busy.now_or_never(), None);
        drop(busy.respond());
        assert_eq!(of_busy.now_or_never(), None);
        busy.flushed();
        of_busy.await;

        // A connection that comes after the stop may send a request.
        let late = connected().await;
        let began = Instant::now();
        late.overdue(&stop).await;
        assert_eq!(began.elapsed(), Limits::default().idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_in_flight_until_its_response_is_written() {
        let connection = connected().await;
        let all = Arc::clone(&connection.all);
        connection.received();
        assert_eq!(all.in_flight(), 0);
        connection.request();
        connection.flushed();
        assert_eq!(all.in_flight(), 1);
        let guard = connection.respond();
        connection.flushed();
        drop(guard);
        assert_eq!(all.in_flight(), 1);
        // The next request begins before all is written.
        connection.request();
        connection.flushed();
        assert_eq!(all.in_flight(), 1);
        drop(connection.respond());
        connection.flushed();
        assert_eq!(all.in_flight(), 0);

        connection.request();
        assert_eq!(all.in_flight(), 1);
        drop(connection);
        assert_eq!(all.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_waits_longest_is_evicted_and_one_line_a_spell_is_logged() {
        const LINE: &str = "connection limit reached";
        let (log, _capture) = Log::capture();
        let all = Connections::new(Limits {
            connections: 4,
            ..Limits::default()
        });
        let enter = async || {
            advance(Duration::from_secs(1)).await;
            all.enter().await
        };
        let busy = enter().await;
        busy.request();
        let half = enter().await;
        let idle = enter().await;
        let other = enter().await;
        advance(Duration::from_secs(1)).await;
        half.received();
        let mut later = vec![enter().await];
        assert!(idle.is_closing());
        assert_eq!(overdue_after(&idle).await, 0);
        // What comes for it now is too late.
        idle.request();
        assert!(idle.is_closing());
        later.push(enter().await);
        assert!(other.is_closing());
        later.push(enter().await);
        assert!(half.is_closing());
        assert!(
            ![&busy]
                .into_iter()
                .chain(&later)
                .any(|one| one.is_closing())
        );
        drop((half, idle, other));
        assert_eq!(log.count(LINE), 1);

        // One place is free for a moment: the same spell.
        later.remove(0);
        later.push(enter().await);
        later.push(enter().await);
        assert_eq!(log.count(LINE), 1);

        // Half of them are.
        later.clear();
        for _ in 0..4 {
            later.push(enter().await);
        }
        assert_eq!(log.count(LINE), 2);
        assert_eq!(all.in_flight(), 1);
    }
}
