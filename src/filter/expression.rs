//! pcap-filter expressions: compiled by libpcap, run by our own machine.
//!
//! libpcap only compiles. Its own run of a program takes the captured length for the packet's, so that `len` and
//! `greater` would misjudge every packet that was cut; [`Program`] is told both. libpcap says what is wrong but not
//! where: the place is found by compiling ever longer beginnings of the expression (see [`caret`](crate::filter::caret)).

use std::fmt;

use crate::filter::Program;

/// An expression that does not compile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExpressionError {
    /// The expression.
    pub expression: String,
    /// What is wrong, in libpcap's words.
    pub message: String,
    /// The bytes of the expression that it is about, where that could be found.
    pub place: Option<std::ops::Range<usize>>,
}

impl std::error::Error for ExpressionError {}

/// `expression: message`, and where there is a place the expression with a mark below it.
impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expression: {}", self.message)?;
        let Some(place) = &self.place else {
            return write!(f, ": {:?}", self.expression);
        };
        let chars = |s: Option<&str>| s.unwrap_or_default().chars().count();
        let indent = chars(self.expression.get(..place.start));
        let marks = chars(self.expression.get(place.clone())).max(1);
        write!(
            f,
            "\n    {}\n    {:indent$}{}",
            self.expression,
            "",
            "^".repeat(marks)
        )
    }
}

/// Compiles an expression for Ethernet frames.
///
/// # Errors
/// What libpcap says, and where; without the feature `pcap-filter`, that this program was built without it.
pub(super) fn compile(expression: &str) -> Result<Program, ExpressionError> {
    // a newline would end the expression where it is shown; libpcap takes it for a blank
    let expression = expression.replace(['\n', '\r', '\t'], " ");
    raw(&expression).map_err(|message| ExpressionError {
        place: crate::filter::caret::find(&expression, |part| raw(part).is_ok()),
        message,
        expression,
    })
}

#[cfg(feature = "pcap-filter")]
fn raw(expression: &str) -> Result<Program, String> {
    let dead = pcap::Capture::dead(pcap::Linktype::ETHERNET).map_err(|e| e.to_string())?;
    let program = dead.compile(expression, true).map_err(|e| match e {
        pcap::Error::PcapError(text) => text
            .trim_start_matches("can't parse filter expression: ")
            .to_owned(),
        other => other.to_string(),
    })?;
    let numbers: Vec<u32> = program
        .get_instructions()
        .iter()
        .flat_map(|insn| {
            insn.to_string()
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|number| number.parse().ok())
        .collect();
    Program::from_numbers(&numbers)
        .map_err(|e| format!("libpcap made a program that can't be run: {e}"))
}

#[cfg(not(feature = "pcap-filter"))]
fn raw(_: &str) -> Result<Program, String> {
    Err("this program was built without the feature pcap-filter; build it with, or give the program as numbers (`bpf`)"
        .to_owned())
}

#[cfg(all(test, feature = "pcap-filter"))]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_marked_in_the_expression() {
        for (expression, marked) in [
            ("tcp prot 80", "prot"),
            ("tcp port 443 and not nett 10.0.0.0/8", "nett"),
            ("tcp port 443 and and udp", "and"),
            ("host 10.0.0.300", "10.0.0.300"),
            ("(tcp port 80", ""),
        ] {
            let error = compile(expression).unwrap_err();
            let shown = error.to_string();
            let place = error
                .place
                .clone()
                .unwrap_or_else(|| panic!("no place: {shown}"));
            assert_eq!(&expression[place], marked, "{shown}");
        }
    }

    #[test]
    fn good_expressions_compile() {
        for expression in [
            "",
            "tcp",
            "tcp port 443 and not net 10.0.0.0/8",
            "ip6 and udp",
            "len > 100",
            "vlan 5 and tcp",
        ] {
            assert!(compile(expression).is_ok(), "{expression}");
        }
    }

    #[test]
    fn a_length_is_that_on_the_wire() {
        let program = compile("greater 1000").unwrap();
        assert!(program.accepts(&[0; 60], 1500));
        assert!(!program.accepts(&[0; 60], 60));
    }
}
