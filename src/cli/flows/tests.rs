//! Reading and comparing, without a shell.

use std::io::{self, BufReader, Read};
use std::path::Path;

use proptest::prelude::*;

use super::*;

const HEADER: &str = "srcaddr dstaddr srcport dstport protocol packets bytes start end action";

/// A record of a flow: `port` tells flows apart.
fn line(port: u16, packets: u64, bytes: u64, start: u64, end: u64) -> String {
    format!("10.0.0.1 10.0.0.2 {port} 443 6 {packets} {bytes} {start} {end} ACCEPT")
}

fn compared(theirs: &[String], ours: &[String], slack: u64) -> compare::Outcome {
    let mut comparison = Comparison::by(BY_FLOW.to_vec(), slack);
    for (side, lines) in [(Side::Theirs, theirs), (Side::Ours, ours)] {
        let text = [&[HEADER.to_owned()], lines].concat().join("\n");
        let mut reading = Reading::new(None, Vec::new());
        let take = &mut |record: &crate::record::Record<'_>| comparison.add(side, record);
        reading
            .lines(Path::new("x"), text.as_bytes(), take)
            .unwrap();
        assert_eq!(reading.damaged_lines, 0);
    }
    comparison.outcome()
}

#[test]
fn intervals_that_are_not_aligned_agree_in_their_sums() {
    let theirs = [line(1, 10, 1000, 0, 59), line(1, 10, 1000, 60, 119)];
    let ours = [
        line(1, 3, 300, 0, 17),
        line(1, 10, 1000, 18, 77),
        line(1, 7, 700, 78, 119),
    ];
    let outcome = compared(&theirs, &ours, 60);
    assert_eq!((outcome.equal, outcome.lacking.count), (1, 0));
}

#[test]
fn what_ours_lack_is_told_in_packets_and_bytes() {
    let theirs = [
        line(1, 10, 1000, 0, 59),
        line(2, 5, 500, 0, 59),
        line(3, 1, 40, 0, 59),
    ];
    let ours = [
        line(1, 8, 800, 0, 59),
        line(3, 1, 40, 0, 59),
        line(4, 2, 80, 0, 59),
    ];
    let outcome = compared(&theirs, &ours, 60);
    let tally = |t: compare::Tally| (t.count, t.packets, t.bytes);
    assert_eq!(tally(outcome.lacking), (2, 7, 700));
    assert_eq!(tally(outcome.absent), (1, 5, 500));
    assert_eq!(tally(outcome.surplus), (1, 2, 80));
    assert_eq!(outcome.equal, 1);
    let ports: Vec<_> = outcome
        .differing
        .iter()
        .map(|s| s.key[3].to_string())
        .collect();
    assert_eq!(ports, ["2", "1", "4"], "those that lack most first");
}

#[test]
fn a_pause_longer_than_the_slack_parts_two_stretches() {
    let theirs = [line(1, 1, 100, 0, 10), line(1, 1, 100, 200, 210)];
    let ours = [line(1, 1, 100, 0, 10), line(1, 2, 200, 190, 210)];
    let outcome = compared(&theirs, &ours, 60);
    assert_eq!((outcome.equal, outcome.surplus.count), (1, 1));
    assert_eq!(compared(&theirs, &ours, 300).equal, 0, "one stretch");
}

#[test]
fn only_the_time_that_both_cover_is_judged() {
    let theirs = [
        line(1, 1, 100, 0, 10),
        line(2, 9, 900, 0, 5000),
        line(3, 1, 100, 4000, 4010),
    ];
    let ours = [line(2, 5, 500, 1000, 4500), line(3, 1, 100, 4000, 4010)];
    let outcome = compared(&theirs, &ours, 60);
    assert_eq!(outcome.common, Some((1000, 4500)));
    assert_eq!((outcome.outside, outcome.at_edge, outcome.equal), (1, 1, 1));
    assert_eq!(outcome.lacking.count, 0);
}

#[test]
fn an_empty_second_set_lacks_everything() {
    let outcome = compared(&[line(1, 10, 1000, 0, 59)], &[], 60);
    assert_eq!((outcome.absent.count, outcome.absent.packets), (1, 10));
}

/// SKIPDATA lines and records that a choice leaves of a text.
fn chosen(choice: &str) -> (u64, u64) {
    let header = "interface-id srcaddr protocol packets bytes start end log-status";
    let text = format!("{header}\neni-1 10.0.0.1 6 1 40 0 9 OK\neni-1 - - - - 0 9 SKIPDATA\n");
    let mut reading = Reading::new(None, vec![choice.parse().unwrap()]);
    let mut summary = Summary::by(Vec::new());
    let take = &mut |record: &crate::record::Record<'_>| {
        summary.add(record);
        Ok(())
    };
    reading
        .lines(Path::new("x"), text.as_bytes(), take)
        .unwrap();
    (summary.skip_data, summary.all.records)
}

#[test]
fn a_choice_of_flows_leaves_the_gaps_of_their_interface() {
    for (choice, is) in [
        ("protocol=17", (1, 0)),
        ("protocol=6", (1, 1)),
        ("srcaddr=10.0.0.1", (1, 1)),
        ("interface-id=eni-1", (1, 1)),
        ("interface-id=eni-2", (0, 0)),
        ("log-status=OK", (0, 1)),
        ("start=5", (0, 0)),
    ] {
        assert_eq!(chosen(choice), is, "{choice}");
    }
}

#[test]
fn text_of_others_does_not_drive_a_terminal() {
    let rows = [vec![cell::Cell::Text("eni-\x1b[31mX".into())]];
    let mut table = Vec::new();
    cell::table(&["interface-id".to_owned()], &rows, &mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert!(
        table.contains("eni-%1B[31mX") && !table.contains('\x1b'),
        "{table}"
    );
    assert_eq!(read::plain("a\x1bb é"), "a\\u{1b}b é");
}

/// Records, damaged lines and damaged files of a text.
fn read(bytes: impl Read) -> (u64, u64, u64) {
    let mut reading = Reading::new(None, Vec::new());
    let mut records = 0;
    let take = &mut |_: &crate::record::Record<'_>| {
        records += 1;
        Ok(())
    };
    let input = BufReader::with_capacity(100, bytes);
    reading.lines(Path::new("test"), input, take).unwrap();
    (records, reading.damaged_lines, reading.damaged_files)
}

#[test]
fn damaged_lines_are_counted_and_the_rest_is_read() {
    let good = line(1, 2, 3, 4, 5);
    let long = "9".repeat(200_000);
    let text = format!("{HEADER}\n{good}\nno record\n{long}\n\n{good}\r\n{long} {good}\n{good}");
    assert_eq!(read(text.as_bytes()), (3, 3, 0));
    let not_text = [text.as_bytes(), b"\n\xff\xfe\n", good.as_bytes()].concat();
    assert_eq!(read(not_text.as_slice()), (4, 4, 0));
}

#[test]
fn files_behind_each_other_may_have_other_columns() {
    let good = line(1, 2, 3, 4, 5);
    let other = "bytes packets\n77 8";
    let text = format!("{HEADER}\n{good}\n{other}\n{HEADER}\n{good}\n");
    assert_eq!(read(text.as_bytes()), (3, 0, 0));
}

#[test]
fn a_file_whose_columns_nobody_tells_is_not_guessed() {
    assert_eq!(read("1 2 3\n4 5 6\n".as_bytes()), (0, 0, 1));
}

#[test]
fn what_comes_before_a_failed_read_is_used() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let text = format!("{HEADER}\n{}\n", line(1, 2, 3, 4, 5));
    assert_eq!(read(text.as_bytes().chain(Broken)), (1, 0, 1));
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(bytes.as_slice());
        let _ = files::lines(io::Cursor::new(bytes), "Parquet").map(read);
    }

    #[test]
    fn the_same_packets_cut_into_other_intervals_always_agree(
        packets in proptest::collection::vec((0..2000_u64, 20..1500_u64), 1..60), ours in 1..700_u64,
    ) {
        let mut packets = packets;
        packets.sort_unstable();
        let cut = |interval: u64| {
            let mut records: Vec<(u64, u64, u64, u64)> = Vec::new();
            for (at, bytes) in &packets {
                match records.last_mut().filter(|r| at - r.2 < interval) {
                    Some(r) => *r = (r.0 + 1, r.1 + bytes, r.2, *at),
                    None => records.push((1, *bytes, *at, *at)),
                }
            }
            let lines = records.iter().map(|r| line(1, r.0, r.1, r.2, r.3));
            lines.collect::<Vec<_>>()
        };
        let outcome = compared(&cut(600), &cut(ours), 60);
        prop_assert!(outcome.differing.is_empty());
    }
}
