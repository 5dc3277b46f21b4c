//! Faults of the disk, one test each: the sensor stays up, says why, counts what it could not store, goes on by itself when the
//! cause is gone, and every file that has a name is whole.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../disk_support/mod.rs"]
mod disk_support;

mod broken;
mod clock;
mod crowd;
mod frozen;
mod full;
mod gone;
mod limits;

/// Small files, written soon.
const QUICK: &str = "[capture]\nrotate_size = '256KiB'\n[writer]\nflush_interval = '50ms'\n";

/// The same where the output itself may be replaced, or a link leads out of it.
fn beyond(folder: &std::path::Path) -> String {
    format!("[sandbox]\nwrite = ['{}']\n{QUICK}", folder.display())
}
