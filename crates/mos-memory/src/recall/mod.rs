//! Finding memories of conversations: words, meanings, who spoke, and when.
//!
//! - `index`: the memories of one scope, which follow the record's feed: `turn` (what is read of each), `sessions` (which
//!   stands beside which), `postings` (words), `names` (speakers), and lengths of `window`s.
//! - `question`: what a question asks for, with `forms` (terms) and `dates`.
//! - `search`: one search, from candidates to the order. `rank`: what speaks for each memory, from `signals` weighted by
//!   `options`, and the order. `graph`: what comes over edges; `labels`: keys and tags.
//!
//! A memory is read together with the two before and the two after it in its session: an answer often shares no word with
//! its question, but the turn before it does. Vectors are not kept here: similarities are asked of the vector index, and the
//! meaning of a window follows from the similarities of its memories and its length.
//!
//! Invariant: a search sees every write that was acknowledged before its question was understood.

mod dates;
mod forms;
mod graph;
mod index;
mod labels;
mod names;
mod options;
mod postings;
mod question;
mod rank;
mod search;
mod sessions;
mod signals;
mod turn;
mod window;

use std::collections::HashMap;
use std::sync::Arc;

use mos_core::{Analyzer, Change, EmbeddingSpace, MemoryId, News, RecordStore, Scope, StoreError, VectorStore};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

pub use options::{GraphOptions, RecallOptions, Weights, WordOptions};
pub use question::Question;
pub use rank::Recalled;
pub use search::{Asked, Hints};
pub use signals::Signals;

use crate::by_scope::ByScope;
use forms::Terms;
use index::{Index, VectorsAtHand};
use question::ReadAt;

/// Changes read at a time.
const PAGE: usize = 1000;

/// An index that nobody changes, and whether its scope may have edges.
#[derive(Debug)]
struct Settled {
    index: OwnedRwLockReadGuard<Index>,
    may_have_edges: bool,
}

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

    /// Reads a question about the memories of a scope whose vectors are of `space`. Searches for it see what was written
    /// before this call.
    ///
    /// # Errors
    /// [`StoreError::EmbeddingSpace`] when the scope's vectors were made by another model; [`StoreError`] when the record
    /// cannot be read.
    pub async fn understand(&self, scope: &Scope, space: &EmbeddingSpace, text: &str) -> Result<Question, StoreError> {
        let Settled { index, may_have_edges } = self.settled(scope, space).await?;
        Ok(index.understand(text, &self.terms, may_have_edges))
    }

    /// Returns the vectors of those among some memories of a scope that have one, as the record has them, in any order. Sees
    /// what the last search saw; only what the vector index does not have at hand is read.
    pub(crate) async fn embeddings(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<HashMap<MemoryId, Vec<f32>>, StoreError> {
        let mut vectors: HashMap<MemoryId, Vec<f32>> =
            self.vectors.at_hand(scope, space, ids).await?.into_iter().collect();
        let others: Vec<MemoryId> = ids.iter().filter(|id| !vectors.contains_key(*id)).cloned().collect();
        if !others.is_empty() {
            vectors.extend(self.record.embeddings(scope, &others).await?);
        }
        Ok(vectors)
    }

    /// Returns the index of a scope with everything in it that was written before the question was understood.
    async fn settled_for(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        question: &Question,
    ) -> Result<Settled, StoreError> {
        let index = self.indexes.get(scope).read_owned().await;
        let ReadAt { sequence, may_have_edges } = question.read_at;
        if index.is_of(space) && index.sequence() >= sequence {
            return Ok(Settled { index, may_have_edges });
        }
        // It was dropped meanwhile, or never loaded.
        drop(index);
        self.settled(scope, space).await
    }

    /// Returns the index of a scope with everything in it that was written before the call.
    async fn settled(&self, scope: &Scope, space: &EmbeddingSpace) -> Result<Settled, StoreError> {
        let index = self.indexes.get(scope);
        let reading = Arc::clone(&index).read_owned().await;
        let News { is_behind, may_have_edges, space: have } = self.record.news(scope, reading.sequence()).await?;
        if let Some(have) = have.filter(|have| have != space) {
            return Err(StoreError::EmbeddingSpace { cube: scope.cube.to_string(), have, got: space.clone() });
        }
        if !is_behind && reading.is_of(space) {
            return Ok(Settled { index: reading, may_have_edges });
        }
        drop(reading);
        let mut writing = index.write_owned().await;
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
        Ok(Settled { index: OwnedRwLockWriteGuard::downgrade(writing), may_have_edges })
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
