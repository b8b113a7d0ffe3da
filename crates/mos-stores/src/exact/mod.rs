//! Exact nearest-neighbour search in memory: a derived index that follows a record.
//!
//! - `index`: the vectors of one scope (`vectors`), their payloads, and columns of what filters look at (`columns`).
//! - `scan`: a search. `select` looks the filter up; `codes` rules vectors out by a coarse copy; `dot` compares the rest.
//! - `cpu`: the instructions for which `dot` and `whole_dot` (dot products of whole numbers) are compiled.
//!
//! Invariant: a search sees every write that was acknowledged before it began, by whichever process, because it
//! reads the record's feed first.

mod codes;
mod columns;
mod cpu;
mod dot;
mod index;
mod payload;
mod scan;
mod select;
mod vectors;
mod whole_dot;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use mos_core::{Change, EmbeddingSpace, Filter, MemoryId, News, RecordStore, Scope, Scored, StoreError, VectorStore};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::codec;
use crate::prepare::{check_dimension, unsettled};
use index::{Followed, Index};
use select::columns_of;

#[cfg(feature = "qdrant")]
pub(crate) use dot::dot;

/// Changes read at a time.
const PAGE: usize = 1000;
/// How many queries are answered before writers have their turn: some milliseconds each in a large scope.
const QUERIES_AT_A_TIME: usize = 32;
/// Dot products that are made at a time on an asynchronous thread: some tens of microseconds.
const SIMILARITIES_AT_A_TIME: usize = 512;
/// How often a search begins again because the record changed under it; after that it answers with what it has
/// caught up with.
const MAX_ROUNDS: usize = 16;

/// How much an [`ExactVectors`] may use.
#[derive(Clone, Copy, Debug)]
pub struct ExactVectorsOptions {
    /// Bytes that all loaded scopes may take together. The least recently used are dropped above it and loaded
    /// again when they are searched; the one being searched always stays.
    pub max_bytes: usize,
}

impl Default for ExactVectorsOptions {
    fn default() -> Self {
        Self { max_bytes: 1 << 30 }
    }
}

/// Exact cosine search over the embeddings of a record.
#[derive(Debug)]
pub struct ExactVectors {
    record: Arc<dyn RecordStore>,
    options: ExactVectorsOptions,
    loaded: Mutex<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    scopes: HashMap<Scope, Entry>,
    /// Counts uses.
    now: u64,
    n_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    index: Arc<RwLock<Index>>,
    last_use: u64,
    n_bytes: usize,
}

impl ExactVectors {
    /// Returns an index that follows `record`, with the default limits. Scopes are loaded when they are first
    /// searched.
    pub fn following(record: Arc<dyn RecordStore>) -> Arc<Self> {
        Self::with_options(record, ExactVectorsOptions::default())
    }

    /// Returns an index that follows `record`.
    pub fn with_options(record: Arc<dyn RecordStore>, options: ExactVectorsOptions) -> Arc<Self> {
        Arc::new(Self { record, options, loaded: Mutex::default() })
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self, scope: &Scope) -> Arc<RwLock<Index>> {
        let mut loaded = self.loaded();
        loaded.now += 1;
        let now = loaded.now;
        if let Some(entry) = loaded.scopes.get_mut(scope) {
            entry.last_use = now;
            return Arc::clone(&entry.index);
        }
        let index = Arc::<RwLock<Index>>::default();
        let entry = Entry { index: Arc::clone(&index), last_use: now, n_bytes: 0 };
        loaded.scopes.insert(scope.clone(), entry);
        index
    }

    /// Brings the index up to the record's present state, when there is anything new.
    async fn catch_up(&self, scope: &Scope, index: &Arc<RwLock<Index>>) -> Result<(), StoreError> {
        let known = index.read().await.sequence;
        if self.record.changes(scope, known, 1).await?.is_empty() {
            return Ok(());
        }
        self.follow_changes(scope, index).await
    }

    /// As [`ExactVectors::catch_up`], where it is known that there is something new.
    async fn follow_changes(&self, scope: &Scope, index: &Arc<RwLock<Index>>) -> Result<(), StoreError> {
        let mut index = Arc::clone(index).write_owned().await;
        let mut starts_again = 0;
        // Another search may have caught up meanwhile: ask from where the index is now.
        let mut page = self.record.changes(scope, index.sequence, PAGE).await?;
        loop {
            let is_last = page.len() < PAGE;
            let end = page.last().map_or(index.sequence, sequence);
            // While one page goes into the index, the next one is read.
            let reading = async { if is_last { Ok(Vec::new()) } else { self.record.changes(scope, end, PAGE).await } };
            let following = blocking(move || {
                let followed = follow(&mut index, page);
                (index, followed)
            });
            let (following, next) = tokio::join!(following, reading);
            let followed;
            (index, followed) = following?;
            if followed? == Followed::StartAgain {
                starts_again += 1;
                if starts_again > MAX_ROUNDS {
                    return Err(unsettled(scope));
                }
                *index = Index::default();
                page = self.record.changes(scope, 0, PAGE).await?;
            } else if is_last {
                break;
            } else {
                page = next?;
            }
        }
        self.account(scope, &index);
        Ok(())
    }

    /// Notes the size of a scope and drops the least recently used ones above the limit.
    fn account(&self, scope: &Scope, index: &Index) {
        let mut loaded = self.loaded();
        let n_bytes = index.n_bytes();
        let Some(entry) = loaded.scopes.get_mut(scope) else { return };
        let before = std::mem::replace(&mut entry.n_bytes, n_bytes);
        loaded.n_bytes = loaded.n_bytes - before + n_bytes;
        while loaded.n_bytes > self.options.max_bytes {
            let others = loaded.scopes.iter().filter(|(other, _)| *other != scope);
            let Some(oldest) = others.min_by_key(|(_, entry)| entry.last_use).map(|(other, _)| other.clone()) else {
                return;
            };
            if let Some(entry) = loaded.scopes.remove(&oldest) {
                loaded.n_bytes -= entry.n_bytes;
            }
        }
    }

    /// Returns the index with the columns that the filter needs; the first filter that names a field pays for its column.
    async fn with_columns(
        &self,
        scope: &Scope,
        index: Arc<RwLock<Index>>,
        filter: &Filter,
    ) -> Result<OwnedRwLockReadGuard<Index>, StoreError> {
        let fields = columns_of(filter);
        let reading = Arc::clone(&index).read_owned().await;
        if reading.has_columns(&fields) {
            return Ok(reading);
        }
        drop(reading);
        let mut writing = index.write_owned().await;
        let writing = blocking(move || writing.make_columns(&fields).map(|()| writing)).await??;
        self.account(scope, &writing);
        Ok(OwnedRwLockWriteGuard::downgrade(writing))
    }

    /// Returns what `find` finds for a query of unit length, nothing while the scope has no vectors.
    async fn search(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        filter: &Filter,
        find: impl FnOnce(&Index, &[f32], &Filter) -> Result<Vec<Scored>, StoreError> + Send + 'static,
    ) -> Result<Vec<Scored>, StoreError> {
        check_dimension(space, query.len())?;
        let query = codec::unit("the query", query.to_vec())?;
        let Some(index) = self.settled(scope, space).await? else { return Ok(Vec::new()) };
        let index = self.with_columns(scope, index, filter).await?;
        let filter = filter.clone();
        blocking(move || find(&index, &query, &filter)).await?
    }

    /// Returns the index, caught up, once its vectors are known to be of `space`; `None` while the scope has none.
    async fn settled(&self, scope: &Scope, space: &EmbeddingSpace) -> Result<Option<Arc<RwLock<Index>>>, StoreError> {
        let index = self.index(scope);
        for _ in 0..MAX_ROUNDS {
            let known = index.read().await.sequence;
            let News { is_behind, space: have, .. } = self.record.news(scope, known).await?;
            let Some(have) = have else { return Ok(None) };
            if have != *space {
                return Err(StoreError::EmbeddingSpace { cube: scope.cube.to_string(), have, got: space.clone() });
            }
            // Changing the space shows in the feed. No news after the space was read: the vectors are of that space.
            if !is_behind {
                return Ok(Some(index));
            }
            self.follow_changes(scope, &index).await?;
        }
        // Writes keep coming in; the space was right before each of the last rounds.
        Ok(Some(index))
    }
}

fn sequence(change: &Change) -> u64 {
    match change {
        Change::Put { sequence, .. } | Change::Deleted { sequence, .. } => *sequence,
    }
}

fn follow(index: &mut Index, page: Vec<Change>) -> Result<Followed, StoreError> {
    for change in page {
        if index.follow(change)? == Followed::StartAgain {
            return Ok(Followed::StartAgain);
        }
    }
    Ok(Followed::Yes)
}

/// Runs what computes for long off the asynchronous threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    crate::blocking::blocking("exact", work).await
}

#[async_trait]
impl VectorStore for ExactVectors {
    async fn nearest(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Scored>, StoreError> {
        self.search(scope, space, query, filter, move |index, query, filter| index.nearest(query, limit, filter)).await
    }

    async fn near(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Scored>, StoreError> {
        self.search(scope, space, query, filter, move |index, query, filter| index.near(query, limit, filter)).await
    }

    async fn nearest_each(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        queries: &[&[f32]],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Vec<Scored>>, StoreError> {
        let mut found = Vec::with_capacity(queries.len());
        for part in queries.chunks(QUERIES_AT_A_TIME) {
            let mut units = Vec::with_capacity(part.len());
            for query in part {
                check_dimension(space, query.len())?;
                units.push(codec::unit("the query", query.to_vec())?);
            }
            let Some(index) = self.settled(scope, space).await? else {
                found.extend(units.iter().map(|_| Vec::new()));
                continue;
            };
            let index = self.with_columns(scope, index, filter).await?;
            let filter = filter.clone();
            let search = move || -> Result<Vec<Vec<Scored>>, StoreError> {
                units.iter().map(|query| index.nearest(query, limit, &filter)).collect()
            };
            found.extend(blocking(search).await??);
        }
        Ok(found)
    }

    async fn may_find(&self, scope: &Scope, space: &EmbeddingSpace, filter: &Filter) -> Result<bool, StoreError> {
        let Some(index) = self.settled(scope, space).await? else { return Ok(false) };
        let index = self.with_columns(scope, index, filter).await?;
        let filter = filter.clone();
        blocking(move || index.may_find(&filter)).await
    }

    async fn similarities(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        ids: &[MemoryId],
    ) -> Result<Vec<Option<f32>>, StoreError> {
        check_dimension(space, query.len())?;
        let query = codec::unit("the query", query.to_vec())?;
        let Some(index) = self.settled(scope, space).await? else { return Ok(vec![None; ids.len()]) };
        let index = index.read_owned().await;
        let mut similarities = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(SIMILARITIES_AT_A_TIME) {
            similarities.extend(index.similarities(&query, chunk)?);
            // Others have their turn: a thread of its own would need a copy of all ids.
            tokio::task::yield_now().await;
        }
        Ok(similarities)
    }

    async fn at_hand(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<Vec<(MemoryId, Vec<f32>)>, StoreError> {
        let index = self.index(scope);
        let index = index.read().await;
        Ok(index.vectors_of(space.dimension, ids))
    }

    async fn count(&self, scope: &Scope) -> Result<usize, StoreError> {
        let index = self.index(scope);
        self.catch_up(scope, &index).await?;
        let n_vectors = index.read().await.len();
        Ok(n_vectors)
    }
}
