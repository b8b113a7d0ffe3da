//! Small rules about texts that several rooms keep.

/// Returns the first `max_chars` characters of a text.
pub fn first_chars(text: &str, max_chars: usize) -> &str {
    text.char_indices().nth(max_chars).map_or(text, |(end, _)| &text[..end])
}

/// Returns the letters and digits of a text in lower case: what two quotes of the same words share.
pub fn letters_of(text: &str) -> String {
    text.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!((first_chars("日本語", 2), first_chars("ab", 2), first_chars("ab", 0)), ("日本", "ab", ""));
    }

    #[test]
    fn quotes_are_the_same_apart_from_case_spaces_and_marks() {
        assert_eq!(letters_of("I'll choose «7 Days Inn»!"), "illchoose7daysinn");
    }
}
