//! The summary, as text and as JSON.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::cli::flows::cell::{Cell, table};
use crate::cli::flows::groups::{Summary, Sums};
use crate::cli::flows::read::Reading;
use crate::record::{Field, Record};
use crate::time::Timestamp;

/// What is printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    files: u64,
    damaged_files: u64,
    damaged_lines: u64,
    records_left_out: u64,
    #[serde(flatten)]
    all: Sums,
    no_data: u64,
    skip_data: u64,
    accepted: u64,
    rejected: u64,
    records_without_sums: u64,
    by: Vec<&'static str>,
    groups: usize,
    records_of_unsummed_groups: u64,
    top: Vec<Map<String, Json>>,
    #[serde(skip)]
    rows: Vec<Vec<Cell>>,
}

impl Report {
    /// Of what was gathered, with the `most` largest groups.
    pub(super) fn of(summary: &Summary, reading: &Reading, most: usize) -> Self {
        let top = summary.top(most);
        let rows = top.iter().map(|(key, sums)| row(key, sums)).collect();
        let object = |(key, sums): &(&[Cell], Sums)| group(&summary.by, key, sums);
        Self {
            files: reading.files,
            damaged_files: reading.damaged_files,
            damaged_lines: reading.damaged_lines,
            records_left_out: reading.left_out,
            all: summary.all,
            no_data: summary.no_data,
            skip_data: summary.skip_data,
            accepted: summary.accepted,
            rejected: summary.rejected,
            records_without_sums: summary.without_sums,
            by: summary.by.iter().map(|f| f.name()).collect(),
            groups: summary.groups.len(),
            records_of_unsummed_groups: summary.beyond.records,
            top: top.iter().map(object).collect(),
            rows,
        }
    }

    /// As one JSON object.
    pub(super) fn json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// For a person.
    pub(super) fn text(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "files       {}", self.files)?;
        writeln!(
            out,
            "records     {}: {} ACCEPT, {} REJECT; {} NODATA, {} SKIPDATA beside them",
            self.all.records, self.accepted, self.rejected, self.no_data, self.skip_data
        )?;
        writeln!(out, "packets     {}", self.all.packets)?;
        writeln!(out, "bytes       {}", self.all.bytes)?;
        if let (Some(start), Some(end)) = (self.all.start, self.all.end) {
            writeln!(out, "time        {} to {}", moment(start), moment(end))?;
        }
        self.oddities(out)?;
        if self.rows.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n{} of {} by {}, those with most bytes first",
            self.rows.len(),
            self.groups,
            self.by.join(", ")
        )?;
        let sums = ["packets", "bytes", "records"];
        let header: Vec<_> = self
            .by
            .iter()
            .chain(&sums)
            .map(|n| (*n).to_owned())
            .collect();
        table(&header, &self.rows, out)
    }

    fn oddities(&self, out: &mut impl Write) -> io::Result<()> {
        for (count, what) in [
            (
                self.skip_data,
                "SKIPDATA: so many intervals are known to be incomplete",
            ),
            (self.records_left_out, "records were not asked for"),
            (
                self.records_without_sums,
                "records tell no packets or no bytes",
            ),
            (
                self.records_of_unsummed_groups,
                "records of further groups are in the sums only",
            ),
            (self.damaged_lines, "damaged lines"),
            (
                self.damaged_files,
                "files were not read, or not to their end",
            ),
        ] {
            if count > 0 {
                writeln!(out, "note        {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// A moment as people write it, to the second.
pub(super) fn moment(secs: u64) -> String {
    let text = Timestamp::from_parts(secs, 0).to_string();
    text.replace(".000000000", "")
}

fn row(key: &[Cell], sums: &Sums) -> Vec<Cell> {
    let numbers = [sums.packets, sums.bytes, sums.records];
    let numbers = numbers.map(Cell::Number);
    key.iter().cloned().chain(numbers).collect()
}

fn group(by: &[Field], key: &[Cell], sums: &Sums) -> Map<String, Json> {
    let mut object = keyed(by, key);
    if let Ok(Json::Object(sums)) = serde_json::to_value(sums) {
        object.extend(sums);
    }
    object
}

/// The key of a group as an object.
pub(super) fn keyed(by: &[Field], key: &[Cell]) -> Map<String, Json> {
    let pairs = by.iter().zip(key);
    pairs.map(|(f, c)| (f.name().to_owned(), json(c))).collect()
}

fn json(cell: &Cell) -> Json {
    serde_json::to_value(cell).unwrap_or_default()
}

/// A record as an object: the names of its columns, numbers as numbers, dashes as null.
pub(super) fn object(record: &Record<'_>) -> Map<String, Json> {
    let columns = record.columns().list().iter();
    let pairs = columns.zip(record.values());
    pairs
        .map(|(column, value)| (column.name().to_owned(), json(&Cell::from(*value))))
        .collect()
}
