//! The accounts of a configuration as clients of the API: credentials, rate
//! limits (one a quota group) and what all of them share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::api::throttle::Throttle;
use crate::api::{Account, Client, Options, Shared};
use crate::clock::Clock;
use crate::config::{Config, Credentials, CredentialsSource, Secret, Signature};
use crate::credentials::cached::Cached;
use crate::credentials::chain::Chain;
use crate::credentials::environment::{self, Environment};
use crate::credentials::static_key::{Setting, StaticKey};
use crate::credentials::{Addresses, Context, ProvideCredentials};
use crate::http::Http;
use crate::metrics::own::Own;
use crate::signing::Algorithm;

/// The longest pause before the first retry of a request.
const BACKOFF: Duration = Duration::from_millis(200);

/// One client for each entry of `config.credentials`, in their order.
pub fn clients(
    config: &Config,
    own: &Arc<Own>,
    clock: &Clock,
) -> Result<Vec<Arc<Client>>, reqwest::Error> {
    let shared = Shared {
        http: Http::new()?,
        in_flight: Arc::new(Semaphore::new(config.poll.concurrency)),
        own: Arc::clone(own),
        clock: clock.clone(),
    };
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
    let mut groups: HashMap<&str, Arc<Throttle>> = HashMap::new();
    let new_throttle = || {
        Arc::new(Throttle::new(
            config.api.requests_per_second,
            config.api.burst,
        ))
    };
    let clients = config.credentials.iter().map(|entry| {
        let throttle = match &entry.quota_group {
            Some(group) => Arc::clone(groups.entry(group).or_insert_with(new_throttle)),
            None => new_throttle(),
        };
        let context = Context {
            name: entry.name.clone(),
            http: shared.http.clone(),
            own: Arc::clone(own),
            clock: clock.clone(),
            addresses: Addresses::default(),
            home: environment::process("HOME").map(PathBuf::from),
        };
        let account = Account {
            name: entry.name.clone(),
            provider: Arc::new(Cached::new(&context, provider(&context, entry))),
            throttle,
        };
        Arc::new(Client::new(account, shared.clone(), options))
    });
    Ok(clients.collect())
}

fn provider(context: &Context, entry: &Credentials) -> Arc<dyn ProvideCredentials> {
    match &entry.source {
        CredentialsSource::Default => Arc::new(Chain::official(context, environment::process)),
        CredentialsSource::Environment => Arc::new(Environment::of_process()),
        CredentialsSource::AccessKey {
            access_key_id,
            access_key_secret,
            security_token,
        } => Arc::new(StaticKey::new(
            setting(access_key_id),
            setting(access_key_secret),
            security_token.as_ref().map(setting),
        )),
    }
}

fn setting(secret: &Secret) -> Setting {
    match secret {
        Secret::Inline(value) => Setting::Inline(value.clone()),
        Secret::File(path) => Setting::File(path.clone()),
    }
}
