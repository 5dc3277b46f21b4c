//! The end of credentials, as AWS writes it: `2026-11-28T18:00:00Z`.

use crate::time::Timestamp;

/// The point in time; `None` if the text is none, or not of UTC.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let whole = text
        .strip_suffix('Z')
        .or_else(|| text.strip_suffix("+00:00"))?;
    let whole = whole.split('.').next()?;
    let (date, time) = whole.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let good = (1970..=2500).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let seconds = || days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    good.then(|| Timestamp::from_parts(seconds(), 0))
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let mut parts = text.split(between).map(|part| part.parse().ok());
    let all = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(all)
}

/// Days since 1970-01-01. The year is taken to begin in March, so that the leap day is its last.
const fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let days = 365 * year + year / 4 - year / 100 + year / 400;
    days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_aws_writes_is_read() {
        let at = Timestamp::from_parts(1_795_561_200, 0);
        for text in [
            "2026-11-24T23:00:00Z",
            "2026-11-24T23:00:00.000Z",
            "2026-11-24T23:00:00+00:00",
        ] {
            assert_eq!(parse(text), Some(at), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "Z",
            "tomorrow",
            "2026-11-24",
            "2026-11-24T23:00:00",
            "2026-13-24T23:00:00Z",
            "2026-11-24T23:00:00+01:00",
            "99999999999999999999-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_second_is_read_as_it_was_printed(seconds in 0_u64..16_000_000_000) {
            let at = Timestamp::from_parts(seconds, 0);
            prop_assert_eq!(parse(&at.to_string()), Some(at));
        }
    }
}
