//! Documents and logs on a Redis server, beside the queue: for records that keep none.
//!
//! Invariant: every call is one script, which the server runs alone and whole. All keys begin with `{prefix}:state`, so
//! they lie in one slot of a cluster; names of cubes and logs in them are encoded, so no name can reach another's keys.
//!
//! The server learns of cubes as a record does ([`ScopeLifecycle`]): what is written for one that was deleted is refused, by
//! whichever program it was deleted, and what comes late touches no later cube of the same id.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::state::{check_key, checked_text};
use mos_core::{
    ArchivedLog, Document, Expected, LogEntry, Scope, ScopeLifecycle, StateArchive, StateStore, StoreError,
};
use redis::Script;
use serde_json::Value;

use super::RedisQueue;
use super::connection::{Connection, RedisOptions, Repeat};
use super::fault::BACKEND;
use super::key::{decode, encode};
use crate::prepare::{closed, late};
use crate::state::{parse_kept, prepare_entries, unexpected_version};

/// Part of the keys of documents and logs.
const PART: &str = "state";
/// Larger numbers are no longer exact on the server, and nothing there is that large.
const LARGEST: u64 = 1 << 50;

macro_rules! script {
    ($name:literal, $flags:literal) => {
        Script::new(concat!(
            "#!lua",
            $flags,
            "\n",
            include_str!("scripts/state/prelude.lua"),
            include_str!(concat!("scripts/state/", $name, ".lua"))
        ))
    };
}

struct Scripts {
    read: Script,
    write: Script,
    remove: Script,
    keys: Script,
    append: Script,
    entries: Script,
    remove_scope: Script,
    logs: Script,
    begin_log: Script,
    generation: Script,
    own: Script,
}

impl Scripts {
    /// The flags say when the server refuses to begin: what ends in less being used goes on when its memory is full.
    fn new() -> Self {
        Self {
            read: script!("read", " flags=no-writes"),
            write: script!("write", ""),
            remove: script!("remove", " flags=allow-oom"),
            keys: script!("keys", " flags=no-writes"),
            append: script!("append", ""),
            entries: script!("entries", " flags=no-writes"),
            remove_scope: script!("remove_scope", " flags=allow-oom"),
            logs: script!("logs", " flags=no-writes"),
            begin_log: script!("begin_log", ""),
            generation: script!("generation", " flags=no-writes"),
            own: script!("own", " flags=allow-oom"),
        }
    }
}

/// Documents and logs on a Redis server.
pub struct RedisState {
    connection: Connection,
    scripts: Scripts,
}

impl fmt::Debug for RedisState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisState").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl RedisState {
    /// Connects to the server and checks that it can keep documents. Of the options the limits of the queue mean nothing
    /// here.
    ///
    /// # Errors
    /// As [`RedisQueue::open`].
    pub async fn open(options: RedisOptions) -> Result<Arc<Self>, StoreError> {
        let connection = Connection::open(options, PART).await?;
        Ok(Self::over(connection))
    }

    fn over(connection: Connection) -> Arc<Self> {
        Arc::new(Self { connection, scripts: Scripts::new() })
    }
}

impl RedisQueue {
    /// Returns the documents and logs beside the queue: same server, prefix and connection.
    pub fn state(&self) -> Arc<RedisState> {
        RedisState::over(self.connection.beside(PART))
    }
}

fn tenant(scope: &Scope) -> String {
    encode(scope.cube.as_str())
}

fn bound(number: usize) -> String {
    (number as u64).min(LARGEST).to_string()
}

fn unexpected(script: &str) -> StoreError {
    StoreError::Backend {
        backend: BACKEND,
        source: format!("the script `{script}` gave an answer of another form; another program changed its keys")
            .into(),
    }
}

fn number(script: &str, text: &str) -> Result<u64, StoreError> {
    text.parse().map_err(|_| unexpected(script))
}

#[async_trait]
impl StateStore for RedisState {
    async fn read(&self, scope: &Scope, key: &str) -> Result<Option<Document>, StoreError> {
        let arguments = [tenant(scope), key.to_owned()];
        let found: Vec<String> = self.connection.call(&self.scripts.read, &arguments, Repeat::Safe).await?;
        match found.as_slice() {
            [] => Ok(None),
            [text, version] => Ok(Some(Document { value: parse_kept(key, text)?, version: number("read", version)? })),
            _ => Err(unexpected("read")),
        }
    }

    async fn write(&self, scope: &Scope, key: &str, value: &Value, expected: Expected) -> Result<u64, StoreError> {
        check_key(key)?;
        let expected = match expected {
            Expected::Anything => String::new(),
            Expected::Absent => "absent".to_owned(),
            Expected::Version(version) => version.to_string(),
        };
        let arguments = [tenant(scope), key.to_owned(), checked_text(value)?, expected];
        let answer: Vec<u64> = self.connection.call(&self.scripts.write, &arguments, Repeat::Never).await?;
        match *answer.as_slice() {
            [1, version] => Ok(version),
            [0, 0] => Err(unexpected_version(key, None)),
            [0, version] => Err(unexpected_version(key, Some(version))),
            [2, _] => Err(closed(scope)),
            _ => Err(unexpected("write")),
        }
    }

    async fn remove(&self, scope: &Scope, key: &str) -> Result<bool, StoreError> {
        let arguments = [tenant(scope), key.to_owned()];
        self.connection.call(&self.scripts.remove, &arguments, Repeat::Never).await
    }

    async fn keys(
        &self,
        scope: &Scope,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let first = match after.filter(|after| *after >= prefix) {
            Some(after) => format!("({after}"),
            None => format!("[{prefix}"),
        };
        let arguments = [tenant(scope), first, prefix.to_owned(), bound(limit)];
        self.connection.call(&self.scripts.keys, &arguments, Repeat::Safe).await
    }

    async fn append(&self, scope: &Scope, log: &str, entries: &[Value], keep: usize) -> Result<u64, StoreError> {
        let prepared = prepare_entries(log, entries, keep)?;
        let mut arguments = vec![tenant(scope), encode(log), bound(keep), bound(prepared.n_added)];
        arguments.extend(prepared.kept);
        let last: i64 = self.connection.call(&self.scripts.append, &arguments, Repeat::Never).await?;
        u64::try_from(last).map_err(|_| closed(scope))
    }

    async fn entries(&self, scope: &Scope, log: &str, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let arguments = [tenant(scope), encode(log), after.min(LARGEST).to_string(), bound(limit)];
        let answer: Vec<String> = self.connection.call(&self.scripts.entries, &arguments, Repeat::Safe).await?;
        let Some((first, texts)) = answer.split_first() else { return Err(unexpected("entries")) };
        let first = number("entries", first)?;
        let numbered = (first..).zip(texts);
        numbered.map(|(sequence, text)| parse_kept(log, text).map(|value| LogEntry { sequence, value })).collect()
    }

    async fn remove_scope(&self, scope: &Scope) -> Result<(), StoreError> {
        let done: bool = self.connection.call(&self.scripts.remove_scope, &[tenant(scope)], Repeat::Safe).await?;
        if done { Ok(()) } else { Err(unexpected("remove_scope")) }
    }

    fn state_archive(&self) -> Option<&dyn StateArchive> {
        Some(self)
    }
}

#[async_trait]
impl StateArchive for RedisState {
    async fn logs(&self, scope: &Scope, after: Option<&str>, limit: usize) -> Result<Vec<ArchivedLog>, StoreError> {
        let answer: Vec<String> = self.connection.call(&self.scripts.logs, &[tenant(scope)], Repeat::Safe).await?;
        let mut logs = Vec::new();
        for pair in answer.chunks_exact(2) {
            logs.push(ArchivedLog { name: decode(&pair[0]), last: number("logs", &pair[1])? });
        }
        logs.retain(|log| after.is_none_or(|after| log.name.as_str() > after));
        logs.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        logs.truncate(limit);
        Ok(logs)
    }

    async fn begin_log(&self, scope: &Scope, log: &str, last: u64) -> Result<(), StoreError> {
        check_key(log)?;
        let arguments = [tenant(scope), encode(log), last.min(LARGEST).to_string()];
        let done: bool = self.connection.call(&self.scripts.begin_log, &arguments, Repeat::Safe).await?;
        if done { Ok(()) } else { Err(closed(scope)) }
    }
}

impl RedisState {
    /// Opens or closes a scope; returns whether it could.
    async fn own(&self, scope: &Scope, what: &str, generation: u64) -> Result<bool, StoreError> {
        let arguments = [tenant(scope), what.to_owned(), generation.to_string()];
        self.connection.call(&self.scripts.own, &arguments, Repeat::Safe).await
    }
}

/// Generations up to 2^53 are told apart, which is as far as the server counts.
#[async_trait]
impl ScopeLifecycle for RedisState {
    async fn generation(&self, scope: &Scope) -> Result<u64, StoreError> {
        let text: String = self.connection.call(&self.scripts.generation, &[tenant(scope)], Repeat::Safe).await?;
        number("generation", &text)
    }

    async fn open_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        if self.own(scope, "open", generation).await? { Ok(()) } else { Err(late(scope)) }
    }

    async fn close_scope(&self, scope: &Scope, generation: u64) -> Result<(), StoreError> {
        if self.own(scope, "close", generation).await? { Ok(()) } else { Err(unexpected("own")) }
    }

    /// Documents and logs are no memories: they keep no scope open.
    async fn close_empty_scope(&self, scope: &Scope, generation: u64) -> Result<bool, StoreError> {
        self.close_scope(scope, generation).await.map(|()| true)
    }
}
