//! Documents and logs in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use async_trait::async_trait;
use mos_core::state::{check_key, checked_text};
use mos_core::{ArchivedLog, Document, Expected, LogEntry, Scope, StateArchive, StateStore, StoreError};
use serde_json::Value;

use super::InMemoryStore;
use crate::prepare::closed;
use crate::state::{PreparedEntries, check_expected, parse_kept, prepare_entries};

/// A key that was ever written. Without a value it was removed, and its versions count on.
#[derive(Debug, Default)]
struct Kept {
    version: u64,
    value: Option<Value>,
}

#[derive(Debug, Default)]
struct Log {
    /// Number of the last entry that there ever was.
    last: u64,
    /// The newest ones, in order.
    entries: VecDeque<Value>,
}

/// Documents and logs of a scope.
#[derive(Debug, Default)]
pub(super) struct KeptState {
    documents: BTreeMap<String, Kept>,
    logs: HashMap<String, Log>,
}

impl KeptState {
    fn read(&self, key: &str) -> Option<Document> {
        let kept = self.documents.get(key)?;
        Some(Document { value: kept.value.clone()?, version: kept.version })
    }

    fn write(&mut self, key: &str, value: &Value, expected: Expected) -> Result<u64, StoreError> {
        let have = self.documents.get(key).filter(|kept| kept.value.is_some()).map(|kept| kept.version);
        check_expected(key, have, expected)?;
        let kept = self.documents.entry(key.to_owned()).or_default();
        kept.version += 1;
        kept.value = Some(value.clone());
        Ok(kept.version)
    }

    fn remove(&mut self, key: &str) -> bool {
        self.documents.get_mut(key).is_some_and(|kept| kept.value.take().is_some())
    }

    /// Keys that begin alike lie together, so that the first one that does not ends the search.
    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let first = match after.filter(|after| *after >= prefix) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let from = self.documents.range::<str, _>((first, Bound::Unbounded));
        let alike = from.take_while(|(key, _)| key.starts_with(prefix));
        alike.filter(|(_, kept)| kept.value.is_some()).map(|(key, _)| key.clone()).take(limit).collect()
    }

    fn append(&mut self, log: &str, new: &PreparedEntries, keep: usize) -> Result<u64, StoreError> {
        if new.n_added == 0 && !self.logs.contains_key(log) {
            return Ok(0);
        }
        let values = new.kept.iter().map(|text| parse_kept(log, text)).collect::<Result<Vec<_>, _>>()?;
        let log = self.logs.entry(log.to_owned()).or_default();
        log.last += new.n_added as u64;
        log.entries.extend(values);
        let n_dropped = log.entries.len().saturating_sub(keep);
        log.entries.drain(..n_dropped);
        Ok(log.last)
    }

    fn logs(&self, after: Option<&str>, limit: usize) -> Vec<ArchivedLog> {
        let later = self.logs.iter().filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        let mut logs: Vec<ArchivedLog> =
            later.map(|(name, log)| ArchivedLog { name: name.clone(), last: log.last }).collect();
        logs.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        logs.truncate(limit);
        logs
    }

    fn entries(&self, log: &str, after: u64, limit: usize) -> Vec<LogEntry> {
        let Some(log) = self.logs.get(log) else { return Vec::new() };
        let before_first = log.last - log.entries.len() as u64;
        let numbered = (before_first + 1..).zip(&log.entries);
        let wanted = numbered.filter(|(sequence, _)| *sequence > after).take(limit);
        wanted.map(|(sequence, value)| LogEntry { sequence, value: value.clone() }).collect()
    }
}

impl InMemoryStore {
    /// Changes documents or logs of a scope, unless its cube was deleted.
    fn change_state<T>(
        &self,
        scope: &Scope,
        work: impl FnOnce(&mut KeptState) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.write();
        let state = state.scopes.entry(scope.clone()).or_default();
        if state.is_closed() {
            return Err(closed(scope));
        }
        work(&mut state.kept)
    }
}

#[async_trait]
impl StateStore for InMemoryStore {
    async fn read(&self, scope: &Scope, key: &str) -> Result<Option<Document>, StoreError> {
        Ok(self.view(scope, |state| state.kept.read(key)))
    }

    async fn write(&self, scope: &Scope, key: &str, value: &Value, expected: Expected) -> Result<u64, StoreError> {
        check_key(key)?;
        checked_text(value)?;
        self.change_state(scope, |kept| kept.write(key, value, expected))
    }

    async fn remove(&self, scope: &Scope, key: &str) -> Result<bool, StoreError> {
        let mut state = self.write();
        Ok(state.scopes.get_mut(scope).is_some_and(|state| state.kept.remove(key)))
    }

    async fn keys(
        &self,
        scope: &Scope,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        Ok(self.view(scope, |state| state.kept.keys(prefix, after, limit)))
    }

    async fn append(&self, scope: &Scope, log: &str, entries: &[Value], keep: usize) -> Result<u64, StoreError> {
        let prepared = prepare_entries(log, entries, keep)?;
        self.change_state(scope, |kept| kept.append(log, &prepared, keep))
    }

    async fn entries(&self, scope: &Scope, log: &str, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        Ok(self.view(scope, |state| state.kept.entries(log, after, limit)))
    }

    async fn remove_scope(&self, scope: &Scope) -> Result<(), StoreError> {
        let mut state = self.write();
        if let Some(state) = state.scopes.get_mut(scope) {
            state.kept = KeptState::default();
        }
        Ok(())
    }

    fn state_archive(&self) -> Option<&dyn StateArchive> {
        Some(self)
    }
}

#[async_trait]
impl StateArchive for InMemoryStore {
    async fn logs(&self, scope: &Scope, after: Option<&str>, limit: usize) -> Result<Vec<ArchivedLog>, StoreError> {
        Ok(self.view(scope, |state| state.kept.logs(after, limit)))
    }

    async fn begin_log(&self, scope: &Scope, log: &str, last: u64) -> Result<(), StoreError> {
        check_key(log)?;
        self.change_state(scope, |kept| {
            kept.logs.insert(log.to_owned(), Log { last, entries: VecDeque::new() });
            Ok(())
        })
    }
}
