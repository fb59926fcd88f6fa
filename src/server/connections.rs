//! Who is connected and what each connection is doing: how long it may rest or
//! take over a request's head, who goes when there is no room, and whether
//! anything is still in flight.
//!
//! hyper knows one limit for the rest between requests and for the head of the
//! next; a crowd that sends half a head each would hold its places as long as a
//! well-behaved client may rest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// From a request's first byte to the end of its head.
    pub(super) head: Duration,
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
}

/// All connections of a server.
pub(super) struct Connections {
    limits: Limits,
    next_id: AtomicU64,
    room: Mutex<Room>,
    in_flight: watch::Sender<usize>,
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
        let state = watch::Sender::new(State {
            phase: Phase::Idle,
            since: Instant::now(),
        });
        room.states.insert(id, state.clone());
        Some(Arc::new(Connection {
            id,
            state,
            all: Arc::clone(self),
        }))
    }

    /// Requests whose answers are not yet all written.
    pub(super) fn in_flight(&self) -> usize {
        *self.in_flight.borrow()
    }

    /// Returns once nothing is in flight.
    pub(super) async fn quiet(&self) {
        // `self` holds the sender.
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
}

impl Connection {
    /// Bytes have come.
    pub(super) fn received(&self) {
        advance(&self.state, |phase| phase == Phase::Idle, Phase::Head);
    }

    /// A request's head is complete; its answer is in the making until the
    /// returned value is dropped.
    pub(super) fn request(self: &Arc<Self>) -> Answering {
        if advance(&self.state, Phase::is_resting, Phase::Answering) {
            self.all.in_flight.send_modify(|n| *n += 1);
        } else {
            // hyper may begin with the next request before it has flushed.
            let flushing = |phase| phase == Phase::Flushing;
            advance(&self.state, flushing, Phase::Answering);
        }
        Answering(Arc::clone(self))
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
            let State { phase, since } = *states.borrow_and_update();
            let stopping = stop.is_cancelled();
            let limit = match phase {
                Phase::Closed => return,
                Phase::Idle | Phase::Head if stopping && !came_late => return,
                Phase::Idle => Some(limits.idle),
                Phase::Head => Some(limits.head),
                Phase::Answering | Phase::Flushing => None,
            };
            tokio::select! {
                _ = states.changed() => {}
                () = sleep_until(since + limit.unwrap_or_default()), if limit.is_some() => return,
                () = stop.cancelled(), if !stopping => {}
            }
        }
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

/// A request whose answer is in the making.
pub(super) struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        let answering = |phase| phase == Phase::Answering;
        advance(&self.0.state, answering, Phase::Flushing);
    }
}

/// Goes on to `to` where `from` allows it, and tells whether it did.
fn advance(state: &watch::Sender<State>, from: impl Fn(Phase) -> bool, to: Phase) -> bool {
    state.send_if_modified(|state| {
        let allowed = from(state.phase);
        if allowed {
            *state = State {
                phase: to,
                since: Instant::now(),
            };
        }
        allowed
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::super::LIMITS;
    use super::super::tests::Log;
    use super::*;

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
        timeout(day, connection.overdue(&never)).await.unwrap_err();
        connection.flushed();
        assert_eq!(overdue_after(&connection).await, 75);
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
