//! Finding memories of conversations: words, meanings, who spoke, and when.
//!
//! - `index`: the memories of one scope, which follow the record's feed: `turn` (what is read of each), `sessions` (which
//!   stands beside which), `postings` (words), `names` (speakers), and lengths of `window`s.
//! - `question`: what a question asks for, with `forms` (terms) and `dates`.
//! - `rank`: the order, from `signals` weighted by `options`.
//!
//! A memory is read together with the two before and the two after it in its session: an answer often shares no word with
//! its question, but the turn before it does. Vectors are not kept here: similarities are asked of the vector index, and the
//! meaning of a window follows from the similarities of its memories and its length.
//!
//! Invariant: a search sees every write that was acknowledged before it began.

mod dates;
mod forms;
mod index;
mod names;
mod options;
mod postings;
mod question;
mod rank;
mod sessions;
mod signals;
mod turn;
mod window;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mos_core::{
    Analyzer, Change, EmbeddingSpace, Filter, MemoryId, RecordStore, Scope, Scored, StoreError, VectorStore,
};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

pub use options::{RecallOptions, Weights, WordOptions};
pub use question::Question;
pub use rank::Recalled;
pub use signals::Signals;

use crate::by_scope::ByScope;
use forms::Terms;
use index::{Index, VectorsAtHand};
use rank::rank;

/// Changes read at a time.
const PAGE: usize = 1000;

/// Ranks the memories of scopes for questions. One serves all cubes of a record.
#[derive(Debug)]
pub struct Recall {
    record: Arc<dyn RecordStore>,
    vectors: Arc<dyn VectorStore>,
    terms: Arc<Terms>,
    options: RecallOptions,
    indexes: ByScope<RwLock<Index>>,
}

impl Recall {
    /// Returns what ranks the memories of `record`, whose vectors are in `vectors`. Scopes are loaded when they are first
    /// searched.
    pub fn following(
        record: Arc<dyn RecordStore>,
        vectors: Arc<dyn VectorStore>,
        analyzer: Arc<dyn Analyzer>,
        options: RecallOptions,
    ) -> Arc<Self> {
        let (terms, indexes) = (Arc::new(Terms::new(analyzer)), ByScope::new(options.max_bytes));
        Arc::new(Self { record, vectors, terms, options, indexes })
    }

    /// Reads a question about the memories of a scope whose vectors are of `space`.
    ///
    /// # Errors
    /// [`StoreError::EmbeddingSpace`] when the scope's vectors were made by another model; [`StoreError`] when the record
    /// cannot be read.
    pub async fn understand(&self, scope: &Scope, space: &EmbeddingSpace, text: &str) -> Result<Question, StoreError> {
        let index = self.settled(scope, space).await?;
        let index = index.read().await;
        Ok(index.understand(text, &self.terms))
    }

    /// Returns at most `limit` memories that pass the filter, best first; ties in the order of their first writes. `query`
    /// is the vector of [`Question::neutral`].
    ///
    /// Up to [`RecallOptions::max_exhaustive`] memories every one is scored; above it only those whose vectors are nearest
    /// and those that full-text search finds.
    ///
    /// # Errors
    /// As [`Recall::understand`]; [`StoreError::Dimension`].
    pub async fn search(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        question: &Question,
        query: &[f32],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Recalled>, StoreError> {
        let index = self.settled(scope, space).await?;
        let n_memories = index.read().await.len();
        if limit == 0 || n_memories == 0 {
            return Ok(Vec::new());
        }
        let found = self.candidates(scope, space, question, query, n_memories, filter).await?;
        // Who writes meanwhile waits, so that rows stay what they are.
        let index = index.read().await;
        let (candidates, mut similar) = rows_of(&index, &found);
        let wanted = around(&index, &candidates, &similar);
        let ids: Vec<MemoryId> = wanted.iter().filter_map(|row| Some(index.turn(*row)?.id.clone())).collect();
        let similarities = self.vectors.similarities(scope, space, query, &ids).await?;
        similar.extend(wanted.into_iter().zip(similarities).filter_map(|(row, score)| Some((row, score?))));
        let ranked = rank(&index, question, &similar, &candidates, &self.options);
        let recalled = ranked.into_iter().take(limit).filter_map(|one| {
            let id = index.turn(one.row)?.id.clone();
            Some(Recalled { id, score: one.score, signals: one.signals })
        });
        Ok(recalled.collect())
    }

    /// Memories that pass the filter, with their similarities where the vector index has found them.
    async fn candidates(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        question: &Question,
        query: &[f32],
        n_memories: usize,
        filter: &Filter,
    ) -> Result<Vec<(MemoryId, Option<f32>)>, StoreError> {
        let known = |found: Vec<Scored>| found.into_iter().map(|one| (one.id, Some(one.score)));
        if n_memories <= self.options.max_exhaustive {
            return Ok(known(self.vectors.nearest(scope, space, query, n_memories, filter).await?).collect());
        }
        let limit = self.options.n_candidates;
        let near = self.vectors.nearest(scope, space, query, limit, filter).await?;
        let worded = self.record.full_text(scope, &question.nameless, limit, filter).await?;
        let nearest: HashSet<MemoryId> = near.iter().map(|one| one.id.clone()).collect();
        let others = worded.into_iter().filter(|one| !nearest.contains(&one.id)).map(|one| (one.id, None));
        Ok(known(near).chain(others).collect())
    }

    /// Returns the index of a scope with everything in it that was written before the call.
    async fn settled(&self, scope: &Scope, space: &EmbeddingSpace) -> Result<Arc<RwLock<Index>>, StoreError> {
        let index = self.indexes.get(scope);
        if let Some(have) = self.record.embedding_space(scope).await?
            && have != *space
        {
            return Err(StoreError::EmbeddingSpace { cube: scope.cube.to_string(), have, got: space.clone() });
        }
        if self.is_up_to_date(scope, space, &*index.read().await).await? {
            return Ok(index);
        }
        let mut writing = Arc::clone(&index).write_owned().await;
        if writing.space() != Some(space) {
            // Lengths of windows hold for vectors of one model only.
            *writing = Index::of(space.clone(), self.options.window);
        }
        loop {
            // Another search may have caught up meanwhile: ask from where the index is now.
            let page = self.record.changes(scope, writing.sequence(), PAGE).await?;
            let is_last = page.len() < PAGE;
            writing = self.follow(scope, writing, page).await?;
            if is_last {
                break;
            }
        }
        self.indexes.account(scope, writing.n_bytes());
        Ok(index)
    }

    async fn is_up_to_date(&self, scope: &Scope, space: &EmbeddingSpace, index: &Index) -> Result<bool, StoreError> {
        if index.space() != Some(space) || index.is_unsettled() {
            return Ok(false);
        }
        Ok(self.record.changes(scope, index.sequence(), 1).await?.is_empty())
    }

    /// Takes a page of changes in. What is left undone when this is given up, a later call does.
    async fn follow(
        &self,
        scope: &Scope,
        mut index: OwnedRwLockWriteGuard<Index>,
        page: Vec<Change>,
    ) -> Result<OwnedRwLockWriteGuard<Index>, StoreError> {
        let terms = Arc::clone(&self.terms);
        let (mut index, mut at_hand) = blocking(move || {
            let mut at_hand = VectorsAtHand::new();
            for change in page {
                at_hand.extend(index.follow(change, &terms));
            }
            (index, at_hand)
        })
        .await?;
        let wanted = index.wanted(&at_hand);
        for ids in wanted.chunks(PAGE) {
            at_hand.extend(self.record.embeddings(scope, ids).await?);
        }
        blocking(move || {
            index.settle(&at_hand);
            index
        })
        .await
    }
}

/// The rows of what was found, and similarities by row. What was written after the index was read is left out.
fn rows_of(index: &Index, found: &[(MemoryId, Option<f32>)]) -> (Vec<u32>, HashMap<u32, f32>) {
    let (mut rows, mut similar) = (Vec::with_capacity(found.len()), HashMap::with_capacity(found.len()));
    for (id, similarity) in found {
        let Some(row) = index.row_of(id) else { continue };
        rows.push(row);
        if let Some(similarity) = similarity {
            similar.insert(row, *similarity);
        }
    }
    (rows, similar)
}

/// The rows whose similarities are still wanted: candidates, and memories around them.
fn around(index: &Index, candidates: &[u32], similar: &HashMap<u32, f32>) -> Vec<u32> {
    let mut wanted: HashSet<u32> = HashSet::new();
    for &row in candidates {
        let of_window = index.around(row).into_iter().flatten().chain(std::iter::once(row));
        wanted.extend(of_window.filter(|row| !similar.contains_key(row)));
    }
    let mut wanted: Vec<u32> = wanted.into_iter().collect();
    wanted.sort_unstable();
    wanted
}

/// Runs what computes for long off the asynchronous threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Ok(value),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(StoreError::Unavailable { backend: "recall", source: error.into() }),
    }
}

#[cfg(test)]
mod tests;
