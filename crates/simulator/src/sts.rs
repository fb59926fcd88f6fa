//! The security token service: `AssumeRole` for a signed call and
//! `AssumeRoleWithOIDC` for one that only an OIDC token proves. It checks each
//! input as the vendor's pages describe it, so that a wrong one does not pass
//! in a test and fail in the cloud. Roles themselves are not kept: any that is
//! well formed can be assumed.

use std::time::Duration;

use serde_json::{Value, json};

use super::gateway::{Call, Refusal};
use super::issuing::{Issued, Issuer};

/// Where `DurationSeconds` is not given.
const DEFAULT_DURATION: Duration = Duration::from_secs(3600);
/// The most that a role can be set to.
const MAX_DURATION: Duration = Duration::from_secs(43_200);
/// Of a policy, characters.
const POLICY_LIMIT: usize = 2048;

const ASSUME_ROLE: &str = "AssumeRole";
const ASSUME_ROLE_WITH_OIDC: &str = "AssumeRoleWithOIDC";

/// The name of an operation that exists.
pub(super) fn known(action: &str) -> Option<&'static str> {
    [ASSUME_ROLE, ASSUME_ROLE_WITH_OIDC]
        .into_iter()
        .find(|name| *name == action)
}

/// Whether a call needs no signature.
pub(super) fn is_unsigned(call: &Call) -> bool {
    call.algorithm().is_none() && call.action() == Some(ASSUME_ROLE_WITH_OIDC)
}

/// Carries out an admitted call.
pub(super) fn carry_out(call: &Call, issuer: &mut Issuer, now: i64) -> Result<Value, Refusal> {
    match call.action() {
        Some(ASSUME_ROLE) => assume_role(call, issuer, now),
        Some(ASSUME_ROLE_WITH_OIDC) => assume_role_with_oidc(call, issuer, now),
        _ => Err(Refusal::no_such_action()),
    }
}

fn assume_role(call: &Call, issuer: &mut Issuer, now: i64) -> Result<Value, Refusal> {
    let request = Request::read(call, issuer)?;
    let external_id = call.input("ExternalId");
    if external_id.is_some_and(|id| !is_word(id, 2..=1224, "=,.@:/-_")) {
        return Err(malformed("ExternalId"));
    }
    let wanted = issuer.settings.external_ids.get(request.role_arn);
    if wanted.is_some_and(|wanted| external_id != Some(wanted)) {
        let message = "You are not authorized to do this action. You should be authorized by RAM.";
        return Err(Refusal::new(403, "NoPermission", message));
    }
    let granted = request.issue(call, ASSUME_ROLE, issuer, now);
    Ok(request.answer(granted))
}

fn assume_role_with_oidc(call: &Call, issuer: &mut Issuer, now: i64) -> Result<Value, Refusal> {
    let request = Request::read(call, issuer)?;
    let provider_arn = call.required("OIDCProviderArn")?;
    resource_name(provider_arn, ":oidc-provider/").ok_or_else(|| malformed("OIDCProviderArn"))?;
    let token = call.required("OIDCToken")?;
    if call.is_in_query("OIDCToken") && !issuer.settings.oidc_token_in_url {
        let message = "The OIDC token belongs in the body: URLs end in logs.";
        return Err(Refusal::new(400, "InvalidParameter.OIDCToken", message));
    }
    if !issuer.settings.oidc_tokens.iter().any(|one| one == token) {
        return Err(Refusal::new(
            400,
            "AuthenticationFail.OIDCToken.Invalid",
            "This JsonWebToken is invalid.",
        ));
    }
    let granted = request.issue(call, ASSUME_ROLE_WITH_OIDC, issuer, now);
    let mut answer = request.answer(granted);
    answer["OIDCTokenInfo"] = json!({
        "Subject": "system:serviceaccount:monitoring:exporter",
        "Issuer": "https://oidc.example.com",
        "ClientIds": "sts.aliyuncs.com",
    });
    Ok(answer)
}

/// What both operations have in common.
struct Request<'a> {
    role_arn: &'a str,
    /// The account's id and the role's name.
    role: (&'a str, &'a str),
    session: &'a str,
    duration: Duration,
}

impl<'a> Request<'a> {
    fn read(call: &'a Call, issuer: &Issuer) -> Result<Self, Refusal> {
        let role_arn = call.required("RoleArn")?;
        let role = resource_name(role_arn, ":role/").ok_or_else(|| malformed("RoleArn"))?;
        let session = call.required("RoleSessionName")?;
        if !is_word(session, 2..=64, ".@-_") {
            return Err(malformed("RoleSessionName"));
        }
        let duration = match call.input("DurationSeconds") {
            None => DEFAULT_DURATION,
            Some(seconds) => seconds
                .parse()
                .map(Duration::from_secs)
                .ok()
                .filter(|asked| (issuer.settings.min_duration..=MAX_DURATION).contains(asked))
                .ok_or_else(|| {
                    let message = "The Min/Max value of DurationSeconds is 15min/12hr.";
                    Refusal::new(400, "InvalidParameter.DurationSeconds", message)
                })?,
        };
        if let Some(policy) = call.input("Policy") {
            check_policy(policy)?;
        }
        Ok(Self {
            role_arn,
            role,
            session,
            duration,
        })
    }

    fn issue<'i>(
        &self,
        call: &Call,
        action: &'static str,
        issuer: &'i mut Issuer,
        now: i64,
    ) -> &'i Issued {
        let granted = issuer.issue(action, self.duration, now);
        granted.signed_by = call.key_id().map(str::to_owned);
        for name in [
            "RoleArn",
            "RoleSessionName",
            "DurationSeconds",
            "Policy",
            "ExternalId",
            "OIDCProviderArn",
        ] {
            if let Some(input) = call.input(name) {
                granted.inputs.insert(name, input.to_owned());
            }
        }
        granted
    }

    fn answer(&self, issued: &Issued) -> Value {
        let (account, role) = self.role;
        let session = self.session;
        json!({
            "AssumedRoleUser": {
                "Arn": format!("acs:ram::{account}:assumed-role/{role}/{session}"),
                "AssumedRoleId": format!("344584339364951186:{session}"),
            },
            "Credentials": {
                "AccessKeyId": issued.key.id,
                "AccessKeySecret": issued.key.secret,
                "SecurityToken": issued.token(),
                "Expiration": issued.expiration(),
            },
        })
    }
}

fn check_policy(policy: &str) -> Result<(), Refusal> {
    if policy.chars().count() > POLICY_LIMIT {
        return Err(Refusal::new(
            400,
            "InvalidParameter.PolicySize",
            format!("The size of Policy must be smaller than {POLICY_LIMIT} bytes."),
        ));
    }
    let well_formed = serde_json::from_str::<Value>(policy)
        .is_ok_and(|policy| policy["Version"] == "1" && policy["Statement"].is_array());
    if well_formed {
        Ok(())
    } else {
        let message = "The parameter Policy has not passed grammar check.";
        Err(Refusal::new(400, "InvalidParameter.PolicyGrammar", message))
    }
}

/// Account and name of `acs:ram::ACCOUNT:KIND/NAME`.
fn resource_name<'a>(arn: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    let (account, name) = arn.strip_prefix("acs:ram::")?.split_once(kind)?;
    let is_account = !account.is_empty() && account.bytes().all(|b| b.is_ascii_digit());
    (is_account && is_word(name, 1..=128, ".@-_")).then_some((account, name))
}

/// Letters, digits and `more`.
fn is_word(text: &str, lengths: std::ops::RangeInclusive<usize>, more: &str) -> bool {
    lengths.contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

fn malformed(name: &str) -> Refusal {
    Refusal::new(
        400,
        format!("InvalidParameter.{name}"),
        format!("The parameter {name} is wrongly formed."),
    )
}
