//! Folders by descriptor: what lies in one is looked at and removed without asking a path twice.
//!
//! Takes: a path once, then names. Gives: [`Folder`], [`Facts`], `Folder::space`. Holds: no symbolic link is followed below the
//! first path; a name holds no slash.

use std::ffi::{CString, OsStr};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::sys::check;

/// An open folder.
#[derive(Debug)]
pub struct Folder(File);

/// Gives a file another name, if that is free.
///
/// # Errors
/// Those of renameat2(2): `AlreadyExists` when the name is taken, `InvalidInput` or `Unsupported` where the file system
/// cannot promise that.
pub fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (from, to) = (name(from)?, name(to)?);
    let here = libc::AT_FDCWD;
    // SAFETY: both names end with a zero byte. rename(2): "RENAME_NOREPLACE: Don't overwrite newpath of the rename. Return an error if
    // newpath already exists."
    check(unsafe {
        libc::renameat2(
            here,
            from.as_ptr(),
            here,
            to.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    })?;
    Ok(())
}

/// What is known of a directory entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Device that it is on.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since the epoch.
    pub modified: u64,
    /// Whether it is a plain file.
    pub is_file: bool,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// The space of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Space {
    /// Bytes that this user may still take.
    pub free: u64,
    /// Bytes in all.
    pub size: u64,
}

impl Folder {
    /// Opens a folder, following links to it.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECTORY);
        options.open(path).map(Self)
    }

    /// Opens a folder in this one; a symbolic link is refused.
    ///
    /// # Errors
    /// Those of openat(2); `ENOTDIR` or `ELOOP` for what is no folder.
    pub fn folder(&self, name: &OsStr) -> io::Result<Self> {
        let name = plain(name)?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: `name` ends with a zero byte and the descriptor is open. openat(2): "O_NOFOLLOW: If the trailing component
        // of pathname is a symbolic link, then the open fails"; it returns "the new file descriptor".
        let fd = check(unsafe { libc::openat(self.0.as_raw_fd(), name.as_ptr(), flags) })?;
        // SAFETY: the descriptor was made just now and belongs to nobody else.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// What lies in it under a name; of a symbolic link, the link itself.
    ///
    /// # Errors
    /// Those of fstatat(2).
    pub fn facts(&self, name: &OsStr) -> io::Result<Facts> {
        let name = plain(name)?;
        // SAFETY: stat is made of integers, for which all-zero bytes are valid.
        let mut stat: libc::stat = unsafe { zeroed() };
        let (fd, flags) = (self.0.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW);
        // SAFETY: `name` ends with a zero byte and `stat` is live. fstatat(2): "return information about a file, in the buffer
        // pointed to by statbuf"; AT_SYMLINK_NOFOLLOW: "If pathname is a symbolic link, do not dereference it".
        check(unsafe { libc::fstatat(fd, name.as_ptr(), &raw mut stat, flags) })?;
        let kind = stat.st_mode & libc::S_IFMT;
        let modified = stat.st_mtime.max(0) as u64 * 1_000_000_000 + stat.st_mtime_nsec as u64;
        Ok(Facts {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size as u64,
            modified,
            is_file: kind == libc::S_IFREG,
            is_folder: kind == libc::S_IFDIR,
        })
    }

    /// Takes a name out of it; that of a folder is refused.
    ///
    /// # Errors
    /// Those of unlinkat(2).
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        let name = plain(name)?;
        // SAFETY: `name` ends with a zero byte and the descriptor is open. unlinkat(2): "If the pathname given in pathname is
        // relative, then it is interpreted relative to the directory referred to by the file descriptor dirfd".
        check(unsafe { libc::unlinkat(self.0.as_raw_fd(), name.as_ptr(), 0) })?;
        Ok(())
    }

    /// The space of the file system that it is on.
    ///
    /// # Errors
    /// Those of fstatvfs(3).
    pub fn space(&self) -> io::Result<Space> {
        // SAFETY: statvfs is made of integers, for which all-zero bytes are valid.
        let mut stat: libc::statvfs = unsafe { zeroed() };
        // SAFETY: `stat` is live and the descriptor open. statvfs(3): "returns information about a mounted filesystem [...]
        // buf is a pointer to a statvfs structure".
        check(unsafe { libc::fstatvfs(self.0.as_raw_fd(), &raw mut stat) })?;
        let block = stat.f_frsize;
        Ok(Space {
            free: stat.f_bavail.saturating_mul(block),
            size: stat.f_blocks.saturating_mul(block),
        })
    }

    /// Writes down all that the file system has in memory: what was deleted is free after that.
    ///
    /// # Errors
    /// Those of syncfs(2).
    pub fn sync_file_system(&self) -> io::Result<()> {
        // SAFETY: syncfs(2) takes no pointers: "synchronizes just the filesystem containing file referred to by the open file
        // descriptor fd".
        check(unsafe { libc::syncfs(self.0.as_raw_fd()) })?;
        Ok(())
    }
}

/// A name for the kernel: one part of a path.
fn plain(name: &OsStr) -> io::Result<CString> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.contains(&b'/') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_not_followed_and_a_path_is_no_name() {
        let base = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("file"), b"four").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), base.path().join("link")).unwrap();
        std::fs::create_dir(base.path().join("real")).unwrap();
        let folder = Folder::open(base.path()).unwrap();
        assert!(folder.folder("link".as_ref()).is_err());
        assert!(folder.facts("link/file".as_ref()).is_err());
        assert!(folder.remove("../x".as_ref()).is_err());
        let link = folder.facts("link".as_ref()).unwrap();
        assert!(!link.is_file && !link.is_folder);
        assert!(folder.facts("real".as_ref()).unwrap().is_folder);
        assert!(folder.folder("real".as_ref()).is_ok());
    }

    #[test]
    fn a_file_is_seen_removed_and_gone() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("file"), b"four").unwrap();
        let folder = Folder::open(base.path()).unwrap();
        let facts = folder.facts("file".as_ref()).unwrap();
        assert!(facts.is_file && facts.size == 4 && facts.inode > 0 && facts.modified > 0);
        folder.remove("file".as_ref()).unwrap();
        let gone = folder.facts("file".as_ref()).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        let space = folder.space().unwrap();
        assert!(space.size >= space.free && space.size > 0);
        folder.sync_file_system().unwrap();
    }
}
