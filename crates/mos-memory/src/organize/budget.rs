//! How much a run may still do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use mos_core::{ChatModel, ChatRequest, ChatStream, ChatUsage, Clock, FinishReason, ModelError};

use super::options::OrganizeOptions;

/// A model that may be called so often and no more, in the name of one cube.
#[derive(Debug)]
pub(super) struct BoundedModel {
    model: Arc<dyn ChatModel>,
    limit: usize,
    n_calls: AtomicUsize,
    cache_scope: String,
}

impl BoundedModel {
    pub(super) fn new(model: Arc<dyn ChatModel>, limit: usize, cache_scope: String) -> Self {
        Self { model, limit, n_calls: AtomicUsize::new(0), cache_scope }
    }

    pub(super) fn n_calls(&self) -> usize {
        self.n_calls.load(Ordering::Relaxed)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.n_calls() >= self.limit
    }

    /// Counts a call and gives it the cube's own cache.
    fn admit(&self, mut request: ChatRequest) -> Result<ChatRequest, ModelError> {
        let count = |n_calls: usize| (n_calls < self.limit).then_some(n_calls + 1);
        if self.n_calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_err() {
            return Err(ModelError::Invalid(format!("the {} model calls of this run are used up", self.limit)));
        }
        request.cache_scope.clone_from(&self.cache_scope);
        Ok(request)
    }
}

#[async_trait]
impl ChatModel for BoundedModel {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn is_local(&self) -> bool {
        self.model.is_local()
    }

    fn context_length(&self) -> Option<usize> {
        self.model.context_length()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
        self.model.stream(self.admit(request)?).await
    }

    async fn complete(&self, request: ChatRequest) -> Result<(String, ChatUsage), ModelError> {
        let (answer, usage) = self.model.complete(self.admit(request)?).await?;
        // An answer that was cut off is none: who asked sees that, and asks again.
        let answer = if usage.finish == FinishReason::Length { String::new() } else { answer };
        Ok((answer, usage))
    }
}

/// Pairs and time that are left.
#[derive(Debug)]
pub(super) struct Budget {
    n_pairs: usize,
    clock: Arc<dyn Clock>,
    ends_at: Timestamp,
}

impl Budget {
    pub(super) fn new(options: &OrganizeOptions, clock: Arc<dyn Clock>) -> Self {
        let ends_at = clock.now().checked_add(options.max_time).unwrap_or(Timestamp::MAX);
        Self { n_pairs: options.max_pairs, clock, ends_at }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.n_pairs == 0 || self.clock.now() >= self.ends_at
    }

    pub(super) fn take_pair(&mut self) {
        self.n_pairs = self.n_pairs.saturating_sub(1);
    }
}
