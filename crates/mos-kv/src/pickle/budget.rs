//! What a file may cost, in proportion to its length: a short file can ask for a lot of work in a few bytes.

use super::error::PickleError;

/// What every file may use, however short it is.
const BASE: usize = 1 << 20;

/// Bytes of bookkeeping for each byte of the file. The densest honest content, small numbers in lists, needs twelve.
const MEMORY_PER_BYTE: usize = 16;

/// Bytes of bookkeeping that no file may exceed; tensors are views of the file and do not count.
const MEMORY_LIMIT: usize = 1 << 28;

/// Bytes that may be read, instructions and lookups, for each byte of the file; streams within the file are parts of it.
const STEPS_PER_BYTE: usize = 4;

/// Bytes of tensors for each byte of the file: two items may share one cache.
const TENSORS_PER_BYTE: usize = 2;

/// What is left of what a file may cost.
#[derive(Debug)]
pub(super) struct Budget {
    memory: usize,
    steps: usize,
    tensors: usize,
}

impl Budget {
    /// Returns what a file of `len` bytes may cost.
    pub(super) fn of_file(len: usize) -> Self {
        let times = |factor: usize| len.saturating_mul(factor).saturating_add(BASE);
        Self {
            memory: times(MEMORY_PER_BYTE).min(MEMORY_LIMIT),
            steps: times(STEPS_PER_BYTE),
            tensors: times(TENSORS_PER_BYTE),
        }
    }

    /// Counts bytes that are about to be allocated.
    pub(super) fn memory(&mut self, bytes: usize, offset: usize) -> Result<(), PickleError> {
        spend(&mut self.memory, bytes, "the number of objects", offset)
    }

    /// Counts room for `count` values of type `T`.
    pub(super) fn room<T>(&mut self, count: usize, offset: usize) -> Result<(), PickleError> {
        self.memory(count.saturating_mul(size_of::<T>()), offset)
    }

    /// Counts work.
    pub(super) fn steps(&mut self, steps: usize, offset: usize) -> Result<(), PickleError> {
        spend(&mut self.steps, steps, "the work", offset)
    }

    /// Counts the bytes of a tensor that the caller is going to copy.
    pub(super) fn tensors(&mut self, bytes: usize, offset: usize) -> Result<(), PickleError> {
        spend(&mut self.tensors, bytes, "the size of the tensors", offset)
    }
}

fn spend(left: &mut usize, amount: usize, what: &'static str, offset: usize) -> Result<(), PickleError> {
    match left.checked_sub(amount) {
        Some(rest) => {
            *left = rest;
            Ok(())
        }
        None => Err(PickleError::TooMuch { what, offset }),
    }
}
