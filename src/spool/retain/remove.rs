//! Removing a file, if it is still the one that was chosen.

use std::io;

use crate::spool::retain::Kept;
use crate::sys::folder::Folder;

/// What a symbolic link gives that is not to be followed.
const ELOOP: i32 = 40;

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removed {
    /// It is gone now.
    Now,
    /// Somebody removed it before.
    Before,
    /// Another file has its name, or it was changed: not ours to remove.
    Changed,
}

/// Whether the file is there and the one that was seen.
///
/// # Errors
/// What the system said, but for a file or folder that is not there.
pub fn still_there(base: &Folder, kept: &Kept) -> io::Result<(Removed, Option<Folder>)> {
    let looked = base.folder((*kept.session).as_ref()).and_then(|folder| {
        let facts = folder.facts((*kept.name).as_ref())?;
        Ok((folder, facts))
    });
    match looked {
        Ok((folder, facts)) => {
            let same = (facts.device, facts.inode) == kept.identity;
            let same = same && facts.size == kept.bytes && facts.is_file;
            Ok(match same {
                true => (Removed::Now, Some(folder)),
                false => (Removed::Changed, None),
            })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok((Removed::Before, None)),
        // a link, or a plain file, where the folder was
        Err(e) if e.kind() == io::ErrorKind::NotADirectory || e.raw_os_error() == Some(ELOOP) => {
            Ok((Removed::Changed, None))
        }
        Err(e) => Err(e),
    }
}

/// Removes it from the folder in which it was seen.
///
/// # Errors
/// What the system said; the file is still there.
pub fn remove(base: &Folder, kept: &Kept) -> io::Result<Removed> {
    let (state, folder) = still_there(base, kept)?;
    let Some(folder) = folder else {
        return Ok(state);
    };
    match folder.remove((*kept.name).as_ref()) {
        Ok(()) => Ok(Removed::Now),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Removed::Before),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::spool::retain::scan;

    const NAME: &str = "web-20261124T230000.000001Z-000001.pcap";

    fn one(output: &std::path::Path) -> (Folder, Kept) {
        fs::create_dir(output.join("web")).unwrap();
        fs::write(output.join("web").join(NAME), b"12345").unwrap();
        let kept = scan(output).unwrap().files.remove(0);
        (Folder::open(output).unwrap(), kept)
    }

    #[test]
    fn a_file_that_was_changed_or_replaced_is_left_alone() {
        let output = tempfile::tempdir().unwrap();
        let (base, kept) = one(output.path());
        let path = output.path().join("web").join(NAME);
        fs::write(&path, b"123456").unwrap();
        assert_eq!(remove(&base, &kept).unwrap(), Removed::Changed);
        let other = output.path().join("other");
        fs::write(&other, b"12345").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(remove(&base, &kept).unwrap(), Removed::Changed);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        assert_eq!(remove(&base, &kept).unwrap(), Removed::Before);
    }

    #[test]
    fn a_folder_that_was_swapped_for_a_link_protects_what_it_points_at() {
        let (output, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (base, kept) = one(output.path());
        let moved = elsewhere.path().join("web");
        fs::rename(output.path().join("web"), &moved).unwrap();
        std::os::unix::fs::symlink(&moved, output.path().join("web")).unwrap();
        assert_eq!(remove(&base, &kept).unwrap(), Removed::Changed);
        assert!(moved.join(NAME).exists());
    }

    #[test]
    fn the_file_that_was_seen_is_removed() {
        let output = tempfile::tempdir().unwrap();
        let (base, kept) = one(output.path());
        assert_eq!(remove(&base, &kept).unwrap(), Removed::Now);
        assert_eq!(fs::read_dir(output.path().join("web")).unwrap().count(), 0);
    }
}
