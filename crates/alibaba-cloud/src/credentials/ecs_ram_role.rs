//! The role of the ECS instance that this runs on, from its metadata service.
//! Nobody says that there is one but the service itself: one that cannot be
//! reached or does not answer in time means "not configured", as does one that
//! knows no role where none was named.

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Method, Url};
use secrecy::{ExposeSecret as _, SecretString};

use super::exchange::{Miss, fetch, usable};
use super::{Context, Credentials, Error, ProvideCredentials, answer, clean};
use crate::http::{Http, Route};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{MetadataEndpoint, RoleName};

/// `type: ecs_ram_role`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "EcsRamRoleSettings", deny_unknown_fields)]
pub struct Settings {
    /// The name of the role, not its ARN; left out, the metadata service is asked for it.
    #[serde(default)]
    pub role_name: Option<RoleName>,
    /// Whether a metadata service that gives no token is an error; otherwise it is asked without
    /// one.
    #[serde(default)]
    pub disable_imdsv1: bool,
    /// The metadata service of ECS instances.
    #[serde(default)]
    pub metadata_endpoint: MetadataEndpoint,
}

const PROVIDER: &str = "ecs_ram_role";
/// Of each question; the official clients wait as long.
const TIMEOUT: Duration = Duration::from_secs(1);
const TOKEN_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/ram/security-credentials/";
/// What helps where there is no key without a token, by why there is none.
const NO_IMDSV1: &str = "; nothing is asked without one, as disable_imdsv1 or ALIBABA_CLOUD_IMDSV1_DISABLED says: let PUT /latest/api/token through to it, or turn that off";
const WANTS_TOKEN: &str = "; it seems to insist on a token (HttpTokens: required), which PUT /latest/api/token did not give";
const LET_THROUGH: &str = ": let that request through to it, which a container's network or a firewall may keep back, or set HttpTokens of the instance to optional";
const REFUSES_TOKEN: &str = "; it does not take the token that it gave a moment ago: see that no proxy or firewall before it takes away the header x-aliyun-ecs-metadata-token";

/// The provider.
pub struct EcsRamRole {
    http: Http,
    metadata: String,
    role_name: Option<String>,
    imdsv1_disabled: bool,
}

impl EcsRamRole {
    /// The key of `role_name`, or of the role that the service names. With
    /// `imdsv1_disabled` nothing is asked without a token of the service.
    pub fn new(context: &Context, role_name: Option<String>, imdsv1_disabled: bool) -> Self {
        Self {
            http: context.http.clone(),
            metadata: context.addresses.metadata.clone(),
            role_name,
            imdsv1_disabled,
        }
    }

    async fn read(&self) -> Result<Credentials, Error> {
        let base = usable(&self.metadata)
            .map_err(|wrong| broken(format!("the address of the metadata service {wrong}")))?;
        let token = match self.token(&base).await {
            Ok(token) => Ok(token),
            Err(miss) if self.imdsv1_disabled => {
                return Err(self.told("gives no token", &miss, false, NO_IMDSV1));
            }
            Err(miss) => Err(miss),
        };
        // A service that has answered is there: what follows cannot be "not configured".
        let is_there = token.is_ok();
        // What helps where it refuses.
        let advice = match &token {
            Ok(_) => REFUSES_TOKEN.to_owned(),
            Err(miss) => format!("{WANTS_TOKEN} ({}){LET_THROUGH}", miss.kind()),
        };
        let told = |what, miss: &Miss, is_there| {
            let refused = matches!(miss, Miss::Status(401 | 403));
            self.told(what, miss, is_there, if refused { &advice } else { "" })
        };
        let token = token.as_ref().ok();
        if let Some(role) = &self.role_name {
            if role_name(role.as_bytes()).is_none() {
                return Err(broken(
                    "the role name should have up to 64 characters, of A-Z a-z 0-9 . _ -"
                        .to_owned(),
                ));
            }
            match self.key(&base, role, token).await {
                Err(absent @ Miss::Status(404)) => {
                    Err(told("does not know the role", &absent, false))
                }
                read => read.map_err(|miss| told("gives no key of the role", &miss, is_there)),
            }
        } else {
            let named = match self.get(&base, ROLES_PATH, token).await {
                Err(absent @ Miss::Status(404)) => {
                    return Err(told("knows no role", &absent, false));
                }
                read => read.map_err(|miss| told("names no role", &miss, is_there))?,
            };
            let role = role_name(&named).ok_or_else(|| {
                let problem = "the answer is no role's name".to_owned();
                told("names no role", &Miss::Unreadable(problem), true)
            })?;
            let key = self.key(&base, role, token).await;
            key.map_err(|miss| told("gives no key of the role", &miss, true))
        }
    }

    async fn key(
        &self,
        base: &Url,
        role: &str,
        token: Option<&SecretString>,
    ) -> Result<Credentials, Miss> {
        let body = self
            .get(base, &format!("{ROLES_PATH}{role}"), token)
            .await?;
        answer::of_metadata(PROVIDER, &body).map_err(Miss::Unreadable)
    }

    async fn token(&self, base: &Url) -> Result<SecretString, Miss> {
        let ttl = (
            "x-aliyun-ecs-metadata-token-ttl-seconds",
            "21600".to_owned(),
        );
        let url = at(base, TOKEN_PATH);
        let put = || {
            let (url, headers) = (url.clone(), vec![ttl.clone()]);
            // Some servers insist on a length.
            let body = Some(String::new());
            self.http
                .send(Route::Direct, Method::PUT, url, headers, body)
        };
        let answer = fetch(TIMEOUT, put).await?;
        let token = SecretString::from(String::from_utf8_lossy(&answer).into_owned());
        match clean(token.expose_secret()) {
            Ok(token) if token.len() <= 4096 && !token.contains('<') => Ok(token.into()),
            _ => Err(Miss::Unreadable("the answer is no token".to_owned())),
        }
    }

    /// Asks with the token, and where that is refused once more without it.
    async fn get(
        &self,
        base: &Url,
        path: &str,
        token: Option<&SecretString>,
    ) -> Result<Vec<u8>, Miss> {
        let get = async |token: Option<&SecretString>| {
            let send = || {
                let header = token.map(|token| {
                    let value = token.expose_secret().to_owned();
                    ("x-aliyun-ecs-metadata-token", value)
                });
                let headers = header.into_iter().collect();
                self.http
                    .send(Route::Direct, Method::GET, at(base, path), headers, None)
            };
            fetch(TIMEOUT, send).await
        };
        match get(token).await {
            Err(Miss::Status(status))
                if token.is_some() && !self.imdsv1_disabled && status != 404 =>
            {
                get(None).await
            }
            answer => answer,
        }
    }

    fn told(&self, what: &str, miss: &Miss, is_there: bool, advice: &str) -> Error {
        let service = format!("the metadata service at {}", self.metadata);
        match miss {
            Miss::Silent { problem, .. } if !is_there => {
                Error::not_configured(PROVIDER, format!("{service} cannot be reached: {problem}"))
            }
            // A role that was named was meant.
            Miss::Status(404) if !is_there && self.role_name.is_none() => {
                Error::not_configured(PROVIDER, format!("{service} {what} (HTTP 404)"))
            }
            Miss::Status(status) => broken(format!("{service} {what} (HTTP {status}){advice}")),
            Miss::Silent { problem, .. } | Miss::Unreadable(problem) => Error::broken_as(
                PROVIDER,
                format!("{service} {what}: {problem}{advice}"),
                format!("{service} {what}: {}{advice}", miss.kind()),
            ),
        }
    }
}

impl ProvideCredentials for EcsRamRole {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(self.read())
    }
}

fn at(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(path);
    url
}

fn role_name(body: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(body).ok()?.trim();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_path = name == "." || name == "..";
    ((1..=64).contains(&name.len()) && !is_path && name.bytes().all(allowed)).then_some(name)
}

fn broken(problem: String) -> Error {
    Error::broken(PROVIDER, problem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_role_name_is_a_word() {
        assert_eq!(role_name(b"acr-reader_1.x\n"), Some("acr-reader_1.x"));
        for body in [
            &b""[..],
            b"<html>",
            b"a\nb",
            b"a/b",
            b"..",
            b"\xff",
            &[b'x'; 65],
        ] {
            assert_eq!(role_name(body), None, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in any::<Vec<u8>>()) {
            let _ = role_name(&body);
        }
    }
}
