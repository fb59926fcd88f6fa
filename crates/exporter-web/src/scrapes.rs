//! How many metrics pages are on their way at once, and who makes room for the
//! next.
//!
//! A page that is larger than what the system buffers is on its way until its
//! client has taken it. A crowd of clients that take nothing must not keep out
//! the scraper that matters, which asks for a compressed page and takes it at
//! once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use crate::connections::Connection;

/// A client that takes nothing of its page for so long has to make room.
const REST: Duration = Duration::from_secs(2);

/// One place of so many is for compressed pages alone: all who read one share it.
const COMPRESSED_ONE_IN: usize = 10;

/// The places.
pub(crate) struct Scrapes {
    limit: usize,
    next_id: AtomicU64,
    held: Mutex<HashMap<u64, Held>>,
}

struct Held {
    is_plain: bool,
    /// `None` while the page is made.
    reader: Option<Reader>,
}

struct Reader {
    connection: Arc<Connection>,
    /// When it last took something.
    taken: Instant,
}

impl Scrapes {
    /// `limit` at once, 0 for no limit.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: if limit == 0 { usize::MAX } else { limit },
            next_id: AtomicU64::new(0),
            held: Mutex::default(),
        })
    }

    /// A place, at need that of the client which has taken nothing for the longest
    /// time; `None` where nobody rests for long enough.
    pub(crate) fn enter(self: &Arc<Self>, is_plain: bool) -> Option<Scrape> {
        let mut held = self.held();
        let plain = held.values().filter(|one| one.is_plain).count();
        let no_more_plain = is_plain && plain >= self.limit - self.limit / COMPRESSED_ONE_IN;
        if no_more_plain || held.len() >= self.limit {
            let slowest = held
                .iter()
                .filter(|(_, one)| one.is_plain || !no_more_plain)
                .filter_map(|(&id, one)| Some((one.reader.as_ref()?.taken, id)))
                .filter(|(taken, _)| taken.elapsed() >= REST)
                .min();
            let (_, slowest) = slowest?;
            if let Some(reader) = held.remove(&slowest).and_then(|one| one.reader) {
                debug!("cutting off a scrape that nobody reads, another needs its place");
                reader.connection.abort();
            }
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let reader = None;
        held.insert(id, Held { is_plain, reader });
        Some(Scrape {
            all: Arc::clone(self),
            id,
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u64, Held>> {
        // No change is ever left half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, held until this is dropped or the place was given away.
pub(crate) struct Scrape {
    all: Arc<Scrapes>,
    id: u64,
}

impl Scrape {
    /// The page is made, from now on it depends on this client.
    pub(crate) fn read_by(&self, connection: &Arc<Connection>) {
        if let Some(held) = self.all.held().get_mut(&self.id) {
            held.reader = Some(Reader {
                connection: Arc::clone(connection),
                taken: Instant::now(),
            });
        }
    }

    /// The client has taken a piece.
    pub(crate) fn proceeds(&self) {
        let mut held = self.all.held();
        if let Some(reader) = held.get_mut(&self.id).and_then(|held| held.reader.as_mut()) {
            reader.taken = Instant::now();
        }
    }
}

impl Drop for Scrape {
    fn drop(&mut self) {
        self.all.held().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::connections::{Connections, Limits};

    const PLAIN: bool = true;
    const COMPRESSED: bool = false;

    async fn connected() -> Arc<Connection> {
        Connections::new(Limits::default()).enter().await
    }

    #[tokio::test(start_paused = true)]
    async fn who_rests_longest_makes_room_and_the_maker_of_a_page_never() {
        let scrapes = Scrapes::new(3);
        let made = scrapes.enter(PLAIN).unwrap();
        let (one, other) = (connected().await, connected().await);
        one.request();
        other.request();
        let of_one = scrapes.enter(PLAIN).unwrap();
        of_one.read_by(&one);
        let second = scrapes.enter(COMPRESSED).unwrap();
        second.read_by(&other);
        assert!(scrapes.enter(PLAIN).is_none());

        advance(Duration::from_millis(1_500)).await;
        of_one.proceeds();
        assert!(scrapes.enter(PLAIN).is_none(), "1.5 s are not 2 s");
        advance(Duration::from_millis(500)).await;
        let third = scrapes.enter(PLAIN).unwrap();
        assert!(other.is_closing() && !one.is_closing());
        // What was given away is not given back.
        second.proceeds();
        drop(second);
        assert!(scrapes.enter(PLAIN).is_none());

        advance(Duration::from_secs(2)).await;
        let _fourth = scrapes.enter(PLAIN).unwrap();
        assert!(one.is_closing());
        advance(Duration::from_secs(1_000)).await;
        assert!(scrapes.enter(PLAIN).is_none(), "the rest are being made");
        drop(third);
        assert!(scrapes.enter(PLAIN).is_some());
        drop(made);
    }

    #[tokio::test(start_paused = true)]
    async fn one_place_in_ten_is_for_compressed_pages() {
        for (limit, plain) in [(1, 1), (9, 9), (10, 9), (40, 36)] {
            let scrapes = Scrapes::new(limit);
            let mut held = Vec::new();
            while let Some(scrape) = scrapes.enter(PLAIN) {
                held.push(scrape);
            }
            assert_eq!(held.len(), plain, "of {limit}");
            while let Some(scrape) = scrapes.enter(COMPRESSED) {
                held.push(scrape);
            }
            assert_eq!(held.len(), limit);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_plain_page_does_not_take_the_place_of_a_compressed_one() {
        let scrapes = Scrapes::new(10);
        let compressed = connected().await;
        compressed.request();
        let slow = scrapes.enter(COMPRESSED).unwrap();
        slow.read_by(&compressed);
        let mut held: Vec<_> = (0..9).map(|_| scrapes.enter(PLAIN).unwrap()).collect();
        advance(Duration::from_secs(60)).await;
        assert!(scrapes.enter(PLAIN).is_none());
        assert!(!compressed.is_closing());
        held.pop();
        held.push(scrapes.enter(COMPRESSED).unwrap());
        held.push(scrapes.enter(PLAIN).unwrap());
        assert!(
            compressed.is_closing(),
            "this one had no more place than 10"
        );
    }
}
