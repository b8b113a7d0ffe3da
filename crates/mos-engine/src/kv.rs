//! Keys and values of tokens that were computed already.
//!
//! Per layer, keys are `f16` after the rotation by their position, in panels of sixteen tokens:
//! `[token / 16][kv head][dimension][token % 16]`; values are `[token][kv head][dimension]`. So attention reads both
//! in the order in which it computes. Panels count from the start of the segment or tail, not from the start of the
//! conversation: attention sees to that.
//!
//! Invariant: a [`KvSegment`] never changes and is shared; a session owns only its [`KvTail`].

use std::fmt;
use std::sync::Arc;

use crate::compute::PANEL;
use crate::decoder::Fingerprint;

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

    fn row(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// Keys and values of one layer, as `f16` bits.
#[derive(Clone, Default)]
pub(crate) struct LayerKv {
    pub(crate) keys: Vec<u16>,
    pub(crate) values: Vec<u16>,
}

/// Keys and values of some tokens; immutable and shared.
pub struct KvSegment {
    shape: KvShape,
    fingerprint: Fingerprint,
    tokens: Vec<u32>,
    layers: Vec<LayerKv>,
}

impl KvSegment {
    /// Returns the tokens, in order.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Returns the model that the segment was computed with.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the sizes.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerKv {
        &self.layers[layer]
    }
}

impl fmt::Debug for KvSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvSegment").field("tokens", &self.tokens.len()).field("shape", &self.shape).finish()
    }
}

/// The beginning of a conversation: segments, or beginnings of segments, one after the other.
///
/// The segments must have been computed at the positions at which they stand here.
#[derive(Clone, Debug, Default)]
pub struct KvPrefix {
    parts: Vec<(Arc<KvSegment>, usize)>,
    len: usize,
}

impl KvPrefix {
    /// Returns the number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a whole segment.
    pub fn push(&mut self, segment: Arc<KvSegment>) {
        if !segment.tokens.is_empty() {
            self.len += segment.tokens.len();
            self.parts.push((Arc::clone(&segment), segment.tokens.len()));
        }
    }

    /// Returns the first `len` tokens of this prefix (all, when it is shorter); nothing is copied.
    #[must_use]
    pub fn truncated(&self, len: usize) -> Self {
        let mut result = Self::default();
        for (segment, used) in &self.parts {
            let take = (*used).min(len - result.len);
            if take == 0 {
                break;
            }
            result.parts.push((Arc::clone(segment), take));
            result.len += take;
            if result.len == len {
                break;
            }
        }
        result
    }

    /// Returns the segments with the number of tokens that are used of each, in order.
    pub fn parts(&self) -> impl Iterator<Item = (&Arc<KvSegment>, usize)> {
        self.parts.iter().map(|(segment, used)| (segment, *used))
    }

    /// Returns the tokens, in order.
    pub fn tokens(&self) -> impl Iterator<Item = u32> {
        self.parts.iter().flat_map(|(segment, used)| segment.tokens[..*used].iter().copied())
    }
}

/// The part of a conversation that one session owns and extends.
pub struct KvTail {
    shape: KvShape,
    fingerprint: Fingerprint,
    tokens: Vec<u32>,
    layers: Vec<LayerKv>,
}

impl KvTail {
    pub(crate) fn new(shape: KvShape, fingerprint: Fingerprint) -> Self {
        Self { shape, fingerprint, tokens: Vec::new(), layers: vec![LayerKv::default(); shape.layers] }
    }

    /// Returns the number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Returns whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Returns the tokens, in order.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Returns the bytes in use.
    pub fn bytes(&self) -> usize {
        self.shape.bytes(self.len())
    }

    pub(crate) fn shape(&self) -> KvShape {
        self.shape
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Forgets all tokens after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.truncate_layers();
    }

    /// Forgets what a broken-off computation left behind.
    pub(crate) fn truncate_layers(&mut self) {
        let (keys, values) = self.sizes(self.tokens.len());
        for layer in &mut self.layers {
            layer.keys.truncate(keys);
            layer.values.truncate(values);
        }
    }

    fn sizes(&self, len: usize) -> (usize, usize) {
        (len.next_multiple_of(PANEL) * self.shape.row(), len * self.shape.row())
    }

    /// Returns a copy of the first `len` tokens that shares nothing with this tail.
    #[must_use]
    pub fn fork(&self, len: usize) -> Self {
        let len = len.min(self.len());
        let (keys, values) = self.sizes(len);
        let copy =
            |layer: &LayerKv| LayerKv { keys: layer.keys[..keys].to_vec(), values: layer.values[..values].to_vec() };
        Self {
            shape: self.shape,
            fingerprint: self.fingerprint,
            tokens: self.tokens[..len].to_vec(),
            layers: self.layers.iter().map(copy).collect(),
        }
    }

    /// Makes the tail an immutable segment.
    pub fn freeze(mut self) -> KvSegment {
        for layer in &mut self.layers {
            layer.keys.shrink_to_fit();
            layer.values.shrink_to_fit();
        }
        KvSegment { shape: self.shape, fingerprint: self.fingerprint, tokens: self.tokens, layers: self.layers }
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerKv {
        &self.layers[layer]
    }

    /// Appends keys and values of one layer for the tokens after the current ones; `commit` makes them count.
    pub(crate) fn append(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let (row, head_dim, start) = (self.shape.row(), self.shape.head_dim, self.tokens.len());
        let end = start + keys.len() / row;
        let store = &mut self.layers[layer];
        store.keys.resize(end.next_multiple_of(PANEL) * row, 0);
        for (offset, key) in keys.chunks_exact(row).enumerate() {
            let token = start + offset;
            let panel = &mut store.keys[token / PANEL * PANEL * row..];
            for (head, key) in key.chunks_exact(head_dim).enumerate() {
                let lanes = &mut panel[head * head_dim * PANEL..];
                for (dimension, &value) in key.iter().enumerate() {
                    lanes[dimension * PANEL + token % PANEL] = half::f16::from_f32(value).to_bits();
                }
            }
        }
        store.values.extend(values.iter().map(|&value| half::f16::from_f32(value).to_bits()));
    }

    pub(crate) fn commit(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}

impl fmt::Debug for KvTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvTail").field("tokens", &self.tokens.len()).field("shape", &self.shape).finish()
    }
}
