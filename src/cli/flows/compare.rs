//! Two sets of records side by side: what does the second lack?
//!
//! Both sides close their records when they like, so single records can't be compared. All records of a flow that touch
//! make a stretch, on both sides together, and its sums must agree.

use std::collections::HashMap;

use serde::Serialize;

use crate::cli::failure::{self, Failure};
use crate::cli::flows::cell::Cell;
use crate::cli::flows::groups::key;
use crate::cli::flows::read::Stop;
use crate::record::{Field, Record, Status, Value};

/// Records that are held at once: some 400 MB.
const MOST: usize = 5_000_000;

/// Whose record it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Theirs,
    Ours,
}

/// Records, packets and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(super) struct Amount {
    pub(super) records: u64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What is known of one set apart from its flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(super) struct Set {
    #[serde(flatten)]
    pub(super) all: Amount,
    pub(super) start: Option<u64>,
    pub(super) end: Option<u64>,
    /// Not compared: what was refused is not mirrored.
    pub(super) rejected: u64,
    /// Intervals that the set itself calls incomplete.
    pub(super) skip_data: u64,
    /// Records without time, packets or bytes.
    pub(super) unusable: u64,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u64,
    end: u64,
    packets: u64,
    bytes: u64,
    side: Side,
}

/// Records that touch, of both sides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) key: Vec<Cell>,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) theirs: Amount,
    pub(super) ours: Amount,
}

impl Stretch {
    /// Packets and bytes of theirs that are not ours.
    pub(super) fn lacking(&self) -> (u64, u64) {
        (
            self.theirs.packets.saturating_sub(self.ours.packets),
            self.theirs.bytes.saturating_sub(self.ours.bytes),
        )
    }

    /// The same the other way round.
    pub(super) fn surplus(&self) -> (u64, u64) {
        (
            self.ours.packets.saturating_sub(self.theirs.packets),
            self.ours.bytes.saturating_sub(self.theirs.bytes),
        )
    }
}

/// So many stretches, and what they amount to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Tally {
    fn add(&mut self, (packets, bytes): (u64, u64)) {
        self.count += 1;
        self.packets = self.packets.saturating_add(packets);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What came out.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The time that both sets cover.
    pub(super) common: Option<(u64, u64)>,
    /// Stretches that agree.
    pub(super) equal: u64,
    /// Stretches in which we have less, and how much less.
    pub(super) lacking: Tally,
    /// Of those, the ones of which we have nothing.
    pub(super) absent: Tally,
    /// Stretches in which we have more, and how much more.
    pub(super) surplus: Tally,
    /// Stretches that reach over the edge of the common time: not judged.
    pub(super) at_edge: u64,
    /// Stretches outside the common time.
    pub(super) outside: u64,
    /// What differs, those that lack most bytes first.
    pub(super) differing: Vec<Stretch>,
}

/// The two sets.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) by: Vec<Field>,
    slack: u64,
    flows: HashMap<Vec<Cell>, Vec<Piece>, foldhash::fast::RandomState>,
    held: usize,
    pub(super) theirs: Set,
    pub(super) ours: Set,
}

impl Comparison {
    pub(super) fn by(by: Vec<Field>, slack: u64) -> Self {
        Self {
            by,
            slack,
            flows: HashMap::default(),
            held: 0,
            theirs: Set::default(),
            ours: Set::default(),
        }
    }

    /// Takes a record of one side.
    pub(super) fn add(&mut self, side: Side, record: &Record<'_>) -> Result<(), Stop> {
        let set = match side {
            Side::Theirs => &mut self.theirs,
            Side::Ours => &mut self.ours,
        };
        let number = |field| record.get(field).number();
        let (start, end) = (number(Field::Start), number(Field::End));
        set.start = [set.start, start].into_iter().flatten().min();
        set.end = set.end.max(end);
        set.skip_data += u64::from(record.status() == Status::SkipData);
        if record.status() != Status::Ok {
            return Ok(());
        }
        if record.get(Field::Action) == Value::Text("REJECT") {
            set.rejected += 1;
            return Ok(());
        }
        let sums = (number(Field::Packets), number(Field::Bytes));
        let (Some(start), Some(end), (Some(packets), Some(bytes))) = (start, end, sums) else {
            set.unusable += 1;
            return Ok(());
        };
        set.all.add(Amount {
            records: 1,
            packets,
            bytes,
        });
        self.held += 1;
        if self.held > MOST {
            let message = format!(
                "more than {MOST} records to compare; choose an interface or a protocol with --where"
            );
            return Err(Stop::Failed(Failure::new(failure::DATA, message)));
        }
        let piece = Piece {
            start,
            end,
            packets,
            bytes,
            side,
        };
        self.flows
            .entry(key(&self.by, record))
            .or_default()
            .push(piece);
        Ok(())
    }

    /// The time that both cover; of one that is empty nothing is expected to be elsewhere.
    fn common(&self) -> Option<(u64, u64)> {
        let of = |set: &Set| set.start.zip(set.end);
        match (of(&self.theirs), of(&self.ours)) {
            (Some(a), Some(b)) => Some((a.0.max(b.0), a.1.min(b.1))),
            (a, b) => a.or(b),
        }
    }

    /// Compares.
    pub(super) fn outcome(&self) -> Outcome {
        let mut outcome = Outcome {
            common: self.common(),
            ..Outcome::default()
        };
        for (key, pieces) in &self.flows {
            for stretch in stretches(key, pieces, self.slack) {
                outcome.judge(stretch, self.slack);
            }
        }
        let size = |s: &Stretch| (s.lacking().1, s.lacking().0, s.surplus().1, s.surplus().0);
        let order = |s: &Stretch| (s.key.clone(), s.start);
        outcome
            .differing
            .sort_by(|a, b| size(b).cmp(&size(a)).then_with(|| order(a).cmp(&order(b))));
        outcome
    }
}

impl Outcome {
    fn judge(&mut self, stretch: Stretch, slack: u64) {
        let (from, to) = self.common.unwrap_or((0, u64::MAX));
        if stretch.end.saturating_add(slack) < from || stretch.start > to.saturating_add(slack) {
            self.outside += 1;
            return;
        }
        let over =
            stretch.start.saturating_add(slack) < from || stretch.end > to.saturating_add(slack);
        let (lacking, surplus) = (stretch.lacking(), stretch.surplus());
        if lacking == (0, 0) && surplus == (0, 0) {
            self.equal += 1;
            return;
        }
        if over {
            self.at_edge += 1;
            return;
        }
        if lacking != (0, 0) {
            self.lacking.add(lacking);
        }
        if stretch.ours.records == 0 {
            self.absent.add(lacking);
        }
        if surplus != (0, 0) {
            self.surplus.add(surplus);
        }
        self.differing.push(stretch);
    }
}

/// The stretches of a flow: a gap of more than `slack` seconds on both sides ends one.
fn stretches(key: &[Cell], pieces: &[Piece], slack: u64) -> Vec<Stretch> {
    let mut sorted = pieces.to_vec();
    sorted.sort_unstable_by_key(|p| (p.start, p.end));
    let mut all: Vec<Stretch> = Vec::new();
    for piece in &sorted {
        let touches = |s: &&mut Stretch| piece.start <= s.end.saturating_add(slack);
        match all.last_mut().filter(touches) {
            Some(stretch) => stretch.take(piece),
            None => {
                let mut stretch = Stretch {
                    key: key.to_vec(),
                    start: piece.start,
                    end: piece.end,
                    theirs: Amount::default(),
                    ours: Amount::default(),
                };
                stretch.take(piece);
                all.push(stretch);
            }
        }
    }
    all
}

impl Stretch {
    fn take(&mut self, piece: &Piece) {
        self.end = self.end.max(piece.end);
        let amount = Amount {
            records: 1,
            packets: piece.packets,
            bytes: piece.bytes,
        };
        match piece.side {
            Side::Theirs => self.theirs.add(amount),
            Side::Ours => self.ours.add(amount),
        }
    }
}
