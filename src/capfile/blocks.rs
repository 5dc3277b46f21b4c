//! pcapng: sections in either byte order, interfaces with link types and clocks of their own, and the
//! three kinds of packet block (enhanced, simple, and the old one). Other blocks are passed over.
//!
//! Options that do not matter for reading packets are never looked at, so they can't be wrong.

use crate::capfile::buffer::Buffer;
use crate::capfile::reader::{Described, Frame, Refusal, Step};
use crate::capfile::{LinkType, MAX_FRAME, Precision};
use crate::time::Timestamp;

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// The largest block that is kept in memory: Wireshark's limit. Others may be larger, they are skipped.
const MAX_BLOCK: usize = 16 * 1024 * 1024;
/// Interfaces of one section; each costs memory as long as the section lasts.
const MAX_INTERFACES: usize = 1 << 20;
/// Type and length before the body, length behind it.
const HEAD: usize = 8;
const FRAMING: usize = 12;

/// A pcapng file past its first section header.
pub(super) struct Blocks {
    order: Order,
    interfaces: Vec<Interface>,
    precision: Precision,
    start: u64,
    /// Whether what this program does not write is damage.
    strict: bool,
}

/// Byte order of a section.
#[derive(Clone, Copy)]
enum Order {
    Big,
    Little,
}

/// What packets need to know of their interface.
#[derive(Clone, Copy)]
struct Interface {
    link: LinkType,
    snaplen: u32,
    clock: Clock,
    has_statistics: bool,
}

impl Blocks {
    /// Reads the first section header.
    pub(super) fn begin(buffer: &mut Buffer, strict: bool) -> Result<Self, Refusal> {
        let mut blocks = Self {
            order: Order::Little,
            interfaces: Vec::new(),
            precision: Precision::Micros,
            start: 0,
            strict,
        };
        match blocks.section(buffer) {
            Ok(()) if strict && matches!(blocks.order, Order::Big) => {
                let what = "it is big-endian pcapng, which is not written here".to_owned();
                Err(Refusal::Unsupported(what))
            }
            Ok(()) => Ok(blocks),
            Err(Trouble::Version(what)) => Err(Refusal::Unsupported(what)),
            Err(Trouble::Broken(what) | Trouble::Cut(what)) => {
                let found = format!("begins like pcapng, but {what}");
                Err(Refusal::Foreign(found))
            }
        }
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    pub(super) fn interfaces(&self) -> Vec<Described> {
        let each = self.interfaces.iter();
        let described = |i: &Interface| Described {
            precision: i.clock.precision(),
            has_statistics: i.has_statistics,
        };
        each.map(described).collect()
    }

    /// Where the block begins that was looked at last.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The next packet.
    pub(super) fn step(&mut self, buffer: &mut Buffer) -> Step {
        loop {
            self.start = buffer.offset();
            if !buffer.fill(1) {
                return Step::End;
            }
            match self.block(buffer) {
                Ok(Some(frame)) => return Step::Frame(frame),
                Ok(None) => {}
                Err(Trouble::Cut(what)) => return Step::Cut(what),
                Err(Trouble::Broken(what) | Trouble::Version(what)) => return Step::Broken(what),
            }
        }
    }

    /// The next packet if it is the next block and the window holds all of it.
    pub(super) fn at_hand(&mut self, buffer: &mut Buffer) -> Option<Frame> {
        let window = buffer.window();
        if window.len() < FRAMING {
            return None;
        }
        let (kind, claimed) = (self.order.u32(window, 0), self.claimed(buffer) as u64);
        let is_packet = matches!(kind, PACKET | SIMPLE_PACKET | ENHANCED_PACKET);
        if !is_packet || claimed + 3 > window.len() as u64 {
            return None;
        }
        let start = buffer.offset();
        // One that is broken is found broken again by whoever asks for the next packet.
        let frame = self.block(buffer).ok().flatten()?;
        self.start = start;
        Some(frame)
    }

    /// Reads one block; gives a frame (not consumed) where it is a packet.
    fn block(&mut self, buffer: &mut Buffer) -> Result<Option<Frame>, Trouble> {
        need(buffer, FRAMING, "a block header")?;
        match self.order.u32(buffer.window(), 0) {
            INTERFACE_DESCRIPTION => self.interface(buffer).map(|()| None),
            ENHANCED_PACKET => self.packet(buffer, |o, b| o.u32(b, HEAD)).map(Some),
            INTERFACE_STATISTICS if self.strict => self.statistics(buffer).map(|()| None),
            kind if self.strict => Err(Trouble::Broken(format!(
                "a block is of type {kind:#010x}, which is not written here"
            ))),
            SECTION_HEADER => self.section(buffer).map(|()| None),
            PACKET => {
                let id = |o: Order, b: &[u8]| u32::from(o.u16(b, HEAD));
                self.packet(buffer, id).map(Some)
            }
            SIMPLE_PACKET => self.simple(buffer).map(Some),
            _ => self.pass(buffer).map(|()| None),
        }
    }

    /// A section header sets the byte order and forgets the interfaces.
    fn section(&mut self, buffer: &mut Buffer) -> Result<(), Trouble> {
        need(buffer, FRAMING, "a section header")?;
        self.order = match buffer.window().get(8..12) {
            Some([0x1A, 0x2B, 0x3C, 0x4D]) => Order::Big,
            Some([0x4D, 0x3C, 0x2B, 0x1A]) => Order::Little,
            _ => return Err(Trouble::Broken("a section has no byte-order mark".into())),
        };
        if self.claimed(buffer) < 28 {
            return Err(Trouble::Broken("a section header is too short".into()));
        }
        need(buffer, 16, "a section header")?;
        let major = self.order.u16(buffer.window(), 12);
        let minor = self.order.u16(buffer.window(), 14);
        if major != 1 {
            let what =
                format!("a section is pcapng of version {major}.{minor}, and only 1.x is known");
            return Err(Trouble::Version(what));
        }
        self.interfaces.clear();
        self.pass(buffer)
    }

    fn interface(&mut self, buffer: &mut Buffer) -> Result<(), Trouble> {
        let total = self.whole(buffer, 20, "an interface description")?;
        if self.interfaces.len() == MAX_INTERFACES {
            let what = format!("a section has more than {MAX_INTERFACES} interfaces");
            return Err(Trouble::Broken(what));
        }
        let block = buffer.window();
        let options = block.get(16..total - 4).unwrap_or_default();
        let clock = Clock::of(self.order, options);
        let link = LinkType(self.order.u16(block, 8));
        if self.strict && (link != LinkType::ETHERNET || !clock.is_plain()) {
            let what = format!("an interface of {link} is described as it is not done here");
            return Err(Trouble::Broken(what));
        }
        self.interfaces.push(Interface {
            link,
            snaplen: self.order.u32(block, 12),
            clock,
            has_statistics: false,
        });
        if clock.is_fine() {
            self.precision = Precision::Nanos;
        }
        buffer.consume(total);
        Ok(())
    }

    /// Statistics are not read, only that there are some.
    fn statistics(&mut self, buffer: &mut Buffer) -> Result<(), Trouble> {
        let total = self.whole(buffer, 24, "interface statistics")?;
        let id = self.order.u32(buffer.window(), HEAD);
        self.described(id)?;
        if let Some(interface) = self.interfaces.get_mut(id as usize) {
            interface.has_statistics = true;
        }
        buffer.consume(total);
        Ok(())
    }

    /// An enhanced or an old packet block: they differ in how the interface is written.
    fn packet(
        &self,
        buffer: &mut Buffer,
        id: impl Fn(Order, &[u8]) -> u32,
    ) -> Result<Frame, Trouble> {
        let total = self.whole(buffer, 32, "a packet")?;
        let (order, block) = (self.order, buffer.window());
        let interface = id(order, block);
        let described = self.described(interface)?;
        let ticks = u64::from(order.u32(block, 12)) << 32 | u64::from(order.u32(block, 16));
        let len = order.u32(block, 20) as usize;
        if len > total - 32 {
            let what = format!("a packet claims {len} bytes in a block of {total}");
            return Err(Trouble::Broken(what));
        }
        Ok(Frame {
            time: described.clock.time(ticks),
            origlen: order.u32(block, 24),
            link: described.link,
            interface,
            start: 28,
            len: fits(len)?,
            total,
        })
    }

    /// A simple packet block has no time, and its caplen is what the snaplen leaves of it.
    fn simple(&self, buffer: &mut Buffer) -> Result<Frame, Trouble> {
        let total = self.whole(buffer, 16, "a simple packet")?;
        let origlen = self.order.u32(buffer.window(), 8);
        let described = self.described(0)?;
        let limit = match described.snaplen {
            0 => u32::MAX,
            snaplen => snaplen,
        };
        let len = (origlen.min(limit) as usize).min(total - 16);
        Ok(Frame {
            time: Timestamp::default(),
            origlen,
            link: described.link,
            interface: 0,
            start: 12,
            len: fits(len)?,
            total,
        })
    }

    fn described(&self, id: u32) -> Result<Interface, Trouble> {
        self.interfaces.get(id as usize).copied().ok_or_else(|| {
            let known = self.interfaces.len();
            Trouble::Broken(format!(
                "a packet names interface {id}, and {known} are described"
            ))
        })
    }

    /// Block length as the block says it.
    fn claimed(&self, buffer: &Buffer) -> usize {
        self.order.u32(buffer.window(), 4) as usize
    }

    /// Has a block of at least `least` bytes in the window, and gives its size.
    fn whole(&self, buffer: &mut Buffer, least: usize, what: &str) -> Result<usize, Trouble> {
        let claimed = self.claimed(buffer);
        if claimed < least || claimed > MAX_BLOCK {
            return Err(Trouble::Broken(format!(
                "{what} is in a block of {claimed} bytes, outside {least} to {MAX_BLOCK}"
            )));
        }
        let total = claimed.next_multiple_of(4);
        if self.strict && total != claimed {
            let what = format!("{what} is in a block of {claimed} bytes, no multiple of 4");
            return Err(Trouble::Broken(what));
        }
        need(buffer, total, what)?;
        self.trailer(buffer, total - 4, claimed)?;
        Ok(total)
    }

    /// Passes over a block without keeping it.
    fn pass(&self, buffer: &mut Buffer) -> Result<(), Trouble> {
        let claimed = self.claimed(buffer);
        if claimed < FRAMING {
            let what = format!("a block claims {claimed} bytes, less than its own framing");
            return Err(Trouble::Broken(what));
        }
        if self.strict && !claimed.is_multiple_of(4) {
            let what = format!("a block has {claimed} bytes, no multiple of 4");
            return Err(Trouble::Broken(what));
        }
        let body = claimed.next_multiple_of(4) - 4;
        if !buffer.skip(body as u64) {
            let what = format!("the file ends within a block of {claimed} bytes");
            return Err(Trouble::Cut(what));
        }
        need(buffer, 4, "a block")?;
        self.trailer(buffer, 0, claimed)?;
        buffer.consume(4);
        Ok(())
    }

    /// The length is repeated at a block's end; a difference means that one of the two is wrong.
    fn trailer(&self, buffer: &Buffer, at: usize, claimed: usize) -> Result<(), Trouble> {
        let repeated = self.order.u32(buffer.window(), at) as usize;
        if repeated == claimed {
            return Ok(());
        }
        Err(Trouble::Broken(format!(
            "a block says {claimed} bytes at its start and {repeated} at its end"
        )))
    }
}

/// Why a block can't be read.
enum Trouble {
    Broken(String),
    Cut(String),
    Version(String),
}

fn need(buffer: &mut Buffer, bytes: usize, what: &str) -> Result<(), Trouble> {
    if buffer.fill(bytes) {
        return Ok(());
    }
    Err(Trouble::Cut(format!("the file ends within {what}")))
}

fn fits(len: usize) -> Result<usize, Trouble> {
    if len <= MAX_FRAME {
        return Ok(len);
    }
    Err(Trouble::Broken(format!(
        "a packet claims {len} bytes, more than the {MAX_FRAME} that a frame may have"
    )))
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let raw = field(bytes, at);
        match self {
            Self::Big => u16::from_be_bytes(raw),
            Self::Little => u16::from_le_bytes(raw),
        }
    }

    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let raw = field(bytes, at);
        match self {
            Self::Big => u32::from_be_bytes(raw),
            Self::Little => u32::from_le_bytes(raw),
        }
    }

    fn i64(self, bytes: &[u8], at: usize) -> i64 {
        let raw = field(bytes, at);
        match self {
            Self::Big => i64::from_be_bytes(raw),
            Self::Little => i64::from_le_bytes(raw),
        }
    }
}

/// `N` bytes at `at`; zeros outside (callers have checked).
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    match bytes.get(at..at + N) {
        Some(raw) => raw.try_into().unwrap_or([0; N]),
        None => [0; N],
    }
}

/// How an interface counts time.
#[derive(Clone, Copy)]
struct Clock {
    /// Negative power of ten, or of two with the top bit set.
    resolution: u8,
    /// Seconds to add.
    offset: i64,
}

impl Clock {
    const OPT_END: u16 = 0;
    const IF_TSRESOL: u16 = 9;
    const IF_TSOFFSET: u16 = 14;

    /// Looks for the two options; stops at the first that overruns the block.
    fn of(order: Order, mut options: &[u8]) -> Self {
        let mut clock = Self {
            resolution: 6,
            offset: 0,
        };
        while options.len() >= 4 {
            let (code, len) = (order.u16(options, 0), usize::from(order.u16(options, 2)));
            let Some(value) = options.get(4..4 + len) else {
                break;
            };
            match (code, value) {
                (Self::OPT_END, _) => break,
                (Self::IF_TSRESOL, [resolution, ..]) => clock.resolution = *resolution,
                (Self::IF_TSOFFSET, [_, _, _, _, _, _, _, _, ..]) => {
                    clock.offset = order.i64(value, 0);
                }
                _ => {}
            }
            options = options
                .get(4 + len.next_multiple_of(4)..)
                .unwrap_or_default();
        }
        clock
    }

    /// Whether it counts as this program does.
    fn is_plain(self) -> bool {
        matches!(self.resolution, 6 | 9) && self.offset == 0
    }

    fn precision(self) -> Precision {
        match self.is_fine() {
            true => Precision::Nanos,
            false => Precision::Micros,
        }
    }

    fn is_fine(self) -> bool {
        match self.resolution {
            power @ 0..0x80 => power > 6,
            power => power & 0x7F > 20,
        }
    }

    /// A time; before the epoch is the epoch, and too late is the last that there is.
    fn time(self, ticks: u64) -> Timestamp {
        let nanos = i128::from(self.nanos(ticks)) + i128::from(self.offset) * 1_000_000_000;
        let latest = i128::from(u64::MAX);
        Timestamp::from_nanos(u64::try_from(nanos.clamp(0, latest)).unwrap_or(u64::MAX))
    }

    fn nanos(self, ticks: u64) -> u64 {
        let power = u32::from(self.resolution & 0x7F);
        let wide = u128::from(ticks);
        let nanos = match (self.resolution & 0x80, power) {
            (0, 0..=9) => wide * 10u128.pow(9 - power),
            (0, _) => wide
                .checked_div(10u128.checked_pow(power - 9).unwrap_or(u128::MAX))
                .unwrap_or(0),
            _ => (wide * 1_000_000_000) >> power,
        };
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}
