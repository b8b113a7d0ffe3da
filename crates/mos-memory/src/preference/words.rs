//! Comparing two texts by their words, without a model.

use mos_core::language::is_ideograph;

/// English words that may come and go without a change of meaning. Negations, prepositions and numbers may not.
const FILLERS: [&str; 10] = ["a", "an", "the", "is", "are", "am", "was", "were", "be", "been"];

/// Whether two texts have the same words in the same order, apart from case and punctuation.
pub(super) fn same_words(left: &str, right: &str) -> bool {
    words(left) == words(right)
}

/// Whether two texts have the same words in the same order, apart from case, punctuation and [`FILLERS`]. The order
/// counts: who prefers tea to coffee does not prefer coffee to tea.
pub(super) fn same_terms(left: &str, right: &str) -> bool {
    let terms = |text: &str| -> Vec<String> {
        words(text).into_iter().filter(|word| !FILLERS.contains(&word.as_str())).collect()
    };
    terms(left) == terms(right)
}

/// Runs of letters and digits in lower case; each ideograph is a word.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_open = false;
    for letter in text.chars() {
        if is_ideograph(letter) {
            words.push(letter.to_string());
            is_open = false;
        } else if !letter.is_alphanumeric() {
            is_open = false;
        } else {
            if !is_open {
                words.push(String::new());
                is_open = true;
            }
            if let Some(last) = words.last_mut() {
                last.extend(letter.to_lowercase());
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_case_punctuation_and_fillers_may_differ() {
        assert!(same_words("Prefers 7 Days Inn.", "prefers 7 days inn"));
        assert!(same_words("用户喜欢茶。", "用户喜欢茶"));
        assert!(same_terms("The user prefers the window seat", "User prefers a window seat!"));
        for (left, right) in [
            ("prefers tea to coffee", "prefers coffee to tea"),
            ("likes dogs", "likes no dogs"),
            ("wakes at 6", "wakes at 7"),
            ("flies to Rome", "flies from Rome"),
            ("喜欢茶", "不喜欢茶"),
        ] {
            assert!(!same_terms(left, right), "{left} / {right}");
        }
    }
}
