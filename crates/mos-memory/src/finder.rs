//! What textual memories with embeddings do in the same way: embedding, finding, and the vectors of dumps.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use mos_core::{
    Embedder, EmbeddingSpace, EmbeddingWrite, Hit, MemoryError, MemoryId, MemoryItem, SearchRequest, StoreError,
};
use serde_json::{Map, Value};

use crate::embedded::text_to_embed;
use crate::file;
use crate::moments;
use crate::recall::{Recall, Recalled};
use crate::search::{of_types, true_first};
use crate::shelf::{Shelf, activated, check_query};

/// By how much more is recalled when too little of it could be returned.
const MORE: usize = 4;

/// The memories of a cube, what ranks them, and what turns texts into vectors.
#[derive(Clone, Debug)]
pub(crate) struct Finder {
    pub(crate) shelf: Shelf,
    pub(crate) recall: Arc<Recall>,
    pub(crate) embedder: Arc<dyn Embedder>,
}

impl Finder {
    pub(crate) async fn embed(&self, items: &[MemoryItem]) -> Result<EmbeddingWrite, MemoryError> {
        let texts: Vec<String> = items.iter().map(text_to_embed).collect();
        let space = self.embedder.space().await?;
        let vectors = if texts.is_empty() { Vec::new() } else { self.embedder.embed(&texts).await? };
        let ids = items.iter().map(|item| item.id.clone());
        Ok(EmbeddingWrite { space, vectors: ids.zip(vectors).collect(), made_of: None, aside: false })
    }

    /// Returns the vector of a question.
    pub(crate) async fn embed_query(&self, query: &str) -> Result<Vec<f32>, MemoryError> {
        let mut vectors = self.embedder.embed(&[query.to_owned()]).await?;
        Ok(vectors.pop().unwrap_or_default())
    }

    /// Refuses before any model runs when the cube was embedded by another model.
    pub(crate) async fn check_space(&self) -> Result<EmbeddingSpace, MemoryError> {
        let got = self.embedder.space().await?;
        match self.shelf.record.embedding_space(&self.shelf.scope).await? {
            Some(have) if have != got => {
                Err(StoreError::EmbeddingSpace { cube: self.shelf.scope.cube.to_string(), have, got }.into())
            }
            _ => Ok(got),
        }
    }

    /// Returns the memories that fit a question and that `keeps` keeps, best first.
    ///
    /// Unless the request asks about a moment, what has stopped being true stands behind what is true, with the signal
    /// `superseded`. It takes at most a fifth of the places (none of fewer than five) where enough is true.
    pub(crate) async fn find(
        &self,
        request: &SearchRequest,
        keeps: &(dyn Fn(&MemoryItem) -> bool + Send + Sync),
    ) -> Result<Vec<Hit>, MemoryError> {
        check_query(&request.query)?;
        let as_of = request.as_of.as_deref().map(moments::asked_moment).transpose()?;
        let (shelf, top_k) = (&self.shelf, request.top_k);
        if top_k == 0 || shelf.record.embedding_space(&shelf.scope).await?.is_none() {
            return Ok(Vec::new());
        }
        let space = self.check_space().await?;
        let mut filter = activated(&request.filter.clone().and(of_types(&request.types)));
        if let Some(at) = as_of {
            filter = filter.and(moments::true_at(at));
        }
        let question = self.recall.understand(&shelf.scope, &space, &request.query).await?;
        let query = self.embed_query(&question.neutral).await?;
        let mut limit = top_k;
        loop {
            let recalled = self.recall.search(&shelf.scope, &space, &question, &query, limit, &filter).await?;
            let is_all = recalled.len() < limit;
            let mut hits = self.read(recalled).await?;
            hits.retain(|hit| keeps(&hit.item));
            if as_of.is_some() && (is_all || hits.len() >= top_k) {
                hits.truncate(top_k);
                return Ok(hits);
            }
            if as_of.is_none() {
                let now = shelf.clock.now();
                let n_true = hits.iter().filter(|hit| !moments::is_superseded(&hit.item, now)).count();
                if is_all || n_true >= top_k {
                    return Ok(true_first(hits, top_k, |hit| moments::is_superseded(&hit.item, now)));
                }
            }
            limit = limit.saturating_mul(MORE);
        }
    }

    /// Reads what was recalled. A memory that was deleted meanwhile is left out.
    async fn read(&self, recalled: Vec<Recalled>) -> Result<Vec<Hit>, MemoryError> {
        let ids: Vec<MemoryId> = recalled.iter().map(|one| one.id.clone()).collect();
        let mut items: HashMap<MemoryId, MemoryItem> =
            self.shelf.get_by_ids(&ids).await?.into_iter().map(|item| (item.id.clone(), item)).collect();
        let hits = recalled.into_iter().filter_map(|one| {
            let item = items.remove(&one.id)?;
            Some(Hit { item, score: one.score, signals: one.signals.named() })
        });
        Ok(hits.collect())
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
