//! What tshark says of a frame, reduced to what a walk says: the layers up to the first IP header and
//! what it carries.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// One frame, as facts by name. An absent fact has no entry; one that the oracle can't tell is "?".
pub type Facts = HashMap<&'static str, String>;

/// Protocols of tshark that stand before the first IP header in frames that a walk goes through.
const LOWER: [&str; 14] = [
    "eth",
    "ethertype",
    "vlan",
    "ieee8021ad",
    "mpls",
    "pwethheuristic",
    "pwethcw",
    "pwethnocw",
    "pppoes",
    "ppp",
    "llc",
    "sll",
    "null",
    "raw",
];

/// Protocols of tshark that are IPv6 extension headers. (In IPv4, AH is a transport.)
const EXTENSIONS: [&str; 5] = [
    "ipv6.hopopts",
    "ipv6.routing",
    "ipv6.fraghdr",
    "ipv6.dstopts",
    "ah",
];

/// IP protocol numbers of what tshark names behind IPv6 extension headers.
const NUMBERS: [(&str, &str); 12] = [
    ("tcp", "6"),
    ("udp", "17"),
    ("icmpv6", "58"),
    ("esp", "50"),
    ("ospf", "89"),
    ("pim", "103"),
    ("ip", "4"),
    ("ipv6", "41"),
    ("icmp", "1"),
    ("gre", "47"),
    ("mipv6", "135"),
    ("sctp", "132"),
];

/// A line of an oracle.
pub struct Row {
    fields: HashMap<String, Vec<String>>,
    protocols: Vec<String>,
    /// Size of a "cooked" header.
    pub cooked: usize,
}

/// Reads an oracle file.
pub fn read(path: &Path) -> Vec<Row> {
    let lines = BufReader::new(MultiGzDecoder::new(File::open(path).unwrap())).lines();
    let mut lines = lines.map(Result::unwrap);
    let names: Vec<String> = lines
        .next()
        .unwrap()
        .split('\t')
        .map(String::from)
        .collect();
    // tshark numbers pcapng blocks that are no packets too; of these it knows nothing but "data".
    lines
        .map(|line| Row::of(&names, &line))
        .filter(|row| row.protocols != ["data"])
        .collect()
}

impl Row {
    fn of(names: &[String], line: &str) -> Self {
        let fields: HashMap<String, Vec<String>> = names
            .iter()
            .cloned()
            .zip(line.split('\t'))
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| (name, text.split(',').map(String::from).collect()))
            .collect();
        let protocols = fields
            .get("frame.protocols")
            .map(|p| p.join(",").split(':').map(String::from).collect())
            .unwrap_or_default();
        Self {
            fields,
            protocols,
            cooked: 16,
        }
    }

    /// All values of a field, outermost first.
    pub fn all(&self, name: &str) -> &[String] {
        self.fields.get(name).map_or(&[], Vec::as_slice)
    }

    /// The outermost value of a field.
    pub fn first(&self, name: &str) -> Option<&String> {
        self.all(name).first()
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.first(name)?.parse().ok()
    }

    /// The protocols below the first IP header.
    fn lower(&self) -> &[String] {
        let end = self
            .protocols
            .iter()
            .position(|p| !LOWER.contains(&p.as_str()))
            .unwrap_or(self.protocols.len());
        &self.protocols[..end]
    }

    /// The protocols from the first that a walk does not go through, IP as a rule.
    fn upper(&self) -> &[String] {
        &self.protocols[self.lower().len()..]
    }

    fn count(&self, protocol: &str) -> usize {
        self.lower().iter().filter(|p| *p == protocol).count()
    }

    /// What a walk should find out.
    pub fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        self.link(&mut facts);
        self.eth_type(&mut facts);
        match self.upper().first().map(String::as_str) {
            Some("ip") => self.v4(&mut facts),
            Some("ipv6") => self.v6(&mut facts),
            Some("arp") => put(&mut facts, "arp", self.first("arp.opcode")),
            // IP behind something that a walk stops at.
            other if self.upper().iter().any(|p| p == "ip" || p == "ipv6") => {
                facts.insert("ip_behind", other.unwrap().to_owned());
            }
            _ => {}
        }
        facts
    }

    fn link(&self, facts: &mut Facts) {
        let tags = self.all("vlan.id").iter().take(self.count("vlan"));
        // Service tags come first in every frame of the corpus.
        let service = self.all("ieee8021ad.id").iter();
        let tags: Vec<_> = service
            .take(self.count("ieee8021ad"))
            .chain(tags)
            .cloned()
            .collect();
        if !tags.is_empty() {
            facts.insert("vlans", tags.join(","));
        }
        if self.count("mpls") > 0 {
            facts.insert("labels", self.all("mpls.label").join(","));
        }
    }

    /// The type behind the tags that precede any label.
    fn eth_type(&self, facts: &mut Facts) {
        let outer = self.lower().split(|p| p == "mpls").next().unwrap();
        let tags = |name| outer.iter().filter(|p| *p == name).count();
        let snap = match self.upper().first().map(String::as_str) {
            Some("ip") => Some("0x0800"),
            Some("arp") => Some("0x0806"),
            _ => None,
        };
        let unknown = "?".to_owned();
        let kind = match (tags("llc"), tags("ieee8021ad"), tags("vlan")) {
            (1, ..) => snap.map(String::from),
            // The oracle has no field for the type behind a service tag.
            (_, 1, 0) => Some(unknown),
            // Nor for a type that tshark does not know, with nothing behind it.
            (..) if self.protocols == ["eth"] => Some(unknown),
            (_, 0, 0) => self.first("eth.type").or(self.first("sll.etype")).cloned(),
            (.., tags) => self.all("vlan.etype").get(tags - 1).cloned(),
        };
        put(facts, "eth_type", kind.as_ref());
    }

    /// Bytes before the IP header, from the names of the protocols there.
    fn below_ip(&self) -> usize {
        let labels = self.all("mpls.label").len();
        let size = |protocol: &String| match protocol.as_str() {
            "eth" => 14,
            "vlan" | "ieee8021ad" | "pwethcw" | "null" => 4,
            "mpls" => 4 * labels,
            "pppoes" => 6,
            "ppp" => 2,
            "llc" => 8,
            "sll" => self.cooked,
            _ => 0,
        };
        self.lower().iter().map(size).sum()
    }

    fn wire_len(&self, facts: &mut Facts, ip_len: usize) {
        let present = self.number("frame.cap_len").unwrap();
        facts.insert("network", self.below_ip().to_string());
        facts.insert(
            "wire_len",
            present.max(self.below_ip() + ip_len).to_string(),
        );
    }

    fn v4(&self, facts: &mut Facts) {
        put(facts, "src", self.first("ip.src"));
        put(facts, "dst", self.first("ip.dst"));
        put(facts, "proto", self.first("ip.proto"));
        if facts.contains_key("src") {
            self.wire_len(facts, self.number("ip.len").unwrap_or(0));
            let units = self.number("ip.frag_offset").unwrap();
            facts.insert("frag_offset", (units * 8).to_string());
            put(facts, "more_fragments", self.first("ip.flags.mf"));
            if units == 0 {
                self.transport(facts, self.upper().get(1));
            }
        }
    }

    fn v6(&self, facts: &mut Facts) {
        put(facts, "src", self.first("ipv6.src"));
        put(facts, "dst", self.first("ipv6.dst"));
        put(facts, "proto", self.first("ipv6.nxt"));
        let is_extension = |p: &&String| EXTENSIONS.contains(&p.as_str());
        let extensions = self.upper()[1..].iter().take_while(is_extension).count();
        let carried = self.upper().get(1 + extensions);
        if extensions > 0 {
            let number = |name: &&str| NUMBERS.iter().find(|(n, _)| n == name);
            let number = carried.and_then(|name| number(&name.as_str()));
            // Where tshark does not name it, no field of the oracle tells the number.
            let number = number.map_or("?", |(_, number)| number);
            facts.insert("proto", number.to_owned());
        }
        if let Some(length) = self.number("ipv6.plen") {
            let length = if length == 0 { 0 } else { length + 40 };
            self.wire_len(facts, length);
        }
        // A fragment header further in is that of a quoted packet.
        let outer = self.upper().iter().take(1 + extensions);
        let fragmented = outer.filter(|p| *p == "ipv6.fraghdr").count() > 0;
        if let (true, Some(units)) = (fragmented, self.number("ipv6.fraghdr.offset")) {
            facts.insert("frag_offset", (units * 8).to_string());
            put(facts, "more_fragments", self.first("ipv6.fraghdr.more"));
        }
        self.transport(facts, carried);
    }

    fn transport(&self, facts: &mut Facts, protocol: Option<&String>) {
        match protocol.map(String::as_str) {
            Some(name @ ("tcp" | "udp" | "sctp")) => {
                put(facts, "sport", self.first(&format!("{name}.srcport")));
                put(facts, "dport", self.first(&format!("{name}.dstport")));
                if name == "tcp" {
                    put(facts, "tcp_flags", self.first("tcp.flags"));
                }
            }
            Some("dccp") => {
                // The oracle has no fields for them.
                facts.insert("sport", "?".to_owned());
                facts.insert("dport", "?".to_owned());
            }
            Some(name @ ("icmp" | "icmpv6")) => {
                put(facts, "icmp_type", self.first(&format!("{name}.type")));
                put(facts, "icmp_code", self.first(&format!("{name}.code")));
            }
            _ => {}
        }
    }
}

fn put(facts: &mut Facts, name: &'static str, value: Option<&String>) {
    if let Some(value) = value {
        facts.insert(name, value.clone());
    }
}
