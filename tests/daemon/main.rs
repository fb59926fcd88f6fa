//! The whole daemon, the real binary over real sockets against the simulated
//! cloud: what a user sees from outside.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, where a panic is the right end"
)]

mod alerting;
mod check_config;
mod commands;
mod credentials;
mod crowd;
mod discover;
mod failures;
mod follow;
mod harness;
mod key_sources;
mod kills;
mod lifecycle;
mod page;
mod prometheus;
#[path = "../python_sdk/python.rs"]
mod python;
mod rate;
mod reload;
mod secrets;
mod tls;
mod values;
mod web;
