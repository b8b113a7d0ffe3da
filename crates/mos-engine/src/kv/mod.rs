//! Keys and values of tokens that were computed already.
//!
//! Per layer, keys are `f16` after the rotation by their position, in panels of sixteen tokens:
//! `[token / 16][kv head][dimension][token % 16]`; values are `[token][kv head][dimension]`. So attention reads both
//! in the order in which it computes. Panels count from the start of the segment or tail, not from the start of the
//! conversation: attention sees to that.
//!
//! Invariants: a [`KvSegment`] never changes and is shared; a session owns only its [`KvTail`]. A [`KvPrefix`] joins
//! segments, or ranges of them, without copying; it knows how many of its tokens are exactly what the model computes
//! for them in this place. Segments are in memory, whatever computed them; a tail that was begun on a device stays
//! there until it is frozen.

mod device;
mod layer;
mod prefix;
mod segment;
mod tail;

pub(crate) use device::{CopyBudget, DeviceSlot, DeviceTail, TensorKv};
pub(crate) use layer::{Largest, LayerKv};
pub use prefix::{KvPart, KvPrefix};
pub use segment::KvSegment;
pub use tail::KvTail;

use mos_core::ModelError;

use crate::compute::PANEL;

/// The sizes that caches and models must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Number of layers.
    pub layers: usize,
    /// Heads that have keys and values of their own.
    pub kv_heads: usize,
    /// Length of a head's key.
    pub head_dim: usize,
}

impl KvShape {
    /// Returns the bytes that `tokens` tokens take.
    pub fn bytes(&self, tokens: usize) -> usize {
        let keys = tokens.next_multiple_of(PANEL);
        2 * self.layers * self.kv_heads * self.head_dim * (keys + tokens)
    }

    /// Length of one token's keys, and of its values, in one layer.
    pub(crate) fn row(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// Names the tokens that a computation began after: equal names mean equal tokens.
///
/// Used by [`KvSegment::context`]; the name of no tokens at all is that of a segment that begins a conversation.
pub fn context_of(tokens: impl IntoIterator<Item = u32>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = Vec::with_capacity(4 * 1024);
    for token in tokens {
        buffer.extend_from_slice(&token.to_le_bytes());
        if buffer.len() == buffer.capacity() {
            hasher.update(&buffer);
            buffer.clear();
        }
    }
    *hasher.update(&buffer).finalize().as_bytes()
}

/// What to say to caches of another model.
pub(crate) fn foreign() -> ModelError {
    ModelError::Invalid(
        "the kept keys and values were computed with another model; compute them again with this one".to_owned(),
    )
}
