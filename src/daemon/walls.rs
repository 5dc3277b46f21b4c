//! What is still needed once the sandbox is closed.
//!
//! Takes: the configuration, where it was read, and the kind of the source. Gives: [`Needs`], and a line of log that says which walls
//! stand. Holds: a folder that others share (`/etc`, `/tmp`) is never opened as a whole because one file in it is wanted.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{self, Config};
use crate::sandbox::{Calls, Enforced, Mode, Needs, Part};
use crate::source::Kind;

/// Folders that hold much that is not ours.
const SHARED: [&str; 19] = [
    "/",
    "/etc",
    "/root",
    "/home",
    "/tmp",
    "/var",
    "/var/tmp",
    "/var/lib",
    "/var/log",
    "/run",
    "/usr",
    "/usr/local",
    "/usr/local/etc",
    "/opt",
    "/srv",
    "/mnt",
    "/media",
    "/proc",
    "/dev",
];
/// Folders of homes.
const HOMES: [&str; 3] = ["/home", "/var/home", "/run/user"];
/// A folder that all may write to has this bit (inode(7), S_ISVTX).
const STICKY: u32 = 0o1000;

/// What a program with this configuration needs; `source` is the kind of a live one.
pub(super) fn needs(config: &Config, file: Option<&Path>, source: Option<Kind>) -> Needs {
    let base = file.map_or(Path::new("."), config::base);
    let mut read: Vec<PathBuf> = file.into_iter().flat_map(around).collect();
    let filters = config.session.iter().filter_map(|s| s.filter.as_ref());
    let filters = filters.filter_map(|f| f.file.as_ref());
    read.extend(filters.flat_map(|f| around(&base.join(f))));
    let mut write = vec![config.output.clone()];
    for log in &config.flow_log {
        let filter = log.filter.as_ref().and_then(|f| f.file.as_ref());
        let files = [log.interfaces.as_ref(), log.ip_ranges.as_ref(), filter];
        let files = files.into_iter().flatten();
        read.extend(files.flat_map(|f| around(&base.join(f))));
        write.push(log.directory.clone());
    }
    let own = folders("STATE_DIRECTORY");
    write.extend(own.into_iter().filter(|own| is_in(&config.output, own)));
    let socket = config.control.socket_path(&config.output);
    let runtime = folders("RUNTIME_DIRECTORY");
    let remove = runtime
        .into_iter()
        .filter(|own| socket.as_ref().is_some_and(|s| is_in(s, own)));
    Needs {
        remove: remove.collect(),
        write,
        read,
        source: match source {
            Some(Kind::Packet) => Calls::Ring,
            Some(Kind::Xdp) => Calls::Xdp,
            _ => Calls::Plain,
        },
    }
}

/// Says which walls stand.
pub(super) fn tell(enforced: &Enforced, needs: &Needs) {
    if enforced.mode() == Mode::Off {
        tracing::warn!(
            "The sandbox is off: whoever takes this process over has all that its user has."
        );
        return;
    }
    for (part, why) in enforced.missing() {
        tracing::warn!(
            part = part.name(),
            why,
            "A part of the sandbox cannot be had."
        );
    }
    let standing = Part::ALL.into_iter().filter(|part| enforced.has(*part));
    let parts: Vec<_> = standing.map(Part::name).collect();
    tracing::info!(parts = parts.join(","), write = ?needs.write, read = ?needs.read, "The sandbox is closed.");
}

/// A file's folder, so that it may be replaced, and the folder that it really lies in; of a shared folder the file alone.
fn around(file: &Path) -> Vec<PathBuf> {
    let real = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let named = std::fs::canonicalize(config::base(file)).unwrap_or_default();
    let folders = [named, config::base(&real).to_owned()];
    let mut all: Vec<PathBuf> = folders
        .into_iter()
        .map(|folder| match is_shared(&folder) {
            true => real.clone(),
            false => folder,
        })
        .collect();
    all.dedup();
    all
}

/// Whether a folder holds much that is not ours: one of the system, a home, one that all may write to.
fn is_shared(folder: &Path) -> bool {
    let is_one_of =
        |known: &[&str], path: &Path| known.iter().any(|known| path == Path::new(known));
    let mode = std::fs::metadata(folder).map_or(0, |told| told.mode());
    let home = || std::env::home_dir().and_then(|home| std::fs::canonicalize(home).ok());
    is_one_of(&SHARED, folder)
        || folder
            .parent()
            .is_some_and(|parent| is_one_of(&HOMES, parent))
        || mode & STICKY != 0
        || home().as_deref() == Some(folder)
}

/// The folders that the service manager made for us and names in a variable, parted by colons.
fn folders(variable: &str) -> Vec<PathBuf> {
    let value = std::env::var_os(variable).unwrap_or_default();
    std::env::split_paths(&value)
        .filter(|path| path.is_absolute())
        .collect()
}

fn is_in(path: &Path, folder: &Path) -> bool {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    std::fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_in_a_folder_of_its_own_may_be_replaced_and_one_in_a_shared_folder_is_read_alone()
     {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mirrortap.toml");
        std::fs::write(&file, "").unwrap();
        let folder = std::fs::canonicalize(folder.path()).unwrap();
        assert_eq!(around(&file), [folder]);
        assert_eq!(
            around(Path::new("/etc/passwd")),
            [PathBuf::from("/etc/passwd")]
        );
    }

    #[test]
    fn homes_and_folders_for_everybody_are_shared_and_a_folder_of_ones_own_is_not() {
        for shared in [
            "/",
            "/etc",
            "/root",
            "/tmp",
            "/var/lib",
            "/home/alice",
            "/run/user/1000",
            "/usr/local/etc",
        ] {
            assert!(is_shared(Path::new(shared)), "{shared}");
        }
        for own in ["/etc/mirrortap", "/home/alice/mirrortap", "/config"] {
            assert!(!is_shared(Path::new(own)), "{own}");
        }
        let folder = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(folder.path(), mode).unwrap();
        assert!(is_shared(folder.path()));
    }

    #[test]
    fn the_kind_of_source_says_which_calls_are_made() {
        let of = |kind| needs(&Config::default(), None, kind).source;
        assert_eq!(of(Some(Kind::Udp)), Calls::Plain);
        assert_eq!(of(Some(Kind::Packet)), Calls::Ring);
        assert_eq!(of(Some(Kind::Xdp)), Calls::Xdp);
        assert_eq!(of(None), Calls::Plain);
    }
}
