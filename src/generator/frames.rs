//! A capture in memory: its frames, each with the time, the port and the VNI that it is sent with.

use std::path::Path;
use std::time::Duration;

use crate::capfile::{Reader, Record};
use crate::flow;
use crate::generator::link::to_ethernet;
use crate::generator::{Error, VniSet, port};
use crate::headers;
use crate::time::Timestamp;

/// One frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    start: usize,
    len: u32,
    /// When it was captured.
    pub time: Timestamp,
    /// Which source port, of 128.
    pub slot: u8,
    /// Which VNI, by place in the set.
    pub vni: u32,
}

/// All frames of a capture that have an Ethernet form, in the file's order.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    /// Packets that have none.
    pub skipped: u64,
    /// Why reading ended before the end of the file.
    pub damage: Option<String>,
}

impl Frames {
    /// Reads the capture at `path`.
    pub(crate) fn load(path: &Path, vnis: &VniSet) -> Result<Self, Error> {
        let mut all = Self::default();
        let mut reader = Reader::open(path).map_err(Error::Read)?;
        while let Some(record) = reader.next().map_err(Error::Read)? {
            all.push(&record, vnis);
        }
        all.damage = reader.damage().map(ToString::to_string);
        if all.frames.is_empty() {
            let (path, skipped) = (path.to_owned(), all.skipped);
            return Err(Error::Empty { path, skipped });
        }
        Ok(all)
    }

    fn push(&mut self, record: &Record<'_>, vnis: &VniSet) {
        let Some((header, rest)) = to_ethernet(record.link, record.data) else {
            self.skipped += 1;
            return;
        };
        let start = self.bytes.len();
        if let Some(header) = header {
            self.bytes.extend_from_slice(&header);
        }
        self.bytes.extend_from_slice(rest);
        let frame = &self.bytes[start..];
        let headers = headers::walk(frame);
        // A flow keeps to one VNI, its fragments too.
        let hash = flow::symmetric_hash(0, &headers);
        self.frames.push(Frame {
            start,
            len: frame.len() as u32,
            time: record.time,
            slot: port::slot(port::hash(&headers.key)),
            vni: (hash % vnis.as_slice().len() as u64) as u32,
        });
    }

    /// How many there are; never zero.
    pub(crate) fn len(&self) -> u64 {
        self.frames.len() as u64
    }

    /// The frame at `index`, which is taken modulo their number.
    pub(crate) fn get(&self, index: u64) -> Option<(&Frame, &[u8])> {
        let frame = self.frames.get((index % self.len().max(1)) as usize)?;
        let bytes = self
            .bytes
            .get(frame.start..frame.start + frame.len as usize)?;
        Some((frame, bytes))
    }

    /// The time of the frame at `index`; each round follows the one before.
    pub(crate) fn time(&self, index: u64) -> Timestamp {
        let time = self
            .get(index)
            .map_or_else(Timestamp::default, |f| f.0.time);
        time.saturating_add(self.rounds_before(index))
    }

    /// How long after the first frame the one at `index` comes.
    pub(crate) fn offset(&self, index: u64) -> Duration {
        self.time(index).since(self.time(0))
    }

    fn rounds_before(&self, index: u64) -> Duration {
        let (Some(first), Some(last)) = (self.frames.first(), self.frames.last()) else {
            return Duration::ZERO;
        };
        let rounds = u32::try_from(index / self.len()).unwrap_or(u32::MAX);
        last.time.since(first.time).saturating_mul(rounds)
    }
}
