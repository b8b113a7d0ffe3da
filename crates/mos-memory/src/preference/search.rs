//! Finding preferences.

use std::collections::HashMap;

use mos_core::text_memory::Signal;
use mos_core::{
    EmbeddingSpace, Filter, Hit, MemoryError, MemoryId, MemoryItem, PreferenceType, RerankCandidate, RerankQuery,
};

use super::judge::Neighbour;
use super::{PrefText, activated};
use crate::shelf::check_query;

/// Of each type so many times the wanted preferences are recalled, so that the reranker has something to choose from.
const RECALL_FACTOR: usize = 2;

impl PrefText {
    pub(super) async fn find(&self, query: &str, top_k: usize, filter: &Filter) -> Result<Vec<Hit>, MemoryError> {
        check_query(query)?;
        let space = self.checked_space().await?;
        if top_k == 0 || self.shelf().record.embedding_space(&self.shelf().scope).await?.is_none() {
            return Ok(Vec::new());
        }
        let embedded = self.parts.embedder.embed(&[query.to_owned()]).await?;
        let vector = embedded.first().map(Vec::as_slice).unwrap_or_default();
        let of_type = |kind: PreferenceType| {
            let filter = Filter::equals("preference_type", kind.as_str()).and(filter.clone());
            self.best_of(&space, query, vector, top_k, filter)
        };
        let (mut hits, implicit) =
            futures::try_join!(of_type(PreferenceType::Explicit), of_type(PreferenceType::Implicit))?;
        hits.extend(implicit);
        Ok(hits)
    }

    /// Returns the best preferences that pass the filter, best first.
    async fn best_of(
        &self,
        space: &EmbeddingSpace,
        query: &str,
        vector: &[f32],
        top_k: usize,
        filter: Filter,
    ) -> Result<Vec<Hit>, MemoryError> {
        let limit = top_k.saturating_mul(RECALL_FACTOR);
        let recalled = self.nearest(space, vector, limit, &filter).await?;
        let hit = |known: Neighbour| Hit {
            score: known.similarity,
            signals: vec![Signal { name: "vector", score: known.similarity }],
            item: known.item,
        };
        let hits: Vec<Hit> = recalled.into_iter().map(hit).collect();
        let Some(reranker) = self.parts.reranker.as_deref().filter(|_| !hits.is_empty()) else {
            return Ok(hits.into_iter().take(top_k).collect());
        };
        let ranked = {
            let candidates: Vec<RerankCandidate<'_>> = hits.iter().map(|hit| RerankCandidate::of(&hit.item)).collect();
            reranker.rerank(RerankQuery::new(query, Some(vector)), &candidates, top_k).await?
        };
        let mut hits: Vec<Option<Hit>> = hits.into_iter().map(Some).collect();
        let ordered = ranked.into_iter().filter_map(|one| {
            let mut hit = hits.get_mut(one.index)?.take()?;
            hit.score = one.score;
            hit.signals.push(Signal { name: "rerank", score: one.score });
            Some(hit)
        });
        Ok(ordered.collect())
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
