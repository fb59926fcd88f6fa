//! Keeps the key of another provider, and asks for the next one before it ends:
//! ten minutes or a third of its life before, once at a time, in the background
//! while the old one is still good. From the first use on this needs no further
//! request, and ends when the provider is retired or dropped. When it fails the old
//! one stays in use until it really ends. Keys that live for seconds are asked for
//! more often than others, and once a second at most. Counts failures and tells in
//! the log of every change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::{Context, Credentials, Error, ProvideCredentials};
use crate::clock::Clock;
use crate::observer::Observer;

/// A provider that has to ask others is not asked again sooner, whatever it said,
/// unless its keys have to be replaced sooner than that.
const PAUSE: Duration = Duration::from_secs(10);
/// However short its keys live.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const AHEAD_MS: i64 = 10 * 60 * 1000;

type Outcome = Result<Credentials, Error>;

/// The provider.
pub struct Cached(Arc<Shared>);

struct Shared {
    name: String,
    provider: Arc<dyn ProvideCredentials>,
    observer: Arc<dyn Observer>,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    key: Option<Key>,
    asked: Option<Asked>,
    /// Set while the provider is being asked; closed without a value if that panicked.
    running: Option<watch::Receiver<Option<Outcome>>>,
    /// What the log knows.
    told: Option<Told>,
    /// The provider whose expiry is shown.
    shown: Option<&'static str>,
    /// Runs while an expiry is shown.
    refresher: Option<AbortOnDropHandle<()>>,
    is_retired: bool,
}

/// What the provider answered last.
struct Asked {
    at: Instant,
    /// If it had no key.
    error: Option<Error>,
    /// How long it is left alone.
    pause: Duration,
}

#[derive(Clone)]
struct Key {
    credentials: Credentials,
    refresh_at_ms: Option<i64>,
}

#[derive(PartialEq)]
enum Told {
    /// A provider, and the id of a key that does not end by itself.
    InUse(&'static str, String),
    /// [`Error::kind`]
    Failure(String),
}

impl Cached {
    /// Keeps the key of `provider`.
    pub fn new(context: &Context, provider: Arc<dyn ProvideCredentials>) -> Self {
        Self(Arc::new(Shared {
            name: context.name.clone(),
            observer: Arc::clone(&context.observer),
            clock: context.clock.clone(),
            provider,
            state: Mutex::default(),
        }))
    }

    /// The configuration does not use these credentials any more: requests in
    /// flight get their key, but it is neither refreshed nor shown.
    pub fn retire(&self) {
        let mut state = self.0.state();
        state.is_retired = true;
        state.refresher = None;
        if let Some(provider) = state.shown.take() {
            self.0.observer.credentials_expire(provider, None);
        }
    }
}

impl ProvideCredentials for Cached {
    fn provide(&self) -> BoxFuture<'_, Outcome> {
        Box::pin(async {
            let shared = &self.0;
            if shared.provider.is_local() {
                return shared.settle(shared.provider.provide().await);
            }
            let running = {
                let mut state = shared.state();
                let now_ms = shared.clock.now_millis();
                let paused = state.is_paused();
                match &state.key {
                    Some(key) if key.is_good(now_ms, paused) => {
                        return Ok(key.credentials.clone());
                    }
                    _ => match &state.asked {
                        Some(Asked {
                            error: Some(error), ..
                        }) if paused => return Err(error.clone()),
                        _ => shared.ask(&mut state),
                    },
                }
            };
            answered(running).await
        })
    }

    fn renew<'a>(&'a self, refused: &'a Credentials) -> BoxFuture<'a, bool> {
        Box::pin(async {
            let shared = &self.0;
            let outcome = if shared.provider.is_local() {
                shared.settle(shared.provider.provide().await)
            } else {
                let running = {
                    let mut state = shared.state();
                    match &state.key {
                        // Somebody else was refused too, and has asked meanwhile.
                        Some(key) if !key.credentials.is_same_key(refused) => return true,
                        _ if state.is_paused() => return false,
                        _ => shared.ask(&mut state),
                    }
                };
                answered(running).await
            };
            outcome.is_ok_and(|credentials| !credentials.is_same_key(refused))
        })
    }

    fn is_local(&self) -> bool {
        self.0.provider.is_local()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the provider unless that is under way. A task of its own, so that it
    /// goes on when the poll that wanted it is given up.
    fn ask(self: &Arc<Self>, state: &mut State) -> watch::Receiver<Option<Outcome>> {
        if let Some(running) = &state.running
            && running.has_changed().is_ok()
        {
            return running.clone();
        }
        let (answer, running) = watch::channel(None);
        state.running = Some(running.clone());
        let shared = Arc::clone(self);
        let earliest = state.asked.as_ref().map(|asked| asked.at + PAUSE_MIN);
        tokio::spawn(async move {
            // For the next of keys that live less than that.
            if let Some(earliest) = earliest.filter(|at| *at > Instant::now()) {
                sleep_until(earliest).await;
            }
            let outcome = shared.settle(shared.provider.provide().await);
            answer.send_replace(Some(outcome));
        });
        running
    }

    /// Asks for the next key if it is time to; returns when to look again.
    fn refresh_if_due(self: &Arc<Self>) -> Duration {
        let mut state = self.state();
        // An expired key that could not be replaced is gone.
        let refresh_at_ms = state.key.as_ref().and_then(|key| key.refresh_at_ms);
        let left_ms = refresh_at_ms.map_or(0, |at| at - self.clock.now_millis());
        let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
        let wait = left.max(state.pause_left());
        if wait.is_zero() {
            self.ask(&mut state);
            return PAUSE_MIN;
        }
        // Timers stand still while the machine is suspended.
        wait.min(PAUSE)
    }

    /// Takes in what the provider said.
    fn settle(self: &Arc<Self>, outcome: Outcome) -> Outcome {
        let now_ms = self.clock.now_millis();
        let outcome = outcome.and_then(|credentials| still_good(credentials, now_ms));
        let mut state = self.state();
        let refresh_at_ms = outcome
            .as_ref()
            .ok()
            .and_then(|credentials| credentials.expires_at_ms)
            .map(|ends| refresh_at(now_ms, ends));
        state.asked = Some(Asked {
            at: Instant::now(),
            error: outcome.as_ref().err().cloned(),
            pause: match (&outcome, &state.asked) {
                (Ok(_), _) => pause(now_ms, refresh_at_ms),
                (Err(_), Some(before)) => before.pause,
                (Err(_), None) => PAUSE,
            },
        });
        match &outcome {
            Ok(credentials) => {
                state.key = Some(Key {
                    refresh_at_ms,
                    credentials: credentials.clone(),
                });
                self.show(&mut state, credentials);
                let id = match credentials.expires_at_ms {
                    Some(_) => String::new(),
                    None => credentials.access_key_id.clone(),
                };
                if state.is_news(Told::InUse(credentials.provider, id)) {
                    tracing::info!(
                        credentials = self.name,
                        provider = credentials.provider,
                        access_key_id = credentials.shown_id(),
                        "credentials are in use"
                    );
                }
            }
            Err(error) => {
                self.observer.credentials_failed();
                let ends = state
                    .key
                    .as_ref()
                    .and_then(|key| key.credentials.expires_at_ms);
                let kept = ends.is_some_and(|ends| ends > now_ms);
                if !kept {
                    state.key = None;
                }
                if state.is_news(Told::Failure(error.kind())) {
                    tracing::warn!(
                        credentials = self.name,
                        %error,
                        old_key_in_use = kept,
                        "credentials cannot be had; it is tried again"
                    );
                }
            }
        }
        outcome
    }

    fn show(self: &Arc<Self>, state: &mut State, credentials: &Credentials) {
        if state.is_retired {
            return;
        }
        if let Some(before) = state.shown.take()
            && (before != credentials.provider || credentials.expires_at_ms.is_none())
        {
            self.observer.credentials_expire(before, None);
        }
        if credentials.expires_at_ms.is_some() {
            self.observer
                .credentials_expire(credentials.provider, credentials.expires_at_ms);
            state.shown = Some(credentials.provider);
            let shared = Arc::downgrade(self);
            state
                .refresher
                .get_or_insert_with(|| AbortOnDropHandle::new(tokio::spawn(refresh(shared))));
        } else {
            state.refresher = None;
        }
    }
}

impl State {
    fn is_paused(&self) -> bool {
        !self.pause_left().is_zero()
    }

    fn pause_left(&self) -> Duration {
        let asked = self.asked.as_ref();
        asked.map_or(Duration::ZERO, |asked| {
            asked.pause.saturating_sub(asked.at.elapsed())
        })
    }

    fn is_news(&mut self, told: Told) -> bool {
        let told = Some(told);
        let is_news = self.told != told;
        self.told = told;
        is_news
    }
}

impl Key {
    /// One that does not end by itself may be replaced at its source, and is
    /// good for a moment only.
    fn is_good(&self, now_ms: i64, paused: bool) -> bool {
        match self.credentials.expires_at_ms {
            Some(ends) => now_ms < ends,
            None => paused,
        }
    }
}

/// Refreshes the credentials for as long as they are held.
async fn refresh(shared: Weak<Shared>) {
    while let Some(wait) = shared.upgrade().map(|shared| shared.refresh_if_due()) {
        sleep(wait).await;
    }
}

async fn answered(mut running: watch::Receiver<Option<Outcome>>) -> Outcome {
    match running.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(outcome)) => outcome.clone(),
        _ => Err(Error::broken("credentials", "the provider has crashed")),
    }
}

/// A key that has ended before it came is none.
fn still_good(credentials: Credentials, now_ms: i64) -> Outcome {
    match credentials.expires_at_ms {
        Some(ends) if ends <= now_ms => Err(Error::broken(
            credentials.provider,
            "gives a key that has ended already; is the clock of this machine right?",
        )),
        _ => Ok(credentials),
    }
}

/// When to ask for the next key: ten minutes before the end, or when a third of
/// the life is left if that is later. All in Unix time, milliseconds.
fn refresh_at(now_ms: i64, ends_ms: i64) -> i64 {
    ends_ms - ((ends_ms - now_ms) / 3).clamp(0, AHEAD_MS)
}

/// How long to leave a provider alone whose key is to be replaced then.
fn pause(now_ms: i64, refresh_at_ms: Option<i64>) -> Duration {
    let until = refresh_at_ms.and_then(|at| u64::try_from(at - now_ms).ok());
    until.map_or(PAUSE, |until| {
        Duration::from_millis(until).clamp(PAUSE_MIN, PAUSE)
    })
}

#[cfg(test)]
mod tests;
