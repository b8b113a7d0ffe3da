//! `general_text`: found by words, meaning, speaker and time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{
    AddRequest, Embedder, EmbeddingSpace, EmbeddingWrite, Hit, MemoryError, MemoryId, MemoryItem, Message, Origin,
    SearchRequest, StoreError, TextMemory, WriteBatch,
};
use serde_json::{Map, Value, json};
use tracing::{Span, instrument};

use crate::embedded::text_to_embed;
use crate::extract::{AnswerForm, Extractor, no_model};
use crate::file;
use crate::recall::Recall;
use crate::shelf::{Shelf, activated, check_query, check_text};

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
    parts: GeneralTextParts,
    extractor: Option<Extractor>,
}

impl GeneralText {
    /// Returns the memory of a cube.
    pub fn new(parts: GeneralTextParts) -> Self {
        Self { parts, extractor: None }
    }

    /// Lets it extract memories from conversations.
    #[must_use]
    pub fn with_extractor(mut self, extractor: Extractor) -> Self {
        self.extractor = Some(extractor);
        self
    }

    fn shelf(&self) -> &Shelf {
        &self.parts.shelf
    }

    async fn embed(&self, items: &[MemoryItem]) -> Result<EmbeddingWrite, MemoryError> {
        let texts: Vec<String> = items.iter().map(text_to_embed).collect();
        let space = self.parts.embedder.space().await?;
        let vectors = if texts.is_empty() { Vec::new() } else { self.parts.embedder.embed(&texts).await? };
        let ids = items.iter().map(|item| item.id.clone());
        Ok(EmbeddingWrite { space, vectors: ids.zip(vectors).collect(), made_of: None, aside: false })
    }

    /// Refuses before any model runs when the cube was embedded by another model.
    async fn check_space(&self) -> Result<EmbeddingSpace, MemoryError> {
        let got = self.parts.embedder.space().await?;
        match self.shelf().record.embedding_space(&self.shelf().scope).await? {
            Some(have) if have != got => {
                Err(StoreError::EmbeddingSpace { cube: self.shelf().scope.cube.to_string(), have, got }.into())
            }
            _ => Ok(got),
        }
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

    #[instrument(skip_all, fields(cube = %self.shelf().scope.cube, n_items = items.len()), err)]
    async fn add(&self, mut items: Vec<MemoryItem>, request: AddRequest) -> Result<Vec<MemoryId>, MemoryError> {
        self.shelf().prepare_new(&mut items)?;
        self.check_space().await?;
        let embeddings = self.embed(&items).await?;
        self.shelf().add(items, Some(embeddings), request).await
    }

    #[instrument(skip_all, fields(cube = %self.shelf().scope.cube, top_k = request.top_k, n_hits), err)]
    async fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, MemoryError> {
        check_query(&request.query)?;
        if request.top_k == 0 || self.shelf().record.embedding_space(&self.shelf().scope).await?.is_none() {
            return Ok(Vec::new());
        }
        let space = self.check_space().await?;
        let (scope, filter) = (&self.shelf().scope, activated(&request.filter));
        let question = self.parts.recall.understand(scope, &space, &request.query).await?;
        let mut embedded = self.parts.embedder.embed(std::slice::from_ref(&question.neutral)).await?;
        let query = embedded.pop().unwrap_or_default();
        let recalled = self.parts.recall.search(scope, &space, &question, &query, request.top_k, &filter).await?;
        let ids: Vec<MemoryId> = recalled.iter().map(|one| one.id.clone()).collect();
        let mut items: HashMap<MemoryId, MemoryItem> =
            self.shelf().get_by_ids(&ids).await?.into_iter().map(|item| (item.id.clone(), item)).collect();
        // A memory that was deleted between recall and reading is left out.
        let hits: Vec<Hit> = recalled
            .into_iter()
            .filter_map(|one| {
                let item = items.remove(&one.id)?;
                Some(Hit { item, score: one.score, signals: one.signals.named() })
            })
            .collect();
        Span::current().record("n_hits", hits.len());
        Ok(hits)
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

    async fn update(&self, id: &MemoryId, item: MemoryItem, origin: Origin) -> Result<MemoryItem, MemoryError> {
        check_text(&item.memory)?;
        // An unknown memory is told of before any model runs.
        self.shelf().get(id).await?;
        self.check_space().await?;
        let item = MemoryItem { id: id.clone(), ..item };
        let embeddings = self.embed(std::slice::from_ref(&item)).await?;
        self.shelf().update(id, item, Some(embeddings), origin).await
    }

    async fn delete(&self, ids: &[MemoryId], origin: Origin) -> Result<usize, MemoryError> {
        self.shelf().delete(ids, origin).await
    }

    async fn delete_all(&self, origin: Origin) -> Result<usize, MemoryError> {
        self.shelf().delete_all(origin).await
    }

    async fn dump(&self, dir: &Path) -> Result<(), MemoryError> {
        let items = self.get_all().await?;
        let ids: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
        let mut vectors: HashMap<MemoryId, Vec<f32>> =
            self.shelf().record.embeddings(&self.shelf().scope, &ids).await?.into_iter().collect();
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
        let dumped = read_entries(&path, entries)?;
        let n_items = dumped.items.len();
        if n_items == 0 {
            return Ok(0);
        }
        let embeddings = self.embeddings_of(dir, &dumped).await?;
        let batch = WriteBatch { put: dumped.items, embeddings: Some(embeddings), ..WriteBatch::new(origin) };
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

impl GeneralText {
    /// The dump's own vectors when this cube can take them (it is empty, or of the same model), else new ones.
    async fn embeddings_of(&self, dir: &Path, dumped: &Dumped) -> Result<EmbeddingWrite, MemoryError> {
        let have = self.shelf().record.embedding_space(&self.shelf().scope).await?;
        let complete: Option<Vec<&Vec<f32>>> = dumped.vectors.iter().map(Option::as_ref).collect();
        if let Some(vectors) = complete.filter(|vectors| !vectors.is_empty()) {
            let model = embedding_model_of_dump(dir).await?.unwrap_or_else(|| "unknown".to_owned());
            let space = EmbeddingSpace { model, dimension: vectors[0].len() };
            if have.is_none() || have.as_ref() == Some(&space) {
                let ids = dumped.items.iter().map(|item| item.id.clone());
                return Ok(EmbeddingWrite {
                    space,
                    vectors: ids.zip(vectors.into_iter().cloned()).collect(),
                    made_of: None,
                    aside: false,
                });
            }
        }
        self.check_space().await?;
        self.embed(&dumped.items).await
    }
}

/// Name of the model that made a dump's vectors: from our manifest, else from the cube's configuration.
async fn embedding_model_of_dump(dir: &Path) -> Result<Option<String>, MemoryError> {
    let name = |map: &Map<String, Value>, path: &str| map_pointer(map, path).map(str::to_owned);
    if let Some(manifest) = file::read_object(&dir.join("manifest.json")).await?
        && let Some(model) = name(&manifest, "/embedding_space/model")
    {
        return Ok(Some(model));
    }
    let config = file::read_object(&dir.join("config.json")).await?;
    Ok(config.and_then(|config| name(&config, "/text_mem/config/embedder/config/model_name_or_path")))
}

fn map_pointer<'a>(map: &'a Map<String, Value>, path: &str) -> Option<&'a str> {
    let (first, rest) = path.trim_start_matches('/').split_once('/')?;
    map.get(first)?.pointer(&format!("/{rest}"))?.as_str()
}
