//! The capture sink from the outside: packets in, files out, read by other programs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what went wrong by failing"
)]

mod compressed;
mod files;
mod full_packed;
mod hook;
mod many;
mod order;
mod rig;
mod rotation;
mod statistics;
mod trouble;
