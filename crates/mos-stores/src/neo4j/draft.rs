//! What a batch makes of a scope, worked out before anything is written.
//!
//! Invariant: a draft does the parts of a batch in the order that the batch promises, and numbers changes as every store
//! does. Writing it down changes neither.

use std::collections::{HashMap, HashSet};

use mos_core::{Edge, EmbeddingSpace, MemoryId, Scope, StoreError};
use neo4rs::{BoltMap, BoltType};
use serde::Deserialize;

use super::layout::{Place, node_row, version_row};
use super::values::{integer, row, vector};
use crate::prepare::{PreparedBatch, PreparedEmbeddings, PreparedItem, loose_edge, loose_embedding};

/// The most bytes of an edge's type. The server keeps types for ever.
const MAX_KIND_BYTES: usize = 128;

/// A memory as it lies in the database before the batch.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct KnownRow {
    pub(super) id: String,
    memory: String,
    /// Absent, like the others, for a node that MemOS wrote and this store has not taken over.
    pub(super) number: Option<u64>,
    pub(super) n_terms: Option<u64>,
    pub(super) order: Option<u64>,
    pub(super) sequence: Option<u64>,
}

/// Where a memory's present state is.
#[derive(Clone, Copy, Debug)]
enum Text<'a> {
    Stored,
    Put(&'a PreparedItem),
}

#[derive(Clone, Debug)]
struct Present<'a> {
    text: Text<'a>,
    number: u64,
    n_terms: u64,
    order: u64,
    sequence: u64,
    /// The vectors of the stored node are still those of its text.
    keeps_vectors: bool,
}

#[derive(Debug, Default)]
struct Slot<'a> {
    stored: Option<KnownRow>,
    /// Number of the last version, 0 before the first.
    last_number: u64,
    present: Option<Present<'a>>,
    /// The stored node was removed at some point of the batch.
    is_removed: bool,
    /// There is a tombstone in the database.
    had_tombstone: bool,
    /// Number in the feed of the removal.
    removed_at: u64,
    vector: Option<&'a [f32]>,
}

impl Slot<'_> {
    fn is_new_node(&self) -> bool {
        self.stored.is_none() || self.is_removed
    }
}

/// A scope's numbers, as they become.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    pub(super) sequence: u64,
    pub(super) next_order: u64,
    pub(super) n_documents: u64,
    pub(super) n_terms: u64,
    pub(super) space: Option<EmbeddingSpace>,
}

/// Rows for the statements that write a batch.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Ids of stored states to copy to the history.
    pub(super) archive: Vec<BoltType>,
    pub(super) versions: Vec<BoltType>,
    pub(super) delete: Vec<BoltType>,
    pub(super) tombstones: Vec<BoltType>,
    pub(super) no_tombstones: Vec<BoltType>,
    pub(super) insert: Vec<BoltType>,
    /// Memories whose nodes are new: no edge is at them yet.
    pub(super) new: HashSet<String>,
    pub(super) replace: Vec<BoltType>,
    /// Vectors of nodes that are not new.
    pub(super) embed: Vec<BoltType>,
    pub(super) embed_aside: Vec<BoltType>,
}

/// A batch being worked out.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    tenant: &'a str,
    batch: &'a PreparedBatch,
    pub(super) counters: Counters,
    sequence_before: u64,
    slots: Vec<Slot<'a>>,
    ids: Vec<&'a str>,
    places: HashMap<&'a str, usize>,
    /// The edges at memories that the batch removes.
    taken: &'a HashMap<String, Vec<Edge>>,
    rows: Rows,
    pub(super) n_deleted: usize,
    /// The vectors of the batch are in the space that is searched.
    is_searched: bool,
}

impl<'a> Draft<'a> {
    /// Begins with the memories that the batch names as they are stored (`known`, all of them when it clears), and the
    /// numbers of the last versions of removed ones (`gone`), and the edges at those that it removes (`taken`).
    pub(super) fn new(
        tenant: &'a str,
        batch: &'a PreparedBatch,
        counters: Counters,
        known: &'a [KnownRow],
        gone: &'a [(String, u64)],
        taken: &'a HashMap<String, Vec<Edge>>,
    ) -> Self {
        let mut draft = Self {
            tenant,
            batch,
            sequence_before: counters.sequence,
            counters,
            slots: Vec::new(),
            ids: Vec::new(),
            places: HashMap::new(),
            taken,
            rows: Rows::default(),
            n_deleted: 0,
            is_searched: false,
        };
        for row in known {
            let number = row.number.unwrap_or_default();
            let slot = draft.slot(&row.id);
            slot.last_number = number;
            slot.present = Some(Present {
                text: Text::Stored,
                number,
                n_terms: row.n_terms.unwrap_or_default(),
                order: row.order.unwrap_or_default(),
                sequence: row.sequence.unwrap_or_default(),
                keeps_vectors: true,
            });
            slot.stored = Some(row.clone());
        }
        for (id, number) in gone {
            let slot = draft.slot(id);
            slot.last_number = slot.last_number.max(*number);
            slot.had_tombstone = true;
        }
        draft
    }

    fn slot(&mut self, id: &'a str) -> &mut Slot<'a> {
        let place = *self.places.entry(id).or_insert_with(|| {
            self.slots.push(Slot::default());
            self.ids.push(id);
            self.slots.len() - 1
        });
        &mut self.slots[place]
    }

    fn is_present(&self, id: &MemoryId) -> bool {
        self.places.get(id.as_str()).is_some_and(|place| self.slots[*place].present.is_some())
    }

    /// Works the batch out.
    ///
    /// # Errors
    /// What [`mos_core::RecordStore::apply`] refuses after its preconditions.
    pub(super) fn apply(&mut self, scope: &Scope) -> Result<(), StoreError> {
        let batch = self.batch;
        if batch.clear {
            self.clear();
        }
        for id in &batch.delete {
            self.n_deleted += usize::from(self.delete(id.as_str()));
        }
        for item in &batch.put {
            self.put(item);
        }
        for edge in &batch.put_edges {
            self.check_edge(edge)?;
        }
        match &batch.embeddings {
            Some(embeddings) => self.embed(scope, embeddings),
            None => Ok(()),
        }
    }

    fn clear(&mut self) {
        let mut present: Vec<(u64, &'a str)> = Vec::new();
        for (id, slot) in self.ids.iter().zip(&self.slots) {
            if let Some(now) = &slot.present {
                present.push((now.order, id));
            }
        }
        present.sort_unstable();
        for (_, id) in present {
            self.n_deleted += usize::from(self.delete(id));
        }
        self.counters.space = None;
    }

    fn delete(&mut self, id: &'a str) -> bool {
        let Some(present) = self.slot(id).present.take() else { return false };
        self.archive(id, &present);
        let number = present.number + 1;
        let (at, origin) = (&self.batch.at, &self.batch.origin);
        let edges = self.taken.get(id).map_or(&[][..], Vec::as_slice);
        self.rows.versions.push(version_row(self.tenant, id, None, number, at, origin, edges));
        self.counters.sequence += 1;
        self.counters.n_documents = self.counters.n_documents.saturating_sub(1);
        self.counters.n_terms = self.counters.n_terms.saturating_sub(present.n_terms);
        let sequence = self.counters.sequence;
        let slot = self.slot(id);
        slot.last_number = number;
        slot.removed_at = sequence;
        slot.is_removed |= slot.stored.is_some();
        true
    }

    /// Keeps a state that is over.
    fn archive(&mut self, id: &str, present: &Present<'a>) {
        match present.text {
            Text::Stored => self.rows.archive.push(id.into()),
            Text::Put(prepared) => {
                let mut metadata = prepared.metadata.clone();
                // The copies of earlier states that it carries are in the history already.
                metadata.shift_remove("history");
                let state = Some((prepared.item.memory.as_str(), &metadata));
                let (at, origin) = (&self.batch.at, &self.batch.origin);
                self.rows.versions.push(version_row(self.tenant, id, state, present.number, at, origin, &[]));
            }
        }
    }

    fn put(&mut self, prepared: &'a PreparedItem) {
        let id = prepared.item.id.as_str();
        self.counters.sequence += 1;
        let n_terms = prepared.terms.len() as u64;
        self.counters.n_terms += n_terms;
        let before = self.slot(id).present.take();
        let (number, order, keeps_vectors) = match &before {
            Some(before) => {
                self.archive(id, before);
                self.counters.n_terms = self.counters.n_terms.saturating_sub(before.n_terms);
                let is_same_text = self.text(id, before) == prepared.item.memory;
                (before.number + 1, before.order, before.keeps_vectors && is_same_text)
            }
            None => {
                self.counters.n_documents += 1;
                self.counters.next_order += 1;
                (self.slot(id).last_number + 1, self.counters.next_order - 1, false)
            }
        };
        let sequence = self.counters.sequence;
        let slot = self.slot(id);
        slot.last_number = number;
        slot.present = Some(Present { text: Text::Put(prepared), number, n_terms, order, sequence, keeps_vectors });
    }

    fn text(&self, id: &str, present: &Present<'a>) -> &str {
        match present.text {
            Text::Put(prepared) => &prepared.item.memory,
            Text::Stored => {
                let stored = self.places.get(id).and_then(|place| self.slots[*place].stored.as_ref());
                stored.map_or("", |stored| &stored.memory)
            }
        }
    }

    fn check_edge(&self, edge: &Edge) -> Result<(), StoreError> {
        for end in [&edge.source, &edge.target] {
            if !self.is_present(end) {
                return Err(loose_edge(edge, end));
            }
        }
        let kind = &edge.kind;
        if kind.is_empty() || kind.len() > MAX_KIND_BYTES || kind.chars().any(char::is_control) {
            return Err(StoreError::Invalid(format!(
                "the type of the edge from `{}` to `{}` must have 1 to {MAX_KIND_BYTES} bytes without control characters",
                edge.source, edge.target
            )));
        }
        Ok(())
    }

    fn embed(&mut self, scope: &Scope, embeddings: &'a PreparedEmbeddings) -> Result<(), StoreError> {
        if let Some(have) = &self.counters.space
            && !embeddings.aside
            && *have != embeddings.space
        {
            return Err(StoreError::EmbeddingSpace {
                cube: scope.cube.to_string(),
                have: have.clone(),
                got: embeddings.space.clone(),
            });
        }
        if embeddings.vectors.is_empty() {
            return Ok(());
        }
        if self.counters.space.is_none() && !embeddings.aside {
            self.counters.space = Some(embeddings.space.clone());
        }
        // Written aside in the space that is searched already, they are comparable and simply seen.
        self.is_searched = self.counters.space.as_ref() == Some(&embeddings.space);
        for (id, vector, text) in embeddings.rows() {
            let present = self.places.get(id.as_str()).and_then(|place| self.slots[*place].present.as_ref());
            match (present, text) {
                (None, None) => return Err(loose_embedding(id)),
                (None, Some(_)) => continue,
                (Some(present), Some(text)) if self.text(id.as_str(), present) != text => continue,
                (Some(_), _) => {}
            }
            self.set_vector(id.as_str(), vector);
        }
        Ok(())
    }

    fn set_vector(&mut self, id: &'a str, vector: &'a [f32]) {
        let (before, next, is_searched) = (self.sequence_before, self.counters.sequence + 1, self.is_searched);
        let slot = self.slot(id);
        slot.vector = Some(vector);
        if is_searched && let Some(present) = slot.present.as_mut().filter(|present| present.sequence <= before) {
            present.sequence = next;
            self.counters.sequence = next;
        }
    }

    /// Returns what is to be written.
    pub(super) fn into_rows(mut self) -> (Counters, Rows) {
        let space = self.batch.embeddings.as_ref().map(|embeddings| super::read::space_text(&embeddings.space));
        let mut rows = std::mem::take(&mut self.rows);
        for (id, slot) in self.ids.iter().zip(&self.slots) {
            if slot.is_removed {
                rows.delete.push((*id).into());
            }
            match &slot.present {
                None if slot.removed_at > 0 => rows.tombstones.push(row([
                    ("id", (*id).into()),
                    ("sequence", integer(slot.removed_at)),
                    ("number", integer(slot.last_number)),
                ])),
                None => {}
                Some(present) => self.push_present(&mut rows, id, slot, present, space.as_deref()),
            }
        }
        (self.counters, rows)
    }

    fn push_present(&self, rows: &mut Rows, id: &str, slot: &Slot<'a>, present: &Present<'a>, space: Option<&str>) {
        if slot.had_tombstone {
            rows.no_tombstones.push(id.into());
        }
        let mut left_to_embed = slot.vector;
        if let Text::Put(prepared) = present.text {
            let mut node = self.node(prepared, present);
            if slot.is_new_node() {
                self.add_vector(&mut node, left_to_embed.take(), space);
                rows.insert.push(BoltType::Map(node));
                rows.new.insert(id.to_owned());
            } else {
                node.put("keeps_vectors".into(), present.keeps_vectors.into());
                rows.replace.push(BoltType::Map(node));
            }
        }
        if let Some(values) = left_to_embed {
            let target = if self.is_searched { &mut rows.embed } else { &mut rows.embed_aside };
            target.push(row([("id", id.into()), ("vector", vector(values)), ("sequence", integer(present.sequence))]));
        }
    }

    fn node(&self, prepared: &PreparedItem, present: &Present<'a>) -> BoltMap {
        let place = Place {
            sequence: present.sequence,
            order: present.order,
            number: present.number,
            at: self.batch.at.clone(),
        };
        let item = &prepared.item;
        let (metadata, origin) = (&prepared.metadata, &self.batch.origin);
        node_row(self.tenant, item.id.as_str(), &item.memory, metadata, &prepared.terms, &place, origin)
    }

    /// A new node is written with its vector in one go.
    fn add_vector(&self, node: &mut BoltMap, values: Option<&[f32]>, space: Option<&str>) {
        let Some(values) = values else { return };
        let [name, space_name] =
            if self.is_searched { ["embedding", "mos_space"] } else { ["mos_aside", "mos_aside_space"] };
        if let Some(BoltType::Map(properties)) = node.value.get_mut("properties") {
            properties.put(name.into(), vector(values));
            properties.put(space_name.into(), space.map(str::to_owned).into());
        }
    }
}
