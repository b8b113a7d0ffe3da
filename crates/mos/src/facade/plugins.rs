//! What plugins see of operations. Without plugins nothing is made for them.

use std::collections::HashSet;
use std::sync::Arc;

use mos_core::{CubeId, MemoryId, MemoryItem, Reading, SessionId, UserId};

use super::{CubeHandle, Mos};
use crate::error::{Error, Result};
use crate::plugin::{AddedMemories, AnsweredChat, HookContext};

impl Mos {
    /// Returns what plugins are told of an operation on these cubes; `None` when there are no plugins.
    pub(super) fn hook_context(
        &self,
        user: &UserId,
        cubes: impl IntoIterator<Item = CubeId>,
        session: Option<&SessionId>,
    ) -> Option<HookContext> {
        (!self.parts.plugins.is_empty()).then(|| HookContext::new(user, cubes, session))
    }

    /// As [`Mos::hook_context`], of one cube.
    pub(super) fn hook_context_of(
        &self,
        user: &UserId,
        cube: &CubeHandle,
        session: Option<&SessionId>,
    ) -> Option<HookContext> {
        self.hook_context(user, std::iter::once_with(|| cube.info().cube_id.clone()), session)
    }

    /// Lets plugins see memories that are about to be stored.
    pub(super) async fn before_store(
        &self,
        place: Option<&HookContext>,
        items: Vec<MemoryItem>,
    ) -> Result<Vec<MemoryItem>> {
        let Some(place) = place.filter(|_| !items.is_empty()) else { return Ok(items) };
        let known: HashSet<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
        let items = self.parts.plugins.before_store(place.clone(), items).await?;
        let given: HashSet<&MemoryId> = items.iter().map(|item| &item.id).collect();
        if given.len() < items.len() || !given.iter().all(|id| known.contains(*id)) {
            return Err(Error::Invalid(
                "a plugin has changed the ids of memories, or added some; it may only change what they say, or leave them out"
                    .to_owned(),
            ));
        }
        Ok(items)
    }

    /// Lets plugins see a memory that is about to take the place of another.
    pub(super) async fn before_update(&self, user: &UserId, cube: &CubeHandle, item: MemoryItem) -> Result<MemoryItem> {
        let Some(place) = self.hook_context_of(user, cube, None) else { return Ok(item) };
        let left_out = || {
            Error::Invalid(
                "a plugin has left out the memory that was to be stored; it should refuse it instead".to_owned(),
            )
        };
        self.before_store(Some(&place), vec![item]).await?.pop().ok_or_else(left_out)
    }

    /// Lets plugins see the memories that were read from raw input.
    pub(super) async fn before_store_reading(&self, place: Option<&HookContext>, reading: &mut Reading) -> Result<()> {
        if place.is_none() {
            return Ok(());
        }
        let ids = |items: &[MemoryItem]| -> HashSet<MemoryId> { items.iter().map(|item| item.id.clone()).collect() };
        let (raw, chunks) = (ids(&reading.raw), ids(&reading.raw_files));
        let mut all = std::mem::take(&mut reading.raw);
        all.append(&mut reading.memories);
        all.append(&mut reading.raw_files);
        let n_all = all.len();
        let all = self.before_store(place, all).await?;
        if all.len() < n_all && !(chunks.is_empty() && reading.files.is_empty()) {
            // The others name it, and the file would be read as a whole though a part of it is not there.
            return Err(Error::Invalid(
                "a plugin has left out a memory of a file; it should refuse the file instead".to_owned(),
            ));
        }
        for item in all {
            let shelf = match &item.id {
                id if raw.contains(id) => &mut reading.raw,
                id if chunks.contains(id) => &mut reading.raw_files,
                _ => &mut reading.memories,
            };
            shelf.push(item);
        }
        Ok(())
    }

    /// Shows plugins what was added.
    pub(super) async fn after_add(&self, place: HookContext, ids: &[MemoryId], items: Vec<MemoryItem>) {
        self.parts.plugins.after_add(place, AddedMemories { ids: ids.to_vec(), items }).await;
    }

    /// Shows plugins a chat that was answered, off its path. [`Mos::stop`] waits for it.
    pub(super) fn after_chat(&self, place: HookContext, answered: AnsweredChat) {
        let Some(task) = self.parts.sending.begin() else { return };
        let plugins = Arc::clone(&self.parts.plugins);
        tokio::spawn(async move {
            plugins.after_chat(place, answered).await;
            drop(task);
        });
    }
}
