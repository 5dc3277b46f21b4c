//! Compression of a capture file, one unit for each write.
//!
//! Takes: what is to be appended to a file. Gives: the bytes that stand for it in the file. Holds: whatever was
//! packed before can be unpacked without what comes after; a unit that did not get to the disk leaves
//! no trace in the units after it.
//!
//! gzip: a unit is a member of its own. zstd: a file is **one** frame, because Wireshark 4.0 stops at the second; a unit is
//! a few blocks of it, flushed. These refer to the blocks before them, so an encoder that made a unit in vain is
//! given up, and the file goes on with raw blocks, which refer to nothing. So does a file for which there is no encoder left. The
//! frame has no checksum: it could not be closed after a crash without reading all of it.

use std::fmt;
use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use flate2::{Compress, Crc, FlushCompress, Status};
use serde::{Deserialize, Serialize};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

use crate::logging::Limited;
use crate::time;

/// Compression of a capture file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// None: what tcpdump reads too.
    #[default]
    None,
    /// zstd, one frame.
    Zstd,
    /// gzip, one member for each write.
    Gzip,
}

impl Compression {
    /// What it adds to a file's name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }

    /// The levels that it has.
    pub const fn levels(self) -> RangeInclusive<u32> {
        match self {
            Self::None => 0..=0,
            Self::Zstd => 1..=19,
            Self::Gzip => 1..=9,
        }
    }

    /// The level where none is given.
    pub const fn level(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Zstd => 3,
            Self::Gzip => 6,
        }
    }
}

/// Bytes that a zstd block may refer back to, as a power of two: 256 KiB, which bounds the memory of an encoder to about
/// 1.5 MiB (at the default level).
const WINDOW_LOG: u32 = 18;

/// What a zstd frame begins with: magic number, no checksum and no size, the window.
const FRAME: [u8; 6] = [0x28, 0xB5, 0x2F, 0xFD, 0, ((WINDOW_LOG - 10) as u8) << 3];

/// An empty raw block with the mark of the last one: what a zstd frame ends with.
pub(super) const LAST_BLOCK: [u8; 3] = [1, 0, 0];

/// The most bytes of a zstd block.
const BLOCK: usize = 128 << 10;

/// What a gzip member begins with: magic number, deflate, no name and no time, an unknown system.
const MEMBER: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];

/// Space that is made for compressed bytes at a time.
const ROOM: usize = 64 << 10;

/// A want of encoders is told so often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Memory that one writer lends to all its files.
pub(super) struct Press {
    /// The compressed unit.
    pub(super) unit: Vec<u8>,
    gzip: Option<(u32, Compress)>,
    /// A clone goes with each encoder.
    encoders: Arc<()>,
    /// So many encoders may be alive.
    most: usize,
}

impl Press {
    /// With at most `most` zstd encoders at a time.
    pub(super) fn new(most: usize) -> Self {
        Self {
            unit: Vec::new(),
            gzip: None,
            encoders: Arc::default(),
            most,
        }
    }

    fn permit(&self) -> Option<Arc<()>> {
        let free = Arc::strong_count(&self.encoders) <= self.most;
        free.then(|| Arc::clone(&self.encoders))
    }
}

impl fmt::Debug for Press {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Press")
            .field("unit", &self.unit.len())
            .field("encoders", &(Arc::strong_count(&self.encoders) - 1))
            .finish_non_exhaustive()
    }
}

/// How one file is compressed.
pub(super) enum Packer {
    /// A member for each unit.
    Gzip(u32),
    /// Blocks of one frame.
    Zstd(Frame),
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip(level) => write!(f, "Gzip({level})"),
            Self::Zstd(frame) => write!(f, "Zstd({}, {:?})", frame.level, frame.state()),
        }
    }
}

/// A zstd frame under way.
pub(super) struct Frame {
    level: u32,
    /// Whether its beginning is in the file.
    begun: bool,
    encoder: Maker,
}

enum Maker {
    /// Nothing was packed yet.
    Unborn,
    Alive {
        encoder: Box<Encoder<'static>>,
        _permit: Arc<()>,
    },
    /// There was none left: raw blocks.
    Refused,
    /// A unit was made in vain: raw blocks from then on.
    Lost,
}

impl Frame {
    fn state(&self) -> &'static str {
        match self.encoder {
            Maker::Unborn => "new",
            Maker::Alive { .. } => "compressing",
            Maker::Refused => "without an encoder",
            Maker::Lost => "after a failed write",
        }
    }
}

impl Packer {
    pub(super) fn new(compression: Compression, level: u32) -> Option<Self> {
        match compression {
            Compression::None => None,
            Compression::Gzip => Some(Self::Gzip(level)),
            Compression::Zstd => Some(Self::Zstd(Frame {
                level,
                begun: false,
                encoder: Maker::Unborn,
            })),
        }
    }

    /// Makes a unit of `parts`, in `press.unit`.
    pub(super) fn pack(&mut self, parts: &[IoSlice<'_>], press: &mut Press) -> io::Result<()> {
        press.unit.clear();
        match self {
            Self::Gzip(level) => member(*level, parts, press),
            Self::Zstd(frame) => frame.pack(parts, press),
        }
    }

    /// Takes note of whether the last unit is in the file.
    pub(super) fn settle(&mut self, is_written: bool) {
        if let Self::Zstd(frame) = self {
            frame.begun |= is_written;
            if !is_written && matches!(frame.encoder, Maker::Alive { .. }) {
                frame.encoder = Maker::Lost;
            }
        }
    }

    /// Whether it can compress no more because a write failed.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Zstd(frame) if matches!(frame.encoder, Maker::Lost))
    }

    /// What the file needs behind its last unit.
    pub(super) fn ending(&self) -> &'static [u8] {
        match self {
            Self::Gzip(_) => &[],
            Self::Zstd(_) => &LAST_BLOCK,
        }
    }
}

impl Frame {
    fn pack(&mut self, parts: &[IoSlice<'_>], press: &mut Press) -> io::Result<()> {
        if matches!(self.encoder, Maker::Unborn) {
            self.encoder = match press.permit() {
                Some(permit) => Maker::Alive {
                    encoder: encoder(self.level)?,
                    _permit: permit,
                },
                None => refused(),
            };
        }
        let Maker::Alive { encoder, .. } = &mut self.encoder else {
            if !self.begun {
                press.unit.extend_from_slice(&FRAME);
            }
            parts.iter().for_each(|p| raw_blocks(&mut press.unit, p));
            return Ok(());
        };
        let packed = blocks(encoder, parts, &mut press.unit);
        if packed.is_err() {
            self.encoder = Maker::Lost;
        }
        packed
    }
}

fn refused() -> Maker {
    static LIMITED: Limited = Limited::new(TELL_EVERY);
    if let Some(more) = LIMITED.pass(time::monotonic().nanos()) {
        tracing::warn!(
            more,
            "more zstd files than max_open_files are being written; this one is not compressed: raise max_open_files \
             (each takes about 1.5 MiB), or use compression = \"gzip\", which needs no memory for each file"
        );
    }
    Maker::Refused
}

fn encoder(level: u32) -> io::Result<Box<Encoder<'static>>> {
    let mut encoder = Encoder::new(level as i32)?;
    encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    encoder.set_parameter(CParameter::ChecksumFlag(false))?;
    Ok(Box::new(encoder))
}

/// Compresses and flushes.
fn blocks(encoder: &mut Encoder<'_>, parts: &[IoSlice<'_>], out: &mut Vec<u8>) -> io::Result<()> {
    for part in parts {
        let mut input = InBuffer::around(part);
        while input.pos() < part.len() {
            with_room(out, |out| encoder.run(&mut input, out))?;
        }
    }
    while with_room(out, |out| encoder.flush(out))? > 0 {}
    Ok(())
}

/// Calls `step` with space behind what is in `out`.
fn with_room<T>(
    out: &mut Vec<u8>,
    step: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> io::Result<T>,
) -> io::Result<T> {
    out.reserve(ROOM);
    let behind = out.len();
    step(&mut OutBuffer::around_pos(out, behind))
}

/// Appends `bytes` as zstd blocks that are not compressed.
pub(super) fn raw_blocks(out: &mut Vec<u8>, bytes: &[u8]) {
    for block in bytes.chunks(BLOCK) {
        let head = ((block.len() as u32) << 3).to_le_bytes();
        out.extend_from_slice(head.get(..3).unwrap_or_default());
        out.extend_from_slice(block);
    }
}

/// Appends `bytes` as a gzip member.
pub(super) fn member_of(out: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    let mut press = Press::new(0);
    std::mem::swap(&mut press.unit, out);
    let packed = member(
        Compression::Gzip.level(),
        &[IoSlice::new(bytes)],
        &mut press,
    );
    std::mem::swap(&mut press.unit, out);
    packed
}

fn member(level: u32, parts: &[IoSlice<'_>], press: &mut Press) -> io::Result<()> {
    let Press { unit, gzip, .. } = press;
    let fits = gzip.as_ref().is_some_and(|(made, _)| *made == level);
    if !fits {
        *gzip = None;
    }
    let make = || (level, Compress::new(flate2::Compression::new(level), false));
    let (_, deflate) = gzip.get_or_insert_with(make);
    deflate.reset();
    let mut crc = Crc::new();
    unit.extend_from_slice(&MEMBER);
    for part in parts {
        crc.update(part);
        let start = deflate.total_in();
        loop {
            let done = (deflate.total_in() - start) as usize;
            let rest = part.get(done..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            unit.reserve(ROOM);
            deflate.compress_vec(rest, unit, FlushCompress::None)?;
        }
    }
    loop {
        unit.reserve(ROOM);
        if deflate.compress_vec(&[], unit, FlushCompress::Finish)? == Status::StreamEnd {
            break;
        }
    }
    unit.extend_from_slice(&crc.sum().to_le_bytes());
    unit.extend_from_slice(&crc.amount().to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn unpack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match compression {
            Compression::None => out.extend_from_slice(bytes),
            Compression::Gzip => {
                let mut decoder = flate2::read::MultiGzDecoder::new(bytes);
                decoder.read_to_end(&mut out).expect("whole members");
            }
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::new(bytes).expect("a decoder");
                let mut decoder = decoder.single_frame();
                decoder.read_to_end(&mut out).expect("one whole frame");
            }
        }
        out
    }

    /// Packs units, of which some do not get to the disk.
    fn pack(compression: Compression, most: usize, units: &[(Vec<u8>, bool)]) {
        let mut packer = Packer::new(compression, compression.level()).expect("compressed");
        let (mut press, mut file, mut content) = (Press::new(most), Vec::new(), Vec::new());
        let mut begun = false;
        for (unit, is_written) in units {
            let (a, b) = unit.split_at(unit.len() / 3);
            let parts = [IoSlice::new(a), IoSlice::new(b)];
            packer.pack(&parts, &mut press).expect("packed");
            // A file that nothing was written to is not kept.
            let is_written = *is_written || !begun;
            packer.settle(is_written);
            if is_written {
                file.extend_from_slice(&press.unit);
                content.extend_from_slice(unit);
                begun = true;
            }
        }
        file.extend_from_slice(packer.ending());
        if begun {
            assert!(unpack(compression, &file) == content);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn units_that_were_written_unpack_to_what_was_put_in(
            units in prop::collection::vec((0_usize..150_000, any::<u8>(), any::<bool>()), 0..6),
            most in 0_usize..2,
        ) {
            // a little of everything: runs, repeats, and what looks like noise
            let bytes = |len: usize, seed: u8| -> Vec<u8> {
                let mut noise = u32::from(seed) + 1;
                (0..len).map(|i| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if i / 5000 % 3 == 0 { (noise >> 24) as u8 } else { seed.wrapping_add((i % 77) as u8) }
                }).collect()
            };
            let units: Vec<_> = units.into_iter().map(|(len, seed, ok)| (bytes(len, seed), ok)).collect();
            pack(Compression::Zstd, most, &units);
            pack(Compression::Gzip, most, &units);
        }
    }

    #[test]
    fn an_encoder_takes_as_much_memory_as_the_page_says() {
        use zstd::zstd_safe::CCtx;
        let mut context = CCtx::create();
        context
            .set_parameter(CParameter::CompressionLevel(3))
            .expect("a level");
        context
            .set_parameter(CParameter::WindowLog(WINDOW_LOG))
            .expect("a window");
        let content = vec![7; 1 << 20];
        let mut out = vec![0; 1 << 20];
        let mut input = InBuffer::around(&content);
        let mut output = OutBuffer::around(&mut out[..]);
        context
            .compress_stream(&mut output, &mut input)
            .expect("compressed");
        let size = context.sizeof();
        assert!((1 << 20..7 << 18).contains(&size), "{size}");
    }

    #[test]
    fn an_encoder_is_free_again_when_its_file_is_done() {
        let press = &mut Press::new(1);
        let state = |press: &mut Press| {
            let mut packer = Packer::new(Compression::Zstd, 1).expect("compressed");
            packer.pack(&[IoSlice::new(b"x")], press).expect("packed");
            packer
        };
        let first = state(press);
        assert!(format!("{first:?}").contains("compressing"));
        assert!(format!("{:?}", state(press)).contains("without an encoder"));
        drop(first);
        assert!(format!("{:?}", state(press)).contains("compressing"));
    }
}
