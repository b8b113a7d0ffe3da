//! What a textual memory that is a graph can do besides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::error::MemoryError;
use crate::filter::Filter;
use crate::graph::{Edge, Graph, GraphPage, Paging};
use crate::id::MemoryId;
use crate::memory::{MemoryItem, MemoryType, Status};
use crate::record::Origin;
use crate::text_memory::{AddRequest, TextMemory};

/// How the memories are found around which a subgraph is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FoundBy {
    /// By the words they hold.
    #[default]
    FullText,
    /// By what they mean.
    Embedding,
}

/// Which part of a graph is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct SubgraphRequest {
    /// What it is about, in plain words.
    pub query: String,
    /// The most memories that are looked around.
    pub top_k: usize,
    /// The most edges between such a memory and one that is returned.
    pub depth: usize,
    /// How they are found.
    pub by: FoundBy,
    /// The status that they must have; `None`: any but deleted.
    pub center_status: Option<Status>,
}

impl SubgraphRequest {
    /// Returns a request for what lies within 2 edges of the 20 activated memories that fit best by their words.
    pub fn new(query: impl Into<String>) -> Self {
        Self { query: query.into(), top_k: 20, depth: 2, by: FoundBy::FullText, center_status: Some(Status::Activated) }
    }
}

/// A part of a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RelevantSubgraph {
    /// The memory that fits best; `None` when none does.
    pub core: Option<MemoryId>,
    /// The memories that fit, those around them, and every edge among them.
    pub graph: Graph,
    /// Whether there was more than is returned.
    pub is_cut: bool,
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackUp {
    /// The folder that holds the memory's file.
    pub folder: PathBuf,
    /// How many memories went into it.
    pub n_memories: usize,
    /// Older backups that were removed.
    pub pruned: Vec<PathBuf>,
}

/// Memories on shelves ([`MemoryType`]) that are connected by edges.
///
/// A memory that is added to long-term or user memory also appears in working memory, as a *working copy*
/// ([`MemoryItem::working_copy_of`]). Copies follow their originals: they change and go with them, and searches return the
/// originals.
#[async_trait]
pub trait TreeMemory: TextMemory {
    /// Returns a part of the graph, newest memories first; memories that are marked as deleted are left out.
    ///
    /// # Errors
    /// Store errors.
    async fn graph(&self, filter: &Filter, paging: Paging) -> Result<GraphPage, MemoryError>;

    /// Returns the working memory, newest first by `updated_at`.
    ///
    /// # Errors
    /// Store errors.
    async fn working_memory(&self) -> Result<Vec<MemoryItem>, MemoryError>;

    /// Makes these memories the newest of the working memory, the first of them the newest of all, and returns the working
    /// memory. What does not fit its size goes, oldest first; of more memories than fit, the first ones count. Known
    /// memories are shown by working copies, others are stored as working memory.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for an item without text; store and model errors. Nothing is changed then.
    async fn replace_working_memory(
        &self,
        items: Vec<MemoryItem>,
        origin: Origin,
    ) -> Result<Vec<MemoryItem>, MemoryError>;

    /// Returns how many memories stand on each shelf, those that are marked as deleted not counted.
    ///
    /// # Errors
    /// Store errors.
    async fn sizes(&self) -> Result<BTreeMap<MemoryType, usize>, MemoryError>;

    /// Returns the memories that fit a query and what lies around them.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for an empty query; store and model errors.
    async fn relevant_subgraph(&self, request: &SubgraphRequest) -> Result<RelevantSubgraph, MemoryError>;

    /// Marks memories as deleted and returns how many were not before: they stay with edges and history, but no search
    /// and no [`TreeMemory::graph`] returns them. `evolve_to` names the memories that take their place; unknown ids among
    /// `ids` are no error.
    ///
    /// # Errors
    /// Store errors.
    async fn soft_delete(&self, ids: &[MemoryId], evolve_to: &[MemoryId], origin: Origin)
    -> Result<usize, MemoryError>;

    /// Removes the memories that pass a filter, with their working copies, and returns how many passed.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for the filter that everything passes ([`TextMemory::delete_all`] says that it means
    /// everything); store errors.
    async fn delete_by_filter(&self, filter: &Filter, origin: Origin) -> Result<usize, MemoryError>;

    /// Removes the memories that belong to any of these files (`metadata.file_ids`) and returns how many did.
    ///
    /// # Errors
    /// Store errors.
    async fn delete_by_files(&self, file_ids: &[String], origin: Origin) -> Result<usize, MemoryError>;

    /// Stores chunks of files as they are (`RawFileMemory`), with the edges that their metadata speaks of: to and from the
    /// summaries in `summary_ids`, to the neighbours in `following_id` and `preceding_id`. Summaries and neighbours must be
    /// known or among `items`. Returns their ids, in order.
    ///
    /// # Errors
    /// As [`TextMemory::add`]; an error for an id that is not known. Nothing is stored then.
    async fn add_raw_files(&self, items: Vec<MemoryItem>, request: AddRequest) -> Result<Vec<MemoryId>, MemoryError>;

    /// Connects memories; a known edge stays.
    ///
    /// # Errors
    /// An error when one of the memories is not known. No edge is stored then.
    async fn add_edges(&self, edges: Vec<Edge>, origin: Origin) -> Result<(), MemoryError>;

    /// Dumps the memory to a new folder `memos_backup_<YYYYmmdd_HHMMSS>` (UTC) below `dir`, removes the oldest such folders
    /// beyond `keep_last_n`, and then removes every memory that is in the dump. Memories that are added meanwhile stay.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] when `keep_last_n` is 0; [`MemoryError::File`]; a conflict when memories change meanwhile.
    /// No memory was removed then; the backup stays.
    async fn back_up(&self, dir: &Path, keep_last_n: usize, origin: Origin) -> Result<BackUp, MemoryError>;
}
