//! The record on a Neo4j server (5.26 or later), in a layout that MemOS reads and whose memories may come from MemOS.
//!
//! All cubes share one database (or those of one user have their own, which needs Neo4j Enterprise). The node of a memory
//! is that of MemOS: label `Memory`, the cube in `user_name`, metadata as properties, edges as relationships of their type.
//! Beside the memories lie nodes of this store's own: `MosScope` (a cube's numbers), `MosVersion` (the history),
//! `MosTombstone` (what was removed, for the feed), `MosReceipt` (idempotency keys), `MosJob` and `MosOutbox` (jobs on
//! their way to the queue), `MosMeta` (the layout's version).
//!
//! One write is one transaction; the feed of changes is written with it, so an index elsewhere that follows the feed
//! misses nothing. Lists are ordered and cut by the server; filters on other fields than the listed ones are evaluated
//! here, over what the server sends of the cube, and it leaves out what cannot pass. Vectors are compared exactly, by the
//! server, with all of the cube's: beyond some ten thousand memories of a cube use an index of vectors that follows the
//! record.
//!
//! Invariant: every statement names its tenant and finds its nodes by an index; nothing that a caller sends becomes part
//! of a statement's text.

mod apply;
mod archive;
mod connection;
mod draft;
mod fault;
mod graph;
mod groups;
mod layout;
mod listing;
mod nearest;
mod options;
mod outbox;
#[cfg(test)]
mod plans;
mod read;
mod schema;
mod scopes;
mod spaces;
mod statements;
mod taking_over;
mod terms;
mod values;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use mos_core::{
    ArchiveBatch, ArchivedMemory, ArchivedReceipt, Change, Clock, Direction, Edge, EmbeddingSpace, Filter, GraphPage,
    GraphStore, GroupCount, JobQueue, MemoryId, MemoryItem, Page, Paging, PastVersion, Receipt, RecordArchive,
    RecordStore, Scope, ScopeLifecycle, Scored, Status, StoreError, Tagged, VectorStore, Version, WriteBatch,
};

pub use options::{Neo4jOptions, Tenancy};
pub use schema::SCHEMA_VERSION as NEO4J_SCHEMA_VERSION;

use crate::TextAnalyzer;
use crate::bm25::query_terms;
use crate::prepare::{PreparedBatch, check_space, prepare};
use crate::queue::QueueLimits;
use crate::similar::similarities_by_record;
use apply::{Apply, KeyLimits};
use archive::Import;
use connection::Connection;
use fault::BACKEND;
use listing::Order;
use outbox::Outbox;
use read::{ReadChanges, ScopeRow};
use scopes::Lifecycle;
use spaces::AdoptSpace;

/// The record on a Neo4j server.
pub struct Neo4jStore {
    connection: Arc<Connection>,
    options: Neo4jOptions,
    clock: Arc<dyn Clock>,
    analyzer: Arc<TextAnalyzer>,
    /// Tenants whose memories of MemOS were taken over since the store was opened.
    adopted: Mutex<HashSet<String>>,
    /// Where jobs go; without one they are refused.
    outbox: Option<Arc<Outbox>>,
    /// When jobs on their way count as pushed.
    opened_at: Timestamp,
}

impl std::fmt::Debug for Neo4jStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Neo4jStore").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Neo4jStore {
    /// Connects to the server, checks that it is new enough, and makes the constraints and indexes that are missing. Waits
    /// until they are filled.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server cannot be reached, refuses the password or takes no writes;
    /// [`StoreError::Invalid`] when it is too old, is the Community edition and a database per user is asked for, or the
    /// database holds several memories of one cube with the same id; [`StoreError::Newer`] for a database of a newer
    /// program; [`StoreError::Busy`] when large indexes take too long.
    pub async fn open(options: Neo4jOptions, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self::connect(options, clock, None).await?))
    }

    /// As [`Neo4jStore::open`]. Jobs of a write are kept with it and brought to `queue`: at once when it takes them, else as
    /// soon as it does, by any program that opens the database with its queue. A job may be pushed twice; the queue knows
    /// its id.
    ///
    /// # Errors
    /// As [`Neo4jStore::open`].
    pub async fn open_with_queue(
        options: Neo4jOptions,
        clock: Arc<dyn Clock>,
        queue: Arc<dyn JobQueue>,
    ) -> Result<Arc<Self>, StoreError> {
        let outbox = Arc::new(Outbox::new(queue));
        let store = Arc::new(Self::connect(options, clock, Some(Arc::clone(&outbox))).await?);
        tokio::spawn(outbox::serve(Arc::downgrade(&store), outbox));
        Ok(store)
    }

    /// As [`Neo4jStore::open_with_queue`], but what others left on its way to the queue stays there: only jobs of this one's
    /// own writes, and those of their cubes, are brought. For whoever reads what another program works on.
    ///
    /// # Errors
    /// As [`Neo4jStore::open`].
    pub async fn open_beside_queue(
        options: Neo4jOptions,
        clock: Arc<dyn Clock>,
        queue: Arc<dyn JobQueue>,
    ) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self::connect(options, clock, Some(Arc::new(Outbox::new(queue)))).await?))
    }

    /// Returns the same record without its queue: what becomes of cubes is not told to the queue, whose jobs may be those of
    /// another record, and writes with jobs are refused.
    pub fn without_queue(&self) -> Arc<Self> {
        Arc::new(Self {
            connection: Arc::clone(&self.connection),
            options: self.options.clone(),
            clock: Arc::clone(&self.clock),
            analyzer: Arc::clone(&self.analyzer),
            adopted: Mutex::default(),
            outbox: None,
            opened_at: self.opened_at,
        })
    }

    async fn connect(
        options: Neo4jOptions,
        clock: Arc<dyn Clock>,
        outbox: Option<Arc<Outbox>>,
    ) -> Result<Self, StoreError> {
        // Boxed: the states of the driver lie deep in one another, and would in every future that holds this one.
        let connection = Arc::new(Box::pin(schema::open(&options)).await?);
        let analyzer = Arc::new(TextAnalyzer::new());
        let opened_at = clock.now();
        Ok(Self { connection, options, clock, analyzer, adopted: Mutex::default(), outbox, opened_at })
    }

    /// The mark of a scope's nodes.
    fn tenant(&self, scope: &Scope) -> String {
        format!("{}{}", self.options.tenant_prefix, scope.cube)
    }

    async fn lifecycle(&self, scope: &Scope, generation: u64, change: scopes::Change) -> Result<bool, StoreError> {
        let work = Lifecycle {
            scope: scope.clone(),
            tenant: self.tenant(scope),
            generation,
            change,
            at: self.clock.now_text(),
        };
        let changed = self.connection.transact(work).await?;
        if let Some(outbox) = self.outbox.as_ref().filter(|_| changed.was_erased) {
            outbox.queue.remove_tenant(scope).await?;
        }
        Ok(changed.is_so)
    }

    /// Texts are analysed before the scope is locked.
    async fn prepare(&self, batch: WriteBatch) -> Result<PreparedBatch, StoreError> {
        let (analyzer, at) = (Arc::clone(&self.analyzer), self.clock.now_text());
        blocking(move || prepare(batch, &analyzer, at, &QueueLimits::default())).await?
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    crate::blocking::blocking(BACKEND, work).await
}

#[async_trait]
impl GraphStore for Neo4jStore {
    async fn nodes(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, StoreError> {
        read::nodes(&self.connection, &self.tenant(scope), ids).await
    }

    async fn list(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<Page<MemoryItem>, StoreError> {
        let tenant = self.tenant(scope);
        match self.groups(scope, &tenant).await? {
            Some(groups) => self.listed(&tenant, &groups).list(filter, paging).await,
            None => read::list(&self.connection, &tenant, filter, paging).await,
        }
    }

    async fn latest(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<Vec<MemoryItem>, StoreError> {
        let tenant = self.tenant(scope);
        match self.groups(scope, &tenant).await? {
            Some(groups) => self.listed(&tenant, &groups).page(filter, paging, Order::Latest).await,
            None => read::latest(&self.connection, &tenant, filter, paging).await,
        }
    }

    async fn newest(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<Vec<MemoryItem>, StoreError> {
        let tenant = self.tenant(scope);
        match self.groups(scope, &tenant).await? {
            Some(groups) => self.listed(&tenant, &groups).page(filter, paging, Order::Newest).await,
            None => graph::newest(&self.connection, &tenant, filter, paging).await,
        }
    }

    async fn kept_apart(&self, scope: &Scope, limit: usize) -> Result<Vec<MemoryItem>, StoreError> {
        let tenant = self.tenant(scope);
        if self.can_list(scope, &tenant).await? {
            return listing::kept_apart(&self.connection, &tenant, limit).await;
        }
        let archived = Filter::equals("status", Status::Archived.as_str());
        let mut found = read::list(&self.connection, &tenant, &archived, Paging::ALL).await?.entries;
        found.retain(MemoryItem::is_kept_apart);
        found.truncate(limit);
        Ok(found)
    }

    async fn count(&self, scope: &Scope, filter: &Filter) -> Result<usize, StoreError> {
        let tenant = self.tenant(scope);
        if *filter == Filter::Everything {
            return read::count(&self.connection, &tenant, filter).await;
        }
        match self.groups(scope, &tenant).await? {
            Some(groups) => self.listed(&tenant, &groups).count(filter).await,
            None => read::count(&self.connection, &tenant, filter).await,
        }
    }

    async fn edges(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
        direction: Direction,
        kind: Option<&str>,
    ) -> Result<Vec<Edge>, StoreError> {
        graph::edges(&self.connection, &self.tenant(scope), ids, direction, kind).await
    }

    async fn all_edges(&self, scope: &Scope) -> Result<Vec<Edge>, StoreError> {
        graph::all_edges(&self.connection, &self.tenant(scope), None).await
    }

    async fn full_text(
        &self,
        scope: &Scope,
        query: &str,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Scored>, StoreError> {
        let tenant = self.adopted(scope).await?;
        let terms = query_terms(self.analyzer.terms(query));
        terms::search(&self.connection, &tenant, &terms, limit, filter).await
    }

    async fn sharing_tags(
        &self,
        scope: &Scope,
        tags: &[String],
        min_shared: usize,
        except: &[MemoryId],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Tagged>, StoreError> {
        graph::sharing_tags(&self.connection, &self.tenant(scope), tags, min_shared, except, limit, filter).await
    }

    async fn without_edges(
        &self,
        scope: &Scope,
        kind: &str,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<MemoryItem>, StoreError> {
        let tenant = self.tenant(scope);
        match self.groups(scope, &tenant).await? {
            Some(groups) => self.listed(&tenant, &groups).without_edges(kind, limit, filter).await,
            None => graph::without_edges(&self.connection, &tenant, kind, limit, filter).await,
        }
    }

    async fn count_by(&self, scope: &Scope, fields: &[String], filter: &Filter) -> Result<Vec<GroupCount>, StoreError> {
        let tenant = self.tenant(scope);
        match self.groups(scope, &tenant).await? {
            Some(groups) => self.listed(&tenant, &groups).count_by(fields, filter).await,
            None => graph::count_by(&self.connection, &tenant, fields, filter).await,
        }
    }

    async fn export(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<GraphPage, StoreError> {
        let tenant = self.tenant(scope);
        let chosen = match self.groups(scope, &tenant).await? {
            Some(groups) => self.listed(&tenant, &groups).newest_ids(filter).await?,
            None => graph::newest_ids(&self.connection, &tenant, filter).await?,
        };
        graph::export(&self.connection, &tenant, &chosen, paging).await
    }
}

#[async_trait]
impl RecordStore for Neo4jStore {
    async fn apply(&self, scope: &Scope, batch: WriteBatch) -> Result<Receipt, StoreError> {
        let has_jobs = !batch.jobs.is_empty();
        if has_jobs && self.outbox.is_none() {
            return Err(StoreError::Invalid(
                "the Neo4j store has no queue to bring jobs to; name one in the settings (`queue`), for example `redis`"
                    .to_owned(),
            ));
        }
        let batch = self.prepare(batch).await?;
        let work = Apply {
            scope: scope.clone(),
            tenant: self.adopted(scope).await?,
            batch,
            limits: KeyLimits {
                max_per_cube: self.options.max_idempotency_keys,
                max_age_s: i64::try_from(self.options.idempotency_age.as_secs()).unwrap_or(i64::MAX),
                now_s: self.clock.now().as_second(),
            },
            analyzer: Arc::clone(&self.analyzer),
            prefix: self.options.tenant_prefix.clone(),
        };
        let receipt = self.connection.transact(work).await?;
        if let Some(outbox) = self.outbox.as_ref().filter(|_| has_jobs) {
            self.deliver_soon(outbox, scope).await;
        }
        Ok(receipt)
    }

    async fn embedding_space(&self, scope: &Scope) -> Result<Option<EmbeddingSpace>, StoreError> {
        read::embedding_space(&self.connection, &self.tenant(scope)).await
    }

    async fn without_embedding(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        limit: usize,
    ) -> Result<Vec<MemoryItem>, StoreError> {
        read::without_embedding(&self.connection, &self.tenant(scope), space, limit).await
    }

    async fn adopt_space(&self, scope: &Scope, space: &EmbeddingSpace) -> Result<(), StoreError> {
        check_space(space)?;
        let tenant = self.adopted(scope).await?;
        let work = AdoptSpace { scope: scope.clone(), tenant, space: space.clone(), at: self.clock.now_text() };
        self.connection.transact(work).await
    }

    async fn changes(&self, scope: &Scope, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let tenant = self.adopted(scope).await?;
        // Most calls find nothing new: only the others hold up the writers.
        match ScopeRow::read(&self.connection, &tenant).await? {
            Some(row) if row.sequence > after && limit > 0 => {
                self.connection.transact(ReadChanges { tenant, after, limit }).await
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn embeddings(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<(MemoryId, Vec<f32>)>, StoreError> {
        read::embeddings(&self.connection, &self.tenant(scope), ids).await
    }

    async fn history(&self, scope: &Scope, id: &MemoryId) -> Result<Vec<Version>, StoreError> {
        read::history(&self.connection, &self.tenant(scope), id).await
    }

    async fn facts(&self) -> Result<Vec<(String, String)>, StoreError> {
        let mut facts = schema::facts(&self.options, &self.connection).await?;
        if self.outbox.is_some() {
            let n_cubes = self.scopes_with_jobs().await?.len();
            facts.push(("cubes with jobs on their way to the queue".to_owned(), n_cubes.to_string()));
        }
        Ok(facts)
    }

    fn archive(&self) -> Option<&dyn RecordArchive> {
        Some(self)
    }
}

/// Memories that MemOS wrote are taken over before they move.
#[async_trait]
impl RecordArchive for Neo4jStore {
    async fn position(&self, scope: &Scope) -> Result<u64, StoreError> {
        archive::position(&self.connection, &self.adopted(scope).await?).await
    }

    async fn archived_memories(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ArchivedMemory>, StoreError> {
        archive::memories(&self.connection, &self.adopted(scope).await?, after, limit).await
    }

    async fn archived_memories_of(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<ArchivedMemory>, StoreError> {
        archive::memories_of(&self.connection, &self.adopted(scope).await?, ids).await
    }

    async fn archived_versions(
        &self,
        scope: &Scope,
        after: Option<(&MemoryId, u64)>,
        limit: usize,
    ) -> Result<Vec<PastVersion>, StoreError> {
        archive::versions(&self.connection, &self.tenant(scope), after, limit).await
    }

    async fn archived_receipts(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ArchivedReceipt>, StoreError> {
        archive::receipts(&self.connection, &self.tenant(scope), after, limit).await
    }

    async fn import(&self, scope: &Scope, batch: ArchiveBatch) -> Result<(), StoreError> {
        let analyzer = Arc::clone(&self.analyzer);
        let batch = blocking(move || crate::archive::prepare_archive(batch, &analyzer)).await??;
        let tenant = self.adopted(scope).await?;
        let work = Import { scope: scope.clone(), tenant, batch, at: self.clock.now_text() };
        self.connection.transact(work).await
    }
}

#[async_trait]
impl ScopeLifecycle for Neo4jStore {
    async fn generation(&self, scope: &Scope) -> Result<u64, StoreError> {
        let row = ScopeRow::read(&self.connection, &self.tenant(scope)).await?;
        Ok(row.map_or(0, |row| row.generation))
    }

    async fn open_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        self.lifecycle(scope, generation, scopes::Change::Open).await.map(drop)
    }

    async fn close_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        self.lifecycle(scope, generation, scopes::Change::Close).await.map(drop)
    }

    async fn close_empty_scope(&self, scope: &Scope, generation: u64) -> Result<bool, StoreError> {
        self.lifecycle(scope, generation, scopes::Change::CloseEmpty).await
    }
}

#[async_trait]
impl VectorStore for Neo4jStore {
    async fn nearest(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Scored>, StoreError> {
        nearest::nearest(&self.connection, scope, &self.tenant(scope), space, query, limit, filter).await
    }

    async fn similarities(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        query: &[f32],
        ids: &[MemoryId],
    ) -> Result<Vec<Option<f32>>, StoreError> {
        similarities_by_record(self, scope, space, query, ids).await
    }

    async fn count(&self, scope: &Scope) -> Result<usize, StoreError> {
        nearest::count(&self.connection, &self.tenant(scope)).await
    }
}
