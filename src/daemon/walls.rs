//! What is still needed once the sandbox is closed.
//!
//! Takes: the configuration, where it was read, and the kind of the source. Gives: [`Needs`], and a line of log that says which walls
//! stand. Holds: a folder that others share (`/etc`, `/tmp`) is never opened as a whole because one file in it is wanted.

use std::path::{Path, PathBuf};

use crate::config::{self, Config};
use crate::sandbox::{Calls, Enforced, Mode, Needs, Part};
use crate::source::Kind;

/// Folders that hold much that is not ours.
const SHARED: [&str; 15] = [
    "/", "/etc", "/root", "/home", "/tmp", "/var", "/var/tmp", "/var/lib", "/run", "/usr", "/opt",
    "/srv", "/mnt", "/proc", "/dev",
];

/// What a program with this configuration needs; `source` is the kind of a live one.
pub(super) fn needs(config: &Config, file: Option<&Path>, source: Option<Kind>) -> Needs {
    let base = file.map_or(Path::new("."), config::base);
    let mut read: Vec<PathBuf> = file.into_iter().flat_map(around).collect();
    let filters = config.session.iter().filter_map(|s| s.filter.as_ref());
    let filters = filters.filter_map(|f| f.file.as_ref());
    read.extend(filters.flat_map(|f| around(&base.join(f))));
    let mut write = vec![config.output.clone()];
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
        .map(
            |folder| match SHARED.iter().any(|shared| folder == Path::new(shared)) {
                true => real.clone(),
                false => folder,
            },
        )
        .collect();
    all.dedup();
    all
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
    fn the_kind_of_source_says_which_calls_are_made() {
        let of = |kind| needs(&Config::default(), None, kind).source;
        assert_eq!(of(Some(Kind::Udp)), Calls::Plain);
        assert_eq!(of(Some(Kind::Packet)), Calls::Ring);
        assert_eq!(of(Some(Kind::Xdp)), Calls::Xdp);
        assert_eq!(of(None), Calls::Plain);
    }
}
