//! Reading memory nodes and the typed edges between them.

pub mod kinds;
mod walk;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::StoreError;
use crate::filter::Filter;
use crate::id::MemoryId;
use crate::memory::{MemoryItem, Status};
use crate::record::Scope;
use crate::vector::Scored;

/// How many memories are looked through at a time where a store has no index for what is asked.
const LOOKED_THROUGH: usize = 500;

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

/// Memories and edges between them, as MemOS exports a graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// The memories.
    pub nodes: Vec<MemoryItem>,
    /// The edges.
    #[serde(default)]
    pub edges: Vec<Edge>,
}

/// A part of an exported graph, and how much the whole one has.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphPage {
    /// Some nodes, and the edges that start at them.
    pub graph: Graph,
    /// Nodes of the whole graph.
    pub n_nodes: usize,
    /// Edges of the whole graph.
    pub n_edges: usize,
}

/// What lies around a memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Subgraph {
    /// The memory in the middle.
    pub center: MemoryItem,
    /// The memories around it, nearest first, and every edge among them and the middle.
    pub around: Graph,
    /// Whether there was more than was asked for.
    pub is_cut: bool,
}

/// A memory, and how many of the tags that were asked for it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Tagged {
    /// The memory.
    pub item: MemoryItem,
    /// How many different tags it shares.
    pub n_shared: usize,
}

/// How many memories have the same values in some fields.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupCount {
    /// The values, in the order of the fields that were asked for; null where the field is absent.
    pub values: Vec<Value>,
    /// How many memories have them.
    pub count: usize,
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

    /// Returns the nodes that pass the filter in the order of [`GraphStore::list`] turned round: the last one first. Where a
    /// store has an order of its own for it, only a page is read.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn latest(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<Vec<MemoryItem>, StoreError> {
        let end = self.count(scope, filter).await?.saturating_sub(paging.offset);
        let offset = end.saturating_sub(paging.limit);
        let mut nodes = self.list(scope, filter, Paging { offset, limit: end - offset }).await?.entries;
        nodes.reverse();
        Ok(nodes)
    }

    /// Returns the nodes that pass the filter in the order of [`GraphStore::export`]: the newest first. Where a store has an
    /// order of its own for it, only a page is read; this and [`GraphStore::count`] are for lists that people look at.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn newest(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<Vec<MemoryItem>, StoreError> {
        Ok(self.export(scope, filter, paging).await?.graph.nodes)
    }

    /// Returns at most `limit` memories that are kept apart ([`MemoryItem::is_kept_apart`]), oldest first. Where a store has an
    /// index of them, no others are read.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn kept_apart(&self, scope: &Scope, limit: usize) -> Result<Vec<MemoryItem>, StoreError> {
        let archived = Filter::equals("status", Status::Archived.as_str());
        let (mut found, mut offset) = (Vec::new(), 0);
        while found.len() < limit {
            let paging = Paging { offset, limit: LOOKED_THROUGH };
            let page = self.list(scope, &archived, paging).await?.entries;
            let n_read = page.len();
            offset += n_read;
            found.extend(page.into_iter().filter(MemoryItem::is_kept_apart));
            if n_read < LOOKED_THROUGH {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Returns how many nodes pass the filter.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn count(&self, scope: &Scope, filter: &Filter) -> Result<usize, StoreError>;

    /// Returns the edges at any of some nodes, of one type or (with `None`) of any, each once, sorted by source, target
    /// and type.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn edges(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
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

    /// Returns at most `limit` nodes that have at least `min_shared` (and at least 1) of `tags` in `metadata.tags`, pass
    /// the filter and are not in `except`: those that share most first, ties by id.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn sharing_tags(
        &self,
        scope: &Scope,
        tags: &[String],
        min_shared: usize,
        except: &[MemoryId],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Tagged>, StoreError>;

    /// Returns at most `limit` nodes that pass the filter and have no edge of the type `kind`, neither out nor in, oldest
    /// first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn without_edges(
        &self,
        scope: &Scope,
        kind: &str,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<MemoryItem>, StoreError>;

    /// Counts the nodes that pass the filter by the values of some metadata fields, as conditions read them (`memory` is
    /// the text, fields of `metadata.info` count). Most frequent first, ties by the JSON text of the values.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn count_by(&self, scope: &Scope, fields: &[String], filter: &Filter) -> Result<Vec<GroupCount>, StoreError>;

    /// Returns a part of the graph of the nodes that pass the filter and the edges among them. Looks at the edges of all
    /// nodes that pass for it; [`GraphStore::newest`] reads a page of nodes alone.
    ///
    /// Nodes come newest first: by the text of `metadata.created_at`, falling (those without one last), then by id,
    /// falling. `paging` counts nodes. The edges are those that start at the page's nodes, sorted, so that all pages
    /// together hold every edge once.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn export(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<GraphPage, StoreError>;

    /// Returns what can be reached from `center` over at most `depth` edges of any direction through nodes that pass the
    /// filter: at most `limit` nodes, nearest first, ties by id. `None` when there is no such memory or it does not pass
    /// the filter itself.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn subgraph(
        &self,
        scope: &Scope,
        center: &MemoryId,
        depth: usize,
        limit: usize,
        filter: &Filter,
    ) -> Result<Option<Subgraph>, StoreError> {
        walk::subgraph(self, scope, center, depth, limit, filter).await
    }

    /// Returns the shortest way from `from` to `to` over at most `max_edges` edges that are walked in `direction`, as the
    /// memories on it, both ends included; among equally short ways the one whose ids come first. `None` when there is
    /// none. Gives up when more than 100,000 memories lie on the way.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when too many memories would have to be looked at; [`StoreError`] when the store cannot be
    /// read.
    async fn path(
        &self,
        scope: &Scope,
        from: &MemoryId,
        to: &MemoryId,
        direction: Direction,
        max_edges: usize,
    ) -> Result<Option<Vec<MemoryId>>, StoreError> {
        walk::path(self, scope, from, to, direction, max_edges).await
    }
}
