//! Reading memory nodes and the typed edges between them.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::filter::Filter;
use crate::id::MemoryId;
use crate::memory::MemoryItem;
use crate::record::Scope;
use crate::vector::Scored;

/// A typed connection from one memory to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Edge {
    /// Where it starts.
    pub source: MemoryId,
    /// Where it ends.
    pub target: MemoryId,
    /// Its type in capitals, for example `PARENT`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Which edges of a node are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that start at it.
    Outgoing,
    /// Those that end at it.
    Incoming,
    /// Both.
    Any,
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// How many entries to pass over.
    pub offset: usize,
    /// The most entries to return.
    pub limit: usize,
}

impl Paging {
    /// The whole list.
    pub const ALL: Self = Self { offset: 0, limit: usize::MAX };
}

/// A part of a list, and how long the whole list is.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Length of the whole list.
    pub total: usize,
}

/// Memory nodes and typed edges, partitioned by [`Scope`]: no method ever sees another scope's data, and scores
/// do not depend on it. Items come without their embeddings.
#[async_trait]
pub trait GraphStore: fmt::Debug + Send + Sync {
    /// Returns the nodes that exist among `ids`, in the order asked.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn nodes(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, StoreError>;

    /// Returns the nodes that pass the filter, oldest first (order of their first write).
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn list(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<Page<MemoryItem>, StoreError>;

    /// Returns how many nodes pass the filter.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn count(&self, scope: &Scope, filter: &Filter) -> Result<usize, StoreError>;

    /// Returns the edges at a node, of one type or (with `None`) of any, sorted by source, target and type.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn edges(
        &self,
        scope: &Scope,
        id: &MemoryId,
        direction: Direction,
        kind: Option<&str>,
    ) -> Result<Vec<Edge>, StoreError>;

    /// Returns every edge of the scope, sorted by source, target and type.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn all_edges(&self, scope: &Scope) -> Result<Vec<Edge>, StoreError>;

    /// Returns at most `limit` nodes that hold words of `query` and pass the filter, best first.
    ///
    /// Scores are BM25 (k1 = 1.2, b = 0.75; Robertson and Zaragoza 2009) with the statistics of this scope
    /// alone, over stemmed words and segmented Chinese; greater than 0; ties break by id.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn full_text(
        &self,
        scope: &Scope,
        query: &str,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Scored>, StoreError>;
}
