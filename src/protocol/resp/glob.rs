//! Glob patterns of KEYS, SCAN MATCH and CONFIG GET: `*`, `?`, `[a-z]`, `[^a]`, `\x`.
//!
//! Redis's recursive matcher takes exponential time on patterns like `a*a*a*…` (CVE-2022-36021, CVE-2024-31228). This
//! one is a loop that goes back to the latest star only, so it takes at most pattern × text steps; the pattern's
//! length is capped, and a budget bounds the rest.

/// Longest pattern. Longer: refused by the command parser.
pub const PATTERN_BYTES_MAX: usize = 2048;
/// Steps of one match. Exhausted: no match. Keys of 1024 bytes and sensible patterns stay far below.
const STEPS_MAX: usize = 1 << 18;

/// Whether `text` as a whole matches `pattern`.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern_at, mut text_at) = (0, 0);
    // Where to go on when the latest star takes one more byte of the text.
    let mut retry: Option<(usize, usize)> = None;
    for _ in 0..STEPS_MAX {
        let rest = pattern.get(pattern_at..).unwrap_or_default();
        let next = text.get(text_at).copied();
        if rest.first() == Some(&b'*') {
            pattern_at += 1;
            retry = Some((pattern_at, text_at));
            continue;
        }
        match (rest.is_empty(), next) {
            (true, None) => return true,
            (false, Some(byte)) => {
                let (is_match, width) = matches_one(rest, byte);
                if is_match {
                    pattern_at += width;
                    text_at += 1;
                    continue;
                }
            }
            // The text has ended, and a star can only take more of it.
            (false, None) => return false,
            (true, Some(_)) => {}
        }
        match retry {
            Some((star, taken)) if taken < text.len() => {
                retry = Some((star, taken + 1));
                (pattern_at, text_at) = (star, taken + 1);
            }
            _ => return false,
        }
    }
    false
}

/// Whether the first element of `pattern`, which is not empty and no star, takes `byte`; and the element's length.
fn matches_one(pattern: &[u8], byte: u8) -> (bool, usize) {
    match pattern {
        [b'?', ..] => (true, 1),
        [b'[', rest @ ..] => {
            let (is_match, width) = matches_class(rest, byte);
            (is_match, width + 1)
        }
        [b'\\', escaped, ..] => (*escaped == byte, 2),
        [plain, ..] => (*plain == byte, 1),
        [] => (false, 0),
    }
}

/// Whether the class whose `[` has been taken holds `byte`; and its length with the `]`. A class without `]` ends with
/// the pattern, as in Redis.
fn matches_class(class: &[u8], byte: u8) -> (bool, usize) {
    let (is_negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => break,
            [b']', tail @ ..] => {
                rest = tail;
                break;
            }
            [b'\\', escaped, tail @ ..] => {
                found |= *escaped == byte;
                tail
            }
            [low, b'-', high, tail @ ..] => {
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                tail
            }
            [plain, tail @ ..] => {
                found |= *plain == byte;
                tail
            }
        };
    }
    (found != is_negated, class.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        // A client that lists its keys by pattern must see the same ones as before.
        let cases: [(&[u8], &[u8], bool); 24] = [
            (b"*", b"", true),
            (b"*", b"anything", true),
            (b"", b"", true),
            (b"", b"a", false),
            (b"h?llo", b"hello", true),
            (b"h?llo", b"hllo", false),
            (b"h[ae]llo", b"hallo", true),
            (b"h[ae]llo", b"hillo", false),
            (b"h[^e]llo", b"hallo", true),
            (b"h[^e]llo", b"hello", false),
            (b"h[a-b]llo", b"hbllo", true),
            (b"h[b-a]llo", b"hallo", true),
            (b"a\\*b", b"a*b", true),
            (b"a\\*b", b"axb", false),
            (b"*a*b*", b"xxaxxbxx", true),
            (b"*a*b", b"xxaxxbxx", false),
            (b"a*", b"b", false),
            (b"**a", b"a", true),
            (b"[abc", b"c", true),
            (b"[", b"x", false),
            (b"[\\]]", b"]", true),
            (b"\\", b"\\", true),
            (b"cpu:*:user", b"cpu:17:user", true),
            (b"abc", b"abcd", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(
                matches(pattern, text),
                expected,
                "{} {}",
                pattern.escape_ascii(),
                text.escape_ascii()
            );
        }
    }

    #[test]
    fn hostile_patterns_end_soon() {
        // One pattern of many stars held a Redis core for minutes.
        let pattern = [b"a*".repeat(1000), b"b".to_vec()].concat();
        assert!(!matches(&pattern, &b"a".repeat(1024)));
        assert!(!matches(&b"*?".repeat(1024), &b"a".repeat(1000)));
    }
}
