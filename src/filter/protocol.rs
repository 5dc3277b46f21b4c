//! IP protocols by name and number.

use std::borrow::Cow;

/// Names as people write them; the first name of a number is the one that is shown.
const NAMES: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("icmp6", 58),
    ("ipv6-icmp", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("sctp", 132),
];

/// Words for "every protocol"; -1 is how other EC2 calls say it.
const ALL: &[&str] = &["all", "any", "-1"];

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// Reads a name or a number. `Some(None)` is every protocol; `None` is neither.
#[expect(clippy::option_option, reason = "readable, and absent is not all")]
pub(super) fn parse(text: &str) -> Option<Option<u8>> {
    let text = text.trim().to_ascii_lowercase();
    if ALL.contains(&text.as_str()) {
        return Some(None);
    }
    let named = NAMES.iter().find(|(name, _)| *name == text);
    named
        .map(|(_, number)| *number)
        .or_else(|| text.parse().ok())
        .map(Some)
}

/// The name of a protocol, or `protocol N`.
pub(super) fn name(number: u8) -> Cow<'static, str> {
    match NAMES.iter().find(|(_, n)| *n == number) {
        Some((name, _)) => Cow::Borrowed(name),
        None => Cow::Owned(format!("protocol {number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_a_name_or_an_iana_number() {
        assert_eq!(parse("tcp"), Some(Some(6)));
        assert_eq!(parse("ICMPv6"), Some(Some(58)));
        assert_eq!(parse("255"), Some(Some(255)));
        assert_eq!(parse("all"), Some(None));
        assert_eq!(parse("256"), None);
        assert_eq!(parse("tcq"), None);
        assert_eq!(name(58), "icmpv6");
        assert_eq!(name(200), "protocol 200");
    }
}
