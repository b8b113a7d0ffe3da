//! Small documents and bounded logs of a cube, for parts that work in the background and must not forget.
//!
//! Not here: memories (the record), jobs (the queue), what documents say (whoever writes them).

use std::fmt;

use async_trait::async_trait;
use serde_json::Value;

use crate::error::StoreError;
use crate::record::Scope;

/// The most bytes of a document or of an entry of a log, as JSON text.
pub const MAX_STATE_BYTES: usize = 1024 * 1024;

/// The most bytes of a key or of the name of a log.
pub const MAX_STATE_KEY_BYTES: usize = 512;

/// A document as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What it says.
    pub value: Value,
    /// Counts the writes of this key from 1; a key that is removed and written again counts on.
    pub version: u64,
}

/// What must be true of a key before it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    #[default]
    Anything,
    /// There is no such document.
    Absent,
    /// The document has this version.
    Version(u64),
}

/// An entry of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Numbers the entries of a log in their order, from 1, without gaps.
    pub sequence: u64,
    /// What it says.
    pub value: Value,
}

/// Documents and logs. Every call is one transaction; what was written is as durable as the store makes it. Deleting a cube
/// erases what it holds.
#[async_trait]
pub trait StateStore: fmt::Debug + Send + Sync {
    /// Returns a document.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn read(&self, scope: &Scope, key: &str) -> Result<Option<Document>, StoreError>;

    /// Writes a document and returns its version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when what is expected is not so; [`StoreError::Invalid`] for a document or key that is too
    /// long, or an empty key; [`StoreError::NotFound`] when the store knows that the cube was deleted; what a write can meet.
    async fn write(&self, scope: &Scope, key: &str, value: &Value, expected: Expected) -> Result<u64, StoreError>;

    /// Removes a document and returns whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    async fn remove(&self, scope: &Scope, key: &str) -> Result<bool, StoreError>;

    /// Returns at most `limit` keys of documents that begin with `prefix` and come after `after` (all with `None`), in the
    /// order of their bytes.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn keys(
        &self,
        scope: &Scope,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError>;

    /// Adds entries to the end of a log, all or none, keeps its newest `keep` entries, and returns the number of the last
    /// entry; without entries the number of the last one there ever was.
    ///
    /// # Errors
    /// As [`StateStore::write`].
    async fn append(&self, scope: &Scope, log: &str, entries: &[Value], keep: usize) -> Result<u64, StoreError>;

    /// Returns at most `limit` entries of a log that come after number `after`, in order.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn entries(&self, scope: &Scope, log: &str, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError>;

    /// Erases the documents and logs of a scope, the numbers of both too.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written.
    async fn remove_scope(&self, scope: &Scope) -> Result<(), StoreError>;

    /// Returns what moves documents and logs elsewhere and others' here; `None` when it cannot.
    fn state_archive(&self) -> Option<&dyn StateArchive> {
        None
    }
}

/// A log, without its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedLog {
    /// Its name.
    pub name: String,
    /// The number of the last entry that there ever was.
    pub last: u64,
}

/// Documents and logs that can move. Documents move through [`StateStore::keys`], [`StateStore::read`] and [`StateStore::write`],
/// entries through [`StateStore::entries`] and [`StateStore::append`].
#[async_trait]
pub trait StateArchive: StateStore {
    /// Returns at most `limit` logs whose names come after `after` (all with `None`), in the order of their bytes.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    async fn logs(&self, scope: &Scope, after: Option<&str>, limit: usize) -> Result<Vec<ArchivedLog>, StoreError>;

    /// Makes a log one without entries whose next entry has the number after `last`.
    ///
    /// # Errors
    /// As [`StateStore::append`].
    async fn begin_log(&self, scope: &Scope, log: &str, last: u64) -> Result<(), StoreError>;
}

/// Refuses a key, or the name of a log, that stores do not take.
///
/// # Errors
/// [`StoreError::Invalid`].
pub fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > MAX_STATE_KEY_BYTES {
        return Err(StoreError::Invalid(format!("a key has 1 to {MAX_STATE_KEY_BYTES} bytes, this one {}", key.len())));
    }
    Ok(())
}

/// Returns a value as the JSON text that stores keep.
///
/// # Errors
/// [`StoreError::Invalid`] for one that is too long.
pub fn checked_text(value: &Value) -> Result<String, StoreError> {
    let text = value.to_string();
    if text.len() > MAX_STATE_BYTES {
        return Err(StoreError::Invalid(format!(
            "a document has at most {MAX_STATE_BYTES} bytes as JSON, this one {}",
            text.len()
        )));
    }
    Ok(text)
}
