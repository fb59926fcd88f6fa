//! The control path `/_sim/`: faults, the log of requests and the connections for
//! whoever drives a simulated cloud from another process. No signature is asked for.

use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::faults::FaultRule;
use super::{Body, Shared, lock, text};

pub(super) fn answer(shared: &Shared, path: &str, method: &Method, body: &[u8]) -> Response<Body> {
    match (path, method) {
        ("faults", &Method::GET) => json_of(lock(&shared.faults).rules()),
        ("faults", &Method::POST) => match serde_json::from_slice::<FaultRule>(body) {
            Ok(rule) => {
                let mut faults = lock(&shared.faults);
                faults.add(rule);
                json_of(faults.rules())
            }
            Err(error) => fail(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        ("faults", &Method::DELETE) => {
            let mut faults = lock(&shared.faults);
            faults.clear();
            json_of(faults.rules())
        }
        ("requests", &Method::GET) => json_of(&shared.log.read()),
        ("requests", &Method::DELETE) => {
            shared.log.clear();
            json_of(&shared.log.read())
        }
        ("connections", &Method::GET) => json_of(&shared.log.connections()),
        ("connections", &Method::DELETE) => {
            shared.retire();
            json_of(&shared.log.connections())
        }
        ("faults" | "requests" | "connections", _) => {
            fail(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
        }
        _ => fail(
            StatusCode::NOT_FOUND,
            "there are /_sim/faults, /_sim/requests and /_sim/connections",
        ),
    }
}

fn json_of<T: Serialize + ?Sized>(value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => text(StatusCode::OK, "application/json", body),
        Err(error) => fail(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn fail(status: StatusCode, error: &str) -> Response<Body> {
    text(
        status,
        "application/json",
        json!({ "error": error }).to_string(),
    )
}
