//! A role that another provider's key may assume, which is how one account
//! looks into another. Any provider can be the source.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use secrecy::ExposeSecret as _;

use super::files::KeyFiles;
use super::sts::{Role, Sts};
use super::{Context, Credentials, Error, ProvideCredentials};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::{Period, Secret, hours, minutes};

use super::values::{Endpoint, Policy, Region, RoleArn, SessionName};

/// `type: assume_role`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "AssumeRoleSettings", deny_unknown_fields)]
pub struct Settings {
    /// The role to assume, `acs:ram::ACCOUNT:role/NAME`.
    pub role_arn: RoleArn,
    /// The entry under `credentials` whose keys assume the role. It may assume a role itself.
    #[schemars(example = &"default")]
    pub source: String,
    /// What the owner of the role demands of a third party.
    #[serde(default, alias = "external_id_file")]
    pub external_id: Option<Secret>,
    /// The name of the session, which the audit log shows: 2 to 64 letters, digits, `.`, `@`,
    /// `_` and `-`.
    #[serde(default)]
    pub role_session_name: SessionName,
    /// How long a key lives; the role's own limit counts too.
    #[serde(default)]
    pub duration: Period<{ hours(1) }, { minutes(15) }, { hours(12) }>,
    /// A RAM policy in JSON that narrows the role's permissions.
    #[serde(default)]
    pub policy: Option<Policy>,
    /// The region whose STS is asked; left out, the central STS. Required with
    /// `api.network: vpc` and without `sts_endpoint`.
    #[serde(default)]
    pub sts_region: Option<Region>,
    /// The server of STS; replaces `sts_region`. Plain http only to a loopback address.
    #[serde(default)]
    pub sts_endpoint: Option<Endpoint>,
}

const PROVIDER: &str = "assume_role";

/// The provider.
pub struct AssumeRole {
    role: Role,
    source: Arc<dyn ProvideCredentials>,
    sts: Sts,
    key_files: KeyFiles,
}

impl AssumeRole {
    /// Assumes `role` with the key of `source`.
    pub fn new(context: &Context, role: Role, source: Arc<dyn ProvideCredentials>) -> Self {
        Self {
            role,
            source,
            sts: Sts::new(context, PROVIDER, "AssumeRole"),
            key_files: KeyFiles::default(),
        }
    }

    /// A source that is not configured makes this provider a broken one: the
    /// role was asked for.
    async fn base(&self) -> Result<Credentials, Error> {
        let provided = self.source.provide().await;
        provided.map_err(|error| {
            error.within(PROVIDER, |text| format!("its source has no key: {text}"))
        })
    }
}

impl ProvideCredentials for AssumeRole {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(async {
            let external_id = match &self.role.external_id {
                Some(setting) => {
                    let read = setting.read("external_id", &self.key_files).await;
                    Some(read.map_err(broken)?)
                }
                None => None,
            };
            let mut form = self.sts.form(&self.role)?;
            if let Some(external_id) = &external_id {
                form.push(("ExternalId", external_id.expose_secret().into()));
            }
            let base = self.base().await?;
            let asked = match self.sts.ask(&form, Some(&base)).await {
                Err(failed) if failed.refuses_token && self.source.renew(&base).await => {
                    self.sts.ask(&form, Some(&self.base().await?)).await
                }
                asked => asked,
            };
            asked.map_err(|failed| failed.error)
        })
    }
}

fn broken(problem: String) -> Error {
    Error::broken(PROVIDER, problem)
}
