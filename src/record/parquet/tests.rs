//! What is written is read again, and damage is told.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::record::{Field, Format, Value};

const LINES: &str = "\
version srcaddr dstport protocol packets bytes start end log-status pkt-src-aws-service x-vni x-session their-own
5 10.0.0.1 443 6 10 1000 100 160 OK S3 7 web theirs
5 2001:db8::1 53 17 5000000000 9000000000000 100 160 OK - - - -
5 - - - - - 100 160 NODATA - 7 - %2D
";

fn packed(text: &str) -> Vec<u8> {
    from_lines(text.as_bytes(), Vec::new()).unwrap()
}

/// Lines, header and all; or the fault.
fn unpacked(bytes: Vec<u8>) -> Result<String, Fault> {
    let mut reader = Reader::open(Bytes::from(bytes))?;
    let mut text = format!("{}\n", reader.columns().header());
    while let Some(record) = reader.next_record()? {
        text.push_str(&format!("{record}\n"));
    }
    Ok(text)
}

#[test]
fn what_is_written_is_read_again() {
    let bytes = packed(LINES);
    let reader = Reader::open(Bytes::from(bytes.clone())).unwrap();
    assert_eq!(reader.len(), 3);
    assert_eq!(unpacked(bytes).unwrap(), LINES);
}

#[test]
fn numbers_are_numbers_and_dashes_are_null() {
    let mut reader = Reader::open(Bytes::from(packed(LINES))).unwrap();
    let first = reader.next_record().unwrap().unwrap();
    assert_eq!(first.get(Field::Protocol), Value::Number(6));
    assert_eq!(first.values()[10], Value::Number(7));
    reader.next_record().unwrap();
    let last = reader.next_record().unwrap().unwrap();
    assert_eq!(last.get(Field::Packets), Value::Null);
    assert_eq!(last.get(Field::SrcAddr), Value::Null);
    assert!(reader.next_record().unwrap().is_none());
}

#[test]
fn more_rows_than_a_row_group_holds_are_all_there() {
    let lines = (0..3_000).map(|n| format!("10.0.{}.{} {n}\n", n / 256 % 256, n % 256));
    let text = format!("srcaddr bytes\n{}", lines.collect::<String>());
    let bytes = write::in_groups(text.as_bytes(), Vec::new(), 1_300).unwrap();
    assert!(unpacked(bytes).unwrap() == text);
}

#[test]
fn a_file_without_records_has_columns() {
    assert_eq!(
        unpacked(packed("srcaddr bytes\n")).unwrap(),
        "srcaddr bytes\n"
    );
}

#[test]
fn a_line_that_is_no_record_is_refused() {
    for text in [
        "",
        "no header\n",
        "srcaddr bytes\n10.0.0.1 x\n",
        "srcaddr bytes\n1\n",
    ] {
        assert!(from_lines(text.as_bytes(), Vec::new()).is_err(), "{text:?}");
    }
}

#[test]
fn every_cut_of_a_file_is_told() {
    let whole = packed(LINES);
    for length in 0..whole.len() {
        let fault = unpacked(whole[..length].to_vec()).unwrap_err();
        assert!(matches!(fault, Fault::File(_)), "{length}: {fault}");
    }
}

#[test]
fn parquet_of_something_else_is_no_flow_log() {
    let text = "srcaddr other-one other-two\n1.2.3.4 - -\n";
    assert!(from_lines(text.as_bytes(), Vec::new()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn damage_never_panics(faults in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 20)) {
        let whole = packed(LINES);
        for (place, with) in faults {
            let mut bytes = whole.clone();
            bytes[place.index(whole.len())] ^= with;
            let _ = unpacked(bytes);
        }
    }

    #[test]
    fn all_fields_come_back(
        numbers in proptest::collection::vec(proptest::option::of(0..200_u64), 1..30), dash in 2..5_usize,
    ) {
        let format = Field::ALL.iter().map(|f| format!("${{{f}}}")).collect::<Vec<_>>().join(" ");
        let format: Format = format.parse().unwrap();
        let mut text = format!("{}\n", format.header());
        for (row, number) in numbers.iter().enumerate() {
            let value = |field: Field| match (field.kind(), number) {
                _ if row % dash == 0 => Value::Null,
                (_, None) => Value::Null,
                (crate::record::Kind::Integer | crate::record::Kind::Long, Some(n)) => Value::Number(*n),
                (crate::record::Kind::Address, Some(n)) => Value::Address([10, 0, 0, *n as u8].into()),
                (crate::record::Kind::Text, _) if field == Field::Action => Value::Text("ACCEPT"),
                (crate::record::Kind::Text, _) if field == Field::LogStatus => Value::Text("OK"),
                (crate::record::Kind::Text, _) => Value::Text("a-text"),
            };
            format.print(&mut text, value);
            text.push('\n');
        }
        prop_assert_eq!(unpacked(packed(&text)).unwrap(), text);
    }
}
