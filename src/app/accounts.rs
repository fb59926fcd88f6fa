//! The accounts of a configuration as clients of the API: credentials, rate
//! limits (one a quota group) and what all of them share.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use alibaba_cloud::credentials::cached::Cached;
use alibaba_cloud::credentials::entry::Source;
use alibaba_cloud::credentials::environment;
use alibaba_cloud::credentials::{self, Addresses, Context};
use alibaba_cloud::http::{self, Http};
use alibaba_cloud::rpc::Throttle;
use alibaba_cloud::signing::Algorithm;
use tokio::sync::Semaphore;

use crate::api::settings::Signature;
use crate::api::{self, Account, Client, Options, Shared};
use crate::config::{Config, Instance};
use crate::metrics::account;
use crate::metrics::own::Own;
use crate::shard::Shard;

/// The longest pause before the first retry of a request.
const BACKOFF: Duration = Duration::from_millis(200);
/// Of roles that a profile names, or the environment, without one.
const SESSION_NAME: &str = "aliyun-acr-exporter";

/// One client for each instance, in their order; see [`Accounts`].
pub fn clients(
    config: &Config,
    shard: Shard,
    own: &Arc<Own>,
    clock: &Clock,
) -> Result<Vec<Arc<Client>>, http::Error> {
    let accounts = Accounts::new(config, shard, own, clock)?;
    Ok(accounts.clients(config))
}

/// What a configuration's accounts keep as long as the process lives: keys with
/// their ends, and rate limits with what was learned of them.
pub struct Accounts {
    common: Shared,
    own: Arc<Own>,
    shard: Shard,
    /// One for each entry of `credentials:`, by its name.
    providers: Vec<(String, Arc<Cached>)>,
    /// By [`quota`]: the rate limit is the account's, so each shard takes its
    /// part of it.
    throttles: HashMap<String, Arc<Throttle>>,
}

impl Accounts {
    /// The accounts of the first configuration.
    pub fn new(
        config: &Config,
        shard: Shard,
        own: &Arc<Own>,
        clock: &Clock,
    ) -> Result<Self, http::Error> {
        let common = Shared {
            http: Http::new(api::USER_AGENT)?,
            in_flight: Arc::new(Semaphore::new(config.poll.concurrency.size())),
            clock: clock.clone(),
        };
        Ok(Self {
            providers: providers(config, &common, own, &HashMap::new()),
            throttles: throttles(config, shard, &HashMap::new()),
            common,
            own: Arc::clone(own),
            shard,
        })
    }

    /// The accounts of the configuration after `before`. What is the same there
    /// keeps its keys; an account that is still there keeps its rate limit.
    #[must_use]
    pub fn after(&self, before: &Config, config: &Config) -> Self {
        let same = self.providers.iter().filter(|(name, _)| {
            config.credentials.contains_key(name) && same_keys(before, config, name)
        });
        let kept = same.map(|(name, provider)| (name.as_str(), Arc::clone(provider)));
        let kept = kept.collect();
        let mut common = self.common.clone();
        if before.poll.concurrency != config.poll.concurrency {
            common.in_flight = Arc::new(Semaphore::new(config.poll.concurrency.size()));
        }
        Self {
            providers: providers(config, &common, &self.own, &kept),
            throttles: throttles(config, self.shard, &self.throttles),
            common,
            own: Arc::clone(&self.own),
            shard: self.shard,
        }
    }

    /// Retires the credentials that `next` replaced or dropped. Must come before
    /// `next` is used, since both show their expiry under one name.
    pub fn retire_replaced(&self, next: &Self) {
        for (name, provider) in &self.providers {
            let kept = next.providers.iter().find(|(it, _)| it == name);
            if !kept.is_some_and(|(_, kept)| Arc::ptr_eq(kept, provider)) {
                provider.retire();
            }
        }
    }

    /// Takes the metrics away of accounts that `before` had and these have not.
    pub fn forget_gone(&self, before: &Self, own: &Own) {
        for (name, _) in &before.providers {
            if self.providers.iter().all(|(it, _)| it != name) {
                own.forget_rate_limit(name);
            }
        }
    }

    /// One client for each instance, in their order; those of one entry of
    /// `credentials:` share theirs.
    pub fn clients(&self, config: &Config) -> Vec<Arc<Client>> {
        let options = Options {
            algorithm: match config.api.signature {
                Signature::Acs3HmacSha256 => Algorithm::Acs3,
                Signature::HmacSha1 => Algorithm::HmacSha1,
            },
            timeout: *config.poll.timeout,
            retries: config.api.retries.get(),
            backoff: BACKOFF,
            page_size: config.api.page_size.get(),
            max_pages: config.api.max_pages.get(),
        };
        let clients: HashMap<&str, Arc<Client>> = self
            .providers
            .iter()
            .map(|(name, provider)| {
                let account = Account {
                    name: name.clone(),
                    provider: Arc::clone(provider) as _,
                    throttle: Arc::clone(&self.throttles[&quota(config, name)]),
                    observer: account::observer(&self.own, name),
                };
                let client = Client::new(account, self.common.clone(), options);
                (name.as_str(), Arc::new(client))
            })
            .collect();
        let of = |instance: &Instance| Arc::clone(&clients[instance.credentials.as_str()]);
        config.instances.iter().map(of).collect()
    }
}

/// Whether the entry `name` gives the same keys in two configurations.
fn same_keys(before: &Config, config: &Config, name: &str) -> bool {
    let (then, now) = (before.credentials.get(name), config.credentials.get(name));
    let (Some(then), Some(now)) = (then, now) else {
        return then.is_none() && now.is_none();
    };
    // Where STS is asked depends on it.
    let same = then.source == now.source && before.api.network == config.api.network;
    match &now.source {
        Source::AssumeRole(role) => same && same_keys(before, config, &role.source),
        _ => same,
    }
}

/// Instances of `config` that are asked with other keys, at another address or
/// in another way than `before`.
pub fn asked_anew<'a>(before: &'a Config, config: &'a Config) -> impl Iterator<Item = &'a str> {
    let same_way = before.api == config.api && before.poll.timeout == config.poll.timeout;
    let anew = config.instances.iter().filter(move |now| {
        let then = before.instances.iter().find(|then| then.id == now.id);
        !then.is_some_and(|then| {
            same_way
                && (&then.endpoint, &then.region) == (&now.endpoint, &now.region)
                && then.credentials == now.credentials
                && same_keys(before, config, &now.credentials)
        })
    });
    anew.map(|instance| &*instance.id)
}

/// What names a rate limit: entries of one group share theirs.
pub(super) fn quota(config: &Config, name: &str) -> String {
    match config
        .credentials
        .get(name)
        .and_then(|it| it.quota_group.as_deref())
    {
        Some(group) => format!("quota group {group}"),
        None => format!("credentials {name}"),
    }
}

fn throttles(
    config: &Config,
    shard: Shard,
    known: &HashMap<String, Arc<Throttle>>,
) -> HashMap<String, Arc<Throttle>> {
    let (rate, burst) = share(&config.api, shard);
    let used = config.used_credentials();
    let quotas: HashSet<String> = used.iter().map(|name| quota(config, name)).collect();
    let throttles = quotas.into_iter().map(|quota| {
        let throttle = match known.get(&quota) {
            Some(throttle) => {
                throttle.configure(rate, burst);
                Arc::clone(throttle)
            }
            None => Arc::new(Throttle::new(rate, burst)),
        };
        (quota, throttle)
    });
    throttles.collect()
}

/// Files that the credentials in use name and that cannot be read now, each with
/// the reason. No mistake of the configuration: they may be mounted later, or
/// elsewhere.
pub async fn unreadable_files(config: &Config) -> Vec<String> {
    let mut unreadable = Vec::new();
    for name in config.used_credentials() {
        for (key, path) in config.credentials[name].source.files() {
            if let Err(wrong) = credentials::check_file(path).await {
                unreadable.push(format!("credentials.{name}.{key}: {wrong}"));
            }
        }
    }
    unreadable
}

/// The rate and the burst of one shard.
pub(super) fn share(api: &api::settings::Settings, shard: Shard) -> (f64, u32) {
    let rate = api.requests_per_second.0 / f64::from(shard.total());
    (rate, (api.burst.get() / shard.total()).max(1))
}

/// One provider for each entry in use, which keeps its key as long as it is good;
/// `kept` have one already.
fn providers(
    config: &Config,
    common: &Shared,
    own: &Arc<Own>,
    kept: &HashMap<&str, Arc<Cached>>,
) -> Vec<(String, Arc<Cached>)> {
    let mut providers: Vec<(String, Arc<Cached>)> = Vec::new();
    for name in config.used_credentials() {
        let make = || {
            let context = Context {
                name: name.to_owned(),
                http: common.http.clone(),
                observer: account::observer(own, name),
                clock: common.clock.clone(),
                addresses: Addresses {
                    vpc: config.api.network.is_vpc(),
                    ..Addresses::default()
                },
                home: environment::process("HOME").map(PathBuf::from),
                session_name: SESSION_NAME.to_owned(),
            };
            let source = &config.credentials[name].source;
            let provider = source.provider(&context, |name| {
                let source = providers.iter().find(|(it, _)| it == name);
                let (_, provider) = source.expect("the source of a role comes before it");
                Arc::clone(provider) as _
            });
            Arc::new(Cached::new(&context, provider))
        };
        let provider = kept.get(name).map_or_else(make, Arc::clone);
        providers.push((name.to_owned(), provider));
    }
    providers
}

#[cfg(test)]
mod tests {
    use settings::Count;

    use super::*;
    use crate::config;

    /// A configuration of three entries: a key, a role assumed with it, another key.
    fn config(secret: &str, rate: &str, more: &str) -> Config {
        let text = format!(
            "api: {{ requests_per_second: {rate}, burst: 7 }}
credentials:
  role: {{ type: assume_role, role_arn: 'acs:ram::1:role/reader', source: key }}
  key: {{ type: access_key, access_key_id: a, access_key_secret: {secret} }}
  other: {{ type: access_key, access_key_id: b, access_key_secret: b }}
instances:
  - {{ id: cri-a, region: cn-hangzhou, credentials: role, tasks: [crast-1] }}
  - {{ id: cri-b, region: cn-hangzhou, credentials: other, tasks: [crast-1] }}
{more}"
        );
        config::parse(&text, "test.yaml").unwrap()
    }

    fn accounts(config: &Config) -> Accounts {
        let own = Arc::new(Own::new(crate::metrics::own::Build::CURRENT));
        Accounts::new(config, Shard::WHOLE, &own, &Clock::fixed(1_000_000)).unwrap()
    }

    /// The names of entries that have another source of keys in `b` than in `a`.
    fn renewed<'a>(a: &Accounts, b: &'a Accounts) -> Vec<&'a str> {
        let renewed = b.providers.iter().filter(|(name, now)| {
            let then = a.providers.iter().find(|(it, _)| it == name);
            !then.is_some_and(|(_, then)| Arc::ptr_eq(now, then))
        });
        let mut names: Vec<&str> = renewed.map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    #[tokio::test]
    async fn what_is_the_same_keeps_its_keys() {
        let before = config("x", "5", "");
        let old = accounts(&before);
        let after = |config: &Config| {
            let new = old.after(&before, config);
            let anew: Vec<_> = asked_anew(&before, config).map(str::to_owned).collect();
            (renewed(&old, &new).join(" "), anew.join(" "))
        };
        let same = (String::new(), String::new());
        assert_eq!(after(&config("x", "5", "")), same);
        let more = "  - { id: cri-c, region: cn-hangzhou, credentials: other, tasks: [crast-1] }";
        assert_eq!(after(&config("x", "5", more)).1, "cri-c");
        // A role is its own entry and the one that its keys come from.
        let other_key = (String::from("key role"), String::from("cri-a"));
        assert_eq!(after(&config("y", "5", "")), other_key);
        let other_rate = (String::new(), String::from("cri-a cri-b"));
        assert_eq!(after(&config("x", "6", "")), other_rate);
    }

    #[tokio::test]
    async fn an_account_that_stays_keeps_what_its_rate_limit_has_learned() {
        let before = config("x", "5", "");
        let old = accounts(&before);
        let throttle = &old.throttles["credentials other"];
        throttle.throttled(tokio::time::Instant::now(), Duration::ZERO);
        assert!((throttle.rate() - 2.5).abs() < 1e-9);
        let new = old.after(&before, &config("y", "8", ""));
        let now = &new.throttles["credentials other"];
        assert!(Arc::ptr_eq(throttle, now));
        assert!((now.rate() - 4.0).abs() < 1e-9, "half of 8");
    }

    #[test]
    fn shards_share_the_rate_of_an_account() {
        let api = api::settings::Settings {
            burst: Count::of(7),
            ..Default::default()
        };
        for (total, expected) in [(1, (5.0, 7)), (2, (2.5, 3)), (10, (0.5, 1))] {
            let shard = Shard::new(total - 1, total).unwrap();
            assert_eq!(share(&api, shard), expected);
        }
    }
}
