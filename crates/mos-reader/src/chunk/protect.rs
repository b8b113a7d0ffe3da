//! Addresses in a text, which no cut may fall into.

use std::ops::Range;

use super::count::is_unspaced;

/// What is longer is no address that anybody follows, and is cut like other text.
const MAX_ADDRESS_BYTES: usize = 4_096;

/// The longest scheme that is looked for.
const MAX_SCHEME_BYTES: usize = 16;

/// Returns the addresses in order; they do not touch each other.
pub(super) fn addresses(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let schemes = text.match_indices("://").filter_map(|(at, _)| scheme_start(text, at));
    let bare = text.match_indices("www.").map(|(at, _)| at).filter(|at| is_word_start(text, *at));
    let mut starts: Vec<usize> = schemes.chain(bare).collect();
    starts.sort_unstable();
    let mut end = 0;
    for start in starts {
        if start < end {
            continue;
        }
        end = start + address_len(&text[start..]);
        if end - start <= MAX_ADDRESS_BYTES {
            found.push(start..end);
        }
    }
    found
}

/// Returns where the scheme before `://` begins.
fn scheme_start(text: &str, at: usize) -> Option<usize> {
    let before = text.as_bytes()[..at].iter().rev().take(MAX_SCHEME_BYTES);
    let n = before.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')).count();
    (n >= 2).then(|| at - n)
}

fn is_word_start(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric())
}

/// Returns the bytes of the address that a text begins with.
fn address_len(text: &str) -> usize {
    let is_end = |letter: char| {
        letter.is_whitespace()
            || letter.is_control()
            || matches!(letter, '<' | '>' | '"' | '`' | '|')
            || is_unspaced(letter)
    };
    let mut address = &text[..text.find(is_end).unwrap_or(text.len())];
    // What ends a sentence or closes a bracket around the address is not part of it.
    while let Some(last) = address.chars().next_back() {
        let is_open = |open: char, close: char| address.matches(close).count() > address.matches(open).count();
        let is_outside = match last {
            '.' | ',' | ';' | ':' | '!' | '?' | '\'' | '*' | '_' => true,
            ')' => is_open('(', ')'),
            ']' => is_open('[', ']'),
            '}' => is_open('{', '}'),
            _ => false,
        };
        if !is_outside || address.len() > MAX_ADDRESS_BYTES {
            break;
        }
        address = &address[..address.len() - last.len_utf8()];
    }
    address.len()
}

/// Whether a cut at `at` would fall into one of the ranges.
pub(super) fn is_inside(ranges: &[Range<usize>], at: usize) -> bool {
    let next = ranges.partition_point(|range| range.end <= at);
    ranges.get(next).is_some_and(|range| range.start < at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        addresses(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn addresses_end_where_readers_see_it() {
        assert_eq!(
            found("See https://example.org/a?b=c. Or (http://x.org/y)."),
            ["https://example.org/a?b=c", "http://x.org/y"]
        );
        assert_eq!(found("[x](https://en.org/wiki/A_(b)), next"), ["https://en.org/wiki/A_(b)"]);
        assert_eq!(found("请看https://例.cn/页面。"), ["https://"]);
        assert_eq!(found("请看 https://example.cn/a，然后"), ["https://example.cn/a"]);
        assert_eq!(found("www.example.org and awww.not"), ["www.example.org"]);
        assert_eq!(found("a://b and ://c"), Vec::<&str>::new());
    }

    #[test]
    fn cuts_at_the_edges_are_allowed() {
        let ranges = [2..5, 7..9];
        let inside: Vec<usize> = (0..12).filter(|at| is_inside(&ranges, *at)).collect();
        assert_eq!(inside, [3, 4, 8]);
    }
}
