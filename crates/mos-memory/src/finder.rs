//! What textual memories with embeddings do in the same way: embedding, finding, and the vectors of dumps.
//!
//! A search is `plan` (what is searched for, with a model where that is asked for) → `gather` (recall of every query, and
//! pages of the internet) → `order` (reranker, `claims`, repetitions, limits); `find` puts these together and searches again
//! when the hits do not answer.

mod claims;
mod find;
mod gather;
mod order;
mod plan;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use mos_core::{Embedder, EmbeddingSpace, EmbeddingWrite, MemoryError, MemoryId, MemoryItem};
use serde_json::{Map, Value};

use crate::embedded::text_to_embed;
use crate::file;
use crate::recall::Recall;
use crate::retrieve::Retrieval;
use crate::shelf::Shelf;

/// The memories of a cube, what ranks them, what turns texts into vectors, and what else takes part in searches.
#[derive(Clone, Debug)]
pub(crate) struct Finder {
    pub(crate) shelf: Shelf,
    pub(crate) recall: Arc<Recall>,
    pub(crate) embedder: Arc<dyn Embedder>,
    pub(crate) retrieval: Retrieval,
}

impl Finder {
    /// Returns what finds by recall alone.
    pub(crate) fn new(shelf: Shelf, recall: Arc<Recall>, embedder: Arc<dyn Embedder>) -> Self {
        Self { shelf, recall, embedder, retrieval: Retrieval::default() }
    }

    pub(crate) async fn embed(&self, items: &[MemoryItem]) -> Result<EmbeddingWrite, MemoryError> {
        let texts: Vec<String> = items.iter().map(text_to_embed).collect();
        let space = self.embedder.space().await?;
        let vectors = if texts.is_empty() { Vec::new() } else { self.embedder.embed(&texts).await? };
        let ids = items.iter().map(|item| item.id.clone());
        Ok(EmbeddingWrite { space, vectors: ids.zip(vectors).collect(), made_of: None, aside: false })
    }

    /// Returns the vector of a question.
    pub(crate) async fn embed_query(&self, query: &str) -> Result<Vec<f32>, MemoryError> {
        let mut vectors = self.embedder.embed_queries(&[query.to_owned()]).await?;
        Ok(vectors.pop().unwrap_or_default())
    }

    /// As [`Shelf::check_space`].
    pub(crate) async fn check_space(&self) -> Result<EmbeddingSpace, MemoryError> {
        self.shelf.check_space(&*self.embedder).await
    }

    /// Returns the vectors of the memories that have one.
    pub(crate) async fn vectors_of(&self, items: &[MemoryItem]) -> Result<HashMap<MemoryId, Vec<f32>>, MemoryError> {
        let ids: Vec<MemoryId> = items.iter().map(|item| item.id.clone()).collect();
        Ok(self.shelf.record.embeddings(&self.shelf.scope, &ids).await?.into_iter().collect())
    }

    /// The dump's own vectors when this cube can take them (it is empty, or of the same model), else new ones. `dumped`
    /// are the memories that have a vector here, each with the one of the dump as far as it has one.
    pub(crate) async fn embeddings_of_dump(
        &self,
        dir: &Path,
        dumped: &[(&MemoryItem, Option<Vec<f32>>)],
    ) -> Result<EmbeddingWrite, MemoryError> {
        let have = self.shelf.record.embedding_space(&self.shelf.scope).await?;
        let complete: Option<Vec<&Vec<f32>>> = dumped.iter().map(|(_, vector)| vector.as_ref()).collect();
        if let Some(vectors) = complete.filter(|vectors| !vectors.is_empty()) {
            let model = embedding_model_of_dump(dir).await?.unwrap_or_else(|| "unknown".to_owned());
            let space = EmbeddingSpace { model, dimension: vectors[0].len() };
            if have.is_none() || have.as_ref() == Some(&space) {
                let ids = dumped.iter().map(|(item, _)| item.id.clone());
                return Ok(EmbeddingWrite {
                    space,
                    vectors: ids.zip(vectors.into_iter().cloned()).collect(),
                    made_of: None,
                    aside: false,
                });
            }
        }
        self.check_space().await?;
        let items: Vec<MemoryItem> = dumped.iter().map(|(item, _)| (*item).clone()).collect();
        self.embed(&items).await
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
