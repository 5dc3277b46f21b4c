//! The files that earlier runs have left.
//!
//! Takes: an output folder. Gives: what lies in the folders of its sessions: published files, and how much hidden ones take.
//! Holds: only folders directly in the output are looked into, none that is a link or the output of another sensor; nothing is
//! changed.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::spool::retain::{Kept, Mark, ours};
use crate::sys::folder::Folder;

/// What another sensor's output holds.
const LOCK: &str = ".mirrortap.lock";

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Published files.
    pub files: Vec<Kept>,
    /// Hidden files that are not finished or were set aside.
    pub hidden: Vec<Hidden>,
    /// Folders that are symbolic links, and were left out.
    pub links: Vec<String>,
    /// Folders that could not be read, each with the reason.
    pub unread: Vec<String>,
}

/// A hidden file: it takes space, and is nobody's to delete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hidden {
    /// Its session, which is also its folder.
    pub session: Arc<str>,
    /// Its name in there.
    pub name: String,
    /// Device and inode.
    pub identity: (u64, u64),
    /// Its size.
    pub bytes: u64,
}

impl Hidden {
    /// Whether it is still there and the same.
    pub fn is_there(&self, base: &Folder) -> bool {
        let folder = base.folder((*self.session).as_ref());
        let facts = folder.and_then(|folder| folder.facts(self.name.as_ref()));
        facts.is_ok_and(|facts| (facts.device, facts.inode) == self.identity)
    }
}

/// Looks into an output folder.
///
/// # Errors
/// When the folder itself cannot be read.
pub fn scan(output: &Path) -> io::Result<Found> {
    let base = Folder::open(output)?;
    let mut found = Found::default();
    for entry in fs::read_dir(output)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(session) = name.to_str().filter(|n| !n.starts_with('.')) else {
            continue;
        };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                if let Err(error) = found.read(output, &base, session) {
                    found.unread.push(format!("{session}: {error}"));
                }
            }
            Ok(kind) if kind.is_symlink() && entry.path().is_dir() => {
                found.links.push(session.to_owned());
            }
            _ => {}
        }
    }
    Ok(found)
}

impl Found {
    fn read(&mut self, output: &Path, base: &Folder, session: &str) -> io::Result<()> {
        let folder = base.folder(session.as_ref())?;
        if folder.facts(LOCK.as_ref()).is_ok() {
            return Ok(());
        }
        let session: Arc<str> = session.into();
        for entry in fs::read_dir(output.join(&*session))? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if ours::is_hidden(name) {
                self.hidden.extend(hidden_file(&folder, &session, name));
            } else {
                self.files.extend(kept(&folder, &session, name));
            }
        }
        Ok(())
    }
}

/// The hidden files of a session.
///
/// # Errors
/// When its folder cannot be read.
pub fn hidden(output: &Path, base: &Folder, session: &Arc<str>) -> io::Result<Vec<Hidden>> {
    let folder = base.folder((**session).as_ref())?;
    let mut all = Vec::new();
    for entry in fs::read_dir(output.join(&**session))? {
        let name = entry?.file_name();
        let name = name.to_str().filter(|name| ours::is_hidden(name));
        all.extend(name.and_then(|name| hidden_file(&folder, session, name)));
    }
    Ok(all)
}

/// A hidden file; none where it was published meanwhile, which is told by whoever did it.
fn hidden_file(folder: &Folder, session: &Arc<str>, name: &str) -> Option<Hidden> {
    let facts = folder.facts(name.as_ref()).ok()?;
    Some(Hidden {
        session: Arc::clone(session),
        name: name.to_owned(),
        identity: (facts.device, facts.inode),
        bytes: facts.size,
    })
}

/// A file of a session, if it is there and ours.
pub fn kept(folder: &Folder, session: &Arc<str>, name: &str) -> Option<Kept> {
    let mark = Mark::of(session, name)?;
    let facts = folder.facts(name.as_ref()).ok().filter(|f| f.is_file)?;
    Some(Kept {
        session: Arc::clone(session),
        name: name.into(),
        mark,
        bytes: facts.size,
        modified: facts.modified,
        identity: (facts.device, facts.inode),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_files_of_ours_directly_in_session_folders_are_found() {
        let (output, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = |session: &str| format!("{session}-20261124T230000.000001Z-000001.pcap");
        let put = |path: &str| {
            let path = output.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"12345").unwrap();
        };
        put(&format!("web/{}", name("web")));
        put(&format!("web/.{}.partial", name("web")));
        put("web/notes.txt");
        put(&format!("web/{}", name("dns")));
        put(&format!("web/deeper/{}", name("deeper")));
        put(&name("loose"));
        put("other/.mirrortap.lock");
        put(&format!("other/{}", name("other")));
        put(&format!(".hidden/{}", name(".hidden")));
        fs::write(elsewhere.path().join(name("link")), b"12345").unwrap();
        symlink(elsewhere.path(), output.path().join("link")).unwrap();
        symlink(
            elsewhere.path().join(name("link")),
            output
                .path()
                .join("web")
                .join(name("web").replace("-000001.", "-000002.")),
        )
        .unwrap();
        let found = scan(output.path()).unwrap();
        let names: Vec<_> = found.files.iter().map(|f| f.name.to_string()).collect();
        assert_eq!(names, [name("web")]);
        assert_eq!((found.files[0].bytes, found.hidden.len()), (5, 1));
        assert_eq!(found.links, ["link"]);
        assert!(found.unread.is_empty(), "{:?}", found.unread);
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        assert!(scan(Path::new("/nowhere/at/all")).is_err());
    }
}
