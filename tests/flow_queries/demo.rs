//! The demonstration shows a flow log too, and what is in it.

use std::process::Command;

use crate::common;

#[test]
fn the_demonstration_ends_with_the_sums_of_its_flow_log() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("demo");
    let mut command = Command::new(common::PROGRAM);
    command.args(["demo", "--seconds", "1", "--rate", "500", "--output"]);
    let run = command.arg(&output).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}{run:?}");
    let verdict = "every one is in a record, or was left out by name";
    assert!(said.contains(verdict), "{said}");
    let report = Command::new(common::PROGRAM)
        .args(["flows", "--json"])
        .arg(output.join("flow-logs"))
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let sum = format!("{} packets", report["packets"]);
    assert!(report["packets"].as_u64() > Some(0), "{report}");
    assert!(said.contains(&sum), "{sum}: {said}");
}
