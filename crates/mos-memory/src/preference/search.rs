//! Finding preferences.

use std::collections::HashMap;

use mos_core::{
    EmbeddingSpace, Filter, Found, Hit, MemoryError, MemoryId, MemoryItem, PreferenceType, Ranking, RerankCandidate,
    RerankQuery, Signal,
};

use super::judge::Neighbour;
use super::{PrefText, activated};
use crate::rerank::reordered;
use crate::shelf::check_query;

/// Of each type so many times the wanted preferences are recalled, so that the reranker has something to choose from.
const RECALL_FACTOR: usize = 2;

impl PrefText {
    pub(super) async fn find(&self, query: &str, top_k: usize, filter: &Filter) -> Result<Found, MemoryError> {
        check_query(query)?;
        let Some(have) = self.shelf().record.embedding_space(&self.shelf().scope).await?.filter(|_| top_k > 0) else {
            return Ok(Found::default());
        };
        let space = self.shelf().space_beside(&*self.parts.embedder, Some(have)).await?;
        // Most cubes have no preferences: then the question needs no vector, which would cost more than all else here.
        let any = activated(&Filter::Everything);
        if !self.parts.vectors.may_find(&self.shelf().scope, &space, &any).await? {
            return Ok(Found::default());
        }
        let embedded = self.parts.embedder.embed_queries(&[query.to_owned()]).await?;
        let vector = embedded.first().map(Vec::as_slice).unwrap_or_default();
        let of_type = |kind: PreferenceType| {
            let filter = Filter::equals("preference_type", kind.as_str()).and(filter.clone());
            self.best_of(&space, query, vector, top_k, filter)
        };
        let (mut found, implicit) =
            futures::try_join!(of_type(PreferenceType::Explicit), of_type(PreferenceType::Implicit))?;
        found.hits.extend(implicit.hits);
        implicit.notes.into_iter().for_each(|note| found.note(note));
        Ok(found)
    }

    /// Returns the best preferences that pass the filter, best first.
    async fn best_of(
        &self,
        space: &EmbeddingSpace,
        query: &str,
        vector: &[f32],
        top_k: usize,
        filter: Filter,
    ) -> Result<Found, MemoryError> {
        let limit = top_k.saturating_mul(RECALL_FACTOR);
        let recalled = self.nearest(space, vector, limit, &filter).await?;
        let hit = |known: Neighbour| {
            let signal = Signal { name: "vector", score: known.similarity };
            Hit::new(known.item, known.similarity, known.similarity.clamp(0.0, 1.0), vec![signal])
        };
        let mut found = Found { hits: recalled.into_iter().map(hit).collect(), notes: Vec::new() };
        if let Some(reranker) = self.parts.reranker.as_deref().filter(|_| !found.hits.is_empty()) {
            let ranking = {
                let candidates: Vec<RerankCandidate<'_>> =
                    found.hits.iter().map(|hit| RerankCandidate::of(&hit.item)).collect();
                reranker.order(RerankQuery::new(query, Some(vector)), &candidates).await?
            };
            match ranking {
                Ranking::Ordered(ranked) => {
                    found.hits = reordered(found.hits, &ranked, reranker.name());
                    found.hits.iter_mut().for_each(score_by_reranker);
                }
                Ranking::AsGiven { failure: Some(failure) } => found.note(format!(
                    "the reranker `{}` failed, so preferences come by their likeness to the question: {failure}",
                    reranker.name()
                )),
                Ranking::AsGiven { failure: None } => {}
            }
        }
        found.hits.truncate(top_k);
        Ok(found)
    }

    /// Returns the activated preferences nearest to a vector that pass the filter, most similar first.
    pub(super) async fn nearest(
        &self,
        space: &EmbeddingSpace,
        vector: &[f32],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Neighbour>, MemoryError> {
        let near = self.parts.vectors.nearest(&self.shelf().scope, space, vector, limit, &activated(filter)).await?;
        let ids: Vec<MemoryId> = near.iter().map(|one| one.id.clone()).collect();
        let mut items: HashMap<MemoryId, MemoryItem> =
            self.shelf().get_by_ids(&ids).await?.into_iter().map(|item| (item.id.clone(), item)).collect();
        // A preference that was removed between both reads is left out.
        let found = near
            .into_iter()
            .filter_map(|one| items.remove(&one.id).map(|item| Neighbour { item, similarity: one.score }));
        Ok(found.collect())
    }
}

/// A preference has the score of the reranker, which stands among its signals.
fn score_by_reranker(hit: &mut Hit) {
    if let Some(reranked) = &hit.reranked {
        hit.score = reranked.score;
        hit.signals.push(Signal { name: "rerank", score: reranked.score });
    }
}
