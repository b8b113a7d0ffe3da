//! Changing and removing memories. Working copies follow their originals.

use mos_core::memory::UpdateType;
use mos_core::{
    Condition, EmbeddingWrite, Filter, MemoryError, MemoryId, MemoryItem, Operator, Origin, Paging, Status, StoreError,
    WriteBatch,
};
use serde_json::Value;

use super::shape::shape_like;
use super::shelves::Shelved;
use super::working::{is_to_be_shown, next_copy};
use super::{MAX_ATTEMPTS, TreeText};
use crate::shelf::{Undo, check_text, check_version};

/// A memory as it was read, and its next state.
type Step = (MemoryItem, MemoryItem);

/// What is not marked as deleted.
pub(super) fn not_deleted() -> Filter {
    Filter::Not(Box::new(Filter::equals("status", Status::Deleted.as_str())))
}

impl TreeText {
    /// Replaces a memory by its next state; of a working copy, its original. With a version that is `known` only while it is
    /// of that version.
    pub(super) async fn replace(
        &self,
        id: &MemoryId,
        known: Option<i64>,
        item: MemoryItem,
        origin: Origin,
    ) -> Result<MemoryItem, MemoryError> {
        check_text(&item.memory)?;
        let found = self.shelf().get(id).await?;
        let id = found.working_copy_of().map_or_else(|| id.clone(), MemoryId::from);
        self.inner.check_space().await?;
        let mut item = MemoryItem { id: id.clone(), ..item };
        item.metadata.take_embedding();
        let embeddings = self.inner.embed(std::slice::from_ref(&item)).await?;
        let mut attempt = 1;
        loop {
            let shelved = self.shelved().await?;
            let old = self.shelf().get(&id).await?;
            check_version(&old, known)?;
            let mut next = item.clone();
            shape_like(&old, &mut next, &self.shelf().clock.now_text())?;
            let next = self.shelf().next_version(&old, next, UpdateType::Unrelated);
            let batch = self.steps(&shelved, vec![(old, next.clone())], origin.clone()).await?;
            let batch = WriteBatch { embeddings: Some(embeddings.clone()), ..batch };
            match self.record().apply(self.scope(), batch).await {
                Ok(_) => return Ok(next),
                Err(StoreError::Conflict(_)) if attempt < MAX_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the batch that writes the next states of memories. Their copies get the same text; those of memories that
    /// are shown no more go.
    async fn steps(&self, shelved: &Shelved, steps: Vec<Step>, origin: Origin) -> Result<WriteBatch, MemoryError> {
        let ids: Vec<MemoryId> = steps.iter().map(|(old, _)| old.id.clone()).collect();
        let copies = self.shelf().get_by_ids(&shelved.copies_of(&ids)).await?;
        let mut batch = WriteBatch::new(origin);
        for (old, next) in steps {
            for copy in copies.iter().filter(|copy| copy.working_copy_of() == Some(old.id.as_str())) {
                if is_to_be_shown(&next) {
                    let updated_at = copy.metadata.updated_at.clone().unwrap_or_default();
                    batch.put.push(next_copy(copy, &next, updated_at));
                } else {
                    batch.delete.push(copy.id.clone());
                }
            }
            batch.unchanged.push(old);
            batch.put.push(next);
        }
        batch.unchanged.extend(copies);
        Ok(batch)
    }

    /// Goes back to the state of a memory before its last change.
    pub(super) async fn go_back(&self, id: &MemoryId, origin: Origin) -> Result<MemoryItem, MemoryError> {
        let undo = self.shelf().find_undo(id).await?;
        let embeddings = self.embedded(&undo.next).await?;
        let (present, next) = match undo {
            Undo { present: Some(present), next, .. } => (present, next),
            removed => return self.shelf().undo(removed, embeddings, origin).await,
        };
        let shelved = self.shelved().await?;
        let batch = self.steps(&shelved, vec![(present, next.clone())], origin).await?;
        self.record().apply(self.scope(), WriteBatch { embeddings, ..batch }).await?;
        Ok(next)
    }

    /// The embedding of a memory; working copies have none.
    async fn embedded(&self, item: &MemoryItem) -> Result<Option<EmbeddingWrite>, MemoryError> {
        if item.working_copy_of().is_some() {
            return Ok(None);
        }
        self.inner.check_space().await?;
        Ok(Some(self.inner.embed(std::slice::from_ref(item)).await?))
    }

    /// Removes memories with their copies and returns how many of the memories there were.
    pub(super) async fn remove(&self, ids: &[MemoryId], origin: Origin) -> Result<usize, MemoryError> {
        let shelved = self.shelved().await?;
        let n_known = self.shelf().get_by_ids(ids).await?.len();
        let mut delete = ids.to_vec();
        let copies = shelved.copies_of(ids);
        delete.extend(copies.into_iter().filter(|copy| !ids.contains(copy)));
        let receipt = self.record().apply(self.scope(), WriteBatch { delete, ..WriteBatch::new(origin) }).await?;
        // Copies that went along do not count.
        Ok(receipt.n_deleted.min(n_known))
    }

    /// Removes what passes a filter.
    pub(super) async fn remove_passing(&self, filter: &Filter, origin: Origin) -> Result<usize, MemoryError> {
        let found = self.record().list(self.scope(), filter, Paging::ALL).await?.entries;
        let ids: Vec<MemoryId> = found.into_iter().map(|item| item.id).collect();
        if ids.is_empty() { Ok(0) } else { self.remove(&ids, origin).await }
    }

    /// Removes what belongs to any of some files.
    pub(super) async fn remove_of_files(&self, files: &[String], origin: Origin) -> Result<usize, MemoryError> {
        if files.is_empty() {
            return Ok(0);
        }
        let of_file = |file: &String| {
            let (field, value) = ("file_ids".to_owned(), Value::from(file.as_str()));
            Filter::Is(Condition { field, operator: Operator::Contains, value })
        };
        self.remove_passing(&Filter::Any(files.iter().map(of_file).collect()), origin).await
    }

    /// Marks memories as deleted and names those that take their place.
    pub(super) async fn mark_deleted(
        &self,
        ids: &[MemoryId],
        evolve_to: &[MemoryId],
        origin: Origin,
    ) -> Result<usize, MemoryError> {
        let mut attempt = 1;
        loop {
            let shelved = self.shelved().await?;
            let mut found = self.shelf().get_by_ids(ids).await?;
            found.retain(|item| item.metadata.status != Some(Status::Deleted) && item.working_copy_of().is_none());
            if found.is_empty() {
                return Ok(0);
            }
            let n_marked = found.len();
            let steps = found.into_iter().map(|old| {
                let mut next = old.clone();
                next.metadata.status = Some(Status::Deleted);
                let more = evolve_to.iter().map(ToString::to_string);
                let more: Vec<String> = more.filter(|id| !old.metadata.evolve_to.contains(id)).collect();
                next.metadata.evolve_to.extend(more);
                let next = self.shelf().next_version(&old, next, UpdateType::Unrelated);
                (old, next)
            });
            let batch = self.steps(&shelved, steps.collect(), origin.clone()).await?;
            match self.record().apply(self.scope(), batch).await {
                Ok(_) => return Ok(n_marked),
                Err(StoreError::Conflict(_)) if attempt < MAX_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
