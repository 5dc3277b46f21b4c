//! The shipping process against S3 servers: a scripted one that fails as it is told to, moto, and SeaweedFS, which checks signatures. The sensor's part is played
//! by the test: it offers files, and reads statuses.
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

mod buckets;
mod fake;
mod parts;
mod process;
mod rig;
mod trouble;
