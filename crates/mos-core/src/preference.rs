//! Preferences of the users of a cube, whatever keeps them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use async_trait::async_trait;

use crate::error::MemoryError;
use crate::filter::Filter;
use crate::id::{MemoryId, SessionId, UserId};
use crate::memory::{MemoryItem, PreferenceType};
use crate::message::Message;
use crate::record::Origin;
use crate::search::Found;
use crate::text_memory::AddRequest;

/// Whose conversation it is that preferences are looked for in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConversationInfo {
    /// The user who speaks in it.
    pub user: Option<UserId>,
    /// The conversation.
    pub session: Option<SessionId>,
}

/// Preferences of one cube. Implementations hold their scope; access rights are checked by the caller.
///
/// A preference is a [`MemoryItem`] of type `PreferenceMemory`: its text says what is preferred, and
/// `metadata.preference_type` whether that was stated or concluded.
#[async_trait]
pub trait PreferenceMemory: fmt::Debug + Send + Sync {
    /// The backend's configuration key, for example `pref_text`.
    fn backend(&self) -> &'static str;

    /// Returns the preferences that show in a conversation; nothing is stored. System messages are passed over.
    ///
    /// # Errors
    /// [`MemoryError::Unsupported`] without a language model; [`MemoryError::Invalid`] for a conversation that is too long
    /// for a bounded number of questions to the model; model errors.
    async fn extract(&self, messages: &[Message], info: &ConversationInfo) -> Result<Vec<MemoryItem>, MemoryError>;

    /// Stores preferences and returns the id under which each is known now, in the order given: its own, or that of the
    /// preference that was there already and says the same. One that contradicts a known one archives that. Each is
    /// durable on its own.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for an item without text; a conflict for one with a known id; store errors and errors of
    /// the encoder. What comes before the item that failed is stored then.
    async fn add(&self, items: Vec<MemoryItem>, request: AddRequest) -> Result<Vec<MemoryId>, MemoryError>;

    /// Returns the activated preferences that pass the filter and fit a question: at most `top_k` stated ones, best first,
    /// followed by at most `top_k` concluded ones, best first. A reranker that failed is a note.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for an empty query; store and model errors.
    async fn search(&self, query: &str, top_k: usize, filter: &Filter) -> Result<Found, MemoryError>;

    /// Returns one preference, whatever its status.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], also for a memory that is no preference.
    async fn get(&self, id: &MemoryId) -> Result<MemoryItem, MemoryError>;

    /// Returns every preference that is not marked as deleted, oldest first; both types are always there.
    ///
    /// # Errors
    /// Store errors.
    async fn get_all(&self) -> Result<BTreeMap<PreferenceType, Vec<MemoryItem>>, MemoryError>;

    /// Returns a page of the preferences that pass the filter, oldest first, and how many there are in all. Pages count
    /// from 1; those outside the list are empty.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] when `page` or `page_size` is 0; store errors.
    async fn get_by_filter(
        &self,
        filter: &Filter,
        page: usize,
        page_size: usize,
    ) -> Result<(Vec<MemoryItem>, usize), MemoryError>;

    /// Removes preferences and returns how many there were; ids that are unknown or of other memories are no error.
    ///
    /// # Errors
    /// Store errors.
    async fn delete(&self, ids: &[MemoryId], origin: Origin) -> Result<usize, MemoryError>;

    /// Removes the preferences that pass the filter and returns how many there were.
    ///
    /// # Errors
    /// Store errors.
    async fn delete_by_filter(&self, filter: &Filter, origin: Origin) -> Result<usize, MemoryError>;

    /// Removes every preference and returns how many there were.
    ///
    /// # Errors
    /// Store errors.
    async fn delete_all(&self, origin: Origin) -> Result<usize, MemoryError>;

    /// The name of the memory's file in a dump.
    fn file_name(&self) -> &str;

    /// Writes the preferences to the memory's file in `dir`, in MemOS' format, whole or not at all.
    ///
    /// # Errors
    /// [`MemoryError::File`]; store errors.
    async fn dump(&self, dir: &Path) -> Result<(), MemoryError>;

    /// Reads the memory's file in `dir` and stores its preferences in one write; known ids are replaced. Returns how many
    /// there were; a missing file holds none.
    ///
    /// # Errors
    /// [`MemoryError::File`] for a file that is not a dump; store and model errors. Nothing is stored then.
    async fn load(&self, dir: &Path, origin: Origin) -> Result<usize, MemoryError>;
}
