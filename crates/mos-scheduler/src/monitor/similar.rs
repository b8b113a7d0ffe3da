//! Which texts say nearly the same, by their words.

use std::collections::{BTreeMap, BTreeSet};

use mos_core::language::is_ideograph;

use super::keywords::{pairs, runs};

/// Texts as vectors of their words: how often each occurs, weighed by how few of the texts it occurs in (TF-IDF with
/// smoothed weights, unit length).
#[derive(Clone, Debug)]
pub struct TfIdf {
    vectors: Vec<BTreeMap<String, f64>>,
}

impl TfIdf {
    /// Returns the vectors of texts, in their order.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let counted: Vec<BTreeMap<String, f64>> = texts.into_iter().map(counts).collect();
        let mut in_texts: BTreeMap<String, f64> = BTreeMap::new();
        for word in counted.iter().flat_map(BTreeMap::keys) {
            *in_texts.entry(word.clone()).or_default() += 1.0;
        }
        #[allow(clippy::cast_precision_loss, reason = "there are fewer texts than a float counts exactly")]
        let n_texts = counted.len() as f64;
        let weight = |word: &str| ((1.0 + n_texts) / (1.0 + in_texts.get(word).copied().unwrap_or(0.0))).ln() + 1.0;
        let weighed = |mut counts: BTreeMap<String, f64>| {
            counts.iter_mut().for_each(|(word, count)| *count *= weight(word));
            unit(counts)
        };
        Self { vectors: counted.into_iter().map(weighed).collect() }
    }

    /// Returns the cosine of two of the texts, from 0 to 1; 0 for texts without words.
    ///
    /// # Panics
    /// When there are not so many texts.
    pub fn cosine(&self, one: usize, other: usize) -> f64 {
        let (one, other) = (&self.vectors[one], &self.vectors[other]);
        one.iter().filter_map(|(word, weight)| Some(weight * other.get(word)?)).sum()
    }
}

/// How often each word occurs; of Chinese text the words are pairs of characters.
fn counts(text: &str) -> BTreeMap<String, f64> {
    let mut counts: BTreeMap<String, f64> = BTreeMap::new();
    for run in runs(&text.to_lowercase()) {
        let is_chinese = run.chars().next().is_some_and(is_ideograph);
        let words = if is_chinese && run.chars().count() > 1 { pairs(&run) } else { vec![run] };
        for word in words {
            *counts.entry(word).or_default() += 1.0;
        }
    }
    counts
}

fn unit(mut vector: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let length = vector.values().map(|weight| weight * weight).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.values_mut().for_each(|weight| *weight /= length);
    }
    vector
}

/// Whether texts are the same but for blanks and case.
pub fn is_same_text(one: &str, other: &str) -> bool {
    let words = |text: &str| text.to_lowercase().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    words(one) == words(other)
}

/// Returns the places of texts that say something new, in their order: not of those that are the same as one before them, or
/// whose cosine with one before them is at least `threshold`.
pub(crate) fn distinct(texts: &[&str], threshold: f64) -> Vec<usize> {
    let vectors = TfIdf::new(texts.iter().copied());
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    for (place, text) in texts.iter().enumerate() {
        let is_known =
            kept.iter().any(|known| is_same_text(texts[*known], text) || vectors.cosine(*known, place) >= threshold);
        if !is_known {
            kept.insert(place);
        }
    }
    kept.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_texts_that_say_the_same_stays() {
        let texts = [
            "the dog Max likes salmon treats very much",
            "The  dog max likes salmon treats very much",
            "the dog Max likes salmon treats very very much",
            "the cat sleeps on the sofa",
            "小狗麦克斯喜欢三文鱼零食",
            "小狗麦克斯喜欢三文鱼零食。",
            "!!! ???",
        ];
        assert_eq!(distinct(&texts, 0.75), [0, 3, 4, 6]);
        assert_eq!(distinct(&texts[..2], 2.0), [0], "the same text is a repetition at any threshold");
        assert!(distinct(&[], 0.75).is_empty());
    }

    #[test]
    fn cosines_are_from_nought_to_one() {
        let vectors = TfIdf::new(["salmon for dogs", "salmon for dogs", "chess in Oslo", ""]);
        assert!((vectors.cosine(0, 1) - 1.0).abs() < 1e-12);
        assert!(vectors.cosine(0, 2).abs() < 1e-12 && vectors.cosine(0, 3).abs() < 1e-12);
    }
}
