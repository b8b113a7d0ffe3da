//! Rerankers that need no model of their own, wrappers around those that are one, and a choice by a language model.

mod cosine;
mod fallback;
mod reasoner;
mod strategy;

use async_trait::async_trait;
use mos_core::{Hit, ModelError, Ranked, Ranking, RerankCandidate, RerankQuery, Reranked, Reranker};

use crate::retrieve::relativity;

pub use cosine::CosineReranker;
pub use fallback::KeepOrderOnFailure;
pub use reasoner::MemoryReasoner;
pub use strategy::{DocumentStrategy, SourceChoice, StrategyReranker};

/// Keeps the order of recall. Every score is 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReranker;

#[async_trait]
impl Reranker for NoReranker {
    fn name(&self) -> &str {
        "noop"
    }

    async fn rerank(
        &self,
        _: RerankQuery<'_>,
        candidates: &[RerankCandidate<'_>],
        top_k: usize,
    ) -> Result<Vec<Ranked>, ModelError> {
        Ok(Ranked::as_given(candidates.len(), top_k))
    }

    async fn order(&self, _: RerankQuery<'_>, _: &[RerankCandidate<'_>]) -> Result<Ranking, ModelError> {
        Ok(Ranking::AsGiven { failure: None })
    }
}

/// Returns hits in another order. Those that it leaves out come last, with a relativity of 0.
pub(crate) fn reordered(hits: Vec<Hit>, ranked: &[Ranked], name: &str) -> Vec<Hit> {
    let scores: Vec<f32> = ranked.iter().map(|one| one.score).collect();
    let mut hits: Vec<Option<Hit>> = hits.into_iter().map(Some).collect();
    let mut ordered = Vec::with_capacity(hits.len());
    for (one, relativity) in ranked.iter().zip(relativity::of_reranked(&scores)) {
        let Some(mut hit) = hits.get_mut(one.index).and_then(Option::take) else { continue };
        hit.relativity = relativity;
        hit.reranked = Some(Reranked { name: name.to_owned(), score: one.score });
        ordered.push(hit);
    }
    for mut hit in hits.into_iter().flatten() {
        hit.relativity = 0.0;
        ordered.push(hit);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use mos_core::MemoryItem;

    use super::*;

    #[test]
    fn the_order_is_that_of_the_reranker_and_nothing_is_lost() {
        let hit = |id: &str, score: f32| Hit::new(MemoryItem::new(id.into(), id), score, 0.5, Vec::new());
        let hits = vec![hit("a", 3.0), hit("b", 2.0), hit("c", 1.0)];
        let ranked =
            [Ranked { index: 2, score: 0.9 }, Ranked { index: 0, score: 0.1 }, Ranked { index: 7, score: 0.0 }];
        let ordered = reordered(hits, &ranked, "some");
        let told: Vec<(&str, f32, Option<f32>)> = ordered
            .iter()
            .map(|hit| (hit.item.memory.as_str(), hit.relativity, hit.reranked.as_ref().map(|one| one.score)))
            .collect();
        assert_eq!(told, [("c", 0.9, Some(0.9)), ("a", 0.1, Some(0.1)), ("b", 0.0, None)]);
        assert_eq!(ordered[0].score, 1.0, "what recall said stays");
    }
}
