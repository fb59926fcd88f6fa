//! Keys from a URI, usually a helper's on the same machine. It is never asked
//! through a proxy.

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};

use super::exchange::{Miss, fetch, usable};
use super::{Context, Credentials, Error, ProvideCredentials, answer};
use crate::http::{self, Http, Route};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::KeyUri;

/// `type: uri`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "UriSettings", deny_unknown_fields)]
pub struct Settings {
    /// The URI that answers with keys: https, or http to a loopback address or 100.100.100.200.
    pub uri: KeyUri,
}

const PROVIDER: &str = "uri";
const TIMEOUT: Duration = Duration::from_secs(10);

/// The provider.
pub struct Uri {
    http: Http,
    uri: SecretString,
}

impl Uri {
    /// Asks `uri`: https, or plain http to this machine or the metadata service.
    /// It may hold a password, and is not shown but for its host.
    pub fn new(context: &Context, uri: impl Into<SecretString>) -> Self {
        Self {
            http: context.http.clone(),
            uri: uri.into(),
        }
    }
}

impl ProvideCredentials for Uri {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(async {
            let url = usable(self.uri.expose_secret())
                .map_err(|wrong| Error::broken(PROVIDER, format!("the credentials URI {wrong}")))?;
            // Path and query may hold a secret.
            let host = http::authority(&url).unwrap_or_default();
            let broken = |problem: String| Error::broken(PROVIDER, format!("{host}: {problem}"));
            let headers = vec![("accept", "application/json".to_owned())];
            let get = || {
                let (url, headers) = (url.clone(), headers.clone());
                self.http
                    .send(Route::Direct, Method::GET, url, headers, None)
            };
            let body = fetch(TIMEOUT, get).await.map_err(|miss| match &miss {
                Miss::Status(status) => broken(format!("answers with HTTP {status}")),
                Miss::Silent { problem, .. } | Miss::Unreadable(problem) => {
                    let kind = format!("{host}: {}", miss.kind());
                    Error::broken_as(PROVIDER, format!("{host}: {problem}"), kind)
                }
            })?;
            answer::of_metadata(PROVIDER, &body).map_err(broken)
        })
    }
}
