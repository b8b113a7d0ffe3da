//! What a question asks for: whom it is about, which days it names, whether it asks for a time.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use mos_core::MemoryType;
use mos_core::language::is_ideograph;
use regex::Regex;

use super::dates;
use super::forms::Terms;
use super::names::{Mention, Speakers};
use crate::time::Days;

/// Words between two names that make them one subject.
const AND: [&str; 12] = ["and", "or", "&", ",", "和", "与", "跟", "同", "或", "还是", "、", "及"];

static ASKS_WHEN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^\s*(?:when|how long|what (?:year|month|day|date|time)|which (?:year|month|day)|since when|in what (?:year|month)|in which)\b|什么时候|什么时间|何时|哪一?年|哪个?月|哪一?天|几号|几月|几点|多久|多长时间",
    )
    .ok()
});

/// A question, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The question for the encoder: names of speakers are "they" and "their", because vectors of names pull more than what
    /// was asked.
    pub neutral: String,
    /// The question without names of speakers.
    pub(super) nameless: String,
    /// Its terms, without those of names.
    pub(super) terms: Vec<String>,
    /// The speaker that it is about.
    pub(super) speaker: Option<Arc<str>>,
    /// Days that it names.
    pub(super) days: Vec<Days>,
    /// Whether it asks for a time.
    pub(super) asks_when: bool,
    /// Keys that it names, in the form in which labels are compared.
    pub(super) keys: Vec<String>,
    /// The kinds of memories that there are.
    pub(super) kinds: BTreeSet<MemoryType>,
    /// What was known of the scope when it was read.
    pub(super) read_at: ReadAt,
}

/// What was known of a scope when a question was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReadAt {
    /// Number of the last change.
    pub(super) sequence: u64,
    /// Whether there may be edges.
    pub(super) may_have_edges: bool,
}

impl Question {
    /// Reads a question about what `speakers` said on the days of `span`, without the keys that it names and the kinds of
    /// memories.
    pub(super) fn read(text: &str, speakers: &Speakers, span: Option<Days>, terms: &Terms) -> Self {
        let mentions = speakers.mentions(text, |word| terms.is_empty_word(word));
        let (neutral, nameless) = rewrite(text, &mentions);
        Self {
            neutral,
            terms: terms.of(&nameless),
            nameless,
            speaker: subject(text, &mentions),
            days: dates::asked(text, span),
            asks_when: asks_when(text),
            keys: Vec::new(),
            kinds: BTreeSet::new(),
            read_at: ReadAt::default(),
        }
    }

    /// Whether there were memories of a kind when it was read. Searches for it need not see what was written later.
    pub(crate) fn may_find(&self, kind: MemoryType) -> bool {
        self.kinds.contains(&kind)
    }
}

fn asks_when(text: &str) -> bool {
    let lower = text.to_lowercase();
    // The pattern is a constant: a test uses it.
    ASKS_WHEN.as_ref().is_some_and(|pattern| pattern.is_match(&lower))
}

/// The one whom the question is about: the only one that it names, or the first of several that are not named together.
fn subject(text: &str, mentions: &[Mention]) -> Option<Arc<str>> {
    let first = mentions.first()?;
    let are_together = mentions.windows(2).any(|pair| {
        let between = text[pair[0].at.end..pair[1].at.start].to_lowercase().replace('’', "'");
        let between = between.strip_prefix("'s").unwrap_or(&between);
        pair[0].speakers != pair[1].speakers && AND.contains(&between.trim())
    });
    if are_together || first.speakers.len() != 1 {
        return None;
    }
    first.speakers.iter().next().cloned()
}

/// Returns the text with "they" for names, and the text without names.
fn rewrite(text: &str, mentions: &[Mention]) -> (String, String) {
    let (mut neutral, mut nameless) = (String::new(), String::new());
    let mut end = 0;
    for mention in mentions {
        let before = &text[end..mention.at.start];
        neutral.push_str(without_article(before, &mention.speakers));
        nameless.push_str(before);
        nameless.push(' ');
        let rest = &text[mention.at.end..];
        let possessive = possessive(rest);
        let is_chinese = text[mention.at.clone()].contains(is_ideograph);
        neutral.push_str(match (is_chinese, possessive) {
            (true, _) => "他",
            (false, 0) => "they",
            (false, _) => "their",
        });
        end = mention.at.end + possessive;
    }
    neutral.push_str(&text[end..]);
    nameless.push_str(&text[end..]);
    (neutral, nameless)
}

/// "The user" becomes "they", not "the they".
fn without_article<'a>(before: &'a str, speakers: &BTreeSet<Arc<str>>) -> &'a str {
    if !speakers.iter().any(|name| matches!(&**name, "user" | "assistant")) {
        return before;
    }
    let Some(start) = before.len().checked_sub(4).filter(|start| before.is_char_boundary(*start)) else {
        return before;
    };
    let is_word = before[..start].chars().next_back().is_none_or(|letter| !letter.is_alphanumeric());
    if is_word && before[start..].eq_ignore_ascii_case("the ") { &before[..start] } else { before }
}

/// How many bytes of "'s" a text begins with.
fn possessive(rest: &str) -> usize {
    let of = |ending: &str| {
        let after = rest.strip_prefix(ending)?;
        after.chars().next().is_none_or(|letter| !letter.is_alphanumeric()).then_some(ending.len())
    };
    of("'s").or_else(|| of("’s")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use mos_stores::TextAnalyzer;

    use super::*;

    fn read(text: &str) -> Question {
        let mut speakers = Speakers::default();
        for name in ["Anna", "Tom", "user", "小明"] {
            speakers.add(&Arc::from(name));
        }
        let span = Days::new(date(2023, 1, 1), date(2023, 5, 10));
        Question::read(text, &speakers, span, &Terms::new(Arc::new(TextAnalyzer::new())))
    }

    #[test]
    fn names_are_neutral_for_the_encoder_and_no_terms() {
        let question = read("When did Anna's brother see Tom?");
        assert_eq!(question.neutral, "When did their brother see they?");
        assert_eq!(question.terms, ["brother", "see"]);
        assert_eq!(read("what did the user buy").neutral, "what did they buy");
        assert_eq!(read("Anna’s dog").neutral, "their dog");
        assert_eq!(read("小明的狗叫什么").neutral, "他的狗叫什么");
        assert_eq!(read("nobody here").neutral, "nobody here");
    }

    #[test]
    fn the_one_who_is_named_is_meant() {
        let speaker = |text: &str| read(text).speaker.map(|name| name.to_string());
        assert_eq!(speaker("what did anna buy").as_deref(), Some("Anna"));
        assert_eq!(speaker("what did Tom buy for Anna").as_deref(), Some("Tom"), "the first is the subject");
        assert_eq!(speaker("what do Anna and Tom like"), None);
        assert_eq!(speaker("what do Anna's and Tom's dogs like"), None);
        assert_eq!(speaker("小明和Tom喜欢什么"), None);
        assert_eq!(speaker("小明喜欢什么").as_deref(), Some("小明"));
        assert_eq!(speaker("who came").as_deref(), None);
    }

    #[test]
    fn questions_for_a_time_are_known() {
        for text in
            ["When did it rain?", " how long did it take", "What year was it?", "他什么时候去的北京", "他哪年去的"]
        {
            assert!(read(text).asks_when, "{text}");
        }
        for text in ["Who came when it rained?", "whenever", "what happened", "他去了哪里"] {
            assert!(!read(text).asks_when, "{text}");
        }
    }

    #[test]
    fn days_are_those_of_the_memories() {
        assert_eq!(read("what happened on 8 May 2023").days, [Days::one(date(2023, 5, 8))]);
        assert_eq!(read("what happened in May").days.len(), 4);
    }
}
