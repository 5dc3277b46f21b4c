//! Synthetic flows: made from a seed, interleaved packet by packet, both directions in turn.
//!
//! Seven flows in ten are TCP, two in ten IPv6; each belongs to one VNI and each VNI has the same number
//! of flows. The inside of a VNI is one ENI: 10.0.0.10 and so on, with its own MAC; the outside is in the
//! range for benchmarks, 198.18.0.0/15, or below 2001:db8::/32.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::generator::mix::mix;
use crate::generator::sequence::Sequence;
use crate::generator::template::{End, Filler, Template, Variable};
use crate::generator::window::{Item, Window};
use crate::generator::{Error, Size, VniSet, Wrapper, port};
use crate::time::Timestamp;

/// More would only cost memory.
const MOST: usize = 1 << 20;
const ROUTER: [u8; 6] = [2, 0xff, 0, 0, 0, 1];

/// A conversation of one ENI with one outside host.
#[derive(Clone, Debug)]
struct Flow {
    /// Out of the ENI, and into it.
    ways: [Template; 2],
    /// The next TCP sequence number of either side.
    seq: [u32; 2],
    slot: u8,
    vni: u32,
}

/// All flows of a run.
#[derive(Debug)]
pub(crate) struct Flows {
    flows: Vec<Flow>,
    vnis: VniSet,
    sent_in_vni: Vec<u64>,
    size: Size,
    seed: u64,
    filler: Filler,
}

impl Flows {
    pub(crate) fn new(flows: u32, size: Size, seed: u64, vnis: &VniSet) -> Result<Self, Error> {
        let vni_count = vnis.as_slice().len();
        let count = (flows as usize).max(1).next_multiple_of(vni_count);
        if count > MOST {
            let text = format!("{count} flows are too many; the most are {MOST}");
            return Err(Error::Option(text));
        }
        let largest = match size {
            Size::Fixed(size) => size.min(Size::MAX),
            Size::Imix => 1500,
        };
        let flow = |n| Flow::new(n as u32, (n % vni_count) as u32, mix(seed ^ mix(n as u64)));
        Ok(Self {
            flows: (0..count).map(flow).collect(),
            vnis: vnis.clone(),
            sent_in_vni: vec![0; vni_count],
            size,
            seed,
            filler: Filler::new(seed, usize::from(largest)),
        })
    }

    /// Appends packet `number` to the window.
    pub(crate) fn append(
        &mut self,
        number: u64,
        time: Timestamp,
        wrap: &Wrapper,
        window: &mut Window,
    ) {
        let count = self.flows.len() as u64;
        let wanted = self.size_of(number);
        let flow = &mut self.flows[(number % count) as usize];
        let vni = self.vnis.as_slice()[flow.vni as usize];
        let in_vni = &mut self.sent_in_vni[flow.vni as usize];
        let mark = Sequence {
            vni,
            number,
            in_vni: *in_vni,
            time,
        };
        *in_vni += 1;
        let way = (number / count % 2) as usize;
        let size = wanted.max(flow.ways[way].least());
        let start = window.buffer.len();
        let kept = size.min(wrap.room());
        let port = port::FIRST | u16::from(flow.slot);
        wrap.head(vni, port, kept, &mut window.buffer);
        let end = window.buffer.len() + kept;
        let what = flow.advance(way, size, mark);
        flow.ways[way].append(size, &what, &self.filler, &mut window.buffer);
        window.buffer.truncate(end);
        window.push(start, flow.item(kept < size, time));
    }

    /// By number, not by turn, so that a flow has packets of all sizes.
    fn size_of(&self, number: u64) -> usize {
        match self.size {
            Size::Fixed(size) => usize::from(size.min(Size::MAX)),
            Size::Imix => match mix(self.seed ^ number) % 12 {
                0..7 => 64,
                7..11 => 576,
                _ => 1500,
            },
        }
    }
}

impl Flow {
    fn new(number: u32, vni: u32, random: u64) -> Self {
        let tcp = random % 10 < 7;
        let ipv6 = random / 10 % 10 < 2;
        let service = match (tcp, random / 100 % 2) {
            (true, 0) => 443,
            (true, _) => 8443,
            (false, 0) => 5001,
            (false, _) => 5201,
        };
        let client = 49_152 + (random >> 32) as u16 % 16_384;
        let [_, a, b, c] = vni.to_be_bytes();
        let inside = End {
            mac: [2, 0, 0, a, b, c],
            address: SocketAddr::new(inside(vni, ipv6), service),
        };
        let outside = End {
            mac: ROUTER,
            address: SocketAddr::new(outside(number, ipv6), client),
        };
        let ways = [
            Template::new(inside, outside, tcp),
            Template::new(outside, inside, tcp),
        ];
        let slot = slot_of(&ways[0]);
        Self {
            ways,
            seq: [random as u32, (random >> 16) as u32],
            slot,
            vni,
        }
    }

    /// Moves the TCP numbers on by one packet.
    fn advance(&mut self, way: usize, size: usize, mark: Sequence) -> Variable {
        let seq = self.seq[way];
        let payload = self.ways[way].payload(size) as u32;
        self.seq[way] = seq.wrapping_add(payload);
        let ack = self.seq[1 - way];
        Variable { mark, seq, ack }
    }

    fn item(&self, cut: bool, time: Timestamp) -> Item {
        Item {
            place: crate::sys::send::Place::default(),
            slot: self.slot,
            vni: self.vni,
            cut,
            time,
        }
    }
}

fn slot_of(way: &Template) -> u8 {
    let mut frame = Vec::new();
    let nothing = Filler::new(0, 0);
    way.append(way.least(), &Variable::default(), &nothing, &mut frame);
    (port::of_frame(&frame) - port::FIRST) as u8
}

/// A subnet of 16 addresses for each VNI, so that there is room for all of them in 10.0.0.0/8.
fn inside(vni: u32, ipv6: bool) -> IpAddr {
    if ipv6 {
        let net = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0));
        IpAddr::V6(Ipv6Addr::from(net | u128::from(vni << 4 | 10)))
    } else {
        let net = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        IpAddr::V4(Ipv4Addr::from(net | (vni << 4 | 10)))
    }
}

fn outside(number: u32, ipv6: bool) -> IpAddr {
    if ipv6 {
        let net = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 0));
        IpAddr::V6(Ipv6Addr::from(net | u128::from(number + 1)))
    } else {
        let net = u32::from(Ipv4Addr::new(198, 18, 0, 0));
        IpAddr::V4(Ipv4Addr::from(net | ((number + 1) & 0x1_ffff)))
    }
}
