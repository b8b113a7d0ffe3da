//! Views on the record.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{
    Change, EmbeddingSpace, Filter, MemoryId, MemoryItem, Origin, Page, Paging, StoreError, VectorPoint, Version,
};
use serde::Deserialize;

use super::connection::{Connection, Transaction, Work};
use super::fault::{BACKEND, Fault};
use super::layout::{ItemRow, OneItem, necessary};
use super::statements::{self, query};
use super::values::{integer, texts};
use crate::codec;

/// The most ids of one statement.
pub(super) const MAX_IDS: usize = 5000;
/// How many memories a look through all of them is sent at a time.
const PAGE: usize = 2000;

/// A scope's own node.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ScopeRow {
    pub(super) sequence: u64,
    pub(super) next_order: u64,
    pub(super) n_documents: u64,
    pub(super) n_terms: u64,
    pub(super) n_receipts: u64,
    /// How many jobs were ever written with its changes.
    pub(super) n_jobs: u64,
    /// JSON of the space whose embeddings are searched.
    pub(super) space: Option<String>,
    pub(super) is_closed: bool,
    /// The cube that it belongs to, when users and cubes are kept elsewhere.
    pub(super) generation: u64,
}

impl ScopeRow {
    /// Returns the scope's node; `None` before its first write.
    pub(super) async fn read(connection: &Connection, tenant: &str) -> Result<Option<Self>, StoreError> {
        let rows: Vec<Self> = connection.read(query(statements::SCOPE).param("tenant", tenant)).await?;
        Ok(rows.into_iter().next())
    }

    pub(super) fn space(&self) -> Result<Option<EmbeddingSpace>, StoreError> {
        self.space.as_deref().map(parse_space).transpose()
    }
}

/// Returns the text that stands for a space in the database.
pub(super) fn space_text(space: &EmbeddingSpace) -> String {
    serde_json::json!([space.model, space.dimension]).to_string()
}

fn parse_space(text: &str) -> Result<EmbeddingSpace, StoreError> {
    let (model, dimension) = serde_json::from_str(text).map_err(|error| StoreError::Corrupt {
        what: "the name of a cube's embedding model".to_owned(),
        detail: format!("{error}; restore the database from a backup"),
    })?;
    Ok(EmbeddingSpace { model, dimension })
}

pub(super) fn as_texts(ids: &[MemoryId]) -> neo4rs::BoltType {
    texts(ids.iter().map(MemoryId::as_str))
}

pub(super) async fn nodes(
    connection: &Connection,
    tenant: &str,
    ids: &[MemoryId],
) -> Result<Vec<MemoryItem>, StoreError> {
    let mut items: HashMap<MemoryId, MemoryItem> = HashMap::new();
    for chunk in ids.chunks(MAX_IDS) {
        let statement = query(statements::NODES).param("tenant", tenant).param("ids", as_texts(chunk));
        for row in connection.read::<OneItem>(statement).await? {
            let item = row.item.item()?;
            items.insert(item.id.clone(), item);
        }
    }
    Ok(ids.iter().filter_map(|id| items.get(id).cloned()).collect())
}

pub(super) async fn list(
    connection: &Connection,
    tenant: &str,
    filter: &Filter,
    paging: Paging,
) -> Result<Page<MemoryItem>, StoreError> {
    if *filter == Filter::Everything {
        let total = count_all(connection, tenant).await?;
        let entries = page(connection, tenant, filter, paging).await?;
        let entries = entries.into_iter().map(ItemRow::item).collect::<Result<_, _>>()?;
        return Ok(Page { entries, total });
    }
    let (mut entries, mut total) = (Vec::new(), 0);
    let end = paging.offset.saturating_add(paging.limit);
    for row in candidates(connection, tenant, filter).await? {
        if filter.matches(&row.memory, &row.metadata()?) {
            if (paging.offset..end).contains(&total) {
                entries.push(row.item()?);
            }
            total += 1;
        }
    }
    Ok(Page { entries, total })
}

/// Returns a page of the list turned round, of a cube that is looked through whole.
pub(super) async fn latest(
    connection: &Connection,
    tenant: &str,
    filter: &Filter,
    paging: Paging,
) -> Result<Vec<MemoryItem>, StoreError> {
    let nodes = list(connection, tenant, filter, Paging::ALL).await?.entries;
    Ok(nodes.into_iter().rev().skip(paging.offset).take(paging.limit).collect())
}

pub(super) async fn count(connection: &Connection, tenant: &str, filter: &Filter) -> Result<usize, StoreError> {
    if *filter == Filter::Everything {
        return count_all(connection, tenant).await;
    }
    let mut n_passing = 0;
    for row in candidates(connection, tenant, filter).await? {
        n_passing += usize::from(filter.matches(&row.memory, &row.metadata()?));
    }
    Ok(n_passing)
}

/// Returns every memory that may pass a filter, in order: for questions that need a look at the whole cube.
pub(super) async fn candidates(
    connection: &Connection,
    tenant: &str,
    filter: &Filter,
) -> Result<Vec<ItemRow>, StoreError> {
    page(connection, tenant, filter, Paging::ALL).await
}

async fn page(
    connection: &Connection,
    tenant: &str,
    filter: &Filter,
    paging: Paging,
) -> Result<Vec<ItemRow>, StoreError> {
    // The server adds the two.
    let offset = i64::try_from(paging.offset).unwrap_or(i64::MAX);
    let limit = i64::try_from(paging.limit).unwrap_or(i64::MAX).min(i64::MAX - offset);
    let statement = query(statements::LIST)
        .param("tenant", tenant)
        .param("necessary", necessary(filter))
        .param("offset", offset)
        .param("limit", limit);
    items(connection, statement).await
}

pub(super) async fn items(connection: &Connection, statement: neo4rs::Query) -> Result<Vec<ItemRow>, StoreError> {
    let rows: Vec<OneItem> = connection.read(statement).await?;
    Ok(rows.into_iter().map(|row| row.item).collect())
}

#[derive(Debug, Deserialize)]
struct CountRow {
    count: u64,
}

pub(super) async fn single_count(connection: &Connection, statement: neo4rs::Query) -> Result<usize, StoreError> {
    let rows: Vec<CountRow> = connection.read(statement).await?;
    Ok(rows.first().map_or(0, |row| usize::try_from(row.count).unwrap_or(usize::MAX)))
}

async fn count_all(connection: &Connection, tenant: &str) -> Result<usize, StoreError> {
    single_count(connection, query(statements::COUNT).param("tenant", tenant)).await
}

pub(super) async fn embedding_space(
    connection: &Connection,
    tenant: &str,
) -> Result<Option<EmbeddingSpace>, StoreError> {
    ScopeRow::read(connection, tenant).await?.map_or(Ok(None), |scope| scope.space())
}

pub(super) async fn without_embedding(
    connection: &Connection,
    tenant: &str,
    space: &EmbeddingSpace,
    limit: usize,
) -> Result<Vec<MemoryItem>, StoreError> {
    let statement = query(statements::WITHOUT_EMBEDDING)
        .param("tenant", tenant)
        .param("space", space_text(space))
        .param("limit", integer(limit));
    items(connection, statement).await?.into_iter().map(ItemRow::item).collect()
}

#[derive(Debug, Deserialize)]
struct VectorRow {
    id: String,
    vector: Vec<f32>,
}

pub(super) async fn embeddings(
    connection: &Connection,
    tenant: &str,
    ids: &[MemoryId],
) -> Result<Vec<(MemoryId, Vec<f32>)>, StoreError> {
    let mut vectors: HashMap<String, Vec<f32>> = HashMap::new();
    for chunk in ids.chunks(PAGE) {
        let statement = query(statements::EMBEDDINGS).param("tenant", tenant).param("ids", as_texts(chunk));
        for row in connection.read::<VectorRow>(statement).await? {
            vectors.insert(row.id, row.vector);
        }
    }
    Ok(ids.iter().filter_map(|id| Some((id.clone(), vectors.get(id.as_str())?.clone()))).collect())
}

/// Reads the feed. A page must not miss a change whose number is lower than one that it tells, and the server shows a
/// commit piece by piece: therefore nobody writes to the scope meanwhile.
#[derive(Debug)]
pub(super) struct ReadChanges {
    pub(super) tenant: String,
    pub(super) after: u64,
    pub(super) limit: usize,
}

#[derive(Debug, Deserialize)]
struct PutRow {
    sequence: u64,
    arrival: u64,
    vector: Option<Vec<f32>>,
    item: ItemRow,
}

#[derive(Debug, Deserialize)]
struct TombstoneRow {
    sequence: u64,
    id: String,
}

#[async_trait]
impl Work for ReadChanges {
    type Output = Vec<Change>;

    async fn run(&self, transaction: &mut Transaction) -> Result<Vec<Change>, Fault> {
        transaction.run(query(statements::HOLD_SCOPE).param("tenant", self.tenant.as_str())).await?;
        let page = |text| {
            query(text)
                .param("tenant", self.tenant.as_str())
                .param("after", integer(self.after))
                .param("limit", integer(self.limit))
        };
        let mut told = Vec::new();
        for row in transaction.rows::<PutRow>(page(statements::PUTS)).await? {
            told.push((row.sequence, put_change(row)?));
        }
        for row in transaction.rows::<TombstoneRow>(page(statements::TOMBSTONES)).await? {
            told.push((row.sequence, Change::Deleted { sequence: row.sequence, id: MemoryId::new(row.id) }));
        }
        told.sort_by_key(|(sequence, _)| *sequence);
        told.truncate(self.limit);
        Ok(told.into_iter().map(|(_, change)| change).collect())
    }

    fn is_repeatable(&self) -> bool {
        true
    }
}

fn put_change(row: PutRow) -> Result<Change, StoreError> {
    let id = MemoryId::new(&row.item.id);
    let point = match row.vector {
        None => None,
        Some(vector) => Some(VectorPoint {
            id: id.clone(),
            vector,
            metadata: Arc::new(codec::index_metadata(row.item.metadata()?)),
            memory: Arc::from(row.item.memory),
        }),
    };
    Ok(Change::Put { sequence: row.sequence, arrival: row.arrival, id, point })
}

#[derive(Debug, Deserialize)]
pub(super) struct VersionRow {
    number: u64,
    actor: String,
    reason: String,
    message_id: Option<String>,
    at: String,
    pub(super) id: String,
    /// Absent when the change removed the memory.
    memory: Option<String>,
    metadata: Option<String>,
    sources: Option<Vec<String>>,
    /// Those that a removal took away.
    edges: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PresentRow {
    number: u64,
    actor: String,
    reason: String,
    message_id: Option<String>,
    at: String,
    item: ItemRow,
}

pub(super) async fn history(connection: &Connection, tenant: &str, id: &MemoryId) -> Result<Vec<Version>, StoreError> {
    let statement = |text| query(text).param("tenant", tenant).param("id", id.as_str());
    let rows: Vec<VersionRow> = connection.read(statement(statements::HISTORY)).await?;
    let mut versions = rows.into_iter().map(version).collect::<Result<Vec<_>, _>>()?;
    for row in connection.read::<PresentRow>(statement(statements::PRESENT)).await? {
        let origin = Origin { actor: row.actor, reason: row.reason, message_id: row.message_id };
        versions.push(Version {
            number: row.number,
            item: Some(row.item.item()?),
            edges: Vec::new(),
            origin,
            at: row.at,
        });
    }
    versions.sort_by_key(|version| version.number);
    // A write between the two statements shows a state twice.
    versions.dedup_by_key(|version| version.number);
    Ok(versions)
}

pub(super) fn version(row: VersionRow) -> Result<Version, StoreError> {
    let origin = Origin { actor: row.actor, reason: row.reason, message_id: row.message_id };
    let edges = codec::parse_edges(&MemoryId::new(row.id.as_str()), row.edges.as_deref())?;
    let item = match (row.memory, row.metadata) {
        (Some(memory), Some(metadata)) => Some(ItemRow::kept(row.id, memory, metadata, row.sources).item()?),
        (None, None) => None,
        _ => {
            return Err(StoreError::Corrupt {
                what: format!("the history of memory `{}`", row.id),
                detail: "a version has text or metadata alone; restore the database from a backup".to_owned(),
            });
        }
    };
    Ok(Version { number: row.number, item, edges, origin, at: row.at })
}

/// Returns the error for an answer that this program does not understand.
pub(super) fn unexpected(what: &str) -> StoreError {
    StoreError::Backend {
        backend: BACKEND,
        source: format!("{what}; another program changed what this store keeps in the database").into(),
    }
}
