//! The part of a conversation that is still growing.

use std::fmt;

use mos_core::ModelError;

use super::{KvPrefix, KvSegment, KvShape, LayerKv, context_of};
use crate::compute::PANEL;
use crate::decoder::Fingerprint;

/// The part of a conversation that one session owns and extends.
pub struct KvTail {
    shape: KvShape,
    fingerprint: Fingerprint,
    /// Number of tokens before the first; meaningless while the tail is empty, as `context`.
    start: usize,
    context: Option<[u8; 32]>,
    tokens: Vec<u32>,
    layers: Vec<LayerKv>,
}

impl KvTail {
    pub(crate) fn new(shape: KvShape, fingerprint: Fingerprint) -> Self {
        let layers = vec![LayerKv::default(); shape.layers];
        Self { shape, fingerprint, start: 0, context: None, tokens: Vec::new(), layers }
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

    /// Notes what an empty tail begins after.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] when the tail was begun after another number of tokens.
    pub(crate) fn begin(&mut self, prefix: &KvPrefix) -> Result<(), ModelError> {
        if self.is_empty() {
            self.start = prefix.len();
            self.context = prefix.is_exact().then(|| context_of(prefix.tokens()));
        }
        if self.start != prefix.len() {
            return Err(ModelError::Invalid(format!(
                "this tail was computed after {} tokens and cannot go on after {}; use the prefix it began with, or \
                 a new tail",
                self.start,
                prefix.len()
            )));
        }
        Ok(())
    }

    /// Forgets all tokens after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        let (keys, values) = self.sizes(self.tokens.len());
        for layer in &mut self.layers {
            // Also what a broken-off computation left behind.
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
            start: self.start,
            context: self.context,
            tokens: self.tokens[..len].to_vec(),
            layers: self.layers.iter().map(copy).collect(),
        }
    }

    /// Makes the tail an immutable segment that starts where the tail was begun.
    pub fn freeze(mut self) -> KvSegment {
        for layer in &mut self.layers {
            layer.keys.shrink_to_fit();
            layer.values.shrink_to_fit();
        }
        let Self { shape, fingerprint, start, context, tokens, layers } = self;
        KvSegment { shape, fingerprint, start, context, tokens, layers }
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerKv {
        &self.layers[layer]
    }

    /// Appends keys and values of one layer for the tokens after the current ones; `commit` makes them count.
    pub(crate) fn append(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let (shape, start) = (self.shape, self.tokens.len());
        let row = shape.row();
        let end = start + keys.len() / row;
        let store = &mut self.layers[layer];
        store.keys.resize(end.next_multiple_of(PANEL) * row, 0);
        store.values.resize(end * row, 0);
        store.put(shape, start..end, keys, values);
    }

    pub(crate) fn commit(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }
}

impl fmt::Debug for KvTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvTail")
            .field("start", &self.start)
            .field("tokens", &self.tokens.len())
            .field("shape", &self.shape)
            .finish()
    }
}
