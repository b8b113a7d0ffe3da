//! `general_text`: found by words, meaning, speaker and time.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{
    AddRequest, Embedder, Filter, Found, MemoryError, MemoryId, MemoryItem, Message, Origin, Page, Paging,
    SearchRequest, TextMemory, Version, WriteBatch,
};
use serde_json::{Map, Value, json};
use tracing::{Span, instrument};

use crate::extract::{AnswerForm, Extractor, no_model};
use crate::file;
use crate::finder::Finder;
use crate::recall::Recall;
use crate::retrieve::Retrieval;
use crate::shelf::{Shelf, check_text};

/// What a [`GeneralText`] is made of.
#[derive(Clone, Debug)]
pub struct GeneralTextParts {
    /// The cube's record.
    pub shelf: Shelf,
    /// Ranks memories for a question; follows the same record.
    pub recall: Arc<Recall>,
    /// Turns texts into vectors.
    pub embedder: Arc<dyn Embedder>,
}

/// Memories found by what they say, who said it and when, each read together with the memories around it in its session.
///
/// The score of a hit is a weighted sum of signals; [`RecallOptions`](crate::RecallOptions) tells what they are.
#[derive(Debug)]
pub struct GeneralText {
    inner: Finder,
    extractor: Option<Extractor>,
}

impl GeneralText {
    /// Returns the memory of a cube.
    pub fn new(parts: GeneralTextParts) -> Self {
        let GeneralTextParts { shelf, recall, embedder } = parts;
        Self { inner: Finder::new(shelf, recall, embedder), extractor: None }
    }

    /// Lets it extract memories from conversations.
    #[must_use]
    pub fn with_extractor(mut self, extractor: Extractor) -> Self {
        self.extractor = Some(extractor);
        self
    }

    /// Lets models and services take part in searches. Without them memories are found by recall alone.
    #[must_use]
    pub fn with_retrieval(mut self, retrieval: Retrieval) -> Self {
        self.inner.retrieval = retrieval;
        self
    }

    fn shelf(&self) -> &Shelf {
        &self.inner.shelf
    }

    /// Replaces a memory by its next state; with a version that is `known` only while it is of that version.
    async fn replace(
        &self,
        id: &MemoryId,
        known: Option<i64>,
        item: MemoryItem,
        origin: Origin,
    ) -> Result<MemoryItem, MemoryError> {
        check_text(&item.memory)?;
        // An unknown memory is told of before any model runs.
        self.shelf().get(id).await?;
        self.inner.check_space().await?;
        let item = MemoryItem { id: id.clone(), ..item };
        let embeddings = self.inner.embed(std::slice::from_ref(&item)).await?;
        self.shelf().update(id, known, item, Some(embeddings), origin).await
    }
}

#[async_trait]
impl TextMemory for GeneralText {
    fn backend(&self) -> &'static str {
        "general_text"
    }

    #[instrument(skip_all, fields(cube = %self.shelf().scope.cube, n_messages = messages.len()))]
    async fn extract(&self, messages: &[Message]) -> Result<Vec<MemoryItem>, MemoryError> {
        let extractor = self.extractor.as_ref().ok_or_else(|| no_model(self.backend()))?;
        extractor.memories(messages, AnswerForm::General).await
    }

    #[instrument(skip_all, fields(cube = %self.shelf().scope.cube, n_items = items.len()))]
    async fn add(&self, mut items: Vec<MemoryItem>, request: AddRequest) -> Result<Vec<MemoryId>, MemoryError> {
        self.shelf().prepare_new(&mut items)?;
        self.inner.check_space().await?;
        let embeddings = self.inner.embed(&items).await?;
        self.shelf().add(items, Some(embeddings), request).await
    }

    #[instrument(skip_all, fields(cube = %self.shelf().scope.cube, top_k = request.top_k, n_hits))]
    async fn search(&self, request: &SearchRequest) -> Result<Found, MemoryError> {
        let found = self.inner.find(request, &|_| true).await?;
        Span::current().record("n_hits", found.hits.len());
        Ok(found)
    }

    async fn get(&self, id: &MemoryId) -> Result<MemoryItem, MemoryError> {
        self.shelf().get(id).await
    }

    async fn get_by_ids(&self, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, MemoryError> {
        self.shelf().get_by_ids(ids).await
    }

    async fn get_all(&self) -> Result<Vec<MemoryItem>, MemoryError> {
        self.shelf().get_all().await
    }

    async fn page(&self, filter: &Filter, paging: Paging) -> Result<Page<MemoryItem>, MemoryError> {
        self.shelf().page(filter, paging).await
    }

    async fn update(&self, id: &MemoryId, item: MemoryItem, origin: Origin) -> Result<MemoryItem, MemoryError> {
        self.replace(id, None, item, origin).await
    }

    async fn update_known(
        &self,
        known: &MemoryItem,
        item: MemoryItem,
        origin: Origin,
    ) -> Result<MemoryItem, MemoryError> {
        self.replace(&known.id, Some(known.metadata.version), item, origin).await
    }

    async fn delete(&self, ids: &[MemoryId], origin: Origin) -> Result<usize, MemoryError> {
        self.shelf().delete(ids, origin).await
    }

    async fn history(&self, id: &MemoryId) -> Result<Vec<Version>, MemoryError> {
        self.shelf().history(id).await
    }

    async fn undo(&self, id: &MemoryId, origin: Origin) -> Result<MemoryItem, MemoryError> {
        let undo = self.shelf().find_undo(id).await?;
        self.inner.check_space().await?;
        let embeddings = self.inner.embed(std::slice::from_ref(&undo.next)).await?;
        self.shelf().undo(undo, Some(embeddings), origin).await
    }

    async fn delete_all(&self, origin: Origin) -> Result<usize, MemoryError> {
        self.shelf().delete_all(origin).await
    }

    async fn dump(&self, dir: &Path) -> Result<(), MemoryError> {
        let items = self.get_all().await?;
        let mut vectors = self.inner.vectors_of(&items).await?;
        let entries: Vec<Value> = items
            .iter()
            .map(|item| {
                let mut entry = Map::new();
                entry.insert("id".to_owned(), json!(item.id));
                if let Some(vector) = vectors.remove(&item.id) {
                    entry.insert("vector".to_owned(), json!(vector));
                }
                entry.insert("payload".to_owned(), item.to_value());
                Value::Object(entry)
            })
            .collect();
        file::write_json(&dir.join(&self.shelf().file_name), Value::Array(entries)).await
    }

    async fn load(&self, dir: &Path, origin: Origin) -> Result<usize, MemoryError> {
        let path = dir.join(&self.shelf().file_name);
        let Some(entries) = file::read_list(&path).await? else { return Ok(0) };
        let Dumped { items, vectors } = read_entries(&path, entries)?;
        let n_items = items.len();
        if n_items == 0 {
            return Ok(0);
        }
        let dumped: Vec<(&MemoryItem, Option<Vec<f32>>)> = items.iter().zip(vectors).collect();
        let embeddings = self.inner.embeddings_of_dump(dir, &dumped).await?;
        let batch = WriteBatch { put: items, embeddings: Some(embeddings), ..WriteBatch::new(origin) };
        self.shelf().record.apply(&self.shelf().scope, batch).await?;
        Ok(n_items)
    }
}

/// A dump as it was read: the vectors stand beside the items.
struct Dumped {
    items: Vec<MemoryItem>,
    vectors: Vec<Option<Vec<f32>>>,
}

fn read_entries(path: &Path, entries: Vec<Value>) -> Result<Dumped, MemoryError> {
    let mut dumped = Dumped { items: Vec::with_capacity(entries.len()), vectors: Vec::with_capacity(entries.len()) };
    for (index, mut entry) in entries.into_iter().enumerate() {
        let bad = |detail: String| file::bad_entry(path, index, detail);
        let payload = entry.get_mut("payload").map(Value::take).ok_or_else(|| bad("has no `payload`".to_owned()))?;
        let item = file::read_item(path, index, payload)?;
        let vector = match entry.get_mut("vector").map(Value::take) {
            None | Some(Value::Null) => None,
            Some(value) => {
                Some(serde_json::from_value(value).map_err(|_| bad("`vector` is not a list of numbers".to_owned()))?)
            }
        };
        dumped.items.push(item);
        dumped.vectors.push(vector);
    }
    Ok(dumped)
}
