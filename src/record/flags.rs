//! TCP flags as flow logs count them.

/// FIN, SYN and RST.
const COUNTED: u8 = 0x07;
/// SYN and ACK.
const SYN_ACK: u8 = 0x12;

/// What the flags byte of one packet adds to `tcp-flags`: FIN 1, SYN 2, RST 4, and 16 for an ACK that comes together
/// with a SYN. An ACK alone, PSH, URG, ECE and CWR add nothing.
pub const fn tcp_flags(flags: u8) -> u8 {
    let ack = if flags & SYN_ACK == SYN_ACK { 0x10 } else { 0 };
    flags & COUNTED | ack
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_packets_give_the_documented_values() {
        for (flags, value) in [
            (0x02, 2),
            (0x12, 18),
            (0x10, 0),
            (0x18, 0),
            (0x11, 1),
            (0x14, 4),
            (0xC2, 2),
            (0x52, 18),
        ] {
            assert_eq!(tcp_flags(flags), value, "{flags:#04x}");
        }
    }

    #[test]
    fn both_sides_of_a_short_connection_give_3_and_19() {
        let or = |flags: &[u8]| flags.iter().fold(0, |all, f| all | tcp_flags(*f));
        assert_eq!(or(&[0x02, 0x10, 0x18, 0x11]), 3);
        assert_eq!(or(&[0x12, 0x10, 0x11]), 19);
        assert_eq!(or(&[0x02, 0x10, 0x14]), 6, "reset after the set-up");
        assert_eq!(or(&[0x12, 0x10, 0x04]), 22);
    }
}
