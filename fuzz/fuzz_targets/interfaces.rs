//! Any text as what `aws ec2 describe-network-interfaces` prints: refused with a place, or interfaces that are found and told in a line.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use mirrortap::flowlog::Interfaces;
use mirrortap::packet::Endpoint;
use mirrortap::record::{Columns, Field, Format, Status};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let tags = ["Name".to_owned(), "team".to_owned()];
    let Ok(interfaces) = Interfaces::from_json(text, &tags) else {
        return;
    };
    let all = Field::ALL.iter().map(|field| format!("${{{field}}}"));
    let format: Format = all.collect::<Vec<_>>().join(" ").parse().unwrap();
    let columns = Columns::from(&format);
    for interface in interfaces.list() {
        if let Some(primary) = interface.primary {
            for endpoint in [None, Some(Endpoint(0)), Some(Endpoint(u64::MAX))] {
                let found = interfaces.find(IpAddr::V4(primary), endpoint);
                assert!(found.is_none_or(|found| found.primary == Some(primary)));
            }
        }
        let mut line = String::new();
        format.print_without_flow(&mut line, Status::NoData, |field| interface.fact(field));
        columns.read(&line).unwrap();
    }
});
