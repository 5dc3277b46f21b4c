//! Where in an expression the mistake is, found by compiling its beginnings.
//!
//! A mistake lies behind the longest beginning, cut at a word, that compiles as it stands: the words up to there are
//! right together. Behind it stands a word that can go on (`and`, `not`, `port`), or the culprit; words that only go on
//! are passed over as long as some ending makes the longer beginning compile.

use std::ops::Range;

/// What may follow a beginning that is right but not complete.
const ENDINGS: &[&str] = &[
    "",
    " tcp",
    " 1",
    " 1.2.3.4",
    " 1.2.3.0/24",
    " port 1",
    " host 1.2.3.4",
    " 1)",
    " tcp)",
    ")",
    " = 1",
    "] = 1",
    " 1-2",
];

/// The word at fault; an empty range at the end where something is missing. `compiles` asks libpcap.
pub(super) fn find(expression: &str, compiles: impl Fn(&str) -> bool) -> Option<Range<usize>> {
    let words = words(expression);
    let good = |end: usize| {
        let beginning = expression.get(..end).unwrap_or_default();
        let open = beginning
            .matches('(')
            .count()
            .saturating_sub(beginning.matches(')').count());
        let close = ")".repeat(open.min(32));
        ENDINGS
            .iter()
            .any(|ending| compiles(&format!("{beginning}{ending}{close}")))
    };
    let culprit = words.iter().find(|word| !good(word.end));
    match culprit {
        Some(word) => Some(word.clone()),
        // each beginning can be completed: what is missing is the end
        None if !words.is_empty() => Some(expression.len()..expression.len()),
        None => None,
    }
}

/// The words of an expression: names, numbers and addresses in one piece, every other sign for itself.
fn words(expression: &str) -> Vec<Range<usize>> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_' | '\\');
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut joined = false;
    for (at, c) in expression.char_indices() {
        let end = at + c.len_utf8();
        match words.last_mut().filter(|_| joined && plain(c)) {
            Some(word) => word.end = end,
            None if c.is_whitespace() => {}
            None => words.push(at..end),
        }
        joined = plain(c);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_one_word_and_signs_are_their_own() {
        let text = "not (net 10.0.0.0/8)";
        let words: Vec<&str> = words(text).into_iter().map(|r| &text[r]).collect();
        assert_eq!(words, ["not", "(", "net", "10.0.0.0/8", ")"]);
    }
}
