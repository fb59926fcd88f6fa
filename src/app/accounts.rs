//! The accounts of a configuration as clients of the API: credentials, rate
//! limits (one a quota group) and what all of them share.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::clock::Clock;
use alibaba_cloud::credentials::assume_role::AssumeRole;
use alibaba_cloud::credentials::cached::Cached;
use alibaba_cloud::credentials::chain::Chain;
use alibaba_cloud::credentials::ecs_ram_role::EcsRamRole;
use alibaba_cloud::credentials::environment::{self, Environment};
use alibaba_cloud::credentials::oidc::Oidc;
use alibaba_cloud::credentials::static_key::{Setting, StaticKey};
use alibaba_cloud::credentials::sts::Role;
use alibaba_cloud::credentials::uri::Uri;
use alibaba_cloud::credentials::vendor_file::VendorFile;
use alibaba_cloud::credentials::{self, Addresses, Context, ProvideCredentials};
use alibaba_cloud::http::{self, Http};
use alibaba_cloud::rpc::Throttle;
use alibaba_cloud::signing::Algorithm;
use tokio::sync::Semaphore;

use crate::api::{self, Account, Client, Options, Shared};
use crate::config::{self, Api, Config, CredentialsSource, RoleSession, Secret, Signature};
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
            in_flight: Arc::new(Semaphore::new(config.poll.concurrency)),
            clock: clock.clone(),
        };
        Ok(Self {
            providers: providers(config, &common, own, &HashMap::new()),
            throttles: throttles(&config.api, &config.credentials, shard, &HashMap::new()),
            common,
            own: Arc::clone(own),
            shard,
        })
    }

    /// The accounts of the configuration after `before`. What is the same there
    /// keeps its keys; an account that is still there keeps its rate limit.
    #[must_use]
    pub fn after(&self, before: &Config, config: &Config) -> Self {
        let same = before.credentials.iter().enumerate().filter(|(_, entry)| {
            let now = config
                .credentials
                .iter()
                .position(|it| it.name == entry.name);
            now.is_some_and(|now| same_keys((before, entry), (config, &config.credentials[now])))
        });
        let kept = same.map(|(index, entry)| {
            let provider = Arc::clone(&self.providers[index].1);
            (entry.name.as_str(), provider)
        });
        let kept = kept.collect();
        let mut common = self.common.clone();
        if before.poll.concurrency != config.poll.concurrency {
            common.in_flight = Arc::new(Semaphore::new(config.poll.concurrency));
        }
        Self {
            providers: providers(config, &common, &self.own, &kept),
            throttles: throttles(
                &config.api,
                &config.credentials,
                self.shard,
                &self.throttles,
            ),
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
            timeout: config.poll.timeout,
            retries: config.api.retries,
            backoff: BACKOFF,
            page_size: config.api.page_size,
            max_pages: config.api.max_pages,
        };
        let mut clients: HashMap<usize, Arc<Client>> = HashMap::new();
        let of_instances = config.instances.iter().map(|instance| {
            let client = clients.entry(instance.credentials).or_insert_with(|| {
                let entry = &config.credentials[instance.credentials];
                let account = Account {
                    name: entry.name.clone(),
                    provider: Arc::clone(&self.providers[instance.credentials].1) as _,
                    throttle: Arc::clone(&self.throttles[&quota(entry)]),
                    observer: account::observer(&self.own, &entry.name),
                };
                Arc::new(Client::new(account, self.common.clone(), options))
            });
            Arc::clone(client)
        });
        of_instances.collect()
    }
}

/// Whether two entries, each of its configuration, give the same keys.
fn same_keys(a: (&Config, &config::Credentials), b: (&Config, &config::Credentials)) -> bool {
    use CredentialsSource::AssumeRole;
    let ((in_a, a), (in_b, b)) = (a, b);
    let (AssumeRole { source: of_a, .. }, AssumeRole { source: of_b, .. }) = (&a.source, &b.source)
    else {
        return a.source == b.source;
    };
    // The source is a number, which says nothing by itself.
    let (of_a, of_b) = (&in_a.credentials[*of_a], &in_b.credentials[*of_b]);
    let mut role = a.source.clone();
    if let (AssumeRole { source: ours, .. }, AssumeRole { source: theirs, .. }) =
        (&mut role, &b.source)
    {
        *ours = *theirs;
    }
    role == b.source && of_a.name == of_b.name && same_keys((in_a, of_a), (in_b, of_b))
}

/// Instances of `config` that are asked with other keys, at another address or
/// in another way than `before`.
pub fn asked_anew<'a>(before: &'a Config, config: &'a Config) -> impl Iterator<Item = &'a str> {
    let same_way = before.api == config.api && before.poll.timeout == config.poll.timeout;
    let anew = config.instances.iter().filter(move |now| {
        let then = before.instances.iter().find(|then| then.id == now.id);
        !then.is_some_and(|then| {
            let entry = &before.credentials[then.credentials];
            let entry_now = &config.credentials[now.credentials];
            same_way
                && (&then.endpoint, &then.region) == (&now.endpoint, &now.region)
                && entry.name == entry_now.name
                && same_keys((before, entry), (config, entry_now))
        })
    });
    anew.map(|instance| instance.id.as_str())
}

/// What names a rate limit: entries of one group share theirs.
fn quota(entry: &config::Credentials) -> String {
    match &entry.quota_group {
        Some(group) => format!("group {group}"),
        None => format!("credentials {}", entry.name),
    }
}

fn throttles(
    api: &Api,
    credentials: &[config::Credentials],
    shard: Shard,
    known: &HashMap<String, Arc<Throttle>>,
) -> HashMap<String, Arc<Throttle>> {
    let (rate, burst) = share(api, shard);
    let quotas: HashSet<String> = credentials.iter().map(quota).collect();
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
    let mut told = Vec::new();
    for entry in &config.credentials {
        for (key, path) in entry.source.files() {
            if let Err(wrong) = credentials::check_file(path).await {
                told.push(format!("credentials.{}.{key}: {wrong}", entry.name));
            }
        }
    }
    told
}

/// The rate and the burst of one shard.
pub(super) fn share(api: &Api, shard: Shard) -> (f64, u32) {
    let rate = api.requests_per_second / f64::from(shard.total());
    (rate, (api.burst / shard.total()).max(1))
}

/// One provider for each entry, which keeps its key as long as it is good; `kept`
/// have one already.
fn providers(
    config: &Config,
    common: &Shared,
    own: &Arc<Own>,
    kept: &HashMap<&str, Arc<Cached>>,
) -> Vec<(String, Arc<Cached>)> {
    let mut providers: Vec<(String, Arc<Cached>)> = Vec::new();
    for entry in &config.credentials {
        if let Some(provider) = kept.get(entry.name.as_str()) {
            providers.push((entry.name.clone(), Arc::clone(provider)));
            continue;
        }
        let observer = account::observer(own, &entry.name);
        let context = |addresses: Option<&config::Addresses>| Context {
            name: entry.name.clone(),
            http: common.http.clone(),
            observer: Arc::clone(&observer),
            clock: common.clock.clone(),
            addresses: addresses.map_or_else(Addresses::default, told),
            home: environment::process("HOME").map(PathBuf::from),
            session_name: SESSION_NAME.to_owned(),
        };
        // A role's source stands before it.
        let provider = provider(&entry.source, &context, &providers);
        let cached = Arc::new(Cached::new(&context(None), provider));
        providers.push((entry.name.clone(), cached));
    }
    providers
}

fn provider(
    source: &CredentialsSource,
    context: &dyn Fn(Option<&config::Addresses>) -> Context,
    before: &[(String, Arc<Cached>)],
) -> Arc<dyn ProvideCredentials> {
    match source {
        CredentialsSource::Default { addresses } => {
            let context = context(Some(addresses));
            Arc::new(Chain::official(&context, environment::process))
        }
        CredentialsSource::Environment => Arc::new(Environment::of_process()),
        CredentialsSource::AccessKey {
            access_key_id,
            access_key_secret,
            security_token,
        } => {
            let key = StaticKey::new(
                setting(access_key_id),
                setting(access_key_secret),
                security_token.as_ref().map(setting),
            );
            Arc::new(key.counted(&context(None)))
        }
        CredentialsSource::Profile {
            name,
            file,
            addresses,
        } => {
            let context = context(Some(addresses));
            Arc::new(VendorFile::profile(&context, file.clone(), name.clone()))
        }
        CredentialsSource::CredentialsFile {
            section,
            file,
            addresses,
        } => {
            let (context, section) = (context(Some(addresses)), Some(section.clone()));
            Arc::new(VendorFile::section(&context, file.clone(), section))
        }
        CredentialsSource::Oidc {
            role_arn,
            oidc_provider_arn,
            oidc_token_file,
            session,
            addresses,
        } => Arc::new(Oidc::new(
            &context(Some(addresses)),
            role(role_arn, session),
            oidc_provider_arn,
            oidc_token_file,
        )),
        CredentialsSource::EcsRamRole {
            role_name,
            disable_imdsv1,
            addresses,
        } => {
            let context = context(Some(addresses));
            Arc::new(EcsRamRole::new(
                &context,
                role_name.clone(),
                *disable_imdsv1,
            ))
        }
        CredentialsSource::Uri { uri } => Arc::new(Uri::new(&context(None), uri.clone())),
        CredentialsSource::AssumeRole {
            role_arn,
            source,
            external_id,
            session,
            addresses,
        } => {
            let role = Role {
                external_id: external_id.as_ref().map(setting),
                ..role(role_arn, session)
            };
            let source = Arc::clone(&before[*source].1);
            Arc::new(AssumeRole::new(&context(Some(addresses)), role, source))
        }
    }
}

fn role(arn: &str, session: &RoleSession) -> Role {
    Role {
        arn: arn.to_owned(),
        session_name: Some(session.name.clone()),
        duration: Some(session.duration),
        external_id: None,
        policy: session.policy.clone(),
    }
}

/// The configuration has resolved the region already.
fn told(addresses: &config::Addresses) -> Addresses {
    Addresses {
        sts: addresses.sts.as_ref().map(config::Endpoint::url),
        sts_region: None,
        vpc: addresses.vpc,
        metadata: addresses.metadata.url(),
    }
}

fn setting(secret: &Secret) -> Setting {
    match secret {
        Secret::Inline(value) => Setting::Inline(value.clone().into()),
        Secret::File(path) => Setting::File(path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let api = Api {
            signature: Signature::HmacSha1,
            vpc: false,
            requests_per_second: 5.0,
            burst: 7,
            retries: 0,
            page_size: 1,
            max_pages: 1,
        };
        for (total, expected) in [(1, (5.0, 7)), (2, (2.5, 3)), (10, (0.5, 1))] {
            let shard = Shard::new(total - 1, total).unwrap();
            assert_eq!(share(&api, shard), expected);
        }
    }
}
