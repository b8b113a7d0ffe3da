//! Scopes that move to another store or come from one.

use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{
    ArchiveBatch, ArchivedMemory, ArchivedReceipt, MemoryId, Origin, PastVersion, Receipt, RecordArchive, Scope,
    StoreError,
};
use rusqlite::{Connection, Row, params};

use super::apply::{Writing, ensure_scope, execute, metadata_text, scope_key};
use super::fault::Fault;
use super::read::history_entry;
use super::spaces::{current_space, ensure_space};
use super::{SqliteStore, blocking, terms};
use crate::archive::{PreparedArchive, PreparedMemory, PreparedVersion, check_same_space, prepare_archive};
use crate::codec;

/// Columns of a version, as [`history_entry`] reads them, without the last one: its edges. What tells its place follows.
macro_rules! version_columns {
    () => {
        "number, actor, reason, message_id, changed_at, memory, metadata"
    };
}

fn as_integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[async_trait]
impl RecordArchive for SqliteStore {
    async fn position(&self, scope: &Scope) -> Result<u64, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| position(connection, &scope)).await
    }

    async fn archived_memories(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ArchivedMemory>, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| memories(connection, &scope, after, limit)).await
    }

    async fn archived_memories_of(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<ArchivedMemory>, StoreError> {
        let (scope, ids) = (scope.clone(), ids.to_vec());
        self.read(move |connection| memories_of(connection, &scope, &ids)).await
    }

    async fn archived_versions(
        &self,
        scope: &Scope,
        after: Option<(&MemoryId, u64)>,
        limit: usize,
    ) -> Result<Vec<PastVersion>, StoreError> {
        let (scope, after) = (scope.clone(), after.map(|(id, number)| (id.clone(), number)));
        self.read(move |connection| versions(connection, &scope, after.as_ref(), limit)).await
    }

    async fn archived_receipts(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ArchivedReceipt>, StoreError> {
        let scope = scope.clone();
        self.read(move |connection| receipts(connection, &scope, after, limit)).await
    }

    async fn import(&self, scope: &Scope, batch: ArchiveBatch) -> Result<(), StoreError> {
        let analyzer = Arc::clone(&self.analyzer);
        let batch = blocking(move || prepare_archive(batch, &analyzer)).await??;
        let (scope, at) = (scope.clone(), self.clock.now_text());
        self.write(move |connection| import(connection, &scope, &batch, &at)).await
    }
}

fn position(connection: &Connection, scope: &Scope) -> Result<u64, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(0) };
    let position: i64 = connection
        .prepare_cached(
            "SELECT max(coalesce((SELECT max(sequence) FROM nodes WHERE scope = ?1), 0),
                        coalesce((SELECT max(sequence) FROM tombstones WHERE scope = ?1), 0))",
        )?
        .query_row([scope], |row| row.get(0))?;
    Ok(position.unsigned_abs())
}

fn archived(row: &Row<'_>) -> Result<ArchivedMemory, Fault> {
    let (order, id): (i64, String) = (row.get(8)?, row.get(9)?);
    let id = MemoryId::new(id);
    Ok(ArchivedMemory { order: order.unsigned_abs(), version: history_entry(&id, row)?, id })
}

fn memories(
    connection: &Connection,
    scope: &Scope,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<ArchivedMemory>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let sql = concat!(
        "SELECT ",
        version_columns!(),
        ", NULL, node_key, id FROM nodes WHERE scope = ?1 AND node_key > ?2 ORDER BY node_key LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![scope, after.map_or(-1, as_integer), as_integer(limit)])?;
    let mut memories = Vec::new();
    while let Some(row) = rows.next()? {
        memories.push(archived(row)?);
    }
    Ok(memories)
}

fn memories_of(connection: &Connection, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<ArchivedMemory>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let sql = concat!("SELECT ", version_columns!(), ", NULL, node_key, id FROM nodes WHERE scope = ?1 AND id = ?2");
    let mut statement = connection.prepare_cached(sql)?;
    let mut memories = Vec::new();
    for id in ids {
        let mut rows = statement.query(params![scope, id.as_str()])?;
        if let Some(row) = rows.next()? {
            memories.push(archived(row)?);
        }
    }
    Ok(memories)
}

fn versions(
    connection: &Connection,
    scope: &Scope,
    after: Option<&(MemoryId, u64)>,
    limit: usize,
) -> Result<Vec<PastVersion>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    // No id is empty.
    let (id, number) = after.map_or(("", 0), |(id, number)| (id.as_str(), *number));
    let sql = concat!(
        "SELECT ",
        version_columns!(),
        ", edges, id FROM versions WHERE scope = ?1 AND (id, number) > (?2, ?3) ORDER BY id, number LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![scope, id, as_integer(number), as_integer(limit)])?;
    let mut versions = Vec::new();
    while let Some(row) = rows.next()? {
        let id = MemoryId::new(row.get::<_, String>(8)?);
        versions.push(PastVersion { version: history_entry(&id, row)?, id });
    }
    Ok(versions)
}

fn receipts(
    connection: &Connection,
    scope: &Scope,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<ArchivedReceipt>, Fault> {
    let Some(scope) = scope_key(connection, scope)? else { return Ok(Vec::new()) };
    let mut statement = connection.prepare_cached(
        "SELECT row_key, key, receipt, at_s FROM idempotency WHERE scope = ?1 AND row_key > ?2 ORDER BY row_key LIMIT ?3",
    )?;
    let mut rows = statement.query(params![scope, after.map_or(-1, as_integer), as_integer(limit)])?;
    let mut receipts = Vec::new();
    while let Some(row) = rows.next()? {
        let (order, key, text): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let receipt: Receipt = serde_json::from_str(&text).map_err(|error| StoreError::Corrupt {
            what: format!("the receipt of the idempotency key `{key}`"),
            detail: format!("{error}; restore the data from a backup"),
        })?;
        receipts.push(ArchivedReceipt { order: order.unsigned_abs(), key, receipt, at_s: row.get(3)? });
    }
    Ok(receipts)
}

/// Writes a part of another store's scope; the caller provides the transaction.
fn import(connection: &Connection, scope: &Scope, batch: &PreparedArchive, at: &str) -> Result<(), Fault> {
    let scope_key = ensure_scope(connection, scope)?;
    let have = current_space(connection, scope_key)?.map(|(_, space)| space);
    check_same_space(scope.cube.as_str(), have.as_ref(), batch.space.as_ref())?;
    let space = batch.space.as_ref().map(|space| ensure_space(connection, space)).transpose()?;
    if have.is_none() && space.is_some() {
        let values = params![scope_key, space];
        execute(connection, "UPDATE scopes SET space = ?2 WHERE scope_key = ?1", values)?;
    }
    let origin = Origin::default();
    let mut writing = Writing::begin(connection, scope, scope_key, &origin, at)?;
    for id in &batch.remove {
        writing.take_out(id)?;
    }
    for memory in &batch.memories {
        writing.restore(memory, space)?;
    }
    for version in &batch.versions {
        writing.restore_version(version)?;
    }
    for (id, _) in batch.last_numbers() {
        if writing.known(id)?.is_none() {
            writing.bury(id)?;
        }
    }
    let sequence = writing.finish()?;
    for archived in &batch.receipts {
        restore_receipt(connection, scope_key, archived, sequence)?;
    }
    Ok(())
}

impl Writing<'_> {
    /// Removes a memory whose removal is no change of this store's.
    fn take_out(&mut self, id: &MemoryId) -> Result<(), Fault> {
        let Some(known) = self.known(id)? else { return Ok(()) };
        terms::remove(self.connection, known.node)?;
        execute(self.connection, "DELETE FROM nodes WHERE node_key = ?1", [known.node])?;
        self.added_documents -= 1;
        self.added_terms -= known.n_terms;
        self.bury(id)
    }

    /// Tells whoever follows the feed that a memory is not there.
    fn bury(&mut self, id: &MemoryId) -> Result<(), Fault> {
        let sequence = self.next_sequence();
        execute(
            self.connection,
            "INSERT OR REPLACE INTO tombstones (scope, id, sequence) VALUES (?1, ?2, ?3)",
            params![self.scope_key, id.as_str(), sequence],
        )
    }

    fn restore(&mut self, memory: &PreparedMemory, space: Option<i64>) -> Result<(), Fault> {
        let (prepared, id) = (&memory.prepared, memory.prepared.item.id.as_str());
        let n_terms = prepared.terms.len() as i64;
        let sequence = self.next_sequence();
        // What is the present state is not over.
        execute(
            self.connection,
            "DELETE FROM versions WHERE scope = ?1 AND id = ?2 AND number >= ?3",
            params![self.scope_key, id, as_integer(memory.number)],
        )?;
        let node = match self.known(&prepared.item.id)? {
            Some(known) => {
                execute(self.connection, "DELETE FROM embeddings WHERE node = ?1", [known.node])?;
                terms::remove(self.connection, known.node)?;
                self.added_documents -= 1;
                self.added_terms -= known.n_terms;
                known.node
            }
            None => {
                execute(
                    self.connection,
                    "INSERT INTO nodes (scope, id, sequence, number, n_terms, actor, reason, changed_at, memory, metadata)
                     VALUES (?1, ?2, 0, 0, 0, '', '', '', '', '{}')",
                    params![self.scope_key, id],
                )?;
                let node = self.connection.last_insert_rowid();
                let tombstone = params![self.scope_key, id];
                execute(self.connection, "DELETE FROM tombstones WHERE scope = ?1 AND id = ?2", tombstone)?;
                node
            }
        };
        execute(
            self.connection,
            "UPDATE nodes SET sequence = ?2, number = ?3, n_terms = ?4, actor = ?5, reason = ?6, message_id = ?7,
                              changed_at = ?8, memory = ?9, metadata = ?10
             WHERE node_key = ?1",
            params![
                node,
                sequence,
                as_integer(memory.number),
                n_terms,
                memory.origin.actor,
                memory.origin.reason,
                memory.origin.message_id,
                memory.at,
                prepared.item.memory,
                metadata_text(prepared)?
            ],
        )?;
        terms::write(self.connection, node, self.scope_key, &prepared.terms)?;
        self.added_documents += 1;
        self.added_terms += n_terms;
        let Some(vector) = &memory.vector else { return Ok(()) };
        execute(
            self.connection,
            "INSERT INTO embeddings (node, space, vector) VALUES (?1, ?2, ?3)",
            params![node, space, codec::vector_bytes(vector)],
        )
    }

    fn restore_version(&self, version: &PreparedVersion) -> Result<(), Fault> {
        let (memory, metadata) = match &version.state {
            None => (None, None),
            Some((memory, metadata)) => {
                let text = serde_json::to_string(metadata).map_err(|error| {
                    StoreError::Invalid(format!("metadata of an earlier version of `{}`: {error}", version.id))
                })?;
                (Some(memory), Some(text))
            }
        };
        execute(
            self.connection,
            "INSERT OR REPLACE INTO versions (scope, id, number, actor, reason, message_id, changed_at, memory, metadata,
                                              edges)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                self.scope_key,
                version.id.as_str(),
                as_integer(version.number),
                version.origin.actor,
                version.origin.reason,
                version.origin.message_id,
                version.at,
                memory,
                metadata,
                codec::edges_text(&version.edges)
            ],
        )
    }
}

fn restore_receipt(
    connection: &Connection,
    scope_key: i64,
    archived: &ArchivedReceipt,
    sequence: u64,
) -> Result<(), Fault> {
    // The number is one of another store's feed: whoever asks again is told where this one stands.
    let receipt = Receipt { sequence, ..archived.receipt.clone() };
    let text = serde_json::to_string(&receipt)
        .map_err(|error| StoreError::Invalid(format!("the receipt cannot be kept: {error}")))?;
    execute(
        connection,
        "INSERT OR IGNORE INTO idempotency (scope, key, receipt, at_s) VALUES (?1, ?2, ?3, ?4)",
        params![scope_key, archived.key, text, archived.at_s],
    )
}
