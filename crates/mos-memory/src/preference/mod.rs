//! `pref_text`: what users like and how, stated or concluded.
//!
//! Preferences stand in the scope of their cube, as memories of type `PreferenceMemory`, and every read of textual
//! memories leaves that type out unless it is asked for. So there is one wall between tenants, and what works on a cube
//! whole (deleting it, moving it to other stores, embedding it anew, history) covers its preferences without knowing of
//! them. A scope of their own would have to be named, opened, closed and moved together with the cube's by every store.
//!
//! Invariant: a preference that was handed in is kept, or one that says the same knows its sources. No failure of a
//! language model loses it.

mod add;
mod dump;
mod extract;
mod item;
mod judge;
mod locks;
mod search;
mod words;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::graph::Paging;
use mos_core::{
    AddRequest, ChatModel, ConversationInfo, Embedder, EmbeddingSpace, Filter, Found, IdSource, MemoryError, MemoryId,
    MemoryItem, MemoryType, Message, Origin, PreferenceMemory, PreferenceType, Reranker, Status, StoreError,
    VectorStore, WriteBatch,
};
use tracing::instrument;

use crate::extract::no_model;
use crate::shelf::Shelf;

pub use locks::AddLocks;
use words::same_words;

/// The name of the memory's file in a cube's directory, unless configured otherwise.
pub const PREFERENCE_FILE_NAME: &str = "preference_textual_memories.json";

/// How often a deletion starts anew because somebody changed what it is about.
const MAX_DELETE_ATTEMPTS: usize = 8;

/// How it is found out that a new preference is known already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddMode {
    /// A language model compares the new preference with the nearest known one.
    #[default]
    Fast,
    /// A language model looks at all near ones and says what to write.
    Fine,
}

/// What a [`PrefText`] is made of.
#[derive(Clone, Debug)]
pub struct PrefTextParts {
    /// The cube's record, and the name of the memory's file in a dump.
    pub shelf: Shelf,
    /// Finds near vectors; follows the same record.
    pub vectors: Arc<dyn VectorStore>,
    /// Turns texts into vectors; the encoder of the cube.
    pub embedder: Arc<dyn Embedder>,
    /// Puts what was found in order; without one the similarity does.
    pub reranker: Option<Arc<dyn Reranker>>,
    /// Finds preferences in conversations and compares them. Without one nothing can be extracted, and only preferences
    /// of the same words are taken for the same.
    pub model: Option<Arc<dyn ChatModel>>,
    /// How new preferences are compared with known ones.
    pub mode: AddMode,
    /// Names new preferences.
    pub ids: Arc<dyn IdSource>,
    /// Shared by all memories over the same record.
    pub locks: Arc<AddLocks>,
}

/// The preferences of one cube.
#[derive(Debug)]
pub struct PrefText {
    parts: PrefTextParts,
}

impl PrefText {
    /// Returns the preferences of a cube.
    pub fn new(parts: PrefTextParts) -> Self {
        Self { parts }
    }

    fn shelf(&self) -> &Shelf {
        &self.parts.shelf
    }

    /// As [`Shelf::check_space`].
    async fn checked_space(&self) -> Result<EmbeddingSpace, MemoryError> {
        self.shelf().check_space(&*self.parts.embedder).await
    }

    /// Returns the preferences that pass a filter, oldest first.
    async fn list(&self, filter: &Filter) -> Result<Vec<MemoryItem>, MemoryError> {
        let filter = of_preferences(filter);
        Ok(self.shelf().record.list(&self.shelf().scope, &filter, Paging::ALL).await?.entries)
    }

    /// Removes what `find` returns, as it was found, in one write.
    async fn delete_found<F>(&self, find: impl Fn() -> F, origin: Origin) -> Result<usize, MemoryError>
    where
        F: Future<Output = Result<Vec<MemoryItem>, MemoryError>>,
    {
        let mut attempt = 1;
        loop {
            let found = find().await?;
            if found.is_empty() {
                return Ok(0);
            }
            let delete = found.iter().map(|item| item.id.clone()).collect();
            let batch = WriteBatch { unchanged: found, delete, ..WriteBatch::new(origin.clone()) };
            match self.shelf().record.apply(&self.shelf().scope, batch).await {
                Ok(receipt) => return Ok(receipt.n_deleted),
                Err(StoreError::Conflict(_)) if attempt < MAX_DELETE_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn known(&self, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, MemoryError> {
        let mut items = self.shelf().get_by_ids(ids).await?;
        items.retain(is_preference);
        Ok(items)
    }
}

/// Only preferences.
fn of_preferences(filter: &Filter) -> Filter {
    Filter::equals("memory_type", MemoryType::Preference.as_str()).and(filter.clone())
}

fn is_preference(item: &MemoryItem) -> bool {
    item.metadata.memory_type() == Some(MemoryType::Preference)
}

/// Only preferences that take part in searches.
fn activated(filter: &Filter) -> Filter {
    of_preferences(&Filter::equals("status", Status::Activated.as_str()).and(filter.clone()))
}

#[async_trait]
impl PreferenceMemory for PrefText {
    fn backend(&self) -> &'static str {
        "pref_text"
    }

    #[instrument(skip_all, fields(cube = %self.shelf().scope.cube, n_messages = messages.len()))]
    async fn extract(&self, messages: &[Message], info: &ConversationInfo) -> Result<Vec<MemoryItem>, MemoryError> {
        let making = extract::Making {
            model: self.parts.model.as_deref().ok_or_else(|| no_model(self.backend()))?,
            ids: self.parts.ids.as_ref(),
            clock: self.shelf().clock.as_ref(),
            info,
            cube: self.shelf().scope.cube.as_str(),
        };
        extract::preferences(&making, messages).await
    }

    #[instrument(skip_all, fields(cube = %self.shelf().scope.cube, n_items = items.len()))]
    async fn add(&self, items: Vec<MemoryItem>, request: AddRequest) -> Result<Vec<MemoryId>, MemoryError> {
        self.add_items(items, request).await
    }

    #[instrument(skip_all, fields(cube = %self.shelf().scope.cube, top_k))]
    async fn search(&self, query: &str, top_k: usize, filter: &Filter) -> Result<Found, MemoryError> {
        self.find(query, top_k, filter).await
    }

    async fn get(&self, id: &MemoryId) -> Result<MemoryItem, MemoryError> {
        let item = self.shelf().get(id).await?;
        if is_preference(&item) { Ok(item) } else { Err(MemoryError::NotFound(id.clone())) }
    }

    async fn get_all(&self) -> Result<BTreeMap<PreferenceType, Vec<MemoryItem>>, MemoryError> {
        let present = Filter::Not(Box::new(Filter::equals("status", Status::Deleted.as_str())));
        let mut all = BTreeMap::from([(PreferenceType::Explicit, Vec::new()), (PreferenceType::Implicit, Vec::new())]);
        for item in self.list(&present).await? {
            all.entry(item::preference_type(&item)).or_default().push(item);
        }
        Ok(all)
    }

    async fn get_by_filter(
        &self,
        filter: &Filter,
        page: usize,
        page_size: usize,
    ) -> Result<(Vec<MemoryItem>, usize), MemoryError> {
        if page == 0 || page_size == 0 {
            return Err(MemoryError::Invalid("pages count from 1 and hold at least 1 preference".to_owned()));
        }
        let paging = Paging { offset: (page - 1).saturating_mul(page_size), limit: page_size };
        let page = self.shelf().record.list(&self.shelf().scope, &of_preferences(filter), paging).await?;
        Ok((page.entries, page.total))
    }

    async fn delete(&self, ids: &[MemoryId], origin: Origin) -> Result<usize, MemoryError> {
        self.delete_found(|| self.known(ids), origin).await
    }

    async fn delete_by_filter(&self, filter: &Filter, origin: Origin) -> Result<usize, MemoryError> {
        self.delete_found(|| self.list(filter), origin).await
    }

    async fn delete_all(&self, origin: Origin) -> Result<usize, MemoryError> {
        self.delete_by_filter(&Filter::Everything, origin).await
    }

    fn file_name(&self) -> &str {
        &self.shelf().file_name
    }

    async fn dump(&self, dir: &Path) -> Result<(), MemoryError> {
        self.dump_to(dir).await
    }

    async fn load(&self, dir: &Path, origin: Origin) -> Result<usize, MemoryError> {
        self.load_from(dir, origin).await
    }
}
