#![doc = include_str!("../README.md")]

pub mod clock;
pub mod credentials;
pub mod http;
mod observer;
mod reason;
mod refusal;
pub mod regions;
pub mod rpc;
pub mod signing;

pub use observer::{Observer, Outcome};
pub use reason::Reason;
