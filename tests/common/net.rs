//! Ports, what waits at them, and HTTP.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Ports that the system gives to nobody who asks for any, with Linux's own settings.
const QUIET: std::ops::Range<u16> = 10_000..32_000;

/// A UDP port that is free, and stays so until the sensor has it: only another of these could take it.
pub fn free_udp_port() -> u16 {
    quiet_port(|port| UdpSocket::bind(("0.0.0.0", port)).is_ok())
}

/// The same of TCP.
pub fn free_tcp_port() -> u16 {
    quiet_port(|port| TcpListener::bind(("0.0.0.0", port)).is_ok())
}

/// Each test process begins elsewhere, and never gives a port twice.
fn quiet_port(is_free: impl Fn(u16) -> bool) -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let number = u32::from(QUIET.end - QUIET.start);
    // a prime, so that neighbours are far from each other
    let first = std::process::id().wrapping_mul(7_919);
    let next = || {
        let given = u32::from(GIVEN.fetch_add(1, Ordering::Relaxed));
        QUIET.start + (first.wrapping_add(given) % number) as u16
    };
    let port = (0..number).map(|_| next()).find(|port| is_free(*port));
    port.expect("a free port")
}

/// Bytes that wait in the UDP sockets of a port, as the kernel's tables have them.
pub fn waiting(port: u16) -> u64 {
    let tables = ["/proc/net/udp", "/proc/net/udp6"];
    let text: String = tables
        .iter()
        .map(|t| fs::read_to_string(t).unwrap_or_default())
        .collect();
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let local = words.nth(1)?;
        let (_, local_port) = local.rsplit_once(':')?;
        let (_, queue) = words.nth(2)?.split_once(':')?;
        let is_it = u16::from_str_radix(local_port, 16).ok()? == port;
        u64::from_str_radix(queue, 16).ok().filter(|_| is_it)
    };
    text.lines().filter_map(of_line).sum()
}

pub fn http_get(port: u16, path: &str) -> Option<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    let body = if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        unchunk(body)
    } else {
        body.to_owned()
    };
    Some((code, body))
}

fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        out.push_str(&rest[..size]);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    out
}
