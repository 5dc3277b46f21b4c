//! A line of values cut into disjoint ranges, each with the set of rules that cover it.
//!
//! Takes: the range that every rule asks for, in the order of evaluation. Gives: for a value the set of rules that take it,
//! one bit each. Holds: a look-up is one search over the ranges, however the rules overlap.
//!
//! Up to 64 rules a set is one word ([`Ranges::mask`]). Beyond, a set has a word for each 64 rules, of which nearly all are
//! empty: twenty thousand address blocks hardly overlap. So a [`Set`] keeps the words that are not, equal sets are kept
//! once, and the rules that take every value stand apart, once for all ranges.

use std::collections::HashMap;

/// Rules are counted in words of this many bits, and words in blocks of as many.
pub(super) const WORD: usize = 64;

/// Lengths that short lists of ranges are filled up to: a search whose length is known is a few instructions in a row, with
/// no jump to be guessed.
const SHORT: usize = 4;
const LONGER: usize = 16;

/// A value that rules have ranges of: an address, a port, a protocol number.
pub(super) trait Value: Copy + Ord {
    const MIN: Self;
    const MAX: Self;
    fn next(self) -> Option<Self>;
}

macro_rules! values {
    ($($t:ty)+) => { $(impl Value for $t {
        const MIN: Self = <$t>::MIN;
        const MAX: Self = <$t>::MAX;
        fn next(self) -> Option<Self> { self.checked_add(1) }
    })+ };
}
values!(u8 u16 u32 u128);

/// First and last value.
pub(super) type Range<T> = (T, T);

/// Where each range starts, and what covers it.
#[derive(Clone, Debug)]
pub(super) struct Ranges<T> {
    /// Ascending; the first is the smallest value there is. A few are filled up with the largest.
    starts: Vec<T>,
    last: usize,
    /// The set of each range as one word, where there are no more rules than that.
    masks: Vec<u64>,
    /// The number of each range's set among `sets`.
    numbers: Vec<u32>,
    sets: Sets,
}

impl<T: Value> Ranges<T> {
    /// From the range of every rule; `None` covers everything.
    pub(super) fn new(rules: &[Option<Range<T>>]) -> Self {
        let mut ranges = Self {
            starts: Vec::new(),
            last: 0,
            masks: Vec::new(),
            numbers: Vec::new(),
            sets: Sets::new(rules.iter().map(Option::is_none)),
        };
        let mut known = HashMap::new();
        let mut covering = vec![0; ranges.sets.every.len()];
        let mut start = T::MIN;
        for edges in edges(rules).chunk_by(|a, b| a.0 == b.0) {
            if edges.first().is_some_and(|(value, _)| *value != start) {
                ranges.push(start, &covering, &mut known);
            }
            for (value, rule) in edges {
                start = *value;
                // a rule has one range, so that its first edge puts it in and its second out
                if let Some(word) = covering.get_mut(rule / WORD) {
                    *word ^= 1 << (rule % WORD);
                }
            }
        }
        ranges.push(start, &covering, &mut known);
        ranges.last = ranges.starts.len() - 1;
        let filled = [1, SHORT, LONGER].into_iter().find(|n| *n > ranges.last);
        if let Some(length) = filled {
            ranges.starts.resize(length, T::MAX);
        }
        ranges
    }

    fn push(&mut self, start: T, covering: &[u64], known: &mut HashMap<Sparse, u32>) {
        self.starts.push(start);
        match (covering, &*self.sets.every) {
            ([], _) => self.masks.push(0),
            ([mask], [every]) => self.masks.push(mask | every),
            _ => {
                let number = *known
                    .entry(sparse(covering))
                    .or_insert_with_key(|words| self.sets.add(words));
                self.numbers.push(number);
            }
        }
    }

    /// The set of rules that cover `value`, where there are no more than [`WORD`].
    #[inline(always)]
    pub(super) fn mask(&self, value: T) -> u64 {
        self.masks.get(self.range(value)).copied().unwrap_or(0)
    }

    /// The set of rules that cover `value`, where there are more.
    #[inline]
    pub(super) fn set(&self, value: T) -> Set<'_> {
        let number = self.numbers.get(self.range(value)).copied().unwrap_or(0);
        self.sets.get(number as usize)
    }

    #[inline(always)]
    fn range(&self, value: T) -> usize {
        let starts = self.starts.as_slice();
        let not_above = |start: &T| *start <= value;
        let not_above = if starts.len() == 1 {
            return 0;
        } else if let Ok(short) = <&[T; SHORT]>::try_from(starts) {
            short.partition_point(not_above)
        } else if let Ok(longer) = <&[T; LONGER]>::try_from(starts) {
            longer.partition_point(not_above)
        } else {
            starts.partition_point(not_above)
        };
        (not_above - 1).min(self.last)
    }
}

/// Where a rule begins or ceases to cover values, ascending.
fn edges<T: Value>(rules: &[Option<Range<T>>]) -> Vec<(T, usize)> {
    let mut edges = Vec::new();
    for (rule, range) in rules.iter().enumerate() {
        if let Some((first, last)) = range {
            edges.push((*first, rule));
            edges.extend(last.next().map(|next| (next, rule)));
        }
    }
    edges.sort_unstable();
    edges
}

/// The words of a set that are not empty, with their places.
type Sparse = Vec<(usize, u64)>;

fn sparse(words: &[u64]) -> Sparse {
    let all = words.iter().copied().enumerate();
    all.filter(|(_, word)| *word != 0).collect()
}

/// Which of 64 words of a set are not empty, and where the first of them is kept.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    words: u64,
    at: u32,
}

/// Sets of rules that have some members in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Sets {
    /// The members that all sets have, and which words of it are not empty.
    every: Vec<u64>,
    in_every: Vec<u64>,
    /// The blocks of each set.
    blocks: Vec<Block>,
    /// The words that are not empty, of all sets.
    words: Vec<u64>,
}

impl Sets {
    /// No sets yet; `every` tells of each rule whether all sets have it.
    pub(super) fn new(every: impl ExactSizeIterator<Item = bool>) -> Self {
        let every = bits(every);
        let in_every = bits(every.iter().map(|word| *word != 0));
        Self {
            every,
            in_every,
            ..Self::default()
        }
    }

    /// Adds a set and gives its number.
    fn add(&mut self, set: &[(usize, u64)]) -> u32 {
        let per_set = self.in_every.len();
        let number = self.blocks.len() / per_set.max(1);
        for block in 0..per_set {
            let mut new = Block {
                words: 0,
                at: self.words.len() as u32,
            };
            for (place, word) in set.iter().filter(|(place, _)| place / WORD == block) {
                new.words |= 1 << (place % WORD);
                self.words.push(*word);
            }
            self.blocks.push(new);
        }
        number as u32
    }

    /// The set that has only what all have.
    pub(super) fn only_every(&self) -> Set<'_> {
        Set {
            sets: self,
            blocks: &[],
        }
    }

    /// The only word of that set.
    #[inline(always)]
    pub(super) fn mask(&self) -> u64 {
        self.every.first().copied().unwrap_or(0)
    }

    fn get(&self, number: usize) -> Set<'_> {
        let from = number * self.in_every.len();
        let blocks = self.blocks.get(from..from + self.in_every.len());
        Set {
            sets: self,
            blocks: blocks.unwrap_or_default(),
        }
    }
}

/// A set of rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set<'a> {
    sets: &'a Sets,
    blocks: &'a [Block],
}

impl Set<'_> {
    /// Which words of a block are not empty.
    #[inline]
    fn block(&self, block: usize) -> u64 {
        let own = self.blocks.get(block).map_or(0, |block| block.words);
        self.sets.in_every.get(block).copied().unwrap_or(0) | own
    }

    #[inline]
    fn word(&self, place: usize) -> u64 {
        let every = self.sets.every.get(place).copied().unwrap_or(0);
        let block = self.blocks.get(place / WORD).copied().unwrap_or_default();
        let bit = 1 << (place % WORD);
        if block.words & bit == 0 {
            return every;
        }
        let before = (block.words & (bit - 1)).count_ones();
        let own = self.sets.words.get((block.at + before) as usize);
        every | own.copied().unwrap_or(0)
    }

    /// The first rule that all sets have.
    pub(super) fn first_of_all(sets: &[Self; 5]) -> Option<usize> {
        let blocks = sets[0].sets.in_every.len();
        for block in 0..blocks {
            let mut common = sets
                .iter()
                .fold(u64::MAX, |all, set| all & set.block(block));
            while common != 0 {
                let place = block * WORD + common.trailing_zeros() as usize;
                let word = sets.iter().fold(u64::MAX, |all, set| all & set.word(place));
                if word != 0 {
                    return Some(place * WORD + word.trailing_zeros() as usize);
                }
                common &= common - 1;
            }
        }
        None
    }
}

/// One bit for each truth.
fn bits(truths: impl ExactSizeIterator<Item = bool>) -> Vec<u64> {
    let mut words = vec![0; truths.len().div_ceil(WORD)];
    for (i, truth) in truths.enumerate() {
        if let Some(word) = words.get_mut(i / WORD) {
            *word |= u64::from(truth) << (i % WORD);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ordered((a, b): (u8, u8)) -> (u8, u8) {
        (a.min(b), a.max(b))
    }

    fn members(ranges: &Ranges<u8>, rules: usize, value: u8) -> Vec<bool> {
        let has = |i: usize| {
            let word = if rules <= WORD {
                ranges.mask(value)
            } else {
                let set = ranges.set(value);
                let word = set.word(i / WORD);
                assert!(word == 0 || set.block(i / WORD / WORD) >> (i / WORD % WORD) & 1 == 1);
                word
            };
            word >> (i % WORD) & 1 == 1
        };
        (0..rules).map(has).collect()
    }

    proptest! {
        #[test]
        fn a_value_is_covered_by_exactly_the_rules_whose_range_holds_it(
            rules in prop::collection::vec(prop::option::of((any::<u8>(), any::<u8>())), 0..150),
        ) {
            let rules: Vec<_> = rules.into_iter().map(|r| r.map(ordered)).collect();
            let ranges = Ranges::new(&rules);
            for value in 0..=u8::MAX {
                let covers = |rule: &Option<(u8, u8)>| rule.is_none_or(|(a, b)| (a..=b).contains(&value));
                let expected: Vec<_> = rules.iter().map(covers).collect();
                prop_assert_eq!(members(&ranges, rules.len(), value), expected);
            }
        }

        #[test]
        fn the_first_rule_of_all_sets_is_the_first_that_every_field_takes(
            one in (any::<u8>(), any::<u8>()), other in (any::<u8>(), any::<u8>()), value: u8, at in 0_usize..9000,
        ) {
            // far apart, so that there is more than one block of words
            let rules = |range| {
                let mut rules = vec![Some((255, 255)); 9000];
                rules[at] = Some(ordered(range));
                rules[8999] = None;
                Ranges::new(&rules)
            };
            let (one_set, other_set) = (rules(one), rules(other));
            let sets = [one_set.set(value), other_set.set(value), one_set.set(value), one_set.set(value), one_set.set(value)];
            let holds = |range| { let (a, b) = ordered(range); (a..=b).contains(&value) };
            let expected = if value == 255 {
                (0..9000).find(|i| *i != at || at == 8999 || holds(one) && holds(other))
            } else if holds(one) && holds(other) { Some(at) } else { Some(8999) };
            prop_assert_eq!(Set::first_of_all(&sets), expected);
        }
    }
}
