//! Order by the similarity of embeddings.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{Embedder, ModelError, Ranked, RerankCandidate, RerankQuery, Reranker};

/// Orders by the cosine of the embeddings of question and memory, times the weight of the memory's level.
///
/// A question without an embedding is embedded, as a question. Candidates without a usable one (none, another length than
/// the question's, no direction) are embedded, in one call. Without an encoder they keep the place that recall gave them, and the others are ordered around them.
///
/// Levels are the word for a memory's shelf (`UserMemory`) and the producer's word for its kind (`topic`, `fact`); the
/// weights of both are multiplied, what has none weighs 1. A weight changes positive similarities only: it must not
/// make a memory that says the opposite better or worse.
#[derive(Debug)]
pub struct CosineReranker {
    embedder: Option<Arc<dyn Embedder>>,
    level_weights: BTreeMap<String, f64>,
}

impl CosineReranker {
    /// Returns the reranker.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for a weight that is negative or no number.
    pub fn new(embedder: Option<Arc<dyn Embedder>>, level_weights: BTreeMap<String, f64>) -> Result<Self, ModelError> {
        if let Some((level, weight)) = level_weights.iter().find(|(_, weight)| !(weight.is_finite() && **weight >= 0.0))
        {
            return Err(ModelError::Invalid(format!(
                "the weight of level `{level}` is {weight}; it must be a number that is not negative"
            )));
        }
        Ok(Self { embedder, level_weights })
    }

    fn weight(&self, candidate: &RerankCandidate<'_>) -> f64 {
        let of = |level: Option<&str>| level.and_then(|level| self.level_weights.get(level)).copied().unwrap_or(1.0);
        of(candidate.memory_type.map(|shelf| shelf.as_str())) * of(candidate.kind)
    }

    fn score(&self, candidate: &RerankCandidate<'_>, cosine: f64) -> f32 {
        (if cosine > 0.0 { cosine * self.weight(candidate) } else { cosine }) as f32
    }

    /// Returns the cosine of every candidate; `None` where there is no embedding to be had.
    async fn cosines(
        &self,
        query: RerankQuery<'_>,
        candidates: &[RerankCandidate<'_>],
    ) -> Result<Vec<Option<f64>>, ModelError> {
        let mut query_embedding = query.embedding.filter(|vector| length(vector) > 0.0).map(Cow::Borrowed);
        if query_embedding.is_none() {
            let Some(embedder) = &self.embedder else {
                return Err(ModelError::Invalid(
                    "cosine_local needs the question's embedding or an encoder; give it one, or use the reranker `noop`"
                        .to_owned(),
                ));
            };
            let vectors = embedder.embed_queries(&[query.text.to_owned()]).await?;
            query_embedding = counted(vectors, 1)?.pop().map(Cow::Owned);
        }
        let usable = |candidate: &RerankCandidate<'_>| {
            let wanted = query_embedding.as_ref().map(|query| query.len());
            candidate.embedding.is_some_and(|vector| length(vector) > 0.0 && Some(vector.len()) == wanted)
        };
        let missing: Vec<usize> = (0..candidates.len()).filter(|&index| !usable(&candidates[index])).collect();
        let mut computed = BTreeMap::new();
        if let Some(embedder) = self.embedder.as_ref().filter(|_| !missing.is_empty()) {
            let texts: Vec<String> = missing.iter().map(|&index| candidates[index].text.to_owned()).collect();
            let vectors = counted(embedder.embed(&texts).await?, texts.len())?;
            computed.extend(missing.into_iter().zip(vectors));
        }
        let query = query_embedding.unwrap_or_default();
        let of = |(index, candidate): (usize, &RerankCandidate<'_>)| {
            cosine(&query, computed.get(&index).map(Vec::as_slice).or(candidate.embedding)?)
        };
        Ok(candidates.iter().enumerate().map(of).collect())
    }
}

#[async_trait]
impl Reranker for CosineReranker {
    fn name(&self) -> &str {
        "cosine_local"
    }

    async fn rerank(
        &self,
        query: RerankQuery<'_>,
        candidates: &[RerankCandidate<'_>],
        top_k: usize,
    ) -> Result<Vec<Ranked>, ModelError> {
        if candidates.is_empty() || top_k == 0 {
            return Ok(Vec::new());
        }
        let cosines = self.cosines(query, candidates).await?;
        let scores: Vec<Option<f32>> = candidates
            .iter()
            .zip(cosines)
            .map(|(candidate, cosine)| cosine.map(|cosine| self.score(candidate, cosine)))
            .collect();
        Ok(Ranked::best_first(around_the_unscored(&scores), top_k))
    }
}

/// Returns the vectors when there is one for each of `n_texts` texts.
fn counted(vectors: Vec<Vec<f32>>, n_texts: usize) -> Result<Vec<Vec<f32>>, ModelError> {
    if vectors.len() == n_texts {
        return Ok(vectors);
    }
    let counts = format!("{} embeddings for {n_texts} texts", vectors.len());
    Err(ModelError::BadAnswer(format!("the encoder returned {counts}; use another one")))
}

/// Gives what has no score the place that it had: its score lies between those of its neighbours in the new order.
fn around_the_unscored(scores: &[Option<f32>]) -> Vec<Ranked> {
    let scored = scores.iter().enumerate().filter_map(|(index, score)| score.map(|score| Ranked { index, score }));
    let mut scored = Ranked::best_first(scored.collect(), scores.len()).into_iter().peekable();
    let mut placed = Vec::with_capacity(scores.len());
    let mut before: Option<f32> = None;
    for (index, score) in scores.iter().enumerate() {
        // Every place of a candidate with a score takes the next best of them.
        if score.is_some() {
            if let Some(next) = scored.next() {
                before = Some(next.score);
                placed.push(next);
            }
            continue;
        }
        let after = scored.peek().map(|next| next.score);
        let score = match (before, after) {
            (Some(before), Some(after)) => before / 2.0 + after / 2.0,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => 0.0,
        };
        placed.push(Ranked { index, score });
    }
    placed
}

/// Returns the cosine of two vectors; `None` when they are of different lengths or one has no direction.
fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let lengths = length(a) * length(b);
    if a.len() != b.len() || lengths == 0.0 {
        return None;
    }
    let product: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    Some((product / lengths).clamp(-1.0, 1.0))
}

/// Returns the length of a vector; 0 for one with something that is no number.
fn length(vector: &[f32]) -> f64 {
    let sum: f64 = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    if sum.is_finite() { sum.sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(scores: &[Option<f32>]) -> Vec<usize> {
        Ranked::best_first(around_the_unscored(scores), scores.len()).iter().map(|one| one.index).collect()
    }

    #[test]
    fn what_has_no_score_keeps_its_place() {
        assert_eq!(order(&[Some(0.1), None, Some(0.9)]), [2, 1, 0]);
        assert_eq!(order(&[None, Some(0.1), Some(0.9)]), [0, 2, 1]);
        assert_eq!(order(&[Some(0.1), Some(0.9), None]), [1, 0, 2]);
        assert_eq!(order(&[Some(0.1), None, None, Some(0.9), Some(0.5)]), [3, 1, 2, 4, 0]);
        assert_eq!(order(&[None, None]), [0, 1]);
        assert_eq!(order(&[]), [0; 0]);
    }

    #[test]
    fn vectors_without_a_direction_have_no_cosine() {
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 0.0]), None);
        assert_eq!(cosine(&[1.0, 0.0], &[1.0]), None);
        assert_eq!(cosine(&[f32::NAN, 0.0], &[1.0, 0.0]), None);
        assert_eq!(cosine(&[], &[]), None);
        assert_eq!(cosine(&[2.0, 0.0], &[-3.0, 0.0]), Some(-1.0));
    }
}
