//! The cloud's API: [`Client`] has one method for each operation and hands out
//! what the cloud said in the cloud's own words ([`wire`]); what it means is
//! left to `source`.
//!
//! A call is made of pages (`pages`), a page of attempts, and each attempt
//! waits for the account's turn ([`throttle`]), is signed anew and sent
//! ([`transport`]). Why one failed is told by [`Error`].

pub mod budget;
pub mod error;
mod pages;
pub mod settings;
pub mod throttle;
mod transport;
pub mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::Counter;
use reqwest::Url;
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

pub use self::budget::Budget;
pub use self::error::Error;
use self::error::Failure;
use self::pages::Pages;
use self::throttle::Throttle;
use self::wire::{
    Fields, Page, Rule, RulePage, Task, TaskPage, TaskResultPage, TaskResults, Unreadable,
};
use crate::clock::Clock;
use crate::credentials::{Credentials, ProvideCredentials};
use crate::http::{self, Http, Route};
use crate::metrics::own::{ActionMetrics, InFlight, Own};
use crate::reason::Reason;
use crate::refusal::{Proofs, Refusal};
use crate::signing::{self, Algorithm, Key, Param};

/// The version of the product's API.
const VERSION: &str = "2018-12-01";
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
    /// The exporter's own metrics.
    pub own: Arc<Own>,
    /// Dates the signatures.
    pub clock: Clock,
}

/// Whom a client speaks for.
#[derive(Clone)]
pub struct Account {
    /// The label `credentials` of metrics.
    pub name: String,
    /// Its keys.
    pub provider: Arc<dyn ProvideCredentials>,
    /// Its rate limit, which accounts of one quota group share.
    pub throttle: Arc<Throttle>,
}

/// The API as one account sees it.
pub struct Client {
    account: Account,
    shared: Shared,
    options: Options,
    waited: Counter,
    /// Endpoints as they are once taken apart; as many as the account's instances have.
    origins: Mutex<HashMap<String, Origin>>,
    task_results: Operation,
    task: Operation,
    tasks: Operation,
    rules: Operation,
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

struct Operation {
    action: &'static str,
    metrics: ActionMetrics,
}

/// An instance, and where its API answers.
#[derive(Clone, Copy, Debug)]
pub struct Instance<'a> {
    /// `cri-…`
    pub id: &'a str,
    /// Its region, "" where that is not known.
    pub region: &'a str,
    /// Scheme and authority, such as `https://cr.cn-hangzhou.aliyuncs.com`.
    pub endpoint: &'a str,
}

/// One request of an operation, before it is signed.
struct Call<'a> {
    operation: &'a Operation,
    instance: Instance<'a>,
    params: &'a [Param<'a>],
}

/// A failed attempt, and how long the cloud asks to wait.
struct Failed {
    failure: Failure,
    hint: Option<Duration>,
}

/// An attempt that failed, as a call looks at it.
struct Attempt {
    error: Error,
    hint: Option<Duration>,
    /// What it was signed with.
    credentials: Option<Credentials>,
}

/// A successful answer.
struct Answer<T> {
    value: T,
    status: u16,
    /// Where somebody reads it.
    request_id: Option<String>,
}

impl Client {
    /// The client of `account`; its metrics are there from now on.
    pub fn new(account: Account, shared: Shared, options: Options) -> Self {
        let (rate, waited) = shared.own.rate_limit(&account.name);
        account.throttle.show_on(&account.name, rate);
        let operation = |action| Operation {
            action,
            metrics: shared.own.action(&account.name, action),
        };
        Self {
            task_results: operation("GetArtifactSubscriptionTaskResult"),
            task: operation("GetArtifactSubscriptionTask"),
            tasks: operation("ListArtifactSubscriptionTask"),
            rules: operation("ListArtifactSubscriptionRule"),
            account,
            shared,
            options,
            waited,
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

    /// The artifacts of one task, over all pages.
    pub async fn task_results(
        &self,
        instance: Instance<'_>,
        task_id: &str,
        budget: &mut Budget,
    ) -> Result<TaskResults, Error> {
        let task = [("TaskId", task_id.into())];
        self.list::<TaskResultPage>(&self.task_results, instance, &task, budget, |_| true)
            .await
            .map(|list| list.rows)
    }

    /// The rules of an instance, over all pages.
    pub async fn rules(
        &self,
        instance: Instance<'_>,
        budget: &mut Budget,
    ) -> Result<List<Vec<Rule>>, Error> {
        self.list::<RulePage>(&self.rules, instance, &[], budget, |_| true)
            .await
    }

    /// The tasks of an instance in the cloud's order, over all pages or until
    /// `go_on` has seen enough.
    pub async fn tasks(
        &self,
        instance: Instance<'_>,
        budget: &mut Budget,
        mut go_on: impl FnMut(&[Task]) -> bool,
    ) -> Result<List<Vec<Task>>, Error> {
        self.list::<TaskPage>(&self.tasks, instance, &[], budget, |page| go_on(page))
            .await
    }

    async fn list<P: Page>(
        &self,
        operation: &Operation,
        instance: Instance<'_>,
        of: &[Param<'_>],
        budget: &mut Budget,
        mut go_on: impl FnMut(&P::Rows) -> bool,
    ) -> Result<List<P::Rows>, Error> {
        let Options {
            page_size,
            max_pages,
            ..
        } = self.options;
        let mut pages = Pages::new(page_size, max_pages);
        let mut asked = 0;
        loop {
            let window = (pages.next(), page_size);
            let page: P = self.page(operation, instance, of, window, budget).await?;
            asked += 1;
            let (rows, stated_size, total_count) = page.into_parts();
            let enough = !go_on(&rows);
            match pages.add(rows, stated_size, total_count) {
                Ok(Some(rows)) => {
                    return Ok(List {
                        rows,
                        whole: true,
                        pages: asked,
                    });
                }
                Ok(None) if enough => {
                    return Ok(List {
                        rows: pages.so_far(),
                        whole: false,
                        pages: asked,
                    });
                }
                Ok(None) => {}
                Err(incomplete) => {
                    let failure = Failure::Incomplete(incomplete);
                    return Err(Error::new(operation.action, failure));
                }
            }
        }
    }

    /// Whether the artifacts of a task can be read: one page of one row.
    pub async fn probe(
        &self,
        instance: Instance<'_>,
        task_id: &str,
        budget: &mut Budget,
    ) -> Result<(), Error> {
        let task = [("TaskId", task_id.into())];
        self.page::<TaskResultPage>(&self.task_results, instance, &task, (1, 1), budget)
            .await
            .map(|_| ())
    }

    /// Whether the rules of an instance can be read: one page of one.
    pub async fn probe_rules(
        &self,
        instance: Instance<'_>,
        budget: &mut Budget,
    ) -> Result<(), Error> {
        self.page::<RulePage>(&self.rules, instance, &[], (1, 1), budget)
            .await
            .map(|_| ())
    }

    /// Whose key signs the requests now, for people: the entry, the provider
    /// that gave it, and at most the last four characters of its id. `None`
    /// where there is none.
    pub async fn signer(&self) -> Option<String> {
        let key = self.account.provider.provide().await.ok()?;
        let (name, provider, id) = (&self.account.name, key.provider, key.shown_id());
        Some(format!("credentials {name} from {provider} ({id})"))
    }

    async fn page<T: Fields>(
        &self,
        operation: &Operation,
        instance: Instance<'_>,
        of: &[Param<'_>],
        (number, size): (u32, u32),
        budget: &mut Budget,
    ) -> Result<T, Error> {
        let mut params = vec![("InstanceId", instance.id.into())];
        params.extend_from_slice(of);
        params.push(("PageNo", number.to_string().into()));
        params.push(("PageSize", size.to_string().into()));
        let call = Call {
            operation,
            instance,
            params: &params,
        };
        self.call(&call, budget).await
    }

    /// One task itself.
    pub async fn task(
        &self,
        instance: Instance<'_>,
        task_id: &str,
        budget: &mut Budget,
    ) -> Result<Task, Error> {
        let params = [
            ("InstanceId", instance.id.into()),
            ("TaskId", task_id.into()),
        ];
        let call = Call {
            operation: &self.task,
            instance,
            params: &params,
        };
        let task: Task = self.call(&call, budget).await?;
        // An unknown id may be answered with a success about no task.
        if task.task_id != task_id {
            return Err(Error::new(self.task.action, Failure::NoSuchTask));
        }
        Ok(task)
    }

    /// Attempts until one succeeds, fails for good, or was the last.
    async fn call<T: Fields>(&self, call: &Call<'_>, budget: &mut Budget) -> Result<T, Error> {
        let mut retries = 0;
        let mut again = false;
        let mut renewed = false;
        loop {
            let failed = match self.attempt(call, again, budget).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            again = true;
            let Attempt { error, hint, .. } = &failed;
            if error.refuses_token() && !renewed {
                renewed = true;
                if self.renew(&failed, budget).await {
                    continue;
                }
            }
            let wait = backoff(self.options.backoff, retries).max(hint.unwrap_or_default());
            // Where the deadline would pass first, this error tells more than that.
            if retries >= self.options.retries || !error.is_transient() || budget.left() <= wait {
                return Err(failed.error);
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

    /// Whether there is another key than the one that was refused, in time.
    async fn renew(&self, failed: &Attempt, budget: &Budget) -> bool {
        let Some(refused) = &failed.credentials else {
            return false;
        };
        timeout(budget.left(), self.account.provider.renew(refused))
            .await
            .unwrap_or(false)
    }

    /// One attempt, from the wait for its turn to the decoded answer.
    async fn attempt<T: Fields>(
        &self,
        call: &Call<'_>,
        again: bool,
        budget: &mut Budget,
    ) -> Result<T, Attempt> {
        let Operation { action, metrics } = call.operation;
        let failed = |failure| Attempt {
            error: Error::new(action, failure),
            hint: None,
            credentials: None,
        };
        let deadline = Failure::Deadline(budget.total());

        let (credentials, _permit) = loop {
            let turn = self.account.throttle.turn().await;
            self.waited.inc_by(turn.waited().as_secs_f64());
            budget.give_back(turn.waited());
            let ready = timeout(budget.left(), async {
                let credentials = self.account.provider.provide().await;
                (credentials, self.shared.in_flight.acquire().await)
            });
            let Ok((credentials, permit)) = ready.await else {
                return Err(failed(deadline));
            };
            // A request that cannot be signed takes its time too, so that one
            // bad moment of the provider does not strike everything that is due.
            let taken = turn.take();
            let credentials = credentials.map_err(|error| failed(Failure::Credentials(error)))?;
            if taken {
                break (credentials, permit.expect("the semaphore is never closed"));
            }
        };
        let limit = self.options.timeout.min(budget.left());
        if limit.is_zero() {
            return Err(failed(deadline));
        }

        metrics.requests.inc();
        if again {
            metrics.retries.inc();
        }
        let _in_flight = InFlight::start(&self.shared.own.api_in_flight);
        let started = Instant::now();
        let exchanged = timeout(limit, self.exchange(call, &credentials))
            .await
            .unwrap_or_else(|_| {
                Err(if limit < self.options.timeout {
                    deadline.into()
                } else {
                    Failure::NoAnswer(limit).into()
                })
            });
        let elapsed = started.elapsed();
        metrics.duration.observe(elapsed.as_secs_f64());

        let account = &self.account;
        match exchanged {
            Ok(Answer {
                value,
                status,
                request_id,
            }) => {
                account.throttle.passed();
                tracing::debug!(
                    credentials = account.name,
                    action,
                    status,
                    request_id,
                    ?elapsed,
                    "API request"
                );
                Ok(value)
            }
            Err(Failed { failure, hint }) => {
                let error = Error::new(action, failure);
                metrics.failed(error.reason());
                match error.reason() {
                    Reason::Throttled => {
                        let pause = hint.unwrap_or_default();
                        if let Some(rate) = account.throttle.throttled(started, pause) {
                            tracing::warn!(
                                credentials = account.name,
                                action,
                                requests_per_second = rate,
                                pause_seconds = pause.as_secs_f64(),
                                "the cloud throttles this account, which is slowed down"
                            );
                        }
                    }
                    reason if reason.is_transient() => {}
                    _ => account.throttle.passed(),
                }
                tracing::debug!(
                    credentials = account.name,
                    action,
                    status = error.status(),
                    request_id = error.request_id(),
                    ?elapsed,
                    reason = error.reason().as_str(),
                    "API request failed: {error}"
                );
                Err(Attempt {
                    error,
                    hint,
                    credentials: Some(credentials),
                })
            }
        }
    }

    /// Where the call goes, and what proves that it is ours.
    fn sign(
        &self,
        call: &Call<'_>,
        credentials: &Credentials,
    ) -> Result<(Url, signing::Signed), Failure> {
        let Some(Origin { mut url, host }) = self.origin(call.instance.endpoint) else {
            return Err(Failure::Unsendable(
                "the endpoint is no URL of the form https://HOST or http://HOST:PORT",
            ));
        };
        let request = signing::Request {
            method: "GET",
            host: &host,
            action: call.operation.action,
            version: VERSION,
            params: call.params,
            form: &[],
        };
        let key = Key {
            id: &credentials.access_key_id,
            secret: credentials.access_key_secret.expose_secret(),
            token: credentials
                .security_token
                .as_ref()
                .map(ExposeSecret::expose_secret),
        };
        let now = self.shared.clock.now_millis();
        let nonce = signing::nonce();
        let mut signed = signing::sign(self.options.algorithm, &request, &key, now, &nonce);
        url.set_query(Some(&signed.query));
        let accept = ("accept", "application/json".to_owned());
        signed.headers.push(accept);
        Ok((url, signed))
    }

    /// Signs, sends, and reads the answer.
    async fn exchange<T: Fields>(
        &self,
        call: &Call<'_>,
        credentials: &Credentials,
    ) -> Result<Answer<T>, Failed> {
        let (url, signed) = self.sign(call, credentials)?;
        let (headers, signature) = (signed.headers, signed.signature);
        // A refusal and the log alone show what they must hide.
        let proofs = || proofs(credentials, &signature);

        let http = &self.shared.http;
        let response = http
            .get(Route::Outward, url, headers)
            .await
            .map_err(Failure::from)?;
        let now = self.shared.clock.now_millis();
        let skew_millis = http::skew_millis(response.headers(), now);
        if let Some(skew) = skew_millis {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds fit into 52 bits")]
            self.shared.own.set_clock_skew(skew as f64 / 1000.0);
        }
        let hint = transport::hint(response.headers(), now);
        let named = response.headers().get("x-acs-request-id").cloned();
        let status = response.status();
        let body = transport::body(response).await?;

        // What cannot be read is quoted in the error's own text.
        let unreadable = |problem, error: &serde_json::Error| Failure::Unreadable {
            status: status.as_u16(),
            problem,
            detail: proofs().shown(&error.to_string()),
        };
        if status.is_success() {
            let (envelope, value) = wire::answer(&body).map_err(|error| match error {
                Unreadable::NoObject(error) => unreadable("the answer is no JSON object", &error),
                Unreadable::Shape(error) => {
                    unreadable("the answer has another shape than documented", &error)
                }
            })?;
            if envelope.is_success() {
                let is_shown = tracing::enabled!(tracing::Level::DEBUG);
                let request_id = is_shown.then(|| proofs().shown(&envelope.request_id));
                return Ok(Answer {
                    value,
                    status: status.as_u16(),
                    request_id,
                });
            }
            if !envelope.is_failure() {
                return Err(Failure::Unreadable {
                    status: status.as_u16(),
                    problem: "the answer is JSON and not the API's: it has no Code",
                    detail: String::new(),
                }
                .into());
            }
        }
        let proofs = proofs();
        let mut refusal = Refusal::read(status.as_u16(), &body, &proofs);
        if refusal.request_id.is_empty() {
            let named = named.as_ref().and_then(|id| id.to_str().ok());
            refusal.request_id = named.map_or_else(String::new, |id| proofs.shown(id));
        }
        let region = match call.instance.region {
            "" => "*",
            region => region,
        };
        // The account is not told.
        refusal.resource = format!("acs:cr:{region}:*:instance/{}", call.instance.id);
        refusal.skew_seconds = skew_millis.map(|skew| skew / 1000);
        Err(Failed {
            failure: Failure::Refused(refusal.into()),
            hint,
        })
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            hint: None,
        }
    }
}

/// What a request proved itself with.
fn proofs(credentials: &Credentials, signature: &str) -> Proofs {
    let token = credentials.security_token.as_ref();
    let key = [
        &credentials.access_key_id,
        credentials.access_key_secret.expose_secret(),
        signature,
    ];
    Proofs::new(
        key.into_iter()
            .chain(token.map(ExposeSecret::expose_secret)),
    )
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
