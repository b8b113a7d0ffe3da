//! Models that are loaded when they are first needed: listing memories must not read 90 MB of weights.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use mos_core::{ChatModel, ChatRequest, ChatStream, EmbedUse, Embedded, Embedder, EmbeddingSpace, ModelError};
use tokio::sync::OnceCell;

/// Makes a part; called again after a failure.
pub(crate) type Open<T> = Arc<dyn Fn() -> BoxFuture<'static, Result<Arc<T>, ModelError>> + Send + Sync>;

/// A part that is made at its first use, once.
pub(crate) struct Lazy<T: ?Sized> {
    cell: OnceCell<Arc<T>>,
    open: Open<T>,
}

impl<T: ?Sized> Lazy<T> {
    pub(crate) fn new(open: Open<T>) -> Self {
        Self { cell: OnceCell::new(), open }
    }

    /// Returns the part, making it first when needed.
    pub(crate) async fn get(&self) -> Result<Arc<T>, ModelError> {
        self.cell.get_or_try_init(|| (self.open)()).await.cloned()
    }
}

impl<T: ?Sized> fmt::Debug for Lazy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lazy").field("is_open", &self.cell.initialized()).finish()
    }
}

/// An encoder that is loaded at its first use.
#[derive(Debug)]
pub(crate) struct LazyEmbedder(pub(crate) Lazy<dyn Embedder>);

#[async_trait]
impl Embedder for LazyEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.0.get().await?.embed(texts).await
    }

    async fn embed_queries(&self, queries: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.0.get().await?.embed_queries(queries).await
    }

    async fn embed_counted(&self, purpose: EmbedUse, texts: &[String]) -> Result<Embedded, ModelError> {
        self.0.get().await?.embed_counted(purpose, texts).await
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        self.0.get().await?.space().await
    }

    async fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        self.0.get().await?.max_tokens().await
    }
}

/// A chat model that is loaded at its first use.
#[derive(Debug)]
pub(crate) struct LazyChatModel {
    pub(crate) model: Arc<Lazy<dyn ChatModel>>,
    /// What its configuration calls it.
    pub(crate) name: String,
    pub(crate) is_local: bool,
}

#[async_trait]
impl ChatModel for LazyChatModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_local(&self) -> bool {
        self.is_local
    }

    fn context_length(&self) -> Option<usize> {
        None
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
        self.model.get().await?.stream(request).await
    }
}
