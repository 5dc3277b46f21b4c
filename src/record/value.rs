//! What a field holds.

use std::fmt;
use std::net::IpAddr;

use crate::record::{Field, Kind};

/// A value. Text is borrowed: from the line that was read, or from whoever knows the interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Value<'a> {
    /// A dash: missing, or not applicable.
    #[default]
    Null,
    /// A number.
    Number(u64),
    /// An IP address.
    Address(IpAddr),
    /// Text.
    Text(&'a str),
}

impl<'a> Value<'a> {
    /// Reads a word as the value of a field. `None` where it can't be one.
    pub fn read(field: Field, word: &'a str) -> Option<Self> {
        if word == "-" {
            return Some(Self::Null);
        }
        match field.kind() {
            Kind::Integer | Kind::Long => number(word)
                .filter(|n| *n <= field.most())
                .map(Self::Number),
            Kind::Address => word.parse().ok().map(Self::Address),
            Kind::Text => fits(field, word).then_some(Self::Text(word)),
        }
    }

    /// Text, or nothing where it is empty.
    pub fn text(text: &'a str) -> Self {
        if text.is_empty() {
            Self::Null
        } else {
            Self::Text(text)
        }
    }

    /// The number, if it is one.
    pub const fn number(self) -> Option<u64> {
        match self {
            Self::Number(n) => Some(n),
            _ => None,
        }
    }
}

/// Digits and nothing else: `parse` would take a plus sign too.
fn number(word: &str) -> Option<u64> {
    word.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    word.parse().ok()
}

/// Whether a word is one of the few that a field can hold, where they are few.
fn fits(field: Field, word: &str) -> bool {
    match field {
        Field::Action => matches!(word, "ACCEPT" | "REJECT"),
        Field::LogStatus => Status::named(word).is_some(),
        _ => !word.is_empty(),
    }
}

/// As in a line: text can't break it, since blanks and control characters are percent-encoded.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null | Self::Text("") => f.write_str("-"),
            Self::Number(n) => n.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Text(text) => words(text, f),
        }
    }
}

fn words(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let breaks = |c: char| c.is_whitespace() || c.is_control();
    if text == "-" {
        // the dash is taken
        return f.write_str("%2D");
    }
    let mut rest = text;
    while let Some(at) = rest.find(breaks) {
        let (before, behind) = rest.split_at(at);
        f.write_str(before)?;
        let length = behind.chars().next().map_or(0, char::len_utf8);
        let (blank, behind) = behind.split_at(length);
        for byte in blank.bytes() {
            write!(f, "%{byte:02X}")?;
        }
        rest = behind;
    }
    f.write_str(rest)
}

/// What a line stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Status {
    /// A flow.
    Ok,
    /// An interval without traffic.
    NoData,
    /// An interval in which records were lost; one such line may stand for many.
    SkipData,
}

impl Status {
    /// The word of `log-status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::NoData => "NODATA",
            Self::SkipData => "SKIPDATA",
        }
    }

    /// The status of that name.
    pub fn named(word: &str) -> Option<Self> {
        let all = [Self::Ok, Self::NoData, Self::SkipData];
        all.into_iter().find(|status| status.name() == word)
    }
}
