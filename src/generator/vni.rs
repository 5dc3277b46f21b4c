//! The VNIs to send with, as `100-200,300` says it.

use std::fmt;
use std::str::FromStr;

use crate::packet::Vni;

/// More would only cost memory: each is a session of its own at the receiver.
const MOST: usize = 1 << 20;

/// One or more VNIs, in the order given, without repeats.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VniSet(Vec<Vni>);

impl VniSet {
    /// The one VNI `vni`.
    pub fn one(vni: Vni) -> Self {
        Self(vec![vni])
    }

    /// All of them; never empty.
    pub fn as_slice(&self) -> &[Vni] {
        &self.0
    }
}

/// Why a text names no set of VNIs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct BadVni(String);

impl fmt::Display for BadVni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; give numbers from 0 to {} and ranges, like 100-200,300",
            self.0,
            Vni::MAX
        )
    }
}

impl FromStr for VniSet {
    type Err = BadVni;

    fn from_str(text: &str) -> Result<Self, BadVni> {
        let mut seen = std::collections::HashSet::new();
        let mut all = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(BadVni(format!("the range {part} runs backwards")));
            }
            if (last - first) as usize + all.len() >= MOST {
                return Err(BadVni(format!("{text} names more than {MOST} VNIs")));
            }
            all.extend((first..=last).filter(|&v| seen.insert(v)).map(Vni::new));
        }
        Ok(Self(all))
    }
}

fn number(text: &str) -> Result<u32, BadVni> {
    match text.trim().parse() {
        Ok(value) if value <= Vni::MAX.value() => Ok(value),
        _ => Err(BadVni(format!("{text:?} is not a VNI"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<u32> {
        let set: VniSet = text.parse().unwrap();
        set.as_slice().iter().map(|v| v.value()).collect()
    }

    #[test]
    fn numbers_and_ranges_are_taken_in_order_without_repeats() {
        assert_eq!(values("7"), [7]);
        assert_eq!(values("100-103, 300,101"), [100, 101, 102, 103, 300]);
        assert_eq!(values("16777215"), [16_777_215]);
    }

    #[test]
    fn what_is_no_set_of_vnis_is_refused_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("", "\"\""),
            ("1,", "\"\""),
            ("16777216", "16777216"),
            ("9-3", "9-3"),
            ("a", "\"a\""),
            ("-4", "\"\""),
            ("0-16777215", "1048576"),
        ] {
            let error = text.parse::<VniSet>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
