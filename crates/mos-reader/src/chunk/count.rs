//! How sizes are counted.

use std::fmt;

/// Counts tokens. Implementations that count by a model's tokenizer give sizes that the model takes.
pub trait TokenCounter: fmt::Debug + Send + Sync {
    /// Returns how many tokens a text has. More text has no fewer, apart from a few where two texts meet.
    fn count(&self, text: &str) -> usize;
}

/// Counts characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Characters;

impl TokenCounter for Characters {
    fn count(&self, text: &str) -> usize {
        text.chars().count()
    }
}

/// Estimates tokens without a tokenizer: four letters of a word are one, and so is each sign and each letter of scripts
/// that are written without spaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EstimatedTokens;

/// Letters of a word that usually are one token.
const LETTERS_PER_TOKEN: usize = 4;

impl TokenCounter for EstimatedTokens {
    fn count(&self, text: &str) -> usize {
        let (mut n_tokens, mut n_letters) = (0, 0_usize);
        for letter in text.chars() {
            if letter.is_alphanumeric() && !is_unspaced(letter) {
                n_letters += 1;
                continue;
            }
            n_tokens += n_letters.div_ceil(LETTERS_PER_TOKEN);
            n_letters = 0;
            n_tokens += usize::from(!letter.is_whitespace());
        }
        n_tokens + n_letters.div_ceil(LETTERS_PER_TOKEN)
    }
}

/// Whether a letter belongs to a script that is written without spaces between words.
pub(super) fn is_unspaced(letter: char) -> bool {
    matches!(
        letter,
        '\u{0e00}'..='\u{0eff}' // Thai, Lao
            | '\u{1000}'..='\u{109f}' // Burmese
            | '\u{1780}'..='\u{17ff}' // Khmer
            | '\u{2e80}'..='\u{9fff}' // Chinese, Japanese
            | '\u{f900}'..='\u{faff}'
            | '\u{ff00}'..='\u{ffef}'
            | '\u{20000}'..='\u{3ffff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_near_what_tokenizers_say() {
        assert_eq!(EstimatedTokens.count(""), 0);
        assert_eq!(EstimatedTokens.count("The quick brown fox."), 1 + 2 + 2 + 1 + 1);
        assert_eq!(EstimatedTokens.count("我们去公园。"), 6);
        assert_eq!(Characters.count("né中"), 3);
    }
}
