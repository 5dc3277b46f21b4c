//! What of the machine decides how threads are laid out.
//!
//! Takes: the cores that the process may use, sysfs, and the `[source]` table. Gives: [`Machine`]: cores, best first, and the
//! receive queues of the interfaces. Holds: what the system does not tell is taken for the simple case (one node, no
//! siblings, one queue), never for an error.

use std::path::Path;

use serde::Serialize;

use crate::source::{self, interfaces};
use crate::sys::affinity;

/// A core that the process may use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize)]
pub struct Core {
    /// Whether its memory is not that of the network card: ordered behind those whose is.
    pub is_far: bool,
    /// Whether it shares its arithmetic with one that stands before it (SMT): ordered behind whole ones.
    pub is_sibling: bool,
    /// Its number.
    pub id: usize,
}

/// An interface that a source reads.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Its receive queues, at least 1.
    pub queues: usize,
    /// The NUMA node that it is plugged into, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<usize>,
}

/// Cores and interfaces.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Machine {
    /// Cores, best first.
    pub cores: Vec<Core>,
    /// Interfaces.
    pub cards: Vec<Card>,
}

impl Machine {
    /// This one. Interfaces are those that the source would read; none where that can't be told.
    pub fn read(config: &source::Config) -> Self {
        let found = interfaces::find(config).unwrap_or_default();
        let cards: Vec<_> = found.into_iter().map(|i| card(i.name)).collect();
        let allowed = affinity::allowed().unwrap_or_default();
        let near = cards.iter().find_map(|c| c.node);
        let mut cores: Vec<_> = allowed.into_iter().map(|id| core(id, near)).collect();
        cores.sort_unstable();
        Self { cores, cards }
    }

    /// A simple one, for calculating.
    pub fn of_cores(count: usize) -> Self {
        let core = |id| Core {
            id,
            ..Core::default()
        };
        Self {
            cores: (0..count).map(core).collect(),
            cards: Vec::new(),
        }
    }

    /// The fewest receive queues that any of the interfaces has; `None` where there are none to count.
    pub fn queues(&self) -> Option<usize> {
        self.cards.iter().map(|c| c.queues).min()
    }
}

fn card(name: String) -> Card {
    let folder = Path::new("/sys/class/net").join(&name);
    let entries = std::fs::read_dir(folder.join("queues"));
    let names = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name());
    let queues = names
        .filter(|n| n.to_string_lossy().starts_with("rx-"))
        .count();
    // -1 where there is only one node
    let node = read(&folder.join("device/numa_node"));
    Card {
        name,
        queues: queues.max(1),
        node: node.and_then(|n| n.parse().ok()),
    }
}

fn core(id: usize, near: Option<usize>) -> Core {
    let folder = Path::new("/sys/devices/system/cpu").join(format!("cpu{id}"));
    let is_near = |node: usize| folder.join(format!("node{node}")).exists();
    let siblings = read(&folder.join("topology/thread_siblings_list"));
    Core {
        is_far: near.is_some_and(|node| !is_near(node)),
        is_sibling: siblings.is_some_and(|s| first_of(&s).is_some_and(|first| first < id)),
        id,
    }
}

fn read(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The first number of a list like `0,4` or `0-1`.
fn first_of(list: &str) -> Option<usize> {
    list.split([',', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_core_and_its_loopback_a_queue() {
        let config = source::Config {
            interface: vec!["lo".to_owned()],
            ..source::Config::default()
        };
        let machine = Machine::read(&config);
        assert!(!machine.cores.is_empty());
        assert_eq!((machine.queues(), machine.cards.len()), (Some(1), 1));
    }

    #[test]
    fn near_whole_cores_come_first() {
        let core = |is_far, is_sibling, id| Core {
            is_far,
            is_sibling,
            id,
        };
        let mut cores = [
            core(true, false, 0),
            core(false, true, 6),
            core(false, false, 5),
            core(false, false, 2),
        ];
        cores.sort_unstable();
        assert_eq!(cores.map(|c| c.id), [2, 5, 6, 0]);
        assert_eq!(
            (first_of("3,7"), first_of("2-3"), first_of("")),
            (Some(3), Some(2), None)
        );
    }
}
