//! Keys and tags: which memories have them, and which keys a question names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mos_core::VectorPoint;
use mos_core::language::is_ideograph;
use serde_json::Value;

/// Tags that begin so tell how a memory was stored, not what it is about.
const MARK: &str = "mode:";
/// The most words of a key that a question can name.
const MAX_KEY_WORDS: usize = 16;
/// The most words of a question among which keys are looked for.
const MAX_QUESTION_WORDS: usize = 512;
/// How many of the tags that are asked for a memory has at least.
const MIN_SHARED_TAGS: usize = 2;
/// Bytes of an entry in a map of labels, about.
const BYTES_OF_A_LABEL: usize = 96;

/// The key and the tags of one memory, in the form in which they are compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Labelled {
    key: Option<Arc<str>>,
    tags: Box<[Arc<str>]>,
}

impl Labelled {
    /// Reads what an index is told of a memory.
    pub(super) fn read(point: &VectorPoint) -> Self {
        let key = point.metadata.get("key").and_then(Value::as_str).map(normal).filter(|key| !key.is_empty());
        let tags = point.metadata.get("tags").and_then(Value::as_array);
        let tags = tags.into_iter().flatten().filter_map(Value::as_str).filter(|tag| !tag.starts_with(MARK));
        Self { key: key.map(Arc::from), tags: different(tags).into_iter().map(Arc::from).collect() }
    }

    /// Bytes it takes, with its places among the memories of each label.
    pub(super) fn n_bytes(&self) -> usize {
        let n_labels = self.tags.len() + usize::from(self.key.is_some());
        n_labels * (size_of::<Arc<str>>() + size_of::<u32>())
    }
}

/// The memories of each key and of each tag of a scope.
#[derive(Debug, Default)]
pub(super) struct Labels {
    keys: HashMap<Arc<str>, BTreeSet<u32>>,
    tags: HashMap<Arc<str>, BTreeSet<u32>>,
    n_bytes: usize,
}

impl Labels {
    /// Notes the labels of a row that has none yet.
    pub(super) fn add(&mut self, row: u32, labelled: &Labelled) {
        if let Some(key) = &labelled.key {
            self.n_bytes += insert(&mut self.keys, key, row);
        }
        for tag in &labelled.tags {
            self.n_bytes += insert(&mut self.tags, tag, row);
        }
    }

    /// Forgets the labels of a row.
    pub(super) fn remove(&mut self, row: u32, labelled: &Labelled) {
        if let Some(key) = &labelled.key {
            self.n_bytes -= remove(&mut self.keys, key, row);
        }
        for tag in &labelled.tags {
            self.n_bytes -= remove(&mut self.tags, tag, row);
        }
    }

    /// Bytes of the labels themselves; see [`Labelled::n_bytes`] for the rest.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Returns the keys that a question names whole, sorted. `says_nothing` tells phrases such as "the other", which every
    /// question may hold.
    pub(super) fn named(&self, question: &str, says_nothing: impl Fn(&str) -> bool) -> Vec<String> {
        if self.keys.is_empty() {
            return Vec::new();
        }
        let mut words = words(question);
        words.truncate(MAX_QUESTION_WORDS);
        let mut named = BTreeSet::new();
        for start in 0..words.len() {
            let mut phrase = String::new();
            for word in words[start..].iter().take(MAX_KEY_WORDS) {
                if !phrase.is_empty() {
                    phrase.push(' ');
                }
                phrase.push_str(word);
                if self.keys.contains_key(phrase.as_str()) && !says_nothing(&phrase) {
                    named.insert(phrase.clone());
                }
            }
        }
        named.into_iter().collect()
    }

    /// Returns the rows that have one of the keys (with 1), or at least two of the tags (with the part of the tags that they
    /// have). The keys of `named` are in the form that [`Labels::named`] gives.
    pub(super) fn shares(&self, named: &[String], keys: &[String], tags: &[String]) -> BTreeMap<u32, f32> {
        let mut shares = BTreeMap::new();
        let tags = different(tags.iter().map(String::as_str));
        if tags.len() >= MIN_SHARED_TAGS {
            let mut n_shared: BTreeMap<u32, usize> = BTreeMap::new();
            for row in tags.iter().filter_map(|tag| self.tags.get(tag.as_str())).flatten() {
                *n_shared.entry(*row).or_default() += 1;
            }
            let enough = n_shared.into_iter().filter(|(_, n)| *n >= MIN_SHARED_TAGS);
            shares.extend(enough.map(|(row, n)| (row, n as f32 / tags.len() as f32)));
        }
        let keys = different(keys.iter().map(String::as_str));
        for row in keys.iter().chain(named).filter_map(|key| self.keys.get(key.as_str())).flatten() {
            shares.insert(*row, 1.0);
        }
        shares
    }
}

/// Returns how many bytes more it takes.
fn insert(rows_of: &mut HashMap<Arc<str>, BTreeSet<u32>>, label: &Arc<str>, row: u32) -> usize {
    if let Some(rows) = rows_of.get_mut(label) {
        rows.insert(row);
        return 0;
    }
    rows_of.insert(Arc::clone(label), BTreeSet::from([row]));
    label.len() + BYTES_OF_A_LABEL
}

/// Returns how many bytes less it takes.
fn remove(rows_of: &mut HashMap<Arc<str>, BTreeSet<u32>>, label: &Arc<str>, row: u32) -> usize {
    let Some(rows) = rows_of.get_mut(label) else { return 0 };
    rows.remove(&row);
    if !rows.is_empty() {
        return 0;
    }
    rows_of.remove(label);
    label.len() + BYTES_OF_A_LABEL
}

/// Different labels in the form in which they are compared, without empty ones.
fn different<'a>(labels: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    labels.map(normal).filter(|label| !label.is_empty()).collect()
}

/// The form in which labels are compared: their words.
fn normal(label: &str) -> String {
    words(label).join(" ")
}

/// Lower-case words without the marks around them; each ideograph is a word of its own.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for part in text.split(is_between_words) {
        let part = part.trim_matches(|mark: char| matches!(mark, '.' | '\'' | '’' | '‘' | '-' | '_')).to_lowercase();
        let part = part.strip_suffix("'s").or_else(|| part.strip_suffix("’s")).unwrap_or(&part);
        let mut word = String::new();
        for letter in part.chars() {
            if !is_ideograph(letter) {
                word.push(letter);
                continue;
            }
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            words.push(letter.to_string());
        }
        if !word.is_empty() {
            words.push(word);
        }
    }
    words
}

fn is_between_words(letter: char) -> bool {
    const MARKS: &str = ",;:!?\"()[]{}<>，。；：！？、“”（）《》【】…";
    letter.is_whitespace() || MARKS.contains(letter)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labelled(metadata: Value) -> Labelled {
        let metadata = metadata.as_object().unwrap().clone();
        let point =
            VectorPoint { id: "a".into(), vector: vec![1.0], memory: Arc::from("x"), metadata: Arc::new(metadata) };
        Labelled::read(&point)
    }

    fn labels(of: &[Value]) -> Labels {
        let mut labels = Labels::default();
        for (row, metadata) in of.iter().enumerate() {
            labels.add(row as u32, &labelled(metadata.clone()));
        }
        labels
    }

    fn named(labels: &Labels, question: &str) -> Vec<String> {
        labels.named(question, |phrase| ["the", "other"].contains(&phrase))
    }

    #[test]
    fn keys_are_named_whole_and_in_any_case() {
        let keys = ["Red Bicycle", "bicycle", "C++", "the", "红色自行车", "Anna"];
        let labels = labels(&keys.map(|key| json!({"key": key})));
        assert_eq!(named(&labels, "Where is the red  bicycle?"), ["bicycle", "red bicycle"]);
        assert_eq!(named(&labels, "Does Anna's “C++” compile?"), ["anna", "c++"]);
        assert_eq!(named(&labels, "我的红色自行车，在哪里？").len(), 1);
        assert!(named(&labels, "bicycles, reddish").is_empty());
        assert!(named(&labels, "").is_empty());
    }

    #[test]
    fn one_key_or_two_tags_are_enough() {
        let labels = labels(&[
            json!({"key": "Trip to Rome"}),
            json!({"tags": ["Food", "travel", "mode:fast"]}),
            json!({"tags": ["food", "mode:fast", "mode:fine"]}),
            json!({"tags": ["FOOD ", "travel", "Italy"], "key": " "}),
            json!({"key": "trip to  rome", "tags": ["food", "travel"]}),
            json!({}),
        ]);
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let shares = labels.shares(&[], &texts(&["trip to rome"]), &texts(&["travel", "food", "food", "italy", "x"]));
        assert_eq!(shares, BTreeMap::from([(0, 1.0), (1, 0.5), (3, 0.75), (4, 1.0)]));
        let modes = labels.shares(&[], &[], &texts(&["mode:fast", "mode:fine"]));
        assert!(modes.is_empty(), "how a memory was stored is nothing that it shares");
        assert!(labels.shares(&[], &texts(&[""]), &texts(&["food"])).is_empty());
    }

    #[test]
    fn what_was_removed_is_forgotten() {
        let of = [json!({"key": "tea", "tags": ["a", "b"]}), json!({"key": "Tea"})];
        let mut labels = labels(&of);
        labels.remove(0, &labelled(of[0].clone()));
        assert_eq!(labels.shares(&["tea".to_owned()], &[], &["a".to_owned(), "b".to_owned()]).len(), 1);
        labels.remove(1, &labelled(of[1].clone()));
        assert!(named(&labels, "tea").is_empty() && labels.n_bytes() == 0);
    }
}
