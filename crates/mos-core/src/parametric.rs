//! Memory in the weights of a model, whatever keeps it.

use std::fmt;
use std::path::Path;

use async_trait::async_trait;

use crate::error::MemoryError;

/// The parametric memory of one cube.
#[async_trait]
pub trait ParametricMemory: fmt::Debug + Send + Sync {
    /// The backend's configuration key, for example `lora`.
    fn backend(&self) -> &'static str;

    /// The name of the memory's file in a dump.
    fn file_name(&self) -> &str;

    /// Writes the memory's file in `dir`, whole or not at all.
    ///
    /// # Errors
    /// [`MemoryError::File`].
    async fn dump(&self, dir: &Path) -> Result<(), MemoryError>;

    /// Reads the memory's file in `dir`; a missing file is no error.
    ///
    /// # Errors
    /// [`MemoryError::File`].
    async fn load(&self, dir: &Path) -> Result<(), MemoryError>;
}
