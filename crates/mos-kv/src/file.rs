//! One item as one safetensors file.
//!
//! Tensors, in order: per layer `l{i}.k` and `l{i}.v`, `[kv heads, tokens, head dim]`, f16, the keys rotated by the
//! positions at which they were computed; at the end `tokens`, u32. With fewer bits (`quantize`) a layer is several
//! tensors: `.whole`, `.codes`, `.scales`, `.minima`. The metadata holds the item without its keys and values, the
//! model, and a checksum over the whole file: the header with zeros in the checksum's place, then the data. The header
//! is padded so that the data begin at a multiple of 64 bytes.
//!
//! Invariant: a file is written whole or not at all, and nothing is believed before the checksum fits.

mod layout;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use read::{Head, check_item, header_len, read_head, read_tokens};
pub use read::{decode, read_item};
pub(crate) use write::{Prepared, Stamp, encode, prepare, write_prepared};
pub use write::{WrittenItem, write_item};
