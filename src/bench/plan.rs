//! What a measurement runs: the configuration, and the datagrams.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::bench::{Error, Options};
use crate::config::Config;
use crate::filter::{self, Action, Direction, RuleConfig};
use crate::generator::{self, Input, Pace};
use crate::packet::{Tally, Vni};
use crate::session::{self, OutputConfig, Table, VniRange, Vnis};
use crate::source::Source;
use crate::source::synthetic::{self, Synthetic};
use crate::units::{Interval, Size};

/// Datagrams of the source in memory, at least: few enough to stay in the cache, as freshly received ones are.
const DATAGRAMS: u64 = 4 * synthetic::BATCH as u64;
/// Their bytes, at most; each batch of each receiver has them all.
const BYTES: usize = 16 << 20;
/// A capture file is so large, so that a few of them fit into what the disk may hold.
const FILE: u64 = 128 << 20;
/// Sessions times rules, at most: each session compiles its own.
const MOST_RULES: u64 = 2_000_000;

/// The configuration for `options`, writing to `output`.
pub(super) fn config(options: &Options, output: &Path) -> Result<Config, Error> {
    let rules = u64::from(options.rules) * u64::from(options.sessions);
    if options.sessions == 0 || rules > MOST_RULES {
        let text = format!(
            "give 1 session or more, and at most {MOST_RULES} rules in all sessions together"
        );
        return Err(Error::Options(text));
    }
    let rotate_size = Some(Size(FILE.min(options.disk / 4).max(4096)));
    let mut config = Config {
        output: output.to_owned(),
        shutdown_timeout: Interval(Duration::from_secs(60)),
        capture: OutputConfig {
            rotate_size,
            ..OutputConfig::default()
        },
        ..Config::default()
    };
    config.threads.receivers = options.receivers;
    config.threads.workers = options.workers;
    config.source.kind = options.source;
    config.source.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let filter = (options.rules > 0).then(|| filter(options.rules));
    config.session = (1..=options.sessions)
        .map(|number| session(number, filter.clone()))
        .collect();
    Ok(config)
}

fn session(number: u32, filter: Option<filter::Config>) -> session::Config {
    let vni = Vni::new(number);
    session::Config {
        name: format!("bench-{number}"),
        vni: Vnis(vec![VniRange {
            first: vni,
            last: vni,
        }]),
        source: Vec::new(),
        eni_mac: Vec::new(),
        eni_address: Vec::new(),
        packet_length: None,
        filter,
        capture: OutputConfig::default(),
        retention: Default::default(),
        ship: Default::default(),
    }
}

/// Rules that reject blocks of addresses that the traffic does not have, half of them each way, and then accept all.
fn filter(rules: u32) -> filter::Config {
    let reject = (0..rules).map(|i| RuleConfig {
        number: i + 1,
        direction: direction(i),
        action: Action::Reject,
        protocol: Some("tcp".into()),
        source: Some(block(i)),
        destination: None,
        source_ports: None,
        destination_ports: None,
        description: None,
    });
    let accept = (0..4).map(|i| RuleConfig {
        number: rules + 1 + i,
        direction: direction(i),
        action: Action::Accept,
        protocol: None,
        source: Some(if i < 2 { "0.0.0.0/0" } else { "::/0" }.to_owned()),
        destination: None,
        source_ports: None,
        destination_ports: None,
        description: None,
    });
    filter::Config {
        rules: reject.chain(accept).collect(),
        ..filter::Config::default()
    }
}

fn direction(i: u32) -> Direction {
    if i.is_multiple_of(2) {
        Direction::Ingress
    } else {
        Direction::Egress
    }
}

/// Small blocks of 240.0.0.0/4, which nobody has.
fn block(i: u32) -> String {
    let address = Ipv4Addr::from(0xf000_0000 | (i << 6));
    format!("{address}/{}", 26 + i % 7)
}

/// What the generator is told: as many VNIs as sessions, and two flows or more for each.
pub(super) fn traffic(options: &Options, to: SocketAddr) -> Result<generator::Options, Error> {
    let mut traffic = generator::Options::new(to);
    let vnis = format!("1-{}", options.sessions);
    traffic.vnis = vnis
        .parse()
        .map_err(|e: generator::BadVni| Error::Options(e.to_string()))?;
    traffic.input = Input::Synthetic {
        flows: (2 * options.sessions).max(DATAGRAMS as u32),
        size: options.size,
        seed: 0,
    };
    traffic.pace = options.rate.map_or(Pace::Full, Pace::Rate);
    traffic.duration = Some(options.duration);
    Ok(traffic)
}

/// The datagrams that the source in memory gives.
pub(super) fn set(options: &Options) -> Result<Arc<synthetic::Set>, Error> {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 4789));
    let batches = u64::from(options.sessions).next_multiple_of(synthetic::BATCH as u64);
    let count = DATAGRAMS.max(batches);
    let made = generator::payloads(&traffic(options, to)?, count, BYTES)?;
    let source = IpAddr::from([10, 0, 1, 10]);
    let set = synthetic::Set::new(made.bytes, &made.places, source, to.port());
    Ok(Arc::new(set))
}

/// Sources in memory for `receivers` receivers.
pub(super) fn sources(set: &Arc<synthetic::Set>, receivers: usize) -> Vec<Box<dyn Source>> {
    (0..receivers)
        .map(|i| -> Box<dyn Source> { Box::new(Synthetic::new(Arc::clone(set), i)) })
        .collect()
}

/// All ledgers of a table together.
pub(super) fn total(table: &Table) -> Tally {
    let mut total = Tally::default();
    for (_, _, tally) in table.ledgers() {
        total.merge(&tally);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocks_of_20000_rules_are_all_in_a_range_that_nobody_has() {
        for i in 0..20_000 {
            let block: ipnet::Ipv4Net = block(i).parse().unwrap();
            assert!(block.addr().octets()[0] >= 240, "{block}");
        }
    }
}
