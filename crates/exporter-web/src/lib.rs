#![doc = include_str!("../README.md")]

mod auth;
pub mod compress;
pub mod config;
mod connections;
mod gate;
pub mod negotiate;
mod rate;
mod scrapes;
mod server;
mod source;
mod stream;
mod tls;

pub use config::WebConfig;
pub use connections::Limits;
pub use server::{Handler, Server};
pub use source::{Error, WebSource};
