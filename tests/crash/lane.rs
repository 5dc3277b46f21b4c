//! A sensor that is killed again and again, and the numbered packets that it is sent.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mirrortap::time::{self, Monotonic};
use tempfile::TempDir;

use crate::spool_support::frame;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mirrortap");

/// So long something may take that has to come some time.
const LONGEST: Duration = Duration::from_secs(60);

/// What a packet may be late, beyond the flush interval of 50 ms, on a machine that is busy with everything else.
const SLACK: Duration = Duration::from_secs(8);

fn elapsed(since: Monotonic) -> Duration {
    time::monotonic().since(since)
}

/// What was sent in a round, and what is known of it.
#[derive(Debug)]
pub(crate) struct Round {
    /// Which one, to find its configuration.
    #[allow(dead_code, reason = "shown when a check fails")]
    number: u64,
    first: u64,
    pub(crate) sent: u64,
    /// So many the sensor said it had written, before it was killed.
    pub(crate) told: u64,
    /// So many had been sent long before it was killed.
    pub(crate) settled: u64,
}

impl Round {
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.first..self.first + self.sent
    }
}

pub(crate) struct Lane {
    folder: TempDir,
    address: Ipv4Addr,
    next: u64,
    random: u64,
}

/// A process that is killed whatever happens.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Lane {
    pub(crate) fn new(number: u64) -> Self {
        let seed = time::now().nanos();
        let id = std::process::id();
        let [_, _, b, c] = id.to_be_bytes();
        Self {
            folder: tempfile::tempdir().unwrap(),
            // An address that no other process uses, whatever its ports.
            address: Ipv4Addr::new(127, 64 + number as u8, b, c.max(1)),
            next: 0,
            random: seed | 1,
        }
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// A round that ends at any moment.
    pub(crate) fn round(&mut self, number: u64) -> Round {
        let until = Duration::from_millis(20 + self.random(230));
        let mut sensor = self.start(number);
        let begun = time::monotonic();
        let mut round = self.begin(number);
        while elapsed(begun) < until {
            sensor.send(&mut round, self);
        }
        if number.is_multiple_of(2) {
            round.told = sensor.written().unwrap_or(0);
        }
        drop(sensor);
        round
    }

    /// A round that ends when everything has been written: a kill costs nothing then.
    pub(crate) fn quiet_round(&mut self) -> Round {
        let mut sensor = self.start(1000);
        let mut round = self.begin(1000);
        for _ in 0..300 {
            sensor.send(&mut round, self);
        }
        let begun = time::monotonic();
        while round.told < round.sent {
            assert!(elapsed(begun) < LONGEST, "{round:?}: it is not written");
            round.told = sensor.written().unwrap_or(0);
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(sensor);
        round
    }

    /// A round that is long enough for packets to have been sent long before its end.
    pub(crate) fn long_round(&mut self) -> Round {
        let mut sensor = self.start(1001);
        let begun = time::monotonic();
        let mut round = self.begin(1001);
        while elapsed(begun) < SLACK + Duration::from_secs(1) {
            sensor.send(&mut round, self);
            if elapsed(begun) < Duration::from_millis(500) {
                round.settled = round.sent;
            }
        }
        drop(sensor);
        round
    }

    fn begin(&self, number: u64) -> Round {
        Round {
            number,
            first: self.next,
            sent: 0,
            told: 0,
            settled: 0,
        }
    }

    /// A sensor that is ready. One whose port was taken meanwhile is started again.
    fn start(&mut self, round: u64) -> Sensor {
        for _ in 0..20 {
            if let Some(sensor) = self.try_start(round) {
                return sensor;
            }
        }
        panic!("no sensor could be started");
    }

    fn try_start(&mut self, round: u64) -> Option<Sensor> {
        let folder = self.folder.path();
        let config = folder.join("mirrortap.toml");
        fs::write(&config, config_of(round)).unwrap();
        let ready = folder.join("ready");
        let _ = fs::remove_file(&ready);
        let notified = UnixDatagram::bind(&ready).unwrap();
        notified
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let udp = UdpSocket::bind((self.address, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let tcp = std::net::TcpListener::bind((self.address, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = Command::new(PROGRAM)
            .args(["run", "--config"])
            .arg(&config)
            .args(["--listen", &format!("{}:{udp}", self.address)])
            .args(["--control", &format!("{}:{tcp}", self.address)])
            .arg("--output")
            .arg(self.output())
            .env("NOTIFY_SOCKET", &ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut child = Killed(child);
        if !is_ready(&mut child, &notified) {
            let log = fs::read_to_string(folder.join("log")).unwrap();
            assert!(log.contains("in use"), "the sensor ended: {log}");
            return None;
        }
        let socket = UdpSocket::bind((self.address, 0)).unwrap();
        socket.connect((self.address, udp)).unwrap();
        Some(Sensor {
            _child: child,
            socket,
            control: SocketAddrV4::new(self.address, tcp),
        })
    }
}

fn is_ready(child: &mut Killed, notified: &UnixDatagram) -> bool {
    let (begun, mut message) = (time::monotonic(), [0; 4096]);
    while elapsed(begun) < LONGEST {
        if let Ok(n) = notified.recv(&mut message)
            && String::from_utf8_lossy(&message[..n]).contains("READY=1")
        {
            return true;
        }
        if child.0.try_wait().unwrap().is_some() {
            return false;
        }
    }
    panic!("the sensor was not ready in {LONGEST:?}");
}

/// All formats and compressions, both ways of writing, short files and long ones.
fn config_of(round: u64) -> String {
    let format = ["pcap", "pcapng"][round as usize % 2];
    let compression = ["none", "zstd", "gzip"][round as usize % 3];
    let io = ["buffered", "buffered", "buffered", "direct"][round as usize % 4];
    let packets = [0, 0, 25, 0, 60][round as usize % 5];
    let hook = ["", "on_close = [\"true\"]"][usize::from(round % 7 == 3)];
    format!(
        "[writer]\nflush_interval = \"50ms\"\nio = \"{io}\"\n{hook}\n\
         [capture]\nformat = \"{format}\"\ncompression = \"{compression}\"\nrotate_packets = {packets}\n"
    )
}

struct Sensor {
    _child: Killed,
    socket: UdpSocket,
    control: SocketAddrV4,
}

impl Sensor {
    /// Sends the next packet, at a rate that nothing is lost at.
    fn send(&mut self, round: &mut Round, lane: &mut Lane) {
        let mut datagram = vec![8, 0, 0, 0, 0, 0, 7, 0];
        datagram.extend(frame(lane.next, 60 + lane.next as usize % 500));
        if self.socket.send(&datagram).is_ok() {
            lane.next += 1;
            round.sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }

    /// What it says it has written.
    fn written(&self) -> Option<u64> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.control).ok()?;
        stream.set_read_timeout(Some(LONGEST)).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("mirrortap_packet_written_packets_total "))?;
        line.trim().parse().ok()
    }
}
