//! One scope of the in-memory record that moves to another store or comes from one.

use std::collections::HashMap;

use mos_core::{ArchivedMemory, ArchivedReceipt, MemoryId, PastVersion, Receipt, Scope, StoreError, Version};

use super::scope::{Node, ScopeState};
use crate::archive::{PreparedArchive, PreparedMemory, PreparedVersion, check_same_space};
use crate::codec;
use crate::prepare::closed;

impl ScopeState {
    pub(super) fn position(&self) -> u64 {
        self.nodes.values().map(|node| node.sequence).chain(self.tombstones.values().copied()).max().unwrap_or(0)
    }

    pub(super) fn archived_memory(&self, id: &MemoryId) -> Option<ArchivedMemory> {
        let order = self.nodes.get(id)?.order;
        let version = self.versions.get(id)?.last()?.clone();
        Some(ArchivedMemory { order, id: id.clone(), version })
    }

    pub(super) fn archived_memories(&self, after: Option<u64>, limit: usize) -> Vec<ArchivedMemory> {
        let first = after.map_or(0, |after| after.saturating_add(1));
        self.order.range(first..).take(limit).filter_map(|(_, id)| self.archived_memory(id)).collect()
    }

    pub(super) fn archived_versions(&self, after: Option<(&MemoryId, u64)>, limit: usize) -> Vec<PastVersion> {
        let past = |(id, versions): (&MemoryId, &Vec<Version>)| {
            let n_past = versions.len() - usize::from(self.nodes.contains_key(id));
            let of = |version: &Version| PastVersion { id: id.clone(), version: version.clone() };
            versions[..n_past].iter().map(of).collect::<Vec<_>>()
        };
        let mut all: Vec<PastVersion> = self.versions.iter().flat_map(past).collect();
        all.retain(|one| after.is_none_or(|after| (&one.id, one.version.number) > after));
        all.sort_by(|left, right| (&left.id, left.version.number).cmp(&(&right.id, right.version.number)));
        all.truncate(limit);
        all
    }

    pub(super) fn archived_receipts(&self, after: Option<u64>, limit: usize, at_s: i64) -> Vec<ArchivedReceipt> {
        let keys = (1..).zip(&self.receipt_order).filter(|(order, _)| after.is_none_or(|after| *order > after));
        let archived = |(order, key): (u64, &String)| {
            let receipt = self.receipts.get(key)?.clone();
            Some(ArchivedReceipt { order, key: key.clone(), receipt, at_s })
        };
        keys.filter_map(archived).take(limit).collect()
    }

    pub(super) fn import(
        &mut self,
        scope: &Scope,
        batch: PreparedArchive,
        sequence: &mut u64,
    ) -> Result<(), StoreError> {
        if self.is_closed() {
            return Err(closed(scope));
        }
        check_same_space(scope.cube.as_str(), self.space.as_ref(), batch.space.as_ref())?;
        if self.space.is_none() {
            self.space = batch.space.clone();
        }
        let buried: Vec<MemoryId> = batch.last_numbers().into_iter().map(|(id, _)| id.clone()).collect();
        for id in &batch.remove {
            self.take_out(id, sequence);
        }
        for memory in batch.memories {
            self.restore(memory, sequence);
        }
        for version in batch.versions {
            self.restore_version(version)?;
        }
        for id in buried.iter().filter(|id| !self.nodes.contains_key(id)).cloned().collect::<Vec<_>>() {
            *sequence += 1;
            self.tombstones.insert(id, *sequence);
        }
        for archived in batch.receipts.into_iter() {
            // The number is one of another store's feed: whoever asks again is told where this one stands.
            if !self.receipts.contains_key(&archived.key) {
                self.keep_receipt(archived.key, Receipt { sequence: *sequence, ..archived.receipt });
            }
        }
        Ok(())
    }

    /// Removes a memory whose removal is no change of this store's. Its present state is over with it; the versions that
    /// come say what became of it.
    fn take_out(&mut self, id: &MemoryId, sequence: &mut u64) {
        let Some(node) = self.nodes.remove(id) else { return };
        self.order.remove(&node.order);
        self.edges.retain(|edge| edge.source != *id && edge.target != *id);
        self.statistics.n_documents -= 1;
        self.statistics.n_terms -= u64::from(node.n_terms);
        *sequence += 1;
        self.tombstones.insert(id.clone(), *sequence);
    }

    fn restore(&mut self, memory: PreparedMemory, sequence: &mut u64) {
        let PreparedMemory { prepared, number, origin, at, vector } = memory;
        let id = prepared.item.id.clone();
        *sequence += 1;
        let order = match self.nodes.remove(&id) {
            Some(known) => {
                self.statistics.n_terms -= u64::from(known.n_terms);
                known.order
            }
            None => {
                self.next_order += 1;
                self.order.insert(self.next_order - 1, id.clone());
                self.statistics.n_documents += 1;
                self.next_order - 1
            }
        };
        self.tombstones.remove(&id);
        let n_terms = prepared.terms.len() as u32;
        self.statistics.n_terms += u64::from(n_terms);
        let mut frequencies = HashMap::new();
        for term in prepared.terms {
            *frequencies.entry(term).or_insert(0) += 1;
        }
        self.place_version(&id, Version { number, item: Some(prepared.item.clone()), edges: Vec::new(), origin, at });
        let vectors = self.space.clone().zip(vector).into_iter().collect();
        let (item, metadata) = (prepared.item, prepared.metadata);
        let node = Node { item, metadata, frequencies, n_terms, sequence: *sequence, order, vectors };
        self.nodes.insert(id, node);
    }

    fn restore_version(&mut self, version: PreparedVersion) -> Result<(), StoreError> {
        let PreparedVersion { id, number, origin, at, state, edges } = version;
        let item = state.map(|(memory, metadata)| codec::restore_item(id.clone(), memory, metadata)).transpose()?;
        self.place_version(&id, Version { number, item, edges, origin, at });
        Ok(())
    }

    /// Puts a version where its number belongs.
    fn place_version(&mut self, id: &MemoryId, version: Version) {
        let versions = self.versions.entry(id.clone()).or_default();
        match versions.binary_search_by_key(&version.number, |known| known.number) {
            Ok(place) => versions[place] = version,
            Err(place) => versions.insert(place, version),
        }
    }
}
