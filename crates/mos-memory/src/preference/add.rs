//! Storing preferences, so that each is one record however often it is told.

use mos_core::graph::kinds;
use mos_core::memory::UpdateType;
use mos_core::{
    AddRequest, Edge, EmbeddingSpace, EmbeddingWrite, Filter, MemoryError, MemoryId, MemoryItem, Origin, StoreError,
    WriteBatch,
};

use super::PrefText;
use super::item::{archived, as_preference, joined, replaced};
use super::judge::{self, Decision, Neighbour};
use crate::embedded::text_to_embed;

/// How many known preferences a new one is compared with.
const N_NEIGHBOURS: usize = 5;

/// How often a decision is made anew because what it was about has changed.
const MAX_ATTEMPTS: usize = 8;

/// A new preference on its way.
struct New {
    item: MemoryItem,
    /// `f32[dimension]`, of its text.
    vector: Vec<f32>,
    origin: Origin,
    key: Option<String>,
}

impl PrefText {
    pub(super) async fn add_items(
        &self,
        items: Vec<MemoryItem>,
        request: AddRequest,
    ) -> Result<Vec<MemoryId>, MemoryError> {
        if !request.jobs.is_empty() {
            return Err(MemoryError::Unsupported(
                "preferences are stored one by one, so no job can be part of the write; push it to the queue"
                    .to_owned(),
            ));
        }
        let now = self.shelf().clock.now_text();
        let mut items: Vec<MemoryItem> =
            items.into_iter().map(|item| as_preference(item, &now)).collect::<Result<_, _>>()?;
        self.shelf().prepare_new(&mut items)?;
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let space = self.checked_space().await?;
        let texts: Vec<String> = items.iter().map(text_to_embed).collect();
        let vectors = self.parts.embedder.embed(&texts).await?;
        let mut ids = Vec::with_capacity(items.len());
        let _turn = self.parts.locks.enter(&self.shelf().scope).await;
        for (index, (item, vector)) in items.into_iter().zip(vectors).enumerate() {
            // Each preference is a write of its own, and so a request of its own.
            let key = request.idempotency_key.as_ref().map(|key| format!("preference/{index}/{key}"));
            let new = New { item, vector, origin: request.origin.clone(), key };
            ids.push(self.add_one(&space, &new).await?);
        }
        Ok(ids)
    }

    /// Stores one preference and returns the id under which it is known.
    async fn add_one(&self, space: &EmbeddingSpace, new: &New) -> Result<MemoryId, MemoryError> {
        let mut attempt = 1;
        loop {
            let neighbours = self.neighbours(space, new).await?;
            let model = self.parts.model.as_deref();
            let decision = judge::decide(model, self.parts.mode, &new.item, &neighbours).await?;
            let (id, batch) = self.written(space, new, &neighbours, &decision).await?;
            let Some(batch) = batch else { return Ok(id) };
            match self.shelf().record.apply(&self.shelf().scope, batch).await {
                // A repeated request has the id that the first one had.
                Ok(receipt) => return Ok(receipt.put.last().cloned().unwrap_or(id)),
                Err(StoreError::Conflict(_)) if attempt < MAX_ATTEMPTS && !self.is_taken(&new.item.id).await? => {
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the activated preferences of the same user that are nearest, most similar first. Two users of a shared cube
    /// have preferences of their own.
    async fn neighbours(&self, space: &EmbeddingSpace, new: &New) -> Result<Vec<Neighbour>, MemoryError> {
        if self.shelf().record.embedding_space(&self.shelf().scope).await?.is_none() {
            return Ok(Vec::new());
        }
        let by_user = match &new.item.metadata.user_id {
            Some(user) => Filter::equals("user_id", user.as_str()),
            None => Filter::Everything,
        };
        self.nearest(space, &new.vector, N_NEIGHBOURS, &by_user).await
    }

    async fn is_taken(&self, id: &MemoryId) -> Result<bool, MemoryError> {
        Ok(!self.shelf().get_by_ids(std::slice::from_ref(id)).await?.is_empty())
    }

    /// Returns the id of the preference that remains and the write that makes it so; no write when it is so already. The
    /// last memory that is put is the one that remains.
    async fn written(
        &self,
        space: &EmbeddingSpace,
        new: &New,
        neighbours: &[Neighbour],
        decision: &Decision,
    ) -> Result<(MemoryId, Option<WriteBatch>), MemoryError> {
        let outdated: Vec<&MemoryItem> = decision.outdated.iter().map(|index| &neighbours[*index].item).collect();
        let mut batch = WriteBatch { idempotency_key: new.key.clone(), ..WriteBatch::new(new.origin.clone()) };
        let (remaining, vector) = match &decision.same {
            None => {
                batch.absent.push(new.item.id.clone());
                (new.item.clone(), Some(new.vector.clone()))
            }
            Some((index, text)) => {
                let known = &neighbours[*index].item;
                let text = text.as_deref().unwrap_or(&new.item.memory);
                let next = joined(known, &new.item, text);
                if next == *known && outdated.is_empty() {
                    return Ok((known.id.clone(), None));
                }
                batch.unchanged.push(known.clone());
                let vector = self.vector_of(&next, known, new).await?;
                (self.shelf().next_version(known, next, UpdateType::Duplicate), vector)
            }
        };
        let id = remaining.id.clone();
        let remaining = self.replace(&mut batch, &outdated, remaining);
        batch.put.push(remaining);
        batch.embeddings = vector.map(|vector| EmbeddingWrite {
            space: space.clone(),
            vectors: vec![(id.clone(), vector)],
            made_of: None,
            aside: false,
        });
        Ok((id, Some(batch)))
    }

    /// The vector of a known preference's next text; `None` when that is the same as before.
    async fn vector_of(
        &self,
        next: &MemoryItem,
        known: &MemoryItem,
        new: &New,
    ) -> Result<Option<Vec<f32>>, MemoryError> {
        if next.memory == known.memory {
            return Ok(None);
        }
        let text = text_to_embed(next);
        if text == text_to_embed(&new.item) {
            return Ok(Some(new.vector.clone()));
        }
        Ok(self.parts.embedder.embed(&[text]).await?.pop())
    }

    /// Archives what does not hold any longer, and returns what remains with the memory of it.
    fn replace(&self, batch: &mut WriteBatch, outdated: &[&MemoryItem], mut remaining: MemoryItem) -> MemoryItem {
        let now = self.shelf().clock.now_text();
        for known in outdated {
            batch.unchanged.push((*known).clone());
            batch.put.push(archived(self.shelf(), known, &remaining.id));
            batch.put_edges.push(Edge {
                source: remaining.id.clone(),
                target: known.id.clone(),
                kind: kinds::SUPERSEDES.to_owned(),
            });
            remaining.metadata.history.push(replaced(known, &now));
        }
        remaining
    }
}
