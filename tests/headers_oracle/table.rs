//! Where the walk and tshark differ, by file and packet, and why. The test fails when a difference is
//! not here, and when one that is here is none any more.

use std::collections::BTreeMap;

/// Packets of a file that differ in certain facts.
struct Row {
    file: &'static str,
    /// The names of the facts, sorted.
    facts: &'static str,
    packets: &'static [usize],
    #[expect(dead_code, reason = "for the reader of this table")]
    why: &'static str,
}

const fn row(
    file: &'static str,
    facts: &'static str,
    packets: &'static [usize],
    why: &'static str,
) -> Row {
    Row {
        file,
        facts,
        packets,
        why,
    }
}

const PORTS: &str = "dport sport";
const BEHIND: &str = "ip_behind";
const ADDRESSES: &str = "dst frag_offset more_fragments network proto src wire_len";

const STOPS: &str =
    "no EtherType that an instance in a VPC sends: the frame is known to its link layer";
const UNKNOWN_LINK: &str =
    "a link type that no walk knows; `inspect` shows its records without layers";
const TYPE_ZERO: &str = "tshark shows a length of 0 as an EtherType; to the walk it is 802.3";
const HALF_HEADER: &str = "one byte of the IPv6 header is missing; tshark shows the part that is there, \
    the walk takes an IP header whole or not at all";

#[rustfmt::skip] // a row is a thought
static TABLE: &[Row] = &[
    row("l2l4/pcapplusplus-ipv4-options", "dst", &[6, 7],
        "a source route: tshark shows its last address as destination, the walk what the header says"),
    row("l2l4/zeek-ipv6-mobility-dst-opts", PORTS, &[1],
        "tshark gives up at an unknown option; the length of the options header leads past it"),
    row("l2l4/suricata-decode-nsh-type1", BEHIND, &[1], STOPS),
    row("l2l4/suricata-decode-vntag-01", BEHIND, &[1, 2, 3, 4, 5], STOPS),
    row("l2l4/tcpdump-macsec-integonly", BEHIND, &[1], STOPS),
    row("l2l4/zeek-radiotap", BEHIND, &[1, 2, 3], UNKNOWN_LINK),
    row("protocols/wireshark-nfs", BEHIND, &[1, 2], UNKNOWN_LINK),
    row("vxlan/tcpdump-bigtcp-ipv6-vxlan-ipv4", PORTS, &[1],
        "payload length 0 (a packet caught before segmentation): tshark sees nothing behind the header"),
    row("hostile/ndpi-fuzz-2006-06-26-2594", "eth_type", &[607, 608], TYPE_ZERO),
    row("hostile/ndpi-fuzz-2020-02-16-11740", "eth_type", &[245], TYPE_ZERO),
    row("hostile/ndpi-ip_fragmented_garbage", "tcp_flags", &[1, 940],
        "first fragments that end within the TCP header: tshark stops before the flags"),
    row("hostile/ndpi-reasm_crash_anon", "tcp_flags", &[95],
        "a TCP header that claims 0 bytes: tshark stops before the flags"),
    row("hostile/pcapplusplus-fuzz-igmplayer",
        "dst eth_type frag_offset more_fragments network proto src wire_len", &[2],
        "tshark takes the file for a Nokia pcap, with four more bytes before each frame"),
    row("hostile/pcapplusplus-fuzz-igmplayer",
        "dst eth_type icmp_code icmp_type network proto src wire_len", &[1],
        "as packet 2"),
    row("hostile/pcapplusplus-ipv4-malformed", ADDRESSES, &[1],
        "a total length below the header's: tshark shows no addresses, the walk does"),
    row("hostile/python-pcapng-test006", "frames 1 of 0", &[],
        "one record of a link type that tshark does not know either: its oracle looks like that of \
        a block that is no packet"),
    row("hostile/suricata-bug-7414-decoder-event-01", PORTS, &[3],
        "an IP option of length 0: tshark gives up, the header's length leads past it"),
    row("hostile/suricata-decode-too-many-layers", "labels", &[1],
        "pseudo-wires in pseudo-wires: the walk takes one label stack, the oracle lists all"),
    row("hostile/suricata-sctp-pkt-too-small", PORTS, &[1],
        "an SCTP header cut behind the ports: tshark shows none of it"),
    row("hostile/suricata-tcp-session-decode-malformed-ipv4", "dport sport tcp_flags", &[8],
        "an IP option of length 0: tshark gives up, the header's length leads past it"),
    row("hostile/tcpdump-arp-oobr", "arp", &[1166],
        "ATM ARP, whose operation tshark keeps in another field"),
    row("hostile/tcpdump-icmp-icmp_print-oobr-1", "icmp_code icmp_type", &[1],
        "cut behind the code: tshark shows no part of it"),
    row("hostile/tcpdump-icmpv6-length-zero", "icmp_code icmp_type", &[1],
        "payload length 0: tshark sees nothing behind the header, the bytes are there"),
    row("hostile/tcpdump-ipv6_39_byte_header", "network proto src wire_len", &[1], HALF_HEADER),
    row("hostile/tcpdump-ipv6_invalid_length", "network proto src wire_len", &[1], HALF_HEADER),
    row("hostile/tcpdump-ipv6_frag6_negative_len", "frag_offset more_fragments", &[1],
        "payload length 0: tshark sees nothing behind the header, the bytes are there"),
    row("hostile/tcpdump-macsec-short-longer", BEHIND, &[1], STOPS),
    row("hostile/zeek-pbb-recursive-frames", BEHIND, &[1], STOPS),
    row("hostile/zeek-trunc-ipv4-internally-truncated-header", "dst", &[1],
        "cut within the options: tshark shows no destination, because a source route could change it"),
];

/// The differences of a file that are explained.
pub fn of(folder: &str, stem: &str) -> BTreeMap<String, Vec<usize>> {
    let file = format!("{folder}/{stem}");
    TABLE
        .iter()
        .filter(|row| row.file == file)
        .map(|row| (row.facts.to_owned(), row.packets.to_vec()))
        .collect()
}

/// Files with a row.
pub fn files() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.file)
}
