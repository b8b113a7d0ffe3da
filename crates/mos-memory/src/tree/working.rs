//! Working memory: copies that show other memories, and memories of its own.

use std::collections::{HashMap, HashSet};

use jiff::SignedDuration;
use mos_core::clock::timestamp_text;
use mos_core::memory::UpdateType;
use mos_core::{EmbeddingWrite, MemoryError, MemoryId, MemoryItem, MemoryType, Origin, Status, StoreError, WriteBatch};
use tokio::sync::OwnedMutexGuard;

use super::add::Draft;
use super::limits::Coming;
use super::shape::shape;
use super::shelves::Shelved;
use super::{MAX_ATTEMPTS, TreeMode, TreeText};
use crate::shelf::check_text;

/// Whether working memory shows memories of this kind.
pub(super) fn is_to_be_shown(item: &MemoryItem) -> bool {
    let is_fact = matches!(item.metadata.memory_type(), Some(MemoryType::LongTerm | MemoryType::User));
    is_fact && item.metadata.status == Some(Status::Activated)
}

/// Returns a working copy of a memory.
pub(super) fn copy_of(original: &MemoryItem, id: MemoryId, updated_at: String) -> MemoryItem {
    let mut copy = MemoryItem { id, ..original.clone() };
    copy.metadata.version = 1;
    copy.metadata.history.clear();
    copy.metadata.working_binding = Some(original.id.to_string());
    copy.metadata.updated_at = Some(updated_at);
    if let Some(fields) = copy.metadata.tree_mut() {
        fields.memory_type = MemoryType::Working;
        fields.embedding = None;
    }
    copy
}

/// Returns the next state of a working copy. It is a view: its earlier states are those of its original.
pub(super) fn next_copy(old: &MemoryItem, original: &MemoryItem, updated_at: String) -> MemoryItem {
    let mut next = copy_of(original, old.id.clone(), updated_at);
    next.metadata.version = old.metadata.version + 1;
    next
}

impl TreeText {
    /// Returns what stands on the shelves; other writers of this process wait until it is dropped.
    pub(super) async fn shelved(&self) -> Result<OwnedMutexGuard<Shelved>, MemoryError> {
        Ok(self.shelves.enter(self.record(), self.scope()).await?)
    }

    /// Adds copies of these memories to a draft, or makes the ones that are there the newest. Later memories are newer.
    pub(super) async fn show(
        &self,
        draft: &mut Draft,
        originals: &[(MemoryItem, String)],
        shelved: &Shelved,
    ) -> Result<(), MemoryError> {
        let shown = shelved.shown();
        let known: Vec<MemoryId> =
            originals.iter().filter_map(|(original, _)| shown.get(&original.id)).cloned().collect();
        let copies: HashMap<MemoryId, MemoryItem> =
            self.shelf().get_by_ids(&known).await?.into_iter().map(|copy| (copy.id.clone(), copy)).collect();
        for (original, updated_at) in originals {
            match shown.get(&original.id).and_then(|id| copies.get(id)) {
                Some(old) => draft.change(old.clone(), next_copy(old, original, updated_at.clone())),
                None => {
                    let id = MemoryId::new(self.ids.next_uuid());
                    draft.add(copy_of(original, id, updated_at.clone()));
                }
            }
        }
        Ok(())
    }

    /// Makes these memories the newest of working memory, the first the newest of all.
    pub(super) async fn refresh_working(&self, items: Vec<MemoryItem>, origin: Origin) -> Result<(), MemoryError> {
        let mut wanted = items;
        wanted.truncate(self.options.working_limit());
        let mut seen = HashSet::new();
        wanted.retain(|item| seen.insert(item.id.clone()));
        let known: HashSet<MemoryId> = self.known(&wanted).await?.into_keys().collect();
        let mut new: Vec<MemoryItem> = wanted.iter().filter(|item| !known.contains(&item.id)).cloned().collect();
        let now = self.shelf().clock.now_text();
        for item in &mut new {
            check_text(&item.memory)?;
            shape(item, &now, TreeMode::Sync)?;
            if let Some(fields) = item.metadata.tree_mut() {
                fields.memory_type = MemoryType::Working;
            }
        }
        let embeddings = if new.is_empty() {
            None
        } else {
            self.inner.check_space().await?;
            Some(self.inner.embed(&new).await?)
        };
        let new: HashMap<MemoryId, MemoryItem> = new.into_iter().map(|item| (item.id.clone(), item)).collect();
        let mut attempt = 1;
        loop {
            let mut shelved = self.shelved().await?;
            let batch = self.refreshing(&wanted, &new, embeddings.clone(), &shelved, origin.clone()).await?;
            match self.record().apply(self.scope(), batch).await {
                Ok(_) => {
                    self.trim(&mut shelved, &origin).await;
                    return Ok(());
                }
                Err(StoreError::Conflict(_)) if attempt < MAX_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The memories of the record that have the ids of these.
    async fn known(&self, items: &[MemoryItem]) -> Result<HashMap<MemoryId, MemoryItem>, MemoryError> {
        let ids: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
        Ok(self.shelf().get_by_ids(&ids).await?.into_iter().map(|item| (item.id.clone(), item)).collect())
    }

    async fn refreshing(
        &self,
        wanted: &[MemoryItem],
        new: &HashMap<MemoryId, MemoryItem>,
        embeddings: Option<EmbeddingWrite>,
        shelved: &Shelved,
        origin: Origin,
    ) -> Result<WriteBatch, MemoryError> {
        let known = self.known(wanted).await?;
        let now = self.shelf().clock.now();
        let mut draft = Draft::default();
        let mut shown: Vec<(MemoryItem, String)> = Vec::new();
        for (place, item) in wanted.iter().enumerate() {
            // The first is the newest: a microsecond apart keeps the order.
            let age = SignedDuration::from_micros(i64::try_from(place).unwrap_or(i64::MAX));
            let updated_at = timestamp_text(now.checked_sub(age).unwrap_or(now));
            match (known.get(&item.id), new.get(&item.id)) {
                (Some(old), _) if old.metadata.memory_type() == Some(MemoryType::Working) => {
                    let mut fresh = old.clone();
                    fresh.metadata.updated_at = Some(updated_at.clone());
                    let mut next = self.shelf().next_version(old, fresh, UpdateType::Unrelated);
                    next.metadata.updated_at = Some(updated_at);
                    draft.change(old.clone(), next);
                }
                (Some(original), _) => shown.push((original.clone(), updated_at)),
                (None, Some(item)) => {
                    let mut item = item.clone();
                    item.metadata.updated_at = Some(updated_at);
                    draft.add(item);
                }
                // It was known when texts were embedded and is gone by now.
                (None, None) => return Err(MemoryError::NotFound(item.id.clone())),
            }
        }
        self.show(&mut draft, &shown, shelved).await?;
        let coming = Coming { n_new: draft.n_new(), spared: draft.changed() };
        draft.remove(self.shelf().get_by_ids(&self.surplus(shelved, &coming)).await?);
        Ok(draft.into_batch(origin, embeddings))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_copy_names_its_original_and_has_no_past() {
        let id = "00000000-0000-4000-8000-000000000001";
        let metadata = json!({"memory_type": "UserMemory", "version": 3, "history": [{"memory": "y"}], "key": "k"});
        let value = json!({"id": id, "memory": "x", "metadata": metadata});
        let original = MemoryItem::from_value(value, String::new).unwrap();
        let copy = copy_of(&original, MemoryId::from("c"), "2026-01-01".to_owned());
        assert_eq!((copy.working_copy_of(), copy.memory.as_str()), (Some(id), "x"));
        assert_eq!((copy.metadata.version, copy.metadata.history.len()), (1, 0));
        assert_eq!((copy.metadata.key.as_deref(), original.working_copy_of()), (Some("k"), None));
        assert!(is_to_be_shown(&original) && !is_to_be_shown(&copy));
    }
}
