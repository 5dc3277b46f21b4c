//! The words of a pcap-filter expression, and which of them libpcap does not know.
//!
//! Takes: an expression. Gives: its words by place, and the first that is neither a word of the language, nor a number
//! or an address, nor the name of a port or protocol where one belongs. Holds: an expression without such a word makes
//! libpcap ask no name server. libpcap would take any other word behind `host`, `net`, `src` ... for the name of a host
//! and look it up, so that a typing error could stop a start for as long as the resolver waits, and a name server could
//! decide what is captured.

use std::net::Ipv6Addr;
use std::ops::Range;

use crate::filter::vocabulary::{is_constant, is_keyword, nearest};

/// Words in front of an address.
const BEFORE_ADDRESS: &[&str] = &["host", "net", "gateway", "src", "dst"];

/// Words in front of a name that is looked up in a table of the machine or of libpcap.
const BEFORE_NAME: &[&str] = &[
    "port",
    "portrange",
    "proto",
    "protochain",
    "type",
    "subtype",
    "dir",
    "direction",
];

/// Kinds of LLC frames, which stand behind `llc` only.
const LLC_KINDS: &[&str] = &[
    "i", "s", "u", "rr", "rnr", "rej", "ui", "ua", "disc", "dm", "sabme", "test", "xid", "frmr",
];

/// Words that libpcap knows and a mirrored packet can't be asked about.
const IMPOSSIBLE: &[(&str, &str)] = &[
    (
        "protochain",
        "needs a loop, which a filter must not have: use proto, or a rule, which sees behind extension headers",
    ),
    (
        "inbound",
        "asks about the interface of a capture: rules know the direction of a mirrored packet",
    ),
    (
        "outbound",
        "asks about the interface of a capture: rules know the direction of a mirrored packet",
    ),
    (
        "ifindex",
        "asks about the interface of a capture, which mirrored packets do not have",
    ),
];

/// Signs of two characters.
const PAIRS: &[&str] = &["&&", "||", "!=", "==", "<=", ">=", "<<", ">>"];

/// A word that can't stand where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Unknown {
    pub(super) place: Range<usize>,
    pub(super) message: String,
}

/// The words of an expression: names, numbers and addresses in one piece, every other sign for itself.
pub(super) fn split(expression: &str) -> Vec<Range<usize>> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_' | '\\');
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut joined = false;
    for (at, c) in expression.char_indices() {
        let end = at + c.len_utf8();
        let pair = |word: &Range<usize>| {
            word.end == at
                && expression
                    .get(word.start..end)
                    .is_some_and(|pair| PAIRS.contains(&pair))
        };
        match words.last_mut() {
            Some(word) if (joined && plain(c)) || pair(word) => word.end = end,
            _ if c.is_whitespace() => {}
            _ => words.push(at..end),
        }
        joined = plain(c);
    }
    words
}

/// Whether a word joins two halves of an expression.
pub(super) fn is_joint(word: &str) -> bool {
    matches!(word, "and" | "or" | "&&" | "||")
}

/// What the words so far let the next one be.
#[derive(Clone, Copy, Default)]
struct Context {
    /// The last qualifier wants an address.
    address: bool,
    /// The last qualifier wants a number or a name from a table.
    name: bool,
    /// The next word may be what the last qualifier wants; behind `port http or`, too.
    expected: bool,
    /// The word before is `llc`.
    llc: bool,
}

impl Context {
    /// What is wrong with a word that stands here, before `next`.
    fn fault(self, word: &str, next: Option<&str>) -> Option<String> {
        if let Some((_, why)) = IMPOSSIBLE.iter().find(|(known, _)| *known == word) {
            return Some(format!("{word:?} {why}"));
        }
        // `port 443 and nett 10.0.0.0/8`: not the name of a port, whatever it is
        let goes_on = next.is_some_and(is_address);
        let kind = self.llc && LLC_KINDS.contains(&word);
        let allowed = kind || (self.name && self.expected && !goes_on);
        (is_name(word) && !allowed).then(|| explain(word, self))
    }

    fn after(self, word: &str) -> Self {
        let so_far = Self { llc: false, ..self };
        match word {
            "(" | "not" | "!" => Self {
                expected: true,
                ..so_far
            },
            _ if is_joint(word) => Self {
                expected: true,
                ..so_far
            },
            ")" => Self::default(),
            _ if is_keyword(word) => {
                let (address, name) = (BEFORE_ADDRESS.contains(&word), BEFORE_NAME.contains(&word));
                Self {
                    address,
                    name,
                    expected: address || name,
                    llc: word == "llc",
                }
            }
            _ => Self {
                expected: false,
                ..so_far
            },
        }
    }
}

/// The first word that libpcap would not know, or would ask a name server about.
pub(super) fn unknown(expression: &str, words: &[Range<usize>]) -> Option<Unknown> {
    let text = |place: &Range<usize>| expression.get(place.clone()).unwrap_or_default();
    let mut context = Context::default();
    for (i, place) in words.iter().enumerate() {
        let next = words.get(i + 1).map(text);
        if let Some(message) = context.fault(text(place), next) {
            let place = place.clone();
            return Some(Unknown { place, message });
        }
        context = context.after(text(place));
    }
    None
}

fn explain(word: &str, context: Context) -> String {
    let digits = word
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | '/' | ':' | '-'));
    let wants_address = context.address && context.expected;
    match nearest(word) {
        _ if digits => format!("{word:?} is neither a number nor an address"),
        Some(near) => format!("{word:?} is no word of pcap-filter; did you mean {near:?}?"),
        None if wants_address => format!(
            "{word:?} is no address; names of hosts and networks are not looked up: write the address"
        ),
        None => format!("{word:?} is no word of pcap-filter"),
    }
}

/// Whether a word holds a piece that is a name: no keyword, number or address.
fn is_name(word: &str) -> bool {
    if word.starts_with('\\') {
        return true;
    }
    if is_constant(word) || is_address(word) {
        return false;
    }
    let pieces = word
        .split([':', '/'])
        .map(|piece| piece.trim_start_matches('-'));
    pieces.into_iter().any(|piece| {
        piece.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '\\')
            && !is_address(piece)
            && !is_constant(piece)
            && !is_keyword(piece)
    })
}

/// A number, an IPv4 or IPv6 address or block, or a MAC address, as libpcap tells them from names.
fn is_address(word: &str) -> bool {
    let address = match word.split_once('/') {
        Some((address, length)) if is_number(length) => address,
        _ => word,
    };
    let parts = address.split('.').count();
    let hex = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let mac =
        |sign| address.split(sign).count() == 6 && address.split(sign).all(|part| hex(part, 2));
    let words = parts == 3
        && address
            .split('.')
            .all(|part| part.len() == 4 && hex(part, 4));
    (parts <= 4 && address.split('.').all(is_number))
        || [':', '-', '.'].into_iter().any(mac)
        || words
        || (address.len() == 12 && hex(address, 12))
        || address.parse::<Ipv6Addr>().is_ok()
        // hexadecimal with colons that is no address: libpcap says so
        || (address.contains(':') && address.split(':').all(|part| part.is_empty() || hex(part, 4)))
}

fn is_number(text: &str) -> bool {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_one_word_and_signs_are_their_own() {
        let words = |text: &'static str| {
            split(text)
                .into_iter()
                .map(|r| &text[r])
                .collect::<Vec<_>>()
        };
        assert_eq!(
            words("not (net 10.0.0.0/8)"),
            ["not", "(", "net", "10.0.0.0/8", ")"]
        );
        assert_eq!(
            words("ip[6:2]&0x1fff!=0"),
            ["ip", "[", "6:2", "]", "&", "0x1fff", "!=", "0"]
        );
        assert_eq!(words("tcp||udp"), ["tcp", "||", "udp"]);
    }

    #[test]
    fn names_are_known_only_where_no_name_server_is_asked() {
        let first = |text: &'static str| unknown(text, &split(text)).map(|u| &text[u.place]);
        for good in [
            "tcp port http or https",
            "port (http or ssh)",
            "proto \\tcp",
            "ether proto \\ip",
            "portrange ftp-ssh",
            "ether host aa:bb:cc:dd:ee:ff",
            "ether host aabb.ccdd.eeff",
            "host fe80::1 or 10.1",
            "net fe80::/10",
            "icmp6[icmp6type] == icmp6-echo",
            "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
            "len-4 > 3 or tcp[2:2] > 0x50",
            "llc u or llc rnr or llc",
        ] {
            let expected = good.starts_with("len-4").then_some("len-4");
            assert_eq!(first(good), expected, "{good}");
        }
        for (bad, name) in [
            ("host foo", "foo"),
            ("net loopback", "loopback"),
            ("src a.example.org", "a.example.org"),
            ("port http and src foo", "foo"),
            ("(port http) or foo", "foo"),
            ("port 80 foo", "foo"),
            ("host 1.2.3.4 or foo", "foo"),
            ("host \\tcp", "\\tcp"),
            ("host 1.2.3.4.5", "1.2.3.4.5"),
            ("tcp[foo:2] = 1", "foo:2"),
            ("host a.b/8", "a.b/8"),
            ("ether host gw", "gw"),
            ("llc foo", "foo"),
            ("llc or u", "u"),
        ] {
            assert_eq!(first(bad), Some(name), "{bad}");
        }
    }
}
