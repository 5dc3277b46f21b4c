//! Which packets are mirrored datagrams for us, as instructions for the kernel.
//!
//! Takes: the addresses and ports that are listened on. Gives: the test for a frame, to be put into a program at whatever
//! hook. Holds: what matches is exactly IPv4 without options or IPv6 without extension headers, unfragmented, UDP, to one of those
//! addresses and its port, directly in Ethernet or behind one VLAN tag. Everything else does not match, also what is cut
//! short: the test never guesses, since what matches never reaches the network stack.
//!
//! Options are not walked over, as nobody mirrors with them: an offset that is computed asks for CAP_PERFMON as well.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::sys::bpf::{Assembler, Condition, Label, Reg, Size};

/// A frame's start; kept by the test.
pub(super) const DATA: Reg = Reg::R2;
/// A frame's end (of what lies in one piece); kept by the test.
pub(super) const END: Reg = Reg::R3;
/// The largest number of bytes that the test looks at: Ethernet, a tag, IPv6, UDP.
pub(super) const HEADERS: u32 = 14 + 4 + 40 + 8;

const UDP: u32 = 17;
const ETHERNET: i16 = 14;
const TAG: i32 = 4;

/// The addresses and ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Matcher {
    /// Address (any, when `None`) and port.
    v4: Vec<(Option<[u8; 4]>, u16)>,
    v6: Vec<(Option<[u8; 16]>, u16)>,
}

impl Matcher {
    /// `[::]` takes IPv4 too, as a socket bound to it would.
    pub(super) fn new(listen: &[SocketAddr]) -> Self {
        let mut matcher = Self::default();
        for address in listen {
            let port = address.port();
            match address.ip().to_canonical() {
                IpAddr::V4(ip) => {
                    let any = ip.is_unspecified();
                    matcher.v4.push(((!any).then(|| ip.octets()), port));
                }
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
                    matcher.v4.push((None, port));
                    matcher.v6.push((None, port));
                }
                IpAddr::V6(ip) => matcher.v6.push((Some(ip.octets()), port)),
            }
        }
        matcher
    }

    /// The test of the frame from [`DATA`] to [`END`]: goes on behind the last instruction when it matches, to `other` when
    /// not. Uses R0, R1, R4 and R5.
    pub(super) fn assemble(&self, a: &mut Assembler, other: Label) {
        let (v4, v6, hit) = (a.label(), a.label(), a.label());
        let (start, kind) = (Reg::R4, Reg::R5);
        a.copy(start, DATA);
        need(a, start, ETHERNET, other);
        a.load(Size::Half, kind, start, ETHERNET - 2);
        let untagged = a.label();
        let tagged = a.label();
        a.jump_if(kind, Condition::Equal, wire16(0x8100), tagged);
        a.jump_if(kind, Condition::NotEqual, wire16(0x88a8), untagged);
        a.place(tagged);
        need(a, start, ETHERNET + TAG as i16, other);
        a.load(Size::Half, kind, start, ETHERNET - 2 + TAG as i16);
        a.add(start, TAG);
        a.place(untagged);
        a.jump_if(kind, Condition::Equal, wire16(0x0800), v4);
        a.jump_if(kind, Condition::Equal, wire16(0x86dd), v6);
        a.jump(other);
        a.place(v4);
        self.ipv4(a, hit, other);
        a.place(v6);
        self.ipv6(a, hit, other);
        a.place(hit);
    }

    /// R4 stands at the Ethernet header, less four when there is a tag.
    fn ipv4(&self, a: &mut Assembler, hit: Label, other: Label) {
        let (start, value, word) = (Reg::R4, Reg::R5, Reg::R1);
        need(a, start, ETHERNET + 20 + 8, other);
        a.load(Size::Byte, value, start, ETHERNET + 9);
        a.jump_if(value, Condition::NotEqual, UDP, other);
        // don't-fragment may be set; offset and more-fragments may not
        a.load(Size::Half, value, start, ETHERNET + 6);
        a.and(value, wire16(0x3fff).cast_signed());
        a.jump_if(value, Condition::NotEqual, 0, other);
        a.load(Size::Word, word, start, ETHERNET + 16);
        a.load(Size::Byte, value, start, ETHERNET);
        // version 4, and five words of header
        a.jump_if(value, Condition::NotEqual, 0x45, other);
        a.load(Size::Half, value, start, ETHERNET + 20 + 2);
        for (address, port) in &self.v4 {
            let next = a.label();
            if let Some(address) = address {
                let address = u32::from_ne_bytes(*address);
                a.jump_if(word, Condition::NotEqual, address, next);
            }
            a.jump_if(value, Condition::Equal, wire16(*port), hit);
            a.place(next);
        }
        a.jump(other);
    }

    fn ipv6(&self, a: &mut Assembler, hit: Label, other: Label) {
        let (start, value, word) = (Reg::R4, Reg::R5, Reg::R1);
        need(a, start, ETHERNET + 40 + 8, other);
        a.load(Size::Byte, value, start, ETHERNET);
        a.and(value, 0xf0);
        a.jump_if(value, Condition::NotEqual, 0x60, other);
        a.load(Size::Byte, value, start, ETHERNET + 6);
        a.jump_if(value, Condition::NotEqual, UDP, other);
        a.load(Size::Half, value, start, ETHERNET + 40 + 2);
        for (address, port) in &self.v6 {
            let next = a.label();
            for (number, part) in address
                .iter()
                .flat_map(|a| a.as_chunks::<4>().0)
                .enumerate()
            {
                a.load(Size::Word, word, start, ETHERNET + 24 + 4 * number as i16);
                a.jump_if(word, Condition::NotEqual, u32::from_ne_bytes(*part), next);
            }
            a.jump_if(value, Condition::Equal, wire16(*port), hit);
            a.place(next);
        }
        a.jump(other);
    }
}

/// Leaves unless `bytes` bytes from `start` on lie before the end.
fn need(a: &mut Assembler, start: Reg, bytes: i16, other: Label) {
    a.copy(Reg::R0, start);
    a.add(Reg::R0, i32::from(bytes));
    a.jump_if_registers(Reg::R0, Condition::Above, END, other);
}

/// A number of 16 bits as a load finds it in the packet.
fn wire16(value: u16) -> u32 {
    u32::from(value.to_be())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;
    use crate::capfile::LinkType;
    use crate::source::outer::{self, Outer};
    use crate::sys::bpf::{Attach, Kind, Load, Program};

    const PASS: u32 = 2;
    const MATCHED: u32 = 1;

    /// The test as a program that says whether it matched; `None` without the privilege to load it.
    fn program(listen: &[SocketAddr]) -> Option<Program> {
        let mut a = Assembler::new();
        let other = a.label();
        a.load(Size::Word, DATA, Reg::R1, 0);
        a.load(Size::Word, END, Reg::R1, 4);
        Matcher::new(listen).assemble(&mut a, other);
        a.set(Reg::R0, MATCHED as i32);
        a.exit();
        a.place(other);
        a.set(Reg::R0, PASS as i32);
        a.exit();
        let how = Load {
            kind: Kind::Xdp,
            attach: Attach::Xdp,
            flags: 0,
            interface: 0,
            name: "matcher",
        };
        let loaded = Program::load(&a.finish().unwrap(), how);
        if let Err(error) = &loaded
            && error.number() == Some(libc::EPERM)
        {
            assert!(std::env::var_os("CI").is_none(), "CI must run this as root");
            println!("needs CAP_BPF: nothing was checked");
            return None;
        }
        Some(loaded.unwrap())
    }

    fn addresses(listen: &[&str]) -> Vec<SocketAddr> {
        listen.iter().map(|l| l.parse().unwrap()).collect()
    }

    /// What the frame is by the walk of the other sources, and by the bytes where that knows more ways: options.
    fn expected(frame: &[u8], listen: &[SocketAddr]) -> bool {
        let tag = matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]);
        let at = if tag { 18 } else { 14 };
        let ip = &frame[at.min(frame.len())..];
        let kind = &frame[at - 2..at.min(frame.len())];
        let to: IpAddr = match (kind, ip.first().map(|b| b >> 4)) {
            ([0x08, 0x00], Some(4)) if ip.len() >= 20 && ip[0] == 0x45 => {
                IpAddr::from(<[u8; 4]>::try_from(&ip[16..20]).unwrap())
            }
            ([0x86, 0xdd], Some(6)) if ip.len() >= 40 && ip[6] == 17 => {
                IpAddr::from(<[u8; 16]>::try_from(&ip[24..40]).unwrap())
            }
            _ => return false,
        };
        let found = outer::find(LinkType::ETHERNET, frame, frame.len() as u32);
        let Ok(Outer::Datagram(udp)) = found else {
            return false;
        };
        listen.iter().any(|l| {
            let same = match l.ip() {
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
                IpAddr::V4(any) if any.is_unspecified() => to.is_ipv4(),
                ip => ip == to,
            };
            same && l.port() == udp.port
        })
    }

    /// A frame whose every layer is well-formed, or nearly so; lengths agree, since the kernel's stack looks at those.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let tag = often(None, &[Some(0x8100), Some(0x88a8), Some(0x9100)]);
        let proto = often(17, &[6, 44, 60]);
        let port = often(4789, &[6081, 4790, 1]);
        let placing = often(0, &[0x4000, 0x2000, 1, 0x1fff]);
        let host = often(2, &[9, 255, 0]);
        let words = often(5, &[6, 15, 4, 0]);
        let version = often(4, &[5]);
        let bits = (tag, proto, port, placing, host, words, version);
        (bits, any::<bool>(), 0_usize..64).prop_map(
            |((tag, proto, port, placing, host, words, version), four, rest)| {
                let version = if four { version } else { version + 2 };
                build(
                    (tag, proto, port, placing, host, words, version),
                    four,
                    rest,
                )
            },
        )
    }

    /// One value mostly, the others now and then.
    fn often<T: Copy + std::fmt::Debug + 'static>(
        one: T,
        others: &[T],
    ) -> impl Strategy<Value = T> + use<T> {
        let others = others.to_vec();
        prop_oneof![6 => Just(one), 1 => proptest::sample::select(others)]
    }

    type Bits = (Option<u16>, u8, u16, u16, u8, u8, u8);

    fn build(
        (tag, proto, port, placing, host, words, version): Bits,
        four: bool,
        rest: usize,
    ) -> Vec<u8> {
        let mut frame = vec![2; 12];
        if let Some(tag) = tag {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 7]);
        }
        let payload = rest + 8;
        if four {
            let header = usize::from(words) * 4;
            frame.extend([0x08, 0x00, version << 4 | words, 0]);
            frame.extend(((header + payload) as u16).to_be_bytes());
            frame.extend([0, 1]);
            frame.extend(placing.to_be_bytes());
            frame.extend([64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, host]);
            frame.extend(vec![1; header.saturating_sub(20)]);
        } else {
            frame.extend([
                0x86,
                0xdd,
                version << 4,
                0,
                0,
                0,
                0,
                payload as u8,
                proto,
                64,
            ]);
            frame.extend([0; 16]);
            frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        }
        frame.extend([0xff, 0xdc]);
        frame.extend(port.to_be_bytes());
        frame.extend((payload as u16).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(vec![9; rest]);
        frame
    }

    fn agree(listen: &[&str]) {
        let listen = addresses(listen);
        let Some(program) = program(&listen) else {
            return;
        };
        let mut runner = TestRunner::new(Config::with_cases(1500));
        let counts = [Cell::new(0), Cell::new(0)];
        let ran = runner.run(&frame(), |frame| {
            let verdict = program.verdict(&frame).unwrap();
            let expected = expected(&frame, &listen);
            prop_assert_eq!(verdict == MATCHED, expected, "{:02x?}", frame);
            let count = &counts[usize::from(expected)];
            count.set(count.get() + 1);
            Ok(())
        });
        ran.unwrap();
        // both kinds were there, so that the test can fail
        assert!(counts.iter().all(|c| c.get() > 20), "{counts:?}");
    }

    #[test]
    fn the_kernel_matches_what_the_other_sources_read_to_any_address() {
        agree(&["[::]:4789", "[::]:6081"]);
    }

    #[test]
    fn the_kernel_matches_what_the_other_sources_read_to_some_addresses() {
        agree(&[
            "10.0.0.2:4789",
            "[fd00::2]:4789",
            "10.0.0.9:6081",
            "0.0.0.0:1",
        ]);
    }

    #[test]
    fn a_frame_cut_anywhere_in_its_headers_does_not_match() {
        let Some(program) = program(&addresses(&["[::]:4789"])) else {
            return;
        };
        for (four, end) in [(true, 14 + 20 + 8), (false, 14 + 40 + 8)] {
            let whole = build((None, 17, 4789, 0, 2, 5, if four { 4 } else { 6 }), four, 0);
            assert_eq!(whole.len(), end);
            assert_eq!(program.verdict(&whole).unwrap(), MATCHED);
            for len in 14..end {
                assert_eq!(program.verdict(&whole[..len]).unwrap(), PASS, "{len}");
            }
        }
    }

    #[test]
    fn an_address_takes_only_its_own_port_and_family() {
        let Some(program) = program(&addresses(&["0.0.0.0:4789", "[fd00::2]:6081"])) else {
            return;
        };
        let says = |port, host, four| {
            let frame = build(
                (None, 17, port, 0, host, 5, if four { 4 } else { 6 }),
                four,
                8,
            );
            program.verdict(&frame).unwrap() == MATCHED
        };
        assert!(says(4789, 77, true) && says(6081, 2, false));
        assert!(!says(6081, 2, true) && !says(4789, 2, false) && !says(6081, 3, false));
    }
}
