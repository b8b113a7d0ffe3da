//! Opening connections, and the bounded pool of those that read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mos_core::StoreError;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::fault::{BACKEND, Fault, store_error};
use crate::queue::QueueLimits;

/// Where the database is and how much it may use.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The file, for example `.../mos.db`. Its folder is made when it is missing.
    pub path: PathBuf,
    /// How long a write waits for another process before it is [`StoreError::Busy`].
    pub busy_timeout: Duration,
    /// The most connections that read at the same time.
    pub max_readers: usize,
    /// The most writes that wait in line; more wait before they may stand in it.
    pub max_queued_writes: usize,
    /// Pages (of 4 KiB) in the write-ahead log after which it is carried over into the file.
    pub checkpoint_pages: u32,
    /// The most idempotency keys that are kept per cube; the oldest go first.
    pub max_idempotency_keys: u32,
    /// How long an idempotency key is kept.
    pub idempotency_age: Duration,
    /// How much the queue of jobs takes.
    pub queue: QueueLimits,
    /// Name of a registered `SQLite` file layer, `None` for the system's own. Used by tests.
    pub vfs: Option<String>,
}

impl SqliteOptions {
    /// Returns the default options for a database file.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            busy_timeout: Duration::from_secs(10),
            max_readers: 8,
            max_queued_writes: 1024,
            checkpoint_pages: 1000,
            max_idempotency_keys: 10_000,
            idempotency_age: Duration::from_secs(7 * 24 * 3600),
            queue: QueueLimits::default(),
            vfs: None,
        }
    }

    /// Opens one connection; the file is made when it is missing.
    pub(super) fn connect(&self) -> Result<Connection, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match &self.vfs {
            None => Connection::open_with_flags(&self.path, flags)?,
            Some(vfs) => Connection::open_with_flags_and_vfs(&self.path, flags, vfs.as_str())?,
        };
        connection.busy_timeout(self.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(128);
        connection.pragma_update(None, "synchronous", "FULL")?;
        // On macOS an ordinary sync leaves data in the drive's cache; elsewhere this changes nothing.
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        Ok(connection)
    }
}

/// The connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    options: SqliteOptions,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(options: SqliteOptions) -> Self {
        let permits = Arc::new(Semaphore::new(options.max_readers.max(1)));
        Self { options, idle: Mutex::new(Vec::new()), permits }
    }

    /// Runs `work` on a connection, off the asynchronous threads. Everything it reads is of one moment.
    pub(super) async fn read<T, F>(self: &Arc<Self>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let unavailable = |source| StoreError::Unavailable { backend: BACKEND, source };
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|error| unavailable(error.into()))?;
        let readers = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let result = readers.read_now(work);
            drop(permit);
            result
        });
        match done.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => Err(unavailable(error.into())),
        }
    }

    fn read_now<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let fail = |fault| store_error(fault, &self.options.path);
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.open().map_err(|error| fail(error.into()))?,
        };
        let result = in_one_moment(&mut connection, work);
        // A connection that could not end its transaction is dropped with it.
        if connection.is_autocommit() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        result.map_err(fail)
    }

    fn open(&self) -> Result<Connection, rusqlite::Error> {
        let connection = self.options.connect()?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }
}

fn in_one_moment<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let transaction = connection.transaction()?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}
