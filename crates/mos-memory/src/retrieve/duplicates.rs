//! Memories that repeat what a better hit says already.

use std::collections::{HashMap, HashSet};

use mos_core::{Hit, MemoryId};

/// Which hits count as repetitions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Duplicates {
    /// None: every hit is returned.
    Keep,
    /// Those with the same text, but for blanks and case.
    #[default]
    SameText,
    /// Also those whose vectors have at least this cosine similarity with one of a better hit.
    Similar(f32),
    /// None is left out, but the order weighs relevance against what better hits say already: maximal marginal relevance
    /// (Carbonell and Goldstein 1998). 1 is relevance alone, 0 novelty alone.
    MarginalRelevance(f32),
}

impl Duplicates {
    /// Whether [`Duplicates::apply`] looks at vectors.
    pub fn needs_vectors(self) -> bool {
        matches!(self, Self::Similar(_) | Self::MarginalRelevance(_))
    }

    /// Returns at most `limit` of the hits, which come best first. `vectors` are those of the memories, unit length; a
    /// memory without one resembles none.
    pub fn apply(self, hits: Vec<Hit>, vectors: &HashMap<MemoryId, Vec<f32>>, limit: usize) -> Vec<Hit> {
        match self {
            Self::Keep => hits.into_iter().take(limit).collect(),
            Self::SameText => distinct_texts(hits).take(limit).collect(),
            Self::Similar(least) => dissimilar(distinct_texts(hits), vectors, least, limit),
            Self::MarginalRelevance(lambda) => marginal(distinct_texts(hits).collect(), vectors, lambda, limit),
        }
    }
}

fn distinct_texts(hits: Vec<Hit>) -> impl Iterator<Item = Hit> {
    let mut seen: HashSet<String> = HashSet::new();
    hits.into_iter().filter(move |hit| seen.insert(normalised(&hit.item.memory)))
}

fn normalised(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn dissimilar(
    hits: impl Iterator<Item = Hit>,
    vectors: &HashMap<MemoryId, Vec<f32>>,
    least: f32,
    limit: usize,
) -> Vec<Hit> {
    let mut kept: Vec<Hit> = Vec::new();
    for hit in hits {
        if kept.len() == limit {
            break;
        }
        if kept.iter().all(|better| similarity(vectors, &better.item.id, &hit.item.id) < least) {
            kept.push(hit);
        }
    }
    kept
}

/// Scores are brought to `[0, 1]` first, so that they can be weighed against similarities.
fn marginal(hits: Vec<Hit>, vectors: &HashMap<MemoryId, Vec<f32>>, lambda: f32, limit: usize) -> Vec<Hit> {
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for hit in &hits {
        (low, high) = (low.min(hit.score), high.max(hit.score));
    }
    let relevance = |hit: &Hit| if high > low { (hit.score - low) / (high - low) } else { 1.0 };
    let mut rest: Vec<(f32, f32, Hit)> = hits.into_iter().map(|hit| (relevance(&hit), 0.0, hit)).collect();
    let mut chosen: Vec<Hit> = Vec::new();
    while chosen.len() < limit && !rest.is_empty() {
        let mut best = 0;
        for (index, (relevance, nearest, _)) in rest.iter().enumerate().skip(1) {
            let worth = |relevance: f32, nearest: f32| lambda * relevance - (1.0 - lambda) * nearest;
            // The earlier one of equals: hits come best first.
            if worth(*relevance, *nearest) > worth(rest[best].0, rest[best].1) {
                best = index;
            }
        }
        let (_, _, hit) = rest.remove(best);
        for (_, nearest, other) in &mut rest {
            *nearest = nearest.max(similarity(vectors, &hit.item.id, &other.item.id));
        }
        chosen.push(hit);
    }
    chosen
}

fn similarity(vectors: &HashMap<MemoryId, Vec<f32>>, left: &MemoryId, right: &MemoryId) -> f32 {
    match (vectors.get(left), vectors.get(right)) {
        (Some(left), Some(right)) if left.len() == right.len() => left.iter().zip(right).map(|(a, b)| a * b).sum(),
        _ => f32::NEG_INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hit(number: u8, text: &str, score: f32) -> Hit {
        let id = format!("00000000-0000-4000-8000-0000000000{number:02}");
        let item = mos_core::MemoryItem::from_value(json!({"id": id, "memory": text}), String::new).unwrap();
        Hit { item, score, signals: Vec::new() }
    }

    fn texts(hits: &[Hit]) -> Vec<&str> {
        hits.iter().map(|hit| hit.item.memory.as_str()).collect()
    }

    #[test]
    fn the_best_of_equal_texts_stays() {
        let hits = vec![hit(1, "I like tea", 3.0), hit(2, "i  like Tea ", 2.0), hit(3, "coffee", 1.0)];
        let none = HashMap::new();
        assert_eq!(texts(&Duplicates::SameText.apply(hits.clone(), &none, 9)), ["I like tea", "coffee"]);
        assert_eq!(Duplicates::Keep.apply(hits.clone(), &none, 9).len(), 3);
        assert_eq!(Duplicates::SameText.apply(hits, &none, 1).len(), 1);
    }

    #[test]
    fn what_is_alike_is_left_out_or_comes_later() {
        let hits = vec![hit(1, "tea", 1.0), hit(2, "green tea", 0.9), hit(3, "train", 0.2), hit(4, "no vector", 0.0)];
        let vectors: HashMap<MemoryId, Vec<f32>> = [(0, [1.0, 0.0]), (1, [0.99, 0.141]), (2, [0.0, 1.0])]
            .map(|(index, vector): (usize, [f32; 2])| (hits[index].item.id.clone(), vector.to_vec()))
            .into();
        let apply = |how: Duplicates| how.apply(hits.clone(), &vectors, 9);
        assert_eq!(texts(&apply(Duplicates::Similar(0.95))), ["tea", "train", "no vector"]);
        assert_eq!(texts(&apply(Duplicates::Similar(0.999))), ["tea", "green tea", "train", "no vector"]);
        assert_eq!(texts(&apply(Duplicates::MarginalRelevance(1.0))), ["tea", "green tea", "train", "no vector"]);
        let novel = apply(Duplicates::MarginalRelevance(0.5));
        assert_eq!(novel.len(), 4, "nothing is left out");
        let place = |text: &str| novel.iter().position(|hit| hit.item.memory == text);
        assert!(place("train") < place("green tea"), "{:?}", texts(&novel));
    }
}
