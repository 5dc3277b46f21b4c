//! One mirror-filter rule: what is shown of it, and what it matches.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::filter::error::Problem;
use crate::filter::protocol::{self, TCP, UDP};
use crate::filter::{Direction, Number, RuleConfig};

/// What a rule does with a packet that it matches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Keep it.
    Accept,
    /// Leave it out.
    Reject,
}

impl Action {
    /// The name used in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
        }
    }
}

/// A rule as it is shown to people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Rule {
    /// Its number, unique per direction.
    pub number: u32,
    /// Which packets it is asked about.
    pub direction: Direction,
    /// What it does.
    pub action: Action,
    /// What it matches, in words, and its note in parentheses:
    /// `tcp from 0.0.0.0/0 to 10.0.0.0/8 port 443 (web)`.
    pub description: String,
}

/// An inclusive range of ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ports {
    pub(super) from: u16,
    pub(super) to: u16,
}

/// What a rule matches. `None` is "any" everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Matcher {
    pub(super) protocol: Option<u8>,
    pub(super) source: Option<IpNet>,
    pub(super) destination: Option<IpNet>,
    pub(super) source_ports: Option<Ports>,
    pub(super) destination_ports: Option<Ports>,
}

impl Matcher {
    /// Reads what a rule says, adding to `problems` everything that is wrong with it.
    pub(super) fn new(config: &RuleConfig, problems: &mut Vec<Problem>) -> Self {
        let mut keep = Keep(problems);
        let protocol = config.protocol.as_ref();
        let matcher = Self {
            protocol: protocol.and_then(|p| keep.good(read_protocol(p.as_str())).flatten()),
            source: keep.network("source", config.source.as_deref()),
            destination: keep.network("destination", config.destination.as_deref()),
            source_ports: keep.ports("source_ports", config.source_ports.as_ref()),
            destination_ports: keep.ports("destination_ports", config.destination_ports.as_ref()),
        };
        problems.extend(matcher.contradictions());
        matcher
    }

    /// What can't be true at once.
    fn contradictions(&self) -> impl Iterator<Item = Problem> {
        let families = match (self.source, self.destination) {
            (Some(source), Some(destination)) if family(source) != family(destination) => {
                Some(Problem::Families {
                    source_block: source,
                    destination,
                })
            }
            _ => None,
        };
        let portless = self.protocol.filter(|p| ![TCP, UDP].contains(p));
        let ports = portless.filter(|_| self.has_ports());
        let ports = ports.map(|p| Problem::PortsOfProtocol(protocol::name(p).into_owned()));
        families.into_iter().chain(ports)
    }

    /// Whether it asks for ports, which only TCP and UDP have.
    pub(super) fn has_ports(&self) -> bool {
        self.source_ports.is_some() || self.destination_ports.is_some()
    }

    /// Whether it matches TCP and UDP whatever their ports, so that packets without them (later fragments) match too.
    pub(super) fn takes_every_port(&self) -> bool {
        let every = |ports: Option<Ports>| ports.is_none_or(|p| (p.from, p.to) == (0, u16::MAX));
        every(self.source_ports) && every(self.destination_ports)
    }

    /// Whether a packet of this IP version can match as far as addresses go.
    pub(super) fn is_of(&self, version: u8) -> bool {
        let network = self.source.or(self.destination);
        network.is_none_or(|n| family(n) == version)
    }

    /// Whether it matches every frame, also one that holds no IP.
    pub(super) fn matches_all(&self) -> bool {
        *self == Self::default()
    }
}

/// `tcp from 0.0.0.0/0 to 10.0.0.0/8 port 443`.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Some(number) => f.write_str(&protocol::name(number))?,
            None if self.has_ports() => f.write_str("tcp or udp")?,
            None => f.write_str("all")?,
        }
        let ends = [
            ("from", self.source, self.source_ports),
            ("to", self.destination, self.destination_ports),
        ];
        for (word, network, ports) in ends {
            match network {
                Some(network) => write!(f, " {word} {network}")?,
                None => write!(f, " {word} any")?,
            }
            match ports {
                Some(Ports { from, to }) if from == to => write!(f, " port {from}")?,
                Some(Ports { from, to }) => write!(f, " ports {from}-{to}")?,
                None => {}
            }
        }
        Ok(())
    }
}

/// Keeps what is good and collects what is not.
struct Keep<'a>(&'a mut Vec<Problem>);

impl Keep<'_> {
    fn good<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.0.push(problem)).ok()
    }

    fn network(&mut self, field: &'static str, text: Option<&str>) -> Option<IpNet> {
        text.and_then(|text| self.good(read_network(field, text)))
    }

    fn ports(&mut self, field: &'static str, text: Option<&Number>) -> Option<Ports> {
        text.and_then(|text| self.good(read_ports(field, text.as_str())))
    }
}

fn read_protocol(text: &str) -> Result<Option<u8>, Problem> {
    protocol::parse(text).ok_or_else(|| Problem::Protocol(text.to_owned()))
}

/// A CIDR block, or an address alone. Bits behind the prefix are cleared: `10.1.2.3/8` is `10.0.0.0/8`.
fn read_network(field: &'static str, text: &str) -> Result<IpNet, Problem> {
    let text = text.trim();
    let alone = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    let network = text.parse().or_else(|_| alone());
    let network = network.map_err(|_| Problem::Cidr {
        field,
        text: text.to_owned(),
    })?;
    Ok(network.trunc())
}

/// `443` or `1024-65535`.
fn read_ports(field: &'static str, text: &str) -> Result<Ports, Problem> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (Ok(from), Ok(to)) = (from.trim().parse(), to.trim().parse()) else {
        let text = text.to_owned();
        return Err(Problem::Ports { field, text });
    };
    if from > to {
        return Err(Problem::Reversed { field, from, to });
    }
    Ok(Ports { from, to })
}

fn family(network: IpNet) -> u8 {
    match network {
        IpNet::V4(_) => 4,
        IpNet::V6(_) => 6,
    }
}
