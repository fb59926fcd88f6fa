//! Passwords: HTTP's basic authentication against bcrypt hashes.
//!
//! A hash takes a quarter of a second of a processor at the usual cost. So it is
//! computed off the thread that everything else runs on, one at a time, once for
//! each user and password however many ask at once, and the outcome is kept. An
//! unknown user costs as much as a known one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::spawn_blocking;
use tracing::error;

use super::web::Users;

/// Logins kept for each outcome. They are kept apart: any number of wrong ones
/// pushes out no right one.
const KEPT: usize = 100;

/// Different logins that may wait for their hash; more are sent away.
const WAITING: usize = 32;

/// Outcome of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Login {
    Right,
    Wrong,
    /// Too many wait already.
    Busy,
}

/// What stands for user, hash and password.
type Key = [u8; 32];

/// Passwords checked.
pub(super) struct Auth {
    secret: SecretSlice<u8>,
    known: Mutex<Known>,
    /// What is being computed, or waits for it.
    flights: Mutex<HashMap<Key, Arc<OnceCell<bool>>>>,
    lane: Arc<Semaphore>,
    #[cfg(test)]
    pub(super) hashes: std::sync::atomic::AtomicUsize,
}

#[derive(Default)]
struct Known {
    right: Kept,
    wrong: Kept,
}

/// The newest of its kind.
#[derive(Default)]
struct Kept(VecDeque<Key>);

impl Kept {
    fn add(&mut self, key: Key) {
        if self.0.contains(&key) {
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(key);
    }
}

impl Auth {
    /// # Panics
    ///
    /// Where the system has no randomness.
    pub(super) fn new() -> Arc<Self> {
        let mut secret = vec![0; 32];
        getrandom::fill(&mut secret).expect("the system's randomness");
        Arc::new(Self {
            secret: secret.into(),
            known: Mutex::default(),
            flights: Mutex::default(),
            lane: Arc::new(Semaphore::new(1)),
            #[cfg(test)]
            hashes: std::sync::atomic::AtomicUsize::new(0),
        })
    }

    /// Judges what a client has sent against `users`.
    pub(super) async fn check(
        self: &Arc<Self>,
        users: &Users,
        authorization: Option<&HeaderValue>,
    ) -> Login {
        let Some((user, password)) = authorization.and_then(credentials) else {
            return Login::Wrong;
        };
        let found = std::str::from_utf8(user.expose_secret())
            .ok()
            .and_then(|user| users.get(user));
        let (hash, is_known) = match found {
            Some(hash) => (hash.expose_secret().to_owned(), true),
            None => (dummy(users), false),
        };
        let key = self.key([
            user.expose_secret(),
            hash.as_bytes(),
            password.expose_secret(),
        ]);
        let login = self.login(key, hash, password).await;
        match login {
            Login::Right if !is_known => Login::Wrong,
            login => login,
        }
    }

    async fn login(self: &Arc<Self>, key: Key, hash: String, password: SecretSlice<u8>) -> Login {
        if let Some(right) = self.known(&key) {
            return outcome(right);
        }
        let flight = {
            let mut flights = self.flights();
            if !flights.contains_key(&key) && flights.len() >= WAITING {
                return Login::Busy;
            }
            Arc::clone(flights.entry(key).or_default())
        };
        // Whoever leaves takes the flight along when nobody else is on it.
        let _leave = Leave { auth: self, key };
        let right = flight.get_or_init(|| self.compute(key, hash, password));
        outcome(*right.await)
    }

    /// Computes the hash where nobody has done so in the meantime.
    async fn compute(self: &Arc<Self>, key: Key, hash: String, password: SecretSlice<u8>) -> bool {
        let lane = Arc::clone(&self.lane).acquire_owned().await;
        if let Some(right) = self.known(&key) {
            return right;
        }
        let auth = Arc::clone(self);
        let computing = spawn_blocking(move || {
            // Held to the end, though the client may be gone by then.
            let _lane = lane;
            #[cfg(test)]
            auth.hashes
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let right = bcrypt::verify(password.expose_secret(), &hash).unwrap_or(false);
            let mut known = auth.known.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = if right {
                &mut known.right
            } else {
                &mut known.wrong
            };
            kept.add(key);
            right
        });
        computing
            .await
            .inspect_err(|error| error!(%error, "a password could not be checked"))
            .unwrap_or(false)
    }

    fn known(&self, key: &Key) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = known.wrong.0.contains(key).then_some(false);
        known.right.0.contains(key).then_some(true).or(wrong)
    }

    /// No password can be found from it without the secret of this process.
    fn key(&self, parts: [&[u8]; 3]) -> Key {
        let secret = self.secret.expose_secret();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("keys have any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Key, Arc<OnceCell<bool>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn outcome(right: bool) -> Login {
    if right { Login::Right } else { Login::Wrong }
}

/// Gives a flight up that nobody else is on.
struct Leave<'a> {
    auth: &'a Auth,
    key: Key,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut flights = self.auth.flights();
        let is_last = |flight: &Arc<OnceCell<bool>>| Arc::strong_count(flight) <= 2;
        if flights.get(&self.key).is_some_and(is_last) {
            flights.remove(&self.key);
        }
    }
}

/// User and password of an `Authorization` header.
fn credentials(header: &HeaderValue) -> Option<(SecretSlice<u8>, SecretSlice<u8>)> {
    let (scheme, rest) = header.as_bytes().split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let both: SecretSlice<u8> = BASE64_STANDARD.decode(rest.trim_ascii()).ok()?.into();
    let both = both.expose_secret();
    let colon = both.iter().position(|byte| *byte == b':')?;
    Some((
        both[..colon].to_vec().into(),
        both[colon + 1..].to_vec().into(),
    ))
}

/// What the password of an unknown user is compared with: as costly as the most
/// costly of the known ones, and nobody's.
fn dummy(users: &Users) -> String {
    let costs = users.values().filter_map(|hash| {
        let cost = hash.expose_secret().get(4..6)?;
        cost.parse::<u32>().ok()
    });
    let cost = costs.max().unwrap_or(bcrypt::DEFAULT_COST);
    format!("$2b${cost:02}$......................{}", ".".repeat(31))
}
