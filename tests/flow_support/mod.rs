//! What tests of flow logs share: captures as mirrored traffic, what tshark makes of them, and the records of the program.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test support: each test uses a part of it, and failing is its purpose"
)]

pub mod sensor;
pub mod tshark;
pub mod wrapped;

pub use tshark::{Key, Sum, Sums};
pub use wrapped::{Source, wrap};
