//! Which connections there were, and what each carried: whether a client keeps
//! them is seen here. Requests for the control path are not counted.

use std::collections::BTreeMap;

use hyper::Version;
use serde::Serialize;

/// So many are kept one by one; the counts go on.
const KEPT: usize = 10_000;

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// Counted from 1 since the start.
    pub number: u64,
    /// Whether it is encrypted.
    pub tls: bool,
    /// `HTTP/1.0` or `HTTP/1.1`, as its requests say; none before the first.
    pub http: Option<&'static str>,
    /// Requests on it, those in flight included.
    pub requests: u64,
    /// Whether it stands.
    pub open: bool,
}

/// The connections so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Accepted, those for the control path included.
    pub accepted: u64,
    /// Accepted and not yet closed, whenever that was.
    pub open: usize,
    /// Those on which a request came.
    pub used: u64,
    /// One by one, oldest first; the newest 10 000 of those that are closed.
    pub connections: Vec<Connection>,
}

#[derive(Default)]
pub(super) struct Book {
    /// Connections since the start, forgotten ones included.
    number: u64,
    accepted: u64,
    open: usize,
    used: u64,
    kept: BTreeMap<u64, Connection>,
}

impl Book {
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    pub(super) fn accept(&mut self, tls: bool) -> u64 {
        self.number += 1;
        self.accepted += 1;
        self.open += 1;
        let number = self.number;
        self.kept.insert(
            number,
            Connection {
                number,
                tls,
                http: None,
                requests: 0,
                open: true,
            },
        );
        number
    }

    pub(super) fn request(&mut self, number: u64, version: Version) {
        if let Some(connection) = self.kept.get_mut(&number) {
            if connection.requests == 0 {
                self.used += 1;
            }
            connection.requests += 1;
            connection.http = Some(name(version));
        }
    }

    pub(super) fn close(&mut self, number: u64) {
        self.open -= 1;
        if let Some(connection) = self.kept.get_mut(&number) {
            connection.open = false;
        }
        if self.kept.len() - self.open > KEPT {
            let oldest = self.kept.values().find(|connection| !connection.open);
            if let Some(number) = oldest.map(|connection| connection.number) {
                self.kept.remove(&number);
            }
        }
    }

    /// Forgets the closed ones and what the others carried.
    pub(super) fn clear(&mut self) {
        self.accepted = 0;
        self.used = 0;
        self.kept.retain(|_, connection| connection.open);
        for connection in self.kept.values_mut() {
            connection.requests = 0;
        }
    }

    pub(super) fn read(&self) -> Connections {
        Connections {
            accepted: self.accepted,
            open: self.open,
            used: self.used,
            connections: self.kept.values().cloned().collect(),
        }
    }
}

pub(super) fn name(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
