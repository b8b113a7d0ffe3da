//! A batch inside the writer's transaction.

use mos_core::{MemoryId, Origin, Receipt, Scope, StoreError};
use rusqlite::{Connection, OptionalExtension, params};

use super::edges::edges_of_node;
use super::fault::Fault;
use super::receipts::{KeyLimits, earlier_receipt, keep_receipt};
use super::spaces::{current_space, ensure_space};
use super::{queue, state, terms};
use crate::codec;
use crate::prepare::{
    PreparedBatch, PreparedEmbeddings, PreparedItem, ReadItem, changed, closed, loose_embedding, present,
};
use crate::queue::QueueLimits;

/// Applies a batch; the caller provides the transaction.
pub(super) fn apply(
    connection: &Connection,
    scope: &Scope,
    batch: &PreparedBatch,
    limits: KeyLimits,
    queue_limits: &QueueLimits,
) -> Result<Receipt, Fault> {
    let scope_key = ensure_scope(connection, scope)?;
    if let Some(key) = &batch.idempotency_key
        && let Some(receipt) = earlier_receipt(connection, scope_key, key)?
    {
        return Ok(receipt);
    }
    let mut writing = Writing::begin(connection, scope, scope_key, &batch.origin, &batch.at)?;
    writing.check(batch)?;
    let mut n_deleted = 0;
    if batch.clear {
        n_deleted += writing.clear()?;
    }
    let taken = batch.delete.iter().map(|id| writing.edges_at(id)).collect::<Result<Vec<_>, Fault>>()?;
    for (id, edges) in batch.delete.iter().zip(taken) {
        n_deleted += usize::from(writing.delete(id, edges)?);
    }
    for item in &batch.put {
        writing.put(item)?;
    }
    for edge in &batch.remove_edges {
        writing.remove_edge(edge)?;
    }
    for edge in &batch.put_edges {
        writing.put_edge(edge)?;
    }
    if !batch.put_edges.is_empty() {
        writing.note_edges()?;
    }
    if let Some(embeddings) = &batch.embeddings {
        writing.embed(embeddings)?;
    }
    let sequence = writing.finish()?;
    if !batch.jobs.is_empty() {
        queue::push(connection, scope, &batch.jobs, queue_limits, limits.now_ms)?;
    }
    let put = batch.put.iter().map(|prepared| prepared.item.id.clone()).collect();
    let receipt = Receipt { sequence, put, n_deleted, replayed: false };
    if let Some(key) = &batch.idempotency_key {
        keep_receipt(connection, scope_key, key, &receipt, limits)?;
    }
    Ok(receipt)
}

/// Removes what a cube held and sets whether later writes are refused. The ids of its memories stay as tombstones, so
/// that every index that follows the feed lets go of them; everything else goes.
pub(super) fn erase_scope(connection: &Connection, scope: &Scope, at: &str, is_closed: bool) -> Result<(), Fault> {
    execute(
        connection,
        "INSERT INTO scopes (cube_id, is_closed) VALUES (?1, ?2)
         ON CONFLICT (cube_id) DO UPDATE SET is_closed = excluded.is_closed",
        params![scope.cube.as_str(), is_closed],
    )?;
    let Some(scope_key) = scope_key(connection, scope)? else { return Ok(()) };
    let origin = Origin::default();
    let mut writing = Writing::begin(connection, scope, scope_key, &origin, at)?;
    writing.remove_all()?;
    writing.finish()?;
    execute(connection, "DELETE FROM versions WHERE scope = ?1", [scope_key])?;
    execute(connection, "DELETE FROM idempotency WHERE scope = ?1", [scope_key])?;
    queue::remove_tenant(connection, scope)?;
    state::remove_all(connection, scope)
}

/// Returns the internal key of a scope, `None` before its first write.
pub(super) fn scope_key(connection: &Connection, scope: &Scope) -> Result<Option<i64>, Fault> {
    let mut statement = connection.prepare_cached("SELECT scope_key FROM scopes WHERE cube_id = ?1")?;
    Ok(statement.query_row([scope.cube.as_str()], |row| row.get(0)).optional()?)
}

/// Returns the internal key of a scope, which is made when it is new.
pub(super) fn ensure_scope(connection: &Connection, scope: &Scope) -> Result<i64, Fault> {
    let known: Option<(i64, bool)> = connection
        .prepare_cached("SELECT scope_key, is_closed FROM scopes WHERE cube_id = ?1")?
        .query_row([scope.cube.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match known {
        Some((_, true)) => return Err(closed(scope).into()),
        Some((key, false)) => return Ok(key),
        None => {}
    }
    execute(connection, "INSERT INTO scopes (cube_id) VALUES (?1)", [scope.cube.as_str()])?;
    Ok(connection.last_insert_rowid())
}

pub(super) fn read_sequence(connection: &Connection) -> Result<i64, Fault> {
    Ok(connection.prepare_cached("SELECT sequence FROM store")?.query_row([], |row| row.get(0))?)
}

pub(super) fn write_sequence(connection: &Connection, sequence: i64) -> Result<(), Fault> {
    execute(connection, "UPDATE store SET sequence = ?1", [sequence])
}

pub(super) fn execute(connection: &Connection, sql: &'static str, values: impl rusqlite::Params) -> Result<(), Fault> {
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// One batch being written: what is the same for all its changes, and what is written once at its end.
pub(super) struct Writing<'a> {
    pub(super) connection: &'a Connection,
    scope: &'a Scope,
    pub(super) scope_key: i64,
    origin: &'a Origin,
    at: &'a str,
    sequence_before: i64,
    pub(super) sequence: i64,
    pub(super) added_documents: i64,
    pub(super) added_terms: i64,
}

/// Copies the present state of the nodes chosen to the history.
macro_rules! archive {
    () => {
        "INSERT INTO versions (scope, id, number, actor, reason, message_id, changed_at, memory, metadata)
         SELECT scope, id, number, actor, reason, message_id, changed_at, memory, json_remove(metadata, '$.history')
         FROM nodes"
    };
}

pub(super) struct Known {
    pub(super) node: i64,
    number: i64,
    pub(super) n_terms: i64,
    pub(super) memory: String,
}

impl<'a> Writing<'a> {
    pub(super) fn begin(
        connection: &'a Connection,
        scope: &'a Scope,
        scope_key: i64,
        origin: &'a Origin,
        at: &'a str,
    ) -> Result<Self, Fault> {
        let sequence = read_sequence(connection)?;
        Ok(Self {
            connection,
            scope,
            scope_key,
            origin,
            at,
            sequence_before: sequence,
            sequence,
            added_documents: 0,
            added_terms: 0,
        })
    }

    pub(super) fn finish(self) -> Result<u64, Fault> {
        if self.sequence != self.sequence_before {
            write_sequence(self.connection, self.sequence)?;
        }
        if self.added_documents != 0 || self.added_terms != 0 {
            execute(
                self.connection,
                "UPDATE scopes SET n_documents = n_documents + ?2, n_terms = n_terms + ?3 WHERE scope_key = ?1",
                params![self.scope_key, self.added_documents, self.added_terms],
            )?;
        }
        Ok(self.sequence.unsigned_abs())
    }

    /// Refuses when what the batch relies on is no longer so.
    fn check(&self, batch: &PreparedBatch) -> Result<(), Fault> {
        for id in &batch.absent {
            if self.node(id)?.is_some() {
                return Err(present(id).into());
            }
        }
        for read in &batch.unchanged {
            if !self.is_unchanged(read)? {
                return Err(changed(&read.id).into());
            }
        }
        Ok(())
    }

    fn is_unchanged(&self, read: &ReadItem) -> Result<bool, Fault> {
        let mut statement =
            self.connection.prepare_cached("SELECT memory, metadata FROM nodes WHERE scope = ?1 AND id = ?2")?;
        let now: Option<(String, String)> = statement
            .query_row(params![self.scope_key, read.id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((memory, metadata)) = now else { return Ok(false) };
        Ok(memory == read.memory && codec::parse_metadata(read.id.as_str(), &metadata)? == read.metadata)
    }

    pub(super) fn next_sequence(&mut self) -> i64 {
        self.sequence += 1;
        self.sequence
    }

    pub(super) fn known(&self, id: &MemoryId) -> Result<Option<Known>, Fault> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT node_key, number, n_terms, memory FROM nodes WHERE scope = ?1 AND id = ?2")?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Known { node: row.get(0)?, number: row.get(1)?, n_terms: row.get(2)?, memory: row.get(3)? })
        };
        Ok(statement.query_row(params![self.scope_key, id.as_str()], read).optional()?)
    }

    pub(super) fn node(&self, id: &MemoryId) -> Result<Option<i64>, Fault> {
        let mut statement =
            self.connection.prepare_cached("SELECT node_key FROM nodes WHERE scope = ?1 AND id = ?2")?;
        Ok(statement.query_row(params![self.scope_key, id.as_str()], |row| row.get(0)).optional()?)
    }

    /// Removes every memory of the scope; their states and the removal itself stay in the history.
    fn clear(&mut self) -> Result<usize, Fault> {
        execute(self.connection, concat!(archive!(), " WHERE scope = ?1"), [self.scope_key])?;
        execute(
            self.connection,
            concat!(
                "INSERT INTO versions (scope, id, number, actor, reason, message_id, changed_at, edges)
                 SELECT scope, id, number + 1, ?2, ?3, ?4, ?5, ",
                edges_of_node!(),
                " FROM nodes AS n WHERE scope = ?1"
            ),
            params![self.scope_key, self.origin.actor, self.origin.reason, self.origin.message_id, self.at],
        )?;
        self.remove_all()
    }

    /// Removes every memory of the scope without a word in the history; only tombstones stay.
    fn remove_all(&mut self) -> Result<usize, Fault> {
        let (n_documents, n_terms): (i64, i64) = self
            .connection
            .prepare_cached("SELECT count(*), coalesce(sum(n_terms), 0) FROM nodes WHERE scope = ?1")?
            .query_row([self.scope_key], |row| Ok((row.get(0)?, row.get(1)?)))?;
        terms::remove_all(self.connection, self.scope_key)?;
        execute(
            self.connection,
            "INSERT INTO tombstones (scope, id, sequence)
             SELECT scope, id, ?2 + row_number() OVER (ORDER BY node_key) FROM nodes WHERE scope = ?1",
            params![self.scope_key, self.sequence],
        )?;
        execute(self.connection, "DELETE FROM nodes WHERE scope = ?1", [self.scope_key])?;
        execute(
            self.connection,
            "UPDATE scopes SET space = NULL, may_have_edges = 0 WHERE scope_key = ?1",
            [self.scope_key],
        )?;
        self.sequence += n_documents;
        self.added_documents -= n_documents;
        self.added_terms -= n_terms;
        Ok(usize::try_from(n_documents).unwrap_or(0))
    }

    /// `edges`: those that go with it.
    fn delete(&mut self, id: &MemoryId, edges: Option<String>) -> Result<bool, Fault> {
        let Some(known) = self.known(id)? else { return Ok(false) };
        self.archive(known.node)?;
        execute(
            self.connection,
            "INSERT INTO versions (scope, id, number, actor, reason, message_id, changed_at, edges)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                self.scope_key,
                id.as_str(),
                known.number + 1,
                self.origin.actor,
                self.origin.reason,
                self.origin.message_id,
                self.at,
                edges
            ],
        )?;
        terms::remove(self.connection, known.node)?;
        execute(self.connection, "DELETE FROM nodes WHERE node_key = ?1", [known.node])?;
        let sequence = self.next_sequence();
        execute(
            self.connection,
            "INSERT INTO tombstones (scope, id, sequence) VALUES (?1, ?2, ?3)",
            params![self.scope_key, id.as_str(), sequence],
        )?;
        self.added_documents -= 1;
        self.added_terms -= known.n_terms;
        Ok(true)
    }

    /// Copies the present state of a node to the history, without the copies of earlier states that it carries: those
    /// are in the history already.
    fn archive(&self, node: i64) -> Result<(), Fault> {
        execute(self.connection, concat!(archive!(), " WHERE node_key = ?1"), [node])
    }

    fn put(&mut self, prepared: &PreparedItem) -> Result<(), Fault> {
        let sequence = self.next_sequence();
        match self.known(&prepared.item.id)? {
            Some(known) => self.replace(&known, prepared, sequence),
            None => self.insert(prepared, sequence),
        }
    }

    fn insert(&mut self, prepared: &PreparedItem, sequence: i64) -> Result<(), Fault> {
        let id = prepared.item.id.as_str();
        execute(
            self.connection,
            "INSERT INTO nodes (scope, id, sequence, number, n_terms, actor, reason, message_id, changed_at, memory,
                                metadata)
             SELECT ?1, ?2, ?3, 1 + coalesce(max(number), 0), ?4, ?5, ?6, ?7, ?8, ?9, ?10
             FROM versions WHERE scope = ?1 AND id = ?2",
            params![
                self.scope_key,
                id,
                sequence,
                prepared.terms.len() as i64,
                self.origin.actor,
                self.origin.reason,
                self.origin.message_id,
                self.at,
                prepared.item.memory,
                metadata_text(prepared)?
            ],
        )?;
        let node = self.connection.last_insert_rowid();
        let tombstone = params![self.scope_key, id];
        execute(self.connection, "DELETE FROM tombstones WHERE scope = ?1 AND id = ?2", tombstone)?;
        terms::write(self.connection, node, self.scope_key, &prepared.terms)?;
        self.added_documents += 1;
        self.added_terms += prepared.terms.len() as i64;
        Ok(())
    }

    fn replace(&mut self, known: &Known, prepared: &PreparedItem, sequence: i64) -> Result<(), Fault> {
        self.archive(known.node)?;
        execute(
            self.connection,
            "UPDATE nodes SET sequence = ?2, number = number + 1, n_terms = ?3, actor = ?4, reason = ?5,
                              message_id = ?6, changed_at = ?7, memory = ?8, metadata = ?9
             WHERE node_key = ?1",
            params![
                known.node,
                sequence,
                prepared.terms.len() as i64,
                self.origin.actor,
                self.origin.reason,
                self.origin.message_id,
                self.at,
                prepared.item.memory,
                metadata_text(prepared)?
            ],
        )?;
        if known.memory != prepared.item.memory {
            execute(self.connection, "DELETE FROM embeddings WHERE node = ?1", [known.node])?;
            terms::remove(self.connection, known.node)?;
            terms::write(self.connection, known.node, self.scope_key, &prepared.terms)?;
            self.added_terms += prepared.terms.len() as i64 - known.n_terms;
        }
        Ok(())
    }

    fn embed(&mut self, embeddings: &PreparedEmbeddings) -> Result<(), Fault> {
        let current = current_space(self.connection, self.scope_key)?;
        if let Some((_, have)) = &current
            && !embeddings.aside
            && *have != embeddings.space
        {
            return Err(StoreError::EmbeddingSpace {
                cube: self.scope.cube.to_string(),
                have: have.clone(),
                got: embeddings.space.clone(),
            }
            .into());
        }
        if embeddings.vectors.is_empty() {
            return Ok(());
        }
        let space = ensure_space(self.connection, &embeddings.space)?;
        if current.is_none() && !embeddings.aside {
            let values = params![self.scope_key, space];
            execute(self.connection, "UPDATE scopes SET space = ?2 WHERE scope_key = ?1", values)?;
        }
        // Written aside in the space that is searched already, they are comparable and simply seen.
        let is_searched = !embeddings.aside || current.is_some_and(|(key, _)| key == space);
        for (id, vector, text) in embeddings.rows() {
            let node = match (self.known(id)?, text) {
                (Some(known), None) => known.node,
                (Some(known), Some(text)) if known.memory == text => known.node,
                (_, Some(_)) => continue,
                (None, None) => return Err(loose_embedding(id).into()),
            };
            execute(
                self.connection,
                "INSERT OR REPLACE INTO embeddings (node, space, vector) VALUES (?1, ?2, ?3)",
                params![node, space, codec::vector_bytes(vector)],
            )?;
            if is_searched {
                self.tell_again(node)?;
            }
        }
        Ok(())
    }

    /// Moves a memory to the end of the feed, unless this batch has done so already.
    fn tell_again(&mut self, node: i64) -> Result<(), Fault> {
        let changed = self
            .connection
            .prepare_cached("UPDATE nodes SET sequence = ?2 WHERE node_key = ?1 AND sequence <= ?3")?
            .execute(params![node, self.sequence + 1, self.sequence_before])?;
        self.sequence += changed as i64;
        Ok(())
    }
}

pub(super) fn metadata_text(prepared: &PreparedItem) -> Result<String, Fault> {
    serde_json::to_string(&prepared.metadata)
        .map_err(|error| StoreError::Invalid(format!("metadata of `{}`: {error}", prepared.item.id)).into())
}
