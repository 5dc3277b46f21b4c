//! Flow logs of a whole sensor: which packets count, that none is missing from the sums, and what is told of losses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "failing is what a test is for"
)]

#[path = "../common/mod.rs"]
mod common;
mod leftovers;
mod live;
mod losses;
mod reload;
mod replays;
mod selection;
mod support;
