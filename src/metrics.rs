//! What stands on `/metrics`: `catalog` describes what is watched, one row a
//! metric; `own` holds the exporter's own counters, which are counted where
//! things happen; `account` counts there for one account.

pub mod account;
pub mod catalog;
pub mod own;
