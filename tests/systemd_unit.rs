//! The unit and what belongs to it, as systemd itself reads them. The exposure is printed: run with
//! `--nocapture` to see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{PROGRAM, tool};

/// The most that `systemd-analyze security` may find.
const MAX_EXPOSURE: f64 = 1.5;

fn shipped(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.join("systemd").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(shipped(name)).unwrap()
}

/// The values of a directive in the unit.
fn directive(name: &str) -> Vec<String> {
    let unit = text("mirrortap.service");
    let prefix = format!("{name}=");
    let values = unit.lines().filter_map(|line| line.strip_prefix(&prefix));
    values.map(str::to_owned).collect()
}

/// A copy of the unit that starts the program under test, which `verify` wants to exist.
fn unit(folder: &Path) -> PathBuf {
    let path = folder.join("mirrortap.service");
    let unit = text("mirrortap.service");
    fs::write(&path, unit.replace("/usr/bin/mirrortap", PROGRAM)).unwrap();
    path
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let mut verify = tool("systemd-analyze");
    let out = verify
        .arg("verify")
        .arg(unit(folder.path()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        out.status.success() && !said.contains("mirrortap"),
        "{said}"
    );
}

#[test]
fn a_mistake_in_the_unit_would_be_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = unit(folder.path());
    let broken = fs::read_to_string(&path)
        .unwrap()
        .replace("WatchdogSec=30s", "WatchdogSec=soon");
    fs::write(&path, broken).unwrap();
    let out = tool("systemd-analyze")
        .arg("verify")
        .arg(&path)
        .output()
        .unwrap();
    // systemd itself ends well here: it ignores what it can't read
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        said.contains("mirrortap.service:") && said.contains("soon"),
        "{said}"
    );
}

/// Pieces of a unit that the deployment page tells to put into an override.
fn overrides() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy-aws.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks = page.split("```ini\n").skip(1);
    blocks
        .map(|b| b.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_overrides_of_the_deployment_page() {
    let overrides = overrides();
    assert_eq!(overrides.len(), 2, "one for packet, one for xdp");
    for more in overrides {
        let folder = tempfile::tempdir().unwrap();
        let path = unit(folder.path());
        let whole = fs::read_to_string(&path).unwrap() + &more;
        fs::write(&path, whole).unwrap();
        let mut verify = tool("systemd-analyze");
        let out = verify.arg("verify").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            out.status.success() && !said.contains("mirrortap"),
            "{said}"
        );
    }
}

#[test]
fn the_unit_is_exposed_to_little() {
    let folder = tempfile::tempdir().unwrap();
    let mut security = tool("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager"]);
    let out = security.arg(unit(folder.path())).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = said
        .lines()
        .find(|line| line.contains("Overall exposure level"));
    let line = line.unwrap_or_else(|| panic!("no verdict: {said}"));
    println!("{line}");
    let mut words = line.rsplit(": ").next().unwrap().split_whitespace();
    let exposure: f64 = words.next().unwrap().parse().unwrap();
    assert!(exposure <= MAX_EXPOSURE, "{line}");
}

#[test]
fn the_unit_gives_no_capability_and_waits_for_ready() {
    for (name, value) in [
        ("Type", "notify"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("Restart", "always"),
        ("User", "mirrortap"),
    ] {
        assert_eq!(directive(name), [value], "{name}");
    }
    assert!(!directive("WatchdogSec").is_empty());
}

#[test]
fn stopping_may_take_longer_than_the_program_gives_itself() {
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().unwrap();
    let unit = seconds(&directive("TimeoutStopSec")[0]);
    let own = mirrortap::config::Config::default().shutdown_timeout.0;
    assert!(unit > own.as_secs() + 10, "{unit} s against {own:?}");
}

#[test]
fn every_command_of_the_unit_is_one_that_the_program_knows() {
    let commands = ["ExecStartPre", "ExecStart", "ExecReload"];
    for command in commands.iter().flat_map(|name| directive(name)) {
        let words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(words[0], "/usr/bin/mirrortap");
        let help = common::mirrortap(&[words[1], "--help"]);
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "{command}: no {flag} in {help}");
        }
    }
}

/// A folder that looks like a machine on which the package's user was made.
fn root_with_user() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("usr/lib/sysusers.d");
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::copy(shipped("mirrortap.sysusers"), folder.join("mirrortap.conf")).unwrap();
    let mut sysusers = tool("systemd-sysusers");
    sysusers.arg(format!("--root={}", root.path().display()));
    let out = sysusers.arg("mirrortap.conf").output().unwrap();
    assert!(out.status.success(), "{out:?}");
    root
}

#[test]
fn the_user_is_made_as_the_unit_wants_it() {
    let root = root_with_user();
    let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let user = users.lines().find(|line| line.starts_with("mirrortap:"));
    let user = user.unwrap_or_else(|| panic!("no user: {users}"));
    assert!(
        user.ends_with(":/var/lib/mirrortap:/usr/sbin/nologin"),
        "{user}"
    );
}

#[test]
fn folders_are_made_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    if !common::is_root() {
        return;
    }
    let root = root_with_user();
    fs::create_dir(root.path().join("etc/mirrortap")).unwrap();
    let config = root.path().join("etc/mirrortap/mirrortap.toml");
    fs::write(&config, "").unwrap();
    let flag = format!("--root={}", root.path().display());
    let mut tmpfiles = tool("systemd-tmpfiles");
    tmpfiles.args(["--create", &flag]);
    let out = tmpfiles
        .arg(shipped("mirrortap.tmpfiles"))
        .output()
        .unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root.path().join("var/lib/mirrortap")), 0o750);
    assert_eq!(mode(&root.path().join("etc/mirrortap")), 0o750);
    assert_eq!(mode(&config), 0o640);
}

#[test]
fn every_kernel_setting_exists_and_grants_the_receive_buffer() {
    let settings = text("60-mirrortap.sysctl.conf");
    let lines = settings
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty());
    let mut granted = 0;
    for line in lines {
        let (name, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        assert!(Path::new(&path).exists(), "this kernel has no {name}");
        let value: u64 = value.parse().unwrap();
        if name == "net.core.rmem_max" {
            granted = value;
        }
    }
    let asked = mirrortap::config::Config::default().source.receive_buffer.0;
    assert!(granted >= asked, "{granted} against {asked}");
}
