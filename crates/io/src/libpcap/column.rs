//! Where in an expression libpcap's complaint belongs: libpcap itself does not say.
//!
//! Each try compiles the first n words, found by bisection, so a long expression takes some
//! fifteen tries. A complaint about the meaning (`unknown port 'x'`) belongs to the last word of
//! the shortest beginning that draws the same complaint. A syntax error belongs to the first word
//! that cannot follow the ones before it: a beginning is sound if its parser goes on to ask for
//! the next word, which shows when that word is one that the scanner itself objects to.

use super::token::tokens;
use core::ops::Range;
use std::time::{Duration, Instant};

/// Tries end here, and the column is then the best known: names may be slow to look up.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Two `::` in one address: no version's scanner takes it, and all say so in these words.
const OBJECTIONABLE: &str = " 1::2::3";
const OBJECTION: &str = "bogus ethernet address 1::2::";

/// Finds the bytes of an expression that a message is about. An empty range at the end of the last
/// word means that the expression stops too early.
///
/// `message_of` compiles a beginning of the expression and gives libpcap's message, if any.
pub(super) fn locate(
    expression: &str,
    message: &str,
    message_of: impl Fn(&str) -> Option<String>,
) -> Range<usize> {
    let words = tokens(expression);
    let Some(last) = words.last() else { return 0..0 };
    // A quoted word that stands there once needs no tries, nor the name lookup they may cost.
    if let Some(named) = quoted(message).and_then(|name| only(expression, &words, name)) {
        return named;
    }
    let beginning = |n: usize| &expression[..words[n - 1].end];
    if is_syntax_error(message) {
        let is_sound = |n| {
            let text = format!("{}{OBJECTIONABLE}", beginning(n));
            message_of(&text).is_some_and(|m| m.contains(OBJECTION))
        };
        if is_sound(words.len()) {
            return last.end..last.end;
        }
        words[first(words.len(), |n| !is_sound(n)) - 1].clone()
    } else {
        let is_same = |n| message_of(beginning(n)).is_some_and(|m| m == message);
        let n = first(words.len(), is_same);
        // A closing bracket completes what is wrong; the word before it is what is.
        let closes = n > 1 && matches!(&expression[words[n - 1].clone()], "]" | ")");
        words[n - 1 - usize::from(closes)].clone()
    }
}

/// Whether libpcap's grammar, not a meaning, is what a message is about.
pub(super) fn is_syntax_error(message: &str) -> bool {
    message.contains("syntax error")
}

/// The smallest n of 1..=max for which `holds`, given that it holds for max and stays true.
fn first(max: usize, holds: impl Fn(usize) -> bool) -> usize {
    let start = Instant::now();
    let (mut low, mut high) = (0, max);
    while high - low > 1 && start.elapsed() < TIME_MAX {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

fn quoted(message: &str) -> Option<&str> {
    let quote = if message.contains('"') { '"' } else { '\'' };
    message.split(quote).nth(1)
}

fn only(expression: &str, words: &[Range<usize>], name: &str) -> Option<Range<usize>> {
    let mut found = words.iter().filter(|range| &expression[(*range).clone()] == name);
    let range = found.next()?;
    found.next().is_none().then(|| range.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bisection_finds_the_first() {
        for max in 1..40 {
            for answer in 1..=max {
                assert_eq!(first(max, |n| n >= answer), answer);
            }
        }
    }

    #[test]
    fn a_name_in_the_message_is_found_without_a_try() {
        let located = locate("host foo and ip", "unknown host 'foo'", |_| panic!("no try needed"));
        assert_eq!(located, 5..8);
    }
}
