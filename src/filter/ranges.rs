//! A line of values cut into disjoint ranges, each with the set of rules that cover it.
//!
//! A set has one bit per rule, in the order of evaluation. Looking a value up is one binary search.

/// Rules are counted in words of this many bits.
pub(super) const WORD: usize = 64;

/// A value that rules have ranges of: an address, a port, a protocol number.
pub(super) trait Value: Copy + Ord {
    const MIN: Self;
    fn next(self) -> Option<Self>;
}

macro_rules! values {
    ($($t:ty)+) => { $(impl Value for $t {
        const MIN: Self = <$t>::MIN;
        fn next(self) -> Option<Self> { self.checked_add(1) }
    })+ };
}
values!(u8 u16 u32 u128);

/// First and last value.
pub(super) type Range<T> = (T, T);

#[derive(Clone, Debug)]
pub(super) struct Ranges<T> {
    /// Where each range starts, ascending; the first is the smallest value there is.
    starts: Vec<T>,
    /// The set of each range, `words` words each.
    sets: Vec<u64>,
    words: usize,
}

impl<T: Value> Ranges<T> {
    /// From the range of every rule; `None` covers everything.
    pub(super) fn new(rules: &[Option<Range<T>>]) -> Self {
        let words = rules.len().div_ceil(WORD);
        let mut starts = vec![T::MIN];
        for (first, last) in rules.iter().flatten() {
            starts.push(*first);
            starts.extend(last.next());
        }
        starts.sort_unstable();
        starts.dedup();
        let covering = |value: T| {
            set(rules
                .iter()
                .map(|r| r.is_none_or(|(first, last)| first <= value && value <= last)))
        };
        let sets = starts.iter().flat_map(|start| covering(*start)).collect();
        Self {
            starts,
            sets,
            words,
        }
    }

    /// The set of rules that cover `value`.
    #[inline]
    pub(super) fn find(&self, value: T) -> &[u64] {
        let range = self.starts.partition_point(|start| *start <= value) - 1;
        let start = range * self.words;
        self.sets.get(start..start + self.words).unwrap_or_default()
    }
}

/// A set from one truth per rule.
pub(super) fn set(members: impl ExactSizeIterator<Item = bool>) -> Vec<u64> {
    let mut words = vec![0; members.len().div_ceil(WORD)];
    for (i, member) in members.enumerate() {
        if let Some(word) = words.get_mut(i / WORD) {
            *word |= u64::from(member) << (i % WORD);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_is_covered_by_exactly_the_rules_whose_range_holds_it(
            rules in prop::collection::vec(prop::option::of((any::<u8>(), any::<u8>())), 0..150),
        ) {
            let ordered = |(a, b): (u8, u8)| (a.min(b), a.max(b));
            let rules: Vec<_> = rules.into_iter().map(|r| r.map(ordered)).collect();
            let ranges = Ranges::new(&rules);
            for value in 0..=u8::MAX {
                let set = ranges.find(value);
                for (i, rule) in rules.iter().enumerate() {
                    let expected = rule.is_none_or(|(a, b)| (a..=b).contains(&value));
                    prop_assert_eq!(set[i / WORD] >> (i % WORD) & 1 == 1, expected);
                }
            }
        }
    }
}
