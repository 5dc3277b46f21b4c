//! Faults of load and of input: what is sent to the sensor, who sends it, and what happens to the process meanwhile. After
//! each the ledger is closed, whatever came was counted by name, and an honest source, a mouse beside all this, has lost nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "failing is what a test is for"
)]

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod malformed;
mod process;
mod reloads;
mod scene;
mod sources;
mod threads;
