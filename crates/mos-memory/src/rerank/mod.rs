//! Rerankers that need no model of their own, wrappers around those that are one, and a choice by a language model.

mod cosine;
mod fallback;
mod reasoner;
mod strategy;

use async_trait::async_trait;
use mos_core::{ModelError, Ranked, RerankCandidate, RerankQuery, Reranker};

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
}
