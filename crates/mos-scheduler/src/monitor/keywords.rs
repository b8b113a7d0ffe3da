//! What a text is about, without a model, and how well another text fits it.

use std::collections::HashSet;

use mos_core::language::is_ideograph;

use super::key::is_all_english;

/// English words that say nothing of what a question is about.
const ENGLISH: &[&str] = &[
    "a", "about", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can",
    "could", "did", "do", "does", "doing", "for", "from", "get", "had", "has", "have", "he", "her", "him", "his",
    "how", "if", "in", "into", "is", "it", "its", "just", "know", "let", "like", "me", "more", "my", "no", "not", "of",
    "on", "or", "our", "out", "please", "she", "should", "so", "some", "tell", "than", "that", "the", "their", "them",
    "then", "there", "these", "they", "this", "those", "to", "us", "was", "we", "were", "what", "when", "where",
    "which", "who", "whom", "whose", "why", "will", "with", "would", "you", "your", "yours",
];

/// Chinese characters that stand between what a question is about.
const CHINESE: &str = "的了吗呢吧啊呀在是我你您他她它们和与跟及或就都也不没很把被对从向到给为让这那哪谁什么怎么样多少几想要请问能会可以有过着得地个";

/// The longest stretch of Chinese characters that counts as one word; longer ones count as their pairs.
const MAX_WORD: usize = 4;

/// Returns the words of a text that say what it is about, lower case, each once, in their order, at most `limit`. Stretches of
/// Chinese characters are cut at those that only connect.
pub fn content_words(text: &str, limit: usize) -> Vec<String> {
    let mut words = Vec::new();
    for run in runs(&text.to_lowercase()) {
        if run.chars().next().is_some_and(is_ideograph) {
            chinese_words(&run, &mut words);
        } else if !ENGLISH.contains(&run.as_str()) && (run.chars().count() > 1 || run.chars().all(char::is_numeric)) {
            words.push(run);
        }
    }
    let mut seen = HashSet::new();
    words.retain(|word| seen.insert(word.clone()));
    words.truncate(limit);
    words
}

/// Stretches of letters and digits of one kind: Chinese characters, or all others.
pub(super) fn runs(text: &str) -> Vec<String> {
    let mut runs: Vec<String> = Vec::new();
    let mut last_kind = None;
    for c in text.chars() {
        let kind = c.is_alphanumeric().then(|| is_ideograph(c));
        if kind.is_some() {
            if kind != last_kind {
                runs.push(String::new());
            }
            if let Some(run) = runs.last_mut() {
                run.push(c);
            }
        }
        last_kind = kind;
    }
    runs
}

fn chinese_words(run: &str, words: &mut Vec<String>) {
    for part in run.split(|c: char| CHINESE.contains(c)).filter(|part| !part.is_empty()) {
        if part.chars().count() <= MAX_WORD {
            words.push(part.to_owned());
        } else {
            words.extend(pairs(part));
        }
    }
}

/// Each two neighbouring characters.
pub(super) fn pairs(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.windows(2).map(|pair| pair.iter().collect()).collect()
}

/// Returns how well a text fits keywords: the sum, over the keywords, of how often each occurs in the text times its count.
/// Case does not matter; English keywords count as whole words only ("tea" is not in "steak").
pub fn keywords_score(text: &str, keywords: &[(String, u64)]) -> f64 {
    let text = text.to_lowercase();
    let score: u64 = keywords.iter().map(|(keyword, count)| occurrences(&text, &keyword.to_lowercase()) * count).sum();
    #[allow(clippy::cast_precision_loss, reason = "100 points count as much as all that come after them")]
    let score = score as f64;
    score
}

fn occurrences(text: &str, keyword: &str) -> u64 {
    if keyword.is_empty() {
        return 0;
    }
    let needs_whole_words = is_all_english(keyword);
    let is_outside = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() || is_ideograph(c));
    let found = text.match_indices(keyword).filter(|(at, found)| {
        let (before, after) = (&text[..*at], &text[at + found.len()..]);
        !needs_whole_words || (is_outside(before.chars().next_back()) && is_outside(after.chars().next()))
    });
    found.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_only_connect_are_no_keywords() {
        let words = |text: &str| content_words(text, 10);
        assert_eq!(words("What is the name of my dog Max?"), ["name", "dog", "max"]);
        assert_eq!(words("Max, max, MAX!"), ["max"]);
        assert_eq!(words("room 7 or room 8"), ["room", "7", "8"]);
        assert_eq!(words("我的狗叫什么名字？"), ["狗叫", "名字"]);
        assert_eq!(words("我想在广州预订一家酒店"), ["广州", "州预", "预订", "订一", "一家", "家酒", "酒店"]);
        assert_eq!(words("hello 你好 world"), ["hello", "好", "world"]);
        assert!(words("what is it?").is_empty());
        assert_eq!(content_words("one two three", 2), ["one", "two"]);
    }

    #[test]
    fn a_keyword_counts_as_often_as_it_occurs_and_was_asked_for() {
        let keywords = [("tea".to_owned(), 2), ("广州".to_owned(), 1)];
        let score = |text: &str| keywords_score(text, &keywords);
        assert!((score("Tea, and more tea") - 4.0).abs() < f64::EPSILON);
        assert!(score("a steak for the team").abs() < f64::EPSILON);
        assert!((score("她住在广州，喝tea") - 3.0).abs() < f64::EPSILON);
        assert!(keywords_score("tea", &[(String::new(), 3)]).abs() < f64::EPSILON);
    }
}
