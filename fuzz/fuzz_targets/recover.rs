//! Any bytes as what a crash left: no panic, what is published is read whole, what is cut off more than a torn record is kept.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use mirrortap::capfile::Reader;
use mirrortap::spool::recover::{self, Outcome};
use mirrortap::spool::{Compression, Format, Name};
use mirrortap::time::Timestamp;
use tempfile::TempDir;

fuzz_target!(|data: &[u8]| {
    let Some((kind, content)) = data.split_first() else {
        return;
    };
    let format = [Format::Pcap, Format::Pcapng][usize::from(kind % 2)];
    let compression = [Compression::None, Compression::Zstd, Compression::Gzip]
        [usize::from(kind / 2 % 3)];
    let name = Name::new(folder(), "web", Timestamp::default(), (format, compression), 1);
    fs::write(name.partial(), content).unwrap();
    let looked = recover::look(&name.partial(), &|| false);
    match recover::recover(&name.partial(), &|| false) {
        Ok(Outcome::Aside { path, .. }) => {
            assert!(matches!(looked, Ok(Outcome::Aside { .. })));
            assert_eq!(fs::read(path).unwrap(), content);
        }
        Ok(Outcome::Recovered(file)) => {
            let Ok(Outcome::Recovered(looked)) = looked else {
                panic!("looking says what will be done");
            };
            assert_eq!((looked.packets, looked.cut), (file.packets, file.cut));
            whole(&file.path, file.packets);
            let at = content.len() - file.cut as usize;
            assert!(fs::read(&file.path).unwrap().starts_with(&content[..at]));
            if let Some(kept) = &file.kept {
                assert_eq!(fs::read(kept).unwrap(), &content[at..]);
            }
        }
        // A unit larger than any that is written.
        Err(recover::Error::Write { .. }) => assert_eq!(fs::read(name.partial()).unwrap(), content),
        Err(error) => panic!("{error}"),
    }
    for entry in fs::read_dir(folder()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
});

/// Our own reader, which takes more than is written here, finds the packets and nothing wrong.
fn whole(path: &Path, packets: u64) {
    let mut reader = Reader::open(path).unwrap();
    let mut found = 0;
    while reader.next().unwrap().is_some() {
        found += 1;
    }
    assert!(reader.damage().is_none(), "{:?}", reader.damage());
    assert_eq!(found, packets);
}

/// In memory, where there is such a folder.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let make = || TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    FOLDER.get_or_init(make).path()
}
