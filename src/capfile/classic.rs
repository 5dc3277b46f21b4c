//! Classic pcap: nanosecond or microsecond, either byte order, and the "modified" variant of
//! A. Kuznetzov, whose record headers are eight bytes longer.
//!
//! Crate `pcap-file` takes the file header apart; records, which are four numbers and bytes, are read here.

use std::borrow::Cow;

use pcap_file::Endianness;
use pcap_file::pcap::{PcapParseError, PcapParser, PcapTsResolution};

use crate::capfile::buffer::Buffer;
use crate::capfile::reader::{Frame, Refusal, Step};
use crate::capfile::{LinkType, MAX_FRAME, Precision};
use crate::time::Timestamp;

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// What the modified variant adds to a record header: interface index, protocol, packet type.
const MODIFIED_EXTRA: usize = 8;

/// Bits of the link type field that have to be zero: not the type, not the FCS length.
const RESERVED: u32 = 0x03FF_0000;

/// A pcap file past its header.
pub(super) struct Classic {
    endianness: Endianness,
    precision: Precision,
    link: LinkType,
    modified: bool,
}

impl Classic {
    /// Reads the file header.
    pub(super) fn begin(buffer: &mut Buffer, strict: bool) -> Result<Self, Refusal> {
        buffer.fill(FILE_HEADER);
        let (header, modified) = plain_header(buffer.window());
        let parser = match PcapParser::new(&header) {
            Ok((_, parser)) => parser,
            Err(e) => return Err(Refusal::Foreign(describe(buffer.window(), &e))),
        };
        let link = check(&parser)?;
        let little = matches!(parser.header().endianness, Endianness::Little);
        if strict && (modified || !little || link != LinkType::ETHERNET) {
            let what = format!("it is pcap of {link}, of a kind that is not written here");
            return Err(Refusal::Unsupported(what));
        }
        buffer.consume(FILE_HEADER);
        let precision = match parser.header().ts_resolution {
            PcapTsResolution::NanoSecond => Precision::Nanos,
            PcapTsResolution::MicroSecond => Precision::Micros,
        };
        Ok(Self {
            endianness: parser.header().endianness,
            precision,
            link,
            modified,
        })
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// The next record.
    pub(super) fn step(&self, buffer: &mut Buffer) -> Step {
        match self.at_hand(buffer.window()) {
            Some(frame) => Step::Frame(frame),
            None => self.next(buffer),
        }
    }

    /// The next record if the window holds all of it, which is how it is but for one record in hundreds.
    #[inline(always)]
    fn at_hand(&self, window: &[u8]) -> Option<Frame> {
        let head = Head::read(window.first_chunk()?, self.endianness);
        let frame = self.placed(head);
        (frame.len <= MAX_FRAME && frame.total <= window.len()).then_some(frame)
    }

    /// Gives `take` the records that lie at the front of `window` as a whole, with the places of their bytes in it, as long
    /// as it wants more; returns how many bytes they took.
    #[inline(always)]
    pub(super) fn each_at_hand(
        &self,
        window: &[u8],
        mut take: impl FnMut(&Frame, usize, &[u8]) -> bool,
    ) -> usize {
        let mut passed = 0;
        while let Some(frame) = window.get(passed..).and_then(|rest| self.at_hand(rest)) {
            let place = passed + frame.start;
            passed += frame.total;
            let data = window.get(place..place + frame.len).unwrap_or_default();
            if !take(&frame, place, data) {
                break;
            }
        }
        passed
    }

    /// The next record, with what can be wrong with it.
    fn next(&self, buffer: &mut Buffer) -> Step {
        if !buffer.fill(1) {
            return Step::End;
        }
        if !buffer.fill(RECORD_HEADER) {
            return Step::Cut("the file ends within a record header".to_owned());
        }
        let Some(bytes) = buffer.window().first_chunk() else {
            return Step::Broken("a record header can't be read".to_owned());
        };
        let head = Head::read(bytes, self.endianness);
        self.frame(buffer, head)
    }

    fn frame(&self, buffer: &mut Buffer, head: Head) -> Step {
        let len = head.caplen as usize;
        if len > MAX_FRAME {
            return Step::Broken(format!(
                "a record claims {len} bytes, more than the {MAX_FRAME} that a frame may have"
            ));
        }
        let start = RECORD_HEADER + if self.modified { MODIFIED_EXTRA } else { 0 };
        if !buffer.fill(start + len) {
            let here = buffer.window().len().saturating_sub(start);
            return Step::Cut(format!(
                "the file ends within a record: {here} of {len} bytes are there"
            ));
        }
        Step::Frame(self.placed(head))
    }

    #[inline(always)]
    fn placed(&self, head: Head) -> Frame {
        let start = RECORD_HEADER + if self.modified { MODIFIED_EXTRA } else { 0 };
        let len = head.caplen as usize;
        Frame {
            time: self.time(head),
            origlen: head.origlen,
            link: self.link,
            interface: 0,
            start,
            len,
            total: start + len,
        }
    }

    /// A fraction of more than a second is carried over, as Wireshark does.
    #[inline]
    fn time(&self, head: Head) -> Timestamp {
        let unit = match self.precision {
            Precision::Nanos => 1,
            Precision::Micros => 1_000,
        };
        let secs = u64::from(head.secs) * 1_000_000_000;
        Timestamp::from_nanos(secs + u64::from(head.fraction) * unit)
    }
}

/// A record header.
#[derive(Clone, Copy)]
struct Head {
    secs: u32,
    fraction: u32,
    caplen: u32,
    origlen: u32,
}

impl Head {
    #[inline]
    fn read(bytes: &[u8; RECORD_HEADER], endianness: Endianness) -> Self {
        let (words, _) = bytes.as_chunks();
        let word = |i: usize| words.get(i).copied().unwrap_or_default();
        let number = |i| match endianness {
            Endianness::Big => u32::from_be_bytes(word(i)),
            Endianness::Little => u32::from_le_bytes(word(i)),
        };
        Self {
            secs: number(0),
            fraction: number(1),
            caplen: number(2),
            origlen: number(3),
        }
    }
}

/// The file header with the magic of a modified pcap replaced by the common one, and whether it was.
fn plain_header(window: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let plain = match window {
        [0xA1, 0xB2, 0xCD, 0x34, ..] => [0xA1, 0xB2, 0xC3, 0xD4],
        [0x34, 0xCD, 0xB2, 0xA1, ..] => [0xD4, 0xC3, 0xB2, 0xA1],
        _ => return (Cow::Borrowed(window), false),
    };
    let rest = window.get(4..FILE_HEADER.min(window.len()));
    let header = [&plain, rest.unwrap_or_default()].concat();
    (Cow::Owned(header), true)
}

/// Refuses what libpcap refuses: versions that never were, and unknown bits in the link type.
fn check(parser: &PcapParser) -> Result<LinkType, Refusal> {
    let header = parser.header();
    let (major, minor) = (header.version_major, header.version_minor);
    if major != 2 {
        let what = format!("it is pcap of version {major}.{minor}, and only 2.x is known");
        return Err(Refusal::Unsupported(what));
    }
    let link = u32::from(header.datalink);
    if link & RESERVED != 0 {
        let what = format!("its link type field {link:#010x} has unknown bits set");
        return Err(Refusal::Unsupported(what));
    }
    Ok(LinkType(link as u16))
}

/// What the beginning of a file looks like that is no pcap.
fn describe(window: &[u8], error: &PcapParseError) -> String {
    let known = matches!(
        window,
        [0xA1, 0xB2, 0xC3, 0xD4, ..]
            | [0xA1, 0xB2, 0x3C, 0x4D, ..]
            | [0xA1, 0xB2, 0xCD, 0x34, ..]
            | [0xD4, 0xC3, 0xB2, 0xA1, ..]
            | [0x4D, 0x3C, 0xB2, 0xA1, ..]
            | [0x34, 0xCD, 0xB2, 0xA1, ..]
    );
    match error {
        PcapParseError::IncompleteBuffer(_, here) if known => {
            format!("ends after {here} bytes, within the pcap file header")
        }
        _ => {
            let head = window.get(..8.min(window.len())).unwrap_or_default();
            format!("begins with \"{}\"", head.escape_ascii())
        }
    }
}
