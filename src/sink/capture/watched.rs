//! Threads under watch: what becomes of one is told, also when it panics.
//!
//! Takes: what a thread does. Gives: nothing. Holds: a panic is a trouble that is told at once and stays; packets for a
//! writer that panicked are counted as lost with its thread from then on.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::logging::said;
use crate::sink::capture::shared::Shared;
use crate::sink::capture::stats::{Place, Stats};

/// Does what writer number `number` does. If it panics, that is told at once and stays a trouble, what comes for it counts as lost with
/// its thread, and the panic goes on.
pub(super) fn watched(number: usize, shared: &Shared, stats: &Stats, run: impl FnOnce()) {
    let run = || {
        let panic = catch_unwind(AssertUnwindSafe(run));
        panic.unwrap_or_else(|panic| {
            shared.lose_writer();
            resume_unwind(panic)
        });
    };
    watch(
        &format!("writer {number}"),
        Place::Writer(number),
        stats,
        run,
    );
}

/// Does what a thread does. If it panics, that is told at once and stays a trouble, and the panic goes on.
pub(super) fn watch(name: &str, place: Place, stats: &Stats, run: impl FnOnce()) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else {
        return;
    };
    let reason = format!(
        "{name} has stopped: it panicked: {}; restart the sensor, and please report this",
        said(&*panic)
    );
    tracing::error!("{reason}");
    stats.trouble(place, reason);
    resume_unwind(panic);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crossbeam_channel::unbounded;

    use super::*;
    use crate::packet::DropReason;
    use crate::sink::capture::intake::Capture;
    use crate::sink::capture::tests::{peer, target};
    use crate::sink::{Kept, Sink};
    use crate::time::Timestamp;

    #[test]
    fn a_writer_that_panics_is_told_at_once_and_what_comes_for_it_is_counted_as_lost_with_it() {
        let shared = Arc::new(Shared::new(1 << 20, 1, true));
        let stats = Stats::new(Arc::clone(&shared), 1);
        let (target, peer) = (target(0), peer(0));
        let kept = Kept {
            frame: &[7; 60],
            origlen: 60,
            time: Timestamp::default(),
            order: 1,
        };
        let (sender, bundles) = unbounded();
        let mut capture = Capture::new(0, Arc::clone(&shared), vec![sender]);
        let keep = |capture: &mut Capture| Sink::keep(capture, &target, &peer, kept);
        keep(&mut capture).expect("there is room");
        let body = || watched(0, &shared, &stats, || panic!("made to"));
        assert!(
            catch_unwind(AssertUnwindSafe(body)).is_err(),
            "it goes on to the join"
        );
        let trouble = stats.health().expect_err("it is told");
        assert!(
            trouble.reason.contains("it panicked: made to"),
            "{trouble:?}"
        );
        drop(bundles);
        drop(capture);
        let tally = target.ledger.read();
        let lost = tally.dropped[DropReason::ThreadLost.index()];
        assert_eq!((lost, shared.pool.used()), (1, 0));
    }

    #[test]
    fn a_thread_beside_the_packet_path_that_panics_is_told_at_once() {
        let stats = Stats::new(Arc::new(Shared::new(1 << 20, 1, true)), 1);
        let body = || watch("closer 2", Place::Closer(2), &stats, || panic!("made to"));
        assert!(catch_unwind(AssertUnwindSafe(body)).is_err());
        let trouble = stats.health().expect_err("it is told");
        assert!(
            trouble
                .reason
                .contains("closer 2 has stopped: it panicked: made to"),
            "{trouble:?}"
        );
    }
}
