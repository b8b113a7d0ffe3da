//! The key by which a monitor knows a text again, and in which letters a text is written.

use mos_core::language::is_ideograph;

/// Returns the key of a text, as MemOS makes it: letters, digits and underscores, lower case, with one underscore for each
/// stretch of blanks between them. Empty for a text of signs alone.
pub fn mapping_key(text: &str) -> String {
    let kept: String = text.chars().filter(|c| c.is_alphanumeric() || *c == '_' || c.is_whitespace()).collect();
    let words: Vec<&str> = kept.split_whitespace().collect();
    words.join("_").to_lowercase()
}

/// Whether every letter of a text is an English one.
pub fn is_all_english(text: &str) -> bool {
    text.chars().filter(|c| c.is_alphabetic()).all(|c| c.is_ascii_alphabetic())
}

/// Whether every letter of a text is a Chinese one, and there is one.
pub fn is_all_chinese(text: &str) -> bool {
    let mut letters = text.chars().filter(|c| c.is_alphanumeric()).peekable();
    letters.peek().is_some() && letters.all(is_ideograph)
}
