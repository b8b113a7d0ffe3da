//! Nearest-neighbour search on a Qdrant server (1.16 or later), over gRPC: a derived index that follows any record.
//!
//! The record is the one truth: every write goes there, and is there before anybody hears of it. Its feed of changes is
//! the outbox; each collection remembers beside a cube's points how far it has followed the cube's feed. A search reads
//! the feed first, so it sees every write that was acknowledged before it began, by whichever program; what the server
//! returns is looked up in the record before it is returned here. An emptied or restored server is followed again from
//! where it stands.
//!
//! There is one collection per embedding space and one point per memory. Every call names the cube; ids of points are
//! UUIDs made of cube and memory, ids and field names never become part of a name or a path of the server's.
//!
//! Invariant: nothing that is wrong on the server makes a search return what the record does not hold.

mod calls;
mod collections;
mod condition;
mod connection;
mod fault;
mod follow;
mod nearest;
mod options;
mod point;
mod reconcile;
mod worker;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use mos_core::{EmbeddingSpace, Filter, MemoryId, RecordStore, Scope, Scored, StoreError, VectorStore};

pub use options::QdrantOptions;
pub use reconcile::Drift;

use calls::Calls;
use connection::Connection;
use follow::{Remembered, Turns};
use worker::Worker;

use crate::similar::similarities_by_record;

/// Nearest-neighbour search on a Qdrant server, over the embeddings of a record.
#[derive(Debug)]
pub struct QdrantVectors {
    inner: Arc<Inner>,
    worker: Worker,
}

#[derive(Debug)]
struct Inner {
    record: Arc<dyn RecordStore>,
    connection: Connection,
    prefix: String,
    dimension: Option<usize>,
    /// Collections that are there and of the right kind.
    checked: Mutex<HashSet<String>>,
    turns: Turns,
    remembered: Remembered,
}

impl Inner {
    fn calls<'a>(&'a self, collection: &'a str) -> Calls<'a> {
        Calls { connection: &self.connection, collection }
    }

    /// Returns the collection of a space, after making it where it is missing.
    async fn collection(&self, space: &EmbeddingSpace) -> Result<String, StoreError> {
        if let Some(want) = self.dimension.filter(|want| *want != space.dimension) {
            return Err(StoreError::Dimension { got: space.dimension, want });
        }
        let name = collections::name(&self.prefix, space);
        if !self.checked().contains(&name) {
            collections::ensure(&self.connection, &name, space).await?;
            self.checked().insert(name.clone());
        }
        Ok(name)
    }

    fn forget_collection(&self, name: &str) {
        self.checked().remove(name);
    }

    fn checked(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QdrantVectors {
    /// Returns an index that follows `record`. Nothing is asked of the server yet: it may be away. A task in the
    /// background follows cubes that are noticed, and all others from time to time; it ends with the index.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for options that cannot be right, and outside of a Tokio runtime.
    pub fn following(record: Arc<dyn RecordStore>, options: &QdrantOptions) -> Result<Arc<Self>, StoreError> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| StoreError::Invalid(format!("the Qdrant index needs a Tokio runtime: {error}")))?;
        let inner = Arc::new(Inner {
            record,
            connection: Connection::new(options)?,
            prefix: options.prefix.clone(),
            dimension: options.dimension,
            checked: Mutex::default(),
            turns: Turns::default(),
            remembered: Remembered::default(),
        });
        let worker = Worker::start(&runtime, Arc::clone(&inner), options.sweep_every);
        Ok(Arc::new(Self { inner, worker }))
    }

    /// Has a cube followed in the background, because it was written to, emptied or deleted. A hint: whatever is not
    /// noticed is followed when it is searched, and what is not searched in the next sweep.
    pub fn notice(&self, scope: &Scope) {
        self.worker.notice(scope);
    }

    /// Brings the server up to the record's present state of a cube, as a search does before it begins.
    ///
    /// # Errors
    /// [`StoreError`] when record or server cannot be read or written.
    pub async fn catch_up(&self, scope: &Scope) -> Result<(), StoreError> {
        self.inner.follow_any(scope).await
    }

    /// Compares a cube's points with the record and returns how they differ; with `mend` they do not differ afterwards.
    /// What is changed meanwhile is no difference. Reads all embeddings of the cube from both sides.
    ///
    /// # Errors
    /// [`StoreError`] when record or server cannot be read or written.
    pub async fn reconcile(&self, scope: &Scope, mend: bool) -> Result<Drift, StoreError> {
        reconcile::reconcile(&self.inner, scope, mend).await
    }

    /// Returns all cubes that the server holds anything of, sorted; also those that the record does not know.
    ///
    /// # Errors
    /// [`StoreError`] when the server cannot be read.
    pub async fn scopes(&self) -> Result<Vec<Scope>, StoreError> {
        reconcile::scopes(&self.inner).await
    }

    /// Returns what is worth knowing about the server: version, collections, points.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be reached, [`StoreError::Refused`] when it refuses the key,
    /// [`StoreError::Invalid`] when it is too old.
    pub async fn facts(&self) -> Result<Vec<(&'static str, String)>, StoreError> {
        facts(&self.inner.connection, &self.inner.prefix).await
    }

    /// Returns what [`QdrantVectors::facts`] does, of a server that follows nothing yet.
    ///
    /// # Errors
    /// As [`QdrantVectors::facts`]; [`StoreError::Invalid`] for options that cannot be right.
    pub async fn reach(options: &QdrantOptions) -> Result<Vec<(&'static str, String)>, StoreError> {
        facts(&Connection::new(options)?, &options.prefix).await
    }
}

async fn facts(connection: &Connection, prefix: &str) -> Result<Vec<(&'static str, String)>, StoreError> {
    let health = collections::health(connection).await?;
    collections::check_version(connection.address(), &health.version)?;
    let collections = collections::ours(connection, prefix).await?;
    let mut n_points = 0;
    for name in &collections {
        let info = collections::info(connection, name).await?;
        n_points += info.and_then(|info| info.points_count).unwrap_or_default();
    }
    Ok(vec![
        ("server", format!("Qdrant {} at {}", health.version, connection.address())),
        ("collections", if collections.is_empty() { "none yet".to_owned() } else { collections.join(", ") }),
        ("points", n_points.to_string()),
    ])
}

#[async_trait]
impl VectorStore for QdrantVectors {
    async fn nearest(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Scored>, StoreError> {
        nearest::nearest(&self.inner, scope, space, query, limit, filter).await
    }

    async fn similarities(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        ids: &[MemoryId],
    ) -> Result<Vec<Option<f32>>, StoreError> {
        similarities_by_record(self.inner.record.as_ref(), scope, space, query, ids).await
    }

    async fn count(&self, scope: &Scope) -> Result<usize, StoreError> {
        nearest::count(&self.inner, scope).await
    }
}
