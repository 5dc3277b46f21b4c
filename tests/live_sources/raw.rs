//! Outer frames made by hand and put on the wire as they are, through a packet socket of python's.

use std::io::Write;
use std::process::Stdio;

use crate::net_support::{DEVICE, Net};

/// Sends frames from the sender's device, in this order.
pub fn put(net: &Net, frames: &[Vec<u8>]) {
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
        s.bind(('mt0', 0))\n\
        for line in sys.stdin: s.send(bytes.fromhex(line))";
    let mut command = net.command("a", &["python3", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for frame in frames {
        let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
        writeln!(stdin, "{hex}").unwrap();
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

/// The Ethernet header between the two hosts.
pub fn ethernet(net: &Net, ether_type: u16) -> Vec<u8> {
    let mac = |host, device: &str| {
        let out = net.run(host, &["cat", &format!("/sys/class/net/{device}/address")]);
        let text = String::from_utf8(out.stdout).unwrap();
        let digits = text.trim().split(':');
        let bytes = digits.map(|d| u8::from_str_radix(d, 16).unwrap());
        bytes.collect::<Vec<u8>>()
    };
    [
        mac("b", DEVICE),
        mac("a", "mt0"),
        ether_type.to_be_bytes().to_vec(),
    ]
    .concat()
}

/// UDP and VXLAN headers, and a frame with a number and bytes that follow from it.
pub fn vxlan(vni: u32, number: u32, len: usize) -> Vec<u8> {
    let noise = (0..len as u32).map(|i| number.wrapping_mul(31).wrapping_add(i * 7) as u8);
    let mut frame = [&[2; 12][..], &[0x88, 0xb5], &number.to_be_bytes()].concat();
    frame.extend(noise);
    let length = (16 + frame.len()) as u16;
    let mut udp = [40_000_u16, 4789, length, 0].map(u16::to_be_bytes).concat();
    udp.extend([8, 0, 0, 0]);
    udp.extend((vni << 8).to_be_bytes());
    udp.extend(frame);
    udp
}

/// An IPv4 packet of what is carried from `offset` on, between the two hosts.
pub fn ipv4(id: u16, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
    let words = [
        0x4500,
        (20 + payload.len()) as u16,
        id,
        field,
        64 << 8 | 17,
        0,
    ];
    let mut header = words.map(u16::to_be_bytes).concat();
    header.extend([10, 77, 0, 1, 10, 77, 0, 2]);
    let pairs = header.as_chunks::<2>().0.iter();
    let mut sum: u32 = pairs.map(|p| u32::from(u16::from_be_bytes(*p))).sum();
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    [&header[..], payload].concat()
}

/// The same for IPv6, always with a fragment header.
pub fn ipv6(id: u32, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let address = |last| [&[0xfd, 0x77][..], &[0; 13], &[last]].concat();
    let field = (offset / 8 * 8) as u16 | u16::from(more);
    let parts = [
        &[0x60, 0, 0, 0][..],
        &((8 + payload.len()) as u16).to_be_bytes(),
        &[44, 64],
        &address(1),
        &address(2),
        &[17, 0],
        &field.to_be_bytes(),
        &id.to_be_bytes(),
        payload,
    ];
    parts.concat()
}
