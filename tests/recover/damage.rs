//! Files that hold something else than records.

use std::fs;
use std::path::Path;

use mirrortap::spool::recover::{self, Outcome, Recovered};
use mirrortap::spool::{Compression, Format, Io, Name, Ours};
use proptest::prelude::*;

use crate::spool_support::*;

fn recover(name: &Name, bytes: &[u8]) -> Outcome {
    fs::create_dir_all(name.directory()).unwrap();
    fs::write(name.partial(), bytes).unwrap();
    recover::recover(&name.partial(), &|| false).expect("recovered")
}

fn recovered(name: &Name, bytes: &[u8]) -> Recovered {
    match recover(name, bytes) {
        Outcome::Recovered(file) => file,
        Outcome::Aside { why, .. } => panic!("set aside: {why}"),
    }
}

/// A file of `packets` records, each a unit of its own.
fn file(format: Format, compression: Compression, packets: u64) -> Vec<u8> {
    let folder = folder();
    let mut making = Making::begun(folder.path(), format, compression, Io::Buffered);
    for number in 0..packets {
        making
            .append(&record(format, number, 100))
            .expect("written");
    }
    bytes(making.partial.path())
}

#[test]
fn a_file_without_a_header_is_set_aside_and_nothing_of_it_is_lost() {
    let out = folder();
    for (number, content) in [
        &b""[..],
        b"x",
        b"no capture at all, but some text",
        &[0; 5000],
    ]
    .into_iter()
    .enumerate()
    {
        for format in FORMATS {
            for compression in COMPRESSIONS {
                let name = name(&out.path().join("web"), format, compression, number as u32);
                // a name that is taken is left alone
                for _ in 0..2 {
                    let Outcome::Aside { partial, path, .. } = recover(&name, content) else {
                        panic!("there is nothing in it");
                    };
                    assert_eq!(partial, name.partial());
                    assert_eq!(bytes(&path), content);
                    assert!(!partial.exists() && !name.published().exists());
                    assert!(path.file_name().unwrap().to_string_lossy().starts_with('.'));
                }
            }
        }
    }
}

#[test]
fn a_link_type_that_is_not_written_here_is_not_called_whole() {
    let out = folder();
    let mut pcap = file(Format::Pcap, Compression::None, 3);
    pcap[20..24].copy_from_slice(&0xFFFFu32.to_le_bytes());
    let name_of = |format, seq| name(out.path(), format, Compression::None, seq);
    assert!(matches!(
        recover(&name_of(Format::Pcap, 1), &pcap),
        Outcome::Aside { .. }
    ));

    // A second interface, of an unknown link type, and a packet on it.
    let mut pcapng = file(Format::Pcapng, Compression::None, 3);
    let whole = pcapng.len();
    interface(&mut pcapng);
    pcapng[whole + 8..whole + 10].copy_from_slice(&0xFFFFu16.to_le_bytes());
    pcapng.extend(record(Format::Pcapng, 3, 60));
    let done = recovered(&name_of(Format::Pcapng, 2), &pcapng);
    assert_eq!(done.packets, 3);
    assert_eq!(bytes(&done.kept.unwrap()), pcapng[whole..]);
    assert_eq!(capinfos(&[done.path]), [3]);
}

#[test]
fn what_is_behind_a_damaged_record_is_kept_beside_the_file() {
    let out = folder();
    for (seq, format) in (1..).zip(FORMATS) {
        let mut content = file(format, Compression::None, 9);
        let one = record(format, 0, 100).len();
        let at = content.len() - 4 * one;
        // a length that cannot be
        let place = at + if format == Format::Pcap { 8 } else { 4 };
        content[place..place + 4].copy_from_slice(&0x7FFF_FFF1u32.to_le_bytes());
        let done = recovered(&name(out.path(), format, Compression::None, seq), &content);
        assert_eq!(done.packets, 5);
        assert_eq!(done.cut, content.len() as u64 - at as u64);
        assert_eq!(bytes(&done.kept.expect("kept")), content[at..]);
        assert!(done.damage.is_some());
        assert_eq!(read(&done.path), ((0..5).collect(), true));
    }
}

#[test]
fn a_damaged_length_near_the_end_is_no_torn_record_and_costs_no_byte() {
    let out = folder();
    for (seq, format) in (1..).zip(FORMATS) {
        let mut content = file(format, Compression::None, 9);
        let one = record(format, 0, 100).len();
        let at = content.len() - 4 * one;
        // a length that might be, of a record that the file ends in
        let place = at + if format == Format::Pcap { 8 } else { 4 };
        content[place..place + 4].copy_from_slice(&60_000u32.to_le_bytes());
        let done = recovered(&name(out.path(), format, Compression::None, seq), &content);
        assert_eq!(done.packets, 5);
        assert_eq!(bytes(&done.kept.expect("kept")), content[at..]);
        assert_eq!(read(&done.path), ((0..5).collect(), true));
    }
}

#[test]
fn a_damaged_unit_is_kept_beside_the_file() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let out = folder();
        let whole = file(Format::Pcap, compression, 9);
        let before = file(Format::Pcap, compression, 5);
        assert!(
            whole.starts_with(&before),
            "units do not depend on later ones"
        );
        let mut content = whole.clone();
        content[before.len()..before.len() + 12].fill(0xA5);
        let done = recovered(&name(out.path(), Format::Pcap, compression, 1), &content);
        assert_eq!(done.packets, 5, "{compression:?}: {done:?}");
        assert_eq!(bytes(&done.kept.expect("kept")), content[before.len()..]);
        assert_unpacks(&files(out.path(), false));
        assert_eq!(capinfos(&files(out.path(), false)), [5]);
    }
}

#[test]
fn filler_and_space_that_was_never_written_are_no_records_and_no_evidence() {
    for format in FORMATS {
        for compression in COMPRESSIONS {
            let whole = file(format, compression, 6);
            for (seq, (filler, len)) in
                (1..).zip([(0xFF, 1), (0xFF, 4095), (0, 7), (0, 40), (0, 70_000)])
            {
                let out = folder();
                let mut content = whole.clone();
                content.resize(whole.len() + len, filler);
                let done = recovered(&name(out.path(), format, compression, seq), &content);
                assert_eq!(
                    done.packets, 6,
                    "{format:?} {compression:?} {filler} x {len}"
                );
                assert_eq!(done.kept, None, "{done:?}");
                assert_eq!(capinfos(&[done.path]), [6]);
                assert_unpacks(&files(out.path(), false));
            }
        }
    }
}

#[test]
fn a_file_that_already_has_its_final_name_only_loses_the_hidden_one() {
    for compression in COMPRESSIONS {
        let out = folder();
        let name = name(out.path(), Format::Pcapng, compression, 1);
        let mut making = Making::begun(out.path(), Format::Pcapng, compression, Io::Buffered);
        making
            .append(&record(Format::Pcapng, 0, 60))
            .expect("written");
        let published = making.partial.seal().publish().expect("published");
        let before = bytes(&published);
        fs::hard_link(&published, name.partial()).unwrap();
        let Ok(Outcome::Recovered(done)) = recover::recover(&name.partial(), &|| false) else {
            panic!("it is whole");
        };
        assert!(done.was_published && !name.partial().exists());
        assert_eq!((done.path, done.packets), (published.clone(), 1));
        assert_eq!(bytes(&published), before);
    }
}

#[test]
fn a_name_that_is_taken_is_never_overwritten() {
    let out = folder();
    let content = file(Format::Pcap, Compression::None, 2);
    let name = name(out.path(), Format::Pcap, Compression::None, 1);
    fs::write(name.published(), "theirs").unwrap();
    let done = recovered(&name, &content);
    assert_eq!(bytes(&name.published()), b"theirs");
    assert!(done.path.to_string_lossy().ends_with("-000002.pcap"));
    assert_eq!(read(&done.path).0.len(), 2);
}

#[test]
fn a_link_is_not_followed_and_other_names_are_refused() {
    let out = folder();
    let elsewhere = out.path().join("elsewhere");
    fs::write(&elsewhere, file(Format::Pcap, Compression::None, 2)).unwrap();
    let before = bytes(&elsewhere);
    let name = name(out.path(), Format::Pcap, Compression::None, 1);
    std::os::unix::fs::symlink(&elsewhere, name.partial()).unwrap();
    assert!(recover::recover(&name.partial(), &|| false).is_err());
    assert!(recover::recover(&elsewhere, &|| false).is_err());
    assert!(recover::recover(&name.published(), &|| false).is_err());
    assert_eq!(bytes(&elsewhere), before);
}

#[test]
fn whoever_is_told_to_stop_leaves_the_file_as_it_is() {
    let out = folder();
    let name = name(out.path(), Format::Pcap, Compression::None, 1);
    let content = file(Format::Pcap, Compression::None, 2);
    fs::write(name.partial(), &content[..content.len() - 3]).unwrap();
    assert!(matches!(
        recover::recover(&name.partial(), &|| true),
        Err(recover::Error::Stopped)
    ));
    assert_eq!(bytes(&name.partial()), content[..content.len() - 3]);
}

fn of_output(output: &Path, ours: &Ours) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let see = |path| {
        found.push(path);
        true
    };
    recover::of_output(output, ours, see, |path, error| {
        assert!(
            error.to_string().contains("symbolic link"),
            "{path:?}: {error}"
        );
    });
    found
}

#[test]
fn a_sensor_finds_its_own_files_and_nobody_elses() {
    use mirrortap::spool::lock::OutputLock;
    let root = folder();
    let output = root.path();
    let hidden = |folder: &str, stem: &str| {
        let folder = output.join(folder);
        fs::create_dir_all(&folder).unwrap();
        let kind = (Format::Pcap, Compression::None);
        let name = Name::new(
            &folder,
            stem,
            mirrortap::time::Timestamp::default(),
            kind,
            1,
        );
        fs::write(name.partial(), "x").unwrap();
        name.partial()
    };
    let mut mine = vec![
        hidden("web", "web"),
        hidden("web", "web-w3"),
        hidden("db", "db"),
    ];
    // of another session, of another output below, beside, and above
    hidden("web", "other");
    hidden(".", "web");
    hidden("inner/web", "web");
    let _lock = OutputLock::take(&output.join("inner")).unwrap();
    hidden("inner", "inner");
    hidden("beside/linked", "linked");
    let _beside = OutputLock::take(&output.join("beside")).unwrap();
    std::os::unix::fs::symlink(output.join("beside/linked"), output.join("linked")).unwrap();
    mine.sort();
    let mut found = of_output(output, &Ours::default());
    found.sort();
    assert_eq!(found, mine);
}

#[test]
fn a_file_that_this_process_writes_is_not_found_until_it_is_published() {
    let out = folder();
    let ours = Ours::default();
    let directory = out.path().join("web");
    let name = name(&directory, Format::Pcap, Compression::None, 1);
    let partial =
        mirrortap::spool::Partial::create(name.clone(), Io::Buffered, 0, &ours).expect("created");
    assert_eq!(
        of_output(out.path(), &ours),
        Vec::<std::path::PathBuf>::new()
    );
    assert_eq!(of_output(out.path(), &Ours::default()), [name.partial()]);
    let mut sealed = partial.seal();
    assert!(ours.holds(&name.partial()));
    sealed.publish().expect("published");
    assert!(!ours.holds(&name.partial()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_is_in_a_file_what_is_published_is_whole_and_the_rest_is_kept(
        kind in 0_usize..6, packets in 0_u64..12,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(), tail in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let (format, compression) = (FORMATS[kind % 2], COMPRESSIONS[kind / 2]);
        let mut content = file(format, compression, packets);
        for (place, byte) in &changes {
            let at = place.index(content.len());
            content[at] = *byte;
        }
        content.truncate(cut.index(content.len() * 2));
        content.extend(&tail);
        let out = folder();
        let name = name(out.path(), format, compression, 1);
        match recover(&name, &content) {
            Outcome::Aside { path, .. } => prop_assert_eq!(bytes(&path), content),
            Outcome::Recovered(done) => {
                let mut reader = mirrortap::capfile::Reader::open(&done.path).unwrap();
                let mut found = 0;
                while reader.next().unwrap().is_some() {
                    found += 1;
                }
                prop_assert!(reader.damage().is_none(), "{:?}", reader.damage());
                prop_assert_eq!(found, done.packets);
                assert_unpacks(&files(out.path(), false));
                let at = content.len() - done.cut as usize;
                let stored = bytes(&done.path);
                prop_assert_eq!(&stored[..at], &content[..at]);
                if let Some(kept) = &done.kept {
                    prop_assert_eq!(bytes(kept), &content[at..]);
                }
            }
        }
    }
}
