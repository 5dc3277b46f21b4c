//! IPv4 and IPv6.

use crate::headers::facts::{Fragment, Headers, Layer};
use crate::headers::{field, transport};

/// IPv6 headers that stand before the transport, and how they give their length.
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const NOTHING: u8 = 59;
    pub(super) const DESTINATION: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HOST_IDENTITY: u8 = 139;
    pub(super) const SHIM6: u8 = 140;

    /// Headers that a walk goes through. RFC 8200 sets no limit and a real packet has three or four, but
    /// who wants to hide a port from a filter may send a hundred.
    pub(super) const MOST: usize = 256;

    /// Length of an extension header of kind `next` whose length byte is `len`; none for a transport.
    #[inline]
    pub(super) fn length(next: u8, len: u8) -> Option<usize> {
        let len = usize::from(len);
        match next {
            FRAGMENT => Some(8),
            AUTHENTICATION => Some((len + 2) * 4),
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM6 => {
                Some((len + 1) * 8)
            }
            _ => None,
        }
    }
}

/// Reads an IPv4 header at `at` and goes on to what it carries.
#[inline]
pub(super) fn v4(headers: &mut Headers, frame: &[u8], at: usize) {
    let Some(head) = field::<20>(frame, at) else {
        headers.truncated = true;
        return;
    };
    let head_len = usize::from(head[0] & 0x0f) * 4;
    if head[0] >> 4 != 4 || head_len < head.len() {
        return;
    }
    headers.reached = Layer::Network;
    headers.network = Some(at as u16);
    headers.key.version = 4;
    headers.key.proto = head[9];
    headers.key.src[..4].copy_from_slice(&head[12..16]);
    headers.key.dst[..4].copy_from_slice(&head[16..20]);
    let total = u16::from_be_bytes([head[2], head[3]]);
    let packet = claimed(headers, frame, at, usize::from(total));

    let flags = u16::from_be_bytes([head[6], head[7]]);
    let offset = (flags & 0x1fff) * 8;
    if flags & 0x3fff != 0 {
        headers.fragment = Some(Fragment {
            id: u32::from(u16::from_be_bytes([head[4], head[5]])),
            offset,
            more: flags & 0x2000 != 0,
        });
    }
    carried(headers, packet, at + head_len, offset);
}

/// Reads an IPv6 header at `at` and goes on to what it carries.
#[inline]
pub(super) fn v6(headers: &mut Headers, frame: &[u8], at: usize) {
    let Some(head) = field::<40>(frame, at) else {
        headers.truncated = true;
        return;
    };
    if head[0] >> 4 != 6 {
        return;
    }
    headers.reached = Layer::Network;
    headers.network = Some(at as u16);
    headers.key.version = 6;
    headers.key.proto = head[6];
    headers.key.src.copy_from_slice(&head[8..24]);
    headers.key.dst.copy_from_slice(&head[24..40]);
    // A length of zero stands for "see the jumbo option", or a packet caught before segmentation.
    let total = match u16::from_be_bytes([head[4], head[5]]) {
        0 => 0,
        n => usize::from(n) + head.len(),
    };
    let packet = claimed(headers, frame, at, total);
    match extension::length(head[6], 0) {
        None => carried(headers, packet, at + head.len(), 0),
        Some(_) => extensions(headers, packet, at + head.len()),
    }
}

/// Takes the length that the IP header at `at` claims into account; gives the frame to the end of the
/// packet, without what pads it. A claim of zero says nothing.
#[inline]
fn claimed<'a>(headers: &mut Headers, frame: &'a [u8], at: usize, total: usize) -> &'a [u8] {
    let end = at + total;
    if total == 0 {
        return frame;
    }
    match frame.get(..end) {
        Some(packet) => packet,
        None => {
            headers.truncated = true;
            headers.wire_len = end as u32;
            frame
        }
    }
}

/// Reads what begins at `at`, unless it is a later piece of it.
#[inline]
fn carried(headers: &mut Headers, packet: &[u8], at: usize, offset: u16) {
    // Offsets have 16 bits, which only a chain of giant IPv6 extension headers can exceed.
    if at > packet.len().min(usize::from(u16::MAX)) {
        return;
    }
    if offset == 0 {
        transport::read(headers, packet, at);
    } else {
        headers.payload = Some(at as u16);
    }
}

/// Follows IPv6 extension headers, the first at `at`; the key's protocol is the kind of the last
/// header that was announced.
fn extensions(headers: &mut Headers, packet: &[u8], mut at: usize) {
    for _ in 0..extension::MOST {
        let kind = headers.key.proto;
        let Some(length) = extension::length(kind, 0) else {
            return carried(headers, packet, at, 0);
        };
        let Some([next, len]) = field(packet, at) else {
            return;
        };
        let length = extension::length(kind, *len).unwrap_or(length);
        // A mobility, HIP or Shim6 message with nothing behind it is the message, not a wrapping.
        if kind >= extension::MOBILITY && *next == extension::NOTHING {
            headers.reached = Layer::Transport;
            headers.transport = Some(at as u16);
            headers.payload = Some(at as u16);
            return;
        }
        if kind == extension::FRAGMENT {
            let Some(fragment) = fragment(packet, at) else {
                return;
            };
            if !headers.is_fragment() {
                headers.fragment = Some(fragment);
            }
            if fragment.offset != 0 {
                headers.key.proto = *next;
                return carried(headers, packet, at + length, fragment.offset);
            }
        }
        headers.key.proto = *next;
        at += length;
    }
}

fn fragment(packet: &[u8], at: usize) -> Option<Fragment> {
    let [_, _, high, low, id @ ..] = *field::<8>(packet, at)?;
    let flags = u16::from_be_bytes([high, low]);
    Some(Fragment {
        id: u32::from_be_bytes(id),
        offset: flags & 0xfff8,
        more: flags & 1 != 0,
    })
}
