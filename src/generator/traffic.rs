//! The stream of packets to send: from a capture or made up, by number.

use std::time::Duration;

use crate::generator::flows::Flows;
use crate::generator::frames::{Frame, Frames};
use crate::generator::window::{Item, Window};
use crate::generator::{Error, Input, Options, VniSet, Wrapper, port};
use crate::sys::send::Place;
use crate::time::Timestamp;

/// What gives synthetic packets their times.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// They go out now.
    Live(Timestamp),
    /// They are written to a file: from a start, at equal distances of so many nanoseconds.
    Spaced(Timestamp, u64),
}

impl Clock {
    fn at(self, number: u64) -> Timestamp {
        match self {
            Self::Live(now) => now,
            Self::Spaced(start, nanos) => {
                start.saturating_add(Duration::from_nanos(nanos.saturating_mul(number)))
            }
        }
    }
}

/// Where packets come from.
#[derive(Debug)]
pub(crate) enum Traffic {
    Capture {
        frames: Frames,
        vnis: VniSet,
        /// How many packets there are in all rounds.
        total: u64,
    },
    Synthetic(Flows),
}

impl Traffic {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        match &options.input {
            Input::Capture { path, loops } => {
                let frames = Frames::load(path, &options.vnis)?;
                let total = match loops {
                    0 => u64::MAX,
                    loops => frames.len().saturating_mul(*loops),
                };
                let vnis = options.vnis.clone();
                Ok(Self::Capture {
                    frames,
                    vnis,
                    total,
                })
            }
            Input::Synthetic { flows, size, seed } => {
                Flows::new(*flows, *size, *seed, &options.vnis).map(Self::Synthetic)
            }
        }
    }

    /// Appends packet `number` to the window; false when there is none any more.
    pub(crate) fn append(
        &mut self,
        number: u64,
        clock: Clock,
        wrap: &Wrapper,
        window: &mut Window,
    ) -> bool {
        match self {
            Self::Synthetic(flows) => flows.append(number, clock.at(number), wrap, window),
            Self::Capture {
                frames,
                vnis,
                total,
            } => {
                let Some((frame, bytes)) = frames.get(number).filter(|_| number < *total) else {
                    return false;
                };
                let time = frames.time(number);
                append_frame(frame, bytes, time, vnis, wrap, window);
            }
        }
        true
    }

    /// How long after the first packet this one comes, where the input has times of its own.
    pub(crate) fn offset(&self, number: u64) -> Option<Duration> {
        match self {
            Self::Capture { frames, .. } => Some(frames.offset(number)),
            Self::Synthetic(_) => None,
        }
    }

    /// Packets that were left out, and why the capture ended early.
    pub(crate) fn losses(&self) -> (u64, Option<String>) {
        match self {
            Self::Capture { frames, .. } => (frames.skipped, frames.damage.clone()),
            Self::Synthetic(_) => (0, None),
        }
    }

    /// Whether packets of different flows may overtake each other: a capture keeps its order.
    pub(crate) const fn may_reorder(&self) -> bool {
        matches!(self, Self::Synthetic(_))
    }
}

fn append_frame(
    frame: &Frame,
    bytes: &[u8],
    time: Timestamp,
    vnis: &VniSet,
    wrap: &Wrapper,
    window: &mut Window,
) {
    let start = window.buffer.len();
    let port = port::FIRST | u16::from(frame.slot);
    let vni = vnis.as_slice()[frame.vni as usize];
    let kept = wrap.append(vni, port, bytes, &mut window.buffer);
    let item = Item {
        place: Place::default(),
        slot: frame.slot,
        vni: frame.vni,
        cut: kept < bytes.len(),
        time,
    };
    window.push(start, item);
}
