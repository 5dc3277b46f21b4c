//! A value that outlives its line: what records are counted by, and how it is shown.

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::record::Value;

/// An owned [`Value`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Cell {
    Null,
    Number(u64),
    Address(IpAddr),
    Text(Box<str>),
}

impl From<Value<'_>> for Cell {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Number(n) => Self::Number(n),
            Value::Address(address) => Self::Address(address),
            Value::Text(text) => Self::Text(text.into()),
        }
    }
}

/// As in a line: text from a file that others wrote must not drive a terminal.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self {
            Self::Null => Value::Null,
            Self::Number(n) => Value::Number(*n),
            Self::Address(address) => Value::Address(*address),
            Self::Text(text) => Value::Text(text),
        };
        value.fmt(f)
    }
}

/// A dash is null.
impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Number(n) => serializer.serialize_u64(*n),
            Self::Address(address) => serializer.collect_str(address),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// Prints rows as a table: columns as wide as they need to be, numbers to the right.
pub(super) fn table(header: &[String], rows: &[Vec<Cell>], out: &mut impl Write) -> io::Result<()> {
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i));
        let widest = cells.map(|cell| cell.to_string().chars().count()).max();
        widest
            .unwrap_or(0)
            .max(header.get(i).map_or(0, String::len))
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let is_number = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i));
        cells.clone().any(|c| matches!(c, Cell::Number(_)))
            && cells.clone().all(|c| !matches!(c, Cell::Text(_)))
    };
    let right: Vec<_> = (0..header.len()).map(is_number).collect();
    let mut line = |cells: &mut dyn Iterator<Item = String>| {
        let mut text = String::new();
        for ((cell, width), right) in cells.zip(&widths).zip(&right) {
            let padded = if *right {
                format!("  {cell:>width$}")
            } else {
                format!("  {cell:<width$}")
            };
            text.push_str(&padded);
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(&mut header.iter().cloned())?;
    rows.iter()
        .try_for_each(|row| line(&mut row.iter().map(Cell::to_string)))
}
