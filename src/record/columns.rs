//! Lines that others wrote: the columns of a file, and a line read by them.

use std::fmt;

use crate::record::{Extra, Field, Format, Kind, Status, Value};

/// One column of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Column {
    /// A field that is known.
    Known(Field),
    /// One of our own.
    Own(Extra),
    /// A name that is not known: a newer version of the format, or somebody's own.
    Other(Box<str>),
}

impl Column {
    fn named(name: &str) -> Self {
        let own = || Extra::named(name).map(Self::Own);
        let known = Field::named(name).map(Self::Known).or_else(own);
        known.unwrap_or_else(|| Self::Other(name.into()))
    }

    /// What it holds; text where that is not known.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Known(field) => field.kind(),
            Self::Own(extra) => extra.kind(),
            Self::Other(_) => Kind::Text,
        }
    }

    /// The value of a word.
    pub(super) fn value<'a>(&self, at: usize, word: &'a str) -> Result<Value<'a>, Damage> {
        match self {
            Self::Known(field) => {
                Value::read(*field, word).ok_or_else(|| Damage::wrong(at, *field, word))
            }
            _ if word == "-" => Ok(Value::Null),
            Self::Own(extra) if extra.kind() != Kind::Text => {
                Ok(word.parse().map_or(Value::Text(word), Value::Number))
            }
            _ => Ok(Value::Text(word)),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(field) => field.name(),
            Self::Own(extra) => extra.name(),
            Self::Other(name) => name,
        }
    }
}

/// The columns of a file, from its header line or from a format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Columns {
    list: Vec<Column>,
}

impl From<&Format> for Columns {
    fn from(format: &Format) -> Self {
        let known = format.fields().iter().copied().map(Column::Known);
        Self {
            list: known.collect(),
        }
    }
}

impl Columns {
    /// From a header line; `None` if the line is none. In a header all words look like names, and at least half of them
    /// are known.
    pub fn of_header(line: &str) -> Option<Self> {
        let columns = Self::named(line.split_ascii_whitespace());
        columns.filter(|columns| columns.list.iter().all(|c| is_name(c.name())))
    }

    /// From names, half of which are known; our own ones say nothing for or against.
    pub(super) fn named<'n>(names: impl Iterator<Item = &'n str>) -> Option<Self> {
        let list: Vec<_> = names.map(Column::named).collect();
        let count = |which: fn(&&Column) -> bool| list.iter().filter(which).count();
        let known = count(|c| matches!(c, Column::Known(_)));
        let other = count(|c| matches!(c, Column::Other(_)));
        (known > 0 && known >= other).then_some(Self { list })
    }

    /// The columns.
    pub fn list(&self) -> &[Column] {
        &self.list
    }

    /// Where a field stands, if it is there.
    pub fn place(&self, field: Field) -> Option<usize> {
        self.list.iter().position(|c| *c == Column::Known(field))
    }

    /// The header line.
    pub fn header(&self) -> String {
        let names: Vec<_> = self.list.iter().map(Column::name).collect();
        names.join(" ")
    }

    /// Reads a line. Any number of blanks may stand between two values.
    pub fn read<'a>(&'a self, line: &'a str) -> Result<Record<'a>, Damage> {
        let mut values = Vec::with_capacity(self.list.len());
        let mut words = line.split_ascii_whitespace();
        for (at, (column, word)) in self.list.iter().zip(words.by_ref()).enumerate() {
            values.push(column.value(at, word)?);
        }
        let found = values.len() + words.count();
        if found != self.list.len() {
            return Err(Damage::Count {
                found,
                expected: self.list.len(),
            });
        }
        self.record(values)
    }

    /// A record of values, one for each column.
    pub(super) fn record<'a>(&'a self, values: Vec<Value<'a>>) -> Result<Record<'a>, Damage> {
        let record = Record {
            columns: self,
            values,
        };
        record.check().map(|()| record)
    }
}

fn is_name(word: &str) -> bool {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(letters)
}

/// A line that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    columns: &'a Columns,
    values: Vec<Value<'a>>,
}

impl<'a> Record<'a> {
    /// The columns that it was read by.
    pub const fn columns(&self) -> &'a Columns {
        self.columns
    }

    /// The values, in the order of the columns.
    pub fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    /// The value of a field; null where there is no such column.
    pub fn get(&self, field: Field) -> Value<'a> {
        let place = self.columns.place(field);
        place
            .and_then(|at| self.values.get(at).copied())
            .unwrap_or_default()
    }

    /// What the line stands for. Without that column it is a flow's.
    pub fn status(&self) -> Status {
        match self.get(Field::LogStatus) {
            Value::Text(word) => Status::named(word).unwrap_or(Status::Ok),
            _ => Status::Ok,
        }
    }

    /// What no column alone can tell.
    fn check(&self) -> Result<(), Damage> {
        let (start, end) = (self.get(Field::Start), self.get(Field::End));
        match (start.number(), end.number()) {
            (Some(start), Some(end)) if start > end => Err(Damage::Backwards { start, end }),
            _ => Ok(()),
        }
    }
}

/// As the line that it was read from, with single blanks.
impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, value) in self.values.iter().enumerate() {
            write!(f, "{}{value}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Why a line is no record.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// Too few or too many values.
    #[error("{found} values, where the columns are {expected}")]
    Count {
        /// Values of the line.
        found: usize,
        /// Columns of the file.
        expected: usize,
    },
    /// A value that its field can't hold.
    #[error("value {place} ({field}) is \"{word}\", which it can't be")]
    Value {
        /// Which value, from 1.
        place: usize,
        /// The field.
        field: Field,
        /// What stands there, cut to a readable length.
        word: String,
    },
    /// An end before the start.
    #[error("the record ends ({end}) before it starts ({start})")]
    Backwards {
        /// Its start.
        start: u64,
        /// Its end.
        end: u64,
    },
}

impl Damage {
    /// As much of a word as a message shows.
    const SHOWN: usize = 40;

    pub(super) fn wrong(at: usize, field: Field, word: &str) -> Self {
        let word = word.chars().take(Self::SHOWN).collect::<String>();
        Self::Value {
            place: at + 1,
            field,
            word: word.escape_debug().to_string(),
        }
    }
}
