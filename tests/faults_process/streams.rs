//! The standard streams: missing, or with nobody at the other end.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::Load;
use crate::common::{PROGRAM, all_packets, free_tcp_port, free_udp_port, http_get, wait_until};

/// A sensor whose streams the test sees to; killed when the test ends.
struct Bare {
    child: Child,
    folder: tempfile::TempDir,
    udp: u16,
    http: u16,
}

impl Bare {
    /// Starts it through a shell that does something to its streams.
    fn start(redirections: &str, stdout: Stdio, stderr: Stdio) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (udp, http) = (free_udp_port(), free_tcp_port());
        let script = format!("exec \"$0\" \"$@\" {redirections}");
        let mut command = Command::new("bash");
        command.args(["-c", &script, PROGRAM, "run", "--json"]);
        command.args([
            "--listen",
            &format!("127.0.0.1:{udp}"),
            "--control",
            &format!("127.0.0.1:{http}"),
        ]);
        command.arg("--output").arg(folder.path().join("out"));
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        let this = Self {
            child,
            folder,
            udp,
            http,
        };
        wait_until("a healthy sensor", || {
            http_get(http, "/healthz").is_some_and(|(code, _)| code == 200)
        });
        this
    }

    fn written(&self) -> u64 {
        let (_, text) = http_get(self.http, "/status").unwrap();
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        status["ledger"]["written"].as_u64().unwrap()
    }

    /// Sends some, waits until they are written, stops it: all are in the files.
    fn captures_and_ends_well(mut self, meanwhile: impl FnOnce(&Self)) {
        let mut load = Load::on(self.udp);
        load.send(50);
        wait_until("fifty packets", || self.written() == 50);
        meanwhile(&self);
        load.send(50);
        wait_until("a hundred packets", || self.written() == 100);
        let killed = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
        let mut ended = None;
        wait_until("its end", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        assert!(ended.unwrap().success(), "{ended:?}");
        assert_eq!(all_packets(&self.folder.path().join("out")).len(), 100);
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn without_standard_streams_their_numbers_do_not_become_sockets_or_captures() {
    let sensor = Bare::start("<&- >&- 2>&-", Stdio::null(), Stdio::null());
    sensor.captures_and_ends_well(|sensor| {
        for fd in 0..3 {
            let target = fs::read_link(format!("/proc/{}/fd/{fd}", sensor.child.id()));
            assert_eq!(target.unwrap().to_string_lossy(), "/dev/null", "{fd}");
        }
    });
}

#[test]
fn a_reader_of_the_ledger_who_is_gone_does_no_harm() {
    let mut sensor = Bare::start("", Stdio::piped(), Stdio::null());
    drop(sensor.child.stdout.take());
    sensor.captures_and_ends_well(|_| ());
}

#[test]
fn a_reader_of_the_log_who_is_gone_does_no_harm() {
    let mut sensor = Bare::start("", Stdio::null(), Stdio::piped());
    drop(sensor.child.stderr.take());
    sensor.captures_and_ends_well(|sensor| {
        // something to log
        let hangup = Command::new("kill")
            .args(["-HUP", &sensor.child.id().to_string()])
            .status();
        assert!(hangup.unwrap().success());
    });
}
