//! Cubes for handlers that need little of them, and documents that live as long as a test.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use mos_core::state::{check_key, checked_text};
use mos_core::{
    Clock, Cube, CubeId, Document, Expected, LogEntry, MemoryError, MemoryId, Reading, RecordStore, Scope, StateStore,
    StoreError, UserId,
};
use mos_memory::{NaiveText, Shelf};
use mos_scheduler::{CubeWork, Cubes, OpenError, Organized, SchedulerCube, StoredReading};
use mos_testkit::embedder::WordEmbedder;
use serde_json::Value;

/// Shows the runtime's time, which stands still but for timers while it is paused.
#[derive(Debug)]
pub(crate) struct RuntimeClock {
    base: Timestamp,
    began: tokio::time::Instant,
}

impl RuntimeClock {
    pub(crate) fn new() -> Self {
        Self { base: Timestamp::from_second(1_767_323_045).unwrap(), began: tokio::time::Instant::now() }
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        self.base + self.began.elapsed()
    }
}

/// Cubes without memories: for handlers that look at messages only. A cube whose name begins with `gone` is not there.
#[derive(Debug)]
pub(crate) struct BareCubes {
    record: Arc<dyn RecordStore>,
    clock: Arc<dyn Clock>,
}

impl BareCubes {
    pub(crate) fn new(record: Arc<dyn RecordStore>, clock: Arc<dyn Clock>) -> Self {
        Self { record, clock }
    }
}

#[async_trait]
impl Cubes for BareCubes {
    async fn open(&self, user: &UserId, cube: &CubeId) -> Result<Arc<SchedulerCube>, OpenError> {
        if cube.as_str().starts_with("gone") {
            return Err(OpenError::Gone(format!("cube `{cube}` was deleted")));
        }
        let info = Cube {
            cube_id: cube.clone(),
            cube_name: cube.to_string(),
            cube_path: None,
            owner_id: user.clone(),
            created_at: self.clock.now_text(),
            is_registered: true,
            config: Value::Null,
        };
        let shelf = Shelf {
            scope: Scope::of(cube),
            record: Arc::clone(&self.record),
            clock: Arc::clone(&self.clock),
            file_name: "textual_memory.json".to_owned(),
        };
        Ok(Arc::new(SchedulerCube {
            info,
            user: user.clone(),
            text: Arc::new(NaiveText::new(shelf)),
            preferences: None,
            activation: None,
            reader: None,
            work: Arc::new(NoWork),
            model: None,
            embedder: Arc::new(WordEmbedder::new("words", 16)),
        }))
    }
}

#[derive(Debug)]
struct NoWork;

#[async_trait]
impl CubeWork for NoWork {
    async fn store(&self, _: Reading, _: &str) -> Result<StoredReading, MemoryError> {
        Err(MemoryError::Unsupported("a bare cube stores nothing".to_owned()))
    }

    async fn organize(&self, _: Option<&[MemoryId]>) -> Result<Organized, MemoryError> {
        Err(MemoryError::Unsupported("a bare cube has nothing to organise".to_owned()))
    }
}

/// Documents and logs in memory.
#[derive(Debug, Default)]
pub(crate) struct StateInMemory {
    scopes: Mutex<HashMap<Scope, ScopeState>>,
}

#[derive(Debug, Default)]
struct ScopeState {
    /// The last version, and the document when there is one.
    documents: BTreeMap<String, (u64, Option<Value>)>,
    /// The last number, and the kept entries.
    logs: BTreeMap<String, (u64, Vec<LogEntry>)>,
}

#[async_trait]
impl StateStore for StateInMemory {
    async fn read(&self, scope: &Scope, key: &str) -> Result<Option<Document>, StoreError> {
        let scopes = self.scopes.lock().unwrap();
        let found = scopes.get(scope).and_then(|state| state.documents.get(key));
        Ok(found.and_then(|(version, value)| Some(Document { value: value.clone()?, version: *version })))
    }

    async fn write(&self, scope: &Scope, key: &str, value: &Value, expected: Expected) -> Result<u64, StoreError> {
        check_key(key)?;
        checked_text(value)?;
        let mut scopes = self.scopes.lock().unwrap();
        let entry = scopes.entry(scope.clone()).or_default().documents.entry(key.to_owned()).or_default();
        let is_so = match expected {
            Expected::Anything => true,
            Expected::Absent => entry.1.is_none(),
            Expected::Version(version) => entry.1.is_some() && entry.0 == version,
        };
        if !is_so {
            return Err(StoreError::Conflict(format!("document `{key}` has another version")));
        }
        *entry = (entry.0 + 1, Some(value.clone()));
        Ok(entry.0)
    }

    async fn remove(&self, scope: &Scope, key: &str) -> Result<bool, StoreError> {
        let mut scopes = self.scopes.lock().unwrap();
        let entry = scopes.get_mut(scope).and_then(|state| state.documents.get_mut(key));
        Ok(entry.is_some_and(|entry| entry.1.take().is_some()))
    }

    async fn keys(
        &self,
        scope: &Scope,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let scopes = self.scopes.lock().unwrap();
        let keys = scopes.get(scope).into_iter().flat_map(|state| &state.documents);
        let wanted = keys.filter(|(key, (_, value))| {
            value.is_some() && key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
        });
        Ok(wanted.map(|(key, _)| key.clone()).take(limit).collect())
    }

    async fn append(&self, scope: &Scope, log: &str, entries: &[Value], keep: usize) -> Result<u64, StoreError> {
        check_key(log)?;
        let mut scopes = self.scopes.lock().unwrap();
        let (last, kept) = scopes.entry(scope.clone()).or_default().logs.entry(log.to_owned()).or_default();
        for value in entries {
            *last += 1;
            kept.push(LogEntry { sequence: *last, value: value.clone() });
        }
        let n_too_many = kept.len().saturating_sub(keep);
        kept.drain(..n_too_many);
        Ok(*last)
    }

    async fn entries(&self, scope: &Scope, log: &str, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        let scopes = self.scopes.lock().unwrap();
        let kept = scopes.get(scope).and_then(|state| state.logs.get(log));
        let kept = kept.into_iter().flat_map(|(_, kept)| kept);
        Ok(kept.filter(|entry| entry.sequence > after).take(limit).cloned().collect())
    }

    async fn remove_scope(&self, scope: &Scope) -> Result<(), StoreError> {
        self.scopes.lock().unwrap().remove(scope);
        Ok(())
    }
}
