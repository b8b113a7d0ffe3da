//! Activation memory: computed model state that is kept and put before a conversation.

use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::MemoryError;
use crate::id::ActivationId;
use crate::message::Message;
use crate::record::Scope;

/// What an activation memory holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivationStats {
    /// Kept caches.
    pub n_items: usize,
    /// Tokens in them.
    pub n_tokens: usize,
    /// Bytes in memory.
    pub n_bytes: usize,
}

/// Computed model state, kept per cube. No caller ever sees a tensor.
///
/// A kept cache is immutable: no conversation that starts from it can change it.
#[async_trait]
pub trait ActivationMemory: fmt::Debug + Send + Sync {
    /// Computes and keeps the state after `messages` (without a generation prompt) and returns its name, which
    /// [`ChatRequest::prefix`](crate::chat::ChatRequest::prefix) takes. The same messages of the same scope give
    /// the same name and are computed once.
    ///
    /// # Errors
    /// [`MemoryError::Invalid`] for no messages; [`MemoryError::Model`].
    async fn promote(&self, scope: &Scope, messages: &[Message]) -> Result<ActivationId, MemoryError>;

    /// Forgets a cache and returns whether it was there.
    ///
    /// # Errors
    /// [`MemoryError`] when files cannot be removed.
    async fn delete(&self, scope: &Scope, id: &ActivationId) -> Result<bool, MemoryError>;

    /// Returns what the scope's activation memory holds.
    ///
    /// # Errors
    /// [`MemoryError`] when it cannot be read.
    async fn stats(&self, scope: &Scope) -> Result<ActivationStats, MemoryError>;

    /// Returns the fingerprints of the models that computed the scope's caches, sorted, as the backend writes them; none where it
    /// keeps no state of its own.
    ///
    /// # Errors
    /// [`MemoryError`] when it cannot be read.
    async fn fingerprints(&self, scope: &Scope) -> Result<Vec<String>, MemoryError> {
        let _ = scope;
        Ok(Vec::new())
    }

    /// Writes the scope's caches, with the messages they were made from, to `file` and, where that is not enough, to a
    /// folder beside it that is named after it.
    ///
    /// # Errors
    /// [`MemoryError::File`].
    async fn dump(&self, scope: &Scope, file: &Path) -> Result<(), MemoryError>;

    /// Reads what was dumped to `file`; caches of another model are computed anew from their messages. Returns how
    /// many there were; a file that is missing holds none.
    ///
    /// # Errors
    /// [`MemoryError::File`]; [`MemoryError::Model`].
    async fn load(&self, scope: &Scope, file: &Path) -> Result<usize, MemoryError>;
}
