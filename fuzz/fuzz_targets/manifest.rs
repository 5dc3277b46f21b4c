//! Any bytes as a manifest: it is checked without a panic; the next run goes on with it, keeps what was torn, and adds lines that follow.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use mirrortap::spool::manifest::{Deleted, Entry, FILE, Options, Prepared, Torn, Writer, audit};
use tempfile::TempDir;

fuzz_target!(|data: &[u8]| {
    let path = folder().join(FILE);
    fs::write(&path, data).unwrap();
    let check = || {
        let mut damages = Vec::new();
        let summary = audit(folder(), &Options::default(), &mut |f| damages.extend(f.damage.then_some(f.what))).unwrap();
        assert_eq!(summary.damages, damages.len() as u64);
        (summary, damages)
    };
    let before = check();
    let mut opened = Writer::open(folder(), Prepared::unsigned()).unwrap();
    let entries = ["web/a", "web/b"].map(|name| Entry::Deleted(Deleted { name: name.to_owned(), ..Deleted::default() }));
    opened.writer.write(entries.iter()).unwrap();
    let head = opened.writer.head();
    drop(opened.writer);
    let text = fs::read(&path).unwrap();
    let (after, damages) = check();
    assert_eq!(after.head, head);
    assert!(!damages.contains(&"torn end"));
    let completed = opened.torn == Some(Torn::Completed);
    match opened.torn {
        Some(Torn::Cut(mend)) => {
            let whole = data.len() - mend.bytes as usize;
            assert_eq!(fs::read(folder().join(&mend.kept)).unwrap(), &data[whole..]);
            assert!(text.starts_with(&data[..whole]));
        }
        _ => assert!(text.starts_with(data)),
    }
    // the new lines follow: nothing is wrong with them that was not before, unless a line was completed and now counts
    let extra = after.damages.saturating_sub(before.0.damages);
    assert!(extra == 0 || completed, "{:?} {damages:?}", before.1);
    for entry in fs::read_dir(folder()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
});

/// In memory, where there is such a folder.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let make = || TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    FOLDER.get_or_init(make).path()
}
