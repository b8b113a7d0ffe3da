//! Textual memories of a cube, whatever keeps them.

use std::fmt;
use std::path::Path;

use async_trait::async_trait;

use crate::error::MemoryError;
use crate::filter::Filter;
use crate::graph::{Page, Paging};
use crate::id::MemoryId;
use crate::memory::MemoryItem;
use crate::message::Message;
use crate::queue::NewJob;
use crate::record::{Origin, Version};
pub use crate::search::{Found, Hit, SearchRequest, Signal};
use crate::tree_memory::TreeMemory;

/// How memories are added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddRequest {
    /// Who adds them, and why.
    pub origin: Origin,
    /// A second request with the same key stores nothing and returns the ids that the first one did.
    pub idempotency_key: Option<String>,
    /// Jobs that are in the queue exactly when the memories are stored ([`WriteBatch::jobs`](crate::WriteBatch)). Preference
    /// memories, which store in several writes, take none.
    pub jobs: Vec<NewJob>,
}

impl From<Origin> for AddRequest {
    fn from(origin: Origin) -> Self {
        Self { origin, idempotency_key: None, jobs: Vec::new() }
    }
}

/// Textual memories of one cube. Implementations hold their scope; access rights are checked by the caller.
#[async_trait]
pub trait TextMemory: fmt::Debug + Send + Sync {
    /// The backend's configuration key, for example `general_text`.
    fn backend(&self) -> &'static str;

    /// The same memory as a tree, when it is one.
    fn as_tree(&self) -> Option<&dyn TreeMemory> {
        None
    }

    /// Returns the memories that a language model finds in a conversation; nothing is stored. System messages are passed
    /// over.
    ///
    /// # Errors
    /// [`MemoryError::Unsupported`] when this memory cannot, or has no model; [`MemoryError::Invalid`] for a conversation
    /// that is too long for a bounded number of questions to the model; model errors.
    async fn extract(&self, messages: &[Message]) -> Result<Vec<MemoryItem>, MemoryError> {
        Err(MemoryError::Unsupported(format!(
            "`{}` cannot extract memories from the {} messages; add them as they are, or use `general_text`",
            self.backend(),
            messages.len()
        )))
    }

    /// Stores memories and returns their ids once they are durable, in the order given. A backend that knows a memory
    /// already may return the id of the known one instead.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for an item without text; a conflict for one with a known id; store and model errors.
    /// Nothing is stored then.
    async fn add(&self, items: Vec<MemoryItem>, request: AddRequest) -> Result<Vec<MemoryId>, MemoryError>;

    /// Returns the memories that fit a question, best first, with notes: what could not be done, and why nothing was found.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for a request that [`SearchRequest::check`] refuses or an `as_of` that is no time; store
    /// errors and errors of the encoder. A language model, a reranker or a retriever that fails is a note, unless it is
    /// configured to fail the search.
    async fn search(&self, request: &SearchRequest) -> Result<Found, MemoryError>;

    /// Returns one memory.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`].
    async fn get(&self, id: &MemoryId) -> Result<MemoryItem, MemoryError>;

    /// Returns the memories that exist among `ids`, in the order asked.
    ///
    /// # Errors
    /// Store errors.
    async fn get_by_ids(&self, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, MemoryError>;

    /// Returns every memory, oldest first.
    ///
    /// # Errors
    /// Store errors.
    async fn get_all(&self) -> Result<Vec<MemoryItem>, MemoryError>;

    /// Returns a page of the memories that pass a filter, newest first, and how many pass it on all pages. Those of a tree that
    /// are marked as deleted are left out. Memories whose record has an order for it read the page alone.
    ///
    /// # Errors
    /// Store errors.
    async fn page(&self, filter: &Filter, paging: Paging) -> Result<Page<MemoryItem>, MemoryError> {
        let mut all = self.get_all().await?;
        if *filter != Filter::Everything {
            all.retain(|item| filter.matches(&item.memory, &item.metadata.to_map()));
        }
        let total = all.len();
        Ok(Page { entries: all.into_iter().rev().skip(paging.offset).take(paging.limit).collect(), total })
    }

    /// Replaces text and metadata of a memory; its id stays, its version counts up, its earlier state is kept.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`]; [`MemoryError::Invalid`] for an empty text; store and model errors.
    async fn update(&self, id: &MemoryId, item: MemoryItem, origin: Origin) -> Result<MemoryItem, MemoryError>;

    /// As [`TextMemory::update`] of the memory that `known` is, but only while it is still of that version: a change that was
    /// worked out from an older one would take back what others have changed meanwhile.
    ///
    /// # Errors
    /// As [`TextMemory::update`]; [`StoreError::Conflict`](crate::StoreError::Conflict) when it has changed: read it again.
    async fn update_known(
        &self,
        known: &MemoryItem,
        item: MemoryItem,
        origin: Origin,
    ) -> Result<MemoryItem, MemoryError>;

    /// Removes memories and returns how many there were; unknown ids are no error.
    ///
    /// # Errors
    /// Store errors.
    async fn delete(&self, ids: &[MemoryId], origin: Origin) -> Result<usize, MemoryError>;

    /// Returns every state of a memory, oldest first, also of one that was removed: what it said, who changed it, when
    /// and why. Only the present state has its `metadata.history`.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`] when there never was such a memory; store errors.
    async fn history(&self, id: &MemoryId) -> Result<Vec<Version>, MemoryError>;

    /// Goes back to the last state of a memory that differs from the present one, and returns it: as a new version, so
    /// that the history stays. A memory that was removed comes back under its id, with the edges that its removal took away,
    /// but for those whose other end is gone by now.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`] when there never was such a memory; [`MemoryError::Invalid`] when there is no other
    /// state; a conflict when somebody changes it at the same time; store and model errors.
    async fn undo(&self, id: &MemoryId, origin: Origin) -> Result<MemoryItem, MemoryError>;

    /// Removes every memory and returns how many there were; the cube stays usable.
    ///
    /// # Errors
    /// Store errors.
    async fn delete_all(&self, origin: Origin) -> Result<usize, MemoryError>;

    /// Writes the memories to the memory's file in `dir`, in MemOS' format, whole or not at all.
    ///
    /// # Errors
    /// [`MemoryError::File`]; store errors.
    async fn dump(&self, dir: &Path) -> Result<(), MemoryError>;

    /// Reads the memory's file in `dir` and stores its memories in one write; known ids are replaced. Returns
    /// how many there were; a missing file holds none.
    ///
    /// # Errors
    /// [`MemoryError::File`] for a file that is not a dump; store and model errors. Nothing is stored then.
    async fn load(&self, dir: &Path, origin: Origin) -> Result<usize, MemoryError>;
}
