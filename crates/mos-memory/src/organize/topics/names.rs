//! What a group of memories is about, told by its words, without a model.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mos_core::language::{Language, detect};
use mos_core::{Analyzer, MemoryItem};

use super::super::facts::begin_text;
use super::Heading;

/// How many terms name a topic.
const N_NAMES: usize = 3;

/// How many terms become its tags.
const N_TAGS: usize = 5;

/// The longest word that names a topic, in bytes; what is longer is no word.
const MAX_WORD: usize = 60;

/// How long the list of what is in a topic gets, in characters.
const MAX_LIST: usize = 2_000;

/// How much of one memory the list shows, in characters.
const MAX_LINE: usize = 160;

/// In how many memories of a cube each term stands.
#[derive(Debug, Default)]
pub(super) struct Frequencies {
    n_memories: usize,
    with_term: HashMap<String, usize>,
}

impl Frequencies {
    pub(super) fn of<'a>(items: impl IntoIterator<Item = &'a MemoryItem>, analyzer: &dyn Analyzer) -> Self {
        let mut frequencies = Self::default();
        for item in items {
            frequencies.n_memories += 1;
            for term in analyzer.terms(&item.memory).into_iter().collect::<BTreeSet<String>>() {
                *frequencies.with_term.entry(term).or_default() += 1;
            }
        }
        frequencies
    }

    /// How much a term tells: more the fewer memories have it.
    fn rarity(&self, term: &str) -> f64 {
        let with_term = self.with_term.get(term).copied().unwrap_or_default();
        ((1 + self.n_memories) as f64 / (1 + with_term) as f64).ln()
    }
}

/// Names a group by the terms that many of its memories have and few others, and lists what is in it.
pub(super) fn heading(items: &[&MemoryItem], frequencies: &Frequencies, analyzer: &dyn Analyzer) -> Heading {
    let terms = telling_terms(items, frequencies, analyzer);
    let names: Vec<&str> = terms.iter().take(N_NAMES).map(String::as_str).collect();
    let all: String = items.iter().take(20).map(|item| item.memory.as_str()).collect::<Vec<_>>().join(" ");
    let language = detect(&all);
    let key = match (language, names.is_empty()) {
        (Language::English, false) => names.join(", "),
        (Language::Chinese, false) => names.join("、"),
        (_, true) => items.first().map_or_else(String::new, |item| shortened(&item.memory, 40)),
    };
    let n_items = items.len();
    let list = listed(items, language);
    let (value, summary) = match language {
        Language::English => (
            format!("{n_items} memories about {key}: {list}"),
            format!("{n_items} memories about {key}{}", span(items, " from ", " to ")),
        ),
        Language::Chinese => (
            format!("关于{key}的{n_items}条记忆：{list}"),
            format!("关于{key}的{n_items}条记忆{}", span(items, "，从", "到")),
        ),
    };
    Heading { key, value, tags: terms, summary }
}

/// Names a group of topics by the topics in it.
pub(super) fn heading_of_topics(topics: &[&MemoryItem]) -> Heading {
    let keys: Vec<&str> = topics.iter().filter_map(|topic| topic.metadata.key.as_deref()).collect();
    let language = detect(&keys.concat());
    let key: String = keys.join(if language == Language::Chinese { "；" } else { "; " }).chars().take(200).collect();
    let n_topics = topics.len();
    let value = match language {
        Language::English => format!("{n_topics} topics: {key}"),
        Language::Chinese => format!("{n_topics}个主题：{key}"),
    };
    let mut tags: Vec<String> = Vec::new();
    for tag in topics.iter().filter_map(|topic| topic.metadata.tags.as_ref()?.first()) {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    Heading { key, summary: value.clone(), value, tags }
}

/// The terms that tell most about a group, as its memories write them, best first.
fn telling_terms(items: &[&MemoryItem], frequencies: &Frequencies, analyzer: &dyn Analyzer) -> Vec<String> {
    let mut in_group: BTreeMap<String, usize> = BTreeMap::new();
    for item in items {
        for term in analyzer.terms(&item.memory).into_iter().collect::<BTreeSet<String>>() {
            *in_group.entry(term).or_default() += 1;
        }
    }
    let least = if items.len() > 1 { 2 } else { 1 };
    let mut scored: Vec<(f64, String)> = in_group
        .into_iter()
        .filter(|(term, count)| *count >= least && term.len() <= MAX_WORD && term.chars().any(char::is_alphabetic))
        .map(|(term, count)| (count as f64 / items.len() as f64 * frequencies.rarity(&term), term))
        .collect();
    scored.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    let terms: Vec<String> = scored.into_iter().take(N_TAGS).map(|(_, term)| term).collect();
    written(&terms, items, analyzer)
}

/// Terms are stems: returns for each the word that is written most often.
fn written(terms: &[String], items: &[&MemoryItem], analyzer: &dyn Analyzer) -> Vec<String> {
    let mut forms: HashMap<&str, BTreeMap<String, usize>> = HashMap::new();
    for item in items {
        let text = item.memory.to_lowercase();
        for word in text
            .split(|c: char| !(c.is_alphanumeric() || c == '\''))
            .filter(|word| (1..=MAX_WORD).contains(&word.len()))
        {
            let mut of_word = analyzer.terms(word);
            let (Some(term), true) = (of_word.pop(), of_word.is_empty()) else { continue };
            if let Some(term) = terms.iter().find(|known| **known == term) {
                let word = word.strip_suffix("'s").unwrap_or(word).to_owned();
                *forms.entry(term).or_default().entry(word).or_default() += 1;
            }
        }
    }
    let best = |term: &String| {
        let forms = forms.get(term.as_str())?;
        forms
            .iter()
            .max_by(|left, right| left.1.cmp(right.1).then_with(|| right.0.cmp(left.0)))
            .map(|(word, _)| word.clone())
    };
    terms.iter().map(|term| best(term).unwrap_or_else(|| term.clone())).collect()
}

fn listed(items: &[&MemoryItem], language: Language) -> String {
    let separator = if language == Language::Chinese { "；" } else { "; " };
    let mut list = String::new();
    for item in items {
        let line = shortened(&item.memory, MAX_LINE);
        if list.chars().count() + line.chars().count() > MAX_LIST {
            list.push('…');
            break;
        }
        if !list.is_empty() {
            list.push_str(separator);
        }
        list.push_str(&line);
    }
    list
}

/// The first characters of a text, on one line.
fn shortened(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= limit {
        return line.trim_end_matches(['.', '。', ';', '；']).to_owned();
    }
    let mut short: String = line.chars().take(limit).collect();
    short.push('…');
    short
}

/// The days of the first and the last memory.
fn span(items: &[&MemoryItem], from: &str, to: &str) -> String {
    let mut days: Vec<String> =
        items.iter().filter_map(|item| begin_text(item)).filter_map(|text| Some(text.get(..10)?.to_owned())).collect();
    days.sort();
    match (days.first(), days.last()) {
        (Some(first), Some(last)) if first != last => format!("{from}{first}{to}{last}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryId;
    use mos_stores::TextAnalyzer;

    use super::*;

    fn items(texts: &[&str]) -> Vec<MemoryItem> {
        texts.iter().enumerate().map(|(at, text)| MemoryItem::new(MemoryId::new(format!("{at}")), *text)).collect()
    }

    #[test]
    fn a_group_is_named_by_words_that_others_do_not_have_as_they_are_written() {
        let (analyzer, dogs) = (
            TextAnalyzer::new(),
            items(&[
                "My puppies chased the ball yesterday",
                "The puppies had a checkup",
                "I bought food for the puppies",
                "I walked the puppies yesterday",
            ]),
        );
        let others = items(&["I cooked soup yesterday", "I baked bread yesterday", "I fried fish yesterday"]);
        let frequencies = Frequencies::of(dogs.iter().chain(&others), &analyzer);
        let heading = heading(&dogs.iter().collect::<Vec<_>>(), &frequencies, &analyzer);
        assert!(heading.key.starts_with("puppies"), "{}", heading.key);
        assert!(heading.value.starts_with("4 memories about puppies"), "{}", heading.value);
        assert!(heading.value.contains("The puppies had a checkup") && heading.tags.contains(&"puppies".to_owned()));
    }

    #[test]
    fn chinese_groups_are_named_in_chinese() {
        let (analyzer, dogs) =
            (TextAnalyzer::new(), items(&["小狗喜欢跑步", "小狗去看医生", "给小狗买了食物", "小狗睡着了"]));
        let frequencies = Frequencies::of(&dogs, &analyzer);
        let heading = heading(&dogs.iter().collect::<Vec<_>>(), &frequencies, &analyzer);
        assert!(heading.value.starts_with("关于") && heading.key.contains("小狗"), "{heading:?}");
    }

    #[test]
    fn long_and_empty_texts_are_no_trouble() {
        let analyzer = TextAnalyzer::new();
        let long = items(&["word ".repeat(5_000).as_str(), "!?", &"x".repeat(5_000)]);
        let many: Vec<&MemoryItem> = long.iter().cycle().take(300).collect();
        let heading = heading(&many, &Frequencies::of(many.iter().copied(), &analyzer), &analyzer);
        assert!(heading.value.chars().count() < MAX_LIST + 400, "{}", heading.value.chars().count());
    }
}
