//! Scopes that move to another store or come from one.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use mos_core::{ArchivedMemory, ArchivedReceipt, MemoryId, Origin, PastVersion, Receipt, Scope, StoreError, Version};
use neo4rs::BoltType;
use serde::Deserialize;

use super::apply::Writing;
use super::connection::{Connection, Transaction, Work};
use super::draft::{Counters, KnownRow};
use super::fault::Fault;
use super::layout::{ItemRow, Place, node_row, version_row};
use super::read::{MAX_IDS, ScopeRow, VersionRow, as_texts, space_text, version};
use super::statements::{self, query};
use super::values::{integer, row, vector};
use crate::archive::{PreparedArchive, check_same_space};

/// Before the first number.
const BEFORE_ALL: i64 = -1;

#[derive(Debug, Deserialize)]
struct MemoryRow {
    order: u64,
    number: u64,
    actor: String,
    reason: String,
    message_id: Option<String>,
    at: String,
    item: ItemRow,
}

#[derive(Debug, Deserialize)]
struct ReceiptRow {
    order: u64,
    key: String,
    receipt: String,
    at_s: i64,
}

fn archived(row: MemoryRow) -> Result<ArchivedMemory, StoreError> {
    let origin = Origin { actor: row.actor, reason: row.reason, message_id: row.message_id };
    let item = row.item.item()?;
    let id = item.id.clone();
    Ok(ArchivedMemory {
        order: row.order,
        id,
        version: Version { number: row.number, item: Some(item), edges: Vec::new(), origin, at: row.at },
    })
}

fn past(row: VersionRow) -> Result<PastVersion, StoreError> {
    Ok(PastVersion { id: MemoryId::new(row.id.clone()), version: version(row)? })
}

fn after(number: Option<u64>) -> BoltType {
    number.map_or(BoltType::from(BEFORE_ALL), integer)
}

pub(super) async fn position(connection: &Connection, tenant: &str) -> Result<u64, StoreError> {
    Ok(ScopeRow::read(connection, tenant).await?.map_or(0, |row| row.sequence))
}

pub(super) async fn memories(
    connection: &Connection,
    tenant: &str,
    last: Option<u64>,
    limit: usize,
) -> Result<Vec<ArchivedMemory>, StoreError> {
    let statement =
        query(statements::ARCHIVED).param("tenant", tenant).param("after", after(last)).param("limit", integer(limit));
    connection.read::<MemoryRow>(statement).await?.into_iter().map(archived).collect()
}

pub(super) async fn memories_of(
    connection: &Connection,
    tenant: &str,
    ids: &[MemoryId],
) -> Result<Vec<ArchivedMemory>, StoreError> {
    let mut memories = Vec::new();
    for part in ids.chunks(MAX_IDS) {
        let statement = query(statements::ARCHIVED_OF).param("tenant", tenant).param("ids", as_texts(part));
        for row in connection.read::<MemoryRow>(statement).await? {
            memories.push(archived(row)?);
        }
    }
    Ok(memories)
}

/// First the rest of the memory that was begun, then those whose ids come after its own.
pub(super) async fn versions(
    connection: &Connection,
    tenant: &str,
    last: Option<(&MemoryId, u64)>,
    limit: usize,
) -> Result<Vec<PastVersion>, StoreError> {
    let (id, number) = last.map_or(("", 0), |(id, number)| (id.as_str(), number));
    let statement = |text, limit: usize| {
        query(text)
            .param("tenant", tenant)
            .param("id", id)
            .param("number", integer(number))
            .param("limit", integer(limit))
    };
    let mut rows: Vec<VersionRow> = connection.read(statement(statements::REST_OF_VERSIONS, limit)).await?;
    if rows.len() < limit {
        let left = limit - rows.len();
        rows.extend(connection.read::<VersionRow>(statement(statements::VERSIONS_AFTER, left)).await?);
    }
    rows.into_iter().map(past).collect()
}

pub(super) async fn receipts(
    connection: &Connection,
    tenant: &str,
    last: Option<u64>,
    limit: usize,
) -> Result<Vec<ArchivedReceipt>, StoreError> {
    let statement = query(statements::ARCHIVED_RECEIPTS)
        .param("tenant", tenant)
        .param("after", after(last))
        .param("limit", integer(limit));
    let mut receipts = Vec::new();
    for row in connection.read::<ReceiptRow>(statement).await? {
        let receipt: Receipt = serde_json::from_str(&row.receipt).map_err(|error| StoreError::Corrupt {
            what: format!("the receipt of the idempotency key `{}`", row.key),
            detail: format!("{error}; restore the database from a backup"),
        })?;
        receipts.push(ArchivedReceipt { order: row.order, key: row.key, receipt, at_s: row.at_s });
    }
    Ok(receipts)
}

/// Writes a part of another store's scope.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) scope: Scope,
    pub(super) tenant: String,
    pub(super) batch: PreparedArchive,
    pub(super) at: String,
}

#[async_trait]
impl Work for Import {
    type Output = ();

    async fn run(&self, transaction: &mut Transaction) -> Result<(), Fault> {
        let mut writing = Writing::begin(transaction, &self.scope, &self.tenant, &self.at).await?;
        let mut counters = writing.counters()?;
        check_same_space(self.scope.cube.as_str(), counters.space.as_ref(), self.batch.space.as_ref())?;
        if counters.space.is_none() {
            counters.space.clone_from(&self.batch.space);
        }
        let known = self.known(&mut writing).await?;
        let rows = self.rows(&known, &mut counters);
        rows.write(&mut writing, self.batch.space.as_ref().map(space_text).as_deref()).await?;
        let n_receipts = self.write_receipts(&mut writing, counters.sequence).await?;
        writing.finish(&counters, n_receipts).await
    }

    fn is_repeatable(&self) -> bool {
        true
    }
}

/// Rows for the statements that write a part of a scope.
#[derive(Debug, Default)]
struct Rows {
    delete: Vec<BoltType>,
    insert: Vec<BoltType>,
    replace: Vec<BoltType>,
    embed: Vec<BoltType>,
    not_over: Vec<BoltType>,
    versions: Vec<BoltType>,
    tombstones: Vec<BoltType>,
    no_tombstones: Vec<BoltType>,
}

impl Rows {
    async fn write(self, writing: &mut Writing<'_>, space: Option<&str>) -> Result<(), Fault> {
        writing.write_parts(statements::DELETE, "ids", self.delete).await?;
        writing.write_parts(statements::REMOVE_TOMBSTONES, "ids", self.no_tombstones).await?;
        writing.write_parts(statements::INSERT, "rows", self.insert).await?;
        writing.write_parts(statements::REPLACE, "rows", self.replace).await?;
        writing.write_parts(statements::DROP_VERSIONS, "rows", self.not_over).await?;
        writing.write_parts(statements::PUT_VERSIONS, "rows", self.versions).await?;
        writing.write_parts(statements::ADD_TOMBSTONES, "rows", self.tombstones).await?;
        match space {
            Some(space) => writing.write_embeddings(statements::EMBED, space, self.embed).await,
            None => Ok(()),
        }
    }
}

impl Import {
    /// Returns what is there of the memories that the batch names.
    async fn known(&self, writing: &mut Writing<'_>) -> Result<HashMap<String, KnownRow>, Fault> {
        let written = self.batch.memories.iter().map(|memory| &memory.prepared.item.id);
        let over = self.batch.last_numbers().into_iter().map(|(id, _)| id);
        let mut ids: Vec<&str> = self.batch.remove.iter().chain(written).chain(over).map(MemoryId::as_str).collect();
        ids.sort_unstable();
        ids.dedup();
        let rows = writing.known_of(&ids).await?;
        Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
    }

    fn rows(&self, known: &HashMap<String, KnownRow>, counters: &mut Counters) -> Rows {
        let mut rows = Rows::default();
        let last_numbers = self.batch.last_numbers();
        let mut removed: HashSet<&str> = HashSet::new();
        for id in &self.batch.remove {
            let Some(row) = known.get(id.as_str()).filter(|_| removed.insert(id.as_str())) else { continue };
            counters.n_documents = counters.n_documents.saturating_sub(1);
            counters.n_terms = counters.n_terms.saturating_sub(row.n_terms.unwrap_or_default());
            rows.delete.push(id.as_str().into());
            let comes_back = self.batch.memories.iter().any(|memory| memory.prepared.item.id == *id);
            if !comes_back && !last_numbers.iter().any(|(other, _)| *other == id) {
                rows.tombstones.push(tombstone(id, row.number.unwrap_or_default(), counters));
            }
        }
        for memory in &self.batch.memories {
            let id = memory.prepared.item.id.as_str();
            let before = known.get(id).filter(|_| !removed.contains(id));
            self.push_memory(memory, before, counters, &mut rows);
        }
        for (id, number) in last_numbers {
            if removed.contains(id.as_str()) || !known.contains_key(id.as_str()) {
                rows.tombstones.push(tombstone(id, number, counters));
            }
        }
        for one in &self.batch.versions {
            let state = one.state.as_ref().map(|(memory, metadata)| (memory.as_str(), metadata));
            let (id, at, origin) = (one.id.as_str(), &one.at, &one.origin);
            rows.versions.push(version_row(&self.tenant, id, state, one.number, at, origin, &one.edges));
        }
        rows
    }

    fn push_memory(
        &self,
        memory: &crate::archive::PreparedMemory,
        before: Option<&KnownRow>,
        counters: &mut Counters,
        rows: &mut Rows,
    ) {
        let prepared = &memory.prepared;
        let id = prepared.item.id.as_str();
        counters.sequence += 1;
        counters.n_terms += prepared.terms.len() as u64;
        let order = match before {
            Some(row) => {
                counters.n_terms = counters.n_terms.saturating_sub(row.n_terms.unwrap_or_default());
                row.order.unwrap_or_default()
            }
            None => {
                counters.n_documents += 1;
                counters.next_order += 1;
                counters.next_order - 1
            }
        };
        // What is the present state is not over.
        rows.not_over.push(row([("id", id.into()), ("number", integer(memory.number))]));
        let place = Place { sequence: counters.sequence, order, number: memory.number, at: memory.at.clone() };
        let item = &prepared.item;
        let (terms, metadata) = (&prepared.terms, &prepared.metadata);
        let mut node = node_row(&self.tenant, id, &item.memory, metadata, terms, &place, &memory.origin);
        if before.is_some() {
            node.put("keeps_vectors".into(), false.into());
            rows.replace.push(BoltType::Map(node));
        } else {
            rows.no_tombstones.push(id.into());
            rows.insert.push(BoltType::Map(node));
        }
        if let Some(values) = &memory.vector {
            rows.embed.push(row([
                ("id", id.into()),
                ("vector", vector(values)),
                ("sequence", integer(counters.sequence)),
            ]));
        }
    }

    /// Returns how many keys the scope has had.
    async fn write_receipts(&self, writing: &mut Writing<'_>, sequence: u64) -> Result<u64, Fault> {
        let mut n_receipts = writing.scope_row.n_receipts;
        let mut rows = Vec::with_capacity(self.batch.receipts.len());
        for archived in &self.batch.receipts {
            // The number is one of another store's feed: whoever asks again is told where this one stands.
            let receipt = Receipt { sequence, ..archived.receipt.clone() };
            let text = serde_json::to_string(&receipt)
                .map_err(|error| StoreError::Invalid(format!("the receipt cannot be kept: {error}")))?;
            n_receipts += 1;
            rows.push(row([
                ("key", archived.key.as_str().into()),
                ("receipt", text.into()),
                ("number", integer(n_receipts)),
                ("at_s", archived.at_s.into()),
            ]));
        }
        writing.write_parts(statements::PUT_RECEIPTS, "rows", rows).await?;
        Ok(n_receipts)
    }
}

fn tombstone(id: &MemoryId, number: u64, counters: &mut Counters) -> BoltType {
    counters.sequence += 1;
    row([("id", id.as_str().into()), ("sequence", integer(counters.sequence)), ("number", integer(number))])
}
