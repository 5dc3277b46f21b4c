//! Shipping of capture files, from the outside: what waits, what has arrived, what is given up, and what a crash at any step leaves.
#![cfg(feature = "aws")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../aws_support/mod.rs"]
mod aws_support;
#[path = "../common/mod.rs"]
mod common;
#[path = "../disk_support/mod.rs"]
mod disk_support;
mod outage;
mod scene;
mod server;
mod steps;
