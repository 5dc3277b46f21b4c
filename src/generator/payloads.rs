//! Synthetic traffic into memory, for whoever measures what lies behind the network.

use crate::generator::traffic::{Clock, Traffic};
use crate::generator::window::Window;
use crate::generator::{Error, Options, Wrapper};
use crate::time::Timestamp;

/// UDP payloads, as the network would carry them.
#[derive(Debug)]
pub struct Payloads {
    /// All of them.
    pub bytes: Vec<u8>,
    /// First byte and length of each.
    pub places: Vec<(u32, u32)>,
}

/// The first `count` packets of the traffic that `options` describe, or as many as fit into `most` bytes.
///
/// # Errors
/// As [`Generator::new`](crate::generator::Generator::new) has them, but for sockets.
pub fn payloads(options: &Options, count: u64, most: usize) -> Result<Payloads, Error> {
    let ipv6 = options.to.is_ipv6();
    let wrapper = Wrapper::new(options.shape, ipv6, options.mtu, options.packet_length);
    let mut traffic = Traffic::new(options)?;
    let mut window = Window::default();
    let clock = Clock::Live(Timestamp::default());
    for number in 0..count {
        let more = traffic.append(number, clock, &wrapper, &mut window);
        if !more || window.buffer.len() > most {
            break;
        }
    }
    let places = window.items.iter().map(|i| (i.place.start, i.place.len));
    Ok(Payloads {
        places: places.collect(),
        bytes: window.buffer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::sequence;

    #[test]
    fn payloads_are_numbered_packets_of_the_vnis_asked_for_within_the_bound() {
        let mut options = Options::new("127.0.0.1:4789".parse().unwrap());
        options.vnis = "5-8".parse().unwrap();
        let made = payloads(&options, 100, usize::MAX).unwrap();
        assert_eq!(made.places.len(), 100);
        for (i, (start, len)) in made.places.iter().enumerate() {
            let payload = &made.bytes[*start as usize..][..*len as usize];
            let mark = sequence::read(&payload[8..]).unwrap();
            assert!((5..=8).contains(&mark.vni.value()), "{mark:?}");
            assert_eq!(payload[6], mark.vni.value() as u8, "{i}");
        }
        let few = payloads(&options, 100, 5000).unwrap();
        assert!(few.places.len() < 40 && few.bytes.len() < 7000);
    }
}
