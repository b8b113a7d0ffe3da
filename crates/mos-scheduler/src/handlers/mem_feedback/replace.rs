//! One word in place of another.

use mos_core::language::is_ideograph;

/// Returns the text with every `from` that stands as a word of its own replaced by `to`, whatever its case; `None` when there
/// is none. Chinese and similar writing has no spaces, so that there it is replaced wherever it stands.
pub(super) fn replaced(text: &str, from: &str, to: &str) -> Option<String> {
    let from = from.trim();
    if from.is_empty() {
        return None;
    }
    let (mut result, mut rest_from, mut at) = (String::with_capacity(text.len()), 0, 0);
    while at < text.len() {
        match length_of_match(&text[at..], from) {
            Some(length) if is_word(text, at, at + length) => {
                result.push_str(&text[rest_from..at]);
                result.push_str(to);
                at += length;
                rest_from = at;
            }
            _ => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    if rest_from == 0 {
        return None;
    }
    result.push_str(&text[rest_from..]);
    Some(result)
}

/// Whether a text holds another one, whatever the case.
pub(super) fn mentions(text: &str, words: &str) -> bool {
    let words = words.trim();
    !words.is_empty() && text.char_indices().any(|(at, _)| length_of_match(&text[at..], words).is_some())
}

/// The bytes that `word` takes at the beginning of `text`.
fn length_of_match(text: &str, word: &str) -> Option<usize> {
    let mut letters = text.chars();
    let mut length = 0;
    for wanted in word.chars() {
        let letter = letters.next()?;
        if letter != wanted && !letter.to_lowercase().eq(wanted.to_lowercase()) {
            return None;
        }
        length += letter.len_utf8();
    }
    Some(length)
}

fn is_word(text: &str, start: usize, end: usize) -> bool {
    let joins = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() && !is_ideograph(letter));
    let (first, last) = (text[start..].chars().next(), text[..end].chars().next_back());
    let (before, after) = (text[..start].chars().next_back(), text[end..].chars().next());
    !((joins(first) && joins(before)) || (joins(last) && joins(after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_replaced_in_any_case() {
        let text = "Ann met Anna; ann's dog and ANN.";
        assert_eq!(replaced(text, "Ann", "Bea").as_deref(), Some("Bea met Anna; Bea's dog and Bea."));
        assert_eq!(replaced("a C++ course", "C++", "Rust").as_deref(), Some("a Rust course"));
        assert_eq!(replaced("Straße in Köln", "köln", "Bonn").as_deref(), Some("Straße in Bonn"));
        assert_eq!(replaced("他在上海工作", "上海", "北京").as_deref(), Some("他在北京工作"));
        for (text, from) in [("Annual", "Ann"), ("Joann", "Ann"), ("x", ""), ("", "x")] {
            assert_eq!(replaced(text, from, "y"), None, "{from} in {text}");
        }
    }

    #[test]
    fn words_are_mentioned_in_any_case() {
        assert!(mentions("Replace BERLIN by Munich", "Berlin") && mentions("把上海换成北京", "北京"));
        assert!(!mentions("Replace it", "Berlin") && !mentions("x", " "));
    }
}
