//! pcap-filter expressions: compiled by libpcap, run by our own machine.
//!
//! Takes: an expression. Gives: a [`Program`], or what is wrong with which word. Holds: compiling asks no name server
//! (see [`words`]) and takes seconds at most. libpcap only compiles: its own run of a program takes the captured length
//! for the packet's, so that `len` and `greater` would misjudge every packet that was cut; [`Program`] is told both.
//! libpcap says what is wrong but not where, which [`caret`] finds out.

use std::fmt;

use std::ops::Range;

use crate::filter::{Program, caret, words};

/// The most words of an expression; libpcap's time grows with their square and more.
const MOST_WORDS: usize = 1200;

/// The most instructions before libpcap optimizes them, which takes four seconds for so many.
const MOST_INSTRUCTIONS: usize = 12_000;

/// How much longer libpcap takes when it optimizes.
const OPTIMIZING: usize = 10;

/// What is shown of a long expression on either side of the place.
const AROUND: usize = 40;

/// An expression that does not compile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExpressionError {
    /// The expression.
    pub expression: String,
    /// What is wrong, in libpcap's words.
    pub message: String,
    /// The bytes of the expression that it is about, where that could be found.
    pub place: Option<Range<usize>>,
}

impl std::error::Error for ExpressionError {}

/// `expression: message`, and where there is a place the expression with a mark below it.
impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expression: {}", self.message)?;
        let Some(place) = &self.place else {
            return write!(f, ": {:?}", around(&self.expression, 0..0).0);
        };
        let (shown, indent) = around(&self.expression, place.clone());
        let marked = self.expression.get(place.clone()).unwrap_or_default();
        let marks = marked.chars().count().clamp(1, 2 * AROUND);
        write!(f, "\n    {shown}\n    {:indent$}{}", "", "^".repeat(marks))
    }
}

/// What surrounds a place, and how many characters stand before it.
fn around(expression: &str, place: Range<usize>) -> (String, usize) {
    let before: Vec<char> = expression
        .get(..place.start)
        .unwrap_or_default()
        .chars()
        .collect();
    let after: Vec<char> = expression
        .get(place.start..)
        .unwrap_or_default()
        .chars()
        .collect();
    let from = before
        .len()
        .checked_sub(AROUND + 1)
        .map_or(0, |from| from + 1);
    let to = if after.len() > 3 * AROUND {
        3 * AROUND
    } else {
        after.len()
    };
    let dots = |cut: bool| if cut { "…" } else { "" };
    let (left, right) = (dots(from > 0), dots(to < after.len()));
    let before: String = before.into_iter().skip(from).collect();
    let after: String = after.into_iter().take(to).collect();
    let indent = left.chars().count() + before.chars().count();
    (format!("{left}{before}{after}{right}"), indent)
}

/// Compiles an expression for Ethernet frames.
///
/// # Errors
/// What libpcap says, and where; without the feature `pcap-filter`, that this program was built without it.
pub(super) fn compile(expression: &str) -> Result<Program, ExpressionError> {
    // a newline would end the expression where it is shown; libpcap takes it for a blank
    let expression = expression.replace(['\n', '\r', '\t'], " ");
    try_compile(&expression).map_err(|(message, place)| ExpressionError {
        expression,
        message,
        place,
    })
}

/// What is wrong, and where.
type Mistake = (String, Option<Range<usize>>);

fn try_compile(expression: &str) -> Result<Program, Mistake> {
    if !cfg!(feature = "pcap-filter") {
        let message = "this program was built without the feature pcap-filter; build it with, or give the \
                       program as numbers (`bpf`)";
        return Err((message.to_owned(), None));
    }
    let words = words::split(expression);
    if words.len() > MOST_WORDS {
        return Err((too_long(words.len(), "words", MOST_WORDS), None));
    }
    if let Some(unknown) = words::unknown(expression, &words) {
        return Err((unknown.message, Some(unknown.place)));
    }
    let find = |cost, optimize| {
        caret::find(expression, &words, cost, |part| {
            numbers(part, optimize).is_ok()
        })
    };
    let plain = numbers(expression, false).map_err(|message| said(message, find(1, false)))?;
    if plain.len() / 4 > MOST_INSTRUCTIONS {
        return Err((
            too_long(plain.len() / 4, "instructions", MOST_INSTRUCTIONS),
            None,
        ));
    }
    // only the optimizer sees that an expression can't be true
    let best =
        numbers(expression, true).map_err(|message| said(message, find(OPTIMIZING, true)))?;
    let program = Program::from_numbers(&best);
    program.map_err(|e| {
        (
            format!("libpcap made a program that can't be run: {e}"),
            None,
        )
    })
}

fn too_long(count: usize, what: &str, most: usize) -> String {
    format!(
        "it has {count} {what} and may have {most}; put long lists of addresses and ports into rules"
    )
}

/// libpcap's message, and a word on the place where it says only that there is something.
fn said(message: String, place: Option<Range<usize>>) -> Mistake {
    let message = match &place {
        Some(place) if message.starts_with("syntax error") && place.is_empty() => {
            "syntax error: something is missing at the end".to_owned()
        }
        _ => message,
    };
    (message, place)
}

/// The program that libpcap makes, as numbers.
#[cfg(feature = "pcap-filter")]
fn numbers(expression: &str, optimize: bool) -> Result<Vec<u32>, String> {
    // of beginnings, too: libpcap must never be given something that it asks a name server about
    if let Some(unknown) = words::unknown(expression, &words::split(expression)) {
        return Err(unknown.message);
    }
    let dead = pcap::Capture::dead(pcap::Linktype::ETHERNET).map_err(|e| e.to_string())?;
    let program = dead.compile(expression, optimize).map_err(|e| match e {
        pcap::Error::PcapError(text) => text
            .trim_start_matches("can't parse filter expression: ")
            .to_owned(),
        other => other.to_string(),
    })?;
    let instructions = program.get_instructions().iter().map(ToString::to_string);
    let text: Vec<String> = instructions.collect();
    crate::filter::bpf::numbers(&text.join(" ")).map_err(|e| e.to_string())
}

#[cfg(not(feature = "pcap-filter"))]
fn numbers(_: &str, _: bool) -> Result<Vec<u32>, String> {
    Err(String::new())
}

#[cfg(feature = "pcap-filter")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_marked_in_the_expression() {
        for (expression, marked, says) in MISTAKES {
            let error = compile(expression).unwrap_err();
            let shown = error.to_string();
            let place = error
                .place
                .clone()
                .unwrap_or_else(|| panic!("no place: {shown}"));
            assert_eq!(&expression[place], *marked, "{shown}");
            assert!(shown.contains(says), "{says}: {shown}");
        }
    }

    #[test]
    fn a_mark_stands_below_its_word() {
        let shown = |expression: &str| compile(expression).unwrap_err().to_string();
        assert!(shown("tcp prot 80").ends_with("\n    tcp prot 80\n        ^^^^"));
        let long = format!("{} or tcp prot 80", vec!["host 10.0.0.1"; 100].join(" or "));
        let lines: Vec<String> = shown(&long).lines().map(str::to_owned).collect();
        let [_, expression, marks] = &lines[..] else {
            panic!("{lines:?}")
        };
        assert!(expression.chars().count() < 200, "{expression}");
        let at = marks.find('^').unwrap();
        let marked: String = expression
            .chars()
            .skip(at)
            .take(marks.matches('^').count())
            .collect();
        assert_eq!(marked, "prot", "{expression}\n{marks}");
    }

    #[test]
    fn every_beginning_of_a_good_expression_is_known_to_be_right() {
        for expression in GOOD {
            let words = words::split(expression);
            let place = caret::find(expression, &words, 1, |part| numbers(part, false).is_ok());
            let end = expression.len()..expression.len();
            assert_eq!(place, (!words.is_empty()).then_some(end), "{expression}");
            assert!(compile(expression).is_ok(), "{expression}");
        }
    }

    #[test]
    fn a_mistake_in_a_long_expression_is_found_without_compiling_it_for_minutes() {
        let hosts: Vec<String> = (0..190_u32)
            .map(|n| format!("host 10.0.{}.{}", n / 100, n % 100))
            .collect();
        let long = format!(
            "{} or udp dst 53 or {}",
            hosts.join(" or "),
            hosts.join(" or ")
        );
        let words = words::split(&long);
        let count = std::cell::Cell::new(0);
        let place = caret::find(&long, &words, 1, |part| {
            count.set(count.get() + 1);
            // right up to the mistake, as libpcap would say
            !part.contains("dst 53") && !part.ends_with("host") && !part.ends_with("dst")
        });
        assert_eq!(&long[place.unwrap()], "53");
        assert!(count.get() < 60, "{}", count.get());
        let error = compile(&vec!["tcp"; 601].join(" or "))
            .unwrap_err()
            .to_string();
        assert!(error.contains("1201 words"), "{error}");
    }

    /// What people get wrong, the word that is marked ("" is the end: something is missing there), and what is said.
    const MISTAKES: &[(&str, &str, &str)] = &[
        ("tcp prot 80", "prot", "did you mean \"port\"?"),
        ("TCP port 80", "TCP", "did you mean \"tcp\"?"),
        (
            "tcp port 443 and not nett 10.0.0.0/8",
            "nett",
            "did you mean \"net\"?",
        ),
        ("tcp and hosst 10.0.0.1", "hosst", "did you mean \"host\"?"),
        ("tcp port 443 an udp", "an", "did you mean"),
        ("tcp port 443 and and udp", "and", "syntax error"),
        ("host 10.0.0.300", "10.0.0.300", "invalid"),
        (
            "host 10.0.0.1.2",
            "10.0.0.1.2",
            "neither a number nor an address",
        ),
        ("net 10.0.0.1/8", "10.0.0.1/8", "non-network bits"),
        ("net 10.0.0.0/33", "10.0.0.0/33", "mask length"),
        (
            "host www.example.org",
            "www.example.org",
            "write the address",
        ),
        ("src foo or dst foo", "foo", "write the address"),
        ("port 70000", "70000", "illegal port number"),
        ("tcp port htpps", "htpps", "unknown port"),
        ("tcp port 80, 443", ",", "syntax error"),
        ("udp dst 53 and ip", "53", "'udp' modifier applied to host"),
        ("src port 80 host", "host", "syntax error"),
        ("src port 80 and host", "", "missing at the end"),
        ("ip6 protochain 6 and len > 9", "protochain", "loop"),
        ("tcp and inbound", "inbound", "direction"),
        ("ifindex 3", "ifindex", "interface"),
        ("(tcp port 80", "", "missing at the end"),
        ("tcp port 80)", ")", "syntax error"),
        ("tcp port 80 or", "", "missing at the end"),
        ("len >", "", "missing at the end"),
        ("tcp[13] & 2", "", "missing at the end"),
        ("tcp[tcpflags & tcp-syn != 0", "!=", "syntax error"),
        ("ip proto tcp", "tcp", "syntax error"),
        ("ip host fe80::1", "fe80::1", "ip6 host"),
        (
            "host aa:bb:cc:dd:ee:ff",
            "aa:bb:cc:dd:ee:ff",
            "ethernet address",
        ),
        (
            "ether host 1.2.3.4",
            "1.2.3.4",
            "illegal link layer address",
        ),
        ("tcp; udp", ";", "syntax error"),
        ("tcp and udp port 53", "udp", "rejects all packets"),
        (
            "ip and (tcp or udp) and ip6 and len > 5",
            "ip6",
            "rejects all packets",
        ),
        ("not", "", "missing at the end"),
        ("vlan foo", "foo", "no word"),
        ("tcp.port == 443", "tcp.port", "no word"),
        ("ip.addr == 10.0.0.1", "ip.addr", "no word"),
        ("wlan type mgt", "type", "802.11"),
    ];

    /// One of each form of the language.
    const GOOD: &[&str] = &[
        "",
        "tcp",
        "tcp port 443 and not net 10.0.0.0/8",
        "ip6 and udp",
        "len > 100",
        "vlan 5 and tcp",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "tcp[13] & 2 = 2 and ip[6:2] & 0x1fff = 0",
        "ether[0] & 1 = 0 and ether host 00:11:22:33:44:55",
        "src or dst port 53",
        "src and dst net 10.0.0.0/8",
        "host 10.0.0.1 or 10.0.0.2 or 10.0.0.3",
        "net 10.0.0.0 mask 255.0.0.0",
        "tcp portrange 80-90 or udp portrange 1-2",
        "(tcp or udp) and (port 53 or port 80)",
        "ip proto \\tcp or ip6 proto 17",
        "ether proto 0x0800 or ether proto \\arp",
        "ip multicast or ether broadcast or ip6 multicast",
        "less 100 or greater 1000",
        "icmp[icmptype] = icmp-echo or icmp6[icmp6type] = icmp6-echo",
        "mpls 5 and ip",
        "not (src host 10.0.0.1 and dst port 80) and !udp",
        "ip6 host fe80::1 or ip6 net 2001:db8::/32",
        "tcp port http or https",
        "len - 4 > 2 * 50",
        "ip[0] & 0xf << 2 > 20",
        "llc u or llc sabme",
    ];

    #[test]
    fn a_length_is_that_on_the_wire() {
        let program = compile("greater 1000").unwrap();
        assert!(program.accepts(&[0; 60], 1500));
        assert!(!program.accepts(&[0; 60], 60));
    }
}
