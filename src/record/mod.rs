//! Records in the format of VPC Flow Logs: fields, formats, lines, Parquet.
//!
//! Takes: a `log_format`, a header line, lines of text; or values, field by field. Gives: [`Format`] (which fields, in
//! which order, and the version that follows), [`Record`] (a line with typed values), and lines. Holds: a value that is
//! missing is a dash in text and [`Value::Null`] here; what is read and printed again is the same line; a
//! column that is not known is kept as text; a line that does not fit its columns is an error that says where.
//!
//! Writing is strict, since a format can't be changed later; reading is lenient, since others write too.

mod columns;
mod extra;
mod fields;
mod flags;
mod format;
#[cfg(feature = "parquet")]
pub mod parquet;
#[cfg(test)]
mod tests;
mod value;

pub use columns::{Column, Columns, Damage, Record};
pub use extra::{Extra, UnknownExtra};
pub use fields::{Field, Kind, Scope};
pub use flags::tcp_flags;
pub use format::{Format, FormatError};
pub use value::{Status, Value};
