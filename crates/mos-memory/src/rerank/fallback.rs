//! What a search does when its reranker fails.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{ModelError, Ranked, Ranking, RerankCandidate, RerankQuery, Reranker};

/// Keeps the order of recall, with the score 0, when another reranker fails, and says so in the log and to searches: what
/// was found is worth more than an error.
#[derive(Debug)]
pub struct KeepOrderOnFailure {
    inner: Arc<dyn Reranker>,
}

impl KeepOrderOnFailure {
    /// Wraps a reranker.
    pub fn new(inner: Arc<dyn Reranker>) -> Self {
        Self { inner }
    }

    fn warn(&self, error: &ModelError, n_candidates: usize) {
        tracing::warn!(
            reranker = self.inner.name(),
            error = error.without_quotes(),
            n_candidates,
            "the reranker failed; what was found keeps the order of recall"
        );
    }
}

#[async_trait]
impl Reranker for KeepOrderOnFailure {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn rerank(
        &self,
        query: RerankQuery<'_>,
        candidates: &[RerankCandidate<'_>],
        top_k: usize,
    ) -> Result<Vec<Ranked>, ModelError> {
        match self.inner.rerank(query, candidates, top_k).await {
            Ok(ranked) => Ok(ranked),
            Err(error) => {
                self.warn(&error, candidates.len());
                Ok(Ranked::as_given(candidates.len(), top_k))
            }
        }
    }

    async fn order(&self, query: RerankQuery<'_>, candidates: &[RerankCandidate<'_>]) -> Result<Ranking, ModelError> {
        match self.inner.order(query, candidates).await {
            Ok(ranking) => Ok(ranking),
            Err(error) => {
                self.warn(&error, candidates.len());
                Ok(Ranking::AsGiven { failure: Some(error.to_string()) })
            }
        }
    }
}
