//! Finding the nearest vectors. A vector store is a derived index: it can be thrown away and filled again from
//! the [`RecordStore`](crate::record::RecordStore).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use serde_json::{Map, Value};

use crate::embed::EmbeddingSpace;
use crate::error::StoreError;
use crate::filter::Filter;
use crate::id::MemoryId;
use crate::record::Scope;

/// How many queries are asked at the same time.
const QUERIES_AT_A_TIME: usize = 16;

/// A memory's id and its score in a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The memory.
    pub id: MemoryId,
    /// Greater is better; what it measures is said by the search.
    pub score: f32,
}

/// One vector with what filters look at.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorPoint {
    /// The memory.
    pub id: MemoryId,
    /// `f32[dimension]`, unit length.
    pub vector: Vec<f32>,
    /// The memory's text.
    pub memory: Arc<str>,
    /// The memory's metadata, without sources, history and embedding.
    pub metadata: Arc<Map<String, Value>>,
}

/// Nearest-neighbour search, partitioned by [`Scope`].
#[async_trait]
pub trait VectorStore: fmt::Debug + Send + Sync {
    /// Returns at most `limit` points nearest to `query` among those that pass the filter, best first.
    ///
    /// Scores are cosine similarity in `[-1, 1]`; ties break by id. The filter is applied inside the search:
    /// fewer than `limit` come back only when fewer pass. Writes acknowledged before the call are seen.
    ///
    /// # Errors
    /// [`StoreError::EmbeddingSpace`] when the scope's vectors were made by another model than `space`;
    /// [`StoreError::Dimension`] unless `query.len()` is the space's dimension; [`StoreError`] when the store
    /// cannot be read.
    async fn nearest(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Scored>, StoreError>;

    /// Returns what [`VectorStore::nearest`] does, in any order: for callers that want most of what there is and put it in an
    /// order of their own.
    ///
    /// # Errors
    /// As [`VectorStore::nearest`].
    async fn near(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Scored>, StoreError> {
        self.nearest(scope, space, query, limit, filter).await
    }

    /// Returns for each of several queries what [`VectorStore::nearest`] returns for it, in the order asked. A store asks its
    /// record once for many of them, or a server several at a time.
    ///
    /// # Errors
    /// As [`VectorStore::nearest`].
    async fn nearest_each(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        queries: &[&[f32]],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Vec<Scored>>, StoreError> {
        let mut found = Vec::with_capacity(queries.len());
        for part in queries.chunks(QUERIES_AT_A_TIME) {
            let asked: Vec<_> = part.iter().map(|query| self.nearest(scope, space, query, limit, filter)).collect();
            found.extend(try_join_all(asked).await?);
        }
        Ok(found)
    }

    /// Returns whether [`VectorStore::nearest`] may find anything with this filter; `false` only when no point passes. For
    /// callers that save themselves a vector for the question.
    ///
    /// # Errors
    /// As [`VectorStore::nearest`].
    async fn may_find(&self, _scope: &Scope, _space: &EmbeddingSpace, _filter: &Filter) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Returns the cosine similarity of `query` with the vector of each of `ids`, in the order asked; `None` for a memory
    /// without a vector.
    ///
    /// Scores are those of [`VectorStore::nearest`] up to rounding. Writes acknowledged before the call are seen.
    ///
    /// # Errors
    /// As [`VectorStore::nearest`].
    async fn similarities(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        ids: &[MemoryId],
    ) -> Result<Vec<Option<f32>>, StoreError>;

    /// Returns the vectors of those among `ids` that are at hand, in any order, as
    /// [`RecordStore::embeddings`](crate::record::RecordStore::embeddings) returns them; the record has those of the others.
    /// Nobody is asked for news: for callers that have just searched.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn at_hand(
        &self,
        _scope: &Scope,
        _space: &EmbeddingSpace,
        _ids: &[MemoryId],
    ) -> Result<Vec<(MemoryId, Vec<f32>)>, StoreError> {
        Ok(Vec::new())
    }

    /// Returns how many vectors the scope has.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn count(&self, scope: &Scope) -> Result<usize, StoreError>;
}
