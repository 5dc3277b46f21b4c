//! Opening the sources: of the kind that is asked for, or of the fastest that can be had.
//!
//! Takes: the `[source]` table and how many receivers there are to be. Gives: a source for each of them, what is known of it, and
//! [`Choice`]. Holds: with `auto`, a kind that can't be had is named with its reason, in the log and in status; a kind
//! that was asked for by name is that kind or an error.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::config::Config;
use crate::pipeline::{Error, Layout};
use crate::source::passed::Passed;
use crate::source::xdp::{self, Allow};
use crate::source::{Facts, Kind, Source, Timestamps, packet, udp};

/// What became of `auto`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    /// Whether the kind was left to choose.
    pub is_auto: bool,
    /// The kinds that would have been faster, and why they can't be had.
    pub refused: Vec<(Kind, String)>,
}

/// Sources, opened.
pub(super) struct Feeds {
    pub(super) sources: Vec<Box<dyn Source>>,
    pub(super) facts: Vec<Arc<Facts>>,
    pub(super) choice: Choice,
    /// Sockets that were bound here, for a service manager that keeps them.
    pub(super) bound: Vec<OwnedFd>,
}

impl Feeds {
    fn none() -> Self {
        Self {
            sources: Vec::new(),
            facts: Vec::new(),
            choice: Choice::default(),
            bound: Vec::new(),
        }
    }

    fn add(&mut self, source: Box<dyn Source>, facts: Arc<Facts>) {
        self.sources.push(source);
        self.facts.push(facts);
    }
}

/// Opens them; sockets that were passed are not opened again.
pub(super) fn open(config: &Config, layout: &Layout, lasting: Lasting) -> Result<Feeds, Error> {
    let feeds = match config.source.kind {
        Kind::Udp => with_sockets(config, layout, lasting)?,
        // whoever passes sockets has chosen
        Kind::Auto if !lasting.passed.is_empty() => with_sockets(config, layout, lasting)?,
        kind => {
            let mut passed = lasting.passed;
            passed.refuse_all(kind.name())?;
            of_kind(kind, config, layout)?
        }
    };
    tell(&feeds);
    Ok(feeds)
}

/// Sockets that outlive the process.
#[derive(Debug, Default)]
pub struct Lasting {
    /// Those that were passed.
    pub passed: Passed,
    /// Whether the service manager keeps those that are bound here.
    pub keeps: bool,
}

/// The fastest kind that can be had. AF_XDP only in the driver: behind it, it is no faster than a packet ring. Sockets come last: they
/// need nothing but the port, and so an error of theirs is an error.
fn choose(config: &Config, layout: &Layout) -> Result<Feeds, Error> {
    let native = Allow {
        generic: false,
        ..Allow::default()
    };
    let mut refused = Vec::new();
    let feeds = match with_xdp(config, layout, native) {
        Ok(feeds) => feeds,
        Err(error) => {
            refused.push((Kind::Xdp, error.to_string()));
            match with_rings(config, layout) {
                Ok(feeds) => feeds,
                Err(error) => {
                    refused.push((Kind::Packet, error.to_string()));
                    with_sockets(config, layout, Lasting::default())?
                }
            }
        }
    };
    let is_auto = true;
    Ok(Feeds {
        choice: Choice { is_auto, refused },
        ..feeds
    })
}

fn of_kind(kind: Kind, config: &Config, layout: &Layout) -> Result<Feeds, Error> {
    match kind {
        Kind::Udp => with_sockets(config, layout, Lasting::default()),
        Kind::Packet => with_rings(config, layout),
        Kind::Xdp => with_xdp(config, layout, Allow::default()),
        Kind::Auto => choose(config, layout),
    }
}

fn with_sockets(config: &Config, layout: &Layout, mut lasting: Lasting) -> Result<Feeds, Error> {
    let interfaces = &config.source.interface;
    if !interfaces.is_empty() && config.source.timestamps == Timestamps::Kernel {
        tracing::warn!(
            ?interfaces,
            "Sockets take datagrams from every interface, whichever is named: listen on an address to narrow that."
        );
    }
    let mut feeds = Feeds::none();
    for address in &config.source.listen {
        let passed = lasting.passed.take(*address)?;
        let sockets = match passed.is_empty() {
            false => udp::adopt(passed, *address, &config.source)?,
            true => udp::bind(*address, layout.receivers, &config.source)?,
        };
        for mut udp in sockets {
            if lasting.keeps && !udp.outlives() {
                feeds.bound.push(udp.keep().map_err(Error::Companion)?);
            }
            let facts = udp.facts();
            feeds.add(Box::new(udp), facts);
        }
    }
    lasting.passed.refuse_rest()?;
    Ok(feeds)
}

fn with_rings(config: &Config, layout: &Layout) -> Result<Feeds, Error> {
    let mut feeds = Feeds::none();
    for packet in packet::open(&config.source, layout.receivers)? {
        let facts = packet.facts();
        feeds.add(Box::new(packet), facts);
    }
    Ok(feeds)
}

/// The first receiver has the companions too: what comes to them is little.
fn with_xdp(config: &Config, layout: &Layout, allow: Allow) -> Result<Feeds, Error> {
    let mut companions = xdp::companions(&config.source)?;
    let beside: Vec<_> = companions.iter().map(udp::Udp::facts).collect();
    let mut feeds = Feeds::none();
    for queues in xdp::open(&config.source, layout.receivers, allow)? {
        let facts = queues.facts();
        let whole = xdp::Whole::new(queues, std::mem::take(&mut companions));
        feeds.add(Box::new(whole.map_err(Error::Companion)?), facts);
    }
    feeds.facts.extend(beside);
    Ok(feeds)
}

fn tell(feeds: &Feeds) {
    for (kind, reason) in &feeds.choice.refused {
        tracing::info!(kind = kind.name(), reason, "A faster source can't be had.");
    }
    let mut told = Vec::new();
    for facts in &feeds.facts {
        if told.contains(&facts.name) {
            continue;
        }
        told.push(facts.name.clone());
        let receivers = feeds.facts.iter().filter(|f| f.name == facts.name).count();
        tracing::info!(
            source = facts.kind.name(),
            on = facts.name,
            mode = facts.mode,
            timestamps = facts.clock.name(),
            receivers,
            receive_buffer = facts.buffer_granted,
            "Listening."
        );
        if facts.is_clamped() {
            tracing::warn!(
                asked = facts.buffer_asked,
                granted = facts.buffer_granted,
                "The kernel granted a smaller receive buffer than asked for; bursts may be lost. \
                 Raise net.core.rmem_max (see the packaged sysctl file) or grant CAP_NET_ADMIN."
            );
        }
    }
}
