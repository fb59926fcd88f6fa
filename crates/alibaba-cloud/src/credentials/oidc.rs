//! A role assumed with an OIDC token, which is how a pod in ACK gets its key
//! (RRSA). The token travels in a form and not in a URL, because URLs get into
//! logs.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use secrecy::ExposeSecret as _;

use super::files::{self, unreadable};
use super::sts::{Role, Sts};
use super::{Context, Credentials, Error, ProvideCredentials, clean};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::{FilePath, Period, hours, minutes};

use super::values::{Endpoint, Policy, ProviderArn, Region, RoleArn, SessionName};

/// `type: oidc`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "OidcSettings", deny_unknown_fields)]
pub struct Settings {
    /// The role to assume, `acs:ram::ACCOUNT:role/NAME`.
    pub role_arn: RoleArn,
    /// The identity provider that signs the token, `acs:ram::ACCOUNT:oidc-provider/NAME`.
    pub oidc_provider_arn: ProviderArn,
    /// The file that holds the token; it is read each time.
    #[schemars(example = &"/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token")]
    pub oidc_token_file: FilePath,
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

const PROVIDER: &str = "oidc";

/// The provider.
pub struct Oidc {
    role: Role,
    provider_arn: String,
    token_file: PathBuf,
    sts: Sts,
}

impl Oidc {
    /// Assumes `role` with the token in `token_file`, which the identity
    /// provider `provider_arn` vouches for. Its external id plays no part.
    pub fn new(
        context: &Context,
        role: Role,
        provider_arn: impl Into<String>,
        token_file: impl Into<PathBuf>,
    ) -> Self {
        Self {
            role,
            provider_arn: provider_arn.into(),
            token_file: token_file.into(),
            sts: Sts::new(context, PROVIDER, "AssumeRoleWithOIDC"),
        }
    }
}

impl ProvideCredentials for Oidc {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(async {
            let path = &self.token_file;
            // Read each time: the kubelet puts a new one there every hour. Its
            // permissions are the kubelet's business too.
            let token = files::read(path)
                .await
                .map_err(|error| broken(format!("the token file {}", unreadable(path, &error))))?;
            let token = clean(token.expose_secret())
                .map_err(|wrong| broken(format!("the token file {} {wrong}", path.display())))?;
            let mut form = self.sts.form(&self.role)?;
            form.push(("OIDCProviderArn", self.provider_arn.as_str().into()));
            form.push(("OIDCToken", token.into()));
            let asked = self.sts.ask(&form, None).await;
            asked.map_err(|failed| failed.error)
        })
    }
}

fn broken(problem: String) -> Error {
    Error::broken(PROVIDER, problem)
}
