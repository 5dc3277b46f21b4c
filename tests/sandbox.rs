//! The sandbox around a real sensor: every thread is inside, and what the sensor has to do goes on. What can't be done from inside is tried in
//! `src/sys/tests.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{PROGRAM, Sensor, wait_until};
use mirrortap::sandbox::{Calls, allowed};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// A field of `/proc/…/status`, of each thread of a process.
fn of_threads(pid: u32, field: &str) -> BTreeSet<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = threads.map(|t| fs::read_to_string(t.unwrap().path().join("status")));
    let prefix = format!("{field}:\t");
    let values = status.filter_map(Result::ok).filter_map(|text| {
        let value = text.lines().find_map(|l| l.strip_prefix(&prefix))?;
        Some(value.to_owned())
    });
    values.collect()
}

fn just(value: &str) -> BTreeSet<String> {
    [value.to_owned()].into()
}

fn send(port: u16, vni: u8, count: usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut packet = vec![8, 0, 0, 0, 0, 0, vni, 0];
    packet.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    packet.resize(8 + 60, 0);
    for _ in 0..count {
        socket.send_to(&packet, ("127.0.0.1", port)).unwrap();
    }
}

fn written(sensor: &Sensor) -> u64 {
    sensor.status()["ledger"]["written"].as_u64().unwrap()
}

/// Runs `work` on a thread whose children are told that some calls do not exist, as on an old kernel.
fn without<T: Send>(calls: &[i64], work: impl FnOnce() -> T + Send) -> T {
    let rules = calls.iter().map(|number| (*number, Vec::new())).collect();
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            apply_filter(&program).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn every_thread_is_inside_and_status_and_metrics_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut sensor = Sensor::start(folder.path(), "[threads]\nreceivers = 2\nworkers = 2", &[]);
    let pid = sensor.child.id();
    for (field, value) in [
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
    ] {
        assert_eq!(of_threads(pid, field), just(value), "{field}");
    }
    let status = sensor.status();
    assert_eq!(status["sandbox"]["mode"], "on");
    let parts = status["sandbox"]["parts"].as_object().unwrap();
    assert_eq!(parts.len(), 5);
    assert!(
        parts.values().all(|stands| stands == true),
        "{parts:?}: this kernel has all of them"
    );
    let (_, metrics) = sensor.get("/metrics").unwrap();
    assert!(
        metrics.contains("mirrortap_sandbox_enforced{part=\"files\"} 1"),
        "{metrics}"
    );
    sensor.wait_logged("The sandbox is closed.");
    sensor.stop();
}

#[test]
fn it_can_be_left_open_by_configuration_and_by_command() {
    for (config, more) in [
        ("[sandbox]\nmode = \"off\"", &[][..]),
        ("", &["--no-sandbox"][..]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut sensor = Sensor::start(folder.path(), config, more);
        assert_eq!(of_threads(sensor.child.id(), "Seccomp"), just("0"));
        assert_eq!(sensor.status()["sandbox"]["mode"], "off");
        sensor.wait_logged("The sandbox is off");
        sensor.stop();
    }
}

#[test]
fn capture_rotation_flushes_and_reloads_go_on_inside() {
    let folder = tempfile::tempdir().unwrap();
    let config = |name: &str| {
        format!(
            "[capture]\nrotate_packets = 10\n[[session]]\nname = \"{name}\"\nvni = 7\nfilter = {{ expression = \"ether proto 0x88b5 and not port http\" }}\n"
        )
    };
    let sensor = Sensor::start(folder.path(), &config("first"), &[]);
    send(sensor.udp, 7, 100);
    wait_until("a hundred packets", || written(&sensor) == 100);
    // an editor replaces the file by a rename
    let new = folder.path().join("new.toml");
    fs::write(&new, config("second")).unwrap();
    fs::rename(&new, folder.path().join("mirrortap.toml")).unwrap();
    let socket = folder.path().join("out/.control.sock");
    let reload = common::mirrortap(&["reload", "--socket", socket.to_str().unwrap()]);
    assert!(
        reload.status.success(),
        "{}",
        String::from_utf8_lossy(&reload.stderr)
    );
    send(sensor.udp, 7, 100);
    wait_until("the others", || written(&sensor) == 200);
    let ledger = sensor.stop();
    assert_eq!(
        (ledger.number("written"), ledger.dropped("write_failed")),
        (200, 0)
    );
    let files = common::files(&folder.path().join("out"));
    let of = |name: &str| {
        files
            .iter()
            .filter(|f| common::stem(f).starts_with(name))
            .count()
    };
    assert_eq!((of("first"), of("second")), (10, 10), "{files:?}");
    assert!(!socket.exists(), "the socket was removed");
}

#[test]
fn a_filter_file_elsewhere_may_be_replaced_and_one_that_was_not_named_is_refused() {
    let (folder, elsewhere, other) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let filters = r#"{"TrafficMirrorFilters":[{"TrafficMirrorFilterId":"tmf-1","IngressFilterRules":[{"TrafficDirection":"ingress",
        "RuleNumber":100,"RuleAction":"accept","SourceCidrBlock":"0.0.0.0/0","DestinationCidrBlock":"0.0.0.0/0"}],"EgressFilterRules":[]}]}"#;
    let config = |file: &Path| {
        format!(
            "[[session]]\nname = \"a\"\nvni = 7\nfilter = {{ file = \"{}\" }}\n",
            file.display()
        )
    };
    let file = elsewhere.path().join("filters.json");
    fs::write(&file, filters).unwrap();
    let sensor = Sensor::start(folder.path(), &config(&file), &[]);
    let socket = folder.path().join("out/.control.sock");
    let reload = || {
        let out = common::mirrortap(&["reload", "--socket", socket.to_str().unwrap()]);
        (
            out.status.success(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    fs::write(elsewhere.path().join("new"), filters).unwrap();
    fs::rename(elsewhere.path().join("new"), &file).unwrap();
    let (good, said) = reload();
    assert!(good, "{said}");
    let unknown = other.path().join("filters.json");
    fs::write(&unknown, filters).unwrap();
    fs::write(folder.path().join("mirrortap.toml"), config(&unknown)).unwrap();
    let (good, said) = reload();
    assert!(!good && said.contains("ermission denied"), "{said}");
    assert_eq!(sensor.status()["config"]["generation"], 2);
    sensor.stop();
}

#[test]
fn the_hook_is_run_outside_and_its_process_ends_with_the_sensor() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mark = outside.path().join("mark");
    let script = format!(
        "grep -e NoNewPrivs -e Seccomp: /proc/self/status > {0}.new && mv {0}.new {0}",
        mark.display()
    );
    let config = format!(
        "[writer]\non_close = [\"sh\", \"-c\", \"{script}\"]\n[capture]\nrotate_packets = 1\n"
    );
    let sensor = Sensor::start(folder.path(), &config, &[]);
    send(sensor.udp, 7, 2);
    wait_until("the hook's mark", || mark.exists());
    let status = fs::read_to_string(&mark).unwrap();
    let words: Vec<&str> = status.split_whitespace().collect();
    assert_eq!(words, ["NoNewPrivs:", "0", "Seccomp:", "0"]);
    let runner = children(sensor.child.id());
    assert_eq!(runner.len(), 1);
    sensor.signal("KILL");
    wait_until("the end of the hook's process", || {
        !Path::new(&format!("/proc/{}", runner[0])).exists()
    });
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace()
        .map(|p| p.parse().unwrap())
        .collect()
}

#[test]
fn an_output_that_is_removed_and_made_again_is_written_to_where_its_folder_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[sandbox]\nwrite = [\"{}\"]\n[capture]\nrotate_packets = 1\n",
        folder.path().display()
    );
    let output = folder.path().join("out");
    let sensor = Sensor::start(folder.path(), &config, &[]);
    send(sensor.udp, 7, 1);
    wait_until("a packet", || written(&sensor) == 1);
    fs::remove_dir_all(&output).unwrap();
    // how soon the removal is noticed is not what is asked here
    let is_there =
        || fs::read_dir(output.join("vni-7")).is_ok_and(|mut entries| entries.next().is_some());
    wait_until("a file in the new folder", || {
        send(sensor.udp, 7, 1);
        is_there()
    });
    sensor.stop();
}

#[test]
fn on_a_kernel_without_landlock_the_sensor_runs_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut sensor = without(&[libc::SYS_landlock_create_ruleset], || {
        Sensor::start(folder.path(), "", &[])
    });
    let parts = sensor.status()["sandbox"]["parts"].clone();
    for (part, stands) in [
        ("privileges", true),
        ("files", false),
        ("network", false),
        ("signals", false),
        ("calls", true),
    ] {
        assert_eq!(parts[part], stands, "{part}");
    }
    sensor.wait_logged("A part of the sandbox cannot be had.");
    send(sensor.udp, 7, 5);
    wait_until("five packets", || written(&sensor) == 5);
    sensor.stop();
}

#[test]
fn required_refuses_to_start_where_a_wall_is_missing_and_starts_where_none_is() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[sandbox]\nmode = \"required\"";
    let sensor = Sensor::start(folder.path(), config, &[]);
    assert_eq!(sensor.status()["sandbox"]["mode"], "required");
    sensor.stop();
    let file = folder.path().join("mirrortap.toml");
    let out = without(&[libc::SYS_landlock_create_ruleset], || {
        let mut command = Command::new(PROGRAM);
        command
            .args([
                "run",
                "--listen",
                "127.0.0.1:0",
                "--control",
                "off",
                "--config",
            ])
            .arg(&file);
        command
            .arg("--output")
            .arg(folder.path().join("out"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    });
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(69), "{said}");
    assert!(
        said.contains("the kernel has no Landlock") && said.contains("sandbox.mode = \"on\""),
        "{said}"
    );
}

/// A process that is killed when the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_replay_is_inside_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .args(["replay", "-", "--output"])
        .arg(folder.path().join("out"));
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = Killed(child);
    wait_until("the closed sandbox", || {
        of_threads(child.0.id(), "Seccomp") == just("2")
    });
}

/// The names in the code words of a part of the page.
fn words(text: &str) -> BTreeSet<String> {
    let words = text.split('`').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

#[test]
fn the_page_lists_the_calls_that_are_allowed_and_how_many_there_are() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/threat-model.md");
    let page = fs::read_to_string(page).unwrap();
    let (plain, conditional): (Vec<_>, Vec<_>) = allowed(Calls::Plain)
        .into_iter()
        .partition(|(_, looked_at)| !looked_at);
    let plain: BTreeSet<String> = plain.into_iter().map(|(name, _)| name).collect();
    let section = page.split("calls without conditions:").nth(1).unwrap();
    let listed = section.split("and with conditions:").next().unwrap();
    assert_eq!(words(listed), plain, "listed against allowed");
    let number = format!("With any source, {} calls without conditions:", plain.len());
    assert!(page.contains(&number), "{number}");
    let table = section.split("With `packet`").next().unwrap();
    let rows = table
        .lines()
        .filter(|l| l.starts_with("| `"))
        .map(|l| l.split('|').nth(1).unwrap());
    let mut told: BTreeSet<String> = rows.flat_map(words).collect();
    assert!(told.remove("clone3"));
    let conditional: BTreeSet<String> = conditional.into_iter().map(|(name, _)| name).collect();
    assert_eq!(told, conditional, "with conditions");
}
