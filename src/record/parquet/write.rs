//! Lines of text into Parquet.

use std::io::{self, BufRead, Write};
use std::sync::Arc;

use ::parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::types::{Type, TypePtr};

use crate::record::parquet::other;
use crate::record::{Column, Columns, Damage, Kind, Record, Value};

/// Rows and bytes of text after which a row group is written: what is held in memory.
const MOST_ROWS: usize = 65_536;
const MOST_TEXT: usize = 8 << 20;

/// Writes the lines of a text file, the header line first, as Parquet.
///
/// # Errors
/// What the system says; a line that is no record.
pub fn from_lines<W: Write + Send>(lines: impl BufRead, out: W) -> io::Result<W> {
    in_groups(lines, out, MOST_ROWS)
}

/// The same, for lines that are not to be lost for one among them: what is no record is left out, and counted.
///
/// # Errors
/// What the system says; a file without a header line.
pub fn salvage<W: Write + Send>(lines: impl BufRead, out: W) -> io::Result<(W, u64)> {
    let mut unfit = 0;
    let out = convert(lines, out, MOST_ROWS, |_| {
        unfit += 1;
        Ok(())
    })?;
    Ok((out, unfit))
}

/// With so many rows in a row group at most.
pub(super) fn in_groups<W: Write + Send>(
    lines: impl BufRead,
    out: W,
    most: usize,
) -> io::Result<W> {
    convert(lines, out, most, |damage| Err(invalid(damage)))
}

/// `unfit` is told of lines that are no records.
fn convert<W: Write + Send>(
    mut lines: impl BufRead,
    out: W,
    most: usize,
    mut unfit: impl FnMut(Damage) -> io::Result<()>,
) -> io::Result<W> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let columns = Columns::of_header(line.trim_end());
    let columns = columns.ok_or_else(|| invalid(format!("no header line: {line:?}")))?;
    let schema = schema(&columns).map_err(other)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::GZIP(Default::default()))
        .set_created_by(concat!("mirrortap version ", env!("CARGO_PKG_VERSION")).to_owned());
    let properties = Arc::new(properties.build());
    let mut writer = SerializedFileWriter::new(out, schema, properties).map_err(other)?;
    let mut group = Group::of(&columns);
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            break;
        }
        match columns.read(line.trim_end()) {
            Ok(record) => group.add(&record, line.len()),
            Err(damage) => {
                unfit(damage)?;
                continue;
            }
        }
        if group.rows >= most || group.text >= MOST_TEXT {
            group.write(&mut writer).map_err(other)?;
        }
    }
    group.write(&mut writer).map_err(other)?;
    writer.into_inner().map_err(other)
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn schema(columns: &Columns) -> Result<TypePtr, ParquetError> {
    let fields = columns.list().iter().map(field);
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    let schema = Type::group_type_builder("flow_log").with_fields(fields);
    schema.build().map(Arc::new)
}

fn field(column: &Column) -> Result<TypePtr, ParquetError> {
    let name = column.name().replace('-', "_");
    let (physical, logical) = match column.kind() {
        Kind::Integer => (Physical::INT32, None),
        Kind::Long => (Physical::INT64, None),
        Kind::Address | Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
    };
    let builder = Type::primitive_type_builder(&name, physical);
    let builder = builder.with_repetition(Repetition::OPTIONAL);
    builder.with_logical_type(logical).build().map(Arc::new)
}

/// The rows of a row group, by column.
struct Group {
    columns: Vec<Held>,
    rows: usize,
    text: usize,
}

/// The values of a column: those that are not null, and for each row 1 or, where it is null, 0.
struct Held {
    values: Values,
    present: Vec<i16>,
}

enum Values {
    Integers(Vec<i32>),
    Longs(Vec<i64>),
    Texts(Vec<ByteArray>),
}

impl Group {
    fn of(columns: &Columns) -> Self {
        let held = |column: &Column| Held {
            values: match column.kind() {
                Kind::Integer => Values::Integers(Vec::new()),
                Kind::Long => Values::Longs(Vec::new()),
                Kind::Address | Kind::Text => Values::Texts(Vec::new()),
            },
            present: Vec::new(),
        };
        Self {
            columns: columns.list().iter().map(held).collect(),
            rows: 0,
            text: 0,
        }
    }

    fn add(&mut self, record: &Record<'_>, text: usize) {
        for (held, value) in self.columns.iter_mut().zip(record.values()) {
            let present = held.values.push(*value);
            held.present.push(i16::from(present));
        }
        self.rows += 1;
        self.text += text;
    }

    /// Writes the rows, if there are any, and is empty then.
    fn write<W: Write + Send>(
        &mut self,
        writer: &mut SerializedFileWriter<W>,
    ) -> Result<(), ParquetError> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = writer.next_row_group()?;
        for held in &mut self.columns {
            held.write(&mut group)?;
        }
        (self.rows, self.text) = (0, 0);
        group.close().map(|_| ())
    }
}

impl Values {
    /// Whether it is one: what does not fit is null.
    fn push(&mut self, value: Value<'_>) -> bool {
        match (self, value) {
            (_, Value::Null) => false,
            (Self::Integers(all), Value::Number(n)) => {
                i32::try_from(n).map(|n| all.push(n)).is_ok()
            }
            (Self::Longs(all), Value::Number(n)) => i64::try_from(n).map(|n| all.push(n)).is_ok(),
            (Self::Integers(_) | Self::Longs(_), _) => false,
            (Self::Texts(all), Value::Text(text)) => {
                push_text(all, text);
                true
            }
            (Self::Texts(all), value) => {
                push_text(all, &value.to_string());
                true
            }
        }
    }
}

/// Neighbours are often alike, and then share their memory.
fn push_text(all: &mut Vec<ByteArray>, text: &str) {
    let last = all.last().filter(|last| last.data() == text.as_bytes());
    let text = last.cloned().unwrap_or_else(|| ByteArray::from(text));
    all.push(text);
}

impl Held {
    fn write<W: Write + Send>(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        let Some(mut column) = group.next_column()? else {
            return Err(ParquetError::General(
                "more columns than the schema has".into(),
            ));
        };
        let present = Some(self.present.as_slice());
        match (column.untyped(), &mut self.values) {
            (ColumnWriter::Int32ColumnWriter(writer), Values::Integers(all)) => {
                writer.write_batch(all, present, None)?;
                all.clear();
            }
            (ColumnWriter::Int64ColumnWriter(writer), Values::Longs(all)) => {
                writer.write_batch(all, present, None)?;
                all.clear();
            }
            (ColumnWriter::ByteArrayColumnWriter(writer), Values::Texts(all)) => {
                writer.write_batch(all, present, None)?;
                all.clear();
            }
            _ => return Err(ParquetError::General("a column of another type".into())),
        }
        self.present.clear();
        column.close()
    }
}
