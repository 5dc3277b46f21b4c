//! Any rules: refused, or the first that matches decides, as a walk over them one by one says.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mirrortap::filter::{Action, Config, Direction, Filter, RuleConfig};
use mirrortap::headers::walk;

type Given<'a> = (u16, u8, Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<u16>, Option<&'a str>);

/// Half of the texts are taken as they are, the others made into something that makes sense more often.
fn rule(given: &Given<'_>) -> RuleConfig {
    let (number, bits, protocol, source, destination, port, ports) = *given;
    let network = |text: &str| match text.as_bytes() {
        [a, b, c, d, bits, ..] if !text.contains('/') => format!("{a}.{b}.{c}.{d}/{}", bits % 33),
        _ => text.to_owned(),
    };
    RuleConfig {
        number: number.into(),
        direction: if bits & 1 == 0 { Direction::Ingress } else { Direction::Egress },
        action: if bits & 2 == 0 { Action::Accept } else { Action::Reject },
        protocol: match bits & 12 {
            0 => Some("tcp".into()),
            4 => Some("udp".into()),
            _ => protocol.map(Into::into),
        },
        source: source.map(network),
        destination: destination.map(network),
        source_ports: port.map(|p| p.to_string().into()),
        destination_ports: ports.map(Into::into),
        description: None,
    }
}

fn compiled(rules: &[RuleConfig]) -> Option<Filter> {
    let config = Config {
        rules: rules.to_vec(),
        ..Config::default()
    };
    Filter::compile(&config, Path::new("/")).ok()
}

fuzz_target!(|input: (Vec<Given<'_>>, u32, &[u8])| {
    let (given, wire_len, frame) = input;
    let mut rules: Vec<RuleConfig> = given.iter().take(40).map(rule).collect();
    let Some(filter) = compiled(&rules) else {
        return;
    };
    rules.sort_by_key(|r| r.number);
    let headers = walk(frame);
    for direction in [Direction::Ingress, Direction::Egress] {
        let judged = filter.judge(frame, &headers, wire_len, direction);
        // each rule alone: the first that lets its packets through, or stops them, decides
        let first = rules.iter().filter(|r| r.direction == direction).find(|rule| {
            let alone = compiled(&[RuleConfig { action: Action::Accept, ..(*rule).clone() }]);
            alone.is_some_and(|f| f.judge(frame, &headers, wire_len, direction).reject.is_none())
        });
        let accepted = first.is_some_and(|r| r.action == Action::Accept);
        if rules.iter().any(|r| r.direction == direction) {
            assert_eq!(judged.reject.is_none(), accepted, "{rules:?}");
        }
    }
});
