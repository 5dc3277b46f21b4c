//! What is known of an interface apart from its packets, and the values of a record.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::filter::Direction;
use crate::flow::{Addresses, Closed};
use crate::headers::proto;
use crate::record::{Field, Value};

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// Its primary IPv4 address.
    pub primary: Option<Ipv4Addr>,
    /// The address ranges of its VPC: what goes to one of them stays in the VPC.
    pub vpc_ranges: Vec<IpNet>,
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

    /// What is known of a field.
    pub fn fact(&self, field: Field) -> Value<'_> {
        let found = self.facts.iter().find(|(known, _)| *known == field);
        found.map_or(Value::Null, |(_, value)| Value::Text(value))
    }

    /// The value of a field in the record of a flow of this interface. Only what is known is told: nothing is guessed from
    /// ports or names, and every packet that was mirrored had been accepted.
    pub fn value(&self, closed: &Closed, addresses: Option<Addresses>, field: Field) -> Value<'_> {
        let flow = &closed.key.flow;
        let address = |pick: fn(&Addresses) -> std::net::IpAddr| {
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

/// The answer of `aws ec2 describe-network-interfaces`; what is not asked for is skipped.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    network_interfaces: Vec<Described>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Described {
    network_interface_id: String,
    owner_id: String,
    vpc_id: String,
    subnet_id: String,
    availability_zone_id: String,
    availability_zone: String,
    interface_type: String,
    private_ip_address: Option<Ipv4Addr>,
    attachment: Attachment,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Attachment {
    instance_id: String,
}

/// The interfaces in the JSON that `aws ec2 describe-network-interfaces` prints.
///
/// # Errors
/// What is wrong with the JSON, with line and column.
pub fn from_json(text: &str) -> Result<Vec<Interface>, serde_json::Error> {
    let answer: Answer = serde_json::from_str(text)?;
    Ok(answer.network_interfaces.iter().map(interface).collect())
}

fn interface(described: &Described) -> Interface {
    let mut interface = Interface {
        primary: described.private_ip_address,
        ..Interface::default()
    };
    // the plain kind is not told in records
    let kind = match described.interface_type.as_str() {
        "interface" => "",
        other => other,
    };
    for (field, value) in [
        (Field::InterfaceId, described.network_interface_id.as_str()),
        (Field::AccountId, &described.owner_id),
        (Field::VpcId, &described.vpc_id),
        (Field::SubnetId, &described.subnet_id),
        (Field::InstanceId, &described.attachment.instance_id),
        (Field::AzId, &described.availability_zone_id),
        (Field::Region, region(&described.availability_zone)),
        (Field::InterfaceType, kind),
    ] {
        interface.know(field, value);
    }
    interface
}

/// The region of an availability zone: `eu-central-1a` without its letter. Of a local zone nothing is guessed.
fn region(zone: &str) -> &str {
    let name = zone.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let plain = zone.len() == name.len() + 1 && name.matches('-').count() <= 3;
    if plain && name.ends_with(|c: char| c.is_ascii_digit()) {
        name
    } else {
        ""
    }
}
