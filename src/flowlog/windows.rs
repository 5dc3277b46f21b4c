//! Intervals of interfaces: in which there were records, and in which something may be missing.
//!
//! Takes: the times of records and of losses, by interface. Gives: SKIPDATA and NODATA, once for an interface and interval, when nothing
//! more can come of it. Holds: an interval that a loss touches is told as SKIPDATA whatever else is in it, and never as NODATA.
//!
//! Intervals of whole interfaces are aligned to the clock; those of flows are not.

use std::time::Duration;

use crate::record::Status;
use crate::time::Timestamp;

/// Intervals that are looked back on.
const BACK: u64 = 64;
/// Intervals that the first one may be ahead of the one that is told: there is always some time between them.
const AHEAD: u64 = 4;

/// A line that stands for no flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub(super) eni: u32,
    pub(super) status: Status,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

/// The latest intervals of an interface, one bit each, the latest in the lowest.
#[derive(Clone, Copy, Debug)]
struct Marks {
    latest: u64,
    data: u64,
    skip: u64,
    /// The interval in which it became known.
    since: u64,
    /// The one in which it left the flow log, if it did.
    left: Option<u64>,
}

impl Marks {
    fn at(window: u64) -> Self {
        Self {
            latest: window,
            data: 0,
            skip: 0,
            since: window,
            left: None,
        }
    }

    fn skip(&mut self, from: u64, to: u64) {
        self.move_to(to);
        for window in from.max(to.saturating_sub(BACK))..=to {
            self.skip |= self.bit(window);
        }
    }

    fn move_to(&mut self, window: u64) {
        if window > self.latest {
            let by = u32::try_from(window - self.latest).unwrap_or(u32::MAX);
            self.data = self.data.checked_shl(by).unwrap_or(0);
            self.skip = self.skip.checked_shl(by).unwrap_or(0);
            self.latest = window;
        }
    }

    fn bit(&self, window: u64) -> u64 {
        match self.latest.checked_sub(window) {
            Some(back) if back < BACK => 1 << back,
            _ => 0,
        }
    }

    /// Whether anything was told of it lately.
    fn is_active(&self, window: u64) -> bool {
        self.latest + BACK > window && self.is_there(window)
    }

    /// Whether it belonged to the flow log then.
    fn is_there(&self, window: u64) -> bool {
        self.left.is_none_or(|left| window <= left)
    }
}

/// The intervals of all interfaces of a flow log.
#[derive(Debug)]
pub(super) struct Windows {
    interval: u64,
    nodata: bool,
    /// When the log began.
    from: Timestamp,
    /// The first interval that has not been told; none before the first time is known.
    next: Option<u64>,
    /// Whether anything is to be told as SKIPDATA.
    skips: bool,
    /// Of any interface.
    any: Marks,
    /// By number; none for those of other flow logs.
    marks: Vec<Option<Marks>>,
}

impl Windows {
    pub(super) fn new(interval: Duration, nodata: bool) -> Self {
        Self {
            interval: u64::try_from(interval.as_nanos())
                .unwrap_or(u64::MAX)
                .max(1),
            nodata,
            from: Timestamp::default(),
            next: None,
            skips: false,
            any: Marks::at(0),
            marks: Vec::new(),
        }
    }

    /// An interface of this flow log is known at `now`.
    pub(super) fn know(&mut self, eni: u32, now: Timestamp) {
        let window = self.begin(now);
        if let Some(marks) = self.marks_of(eni, window)
            && marks.left.take().is_some()
        {
            marks.since = window;
        }
    }

    /// One belongs to it no more, if it ever did.
    pub(super) fn leave(&mut self, eni: u32, now: Timestamp) {
        let window = self.window(now);
        if let Some(Some(marks)) = self.marks.get_mut(eni as usize) {
            marks.left.get_or_insert(window);
        }
    }

    /// Whether an interface belongs to this flow log, as far as is known.
    pub(super) fn has(&self, eni: u32) -> bool {
        self.marks.get(eni as usize).is_some_and(Option::is_some)
    }

    /// There is a record of an interface.
    pub(super) fn data(&mut self, eni: u32, first: Timestamp, last: Timestamp) {
        let (from, to) = (self.begin(first), self.window(last));
        let Some(marks) = self.marks_of(eni, to) else {
            return;
        };
        marks.move_to(to);
        // a record spans no more than two of them
        for window in from.max(to.saturating_sub(BACK))..=to {
            marks.data |= marks.bit(window);
        }
    }

    /// Packets of an interface may have been lost between these times.
    pub(super) fn skip(&mut self, eni: u32, first: Timestamp, last: Timestamp) {
        let (from, to) = self.touched(first, last);
        if let Some(marks) = self.marks_of(eni, to) {
            marks.skip(from, to);
        }
    }

    /// Packets of any interface that is active may have been lost between these times; of one, too, that is heard of only later.
    pub(super) fn skip_all(&mut self, first: Timestamp, last: Timestamp) {
        let (from, to) = self.touched(first, last);
        self.any.skip(from, to);
    }

    /// The intervals that a loss touches and that have not been told.
    fn touched(&mut self, first: Timestamp, last: Timestamp) -> (u64, u64) {
        let from = self.begin(first).max(self.next.unwrap_or(0));
        self.skips = true;
        (from, self.window(last).max(from))
    }

    /// The interfaces of which something was heard lately.
    pub(super) fn active(&self, now: Timestamp) -> Vec<u32> {
        let window = self.window(now);
        let known = (0_u32..).zip(&self.marks);
        let active = known.filter(|(_, marks)| marks.is_some_and(|m| m.is_active(window)));
        active.map(|(eni, _)| eni).collect()
    }

    /// Tells of the intervals that were over before `now`. With `all` the one at hand is told too, as far as it goes: nothing more will come.
    pub(super) fn told(&mut self, now: Timestamp, all: bool) -> Vec<Line> {
        let Some(next) = self.next else {
            return Vec::new();
        };
        let end = self.window(now);
        let mut lines = Vec::new();
        if next > end.saturating_add(AHEAD) {
            // the clock was set back: what is known of later intervals is told now, and it begins anew
            for window in next..next + AHEAD {
                self.tell(window, now, false, &mut lines);
            }
            self.begin_again(end, now);
            return lines;
        }
        // after a leap of the clock there is no use in telling of each interval that nobody saw
        for window in next.max(end.saturating_sub(BACK))..end {
            self.tell(window, now, self.nodata, &mut lines);
        }
        if all {
            self.tell(end, now, false, &mut lines);
        }
        self.next = Some(end.max(next));
        self.skips &= end <= next || self.has_skips(end);
        lines
    }

    fn begin_again(&mut self, window: u64, now: Timestamp) {
        (self.next, self.from) = (Some(window), self.from.min(now));
        self.any = Marks::at(window);
        for marks in self.marks.iter_mut().flatten() {
            *marks = Marks {
                left: marks.left.map(|_| window),
                ..Marks::at(window)
            };
        }
    }

    fn tell(&self, window: u64, now: Timestamp, nodata: bool, lines: &mut Vec<Line>) {
        if !self.skips && !nodata {
            return;
        }
        let any = self.any.skip & self.any.bit(window) != 0;
        for (eni, marks) in (0_u32..).zip(&self.marks) {
            let Some(marks) = marks.filter(|marks| marks.is_there(window)) else {
                continue;
            };
            let bit = marks.bit(window);
            let among_any = any && marks.is_active(window) && marks.since <= window;
            let status = if among_any || marks.skip & bit != 0 {
                Status::SkipData
            } else if nodata && marks.data & bit == 0 && marks.since <= window {
                Status::NoData
            } else {
                continue;
            };
            let start = Timestamp::from_nanos(window.saturating_mul(self.interval)).max(self.from);
            let end = window.saturating_add(1).saturating_mul(self.interval) - 1;
            lines.push(Line {
                eni,
                status,
                start: start.min(now),
                end: Timestamp::from_nanos(end).min(now).max(start.min(now)),
            });
        }
    }

    fn has_skips(&self, from: u64) -> bool {
        let mut known = self.marks.iter().flatten().chain([&self.any]);
        known.any(|marks| marks.skip != 0 && marks.latest >= from)
    }

    fn window(&self, time: Timestamp) -> u64 {
        time.nanos() / self.interval
    }

    /// The window of a time; the first that is ever named is where telling begins.
    fn begin(&mut self, time: Timestamp) -> u64 {
        let window = self.window(time);
        if self.next.is_none() {
            self.next = Some(window);
            self.from = time;
        }
        window
    }

    fn marks_of(&mut self, eni: u32, window: u64) -> Option<&mut Marks> {
        let at = eni as usize;
        if self.marks.len() <= at {
            self.marks.resize(at + 1, None);
        }
        let fresh = Marks::at(window);
        // there by now
        let marks = self.marks.get_mut(at);
        marks.map(|marks| marks.get_or_insert(fresh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_parts(secs, 0)
    }

    fn told(windows: &mut Windows, now: u64) -> Vec<(u32, Status, u64, u64)> {
        let lines = windows.told(at(now), false).into_iter();
        lines
            .map(|l| (l.eni, l.status, l.start.secs(), l.end.secs()))
            .collect()
    }

    #[test]
    fn an_interval_without_a_record_is_told_once_and_only_where_that_is_wanted() {
        for nodata in [false, true] {
            let mut windows = Windows::new(Duration::from_secs(60), nodata);
            windows.know(3, at(610));
            windows.data(3, at(665), at(690));
            assert_eq!(told(&mut windows, 620), []);
            let lines = told(&mut windows, 790);
            let expected = [(3, Status::NoData, 610, 659), (3, Status::NoData, 720, 779)];
            assert_eq!(lines, if nodata { &expected[..] } else { &[] });
            assert_eq!(told(&mut windows, 791), []);
        }
    }

    #[test]
    fn a_loss_is_told_for_every_interval_that_it_touches_and_is_no_lack_of_traffic() {
        let mut windows = Windows::new(Duration::from_secs(60), true);
        windows.know(0, at(600));
        windows.data(1, at(600), at(700));
        windows.skip(0, at(650), at(670));
        let lines = told(&mut windows, 730);
        let skip = |eni, start| (eni, Status::SkipData, start, start + 59);
        assert_eq!(lines, [skip(0, 600), skip(0, 660)]);
        windows.skip_all(at(735), at(736));
        let lines = told(&mut windows, 790);
        assert_eq!(lines, [skip(0, 720), skip(1, 720)]);
    }

    #[test]
    fn a_loss_in_an_interval_that_was_told_is_told_with_the_next() {
        let mut windows = Windows::new(Duration::from_secs(60), false);
        windows.know(0, at(600));
        assert_eq!(told(&mut windows, 720), []);
        windows.skip(0, at(601), at(602));
        assert_eq!(told(&mut windows, 790), [(0, Status::SkipData, 720, 779)]);
    }

    #[test]
    fn one_that_has_left_is_not_missed_until_it_comes_back() {
        let mut windows = Windows::new(Duration::from_secs(60), true);
        windows.know(0, at(600));
        windows.leave(0, at(610));
        windows.skip_all(at(670), at(671));
        assert_eq!(told(&mut windows, 725), [(0, Status::NoData, 600, 659)]);
        windows.know(0, at(730));
        assert_eq!(told(&mut windows, 785), [(0, Status::NoData, 720, 779)]);
    }

    #[test]
    fn a_clock_that_is_set_back_is_followed() {
        let mut windows = Windows::new(Duration::from_secs(60), true);
        windows.know(0, at(60_000));
        windows.skip(0, at(60_010), at(60_011));
        let lines = windows.told(at(30_000), false);
        assert_eq!(lines.len(), 1);
        assert!(
            lines
                .iter()
                .all(|l| l.start <= l.end && l.end == at(30_000))
        );
        windows.skip(0, at(30_010), at(30_011));
        assert_eq!(
            told(&mut windows, 30_060),
            [(0, Status::SkipData, 30_000, 30_059)]
        );
    }

    #[test]
    fn the_end_tells_the_interval_at_hand_as_far_as_it_goes() {
        let mut windows = Windows::new(Duration::from_secs(60), true);
        windows.know(0, at(600));
        windows.skip(0, at(610), at(610));
        let lines = windows.told(at(630), true);
        let told: Vec<_> = lines.iter().map(|l| (l.status, l.end.secs())).collect();
        assert_eq!(told, [(Status::SkipData, 630)]);
    }

    #[test]
    fn who_has_been_silent_for_long_is_not_blamed_and_a_leap_of_the_clock_is_no_flood() {
        let mut windows = Windows::new(Duration::from_secs(1), true);
        windows.know(0, at(1_000));
        let lines = told(&mut windows, 1_000_000);
        assert_eq!(lines.len(), BACK as usize);
        windows.skip_all(at(1_000_000), at(1_000_000));
        assert!(windows.active(at(1_000_000)).is_empty());
    }
}
