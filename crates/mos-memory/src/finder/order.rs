//! From what was recalled to what is returned.

use std::collections::HashMap;

use mos_core::{Found, Hit, MemoryError, MemoryId, MemoryItem, Ranking, RerankCandidate, RerankQuery, SearchRequest};

use super::Finder;
use super::gather::Within;
use crate::rerank::reordered;
use crate::search::{Settled, settled};

/// How many times the wanted hits are gathered where better ones may come from further down.
const POOL_FACTOR: usize = 3;

/// The most hits that are gathered for that, unless more are wanted.
const MAX_POOL: usize = 200;

/// What a question is compared with.
pub(super) struct Asked<'a> {
    pub(super) request: &'a SearchRequest,
    /// The question, as it was understood.
    pub(super) question: &'a str,
    /// Its vector.
    pub(super) vector: &'a [f32],
}

impl Finder {
    /// How many hits a search gathers.
    pub(super) fn n_wanted(&self, request: &SearchRequest) -> usize {
        let is_chosen_from =
            request.duplicates.needs_vectors() || (request.rerank && self.retrieval.reranker.is_some());
        if is_chosen_from {
            request.top_k.saturating_mul(POOL_FACTOR).min(MAX_POOL.max(request.top_k))
        } else {
            request.top_k
        }
    }

    /// Returns what a search answers with, of hits that come best first: in the order of the reranker, the newer one
    /// of a possible conflict before the older, without repetitions, within the limits. `known` are vectors of memories that are not stored.
    pub(super) async fn ordered(
        &self,
        mut hits: Vec<Hit>,
        asked: &Asked<'_>,
        known: &HashMap<MemoryId, Vec<f32>>,
        within: &Within<'_>,
        found: &mut Found,
    ) -> Result<Settled, MemoryError> {
        let request = asked.request;
        let is_reranked = request.rerank && self.retrieval.reranker.is_some() && !hits.is_empty();
        if is_reranked || request.duplicates.needs_vectors() {
            hits.truncate(MAX_POOL.max(request.top_k));
            let mut vectors = known.clone();
            let ids: Vec<MemoryId> = hits.iter().map(|hit| hit.item.id.clone()).collect();
            vectors.extend(self.recall.embeddings(&self.shelf.scope, &within.space, &ids).await?);
            if is_reranked {
                hits = self.reranked(hits, asked, &vectors, found).await?;
            }
            hits = self.newer_first(hits).await?;
            return Ok(settled(hits, request, &vectors, |hit| within.is_superseded(hit)));
        }
        hits = self.newer_first(hits).await?;
        Ok(settled(hits, request, known, |hit| within.is_superseded(hit)))
    }

    /// Returns the hits in the order of the reranker; in their own when it has none.
    async fn reranked(
        &self,
        hits: Vec<Hit>,
        asked: &Asked<'_>,
        vectors: &HashMap<MemoryId, Vec<f32>>,
        found: &mut Found,
    ) -> Result<Vec<Hit>, MemoryError> {
        let Some(reranker) = self.retrieval.reranker.as_deref() else { return Ok(hits) };
        let ranking = {
            let candidates: Vec<RerankCandidate<'_>> =
                hits.iter().map(|hit| candidate(&hit.item, vectors.get(&hit.item.id))).collect();
            reranker.order(RerankQuery::new(asked.question, Some(asked.vector)), &candidates).await?
        };
        match ranking {
            Ranking::Ordered(ranked) => Ok(reordered(hits, &ranked, reranker.name())),
            Ranking::AsGiven { failure } => {
                if let Some(failure) = failure {
                    found.note(format!(
                        "the reranker `{}` failed, so the order of recall was kept: {failure}",
                        reranker.name()
                    ));
                }
                Ok(hits)
            }
        }
    }
}

fn candidate<'a>(item: &'a MemoryItem, vector: Option<&'a Vec<f32>>) -> RerankCandidate<'a> {
    let candidate = RerankCandidate::of(item);
    RerankCandidate { embedding: vector.map(Vec::as_slice).or(candidate.embedding), ..candidate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rerankers_get_the_vectors_that_are_stored() {
        let item = MemoryItem::new("a".into(), "text");
        let vector = vec![1.0, 0.0];
        assert_eq!(candidate(&item, Some(&vector)).embedding, Some(&[1.0, 0.0][..]));
        assert_eq!(candidate(&item, None).embedding, None);
    }
}
