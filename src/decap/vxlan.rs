//! VXLAN (RFC 7348, section 5): eight bytes.
//!
//! ```text
//!  0                   1                   2                   3
//!  R R R R I R R R │ reserved (24 bits)
//!  VNI (24 bits)                                 │ reserved (8 bits)
//! ```

use crate::decap::{Inner, behind};
use crate::packet::{DropReason, Vni};

/// Length of the header.
pub(super) const HEADER_LEN: usize = 8;

/// "The I flag MUST be set to 1 for a valid VXLAN Network ID (VNI)" (RFC 7348, section 5).
const I_FLAG: u8 = 0x08;

#[inline(always)]
pub(super) fn unwrap(payload: &[u8], cut: usize) -> Result<Inner, DropReason> {
    let Some(&[flags, r1, r2, r3, v1, v2, v3, r4]) = payload.first_chunk::<HEADER_LEN>() else {
        return Err(DropReason::Short);
    };
    if flags & I_FLAG == 0 {
        return Err(DropReason::NoVniFlag);
    }
    let (len, cut) = behind(HEADER_LEN, payload.len(), cut)?;
    Ok(Inner {
        start: HEADER_LEN,
        len,
        cut,
        vni: Vni::from_bytes([v1, v2, v3]),
        source: None,
        endpoint: None,
        reserved_bits: (flags & !I_FLAG) | r1 | r2 | r3 | r4 != 0,
    })
}
