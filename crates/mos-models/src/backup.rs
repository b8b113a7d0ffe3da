//! A second server that is asked when the first one fails.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{ChatModel, ChatRequest, ChatStream, EmbedUse, Embedded, Embedder, EmbeddingSpace, ModelError};

/// Asks a second model once when the first one fails before its first text.
#[derive(Debug)]
pub struct BackupChat {
    first: Arc<dyn ChatModel>,
    second: Arc<dyn ChatModel>,
}

impl BackupChat {
    /// Returns the pair as one model, under the first one's name.
    pub fn open(first: Arc<dyn ChatModel>, second: Arc<dyn ChatModel>) -> Arc<dyn ChatModel> {
        Arc::new(Self { first, second })
    }
}

#[async_trait]
impl ChatModel for BackupChat {
    fn name(&self) -> &str {
        self.first.name()
    }

    fn is_local(&self) -> bool {
        self.first.is_local()
    }

    fn context_length(&self) -> Option<usize> {
        // A conversation must fit both.
        [self.first.context_length(), self.second.context_length()].into_iter().flatten().min()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
        match self.first.stream(request.clone()).await {
            Err(error) => {
                tracing::warn!(%error, backup = self.second.name(), "asking the backup server");
                self.second.stream(request).await
            }
            answer => answer,
        }
    }
}

/// Asks a second encoder once when the first one fails. Both must make vectors of the same length; that they come
/// from the same model is the configuration's promise.
#[derive(Debug)]
pub struct BackupEmbedder {
    first: Arc<dyn Embedder>,
    second: Arc<dyn Embedder>,
}

impl BackupEmbedder {
    /// Returns the pair as one encoder.
    pub fn open(first: Arc<dyn Embedder>, second: Arc<dyn Embedder>) -> Arc<dyn Embedder> {
        Arc::new(Self { first, second })
    }
}

#[async_trait]
impl Embedder for BackupEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.embed_counted(EmbedUse::Passage, texts).await?.vectors)
    }

    async fn embed_queries(&self, queries: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.embed_counted(EmbedUse::Query, queries).await?.vectors)
    }

    async fn embed_counted(&self, purpose: EmbedUse, texts: &[String]) -> Result<Embedded, ModelError> {
        match self.first.embed_counted(purpose, texts).await {
            Err(error) => {
                tracing::warn!(%error, "asking the backup server");
                self.second.embed_counted(purpose, texts).await
            }
            embedded => embedded,
        }
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        match self.first.space().await {
            Err(_) => self.second.space().await,
            space => space,
        }
    }

    /// Either of the two may be asked.
    async fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        let limits = [self.first.max_tokens().await?, self.second.max_tokens().await?];
        Ok(limits.into_iter().flatten().min())
    }
}
