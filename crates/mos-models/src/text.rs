//! Small rules about texts.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Cuts a text at about `max_tokens` tokens without a tokenizer.
///
/// The rule: an ASCII character counts a third of a token, any other character one token. Real tokenizers rarely
/// need more for running text, so that what is left fits; English text loses some room.
pub(crate) fn cut(text: &str, max_tokens: Option<usize>) -> Cow<'_, str> {
    let Some(budget) = max_tokens.map(|tokens| tokens.saturating_mul(3)) else { return Cow::Borrowed(text) };
    let mut spent = 0_usize;
    for (index, letter) in text.char_indices() {
        spent += if letter.is_ascii() { 1 } else { 3 };
        if spent > budget {
            return Cow::Owned(text[..index].to_owned());
        }
    }
    Cow::Borrowed(text)
}

/// Returns about how many tokens a text has, by the rule of [`cut`].
pub(crate) fn estimate_tokens(text: &str) -> usize {
    text.chars().map(|letter| if letter.is_ascii() { 1 } else { 3 }).sum::<usize>().div_ceil(3)
}

/// Puts the keys of `extra` over those of a request; a null removes the key.
pub(crate) fn add_extra(body: &mut Map<String, Value>, extra: &Map<String, Value>) {
    for (key, value) in extra {
        if value.is_null() {
            body.shift_remove(key);
        } else {
            body.insert(key.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("abcdefgh", Some(2)), "abcdef");
        assert_eq!(cut("日本語", Some(2)), "日本");
        assert_eq!(cut("abc日", Some(1)), "abc");
        assert_eq!(cut("short", Some(100)), "short");
        assert_eq!(cut("short", None), "short");
        assert_eq!((estimate_tokens("abcd"), estimate_tokens("日本"), estimate_tokens("")), (2, 2, 0));
    }
}
