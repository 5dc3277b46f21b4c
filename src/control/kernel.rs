//! UDP errors as the kernel counts them for the whole network namespace.
//!
//! Takes: `/proc/net/snmp` and `/proc/net/snmp6`, read when somebody asks. Gives: [`UdpErrors`]. Holds: these
//! numbers stand beside the ledger and never in it: they count every UDP socket of the namespace, and a
//! datagram for a full socket of ours is in `kernel_dropped` already. A file or line that is not there
//! counts as zero.

use serde::Serialize;

/// UDP errors of one address family, all sockets of the namespace together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Family {
    /// `InErrors`: datagrams that could not be delivered, for any reason.
    pub in_errors: u64,
    /// `RcvbufErrors`: the socket's receive buffer was full.
    pub rcvbuf_errors: u64,
    /// `InCsumErrors`: bad UDP checksum.
    pub in_csum_errors: u64,
}

/// UDP errors of the network namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct UdpErrors {
    /// Over IPv4. A dual-stack socket counts its IPv4 datagrams here.
    pub ipv4: Family,
    /// Over IPv6.
    pub ipv6: Family,
}

impl UdpErrors {
    /// What the kernel says now.
    pub fn read() -> Self {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            ipv4: parse_snmp(&text("/proc/net/snmp")),
            ipv6: parse_snmp6(&text("/proc/net/snmp6")),
        }
    }
}

/// `/proc/net/snmp`: a line of names and a line of numbers for each protocol, both opening with `Udp:`.
fn parse_snmp(text: &str) -> Family {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return Family::default();
    };
    let find = |name: &str| {
        let place = names.split_whitespace().position(|n| n == name)?;
        values.split_whitespace().nth(place)?.parse().ok()
    };
    Family::from_lookup(find, "")
}

/// `/proc/net/snmp6`: a name and a number per line.
fn parse_snmp6(text: &str) -> Family {
    let find = |name: &str| {
        let mut lines = text.lines().map(str::split_whitespace);
        let mut words = lines.find_map(|mut w| (w.next() == Some(name)).then_some(w))?;
        words.next()?.parse().ok()
    };
    Family::from_lookup(find, "Udp6")
}

impl Family {
    fn from_lookup(find: impl Fn(&str) -> Option<u64>, prefix: &str) -> Self {
        let number = |name: &str| find(&format!("{prefix}{name}")).unwrap_or(0);
        Self {
            in_errors: number("InErrors"),
            rcvbuf_errors: number("RcvbufErrors"),
            in_csum_errors: number("InCsumErrors"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "Tcp: RtoAlgorithm RtoMin\nTcp: 1 200\n\
        Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors\n\
        Udp: 15 1 7 16 5 0 2\nUdpLite: InDatagrams InErrors\nUdpLite: 0 99\n";
    const SNMP6: &str = "Ip6InReceives                   \t4\nUdp6InErrors                    \t3\n\
        Udp6RcvbufErrors                \t2\nUdp6InCsumErrors                \t1\nUdpLite6InErrors \t99\n";

    #[test]
    fn numbers_are_found_by_name_and_udplite_is_not_udp() {
        let (v4, v6) = (parse_snmp(SNMP), parse_snmp6(SNMP6));
        assert_eq!(
            (v4.in_errors, v4.rcvbuf_errors, v4.in_csum_errors),
            (7, 5, 2)
        );
        assert_eq!(
            (v6.in_errors, v6.rcvbuf_errors, v6.in_csum_errors),
            (3, 2, 1)
        );
    }

    #[test]
    fn a_missing_or_strange_file_counts_as_zero() {
        for text in [
            "",
            "Udp: InErrors\n",
            "Udp: InErrors\nUdp: many\n",
            "Udp6InErrors\n",
        ] {
            assert_eq!(parse_snmp(text), Family::default());
            assert_eq!(parse_snmp6(text), Family::default());
        }
    }

    #[test]
    fn this_kernel_has_the_names_that_are_looked_for() {
        let (snmp, snmp6) = ("/proc/net/snmp", "/proc/net/snmp6");
        let text = std::fs::read_to_string(snmp).unwrap();
        for name in ["InErrors", "RcvbufErrors", "InCsumErrors"] {
            assert!(text.contains(name), "{snmp} has no {name}");
        }
        if let Ok(text) = std::fs::read_to_string(snmp6) {
            assert!(text.contains("Udp6RcvbufErrors"), "{snmp6}: {text}");
        }
    }
}
