//! The Security Token Service: where it answers, a request to it, and how it
//! refuses. Requests are counted as those of the API are. Which role is assumed,
//! and with what, is left to `assume_role` and `oidc`.

use std::time::Duration;

use reqwest::{Method, Url};

use super::exchange::{Answer, Miss, exchange, twice, usable};
use super::static_key::Setting;
use super::{Addresses, Context, Credentials, Error, answer};
use crate::http::{self, Route};
use crate::observer::InFlight;
use crate::reason::Reason;
use crate::refusal::{Proofs, Refusal};
use crate::regions::{self, NoEndpoint};
use crate::signing::{self, Algorithm, Key, Param, Request};

const VERSION: &str = "2015-04-01";
/// As the official clients have it.
const TIMEOUT: Duration = Duration::from_secs(10);
const DURATION: Duration = Duration::from_secs(3600);
const DURATION_MIN: Duration = Duration::from_secs(900);

/// A role to assume. What is not given is left to STS, or has the default told.
#[derive(Clone, Debug, Default)]
pub struct Role {
    /// `acs:ram::ACCOUNT:role/NAME`
    pub arn: String,
    /// Shown in the audit log: 2–64 of `A-Z a-z 0-9 . @ _ -`; the default is
    /// [`Context::session_name`].
    pub session_name: Option<String>,
    /// How long the key is to live, 15 minutes or more; the default is an hour.
    pub duration: Option<Duration>,
    /// What a role of somebody else's account may ask for; `assume_role` alone
    /// sends it.
    pub external_id: Option<Setting>,
    /// A policy in JSON that takes rights away.
    pub policy: Option<String>,
}

impl Role {
    /// The role as inputs of a request, the external id aside; `Err` is what is
    /// wrong with it.
    fn form<'a>(&'a self, session_name: &'a str) -> Result<Vec<Param<'a>>, String> {
        let session_name = self.session_name.as_deref().unwrap_or(session_name);
        if self.arn.is_empty() {
            return Err("there is no ARN of a role".to_owned());
        }
        if !is_session_name(session_name) {
            return Err(
                "the role session name should have 2 to 64 characters, of A-Z a-z 0-9 . @ _ -"
                    .to_owned(),
            );
        }
        let duration = self.duration.unwrap_or(DURATION);
        if duration < DURATION_MIN {
            return Err(format!(
                "a duration of {} s is too short; 900 s is the least",
                duration.as_secs()
            ));
        }
        let mut form = vec![
            ("RoleArn", self.arn.as_str().into()),
            ("RoleSessionName", session_name.into()),
            ("DurationSeconds", duration.as_secs().to_string().into()),
        ];
        if let Some(policy) = &self.policy {
            form.push(("Policy", policy.as_str().into()));
        }
        Ok(form)
    }
}

fn is_session_name(text: &str) -> bool {
    (2..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".@_-".contains(&byte))
}

/// One operation of STS, for the keys of one provider.
pub(super) struct Sts {
    context: Context,
    provider: &'static str,
    action: &'static str,
    endpoint: Result<Url, String>,
}

/// A request that gave no key.
#[derive(Debug)]
pub(super) struct Failed {
    /// Why, without secrets.
    pub(super) error: Error,
    /// Whether another key to sign with may be accepted.
    pub(super) refuses_token: bool,
    reason: Reason,
    /// Whether a second attempt may well succeed a moment later.
    passes: bool,
}

impl Sts {
    pub(super) fn new(context: &Context, provider: &'static str, action: &'static str) -> Self {
        context.observer.expect_action(action);
        Self {
            provider,
            action,
            endpoint: endpoint(&context.addresses),
            context: context.clone(),
        }
    }

    /// As [`Role::form`].
    pub(super) fn form<'a>(&'a self, role: &'a Role) -> Result<Vec<Param<'a>>, Error> {
        let form = role.form(&self.context.session_name);
        form.map_err(|problem| Error::broken(self.provider, problem))
    }

    /// Asks for a key: with `form`, signed by `base`, or unsigned where the form
    /// holds its own proof. Where STS is at fault or the connection broke, once
    /// more, as a new request within the same time.
    pub(super) async fn ask(
        &self,
        form: &[Param<'_>],
        base: Option<&Credentials>,
    ) -> Result<Credentials, Failed> {
        let attempt = |limit, is_retry| self.attempt(form, base, limit, is_retry);
        twice(TIMEOUT, attempt).await
    }

    async fn attempt(
        &self,
        form: &[Param<'_>],
        base: Option<&Credentials>,
        limit: Duration,
        is_retry: bool,
    ) -> Result<Credentials, Failed> {
        let (context, action) = (&self.context, self.action);
        let mut url = self
            .endpoint
            .clone()
            .map_err(|problem| self.failed(&problem, &problem, Reason::Other))?;
        let host = http::authority(&url).unwrap_or_default();
        let request = Request {
            method: "POST",
            host: &host,
            action,
            version: VERSION,
            params: &[],
            form,
        };
        let now = context.clock.now_millis();
        let key = base.map(Credentials::key);
        let signed = match &key {
            Some(key) => signing::sign(Algorithm::HmacSha1, &request, key, now, &signing::nonce()),
            None => signing::unsigned(&request, now),
        };
        let proofs = proofs(key, &signed.signature, form);
        url.set_query(Some(&signed.query));
        let mut headers = signed.headers;
        headers.push(("accept", "application/json".to_owned()));

        let in_flight = InFlight::start(&*context.observer, action, is_retry);
        let started = in_flight.started();
        let http = &context.http;
        let sending = http.send(
            Route::Outward,
            Method::POST,
            url,
            headers,
            Some(signed.body),
        );
        let outcome = match exchange(limit, sending).await {
            Ok(answer) => self.read(&answer, form, &proofs),
            Err(Miss::Silent {
                problem,
                reason,
                broke,
            }) => Err(Failed {
                passes: broke,
                ..self.failed(&format!("{host}: {problem}"), reason.as_str(), reason)
            }),
            Err(miss) => {
                let kind = miss.kind();
                Err(self.failed(
                    &format!("{host}: {kind}"),
                    Reason::Decode.as_str(),
                    Reason::Decode,
                ))
            }
        };
        let reason = outcome.as_ref().err().map(|failed| failed.reason);
        tracing::debug!(
            credentials = context.name,
            action,
            reason = reason.map(Reason::as_str),
            elapsed = ?started.elapsed(),
            "STS request"
        );
        in_flight.end(reason);
        outcome
    }

    /// The credentials in a response, or why there are none.
    fn read(
        &self,
        answer: &Answer,
        form: &[Param<'_>],
        proofs: &Proofs,
    ) -> Result<Credentials, Failed> {
        let context = &self.context;
        let skew = http::skew_millis(&answer.headers, context.clock.now_millis());
        if let Some(skew) = skew {
            context.observer.clock_skew(skew);
        }
        if (200..300).contains(&answer.status) {
            return answer::of_sts(self.provider, &answer.body)
                .map_err(|problem| self.failed(&problem, &problem, Reason::Decode));
        }
        let refusal = Refusal::read(answer.status, &answer.body, proofs);
        tracing::debug!(
            credentials = context.name,
            action = self.action,
            request_id = refusal.request_id,
            "STS refuses"
        );
        let reason = refusal.reason();
        // The message may hold an id or a time of the request.
        let kind = format!("{reason} {} (HTTP {})", refusal.code, refusal.status);
        Err(Failed {
            refuses_token: refusal.refuses_token(),
            // A refusal for too many requests may be 503 as well.
            passes: refusal.status >= 500 && reason == Reason::Server,
            ..self.failed(&told(&refusal, form, skew), &kind, reason)
        })
    }

    fn failed(&self, problem: &str, kind: &str, reason: Reason) -> Failed {
        let told = |text: &str| format!("{}: {text}", self.action);
        Failed {
            error: Error::broken_as(self.provider, told(problem), told(kind)),
            refuses_token: false,
            reason,
            passes: false,
        }
    }
}

impl super::exchange::Failed for Failed {
    fn passes(&self) -> bool {
        self.passes
    }

    fn reason(&self) -> Reason {
        self.reason
    }
}

/// The refusal with what would help. The request's id stays in the debug
/// log: with it each failure would look like a new one.
fn told(refusal: &Refusal, form: &[Param<'_>], skew: Option<i64>) -> String {
    let shown = Refusal {
        request_id: String::new(),
        ..refusal.clone()
    };
    let role = form.iter().find(|(name, _)| *name == "RoleArn");
    match (refusal.reason(), role, skew) {
        (Reason::Forbidden, Some((_, role)), _) => {
            let action = match refusal.ram_action.as_str() {
                "" => "sts:AssumeRole",
                action => action,
            };
            format!("{shown}; needs {action} on {role}, whose trust policy must name the caller")
        }
        // Both are more than 15 minutes apart then; seconds would change each time.
        (Reason::Clock, _, Some(skew)) => {
            let side = if skew < 0 { "behind" } else { "ahead of" };
            let minutes = skew.unsigned_abs() / 60_000;
            format!("{shown}; our clock is {minutes} min {side} the cloud's")
        }
        _ => shown.to_string(),
    }
}

fn proofs(key: Option<Key<'_>>, signature: &str, form: &[Param<'_>]) -> Proofs {
    let of_key = key.map(|key| [key.id, key.secret, key.token.unwrap_or_default()]);
    let in_form = form
        .iter()
        .filter(|(name, _)| ["ExternalId", "OIDCToken"].contains(name))
        .map(|(_, value)| value.as_ref());
    Proofs::new(
        of_key
            .into_iter()
            .flatten()
            .chain([signature])
            .chain(in_form),
    )
}

fn endpoint(addresses: &Addresses) -> Result<Url, String> {
    if let Some(given) = &addresses.sts {
        return usable(given).map_err(|wrong| format!("the address of STS {wrong}"));
    }
    let host = regions::sts_host(addresses.sts_region.as_deref(), addresses.vpc);
    let host = host.map_err(|missing| match missing {
        NoEndpoint::UnknownRegion => {
            "unknown STS region; set sts_endpoint for a region this version does not know"
        }
        NoEndpoint::NotInVpc => {
            "STS has no VPC endpoint in its region; use another region, or set sts_endpoint"
        }
        NoEndpoint::NotInRegion => {
            "STS has no known endpoint in its region; use another region, or set sts_endpoint"
        }
    })?;
    Url::parse(&format!("https://{host}")).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Every region that the configuration knows, as the vendor's metadata lists it.
    #[test]
    fn the_endpoint_is_that_of_the_region() {
        let list: Value = serde_json::from_str(include_str!("../../testdata/endpoints.json"))
            .expect("endpoints.json");
        let found = |region: Option<&str>, vpc| {
            endpoint(&Addresses {
                sts_region: region.map(str::to_owned),
                vpc,
                ..Addresses::default()
            })
            .map(|url| url.to_string())
        };
        let regions = list["cr"].as_object().expect("regions");
        assert_eq!(regions.len(), 39);
        let mut refused = Vec::new();
        for region in regions.keys() {
            for (vpc, network) in [(false, "public"), (true, "vpc")] {
                let found = found(Some(region), vpc);
                if let Some(host) = list["sts"][region][network].as_str() {
                    assert_eq!(found, Ok(format!("https://{host}/")), "{region}");
                } else {
                    found.expect_err(region);
                    refused.push(format!("{region} {network}"));
                }
            }
        }
        // Seven regions without STS, and the one without a VPC endpoint for it.
        assert_eq!(refused.len(), 7 * 2 + 1, "{refused:?}");
        for vpc in [false, true] {
            assert_eq!(found(None, vpc).as_deref(), Ok("https://sts.aliyuncs.com/"));
        }
        assert!(found(Some("cn-hangzou"), false).is_err());
    }

    #[test]
    fn an_address_that_is_given_decides_and_a_wrong_region_is_no_host() {
        let addresses = |sts: Option<&str>, region: &str| Addresses {
            sts: sts.map(str::to_owned),
            sts_region: Some(region.to_owned()),
            ..Addresses::default()
        };
        let url = |addresses| endpoint(&addresses).map(|url| url.to_string());
        assert_eq!(
            url(addresses(Some("http://127.0.0.1:7"), "cn-hangzhou")).as_deref(),
            Ok("http://127.0.0.1:7/")
        );
        assert_eq!(
            url(addresses(None, "cn-hangzhou")).as_deref(),
            Ok("https://sts.cn-hangzhou.aliyuncs.com/")
        );
        assert!(url(addresses(Some("http://sts.example.com"), "")).is_err());
        for region in ["evil.example.com/", "CN", "", "a b"] {
            assert!(url(addresses(None, region)).is_err(), "{region}");
        }
    }

    #[test]
    fn session_names_have_few_characters() {
        for good in ["ab", "a.b@c_d-9", &"x".repeat(64)] {
            assert!(is_session_name(good), "{good}");
        }
        for bad in ["", "a", "a b", "a/b", "ä-", "a:b", &"x".repeat(65)] {
            assert!(!is_session_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_role_is_a_form() {
        let role = Role {
            arn: "acs:ram::1:role/r".to_owned(),
            ..Role::default()
        };
        let form = role.form("test").expect("a role");
        assert_eq!(
            signing::query(form.iter().map(|(name, value)| (*name, value.as_ref()))),
            "RoleArn=acs%3Aram%3A%3A1%3Arole%2Fr&RoleSessionName=test&DurationSeconds=3600"
        );
        let full = Role {
            session_name: Some("me@host".to_owned()),
            duration: Some(Duration::from_secs(900)),
            policy: Some("{}".to_owned()),
            ..role.clone()
        };
        assert_eq!(full.form("test").expect("a role").len(), 4);
        let short = Role {
            duration: Some(Duration::from_secs(899)),
            ..role.clone()
        };
        let told = short.form("test").expect_err("too short");
        assert_eq!(told, "a duration of 899 s is too short; 900 s is the least");
        let named = Role {
            session_name: Some("a b".to_owned()),
            ..role
        };
        assert!(named.form("test").is_err());
        assert!(Role::default().form("test").is_err());
    }

    #[test]
    fn a_refusal_shows_nothing_that_the_request_proved_itself_with() {
        let key = Key {
            id: "STS.EXAMPLEid",
            secret: "EXAMPLE-secret",
            token: Some("EXAMPLE/token+="),
        };
        let form = [
            ("RoleArn", "acs:ram::1:role/reader".into()),
            ("ExternalId", "external/of/EXAMPLE".into()),
            ("OIDCToken", "eyJhbGciOiJ9.eyJzdWIiOiJz.c2lnbmF0dXJl".into()),
        ];
        let proofs = proofs(Some(key), "signature/of+EXAMPLE=", &form);
        for echoed in [
            "STS.EXAMPLEid",
            "EXAMPLE-secret",
            "EXAMPLE/token+=",
            r"EXAMPLE\/token+=",
            "EXAMPLE%2Ftoken%2B%3D",
            "signature/of+EXAMPLE=",
            "signature%2Fof%2BEXAMPLE%3D",
            "external/of/EXAMPLE",
            "eyJhbGciOiJ9.eyJzdWIiOiJz.c2lnbmF0dXJl",
            "eyJzdWIiOiJz",
            "c2lnbmF0dXJl",
        ] {
            let body = format!(r#"{{"Code":"InvalidParameter","Message":"bad {echoed} x"}}"#);
            let read = Refusal::read(400, body.as_bytes(), &proofs);
            assert_eq!(read.message, "bad … x", "{echoed}");
        }
        let body = br#"{"Code":"NoPermission","Message":"no acs:ram::1:role/reader"}"#;
        let read = Refusal::read(403, body, &proofs);
        assert_eq!(read.message, "no acs:ram::1:role/reader");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = is_session_name(&text);
            let _ = endpoint(&Addresses { sts: Some(text.clone()), ..Addresses::default() });
            let _ = endpoint(&Addresses { sts_region: Some(text), ..Addresses::default() });
        }
    }
}
