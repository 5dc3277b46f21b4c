//! What was sent and what was not: live while a generator runs, summed up when it ends.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use crate::generator::VniSet;
use crate::generator::window::Item;
use crate::metrics::Counter;

/// Why the kernel refused a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Nobody listens on the target's port (it answered an earlier packet with ICMP port unreachable).
    /// The packet is tried again.
    Refused,
    /// Only the first part of a batch was taken. Why shows at the next try, as one of the other
    /// failures, unless it has passed: the kernel does not tell (a refusal within a batch ends here).
    CutShort,
    /// No buffer space (ENOBUFS), or the send buffer stayed full (EAGAIN). The packet is tried again.
    NoRoom,
    /// No route to the target. The packet is given up, as in all cases below.
    Unreachable,
    /// Larger than the path takes.
    TooLong,
    /// A packet filter of this machine forbids it.
    Forbidden,
    /// Something else.
    Other,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::CutShort,
        Self::NoRoom,
        Self::Unreachable,
        Self::TooLong,
        Self::Forbidden,
        Self::Other,
    ];

    /// The name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "connection_refused",
            Self::CutShort => "batch_cut_short",
            Self::NoRoom => "no_room",
            Self::Unreachable => "unreachable",
            Self::TooLong => "too_long",
            Self::Forbidden => "forbidden",
            Self::Other => "other",
        }
    }

    /// Whether the same packet may go through when it is tried again.
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Refused | Self::CutShort | Self::NoRoom)
    }

    pub(crate) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(libc::ENOBUFS | libc::EAGAIN) => Self::NoRoom,
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN) => Self::Unreachable,
            Some(libc::EMSGSIZE) => Self::TooLong,
            Some(libc::EPERM | libc::EACCES) => Self::Forbidden,
            _ => Self::Other,
        }
    }
}

/// The counts of a run; another thread may read them at any time.
#[derive(Debug)]
pub struct Counters {
    /// Packets that the kernel took, or that were written to the file.
    pub sent: Counter,
    /// Their UDP payload bytes: tunnel headers and inner frames.
    pub bytes: Counter,
    /// Packets that were given up.
    pub unsent: Counter,
    /// Packets whose inner frame was cut to the MTU or the packet length.
    pub cut: Counter,
    errors: [Counter; Failure::ALL.len()],
    vnis: VniSet,
    per_vni: Box<[Counter]>,
}

impl Counters {
    pub(crate) fn new(vnis: VniSet) -> Self {
        let per_vni = vnis.as_slice().iter().map(|_| Counter::new()).collect();
        Self {
            sent: Counter::new(),
            bytes: Counter::new(),
            unsent: Counter::new(),
            cut: Counter::new(),
            errors: [const { Counter::new() }; Failure::ALL.len()],
            vnis,
            per_vni,
        }
    }

    /// How often the kernel refused a packet for this reason.
    pub fn errors(&self, failure: Failure) -> u64 {
        self.errors[failure as usize].value()
    }

    /// Packets sent with each VNI.
    pub fn per_vni(&self) -> BTreeMap<u32, u64> {
        let sent = self.per_vni.iter().map(Counter::value);
        let vnis = self.vnis.as_slice().iter().map(|vni| vni.value());
        vnis.zip(sent).collect()
    }

    pub(crate) fn fail(&self, failure: Failure) {
        self.errors[failure as usize].add(1);
    }

    /// Adds to the VNI at place `index`.
    pub(crate) fn add_to_vni(&self, index: u32, packets: u64) {
        if let Some(counter) = self.per_vni.get(index as usize) {
            counter.add(packets);
        }
    }
}

/// What was sent since the counters were last told. They are told once a window, so that packets cost
/// no atomic operation.
#[derive(Debug)]
pub(crate) struct Account {
    sent: u64,
    bytes: u64,
    cut: u64,
    per_vni: Vec<u64>,
    touched: Vec<u32>,
}

impl Account {
    pub(crate) fn new(vnis: &VniSet) -> Self {
        Self {
            sent: 0,
            bytes: 0,
            cut: 0,
            per_vni: vec![0; vnis.as_slice().len()],
            touched: Vec::new(),
        }
    }

    pub(crate) fn sent(&mut self, items: &[Item]) {
        self.sent += items.len() as u64;
        for item in items {
            self.bytes += u64::from(item.place.len);
            self.cut += u64::from(item.cut);
            let packets = &mut self.per_vni[item.vni as usize];
            if *packets == 0 {
                self.touched.push(item.vni);
            }
            *packets += 1;
        }
    }

    pub(crate) fn publish(&mut self, counters: &Counters) {
        counters.sent.add(std::mem::take(&mut self.sent));
        counters.bytes.add(std::mem::take(&mut self.bytes));
        counters.cut.add(std::mem::take(&mut self.cut));
        for vni in self.touched.drain(..) {
            let packets = std::mem::take(&mut self.per_vni[vni as usize]);
            counters.add_to_vni(vni, packets);
        }
    }
}

/// What a run came to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// Packets that the kernel took, or that were written to the file.
    pub sent: u64,
    /// Their UDP payload bytes.
    pub bytes: u64,
    /// From the first packet to the last.
    pub seconds: f64,
    /// Packets a second.
    pub pps: f64,
    /// Packets that were given up.
    pub unsent: u64,
    /// Packets whose inner frame was cut.
    pub cut: u64,
    /// Packets of the capture that have no Ethernet form.
    pub skipped: u64,
    /// Why the capture could not be read to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// Source ports in use; 128 unless some were taken (0 when writing to a file).
    pub source_ports: usize,
    /// What the kernel refused, by reason.
    pub errors: BTreeMap<&'static str, u64>,
    /// Packets sent with each VNI.
    pub per_vni: BTreeMap<u32, u64>,
}

impl Report {
    /// What the counters say after `seconds`.
    pub(crate) fn new(counters: &Counters, seconds: f64) -> Self {
        let sent = counters.sent.value();
        let errors = Failure::ALL.map(|f| (f.name(), counters.errors(f)));
        Self {
            sent,
            bytes: counters.bytes.value(),
            seconds,
            pps: if seconds > 0.0 {
                sent as f64 / seconds
            } else {
                0.0
            },
            unsent: counters.unsent.value(),
            cut: counters.cut.value(),
            skipped: 0,
            damage: None,
            source_ports: 0,
            errors: errors.into_iter().filter(|(_, n)| *n != 0).collect(),
            per_vni: counters.per_vni(),
        }
    }
}
