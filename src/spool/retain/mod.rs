//! How much disk capture files may take: which of them go, and how.
//!
//! Takes: bounds ([`Bounds`]), the files of an output ([`scan()`], and those that are published while the program runs), and what
//! the disk has left. Gives: the files that have to go ([`choose`]), and their removal ([`remove()`]). Holds: only published files
//! with names of ours are ever chosen, the oldest first, and no more than is needed; a file is removed only while it is still the
//! one that was seen. `docs/retention.md` tells the rest.

mod bounds;
mod choice;
mod clock;
mod ours;
mod remove;
mod scan;
mod shelf;

pub use bounds::{Bounds, Config, Limits, SessionConfig};
pub use choice::{Going, Now, Pressure, choose};
pub use clock::Leaps;
pub use ours::Mark;
pub use remove::{Removed, remove, still_there};
pub use scan::{Found, Hidden, hidden, kept, scan};
pub use shelf::{Kept, Shelf};

use serde::Serialize;

/// Why a file is deleted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// `max_size`.
    Size,
    /// `max_age`.
    Age,
    /// `min_free`.
    Free,
    /// It was shipped, and `delete_after_ship` is set.
    Shipped,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Size, Self::Age, Self::Free, Self::Shipped];

    /// As it is written in the log, the metrics and the manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Age => "age",
            Self::Free => "free",
            Self::Shipped => "shipped",
        }
    }
}
