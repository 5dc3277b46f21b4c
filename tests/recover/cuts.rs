//! Files that end anywhere.

use std::fs;
use std::path::{Path, PathBuf};

use mirrortap::spool::recover::{self, Outcome, Recovered};
use mirrortap::spool::{Compression, Format, Io, Name};

use crate::spool_support::*;

/// Units of a file: numbers and sizes of their records.
const UNITS: [&[(u64, usize)]; 4] = [
    &[(0, 60)],
    &[(1, 61), (2, 22)],
    &[(3, 90)],
    &[(4, 63), (5, 22), (6, 34)],
];

/// A file under way, and where its units end.
fn file(format: Format, compression: Compression) -> (Vec<u8>, Vec<(usize, u64)>) {
    let folder = folder();
    let mut making = Making::begun(folder.path(), format, compression, Io::Buffered);
    let mut ends = Vec::new();
    for unit in UNITS {
        let records = unit.iter().map(|(n, len)| record(format, *n, *len));
        making
            .append(&records.collect::<Vec<_>>().concat())
            .expect("written");
        let packets = unit.last().unwrap().0 + 1;
        ends.push((bytes(making.partial.path()).len(), packets));
    }
    (bytes(making.partial.path()), ends)
}

/// Lays a hidden file down and recovers it.
fn recover(folder: &Path, name: &Name, bytes: &[u8]) -> Outcome {
    fs::create_dir_all(folder).unwrap();
    fs::write(name.partial(), bytes).unwrap();
    let looked = recover::look(&name.partial(), &|| false).expect("looked at");
    let outcome = recover::recover(&name.partial(), &|| false).expect("recovered");
    assert_eq!(
        kind(&looked),
        kind(&outcome),
        "looking says what will be done"
    );
    assert!(!name.partial().exists());
    outcome
}

fn kind(outcome: &Outcome) -> Option<(u64, PathBuf)> {
    match outcome {
        Outcome::Recovered(r) => Some((r.packets, r.path.clone())),
        Outcome::Aside { .. } => None,
    }
}

/// Cuts a file at every byte, recovers it, and gives the files that came of it.
fn cut_everywhere(format: Format, compression: Compression, out: &Path) -> Vec<Recovered> {
    let (whole, ends) = file(format, compression);
    let folder = out.join("web");
    let mut recovered = Vec::new();
    for at in 0..=whole.len() {
        let name = name(&folder, format, compression, at as u32);
        match recover(&folder, &name, &whole[..at]) {
            Outcome::Recovered(file) => {
                let written = ends.iter().filter(|(end, _)| *end <= at);
                let least = written.map(|(_, packets)| *packets).max().unwrap_or(0);
                assert!(
                    file.packets >= least,
                    "cut at {at}: {} of {least}",
                    file.packets
                );
                assert!(
                    file.kept.is_none(),
                    "cut at {at}: a torn tail is no evidence"
                );
                recovered.push(file);
            }
            Outcome::Aside { path, .. } => {
                assert_eq!(bytes(&path), whole[..at], "cut at {at}");
                assert!(at < ends[0].0, "cut at {at}: there are records");
            }
        }
    }
    assert_eq!(recovered.last().unwrap().packets, 7);
    recovered
}

fn check(recovered: &[Recovered]) {
    let paths: Vec<PathBuf> = recovered.iter().map(|r| r.path.clone()).collect();
    let told: Vec<u64> = recovered.iter().map(|r| r.packets).collect();
    assert_eq!(capinfos(&paths), told, "capinfos finds what is told");
    assert_unpacks(&paths);
    for file in recovered {
        let (numbers, whole) = read(&file.path);
        let expected: Vec<u64> = (0..file.packets).collect();
        assert!(whole && numbers == expected, "{}", file.path.display());
        assert_eq!(fs::metadata(&file.path).unwrap().len(), file.bytes);
    }
    tshark(recovered.last().unwrap());
}

/// tshark reads the last one, and tcpdump all of them where it can.
fn tshark(file: &Recovered) {
    let mut command = std::process::Command::new("tshark");
    let text = run(command.args(["-n", "-r"]).arg(&file.path));
    assert_eq!(text.lines().count() as u64, file.packets);
    if file.compression == Compression::None {
        let folder = file.path.parent().unwrap();
        let list = folder.join(".list");
        let all = files(folder, false);
        let names: Vec<String> = all.iter().map(|p| p.display().to_string()).collect();
        fs::write(&list, names.join("\n")).unwrap();
        run(std::process::Command::new("tcpdump")
            .args(["-nn", "-t", "-V"])
            .arg(&list));
    }
}

#[test]
fn a_pcap_file_that_ends_at_any_byte_is_read_by_everybody_up_to_its_last_whole_record() {
    for compression in COMPRESSIONS {
        let out = folder();
        check(&cut_everywhere(Format::Pcap, compression, out.path()));
    }
}

#[test]
fn a_pcapng_file_that_ends_at_any_byte_is_read_by_everybody_up_to_its_last_whole_record() {
    for compression in COMPRESSIONS {
        let out = folder();
        let recovered = cut_everywhere(Format::Pcapng, compression, out.path());
        check(&recovered);
        let last = recovered.last().unwrap();
        let content = unpacked(&last.path);
        let comment = b"recovered after a crash";
        assert!(content.windows(comment.len()).any(|w| w == comment));
    }
}

#[test]
fn what_is_whole_in_a_plain_file_is_found_to_the_byte() {
    for format in FORMATS {
        let mut content = header(format);
        let mut ends = vec![content.len()];
        for number in 0..4 {
            content.extend(record(format, number, 50 + number as usize));
            ends.push(content.len());
        }
        let out = folder();
        for at in ends[0]..=content.len() {
            let name = name(out.path(), format, Compression::None, at as u32);
            let Outcome::Recovered(file) = recover(out.path(), &name, &content[..at]) else {
                panic!("there is a header");
            };
            let whole = ends.iter().rposition(|end| *end <= at).unwrap();
            assert_eq!(file.packets, whole as u64, "cut at {at}");
            assert_eq!(file.cut, (at - ends[whole]) as u64);
            let stored = bytes(&file.path);
            assert_eq!(stored[..ends[whole]], content[..ends[whole]]);
            assert!(format == Format::Pcapng || stored.len() == ends[whole]);
        }
    }
}

#[test]
fn recovering_what_was_recovered_half_way_comes_to_the_same() {
    for format in FORMATS {
        for compression in COMPRESSIONS {
            let (whole, _) = file(format, compression);
            let out = folder();
            let torn = &whole[..whole.len() - 5];
            let first = name(out.path(), format, compression, 1);
            let Outcome::Recovered(done) = recover(out.path(), &first, torn) else {
                panic!("there are records");
            };
            // The process may have been killed at any byte of the ending that it wrote over the torn tail.
            let ended = bytes(&done.path);
            let from = done.bytes as usize - ended.len().min(120);
            for at in from..=ended.len() {
                let mut half = ended[..at].to_vec();
                half.extend_from_slice(torn.get(at..).unwrap_or_default());
                let again = name(out.path(), format, compression, 2 + at as u32);
                let Outcome::Recovered(file) = recover(out.path(), &again, &half) else {
                    panic!("there are records");
                };
                let (numbers, is_whole) = read(&file.path);
                assert!(is_whole && numbers.len() >= 4, "{at}: {numbers:?}");
                assert!(numbers.iter().copied().eq(0..file.packets));
            }
            assert_unpacks(&files(out.path(), false));
        }
    }
}
