//! Turning text into vectors.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// What makes two embeddings comparable: the same model and the same number of dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EmbeddingSpace {
    /// The model's name, for example `all-MiniLM-L6-v2`.
    pub model: String,
    /// Length of its vectors.
    pub dimension: usize,
}

impl fmt::Display for EmbeddingSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({} dimensions)", self.model, self.dimension)
    }
}

/// What texts are embedded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EmbedUse {
    /// To answer questions: memories, documents.
    Passage,
    /// To ask.
    Query,
}

/// Vectors, and what they took.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// One per text, as [`Embedder::embed`] returns them.
    pub vectors: Vec<Vec<f32>>,
    /// The tokens that were computed for them; `None` from an encoder that does not count.
    pub tokens: Option<u64>,
}

/// Turns texts into vectors of unit length.
#[async_trait]
pub trait Embedder: fmt::Debug + Send + Sync {
    /// Returns one vector per text, in the order given; each `f32[dimension]`, unit length.
    ///
    /// Texts that are too long for the model are cut at its limit.
    ///
    /// # Errors
    /// [`ModelError`] when the model cannot answer; no part of the answer is returned then.
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError>;

    /// Returns one vector per question, as [`Embedder::embed`] does for what may answer it. Models that were trained
    /// with another beginning of the text for questions need to know which is which; others make no difference.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    async fn embed_queries(&self, queries: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.embed(queries).await
    }

    /// Returns one vector per text, as [`Embedder::embed`] or [`Embedder::embed_queries`] does, and what they took.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    async fn embed_counted(&self, purpose: EmbedUse, texts: &[String]) -> Result<Embedded, ModelError> {
        let vectors = match purpose {
            EmbedUse::Passage => self.embed(texts).await?,
            EmbedUse::Query => self.embed_queries(texts).await?,
        };
        Ok(Embedded { vectors, tokens: None })
    }

    /// Returns the space of the vectors. May ask a server once, when the configuration does not tell.
    ///
    /// # Errors
    /// [`ModelError`] when the server that must be asked cannot be reached.
    async fn space(&self) -> Result<EmbeddingSpace, ModelError>;

    /// Returns how many tokens of a text the encoder reads, what it adds itself not counted; the rest of a longer text is not in
    /// its vector. `None` when that is not known. May load the model.
    ///
    /// # Errors
    /// [`ModelError`] when the model cannot be loaded.
    async fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        Ok(None)
    }
}
