//! The place of a textual memory in cubes that have none, because they only keep state or preferences.

use std::path::Path;

use async_trait::async_trait;
use mos_core::{
    AddRequest, CubeId, Found, MemoryError, MemoryId, MemoryItem, Message, Origin, SearchRequest, TextMemory, Version,
};

use crate::shelf::DEFAULT_FILE_NAME;

/// No textual memory: there is nothing to find, and what should be stored is refused.
#[derive(Clone, Debug)]
pub struct NoText {
    cube: CubeId,
}

impl NoText {
    /// The backend's configuration key.
    pub const BACKEND: &'static str = "uninitialized";

    /// Returns what stands in the place of a cube's textual memory.
    pub fn new(cube: CubeId) -> Self {
        Self { cube }
    }

    /// Returns why texts are not stored.
    pub fn refused(&self) -> MemoryError {
        MemoryError::Unsupported(format!(
            "cube `{}` has no textual memory; use another cube, or one with text_mem in its configuration",
            self.cube
        ))
    }
}

#[async_trait]
impl TextMemory for NoText {
    fn backend(&self) -> &'static str {
        Self::BACKEND
    }

    async fn extract(&self, _messages: &[Message]) -> Result<Vec<MemoryItem>, MemoryError> {
        Err(self.refused())
    }

    async fn add(&self, _items: Vec<MemoryItem>, _request: AddRequest) -> Result<Vec<MemoryId>, MemoryError> {
        Err(self.refused())
    }

    async fn search(&self, request: &SearchRequest) -> Result<Found, MemoryError> {
        request.check()?;
        let mut found = Found::default();
        found.note("the cube has no textual memory");
        Ok(found)
    }

    async fn get(&self, id: &MemoryId) -> Result<MemoryItem, MemoryError> {
        Err(MemoryError::NotFound(id.clone()))
    }

    async fn get_by_ids(&self, _ids: &[MemoryId]) -> Result<Vec<MemoryItem>, MemoryError> {
        Ok(Vec::new())
    }

    async fn get_all(&self) -> Result<Vec<MemoryItem>, MemoryError> {
        Ok(Vec::new())
    }

    async fn update(&self, id: &MemoryId, _item: MemoryItem, _origin: Origin) -> Result<MemoryItem, MemoryError> {
        Err(MemoryError::NotFound(id.clone()))
    }

    async fn update_known(
        &self,
        known: &MemoryItem,
        _item: MemoryItem,
        _origin: Origin,
    ) -> Result<MemoryItem, MemoryError> {
        Err(MemoryError::NotFound(known.id.clone()))
    }

    async fn delete(&self, _ids: &[MemoryId], _origin: Origin) -> Result<usize, MemoryError> {
        Ok(0)
    }

    async fn history(&self, id: &MemoryId) -> Result<Vec<Version>, MemoryError> {
        Err(MemoryError::NotFound(id.clone()))
    }

    async fn undo(&self, id: &MemoryId, _origin: Origin) -> Result<MemoryItem, MemoryError> {
        Err(MemoryError::NotFound(id.clone()))
    }

    async fn delete_all(&self, _origin: Origin) -> Result<usize, MemoryError> {
        Ok(0)
    }

    /// Writes nothing.
    async fn dump(&self, _dir: &Path) -> Result<(), MemoryError> {
        Ok(())
    }

    /// Refuses texts, which would be lost.
    async fn load(&self, dir: &Path, _origin: Origin) -> Result<usize, MemoryError> {
        if dir.join(DEFAULT_FILE_NAME).is_file() { Err(self.refused()) } else { Ok(0) }
    }
}
