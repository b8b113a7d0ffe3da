//! Looking at what was made of memories before it is stored.

use std::fmt;

use async_trait::async_trait;
use mos_core::{MemoryError, MemoryItem};

use super::run::Run;

/// Looks at what a model made of memories before it is stored.
#[async_trait]
pub trait MadeCheck: fmt::Debug + Send + Sync {
    /// Returns the memory; one that nobody is to find is kept apart ([`MemoryItem::quarantine`]). `before` is what the memories
    /// say that it was made of.
    ///
    /// # Errors
    /// [`MemoryError`] when it cannot be looked at; it is not stored then.
    async fn checked(&self, before: &str, made: MemoryItem) -> Result<MemoryItem, MemoryError>;
}

impl Run<'_> {
    /// What was made of some memories, kept apart when it belongs there.
    pub(super) async fn looked_at(&self, of: &[&MemoryItem], made: MemoryItem) -> Result<MemoryItem, MemoryError> {
        let Some(check) = &self.parts.check else { return Ok(made) };
        let before: Vec<&str> = of.iter().map(|item| item.memory.as_str()).collect();
        check.checked(&before.join("\n"), made).await
    }
}
