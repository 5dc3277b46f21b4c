//! Servers with AWS's interfaces on loopback, and a client that is not ours: moto (S3, CloudWatch Logs, STS, IMDS, all in
//! memory) and SeaweedFS (S3 with credentials, on disk). They answer when `start` returns and end with their value, also when
//! the thread that started it, or the whole test program, is killed: start them in the thread of the test.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "test support: each test uses a part of it, and failing is its purpose"
)]

mod client;
mod servers;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use client::{Client, unhex};
pub use servers::{Moto, Seaweed};

/// What both servers take.
pub const REGION: &str = "eu-central-1";
pub const ACCESS_KEY: &str = "AKIAIOSFODNN7MIRROR1";
pub const SECRET_KEY: &str = "mirrortap/tests+secret/of/loopback/only1";

/// The Python environment that `scripts/setup.sh test` makes. Its absence is a failure in CI; elsewhere it is told, and
/// the test passes without a check.
pub fn test_tools() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../test-tools");
    let folder = std::env::var_os("MIRRORTAP_TEST_TOOLS").map_or(built, PathBuf::from);
    let bin = folder.join("venv/bin");
    if bin.join("python").exists() && folder.join("venv/made-from").exists() {
        return Some(bin);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "CI needs the Python packages of the tests: run scripts/setup.sh test"
    );
    println!(
        "run scripts/setup.sh test for the servers and readers of this test: nothing was checked"
    );
    None
}

/// Python with the packages of the tests; it says nothing to, and takes nothing from, who runs the tests.
pub fn python(tools: &Path) -> Command {
    let mut command = Command::new(tools.join("python"));
    command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
    command.stdin(Stdio::null());
    command
}

/// The environment without anything that a chain of AWS credentials, or a proxy, would take from it.
pub fn without_aws(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        if text.starts_with("AWS_") || text.ends_with("_PROXY") {
            command.env_remove(&name);
        }
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_CONFIG_FILE", "/dev/null");
    command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
}
