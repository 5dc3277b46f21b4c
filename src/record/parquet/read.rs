//! Parquet into records: ours, AWS's, and those that other tools have written again.
//!
//! Some rows are held at a time, however large the file is. The crate may panic over a damaged file; that is a fault of the file too.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use ::parquet::basic::{ConvertedType, Type as Physical};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{ChunkReader, FileReader, RowGroupReader, SerializedFileReader};
use ::parquet::schema::types::ColumnDescriptor;

use crate::record::{Column, Columns, Damage, Field, Kind, Record, Value};

/// Rows that are held.
const ROWS: usize = 1024;

/// What is wrong with a file, or with one of its rows.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It can't be read, or not any further.
    #[error("it is damaged, or no Parquet: {0}")]
    File(String),
    /// Its columns are not those of flow logs.
    #[error("its columns are not those of flow logs: {0}")]
    Columns(String),
    /// A row is no record; the next one may be.
    #[error("{0}")]
    Row(Damage),
}

/// The records of a file.
#[allow(
    missing_debug_implementations,
    reason = "the crate's readers have none"
)]
pub struct Reader {
    file: Box<dyn FileReader>,
    columns: Columns,
    /// For each of the columns, which one of the file it is, and its kind.
    places: Vec<usize>,
    group: usize,
    open: Option<Vec<ColumnReader>>,
    held: Vec<Held>,
    rows: usize,
    row: usize,
}

/// The values of a column for the rows at hand.
#[derive(Default)]
struct Held {
    unsigned: bool,
    optional: bool,
    numbers: Vec<i64>,
    texts: Vec<ByteArray>,
    /// For each row the place of its value, if it has one.
    places: Vec<Option<usize>>,
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Fault::File`] and [`Fault::Columns`].
    pub fn open(file: impl ChunkReader + 'static) -> Result<Self, Fault> {
        let open =
            || SerializedFileReader::new(file).map(|file| Box::new(file) as Box<dyn FileReader>);
        let file = guarded(open)?;
        let schema = file.metadata().file_metadata().schema_descr_ptr();
        let fits = |(_, column): &(usize, &ColumnDescriptor)| is_plain(column);
        let all = || schema.columns().iter().map(|column| &**column).enumerate();
        let places: Vec<_> = all().filter(fits).map(|(at, _)| at).collect();
        let names: Vec<_> = all()
            .filter(fits)
            .map(|(_, c)| c.name().replace('_', "-"))
            .collect();
        let columns = Columns::named(names.iter().map(String::as_str));
        let columns = columns.ok_or_else(|| Fault::Columns(shown(&names)))?;
        Ok(Self {
            held: all().filter(fits).map(|(_, c)| Held::of(c)).collect(),
            file,
            columns,
            places,
            group: 0,
            open: None,
            rows: 0,
            row: 0,
        })
    }

    /// The columns.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Rows, as the end of the file says.
    pub fn len(&self) -> u64 {
        u64::try_from(self.file.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Whether the end of the file says that there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next record.
    ///
    /// # Errors
    /// [`Fault::Row`]: this row is none. [`Fault::File`]: there will be no more.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, Fault> {
        while self.row >= self.rows {
            if !self.load()? {
                return Ok(None);
            }
        }
        let row = self.row;
        self.row += 1;
        let columns = self.columns.list().iter().zip(&self.held).enumerate();
        let values = columns.map(|(at, (column, held))| held.value(column, at, row));
        let values = values.collect::<Result<Vec<_>, _>>();
        let record = values.and_then(|values| self.columns.record(values));
        record.map(Some).map_err(Fault::Row)
    }

    /// Reads further rows; `false` at the end.
    fn load(&mut self) -> Result<bool, Fault> {
        (self.row, self.rows) = (0, 0);
        let mut readers = match self.open.take() {
            Some(readers) => readers,
            None if self.group < self.file.num_row_groups() => {
                self.group += 1;
                let (file, group) = (&self.file, self.group - 1);
                guarded(|| column_readers(&*file.get_row_group(group)?, &self.places))?
            }
            None => return Ok(false),
        };
        let held = &mut self.held;
        let counts = guarded(|| {
            let pairs = readers.iter_mut().zip(held.iter_mut());
            pairs
                .map(|(reader, held)| held.load(reader))
                .collect::<Result<Vec<_>, _>>()
        })?;
        self.rows = counts.first().copied().unwrap_or(0);
        if counts.iter().any(|count| *count != self.rows) {
            self.rows = 0;
            self.group = self.file.num_row_groups();
            return Err(Fault::File(
                "its columns do not have the same number of rows".into(),
            ));
        }
        // of a group that is over nothing is left, and the next one is begun
        self.open = Some(readers).filter(|_| self.rows > 0);
        Ok(true)
    }
}

/// Columns of other types, and nested ones, are no fields.
fn is_plain(column: &ColumnDescriptor) -> bool {
    let known = matches!(
        column.physical_type(),
        Physical::INT32 | Physical::INT64 | Physical::BYTE_ARRAY
    );
    known
        && column.max_rep_level() == 0
        && column.max_def_level() <= 1
        && column.path().parts().len() == 1
}

fn shown(names: &[String]) -> String {
    let names: Vec<_> = names.iter().take(8).map(String::as_str).collect();
    names.join(", ").chars().take(200).collect()
}

fn column_readers(
    group: &dyn RowGroupReader,
    places: &[usize],
) -> Result<Vec<ColumnReader>, ParquetError> {
    places
        .iter()
        .map(|at| group.get_column_reader(*at))
        .collect()
}

/// Does what may panic over a damaged file, and says so in words only.
fn guarded<T>(what: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, Fault> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let done = panic::catch_unwind(AssertUnwindSafe(what));
    panic::set_hook(hook);
    match done {
        Ok(done) => done.map_err(|error| Fault::File(error.to_string())),
        Err(why) => Err(Fault::File(words(&*why))),
    }
}

fn words(why: &(dyn Any + Send)) -> String {
    let text = why.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| why.downcast_ref::<&str>().copied());
    text.unwrap_or("it is not as it should be").to_owned()
}

impl Held {
    fn of(column: &ColumnDescriptor) -> Self {
        Self {
            unsigned: is_unsigned(column),
            optional: column.max_def_level() > 0,
            ..Self::default()
        }
    }

    /// Reads the values of some rows, and says of how many.
    fn load(&mut self, reader: &mut ColumnReader) -> Result<usize, ParquetError> {
        self.numbers.clear();
        self.texts.clear();
        self.places.clear();
        match reader {
            ColumnReader::Int32ColumnReader(reader) => {
                let mut narrow = Vec::with_capacity(ROWS);
                let rows = self.fill::<Int32Type>(reader, &mut narrow)?;
                let unsigned = self.unsigned;
                let wide = |n: i32| {
                    if unsigned {
                        i64::from(n as u32)
                    } else {
                        i64::from(n)
                    }
                };
                self.numbers.extend(narrow.into_iter().map(wide));
                Ok(rows)
            }
            ColumnReader::Int64ColumnReader(reader) => {
                let mut numbers = std::mem::take(&mut self.numbers);
                let rows = self.fill::<Int64Type>(reader, &mut numbers);
                self.numbers = numbers;
                rows
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                let mut texts = std::mem::take(&mut self.texts);
                let rows = self.fill::<ByteArrayType>(reader, &mut texts);
                self.texts = texts;
                rows
            }
            _ => Err(ParquetError::General("a column of another type".into())),
        }
    }

    /// Reads up to [`ROWS`] rows of a column, and remembers which of them have a value.
    fn fill<T: DataType>(
        &mut self,
        reader: &mut ColumnReaderImpl<T>,
        values: &mut Vec<T::T>,
    ) -> Result<usize, ParquetError> {
        let mut present = Vec::with_capacity(ROWS);
        let mut rows = 0;
        // a page may end before
        while rows < ROWS {
            let (read, _, _) =
                reader.read_records(ROWS - rows, Some(&mut present), None, values)?;
            if read == 0 {
                break;
            }
            rows += read;
        }
        let mut next = 0;
        for row in 0..rows {
            let is_there = !self.optional || present.get(row).is_some_and(|level| *level > 0);
            self.places.push(is_there.then_some(next));
            next += usize::from(is_there);
        }
        Ok(rows)
    }

    /// The value of a row.
    fn value(&self, column: &Column, at: usize, row: usize) -> Result<Value<'_>, Damage> {
        let Some(place) = self.places.get(row).copied().flatten() else {
            return Ok(Value::Null);
        };
        if let Some(number) = self.numbers.get(place) {
            return number_of(column, at, *number);
        }
        let text = self
            .texts
            .get(place)
            .map(ByteArray::data)
            .unwrap_or_default();
        match str::from_utf8(text) {
            Ok(text) => column.value(at, text),
            Err(_) => Err(Damage::wrong(at, known(column), "no UTF-8 text")),
        }
    }
}

/// Damage is told by field; where the column is none it is as if it were the first.
fn known(column: &Column) -> Field {
    match column {
        Column::Known(field) => *field,
        _ => Field::Version,
    }
}

fn number_of(column: &Column, at: usize, number: i64) -> Result<Value<'static>, Damage> {
    let wrong = || Damage::wrong(at, known(column), &number.to_string());
    let value = u64::try_from(number).map_err(|_| wrong())?;
    match column {
        Column::Known(field) if field.kind() == Kind::Address || value > field.most() => {
            Err(wrong())
        }
        _ => Ok(Value::Number(value)),
    }
}

fn is_unsigned(column: &ColumnDescriptor) -> bool {
    matches!(
        column.converted_type(),
        ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32
    )
}
