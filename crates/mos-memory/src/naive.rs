//! `naive_text`: found by shared words, needs no model.

use std::collections::HashSet;
use std::path::Path;

use async_trait::async_trait;
use mos_core::text_memory::Signal;
use mos_core::{
    AddRequest, Hit, MemoryError, MemoryId, MemoryItem, Message, Origin, SearchRequest, TextMemory, Version,
    WriteBatch, graph::Paging,
};
use serde_json::Value;

use crate::extract::{AnswerForm, Extractor, no_model};
use crate::file;
use crate::moments;
use crate::search::{of_types, true_first};
use crate::shelf::{Shelf, activated, check_query};

/// Memories found by the number of words they share with the question.
///
/// Words are what stands between white space, compared letter by letter; a memory counts once per shared word.
/// Ties keep the order of storing. A memory that shares no word is not found.
#[derive(Debug)]
pub struct NaiveText {
    shelf: Shelf,
    extractor: Option<Extractor>,
}

impl NaiveText {
    /// Returns the memory of a cube.
    pub fn new(shelf: Shelf) -> Self {
        Self { shelf, extractor: None }
    }

    /// Lets it extract memories from conversations.
    #[must_use]
    pub fn with_extractor(mut self, extractor: Extractor) -> Self {
        self.extractor = Some(extractor);
        self
    }
}

#[async_trait]
impl TextMemory for NaiveText {
    fn backend(&self) -> &'static str {
        "naive_text"
    }

    async fn extract(&self, messages: &[Message]) -> Result<Vec<MemoryItem>, MemoryError> {
        let extractor = self.extractor.as_ref().ok_or_else(|| no_model(self.backend()))?;
        extractor.memories(messages, AnswerForm::Naive).await
    }

    async fn add(&self, mut items: Vec<MemoryItem>, request: AddRequest) -> Result<Vec<MemoryId>, MemoryError> {
        self.shelf.prepare_new(&mut items)?;
        self.shelf.add(items, None, request).await
    }

    async fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, MemoryError> {
        check_query(&request.query)?;
        let asked: HashSet<&str> = request.query.split_whitespace().collect();
        let mut filter = activated(&request.filter.clone().and(of_types(&request.types)));
        let as_of = request.as_of.as_deref().map(moments::asked_moment).transpose()?;
        if let Some(at) = as_of {
            filter = filter.and(moments::true_at(at));
        }
        let memories = self.shelf.record.list(&self.shelf.scope, &filter, Paging::ALL).await?.entries;
        let mut hits: Vec<Hit> = memories
            .into_iter()
            .filter_map(|item| {
                let words: HashSet<&str> = item.memory.split_whitespace().collect();
                let score = words.intersection(&asked).count() as f32;
                (score > 0.0).then(|| Hit { item, score, signals: vec![Signal { name: "words", score }] })
            })
            .collect();
        hits.sort_by(|left, right| right.score.total_cmp(&left.score));
        if as_of.is_none() {
            let now = self.shelf.clock.now();
            return Ok(true_first(hits, request.top_k, |hit| moments::is_superseded(&hit.item, now)));
        }
        hits.truncate(request.top_k);
        Ok(hits)
    }

    async fn get(&self, id: &MemoryId) -> Result<MemoryItem, MemoryError> {
        self.shelf.get(id).await
    }

    async fn get_by_ids(&self, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, MemoryError> {
        self.shelf.get_by_ids(ids).await
    }

    async fn get_all(&self) -> Result<Vec<MemoryItem>, MemoryError> {
        self.shelf.get_all().await
    }

    async fn update(&self, id: &MemoryId, item: MemoryItem, origin: Origin) -> Result<MemoryItem, MemoryError> {
        self.shelf.update(id, item, None, origin).await
    }

    async fn delete(&self, ids: &[MemoryId], origin: Origin) -> Result<usize, MemoryError> {
        self.shelf.delete(ids, origin).await
    }

    async fn history(&self, id: &MemoryId) -> Result<Vec<Version>, MemoryError> {
        self.shelf.history(id).await
    }

    async fn undo(&self, id: &MemoryId, origin: Origin) -> Result<MemoryItem, MemoryError> {
        let undo = self.shelf.find_undo(id).await?;
        self.shelf.undo(undo, None, origin).await
    }

    async fn delete_all(&self, origin: Origin) -> Result<usize, MemoryError> {
        self.shelf.delete_all(origin).await
    }

    async fn dump(&self, dir: &Path) -> Result<(), MemoryError> {
        let items: Vec<Value> = self.get_all().await?.iter().map(MemoryItem::to_value).collect();
        file::write_json(&dir.join(&self.shelf.file_name), Value::Array(items)).await
    }

    async fn load(&self, dir: &Path, origin: Origin) -> Result<usize, MemoryError> {
        let path = dir.join(&self.shelf.file_name);
        let Some(entries) = file::read_list(&path).await? else { return Ok(0) };
        let mut items = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            items.push(file::read_item(&path, index, entry)?);
        }
        let n_items = items.len();
        let batch = WriteBatch { put: items, ..WriteBatch::new(origin) };
        self.shelf.record.apply(&self.shelf.scope, batch).await?;
        Ok(n_items)
    }
}
