//! Who is connected and what each connection is doing: how long it may rest or
//! take over a request's head, who goes when there is no room, and whether
//! anything is still in flight.
//!
//! hyper knows one limit for the rest between requests and for the head of the
//! next; a crowd that sends half a head each would hold its places as long as a
//! well-behaved client may rest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// What connections may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once.
    pub(super) connections: usize,
    /// From the end of an answer, or the start, to a request's first byte.
    pub(super) idle: Duration,
    /// From a request's first byte to the end of its head; for TLS's handshake too.
    pub(super) head: Duration,
    /// A client that takes nothing of its answer for so long is gone.
    pub(super) stall: Duration,
    /// From the first piece of an answer until all of it is written.
    pub(super) answer: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte of a request yet.
    Idle,
    /// A part of a request's head.
    Head,
    /// The answer is being made, or hyper has not taken all of it.
    Answering,
    /// hyper has all of the answer, the system not yet.
    Flushing,
    /// To be closed: its place was given away.
    Closed,
}

impl Phase {
    fn is_in_flight(self) -> bool {
        matches!(self, Self::Answering | Self::Flushing)
    }

    fn is_resting(self) -> bool {
        matches!(self, Self::Idle | Self::Head)
    }
}

#[derive(Clone, Copy)]
struct State {
    phase: Phase,
    since: Instant,
    /// The start, or the end of the last answer.
    rested: Instant,
    /// Answers in the making, more than one under HTTP/2 alone.
    answers: usize,
    /// An answer has lost its place.
    is_cut_off: bool,
}

/// How a client takes an answer.
#[derive(Clone, Copy)]
struct Pace {
    /// The first piece was asked for.
    began: Instant,
    /// The last one was.
    last: Instant,
}

/// All connections of a server.
pub(super) struct Connections {
    limits: Limits,
    next_id: AtomicU64,
    room: Mutex<Room>,
    in_flight: watch::Sender<usize>,
    /// Connections that end by themselves when the server stops.
    leaving: watch::Sender<usize>,
}

struct Room {
    states: HashMap<u64, watch::Sender<State>>,
    /// Full, and not half empty since.
    crowded: bool,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            next_id: AtomicU64::new(0),
            room: Mutex::new(Room {
                states: HashMap::new(),
                crowded: false,
            }),
            in_flight: watch::Sender::new(0),
            leaving: watch::Sender::new(0),
        })
    }

    /// Gives a new connection its place, at need that of the connection which
    /// has been without a complete request for the longest time; waits while
    /// there is a request in flight on each.
    pub(super) async fn enter(self: &Arc<Self>) -> Arc<Connection> {
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
        let mut room = self.room();
        if room.states.len() >= self.limits.connections {
            if !room.crowded {
                warn!(
                    connections = room.states.len(),
                    "too many connections, closing those that have rested longest"
                );
            }
            room.crowded = true;
            let (&longest, _) = room
                .states
                .iter()
                .map(|(id, state)| (id, *state.borrow()))
                .filter(|(_, state)| state.phase.is_resting())
                .min_by_key(|(_, state)| state.since)?;
            if !advance(&room.states[&longest], Phase::is_resting, Phase::Closed) {
                return None;
            }
            room.states.remove(&longest);
        } else if room.states.len() <= self.limits.connections / 2 {
            room.crowded = false;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let state = watch::Sender::new(State {
            phase: Phase::Idle,
            since: now,
            rested: now,
            answers: 0,
            is_cut_off: false,
        });
        room.states.insert(id, state.clone());
        Some(Arc::new(Connection {
            id,
            state,
            all: Arc::clone(self),
            is_http2: AtomicBool::new(false),
            paces: Mutex::default(),
        }))
    }

    /// Requests whose answers are not yet all written.
    pub(super) fn in_flight(&self) -> usize {
        *self.in_flight.borrow()
    }

    /// Returns once nothing is in flight and nobody takes leave.
    pub(super) async fn quiet(&self) {
        // `self` holds the senders.
        let _ = self.leaving.subscribe().wait_for(|&n| n == 0).await;
        let _ = self.in_flight.subscribe().wait_for(|&n| n == 0).await;
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        // No change is ever left half done.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, in its place until this is dropped.
pub(super) struct Connection {
    id: u64,
    state: watch::Sender<State>,
    all: Arc<Connections>,
    is_http2: AtomicBool,
    /// Of each answer of which something was taken.
    paces: Mutex<HashMap<u64, Pace>>,
}

impl Connection {
    /// A part of TLS's handshake or of a request's head has come.
    pub(super) fn received(&self) {
        advance(&self.state, |phase| phase == Phase::Idle, Phase::Head);
    }

    /// TLS's handshake is over.
    pub(super) fn greeted(&self) {
        advance(&self.state, |phase| phase == Phase::Head, Phase::Idle);
    }

    /// What has come was no request, so that the rest goes on.
    pub(super) fn rests(&self) {
        self.state.send_if_modified(|state| {
            let is_head = state.phase == Phase::Head;
            if is_head {
                state.phase = Phase::Idle;
                state.since = state.rested;
            }
            is_head
        });
    }

    /// From now on it speaks HTTP/2: bytes alone tell nothing of requests, and a
    /// client can take nothing of an answer without the stream below noticing.
    pub(super) fn speaks_http2(&self) {
        self.is_http2.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    /// The end of the server waits for this connection's until the returned value
    /// is dropped.
    pub(super) fn will_leave(&self) -> Leaving {
        self.all.leaving.send_modify(|n| *n += 1);
        Leaving(Arc::clone(&self.all))
    }

    /// A request's head is complete; its answer is in the making until the
    /// returned value is dropped.
    pub(super) fn request(self: &Arc<Self>) -> Answering {
        let was_resting = self.state.borrow().phase.is_resting();
        // hyper may begin with the next request before it has flushed, and under
        // HTTP/2 before it has answered.
        let advanced = advance(
            &self.state,
            |phase| phase != Phase::Closed,
            Phase::Answering,
        );
        if advanced {
            self.state.send_if_modified(|state| {
                state.answers += 1;
                false
            });
            if was_resting {
                self.all.in_flight.send_modify(|n| *n += 1);
            }
        }
        Answering {
            connection: Arc::clone(self),
            id: self.all.next_id.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Whether nothing is in flight on it and it may stay.
    pub(super) fn is_resting(&self) -> bool {
        self.state.borrow().phase.is_resting()
    }

    /// Whether a request came whose answer is not all written.
    pub(super) fn is_in_flight(&self) -> bool {
        self.state.borrow().phase.is_in_flight()
    }

    /// Ends the connection although its answer is not written.
    pub(super) fn cut_off(&self) {
        self.state.send_if_modified(|state| {
            state.is_cut_off |= state.phase.is_in_flight();
            state.is_cut_off
        });
    }

    #[cfg(test)]
    pub(super) fn is_cut_off(&self) -> bool {
        self.state.borrow().is_cut_off
    }

    /// Returns once nothing is in flight on it.
    pub(super) async fn finished(&self) {
        // `self` holds the sender.
        let mut states = self.state.subscribe();
        let _ = states.wait_for(|state| !state.phase.is_in_flight()).await;
    }

    /// hyper has nothing that is not written.
    pub(super) fn flushed(&self) {
        if advance(&self.state, |phase| phase == Phase::Flushing, Phase::Idle) {
            self.all.in_flight.send_modify(|n| *n -= 1);
        }
    }

    /// Returns when the connection must be closed: it was too slow, its place
    /// was given away, or the server stops and no request is in flight on it.
    /// A connection that comes while the server stops may send a request.
    pub(super) async fn overdue(&self, stop: &CancellationToken) {
        let limits = self.all.limits;
        let came_late = stop.is_cancelled();
        let mut states = self.state.subscribe();
        loop {
            let state = *states.borrow_and_update();
            let stopping = stop.is_cancelled();
            let due = match state.phase {
                Phase::Closed => return,
                Phase::Idle | Phase::Head if stopping && !came_late => return,
                Phase::Idle => state.since + limits.idle,
                Phase::Head => state.since + limits.head,
                Phase::Answering => self.answers_due(),
                Phase::Flushing => state.since + limits.answer,
            };
            if state.is_cut_off || due <= Instant::now() {
                return;
            }
            tokio::select! {
                _ = states.changed() => {}
                () = sleep_until(due) => {}
                () = stop.cancelled(), if !stopping => {}
            }
        }
    }
}

impl Connection {
    /// When the first of the answers is too slow; while none has begun, when to
    /// look again.
    fn answers_due(&self) -> Instant {
        let limits = self.all.limits;
        let due = |pace: &Pace| {
            let whole = pace.began + limits.answer;
            if self.is_http2() {
                whole.min(pace.last + limits.stall)
            } else {
                // `watched` sees a stall.
                whole
            }
        };
        let first = self.paces().values().map(due).min();
        first.unwrap_or_else(|| Instant::now() + limits.stall.min(limits.answer))
    }

    fn paces(&self) -> MutexGuard<'_, HashMap<u64, Pace>> {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.room().states.remove(&self.id);
        if self.state.borrow().phase.is_in_flight() {
            self.all.in_flight.send_modify(|n| *n -= 1);
        }
    }
}

/// A connection that the server's end waits for.
pub(super) struct Leaving(Arc<Connections>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leaving.send_modify(|n| *n -= 1);
    }
}

/// A request whose answer is in the making.
pub(super) struct Answering {
    connection: Arc<Connection>,
    id: u64,
}

impl Answering {
    /// A piece of the answer is asked for, the first or one after another was taken.
    pub(super) fn proceeds(&self) {
        let last = Instant::now();
        let mut paces = self.connection.paces();
        let pace = paces.entry(self.id).or_insert(Pace { began: last, last });
        pace.last = last;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let pace = self.connection.paces().remove(&self.id);
        self.connection.state.send_if_modified(|state| {
            if state.phase != Phase::Answering {
                return false;
            }
            state.answers -= 1;
            if state.answers == 0 {
                state.phase = Phase::Flushing;
                // The time for the whole answer goes on.
                state.since = pace.map_or_else(Instant::now, |pace| pace.began);
            }
            state.answers == 0
        });
    }
}

/// Goes on to `to` where `from` allows it, and tells whether it did.
fn advance(state: &watch::Sender<State>, from: impl Fn(Phase) -> bool, to: Phase) -> bool {
    state.send_if_modified(|state| {
        let allowed = from(state.phase);
        if allowed {
            state.phase = to;
            state.since = Instant::now();
            if to == Phase::Idle {
                state.rested = state.since;
            }
        }
        allowed
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep, timeout};

    use super::super::LIMITS;
    use super::*;
    use crate::telemetry::capture::Log;

    async fn connected() -> Arc<Connection> {
        Connections::new(LIMITS).enter().await
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
    async fn a_connection_may_rest_for_75_s_before_and_between_requests() {
        let connection = connected().await;
        assert_eq!(overdue_after(&connection).await, 75);

        let connection = connected().await;
        connection.received();
        let answering = connection.request();
        connection.flushed();
        let day = Duration::from_secs(86_400);
        let never = CancellationToken::new();
        timeout(day, connection.overdue(&never)).await.unwrap_err();
        drop(answering);
        connection.flushed();
        assert_eq!(overdue_after(&connection).await, 75);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_has_2_minutes_from_its_first_piece_to_its_last_byte() {
        for (is_http2, hyper_has_all) in [(false, false), (false, true), (true, false)] {
            let connection = connected().await;
            if is_http2 {
                connection.speaks_http2();
            }
            connection.received();
            let answering = connection.request();
            // Making it may take any time.
            advance(Duration::from_secs(1_000)).await;
            for _ in 0..4 {
                answering.proceeds();
                advance(Duration::from_secs(20)).await;
            }
            let proceeding = async {
                if hyper_has_all {
                    drop(answering);
                    return std::future::pending().await;
                }
                loop {
                    answering.proceeds();
                    sleep(Duration::from_secs(1)).await;
                }
            };
            let seconds = tokio::select! {
                biased;
                () = proceeding => 0,
                seconds = overdue_after(&connection) => seconds,
            };
            assert_eq!(seconds, 40);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn under_http2_an_answer_may_stall_for_30_s() {
        let connection = connected().await;
        connection.speaks_http2();
        let (slow, fast) = (connection.request(), connection.request());
        slow.proceeds();
        fast.proceeds();
        advance(Duration::from_secs(20)).await;
        fast.proceeds();
        assert_eq!(overdue_after(&connection).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_in_flight_is_cut_off() {
        let connection = connected().await;
        connection.cut_off();
        assert_eq!(overdue_after(&connection).await, 75);
        let answering = connection.request();
        connection.cut_off();
        assert_eq!(overdue_after(&connection).await, 0);
        assert!(connection.is_in_flight());
        drop(answering);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_in_flight_until_it_is_written() {
        let connection = connected().await;
        let all = Arc::clone(&connection.all);
        connection.received();
        assert_eq!(all.in_flight(), 0);
        let answering = connection.request();
        connection.flushed();
        assert_eq!(all.in_flight(), 1);
        drop(answering);
        assert_eq!(all.in_flight(), 1);
        // The next request is begun before all is written.
        let answering = connection.request();
        connection.flushed();
        assert_eq!(all.in_flight(), 1);
        drop(answering);
        connection.flushed();
        assert_eq!(all.in_flight(), 0);

        let answering = connection.request();
        assert_eq!(all.in_flight(), 1);
        drop((connection, answering));
        assert_eq!(all.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_at_rest_goes_and_one_line_a_spell_is_logged() {
        let (log, _capture) = Log::capture();
        let all = Connections::new(Limits {
            connections: 4,
            ..LIMITS
        });
        let enter = async || {
            advance(Duration::from_secs(1)).await;
            all.enter().await
        };
        let busy = enter().await;
        let _answering = busy.request();
        let half = enter().await;
        let idle = enter().await;
        let other = enter().await;
        advance(Duration::from_secs(1)).await;
        half.received();
        let is_closed =
            |connection: &Arc<Connection>| connection.state.borrow().phase == Phase::Closed;
        let mut later = vec![enter().await];
        assert!(is_closed(&idle));
        assert_eq!(overdue_after(&idle).await, 0);
        // What comes for it now is too late.
        drop(idle.request());
        assert!(is_closed(&idle));
        later.push(enter().await);
        assert!(is_closed(&other));
        later.push(enter().await);
        assert!(is_closed(&half));
        assert!(![&busy].into_iter().chain(&later).any(is_closed));
        drop((half, idle, other));
        assert_eq!(log.count("too many connections"), 1);

        // One place is free for a moment: the same spell.
        later.remove(0);
        later.push(enter().await);
        later.push(enter().await);
        assert_eq!(log.count("too many connections"), 1);

        // Half of them are.
        later.clear();
        for _ in 0..4 {
            later.push(enter().await);
        }
        assert_eq!(log.count("too many connections"), 2);
        assert_eq!(all.in_flight(), 1);
    }
}
