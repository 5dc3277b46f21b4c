//! The classic BPF program in front of a packet ring.
//!
//! Takes: tunnel ports and the addresses listened on. Gives: a program that lets through what may belong to us: Ethernet frames
//! for this host with UDP to one of the ports, and fragments of UDP packets, whose port only their first one tells. Holds:
//! nothing of ours is kept back. The little more that it lets through (fragments of others, IPv6 extension headers, frames with
//! two tags in them) is sorted out behind it, uncounted: it was never mirrored to us.
//!
//! A tag that the network card took off is no longer in the frame, so most tagged frames look like untagged ones here.

use std::net::IpAddr;

use crate::sys::sockopt::Instruction;

/// Most addresses that a program tells apart.
pub(super) const MAX_ADDRESSES: usize = 16;
/// Most ports: a conditional jump reaches no further than 255 instructions, and some go past all ports and addresses.
pub(super) const MAX_PORTS: usize = 128;

/// Codes of classic BPF (linux/filter.h): loads of a word, half word and byte at a fixed place, of a half word behind the index,
/// the index from an IPv4 header length, and jumps.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_BEHIND: u16 = 0x48;
const INDEX_BY_HEADER: u16 = 0xB1;
const GO: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// `SKF_AD_OFF + SKF_AD_PKTTYPE`: what kind of receiver a frame is for; 0 is this host (packet(7), PACKET_HOST).
const PACKET_TYPE: u32 = 0xFFFF_F004;
const TO_THIS_HOST: u32 = 0;

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86DD;
const TAGS: [u32; 4] = [0x8100, 0x88A8, 0x9100, 0x9200];
const UDP: u32 = 17;
const FRAGMENT: u32 = 44;
/// IPv6 extension headers that UDP may follow: hop-by-hop, routing, authentication, destination.
const EXTENSIONS: [u32; 4] = [0, 43, 51, 60];
/// "More follow" or an offset.
const IS_FRAGMENT: u32 = 0x3FFF;
/// Bytes to keep of a frame: all.
const WHOLE: u32 = 0x4_0000;

/// A place in a program that is not yet known.
#[derive(Clone, Copy)]
struct Label(usize);

#[derive(Clone, Copy)]
enum To {
    Next,
    Label(Label),
}

/// A program that is being written.
#[derive(Default)]
struct Writer {
    lines: Vec<(u16, u32, To, To)>,
    places: Vec<usize>,
}

impl Writer {
    fn label(&mut self) -> Label {
        self.places.push(0);
        Label(self.places.len() - 1)
    }

    fn place(&mut self, label: Label) {
        let here = self.lines.len();
        if let Some(place) = self.places.get_mut(label.0) {
            *place = here;
        }
    }

    fn line(&mut self, code: u16, k: u32) {
        self.lines.push((code, k, To::Next, To::Next));
    }

    fn branch(&mut self, code: u16, k: u32, yes: To, no: To) {
        self.lines.push((code, k, yes, no));
    }

    /// Goes to `label` when the loaded value is `k`, however far that is.
    fn go_if_equal(&mut self, k: u32, label: Label) {
        let other = self.label();
        self.branch(IF_EQUAL, k, To::Next, To::Label(other));
        self.branch(GO, 0, To::Label(label), To::Next);
        self.place(other);
    }

    /// Accepts and refuses: each section ends with its own, so that conditional jumps stay short.
    fn verdicts(&mut self, accept: Label, refuse: Label) {
        self.place(accept);
        self.line(RETURN, WHOLE);
        self.place(refuse);
        self.line(RETURN, 0);
    }

    fn finish(self) -> Vec<Instruction> {
        let places = self.places;
        let far = |from: usize, to: To| match to {
            To::Next => 0,
            To::Label(Label(i)) => places.get(i).map_or(0, |place| place - from - 1),
        };
        let each = self.lines.into_iter().enumerate();
        let made = each.map(|(i, (code, k, yes, no))| match code {
            GO => Instruction {
                code,
                jump_true: 0,
                jump_false: 0,
                k: far(i, yes) as u32,
            },
            _ => Instruction {
                code,
                jump_true: far(i, yes) as u8,
                jump_false: far(i, no) as u8,
                k,
            },
        });
        made.collect()
    }
}

/// The program; any address will do when there is none.
pub(super) fn program(ports: &[u16], addresses: &[IpAddr]) -> Vec<Instruction> {
    let mut w = Writer::default();
    let labels = [(); 5].map(|()| w.label());
    let [v4, v6, tagged, v4_tagged, v6_tagged] = labels;
    let (accept, refuse) = (w.label(), w.label());
    w.line(LOAD_WORD, PACKET_TYPE);
    w.branch(IF_EQUAL, TO_THIS_HOST, To::Next, To::Label(refuse));
    w.line(LOAD_HALF, 12);
    w.go_if_equal(IPV4, v4);
    w.go_if_equal(IPV6, v6);
    TAGS.iter().for_each(|&tag| w.go_if_equal(tag, tagged));
    w.verdicts_of_refusal(refuse);
    w.place(tagged);
    w.line(LOAD_HALF, 16);
    w.go_if_equal(IPV4, v4_tagged);
    w.go_if_equal(IPV6, v6_tagged);
    TAGS.iter().for_each(|&tag| w.go_if_equal(tag, accept));
    w.line(RETURN, 0);
    w.place(accept);
    w.line(RETURN, WHOLE);
    for (base, label) in [(14, v4), (18, v4_tagged)] {
        w.place(label);
        ipv4(&mut w, base, ports, addresses);
    }
    for (base, label) in [(14, v6), (18, v6_tagged)] {
        w.place(label);
        ipv6(&mut w, base, ports, addresses);
    }
    w.finish()
}

impl Writer {
    fn verdicts_of_refusal(&mut self, refuse: Label) {
        self.place(refuse);
        self.line(RETURN, 0);
    }
}

/// The section for an IPv4 header at `base`.
fn ipv4(w: &mut Writer, base: u32, ports: &[u16], addresses: &[IpAddr]) {
    let (accept, refuse, mine) = (w.label(), w.label(), w.label());
    w.line(LOAD_BYTE, base + 9);
    w.branch(IF_EQUAL, UDP, To::Next, To::Label(refuse));
    if !addresses.is_empty() {
        w.line(LOAD_WORD, base + 16);
        let v4 = addresses.iter().filter_map(|a| match a {
            IpAddr::V4(a) => Some(u32::from(*a)),
            IpAddr::V6(_) => None,
        });
        v4.for_each(|a| w.branch(IF_EQUAL, a, To::Label(mine), To::Next));
        w.line(RETURN, 0);
    }
    w.place(mine);
    w.line(LOAD_HALF, base + 6);
    w.branch(IF_ANY_BIT, IS_FRAGMENT, To::Label(accept), To::Next);
    w.line(INDEX_BY_HEADER, base);
    w.line(LOAD_HALF_BEHIND, base + 2);
    ports_in(w, ports, accept);
    w.line(RETURN, 0);
    w.verdicts(accept, refuse);
}

/// The section for an IPv6 header at `base`.
fn ipv6(w: &mut Writer, base: u32, ports: &[u16], addresses: &[IpAddr]) {
    const HEADER: u32 = 40;
    let (accept, refuse, mine, udp) = (w.label(), w.label(), w.label(), w.label());
    if !addresses.is_empty() {
        for address in addresses {
            if let IpAddr::V6(address) = address {
                is_address(w, base + 24, u128::from(*address), mine);
            }
        }
        w.line(RETURN, 0);
    }
    w.place(mine);
    w.line(LOAD_BYTE, base + 6);
    w.branch(IF_EQUAL, UDP, To::Label(udp), To::Next);
    w.branch(IF_EQUAL, FRAGMENT, To::Label(accept), To::Next);
    for next in EXTENSIONS {
        w.branch(IF_EQUAL, next, To::Label(accept), To::Next);
    }
    w.line(RETURN, 0);
    w.place(udp);
    w.line(LOAD_HALF, base + HEADER + 2);
    ports_in(w, ports, accept);
    w.line(RETURN, 0);
    w.verdicts(accept, refuse);
}

fn ports_in(w: &mut Writer, ports: &[u16], accept: Label) {
    for &port in ports {
        w.branch(IF_EQUAL, u32::from(port), To::Label(accept), To::Next);
    }
}

fn is_address(w: &mut Writer, at: u32, address: u128, yes: Label) {
    let other = w.label();
    for i in 0..4 {
        w.line(LOAD_WORD, at + 4 * i);
        let word = (address >> (96 - 32 * i)) as u32;
        w.branch(IF_EQUAL, word, To::Next, To::Label(other));
    }
    w.branch(GO, 0, To::Label(yes), To::Next);
    w.place(other);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does; the frame is for this host unless `kind` says otherwise.
    fn run(program: &[Instruction], frame: &[u8], kind: u32) -> u32 {
        let (mut a, mut x, mut pc) = (0_u32, 0_u32, 0);
        let load = |at: u32, n: usize| {
            let bytes = frame.get(at as usize..at as usize + n)?;
            Some(bytes.iter().fold(0_u32, |v, b| v << 8 | u32::from(*b)))
        };
        loop {
            let i = program[pc];
            pc += 1;
            let loaded = match i.code {
                LOAD_WORD if i.k == PACKET_TYPE => Some(kind),
                LOAD_WORD => load(i.k, 4),
                LOAD_HALF => load(i.k, 2),
                LOAD_BYTE => load(i.k, 1),
                LOAD_HALF_BEHIND => load(x + i.k, 2),
                INDEX_BY_HEADER => match load(i.k, 1) {
                    Some(b) => {
                        x = (b & 15) * 4;
                        Some(a)
                    }
                    None => None,
                },
                GO => {
                    pc += i.k as usize;
                    Some(a)
                }
                IF_EQUAL | IF_ANY_BIT => {
                    let yes = if i.code == IF_EQUAL {
                        a == i.k
                    } else {
                        a & i.k != 0
                    };
                    pc += usize::from(if yes { i.jump_true } else { i.jump_false });
                    Some(a)
                }
                RETURN => return i.k,
                other => panic!("{other:#x}"),
            };
            // a load beyond the frame ends the program with 0, as in the kernel
            let Some(value) = loaded else { return 0 };
            a = value;
        }
    }

    fn udp4(port: u16, options: usize) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([
            8,
            0,
            0x45 + options as u8,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            64,
            17,
            0,
            0,
            10,
            0,
            0,
            1,
            10,
            0,
            0,
            2,
        ]);
        frame.extend(vec![1; options * 4]);
        frame.extend([0xFF, 0xDC]);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 40]);
        frame
    }

    fn udp6(port: u16) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x86, 0xDD, 0x60, 0, 0, 0, 0, 48, 17, 64]);
        frame.extend([0; 15]);
        frame.push(1);
        frame.extend([0; 15]);
        frame.push(2);
        frame.extend([0xFF, 0xDC]);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 40]);
        frame
    }

    fn tagged(mut frame: Vec<u8>, times: usize) -> Vec<u8> {
        for _ in 0..times {
            frame.splice(12..12, [0x81, 0, 0, 7]);
        }
        frame
    }

    fn takes(addresses: &[&str], frame: &[u8]) -> bool {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        run(&program(&[4789, 6081], &addresses), frame, TO_THIS_HOST) == WHOLE
    }

    #[test]
    fn udp_to_our_ports_passes_whatever_is_before_it_and_nothing_else_does() {
        for tags in 0..2 {
            for (port, is_ours) in [(4789, true), (6081, true), (53, false)] {
                for frame in [udp4(port, 0), udp4(port, 3), udp6(port)] {
                    assert_eq!(takes(&[], &tagged(frame, tags)), is_ours, "{port} {tags}");
                }
            }
        }
        let mut tcp = udp4(4789, 0);
        tcp[23] = 6;
        let mut arp = udp4(4789, 0);
        arp[12..14].copy_from_slice(&[8, 6]);
        assert!(!takes(&[], &tcp) && !takes(&[], &arp));
        assert!(takes(&[], &tagged(tcp, 2)), "two tags are sorted out later");
    }

    #[test]
    fn fragments_pass_whatever_their_port() {
        for placing in [[0x20, 0], [0x20, 10], [0, 10]] {
            let mut frame = udp4(53, 0);
            frame[20..22].copy_from_slice(&placing);
            assert!(takes(&[], &frame));
        }
        let mut frame = udp6(53);
        frame[20] = 44;
        assert!(takes(&[], &frame));
    }

    #[test]
    fn only_the_addresses_listened_on_pass() {
        let (four, six) = (udp4(4789, 0), udp6(4789));
        for (addresses, v4, v6) in [
            (&["10.0.0.2"][..], true, false),
            (&["10.0.0.3"], false, false),
            (&["10.0.0.3", "10.0.0.2"], true, false),
            (&["::2"], false, true),
            (&["::3"], false, false),
            (&["::3", "::2", "10.0.0.2"], true, true),
        ] {
            assert_eq!(
                (takes(addresses, &four), takes(addresses, &six)),
                (v4, v6),
                "{addresses:?}"
            );
        }
        let many: Vec<String> = (0..MAX_ADDRESSES)
            .map(|i| format!("::{}", i + 2))
            .rev()
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(takes(&many, &six) && takes(&many, &tagged(six, 1)));
    }

    #[test]
    fn as_many_ports_as_may_be_are_told_apart() {
        let ports: Vec<u16> = (4789..).take(MAX_PORTS).collect();
        let addresses: Vec<IpAddr> = (0..MAX_ADDRESSES as u8)
            .map(|i| IpAddr::from([10, 0, 0, 2 + i]))
            .chain(["::2".parse().unwrap()])
            .skip(1)
            .chain([IpAddr::from([10, 0, 0, 2])])
            .collect();
        let program = program(&ports, &addresses);
        let takes = |frame: &[u8]| run(&program, frame, TO_THIS_HOST) == WHOLE;
        for port in ports {
            assert!(takes(&udp4(port, 0)) && takes(&udp6(port)), "{port}");
        }
        for port in [4788, 4789 + MAX_PORTS as u16] {
            assert!(!takes(&udp4(port, 0)) && !takes(&udp6(port)), "{port}");
        }
        let mut tcp = udp4(4789, 0);
        tcp[23] = 6;
        assert!(!takes(&tcp));
    }

    #[test]
    fn frames_for_other_hosts_and_cut_ones_do_not_pass() {
        let program = program(&[4789], &[]);
        for kind in 1..5 {
            assert_eq!(run(&program, &udp4(4789, 0), kind), 0);
        }
        for len in 0..38 {
            assert_eq!(
                run(&program, &udp4(4789, 0)[..len], TO_THIS_HOST),
                0,
                "{len}"
            );
        }
    }
}
