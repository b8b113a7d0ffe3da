//! `naive_text`: found by shared words, needs no model.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use async_trait::async_trait;
use mos_core::{
    AddRequest, Filter, Found, Hit, MemoryError, MemoryId, MemoryItem, Message, Origin, Page, Paging, SearchRequest,
    Signal, TextMemory, Version, WriteBatch,
};
use serde_json::Value;

use crate::extract::{AnswerForm, Extractor, no_model};
use crate::file;
use crate::moments;
use crate::search::{Settled, of_types, settled};
use crate::shelf::{Shelf, activated};

/// Memories found by the number of words they share with the question.
///
/// Words are what stands between white space, compared letter by letter; a memory counts once per shared word.
/// Ties keep the order of storing. A memory that shares no word is not found. The relativity of a hit is the share of the
/// question's words that it has.
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

    /// Says why a search found nothing, of which so many memories passed the filter.
    async fn why_nothing(&self, request: &SearchRequest, n_passing: usize) -> Result<String, MemoryError> {
        if request.top_k == 0 {
            return Ok("top_k is 0, so nothing was searched for".to_owned());
        }
        if n_passing > 0 {
            return Ok(format!("none of the {n_passing} memories shares a word with the question"));
        }
        let n_memories = self.shelf.record.count(&self.shelf.scope, &activated(&Filter::Everything)).await?;
        Ok(match n_memories {
            0 => "the cube has no memories yet".to_owned(),
            _ => format!("the filter lets none of the cube's {n_memories} memories pass"),
        })
    }
}

/// What a request asks for that takes a model or vectors.
fn unheeded(request: &SearchRequest) -> Vec<&'static str> {
    let parts = [
        (request.mode.asks_a_model(), "the mode"),
        (request.sub_questions, "splitting the question"),
        (request.deep, "a deep search"),
        (request.internet, "a search of the internet"),
        (request.session.is_some(), "the conversation that comes first"),
    ];
    parts.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, part)| part).collect()
}

fn sharing_words(memories: Vec<MemoryItem>, question: &str) -> Vec<Hit> {
    let asked: HashSet<&str> = question.split_whitespace().collect();
    let hit = |item: MemoryItem| {
        let n_shared = {
            let words: HashSet<&str> = item.memory.split_whitespace().collect();
            words.intersection(&asked).count()
        };
        let score = n_shared as f32;
        let relativity = score / asked.len().max(1) as f32;
        (n_shared > 0).then(|| Hit::new(item, score, relativity, vec![Signal { name: "words", score }]))
    };
    memories.into_iter().filter_map(hit).collect()
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

    async fn search(&self, request: &SearchRequest) -> Result<Found, MemoryError> {
        request.check()?;
        let as_of = request.as_of.as_deref().map(moments::asked_moment).transpose()?;
        let mut found = Found::default();
        for part in unheeded(request) {
            found.note(format!("`naive_text` only compares words: {part} had no effect"));
        }
        let mut filter = activated(&request.filter.clone().and(of_types(&request.types)));
        if let Some(at) = as_of {
            filter = filter.and(moments::true_at(at));
        }
        let memories = self.shelf.record.list(&self.shelf.scope, &filter, Paging::ALL).await?.entries;
        let n_passing = memories.len();
        let mut hits = sharing_words(memories, &request.query);
        hits.sort_by(|left, right| right.score.total_cmp(&left.score));
        let now = self.shelf.clock.now();
        let is_superseded = |hit: &Hit| as_of.is_none() && moments::is_superseded(&hit.item, now);
        let Settled { hits, left_out } = settled(hits, request, &HashMap::new(), is_superseded);
        found.hits = hits;
        match left_out {
            Some(left_out) => found.note(left_out),
            None if found.hits.is_empty() => {
                let reason = self.why_nothing(request, n_passing).await?;
                found.note(reason);
            }
            None => {}
        }
        Ok(found)
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

    async fn page(&self, filter: &Filter, paging: Paging) -> Result<Page<MemoryItem>, MemoryError> {
        self.shelf.page(filter, paging).await
    }

    async fn update(&self, id: &MemoryId, item: MemoryItem, origin: Origin) -> Result<MemoryItem, MemoryError> {
        self.shelf.update(id, None, item, None, origin).await
    }

    async fn update_known(
        &self,
        known: &MemoryItem,
        item: MemoryItem,
        origin: Origin,
    ) -> Result<MemoryItem, MemoryError> {
        self.shelf.update(&known.id, Some(known.metadata.version), item, None, origin).await
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
