//! A Prometheus exporter for the artifact subscriptions of Alibaba Cloud
//! Container Registry Enterprise Edition.
//!
//! `docs/architecture.md` is the map: why each module exists and which others
//! it may import, which `tests/architecture.rs` holds the code to. A way to
//! read it: `model` (what is known), `poll` (how it comes to be known),
//! `store` and `metrics` (how it is kept and shown), then the rest.

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod exposition;
pub mod follow;
pub mod metrics;
pub mod model;
pub mod poll;
pub mod regions;
pub mod server;
pub mod shard;
pub mod source;
pub mod store;
pub mod telemetry;
