//! Glob patterns, against a matcher that is as simple as it is slow. Input: length of the pattern, pattern, text.

use super::allocation::bounded;
use super::blobs::split_flags;
use tskv::protocol::resp::glob::matches;

/// Longest pattern and text that the simple matcher is asked about.
const COMPARED_BYTES_MAX: usize = 96;

pub(crate) fn pattern(input: &[u8]) {
    let (length, rest) = split_flags(input);
    let (pattern, text) = rest.split_at(usize::from(length).min(rest.len()));
    let found = bounded(0, 0, || matches(pattern, text));
    if pattern.len() <= COMPARED_BYTES_MAX && text.len() <= COMPARED_BYTES_MAX {
        let pattern: Vec<Element> = elements(pattern);
        assert_eq!(found, simple(&pattern, text), "{pattern:?} and {}", text.escape_ascii());
    }
}

/// One element of a pattern: what it takes.
#[derive(Debug)]
enum Element {
    AnyText,
    OneOf(Box<[bool; 256]>),
}

/// Takes a pattern apart as `util.c` of Redis does.
fn elements(mut pattern: &[u8]) -> Vec<Element> {
    let mut elements = Vec::new();
    while let [first, rest @ ..] = pattern {
        let mut set = Box::new([false; 256]);
        pattern = rest;
        match (*first, rest) {
            (b'*', _) => {
                elements.push(Element::AnyText);
                continue;
            }
            (b'?', _) => set.fill(true),
            (b'[', _) => pattern = class(rest, &mut set),
            (b'\\', [escaped, rest @ ..]) => {
                set[usize::from(*escaped)] = true;
                pattern = rest;
            }
            (plain, _) => set[usize::from(plain)] = true,
        }
        elements.push(Element::OneOf(set));
    }
    elements
}

/// Reads a class after its bracket; gives what follows it.
fn class<'a>(mut pattern: &'a [u8], set: &mut [bool; 256]) -> &'a [u8] {
    let negated = pattern.first() == Some(&b'^');
    pattern = &pattern[usize::from(negated)..];
    loop {
        if pattern.len() >= 2 && pattern[0] == b'\\' {
            set[usize::from(pattern[1])] = true;
            pattern = &pattern[2..];
        } else if pattern.is_empty() || pattern[0] == b']' {
            pattern = pattern.get(1..).unwrap_or_default();
            break;
        } else if pattern.len() >= 3 && pattern[1] == b'-' {
            let (low, high) = (pattern[0].min(pattern[2]), pattern[0].max(pattern[2]));
            (low..=high).for_each(|byte| set[usize::from(byte)] = true);
            pattern = &pattern[3..];
        } else {
            set[usize::from(pattern[0])] = true;
            pattern = &pattern[1..];
        }
    }
    if negated {
        set.iter_mut().for_each(|taken| *taken = !*taken);
    }
    pattern
}

/// Which prefixes of the text the elements so far can take: quadratic, without going back.
fn simple(pattern: &[Element], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for element in pattern {
        match element {
            Element::AnyText => {
                let first = reached.iter().position(|at| *at).unwrap_or(reached.len());
                reached[first..].fill(true);
            }
            Element::OneOf(set) => {
                let taken = |at: usize| at > 0 && reached[at - 1] && set[usize::from(text[at - 1])];
                reached = (0..=text.len()).map(taken).collect();
            }
        }
    }
    reached[text.len()]
}
