//! Which files go, against a model that is slow and plain.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;

use super::*;
use crate::spool::retain::{Limits, Mark};
use crate::units::{Share, Size};

fn file(session: &str, second: u32, bytes: u64) -> Kept {
    let name = format!(
        "{session}-20261124T23{:02}{:02}.000000Z-000001.pcap",
        second / 60,
        second % 60
    );
    Kept {
        mark: Mark::of(session, &name).unwrap(),
        session: session.into(),
        name: name.into(),
        bytes,
        modified: u64::from(second) * 1_000_000_000,
        identity: (1, u64::from(second) * 10 + u64::from(session.len() as u32)),
    }
}

fn shelf(files: &[Kept]) -> Shelf {
    let mut shelf = Shelf::default();
    files.iter().for_each(|f| shelf.put(f.clone()));
    shelf
}

fn names(going: &[Going]) -> Vec<(String, Cause)> {
    let name = |g: &Going| (g.kept.name.to_string(), g.cause);
    going.iter().map(name).collect()
}

static NONE: OnceLock<HashMap<Arc<str>, Pressure>> = OnceLock::new();

fn still() -> Now<'static> {
    Now {
        wall: None,
        space: None,
        all: Pressure::default(),
        of: NONE.get_or_init(HashMap::new),
    }
}

#[test]
fn without_bounds_nothing_goes() {
    let files = [file("a", 1, 1 << 40)];
    let now = Now {
        wall: Some(Timestamp::from_nanos(u64::MAX)),
        ..still()
    };
    assert_eq!(
        choose(&shelf(&files), &Bounds::default(), &now, &|_| true),
        (Vec::new(), 0)
    );
}

#[test]
fn a_session_over_its_bound_costs_no_file_of_another() {
    let files = [file("a", 1, 500), file("bb", 2, 600), file("bb", 3, 600)];
    let mut bounds = Bounds::default();
    let own = Limits {
        max_size: Some(1000),
        max_age: None,
    };
    bounds.sessions.insert("bb".into(), own);
    let (going, _) = choose(&shelf(&files), &bounds, &still(), &|_| true);
    assert_eq!(names(&going), [(files[1].name.to_string(), Cause::Size)]);
}

#[test]
fn files_being_written_count_and_the_margin_is_ahead_of_need() {
    let files = [file("a", 1, 400), file("a", 2, 400)];
    let mut bounds = Bounds::default();
    bounds.output.max_size = Some(1000);
    let with = |unfinished, growth| {
        let now = Now {
            all: Pressure { unfinished, growth },
            ..still()
        };
        choose(&shelf(&files), &bounds, &now, &|_| true).0.len()
    };
    assert_eq!(
        (with(0, 0), with(100, 0), with(180, 0), with(190, 0)),
        (0, 0, 0, 1)
    );
    assert_eq!((with(0, 90), with(0, 110)), (0, 1));
    assert_eq!(with(0, u64::MAX), 1, "a burst takes a quarter at most");
}

#[test]
fn what_is_missing_to_the_free_space_is_told_when_nothing_may_go() {
    let files = [file("a", 1, 100), file("a", 2, 100)];
    let bounds = Bounds {
        min_free: Some(Share::Percent(10)),
        ..Bounds::default()
    };
    let space = Space {
        free: 30,
        size: 1000,
    };
    let now = Now {
        space: Some((space, 1)),
        ..still()
    };
    let (going, missing) = choose(&shelf(&files), &bounds, &now, &|_| true);
    assert_eq!((names(&going).len(), missing), (1, 0));
    let (going, missing) = choose(&shelf(&files), &bounds, &now, &|_| false);
    assert_eq!((going.len(), missing), (0, 70));
    let elsewhere = Now {
        space: Some((space, 2)),
        ..still()
    };
    let (going, missing) = choose(&shelf(&files), &bounds, &elsewhere, &|_| true);
    assert_eq!(
        (going.len(), missing),
        (0, 70),
        "files of another disk free nothing here"
    );
}

#[test]
fn a_file_from_the_future_has_no_age() {
    let files = [file("a", 100, 1), file("a", 5, 1)];
    let mut bounds = Bounds::default();
    bounds.output.max_age = Some(Duration::from_secs(10));
    let now = Now {
        wall: Some(Timestamp::from_parts(20, 0)),
        ..still()
    };
    let (going, _) = choose(&shelf(&files), &bounds, &now, &|_| true);
    assert_eq!(names(&going), [(files[1].name.to_string(), Cause::Age)]);
}

/// The plain way: sort, then strike out file after file while the bound is missed.
fn model(
    files: &[Kept],
    bounds: &Bounds,
    now: &Now<'_>,
    held: &dyn Fn(&Kept) -> bool,
) -> BTreeMap<String, Cause> {
    let mut left = files.to_vec();
    left.sort_by(|a, b| (a.mark, &a.session, &a.name).cmp(&(b.mark, &b.session, &b.name)));
    let mut gone = BTreeMap::new();
    let mut free = now.space.map_or(0, |(s, _)| s.free);
    let mut strike = |left: &mut Vec<Kept>, at: usize, cause| {
        let kept = left.remove(at);
        free += kept.bytes;
        gone.insert(kept.name.to_string(), cause);
        free
    };
    let wall = now.wall.unwrap_or_default();
    while let Some(at) = left.iter().position(|f| {
        let age = wall.since(Timestamp::from_nanos(f.modified));
        !held(f) && bounds.max_age(&f.session).is_some_and(|most| age > most)
    }) {
        strike(&mut left, at, Cause::Age);
    }
    let sum = |left: &[Kept], of: Option<&str>| -> u64 {
        left.iter()
            .filter(|f| of.is_none_or(|s| &*f.session == s))
            .map(|f| f.bytes)
            .sum()
    };
    let sessions = bounds
        .sessions
        .iter()
        .map(|(s, l)| (Some(&**s), l.max_size));
    for (session, most) in sessions.chain([(None, bounds.output.max_size)]) {
        let Some(most) = most else { continue };
        let is_of = |f: &Kept| session.is_none_or(|s| &*f.session == s);
        while sum(&left, session) > most - most / 64 {
            let Some(at) = left.iter().position(|f| is_of(f) && !held(f)) else {
                break;
            };
            strike(&mut left, at, Cause::Size);
        }
    }
    if let (Some(share), Some((space, _))) = (bounds.min_free, now.space) {
        let wanted = share.of(space.size);
        let mut free = free_after(&left, files, space.free);
        while free < wanted + wanted / 64 {
            let Some(at) = left.iter().position(|f| !held(f)) else {
                break;
            };
            free = strike(&mut left, at, Cause::Free);
        }
    }
    gone
}

fn free_after(left: &[Kept], all: &[Kept], free: u64) -> u64 {
    let sum = |files: &[Kept]| files.iter().map(|f| f.bytes).sum::<u64>();
    free + sum(all) - sum(left)
}

prop_compose! {
    fn limits()(size in proptest::option::of(1_u64..5_000), age in proptest::option::of(1_u64..3_000)) -> Limits {
        Limits { max_size: size, max_age: age.map(Duration::from_secs) }
    }
}

proptest! {
    #[test]
    fn what_goes_is_what_the_plain_model_strikes_out(
        seeds in proptest::collection::vec((0_usize..3, 0_u32..3_000, 0_u64..900, any::<bool>()), 0..30),
        output in limits(), own in proptest::collection::vec(limits(), 3),
        free in proptest::option::of((0_u64..3_000, 0_u64..5_000)), now in 0_u64..6_000,
    ) {
        let names = ["a", "bb", "ccc"];
        let mut files: Vec<Kept> = Vec::new();
        let mut held = Vec::new();
        for (session, second, bytes, hold) in seeds {
            let kept = file(names[session], second, bytes);
            if files.iter().all(|f| f.identity != kept.identity) {
                if hold && second % 4 == 0 { held.push(kept.identity); }
                files.push(kept);
            }
        }
        let sessions = names.iter().zip(own).filter(|(_, l)| !l.is_empty());
        let bounds = Bounds {
            output,
            min_free: free.map(|(wanted, _)| Share::Size(Size(wanted))),
            sessions: sessions.map(|(n, l)| (Arc::from(*n), l)).collect(),
        };
        let space = free.map(|(_, free)| (Space { free, size: 10_000 }, 1));
        let now = Now { wall: Some(Timestamp::from_parts(now, 0)), space, ..still() };
        let is_held = |kept: &Kept| held.contains(&kept.identity);
        let (going, missing) = choose(&shelf(&files), &bounds, &now, &|k| !is_held(k));
        let told: BTreeMap<String, Cause> = going.iter().map(|g| (g.kept.name.to_string(), g.cause)).collect();
        prop_assert_eq!(told.len(), going.len(), "none goes twice");
        prop_assert_eq!(&told, &model(&files, &bounds, &now, &is_held));
        let freed: u64 = going.iter().map(|g| g.kept.bytes).sum();
        if let Some((wanted, had)) = free {
            prop_assert_eq!(missing, wanted.saturating_sub(had + freed));
        }
    }

    #[test]
    fn the_sums_of_a_shelf_are_those_of_its_files(
        moves in proptest::collection::vec((any::<bool>(), 0_u32..20, 1_u64..100), 0..60),
    ) {
        let (mut real, mut plain) = (Shelf::default(), BTreeMap::new());
        for (put, second, bytes) in moves {
            let kept = file(["a", "bb"][second as usize % 2], second, bytes);
            if put {
                plain.insert(second, bytes);
                real.put(kept);
            } else {
                let taken = real.take(&kept.session, kept.mark, &kept.name);
                prop_assert_eq!(taken.map(|k| k.bytes), plain.remove(&second));
            }
            prop_assert_eq!(real.len(), plain.len());
            prop_assert_eq!(real.bytes(), plain.values().sum::<u64>());
            let odd: u64 = plain.iter().filter(|(s, _)| *s % 2 == 1).map(|(_, b)| *b).sum();
            prop_assert_eq!(real.bytes_of("bb"), odd);
            prop_assert_eq!(real.oldest().count(), plain.len());
        }
    }
}
