//! What was asked: bounded, with counts that are not. Tests count requests and
//! connections here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use alibaba_cloud::signing::Algorithm;
use serde::Serialize;

use super::connections::{Book, Connections};
use super::faults::Fault;
use super::gateway::Call;
use super::{lock, metadata, operations, sts};

/// So many requests are kept; the counts go on.
const KEPT: usize = 10_000;

/// What a client sends is kept up to this length.
const TEXT: usize = 128;

/// One request.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// When it arrived, Unix milliseconds by the cloud's clock.
    pub time: i64,
    /// The connection it came on, as [`super::Connection`] counts.
    pub connection: u64,
    /// The HTTP method.
    pub method: String,
    /// The operation asked for; `MetadataToken`, `MetadataRole` and
    /// `MetadataCredentials` of the metadata service, `CredentialsUri`.
    pub action: Option<String>,
    /// The input `InstanceId`.
    pub instance_id: Option<String>,
    /// The input `TaskId`.
    pub task_id: Option<String>,
    /// The input `PageNo`.
    pub page_no: Option<String>,
    /// The input `PageSize`.
    pub page_size: Option<String>,
    /// The access key's id.
    pub key_id: Option<String>,
    /// The scheme of its signature.
    pub algorithm: Option<&'static str>,
    /// The HTTP status of the answer; none while it is on the way, or if none was sent.
    pub status: Option<u16>,
    /// The `Code` of the answer.
    pub code: Option<String>,
    /// The fault that struck.
    pub fault: Option<Fault>,
}

/// What was asked so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Requests {
    /// The newest requests, oldest first; 10 000 at most.
    pub requests: Vec<Seen>,
    /// All requests by operation; those for an unknown one under `other`.
    pub counts: BTreeMap<&'static str, u64>,
    /// All requests.
    pub total: u64,
    /// Connections accepted, those for the control path included.
    pub connections: u64,
    /// The most requests that were in flight at once.
    pub max_in_flight: usize,
}

impl Requests {
    /// How many requests there were for `action`.
    pub fn count(&self, action: &str) -> u64 {
        self.counts.get(action).copied().unwrap_or(0)
    }
}

#[derive(Default)]
struct Inner {
    /// Requests since the start, cleared ones included.
    number: u64,
    kept: VecDeque<(u64, Seen)>,
    summary: Requests,
    in_flight: usize,
    connections: Book,
}

#[derive(Default)]
pub(super) struct Log(Mutex<Inner>);

impl Log {
    /// Notes a connection and answers its number.
    pub(super) fn connection(&self, tls: bool) -> u64 {
        lock(&self.0).connections.accept(tls)
    }

    pub(super) fn closed(&self, connection: u64) {
        lock(&self.0).connections.close(connection);
    }

    pub(super) fn connections(&self) -> Connections {
        lock(&self.0).connections.read()
    }

    /// Notes a request as it arrives, so that one that hangs is seen too.
    pub(super) fn begin(&self, call: &Call, fault: Option<&Fault>, now: i64) -> Entry<'_> {
        let cut = |text: Option<&str>| text.map(|text| text.chars().take(TEXT).collect());
        let seen = Seen {
            time: now,
            connection: call.connection(),
            method: call.method().chars().take(TEXT).collect(),
            action: cut(call.action()),
            instance_id: cut(call.input("InstanceId")),
            task_id: cut(call.input("TaskId")),
            page_no: cut(call.input("PageNo")),
            page_size: cut(call.input("PageSize")),
            key_id: cut(call.key_id()),
            algorithm: call.algorithm().map(|algorithm| match algorithm {
                Algorithm::Acs3 => "acs3-hmac-sha256",
                Algorithm::HmacSha1 => "hmac-sha1",
            }),
            status: None,
            code: None,
            fault: fault.cloned(),
        };
        let action = call.action().unwrap_or_default();
        let action = operations::known(action)
            .or_else(|| sts::known(action))
            .or_else(|| metadata::action(call.path()));
        let mut inner = lock(&self.0);
        inner.number += 1;
        inner.in_flight += 1;
        inner.connections.request(call.connection(), call.version());
        let number = inner.number;
        let in_flight = inner.in_flight;
        let summary = &mut inner.summary;
        *summary.counts.entry(action.unwrap_or("other")).or_default() += 1;
        summary.total += 1;
        summary.max_in_flight = summary.max_in_flight.max(in_flight);
        if inner.kept.len() == KEPT {
            inner.kept.pop_front();
        }
        inner.kept.push_back((number, seen));
        Entry { log: self, number }
    }

    pub(super) fn read(&self) -> Requests {
        let inner = lock(&self.0);
        Requests {
            requests: inner.kept.iter().map(|(_, seen)| seen.clone()).collect(),
            connections: inner.connections.accepted(),
            ..inner.summary.clone()
        }
    }

    pub(super) fn clear(&self) {
        let mut inner = lock(&self.0);
        inner.kept.clear();
        inner.summary = Requests::default();
        inner.connections.clear();
    }
}

/// A request in flight; ends with this value, however it ends.
pub(super) struct Entry<'a> {
    log: &'a Log,
    number: u64,
}

impl Entry<'_> {
    /// In the shape of the cloud's request ids.
    pub(super) fn request_id(&self) -> String {
        format!("51A9C0DE-0000-4000-8000-{:012X}", self.number)
    }

    pub(super) fn code(&self, code: Option<&str>) {
        self.change(|seen| seen.code = code.map(str::to_owned));
    }

    pub(super) fn status(&self, status: u16) {
        self.change(|seen| seen.status = Some(status));
    }

    /// A request that was pushed out or cleared meanwhile is left alone.
    fn change(&self, change: impl FnOnce(&mut Seen)) {
        let mut inner = lock(&self.log.0);
        if let Ok(at) = inner
            .kept
            .binary_search_by_key(&self.number, |(number, _)| *number)
        {
            change(&mut inner.kept[at].1);
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        lock(&self.log.0).in_flight -= 1;
    }
}
