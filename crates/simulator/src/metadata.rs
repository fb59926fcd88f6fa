//! The metadata service of a simulated ECS machine and a credentials URI:
//! plain HTTP without signatures, on paths of their own. Slow, garbled or
//! HTML answers are faults like any other, under the names below.

use std::time::Duration;

use alibaba_cloud::signing::timestamp;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::gateway::Call;
use super::issuing::{Issued, Issuer, Metadata};
use super::{Body, text};

/// Where the credentials URI is.
pub(super) const URI_PATH: &str = "/credentials";
const TOKEN_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/ram/security-credentials";

const TOKEN: &str = "MetadataToken";
const ROLE: &str = "MetadataRole";
const CREDENTIALS: &str = "MetadataCredentials";
const URI: &str = "CredentialsUri";
/// Of a fault: each of the metadata service's three.
const ANY: &str = "Metadata";

/// Of a token, seconds.
const MAX_TTL: i64 = 21_600;
const ROLE_LIFETIME: Duration = Duration::from_secs(6 * 3600);
const URI_LIFETIME: Duration = Duration::from_secs(3600);

/// What a path is called in the log and by faults, where it is one of ours.
pub(super) fn action(path: &str) -> Option<&'static str> {
    match path {
        TOKEN_PATH => Some(TOKEN),
        URI_PATH => Some(URI),
        _ => match path.strip_prefix(ROLES_PATH)? {
            "" | "/" => Some(ROLE),
            role => role.starts_with('/').then_some(CREDENTIALS),
        },
    }
}

/// Whether a fault for `wanted` strikes `action` too.
pub(super) fn is_meant(wanted: &str, action: Option<&str>) -> bool {
    wanted == ANY && matches!(action, Some(TOKEN | ROLE | CREDENTIALS))
}

pub(super) fn answer(
    call: &Call,
    action: &'static str,
    issuer: &mut Issuer,
    now: i64,
) -> Response<Body> {
    let outcome = if action == URI {
        credentials_uri(call, issuer, now)
    } else {
        metadata(call, action, issuer, now)
    };
    outcome.unwrap_or_else(error_page)
}

fn credentials_uri(
    call: &Call,
    issuer: &mut Issuer,
    now: i64,
) -> Result<Response<Body>, StatusCode> {
    if !issuer.settings.uri {
        return Err(StatusCode::NOT_FOUND);
    }
    only(call, "GET")?;
    Ok(credentials(issuer.issue(URI, URI_LIFETIME, now), now))
}

fn metadata(
    call: &Call,
    action: &'static str,
    issuer: &mut Issuer,
    now: i64,
) -> Result<Response<Body>, StatusCode> {
    let mode = issuer.settings.metadata;
    if mode == Metadata::Off {
        return Err(StatusCode::NOT_FOUND);
    }
    if action == TOKEN {
        if mode == Metadata::WithoutTokens {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        only(call, "PUT")?;
        let ttl = call
            .header("x-aliyun-ecs-metadata-token-ttl-seconds")
            .and_then(|ttl| ttl.parse().ok())
            .filter(|ttl| (1..=MAX_TTL).contains(ttl))
            .ok_or(StatusCode::BAD_REQUEST)?;
        let token = issuer.metadata_token(now.saturating_add(ttl * 1000));
        return Ok(text(StatusCode::OK, "text/plain", token));
    }
    only(call, "GET")?;
    let token = call.header("x-aliyun-ecs-metadata-token");
    let admitted = match (mode, token) {
        (Metadata::WithoutTokens, _) | (Metadata::TokenOptional, None) => true,
        (_, token) => token.is_some_and(|token| issuer.is_metadata_token(token, now)),
    };
    if !admitted {
        return Err(StatusCode::FORBIDDEN);
    }
    let role = issuer.settings.role_name.clone();
    let role = role.ok_or(StatusCode::NOT_FOUND)?;
    if action == ROLE {
        return Ok(text(StatusCode::OK, "text/plain", role));
    }
    let asked = call.path().rsplit('/').next().unwrap_or_default();
    if percent_encoding::percent_decode_str(asked).decode_utf8_lossy() != role {
        return Err(StatusCode::NOT_FOUND);
    }
    let granted = issuer.issue(CREDENTIALS, ROLE_LIFETIME, now);
    granted.inputs.insert("RoleName", role);
    Ok(credentials(granted, now))
}

fn only(call: &Call, method: &str) -> Result<(), StatusCode> {
    if call.method() == method {
        Ok(())
    } else {
        Err(StatusCode::METHOD_NOT_ALLOWED)
    }
}

fn credentials(issued: &Issued, now: i64) -> Response<Body> {
    let body = json!({
        "AccessKeyId": issued.key.id,
        "AccessKeySecret": issued.key.secret,
        "Expiration": issued.expiration(),
        "SecurityToken": issued.token(),
        "LastUpdated": timestamp(now),
        "Code": "Success",
    });
    text(StatusCode::OK, "application/json", format!("{body:#}"))
}

/// Not JSON, as from the original.
fn error_page(status: StatusCode) -> Response<Body> {
    let page = format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\">\n\
         <head><title>{status}</title></head>\n<body><h1>{status}</h1></body>\n</html>\n"
    );
    text(status, "text/html", page)
}
