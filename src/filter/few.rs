//! Few rules, judged without a jump.
//!
//! A rule is a row of conditions, each of which says of one word of the packet (a part of an address, a port, the protocol)
//! that it lies in a range. A packet fails a rule with any condition that it doesn't meet, so each distinct condition is kept
//! once, with the rules that fail with it, one bit each; the first rule that none of them strikes out is the first that
//! matches. Conditions on one word stand four abreast, which the compiler makes one vector of, so ten rules with seven address
//! blocks are five rounds of the same few instructions, IPv4 or IPv6, ports or none, and a filter is a few cache lines. Tables
//! to look things up in ([`crate::filter::table`]) pay only beyond that.

use ipnet::IpNet;

use crate::filter::Direction;
use crate::filter::protocol::{TCP, UDP};
use crate::filter::rule::{Action, Matcher, Ports, Rule};
use crate::headers::Gist;

/// Rules of one direction that fit: as many as a word has bits.
const MOST_RULES: usize = 32;

/// Rounds that a packet goes through at most.
const MOST_GROUPS: usize = 16;

/// Conditions that stand abreast.
const LANES: usize = 4;

/// Words of a packet that conditions can be on, in [`Words`].
mod word {
    pub(super) const SOURCE: usize = 0;
    pub(super) const DESTINATION: usize = 4;
    pub(super) const SOURCE_PORT: usize = 8;
    pub(super) const DESTINATION_PORT: usize = 9;
    pub(super) const PROTOCOL: usize = 10;
    pub(super) const COUNT: usize = 11;
}

/// What stands for the ports of TCP and UDP where they are not known (later fragments, packets that were cut): beyond all
/// ports, but in the range of a rule that takes every port.
const UNKNOWN_PORT: u32 = NO_PORT >> 1;
/// What stands for the ports of protocols that have none that a rule can ask for.
const NO_PORT: u32 = 1 << 17;

/// The words of a packet; as many as four bits can number, so that none needs to be checked. Of each eight bytes of an address
/// the last four stand first, as a processor that begins with the low end puts them.
type Words = [u32; 16];

/// Kinds of packets come mixed: which protocol and whether the ports are known is reckoned with, not asked.
#[inline(always)]
fn words(gist: &Gist) -> Words {
    let key = &gist.key;
    let ported = u32::from(key.proto == TCP) | u32::from(key.proto == UDP);
    let known = ported & u32::from(gist.has_ports);
    let (mask, instead) = (
        known.wrapping_neg(),
        (NO_PORT >> ported) & known.wrapping_sub(1),
    );
    let port = |port: u16| u32::from(port) & mask | instead;
    let ([a, b, c, d], [e, f, g, h]) = (halves(&key.src), halves(&key.dst));
    let (sport, dport) = (port(key.sport), port(key.dport));
    [
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h,
        sport,
        dport,
        key.proto.into(),
        0,
        0,
        0,
        0,
        0,
    ]
}

#[inline(always)]
fn halves(address: &[u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    let high = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let low = u64::from_be_bytes([i, j, k, l, m, n, o, p]);
    [
        high as u32,
        (high >> 32) as u32,
        low as u32,
        (low >> 32) as u32,
    ]
}

/// A word of the packet lies in a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Condition {
    word: usize,
    first: u32,
    last: u32,
}

/// The conditions of a rule.
fn conditions(matcher: &Matcher) -> Vec<Condition> {
    let mut all = Vec::new();
    all.extend(matcher.protocol.map(|p| Condition {
        word: word::PROTOCOL,
        first: p.into(),
        last: p.into(),
    }));
    all.extend(
        matcher
            .source
            .iter()
            .flat_map(|n| on_address(word::SOURCE, n)),
    );
    all.extend(
        matcher
            .destination
            .iter()
            .flat_map(|n| on_address(word::DESTINATION, n)),
    );
    all.extend(matcher.source_ports.map(|p| on_port(word::SOURCE_PORT, p)));
    all.extend(
        matcher
            .destination_ports
            .map(|p| on_port(word::DESTINATION_PORT, p)),
    );
    all
}

/// An address is in a block when each of its words is within those of the block's ends; words behind the prefix always are.
fn on_address(word: usize, network: &IpNet) -> Vec<Condition> {
    let (first, last) = match network {
        IpNet::V4(n) => (
            u128::from(n.network().to_bits()) << 96,
            u128::from(n.broadcast().to_bits()) << 96,
        ),
        IpNet::V6(n) => (n.network().to_bits(), n.broadcast().to_bits()),
    };
    let count = if matches!(network, IpNet::V4(_)) {
        1
    } else {
        4
    };
    let part = |i: usize| Condition {
        word: word + (i ^ 1),
        first: (first >> (96 - 32 * i)) as u32,
        last: (last >> (96 - 32 * i)) as u32,
    };
    let all = (0..count).map(part);
    all.filter(|c| (c.first, c.last) != (0, u32::MAX)).collect()
}

fn on_port(word: usize, ports: Ports) -> Condition {
    let every = (ports.from, ports.to) == (0, u16::MAX);
    Condition {
        word,
        first: ports.from.into(),
        last: if every { UNKNOWN_PORT } else { ports.to.into() },
    }
}

/// Conditions on one word, a cache line of them. A value is out of a range when its distance from the first value is more
/// than the last one's; both are shifted by half of all values, since vectors compare numbers with a sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C, align(64))]
struct Group {
    first: [u32; LANES],
    span: [i32; LANES],
    /// The rules that have the condition, one bit each. None where a group isn't full.
    rules: [u32; LANES],
    word: u32,
}

const HALF: u32 = 1 << 31;

impl Group {
    /// Of what is left of `conditions`, all on the same word.
    fn new(conditions: &[(Condition, u32)]) -> Self {
        let mut group = Self::default();
        for (lane, (condition, rules)) in conditions.iter().enumerate().take(LANES) {
            group.word = condition.word as u32;
            group.first[lane] = condition.first ^ HALF;
            group.span[lane] = ((condition.last - condition.first) ^ HALF) as i32;
            group.rules[lane] = *rules;
        }
        group
    }

    /// Adds the rules that fail to `failed`.
    #[inline(always)]
    fn strike(&self, words: &Words, failed: [u32; LANES]) -> [u32; LANES] {
        let value = words[(self.word & 15) as usize];
        std::array::from_fn(|lane| {
            let out = value.wrapping_sub(self.first[lane]) as i32 > self.span[lane];
            failed[lane] | (u32::from(out).wrapping_neg() & self.rules[lane])
        })
    }
}

/// How packets of one direction and one address family are judged.
#[derive(Clone, Copy, Debug, Default)]
struct Program {
    /// The rules that no packet of this family can match.
    dead: u32,
    from: u16,
    to: u16,
}

/// The rules of one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    /// For frames without IP, for IPv4, for IPv6; as many as two bits can number.
    programs: [Program; 4],
    /// The place of the first rule among those of both directions.
    first: u32,
    /// Which rules reject.
    rejects: u32,
}

/// What the first rule that matches says, and its place; `None` where none matches.
pub(super) type First = Option<(Action, u32)>;

/// Rules of both directions.
#[derive(Clone, Debug)]
pub(super) struct Few {
    sides: [Side; 2],
    groups: Box<[Group]>,
}

impl Few {
    /// From rules in order, by direction and number; `None` where there are too many.
    pub(super) fn new(rules: &[Rule], matchers: &[Matcher]) -> Option<Self> {
        let egress = rules.partition_point(|rule| rule.direction == Direction::Ingress);
        let mut groups = Vec::new();
        let mut side = |from: usize, to: usize| {
            let (rules, matchers) = (rules.get(from..to)?, matchers.get(from..to)?);
            let rejects = bits(rules, |rule| rule.action == Action::Reject);
            let mut programs = [Program::default(); 4];
            for (program, version) in programs.iter_mut().zip([0, 4, 6]) {
                *program = compile(matchers, version, &mut groups)?;
            }
            Some(Side {
                programs,
                first: from as u32,
                rejects,
            })
        };
        let sides = [side(0, egress)?, side(egress, rules.len())?];
        Some(Self {
            sides,
            groups: groups.into(),
        })
    }

    /// The first rule of a direction that a packet matches.
    #[inline(always)]
    pub(super) fn first(&self, gist: &Gist, egress: bool) -> First {
        let side = &self.sides[usize::from(egress)];
        let version = gist.key.version;
        let family = usize::from(version == 4) + 2 * usize::from(version == 6);
        let program = &side.programs[family & 3];
        let words = words(gist);
        let mut failed = [program.dead, 0, 0, 0];
        let groups = self.groups.get(program.from.into()..program.to.into());
        for group in groups.unwrap_or_default() {
            failed = group.strike(&words, failed);
        }
        let failed = failed.into_iter().fold(0, |all, lane| all | lane);
        let rule = failed.trailing_ones();
        let action = if side.rejects >> (rule & 31) & 1 == 1 {
            Action::Reject
        } else {
            Action::Accept
        };
        (failed != u32::MAX).then_some((action, side.first + rule))
    }
}

/// Adds the groups for one direction's packets of one IP version (0: no IP).
fn compile(matchers: &[Matcher], version: u8, groups: &mut Vec<Group>) -> Option<Program> {
    if matchers.len() > MOST_RULES {
        return None;
    }
    let alive = |m: &Matcher| {
        if version == 0 {
            m.matches_all()
        } else {
            m.is_of(version)
        }
    };
    let live = bits(matchers, alive);
    let mut distinct: Vec<(Condition, u32)> = Vec::new();
    for (bit, matcher) in matchers.iter().enumerate().filter(|(_, m)| alive(m)) {
        for condition in conditions(matcher) {
            match distinct.iter_mut().find(|(known, _)| *known == condition) {
                Some((_, rules)) => *rules |= 1 << bit,
                None => distinct.push((condition, 1 << bit)),
            }
        }
    }
    let mut own: Vec<Group> = Vec::new();
    for word in 0..word::COUNT {
        let on_word: Vec<_> = distinct
            .iter()
            .filter(|(c, _)| c.word == word)
            .copied()
            .collect();
        own.extend(on_word.chunks(LANES).map(Group::new));
    }
    if own.len() > MOST_GROUPS {
        return None;
    }
    // directions are often alike, and then share what is in the cache
    let known = groups
        .windows(own.len().max(1))
        .position(|some| *some == *own);
    let from = known.unwrap_or(groups.len());
    if known.is_none() {
        groups.extend(&own);
    }
    Some(Program {
        dead: !live,
        from: from as u16,
        to: (from + own.len()) as u16,
    })
}

/// A bit for each of at most 32 that are such.
fn bits<T>(all: &[T], is_such: impl Fn(&T) -> bool) -> u32 {
    let such = all.iter().enumerate().filter(|(_, one)| is_such(one));
    such.fold(0, |bits, (i, _)| bits | 1u32.wrapping_shl(i as u32))
}
