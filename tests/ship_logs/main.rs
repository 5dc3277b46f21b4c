//! Files of records as events of CloudWatch Logs: moto's interface, a server whose answers are written here, and the process that ships.
#![cfg(feature = "aws")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "a failing test panics"
)]

#[path = "../aws_support/mod.rs"]
mod aws_support;
#[path = "../common/mod.rs"]
mod common;
mod group;
mod process;
mod sensor;
#[path = "../ship_support/mod.rs"]
mod ship_support;
mod waiting;
