//! Documents and logs in the database.

use async_trait::async_trait;
use mos_core::state::{check_key, checked_text};
use mos_core::{ArchivedLog, Document, Expected, LogEntry, Scope, StateArchive, StateStore, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::SqliteStore;
use super::apply::{ensure_scope, execute, scope_key};
use super::fault::Fault;
use crate::state::{PreparedEntries, check_expected, parse_kept, prepare_entries};

fn bound(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn read(connection: &Connection, scope: &Scope, key: &str) -> Result<Option<Document>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(None) };
    let mut statement = connection.prepare_cached(
        "SELECT value, version FROM state_documents WHERE scope = ?1 AND key = ?2 AND value IS NOT NULL",
    )?;
    let found: Option<(String, i64)> =
        statement.query_row(params![scope, key], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((text, version)) = found else { return Ok(None) };
    Ok(Some(Document { value: parse_kept(key, &text)?, version: version.unsigned_abs() }))
}

fn write(connection: &Connection, scope: &Scope, key: &str, text: &str, expected: Expected) -> Result<u64, Fault> {
    let scope = ensure_scope(connection, scope)?;
    let have: Option<i64> = connection
        .prepare_cached("SELECT version FROM state_documents WHERE scope = ?1 AND key = ?2 AND value IS NOT NULL")?
        .query_row(params![scope, key], |row| row.get(0))
        .optional()?;
    check_expected(key, have.map(i64::unsigned_abs), expected)?;
    let version: i64 = connection
        .prepare_cached(
            "INSERT INTO state_documents (scope, key, version, value) VALUES (?1, ?2, 1, ?3)
             ON CONFLICT (scope, key) DO UPDATE SET version = version + 1, value = excluded.value
             RETURNING version",
        )?
        .query_row(params![scope, key, text], |row| row.get(0))?;
    Ok(version.unsigned_abs())
}

fn remove(connection: &Connection, scope: &Scope, key: &str) -> Result<bool, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(false) };
    let n_removed = connection
        .prepare_cached("UPDATE state_documents SET value = NULL WHERE scope = ?1 AND key = ?2 AND value IS NOT NULL")?
        .execute(params![scope, key])?;
    Ok(n_removed > 0)
}

/// Keys that begin alike lie together in the order of their bytes, so that the first one that does not ends the search.
fn keys(
    connection: &Connection,
    scope: &Scope,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, Fault> {
    let mut keys = Vec::new();
    let Some(scope) = scope_key(connection, scope)? else { return Ok(keys) };
    let first = after.map_or(prefix, |after| after.max(prefix));
    let mut statement = connection.prepare_cached(
        "SELECT key FROM state_documents WHERE scope = ?1 AND key >= ?2 AND value IS NOT NULL ORDER BY key",
    )?;
    let mut rows = statement.query(params![scope, first])?;
    while keys.len() < limit
        && let Some(row) = rows.next()?
    {
        let key: String = row.get(0)?;
        if !key.starts_with(prefix) {
            break;
        }
        if after != Some(key.as_str()) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Key of a log, and the number of the last entry that there ever was.
fn log(connection: &Connection, scope: i64, name: &str) -> Result<Option<(i64, i64)>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT log_key, last FROM state_logs WHERE scope = ?1 AND name = ?2")?;
    Ok(statement.query_row(params![scope, name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

fn append(
    connection: &Connection,
    scope: &Scope,
    name: &str,
    entries: &PreparedEntries,
    keep: usize,
) -> Result<u64, Fault> {
    let scope = ensure_scope(connection, scope)?;
    let (log, before) = match log(connection, scope, name)? {
        Some(known) => known,
        None if entries.n_added == 0 => return Ok(0),
        None => {
            let values = params![scope, name];
            execute(connection, "INSERT INTO state_logs (scope, name, last) VALUES (?1, ?2, 0)", values)?;
            (connection.last_insert_rowid(), 0)
        }
    };
    let last = before.saturating_add(bound(entries.n_added));
    execute(connection, "UPDATE state_logs SET last = ?2 WHERE log_key = ?1", params![log, last])?;
    let first_kept = last - bound(entries.kept.len()) + 1;
    for (sequence, text) in (first_kept..).zip(&entries.kept) {
        execute(
            connection,
            "INSERT INTO state_entries (log, sequence, value) VALUES (?1, ?2, ?3)",
            params![log, sequence, text],
        )?;
    }
    let dropped_until = last.saturating_sub(bound(keep));
    execute(connection, "DELETE FROM state_entries WHERE log = ?1 AND sequence <= ?2", params![log, dropped_until])?;
    Ok(last.unsigned_abs())
}

fn entries(
    connection: &Connection,
    scope: &Scope,
    name: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<LogEntry>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let Some((log, _)) = log(connection, scope, name)? else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(
        "SELECT sequence, value FROM state_entries WHERE log = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![log, after, bound(limit)])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let (sequence, text): (i64, String) = (row.get(0)?, row.get(1)?);
        entries.push(LogEntry { sequence: sequence.unsigned_abs(), value: parse_kept(name, &text)? });
    }
    Ok(entries)
}

fn logs(connection: &Connection, scope: &Scope, after: Option<&str>, limit: usize) -> Result<Vec<ArchivedLog>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    // No name is empty.
    let mut statement = connection
        .prepare_cached("SELECT name, last FROM state_logs WHERE scope = ?1 AND name > ?2 ORDER BY name LIMIT ?3")?;
    let mut rows = statement.query(params![scope, after.unwrap_or_default(), bound(limit)])?;
    let mut logs = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, last): (String, i64) = (row.get(0)?, row.get(1)?);
        logs.push(ArchivedLog { name, last: last.unsigned_abs() });
    }
    Ok(logs)
}

fn begin_log(connection: &Connection, scope: &Scope, name: &str, last: u64) -> Result<(), Fault> {
    let scope = ensure_scope(connection, scope)?;
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    let log: i64 = connection
        .prepare_cached(
            "INSERT INTO state_logs (scope, name, last) VALUES (?1, ?2, ?3)
             ON CONFLICT (scope, name) DO UPDATE SET last = excluded.last
             RETURNING log_key",
        )?
        .query_row(params![scope, name, last], |row| row.get(0))?;
    execute(connection, "DELETE FROM state_entries WHERE log = ?1", [log])
}

/// Erases what a scope holds, the numbers of its documents and logs too.
pub(super) fn remove_all(connection: &Connection, scope: &Scope) -> Result<(), Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(()) };
    execute(connection, "DELETE FROM state_documents WHERE scope = ?1", [scope])?;
    // The entries go with their logs.
    execute(connection, "DELETE FROM state_logs WHERE scope = ?1", [scope])
}

#[async_trait]
impl StateStore for SqliteStore {
    async fn read(&self, scope: &Scope, key: &str) -> Result<Option<Document>, StoreError> {
        let (scope, key) = (scope.clone(), key.to_owned());
        self.readers.read(move |connection| read(connection, &scope, &key)).await
    }

    async fn write(&self, scope: &Scope, key: &str, value: &Value, expected: Expected) -> Result<u64, StoreError> {
        check_key(key)?;
        let text = checked_text(value)?;
        let (scope, key) = (scope.clone(), key.to_owned());
        self.writer.write(move |connection| write(connection, &scope, &key, &text, expected)).await
    }

    async fn remove(&self, scope: &Scope, key: &str) -> Result<bool, StoreError> {
        let (scope, key) = (scope.clone(), key.to_owned());
        self.writer.write(move |connection| remove(connection, &scope, &key)).await
    }

    async fn keys(
        &self,
        scope: &Scope,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let (scope, prefix, after) = (scope.clone(), prefix.to_owned(), after.map(str::to_owned));
        self.readers.read(move |connection| keys(connection, &scope, &prefix, after.as_deref(), limit)).await
    }

    async fn append(&self, scope: &Scope, log: &str, entries: &[Value], keep: usize) -> Result<u64, StoreError> {
        let prepared = prepare_entries(log, entries, keep)?;
        let (scope, log) = (scope.clone(), log.to_owned());
        self.writer.write(move |connection| append(connection, &scope, &log, &prepared, keep)).await
    }

    async fn entries(&self, scope: &Scope, log: &str, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        let (scope, log) = (scope.clone(), log.to_owned());
        self.readers.read(move |connection| entries(connection, &scope, &log, after, limit)).await
    }

    async fn remove_scope(&self, scope: &Scope) -> Result<(), StoreError> {
        let scope = scope.clone();
        self.writer.write(move |connection| remove_all(connection, &scope)).await
    }

    fn state_archive(&self) -> Option<&dyn StateArchive> {
        Some(self)
    }
}

#[async_trait]
impl StateArchive for SqliteStore {
    async fn logs(&self, scope: &Scope, after: Option<&str>, limit: usize) -> Result<Vec<ArchivedLog>, StoreError> {
        let (scope, after) = (scope.clone(), after.map(str::to_owned));
        self.readers.read(move |connection| logs(connection, &scope, after.as_deref(), limit)).await
    }

    async fn begin_log(&self, scope: &Scope, log: &str, last: u64) -> Result<(), StoreError> {
        check_key(log)?;
        let (scope, log) = (scope.clone(), log.to_owned());
        self.writer.write(move |connection| begin_log(connection, &scope, &log, last)).await
    }
}
