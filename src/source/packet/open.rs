//! Opening packet rings: what they are made of, and why one could not be had.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::source::fragments::Fragments;
use crate::source::interfaces::{self, Interface};
use crate::source::packet::guard::Guard;
use crate::source::packet::{BLOCK_SHIFT, Packet, filter};
use crate::source::watermark::{Card, Watermark};
use crate::source::{Clock, Config, Facts, Kind, LONGEST_LATENCY, place};
use crate::sys::ring::{Fanout, Ring, Setup, Step};
use crate::sys::sockopt::Instruction;

/// A ring of fewer blocks could not be read while it is written.
const FEWEST_BLOCKS: usize = 8;
/// The kernel hands blocks over by the millisecond, not finer.
const SHORTEST: u32 = 1;
const LONGEST: u32 = LONGEST_LATENCY.as_millis() as u32;

/// Why a ring could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Which interface.
    #[error(transparent)]
    Interface(#[from] interfaces::Error),
    /// The privilege is missing.
    #[error(
        "cannot open a packet ring on {0}: CAP_NET_RAW is missing; run as root, or add AmbientCapabilities=CAP_NET_RAW to the unit"
    )]
    Forbidden(String),
    /// There is no memory for it.
    #[error(
        "cannot open a packet ring of {size} on {interface}: the kernel has no memory for it; make source.receive_buffer smaller"
    )]
    Memory {
        /// The interface.
        interface: String,
        /// Bytes asked for.
        size: crate::units::Size,
    },
    /// Too many to tell apart.
    #[error(
        "cannot tell {0} addresses apart in front of a packet ring, at most {max}; listen on \"[::]\", or use source.kind = \"udp\"",
        max = filter::MAX_ADDRESSES
    )]
    Addresses(usize),
    /// Too many ports.
    #[error(
        "cannot tell {0} ports apart in front of a packet ring, at most {max}; listen on fewer, or use source.kind = \"udp\"",
        max = filter::MAX_PORTS
    )]
    Ports(usize),
    /// Anything else, with the step that failed.
    #[error("cannot open a packet ring on {interface}: {step}: {error}")]
    Ring {
        /// The interface.
        interface: String,
        /// What was being done.
        step: Step,
        /// What the system said.
        error: io::Error,
    },
}

/// Opens `receivers` rings on each interface.
///
/// # Errors
/// What can't be had, with what to do about it.
pub fn open(config: &Config, receivers: usize) -> Result<Vec<Packet>, Error> {
    let addresses = interfaces::wanted_addresses(&config.listen);
    if addresses.len() > filter::MAX_ADDRESSES {
        return Err(Error::Addresses(addresses.len()));
    }
    let mut ports: Vec<u16> = config.listen.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    if ports.len() > filter::MAX_PORTS {
        return Err(Error::Ports(ports.len()));
    }
    let program = filter::program(&ports, &addresses);
    let found = interfaces::find(config)?;
    let openings = || {
        found.iter().map(|interface| Opening {
            config,
            ports: &ports,
            interface,
        })
    };
    // all of them before the guard: what can't be had should change nothing, and warn of nothing
    let rings = openings().map(|opening| opening.rings(receivers));
    let rings = rings.collect::<Result<Vec<_>, _>>()?;
    let guard = Arc::new(Guard::new(&config.listen, &found));
    let mut all = Vec::new();
    for (opening, rings) in openings().zip(rings) {
        all.extend(opening.sources(rings, &program, &guard)?);
    }
    Ok(all)
}

struct Opening<'a> {
    config: &'a Config,
    ports: &'a [u16],
    interface: &'a Interface,
}

/// The rings of an interface, which take nothing yet.
struct Rings {
    rings: Vec<Ring>,
    clock: Clock,
    fanout: Fanout,
}

impl Opening<'_> {
    fn rings(&self, count: usize) -> Result<Rings, Error> {
        let clock = interfaces::clock(self.config, std::slice::from_ref(self.interface));
        let rings = (0..count).map(|_| self.ring(clock));
        let rings = rings.collect::<Result<Vec<_>, _>>()?;
        let fanout = self.fanout(count);
        let mut group = None;
        for ring in rings.iter().filter(|_| count > 1) {
            group = Some(
                ring.join(group, fanout)
                    .map_err(self.failed("PACKET_FANOUT"))?,
            );
        }
        Ok(Rings {
            rings,
            clock,
            fanout,
        })
    }

    /// Rings and their group are there; now what they take: a packet is never in two of them.
    fn sources(
        &self,
        rings: Rings,
        program: &[Instruction],
        guard: &Arc<Guard>,
    ) -> Result<Vec<Packet>, Error> {
        for ring in &rings.rings {
            ring.accept(program)
                .map_err(self.failed("SO_ATTACH_FILTER"))?;
        }
        let spread = match (rings.rings.len(), rings.fanout) {
            (1, _) => String::new(),
            (n, Fanout::Cpu) => format!(", one of {n} by core"),
            (n, Fanout::Hash) => format!(", one of {n} by hash"),
        };
        let card = Arc::default();
        let each = rings.rings.into_iter();
        Ok(each
            .map(|ring| self.source(ring, (rings.clock, &card), &spread, guard))
            .collect())
    }

    fn ring(&self, clock: Clock) -> Result<Ring, Error> {
        let setup = Setup {
            interface: self.interface.index,
            blocks: self.blocks(),
            block_shift: BLOCK_SHIFT,
            retire: self.retire(),
        };
        let ring = Ring::open(&setup).map_err(|(step, error)| self.failed(step)(error))?;
        if clock == Clock::Hardware {
            ring.hardware_times()
                .map_err(self.failed("PACKET_TIMESTAMP"))?;
        }
        Ok(ring)
    }

    fn blocks(&self) -> usize {
        let asked = self.config.receive_buffer.0 >> BLOCK_SHIFT;
        usize::try_from(asked)
            .unwrap_or(FEWEST_BLOCKS)
            .max(FEWEST_BLOCKS)
    }

    fn retire(&self) -> u32 {
        let latency = self.config.latency.duration().as_millis();
        u32::try_from(latency)
            .unwrap_or(LONGEST)
            .clamp(SHORTEST, LONGEST)
    }

    /// By core where each receiver can have a queue of its own; else the cores say nothing, and the hash spreads better.
    fn fanout(&self, receivers: usize) -> Fanout {
        let queues = Path::new("/sys/class/net")
            .join(&self.interface.name)
            .join("queues");
        let names = std::fs::read_dir(queues).into_iter().flatten().flatten();
        let is_receiving = |name: std::ffi::OsString| name.to_string_lossy().starts_with("rx-");
        match names.filter(|n| is_receiving(n.file_name())).count() >= receivers {
            true => Fanout::Cpu,
            false => Fanout::Hash,
        }
    }

    fn source(
        &self,
        ring: Ring,
        (clock, card): (Clock, &Arc<Card>),
        spread: &str,
        guard: &Arc<Guard>,
    ) -> Packet {
        let blocks = self.blocks();
        let retire = Duration::from_millis(u64::from(self.retire()));
        let bytes = (blocks << BLOCK_SHIFT) as u64;
        let facts = Facts {
            listen: self.config.listen.clone(),
            interface: Some(self.interface.name.clone()),
            mode: format!(
                "TPACKET_V3, {blocks} blocks of {} KiB{spread}, {}",
                (1 << BLOCK_SHIFT) >> 10,
                guard.mode
            ),
            clock,
            buffer_asked: self.config.receive_buffer.0,
            buffer_granted: bytes,
            ..Facts::new(Kind::Packet, self.interface.name.clone(), &[place::RING])
        };
        Packet {
            ring,
            interface: self.interface.clone(),
            is_down: false,
            ports: self.ports.to_vec(),
            facts: Arc::new(facts),
            fragments: Fragments::default(),
            kept_back: None,
            retire,
            // a kernel that counts in ticks may be late by one
            watermark: Watermark::new(clock, retire * 2, card),
            blocks: 0,
            told: 0,
            found: 0,
            stopping: None,
            _guard: Arc::clone(guard),
        }
    }

    fn failed(&self, step: Step) -> impl Fn(io::Error) -> Error + '_ {
        move |error| {
            let interface = self.interface.name.clone();
            let size = self.config.receive_buffer;
            match error.raw_os_error() {
                Some(libc::EPERM) => Error::Forbidden(interface),
                Some(libc::ENOMEM) => Error::Memory { interface, size },
                // more blocks than the kernel can count
                _ if step == "PACKET_RX_RING" && error.kind() == io::ErrorKind::InvalidInput => {
                    Error::Memory { interface, size }
                }
                _ => Error::Ring {
                    interface,
                    step,
                    error,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_of_any_size_that_cannot_be_had_says_what_to_do() {
        let config = Config::default();
        let interface = Interface {
            name: "lo".to_owned(),
            index: 1,
            mtu: 1500,
        };
        let opening = Opening {
            config: &config,
            ports: &[],
            interface: &interface,
        };
        for error in [
            io::Error::from_raw_os_error(libc::ENOMEM),
            io::Error::from_raw_os_error(libc::EINVAL),
            io::ErrorKind::InvalidInput.into(),
        ] {
            let told = opening.failed("PACKET_RX_RING")(error).to_string();
            assert!(
                told.contains("make source.receive_buffer smaller"),
                "{told}"
            );
        }
    }
}
