//! What `aws ec2 describe-network-interfaces` tells of interfaces, and which of them a packet comes from.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;

use crate::flowlog::Interface;
use crate::packet::Endpoint;
use crate::record::{Field, Value};

/// The interfaces of an account, by address.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    list: Vec<Interface>,
    by_address: HashMap<IpAddr, Vec<usize>>,
    by_id: HashMap<Box<str>, usize>,
}

/// The answer of the AWS CLI; what is not asked for is skipped.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    network_interfaces: Vec<Described>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Described {
    network_interface_id: String,
    owner_id: String,
    vpc_id: String,
    subnet_id: String,
    availability_zone_id: String,
    availability_zone: String,
    interface_type: String,
    mac_address: String,
    private_ip_address: Option<Ipv4Addr>,
    private_ip_addresses: Vec<Private>,
    ipv6_addresses: Vec<Ipv6>,
    attachment: Attachment,
    tag_set: Vec<Tag>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Attachment {
    instance_id: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Private {
    private_ip_address: Option<Ipv4Addr>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Ipv6 {
    #[serde(rename = "Ipv6Address")]
    address: Option<std::net::Ipv6Addr>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Tag {
    key: String,
    value: String,
}

impl Interfaces {
    /// The interfaces in the JSON that `aws ec2 describe-network-interfaces` prints. `tags` are the keys of the tags that
    /// `interface-tag` and `interface-tag-2` tell.
    ///
    /// # Errors
    /// What is wrong with the JSON, with line and column.
    pub fn from_json(text: &str, tags: &[String]) -> Result<Self, serde_json::Error> {
        let answer: Answer = serde_json::from_str(text)?;
        let mut this = Self::default();
        for described in &answer.network_interfaces {
            this.add(interface(described, tags));
        }
        Ok(this)
    }

    fn add(&mut self, interface: Interface) {
        let at = self.list.len();
        // the outer source of mirrored packets is the primary address, and no other
        let outer = interface.primary.map(IpAddr::V4);
        let outer = outer.or_else(|| interface.addresses.first().copied());
        if let Some(address) = outer {
            self.by_address.entry(address).or_default().push(at);
        }
        if let Value::Text(id) = interface.fact(Field::InterfaceId) {
            self.by_id.insert(id.into(), at);
        }
        self.list.push(interface);
    }

    /// All of them.
    pub fn list(&self) -> &[Interface] {
        &self.list
    }

    /// The one that mirrors from an outer source address, through an endpoint or not. Two VPCs may have the same addresses: then
    /// the one in the endpoint's VPC is taken, and none where that can't be told.
    pub fn find(&self, source: IpAddr, endpoint: Option<Endpoint>) -> Option<&Interface> {
        let places = self.by_address.get(&source)?;
        let mut candidates = places.iter().filter_map(|at| self.list.get(*at));
        if let [only] = places.as_slice() {
            return self.list.get(*only);
        }
        let through = self.by_id.get(format!("eni-0{}", endpoint?).as_str())?;
        let vpc = self.list.get(*through)?.fact(Field::VpcId);
        let found = candidates.find(|interface| interface.fact(Field::VpcId) == vpc);
        found.filter(|_| vpc != Value::Null)
    }
}

fn interface(described: &Described, tags: &[String]) -> Interface {
    let primary = described.private_ip_address;
    let secondary = described.private_ip_addresses.iter();
    let secondary = secondary.filter_map(|private| private.private_ip_address);
    let v6 = described.ipv6_addresses.iter();
    let v6 = v6.filter_map(|v6| v6.address.map(IpAddr::V6));
    let mut interface = Interface::default();
    interface.primary = primary;
    let further = secondary.filter(|address| Some(*address) != primary);
    interface.addresses = further.map(IpAddr::V4).chain(v6).collect();
    interface.mac = mac(&described.mac_address);
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
    for (field, key) in [Field::InterfaceTag, Field::InterfaceTag2].iter().zip(tags) {
        let tag = described.tag_set.iter().find(|tag| tag.key == *key);
        let value = tag.map_or("", |tag| &tag.value);
        interface.know(*field, &percent_encoded(value));
    }
    interface
}

/// UTF-8 with everything but letters, digits and `-._~` as `%XX`, as tag fields are told: no tag can break a line.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let parts: Vec<_> = text.split(':').collect();
    let bytes = parts.iter().map(|part| u8::from_str_radix(part, 16).ok());
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(interface: &Interface, field: Field) -> String {
        interface.fact(field).to_string()
    }

    #[test]
    fn interfaces_are_read_from_the_answer_of_the_aws_cli() {
        let answer = r#"{"NetworkInterfaces": [{
            "Attachment": {"InstanceId": "i-01234567890123456", "DeviceIndex": 0},
            "AvailabilityZone": "eu-central-1a", "AvailabilityZoneId": "euc1-az2", "Groups": [{"GroupId": "sg-1"}],
            "InterfaceType": "interface", "MacAddress": "02:2f:8f:b0:cf:75",
            "NetworkInterfaceId": "eni-1235b8ca123456789", "OwnerId": "012345678901",
            "PrivateIpAddress": "10.0.1.17", "SubnetId": "subnet-1", "VpcId": "vpc-1",
            "PrivateIpAddresses": [{"Primary": true, "PrivateIpAddress": "10.0.1.17"}, {"Primary": false, "PrivateIpAddress": "10.0.1.18"}],
            "Ipv6Addresses": [{"Ipv6Address": "2001:db8::17"}],
            "TagSet": [{"Key": "Name", "Value": "a web server/ä"}, {"Key": "team", "Value": "-"}]},
            {"NetworkInterfaceId": "eni-2", "InterfaceType": "nat_gateway", "AvailabilityZone": "us-west-2-lax-1a"}]}"#;
        let tags = ["team".to_owned(), "Name".to_owned()];
        let interfaces = Interfaces::from_json(answer, &tags).unwrap();
        let [web, nat] = interfaces.list() else {
            panic!("two interfaces");
        };
        assert_eq!(web.primary, Some(Ipv4Addr::new(10, 0, 1, 17)));
        let further: Vec<_> = web.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(further, ["10.0.1.18", "2001:db8::17"]);
        assert_eq!(web.mac, Some([0x02, 0x2f, 0x8f, 0xb0, 0xcf, 0x75]));
        assert_eq!(fact(web, Field::AccountId), "012345678901", "zeros stay");
        assert_eq!(fact(web, Field::Region), "eu-central-1");
        assert_eq!(fact(web, Field::AzId), "euc1-az2");
        assert_eq!(fact(web, Field::InterfaceType), "-");
        assert_eq!(fact(web, Field::InterfaceTag), "%2D");
        assert_eq!(fact(web, Field::InterfaceTag2), "a%20web%20server%2F%C3%A4");
        assert_eq!(
            fact(web, Field::InstanceTag),
            "-",
            "the file does not tell it"
        );
        assert_eq!(fact(nat, Field::InterfaceType), "nat_gateway");
        assert_eq!(fact(nat, Field::InstanceId), "-");
        assert_eq!(fact(nat, Field::Region), "-");
        assert!(Interfaces::from_json("{}", &[]).is_err());
    }

    #[test]
    fn an_address_that_two_vpcs_have_is_told_by_the_vpc_of_the_endpoint() {
        let answer = r#"{"NetworkInterfaces": [
            {"NetworkInterfaceId": "eni-a", "VpcId": "vpc-a", "PrivateIpAddress": "10.0.0.1"},
            {"NetworkInterfaceId": "eni-b", "VpcId": "vpc-b", "PrivateIpAddress": "10.0.0.1"},
            {"NetworkInterfaceId": "eni-c", "VpcId": "vpc-b", "PrivateIpAddress": "10.0.0.2"},
            {"NetworkInterfaceId": "eni-02b8ee1d4db0c51c4", "VpcId": "vpc-b", "PrivateIpAddress": "10.0.0.9"}]}"#;
        let interfaces = Interfaces::from_json(answer, &[]).unwrap();
        let id = |last: u8, endpoint: Option<u64>| {
            let found = interfaces.find([10, 0, 0, last].into(), endpoint.map(Endpoint));
            found.map_or("none".to_owned(), |i| fact(i, Field::InterfaceId))
        };
        assert_eq!(id(1, Some(0x2b8e_e1d4_db0c_51c4)), "eni-b");
        assert_eq!(id(1, Some(7)), "none", "an endpoint that is not known");
        assert_eq!(id(1, None), "none");
        assert_eq!(id(2, None), "eni-c");
        assert_eq!(id(3, None), "none");
    }
}
