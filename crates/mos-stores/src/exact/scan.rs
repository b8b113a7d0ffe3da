//! The scan over all rows of an index.
//!
//! Each block of rows goes through three gates: the part of the filter that is a look-up; the coarse copy of the vectors,
//! which rules out rows that cannot be among the best any more; the vectors themselves. A row is ruled out only when it
//! certainly has a lower score than `limit` others, so the result is that of comparing everything, to the bit.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::{self, AtomicI32};

use mos_core::{MemoryId, StoreError};
use rayon::prelude::*;

use super::codes::CodedQuery;
use super::cpu::Instructions;
use super::dot::{Dot, dot_with};
use super::select::RowFilter;
use super::vectors::{BLOCK_ROWS, Block, Vectors};

/// Below this many numbers one thread is faster than several.
const PARALLEL_FROM: usize = 1 << 22;

/// One search.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    vectors: &'a Vectors,
    ids: &'a [MemoryId],
    filter: RowFilter<'a>,
    query: &'a [f32],
    coded: CodedQuery,
    dot: Dot,
    limit: usize,
    floor: Floor,
}

impl<'a> Scan<'a> {
    /// The query has the dimension of the vectors; each row has an id.
    pub(super) fn new(
        vectors: &'a Vectors,
        ids: &'a [MemoryId],
        filter: RowFilter<'a>,
        query: &'a [f32],
        limit: usize,
        instructions: Instructions,
    ) -> Self {
        let coded = CodedQuery::new(query, vectors.max_length(), instructions);
        Self { vectors, ids, filter, query, coded, dot: dot_with(instructions), limit, floor: Floor::default() }
    }

    /// Returns the best rows, best first, ties by id.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a payload that the filter asks about cannot be read.
    pub(super) fn run(&self) -> Result<Vec<Candidate<'a>>, StoreError> {
        let mut best = self.in_parts(|first, blocks| Ok(self.scan(first, blocks)?.into_vec()))?;
        best.sort_unstable();
        best.truncate(self.limit);
        Ok(best)
    }

    /// Returns what [`Scan::run`] does, in any order. Where most rows are wanted, no row is ruled out, and none is put in its
    /// place among the best.
    ///
    /// # Errors
    /// As [`Scan::run`].
    pub(super) fn run_unordered(&self) -> Result<Vec<Candidate<'a>>, StoreError> {
        if self.limit < self.ids.len().div_ceil(2) {
            return self.run();
        }
        let mut found = self.in_parts(|first, blocks| self.all(first, blocks))?;
        if self.limit < found.len() {
            // The one at this place is the first that is left out.
            found.select_nth_unstable(self.limit);
            found.truncate(self.limit);
        }
        Ok(found)
    }

    /// Returns what a scan finds in all blocks, in any order; where that is faster, in parts on several threads. The scan is
    /// given the number of the first row.
    fn in_parts(
        &self,
        scan: impl Fn(usize, &'a [Block]) -> Result<Vec<Candidate<'a>>, StoreError> + Sync,
    ) -> Result<Vec<Candidate<'a>>, StoreError> {
        let blocks = self.vectors.blocks();
        if self.ids.len() * self.vectors.dimension() < PARALLEL_FROM {
            return scan(0, blocks);
        }
        let part_blocks = blocks.len().div_ceil(4 * rayon::current_num_threads());
        let parts = blocks.par_chunks(part_blocks).enumerate();
        let parts: Vec<Vec<Candidate<'a>>> =
            parts.map(|(part, blocks)| scan(part * part_blocks * BLOCK_ROWS, blocks)).collect::<Result<_, _>>()?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Returns all that pass of some blocks, the first of which begins with row `first`.
    fn all(&self, first: usize, blocks: &'a [Block]) -> Result<Vec<Candidate<'a>>, StoreError> {
        let mut found = Vec::new();
        let mut rows = [0_u16; BLOCK_ROWS];
        for (number, block) in blocks.iter().enumerate() {
            let first = first + number * BLOCK_ROWS;
            let n_rows = BLOCK_ROWS.min(self.ids.len() - first);
            let n_selected = self.filter.select(first, n_rows, &mut rows);
            for row in &rows[..n_selected] {
                let at = usize::from(*row);
                if self.filter.passes(first + at)? {
                    let score = (self.dot)(self.query, block.row(at, self.vectors.dimension()));
                    found.push(Candidate { score, id: &self.ids[first + at] });
                }
            }
        }
        Ok(found)
    }

    /// Returns the best of some blocks, the first of which begins with row `first`.
    fn scan(&self, first: usize, blocks: &'a [Block]) -> Result<BinaryHeap<Candidate<'a>>, StoreError> {
        // The top is the worst of the best.
        let mut best: BinaryHeap<Candidate<'a>> = BinaryHeap::new();
        let (mut rows, mut bounds) = ([0_u16; BLOCK_ROWS], [0.0_f32; BLOCK_ROWS]);
        for (number, block) in blocks.iter().enumerate() {
            let first = first + number * BLOCK_ROWS;
            let n_rows = BLOCK_ROWS.min(self.ids.len() - first);
            let n_selected = self.filter.select(first, n_rows, &mut rows);
            let (rows, bounds) = (&rows[..n_selected], &mut bounds[..n_selected]);
            let Some(floor) = self.floor.get() else {
                bounds.fill(f32::INFINITY);
                self.compare(first, block, rows, bounds, &mut best)?;
                continue;
            };
            self.coded.bounds(&block.coded, rows, bounds);
            // Asked for the whole block first: in most blocks no row is near enough.
            let n_out = bounds.iter().filter(|bound| **bound < floor).count();
            if n_out < bounds.len() {
                self.compare(first, block, rows, bounds, &mut best)?;
            }
        }
        Ok(best)
    }

    /// Compares the rows of a block that are not ruled out by their bounds.
    fn compare(
        &self,
        first: usize,
        block: &Block,
        rows: &[u16],
        bounds: &[f32],
        best: &mut BinaryHeap<Candidate<'a>>,
    ) -> Result<(), StoreError> {
        for (row, bound) in rows.iter().zip(bounds) {
            // A bound that is not a number rules nothing out.
            if self.floor.get().is_some_and(|floor| *bound < floor) {
                continue;
            }
            let at = usize::from(*row);
            let score = (self.dot)(self.query, block.row(at, self.vectors.dimension()));
            let candidate = Candidate { score, id: &self.ids[first + at] };
            let enters = best.len() < self.limit || best.peek().is_some_and(|worst| candidate < *worst);
            if enters && self.filter.passes(first + at)? {
                best.push(candidate);
                if best.len() > self.limit {
                    best.pop();
                }
                if best.len() == self.limit
                    && let Some(worst) = best.peek()
                {
                    self.floor.raise(worst.score);
                }
            }
        }
        Ok(())
    }
}

/// A score that `limit` rows have reached already, shared by all threads of a search.
#[derive(Debug)]
struct Floor(AtomicI32);

impl Default for Floor {
    fn default() -> Self {
        Self(AtomicI32::new(Self::NONE))
    }
}

impl Floor {
    /// No score that is a number has this place.
    const NONE: i32 = i32::MIN;

    /// Whole numbers in the order of the scores; it is its own inverse.
    fn place(bits: i32) -> i32 {
        bits ^ ((bits >> 31) as u32 >> 1) as i32
    }

    /// Returns the floor, `None` before there is one.
    fn get(&self) -> Option<f32> {
        // Relaxed: a floor seen late only means more rows to compare.
        match self.0.load(atomic::Ordering::Relaxed) {
            Self::NONE => None,
            place => Some(f32::from_bits(Self::place(place) as u32)),
        }
    }

    fn raise(&self, score: f32) {
        if !score.is_nan() {
            self.0.fetch_max(Self::place(score.to_bits() as i32), atomic::Ordering::Relaxed);
        }
    }
}

/// Less is better: a higher score, then the lesser id.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub(super) score: f32,
    pub(super) id: &'a MemoryId,
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

    #[test]
    fn a_floor_only_rises() {
        let floor = Floor::default();
        assert_eq!(floor.get(), None);
        let mut highest = f32::NEG_INFINITY;
        for score in [f32::NEG_INFINITY, -0.5, -0.75, -0.0, 0.0, f32::NAN, 0.25, -1.0, 0.125, 1.0] {
            floor.raise(score);
            highest = highest.max(score);
            assert_eq!(floor.get(), Some(highest));
        }
    }
}
