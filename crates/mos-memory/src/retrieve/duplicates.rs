//! Memories that repeat what a better hit says already.
//!
//! A message that was stored word for word, and what a model drew from it alone, share one place: the better one stays. What
//! was drawn from several messages gives up its place when each of them stands before it. Nothing of the evidence is lost by
//! that: what was drawn holds the words of its sources.

use std::collections::{HashMap, HashSet};

use mos_core::memory::SourceMessage;
use mos_core::{Duplicates, Hit, MemoryId, MemoryItem, MemoryType};

/// Returns the places of the hits that are no repetitions of better ones, in the order chosen; `hits` come best first. At most
/// `limit` of them. `vectors` are those of the memories, unit length; a memory without one resembles none.
pub(crate) fn kept(how: Duplicates, hits: &[&Hit], vectors: &HashMap<MemoryId, Vec<f32>>, limit: usize) -> Vec<usize> {
    match how {
        Duplicates::Keep => (0..hits.len().min(limit)).collect(),
        Duplicates::SameText => distinct_texts(hits).take(limit).collect(),
        Duplicates::Similar(least) => dissimilar(hits, vectors, least, limit),
        Duplicates::MarginalRelevance(lambda) => marginal(hits, vectors, lambda, limit),
    }
}

/// How many of the hits, which come best first, are left when those of the same text, and those that messages among them
/// tell, are left out.
pub(crate) fn n_distinct<'a>(hits: impl Iterator<Item = &'a Hit>) -> usize {
    let hits: Vec<&Hit> = hits.collect();
    distinct_texts(&hits).count()
}

fn distinct_texts<'a>(hits: &'a [&'a Hit]) -> impl Iterator<Item = usize> + 'a {
    let mut seen: HashSet<String> = HashSet::new();
    let mut messages: HashSet<MessageName<'a>> = HashSet::new();
    let mut drawn_alone: HashSet<MessageName<'a>> = HashSet::new();
    (0..hits.len()).filter(move |&place| {
        let item: &'a MemoryItem = &hits[place].item;
        let is_new = seen.insert(normalised(&item.memory));
        if let Some(name) = message(item) {
            messages.insert(name);
            return is_new && !drawn_alone.contains(&name);
        }
        let stays = is_new && !is_told(item, &messages);
        drawn_alone.extend(only_source(item).filter(|_| stays));
        stays
    })
}

/// A message of a conversation: whose it is, the conversation, and its id there.
type MessageName<'a> = (Option<&'a str>, Option<&'a str>, &'a str);

fn named<'a>(item: &'a MemoryItem, id: &'a str) -> MessageName<'a> {
    (item.metadata.user_id.as_deref(), item.metadata.session_id.as_deref(), id)
}

/// The message that a memory is, word for word.
fn message(item: &MemoryItem) -> Option<MessageName<'_>> {
    let id = item.metadata.info.as_ref()?.get("message_id")?.as_str()?;
    Some(named(item, id))
}

/// The sources of a fact that a model drew from words; none of any other memory. What was learned from the use of tools, and what
/// pictures show, is in no message.
fn sources_of_fact(item: &MemoryItem) -> &[SourceMessage] {
    let Some(fields) = item.metadata.tree().filter(|_| message(item).is_none()) else { return &[] };
    let is_fact = matches!(fields.memory_type, MemoryType::User | MemoryType::LongTerm);
    fields.sources.as_deref().filter(|_| is_fact).unwrap_or_default()
}

fn source_name<'a>(item: &'a MemoryItem, source: &'a SourceMessage) -> Option<MessageName<'a>> {
    let id = source.message_id.as_deref().filter(|_| source.kind == "chat")?;
    Some(named(item, id))
}

/// Whether a memory is a fact that was drawn from words of some messages alone.
fn is_told(item: &MemoryItem, messages: &HashSet<MessageName<'_>>) -> bool {
    let sources = sources_of_fact(item);
    let is_known = |source| source_name(item, source).is_some_and(|name| messages.contains(&name));
    !sources.is_empty() && sources.iter().all(is_known)
}

/// The message that a fact was drawn from, when it is one alone and the fact holds its words.
fn only_source(item: &MemoryItem) -> Option<MessageName<'_>> {
    match sources_of_fact(item) {
        [source] if source.content.as_deref().is_some_and(|words| !words.trim().is_empty()) => {
            source_name(item, source)
        }
        _ => None,
    }
}

fn normalised(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn dissimilar(hits: &[&Hit], vectors: &HashMap<MemoryId, Vec<f32>>, least: f32, limit: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for place in distinct_texts(hits) {
        if kept.len() == limit {
            break;
        }
        let repeats = |&better: &usize| similarity(vectors, &hits[better].item.id, &hits[place].item.id) >= least;
        if !kept.iter().any(repeats) {
            kept.push(place);
        }
    }
    kept
}

/// Relativities and similarities are both from 0 to 1, so that they can be weighed.
fn marginal(hits: &[&Hit], vectors: &HashMap<MemoryId, Vec<f32>>, lambda: f32, limit: usize) -> Vec<usize> {
    let mut rest: Vec<(usize, f32)> = distinct_texts(hits).map(|place| (place, 0.0)).collect();
    let mut chosen: Vec<usize> = Vec::new();
    let worth = |(place, nearest): (usize, f32)| lambda * hits[place].relativity - (1.0 - lambda) * nearest;
    while chosen.len() < limit && !rest.is_empty() {
        let mut best = 0;
        for (index, one) in rest.iter().enumerate().skip(1) {
            // The earlier one of equals: hits come best first.
            if worth(*one) > worth(rest[best]) {
                best = index;
            }
        }
        let (place, _) = rest.remove(best);
        for (other, nearest) in &mut rest {
            *nearest = nearest.max(similarity(vectors, &hits[place].item.id, &hits[*other].item.id));
        }
        chosen.push(place);
    }
    chosen
}

fn similarity(vectors: &HashMap<MemoryId, Vec<f32>>, left: &MemoryId, right: &MemoryId) -> f32 {
    match (vectors.get(left), vectors.get(right)) {
        (Some(left), Some(right)) if left.len() == right.len() => dot(left, right),
        _ => f32::NEG_INFINITY,
    }
}

/// The dot product. A search that weighs hits against each other makes hundreds: eight sums at a time wait for none before.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<8>(), right.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (left, right) in left.iter().zip(right) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += left * right;
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hit(number: u8, text: &str, score: f32) -> Hit {
        let id = format!("00000000-0000-4000-8000-0000000000{number:02}");
        let item = mos_core::MemoryItem::from_value(json!({"id": id, "memory": text}), String::new).unwrap();
        Hit::new(item, score, score.min(1.0), Vec::new())
    }

    fn texts<'a>(
        how: Duplicates,
        hits: &'a [Hit],
        vectors: &HashMap<MemoryId, Vec<f32>>,
        limit: usize,
    ) -> Vec<&'a str> {
        let borrowed: Vec<&Hit> = hits.iter().collect();
        kept(how, &borrowed, vectors, limit).into_iter().map(|place| hits[place].item.memory.as_str()).collect()
    }

    #[test]
    fn the_best_of_equal_texts_stays() {
        let hits = vec![hit(1, "I like tea", 3.0), hit(2, "i  like Tea ", 2.0), hit(3, "coffee", 1.0)];
        let none = HashMap::new();
        assert_eq!(texts(Duplicates::SameText, &hits, &none, 9), ["I like tea", "coffee"]);
        assert_eq!(texts(Duplicates::Keep, &hits, &none, 9).len(), 3);
        assert_eq!(texts(Duplicates::SameText, &hits, &none, 1).len(), 1);
        assert_eq!(n_distinct(hits.iter()), 2);
    }

    #[test]
    fn a_message_and_what_was_drawn_from_it_share_a_place() {
        let stored = |number: u8, text: &str, session: &str, more: serde_json::Value| {
            let mut metadata = json!({"user_id": "u", "session_id": session});
            metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let id = format!("00000000-0000-4000-8000-0000000000{number:02}");
            let value = json!({"id": id, "memory": text, "metadata": metadata});
            Hit::new(mos_core::MemoryItem::from_value(value, String::new).unwrap(), 1.0, 1.0, Vec::new())
        };
        let said = |number: u8, text: &str, id: &str| stored(number, text, "s", json!({"info": {"message_id": id}}));
        let source = |id: &str| json!({"type": "chat", "role": "user", "message_id": id});
        let with_words =
            |id: &str| json!({"type": "chat", "role": "user", "message_id": id, "content": "my cat sleeps"});
        let drawn = |number: u8, text: &str, session: &str, ids: &[&str]| {
            let sources: Vec<serde_json::Value> = ids.iter().map(|id| source(id)).collect();
            stored(number, text, session, json!({"memory_type": "UserMemory", "sources": sources}))
        };
        let hits = vec![
            said(1, "I moved yesterday", "m1"),
            drawn(2, "Anna moved", "s", &["m1"]),
            drawn(3, "Anna moved with dogs", "s", &["m1", "m2"]),
            said(4, "I have dogs", "m2"),
            drawn(5, "Anna has dogs", "s", &["m2", "m1"]),
            drawn(6, "Tom moved", "other", &["m1"]),
            drawn(7, "nobody knows where from", "s", &[]),
            stored(8, "ask first", "s", json!({"memory_type": "SkillMemory", "sources": [source("m1")]})),
            stored(9, "Anna has a cat", "s", json!({"memory_type": "UserMemory", "sources": [with_words("m3")]})),
            said(10, "my cat sleeps", "m3"),
            drawn(11, "Anna sings", "s", &["m4"]),
            said(12, "I sing", "m4"),
        ];
        let none = HashMap::new();
        let expected = [
            "I moved yesterday",
            "Anna moved with dogs",
            "I have dogs",
            "Tom moved",
            "nobody knows where from",
            "ask first",
            "Anna has a cat",
            // What was drawn lacks its words: the message stays.
            "Anna sings",
            "I sing",
        ];
        assert_eq!(texts(Duplicates::SameText, &hits, &none, 12), expected);
        assert_eq!(n_distinct(hits.iter()), 9);
        assert_eq!(texts(Duplicates::Keep, &hits, &none, 12).len(), 12);
    }

    #[test]
    fn dot_products_are_those_of_all_numbers() {
        for length in [0_u8, 1, 7, 8, 9, 16, 100] {
            let left: Vec<f32> = (0..length).map(f32::from).collect();
            let right: Vec<f32> = (0..length).map(|number| f32::from(number % 5)).collect();
            let expected: u32 = (0..length).map(|number| u32::from(number) * u32::from(number % 5)).sum();
            // Whole numbers, which are exact in any order.
            assert_eq!(dot(&left, &right), expected as f32, "{length}");
        }
    }

    #[test]
    fn what_is_alike_is_left_out_or_comes_later() {
        let hits = vec![hit(1, "tea", 1.0), hit(2, "green tea", 0.9), hit(3, "train", 0.2), hit(4, "no vector", 0.0)];
        let vectors: HashMap<MemoryId, Vec<f32>> = [(0, [1.0, 0.0]), (1, [0.99, 0.141]), (2, [0.0, 1.0])]
            .map(|(index, vector): (usize, [f32; 2])| (hits[index].item.id.clone(), vector.to_vec()))
            .into();
        let apply = |how: Duplicates| texts(how, &hits, &vectors, 9);
        assert_eq!(apply(Duplicates::Similar(0.95)), ["tea", "train", "no vector"]);
        assert_eq!(apply(Duplicates::Similar(0.999)), ["tea", "green tea", "train", "no vector"]);
        assert_eq!(apply(Duplicates::MarginalRelevance(1.0)), ["tea", "green tea", "train", "no vector"]);
        let novel = apply(Duplicates::MarginalRelevance(0.5));
        assert_eq!(novel.len(), 4, "nothing is left out");
        let place = |text: &str| novel.iter().position(|found| *found == text);
        assert!(place("train") < place("green tea"), "{novel:?}");
        assert_eq!(
            texts(Duplicates::MarginalRelevance(0.5), &hits, &vectors, 2),
            ["tea", "train"],
            "the choice differs"
        );
    }
}
