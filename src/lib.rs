//! A Prometheus exporter for the artifact subscriptions of Alibaba Cloud
//! Container Registry Enterprise Edition.
//!
//! The modules below stand in reading order, and each may import only what
//! stands to its right in the table of `docs/architecture.md`, which
//! `tests/architecture.rs` holds the code to.

pub mod clock;
pub mod config;
pub mod signing;
pub mod simulator;
