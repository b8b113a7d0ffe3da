//! What was removed, or marked as deleted, and is told again.

use std::collections::HashSet;

use mos_core::{MemoryError, MemoryId, MemoryItem, Origin, Reading, Status, StoreError};
use mos_reader::{Held, Stored, store_over};

use super::{CubeHandle, Mos};
use crate::error::Result;

/// How many memories of an input are looked back at, to find out whether it was removed.
const MAX_LOOKED_BACK: usize = 16;

/// How often it is tried when others change the same memories.
const MAX_ATTEMPTS: usize = 3;

/// The field of memories that a deletion of a name has marked.
const DELETION: &str = "delete_record_id";

/// Whether a reading speaks of files. Of those the memory decides by what it holds of them what is stored, and what
/// somebody marked as deleted by itself stays so: only the deletion of a whole cube ends.
fn is_of_files(reading: &Reading) -> bool {
    !reading.raw_files.is_empty() || !reading.files.is_empty()
}

/// The memories of a reading, however they were made.
fn ids_of(reading: &Reading) -> Vec<MemoryId> {
    let items = reading.raw.iter().chain(&reading.memories).chain(&reading.raw_files);
    items.map(|item| item.id.clone()).collect()
}

impl Mos {
    /// What was removed, or marked as deleted, and is told again is no repetition of a request: it gets a key of its own, the same
    /// whenever that is repeated; and what is marked is found again. Returns whether all of it is known to be there, or to be told
    /// for the first time.
    pub(super) async fn name_anew_what_returns(
        &self,
        cube: &CubeHandle,
        reading: &mut Reading,
        origin: &Origin,
    ) -> Result<bool> {
        let ids = ids_of(reading);
        let n_versions = self.bring_back(cube, &ids, is_of_files(reading), origin).await?;
        if n_versions > 0 {
            reading.idempotency_key = format!("{}-again-{n_versions}", reading.idempotency_key);
        }
        Ok(n_versions == 0 && ids.len() <= MAX_LOOKED_BACK)
    }

    /// Stores what is told anew. When it was told first it may have been taken for a memory that said the same and is gone by now:
    /// then it is stored once more, under a key of its own, which `key` gets to hold. `is_whole` is what
    /// [`Mos::name_anew_what_returns`] has returned.
    pub(super) async fn store_anew(
        &self,
        cube: &CubeHandle,
        reading: Reading,
        held: &Held,
        origin: &Origin,
        key: &mut String,
        is_whole: bool,
    ) -> Result<Stored> {
        let is_of_files = is_of_files(&reading);
        let looked_at: HashSet<MemoryId> = ids_of(&reading).into_iter().collect();
        let again = (!is_of_files).then(|| reading.clone());
        let stored = store_over(reading, cube.text_mem().as_ref(), held, origin).await?;
        let ids: Vec<MemoryId> = stored.ids.iter().chain(&stored.raw_files).cloned().collect();
        // The usual case: none of these was stored before and removed since, so that each is there now.
        if is_whole && ids.iter().all(|id| looked_at.contains(id)) {
            return Ok(stored);
        }
        let n_versions = self.bring_back(cube, &ids, is_of_files, origin).await?;
        let Some(mut again) = again.filter(|_| n_versions > 0) else { return Ok(stored) };
        *key = format!("{key}-again-{n_versions}");
        again.idempotency_key.clone_from(key);
        Ok(store_over(again, cube.text_mem().as_ref(), held, origin).await?)
    }

    /// Activates those of these memories that are marked as deleted, and returns how many versions they have together with those
    /// that were removed: 0 when all were there, and for memories of files.
    pub(crate) async fn bring_back(
        &self,
        cube: &CubeHandle,
        ids: &[MemoryId],
        is_of_files: bool,
        origin: &Origin,
    ) -> Result<usize> {
        let mut ids = ids.to_vec();
        ids.sort();
        ids.dedup();
        let known = cube.text_mem().get_by_ids(&ids).await?;
        let is_marked = |item: &MemoryItem| {
            item.metadata.status == Some(Status::Deleted)
                && (!is_of_files || item.metadata.extra.contains_key(DELETION))
        };
        let marked: Vec<MemoryId> = known.iter().filter(|item| is_marked(item)).map(|item| item.id.clone()).collect();
        self.activate(cube, &marked, origin).await?;
        if is_of_files {
            return Ok(0);
        }
        let mut returning = ids;
        returning.retain(|id| marked.contains(id) || !known.iter().any(|item| item.id == *id));
        let mut n_versions = 0;
        for id in returning.iter().take(MAX_LOOKED_BACK) {
            match cube.text_mem().history(id).await {
                Ok(versions) => n_versions += versions.len(),
                Err(MemoryError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(n_versions)
    }

    async fn activate(&self, cube: &CubeHandle, ids: &[MemoryId], origin: &Origin) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut attempt = 1;
        loop {
            match self.parts.record.reactivate(&cube.scope(), ids, origin.clone()).await {
                Ok(_) => break,
                Err(StoreError::Conflict(_)) if attempt < MAX_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
        self.has_changed(&cube.info().cube_id);
        Ok(())
    }
}
