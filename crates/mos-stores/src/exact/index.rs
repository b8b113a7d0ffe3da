//! The vectors of one scope with what filters look at, kept up to date by the record's feed.

use std::collections::{BTreeSet, HashMap};

use mos_core::{Change, Filter, MemoryId, Scored, StoreError, VectorPoint};

use super::columns::Columns;
use super::cpu::Instructions;
use super::dot::dot_with;
use super::payload::Payload;
use super::scan::Scan;
use super::select::{RowFilter, columns_of};
use super::vectors::{BLOCK_ROWS, Vectors};

/// Vectors of one scope. A row has the same place in `vectors`, `ids`, `payloads` and `columns`.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Number of the last change that is in it.
    pub(super) sequence: u64,
    /// `None` before the first vector.
    vectors: Option<Vectors>,
    ids: Vec<MemoryId>,
    payloads: Vec<Payload>,
    columns: Columns,
    row_of: HashMap<MemoryId, usize>,
    n_payload_bytes: usize,
}

/// What became of a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// It is in the index.
    Yes,
    /// The vectors have another dimension now: the index must be filled anew.
    StartAgain,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Bytes it takes, about.
    pub(super) fn n_bytes(&self) -> usize {
        // Each id is there twice, as text and as the pointer to it.
        let per_id = 2 * (size_of::<MemoryId>() + 36) + size_of::<usize>();
        let vectors = self.vectors.as_ref().map_or(0, Vectors::n_bytes);
        vectors + self.ids.len() * per_id + self.n_payload_bytes + self.columns.n_bytes()
    }

    pub(super) fn follow(&mut self, change: Change) -> Result<Followed, StoreError> {
        let sequence = match change {
            Change::Put { sequence, point: Some(point), .. } => {
                if self.put(point)? == Followed::StartAgain {
                    return Ok(Followed::StartAgain);
                }
                sequence
            }
            Change::Put { sequence, id, point: None, .. } | Change::Deleted { sequence, id } => {
                self.remove(&id);
                sequence
            }
        };
        self.sequence = sequence;
        Ok(Followed::Yes)
    }

    fn put(&mut self, point: VectorPoint) -> Result<Followed, StoreError> {
        let dimension = point.vector.len();
        if dimension == 0 {
            return Ok(Followed::StartAgain);
        }
        let is_known = self.vectors.as_ref().is_some_and(|vectors| vectors.dimension() == dimension);
        if !is_known && !self.ids.is_empty() {
            return Ok(Followed::StartAgain);
        }
        let payload = Payload::of(&point)?;
        if !is_known {
            self.vectors = None;
        }
        let vectors = self.vectors.get_or_insert_with(|| Vectors::new(dimension));
        self.n_payload_bytes += payload.n_bytes();
        if let Some(&at) = self.row_of.get(&point.id) {
            vectors.set(at, &point.vector);
            self.columns.set(at, &point);
            self.n_payload_bytes -= self.payloads[at].n_bytes();
            self.payloads[at] = payload;
        } else {
            vectors.push(&point.vector);
            self.columns.push(&point);
            self.payloads.push(payload);
            self.row_of.insert(point.id.clone(), self.ids.len());
            self.ids.push(point.id);
        }
        Ok(Followed::Yes)
    }

    /// The last row takes the place of the removed one; order means nothing here.
    fn remove(&mut self, id: &MemoryId) {
        let Some(at) = self.row_of.remove(id) else { return };
        if let Some(vectors) = &mut self.vectors {
            vectors.swap_remove(at);
        }
        self.columns.swap_remove(at);
        self.n_payload_bytes -= self.payloads.swap_remove(at).n_bytes();
        self.ids.swap_remove(at);
        if let Some(moved) = self.ids.get(at) {
            self.row_of.insert(moved.clone(), at);
        }
    }

    /// Whether it has the columns of these fields.
    pub(super) fn has_columns(&self, fields: &BTreeSet<String>) -> bool {
        self.columns.has(fields)
    }

    /// Makes the columns of these fields, as far as they are missing.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a payload cannot be read.
    pub(super) fn make_columns(&mut self, fields: &BTreeSet<String>) -> Result<(), StoreError> {
        self.columns.make(fields, &self.payloads)
    }

    /// Returns the `limit` rows nearest to a query of unit length that pass the filter, best first, ties by id.
    /// The columns are there that [`columns_of`] names.
    pub(super) fn nearest(&self, query: &[f32], limit: usize, filter: &Filter) -> Result<Vec<Scored>, StoreError> {
        self.found(query, limit, filter, Instructions::best(), true)
    }

    /// As [`Index::nearest`], in any order.
    pub(super) fn near(&self, query: &[f32], limit: usize, filter: &Filter) -> Result<Vec<Scored>, StoreError> {
        self.found(query, limit, filter, Instructions::best(), false)
    }

    /// Whether a row passes the part of a filter that is looked up; no payload is read. The columns are there that
    /// [`columns_of`] names.
    pub(super) fn may_find(&self, filter: &Filter) -> bool {
        let filter = RowFilter::new(filter, &self.columns, &self.payloads);
        let mut rows = [0_u16; BLOCK_ROWS];
        (0..self.ids.len())
            .step_by(BLOCK_ROWS)
            .any(|first| filter.select(first, BLOCK_ROWS.min(self.ids.len() - first), &mut rows) > 0)
    }

    /// Returns the cosine of a query of unit length with the vector of each memory; `None` for one without a vector.
    pub(super) fn similarities(&self, query: &[f32], ids: &[MemoryId]) -> Result<Vec<Option<f32>>, StoreError> {
        let Some(vectors) = self.vectors.as_ref().filter(|_| !self.ids.is_empty()) else {
            return Ok(vec![None; ids.len()]);
        };
        if query.len() != vectors.dimension() {
            return Err(StoreError::Dimension { got: query.len(), want: vectors.dimension() });
        }
        let dot = dot_with(Instructions::best());
        let similarity = |id: &MemoryId| self.row_of.get(id).map(|&at| dot(query, vectors.row(at)).clamp(-1.0, 1.0));
        Ok(ids.iter().map(similarity).collect())
    }

    /// Returns the vectors of those among some memories that have one, in the order asked; none when they have another dimension.
    pub(super) fn vectors_of(&self, dimension: usize, ids: &[MemoryId]) -> Vec<(MemoryId, Vec<f32>)> {
        let Some(vectors) = self.vectors.as_ref().filter(|vectors| vectors.dimension() == dimension) else {
            return Vec::new();
        };
        let vector = |id: &MemoryId| Some((id.clone(), vectors.row(*self.row_of.get(id)?).to_vec()));
        ids.iter().filter_map(vector).collect()
    }

    fn found(
        &self,
        query: &[f32],
        limit: usize,
        filter: &Filter,
        instructions: Instructions,
        is_ordered: bool,
    ) -> Result<Vec<Scored>, StoreError> {
        let Some(vectors) = self.vectors.as_ref().filter(|_| limit > 0 && !self.ids.is_empty()) else {
            return Ok(Vec::new());
        };
        if query.len() != vectors.dimension() {
            return Err(StoreError::Dimension { got: query.len(), want: vectors.dimension() });
        }
        debug_assert!(self.has_columns(&columns_of(filter)), "the columns of a filter are made before it is used");
        let filter = RowFilter::new(filter, &self.columns, &self.payloads);
        let scan = Scan::new(vectors, &self.ids, filter, query, limit, instructions);
        let best = if is_ordered { scan.run()? } else { scan.run_unordered()? };
        let scored =
            |found: super::scan::Candidate<'_>| Scored { id: found.id.clone(), score: found.score.clamp(-1.0, 1.0) };
        Ok(best.into_iter().map(scored).collect())
    }
}

#[cfg(test)]
mod tests;
