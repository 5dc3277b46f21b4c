//! What is known of an interface apart from its packets, and the values of a record.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::filter::Direction;
use crate::flow::{Addresses, Closed, Why};
use crate::headers::proto;
use crate::packet::Vni;
use crate::record::{Extra, Field, Value};

/// What was seen so far: of what is not always the same nothing is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Seen<T> {
    #[default]
    Nothing,
    One(T),
    Several,
}

impl<T: PartialEq> Seen<T> {
    fn see(&mut self, value: T) {
        match self {
            Self::Nothing => *self = Self::One(value),
            Self::One(known) if *known == value => {}
            Self::One(_) => *self = Self::Several,
            Self::Several => {}
        }
    }

    fn one(&self) -> Option<&T> {
        match self {
            Self::One(value) => Some(value),
            _ => None,
        }
    }
}

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// Its primary IPv4 address.
    pub primary: Option<Ipv4Addr>,
    /// Its further addresses: secondary IPv4 ones, and IPv6.
    pub addresses: Vec<IpAddr>,
    /// Its MAC address, which tells what comes from what goes.
    pub mac: Option<[u8; 6]>,
    /// The address ranges of its VPC: what goes to one of them stays in the VPC.
    pub vpc_ranges: Vec<IpNet>,
    /// Whose packets and which VNI they are, as far as they came.
    session: Seen<Arc<str>>,
    vni: Seen<Vni>,
    /// Values of fields that no packet tells.
    facts: Vec<(Field, Box<str>)>,
}

impl Interface {
    /// One of which no more is known than its primary address.
    pub fn at(primary: Ipv4Addr) -> Self {
        Self {
            primary: Some(primary),
            ..Self::default()
        }
    }

    /// Adds the value of a field; an empty one is not there.
    pub fn know(&mut self, field: Field, value: &str) {
        self.facts.retain(|(known, _)| *known != field);
        if !value.is_empty() {
            self.facts.push((field, value.into()));
        }
    }

    /// Packets of it came with this VNI, and this session claims them. To be told once of each pair.
    pub fn met(&mut self, session: &Arc<str>, vni: Vni) {
        self.session.see(session.clone());
        self.vni.see(vni);
    }

    /// What is known of a field.
    pub fn fact(&self, field: Field) -> Value<'_> {
        let found = self.facts.iter().find(|(known, _)| *known == field);
        found.map_or(Value::Null, |(_, value)| Value::Text(value))
    }

    /// The value of a field in the record of a flow of this interface. Only what is known is told: nothing is guessed from
    /// ports or names, and every packet that was mirrored had been accepted.
    pub fn value(&self, closed: &Closed, addresses: Option<Addresses>, field: Field) -> Value<'_> {
        let flow = &closed.key.flow;
        let address = |pick: fn(&Addresses) -> IpAddr| {
            addresses
                .as_ref()
                .map_or(Value::Null, |a| Value::Address(pick(a)))
        };
        match field {
            Field::SrcAddr => address(|a| a.src),
            Field::DstAddr => address(|a| a.dst),
            Field::PktSrcAddr => address(|a| a.pkt_src),
            Field::PktDstAddr => address(|a| a.pkt_dst),
            Field::SrcPort => Value::Number(flow.sport.into()),
            Field::DstPort => Value::Number(flow.dport.into()),
            Field::Protocol => Value::Number(flow.proto.into()),
            Field::Packets => Value::Number(closed.packets),
            Field::Bytes => Value::Number(closed.bytes),
            Field::Start => Value::Number(closed.first.secs()),
            Field::End => Value::Number(closed.last.secs()),
            Field::Action => Value::Text("ACCEPT"),
            Field::LogStatus => Value::Text("OK"),
            Field::TcpFlags if flow.proto == proto::TCP => Value::Number(closed.flags.into()),
            Field::TcpFlags => Value::Number(0),
            Field::Type => Value::Text(if flow.version == 4 { "IPv4" } else { "IPv6" }),
            Field::FlowDirection => match closed.key.direction {
                Direction::Unknown => Value::Null,
                known => Value::Text(known.name()),
            },
            Field::TrafficPath => self.path(closed, addresses),
            other => self.fact(other),
        }
    }

    /// The value of a column of our own; those of a flow only where there is one. The Community ID is made by
    /// [`community_id`](crate::flowlog::community_id).
    pub fn extra(&self, closed: Option<&Closed>, extra: Extra) -> Value<'_> {
        let of = |value: fn(&Closed) -> Value<'static>| closed.map_or(Value::Null, value);
        match extra {
            Extra::Session => self
                .session
                .one()
                .map_or(Value::Null, |name| Value::text(name)),
            Extra::Vni => {
                let vni = self.vni.one();
                vni.map_or(Value::Null, |vni| Value::Number(vni.value().into()))
            }
            Extra::EndReason => of(|closed| Value::Text(reason(closed.why))),
            Extra::StartNs => of(|closed| Value::Number(closed.first.nanos())),
            Extra::EndNs => of(|closed| Value::Number(closed.last.nanos())),
            Extra::MeanBytes => of(|closed| {
                let mean = closed.bytes.checked_div(closed.packets);
                mean.map_or(Value::Null, Value::Number)
            }),
            Extra::CommunityId => Value::Null,
        }
    }

    /// 1 for what leaves the interface and stays in the VPC. All else depends on routes, which no packet tells.
    fn path(&self, closed: &Closed, addresses: Option<Addresses>) -> Value<'static> {
        let inside = |a: &Addresses| self.vpc_ranges.iter().any(|r| r.contains(&a.pkt_dst));
        let egress = closed.key.direction == Direction::Egress;
        match addresses.filter(|a| egress && inside(a)) {
            Some(_) => Value::Number(1),
            None => Value::Null,
        }
    }
}

const fn reason(why: Why) -> &'static str {
    match why {
        Why::Interval => "interval",
        Why::Full => "full",
        Why::End => "end",
    }
}
