//! The vectors of one scope in memory: the numbers themselves, and beside them the coarse copy that is read first.

use super::codes::{CodedRows, length_above};

/// Rows of a block. Blocks grow without moving what they hold, and are what threads share among them.
pub(super) const BLOCK_ROWS: usize = 256;

/// `f32[n, dimension]` in blocks of [`BLOCK_ROWS`] rows.
#[derive(Debug)]
pub(super) struct Vectors {
    dimension: usize,
    blocks: Vec<Block>,
    n_rows: usize,
    /// No row was ever longer.
    max_length: f32,
}

/// Some rows that follow each other.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// `f32[n, dimension]`.
    numbers: Vec<f32>,
    pub(super) coded: CodedRows,
}

impl Block {
    /// Returns row number `at` of the block.
    pub(super) fn row(&self, at: usize, dimension: usize) -> &[f32] {
        &self.numbers[at * dimension..][..dimension]
    }
}

impl Vectors {
    /// Returns no vectors; `dimension` is not 0.
    pub(super) fn new(dimension: usize) -> Self {
        Self { dimension, blocks: Vec::new(), n_rows: 0, max_length: 0.0 }
    }

    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    /// All full but the last.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(super) fn max_length(&self) -> f32 {
        self.max_length
    }

    /// Returns row number `at`.
    pub(super) fn row(&self, at: usize) -> &[f32] {
        self.blocks[at / BLOCK_ROWS].row(at % BLOCK_ROWS, self.dimension)
    }

    /// Bytes it takes.
    pub(super) fn n_bytes(&self) -> usize {
        let block =
            |block: &Block| size_of::<Block>() + block.numbers.capacity() * size_of::<f32>() + block.coded.n_bytes();
        self.blocks.iter().map(block).sum()
    }

    /// Appends a row.
    pub(super) fn push(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.dimension, "the caller checked the dimension");
        if self.n_rows == self.blocks.len() * BLOCK_ROWS {
            self.blocks.push(Block::default());
        }
        let last = self.blocks.last_mut().expect("a block with room was there or was just made");
        last.numbers.extend_from_slice(row);
        last.coded.push(row);
        self.n_rows += 1;
        self.max_length = self.max_length.max(length_above(row));
    }

    /// Replaces row number `at`.
    pub(super) fn set(&mut self, at: usize, row: &[f32]) {
        assert_eq!(row.len(), self.dimension, "the caller checked the dimension");
        let (block, at) = (&mut self.blocks[at / BLOCK_ROWS], at % BLOCK_ROWS);
        block.numbers[at * self.dimension..][..self.dimension].copy_from_slice(row);
        block.coded.set(at, row);
        self.max_length = self.max_length.max(length_above(row));
    }

    /// Removes row number `at`; the last row takes its place.
    pub(super) fn swap_remove(&mut self, at: usize) {
        let last = self.n_rows - 1;
        if at < last {
            let row = self.blocks[last / BLOCK_ROWS].row(last % BLOCK_ROWS, self.dimension).to_vec();
            self.set(at, &row);
        }
        let block = &mut self.blocks[last / BLOCK_ROWS];
        block.numbers.truncate(last % BLOCK_ROWS * self.dimension);
        block.coded.pop(self.dimension);
        if block.numbers.is_empty() {
            self.blocks.pop();
        }
        self.n_rows = last;
    }
}
