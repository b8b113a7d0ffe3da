//! Reads upstream's activation memories, which are Python pickles, without executing anything.
//!
//! A pickle is a program. Here its instructions move inert values about; names of classes and functions are compared
//! with a short list, never looked up, and any other name or instruction ends the reading with an error that says what
//! it was and where. Accepted are protocols 0 to 5, plain pickles with tensors as streams within them (what upstream's
//! `dump` writes), and both formats of `torch.save`.
//!
//! Invariant: time and memory are in proportion to the length of the file, whatever it says. Tensors stay views of the
//! file until one of their `to_` methods copies them.
//!
//! Not here: turning tensors into segments, checking them against a model.

mod budget;
mod cursor;
mod error;
mod globals;
mod items;
mod json;
mod literal;
mod machine;
mod opcode;
mod tensor;
#[cfg(test)]
mod tests;
mod time;
mod torch;
mod value;

pub use error::PickleError;
pub use items::{ImportedItem, ImportedLayer, ImportedRecords};
pub use tensor::{ImportedTensor, TensorType};

use budget::Budget;
use value::Heap;

/// Reads the items of an upstream activation memory from the bytes of its file, in the file's order.
///
/// Give a memory map for large files: tensors are views of `bytes`.
///
/// # Errors
/// [`PickleError`], whatever the bytes are: what is refused, or damaged, and where.
pub fn read_upstream_items(bytes: &[u8]) -> Result<Vec<ImportedItem<'_>>, PickleError> {
    let mut budget = Budget::of_file(bytes.len());
    let mut heap = Heap::default();
    let root = torch::read_object(bytes, &mut heap, &mut budget)?;
    items::read_items(root, &heap, &mut budget)
}

/// Returns whether a file that begins with these bytes may be an upstream activation memory, rather than one of ours,
/// which is JSON.
pub(crate) fn looks_like_pickle(start: &[u8]) -> bool {
    let binary = matches!(start, [0x80, 0..=5, ..]);
    // The oldest protocols have no header; they begin a dictionary or a list.
    let text = matches!(start, [b'(', b'd' | b'l', ..] | [b'}' | b']', b'q' | b'r' | b'(' | b'.', ..]);
    binary || text || start.starts_with(torch::ZIP_MAGIC)
}
