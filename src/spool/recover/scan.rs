//! Reading a hidden file to its last whole record.
//!
//! Takes: a file and its name. Gives: [`Scan`]: what is in it, and where to cut. Holds: only what this program writes
//! counts as a record; nothing is changed.

use std::fs::File;

use crate::capfile::{self, Described, Reader};
use crate::spool::recover::units::{self, Ending, Place, Trail};
use crate::spool::recover::{Error, Stop};
use crate::spool::{Format, Name};
use crate::time::Timestamp;

/// A tail of more bytes than this is more than a record, or a compressed unit, that was being written: a frame comes in a
/// datagram, which has 65,535 bytes at most.
const LONGEST_RECORD: u64 = 65_535 + 64;
const LONGEST_UNIT: u64 = 4 << 20;

/// How often, in records, somebody may say that it is enough.
const ASK_EVERY: u64 = 4096;

/// How often, in bytes of content, places to cut that were passed are forgotten: units may be of a single byte each.
const FORGET_EVERY: u64 = 1 << 20;

/// What is in a file.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) packets: u64,
    pub(super) times: Option<(Timestamp, Timestamp)>,
    /// Interfaces, with their packets.
    pub(super) interfaces: Vec<(Described, u64)>,
    /// Where the content is whole up to.
    pub(super) whole: u64,
    /// The last place to cut before that.
    pub(super) cut: Place,
    /// What is wrong behind it.
    pub(super) damage: Option<String>,
    /// Whether what is behind it is more than was being written when the writing ended.
    pub(super) is_torn_only: bool,
}

/// What a hidden file turns out to be.
#[derive(Debug)]
pub(super) enum Scanned {
    Capture(Scan),
    /// It does not hold as much as a header, or is not of this program.
    Nothing(String),
}

/// Reads all of a file.
pub(super) fn scan(file: File, name: &Name, stop: Stop<'_>) -> Result<Scanned, Error> {
    let path = name.partial();
    let failed = |source| Error::reading(&path, source);
    let stored = file.metadata().map_err(failed)?.len();
    let (stream, trail) = units::open(file, name.compression()).map_err(failed)?;
    let nothing = |why: String| Ok(Scanned::Nothing(trail.foreign().unwrap_or(why)));
    let mut reader = match Reader::strict(stream, path.to_string_lossy()) {
        Ok(reader) => reader,
        Err(capfile::Error::Open { source, .. } | capfile::Error::Read { source, .. }) => {
            return Err(failed(source));
        }
        Err(error) => return nothing(error.to_string()),
    };
    if reader.format() != name.format() {
        return nothing("its format is not that of its name".to_owned());
    }
    let records = records(&mut reader, &trail, stop, &path)?;
    let described = reader.described();
    if name.format() == Format::Pcapng && described.is_empty() {
        return nothing("it ends before its first interface".to_owned());
    }
    let mut packets = records.by_interface;
    packets.resize(described.len(), 0);
    let whole = records.zeros.unwrap_or_else(|| reader.whole());
    let cut = trail.cut(whole);
    let rest = stored.saturating_sub(cut.stored);
    let ending = trail.ending();
    let is_broken = records.zeros.is_some()
        || matches!(ending, Ending::Broken(_))
        || reader.damage().is_some_and(|d| !d.is_cut);
    let longest = match ending {
        Ending::Torn => LONGEST_UNIT,
        _ => LONGEST_RECORD,
    };
    Ok(Scanned::Capture(Scan {
        packets: records.packets,
        times: records.times,
        interfaces: described.into_iter().zip(packets).collect(),
        whole,
        cut,
        damage: what(&reader, ending, records.zeros),
        is_torn_only: !is_broken && rest <= longest,
    }))
}

/// What is wrong behind the last whole record.
fn what(reader: &Reader, ending: Ending, zeros: Option<u64>) -> Option<String> {
    let damage = reader.damage().map(|d| d.what.clone());
    match (ending, damage, zeros) {
        (_, _, Some(_)) => Some("a record is nothing but zeros".to_owned()),
        (_, Some(what), _) | (Ending::Broken(what), None, _) => Some(what),
        (Ending::Torn, None, _) => Some("the file ends within a compressed unit".to_owned()),
        (Ending::Regular, None, None) => None,
    }
}

#[derive(Debug, Default)]
struct Records {
    packets: u64,
    times: Option<(Timestamp, Timestamp)>,
    by_interface: Vec<u64>,
    /// Where zeros begin that look like records: space that was never written.
    zeros: Option<u64>,
}

fn records(
    reader: &mut Reader,
    trail: &Trail,
    stop: Stop<'_>,
    path: &std::path::Path,
) -> Result<Records, Error> {
    let (mut records, mut forgotten) = (Records::default(), 0);
    loop {
        if records.packets % ASK_EVERY == 0 && stop() {
            return Err(Error::Stopped);
        }
        let before = reader.position();
        if before - forgotten >= FORGET_EVERY {
            trail.cut(before);
            forgotten = before;
        }
        let record = match reader.next() {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(records),
            Err(capfile::Error::Read { source, .. }) => return Err(Error::reading(path, source)),
            Err(error) => return Err(Error::reading(path, std::io::Error::other(error))),
        };
        let is_zero = record.data.is_empty() && record.origlen == 0;
        if is_zero && record.time == Timestamp::default() {
            records.zeros = Some(before);
            return Ok(records);
        }
        records.add(&record);
    }
}

impl Records {
    fn add(&mut self, record: &capfile::Record<'_>) {
        self.packets += 1;
        let (first, last) = self.times.unwrap_or((record.time, record.time));
        self.times = Some((first.min(record.time), last.max(record.time)));
        let interface = record.interface as usize;
        if interface >= self.by_interface.len() {
            self.by_interface.resize(interface + 1, 0);
        }
        if let Some(packets) = self.by_interface.get_mut(interface) {
            *packets += 1;
        }
    }
}
