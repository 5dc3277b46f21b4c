//! Sockets that the service manager passes and keeps: what comes while the sensor restarts waits in them. Stand-ins for systemd bind, pass
//! and keep; numbered packets show what is lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{
    Ledger, PROGRAM, Sensor, free_tcp_port, free_udp_port, is_root, tool, wait_until, waiting,
};
use socket2::{Domain, Socket, Type};

/// A socket that is bound, and that children inherit.
fn bound(address: SocketAddr, shared: bool) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
    socket.set_reuse_port(shared).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.set_cloexec(false).unwrap();
    socket
}

fn address(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}

/// The program's name behind a shell that passes it descriptors as a service manager does.
fn passing(fds: &[i32], names: &str) -> Command {
    // by way of high numbers: the descriptors to be passed may themselves be 3, 4, …
    let high = (60..).zip(fds).map(|(to, fd)| format!("exec {to}<&{fd}\n"));
    let low = (3..).zip(60..).take(fds.len());
    let low = low.map(|(to, fd)| format!("exec {to}<&{fd} {fd}<&-\n"));
    let script = format!(
        "{}{}export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={names}\nexec \"$0\" \"$@\"",
        high.collect::<String>(),
        low.collect::<String>(),
        fds.len()
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script, PROGRAM]);
    command
}

/// A numbered packet, wrapped as AWS does.
fn packet(number: u64) -> Vec<u8> {
    let mut packet = vec![8, 0, 0, 0, 0, 0, 7, 0];
    packet.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    packet.extend(number.to_be_bytes());
    packet.resize(8 + 60, 0);
    packet
}

/// How often each number is in the capture files.
fn numbers(output: &Path) -> BTreeMap<u64, usize> {
    let mut found = BTreeMap::new();
    for packet in common::all_packets(output) {
        let number = packet.data[14..22].try_into().unwrap();
        *found.entry(u64::from_be_bytes(number)).or_default() += 1;
    }
    found
}

/// Sends numbered packets from a thread of its own, as fast as the budget allows, and no faster than a socket's buffer can bear.
struct Load {
    budget: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn on(to: SocketAddr) -> Self {
        let (budget, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (allowed, told) = (Arc::clone(&budget), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let sockets: Vec<_> = (0..8)
                .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
                .collect();
            for number in 0.. {
                while number >= allowed.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                if allowed.load(Ordering::SeqCst) == u64::MAX {
                    return;
                }
                // several flows, so that every socket of the address has some; refused while nobody listens
                let _ = sockets[number as usize % 8].send_to(&packet(number), to);
                told.store(number + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_micros(20));
            }
        });
        let thread = Some(thread);
        Self {
            budget,
            sent,
            thread,
        }
    }

    /// Lets it send so many more.
    fn allow(&self, more: u64) {
        self.budget.fetch_add(more, Ordering::SeqCst);
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Until all that was allowed is sent.
    fn drain(&self) {
        wait_until("the end of the load", || {
            self.sent() == self.budget.load(Ordering::SeqCst)
        });
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.budget.store(u64::MAX, Ordering::SeqCst);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn received(sensor: &Sensor) -> u64 {
    sensor.status()["ledger"]["received"].as_u64().unwrap()
}

/// Four runs of a sensor, one after the other, under load all the time: packets sent, and the ledgers.
fn restarts(load: &Load, start: impl Fn() -> Sensor) -> (u64, Vec<Ledger>) {
    let mut ledgers = Vec::new();
    for _ in 0..3 {
        // what comes before the sensor is there waits too, and has to find room
        let sensor = start();
        load.allow(1_000);
        wait_until("some packets", || received(&sensor) > 100);
        // the stop comes while packets come
        load.allow(3_000);
        ledgers.push(sensor.stop());
        let before = load.sent();
        load.allow(500);
        wait_until("packets while nobody reads", || load.sent() >= before + 200);
    }
    let sensor = start();
    load.allow(1_000);
    load.drain();
    wait_until("the end of what waits", || waiting(sensor.udp) == 0);
    ledgers.push(sensor.stop());
    (load.sent(), ledgers)
}

fn sum(ledgers: &[Ledger]) -> (u64, u64, u64) {
    let all = |key| ledgers.iter().map(|l| l.number(key)).sum();
    let kernel = ledgers.iter().map(|l| l.sum("kernel_dropped")).sum();
    (all("received"), all("written"), kernel)
}

#[test]
fn packets_that_come_during_a_restart_wait_in_the_passed_sockets_and_none_is_lost() {
    // a buffer that holds what comes meanwhile is beyond what others may ask for
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let first = bound("127.0.0.1:0".parse().unwrap(), true);
    let to = address(&first);
    let sockets = [first, bound(to, true)];
    let fds: Vec<i32> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let load = Load::on(to);
    let (sent, ledgers) = restarts(&load, || {
        Sensor::start_on(passing(&fds, "one:two"), folder.path(), "", &[], to.port())
    });
    let (received, written, kernel) = sum(&ledgers);
    println!(
        "with passed sockets: {sent} sent, {received} received over 4 runs, {} lost",
        sent - received
    );
    assert_eq!((received, written, kernel), (sent, sent, 0));
    let found = numbers(&folder.path().join("out"));
    assert_eq!(found.len() as u64, sent, "every number");
    assert!(found.values().all(|times| *times == 1), "once");
}

#[test]
fn without_passed_sockets_what_comes_during_a_restart_is_lost_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_udp_port();
    let load = Load::on(SocketAddr::from(([127, 0, 0, 1], port)));
    let (sent, ledgers) = restarts(&load, || {
        Sensor::start_on(Command::new(PROGRAM), folder.path(), "", &[], port)
    });
    let (received, written, _) = sum(&ledgers);
    println!(
        "without: {sent} sent, {received} received over 4 runs, {} lost",
        sent - received
    );
    // 200 and more came in each of the three gaps
    assert!(received + 600 <= sent, "{received} of {sent}");
    assert_eq!(received, written);
    let found = numbers(&folder.path().join("out"));
    assert_eq!(found.len() as u64, written);
}

/// What the stand-in for systemd's store of descriptors says; `port` is where the sensor listens.
fn keeper(folder: &Path, port: u16, more: &[&str]) -> serde_json::Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/activation/keeper.py");
    let out = tool("python3")
        .arg(script)
        .arg(PROGRAM)
        .arg(folder)
        .args([port.to_string(), free_tcp_port().to_string()])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(told["sent"], told["received"], "{told}\n{said}");
    let found = numbers(&folder.join("out"));
    assert_eq!(Some(found.len() as u64), told["sent"].as_u64());
    told
}

#[test]
fn sockets_that_the_sensor_has_bound_itself_are_kept_for_it_and_given_back() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_udp_port();
    let told = keeper(folder.path(), port, &[]);
    println!("{told}");
    let kept = format!("mirrortap-udp-127.0.0.1-{port}");
    assert_eq!(told["kept"], serde_json::json!([kept]));
}

#[test]
fn a_kept_socket_of_an_address_that_is_not_listened_on_any_more_is_given_up_before_the_new_one_is_bound()
 {
    let folder = tempfile::tempdir().unwrap();
    let port = free_udp_port();
    let told = keeper(folder.path(), port, &["moved"]);
    let kept = format!("mirrortap-udp-0.0.0.0-{port}");
    assert_eq!(told["kept"], serde_json::json!([kept]), "and that alone");
}

/// Runs the sensor to its end, which comes at once where it refuses to start.
fn run(mut command: Command, folder: &Path, listen: &str) -> Output {
    let child = command
        .args(["run", "--listen", listen, "--control", "off", "--output"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_passed_descriptor_that_is_no_good_is_named_and_nothing_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let listener = Socket::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listener.set_cloexec(false).unwrap();
    let elsewhere = bound("127.0.0.1:0".parse().unwrap(), false);
    let alone = bound("127.0.0.1:0".parse().unwrap(), false);
    let copy = alone.try_clone().unwrap();
    copy.set_cloexec(false).unwrap();
    let there = address(&alone).to_string();
    for (fds, listen, said) in [
        (
            vec![listener.as_raw_fd()],
            "127.0.0.1:4789",
            "which is a stream socket",
        ),
        (
            vec![elsewhere.as_raw_fd()],
            "127.0.0.1:0",
            "source.listen has no such address",
        ),
        (
            vec![alone.as_raw_fd(), copy.as_raw_fd()],
            there.as_str(),
            "ReusePort=yes",
        ),
    ] {
        let out = run(passing(&fds, "strange:other"), folder.path(), listen);
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(69), "{told}");
        assert!(told.contains(said), "{told}");
    }
    let script = "export LISTEN_PID=$$ LISTEN_FDS=900; exec \"$0\" \"$@\"";
    let mut closed = Command::new("bash");
    closed.args(["-c", script, PROGRAM]);
    let out = run(closed, folder.path(), "127.0.0.1:0");
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(told.contains("LISTEN_FDS=900"), "{told}");
}

#[test]
fn descriptors_for_another_process_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let sensor = Sensor::start_with(command, folder.path(), "", &[]);
    let ledger = sensor.stop();
    assert_eq!(ledger.number("received"), 0);
}

#[test]
fn systemds_own_activation_tool_starts_the_sensor_and_its_first_datagram_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_udp_port();
    let mut command = tool("systemd-socket-activate");
    let listen = format!("127.0.0.1:{port}");
    command.args([
        "--datagram",
        "--listen",
        &listen,
        "--fdname=mirror",
        PROGRAM,
    ]);
    // the tool waits for the first datagram before it starts the sensor, and the helper waits for the sensor
    let load = Load::on(listen.parse().unwrap());
    load.allow(1);
    let sent = Arc::clone(&load.sent);
    let knock = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        while sent.load(Ordering::SeqCst) <= 1 {
            // refused until the tool has bound its socket
            let _ = socket.send_to(&packet(1_000_000), ("127.0.0.1", port));
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let sensor = Sensor::start_on(command, folder.path(), "", &[], port);
    load.allow(10);
    load.drain();
    knock.join().unwrap();
    wait_until("the packets", || waiting(port) == 0);
    sensor.stop();
    let found = numbers(&folder.path().join("out"));
    assert!(found.contains_key(&1_000_000), "{found:?}");
    assert!((1..11).all(|n| found.contains_key(&n)), "{found:?}");
}
