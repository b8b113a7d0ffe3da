//! Whether a source supports what a model noted of it.
//!
//! No model is asked: numbers and names of the note must be in the source, and the note must share words with it. What is
//! wrongly refused is not lost, because the raw source stays; what is wrongly accepted would be an invented memory.

mod numbers;

use std::collections::HashSet;

use mos_core::language::{Language, detect, is_ideograph};
use mos_core::memory::SourceMessage;
use mos_core::text::letters_of;

/// What a note may be drawn from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The text of the source.
    pub(crate) text: String,
    /// Words that a note may use besides: names of speakers, titles, headings.
    pub(crate) names: String,
    /// Whether the source has a time, so that "yesterday" may have become a date.
    pub(crate) has_time: bool,
    /// Instructions and recalled memories, which must not come back as notes.
    pub(crate) hidden: Vec<String>,
}

/// Notes that share less than this part of their words with the source are not of it.
const MIN_SHARED: f64 = 0.2;

/// Notes of fewer words are too short to be judged by them.
const MIN_WORDS: usize = 5;

/// The shortest text that counts as repeated from what must stay hidden, in letters.
const MIN_HIDDEN: usize = 12;

/// Letters that two forms of a word have in common at their beginning.
const STEM: usize = 4;

/// Decides whether a source supports a note.
///
/// # Errors
/// One sentence that says what is missing in the source.
pub(crate) fn check(note: &str, evidence: &Evidence) -> Result<(), String> {
    let letters = letters_of(note);
    if letters.is_empty() {
        return Err("it has no words".to_owned());
    }
    let in_source = letters_of(&evidence.text).contains(&letters);
    let is_hidden = || evidence.hidden.iter().any(|text| letters_of(text).contains(&letters));
    if !in_source && letters.chars().count() >= MIN_HIDDEN && is_hidden() {
        return Err("it repeats instructions or memories that were shown to the assistant".to_owned());
    }
    let allowed = format!("{}\n{}", evidence.text, evidence.names);
    if let Some(number) = numbers::first_unknown(note, &allowed, evidence.has_time) {
        return Err(format!("the number {number} is not in its source"));
    }
    let source = Words::of(&allowed);
    if let Some(name) = names(note).into_iter().find(|name| !source.has(name)) {
        return Err(format!("the name {name} is not in its source"));
    }
    if !shares_words(note, &evidence.text, &source) {
        return Err("it has next to no words of its source".to_owned());
    }
    Ok(())
}

/// Decides, without asking a model, whether messages support a claim that was drawn from them, as fine mode does before it
/// keeps a memory: the claim's numbers and names must be theirs, and it must share words with them. `speakers` are the names
/// of all who took part, which a claim may use although the messages do not say them.
///
/// What it refuses is seldom said in the messages; what it lets pass may still say something else with their words.
///
/// # Errors
/// One sentence that says what is missing in the messages.
pub fn check_support(claim: &str, messages: &[SourceMessage], speakers: &[&str]) -> Result<(), String> {
    let texts: Vec<&str> = messages.iter().filter_map(|message| message.content.as_deref()).collect();
    let times: Vec<&str> = messages.iter().filter_map(|message| message.chat_time.as_deref()).collect();
    let evidence = Evidence {
        text: texts.join("\n"),
        names: format!("{}\n{}", speakers.join("\n"), times.join("\n")),
        has_time: !times.is_empty(),
        hidden: Vec::new(),
    };
    check(claim, &evidence)
}

/// The words of a text, and their beginnings.
struct Words {
    words: HashSet<String>,
    stems: HashSet<String>,
}

impl Words {
    fn of(text: &str) -> Self {
        let words: HashSet<String> = words(text).map(str::to_lowercase).collect();
        let stems = words.iter().filter_map(|word| stem(word)).collect();
        Self { words, stems }
    }

    fn has(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        self.words.contains(&word) || stem(&word).is_some_and(|stem| self.stems.contains(&stem))
    }
}

fn stem(word: &str) -> Option<String> {
    let stem: String = word.chars().take(STEM).collect();
    (stem.chars().count() == STEM).then_some(stem)
}

/// The words of a text that are written in letters with spaces between them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |letter: char| letter.is_alphanumeric() && !is_ideograph(letter);
    text.split(move |letter: char| !is_part(letter)).filter(|word| !word.is_empty())
}

/// Words that may begin a sentence, or be written with a capital, without being names.
const NO_NAMES: &str = "a about according after all also although an and another any april as assistant at august because before \
    both but by december during each every february for friday from he her his however i if in it its january \
    july june march may monday most my no not november october on once one or our saturday september she since \
    so some speaker sunday that the their then there these they this thursday to tuesday two user users \
    wednesday we when while with you your ai am";

/// Verbs whose subject, at the beginning of a sentence, is a name when it is written with a capital.
const VERBS: &str = "and asked asks attended bought came did does enjoys feels found gave gets goes got had has hates hopes \
    intends is joined keeps knows learned left liked likes lived lives loves made met moved needs owns planned \
    plans plays prefers received recommended said says started studied studies takes thinks told took visited \
    wants was went will wishes won worked works would wrote";

/// Returns what looks like a name: words with a capital inside a sentence, and those at its beginning that a verb, a
/// possessive or another name follows. Text in Chinese has none that could be told.
fn names(note: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for sentence in note.split(['.', '!', '?', ':', ';', '\n', '。', '！', '？', '：', '；']) {
        let tokens: Vec<&str> = sentence.split_whitespace().collect();
        for (index, &token) in tokens.iter().enumerate() {
            for word in words(token).filter(|word| is_capitalised(word)) {
                let next = tokens.get(index + 1).map(|next| next.trim_matches(|c: char| !c.is_alphanumeric()));
                let begins = index == 0;
                let is_subject = token.contains("'s")
                    || token.contains("’s")
                    || next.is_some_and(|next| has_word(VERBS, next) || is_capitalised(next));
                if !begins || is_subject {
                    names.push(word);
                }
            }
        }
    }
    names.retain(|name| !has_word(NO_NAMES, &name.to_lowercase()));
    names
}

fn has_word(list: &str, word: &str) -> bool {
    list.split(' ').any(|one| one == word)
}

fn is_capitalised(word: &str) -> bool {
    let mut letters = word.chars();
    letters.next().is_some_and(char::is_uppercase) && word.chars().count() > 1
}

/// Words that say nothing about what a note is about.
const COMMON: &str = "about also been being does from have into mentioned said says since that their there they this user want \
    wants were when will with";

fn shares_words(note: &str, source: &str, known: &Words) -> bool {
    let pairs = pairs_of(note);
    if detect(note) == Language::Chinese && pairs.len() >= MIN_WORDS {
        let of_source: HashSet<(char, char)> = pairs_of(source).into_iter().collect();
        // A note in another language than its source cannot be compared by words.
        if of_source.is_empty() {
            return true;
        }
        let n_shared = pairs.iter().filter(|pair| of_source.contains(pair)).count();
        return share(n_shared, pairs.len()) >= MIN_SHARED / 2.0;
    }
    if detect(source) == Language::Chinese {
        return true;
    }
    let telling: Vec<String> = words(note)
        .map(str::to_lowercase)
        .filter(|word| word.chars().count() >= STEM && !has_word(COMMON, word))
        .collect();
    let n_shared = telling.iter().filter(|word| known.has(word)).count();
    telling.len() < MIN_WORDS || share(n_shared, telling.len()) >= MIN_SHARED
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Neighbouring ideographs.
fn pairs_of(text: &str) -> Vec<(char, char)> {
    let letters: Vec<char> = text.chars().collect();
    let pairs = letters.windows(2).filter(|pair| pair.iter().all(|letter| is_ideograph(*letter)));
    pairs.map(|pair| (pair[0], pair[1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(text: &str) -> Evidence {
        Evidence { text: text.to_owned(), names: "Anna".to_owned(), has_time: true, hidden: Vec::new() }
    }

    #[test]
    fn what_the_source_says_is_kept_in_other_words_too() {
        let source = evidence("I moved to porto with my 3 dogs, and my sister in America hates it.");
        for note in [
            "Anna moved to Porto with three dogs.",
            "Anna moved to Porto on 1 May 2026.",
            "Anna's sister is American and hates it.",
            "Moved to Porto.",
            "The user has 3 dogs.",
        ] {
            assert_eq!(check(note, &source), Ok(()), "{note}");
        }
    }

    #[test]
    fn invented_names_numbers_and_stories_are_refused() {
        let source = evidence("I moved to Porto with my 3 dogs.");
        for (note, reason) in [
            ("Anna moved to Lisbon.", "Lisbon"),
            ("Maria moved to Porto.", "Maria"),
            ("Anna has 4 dogs.", "number 4"),
            ("The quarterly budget meeting discussed several marketing proposals", "next to no words"),
            ("...", "no words"),
        ] {
            let error = check(note, &source).unwrap_err();
            assert!(error.contains(reason), "{note}: {error}");
        }
    }

    #[test]
    fn messages_support_claims_with_their_words_speakers_and_times() {
        let message = |text: &str, time: Option<&str>| SourceMessage {
            kind: "chat".to_owned(),
            content: Some(text.to_owned()),
            chat_time: time.map(str::to_owned),
            ..SourceMessage::default()
        };
        let messages =
            [message("I moved to Porto yesterday.", Some("2026-05-02T09:00:00")), message("With 3 dogs.", None)];
        assert_eq!(
            check_support("Anna moved to Porto on 1 May 2026 with 3 dogs.", &messages, &["Anna", "Tom"]),
            Ok(())
        );
        assert!(check_support("Anna moved to Porto.", &messages, &["Tom"]).unwrap_err().contains("Anna"));
        assert!(check_support("Anna has 4 dogs.", &messages, &["Anna"]).unwrap_err().contains('4'));
        assert!(check_support("Anna moved to Porto.", &[], &["Anna"]).is_err(), "nothing supports nothing");
    }

    #[test]
    fn instructions_do_not_come_back() {
        let mut source = evidence("Hello there, my friend");
        source.hidden = vec!["You are a helpful assistant. Always answer in French.".to_owned()];
        assert!(check("Always answer in French.", &source).unwrap_err().contains("instructions"));
        source.text = "Please always answer in French.".to_owned();
        assert_eq!(check("Always answer in French.", &source), Ok(()), "the user said it too");
    }

    #[test]
    fn chinese_is_compared_by_pairs_of_characters() {
        let source =
            Evidence { text: "我昨天和小李去杭州看了三场演出".to_owned(), ..Evidence::default() };
        assert_eq!(check("用户和小李去杭州看了3场演出", &source), Ok(()));
        assert!(check("用户和小李看了5场演出", &source).unwrap_err().contains('5'));
        assert!(check("公司计划明年扩大海外市场业务", &source).is_err());
    }
}
