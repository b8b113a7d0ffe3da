//! The vectors of one scope, and the scan over them.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use mos_core::{Change, MemoryId, Scored, StoreError, VectorPoint};
use rayon::prelude::*;

use super::dot::dot_rows;
use super::payload::{Payload, PayloadFilter};

/// Rows whose scores are computed before they are looked at; their scores fit the fastest cache.
const BLOCK_ROWS: usize = 256;
/// Below this many numbers one thread is faster than several.
const PARALLEL_FROM: usize = 1 << 22;

/// Vectors of one scope: `f32[n, dimension]` in one piece, unit length.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Number of the last change that is in it.
    pub(super) sequence: u64,
    dimension: usize,
    matrix: Vec<f32>,
    rows: Vec<Row>,
    row_of: HashMap<MemoryId, usize>,
    n_payload_bytes: usize,
}

#[derive(Debug)]
struct Row {
    id: MemoryId,
    payload: Payload,
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
        self.rows.len()
    }

    /// Bytes it takes, about.
    pub(super) fn n_bytes(&self) -> usize {
        let per_id = size_of::<Row>() + size_of::<MemoryId>() + size_of::<usize>();
        let ids: usize = self.rows.len() * (per_id + 2 * 36);
        self.matrix.capacity() * size_of::<f32>() + ids + self.n_payload_bytes
    }

    pub(super) fn follow(&mut self, change: Change) -> Result<Followed, StoreError> {
        let sequence = match change {
            Change::Put { sequence, point: Some(point), .. } => {
                if self.put(point)? == Followed::StartAgain {
                    return Ok(Followed::StartAgain);
                }
                sequence
            }
            Change::Put { sequence, id, point: None } | Change::Deleted { sequence, id } => {
                self.remove(&id);
                sequence
            }
        };
        self.sequence = sequence;
        Ok(Followed::Yes)
    }

    fn put(&mut self, point: VectorPoint) -> Result<Followed, StoreError> {
        if self.rows.is_empty() {
            self.dimension = point.vector.len();
        }
        if point.vector.len() != self.dimension || self.dimension == 0 {
            return Ok(Followed::StartAgain);
        }
        let payload = Payload::of(&point)?;
        self.n_payload_bytes += payload.n_bytes();
        if let Some(&at) = self.row_of.get(&point.id) {
            self.n_payload_bytes -= self.rows[at].payload.n_bytes();
            self.rows[at].payload = payload;
            self.matrix[at * self.dimension..][..self.dimension].copy_from_slice(&point.vector);
        } else {
            self.row_of.insert(point.id.clone(), self.rows.len());
            self.rows.push(Row { id: point.id, payload });
            self.matrix.extend_from_slice(&point.vector);
        }
        Ok(Followed::Yes)
    }

    /// The last row takes the place of the removed one; order means nothing here.
    fn remove(&mut self, id: &MemoryId) {
        let Some(at) = self.row_of.remove(id) else { return };
        let removed = self.rows.swap_remove(at);
        self.n_payload_bytes -= removed.payload.n_bytes();
        let last = self.rows.len() * self.dimension;
        self.matrix.copy_within(last..last + self.dimension, at * self.dimension);
        self.matrix.truncate(last);
        if let Some(moved) = self.rows.get(at) {
            self.row_of.insert(moved.id.clone(), at);
        }
    }

    /// Returns the `limit` rows nearest to a query of unit length that pass the filter, best first, ties by id.
    pub(super) fn nearest(
        &self,
        query: &[f32],
        limit: usize,
        filter: &PayloadFilter,
    ) -> Result<Vec<Scored>, StoreError> {
        if limit == 0 || self.rows.is_empty() {
            return Ok(Vec::new());
        }
        if query.len() != self.dimension {
            return Err(StoreError::Dimension { got: query.len(), want: self.dimension });
        }
        let best = if self.matrix.len() < PARALLEL_FROM {
            self.scan(0, self.rows.len(), query, limit, filter)?
        } else {
            self.scan_in_parallel(query, limit, filter)?
        };
        let best = best.into_sorted_vec();
        let scored = |found: Candidate<'_>| Scored { id: found.id.clone(), score: found.score.clamp(-1.0, 1.0) };
        Ok(best.into_iter().map(scored).collect())
    }

    fn scan_in_parallel<'a>(
        &'a self,
        query: &[f32],
        limit: usize,
        filter: &PayloadFilter,
    ) -> Result<BinaryHeap<Candidate<'a>>, StoreError> {
        let n_parts = 4 * rayon::current_num_threads();
        let part_rows = self.rows.len().div_ceil(n_parts).next_multiple_of(BLOCK_ROWS);
        let starts: Vec<usize> = (0..self.rows.len()).step_by(part_rows).collect();
        let scan = |start: usize| self.scan(start, (start + part_rows).min(self.rows.len()), query, limit, filter);
        let parts: Vec<_> = starts.into_par_iter().map(scan).collect::<Result<_, _>>()?;
        let mut best = BinaryHeap::new();
        for candidate in parts.into_iter().flatten() {
            keep(&mut best, candidate, limit);
        }
        Ok(best)
    }

    /// The heap's top is the worst of the best. The filter is asked only about rows that would enter it.
    fn scan<'a>(
        &'a self,
        start: usize,
        end: usize,
        query: &[f32],
        limit: usize,
        filter: &PayloadFilter,
    ) -> Result<BinaryHeap<Candidate<'a>>, StoreError> {
        let mut best: BinaryHeap<Candidate<'a>> = BinaryHeap::new();
        let mut scores = [0.0_f32; BLOCK_ROWS];
        for block in (start..end).step_by(BLOCK_ROWS) {
            let n_rows = BLOCK_ROWS.min(end - block);
            let numbers = &self.matrix[block * self.dimension..(block + n_rows) * self.dimension];
            dot_rows(query, numbers, &mut scores[..n_rows]);
            for (row, score) in self.rows[block..block + n_rows].iter().zip(scores) {
                let candidate = Candidate { score, id: &row.id };
                let enters = best.len() < limit || best.peek().is_some_and(|worst| candidate < *worst);
                if enters && filter.passes(&row.payload)? {
                    keep(&mut best, candidate, limit);
                }
            }
        }
        Ok(best)
    }
}

fn keep<'a>(best: &mut BinaryHeap<Candidate<'a>>, candidate: Candidate<'a>, limit: usize) {
    best.push(candidate);
    if best.len() > limit {
        best.pop();
    }
}

/// Less is better: a higher score, then the lesser id.
#[derive(Debug)]
struct Candidate<'a> {
    score: f32,
    id: &'a MemoryId,
}

impl Ord for Candidate<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then_with(|| self.id.cmp(other.id))
    }
}

impl PartialOrd for Candidate<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use mos_core::Filter;
    use serde_json::json;
    use std::sync::Arc;

    fn put(sequence: u64, id: usize, vector: Vec<f32>) -> Change {
        let metadata = json!({"even": id.is_multiple_of(2)});
        let id = MemoryId::new(format!("{id:06}"));
        let point = VectorPoint {
            id: id.clone(),
            vector,
            memory: Arc::from("text"),
            metadata: Arc::new(metadata.as_object().unwrap().clone()),
        };
        Change::Put { sequence, id, point: Some(point) }
    }

    #[test]
    fn the_parallel_scan_finds_what_sorting_everything_finds() {
        let (n, dimension) = (70_000, 64);
        let mut state = 7_u32;
        let mut index = Index::default();
        let mut all = Vec::new();
        let query: Vec<f32> = (0..dimension).map(|at| if at == 3 { 1.0 } else { 0.0 }).collect();
        for id in 0..n {
            let mut vector = vec![0.0; dimension];
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Few different scores, so that ties are many.
            vector[3] = ((state >> 16) % 50) as f32 / 100.0;
            all.push((vector[3], id));
            assert_eq!(index.follow(put(id as u64 + 1, id, vector)).unwrap(), Followed::Yes);
        }
        assert!(index.matrix.len() >= PARALLEL_FROM, "the test is about the parallel path");
        let filter = PayloadFilter::new(&Filter::equals("even", true));
        let found = index.nearest(&query, 100, &filter).unwrap();
        all.retain(|(_, id)| id % 2 == 0);
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let expected: Vec<String> = all[..100].iter().map(|(_, id)| format!("{id:06}")).collect();
        assert_eq!(found.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn removing_keeps_the_other_rows() {
        let mut index = Index::default();
        for (at, vector) in [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]].into_iter().enumerate() {
            index.follow(put(at as u64 + 1, at, vector.to_vec())).unwrap();
        }
        index.follow(Change::Deleted { sequence: 4, id: "000000".into() }).unwrap();
        index.follow(Change::Deleted { sequence: 5, id: "unknown".into() }).unwrap();
        let found = index.nearest(&[-1.0, 0.0], 9, &PayloadFilter::new(&Filter::Everything)).unwrap();
        let shown: Vec<_> = found.iter().map(|one| (one.id.as_str(), one.score)).collect();
        assert_eq!(shown, [("000002", 1.0), ("000001", 0.0)]);
        assert_eq!(index.sequence, 5);
        assert_eq!(index.follow(put(6, 9, vec![1.0, 0.0, 0.0])).unwrap(), Followed::StartAgain);
    }
}
