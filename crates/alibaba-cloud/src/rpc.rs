//! A client of the cloud's RPC style for any product: [`Client::call`] signs, sends, retries and
//! decodes one request, [`Client::list`] reads a list page by page. What the operations are and
//! what their responses mean is left to the caller, who describes them with [`Product`], [`Call`]
//! and [`Answer`].
//!
//! A call is made of attempts, and each attempt waits for the account's turn ([`Throttle`]) and
//! is signed on its own. [`Error`] says why one failed.

mod answer;
mod budget;
mod error;
mod pages;
mod throttle;
mod transport;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Method, Url};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};

pub use self::answer::{Answer, Answered, Json, NotAnswered};
pub use self::budget::Budget;
pub use self::error::Error;
use self::error::Failure;
use self::pages::Pages;
pub use self::pages::{Page, Rows};
pub use self::throttle::Throttle;
use crate::clock::Clock;
use crate::credentials::{Credentials, ProvideCredentials};
use crate::http::{self, Http, Route};
use crate::observer::{InFlight, Observer};
use crate::reason::Reason;
use crate::refusal::{Proofs, Refusal};
use crate::signing::{self, Algorithm, Param};

/// No pause between two attempts is longer, unless the cloud asks for it.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How requests are signed.
    pub algorithm: Algorithm,
    /// One request, connecting included.
    pub timeout: Duration,
    /// Attempts after the first.
    pub retries: u32,
    /// The longest pause before the first retry; doubles with each one, up to
    /// five seconds. 200 ms is a good value.
    pub backoff: Duration,
    /// Rows asked for in one page.
    pub page_size: u32,
    /// Pages of one list; a longer one is an error.
    pub max_pages: u32,
}

/// What all clients of the process use together.
#[derive(Clone)]
pub struct Shared {
    /// Connections.
    pub http: Http,
    /// One permit for each request in flight; never closed.
    pub in_flight: Arc<Semaphore>,
    /// Dates the signatures.
    pub clock: Clock,
}

/// Whom a client speaks for.
#[derive(Clone)]
pub struct Account {
    /// Names it in the log.
    pub name: String,
    /// Its keys.
    pub provider: Arc<dyn ProvideCredentials>,
    /// Its rate limit, which accounts of one quota group share.
    pub throttle: Arc<Throttle>,
    /// Counts its requests.
    pub observer: Arc<dyn Observer>,
}

/// A product of the cloud, as its API is called.
#[derive(Debug)]
pub struct Product {
    /// The prefix of its RAM actions, such as `cr`.
    pub name: &'static str,
    /// The version of its API, such as `2018-12-01`.
    pub version: &'static str,
    /// The operations that will be called.
    pub actions: &'static [&'static str],
    /// The parameters of its lists: the number of a page, from 1, and its size.
    pub page_params: [&'static str; 2],
}

/// The API of a product as one account sees it.
pub struct Client {
    product: &'static Product,
    account: Account,
    shared: Shared,
    options: Options,
    /// Parsed endpoints.
    origins: Mutex<HashMap<String, Origin>>,
}

/// Where an endpoint is.
#[derive(Clone)]
struct Origin {
    url: Url,
    /// What the `Host` header says.
    host: Arc<str>,
}

/// A list, as far as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<R> {
    /// In the cloud's order.
    pub rows: R,
    /// Whether these are all of them.
    pub whole: bool,
    /// Pages asked for, one request at least each.
    pub pages: u32,
}

/// One call of an operation.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The operation, such as `ListInstance`.
    pub action: &'static str,
    /// Scheme and authority, such as `https://cr.cn-hangzhou.aliyuncs.com`.
    pub endpoint: &'a str,
    /// Its parameters.
    pub params: &'a [Param<'a>],
    /// What a RAM policy would have to allow it on, for the error of a forbidden call.
    pub resource: &'a (dyn fmt::Display + Sync),
}

impl Client {
    /// A client of `product` for `account`.
    pub fn new(
        product: &'static Product,
        account: Account,
        shared: Shared,
        options: Options,
    ) -> Self {
        let observer = &account.observer;
        account
            .throttle
            .observe(&account.name, Arc::clone(observer));
        for action in product.actions {
            observer.expect_action(action);
        }
        Self {
            product,
            account,
            shared,
            options,
            origins: Mutex::default(),
        }
    }

    fn origin(&self, endpoint: &str) -> Option<Origin> {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(origin) = origins.get(endpoint) {
            return Some(origin.clone());
        }
        let mut url = Url::parse(endpoint).ok()?;
        let host = http::authority(&url)?.into();
        url.set_path("/");
        let origin = Origin { url, host };
        origins.insert(endpoint.to_owned(), origin.clone());
        Some(origin)
    }

    /// A list over all pages, or until `go_on` has seen enough. `call` names no page.
    pub async fn list<P: Page>(
        &self,
        call: &Call<'_>,
        budget: &mut Budget,
        mut go_on: impl FnMut(&P::Rows) -> bool,
    ) -> Result<List<P::Rows>, Error> {
        let page_size = self.options.page_size;
        let mut pages = Pages::new(page_size, self.options.max_pages);
        let mut asked = 0;
        loop {
            let page: P = self.page(call, pages.next(), page_size, budget).await?;
            asked += 1;
            let (rows, stated_size, total_count) = page.into_parts();
            let enough = !go_on(&rows);
            let (rows, whole) = match pages.add(rows, stated_size, total_count) {
                Ok(Some(rows)) => (rows, true),
                Ok(None) if enough => (pages.so_far(), false),
                Ok(None) => continue,
                Err(incomplete) => {
                    return Err(Error::new(call.action, Failure::Incomplete(incomplete)));
                }
            };
            return Ok(List {
                rows,
                whole,
                pages: asked,
            });
        }
    }

    /// One page of a list, by its number from 1.
    pub async fn page<P: Answer>(
        &self,
        call: &Call<'_>,
        number: u32,
        size: u32,
        budget: &mut Budget,
    ) -> Result<P, Error> {
        let [number_name, size_name] = self.product.page_params;
        let mut params = call.params.to_vec();
        params.push((number_name, number.to_string().into()));
        params.push((size_name, size.to_string().into()));
        let call = Call {
            params: &params,
            ..*call
        };
        self.call(&call, budget).await
    }

    /// Whose key signs the requests now, for people: the entry, the provider
    /// that gave it, and at most the last four characters of its id. `None`
    /// where there is none.
    pub async fn signer(&self) -> Option<String> {
        let key = self.account.provider.provide().await.ok()?;
        let (name, provider, id) = (&self.account.name, key.provider, key.shown_id());
        Some(format!("credentials {name} from {provider} ({id})"))
    }

    /// Sends the call until an attempt succeeds, fails for good, or was the last.
    pub async fn call<T: Answer>(&self, call: &Call<'_>, budget: &mut Budget) -> Result<T, Error> {
        let mut retries = 0;
        let mut again = false;
        let mut renewed = false;
        loop {
            let ready = self.ready(budget).await;
            let (credentials, permit) =
                ready.map_err(|failure| Error::new(call.action, failure))?;
            let answered = self.attempt(call, &credentials, again, budget).await;
            drop(permit);
            let error = match answered {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            again = true;
            if error.refuses_token() && !renewed {
                renewed = true;
                let renewal = self.account.provider.renew(&credentials);
                if timeout(budget.left(), renewal).await.unwrap_or(false) {
                    continue;
                }
            }
            let hint = error.retry_after();
            let wait = backoff(self.options.backoff, retries).max(hint.unwrap_or_default());
            // Where the deadline would pass first, this error tells more than that.
            if retries >= self.options.retries || !error.is_transient() || budget.left() <= wait {
                return Err(error);
            }
            let pause = match hint {
                // The bucket waits it out, for everybody.
                Some(_) if error.reason() == Reason::Throttled => Duration::ZERO,
                _ => wait,
            };
            retries += 1;
            sleep(pause).await;
        }
    }

    /// Waits for the account's turn, credentials and a permit to send one request.
    async fn ready(
        &self,
        budget: &mut Budget,
    ) -> Result<(Credentials, SemaphorePermit<'_>), Failure> {
        loop {
            let turn = self.account.throttle.turn().await;
            self.account.observer.rate_limit_waited(turn.waited());
            budget.give_back(turn.waited());
            let ready = timeout(budget.left(), async {
                let credentials = self.account.provider.provide().await;
                (credentials, self.shared.in_flight.acquire().await)
            });
            let Ok((credentials, permit)) = ready.await else {
                return Err(Failure::Deadline(budget.total()));
            };
            // A request that cannot be signed takes its time too, so that one
            // bad moment of the provider does not strike everything that is due.
            let taken = turn.take();
            let credentials = credentials.map_err(Failure::Credentials)?;
            if taken {
                return Ok((credentials, permit.expect("the semaphore is never closed")));
            }
        }
    }

    /// One attempt, within the timeout and the budget.
    async fn attempt<T: Answer>(
        &self,
        call: &Call<'_>,
        credentials: &Credentials,
        again: bool,
        budget: &Budget,
    ) -> Result<T, Error> {
        let (account, action) = (&self.account, call.action);
        let limit = self.options.timeout.min(budget.left());
        let late = if limit < self.options.timeout {
            Failure::Deadline(budget.total())
        } else {
            Failure::NoAnswer(limit)
        };
        if limit.is_zero() {
            return Err(Error::new(action, late));
        }
        let in_flight = InFlight::start(&*account.observer, action, again);
        let started = in_flight.started();
        let exchanged = timeout(limit, self.exchange(call, credentials)).await;
        let exchanged = exchanged
            .unwrap_or(Err(late))
            .map_err(|failure| Error::new(action, failure));
        in_flight.end(exchanged.as_ref().err().map(Error::reason));
        let elapsed = started.elapsed();
        match &exchanged {
            Ok((_, status, request_id)) => {
                account.throttle.passed();
                tracing::debug!(
                    credentials = account.name,
                    action,
                    status,
                    request_id,
                    ?elapsed,
                    "API request"
                );
            }
            Err(error) => {
                self.pace(started, error);
                tracing::debug!(
                    credentials = account.name,
                    action,
                    status = error.status(),
                    request_id = error.request_id(),
                    ?elapsed,
                    reason = error.reason().as_str(),
                    "API request failed: {error}"
                );
            }
        }
        exchanged.map(|(value, ..)| value)
    }

    /// Adjusts the rate limit to the failure of a request that was sent at `started`.
    fn pace(&self, started: Instant, error: &Error) {
        let account = &self.account;
        match error.reason() {
            Reason::Throttled => {
                let pause = error.retry_after().unwrap_or_default();
                if let Some(rate) = account.throttle.throttled(started, pause) {
                    tracing::warn!(
                        credentials = account.name,
                        action = error.action(),
                        requests_per_second = rate,
                        pause_seconds = pause.as_secs_f64(),
                        "the cloud throttles this account, which is slowed down"
                    );
                }
            }
            reason if reason.is_transient() => {}
            _ => account.throttle.passed(),
        }
    }

    /// Where the call goes, and what proves that it is ours.
    fn sign(
        &self,
        call: &Call<'_>,
        credentials: &Credentials,
    ) -> Result<(Url, signing::Signed), Failure> {
        let Some(Origin { mut url, host }) = self.origin(call.endpoint) else {
            return Err(Failure::Unsendable(
                "the endpoint is no URL of the form https://HOST or http://HOST:PORT",
            ));
        };
        let request = signing::Request {
            method: "GET",
            host: &host,
            action: call.action,
            version: self.product.version,
            params: call.params,
            form: &[],
        };
        let now = self.shared.clock.now_millis();
        let nonce = signing::nonce();
        let mut signed = signing::sign(
            self.options.algorithm,
            &request,
            &credentials.key(),
            now,
            &nonce,
        );
        url.set_query(Some(&signed.query));
        let accept = ("accept", "application/json".to_owned());
        signed.headers.push(accept);
        Ok((url, signed))
    }

    /// Signs, sends, and reads the answer.
    async fn exchange<T: Answer>(
        &self,
        call: &Call<'_>,
        credentials: &Credentials,
    ) -> Result<(T, u16, Option<String>), Failure> {
        let (url, signed) = self.sign(call, credentials)?;
        let (headers, signature) = (signed.headers, signed.signature);
        // A refusal and the log alone show what they must hide.
        let proofs = || proofs(credentials, &signature);

        let http = &self.shared.http;
        let response = http
            .send(Route::Outward, Method::GET, url, headers, None)
            .await?;
        let now = self.shared.clock.now_millis();
        let skew_millis = http::skew_millis(response.headers(), now);
        if let Some(skew) = skew_millis {
            self.account.observer.clock_skew(skew);
        }
        let hint = transport::hint(response.headers(), now);
        let named = response.headers().get("x-acs-request-id").cloned();
        let status = response.status();
        let body = transport::body(response).await?;

        if status.is_success() {
            match T::read(&body) {
                Ok(Answered { value, request_id }) => {
                    let is_shown = tracing::enabled!(tracing::Level::DEBUG);
                    let request_id = is_shown.then(|| proofs().shown(&request_id));
                    return Ok((value, status.as_u16(), request_id));
                }
                Err(NotAnswered::Unreadable { problem, detail }) => {
                    return Err(Failure::Unreadable {
                        status: status.as_u16(),
                        problem,
                        // It may quote the body.
                        detail: proofs().shown(&detail),
                    });
                }
                Err(NotAnswered::Refused) => {}
            }
        }
        let proofs = proofs();
        let mut refusal = Refusal::read(status.as_u16(), &body, &proofs);
        if refusal.request_id.is_empty() {
            let named = named.as_ref().and_then(|id| id.to_str().ok());
            refusal.request_id = named.map_or_else(String::new, |id| proofs.shown(id));
        }
        if refusal.ram_action.is_empty() {
            refusal.ram_action = format!("{}:{}", self.product.name, call.action);
        }
        refusal.resource = call.resource.to_string();
        refusal.skew_seconds = skew_millis.map(|skew| skew / 1000);
        refusal.retry_after = hint;
        Err(Failure::Refused(refusal.into()))
    }
}

/// What a request proved itself with.
fn proofs(credentials: &Credentials, signature: &str) -> Proofs {
    let key = credentials.key();
    Proofs::new([key.id, key.secret, signature].into_iter().chain(key.token))
}

/// Full jitter: anything up to `base` doubled with each attempt.
fn backoff(base: Duration, attempt: u32) -> Duration {
    let doubled = base.saturating_mul(2_u32.saturating_pow(attempt));
    doubled.min(BACKOFF_MAX).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_seconds_and_are_spread() {
        for (attempt, longest) in [(0, 200), (1, 400), (4, 3200), (5, 5000), (u32::MAX, 5000)] {
            let longest = Duration::from_millis(longest);
            let pauses: Vec<_> = (0..1000)
                .map(|_| backoff(Duration::from_millis(200), attempt))
                .collect();
            assert!(pauses.iter().all(|pause| *pause <= longest));
            // Of 1000 even draws none in a tenth: 1 in 10^45.
            assert!(pauses.iter().any(|pause| *pause > longest.mul_f64(0.9)));
            assert!(pauses.iter().any(|pause| *pause < longest.mul_f64(0.1)));
        }
    }
}
