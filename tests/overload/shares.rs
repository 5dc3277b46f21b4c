//! The buffer, when the disk does not take anything: who gets what is left of it.
//!
//! The disk stands still because one of two workers does not pass its watermark on: nothing is settled, so nothing is written, until the
//! test says so. No clock decides anything.

use std::sync::Arc;

use mirrortap::packet::{DropReason, Peer, Vni};
use mirrortap::sink::Sink;
use mirrortap::sink::capture::Config;
use mirrortap::spool::{Format, Settings, Target};
use mirrortap::units::Size;
use tempfile::TempDir;

use crate::rig::{Rig, assert_closed, folder, frame, packet, peer, settings, target, wait_for};

/// Bytes of a frame.
const FRAME: usize = 700;

struct Stalled {
    rig: Rig,
    folder: TempDir,
    order: u64,
}

impl Stalled {
    fn new(buffer: Size) -> Self {
        let folder = folder();
        let config = Config {
            buffer,
            ..Config::default()
        };
        Self {
            rig: Rig::new(folder.path(), 2, true, &config),
            folder,
            order: 0,
        }
    }

    fn settings(&self) -> Settings {
        settings(self.folder.path(), Format::Pcap)
    }

    /// A packet comes; why it is refused, if it is.
    fn offer(&mut self, target: &Arc<Target>, peer: &Arc<Peer>) -> Option<DropReason> {
        self.order += 1;
        let frame = frame(self.order, FRAME);
        let kept = self.rig.keep(0, target, peer, packet(&frame, self.order));
        kept.err()
    }

    /// As after a batch.
    fn progress(&mut self) {
        self.rig.workers[0].progress(self.order + 1, false);
    }

    /// The disk takes all there is.
    fn release(&mut self) {
        self.progress();
        self.rig.workers[1].progress(self.order + 1, true);
    }

    /// The buffer is shorter than it may be without anybody being refused.
    fn is_short(&self) -> bool {
        self.rig.stats.buffered() > self.rig.stats.buffer_limit() / 4 * 3
    }
}

fn unclaimed(id: u32, settings: Settings) -> Arc<Target> {
    let name = format!("vni-{id}").into();
    let plain = target(id, settings);
    Arc::new(Target {
        id,
        name,
        settings: plain.settings.clone(),
        ledger: Arc::clone(&plain.ledger),
    })
}

#[test]
fn three_times_what_the_buffer_holds_costs_the_elephant_and_no_mouse() {
    let mut it = Stalled::new(Size::mebibytes(8));
    let targets: Vec<_> = (0..10).map(|id| target(id, it.settings())).collect();
    let peers: Vec<_> = (0..10).map(peer).collect();
    let offered_by_elephant = 3 * (8 << 20) / FRAME as u64;
    for n in 0..offered_by_elephant {
        it.offer(&targets[0], &peers[0]);
        if n % 500 == 0 {
            for mouse in 1..10 {
                it.offer(&targets[mouse], &peers[mouse]);
            }
        }
        if n % 100 == 0 {
            it.progress();
        }
    }
    assert!(it.is_short());
    let lost = targets[0].ledger.read();
    let over = lost.dropped[DropReason::OverShare.index()];
    assert!(over > offered_by_elephant / 2, "an overload: {lost:?}");
    it.release();
    it.rig.finish_within(std::time::Duration::from_secs(60));
    for (n, target) in targets.iter().enumerate() {
        let tally = assert_closed(&target.ledger);
        let told = assert_closed(&peers[n].ledger);
        assert_eq!(
            (tally.written, tally.dropped),
            (told.written, told.dropped),
            "source and session say the same"
        );
        let fair = if n == 0 {
            8 << 20 >> 1
        } else {
            tally.received * FRAME as u64
        };
        assert!(tally.written * FRAME as u64 >= fair, "{n}: {tally:?}");
    }
}

#[test]
fn a_source_that_makes_up_vnis_is_no_more_than_a_source() {
    let mut it = Stalled::new(Size::mebibytes(8));
    let flood: Vec<_> = (0..400).map(|id| unclaimed(id, it.settings())).collect();
    let flooder = |vni: u32| {
        let source = [192, 0, 2, 66].into();
        Arc::new(Peer::new(
            vni,
            source,
            Vni::new(vni),
            None,
            format!("vni-{vni}").into(),
        ))
    };
    let flooders: Vec<_> = (0..400).map(flooder).collect();
    let (other, configured) = (unclaimed(400, it.settings()), target(401, it.settings()));
    let (honest, claimed) = (peer(400), peer(401));
    let mut refused = [0; 3];
    for n in 0..30_000 {
        let vni = n % 400;
        refused[0] += u64::from(it.offer(&flood[vni], &flooders[vni]).is_some());
        if n % 200 == 0 {
            refused[1] += u64::from(it.offer(&other, &honest).is_some());
            refused[2] += u64::from(it.offer(&configured, &claimed).is_some());
        }
        if n % 100 == 0 {
            it.progress();
        }
    }
    assert!(
        it.is_short() && refused[0] > 10_000,
        "an overload: {refused:?}"
    );
    assert_eq!(refused[1..], [0, 0], "the others");
    it.release();
    it.rig.finish_within(std::time::Duration::from_secs(60));
    assert_eq!(assert_closed(&configured.ledger).written, 150);
    assert_eq!(assert_closed(&other.ledger).written, 150);
    flood
        .iter()
        .for_each(|target| _ = assert_closed(&target.ledger));
}

#[test]
fn a_source_that_floods_a_session_leaves_something_to_the_others_in_it() {
    let mut it = Stalled::new(Size::mebibytes(8));
    let (flooded, beside) = (target(0, it.settings()), target(1, it.settings()));
    let (flooder, other) = (peer(0), peer(1));
    let mice: Vec<_> = (2..7).map(peer).collect();
    let (mut flood, mut refused) = (0, 0);
    for n in 0..30_000 {
        flood += u64::from(it.offer(&flooded, &flooder).is_some());
        if n % 1_000 == 0 {
            refused += u64::from(it.offer(&beside, &other).is_some());
            refused += mice
                .iter()
                .map(|mouse| u64::from(it.offer(&flooded, mouse).is_some()))
                .sum::<u64>();
        }
        if n % 100 == 0 {
            it.progress();
        }
    }
    assert!(it.is_short() && flood > 10_000, "an overload: {flood}");
    assert_eq!(refused, 0);
    it.release();
    it.rig.finish_within(std::time::Duration::from_secs(60));
    assert_closed(&flooded.ledger);
    assert_eq!(assert_closed(&beside.ledger).written, 30);
    mice.iter()
        .for_each(|mouse| assert_eq!(assert_closed(&mouse.ledger).written, 30));
}

#[test]
fn a_source_that_floods_the_only_session_leaves_something_to_the_others_too() {
    let mut it = Stalled::new(Size::mebibytes(8));
    let (session, flooder) = (target(0, it.settings()), peer(0));
    let mice: Vec<_> = (1..6).map(peer).collect();
    let (mut flood, mut refused) = (0, 0);
    for n in 0..30_000 {
        flood += u64::from(it.offer(&session, &flooder).is_some());
        if n % 1_000 == 500 {
            let offers = mice
                .iter()
                .map(|mouse| u64::from(it.offer(&session, mouse).is_some()));
            refused += offers.sum::<u64>();
        }
        if n % 100 == 0 {
            it.progress();
        }
    }
    assert!(it.is_short() && flood > 10_000, "an overload: {flood}");
    assert!(refused < 15, "{refused} of 150");
    it.release();
    it.rig.finish_within(std::time::Duration::from_secs(60));
    assert_closed(&session.ledger);
    mice.iter()
        .for_each(|mouse| _ = assert_closed(&mouse.ledger));
}

#[test]
fn a_lone_source_that_comes_after_a_flood_loses_nothing() {
    let mut it = Stalled::new(Size::mebibytes(4));
    let targets: Vec<_> = (0..6).map(|id| target(id, it.settings())).collect();
    let peers: Vec<_> = (0..6).map(peer).collect();
    for n in 0..20_000 {
        let one = n % 5;
        it.offer(&targets[one], &peers[one]);
        if n % 50 == 0 {
            it.progress();
        }
    }
    assert!(it.is_short(), "a flood");
    it.release();
    let stats = Arc::clone(&it.rig.stats);
    wait_for("the flood is written", || {
        stats.buffered() < stats.buffer_limit() / 8
    });
    // half of the buffer, at once, with the disk standing still again
    for n in 0..(2 << 20) / 1_000 {
        assert_eq!(it.offer(&targets[5], &peers[5]), None, "packet {n}");
        it.progress();
    }
    it.release();
    it.rig.finish_within(std::time::Duration::from_secs(60));
    targets
        .iter()
        .for_each(|target| _ = assert_closed(&target.ledger));
    assert_eq!(targets[5].ledger.read().written, (2 << 20) / 1_000);
}

#[test]
fn two_seconds_of_rated_load_wait_in_the_buffer_and_nothing_is_lost() {
    // 80,000 packets a second, of 700 bytes; the buffer is the default one
    let mut it = Stalled::new(Config::default().buffer);
    let targets: Vec<_> = (0..8).map(|id| target(id, it.settings())).collect();
    let peers: Vec<_> = (0..8).map(peer).collect();
    for n in 0..160_000_usize {
        let one = n % 8;
        // without `progress`, which would look at the clock: what is full enough goes all the same
        assert_eq!(it.offer(&targets[one], &peers[one]), None, "packet {n}");
    }
    println!(
        "{} MiB of {}",
        it.rig.stats.buffered_high() >> 20,
        it.rig.stats.buffer_limit() >> 20
    );
    let written: u64 = targets.iter().map(|t| t.ledger.read().written).sum();
    assert_eq!(written, 0, "the disk stood still");
    it.release();
    it.rig.finish_within(std::time::Duration::from_secs(120));
    let tallies: Vec<_> = targets.iter().map(|t| assert_closed(&t.ledger)).collect();
    assert!(
        tallies
            .iter()
            .all(|t| (t.written, t.dropped_total()) == (20_000, 0))
    );
}

#[test]
fn whoever_comes_when_one_has_filled_the_buffer_finds_something() {
    let mut it = Stalled::new(Size::mebibytes(2));
    let targets: Vec<_> = (0..2).map(|id| target(id, it.settings())).collect();
    let peers: Vec<_> = (0..2).map(peer).collect();
    // alone, it may have nearly all
    let refusal = (0..10_000).find_map(|_| {
        it.progress();
        it.offer(&targets[0], &peers[0])
    });
    assert_eq!(refusal, Some(DropReason::BufferFull));
    let mouse = (0..10).find_map(|_| it.offer(&targets[1], &peers[1]));
    // a packet or some find room in the buffer that is open
    let elephant = (0..10_000).find_map(|_| it.offer(&targets[0], &peers[0]));
    assert_eq!(mouse, None);
    assert_eq!(elephant, Some(DropReason::OverShare));
    it.release();
    let stats = Arc::clone(&it.rig.stats);
    wait_for("memory comes back", || {
        stats.buffered() < stats.buffer_limit() / 4
    });
    assert_eq!(it.offer(&targets[1], &peers[1]), None);
    assert_eq!(it.offer(&targets[0], &peers[0]), None);
    it.release();
    it.rig.finish_within(std::time::Duration::from_secs(60));
    targets
        .iter()
        .for_each(|target| _ = assert_closed(&target.ledger));
}
