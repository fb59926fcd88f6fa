//! The role of the ECS instance that this runs on, from its metadata service.
//! Nobody says that there is one but the service itself: one that cannot be
//! reached, does not answer in time or knows no role means "not configured".

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::exchange::{Answer, exchange, usable};
use super::{Context, Credentials, Error, ProvideCredentials, answer, clean};
use crate::http::{Http, Route};
use crate::refusal::Class;

const PROVIDER: &str = "ecs_ram_role";
/// Of each request; the official clients wait as long.
const TIMEOUT: Duration = Duration::from_secs(1);
const TOKEN_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/ram/security-credentials/";

/// The provider.
pub struct EcsRamRole {
    http: Http,
    metadata: String,
    role_name: Option<String>,
    imdsv1_disabled: bool,
}

/// Why there is nothing to read.
enum Miss {
    /// No answer.
    Silent(String),
    /// An answer with this status.
    Status(u16),
    /// An answer that cannot be read.
    Unreadable(String),
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
            Ok(token) => Some(token),
            Err(miss) if self.imdsv1_disabled => {
                return Err(self.told("gives no token", miss, false));
            }
            Err(_) => None,
        };
        // A service that has answered is there: what follows cannot be "not configured".
        let is_there = token.is_some();
        if let Some(role) = &self.role_name {
            if role_name(role.as_bytes()).is_none() {
                return Err(broken(
                    "the role name should have up to 64 characters, of A-Z a-z 0-9 . _ -"
                        .to_owned(),
                ));
            }
            match self.key(&base, role, token.as_ref()).await {
                Err(absent @ Miss::Status(404)) => {
                    Err(self.told("does not know the role", absent, false))
                }
                read => read.map_err(|miss| self.told("gives no key of the role", miss, is_there)),
            }
        } else {
            let named = match self.get(&base, ROLES_PATH, token.as_ref()).await {
                Err(absent @ Miss::Status(404)) => {
                    return Err(self.told("knows no role", absent, false));
                }
                read => read.map_err(|miss| self.told("names no role", miss, is_there))?,
            };
            let role = role_name(&named).ok_or_else(|| {
                let problem = "the answer is no role's name".to_owned();
                self.told("names no role", Miss::Unreadable(problem), true)
            })?;
            let key = self.key(&base, role, token.as_ref()).await;
            key.map_err(|miss| self.told("gives no key of the role", miss, true))
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
        let put = self.http.put(Route::Direct, url, vec![ttl]);
        let answer = understood(exchange(TIMEOUT, put).await)?;
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
        let get = |headers| self.http.get(Route::Direct, at(base, path), headers);
        let header = token.map(|token| {
            let value = token.expose_secret().to_owned();
            ("x-aliyun-ecs-metadata-token", value)
        });
        let with = header.is_some();
        match understood(exchange(TIMEOUT, get(header.into_iter().collect())).await) {
            Err(Miss::Status(status)) if with && !self.imdsv1_disabled && status != 404 => {
                understood(exchange(TIMEOUT, get(Vec::new())).await)
            }
            answer => answer,
        }
    }

    fn told(&self, what: &str, miss: Miss, is_there: bool) -> Error {
        let service = format!("the metadata service at {}", self.metadata);
        match miss {
            Miss::Silent(problem) if is_there => broken(format!("{service} {what}: {problem}")),
            Miss::Silent(problem) => {
                Error::not_configured(PROVIDER, format!("{service} cannot be reached: {problem}"))
            }
            Miss::Status(404) if !is_there => {
                Error::not_configured(PROVIDER, format!("{service} {what} (HTTP 404)"))
            }
            Miss::Status(status) => broken(format!("{service} {what} (HTTP {status})")),
            Miss::Unreadable(problem) => broken(format!("{service} {what}: {problem}")),
        }
    }
}

impl ProvideCredentials for EcsRamRole {
    fn provide(&self) -> BoxFuture<'_, Result<Credentials, Error>> {
        Box::pin(self.read())
    }
}

fn understood(answered: Result<Answer, super::exchange::Trouble>) -> Result<Vec<u8>, Miss> {
    match answered {
        Ok(answer) if answer.is_success() => Ok(answer.body),
        Ok(answer) => Err(Miss::Status(answer.status)),
        Err(trouble) if trouble.class == Class::Decode => Err(Miss::Unreadable(trouble.problem)),
        Err(trouble) => Err(Miss::Silent(trouble.problem)),
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
