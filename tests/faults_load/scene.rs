//! A sensor, an honest mouse that sends numbered packets, and whoever else sends. Nobody sends more than the sensor's
//! socket holds: after some datagrams it is looked whether they have been taken, so no test depends on who is quicker.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::common::{Ledger, PROGRAM, Sensor, files, packets, waiting};

/// Where the mouse sends from, and the VNI that it uses.
pub(crate) const MOUSE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
pub(crate) const MOUSE_VNI: u32 = 7;
/// Where others send from.
pub(crate) const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 66, 1);

const MOUSE_SESSION: &str = "[[session]]\nname = 'mouse'\nvni = 7\nsource = ['127.0.0.2/32']\n";

/// Datagrams, and bytes, after which the socket is looked at. The smallest socket buffer that Linux gives by default holds them.
const CHUNK: usize = 80;
const CHUNK_BYTES: usize = 64 << 10;

/// How long anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A sensor and those who send to it.
pub(crate) struct Scene {
    pub(crate) sensor: Sensor,
    pub(crate) folder: TempDir,
    /// What is in the configuration beside the mouse.
    text: String,
    mouse: UdpSocket,
    pub(crate) mouse_sent: u64,
    /// Datagrams of all.
    pub(crate) sent: u64,
    /// Since the socket was last seen empty.
    waiting: (usize, usize),
}

impl Scene {
    /// With more lines of configuration, tables in front of which stand none.
    pub(crate) fn new(config: &str) -> Self {
        Self::with(Command::new(PROGRAM), config, &[])
    }

    /// The same through another command, and with more arguments.
    pub(crate) fn with(command: Command, config: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = full(config, folder.path());
        let sensor = Sensor::start_with(command, folder.path(), &text, more);
        Self::over(sensor, folder, config)
    }

    /// Over a sensor that runs.
    pub(crate) fn over(sensor: Sensor, folder: TempDir, config: &str) -> Self {
        let mouse = sender(MOUSE, sensor.udp);
        Self {
            sensor,
            folder,
            text: config.to_owned(),
            mouse,
            mouse_sent: 0,
            sent: 0,
            waiting: (0, 0),
        }
    }

    /// The address that the sensor listens on.
    pub(crate) fn sender(&self, from: Ipv4Addr) -> UdpSocket {
        sender(from, self.sensor.udp)
    }

    /// One packet of the mouse.
    pub(crate) fn squeak(&mut self) {
        let payload = vxlan(MOUSE_VNI, &frame(self.mouse_sent, 120));
        let sent = self.mouse.send(&payload).unwrap();
        assert_eq!(sent, payload.len());
        self.mouse_sent += 1;
        self.count(payload.len());
    }

    /// One datagram of somebody else; a squeak now and then.
    pub(crate) fn send(&mut self, from: &UdpSocket, payload: &[u8]) {
        from.send(payload).unwrap();
        self.count(payload.len());
        if self.sent.is_multiple_of(20) {
            self.squeak();
        }
    }

    /// Many of them.
    pub(crate) fn flood<T: AsRef<[u8]>>(
        &mut self,
        from: Ipv4Addr,
        payloads: impl IntoIterator<Item = T>,
    ) {
        let socket = self.sender(from);
        for payload in payloads {
            self.send(&socket, payload.as_ref());
        }
    }

    fn count(&mut self, bytes: usize) {
        self.sent += 1;
        self.waiting = (self.waiting.0 + 1, self.waiting.1 + bytes + 800);
        if self.waiting.0 >= CHUNK || self.waiting.1 >= CHUNK_BYTES {
            self.settle();
        }
    }

    /// Waits until the sensor has taken what was sent.
    pub(crate) fn settle(&mut self) {
        let port = self.sensor.udp;
        wait("the sensor takes what was sent", || waiting(port) == 0);
        self.waiting = (0, 0);
    }

    /// Puts another configuration, beside the mouse's, into the file.
    pub(crate) fn write_config(&self, config: &str) {
        self.put_config(&full(config, self.folder.path()));
    }

    /// Whole or not at all: a sensor may be reading it.
    pub(crate) fn put_config(&self, text: &str) {
        let beside = self.folder.path().join("new.toml");
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, self.file()).unwrap();
    }

    /// The whole configuration, as it stands in the file.
    pub(crate) fn read_config(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    /// The configuration that it was started with, again.
    pub(crate) fn restore_config(&self) {
        self.write_config(&self.text);
    }

    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("mirrortap.toml")
    }

    /// Reloads: whether the new configuration was taken, and what was said.
    pub(crate) fn reload(&self) -> (bool, String) {
        let socket = self.folder.path().join("control.sock");
        let out = Command::new(PROGRAM)
            .arg("reload")
            .arg("--socket")
            .arg(socket)
            .output()
            .unwrap();
        (
            out.status.success(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    }

    /// Stops the sensor: everything arrived, is counted, and the mouse has all its packets.
    pub(crate) fn end(mut self) -> Outcome {
        self.squeak();
        self.settle();
        let Self {
            sensor,
            folder,
            mouse_sent,
            sent,
            ..
        } = self;
        let ledger = sensor.stop();
        assert_eq!(ledger.number("received"), sent, "{}", ledger.0);
        assert_mouse(&folder.path().join("out"), mouse_sent);
        let mouse = &ledger.sessions()["mouse"];
        assert_eq!(mouse["written"].as_u64(), Some(mouse_sent), "{mouse}");
        Outcome {
            ledger,
            folder,
            mouse_sent,
            sent,
        }
    }
}

/// What a sensor left.
pub(crate) struct Outcome {
    pub(crate) ledger: Ledger,
    pub(crate) folder: TempDir,
    pub(crate) mouse_sent: u64,
    pub(crate) sent: u64,
}

impl Outcome {
    /// What was dropped, by reason, is exactly this.
    pub(crate) fn assert_dropped(&self, reasons: &[(&str, u64)]) {
        let expected: BTreeMap<String, u64> =
            reasons.iter().map(|(r, n)| ((*r).to_owned(), *n)).collect();
        let dropped: BTreeMap<String, u64> =
            serde_json::from_value(self.ledger.0["dropped"].clone()).unwrap();
        assert_eq!(dropped, expected, "{}", self.ledger.0);
    }

    /// Packets in the files of a session.
    pub(crate) fn packets(&self, session: &str) -> u64 {
        let files = files(&self.folder.path().join("out").join(session));
        files.iter().map(|f| packets(f).len() as u64).sum()
    }
}

/// Each packet of the mouse, once and in order.
pub(crate) fn assert_mouse(out: &Path, sent: u64) {
    let files = files(&out.join("mouse"));
    let packets = files.iter().flat_map(|f| packets(f));
    let numbers: Vec<u64> = packets.map(|p| number(&p.data)).collect();
    assert_eq!(
        numbers,
        (0..sent).collect::<Vec<_>>(),
        "the mouse lost packets"
    );
}

fn full(config: &str, folder: &Path) -> String {
    let socket = folder.join("control.sock");
    format!(
        "{config}\n[control]\nsocket = '{}'\n{MOUSE_SESSION}",
        socket.display()
    )
}

pub(crate) fn sender(from: Ipv4Addr, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket
}

pub(crate) fn sender6(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from((
        IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        0,
    )))
    .unwrap();
    socket.connect(("::1", port)).unwrap();
    socket
}

/// An Ethernet frame of `len` bytes that carries `number`.
pub(crate) fn frame(number: u64, len: usize) -> Vec<u8> {
    let mut frame = vec![0x55; len.max(22)];
    frame[12..14].copy_from_slice(&0x88b5_u16.to_be_bytes());
    frame[14..22].copy_from_slice(&number.to_be_bytes());
    frame
}

fn number(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[14..22].try_into().unwrap())
}

pub(crate) fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[0x08, 0, 0, 0, a, b, c, 0], frame].concat()
}

/// Waits until something is so.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = mirrortap::time::monotonic();
    while !is_so() {
        let waited = mirrortap::time::monotonic().since(begun);
        assert!(waited < PATIENCE, "waited {waited:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The largest that a process's memory ever was, in bytes.
pub(crate) fn peak(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .unwrap()
        << 10
}
