//! Flow logs through readers that are not ours.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a failing test panics"
)]

#[path = "../aws_support/mod.rs"]
mod aws_support;
#[path = "../common/mod.rs"]
mod common;
#[path = "../flow_support/mod.rs"]
mod flow_support;

mod answers;
mod demo;
mod duckdb;
mod page;
mod reader;
