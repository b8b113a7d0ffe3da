//! Texts that stand before questions and before what may answer them, for encoders that were trained with such.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{EmbedUse, Embedded, Embedder, EmbeddingSpace, ModelError};

/// What stands before a text when it is embedded, for example `query: ` and `passage: ` for models of the E5 family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// Before questions.
    pub query: String,
    /// Before what may answer them: memories, documents.
    pub passage: String,
}

impl Prefixes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.query.is_empty() && self.passage.is_empty()
    }
}

/// An encoder that is given texts with a prefix.
///
/// The prefix of passages is part of the name of its vectors' space, because vectors with and without it do not fit
/// together; that of questions is not, because questions are not kept.
#[derive(Debug)]
pub struct PrefixedEmbedder {
    inner: Arc<dyn Embedder>,
    prefixes: Prefixes,
}

impl PrefixedEmbedder {
    /// Returns an encoder with prefixes; the encoder itself when there are none.
    pub fn open(inner: Arc<dyn Embedder>, prefixes: Prefixes) -> Arc<dyn Embedder> {
        if prefixes.is_empty() { inner } else { Arc::new(Self { inner, prefixes }) }
    }
}

fn prefixed(prefix: &str, texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| format!("{prefix}{text}")).collect()
}

#[async_trait]
impl Embedder for PrefixedEmbedder {
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.inner.embed(&prefixed(&self.prefixes.passage, texts)).await
    }

    async fn embed_queries(&self, queries: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.inner.embed_queries(&prefixed(&self.prefixes.query, queries)).await
    }

    async fn embed_counted(&self, purpose: EmbedUse, texts: &[String]) -> Result<Embedded, ModelError> {
        let prefix = match purpose {
            EmbedUse::Passage => &self.prefixes.passage,
            EmbedUse::Query => &self.prefixes.query,
        };
        self.inner.embed_counted(purpose, &prefixed(prefix, texts)).await
    }

    async fn space(&self) -> Result<EmbeddingSpace, ModelError> {
        let mut space = self.inner.space().await?;
        if !self.prefixes.passage.is_empty() {
            space.model = format!("{} after {:?}", space.model, self.prefixes.passage);
        }
        Ok(space)
    }

    async fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        // A word has hardly more tokens than it has letters for two.
        let n_taken = self.prefixes.passage.chars().count().div_ceil(2);
        Ok(self.inner.max_tokens().await?.map(|limit| limit.saturating_sub(n_taken)))
    }
}
