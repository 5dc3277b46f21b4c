//! Two hosts, the sensor on one of them, and what is done to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::common::{self, Ledger, PROGRAM, Packet};
use crate::net_support::{DEVICE, Net, SENSOR};

/// How long something may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(30);
const TRIES: u32 = 600;

/// A kind of source, to be tried on hosts that are made when it is known how.
pub struct Scene {
    pub kind: &'static str,
    pub mtu: u32,
    pub queues: u32,
    pub receivers: u32,
    /// Lines for the `[source]` table.
    pub source: String,
    pub listen: Vec<String>,
    /// What the program is started through.
    pub through: Vec<&'static str>,
    /// Names the interface; else it is found by address.
    pub named: bool,
}

impl Scene {
    /// `None` for one who may not make namespaces.
    pub fn make(kind: &'static str) -> Option<Self> {
        common::is_root().then(|| Self {
            kind,
            mtu: 1500,
            queues: 1,
            receivers: 1,
            source: String::new(),
            listen: vec!["[::]:4789".to_owned()],
            through: Vec::new(),
            named: true,
        })
    }

    pub fn net(&self) -> Net {
        Net::make(self.mtu, self.queues)
    }

    /// Starts the sensor on its host, and waits until it is healthy.
    pub fn start(&self, net: &Net) -> Sensor {
        let mut sensor = self.spawn(net);
        sensor.wait("health", |s| {
            if let Some(status) = s.child.try_wait().unwrap() {
                panic!("the sensor ended with {status}: {:#?}", s.log());
            }
            s.get("/healthz").is_some_and(|(code, _)| code == 200)
        });
        sensor
    }

    /// Starts the sensor, which may refuse to run.
    pub fn spawn(&self, net: &Net) -> Sensor {
        let folder = tempfile::tempdir().unwrap();
        // for one that becomes somebody else
        let program = common::program_for_all(folder.path());
        open_to_all(folder.path());
        let socket = folder.path().join("control.sock");
        let config = folder.path().join("mirrortap.toml");
        let text = format!(
            "[threads]\nreceivers = {}\nworkers = 2\npin = false\n[source]\n{}\n[control]\nsocket = '{}'\n",
            self.receivers,
            self.source,
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let output = folder.path().join("out");
        std::fs::create_dir(&output).unwrap();
        open_to_all(&output);
        let mut words = self.through.clone();
        words.extend([program.to_str().unwrap(), "run", "--json"]);
        words.extend(["--control", "off", "--source", self.kind]);
        words.extend(["--config", config.to_str().unwrap()]);
        words.extend(["--output", output.to_str().unwrap()]);
        if self.named {
            words.extend(["--interface", DEVICE]);
        }
        for address in &self.listen {
            words.extend(["--listen", address]);
        }
        let mut command = net.command("b", &words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Sensor::over(command.spawn().unwrap(), folder, socket)
    }
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// A sensor that runs on its host.
pub struct Sensor {
    pub child: Child,
    folder: tempfile::TempDir,
    socket: PathBuf,
    said: mpsc::Receiver<String>,
    log: Vec<String>,
}

impl Sensor {
    fn over(mut child: Child, folder: tempfile::TempDir, socket: PathBuf) -> Self {
        let (tell, said) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            let lines = stderr.lines().map_while(Result::ok);
            lines.for_each(|line| drop(tell.send(line)));
        });
        Self {
            child,
            folder,
            socket,
            said,
            log: Vec::new(),
        }
    }

    /// What it has logged so far.
    pub fn log(&mut self) -> String {
        self.log.extend(self.said.try_iter());
        self.log.join("\n")
    }

    /// Code and body of an answer of the control socket, which is reached from every network namespace.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: t\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, body.to_owned()))
    }

    pub fn status(&self) -> Value {
        let (code, body) = self.get("/status").expect("/status answers");
        assert_eq!(code, 200);
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until something is so.
    pub fn wait(&mut self, what: &str, is_so: impl Fn(&mut Self) -> bool) {
        for _ in 0..TRIES {
            if is_so(self) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        panic!("{what}: {}", self.log());
    }

    /// Waits until so many datagrams were received, or goes on with what there is.
    pub fn wait_received(&mut self, count: u64) {
        for _ in 0..TRIES / 2 {
            if self.received() >= count {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// How many datagrams it has received.
    pub fn received(&self) -> u64 {
        self.status()["ledger"]["received"].as_u64().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Stops it: the ledger, and the packets of a session in the order of its files.
    pub fn stop(mut self) -> Outcome {
        self.signal("-TERM");
        let output = self.end();
        let said = self.log();
        assert!(output.status.success(), "{}: {said}", output.status);
        Outcome {
            ledger: common::ledger(&output),
            folder: self.folder.path().join("out"),
            log: said,
            _sensor: self,
        }
    }

    /// Waits for its end, and gives its code and what it printed.
    pub fn end(&mut self) -> Output {
        let mut stdout = Vec::new();
        let from = self.child.stdout.as_mut().unwrap();
        from.read_to_end(&mut stdout).unwrap();
        let status = self.child.wait().unwrap();
        // to the end of its log
        self.log.extend(self.said.iter());
        let stderr = Vec::new();
        Output {
            status,
            stdout,
            stderr,
        }
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a sensor left.
pub struct Outcome {
    pub ledger: Ledger,
    pub log: String,
    folder: PathBuf,
    _sensor: Sensor,
}

impl Outcome {
    pub fn packets(&self, vni: u32) -> Vec<Packet> {
        common::all_packets(&self.folder.join(format!("vni-{vni}")))
    }

    pub fn all_packets(&self) -> Vec<Packet> {
        common::all_packets(&self.folder)
    }

    /// Everything was received and written, and nothing was lost.
    pub fn is_whole(&self, sent: u64) {
        let counts = ["received", "written"].map(|key| self.ledger.number(key));
        assert_eq!(counts, [sent, sent], "{} {}", self.ledger.0, self.log);
        assert_eq!(self.ledger.sum("kernel_dropped"), 0, "{}", self.ledger.0);
        assert_eq!(self.all_packets().len() as u64, sent);
    }
}

/// `mirrortap send` on the other host; how many packets it sent.
pub fn send(net: &Net, to: &str, more: &str) -> u64 {
    sent(&sending(net, to, more).wait_with_output().unwrap())
}

/// The same, not waited for.
pub fn sending(net: &Net, to: &str, more: &str) -> Child {
    // a sender that is moved between two packets leaves one of them in each processor's queue, and either may be first
    let processor = a_processor();
    let mut words = vec!["taskset", "--cpu-list", &processor];
    words.extend([PROGRAM, "send", "--json", "--to", to]);
    words.extend(more.split(' '));
    let mut command = net.command("a", &words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The first one that this process may use.
fn a_processor() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut fields = status.lines();
    let list = fields.find_map(|l| l.strip_prefix("Cpus_allowed_list:\t"));
    let first = list.and_then(|l| l.split([',', '-']).next());
    first.expect("a processor").to_owned()
}

pub fn sent(output: &Output) -> u64 {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    report["sent"].as_u64().unwrap()
}

/// Targets of both address families.
pub fn targets() -> [String; 2] {
    [
        SENSOR.to_owned(),
        format!("[{}]", crate::net_support::SENSOR6),
    ]
}

/// tcpdump on a device of a host.
pub struct Watch {
    child: Child,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Watch {
    pub fn start(net: &Net, host: &str, device: &str, what: &str) -> Self {
        drop(common::tool("tcpdump"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen.pcap");
        let mut words = vec![
            "tcpdump",
            "-ni",
            device,
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
        ];
        // as many frames as a test sends, and each whole
        words.extend(["-B", "65536", "-s", "0", "--time-stamp-precision=nano"]);
        words.extend(["-w", file.to_str().unwrap(), what]);
        let mut child = net
            .command(host, &words)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            let n = stderr.read_line(&mut line).unwrap();
            assert!(n > 0, "tcpdump ended: {:?}", child.wait());
        }
        // else it would die of a closed pipe
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Self {
            child,
            file,
            _folder: folder,
        }
    }

    /// What it saw.
    pub fn stop(mut self) -> Vec<Packet> {
        std::thread::sleep(Duration::from_millis(200));
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.unwrap().success());
        self.child.wait().unwrap();
        common::packets(&self.file)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
