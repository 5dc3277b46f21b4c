//! Rules flattened for speed: how many there are hardly matters to a packet.
//!
//! Each direction has one table per address family. In a table every field of the packet (protocol,
//! addresses, ports) is looked up once and gives the set of rules that it satisfies, one bit each; the
//! first bit that all fields share is the first rule that matches. Directions and ports are chosen without a jump where
//! that can be: packets of all kinds come mixed, and a jump that is guessed wrong costs as much as the look-ups do.

use ipnet::IpNet;

use crate::filter::amazon::Resolvers;
use crate::filter::few::{Few, First};
use crate::filter::protocol::{TCP, UDP};
use crate::filter::ranges::{Range, Ranges, Set, Sets, Value, WORD};
use crate::filter::rule::{Action, Matcher, Ports, Rule};
use crate::filter::{Direction, Verdict};
use crate::headers::{FlowKey, Gist};
use crate::packet::FilterReason;

/// The ports of a packet; `None` where it has none or they were cut off.
type PortPair = Option<(u16, u16)>;

/// How rules are judged: few one way, many another.
#[derive(Clone, Debug)]
enum Way {
    Few(Few),
    /// Ingress, egress.
    Many(Box<[Side; 2]>),
}

/// Every rule of a filter.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    way: Way,
    /// Where the Amazon resolver is mirrored whatever the rules say.
    resolvers: Option<Resolvers>,
    list: Vec<Rule>,
}

impl Rules {
    /// From rules that are already in order: by direction, then by number.
    pub(super) fn new(rules: Vec<(Rule, Matcher)>, resolvers: Option<Resolvers>) -> Self {
        let (list, matchers): (Vec<Rule>, Vec<Matcher>) = rules.into_iter().unzip();
        let way = match Few::new(&list, &matchers) {
            Some(few) => Way::Few(few),
            None => Way::Many(Box::new([
                Side::new(&list, &matchers, Direction::Ingress),
                Side::new(&list, &matchers, Direction::Egress),
            ])),
        };
        Self {
            way,
            resolvers,
            list,
        }
    }

    pub(super) fn list(&self) -> &[Rule] {
        &self.list
    }

    #[inline(always)]
    pub(super) fn judge(&self, gist: &Gist, direction: Direction) -> Verdict {
        if let Some(resolvers) = &self.resolvers
            && serves(*resolvers, *gist)
        {
            return Verdict::KEEP;
        }
        if direction == Direction::Unknown {
            return self.either(gist);
        }
        verdict(self.first(gist, direction == Direction::Egress))
    }

    /// Direction unknown is kept when either direction would keep it. Where neither does, a rule
    /// that rejects says more than the absence of one.
    #[inline(always)]
    fn either(&self, gist: &Gist) -> Verdict {
        let ingress = verdict(self.first(gist, false));
        if ingress.reject.is_none() {
            return ingress;
        }
        let egress = verdict(self.first(gist, true));
        match (egress.reject, ingress.rule) {
            (Some(_), Some(_)) => ingress,
            _ => egress,
        }
    }

    #[inline(always)]
    fn first(&self, gist: &Gist, egress: bool) -> First {
        match &self.way {
            Way::Few(few) => few.first(gist, egress),
            Way::Many(sides) => {
                let rule = first_of_many(&sides[usize::from(egress)], *gist)?;
                let action = self.list.get(rule as usize)?.action;
                Some((action, rule))
            }
        }
    }
}

// What follows takes a copy, made where it is called: of what others are pointed to the compiler keeps nothing in registers.

#[inline(never)]
fn first_of_many(side: &Side, gist: Gist) -> Option<u32> {
    side.first(&gist.key, gist.ports())
}

#[inline(never)]
fn serves(resolvers: Resolvers, gist: Gist) -> bool {
    resolvers.serve(&gist.key, gist.ports())
}

#[inline(always)]
fn verdict(first: First) -> Verdict {
    let reject = match first {
        Some((Action::Accept, _)) => None,
        Some((Action::Reject, _)) => Some(FilterReason::RuleReject),
        None => Some(FilterReason::NoRule),
    };
    Verdict {
        reject,
        rule: first.map(|(_, rule)| rule),
    }
}

/// The rules of one direction.
#[derive(Clone, Debug)]
struct Side {
    v4: Table<u32>,
    v6: Table<u128>,
    /// The first rule for frames that hold no IP.
    other: Option<u32>,
}

impl Side {
    fn new(list: &[Rule], matchers: &[Matcher], direction: Direction) -> Self {
        let both = list.iter().zip(matchers).zip(0..);
        let own = both.filter(|((rule, _), _)| rule.direction == direction);
        let rules: Vec<(u32, Matcher)> = own.map(|((_, m), place)| (place, *m)).collect();
        let of = |version| {
            let matching = rules.iter().filter(move |(_, m)| m.is_of(version));
            matching.copied().collect::<Vec<_>>()
        };
        let other = rules.iter().find(|(_, m)| m.matches_all());
        Self {
            v4: Table::new(&of(4), range_v4),
            v6: Table::new(&of(6), range_v6),
            other: other.map(|(rule, _)| *rule),
        }
    }

    /// The first rule that matches.
    #[inline]
    fn first(&self, key: &FlowKey, ports: PortPair) -> Option<u32> {
        match key.version {
            4 => self
                .v4
                .first(key.proto, address_v4(&key.src), address_v4(&key.dst), ports),
            6 => self.v6.first(
                key.proto,
                u128::from_be_bytes(key.src),
                u128::from_be_bytes(key.dst),
                ports,
            ),
            _ => self.other,
        }
    }
}

#[inline]
fn address_v4(address: &[u8; 16]) -> u32 {
    let [a, b, c, d, ..] = *address;
    u32::from_be_bytes([a, b, c, d])
}

fn range_v4(network: IpNet) -> Option<Range<u32>> {
    match network {
        IpNet::V4(n) => Some((n.network().into(), n.broadcast().into())),
        IpNet::V6(_) => None,
    }
}

fn range_v6(network: IpNet) -> Option<Range<u128>> {
    match network {
        IpNet::V4(_) => None,
        IpNet::V6(n) => Some((n.network().into(), n.broadcast().into())),
    }
}

/// The rules of one direction and one address family.
#[derive(Clone, Debug)]
struct Table<A> {
    /// The place of each rule among all rules, by its bit.
    rules: Vec<u32>,
    protocols: Ranges<u8>,
    sources: Ranges<A>,
    destinations: Ranges<A>,
    source_ports: Ranges<u16>,
    destination_ports: Ranges<u16>,
    /// Rules that a packet of a protocol without ports can match.
    portless: Sets,
    /// Rules that TCP or UDP can match when the ports are not known: later fragments, packets that were cut.
    every_port: Sets,
}

impl<A: Value> Table<A> {
    fn new(rules: &[(u32, Matcher)], range: fn(IpNet) -> Option<Range<A>>) -> Self {
        let of = |get: &dyn Fn(&Matcher) -> Option<Range<A>>| {
            Ranges::new(&rules.iter().map(|(_, m)| get(m)).collect::<Vec<_>>())
        };
        let ports_of = |get: fn(&Matcher) -> Option<Ports>| {
            let ranges = rules.iter().map(|(_, m)| get(m).map(|p| (p.from, p.to)));
            Ranges::new(&ranges.collect::<Vec<_>>())
        };
        let protocols = rules.iter().map(|(_, m)| m.protocol.map(|p| (p, p)));
        Self {
            rules: rules.iter().map(|(rule, _)| *rule).collect(),
            protocols: Ranges::new(&protocols.collect::<Vec<_>>()),
            sources: of(&|m| m.source.and_then(range)),
            destinations: of(&|m| m.destination.and_then(range)),
            source_ports: ports_of(|m| m.source_ports),
            destination_ports: ports_of(|m| m.destination_ports),
            portless: Sets::new(rules.iter().map(|(_, m)| !m.has_ports())),
            every_port: Sets::new(rules.iter().map(|(_, m)| m.takes_every_port())),
        }
    }

    #[inline(always)]
    fn first(&self, proto: u8, source: A, destination: A, ports: PortPair) -> Option<u32> {
        // the ports of other protocols are none that a rule can ask for
        let ports = ports.filter(|_| proto == TCP || proto == UDP);
        let bit = if self.rules.len() <= WORD {
            let all = self.protocols.mask(proto)
                & self.sources.mask(source)
                & self.destinations.mask(destination)
                & match ports {
                    Some((from, to)) => {
                        self.source_ports.mask(from) & self.destination_ports.mask(to)
                    }
                    None => self.without_ports(proto).mask(),
                };
            all.trailing_zeros() as usize
        } else {
            self.first_of_many(proto, source, destination, ports)?
        };
        self.rules.get(bit).copied()
    }

    #[inline(never)]
    fn first_of_many(
        &self,
        proto: u8,
        source: A,
        destination: A,
        ports: PortPair,
    ) -> Option<usize> {
        let without = self.without_ports(proto).only_every();
        let (from, to) = match ports {
            Some((from, to)) => (self.source_ports.set(from), self.destination_ports.set(to)),
            None => (without, without),
        };
        Set::first_of_all(&[
            self.sources.set(source),
            self.destinations.set(destination),
            self.protocols.set(proto),
            from,
            to,
        ])
    }

    /// The rules that a packet without ports can match.
    fn without_ports(&self, proto: u8) -> &Sets {
        if proto == TCP || proto == UDP {
            &self.every_port
        } else {
            &self.portless
        }
    }
}
