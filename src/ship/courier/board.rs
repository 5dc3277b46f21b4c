//! How all queues stand, for the sensor.
//!
//! Takes: what happens in the queues. Gives: a [`Status`] whenever something has changed. Holds: a trouble is as old as its kind; it is gone when something arrives, or
//! nothing waits any more.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::ship::aws::Kind;
use crate::ship::{Plan, QueueStatus, Status, Trouble};
use crate::time;

/// How often somebody who may not begin asks again.
const CLOSED: Duration = Duration::from_secs(1);
/// A status is one line, which goes out many times a minute.
const LONGEST_REASON: usize = 2000;

/// The status, and a bell for who tells it.
#[derive(Debug)]
pub(super) struct Board {
    status: RefCell<Status>,
    changed: Notify,
    /// Files on their way.
    busy: Cell<usize>,
    /// Whether a follower is wanted, so that nothing more is begun.
    closing: Cell<bool>,
}

/// A file on its way, as long as it lives.
#[derive(Debug)]
pub(super) struct Turn(Rc<Board>);

impl Drop for Turn {
    fn drop(&mut self) {
        let board = &self.0;
        board.busy.set(board.busy.get().saturating_sub(1));
        board.changed.notify_one();
    }
}

impl Board {
    /// With a row for each queue.
    pub(super) fn new(plan: &Plan) -> Self {
        let names = plan.queues.iter().map(|queue| queue.name.clone());
        let rows = names.map(|name| (name, QueueStatus::default()));
        Self {
            status: RefCell::new(Status {
                queues: rows.collect(),
            }),
            changed: Notify::new(),
            busy: Cell::new(0),
            closing: Cell::new(false),
        }
    }

    /// The status as it is.
    pub(super) fn now(&self) -> Status {
        self.status.borrow().clone()
    }

    /// A file sets out; where a follower is wanted, it has to wait for that.
    pub(super) async fn turn(self: &Rc<Self>) -> Turn {
        while self.closing.get() {
            tokio::time::sleep(CLOSED).await;
        }
        self.busy.set(self.busy.get() + 1);
        Turn(Rc::clone(self))
    }

    /// Has nothing more begin; whether nothing is on its way any more.
    pub(super) fn close(&self) -> bool {
        self.closing.set(true);
        self.busy.get() == 0
    }

    /// Whether nothing more is to be begun.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Waits for a change.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Changes the row of a queue.
    pub(super) fn change(&self, queue: &str, how: impl FnOnce(&mut QueueStatus)) {
        if let Some(row) = self.status.borrow_mut().queues.get_mut(queue) {
            how(row);
        }
        self.changed.notify_one();
    }

    /// Something stands in the way.
    pub(super) fn trouble(&self, queue: &str, kind: Kind, reason: &str) {
        let now = time::now().secs();
        // what others have answered is in it
        let reason: String = reason.chars().take(LONGEST_REASON).collect();
        self.change(queue, |row| {
            let since = row.trouble.as_ref().filter(|t| t.kind == kind.name());
            row.trouble = Some(Trouble {
                kind: kind.name().to_owned(),
                reason,
                since: since.map_or(now, |trouble| trouble.since),
            });
        });
    }

    /// Nothing does any more.
    pub(super) fn clear(&self, queue: &str) {
        let standing = self
            .status
            .borrow()
            .queues
            .get(queue)
            .is_some_and(|row| row.trouble.is_some());
        if standing {
            self.change(queue, |row| row.trouble = None);
        }
    }

    /// Whether a trouble of one of some kinds has stood for as long.
    pub(super) fn has_stood(&self, kinds: &[Kind], limit: Duration) -> bool {
        let now = time::now().secs();
        let status = self.status.borrow();
        let mut troubles = status
            .queues
            .values()
            .filter_map(|row| row.trouble.as_ref());
        troubles.any(|trouble| {
            let age = Duration::from_secs(now.saturating_sub(trouble.since));
            age >= limit && kinds.iter().any(|kind| kind.name() == trouble.kind)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::ship::{After, Destination, Queue, S3};

    fn board() -> Board {
        let queue = Queue {
            name: "a".to_owned(),
            folder: PathBuf::from("x"),
            destination: Destination::S3(S3::default()),
            after: After::Forget,
            bandwidth: None,
            part_size: 1,
        };
        Board::new(&Plan {
            queues: vec![queue],
        })
    }

    fn trouble(board: &Board) -> Option<Trouble> {
        board.now().queues["a"].trouble.clone()
    }

    #[test]
    fn a_trouble_is_as_old_as_its_kind_and_goes_when_it_is_over() {
        let board = board();
        board.trouble("a", Kind::Access, "first");
        board.change("a", |row| row.trouble.as_mut().unwrap().since = 5);
        board.trouble("a", Kind::Access, "second");
        let told = trouble(&board).unwrap();
        assert_eq!((told.since, told.reason.as_str()), (5, "second"));
        assert!(board.has_stood(&[Kind::Local, Kind::Access], Duration::from_secs(60)));
        assert!(!board.has_stood(&[Kind::Local], Duration::ZERO));
        board.trouble("a", Kind::Missing, &"third".repeat(1 << 20));
        let told = trouble(&board).unwrap();
        assert!(told.since > 5 && told.reason.len() == LONGEST_REASON);
        board.clear("a");
        assert_eq!(trouble(&board), None);
    }

    #[test]
    fn who_is_on_the_way_may_end_before_a_follower_comes_and_nobody_else_begins() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let board = Rc::new(board());
        let turn = runtime.block_on(board.turn());
        assert!(!board.is_closing() && !board.close() && board.is_closing());
        let next = async { tokio::time::timeout(Duration::from_millis(1), board.turn()).await };
        assert!(runtime.block_on(next).is_err());
        drop(turn);
        assert!(board.close());
    }

    #[test]
    fn a_queue_that_is_not_planned_changes_nothing() {
        let board = board();
        board.trouble("b", Kind::Access, "x");
        assert_eq!(board.now().queues.len(), 1);
    }
}
