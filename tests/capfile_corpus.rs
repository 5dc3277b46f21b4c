//! Reading every capture of the corpus gives what tshark and capinfos give.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test may fail loudly"
)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use mirrortap::capfile::Reader;

/// What is compared of a packet: time in nanoseconds, caplen, origlen.
type Row = (u64, usize, u32);

/// Packets that tshark reads differently, by file, with what we read.
const EXPLAINED: &[(&str, &[Row], &str)] = &[
    (
        "brimcap-bad-caplen.pcap",
        &[(1_585_183_818_342_834_000, 84, 84)],
        "origlen 68 below caplen 84: raised",
    ),
    (
        "tcpdump-aoe-oobr-1.pcap",
        &[(1_398_322_701_999_999_000, 34, 34)],
        "origlen 32 below caplen 34: raised",
    ),
    (
        "ndpi-fuzz-2021-06-07-c6c72a0a56.pcap",
        &[(1_953_635_450_562_680_000, 48, 4_093_509_168)],
        "tshark caps origlen at 2^31-1; 4,293 seconds of microseconds overflow its time",
    ),
    (
        "pcapplusplus-fuzz-5700358767902720.pcap",
        &[(538_976_826_976_511_000, 100, 4_280_295_456)],
        "the same two",
    ),
    (
        "pcapplusplus-fuzz-5188876846235648.pcap",
        &[(3_556_769_836_151_491_000, 1024, 62_976)],
        "44 seconds of microseconds overflow tshark's time",
    ),
    (
        "pcapplusplus-fuzz-igmplayer.pcap",
        &[
            (1_265_769_109_622_310_000, 90, 90),
            (1_265_769_109_622_489_000, 39, 46),
        ],
        "tshark takes the second record for one of a variant with other headers; tcpdump does as we do",
    ),
];

/// Captures with systemd journal entries, which tshark counts as frames.
const JOURNALS: &[(&str, usize)] = &[
    ("gopacket-be-test202.pcapng", 3),
    ("gopacket-le-test102.pcapng", 3),
    ("gopacket-le-test202.pcapng", 3),
];

/// Captures that can't be read, or not to their end: how many packets they give, where they stop
/// (`None`: refused as a whole), and a part of what is said. tshark complains of the same files.
const BROKEN: &[(&str, usize, Option<u64>, &str)] = &[
    (
        "brimcap-extra.pcapng",
        27,
        Some(12_400),
        "ends within a block header",
    ),
    (
        "dpkt-truncated_dns_2.pcap",
        1,
        Some(240),
        "ends within a record header",
    ),
    ("gopacket-le-test901.pcapng", 1, Some(480), "version 2.0"),
    (
        "libpcap-linktype-reserved-field-not-zero.pcap",
        0,
        None,
        "unknown bits set",
    ),
    (
        "libpcap-pcap-invalid-version-1.pcap",
        0,
        None,
        "pcap of version 1.4",
    ),
    (
        "libpcap-pcapng-invalid-vers-1.pcapng",
        0,
        None,
        "version 0.1",
    ),
    (
        "libpcap-shb-option-too-long.pcapng",
        0,
        None,
        "52 bytes at its start and 808464432",
    ),
    (
        "pcapplusplus-fuzz-5165538295939072.pcap",
        1,
        Some(30_760),
        "claims 16095754 bytes",
    ),
    (
        "pcapplusplus-fuzz-5188876846235648.pcap",
        1,
        Some(1_064),
        "claims 640034342 bytes",
    ),
    (
        "pcapplusplus-fuzz-5643903448645632.pcap",
        1,
        Some(361),
        "370 of 2722 bytes",
    ),
    (
        "pcapplusplus-fuzz-crash-81dba690a3f67ee41a4139.pcap",
        11,
        Some(1_043),
        "8928 of 19200 bytes",
    ),
    (
        "pcapplusplus-fuzz-crash-pcapng-epb-unbounded-l.pcapng",
        0,
        Some(48),
        "claims 65536 bytes",
    ),
    (
        "pcapplusplus-fuzz-igmplayer.pcap",
        2,
        Some(185),
        "claims 172716570 bytes",
    ),
];

fn corpus() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let root = std::env::var_os("MIRRORTAP_CORPUS").map_or(root, PathBuf::from);
    if root.is_dir() {
        return Some(root);
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "no corpus at {}",
        root.display()
    );
    eprintln!("no corpus at {}: nothing checked", root.display());
    None
}

fn captures(folders: &[&str]) -> Vec<PathBuf> {
    let Some(root) = corpus() else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "pcap" || e == "pcapng")
        })
        .collect();
    found.sort();
    assert!(found.len() > 20, "a corpus of {} captures", found.len());
    found
}

const ALL: &[&str] = &["hostile", "l2l4", "protocols", "vxlan"];

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Everything that the reader gives, and how it ended.
struct Ours {
    rows: Vec<Row>,
    stopped: Option<u64>,
    why: String,
}

fn ours(path: &Path) -> Ours {
    let mut rows = Vec::new();
    let mut reader = match Reader::open(path) {
        Ok(reader) => reader,
        Err(e) => {
            let why = e.to_string();
            return Ours {
                rows,
                stopped: None,
                why,
            };
        }
    };
    while let Some(record) = reader.next().unwrap() {
        assert!(record.origlen as usize >= record.data.len());
        rows.push((record.time.nanos(), record.data.len(), record.origlen));
    }
    assert!(reader.next().unwrap().is_none(), "the end is the end");
    let damage = reader.damage();
    Ours {
        rows,
        stopped: damage.map(|d| d.offset),
        why: damage.map_or(String::new(), |d| d.what.clone()),
    }
}

fn is_explained(path: &Path) -> bool {
    EXPLAINED.iter().any(|(file, ..)| *file == name(path))
}

fn journals(path: &Path) -> usize {
    let entry = JOURNALS.iter().find(|(file, _)| *file == name(path));
    entry.map_or(0, |(_, n)| *n)
}

/// tshark's caplen and length of every frame, from the oracle beside the capture.
fn oracle(path: &Path) -> Option<Vec<(usize, u32)>> {
    let packed = std::fs::File::open(path.with_extension("l4.tsv.gz")).ok()?;
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(packed)
        .read_to_string(&mut text)
        .unwrap();
    let row = |line: &str| {
        let mut columns = line.split('\t').skip(1);
        let caplen = columns.next().unwrap().parse().unwrap();
        (caplen, columns.next().unwrap().parse().unwrap())
    };
    Some(text.lines().skip(1).map(row).collect())
}

/// What tshark itself reads: rows with times.
fn tshark(path: &Path) -> Vec<Row> {
    let output = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(path)
        .args([
            "-T",
            "fields",
            "-e",
            "frame.time_epoch",
            "-e",
            "frame.cap_len",
            "-e",
            "frame.len",
        ])
        .output()
        .unwrap();
    let rows = String::from_utf8(output.stdout).unwrap();
    let rows = rows.lines().map(|line| {
        let mut columns = line.split('\t');
        let time = nanos(columns.next().unwrap());
        let caplen = columns.next().unwrap().parse().unwrap();
        (time, caplen, columns.next().unwrap().parse().unwrap())
    });
    rows.collect()
}

fn nanos(text: &str) -> u64 {
    let Some((secs, fraction)) = text.split_once('.') else {
        return 0;
    };
    let secs: i64 = secs.parse().unwrap();
    let secs = if secs < 0 { secs + (1 << 32) } else { secs };
    secs as u64 * 1_000_000_000 + fraction.parse::<u64>().unwrap()
}

/// tshark's rows without the journal entries, of which there are as many as the table says.
fn without_journals(path: &Path, mut theirs: Vec<Row>, ours: &[Row]) -> Vec<Row> {
    let before = theirs.len();
    let mut expected = ours.iter().peekable();
    theirs.retain(|row| expected.next_if(|o| *o == row).is_some());
    assert_eq!(before - theirs.len(), journals(path), "{}", name(path));
    theirs
}

#[test]
fn every_capture_gives_the_lengths_of_the_tshark_oracle() {
    for path in captures(ALL) {
        let Some(theirs) = oracle(&path) else {
            continue;
        };
        if is_explained(&path) || journals(&path) > 0 {
            continue;
        }
        let rows = ours(&path).rows;
        let lengths: Vec<_> = rows
            .iter()
            .map(|(_, caplen, len)| (*caplen, *len))
            .collect();
        assert_eq!(lengths, theirs, "{}", name(&path));
    }
}

#[test]
fn times_and_lengths_are_those_of_tshark_in_every_pcapng_and_every_hostile_or_vxlan_capture() {
    let mut compared = 0;
    for path in captures(ALL) {
        let pcapng = path.extension().is_some_and(|e| e == "pcapng");
        let folder = path.parent().and_then(Path::file_name).unwrap();
        if is_explained(&path) || !(pcapng || folder == "hostile" || folder == "vxlan") {
            continue;
        }
        let rows = ours(&path).rows;
        let theirs = without_journals(&path, tshark(&path), &rows);
        assert_eq!(rows, theirs, "{}", name(&path));
        compared += 1;
    }
    println!("compared {compared} captures with tshark");
}

#[test]
fn first_and_last_times_and_sums_of_lengths_are_those_of_capinfos() {
    let files = captures(&["l2l4", "protocols"]);
    if files.is_empty() {
        return;
    }
    let output = Command::new("capinfos")
        .args(["-T", "-r", "-m", "-Q", "-c", "-d", "-a", "-e", "-S"])
        .args(&files)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut compared = 0;
    for line in text.lines() {
        let columns: Vec<&str> = line.split(',').map(|c| c.trim_matches('"')).collect();
        let path = Path::new(columns[0]);
        if journals(path) > 0 || BROKEN.iter().any(|(file, ..)| *file == name(path)) {
            continue;
        }
        compared += 1;
        let rows = ours(path).rows;
        let bytes: u64 = rows.iter().map(|(_, _, origlen)| u64::from(*origlen)).sum();
        assert_eq!(columns[1], rows.len().to_string(), "{line}");
        assert_eq!(columns[2], bytes.to_string(), "{line}");
        if columns[3] == "n/a" {
            continue; // times missing or all zero
        }
        let first = rows.iter().map(|row| row.0).min().unwrap();
        let last = rows.iter().map(|row| row.0).max().unwrap();
        // capinfos prints as many digits as the file's precision has.
        assert!(
            close(first, columns[3]) && close(last, columns[4]),
            "{line}: {first} {last}"
        );
    }
    assert!(compared > 250, "capinfos read {compared} captures");
}

fn close(ours: u64, theirs: &str) -> bool {
    let (secs, fraction) = theirs.split_once('.').unwrap();
    let digits = format!("{fraction:0<9}");
    let theirs = secs.parse::<u64>().unwrap() * 1_000_000_000 + digits.parse::<u64>().unwrap();
    let unit = 10u64.pow(9 - fraction.len() as u32);
    ours / unit == theirs / unit
}

#[test]
fn captures_that_tshark_reads_differently_are_read_as_the_table_explains() {
    let files = captures(&["hostile"]);
    for (file, expected, why) in EXPLAINED {
        let Some(path) = files.iter().find(|path| name(path) == *file) else {
            assert!(files.is_empty(), "{file} is gone");
            continue;
        };
        assert_eq!(ours(path).rows, *expected, "{file}: {why}");
    }
}

#[test]
fn broken_captures_are_read_to_their_last_whole_record_and_the_rest_of_the_corpus_to_its_end() {
    for path in captures(ALL) {
        let found = ours(&path);
        let Some((file, packets, stopped, why)) = BROKEN.iter().find(|b| b.0 == name(&path)) else {
            assert_eq!(found.why, "", "{}", name(&path));
            continue;
        };
        assert_eq!(found.rows.len(), *packets, "{file}");
        assert_eq!(found.stopped, *stopped, "{file}");
        assert!(found.why.contains(why), "{file}: {}", found.why);
    }
}

#[test]
fn what_comes_before_the_damage_is_a_whole_capture() {
    for path in captures(ALL) {
        let found = ours(&path);
        let Some(offset) = found.stopped else {
            continue;
        };
        let bytes = std::fs::read(&path).unwrap();
        let whole = std::io::Cursor::new(bytes[..offset as usize].to_vec());
        let mut reader = Reader::from_read(whole, "the whole part").unwrap();
        let mut packets = 0;
        while reader.next().unwrap().is_some() {
            packets += 1;
        }
        assert_eq!(packets, found.rows.len(), "{}", name(&path));
        assert_eq!(reader.damage(), None, "{}", name(&path));
    }
}
