//! In paused time: the wall clock is moved together with tokio's.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use proptest::prelude::*;
use tokio::time::{advance, sleep};

use super::{Cached, Outcome, refresh_at};
use crate::clock::Clock;
use crate::credentials::{Addresses, Context, Credentials, Error, ProvideCredentials};
use crate::http::Http;
use crate::observer::testing::Recorder;

const START_MS: i64 = 1_767_323_045_000;
const MINUTE: i64 = 60_000;

fn key(id: &str, ends_ms: Option<i64>) -> Credentials {
    Credentials {
        access_key_id: id.to_owned(),
        access_key_secret: "EXAMPLE-secret".into(),
        security_token: Some("EXAMPLE-token".into()),
        expires_at_ms: ends_ms,
        provider: "uri",
    }
}

fn failure(problem: &str) -> Outcome {
    Err(Error::broken("uri", problem))
}

/// Gives its answers one after the other, the last one for ever, each after `takes`.
struct Scripted {
    answers: Mutex<VecDeque<Outcome>>,
    takes: Duration,
    is_local: bool,
    panics: AtomicBool,
    calls: AtomicUsize,
}

impl ProvideCredentials for Scripted {
    fn provide(&self) -> BoxFuture<'_, Outcome> {
        Box::pin(async {
            self.calls.fetch_add(1, Ordering::Relaxed);
            if !self.takes.is_zero() {
                sleep(self.takes).await;
            }
            assert!(!self.panics.swap(false, Ordering::Relaxed), "on purpose");
            let mut answers = self.answers.lock().expect("not poisoned");
            if answers.len() > 1 {
                answers.pop_front().expect("more than one")
            } else {
                answers[0].clone()
            }
        })
    }

    fn is_local(&self) -> bool {
        self.is_local
    }
}

fn context(recorder: &Arc<Recorder>, clock: &Clock) -> Context {
    Context {
        name: "prod".to_owned(),
        http: Http::with_roots("test", rustls::RootCertStore::empty()).expect("TLS"),
        observer: Arc::clone(recorder) as _,
        clock: clock.clone(),
        addresses: Addresses::default(),
        home: None,
        session_name: "test".to_owned(),
    }
}

struct Setup {
    clock: Clock,
    recorder: Arc<Recorder>,
    scripted: Arc<Scripted>,
    cached: Cached,
}

impl Setup {
    fn new(answers: impl IntoIterator<Item = Outcome>) -> Self {
        Self::with(answers, Duration::ZERO, false)
    }

    fn with(answers: impl IntoIterator<Item = Outcome>, takes: Duration, is_local: bool) -> Self {
        let clock = Clock::fixed(START_MS);
        let recorder = Arc::new(Recorder::default());
        let context = context(&recorder, &clock);
        let scripted = Arc::new(Scripted {
            answers: Mutex::new(answers.into_iter().collect()),
            takes,
            is_local,
            panics: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
        });
        let cached = Cached::new(
            &context,
            Arc::clone(&scripted) as Arc<dyn ProvideCredentials>,
        );
        Self {
            clock,
            recorder,
            scripted,
            cached,
        }
    }

    async fn pass(&self, seconds: u64) {
        self.pass_ms(seconds * 1000).await;
    }

    async fn pass_ms(&self, millis: u64) {
        let passed = i64::try_from(millis).expect("a short time");
        self.clock.set(self.clock.now_millis() + passed);
        advance(Duration::from_millis(millis)).await;
        settle().await;
    }

    /// The key's id, or the error.
    async fn id(&self) -> String {
        let provided = self.cached.provide().await;
        settle().await;
        match provided {
            Ok(credentials) => credentials.access_key_id,
            Err(error) => error.to_string(),
        }
    }

    fn calls(&self) -> usize {
        self.scripted.calls.load(Ordering::Relaxed)
    }

    fn failures(&self) -> u64 {
        self.recorder.failures()
    }
}

struct Capture(Arc<Mutex<Vec<u8>>>);

impl io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("not poisoned")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lets background tasks go as far as they can without time passing.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_next_key_is_asked_for_ten_minutes_or_a_third_of_the_life_before_the_end() {
    for (life, before) in [
        (60 * MINUTE, 10 * MINUTE),
        (30 * MINUTE, 10 * MINUTE),
        (15 * MINUTE, 5 * MINUTE),
        (MINUTE, MINUTE / 3),
        (3, 1),
        (2, 0),
        (0, 0),
        (-MINUTE, 0),
    ] {
        let ends = START_MS + life;
        assert_eq!(refresh_at(START_MS, ends), ends - before, "{life}");
    }
}

proptest! {
    #[test]
    fn the_next_key_is_asked_for_within_the_life(now in 0..i64::MAX / 4, life in 0..i64::MAX / 4) {
        let at = refresh_at(now, now + life);
        prop_assert!((now..=now + life).contains(&at));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_serves_until_it_is_due_and_is_replaced_in_the_background() {
    let ends = START_MS + 60 * MINUTE;
    let setup = Setup::with(
        [
            Ok(key("first", Some(ends))),
            Ok(key("second", Some(ends + 60 * MINUTE))),
        ],
        Duration::from_secs(5),
        false,
    );
    assert_eq!(setup.id().await, "first");
    setup.pass(50 * 60 - 10).await;
    assert_eq!(setup.id().await, "first");
    assert_eq!(setup.calls(), 1);
    // Ten minutes before the end the next is asked for, and nobody waits for it.
    setup.pass(10).await;
    for _ in 0..3 {
        assert_eq!(setup.id().await, "first");
    }
    assert_eq!(setup.calls(), 2);
    setup.pass(5).await;
    assert_eq!(setup.id().await, "second");
    assert_eq!(setup.calls(), 2);
    assert_eq!(setup.failures(), 0);
}

#[tokio::test(start_paused = true)]
async fn many_callers_make_one_request() {
    let first = key("first", Some(START_MS + MINUTE));
    let setup = Setup::with([Ok(first)], Duration::from_secs(1), false);
    let ids = join_all((0..50).map(|_| setup.id())).await;
    assert!(ids.iter().all(|id| id == "first"));
    assert_eq!(setup.calls(), 1);
    // And the same failure reaches all of them.
    let setup = Setup::with([failure("no")], Duration::from_secs(1), false);
    let ids = join_all((0..50).map(|_| setup.id())).await;
    assert!(ids.iter().all(|id| id == "uri: no"));
    assert_eq!((setup.calls(), setup.failures()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_on_when_its_caller_is_gone() {
    let first = key("first", Some(START_MS + MINUTE));
    let setup = Setup::with([Ok(first)], Duration::from_secs(5), false);
    let given_up = tokio::time::timeout(Duration::from_secs(1), setup.cached.provide()).await;
    assert!(given_up.is_err());
    setup.pass(4).await;
    assert_eq!(setup.id().await, "first");
    assert_eq!(setup.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_old_key_serves_until_it_ends_and_failures_are_ten_seconds_apart() {
    let first = key("first", Some(START_MS + MINUTE));
    let setup = Setup::new([Ok(first), failure("no")]);
    assert_eq!(setup.id().await, "first");
    let mut calls = Vec::new();
    for second in 1..100 {
        setup.pass(1).await;
        let expected = if second < 60 { "first" } else { "uri: no" };
        assert_eq!(setup.id().await, expected, "{second}");
        calls.push(setup.calls());
    }
    // Due after 40 s, then at most every ten.
    let asked: Vec<_> = (1..99)
        .filter(|at| calls[*at] > calls[*at - 1])
        .map(|at| at + 1)
        .collect();
    assert_eq!(asked, [40, 50, 60, 70, 80, 90]);
    assert_eq!(setup.failures(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_not_the_end() {
    let first = key("first", Some(START_MS + MINUTE));
    let second = key("second", Some(START_MS + 60 * MINUTE));
    let setup = Setup::new([failure("no"), Ok(first), failure("no"), Ok(second)]);
    assert_eq!(setup.id().await, "uri: no");
    setup.pass(9).await;
    assert_eq!(setup.id().await, "uri: no");
    assert_eq!(setup.calls(), 1);
    setup.pass(1).await;
    assert_eq!(setup.id().await, "first");
    // Due (50 s of life are left, a third is 16.7 s), fails; ten seconds on it works.
    setup.pass(34).await;
    assert_eq!(setup.id().await, "first");
    assert_eq!((setup.calls(), setup.failures()), (3, 2));
    setup.pass(10).await;
    assert_eq!(setup.id().await, "second");
    assert_eq!((setup.calls(), setup.failures()), (4, 2));
}

/// Gives keys that live so long, but for the call that is to fail.
struct Fresh {
    clock: Clock,
    life_ms: i64,
    fails: Option<usize>,
    calls: AtomicUsize,
}

impl ProvideCredentials for Fresh {
    fn provide(&self) -> BoxFuture<'_, Outcome> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let ends = self.clock.now_millis() + self.life_ms;
        Box::pin(std::future::ready(if self.fails == Some(call) {
            failure("no")
        } else {
            Ok(key(&call.to_string(), Some(ends)))
        }))
    }
}

fn fresh(life_ms: i64, fails: Option<usize>) -> (Setup, Arc<Fresh>) {
    let mut setup = Setup::new([failure("not asked")]);
    let fresh = Arc::new(Fresh {
        clock: setup.clock.clone(),
        life_ms,
        fails,
        calls: AtomicUsize::new(0),
    });
    let context = context(&setup.recorder, &setup.clock);
    setup.cached = Cached::new(&context, Arc::clone(&fresh) as Arc<dyn ProvideCredentials>);
    (setup, fresh)
}

#[tokio::test(start_paused = true)]
async fn keys_that_live_for_seconds_serve_without_a_gap_and_without_a_storm() {
    // Asked for when two thirds are over, but a second after the last at the soonest:
    // in a minute the first and then one each 6, 3.4 (of 3.333, at the next use),
    // and 1 s.
    for (life_ms, expected) in [(9_000, 11), (5_000, 18), (1_200, 61), (1_000, 61)] {
        let (setup, fresh) = fresh(life_ms, None);
        for tenth in 0..=600 {
            let given = setup.cached.provide().await.expect("a key");
            let ends = given.expires_at_ms.expect("an end");
            assert!(setup.clock.now_millis() < ends, "{life_ms}: {tenth}");
            settle().await;
            if tenth < 600 {
                setup.pass_ms(100).await;
            }
        }
        assert_eq!(fresh.calls.load(Ordering::Relaxed), expected, "{life_ms}");
        assert_eq!(setup.failures(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_the_next_of_keys_that_live_less_than_a_second_waits_for_it() {
    let (setup, fresh) = fresh(300, None);
    assert_eq!(setup.id().await, "1");
    setup.pass_ms(300).await;
    let calls = async {
        let mut calls = Vec::new();
        for _ in 0..7 {
            calls.push(fresh.calls.load(Ordering::Relaxed));
            setup.pass_ms(100).await;
        }
        calls
    };
    let (ids, calls) = tokio::join!(join_all((0..20).map(|_| setup.id())), calls);
    assert_eq!(ids, ["2"; 20]);
    assert_eq!(calls, [1; 7]);
    assert_eq!(fresh.calls.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_does_not_keep_a_provider_of_short_lived_keys_away_for_ten_seconds() {
    let (setup, fresh) = fresh(6_000, Some(2));
    let mut gaps = 0;
    for _ in 0..300 {
        gaps += u32::from(setup.cached.provide().await.is_err());
        settle().await;
        setup.pass_ms(100).await;
    }
    // The second is asked for after 4 s, the third 4 s later: 2 s after the
    // end of the first, in which 20 uses fall.
    assert_eq!((gaps, setup.failures()), (20, 1));
    assert_eq!(fresh.calls.load(Ordering::Relaxed), 8);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_ended_before_it_came_is_a_failure() {
    let setup = Setup::new([Ok(key("old", Some(START_MS)))]);
    assert_eq!(
        setup.id().await,
        "uri: gives a key that has ended already; is the clock of this machine right?"
    );
    assert_eq!(setup.failures(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_without_end_is_asked_for_again_after_ten_seconds() {
    let setup = Setup::new([
        Ok(key("first", None)),
        Ok(key("second", None)),
        failure("gone"),
    ]);
    assert_eq!(setup.id().await, "first");
    setup.pass(9).await;
    assert_eq!(setup.id().await, "first");
    setup.pass(1).await;
    assert_eq!(setup.id().await, "second");
    setup.pass(10).await;
    assert_eq!(setup.id().await, "uri: gone");
    assert_eq!(setup.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_local_is_read_at_every_use() {
    let setup = Setup::with(
        [
            Ok(key("first", None)),
            failure("gone"),
            failure("gone"),
            Ok(key("second", None)),
        ],
        Duration::ZERO,
        true,
    );
    assert_eq!(setup.id().await, "first");
    assert_eq!(setup.id().await, "uri: gone");
    assert_eq!(setup.id().await, "uri: gone");
    assert_eq!(setup.id().await, "second");
    assert_eq!(setup.failures(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_renewed_once() {
    let ends = Some(START_MS + 60 * MINUTE);
    let setup = Setup::new([
        Ok(key("first", ends)),
        Ok(key("second", ends)),
        failure("no"),
    ]);
    let first = setup.cached.provide().await.expect("a key");
    // Just asked: another request would give the same.
    assert!(!setup.cached.renew(&first).await);
    setup.pass(10).await;
    let renewals = join_all((0..20).map(|_| setup.cached.renew(&first))).await;
    assert!(renewals.iter().all(|renewed| *renewed));
    assert_eq!(setup.calls(), 2);
    assert_eq!(setup.id().await, "second");
    // A late refusal of the first key asks for nothing.
    assert!(setup.cached.renew(&first).await);
    assert_eq!(setup.calls(), 2);
    // What cannot be renewed stays in use.
    setup.pass(10).await;
    let second = setup.cached.provide().await.expect("a key");
    assert!(!setup.cached.renew(&second).await);
    assert_eq!((setup.calls(), setup.failures()), (3, 1));
    assert_eq!(setup.id().await, "second");
}

#[tokio::test(start_paused = true)]
async fn a_refused_local_key_is_renewed_where_it_has_changed() {
    let first = key("first", None);
    let answers = [Ok(first.clone()), Ok(key("second", None))];
    let setup = Setup::with(answers, Duration::ZERO, true);
    assert!(!setup.cached.renew(&first).await);
    assert!(setup.cached.renew(&first).await);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_panics_can_be_asked_again() {
    let setup = Setup::new([Ok(key("first", None))]);
    setup.scripted.panics.store(true, Ordering::Relaxed);
    assert_eq!(setup.id().await, "credentials: the provider has crashed");
    assert_eq!(setup.id().await, "first");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_key_is_shown_by_provider() {
    let ends = START_MS + MINUTE;
    let other = Credentials {
        provider: "oidc",
        ..key("second", Some(ends + MINUTE))
    };
    let setup = Setup::new([
        Ok(key("first", Some(ends))),
        Ok(other),
        Ok(key("third", None)),
    ]);
    let shown = |setup: &Setup| setup.recorder.expirations();
    assert_eq!(shown(&setup), []);
    setup.id().await;
    assert_eq!(shown(&setup), [("uri", 1_767_323_105_000)]);
    setup.pass(60).await;
    setup.id().await;
    assert_eq!(shown(&setup), [("oidc", 1_767_323_165_000)]);
    setup.pass(60).await;
    setup.id().await;
    assert_eq!(shown(&setup), []);
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_of_changes_and_of_no_secret() {
    let ends = |minutes| Some(START_MS + minutes * MINUTE);
    // Due at 40 s and at 94 s; then tried each ten, beyond the end at 120 s.
    let no = |request: &str| {
        let text = format!("no, in request {request}");
        Err(Error::broken_as("uri", text, "no".to_owned()))
    };
    let setup = Setup::new([
        Ok(key("STS.firstAAAA", ends(1))),
        Ok(key("STS.secondBBBB", ends(2))),
        no("1"),
        no("2"),
        failure("not now"),
        failure("gone"),
        Ok(key("STS.thirdCCCC", ends(60))),
    ]);
    let log = Arc::<Mutex<Vec<u8>>>::default();
    let lines = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || Capture(Arc::clone(&lines)))
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    for _ in 0..200 {
        setup.id().await;
        setup.pass(1).await;
    }
    drop(guard);
    assert_eq!(setup.calls(), 7);
    let log = String::from_utf8(log.lock().expect("not poisoned").clone()).expect("text");
    let told: Vec<_> = log
        .lines()
        .map(|line| line.split_once("cached: ").expect("a target").1)
        .collect();
    assert_eq!(
        told,
        [
            "credentials are in use credentials=\"prod\" provider=\"uri\" access_key_id=\"…AAAA\"",
            "credentials cannot be had; it is tried again credentials=\"prod\" error=uri: no, in request 1 old_key_in_use=true",
            "credentials cannot be had; it is tried again credentials=\"prod\" error=uri: not now old_key_in_use=true",
            "credentials cannot be had; it is tried again credentials=\"prod\" error=uri: gone old_key_in_use=false",
            "credentials are in use credentials=\"prod\" provider=\"uri\" access_key_id=\"…CCCC\"",
        ]
    );
}

impl Setup {
    /// Seconds until the reported expiration.
    fn seconds_left(&self) -> Option<i64> {
        match self.recorder.expirations()[..] {
            [] => None,
            [(_, at_ms)] => Some((at_ms - self.clock.now_millis()) / 1000),
            ref several => panic!("{several:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn expiring_credentials_are_refreshed_without_any_request() {
    let (setup, fresh) = fresh(15 * MINUTE, None);
    assert_eq!(setup.id().await, "1");
    let mut least = i64::MAX;
    for _ in 0..6 * 3600 {
        setup.pass(1).await;
        least = least.min(setup.seconds_left().expect("shown"));
    }
    // A third of 15 min before the end; the alert fires below 180 s.
    assert_eq!(least, 301);
    // The first, and one each 10 min for 6 h.
    assert_eq!(fresh.calls.load(Ordering::Relaxed), 1 + 36);
    assert_eq!(setup.failures(), 0);
    assert_eq!(setup.id().await, "37");
}

#[tokio::test(start_paused = true)]
async fn credentials_that_were_never_asked_for_are_not_refreshed() {
    let (setup, fresh) = fresh(15 * MINUTE, None);
    for _ in 0..360 {
        setup.pass(10).await;
    }
    assert_eq!(fresh.calls.load(Ordering::Relaxed), 0);
    assert_eq!(setup.seconds_left(), None);
}

/// As a role: it asks its source whenever it is asked.
struct Role {
    source: Arc<Cached>,
    own: Arc<Fresh>,
}

impl ProvideCredentials for Role {
    fn provide(&self) -> BoxFuture<'_, Outcome> {
        Box::pin(async {
            self.source.provide().await?;
            self.own.provide().await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn the_source_of_a_role_is_refreshed_without_any_request_too() {
    let (setup, role) = fresh(60 * MINUTE, None);
    let source = Arc::new(Fresh {
        clock: setup.clock.clone(),
        life_ms: 15 * MINUTE,
        fails: None,
        calls: AtomicUsize::new(0),
    });
    let of_entry = |name: &str| Context {
        name: name.to_owned(),
        ..context(&setup.recorder, &setup.clock)
    };
    let cached = Cached::new(
        &of_entry("role"),
        Arc::new(Role {
            source: Arc::new(Cached::new(
                &of_entry("source"),
                Arc::clone(&source) as Arc<dyn ProvideCredentials>,
            )),
            own: Arc::clone(&role),
        }),
    );
    cached.provide().await.expect("a key");
    for _ in 0..360 {
        setup.pass(10).await;
    }
    // In an hour: the role after 50 min, its source each 10 min.
    assert_eq!(role.calls.load(Ordering::Relaxed), 2);
    assert_eq!(source.calls.load(Ordering::Relaxed), 7);
    // Nothing uses the source any more when the role is gone.
    drop(cached);
    for _ in 0..360 {
        setup.pass(10).await;
    }
    assert_eq!(role.calls.load(Ordering::Relaxed), 2);
    assert_eq!(source.calls.load(Ordering::Relaxed), 7);
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_is_retried_each_ten_seconds_without_any_request() {
    let first = key("first", Some(START_MS + 15 * MINUTE));
    let second = key("second", Some(START_MS + 75 * MINUTE));
    // Due after 600 s; the first ends at 900 s, while it still fails.
    let failures = std::iter::repeat_n(failure("no"), 40);
    let answers = [Ok(first)].into_iter().chain(failures).chain([Ok(second)]);
    let setup = Setup::new(answers);
    assert_eq!(setup.id().await, "first");
    for _ in 1..=999 {
        setup.pass(1).await;
    }
    assert_eq!((setup.calls(), setup.failures()), (1 + 40, 40));
    assert_eq!(setup.seconds_left(), Some(900 - 999));
    setup.pass(1).await;
    assert_eq!((setup.calls(), setup.failures()), (1 + 41, 40));
    assert_eq!(setup.seconds_left(), Some(75 * 60 - 1000));
    assert_eq!(setup.id().await, "second");
}

#[tokio::test(start_paused = true)]
async fn credentials_that_expired_while_the_machine_slept_are_refreshed_after_ten_seconds() {
    let (setup, fresh) = fresh(15 * MINUTE, None);
    assert_eq!(setup.id().await, "1");
    // Timers stand still in a suspend, the wall clock does not.
    setup.clock.set(setup.clock.now_millis() + 4 * 60 * MINUTE);
    settle().await;
    assert_eq!(setup.seconds_left(), Some(15 * 60 - 4 * 3600));
    setup.pass(10).await;
    assert_eq!(fresh.calls.load(Ordering::Relaxed), 2);
    assert_eq!(setup.seconds_left(), Some(15 * 60));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_do_not_expire_any_more_are_left_alone() {
    let first = key("first", Some(START_MS + 15 * MINUTE));
    let setup = Setup::new([Ok(first), Ok(key("second", None))]);
    assert_eq!(setup.id().await, "first");
    for _ in 0..360 {
        setup.pass(10).await;
    }
    assert_eq!(setup.calls(), 2);
    assert_eq!(setup.seconds_left(), None);
}

#[tokio::test(start_paused = true)]
async fn retired_credentials_serve_but_are_neither_refreshed_nor_shown() {
    let (setup, fresh) = fresh(15 * MINUTE, None);
    assert_eq!(setup.id().await, "1");
    setup.cached.retire();
    assert_eq!(setup.seconds_left(), None);
    for _ in 0..360 {
        setup.pass(10).await;
    }
    assert_eq!(fresh.calls.load(Ordering::Relaxed), 1);
    // A poll that is still under way.
    assert_eq!(setup.id().await, "2");
    for _ in 0..360 {
        setup.pass(10).await;
    }
    assert_eq!(fresh.calls.load(Ordering::Relaxed), 2);
    assert_eq!(setup.seconds_left(), None);
}
