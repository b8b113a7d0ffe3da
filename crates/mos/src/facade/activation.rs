//! The activation memory of one cube.

use std::path::Path;
use std::sync::Arc;

use mos_core::{ActivationId, ActivationMemory, ActivationStats, Message, Scope};

use crate::error::Result;

/// Kept model state of one cube; other cubes' is out of reach.
#[derive(Clone, Debug)]
pub struct CubeActivation {
    memory: Arc<dyn ActivationMemory>,
    scope: Scope,
}

impl CubeActivation {
    pub(crate) fn new(memory: Arc<dyn ActivationMemory>, scope: Scope) -> Self {
        Self { memory, scope }
    }

    /// Computes and keeps the state after `messages` and returns its name; see [`ActivationMemory::promote`].
    ///
    /// # Errors
    /// As [`ActivationMemory::promote`].
    pub async fn promote(&self, messages: &[Message]) -> Result<ActivationId> {
        Ok(self.memory.promote(&self.scope, messages).await?)
    }

    /// Forgets a state and returns whether it was there.
    ///
    /// # Errors
    /// As [`ActivationMemory::delete`].
    pub async fn delete(&self, id: &ActivationId) -> Result<bool> {
        Ok(self.memory.delete(&self.scope, id).await?)
    }

    /// Returns how much is kept.
    ///
    /// # Errors
    /// As [`ActivationMemory::stats`].
    pub async fn stats(&self) -> Result<ActivationStats> {
        Ok(self.memory.stats(&self.scope).await?)
    }

    /// Writes the kept states to a folder.
    ///
    /// # Errors
    /// As [`ActivationMemory::dump`].
    pub async fn dump(&self, dir: &Path) -> Result<()> {
        Ok(self.memory.dump(&self.scope, dir).await?)
    }

    /// Reads states from a folder and returns how many there were.
    ///
    /// # Errors
    /// As [`ActivationMemory::load`].
    pub async fn load(&self, dir: &Path) -> Result<usize> {
        Ok(self.memory.load(&self.scope, dir).await?)
    }
}
