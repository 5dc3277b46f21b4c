//! What a crash left, made whole: cut anywhere, in every format, however compressed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what went wrong by failing"
)]

mod cuts;
mod damage;
#[path = "../spool_support/mod.rs"]
mod spool_support;
mod verb;
