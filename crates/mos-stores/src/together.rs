//! A record, and the documents that are kept beside it on another server: both learn of cubes together.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{
    ArchivedLog, Document, Expected, LogEntry, Scope, ScopeLifecycle, StateArchive, StateStore, StoreError,
};
use serde_json::Value;

/// Documents and logs of cubes that come and go in another store.
pub trait StateWithScopes: StateArchive + ScopeLifecycle {}

impl<S: StateArchive + ScopeLifecycle> StateWithScopes for S {}

/// Tells a record and the documents beside it of every cube that is made and deleted. Whoever calls it repeats what broke
/// off, as with a record alone: each step does nothing the second time.
///
/// A program that knows the record alone may make a cube, too: documents for it are refused at first when an earlier cube of
/// its id was deleted, and are taken as soon as the record says whose the id is by now.
#[derive(Clone, Debug)]
pub struct RecordAndState {
    record: Arc<dyn ScopeLifecycle>,
    state: Arc<dyn StateWithScopes>,
}

impl RecordAndState {
    /// Returns both as one.
    pub fn new(record: Arc<dyn ScopeLifecycle>, state: Arc<dyn StateWithScopes>) -> Self {
        Self { record, state }
    }

    /// Opens the documents of a scope that is open in the record for a later cube; returns whether they are open for the
    /// record's cube.
    async fn catch_up(&self, scope: &Scope) -> Result<bool, StoreError> {
        let generation = self.record.generation(scope).await?;
        // With the same one, somebody else may have opened them since they were closed to us.
        if generation < self.state.generation(scope).await? {
            return Ok(false);
        }
        // The first changes nothing when the record is open for this cube, and is refused otherwise.
        let opened = match self.record.open_scope(scope, generation).await {
            Ok(()) => self.state.open_scope(scope, generation).await,
            refused => refused,
        };
        match opened {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl ScopeLifecycle for RecordAndState {
    async fn generation(&self, scope: &Scope) -> Result<u64, StoreError> {
        Ok(self.record.generation(scope).await?.max(self.state.generation(scope).await?))
    }

    async fn open_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        self.record.open_scope(scope, generation).await?;
        self.state.open_scope(scope, generation).await
    }

    async fn close_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        self.record.close_scope(scope, generation).await?;
        self.state.close_scope(scope, generation).await
    }

    async fn close_empty_scope(&self, scope: &Scope, generation: u64) -> Result<bool, StoreError> {
        if !self.record.close_empty_scope(scope, generation).await? {
            return Ok(false);
        }
        self.state.close_scope(scope, generation).await?;
        Ok(true)
    }
}

#[async_trait]
impl StateStore for RecordAndState {
    async fn read(&self, scope: &Scope, key: &str) -> Result<Option<Document>, StoreError> {
        self.state.read(scope, key).await
    }

    async fn write(&self, scope: &Scope, key: &str, value: &Value, expected: Expected) -> Result<u64, StoreError> {
        let done = self.state.write(scope, key, value, expected).await;
        if matches!(done, Err(StoreError::NotFound { .. })) && self.catch_up(scope).await? {
            return self.state.write(scope, key, value, expected).await;
        }
        done
    }

    async fn remove(&self, scope: &Scope, key: &str) -> Result<bool, StoreError> {
        self.state.remove(scope, key).await
    }

    async fn keys(
        &self,
        scope: &Scope,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.state.keys(scope, prefix, after, limit).await
    }

    async fn append(&self, scope: &Scope, log: &str, entries: &[Value], keep: usize) -> Result<u64, StoreError> {
        let done = self.state.append(scope, log, entries, keep).await;
        if matches!(done, Err(StoreError::NotFound { .. })) && self.catch_up(scope).await? {
            return self.state.append(scope, log, entries, keep).await;
        }
        done
    }

    async fn entries(&self, scope: &Scope, log: &str, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        self.state.entries(scope, log, after, limit).await
    }

    async fn remove_scope(&self, scope: &Scope) -> Result<(), StoreError> {
        // What is written from now on is the record's cube's: whoever deletes an earlier one late leaves it alone.
        self.catch_up(scope).await?;
        self.state.remove_scope(scope).await
    }

    fn state_archive(&self) -> Option<&dyn StateArchive> {
        Some(self)
    }
}

#[async_trait]
impl StateArchive for RecordAndState {
    async fn logs(&self, scope: &Scope, after: Option<&str>, limit: usize) -> Result<Vec<ArchivedLog>, StoreError> {
        self.state.logs(scope, after, limit).await
    }

    async fn begin_log(&self, scope: &Scope, log: &str, last: u64) -> Result<(), StoreError> {
        let done = self.state.begin_log(scope, log, last).await;
        if matches!(done, Err(StoreError::NotFound { .. })) && self.catch_up(scope).await? {
            return self.state.begin_log(scope, log, last).await;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use mos_core::{CubeId, SystemClock};
    use serde_json::json;

    use super::*;
    use crate::InMemoryStore;

    #[tokio::test]
    async fn a_cube_that_only_the_record_knows_gets_documents() {
        let (record, state) = (InMemoryStore::new(Arc::new(SystemClock)), InMemoryStore::new(Arc::new(SystemClock)));
        let both = RecordAndState::new(record.clone(), state);
        let scope = Scope::of(&CubeId::new("c"));
        let write = async || both.write(&scope, "a", &json!(1), Expected::Anything).await;
        both.open_scope(&scope, 1).await.unwrap();
        both.close_scope(&scope, 1).await.unwrap();
        assert!(matches!(write().await, Err(StoreError::NotFound { .. })));
        record.close_scope(&scope, 2).await.unwrap();
        assert!(matches!(write().await, Err(StoreError::NotFound { .. })), "a later one that is gone, too");
        record.open_scope(&scope, 3).await.unwrap();
        assert_eq!(write().await.unwrap(), 1);
        both.close_scope(&scope, 3).await.unwrap();
        record.open_scope(&scope, 4).await.unwrap();
        assert_eq!(both.append(&scope, "log", &[json!(1)], 5).await.unwrap(), 1);
        assert_eq!(both.generation(&scope).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn what_moves_to_a_cube_that_only_the_record_knows_comes() {
        let (record, state) = (InMemoryStore::new(Arc::new(SystemClock)), InMemoryStore::new(Arc::new(SystemClock)));
        let both = RecordAndState::new(record.clone(), state);
        let scope = Scope::of(&CubeId::new("c"));
        both.open_scope(&scope, 1).await.unwrap();
        both.close_scope(&scope, 1).await.unwrap();
        let archive = both.state_archive().unwrap();
        assert!(matches!(archive.begin_log(&scope, "log", 6).await, Err(StoreError::NotFound { .. })));
        record.open_scope(&scope, 2).await.unwrap();
        archive.begin_log(&scope, "log", 6).await.unwrap();
        record.close_scope(&scope, 2).await.unwrap();
        both.close_scope(&scope, 2).await.unwrap();
        record.open_scope(&scope, 3).await.unwrap();
        archive.write(&scope, "a", &json!(1), Expected::Anything).await.unwrap();
        assert_eq!(archive.append(&scope, "log", &[json!(1)], 5).await.unwrap(), 1, "a later cube begins anew");
    }

    #[tokio::test]
    async fn what_came_after_all_was_removed_is_the_later_cubes() {
        let (record, state) = (InMemoryStore::new(Arc::new(SystemClock)), InMemoryStore::new(Arc::new(SystemClock)));
        let both = RecordAndState::new(record.clone(), state);
        let scope = Scope::of(&CubeId::new("c"));
        record.open_scope(&scope, 5).await.unwrap();
        both.remove_scope(&scope).await.unwrap();
        both.write(&scope, "a", &json!(1), Expected::Anything).await.unwrap();
        both.close_scope(&scope, 4).await.unwrap();
        assert!(both.read(&scope, "a").await.unwrap().is_some());
        both.close_scope(&scope, 5).await.unwrap();
        both.remove_scope(&scope).await.unwrap();
        assert!(both.read(&scope, "a").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn who_asks_after_somebody_else_opened_the_documents_may_write() {
        let (record, state) = (InMemoryStore::new(Arc::new(SystemClock)), InMemoryStore::new(Arc::new(SystemClock)));
        let both = RecordAndState::new(record.clone(), state.clone());
        let scope = Scope::of(&CubeId::new("c"));
        record.open_scope(&scope, 2).await.unwrap();
        state.open_scope(&scope, 2).await.unwrap();
        assert!(both.catch_up(&scope).await.unwrap());
        both.write(&scope, "a", &json!(1), Expected::Anything).await.unwrap();
        assert!(both.catch_up(&scope).await.unwrap());
        assert!(both.read(&scope, "a").await.unwrap().is_some(), "what was written stays");
        both.close_scope(&scope, 2).await.unwrap();
        assert!(!both.catch_up(&scope).await.unwrap());
    }
}
