//! Any bytes as the lines that a killed run was packing: no panic; what is published can be read whole, and nothing is lost without a word.
#![no_main]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use mirrortap::flowlog::{Config, FileFormat, Layout, Log};
use mirrortap::record::Columns;
use mirrortap::record::parquet::Reader;
use mirrortap::time::Timestamp;
use tempfile::TempDir;

fuzz_target!(|data: &[u8]| {
    let Some((kind, content)) = data.split_first() else {
        return;
    };
    let config = Config {
        file_format: [FileFormat::Text, FileFormat::Parquet][usize::from(kind % 2)],
        ..Config::default()
    };
    // every other one is packed here, so that not only the unpacking is looked at
    let packed = if kind / 2 % 2 == 0 { content.to_vec() } else { pack(content) };
    let layout = Layout::of(&config);
    let run = folder().join(format!(".growing/{}-0", layout.id));
    fs::create_dir_all(&run).unwrap();
    let name = layout.file(600, "00000001");
    fs::write(run.join(format!("{name}.growing")), &packed).unwrap();
    let mut log = Log::new(&config, folder(), Timestamp::from_nanos(1));
    let recovered = log.recover();
    assert!(recovered.errors.is_empty(), "{recovered:?}");
    let published = log.take_published();
    assert_eq!(published.len() as u64, recovered.files);
    for file in &published {
        assert_eq!(records(file, config.file_format), recovered.records);
    }
    for aside in &recovered.damaged {
        assert_eq!(fs::read(aside).unwrap(), packed);
    }
    for entry in fs::read_dir(folder()).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
});

fn pack(text: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(text).unwrap();
    packer.finish().unwrap()
}

/// Every line must be a record.
fn records(file: &PathBuf, format: FileFormat) -> u64 {
    let file = fs::File::open(file).unwrap();
    let mut count = 0;
    match format {
        FileFormat::Text => {
            let mut text = String::new();
            MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
            let mut lines = text.split_terminator('\n');
            let columns = Columns::of_header(lines.next().unwrap()).unwrap();
            for line in lines {
                columns.read(line).unwrap();
                count += 1;
            }
        }
        FileFormat::Parquet => {
            let mut reader = Reader::open(file).unwrap();
            while reader.next_record().unwrap().is_some() {
                count += 1;
            }
        }
    }
    count
}

/// In memory, where there is such a folder.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let make = || TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    FOLDER.get_or_init(make).path()
}
