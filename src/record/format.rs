//! A format: which fields, in which order.

use std::fmt::{self, Write};
use std::str::FromStr;

use crate::record::fields::hint;
use crate::record::{Field, Scope, Status, Value};

/// The fields of a flow log's records, at least one, none twice. Written as `${version} ${account-id} …`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Format {
    fields: Vec<Field>,
}

/// The 14 fields of version 2.
impl Default for Format {
    fn default() -> Self {
        Self {
            fields: Field::default_format().collect(),
        }
    }
}

impl Format {
    /// The fields.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The version of its records: the highest among its fields. There is none below 2.
    pub fn version(&self) -> u8 {
        self.fields.iter().map(|f| f.version()).max().unwrap_or(2)
    }

    /// The first line of a text file: the names.
    pub fn header(&self) -> String {
        let names: Vec<_> = self.fields.iter().map(|f| f.name()).collect();
        names.join(" ")
    }

    /// Appends the line of a record, without a line feed, from the value of each field. The version is that of the format.
    pub fn print<'v>(&self, line: &mut String, value: impl Fn(Field) -> Value<'v>) {
        for (i, field) in self.fields.iter().enumerate() {
            let value = match field {
                Field::Version => Value::Number(self.version().into()),
                other => value(*other),
            };
            let blank = if i == 0 { "" } else { " " };
            // a string takes everything
            let _ = write!(line, "{blank}{value}");
        }
    }

    /// Appends a line without a flow: NODATA or SKIPDATA. What is of a flow becomes a dash.
    pub fn print_without_flow<'v>(
        &self,
        line: &mut String,
        status: Status,
        value: impl Fn(Field) -> Value<'v>,
    ) {
        self.print(line, |field| match (field, field.scope()) {
            (Field::LogStatus, _) => Value::Text(status.name()),
            (_, Scope::Flow) => Value::Null,
            _ => value(field),
        });
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, field) in self.fields.iter().enumerate() {
            write!(f, "{}${{{field}}}", if i == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Why text is no format; columns count characters from 1.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormatError {
    /// Nothing is chosen.
    #[error(
        "a log format needs at least one field, as in \"${{version}} ${{srcaddr}} ${{dstaddr}}\""
    )]
    Empty,
    /// Something that is not `${name}`.
    #[error("column {column}: expected ${{field}}, found \"{found}\"{hint}")]
    NotAField {
        /// Where.
        column: usize,
        /// What is there.
        found: String,
        /// What to do about it, if that can be told.
        hint: &'static str,
    },
    /// A `${` without an end.
    #[error("column {column}: \"${{\" is not closed; write ${{{name}}}")]
    NotClosed {
        /// Where it begins.
        column: usize,
        /// What seems to be the name.
        name: String,
    },
    /// A name that is not known.
    #[error("column {column}: no field is called \"{name}\"{}", hint(name))]
    UnknownField {
        /// Where the name begins.
        column: usize,
        /// The name.
        name: String,
    },
    /// A field that is there already.
    #[error("column {column}: {field} is there twice; remove one")]
    Repeated {
        /// Where the second one begins.
        column: usize,
        /// The field.
        field: Field,
    },
    /// Not one blank between two fields.
    #[error("column {column}: one blank stands between two fields, none before and after them")]
    Blank {
        /// Where there is one too many or too few.
        column: usize,
    },
}

impl From<Format> for String {
    fn from(format: Format) -> Self {
        format.to_string()
    }
}

impl TryFrom<String> for Format {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        text.parse()
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        if text.trim().is_empty() {
            return Err(FormatError::Empty);
        }
        let mut fields = Vec::new();
        let mut at = 0;
        loop {
            let (field, end) = item(text, at)?;
            if fields.contains(&field) {
                let column = column(text, at);
                return Err(FormatError::Repeated { column, field });
            }
            fields.push(field);
            let behind = text.get(end..).unwrap_or_default();
            if behind.is_empty() {
                return Ok(Self { fields });
            }
            let single = behind.strip_prefix(' ').is_some_and(|b| !b.is_empty());
            if !single && (behind.starts_with("${") || behind.starts_with(char::is_whitespace)) {
                let column = column(text, end);
                return Err(FormatError::Blank { column });
            }
            at = if single { end + 1 } else { end };
        }
    }
}

/// The field that begins at a byte, and where it ends.
fn item(text: &str, at: usize) -> Result<(Field, usize), FormatError> {
    let rest = text.get(at..).unwrap_or_default();
    let here = column(text, at);
    if rest.starts_with(char::is_whitespace) {
        return Err(FormatError::Blank { column: here });
    }
    let word = rest.split_whitespace().next().unwrap_or_default();
    let Some(inside) = rest.strip_prefix("${") else {
        return Err(FormatError::NotAField {
            column: here,
            found: word.to_owned(),
            hint: what_to_do(word),
        });
    };
    let name_at = at + 2;
    let end = inside.find(|c: char| c == '}' || c.is_whitespace());
    let name = inside
        .get(..end.unwrap_or(inside.len()))
        .unwrap_or_default();
    if !inside.get(name.len()..).is_some_and(|r| r.starts_with('}')) {
        return Err(FormatError::NotClosed {
            column: here,
            name: name.to_owned(),
        });
    }
    match Field::named(name) {
        Some(field) => Ok((field, name_at + name.len() + 1)),
        None => Err(FormatError::UnknownField {
            column: column(text, name_at),
            name: name.to_owned(),
        }),
    }
}

fn what_to_do(word: &str) -> &'static str {
    if word.starts_with("$${") {
        "; only Terraform wants its $ doubled"
    } else if Field::named(word.trim_end_matches(',')).is_some() {
        "; put the name between ${ and }"
    } else {
        ""
    }
}

/// The column of a byte, in characters from 1.
fn column(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).chars().count() + 1
}
