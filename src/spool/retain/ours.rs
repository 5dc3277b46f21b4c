//! Which names are ours.
//!
//! Takes: the name of a folder and of a file in it. Gives: [`Mark`], its place in time, when the file is one that we would call
//! so. Holds: a name that a person might choose by chance is none of ours.

/// When a file's first packet came, and its number: what "oldest" goes by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mark {
    /// Year to second as digits: `20261124230000`.
    second: u64,
    micros: u32,
    /// The number at its end.
    pub number: u32,
}

/// `20261124T230000.123456Z`.
const STAMP: usize = 23;

/// Endings of capture files.
const ENDINGS: [&str; 6] = [
    ".pcap",
    ".pcapng",
    ".pcap.zst",
    ".pcapng.zst",
    ".pcap.gz",
    ".pcapng.gz",
];

impl Mark {
    /// Of a published file in the folder of a session; `None` for a name that is not ours.
    pub fn of(session: &str, name: &str) -> Option<Self> {
        let rest = name.strip_prefix(session)?;
        let rest = ENDINGS.iter().find_map(|end| rest.strip_suffix(end))?;
        let rest = without_worker(rest).strip_prefix('-')?;
        let (stamp, number) = rest.split_at_checked(STAMP)?;
        let number = number.strip_prefix('-').filter(|n| n.len() >= 6)?;
        let (second, micros) = stamp.strip_suffix('Z')?.split_once('.')?;
        let (day, time) = second.split_once('T')?;
        let whole = day.len() == 8 && time.len() == 6 && micros.len() == 6;
        let second = digits(day)? * 1_000_000 + digits(time)?;
        whole.then_some(Self {
            second,
            micros: u32::try_from(digits(micros)?).ok()?,
            number: u32::try_from(digits(number)?).ok()?,
        })
    }
}

/// Whether a name is that of a file which is not finished, was set aside, or keeps what was cut off a damaged one; where such a
/// name was taken, a number follows it.
pub(super) fn is_hidden(name: &str) -> bool {
    let named = match name.rsplit_once('-') {
        Some((named, number)) if digits(number).is_some() => named,
        _ => name,
    };
    let ends = |name: &str, ending: &str| name.ends_with(ending);
    name.starts_with('.')
        && (ends(name, ".partial") || ends(named, ".aside") || ends(named, ".damaged"))
}

/// `-w3-…` of a file with the packets of one worker, without the worker.
fn without_worker(rest: &str) -> &str {
    let after = rest.strip_prefix("-w").unwrap_or_default();
    let tail = after.trim_start_matches(|c: char| c.is_ascii_digit());
    if tail.len() < after.len() { tail } else { rest }
}

fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::spool::{Compression, Format, Name};
    use crate::time::Timestamp;

    #[test]
    fn what_a_person_would_call_a_file_is_not_ours() {
        let ours = "web-20261124T230000.123456Z-000001.pcap";
        assert!(Mark::of("web", ours).is_some());
        assert!(Mark::of("web", "web-w12-20261124T230000.123456Z-000001.pcapng.zst").is_some());
        for name in [
            "web.pcap",
            "web-1.pcap",
            "other-20261124T230000.123456Z-000001.pcap",
            "web-20261124T230000.123456Z-000001.pcap.bak",
            "web-20261124T230000.123456Z-000001",
            "web-20261124T230000.123456Z-0001.pcap",
            "web-20261124T230000.123456Z-+00001.pcap",
            "web-w-20261124T230000.123456Z-000001.pcap",
            "web-wx-20261124T230000.123456Z-000001.pcap",
            "web-2026112xT230000.123456Z-000001.pcap",
            "web-20261124 230000.123456Z-000001.pcap",
            ".web-20261124T230000.123456Z-000001.pcap.partial",
            "copy of web-20261124T230000.123456Z-000001.pcap",
            "web",
            "",
        ] {
            assert_eq!(Mark::of("web", name), None, "{name}");
        }
        assert!(!is_hidden(ours) && !is_hidden(&format!(".{ours}")));
        for ending in ["partial", "aside", "aside-2", "damaged", "damaged-12"] {
            assert!(is_hidden(&format!(".{ours}.{ending}")), "{ending}");
            assert!(!is_hidden(&format!("{ours}.{ending}")), "{ending}");
        }
    }

    proptest! {
        #[test]
        fn every_name_that_we_give_is_ours_and_older_is_smaller(
            a in 0_u64..4_000_000_000_000_000_000, b in 0_u64..4_000_000_000_000_000_000, number in any::<u32>(),
        ) {
            let mark = |nanos| {
                let start = Timestamp::from_nanos(nanos);
                let name = Name::new("out".as_ref(), "vni-7", start, (Format::Pcapng, Compression::Zstd), number);
                let path = name.published();
                Mark::of("vni-7", &path.file_name().unwrap().to_string_lossy()).unwrap()
            };
            assert_eq!(mark(a).cmp(&mark(b)), (a / 1000).cmp(&(b / 1000)));
            assert_eq!(mark(a).number, number);
        }

        #[test]
        fn nothing_that_is_called_anything_panics(session in ".{0,12}", name in ".{0,60}") {
            let _ = Mark::of(&session, &name);
            let _ = Mark::of(&session, &format!("{session}{name}"));
        }
    }
}
