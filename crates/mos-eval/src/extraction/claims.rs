//! Taking a memory apart into what it claims.

/// Words whose full stop ends no sentence, in small letters.
const ABBREVIATIONS: [&str; 14] =
    ["mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "etc", "no", "approx", "e.g", "i.e"];

/// Returns the claims of a memory, in order: its sentences, and the parts of a sentence that semicolons separate. What
/// stands within a sentence is not taken apart, because half of a sentence need not be true alone.
pub(super) fn claims(memory: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, letter) in memory.char_indices() {
        let end = at + letter.len_utf8();
        if ends_claim(letter, &memory[start..at], &memory[end..]) {
            parts.push(&memory[start..end]);
            start = end;
        }
    }
    parts.push(&memory[start..]);
    let is_mark = |letter: char| letter.is_whitespace() || matches!(letter, ';' | '；');
    let trimmed = parts.into_iter().map(|part| part.trim_matches(is_mark));
    trimmed.filter(|part| part.chars().any(char::is_alphanumeric)).map(str::to_owned).collect()
}

fn ends_claim(letter: char, before: &str, behind: &str) -> bool {
    let is_apart = behind.is_empty() || behind.starts_with(char::is_whitespace);
    match letter {
        '。' | '！' | '？' | '；' | '\n' => true,
        '!' | '?' | ';' => is_apart,
        '.' => is_apart && !is_abbreviation(before) && !behind.trim_start().starts_with(char::is_lowercase),
        _ => false,
    }
}

/// Whether a full stop after this text may belong to its last word: an initial, or one of the usual abbreviations.
fn is_abbreviation(before: &str) -> bool {
    let last = before.split_whitespace().next_back().unwrap_or_default();
    let word = last.trim_start_matches(|letter: char| !letter.is_alphanumeric()).to_lowercase();
    let is_initial = word.chars().count() == 1 && word.chars().all(char::is_alphabetic) && word != "i";
    is_initial || ABBREVIATIONS.contains(&word.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_claims() {
        assert_eq!(
            claims("Anna has 3.5 acres; Dr. J. Brown sold them to her. She moved there on 1 May 2026!"),
            ["Anna has 3.5 acres", "Dr. J. Brown sold them to her.", "She moved there on 1 May 2026!"]
        );
        assert_eq!(claims("Anna met Tom at 7 p.m. on Friday"), ["Anna met Tom at 7 p.m. on Friday"]);
        assert_eq!(
            claims("安娜搬到了波尔图。她有三只狗；她喜欢那里"),
            ["安娜搬到了波尔图。", "她有三只狗", "她喜欢那里"]
        );
        assert!(claims(" ... ").is_empty() && claims("").is_empty());
    }

    #[test]
    fn what_stands_within_a_sentence_stays_together() {
        let memory = "Anna, who asked \"why?\", likes tea and coffee, e.g. in the morning";
        assert_eq!(claims(memory), [memory]);
        assert_eq!(claims("So am I. Tom agrees."), ["So am I.", "Tom agrees."]);
    }
}
