//! Two hosts that the test makes itself, joined by a veth pair, and this test's own program run inside either: a source
//! must be opened where its interface is. Removed when dropped.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test support: each test uses a part of it, and failing is its purpose"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The variable that tells this program which part it plays.
const ROLE: &str = "MIRRORTAP_TEST_ROLE";

/// Addresses of the two hosts.
pub const SENDER: &str = "10.77.0.1";
pub const SENSOR: &str = "10.77.0.2";
pub const SENSOR6: &str = "fd77::2";
/// The sensor's interface.
pub const DEVICE: &str = "mt1";

pub struct Net {
    prefix: String,
}

impl Net {
    /// Two hosts, with the largest packet and as many queues as given.
    pub fn make(mtu: u32, queues: u32) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let net = Self {
            prefix: format!("mtx{}n{number}", std::process::id()),
        };
        let hosts = ["a", "b"].map(|host| net.name(host));
        for host in &hosts {
            run(ip(&["netns", "add", host]));
        }
        let queues = queues.to_string();
        run(ip(&[
            "link",
            "add",
            "mt0",
            "netns",
            &hosts[0],
            "numrxqueues",
            &queues,
            "numtxqueues",
            &queues,
            "type",
            "veth",
            "peer",
            "name",
            DEVICE,
            "netns",
            &hosts[1],
            "numrxqueues",
            &queues,
            "numtxqueues",
            &queues,
        ]));
        for (host, device, v4, v6) in [
            (&hosts[0], "mt0", "10.77.0.1/24", "fd77::1/64"),
            (&hosts[1], DEVICE, "10.77.0.2/24", "fd77::2/64"),
        ] {
            run(ip(&["-n", host, "link", "set", "lo", "up"]));
            run(ip(&["-n", host, "addr", "add", v4, "dev", device]));
            run(ip(&["-n", host, "addr", "add", v6, "dev", device, "nodad"]));
            run(ip(&[
                "-n",
                host,
                "link",
                "set",
                device,
                "mtu",
                &mtu.to_string(),
                "up",
            ]));
        }
        // a link that is just up takes a moment until neighbours answer
        for to in [SENSOR, SENSOR6] {
            net.run("a", &["ping", "-q", "-c", "1", "-w", "10", to]);
        }
        net
    }

    fn name(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    /// A command on host `a`, the sender, or `b`, the sensor.
    pub fn command(&self, host: &str, words: &[&str]) -> Command {
        let mut command = ip(&["netns", "exec", &self.name(host)]);
        command.args(words);
        command
    }

    pub fn run(&self, host: &str, words: &[&str]) -> Output {
        run(self.command(host, words))
    }

    /// This program on a host, in a role: the test called `role` does what it says.
    pub fn role(&self, host: &str, role: &str) -> Role {
        let program = std::env::current_exe().unwrap();
        let words = [program.to_str().unwrap(), "--exact", "role", "--nocapture"];
        let mut command = self.command(host, &words);
        let mut child = command
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Role { child, lines }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in ["a", "b"] {
            let _ = ip(&["netns", "del", &self.name(host)]).status();
        }
    }
}

/// This program in a role. It talks by lines that begin with `>`.
pub struct Role {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Role {
    /// The next thing that it says.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let n = self.lines.read_line(&mut line).unwrap();
            assert!(n > 0, "the other process ended: {:?}", self.child.wait());
            // the test runner's own words come before it in the same line
            if let Some((_, said)) = line.split_once('>') {
                return said.trim().to_owned();
            }
        }
    }

    /// Tells it to go on.
    pub fn tell(&mut self, what: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{what}").unwrap();
    }

    /// Kills it without a chance to clean up.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub fn end(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the other process failed: {status}");
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The role of this process, if it plays one.
pub fn my_role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Says something to the process that started this one.
pub fn say(what: &str) {
    println!(">{what}");
    std::io::stdout().flush().unwrap();
}

/// Waits for a line from the process that started this one; `None` when it is gone.
pub fn listen() -> Option<String> {
    let mut line = String::new();
    let n = std::io::stdin().lock().read_line(&mut line).unwrap();
    (n > 0).then(|| line.trim().to_owned())
}

pub fn ip(words: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(words);
    command
}

pub fn run(mut command: Command) -> Output {
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {said}");
    out
}

/// A bound socket that waits a little.
pub fn socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    socket
}
