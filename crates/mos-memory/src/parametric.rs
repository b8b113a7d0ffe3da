//! `lora`: the place of memory in model weights, which MemOS has and does not fill.

use std::path::Path;

use async_trait::async_trait;
use mos_core::{MemoryError, ParametricMemory};

use crate::file;

/// What MemOS writes in place of an adapter.
const CONTENT: &[u8] = b"Placeholder";

/// MemOS' placeholder: dumping writes its one word, loading reads nothing.
#[derive(Clone, Debug)]
pub struct LoraPlaceholder {
    file_name: String,
}

impl LoraPlaceholder {
    /// Returns the memory whose file in a dump has this name.
    pub fn new(file_name: impl Into<String>) -> Self {
        Self { file_name: file_name.into() }
    }
}

#[async_trait]
impl ParametricMemory for LoraPlaceholder {
    fn backend(&self) -> &'static str {
        "lora"
    }

    fn file_name(&self) -> &str {
        &self.file_name
    }

    async fn dump(&self, dir: &Path) -> Result<(), MemoryError> {
        file::write(&dir.join(&self.file_name), |_| Ok(CONTENT.to_vec())).await
    }

    async fn load(&self, _dir: &Path) -> Result<(), MemoryError> {
        Ok(())
    }
}
