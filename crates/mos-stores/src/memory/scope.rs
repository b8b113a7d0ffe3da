//! One scope of the in-memory record.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use mos_core::{
    Change, Edge, EmbeddingSpace, Filter, MemoryId, MemoryItem, News, Origin, Receipt, Scope, Scored, StoreError,
    VectorPoint, Version,
};
use serde_json::{Map, Value};

use super::state::KeptState;
use crate::bm25::TermStatistics;
use crate::codec;
use crate::prepare::{
    PreparedBatch, PreparedEmbeddings, PreparedItem, changed, closed, loose_edge, loose_embedding, present,
};

/// The most idempotency keys that are kept per scope; the oldest go first.
const MAX_IDEMPOTENCY_KEYS: usize = 10_000;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) item: MemoryItem,
    pub(super) metadata: Map<String, Value>,
    pub(super) frequencies: HashMap<String, u32>,
    pub(super) n_terms: u32,
    pub(super) sequence: u64,
    pub(super) order: u64,
    pub(super) vectors: HashMap<EmbeddingSpace, Vec<f32>>,
}

/// Everything a scope holds.
#[derive(Debug, Default)]
pub(super) struct ScopeState {
    pub(super) space: Option<EmbeddingSpace>,
    pub(super) nodes: HashMap<MemoryId, Node>,
    /// Ids by the order of their first write.
    pub(super) order: BTreeMap<u64, MemoryId>,
    pub(super) tombstones: HashMap<MemoryId, u64>,
    pub(super) versions: HashMap<MemoryId, Vec<Version>>,
    pub(super) edges: BTreeSet<Edge>,
    pub(super) receipts: HashMap<String, Receipt>,
    pub(super) receipt_order: std::collections::VecDeque<String>,
    pub(super) statistics: TermStatistics,
    pub(super) next_order: u64,
    /// Documents and logs.
    pub(super) kept: KeptState,
    /// Its cube was deleted.
    is_closed: bool,
    /// Number of the cube that it was opened or closed for last, when cubes are kept elsewhere.
    generation: u64,
}

impl ScopeState {
    /// Whether an earlier batch with the same key has done it already.
    pub(super) fn has_done(&self, batch: &PreparedBatch) -> bool {
        batch.idempotency_key.as_ref().is_some_and(|key| self.receipts.contains_key(key))
    }

    /// Whether its cube was deleted.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Applies a batch whole, or refuses it and changes nothing.
    pub(super) fn apply(
        &mut self,
        scope: &Scope,
        batch: PreparedBatch,
        sequence: &mut u64,
    ) -> Result<Receipt, StoreError> {
        if self.is_closed {
            return Err(closed(scope));
        }
        if let Some(receipt) = batch.idempotency_key.as_ref().and_then(|key| self.receipts.get(key)) {
            return Ok(Receipt { replayed: true, ..receipt.clone() });
        }
        self.check(scope, &batch)?;
        let before = *sequence;
        let mut n_deleted = 0;
        if batch.clear {
            n_deleted += self.clear(&batch.origin, &batch.at, sequence);
        }
        let mut taken = self.edges_at(&batch.delete);
        for id in &batch.delete {
            let edges = taken.remove(id).unwrap_or_default();
            n_deleted += usize::from(self.delete(id, edges, &batch.origin, &batch.at, sequence));
        }
        let put: Vec<MemoryId> = batch.put.iter().map(|prepared| prepared.item.id.clone()).collect();
        for prepared in batch.put {
            self.put(prepared, &batch.origin, &batch.at, sequence);
        }
        for edge in &batch.remove_edges {
            self.edges.remove(edge);
        }
        self.edges.extend(batch.put_edges);
        if let Some(embeddings) = batch.embeddings {
            self.embed(embeddings, before, sequence);
        }
        let receipt = Receipt { sequence: *sequence, put, n_deleted, replayed: false };
        if let Some(key) = batch.idempotency_key {
            self.keep_receipt(key, receipt.clone());
        }
        Ok(receipt)
    }

    /// Refuses what must not be applied, before anything is.
    fn check(&self, scope: &Scope, batch: &PreparedBatch) -> Result<(), StoreError> {
        if let Some(id) = batch.absent.iter().find(|id| self.nodes.contains_key(id)) {
            return Err(present(id));
        }
        for read in &batch.unchanged {
            let is_so =
                |node: &Node| node.item.memory == read.memory && codec::stored_metadata(&node.item) == read.metadata;
            if !self.nodes.get(&read.id).is_some_and(is_so) {
                return Err(changed(&read.id));
            }
        }
        let put: HashSet<&MemoryId> = batch.put.iter().map(|prepared| &prepared.item.id).collect();
        let deleted: HashSet<&MemoryId> = batch.delete.iter().collect();
        let stays =
            |id: &MemoryId| put.contains(id) || (!batch.clear && !deleted.contains(id) && self.nodes.contains_key(id));
        for edge in &batch.put_edges {
            for end in [&edge.source, &edge.target] {
                if !stays(end) {
                    return Err(loose_edge(edge, end));
                }
            }
        }
        let Some(embeddings) = &batch.embeddings else { return Ok(()) };
        if let Some(have) = self.space.as_ref().filter(|_| !batch.clear)
            && !embeddings.aside
            && *have != embeddings.space
        {
            return Err(StoreError::EmbeddingSpace {
                cube: scope.cube.to_string(),
                have: have.clone(),
                got: embeddings.space.clone(),
            });
        }
        match embeddings.rows().find(|(id, _, text)| text.is_none() && !stays(id)) {
            Some((id, ..)) => Err(loose_embedding(id)),
            None => Ok(()),
        }
    }

    pub(super) fn clear(&mut self, origin: &Origin, at: &str, sequence: &mut u64) -> usize {
        let ids: Vec<MemoryId> = self.order.values().cloned().collect();
        let mut taken = self.edges_at(&ids);
        for id in &ids {
            self.delete(id, taken.remove(id).unwrap_or_default(), origin, at, sequence);
        }
        self.space = None;
        ids.len()
    }

    /// The edges at each of some memories that has any, sorted.
    fn edges_at(&self, ids: &[MemoryId]) -> HashMap<MemoryId, Vec<Edge>> {
        let ids: HashSet<&MemoryId> = ids.iter().collect();
        let mut at: HashMap<MemoryId, Vec<Edge>> = HashMap::new();
        if ids.is_empty() {
            return at;
        }
        for edge in &self.edges {
            for end in BTreeSet::from([&edge.source, &edge.target]) {
                if ids.contains(end) {
                    at.entry(end.clone()).or_default().push(edge.clone());
                }
            }
        }
        at
    }

    fn delete(&mut self, id: &MemoryId, edges: Vec<Edge>, origin: &Origin, at: &str, sequence: &mut u64) -> bool {
        let Some(node) = self.nodes.remove(id) else { return false };
        self.order.remove(&node.order);
        self.edges.retain(|edge| edge.source != *id && edge.target != *id);
        self.statistics.n_documents -= 1;
        self.statistics.n_terms -= u64::from(node.n_terms);
        *sequence += 1;
        self.tombstones.insert(id.clone(), *sequence);
        self.remember(id, None, edges, origin, at);
        true
    }

    fn remember(&mut self, id: &MemoryId, item: Option<MemoryItem>, edges: Vec<Edge>, origin: &Origin, at: &str) {
        let versions = self.versions.entry(id.clone()).or_default();
        // The copies of earlier states that the state before carried are in the history already.
        if let Some(before) = versions.last_mut().and_then(|version| version.item.as_mut()) {
            before.metadata.history.clear();
        }
        let number = versions.last().map_or(0, |version| version.number) + 1;
        versions.push(Version { number, item, edges, origin: origin.clone(), at: at.to_owned() });
    }

    fn put(&mut self, prepared: PreparedItem, origin: &Origin, at: &str, sequence: &mut u64) {
        *sequence += 1;
        let id = prepared.item.id.clone();
        self.remember(&id, Some(prepared.item.clone()), Vec::new(), origin, at);
        self.tombstones.remove(&id);
        let (mut order, mut vectors) = (self.next_order, HashMap::new());
        match self.nodes.remove(&id) {
            Some(known) => {
                order = known.order;
                self.statistics.n_terms -= u64::from(known.n_terms);
                if known.item.memory == prepared.item.memory {
                    vectors = known.vectors;
                }
            }
            None => {
                self.next_order += 1;
                self.order.insert(order, id.clone());
                self.statistics.n_documents += 1;
            }
        }
        let n_terms = prepared.terms.len() as u32;
        self.statistics.n_terms += u64::from(n_terms);
        let mut frequencies = HashMap::new();
        for term in prepared.terms {
            *frequencies.entry(term).or_insert(0) += 1;
        }
        let (item, metadata) = (prepared.item, prepared.metadata);
        self.nodes.insert(id, Node { item, metadata, frequencies, n_terms, sequence: *sequence, order, vectors });
    }

    fn embed(&mut self, embeddings: PreparedEmbeddings, before: u64, sequence: &mut u64) {
        if embeddings.vectors.is_empty() {
            return;
        }
        if self.space.is_none() && !embeddings.aside {
            self.space = Some(embeddings.space.clone());
        }
        let is_searched = self.space.as_ref() == Some(&embeddings.space);
        for (id, vector, text) in embeddings.rows() {
            // `check` found every memory whose embedding comes without its text.
            let Some(node) = self.nodes.get_mut(id) else { continue };
            if text.is_some_and(|text| text != node.item.memory) {
                continue;
            }
            node.vectors.insert(embeddings.space.clone(), vector.clone());
            if is_searched && node.sequence <= before {
                *sequence += 1;
                node.sequence = *sequence;
            }
        }
    }

    pub(super) fn keep_receipt(&mut self, key: String, receipt: Receipt) {
        self.receipts.insert(key.clone(), receipt);
        self.receipt_order.push_back(key);
        if self.receipt_order.len() > MAX_IDEMPOTENCY_KEYS
            && let Some(oldest) = self.receipt_order.pop_front()
        {
            self.receipts.remove(&oldest);
        }
    }

    pub(super) fn adopt_space(
        &mut self,
        scope: &Scope,
        space: &EmbeddingSpace,
        sequence: &mut u64,
    ) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(closed(scope));
        }
        let is_missing = |node: &&Node| {
            self.space.as_ref().is_some_and(|old| node.vectors.contains_key(old)) && !node.vectors.contains_key(space)
        };
        let n_missing = self.nodes.values().filter(is_missing).count();
        if n_missing > 0 {
            return Err(StoreError::Conflict(format!(
                "{n_missing} memories of cube `{}` have no embedding by {space} yet; embed them, then adopt it again",
                scope.cube
            )));
        }
        let changes = self.space.as_ref() != Some(space);
        let mut by_sequence: Vec<&mut Node> = self.nodes.values_mut().collect();
        by_sequence.sort_by_key(|node| node.sequence);
        for node in by_sequence {
            node.vectors.retain(|known, _| known == space);
            if changes && !node.vectors.is_empty() {
                *sequence += 1;
                node.sequence = *sequence;
            }
        }
        self.space = Some(space.clone());
        Ok(())
    }

    /// Removes everything but the tombstones that followers of the feed need; sets whether later writes are refused.
    pub(super) fn erase(&mut self, sequence: &mut u64, is_closed: bool) {
        self.clear(&Origin::default(), "", sequence);
        *self = Self {
            tombstones: std::mem::take(&mut self.tombstones),
            is_closed,
            generation: self.generation,
            ..Self::default()
        };
    }

    /// Number of the cube that it was opened or closed for last; 0 for none.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Empties the scope and opens it for a cube of this generation.
    pub(super) fn open_for(&mut self, generation: u64, sequence: &mut u64) {
        self.erase(sequence, false);
        self.generation = generation;
    }

    /// Empties the scope and closes it for a cube of this generation.
    pub(super) fn close_for(&mut self, generation: u64, sequence: &mut u64) {
        self.erase(sequence, true);
        self.generation = generation;
    }

    fn in_order(&self) -> impl Iterator<Item = &Node> {
        self.order.values().filter_map(|id| self.nodes.get(id))
    }

    pub(super) fn item(&self, id: &MemoryId) -> Option<&MemoryItem> {
        self.nodes.get(id).map(|node| &node.item)
    }

    pub(super) fn passing<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a MemoryItem> {
        self.passing_with_metadata(filter).map(|(item, _)| item)
    }

    pub(super) fn passing_with_metadata<'a>(
        &'a self,
        filter: &'a Filter,
    ) -> impl Iterator<Item = (&'a MemoryItem, &'a Map<String, Value>)> {
        let passes = |node: &&Node| filter.matches(&node.item.memory, &node.metadata);
        self.in_order().filter(passes).map(|node| (&node.item, &node.metadata))
    }

    /// Every edge, sorted.
    pub(super) fn edges(&self) -> impl Iterator<Item = &Edge> {
        self.edges.iter()
    }

    pub(super) fn without_embedding(&self, space: &EmbeddingSpace) -> impl Iterator<Item = &MemoryItem> {
        self.in_order().filter(|node| !node.vectors.contains_key(space)).map(|node| &node.item)
    }

    pub(super) fn vector(&self, id: &MemoryId) -> Option<&Vec<f32>> {
        self.nodes.get(id)?.vectors.get(self.space.as_ref()?)
    }

    pub(super) fn history(&self, id: &MemoryId) -> Vec<Version> {
        self.versions.get(id).cloned().unwrap_or_default()
    }

    pub(super) fn changes(&self, after: u64, limit: usize) -> Vec<Change> {
        let puts = self.nodes.iter().map(|(id, node)| (node.sequence, id, Some(node)));
        let deleted = self.tombstones.iter().map(|(id, sequence)| (*sequence, id, None));
        let mut told: Vec<_> = puts.chain(deleted).filter(|(sequence, ..)| *sequence > after).collect();
        told.sort_by_key(|(sequence, ..)| *sequence);
        let change = |(sequence, id, node): (u64, &MemoryId, Option<&Node>)| match node {
            Some(node) => Change::Put { sequence, arrival: node.order, id: id.clone(), point: self.point(id, node) },
            None => Change::Deleted { sequence, id: id.clone() },
        };
        told.into_iter().take(limit).map(change).collect()
    }

    pub(super) fn news(&self, after: u64) -> News {
        let mut sequences = self.nodes.values().map(|node| node.sequence).chain(self.tombstones.values().copied());
        News {
            is_behind: sequences.any(|sequence| sequence > after),
            may_have_edges: !self.edges.is_empty(),
            space: self.space.clone(),
        }
    }

    fn point(&self, id: &MemoryId, node: &Node) -> Option<VectorPoint> {
        Some(VectorPoint {
            id: id.clone(),
            vector: node.vectors.get(self.space.as_ref()?)?.clone(),
            memory: Arc::from(node.item.memory.as_str()),
            metadata: Arc::new(codec::index_metadata(node.metadata.clone())),
        })
    }

    pub(super) fn full_text(&self, query_terms: &[String], limit: usize, filter: &Filter) -> Vec<Scored> {
        let mut scores: HashMap<&MemoryId, f64> = HashMap::new();
        for term in query_terms {
            let holds = |node: &&Node| node.frequencies.contains_key(term);
            let holding: Vec<&Node> = self.nodes.values().filter(holds).collect();
            let weight = self.statistics.weight(holding.len());
            for node in holding {
                let score = self.statistics.score(weight, node.frequencies[term], node.n_terms);
                *scores.entry(&node.item.id).or_default() += score;
            }
        }
        let passes =
            |id: &MemoryId| self.nodes.get(id).is_some_and(|node| filter.matches(&node.item.memory, &node.metadata));
        let mut found: Vec<Scored> = scores
            .into_iter()
            .filter(|(id, _)| passes(id))
            .map(|(id, score)| Scored { id: id.clone(), score: score as f32 })
            .collect();
        found.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.id.cmp(&right.id)));
        found.truncate(limit);
        found
    }
}
