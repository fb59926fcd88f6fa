//! The pages that are kept: what is on the newest one, and its compressed forms
//! as far as they are asked for. Each is made at the first scrape after a change
//! of the store, or after data has turned stale, and once, however many scrapes
//! come meanwhile, out of the page before as far as they agree. What nobody asks
//! for is dropped after a while.
//!
//! A plain page is not kept: to write it costs no more than to copy it.

use std::convert::Infallible;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exporter_web::compress::{Coding, Compressed};
use futures_util::FutureExt as _;
use futures_util::future::Shared;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tracing::error;

use super::text::Writer;
use super::{Content, Format, Names};
use crate::metrics::catalog::series_at_most;
use crate::store::{Snapshot, Store};

/// What was not asked for in so long is dropped.
const KEPT_UNUSED: Duration = Duration::from_secs(5 * 60);

/// To choose and label more than so many series would hold up the thread that
/// everything else runs on.
const INLINE_SERIES_MAX: usize = 100_000;

/// The same for compressing them, which takes forty times as long.
const INLINE_COMPRESSED_MAX: usize = 10_000;

/// In the making or made; `None` if that has panicked.
type Making<T> = Shared<Pin<Box<dyn Future<Output = Option<Arc<T>>> + Send>>>;

/// The newest page, as far as it is kept.
#[derive(Default)]
pub struct Pages {
    newest: Mutex<Option<Arc<Generation>>>,
}

impl Pages {
    /// What there is to show of `store` at `steady_ms`, by the steady clock.
    pub fn generation(&self, store: &Store, steady_ms: i64) -> Arc<Generation> {
        let mut newest = lock(&self.newest);
        // Not before, or an older snapshot might replace a newer one.
        let snapshot = store.snapshot();
        if let Some(generation) = &*newest
            && Arc::ptr_eq(&generation.snapshot, &snapshot)
            && generation.valid.contains(&steady_ms)
        {
            lock(&generation.kept).used = Instant::now();
            return Arc::clone(generation);
        }
        let before = newest.take();
        let before = before.map_or(Vec::new(), |before| before.kept_before());
        let generation = Arc::new(Generation::new(snapshot, steady_ms, before));
        *newest = Some(Arc::clone(&generation));
        generation
    }

    /// Drops what was not used for 5 minutes, for as long as it is polled.
    pub async fn forget_unused(&self) -> Infallible {
        loop {
            let next = self.forget_unused_at(Instant::now());
            sleep_until(next).await;
        }
    }

    /// Answers when to look again.
    fn forget_unused_at(&self, now: Instant) -> Instant {
        let mut newest = lock(&self.newest);
        let next = newest.as_ref().and_then(|it| it.forget_unused_at(now));
        if next.is_none() {
            *newest = None;
        }
        next.unwrap_or(now + KEPT_UNUSED)
    }
}

/// What the page shows as long as neither the store changes nor data turns stale.
pub struct Generation {
    snapshot: Arc<Snapshot>,
    /// By the steady clock.
    valid: RangeInclusive<i64>,
    content: Making<Content>,
    kept: Mutex<Kept>,
}

struct Kept {
    used: Instant,
    /// A few at most.
    compressed: Vec<KeptPage>,
}

struct KeptPage {
    key: (Format, Coding),
    page: Page,
    used: Instant,
}

enum Page {
    /// Of this generation.
    This(Making<Compressed>),
    /// Of an earlier one: not to be shown any more, but most of the next will be the same.
    Before(Arc<Compressed>),
}

impl Generation {
    fn new(snapshot: Arc<Snapshot>, steady_ms: i64, before: Vec<KeptPage>) -> Self {
        let large = series_at_most(&snapshot) > INLINE_SERIES_MAX;
        let shown = Arc::clone(&snapshot);
        let content = make(large, move || Content::new(shown, steady_ms));
        Self {
            valid: snapshot.same_view_around(steady_ms),
            snapshot,
            content: content.boxed().shared(),
            kept: Mutex::new(Kept {
                used: Instant::now(),
                compressed: before,
            }),
        }
    }

    /// What there is to show.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// What is on the page; `None` if making it has panicked.
    pub async fn content(&self) -> Option<Arc<Content>> {
        self.content.clone().await
    }

    /// Its compressed form, without the exporter's own metrics; `None` if making
    /// it has panicked.
    pub async fn compressed(&self, format: Format, coding: Coding) -> Option<Arc<Compressed>> {
        self.kept(format, coding).await
    }

    fn kept(&self, format: Format, coding: Coding) -> Making<Compressed> {
        let mut kept = lock(&self.kept);
        let now = Instant::now();
        kept.used = now;
        let key = (format, coding);
        let place = kept.compressed.iter().position(|page| page.key == key);
        let mut before = None;
        if let Some(place) = place {
            match &kept.compressed[place].page {
                Page::This(made) => {
                    let made = made.clone();
                    kept.compressed[place].used = now;
                    return made;
                }
                Page::Before(page) => before = Some(Arc::clone(page)),
            }
            kept.compressed.swap_remove(place);
        }
        let content = self.content.clone();
        let names = Names::Every;
        let made = async move { compress(content.await?, format, coding, names, before).await };
        let made = made.boxed().shared();
        kept.compressed.push(KeptPage {
            key,
            page: Page::This(made.clone()),
            used: now,
        });
        made
    }

    /// What the next generation can be made from.
    fn kept_before(&self) -> Vec<KeptPage> {
        let pages = lock(&self.kept);
        let pages = pages.compressed.iter().filter_map(|kept| {
            let page = match &kept.page {
                Page::This(made) => made.peek()?.clone()?,
                Page::Before(page) => Arc::clone(page),
            };
            Some(KeptPage {
                key: kept.key,
                page: Page::Before(page),
                used: kept.used,
            })
        });
        pages.collect()
    }

    /// Answers when to look again; never, if the whole is unused.
    fn forget_unused_at(&self, now: Instant) -> Option<Instant> {
        let mut kept = lock(&self.kept);
        let is_used = |used: Instant| used + KEPT_UNUSED > now;
        kept.compressed.retain(|page| is_used(page.used));
        let pages = kept.compressed.iter().map(|page| page.used);
        let first = pages.chain([kept.used]).min()?;
        is_used(kept.used).then_some(first + KEPT_UNUSED)
    }
}

/// Compresses a page, without the exporter's own metrics, and copies from the page
/// `before` what it has already; `None` if that has panicked.
pub async fn compress(
    content: Arc<Content>,
    format: Format,
    coding: Coding,
    names: Names,
    before: Option<Arc<Compressed>>,
) -> Option<Arc<Compressed>> {
    let large = content.view().series > INLINE_COMPRESSED_MAX;
    let mut writer = Writer::new(content, format, names);
    make(large, move || {
        Compressed::after(before.as_deref(), coding, |piece| writer.write_piece(piece))
    })
    .await
}

/// Runs `work`, which is to be done elsewhere where it is large.
async fn make<T: Send + 'static>(
    large: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<Arc<T>> {
    if !large {
        return Some(Arc::new(work()));
    }
    let done = spawn_blocking(work).await;
    done.inspect_err(|error| error!(%error, "making a page failed"))
        .ok()
        .map(Arc::new)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No change is ever left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
