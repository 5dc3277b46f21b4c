//! `make install` into a folder of its own: everything in its place, the configuration accepted by the program, and
//! an existing configuration left alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{PROGRAM, tool};

fn make(target: &str, root: &Path) {
    let out = tool("make")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([target, "PREFIX=/usr"])
        .arg(format!("BINARY={PROGRAM}"))
        .arg(format!("DESTDIR={}", root.display()))
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn everything_is_installed_where_systemd_and_man_look_for_it() {
    let root = tempfile::tempdir().unwrap();
    make("install", root.path());
    for file in [
        "usr/bin/mirrortap",
        "usr/lib/systemd/system/mirrortap.service",
        "usr/lib/systemd/system/mirrortap.socket",
        "usr/lib/sysusers.d/mirrortap.conf",
        "usr/lib/tmpfiles.d/mirrortap.conf",
        "usr/lib/sysctl.d/60-mirrortap.conf",
        "usr/share/man/man1/mirrortap.1",
        "usr/share/doc/mirrortap/README.md",
        "usr/share/doc/mirrortap/LICENSE",
        "usr/share/bash-completion/completions/mirrortap",
        "etc/mirrortap/mirrortap.toml",
    ] {
        let length = fs::metadata(root.path().join(file)).map(|m| m.len());
        assert!(length.is_ok_and(|n| n > 0), "{file}");
    }
    let program = root.path().join("usr/bin/mirrortap");
    assert!(
        Command::new(program)
            .arg("--version")
            .status()
            .unwrap()
            .success()
    );
    make("uninstall", root.path());
    assert!(!root.path().join("usr/bin/mirrortap").exists());
    assert!(root.path().join("etc/mirrortap/mirrortap.toml").exists());
}

#[test]
fn the_installed_configuration_is_good_and_fits_the_unit() {
    let root = tempfile::tempdir().unwrap();
    make("install", root.path());
    let file = root.path().join("etc/mirrortap/mirrortap.toml");
    let shown = common::mirrortap(&["check", file.to_str().unwrap(), "--show"]);
    assert!(shown.status.success(), "{shown:?}");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let unit = root.path().join("usr/lib/systemd/system/mirrortap.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(text.contains("output = \"/var/lib/mirrortap\""), "{text}");
    assert!(unit.contains("\nStateDirectory=mirrortap\n"));
    assert!(
        text.contains("socket = \"/run/mirrortap/control.sock\""),
        "{text}"
    );
    assert!(unit.contains("reload --socket /run/mirrortap/control.sock\n"));
}

#[test]
fn a_configuration_that_is_there_already_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("etc/mirrortap/mirrortap.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "unknown = \"drop\"\n").unwrap();
    make("install", root.path());
    assert_eq!(fs::read_to_string(&file).unwrap(), "unknown = \"drop\"\n");
    assert!(file.with_extension("toml.new").exists());
}
