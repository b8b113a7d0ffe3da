//! How text becomes terms: folding, word boundaries, stop words, stems, Chinese segmentation.

mod fold;
mod stop_words;

use std::fmt;
use std::sync::OnceLock;

use jieba_rs::Jieba;
use mos_core::Analyzer;
use mos_core::language::is_ideograph;
use rust_stemmers::{Algorithm, Stemmer};
use unicode_segmentation::UnicodeSegmentation;

use fold::fold;

/// Longer terms are cut at this many bytes, on both sides of the comparison, so they stay findable.
const MAX_TERM_BYTES: usize = 96;

/// The Chinese dictionary takes tens of megabytes and a noticeable time to load: once, and only when it is needed.
static CHINESE: OnceLock<Jieba> = OnceLock::new();

/// Turns text into the terms that full-text search compares. The same text gives the same terms, always.
///
/// Words are found by Unicode's rules (UAX 29), in lower case, without Latin diacritics; English words are
/// stemmed (Snowball) and stop words left out; Chinese is segmented by dictionary. E-mail addresses, URLs and
/// dotted names give a term as a whole and one per part.
pub struct TextAnalyzer {
    stemmer: Stemmer,
}

impl fmt::Debug for TextAnalyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextAnalyzer").finish_non_exhaustive()
    }
}

impl Default for TextAnalyzer {
    fn default() -> Self {
        Self { stemmer: Stemmer::create(Algorithm::English) }
    }
}

impl Analyzer for TextAnalyzer {
    fn terms(&self, text: &str) -> Vec<String> {
        TextAnalyzer::terms(self, text)
    }
}

impl TextAnalyzer {
    /// Returns an analyzer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the terms of `text` in reading order, repeated as often as they occur; empty when it holds none.
    pub fn terms(&self, text: &str) -> Vec<String> {
        let folded = fold(text);
        let mut terms = Vec::new();
        for chunk in folded.split_whitespace() {
            if let Some(address) = address(chunk) {
                push(&mut terms, address);
            }
        }
        for (run, is_chinese) in script_runs(&folded) {
            if is_chinese {
                for word in CHINESE.get_or_init(Jieba::new).cut_for_search(run, true) {
                    if !stop_words::is_chinese(word) {
                        push(&mut terms, word);
                    }
                }
            } else {
                for word in run.unicode_words() {
                    self.push_word(&mut terms, word);
                }
            }
        }
        terms
    }

    fn push_word(&self, terms: &mut Vec<String>, word: &str) {
        if stop_words::is_english(word) {
            return;
        }
        if word.starts_with(|c: char| c.is_ascii_digit())
            && word.chars().all(|c| c.is_ascii_digit() || ".,".contains(c))
        {
            // 1,000 and 1000 are one number.
            return push(terms, &word.replace(',', ""));
        }
        let word = word.strip_suffix("'s").unwrap_or(word);
        if word.contains(['.', ':', '_']) {
            push(terms, word);
            for part in word.split(['.', ':', '_']).filter(|part| !part.is_empty()) {
                self.push_plain(terms, part);
            }
        } else {
            self.push_plain(terms, word);
        }
    }

    fn push_plain(&self, terms: &mut Vec<String>, word: &str) {
        if stop_words::is_english(word) {
            return;
        }
        if word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'\'') {
            push(terms, &self.stemmer.stem(word));
        } else {
            push(terms, word);
        }
    }
}

fn push(terms: &mut Vec<String>, term: &str) {
    let mut end = term.len().min(MAX_TERM_BYTES);
    while !term.is_char_boundary(end) {
        end -= 1;
    }
    if end > 0 {
        terms.push(term[..end].to_owned());
    }
}

/// Returns the e-mail address or URL (without scheme) that a chunk between blanks is, `None` for other text.
fn address(chunk: &str) -> Option<&str> {
    let bare = chunk.trim_matches(|c: char| !c.is_alphanumeric() && c != '/');
    if let Some((_, rest)) = bare.split_once("://") {
        return Some(rest.trim_end_matches('/')).filter(|rest| !rest.is_empty());
    }
    let (name, host) = bare.split_once('@')?;
    (!name.is_empty() && host.contains('.') && !host.contains('@')).then_some(bare)
}

/// Splits text where ideographs begin and end.
fn script_runs(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let is_chinese = is_ideograph(rest.chars().next()?);
        let end = rest.find(|c| is_ideograph(c) != is_chinese).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        Some((run, is_chinese))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<String> {
        TextAnalyzer::new().terms(text)
    }

    #[test]
    fn forms_of_a_word_share_a_term() {
        assert_eq!(terms("The dogs' owner is running"), ["dog", "owner", "run"]);
        assert_eq!(terms("Dog, OWNERS: runs!"), ["dog", "owner", "run"]);
        assert_eq!(terms("Max's Café"), ["max", "cafe"]);
        assert_eq!(terms("naïve NAIVE ﬁ"), ["naiv", "naiv", "ﬁ"]);
    }

    #[test]
    fn stop_words_leave_nothing() {
        assert!(terms("who is it that they don't 的 了").is_empty());
        assert!(terms(" \t!?。…").is_empty());
    }

    #[test]
    fn chinese_is_cut_into_words() {
        let found = terms("我喜欢在北京大学踢足球");
        for word in ["喜欢", "北京", "大学", "北京大学", "足球"] {
            assert!(found.iter().any(|term| term == word), "{word} in {found:?}");
        }
    }

    #[test]
    fn addresses_and_numbers_stay_whole_and_findable_in_parts() {
        let found = terms("Write to Ann.Lee@Example.com, see https://docs.rs/serde/ or 1,000.50");
        for term in ["ann.lee@example.com", "docs.rs/serde", "docs.rs", "serd", "1000.50", "exampl"] {
            assert!(found.iter().any(|one| one == term), "{term} in {found:?}");
        }
    }

    #[test]
    fn long_terms_are_cut_between_characters() {
        let found = terms(&"é€".repeat(500));
        assert!(found.iter().all(|term| term.len() <= MAX_TERM_BYTES), "{found:?}");
        assert_eq!(terms(&"x".repeat(500)), terms(&"x".repeat(600)));
    }
}
