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

use crate::source::Users;

/// Logins kept for each outcome. They are kept apart: any number of wrong ones
/// pushes out no right one.
const KEPT: usize = 100;

/// Different logins that may wait for their hash; more are sent away.
const WAITING: usize = 32;

/// Outcome of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    Right,
    Wrong,
    /// Too many wait already.
    Busy,
}

/// What stands for user, hash and password.
type Key = [u8; 32];

/// Passwords checked.
pub(crate) struct Auth {
    secret: SecretSlice<u8>,
    known: Mutex<Known>,
    /// What is being computed, or waits for it.
    flights: Mutex<HashMap<Key, Arc<OnceCell<bool>>>>,
    lane: Arc<Semaphore>,
    #[cfg(test)]
    pub(crate) hashes: std::sync::atomic::AtomicUsize,
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
    pub(crate) fn new() -> Arc<Self> {
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
    pub(crate) async fn check(
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::*;

    // By libxcrypt, an implementation that is not ours.
    const OPEN_SESAME: &str = "$2b$04$qhQRTwbig3OYIK9dUsm5DeQgp0vmt0/j/mm3hA1GPT6ANBEQboqSS";
    const S3CRET: &str = "$2b$05$dyHv.touSbZfA/zsWzR.ceLj6GLCeOVV/tqz5AMoQvKxKULChdvu.";
    const COST_TWELVE: &str = "$2b$12$Qh6rw682ZHCyIuEyPVRozunBJdXmU.f42FqVuhuM6TDKihZm5abO.";

    fn users(users: &[(&str, &str)]) -> Users {
        let users = users.iter();
        users
            .map(|(user, hash)| ((*user).to_owned(), (*hash).into()))
            .collect()
    }

    fn basic(user: &str, password: &str) -> HeaderValue {
        let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
        HeaderValue::try_from(format!("Basic {both}")).unwrap()
    }

    async fn login(auth: &Arc<Auth>, users: &Users, user: &str, password: &str) -> Login {
        auth.check(users, Some(&basic(user, password))).await
    }

    fn hashes(auth: &Auth) -> usize {
        auth.hashes.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn many_equal_logins_cost_one_hash() {
        let auth = Auth::new();
        let users = users(&[("prometheus", COST_TWELVE)]);
        let logins = (0..50).map(|_| login(&auth, &users, "prometheus", "cost twelve"));
        let logins = join_all(logins).await;
        assert_eq!(logins, [Login::Right; 50]);
        assert_eq!(hashes(&auth), 1);
        let again = login(&auth, &users, "prometheus", "cost twelve").await;
        assert_eq!((again, hashes(&auth)), (Login::Right, 1));
        assert!(auth.flights().is_empty());
    }

    #[tokio::test]
    async fn wrong_passwords_and_unknown_users_cost_one_hash_each() {
        let auth = Auth::new();
        let users = users(&[("anna", OPEN_SESAME), ("bob", S3CRET)]);
        let wrong = [
            ("anna", "open"),
            ("carol", "open"),
            ("carol", "open sesame"),
            ("bob", "open sesame"),
            ("", ""),
        ];
        for (index, (user, password)) in wrong.into_iter().enumerate() {
            for _ in 0..3 {
                let login = login(&auth, &users, user, password).await;
                assert_eq!(login, Login::Wrong, "{user}");
                assert_eq!(hashes(&auth), index + 1, "{user}");
            }
        }
        assert_eq!(
            login(&auth, &users, "anna", "open sesame").await,
            Login::Right
        );
        assert_eq!(login(&auth, &users, "bob", "s3cret").await, Login::Right);
    }

    #[test]
    fn an_unknown_user_costs_as_much_as_the_most_costly() {
        let cost = |users: &Users| {
            let parts: bcrypt::HashParts = dummy(users).parse().unwrap();
            parts.get_cost()
        };
        assert_eq!(cost(&users(&[("a", OPEN_SESAME)])), 4);
        assert_eq!(cost(&users(&[("a", COST_TWELVE), ("b", S3CRET)])), 12);
    }

    #[tokio::test]
    async fn a_flood_of_wrong_passwords_pushes_out_no_right_one() {
        let auth = Auth::new();
        let users = users(&[("anna", OPEN_SESAME)]);
        login(&auth, &users, "anna", "open sesame").await;
        for number in 0..=KEPT {
            login(&auth, &users, "anna", &number.to_string()).await;
        }
        assert_eq!(hashes(&auth), KEPT + 2);
        let right = login(&auth, &users, "anna", "open sesame").await;
        assert_eq!((right, hashes(&auth)), (Login::Right, KEPT + 2));
        // The first of them is forgotten, the last is not.
        login(&auth, &users, "anna", &KEPT.to_string()).await;
        assert_eq!(hashes(&auth), KEPT + 2);
        login(&auth, &users, "anna", "0").await;
        assert_eq!(hashes(&auth), KEPT + 3);
    }

    #[tokio::test]
    async fn a_changed_password_ends_the_old_one() {
        let auth = Auth::new();
        let before = users(&[("anna", OPEN_SESAME)]);
        assert_eq!(
            login(&auth, &before, "anna", "open sesame").await,
            Login::Right
        );
        let after = users(&[("anna", S3CRET)]);
        assert_eq!(
            login(&auth, &after, "anna", "open sesame").await,
            Login::Wrong
        );
        assert_eq!(login(&auth, &after, "anna", "s3cret").await, Login::Right);
        let gone = users(&[("bob", OPEN_SESAME)]);
        assert_eq!(
            login(&auth, &gone, "anna", "open sesame").await,
            Login::Wrong
        );
    }

    #[tokio::test]
    async fn only_so_many_wait_and_one_is_computed_at_a_time() {
        let auth = Auth::new();
        let users = users(&[("anna", OPEN_SESAME)]);
        let lane = Arc::clone(&auth.lane).acquire_owned().await.unwrap();
        let passwords: Vec<String> = (0..WAITING).map(|number| number.to_string()).collect();
        let mut waiting: Vec<_> = passwords
            .iter()
            .map(|password| Box::pin(login(&auth, &users, "anna", password)))
            .collect();
        for login in &mut waiting {
            assert!(login.now_or_never().is_none());
        }
        assert_eq!(hashes(&auth), 0);
        assert_eq!(
            login(&auth, &users, "anna", "open sesame").await,
            Login::Busy
        );
        // One that is waited for already is no burden, and one that leaves makes room.
        let mut same = Box::pin(login(&auth, &users, "anna", "0"));
        assert!((&mut same).now_or_never().is_none());
        waiting.pop();
        let mut right = Box::pin(login(&auth, &users, "anna", "open sesame"));
        assert!((&mut right).now_or_never().is_none());
        drop(lane);
        let (right, same, wrong) = tokio::join!(right, same, join_all(waiting));
        assert_eq!((right, same), (Login::Right, Login::Wrong));
        assert_eq!(wrong, [Login::Wrong; WAITING - 1]);
        assert_eq!(hashes(&auth), WAITING);
    }

    #[tokio::test]
    async fn a_client_that_leaves_wastes_no_hash() {
        let auth = Auth::new();
        let users = users(&[("prometheus", COST_TWELVE)]);
        let mut first = Box::pin(login(&auth, &users, "prometheus", "cost twelve"));
        // Far enough for the hash to be on its way.
        assert!((&mut first).now_or_never().is_none());
        assert_eq!(auth.lane.available_permits(), 0);
        drop(first);
        let second = login(&auth, &users, "prometheus", "cost twelve").await;
        assert_eq!((second, hashes(&auth)), (Login::Right, 1));
    }

    #[tokio::test]
    async fn what_is_no_basic_authentication_costs_nothing() {
        let auth = Auth::new();
        let users = users(&[("anna", OPEN_SESAME)]);
        assert_eq!(auth.check(&users, None).await, Login::Wrong);
        for header in [
            "",
            "Basic",
            "Basic ",
            "Bearer YW5uYTpvcGVuIHNlc2FtZQ==",
            "BasicYW5uYTpvcGVuIHNlc2FtZQ==",
            "Basic ???",
            // anna
            "Basic YW5uYQ==",
        ] {
            let header = HeaderValue::from_static(header);
            let login = auth.check(&users, Some(&header)).await;
            assert_eq!(login, Login::Wrong, "{header:?}");
        }
        assert_eq!(hashes(&auth), 0);
        // anna:open sesame
        for header in [
            "Basic YW5uYTpvcGVuIHNlc2FtZQ==",
            "bASIC  YW5uYTpvcGVuIHNlc2FtZQ== ",
        ] {
            let header = HeaderValue::from_static(header);
            assert_eq!(auth.check(&users, Some(&header)).await, Login::Right);
        }
    }
}
