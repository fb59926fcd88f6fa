//! The whole daemon, the real binary over real sockets against the simulated
//! cloud: what a user sees from outside.

mod commands;
mod failures;
mod harness;
mod lifecycle;
mod prometheus;
mod values;
