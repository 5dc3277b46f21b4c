//! Where in an expression the mistake is, found by compiling its beginnings.
//!
//! Takes: the words of an expression that does not compile. Gives: the word at fault. A beginning of an expression is
//! right if it compiles with one of a few endings; the first word whose beginning is not right is the culprit. Holds: the
//! work is bounded. A binary search over `and` and `or` skips what is certainly right, and where an expression is so long
//! that trying every word would take seconds, the part between two of them is the answer.

use std::ops::Range;

use crate::filter::words;

/// What may follow a beginning that is right but not complete.
const ENDINGS: &[&str] = &[
    "",
    " tcp",
    " 1",
    " 1.2.3.4",
    " 1.2.3.0/24",
    " port 1",
    " host 1.2.3.4",
    "0] = 1",
    "] = 1",
    " = 1",
    " 1 = 1",
    " \\tcp",
    " dst port 1",
    " dst host 1.2.3.4",
    " 1-2",
    " 255.255.255.0",
    " ::1",
    " 1:2:3:4:5:6",
    " host 1:2:3:4:5:6",
    ") = 1",
    " 1) = 1",
    ")] = 1",
];

/// What the compilations of each of the two searches may cost together, in words squared, which is how libpcap's time
/// grows: some three seconds at most.
const BUDGET: usize = 15_000_000;

/// The word at fault; an empty range at the end where something is missing; nothing where it would take too long to
/// find. `compiles` asks libpcap, at `cost` times
/// the price of a compilation that does not optimize.
pub(super) fn find(
    expression: &str,
    words: &[Range<usize>],
    cost: usize,
    compiles: impl Fn(&str) -> bool,
) -> Option<Range<usize>> {
    let budget = BUDGET / cost.max(1);
    let mut search = Search {
        expression,
        words,
        budget,
        compiles,
    };
    let first = search.first_doubtful().ok()?;
    search.budget = budget;
    match search.culprit(first) {
        // each beginning can be completed: what is missing is the end
        Ok(None) if !words.is_empty() => Some(expression.len()..expression.len()),
        Ok(place) => place,
        Err(Exhausted) => search.part(first),
    }
}

/// The budget is spent.
struct Exhausted;

struct Search<'a, F> {
    expression: &'a str,
    words: &'a [Range<usize>],
    budget: usize,
    compiles: F,
}

impl<F: Fn(&str) -> bool> Search<'_, F> {
    /// The word behind the last `and` or `or` up to which all is right.
    fn first_doubtful(&mut self) -> Result<usize, Exhausted> {
        let is_joint = |word: &Range<usize>| {
            self.expression
                .get(word.clone())
                .is_some_and(words::is_joint)
        };
        let words = self.words.iter().enumerate();
        let joints: Vec<usize> = words
            .filter(|(_, word)| is_joint(word))
            .map(|(i, _)| i)
            .collect();
        let (mut right, mut wrong) = (0, joints.len());
        // joints[..right] are known to be right, joints[wrong..] taken to be wrong; a joint that only looks wrong
        // (the `or` of `src or dst port 80`) costs time, no truth
        while right < wrong {
            let middle = right.midpoint(wrong);
            let word = joints.get(middle).copied().unwrap_or_default();
            if self.completes(word, &[""])? {
                right = middle + 1;
            } else {
                wrong = middle;
            }
        }
        let joint = right.checked_sub(1).and_then(|last| joints.get(last));
        Ok(joint.map_or(0, |joint| joint + 1))
    }

    /// The first word from `first` on whose beginning no ending completes.
    fn culprit(&mut self, first: usize) -> Result<Option<Range<usize>>, Exhausted> {
        for (i, word) in self.words.iter().enumerate().skip(first) {
            if !self.completes(i + 1, ENDINGS)? {
                return Ok(Some(word.clone()));
            }
        }
        Ok(None)
    }

    /// Whether the first `count` words compile with one of the endings, parentheses closed.
    fn completes(&mut self, count: usize, endings: &[&str]) -> Result<bool, Exhausted> {
        let last = count.checked_sub(1).and_then(|last| self.words.get(last));
        let end = last.map_or(0, |word| word.end);
        let beginning = self.expression.get(..end).unwrap_or_default();
        let signs = |sign| beginning.matches(sign).count();
        let close = ")".repeat(signs('(').saturating_sub(signs(')')));
        for ending in endings {
            self.budget = self.budget.checked_sub(count * count).ok_or(Exhausted)?;
            let less = if ending.contains(')') { 1 } else { 0 };
            let close = close.get(less.min(close.len())..).unwrap_or_default();
            if (self.compiles)(&format!("{beginning}{ending}{close}")) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// From a word to before the next `and` or `or`.
    fn part(&self, first: usize) -> Option<Range<usize>> {
        let words = self.words.get(first..)?;
        let is_joint = |word: &&Range<usize>| {
            self.expression
                .get((*word).clone())
                .is_some_and(words::is_joint)
        };
        let end = words
            .iter()
            .find(is_joint)
            .map_or(self.expression.len(), |joint| joint.start);
        let start = words.first()?.start;
        let part = self.expression.get(start..end)?.trim_end();
        Some(start..start + part.len())
    }
}
