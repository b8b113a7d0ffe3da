//! Whether two memories say the same in the same words, without a model.

use jiff::civil::date;
use mos_core::{Analyzer, MemoryItem};

use super::facts::{InTime, speaker};
use crate::time::expressions;

/// Words that change what a sentence says although searches leave them out.
const DECISIVE: &[&str] = &[
    "i", "me", "my", "we", "us", "our", "you", "your", "he", "him", "his", "she", "her", "it", "its", "they", "them",
    "their", "not", "no", "never", "none", "nobody", "nothing", "without", "neither", "nor", "cannot", "who", "whom",
    "before", "after", "more", "less", "all", "some", "few", "if", "unless", "until", "over", "under", "above",
    "below", "off", "up", "down", "in", "out", "to", "from",
];

/// Signs that do the same in Chinese.
const DECISIVE_SIGNS: &[char] = &['不', '没', '无', '别', '非', '未', '我', '你', '他', '她', '它'];

/// Whether the newer of two memories of one user adds nothing: same speaker, same terms in the same order, same small words that decide
/// what is said. Events that are told with a time ("I ran today") are different ones when their times differ.
pub(super) fn is_repeated(pair: &InTime, analyzer: &dyn Analyzer) -> bool {
    let (older, newer) = (&pair.older, &pair.newer);
    let terms = analyzer.terms(&older.memory);
    !terms.is_empty()
        && speaker(older) == speaker(newer)
        && terms == analyzer.terms(&newer.memory)
        && decisive(&older.memory) == decisive(&newer.memory)
        && !(pair.differs && tells_time(older))
}

fn decisive(text: &str) -> Vec<String> {
    let lower = text.to_lowercase().replace('’', "'");
    let words = lower.split(|c: char| !(c.is_alphanumeric() || c == '\''));
    let mut found: Vec<String> =
        words.filter(|word| DECISIVE.contains(word) || word.ends_with("n't")).map(str::to_owned).collect();
    found.extend(lower.chars().filter(|sign| DECISIVE_SIGNS.contains(sign)).map(String::from));
    found
}

/// Whether a memory names a time. Against which day it is read makes no difference to that.
fn tells_time(item: &MemoryItem) -> bool {
    !expressions(&item.memory, date(2026, 1, 1)).is_empty()
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryId;
    use mos_stores::TextAnalyzer;
    use serde_json::{Value, json};

    use super::super::facts::in_time;
    use super::*;

    fn item(number: u32, memory: &str, metadata: Value) -> MemoryItem {
        let id = MemoryId::new(format!("00000000-0000-4000-8000-{number:012}"));
        MemoryItem::from_value(json!({"id": id, "memory": memory, "metadata": metadata}), String::new).unwrap()
    }

    fn repeats(left: &str, right: &str) -> bool {
        let at =
            |day: u32| json!({"memory_type": "LongTermMemory", "created_at": format!("2026-01-{day:02}T00:00:00Z")});
        is_repeated(&in_time(item(1, left, at(1)), item(2, right, at(2))), &TextAnalyzer::new())
    }

    #[test]
    fn the_same_words_say_the_same() {
        assert!(repeats("I love green tea.", "I love green tea"));
        assert!(repeats("My dog is called Max", "my dog's called Max!"));
        assert!(repeats("我喜欢喝茶", "我喜欢喝茶。"));
    }

    #[test]
    fn small_words_names_and_times_make_a_difference() {
        for (left, right) in [
            ("I like tea", "I do not like tea"),
            ("I like tea", "I don't like tea"),
            ("He told me", "I told him"),
            ("the dog bit the man", "the man bit the dog"),
            ("I ran five miles", "I ran six miles"),
            ("I ran five miles today", "I ran five miles today"),
            ("I took the train to Rome", "I took the train from Rome"),
            ("我喜欢喝茶", "我不喜欢喝茶"),
            ("the", "a"),
        ] {
            assert!(!repeats(left, right), "{left} / {right}");
        }
    }

    #[test]
    fn another_person_says_something_else() {
        let by = |name: &str| json!({"memory_type": "LongTermMemory", "info": {"name": name}});
        let pair = in_time(item(1, "I love tea", by("Ann")), item(2, "I love tea", by("Bob")));
        assert!(!is_repeated(&pair, &TextAnalyzer::new()));
    }
}
