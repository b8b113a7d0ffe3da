//! Who speaks in a scope, and where a question names them.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use mos_core::language::is_ideograph;

/// Other words for those who have no name, by their role.
const ROLES: [(&str, &[&str]); 2] = [("user", &["用户"]), ("assistant", &["助手", "助理"])];

/// The speakers of a scope, each as often as it speaks.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    n_turns: HashMap<Arc<str>, usize>,
    /// Lower-case words of names that are written with blanks between.
    by_word: HashMap<String, BTreeSet<Arc<str>>>,
    /// Names, or other words for them, that are written without blanks.
    unspaced: BTreeSet<(String, Arc<str>)>,
}

/// A place in a question that names somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    /// The bytes that it takes.
    pub(super) at: Range<usize>,
    /// Whom it can mean; more than one where a part of a name is shared.
    pub(super) speakers: BTreeSet<Arc<str>>,
}

impl Speakers {
    /// Counts one more turn of a speaker.
    pub(super) fn add(&mut self, name: &Arc<str>) {
        let n_turns = self.n_turns.entry(Arc::clone(name)).or_default();
        *n_turns += 1;
        if *n_turns > 1 {
            return;
        }
        for word in name_words(name) {
            self.by_word.entry(word).or_default().insert(Arc::clone(name));
        }
        for word in unspaced_words(name) {
            self.unspaced.insert((word, Arc::clone(name)));
        }
    }

    /// Counts one turn less; who has none left is forgotten.
    pub(super) fn remove(&mut self, name: &Arc<str>) {
        let Some(n_turns) = self.n_turns.get_mut(name) else { return };
        *n_turns -= 1;
        if *n_turns > 0 {
            return;
        }
        self.n_turns.remove(name);
        for word in name_words(name) {
            if let Some(known) = self.by_word.get_mut(&word) {
                known.remove(name);
                if known.is_empty() {
                    self.by_word.remove(&word);
                }
            }
        }
        for word in unspaced_words(name) {
            self.unspaced.remove(&(word, Arc::clone(name)));
        }
    }

    /// Bytes it takes, about.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_turns.keys().map(|name| 256 + 3 * name.len()).sum()
    }

    /// Returns where `text` names speakers, in its order. `is_empty_word` tells words that say nothing, such as "will": they
    /// are names only in the middle of a text with a capital.
    pub(super) fn mentions(&self, text: &str, is_empty_word: impl Fn(&str) -> bool) -> Vec<Mention> {
        let mut mentions = self.unspaced_mentions(text);
        for at in word_ranges(text) {
            let word = &text[at.clone()];
            let Some(speakers) = self.by_word.get(&word.to_lowercase()) else { continue };
            if let Some(last) = mentions.last_mut()
                && at.start >= last.at.end
                && text[last.at.end..at.start].chars().all(|letter| letter == ' ')
            {
                let both: BTreeSet<Arc<str>> = last.speakers.intersection(speakers).cloned().collect();
                if !both.is_empty() {
                    // "Anna" and then "Lee": one person.
                    last.at.end = at.end;
                    last.speakers = both;
                    continue;
                }
            }
            let is_overlapping = mentions.iter().any(|other| at.start < other.at.end && other.at.start < at.end);
            let is_capital = word.starts_with(char::is_uppercase);
            if !is_overlapping && !is_weak(word) && ((is_capital && at.start > 0) || !is_empty_word(word)) {
                mentions.push(Mention { at, speakers: speakers.clone() });
            }
        }
        mentions.sort_by_key(|mention| mention.at.start);
        mentions
    }

    fn unspaced_mentions(&self, text: &str) -> Vec<Mention> {
        let mut mentions: Vec<Mention> = Vec::new();
        for (word, name) in &self.unspaced {
            for (start, found) in text.match_indices(word.as_str()) {
                let at = start..start + found.len();
                mentions.push(Mention { at, speakers: BTreeSet::from([Arc::clone(name)]) });
            }
        }
        // Where one name is a part of another, the longer one is meant.
        mentions.sort_by(|left, right| left.at.start.cmp(&right.at.start).then(right.at.end.cmp(&left.at.end)));
        let mut kept: Vec<Mention> = Vec::new();
        for mention in mentions {
            if kept.last().is_none_or(|last| last.at.end <= mention.at.start) {
                kept.push(mention);
            }
        }
        kept
    }
}

/// The words of a name in lower case; none for a name that is written without blanks.
fn name_words(name: &str) -> BTreeSet<String> {
    if name.contains(is_ideograph) {
        return BTreeSet::new();
    }
    word_ranges(name).into_iter().map(|at| name[at].to_lowercase()).collect()
}

fn unspaced_words(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    if name.contains(is_ideograph) {
        words.push(name.to_owned());
    }
    for (role, others) in ROLES {
        if role == name {
            words.extend(others.iter().map(|word| (*word).to_owned()));
        }
    }
    words
}

/// Initials and numbers complete a name, but are none alone.
fn is_weak(word: &str) -> bool {
    word.chars().count() < 2 || word.chars().all(char::is_numeric)
}

/// Whether a character is a part of a word; Chinese is written without blanks and is looked at apart.
fn is_letter(letter: char) -> bool {
    letter.is_alphanumeric() && !is_ideograph(letter)
}

/// The places of runs of letters and digits.
fn word_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut rest = 0;
    while let Some(skipped) = text[rest..].find(is_letter) {
        let start = rest + skipped;
        let length = text[start..].find(|letter: char| !is_letter(letter)).unwrap_or(text.len() - start);
        rest = start + length;
        ranges.push(start..rest);
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speakers(names: &[&str]) -> Speakers {
        let mut speakers = Speakers::default();
        for name in names {
            speakers.add(&Arc::from(*name));
        }
        speakers
    }

    /// The mentioned words, each with whom it can mean.
    fn mentioned(speakers: &Speakers, text: &str) -> Vec<(String, Vec<String>)> {
        let found = speakers.mentions(text, |word| ["will", "the", "of"].contains(&word.to_lowercase().as_str()));
        let names = |mention: &Mention| mention.speakers.iter().map(|name| name.to_string()).collect();
        found.iter().map(|mention| (text[mention.at.clone()].to_owned(), names(mention))).collect()
    }

    fn words(speakers: &Speakers, text: &str) -> Vec<String> {
        mentioned(speakers, text).into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn names_are_found_in_any_case_and_as_whole_words() {
        let speakers = speakers(&["Anna", "Tom"]);
        assert_eq!(words(&speakers, "did anna and TOM's brother meet Tommy?"), ["anna", "TOM"]);
        assert!(words(&speakers, "tomato").is_empty());
        assert!(words(&speakers, "").is_empty());
    }

    #[test]
    fn parts_of_a_name_are_one_mention() {
        let speakers = speakers(&["Anna Lee", "Anna Ray", "User 1", "User 2"]);
        assert_eq!(
            mentioned(&speakers, "what does Anna Lee like"),
            [("Anna Lee".to_owned(), vec!["Anna Lee".to_owned()])]
        );
        assert_eq!(mentioned(&speakers, "and Anna?")[0].1, ["Anna Lee", "Anna Ray"]);
        assert_eq!(mentioned(&speakers, "of User 2")[0].1, ["User 2"]);
        assert!(words(&speakers, "are 2 enough").is_empty());
    }

    #[test]
    fn words_that_say_nothing_are_names_only_with_a_capital_inside() {
        let speakers = speakers(&["Will", "Winnie the Pooh"]);
        assert!(words(&speakers, "Will it rain, and will the sun shine?").is_empty());
        assert_eq!(words(&speakers, "does Will like the rain?"), ["Will"]);
    }

    #[test]
    fn chinese_names_are_found_without_blanks() {
        let speakers = speakers(&["小明", "小明月", "user"]);
        assert_eq!(words(&speakers, "小明月和小明去了哪里"), ["小明月", "小明"]);
        assert_eq!(mentioned(&speakers, "用户喜欢什么")[0].1, ["user"]);
    }

    #[test]
    fn who_speaks_no_more_is_forgotten() {
        let mut speakers = speakers(&["Anna", "Anna", "小明"]);
        let (anna, ming) = (Arc::from("Anna"), Arc::from("小明"));
        speakers.remove(&anna);
        speakers.remove(&ming);
        assert_eq!(words(&speakers, "Anna 小明"), ["Anna"]);
        speakers.remove(&anna);
        speakers.remove(&anna);
        assert!(words(&speakers, "Anna 小明").is_empty());
        assert_eq!(speakers.n_bytes(), 0);
    }
}
