//! `tree_text`: memories on shelves, connected by edges, found as [`GeneralText`](crate::GeneralText) finds them.
//!
//! - `shape`: what a memory must have to stand in a tree.
//! - `add`: one batch per call, with `duplicates` (what is known already), `working` (copies in working memory) and
//!   `limits` (how many memories a shelf takes).
//! - `change`: updates, undo, deletions; copies follow their originals.
//! - `shelves`: which memories stand on which shelf, in memory, following the record's feed.
//! - `graph`, `files`: edges, subgraphs, chunks of files. `dump`, `backup`: files on disk.
//!
//! Invariant: a working copy ([`MemoryItem::working_copy_of`]) has no embedding, so that no search finds it beside its
//! original and no conversation has a turn twice.

mod add;
mod backup;
mod change;
mod dump;
mod duplicates;
mod files;
mod graph;
mod limits;
mod shape;
mod shelves;
mod working;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{
    AddRequest, Analyzer, BackUp, Edge, Embedder, Filter, Found, GraphPage, IdSource, MemoryError, MemoryId,
    MemoryItem, MemoryType, Origin, Page, Paging, RecordStore, RelevantSubgraph, Scope, SearchRequest, SubgraphRequest,
    TextMemory, TreeMemory, VectorStore, Version,
};
use tracing::{Span, instrument};

use crate::finder::Finder;
use crate::recall::Recall;
use crate::retrieve::Retrieval;
use crate::shelf::Shelf;

pub use shelves::TreeShelves;

/// How many memories working memory takes unless something else is configured.
const DEFAULT_WORKING_LIMIT: usize = 20;

/// How often a write starts anew because somebody else was faster.
const MAX_ATTEMPTS: usize = 16;

/// What a [`TreeText`] is made of.
#[derive(Clone, Debug)]
pub struct TreeTextParts {
    /// The cube's record.
    pub shelf: Shelf,
    /// Ranks memories for a question; follows the same record.
    pub recall: Arc<Recall>,
    /// Finds memories that mean the same; follows the same record.
    pub vectors: Arc<dyn VectorStore>,
    /// Turns texts into vectors.
    pub embedder: Arc<dyn Embedder>,
    /// Turns texts into the terms that are compared.
    pub analyzer: Arc<dyn Analyzer>,
    /// Makes the ids of working copies.
    pub ids: Arc<dyn IdSource>,
    /// What stands on the shelves; one for all cubes of the record.
    pub shelves: Arc<TreeShelves>,
    /// How it behaves.
    pub options: TreeOptions,
}

/// Whether memories are finished when they are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TreeMode {
    /// They are.
    #[default]
    Sync,
    /// They are raw, found at once, and refined later: they get the tag `mode:fast`.
    Async,
}

/// How a [`TreeText`] behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeOptions {
    /// Whether added memories are finished.
    pub mode: TreeMode,
    /// The most memories per type; beyond it the oldest go, with their history kept. Working memory takes 20 unless it is
    /// named; types that are not named have no limit.
    pub limits: BTreeMap<MemoryType, usize>,
    /// From which cosine similarity on two memories of the same words count as one.
    pub near_duplicate: f32,
    /// Whether memories that are read carry their embeddings.
    pub include_embedding: bool,
    /// Whether dumps hold embeddings.
    pub dump_embeddings: bool,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self {
            mode: TreeMode::Sync,
            limits: BTreeMap::new(),
            near_duplicate: 0.95,
            include_embedding: false,
            dump_embeddings: true,
        }
    }
}

impl TreeOptions {
    /// How many memories working memory takes.
    fn working_limit(&self) -> usize {
        self.limits.get(&MemoryType::Working).copied().unwrap_or(DEFAULT_WORKING_LIMIT)
    }
}

/// Memories on shelves, with edges between them.
///
/// What is added to long-term or user memory keeps its id, and a copy of it stands in working memory until newer memories
/// push it out. What is known already is not stored again: the known memory gets the new sources.
#[derive(Debug)]
pub struct TreeText {
    inner: Finder,
    vectors: Arc<dyn VectorStore>,
    analyzer: Arc<dyn Analyzer>,
    ids: Arc<dyn IdSource>,
    shelves: Arc<TreeShelves>,
    options: TreeOptions,
}

impl TreeText {
    /// Returns the memory of a cube.
    pub fn new(parts: TreeTextParts) -> Self {
        let TreeTextParts { shelf, recall, vectors, embedder, analyzer, ids, shelves, options } = parts;
        Self { inner: Finder::new(shelf, recall, embedder), vectors, analyzer, ids, shelves, options }
    }

    /// Lets models and services take part in searches. Without them memories are found by recall alone.
    #[must_use]
    pub fn with_retrieval(mut self, retrieval: Retrieval) -> Self {
        self.inner.retrieval = retrieval;
        self
    }

    fn shelf(&self) -> &Shelf {
        &self.inner.shelf
    }

    fn record(&self) -> &dyn RecordStore {
        self.inner.shelf.record.as_ref()
    }

    fn scope(&self) -> &Scope {
        &self.inner.shelf.scope
    }

    /// Returns memories as readers get them.
    async fn shown(&self, mut items: Vec<MemoryItem>) -> Result<Vec<MemoryItem>, MemoryError> {
        if self.options.include_embedding {
            let mut vectors = self.inner.vectors_of(&items).await?;
            for item in &mut items {
                let vector = vectors.remove(&item.id);
                if let Some(fields) = item.metadata.tree_mut() {
                    fields.embedding = vector;
                }
            }
        }
        Ok(items)
    }

    /// Returns the memories that fit a question. Asked for working memory, those that it shows.
    async fn find(&self, request: &SearchRequest) -> Result<Found, MemoryError> {
        let is_own = |item: &MemoryItem| item.working_copy_of().is_none();
        if !request.types.contains(&MemoryType::Working) {
            return self.inner.find(request, &is_own).await;
        }
        let shown: HashSet<MemoryId> = self.shelved().await?.shown().into_keys().collect();
        let widened = SearchRequest { types: Vec::new(), ..request.clone() };
        let types = request.types.clone();
        let is_meant = move |item: &MemoryItem| {
            let is_of_type = item.metadata.memory_type().is_some_and(|kind| types.contains(&kind));
            is_own(item) && (is_of_type || shown.contains(&item.id))
        };
        self.inner.find(&widened, &is_meant).await
    }
}

#[async_trait]
impl TextMemory for TreeText {
    fn backend(&self) -> &'static str {
        "tree_text"
    }

    fn as_tree(&self) -> Option<&dyn TreeMemory> {
        Some(self)
    }

    #[instrument(skip_all, fields(cube = %self.scope().cube, n_items = items.len()))]
    async fn add(&self, items: Vec<MemoryItem>, request: AddRequest) -> Result<Vec<MemoryId>, MemoryError> {
        let items = self.prepared(items, self.options.mode)?;
        self.store(items, Vec::new(), request).await
    }

    #[instrument(skip_all, fields(cube = %self.scope().cube, top_k = request.top_k, n_hits))]
    async fn search(&self, request: &SearchRequest) -> Result<Found, MemoryError> {
        let found = self.find(request).await?;
        Span::current().record("n_hits", found.hits.len());
        Ok(found)
    }

    async fn get(&self, id: &MemoryId) -> Result<MemoryItem, MemoryError> {
        let found = self.shown(vec![self.shelf().get(id).await?]).await?;
        found.into_iter().next().ok_or_else(|| MemoryError::NotFound(id.clone()))
    }

    async fn get_by_ids(&self, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, MemoryError> {
        self.shown(self.shelf().get_by_ids(ids).await?).await
    }

    async fn get_all(&self) -> Result<Vec<MemoryItem>, MemoryError> {
        self.shown(self.shelf().get_all().await?).await
    }

    async fn page(&self, filter: &Filter, paging: Paging) -> Result<Page<MemoryItem>, MemoryError> {
        self.newest(filter, paging).await
    }

    async fn update(&self, id: &MemoryId, item: MemoryItem, origin: Origin) -> Result<MemoryItem, MemoryError> {
        self.replace(id, None, item, origin).await
    }

    async fn update_known(
        &self,
        known: &MemoryItem,
        item: MemoryItem,
        origin: Origin,
    ) -> Result<MemoryItem, MemoryError> {
        // Working copies count by themselves.
        let version = known.working_copy_of().is_none().then_some(known.metadata.version);
        self.replace(&known.id, version, item, origin).await
    }

    async fn delete(&self, ids: &[MemoryId], origin: Origin) -> Result<usize, MemoryError> {
        self.remove(ids, origin).await
    }

    async fn history(&self, id: &MemoryId) -> Result<Vec<Version>, MemoryError> {
        self.shelf().history(id).await
    }

    async fn undo(&self, id: &MemoryId, origin: Origin) -> Result<MemoryItem, MemoryError> {
        self.go_back(id, origin).await
    }

    async fn delete_all(&self, origin: Origin) -> Result<usize, MemoryError> {
        self.shelf().delete_all(origin).await
    }

    async fn dump(&self, dir: &Path) -> Result<(), MemoryError> {
        self.write_dump(dir).await.map(drop)
    }

    async fn load(&self, dir: &Path, origin: Origin) -> Result<usize, MemoryError> {
        self.read_dump(dir, origin).await
    }
}

#[async_trait]
impl TreeMemory for TreeText {
    async fn graph(&self, filter: &Filter, paging: Paging) -> Result<GraphPage, MemoryError> {
        self.graph_page(filter, paging).await
    }

    async fn working_memory(&self) -> Result<Vec<MemoryItem>, MemoryError> {
        let newest_first = self.shelved().await?.newest_working();
        self.shown(self.shelf().get_by_ids(&newest_first).await?).await
    }

    #[instrument(skip_all, fields(cube = %self.scope().cube, n_items = items.len()))]
    async fn replace_working_memory(
        &self,
        items: Vec<MemoryItem>,
        origin: Origin,
    ) -> Result<Vec<MemoryItem>, MemoryError> {
        self.refresh_working(items, origin).await?;
        self.working_memory().await
    }

    async fn sizes(&self) -> Result<BTreeMap<MemoryType, usize>, MemoryError> {
        self.counts().await
    }

    async fn relevant_subgraph(&self, request: &SubgraphRequest) -> Result<RelevantSubgraph, MemoryError> {
        self.subgraph_of(request).await
    }

    async fn soft_delete(
        &self,
        ids: &[MemoryId],
        evolve_to: &[MemoryId],
        origin: Origin,
    ) -> Result<usize, MemoryError> {
        self.mark_deleted(ids, evolve_to, origin).await
    }

    async fn delete_by_filter(&self, filter: &Filter, origin: Origin) -> Result<usize, MemoryError> {
        if *filter == Filter::Everything {
            let text = "this filter lets everything pass; delete everything with delete_all, or name what is meant";
            return Err(MemoryError::Invalid(text.to_owned()));
        }
        self.remove_passing(filter, origin).await
    }

    async fn delete_by_files(&self, file_ids: &[String], origin: Origin) -> Result<usize, MemoryError> {
        self.remove_of_files(file_ids, origin).await
    }

    #[instrument(skip_all, fields(cube = %self.scope().cube, n_items = items.len()))]
    async fn add_raw_files(&self, items: Vec<MemoryItem>, request: AddRequest) -> Result<Vec<MemoryId>, MemoryError> {
        self.store_raw_files(items, request).await
    }

    async fn add_edges(&self, edges: Vec<Edge>, origin: Origin) -> Result<(), MemoryError> {
        self.connect(edges, origin).await
    }

    #[instrument(skip_all, fields(cube = %self.scope().cube), err(level = "debug"))]
    async fn back_up(&self, dir: &Path, keep_last_n: usize, origin: Origin) -> Result<BackUp, MemoryError> {
        self.dump_and_remove(dir, keep_last_n, origin).await
    }
}
