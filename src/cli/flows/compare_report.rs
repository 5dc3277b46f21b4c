//! The comparison, as text and as JSON.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::cli::flows::cell::{Cell, table};
use crate::cli::flows::compare::{Comparison, Outcome, Set, Stretch, Tally};
use crate::cli::flows::report::{keyed, moment};
use crate::record::Field;

/// What is printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    theirs: Set,
    ours: Set,
    common_start: Option<u64>,
    common_end: Option<u64>,
    equal: u64,
    /// We have less, or nothing.
    lacking: Tally,
    /// We have nothing.
    absent: Tally,
    /// We have more, or they have nothing.
    surplus: Tally,
    at_edge: u64,
    outside: u64,
    by: Vec<&'static str>,
    differing: usize,
    top: Vec<Map<String, Json>>,
    #[serde(skip)]
    rows: Vec<Vec<Cell>>,
}

impl Report {
    /// Of an outcome, with the `most` largest differences.
    pub(super) fn of(outcome: &Outcome, comparison: &Comparison, most: usize) -> Self {
        let shown = || outcome.differing.iter().take(most);
        Self {
            theirs: comparison.theirs,
            ours: comparison.ours,
            common_start: outcome.common.map(|(start, _)| start),
            common_end: outcome.common.map(|(_, end)| end),
            equal: outcome.equal,
            lacking: outcome.lacking,
            absent: outcome.absent,
            surplus: outcome.surplus,
            at_edge: outcome.at_edge,
            outside: outcome.outside,
            by: comparison.by.iter().map(|f| f.name()).collect(),
            differing: outcome.differing.len(),
            top: shown().map(|s| object(&comparison.by, s)).collect(),
            rows: shown().map(row).collect(),
        }
    }

    /// As one JSON object.
    pub(super) fn json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// For a person.
    pub(super) fn text(&self, out: &mut impl Write) -> io::Result<()> {
        set("theirs", &self.theirs, out)?;
        set("ours", &self.ours, out)?;
        match (self.common_start, self.common_end) {
            (Some(start), Some(end)) if start <= end => {
                writeln!(out, "both cover  {} to {}", moment(start), moment(end))?;
            }
            _ => writeln!(out, "both cover  no time: nothing can be compared")?,
        }
        writeln!(out, "equal       {} stretches of flows", self.equal)?;
        self.tally("ours lack", &self.lacking, out)?;
        self.tally("of these", &self.absent, out)?;
        self.tally("ours have", &self.surplus, out)?;
        if self.at_edge + self.outside > 0 {
            writeln!(
                out,
                "not judged  {} at the edge of the common time, {} outside it",
                self.at_edge, self.outside
            )?;
        }
        if self.rows.is_empty() {
            return Ok(());
        }
        let (shown, all) = (self.rows.len(), self.differing);
        writeln!(
            out,
            "\n{shown} of {all} that differ, those that lack most bytes first"
        )?;
        let columns = [
            "start",
            "their packets",
            "our packets",
            "their bytes",
            "our bytes",
        ];
        let header: Vec<_> = self
            .by
            .iter()
            .chain(&columns)
            .map(|n| (*n).to_owned())
            .collect();
        table(&header, &self.rows, out)
    }

    fn tally(&self, name: &str, tally: &Tally, out: &mut impl Write) -> io::Result<()> {
        let what = match name {
            "ours lack" => "lacking in ours",
            "of these" => "of flows of which ours have nothing",
            _ => "more in ours",
        };
        let es = if tally.count == 1 { "" } else { "es" };
        let Tally {
            count,
            packets,
            bytes,
        } = tally;
        writeln!(
            out,
            "{name:<11} {count} stretch{es}: {packets} packets, {bytes} bytes {what}"
        )
    }
}

fn set(name: &str, set: &Set, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{name:<11} {} records, {} packets, {} bytes; left out: {} REJECT, {} incomplete; {} SKIPDATA",
        set.all.records, set.all.packets, set.all.bytes, set.rejected, set.unusable, set.skip_data
    )
}

fn row(stretch: &Stretch) -> Vec<Cell> {
    let start = Cell::Text(moment(stretch.start).into());
    let numbers = [
        stretch.theirs.packets,
        stretch.ours.packets,
        stretch.theirs.bytes,
        stretch.ours.bytes,
    ];
    let numbers = numbers.map(Cell::Number);
    let key = stretch.key.iter().cloned();
    key.chain([start]).chain(numbers).collect()
}

fn object(by: &[Field], stretch: &Stretch) -> Map<String, Json> {
    let mut object = keyed(by, &stretch.key);
    object.insert("start".into(), json!(stretch.start));
    object.insert("end".into(), json!(stretch.end));
    object.insert("theirs".into(), json!(stretch.theirs));
    object.insert("ours".into(), json!(stretch.ours));
    object
}
