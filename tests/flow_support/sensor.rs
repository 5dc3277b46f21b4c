//! Flow logs of an outer capture.

use std::path::Path;

use mirrortap::capfile::Reader;
use mirrortap::filter::Direction;
use mirrortap::flow::{Closed, Seen, Table};
use mirrortap::flowlog::{Config, Interface, Log};
use mirrortap::headers;
use mirrortap::record::Field;
use mirrortap::time::Timestamp;

use super::Source;

/// Writes them below `out`, and gives the number of packets.
pub fn flow_logs(outer: &Path, sources: &[Source], format: &str, out: &Path) -> u64 {
    let mut fed = 0;
    let config = Config {
        log_format: format.parse().unwrap(),
        ..Config::default()
    };
    let mut table = Table::new(config.limits());
    let interfaces: Vec<Interface> = sources
        .iter()
        .map(|s| {
            let mut interface = Interface::at(s.address);
            interface.know(Field::InterfaceId, &s.interface());
            interface
        })
        .collect();
    let mut log = Log::new(&config, out, Timestamp::from_nanos(1));
    let mut reader = Reader::open(outer).unwrap();
    let mut out = |c: &Closed| log.record(&interfaces[c.key.eni as usize], c).unwrap();
    while let Some(record) = reader.next().unwrap() {
        fed += 1;
        let frame = &record.data[50..];
        let number = u16::from_be_bytes([record.data[28], record.data[29]]) - 1;
        let headers = headers::walk(frame);
        let (direction, time) = (Direction::Unknown, record.time);
        if let Some(seen) = Seen::of(number.into(), direction, &headers, frame, time) {
            table.expire(record.time, &mut out);
            table.add(&seen, &mut out);
        }
    }
    table.close(&mut out);
    log.finish().unwrap();
    fed
}
