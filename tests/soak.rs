//! `make soak`, for a few seconds: that it works, ends well and leaves nothing behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn a_short_soak_closes_its_ledger_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/soak.py");
    let output = Command::new("python3")
        .arg(script)
        .args(["--seconds", "8", "--every", "2", "--rate", "2000"])
        .args(["--binary", env!("CARGO_BIN_EXE_mirrortap")])
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("python3 is installed by `make setup`");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let faults = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{faults}");
    assert!(
        said.contains("rss_kib") && said.contains("all is well"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
