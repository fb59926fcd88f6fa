//! A role that another provider's key may assume, which is how one account
//! looks into another. Any provider can be the source.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use secrecy::ExposeSecret as _;

use super::files::KeyFiles;
use super::static_key::Setting;
use super::sts::{Role, Sts};
use super::{Context, Credentials, Error, ProvideCredentials};

const PROVIDER: &str = "assume_role";

/// The provider.
pub struct AssumeRole {
    role: Role,
    external_id: Option<Setting>,
    key_files: KeyFiles,
    source: Arc<dyn ProvideCredentials>,
    sts: Sts,
}

impl AssumeRole {
    /// Assumes `role` with the key of `source`.
    pub fn new(context: &Context, role: Role, source: Arc<dyn ProvideCredentials>) -> Self {
        Self {
            role,
            external_id: None,
            key_files: KeyFiles::default(),
            source,
            sts: Sts::new(context, PROVIDER, "AssumeRole"),
        }
    }

    /// The same with an external id that may stand in a file, in place of the role's.
    #[must_use]
    pub fn with_external_id(self, external_id: Option<Setting>) -> Self {
        Self {
            external_id,
            ..self
        }
    }

    async fn role(&self) -> Result<Cow<'_, Role>, Error> {
        let Some(external_id) = &self.external_id else {
            return Ok(Cow::Borrowed(&self.role));
        };
        let value = external_id
            .read(PROVIDER, "external_id", &self.key_files)
            .await?;
        Ok(Cow::Owned(Role {
            external_id: Some(value.expose_secret().to_owned()),
            ..self.role.clone()
        }))
    }

    /// A source that is not configured makes this provider a broken one: the
    /// role was asked for.
    async fn base(&self) -> Result<Credentials, Error> {
        let no_base = |error| Error::broken(PROVIDER, format!("its source has no key: {error}"));
        self.source.provide().await.map_err(no_base)
    }
}

impl ProvideCredentials for AssumeRole {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(async {
            let role = self.role().await?;
            let form = role.form().map_err(broken)?;
            let base = self.base().await?;
            let asked = match self.sts.ask(&form, Some(&base)).await {
                Err(failed) if failed.refuses_token && self.source.renew(&base).await => {
                    self.sts.ask(&form, Some(&self.base().await?)).await
                }
                asked => asked,
            };
            asked.map_err(|failed| broken(failed.problem))
        })
    }
}

fn broken(problem: String) -> Error {
    Error::broken(PROVIDER, problem)
}
