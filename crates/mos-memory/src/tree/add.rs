//! Adding memories: one batch per call.

use std::collections::{BTreeMap, HashMap, HashSet};

use mos_core::memory::UpdateType;
use mos_core::{
    AddRequest, Edge, EmbeddingWrite, MemoryError, MemoryId, MemoryItem, MemoryType, Origin, StoreError, WriteBatch,
};

use super::duplicates::{Twin, join};
use super::limits::Coming;
use super::shape::shape;
use super::shelves::Shelved;
use super::working::is_to_be_shown;
use super::{MAX_ATTEMPTS, TreeMode, TreeText};

/// A write that is being put together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    put: Vec<MemoryItem>,
    /// Memories as they were read.
    unchanged: Vec<MemoryItem>,
    added: BTreeMap<MemoryId, MemoryType>,
    changed: HashSet<MemoryId>,
    delete: Vec<MemoryId>,
}

impl Draft {
    /// Writes a new memory.
    pub(super) fn add(&mut self, item: MemoryItem) {
        self.added.insert(item.id.clone(), item.metadata.memory_type().unwrap_or(MemoryType::LongTerm));
        self.put.push(item);
    }

    /// Writes the next state of a memory; `old` is the state that was read, or that the draft has written already.
    pub(super) fn change(&mut self, old: MemoryItem, next: MemoryItem) {
        if !self.added.contains_key(&old.id) && self.changed.insert(old.id.clone()) {
            self.unchanged.push(old);
        }
        self.put.push(next);
    }

    /// Removes memories as they were read.
    pub(super) fn remove(&mut self, items: Vec<MemoryItem>) {
        self.delete.extend(items.iter().map(|item| item.id.clone()));
        self.unchanged.extend(items);
    }

    /// How many new memories of each type there are.
    pub(super) fn n_new(&self) -> BTreeMap<MemoryType, usize> {
        let mut n_new = BTreeMap::new();
        for kind in self.added.values() {
            *n_new.entry(*kind).or_default() += 1;
        }
        n_new
    }

    /// The known memories that it changes.
    pub(super) fn changed(&self) -> HashSet<MemoryId> {
        self.changed.clone()
    }

    /// The last state of each memory that it writes, in the order of their last writes.
    fn written(&self) -> Vec<&MemoryItem> {
        let mut seen = HashSet::new();
        let mut written: Vec<&MemoryItem> = self.put.iter().rev().filter(|item| seen.insert(&item.id)).collect();
        written.reverse();
        written
    }

    /// Returns the batch that writes it. Embeddings of memories that it does not add are left out.
    pub(super) fn into_batch(self, origin: Origin, embeddings: Option<EmbeddingWrite>) -> WriteBatch {
        let embeddings = embeddings.map(|mut write| {
            write.vectors.retain(|(id, _)| self.added.contains_key(id));
            write
        });
        WriteBatch {
            absent: self.added.into_keys().collect(),
            unchanged: self.unchanged,
            delete: self.delete,
            put: self.put,
            embeddings,
            ..WriteBatch::new(origin)
        }
    }
}

impl TreeText {
    /// Checks new memories and makes them nodes of the tree.
    pub(super) fn prepared(&self, mut items: Vec<MemoryItem>, mode: TreeMode) -> Result<Vec<MemoryItem>, MemoryError> {
        self.shelf().prepare_new(&mut items)?;
        let now = self.shelf().clock.now_text();
        for item in &mut items {
            shape(item, &now, mode)?;
        }
        Ok(items)
    }

    /// Stores prepared memories with edges and returns their ids, in order; for one that is known already, the id of the
    /// known one. With a key, at most once.
    pub(super) async fn store(
        &self,
        items: Vec<MemoryItem>,
        edges: Vec<Edge>,
        request: AddRequest,
    ) -> Result<Vec<MemoryId>, MemoryError> {
        self.inner.check_space().await?;
        // Nothing is stored when this fails, and nobody waits for it.
        let embeddings = self.inner.embed(&items).await?;
        let mut attempt = 1;
        loop {
            let mut shelved = self.shelved().await?;
            let draft = self.draft(&items, &embeddings, &shelved).await?;
            let mut batch = draft.into_batch(request.origin.clone(), Some(embeddings.clone()));
            batch.absent.extend(items.iter().map(|item| item.id.clone()));
            batch.put_edges = edges.clone();
            batch.idempotency_key = request.idempotency_key.clone();
            batch.jobs.clone_from(&request.jobs);
            match self.record().apply(self.scope(), batch).await {
                Ok(receipt) => {
                    self.trim(&mut shelved, &request.origin).await;
                    // The first writes of a batch are those of the items, one each, also of a batch that is replayed.
                    return Ok(receipt.put.into_iter().take(items.len()).collect());
                }
                Err(StoreError::Conflict(text)) => {
                    if attempt == MAX_ATTEMPTS || self.is_any_known(&items).await? {
                        return Err(StoreError::Conflict(text).into());
                    }
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn is_any_known(&self, items: &[MemoryItem]) -> Result<bool, MemoryError> {
        let ids: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
        Ok(!self.shelf().get_by_ids(&ids).await?.is_empty())
    }

    /// Decides what is written: new memories, known ones with new sources, copies in working memory, and what has to go.
    async fn draft(
        &self,
        items: &[MemoryItem],
        embeddings: &EmbeddingWrite,
        shelved: &Shelved,
    ) -> Result<Draft, MemoryError> {
        let twins = self.twins(items, embeddings).await?;
        let mut draft = Draft::default();
        // The memory that each item has become, and its present state.
        let mut became: Vec<MemoryId> = Vec::with_capacity(items.len());
        let mut states: HashMap<MemoryId, MemoryItem> = HashMap::new();
        for (item, twin) in items.iter().zip(twins) {
            let known = match twin {
                None => None,
                Some(Twin::Earlier(place)) => states.get(&became[place]).cloned(),
                Some(Twin::Known(known)) => Some(states.get(&known.id).cloned().unwrap_or(*known)),
            };
            let state = match known {
                None => {
                    draft.add(item.clone());
                    item.clone()
                }
                Some(known) => {
                    let next = self.shelf().next_version(&known, join(&known, item), UpdateType::Duplicate);
                    draft.change(known, next.clone());
                    next
                }
            };
            became.push(state.id.clone());
            states.insert(state.id.clone(), state);
        }
        let now = self.shelf().clock.now_text();
        let facts: Vec<(MemoryItem, String)> = draft
            .written()
            .into_iter()
            .filter(|item| is_to_be_shown(item))
            .map(|item| (item.clone(), now.clone()))
            .collect();
        let n_too_many = facts.len().saturating_sub(self.options.working_limit());
        self.show(&mut draft, &facts[n_too_many..], shelved).await?;
        let coming = Coming { n_new: draft.n_new(), spared: draft.changed() };
        draft.remove(self.shelf().get_by_ids(&self.surplus(shelved, &coming)).await?);
        Ok(draft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, text: &str) -> MemoryItem {
        MemoryItem::new(id.into(), text)
    }

    #[test]
    fn a_batch_names_what_it_was_decided_on_once() {
        let mut draft = Draft::default();
        draft.add(item("new", "a"));
        draft.change(item("known", "a"), item("known", "b"));
        draft.change(item("known", "b"), item("known", "c"));
        draft.change(item("new", "a"), item("new", "d"));
        draft.remove(vec![item("old", "x")]);
        let written: Vec<&str> = draft.written().iter().map(|item| item.memory.as_str()).collect();
        assert_eq!(written, ["c", "d"]);
        assert_eq!(draft.n_new(), BTreeMap::from([(MemoryType::LongTerm, 1)]));
        let batch = draft.into_batch(Origin::default(), None);
        assert_eq!(batch.unchanged, [item("known", "a"), item("old", "x")]);
        assert_eq!((batch.absent, batch.delete), (vec!["new".into()], vec!["old".into()]));
        assert_eq!(batch.put.len(), 4);
    }
}
