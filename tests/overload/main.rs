//! More than can be stored: who loses, where it is counted, and what it can't cost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "failing is what a test is for"
)]

#[path = "../common/mod.rs"]
mod common;
mod floods;
mod reserve;
#[path = "../sink_capture/rig.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod rig;
mod shares;
