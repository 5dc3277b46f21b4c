//! What several benches need: numbers that are the same in every run, and frames of an Internet mix.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "bench support: each bench uses a part of it, and may panic"
)]

use etherparse::PacketBuilder;

/// A small generator of numbers (splitmix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len() as u64) as usize]
    }
}

/// Sizes of inner frames.
pub const IMIX: [usize; 12] = [64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1500];
pub const SMALL: [usize; 1] = [64];

/// MAC addresses of the mirrored ENI and of the router that it talks to.
pub const ENI: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A frame of one of `sizes`: one in five is IPv6, seven in ten are TCP, half go either way.
pub fn frame(numbers: &mut Numbers, sizes: &[usize]) -> Vec<u8> {
    let size = numbers.one_of(sizes);
    let (a, b) = (numbers.next().to_be_bytes(), numbers.next().to_be_bytes());
    let (from, to) = numbers.one_of(&[(ENI, ROUTER), (ROUTER, ENI)]);
    let link = PacketBuilder::ethernet2(from, to);
    let v6 = numbers.below(5) == 0;
    let ip = if v6 {
        let address = |x: [u8; 8]| [[0xfd, 0, 0, 0, 0, 0, 0, 0], x].concat();
        let address = |x| address(x).try_into().unwrap();
        link.ipv6(address(a), address(b), 64)
    } else {
        link.ipv4([10, a[0], a[1], a[2]], [10, b[0], b[1], b[2]], 64)
    };
    let sport = 1024 + numbers.below(60_000) as u16;
    let any = numbers.below(65_536) as u16;
    let dport = numbers.one_of(&[443, 80, 53, 22, any]);
    let tcp = numbers.below(10) < 7;
    let headers = 14 + if v6 { 40 } else { 20 } + if tcp { 20 } else { 8 };
    let payload = vec![0; usize::max(size, headers) - headers];
    let mut frame = Vec::new();
    if tcp {
        ip.tcp(sport, dport, 1, 1024).write(&mut frame, &payload)
    } else {
        ip.udp(sport, dport).write(&mut frame, &payload)
    }
    .unwrap();
    frame
}
