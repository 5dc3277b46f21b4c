//! A payload, whatever it holds, is unwrapped to a frame that lies inside it, or refused; and bytes that are
//! missing at its end never turn a frame into another one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mirrortap::decap::unwrap;
use mirrortap::packet::Ports;

fuzz_target!(|input: (u16, u8, &[u8])| {
    let (cut, port, payload) = input;
    let ports = Ports::default();
    let port = match port % 3 {
        0 => ports.vxlan,
        1 => ports.geneve,
        _ => 4000,
    };
    let Ok(inner) = unwrap(payload, cut.into(), port, ports) else {
        return;
    };
    let end = inner.start.checked_add(inner.len).expect("a place in memory");
    assert!(inner.len > 0 && end <= payload.len(), "{inner:?}");
    // the same datagram, captured with one byte less
    let shorter = &payload[..payload.len() - 1];
    if let Ok(less) = unwrap(shorter, usize::from(cut) + 1, port, ports) {
        assert_eq!((less.start, less.vni), (inner.start, inner.vni));
        assert!(less.len <= inner.len);
    }
});
