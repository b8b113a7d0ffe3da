//! Which language a text is written in, as far as prompts and analysis need to know.

/// A language that prompts and analysis distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English, and everything else that is written in an alphabet.
    English,
    /// Chinese.
    Chinese,
}

/// Returns [`Language::Chinese`] when more than 30 % of the letters are CJK ideographs.
pub fn detect(text: &str) -> Language {
    let (mut letters, mut ideographs) = (0_usize, 0_usize);
    for letter in text.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        ideographs += usize::from(is_ideograph(letter));
    }
    if letters > 0 && ideographs * 10 > letters * 3 { Language::Chinese } else { Language::English }
}

/// Whether a character is a CJK ideograph (unified, extension A, compatibility, or a supplementary plane).
pub fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3134f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_percent_decides() {
        assert_eq!(detect("我喜欢踢足球"), Language::Chinese);
        assert_eq!(detect("I love 足球 very much"), Language::English);
        assert_eq!(detect("12345 !?"), Language::English);
    }
}
