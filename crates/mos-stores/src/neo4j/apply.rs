//! Writing: one batch is one transaction.
//!
//! Each begins by locking the scope's node, so that the writes of a scope follow one another. What the batch needs is
//! read in a few statements, [`Draft`] works out what becomes of it, and the rows are written in large parts.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use mos_core::{Edge, MemoryId, MemoryItem, Receipt, Scope, StoreError};
use neo4rs::{BoltMap, BoltNull, BoltType};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::connection::{Transaction, Work};
use super::draft::{Counters, Draft, KnownRow, Rows};
use super::fault::Fault;
use super::graph::EdgeRow;
use super::layout::OneItem;
use super::outbox;
use super::read::{MAX_IDS, ScopeRow, space_text, unexpected};
use super::statements::{self, query};
use super::values::{chunks, integer, map, row, texts};
use crate::TextAnalyzer;
use crate::codec;
use crate::prepare::{PreparedBatch, changed, closed, present};

/// Keys are pruned at every so many new ones, so that the bound costs next to nothing.
const PRUNE_EVERY: u64 = 64;

/// How long and how many idempotency keys are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyLimits {
    pub(super) max_per_cube: u32,
    pub(super) max_age_s: i64,
    pub(super) now_s: i64,
}

/// One batch to write.
#[derive(Debug)]
pub(super) struct Apply {
    pub(super) scope: Scope,
    pub(super) tenant: String,
    pub(super) batch: PreparedBatch,
    /// Begins the mark of every tenant of the store.
    pub(super) prefix: String,
    pub(super) limits: KeyLimits,
    pub(super) analyzer: Arc<TextAnalyzer>,
}

#[async_trait]
impl Work for Apply {
    type Output = Receipt;

    async fn run(&self, transaction: &mut Transaction) -> Result<Receipt, Fault> {
        let mut writing = Writing::begin(transaction, &self.scope, &self.tenant, &self.batch.at).await?;
        if let Some(key) = &self.batch.idempotency_key
            && let Some(receipt) = writing.earlier_receipt(key).await?
        {
            return Ok(receipt);
        }
        let known = writing.known(&self.batch, &self.analyzer).await?;
        check(&mut writing, &self.batch, &known).await?;
        let gone = writing.gone(&self.batch).await?;
        let taken = writing.taken(&self.batch, &known).await?;
        let counters = writing.counters()?;
        let mut draft = Draft::new(&self.tenant, &self.batch, counters, &known, &gone, &taken);
        draft.apply(&self.scope)?;
        let n_deleted = draft.n_deleted;
        let (counters, rows) = draft.into_rows();
        writing.write(&self.batch, rows).await?;
        let put = self.batch.put.iter().map(|prepared| prepared.item.id.clone()).collect();
        let receipt = Receipt { sequence: counters.sequence, put, n_deleted, replayed: false };
        let mut n_receipts = writing.scope_row.n_receipts;
        if let Some(key) = &self.batch.idempotency_key {
            n_receipts += 1;
            writing.keep_receipt(key, &receipt, n_receipts, self.limits).await?;
        }
        writing.finish(&counters, n_receipts).await?;
        if !self.batch.jobs.is_empty() {
            outbox::write(&mut writing, &self.scope, &self.prefix, &self.batch.jobs).await?;
        }
        Ok(receipt)
    }

    fn is_repeatable(&self) -> bool {
        self.batch.idempotency_key.is_some()
    }
}

/// Refuses when what the batch relies on is no longer so.
async fn check(writing: &mut Writing<'_>, batch: &PreparedBatch, known: &[KnownRow]) -> Result<(), Fault> {
    if let Some(id) = batch.absent.iter().find(|id| known.iter().any(|row| row.id == id.as_str())) {
        return Err(present(id).into());
    }
    for part in batch.unchanged.chunks(MAX_IDS) {
        let mut now = HashMap::new();
        for OneItem { item } in writing.items(part.iter().map(|read| read.id.as_str())).await? {
            let item = item.item()?;
            now.insert(item.id.clone(), item);
        }
        for read in part {
            // As an item: what MemOS wrote lacks what an absent field means.
            let is_so = |item: &MemoryItem| item.memory == read.memory && codec::stored_metadata(item) == read.metadata;
            if !now.get(&read.id).is_some_and(is_so) {
                return Err(changed(&read.id).into());
            }
        }
    }
    Ok(())
}

/// A scope that is locked until the end of the transaction.
pub(super) struct Writing<'a> {
    pub(super) transaction: &'a mut Transaction,
    pub(super) tenant: &'a str,
    pub(super) at: &'a str,
    pub(super) scope_row: ScopeRow,
}

impl fmt::Debug for Writing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writing").field("tenant", &self.tenant).field("scope", &self.scope_row).finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
struct ReceiptRow {
    receipt: String,
}

#[derive(Debug, Deserialize)]
struct GoneRow {
    id: String,
    number: u64,
}

/// How many there are.
#[derive(Debug, Deserialize)]
pub(super) struct CountRow {
    pub(super) count: u64,
}

impl<'a> Writing<'a> {
    pub(super) async fn begin(
        transaction: &'a mut Transaction,
        scope: &Scope,
        tenant: &'a str,
        at: &'a str,
    ) -> Result<Self, Fault> {
        let this = Self::lock(transaction, tenant, at).await?;
        if this.scope_row.is_closed {
            return Err(closed(scope).into());
        }
        Ok(this)
    }

    /// As [`Writing::begin`], also for a scope that is closed.
    pub(super) async fn lock(transaction: &'a mut Transaction, tenant: &'a str, at: &'a str) -> Result<Self, Fault> {
        let lock = query(statements::LOCK_SCOPE).param("tenant", tenant).param("at", at);
        transaction.run(lock).await?;
        // A statement of its own: it begins when the lock is held and sees what the writer before has written.
        let rows: Vec<ScopeRow> = transaction.rows(query(statements::SCOPE).param("tenant", tenant)).await?;
        let scope_row = rows.into_iter().next().ok_or_else(|| unexpected("the node of a cube is gone"))?;
        Ok(Self { transaction, tenant, at, scope_row })
    }

    pub(super) fn counters(&self) -> Result<Counters, StoreError> {
        Ok(Counters {
            sequence: self.scope_row.sequence,
            next_order: self.scope_row.next_order,
            n_documents: self.scope_row.n_documents,
            n_terms: self.scope_row.n_terms,
            space: self.scope_row.space()?,
        })
    }

    /// Returns a statement about the scope.
    pub(super) fn query(&self, text: &'static str) -> neo4rs::Query {
        query(text).param("tenant", self.tenant)
    }

    async fn earlier_receipt(&mut self, key: &str) -> Result<Option<Receipt>, Fault> {
        let statement = self.query(statements::RECEIPT).param("key", key);
        let rows: Vec<ReceiptRow> = self.transaction.rows(statement).await?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let receipt: Receipt = serde_json::from_str(&row.receipt).map_err(|error| StoreError::Corrupt {
            what: "the receipt of an earlier write".to_owned(),
            detail: format!("{error}; repeat the write with another idempotency key"),
        })?;
        Ok(Some(Receipt { replayed: true, ..receipt }))
    }

    async fn items<'b>(&mut self, ids: impl Iterator<Item = &'b str> + Send) -> Result<Vec<OneItem>, Fault> {
        let statement = self.query(statements::NODES).param("ids", texts(ids));
        self.transaction.rows(statement).await
    }

    /// Returns the stored memories that the batch names; all of them when it clears. Those among them that MemOS wrote
    /// are taken over before.
    async fn known(&mut self, batch: &PreparedBatch, analyzer: &TextAnalyzer) -> Result<Vec<KnownRow>, Fault> {
        let known = self.read_known(batch).await?;
        if known.iter().all(|row| row.sequence.is_some()) {
            return Ok(known);
        }
        self.adopt(analyzer).await?;
        self.read_known(batch).await
    }

    async fn read_known(&mut self, batch: &PreparedBatch) -> Result<Vec<KnownRow>, Fault> {
        if batch.clear {
            return self.all_known().await;
        }
        self.known_of(&named(batch)).await
    }

    /// Returns those memories that are there among these.
    pub(super) async fn known_of(&mut self, ids: &[&str]) -> Result<Vec<KnownRow>, Fault> {
        let mut known = Vec::new();
        for part in ids.chunks(MAX_IDS) {
            let statement = self.query(statements::KNOWN).param("ids", texts(part.iter().copied()));
            known.extend(self.transaction.rows::<KnownRow>(statement).await?);
        }
        Ok(known)
    }

    /// Returns every memory of the scope, in order.
    pub(super) async fn all_known(&mut self) -> Result<Vec<KnownRow>, Fault> {
        let statement = self.query(statements::ALL_KNOWN);
        self.transaction.rows(statement).await
    }

    /// Whether the scope holds no memory.
    pub(super) async fn is_empty(&mut self) -> Result<bool, Fault> {
        let statement = self.query(statements::COUNT);
        let rows: Vec<CountRow> = self.transaction.rows(statement).await?;
        Ok(rows.iter().all(|row| row.count == 0))
    }

    /// Says whose the scope is, and whether it takes writes.
    pub(super) async fn set_owner(&mut self, generation: u64, is_closed: bool) -> Result<(), Fault> {
        self.set_properties(map([("generation", integer(generation)), ("is_closed", is_closed.into())])).await
    }

    /// Writes properties of the scope's node.
    pub(super) async fn set_properties(&mut self, properties: BoltMap) -> Result<(), Fault> {
        let statement = self.query(statements::WRITE_SCOPE).param("properties", BoltType::Map(properties));
        self.transaction.run(statement).await
    }

    /// Returns the rows of a statement about the scope.
    pub(super) async fn rows<T: DeserializeOwned + Send>(&mut self, text: &'static str) -> Result<Vec<T>, Fault> {
        let statement = self.query(text);
        self.transaction.rows(statement).await
    }

    pub(super) async fn run(&mut self, text: &'static str) -> Result<(), Fault> {
        let statement = self.query(text);
        self.transaction.run(statement).await
    }

    /// Returns which of the memories to put were removed once, and the number of that version.
    async fn gone(&mut self, batch: &PreparedBatch) -> Result<Vec<(String, u64)>, Fault> {
        let mut ids: Vec<&str> = batch.put.iter().map(|prepared| prepared.item.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut gone = Vec::new();
        for part in ids.chunks(MAX_IDS) {
            let statement = self.query(statements::GONE).param("ids", texts(part.iter().copied()));
            let rows: Vec<GoneRow> = self.transaction.rows(statement).await?;
            gone.extend(rows.into_iter().map(|row| (row.id, row.number)));
        }
        Ok(gone)
    }

    /// Returns the edges at each of the memories that the batch removes, as far as it has any, sorted.
    async fn taken(&mut self, batch: &PreparedBatch, known: &[KnownRow]) -> Result<HashMap<String, Vec<Edge>>, Fault> {
        let removed: BTreeSet<&str> = match batch.clear {
            true => known.iter().map(|row| row.id.as_str()).collect(),
            false => batch.delete.iter().map(MemoryId::as_str).collect(),
        };
        let ids: Vec<&str> = removed.iter().copied().collect();
        let mut edges: BTreeSet<Edge> = BTreeSet::new();
        for part in ids.chunks(MAX_IDS) {
            let any: Option<&str> = None;
            let statement = self.query(statements::EDGES).param("ids", texts(part.iter().copied())).param("kind", any);
            edges.extend(self.transaction.rows::<EdgeRow>(statement).await?.into_iter().map(EdgeRow::edge));
        }
        let mut taken: HashMap<String, Vec<Edge>> = HashMap::new();
        for edge in edges {
            for end in BTreeSet::from([edge.source.as_str(), edge.target.as_str()]) {
                if removed.contains(end) {
                    taken.entry(end.to_owned()).or_default().push(edge.clone());
                }
            }
        }
        Ok(taken)
    }

    pub(super) async fn write_parts(
        &mut self,
        text: &'static str,
        name: &str,
        rows: Vec<BoltType>,
    ) -> Result<(), Fault> {
        for part in chunks(rows) {
            let statement = self.query(text).param(name, part);
            self.transaction.run(statement).await?;
        }
        Ok(())
    }

    async fn write(&mut self, batch: &PreparedBatch, rows: Rows) -> Result<(), Fault> {
        self.write_parts(statements::ARCHIVE, "ids", rows.archive).await?;
        self.write_parts(statements::ADD_VERSIONS, "rows", rows.versions).await?;
        self.write_parts(statements::DELETE, "ids", rows.delete).await?;
        self.write_parts(statements::ADD_TOMBSTONES, "rows", rows.tombstones).await?;
        self.write_parts(statements::REMOVE_TOMBSTONES, "ids", rows.no_tombstones).await?;
        self.write_parts(statements::INSERT, "rows", rows.insert).await?;
        self.write_parts(statements::REPLACE, "rows", rows.replace).await?;
        self.write_parts(statements::REMOVE_EDGES, "rows", batch.remove_edges.iter().map(edge_row).collect()).await?;
        self.put_edges(&batch.put_edges, &rows.new).await?;
        let Some(embeddings) = &batch.embeddings else { return Ok(()) };
        let space = space_text(&embeddings.space);
        for (text, rows) in [(statements::EMBED, rows.embed), (statements::EMBED_ASIDE, rows.embed_aside)] {
            self.write_embeddings(text, &space, rows).await?;
        }
        Ok(())
    }

    pub(super) async fn write_embeddings(
        &mut self,
        text: &'static str,
        space: &str,
        rows: Vec<BoltType>,
    ) -> Result<(), Fault> {
        for part in chunks(rows) {
            let statement = self.query(text).param("space", space).param("rows", part);
            self.transaction.run(statement).await?;
        }
        Ok(())
    }

    async fn put_edges(&mut self, edges: &[Edge], new: &HashSet<String>) -> Result<(), Fault> {
        let mut missing: BTreeSet<&Edge> = edges.iter().collect();
        let may_be_there = |edge: &&Edge| !new.contains(edge.source.as_str()) && !new.contains(edge.target.as_str());
        for part in chunks(missing.iter().copied().filter(may_be_there).map(edge_row).collect()) {
            let statement = self.query(statements::KNOWN_EDGES).param("rows", part);
            for row in self.transaction.rows::<EdgeRow>(statement).await? {
                missing.remove(&row.edge());
            }
        }
        let rows = missing.into_iter().map(edge_row).collect();
        self.write_parts(statements::ADD_EDGES, "rows", rows).await
    }

    async fn keep_receipt(
        &mut self,
        key: &str,
        receipt: &Receipt,
        number: u64,
        limits: KeyLimits,
    ) -> Result<(), Fault> {
        let text = serde_json::to_string(receipt)
            .map_err(|error| StoreError::Invalid(format!("the receipt cannot be kept: {error}")))?;
        let statement = self
            .query(statements::ADD_RECEIPT)
            .param("key", key)
            .param("receipt", text)
            .param("number", integer(number))
            .param("at_s", limits.now_s);
        self.transaction.run(statement).await?;
        if number.is_multiple_of(PRUNE_EVERY) {
            let statement = self
                .query(statements::PRUNE_RECEIPTS)
                .param("number", integer(number.saturating_sub(u64::from(limits.max_per_cube))))
                .param("at_s", limits.now_s.saturating_sub(limits.max_age_s));
            self.transaction.run(statement).await?;
        }
        Ok(())
    }

    pub(super) async fn finish(&mut self, counters: &Counters, n_receipts: u64) -> Result<(), Fault> {
        let space = counters.space.as_ref().map(space_text);
        let properties = map([
            ("sequence", integer(counters.sequence)),
            ("next_order", integer(counters.next_order)),
            ("n_documents", integer(counters.n_documents)),
            ("n_terms", integer(counters.n_terms)),
            ("n_receipts", integer(n_receipts)),
            ("space", space.map_or(BoltType::Null(BoltNull), BoltType::from)),
        ]);
        self.set_properties(properties).await
    }
}

fn edge_row(edge: &Edge) -> BoltType {
    row([
        ("source", edge.source.as_str().into()),
        ("target", edge.target.as_str().into()),
        ("kind", edge.kind.as_str().into()),
    ])
}

/// Returns every memory that a batch names, each once.
fn named(batch: &PreparedBatch) -> Vec<&str> {
    let edges = batch.put_edges.iter().flat_map(|edge| [&edge.source, &edge.target]);
    let embedded = batch.embeddings.iter().flat_map(|embeddings| embeddings.vectors.iter().map(|(id, _)| id));
    let put = batch.put.iter().map(|prepared| &prepared.item.id);
    let unchanged = batch.unchanged.iter().map(|read| &read.id);
    let all = batch.absent.iter().chain(unchanged).chain(&batch.delete).chain(put).chain(edges).chain(embedded);
    let mut ids: Vec<&str> = all.map(MemoryId::as_str).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
