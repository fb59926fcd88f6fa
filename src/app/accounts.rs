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
use crate::config::{self, Api, Config, CredentialsSource, RoleSession, Secret, Signature};
use crate::credentials::assume_role::AssumeRole;
use crate::credentials::cached::Cached;
use crate::credentials::chain::Chain;
use crate::credentials::credentials_file::CredentialsFile;
use crate::credentials::ecs_ram_role::EcsRamRole;
use crate::credentials::environment::{self, Environment};
use crate::credentials::oidc::Oidc;
use crate::credentials::profile::Profile;
use crate::credentials::static_key::{Setting, StaticKey};
use crate::credentials::sts::Role;
use crate::credentials::uri::Uri;
use crate::credentials::{self, Addresses, Context, ProvideCredentials};
use crate::http::Http;
use crate::metrics::own::Own;
use crate::shard::Shard;
use crate::signing::Algorithm;

/// The longest pause before the first retry of a request.
const BACKOFF: Duration = Duration::from_millis(200);

/// One client for each instance, in their order; those of one entry of
/// `credentials:` share theirs. The rate limit is the account's, so each shard
/// takes its part of it.
pub fn clients(
    config: &Config,
    shard: Shard,
    own: &Arc<Own>,
    clock: &Clock,
) -> Result<Vec<Arc<Client>>, reqwest::Error> {
    let common = Shared {
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
    let providers = providers(config, &common);
    let mut throttles: HashMap<&str, Arc<Throttle>> = HashMap::new();
    let mut clients: HashMap<usize, Arc<Client>> = HashMap::new();
    let of_instances = config.instances.iter().map(|instance| {
        let client = clients.entry(instance.credentials).or_insert_with(|| {
            let entry = &config.credentials[instance.credentials];
            let new_throttle = || {
                let (rate, burst) = share(&config.api, shard);
                Arc::new(Throttle::new(rate, burst))
            };
            let account = Account {
                name: entry.name.clone(),
                provider: Arc::clone(&providers[instance.credentials]),
                throttle: match &entry.quota_group {
                    Some(group) => Arc::clone(throttles.entry(group).or_insert_with(new_throttle)),
                    None => new_throttle(),
                },
            };
            Arc::new(Client::new(account, common.clone(), options))
        });
        Arc::clone(client)
    });
    Ok(of_instances.collect())
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
fn share(api: &Api, shard: Shard) -> (f64, u32) {
    let rate = api.requests_per_second / f64::from(shard.total());
    (rate, (api.burst / shard.total()).max(1))
}

/// One provider for each entry, which keeps its key as long as it is good.
fn providers(config: &Config, common: &Shared) -> Vec<Arc<dyn ProvideCredentials>> {
    let mut providers: Vec<Arc<dyn ProvideCredentials>> = Vec::new();
    for entry in &config.credentials {
        let context = |addresses: Option<&config::Addresses>| Context {
            name: entry.name.clone(),
            http: common.http.clone(),
            own: Arc::clone(&common.own),
            clock: common.clock.clone(),
            addresses: addresses.map_or_else(Addresses::default, told),
            home: environment::process("HOME").map(PathBuf::from),
        };
        // A role's source stands before it.
        let provider = provider(&entry.source, &context, &providers);
        providers.push(Arc::new(Cached::new(&context(None), provider)));
    }
    providers
}

fn provider(
    source: &CredentialsSource,
    context: &dyn Fn(Option<&config::Addresses>) -> Context,
    before: &[Arc<dyn ProvideCredentials>],
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
            Arc::new(Profile::new(&context, file.clone(), name.clone()))
        }
        CredentialsSource::CredentialsFile {
            section,
            file,
            addresses,
        } => {
            let (context, section) = (context(Some(addresses)), Some(section.clone()));
            Arc::new(CredentialsFile::new(&context, file.clone(), section))
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
            let source = Arc::clone(&before[*source]);
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
        Secret::Inline(value) => Setting::Inline(value.clone()),
        Secret::File(path) => Setting::File(path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
