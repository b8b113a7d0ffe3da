//! The record, the users, the jobs, documents and logs, and the full-text index in one `SQLite` file.
//!
//! Invariant: a call that writes returns success only after its transaction was synced to disk, and a call that
//! fails has changed nothing. Several processes may use the same file.

mod apply;
mod archive;
mod check;
mod connection;
mod copies;
mod edges;
mod erase;
mod fault;
mod graph;
mod keys;
mod listing;
mod queue;
mod read;
mod receipts;
mod schema;
mod scopes;
mod spaces;
mod state;
mod terms;
mod user_archive;
mod users;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mos_core::{
    Access, Change, ChangedFields, Clock, Cube, CubeId, Direction, Edge, EmbeddingSpace, Filter, GraphPage, GraphStore,
    GroupCount, KeyStore, MemoryId, MemoryItem, News, Page, Paging, Receipt, RecordArchive, RecordStore, Scope,
    ScopeLifecycle, Scored, Standing, StoreError, Tagged, User, UserArchive, UserId, UserRole, UserStore, Version,
    WriteBatch,
};
use rusqlite::{Connection, ErrorCode};
use serde_json::Value;

pub use check::{Finding, Statistics, UNKNOWN_CUBE};
pub use connection::SqliteOptions;
pub use erase::Traces;
pub use schema::SCHEMA_VERSION;

use crate::TextAnalyzer;
use crate::bm25::query_terms;
use crate::prepare::{PreparedBatch, check_space, prepare};
use crate::queue::Bell;
use connection::Readers;
use fault::{BACKEND, Fault, store_error};
use receipts::KeyLimits;
use writer::Writer;

/// The embedded record, user store, queue of jobs, and store of documents and logs. Needs a tokio runtime for its calls.
#[derive(Debug)]
pub struct SqliteStore {
    options: SqliteOptions,
    clock: Arc<dyn Clock>,
    analyzer: Arc<TextAnalyzer>,
    readers: Arc<Readers>,
    writer: Writer,
    bell: Bell,
}

impl SqliteStore {
    /// Opens the database, makes it when it is missing, and brings an older one up to date after copying it. Blocks
    /// while it does so.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a database of a newer program, [`StoreError::Storage`], [`StoreError::Busy`],
    /// [`StoreError::Corrupt`], [`StoreError::Invalid`] for another program's database.
    pub fn open(options: SqliteOptions, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        let path = options.path.clone();
        if options.vfs.is_none() {
            make_folder(&path)?;
        }
        let fail = |error: rusqlite::Error| store_error(error.into(), &path);
        let mut connection = options.connect().map_err(fail)?;
        schema::bring_up_to_date(&mut connection, &path, schema::MIGRATIONS, &clock.now_text())?;
        use_write_ahead_log(&connection, options.busy_timeout).map_err(|fault| store_error(fault, &path))?;
        let writer = Writer::start(connection, path.clone(), options.max_queued_writes, options.checkpoint_pages)
            .map_err(|error| StoreError::Unavailable { backend: BACKEND, source: error.into() })?;
        let readers = Arc::new(Readers::new(options.clone()));
        Ok(Arc::new(Self {
            options,
            clock,
            analyzer: Arc::new(TextAnalyzer::new()),
            readers,
            writer,
            bell: Bell::default(),
        }))
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.options.path
    }

    /// Returns what is wrong in the database; nothing, when it is sound. Reads all of it.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    pub async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        self.readers.read(check::check).await
    }

    /// Returns how much the database holds.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    pub async fn statistics(&self) -> Result<Statistics, StoreError> {
        let path = self.options.path.clone();
        self.readers.read(move |connection| check::statistics(connection, &path)).await
    }

    /// Returns the cubes that hold memories, also those that this database does not know because users and cubes are
    /// kept elsewhere; in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    pub async fn cubes_with_memories(&self) -> Result<Vec<CubeId>, StoreError> {
        let cubes = self.readers.read(scopes::with_memories).await?;
        Ok(cubes.into_iter().map(CubeId::new).collect())
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.readers.read(work).await
    }

    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.writer.write(work).await
    }

    /// Texts are analysed here, so that the one writer only writes.
    async fn prepare(&self, batch: WriteBatch) -> Result<PreparedBatch, StoreError> {
        let (analyzer, at) = (Arc::clone(&self.analyzer), self.clock.now_text());
        let limits = self.options.queue.clone();
        blocking(move || prepare(batch, &analyzer, at, &limits)).await?
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    crate::blocking::blocking(BACKEND, work).await
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| StoreError::Storage {
        path: folder.display().to_string(),
        detail: format!("{error}; make the folder writable for this user, or choose another data directory"),
    })
}

/// How long it is waited before the mode of the file is asked for again.
const PAUSE: Duration = Duration::from_millis(5);

/// The mode is kept in the file; every connection after this one finds it.
///
/// The change needs the file for itself, and `SQLite` refuses it at once when another connection is in the way, without
/// the wait that every other statement has; so it is tried for `patience`.
fn use_write_ahead_log(connection: &Connection, patience: Duration) -> Result<(), Fault> {
    let deadline = Instant::now() + patience;
    let mode: String = loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            result => break result?,
        }
    };
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    Err(Fault::Store(StoreError::Invalid(format!(
        "the file system of the data directory cannot share memory between processes (journal mode `{mode}`); choose a \
         directory on a local disk"
    ))))
}

#[async_trait]
impl GraphStore for SqliteStore {
    async fn nodes(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<MemoryItem>, StoreError> {
        let (scope, ids) = (scope.clone(), ids.to_vec());
        self.read(move |connection| read::nodes(connection, &scope, &ids)).await
    }

    async fn list(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<Page<MemoryItem>, StoreError> {
        let (scope, filter) = (scope.clone(), filter.clone());
        self.read(move |connection| read::list(connection, &scope, &filter, paging)).await
    }

    async fn latest(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<Vec<MemoryItem>, StoreError> {
        let (scope, filter) = (scope.clone(), filter.clone());
        self.read(move |connection| listing::latest(connection, &scope, &filter, paging)).await
    }

    async fn newest(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<Vec<MemoryItem>, StoreError> {
        let (scope, filter) = (scope.clone(), filter.clone());
        self.read(move |connection| listing::newest(connection, &scope, &filter, paging)).await
    }

    async fn kept_apart(&self, scope: &Scope, limit: usize) -> Result<Vec<MemoryItem>, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| listing::kept_apart(connection, &scope, limit)).await
    }

    async fn count(&self, scope: &Scope, filter: &Filter) -> Result<usize, StoreError> {
        let (scope, filter) = (scope.clone(), filter.clone());
        self.read(move |connection| read::count(connection, &scope, &filter)).await
    }

    async fn edges(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
        direction: Direction,
        kind: Option<&str>,
    ) -> Result<Vec<Edge>, StoreError> {
        let (scope, ids, kind) = (scope.clone(), ids.to_vec(), kind.map(str::to_owned));
        self.read(move |connection| graph::edges(connection, &scope, &ids, direction, kind.as_deref())).await
    }

    async fn all_edges(&self, scope: &Scope) -> Result<Vec<Edge>, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| graph::all_edges(connection, &scope)).await
    }

    async fn full_text(
        &self,
        scope: &Scope,
        query: &str,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<Scored>, StoreError> {
        let (scope, query, filter) = (scope.clone(), query.to_owned(), filter.clone());
        let analyzer = Arc::clone(&self.analyzer);
        self.read(move |connection| {
            terms::search(connection, &scope, &query_terms(analyzer.terms(&query)), limit, &filter)
        })
        .await
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
        let (scope, tags, except, filter) = (scope.clone(), tags.to_vec(), except.to_vec(), filter.clone());
        self.read(move |connection| graph::sharing_tags(connection, &scope, &tags, min_shared, &except, limit, &filter))
            .await
    }

    async fn without_edges(
        &self,
        scope: &Scope,
        kind: &str,
        limit: usize,
        filter: &Filter,
    ) -> Result<Vec<MemoryItem>, StoreError> {
        let (scope, kind, filter) = (scope.clone(), kind.to_owned(), filter.clone());
        self.read(move |connection| graph::without_edges(connection, &scope, &kind, limit, &filter)).await
    }

    async fn count_by(&self, scope: &Scope, fields: &[String], filter: &Filter) -> Result<Vec<GroupCount>, StoreError> {
        let (scope, fields, filter) = (scope.clone(), fields.to_vec(), filter.clone());
        self.read(move |connection| graph::count_by(connection, &scope, &fields, &filter)).await
    }

    async fn export(&self, scope: &Scope, filter: &Filter, paging: Paging) -> Result<GraphPage, StoreError> {
        let (scope, filter) = (scope.clone(), filter.clone());
        self.read(move |connection| graph::export(connection, &scope, &filter, paging)).await
    }
}

#[async_trait]
impl RecordStore for SqliteStore {
    async fn apply(&self, scope: &Scope, batch: WriteBatch) -> Result<Receipt, StoreError> {
        let batch = self.prepare(batch).await?;
        let scope = scope.clone();
        let limits = KeyLimits {
            max_per_cube: self.options.max_idempotency_keys,
            max_age_s: i64::try_from(self.options.idempotency_age.as_secs()).unwrap_or(i64::MAX),
            now_ms: self.clock.now().as_millisecond(),
        };
        let has_jobs = !batch.jobs.is_empty();
        let queue = self.options.queue.clone();
        let receipt = self.write(move |connection| apply::apply(connection, &scope, &batch, limits, &queue)).await?;
        if has_jobs {
            self.bell.ring();
        }
        Ok(receipt)
    }

    async fn embedding_space(&self, scope: &Scope) -> Result<Option<EmbeddingSpace>, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| read::embedding_space(connection, &scope)).await
    }

    async fn without_embedding(
        &self,
        scope: &Scope,
        space: &EmbeddingSpace,
        limit: usize,
    ) -> Result<Vec<MemoryItem>, StoreError> {
        let (scope, space) = (scope.clone(), space.clone());
        self.read(move |connection| read::without_embedding(connection, &scope, &space, limit)).await
    }

    async fn adopt_space(&self, scope: &Scope, space: &EmbeddingSpace) -> Result<(), StoreError> {
        check_space(space)?;
        let (scope, space) = (scope.clone(), space.clone());
        self.write(move |connection| spaces::adopt_space(connection, &scope, &space)).await
    }

    async fn changes(&self, scope: &Scope, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| read::changes(connection, &scope, after, limit)).await
    }

    async fn changed_fields(
        &self,
        scope: &Scope,
        fields: &[&str],
        after: u64,
        limit: usize,
    ) -> Result<Vec<ChangedFields>, StoreError> {
        let (scope, fields) = (scope.clone(), fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>());
        self.read(move |connection| read::changed_fields(connection, &scope, &fields, after, limit)).await
    }

    async fn news(&self, scope: &Scope, after: u64) -> Result<News, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| read::news(connection, &scope, after)).await
    }

    async fn embeddings(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<(MemoryId, Vec<f32>)>, StoreError> {
        let (scope, ids) = (scope.clone(), ids.to_vec());
        self.read(move |connection| read::embeddings(connection, &scope, &ids)).await
    }

    async fn history(&self, scope: &Scope, id: &MemoryId) -> Result<Vec<Version>, StoreError> {
        let (scope, id) = (scope.clone(), id.clone());
        self.read(move |connection| read::history(connection, &scope, &id)).await
    }

    fn archive(&self) -> Option<&dyn RecordArchive> {
        Some(self)
    }
}

#[async_trait]
impl ScopeLifecycle for SqliteStore {
    async fn generation(&self, scope: &Scope) -> Result<u64, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| scopes::generation(connection, &scope)).await
    }

    async fn open_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        let (scope, at) = (scope.clone(), self.clock.now_text());
        self.write(move |connection| scopes::open(connection, &scope, generation, &at)).await
    }

    async fn close_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        let (scope, at) = (scope.clone(), self.clock.now_text());
        self.write(move |connection| scopes::close(connection, &scope, generation, &at)).await
    }

    async fn close_empty_scope(&self, scope: &Scope, generation: u64) -> Result<bool, StoreError> {
        let (scope, at) = (scope.clone(), self.clock.now_text());
        self.write(move |connection| scopes::close_empty(connection, &scope, generation, &at)).await
    }
}

#[async_trait]
impl UserStore for SqliteStore {
    async fn create_user(&self, id: &UserId, name: &str, role: UserRole) -> Result<User, StoreError> {
        let (id, name, at) = (id.clone(), name.to_owned(), self.clock.now_text());
        self.write(move |connection| users::create(connection, &id, &name, role, &at)).await
    }

    async fn ensure_user(&self, id: &UserId) -> Result<User, StoreError> {
        // Nearly always; and nothing is waited for that others write.
        if let Some(user) = self.user(id).await? {
            return Ok(user);
        }
        let (id, at) = (id.clone(), self.clock.now_text());
        self.write(move |connection| users::ensure(connection, &id, &at)).await
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        let id = id.clone();
        self.read(move |connection| users::user(connection, &id)).await
    }

    async fn known_user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        let id = id.clone();
        self.read(move |connection| users::known_user(connection, &id)).await
    }

    async fn users(&self) -> Result<Vec<User>, StoreError> {
        self.read(users::users).await
    }

    async fn delete_user(&self, id: &UserId) -> Result<(), StoreError> {
        let id = id.clone();
        self.write(move |connection| users::delete_user(connection, &id)).await
    }

    async fn erase_user(&self, id: &UserId) -> Result<(), StoreError> {
        let id = id.clone();
        self.write(move |connection| erase::user(connection, &id)).await
    }

    async fn set_role(&self, id: &UserId, role: UserRole) -> Result<User, StoreError> {
        let id = id.clone();
        self.write(move |connection| users::set_role(connection, &id, role)).await
    }

    async fn create_cube(&self, cube: &Cube) -> Result<(), StoreError> {
        let cube = cube.clone();
        self.write(move |connection| users::create_cube(connection, &cube)).await
    }

    async fn cube(&self, id: &CubeId) -> Result<Option<Cube>, StoreError> {
        let id = id.clone();
        self.read(move |connection| users::cube(connection, &id)).await
    }

    async fn cubes(&self, user: Option<&UserId>) -> Result<Vec<Cube>, StoreError> {
        let user = user.cloned();
        self.read(move |connection| users::cubes(connection, user.as_ref())).await
    }

    async fn set_registered(&self, id: &CubeId, is_registered: bool) -> Result<(), StoreError> {
        let id = id.clone();
        self.write(move |connection| users::set_registered(connection, &id, is_registered)).await
    }

    async fn set_cube_config(&self, id: &CubeId, config: &Value) -> Result<(), StoreError> {
        let (id, config) = (id.clone(), config.clone());
        self.write(move |connection| users::set_config(connection, &id, &config)).await
    }

    async fn delete_cube(&self, id: &CubeId) -> Result<(), StoreError> {
        let (id, at) = (id.clone(), self.clock.now_text());
        self.write(move |connection| users::delete_cube(connection, &id, &at)).await
    }

    async fn discard_cube(&self, id: &CubeId) -> Result<bool, StoreError> {
        let (id, at) = (id.clone(), self.clock.now_text());
        self.write(move |connection| users::discard_cube(connection, &id, &at)).await
    }

    async fn share(&self, id: &CubeId, user: &UserId, access: Access) -> Result<(), StoreError> {
        let (id, user) = (id.clone(), user.clone());
        self.write(move |connection| users::share(connection, &id, &user, access)).await
    }

    async fn shares(&self, id: &CubeId) -> Result<Vec<(UserId, Access)>, StoreError> {
        let id = id.clone();
        self.read(move |connection| users::shares(connection, &id)).await
    }

    async fn unshare(&self, id: &CubeId, user: &UserId) -> Result<(), StoreError> {
        let (id, user) = (id.clone(), user.clone());
        self.write(move |connection| users::unshare(connection, &id, &user)).await
    }

    async fn access(&self, user: &UserId, cube: &CubeId) -> Result<Option<Access>, StoreError> {
        let (user, cube) = (user.clone(), cube.clone());
        self.read(move |connection| users::access(connection, &user, &cube)).await
    }

    async fn standing(&self, user: &UserId, cube: &CubeId) -> Result<Standing, StoreError> {
        let (user, cube) = (user.clone(), cube.clone());
        self.read(move |connection| users::standing(connection, &user, &cube)).await
    }

    fn key_store(&self) -> Option<&dyn KeyStore> {
        Some(self)
    }

    fn archive(&self) -> Option<&dyn UserArchive> {
        Some(self)
    }
}
