//! What every textual memory does in the same way with the record of its cube.

use std::collections::HashSet;
use std::sync::Arc;

use mos_core::memory::{ArchivedVersion, UpdateType};
use mos_core::{
    AddRequest, Clock, Edge, Embedder, EmbeddingSpace, EmbeddingWrite, Filter, MemoryError, MemoryId, MemoryItem,
    MemoryType, Origin, Page, Paging, RecordStore, Scope, Status, StoreError, Version, WriteBatch,
};

/// The name of a memory's file in a cube's directory, unless configured otherwise.
pub const DEFAULT_FILE_NAME: &str = "textual_memory.json";

/// How many earlier states travel inside an item; the record keeps all of them.
pub(crate) const MAX_HISTORY_IN_ITEM: usize = 20;

/// The longest text of one memory, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// How often an update starts anew because somebody else was faster.
const MAX_UPDATE_ATTEMPTS: usize = 16;

/// The memories of one cube, as the record holds them.
#[derive(Clone, Debug)]
pub struct Shelf {
    /// The cube.
    pub scope: Scope,
    /// Where its memories are.
    pub record: Arc<dyn RecordStore>,
    /// The time of changes.
    pub clock: Arc<dyn Clock>,
    /// Name of the memory's file in a dump.
    pub file_name: String,
}

impl Shelf {
    pub(crate) async fn get(&self, id: &MemoryId) -> Result<MemoryItem, MemoryError> {
        let found = self.record.nodes(&self.scope, std::slice::from_ref(id)).await?;
        found.into_iter().next().ok_or_else(|| MemoryError::NotFound(id.clone()))
    }

    pub(crate) async fn get_by_ids(&self, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, MemoryError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.record.nodes(&self.scope, ids).await?)
    }

    pub(crate) async fn get_all(&self) -> Result<Vec<MemoryItem>, MemoryError> {
        Ok(self.record.list(&self.scope, &textual(&Filter::Everything), Paging::ALL).await?.entries)
    }

    /// Returns a page, the memory that was stored last first, without preferences, and how many there are in all.
    pub(crate) async fn page(&self, filter: &Filter, paging: Paging) -> Result<Page<MemoryItem>, MemoryError> {
        let wanted = Filter::Not(Box::new(is_preference())).and(filter.clone());
        let total = self.record.count(&self.scope, &wanted).await?;
        Ok(Page { entries: self.record.latest(&self.scope, &wanted, paging).await?, total })
    }

    /// Refuses before any model runs when the cube was embedded by another model; returns the space of this one.
    pub(crate) async fn check_space(&self, embedder: &dyn Embedder) -> Result<EmbeddingSpace, MemoryError> {
        self.space_beside(embedder, self.record.embedding_space(&self.scope).await?).await
    }

    /// As [`Shelf::check_space`], for a cube whose vectors are known to be of the space `have`.
    pub(crate) async fn space_beside(
        &self,
        embedder: &dyn Embedder,
        have: Option<EmbeddingSpace>,
    ) -> Result<EmbeddingSpace, MemoryError> {
        let got = embedder.space().await?;
        match have {
            Some(have) if have != got => {
                Err(StoreError::EmbeddingSpace { cube: self.scope.cube.to_string(), have, got }.into())
            }
            _ => Ok(got),
        }
    }

    pub(crate) async fn delete(&self, ids: &[MemoryId], origin: Origin) -> Result<usize, MemoryError> {
        let batch = WriteBatch { delete: ids.to_vec(), ..WriteBatch::new(origin) };
        Ok(self.record.apply(&self.scope, batch).await?.n_deleted)
    }

    pub(crate) async fn delete_all(&self, origin: Origin) -> Result<usize, MemoryError> {
        let batch = match self.record.count(&self.scope, &is_preference()).await? {
            // Forgets the cube's encoder too.
            0 => WriteBatch { clear: true, ..WriteBatch::new(origin) },
            _ => {
                let delete = self.get_all().await?.into_iter().map(|item| item.id).collect();
                WriteBatch { delete, ..WriteBatch::new(origin) }
            }
        };
        Ok(self.record.apply(&self.scope, batch).await?.n_deleted)
    }

    /// Stores new items in one write and returns their ids, in order; with a key, at most once.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for an id that is taken.
    pub(crate) async fn add(
        &self,
        items: Vec<MemoryItem>,
        embeddings: Option<EmbeddingWrite>,
        request: AddRequest,
    ) -> Result<Vec<MemoryId>, MemoryError> {
        let batch = WriteBatch {
            idempotency_key: request.idempotency_key,
            absent: items.iter().map(|item| item.id.clone()).collect(),
            put: items,
            embeddings,
            jobs: request.jobs,
            ..WriteBatch::new(request.origin)
        };
        Ok(self.record.apply(&self.scope, batch).await?.put)
    }

    /// Replaces a memory by the next version of itself and returns that. Somebody who changes it at the same time is
    /// not overwritten unseen: the next version is then made from theirs.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for an empty or overlong text; [`MemoryError::NotFound`]; [`StoreError::Conflict`] when
    /// others keep changing it, and when it is not of the version that is `known`.
    pub(crate) async fn update(
        &self,
        id: &MemoryId,
        known: Option<i64>,
        item: MemoryItem,
        embeddings: Option<EmbeddingWrite>,
        origin: Origin,
    ) -> Result<MemoryItem, MemoryError> {
        check_text(&item.memory)?;
        let mut attempt = 1;
        loop {
            let old = self.get(id).await?;
            check_version(&old, known)?;
            let next = self.next_version(&old, item.clone(), UpdateType::Unrelated);
            let batch = WriteBatch {
                unchanged: vec![old],
                put: vec![next.clone()],
                embeddings: embeddings.clone(),
                ..WriteBatch::new(origin.clone())
            };
            match self.record.apply(&self.scope, batch).await {
                Ok(_) => return Ok(next),
                Err(StoreError::Conflict(_)) if attempt < MAX_UPDATE_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns every state of a memory, oldest first.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`] when there never was such a memory.
    pub(crate) async fn history(&self, id: &MemoryId) -> Result<Vec<Version>, MemoryError> {
        let versions = self.record.history(&self.scope, id).await?;
        if versions.is_empty() { Err(MemoryError::NotFound(id.clone())) } else { Ok(versions) }
    }

    /// Finds the state of a memory that undoing goes back to: the last one that differs from the present one.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`]; [`MemoryError::Invalid`] when there is no other state.
    pub(crate) async fn find_undo(&self, id: &MemoryId) -> Result<Undo, MemoryError> {
        let versions = self.history(id).await?;
        let present = versions.last().and_then(|version| version.item.clone());
        let mut states = versions.iter().rev().filter_map(|version| version.item.as_ref());
        let wanted = states.find(|state| present.as_ref().is_none_or(|present| !says_the_same(present, state)));
        let Some(wanted) = wanted.cloned() else {
            return Err(MemoryError::Invalid(format!(
                "memory `{id}` has no other state to go back to; `mos history {id}` shows what there is"
            )));
        };
        let before = match &present {
            Some(present) => present.clone(),
            // The state before the removal, with the history that only present states carry.
            None => {
                let mut last = wanted.clone();
                last.metadata.history = earlier_states(&versions);
                last
            }
        };
        let edges = match present {
            Some(_) => Vec::new(),
            None => versions.last().map(|removal| removal.edges.clone()).unwrap_or_default(),
        };
        Ok(Undo { next: self.next_version(&before, wanted, UpdateType::Unrelated), present, edges })
    }

    /// Writes what [`Shelf::find_undo`] has found.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the memory was changed meanwhile. Edges whose other end is gone are left out.
    pub(crate) async fn undo(
        &self,
        undo: Undo,
        embeddings: Option<EmbeddingWrite>,
        origin: Origin,
    ) -> Result<MemoryItem, MemoryError> {
        let Undo { present, next, edges } = undo;
        let mut put_edges = self.with_both_ends(&next.id, edges).await?;
        let batch = WriteBatch {
            absent: if present.is_none() { vec![next.id.clone()] } else { Vec::new() },
            unchanged: present.into_iter().collect(),
            put: vec![next.clone()],
            embeddings,
            ..WriteBatch::new(origin)
        };
        loop {
            let batch = WriteBatch { put_edges: put_edges.clone(), ..batch.clone() };
            let error = match self.record.apply(&self.scope, batch).await {
                Ok(_) => return Ok(next),
                Err(error) => error,
            };
            // Another memory at one of the edges may have been removed meanwhile.
            let left = self.with_both_ends(&next.id, put_edges.clone()).await?;
            if !matches!(error, StoreError::Invalid(_)) || left.len() == put_edges.len() {
                return Err(error.into());
            }
            put_edges = left;
        }
    }

    /// Leaves out the edges of a memory whose other end is gone.
    async fn with_both_ends(&self, id: &MemoryId, mut edges: Vec<Edge>) -> Result<Vec<Edge>, MemoryError> {
        if edges.is_empty() {
            return Ok(edges);
        }
        let ends: HashSet<MemoryId> =
            edges.iter().flat_map(|edge| [&edge.source, &edge.target]).filter(|end| *end != id).cloned().collect();
        let ends: Vec<MemoryId> = ends.into_iter().collect();
        let there: HashSet<MemoryId> = self.get_by_ids(&ends).await?.into_iter().map(|item| item.id).collect();
        edges.retain(|edge| [&edge.source, &edge.target].into_iter().all(|end| end == id || there.contains(end)));
        Ok(edges)
    }

    /// Checks new items and fills in the time of their making.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for an empty or overlong text, or an id that is given twice.
    pub(crate) fn prepare_new(&self, items: &mut [MemoryItem]) -> Result<(), MemoryError> {
        let mut sorted: Vec<&MemoryId> = items.iter().map(|item| &item.id).collect();
        sorted.sort();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(MemoryError::Invalid(format!("memory id `{}` is given twice", pair[0])));
        }
        for item in items.iter_mut() {
            check_text(&item.memory)?;
            item.metadata.updated_at.get_or_insert_with(|| self.clock.now_text());
        }
        Ok(())
    }

    /// Returns the next state of a memory: the new text and metadata under the old id, one version on, with the
    /// old state in its history and why it is old.
    pub(crate) fn next_version(&self, old: &MemoryItem, mut item: MemoryItem, why: UpdateType) -> MemoryItem {
        let now = self.clock.now_text();
        let mut history = old.metadata.history.clone();
        history.push(archived(old, why, &now));
        bound_history(&mut history);
        item.id = old.id.clone();
        item.metadata.version = old.metadata.version + 1;
        item.metadata.history = history;
        item.metadata.updated_at = Some(now);
        item
    }
}

/// Refuses to change a memory that is of another version than the one that is known.
///
/// # Errors
/// [`StoreError::Conflict`].
pub(crate) fn check_version(old: &MemoryItem, known: Option<i64>) -> Result<(), StoreError> {
    if known.is_none_or(|version| version == old.metadata.version) {
        return Ok(());
    }
    Err(StoreError::Conflict(format!("memory `{}` was changed meanwhile; read it again and try again", old.id)))
}

/// A way back to an earlier state of a memory.
#[derive(Debug)]
pub(crate) struct Undo {
    /// The present state; `None` when the memory was removed.
    pub(crate) present: Option<MemoryItem>,
    /// The earlier state as the next version.
    pub(crate) next: MemoryItem,
    /// Those that the removal took away.
    pub(crate) edges: Vec<Edge>,
}

/// Whether two states differ in nothing but the numbers and times of changes.
fn says_the_same(left: &MemoryItem, right: &MemoryItem) -> bool {
    let core = |item: &MemoryItem| {
        let mut metadata = item.metadata.clone();
        metadata.version = 1;
        metadata.history.clear();
        metadata.updated_at = None;
        (item.memory.clone(), metadata)
    };
    core(left) == core(right)
}

/// Returns a state as it stands in the history inside later ones.
fn archived(state: &MemoryItem, why: UpdateType, at: &str) -> ArchivedVersion {
    ArchivedVersion {
        version: state.metadata.version,
        is_fast: state.metadata.is_fast.unwrap_or(false),
        memory: state.memory.clone(),
        update_type: why,
        archived_memory_id: None,
        created_at: at.to_owned(),
        timespec: None,
        memory_form: None,
    }
}

/// Returns the states before the last one of a removed memory, as they stood inside it.
fn earlier_states(versions: &[Version]) -> Vec<ArchivedVersion> {
    let states: Vec<(&MemoryItem, &str)> =
        versions.iter().filter_map(|version| Some((version.item.as_ref()?, version.at.as_str()))).collect();
    // A state became an earlier one when the next one was written.
    let pairs = states.windows(2).map(|pair| archived(pair[0].0, UpdateType::Unrelated, pair[1].1));
    let mut history: Vec<ArchivedVersion> = pairs.collect();
    bound_history(&mut history);
    history
}

fn bound_history(history: &mut Vec<ArchivedVersion>) {
    let surplus = history.len().saturating_sub(MAX_HISTORY_IN_ITEM);
    history.drain(..surplus);
}

/// Only textual memories that take part in searches.
pub(crate) fn activated(filter: &Filter) -> Filter {
    Filter::equals("status", Status::Activated.as_str()).and(textual(filter))
}

/// No preferences, which stand in the same scope, unless the filter itself speaks of the types of memories.
pub(crate) fn textual(filter: &Filter) -> Filter {
    if speaks_of_types(filter) {
        return filter.clone();
    }
    Filter::Not(Box::new(is_preference())).and(filter.clone())
}

fn is_preference() -> Filter {
    Filter::equals(MEMORY_TYPE, MemoryType::Preference.as_str())
}

const MEMORY_TYPE: &str = "memory_type";

fn speaks_of_types(filter: &Filter) -> bool {
    match filter {
        Filter::Everything => false,
        Filter::Is(condition) => condition.field == MEMORY_TYPE,
        Filter::All(parts) | Filter::Any(parts) => parts.iter().any(speaks_of_types),
        Filter::Not(part) => speaks_of_types(part),
    }
}

pub(crate) fn check_query(query: &str) -> Result<(), MemoryError> {
    if query.trim().is_empty() {
        return Err(MemoryError::Invalid("the query is empty; ask for something".to_owned()));
    }
    Ok(())
}

pub(crate) fn check_text(text: &str) -> Result<(), MemoryError> {
    if text.trim().is_empty() {
        return Err(MemoryError::Invalid("the text of the memory is empty; give it some words".to_owned()));
    }
    if text.len() > MAX_TEXT_BYTES {
        return Err(MemoryError::Invalid(format!(
            "the text of the memory has {} bytes, at most {MAX_TEXT_BYTES} are kept in one memory; split it",
            text.len()
        )));
    }
    Ok(())
}
